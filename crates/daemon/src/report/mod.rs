//! How everything stands: once a second what was seen is laid beside the plan, judged by watch, and kept for whoever
//! asks. Nothing is judged here.
//!
//! What changes by itself is read from memory each time; what has to be asked of the disk or the state (samples of
//! restores, proofs of earlier runs) is looked up now and then.

mod datasets;
mod known;
mod offline;
mod places;
mod services;

use crate::house::House;
use crate::live::Seen;
use crate::schedule::{Past, Scheduler};
use crate::serve::Service;
use crate::task::{TaskKey, is_done_by, is_shared};
use known::Known;
use lifeboat_base::clock::Timestamp;
use lifeboat_watch::observe::{Channel, Component, Job, Leader, Leadership, Observations};
use lifeboat_watch::report::{Limits, judge};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use lifeboat_watch::report::{DatasetReport, PlaceReport, Report, ServiceReport};
pub use offline::{Here, of_repositories};

/// A server says something every second. After two seconds of silence and one until the next report a stall shows
/// within three.
const LIMITS: Limits = Limits { stall: Duration::from_secs(2), near: 0.8, late: Duration::from_secs(60) };

/// What the repository is called among the places.
pub(crate) const REPOSITORY: &str = "repository";

/// What others find out and the report takes in.
#[derive(Clone, Debug, Default)]
pub(crate) struct FoundOut {
    /// What is checked again and again, and is neither a place nor a dataset's store.
    pub(crate) components: Vec<Component>,
    /// By dataset: whether its store answers.
    pub(crate) stores: BTreeMap<String, lifeboat_watch::health::Status>,
    /// By service: whether its probe answers, and since when it does not.
    pub(crate) probes: BTreeMap<String, (lifeboat_watch::health::Status, Option<Timestamp>)>,
    /// Where notifications go.
    pub(crate) channels: Vec<Channel>,
}

/// The newest report, for whoever asks, and what it is made of.
#[derive(Debug, Default)]
pub struct Reports {
    newest: Mutex<Option<Arc<Report>>>,
    found_out: Mutex<FoundOut>,
    known: Mutex<Known>,
}

impl Reports {
    /// The newest report; `None` before the first.
    pub fn newest(&self) -> Option<Arc<Report>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in what somebody found out.
    pub(crate) fn find_out(&self, change: impl FnOnce(&mut FoundOut)) {
        change(&mut self.found_out.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Looks up what is not in memory.
    pub(crate) fn look_up(&self, service: &Service) {
        let tasks =
            service.scheduler(|scheduler| scheduler.all().map(|(task, ..)| task.key.clone()).collect());
        // Not under the lock: the state and the disk are asked.
        let known = Known::look_up(service.house(), tasks);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).replace(known);
    }

    /// Makes a report of how things stand now, and keeps it.
    pub fn make(&self, service: &Service) -> Arc<Report> {
        let house = service.house();
        let (seen, now) = (house.live.seen(), house.clock.now());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.hear(house, &seen, now);
        let found_out = self.found_out.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let observed = observe(service, &seen, &known, found_out, now);
        drop(known);
        let report = Arc::new(judge(&observed, &LIMITS, now));
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
        report
    }
}

fn observe(
    service: &Service,
    seen: &Seen,
    known: &Known,
    found_out: FoundOut,
    now: Timestamp,
) -> Observations {
    let house = service.house();
    let FoundOut { components, stores, probes, channels } = found_out;
    Observations {
        system: house.plan.system.as_ref().map_or_else(|| house.means.host(), |system| system.name.clone()),
        leader: leadership(house, seen, known),
        places: places::all(house, seen, known, now),
        datasets: service.scheduler(|scheduler| datasets::all(house, scheduler, seen, known, &stores, now)),
        services: services::all(&house.plan, &probes),
        jobs: service.scheduler(|scheduler| jobs(house, scheduler, seen, known)),
        components,
        channels,
    }
}

fn leadership(house: &House, seen: &Seen, known: &Known) -> Leadership {
    let leader = &seen.leader;
    let Some(generation) = leader.generation else { return Leadership::Nobody };
    let named = leader.writer.as_ref().map(|writer| known.host_of(writer).unwrap_or(writer).to_owned());
    let host = if leader.is_us { Some(house.means.host()) } else { named };
    match host {
        Some(host) => Leadership::Held(Leader { host, generation, here: leader.is_us }),
        // Somebody led, and nobody knows who does now.
        None => Leadership::Nobody,
    }
}

/// Whether this host does a dataset: its own, or as the leader.
pub(crate) fn is_ours(house: &House, seen: &Seen, dataset: &str) -> bool {
    house
        .plan
        .datasets
        .get(dataset)
        .is_some_and(|plan| is_done_by(plan, &house.means.host()) && (seen.leader.is_us || !is_shared(plan)))
}

/// What this host has to do. What only a leader does is the leader's to report.
fn jobs(house: &House, scheduler: &Scheduler, seen: &Seen, known: &Known) -> Vec<Job> {
    let ours = scheduler.all().filter(|(task, ..)| seen.leader.is_us || !task.is_shared);
    let is_dataset = |key: &TaskKey| house.plan.datasets.contains_key(&key.subject);
    ours.map(|(task, past, due)| Job {
        name: task.key.to_string(),
        kind: task.key.kind.word().to_owned(),
        dataset: Some(task.key.subject.clone()).filter(|_| is_dataset(&task.key)),
        succeeded: succeeded(past).or_else(|| known.last_good(&task.key)),
        failures: past.failures,
        running: if due.is_none() { past.begun } else { None },
        due,
    })
    .collect()
}

fn succeeded(past: &Past) -> Option<Timestamp> {
    past.ended.filter(|_| past.outcome.is_some_and(crate::record::JobOutcome::is_good))
}
