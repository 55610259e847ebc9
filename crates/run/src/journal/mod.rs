//! The journal: an intent log. One record a line, appended and synced before what it is about is done. An outcome may
//! wait for the next intent, with which it is synced: before that nothing rests on it.
//!
//! A line is the record as canonical JSON (RFC 8785), a space, and 64 hexadecimal digits: the SHA-256 of the digits'
//! bytes on the line before (zeros on the first) followed by the JSON. So each line vouches for itself and for all
//! before it, and `cat` shows what happened. How it is read back, and what a crash may leave, is in [`read`].
//!
//! This module deliberately does not know what a record means.
//!
//! Failpoints: `run::append` (nothing is written), `run::written` (written, not synced), `run::synced` (synced, and
//! nothing done about it).

mod file;
mod read;

pub use file::FileMedium;
pub(crate) use read::read_line;
pub use read::{Line, Reading, read};

use crate::event::{Event, Heard, Record};
use crate::ids::Generation;
use lifeboat_base::clock::Timestamp;
use lifeboat_base::{Hint, hex};
use lifeboat_evidence::{Digest, canonical};
use std::io;
use std::path::PathBuf;

/// The chain value before the first line.
pub const BEGINNING: Digest = Digest([0; 32]);
/// A record is at most so long: outputs and reasons are bounded before they get here.
pub const MAX_RECORD_BYTES: usize = 1 << 18;

/// What keeps the lines.
pub trait Medium: Send {
    /// Appends bytes, which are durable after the next [`Medium::sync`]. After an error nothing more may be appended.
    ///
    /// # Errors
    /// [`JournalError`].
    fn append(&mut self, bytes: &[u8]) -> Result<(), JournalError>;

    /// Returns when everything that was appended is durable.
    ///
    /// # Errors
    /// [`JournalError`]; what is durable is then not known.
    fn sync(&mut self) -> Result<(), JournalError>;

    /// Sees to it that what is about to happen can be recorded as well.
    ///
    /// # Errors
    /// Where there is no room.
    fn reserve(&mut self) -> Result<(), JournalError> {
        Ok(())
    }

    /// Whether somebody took over. Asked after each append and before anything is done.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn is_superseded(&self) -> Result<bool, JournalError> {
        Ok(false)
    }
}

/// A journal that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused something.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A line that is not what was written there.
    #[error("{}, line {line}: the journal is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// An append failed before, so that what the file holds is not known.
    #[error("the journal failed before and takes nothing more")]
    Broken,
    /// A record that has no canonical form, or is too long.
    #[error("record {number} cannot be written: {what}")]
    Record {
        /// Its number.
        number: u64,
        /// Why not.
        what: String,
    },
    /// Somebody else executes this run now.
    #[error("another executor has taken this run over")]
    Superseded,
}

impl JournalError {
    pub(crate) fn io(operation: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }

    /// Whether there was no room.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge))
    }
}

impl Hint for JournalError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            _ if self.is_full() => {
                "Make room on that file system, then resume the run: nothing is begun that is not recorded first."
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                "The state directory is on a file system that is mounted read-only: remount it, or continue the run elsewhere from its mirror."
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "Run as the user who owns the state directory, or name another state directory."
            }
            Self::Io { .. } | Self::Broken => {
                "Look at the disk and at the kernel's log, then resume the run."
            }
            Self::Damaged { .. } => {
                "Keep the file as it is; compare it with the run's mirror, and take the run over from there if it is mirrored."
            }
            Self::Record { .. } => return None,
            Self::Superseded => {
                "Nothing more is done here; `lifeboat runbook show` says who took over and when."
            }
        };
        Some(hint.to_owned())
    }
}

/// A journal that is written.
pub struct Journal {
    medium: Box<dyn Medium>,
    generation: Generation,
    number: u64,
    chain: Digest,
    is_broken: bool,
}

impl Journal {
    /// Goes on after a record.
    pub fn after(medium: Box<dyn Medium>, generation: Generation, number: u64, chain: Digest) -> Self {
        Self { medium, generation, number, chain, is_broken: false }
    }

    /// The chain value of the last line.
    pub fn chain(&self) -> Digest {
        self.chain
    }

    /// Whose records these are.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Looks whether somebody took over.
    ///
    /// # Errors
    /// [`JournalError::Superseded`] where somebody did.
    pub fn check_superseded(&mut self) -> Result<(), JournalError> {
        if self.medium.is_superseded()? {
            self.is_broken = true;
            return Err(JournalError::Superseded);
        }
        Ok(())
    }

    /// Appends a record, with the request that it answers. Nothing may be done on the strength of it before [`Journal::sync`].
    ///
    /// # Errors
    /// Where it may not be there: nothing more can then be appended.
    pub fn append(
        &mut self,
        at: Timestamp,
        event: Event,
        heard: Option<Heard>,
    ) -> Result<(Record, Line), JournalError> {
        if self.is_broken {
            return Err(JournalError::Broken);
        }
        let record = Record { number: self.number + 1, generation: self.generation, at, event, heard };
        let line = line(&record, self.chain)?;
        // What is about to be done has an outcome, which must find room as well.
        if matches!(record.event, Event::Intent(_)) {
            self.medium.reserve()?;
        }
        self.medium.append(&line.bytes).inspect_err(|_| self.is_broken = true)?;
        (self.number, self.chain) = (record.number, line.chain);
        Ok((record, line))
    }

    /// Makes durable what was appended; this executor may still act when it returns.
    ///
    /// # Errors
    /// Where it may not have become durable, or somebody took over: nothing may then be done on the strength of it.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        if self.is_broken {
            return Err(JournalError::Broken);
        }
        self.medium.sync().inspect_err(|_| self.is_broken = true)?;
        self.check_superseded()
    }
}

/// A record as a line.
///
/// # Errors
/// Where it is too long, or holds what has no canonical form.
pub fn line(record: &Record, previous: Digest) -> Result<Line, JournalError> {
    let cannot = |what: String| JournalError::Record { number: record.number, what };
    let value = serde_json::to_value(record).map_err(|error| cannot(error.to_string()))?;
    let mut bytes = canonical::to_bytes(&value).map_err(|error| cannot(error.to_string()))?;
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(cannot(format!("{} bytes are more than {MAX_RECORD_BYTES}", bytes.len())));
    }
    let chain = next_chain(previous, &bytes);
    bytes.push(b' ');
    bytes.extend_from_slice(hex::encode(&chain.0).as_bytes());
    bytes.push(b'\n');
    Ok(Line { number: record.number, bytes, chain })
}

fn next_chain(previous: Digest, json: &[u8]) -> Digest {
    let mut both = Vec::with_capacity(32 + json.len());
    both.extend_from_slice(&previous.0);
    both.extend_from_slice(json);
    Digest::of(&both)
}
