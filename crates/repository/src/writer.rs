//! Writing a snapshot: from a claimed slot to a published one.
//!
//! The order is what makes it safe beside prune (docs/format.md, Writers): claim the slot, read lists and
//! verdicts, read the index, store what is missing, publish. If the slot was voided meanwhile, every
//! reference is validated again before the next attempt, the packs that this writer stored itself included.
//!
//! Drivers feed a writer with entries in ascending byte order, directory by directory, and with the bytes of
//! files and databases. This module does not know where those come from.

use crate::bodies::{Snapshot, SnapshotStats};
use crate::chunker::Chunker;
use crate::crypto::Signer;
use crate::envelope::ObjectType;
use crate::error::{RepositoryError, Result};
use crate::ids::{ChunkId, DatasetName, Position};
use crate::index::{ChunkRole, Depths};
use crate::layout;
use crate::lease::WriterLease;
use crate::pack::{BlockKind, ChunkRecord};
use crate::pages::{self, Leaf, PAGE_BLOCK_BYTES, PAGE_BYTES, PageSlot, SLOTS_PER_NODE};
use crate::pipeline::{Pipeline, lane_hint, plain};
use crate::reader::Reader;
use crate::repository::{Claim, Repository};
use crate::snapshots::{Filled, Published};
use crate::state::Head;
use crate::tree::{Content, Entry, EntryKind, Extent, ListingBuilder, Metadata};
use crate::walk::{CHUNKS_PER_LIST, Reference, VisitEntry, encode_list};
use lifeboat_base::clock::Timestamp;
use lifeboat_base::failpoint;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::Read;
use std::sync::Arc;

/// How often a writer takes a new slot after its own was voided, before it gives up.
const MAX_PUBLISHING_ATTEMPTS: u32 = 5;

/// What a snapshot is of.
#[derive(Clone, Debug)]
pub struct SnapshotSource {
    /// The dataset.
    pub dataset: DatasetName,
    /// The kind of store.
    pub store: String,
    /// What it is read from, for people: a path or a URL without secrets.
    pub source: String,
    /// The lineage of the store, where it has one.
    pub lineage: Option<String>,
    /// The release that makes it.
    pub program: String,
}

/// Content that has been stored, or was stored already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredContent {
    /// Where it is.
    pub content: Content,
    /// How many bytes were read.
    pub bytes: u64,
}

/// A snapshot being written.
#[derive(Debug)]
pub struct SnapshotWriter {
    repository: Arc<Repository>,
    signer: Signer,
    source: SnapshotSource,
    lease: Option<WriterLease>,
    reader: Reader,
    pipeline: Option<Pipeline>,
    chunker: Chunker,
    known: HashSet<(ChunkRole, ChunkId)>,
    sparse: HashMap<ChunkId, HashSet<u16>>,
    base: Option<Published>,
    levels: Vec<Level>,
    stats: SnapshotStats,
    facts: BTreeMap<String, String>,
    generation: Option<u64>,
    taken: Timestamp,
    buffer: Vec<u8>,
}

/// A directory being written.
#[derive(Debug, Default)]
struct Level {
    listing: ListingBuilder,
    nodes: Vec<ChunkId>,
    base: BaseListing,
}

/// The same directory in the base snapshot, read node by node.
#[derive(Debug, Default)]
struct BaseListing {
    nodes: VecDeque<ChunkId>,
    entries: VecDeque<Entry>,
}

