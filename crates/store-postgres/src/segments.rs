//! From the log in a repository back to the files of `pg_wal`.
//!
//! A restore needs one run of log for each timeline on its way. Each run becomes segments, as PostgreSQL names
//! them; the last one is filled up with zeros, where PostgreSQL's own reading ends.

use crate::error::{PostgresStoreError, Result};
use crate::facts::SnapshotFacts;
use crate::lineage::{self, WAL_KIND};
use lifeboat_postgres_wal::{Lsn, SegmentName, SegmentSize, SystemId, TimelineHistory, TimelineId};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{LogCatalogue, LogPayload, LogReader, Repository};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// A run of one timeline's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The timeline.
    pub timeline: TimelineId,
    /// Its positions, from the beginning of a segment.
    pub positions: Range<u64>,
}

/// The runs of log that lead from a snapshot to a position of a timeline: one for each timeline on the way.
///
/// `end` is the first position that is not needed any more. A history that does not lead from the snapshot's
/// timeline, or leaves it before the snapshot ends, gives none.
pub fn legs(facts: &SnapshotFacts, history: &TimelineHistory, end: Lsn) -> Option<Vec<Leg>> {
    if !history.includes(facts.timeline) {
        return None;
    }
    let mut from = facts.first_needed();
    let mut legs = Vec::new();
    for switch in history.switches().iter().filter(|switch| switch.timeline >= facts.timeline) {
        if switch.at < facts.stop {
            return None;
        }
        if switch.at >= end {
            legs.push(Leg { timeline: switch.timeline, positions: from.0..end.0 });
            return Some(legs);
        }
        legs.push(Leg { timeline: switch.timeline, positions: from.0..switch.at.0 });
        from = facts.segment.start_of(switch.at);
    }
    legs.push(Leg { timeline: history.timeline(), positions: from.0..end.0 });
    Some(legs)
}

/// A log that is read from a repository.
#[derive(Clone, Debug)]
pub struct WalSource {
    catalogue: LogCatalogue,
    system: SystemId,
    segment: SegmentSize,
}

impl WalSource {
    /// The log of one cluster.
    ///
    /// # Errors
    /// Where the logs cannot be listed.
    pub fn open(
        repository: &Arc<Repository>,
        dataset: &DatasetName,
        system: SystemId,
        segment: SegmentSize,
    ) -> Result<Self> {
        Ok(Self::over(LogCatalogue::read(repository, dataset)?, system, segment))
    }

    /// The log of one cluster, among logs that have been listed.
    pub(crate) fn over(catalogue: LogCatalogue, system: SystemId, segment: SegmentSize) -> Self {
        Self { catalogue, system, segment }
    }

    /// Reads a run of a timeline's log, in order, in pieces of any size.
    ///
    /// # Errors
    /// Of `visit`, and where the log has a hole, has forked or cannot be read.
    pub fn read(&self, leg: &Leg, visit: &mut dyn FnMut(Lsn, &[u8]) -> Result<bool>) -> Result<()> {
        let lineage = lineage::of_timeline(self.system, leg.timeline)?;
        for piece in LogReader::over(self.catalogue.clone(), &lineage, leg.positions.clone()) {
            let piece = piece?;
            let LogPayload::Bytes(bytes) = &piece.payload else {
                return Err(PostgresStoreError::NotWal { kind: piece.kind });
            };
            if piece.kind != WAL_KIND {
                return Err(PostgresStoreError::NotWal { kind: piece.kind });
            }
            if !visit(Lsn(piece.start), bytes)? {
                break;
            }
        }
        Ok(())
    }

    /// Where the stretch of log ends without a hole that holds a position.
    pub fn end_of_stretch(&self, timeline: TimelineId, position: Lsn) -> Option<Lsn> {
        let lineage = lineage::of_timeline(self.system, timeline).ok()?;
        let log = self.catalogue.lineages().into_iter().find(|log| log.lineage == lineage)?;
        let holds = |from: u64, to: u64| from <= position.0 && position.0 <= to;
        log.stretches.iter().find(|stretch| holds(stretch.start, stretch.end)).map(|s| Lsn(s.end))
    }

