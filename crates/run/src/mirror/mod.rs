//! Where a run is mirrored: slots that are created once. Slot 0 is the document, slot *n* the line of record *n*.
//!
//! Who takes a run over occupies the next slot; whoever had it finds that slot taken and stops. A run can be continued
//! from its slots alone. Beside them lie the requests of people elsewhere, created once as well; which of them were
//! heard, the records say. This module deliberately does not know what keeps them: a repository implements [`Mirror`].

mod asking;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod folder;
mod memory;
pub(crate) mod reading;
pub(crate) mod ship;

pub use asking::LeftRequest;
pub use folder::FolderMirror;
pub use memory::MemoryMirror;
pub use reading::{ExecutedBy, Mirrored};

use crate::ids::{RequestId, RunId};
use lifeboat_base::Hint;
use std::error::Error;

/// A place of one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The run.
    pub run: RunId,
    /// The record's number; 0 for the document.
    pub number: u64,
}

/// What came of creating a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// The bytes are there, whole and durable.
    Created,
    /// These were there already: perhaps the same, from an attempt whose answer was lost.
    Taken(Vec<u8>),
}

/// A request is at most so long.
pub const MAX_REQUEST_BYTES: usize = 64 << 10;

/// What was left for a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// These bytes.
    Bytes {
        /// What was given to [`Mirror::leave`].
        bytes: Vec<u8>,
        /// Who put it there, as far as the mirror can vouch for that: a key's name.
        from: Option<String>,
    },
    /// What is no request, and never will be; and why.
    Nonsense(String),
}

/// A mirror that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation}")]
pub struct MirrorError {
    /// What was being done, in the present tense.
    pub operation: &'static str,
    /// Why it failed.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
    /// What to check or run next.
    pub hint: Option<String>,
}

impl MirrorError {
    /// A failure whose cause says nothing of what to do.
    pub fn new(operation: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { operation, source: source.into(), hint: None }
    }
}

impl Hint for MirrorError {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// A mirror.
pub trait Mirror: Send + Sync {
    /// Where it is, as the journal names it; no secrets.
    fn place(&self) -> String;

    /// Creates a slot, or says what is there. Never overwrites; it may be called again with the same bytes.
    ///
    /// # Errors
    /// Where it cannot be told whether the slot was created.
    fn create(&self, slot: &Slot, bytes: &[u8]) -> Result<Created, MirrorError>;

    /// What a slot holds, if anything.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn read(&self, slot: &Slot) -> Result<Option<Vec<u8>>, MirrorError>;

    /// The runs that it holds.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn runs(&self) -> Result<Vec<RunId>, MirrorError>;

    /// Leaves a request of at most [`MAX_REQUEST_BYTES`] for whoever executes a run. Never overwrites; tried again with
    /// the same bytes it stays one.
    ///
    /// # Errors
    /// Where something else has its name, or it cannot be told whether it is there.
    fn leave(&self, run: &RunId, id: &RequestId, bytes: &[u8]) -> Result<(), MirrorError>;

    /// What was left for a run, in the order of the identities: at most so many.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn requests(&self, run: &RunId, most: usize) -> Result<Vec<RequestId>, MirrorError>;

    /// One request, if it is there. Whatever lies there, little more than [`MAX_REQUEST_BYTES`] is read of it.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn request(&self, run: &RunId, id: &RequestId) -> Result<Option<Left>, MirrorError>;
}

/// Refuses what is too long to be left.
pub(crate) fn check_length(bytes: &[u8]) -> Result<(), MirrorError> {
    if bytes.len() <= MAX_REQUEST_BYTES {
        return Ok(());
    }
    let what = format!("it has {} bytes, and may have {MAX_REQUEST_BYTES}", bytes.len());
    Err(MirrorError::new("leave a request", what))
}

/// Refuses to leave something where something else is.
pub(crate) fn check_same(there: &[u8], bytes: &[u8]) -> Result<(), MirrorError> {
    let other = || MirrorError::new("leave a request", "something else has its name");
    if there == bytes { Ok(()) } else { Err(other()) }
}
