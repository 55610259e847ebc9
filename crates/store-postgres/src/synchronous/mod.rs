//! RPO zero, on request: Lifeboat as a synchronous standby, and what keeps commits from hanging when it stalls.
//!
//! ```text
//!   follower ──beats──► watchdog (a process of its own) ──SQL──► server
//!                           └──► intervals of exposure, on disk
//! ```
//! [`check_synchronous`] refuses what could not be undone later. [`Watchdog`] and [`keep_watchdog`] are the follower's
//! side, [`run_watchdog`] is the process. Only the watchdog changes `synchronous_standby_names`, and there only our
//! name; it judges by what the server shows, so that a follower that hangs, lies or is dead does not hang commits.
//!
//! The watchdog dies with the machine that it is on. Where that machine is lost with the follower, commits hang until
//! somebody takes the name out; a watchdog with nobody to follow ([`WatchdogConfig::alone`]) on the primary's own
//! machine does.
//!
//! This module deliberately does not know repositories, nor how WAL becomes durable.

mod check;
mod exposure;
mod keeper;
mod machine;
mod names;
mod server;
mod waits;
mod watchdog;

pub use check::{SynchronousStanding, check_synchronous};
pub use exposure::{ExposureInterval, RecordError, exposure_intervals};
pub use keeper::{Watchdog, WatchdogKeeper, keep_watchdog};
pub use machine::ExposureReason;
pub use names::{EditError, NamesError, SynchronousNames};
pub use watchdog::{Beat, WatchdogConfig, WatchdogEvent, leave_now, run_watchdog};

use lifeboat_base::Hint;
use lifeboat_wire_postgres::PostgresError;
use std::io;
use std::time::Duration;

type Result<T, E = SynchronousError> = std::result::Result<T, E>;

/// Synchronous mode that cannot be had, or cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum SynchronousError {
    /// The server, or the way to it, failed.
    #[error(transparent)]
    Server(#[from] PostgresError),
    /// What commits wait for cannot be read.
    #[error(transparent)]
    Names(#[from] NamesError),
    /// Our name cannot be put in or taken out.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A record could not be written or read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The role may not do what a watchdog has to.
    #[error("role {role} may not {missing}, without which commits could hang for ever")]
    Privileges {
        /// The role.
        role: String,
        /// What it may not, for people.
        missing: String,
        /// The statements that let it.
        grants: Vec<String>,
    },
    /// A standby waits for nobody.
    #[error("the server is a standby, whose commits wait for nobody")]
    Standby,
    /// The setting is not the file's to change.
    #[error("synchronous_standby_names cannot be changed by ALTER SYSTEM: {why}")]
    NotChangeable {
        /// Why not.
        why: &'static str,
    },
    /// A name that no list can have or no server would report.
    #[error("{name:?} is no name for a synchronous standby")]
    Name {
        /// The name.
        name: String,
    },
    /// Commits that ask for more than a standby that replays nothing can say.
    #[error("synchronous_commit is remote_apply, and nothing is replayed here")]
    RemoteApply,
    /// The server did not go by a new list.
    #[error("synchronous_standby_names was set to {wanted:?} and is {now:?}")]
    NotTaken {
        /// What was set.
        wanted: String,
        /// What it is.
        now: String,
    },
    /// The watchdog's process could not be started, or is gone.
    #[error("{operation} the watchdog")]
    Process {
        /// What was being done, in the present tense.
        operation: &'static str,
        /// Why it did not work.
        #[source]
        source: io::Error,
    },
    /// The server has been away for so long that nobody waits for it any more.
    #[error("the server did not answer for {} days, and {name} may still be in its synchronous_standby_names", tried_for.as_secs() / 86_400)]
    GivenUp {
        /// Our name.
        name: String,
        /// For how long it was tried.
        tried_for: Duration,
    },
    /// A test wanted it.
    #[error(transparent)]
    Failpoint(io::Error),
}

impl Hint for SynchronousError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Server(error) => return error.hint(),
            Self::Edit(error) => return error.hint(),
            Self::Record(error) => return error.hint(),
            Self::Names(_) => "Look at it with `SHOW synchronous_standby_names`.",
            Self::Privileges { grants, .. } => {
                return Some(format!("As a superuser run: {}", grants.join(" ")));
            }
            Self::Standby => "Follow the primary, or follow this server without --synchronous.",
            Self::NotChangeable { .. } => {
                "Start the server without it on its command line, and with allow_alter_system = on."
            }
            Self::Name { .. } => {
                "Choose another application_name: 1 to 63 printable ASCII characters, and not \"*\"."
            }
            Self::RemoteApply => {
                "Set synchronous_commit to on: the promise is that nothing is lost, not that it is visible elsewhere."
            }
            Self::NotTaken { .. } => {
                "Look into the server's log whether it reads its settings, and whether others change them at the same time."
            }
            Self::Process { .. } => {
                "Look whether the machine has processes and memory left, then begin again."
            }
            Self::GivenUp { name, .. } => {
                return Some(format!(
                    "Before anybody writes to that server again, take {name} out: ALTER SYSTEM SET synchronous_standby_names, then SELECT pg_reload_conf(). Or follow it again with --synchronous."
                ));
            }
            Self::Failpoint(_) => return None,
        };
        Some(hint.to_owned())
    }
}
