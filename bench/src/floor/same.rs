//! The floors of restore and check on Lifeboat's own packs, in the order in which they lie, one thread. What
//! is where comes from a [`Plan`].

use super::Totals;
use super::packs::empty_folder;
use super::plan::{Plan, PlannedBlock, PlannedFile, PlannedPack, stays_below};
use crate::error::BenchError;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest;
use lifeboat_base::hex;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Takes a whole pack.
type VisitPack<'v> = dyn FnMut(&Path, &[u8]) -> Result<(), BenchError> + 'v;
/// Takes a decompressed block.
type VisitBlock<'v> = dyn FnMut(&PlannedBlock, &[u8]) -> Result<(), BenchError> + 'v;

/// The largest block that a plan may claim.
const BLOCK_BYTES_MAX: usize = 256 << 20;
/// How many files may be open at once.
const OPEN_FILES_MAX: usize = 256;

/// Reads every pack, decrypts and decompresses every block, writes the files, syncs once. Modes come from
/// `open` alone, so the program that calls this clears its umask first.
///
/// # Errors
/// Where a pack is damaged or the target cannot be written.
pub(crate) fn restore(plan: &Path, target: &Path) -> Result<Totals, BenchError> {
    let plan = Plan::read(plan)?;
    empty_folder(target)?;
    let mut writer = Writer::new(&plan.files, target)?;
    each_block(&plan, &mut |_, _| Ok(()), &mut |block, raw| writer.block(block, raw))?;
    writer.finish(&plan.links)?;
    let folder = File::open(target).map_err(|e| BenchError::io("open", target, e))?;
    rustix::fs::syncfs(folder).map_err(|e| BenchError::io("sync", target, e.into()))?;
    let bytes = plan.files.iter().map(|file| file.written_bytes).sum();
    Ok(Totals { files: (plan.files.len() + plan.links.len()) as u64, bytes })
}

/// Reads every pack, holds its SHA-256 against its name, decrypts and decompresses every block, and holds the
/// keyed BLAKE3 of every chunk against its identity. Answers chunks and their bytes.
///
/// # Errors
/// With the first thing that is not what it should be.
pub(crate) fn check(plan: &Path) -> Result<Totals, BenchError> {
    let plan = Plan::read(plan)?;
    let mut seen = Totals::default();
    each_block(&plan, &mut named, &mut |block, raw| {
        for chunk in &block.chunks {
            let bytes = part(raw, chunk.offset, chunk.length)?;
            if *blake3::keyed_hash(&plan.id_key, bytes).as_bytes() != chunk.id {
                return Err(damaged(&plan.repository, "a chunk is not what its identity says"));
            }
            seen = Totals { files: seen.files + 1, bytes: seen.bytes + bytes.len() as u64 };
        }
        Ok(())
    })?;
    Ok(seen)
}

/// A pack is named by the SHA-256 of its bytes.
fn named(object: &Path, stored: &[u8]) -> Result<(), BenchError> {
    let found = hex::encode(digest::digest(&digest::SHA256, stored).as_ref());
    if object.file_name().is_some_and(|name| name == found.as_str()) {
        return Ok(());
    }
    Err(damaged(object, "is not what its name says"))
}

fn damaged(path: &Path, what: &'static str) -> BenchError {
    BenchError::Damaged { path: path.to_owned(), what }
}

fn part(bytes: &[u8], offset: u32, length: u32) -> Result<&[u8], BenchError> {
    let part = bytes.get(offset as usize..).and_then(|rest| rest.get(..length as usize));
    part.ok_or_else(|| damaged(Path::new("a block"), "is shorter than its chunks"))
}

/// Shows every pack as it is stored, then every block of it as it was before compression.
fn each_block(plan: &Plan, pack: &mut VisitPack<'_>, block: &mut VisitBlock<'_>) -> Result<(), BenchError> {
    let mut opener = Opener::new(&plan.repository)?;
    let mut stored = Vec::new();
    for planned in &plan.packs {
        read(&plan.repository.join(&planned.object), &mut stored)?;
        pack(&planned.object, &stored)?;
        opener.blocks(planned, &mut stored, block)?;
    }
    Ok(())
}

fn read(path: &Path, into: &mut Vec<u8>) -> Result<(), BenchError> {
    into.clear();
    let mut file = File::open(path).map_err(|e| BenchError::io("open", path, e))?;
    file.read_to_end(into).map(|_| ()).map_err(|e| BenchError::io("read", path, e))
}

struct Opener {
    decompressor: zstd::bulk::Decompressor<'static>,
    raw: Vec<u8>,
}

