//! What damage costs: every snapshot is walked, and the files that cannot be restored whole are named.

use super::{Bad, Check, LostFile};
use crate::error::Result;
use crate::ids::ChunkId;
use crate::index::{ChunkRole, Index, Located, MAX_DELTA_DEPTH};
use crate::pack::BlockKind;
use crate::pages::PageBlock;
use crate::reader::Reader;
use crate::snapshots::Published;
use crate::tree::{Content, Entry, display_bytes};
use crate::walk::Reference;
use std::cell::{Ref, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

impl Check<'_> {
    /// Every snapshot, with every reference; the files that a damaged or missing chunk costs.
    pub(super) fn snapshots(&mut self, index: Index, bad: &Bad, snapshots: &[Published]) -> Result<()> {
        let reader = Reader::with_index(self.repository, Arc::new(index));
        let readable = Readable::new(&reader, bad);
        let mut seen = HashSet::new();
        // What was seen is passed over, so that once something is lost, every later snapshot may share it.
        let mut damaged = !bad.is_empty();
        for published in snapshots {
            self.report.snapshots += 1;
            let walked = reader.references(&published.snapshot, &mut seen, &mut |reference| {
                damaged |= !readable.has(&reference);
            });
            damaged |= walked.is_err();
            if damaged {
                self.name_lost_files(&readable, published);
            }
        }
        Ok(())
    }

    /// Looks through a snapshot file by file. A directory whose listing cannot be read is named itself.
    fn name_lost_files(&mut self, readable: &Readable<'_>, published: &Published) {
        let mut lost = BTreeSet::new();
        let mut links = Vec::new();
        let mut pending = vec![(Vec::new(), published.snapshot.root.clone())];
        while let Some((path, nodes)) = pending.pop() {
            for node in nodes {
                let Some(entries) = readable.entries(&node) else {
                    lost.insert(path.clone());
                    continue;
                };
                for entry in entries {
                    let below = joined(&path, &entry.name);
                    match &entry.content {
                        Content::Listing { nodes } => pending.push((below, nodes.clone())),
                        Content::HardLink { path: target } => links.push((below, target.clone())),
                        _ if !readable.has_content(&entry) => {
                            lost.insert(below);
                        }
                        _ => {}
                    }
                }
            }
        }
        let unlinked: Vec<_> =
            links.into_iter().filter(|(_, target)| is_lost(&lost, target)).map(|(path, _)| path).collect();
        let snapshot = format!("{} ({})", published.id.short(), published.slot);
        for path in lost.into_iter().chain(unlinked) {
            self.lose(&snapshot, &path);
        }
    }

    fn lose(&mut self, snapshot: &str, path: &[u8]) {
        self.report.lost.push(LostFile { snapshot: snapshot.to_owned(), path: display_bytes(path) });
        if self.report.problems.is_empty() {
            self.problem(snapshot, format!("{} cannot be restored whole", display_bytes(path)));
        }
    }
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
    [directory, slash, name].concat()
}

/// Whether a path, or a directory above it, is among those that are lost.
fn is_lost(lost: &BTreeSet<Vec<u8>>, path: &[u8]) -> bool {
    let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
    above.chain([path, b"".as_slice()]).any(|path| lost.contains(path))
}

/// What of a repository can be read.
struct Readable<'r> {
    reader: &'r Reader,
    bad: &'r Bad,
    /// The reader's index, and how many times it had been read again by then.
    index: RefCell<(usize, Arc<Index>)>,
    /// For each page block of which no whole copy is left: the slots that the others hold.
    slots: RefCell<HashMap<ChunkId, HashSet<u16>>>,
}

impl<'r> Readable<'r> {
    fn new(reader: &'r Reader, bad: &'r Bad) -> Self {
        let index = RefCell::new((reader.refreshed(), reader.index()));
        Self { reader, bad, index, slots: RefCell::default() }
    }

