//! Logs: what a store did after a snapshot, kept in one container whatever the store is.
//!
//! A log object holds the positions from a start to an end (not included) of one lineage of a dataset. It is
//! created once and never changed. Its name says dataset, lineage, start, end and writer, and ends with a
//! nonce of its own, so that no attempt meets the name of another and nothing that was acknowledged is ever
//! in the way of something else (docs/format.md, Logs).
//!
//! ```text
//! "LBG" format | lengths of the parts | head (signed, sealed) | table (sealed) | payload (sealed)
//! ```
//! The **head** says everything but the payload, which it binds by its hash: what exists is known from a
//! listing and the first bytes of each object. Times are in the head and not in the name, since what nobody
//! signed must not look like a recovery point. The **table** is only in a **compacted** log, which a
//! maintainer signs: it names the objects whose content is in this one, and when which position had arrived.
//!
//! Two objects that cover a position must agree on it. Where they do not, the lineage has **forked**: both
//! are kept, both are named, and none is chosen unless the caller says whose branch it wants. Which leader an
//! object was written under decides nothing, since the store's own acknowledgements may rest on it.
//!
//! In a copy lie the origin's objects: heads, tables and payloads verbatim, with the copier's signature beside
//! its writer's.
//!
//! Failpoints: `log::before-put`, `log::after-put`, `log::compacted-before-list`, `log::before-carry`.
//!
//! This module deliberately knows no store: the kind of a payload is text to it.

mod carry;
mod catalogue;
mod compact;
pub(crate) mod object;
mod payload;
pub(crate) mod ranges;
mod reader;
pub(crate) mod retire;
mod writer;

pub use crate::bodies::LogMark;
pub(crate) use carry::carry;
pub(crate) use catalogue::reason;
pub use catalogue::{LineageLog, LogCatalogue, LogExtent, LogFork, LogSpan, stretches};
pub use compact::{CompactOptions, CompactReport, compact_logs};
pub use object::fuzz_log;
pub use payload::LogPayload;
pub use reader::{LogPiece, LogReader};
pub use retire::LogCutOff;
pub use writer::{LogStanding, LogWriter};

use crate::error::RepositoryError;
use crate::ids::DatasetName;
use lifeboat_base::Hint;
use lifeboat_objects::ObjectError;
use std::fmt;

/// The largest payload of one log object, in bytes.
pub const MAX_LOG_BYTES: usize = 32 << 20;

/// Under this name a driver remembers with a snapshot which position of its lineage's log the snapshot needs
/// first, in decimal digits: what expires stays behind it.
pub const LOG_POSITION_FACT: &str = "log-position";

/// Under this name, how far it needs the log for itself: the first position behind, in decimal digits. What comes
/// later leads from the snapshot to points after it. Of a snapshot that does not say it, everything stays.
pub const LOG_END_FACT: &str = "log-end";

/// The name of a lineage: 1 to 100 of `a-z 0-9 . _ -`, starting with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage(String);

impl Lineage {
    /// Checks a name.
    ///
    /// # Errors
    /// [`LogError::InvalidName`] where it is not of the form that [`Lineage`] describes.
    pub fn new(text: &str) -> Result<Self, LogError> {
        // The rule is that of datasets: both are components of object names.
        match DatasetName::new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(LogError::InvalidName { what: "lineage", text: text.to_owned() }),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An operation on a log that failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A text that cannot name what it should.
    #[error("{text:?} cannot name a {what} of a log")]
    InvalidName {
        /// What it should name.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// A payload that does not fill the positions that it is for.
    #[error("a payload of {positions} positions cannot fill {start} to {end}")]
    WrongExtent {
        /// Where it should start.
        start: u64,
        /// Where it should end.
        end: u64,
        /// How many positions it has.
        positions: u64,
    },
    /// More than one object can hold.
    #[error("{bytes} bytes of log are too many for one object")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// What was to be appended does not continue the log.
    #[error("the log continues at {expected}, and {start} was to be appended")]
    NotNext {
        /// Where it continues.
        expected: u64,
        /// Where the new stretch starts.
        start: u64,
    },
    /// Positions that no object holds.
    #[error("the log of {dataset}, lineage {lineage}, has a hole from {from} to {to}")]
    Hole {
        /// The dataset.
        dataset: DatasetName,
        /// The lineage.
        lineage: Lineage,
        /// The first position that is missing.
        from: u64,
        /// The first position after it that is there, or was asked for.
        to: u64,
    },
    /// Two objects say different things of the same positions.
    #[error(
        "the log of {dataset}, lineage {lineage}, has forked: {one} and {other} differ from position {position} on"
    )]
    Forked {
        /// The dataset.
        dataset: DatasetName,
        /// The lineage.
        lineage: Lineage,
        /// The first position at which they were found to differ.
        position: u64,
        /// One object.
        one: String,
        /// The other.
        other: String,
    },
    /// An object continues something else than what stands before it.
    #[error("{object} continues another log than the one that stands before position {position}")]
    Unlinked {
        /// The object.
        object: String,
        /// Where it starts.
        position: u64,
    },
}

impl From<ObjectError> for LogError {
    fn from(error: ObjectError) -> Self {
        Self::Repository(error.into())
    }
}

impl Hint for LogError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Repository(error) => return error.hint(),
            Self::Hole { from, .. } => {
                return Some(format!(
                    "Restore to a position before {from}, or from a snapshot that was taken after the hole; `lifeboat points` lists both."
                ));
            }
            Self::Forked { .. } | Self::Unlinked { .. } => {
                "Two writers kept different histories of this lineage, and both are still there: find out which of them the store itself continued, and restore with that writer's branch."
            }
            Self::NotNext { .. } => {
                "Another position was expected: ask the log where it ends and continue there."
            }
            Self::TooLarge { .. } => "Append it in smaller stretches.",
            Self::InvalidName { .. } | Self::WrongExtent { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
