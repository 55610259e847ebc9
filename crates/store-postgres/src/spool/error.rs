//! What can go wrong with a spool.

use super::record::SpoolOwner;
use lifeboat_base::Hint;
use lifeboat_base::crashsafe::CrashsafeError;
use std::io;
use std::path::PathBuf;

/// A spool that does not take or give something.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file could not be made durable.
    #[error(transparent)]
    Crashsafe(#[from] CrashsafeError),
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
    /// Another process uses it.
    #[error("another process uses the spool {}", directory.display())]
    InUse {
        /// The spool.
        directory: PathBuf,
    },
    /// It holds the log of another dataset, or for another repository.
    #[error("{} is of dataset {} in repository {}", path.display(), found.dataset, found.repository)]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: Box<SpoolOwner>,
    },
    /// What was durable once is not there any more, or is something else.
    #[error("{} is damaged at byte {at}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// It has no room until something was published.
    #[error("the spool {} is full: {why}", directory.display())]
    Full {
        /// The spool.
        directory: PathBuf,
        /// Which bound was reached.
        why: String,
    },
    /// It lies where nothing survives the end of the machine.
    #[error("{} lies in memory: a spool must survive the end of its machine", directory.display())]
    InMemory {
        /// The spool.
        directory: PathBuf,
    },
    /// A bound that leaves no room to work.
    #[error("a spool of {limit} bytes is too small")]
    TooSmall {
        /// The bound.
        limit: u64,
    },
}

impl SpoolError {
    /// Whether trying again may help without anybody doing anything here.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Crashsafe(_) | Self::Io { .. } | Self::Full { .. })
    }

    /// Whether it was called wrongly.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Foreign { .. } | Self::InMemory { .. } | Self::TooSmall { .. })
    }

    fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Crashsafe(error) => Some(error.kind()),
            Self::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

impl Hint for SpoolError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Crashsafe(_) | Self::Io { .. } => match self.kind()? {
                io::ErrorKind::StorageFull => {
                    "Free space there; until then the server keeps what is not spooled."
                }
                io::ErrorKind::PermissionDenied => "Check the permissions, or run as a user that has them.",
                _ => return None,
            },
            Self::InUse { .. } => {
                "If `lifeboat follow` runs with this spool, it publishes what is in it by itself."
            }
            Self::Foreign { .. } => {
                "A spool belongs to one dataset of one repository: name another folder, or publish this one first with `lifeboat wal drain`."
            }
            Self::Damaged { .. } => {
                "What lies before that place is published by `lifeboat wal drain`; nothing was thrown away. Look at the disk, then move the folder aside to begin with a new spool."
            }
            Self::Full { .. } => {
                "Look at where the repository lies: the spool empties as soon as it takes the log again. --spool-limit allows for more."
            }
            Self::InMemory { .. } => "Name a folder on a disk with --spool.",
            Self::TooSmall { .. } => "Give --spool-limit at least 128MiB.",
        };
        Some(hint.to_owned())
    }
}
