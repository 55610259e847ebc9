//! From chunks to stored packs: blocks are filled by the caller, compressed by workers, encrypted into the
//! pack that is open, and stored by the worker that filled it.
//!
//! Chunks of like kind lie together: data is spread over lanes by a hint (the extension of a file's name),
//! since content of one kind compresses better together, and faster.
//!
//! Order of durability: a pack is durable before an index object names it. Failpoints:
//! `pipeline::pack-before-put`, `pipeline::pack-after-put`, `pipeline::index-before-put`,
//! `pipeline::index-after-put`.

use crate::crypto::Signer;
use crate::effort::Compressor;
use crate::envelope::{ObjectType, Signed};
use crate::error::{RepositoryError, Result};
use crate::ids::{BulkName, ChunkId};
use crate::index::{self, IndexedPack};
use crate::layout;
use crate::pack::{BlockKind, ChunkRecord, FinishedPack, MAX_BLOCK_CHUNKS, PackBuilder, PackableBlock};
use crate::repository::Repository;
use lifeboat_base::failpoint;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How many blocks of data are filled side by side.
const DATA_LANES: usize = 8;
/// Nodes are read one by one, so they lie in smaller blocks than data.
const NODE_BLOCK_BYTES: usize = 1 << 20;
/// After this many packs an index object is written, so that an interrupted first backup need not upload
/// them again.
const PACKS_PER_INDEX: usize = 64;
/// The most workers: each may hold a whole pack.
const MAX_WORKERS: usize = 3;

/// A block being filled.
#[derive(Debug, Default)]
struct Lane {
    raw: Vec<u8>,
    chunks: Vec<ChunkRecord>,
}

struct RawBlock {
    kind: BlockKind,
    raw: Vec<u8>,
    chunks: Vec<ChunkRecord>,
}

/// Takes chunks and stores them in packs.
#[derive(Debug)]
pub(crate) struct Pipeline {
    shared: Arc<Shared>,
    data: Vec<Lane>,
    nodes: Lane,
    pages: Lane,
    deltas: Lane,
    sparse_pages: Lane,
    send: Option<SyncSender<RawBlock>>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    repository: Arc<Repository>,
    signer: Signer,
    open: Mutex<Option<PackBuilder>>,
    stored: Mutex<Vec<IndexedPack>>,
    /// How many packs are stored before they are indexed; never, where the caller does it.
    packs_per_index: usize,
    buffers: Mutex<Vec<Vec<u8>>>,
    pack_buffers: Mutex<Vec<Vec<u8>>>,
    failed: AtomicBool,
    error: Mutex<Option<RepositoryError>>,
    stored_bytes: AtomicU64,
}

/// What a pipeline stored.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) bytes: u64,
    /// What was stored and is not indexed: everything, where the caller indexes it himself.
    pub(crate) unindexed: Vec<IndexedPack>,
}

impl Pipeline {
    pub(crate) fn new(repository: &Arc<Repository>, signer: &Signer) -> Result<Self> {
        Self::start(repository, signer, PACKS_PER_INDEX)
    }

    /// A pipeline that stores packs and leaves it to the caller to index them.
    pub(crate) fn unindexed(repository: &Arc<Repository>, signer: &Signer) -> Result<Self> {
        Self::start(repository, signer, usize::MAX)
    }

    fn start(repository: &Arc<Repository>, signer: &Signer, packs_per_index: usize) -> Result<Self> {
        let shared = Arc::new(Shared {
            repository: repository.clone(),
            signer: signer.clone(),
            open: Mutex::default(),
            stored: Mutex::default(),
            packs_per_index,
            buffers: Mutex::default(),
            pack_buffers: Mutex::default(),
            failed: AtomicBool::new(false),
            error: Mutex::default(),
            stored_bytes: AtomicU64::new(0),
        });
        let (send, receive) = sync_channel(1);
        let receive = Arc::new(Mutex::new(receive));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = cores.max(repository.store.parallelism()).min(MAX_WORKERS);
        let workers = (0..count).map(|_| spawn_worker(&shared, &receive)).collect::<Result<_>>()?;
        let data = (0..DATA_LANES).map(|_| Lane::default()).collect();
        let [nodes, pages, deltas, sparse_pages] = [(); 4].map(|()| Lane::default());
        Ok(Self { shared, data, nodes, pages, deltas, sparse_pages, send: Some(send), workers })
    }

