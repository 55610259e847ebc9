//! Reading: from a chunk's identity, or a whole snapshot, to bytes.
//!
//! Content is fetched block by block: every block that a request needs is read, decrypted and decompressed
//! once, and all that is wanted of it is delivered. Each chunk and page is checked against its identity
//! before anybody sees it, since anyone who knows the epoch's public key can write a pack.
//!
//! When a pack is gone because prune rewrote it, the index is read again and the request repeated.

use crate::block_cache::BlockCache;
use crate::crypto::ContentKey;
use crate::error::{RepositoryError, Result};
use crate::ids::{BulkName, ChunkId, PageHash};
use crate::index::{BlockInfo, ChunkRole, Index, Located};
use crate::layout;
use crate::pack::{self, BlockKind, HEADER_BYTES, Inflater};
use crate::pages::PageBlock;
use crate::repository::Repository;
use crate::snapshots::is_about_one_object;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// How much of the decompressed blocks of nodes is kept: the listings of some hundred thousand files.
const CACHED_BYTES: usize = 24 << 20;

/// Where a piece of a file's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PieceSource {
    /// Bytes `start..start + length` of a chunk.
    Chunk {
        /// The chunk.
        id: ChunkId,
        /// Where in the chunk the piece starts.
        start: u32,
    },
    /// A page.
    Page {
        /// The page block.
        block: ChunkId,
        /// The slot in it.
        slot: u16,
        /// The keyed hash of the page.
        hash: PageHash,
    },
}

/// A run of bytes of a file. What no piece covers reads as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Piece {
    /// Where it goes, in bytes from the start of the file.
    pub offset: u64,
    /// How long it is.
    pub length: u32,
    /// Where it comes from.
    pub source: PieceSource,
}

/// A piece that somebody wants, with a number by which he knows it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is wanted.
    pub source: PieceSource,
    /// How many bytes of it.
    pub length: u32,
    /// Handed back with the bytes.
    pub token: u64,
}

/// What takes the bytes that were requested: the request's token and the bytes.
///
/// # Errors
/// Its own: they end the fetching.
pub type Deliver<'d> = dyn Fn(u64, &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Sync + 'd;

