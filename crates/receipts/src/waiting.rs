//! What waits on this host: drafts of receipts, each in a file until it stands in the repository, and notes of what
//! has begun and not ended.
//!
//! Whoever handles a file holds its lock, and a lock ends with its process: so a note whose lock is free is of a
//! process that was killed, and a draft whose lock is free may be taken along by anybody. Nobody waits for a lock.

use lifeboat_base::Hint;
use lifeboat_base::crashsafe::{self, CrashsafeError, Creation, TEMPORARY_PREFIX};
use lifeboat_evidence::{Digest, Draft, EventId, SignedReceipt};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// So many drafts may wait: a host that can never write does not fill its disk.
pub const MAX_WAITING: usize = 10_000;
/// How the names of notes, drafts and signed receipts end.
const BEGUN: &str = "begun";
const DRAFT: &str = "draft";
const SIGNED: &str = "signed";

/// What could not be kept on this host.
#[derive(Debug, thiserror::Error)]
pub enum WaitingError {
    /// A file could not be written.
    #[error("keep a receipt on this host")]
    Write(#[source] CrashsafeError),
    /// A file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A draft has no form.
    #[error("{} is no draft of a receipt", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Too many wait.
    #[error("{MAX_WAITING} receipts wait in {} already", .0.display())]
    Full(PathBuf),
}

impl Hint for WaitingError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Form { .. } => "Move the file away, and keep it: it was damaged, or somebody wrote it.",
            Self::Full(_) => {
                "Run any command that may write to the repository from this host: what waits goes with it."
            }
            Self::Write(_) | Self::Read { .. } => {
                "Check the space and the permissions of the state directory (--state-dir, LIFEBOAT_STATE)."
            }
        };
        Some(hint.to_owned())
    }
}

/// The folder of what waits for one repository.
#[derive(Clone, Debug)]
pub struct Waiting {
    folder: PathBuf,
}

/// A file that nobody else handles as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) path: PathBuf,
    /// Locked.
    _file: File,
}

