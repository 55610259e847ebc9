//! Appending to a log: one object for each stretch, durable when its position is given back.

use super::catalogue::{LogCatalogue, LogExtent};
use super::object::Headed;
use super::payload::LogPayload;
use super::reader::LogReader;
use super::{Lineage, LogError, MAX_LOG_BYTES};
use crate::bodies::{self, LogBody, LogTable};
use crate::crypto::Signer;
use crate::envelope::{ObjectType, Signed};
use crate::error::RepositoryError;
use crate::ids::{BodyHash, DatasetName};
use crate::layout::{self, LogName};
use crate::repository::{Claim, Repository};
use crate::trust::Need;
use lifeboat_base::{failpoint, random};
use lifeboat_objects::Key;
use std::ops::Range;
use std::sync::Arc;

const MAX_KIND_BYTES: usize = 64;
/// A random name that is taken was damaged on its way there; that does not happen again and again.
const MAX_NAMES: u32 = 4;

/// How what was appended stands to what others wrote.
#[derive(Debug)]
pub enum LogStanding {
    /// Nobody else wrote these positions.
    Alone,
    /// Others did, and said the same.
    Agreed,
    /// Others did, and said something else: what the error says. Both branches are kept.
    Forked(LogError),
}

/// Appends to one lineage of one dataset.
#[derive(Debug)]
pub struct LogWriter {
    repository: Arc<Repository>,
    signer: Signer,
    dataset: DatasetName,
    lineage: Lineage,
    generation: Option<u64>,
    end: Option<u64>,
    predecessor: Option<BodyHash>,
    /// What this writer has appended and not yet compared, and the objects.
    own: Vec<Range<u64>>,
    own_keys: Vec<Key>,
}

impl LogWriter {
    /// Continues a lineage at its durable end, or begins it.
    ///
    /// # Errors
    /// Where `signer` may not publish the dataset, or the logs cannot be listed.
    pub fn open(
        repository: &Arc<Repository>,
        signer: &Signer,
        dataset: &DatasetName,
        lineage: &Lineage,
    ) -> Result<Self, LogError> {
        let catalogue = LogCatalogue::read(repository, dataset)?;
        let heads = catalogue.of(lineage);
        let end = heads.iter().map(|head| head.body.end).max();
        Self::continuing(repository, signer, dataset, lineage, end, &heads)
    }

    /// Appends from a position that may lie before the durable end: to fill a hole with what is still to be
    /// had elsewhere. What is there already must agree, as with any two writers.
    ///
    /// # Errors
    /// As [`LogWriter::open`].
    pub fn open_at(
        repository: &Arc<Repository>,
        signer: &Signer,
        dataset: &DatasetName,
        lineage: &Lineage,
        position: u64,
    ) -> Result<Self, LogError> {
        Self::open_in(&LogCatalogue::read(repository, dataset)?, signer, lineage, position)
    }

    /// As [`LogWriter::open_at`], where somebody has looked already: at least at the objects of the lineage that end at
    /// the position.
    ///
    /// # Errors
    /// Where `signer` may not publish the dataset.
    pub fn open_in(
        catalogue: &LogCatalogue,
        signer: &Signer,
        lineage: &Lineage,
        position: u64,
    ) -> Result<Self, LogError> {
        let heads = catalogue.of(lineage);
        let (repository, dataset) = (catalogue.repository(), catalogue.dataset());
        Self::continuing(repository, signer, dataset, lineage, Some(position), &heads)
    }

    fn continuing(
        repository: &Arc<Repository>,
        signer: &Signer,
        dataset: &DatasetName,
        lineage: &Lineage,
        end: Option<u64>,
        heads: &[Arc<Headed>],
    ) -> Result<Self, LogError> {
        repository.trust().permit(&signer.id(), Need::Publish(dataset))?;
        // Where the lineage has forked, the branch that this writer wrote is its own.
        let before = heads.iter().filter(|head| Some(head.body.end) == end);
        let predecessor = before.max_by_key(|head| head.writer == signer.id()).map(|head| head.hash);
        Ok(Self {
            repository: repository.clone(),
            signer: signer.clone(),
            dataset: dataset.clone(),
            lineage: lineage.clone(),
            generation: None,
            end,
            predecessor,
            own: Vec::new(),
            own_keys: Vec::new(),
        })
    }

    /// The generation of leadership that appended objects say they were written under. It is for people:
    /// readers accept log objects of any.
    pub fn set_generation(&mut self, generation: Option<u64>) {
        self.generation = generation;
    }

    /// Up to where the log is durable; `None` where the lineage has none yet.
    pub fn end(&self) -> Option<u64> {
        self.end
    }

    /// Leaves a hole: the next stretch starts at `position`, and what lies before it is shown as missing.
    ///
    /// # Errors
    /// [`LogError::NotNext`] where the log has passed that position already.
    pub fn skip_to(&mut self, position: u64) -> Result<(), LogError> {
        match self.end {
            Some(expected) if position < expected => Err(LogError::NotNext { expected, start: position }),
            _ => {
                // What comes next follows nothing that this writer knows: somebody else may fill the hole.
                if self.end != Some(position) {
                    self.predecessor = None;
                }
                self.end = Some(position);
                Ok(())
            }
        }
    }

