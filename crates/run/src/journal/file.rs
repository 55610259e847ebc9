//! A journal's file: appended, synced, locked while somebody executes the run, and superseded when the file of the
//! next generation is there.

use super::{JournalError, Medium};
use lifeboat_base::failpoint;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// So much room is held free beyond the end before something is begun: its outcome, and that of all that runs beside
/// it, fits in.
const RESERVE_BYTES: u64 = 4 * super::MAX_RECORD_BYTES as u64;

/// The file of a generation.
#[derive(Debug)]
pub struct FileMedium {
    file: File,
    path: PathBuf,
    next: PathBuf,
    bytes: u64,
    reserved: u64,
}

impl FileMedium {
    /// Opens a file that exists and locks it for as long as this lives; `None` where somebody else has.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn lock(path: &Path, next: &Path) -> Result<Option<Self>, JournalError> {
        let opened = OpenOptions::new().read(true).write(true).mode(0o600).open(path);
        let file = opened.map_err(|e| JournalError::io("open", path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(JournalError::io("lock", path, error)),
        }
        let bytes = file.metadata().map_err(|e| JournalError::io("read the length of", path, e))?.len();
        Ok(Some(Self { file, path: path.to_owned(), next: next.to_owned(), bytes, reserved: bytes }))
    }

    /// Everything that it holds.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn contents(&mut self) -> Result<Vec<u8>, JournalError> {
        let mut bytes = Vec::new();
        let read = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| io::Read::read_to_end(&mut self.file, &mut bytes));
        read.map_err(|e| self.error("read", e))?;
        Ok(bytes)
    }

    /// Cuts what a crash left after the whole lines.
    ///
    /// # Errors
    /// Where it cannot be cut.
    pub fn cut(&mut self, whole_bytes: usize) -> Result<(), JournalError> {
        self.bytes = whole_bytes as u64;
        self.reserved = self.bytes;
        let cut = self.file.set_len(self.bytes).and_then(|()| self.file.sync_all());
        cut.map_err(|e| self.error("cut", e))
    }

    fn error(&self, operation: &'static str, source: io::Error) -> JournalError {
        JournalError::io(operation, &self.path, source)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        failpoint::reach("run::append")?;
        self.file.seek(SeekFrom::Start(self.bytes))?;
        self.file.write_all(bytes)?;
        failpoint::reach("run::written")
    }
}

impl Medium for FileMedium {
    fn append(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        if let Err(error) = self.write(bytes) {
            // Half a line would be cut on opening as well; without it the next who reads has nothing to wonder about.
            let _ = self.file.set_len(self.bytes);
            return Err(self.error("append to", error));
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        let synced = self.file.sync_data().and_then(|()| failpoint::reach("run::synced"));
        synced.map_err(|e| self.error("sync", e))
    }

    fn reserve(&mut self) -> Result<(), JournalError> {
        if self.reserved >= self.bytes + RESERVE_BYTES {
            return Ok(());
        }
        // Twice as much as is needed, so that it is not asked for before each intent.
        let end = self.bytes + 2 * RESERVE_BYTES;
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, end) {
            Ok(()) => self.reserved = end,
            // A file system that cannot hold room free: an append that fails says so early enough.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.reserved = u64::MAX,
            Err(errno) => return Err(self.error("hold room free in", errno.into())),
        }
        Ok(())
    }

    fn is_superseded(&self) -> Result<bool, JournalError> {
        self.next.try_exists().map_err(|e| JournalError::io("look for", &self.next, e))
    }
}
