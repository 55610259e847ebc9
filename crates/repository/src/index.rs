//! The index: which chunk is in which block of which pack (docs/format.md, Index).
//!
//! An index object holds whole packs: every block and chunk of each pack that it names. It is a sorted
//! table of fixed-width records, so that a later release can search it on disk as it is. In memory the
//! tables of all index objects become one, sorted by identity.
//!
//! This module knows the table and the look-up. What condemns a pack is for [`crate::lists`].

use crate::error::{RepositoryError, Result};
use crate::ids::{BulkName, ChunkId, RepositoryId};
use crate::pack::{BlockKind, BlockRecord, ChunkRecord, HEADER_BYTES, MAX_BLOCK_BYTES, MAX_PACK_BYTES};
use crate::snapshots::Unreadable;
use lifeboat_base::random;
use std::cmp::Ordering;
use std::collections::HashMap;

const MAGIC: &[u8; 4] = b"LBIX";
const HEADER: usize = 4 + 16 + 16 + 16;
const PACK_RECORD: usize = 32 + 4 + 4;
const BLOCK_RECORD: usize = 4 + 4 + 4 + 4 + 4 + 4;
const ENTRY_RECORD: usize = 32 + 4 + 4 + 4;
const DELTA_RECORD: usize = 32 + 4 + 32;

/// The most chunks, blocks and differences of one index object, so that it stays within one PUT.
pub(crate) const MAX_ENTRIES: usize = 400_000;

/// A pack as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexedPack {
    pub(crate) name: BulkName,
    pub(crate) size_bytes: u32,
    pub(crate) blocks: Vec<BlockRecord>,
}

/// Encodes the body of an index object that describes `packs`.
pub(crate) fn encode(repository: &RepositoryId, packs: &[IndexedPack]) -> Vec<u8> {
    let blocks: usize = packs.iter().map(|pack| pack.blocks.len()).sum();
    let mut entries = Vec::new();
    let mut deltas = Vec::new();
    let mut body = Vec::new();
    let mut block_bytes = Vec::with_capacity(blocks * BLOCK_RECORD);
    let mut block_number = 0u32;
    let mut pack_bytes = Vec::with_capacity(packs.len() * PACK_RECORD);
    for (pack_number, pack) in packs.iter().enumerate() {
        pack_bytes.extend_from_slice(&pack.name.0);
        pack_bytes.extend_from_slice(&pack.size_bytes.to_le_bytes());
        pack_bytes.extend_from_slice(&(pack.blocks.len() as u32).to_le_bytes());
        for (within, block) in pack.blocks.iter().enumerate() {
            let flags = u32::from(block.kind as u8) | u32::from(block.compressed) << 8;
            for field in
                [pack_number as u32, within as u32, block.offset, block.stored_bytes, block.raw_bytes, flags]
            {
                block_bytes.extend_from_slice(&field.to_le_bytes());
            }
            let mut offset = 0;
            for chunk in &block.chunks {
                entries.push((chunk.id, block_number, offset, chunk.length));
                if let Some(base) = chunk.base {
                    deltas.push((chunk.id, block_number, base));
                }
                offset += chunk.length;
            }
            block_number += 1;
        }
    }
    entries.sort_unstable();
    deltas.sort_unstable();
    body.extend_from_slice(MAGIC);
    body.extend_from_slice(&repository.0);
    body.extend_from_slice(&random::bytes::<16>());
    for count in [packs.len(), blocks, entries.len(), deltas.len()] {
        body.extend_from_slice(&(count as u32).to_le_bytes());
    }
    body.extend_from_slice(&pack_bytes);
    body.extend_from_slice(&block_bytes);
    for (id, block, offset, length) in entries {
        body.extend_from_slice(&id.0);
        for field in [block, offset, length] {
            body.extend_from_slice(&field.to_le_bytes());
        }
    }
    for (id, block, base) in deltas {
        body.extend_from_slice(&id.0);
        body.extend_from_slice(&block.to_le_bytes());
        body.extend_from_slice(&base.0);
    }
    body
}

