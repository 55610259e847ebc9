//! A small system in which everything is well, for tests that then break one thing.

use lifeboat_base::clock::Timestamp;
use lifeboat_watch::forecast::{Activity, Takes};
use lifeboat_watch::health::Status;
use lifeboat_watch::observe::{
    Channel, Component, Dataset, Held, Job, Leader, Leadership, Log, Objectives, Observations, Place, Proof,
    Reach, Role, Schedule, Service, Stream, Verdict,
};
use lifeboat_watch::report::{DatasetReport, Limits, Report, ServiceReport, judge};
use std::time::Duration;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const HOUR: u64 = 3600;

pub(crate) fn ago(seconds: u64) -> Timestamp {
    NOW.minus(Duration::from_secs(seconds))
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn place(name: &str, role: Role, region: &str) -> Place {
    Place {
        name: name.to_owned(),
        role,
        host: None,
        region: Some(region.to_owned()),
        reach: Reach::Reached,
        checked: Some(ago(HOUR)),
    }
}

fn stated(name: &str, seconds: u64) -> Activity {
    Activity::new(name, Takes::Stated(secs(seconds)))
}

fn proven() -> Proof {
    let at = ago(10 * HOUR);
    Proof { last: Some((Verdict::Proven, at)), proven: Some(at), age_max: Some(secs(26 * HOUR)) }
}

/// PostgreSQL, followed, one second behind.
fn users() -> Dataset {
    let log = |seconds, position| Some(Log { through: ago(seconds), position: Some(position), hole: None });
    let held = |place: &str, log, lag_max| Held {
        place: place.to_owned(),
        snapshot: Some(ago(5 * HOUR)),
        log,
        lag_max,
        ..Held::default()
    };
    Dataset {
        name: "users".to_owned(),
        rpo: Objectives { host: Some(secs(60)), repository: Some(secs(HOUR)), region: Some(secs(HOUR)) },
        host: Some("db-1".to_owned()),
        region: Some("east".to_owned()),
        store: Status::Up,
        held: vec![held("main", log(1, 900), None), held("west", log(600, 500), Some(secs(1800)))],
        stream: Some(Stream {
            heard: Some(ago(1)),
            position: Some(1000),
            durable: Some(900),
            through: Some(ago(1)),
        }),
        proof: proven(),
        restore: vec![stated("snapshot", 300), stated("log", 60)],
        shares: vec!["main".to_owned()],
        ..Dataset::default()
    }
}

/// Files, every hour.
fn uploads() -> Dataset {
    let held =
        |place: &str, taken| Held { place: place.to_owned(), snapshot: Some(ago(taken)), ..Held::default() };
    Dataset {
        name: "uploads".to_owned(),
        rpo: Objectives { host: Some(secs(2 * HOUR)), ..Objectives::default() },
        store: Status::Up,
        held: vec![held("main", 1800), held("west", 5400)],
        schedule: Some(Schedule { next: Some(NOW.plus(secs(1800))), running: None, takes: Some(secs(120)) }),
        proof: proven(),
        restore: vec![stated("snapshot", 600)],
        shares: vec!["main".to_owned()],
        ..Dataset::default()
    }
}

pub(crate) fn well() -> Observations {
    Observations {
        system: "aragora".to_owned(),
        leader: Leadership::Held(Leader { host: "db-1".to_owned(), generation: 7, here: true }),
        places: vec![place("main", Role::Repository, "east"), place("west", Role::Copy, "west")],
        datasets: vec![users(), uploads()],
        services: vec![Service {
            name: "debates".to_owned(),
            rto: Some(secs(HOUR)),
            needs: vec!["users".to_owned(), "uploads".to_owned()],
            probe: Some(Status::Up),
            before: vec![stated("detect", 300), stated("decide", 300)],
            after: vec![stated("execute", 120)],
            ..Service::default()
        }],
        jobs: vec![Job {
            name: "uploads snapshot".to_owned(),
            kind: "snapshot".to_owned(),
            dataset: Some("uploads".to_owned()),
            succeeded: Some(ago(1700)),
            due: Some(NOW.plus(secs(1800))),
            ..Job::default()
        }],
        components: vec![Component {
            name: "state".to_owned(),
            status: Status::Up,
            latency: Some(Duration::from_millis(2)),
            failure: None,
        }],
        channels: vec![Channel {
            name: "on-call".to_owned(),
            succeeded: Some(ago(HOUR)),
            failing: None,
            silence_max: Some(secs(26 * HOUR)),
        }],
    }
}

pub(crate) fn report(change: impl FnOnce(&mut Observations)) -> Report {
    let mut observed = well();
    change(&mut observed);
    judge(&observed, &Limits::default(), NOW)
}

pub(crate) fn dataset<'a>(report: &'a Report, name: &str) -> &'a DatasetReport {
    report.datasets.iter().find(|dataset| dataset.name == name).unwrap()
}

pub(crate) fn service(report: &Report) -> &ServiceReport {
    &report.services[0]
}
