//! Rewriting: what is needed of condemned packs is copied to replacement packs.
//!
//! A block that is needed almost whole is taken as it is, compressed already; of others only the chunks that
//! are needed are compressed anew. A page block keeps its identity and its slot numbers and loses the slots
//! that nobody needs.

use crate::crypto::Signer;
use crate::error::{RepositoryError, Result};
use crate::ids::BulkName;
use crate::index::{Index, IndexedPack, Located};
use crate::mark::Live;
use crate::pack::{BlockKind, ChunkRecord, PackableBlock};
use crate::pages::PageBlock;
use crate::pipeline::Pipeline;
use crate::reader::Reader;
use crate::survey::{BlockUse, block_uses, packs_by_name};
use std::collections::{HashMap, HashSet};

/// A block with at least this share of its bytes needed is taken as it is, in percent.
const TAKE_WHOLE_PERCENT: u64 = 85;

/// Copies what is needed out of condemned packs. The replacements are durable and not indexed yet.
pub(crate) fn rewrite(
    reader: &Reader,
    signer: &Signer,
    live: &Live,
    condemned: &[BulkName],
) -> Result<Vec<IndexedPack>> {
    let index = reader.index();
    let by_name = packs_by_name(&index);
    let condemned: HashSet<u32> = condemned.iter().filter_map(|name| by_name.get(name).copied()).collect();
    let mut needed: Vec<(u32, Vec<Located>)> = Vec::new();
    let mut entries: Vec<(u32, u32, usize)> = index
        .entries
        .iter()
        .enumerate()
        .filter(|(n, entry)| live.keeps(*n) && condemned.contains(&index.block_of(entry).pack))
        .map(|(n, entry)| (entry.block, entry.offset, n))
        .collect();
    entries.sort_unstable();
    for (block, _, n) in entries {
        match needed.last_mut() {
            Some((last, chunks)) if *last == block => chunks.push(index.entries[n]),
            _ => needed.push((block, vec![index.entries[n]])),
        }
    }
    let uses = block_uses(&index, live);
    let mut rewriting = Rewriting {
        reader,
        index: &index,
        live,
        pipeline: Pipeline::unindexed(reader.repository(), signer)?,
        whole: HashMap::new(),
    };
    rewriting.whole = chunks_by_block(&index, needed.iter().map(|(block, _)| *block));
    for (block, chunks) in needed {
        rewriting.block(block, &chunks, &uses[block as usize])?;
    }
    Ok(rewriting.pipeline.finish()?.unindexed)
}

struct Rewriting<'r> {
    reader: &'r Reader,
    index: &'r Index,
    live: &'r Live,
    pipeline: Pipeline,
    /// Every chunk of the blocks that hold something needed.
    whole: HashMap<u32, Vec<Located>>,
}

fn chunks_by_block(index: &Index, blocks: impl Iterator<Item = u32>) -> HashMap<u32, Vec<Located>> {
    let mut chunks: HashMap<u32, Vec<Located>> = blocks.map(|block| (block, Vec::new())).collect();
    for entry in &index.entries {
        if let Some(list) = chunks.get_mut(&entry.block) {
            list.push(*entry);
        }
    }
    for list in chunks.values_mut() {
        list.sort_by_key(|chunk| (chunk.offset, chunk.length));
    }
    chunks
}

impl Rewriting<'_> {
    fn block(&mut self, block: u32, needed: &[Located], used: &BlockUse) -> Result<()> {
        let info = self.index.blocks[block as usize];
        let whole = used.live_raw * 100 >= used.raw * TAKE_WHOLE_PERCENT;
        if whole {
            let chunks = self.chunks_of(block);
            let bytes = self.reader.compressed_block(self.index, &info)?;
            let (kind, compressed, raw_bytes) = (info.kind, info.compressed, info.raw_bytes);
            return self.pipeline.push_block(PackableBlock { kind, compressed, raw_bytes, bytes, chunks });
        }
        let raw = self.reader.raw_block(self.index, &info)?;
        for chunk in needed {
            let bytes = raw.get(chunk.offset as usize..chunk.offset as usize + chunk.length as usize);
            let bytes = bytes.ok_or_else(|| {
                RepositoryError::damaged(format!("chunk {}", chunk.id), "it lies outside its block")
            })?;
            self.chunk(info.kind, chunk, bytes)?;
        }
        Ok(())
    }

    fn chunk(&mut self, kind: BlockKind, chunk: &Located, bytes: &[u8]) -> Result<()> {
        let record = ChunkRecord { id: chunk.id, length: chunk.length, base: self.index.base_of(chunk) };
        let (true, Some(needed)) =
            (matches!(kind, BlockKind::Pages | BlockKind::SparsePages), self.live.slots(&chunk.id))
        else {
            return self.pipeline.push(kind, chunk.block as usize, record, bytes);
        };
        let block = PageBlock::decode(bytes)
            .map_err(|e| RepositoryError::damaged(format!("page block {}", chunk.id), e))?;
        let dropped = block.without(|slot| needed.slots.contains(&slot));
        if dropped.len() == bytes.len() {
            return self.pipeline.push(kind, 0, record, bytes);
        }
        let record = ChunkRecord { length: dropped.len() as u32, ..record };
        self.pipeline.push(BlockKind::SparsePages, 0, record, &dropped)
    }

    /// Every chunk of a block, in order.
    fn chunks_of(&self, block: u32) -> Vec<ChunkRecord> {
        let chunks = self.whole.get(&block).map(Vec::as_slice).unwrap_or_default();
        chunks
            .iter()
            .map(|c| ChunkRecord { id: c.id, length: c.length, base: self.index.base_of(c) })
            .collect()
    }
}