/// What takes bytes that were requested, those of several requests at once where they lie beside each other in the
/// repository: the tokens, one after the other, and their bytes, one after the other.
///
/// # Errors
/// Its own: they end the fetching.
pub type DeliverRun<'d> =
    dyn Fn(Range<u64>, &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Sync + 'd;

/// What takes the requests that cannot be had, because what they need is damaged or missing: the token, and
/// why. The rest goes on where it returns `Ok`.
pub type Lost<'d> = dyn Fn(u64, RepositoryError) -> Result<()> + Sync + 'd;

/// Reads chunks of a repository. Shared between threads.
#[derive(Debug)]
pub struct Reader {
    repository: Arc<Repository>,
    index: RwLock<Arc<Index>>,
    /// How many times the index was read again.
    refreshed: AtomicUsize,
    pack_keys: Mutex<HashMap<BulkName, Arc<ContentKey>>>,
    cache: BlockCache,
}

impl Reader {
    /// Reads the index as it is now.
    ///
    /// # Errors
    /// Where the lists, verdicts or index objects cannot be read.
    pub fn new(repository: &Arc<Repository>) -> Result<Self> {
        let lists = repository.read_lists()?;
        Ok(Self::with_index(repository, Arc::new(repository.load_index(&lists)?)))
    }

    pub(crate) fn with_index(repository: &Arc<Repository>, index: Arc<Index>) -> Self {
        Self {
            repository: repository.clone(),
            index: RwLock::new(index),
            refreshed: AtomicUsize::new(0),
            pack_keys: Mutex::default(),
            cache: BlockCache::new(CACHED_BYTES),
        }
    }

    /// The repository.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// Names the index objects that do not count, because they are damaged or nobody may have signed them: what
    /// only they describe cannot be read. A line each, for people.
    pub fn left_out(&self) -> Vec<String> {
        let line = |u: &crate::Unreadable| format!("{}: {}", u.object, lifeboat_base::report(&u.error));
        self.index().unreadable.iter().map(line).collect()
    }

    pub(crate) fn index(&self) -> Arc<Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many times the index was read again: as long as it stays the same, so does [`Reader::index`].
    pub(crate) fn refreshed(&self) -> usize {
        self.refreshed.load(Ordering::Acquire)
    }

    /// Reads the index again, when a pack that it names is gone.
    fn refresh(&self, stale: &Arc<Index>) -> Result<Arc<Index>> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&index, stale) {
            let lists = self.repository.read_lists()?;
            *index = Arc::new(self.repository.load_index(&lists)?);
            self.refreshed.fetch_add(1, Ordering::Release);
        }
        Ok(index.clone())
    }

    /// A whole chunk as it was stored, checked against its identity where the identity is that of its bytes.
    /// For nodes: the block that it lies in is kept for the next one.
    ///
    /// # Errors
    /// [`RepositoryError::MissingChunk`], damage, or what the store says.
    pub(crate) fn chunk(&self, id: &ChunkId, role: ChunkRole) -> Result<(BlockKind, Vec<u8>)> {
        self.retrying(|index| {
            let mut last = RepositoryError::MissingChunk(*id);
            for copy in index.serving(id, role) {
                match self.read_copy(index, copy) {
                    Ok(found) => return Ok(found),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }

    fn read_copy(&self, index: &Index, copy: &Located) -> Result<(BlockKind, Vec<u8>)> {
        let block = index.block_of(copy);
        let name = index.pack_of(copy).name;
        let raw = match self.cache.get(&(name, block.number)) {
            Some(raw) => raw,
            None => {
                let mut raw = Vec::new();
                self.read_block(index, block, &mut Buffers::default(), &mut raw)?;
                let raw = Arc::new(raw);
                self.cache.keep((name, block.number), raw.clone());
                raw
            }
        };
        let bytes = slice_of(copy, &raw)
            .ok_or_else(|| RepositoryError::damaged(layout::pack(&name), "a chunk lies outside its block"))?;
        self.check_identity(&name, block.kind, &copy.id, bytes)?;
        Ok((block.kind, bytes.to_vec()))
    }

    /// The bytes of one copy of a chunk, checked.
    pub(crate) fn copy(&self, index: &Index, copy: &Located) -> Result<Vec<u8>> {
        self.read_copy(index, copy).map(|(_, bytes)| bytes)
    }

    fn check_identity(&self, name: &BulkName, kind: BlockKind, id: &ChunkId, bytes: &[u8]) -> Result<()> {
        let named_by_content = matches!(kind, BlockKind::Data | BlockKind::Node | BlockKind::Pages);
        if named_by_content && self.repository.keys.id_key.chunk(bytes) != *id {
            return Err(RepositoryError::damaged(
                layout::pack(name),
                format!("chunk {id} is not what its identity says"),
            ));
        }
        Ok(())
    }

    /// One block, decrypted and decompressed.
    pub(crate) fn raw_block(&self, index: &Index, block: &BlockInfo) -> Result<Vec<u8>> {
        let mut raw = Vec::new();
        self.read_block(index, block, &mut Buffers::default(), &mut raw)?;
        Ok(raw)
    }

    /// One block, decrypted and still compressed.
    pub(crate) fn compressed_block(&self, index: &Index, block: &BlockInfo) -> Result<Vec<u8>> {
        let name = index.packs[block.pack as usize].name;
        let key = self.pack_key(&name)?;
        let pack = layout::pack(&name);
        let mut stored =
            self.repository.store.get_range(&pack, u64::from(block.offset), block.stored_bytes as usize)?;
        let number = u64::from(block.number);
        pack::decrypt_block(&key, number, block.kind, block.compressed, &mut stored).map_err(|error| {
            RepositoryError::damaged(format!("{pack}, block {number} at offset {}", block.offset), error)
        })?;
        Ok(stored)
    }

    /// Reads, decrypts and decompresses one block.
    fn read_block(
        &self,
        index: &Index,
        block: &BlockInfo,
        buffers: &mut Buffers,
        raw: &mut Vec<u8>,
    ) -> Result<()> {
        let stored = self.compressed_block(index, block)?;
        if !block.compressed {
            *raw = stored;
            return Ok(());
        }
        buffers.inflater.inflate(&stored, block.raw_bytes as usize, raw).map_err(|error| {
            let pack = layout::pack(&index.packs[block.pack as usize].name);
            RepositoryError::damaged(
                format!("{pack}, block {} at offset {}", block.number, block.offset),
                error,
            )
        })
    }

    fn pack_key(&self, name: &BulkName) -> Result<Arc<ContentKey>> {
        if let Some(key) = self.pack_keys.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(key.clone());
        }
        let pack = layout::pack(name);
        let header = self.repository.store.get_range(&pack, 0, HEADER_BYTES)?;
        let key = pack::open_key(&header, &self.repository.id(), &self.repository.keys.epochs);
        let key = Arc::new(key.map_err(|error| RepositoryError::damaged(&pack, error))?);
        self.pack_keys.lock().unwrap_or_else(PoisonError::into_inner).insert(*name, key.clone());
        Ok(key)
    }

    /// Whether bytes that were restored somewhere are those of a piece. A piece that is a whole chunk or page
    /// is told by its identity alone; a part of one is compared with the repository.
    ///
    /// # Errors
    /// Where the repository must be read and cannot be.
    pub fn is_piece(&self, piece: &Piece, bytes: &[u8]) -> Result<bool> {
        let id_key = &self.repository.keys.id_key;
        match piece.source {
            PieceSource::Chunk { id, start: 0 } if id_key.chunk(bytes) == id => Ok(true),
            PieceSource::Chunk { id, start } => {
                let (_, chunk) = self.chunk(&id, ChunkRole::Bytes)?;
                let part = chunk.get(start as usize..start as usize + piece.length as usize);
                Ok(part.is_some_and(|part| part == bytes))
            }
            PieceSource::Page { hash, .. } if id_key.page(bytes) == hash => Ok(true),
            PieceSource::Page { .. } => {
                // The last page of a file may be shorter than a page.
                let request = Request { source: piece.source, length: piece.length, token: 0 };
                let same = AtomicBool::new(false);
                self.fetch(vec![request], 1, &|_, page| {
                    same.store(page == bytes, Ordering::Relaxed);
                    Ok(())
                })?;
                Ok(same.into_inner())
            }
        }
    }

    /// Does something with the index; when a pack turns out to be gone, once more with a fresh one.
    pub(crate) fn retrying<T>(&self, attempt: impl Fn(&Index) -> Result<T>) -> Result<T> {
        let index = self.index();
        match attempt(&index) {
            Err(error) if error.is_not_found() || matches!(error, RepositoryError::MissingChunk(_)) => {
                attempt(&*self.refresh(&index)?)
            }
            other => other,
        }
    }

    /// Delivers what is requested, each block read once, from `threads` threads, in no particular order.
    ///
    /// # Errors
    /// The first failure of a request or of `deliver`; some requests may have been delivered by then.
    pub fn fetch(&self, requests: Vec<Request>, threads: usize, deliver: &Deliver<'_>) -> Result<()> {
        let one_by_one = |tokens: Range<u64>, bytes: &[u8]| deliver(tokens.start, bytes);
        let sink = Sink { deliver: &one_by_one, in_runs: false, lost: &|_, error| Err(error) };
        self.fetch_into(sink, requests, threads)
    }

    /// As [`Reader::fetch`], and goes on beside what is damaged or missing: every request is either delivered
    /// or lost, once. Pages whose tokens follow each other come together where they lie together.
    ///
    /// # Errors
    /// What `deliver` or `lost` says, and what concerns more than single objects.
    pub fn fetch_what_is_left(
        &self,
        requests: Vec<Request>,
        threads: usize,
        deliver: &DeliverRun<'_>,
        lost: &Lost<'_>,
    ) -> Result<()> {
        self.fetch_into(Sink { deliver, in_runs: true, lost }, requests, threads)
    }

    fn fetch_into(&self, sink: Sink<'_>, requests: Vec<Request>, threads: usize) -> Result<()> {
        let index = self.index();
        let (wanted, missing) = plan(&index, &requests);
        self.run(&index, &jobs(&wanted), threads, sink)?;
        if missing.is_empty() {
            return Ok(());
        }
        let index = self.refresh(&index)?;
        let (wanted, missing) = plan(&index, &missing);
        for request in missing {
            (sink.lost)(request.token, RepositoryError::MissingChunk(request.source.chunk()))?;
        }
        self.run(&index, &jobs(&wanted), threads, sink)
    }

    fn run(&self, index: &Arc<Index>, jobs: &[Job<'_>], threads: usize, sink: Sink<'_>) -> Result<()> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let first_error = Mutex::new(None);
        let work = || {
            let mut buffers = Buffers::default();
            while !failed.load(Ordering::Relaxed) {
                let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)).copied() else { break };
                if let Err(error) = self.run_job(index, job, &mut buffers, sink) {
                    failed.store(true, Ordering::Relaxed);
                    first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.clamp(1, jobs.len().max(1)) {
                scope.spawn(work);
            }
            work();
        });
        first_error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn run_job(&self, index: &Arc<Index>, job: Job<'_>, buffers: &mut Buffers, sink: Sink<'_>) -> Result<()> {
        let mut raw = std::mem::take(&mut buffers.raw);
        let block = &index.blocks[job.block as usize];
        let delivered = match self.read_block(index, block, buffers, &mut raw) {
            Ok(()) => self.deliver_block(index, job, &raw, sink),
            Err(error) if is_about_one_object(&error) => self.deliver_elsewhere(index, job, error, sink),
            Err(error) => Err(error),
        };
        buffers.raw = raw;
        delivered
    }

    fn deliver_block(&self, index: &Arc<Index>, job: Job<'_>, raw: &[u8], sink: Sink<'_>) -> Result<()> {
        let place = |wanted: &Wanted<'_>| (wanted.offset, wanted.chunk_length);
        job.wanted.chunk_by(|wanted, next| place(wanted) == place(next)).try_for_each(|of_one_chunk| {
            self.deliver_chunk(index, Job { wanted: of_one_chunk, ..job }, raw, sink)
        })
    }

    /// Delivers what is wanted of one chunk of a block, pages together where they lie together.
    fn deliver_chunk(&self, index: &Arc<Index>, job: Job<'_>, raw: &[u8], sink: Sink<'_>) -> Result<()> {
        let block = &index.blocks[job.block as usize];
        let name = index.packs[block.pack as usize].name;
        let chunk = job.wanted.first().map(|wanted| self.checked_chunk(&name, block.kind, wanted, raw));
        let Some(Ok(chunk)) = chunk else {
            let again = |wanted: &Wanted<'_>| self.checked_chunk(&name, block.kind, wanted, raw).err();
            let mut lost = job.wanted.iter().filter_map(|wanted| Some((wanted, again(wanted)?)));
            return lost.try_for_each(|(wanted, error)| self.deliver_copy(index, job, wanted, error, sink));
        };
        let pages = if block.kind.holds_pages() { PageBlock::decode(chunk).ok() } else { None };
        let goes_on =
            |wanted: &Wanted<'_>, next: &Wanted<'_>| sink.in_runs && wanted.request.goes_on(next.request);
        for run in job.wanted.chunk_by(goes_on) {
            match pages.as_ref().and_then(|pages| self.pages_of(block.kind, pages, run)) {
                Some(bytes) => sink.deliver(run[0].request, run.len(), bytes)?,
                None => run.iter().try_for_each(|wanted| match self.part(&name, wanted.request, chunk) {
                    Ok(bytes) => sink.deliver(wanted.request, 1, bytes),
                    Err(error) => self.deliver_copy(index, job, wanted, error, sink),
                })?,
            }
        }
        Ok(())
    }

    /// One chunk of a block could not be used: the rest of the block may be whole, and so may another copy.
    fn deliver_copy(
        &self,
        index: &Arc<Index>,
        job: Job<'_>,
        wanted: &Wanted<'_>,
        error: RepositoryError,
        sink: Sink<'_>,
    ) -> Result<()> {
        let failed = |copy: &Located| (copy.block, copy.offset) == (job.block, wanted.offset);
        self.find_elsewhere(index, &failed, wanted.request, error, sink)
    }

    /// The chunk that a request needs something of, checked against its identity.
    fn checked_chunk<'r>(
        &self,
        name: &BulkName,
        kind: BlockKind,
        wanted: &Wanted<'_>,
        raw: &'r [u8],
    ) -> Result<&'r [u8]> {
        let end = wanted.offset as usize + wanted.chunk_length as usize;
        let bytes = raw
            .get(wanted.offset as usize..end)
            .ok_or_else(|| RepositoryError::damaged(layout::pack(name), "a chunk lies outside its block"))?;
        self.check_identity(name, kind, &wanted.request.source.chunk(), bytes)?;
        Ok(bytes)
    }

    /// The pages of a run of requests in slots that follow each other; `None` where they are not all there and right.
    /// In a block with all its slots they were checked with it: its identity is that of its bytes.
    fn pages_of<'c>(&self, kind: BlockKind, pages: &PageBlock<'c>, run: &[Wanted<'_>]) -> Option<&'c [u8]> {
        let (first, last) = (run.first()?, run.last()?);
        let PieceSource::Page { slot, .. } = first.request.source else { return None };
        let bytes = pages.run(slot, run.len())?;
        let is_right = |(wanted, page): (&Wanted<'_>, &[u8])| match wanted.request.source {
            PieceSource::Page { hash, .. } => self.repository.keys.id_key.page(page) == hash,
            PieceSource::Chunk { .. } => false,
        };
        let are_right =
            kind == BlockKind::Pages || run.iter().zip(bytes.chunks_exact(pages.page_bytes)).all(is_right);
        // Only the last page of a file may be wanted in part.
        let are_whole =
            run[..run.len() - 1].iter().all(|wanted| wanted.request.length as usize == pages.page_bytes);
        let length = bytes.len().checked_sub(pages.page_bytes)?.checked_add(last.request.length as usize)?;
        if are_right && are_whole { bytes.get(..length) } else { None }
    }

    /// The part of a chunk that a request wants; a page is checked against its hash.
    fn part<'c>(&self, name: &BulkName, request: &Request, chunk: &'c [u8]) -> Result<&'c [u8]> {
        let damaged = |what: String| RepositoryError::damaged(layout::pack(name), what);
        match request.source {
            PieceSource::Chunk { id, start } => chunk
                .get(start as usize..start as usize + request.length as usize)
                .ok_or_else(|| damaged(format!("chunk {id} is shorter than the snapshot says"))),
            PieceSource::Page { block, slot, hash } => {
                let decoded =
                    PageBlock::decode(chunk).map_err(|e| damaged(format!("page block {block}: {e}")))?;
                let page = decoded
                    .page(slot)
                    .ok_or_else(|| damaged(format!("page block {block} has no slot {slot}")))?;
                if self.repository.keys.id_key.page(page) != hash {
                    return Err(damaged(format!(
                        "slot {slot} of page block {block} is not what its hash says"
                    )));
                }
                page.get(..request.length as usize)
                    .ok_or_else(|| damaged(format!("a page of block {block} is too short")))
            }
        }
    }

    /// The block cannot be read: the pack may have been rewritten, or other copies may be whole.
    fn deliver_elsewhere(
        &self,
        stale: &Arc<Index>,
        job: Job<'_>,
        error: RepositoryError,
        sink: Sink<'_>,
    ) -> Result<()> {
        let index = if error.is_not_found() { self.refresh(stale)? } else { stale.clone() };
        // In an index that was read again the same number is another block.
        let failed = |copy: &Located| Arc::ptr_eq(&index, stale) && copy.block == job.block;
        // Every request that is lost with the block says what is wrong with it.
        let pack = layout::pack(&stale.packs[stale.blocks[job.block as usize].pack as usize].name);
        let (object, what) = match &error {
            RepositoryError::Damaged { object, what } => (object.clone(), what.clone()),
            other => (pack.to_string(), lifeboat_base::report(other)),
        };
        let mut first = Some(error);
        for wanted in job.wanted {
            let error = first.take().unwrap_or_else(|| RepositoryError::damaged(&object, &what));
            self.find_elsewhere(&index, &failed, wanted.request, error, sink)?;
        }
        Ok(())
    }

    /// Delivers one request from any copy that serves and has not failed.
    fn find_elsewhere(
        &self,
        index: &Index,
        failed: &dyn Fn(&Located) -> bool,
        request: &Request,
        mut error: RepositoryError,
        sink: Sink<'_>,
    ) -> Result<()> {
        let id = request.source.chunk();
        for copy in index.serving(&id, request.source.role()).filter(|copy| !failed(copy)) {
            let name = index.pack_of(copy).name;
            let read = self.read_copy(index, copy);
            match read.as_ref().map(|(_, bytes)| self.part(&name, request, bytes)) {
                Ok(Ok(part)) => return sink.deliver(request, 1, part),
                Ok(Err(other)) => error = other,
                Err(_) => error = read.err().unwrap_or(error),
            }
        }
        if is_about_one_object(&error) { (sink.lost)(request.token, error) } else { Err(error) }
    }
}

