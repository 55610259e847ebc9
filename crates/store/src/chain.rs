//! The directories from the root down to where a walk stands.
//!
//! Only the deepest [`OPEN_LEVELS_MAX`] are open, so that a tree may be deeper than a process may open
//! files. A level that was closed is reached again from the root, by its names, and must then be the same
//! directory as before: somebody may be moving directories while we read.

use crate::directory::{Directory, Name};
use rustix::fs::Stat;
use std::io;

/// How many levels stay open: deeper than nearly every tree, and far from any limit of open files.
pub const OPEN_LEVELS_MAX: usize = 64;
/// How many levels are opened again at once, so that leaving a deep tree costs little a level.
const REOPENED_LEVELS: usize = OPEN_LEVELS_MAX / 2;

/// Which directory a level is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

#[derive(Debug)]
struct Level {
    /// Where this level's name starts in the path.
    name_start: usize,
    identity: Identity,
    handle: Option<Directory>,
}

/// The open path of a walk.
#[derive(Debug)]
pub struct Chain {
    root: Directory,
    levels: Vec<Level>,
    path: Vec<u8>,
}

impl Chain {
    /// A walk that stands at the root.
    pub fn new(root: Directory) -> Self {
        Self { root, levels: Vec::new(), path: Vec::new() }
    }

    /// How many directories lie between here and the root.
    pub fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The path from the root, without a leading slash; empty at the root.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The path of a name in the current directory.
    pub fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.path.len() + 1 + name.len());
        path.extend_from_slice(&self.path);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// The directory where the walk stands.
    ///
    /// # Errors
    /// Where a closed level cannot be opened again, or is another directory now.
    pub fn current(&mut self) -> io::Result<&Directory> {
        if self.levels.last().is_some_and(|level| level.handle.is_none()) {
            self.reopen()?;
        }
        Ok(self.levels.last().and_then(|level| level.handle.as_ref()).unwrap_or(&self.root))
    }

    /// Goes down into a directory of the current one and gives back what the file system says of it.
    ///
    /// # Errors
    /// What the operating system says; the walk then stands where it stood.
    pub fn enter(&mut self, name: Name<'_>) -> io::Result<Stat> {
        let handle = self.current()?.open_child(name)?;
        let stat = handle.stat_self()?;
        if let Some(above) = self.levels.len().checked_sub(OPEN_LEVELS_MAX) {
            self.levels[above].handle = None;
        }
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.levels.push(Level {
            name_start: self.path.len(),
            identity: Identity::of(&stat),
            handle: Some(handle),
        });
        self.path.extend_from_slice(name.as_bytes());
        Ok(stat)
    }

    /// Goes up one level. At the root nothing happens.
    pub fn leave(&mut self) {
        if let Some(level) = self.levels.pop() {
            self.path.truncate(level.name_start.saturating_sub(1));
        }
    }

    /// Opens the deepest levels again, from the root down.
    fn reopen(&mut self) -> io::Result<()> {
        let keep_from = self.levels.len().saturating_sub(REOPENED_LEVELS);
        let mut passing: Option<Directory> = None;
        for index in 0..self.levels.len() {
            let above = match index.checked_sub(1).and_then(|above| self.levels[above].handle.as_ref()) {
                Some(kept) => kept,
                None => passing.as_ref().unwrap_or(&self.root),
            };
            let opened = above.open_child(self.name_of(index)?)?;
            if Identity::of(&opened.stat_self()?) != self.levels[index].identity {
                return Err(io::Error::other("the directory was replaced by another one during the walk"));
            }
            if index >= keep_from {
                self.levels[index].handle = Some(opened);
            } else {
                passing = Some(opened);
            }
        }
        Ok(())
    }

    fn name_of(&self, index: usize) -> io::Result<Name<'_>> {
        let start = self.levels[index].name_start;
        let end = self.levels.get(index + 1).map_or(self.path.len(), |below| below.name_start - 1);
        Ok(Name::new(&self.path[start..end])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &[u8] = b"a-directory-with-a-name-of-fifty-bytes-0123456789ab";

    fn deep(depth: usize) -> (tempfile::TempDir, Chain) {
        let directory = tempfile::tempdir().unwrap();
        let mut chain = Chain::new(Directory::open_root(directory.path()).unwrap());
        for _ in 0..depth {
            let name = Name::new(NAME).unwrap();
            chain.current().unwrap().create_child(name).unwrap();
            chain.enter(name).unwrap();
        }
        (directory, chain)
    }

    #[test]
    fn deeper_than_a_path_may_be_long_with_few_open_files() {
        let (_directory, mut chain) = deep(1500);
        assert!(chain.path().len() > 4096 * 10);
        assert_eq!(chain.depth(), 1500);
        for depth in (0..1500).rev() {
            chain.leave();
            let open = chain.levels.iter().filter(|level| level.handle.is_some()).count();
            assert!(open <= OPEN_LEVELS_MAX, "{open} open at {depth}");
            assert!(chain.current().unwrap().stat(Name::new(NAME).unwrap()).is_ok(), "{depth}");
        }
        assert_eq!(chain.path(), b"");
        chain.leave();
        assert_eq!(chain.path_of(b"x"), b"x");
    }

    #[test]
    fn a_directory_that_was_replaced_meanwhile_is_noticed() {
        let (directory, mut chain) = deep(OPEN_LEVELS_MAX + 2);
        let first = directory.path().join(std::str::from_utf8(NAME).unwrap());
        std::fs::create_dir_all(directory.path().join("other").join(std::str::from_utf8(NAME).unwrap()))
            .unwrap();
        rustix::fs::rename(&first, directory.path().join("aside")).unwrap();
        rustix::fs::rename(directory.path().join("other"), &first).unwrap();
        for _ in 0..OPEN_LEVELS_MAX {
            chain.leave();
        }
        assert!(chain.current().unwrap_err().to_string().contains("replaced"));
    }

    #[test]
    fn a_failed_step_down_leaves_the_walk_where_it_was() {
        let (_directory, mut chain) = deep(2);
        let before = chain.path().to_vec();
        assert!(chain.enter(Name::new(b"nothing").unwrap()).is_err());
        assert_eq!((chain.path(), chain.depth()), (&before[..], 2));
        assert_eq!(chain.path_of(b"x"), [&before[..], b"/x"].concat());
    }
}
