//! The folder of a spool: its files by their numbers, its lock, and how much room there is.
//!
//! Files are made full of zeros, so that to write a record neither changes a file's length nor where its blocks lie:
//! one `fdatasync` makes it durable, and nothing but its bytes is written.

use super::error::SpoolError;
use lifeboat_base::crashsafe::{self, Creation};
use lifeboat_base::{failpoint, hex};
use rustix::fs::{statfs, statvfs};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a file.
pub(crate) const FILE_BYTES: u64 = 32 << 20;
const SUFFIX: &str = ".spool";
const LOCK: &str = "lock";
/// The rest of the disk is never taken: so much, or where that is less so many hundredths of it.
const SPARED_BYTES: u64 = 1 << 30;
const SPARED_HUNDREDTHS: u64 = 5;
/// What Linux calls file systems in memory: tmpfs and ramfs.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// The folder.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    /// Held for as long as it is used.
    _lock: File,
}

impl Files {
    /// Makes the folder where there is none, and takes it for this process alone.
    pub(crate) fn take(directory: &Path) -> Result<Self, SpoolError> {
        if !directory.is_dir() {
            create_private(directory)?;
        }
        let lock = lock(directory)?;
        Ok(Self { directory: directory.to_owned(), _lock: lock })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn path(&self, sequence: u64) -> PathBuf {
        self.directory.join(format!("{}{SUFFIX}", hex::encode(&sequence.to_be_bytes())))
    }

    /// The numbers of the files, ascending.
    pub(crate) fn list(&self) -> Result<Vec<u64>, SpoolError> {
        let failed = |source| self.failed("list", &self.directory, source);
        let mut sequences = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            sequences.extend(digits.and_then(hex::decode::<8>).map(u64::from_be_bytes));
        }
        sequences.sort_unstable();
        Ok(sequences)
    }

    pub(crate) fn open(&self, sequence: u64) -> Result<File, SpoolError> {
        let path = self.path(sequence);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        file.map_err(|source| self.failed("open", &path, source))
    }

    /// Makes a file of zeros, durably.
    pub(crate) fn make(&self, sequence: u64) -> Result<(), SpoolError> {
        self.spare_the_disk()?;
        let path = self.path(sequence);
        match crashsafe::create(&path, &vec![0; FILE_BYTES as usize])? {
            Creation::Created => {}
            // Every file was listed when the folder was taken, and nobody else may make any.
            Creation::Existed => {
                return Err(self.failed("create", &path, io::ErrorKind::AlreadyExists.into()));
            }
        }
        self.reach("spool::file-made")
    }

    pub(crate) fn remove(&self, sequence: u64) -> Result<(), SpoolError> {
        crashsafe::remove(&self.path(sequence))?;
        self.reach("spool::file-removed")
    }

    pub(crate) fn reach(&self, moment: &'static str) -> Result<(), SpoolError> {
        failpoint::reach(moment).map_err(|source| self.failed("use", &self.directory, source))
    }

    pub(crate) fn failed(&self, operation: &'static str, path: &Path, source: io::Error) -> SpoolError {
        SpoolError::Io { operation, path: path.to_owned(), source }
    }

    /// Refuses a folder in memory, which is gone with the machine however often it is synced.
    pub(crate) fn refuse_memory(&self) -> Result<(), SpoolError> {
        let kind = statfs(&self.directory).map_err(|e| self.failed("look at", &self.directory, e.into()))?;
        #[expect(clippy::useless_conversion, reason = "its type differs from system to system")]
        let kind = i64::try_from(kind.f_type).unwrap_or_default();
        match IN_MEMORY.contains(&kind) {
            true => Err(SpoolError::InMemory { directory: self.directory.clone() }),
            false => Ok(()),
        }
    }

    fn spare_the_disk(&self) -> Result<(), SpoolError> {
        let disk = statvfs(&self.directory).map_err(|e| self.failed("look at", &self.directory, e.into()))?;
        let all = disk.f_blocks.saturating_mul(disk.f_frsize);
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let spared = spared(all);
        if free < spared + FILE_BYTES {
            let why = format!("its disk has {free} bytes left, and the last {spared} are not taken");
            return Err(SpoolError::Full { directory: self.directory.clone(), why });
        }
        Ok(())
    }
}

/// What of a disk of such a size is left alone, in bytes.
fn spared(disk_bytes: u64) -> u64 {
    SPARED_BYTES.min(disk_bytes / 100 * SPARED_HUNDREDTHS)
}

fn create_private(directory: &Path) -> Result<(), SpoolError> {
    let parent = directory.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    crashsafe::create_dir_all(parent)?;
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let (operation, path) = ("create directory", directory.to_owned());
            Err(SpoolError::Io { operation, path, source: error })
        }
        _ => Ok(crashsafe::sync_directory(parent)?),
    }
}

fn lock(directory: &Path) -> Result<File, SpoolError> {
    let path = directory.join(LOCK);
    let failed = |operation| move |source| SpoolError::Io { operation, path: directory.join(LOCK), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(failed("open"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::InUse { directory: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed("lock")(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_found_by_their_numbers_and_are_for_their_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("a/b/spool");
        let files = Files::take(&directory).unwrap();
        for sequence in [300, 2] {
            files.make(sequence).unwrap();
        }
        crashsafe::create(&directory.join("notes.txt"), b"by somebody").unwrap();
        assert_eq!(files.list().unwrap(), [2, 300]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&files.path(2))), (0o700, 0o600));
        assert_eq!(fs::metadata(files.path(2)).unwrap().len(), FILE_BYTES);
        assert!(matches!(files.make(2), Err(SpoolError::Io { .. })), "never overwritten");
        files.remove(2).unwrap();
        assert_eq!(files.list().unwrap(), [300]);
    }

    #[test]
    fn one_process_uses_it() {
        let place = tempfile::tempdir().unwrap();
        let first = Files::take(place.path()).unwrap();
        assert!(matches!(Files::take(place.path()), Err(SpoolError::InUse { .. })));
        drop(first);
        Files::take(place.path()).unwrap();
    }

    #[test]
    fn memory_is_no_place_for_it() {
        if let Ok(place) = tempfile::tempdir_in("/dev/shm") {
            let files = Files::take(place.path()).unwrap();
            assert!(matches!(files.refuse_memory(), Err(SpoolError::InMemory { .. })));
        }
        let place = tempfile::tempdir_in("/var/tmp").unwrap();
        Files::take(place.path()).unwrap().refuse_memory().unwrap();
    }

    #[test]
    fn the_end_of_the_disk_is_spared() {
        assert_eq!(spared(1 << 40), 1 << 30);
        assert_eq!(spared(1000), 50);
    }
}
