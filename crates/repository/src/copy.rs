//! Copy: carries snapshots to another repository, which has a root, keys and retention of its own and the
//! same identities of chunks.
//!
//! What a snapshot's writer signed is carried verbatim, at a slot of the copier's own chain, so that the
//! protocol of writers and prune holds in the copy as it does in the origin. The copy's root countersigns the
//! origin's. Tombstones are never carried: one stolen maintainer cannot erase both. Logs follow their snapshots.

use crate::bodies::CopiedSnapshot;
use crate::envelope::ObjectType;
use crate::error::{RepositoryError, Result};
use crate::ids::{BodyHash, ChunkId, DatasetName, Position};
use crate::index::ChunkRole;
use crate::layout;
use crate::lease::WriterLease;
use crate::log;
use crate::pack::{BlockKind, ChunkRecord};
use crate::pipeline::{Pipeline, plain};
use crate::reader::{PieceSource, Reader, Request};
use crate::receipts;
use crate::repository::{Claim, Repository};
use crate::snapshots::{Filled, Published};
use crate::walk::Reference;
use lifeboat_base::failpoint;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// What copying did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// The snapshots that were copied now.
    pub copied: Vec<BodyHash>,
    /// How many were there already.
    pub already: u64,
    /// Bytes that the copy stored for them.
    pub stored_bytes: u64,
    /// Log objects of their datasets that were copied now.
    pub logs: u64,
    /// Bytes that the copy stored for those.
    pub log_bytes: u64,
    /// Log objects that could not be read in the origin, each with the reason, and are not in the copy.
    pub left_out: Vec<String>,
    /// Receipts that were copied now.
    pub receipts: u64,
    /// Receipts that were not, each with the reason.
    pub receipts_left_out: Vec<String>,
}

/// What a copy holds, and what it ever held.
#[derive(Clone, Debug, Default)]
pub struct Held {
    ever: HashSet<BodyHash>,
    kept: Vec<Published>,
}

impl Held {
    /// Reads it.
    ///
    /// # Errors
    /// Where a slot of the copy cannot be read: nobody knows then what was there.
    pub fn of(repository: &Repository) -> Result<Self> {
        let forgotten = repository.forgotten()?;
        let mut held = Self::default();
        for listed in lifeboat_objects::list_all(&*repository.store, layout::SNAPSHOTS)? {
            let Some(position) = layout::position(&listed.key) else { continue };
            if let Some(Filled::Snapshot(opened)) = repository.slot(&position)? {
                held.ever.insert(opened.hash);
                if !forgotten.contains(&position) {
                    held.kept.push(Published::new(position, *opened));
                }
            }
        }
        held.kept.sort_by_key(|published| (published.snapshot.taken, published.snapshot.position.clone()));
        Ok(held)
    }

    /// Whether a snapshot was ever copied there or published there, also if it is forgotten now.
    pub fn has_had(&self, snapshot: &BodyHash) -> bool {
        self.ever.contains(snapshot)
    }

    /// The snapshots that are not forgotten, oldest first.
    pub fn kept(&self) -> &[Published] {
        &self.kept
    }
}

/// Copies snapshots from `origin` to `target`, then the logs of their datasets, then the receipts. Snapshots that are there
/// already, also as forgotten ones, are passed over; so are logs that are there, those that end before
/// what any snapshot of the copy needs, and those of which the copy has let everything expire that it has not.
///
/// # Errors
/// Where the two do not share their identities of chunks, or reading or writing failed; what was copied
/// before stays.
pub fn copy(
    origin: &Arc<Repository>,
    target: &Arc<Repository>,
    snapshots: &[Published],
) -> Result<CopyReport> {
    copy_beside(origin, target, snapshots, Held::of(target)?)
}

