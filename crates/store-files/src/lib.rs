//! The files driver: a tree of files becomes a snapshot.
//!
//! The tree is walked depth first, in each directory in byte order. What the base snapshot has under the
//! same path with the same size, times and inode is taken over without being read. The rest is read, and
//! what changes while it is read is read again, then kept and flagged. What cannot be read is listed and
//! the rest goes on.
//!
//! This crate knows file systems and the writer of a snapshot. It deliberately does not know how content is
//! stored, and the way back is not here: every snapshot is restored by [`lifeboat_store::materialise`].
//!
//! Failpoint: `files::read` (a file was read, and it was not asked yet whether it changed meanwhile).

mod stream;
mod unchanged;
mod walk;

use lifeboat_base::Hint;
use lifeboat_repository::tree::Metadata;
use lifeboat_repository::{RepositoryError, SnapshotWriter};
use lifeboat_store::exclude::Exclude;
use lifeboat_store::progress::Progress;
use lifeboat_store::{Directory, PathError, Problems};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What the store is called in a snapshot.
pub const STORE: &str = "files";

/// A tree of files.
#[derive(Clone, Debug)]
pub struct FilesDriver {
    root: PathBuf,
    options: FilesOptions,
}

/// What of a tree is not recorded.
#[derive(Clone, Debug, Default)]
pub struct FilesOptions {
    /// What the operator leaves out.
    pub exclude: Exclude,
    /// Directories that are left out wherever they lie in the tree, by any name: the repository itself and
    /// the local state, which change while they are read because they are read. Those that do not exist
    /// are passed over.
    pub never: Vec<PathBuf>,
}

/// What a snapshot of a tree took in and what it could not.
#[derive(Debug, Default)]
pub struct SnapshotReport {
    /// What the file system said of the root, to finish the snapshot with.
    pub root: Metadata,
    /// Directories, without the root.
    pub directories: u64,
    /// Regular files, further names not counted.
    pub files: u64,
    /// Symbolic links, pipes, sockets and devices.
    pub others: u64,
    /// Further names of files that have been counted.
    pub hard_links: u64,
    /// Files that were taken over from the base without being read.
    pub unchanged: u64,
    /// What the patterns left out, without counting what lies below.
    pub excluded: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// What could not be read and is not in the snapshot, or without its content in the case of a directory.
    pub left_out: Problems,
    /// Files that changed while they were read: in the snapshot, but in a state that they may never have had.
    pub torn: Problems,
}

/// A snapshot of a tree that cannot be finished.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The root cannot be opened or read.
    #[error(transparent)]
    Root(PathError),
    /// The root was removed while it was read, so that what was read is no state of it.
    #[error("{} was removed while it was read", path.display())]
    Vanished {
        /// The root.
        path: PathBuf,
    },
    /// The repository failed.
    #[error("write the snapshot")]
    Repository(#[from] RepositoryError),
}

impl Hint for FilesError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Root(error) if error.kind() == io::ErrorKind::NotFound => {
                Some("Check the path; if it is a mount point's, check that it is mounted.".to_owned())
            }
            Self::Root(error) => error.hint(),
            Self::Vanished { .. } => Some("Check what removed it; no snapshot was published.".to_owned()),
            Self::Repository(error) => error.hint(),
        }
    }
}

impl FilesDriver {
    /// A driver of the tree below `root`, which may be reached through symbolic links.
    pub fn new(root: impl Into<PathBuf>, options: FilesOptions) -> Self {
        Self { root: root.into(), options }
    }

    /// The root, as it was named.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the tree can be read at all.
    ///
    /// # Errors
    /// Where the root is missing, no directory, or closed to us.
    pub fn probe(&self) -> Result<(), FilesError> {
        self.open().map(|_| ())
    }

    /// Writes the tree into a snapshot, which the caller then finishes with [`SnapshotReport::root`].
    ///
    /// # Errors
    /// Where the root cannot be read or the repository fails. What concerns single entries is in the report.
    pub fn snapshot(
        &self,
        writer: &mut SnapshotWriter,
        progress: &Progress,
    ) -> Result<SnapshotReport, FilesError> {
        let root = self.open()?;
        walk::Walk::new(self, root, writer, progress)?.run()
    }

    fn open(&self) -> Result<Directory, FilesError> {
        Directory::open_root(&self.root).map_err(|error| self.at_root("open", error))
    }

    fn at_root(&self, operation: &'static str, error: io::Error) -> FilesError {
        FilesError::Root(PathError::new(operation, self.root.as_os_str().as_bytes(), error))
    }
}