/// Why the body of an index object could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the index table is malformed: {0}")]
pub struct IndexError(&'static str);

/// Reads the body of an index object.
pub(crate) fn decode(body: &[u8]) -> std::result::Result<(RepositoryId, Vec<IndexedPack>), IndexError> {
    let header = body.get(..HEADER).ok_or(IndexError("it ends within its header"))?;
    if &header[..4] != MAGIC {
        return Err(IndexError("it does not start as one"));
    }
    let mut repository = [0; 16];
    repository.copy_from_slice(&header[4..20]);
    let [packs, blocks, entries, deltas] = [0, 1, 2, 3].map(|n| word(header, 36 + n * 4) as usize);
    let sizes =
        [(packs, PACK_RECORD), (blocks, BLOCK_RECORD), (entries, ENTRY_RECORD), (deltas, DELTA_RECORD)];
    let total = sizes.iter().try_fold(HEADER, |sum, (n, size)| sum.checked_add(n.checked_mul(*size)?));
    if total != Some(body.len()) {
        return Err(IndexError("its counts and its length disagree"));
    }
    if blocks.saturating_add(entries).saturating_add(deltas) > MAX_ENTRIES {
        return Err(IndexError("it has more entries than index objects may have"));
    }
    let (pack_part, rest) = body[HEADER..].split_at(packs * PACK_RECORD);
    let (block_part, rest) = rest.split_at(blocks * BLOCK_RECORD);
    let (entry_part, delta_part) = rest.split_at(entries * ENTRY_RECORD);
    let mut table = decode_packs(pack_part)?;
    let places = decode_blocks(block_part, &mut table)?;
    decode_entries(entry_part, &places, &mut table)?;
    decode_deltas(delta_part, &places, &mut table)?;
    for block in table.iter().flat_map(|pack| &pack.blocks) {
        check_block(block)?;
    }
    Ok((RepositoryId(repository), table))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn id_at(bytes: &[u8], at: usize) -> ChunkId {
    let mut id = [0; 32];
    id.copy_from_slice(&bytes[at..at + 32]);
    ChunkId(id)
}

fn decode_packs(part: &[u8]) -> std::result::Result<Vec<IndexedPack>, IndexError> {
    part.chunks_exact(PACK_RECORD)
        .map(|record| {
            let size_bytes = word(record, 32);
            if size_bytes as usize > MAX_PACK_BYTES + (1 << 20) {
                return Err(IndexError("a pack is larger than packs may be"));
            }
            let blocks = Vec::with_capacity((word(record, 36) as usize).min(1024));
            Ok(IndexedPack { name: BulkName(id_at(record, 0).0), size_bytes, blocks })
        })
        .collect()
}

/// Where block *n* of the object is: pack and number within it.
fn decode_blocks(part: &[u8], packs: &mut [IndexedPack]) -> std::result::Result<Vec<(u32, u32)>, IndexError> {
    let mut places = Vec::with_capacity(part.len() / BLOCK_RECORD);
    for record in part.chunks_exact(BLOCK_RECORD) {
        let [pack, within, offset, stored_bytes, raw_bytes, flags] =
            [0, 4, 8, 12, 16, 20].map(|at| word(record, at));
        let target =
            packs.get_mut(pack as usize).ok_or(IndexError("a block names a pack that is not there"))?;
        if within as usize != target.blocks.len() {
            return Err(IndexError("blocks are out of order"));
        }
        if u64::from(offset) + u64::from(stored_bytes) > u64::from(target.size_bytes)
            || (offset as usize) < HEADER_BYTES
            || raw_bytes as usize > MAX_BLOCK_BYTES
            || flags >> 9 != 0
        {
            return Err(IndexError("a block lies outside its pack"));
        }
        let kind = BlockKind::from_number(flags as u8).ok_or(IndexError("a block is of an unknown kind"))?;
        let compressed = flags >> 8 & 1 == 1;
        target.blocks.push(BlockRecord {
            kind,
            compressed,
            offset,
            stored_bytes,
            raw_bytes,
            chunks: Vec::new(),
        });
        places.push((pack, within));
    }
    Ok(places)
}

fn decode_entries(
    part: &[u8],
    places: &[(u32, u32)],
    packs: &mut [IndexedPack],
) -> std::result::Result<(), IndexError> {
    let mut located: Vec<Vec<(u32, ChunkRecord)>> = vec![Vec::new(); places.len()];
    let mut previous: Option<&[u8]> = None;
    for record in part.chunks_exact(ENTRY_RECORD) {
        if previous.is_some_and(|previous| previous > &record[..32]) {
            return Err(IndexError("entries are out of order"));
        }
        previous = Some(&record[..32]);
        let [block, offset, length] = [32, 36, 40].map(|at| word(record, at));
        let list =
            located.get_mut(block as usize).ok_or(IndexError("an entry names a block that is not there"))?;
        list.push((offset, ChunkRecord { id: id_at(record, 0), length, base: None }));
    }
    for ((pack, within), mut chunks) in places.iter().zip(located) {
        chunks.sort_by_key(|(offset, chunk)| (*offset, chunk.length));
        let mut at = 0u64;
        for (offset, chunk) in &chunks {
            if u64::from(*offset) != at {
                return Err(IndexError("chunks do not fill their block"));
            }
            at += u64::from(chunk.length);
        }
        packs[*pack as usize].blocks[*within as usize].chunks =
            chunks.into_iter().map(|(_, chunk)| chunk).collect();
    }
    Ok(())
}

fn decode_deltas(
    part: &[u8],
    places: &[(u32, u32)],
    packs: &mut [IndexedPack],
) -> std::result::Result<(), IndexError> {
    for record in part.chunks_exact(DELTA_RECORD) {
        let (pack, within) = *places
            .get(word(record, 32) as usize)
            .ok_or(IndexError("a delta names a block that is not there"))?;
        let id = id_at(record, 0);
        let chunks = &mut packs[pack as usize].blocks[within as usize].chunks;
        let chunk = chunks
            .iter_mut()
            .find(|chunk| chunk.id == id)
            .ok_or(IndexError("a delta names a chunk that is not there"))?;
        chunk.base = Some(id_at(record, 36));
    }
    Ok(())
}

fn check_block(block: &BlockRecord) -> std::result::Result<(), IndexError> {
    let raw: u64 = block.chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
    if raw != u64::from(block.raw_bytes) {
        return Err(IndexError("chunks do not fill their block"));
    }
    if block.chunks.iter().any(|chunk| chunk.base.is_some() != (block.kind == BlockKind::Delta)) {
        return Err(IndexError("a delta has no base, or something else has one"));
    }
    Ok(())
}

/// For fuzzing: reads anything as the body of an index object.
#[doc(hidden)]
pub fn fuzz_index(bytes: &[u8]) -> bool {
    decode(bytes).is_ok()
}

/// Whether chunks of a pack may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Named by no list without verdict, and by no verdict.
    Present,
    /// Named by a list whose verdict is not there yet: may be read, may not be relied on.
    Condemned,
}

/// A pack in memory.
#[derive(Clone, Debug)]
pub(crate) struct PackInfo {
    pub(crate) name: BulkName,
    pub(crate) size_bytes: u32,
    pub(crate) standing: Standing,
}

/// A block in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockInfo {
    pub(crate) pack: u32,
    pub(crate) number: u32,
    pub(crate) offset: u32,
    pub(crate) stored_bytes: u32,
    pub(crate) raw_bytes: u32,
    pub(crate) kind: BlockKind,
    pub(crate) compressed: bool,
}

