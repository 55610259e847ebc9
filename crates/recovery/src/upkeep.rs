//! Upkeep: what no rule of retention keeps is forgotten, small log objects are put together, log that no kept point
//! needs expires, and the space of all that comes back.
//!
//! Who asks says what the rules of a dataset are; where there are none nothing is forgotten. What is held stays. It
//! deliberately knows no plan, no schedule and no command line.

use crate::error::Result;
use crate::logs::{Aged, Compacted, anchors, compact, cut_offs};
use crate::retention::{Reasons, WINDOW, decide, window_start};
use lifeboat_base::clock::Timestamp;
use lifeboat_plan::Retain;
use lifeboat_repository::ids::{DatasetName, Position};
use lifeboat_repository::{LogCutOff, PruneOptions, PruneReport, Published, Repository, prune_with};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a snapshot of a write-only host is kept that no other rule keeps.
pub const WRITE_ONLY: &str = "write-only";

/// What to keep, and how to prune.
#[derive(Clone)]
pub struct UpkeepOptions<'a> {
    /// The rules of a dataset; without any nothing of it is forgotten.
    pub retain_of: &'a dyn Fn(&DatasetName) -> Option<Retain>,
    /// Forget and let expire in this dataset alone; space comes back from all of them.
    pub only: Option<DatasetName>,
    /// Only say what would be forgotten and freed.
    pub dry_run: bool,
    /// How much waste may stay, in percent of what is needed.
    pub max_unused_percent: u64,
    /// How long to wait for leases in all before the rest is left to the next prune.
    pub wait: Duration,
    /// The instant at which ages are judged.
    pub now: Timestamp,
}

impl fmt::Debug for UpkeepOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { retain_of: _, only, dry_run, max_unused_percent, wait, now } = self;
        let mut options = f.debug_struct("UpkeepOptions");
        options.field("only", only).field("dry_run", dry_run).field("max_unused_percent", max_unused_percent);
        options.field("wait", wait).field("now", now).finish_non_exhaustive()
    }
}

/// What was done.
#[derive(Debug)]
pub struct Upkeep {
    /// Snapshots that were forgotten, or would be.
    pub forgotten: Vec<Published>,
    /// Snapshots that stay.
    pub kept: Vec<Published>,
    /// What was put together of the logs.
    pub compacted: Compacted,
    /// What prune did, or would.
    pub report: PruneReport,
}

/// A snapshot, and why it stays; no reason: it goes.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The snapshot.
    pub published: Published,
    /// The instant by which its age is judged.
    pub time: Timestamp,
    /// The rules that keep it; `"held"` where it is held, `"no rule"` where its dataset has none.
    pub reasons: Reasons,
}

/// Forgets by retention, compacts logs, lets them expire and prunes.
///
/// # Errors
/// Where this machine may not maintain the repository, or what is there cannot be read: then nothing is forgotten.
pub fn prune(repository: &Arc<Repository>, options: &UpkeepOptions<'_>) -> Result<Upkeep> {
    let judged = judge(repository, options)?;
    let going = judged.values().flatten().filter(|one| one.reasons.is_empty());
    let forgotten: Vec<Published> = going.map(|one| one.published.clone()).collect();
    if !options.dry_run {
        forget(repository, &forgotten)?;
    }
    // What is put together now leaves the small objects to this very prune.
    let datasets: BTreeSet<DatasetName> = judged.keys().cloned().collect();
    let compacted = if options.dry_run { Compacted::default() } else { compact(repository, &datasets)? };
    let cut_offs = expired_logs(repository, options, &judged)?;
    let prune_options = PruneOptions {
        max_unused_percent: options.max_unused_percent,
        wait: options.wait,
        dry_run: options.dry_run.then(|| forgotten.iter().map(|published| published.slot.clone()).collect()),
    };
    let report = prune_with(repository, prune_options, &cut_offs)?;
    let staying = judged.into_values().flatten().filter(|one| !one.reasons.is_empty());
    let kept = staying.map(|one| one.published).collect();
    Ok(Upkeep { forgotten, kept, compacted, report })
}