    /// Takes a chunk that is not stored yet. `hint` says what it is like.
    pub(crate) fn push(
        &mut self,
        kind: BlockKind,
        hint: usize,
        chunk: ChunkRecord,
        bytes: &[u8],
    ) -> Result<()> {
        self.push_parts(kind, hint, chunk, &[bytes])
    }

    /// As [`Pipeline::push`], of a chunk that lies in several pieces.
    pub(crate) fn push_parts(
        &mut self,
        kind: BlockKind,
        hint: usize,
        chunk: ChunkRecord,
        parts: &[&[u8]],
    ) -> Result<()> {
        let block_bytes = match kind {
            BlockKind::Data | BlockKind::Pages | BlockKind::SparsePages => {
                self.shared.repository.config.block_bytes as usize
            }
            BlockKind::Node | BlockKind::Delta => NODE_BLOCK_BYTES,
        };
        let full = |lane: &Lane| {
            let too_large = !lane.raw.is_empty() && lane.raw.len() + chunk.length as usize > block_bytes;
            too_large || lane.chunks.len() >= MAX_BLOCK_CHUNKS
        };
        let lane = self.lane(kind, hint);
        if full(lane) {
            let block = std::mem::take(lane);
            self.send(kind, block)?;
        }
        let lane = self.lane(kind, hint);
        if lane.raw.capacity() == 0 {
            let fresh = self.shared.buffer();
            self.lane(kind, hint).raw = fresh;
        }
        let lane = self.lane(kind, hint);
        parts.iter().for_each(|part| lane.raw.extend_from_slice(part));
        lane.chunks.push(chunk);
        Ok(())
    }

    /// Takes a block as it is, compressed already.
    pub(crate) fn push_block(&mut self, block: PackableBlock) -> Result<()> {
        self.shared.check()?;
        let Some(full) = self.shared.put_into_pack(block)? else { return Ok(()) };
        self.shared.store_pack(full.finish())
    }

    fn lane(&mut self, kind: BlockKind, hint: usize) -> &mut Lane {
        match kind {
            BlockKind::Data => &mut self.data[hint % DATA_LANES],
            BlockKind::Node => &mut self.nodes,
            BlockKind::Pages => &mut self.pages,
            BlockKind::Delta => &mut self.deltas,
            BlockKind::SparsePages => &mut self.sparse_pages,
        }
    }

    fn send(&self, kind: BlockKind, lane: Lane) -> Result<()> {
        self.shared.check()?;
        let block = RawBlock { kind, raw: lane.raw, chunks: lane.chunks };
        let send = self.send.as_ref().ok_or(RepositoryError::Aborted)?;
        send.send(block).map_err(|_| self.shared.take_error())
    }

    /// Stores what is left: everything is durable and indexed when this returns.
    pub(crate) fn finish(mut self) -> Result<Stored> {
        for n in 0..DATA_LANES {
            self.flush(BlockKind::Data, n)?;
        }
        for kind in [BlockKind::Pages, BlockKind::SparsePages, BlockKind::Delta, BlockKind::Node] {
            self.flush(kind, 0)?;
        }
        self.join();
        self.shared.check()?;
        if let Some(open) = self.shared.lock_open().take() {
            self.shared.store_pack(open.finish())?;
        }
        if self.shared.packs_per_index != usize::MAX {
            self.shared.write_index(1)?;
        }
        let unindexed = std::mem::take(&mut *lock(&self.shared.stored));
        Ok(Stored { bytes: self.shared.stored_bytes.load(Ordering::Relaxed), unindexed })
    }