/// What a chunk is wanted as. Identities of differences and of page blocks are not those of their bytes, so
/// that a copy of one kind must not be taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ChunkRole {
    /// Bytes whose keyed hash is the identity: content, listings, lists, inner nodes.
    Bytes,
    /// A leaf of a page map, whole or as a difference.
    Leaf,
    /// A page block, whole or with slots dropped.
    Pages,
}

impl ChunkRole {
    pub(crate) fn is_served_by(self, kind: BlockKind) -> bool {
        match self {
            Self::Bytes => matches!(kind, BlockKind::Data | BlockKind::Node),
            Self::Leaf => matches!(kind, BlockKind::Node | BlockKind::Delta),
            Self::Pages => matches!(kind, BlockKind::Pages | BlockKind::SparsePages),
        }
    }
}

/// How many entries share one place of [`Places`], on average.
const ENTRIES_PER_PLACE: usize = 2;

/// The first bytes of an identity as a number that sorts as identities do. Identities are keyed hashes, so
/// that these bytes nearly always decide.
fn leading(id: &ChunkId) -> u64 {
    id.0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn compare(a: &ChunkId, b: &ChunkId) -> Ordering {
    leading(a).cmp(&leading(b)).then_with(|| a.cmp(b))
}

/// Where in the sorted entries to look for an identity: for each value of its leading bits the first entry.
/// Identities that somebody made up to share these bits cost a longer search and nothing else.
#[derive(Debug)]
struct Places {
    starts: Vec<u32>,
    /// How far the leading bytes are shifted to leave the bits that count.
    shift: u32,
}

impl Default for Places {
    /// Without entries: one place, which is empty.
    fn default() -> Self {
        Self { starts: vec![0, 0], shift: u64::BITS }
    }
}

impl Places {
    fn of(entries: &[Located]) -> Self {
        let bits = (entries.len() / ENTRIES_PER_PLACE).checked_ilog2().unwrap_or(0);
        let mut places = Self { starts: vec![0; (1 << bits) + 1], shift: u64::BITS - bits };
        for entry in entries {
            let place = places.place(&entry.id);
            places.starts[place + 1] += 1;
        }
        let mut sum = 0;
        for start in &mut places.starts {
            sum += *start;
            *start = sum;
        }
        places
    }

    fn place(&self, id: &ChunkId) -> usize {
        leading(id).checked_shr(self.shift).unwrap_or(0) as usize
    }

    /// The entries among which an identity is, if it is there.
    fn range(&self, id: &ChunkId) -> std::ops::Range<usize> {
        let place = self.place(id);
        self.starts[place] as usize..self.starts[place + 1] as usize
    }
}

/// Where one copy of a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) id: ChunkId,
    pub(crate) block: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// The index of a repository, as it was when it was read.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) packs: Vec<PackInfo>,
    pub(crate) blocks: Vec<BlockInfo>,
    /// Sorted by identity, the copies in present packs first.
    pub(crate) entries: Vec<Located>,
    places: Places,
    /// For each delta: identity, block and base, sorted.
    deltas: Vec<(ChunkId, u32, ChunkId)>,
    /// Index objects that do not count: damaged, or not signed by a writer.
    pub(crate) unreadable: Vec<Unreadable>,
}