    /// Where the last stretch of a timeline's log ends, whatever is missing before it.
    pub fn end(&self, timeline: TimelineId) -> Option<Lsn> {
        let lineage = lineage::of_timeline(self.system, timeline).ok()?;
        let log = self.catalogue.lineages().into_iter().find(|log| log.lineage == lineage)?;
        log.stretches.last().map(|stretch| Lsn(stretch.end))
    }

    /// Writes the segments of some runs into a folder, several at once. What is written is synced by whoever
    /// owns the folder.
    ///
    /// # Errors
    /// Where the log cannot be read or a file not be written; what was written until then stays.
    pub fn write_segments(&self, legs: &[Leg], into: &Path, threads: usize) -> Result<u64> {
        let parts: Vec<Leg> = legs.iter().flat_map(|leg| self.split(leg)).collect();
        let (next, first_error) = (AtomicUsize::new(0), Mutex::new(None));
        let work = || {
            while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.write_segment(part, into) {
                    first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    next.store(parts.len(), Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.min(parts.len()) {
                scope.spawn(work);
            }
            work();
        });
        match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(parts.iter().map(|part| part.positions.end - part.positions.start).sum()),
        }
    }

    /// A run, segment by segment.
    fn split(&self, leg: &Leg) -> Vec<Leg> {
        let mut parts = Vec::new();
        let mut from = leg.positions.start;
        while from < leg.positions.end {
            let segment_end = self.segment.start_of(Lsn(from)).after(self.segment.bytes());
            let to = segment_end.0.min(leg.positions.end);
            parts.push(Leg { timeline: leg.timeline, positions: from..to });
            from = to;
        }
        parts
    }

    fn write_segment(&self, part: &Leg, into: &Path) -> Result<()> {
        let name = SegmentName::of(part.timeline, Lsn(part.positions.start), self.segment);
        let path = into.join(name.file_name(self.segment));
        let failed =
            |source: io::Error| PostgresStoreError::Io { operation: "write", path: path.clone(), source };
        let file = create(&path).map_err(failed)?;
        // Zeros where nothing is written: PostgreSQL takes them for the end.
        file.set_len(self.segment.bytes()).map_err(failed)?;
        self.read(part, &mut |start, bytes| {
            let offset = start.since(name.start);
            file.write_all_at(bytes, offset).map_err(failed)?;
            Ok(true)
        })
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(timeline: u32, stop: u64) -> SnapshotFacts {
        SnapshotFacts {
            system: SystemId(7),
            timeline: TimelineId(timeline),
            start: Lsn(0x100_0028),
            stop: Lsn(stop),
            server_version: 150_014,
            block_bytes: 8192,
            segment: SegmentSize::DEFAULT,
            checksums: true,
            tablespaces: Vec::new(),
            marker: None,
            superuser: None,
        }
    }

    fn way(timeline: u32, stop: u64, end: u64) -> Option<Vec<(u32, u64, u64)>> {
        let history = TimelineHistory::parse(TimelineId(3), b"1\t0/3000100\tx\n2\t0/4000200\tx\n").unwrap();
        let legs = legs(&facts(timeline, stop), &history, Lsn(end))?;
        Some(legs.into_iter().map(|leg| (leg.timeline.0, leg.positions.start, leg.positions.end)).collect())
    }

    #[test]
    fn the_way_goes_through_every_timeline_until_its_end() {
        let all = [(1, 0x100_0000, 0x300_0100), (2, 0x300_0000, 0x400_0200), (3, 0x400_0000, 0x500_0000)];
        assert_eq!(way(1, 0x100_0400, 0x500_0000).unwrap(), all);
        assert_eq!(way(1, 0x100_0400, 0x300_0100).unwrap(), [(1, 0x100_0000, 0x300_0100)]);
        assert_eq!(way(3, 0x100_0400, 0x500_0000).unwrap(), [(3, 0x100_0000, 0x500_0000)]);
    }

    #[test]
    fn a_snapshot_that_ends_behind_the_switch_leads_nowhere() {
        assert_eq!(way(1, 0x300_0101, 0x500_0000), None);
        assert_eq!(way(4, 0x100_0400, 0x500_0000), None);
    }
}