    fn flush(&mut self, kind: BlockKind, hint: usize) -> Result<()> {
        let lane = std::mem::take(self.lane(kind, hint));
        if lane.chunks.is_empty() { Ok(()) } else { self.send(kind, lane) }
    }

    fn join(&mut self) {
        self.send = None;
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.join();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn_worker(shared: &Arc<Shared>, receive: &Arc<Mutex<Receiver<RawBlock>>>) -> Result<JoinHandle<()>> {
    let (shared, receive) = (shared.clone(), receive.clone());
    let work = move || {
        let mut compressor = None;
        loop {
            let Ok(block) = lock(&receive).recv() else { break };
            if shared.failed.load(Ordering::Relaxed) {
                continue;
            }
            if let Err(error) = shared.pack_block(block, &mut compressor) {
                shared.fail(error);
            }
        }
    };
    std::thread::Builder::new()
        .name("pack".to_owned())
        .spawn(work)
        .map_err(|error| RepositoryError::Io("start a thread", error))
}

impl Shared {
    fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::Relaxed) { Err(self.take_error()) } else { Ok(()) }
    }

    fn take_error(&self) -> RepositoryError {
        lock(&self.error).take().unwrap_or(RepositoryError::Aborted)
    }

    fn fail(&self, error: RepositoryError) {
        lock(&self.error).get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
    }

