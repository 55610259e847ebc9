//! Tar archives written straight from a repository, without a copy on disk in between.
//!
//! What an archive will be is laid out in memory, a window at a time: headers as they are, content as room that
//! is filled from the repository in whatever order is cheapest, by several threads. Memory is one window and what
//! the repository decompresses, however large the files are.

use crate::error::{RecoveryError, Result};
use crate::threads;
use lifeboat_repository::tree::{Entry, EntryKind, Metadata, display_bytes};
use lifeboat_repository::{Reader, Request};
use lifeboat_store::progress::Progress;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What tar rounds everything to, in bytes.
const BLOCK: u64 = 512;
/// How much is laid out before it is fetched and written, in bytes.
const WINDOW_BYTES: usize = 32 << 20;

/// What one member of an archive is, besides its content.
pub(super) struct Member<'m> {
    pub(super) path: &'m [u8],
    pub(super) kind: EntryKind,
    pub(super) metadata: &'m Metadata,
    pub(super) size: u64,
    /// For a symbolic link.
    pub(super) target: &'m [u8],
}

/// An archive that is being written.
pub(super) struct TarWriter<'r> {
    file: File,
    path: PathBuf,
    reader: &'r Reader,
    progress: &'r Progress,
    window: Vec<u8>,
    /// What fills the window, and where in it each goes.
    requests: Vec<Request>,
    places: Vec<usize>,
    /// How much was written before the window.
    written: u64,
}

impl<'r> TarWriter<'r> {
    /// Begins an archive; one that is there is replaced.
    pub(super) fn create(path: PathBuf, reader: &'r Reader, progress: &'r Progress) -> Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        Ok(Self {
            file: file.map_err(RecoveryError::io("create", &path))?,
            path,
            reader,
            progress,
            window: Vec::new(),
            requests: Vec::new(),
            places: Vec::new(),
            written: 0,
        })
    }

    /// Where the archive is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a member. Its content, if it has any, follows with [`TarWriter::bytes`] and [`TarWriter::pad`].
    pub(super) fn begin(&mut self, member: &Member<'_>) -> Result<()> {
        let header = header(member).ok_or_else(|| RecoveryError::UnfitForTar(display_bytes(member.path)))?;
        self.progress.count_entry();
        self.bytes(header.as_bytes())
    }

    /// Adds an entry of a snapshot with its content.
    pub(super) fn entry(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let (kind, metadata) = (entry.kind, &entry.metadata);
        self.begin(&Member { path, kind, metadata, size: entry.size, target: b"" })?;
        if kind != EntryKind::File {
            return Ok(());
        }
        let start = self.position();
        let reader = self.reader;
        reader.pieces(entry, &mut |piece| {
            self.zeros_until(start + piece.offset)?;
            let token = self.places.len() as u64;
            self.places.push(self.window.len());
            self.requests.push(Request { source: piece.source, length: piece.length, token });
            self.window.resize(self.window.len() + piece.length as usize, 0);
            self.write_if_full()
        })?;
        self.zeros_until(start + entry.size)?;
        self.pad()
    }

    /// Adds bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.window.extend_from_slice(bytes);
        self.write_if_full()
    }

    /// Adds zeros up to the end of a block, as must be behind the content of each member.
    pub(super) fn pad(&mut self) -> Result<()> {
        self.zeros_until(self.position().next_multiple_of(BLOCK))
    }

    /// Adds zeros up to a position of the archive.
    pub(super) fn zeros_until(&mut self, position: u64) -> Result<()> {
        while self.position() < position {
            let left = usize::try_from(position - self.position()).unwrap_or(usize::MAX);
            let room = WINDOW_BYTES.saturating_sub(self.window.len()).max(1);
            self.window.resize(self.window.len() + left.min(room), 0);
            self.write_if_full()?;
        }
        Ok(())
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.written + self.window.len() as u64
    }

    /// Ends the archive and makes it durable. Gives its length in bytes.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.bytes(&[0; 2 * BLOCK as usize])?;
        self.write()?;
        self.file.sync_all().map_err(RecoveryError::io("sync", &self.path))?;
        Ok(self.written)
    }

    fn write_if_full(&mut self) -> Result<()> {
        if self.window.len() >= WINDOW_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        let places = std::mem::take(&mut self.places);
        let window = Mutex::new(&mut self.window);
        self.reader.fetch(std::mem::take(&mut self.requests), threads(), &|token, bytes| {
            let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
            let place = places.get(token as usize).copied().unwrap_or(usize::MAX);
            let room = window.get_mut(place..).and_then(|rest| rest.get_mut(..bytes.len()));
            room.ok_or("more was delivered than was requested")?.copy_from_slice(bytes);
            Ok(())
        })?;
        self.file.write_all(&self.window).map_err(RecoveryError::io("write", &self.path))?;
        self.progress.count_bytes(self.window.len() as u64);
        self.written += self.window.len() as u64;
        self.window.clear();
        Ok(())
    }
}

/// A header of the POSIX form, as PostgreSQL writes and reads it; `None` where the name does not fit.
fn header(member: &Member<'_>) -> Option<tar::Header> {
    let mut header = tar::Header::new_ustar();
    let (kind, path) = match member.kind {
        EntryKind::File => (tar::EntryType::Regular, member.path.to_vec()),
        EntryKind::Directory => (tar::EntryType::Directory, [member.path, b"/"].concat()),
        EntryKind::Symlink => (tar::EntryType::Symlink, member.path.to_vec()),
        _ => return None,
    };
    header.set_entry_type(kind);
    header.set_path(OsStr::from_bytes(&path)).ok()?;
    if member.kind == EntryKind::Symlink {
        header.set_link_name_literal(member.target).ok()?;
    }
    header.set_size(member.size);
    header.set_mode(member.metadata.mode);
    header.set_uid(u64::from(member.metadata.uid));
    header.set_gid(u64::from(member.metadata.gid));
    header.set_mtime(u64::try_from(member.metadata.modified.secs).unwrap_or(0));
    header.set_cksum();
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(path: &str, kind: EntryKind) -> bool {
        let metadata = Metadata::default();
        let member = Member { path: path.as_bytes(), kind, metadata: &metadata, size: 0, target: b"/srv/x" };
        header(&member).is_some()
    }

    #[test]
    fn what_tar_cannot_say_is_not_said() {
        assert!(member("base/5/1259", EntryKind::File));
        assert!(member("pg_tblspc/16400", EntryKind::Symlink));
        assert!(!member(&"x".repeat(300), EntryKind::File));
        assert!(!member("pipe", EntryKind::Fifo));
    }
}