/// As [`copy`], where it is known already what the copy holds.
///
/// # Errors
/// As [`copy`].
pub fn copy_beside(
    origin: &Arc<Repository>,
    target: &Arc<Repository>,
    snapshots: &[Published],
    held: Held,
) -> Result<CopyReport> {
    let shared = origin.keys.id_key.chunk(b"probe") == target.keys.id_key.chunk(b"probe");
    if !shared {
        return Err(RepositoryError::Unknown(
            "shared identity of chunks: the copy must be made with `lifeboat repo init --copy-of`".to_owned(),
        ));
    }
    if !target.knows_origin(origin) {
        target.countersign_origin(origin)?;
    }
    let mut report = CopyReport::default();
    let mut there = held.ever;
    let all = origin.judged_snapshots(None, &mut Vec::new())?;
    for published in snapshots {
        // In the copy nobody could tell any more that its leader had been replaced.
        if all.void.iter().any(|void| void.id == published.id) {
            return Err(RepositoryError::NoSuchSnapshot(format!("{} that counts", published.id.short())));
        }
        if there.contains(&published.id) {
            report.already += 1;
            continue;
        }
        let left_out = left_out(&all.counted, snapshots, published, &there);
        report.stored_bytes += copy_one(origin, target, published, left_out)?;
        report.copied.push(published.id);
        there.insert(published.id);
    }
    let datasets: BTreeSet<&DatasetName> = snapshots.iter().map(|p| &p.snapshot.position.dataset).collect();
    for dataset in datasets {
        log::carry(origin, target, dataset, &mut report)?;
    }
    let receipts = receipts::carry(origin, target)?;
    report.receipts = receipts.receipts;
    report.receipts_left_out = receipts.left_out;
    Ok(report)
}

/// Earlier snapshots of the same dataset that the copy will not have.
fn left_out(
    all: &[Published],
    chosen: &[Published],
    published: &Published,
    there: &HashSet<BodyHash>,
) -> Vec<Position> {
    let chosen: HashSet<BodyHash> = chosen.iter().map(|p| p.id).collect();
    all.iter()
        .filter(|p| {
            p.snapshot.position.dataset == published.snapshot.position.dataset
                && p.snapshot.taken < published.snapshot.taken
        })
        .filter(|p| !chosen.contains(&p.id) && !there.contains(&p.id))
        .map(|p| p.snapshot.position.clone())
        .collect()
}

fn copy_one(
    origin: &Arc<Repository>,
    target: &Arc<Repository>,
    published: &Published,
    left_out: Vec<Position>,
) -> Result<u64> {
    if !target.trust().knows(&published.snapshot.repository) {
        let repository = published.snapshot.repository;
        let what = format!("roster of repository {repository} in the copy: copy its snapshots from that one");
        return Err(RepositoryError::Unknown(what));
    }
    let signer = target.writer()?;
    let lease = WriterLease::claim(target, &signer, &published.snapshot.position.dataset, None)?;
    let lists = target.read_lists()?;
    let known = Reader::with_index(target, Arc::new(target.load_index(&lists)?));
    let source = Reader::new(origin)?;
    let mut carrier = Carrier { source: &source, known: &known, pipeline: Pipeline::new(target, &signer)? };
    let carried = carrier.carry(published);
    let stored = carried.and_then(|()| carrier.pipeline.finish());
    let stored = match stored {
        Ok(stored) => stored.bytes,
        Err(error) => {
            let _ = lease.release();
            return Err(error);
        }
    };
    let Some(Filled::Snapshot(opened)) = origin.slot(&published.slot)? else {
        let _ = lease.release();
        return Err(RepositoryError::NoSuchSnapshot(published.id.short()));
    };
    let position = lease.position().clone();
    let body = CopiedSnapshot {
        repository: target.id(),
        position: position.clone(),
        snapshot: opened.signed,
        left_out,
        at: target.clock().now(),
    };
    failpoint::reach("copy::before-publication").map_err(|e| RepositoryError::Io("publish the copy", e))?;
    let claim =
        target.create_signed(ObjectType::CopiedSnapshot, &layout::snapshot(&position), &body, &signer)?;
    lease.forget()?;
    match claim {
        Claim::Won => Ok(stored),
        // The slot was voided: nothing is published, and the next attempt finds what was stored.
        Claim::Lost => Err(RepositoryError::KeptLosing(position)),
    }
}

