//! A store in a directory: one file an object, named by its key.
//!
//! This module owns how objects lie on a file system: created once with `link(2)` and synced with their
//! directories, temporary files invisible, names in the byte order of the whole key. It needs a file system
//! with hard links and refuses another when the store is made.
//!
//! What lies under the root and is no object (temporary files, symbolic links, names that are no [`Key`]) is
//! passed over, never followed and never removed.
//!
//! Failpoints, besides those of [`crashsafe`]: `objects::directory-made` (the directories above a new object
//! are durable, the object is not written), `objects::deleted` (an object was durably deleted).

use crate::key::{MAX_KEY_BYTES, is_component};
use crate::{Creation, Key, Listed, MAX_OBJECT_BYTES, ObjectError, ObjectErrorKind, ObjectStore};
use lifeboat_base::clock::Timestamp;
use lifeboat_base::crashsafe::{self, CrashsafeError, TEMPORARY_PREFIX};
use lifeboat_base::{failpoint, hex, random};
use rustix::buffer::spare_capacity;
use rustix::fs::OFlags;
use rustix::io::{Errno, pread};
use std::collections::HashSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A store in a directory.
#[derive(Debug)]
pub struct DirectoryStore {
    root: PathBuf,
    /// Directories (as key prefixes, `""` for the root) whose own name this process has made durable.
    durable_directories: Mutex<HashSet<String>>,
}

