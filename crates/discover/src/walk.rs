//! The folder, walked within bounds: nearest first, in order of the names, and no link followed.

use crate::found::{PassedOver, text_of};
use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

/// How deep folders are looked into: systems keep what describes them near the top.
const MAX_DEPTH: usize = 6;
/// How many files and folders are looked at, so that a tree of millions takes a second and not an hour.
const MAX_ENTRIES: usize = 20_000;

/// What other tools make, fetch or keep there; nothing of it is data of the system.
const NEVER: &[&str] = &[
    ".git",
    ".hg",
    ".svn",
    ".cache",
    ".terraform",
    ".tox",
    ".venv",
    "__pycache__",
    "lifeboat-repo",
    "node_modules",
    "site-packages",
    "target",
    "vendor",
    "venv",
];
/// What is looked at by nobody who asks for data that must survive.
const ASIDE: &[(&str, &str)] = &[
    ("backup", "by its name it holds backups"),
    ("backups", "by its name it holds backups"),
    ("corpus", "by its name it is for tests"),
    ("fixtures", "by its name it is for tests"),
    ("test", "by its name it is for tests"),
    ("testdata", "by its name it is for tests"),
    ("tests", "by its name it is for tests"),
];

/// What is there. Paths are below the folder that was walked, with `/` between their parts.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Regular files with something in them.
    pub(crate) files: Vec<String>,
    /// Folders, but for the walked one.
    pub(crate) folders: BTreeSet<String>,
    /// Data directories of PostgreSQL servers.
    pub(crate) clusters: Vec<String>,
    pub(crate) passed_over: Vec<PassedOver>,
    entries: usize,
}

/// Walks a folder.
///
/// # Errors
/// Where the folder itself cannot be read.
pub(crate) fn walk(root: &Path) -> io::Result<Tree> {
    let mut tree = Tree::default();
    let mut waiting = VecDeque::from([(String::new(), 0)]);
    while let Some((folder, depth)) = waiting.pop_front() {
        let entries = match sorted(&root.join(&folder)) {
            Ok(entries) => entries,
            Err(error) if folder.is_empty() => return Err(error),
            Err(error) => {
                tree.miss(&folder, error.to_string());
                continue;
            }
        };
        if !folder.is_empty() && (is_repository(&entries) || is_cluster(&entries)) {
            tree.folders.remove(&folder);
            if is_cluster(&entries) {
                tree.clusters.push(folder);
            }
            continue;
        }
        for entry in entries {
            tree.entries += 1;
            if tree.entries > MAX_ENTRIES {
                let rest = if folder.is_empty() { "." } else { &folder };
                tree.miss(rest, format!("only the first {MAX_ENTRIES} files and folders were looked at"));
                return Ok(tree);
            }
            if let Some(below) = tree.take(&folder, &entry) {
                tree.descend(below, depth, &mut waiting);
            }
        }
    }
    Ok(tree)
}

fn sorted(folder: &Path) -> io::Result<Vec<DirEntry>> {
    // One more than will be looked at is enough to know that there are too many.
    let mut entries = fs::read_dir(folder)?.take(MAX_ENTRIES + 1).collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}

/// A repository of ours is no data of the system.
fn is_repository(entries: &[DirEntry]) -> bool {
    let has = |name: &str| entries.iter().any(|entry| entry.file_name() == name);
    has("config") && has("roster") && has("slots")
}

fn is_cluster(entries: &[DirEntry]) -> bool {
    let has = |name: &str| entries.iter().any(|entry| entry.file_name() == name);
    has("PG_VERSION") && has("base")
}

impl Tree {
    fn miss(&mut self, path: &str, why: String) {
        self.passed_over.push(PassedOver { path: path.to_owned(), why, is_missed: true });
    }

