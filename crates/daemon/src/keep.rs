//! Retention: what the plan gives up is forgotten, and its space freed; in the repository by the leader.

use crate::house::House;
use crate::jobs::Done;
use crate::means::Trouble;
use crate::record::JobOutcome;
use crate::ship::CONTROLLER;
use lifeboat_plan::Retain;
use lifeboat_recovery::upkeep::{self, UpkeepOptions};
use lifeboat_repository::ids::DatasetName;
use serde_json::json;
use std::time::Duration;

/// A prune that has to wait longer for others is finished by the next one.
const WAIT: Duration = Duration::from_mins(10);
/// So much waste may stay, in percent of what is needed.
const MAX_UNUSED_PERCENT: u64 = 10;

/// Of the controllers' own records: they are whole in every snapshot.
const OF_RECORDS: Retain = Retain {
    hourly: 0,
    daily: 7,
    weekly: 0,
    monthly: 0,
    yearly: 0,
    days: 0,
    versions: 2,
    at_least: None,
    window: None,
};

fn retention_of(house: &House, dataset: &DatasetName) -> Option<Retain> {
    if dataset.as_str().starts_with(CONTROLLER) {
        return Some(OF_RECORDS);
    }
    house.plan.datasets.get(dataset.as_str()).and_then(|planned| planned.retain)
}

/// Forgets and prunes.
pub(crate) fn prune(house: &House) -> Result<Done, Trouble> {
    let repository = house.repository()?;
    let retain_of = |dataset: &DatasetName| retention_of(house, dataset);
    let options = UpkeepOptions {
        retain_of: &retain_of,
        only: None,
        dry_run: false,
        max_unused_percent: MAX_UNUSED_PERCENT,
        wait: WAIT,
        now: house.clock.now(),
    };
    let done = upkeep::prune(&repository, &options).map_err(|error| Trouble::of(&error))?;
    let waiting = &done.report.waiting_for;
    let outcome = if waiting.is_empty() { JobOutcome::Done } else { JobOutcome::LeftOut };
    let detail = json!({
        "forgotten": done.forgotten.len(),
        "kept": done.kept.len(),
        "deleted_bytes": done.report.deleted_bytes,
        "deleted_logs": done.report.deleted_logs,
        "waiting_for": waiting,
    });
    Ok(Done { outcome, detail })
}