impl Index {
    /// Takes the packs of an index object that a judge admits. A pack that is known already is passed over.
    pub(crate) fn add(
        &mut self,
        packs: Vec<IndexedPack>,
        judge: &mut dyn FnMut(&BulkName) -> Option<Standing>,
    ) {
        for pack in packs {
            let Some(standing) = judge(&pack.name) else { continue };
            let pack_number = self.packs.len() as u32;
            self.packs.push(PackInfo { name: pack.name, size_bytes: pack.size_bytes, standing });
            for (number, block) in pack.blocks.into_iter().enumerate() {
                self.add_block(pack_number, number as u32, block);
            }
        }
    }

    fn add_block(&mut self, pack: u32, number: u32, block: BlockRecord) {
        let block_number = self.blocks.len() as u32;
        self.blocks.push(BlockInfo {
            pack,
            number,
            offset: block.offset,
            stored_bytes: block.stored_bytes,
            raw_bytes: block.raw_bytes,
            kind: block.kind,
            compressed: block.compressed,
        });
        let mut offset = 0;
        for chunk in block.chunks {
            self.entries.push(Located { id: chunk.id, block: block_number, offset, length: chunk.length });
            if let Some(base) = chunk.base {
                self.deltas.push((chunk.id, block_number, base));
            }
            offset += chunk.length;
        }
    }

