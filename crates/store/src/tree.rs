//! What a driver needs of a repository: a snapshot's tree to write and to read.
//!
//! The repository implements it; so does a tree in memory, in tests. Drivers see nothing else of what a
//! repository is.

use crate::materialise::MaterialiseError;
use lifeboat_base::clock::Timestamp;
use lifeboat_repository::tree::{Content, Entry, Metadata};
use lifeboat_repository::{Deliver, Descend, Piece, Reader, RepositoryError, Request, Snapshot};
use std::io::Read;

/// A snapshot's tree that is being written: depth first, in each directory in byte order of the names.
pub trait TreeWriter {
    /// When the snapshot that the base entries come from was begun; `None` without one.
    fn base_taken(&self) -> Option<Timestamp>;

    /// The entry of this name in the same directory of the base.
    ///
    /// # Errors
    /// Where the base cannot be read.
    fn base_entry(&mut self, name: &[u8]) -> Result<Option<Entry>, RepositoryError>;

    /// Takes the content of a base entry over, where the repository still holds all of it.
    ///
    /// # Errors
    /// Where the repository cannot be asked.
    fn reuse(&mut self, base: &Entry) -> Result<Option<Content>, RepositoryError>;

    /// Keeps the content of a file of this name. It is recorded with an entry that [`TreeWriter::add`] gets
    /// later, or with none.
    ///
    /// # Errors
    /// [`RepositoryError::Source`] where the stream fails: the writer goes on as if nothing had been kept.
    /// Otherwise where the repository fails.
    fn keep(&mut self, name: &[u8], stream: &mut dyn Read) -> Result<Content, RepositoryError>;

    /// Records an entry that is no directory.
    ///
    /// # Errors
    /// Where the repository fails, or the name does not sort after the one before.
    fn add(&mut self, entry: Entry) -> Result<(), RepositoryError>;

    /// Goes down into a directory.
    ///
    /// # Errors
    /// Where the base cannot be read.
    fn enter(&mut self, name: &[u8]) -> Result<(), RepositoryError>;

    /// Goes up again and records the directory; the writer fills in its listing.
    ///
    /// # Errors
    /// As [`TreeWriter::add`].
    fn leave(&mut self, directory: Entry) -> Result<(), RepositoryError>;
}

/// A snapshot's tree to read.
pub trait TreeReader: Sync {
    /// What the file system said of the root.
    fn root_metadata(&self) -> &Metadata;

    /// Visits each entry with the path of its directory (no slash at either end): a directory before what
    /// lies in it, names ascending. A directory is entered where `visit` says so.
    ///
    /// # Errors
    /// Of `visit`, or where a listing is missing or damaged.
    fn walk(
        &self,
        visit: &mut dyn FnMut(&[u8], &Entry) -> Result<Descend, MaterialiseError>,
    ) -> Result<(), MaterialiseError>;

    /// The entry at a path, or `None`.
    ///
    /// # Errors
    /// Where a listing on the way is missing or damaged.
    fn entry(&self, path: &[u8]) -> Result<Option<Entry>, RepositoryError>;

    /// Visits the pieces of a file that hold data. What none of them covers reads as zeros.
    ///
    /// # Errors
    /// Of `visit`, or where what lists the pieces is missing or damaged.
    fn pieces(
        &self,
        entry: &Entry,
        visit: &mut dyn FnMut(Piece) -> Result<(), MaterialiseError>,
    ) -> Result<(), MaterialiseError>;

    /// Fetches pieces, each compressed block once, and delivers them in any order, from several threads.
    ///
    /// # Errors
    /// Where a piece is missing or damaged, or `deliver` fails.
    fn fetch(&self, requests: Vec<Request>, deliver: &Deliver<'_>) -> Result<(), RepositoryError>;
}

/// The tree of a snapshot in a repository.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotTree<'a> {
    /// What reads the repository.
    pub reader: &'a Reader,
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// How many threads fetch content.
    pub threads: usize,
}

impl TreeReader for SnapshotTree<'_> {
    fn root_metadata(&self) -> &Metadata {
        &self.snapshot.root_metadata
    }

    fn walk(
        &self,
        visit: &mut dyn FnMut(&[u8], &Entry) -> Result<Descend, MaterialiseError>,
    ) -> Result<(), MaterialiseError> {
        self.reader.walk(self.snapshot, visit)
    }

    fn entry(&self, path: &[u8]) -> Result<Option<Entry>, RepositoryError> {
        self.reader.entry(self.snapshot, path)
    }

    fn pieces(
        &self,
        entry: &Entry,
        visit: &mut dyn FnMut(Piece) -> Result<(), MaterialiseError>,
    ) -> Result<(), MaterialiseError> {
        self.reader.pieces(entry, visit)
    }

    fn fetch(&self, requests: Vec<Request>, deliver: &Deliver<'_>) -> Result<(), RepositoryError> {
        self.reader.fetch(requests, self.threads, deliver)
    }
}
