//! Whether a folder or a database has changed since it was last looked at, told by what the file system says of
//! it and without reading it.
//!
//! Two likenesses of one place are equal only where every file has the same name, size, times, inode and mode.
//! That something has changed may be told too often, for instance where only a time was set; it is never told
//! too seldom, but for a file that is written to through memory without its time being set (mmap writers on some
//! network file systems).

use crate::error::{RecoveryError, Result};
use crate::target::Target;
use lifeboat_base::hex;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a target looks like now; `None` for a server, which has to be asked another way.
///
/// # Errors
/// Where a folder or a file cannot be looked at.
pub fn likeness(target: &Target) -> Result<Option<String>> {
    let mut hasher = blake3::Hasher::new();
    match target {
        Target::Files(root) => tree(root, &mut hasher)?,
        Target::Sqlite(database) => {
            for ending in ["", "-wal", "-journal"] {
                let mut name = database.clone().into_os_string();
                name.push(ending);
                one(Path::new(&name), ending.is_empty(), &mut hasher)?;
            }
        }
        Target::Postgres(_) => return Ok(None),
    }
    Ok(Some(hex::encode(hasher.finalize().as_bytes())))
}

/// Depth first and in byte order, so that the same tree is always seen the same way. A deep tree takes memory for
/// one folder's names at a time and level.
fn tree(root: &Path, hasher: &mut blake3::Hasher) -> Result<()> {
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let is_folder = one(&path, path == root, hasher)?;
        if is_folder {
            waiting.extend(names(&path)?);
        }
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<PathBuf>> {
    let look = || RecoveryError::io("look into", folder);
    let listed = match fs::read_dir(folder) {
        // It went while we looked: its own absence has changed its parent.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(look())?,
    };
    let mut names = Vec::new();
    for entry in listed {
        names.push(entry.map_err(look())?.path());
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// Takes one path in; says whether it is a folder.
fn one(path: &Path, must_exist: bool, hasher: &mut blake3::Hasher) -> Result<bool> {
    let stat = match fs::symlink_metadata(path) {
        Err(error) if !must_exist && error.kind() == std::io::ErrorKind::NotFound => {
            hasher.update(b"gone");
            return Ok(false);
        }
        other => other.map_err(RecoveryError::io("look at", path))?,
    };
    let name = path.as_os_str().as_bytes();
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name);
    for number in [stat.ino(), stat.dev(), stat.size(), u64::from(stat.mode())] {
        hasher.update(&number.to_le_bytes());
    }
    for time in [stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()] {
        hasher.update(&time.to_le_bytes());
    }
    Ok(stat.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(target: &Target) -> String {
        likeness(target).unwrap().unwrap()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test is the application that writes")]
    fn a_change_anywhere_shows_and_looking_changes_nothing() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("tree");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/c"), "one").unwrap();
        let target = Target::Files(root.clone());
        let first = of(&target);
        assert_eq!(of(&target), first);
        fs::write(root.join("a/b/c"), "two").unwrap();
        let second = of(&target);
        assert_ne!(second, first);
        fs::rename(root.join("a/b/c"), root.join("a/b/d")).unwrap();
        let third = of(&target);
        assert_ne!(third, second);
        fs::remove_file(root.join("a/b/d")).unwrap();
        assert_ne!(of(&target), third);
        assert!(likeness(&Target::Files(root.join("none"))).is_err());
    }

    #[test]
    fn a_commit_in_the_wal_shows() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("app.db");
        let database = rusqlite::Connection::open(&path).unwrap();
        database.pragma_update(None, "journal_mode", "WAL").unwrap();
        database.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
        let target = Target::Sqlite(path);
        let first = of(&target);
        database.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        assert_ne!(of(&target), first);
    }
}
