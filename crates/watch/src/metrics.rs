//! The status as metrics, and how metrics are written.
//!
//! Every figure is a gauge of the report. What is not known has no sample: an alert on a figure goes together with one
//! on the state, which always has one. Everything that would be lost is `+Inf` seconds.

use crate::exposure::Domain;
use crate::health;
use crate::observe::Verdict;
use crate::reason::{Reason, State};
use crate::report::{Exposure, Report};
use std::fmt::Write;

/// A metric with all its samples. Each is a gauge.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric<'a> {
    /// Its name, with its unit at the end.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Its samples.
    pub samples: Vec<Sample<'a>>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// What it is of.
    pub labels: Vec<(&'static str, &'a str)>,
    /// The figure.
    pub value: f64,
}

/// A sample, or none where the figure is not known.
type Perhaps<'a> = Option<Sample<'a>>;

fn sample<'a, const N: usize>(labels: [(&'static str, &'a str); N], value: Option<f64>) -> Perhaps<'a> {
    value.map(|value| Sample { labels: labels.into(), value })
}

fn metric<'a>(
    name: &'static str,
    help: &'static str,
    samples: impl IntoIterator<Item = Perhaps<'a>>,
) -> Metric<'a> {
    Metric { name, help, samples: samples.into_iter().flatten().collect() }
}

fn flag(is: bool) -> Option<f64> {
    Some(f64::from(u8::from(is)))
}

/// Everything that a report says in figures. Metrics without a sample are left out.
pub fn metrics(report: &Report) -> Vec<Metric<'_>> {
    let mut all = system(report);
    all.extend(datasets(report));
    all.extend(proofs_and_copies(report));
    all.extend(services(report));
    all.extend(jobs(report));
    all.extend(places_and_components(report));
    all.extend(channels(report));
    all.retain(|metric| !metric.samples.is_empty());
    all
}

fn system(report: &Report) -> Vec<Metric<'_>> {
    let leads = report.leader.as_ref().is_some_and(|leader| leader.here);
    let generation = report.leader.as_ref().map(|leader| leader.generation as f64);
    let judged = report.at.as_nanos() as f64 / 1e9;
    vec![
        metric(
            "lifeboat_status_timestamp_seconds",
            "When everything was last judged; an old one means that nobody judges any more.",
            [sample([], Some(judged))],
        ),
        metric("lifeboat_state", "1 for the state of the whole system.", states([], report.state)),
        metric("lifeboat_leader", "Whether this instance leads.", [sample([], flag(leads))]),
        metric(
            "lifeboat_leader_generation",
            "The generation of the leader that is known here.",
            [sample([], generation)],
        ),
    ]
}

/// A sample for each state, 1 for the one that it is.
fn states<'a, const N: usize>(
    labels: [(&'static str, &'a str); N],
    state: State,
) -> impl Iterator<Item = Perhaps<'a>> {
    State::ALL.into_iter().map(move |each| {
        let mut labels: Vec<_> = labels.into();
        labels.push(("state", each.as_str()));
        Some(Sample { labels, value: f64::from(u8::from(each == state)) })
    })
}

fn datasets(report: &Report) -> Vec<Metric<'_>> {
    let of_states = report.datasets.iter().flat_map(|each| states([("dataset", &*each.name)], each.state));
    let heartbeats = report.datasets.iter();
    let heartbeats = heartbeats.map(|each| sample([("dataset", &each.name)], each.heartbeat_age_seconds));
    vec![
        metric("lifeboat_dataset_state", "1 for the dataset's state.", of_states),
        metric(
            "lifeboat_dataset_exposure_seconds",
            "What would be lost now if the domain failed: all that was acknowledged in the last so many seconds.",
            exposures(report, |each| match each.everything {
                true => Some(f64::INFINITY),
                false => each.exposure_seconds,
            }),
        ),
        metric(
            "lifeboat_dataset_exposure_bytes",
            "Log that would be lost now if the domain failed.",
            exposures(report, |each| each.exposure_bytes.map(|bytes| bytes as f64)),
        ),
        metric(
            "lifeboat_dataset_exposure_writes",
            "Acknowledged writes that would be lost now if the domain failed, by the ledger.",
            exposures(report, |each| each.exposure_writes.map(|writes| writes as f64)),
        ),
        metric(
            "lifeboat_dataset_rpo_seconds",
            "What may be lost if the domain fails.",
            exposures(report, |each| each.rpo_seconds),
        ),
        metric(
            "lifeboat_stream_heartbeat_age_seconds",
            "How long ago the dataset's stream was last heard of.",
            heartbeats,
        ),
    ]
}

