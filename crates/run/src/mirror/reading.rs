//! A run as its mirror has it, for people elsewhere: every line checked against the one before it, the document
//! against the beginning. Nothing is written anywhere.

use super::ship::last;
use super::{Mirror, MirrorError, Slot};
use crate::error::RunError;
use crate::event::{Begun, Event, Record};
use crate::ids::RunId;
use crate::journal::{BEGINNING, Line, read_line};
use crate::state::RunState;
use lifeboat_base::clock::Timestamp;
use lifeboat_evidence::Digest;
use std::thread;

/// So many slots are asked for at once: each waits for a network.
const AT_ONCE: u64 = 8;
const DOING: &str = "read the run from its mirror";

/// A run as its mirror has it.
#[derive(Clone, Debug)]
pub struct Mirrored {
    /// Where the mirror is.
    pub place: String,
    /// The pinned document: the one that its beginning names.
    pub document: Vec<u8>,
    /// How it was begun.
    pub begun: Begun,
    /// What happened, as far as the mirror knows. There is at least its beginning.
    pub records: Vec<Record>,
    /// What the run is like after that.
    pub state: RunState,
}

/// Who executes a run, as its records have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutedBy<'a> {
    /// Who began it, or took it over last.
    pub by: &'a str,
    /// On which host.
    pub host: &'a str,
    /// Since when.
    pub since: Timestamp,
}

impl Mirrored {
    /// Reads a run.
    ///
    /// # Errors
    /// Where the mirror does not answer or does not hold it, or holds what is damaged or of another run.
    pub fn read(mirror: &dyn Mirror, run: &RunId) -> Result<Self, RunError> {
        let document = slot(mirror, run, 0)?.ok_or_else(|| RunError::NotBegun(run.clone()))?;
        let lines = slots(mirror, run, last(mirror, run).map_err(RunError::Mirror)?)?;
        let (mut chain, mut records) = (BEGINNING, Vec::with_capacity(lines.len()));
        for (number, bytes) in (1..).zip(lines) {
            let (record, line) = read_slot(number, &bytes, chain)?;
            chain = line.chain;
            records.push(record);
        }
        let begun = match records.first().map(|record| &record.event) {
            Some(Event::Begun(begun)) if begun.run == *run => begun.clone(),
            Some(_) => return Err(damaged(format!("slot 1 is not the beginning of run {run}"))),
            None => return Err(RunError::NotBegun(run.clone())),
        };
        if begun.document != Digest::of(&document) {
            return Err(damaged("slot 0 is not the document that the run was begun with".to_owned()));
        }
        let state = RunState::of(&records)?;
        Ok(Self { place: mirror.place(), document, begun, records, state })
    }

    /// Who executes it, or did last.
    pub fn executed_by(&self) -> ExecutedBy<'_> {
        let taken = self.records.iter().rev().find_map(|record| match &record.event {
            Event::TakenOver(taken) => Some((record.at, taken)),
            _ => None,
        });
        match taken {
            Some((since, taken)) => ExecutedBy { by: &taken.by, host: &taken.host, since },
            None => ExecutedBy { by: &self.begun.by, host: &self.begun.host, since: self.state.begun_at },
        }
    }
}

/// The record of a slot that follows what has this chain value.
pub(crate) fn read_slot(number: u64, bytes: &[u8], chain: Digest) -> Result<(Record, Line), RunError> {
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    read_line(text, chain).map_err(|what| damaged(format!("slot {number} of the mirror is damaged: {what}")))
}

fn damaged(what: String) -> RunError {
    let hint = "Do not rely on it: ask whoever executes the run, and find out who can write to its mirror.";
    RunError::Mirror(MirrorError { hint: Some(hint.to_owned()), ..MirrorError::new(DOING, what) })
}

fn slot(mirror: &dyn Mirror, run: &RunId, number: u64) -> Result<Option<Vec<u8>>, RunError> {
    mirror.read(&Slot { run: run.clone(), number }).map_err(RunError::Mirror)
}

/// Slots, each with its number.
type Numbered = Vec<(u64, Vec<u8>)>;

/// The slots from 1 to `there`.
fn slots(mirror: &dyn Mirror, run: &RunId, there: u64) -> Result<Vec<Vec<u8>>, RunError> {
    let every = |first: u64| -> Result<Numbered, RunError> {
        let numbers = (first..=there).step_by(AT_ONCE as usize);
        let whole = |number| {
            let gone = || damaged(format!("slot {number} of the mirror is not there any more"));
            Ok((number, slot(mirror, run, number)?.ok_or_else(gone)?))
        };
        numbers.map(whole).collect()
    };
    let read: Vec<Result<Numbered, RunError>> = thread::scope(|scope| {
        let readers: Vec<_> =
            (1..=AT_ONCE.min(there)).map(|first| scope.spawn(move || every(first))).collect();
        let panicked = || Err(damaged("whoever read it panicked".to_owned()));
        readers.into_iter().map(|reader| reader.join().unwrap_or_else(|_| panicked())).collect()
    });
    let mut all = Vec::new();
    for part in read {
        all.extend(part?);
    }
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, bytes)| bytes).collect())
}
