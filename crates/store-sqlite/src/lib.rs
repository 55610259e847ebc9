//! The SQLite driver: consistent snapshots of a live database that it never changes, and proof of a restored
//! one.
//!
//! [`Snapshot::take`] finds out how the database is protected and reads it as of one instant, page by page, so
//! that a page which did not change keeps its bytes. How it is held still:
//!
//! | the database | held by | writers wait | touched |
//! |---|---|---|---|
//! | rollback mode, reflinks | SHARED, then a clone | for a clone | nothing |
//! | rollback mode | SHARED while it is copied, or read | for that time, at most `max_stall` | nothing |
//! | a hot journal | the same; rolled back in the copy | the same | nothing |
//! | WAL mode, in use | a read transaction of SQLite | never | `-shm` |
//! | WAL mode, not in use | SHARED | never | nothing |
//!
//! In rollback mode no SQLite connection is opened on the database, since it would roll back what it finds.
//!
//! [`question`] opens a restored database and asks it everything that can be asked without its application;
//! [`answer`] asks what somebody else wants to know.
//!
//! # What the calling process must not do
//! Hold a SQLite connection of its own to a database of which it takes a snapshot: closing our handles would
//! drop that connection's locks. Several snapshots of one database at once are fine.
//!
//! This crate deliberately knows no repository: whoever stores the pages drives [`Snapshot::next_run`].

mod error;
mod files;
mod lock;
mod pages;
mod proof;
mod report;
mod rollback;
mod scratch;
mod snapshot;
mod wal;

pub use error::SnapshotError;
pub use lifeboat_wire_sqlite::{JournalMode, PageSize};
pub use pages::PageRun;
pub use proof::{
    AnswerError, Doubt, Fault, ProofError, Questions, Schema, TableFacts, TableKind, Verdict, answer,
    question,
};
pub use report::{Isolation, SnapshotReport, SnapshotWarning};
pub use snapshot::{DEFAULT_MAX_STALL, Snapshot, SnapshotOptions, WithoutReflink};