    fn lock_open(&self) -> MutexGuard<'_, Option<PackBuilder>> {
        lock(&self.open)
    }

    /// A buffer that a block fits, before and after compression, so that it never grows.
    fn buffer(&self) -> Vec<u8> {
        let pooled = lock(&self.buffers).pop();
        let block_bytes = self.repository.config.block_bytes as usize;
        pooled.unwrap_or_else(|| Vec::with_capacity(zstd::zstd_safe::compress_bound(block_bytes)))
    }

    fn pack_block(&self, block: RawBlock, compressor: &mut Option<Compressor>) -> Result<()> {
        let packable = self.compress(block, compressor)?;
        let Some(full) = self.put_into_pack(packable)? else { return Ok(()) };
        self.store_pack(full.finish())?;
        self.write_index(self.packs_per_index)
    }

    fn compress(&self, block: RawBlock, compressor: &mut Option<Compressor>) -> Result<PackableBlock> {
        let failed = |error| RepositoryError::Io("compress a block", error);
        let compressor = match compressor {
            Some(compressor) => compressor,
            None => {
                compressor.insert(Compressor::new(self.repository.config.compression_level).map_err(failed)?)
            }
        };
        let raw_bytes = block.raw.len() as u32;
        let mut compressed = self.buffer();
        let worth = compressor.compress(block.kind, &block.raw, &mut compressed).map_err(failed)?;
        let (bytes, mut spare) = if worth { (compressed, block.raw) } else { (block.raw, compressed) };
        spare.clear();
        lock(&self.buffers).push(spare);
        Ok(PackableBlock { kind: block.kind, compressed: worth, raw_bytes, bytes, chunks: block.chunks })
    }

    /// Puts a block into the open pack; gives back the pack that it would have made too large, or that it
    /// filled.
    fn put_into_pack(&self, block: PackableBlock) -> Result<Option<PackBuilder>> {
        let pack_bytes = self.repository.config.pack_bytes as usize;
        let mut open = self.lock_open();
        let full = match &*open {
            Some(pack) if !pack.is_empty() && !pack.has_room(&block, pack_bytes) => open.take(),
            _ => None,
        };
        if open.is_none() {
            let (epoch, public) = self.repository.epoch()?;
            let buffer = lock(&self.pack_buffers).pop().unwrap_or_else(|| Vec::with_capacity(pack_bytes));
            *open = Some(PackBuilder::new(&self.repository.id(), epoch, &public, buffer)?);
        }
        if let Some(pack) = open.as_mut() {
            let spare = pack.push(block);
            lock(&self.buffers).push(spare);
        }
        Ok(full)
    }

    fn store_pack(&self, pack: FinishedPack) -> Result<()> {
        failpoint::reach("pipeline::pack-before-put").map_err(|e| RepositoryError::Io("store a pack", e))?;
        self.repository.store.create(&layout::pack(&pack.name), &pack.bytes)?;
        failpoint::reach("pipeline::pack-after-put").map_err(|e| RepositoryError::Io("store a pack", e))?;
        self.stored_bytes.fetch_add(pack.bytes.len() as u64, Ordering::Relaxed);
        let size_bytes = pack.bytes.len() as u32;
        lock(&self.stored).push(IndexedPack { name: pack.name, size_bytes, blocks: pack.blocks });
        lock(&self.pack_buffers).push(pack.bytes);
        Ok(())
    }

    /// Writes the packs that are stored into the index, once there are `at_least` of them.
    fn write_index(&self, at_least: usize) -> Result<()> {
        let packs = {
            let mut stored = lock(&self.stored);
            if stored.len() < at_least {
                return Ok(());
            }
            std::mem::take(&mut *stored)
        };
        for group in index::groups(packs) {
            let (_, bytes) = write_index_object(&self.repository, &self.signer, &group)?;
            self.stored_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Stores an index object for packs that are durable. Gives its name and size.
pub(crate) fn write_index_object(
    repository: &Repository,
    signer: &Signer,
    packs: &[IndexedPack],
) -> Result<(BulkName, u64)> {
    let signed = Signed::new(ObjectType::Index, index::encode(&repository.id(), packs), signer);
    let bytes = repository.wrap(ObjectType::Index, &signed)?;
    let name = BulkName::of(&bytes);
    failpoint::reach("pipeline::index-before-put")
        .map_err(|e| RepositoryError::Io("store an index object", e))?;
    repository.store.create(&layout::index(&name), &bytes)?;
    failpoint::reach("pipeline::index-after-put")
        .map_err(|e| RepositoryError::Io("store an index object", e))?;
    Ok((name, bytes.len() as u64))
}

/// The lane of a file's content: by the extension of its name.
pub(crate) fn lane_hint(name: &[u8]) -> usize {
    let extension =
        name.rsplit(|b| *b == b'.').next().filter(|e| e.len() < name.len() && e.len() <= 8).unwrap_or(b"");
    extension.iter().fold(0usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(*byte)))
}

/// A chunk record for content whose identity is that of its bytes.
pub(crate) fn plain(id: ChunkId, bytes: &[u8]) -> ChunkRecord {
    ChunkRecord { id, length: bytes.len() as u32, base: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack;

    #[test]
    fn tiny_chunks_without_number_made_a_table_that_nobody_reads() {
        let repository = crate::testing::repository();
        let signer = repository.writer().unwrap();
        let mut pipeline = Pipeline::unindexed(&repository, &signer).unwrap();
        let count = 500_000;
        for n in 0..count {
            let bytes = u32::to_le_bytes(n);
            let id = repository.keys.id_key.chunk(&bytes);
            pipeline.push(BlockKind::Data, 0, plain(id, &bytes), &bytes).unwrap();
        }
        let packs = pipeline.finish().unwrap().unindexed;
        let mut chunks = 0;
        for pack in &packs {
            let bytes = repository.store.get(&layout::pack(&pack.name)).unwrap();
            let key = pack::open_key(&bytes, &repository.id(), &repository.keys.epochs).unwrap();
            let table = pack::read_table(&bytes, &key).unwrap();
            chunks += table.iter().map(|block| block.chunks.len()).sum::<usize>();
        }
        assert_eq!(chunks, count as usize);
        for group in index::groups(packs) {
            write_index_object(&repository, &signer, &group).unwrap();
        }
    }
}
