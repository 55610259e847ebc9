//! The tree that is measured on: real files of this machine and seeded noise, and 1 % of change to it.
//!
//! The same image gives the same tree; another gives a similar one, so that only ratios within one run carry
//! over. A tree that is complete has a stamp beside it and is reused.

use crate::error::BenchError;
use crate::tree;
use lifeboat_base::crashsafe;
use std::collections::HashMap;
use std::fs::{self, File, FileTimes, Metadata, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Larger files are passed over, so that no single one decides.
const FILE_BYTES_MAX: u64 = 63 << 20;
/// Noise, which nothing compresses: four files of 32 MiB.
const NOISE_FILES: u8 = 4;
const NOISE_BYTES: usize = 32 << 20;

/// Where the tree is.
pub(crate) fn tree_path(dir: &Path) -> PathBuf {
    dir.join("tree")
}

fn stamp_path(dir: &Path) -> PathBuf {
    dir.join("tree.complete")
}

/// Where a change keeps what it changed.
pub(crate) fn undo_path(dir: &Path) -> PathBuf {
    dir.join("tree.undo")
}

/// From where, to where under the tree, and how many bytes at most.
fn parts() -> Vec<(PathBuf, &'static str, u64)> {
    let mut parts = vec![
        ("/usr/share".into(), "share", 400_000_000),
        ("/usr/include".into(), "include", 120_000_000),
        ("/usr/lib".into(), "lib", 700_000_000),
    ];
    parts.extend(toolchains().map(|path| (path, "rustup", 760_000_000)));
    parts
}

fn toolchains() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup"));
    let rustup = std::env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(home)?;
    Some(rustup.join("toolchains")).filter(|path| path.is_dir())
}

/// Builds the tree below `dir`, unless it is there whole and unchanged.
///
/// # Errors
/// With the file that cannot be copied.
pub(crate) fn build(dir: &Path) -> Result<(), BenchError> {
    let tree = tree_path(dir);
    if stamp_path(dir).exists() && !undo_path(dir).exists() {
        return Ok(());
    }
    // An interrupted build or change: begin again, since nobody knows what is where.
    crashsafe::remove(&stamp_path(dir))?;
    for stale in [&tree, &undo_path(dir)] {
        remove_all(stale)?;
    }
    for (source, below, cap_bytes) in parts() {
        copy_part(&source, &tree.join(below), cap_bytes)?;
    }
    make_noise(&tree.join("noise"))?;
    crashsafe::create(&stamp_path(dir), b"")?;
    Ok(())
}

/// Removes a folder with all that is in it; one that is not there is no error. A process that a tool left behind, as
/// pgBackRest's archiver is, may write there for a while yet.
pub(crate) fn remove_all(path: &Path) -> Result<(), BenchError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty && attempts < 40 => {
                std::thread::sleep(Duration::from_millis(250));
            }
            Err(error) => return Err(BenchError::io("remove", path, error)),
        }
    }
}

/// Copies files in the byte order of their paths, up to the cap; hard links stay links.
fn copy_part(source: &Path, target: &Path, cap_bytes: u64) -> Result<(), BenchError> {
    let mut below = tree::files(source)?;
    below.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    let (mut total, mut copied) = (0, HashMap::new());
    for path in below {
        let from = source.join(&path);
        let meta = fs::symlink_metadata(&from).map_err(|e| BenchError::io("look at", &from, e))?;
        if meta.len() > FILE_BYTES_MAX {
            continue;
        }
        total += meta.len();
        if total > cap_bytes {
            break;
        }
        copy_file(&from, &target.join(&path), &meta, &mut copied)?;
    }
    Ok(())
}

fn copy_file(
    from: &Path,
    to: &Path,
    meta: &Metadata,
    copied: &mut HashMap<(u64, u64), PathBuf>,
) -> Result<(), BenchError> {
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder).map_err(|e| BenchError::io("create folder", folder, e))?;
    if let Some(first) = copied.get(&(meta.dev(), meta.ino())) {
        return fs::hard_link(first, to).map_err(|e| BenchError::io("link", to, e));
    }
    match copy_whole(from, to, meta) {
        // What this user may not read is no part of the tree.
        Err(BenchError::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            return Ok(());
        }
        result => result?,
    }
    if meta.nlink() > 1 {
        copied.insert((meta.dev(), meta.ino()), to.to_owned());
    }
    Ok(())
}

