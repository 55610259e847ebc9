//! What is answered, as programs read it. A field's name says its unit; a time is RFC 3339 in UTC.

use crate::record::{Record, Sequence, What};
use crate::report::{DatasetReport, PlaceReport, ServiceReport};
use crate::state::Job;
use lifeboat_base::clock::Timestamp;
use lifeboat_repository::{LineageLog, Published};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// That the service runs.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Alive {
    /// `ok`.
    pub(crate) status: &'static str,
}

/// Whether the start is complete.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Readiness {
    /// `ready` or `not_ready`.
    pub(crate) status: &'static str,
    /// What is still waited for.
    pub(crate) reason: Option<String>,
}

/// What the service stands on.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Health {
    /// `ok`; `down` where one check is; `unknown` where one never could tell.
    pub(crate) overall: &'static str,
    /// Each check by its name: `state`, `repository`, `keys`, `copy:NAME`, `store:DATASET`.
    pub(crate) checks: BTreeMap<String, Check>,
}

/// One thing that is checked again and again.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Check {
    /// `up`, `down` or `unknown`.
    pub(crate) status: &'static str,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// How long a check took, in the middle of the last ten that succeeded.
    pub(crate) latency_seconds: Option<f64>,
    /// How long the longest of them took.
    pub(crate) latency_max_seconds: Option<f64>,
    /// Since when it is up or down.
    pub(crate) since: Option<String>,
    /// What the last failure said.
    pub(crate) error: Option<String>,
}

/// The threads of the service.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Threads {
    /// How many.
    pub(crate) count: usize,
    /// How many there are of each name.
    pub(crate) threads: BTreeMap<String, ThreadsOfName>,
}

/// Threads of one name.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct ThreadsOfName {
    /// How many.
    pub(crate) count: usize,
    /// How many of them run right now, rather than wait.
    pub(crate) running: usize,
    /// How many of them wait for the disk, and cannot be interrupted.
    pub(crate) blocked: usize,
}

/// What the service was built from.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Build {
    /// The release.
    pub(crate) version: &'static str,
    /// The commit, where whoever built it said so.
    pub(crate) commit: Option<&'static str>,
    /// When it was built, where whoever built it said so.
    pub(crate) built: Option<&'static str>,
    /// `release` or `debug`.
    pub(crate) profile: &'static str,
    /// The processor and system that it is for.
    pub(crate) target: String,
}

/// A dataset, and how it stands.
pub(crate) type DatasetShown = DatasetReport;

/// Datasets.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct DatasetsShown {
    /// When this was so.
    pub(crate) at: String,
    /// The datasets.
    pub(crate) datasets: Vec<DatasetReport>,
    /// The `after` of the next page, where there is one.
    pub(crate) next: Option<String>,
}

/// Services.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct ServicesShown {
    /// When this was so.
    pub(crate) at: String,
    /// The services.
    pub(crate) services: Vec<ServiceReport>,
}

/// Copies.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct CopiesShown {
    /// When this was so.
    pub(crate) at: String,
    /// The copies.
    pub(crate) copies: Vec<PlaceReport>,
}

/// How a dataset may stand.
pub(crate) const STATES: &[&str] = &["ok", "at_risk", "unknown", "breach"];

/// The kinds of jobs.
pub(crate) const KINDS: &[&str] = &["snapshot", "look", "proof", "copy", "prune", "check", "heads"];

/// A job.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct JobShown {
    /// Its number: that of the record of its beginning.
    pub(crate) job: Sequence,
    /// What it does.
    pub(crate) kind: &'static str,
    /// The dataset or copy that it is about; none where that is the repository.
    pub(crate) subject: Option<String>,
    /// The generation of leadership that it was begun under, where it is shared.
    pub(crate) generation: Option<u64>,
    /// When it began.
    pub(crate) begun: String,
    /// When it ended.
    pub(crate) ended: Option<String>,
    /// How it ended; `running` while it has not.
    pub(crate) outcome: &'static str,
    /// What came of it, or why it failed.
    #[schemars(with = "BTreeMap<String, Value>")]
    pub(crate) detail: Value,
}

impl JobShown {
    pub(crate) fn of(job: Job) -> Self {
        let subject = Some(job.task.subject).filter(|subject| !subject.is_empty());
        Self {
            job: job.job,
            kind: job.task.kind.word(),
            subject,
            generation: job.generation,
            begun: job.begun.to_string(),
            ended: job.ended.map(|(at, _)| at.to_string()),
            outcome: job.ended.map_or("running", |(_, outcome)| outcome.word()),
            detail: if job.detail.is_object() { job.detail } else { json!({}) },
        }
    }
}

/// Jobs.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct JobsShown {
    /// The jobs, the newest first.
    pub(crate) jobs: Vec<JobShown>,
    /// The `before` of the next page, where there may be one.
    pub(crate) next: Option<Sequence>,
}

