//! The spool: WAL that is durable on this host and not yet in the repository.
//!
//! ```text
//!  append ──► file ─ file ─ file          one fdatasync a stretch, acknowledged to the server
//!               │ read in order
//!               ▼
//!           repository ──► files that are published whole are removed
//! ```
//! What is in a spool survives the loss of the primary's host as long as the spool lies on another one
//! ([`crate::Elsewhere`]), and is lost with its own. It belongs to one dataset of one repository, and one process uses
//! it at a time. It is bounded: where it is full, nothing is acknowledged until something was published.
//!
//! Failpoints: `spool::file-made` (a file of zeros is there), `spool::file-begun` (its head is durable, no record is),
//! `spool::record-written` (not synced), `spool::record-synced` (not acknowledged), `spool::published` (in the
//! repository, still in the spool), `spool::file-removed`.

mod error;
mod files;
mod fuzzing;
#[cfg(test)]
#[expect(clippy::print_stdout, reason = "a seed is told, and so is what is acknowledged")]
mod kills;
mod log;
mod opening;
mod publisher;
mod reading;
mod record;
mod survey;
mod tail;
#[cfg(test)]
mod tests;

pub use error::SpoolError;
pub use fuzzing::fuzz_spool;
pub(crate) use log::SpooledLog;
pub use publisher::{Drained, drain};
pub(crate) use publisher::{Publisher, Publishing};
pub use record::SpoolOwner;

use crate::pending::WalStretch;
use crate::sink::KeptHistory;
use files::{FILE_BYTES, Files};
use lifeboat_base::clock::{Clock, Timestamp};
use lifeboat_postgres_wal::{Lsn, SystemId, TimelineHistory, TimelineId};
use record::{BLOCK_BYTES, FileHead, HEAD_BYTES, Kind, MAX_CONTENT_BYTES, RecordHead, RecordKey};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tail::Tail;

/// How much a spool may take of the disk unless somebody says otherwise, in bytes.
pub const DEFAULT_SPOOL_LIMIT_BYTES: u64 = 16 << 30;
/// The file that is written, the one that is read, one that is ready, and one more.
const LEAST_FILES: u64 = 4;

/// The log of one cluster on its way, by timeline.
type Branch = (SystemId, TimelineId);

/// How much is in a spool, as of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolStatus {
    /// Up to where the log is in the repository, where this process has seen it.
    pub published: Option<(TimelineId, Lsn)>,
    /// Bytes of log that are not in the repository.
    pub waiting_bytes: u64,
    /// How long the oldest of them is waiting for that.
    pub oldest_wait: Option<Duration>,
}

/// A spool that this process uses.
#[derive(Debug)]
pub struct Spool {
    files: Files,
    owner: SpoolOwner,
    limit_bytes: u64,
    writing: Mutex<Option<Writing>>,
    /// Held while the next file is made or begun.
    making: Mutex<()>,
    state: Mutex<State>,
    changed: Condvar,
    /// What a crash had cut off, in bytes.
    torn_bytes: u64,
}

/// The file that is written.
#[derive(Debug)]
struct Writing {
    file: File,
    key: RecordKey,
    system: SystemId,
    sequence: u64,
    /// Where the next record goes.
    at: u64,
    record: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    /// The files that are begun, oldest first; the last one is written. Where each ends.
    begun: VecDeque<(u64, u64)>,
    /// Files that are made and not begun; their numbers follow those that are begun.
    made: VecDeque<u64>,
    /// The number of the next record.
    next: u64,
    /// The first record that is not published: in which file, and where.
    reading: Place,
    tails: BTreeMap<Branch, Tail>,
    histories: BTreeMap<Branch, KeptHistory>,
    published: Option<(TimelineId, Lsn)>,
    waiting_bytes: u64,
    waiting_records: u64,
    oldest: Option<Timestamp>,
    /// The clusters of which this process has asked the repository where their logs end.
    looked: BTreeSet<SystemId>,
}

/// A place in a spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    sequence: u64,
    at: u64,
    /// The number of the record there.
    number: u64,
}

impl Spool {
    /// Whose it is.
    pub fn owner(&self) -> &SpoolOwner {
        &self.owner
    }

    /// The folder.
    pub fn directory(&self) -> &Path {
        self.files.directory()
    }