/// Where what was read goes.
#[derive(Clone, Copy)]
struct Sink<'s> {
    deliver: &'s DeliverRun<'s>,
    /// Whether it takes several requests at once.
    in_runs: bool,
    lost: &'s Lost<'s>,
}

impl Sink<'_> {
    fn deliver(self, first: &Request, count: usize, bytes: &[u8]) -> Result<()> {
        (self.deliver)(first.token..first.token + count as u64, bytes).map_err(RepositoryError::Delivery)
    }
}

impl Request {
    /// Whether the next request is the page behind this one, in the repository as for whoever wants both.
    fn goes_on(&self, next: &Self) -> bool {
        let PieceSource::Page { slot, .. } = self.source else { return false };
        let PieceSource::Page { slot: next_slot, .. } = next.source else { return false };
        self.token.checked_add(1) == Some(next.token) && slot.checked_add(1) == Some(next_slot)
    }
}

impl PieceSource {
    /// The chunk that it lies in.
    pub fn chunk(&self) -> ChunkId {
        match self {
            Self::Chunk { id, .. } => *id,
            Self::Page { block, .. } => *block,
        }
    }

    pub(crate) fn role(&self) -> ChunkRole {
        match self {
            Self::Chunk { .. } => ChunkRole::Bytes,
            Self::Page { .. } => ChunkRole::Pages,
        }
    }
}

