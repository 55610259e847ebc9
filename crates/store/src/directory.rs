//! Handles of directories: the only way in which a tree is reached.
//!
//! Every operation takes a handle and one [`Name`], and never follows a symbolic link in that name. A name
//! is one component, so nothing that a snapshot or a concurrent process does can lead out of the root: not
//! `..`, not an absolute path, not a link planted where a directory was expected. Because the kernel never
//! sees more than one component, paths may be longer than its 4,096 bytes.
//!
//! This module knows no paths: whoever walks keeps them, and puts them into the errors.

use crate::error::display_path;
use lifeboat_base::Hint;
use lifeboat_repository::tree::is_safe_name;
use rustix::fs::{self, AtFlags, Dev, FileType, Mode, OFlags, Stat};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// One component of a path that can be used in a directory without leaving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name<'a>(&'a [u8]);

/// A name that would leave its directory, or that no file system can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{:?} is no name of a directory entry", display_path(.0))]
pub struct UnsafeName(pub Vec<u8>);

impl Hint for UnsafeName {
    fn hint(&self) -> Option<String> {
        Some(
            "The tree is damaged or forged: run `lifeboat check`, and restore from another snapshot or copy."
                .to_owned(),
        )
    }
}

impl From<UnsafeName> for io::Error {
    fn from(name: UnsafeName) -> Self {
        Self::new(io::ErrorKind::InvalidInput, name)
    }
}

impl<'a> Name<'a> {
    /// Checks a name: not empty, neither `.` nor `..`, without `/` and NUL.
    ///
    /// # Errors
    /// Where it is anything else.
    pub fn new(name: &'a [u8]) -> Result<Self, UnsafeName> {
        if is_safe_name(name) { Ok(Self(name)) } else { Err(UnsafeName(name.to_vec())) }
    }

    /// The bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// An open directory.
#[derive(Debug)]
pub struct Directory(OwnedFd);

const OPEN_DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

impl Directory {
    /// Opens the root of a tree. This alone follows symbolic links, since the operator named it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open_root(path: &Path) -> io::Result<Self> {
        let flags = OPEN_DIRECTORY.difference(OFlags::NOFOLLOW);
        Ok(Self(fs::open(path, flags, Mode::empty())?))
    }

    /// Opens a directory in this one.
    ///
    /// # Errors
    /// What the operating system says: `NotADirectory` also for a symbolic link.
    pub fn open_child(&self, name: Name<'_>) -> io::Result<Self> {
        Ok(Self(fs::openat(&self.0, name.0, OPEN_DIRECTORY, Mode::empty())?))
    }

