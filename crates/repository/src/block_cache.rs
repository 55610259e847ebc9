//! The blocks of nodes that were decompressed last.
//!
//! Listings that lie beside each other share blocks, and after many generations the listings of one snapshot lie
//! in blocks of many packs: a walk comes back to a block long after it left it. So what is kept is bounded in
//! bytes, and what was used longest ago goes first. It deliberately knows nothing of what a block holds.

use crate::ids::BulkName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a block is: its pack and its number.
pub(crate) type BlockKey = (BulkName, u32);

/// Decompressed blocks, shared between threads.
#[derive(Debug)]
pub(crate) struct BlockCache {
    most_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    blocks: HashMap<BlockKey, KeptBlock>,
    bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct KeptBlock {
    raw: Arc<Vec<u8>>,
    last_use: u64,
}

impl BlockCache {
    /// A cache of at most so many bytes; a block larger than that is kept alone.
    pub(crate) fn new(most_bytes: usize) -> Self {
        Self { most_bytes, kept: Mutex::default() }
    }

    /// A block, if it is kept.
    pub(crate) fn get(&self, key: &BlockKey) -> Option<Arc<Vec<u8>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let now = kept.uses;
        let block = kept.blocks.get_mut(key)?;
        block.last_use = now;
        Some(block.raw.clone())
    }

    /// Keeps a block, and lets others go for it.
    pub(crate) fn keep(&self, key: BlockKey, raw: Arc<Vec<u8>>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        kept.make_room(self.most_bytes.saturating_sub(raw.len()));
        kept.bytes += raw.len();
        let block = KeptBlock { raw, last_use: kept.uses };
        if let Some(before) = kept.blocks.insert(key, block) {
            kept.bytes -= before.raw.len();
        }
    }
}

impl Kept {
    /// Lets go what was used longest ago, until at most so many bytes are kept.
    fn make_room(&mut self, most_bytes: usize) {
        while self.bytes > most_bytes {
            let Some(oldest) = self.blocks.iter().min_by_key(|(_, block)| block.last_use) else { break };
            let key = *oldest.0;
            if let Some(gone) = self.blocks.remove(&key) {
                self.bytes -= gone.raw.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> BlockKey {
        (BulkName([7; 32]), number)
    }

    fn block(bytes: usize) -> Arc<Vec<u8>> {
        Arc::new(vec![1; bytes])
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let cache = BlockCache::new(30);
        for number in 0..3 {
            cache.keep(key(number), block(10));
        }
        assert!(cache.get(&key(0)).is_some());
        cache.keep(key(3), block(10));
        assert!(cache.get(&key(0)).is_some(), "it was used since");
        assert!(cache.get(&key(1)).is_none());
        assert!(cache.get(&key(2)).is_some());
        assert!(cache.get(&key(3)).is_some());
    }

    #[test]
    fn a_block_that_is_kept_twice_counts_once() {
        let cache = BlockCache::new(30);
        for _ in 0..10 {
            cache.keep(key(0), block(10));
        }
        cache.keep(key(1), block(20));
        assert!(cache.get(&key(0)).is_some());
        assert!(cache.get(&key(1)).is_some());
    }

    #[test]
    fn a_block_larger_than_the_cache_is_kept_alone() {
        let cache = BlockCache::new(30);
        cache.keep(key(0), block(10));
        cache.keep(key(1), block(40));
        assert!(cache.get(&key(0)).is_none());
        assert!(cache.get(&key(1)).is_some());
        cache.keep(key(2), block(10));
        assert!(cache.get(&key(1)).is_none());
    }
}
