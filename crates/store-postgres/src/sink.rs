//! Where WAL becomes durable.

use crate::archive_push::{divide, stretches_of};
use crate::error::{PostgresStoreError, Result};
use crate::lineage::{self, HISTORY_KIND, WAL_KIND};
use crate::pending::WalStretch;
use lifeboat_base::clock::Timestamp;
use lifeboat_postgres_wal::{Lsn, SystemId, TimelineHistory, TimelineId};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{
    Lineage, LogCatalogue, LogError, LogExtent, LogPayload, LogReader, LogWriter, Repository,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// What a follower hands its WAL to. When a call has returned, what it was given survives the loss of the
/// primary's host: only then is it acknowledged to the server.
pub trait WalSink: Send {
    /// Makes a stretch durable. After an error the same is appended again.
    ///
    /// # Errors
    /// Where nobody knows whether it is durable.
    fn append(&mut self, stretch: &WalStretch) -> Result<()>;

    /// Goes on behind a hole: what lies before `position` cannot be had any more.
    ///
    /// # Errors
    /// Where the log has passed that position.
    fn skip_to(&mut self, timeline: TimelineId, position: Lsn) -> Result<()>;

    /// Keeps the history of a timeline.
    ///
    /// # Errors
    /// Where it could not be made durable.
    fn keep_history(&mut self, timeline: TimelineId, content: &[u8], now: Timestamp) -> Result<()>;
}

/// A log that is followed: where it ends is where following goes on.
pub(crate) trait FollowedLog: WalSink {
    /// The cluster.
    fn system(&self) -> SystemId;
    /// The clusters of which there is any log under the dataset's name.
    fn systems(&mut self) -> Result<BTreeSet<SystemId>>;
    /// The timelines of which there is any log, ascending.
    fn timelines(&mut self) -> Result<Vec<TimelineId>>;
    /// Where the log of a timeline ends; `None` where there is none of it.
    fn end(&mut self, timeline: TimelineId) -> Result<Option<Lsn>>;
    /// The last bytes of a timeline's log, at most so many, and where they begin.
    fn tail(&mut self, timeline: TimelineId, most: u64) -> Result<Option<(Lsn, Vec<u8>)>>;
    /// What is known of how a timeline began.
    fn history(&mut self, timeline: TimelineId) -> Result<Option<TimelineHistory>>;
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

    /// The clusters of which there is any log under the dataset's name.
    ///
    /// # Errors
    /// Where the logs cannot be listed.
    pub fn systems(&self) -> Result<BTreeSet<SystemId>, LogError> {
        let catalogue = LogCatalogue::read(&self.repository, &self.dataset)?;
        let lineages = catalogue.lineages();
        let parsed = lineages.iter().filter_map(|log| lineage::parse(log.lineage.as_str()));
        Ok(parsed.map(|(system, _)| system).collect())
    }

    /// Keeps the history of a timeline, unless it is kept.
    ///
    /// # Errors
    /// Where it could not be made durable.
    pub fn keep_history(
        &mut self,
        timeline: TimelineId,
        content: &[u8],
        now: Timestamp,
    ) -> Result<(), LogError> {
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

    /// Makes a stretch durable wherever it lies: behind the end, or else what of it is missing. What the log has
    /// already must be the same.
    pub(crate) fn fit(&mut self, stretch: &WalStretch) -> Result<()> {
        match self.end(stretch.timeline)? {
            Some(end) if end != stretch.start => {
                let filled = self.fill(stretch);
                self.look_again();
                filled
            }
            _ => self.append(stretch),
        }
    }

    fn fill(&self, stretch: &WalStretch) -> Result<()> {
        let lineage = lineage::of_timeline(self.system, stretch.timeline)?;
        let catalogue = LogCatalogue::read(&self.repository, &self.dataset)?;
        let (known, missing) = divide(stretch.start.0..stretch.end().0, &stretches_of(&catalogue, &lineage));
        for range in known {
            self.compare(stretch, &catalogue, &lineage, range)?;
        }
        for range in missing {
            let signer = self.repository.writer()?;
            let mut writer =
                LogWriter::open_at(&self.repository, &signer, &self.dataset, &lineage, range.start)?;
            let payload = LogPayload::Bytes(stretch.part(&range).to_vec());
            let (start, end) = (range.start, range.end);
            let extent = LogExtent { start, end, first: stretch.first, last: stretch.last };
            writer.append(extent, WAL_KIND, &payload)?;
        }
        Ok(())
    }

    /// Whether the log says the same of a part of a stretch.
    fn compare(
        &self,
        stretch: &WalStretch,
        catalogue: &LogCatalogue,
        lineage: &Lineage,
        range: Range<u64>,
    ) -> Result<()> {
        for piece in LogReader::over(catalogue.clone(), lineage, range) {
            let piece = piece?;
            let LogPayload::Bytes(kept) = piece.payload else {
                return Err(PostgresStoreError::NotWal { kind: piece.kind });
            };
            let ours = stretch.part(&(piece.start..piece.end));
            if let Some(at) = kept.iter().zip(ours).position(|(kept, byte)| kept != byte) {
                let at = Lsn(piece.start).after(at as u64);
                return Err(PostgresStoreError::Diverged {
                    system: self.system,
                    timeline: stretch.timeline,
                    at,
                });
            }
        }
        Ok(())
    }
}

fn last_stretch_start(catalogue: &LogCatalogue, lineage: &Lineage, end: Lsn) -> Option<u64> {
    let log = catalogue.lineages().into_iter().find(|log| log.lineage == *lineage)?;
    log.stretches.iter().find(|stretch| stretch.end == end.0).map(|stretch| stretch.start)
}

impl WalSink for RepositoryLog {
    fn append(&mut self, stretch: &WalStretch) -> Result<()> {
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

    fn skip_to(&mut self, timeline: TimelineId, position: Lsn) -> Result<()> {
        Ok(self.writer(timeline)?.skip_to(position.0)?)
    }

    fn keep_history(&mut self, timeline: TimelineId, content: &[u8], now: Timestamp) -> Result<()> {
        Ok(Self::keep_history(self, timeline, content, now)?)
    }
}

impl FollowedLog for RepositoryLog {
    fn system(&self) -> SystemId {
        Self::system(self)
    }

    fn systems(&mut self) -> Result<BTreeSet<SystemId>> {
        Ok(Self::systems(self)?)
    }

    fn timelines(&mut self) -> Result<Vec<TimelineId>> {
        Ok(Self::timelines(self)?)
    }

    fn end(&mut self, timeline: TimelineId) -> Result<Option<Lsn>> {
        Ok(Self::end(self, timeline)?)
    }

    fn tail(&mut self, timeline: TimelineId, most: u64) -> Result<Option<(Lsn, Vec<u8>)>> {
        Ok(Self::tail(self, timeline, most)?)
    }

    fn history(&mut self, timeline: TimelineId) -> Result<Option<TimelineHistory>> {
        Ok(Self::history(self, timeline)?)
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
    let lineage = lineage::of_histories(system)?;
    let (catalogue, _) =
        LogCatalogue::read_part(repository, dataset, &|span| span.lineage == lineage.as_str())?;
    histories_in(&catalogue, system)
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
