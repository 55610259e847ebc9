//! What can go wrong on this floor: mostly what the floors below say, with what was being done.

use crate::import::ImportError;
use lifeboat_base::Hint;
use lifeboat_base::crashsafe::CrashsafeError;
use lifeboat_postgres_server::{ControlDataError, ServerError};
use lifeboat_postgres_wal::{Lsn, TimelineId};
use lifeboat_repository::ids::{DatasetName, InvalidDatasetName};
use lifeboat_repository::{LogError, RepositoryError};
use lifeboat_store::PathError;
use lifeboat_store::exclude::PatternError;
use lifeboat_store::materialise::MaterialiseError;
use lifeboat_store_files::FilesError;
use lifeboat_store_postgres::PostgresStoreError;
use lifeboat_store_postgres::synchronous::SynchronousError;
use lifeboat_store_sqlite::{ProofError, SnapshotError};
use lifeboat_wire_postgres::PostgresError;
use std::io;
use std::path::PathBuf;

/// Shorthand for what this crate returns.
pub type Result<T, E = RecoveryError> = std::result::Result<T, E>;

/// Protecting, restoring or proving that failed.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A tree of files could not be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A database could not be read.
    #[error(transparent)]
    Sqlite(#[from] SnapshotError),
    /// A cluster could not be protected, or is not to be had.
    #[error(transparent)]
    Cluster(#[from] PostgresStoreError),
    /// Commits cannot be made to wait for us.
    #[error(transparent)]
    Synchronous(#[from] SynchronousError),
    /// A server could not be asked.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// A server of our own could not be started.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// What a restored directory is cannot be told.
    #[error(transparent)]
    Control(Box<ControlDataError>),
    /// The plan has queries for what answers none.
    #[error("a dataset of store {store} answers no queries, and its plan has some")]
    NobodyAnswers {
        /// The store.
        store: String,
    },
    /// The plan asks another database where there is one.
    #[error("query {query:?} names a database, and the dataset is one")]
    NoOtherDatabase {
        /// What the query is called.
        query: String,
    },
    /// A tablespace has no place to go to.
    #[error("there is no tablespace {named} in the snapshot")]
    NoTablespace {
        /// How it was named.
        named: String,
    },
    /// A server that replays the log writes to where a tablespace was.
    #[error("the log makes tablespace {oid} at {location}, and a server that replays it writes there")]
    LaterTablespace {
        /// Its object identifier.
        oid: u32,
        /// Where.
        location: String,
    },
    /// A server that is told nothing does not go from one timeline to another.
    #[error("the point lies on timeline {point}, and the snapshot before it on timeline {snapshot}")]
    LaterTimeline {
        /// Of the snapshot.
        snapshot: TimelineId,
        /// Of the point.
        point: TimelineId,
    },
    /// A name that a tar archive cannot hold.
    #[error("{0} cannot be a member of a tar archive as PostgreSQL reads it")]
    UnfitForTar(String),
    /// There is no log to export.
    #[error("there is no write-ahead log of {dataset}{}", timeline.map(|t| format!(", timeline {t}")).unwrap_or_default())]
    NoLog {
        /// The dataset.
        dataset: DatasetName,
        /// The timeline, where one was asked for.
        timeline: Option<TimelineId>,
    },
    /// A range without anything in it.
    #[error("no log lies between {from} and {until}")]
    NothingBetween {
        /// Its first position.
        from: Lsn,
        /// Where it ends.
        until: Lsn,
    },
    /// A backup of another tool is not imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A restored database could not be asked.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// A tree could not be restored.
    #[error(transparent)]
    Materialise(#[from] MaterialiseError),
    /// One path failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A pattern cannot be read.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A name cannot be that of a dataset.
    #[error(transparent)]
    Name(#[from] InvalidDatasetName),
    /// A file of ours could not be written.
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
    /// The target of a backup is neither a folder nor a database.
    #[error("{} is neither a folder nor a SQLite database", .0.display())]
    UnknownTarget(PathBuf),
    /// The place to restore into holds something.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The place to restore into is no folder.
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// There is not enough room to restore.
    #[error("{} has {available} bytes free, and the restore needs {needed}", path.display())]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Bytes that are free for us.
        available: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// Nothing in the snapshot matches what was asked for.
    #[error("nothing in snapshot {0} matches")]
    NothingMatches(String),
    /// The demonstration's own database failed.
    #[error("{0}")]
    Demonstration(&'static str, #[source] rusqlite::Error),
    /// The demonstration's writer failed.
    #[error("the writer of the demonstration {0}")]
    Writer(String),
}

impl From<LogError> for RecoveryError {
    fn from(error: LogError) -> Self {
        Self::Cluster(error.into())
    }
}

impl RecoveryError {
    /// An error of the operating system about a path.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }

    /// Whether the fault lies in how we were called.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Pattern(_) | Self::Name(_) | Self::UnknownTarget(_) | Self::NoTablespace { .. } => true,
            Self::NothingBetween { .. } | Self::NobodyAnswers { .. } | Self::NoOtherDatabase { .. } => true,
            Self::Cluster(error) => error.is_usage(),
            Self::Import(error) => error.is_usage(),
            _ => false,
        }
    }
}

/// What to do about what the operating system refused.
fn of_the_system(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::NotFound => {
            Some("Check the path; if it is a mount point's, check that it is mounted.")
        }
        io::ErrorKind::PermissionDenied => Some("Check the permissions, or run as a user that has them."),
        io::ErrorKind::ReadOnlyFilesystem => {
            Some("Choose a place that can be written to, or remount this one.")
        }
        io::ErrorKind::StorageFull => Some("Free space there, then run the command again."),
        _ => None,
    }
}

impl Hint for RecoveryError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Repository(error) => return error.hint(),
            Self::Files(error) => return error.hint(),
            Self::Sqlite(error) => return error.hint(),
            Self::Proof(error) => return error.hint(),
            Self::Cluster(error) => return error.hint(),
            Self::Synchronous(error) => return error.hint(),
            Self::Postgres(error) => return error.hint(),
            Self::Server(error) => return error.hint(),
            Self::Control(error) => return error.hint(),
            Self::NobodyAnswers { .. } => "Take `queries` out of the dataset's `prove` in the plan.",
            Self::NoOtherDatabase { .. } => {
                "Take `database` out of the query: it is for PostgreSQL clusters."
            }
            Self::LaterTablespace { oid, location } => {
                return Some(format!(
                    "Restore to a point before that, or one behind a snapshot taken since. Or let it be there, where nobody else uses {location}: make that folder, give it to the server's user, and say --tablespace {oid}={location}."
                ));
            }
            Self::NoTablespace { .. } => {
                "Name it by its number or by the place where it lay, as `lifeboat points --json` shows both."
            }
            Self::LaterTimeline { .. } => {
                "`lifeboat restore` goes through timelines, with settings that say so; or export a snapshot of that timeline, or with --format wal the log itself."
            }
            Self::Import(error) => return error.hint(),
            Self::UnfitForTar(_) => "Export it with --format directory.",
            Self::NoLog { .. } => "`lifeboat points` shows what is kept of which timeline.",
            Self::NothingBetween { .. } => {
                "Give --from a position before the one of --until; `lifeboat points` shows what is kept."
            }
            Self::Materialise(error) => return error.hint(),
            Self::Path(error) => return error.hint(),
            Self::Pattern(error) => return error.hint(),
            Self::Io { source, .. } | Self::Crashsafe(CrashsafeError { source, .. }) => {
                return of_the_system(source.kind()).map(str::to_owned);
            }
            Self::UnknownTarget(_) => {
                "Name a folder or a database; anything else can be piped: `… | lifeboat backup --stdin --name NAME`."
            }
            Self::NotEmpty(_) => {
                "Choose an empty place, or give --force to restore into it all the same; existing files are then kept and reported."
            }
            Self::NotAFolder(_) => "Choose a folder that is empty or does not exist yet.",
            Self::NoSpace { .. } => {
                "Free space there, choose another place with --into, or restore a part with --include."
            }
            Self::NothingMatches(_) => "`lifeboat ls DATASET` shows what a snapshot holds.",
            Self::Name(_) | Self::Demonstration(..) | Self::Writer(_) => return None,
        };
        Some(hint.to_owned())
    }
}
