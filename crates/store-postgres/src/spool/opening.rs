//! Opening a spool: what an earlier process has left in it.

use super::files::{FILE_BYTES, Files};
use super::record::{BLOCK_BYTES, FileHead, HEAD_BYTES, Kind, RecordHead, RecordKey, SpoolOwner};
use super::survey::{Begun, Ends, Image, Survey, Until, begun, survey};
use super::tail::{TAIL_BYTES, Tail};
use super::{Branch, LEAST_FILES, Place, Spool, SpoolError, State, Writing};
use lifeboat_postgres_wal::SystemId;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex};

impl Spool {
    /// Opens the spool in a folder, or begins one. It takes at most so many bytes of the disk.
    ///
    /// # Errors
    /// Where another process uses it, it is another dataset's, it is damaged, or the operating system refuses it.
    pub fn open(directory: &Path, owner: SpoolOwner, limit_bytes: u64) -> Result<Self, SpoolError> {
        if limit_bytes < LEAST_FILES * FILE_BYTES {
            return Err(SpoolError::TooSmall { limit: limit_bytes });
        }
        let files = Files::take(directory)?;
        files.refuse_memory()?;
        let found = Found::in_files(&files, &owner)?;
        let (writing, torn_bytes) = found.last_file(&files)?;
        Ok(Self {
            files,
            owner,
            limit_bytes,
            writing: Mutex::new(writing),
            making: Mutex::new(()),
            state: Mutex::new(found.state),
            changed: Condvar::new(),
            torn_bytes,
        })
    }
}

/// A file that is begun.
#[derive(Debug)]
struct Opened {
    file: File,
    head: FileHead,
    key: RecordKey,
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    state: State,
    /// The last file that is begun, and what is in it.
    last: Option<(Opened, Survey)>,
    /// The last record of all: where it is in the last file.
    last_record: Option<(RecordHead, u64)>,
}

impl Found {
    fn in_files(files: &Files, owner: &SpoolOwner) -> Result<Self, SpoolError> {
        let mut found = Self::default();
        let mut opened = VecDeque::new();
        for sequence in files.list()? {
            match found.open(files, owner, sequence)? {
                Some(file) if found.state.made.is_empty() => opened.push_back(file),
                Some(_) => return Err(damaged(files, sequence, 0, "the file before it is empty")),
                None => found.state.made.push_back(sequence),
            }
        }
        found.follow_each_other(files, &opened)?;
        let mut latest = Latest::default();
        while let Some(file) = opened.pop_front() {
            let until = opened.front().map_or(Until::Whole, |next| Until::Known(next.head.before_end));
            found.look_through(files, file, until, &mut latest)?;
        }
        latest.read(files, &mut found.state)?;
        found.begin_reading();
        Ok(found)
    }

    fn open(&self, files: &Files, owner: &SpoolOwner, sequence: u64) -> Result<Option<Opened>, SpoolError> {
        let file = files.open(sequence)?;
        let read = begun(&file).map_err(|source| files.failed("read", &files.path(sequence), source))?;
        let whole = file.length().is_ok_and(|length| length == FILE_BYTES);
        match read {
            Begun::No if whole => Ok(None),
            Begun::Yes(head, key) if whole && head.sequence == sequence => {
                if head.owner != *owner {
                    let (path, found) = (files.path(sequence), Box::new(head.owner));
                    return Err(SpoolError::Foreign { path, found });
                }
                Ok(Some(Opened { file, head, key }))
            }
            _ => Err(damaged(files, sequence, 0, "it does not begin as a file of a spool")),
        }
    }

