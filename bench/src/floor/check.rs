//! The floor of a full check: SHA-256 of each pack as it is stored, BLAKE3 of each file's content.

use super::Totals;
use super::packs::{Entry, OwnPacks};
use super::replay::{Visitor, replay};
use crate::error::BenchError;
use aws_lc_rs::digest;
use std::fmt;
use std::path::Path;

/// What a check saw. The two digests stand for all the others, so that no work can be left out unseen.
#[derive(Debug)]
pub(crate) struct Seen {
    totals: Totals,
    /// A digest over the SHA-256 of every pack.
    pub(crate) stored: blake3::Hash,
    /// A digest over the BLAKE3 of every file's content.
    pub(crate) contents: blake3::Hash,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, stored {}, contents {}", self.totals, self.stored, self.contents)
    }
}

/// Reads everything in `packs`.
///
/// # Errors
/// Where a pack is missing or damaged.
pub(crate) fn run(packs: &Path) -> Result<Seen, BenchError> {
    let mut hashes = Hashes::default();
    let totals = replay(&mut OwnPacks::open(packs)?, &mut hashes)?;
    Ok(Seen { totals, stored: hashes.stored.finalize(), contents: hashes.contents.finalize() })
}

#[derive(Default)]
struct Hashes {
    stored: blake3::Hasher,
    contents: blake3::Hasher,
    file: blake3::Hasher,
}

impl Visitor for Hashes {
    fn pack(&mut self, stored: &[u8]) {
        self.stored.update(digest::digest(&digest::SHA256, stored).as_ref());
    }

    fn begin(&mut self, _: &Entry) -> Result<(), BenchError> {
        self.file.reset();
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        self.file.update(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<(), BenchError> {
        self.contents.update(self.file.finalize().as_bytes());
        Ok(())
    }
}