impl SnapshotWriter {
    /// Claims a slot and reads what the repository holds. The base is the newest snapshot of the same
    /// dataset that was read from the same source on the same host.
    ///
    /// # Errors
    /// Where this machine may not publish the dataset, or the repository cannot be read.
    pub fn begin(repository: &Arc<Repository>, source: SnapshotSource) -> Result<Self> {
        let signer = repository.writer()?;
        let mut unreadable = Vec::new();
        let host = &repository.environment.host;
        let candidates = repository.snapshots(Some(&source.dataset), &mut unreadable)?;
        let base = candidates.into_iter().rev().find(|p| {
            p.snapshot.host == *host && p.snapshot.source == source.source && p.snapshot.store == source.store
        });
        let base_position = base.as_ref().map(|p| p.slot.clone());
        let lease = WriterLease::claim(repository, &signer, &source.dataset, base_position)?;
        // Forgotten before our lease could pin it: prune need not have seen the lease.
        let forgotten = repository.forgotten()?;
        let base = base.filter(|p| !forgotten.contains(&p.slot));
        // From here on prune waits for us; lists come before the index.
        let lists = repository.read_lists()?;
        let reader = Reader::with_index(repository, Arc::new(repository.load_index(&lists)?));
        let mut writer = Self {
            chunker: Chunker::new(&repository.keys.id_key, repository.config.chunker),
            pipeline: Some(Pipeline::new(repository, &signer)?),
            repository: repository.clone(),
            signer,
            source,
            lease: Some(lease),
            reader,
            known: HashSet::new(),
            sparse: HashMap::new(),
            base,
            levels: Vec::new(),
            stats: SnapshotStats::default(),
            facts: BTreeMap::new(),
            generation: None,
            taken: repository.clock().now(),
            buffer: Vec::new(),
        };
        let base_root = writer.base.as_ref().map(|p| p.snapshot.root.clone()).unwrap_or_default();
        writer.levels.push(Level {
            base: BaseListing { nodes: base_root.into(), entries: VecDeque::new() },
            ..Level::default()
        });
        Ok(writer)
    }

    /// The snapshot that this one builds on.
    pub fn base(&self) -> Option<&Published> {
        self.base.as_ref()
    }

    /// The instant that the snapshot shows; the beginning of writing unless a driver knows better.
    pub fn set_taken(&mut self, taken: Timestamp) {
        self.taken = taken;
    }

    /// What [`Reader::left_out`] says of the index that this writer goes by: what only those objects describe is
    /// stored once more.
    pub fn left_out_of_index(&self) -> Vec<String> {
        self.reader.left_out()
    }

    /// The lineage of the store, where that is known only now.
    pub fn set_lineage(&mut self, lineage: &str) {
        self.source.lineage = Some(lineage.to_owned());
    }

    /// Remembers a fact of the driver's.
    pub fn set_fact(&mut self, name: &str, value: impl ToString) {
        self.facts.insert(name.to_owned(), value.to_string());
    }

    /// Publishes under a leadership: readers count the snapshot only if no newer leader came before it.
    pub fn set_leadership(&mut self, fix: &crate::leader::ChainFix) {
        self.generation = Some(fix.generation());
        let (name, value) = fix.fact();
        self.set_fact(name, value);
    }

    /// What has been counted so far; drivers add what only they know.
    pub fn stats_mut(&mut self) -> &mut SnapshotStats {
        &mut self.stats
    }

    /// Goes into a directory below the current one. Its own entry follows with [`SnapshotWriter::leave`].
    pub fn enter(&mut self, name: &[u8]) {
        let nodes = match self.base_entry(name) {
            Some(Entry { content: Content::Listing { nodes }, .. }) => nodes.into(),
            _ => VecDeque::new(),
        };
        self.levels.push(Level { base: BaseListing { nodes, entries: VecDeque::new() }, ..Level::default() });
    }

    /// Ends the current directory and adds it to the one above.
    ///
    /// # Errors
    /// Where the entry does not sort after the last one, or storing failed.
    pub fn leave(&mut self, mut directory: Entry) -> Result<()> {
        let level = self
            .levels
            .pop()
            .ok_or_else(|| RepositoryError::damaged("the tree", "a directory ends that never began"))?;
        let nodes = self.end_listing(level)?;
        directory.content = if nodes.is_empty() { Content::Nothing } else { Content::Listing { nodes } };
        self.add(directory)
    }

    fn end_listing(&mut self, mut level: Level) -> Result<Vec<ChunkId>> {
        if let Some(node) = level.listing.finish() {
            level.nodes.push(self.store_node(&node)?);
        }
        Ok(level.nodes)
    }

