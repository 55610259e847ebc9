//! What of a dataset can be restored to, from the objects that are really there.

use crate::error::{RecoveryError, Result};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{LogCatalogue, Repository};
use lifeboat_store_postgres::points::{RecoveryPoints, SnapshotPoint, recovery_points};
use lifeboat_store_postgres::{PostgresStoreError, STORE, SnapshotFacts, histories, lineage};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What can be restored to, and every hole; `None` where the dataset is no cluster.
///
/// # Errors
/// Where snapshots or logs cannot be listed, or the histories of timelines not be read.
pub fn cluster_points(repository: &Arc<Repository>, dataset: &DatasetName) -> Result<Option<RecoveryPoints>> {
    let snapshots: Vec<SnapshotPoint> = repository
        .snapshots(Some(dataset), &mut Vec::new())?
        .into_iter()
        .filter(|published| published.snapshot.store == STORE)
        .filter_map(|published| {
            let facts = SnapshotFacts::read(&published.snapshot.facts).ok()?;
            Some(SnapshotPoint { id: published.id.short(), taken: published.snapshot.taken, facts })
        })
        .collect();
    let logs = LogCatalogue::read(repository, dataset)?.lineages();
    let of_logs = logs.iter().filter_map(|log| Some(lineage::parse(log.lineage.as_str())?.0));
    let mut systems: Vec<_> = of_logs.chain(snapshots.iter().map(|s| s.facts.system)).collect();
    systems.sort_unstable();
    systems.dedup();
    if systems.is_empty() {
        return Ok(None);
    }
    let mut of_all = BTreeMap::new();
    for system in systems {
        let kept = histories(repository, dataset, system)
            .map_err(|error| RecoveryError::from(PostgresStoreError::from(error)))?;
        let parsed = kept.into_iter().map(|(timeline, kept)| (timeline, kept.history)).collect();
        of_all.insert(system, parsed);
    }
    Ok(Some(recovery_points(&snapshots, &logs, &of_all)))
}
