//! What is known beyond what was just seen: how long restores took here, what proofs said in earlier runs, who
//! the writers are, and how long what is protected on change was known to be unchanged.

use crate::house::House;
use crate::live::{DatasetSeen, Seen, SnapshotSeen};
use crate::record::JobOutcome;
use crate::task::{TaskKey, TaskKind};
use lifeboat_base::clock::Timestamp;
use lifeboat_plan::{Mode, Schedule, Span};
use lifeboat_recovery::samples::{Forecast, Phases, Samples};
use lifeboat_repository::Repository;
use lifeboat_repository::ids::DatasetName;
use lifeboat_watch::forecast::{Activity, Takes};
use lifeboat_watch::observe::Verdict;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// What is known beyond what was just seen.
#[derive(Debug, Default)]
pub(super) struct Known {
    looked_up: LookedUp,
    unchanged: BTreeMap<String, Unchanged>,
    /// The longest time between two occurrences of a schedule: of a calendar, it takes a while to find.
    gaps: RefCell<HashMap<String, Span>>,
}

/// What the state and the disk say.
#[derive(Debug, Default)]
pub(super) struct LookedUp {
    /// By task: when it last ended well, and how long it took.
    good: BTreeMap<TaskKey, (Timestamp, Duration)>,
    /// By dataset: the newest verdict.
    verdicts: BTreeMap<String, (Verdict, Timestamp)>,
    /// By dataset: what restoring it consists of.
    restores: BTreeMap<String, Vec<Activity>>,
    /// By writer: its host.
    hosts: BTreeMap<String, String>,
}

/// Snapshots of a dataset that is protected on change, and through when each of them was known to be what the
/// dataset looked like.
#[derive(Debug)]
struct Unchanged {
    newest: (Timestamp, Timestamp),
    before: Option<(Timestamp, Timestamp)>,
}

impl Known {
    /// Asks the state and the disk. What cannot be read is not known.
    pub(super) fn look_up(house: &House, tasks: Vec<TaskKey>) -> LookedUp {
        let mut looked_up = LookedUp::default();
        for task in tasks {
            if let Ok(Some(job)) = house.state.last_good(&task)
                && let Some((ended, _)) = job.ended
            {
                looked_up.good.insert(task.clone(), (ended, ended.since(job.begun)));
            }
            if task.kind == TaskKind::Proof
                && let Some(verdict) = last_verdict(house, &task)
            {
                looked_up.verdicts.insert(task.subject, verdict);
            }
        }
        if let Some(repository) = house.open_repository() {
            looked_up.restores = restores(house, &repository);
            let writers = repository.writers();
            looked_up.hosts =
                writers.into_iter().map(|writer| (writer.public.id().to_string(), writer.name)).collect();
        }
        looked_up
    }

    pub(super) fn replace(&mut self, looked_up: LookedUp) {
        self.looked_up = looked_up;
    }

    /// Remembers how long what is protected on change was unchanged: of a copy that has not the newest snapshot yet,
    /// this says what it lacks.
    pub(super) fn hear(&mut self, house: &House, seen: &Seen, now: Timestamp) {
        for (name, dataset) in &seen.datasets {
            let mode = house
                .plan
                .datasets
                .get(name)
                .and_then(|plan| plan.protect.as_ref())
                .map(|protect| protect.mode);
            if let (Some(Mode::OnChange { .. }), Some(snapshot)) = (mode, &dataset.snapshot) {
                let through = dataset
                    .unchanged_at
                    .filter(|at| *at <= now)
                    .unwrap_or(snapshot.taken)
                    .max(snapshot.taken);
                hear_one(&mut self.unchanged, name, (snapshot.taken, through));
            }
        }
    }

    /// Through when a snapshot of a dataset was what the dataset looked like.
    pub(super) fn valid_through(&self, dataset: &str, taken: Timestamp) -> Timestamp {
        let all = self.unchanged.get(dataset).map(|known| [Some(known.newest), known.before]);
        let through = all.into_iter().flatten().flatten().find(|(its, _)| *its == taken);
        through.map_or(taken, |(_, through)| through)
    }

    /// The longest time between two occurrences of a schedule.
    pub(super) fn gap(&self, schedule: &Schedule) -> Span {
        let name = format!("{} {}", schedule.describe(), schedule.jitter);
        *self.gaps.borrow_mut().entry(name).or_insert_with(|| schedule.longest_gap())
    }

    pub(super) fn last_good(&self, task: &TaskKey) -> Option<Timestamp> {
        self.looked_up.good.get(task).map(|(ended, _)| *ended)
    }

    /// How long a task took when it last ended well.
    pub(super) fn takes(&self, task: &TaskKey) -> Option<Duration> {
        self.looked_up.good.get(task).map(|(_, took)| *took)
    }

