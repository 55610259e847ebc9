//! Page maps: how a database file lies in the repository (docs/format.md, Page maps).
//!
//! A database file is cut into pages. Pages that are new lie together in *page blocks*; a *leaf* of 1,024
//! slots names each page by block, slot and keyed hash; *inner* nodes name leaves. A leaf that differs little
//! from one that is stored already is stored as a difference to it. A leaf's identity is that of its full
//! form, however it is stored.
//!
//! This module knows the bytes of these things. It knows neither where they are stored nor how a database
//! is read.

use crate::ids::{ChunkId, PageHash};
use std::collections::HashMap;

/// How many pages a leaf names, and how many nodes an inner node.
pub(crate) const SLOTS_PER_NODE: usize = 1024;
/// How many bytes of pages lie together in one page block.
pub(crate) const PAGE_BLOCK_BYTES: usize = 1 << 20;
/// The smallest and the largest page.
pub(crate) const PAGE_BYTES: std::ops::RangeInclusive<u32> = 512..=65536;

const BLOCK_MAGIC: &[u8; 4] = b"LBPB";
const LEAF_MAGIC: &[u8; 4] = b"LBPN";
const DELTA_MAGIC: &[u8; 4] = b"LBPD";
const INNER_MAGIC: &[u8; 4] = b"LBPI";
/// Stands for the block of a page that is all zeros.
const ZERO_BLOCK: u16 = u16::MAX;

/// Why a page block or a node of a map could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a page map is malformed: {0}")]
pub(crate) struct PageMapError(&'static str);

type Result<T> = std::result::Result<T, PageMapError>;

/// Where one page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PageSlot {
    /// All zeros, stored nowhere.
    Zero,
    /// In a slot of a page block.
    Stored { block: ChunkId, slot: u16, hash: PageHash },
}

/// A leaf: up to 1,024 consecutive pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) slots: Vec<PageSlot>,
}

impl Leaf {
    /// The full form, which gives the leaf its identity: block table in order of first use, then the slots.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut table = BlockTable::default();
        let mut slots = Vec::with_capacity(self.slots.len() * 20);
        for slot in &self.slots {
            table.put(slot, &mut slots);
        }
        [LEAF_MAGIC.as_slice(), &count(self.slots.len()), &table.encode(), &slots].concat()
    }

    /// Reads the full form.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Bytes(bytes);
        reader.magic(LEAF_MAGIC)?;
        let slots = reader.count()?;
        let table = reader.block_table()?;
        let slots = (0..slots).map(|_| reader.slot(&table)).collect::<Result<_>>()?;
        reader.end()?;
        Ok(Self { slots })
    }

    /// The leaf as a difference to `base`, which has the identity `base_id` and stands on `base_depth`
    /// differences itself. `None` where the full form is not much larger, or lengths differ.
    pub(crate) fn encode_delta(&self, base: &Self, base_id: &ChunkId, base_depth: u8) -> Option<Vec<u8>> {
        if base.slots.len() != self.slots.len() || u32::from(base_depth) >= crate::index::MAX_DELTA_DEPTH {
            return None;
        }
        let changed: Vec<usize> =
            (0..self.slots.len()).filter(|n| self.slots[*n] != base.slots[*n]).collect();
        if changed.len() * 2 > self.slots.len() {
            return None;
        }
        let mut table = BlockTable::default();
        let mut slots = Vec::with_capacity(changed.len() * 22);
        for n in &changed {
            slots.extend_from_slice(&count(*n));
            table.put(&self.slots[*n], &mut slots);
        }
        let depth = base_depth + 1;
        Some(
            [DELTA_MAGIC.as_slice(), &base_id.0, &[depth], &count(changed.len()), &table.encode(), &slots]
                .concat(),
        )
    }
}

/// A leaf stored as a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeafDelta {
    pub(crate) base: ChunkId,
    pub(crate) depth: u8,
    changes: Vec<(usize, PageSlot)>,
}

impl LeafDelta {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Bytes(bytes);
        reader.magic(DELTA_MAGIC)?;
        let base = ChunkId(reader.take()?);
        let [depth] = reader.take()?;
        let changes = reader.count()?;
        let table = reader.block_table()?;
        let changes =
            (0..changes).map(|_| Ok((reader.count()?, reader.slot(&table)?))).collect::<Result<_>>()?;
        reader.end()?;
        Ok(Self { base, depth, changes })
    }

    /// The leaf, given its base.
    pub(crate) fn apply(&self, mut base: Leaf) -> Result<Leaf> {
        for (n, slot) in &self.changes {
            *base.slots.get_mut(*n).ok_or(PageMapError("a difference reaches beyond its base"))? = *slot;
        }
        Ok(base)
    }
}

/// Encodes an inner node.
pub(crate) fn encode_inner(children: &[ChunkId]) -> Vec<u8> {
    let mut bytes = [INNER_MAGIC.as_slice(), &count(children.len())].concat();
    for child in children {
        bytes.extend_from_slice(&child.0);
    }
    bytes
}

