//! Packs: compressed blocks, each encrypted under the pack's own key, and a table of what they hold
//! (docs/format.md, Packs).
//!
//! A pack is named by the SHA-256 of its bytes. Its key is random, sealed to an epoch in its header, so that
//! whoever writes packs need not be able to read them. This module knows the bytes of a pack; it knows
//! neither where packs are stored nor which of their chunks anybody needs.

use crate::crypto::{ContentKey, ENCAPSULATED_BYTES, EpochPublicKey, SEALED_KEY_BYTES, SealedKey, TAG_BYTES};
use crate::envelope::{ObjectType, seal_info};
use crate::error::{RepositoryError, Result};
use crate::ids::{BulkName, ChunkId, RepositoryId};
use crate::keys::EpochKeys;
use minicbor::{Decode, Encode};

const MAGIC: &[u8; 4] = b"LBP\x01";
const END_MAGIC: &[u8; 4] = b"LBPE";
/// Magic, flags and reserved bytes, epoch, sealed key.
pub(crate) const HEADER_BYTES: usize = 12 + ENCAPSULATED_BYTES + SEALED_KEY_BYTES;
/// The length of the table, and the closing magic.
const FOOTER_BYTES: usize = 8;
/// The nonce of the table; blocks use their number, which never comes near.
const TABLE_NONCE: u64 = u64::MAX;
/// The largest block before compression, so that a forged table cannot exhaust memory.
pub(crate) const MAX_BLOCK_BYTES: usize = 16 << 20;
/// The most chunks of a block. A tree of tiny files would else fill a block with more of them than a pack's
/// table can name.
pub(crate) const MAX_BLOCK_CHUNKS: usize = 65_536;
/// The most chunks of a pack: some 7 MiB of a table that may have 16, and no more than an index object takes.
pub(crate) const MAX_PACK_CHUNKS: usize = 160_000;
/// The largest pack: bulk objects are one PUT each.
pub(crate) const MAX_PACK_BYTES: usize = 32 << 20;

/// What the chunks of a block are, and how their identities come about. The numbers are format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum BlockKind {
    /// Content of files. A chunk's identity is the keyed hash of its bytes.
    #[n(0)]
    Data,
    /// Nodes: listings, lists of chunks, page maps. Identity as for data.
    #[n(1)]
    Node,
    /// Pages of databases, all slots there. Identity as for data.
    #[n(2)]
    Pages,
    /// Leaves of page maps as a difference to another leaf. The identity is that of the whole leaf.
    #[n(3)]
    Delta,
    /// Pages of databases of which some slots were dropped since. The identity is that of the whole block.
    #[n(4)]
    SparsePages,
}

impl BlockKind {
    /// Whether its chunks are page blocks.
    pub(crate) const fn holds_pages(self) -> bool {
        matches!(self, Self::Pages | Self::SparsePages)
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::Data, Self::Node, Self::Pages, Self::Delta, Self::SparsePages]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// A chunk within a block.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ChunkRecord {
    #[n(0)]
    pub(crate) id: ChunkId,
    #[n(1)]
    pub(crate) length: u32,
    /// For [`BlockKind::Delta`]: the node that this is a difference to.
    #[n(2)]
    pub(crate) base: Option<ChunkId>,
}

/// A block within a pack.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct BlockRecord {
    #[n(0)]
    pub(crate) kind: BlockKind,
    #[n(1)]
    pub(crate) compressed: bool,
    #[n(2)]
    pub(crate) offset: u32,
    #[n(3)]
    pub(crate) stored_bytes: u32,
    #[n(4)]
    pub(crate) raw_bytes: u32,
    #[n(5)]
    pub(crate) chunks: Vec<ChunkRecord>,
}

/// What the end of a pack says of its blocks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Table {
    #[n(0)]
    blocks: Vec<BlockRecord>,
}