impl Opener {
    fn new(repository: &Path) -> Result<Self, BenchError> {
        let decompressor =
            zstd::bulk::Decompressor::new().map_err(|e| BenchError::io("start zstd for", repository, e))?;
        Ok(Self { decompressor, raw: Vec::new() })
    }

    fn blocks(
        &mut self,
        pack: &PlannedPack,
        stored: &mut [u8],
        visit: &mut VisitBlock<'_>,
    ) -> Result<(), BenchError> {
        let broken = || damaged(&pack.object, "has a block that does not open");
        let key = UnboundKey::new(&AES_256_GCM, &pack.key).map_err(|_| broken())?;
        let key = LessSafeKey::new(key);
        for block in &pack.blocks {
            let sealed = stored
                .get_mut(block.offset as usize..)
                .and_then(|rest| rest.get_mut(..block.stored_bytes as usize))
                .ok_or_else(broken)?;
            let nonce = Nonce::assume_unique_for_key(block.nonce);
            let plain =
                key.open_in_place(nonce, Aad::from(block.associated), sealed).map_err(|_| broken())?;
            let raw = if block.compressed { self.inflate(block, plain).ok_or_else(broken)? } else { plain };
            visit(block, raw)?;
        }
        Ok(())
    }

    fn inflate(&mut self, block: &PlannedBlock, compressed: &[u8]) -> Option<&[u8]> {
        let raw_bytes = block.raw_bytes as usize;
        if raw_bytes > BLOCK_BYTES_MAX {
            return None;
        }
        self.raw.clear();
        self.raw.reserve(raw_bytes);
        let got = self.decompressor.decompress_to_buffer(compressed, &mut self.raw).ok()?;
        (got == raw_bytes).then_some(&self.raw)
    }
}

/// Writes files in whatever order their bytes come.
struct Writer<'p> {
    files: &'p [PlannedFile],
    target: PathBuf,
    /// How many bytes are still to come, by file.
    left: Vec<u64>,
    open: HashMap<u32, File>,
    folders: HashSet<PathBuf>,
}

impl<'p> Writer<'p> {
    fn new(files: &'p [PlannedFile], target: &Path) -> Result<Self, BenchError> {
        if let Some(outside) = files.iter().find(|file| !stays_below(&file.path)) {
            return Err(damaged(&outside.path, "leads out of the target"));
        }
        let left = files.iter().map(|file| file.written_bytes).collect();
        Ok(Self { files, target: target.to_owned(), left, open: HashMap::new(), folders: HashSet::new() })
    }

