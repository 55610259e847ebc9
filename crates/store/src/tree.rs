//! What a driver needs of a repository: a snapshot's tree to write and to read.
//!
//! The repository implements it; so does a tree in memory, in tests. Drivers see nothing else of what a
//! repository is.

use lifeboat_base::clock::Timestamp;
use lifeboat_repository::RepositoryError;
use lifeboat_repository::ids::ChunkId;
use lifeboat_repository::tree::{Content, Entry, Metadata};
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

    /// Keeps a stream. The content is recorded with the entry that [`TreeWriter::add`] gets next, or with none.
    ///
    /// # Errors
    /// [`RepositoryError::Source`] where the stream fails: the writer goes on as if nothing had been kept.
    /// Otherwise where the repository fails.
    fn keep(&mut self, stream: &mut dyn Read) -> Result<Content, RepositoryError>;

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

/// A run of bytes of a file, and where to fetch it.
#[derive(Clone, Copy, Debug)]
pub struct Piece<S> {
    /// Where it lies in the file, in bytes.
    pub file_offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
    /// Where its bytes are.
    pub source: S,
}

/// Takes bytes that were fetched: the number that the request carried, and all bytes of its piece. Called
/// from several threads at once.
pub type Deliver<'a> = &'a (dyn Fn(u64, &[u8]) -> Result<(), RepositoryError> + Sync);

/// A snapshot's tree.
pub trait TreeReader: Sync {
    /// Where the bytes of a piece are.
    type Source: Send + Sync;

    /// The entries of one node of a listing, in ascending order of their names.
    ///
    /// # Errors
    /// Where the node is missing or damaged.
    fn entries(&self, node: &ChunkId) -> Result<Vec<Entry>, RepositoryError>;

    /// The pieces of a file that hold data, in any order and apart. What none of them covers reads as zeros.
    ///
    /// # Errors
    /// Where the file's own listing is missing or damaged, or `visit` fails.
    fn pieces(
        &self,
        entry: &Entry,
        visit: &mut dyn FnMut(Piece<Self::Source>) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError>;

    /// Fetches pieces, each compressed block once, and delivers them in any order.
    ///
    /// # Errors
    /// Where a piece is missing or damaged, or `deliver` fails.
    fn fetch(&self, requests: Vec<(Self::Source, u64)>, deliver: Deliver<'_>) -> Result<(), RepositoryError>;
}

/// The root of a snapshot's tree, which has no name and so no entry.
#[derive(Clone, Copy, Debug)]
pub struct Root<'a> {
    /// The nodes of its listing.
    pub nodes: &'a [ChunkId],
    /// What the file system said of it.
    pub metadata: &'a Metadata,
}
