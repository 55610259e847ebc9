//! Recovery: what is declared is protected, restored and proven.
//!
//! This floor joins the stores with the repository: [`protect`] takes a snapshot of a target, [`restore`] puts
//! one back where it can be, [`prove`] does so in scratch and asks the restored data whether it is whole, and what the
//! plan wants to know ([`queries`]),
//! [`retention`] says which snapshots to keep, [`upkeep`] forgets the others and gives back their space, [`copying`]
//! which a copy with rules of its own is to have, and [`rehearse`] does it all at once and measures. How long all of that
//! took is remembered in [`samples`], and what a restore would take by them.
//!
//! What another tool made is taken in by [`import`]; whether a dataset has changed at all, [`likeness`] says; what
//! `latest` means for each store, [`latest`].
//!
//! A PostgreSQL cluster, whose log leads to any point behind a snapshot, has its own way back: [`postgres`].
//!
//! It deliberately knows no command line, no schedule and no runbook.

pub mod copying;
mod error;
pub mod import;
pub mod latest;
pub mod likeness;
pub mod logs;
pub mod postgres;
pub mod protect;
pub mod prove;
pub mod queries;
pub mod rehearse;
pub mod restore;
pub mod retention;
pub mod samples;
mod target;
pub mod upkeep;

pub use error::{RecoveryError, Result};
pub use lifeboat_base::scratch::Scratch;
pub use target::{Target, is_postgres};

/// How many threads fetch and check content.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
