//! What can go wrong while measuring, and what to do about it.

use lifeboat_base::Hint;
use std::io;
use std::path::{Path, PathBuf};

/// Why a measurement did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The arguments make no sense.
    #[error("{0}")]
    Usage(String),
    /// A file or a folder refused.
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
    /// A program could not be started.
    #[error("start {program}")]
    Start {
        /// The program.
        program: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A program ended with something else than success.
    #[error("{command} failed ({status}): {said}")]
    Failed {
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// A floor's file is not what the floor wrote.
    #[error("{}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Two trees that must be equal are not.
    #[error("{} and {} differ: {what}", left.display(), right.display())]
    Differ {
        /// One tree.
        left: PathBuf,
        /// The other.
        right: PathBuf,
        /// The first difference.
        what: String,
    },
    /// A file could not be made durable.
    #[error("keep the results")]
    Keep(#[from] lifeboat_base::crashsafe::CrashsafeError),
    /// Lifeboat's repository could not be read for a floor.
    #[error("read the repository")]
    Repository(#[from] lifeboat_repository::RepositoryError),
    /// A server of ours did not do what it must.
    #[error(transparent)]
    Server(#[from] lifeboat_postgres_server::ServerError),
    /// A session with a server failed.
    #[error(transparent)]
    Postgres(#[from] lifeboat_wire_postgres::PostgresError),
    /// The log of a server could not be followed.
    #[error(transparent)]
    Store(#[from] lifeboat_store_postgres::PostgresStoreError),
    /// A snapshot could not be taken, or not be restored.
    #[error(transparent)]
    Recovery(#[from] lifeboat_recovery::RecoveryError),
    /// A round of `disaster` could not be played.
    #[error("{0}")]
    Disaster(String),
    /// A measurement of `postgres` did not come about.
    #[error("{0}")]
    Postgresql(String),
    /// The results could not be put into words.
    #[error("write the results as JSON")]
    Json(#[from] serde_json::Error),
}

impl BenchError {
    /// An I/O error with its place.
    pub(crate) fn io(operation: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { operation, path: path.as_ref().to_owned(), source }
    }

    /// Whether the arguments were at fault.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_))
    }
}

impl Hint for BenchError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Usage(_) => Some("Run `lifeboat-bench --help` for what there is.".to_owned()),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => Some(
                "Point LIFEBOAT_BENCH_DIR to a disk with 20 GB free, and run again: the tree is reused."
                    .to_owned(),
            ),
            Self::Start { program, .. } => {
                Some(format!("Install {program}, or leave it out with `--without`."))
            }
            Self::Differ { .. } => {
                Some("A time for a wrong restore means nothing; find out which tool made it.".to_owned())
            }
            Self::Repository(error) => error.hint(),
            Self::Server(error) => error.hint(),
            Self::Postgres(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Recovery(error) => error.hint(),
            _ => None,
        }
    }
}