fn slice_of<'r>(copy: &Located, raw: &'r [u8]) -> Option<&'r [u8]> {
    raw.get(copy.offset as usize..(copy.offset as usize).checked_add(copy.length as usize)?)
}

/// What a thread uses again and again.
#[derive(Default)]
struct Buffers {
    inflater: Inflater,
    raw: Vec<u8>,
}

/// A block and what is wanted of it.
#[derive(Clone, Copy)]
struct Job<'w> {
    block: u32,
    wanted: &'w [Wanted<'w>],
}

/// Where a request is served. Small, since as many are sorted as a tree has chunks: the request stays where
/// it is.
struct Wanted<'r> {
    request: &'r Request,
    block: u32,
    offset: u32,
    chunk_length: u32,
}

/// The copy to read: of a page block rather one that has all its slots; among equals the first.
fn best_copy<'i>(index: &'i Index, id: &ChunkId, role: ChunkRole) -> Option<&'i Located> {
    index.serving(id, role).min_by_key(|copy| index.block_of(copy).kind == BlockKind::SparsePages)
}

/// Where each request is served, in the order in which the blocks lie in their packs and the chunks in them;
/// and the requests for which there is no copy.
fn plan<'r>(index: &Index, requests: &'r [Request]) -> (Vec<Wanted<'r>>, Vec<Request>) {
    let (mut located, mut missing) = (Vec::with_capacity(requests.len()), Vec::new());
    // Pages of one block are requested one after the other.
    let of_one_chunk = |request: &Request, next: &Request| {
        (request.source.chunk(), request.source.role()) == (next.source.chunk(), next.source.role())
    };
    for requests in requests.chunk_by(of_one_chunk) {
        match best_copy(index, &requests[0].source.chunk(), requests[0].source.role()) {
            Some(&Located { block, offset, length: chunk_length, .. }) => {
                located.extend(requests.iter().map(|request| Wanted {
                    request,
                    block,
                    offset,
                    chunk_length,
                }));
            }
            None => missing.extend_from_slice(requests),
        }
    }
    // Stable: a tree is mostly requested in the order in which it was stored, and what is sorted already is
    // merged, not sorted again.
    located.sort_by_key(|wanted| (wanted.block, wanted.offset));
    (located, missing)
}

