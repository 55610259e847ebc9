//! The files that the floors write and read: blocks one after another in packs of 16 MiB, and a manifest.
//!
//! A block is `sealed length (u32, little endian), plain length (u32), sealed bytes`: zstd, then AES-256-GCM
//! under one key that lies beside the packs, with the block's number as the nonce. The manifest is one block
//! of entries: path length (u32), path, mode (u32), length (u64).

use crate::error::BenchError;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use lifeboat_base::{crashsafe, random};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// How large a pack may grow; it ends before the block that would not fit.
const PACK_BYTES: usize = 16 << 20;
/// The most that a block's header may claim: no damaged length makes us allocate more.
const PLAIN_BYTES_MAX: usize = 256 << 20;
const HEADER_BYTES: usize = 8;
const KEY_BYTES: usize = 32;
/// The manifest's nonce; blocks count up from zero and never get there.
const MANIFEST_NUMBER: u64 = u64::MAX;

/// One file of the manifest, in the order of its content in the blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its path under the tree.
    pub(crate) path: PathBuf,
    /// Its permission bits.
    pub(crate) mode: u32,
    /// Its length in bytes.
    pub(crate) length: u64,
}

/// The one key of a floor's folder.
struct Sealer(LessSafeKey);

impl Sealer {
    fn new(key: &[u8; KEY_BYTES]) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM, key).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    fn seal(&self, number: u64, bytes: &mut Vec<u8>) -> Option<()> {
        self.0.seal_in_place_append_tag(nonce(number), Aad::empty(), bytes).ok()
    }

    fn open<'b>(&self, number: u64, bytes: &'b mut [u8]) -> Option<&'b [u8]> {
        self.0.open_in_place(nonce(number), Aad::empty(), bytes).ok().map(|plain| &*plain)
    }
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn damaged(path: &Path, what: &'static str) -> BenchError {
    BenchError::Damaged { path: path.to_owned(), what }
}

/// Writes packs.
pub(crate) struct PackWriter {
    folder: PathBuf,
    sealer: Sealer,
    compressor: zstd::bulk::Compressor<'static>,
    sealed: Vec<u8>,
    pack: Option<(File, usize)>,
    packs: u32,
    blocks: u64,
}

impl PackWriter {
    /// Starts in a folder that does not exist or is empty.
    pub(crate) fn create(folder: &Path, level: i32) -> Result<Self, BenchError> {
        empty_folder(folder)?;
        let key = random::bytes::<KEY_BYTES>();
        crashsafe::create(&folder.join("key"), &key)?;
        let compressor =
            zstd::bulk::Compressor::new(level).map_err(|e| BenchError::io("start zstd for", folder, e))?;
        Ok(Self {
            folder: folder.to_owned(),
            sealer: Sealer::new(&key).ok_or_else(|| damaged(folder, "no key"))?,
            compressor,
            sealed: Vec::new(),
            pack: None,
            packs: 0,
            blocks: 0,
        })
    }

    /// Compresses, encrypts and appends one block.
    pub(crate) fn block(&mut self, plain: &[u8]) -> Result<(), BenchError> {
        self.seal(self.blocks, plain)?;
        self.blocks += 1;
        if self
            .pack
            .as_ref()
            .is_some_and(|(_, filled)| filled + HEADER_BYTES + self.sealed.len() > PACK_BYTES)
        {
            self.end_pack()?;
        }
        if self.pack.is_none() {
            self.pack = Some((create_new(&pack_path(&self.folder, self.packs))?, 0));
            self.packs += 1;
        }
        if let Some((file, filled)) = &mut self.pack {
            write_block(file, plain.len(), &self.sealed)
                .map_err(|e| BenchError::io("write pack in", &self.folder, e))?;
            *filled += HEADER_BYTES + self.sealed.len();
        }
        Ok(())
    }

    /// Ends the last pack, writes the manifest and makes the folder durable.
    pub(crate) fn finish(mut self, entries: &[Entry]) -> Result<(), BenchError> {
        self.end_pack()?;
        let mut plain = Vec::new();
        entries.iter().for_each(|entry| encode(entry, &mut plain));
        self.seal(MANIFEST_NUMBER, &plain)?;
        let path = self.folder.join("manifest");
        let mut file = create_new(&path)?;
        write_block(&mut file, plain.len(), &self.sealed)
            .and_then(|()| file.sync_all())
            .map_err(|e| BenchError::io("write", &path, e))?;
        Ok(crashsafe::sync_directory(&self.folder)?)
    }

    fn seal(&mut self, number: u64, plain: &[u8]) -> Result<(), BenchError> {
        self.sealed.clear();
        self.sealed.reserve(zstd::zstd_safe::compress_bound(plain.len()) + AES_256_GCM.tag_len());
        self.compressor
            .compress_to_buffer(plain, &mut self.sealed)
            .map_err(|e| BenchError::io("compress for", &self.folder, e))?;
        self.sealer
            .seal(number, &mut self.sealed)
            .ok_or_else(|| damaged(&self.folder, "a block cannot be encrypted"))
    }

    fn end_pack(&mut self) -> Result<(), BenchError> {
        match self.pack.take() {
            Some((file, _)) => file.sync_all().map_err(|e| BenchError::io("sync pack in", &self.folder, e)),
            None => Ok(()),
        }
    }
}

/// Makes a folder, or accepts an empty one.
pub(crate) fn empty_folder(folder: &Path) -> Result<(), BenchError> {
    fs::create_dir_all(folder).map_err(|e| BenchError::io("create folder", folder, e))?;
    let mut entries = fs::read_dir(folder).map_err(|e| BenchError::io("read folder", folder, e))?;
    match entries.next() {
        Some(_) => Err(damaged(folder, "is not empty")),
        None => Ok(()),
    }
}

