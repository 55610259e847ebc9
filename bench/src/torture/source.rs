//! Small trees that change between backups, and what exactly a tree held.
//!
//! Contents come from one small pool, so that the same bytes come back after everybody has forgotten them:
//! a chunk that is being deleted is often one that somebody is about to need again.

use crate::draw::Draw;
use crate::error::BenchError;
use lifeboat_base::hex;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// How many contents there are.
const CONTENTS: usize = 96;
/// Most are small; one in eight is cut into several chunks.
const SMALL_BYTES_MAX: usize = 40_000;
const LARGE_BYTES_MAX: usize = 900_000;
/// How many files a tree has at the start, and at most.
const FILES: usize = 40;
const FILES_MAX: usize = 60;
const FOLDERS: usize = 6;
/// How many names of symbolic links there are in a folder.
const LINKS: usize = 4;
/// How many things change between two backups, at most.
const CHANGES_MAX: usize = 10;

/// What a tree held: for each path, what must come back.
pub(crate) type Manifest = BTreeMap<PathBuf, String>;

/// Makes a tree.
///
/// # Errors
/// With the file that cannot be written.
pub(crate) fn make(root: &Path, draw: &mut Draw) -> Result<(), BenchError> {
    fs::create_dir_all(root).map_err(|e| BenchError::io("create folder", root, e))?;
    (0..FILES).try_for_each(|_| add(root, draw))
}

/// Changes a few things in a tree.
///
/// # Errors
/// With the file that cannot be changed.
pub(crate) fn mutate(root: &Path, draw: &mut Draw) -> Result<(), BenchError> {
    for _ in 0..=draw.below(CHANGES_MAX) {
        let files = crate::tree::files(root)?;
        let victim = draw.of(&files).map(|below| root.join(below));
        match (draw.below(10), victim) {
            (0..=3, _) | (_, None) if files.len() < FILES_MAX => add(root, draw)?,
            (_, None) => {}
            (0..=5, Some(path)) => remove(&path)?,
            (6, Some(path)) => set_mode(&path, draw)?,
            (7, Some(path)) => link(&path, draw)?,
            (8, Some(path)) => append(&path, draw)?,
            (_, Some(path)) => overwrite(&path, draw)?,
        }
    }
    Ok(())
}

/// One of the contents.
fn content(number: usize) -> Vec<u8> {
    let mut draw = Draw::new(number as u64, "content");
    let most = if number.is_multiple_of(8) { LARGE_BYTES_MAX } else { SMALL_BYTES_MAX };
    let mut bytes = vec![0; draw.below(most)];
    draw.fill(&mut bytes);
    if number.is_multiple_of(3) {
        // Something that compresses, too.
        bytes.iter_mut().for_each(|byte| *byte = b'a' + *byte % 4);
    }
    bytes
}

fn add(root: &Path, draw: &mut Draw) -> Result<(), BenchError> {
    let folder = root.join(format!("folder-{}", draw.below(FOLDERS)));
    fs::create_dir_all(&folder).map_err(|e| BenchError::io("create folder", &folder, e))?;
    let path = folder.join(format!("file-{}", draw.below(1000)));
    let bytes = content(draw.below(CONTENTS));
    match fs::symlink_metadata(&path) {
        Ok(_) => remove(&path)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(BenchError::io("look at", &path, error)),
    }
    File::create_new(&path)
        .and_then(|mut file| file.write_all(&bytes))
        .map_err(|e| BenchError::io("write", &path, e))
}

fn remove(path: &Path) -> Result<(), BenchError> {
    fs::remove_file(path).map_err(|e| BenchError::io("remove", path, e))
}

fn set_mode(path: &Path, draw: &mut Draw) -> Result<(), BenchError> {
    let mode = 0o600 | u32::try_from(draw.below(0o100)).unwrap_or(0);
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|e| BenchError::io("change the mode of", path, e))
}

/// A symbolic link beside a file, to anywhere; of a few names, so that they do not pile up.
fn link(beside: &Path, draw: &mut Draw) -> Result<(), BenchError> {
    let path = beside.with_file_name(format!("link-{}", draw.below(LINKS)));
    if fs::symlink_metadata(&path).is_ok() {
        remove(&path)?;
    }
    symlink(format!("../target-{}", draw.below(100)), &path).map_err(|e| BenchError::io("link", &path, e))
}