impl DirectoryStore {
    /// Opens a store that exists.
    ///
    /// # Errors
    /// [`ObjectErrorKind::NotFound`] where there is no directory of that name.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, ObjectError> {
        let root = root.into();
        match fs::metadata(&root) {
            Ok(found) if found.is_dir() => Ok(Self { root, durable_directories: Mutex::default() }),
            Ok(_) => Err(about_store("open", &root, ErrorKind::NotADirectory.into())),
            Err(error) => Err(about_store("open", &root, error)),
        }
    }

    /// Opens a store, creating the directory and its parents where they are missing, and tries whether the
    /// file system can do what a store needs.
    ///
    /// # Errors
    /// [`ObjectErrorKind::Unsuitable`] on a file system without hard links.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self, ObjectError> {
        let root = root.into();
        crashsafe::create_dir_all(&root).map_err(|error| about_crashsafe("create", &root, error))?;
        let store = Self::open(root)?;
        store.probe_links()?;
        Ok(store)
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Removes temporary files last written before `before`, which crashes left behind, and answers how many.
    /// A writer that is at work has a younger one: leave a day.
    ///
    /// # Errors
    /// Where a directory cannot be read or a file not be removed.
    pub fn sweep_temporary(&self, before: Timestamp) -> Result<u64, ObjectError> {
        let mut removed = 0;
        let mut pending = vec![String::new()];
        while let Some(directory) = pending.pop() {
            for entry in self.entries(&directory)? {
                match entry {
                    Entry::Directory(name) => pending.push(format!("{directory}{name}")),
                    Entry::Temporary(name) => {
                        removed += u64::from(self.sweep_one(&directory, &name, before)?);
                    }
                    Entry::File(_) => {}
                }
            }
        }
        Ok(removed)
    }

    fn sweep_one(&self, directory: &str, name: &str, before: Timestamp) -> Result<bool, ObjectError> {
        let path = self.root.join(directory).join(name);
        let old = match fs::symlink_metadata(&path) {
            Ok(found) => modified(&found) < before,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(self.about("sweep", name, error)),
        };
        if old {
            crashsafe::remove(&path).map_err(|error| self.about("sweep", name, error.source))?;
        }
        Ok(old)
    }

    fn probe_links(&self) -> Result<(), ObjectError> {
        let name = format!("{TEMPORARY_PREFIX}probe-{}", hex::encode(&random::bytes::<8>()));
        let path = self.root.join(name);
        let probed = crashsafe::create(&path, b"");
        let _ = fs::remove_file(&path);
        probed.map(|_| ()).map_err(|error| {
            let unsuitable = lacks_links(&error);
            let mut error = about_crashsafe("create", &self.root, error);
            if unsuitable {
                error.kind = ObjectErrorKind::Unsuitable;
            }
            error
        })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    /// Makes the directory of `key` and the names that lead to it durable, once a process.
    fn make_directory(&self, key: &Key) -> Result<(), CrashsafeError> {
        let directory = directory_of(key.as_str());
        if self.known().contains(directory) {
            return Ok(());
        }
        let path = self.root.join(directory);
        self.root_is_there()?;
        crashsafe::create_dir_all(&path)?;
        self.sync_above(directory)?;
        reach("objects::directory-made", &path)?;
        self.known().insert(directory.to_owned());
        Ok(())
    }

    /// A root that vanished (a disk taken away) is not made anew somewhere else.
    fn root_is_there(&self) -> Result<(), CrashsafeError> {
        let found = fs::metadata(&self.root);
        let fail = |source| CrashsafeError { operation: "open store", path: self.root.clone(), source };
        found.map(|_| ()).map_err(fail)
    }

    /// Another process may have made a directory and crashed before it synced the one above.
    fn sync_above(&self, directory: &str) -> Result<(), CrashsafeError> {
        let mut below = directory;
        while !below.is_empty() {
            let above = directory_of(below.trim_end_matches('/'));
            crashsafe::sync_directory(&self.root.join(above))?;
            below = above;
        }
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.durable_directories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What [`ObjectStore::create`] does, once. A known directory that somebody removed shows as "not found".
    fn create_once(&self, key: &Key, bytes: &[u8]) -> Result<Creation, CrashsafeError> {
        self.make_directory(key)?;
        let path = self.path(key);
        if fs::symlink_metadata(&path).is_ok() {
            return existed(&path);
        }
        match crashsafe::create(&path, bytes)? {
            crashsafe::Creation::Created => Ok(Creation::Created),
            crashsafe::Creation::Existed => existed(&path),
        }
    }

    fn open_object(&self, operation: &'static str, key: &Key) -> Result<(File, u64), ObjectError> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened =
            OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(self.path(key));
        let file = opened.map_err(|error| self.about_object(operation, key, error))?;
        let found = file.metadata().map_err(|error| self.about_object(operation, key, error))?;
        if found.is_file() {
            Ok((file, found.len()))
        } else {
            Err(self.about_object(operation, key, ErrorKind::NotFound.into()))
        }
    }

    fn truncated(&self, key: &Key, what: String) -> ObjectError {
        ObjectError::new(ObjectErrorKind::Truncated, "get", key, self.location(), what)
    }

    fn about_object(&self, operation: &'static str, key: &Key, error: io::Error) -> ObjectError {
        let kind = if names_no_object(&error) { ObjectErrorKind::NotFound } else { kind_of(&error) };
        ObjectError::new(kind, operation, key, self.location(), error)
    }

    fn about(&self, operation: &'static str, subject: &str, error: io::Error) -> ObjectError {
        ObjectError::about(kind_of(&error), operation, subject, self.location(), error)
    }

    /// The entries of one directory (`""` or a prefix that ends with `/`), in no order. One that is gone is
    /// empty, unless it is the root: a store that vanished has not become an empty one.
    fn entries(&self, directory: &str) -> Result<Vec<Entry>, ObjectError> {
        let entries = match fs::read_dir(self.root.join(directory)) {
            Ok(entries) => entries,
            Err(error) if names_no_object(&error) && !directory.is_empty() => {
                return self.still_there().map(|()| Vec::new());
            }
            Err(error) => return Err(self.about("list", directory, error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let classified = entry.and_then(|entry| classify(&entry));
            found.extend(classified.map_err(|error| self.about("list", directory, error))?);
        }
        Ok(found)
    }

    fn still_there(&self) -> Result<(), ObjectError> {
        fs::metadata(&self.root).map(|_| ()).map_err(|error| self.about("list", "", error))
    }

    /// Visits what lies under one directory in the byte order of whole keys: a directory sorts by its name
    /// with the `/`, so that `a-b/1` comes before `a/1`.
    fn walk(&self, directory: &str, walk: &mut Walk<'_>) -> Result<ControlFlow<()>, ObjectError> {
        let mut names: Vec<String> =
            self.entries(directory)?.into_iter().filter_map(Entry::into_name).collect();
        names.sort_unstable();
        for name in names {
            let full = format!("{directory}{name}");
            if full.len() > MAX_KEY_BYTES || walk.passes_over(&full) {
                continue;
            }
            let flow = if full.ends_with('/') { self.walk(&full, walk)? } else { self.show(full, walk)? };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn show(&self, name: String, walk: &mut Walk<'_>) -> Result<ControlFlow<()>, ObjectError> {
        let Ok(key) = Key::new(name) else { return Ok(ControlFlow::Continue(())) };
        match self.head(&key) {
            Ok(listed) => Ok((walk.visit)(listed)),
            Err(error) if error.is_not_found() => Ok(ControlFlow::Continue(())),
            Err(error) => Err(error),
        }
    }
}

/// What a directory's entry is to a store; the names of directories end with `/`.
enum Entry {
    File(String),
    Directory(String),
    Temporary(String),
}

impl Entry {
    fn into_name(self) -> Option<String> {
        match self {
            Self::File(name) | Self::Directory(name) => Some(name),
            Self::Temporary(_) => None,
        }
    }
}

fn classify(entry: &fs::DirEntry) -> io::Result<Option<Entry>> {
    let Ok(name) = entry.file_name().into_string() else { return Ok(None) };
    let kind = match entry.file_type() {
        Ok(kind) => kind,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(match (kind.is_file(), kind.is_dir()) {
        (true, _) if name.starts_with(TEMPORARY_PREFIX) => Some(Entry::Temporary(name)),
        (true, _) if is_component(&name) => Some(Entry::File(name)),
        (_, true) if is_component(&name) => Some(Entry::Directory(format!("{name}/"))),
        _ => None,
    })
}

/// One listing under way.
struct Walk<'a> {
    prefix: &'a str,
    after: &'a str,
    visit: &'a mut dyn FnMut(Listed) -> ControlFlow<()>,
}

impl Walk<'_> {
    /// Whether neither `full` nor, where it is a directory, anything in it is asked for.
    fn passes_over(&self, full: &str) -> bool {
        let is_directory = full.ends_with('/');
        let inside = full.starts_with(self.prefix) || (is_directory && self.prefix.starts_with(full));
        let before = full <= self.after && !(is_directory && self.after.starts_with(full));
        !inside || before
    }
}

impl ObjectStore for DirectoryStore {
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Creation, ObjectError> {
        if bytes.len() > MAX_OBJECT_BYTES {
            return Err(ObjectError::oversized("create", key, self.location(), bytes.len() as u64));
        }
        let first = self.create_once(key, bytes);
        let outcome = match first {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.known().clear();
                self.create_once(key, bytes)
            }
            outcome => outcome,
        };
        outcome
            .map_err(|error| ObjectError::new(kind_of(&error.source), "create", key, self.location(), error))
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, ObjectError> {
        let (file, size_bytes) = self.open_object("get", key)?;
        if size_bytes > MAX_OBJECT_BYTES as u64 {
            return Err(ObjectError::oversized("get", key, self.location(), size_bytes));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or(MAX_OBJECT_BYTES));
        let read = file.take(size_bytes).read_to_end(&mut bytes);
        let read = read.map_err(|error| self.about_object("get", key, error))? as u64;
        if read == size_bytes {
            Ok(bytes)
        } else {
            Err(self.truncated(key, format!("{read} bytes of an object of {size_bytes}")))
        }
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, ObjectError> {
        let (file, size_bytes) = self.open_object("get", key)?;
        let end = offset.checked_add(length as u64);
        if end.is_none_or(|end| end > size_bytes) {
            return Err(
                self.truncated(key, format!("{length} bytes from {offset} of an object of {size_bytes}"))
            );
        }
        match read_at(&file, offset, length) {
            Ok(bytes) if bytes.len() == length => Ok(bytes),
            Ok(_) => Err(self.truncated(key, "failed to fill whole buffer".to_owned())),
            Err(error) => Err(self.about_object("get", key, error.into())),
        }
    }

    fn head(&self, key: &Key) -> Result<Listed, ObjectError> {
        match fs::symlink_metadata(self.path(key)) {
            Ok(found) if found.is_file() => {
                Ok(Listed { key: key.clone(), size_bytes: found.len(), arrived: modified(&found) })
            }
            Ok(_) => Err(self.about_object("head", key, ErrorKind::NotFound.into())),
            Err(error) => Err(self.about_object("head", key, error)),
        }
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), ObjectError> {
        let start = directory_of(prefix);
        if !start.is_empty() && Key::new(start.trim_end_matches('/')).is_err() {
            return Ok(());
        }
        let mut walk = Walk { prefix, after: after.map_or("", Key::as_str), visit };
        self.walk(start, &mut walk).map(|_| ())
    }

    fn delete(&self, key: &Key) -> Result<(), ObjectError> {
        match crashsafe::remove(&self.path(key)) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::IsADirectory) => {}
            Err(error) => {
                let kind = kind_of(&error.source);
                return Err(ObjectError::new(kind, "delete", key, self.location(), error));
            }
        }
        failpoint::reach("objects::deleted").map_err(|error| self.about_object("delete", key, error))
    }

    fn location(&self) -> String {
        location(&self.root)
    }
}

/// Up to `length` bytes from `offset`, fewer only where the file ends. What is read into is not cleared first:
/// of packs, every block of a restore comes this way.
fn read_at(file: &File, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = offset + bytes.len() as u64;
        match pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    // A vector may have room for more than was asked for.
    bytes.truncate(length);
    Ok(bytes)
}

/// An object of that name is there; whoever made it may not have synced its directory yet, and the caller
/// will rely on it.
fn existed(path: &Path) -> Result<Creation, CrashsafeError> {
    let fail = |source| CrashsafeError { operation: "create", path: path.to_owned(), source };
    if !fs::symlink_metadata(path).map_err(fail)?.is_file() {
        return Err(fail(io::Error::other("something that is no file has this name")));
    }
    crashsafe::sync_directory(path.parent().unwrap_or(path))?;
    Ok(Creation::Existed)
}

/// The part of a name up to and with its last `/`.
fn directory_of(name: &str) -> &str {
    name.rfind('/').map_or("", |at| &name[..=at])
}

fn location(root: &Path) -> String {
    format!("file:{}", root.display())
}

fn modified(found: &Metadata) -> Timestamp {
    Timestamp::from_nanos(found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec()))
}

fn reach(name: &'static str, path: &Path) -> Result<(), CrashsafeError> {
    failpoint::reach(name).map_err(|source| CrashsafeError {
        operation: "create",
        path: path.to_owned(),
        source,
    })
}

fn about_store(operation: &'static str, root: &Path, error: io::Error) -> ObjectError {
    ObjectError::about(kind_of(&error), operation, "store", location(root), error)
}

fn about_crashsafe(operation: &'static str, root: &Path, error: CrashsafeError) -> ObjectError {
    ObjectError::about(kind_of(&error.source), operation, "store", location(root), error)
}

/// vfat, exfat and many FUSE file systems answer `EPERM`, others that they do not know the call.
fn lacks_links(error: &CrashsafeError) -> bool {
    error.operation == "link"
        && matches!(
            error.kind(),
            ErrorKind::PermissionDenied | ErrorKind::Unsupported | ErrorKind::TooManyLinks
        )
}

/// A symbolic link (opened without following it) and a name under a file are no objects.
fn names_no_object(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

fn kind_of(error: &io::Error) -> ObjectErrorKind {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ObjectErrorKind::Full,
        ErrorKind::ReadOnlyFilesystem => ObjectErrorKind::ReadOnly,
        ErrorKind::PermissionDenied => ObjectErrorKind::Denied,
        ErrorKind::NotFound => ObjectErrorKind::NotFound,
        ErrorKind::TimedOut | ErrorKind::Interrupted => ObjectErrorKind::Transient,
        _ => ObjectErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operating_systems_errors_are_sorted() {
        for (errno, kind) in [
            (Errno::NOSPC, ObjectErrorKind::Full),
            (Errno::DQUOT, ObjectErrorKind::Full),
            (Errno::ROFS, ObjectErrorKind::ReadOnly),
            (Errno::ACCESS, ObjectErrorKind::Denied),
            (Errno::PERM, ObjectErrorKind::Denied),
            (Errno::NOENT, ObjectErrorKind::NotFound),
            (Errno::TIMEDOUT, ObjectErrorKind::Transient),
            (Errno::IO, ObjectErrorKind::Other),
        ] {
            assert_eq!(kind_of(&io::Error::from(errno)), kind, "{errno:?}");
        }
    }

    #[test]
    fn a_file_that_ends_early_gives_fewer_bytes_and_never_more_than_asked() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"0123456789").unwrap();
        assert_eq!(read_at(&file, 2, 3).unwrap(), b"234");
        assert_eq!(read_at(&file, 8, 1 << 20).unwrap(), b"89");
        assert_eq!(read_at(&file, 10, 1).unwrap(), b"");
        assert_eq!(read_at(&file, 3, 0).unwrap(), b"");
    }

    #[test]
    fn only_a_link_that_cannot_be_made_means_unsuitable() {
        let error = |operation, errno: Errno| CrashsafeError {
            operation,
            path: PathBuf::from("x"),
            source: io::Error::from(errno),
        };
        assert!(lacks_links(&error("link", Errno::PERM)));
        assert!(lacks_links(&error("link", Errno::OPNOTSUPP)));
        assert!(lacks_links(&error("link", Errno::NOSYS)));
        assert!(!lacks_links(&error("link", Errno::NOSPC)));
        assert!(!lacks_links(&error("write", Errno::PERM)));
    }
}
