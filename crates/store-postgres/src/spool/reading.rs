//! Reading a spool in the order in which it was written, and letting go of what is published.

use super::files::FILE_BYTES;
use super::record::{BLOCK_BYTES, FileHead, HEAD_BYTES, Kind, ReadHead, RecordHead, RecordKey};
use super::{Place, Spool, SpoolError, State};
use crate::pending::WalStretch;
use lifeboat_base::clock::Timestamp;
use lifeboat_postgres_wal::{Lsn, SystemId, TimelineId};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::PoisonError;
use std::time::Duration;

/// Records that are published at once.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) system: SystemId,
    pub(crate) content: BatchContent,
    /// What comes after it.
    behind: Place,
    /// How many records it is made of.
    records: u64,
}

/// What is published at once.
#[derive(Debug)]
pub(crate) enum BatchContent {
    /// Stretches that follow each other.
    Wal(WalStretch),
    /// The history of a timeline.
    History { timeline: TimelineId, content: Vec<u8>, at: Timestamp },
}

/// A file that is read.
struct Reading {
    file: File,
    system: SystemId,
    key: RecordKey,
    sequence: u64,
}

impl Spool {
    /// Sees that the next file is there before it is needed: who writes does not wait for it then.
    pub(crate) fn prepare(&self) -> Result<(), SpoolError> {
        match self.next_file(&self.making()) {
            // It is made once it is needed, or that is refused then.
            Err(SpoolError::Full { .. }) => Ok(()),
            made => made.map(drop),
        }
    }

    /// Waits until something is to be published, at most so long. True where something is.
    pub(crate) fn wait_for_records(&self, at_most: Duration) -> bool {
        let empty = |state: &mut State| state.waiting_records == 0;
        let waited = self.changed.wait_timeout_while(self.lock(), at_most, empty);
        waited.unwrap_or_else(PoisonError::into_inner).0.waiting_records > 0
    }

    /// Waits until so many bytes are to be published, at most so long.
    pub(crate) fn wait_for_bytes(&self, bytes: u64, at_most: Duration) {
        let few = |state: &mut State| state.waiting_bytes < bytes;
        drop(self.changed.wait_timeout_while(self.lock(), at_most, few));
    }

    /// The oldest records that are not published: as many as follow each other and have at most so many bytes.
    pub(crate) fn read(&self, most_bytes: usize) -> Result<Option<Batch>, SpoolError> {
        let (mut at, next) = {
            let state = self.lock();
            (state.reading, state.next)
        };
        let (mut reading, mut batch): (Option<Reading>, Option<Batch>) = (None, None);
        while at.number < next {
            at = self.in_its_file(at);
            let file = match reading.take().filter(|file| file.sequence == at.sequence) {
                Some(file) => file,
                None => self.open_for_reading(at.sequence)?,
            };
            let record = file.record(self, at)?;
            if !batch.as_ref().is_none_or(|batch| batch.takes(file.system, &record, most_bytes)) {
                break;
            }
            let content = file.content(self, at, &record)?;
            at = Place { at: at.at + record.head.padded(), number: at.number + 1, ..at };
            extend(&mut batch, file.system, &record.head, content, at);
            reading = Some(file);
        }
        Ok(batch)
    }

    /// The place in the file that follows, where this one ends.
    fn in_its_file(&self, place: Place) -> Place {
        let state = self.lock();
        let ends = state.begun.iter().any(|(file, end)| *file == place.sequence && *end <= place.at);
        match ends {
            true => Place { sequence: place.sequence + 1, at: BLOCK_BYTES as u64, ..place },
            false => place,
        }
    }

    fn open_for_reading(&self, sequence: u64) -> Result<Reading, SpoolError> {
        let file = self.files.open(sequence)?;
        let mut block = [0; BLOCK_BYTES];
        let read = file.read_exact_at(&mut block, 0);
        read.map_err(|source| self.files.failed("read", &self.files.path(sequence), source))?;
        let Some((head, key)) = FileHead::parse(&block) else {
            return Err(self.damaged(Place { sequence, at: 0, number: 0 }));
        };
        Ok(Reading { file, system: head.system, key, sequence })
    }

    fn damaged(&self, place: Place) -> SpoolError {
        let (path, what) = (self.files.path(place.sequence), "a record is not what was written");
        SpoolError::Damaged { path, at: place.at, what }
    }