    pub(super) fn verdict(&self, dataset: &str) -> Option<(Verdict, Timestamp)> {
        self.looked_up.verdicts.get(dataset).copied()
    }

    pub(super) fn restore(&self, dataset: &str) -> Option<&[Activity]> {
        self.looked_up.restores.get(dataset).map(Vec::as_slice)
    }

    pub(super) fn host_of(&self, writer: &str) -> Option<&str> {
        self.looked_up.hosts.get(writer).map(String::as_str)
    }
}

fn hear_one(all: &mut BTreeMap<String, Unchanged>, name: &str, newest: (Timestamp, Timestamp)) {
    match all.get_mut(name) {
        Some(known) if known.newest.0 == newest.0 => known.newest.1 = known.newest.1.max(newest.1),
        Some(known) => *known = Unchanged { newest, before: Some(known.newest) },
        None => drop(all.insert(name.to_owned(), Unchanged { newest, before: None })),
    }
}

/// A job that failed before it could judge says nothing of the data.
fn last_verdict(house: &House, task: &TaskKey) -> Option<(Verdict, Timestamp)> {
    const LOOKED_AT: u32 = 10;
    let jobs = house.state.jobs(Some(task), LOOKED_AT).ok()?;
    jobs.into_iter().find_map(|job| {
        let (at, outcome) = job.ended?;
        let said = job.detail["verdict"].as_str();
        let verdict = match said {
            Some("proven") => Verdict::Proven,
            Some("failed") => Verdict::Failed,
            Some("inconclusive") => Verdict::Inconclusive,
            _ if outcome == JobOutcome::Inconclusive => Verdict::Inconclusive,
            _ => return None,
        };
        Some((verdict, at))
    })
}

fn restores(house: &House, repository: &Repository) -> BTreeMap<String, Vec<Activity>> {
    let samples = Samples::new(&house.means.state_folder(), &repository.id());
    let seen = house.live.seen();
    let of = |(name, dataset): (&String, &DatasetSeen)| {
        Some((name.clone(), restore(house, &samples, name, dataset)?))
    };
    seen.datasets.iter().filter_map(of).collect()
}

/// By what was measured on this host, for so much as there is now.
fn restore(house: &House, samples: &Samples, name: &str, dataset: &DatasetSeen) -> Option<Vec<Activity>> {
    let snapshot = dataset.snapshot.as_ref()?;
    restore_of(samples, &house.means.host(), name, snapshot, log_behind(snapshot, dataset))
}

/// By what was measured on a host, of a snapshot and so much log behind it, as far as that is known.
pub(super) fn restore_of(
    samples: &Samples,
    host: &str,
    name: &str,
    snapshot: &SnapshotSeen,
    log: Option<u64>,
) -> Option<Vec<Activity>> {
    let measured = samples.of(&DatasetName::new(name).ok()?).ok()?;
    let forecast = Forecast::of(&measured, host, snapshot.bytes, log.unwrap_or(0))?;
    Some(activities(&forecast, snapshot.log_from.is_some().then_some(log)))
}

/// Bytes of log that a restore of the latest point replays; `None` where this host does not follow it.
fn log_behind(snapshot: &SnapshotSeen, dataset: &DatasetSeen) -> Option<u64> {
    let status = dataset.stream.as_ref()?.status?;
    status.durable.0.checked_sub(snapshot.log_from?)
}

/// The parts of a way back, each at its median and at its p90; of a log, as far as it is known how much that is.
fn activities(forecast: &Forecast, log: Option<Option<u64>>) -> Vec<Activity> {
    let Forecast { typical, slow, samples, .. } = forecast;
    let part = |name: &str, of: fn(&Phases) -> Option<Duration>| {
        let takes = match (of(typical), of(slow)) {
            (Some(p50), Some(p90)) => Takes::Measured { p50, p90, samples: *samples },
            _ => Takes::Unknown,
        };
        Activity::new(name, takes)
    };
    let mut parts = vec![part("resolve", |p| Some(p.resolving)), part("snapshot", |p| Some(p.files))];
    match log {
        None => {}
        Some(Some(_)) => parts.extend([part("log", |p| Some(p.log)), part("replay", |p| p.replay)]),
        Some(None) => parts.push(Activity::new("log", Takes::Unknown)),
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn a_copy_that_lacks_the_newest_snapshot_lacks_what_changed_since_the_last_look() {
        let mut known = Known::default();
        for (taken, through) in [(100, 100), (100, 130), (100, 160), (190, 190)] {
            hear_one(&mut known.unchanged, "settings", (at(taken), at(through)));
        }
        assert_eq!(known.valid_through("settings", at(100)), at(160));
        assert_eq!(known.valid_through("settings", at(190)), at(190));
        assert_eq!(known.valid_through("settings", at(50)), at(50));
        assert_eq!(known.valid_through("others", at(100)), at(100));
    }
}
