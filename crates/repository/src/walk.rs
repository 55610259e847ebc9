//! Walking what a snapshot refers to: every node, chunk and page, for prune, check, copy and writers that
//! must validate their references again.

use crate::bodies::Snapshot;
use crate::error::{RepositoryError, Result};
use crate::ids::ChunkId;
use crate::index::{ChunkRole, Index, Located, Standing};
use crate::pack::BlockKind;
use crate::pages::{self, Leaf, LeafDelta, PageBlock, PageSlot};
use crate::reader::{Piece, PieceSource, Reader};
use crate::tree::{self, Content, Entry, EntryKind};
use std::collections::{BTreeMap, HashSet};

/// Something that a snapshot needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reference {
    /// A node that is named by its bytes: a listing, a list of chunks, an inner node of a page map.
    Node(ChunkId),
    /// A leaf of a page map, however it is stored.
    Leaf(ChunkId),
    /// A chunk of content.
    Chunk(ChunkId),
    /// One slot of a page block, whose pages have this many bytes.
    Page { block: ChunkId, slot: u16, page_bytes: u32 },
}

/// How deep lists of chunks may be nested: 1,024 to the power of this many chunks.
const MAX_LIST_DEPTH: u8 = 4;
/// How deep directories may be nested, so that a forged tree cannot exhaust the stack.
pub(crate) const MAX_TREE_DEPTH: usize = 100_000;
/// How many chunks a list of chunks holds.
pub(crate) const CHUNKS_PER_LIST: usize = 1024;

/// Takes the path of a directory of which a part of the listing cannot be read, and why.
pub type LostListing<'a, E> = dyn FnMut(&[u8], RepositoryError) -> Result<(), E> + 'a;

impl Reader {
    /// The entries of one node of a listing.
    pub(crate) fn entries(&self, node: &ChunkId) -> Result<Vec<Entry>> {
        let (_, bytes) = self.chunk(node, ChunkRole::Bytes)?;
        tree::decode_node(&bytes).map_err(|error| RepositoryError::damaged(format!("node {node}"), error))
    }

    /// A directory's entries by name, all of its nodes together.
    ///
    /// # Errors
    /// Where a node cannot be read.
    pub fn folder(&self, nodes: &[ChunkId]) -> Result<BTreeMap<Vec<u8>, Entry>> {
        let (mut folder, mut ascending) = (BTreeMap::new(), Ascending::default());
        for node in nodes {
            let entries = self.entries(node)?;
            ascending.check(node, &entries)?;
            folder.extend(entries.into_iter().map(|entry| (entry.name.clone(), entry)));
        }
        Ok(folder)
    }

    /// The leaf of a page map with an identity, however it is stored, and how many differences it stands on.
    pub(crate) fn leaf(&self, id: &ChunkId) -> Result<(Leaf, u8)> {
        self.leaf_within(id, crate::index::MAX_DELTA_DEPTH)
    }