/// A block that is ready to be put into a pack.
#[derive(Debug)]
pub(crate) struct PackableBlock {
    pub(crate) kind: BlockKind,
    pub(crate) compressed: bool,
    pub(crate) raw_bytes: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) chunks: Vec<ChunkRecord>,
}

/// A pack being written.
#[derive(Debug)]
pub(crate) struct PackBuilder {
    key: ContentKey,
    bytes: Vec<u8>,
    blocks: Vec<BlockRecord>,
}

/// A pack that is complete, not yet stored.
#[derive(Debug)]
pub(crate) struct FinishedPack {
    pub(crate) name: BulkName,
    pub(crate) bytes: Vec<u8>,
    pub(crate) blocks: Vec<BlockRecord>,
}

impl PackBuilder {
    /// A pack in `buffer`, which is emptied first: packs are large, and their memory is used again.
    pub(crate) fn new(
        repository: &RepositoryId,
        epoch: u32,
        public: &EpochPublicKey,
        buffer: Vec<u8>,
    ) -> Result<Self> {
        let key = ContentKey::random();
        let sealed = SealedKey::seal(key.expose(), public, &seal_info(repository, ObjectType::Pack, epoch))
            .map_err(|e| RepositoryError::damaged("the epoch's public key", e))?;
        let mut bytes = buffer;
        bytes.clear();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&epoch.to_le_bytes());
        bytes.extend_from_slice(&sealed.encapsulated);
        bytes.extend_from_slice(&sealed.sealed);
        Ok(Self { key, bytes, blocks: Vec::new() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Whether one more block fits a pack of `pack_bytes`, its table included.
    pub(crate) fn has_room(&self, block: &PackableBlock, pack_bytes: usize) -> bool {
        let chunks = self.blocks.iter().map(|b| b.chunks.len()).sum::<usize>() + block.chunks.len();
        let table_bytes = chunks * 80 + self.blocks.len() * 32 + 4096;
        let size = self.bytes.len() + block.bytes.len() + TAG_BYTES + table_bytes;
        size <= pack_bytes && chunks <= MAX_PACK_CHUNKS
    }

    /// Encrypts a block and takes it. Gives back its buffer, empty, for the next one.
    pub(crate) fn push(&mut self, mut block: PackableBlock) -> Vec<u8> {
        let number = self.blocks.len() as u64;
        self.key.seal(number, &block_binding(block.kind, block.compressed), &mut block.bytes);
        self.blocks.push(BlockRecord {
            kind: block.kind,
            compressed: block.compressed,
            offset: self.bytes.len() as u32,
            stored_bytes: block.bytes.len() as u32,
            raw_bytes: block.raw_bytes,
            chunks: block.chunks,
        });
        self.bytes.extend_from_slice(&block.bytes);
        block.bytes.clear();
        block.bytes
    }

    pub(crate) fn finish(mut self) -> FinishedPack {
        let table = Table { blocks: self.blocks };
        let mut bytes = crate::bodies::encode(&table);
        if let Ok(compressed) = zstd::bulk::compress(&bytes, 3) {
            let raw = (bytes.len() as u32).to_le_bytes();
            bytes = [raw.as_slice(), &compressed].concat();
        }
        self.key.seal(TABLE_NONCE, b"table", &mut bytes);
        self.bytes.extend_from_slice(&bytes);
        self.bytes.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(END_MAGIC);
        FinishedPack { name: BulkName::of(&self.bytes), bytes: self.bytes, blocks: table.blocks }
    }
}

fn block_binding(kind: BlockKind, compressed: bool) -> [u8; 2] {
    [kind as u8, u8::from(compressed)]
}

/// The key of a pack, from its header.
pub(crate) fn open_key(
    header: &[u8],
    repository: &RepositoryId,
    keys: &EpochKeys,
) -> Result<ContentKey, PackError> {
    let header: &[u8; HEADER_BYTES] = header.first_chunk().ok_or(PackError::Truncated)?;
    if &header[..4] != MAGIC {
        return Err(PackError::NotAPack);
    }
    if header[4..8] != [0; 4] {
        return Err(PackError::Unsupported);
    }
    let epoch = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    let sealed = SealedKey {
        encapsulated: header[12..12 + ENCAPSULATED_BYTES].try_into().map_err(|_| PackError::Truncated)?,
        sealed: header[12 + ENCAPSULATED_BYTES..].try_into().map_err(|_| PackError::Truncated)?,
    };
    let info = seal_info(repository, ObjectType::Pack, epoch);
    keys.open(epoch, &sealed, &info)
        .map(ContentKey::from_bytes)
        .map_err(|_| PackError::Undecryptable("its key"))
}

/// Why a pack or a part of it could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PackError {
    #[error("not a pack")]
    NotAPack,
    #[error("it has features that this release does not know")]
    Unsupported,
    #[error("it ends too early")]
    Truncated,
    #[error("{0} does not decrypt")]
    Undecryptable(&'static str),
    #[error("a block does not decompress to {0} bytes")]
    Decompression(usize),
    #[error("its table is malformed: {0}")]
    Table(String),
}

/// Decrypts block `number`, in place; what comes out is compressed as `compressed` says.
pub(crate) fn decrypt_block(
    key: &ContentKey,
    number: u64,
    kind: BlockKind,
    compressed: bool,
    stored: &mut Vec<u8>,
) -> Result<(), PackError> {
    key.open(number, &block_binding(kind, compressed), stored)
        .map_err(|_| PackError::Undecryptable("a block"))
}

/// Decrypts block `number` out of a pack; `opened` then is what came out, and nothing else.
pub(crate) fn decrypt_block_into(
    key: &ContentKey,
    number: u64,
    kind: BlockKind,
    compressed: bool,
    stored: &[u8],
    opened: &mut Vec<u8>,
) -> Result<(), PackError> {
    key.open_into(number, &block_binding(kind, compressed), stored, opened)
        .map_err(|_| PackError::Undecryptable("a block"))
}

/// A decompressor that is used again and again.
#[derive(Default)]
pub(crate) struct Inflater(Option<zstd::bulk::Decompressor<'static>>);

impl Inflater {
    /// Decompresses `stored` into `raw`, which then holds exactly `raw_bytes` bytes.
    pub(crate) fn inflate(
        &mut self,
        stored: &[u8],
        raw_bytes: usize,
        raw: &mut Vec<u8>,
    ) -> Result<(), PackError> {
        let failed = PackError::Decompression(raw_bytes);
        if raw_bytes > MAX_BLOCK_BYTES {
            return Err(failed);
        }
        if self.0.is_none() {
            self.0 = zstd::bulk::Decompressor::new().ok();
        }
        let decompressor = self.0.as_mut().ok_or(failed.clone())?;
        raw.clear();
        raw.reserve(raw_bytes);
        match decompressor.decompress_to_buffer(stored, raw) {
            Ok(length) if length == raw_bytes => Ok(()),
            _ => Err(failed),
        }
    }
}

/// Reads the table of a whole pack.
pub(crate) fn read_table(pack: &[u8], key: &ContentKey) -> Result<Vec<BlockRecord>, PackError> {
    let end = pack.len().checked_sub(FOOTER_BYTES).ok_or(PackError::Truncated)?;
    let footer = &pack[end..];
    if footer[4..] != *END_MAGIC {
        return Err(PackError::Truncated);
    }
    let length = u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]) as usize;
    let start = end.checked_sub(length).filter(|start| *start >= HEADER_BYTES).ok_or(PackError::Truncated)?;
    let mut table = pack[start..end].to_vec();
    key.open(TABLE_NONCE, b"table", &mut table).map_err(|_| PackError::Undecryptable("its table"))?;
    let (raw_bytes, compressed) = table.split_first_chunk::<4>().ok_or(PackError::Truncated)?;
    let mut raw = Vec::new();
    Inflater::default().inflate(compressed, u32::from_le_bytes(*raw_bytes) as usize, &mut raw)?;
    let table: Table = crate::bodies::decode(&raw).map_err(|e| PackError::Table(e.to_string()))?;
    check_table(&table, start)?;
    Ok(table.blocks)
}

/// Blocks follow one another without a gap from the header to the table, and chunks fill their blocks.
fn check_table(table: &Table, end: usize) -> Result<(), PackError> {
    let wrong = |what: &str, n: usize| PackError::Table(format!("block {n} {what}"));
    let mut at = HEADER_BYTES;
    for (n, block) in table.blocks.iter().enumerate() {
        let raw: u64 = block.chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
        if block.offset as usize != at {
            return Err(wrong("does not follow the one before it", n));
        }
        if raw != u64::from(block.raw_bytes) || block.raw_bytes as usize > MAX_BLOCK_BYTES {
            return Err(wrong("has chunks that do not fill it", n));
        }
        if block.chunks.iter().any(|chunk| chunk.base.is_some() != (block.kind == BlockKind::Delta)) {
            return Err(wrong("is a delta without a base, or the reverse", n));
        }
        at = at.saturating_add(block.stored_bytes as usize);
    }
    if at == end { Ok(()) } else { Err(PackError::Table("the blocks do not fill the pack".to_owned())) }
}

/// For fuzzing: reads anything as the table of a pack, decrypted already.
#[doc(hidden)]
pub fn fuzz_table(bytes: &[u8]) -> bool {
    crate::bodies::decode::<Table>(bytes).is_ok_and(|table| check_table(&table, bytes.len()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::EpochPrivateKey;

    fn block(kind: BlockKind, raw: &[u8]) -> PackableBlock {
        let chunks = vec![ChunkRecord { id: ChunkId([raw[0]; 32]), length: raw.len() as u32, base: None }];
        let bytes = zstd::bulk::compress(raw, 3).unwrap();
        PackableBlock { kind, compressed: true, raw_bytes: raw.len() as u32, bytes, chunks }
    }

    #[test]
    fn a_pack_opens_with_its_epoch_and_shows_every_flip() {
        let repository = RepositoryId([1; 16]);
        let (private, public) = EpochPrivateKey::generate();
        let keys = EpochKeys::new(1, private);
        let mut builder = PackBuilder::new(&repository, 1, &public, Vec::new()).unwrap();
        builder.push(block(BlockKind::Data, &[b'a'; 5000]));
        builder.push(block(BlockKind::Node, &[b'b'; 100]));
        let pack = builder.finish();
        assert_eq!(pack.name, BulkName::of(&pack.bytes));
        let key = open_key(&pack.bytes, &repository, &keys).unwrap();
        assert_eq!(read_table(&pack.bytes, &key).unwrap(), pack.blocks);
        let record = &pack.blocks[0];
        let mut stored = pack.bytes[record.offset as usize..][..record.stored_bytes as usize].to_vec();
        decrypt_block(&key, 0, record.kind, record.compressed, &mut stored).unwrap();
        let mut raw = Vec::new();
        Inflater::default().inflate(&stored, 5000, &mut raw).unwrap();
        assert_eq!(raw, [b'a'; 5000]);
        assert!(open_key(&pack.bytes, &RepositoryId([2; 16]), &keys).is_err());
        for at in 0..pack.bytes.len() {
            let mut damaged = pack.bytes.clone();
            damaged[at] ^= 0x40;
            let opened = open_key(&damaged, &repository, &keys);
            let table = opened.and_then(|key| read_table(&damaged, &key).map(|_| key));
            let blocks_whole = table.is_ok_and(|key| {
                pack.blocks.iter().enumerate().all(|(n, b)| {
                    let mut stored = damaged[b.offset as usize..][..b.stored_bytes as usize].to_vec();
                    decrypt_block(&key, n as u64, b.kind, b.compressed, &mut stored).is_ok()
                })
            });
            assert!(!blocks_whole, "the flip at {at} went unnoticed");
        }
    }
}
