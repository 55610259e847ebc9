//! What a floor needs in order to do with the same packs the least that a restore and a check must do: keys,
//! blocks and chunks, as they lie in the packs.
//!
//! Only with the feature `bench`, which no release has: the benchmark writes this down before it measures, so
//! that its loop reads, decrypts, decompresses and hashes, and knows nothing else of the format. Whoever gets
//! these keys has opened the repository already. Database pages are not described: the floors are measured on
//! files.

use crate::error::{RepositoryError, Result};
use crate::ids::ChunkId;
use crate::index::{BlockInfo, Located, PackInfo};
use crate::layout;
use crate::pack::{self, BlockKind, HEADER_BYTES};
use crate::reader::Reader;
use zeroize::Zeroizing;

/// A pack.
#[derive(Debug)]
pub struct FloorPack {
    /// The name of its object within the store; its last part is the SHA-256 of its bytes in hexadecimal.
    pub object: String,
    /// Its length in bytes.
    pub size_bytes: u32,
    /// Its AES-256-GCM key.
    pub key: Zeroizing<[u8; 32]>,
    /// Its blocks, in the order in which they lie.
    pub blocks: Vec<FloorBlock>,
}

/// A block of a pack.
#[derive(Clone, Debug)]
pub struct FloorBlock {
    /// Where its stored bytes begin in the pack.
    pub offset: u32,
    /// How many there are, the tag included.
    pub stored_bytes: u32,
    /// How many bytes come out.
    pub raw_bytes: u32,
    /// Whether what is decrypted is compressed (zstd).
    pub compressed: bool,
    /// The nonce.
    pub nonce: [u8; 12],
    /// The associated data.
    pub associated: [u8; 2],
    /// Its chunks, in the order in which they lie in it.
    pub chunks: Vec<FloorChunk>,
}

/// A chunk of a block.
#[derive(Clone, Copy, Debug)]
pub struct FloorChunk {
    /// Its identity: the BLAKE3 hash of its bytes under [`id_key`].
    pub id: ChunkId,
    /// Where it begins in the block.
    pub offset: u32,
    /// How long it is.
    pub length: u32,
}

/// A block's nonce, as the format has it: its number in little-endian order, then zeros.
fn nonce(number: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// The key under which chunks are hashed.
pub fn id_key(reader: &Reader) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(reader.repository().keys.id_key.expose())
}

/// Every pack that the index names.
///
/// # Errors
/// Where the key of a pack cannot be read, or where a pack holds pages of databases.
pub fn packs(reader: &Reader) -> Result<Vec<FloorPack>> {
    let index = reader.index();
    let mut chunks: Vec<Vec<FloorChunk>> = vec![Vec::new(); index.blocks.len()];
    for entry in &index.entries {
        let Located { id, block, offset, length } = *entry;
        chunks[block as usize].push(FloorChunk { id, offset, length });
    }
    let mut packs: Vec<FloorPack> =
        index.packs.iter().map(|info| keyed(reader, info)).collect::<Result<_>>()?;
    for (block, mut chunks) in index.blocks.iter().zip(chunks) {
        let pack = &mut packs[block.pack as usize];
        if !matches!(block.kind, BlockKind::Data | BlockKind::Node) {
            return Err(RepositoryError::damaged(&pack.object, "it holds pages, which no floor reads"));
        }
        chunks.sort_unstable_by_key(|chunk| chunk.offset);
        pack.blocks.push(described(block, chunks));
    }
    packs.iter_mut().for_each(|pack| pack.blocks.sort_unstable_by_key(|block| block.offset));
    Ok(packs)
}

/// A pack with its key, still without blocks.
fn keyed(reader: &Reader, info: &PackInfo) -> Result<FloorPack> {
    let repository = reader.repository();
    let object = layout::pack(&info.name);
    let header = repository.store.get_range(&object, 0, HEADER_BYTES)?;
    let key = pack::open_key(&header, &repository.id(), &repository.keys.epochs)
        .map_err(|error| RepositoryError::damaged(&object, error))?;
    let key = Zeroizing::new(*key.expose());
    Ok(FloorPack { object: object.to_string(), size_bytes: info.size_bytes, key, blocks: Vec::new() })
}

fn described(block: &BlockInfo, chunks: Vec<FloorChunk>) -> FloorBlock {
    FloorBlock {
        offset: block.offset,
        stored_bytes: block.stored_bytes,
        raw_bytes: block.raw_bytes,
        compressed: block.compressed,
        nonce: nonce(block.number),
        associated: [block.kind as u8, u8::from(block.compressed)],
        chunks,
    }
}