    /// The reader's index as it is now. Asked for with every reference, so that it is taken from the reader
    /// only when it was read again since.
    fn index(&self) -> Ref<'_, Index> {
        let refreshed = self.reader.refreshed();
        if self.index.borrow().0 != refreshed {
            *self.index.borrow_mut() = (refreshed, self.reader.index());
        }
        Ref::map(self.index.borrow(), |(_, index)| &**index)
    }

    /// Whether some copy of what is referred to is in the index and not known to be bad.
    fn has(&self, reference: &Reference) -> bool {
        let index = self.index();
        match reference {
            Reference::Node(id) | Reference::Chunk(id) => {
                self.good(&index, id, ChunkRole::Bytes).next().is_some()
            }
            Reference::Leaf(id) => self.has_leaf(&index, id, MAX_DELTA_DEPTH),
            Reference::Page { block, slot, .. } => {
                self.good(&index, block, ChunkRole::Pages)
                    .any(|copy| index.block_of(copy).kind == BlockKind::Pages)
                    || self.has_slot(&index, block, *slot)
            }
        }
    }

    /// Whether a leaf is there, and the bases of its differences.
    fn has_leaf(&self, index: &Index, id: &ChunkId, depth_left: u32) -> bool {
        let stands = |base: ChunkId| depth_left > 0 && self.has_leaf(index, &base, depth_left - 1);
        self.good(index, id, ChunkRole::Leaf).any(|copy| index.base_of(copy).is_none_or(stands))
    }

    fn good<'i>(
        &'i self,
        index: &'i Index,
        id: &ChunkId,
        role: ChunkRole,
    ) -> impl Iterator<Item = &'i Located> {
        index
            .serving(id, role)
            .filter(|copy| !self.bad.contains(&(index.pack_of(copy).name, index.block_of(copy).number)))
    }

    fn has_slot(&self, index: &Index, block: &ChunkId, slot: u16) -> bool {
        let mut known = self.slots.borrow_mut();
        let slots = known.entry(*block).or_insert_with(|| {
            let mut slots = HashSet::new();
            for copy in self.good(index, block, ChunkRole::Pages) {
                let Ok(bytes) = self.reader.copy(index, copy) else { continue };
                let Ok(pages) = PageBlock::decode(&bytes) else { continue };
                slots.extend((0..pages.slots() as u16).filter(|slot| pages.page(*slot).is_some()));
            }
            slots
        });
        slots.contains(&slot)
    }

    fn entries(&self, node: &ChunkId) -> Option<Vec<Entry>> {
        if self.has(&Reference::Node(*node)) { self.reader.entries(node).ok() } else { None }
    }

    fn has_content(&self, entry: &Entry) -> bool {
        let mut whole = true;
        let walked = self
            .reader
            .content_references(entry, &mut HashSet::new(), &mut |reference| whole &= self.has(&reference));
        walked.is_ok() && whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::ChunkRecord;
    use crate::pipeline::Pipeline;
    use crate::testing;

    #[test]
    fn an_index_that_was_read_again_during_a_walk_counts() {
        let repository = testing::repository();
        let reader = Reader::new(&repository).unwrap();
        let bad = Bad::new();
        let readable = Readable::new(&reader, &bad);
        let bytes = b"stored after the index was read";
        let id = repository.keys.id_key.chunk(bytes);
        let signer = repository.writer().unwrap();
        let mut pipeline = Pipeline::new(&repository, &signer).unwrap();
        let record = ChunkRecord { id, length: bytes.len() as u32, base: None };
        pipeline.push(BlockKind::Data, 0, record, bytes).unwrap();
        pipeline.finish().unwrap();
        assert!(!readable.has(&Reference::Chunk(id)));
        reader.chunk(&id, ChunkRole::Bytes).unwrap();
        assert!(readable.has(&Reference::Chunk(id)));
    }

    #[test]
    fn differences_that_go_in_circles_ended_the_check_with_its_stack() {
        let repository = testing::repository();
        let signer = repository.writer().unwrap();
        let [one, other] = [b"one", b"two"].map(|bytes| repository.keys.id_key.chunk(bytes));
        let mut pipeline = Pipeline::new(&repository, &signer).unwrap();
        for (id, base) in [(one, other), (other, one)] {
            let record = ChunkRecord { id, length: 3, base: Some(base) };
            pipeline.push(BlockKind::Delta, 0, record, b"any").unwrap();
        }
        pipeline.finish().unwrap();
        let reader = Reader::new(&repository).unwrap();
        let bad = Bad::new();
        assert!(!Readable::new(&reader, &bad).has(&Reference::Leaf(one)));
    }
}
