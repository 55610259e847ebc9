//! The check of the repository: each one reads what it says of itself and, bit by bit, so much of the rest that everything
//! is read within `check_within`. What was found damaged is read again each time, until it is sound or gone: a check that
//! reads another part must not say that all is well.
//!
//! How much is due, `reading` says; what is damage, the repository.

use crate::house::House;
use crate::jobs::Done;
use crate::means::Trouble;
use crate::reading::Readings;
use crate::record::{JobOutcome, What};
use crate::state::{damaged_in, read_in};
use crate::task::{TaskKey, TaskKind, check_every, check_within};
use lifeboat_base::clock::Timestamp;
use lifeboat_repository::{CheckOptions, CheckReport, Reading, Share, check as check_repository};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// So many problems are said by a job; all of them, by the command line.
const SAID: usize = 20;
/// So many damaged objects are read again by one check: each may have 16 MiB. The others wait, and are not forgotten.
const AGAIN: usize = 64;
/// So many damaged objects are remembered.
const REMEMBERED: usize = 10_000;

/// What is known from the checks before.
struct Known {
    /// When what was read; nothing before the first check.
    readings: Option<Readings>,
    damaged: Vec<String>,
}

impl Known {
    fn of(house: &House, repository: &str) -> Result<Self, Trouble> {
        let fact = |name: String| house.state.fact(&name).map_err(|error| Trouble::of(&error));
        let readings = fact(read_in(repository))?.and_then(|text| Readings::parse(&text));
        let damaged = fact(damaged_in(repository))?.and_then(|text| serde_json::from_str(&text).ok());
        Ok(Self { readings, damaged: damaged.unwrap_or_default() })
    }

    /// What is to be read now.
    fn due(&self, house: &House, now: Timestamp) -> Vec<Share> {
        let (within, every) = (check_within(&house.plan).duration(), check_every(&house.plan).duration());
        // After a failure the next check comes soon: not to read more, but to see whether it still fails.
        let newest = self.readings.as_ref().and_then(Readings::newest).filter(|newest| *newest <= now);
        if newest.is_some_and(|newest| now.since(newest) < every / 2) {
            return Vec::new();
        }
        let readings = self.readings.clone().unwrap_or_else(|| Readings::none_before(now));
        readings.due(now, within, every)
    }
}

/// Checks the repository, and reads what is due of it.
pub(crate) fn check(house: &House) -> Result<Done, Trouble> {
    let repository = house.repository()?;
    let (name, begun) = (repository.id().to_string(), house.clock.now());
    let known = Known::of(house, &name)?;
    let shares = known.due(house, begun);
    let again = known.damaged.len().min(AGAIN);
    let objects: BTreeSet<String> = known.damaged[..again].iter().cloned().collect();
    let read = Reading::Some { shares: shares.clone(), objects };
    let report = check_repository(&repository, CheckOptions { read, threads: 1 }, &|_, _| {})
        .map_err(|error| Trouble::of(&error))?;
    let damaged = still_damaged(&report, &known.damaged[again..]);
    let waiting = damaged.len();
    let what = What::Read {
        repository: name.clone(),
        begun,
        shares: shares.iter().map(|share| (share.first, share.last)).collect(),
        damaged,
    };
    house.state.keep(house.clock.now(), what).map_err(|error| Trouble::of(&error))?;
    let since = Known::of(house, &name)?.readings.and_then(|readings| readings.everything_since());
    Ok(done(house, &report, waiting, since))
}

/// The objects of bulk data that the report names, and those that were not looked at this time.
fn still_damaged(report: &CheckReport, not_looked_at: &[String]) -> Vec<String> {
    let is_bulk = |object: &&String| object.starts_with("packs/") || object.starts_with("logs/");
    let named = report.problems.iter().map(|problem| &problem.object).filter(is_bulk);
    let mut seen = BTreeSet::new();
    let all = not_looked_at.iter().chain(named).filter(|object| seen.insert(*object));
    all.take(REMEMBERED).cloned().collect()
}

fn done(house: &House, report: &CheckReport, damaged: usize, since: Option<Timestamp>) -> Done {
    let said = |problem: &lifeboat_repository::Problem| format!("{}: {}", problem.object, problem.what);
    let problems: Vec<String> = report.problems.iter().take(SAID).map(said).collect();
    let is_whole = report.is_whole() && damaged == 0;
    let mut detail = json!({
        "whole": is_whole,
        "snapshots": report.snapshots,
        "packs": report.packs,
        "logs": report.logs,
        "read_bytes": report.read_bytes,
        "everything_read_since": since.map(|at| at.to_string()),
    });
    if !is_whole {
        let lost = report.lost.iter().map(|lost| format!("{} {}", lost.snapshot, lost.path));
        detail["new"] = json!(!were_said_before(house, &problems));
        detail["problems"] = json!(problems);
        detail["problem_count"] = json!(report.problems.len());
        detail["damaged"] = json!(damaged);
        detail["lost"] = json!(lost.take(SAID).collect::<Vec<_>>());
        detail["lost_count"] = json!(report.lost.len() + report.lost_logs.len());
        detail["error"] = json!(in_short(report, damaged));
        detail["hint"] = json!(
            "`lifeboat check --read-data` reads everything and names what it costs; restore that from a copy, or \
             from another snapshot."
        );
    }
    let outcome = if is_whole { JobOutcome::Done } else { JobOutcome::Failed };
    Done { outcome, detail }
}

fn in_short(report: &CheckReport, damaged: usize) -> String {
    match report.problems.first() {
        Some(first) => {
            format!(
                "{} problems in the repository, among them {}: {}",
                report.problems.len(),
                first.object,
                first.what
            )
        }
        None => format!("{damaged} objects that were damaged were not looked at again yet"),
    }
}

/// Whether the check before this one found the same.
fn were_said_before(house: &House, problems: &[String]) -> bool {
    let key = TaskKey { kind: TaskKind::Check, subject: String::new() };
    // The newest one is this one itself.
    let Ok(jobs) = house.state.jobs(Some(&key), 2) else { return false };
    let before = jobs.iter().find(|job| job.ended.is_some());
    before.is_some_and(|job| job.detail["problems"] == Value::from(problems))
}
