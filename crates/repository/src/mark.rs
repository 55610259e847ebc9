//! Marking: what the snapshots that still count need, chunk by chunk and page by page.

use crate::error::{RepositoryError, Result};
use crate::ids::{ChunkId, Position};
use crate::index::{ChunkRole, Index, Located, Standing};
use crate::pack::BlockKind;
use crate::reader::Reader;
use crate::repository::Repository;
use crate::snapshots::{Filled, Published};
use crate::walk::Reference;
use std::collections::{BTreeSet, HashMap, HashSet};

/// What is needed, by position in the index.
#[derive(Debug)]
pub(crate) struct Live {
    /// For each entry of the index whether this copy is the one to keep.
    keep: Vec<bool>,
    /// The slots that are needed, for each page block.
    pages: HashMap<ChunkId, BTreeSet<u16>>,
    /// Bytes of content and metadata as they lie in blocks, before compression.
    pub(crate) raw_bytes: u64,
}

impl Live {
    /// Whether the copy at this place in the index is the one to keep.
    pub(crate) fn keeps(&self, entry: usize) -> bool {
        self.keep[entry]
    }

    /// The slots of a page block that are needed.
    pub(crate) fn slots(&self, block: &ChunkId) -> Option<&BTreeSet<u16>> {
        self.pages.get(block)
    }
}

impl Repository {
    /// The snapshots whose content must stay: all that are not forgotten, those that are held, and those
    /// that leases name as base or pin.
    ///
    /// `pinned` is asked after the snapshots and tombstones are read, and the holds after it: whoever pins
    /// looks for a tombstone after he has pinned, so that one of the two sees the other.
    pub(crate) fn needed_snapshots(
        &self,
        pinned: impl FnOnce() -> Result<BTreeSet<Position>>,
    ) -> Result<Vec<Published>> {
        let mut unreadable = Vec::new();
        let mut needed = self.snapshots(None, &mut unreadable)?;
        if let Some(unreadable) = unreadable.pop() {
            return Err(unreadable.error);
        }
        let listed: HashSet<Position> = needed.iter().map(|p| p.slot.clone()).collect();
        let pinned = pinned()?;
        let held: BTreeSet<Position> = self.holds()?.into_iter().map(|hold| hold.position).collect();
        for position in held.union(&pinned).filter(|position| !listed.contains(position)) {
            if let Some(Filled::Snapshot(opened)) = self.slot(position)? {
                needed.push(Published::new(position.clone(), *opened));
            }
        }
        Ok(needed)
    }
}

/// Marks everything that `snapshots` need, choosing for each chunk the copy to keep: one in a present pack
/// rather than in a condemned one, a whole page block rather than one that lost slots.
///
/// # Errors
/// Where something that is needed is in no pack: then nothing may be deleted.
pub(crate) fn mark(reader: &Reader, snapshots: &[Published]) -> Result<Live> {
    let index = reader.index();
    let mut marking = Marking {
        live: Live { keep: vec![false; index.entries.len()], pages: HashMap::new(), raw_bytes: 0 },
        index: &index,
    };
    let mut seen = HashSet::new();
    let mut missing = None;
    for published in snapshots {
        reader.references(&published.snapshot, &mut seen, &mut |reference| {
            if let Err(error) = marking.reference(&reference) {
                missing.get_or_insert(error);
            }
        })?;
        if let Some(error) = missing {
            return Err(error);
        }
    }
    Ok(marking.live)
}

struct Marking<'i> {
    live: Live,
    index: &'i Index,
}

impl Marking<'_> {
    fn reference(&mut self, reference: &Reference) -> Result<()> {
        match reference {
            Reference::Node(id) | Reference::Chunk(id) => self.chunk(id, ChunkRole::Bytes),
            Reference::Leaf(id) => self.chunk(id, ChunkRole::Leaf),
            Reference::Page { block, slot, .. } => {
                let slots = self.live.pages.entry(*block).or_default();
                if !slots.insert(*slot) || slots.len() > 1 {
                    return Ok(());
                }
                self.page_block(block)
            }
        }
    }

    fn chunk(&mut self, id: &ChunkId, role: ChunkRole) -> Result<()> {
        let kept = |copy: &Located, live: &Live, index: &Index| live.keep[place(index, copy)];
        if self.index.serving(id, role).any(|copy| kept(copy, &self.live, self.index)) {
            return Ok(());
        }
        let mut copies: Vec<Located> = self.index.serving(id, role).copied().collect();
        copies.sort_by_key(|copy| {
            (self.is_condemned(copy), self.index.block_of(copy).kind == BlockKind::Delta)
        });
        let copy = *copies.first().ok_or(RepositoryError::MissingChunk(*id))?;
        self.keep(&copy);
        match self.index.base_of(&copy) {
            Some(base) => self.chunk(&base, ChunkRole::Leaf),
            None => Ok(()),
        }
    }

    /// A whole copy suffices; where there is none, every copy is kept, since no one of them may have all
    /// the slots that are needed.
    fn page_block(&mut self, block: &ChunkId) -> Result<()> {
        let mut copies: Vec<Located> = self.index.serving(block, ChunkRole::Pages).copied().collect();
        copies.sort_by_key(|copy| {
            (self.index.block_of(copy).kind == BlockKind::SparsePages, self.is_condemned(copy))
        });
        let first = *copies.first().ok_or(RepositoryError::MissingChunk(*block))?;
        if self.index.block_of(&first).kind == BlockKind::Pages {
            self.keep(&first);
        } else {
            copies.iter().for_each(|copy| self.keep(copy));
        }
        Ok(())
    }

    fn keep(&mut self, copy: &Located) {
        self.live.keep[place(self.index, copy)] = true;
        self.live.raw_bytes += u64::from(copy.length);
    }

    fn is_condemned(&self, copy: &Located) -> bool {
        self.index.pack_of(copy).standing == Standing::Condemned
    }
}

/// Where a copy stands among the entries of the index.
fn place(index: &Index, copy: &Located) -> usize {
    let start = index.entries.partition_point(|entry| entry.id < copy.id);
    let within = index.entries[start..].iter().position(|entry| entry == copy);
    start + within.expect("the copy was taken from this index")
}