/// Groups what is wanted, which is in order, by block.
fn jobs<'w>(wanted: &'w [Wanted<'w>]) -> Vec<Job<'w>> {
    let of_one_block = wanted.chunk_by(|a, b| a.block == b.block);
    of_one_block.map(|wanted| Job { block: wanted[0].block, wanted }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::ChunkRecord;
    use crate::pages::encode_page_block;
    use crate::pipeline::Pipeline;
    use crate::testing::repository;
    use std::collections::BTreeSet;

    /// A page block of eight pages with only some slots, in a repository, and what reads it.
    fn stored_pages(kept: &[u16]) -> (Reader, Vec<Request>) {
        let repository = repository();
        let pages: Vec<Vec<u8>> = (1..=8).map(|n| vec![n; 512]).collect();
        let slots: Vec<Option<&[u8]>> = pages.iter().map(|page| Some(page.as_slice())).collect();
        let whole = encode_page_block(512, &slots);
        let id_key = &repository.keys.id_key;
        let id = id_key.chunk(&whole);
        let requests = pages.iter().zip(0..).map(|(page, slot)| Request {
            source: PieceSource::Page { block: id, slot, hash: id_key.page(page) },
            length: 512,
            token: 100 + u64::from(slot),
        });
        let requests = requests.collect();
        let all = kept.len() == pages.len();
        let kind = if all { BlockKind::Pages } else { BlockKind::SparsePages };
        let bytes = PageBlock::decode(&whole).unwrap().without(|slot| kept.contains(&slot));
        let record = ChunkRecord { id, length: bytes.len() as u32, base: None };
        let mut pipeline = Pipeline::new(&repository, &repository.writer().unwrap()).unwrap();
        pipeline.push(kind, 0, record, &bytes).unwrap();
        pipeline.finish().unwrap();
        (Reader::new(&repository).unwrap(), requests)
    }

    /// Tokens, and the bytes that came with them.
    type Delivered = (Range<u64>, Vec<u8>);

    /// What is delivered, in order, and which tokens are lost.
    fn fetched(reader: &Reader, requests: &[Request]) -> (Vec<Delivered>, Vec<u64>) {
        let (delivered, lost) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let deliver = |tokens: Range<u64>, bytes: &[u8]| {
            delivered.lock().unwrap().push((tokens, bytes.to_vec()));
            Ok(())
        };
        let lose = |token, _| {
            lost.lock().unwrap().push(token);
            Ok(())
        };
        reader.fetch_what_is_left(requests.to_vec(), 1, &deliver, &lose).unwrap();
        (delivered.into_inner().unwrap(), lost.into_inner().unwrap())
    }

    fn pages_from(numbers: std::ops::RangeInclusive<u8>) -> Vec<u8> {
        numbers.flat_map(|number| [number; 512]).collect()
    }

    #[test]
    fn pages_that_lie_together_come_together() {
        let (reader, mut requests) = stored_pages(&[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(fetched(&reader, &requests), (vec![(100..108, pages_from(1..=8))], vec![]));
        requests[7].length = 100;
        let (delivered, _) = fetched(&reader, &requests);
        assert_eq!(delivered[0].1.len(), 7 * 512 + 100, "the last page of a file may be cut");
        requests[7].length = 512;
        requests[3].length = 100;
        let (delivered, _) = fetched(&reader, &requests);
        assert_eq!(delivered.len(), 8, "any other that is cut comes alone");
        assert_eq!(delivered[3], (103..104, vec![4; 100]));
        requests[3].length = 512;
        requests[4].token = 7;
        let (delivered, _) = fetched(&reader, &requests);
        let expected =
            [(100..104, pages_from(1..=4)), (7..8, pages_from(5..=5)), (105..108, pages_from(6..=8))];
        assert_eq!(delivered, expected, "not all of them follow each other for the caller");
    }

    #[test]
    fn pages_of_a_block_that_lost_slots_are_checked_each() {
        let (reader, mut requests) = stored_pages(&[0, 1, 2, 5, 6]);
        let first = fetched(&reader, &requests[..3]);
        assert_eq!(first, (vec![(100..103, pages_from(1..=3))], vec![]));
        let (delivered, lost) = fetched(&reader, &requests);
        let bytes: Vec<u8> = delivered.into_iter().flat_map(|(_, bytes)| bytes).collect();
        assert_eq!((bytes, lost), ([pages_from(1..=3), pages_from(6..=7)].concat(), vec![103, 104, 107]));
        if let PieceSource::Page { hash, .. } = &mut requests[1].source {
            *hash = PageHash([0; 16]);
        }
        let (delivered, lost) = fetched(&reader, &requests[..3]);
        let tokens: Vec<u64> = delivered.into_iter().flat_map(|(tokens, _)| tokens).collect();
        assert_eq!((tokens, lost), (vec![100, 102], vec![101]));
    }

    #[test]
    fn slots_in_a_second_sparse_copy_of_the_same_pack_were_not_found() {
        let repository = repository();
        let pages: Vec<Vec<u8>> = (1..=4).map(|n| vec![n; 512]).collect();
        let slots: Vec<Option<&[u8]>> = pages.iter().map(|page| Some(page.as_slice())).collect();
        let whole = encode_page_block(512, &slots);
        let id = repository.keys.id_key.chunk(&whole);
        let block = PageBlock::decode(&whole).unwrap();
        let signer = repository.writer().unwrap();
        let mut pipeline = Pipeline::new(&repository, &signer).unwrap();
        for kept in [[0, 1], [1, 2], [2, 3]] {
            let bytes = block.without(|slot| kept.contains(&slot));
            let record = ChunkRecord { id, length: bytes.len() as u32, base: None };
            pipeline.push(BlockKind::SparsePages, 0, record, &bytes).unwrap();
        }
        pipeline.finish().unwrap();
        let reader = Reader::new(&repository).unwrap();
        assert_eq!(reader.index().packs.len(), 1);
        let request = |slot: u16| {
            let hash = repository.keys.id_key.page(&pages[usize::from(slot)]);
            Request {
                source: PieceSource::Page { block: id, slot, hash },
                length: 512,
                token: u64::from(slot),
            }
        };
        let delivered = Mutex::new(BTreeSet::new());
        let deliver = |token: u64, page: &[u8]| {
            assert!(page.iter().all(|byte| u64::from(*byte) == token + 1));
            assert!(delivered.lock().unwrap().insert(token), "{token} was delivered twice");
            Ok(())
        };
        reader.fetch((0..4).map(request).collect(), 1, &deliver).unwrap();
        assert_eq!(delivered.into_inner().unwrap().len(), 4);
    }
}