    /// Makes what was added searchable.
    pub(crate) fn sort(&mut self) {
        let (packs, blocks) = (&self.packs, &self.blocks);
        let condemned =
            |block: u32| packs[blocks[block as usize].pack as usize].standing == Standing::Condemned;
        self.entries.sort_unstable_by(|a, b| {
            let standing = |entry: &Located| (condemned(entry.block), entry.block);
            compare(&a.id, &b.id).then_with(|| standing(a).cmp(&standing(b)))
        });
        self.deltas.sort_unstable();
        self.entries.shrink_to_fit();
        self.places = Places::of(&self.entries);
    }

    /// Every copy of a chunk, those in present packs first.
    pub(crate) fn copies(&self, id: &ChunkId) -> &[Located] {
        let near = &self.entries[self.places.range(id)];
        let rest = &near[near.partition_point(|entry| compare(&entry.id, id).is_lt())..];
        let count = rest.iter().take_while(|entry| entry.id == *id).count();
        &rest[..count]
    }

    /// The copies of a chunk that can serve as what is wanted.
    pub(crate) fn serving(&self, id: &ChunkId, role: ChunkRole) -> impl Iterator<Item = &Located> {
        self.copies(id).iter().filter(move |copy| role.is_served_by(self.block_of(copy).kind))
    }

    /// Where a chunk can be read, in a condemned pack if need be.
    pub(crate) fn find(&self, id: &ChunkId, role: ChunkRole) -> Option<Located> {
        self.serving(id, role).next().copied()
    }

    /// Whether a page block can be relied on with all its slots.
    pub(crate) fn is_present_whole(&self, id: &ChunkId) -> bool {
        self.serving(id, ChunkRole::Pages).any(|copy| {
            self.block_of(copy).kind == BlockKind::Pages && self.pack_of(copy).standing == Standing::Present
        })
    }

    /// Whether a chunk can be relied on: it and, for a delta, its whole chain are in present packs.
    pub(crate) fn is_present(&self, id: &ChunkId, role: ChunkRole) -> bool {
        self.serving(id, role).any(|copy| self.copy_is_present(copy, MAX_DELTA_DEPTH))
    }

    fn copy_is_present(&self, copy: &Located, depth_left: u32) -> bool {
        self.pack_of(copy).standing == Standing::Present
            && self.base_of(copy).is_none_or(|base| {
                depth_left > 0
                    && self
                        .serving(&base, ChunkRole::Leaf)
                        .any(|below| self.copy_is_present(below, depth_left - 1))
            })
    }

    /// The base of a copy that is a delta.
    pub(crate) fn base_of(&self, copy: &Located) -> Option<ChunkId> {
        if self.blocks[copy.block as usize].kind != BlockKind::Delta {
            return None;
        }
        let at =
            self.deltas.binary_search_by_key(&(copy.id, copy.block), |(id, block, _)| (*id, *block)).ok()?;
        Some(self.deltas[at].2)
    }

    pub(crate) fn block_of(&self, copy: &Located) -> &BlockInfo {
        &self.blocks[copy.block as usize]
    }

    pub(crate) fn pack_of(&self, copy: &Located) -> &PackInfo {
        &self.packs[self.block_of(copy).pack as usize]
    }
}

/// On how few differences leaves can be had, remembered: an index that somebody made up must not cost more
/// than one that grew.
#[derive(Debug, Default)]
pub(crate) struct Depths {
    known: HashMap<(ChunkId, u32), Option<u32>>,
}

impl Depths {
    /// On how many differences a copy stands, `None` where on more than are allowed, or on nothing.
    pub(crate) fn of_copy(&mut self, index: &Index, copy: &Located) -> Option<u32> {
        self.copy_within(index, copy, MAX_DELTA_DEPTH, false)
    }