    /// The entry of this name in the same directory of the base snapshot. Names must be asked for in
    /// ascending order. A base that cannot be read counts as empty: it only saves work.
    pub fn base_entry(&mut self, name: &[u8]) -> Option<Entry> {
        let base = &mut self.levels.last_mut()?.base;
        loop {
            match base.entries.front() {
                Some(entry) if entry.name.as_slice() < name => {
                    base.entries.pop_front();
                }
                Some(entry) if entry.name == name => return base.entries.pop_front(),
                Some(_) => return None,
                None => base.entries = self.reader.entries(&base.nodes.pop_front()?).ok()?.into(),
            }
        }
    }

    /// Calls `visit` with each entry of the base snapshot, as [`Reader::walk`] does; with none where there is no
    /// base. What of it cannot be read counts as absent: it only saves work.
    ///
    /// # Errors
    /// Of `visit`, or where nothing can be read.
    pub fn walk_base<E: From<RepositoryError>>(&self, visit: &mut VisitEntry<'_, E>) -> Result<(), E> {
        let Some(base) = &self.base else { return Ok(()) };
        self.reader.walk_what_is_left(&base.snapshot, visit, &mut |_, _| Ok(()))
    }

    /// Adds an entry to the current directory.
    ///
    /// # Errors
    /// Where it does not sort after the last one, or storing failed.
    pub fn add(&mut self, entry: Entry) -> Result<()> {
        match entry.kind {
            EntryKind::Directory => self.stats.directories += 1,
            _ => self.stats.files += 1,
        }
        self.stats.content_bytes += entry.size;
        self.stats.torn += u64::from(entry.torn);
        let Some(level) = self.levels.last_mut() else {
            return Err(RepositoryError::damaged("the tree", "an entry comes after its end"));
        };
        if let Some(node) = level.listing.push(&entry)? {
            let id = self.store_node(&node)?;
            if let Some(level) = self.levels.last_mut() {
                level.nodes.push(id);
            }
        }
        Ok(())
    }

    /// Whether the content of an entry of the base can be used as it is: everything that it refers to is
    /// where it may be relied on, or has been copied there.
    ///
    /// # Errors
    /// Only where storing failed; a base that cannot be read is not usable.
    pub fn reuse(&mut self, base: &Entry) -> Result<bool> {
        let mut references = Vec::new();
        let listed = self
            .reader
            .content_references(base, &mut HashSet::new(), &mut |reference| references.push(reference));
        if listed.is_err() {
            return Ok(false);
        }
        for reference in references {
            if !self.keep(reference)? {
                return Ok(false);
            }
        }
        self.stats.unchanged += 1;
        Ok(true)
    }