fn pack_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08}.pack"))
}

fn create_new(path: &Path) -> Result<File, BenchError> {
    File::create_new(path).map_err(|e| BenchError::io("create", path, e))
}

fn write_block(file: &mut File, plain_bytes: usize, sealed: &[u8]) -> std::io::Result<()> {
    let length = |bytes: usize| u32::try_from(bytes).map_err(std::io::Error::other);
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&length(sealed.len())?.to_le_bytes());
    header[4..].copy_from_slice(&length(plain_bytes)?.to_le_bytes());
    file.write_all(&header)?;
    file.write_all(sealed)
}

fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let path = entry.path.as_os_str().as_bytes();
    // A path is at most PATH_MAX a component and the walk built it: it fits by far.
    out.extend_from_slice(&u32::try_from(path.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(path);
    out.extend_from_slice(&entry.mode.to_le_bytes());
    out.extend_from_slice(&entry.length.to_le_bytes());
}

fn decode(mut bytes: &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let path_bytes = u32::from_le_bytes(take(&mut bytes)?) as usize;
        let (path, rest) = bytes.split_at_checked(path_bytes)?;
        bytes = rest;
        let path = PathBuf::from(OsString::from_vec(path.to_vec()));
        if !path.components().all(|component| matches!(component, Component::Normal(_))) {
            return None;
        }
        let (mode, length) = (u32::from_le_bytes(take(&mut bytes)?), u64::from_le_bytes(take(&mut bytes)?));
        entries.push(Entry { path, mode, length });
    }
    Some(entries)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

/// Reads what [`PackWriter`] wrote.
pub(crate) struct OwnPacks {
    folder: PathBuf,
    opener: Opener,
    packs: u32,
    blocks: u64,
}

/// Opens blocks; apart from the rest so that a pack can be borrowed beside it.
struct Opener {
    sealer: Sealer,
    decompressor: zstd::bulk::Decompressor<'static>,
    plain: Vec<u8>,
}

impl OwnPacks {
    /// Opens a folder of packs.
    pub(crate) fn open(folder: &Path) -> Result<Self, BenchError> {
        let path = folder.join("key");
        let key = fs::read(&path).map_err(|e| BenchError::io("read", &path, e))?;
        let key: [u8; KEY_BYTES] = key.try_into().map_err(|_| damaged(&path, "not a key"))?;
        let sealer = Sealer::new(&key).ok_or_else(|| damaged(&path, "not a key"))?;
        let decompressor =
            zstd::bulk::Decompressor::new().map_err(|e| BenchError::io("start zstd for", folder, e))?;
        let opener = Opener { sealer, decompressor, plain: Vec::new() };
        Ok(Self { folder: folder.to_owned(), opener, packs: 0, blocks: 0 })
    }

    /// The files, in the order in which their contents follow each other in the blocks.
    pub(crate) fn entries(&mut self) -> Result<Vec<Entry>, BenchError> {
        let path = self.folder.join("manifest");
        let mut bytes = fs::read(&path).map_err(|e| BenchError::io("read", &path, e))?;
        let sealed = next_block(&mut bytes.as_mut_slice()).ok_or_else(|| damaged(&path, "is cut short"))?;
        let plain =
            self.opener.open(MANIFEST_NUMBER, sealed).ok_or_else(|| damaged(&path, "does not decrypt"))?;
        decode(plain).ok_or_else(|| damaged(&path, "is not a manifest"))
    }

    /// Reads the next pack, as it is stored, into `pack`; false after the last one.
    pub(crate) fn next_pack(&mut self, pack: &mut Vec<u8>) -> Result<bool, BenchError> {
        let path = pack_path(&self.folder, self.packs);
        pack.clear();
        match File::open(&path).and_then(|mut file| std::io::Read::read_to_end(&mut file, pack)) {
            Ok(_) => {
                self.packs += 1;
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(BenchError::io("read", &path, error)),
        }
    }

    /// Decrypts and decompresses each block of a pack, in order, for `visit`.
    pub(crate) fn open_blocks(
        &mut self,
        mut pack: &mut [u8],
        visit: &mut dyn FnMut(&[u8]) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        while !pack.is_empty() {
            let sealed = next_block(&mut pack).ok_or_else(|| damaged(&self.folder, "a pack is cut short"))?;
            let plain = self.opener.open(self.blocks, sealed);
            visit(plain.ok_or_else(|| damaged(&self.folder, "a block does not decrypt"))?)?;
            self.blocks += 1;
        }
        Ok(())
    }
}

/// One block of a pack: its sealed bytes and how many they must become.
struct Block<'p> {
    sealed: &'p mut [u8],
    plain_bytes: usize,
}

fn next_block<'p>(pack: &mut &'p mut [u8]) -> Option<Block<'p>> {
    let (header, rest) = std::mem::take(pack).split_at_mut_checked(HEADER_BYTES)?;
    let mut header = &*header;
    let sealed_bytes = u32::from_le_bytes(take(&mut header)?) as usize;
    let plain_bytes = u32::from_le_bytes(take(&mut header)?) as usize;
    let (sealed, rest) = rest.split_at_mut_checked(sealed_bytes)?;
    *pack = rest;
    (plain_bytes <= PLAIN_BYTES_MAX).then_some(Block { sealed, plain_bytes })
}

impl Opener {
    /// Decrypts and decompresses; `None` unless exactly the stated length comes out.
    fn open(&mut self, number: u64, block: Block<'_>) -> Option<&[u8]> {
        let compressed = self.sealer.open(number, block.sealed)?;
        self.plain.clear();
        self.plain.reserve(block.plain_bytes);
        let got = self.decompressor.decompress_to_buffer(compressed, &mut self.plain).ok()?;
        (got == block.plain_bytes).then_some(&self.plain)
    }
}
