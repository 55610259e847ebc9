//! A snapshot's tree in memory, in the place of a repository: for tests of what a hostile snapshot can
//! do. It holds whatever it is given; nothing is checked.

use crate::materialise::MaterialiseError;
use crate::tree::{LostListing, TreeReader, VisitEntry, VisitPiece};
use lifeboat_repository::ids::ChunkId;
use lifeboat_repository::tree::{Content, Entry, Extent, Metadata};
use lifeboat_repository::{DeliverRun, Descend, Lost, Piece, PieceSource, RepositoryError, Request};
use std::collections::HashMap;
use std::sync::Arc;

/// How many entries a node holds: few, so that listings have several.
const NODE_ENTRIES: usize = 3;
/// How streams are cut.
const CHUNK_BYTES: usize = 10_000;
/// How many threads deliver.
const THREADS: usize = 3;

/// A tree in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryTree {
    /// The nodes of the root's listing.
    pub(crate) nodes: Vec<ChunkId>,
    /// The root's metadata.
    pub(crate) metadata: Metadata,
    listings: HashMap<ChunkId, Vec<Entry>>,
    chunks: HashMap<ChunkId, Arc<[u8]>>,
}

impl MemoryTree {
    /// Adds a listing and gives back its nodes.
    pub(crate) fn add_listing(&mut self, entries: Vec<Entry>) -> Vec<ChunkId> {
        let nodes = entries.chunks(NODE_ENTRIES).map(|entries| {
            let id = number(self.listings.len());
            self.listings.insert(id, entries.to_vec());
            id
        });
        nodes.collect()
    }

    /// Adds a stream and gives back its content.
    pub(crate) fn add_stream(&mut self, bytes: &[u8]) -> Content {
        let ids = bytes.chunks(CHUNK_BYTES).map(|chunk| {
            let id = number(self.chunks.len());
            self.chunks.insert(id, chunk.into());
            id
        });
        Content::Chunks { chunks: ids.collect(), depth: 0, extents: Vec::new() }
    }

    /// Forgets the chunks of a stream, as a damaged repository would.
    pub(crate) fn lose_content(&mut self, content: &Content) {
        if let Content::Chunks { chunks, .. } = content {
            chunks.iter().for_each(|id| drop(self.chunks.remove(id)));
        }
    }

    /// Forgets a listing, as a damaged repository would.
    pub(crate) fn lose_listing(&mut self, content: &Content) {
        if let Content::Listing { nodes } = content {
            nodes.iter().for_each(|id| drop(self.listings.remove(id)));
        }
    }

    fn stream_length(&self, chunks: &[ChunkId]) -> Result<u64, RepositoryError> {
        chunks.iter().map(|id| Ok(self.chunk(id)?.len() as u64)).sum()
    }

    fn chunk(&self, id: &ChunkId) -> Result<&Arc<[u8]>, RepositoryError> {
        self.chunks.get(id).ok_or(RepositoryError::MissingChunk(*id))
    }
}

fn number(n: usize) -> ChunkId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(n as u64).to_be_bytes());
    ChunkId(id)
}

impl MemoryTree {
    fn listing(&self, nodes: &[ChunkId]) -> Result<Vec<Entry>, RepositoryError> {
        let mut entries = Vec::new();
        for node in nodes {
            entries.extend_from_slice(self.listings.get(node).ok_or(RepositoryError::MissingChunk(*node))?);
        }
        Ok(entries)
    }

    fn part(&self, request: &Request) -> Result<&[u8], RepositoryError> {
        let PieceSource::Chunk { id, start } = request.source else { return Err(RepositoryError::Aborted) };
        let start = start as usize;
        self.chunk(&id)?.get(start..start + request.length as usize).ok_or(RepositoryError::MissingChunk(id))
    }
}

impl TreeReader for MemoryTree {
    fn root_metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn walk(&self, visit: &mut VisitEntry<'_>, lost: &mut LostListing<'_>) -> Result<(), MaterialiseError> {
        let mut levels = vec![(Vec::new(), self.listing(&self.nodes)?.into_iter())];
        while let Some((path, entries)) = levels.last_mut() {
            let Some(entry) = entries.next() else {
                levels.pop();
                continue;
            };
            if let (Descend::Yes, Content::Listing { nodes }) = (visit(path, &entry)?, &entry.content) {
                let below = if path.is_empty() { entry.name } else { [&path[..], &entry.name].join(&b'/') };
                match self.listing(nodes) {
                    Ok(listing) => levels.push((below, listing.into_iter())),
                    Err(error) => lost(&below, error)?,
                }
            }
        }
        Ok(())
    }

    fn entry(&self, path: &[u8]) -> Result<Option<Entry>, RepositoryError> {
        let (mut nodes, mut found) = (self.nodes.clone(), None);
        for name in path.split(|byte| *byte == b'/') {
            found = self.listing(&nodes)?.into_iter().find(|entry| entry.name == name);
            nodes = match &found {
                Some(Entry { content: Content::Listing { nodes }, .. }) => nodes.clone(),
                _ => Vec::new(),
            };
        }
        Ok(found)
    }

    fn pieces(&self, entry: &Entry, visit: &mut VisitPiece<'_>) -> Result<(), MaterialiseError> {
        let Content::Chunks { chunks, extents, .. } = &entry.content else { return Ok(()) };
        let whole = [Extent { offset: 0, length: self.stream_length(chunks)? }];
        let mut extents = if extents.is_empty() { &whole[..] } else { extents }.iter().copied();
        let mut extent = extents.next();
        for id in chunks {
            let chunk_length = self.chunk(id)?.len() as u32;
            let mut start = 0;
            while let Some(at) = extent.as_mut().filter(|_| start < chunk_length) {
                let length = u32::try_from(at.length).unwrap_or(u32::MAX).min(chunk_length - start);
                visit(Piece { offset: at.offset, length, source: PieceSource::Chunk { id: *id, start } })?;
                at.offset += u64::from(length);
                at.length -= u64::from(length);
                start += length;
                if at.length == 0 {
                    extent = extents.next();
                }
            }
        }
        Ok(())
    }

    /// In an order that is not the one asked for, from several threads.
    fn fetch(
        &self,
        requests: Vec<Request>,
        deliver: &DeliverRun<'_>,
        lost: &Lost<'_>,
    ) -> Result<(), RepositoryError> {
        let deliver_one = |request: &Request| match self.part(request) {
            Ok(part) => deliver(request.token..request.token + 1, part).map_err(RepositoryError::Delivery),
            Err(error) => lost(request.token, error),
        };
        let deliver_share =
            |thread| requests.iter().rev().skip(thread).step_by(THREADS).try_for_each(deliver_one);
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..THREADS).map(|thread| scope.spawn(move || deliver_share(thread))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(RepositoryError::Aborted)))
        })
    }
}
