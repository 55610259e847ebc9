//! Logs as time goes by: many small objects become few, and what no kept point needs any more may go.

mod needed;
#[cfg(test)]
mod year;

use crate::error::Result;
use lifeboat_base::clock::Timestamp;
use lifeboat_postgres_wal::SystemId;
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{
    CompactOptions, LOG_POSITION_FACT, Lineage, LineageLog, LogCatalogue, LogCutOff, LogError, Published,
    Repository, compact_logs,
};
use lifeboat_store_postgres::{PostgresStoreError, STORE, SnapshotFacts, histories, lineage};
use needed::{Base, Branch, Branches, Stays};
use std::collections::{BTreeMap, BTreeSet};
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
                .map_err(PostgresStoreError::from)?;
            done.written += report.written;
            done.replaced += report.replaced;
            let named = |error| (dataset.clone(), log.lineage.clone(), error);
            done.refused.extend(report.refused.into_iter().map(named));
        }
    }
    Ok(done)
}

/// A snapshot, and the instant by which retention judges its age ([`Repository::retention_time`]).
pub type Aged<'p> = (&'p Published, Timestamp);

/// What of a dataset's logs has expired, given the snapshots that stay. With the beginning of a window that is all that
/// neither a point of the window nor one of these snapshots needs; without, what lies before the oldest of them. Of a
/// log that is no cluster's it is always that, by the positions that the snapshots of its lineage name.
///
/// # Errors
/// Where the logs cannot be listed, or with a window the histories of timelines not be read.
pub fn cut_offs(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    kept: &[Aged<'_>],
    window: Option<Timestamp>,
) -> Result<Vec<LogCutOff>> {
    // One that does not say what it needs may need everything.
    let bases = kept.iter().copied().filter(is_of_cluster).map(base).collect::<Option<Vec<Base>>>();
    let Some(bases) = bases else { return Ok(Vec::new()) };
    let logs = LogCatalogue::read(repository, dataset)?.lineages();
    let branches = branches(repository, dataset, &logs, window.is_some())?;
    let stays = logs.into_iter().filter_map(|log| {
        let stays = match (branch(&log), window) {
            (Some(branch), Some(start)) => needed::with_window(&bases, &branches, start, &branch),
            (Some(branch), None) => needed::without_window(&bases, &branch),
            (None, _) => from_oldest(kept, &log.lineage),
        };
        Some((log.lineage, stays?))
    });
    let cut_off = |(lineage, Stays { from, ranges })| LogCutOff {
        dataset: dataset.clone(),
        lineage,
        before: from,
        stays: ranges,
    };
    Ok(stays.map(cut_off).collect())
}

/// The snapshots that the log of a window starts from: the newest one before it, and where timelines have parted the
/// newest one that leads to each of those that a point of the window lies on. Gives their places among `snapshots`.
///
/// # Errors
/// Where the logs cannot be listed, or the histories of timelines not be read.
pub fn anchors(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    snapshots: &[Aged<'_>],
    window: Timestamp,
) -> Result<BTreeSet<usize>> {
    let of_cluster = snapshots.iter().copied().enumerate().filter(|(_, aged)| is_of_cluster(aged));
    let (places, bases): (Vec<usize>, Vec<Base>) =
        of_cluster.filter_map(|(place, aged)| Some((place, base(aged)?))).unzip();
    if bases.is_empty() {
        return Ok(BTreeSet::new());
    }
    let logs = LogCatalogue::read(repository, dataset)?.lineages();
    let branches = branches(repository, dataset, &logs, true)?;
    Ok(needed::anchors(&bases, &branches, window).into_iter().map(|n| places[n]).collect())
}

/// Everything from the oldest snapshot on, of a log whose positions mean nothing here.
fn from_oldest(kept: &[Aged<'_>], lineage: &Lineage) -> Option<Stays> {
    let snapshots = kept.iter().map(|(published, _)| &published.snapshot);
    let of_it = snapshots.filter(|snapshot| snapshot.lineage.as_deref() == Some(lineage.as_str()));
    let positions = of_it.map(|snapshot| snapshot.facts.get(LOG_POSITION_FACT)?.parse().ok());
    let from = positions.collect::<Option<Vec<u64>>>()?.into_iter().min()?;
    Some(Stays { from, ranges: Vec::new() })
}

fn is_of_cluster((published, _): &Aged<'_>) -> bool {
    published.snapshot.store == STORE
}

fn base((published, taken): Aged<'_>) -> Option<Base> {
    let facts = SnapshotFacts::read(&published.snapshot.facts).ok()?;
    let (system, timeline) = (facts.system, facts.timeline);
    Some(Base { taken, system, timeline, first_needed: facts.first_needed().0, stop: facts.stop.0 })
}

fn branch(log: &LineageLog) -> Option<Branch> {
    let (system, timeline) = lineage::parse(log.lineage.as_str())?;
    let last = log.stretches.iter().map(|stretch| stretch.last).max()?;
    Some(Branch { system, timeline, last })
}

fn branches(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    logs: &[LineageLog],
    with_histories: bool,
) -> Result<Branches> {
    let all: Vec<Branch> = logs.iter().filter_map(branch).collect();
    let systems: BTreeSet<SystemId> =
        all.iter().map(|branch| branch.system).filter(|_| with_histories).collect();
    let mut of_systems = BTreeMap::new();
    for system in systems {
        let kept = histories(repository, dataset, system).map_err(PostgresStoreError::from)?;
        of_systems
            .insert(system, kept.into_iter().map(|(timeline, kept)| (timeline, kept.history)).collect());
    }
    Ok(Branches { all, histories: of_systems })
}