    /// Makes sure that something which an earlier snapshot refers to can be relied on, by copying it out of
    /// a condemned pack if need be. False where it cannot be had.
    fn keep(&mut self, reference: Reference) -> Result<bool> {
        let (role, id) = match reference {
            Reference::Node(id) | Reference::Chunk(id) => (ChunkRole::Bytes, id),
            Reference::Leaf(id) => (ChunkRole::Leaf, id),
            Reference::Page { block, .. } => (ChunkRole::Pages, block),
        };
        let relied_on = match reference {
            Reference::Page { block, slot, .. } => self.has_page(&block, slot),
            _ => self.is_known(role, &id),
        };
        if relied_on {
            return Ok(true);
        }
        let kept = match role {
            ChunkRole::Bytes => self.reader.chunk(&id, role).map(|(kind, bytes)| (kind, id, bytes)),
            ChunkRole::Leaf => self.reader.leaf(&id).map(|(leaf, _)| (BlockKind::Node, id, leaf.encode())),
            ChunkRole::Pages => self.reader.chunk(&id, role).map(|(kind, bytes)| (kind, id, bytes)),
        };
        match kept {
            // A block that lost slots may have lost this one.
            Ok((BlockKind::SparsePages, ..)) => Ok(false),
            Ok((kind, id, bytes)) => self.push(kind, role, 0, plain(id, &bytes), &[&bytes]).map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Whether a page can be relied on where it is. A block that lost slots is looked into, since prune may
    /// have dropped this very slot.
    fn has_page(&mut self, block: &ChunkId, slot: u16) -> bool {
        if self.known.contains(&(ChunkRole::Pages, *block)) || self.reader.index().is_present_whole(block) {
            return true;
        }
        if !self.sparse.contains_key(block) {
            let slots = self.reader.present_slots(block);
            self.sparse.insert(*block, slots);
        }
        self.sparse.get(block).is_some_and(|slots| slots.contains(&slot))
    }

    /// Stores the content of a file: `read` gives the bytes of its data extents one after the other. `name`
    /// decides only beside what it is compressed. No extents: one, the whole file.
    ///
    /// # Errors
    /// [`RepositoryError::Source`] where `read` failed, and where storing failed.
    pub fn content(
        &mut self,
        name: &[u8],
        extents: Vec<Extent>,
        read: &mut dyn Read,
    ) -> Result<StoredContent> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let stored = self.stream(lane_hint(name), read, &mut buffer);
        self.buffer = buffer;
        let (chunks, bytes) = stored?;
        if chunks.is_empty() {
            return Ok(StoredContent { content: Content::Nothing, bytes });
        }
        let (chunks, depth) = self.store_list(chunks)?;
        Ok(StoredContent { content: Content::Chunks { chunks, depth, extents }, bytes })
    }

    /// Cuts a stream into chunks and stores those that are new.
    fn stream(
        &mut self,
        hint: usize,
        read: &mut dyn Read,
        buffer: &mut Vec<u8>,
    ) -> Result<(Vec<ChunkId>, u64)> {
        let max = self.chunker.max_bytes();
        // Room to cut several chunks before what is left is moved to the front.
        buffer.resize(3 * max, 0);
        let (mut start, mut end, mut total) = (0, 0, 0u64);
        let mut chunks = Vec::new();
        loop {
            if end - start < max {
                buffer.copy_within(start..end, 0);
                (start, end) = (0, end - start);
                let read_bytes = fill(read, &mut buffer[end..])?;
                total += read_bytes as u64;
                end += read_bytes;
            }
            if start == end {
                return Ok((chunks, total));
            }
            let cut = self.chunker.cut(&buffer[start..end]);
            chunks.push(self.store_bytes(BlockKind::Data, hint, &buffer[start..start + cut])?);
            start += cut;
        }
    }

    /// Long lists of chunks become nodes, so that an entry stays small.
    fn store_list(&mut self, mut chunks: Vec<ChunkId>) -> Result<(Vec<ChunkId>, u8)> {
        let mut depth = 0;
        while chunks.len() > CHUNKS_PER_LIST {
            chunks = chunks
                .chunks(CHUNKS_PER_LIST)
                .map(|list| self.store_node(&encode_list(list)))
                .collect::<Result<_>>()?;
            depth += 1;
        }
        Ok((chunks, depth))
    }

    fn store_node(&mut self, node: &[u8]) -> Result<ChunkId> {
        self.store_bytes(BlockKind::Node, 0, node)
    }

    fn store_bytes(&mut self, kind: BlockKind, hint: usize, bytes: &[u8]) -> Result<ChunkId> {
        let id = self.repository.keys.id_key.chunk(bytes);
        if !self.is_known(ChunkRole::Bytes, &id) {
            self.push(kind, ChunkRole::Bytes, hint, plain(id, bytes), &[bytes])?;
        }
        Ok(id)
    }

    fn is_known(&self, role: ChunkRole, id: &ChunkId) -> bool {
        self.reader.index().is_present(id, role) || self.known.contains(&(role, *id))
    }

    fn push(
        &mut self,
        kind: BlockKind,
        role: ChunkRole,
        hint: usize,
        record: ChunkRecord,
        parts: &[&[u8]],
    ) -> Result<()> {
        self.stats.new_bytes += u64::from(record.length);
        self.known.insert((role, record.id));
        if kind == BlockKind::Node && role == ChunkRole::Leaf {
            // A leaf that is stored whole is named by its bytes as well.
            self.known.insert((ChunkRole::Bytes, record.id));
        }
        self.pipeline.as_mut().ok_or(RepositoryError::Aborted)?.push_parts(kind, hint, record, parts)
    }

    /// Stores a database file page by page. `read` gives the whole file, in order; a last page that is
    /// shorter is filled up with zeros in the map. `base` is the same file in the base snapshot.
    ///
    /// # Errors
    /// [`RepositoryError::Source`] where `read` failed, and where storing failed.
    pub fn pages(
        &mut self,
        page_bytes: u32,
        base: Option<&Content>,
        read: &mut dyn Read,
    ) -> Result<StoredContent> {
        if !PAGE_BYTES.contains(&page_bytes) {
            return Err(RepositoryError::damaged("the database", format!("pages of {page_bytes} bytes")));
        }
        let base_leaves = self.base_leaves(page_bytes, base);
        let mut leaves = Vec::new();
        let mut total = 0u64;
        let mut group = vec![0; page_bytes as usize * SLOTS_PER_NODE];
        loop {
            let bytes = fill(read, &mut group)?;
            total += bytes as u64;
            let padded = bytes.next_multiple_of(page_bytes as usize);
            group[bytes..padded].fill(0);
            if padded > 0 {
                let base_leaf = base_leaves.get(leaves.len()).copied();
                leaves.push(self.store_leaf(page_bytes as usize, &group[..padded], base_leaf)?);
            }
            if bytes < group.len() {
                break;
            }
        }
        let content = match self.store_levels(leaves)? {
            Some((root, depth)) => Content::Pages { page_bytes, root, depth },
            None => Content::Nothing,
        };
        Ok(StoredContent { content, bytes: total })
    }

    /// The leaves of the base's map, if it can be read and has pages of the same size.
    fn base_leaves(&self, page_bytes: u32, base: Option<&Content>) -> Vec<ChunkId> {
        match base {
            Some(Content::Pages { page_bytes: base_bytes, root, depth }) if *base_bytes == page_bytes => {
                self.reader.leaves(root, *depth, &mut |_| ()).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    fn store_leaf(&mut self, page_bytes: usize, pages: &[u8], base_id: Option<ChunkId>) -> Result<ChunkId> {
        let base = base_id.and_then(|id| Some((id, self.reader.leaf(&id).ok()?.0)));
        let mut leaf = Leaf { slots: Vec::with_capacity(pages.len() / page_bytes) };
        let mut fresh = Vec::new();
        for (n, page) in pages.chunks_exact(page_bytes).enumerate() {
            let slot = self.page_slot(n, page, base.as_ref().map(|(_, leaf)| leaf))?;
            if slot.is_none() {
                fresh.push(n);
            }
            leaf.slots.push(slot.unwrap_or(PageSlot::Zero));
        }
        for window in fresh.chunks(PAGE_BLOCK_BYTES / page_bytes) {
            self.store_page_block(page_bytes, pages, window, &mut leaf)?;
        }
        let encoded = leaf.encode();
        let id = self.repository.keys.id_key.chunk(&encoded);
        if self.is_known(ChunkRole::Leaf, &id) {
            return Ok(id);
        }
        // What the base stands on in present packs counts: a copy of it that is condemned may go.
        let delta = base.and_then(|(base_id, base)| {
            let depth = Depths::of_present(&self.reader.index(), &base_id)?;
            Some((leaf.encode_delta(&base, &base_id, u8::try_from(depth).ok()?)?, base_id))
        });
        match delta {
            Some((bytes, base)) => {
                let record = ChunkRecord { id, length: bytes.len() as u32, base: Some(base) };
                self.push(BlockKind::Delta, ChunkRole::Leaf, 0, record, &[&bytes])?;
            }
            None => self.push(BlockKind::Node, ChunkRole::Leaf, 0, plain(id, &encoded), &[&encoded])?,
        }
        Ok(id)
    }

    /// Where a page is already: nowhere needed, or where the base has it. `None` where it is new.
    fn page_slot(&mut self, n: usize, page: &[u8], base: Option<&Leaf>) -> Result<Option<PageSlot>> {
        if page.iter().all(|byte| *byte == 0) {
            return Ok(Some(PageSlot::Zero));
        }
        if let Some(slot @ PageSlot::Stored { block, slot: number, hash }) =
            base.and_then(|leaf| leaf.slots.get(n)).copied()
            && hash == self.repository.keys.id_key.page(page)
            && self.has_page(&block, number)
        {
            return Ok(Some(slot));
        }
        Ok(None)
    }

    /// Stores those of the pages of a leaf that `window` names. They are not copied together first: of a new
    /// database everything comes this way.
    fn store_page_block(
        &mut self,
        page_bytes: usize,
        pages: &[u8],
        window: &[usize],
        leaf: &mut Leaf,
    ) -> Result<()> {
        let head = pages::encode_page_block_head(page_bytes as u32, window.len(), |_| true);
        let runs = window.chunk_by(|page, next| page + 1 == *next);
        let runs = runs.map(|run| &pages[run[0] * page_bytes..][..run.len() * page_bytes]);
        let parts: Vec<&[u8]> = std::iter::once(head.as_slice()).chain(runs).collect();
        let block = self.repository.keys.id_key.chunk_of(&parts);
        for (slot, n) in window.iter().enumerate() {
            let hash = self.repository.keys.id_key.page(&pages[n * page_bytes..][..page_bytes]);
            leaf.slots[*n] = PageSlot::Stored { block, slot: slot as u16, hash };
        }
        if self.known.contains(&(ChunkRole::Pages, block)) || self.reader.index().is_present_whole(&block) {
            return Ok(());
        }
        let length = parts.iter().map(|part| part.len()).sum::<usize>() as u32;
        let record = ChunkRecord { id: block, length, base: None };
        self.push(BlockKind::Pages, ChunkRole::Pages, 0, record, &parts)
    }

    /// Builds the inner nodes above the leaves.
    fn store_levels(&mut self, mut nodes: Vec<ChunkId>) -> Result<Option<(ChunkId, u8)>> {
        let mut depth = 0;
        while nodes.len() > 1 {
            nodes = nodes
                .chunks(SLOTS_PER_NODE)
                .map(|children| self.store_node(&pages::encode_inner(children)))
                .collect::<Result<_>>()?;
            depth += 1;
        }
        Ok(nodes.first().map(|root| (*root, depth)))
    }

    /// Publishes the snapshot: everything that it refers to is durable when this returns.
    ///
    /// # Errors
    /// Where storing failed; [`RepositoryError::KeptLosing`] where the slot was voided again and again, and
    /// [`RepositoryError::StoredInVain`] where it was voided and what it needs is gone: then the source has to be
    /// read again, by a new writer.
    pub fn finish(mut self, root_metadata: Metadata) -> Result<Published> {
        let root = match self.levels.pop() {
            Some(level) if self.levels.is_empty() => self.end_listing(level)?,
            _ => return Err(RepositoryError::damaged("the tree", "a directory was begun and not ended")),
        };
        self.flush()?;
        let mut snapshot = self.body(root, root_metadata);
        for _ in 0..MAX_PUBLISHING_ATTEMPTS {
            let Some(lease) = self.lease.take() else { return Err(RepositoryError::Aborted) };
            snapshot.position = lease.position().clone();
            snapshot.predecessor = self.predecessor(&snapshot.position)?;
            snapshot.finished = self.repository.clock().now();
            if let Some(published) = self.publish(&snapshot, lease)? {
                return Ok(published);
            }
            self.revalidate(&mut snapshot)?;
        }
        Err(RepositoryError::KeptLosing(snapshot.position))
    }

    /// Stores everything that is pending.
    fn flush(&mut self) -> Result<()> {
        if let Some(pipeline) = self.pipeline.take() {
            self.stats.stored_bytes += pipeline.finish()?.bytes;
        }
        Ok(())
    }

    fn body(&self, root: Vec<ChunkId>, root_metadata: Metadata) -> Snapshot {
        Snapshot {
            repository: self.repository.id(),
            position: Position { dataset: self.source.dataset.clone(), writer: self.signer.id(), number: 0 },
            predecessor: None,
            taken: self.taken,
            finished: self.taken,
            store: self.source.store.clone(),
            source: self.source.source.clone(),
            host: self.repository.environment.host.clone(),
            root,
            root_metadata,
            stats: self.stats,
            facts: self.facts.clone(),
            lineage: self.source.lineage.clone(),
            generation: self.generation,
            program: self.source.program.clone(),
        }
    }

    /// The newest snapshot of our own chain below `position`.
    fn predecessor(&self, position: &Position) -> Result<Option<(u64, crate::ids::BodyHash)>> {
        let mut number = position.number;
        while number > 1 {
            number -= 1;
            let before = Position { number, ..position.clone() };
            if let Some(Filled::Snapshot(opened)) = self.repository.slot(&before)? {
                return Ok(Some((number, opened.hash)));
            }
        }
        Ok(None)
    }

    /// Tries to fill the slot. `None` where it was voided.
    fn publish(&self, snapshot: &Snapshot, lease: WriterLease) -> Result<Option<Published>> {
        failpoint::reach("writer::before-publication")
            .map_err(|e| RepositoryError::Io("publish the snapshot", e))?;
        if self.generation.is_some() {
            failpoint::reach("leader::before-publication")
                .map_err(|e| RepositoryError::Io("publish a leader's snapshot", e))?;
        }
        let key = layout::snapshot(&snapshot.position);
        let claim = self.repository.create_signed(ObjectType::Snapshot, &key, snapshot, &self.signer)?;
        failpoint::reach("writer::after-publication")
            .map_err(|e| RepositoryError::Io("publish the snapshot", e))?;
        let filled = self.repository.slot(&snapshot.position)?;
        lease.forget()?;
        match (claim, filled) {
            (Claim::Won, Some(Filled::Snapshot(opened))) => {
                let position = &snapshot.position;
                self.repository.state.raise(
                    &Head::Chain(&position.dataset, &position.writer),
                    position.number,
                    &opened.hash,
                )?;
                Ok(Some(Published::new(position.clone(), *opened)))
            }
            (Claim::Lost, Some(Filled::Void | Filled::Release)) => Ok(None),
            _ => {
                Err(RepositoryError::damaged(&key, "something else stands where this snapshot was published"))
            }
        }
    }

    /// After a void: a new slot, fresh lists, a fresh index, and every reference made sure of.
    fn revalidate(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        let base = self.base.as_ref().map(|p| p.slot.clone());
        self.lease = Some(WriterLease::claim(&self.repository, &self.signer, &self.source.dataset, base)?);
        let lists = self.repository.read_lists()?;
        self.reader = Reader::with_index(&self.repository, Arc::new(self.repository.load_index(&lists)?));
        self.known.clear();
        self.sparse.clear();
        self.pipeline = Some(Pipeline::new(&self.repository, &self.signer)?);
        let mut references = Vec::new();
        let walked = self
            .reader
            .references(snapshot, &mut HashSet::new(), &mut |reference| references.push(reference));
        match walked {
            // Prune deleted what nobody vouched for any more: the source must be read again.
            Err(RepositoryError::MissingChunk(_)) => {
                return Err(RepositoryError::StoredInVain(snapshot.position.clone()));
            }
            other => other?,
        }
        for reference in references {
            if !self.keep(reference)? {
                return Err(RepositoryError::StoredInVain(snapshot.position.clone()));
            }
        }
        self.flush()?;
        snapshot.stats.stored_bytes = self.stats.stored_bytes;
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        self.pipeline = None;
        if let Some(lease) = self.lease.take() {
            // A slot that cannot be released is voided once its lease has lapsed.
            let _ = lease.release();
        }
    }
}

/// Fills a buffer as far as the source goes.
fn fill(read: &mut dyn Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(RepositoryError::Source(error)),
        }
    }
    Ok(filled)
}