fn exposures<'a>(
    report: &'a Report,
    figure: impl Fn(&Exposure) -> Option<f64>,
) -> impl Iterator<Item = Perhaps<'a>> {
    let each = report.datasets.iter().flat_map(|each| each.exposures.iter().map(move |e| (&each.name, e)));
    each.map(move |(dataset, exposure)| {
        let domain: Domain = exposure.domain;
        sample([("dataset", dataset.as_str()), ("domain", domain.as_str())], figure(exposure))
    })
}

fn proofs_and_copies(report: &Report) -> Vec<Metric<'_>> {
    let ages = report.datasets.iter();
    let ages = ages.map(|each| sample([("dataset", &each.name)], each.proof_age_seconds));
    let verdicts = report.datasets.iter().flat_map(|dataset| {
        let all = [Verdict::Proven, Verdict::Failed, Verdict::Inconclusive];
        let last = dataset.proof;
        all.into_iter().map(move |verdict| {
            let labels = [("dataset", dataset.name.as_str()), ("verdict", verdict_word(verdict))];
            sample(labels, last.and_then(|last| flag(last == verdict)))
        })
    });
    let copies = || {
        let each = report.datasets.iter();
        each.flat_map(|each| each.copies.iter().map(move |copy| (each.name.as_str(), copy)))
    };
    let labels = |dataset, copy| [("dataset", dataset), ("copy", copy)];
    vec![
        metric("lifeboat_proof_age_seconds", "How long ago the dataset was last proven.", ages),
        metric("lifeboat_proof_verdict", "1 for the verdict of the newest proof.", verdicts),
        metric(
            "lifeboat_copy_lag_seconds",
            "How far the copy is behind the repository; without a sample where it holds nothing.",
            copies().map(|(dataset, copy)| sample(labels(dataset, copy.place.as_str()), copy.lag_seconds)),
        ),
        metric(
            "lifeboat_copy_lag_max_seconds",
            "How far it may be.",
            copies()
                .map(|(dataset, copy)| sample(labels(dataset, copy.place.as_str()), copy.lag_max_seconds)),
        ),
    ]
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Proven => "proven",
        Verdict::Failed => "failed",
        Verdict::Inconclusive => "inconclusive",
    }
}

fn services(report: &Report) -> Vec<Metric<'_>> {
    let each = || report.services.iter();
    let recovery = each().flat_map(|service| {
        let recovery = service.recovery.as_ref();
        let figures = [
            ("50", recovery.map(|recovery| recovery.p50_seconds)),
            ("90", recovery.map(|recovery| recovery.p90_seconds)),
        ];
        figures.map(|(percentile, figure)| {
            sample([("service", service.name.as_str()), ("percentile", percentile)], figure)
        })
    });
    let bounds = each().map(|service| {
        let bound = service.recovery.as_ref().and_then(|recovery| flag(recovery.at_least));
        sample([("service", &service.name)], bound)
    });
    vec![
        metric(
            "lifeboat_service_state",
            "1 for the service's state.",
            each().flat_map(|service| states([("service", &*service.name)], service.state)),
        ),
        metric(
            "lifeboat_service_up",
            "Whether the service's probe answers.",
            each().map(|service| sample([("service", &service.name)], service.probe.and_then(up))),
        ),
        metric(
            "lifeboat_service_recovery_seconds",
            "How long the service would take to be back: a forecast.",
            recovery,
        ),
        metric(
            "lifeboat_service_recovery_at_least",
            "Whether parts of that forecast are unknown, so that it is a lower bound.",
            bounds,
        ),
        metric(
            "lifeboat_service_rto_seconds",
            "How fast the service must be back.",
            each().map(|service| sample([("service", &service.name)], service.rto_seconds)),
        ),
    ]
}

