//! Surveying: how much of each pack is needed, and which packs are worth deleting or rewriting.

use crate::ids::BulkName;
use crate::index::{Index, IndexedPack};
use crate::mark::{Live, NeededPages};
use crate::pack::{BlockKind, BlockRecord};
use std::collections::HashMap;

/// How much of a block is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockUse {
    /// Bytes before compression that are needed.
    pub(crate) live_raw: u64,
    /// All bytes before compression.
    pub(crate) raw: u64,
    /// Bytes in the store.
    pub(crate) stored: u64,
}

impl BlockUse {
    /// The share of the stored bytes that is needed, as if all compressed alike.
    pub(crate) fn live_stored(&self) -> u64 {
        if self.raw == 0 {
            0
        } else {
            (u128::from(self.stored) * u128::from(self.live_raw) / u128::from(self.raw)) as u64
        }
    }
}

/// How much of a pack is needed.
#[derive(Clone, Debug, Default)]
pub(crate) struct PackUse {
    pub(crate) name: Option<BulkName>,
    pub(crate) size: u64,
    pub(crate) live: u64,
}

/// How much of every block of the index is needed.
pub(crate) fn block_uses(index: &Index, live: &Live) -> Vec<BlockUse> {
    let mut uses: Vec<BlockUse> = index
        .blocks
        .iter()
        .map(|b| BlockUse { live_raw: 0, raw: u64::from(b.raw_bytes), stored: u64::from(b.stored_bytes) })
        .collect();
    for (n, entry) in index.entries.iter().enumerate() {
        if live.keeps(n) {
            uses[entry.block as usize].live_raw += live_bytes(index, live, n);
        }
    }
    uses
}

/// Of a kept page block only the pages that are needed count, of anything else all.
fn live_bytes(index: &Index, live: &Live, entry: usize) -> u64 {
    let located = &index.entries[entry];
    let length = u64::from(located.length);
    let kind = index.block_of(located).kind;
    if !matches!(kind, BlockKind::Pages | BlockKind::SparsePages) {
        return length;
    }
    live.slots(&located.id).map_or(0, |needed| live_page_bytes(length, needed))
}

/// What is needed of a page block of `length` bytes. Its header and bitmap take less than the smallest page,
/// so that the length says how many pages are there; those that are not needed can go.
fn live_page_bytes(length: u64, needed: &NeededPages) -> u64 {
    let page_bytes = u64::from(needed.page_bytes.max(1));
    let there = length / page_bytes;
    length - page_bytes * there.saturating_sub(needed.slots.len() as u64)
}

/// How much of every present pack is needed.
pub(crate) fn pack_uses(index: &Index, live: &Live) -> Vec<PackUse> {
    let mut uses: Vec<PackUse> = index
        .packs
        .iter()
        .map(|pack| PackUse { name: Some(pack.name), size: u64::from(pack.size_bytes), live: 0 })
        .collect();
    for (block, used) in index.blocks.iter().zip(block_uses(index, live)) {
        uses[block.pack as usize].live += used.live_stored();
    }
    uses
}

/// What the survey found and what it proposes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proposal {
    pub(crate) packs: Vec<BulkName>,
    pub(crate) indexes: Vec<BulkName>,
    pub(crate) logs: Vec<String>,
    pub(crate) expired_logs: Vec<String>,
    pub(crate) live_bytes: u64,
    pub(crate) total_bytes: u64,
    pub(crate) freed_bytes: u64,
}

/// A pack below this share of the usual size counts as small.
const SMALL_PACK_DIVISOR: u64 = 4;
/// So many small packs are put together.
const MANY_SMALL: usize = 8;

impl Proposal {
    pub(crate) fn has_no_logs(&self) -> bool {
        self.logs.is_empty() && self.expired_logs.is_empty()
    }
}

/// Chooses packs: all that nobody needs, then those with the most waste until what is left is bearable, then
/// small ones where there are many.
pub(crate) fn propose(index: &Index, live: &Live, max_unused_percent: u64, pack_bytes: u64) -> Proposal {
    let mut uses = pack_uses(index, live);
    let total_bytes: u64 = uses.iter().map(|u| u.size).sum();
    let live_bytes: u64 = uses.iter().map(|u| u.live).sum();
    uses.sort_by_key(|u| (u.live * 1000).checked_div(u.size.max(1)).unwrap_or(0));
    let mut waste = total_bytes - live_bytes.min(total_bytes);
    let bearable = live_bytes * max_unused_percent / 100;
    let mut proposal = Proposal { live_bytes, total_bytes, ..Proposal::default() };
    let (mut kept_small, mut kept) = (Vec::new(), 0);
    for used in uses {
        let Some(name) = used.name else { continue };
        let wasted = used.size.saturating_sub(used.live);
        if used.live == 0 || (waste > bearable && wasted > used.size / 20) {
            proposal.packs.push(name);
            proposal.freed_bytes += wasted;
            waste = waste.saturating_sub(wasted);
        } else if used.size < pack_bytes / SMALL_PACK_DIVISOR {
            kept_small.push(name);
        } else {
            kept += 1;
        }
    }
    if kept_small.len() >= MANY_SMALL.max(kept / 8) {
        proposal.packs.append(&mut kept_small);
    }
    proposal
}

/// Chooses index objects: those that describe a pack that goes, and small ones where there are many.
pub(crate) fn propose_indexes(objects: &[(BulkName, Vec<IndexedPack>)], packs: &[BulkName]) -> Vec<BulkName> {
    let going: std::collections::HashSet<&BulkName> = packs.iter().collect();
    let small: Vec<BulkName> = objects
        .iter()
        .filter(|(_, packs)| chunk_count(packs) < crate::index::MAX_ENTRIES / 8)
        .map(|(name, _)| *name)
        .collect();
    let many_small = small.len() >= MANY_SMALL;
    objects
        .iter()
        .filter(|(name, packs)| {
            packs.iter().any(|p| going.contains(&p.name)) || (many_small && small.contains(name))
        })
        .map(|(name, _)| *name)
        .collect()
}

fn chunk_count(packs: &[IndexedPack]) -> usize {
    packs.iter().flat_map(|pack| &pack.blocks).map(|block: &BlockRecord| block.chunks.len()).sum()
}

/// The packs of an index by name.
pub(crate) fn packs_by_name(index: &Index) -> HashMap<BulkName, u32> {
    index.packs.iter().enumerate().map(|(n, pack)| (pack.name, n as u32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{PageBlock, encode_page_block};

    #[test]
    fn dead_pages_at_the_end_of_a_block_counted_as_needed() {
        for page_bytes in [512u32, 4096, 65536] {
            let page = vec![7; page_bytes as usize];
            for slots in [1usize, 16, 1000] {
                let whole = encode_page_block(page_bytes, &vec![Some(page.as_slice()); slots]);
                let block = PageBlock::decode(&whole).unwrap();
                for kept in [1, slots / 2, slots].into_iter().filter(|kept| *kept > 0) {
                    let needed = NeededPages { slots: (0..kept as u16).collect(), page_bytes };
                    let left = block.without(|slot| needed.slots.contains(&slot));
                    for bytes in [&whole, &left] {
                        let live = live_page_bytes(bytes.len() as u64, &needed);
                        assert_eq!(live, left.len() as u64, "{kept} of {slots} pages of {page_bytes} bytes");
                    }
                }
            }
        }
    }
}
