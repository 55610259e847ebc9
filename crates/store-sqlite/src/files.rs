//! Plain handles of a database's files, closed only when that harms nobody.
//!
//! Closing any handle of a file drops all POSIX locks that the process has on it, those of a SQLite connection
//! too. So a handle opened here stays open until no snapshot in this process reads that database any more.
//!
//! Owns the names of the files beside a database. Knows nothing of what is in them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file system and a file in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId(u64, u64);

impl FileId {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }

    /// The file that has this name now, if one has.
    pub(crate) fn at(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[derive(Default)]
struct Users {
    count: usize,
    parked: Vec<Arc<File>>,
}

static USERS: Mutex<BTreeMap<FileId, Users>> = Mutex::new(BTreeMap::new());

fn users() -> MutexGuard<'static, BTreeMap<FileId, Users>> {
    USERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A database as one snapshot has it open: its path without links, its handle, and the handles beside it.
#[derive(Debug)]
pub(crate) struct DatabaseFiles {
    path: PathBuf,
    id: FileId,
    /// The database first.
    handles: Vec<Arc<File>>,
}

impl DatabaseFiles {
    /// Opens the database at `path` for reading.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // SQLite looks for journals beside the file that a link leads to.
        let path = fs::canonicalize(path)?;
        loop {
            let registration = Registration::new(FileId::of(&fs::metadata(&path)?));
            let database = Arc::new(File::open(&path)?);
            if FileId::of(&database.metadata()?) == registration.id {
                let id = registration.keep();
                return Ok(Self { path, id, handles: vec![database] });
            }
            // Another file got that name in between. Its handle was never registered, so it is parked as well.
            registration.park(database);
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn database(&self) -> &Arc<File> {
        &self.handles[0]
    }

    /// The file beside the database whose name goes on with `suffix`.
    pub(crate) fn path_beside(&self, suffix: &str) -> PathBuf {
        beside(&self.path, suffix)
    }

    /// Opens the file beside the database whose name goes on with `suffix`, if there is one.
    pub(crate) fn open_beside(&mut self, suffix: &str) -> io::Result<Option<Arc<File>>> {
        match File::open(self.path_beside(suffix)) {
            Ok(file) => {
                let file = Arc::new(file);
                self.handles.push(Arc::clone(&file));
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the path still leads to the file that was opened.
    pub(crate) fn in_place(&self) -> io::Result<bool> {
        Ok(FileId::at(&self.path)? == Some(self.id))
    }
}

impl Drop for DatabaseFiles {
    fn drop(&mut self) {
        release(self.id, std::mem::take(&mut self.handles));
    }
}

/// Says that this process reads a database, before the first handle of it is opened.
struct Registration {
    id: FileId,
    kept: bool,
}

impl Registration {
    fn new(id: FileId) -> Self {
        users().entry(id).or_default().count += 1;
        Self { id, kept: false }
    }

    fn keep(mut self) -> FileId {
        self.kept = true;
        self.id
    }

    fn park(self, file: Arc<File>) {
        if let Ok(metadata) = file.metadata() {
            let id = Self::new(FileId::of(&metadata)).keep();
            release(id, vec![file]);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.kept {
            release(self.id, Vec::new());
        }
    }
}

/// Closes `files`, and all that wait, if nobody reads that database any more; else lets them wait.
fn release(id: FileId, files: Vec<Arc<File>>) {
    let mut all = users();
    let Some(entry) = all.get_mut(&id) else { return };
    entry.parked.extend(files);
    entry.count -= 1;
    if entry.count == 0 {
        all.remove(&id);
    }
}

/// The path whose last component goes on with `suffix`, as SQLite names its journals.
pub(crate) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(database);
    path.push(suffix);
    path.into()
}

/// Whether there is anything of that name, empty or not.
pub(crate) fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a file exists for SQLite, to which an empty one does not.
pub(crate) fn exists_for_sqlite(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(!metadata.is_file() || metadata.len() > 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_waits_until_the_last_user_is_gone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let first = DatabaseFiles::open(file.path()).unwrap();
        let second = DatabaseFiles::open(file.path()).unwrap();
        let id = first.id;
        let handle = Arc::downgrade(first.database());
        drop(first);
        assert!(handle.upgrade().is_some(), "closed under the second user");
        assert_eq!(users()[&id].parked.len(), 1);
        drop(second);
        assert!(handle.upgrade().is_none());
        assert!(!users().contains_key(&id));
    }

    #[test]
    fn names_beside_a_link_are_names_beside_its_target() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real.db");
        File::create(&real).unwrap();
        let link = directory.path().join("link.db");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut files = DatabaseFiles::open(&link).unwrap();
        let expected = fs::canonicalize(directory.path()).unwrap().join("real.db-wal");
        assert_eq!(files.path_beside("-wal"), expected);
        assert!(files.open_beside("-wal").unwrap().is_none());
        assert!(files.in_place().unwrap());
        fs::remove_file(&real).unwrap();
        assert!(!files.in_place().unwrap());
    }
}