/// Content, mode, time and, for root, owner.
fn copy_whole(from: &Path, to: &Path, meta: &Metadata) -> Result<(), BenchError> {
    fs::copy(from, to).map_err(|e| BenchError::io("copy", from, e))?;
    if rustix::process::geteuid().is_root() {
        chown(to, Some(meta.uid()), Some(meta.gid()))
            .map_err(|e| BenchError::io("change the owner of", to, e))?;
        // Changing the owner clears set-uid bits.
        fs::set_permissions(to, meta.permissions())
            .map_err(|e| BenchError::io("change the mode of", to, e))?;
    }
    let modified = meta.modified().map_err(|e| BenchError::io("look at", from, e))?;
    File::open(to)
        .and_then(|file| file.set_times(FileTimes::new().set_modified(modified)))
        .map_err(|e| BenchError::io("set the time of", to, e))
}

fn make_noise(folder: &Path) -> Result<(), BenchError> {
    fs::create_dir_all(folder).map_err(|e| BenchError::io("create folder", folder, e))?;
    for number in 1..=NOISE_FILES {
        let path = folder.join(format!("n{number}.bin"));
        let bytes = noise(u64::from(number), NOISE_BYTES);
        write_new(&path, &bytes)?;
    }
    Ok(())
}

/// Bytes that look random and are always the same for a seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(b"lifeboat-bench")
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), BenchError> {
    File::create_new(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|e| BenchError::io("write", path, e))
}

/// What happens to a file that changes.
#[derive(Clone, Copy)]
enum Change {
    /// 4 KiB in the middle are overwritten.
    Overwrite,
    /// 2 KiB are appended.
    Append,
    /// It is deleted.
    Delete,
}

/// Of ten files that change.
const CHANGES: [Change; 10] = {
    use Change::{Append, Delete, Overwrite};
    [Overwrite, Overwrite, Overwrite, Overwrite, Overwrite, Overwrite, Overwrite, Append, Append, Delete]
};
const OVERWRITTEN_BYTES: u64 = 4096;
const APPENDED_BYTES: usize = 2048;
/// Larger files stay as they are, so that the 1 % is spread over many.
const CHANGED_FILE_BYTES_MAX: u64 = 8 << 20;
const NEW_FILES: u64 = 20;
const NEW_FILE_BYTES: usize = 100_000;
const NEW_FOLDER: &str = "new";

/// Changes files that together hold 1 % of the tree's bytes, adds some, and keeps in `undo` what was there.
///
/// # Errors
/// With the file that cannot be changed; the tree is then built anew by the next run.
pub(crate) fn change(tree: &Path, undo: &Path, seed: u64) -> Result<(), BenchError> {
    change_into(tree, undo, seed, NEW_FOLDER)
}

/// As [`change`], with the new files in a folder of another name: for many changes one after another.
///
/// # Errors
/// As [`change`].
pub(crate) fn change_into(tree: &Path, undo: &Path, seed: u64, new_folder: &str) -> Result<(), BenchError> {
    fs::create_dir_all(undo).map_err(|e| BenchError::io("create folder", undo, e))?;
    let mut files = tree::files(tree)?;
    shuffle(&mut files, seed);
    let (budget, mut touched, mut changed) = (tree::size_bytes(tree)? / 100, 0, 0_usize);
    for below in files {
        let path = tree.join(&below);
        let meta = fs::symlink_metadata(&path).map_err(|e| BenchError::io("look at", &path, e))?;
        // A second name of a file would change with the first.
        if meta.len() == 0 || meta.len() > CHANGED_FILE_BYTES_MAX || meta.nlink() > 1 {
            continue;
        }
        keep(&path, &undo.join(&below), &meta)?;
        apply(CHANGES[changed % CHANGES.len()], &path, meta.len(), seed ^ changed as u64)
            .map_err(|e| BenchError::io("change", &path, e))?;
        (changed, touched) = (changed + 1, touched + meta.len());
        if touched > budget {
            break;
        }
    }
    add_new(&tree.join(new_folder), seed)
}

fn keep(path: &Path, kept: &Path, meta: &Metadata) -> Result<(), BenchError> {
    let folder = kept.parent().unwrap_or(kept);
    fs::create_dir_all(folder).map_err(|e| BenchError::io("create folder", folder, e))?;
    copy_whole(path, kept, meta)
}

fn apply(change: Change, path: &Path, length: u64, seed: u64) -> std::io::Result<()> {
    match change {
        Change::Overwrite => {
            let mut file = OpenOptions::new().write(true).open(path)?;
            file.seek(SeekFrom::Start(length / 2))?;
            let bytes = OVERWRITTEN_BYTES.min(length - length / 2).max(1);
            file.write_all(&noise(seed, usize::try_from(bytes).unwrap_or(1)))
        }
        Change::Append => OpenOptions::new().append(true).open(path)?.write_all(&noise(seed, APPENDED_BYTES)),
        Change::Delete => fs::remove_file(path),
    }
}

