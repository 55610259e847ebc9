//! What is told about a snapshot once it was read.

use lifeboat_wire_sqlite::JournalMode;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How the database was held still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// There was nothing to hold: the file has no byte.
    Empty,
    /// A clone that shares its blocks was made under SHARED.
    Reflink,
    /// A copy was made under SHARED.
    Copy,
    /// SHARED was held while the pages were read.
    Lock,
    /// A read transaction was held through SQLite while the pages were read.
    ReadTransaction,
    /// The database is in WAL mode and nobody used it; SHARED was held so that nobody could hide having done so.
    Unattended,
}

/// Something about the database that is no error, and that its operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotWarning {
    /// The file does not end at the end of a page; the last one was filled up with zeros.
    PartialPage {
        /// How many bytes of it there are.
        bytes: u64,
    },
    /// The header states more pages than the file has.
    MissingPages {
        /// As stated.
        stated: u32,
        /// As found.
        found: u32,
    },
    /// While it was read, the database was removed or another file got its name. The snapshot is of the file as
    /// it was opened.
    Replaced,
    /// A journal was passed over because the transaction over several databases that it belongs to is committed.
    CommittedJournal {
        /// The super-journal that it names and that is gone.
        super_journal: PathBuf,
    },
}

impl fmt::Display for SnapshotWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartialPage { bytes } => {
                write!(
                    f,
                    "the file ends {bytes} bytes into a page; the rest of the page was filled with zeros"
                )
            }
            Self::MissingPages { stated, found } => {
                write!(f, "the header states {stated} pages, the file has {found}")
            }
            Self::Replaced => {
                write!(
                    f,
                    "the file was removed or replaced while it was read; the snapshot is of the old one"
                )
            }
            Self::CommittedJournal { super_journal } => write!(
                f,
                "a journal was passed over: its transaction was committed when {} was deleted",
                super_journal.display()
            ),
        }
    }
}

/// What a snapshot was and what taking it cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotReport {
    /// How the database protects its transactions.
    pub mode: JournalMode,
    /// How it was held still.
    pub isolation: Isolation,
    /// For how long SHARED was asked for.
    pub waited: Duration,
    /// For how long writers could not commit because of the snapshot.
    pub stall: Duration,
    /// How many frames of the WAL the snapshot includes that may not be in the database file yet.
    pub wal_frames: u32,
    /// The change counter of the snapshot.
    pub change_counter: u32,
    /// Whether a hot journal was found, copied and rolled back in scratch.
    pub rolled_back: bool,
    /// What else was noticed.
    pub warnings: Vec<SnapshotWarning>,
}
