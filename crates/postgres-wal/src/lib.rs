//! PostgreSQL's write-ahead log as bytes.
//!
//! Owns the words in which a place in the log is said ([`Lsn`], [`TimelineId`], [`SystemId`], the names of
//! segments) and the history of timelines. It deliberately knows no connection, no server and no repository:
//! bytes come in, positions and meanings go out.

mod history;
mod position;

pub use history::{HistoryError, Switch, TimelineHistory};
pub use position::{Lsn, ParsePositionError, SegmentName, SegmentSize, SystemId, TimelineId};
