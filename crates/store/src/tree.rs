//! What a restore needs of a repository: a snapshot's tree to read.
//!
//! The repository implements it; so does a tree in memory, in tests. A restore sees nothing
//! else of what a repository is.

use crate::materialise::MaterialiseError;
use lifeboat_repository::tree::{Entry, Metadata};
use lifeboat_repository::{DeliverRun, Descend, Lost, Piece, Reader, RepositoryError, Request, Snapshot};

/// Takes an entry of a tree with the path of its directory, and says whether to go into it.
pub type VisitEntry<'a> = dyn FnMut(&[u8], &Entry) -> Result<Descend, MaterialiseError> + 'a;

/// Takes the path of a directory of which a part of the listing cannot be read, and why.
pub type LostListing<'a> = dyn FnMut(&[u8], RepositoryError) -> Result<(), MaterialiseError> + 'a;

/// Takes a piece of a file.
pub type VisitPiece<'a> = dyn FnMut(Piece) -> Result<(), MaterialiseError> + 'a;

/// A snapshot's tree to read.
pub trait TreeReader: Sync {
    /// What the file system said of the root.
    fn root_metadata(&self) -> &Metadata;

    /// Visits each entry with the path of its directory (no slash at either end): a directory before what
    /// lies in it, names ascending. A directory is entered where `visit` says so.
    ///
    /// Where a listing is missing or damaged, `lost` is called with the path of its directory.
    ///
    /// # Errors
    /// Of `visit` and `lost`, and where nothing can be read.
    fn walk(&self, visit: &mut VisitEntry<'_>, lost: &mut LostListing<'_>) -> Result<(), MaterialiseError>;

    /// The entry at a path, or `None`.
    ///
    /// # Errors
    /// Where a listing on the way is missing or damaged.
    fn entry(&self, path: &[u8]) -> Result<Option<Entry>, RepositoryError>;

    /// Visits the pieces of a file that hold data. What none of them covers reads as zeros.
    ///
    /// # Errors
    /// Of `visit`, or where what lists the pieces is missing or damaged.
    fn pieces(&self, entry: &Entry, visit: &mut VisitPiece<'_>) -> Result<(), MaterialiseError>;

    /// Fetches pieces, each compressed block once, and delivers them in any order, from several threads, together
    /// where they lie together and their tokens follow each other. What is missing or damaged is lost, and the rest
    /// delivered.
    ///
    /// # Errors
    /// Of `deliver` and `lost`, and where nothing can be read.
    fn fetch(
        &self,
        requests: Vec<Request>,
        deliver: &DeliverRun<'_>,
        lost: &Lost<'_>,
    ) -> Result<(), RepositoryError>;
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

    fn walk(&self, visit: &mut VisitEntry<'_>, lost: &mut LostListing<'_>) -> Result<(), MaterialiseError> {
        self.reader.walk_what_is_left(self.snapshot, visit, lost)
    }

    fn entry(&self, path: &[u8]) -> Result<Option<Entry>, RepositoryError> {
        self.reader.entry(self.snapshot, path)
    }

    fn pieces(&self, entry: &Entry, visit: &mut VisitPiece<'_>) -> Result<(), MaterialiseError> {
        self.reader.pieces(entry, visit)
    }

    fn fetch(
        &self,
        requests: Vec<Request>,
        deliver: &DeliverRun<'_>,
        lost: &Lost<'_>,
    ) -> Result<(), RepositoryError> {
        self.reader.fetch_what_is_left(requests, self.threads, deliver, lost)
    }
}