impl Waiting {
    /// What waits within a state directory for the repository at a location. It is told by where it is, since what
    /// cannot be opened has no other name; nothing of the location can be read from the folder's.
    pub fn new(state: &Path, location: &str) -> Self {
        let name = Digest::of(location.as_bytes()).to_string();
        Self { folder: state.join("receipts").join(&name[..16]) }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many drafts wait; none where the folder cannot be read.
    pub fn count(&self) -> usize {
        self.named(DRAFT).map_or(0, |drafts| drafts.len())
    }

    /// Notes that something began, as the draft of what is to be said if nobody says how it ended.
    pub(crate) fn begin(&self, draft: &Draft) -> Result<Option<Held>, WaitingError> {
        self.write(&self.folder.join(format!("{}.{BEGUN}", draft.id)), draft)
    }

    /// Keeps a draft, the `nth` of those that end at once. `None` where another process was faster and takes it along.
    pub(crate) fn add(&self, draft: &Draft, nth: usize) -> Result<Option<Held>, WaitingError> {
        if self.named(DRAFT)?.len() >= MAX_WAITING {
            return Err(WaitingError::Full(self.folder.clone()));
        }
        self.write(&self.path_of(draft, nth), draft)
    }

    /// In the order of the times: listings are sorted by name.
    fn path_of(&self, draft: &Draft, nth: usize) -> PathBuf {
        let nanos = u64::try_from(draft.at.as_nanos()).unwrap_or(0);
        self.folder.join(format!("{nanos:020}-{nth:06}-{}.{DRAFT}", draft.id))
    }

    fn write(&self, path: &Path, draft: &Draft) -> Result<Option<Held>, WaitingError> {
        crashsafe::create_dir_all(&self.folder).map_err(WaitingError::Write)?;
        let form = |source| WaitingError::Form { path: path.to_owned(), source };
        let bytes = serde_json::to_vec(draft).map_err(form)?;
        // A file of that name holds the same draft: its process was killed after it had written it.
        let (Creation::Created | Creation::Existed) =
            crashsafe::create(path, &bytes).map_err(WaitingError::Write)?;
        hold(path)
    }

    /// Every draft that waits, oldest first.
    pub(crate) fn drafts(&self) -> Result<Vec<PathBuf>, WaitingError> {
        self.named(DRAFT)
    }

    fn named(&self, extension: &str) -> Result<Vec<PathBuf>, WaitingError> {
        let failed = |source| WaitingError::Read { path: self.folder.clone(), source };
        let listing = match fs::read_dir(&self.folder) {
            Ok(listing) => listing,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut paths = Vec::new();
        for entry in listing {
            let path = entry.map_err(failed)?.path();
            let temporary = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()));
            if !temporary && path.extension().is_some_and(|found| found == extension) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Turns notes whose process was killed into drafts. One whose end is known by now only goes.
    pub(crate) fn sweep(&self) -> Result<(), WaitingError> {
        for path in self.named(BEGUN)? {
            let Some(held) = hold(&path)? else { continue };
            let draft = read(&held.path)?;
            if !self.waits(&draft.id)? {
                drop(self.add(&draft, 0)?);
            }
            remove(&held.path)?;
        }
        self.sweep_signed()
    }

    fn waits(&self, id: &EventId) -> Result<bool, WaitingError> {
        let end = format!("-{id}.{DRAFT}");
        let drafts = self.named(DRAFT)?;
        Ok(drafts.iter().any(|path| path.as_os_str().as_encoded_bytes().ends_with(end.as_bytes())))
    }

    /// A signed receipt goes after its draft, and is left where its process was killed between the two.
    fn sweep_signed(&self) -> Result<(), WaitingError> {
        for path in self.named(SIGNED)? {
            if !path.with_extension(DRAFT).exists() {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Takes a file for this process; `None` where another has it or has removed it.
pub(crate) fn hold(path: &Path) -> Result<Option<Held>, WaitingError> {
    let failed = |source| WaitingError::Read { path: path.to_owned(), source };
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match file.try_lock() {
        // On a file system without locks two processes may say the same twice; its identity tells.
        Ok(()) | Err(TryLockError::Error(_)) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
    }
    // Whoever had it may have removed it since it was opened.
    Ok(path.exists().then(|| Held { path: path.to_owned(), _file: file }))
}

/// The draft in a file.
pub(crate) fn read(path: &Path) -> Result<Draft, WaitingError> {
    let bytes = fs::read(path).map_err(|source| WaitingError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| WaitingError::Form { path: path.to_owned(), source })
}

/// The receipt that was signed of a draft before its process was killed.
pub(crate) fn signed(draft: &Path) -> Option<SignedReceipt> {
    fs::read(draft.with_extension(SIGNED)).ok().and_then(|bytes| SignedReceipt::parse(&bytes).ok())
}

/// Keeps a signed receipt beside its draft, before it is created.
pub(crate) fn keep_signed(draft: &Path, signed: &SignedReceipt) -> io::Result<()> {
    let bytes = signed.to_bytes().map_err(io::Error::other)?;
    crashsafe::replace(&draft.with_extension(SIGNED), &bytes).map_err(io::Error::other)
}

/// Lets a draft go that stands in the repository, and then what was signed of it.
pub(crate) fn done(held: &Held) -> Result<(), WaitingError> {
    remove(&held.path)?;
    remove(&held.path.with_extension(SIGNED))
}

pub(crate) fn remove(path: &Path) -> Result<(), WaitingError> {
    crashsafe::remove(path).map_err(WaitingError::Write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_evidence::testing::draft;

    fn names(waiting: &Waiting) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(waiting.folder())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_began_and_was_killed_becomes_a_draft() {
        let state = tempfile::tempdir().unwrap();
        let waiting = Waiting::new(state.path(), "./repo");
        let running = waiting.begin(&draft(1)).unwrap().unwrap();
        drop(waiting.begin(&draft(2)).unwrap().unwrap());
        waiting.sweep().unwrap();
        let drafts = waiting.drafts().unwrap();
        assert_eq!(drafts.len(), 1, "the one whose process is gone");
        assert_eq!(read(&drafts[0]).unwrap(), draft(2));
        assert!(running.path.exists());
    }

    #[test]
    fn what_ended_before_its_note_went_is_said_once() {
        let state = tempfile::tempdir().unwrap();
        let waiting = Waiting::new(state.path(), "./repo");
        drop(waiting.begin(&draft(1)).unwrap());
        drop(waiting.add(&draft(1), 0).unwrap());
        waiting.sweep().unwrap();
        assert_eq!(names(&waiting).len(), 1);
    }

    #[test]
    fn drafts_come_oldest_first_and_one_at_work_is_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let waiting = Waiting::new(state.path(), "./repo");
        for n in [3, 1, 2] {
            drop(waiting.add(&draft(n), 0).unwrap());
        }
        let drafts = waiting.drafts().unwrap();
        assert_eq!(drafts.iter().map(|path| read(path).unwrap()).collect::<Vec<_>>(), [1, 2, 3].map(draft));
        let held = hold(&drafts[0]).unwrap().unwrap();
        assert!(hold(&drafts[0]).unwrap().is_none());
        done(&held).unwrap();
        assert!(hold(&drafts[0]).unwrap().is_none());
        assert_eq!(waiting.count(), 2);
    }

    #[test]
    fn two_repositories_do_not_share_what_waits() {
        let state = Path::new("/nowhere");
        assert_ne!(Waiting::new(state, "./a").folder(), Waiting::new(state, "./b").folder());
    }
}
