//! PostgreSQL's write-ahead log as bytes.
//!
//! Owns the words in which a place in the log is said ([`Lsn`], [`TimelineId`], [`SystemId`], the names of
//! segments), the history of timelines, the reader of pages and records ([`WalReader`]), what the few records
//! mean that a restore or a measurement needs ([`Meaning`]), and what a recovery target is in a given log
//! ([`Resolver`]). The logs of PostgreSQL 15 to 18 on little-endian machines are read.
//!
//! It deliberately knows no connection, no server and no repository: bytes come in, positions and meanings go
//! out. What the records do to pages it does not know either: that is PostgreSQL's to replay.
//!
//! ```
//! # use lifeboat_postgres_wal::{Layout, Lsn, SegmentSize, Summary, TimelineHistory, TimelineId, WalReader};
//! # let pieces: Vec<Vec<u8>> = Vec::new();
//! let layout = Layout::new(TimelineHistory::first(TimelineId(1)), SegmentSize::DEFAULT);
//! let mut reader = WalReader::new("0/1000000".parse()?, layout);
//! let mut summary = Summary::default();
//! for piece in pieces {
//!     let fed = reader.feed(&piece, |record| {
//!         let _ = summary.count(record);
//!     });
//!     if fed.is_err() {
//!         break;
//!     }
//! }
//! let end = reader.finish();
//! assert_eq!(end.at, Lsn(0x100_0000), "nothing was fed");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod end;
mod fields;
#[cfg(test)]
mod forge;
mod fuzzing;
mod history;
mod meaning;
mod page;
mod position;
mod reader;
mod record;
mod summary;
mod target;
mod time;
mod transaction;

pub use end::{End, EndReason};
#[doc(hidden)]
pub use fuzzing::fuzz_wal;
pub use history::{HistoryError, Switch, TimelineHistory};
pub use meaning::{Checkpoint, EndOfRecovery, Meaning, MeaningError, Message, Parameters, WalLevel};
pub use page::{PageHeader, PageSize, SegmentHeader, Version};
pub use position::{Lsn, ParsePositionError, SegmentName, SegmentSize, SystemId, TimelineId};
pub use reader::{Diverged, KEPT_BYTES_MAX, KEPT_HEAD_BYTES, Layout, Step, WalReader};
pub use record::{Body, MAX_RECORD_BYTES, RECORD_HEADER_BYTES, Record, RecordHeader, manager};
pub use summary::{Summary, TransactionRef};
pub use target::{Edge, Replay, Resolution, Resolver, Target, TargetError};
pub use time::PgTime;
pub use transaction::{Origin, Prepared, TransactionEnd};
