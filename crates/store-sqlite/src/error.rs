//! Why a snapshot could not be taken, and what to do about it.

use lifeboat_base::Hint;
use lifeboat_wire_sqlite::{HeaderError, WalError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a snapshot of a live database could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The operating system refused something.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was being done, in the present tense.
        operation: &'static str,
        /// The path that it was done to.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// SQLite refused something.
    #[error("{operation} {}", path.display())]
    Sqlite {
        /// What was being done, in the present tense.
        operation: &'static str,
        /// The database that it was done to.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The path leads to a directory, a device or the like.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is not a database, or its header is damaged.
    #[error("{} is not a SQLite database", path.display())]
    NotADatabase {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: HeaderError,
    },
    /// Somebody kept the database locked.
    #[error("{} stayed locked by a writer for {waited:?}", path.display())]
    Busy {
        /// The database.
        path: PathBuf,
        /// For how long SHARED was asked for.
        waited: Duration,
    },
    /// The file system has no locks of the kind that are needed.
    #[error("lock {}", path.display())]
    Lock {
        /// The database.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Reading under the lock took longer than writers may be stalled.
    #[error("reading {} would stall its writers for more than {limit:?}", path.display())]
    Stalled {
        /// The database.
        path: PathBuf,
        /// The longest stall that was allowed.
        limit: Duration,
    },
    /// There are a hot journal and a WAL with content, which SQLite never leaves together.
    #[error("{} has both a hot rollback journal and a WAL", path.display())]
    TwoJournals {
        /// The database.
        path: PathBuf,
    },
    /// Whether a journal is hot depends on a file in a directory that cannot be seen from here.
    #[error(
        "the journal of {} belongs to a transaction over several databases, and {} cannot be looked for",
        path.display(), super_journal.display()
    )]
    SuperJournalOutOfSight {
        /// The database.
        path: PathBuf,
        /// The super-journal that the journal names.
        super_journal: PathBuf,
    },
    /// SQLite did not roll back the copy of a hot journal.
    #[error("the hot journal of {} could not be rolled back in scratch", path.display())]
    RollBack {
        /// The database.
        path: PathBuf,
    },
    /// The log cannot be read.
    #[error("read the WAL of {}", path.display())]
    Wal {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: WalError,
    },
    /// The log does not hold what the wal-index says.
    #[error("the WAL of {} does not hold what its index says: {what}", path.display())]
    WalDamaged {
        /// The database.
        path: PathBuf,
        /// Where they differ.
        what: &'static str,
    },
    /// In WAL mode, the shared memory beside the database has to be written by every reader.
    #[error("{} cannot be opened for writing", path.display())]
    SharedMemory {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The state of the database did not hold still for long enough to be pinned down, or the application came
    /// to it while it was read without a connection.
    #[error("{} changed hands while it was read: {what}", path.display())]
    Disturbed {
        /// The database.
        path: PathBuf,
        /// What was noticed.
        what: &'static str,
    },
    /// The file became shorter while its lock was held: something that is not SQLite cut it.
    #[error("{} became shorter while it was read, at page {page}", path.display())]
    Shrunk {
        /// The database.
        path: PathBuf,
        /// The first page that was missing.
        page: u32,
    },
}

impl SnapshotError {
    /// Whether the same call may well succeed if it is made again at once.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Disturbed { .. })
    }

    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    pub(crate) fn sqlite(operation: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Sqlite { operation, path, source }
    }

    pub(crate) fn lock(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Lock { path, source }
    }
}

impl Hint for SnapshotError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { source, path, .. } => io_hint(source, path)?,
            Self::Sqlite { .. } | Self::RollBack { .. } => return None,
            Self::NotAFile { .. } => "Name the database file itself.".to_owned(),
            Self::NotADatabase { source: HeaderError::Magic, .. } => {
                "Check the path; an encrypted database has to be protected as a plain file while its application is stopped."
                    .to_owned()
            }
            Self::NotADatabase { .. } => {
                "Check the path, and run `PRAGMA integrity_check` on the database.".to_owned()
            }
            Self::Busy { .. } => "Raise `--max-stall`, or find the transaction that keeps the database locked (`locking_mode=EXCLUSIVE` does so for as long as the application runs)."
                .to_owned(),
            Self::Lock { .. } => "Protect the database on the machine that has its file system; locks over a network are often missing or broken."
                .to_owned(),
            Self::Stalled { .. } => "Raise `--max-stall`, put the scratch directory on a file system with reflinks beside the database, or let the application use WAL mode, where reading stalls nobody."
                .to_owned(),
            Self::TwoJournals { path } => format!(
                "One of {0}-journal and {0}-wal belongs to another database; stop the application and look which.",
                path.display()
            ),
            Self::SuperJournalOutOfSight { super_journal, .. } => format!(
                "Run where the application runs, so that {} is seen if it exists, or let the application open the database once.",
                super_journal.display()
            ),
            Self::Wal { .. } | Self::WalDamaged { .. } => {
                "Run `PRAGMA integrity_check` on the database, and look for failing storage.".to_owned()
            }
            Self::SharedMemory { path, .. } => format!(
                "Run as the owner of the database, let Lifeboat's group write {}, or stop the application.",
                path.display()
            ),
            Self::Disturbed { .. } => "Try again.".to_owned(),
            Self::Shrunk { .. } => {
                "Find out what cuts the file: SQLite does not while it is read.".to_owned()
            }
        })
    }
}

fn io_hint(source: &io::Error, path: &Path) -> Option<String> {
    match source.kind() {
        io::ErrorKind::NotFound => Some("Check the path.".to_owned()),
        io::ErrorKind::PermissionDenied => {
            Some(format!("Let the user that Lifeboat runs as read {}.", path.display()))
        }
        io::ErrorKind::StorageFull => Some(
            "Free some space, or name a scratch directory with room for a copy of the database.".to_owned(),
        ),
        _ => None,
    }
}
