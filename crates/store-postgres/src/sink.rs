//! Where WAL becomes durable.

use crate::lineage::{self, HISTORY_KIND, WAL_KIND};
use crate::pending::WalStretch;
use lifeboat_base::clock::Timestamp;
use lifeboat_postgres_wal::{Lsn, SystemId, TimelineHistory, TimelineId};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{
    Lineage, LogCatalogue, LogError, LogExtent, LogPayload, LogReader, LogWriter, Repository,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a follower hands its WAL to. When a call has returned, what it was given survives the loss of the
/// primary's host: only then is it acknowledged to the server.
pub trait WalSink: Send {
    /// Makes a stretch durable. After an error the same is appended again.
    ///
    /// # Errors
    /// Where nobody knows whether it is durable.
    fn append(&mut self, stretch: &WalStretch) -> Result<(), LogError>;

    /// Goes on behind a hole: what lies before `position` cannot be had any more.
    ///
    /// # Errors
    /// Where the log has passed that position.
    fn skip_to(&mut self, timeline: TimelineId, position: Lsn) -> Result<(), LogError>;

    /// Keeps the history of a timeline.
    ///
    /// # Errors
    /// Where it could not be made durable.
    fn keep_history(&mut self, timeline: TimelineId, content: &[u8], now: Timestamp) -> Result<(), LogError>;
}

/// The log of a dataset in a repository.
#[derive(Debug)]
pub struct RepositoryLog {
    repository: Arc<Repository>,
    dataset: DatasetName,
    system: SystemId,
    writers: BTreeMap<TimelineId, LogWriter>,
}

impl RepositoryLog {
    /// The log of a cluster.
    pub fn new(repository: &Arc<Repository>, dataset: &DatasetName, system: SystemId) -> Self {
        Self { repository: repository.clone(), dataset: dataset.clone(), system, writers: BTreeMap::new() }
    }

    fn writer(&mut self, timeline: TimelineId) -> Result<&mut LogWriter, LogError> {
        match self.writers.entry(timeline) {
            std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let signer = self.repository.writer()?;
                let lineage = lineage::of_timeline(self.system, timeline)?;
                let writer = LogWriter::open(&self.repository, &signer, &self.dataset, &lineage)?;
                Ok(entry.insert(writer))
            }
        }
    }

    /// Where the log of a timeline ends; `None` where there is none of it.
    ///
    /// # Errors
    /// Where the logs cannot be listed.
    pub fn end(&mut self, timeline: TimelineId) -> Result<Option<Lsn>, LogError> {
        Ok(self.writer(timeline)?.end().map(Lsn))
    }

    /// Forgets where the logs ended, since somebody else may have appended.
    pub fn look_again(&mut self) {
        self.writers.clear();
    }

    /// The last bytes of a timeline's log, at most so many, and where they begin.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn tail(&mut self, timeline: TimelineId, most: u64) -> Result<Option<(Lsn, Vec<u8>)>, LogError> {
        let Some(end) = self.end(timeline)? else { return Ok(None) };
        let lineage = lineage::of_timeline(self.system, timeline)?;
        let catalogue = LogCatalogue::read(&self.repository, &self.dataset)?;
        let Some(start) = last_stretch_start(&catalogue, &lineage, end) else { return Ok(None) };
        let from = start.max(end.0.saturating_sub(most));
        let mut bytes = Vec::new();
        for piece in LogReader::over(catalogue, &lineage, from..end.0) {
            if let LogPayload::Bytes(piece) = piece?.payload {
                bytes.extend_from_slice(&piece);
            }
        }
        Ok(Some((Lsn(from), bytes)))
    }

    /// The timelines of which there is any log, ascending.
    ///
    /// # Errors
    /// Where the logs cannot be listed.
    pub fn timelines(&self) -> Result<Vec<TimelineId>, LogError> {
        let catalogue = LogCatalogue::read(&self.repository, &self.dataset)?;
        let mut timelines: Vec<TimelineId> = catalogue
            .lineages()
            .iter()
            .filter_map(|log| lineage::parse(log.lineage.as_str()))
            .filter(|(system, _)| *system == self.system)
            .map(|(_, timeline)| timeline)
            .collect();
        timelines.sort_unstable();
        Ok(timelines)
    }

    /// The cluster.
    pub fn system(&self) -> SystemId {
        self.system
    }

    /// What is known of how a timeline began.
    ///
    /// # Errors
    /// Where the histories cannot be read.
    pub fn history(&self, timeline: TimelineId) -> Result<Option<TimelineHistory>, LogError> {
        let mut kept = histories(&self.repository, &self.dataset, self.system)?;
        Ok(kept.remove(&timeline).map(|kept| kept.history))
    }
}

