//! The way back, common to restore and check: packs become blocks, blocks become files.

use super::Totals;
use super::packs::{Entry, OwnPacks};
use crate::error::BenchError;
use std::path::PathBuf;

/// What is done with each pack and each file on the way.
pub(crate) trait Visitor {
    /// A pack as it is stored, before it is opened.
    fn pack(&mut self, _stored: &[u8]) {}

    /// The next file begins.
    fn begin(&mut self, entry: &Entry) -> Result<(), BenchError>;

    /// More of its content.
    fn content(&mut self, bytes: &[u8]) -> Result<(), BenchError>;

    /// It is complete.
    fn end(&mut self) -> Result<(), BenchError>;
}

/// Sends everything in `packs` through `visitor`.
///
/// # Errors
/// Where a pack is damaged, missing or too much, or with what the visitor says.
pub(crate) fn replay(packs: &mut OwnPacks, visitor: &mut dyn Visitor) -> Result<Totals, BenchError> {
    let entries = packs.entries()?;
    let mut files = Files { entries: entries.iter(), left: 0, open: false, visitor };
    files.advance()?;
    let mut pack = Vec::new();
    while packs.next_pack(&mut pack)? {
        files.visitor.pack(&pack);
        packs.open_blocks(&mut pack, &mut |plain| files.feed(plain))?;
    }
    if files.open {
        return Err(mismatch("the blocks end before the files do"));
    }
    let bytes = entries.iter().map(|entry| entry.length).sum();
    Ok(Totals { files: entries.len() as u64, bytes })
}

fn mismatch(what: &'static str) -> BenchError {
    BenchError::Damaged { path: PathBuf::from("packs"), what }
}

/// The files still to come, the first of them perhaps half done.
struct Files<'e, 'v> {
    entries: std::slice::Iter<'e, Entry>,
    left: u64,
    open: bool,
    visitor: &'v mut dyn Visitor,
}

impl Files<'_, '_> {
    fn feed(&mut self, mut plain: &[u8]) -> Result<(), BenchError> {
        while !plain.is_empty() {
            if !self.open {
                return Err(mismatch("the blocks hold more than the files"));
            }
            let now = usize::try_from(self.left).unwrap_or(usize::MAX).min(plain.len());
            let (head, rest) = plain.split_at(now);
            self.visitor.content(head)?;
            self.left -= now as u64;
            plain = rest;
            if self.left == 0 {
                self.visitor.end()?;
                self.advance()?;
            }
        }
        Ok(())
    }

    /// Opens the next file that has content, passing through the empty ones.
    fn advance(&mut self) -> Result<(), BenchError> {
        self.open = false;
        for entry in self.entries.by_ref() {
            self.visitor.begin(entry)?;
            if entry.length > 0 {
                (self.left, self.open) = (entry.length, true);
                return Ok(());
            }
            self.visitor.end()?;
        }
        Ok(())
    }
}