/// Nothing where it is not known.
fn up(status: health::Status) -> Option<f64> {
    match status {
        health::Status::Unknown => None,
        known => flag(known == health::Status::Up),
    }
}

fn jobs(report: &Report) -> Vec<Metric<'_>> {
    let figure = |figure: fn(&crate::report::JobReport) -> Option<f64>| {
        report.jobs.iter().map(move |job| {
            let labels = [("task", job.name.as_str()), ("kind", job.kind.as_str())];
            sample(labels, figure(job))
        })
    };
    vec![
        metric(
            "lifeboat_job_success_age_seconds",
            "How long ago the job last succeeded.",
            figure(|job| job.success_age_seconds),
        ),
        metric(
            "lifeboat_job_consecutive_failures",
            "How often in a row the job failed.",
            figure(|job| Some(f64::from(job.failures))),
        ),
        metric(
            "lifeboat_job_running_seconds",
            "For how long the job has been at it.",
            figure(|job| job.running_seconds),
        ),
        metric(
            "lifeboat_job_late_seconds",
            "How long ago the job should have begun; zero where it is in time.",
            figure(|job| Some(late(&job.reasons))),
        ),
    ]
}

fn late(reasons: &[Reason]) -> f64 {
    let late = reasons.iter().find_map(|reason| match reason {
        Reason::JobLate { late_seconds, .. } => Some(*late_seconds),
        _ => None,
    });
    late.unwrap_or_default()
}

fn places_and_components(report: &Report) -> Vec<Metric<'_>> {
    let places = || report.places.iter();
    let components = || report.components.iter();
    vec![
        metric(
            "lifeboat_place_reachable",
            "Whether the repository or copy answers.",
            places().map(|place| {
                let labels = [("place", place.name.as_str()), ("role", place.role.as_str())];
                sample(labels, place.reachable.and_then(flag))
            }),
        ),
        metric(
            "lifeboat_place_check_age_seconds",
            "How long ago the integrity of the repository or copy was checked.",
            places().map(|place| sample([("place", &place.name)], place.check_age_seconds)),
        ),
        metric(
            "lifeboat_component_up",
            "Whether the component answers.",
            components().map(|each| sample([("component", &each.name)], up(each.status))),
        ),
        metric(
            "lifeboat_component_latency_seconds",
            "The middle one of the component's last latencies.",
            components().map(|each| sample([("component", &each.name)], each.latency_seconds)),
        ),
    ]
}

fn channels(report: &Report) -> Vec<Metric<'_>> {
    let each = || report.channels.iter();
    vec![
        metric(
            "lifeboat_channel_state",
            "1 for the state of the channel of notifications.",
            each().flat_map(|channel| states([("channel", &*channel.name)], channel.state)),
        ),
        metric(
            "lifeboat_channel_success_age_seconds",
            "How long ago a message last arrived at the channel.",
            each().map(|channel| sample([("channel", &channel.name)], channel.success_age_seconds)),
        ),
    ]
}

/// Metrics in Prometheus' text format, version 0.0.4.
///
/// Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
pub fn exposition(metrics: &[Metric<'_>]) -> String {
    let mut text = String::new();
    for metric in metrics {
        let name = metric.name;
        // Writing into a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {}", metric.help.replace('\\', "\\\\").replace('\n', "\\n"));
        let _ = writeln!(text, "# TYPE {name} gauge");
        for sample in &metric.samples {
            text.push_str(name);
            push_labels(&mut text, &sample.labels);
            let _ = writeln!(text, " {}", Figure(sample.value));
        }
    }
    text
}

fn push_labels(text: &mut String, labels: &[(&'static str, &str)]) {
    for (index, (name, value)) in labels.iter().enumerate() {
        text.push(if index == 0 { '{' } else { ',' });
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    if !labels.is_empty() {
        text.push('}');
    }
}

/// A figure as the format wants it.
struct Figure(f64);

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value == f64::INFINITY => f.write_str("+Inf"),
            value if value == f64::NEG_INFINITY => f.write_str("-Inf"),
            value if value.is_nan() => f.write_str("NaN"),
            value => write!(f, "{value}"),
        }
    }
}
