//! Walking trees in the order of their paths, and comparing two of them byte for byte.

use crate::error::BenchError;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Calls `visit` with every regular file under `root`, by the order of names within each folder: its path
/// under `root`, and the whole path. Symbolic links are not followed.
///
/// # Errors
/// With the folder that cannot be read, or what `visit` says.
pub(crate) fn walk(
    root: &Path,
    visit: &mut dyn FnMut(&Path, &Path) -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    walk_into(root, &mut PathBuf::new(), visit)
}

fn walk_into(
    folder: &Path,
    below: &mut PathBuf,
    visit: &mut dyn FnMut(&Path, &Path) -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    let mut entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| BenchError::io("read folder", folder, e))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().map_err(|e| BenchError::io("look at", entry.path(), e))?;
        below.push(entry.file_name());
        if kind.is_dir() {
            walk_into(&entry.path(), below, visit)?;
        } else if kind.is_file() {
            visit(below, &entry.path())?;
        }
        below.pop();
    }
    Ok(())
}

/// Every regular file under `root`, in the order of [`walk`].
///
/// # Errors
/// As [`walk`].
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>, BenchError> {
    let mut found = Vec::new();
    walk(root, &mut |below, _| {
        found.push(below.to_owned());
        Ok(())
    })?;
    Ok(found)
}

/// The bytes of all regular files under `root`.
///
/// # Errors
/// As [`walk`].
pub(crate) fn size_bytes(root: &Path) -> Result<u64, BenchError> {
    let mut total = 0;
    walk(root, &mut |_, path| {
        total += fs::symlink_metadata(path).map_err(|e| BenchError::io("look at", path, e))?.len();
        Ok(())
    })?;
    Ok(total)
}

/// Refuses two trees whose regular files differ in path, mode, length or content.
///
/// # Errors
/// With the first difference.
pub(crate) fn compare(left: &Path, right: &Path) -> Result<(), BenchError> {
    let differ = |what: String| BenchError::Differ { left: left.into(), right: right.into(), what };
    let (in_left, in_right) = (files(left)?, files(right)?);
    if let Some((only, _)) = in_left.iter().zip(&in_right).find(|(a, b)| a != b) {
        return Err(differ(format!("at {}", only.display())));
    }
    if in_left.len() != in_right.len() {
        return Err(differ(format!("{} files and {}", in_left.len(), in_right.len())));
    }
    for path in &in_left {
        if let Some(what) = difference(&left.join(path), &right.join(path))? {
            return Err(differ(format!("the {what} of {}", path.display())));
        }
    }
    Ok(())
}

fn difference(left: &Path, right: &Path) -> Result<Option<&'static str>, BenchError> {
    let look = |path: &Path| fs::symlink_metadata(path).map_err(|e| BenchError::io("look at", path, e));
    let (a, b) = (look(left)?, look(right)?);
    if a.permissions().mode() != b.permissions().mode() {
        return Ok(Some("mode"));
    }
    if a.len() != b.len() {
        return Ok(Some("length"));
    }
    Ok((!same_content(left, right)?).then_some("content"))
}

fn same_content(left: &Path, right: &Path) -> Result<bool, BenchError> {
    let open = |path: &Path| File::open(path).map_err(|e| BenchError::io("open", path, e));
    let (mut a, mut b) = (open(left)?, open(right)?);
    let (mut of_a, mut of_b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let got_a = fill(&mut a, &mut of_a).map_err(|e| BenchError::io("read", left, e))?;
        let got_b = fill(&mut b, &mut of_b).map_err(|e| BenchError::io("read", right, e))?;
        if of_a[..got_a] != of_b[..got_b] {
            return Ok(false);
        }
        if got_a == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
pub(crate) fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    /// Puts files below `root`, for tests.
    pub(crate) fn plant(root: &Path, files: &[(&str, &[u8])]) {
        for (path, bytes) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create(path).unwrap().write_all(bytes).unwrap();
        }
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (left, right) = (folder.path().join("l"), folder.path().join("r"));
        let base: &[(&str, &[u8])] = &[("a/x", b"one"), ("b", b""), ("c", &[7; 3 << 20])];
        plant(&left, base);
        plant(&right, base);
        compare(&left, &right).unwrap();

        let said = |left: &Path, right: &Path| compare(left, right).unwrap_err().to_string();
        plant(&right, &[("a/x", b"two")]);
        assert!(said(&left, &right).ends_with("the content of a/x"));
        plant(&right, &[("a/x", b"tw")]);
        assert!(said(&left, &right).ends_with("the length of a/x"));
        plant(&right, &[("a/x", b"one"), ("d", b"")]);
        assert!(said(&left, &right).ends_with("3 files and 4"));
        fs::remove_file(right.join("d")).unwrap();
        fs::set_permissions(right.join("b"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(left.join("b"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(said(&left, &right).ends_with("the mode of b"));
        fs::remove_file(right.join("b")).unwrap();
        assert!(said(&left, &right).ends_with("at b"));
    }
}
