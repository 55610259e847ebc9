//! Makes the plan of the floors on Lifeboat's own packs: opens the repository, reads the index and the newest
//! snapshot, and writes down where every byte is and where it belongs. Not measured.

use super::Totals;
use super::plan::{Plan, PlannedBlock, PlannedChunk, PlannedFile, PlannedPack, Target};
use crate::error::BenchError;
use lifeboat_base::Secret;
use lifeboat_objects::location::{self, Location};
use lifeboat_repository::ids::ChunkId;
use lifeboat_repository::tree::{Content, Entry, EntryKind};
use lifeboat_repository::{
    Descend, Environment, Piece, PieceSource, Reader, Repository, RepositoryError, Unlock, floor,
};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Writes the plan of the newest snapshot in `repository` to `out`.
///
/// # Errors
/// Where the repository cannot be read, holds no snapshot, or holds databases.
pub(crate) fn run(repository: &Path, out: &Path) -> Result<Totals, BenchError> {
    let store = location::open(&Location::Directory(repository.to_owned())).map_err(RepositoryError::from)?;
    let unlock = Unlock::Passphrase(Secret::new(crate::lifeboat::PASSPHRASE.as_bytes().to_vec()));
    let opened = Arc::new(Repository::open(store, &unlock, Environment::default())?);
    let reader = Reader::new(&opened)?;
    let newest = opened.snapshots(None, &mut Vec::new())?.pop();
    let newest = newest
        .ok_or_else(|| BenchError::Damaged { path: repository.to_owned(), what: "holds no snapshot" })?;
    let mut planner =
        Planner { reader: &reader, files: Vec::new(), links: Vec::new(), wanted: HashMap::new() };
    reader.walk(&newest.snapshot, &mut |folder, entry| planner.entry(folder, entry))?;
    let totals = planner.totals();
    planner.finish(repository)?.write(out)?;
    Ok(totals)
}

struct Planner<'r> {
    reader: &'r Reader,
    files: Vec<PlannedFile>,
    /// New names and the names that they lead to.
    links: Vec<(PathBuf, PathBuf)>,
    wanted: HashMap<ChunkId, Vec<Target>>,
}

impl Planner<'_> {
    /// Only regular files: the tree that is measured holds nothing else, and its folders are made on the way.
    fn entry(&mut self, folder: &[u8], entry: &Entry) -> Result<Descend, RepositoryError> {
        if entry.kind == EntryKind::File {
            let path = joined(folder, &entry.name);
            match &entry.content {
                Content::HardLink { path: first } => self.links.push((path, joined(first, b""))),
                _ => self.file(path, entry)?,
            }
        }
        Ok(Descend::Yes)
    }

    fn file(&mut self, path: PathBuf, entry: &Entry) -> Result<(), RepositoryError> {
        let number = self.files.len() as u32;
        let (mut written_bytes, wanted) = (0, &mut self.wanted);
        self.reader.pieces(entry, &mut |Piece { offset, length, source }| match source {
            PieceSource::Chunk { id, start } => {
                written_bytes += u64::from(length);
                wanted.entry(id).or_default().push(Target { file: number, at: offset, start, length });
                Ok(())
            }
            PieceSource::Page { .. } => Err(RepositoryError::damaged(path.display(), "holds pages")),
        })?;
        self.files.push(PlannedFile { path, mode: entry.metadata.mode, written_bytes });
        Ok(())
    }

    fn totals(&self) -> Totals {
        let bytes = self.files.iter().map(|file| file.written_bytes).sum();
        Totals { files: (self.files.len() + self.links.len()) as u64, bytes }
    }

    fn finish(mut self, repository: &Path) -> Result<Plan, BenchError> {
        let packs = floor::packs(self.reader)?.into_iter().map(|pack| self.pack(pack)).collect();
        if !self.wanted.is_empty() {
            return Err(BenchError::Damaged { path: repository.to_owned(), what: "lacks chunks" });
        }
        let numbers: HashMap<&Path, u32> =
            (0..).zip(&self.files).map(|(n, f)| (f.path.as_path(), n)).collect();
        let links = self.links.into_iter().map(|(name, first)| {
            let number = numbers.get(first.as_path()).copied();
            number.map(|number| (name, number)).ok_or(first)
        });
        let links = links
            .collect::<Result<_, PathBuf>>()
            .map_err(|path| BenchError::Damaged { path, what: "is linked to and is no file" })?;
        let id_key = *floor::id_key(self.reader);
        Ok(Plan { repository: repository.to_owned(), id_key, files: self.files, links, packs })
    }

    fn pack(&mut self, pack: floor::FloorPack) -> PlannedPack {
        let blocks = pack.blocks.into_iter().map(|block| self.block(block)).collect();
        PlannedPack { object: pack.object.into(), key: *pack.key, blocks }
    }

    fn block(&mut self, block: floor::FloorBlock) -> PlannedBlock {
        let chunk = |chunk: floor::FloorChunk| PlannedChunk {
            id: chunk.id.0,
            offset: chunk.offset,
            length: chunk.length,
            // Where a chunk lies twice, the first copy serves.
            targets: self.wanted.remove(&chunk.id).unwrap_or_default(),
        };
        PlannedBlock {
            offset: block.offset,
            stored_bytes: block.stored_bytes,
            raw_bytes: block.raw_bytes,
            compressed: block.compressed,
            nonce: block.nonce,
            associated: block.associated,
            chunks: block.chunks.into_iter().map(chunk).collect(),
        }
    }
}

fn joined(folder: &[u8], name: &[u8]) -> PathBuf {
    let path = PathBuf::from(OsString::from_vec(folder.to_vec()));
    if name.is_empty() { path } else { path.join(OsString::from_vec(name.to_vec())) }
}