    /// Creates a directory that only its owner can enter.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn create_child(&self, name: Name<'_>) -> io::Result<()> {
        Ok(fs::mkdirat(&self.0, name.0, Mode::RWXU)?)
    }

    /// Opens a file to read it. `quiet` leaves its access time alone, which only its owner and root may.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open_file(&self, name: Name<'_>, quiet: bool) -> io::Result<OwnedFd> {
        // NONBLOCK: what was a file a moment ago may be a pipe now, and must not hang us.
        let mut flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        flags.set(OFlags::NOATIME, quiet);
        Ok(fs::openat(&self.0, name.0, flags, Mode::empty())?)
    }

    /// Creates a file to write it, with these permission bits less the umask. One that exists is an error.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn create_file(&self, name: Name<'_>, mode: Mode) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(&self.0, name.0, flags, mode)?)
    }

    /// Opens a file that exists to write on.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn reopen_file(&self, name: Name<'_>) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(fs::openat(&self.0, name.0, flags, Mode::empty())?)
    }

    /// A handle to the thing itself that cannot read it, and that disturbs no pipe and no device.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open_reference(&self, name: Name<'_>) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(&self.0, name.0, flags, Mode::empty())?)
    }

    /// What the file system says of a name here.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn stat(&self, name: Name<'_>) -> io::Result<Stat> {
        Ok(fs::statat(&self.0, name.0, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// What the file system says of this directory.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn stat_self(&self) -> io::Result<Stat> {
        Ok(fs::fstat(&self.0)?)
    }

    /// The target of a symbolic link, however long.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn read_link(&self, name: Name<'_>) -> io::Result<Vec<u8>> {
        Ok(fs::readlinkat(&self.0, name.0, Vec::new())?.into_bytes())
    }

    /// Creates a symbolic link to `target`, whatever that is.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn create_symlink(&self, name: Name<'_>, target: &[u8]) -> io::Result<()> {
        Ok(fs::symlinkat(target, &self.0, name.0)?)
    }

    /// Gives a file in `from` a second name here. A symbolic link is linked itself.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn create_link(&self, name: Name<'_>, from: &Self, from_name: Name<'_>) -> io::Result<()> {
        Ok(fs::linkat(&from.0, from_name.0, &self.0, name.0, AtFlags::empty())?)
    }

    /// Creates a pipe, a socket or a device, for its owner alone.
    ///
    /// # Errors
    /// What the operating system says: devices need `CAP_MKNOD`.
    pub fn create_node(&self, name: Name<'_>, kind: FileType, device: Dev) -> io::Result<()> {
        Ok(fs::mknodat(&self.0, name.0, kind, Mode::RUSR | Mode::WUSR, device)?)
    }

    /// Removes what is not a directory.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn remove_file(&self, name: Name<'_>) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name.0, AtFlags::empty())?)
    }

    /// Whether there is nothing in here.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn is_empty(&self) -> io::Result<bool> {
        let mut entries = fs::Dir::read_from(&self.0)?;
        entries.try_fold(true, |empty, entry| {
            let entry = entry?;
            Ok(empty && matches!(entry.file_name().to_bytes(), b"." | b".."))
        })
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn name(text: &str) -> Name<'_> {
        Name::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_name_is_one_component() {
        for bad in ["", ".", "..", "/", "/etc", "a/b", "a/", "nul\0"] {
            assert_eq!(Name::new(bad.as_bytes()), Err(UnsafeName(bad.into())));
        }
        for good in [&b"a"[..], b"...", b"..a", b" ", b"\xff\n"] {
            assert_eq!(Name::new(good).unwrap().as_bytes(), good);
        }
    }

    #[test]
    fn no_operation_follows_a_symbolic_link() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::File::create(outside.path().join("file")).unwrap();
        let inside = tempfile::tempdir().unwrap();
        symlink(outside.path(), inside.path().join("to-directory")).unwrap();
        symlink(outside.path().join("file"), inside.path().join("to-file")).unwrap();
        symlink(outside.path().join("new"), inside.path().join("to-nothing")).unwrap();
        let root = Directory::open_root(inside.path()).unwrap();
        assert_eq!(root.open_child(name("to-directory")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert!(root.open_file(name("to-file"), false).is_err());
        assert!(root.reopen_file(name("to-file")).is_err());
        for taken in ["to-nothing", "to-file", "to-directory"] {
            assert_eq!(root.create_child(name(taken)).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            let error = root.create_file(name(taken), Mode::RUSR).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{taken}");
        }
        assert!(!outside.path().join("new").exists());
        assert_eq!(FileType::from_raw_mode(root.stat(name("to-file")).unwrap().st_mode), FileType::Symlink);
        root.create_link(name("link"), &root, name("to-file")).unwrap();
        assert_eq!(FileType::from_raw_mode(root.stat(name("link")).unwrap().st_mode), FileType::Symlink);
    }

    #[test]
    fn emptiness() {
        let directory = tempfile::tempdir().unwrap();
        let root = Directory::open_root(directory.path()).unwrap();
        assert!(root.is_empty().unwrap());
        root.create_symlink(name("x"), b"nowhere").unwrap();
        assert!(!root.is_empty().unwrap());
        assert_eq!(root.read_link(name("x")).unwrap(), b"nowhere");
    }
}