    /// Lets go of what has been published.
    pub(crate) fn let_go(&self, batch: &Batch) -> Result<(), SpoolError> {
        self.files.reach("spool::published")?;
        let done: Vec<u64> = {
            let mut state = self.lock();
            state.has_published(batch);
            let files = state.begun.iter().map(|(file, _)| *file);
            files.take_while(|file| *file < batch.behind.sequence).collect()
        };
        // From the oldest on: what is left always follows each other.
        for sequence in done {
            self.files.remove(sequence)?;
            self.lock().begun.pop_front();
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Removes the last files, once everything is published: the next process finds nothing to look through.
    pub(crate) fn clear(&self) -> Result<(), SpoolError> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lock().waiting_records > 0 {
            return Ok(());
        }
        *writing = None;
        let all: Vec<u64> = {
            let state = self.lock();
            let begun = state.begun.iter().map(|(file, _)| *file);
            begun.chain(state.made.iter().copied()).collect()
        };
        for sequence in all {
            self.files.remove(sequence)?;
            let mut state = self.lock();
            state.begun.retain(|(file, _)| *file != sequence);
            state.made.retain(|file| *file != sequence);
        }
        let mut state = self.lock();
        state.reading = Place { sequence: 1, at: BLOCK_BYTES as u64, number: state.next };
        Ok(())
    }
}

/// The head of a record, and the hash that its content must have.
struct Record {
    head: RecordHead,
    content: super::record::ContentHash,
}

impl Reading {
    fn record(&self, spool: &Spool, at: Place) -> Result<Record, SpoolError> {
        let mut bytes = [0; HEAD_BYTES];
        let read = self.file.read_exact_at(&mut bytes, at.at);
        read.map_err(|source| spool.files.failed("read", &spool.files.path(at.sequence), source))?;
        match self.key.parse(&bytes) {
            ReadHead::Record(head, content)
                if head.number == at.number && at.at + head.padded() <= FILE_BYTES =>
            {
                Ok(Record { head, content })
            }
            _ => Err(spool.damaged(at)),
        }
    }

    fn content(&self, spool: &Spool, at: Place, record: &Record) -> Result<Vec<u8>, SpoolError> {
        let mut bytes = vec![0; record.head.length as usize];
        let read = self.file.read_exact_at(&mut bytes, at.at + HEAD_BYTES as u64);
        read.map_err(|source| spool.files.failed("read", &spool.files.path(at.sequence), source))?;
        match self.key.content(&bytes) == record.content {
            true => Ok(bytes),
            false => Err(spool.damaged(at)),
        }
    }
}

impl Batch {
    /// Whether a record may go with those that are there.
    fn takes(&self, system: SystemId, record: &Record, most_bytes: usize) -> bool {
        let BatchContent::Wal(stretch) = &self.content else { return false };
        record.head.kind == Kind::Wal
            && self.system == system
            && stretch.timeline == record.head.timeline
            && stretch.end() == record.head.start
            && stretch.bytes.len() + record.head.length as usize <= most_bytes
    }

    /// Up to where the log of which timeline is in the repository, once it is published.
    pub(crate) fn end(&self) -> Option<(TimelineId, Lsn)> {
        match &self.content {
            BatchContent::Wal(stretch) => Some((stretch.timeline, stretch.end())),
            BatchContent::History { .. } => None,
        }
    }

    /// Bytes of its content.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.content {
            BatchContent::Wal(stretch) => stretch.bytes.len() as u64,
            BatchContent::History { content, .. } => content.len() as u64,
        }
    }
}

fn extend(batch: &mut Option<Batch>, system: SystemId, head: &RecordHead, content: Vec<u8>, behind: Place) {
    match batch {
        Some(Batch { content: BatchContent::Wal(stretch), behind: end, records, .. }) => {
            stretch.bytes.extend_from_slice(&content);
            stretch.last = head.last;
            *records += 1;
            *end = behind;
        }
        _ => {
            let content = match head.kind {
                Kind::Wal => BatchContent::Wal(WalStretch {
                    timeline: head.timeline,
                    start: head.start,
                    bytes: content,
                    first: head.first,
                    last: head.last,
                }),
                Kind::History => BatchContent::History { timeline: head.timeline, content, at: head.first },
            };
            *batch = Some(Batch { system, content, behind, records: 1 });
        }
    }
}

impl State {
    fn has_published(&mut self, batch: &Batch) {
        self.reading = batch.behind;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(batch.bytes());
        self.waiting_records = self.waiting_records.saturating_sub(batch.records);
        self.published = batch.end().or(self.published);
        let last = match &batch.content {
            BatchContent::Wal(stretch) => stretch.last,
            BatchContent::History { at, .. } => *at,
        };
        // What is left came no earlier than what went.
        self.oldest = (self.waiting_records > 0).then_some(last);
    }
}