    /// On how few differences a leaf stands in present packs alone.
    pub(crate) fn of_present(index: &Index, id: &ChunkId) -> Option<u32> {
        Self::default().within(index, id, MAX_DELTA_DEPTH, true)
    }

    fn within(&mut self, index: &Index, id: &ChunkId, left: u32, present: bool) -> Option<u32> {
        if let Some(known) = self.known.get(&(*id, left)) {
            return *known;
        }
        let least = index
            .serving(id, ChunkRole::Leaf)
            .filter_map(|copy| self.copy_within(index, copy, left, present))
            .min();
        self.known.insert((*id, left), least);
        least
    }

    fn copy_within(&mut self, index: &Index, copy: &Located, left: u32, present: bool) -> Option<u32> {
        if present && index.pack_of(copy).standing != Standing::Present {
            return None;
        }
        match index.base_of(copy) {
            None => Some(0),
            Some(base) => self.within(index, &base, left.checked_sub(1)?, present).map(|depth| depth + 1),
        }
    }
}

/// How many deltas may stand on each other.
pub(crate) const MAX_DELTA_DEPTH: u32 = 8;

impl From<IndexError> for RepositoryError {
    fn from(error: IndexError) -> Self {
        Self::damaged("an index object", error)
    }
}

/// Splits packs into groups that fit one index object each.
pub(crate) fn groups(packs: Vec<IndexedPack>) -> Vec<Vec<IndexedPack>> {
    let mut groups: Vec<Vec<IndexedPack>> = Vec::new();
    let mut entries = usize::MAX;
    for pack in packs {
        let count: usize = pack.blocks.iter().map(|block| block.chunks.len() + deltas(block) + 1).sum();
        if entries.saturating_add(count) > MAX_ENTRIES {
            groups.push(Vec::new());
            entries = 0;
        }
        entries += count;
        if let Some(group) = groups.last_mut() {
            group.push(pack);
        }
    }
    groups
}

/// Differences have a record of their own besides that of a chunk.
fn deltas(block: &BlockRecord) -> usize {
    if block.kind == BlockKind::Delta { block.chunks.len() } else { 0 }
}

