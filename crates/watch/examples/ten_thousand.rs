//! How long 10,000 datasets take to be judged, and shown as text, as JSON and as metrics:
//! `cargo run --release -p lifeboat-watch --example ten_thousand`.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use lifeboat_base::clock::{Stopwatch, Timestamp};
use lifeboat_watch::forecast::{Activity, Takes};
use lifeboat_watch::observe::{
    Dataset, Held, Job, Log, Objectives, Observations, Place, Reach, Role, Service, Stream,
};
use lifeboat_watch::report::{Limits, judge};
use lifeboat_watch::{metrics, render};
use std::time::Duration;

const DATASETS: u64 = 10_000;
const ROUNDS: usize = 21;

fn place(name: &str, role: Role, region: &str) -> Place {
    Place {
        name: name.to_owned(),
        role,
        host: None,
        region: Some(region.to_owned()),
        reach: Reach::Reached,
        checked: None,
    }
}

/// Every seventh is in breach, every second is followed.
fn dataset(n: u64, now: Timestamp) -> Dataset {
    let through = now.minus(Duration::from_secs(if n.is_multiple_of(7) { 90 } else { n % 40 }));
    let held = |place: &str| Held {
        place: place.to_owned(),
        snapshot: Some(through),
        log: Some(Log { through, position: Some(n), hole: None }),
        ..Held::default()
    };
    let rpo = Some(Duration::from_secs(60));
    let stream = Stream { heard: Some(now), position: Some(n + 1), durable: Some(n), through: Some(through) };
    Dataset {
        name: format!("dataset-{n:05}"),
        rpo: Objectives { host: rpo, repository: rpo, region: rpo },
        host: Some(format!("host-{}", n % 50)),
        region: Some("east".to_owned()),
        held: vec![held("main"), held("west")],
        stream: n.is_multiple_of(2).then_some(stream),
        restore: vec![Activity::new("snapshot", Takes::Stated(Duration::from_secs(n % 100)))],
        shares: vec![format!("host-{}", n % 50)],
        ..Dataset::default()
    }
}

fn service(n: u64) -> Service {
    let needs = (0..100).map(|k| format!("dataset-{:05}", n * 100 + k));
    let needs = needs.chain((n > 0).then(|| format!("service-{:03}", n - 1)));
    Service { name: format!("service-{n:03}"), needs: needs.collect(), ..Service::default() }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn main() {
    let now = Timestamp::from_secs(1_800_000_000);
    let observed = Observations {
        places: vec![place("main", Role::Repository, "east"), place("west", Role::Copy, "west")],
        datasets: (0..DATASETS).map(|n| dataset(n, now)).collect(),
        services: (0..5).map(service).collect(),
        jobs: (0..DATASETS)
            .map(|n| Job {
                name: format!("job {n}"),
                dataset: Some(format!("dataset-{n:05}")),
                ..Job::default()
            })
            .collect(),
        ..Observations::default()
    };
    let (mut judged, mut text, mut figures, mut json) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut lines, mut samples, mut bytes) = (0, 0, 0);
    for _ in 0..ROUNDS {
        let watch = Stopwatch::start();
        let report = judge(&observed, &Limits::default(), now);
        judged.push(watch.elapsed());
        let watch = Stopwatch::start();
        lines = render::render(&report, Some(120)).lines().count();
        text.push(watch.elapsed());
        let watch = Stopwatch::start();
        samples = metrics::exposition(&metrics::metrics(&report)).lines().count();
        figures.push(watch.elapsed());
        let watch = Stopwatch::start();
        bytes = serde_json::to_vec(&report).map_or(0, |json| json.len());
        json.push(watch.elapsed());
    }
    println!("{DATASETS} datasets, medians of {ROUNDS} rounds:");
    println!("judged in {:.1} ms", median(judged));
    println!("rendered in {:.1} ms ({lines} lines)", median(text));
    println!("JSON in {:.1} ms ({bytes} bytes)", median(json));
    println!("metrics in {:.1} ms ({samples} lines)", median(figures));
}
