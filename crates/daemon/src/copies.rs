//! Copies: brought up to date, kept by their own retention, and looked at.

use crate::house::House;
use crate::jobs::Done;
use crate::keep::retention_of;
use crate::live::PlaceSeen;
use crate::means::Trouble;
use crate::record::JobOutcome;
use lifeboat_base::clock::Timestamp;
use lifeboat_recovery::copying::{CopyRules, worth_copying};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{
    Held, LogCatalogue, Published, ReaderPin, Repository, RepositoryError, copy_beside,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

fn trouble(error: RepositoryError) -> Trouble {
    Trouble::of(&error)
}

/// Copies what the copy does not have yet, and would not give up at once by its own rules.
pub(crate) fn bring_up_to_date(house: &House, name: &str) -> Result<Done, Trouble> {
    let (origin, target) = (house.repository()?, house.copy(name)?);
    let through = durable_through(house);
    let mut unreadable = Vec::new();
    let snapshots = origin.snapshots(None, &mut unreadable).map_err(trouble)?;
    let held = Held::of(&target).map_err(trouble)?;
    let all = snapshots.len();
    let snapshots = worthy(house, name, (&origin, &target), snapshots, &held)?;
    let slots: Vec<_> = snapshots.iter().map(|published| published.slot.clone()).collect();
    // Who may only read the origin copies without a pin.
    let _pin = origin.writer().and_then(|signer| ReaderPin::take(&origin, &signer, &slots, "copy")).ok();
    let report = copy_beside(&origin, &target, &snapshots, held).map_err(trouble)?;
    let left_out: Vec<String> =
        unreadable.iter().map(|one| one.object.clone()).chain(report.left_out).collect();
    let outcome = if left_out.is_empty() { JobOutcome::Done } else { JobOutcome::LeftOut };
    let detail = json!({
        "copied": report.copied.len(),
        "already": report.already,
        "not_kept_there": all - snapshots.len(),
        "stored_bytes": report.stored_bytes,
        "logs": report.logs,
        "log_bytes": report.log_bytes,
        "left_out": left_out,
    });
    if outcome == JobOutcome::Done {
        house.live.change(|seen| seen.copies.entry(name.to_owned()).or_default().caught_up = through);
    }
    look(house, name);
    Ok(Done { outcome, detail })
}

/// Of the origin's snapshots those that the copy has, had or should get.
fn worthy(
    house: &House,
    name: &str,
    (origin, target): (&Arc<Repository>, &Arc<Repository>),
    snapshots: Vec<Published>,
    held: &Held,
) -> Result<Vec<Published>, Trouble> {
    let planned = house.planned_copy(name);
    let retain_of = |dataset: &DatasetName| retention_of(house, planned, dataset);
    let rules = CopyRules { target, held, retain_of: &retain_of, now: house.clock.now() };
    worth_copying(origin, snapshots, &rules).map_err(|error| Trouble::of(&error))
}

/// Up to when everything of the datasets that are followed here is durable in the repository.
fn durable_through(house: &House) -> BTreeMap<String, Timestamp> {
    let streams = house.live.seen().datasets.into_iter();
    streams.filter_map(|(name, dataset)| Some((name, dataset.stream?.durable_through?))).collect()
}

/// Looks at what a copy holds, and whether it answers at all.
pub(crate) fn look(house: &House, name: &str) {
    let held = house.copy(name).and_then(|copy| held(&copy, house.newest(Some(name))?).map_err(trouble));
    let now = house.clock.now();
    house.live.change(|seen| {
        let place = seen.copies.entry(name.to_owned()).or_default();
        note(place, now, held);
    });
}

/// What came of asking a place.
pub(crate) fn note(
    place: &mut PlaceSeen,
    now: Timestamp,
    held: Result<BTreeMap<String, Timestamp>, Trouble>,
) {
    place.asked = Some(now);
    match held {
        Ok(mut held) => {
            for (dataset, until) in &mut held {
                *until = (*until).max(place.caught_up.get(dataset).copied().unwrap_or(*until));
            }
            place.answered = Some(now);
            place.failure = None;
            place.holds = held;
        }
        Err(trouble) => place.failure = Some(trouble.message),
    }
}

/// By dataset, up to when it can be restored: the newest snapshot, or the end of the log behind one.
fn held(
    repository: &Arc<Repository>,
    newest: BTreeMap<DatasetName, Published>,
) -> Result<BTreeMap<String, Timestamp>, RepositoryError> {
    let mut held = BTreeMap::new();
    for (dataset, newest) in newest {
        held.insert(dataset.to_string(), reaches(repository, &dataset, &newest)?);
    }
    Ok(held)
}

/// Up to when a dataset can be restored from its newest snapshot, and the log behind it.
pub(crate) fn reaches(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    newest: &Published,
) -> Result<Timestamp, RepositoryError> {
    let (log, taken) = (log_until(repository, dataset, newest)?, newest.snapshot.taken);
    Ok(log.map_or(taken, |log| log.max(taken)))
}

/// The newest snapshot of each dataset.
pub(crate) fn newest(snapshots: Vec<Published>) -> BTreeMap<DatasetName, Published> {
    let mut newest: BTreeMap<DatasetName, Published> = BTreeMap::new();
    for published in snapshots {
        let dataset = published.snapshot.position.dataset.clone();
        let is_newer =
            newest.get(&dataset).is_none_or(|known| known.snapshot.taken <= published.snapshot.taken);
        if is_newer {
            newest.insert(dataset, published);
        }
    }
    newest
}

/// When the last log arrived that goes on from a snapshot without a hole.
fn log_until(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    newest: &Published,
) -> Result<Option<Timestamp>, RepositoryError> {
    if newest.snapshot.lineage.is_none() {
        return Ok(None);
    }
    let logs = LogCatalogue::read(repository, dataset)?.lineages();
    Ok(logs.iter().flat_map(|log| log.stretches.last()).map(|stretch| stretch.last).max())
}
