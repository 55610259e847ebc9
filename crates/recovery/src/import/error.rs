//! What can be wrong with a backup that another tool made.

use crate::error::RecoveryError;
use lifeboat_base::Hint;
use lifeboat_repository::ids::DatasetName;
use std::io;
use std::path::PathBuf;

/// A backup that is not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Nothing that pg_dump makes, and no folder of backups.
    #[error("{} is nothing that pg_dump made, and no folder backup_YYYYMMDD_HHMMSS", .0.display())]
    NotABackup(PathBuf),
    /// What it is packed in is damaged.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What unpacking it said.
        #[source]
        source: io::Error,
    },
    /// PostgreSQL's own tool cannot read it to its end.
    #[error("{} is damaged: pg_restore says: {said}", path.display())]
    Unreadable {
        /// The archive.
        path: PathBuf,
        /// Its first words.
        said: String,
    },
    /// A plain dump that does not end as pg_dump ends one.
    #[error("{} is not whole: it does not end with {expected:?}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The line that is missing.
        expected: &'static str,
    },
    /// The head of an archive makes no sense.
    #[error("{} begins as an archive of pg_dump and says nothing that can be read", .0.display())]
    Head(PathBuf),
    /// It changed while it was read.
    #[error("{} changed while it was imported", .0.display())]
    Changed(PathBuf),
    /// Files of it could not be read.
    #[error("{} has {count} files that could not be read", path.display())]
    Incomplete {
        /// The folder.
        path: PathBuf,
        /// How many.
        count: u64,
    },
    /// A folder with nothing in it.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    /// A local time that came twice, or never, since clocks were changed.
    #[error("{text} in the time zone {zone} is no certain instant: clocks were changed")]
    AmbiguousTime {
        /// The time.
        text: String,
        /// The zone.
        zone: String,
    },
    /// A time that has not come yet.
    #[error("it would be of {taken}, which lies in the future")]
    Future {
        /// The time.
        taken: String,
    },
    /// Two things of a folder would become one dataset.
    #[error("{} and another one would both be dataset {dataset}", path.display())]
    SameName {
        /// The dataset.
        dataset: DatasetName,
        /// One of them.
        path: PathBuf,
    },
}

impl ImportError {
    /// Whether the fault lies in how we were called.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NotABackup(_) | Self::AmbiguousTime { .. } | Self::Future { .. } | Self::SameName { .. }
        )
    }

    /// An error of unpacking, where it is one of the content and not of the disk.
    pub(super) fn unpacking(path: PathBuf) -> impl FnOnce(io::Error) -> RecoveryError {
        move |source| Self::Damaged { path, source }.into()
    }
}

impl Hint for ImportError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotABackup(_) => {
                "Name what pg_dump wrote (-Fc, -Fd, -Ft or SQL, also packed by gzip or zstd). Folders and databases are protected with `lifeboat backup`."
            }
            Self::Damaged { .. } | Self::Unreadable { .. } | Self::Truncated { .. } | Self::Head(_) => {
                "It cannot be restored as it is: look for another copy of it, or dump again. `pg_dump | gzip` without `set -o pipefail` hides that a dump failed."
            }
            Self::Changed(_) => "Wait until whoever writes it is done, then import it again.",
            Self::Incomplete { .. } => "Check the permissions, then import it again.",
            Self::Empty(_) => "Check the path.",
            Self::AmbiguousTime { .. } | Self::Future { .. } => {
                "Say of when it is, with an offset: --taken 2026-11-22T04:00:00+01:00; or set TZ to the time zone where it was made."
            }
            Self::SameName { .. } => "Import them one at a time, each with its own --name.",
        };
        Some(hint.to_owned())
    }
}