/// Reads an inner node.
pub(crate) fn decode_inner(bytes: &[u8]) -> Result<Vec<ChunkId>> {
    let mut reader = Bytes(bytes);
    reader.magic(INNER_MAGIC)?;
    let children = reader.count()?;
    let children = (0..children).map(|_| Ok(ChunkId(reader.take()?))).collect::<Result<_>>()?;
    reader.end()?;
    Ok(children)
}

/// Pages that lie together. Slot numbers never change; slots that nobody needs may be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageBlock<'b> {
    pub(crate) page_bytes: usize,
    present: Vec<bool>,
    pages: &'b [u8],
}

impl<'b> PageBlock<'b> {
    pub(crate) fn decode(bytes: &'b [u8]) -> Result<Self> {
        let mut reader = Bytes(bytes);
        reader.magic(BLOCK_MAGIC)?;
        let page_bytes = u32::from_le_bytes(reader.take()?);
        let slots = reader.count()?;
        let bitmap = reader.slice(slots.div_ceil(8))?;
        let present: Vec<bool> = (0..slots).map(|n| bitmap[n / 8] >> (n % 8) & 1 == 1).collect();
        let pages = present.iter().filter(|p| **p).count();
        if !PAGE_BYTES.contains(&page_bytes) {
            return Err(PageMapError("a page block has pages of an impossible size"));
        }
        let pages = reader.slice(pages * page_bytes as usize)?;
        reader.end()?;
        Ok(Self { page_bytes: page_bytes as usize, present, pages })
    }

    /// The page in a slot, or `None` where it was dropped or never was.
    pub(crate) fn page(&self, slot: u16) -> Option<&'b [u8]> {
        self.run(slot, 1)
    }

    /// The pages in so many slots from one on, or `None` where one of them was dropped or never was.
    pub(crate) fn run(&self, slot: u16, count: usize) -> Option<&'b [u8]> {
        let slot = usize::from(slot);
        let is_whole = self.present.get(slot..slot.checked_add(count)?)?.iter().all(|present| *present);
        let before = self.present[..slot].iter().filter(|p| **p).count();
        self.pages.get(before * self.page_bytes..(before + count) * self.page_bytes).filter(|_| is_whole)
    }

    /// How many slots it ever had.
    pub(crate) fn slots(&self) -> usize {
        self.present.len()
    }

    /// Whether no slot was dropped, so that the identity can be computed again.
    #[cfg(test)]
    pub(crate) fn is_whole(&self) -> bool {
        self.present.iter().all(|p| *p)
    }

    /// The same block with only the slots that `keep` names.
    pub(crate) fn without(&self, keep: impl Fn(u16) -> bool) -> Vec<u8> {
        let kept: Vec<Option<&[u8]>> =
            (0..self.slots() as u16).map(|n| self.page(n).filter(|_| keep(n))).collect();
        encode_page_block(self.page_bytes as u32, &kept)
    }
}

/// Encodes a page block: each slot holds a page or nothing.
pub(crate) fn encode_page_block(page_bytes: u32, slots: &[Option<&[u8]>]) -> Vec<u8> {
    let mut bytes = encode_page_block_head(page_bytes, slots.len(), |slot| slots[slot].is_some());
    bytes.reserve(slots.len() * page_bytes as usize);
    slots.iter().flatten().for_each(|page| bytes.extend_from_slice(page));
    bytes
}

/// What comes in a page block before its pages.
pub(crate) fn encode_page_block_head(
    page_bytes: u32,
    slots: usize,
    is_present: impl Fn(usize) -> bool,
) -> Vec<u8> {
    let mut bitmap = vec![0u8; slots.div_ceil(8)];
    (0..slots).filter(|slot| is_present(*slot)).for_each(|slot| bitmap[slot / 8] |= 1 << (slot % 8));
    [BLOCK_MAGIC.as_slice(), &page_bytes.to_le_bytes(), &count(slots), &bitmap].concat()
}

fn count(n: usize) -> [u8; 2] {
    (n as u16).to_le_bytes()
}

/// Blocks in order of first use, each named once.
#[derive(Default)]
struct BlockTable {
    blocks: Vec<ChunkId>,
    numbers: HashMap<ChunkId, u16>,
}

impl BlockTable {
    fn put(&mut self, slot: &PageSlot, out: &mut Vec<u8>) {
        match slot {
            PageSlot::Zero => {
                out.extend_from_slice(&ZERO_BLOCK.to_le_bytes());
                out.extend_from_slice(&[0; 18]);
            }
            PageSlot::Stored { block, slot, hash } => {
                let next = self.blocks.len() as u16;
                let number = *self.numbers.entry(*block).or_insert_with(|| {
                    self.blocks.push(*block);
                    next
                });
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&slot.to_le_bytes());
                out.extend_from_slice(&hash.0);
            }
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = count(self.blocks.len()).to_vec();
        for block in &self.blocks {
            bytes.extend_from_slice(&block.0);
        }
        bytes
    }
}