    fn leaf_within(&self, id: &ChunkId, depth_left: u32) -> Result<(Leaf, u8)> {
        self.retrying(|index| {
            let mut last = RepositoryError::MissingChunk(*id);
            for copy in index.serving(id, ChunkRole::Leaf) {
                match self.leaf_copy(index, copy, depth_left) {
                    Ok(found) => return Ok(found),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }

    fn leaf_copy(&self, index: &Index, copy: &Located, depth_left: u32) -> Result<(Leaf, u8)> {
        let damaged =
            |error: &dyn std::fmt::Display| RepositoryError::damaged(format!("node {}", copy.id), error);
        let bytes = self.copy(index, copy)?;
        if index.block_of(copy).kind != BlockKind::Delta {
            return Ok((Leaf::decode(&bytes).map_err(|e| damaged(&e))?, 0));
        }
        let delta = LeafDelta::decode(&bytes).map_err(|e| damaged(&e))?;
        if depth_left == 0 {
            return Err(damaged(&"it stands on too many differences"));
        }
        let (base, _) = self.leaf_within(&delta.base, depth_left - 1)?;
        let leaf = delta.apply(base).map_err(|e| damaged(&e))?;
        if self.repository().keys.id_key.chunk(&leaf.encode()) != copy.id {
            return Err(damaged(&"it is not what its identity says"));
        }
        Ok((leaf, delta.depth))
    }

    /// The slots of a page block that copies in present packs hold.
    pub(crate) fn present_slots(&self, block: &ChunkId) -> HashSet<u16> {
        let index = self.index();
        let mut slots = HashSet::new();
        for copy in index
            .serving(block, ChunkRole::Pages)
            .filter(|copy| index.pack_of(copy).standing == Standing::Present)
        {
            let Ok(bytes) = self.copy(&index, copy) else { continue };
            if let Ok(decoded) = PageBlock::decode(&bytes) {
                slots.extend((0..decoded.slots() as u16).filter(|slot| decoded.page(*slot).is_some()));
            }
        }
        slots
    }

    /// The leaves of a page map, in order; the inner nodes that lead to them are reported.
    pub(crate) fn leaves(
        &self,
        root: &ChunkId,
        depth: u8,
        node: &mut dyn FnMut(&ChunkId),
    ) -> Result<Vec<ChunkId>> {
        let mut level = vec![*root];
        for _ in 0..checked_depth(depth)? {
            let mut below = Vec::new();
            for inner in &level {
                node(inner);
                let (_, bytes) = self.chunk(inner, ChunkRole::Bytes)?;
                let children = pages::decode_inner(&bytes)
                    .map_err(|e| RepositoryError::damaged(format!("node {inner}"), e))?;
                below.extend(children);
            }
            level = below;
        }
        Ok(level)
    }

    /// The chunks of a stream, in order; the lists that lead to them are reported as nodes.
    pub(crate) fn chunk_ids(
        &self,
        chunks: &[ChunkId],
        depth: u8,
        node: &mut dyn FnMut(&ChunkId),
    ) -> Result<Vec<ChunkId>> {
        let mut level = chunks.to_vec();
        for _ in 0..checked_depth(depth)? {
            let mut below = Vec::new();
            for list in &level {
                node(list);
                below.extend(decode_list(list, &self.chunk(list, ChunkRole::Bytes)?.1)?);
            }
            level = below;
        }
        Ok(level)
    }

    /// Visits every reference of a snapshot. Nodes in `seen` and all below them are passed over; those that
    /// are visited are added. A reference may be visited more than once.
    pub(crate) fn references(
        &self,
        snapshot: &Snapshot,
        seen: &mut HashSet<ChunkId>,
        visit: &mut dyn FnMut(Reference),
    ) -> Result<()> {
        let mut pending: Vec<ChunkId> = snapshot.root.clone();
        while let Some(node) = pending.pop() {
            if !seen.insert(node) {
                continue;
            }
            visit(Reference::Node(node));
            for entry in self.entries(&node)? {
                if let Content::Listing { nodes } = &entry.content {
                    pending.extend(nodes.iter().rev());
                } else {
                    self.content_references(&entry, seen, visit)?;
                }
            }
        }
        Ok(())
    }

    /// Visits every reference of one entry's content, but a directory's.
    pub(crate) fn content_references(
        &self,
        entry: &Entry,
        seen: &mut HashSet<ChunkId>,
        visit: &mut dyn FnMut(Reference),
    ) -> Result<()> {
        match &entry.content {
            Content::Chunks { chunks, depth, .. } => {
                for id in self.chunk_ids(chunks, *depth, &mut |node| visit(Reference::Node(*node)))? {
                    visit(Reference::Chunk(id));
                }
                Ok(())
            }
            Content::Pages { page_bytes, root, depth } => {
                if seen.contains(root) {
                    return Ok(());
                }
                for leaf in self.leaves(root, *depth, &mut |node| visit(Reference::Node(*node)))? {
                    if seen.insert(leaf) {
                        visit(Reference::Leaf(leaf));
                        self.leaf_references(&leaf, *page_bytes, visit)?;
                    }
                }
                seen.insert(*root);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn leaf_references(
        &self,
        leaf: &ChunkId,
        page_bytes: u32,
        visit: &mut dyn FnMut(Reference),
    ) -> Result<()> {
        for slot in self.leaf(leaf)?.0.slots {
            if let PageSlot::Stored { block, slot, .. } = slot {
                visit(Reference::Page { block, slot, page_bytes });
            }
        }
        Ok(())
    }

    /// Calls `visit` with each entry of a snapshot and the path of its directory (without a slash at either
    /// end), parents first, in byte order within each directory. A directory is entered where `visit` says so.
    ///
    /// # Errors
    /// Of `visit`, or where a node cannot be read.
    pub fn walk<E: From<RepositoryError>>(
        &self,
        snapshot: &Snapshot,
        visit: &mut VisitEntry<'_, E>,
    ) -> Result<(), E> {
        self.walk_what_is_left(snapshot, visit, &mut |_, error| Err(error.into()))
    }

    /// As [`Reader::walk`], and goes on beside listings that are damaged or missing: `lost` is called with the
    /// path of the directory that misses entries.
    ///
    /// # Errors
    /// Of `visit` and `lost`, and where nothing can be read.
    pub fn walk_what_is_left<E: From<RepositoryError>>(
        &self,
        snapshot: &Snapshot,
        visit: &mut VisitEntry<'_, E>,
        lost: &mut LostListing<'_, E>,
    ) -> Result<(), E> {
        let mut levels = vec![Level::new(&snapshot.root, 0)];
        let mut path: Vec<u8> = Vec::new();
        while let Some(level) = levels.last_mut() {
            let entry = match level.next(self) {
                Ok(Some(entry)) => entry,
                Ok(None) => {
                    path.truncate(level.path_length);
                    levels.pop();
                    continue;
                }
                Err(error) if error.is_about_one_object() => {
                    lost(&path, error)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if visit(&path, &entry)? == Descend::Yes
                && let (EntryKind::Directory, Content::Listing { nodes }) = (entry.kind, &entry.content)
            {
                if levels.len() >= MAX_TREE_DEPTH {
                    return Err(RepositoryError::damaged("the tree", "it is nested too deeply").into());
                }
                levels.push(Level::new(nodes, path.len()));
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(&entry.name);
            }
        }
        Ok(())
    }

    /// The entry at a path (components separated by `/`), or `None`.
    ///
    /// # Errors
    /// Where a node on the way cannot be read.
    pub fn entry(&self, snapshot: &Snapshot, path: &[u8]) -> Result<Option<Entry>> {
        let mut nodes = snapshot.root.clone();
        let mut found = None;
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            let (mut entry, mut ascending) = (None, Ascending::default());
            for node in &nodes {
                let entries = self.entries(node)?;
                ascending.check(node, &entries)?;
                if entries.last().is_some_and(|last| last.name.as_slice() >= name) {
                    entry = entries.into_iter().find(|e| e.name == name);
                    break;
                }
            }
            let Some(entry) = entry else { return Ok(None) };
            nodes = if let Content::Listing { nodes } = &entry.content { nodes.clone() } else { Vec::new() };
            found = Some(entry);
        }
        Ok(found)
    }

    /// Enumerates the pieces of an entry's content, in ascending order of their offsets.
    ///
    /// # Errors
    /// Of `visit`, or where a node cannot be read.
    pub fn pieces<E: From<RepositoryError>>(
        &self,
        entry: &Entry,
        visit: &mut dyn FnMut(Piece) -> Result<(), E>,
    ) -> Result<(), E> {
        match &entry.content {
            Content::Chunks { chunks, depth, extents } => {
                let chunks = self.chunk_ids(chunks, *depth, &mut |_| ())?;
                let whole = [tree::Extent { offset: 0, length: entry.size }];
                let extents = if extents.is_empty() { &whole } else { extents.as_slice() };
                self.stream_pieces(&chunks, extents, visit)
            }
            Content::Pages { page_bytes, root, depth } => {
                self.page_pieces(entry.size, *page_bytes, root, *depth, visit)
            }
            _ => Ok(()),
        }
    }

    fn stream_pieces<E: From<RepositoryError>>(
        &self,
        chunks: &[ChunkId],
        extents: &[tree::Extent],
        visit: &mut dyn FnMut(Piece) -> Result<(), E>,
    ) -> Result<(), E> {
        let index = self.index();
        let mut extents = extents.iter().copied().filter(|extent| extent.length > 0);
        let mut extent = extents.next();
        for id in chunks {
            let length = match index.find(id, ChunkRole::Bytes) {
                Some(copy) => copy.length,
                None => self.chunk(id, ChunkRole::Bytes)?.1.len() as u32,
            };
            let mut start = 0;
            while start < length {
                let Some(current) = &mut extent else {
                    return Err(RepositoryError::damaged(
                        format!("chunk {id}"),
                        "the stream is longer than its extents",
                    )
                    .into());
                };
                let part = u64::from(length - start).min(current.length) as u32;
                visit(Piece {
                    offset: current.offset,
                    length: part,
                    source: PieceSource::Chunk { id: *id, start },
                })?;
                start += part;
                current.offset += u64::from(part);
                current.length -= u64::from(part);
                if current.length == 0 {
                    extent = extents.next();
                }
            }
        }
        match extent {
            None => Ok(()),
            Some(_) => {
                Err(RepositoryError::damaged("a file's content", "the stream is shorter than the file")
                    .into())
            }
        }
    }

    fn page_pieces<E: From<RepositoryError>>(
        &self,
        size: u64,
        page_bytes: u32,
        root: &ChunkId,
        depth: u8,
        visit: &mut dyn FnMut(Piece) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut offset = 0;
        for leaf in self.leaves(root, depth, &mut |_| ())? {
            for slot in self.leaf(&leaf)?.0.slots {
                let length = u64::from(page_bytes).min(size.saturating_sub(offset)) as u32;
                if let PageSlot::Stored { block, slot, hash } = slot
                    && length > 0
                {
                    visit(Piece { offset, length, source: PieceSource::Page { block, slot, hash } })?;
                }
                offset += u64::from(page_bytes);
            }
        }
        if offset >= size {
            Ok(())
        } else {
            Err(RepositoryError::damaged(format!("node {root}"), "the page map is shorter than the file")
                .into())
        }
    }
}

/// Takes an entry with the path of its directory, and says whether to go into it.
pub type VisitEntry<'v, E> = dyn FnMut(&[u8], &Entry) -> Result<Descend, E> + 'v;

/// Whether to go into a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descend {
    /// Its entries come next.
    Yes,
    /// Pass over its entries.
    No,
}

/// A directory being walked.
struct Level {
    nodes: std::vec::IntoIter<ChunkId>,
    entries: std::vec::IntoIter<Entry>,
    ascending: Ascending,
    path_length: usize,
}

impl Level {
    fn new(nodes: &[ChunkId], path_length: usize) -> Self {
        let (nodes, entries) = (Vec::from(nodes).into_iter(), Vec::new().into_iter());
        Self { nodes, entries, ascending: Ascending::default(), path_length }
    }

    fn next(&mut self, reader: &Reader) -> Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Ok(Some(entry));
            }
            match self.nodes.next() {
                Some(node) => {
                    let entries = reader.entries(&node)?;
                    self.ascending.check(&node, &entries)?;
                    self.entries = entries.into_iter();
                }
                None => return Ok(None),
            }
        }
    }
}

/// Refuses more levels than any content has: with fewer, something else would be restored than was meant.
fn checked_depth(depth: u8) -> Result<u8> {
    if depth <= MAX_LIST_DEPTH {
        return Ok(depth);
    }
    Err(RepositoryError::damaged("the tree", format!("content lies {depth} levels deep")))
}

/// The entries of a directory's nodes, which ascend from node to node as they do within one.
#[derive(Default)]
struct Ascending {
    last: Vec<u8>,
}

impl Ascending {
    fn check(&mut self, node: &ChunkId, entries: &[Entry]) -> Result<()> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        if first.name <= self.last {
            let what = "its names do not sort after those of the node before it";
            return Err(RepositoryError::damaged(format!("node {node}"), what));
        }
        self.last.clone_from(&last.name);
        Ok(())
    }
}

/// Encodes a list of chunks.
pub(crate) fn encode_list(chunks: &[ChunkId]) -> Vec<u8> {
    [b"LBCL".as_slice(), &chunks.iter().flat_map(|id| id.0).collect::<Vec<u8>>()].concat()
}

pub(crate) fn decode_list(id: &ChunkId, bytes: &[u8]) -> Result<Vec<ChunkId>> {
    let damaged = || RepositoryError::damaged(format!("node {id}"), "it is no list of chunks");
    let list = bytes
        .strip_prefix(b"LBCL")
        .filter(|l| l.len() % 32 == 0 && l.len() <= CHUNKS_PER_LIST * 32)
        .ok_or_else(damaged)?;
    list.chunks_exact(32).map(|id| Ok(ChunkId(id.try_into().map_err(|_| damaged())?))).collect()
}
