//! Copying by rules: which snapshots of an origin a copy is to have that keeps by rules of its own.
//!
//! Those that its rules keep, of all that it has and all that it could get now: what they would give up at once is not
//! carried there to be given up. What it had once and gave up is no candidate, so that it does not stand in for what
//! could still come. A snapshot of a write-only host is judged as if it arrived now, since in the copy it does.
//!
//! This module copies nothing itself, and knows no plan: who asks says what the rules of a dataset are.

use crate::error::Result;
use crate::upkeep::{Judged, by_rules};
use lifeboat_base::clock::Timestamp;
use lifeboat_plan::Retain;
use lifeboat_repository::ids::{BodyHash, DatasetName};
use lifeboat_repository::{Held, Published, Repository};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// A copy, as far as it matters for what it is to have.
pub struct CopyRules<'a> {
    /// The copy.
    pub target: &'a Arc<Repository>,
    /// What it holds.
    pub held: &'a Held,
    /// Its rules of a dataset; without any it is to have everything of it.
    pub retain_of: &'a dyn Fn(&DatasetName) -> Option<Retain>,
    /// The instant at which ages are judged.
    pub now: Timestamp,
}

impl std::fmt::Debug for CopyRules<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyRules").field("now", &self.now).finish_non_exhaustive()
    }
}

/// Of an origin's snapshots those that a copy has or had, and those that it should get, in their order.
///
/// # Errors
/// Where the ages of what it holds, or the logs of the origin, cannot be read.
pub fn worth_copying(
    origin: &Arc<Repository>,
    snapshots: Vec<Published>,
    rules: &CopyRules<'_>,
) -> Result<Vec<Published>> {
    let mut new: BTreeMap<DatasetName, Vec<Published>> = BTreeMap::new();
    for published in snapshots.iter().filter(|published| !rules.held.has_had(&published.id)) {
        new.entry(published.snapshot.position.dataset.clone()).or_default().push(published.clone());
    }
    let mut unworthy = HashSet::new();
    for (dataset, new) in new {
        if let Some(retain) = (rules.retain_of)(&dataset) {
            unworthy.extend(given_up_at_once(origin, &dataset, new, &retain, rules)?);
        }
    }
    Ok(snapshots.into_iter().filter(|published| !unworthy.contains(&published.id)).collect())
}

/// Of what is new those that the rules do not keep, beside what the copy holds.
fn given_up_at_once(
    origin: &Arc<Repository>,
    dataset: &DatasetName,
    new: Vec<Published>,
    retain: &Retain,
    rules: &CopyRules<'_>,
) -> Result<Vec<BodyHash>> {
    let mut judged = Vec::new();
    for published in rules.held.kept().iter().filter(|one| one.snapshot.position.dataset == *dataset) {
        let time = rules.target.retention_time(published)?;
        judged.push(Judged { published: published.clone(), time, reasons: Vec::new() });
    }
    let there = judged.len();
    judged.extend(new.into_iter().map(|published| {
        let time = if origin.is_write_only(&published) { rules.now } else { published.snapshot.taken };
        Judged { published, time, reasons: Vec::new() }
    }));
    by_rules(origin, dataset, &mut judged, retain, rules.now)?;
    let going = judged.into_iter().skip(there).filter(|one| one.reasons.is_empty());
    Ok(going.map(|one| one.published.id).collect())
}
