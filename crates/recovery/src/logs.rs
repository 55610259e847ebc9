//! Logs as time goes by: many small objects become few, and what no snapshot leads to any more may go.

use crate::error::Result;
use lifeboat_base::clock::Timestamp;
use lifeboat_postgres_wal::{SystemId, TimelineId};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{
    CompactOptions, Lineage, LogCatalogue, LogCutOff, LogError, Published, Repository, compact_logs,
};
use lifeboat_store_postgres::{STORE, SnapshotFacts, lineage};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What compaction did, over all lineages of some datasets.
#[derive(Debug, Default)]
pub struct Compacted {
    /// Objects that were written.
    pub written: u64,
    /// Objects that they replace.
    pub replaced: u64,
    /// Stretches that were left as they are, and why.
    pub refused: Vec<(DatasetName, Lineage, LogError)>,
}

/// Puts small log objects together: a second's commits are an object of their own, and a year has many.
///
/// # Errors
/// Where this machine may not maintain the repository, or storing failed.
pub fn compact(repository: &Arc<Repository>, datasets: &BTreeSet<DatasetName>) -> Result<Compacted> {
    let signer = repository.writer()?;
    let mut done = Compacted::default();
    for dataset in datasets {
        for log in LogCatalogue::read(repository, dataset)?.lineages() {
            let options = CompactOptions::default();
            let report = compact_logs(repository, &signer, dataset, &log.lineage, options)
                .map_err(lifeboat_store_postgres::PostgresStoreError::from)?;
            done.written += report.written;
            done.replaced += report.replaced;
            let named = |error| (dataset.clone(), log.lineage.clone(), error);
            done.refused.extend(report.refused.into_iter().map(named));
        }
    }
    Ok(done)
}

/// Up to where the logs of some datasets have expired, given the snapshots that stay.
///
/// # Errors
/// Where the logs cannot be listed.
pub fn cut_offs(
    repository: &Arc<Repository>,
    datasets: &BTreeSet<DatasetName>,
    kept: &[Published],
) -> Result<Vec<LogCutOff>> {
    let mut cut_offs = Vec::new();
    for dataset in datasets {
        let of_dataset = kept.iter().filter(|published| published.snapshot.position.dataset == *dataset);
        let clusters = of_dataset.filter(|published| published.snapshot.store == STORE);
        // One that does not say what it needs may need everything.
        let Some(kept) = clusters.map(Kept::of).collect::<Option<Vec<Kept>>>() else { continue };
        for log in LogCatalogue::read(repository, dataset)?.lineages() {
            let Some((system, timeline)) = lineage::parse(log.lineage.as_str()) else { continue };
            let last = log.stretches.iter().map(|stretch| stretch.last).max();
            if let Some(before) = cut_off(&kept, system, timeline, last) {
                cut_offs.push(LogCutOff { dataset: dataset.clone(), lineage: log.lineage, before });
            }
        }
    }
    Ok(cut_offs)
}

/// A snapshot that stays.
struct Kept {
    taken: Timestamp,
    system: SystemId,
    timeline: TimelineId,
    first_needed: u64,
}

impl Kept {
    fn of(published: &Published) -> Option<Self> {
        let facts = SnapshotFacts::read(&published.snapshot.facts).ok()?;
        Some(Self {
            taken: published.snapshot.taken,
            system: facts.system,
            timeline: facts.timeline,
            first_needed: facts.first_needed().0,
        })
    }
}

/// The first position of a timeline's log that must stay; `None` where all of it must.
fn cut_off(kept: &[Kept], system: SystemId, timeline: TimelineId, last: Option<Timestamp>) -> Option<u64> {
    let leads_here = |one: &&Kept| one.system == system && one.timeline <= timeline;
    let leading: Vec<&Kept> = kept.iter().filter(leads_here).collect();
    if leading.iter().any(|one| one.timeline < timeline) {
        // It is reached from its ancestor, and so from its beginning.
        return None;
    }
    if let Some(first) = leading.iter().map(|one| one.first_needed).min() {
        return Some(first);
    }
    // Nothing leads to it. Where everything that stays is younger than all of it, nothing ever will again; else it
    // may have only begun, with its snapshot on the way.
    let oldest = kept.iter().map(|one| one.taken).min()?;
    last.is_some_and(|last| last < oldest).then_some(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(system: u64, timeline: u32, first_needed: u64, taken: i64) -> Kept {
        let (system, timeline) = (SystemId(system), TimelineId(timeline));
        Kept { taken: Timestamp::from_nanos(taken), system, timeline, first_needed }
    }

    fn before(kept: &[Kept], timeline: u32, last: i64) -> Option<u64> {
        cut_off(kept, SystemId(7), TimelineId(timeline), Some(Timestamp::from_nanos(last)))
    }

    #[test]
    fn the_log_stays_from_the_oldest_snapshot_on() {
        let all = [kept(7, 1, 300, 30), kept(7, 1, 100, 10), kept(8, 1, 5, 1)];
        assert_eq!(before(&all, 1, 99), Some(100));
    }

    #[test]
    fn a_timeline_that_is_reached_from_its_ancestor_stays_whole() {
        assert_eq!(before(&[kept(7, 1, 100, 10), kept(7, 2, 300, 30)], 2, 99), None);
        assert_eq!(before(&[kept(7, 2, 300, 30)], 2, 99), Some(300));
    }

    #[test]
    fn what_nothing_leads_to_goes_once_all_that_stays_is_younger() {
        let all = [kept(7, 2, 300, 30), kept(7, 2, 500, 50)];
        assert_eq!(before(&all, 1, 29), Some(u64::MAX), "an ancestor whose snapshots are gone");
        assert_eq!(before(&all, 1, 30), None);
        assert_eq!(before(&[kept(8, 1, 300, 30)], 1, 29), Some(u64::MAX), "a cluster that was replaced");
        assert_eq!(before(&[], 1, 29), None, "a log that waits for its first snapshot");
    }
}