    fn block(&mut self, block: &PlannedBlock, raw: &[u8]) -> Result<(), BenchError> {
        for chunk in &block.chunks {
            for to in &chunk.targets {
                let bytes = part(part(raw, chunk.offset, chunk.length)?, to.start, to.length)?;
                self.write(to.file, to.at, bytes)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, number: u32, at: u64, bytes: &[u8]) -> Result<(), BenchError> {
        let unplanned = || damaged(Path::new("the plan"), "names a file that it does not hold");
        let left = self.left.get_mut(number as usize).ok_or_else(unplanned)?;
        *left = left.checked_sub(bytes.len() as u64).ok_or_else(unplanned)?;
        let is_last = *left == 0;
        let file = match self.open.remove(&number) {
            Some(file) => file,
            None => self.create(number)?,
        };
        let path = &self.files[number as usize].path;
        file.write_all_at(bytes, at).map_err(|e| BenchError::io("write", path, e))?;
        if !is_last {
            if self.open.len() >= OPEN_FILES_MAX {
                self.open.clear();
            }
            self.open.insert(number, file);
        }
        Ok(())
    }

    /// Opens a file, a second time where it was closed to make room for others.
    fn create(&mut self, number: u32) -> Result<File, BenchError> {
        let planned = &self.files[number as usize];
        let path = self.make_folder(&planned.path)?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(planned.mode).open(&path);
        file.map_err(|e| BenchError::io("create", &path, e))
    }

    /// Where a path is, with its folder made.
    fn make_folder(&mut self, below: &Path) -> Result<PathBuf, BenchError> {
        let path = self.target.join(below);
        let folder = path.parent().unwrap_or(&self.target);
        if !self.folders.contains(folder) {
            fs::create_dir_all(folder).map_err(|e| BenchError::io("create folder", folder, e))?;
            self.folders.insert(folder.to_owned());
        }
        Ok(path)
    }

    /// Empty files, and further names; then nothing may be left to come.
    fn finish(mut self, links: &[(PathBuf, u32)]) -> Result<(), BenchError> {
        for number in 0..self.files.len() {
            if self.files[number].written_bytes == 0 {
                self.create(u32::try_from(number).unwrap_or(u32::MAX))?;
            }
        }
        for (name, number) in links {
            let first = self.files.get(*number as usize).filter(|_| stays_below(name));
            let first = first.ok_or_else(|| damaged(name, "is linked to nothing"))?;
            let path = self.make_folder(name)?;
            fs::hard_link(self.target.join(&first.path), &path)
                .map_err(|e| BenchError::io("link", &path, e))?;
        }
        match self.left.iter().position(|left| *left > 0) {
            Some(number) => Err(damaged(&self.files[number].path, "is not complete")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{PlannedChunk, Target};
    use super::*;
    use lifeboat_base::crashsafe;
    use std::os::unix::fs::MetadataExt;

    const ID_KEY: [u8; 32] = [3; 32];

    /// A repository of one pack with one block of two chunks, and a plan of three files and a further name.
    fn planned(folder: &Path) -> (PathBuf, Plan) {
        let raw = [vec![b'a'; 5000], vec![b'b'; 100]].concat();
        let mut sealed = zstd::bulk::compress(&raw, 3).unwrap();
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[9; 32]).unwrap());
        let nonce = Nonce::assume_unique_for_key([1; 12]);
        key.seal_in_place_append_tag(nonce, Aad::from([0_u8, 1]), &mut sealed).unwrap();
        let stored_bytes = u32::try_from(sealed.len()).unwrap();
        let pack = [b"header".to_vec(), sealed].concat();
        let name = hex::encode(digest::digest(&digest::SHA256, &pack).as_ref());
        crashsafe::create(&folder.join(&name), &pack).unwrap();
        let chunk = |range: std::ops::Range<usize>, targets| PlannedChunk {
            id: *blake3::keyed_hash(&ID_KEY, &raw[range.clone()]).as_bytes(),
            offset: u32::try_from(range.start).unwrap(),
            length: u32::try_from(range.len()).unwrap(),
            targets,
        };
        let to = |file, at, start, length| Target { file, at, start, length };
        let chunks = vec![
            chunk(0..5000, vec![to(0, 0, 0, 5000), to(1, 100, 7, 50)]),
            chunk(5000..5100, vec![to(1, 0, 0, 100)]),
        ];
        let block = PlannedBlock {
            offset: 6,
            stored_bytes,
            raw_bytes: 5100,
            compressed: true,
            nonce: [1; 12],
            associated: [0, 1],
            chunks,
        };
        let file = |path: &str, written_bytes| PlannedFile { path: path.into(), mode: 0o640, written_bytes };
        let plan = Plan {
            repository: folder.to_owned(),
            id_key: ID_KEY,
            files: vec![file("d/one", 5000), file("two", 150), file("d/e/empty", 0)],
            links: vec![("d/also-one".into(), 0)],
            packs: vec![PlannedPack { object: name.into(), key: [9; 32], blocks: vec![block] }],
        };
        let path = folder.join("plan");
        plan.write(&path).unwrap();
        (path, plan)
    }

    #[test]
    fn chunks_come_to_where_they_belong_and_are_what_they_say() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = planned(folder.path());
        assert_eq!(check(&path).unwrap(), Totals { files: 2, bytes: 5100 });
        let target = folder.path().join("target");
        assert_eq!(restore(&path, &target).unwrap(), Totals { files: 4, bytes: 5150 });
        assert_eq!(fs::read(target.join("d/one")).unwrap(), [b'a'; 5000]);
        assert_eq!(fs::read(target.join("two")).unwrap(), [[b'b'; 100].as_slice(), &[b'a'; 50]].concat());
        assert_eq!(fs::read(target.join("d/e/empty")).unwrap(), b"");
        assert_eq!(fs::metadata(target.join("d/also-one")).unwrap().nlink(), 2);
    }

    #[test]
    fn damage_and_plans_that_lead_astray_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut plan) = planned(folder.path());
        let pack = folder.path().join(&plan.packs[0].object);
        let good = fs::read(&pack).unwrap();
        let mut bad = good.clone();
        bad[10] ^= 1;
        crashsafe::replace(&pack, &bad).unwrap();
        check(&path).unwrap_err();
        restore(&path, &folder.path().join("t1")).unwrap_err();
        crashsafe::replace(&pack, &good).unwrap();
        check(&path).unwrap();
        plan.packs[0].blocks[0].chunks[1].id[0] ^= 1;
        plan.write(&path).unwrap();
        check(&path).unwrap_err();
        plan.files[1].written_bytes = 151;
        plan.write(&path).unwrap();
        assert!(restore(&path, &folder.path().join("t2")).unwrap_err().to_string().contains("not complete"));
        plan.files[0].path = "../out".into();
        plan.write(&path).unwrap();
        restore(&path, &folder.path().join("t3")).unwrap_err();
    }
}