/// Bytes being read from the front.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn slice(&mut self, length: usize) -> Result<&'b [u8]> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(PageMapError("it ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.slice(N)?);
        Ok(bytes)
    }

    fn magic(&mut self, magic: &[u8; 4]) -> Result<()> {
        if self.take::<4>()? == *magic { Ok(()) } else { Err(PageMapError("it does not start as expected")) }
    }

    fn count(&mut self) -> Result<usize> {
        let count = usize::from(u16::from_le_bytes(self.take()?));
        if count <= SLOTS_PER_NODE {
            Ok(count)
        } else {
            Err(PageMapError("it counts more than a node holds"))
        }
    }

    fn block_table(&mut self) -> Result<Vec<ChunkId>> {
        let blocks = self.count()?;
        (0..blocks).map(|_| Ok(ChunkId(self.take()?))).collect()
    }

    fn slot(&mut self, table: &[ChunkId]) -> Result<PageSlot> {
        let block = u16::from_le_bytes(self.take()?);
        let slot = u16::from_le_bytes(self.take()?);
        let hash = PageHash(self.take()?);
        if block == ZERO_BLOCK {
            return if slot == 0 && hash.0 == [0; 16] {
                Ok(PageSlot::Zero)
            } else {
                Err(PageMapError("a page of zeros has a place"))
            };
        }
        let block =
            *table.get(usize::from(block)).ok_or(PageMapError("a slot names a block that is not there"))?;
        Ok(PageSlot::Stored { block, slot, hash })
    }

    fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(PageMapError("there are bytes behind its end")) }
    }
}

/// For fuzzing: reads anything as each of the structures of a page map.
#[doc(hidden)]
pub fn fuzz_pages(bytes: &[u8]) -> bool {
    let block = PageBlock::decode(bytes)
        .is_ok_and(|block| (0..block.slots() as u16).any(|n| block.page(n).is_some()));
    let delta = LeafDelta::decode(bytes).is_ok_and(|delta| delta.apply(Leaf::default()).is_ok());
    Leaf::decode(bytes).is_ok() | delta | decode_inner(bytes).is_ok() | block
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(block: u8, slot: u16) -> PageSlot {
        PageSlot::Stored { block: ChunkId([block; 32]), slot, hash: PageHash([slot as u8; 16]) }
    }

    fn leaf() -> Leaf {
        Leaf {
            slots: (0..600)
                .map(|n| if n % 7 == 0 { PageSlot::Zero } else { stored((n % 5) as u8, n) })
                .collect(),
        }
    }

    #[test]
    fn leaves_and_differences_are_read_back() {
        let base = leaf();
        assert_eq!(Leaf::decode(&base.encode()).unwrap(), base);
        let mut changed = base.clone();
        changed.slots[3] = stored(99, 0);
        changed.slots[599] = PageSlot::Zero;
        let delta = changed.encode_delta(&base, &ChunkId([1; 32]), 2).unwrap();
        assert!(delta.len() < 150, "{} bytes", delta.len());
        let read = LeafDelta::decode(&delta).unwrap();
        assert_eq!((read.base, read.depth), (ChunkId([1; 32]), 3));
        assert_eq!(read.apply(base.clone()).unwrap(), changed);
        assert!(changed.encode_delta(&base, &ChunkId([1; 32]), 8).is_none(), "too deep");
        assert!(changed.encode_delta(&Leaf::default(), &ChunkId([1; 32]), 0).is_none(), "other length");
    }

    #[test]
    fn slots_keep_their_numbers_when_others_are_dropped() {
        let pages: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; 512]).collect();
        let slots: Vec<Option<&[u8]>> = pages.iter().map(|p| Some(p.as_slice())).collect();
        let whole = encode_page_block(512, &slots);
        let block = PageBlock::decode(&whole).unwrap();
        assert!(block.is_whole());
        let sparse = block.without(|n| n % 3 == 0);
        let block = PageBlock::decode(&sparse).unwrap();
        assert!(!block.is_whole() && block.slots() == 20);
        assert_eq!(block.page(6), Some([6u8; 512].as_slice()));
        assert_eq!((block.page(7), block.page(20)), (None, None));
        assert_eq!((block.run(6, 2), block.run(18, 3), block.run(u16::MAX, usize::MAX)), (None, None, None));
        let block = PageBlock::decode(&whole).unwrap();
        assert_eq!(block.run(6, 2), Some([[6u8; 512], [7; 512]].as_flattened()));
    }

    #[test]
    fn inner_nodes_are_read_back() {
        let children: Vec<ChunkId> = (0..200).map(|n| ChunkId([n; 32])).collect();
        assert_eq!(decode_inner(&encode_inner(&children)).unwrap(), children);
    }

    proptest! {
        #[test]
        fn mutations_never_panic(at in 0usize..20_000, value in any::<u8>(), cut in 0usize..20_000) {
            for mut bytes in [leaf().encode(), leaf().encode_delta(&leaf(), &ChunkId([1; 32]), 0).unwrap_or_default(), encode_page_block(512, &[Some(&[7; 512]), None])] {
                let length = bytes.len();
                bytes[at % length] = value;
                bytes.truncate(cut.max(1) % (length + 1));
                fuzz_pages(&bytes);
            }
        }
    }
}
