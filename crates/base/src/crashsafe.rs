//! Files that survive a crash: the one way in which Lifeboat makes a file durable.
//!
//! Each function returns only after the bytes and the name that leads to them are on stable storage:
//! write to a temporary name in the same directory, sync the file, put it under its name, sync the
//! directory. A crash leaves either the old state or the new one, and at most a stray temporary file whose
//! name starts with [`TEMPORARY_PREFIX`].
//!
//! Failpoints: `crashsafe::written` (the temporary file is written, not synced), `crashsafe::synced` (it is
//! synced, not named), `crashsafe::named` (it has its name, the directory is not synced).

use crate::{failpoint, hex, random};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How the names of temporary files start. Whoever lists a directory passes over them.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// A step of a crash-safe operation that failed, with the path that it failed on.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", path.display())]
pub struct CrashsafeError {
    /// What was being done, in the present tense.
    pub operation: &'static str,
    /// The path that it was done to.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl CrashsafeError {
    /// The kind of the operating system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// Whether [`create`] made the file or found one of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The file is new, whole and durable.
    Created,
    /// A file of that name existed and was left alone.
    Existed,
}

/// Creates `path` with `bytes`, never overwriting, atomic towards other processes (`link(2)`), mode 0600
/// less the umask.
///
/// # Errors
/// With the step and the path; the file then does not exist under its name, unless only the last sync of
/// the directory failed.
pub fn create(path: &Path, bytes: &[u8]) -> Result<Creation, CrashsafeError> {
    let temporary = write_temporary(path, bytes)?;
    let linked = fs::hard_link(&temporary, path);
    let creation = match linked {
        Ok(()) => Creation::Created,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Creation::Existed,
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            return Err(at("link", path, error));
        }
    };
    failpoint::reach("crashsafe::named").map_err(|e| at("create", path, e))?;
    fs::remove_file(&temporary).map_err(|e| at("remove temporary file", &temporary, e))?;
    sync_directory(parent(path))?;
    Ok(creation)
}

/// Replaces `path` with `bytes`, or creates it: readers see the old bytes or the new ones. Mode 0600.
///
/// # Errors
/// With the step and the path; the old file is then still there, unless only the last sync failed.
#[expect(clippy::disallowed_methods, reason = "this is the one place that renames")]
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), CrashsafeError> {
    let temporary = write_temporary(path, bytes)?;
    if let Err(error) = fs::rename(&temporary, path) {
        let _ = fs::remove_file(&temporary);
        return Err(at("rename to", path, error));
    }
    failpoint::reach("crashsafe::named").map_err(|e| at("replace", path, e))?;
    sync_directory(parent(path))
}

/// Removes `path` durably. A file that is not there is no error.
///
/// # Errors
/// With the step and the path.
pub fn remove(path: &Path) -> Result<(), CrashsafeError> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(parent(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at("remove", path, error)),
    }
}

/// Creates a directory and its missing parents durably. One that exists is no error.
///
/// # Errors
/// With the step and the path.
pub fn create_dir_all(path: &Path) -> Result<(), CrashsafeError> {
    if path.is_dir() {
        return Ok(());
    }
    let above = parent(path);
    if above != path {
        create_dir_all(above)?;
    }
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(at("create directory", path, error)),
    }
    sync_directory(above)
}

/// Makes the names in a directory durable.
///
/// # Errors
/// With the step and the path.
pub fn sync_directory(path: &Path) -> Result<(), CrashsafeError> {
    let directory = File::open(path).map_err(|e| at("open directory", path, e))?;
    directory.sync_all().map_err(|e| at("sync directory", path, e))
}

fn write_temporary(path: &Path, bytes: &[u8]) -> Result<PathBuf, CrashsafeError> {
    let name = format!("{TEMPORARY_PREFIX}{}", hex::encode(&random::bytes::<8>()));
    let temporary = parent(path).join(name);
    write_synced(&temporary, bytes).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    Ok(temporary)
}

fn write_synced(temporary: &Path, bytes: &[u8]) -> Result<(), CrashsafeError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)
        .map_err(|e| at("create temporary file", temporary, e))?;
    file.write_all(bytes).map_err(|e| at("write", temporary, e))?;
    failpoint::reach("crashsafe::written").map_err(|e| at("write", temporary, e))?;
    file.sync_all().map_err(|e| at("sync", temporary, e))?;
    failpoint::reach("crashsafe::synced").map_err(|e| at("sync", temporary, e))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn at(operation: &'static str, path: &Path, source: io::Error) -> CrashsafeError {
    CrashsafeError { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn create_never_overwrites_and_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("object");
        assert_eq!(create(&path, b"first").unwrap(), Creation::Created);
        assert_eq!(create(&path, b"second").unwrap(), Creation::Existed);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(directory.path()), ["object"]);
    }

    #[test]
    fn replace_and_remove() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn directories_are_made_with_their_parents() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("a/b/c");
        create_dir_all(&deep).unwrap();
        create_dir_all(&deep).unwrap();
        assert!(deep.is_dir());
        let file = directory.path().join("file");
        replace(&file, b"").unwrap();
        let error = create_dir_all(&file.join("below")).unwrap_err();
        assert_eq!(error.operation, "create directory");
    }

    #[test]
    fn an_error_names_the_step_and_the_path() {
        let error = create(Path::new("/nonexistent-lifeboat/x"), b"").unwrap_err();
        assert!(
            crate::report(&error).starts_with("create temporary file /nonexistent-lifeboat/.tmp-"),
            "{error}"
        );
    }
}