    /// Appends a stretch and gives back the position up to which everything is durable now. After an error
    /// nobody knows whether the object exists: append the same again, a duplicate that agrees does no harm.
    ///
    /// # Errors
    /// [`LogError::NotNext`], [`LogError::WrongExtent`], [`LogError::TooLarge`], or where storing failed.
    pub fn append(&mut self, extent: LogExtent, kind: &str, payload: &LogPayload) -> Result<u64, LogError> {
        if let Some(expected) = self.end.filter(|end| *end != extent.start) {
            return Err(LogError::NotNext { expected, start: extent.start });
        }
        let description = Description {
            dataset: &self.dataset,
            lineage: &self.lineage,
            extent,
            kind,
            predecessor: self.predecessor,
            generation: self.generation,
        };
        let (key, hash) = create(&self.repository, &self.signer, &description, payload, None)?;
        failpoint::reach("log::after-put").map_err(|e| RepositoryError::Io("append to a log", e))?;
        match self.own.last_mut().filter(|own| own.end == extent.start) {
            Some(own) => own.end = extent.end,
            None => self.own.push(extent.start..extent.end),
        }
        self.own_keys.push(key);
        (self.end, self.predecessor) = (Some(extent.end), Some(hash));
        Ok(extent.end)
    }

    /// Compares what this writer has appended since the last time with what others wrote there. What was
    /// appended stays durable whatever comes out; a fork is said again until somebody acts.
    ///
    /// # Errors
    /// Where the logs cannot be read.
    pub fn compare(&mut self) -> Result<LogStanding, LogError> {
        let mut standing = LogStanding::Alone;
        if !self.own.is_empty() {
            let catalogue = LogCatalogue::read(&self.repository, &self.dataset)?;
            for own in &self.own {
                match self.stands(&catalogue, own)? {
                    LogStanding::Alone => {}
                    LogStanding::Agreed => standing = LogStanding::Agreed,
                    forked @ LogStanding::Forked(_) => return Ok(forked),
                }
            }
        }
        self.own.clear();
        self.own_keys.clear();
        Ok(standing)
    }

    /// Gives up comparing what was appended so far, which is remembered until then. Whoever reads the log compares
    /// all of it, and so does `check`.
    pub fn leave_uncompared(&mut self) {
        self.own.clear();
        self.own_keys.clear();
    }

    fn stands(&self, catalogue: &LogCatalogue, own: &Range<u64>) -> Result<LogStanding, LogError> {
        let heads = catalogue.of(&self.lineage);
        let others = heads.iter().filter(|head| !self.own_keys.contains(&head.key));
        let shared = others
            .map(|head| head.body.start.max(own.start)..head.body.end.min(own.end))
            .filter(|shared| !shared.is_empty())
            .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
        match shared {
            None => Ok(LogStanding::Alone),
            Some(shared) => agreement(LogReader::over(catalogue.clone(), &self.lineage, shared)),
        }
    }
}

fn agreement(reader: LogReader) -> Result<LogStanding, LogError> {
    for piece in reader {
        match piece {
            Ok(_) => {}
            Err(error @ (LogError::Forked { .. } | LogError::Unlinked { .. })) => {
                return Ok(LogStanding::Forked(error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(LogStanding::Agreed)
}

/// What a new log object says of itself.
pub(crate) struct Description<'a> {
    pub(crate) dataset: &'a DatasetName,
    pub(crate) lineage: &'a Lineage,
    pub(crate) extent: LogExtent,
    pub(crate) kind: &'a str,
    pub(crate) predecessor: Option<BodyHash>,
    pub(crate) generation: Option<u64>,
}

/// Creates a log object under a name that no other attempt has.
pub(crate) fn create(
    repository: &Repository,
    signer: &Signer,
    description: &Description<'_>,
    payload: &LogPayload,
    table: Option<&LogTable>,
) -> Result<(Key, BodyHash), LogError> {
    check(description, payload)?;
    let encoded = payload.encode();
    let body = body(repository, description, payload, &encoded, table);
    let signed = Signed::new(ObjectType::Log, bodies::encode(&body), signer);
    let hash = BodyHash::of(&signed.body);
    let bytes = repository.wrap_log(&signed, table.map(bodies::encode), encoded)?;
    failpoint::reach("log::before-put").map_err(|e| RepositoryError::Io("append to a log", e))?;
    let LogBody { dataset, lineage, start, end, .. } = body;
    let name = LogName { dataset, lineage, start, end, writer: signer.id() };
    for _ in 0..MAX_NAMES {
        let key = layout::log(&name, u64::from_le_bytes(random::bytes()));
        if let Claim::Won = repository.create_once(&key, &bytes)? {
            return Ok((key, hash));
        }
    }
    Err(RepositoryError::damaged(layout::LOGS, "every name that was tried is taken by something else").into())
}

fn body(
    repository: &Repository,
    description: &Description<'_>,
    payload: &LogPayload,
    encoded: &[u8],
    table: Option<&LogTable>,
) -> LogBody {
    LogBody {
        repository: repository.id(),
        dataset: description.dataset.clone(),
        lineage: description.lineage.as_str().to_owned(),
        start: description.extent.start,
        end: description.extent.end,
        first: description.extent.first,
        last: description.extent.last,
        predecessor: description.predecessor,
        kind: description.kind.to_owned(),
        units: payload.is_units(),
        generation: description.generation,
        payload: LogPayload::hash(encoded),
        table: table.map(|table| BodyHash::of(&bodies::encode(table))),
    }
}

fn check(description: &Description<'_>, payload: &LogPayload) -> Result<(), LogError> {
    let (LogExtent { start, end, .. }, kind) = (description.extent, description.kind);
    let positions = payload.positions();
    if positions == 0 || start.checked_add(positions) != Some(end) {
        return Err(LogError::WrongExtent { start, end, positions });
    }
    if payload.size_bytes() > MAX_LOG_BYTES {
        return Err(LogError::TooLarge { bytes: payload.size_bytes() });
    }
    if kind.is_empty() || kind.len() > MAX_KIND_BYTES || !kind.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(LogError::InvalidName { what: "kind of payload", text: kind.to_owned() });
    }
    Ok(())
}