fn append(path: &Path, draw: &mut Draw) -> Result<(), BenchError> {
    let bytes = content(draw.below(CONTENTS));
    OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(&bytes[..bytes.len().min(5000)]))
        .map_err(|e| BenchError::io("append to", path, e))
}

fn overwrite(path: &Path, draw: &mut Draw) -> Result<(), BenchError> {
    let mut bytes = [0; 700];
    draw.fill(&mut bytes);
    let length = fs::metadata(path).map_err(|e| BenchError::io("look at", path, e))?.len();
    let at = SeekFrom::Start(length / 2);
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.seek(at).and_then(|_| file.write_all(&bytes)))
        .map_err(|e| BenchError::io("change", path, e))
}

/// What a tree holds now: kind, mode, time and content of everything below `root`.
///
/// # Errors
/// With what cannot be read.
pub(crate) fn manifest(root: &Path) -> Result<Manifest, BenchError> {
    let mut manifest = Manifest::new();
    describe_folder(root, Path::new(""), &mut manifest)?;
    Ok(manifest)
}

fn describe_folder(root: &Path, below: &Path, manifest: &mut Manifest) -> Result<(), BenchError> {
    let folder = root.join(below);
    let entries = fs::read_dir(&folder)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| BenchError::io("read folder", &folder, e))?;
    for entry in entries {
        let (below, path) = (below.join(entry.file_name()), entry.path());
        let meta = fs::symlink_metadata(&path).map_err(|e| BenchError::io("look at", &path, e))?;
        manifest.insert(below.clone(), described(&path, &meta)?);
        if meta.is_dir() {
            describe_folder(root, &below, manifest)?;
        }
    }
    Ok(())
}

fn described(path: &Path, meta: &Metadata) -> Result<String, BenchError> {
    let content = if meta.is_symlink() {
        let target = fs::read_link(path).map_err(|e| BenchError::io("read link", path, e))?;
        hex::encode(target.as_os_str().as_bytes())
    } else if meta.is_file() {
        let bytes = fs::read(path).map_err(|e| BenchError::io("read", path, e))?;
        blake3::hash(&bytes).to_string()
    } else {
        String::new()
    };
    // A symbolic link's own mode cannot be set.
    let mode = if meta.is_symlink() { meta.mode() & !0o777 } else { meta.mode() };
    Ok(format!("mode {mode:o}, modified {}.{:09}, content {content}", meta.mtime(), meta.mtime_nsec()))
}

/// The first difference between what must be and what is.
pub(crate) fn difference(expected: &Manifest, found: &Manifest) -> Option<String> {
    let missing = expected.keys().find(|path| !found.contains_key(*path));
    if let Some(path) = missing {
        return Some(format!("{} is missing", path.display()));
    }
    found.iter().find_map(|(path, is)| match expected.get(path) {
        None => Some(format!("{} is too much", path.display())),
        Some(must) if must != is => Some(format!("{}: must be {must}; is {is}", path.display())),
        Some(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_changes_and_the_manifest_shows_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut draw = Draw::new(5, "tree");
        make(folder.path(), &mut draw).unwrap();
        let mut before = manifest(folder.path()).unwrap();
        assert_eq!(difference(&before, &manifest(folder.path()).unwrap()), None);
        for _ in 0..200 {
            mutate(folder.path(), &mut draw).unwrap();
            let after = manifest(folder.path()).unwrap();
            assert!(difference(&before, &after).is_some());
            assert!((10..=FILES_MAX + FOLDERS * (1 + LINKS)).contains(&after.len()), "{}", after.len());
            before = after;
        }
    }

    #[test]
    fn every_kind_of_difference_is_said() {
        let of = |pairs: &[(&str, &str)]| -> Manifest {
            pairs.iter().map(|(path, is)| (PathBuf::from(path), (*is).to_owned())).collect()
        };
        let base = of(&[("a", "1"), ("b", "2")]);
        assert_eq!(difference(&base, &base), None);
        assert_eq!(difference(&base, &of(&[("a", "1")])).unwrap(), "b is missing");
        assert_eq!(difference(&base, &of(&[("a", "1"), ("b", "2"), ("c", "3")])).unwrap(), "c is too much");
        assert_eq!(difference(&base, &of(&[("a", "1"), ("b", "3")])).unwrap(), "b: must be 2; is 3");
    }
}