    /// Takes an entry in; gives the path of a folder.
    fn take(&mut self, folder: &str, entry: &DirEntry) -> Option<String> {
        let kind = entry.file_type().ok()?;
        if !kind.is_dir() && !kind.is_file() {
            return None;
        }
        let Ok(name) = entry.file_name().into_string() else {
            let shown = PathBuf::from(folder).join(entry.file_name());
            self.miss(&shown.to_string_lossy(), "its name is no UTF-8".to_owned());
            return None;
        };
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if kind.is_dir() {
            return Some(path);
        }
        if entry.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            self.files.push(path);
        }
        None
    }

    fn descend(&mut self, path: String, depth: usize, waiting: &mut VecDeque<(String, usize)>) {
        let name = name_of(&path);
        if NEVER.contains(&name) {
            return;
        }
        if let Some((_, why)) = ASIDE.iter().find(|(aside, _)| *aside == name) {
            self.passed_over.push(PassedOver { path, why: (*why).to_owned(), is_missed: false });
            return;
        }
        self.folders.insert(path.clone());
        if depth + 1 < MAX_DEPTH {
            waiting.push_back((path, depth + 1));
        } else {
            let why = format!("it is more than {MAX_DEPTH} folders deep");
            self.passed_over.push(PassedOver { path, why, is_missed: false });
        }
    }

    /// The files right in a folder.
    pub(crate) fn files_in<'t>(&'t self, folder: &'t str) -> impl Iterator<Item = &'t str> {
        self.files.iter().map(String::as_str).filter(move |path| parent_of(path) == folder)
    }

    /// The files below a folder.
    pub(crate) fn files_below<'t>(&'t self, folder: &'t str) -> impl Iterator<Item = &'t str> {
        self.files.iter().map(String::as_str).filter(move |path| is_below(path, folder))
    }
}

/// The last part of a path.
pub(crate) fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The path of the folder around; the walked folder's is empty.
pub(crate) fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Whether a path is the other one, or leads below it.
pub(crate) fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path as somebody writes it, relative to a folder of the tree, as a path of the tree; none where it leads out.
pub(crate) fn resolve(folder: &str, written: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in written.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    let is_relative = !written.starts_with(['/', '~']);
    is_relative.then(|| parts.join("/"))
}

/// The path as text below a root, where it is below it.
pub(crate) fn below_root(root: &Path, path: &Path) -> Option<String> {
    let root = std::path::absolute(root).ok()?;
    text_of(path.strip_prefix(root).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        lifeboat_base::crashsafe::replace(&path, b"x").unwrap();
    }

    #[test]
    fn what_other_tools_keep_is_not_looked_at_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), "secret.db");
        for path in [".nomic/a.db", "node_modules/b.db", "target/c.db", "tests/d.db", "a/b/c/d/e/f/g.db"] {
            write(folder.path(), path);
        }
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
        let tree = walk(folder.path()).unwrap();
        assert_eq!(tree.files, [".nomic/a.db"]);
        let passed: Vec<&str> = tree.passed_over.iter().map(|passed| passed.path.as_str()).collect();
        assert_eq!(passed, ["tests", "a/b/c/d/e/f"]);
    }

    #[test]
    fn a_data_directory_of_postgres_is_known_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "data/pg/PG_VERSION");
        write(folder.path(), "data/pg/base/1/2");
        let tree = walk(folder.path()).unwrap();
        assert_eq!((tree.clusters, tree.files.len()), (vec!["data/pg".to_owned()], 0));
    }

    #[test]
    fn paths_are_resolved_and_do_not_lead_out() {
        assert_eq!(resolve("deploy", "../data/").as_deref(), Some("data"));
        assert_eq!(resolve("deploy", "./x").as_deref(), Some("deploy/x"));
        assert_eq!(resolve("", "."), Some(String::new()));
        for out in ["../x", "/etc", "~/x"] {
            assert_eq!(resolve("", out), None, "{out}");
        }
        assert!(is_below("a/b", "a") && is_below("a", "a") && !is_below("ab", "a"));
    }
}
