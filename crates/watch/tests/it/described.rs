//! docs/status.md says of every reason and every metric what the code does, and of none that is not there.

use crate::system::{ago, report, secs};
use lifeboat_watch::exposure::Domain;
use lifeboat_watch::metrics::metrics;
use lifeboat_watch::reason::exit_code;
use lifeboat_watch::{Reason, State};
use std::collections::{BTreeMap, BTreeSet};

const DOCUMENT: &str = include_str!("../../../../docs/status.md");

/// The cells of the table under this heading.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let section = DOCUMENT.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

fn place() -> String {
    "main".to_owned()
}

fn reasons_of_datasets() -> Vec<Reason> {
    let (exposure_seconds, rpo_seconds, domain) = (90.0, 60.0, Domain::Host);
    let (age_seconds, most_seconds) = (90.0, 60.0);
    vec![
        Reason::ExposureAboveRpo { domain, exposure_seconds, rpo_seconds },
        Reason::NothingSurvives { domain, rpo_seconds: Some(rpo_seconds) },
        Reason::NextSnapshotTooLate { exposure_seconds, rpo_seconds },
        Reason::NearRpo { domain, exposure_seconds, rpo_seconds },
        Reason::NotObserved { domain },
        Reason::RegionUndeclared,
        Reason::ClockAhead { ahead_seconds: 5.0 },
        Reason::Stalled { silent_seconds: 5.0 },
        Reason::NeverHeard,
        Reason::Hole { place: place() },
        Reason::StoreDown,
        Reason::ProofFailed { age_seconds },
        Reason::ProofInconclusive { age_seconds },
        Reason::ProofTooOld { age_seconds, most_seconds },
        Reason::NeverProven,
        Reason::CopyLags { place: place(), lag_seconds: None, most_seconds },
        Reason::PlaceUnreachable { place: place(), silent_seconds: None },
        Reason::PlaceLost { place: place() },
        Reason::PlaceUnknown { place: place() },
    ]
}

fn other_reasons() -> Vec<Reason> {
    let (job, component, channel) = (place(), place(), place());
    vec![
        Reason::JobLate { job: job.clone(), late_seconds: 90.0 },
        Reason::JobFailed { job, failures: 2 },
        Reason::ComponentDown { component: component.clone() },
        Reason::ComponentUnknown { component },
        Reason::ServiceDown { down_seconds: None },
        Reason::DownBeyondRto { down_seconds: 90.0, rto_seconds: 60.0 },
        Reason::ServiceUnknown,
        Reason::RecoveryAboveRto { recovery_seconds: 90.0, rto_seconds: 60.0 },
        Reason::RecoveryUnknown { parts: vec![] },
        Reason::NoForecast { why: String::new() },
        Reason::NeedNotOk { need: place(), state: State::Breach },
        Reason::ChannelFailing { channel: channel.clone(), failing_seconds: 90.0 },
        Reason::ChannelSilent { channel, silent_seconds: None },
        Reason::NoLeader,
    ]
}

#[test]
fn every_reason_is_described_with_its_state_and_exit_code() {
    let all = [reasons_of_datasets(), other_reasons()].concat();
    let done = all.iter().map(|reason| {
        let json = serde_json::to_value(reason).unwrap();
        let name = format!("`{}`", json["reason"].as_str().unwrap());
        (name, (reason.state().words().to_owned(), exit_code([reason]).to_string()))
    });
    let said = table("States and exit codes").into_iter();
    let said = said.map(|row| (row[0].to_owned(), (row[2].to_owned(), row[3].to_owned())));
    assert_eq!(said.collect::<BTreeMap<_, _>>(), done.collect::<BTreeMap<_, _>>());
}

#[test]
fn every_metric_is_described_with_its_labels() {
    let report = report(|observed| {
        observed.datasets[0].held[0].writes_missing = Some(3);
        observed.jobs[0].running = Some(ago(5));
        observed.datasets[1].held[1].lag_max = Some(secs(9));
    });
    let done: BTreeMap<String, BTreeSet<&str>> = metrics(&report)
        .into_iter()
        .map(|metric| (format!("`{}`", metric.name), metric.samples[0].labels.iter().map(|l| l.0).collect()))
        .collect();
    let labels = |cell: &'static str| {
        let plain = cell.split([';', '(']).next().unwrap_or_default();
        plain
            .split(", ")
            .map(|label| label.trim().trim_matches('`'))
            .filter(|label| !label.is_empty())
            .collect()
    };
    let said = table("Metrics").into_iter().map(|row| (row[0].to_owned(), labels(row[1])));
    assert_eq!(said.collect::<BTreeMap<_, BTreeSet<&str>>>(), done);
}