/// Something that happened.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct EventShown {
    /// Its number, from 1.
    pub(crate) sequence: Sequence,
    /// When.
    pub(crate) at: String,
    /// About what: a task, a dataset, a copy, `controller` or `leader`.
    pub(crate) subject: String,
    /// A stable word.
    pub(crate) event: String,
    /// More of it.
    #[schemars(with = "BTreeMap<String, Value>")]
    pub(crate) detail: Value,
}

impl EventShown {
    /// What is shown of a record; `None` where it is only the service's own bookkeeping.
    pub(crate) fn of(sequence: Sequence, record: &Record) -> Option<Self> {
        let (subject, event, detail) = match &record.what {
            // The plan itself is in the repository: it is long.
            What::Started { host, version, .. } => {
                ("controller".into(), "started", json!({ "host": host, "version": version }))
            }
            What::Stopped => ("controller".into(), "stopped", json!({})),
            What::Began { task, generation } => {
                (task.to_string(), "began", json!({ "generation": generation }))
            }
            What::Ended { job, outcome, detail } => {
                (format!("job {job}"), "ended", json!({ "outcome": outcome.word(), "detail": detail }))
            }
            What::Interrupted { job } => (format!("job {job}"), "interrupted", json!({})),
            What::Led { generation } => ("leader".into(), "led", json!({ "generation": generation })),
            What::Followed { generation } => {
                ("leader".into(), "followed", json!({ "generation": generation }))
            }
            What::Noted { subject, event, detail } => (subject.clone(), event.as_str(), detail.clone()),
            What::Looked { .. } | What::Messages { .. } | What::Signs { .. } | What::Read { .. } => {
                return None;
            }
        };
        let detail = if detail.is_object() { detail } else { json!({}) };
        Some(Self { sequence, at: record.at.to_string(), subject, event: event.to_owned(), detail })
    }
}

/// What happened.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct EventsShown {
    /// The events, the oldest first.
    pub(crate) events: Vec<EventShown>,
    /// The `since` of the next page.
    pub(crate) next: Sequence,
    /// The number of the last record that there is.
    pub(crate) end: Sequence,
}

/// What a dataset can be restored to.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct PointsShown {
    /// The dataset.
    pub(crate) dataset: String,
    /// Its snapshots, the newest first.
    pub(crate) snapshots: Vec<SnapshotShown>,
    /// How many snapshots there are in all.
    pub(crate) snapshot_count: usize,
    /// Its log, where it is followed.
    pub(crate) log: Vec<StretchShown>,
}

/// A snapshot.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct SnapshotShown {
    /// Its identity.
    pub(crate) snapshot: String,
    /// The instant that it shows.
    pub(crate) taken: String,
    /// The kind of store.
    pub(crate) store: String,
    /// The host that took it.
    pub(crate) host: String,
    /// What a restore of it writes.
    pub(crate) bytes: u64,
    /// How many files it has.
    pub(crate) files: u64,
    /// Whether somebody holds it, whatever retention says.
    pub(crate) held: bool,
}

impl SnapshotShown {
    pub(crate) fn of(published: &Published, held: bool) -> Self {
        let snapshot = &published.snapshot;
        Self {
            snapshot: published.id.to_string(),
            taken: snapshot.taken.to_string(),
            store: snapshot.store.clone(),
            host: snapshot.host.clone(),
            bytes: snapshot.stats.content_bytes,
            files: snapshot.stats.files,
            held,
        }
    }
}

/// A run of log without a hole.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct StretchShown {
    /// Whose history it is.
    pub(crate) lineage: String,
    /// Its first position.
    pub(crate) start: u64,
    /// The first position behind it.
    pub(crate) end: u64,
    /// When its first position arrived.
    pub(crate) from: String,
    /// When its last position arrived.
    pub(crate) to: String,
}

impl StretchShown {
    pub(crate) fn all(logs: &[LineageLog]) -> Vec<Self> {
        let text = |at: Timestamp| at.to_string();
        logs.iter()
            .flat_map(|log| log.stretches.iter().map(move |stretch| (log, stretch)))
            .map(|(log, stretch)| Self {
                lineage: log.lineage.as_str().to_owned(),
                start: stretch.start,
                end: stretch.end,
                from: text(stretch.first),
                to: text(stretch.last),
            })
            .collect()
    }
}

/// The OpenAPI document.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Document {
    /// The release of OpenAPI.
    pub(crate) openapi: String,
    /// What this is.
    pub(crate) info: BTreeMap<String, Value>,
    /// Everything that is answered.
    pub(crate) paths: BTreeMap<String, Value>,
    /// What the answers are made of.
    pub(crate) components: BTreeMap<String, Value>,
}
