//! Retention: what the plan gives up is forgotten, and its space freed; in the repository and in each copy, by the
//! leader. A copy has rules of its own where the plan says so.

use crate::house::House;
use crate::jobs::Done;
use crate::means::Trouble;
use crate::record::JobOutcome;
use crate::ship::CONTROLLER;
use lifeboat_objects::ObjectErrorKind;
use lifeboat_plan::{CopyPlan, Retain};
use lifeboat_recovery::RecoveryError;
use lifeboat_recovery::upkeep::{self, UpkeepOptions};
use lifeboat_repository::RepositoryError;
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

/// What is kept of a dataset: in the repository, or in a copy.
pub(crate) fn retention_of(house: &House, copy: Option<&CopyPlan>, dataset: &DatasetName) -> Option<Retain> {
    if dataset.as_str().starts_with(CONTROLLER) {
        return Some(OF_RECORDS);
    }
    let of_repository = || house.plan.datasets.get(dataset.as_str()).and_then(|planned| planned.retain);
    copy.and_then(|copy| copy.retain).or_else(of_repository)
}

/// Forgets and prunes, in a copy where one is named.
pub(crate) fn prune(house: &House, copy: &str) -> Result<Done, Trouble> {
    if copy.is_empty() {
        let repository = house.repository()?;
        return upkeep_of(house, None, &repository).map_err(|error| Trouble::of(&error));
    }
    let (target, planned) = (house.copy(copy)?, house.planned_copy(copy));
    match upkeep_of(house, planned, &target) {
        Err(error) if gives_nothing_up(&error) => refused(copy, planned, &error),
        done => done.map_err(|error| Trouble::of(&error)),
    }
}

fn upkeep_of(
    house: &House,
    copy: Option<&CopyPlan>,
    repository: &std::sync::Arc<lifeboat_repository::Repository>,
) -> Result<Done, RecoveryError> {
    let retain_of = |dataset: &DatasetName| retention_of(house, copy, dataset);
    let options = UpkeepOptions {
        retain_of: &retain_of,
        only: None,
        dry_run: false,
        max_unused_percent: MAX_UNUSED_PERCENT,
        wait: WAIT,
        now: house.clock.now(),
    };
    let done = upkeep::prune(repository, &options)?;
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

/// Whether a copy takes what it is given and does not let this host delete.
fn gives_nothing_up(error: &RecoveryError) -> bool {
    match error {
        RecoveryError::Repository(RepositoryError::NotPermitted { .. }) => true,
        RecoveryError::Repository(RepositoryError::Store(error)) => {
            matches!(error.kind, ObjectErrorKind::Denied | ObjectErrorKind::ReadOnly)
        }
        _ => false,
    }
}

/// A copy that gives nothing up is a fine thing, unless the plan says what it is to give up.
fn refused(name: &str, planned: Option<&CopyPlan>, error: &RecoveryError) -> Result<Done, Trouble> {
    let error = lifeboat_base::report(error);
    let message = format!("{name} gives nothing up: this host may not delete there: {error}");
    if planned.is_some_and(|planned| planned.retain.is_some()) {
        let hint = "Let this host delete there and enrol it as a maintainer, or leave `retain` out of the copy's plan: \
                    what it keeps grows then, and a stolen key cannot empty it.";
        return Err(Trouble::new(message, hint));
    }
    let detail = json!({ "gives_nothing_up": true, "reasons": [message] });
    Ok(Done { outcome: JobOutcome::LeftOut, detail })
}
