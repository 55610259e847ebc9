//! What can go wrong with a store, sorted by what the caller does about it.

use crate::Key;
use lifeboat_base::Hint;
use std::error::Error;

/// What the caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectErrorKind {
    /// There is no object of that name.
    NotFound,
    /// The store gave fewer bytes than it has or than were asked for.
    Truncated,
    /// The store refuses us: credentials or permissions. Trying again will not help.
    Denied,
    /// The store has no room left. Trying again will not help.
    Full,
    /// The store cannot be written to at all (a read-only file system, a bucket without write access).
    ReadOnly,
    /// The store does not do what a repository needs (create-once, strong listing).
    Unsuitable,
    /// It may work in a moment: a timeout, a reset connection, a 5xx.
    Transient,
    /// Anything else. Trying again will not help.
    Other,
}

/// A request to a store that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {subject} at {location}")]
pub struct ObjectError {
    /// What the caller can do about it.
    pub kind: ObjectErrorKind,
    /// What was being done, in the present tense.
    pub operation: &'static str,
    /// The object's name or the prefix.
    pub subject: String,
    /// The store, as a URL without secrets.
    pub location: String,
    /// What the operating system or the server said.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

impl ObjectError {
    /// An error about one object.
    pub fn new(
        kind: ObjectErrorKind,
        operation: &'static str,
        key: &Key,
        location: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { kind, operation, subject: key.to_string(), location: location.into(), source: source.into() }
    }

    /// An error about something else than one object: a prefix, or the store itself.
    pub fn about(
        kind: ObjectErrorKind,
        operation: &'static str,
        subject: impl Into<String>,
        location: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { kind, operation, subject: subject.into(), location: location.into(), source: source.into() }
    }

    /// An object larger than any that Lifeboat creates: reading it could exhaust memory.
    pub(crate) fn oversized(operation: &'static str, key: &Key, location: String, size_bytes: u64) -> Self {
        let what = format!(
            "{size_bytes} bytes are more than the {} that an object may have",
            crate::MAX_OBJECT_BYTES
        );
        Self::new(ObjectErrorKind::Other, operation, key, location, what)
    }

    /// Whether the same request may work in a moment.
    pub fn is_transient(&self) -> bool {
        self.kind == ObjectErrorKind::Transient
    }

    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        self.kind == ObjectErrorKind::NotFound
    }
}

impl Hint for ObjectError {
    fn hint(&self) -> Option<String> {
        let hint = match self.kind {
            ObjectErrorKind::NotFound => return None,
            ObjectErrorKind::Truncated => {
                "The object is damaged or the connection broke: run `lifeboat check`."
            }
            ObjectErrorKind::Denied => {
                "Check the credentials and the permissions of the repository's location."
            }
            ObjectErrorKind::Full => {
                "Free or add space at the repository's location, then run the command again; nothing that was stored before is harmed."
            }
            ObjectErrorKind::ReadOnly => {
                "Make the repository's location writable (mount options, bucket policy)."
            }
            ObjectErrorKind::Unsuitable => {
                "Use a store that creates objects conditionally and lists strongly."
            }
            ObjectErrorKind::Transient => {
                "Check the network and the store's own status, then run the command again."
            }
            ObjectErrorKind::Other => return None,
        };
        Some(hint.to_owned())
    }
}
