//! Where a run is mirrored: slots that are created once. Slot 0 is the document, slot *n* the line of record *n*.
//!
//! Who takes a run over occupies the next slot; whoever had it finds that slot taken and stops. A run can be continued
//! from its slots alone. This module deliberately does not know what keeps them: a repository implements [`Mirror`].

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod folder;
mod memory;
pub(crate) mod ship;

pub use folder::FolderMirror;
pub use memory::MemoryMirror;

use crate::ids::RunId;
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
}
