//! What a folder holds, so that two can be compared byte for byte and second for second.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// One entry: kind, permissions, time of change in nanoseconds (not of folders that a test reads into), and
/// content or target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    kind: char,
    mode: u32,
    modified: (i64, i64),
    content: Vec<u8>,
}

/// Every entry below a folder.
pub(crate) fn of(folder: &Path) -> BTreeMap<PathBuf, Item> {
    let mut items = BTreeMap::new();
    collect(folder, Path::new(""), &mut items);
    items
}

fn collect(root: &Path, below: &Path, items: &mut BTreeMap<PathBuf, Item>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let path = below.join(entry.unwrap().file_name());
        let item = item(&root.join(&path));
        let is_folder = item.kind == 'd';
        items.insert(path.clone(), item);
        if is_folder {
            collect(root, &path, items);
        }
    }
}

fn item(path: &Path) -> Item {
    let stat = fs::symlink_metadata(path).unwrap();
    let kind = stat.file_type();
    let (kind, content) = if kind.is_dir() {
        ('d', Vec::new())
    } else if kind.is_symlink() {
        ('l', fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec())
    } else if kind.is_fifo() {
        ('p', Vec::new())
    } else if kind.is_file() {
        ('-', fs::read(path).unwrap())
    } else {
        ('?', Vec::new())
    };
    Item { kind, mode: stat.mode(), modified: (stat.mtime(), stat.mtime_nsec()), content }
}