/// Says of each snapshot why it stays, dataset by dataset, oldest first.
///
/// # Errors
/// Where what is there cannot be read: nobody knows then what may go.
pub fn judge(
    repository: &Arc<Repository>,
    options: &UpkeepOptions<'_>,
) -> Result<BTreeMap<DatasetName, Vec<Judged>>> {
    let mut unreadable = Vec::new();
    let snapshots = repository.snapshots(options.only.as_ref(), &mut unreadable)?;
    if let Some(unreadable) = unreadable.pop() {
        return Err(unreadable.error.into());
    }
    let held: BTreeSet<Position> = repository.holds()?.into_iter().map(|hold| hold.position).collect();
    let mut datasets: BTreeMap<DatasetName, Vec<Judged>> = BTreeMap::new();
    for published in snapshots {
        let dataset = published.snapshot.position.dataset.clone();
        let reasons = if held.contains(&published.slot) { vec!["held"] } else { Vec::new() };
        let time = repository.retention_time(&published)?;
        datasets.entry(dataset).or_default().push(Judged { published, time, reasons });
    }
    for (dataset, snapshots) in &mut datasets {
        match (options.retain_of)(dataset) {
            Some(retain) => by_rules(repository, dataset, snapshots, &retain, options.now)?,
            None => snapshots.iter_mut().for_each(|one| one.reasons.push("no rule")),
        }
    }
    Ok(datasets)
}

/// Adds to each snapshot of a dataset the rules that keep it.
pub(crate) fn by_rules(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    snapshots: &mut [Judged],
    retain: &Retain,
    now: Timestamp,
) -> Result<()> {
    let times: Vec<Timestamp> = snapshots.iter().map(|one| one.time).collect();
    for (one, reasons) in snapshots.iter_mut().zip(decide(&times, retain, now)) {
        one.reasons.extend(reasons);
    }
    if let Some(start) = window_start(retain, now) {
        let aged: Vec<Aged<'_>> = snapshots.iter().map(|one| (&one.published, one.time)).collect();
        for place in anchors(repository, dataset, &aged, start)? {
            add(&mut snapshots[place].reasons, WINDOW);
        }
    }
    // Whoever holds such a host's key can publish as much as he likes: that must not push out what was there.
    let reach = retain.window.unwrap_or_else(|| retain.reach()).duration();
    for one in snapshots.iter_mut().filter(|one| repository.is_write_only(&one.published)) {
        if one.time > now.minus(reach) {
            add(&mut one.reasons, WRITE_ONLY);
        }
    }
    Ok(())
}

fn add(reasons: &mut Reasons, reason: &'static str) {
    if !reasons.contains(&reason) {
        reasons.push(reason);
    }
}

fn forget(repository: &Repository, going: &[Published]) -> Result<()> {
    if going.is_empty() {
        return Ok(());
    }
    let signer = repository.writer()?;
    for published in going {
        repository.forget(&signer, published, "retention")?;
    }
    Ok(())
}

fn expired_logs(
    repository: &Arc<Repository>,
    options: &UpkeepOptions<'_>,
    judged: &BTreeMap<DatasetName, Vec<Judged>>,
) -> Result<Vec<LogCutOff>> {
    let mut expired = Vec::new();
    for (dataset, snapshots) in judged {
        let staying = snapshots.iter().filter(|one| !one.reasons.is_empty());
        let kept: Vec<Aged<'_>> = staying.map(|one| (&one.published, one.time)).collect();
        let retain = (options.retain_of)(dataset);
        let window = retain.and_then(|retain| window_start(&retain, options.now));
        expired.extend(cut_offs(repository, dataset, &kept, window)?);
    }
    Ok(expired)
}
