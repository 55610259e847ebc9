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
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{Repository, RepositoryError, Role};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A prune that has to wait longer for others is finished by the next one.
const WAIT: Duration = Duration::from_mins(10);
/// In a copy, which is not brought up to date meanwhile.
const WAIT_IN_COPY: Duration = Duration::from_mins(1);
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
    if let Some(role) = not_a_maintainer(&target).map_err(|error| Trouble::of(&error))? {
        return refused(copy, planned, &format!("its key is enrolled there as {role}"));
    }
    match upkeep_of(house, planned, &target) {
        Err(error) if gives_nothing_up(&error) => refused(copy, planned, &lifeboat_base::report(&error)),
        done => done.map_err(|error| Trouble::of(&error)),
    }
}

/// As what this host is enrolled there, where that is not as a maintainer.
fn not_a_maintainer(repository: &Repository) -> Result<Option<&'static str>, RepositoryError> {
    let id = repository.writer()?.id();
    let ours = repository.writers().into_iter().find(|writer| writer.public.id() == id);
    Ok(ours.and_then(|writer| match writer.role {
        Role::Write => Some("one that may write"),
        Role::WriteOnly => Some("one that may only write"),
        Role::Maintain => None,
    }))
}

fn upkeep_of(
    house: &House,
    copy: Option<&CopyPlan>,
    repository: &Arc<Repository>,
) -> Result<Done, RecoveryError> {
    let retain_of = |dataset: &DatasetName| retention_of(house, copy, dataset);
    let options = UpkeepOptions {
        retain_of: &retain_of,
        only: None,
        dry_run: false,
        max_unused_percent: MAX_UNUSED_PERCENT,
        wait: if copy.is_some() { WAIT_IN_COPY } else { WAIT },
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

/// Whether the store of a copy takes what it is given and does not let this host delete.
fn gives_nothing_up(error: &RecoveryError) -> bool {
    let RecoveryError::Repository(RepositoryError::Store(error)) = error else { return false };
    matches!(error.kind, ObjectErrorKind::Denied | ObjectErrorKind::ReadOnly)
}

/// A copy that gives nothing up is a fine thing, unless the plan says what it is to give up.
fn refused(name: &str, planned: Option<&CopyPlan>, why: &str) -> Result<Done, Trouble> {
    let message = format!("{name} gives nothing up: this host may not delete there: {why}");
    if planned.is_some_and(|planned| planned.retain.is_some()) {
        let hint = "Let this host delete there and enrol it as a maintainer, or leave `retain` out of the copy's plan: \
                    what it keeps grows then, and a stolen key cannot empty it.";
        return Err(Trouble::new(message, hint));
    }
    let detail = json!({ "gives_nothing_up": true, "reasons": [message] });
    Ok(Done { outcome: JobOutcome::LeftOut, detail })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_objects::ObjectError;
    use lifeboat_plan::Plan;

    fn store(kind: ObjectErrorKind) -> RecoveryError {
        let (operation, subject) = ("delete", "packs/00/1".to_owned());
        let error =
            ObjectError { kind, operation, subject, location: "s3://away".to_owned(), source: "403".into() };
        RecoveryError::from(RepositoryError::from(error))
    }

    #[test]
    fn a_copy_that_gives_nothing_up_fails_the_plan_only_where_that_says_what_it_gives_up() {
        let denied = store(ObjectErrorKind::Denied);
        assert!(gives_nothing_up(&denied) && gives_nothing_up(&store(ObjectErrorKind::ReadOnly)));
        assert!(!gives_nothing_up(&store(ObjectErrorKind::Transient)), "it may in a moment");
        let plan =
            |retain: &str| Plan::parse(&format!("[[copies]]\nurl = \"s3://away\"\n{retain}"), "p").unwrap();
        let of = |plan: Plan| refused("away", plan.copies.first(), &lifeboat_base::report(&denied));
        let done = of(plan("")).unwrap();
        assert_eq!(done.outcome, JobOutcome::LeftOut);
        assert!(
            done.detail["reasons"][0].as_str().unwrap().contains("delete packs/00/1 at s3://away"),
            "{done:?}"
        );
        let trouble = of(plan("retain = { daily = 7 }")).unwrap_err();
        assert!(trouble.message.contains("gives nothing up") && trouble.hint.unwrap().contains("maintainer"));
    }
}