/// Reads the body of an index object of `repository`.
pub(crate) fn decode_for(body: &[u8], repository: &RepositoryId) -> Result<Vec<IndexedPack>> {
    let (found, packs) = decode(body)?;
    if found == *repository { Ok(packs) } else { Err(IndexError("it belongs to another repository").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(n: u8, length: u32, base: Option<u8>) -> ChunkRecord {
        ChunkRecord { id: ChunkId([n; 32]), length, base: base.map(|b| ChunkId([b; 32])) }
    }

    fn block(kind: BlockKind, offset: u32, chunks: Vec<ChunkRecord>) -> BlockRecord {
        let raw_bytes = chunks.iter().map(|c| c.length).sum();
        BlockRecord { kind, compressed: true, offset, stored_bytes: 50, raw_bytes, chunks }
    }

    fn packs() -> Vec<IndexedPack> {
        let first = HEADER_BYTES as u32;
        vec![
            IndexedPack {
                name: BulkName([1; 32]),
                size_bytes: 1000,
                blocks: vec![
                    block(
                        BlockKind::Data,
                        first,
                        vec![chunk(9, 10, None), chunk(3, 0, None), chunk(4, 30, None)],
                    ),
                    block(BlockKind::Delta, first + 50, vec![chunk(5, 7, Some(6))]),
                ],
            },
            IndexedPack {
                name: BulkName([2; 32]),
                size_bytes: 900,
                blocks: vec![block(BlockKind::Node, first, vec![chunk(6, 20, None)])],
            },
        ]
    }

    #[test]
    fn what_is_encoded_is_read_back() {
        let repository = RepositoryId([8; 16]);
        let body = encode(&repository, &packs());
        assert_eq!(decode(&body).unwrap(), (repository, packs()));
        assert_ne!(encode(&repository, &packs()), body, "the nonce makes every index object its own");
        assert!(decode_for(&body, &RepositoryId([9; 16])).is_err());
    }

    #[test]
    fn a_delta_is_present_only_with_its_base() {
        let judge = |condemned: u8| {
            move |name: &BulkName| {
                Some(if name.0[0] == condemned { Standing::Condemned } else { Standing::Present })
            }
        };
        for (condemned, present) in [(0, true), (1, false), (2, false)] {
            let mut index = Index::default();
            index.add(packs(), &mut judge(condemned));
            index.sort();
            assert_eq!(
                index.is_present(&ChunkId([5; 32]), ChunkRole::Leaf),
                present,
                "pack {condemned} condemned"
            );
            assert!(index.find(&ChunkId([5; 32]), ChunkRole::Leaf).is_some());
            assert!(index.find(&ChunkId([5; 32]), ChunkRole::Bytes).is_none(), "a difference is no content");
            assert!(!index.is_present(&ChunkId([7; 32]), ChunkRole::Bytes));
        }
    }

    /// Identities that share their leading bytes as well as those that spread.
    fn identities(seed: u8) -> Vec<ChunkId> {
        let hashed = (0..3000u32).map(|n| *blake3::keyed_hash(&[seed; 32], &n.to_le_bytes()).as_bytes());
        let alike = (0..200u8).map(|n| std::array::from_fn(|at| if at == 20 { n } else { seed }));
        let extreme = [[0; 32], [255; 32]];
        hashed.chain(alike).chain(extreme).map(ChunkId).collect()
    }

    #[test]
    fn every_copy_is_found_and_nothing_else() {
        let (there, not_there) = (identities(1), identities(2));
        for count in [0, 1, 2, 7, 8, 17, 600, there.len()] {
            let mut index = Index::default();
            // Each identity twice, in two packs.
            for name in [1, 2] {
                let chunks: Vec<ChunkRecord> =
                    there[..count].iter().map(|id| ChunkRecord { id: *id, length: 1, base: None }).collect();
                let blocks = vec![block(BlockKind::Data, HEADER_BYTES as u32, chunks)];
                let pack = IndexedPack { name: BulkName([name; 32]), size_bytes: 1000, blocks };
                index.add(vec![pack], &mut |name| {
                    Some(if name.0[0] == 1 { Standing::Condemned } else { Standing::Present })
                });
            }
            assert!(index.copies(&there[0]).is_empty(), "nothing is found before it is sorted");
            index.sort();
            assert!(index.entries.is_sorted_by_key(|entry| entry.id));
            for id in &there[..count] {
                let found: Vec<(ChunkId, u32)> = index.copies(id).iter().map(|c| (c.id, c.block)).collect();
                assert_eq!(found, [(*id, 1), (*id, 0)], "the copy in the present pack first, of {count}");
            }
            let extremes = there.len() - 2;
            assert!(not_there[..extremes].iter().all(|id| index.copies(id).is_empty()), "{count} entries");
        }
    }

    #[test]
    fn differences_count_towards_the_size_of_an_index_object() {
        let deltas: Vec<ChunkRecord> = (0..150_000).map(|_| chunk(5, 7, Some(6))).collect();
        let pack = |name| IndexedPack {
            name: BulkName([name; 32]),
            size_bytes: 1000,
            blocks: vec![block(BlockKind::Delta, HEADER_BYTES as u32, deltas.clone())],
        };
        let groups = groups(vec![pack(1), pack(2)]);
        assert_eq!(groups.len(), 2, "each has a record as a chunk and one as a difference");
        let bytes: usize =
            groups.iter().map(|group| encode(&RepositoryId([8; 16]), group).len()).max().unwrap();
        assert!(bytes < lifeboat_objects::MAX_OBJECT_BYTES, "{bytes} bytes");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn mutated_tables_never_panic(at in 0usize..400, value in any::<u8>()) {
            let mut body = encode(&RepositoryId([8; 16]), &packs());
            let at = at % body.len();
            body[at] = value;
            let _ = decode(&body);
        }
    }
}
