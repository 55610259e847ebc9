//! The tree of a data directory, put in order.
//!
//! A server sends its files in whatever order its file system lists them, and a snapshot wants them in byte
//! order, directory by directory. Contents are stored as they come; only entries wait here, a few hundred bytes
//! each, until the last one is there.

use lifeboat_repository::tree::{Entry, EntryKind, Metadata, is_safe_name};
use lifeboat_repository::{RepositoryError, SnapshotWriter};
use std::collections::BTreeMap;

/// A directory, in memory.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    metadata: Option<Metadata>,
    children: BTreeMap<Vec<u8>, Child>,
}

#[derive(Debug)]
enum Child {
    Folder(Folder),
    /// Without its name, which is the key.
    File(Box<Entry>),
}

/// A path that cannot be part of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnfitPath;

impl Folder {
    /// Adds a directory, or says what its metadata is.
    pub(crate) fn add_folder(&mut self, path: &[u8], metadata: Metadata) -> Result<(), UnfitPath> {
        let mut folder = self;
        for name in components(path) {
            folder = folder.enter(name)?;
        }
        folder.metadata = Some(metadata);
        Ok(())
    }

    /// Adds anything else. What was there under this path is replaced.
    pub(crate) fn add(&mut self, path: &[u8], mut entry: Entry) -> Result<(), UnfitPath> {
        let mut names: Vec<&[u8]> = components(path).collect();
        let name = names.pop().filter(|name| is_safe_name(name)).ok_or(UnfitPath)?;
        let mut folder = self;
        for name in names {
            folder = folder.enter(name)?;
        }
        entry.name = Vec::new();
        folder.children.insert(name.to_vec(), Child::File(Box::new(entry)));
        Ok(())
    }

    fn enter(&mut self, name: &[u8]) -> Result<&mut Self, UnfitPath> {
        if !is_safe_name(name) {
            return Err(UnfitPath);
        }
        let child = self.children.entry(name.to_vec()).or_insert_with(|| Child::Folder(Self::default()));
        match child {
            Child::Folder(folder) => Ok(folder),
            Child::File(_) => Err(UnfitPath),
        }
    }

    /// Writes everything below into a snapshot, in its order. A directory of which nothing was said is its
    /// owner's alone, and `default` says whose.
    pub(crate) fn write(
        self,
        writer: &mut SnapshotWriter,
        default: &Metadata,
    ) -> Result<(), RepositoryError> {
        for (name, child) in self.children {
            match child {
                Child::File(entry) => writer.add(Entry { name, ..*entry })?,
                Child::Folder(mut folder) => {
                    let mut entry = Entry::new(name, EntryKind::Directory);
                    entry.metadata = folder.metadata.take().unwrap_or_else(|| default.clone());
                    writer.enter(&entry.name);
                    folder.write(writer, default)?;
                    writer.leave(entry)?;
                }
            }
        }
        Ok(())
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_leave_the_tree_is_refused() {
        let mut folder = Folder::default();
        let file = || Entry::new(*b"x", EntryKind::File);
        assert_eq!(folder.add(b"../etc/passwd", file()), Err(UnfitPath));
        assert_eq!(folder.add(b"a/..", file()), Err(UnfitPath));
        assert_eq!(folder.add(b"", file()), Err(UnfitPath));
        assert_eq!(folder.add_folder(b"a/../b", Metadata::default()), Err(UnfitPath));
        folder.add(b"./base//1/2", file()).unwrap();
        assert_eq!(folder.add(b"base/1/2/3", file()), Err(UnfitPath), "a file is no folder");
    }
}