fn add_new(folder: &Path, seed: u64) -> Result<(), BenchError> {
    fs::create_dir_all(folder).map_err(|e| BenchError::io("create folder", folder, e))?;
    for number in 0..NEW_FILES {
        write_new(&folder.join(format!("{number}.bin")), &noise(!seed ^ number, NEW_FILE_BYTES))?;
    }
    Ok(())
}

/// Takes a change back: contents, modes and times are as they were.
///
/// # Errors
/// With the file that cannot be put back; the tree is then built anew by the next run.
pub(crate) fn revert(tree: &Path, undo: &Path) -> Result<(), BenchError> {
    tree::walk(undo, &mut |below, kept| {
        let meta = fs::symlink_metadata(kept).map_err(|e| BenchError::io("look at", kept, e))?;
        copy_whole(kept, &tree.join(below), &meta)
    })?;
    remove_all(&tree.join(NEW_FOLDER))?;
    remove_all(undo)
}

/// Fisher and Yates, drawing from seeded noise.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut numbers = blake3::Hasher::new().update(b"shuffle").update(&seed.to_le_bytes()).finalize_xof();
    for last in (1..items.len()).rev() {
        let mut bytes = [0; 8];
        numbers.fill(&mut bytes);
        let bound = last as u64 + 1;
        items.swap(last, usize::try_from(u64::from_le_bytes(bytes) % bound).unwrap_or(last));
    }
}

/// How many files a tree has and how many bytes they hold, for the report.
pub(crate) fn describe(tree: &Path) -> Result<(u64, u64), BenchError> {
    let (mut files, mut bytes) = (0, 0);
    tree::walk(tree, &mut |_, path| {
        files += 1;
        bytes += fs::symlink_metadata(path).map_err(|e| BenchError::io("look at", path, e))?.len();
        Ok(())
    })?;
    Ok((files, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planted(tree: &Path) {
        for number in 0..300_u64 {
            let path = tree.join(format!("d{}/f{number}", number % 7));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            write_new(&path, &noise(number, 3000)).unwrap();
        }
    }

    #[test]
    fn a_change_is_about_one_per_cent_and_can_be_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, twin) = (folder.path().join("tree"), folder.path().join("twin"));
        planted(&tree);
        planted(&twin);
        let undo = folder.path().join("undo");
        let before = fs::metadata(tree.join("d0/f0")).unwrap().modified().unwrap();
        change(&tree, &undo, 42).unwrap();
        assert_eq!(
            tree::files(&undo).unwrap().len(),
            4,
            "of 300 equal files, until more than three are touched"
        );
        assert_eq!(tree::files(&tree.join(NEW_FOLDER)).unwrap().len(), 20);
        tree::compare(&tree, &twin).unwrap_err();
        revert(&tree, &undo).unwrap();
        tree::compare(&tree, &twin).unwrap();
        assert!(!undo.exists());
        assert_eq!(fs::metadata(tree.join("d0/f0")).unwrap().modified().unwrap(), before);
    }

    #[test]
    fn every_kind_of_change_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write_new(&path, &[0; 10_000]).unwrap();
        apply(Change::Overwrite, &path, 10_000, 1).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 10_000 && bytes[..5000] == [0; 5000] && bytes[5000..9096] != [0; 4096]);
        apply(Change::Append, &path, 10_000, 1).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 12_048);
        apply(Change::Delete, &path, 12_048, 1).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_part_is_capped_in_the_order_of_the_paths_and_keeps_hard_links() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("s"), folder.path().join("t"));
        tree::tests::plant(&source, &[("a", &[1; 40]), ("b/c", &[2; 40]), ("d", &[3; 40])]);
        fs::hard_link(source.join("a"), source.join("a2")).unwrap();
        copy_part(&source, &target, 120).unwrap();
        assert_eq!(tree::files(&target).unwrap(), ["a", "a2", "b/c"].map(PathBuf::from));
        let (a, a2) = (fs::metadata(target.join("a")).unwrap(), fs::metadata(target.join("a2")).unwrap());
        assert_eq!(a.ino(), a2.ino());
    }

    #[test]
    fn shuffling_is_a_permutation_that_a_seed_pins() {
        let shuffled = |seed| {
            let mut items: Vec<u32> = (0..100).collect();
            shuffle(&mut items, seed);
            items
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut sorted = shuffled(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }
}
