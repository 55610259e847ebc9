//! What can go wrong between a server and a repository.

use crate::facts::FactError;
use crate::host::SameHost;
use crate::spool::SpoolError;
use lifeboat_base::Hint;
use lifeboat_postgres_wal::{End, Lsn, SystemId, TargetError, TimelineId};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{LogError, RepositoryError};
use lifeboat_wire_postgres::PostgresError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Shorthand for what this crate returns.
pub type Result<T, E = PostgresStoreError> = std::result::Result<T, E>;

/// Protecting or restoring a cluster that failed.
#[derive(Debug, thiserror::Error)]
pub enum PostgresStoreError {
    /// The server, or the way to it, failed.
    #[error(transparent)]
    Server(#[from] PostgresError),
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The log in the repository failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The server is on this host, and so would be what it acknowledges.
    #[error("the spool would be on the server's own host: {why}")]
    SpoolBesideServer {
        /// What shows that.
        why: SameHost,
    },
    /// A snapshot does not say what it must.
    #[error(transparent)]
    Facts(#[from] FactError),
    /// A server that this driver does not serve.
    #[error("this server has {what}, which is not served")]
    NotServed {
        /// What of it.
        what: String,
    },
    /// The stream of a base backup cannot be understood.
    #[error("the base backup has {what}")]
    Stream {
        /// What it has.
        what: String,
        /// Why, where reading said so.
        #[source]
        source: Option<io::Error>,
    },
    /// A standby was promoted while it was backed up.
    #[error("the server was promoted from timeline {from} to {to} while it was backed up")]
    PromotedMeanwhile {
        /// The timeline at the start.
        from: TimelineId,
        /// The timeline at the end.
        to: TimelineId,
    },
    /// The server is behind what the repository holds of its timeline.
    #[error(
        "timeline {timeline} of system {system} ends at {server} on the server, and at {kept} in the repository"
    )]
    Behind {
        /// The cluster.
        system: SystemId,
        /// The timeline.
        timeline: TimelineId,
        /// Where the server is.
        server: Lsn,
        /// Where the repository is.
        kept: Lsn,
    },
    /// The server's WAL differs from what the repository holds of the same positions.
    #[error(
        "timeline {timeline} of system {system} differs from what the repository holds of it, from {at} on"
    )]
    Diverged {
        /// The cluster.
        system: SystemId,
        /// The timeline.
        timeline: TimelineId,
        /// The first position that differs.
        at: Lsn,
    },
    /// The server's timeline does not descend from the one that was followed.
    #[error("the server is on timeline {server}, which does not come from timeline {kept} that was followed")]
    NoDescendant {
        /// The server's.
        server: TimelineId,
        /// The newest one in the repository.
        kept: TimelineId,
    },
    /// What the log holds is no WAL.
    #[error("the log holds {kind}, and no write-ahead log of PostgreSQL")]
    NotWal {
        /// What it says of itself.
        kind: String,
    },
    /// The operating system refused something.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was being done, in the present tense.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A target cannot be had.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// There is nothing to restore from.
    #[error("there is no snapshot of {dataset}")]
    NoSnapshot {
        /// The dataset.
        dataset: DatasetName,
    },
    /// A timeline cannot be reached from a snapshot.
    #[error(
        "timeline {timeline} cannot be reached from snapshot {snapshot}: log is missing on the way, or it is of another branch"
    )]
    Unreachable {
        /// The snapshot.
        snapshot: String,
        /// The timeline.
        timeline: TimelineId,
    },
    /// The log is there and cannot be read.
    #[error("the log cannot be read up to the target: {end}")]
    LogDamaged {
        /// Where, and why.
        end: End,
        /// What is not reached therefore.
        #[source]
        target: Box<TargetError>,
    },
    /// Nothing can be made durable.
    #[error("the {what} has taken nothing for {} s", since.as_secs())]
    RepositoryAway {
        /// The repository, or the spool.
        what: &'static str,
        /// For how long.
        since: Duration,
    },
    /// The WAL that a backup needs did not arrive.
    #[error("the write-ahead log reached {reached} and the backup needs it up to {needed}")]
    WalMissing {
        /// Up to where it is durable.
        reached: Lsn,
        /// Up to where it is needed.
        needed: Lsn,
    },
}

impl PostgresStoreError {
    /// Whether trying again may help without anybody doing anything here.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Server(error) => error.is_transient(),
            Self::Spool(error) => error.is_passing(),
            Self::Repository(_) | Self::Log(_) | Self::RepositoryAway { .. } => true,
            _ => false,
        }
    }

    /// Whether it was called wrongly.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Spool(error) => error.is_usage(),
            Self::SpoolBesideServer { .. } => true,
            _ => false,
        }
    }
}

impl Hint for PostgresStoreError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Server(error) => return error.hint(),
            Self::Repository(error) => return error.hint(),
            Self::Log(error) => return error.hint(),
            Self::Facts(error) => return error.hint(),
            Self::Spool(error) => return error.hint(),
            Self::SpoolBesideServer { .. } => {
                "What is kept beside the server is lost with it, so that it must not count as kept. Run this on another host, or acknowledge by the repository (--ack repository)."
            }
            Self::NotServed { .. } => {
                "Use PostgreSQL 15 or newer, built with the usual 8 KiB blocks of WAL; `pg_controldata` shows what a cluster has."
            }
            Self::Stream { .. } => "Look into the server's log, then run the backup again.",
            Self::PromotedMeanwhile { .. } => "Run the backup again: it then is one of the new timeline.",
            Self::Behind { .. } | Self::Diverged { .. } => {
                "The server was set back without a new timeline, or this is a clone of it: nothing was appended. Find out which of the two histories is meant; to protect the other one, promote it to a timeline of its own or name it as another dataset."
            }
            Self::NoDescendant { .. } => {
                "Another branch of the cluster was promoted: protect it as another dataset, or take a snapshot of it with `lifeboat backup`, from which its own timeline is followed."
            }
            Self::Target(error) => return error.hint(),
            Self::NoSnapshot { .. } => "Take one with `lifeboat backup`.",
            Self::Unreachable { .. } => {
                "`lifeboat points` shows what can be restored to, timeline by timeline; choose one with --timeline."
            }
            Self::LogDamaged { .. } => {
                "Run `lifeboat check`; what lies before that position can be restored to with `--to lsn:…`."
            }
            Self::NotWal { .. } => {
                "Another release wrote it, or another program: run `lifeboat check`, and restore with the release that wrote it."
            }
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull => "Free space there, or choose another place.",
                io::ErrorKind::PermissionDenied => "Check the permissions, or run as a user that has them.",
                _ => return None,
            },
            Self::RepositoryAway { .. } => {
                "Look at where it lies; what is missing is sent again once it is back."
            }
            Self::WalMissing { .. } => {
                "Look into the server's log for its WAL sender, and whether `lifeboat follow` runs for this dataset; then run the backup again."
            }
        };
        Some(hint.to_owned())
    }
}
