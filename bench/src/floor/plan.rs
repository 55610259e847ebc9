//! What the floors on Lifeboat's own packs are told beforehand: which packs there are, what opens them, and
//! where each chunk belongs. Written before anything is measured, so that the loops need nothing else.
//!
//! Numbers are little-endian; a list begins with its length (u32), a text or path likewise.

use crate::error::BenchError;
use lifeboat_base::crashsafe;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// Everything that is in the packs of a repository, and what of it one snapshot needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The repository.
    pub(crate) repository: PathBuf,
    /// The key under which chunks are hashed.
    pub(crate) id_key: [u8; 32],
    /// The files of the snapshot.
    pub(crate) files: Vec<PlannedFile>,
    /// Further names of files: the new name, and the file's number.
    pub(crate) links: Vec<(PathBuf, u32)>,
    /// The packs.
    pub(crate) packs: Vec<PlannedPack>,
}

/// A file to be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PlannedFile {
    /// Its path under the target.
    pub(crate) path: PathBuf,
    /// Its permission bits.
    pub(crate) mode: u32,
    /// How many bytes are written to it; all else of it are holes.
    pub(crate) written_bytes: u64,
}

/// A pack to be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PlannedPack {
    /// Its object within the repository.
    pub(crate) object: PathBuf,
    /// Its AES-256-GCM key.
    pub(crate) key: [u8; 32],
    /// Its blocks.
    pub(crate) blocks: Vec<PlannedBlock>,
}

/// A block of a pack.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PlannedBlock {
    /// Where it begins.
    pub(crate) offset: u32,
    /// How many bytes are stored.
    pub(crate) stored_bytes: u32,
    /// How many come out.
    pub(crate) raw_bytes: u32,
    /// Whether they are compressed.
    pub(crate) compressed: bool,
    /// The nonce.
    pub(crate) nonce: [u8; 12],
    /// The associated data.
    pub(crate) associated: [u8; 2],
    /// Its chunks.
    pub(crate) chunks: Vec<PlannedChunk>,
}

/// A chunk of a block.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PlannedChunk {
    /// Its keyed hash.
    pub(crate) id: [u8; 32],
    /// Where it begins in the block.
    pub(crate) offset: u32,
    /// How long it is.
    pub(crate) length: u32,
    /// Where its bytes go.
    pub(crate) targets: Vec<Target>,
}

/// A run of bytes of a chunk, and where it goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// The file's number.
    pub(crate) file: u32,
    /// Where in the file.
    pub(crate) at: u64,
    /// From where in the chunk.
    pub(crate) start: u32,
    /// How many bytes.
    pub(crate) length: u32,
}

impl Plan {
    /// Writes the plan to a file.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<(), BenchError> {
        let mut out = Vec::new();
        self.put(&mut out);
        Ok(crashsafe::replace(path, &out)?)
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// Where the file cannot be read or is no plan.
    pub(crate) fn read(path: &Path) -> Result<Self, BenchError> {
        let bytes = fs::read(path).map_err(|e| BenchError::io("read", path, e))?;
        let mut rest = bytes.as_slice();
        Self::take(&mut rest)
            .filter(|_| rest.is_empty())
            .ok_or_else(|| BenchError::Damaged { path: path.to_owned(), what: "is not a plan" })
    }
}

/// What a plan is made of can be written and read again.
trait Part: Sized {
    /// Appends it.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes it from the start of `rest`.
    fn take(rest: &mut &[u8]) -> Option<Self>;
}

impl<const N: usize> Part for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        let (head, tail) = rest.split_first_chunk()?;
        *rest = tail;
        Some(*head)
    }
}

impl Part for u32 {
    fn put(&self, out: &mut Vec<u8>) {
        self.to_le_bytes().put(out);
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        Part::take(rest).map(Self::from_le_bytes)
    }
}

impl Part for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        self.to_le_bytes().put(out);
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        Part::take(rest).map(Self::from_le_bytes)
    }
}

impl Part for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        <[u8; 1]>::take(rest).map(|[byte]| byte != 0)
    }
}

impl Part for PathBuf {
    fn put(&self, out: &mut Vec<u8>) {
        let bytes = self.as_os_str().as_bytes();
        put_length(bytes.len(), out);
        out.extend_from_slice(bytes);
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        let length = u32::take(rest)? as usize;
        let (head, tail) = rest.split_at_checked(length)?;
        *rest = tail;
        Some(Self::from(OsString::from_vec(head.to_vec())))
    }
}

impl<T: Part> Part for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        self.iter().for_each(|each| each.put(out));
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        let length = u32::take(rest)? as usize;
        (0..length).map(|_| T::take(rest)).collect()
    }
}

impl<A: Part, B: Part> Part for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        Some((A::take(rest)?, B::take(rest)?))
    }
}

/// Lists here have far fewer than 2^32 parts; one that had would not be read back as it was.
fn put_length(length: usize, out: &mut Vec<u8>) {
    u32::try_from(length).unwrap_or(u32::MAX).put(out);
}

/// A struct is its fields, one after another.
macro_rules! parts {
    ($type:ident { $($field:ident),* }) => {
        impl Part for $type {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            fn take(rest: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: Part::take(rest)?),* })
            }
        }
    };
}

parts!(Plan { repository, id_key, files, links, packs });
parts!(PlannedFile { path, mode, written_bytes });
parts!(PlannedPack { object, key, blocks });
parts!(PlannedBlock { offset, stored_bytes, raw_bytes, compressed, nonce, associated, chunks });
parts!(PlannedChunk { id, offset, length, targets });
parts!(Target { file, at, start, length });

/// Whether a path stays below where it is put.
pub(crate) fn stays_below(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_was_written_and_nothing_else_is_one() {
        let target = Target { file: 0, at: 1 << 40, start: 3, length: 4 };
        let chunk = PlannedChunk { id: [7; 32], offset: 1, length: 9, targets: vec![target] };
        let block =
            PlannedBlock { raw_bytes: 10, compressed: true, chunks: vec![chunk], ..Default::default() };
        let plan = Plan {
            repository: "/r".into(),
            id_key: [1; 32],
            files: vec![PlannedFile { path: "a/b".into(), mode: 0o644, written_bytes: 4 }],
            links: vec![("c".into(), 0)],
            packs: vec![PlannedPack { object: "packs/x".into(), key: [2; 32], blocks: vec![block] }],
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan");
        plan.write(&path).unwrap();
        assert_eq!(Plan::read(&path).unwrap(), plan);
        let bytes = fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            crashsafe::replace(&path, &bytes[..cut]).unwrap();
            Plan::read(&path).unwrap_err();
        }
        crashsafe::replace(&path, &[bytes, vec![0]].concat()).unwrap();
        Plan::read(&path).unwrap_err();
    }
}