    /// How many bytes a crash had cut off when it was opened: they were never acknowledged.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// How much is in it.
    pub fn status(&self) -> SpoolStatus {
        let state = self.lock();
        SpoolStatus {
            published: state.published,
            waiting_bytes: state.waiting_bytes,
            oldest_wait: state.oldest.map(|oldest| Clock::System.now().since(oldest)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a stretch of a cluster's log durable here. After an error the same is appended again.
    pub(crate) fn append(&self, system: SystemId, stretch: &WalStretch) -> Result<(), SpoolError> {
        let head = RecordHead {
            number: 0,
            kind: Kind::Wal,
            timeline: stretch.timeline,
            start: stretch.start,
            length: 0,
            first: stretch.first,
            last: stretch.last,
        };
        self.put(system, head, &stretch.bytes)
    }

    /// Makes the history of a timeline durable here, unless it is.
    pub(crate) fn keep_history(
        &self,
        system: SystemId,
        timeline: TimelineId,
        content: &[u8],
        now: Timestamp,
    ) -> Result<(), SpoolError> {
        if self.lock().histories.contains_key(&(system, timeline)) {
            return Ok(());
        }
        let kind = Kind::History;
        let head =
            RecordHead { number: 0, kind, timeline, start: Lsn::ZERO, length: 0, first: now, last: now };
        self.put(system, head, content)
    }

    fn put(&self, system: SystemId, head: RecordHead, content: &[u8]) -> Result<(), SpoolError> {
        debug_assert!(content.len() <= MAX_CONTENT_BYTES);
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let head = RecordHead { number: self.lock().next, length, ..head };
        let fits = |file: &Writing| file.system == system && file.at + head.padded() <= FILE_BYTES;
        // After an error nobody knows what of a record is on the disk: then the next one goes into another file,
        // whose head says where this one ended.
        let mut file = match writing.take().filter(fits) {
            Some(file) => file,
            None => self.begin_file(system, head.number)?,
        };
        file.write(&self.files, &head, content)?;
        self.has_written(&file, &head, content);
        *writing = Some(file);
        Ok(())
    }

    /// Begins the next file.
    fn begin_file(&self, system: SystemId, first: u64) -> Result<Writing, SpoolError> {
        let making = self.making();
        let sequence = self.next_file(&making)?;
        let before_end = self.lock().begun.back().map_or(0, |(_, end)| *end);
        let file = self.files.open(sequence)?;
        let head = FileHead::new(&self.owner, system, sequence, before_end, first);
        let (block, key) = head.encode();
        let written = file.write_all_at(&block, 0).and_then(|()| file.sync_data());
        written.map_err(|source| self.files.failed("begin", &self.files.path(sequence), source))?;
        self.files.reach("spool::file-begun")?;
        let mut state = self.lock();
        state.made.pop_front();
        state.begun.push_back((sequence, BLOCK_BYTES as u64));
        Ok(Writing { file, key, system, sequence, at: BLOCK_BYTES as u64, record: Vec::new() })
    }

    fn making(&self) -> MutexGuard<'_, ()> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next file to begin, which is made where it is not there.
    fn next_file(&self, _making: &MutexGuard<'_, ()>) -> Result<u64, SpoolError> {
        let (made, sequence, files) = {
            let state = self.lock();
            let last = state.begun.back().map_or(0, |(sequence, _)| *sequence);
            (state.made.front().copied(), last + 1, (state.begun.len() + state.made.len()) as u64)
        };
        if let Some(made) = made {
            return Ok(made);
        }
        if (files + 1) * FILE_BYTES > self.limit_bytes {
            let limit = self.limit_bytes;
            let why = format!("it has {files} files of {FILE_BYTES} bytes, and may take {limit} bytes");
            return Err(SpoolError::Full { directory: self.directory().to_owned(), why });
        }
        self.files.make(sequence)?;
        self.lock().made.push_back(sequence);
        Ok(sequence)
    }

    fn has_written(&self, file: &Writing, head: &RecordHead, content: &[u8]) {
        let mut state = self.lock();
        state.next = head.number + 1;
        if let Some(last) = state.begun.back_mut() {
            last.1 = file.at;
        }
        state.count(file.system, head, Some(content));
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until the log of a cluster may be appended again, at most so long.
    pub(crate) fn wait_for_change(&self, at_most: Duration) {
        let waited = self.changed.wait_timeout(self.lock(), at_most);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Writing {
    fn write(&mut self, files: &Files, head: &RecordHead, content: &[u8]) -> Result<(), SpoolError> {
        let path = files.path(self.sequence);
        self.key.encode(head, content, &mut self.record);
        let written = self.file.write_all_at(&self.record, self.at);
        written.map_err(|source| files.failed("write", &path, source))?;
        files.reach("spool::record-written")?;
        self.file.sync_data().map_err(|source| files.failed("sync", &path, source))?;
        files.reach("spool::record-synced")?;
        self.at += head.padded();
        debug_assert_eq!(self.record.len() as u64, head.padded());
        // A long stretch is rare: what it took is not kept for the short ones.
        if self.record.capacity() > 64 * (BLOCK_BYTES + HEAD_BYTES) {
            self.record = Vec::new();
        }
        Ok(())
    }
}

impl State {
    /// Counts a record that is not published. Without its content it is one that was there before.
    fn count(&mut self, system: SystemId, head: &RecordHead, content: Option<&[u8]>) {
        self.waiting_bytes += u64::from(head.length);
        self.waiting_records += 1;
        self.oldest.get_or_insert(head.first);
        let branch = (system, head.timeline);
        match (head.kind, content) {
            (Kind::Wal, Some(content)) => {
                self.tails.entry(branch).or_insert_with(|| Tail::at(head.start)).extend(head.start, content);
            }
            (Kind::Wal, None) => {
                self.tails.insert(branch, Tail::at(head.end()));
            }
            (Kind::History, Some(content)) => self.keep(branch, content),
            (Kind::History, None) => {}
        }
    }

    fn keep(&mut self, branch: Branch, content: &[u8]) {
        if let Ok(history) = TimelineHistory::parse(branch.1, content) {
            self.histories.insert(branch, KeptHistory { history, content: content.to_vec() });
        }
    }
}
