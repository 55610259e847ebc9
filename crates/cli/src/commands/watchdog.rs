//! The watchdog of synchronous mode: the same program, in a process of its own that `follow --synchronous` starts.

use crate::failure::{Failure, Outcome};
use lifeboat_recovery::RecoveryError;
use lifeboat_store_postgres::synchronous::run_watchdog;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub(crate) fn run() -> Result<Outcome, Failure> {
    // Whoever ends the follower often ends all the processes around it. This one ends with its pipe, and not before
    // nobody waits for us any more.
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::<AtomicBool>::default())
            .map_err(|error| Failure::failed(format!("watch for signals: {error}")))?;
    }
    run_watchdog(std::io::stdin(), std::io::stdout(), &|name| std::env::var(name).ok())
        .map_err(RecoveryError::from)?;
    Ok(Outcome::Done)
}
