//! Marking: what the snapshots that still count need, chunk by chunk and page by page.

use crate::error::{RepositoryError, Result};
use crate::ids::{ChunkId, Position};
use crate::index::{ChunkRole, Depths, Index, Located, Standing};
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
    pages: HashMap<ChunkId, NeededPages>,
    /// Bytes of content and metadata as they lie in blocks, before compression.
    pub(crate) raw_bytes: u64,
}

/// What is needed of a page block.
#[derive(Clone, Debug, Default)]
pub(crate) struct NeededPages {
    pub(crate) slots: BTreeSet<u16>,
    pub(crate) page_bytes: u32,
}

impl Live {
    /// Whether the copy at this place in the index is the one to keep.
    pub(crate) fn keeps(&self, entry: usize) -> bool {
        self.keep[entry]
    }

    /// The slots of a page block that are needed.
    pub(crate) fn slots(&self, block: &ChunkId) -> Option<&NeededPages> {
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
        // Also what came too late from a leader that had been replaced: that judgement rests on objects that
        // may be lost or damaged, and deleting on it could not be undone.
        let mut needed = self.all_snapshots(None, &mut unreadable)?;
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

/// Marks everything that `snapshots` need, choosing for each chunk the copy to keep: of a leaf the one that
/// stands on the fewest differences, a whole page block rather than one that lost slots, and of equals one in
/// a present pack rather than in a condemned one.
///
/// # Errors
/// Where something that is needed is in no pack: then nothing may be deleted.
pub(crate) fn mark(reader: &Reader, snapshots: &[Published]) -> Result<Live> {
    let index = reader.index();
    let mut marking = Marking {
        live: Live { keep: vec![false; index.entries.len()], pages: HashMap::new(), raw_bytes: 0 },
        depths: Depths::default(),
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
    depths: Depths,
    index: &'i Index,
}

impl Marking<'_> {
    fn reference(&mut self, reference: &Reference) -> Result<()> {
        match reference {
            Reference::Node(id) | Reference::Chunk(id) => self.chunk(id, ChunkRole::Bytes),
            Reference::Leaf(id) => self.chunk(id, ChunkRole::Leaf),
            Reference::Page { block, slot, page_bytes } => {
                let needed = self.live.pages.entry(*block).or_default();
                needed.page_bytes = *page_bytes;
                if !needed.slots.insert(*slot) || needed.slots.len() > 1 {
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
        let copies: Vec<Located> = self.index.serving(id, role).copied().collect();
        // Depth comes before standing: keeping a difference because the whole leaf beside it is condemned
        // would let the chains that stand on that leaf grow beyond what a reader follows.
        let best = copies
            .iter()
            .filter_map(|copy| Some((self.depths.of_copy(self.index, copy)?, self.is_condemned(copy), copy)))
            .min_by_key(|(depth, condemned, _)| (*depth, *condemned));
        let Some((_, _, copy)) = best else {
            return Err(match copies.is_empty() {
                true => RepositoryError::MissingChunk(*id),
                false => RepositoryError::damaged(format!("node {id}"), "it stands on too many differences"),
            });
        };
        self.keep(copy);
        let copy = *copy;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BulkName;
    use crate::index::{IndexedPack, MAX_DELTA_DEPTH};
    use crate::pack::{BlockRecord, ChunkRecord, HEADER_BYTES};

    fn id(n: u8) -> ChunkId {
        ChunkId([n; 32])
    }

    /// A pack of one leaf, whole or as a difference.
    fn pack(name: u8, leaf: u8, base: Option<u8>) -> IndexedPack {
        let chunk = ChunkRecord { id: id(leaf), length: 10, base: base.map(id) };
        let kind = if base.is_some() { BlockKind::Delta } else { BlockKind::Node };
        let offset = HEADER_BYTES as u32;
        let block = BlockRecord {
            kind,
            compressed: false,
            offset,
            stored_bytes: 26,
            raw_bytes: 10,
            chunks: vec![chunk],
        };
        IndexedPack { name: BulkName([name; 32]), size_bytes: 1000, blocks: vec![block] }
    }

    fn index(packs: Vec<IndexedPack>, condemned: &[u8]) -> Index {
        let mut index = Index::default();
        index.add(packs, &mut |name| {
            Some(if condemned.contains(&name.0[0]) { Standing::Condemned } else { Standing::Present })
        });
        index.sort();
        index
    }

    /// The packs of which something is kept for a leaf.
    fn kept(index: &Index, leaf: u8) -> Result<Vec<u8>> {
        let live = Live { keep: vec![false; index.entries.len()], pages: HashMap::new(), raw_bytes: 0 };
        let mut marking = Marking { live, depths: Depths::default(), index };
        marking.chunk(&id(leaf), ChunkRole::Leaf)?;
        let keeps = |n: &usize| marking.live.keep[*n];
        let mut packs: Vec<u8> = (0..index.entries.len())
            .filter(keeps)
            .map(|n| index.pack_of(&index.entries[n]).name.0[0])
            .collect();
        packs.sort_unstable();
        Ok(packs)
    }

    #[test]
    fn a_present_difference_does_not_replace_a_condemned_whole_leaf() {
        // Leaf 8 was stored twice: whole, and as the eighth difference of a chain; leaf 9 stands on it.
        let mut packs: Vec<IndexedPack> = (1..=8).map(|n| pack(n, n, Some(n - 1))).collect();
        packs.extend([pack(100, 0, None), pack(50, 8, None), pack(9, 9, Some(8))]);
        assert_eq!(kept(&index(packs.clone(), &[50]), 9).unwrap(), [9, 50]);
        packs.retain(|pack| pack.name.0[0] != 50);
        let error = kept(&index(packs, &[]), 9).unwrap_err();
        assert!(error.to_string().contains("too many differences"), "{error}");
    }

    #[test]
    fn chains_of_the_allowed_depth_are_kept_whole() {
        let depth = MAX_DELTA_DEPTH as u8;
        let mut packs: Vec<IndexedPack> = (1..=depth).map(|n| pack(n, n, Some(n - 1))).collect();
        packs.push(pack(100, 0, None));
        assert_eq!(kept(&index(packs, &[3]), depth).unwrap().len(), usize::from(depth) + 1);
    }

    #[test]
    fn differences_that_stand_on_each_other_in_a_circle_end_marking() {
        let packs = vec![pack(1, 1, Some(2)), pack(2, 2, Some(1)), pack(3, 3, Some(3))];
        for leaf in [1, 3] {
            assert!(kept(&index(packs.clone(), &[]), leaf).is_err());
        }
        // A whole copy breaks the circle.
        let whole = [packs, vec![pack(4, 2, None)]].concat();
        assert_eq!(kept(&index(whole, &[4]), 1).unwrap(), [1, 4]);
    }
}
