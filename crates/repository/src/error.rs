//! What can go wrong with a repository, sorted by what the caller and the operator do about it.

use crate::ids::{ChunkId, Position, WriterId};
use lifeboat_base::Hint;
use lifeboat_base::crashsafe::CrashsafeError;
use lifeboat_objects::{Key, ObjectError, ObjectErrorKind};
use std::error::Error;

/// Shorthand for what most of this crate returns.
pub type Result<T, E = RepositoryError> = std::result::Result<T, E>;

/// An operation on a repository that failed.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The object store failed.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// The local state could not be read or written.
    #[error("keep local state")]
    State(#[from] CrashsafeError),
    /// The operating system failed us, at a failpoint or with a local file.
    #[error("{0}")]
    Io(&'static str, #[source] std::io::Error),
    /// There is no repository at that location.
    #[error("{0} holds no repository")]
    NotARepository(String),
    /// There is one already.
    #[error("{0} holds a repository already")]
    AlreadyARepository(String),
    /// A repository was to be made where the objects of one without a config lie.
    #[error("{place} holds {object} and no config: it may be what remains of a repository")]
    Remains {
        /// The place.
        place: String,
        /// The first object that was found.
        object: Key,
    },
    /// The repository was made by a newer release.
    #[error("the repository has format {found}; this release reads formats up to {supported}")]
    NewerFormat {
        /// What the repository says.
        found: u32,
        /// The newest that we know.
        supported: u32,
    },
    /// No key slot opens with what was given.
    #[error("no key slot of the repository opens with this secret")]
    WrongKey,
    /// The repository is governed by another root than this machine, or the person, knows it by.
    #[error("the repository has root {found}, and the one that is known is {expected}")]
    OtherRoot {
        /// The fingerprint that was given or pinned.
        expected: WriterId,
        /// That of the repository.
        found: WriterId,
    },
    /// Nothing but a public-key slot vouches for the root, and anybody can make one.
    #[error("this machine does not know the repository's root, {0}, and a public-key slot does not prove it")]
    UnknownRoot(WriterId),
    /// A repository cannot work with these settings.
    #[error("no repository can be made like this: {0}")]
    BadOptions(&'static str),
    /// The roster holds what this release does not know: it cannot be read, or changing it would drop that.
    #[error("roster {0} holds what this release does not know")]
    NewerRoster(u64),
    /// The numbers that something would be created at are taken by objects that do not count.
    #[error("{0} and the numbers before it are taken by objects that nobody who may do so has signed")]
    Occupied(String),
    /// A record of a run that has no place.
    #[error(
        "record {number} of run {run} has {bytes} bytes: a run has at most 999999999999 records of at most 1 MiB"
    )]
    RunRecord {
        /// The run.
        run: String,
        /// The record's number.
        number: u64,
        /// Its length.
        bytes: usize,
    },
    /// A request to a run that is too large.
    #[error("a request to run {run} has {bytes} bytes: it may have 64 KiB")]
    RunRequest {
        /// The run.
        run: String,
        /// Its length.
        bytes: usize,
    },
    /// What was asked needs a slot with the root key.
    #[error("{0} needs an admin key slot, and this secret opens a plain one")]
    NeedsAdmin(&'static str),
    /// The writer may not do what was asked.
    #[error("writer {writer} may not {action}")]
    NotPermitted {
        /// Who.
        writer: String,
        /// What, in the infinitive.
        action: String,
    },
    /// The repository shows an older state than this machine has seen: objects were removed or replayed.
    #[error("{what}: this machine has seen number {seen}, and the repository shows {shown}")]
    RolledBack {
        /// What went back.
        what: String,
        /// The number in the local state.
        seen: u64,
        /// The number in the repository.
        shown: u64,
    },
    /// An object is not what its name, its signature or its key says.
    #[error("{object} is damaged or forged: {what}")]
    Damaged {
        /// The object, and the position within it where there is one.
        object: String,
        /// What is wrong.
        what: String,
    },
    /// A chunk that is needed is in no pack that the index knows.
    #[error("chunk {0} is in no pack of the index")]
    MissingChunk(ChunkId),
    /// There is no such snapshot.
    #[error("no snapshot {0}")]
    NoSuchSnapshot(String),
    /// More than one snapshot is meant.
    #[error("{0} names more than one snapshot")]
    AmbiguousSnapshot(String),
    /// A snapshot is held and may not be forgotten.
    #[error("snapshot {0} is held")]
    Held(Position),
    /// The last admin slot, or a key that retained data needs, was to be retired.
    #[error("key slot {0} cannot be retired: it is the last admin slot")]
    LastAdminSlot(String),
    /// There is no such key slot, hold or writer.
    #[error("there is no {0}")]
    Unknown(String),
    /// The writer lost its place more often than can be chance.
    #[error("the slot of {0} was voided again and again while it was written")]
    KeptLosing(Position),
    /// The slot was voided while the writer stood still, and prune deleted what it had stored or relied on.
    #[error("the slot of {0} was voided, and what was stored for it is pruned away")]
    StoredInVain(Position),
    /// An entry that cannot be part of a tree.
    #[error(transparent)]
    OutOfOrder(#[from] crate::tree::OutOfOrder),
    /// Content could not be read from the source.
    #[error("read the source")]
    Source(#[source] std::io::Error),
    /// Whoever receives restored content failed.
    #[error("deliver restored content")]
    Delivery(#[source] Box<dyn Error + Send + Sync>),
    /// An earlier failure in another thread ended this operation.
    #[error("the operation was ended by an earlier failure")]
    Aborted,
}

impl RepositoryError {
    /// An object that is not what it should be.
    pub fn damaged(object: impl ToString, what: impl ToString) -> Self {
        Self::Damaged { object: object.to_string(), what: what.to_string() }
    }

    /// Whether it is about one object that is damaged or missing, so that others can still be read.
    pub fn is_about_one_object(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::MissingChunk(_) | Self::NewerFormat { .. } => true,
            Self::Store(error) => {
                matches!(error.kind, ObjectErrorKind::NotFound | ObjectErrorKind::Truncated)
            }
            _ => false,
        }
    }

    /// Whether an object that was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Store(error) if error.kind == ObjectErrorKind::NotFound)
    }
}

impl Hint for RepositoryError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Store(error) => return error.hint(),
            Self::State(_) => {
                "Check the space and the permissions of the state directory (--state-dir, LIFEBOAT_STATE)."
            }
            Self::NotARepository(_) => {
                "Check the location, or make a repository there with `lifeboat repo init`."
            }
            Self::Remains { .. } => {
                "Choose an empty place. If this was a repository, put its `config` back from a copy; if its objects are of no use, remove them."
            }
            Self::AlreadyARepository(_) => "Use it as it is, or choose an empty location.",
            Self::NewerFormat { .. } => {
                "Use a release of Lifeboat at least as new as the one that made the repository."
            }
            Self::WrongKey => {
                "Check LIFEBOAT_PASSPHRASE or --key. The recovery key that `repo init` printed opens the repository too, also where another key slot was damaged."
            }
            Self::OtherRoot { .. } => {
                "Compare both with the fingerprint in your recovery kit. If the repository was made anew on purpose, remove this repository's folder in the state directory; if not, somebody has put another repository in its place."
            }
            Self::UnknownRoot(_) => {
                "Compare it with the fingerprint in your recovery kit, and give that with --root or LIFEBOAT_ROOT; or open the repository with the passphrase or the recovery key once."
            }
            Self::BadOptions(_) => "Choose other settings, or leave them out: the defaults work.",
            Self::NewerRoster(_) => {
                "Use a release of Lifeboat at least as new as the one that changed the keys or writers last."
            }
            Self::Occupied(_) => {
                "Run `lifeboat check`, remove the objects that it names as signed by nobody, and find out who can write to the store."
            }
            Self::RunRecord { .. } => {
                "Pass less to the step, or write to files what it leaves: records hold values and not content."
            }
            Self::RunRequest { .. } => {
                "Say it in fewer words: what is long belongs to a place that they name."
            }
            Self::NeedsAdmin(_) => {
                "Use the passphrase of an admin slot or the recovery key; `lifeboat key list` shows which slots are admin."
            }
            Self::NotPermitted { .. } => {
                "See `lifeboat repo writers list`; an admin can enrol the writer or change its role."
            }
            Self::RolledBack { .. } => {
                "Somebody removed or replayed objects, or the repository was put back from a copy. Run `lifeboat check`; if the older state is intended, remove this repository's folder in the state directory."
            }
            Self::Damaged { .. } | Self::MissingChunk(_) => {
                "Run `lifeboat check --read-data` to learn which snapshots and files it costs; restore those from a copy. What it names as signed by nobody costs nothing: remove that object from the store."
            }
            Self::NoSuchSnapshot(_) => "`lifeboat points DATASET` lists what can be restored.",
            Self::AmbiguousSnapshot(_) => "Give more digits; `lifeboat points DATASET` lists the snapshots.",
            Self::Held(_) => "`lifeboat hold release` ends a hold.",
            Self::LastAdminSlot(_) => "Add another admin slot first (`lifeboat key add --admin`).",
            Self::KeptLosing(_) | Self::StoredInVain(_) => {
                "Make the repository's lease time longer than the longest pause of this machine, then run the command again."
            }
            Self::Io(..)
            | Self::Unknown(_)
            | Self::OutOfOrder(_)
            | Self::Source(_)
            | Self::Delivery(_)
            | Self::Aborted => return None,
        };
        Some(hint.to_owned())
    }
}