    /// Of the files, only the oldest are ever removed.
    fn follow_each_other(&self, files: &Files, opened: &VecDeque<Opened>) -> Result<(), SpoolError> {
        let begun = opened.iter().map(|file| file.head.sequence);
        let all: Vec<u64> = begun.chain(self.state.made.iter().copied()).collect();
        match all.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
            Some(gap) => Err(damaged(files, gap[0] + 1, 0, "the file is missing")),
            None => Ok(()),
        }
    }

    fn look_through(
        &mut self,
        files: &Files,
        file: Opened,
        until: Until,
        latest: &mut Latest,
    ) -> Result<(), SpoolError> {
        let (sequence, system) = (file.head.sequence, file.head.system);
        if self.state.begun.is_empty() {
            self.state.next = file.head.first;
        } else if file.head.first != self.state.next {
            return Err(damaged(files, sequence, 0, "its records do not follow those before it"));
        }
        self.last_record = None;
        let (state, last_record) = (&mut self.state, &mut self.last_record);
        let looked = survey(&file.file, &file.head, &file.key, until, |record, at| {
            state.count(system, record, None);
            latest.note(Lying { system, record: *record, sequence, at });
            *last_record = Some((*record, at));
        });
        let survey = looked.map_err(|source| files.failed("read", &files.path(sequence), source))?;
        if survey.ends == Ends::Damaged {
            return Err(damaged(files, sequence, survey.end, "a record is not what was written"));
        }
        self.state.next = survey.next;
        self.state.begun.push_back((sequence, survey.end));
        self.last = Some((file, survey));
        Ok(())
    }

    /// Everything is read again: the repository knows what it has.
    fn begin_reading(&mut self) {
        let at = BLOCK_BYTES as u64;
        let first = self.state.next - self.state.waiting_records;
        let sequence = self.state.begun.front().map_or(1, |(sequence, _)| *sequence);
        self.state.reading = Place { sequence, at, number: first };
    }

    /// Goes on with the last file, unless a write to it was cut off; and how many bytes of that there are.
    fn last_file(&self, files: &Files) -> Result<(Option<Writing>, u64), SpoolError> {
        let Some((opened, survey)) = &self.last else { return Ok((None, 0)) };
        let path = files.path(opened.head.sequence);
        let failed = |source| files.failed("sync", &path, source);
        if let Some((record, at)) = self.last_record {
            // It may have come from memory alone, where the process ended before it was synced, or the sync failed.
            let mut bytes = vec![0; usize::try_from(record.padded()).unwrap_or_default()];
            opened.file.read_exact_at(&mut bytes, at).map_err(failed)?;
            opened.file.write_all_at(&bytes, at).map_err(failed)?;
        }
        opened.file.sync_data().map_err(failed)?;
        if survey.ends == Ends::Torn {
            return Ok((None, torn_bytes(&opened.file, survey.end).map_err(failed)?));
        }
        let writing = Writing {
            file: opened.file.try_clone().map_err(failed)?,
            key: opened.key,
            system: opened.head.system,
            sequence: opened.head.sequence,
            at: survey.end,
            record: Vec::new(),
        };
        Ok((Some(writing), 0))
    }
}

/// How far from a place on there is anything but zeros.
fn torn_bytes(file: &File, from: u64) -> std::io::Result<u64> {
    let mut bytes = vec![0; usize::try_from(FILE_BYTES - from).unwrap_or_default()];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1))
}

fn damaged(files: &Files, sequence: u64, at: u64, what: &'static str) -> SpoolError {
    SpoolError::Damaged { path: files.path(sequence), at, what }
}

/// A record, and where it lies.
#[derive(Clone, Copy, Debug)]
struct Lying {
    system: SystemId,
    record: RecordHead,
    sequence: u64,
    at: u64,
}

impl Lying {
    fn content(&self, files: &Files) -> Result<Vec<u8>, SpoolError> {
        let mut bytes = vec![0; self.record.length as usize];
        let file = files.open(self.sequence)?;
        let read = file.read_exact_at(&mut bytes, self.at + HEAD_BYTES as u64);
        read.map_err(|source| files.failed("read", &files.path(self.sequence), source))?;
        Ok(bytes)
    }
}

/// The last records of each timeline, and the histories: their content is read once all is found.
#[derive(Debug, Default)]
struct Latest {
    wal: BTreeMap<Branch, VecDeque<Lying>>,
    histories: Vec<Lying>,
}

impl Latest {
    fn note(&mut self, lying: Lying) {
        let record = lying.record;
        if record.kind == Kind::History {
            self.histories.push(lying);
            return;
        }
        let last = self.wal.entry((lying.system, record.timeline)).or_default();
        if last.back().is_some_and(|before| before.record.end() != record.start) {
            last.clear();
        }
        last.push_back(lying);
        // As few as are long enough without the first.
        let first = |last: &VecDeque<Lying>| last.get(1).map_or(record.end(), |second| second.record.start);
        while record.end().since(first(last)) >= TAIL_BYTES as u64 {
            last.pop_front();
        }
    }

    fn read(self, files: &Files, state: &mut State) -> Result<(), SpoolError> {
        for lying in self.histories {
            let content = lying.content(files)?;
            state.keep((lying.system, lying.record.timeline), &content);
        }
        for (branch, records) in self.wal {
            let Some(first) = records.front() else { continue };
            let mut tail = Tail::at(first.record.start);
            for lying in &records {
                tail.extend(lying.record.start, &lying.content(files)?);
            }
            state.tails.insert(branch, tail);
        }
        Ok(())
    }
}