struct Carrier<'c> {
    source: &'c Reader,
    known: &'c Reader,
    pipeline: Pipeline,
}

impl Carrier<'_> {
    /// Stores everything that a snapshot refers to and the copy lacks.
    fn carry(&mut self, published: &Published) -> Result<()> {
        let mut references = HashSet::new();
        self.source.references(&published.snapshot, &mut HashSet::new(), &mut |reference| {
            references.insert(reference);
        })?;
        let known = self.known.index();
        let mut chunks = BTreeSet::new();
        let mut blocks: BTreeMap<ChunkId, BTreeSet<u16>> = BTreeMap::new();
        let mut nodes = Vec::new();
        for reference in references {
            match reference {
                Reference::Chunk(id) if !known.is_present(&id, ChunkRole::Bytes) => {
                    chunks.insert(id);
                }
                Reference::Node(id) if !known.is_present(&id, ChunkRole::Bytes) => nodes.push(id),
                Reference::Leaf(id) if !known.is_present(&id, ChunkRole::Leaf) => self.leaf(&id)?,
                Reference::Page { block, slot, .. } if !known.is_present_whole(&block) => {
                    blocks.entry(block).or_default().insert(slot);
                }
                _ => {}
            }
        }
        for (block, slots) in blocks {
            self.page_block(&block, &slots)?;
        }
        self.chunks(chunks)?;
        for id in nodes {
            let (_, bytes) = self.source.chunk(&id, ChunkRole::Bytes)?;
            self.pipeline.push(BlockKind::Node, 0, plain(id, &bytes), &bytes)?;
        }
        Ok(())
    }

    fn leaf(&mut self, id: &ChunkId) -> Result<()> {
        let bytes = self.source.leaf(id)?.0.encode();
        self.pipeline.push(BlockKind::Node, 0, plain(*id, &bytes), &bytes)
    }

    /// A page block as the origin has it; where the origin has only parts, all parts.
    fn page_block(&mut self, block: &ChunkId, slots: &BTreeSet<u16>) -> Result<()> {
        let there = self.known.present_slots(block);
        if slots.iter().all(|slot| there.contains(slot)) {
            return Ok(());
        }
        let index = self.source.index();
        let copies: Vec<_> = index.serving(block, ChunkRole::Pages).copied().collect();
        let whole = copies.iter().find(|copy| index.block_of(copy).kind == BlockKind::Pages);
        let wanted = whole.map_or(copies.as_slice(), std::slice::from_ref);
        if wanted.is_empty() {
            return Err(RepositoryError::MissingChunk(*block));
        }
        for copy in wanted {
            let bytes = self.source.copy(&index, copy)?;
            let record = ChunkRecord { id: *block, length: bytes.len() as u32, base: None };
            self.pipeline.push(index.block_of(copy).kind, 0, record, &bytes)?;
        }
        Ok(())
    }

    /// Content, block by block as it lies in the origin.
    fn chunks(&mut self, chunks: BTreeSet<ChunkId>) -> Result<()> {
        let index = self.source.index();
        let mut ids = Vec::new();
        let mut requests = Vec::new();
        for id in chunks {
            let copy = index.find(&id, ChunkRole::Bytes).ok_or(RepositoryError::MissingChunk(id))?;
            requests.push(Request {
                source: PieceSource::Chunk { id, start: 0 },
                length: copy.length,
                token: ids.len() as u64,
            });
            ids.push((id, copy.block as usize));
        }
        let pipeline = Mutex::new(&mut self.pipeline);
        self.source.fetch(requests, 1, &|token, bytes| {
            let (id, hint) = ids[token as usize];
            let mut pipeline = pipeline.lock().unwrap_or_else(PoisonError::into_inner);
            pipeline.push(BlockKind::Data, hint, plain(id, bytes), bytes).map_err(Into::into)
        })
    }
}