fn last_stretch_start(catalogue: &LogCatalogue, lineage: &Lineage, end: Lsn) -> Option<u64> {
    let log = catalogue.lineages().into_iter().find(|log| log.lineage == *lineage)?;
    log.stretches.iter().find(|stretch| stretch.end == end.0).map(|stretch| stretch.start)
}

impl WalSink for RepositoryLog {
    fn append(&mut self, stretch: &WalStretch) -> Result<(), LogError> {
        let extent = LogExtent {
            start: stretch.start.0,
            end: stretch.end().0,
            first: stretch.first,
            last: stretch.last,
        };
        // The payload is the container's to keep: one copy, beside compressing and encrypting it.
        let payload = LogPayload::Bytes(stretch.bytes.clone());
        let writer = self.writer(stretch.timeline)?;
        writer.append(extent, WAL_KIND, &payload)?;
        // The server itself tells whether this is its history; who reads compares with what others wrote.
        writer.leave_uncompared();
        Ok(())
    }

    fn skip_to(&mut self, timeline: TimelineId, position: Lsn) -> Result<(), LogError> {
        self.writer(timeline)?.skip_to(position.0)
    }

    fn keep_history(&mut self, timeline: TimelineId, content: &[u8], now: Timestamp) -> Result<(), LogError> {
        let kept = histories(&self.repository, &self.dataset, self.system)?;
        if kept.contains_key(&timeline) {
            return Ok(());
        }
        let lineage = lineage::of_histories(self.system)?;
        let signer = self.repository.writer()?;
        let position = u64::from(timeline.0);
        let mut writer = LogWriter::open_at(&self.repository, &signer, &self.dataset, &lineage, position)?;
        let extent = LogExtent { start: position, end: position + 1, first: now, last: now };
        writer.append(extent, HISTORY_KIND, &LogPayload::Units(vec![content.to_vec()])).map(|_| ())
    }
}

/// A history file as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptHistory {
    /// What it says.
    pub history: TimelineHistory,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// The history files that were kept of a cluster. One that PostgreSQL would refuse is none.
///
/// # Errors
/// Where they cannot be listed or read.
pub fn histories(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    system: SystemId,
) -> Result<BTreeMap<TimelineId, KeptHistory>, LogError> {
    histories_in(&LogCatalogue::read(repository, dataset)?, system)
}

/// As [`histories`], of logs that have been listed.
pub(crate) fn histories_in(
    catalogue: &LogCatalogue,
    system: SystemId,
) -> Result<BTreeMap<TimelineId, KeptHistory>, LogError> {
    let lineage = lineage::of_histories(system)?;
    let Some(log) = catalogue.lineages().into_iter().find(|log| log.lineage == lineage) else {
        return Ok(BTreeMap::new());
    };
    let mut kept = BTreeMap::new();
    for stretch in log.stretches {
        for piece in LogReader::over(catalogue.clone(), &lineage, stretch.start..stretch.end) {
            let piece = piece?;
            let LogPayload::Units(units) = piece.payload else { continue };
            for (position, content) in (piece.start..).zip(units) {
                let Ok(timeline) = u32::try_from(position).map(TimelineId) else { continue };
                if let Ok(history) = TimelineHistory::parse(timeline, &content) {
                    kept.insert(timeline, KeptHistory { history, content });
                }
            }
        }
    }
    Ok(kept)
}
