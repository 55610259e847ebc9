//! Object storage: directory, S3 and memory behind one trait, and decorators that wrap any of them.
//!
//! An object is a name and immutable bytes. It is **created once and never overwritten**: whoever loses the
//! race for a name learns that it exists. Listing is **strong**: what was created before the listing began is
//! in it. Everything that the repository promises rests on these two properties: the module `conformance` (a
//! feature) checks them on every implementation, and [`suitability`] on the store at hand.
//!
//! A name is never also the directory of another (`a` and `a/b`): a directory cannot hold both.
//!
//! The trait is synchronous: the repository is bound by compression, not by waiting, and a blocking trait
//! keeps every floor above free of a runtime (docs/adr/0002). The S3 implementation keeps its own.
//!
//! This crate deliberately knows nothing of what the bytes mean: no repository, no encryption, no snapshot.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod count;
pub mod directory;
mod error;
pub mod fault;
#[cfg(feature = "gcs")]
pub mod gcs;
mod key;
pub mod limit;
pub mod location;
pub mod memory;
pub mod read_only;
#[cfg(feature = "s3")]
pub mod remote;
pub mod retry;
#[cfg(feature = "s3")]
pub mod s3;
mod suitability;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{ObjectError, ObjectErrorKind};
pub use key::{InvalidKey, Key};
pub use location::{Location, LocationError, S3Location, create, open};
pub use suitability::suitability;

use lifeboat_base::clock::Timestamp;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The largest object that Lifeboat creates, in bytes: one PUT each, so that an object is there whole or not
/// at all (repository.md: bulk objects are at most 32 MiB; the rest is room for a header and a margin).
pub const MAX_OBJECT_BYTES: usize = 33 << 20;

/// What [`ObjectStore::create`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The object is new, whole and durable.
    Created,
    /// An object of that name exists. Its bytes may be these or others; the caller who must know reads it.
    Existed,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The object's name.
    pub key: Key,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When the store received it, by the store's own clock.
    pub arrived: Timestamp,
}

/// A store of immutable objects.
///
/// Implementations are used from many threads at once. Each method may be called again after an error: none
/// has an effect that a second call would double.
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Creates an object that does not exist yet, whole and durable when this returns. Never overwrites.
    ///
    /// After an error nobody knows whether the object exists; calling again with the same bytes is safe, and
    /// may then answer [`Creation::Existed`] for an object that the first call created.
    ///
    /// # Errors
    /// See [`ObjectErrorKind`].
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Creation, ObjectError>;

    /// The whole object.
    ///
    /// # Errors
    /// [`ObjectErrorKind::NotFound`] where there is none.
    fn get(&self, key: &Key) -> Result<Vec<u8>, ObjectError>;

    /// `length` bytes from `offset`. An answer shorter than `length` is an error
    /// ([`ObjectErrorKind::Truncated`]), never a short buffer.
    ///
    /// # Errors
    /// [`ObjectErrorKind::NotFound`] where there is none.
    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, ObjectError>;

    /// Size and arrival of one object.
    ///
    /// # Errors
    /// [`ObjectErrorKind::NotFound`] where there is none.
    fn head(&self, key: &Key) -> Result<Listed, ObjectError>;

    /// Calls `visit` for every object whose name starts with `prefix` (which ends with `/` or is empty) and
    /// sorts after `after`, in ascending byte order of the names, until it breaks.
    ///
    /// # Errors
    /// Also after some objects were visited: the caller must then not believe that it saw all.
    fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), ObjectError>;

    /// Removes an object. One that does not exist is no error.
    ///
    /// # Errors
    /// See [`ObjectErrorKind`].
    fn delete(&self, key: &Key) -> Result<(), ObjectError>;

    /// Where this is, for messages: a URL without secrets.
    fn location(&self) -> String;

    /// How many requests at once pay off: one for a local disk, more where each waits for a network.
    fn parallelism(&self) -> usize {
        1
    }
}

/// A store that many may hold.
pub type SharedStore = Arc<dyn ObjectStore>;

/// Every object under `prefix`, in ascending order of the names. For prefixes known to be small.
///
/// # Errors
/// As [`ObjectStore::list`].
pub fn list_all(store: &dyn ObjectStore, prefix: &str) -> Result<Vec<Listed>, ObjectError> {
    let mut all = Vec::new();
    store.list(prefix, None, &mut |listed| {
        all.push(listed);
        ControlFlow::Continue(())
    })?;
    Ok(all)
}
