//! The status: one document that says how everything stands, with the numbers that it is judged by.
//!
//! Its field names are stable and carry their units. What is not known is `null`, never zero.

use crate::exposure::{Domain, Loss, View};
use crate::forecast::{Basis, House};
use crate::health;
use crate::observe::{
    Channel, Component, Dataset, Job, Leader, Leadership, Observations, Place, Reach, Role, Verdict,
};
use crate::reason::{self, Reason, State};
use crate::time::{age, rfc3339, seconds};
use lifeboat_base::clock::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;

mod dataset;
mod service;

/// The version of the document.
pub const FORMAT: u32 = 1;

/// What is judged by, beside the objectives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// A stream that was silent for longer has stalled.
    pub stall: Duration,
    /// From this part of an RPO on, a dataset is at risk.
    pub near: f64,
    /// A job may begin so much later than it is due.
    pub late: Duration,
}

impl Default for Limits {
    /// 3 seconds, 80 %, one minute.
    fn default() -> Self {
        Self { stall: Duration::from_secs(3), near: 0.8, late: Duration::from_secs(60) }
    }
}

/// How everything stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of the document, [`FORMAT`].
    pub format: u32,
    /// The system's name.
    pub system: String,
    /// The instant that it is of.
    #[serde(with = "rfc3339")]
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The worst of all states below.
    pub state: State,
    /// What is wrong with the system as a whole.
    pub reasons: Vec<Reason>,
    /// Who leads, as far as is known.
    pub leader: Option<Leader>,
    /// Each dataset.
    pub datasets: Vec<DatasetReport>,
    /// Each service.
    pub services: Vec<ServiceReport>,
    /// The repository and its copies.
    pub places: Vec<PlaceReport>,
    /// Each job.
    pub jobs: Vec<JobReport>,
    /// What else is checked.
    pub components: Vec<ComponentReport>,
    /// Where notifications go.
    pub channels: Vec<ChannelReport>,
}

/// How a dataset stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DatasetReport {
    /// Its name.
    pub name: String,
    /// The worst of its reasons.
    pub state: State,
    /// Why.
    pub reasons: Vec<Reason>,
    /// What would be lost, for each failure domain.
    pub exposures: Vec<Exposure>,
    /// The newest instant that the repository can restore it to.
    #[serde(with = "rfc3339::optional", default)]
    #[schemars(with = "Option<String>")]
    pub restorable_to: Option<Timestamp>,
    /// How long ago its stream was last heard of; `null` where there is none, or nothing was heard.
    pub heartbeat_age_seconds: Option<f64>,
    /// The newest proof's verdict.
    pub proof: Option<Verdict>,
    /// How long ago it was last proven.
    pub proof_age_seconds: Option<f64>,
    /// How far each copy is behind.
    pub copies: Vec<CopyLag>,
}

/// What would be lost if one domain failed now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Exposure {
    /// What fails.
    pub domain: Domain,
    /// What was acknowledged in the last so many seconds; `null` where it is not known, or all of it.
    pub exposure_seconds: Option<f64>,
    /// Bytes of log.
    pub exposure_bytes: Option<u64>,
    /// Acknowledged writes, where the ledger runs.
    pub exposure_writes: Option<u64>,
    /// Whether everything would be lost.
    pub everything: bool,
    /// What may be lost; `null` where nothing is promised.
    pub rpo_seconds: Option<f64>,
}

/// How far a copy is behind the repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CopyLag {
    /// The copy.
    pub place: String,
    /// How far; `null` where it holds nothing.
    pub lag_seconds: Option<f64>,
    /// How far it may be.
    pub lag_max_seconds: Option<f64>,
}

/// How a service stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceReport {
    /// Its name.
    pub name: String,
    /// The worst of its reasons.
    pub state: State,
    /// Why.
    pub reasons: Vec<Reason>,
    /// Whether its probe answers; `null` where it has none.
    pub probe: Option<health::Status>,
    /// How fast it must be back; `null` where nothing is promised.
    pub rto_seconds: Option<f64>,
    /// What the forecast says of that; `null` where nothing is promised.
    pub rto: Option<Rto>,
    /// How long it would take: a forecast.
    pub recovery: Option<Recovery>,
}

/// What a forecast says of an RTO. Judged by its p90.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rto {
    /// It would be met.
    Meets,
    /// It would be missed.
    Misses,
    /// Parts are unknown.
    CannotTell,
}

/// A forecast of a recovery time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recovery {
    /// With each part at its median.
    pub p50_seconds: f64,
    /// With each part at its p90.
    pub p90_seconds: f64,
    /// Whether parts are unknown, so that both are lower bounds.
    pub at_least: bool,
    /// What it consists of, in order.
    pub parts: Vec<RecoveryPart>,
}

/// A part of a forecast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryPart {
    /// The dataset or service.
    pub of: String,
    /// What is done.
    pub activity: String,
    /// At its median; `null` where it is not known.
    pub p50_seconds: Option<f64>,
    /// At its p90; `null` where it is not known.
    pub p90_seconds: Option<f64>,
    /// What that comes from.
    #[serde(flatten)]
    pub basis: Basis,
}

/// How a repository or a copy stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlaceReport {
    /// Its name.
    pub name: String,
    /// Repository or copy.
    pub role: Role,
    /// Its region.
    pub region: Option<String>,
    /// Whether it answers; `null` where it was not asked.
    pub reachable: Option<bool>,
    /// How long ago its integrity was checked.
    pub check_age_seconds: Option<f64>,
    /// The worst of its reasons.
    pub state: State,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobReport {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: String,
    /// The dataset that it is for.
    pub dataset: Option<String>,
    /// When it is due.
    #[serde(with = "rfc3339::optional", default)]
    #[schemars(with = "Option<String>")]
    pub due: Option<Timestamp>,
    /// For how long it has been at it.
    pub running_seconds: Option<f64>,
    /// How long ago it last succeeded.
    pub success_age_seconds: Option<f64>,
    /// How often in a row it failed.
    pub failures: u32,
    /// The worst of its reasons.
    pub state: State,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// How a component stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentReport {
    /// Its name.
    pub name: String,
    /// What it is known to be.
    pub status: health::Status,
    /// The middle one of its last latencies.
    pub latency_seconds: Option<f64>,
    /// Why the last check failed.
    pub failure: Option<String>,
    /// The worst of its reasons.
    pub state: State,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// How a channel of notifications stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelReport {
    /// Its name.
    pub name: String,
    /// How long ago a message last arrived there.
    pub success_age_seconds: Option<f64>,
    /// The worst of its reasons.
    pub state: State,
    /// Why.
    pub reasons: Vec<Reason>,
}

impl Report {
    /// Every reason in it.
    pub fn all_reasons(&self) -> impl Iterator<Item = &Reason> {
        let datasets = self.datasets.iter().flat_map(|each| &each.reasons);
        let services = self.services.iter().flat_map(|each| &each.reasons);
        let places = self.places.iter().flat_map(|each| &each.reasons);
        let jobs = self.jobs.iter().flat_map(|each| &each.reasons);
        let components = self.components.iter().flat_map(|each| &each.reasons);
        let channels = self.channels.iter().flat_map(|each| &each.reasons);
        let all = self.reasons.iter().chain(datasets).chain(services).chain(places);
        all.chain(jobs).chain(components).chain(channels)
    }

    /// The exit code of whoever shows it: 1 something failed, else 4 something cannot be told, else 3 an objective
    /// is missed, else 0.
    pub fn exit_code(&self) -> u8 {
        reason::exit_code(self.all_reasons())
    }
}

/// Judges what was observed, as of now.
pub fn judge(observed: &Observations, limits: &Limits, now: Timestamp) -> Report {
    let by_name = observed.places.iter().map(|place| (place.name.as_str(), place)).collect();
    let view = View { places: &observed.places, by_name: &by_name, now, stall: limits.stall };
    let jobs: Vec<JobReport> = observed.jobs.iter().map(|job| job_report(job, limits, now)).collect();
    let of_jobs = reasons_by_dataset(&jobs);
    let no_reasons = Vec::new();
    let jobs_of = |dataset: &Dataset| of_jobs.get(dataset.name.as_str()).unwrap_or(&no_reasons);
    let datasets = observed.datasets.iter();
    let datasets: Vec<_> = datasets.map(|each| dataset::report(each, jobs_of(each), limits, view)).collect();
    let house = House::new(&observed.datasets, &observed.services);
    let mut report = Report {
        format: FORMAT,
        system: observed.system.clone(),
        at: now,
        state: State::Ok,
        reasons: match observed.leader {
            Leadership::Nobody => vec![Reason::NoLeader],
            Leadership::Unneeded | Leadership::Held(_) => Vec::new(),
        },
        leader: match &observed.leader {
            Leadership::Held(leader) => Some(leader.clone()),
            Leadership::Nobody | Leadership::Unneeded => None,
        },
        services: service::reports(&observed.services, &datasets, &house, now),
        datasets,
        places: observed.places.iter().map(|place| place_report(place, now)).collect(),
        jobs,
        components: observed.components.iter().map(component_report).collect(),
        channels: observed.channels.iter().map(|channel| channel_report(channel, now)).collect(),
    };
    report.state = State::of(report.all_reasons());
    report
}

/// A job's reasons are those of its dataset as well.
fn reasons_by_dataset(jobs: &[JobReport]) -> HashMap<&str, Vec<Reason>> {
    let mut reasons: HashMap<&str, Vec<Reason>> = HashMap::new();
    for job in jobs.iter().filter(|job| !job.reasons.is_empty()) {
        if let Some(dataset) = &job.dataset {
            reasons.entry(dataset).or_default().extend(job.reasons.iter().cloned());
        }
    }
    reasons
}

fn job_report(job: &Job, limits: &Limits, now: Timestamp) -> JobReport {
    let mut reasons = Vec::new();
    if job.failures > 0 {
        reasons.push(Reason::JobFailed { job: job.name.clone(), failures: job.failures });
    }
    let late = job.due.map(|due| now.since(due)).filter(|late| job.running.is_none() && *late > limits.late);
    if let Some(late) = late {
        reasons.push(Reason::JobLate { job: job.name.clone(), late_seconds: seconds(late) });
    }
    let success_age_seconds = age_of(job.succeeded, now, &mut reasons);
    JobReport {
        name: job.name.clone(),
        kind: job.kind.clone(),
        dataset: job.dataset.clone(),
        due: job.due,
        running_seconds: job.running.map(|since| seconds(now.since(since))),
        success_age_seconds,
        failures: job.failures,
        state: State::of(&reasons),
        reasons,
    }
}

fn place_report(place: &Place, now: Timestamp) -> PlaceReport {
    let name = || place.name.clone();
    let mut reasons: Vec<Reason> = match place.reach {
        Reach::Reached => None,
        Reach::Unknown => Some(Reason::PlaceUnknown { place: name() }),
        Reach::Unreachable(since) => Some(unreachable(place, since, now)),
        Reach::Lost => Some(Reason::PlaceLost { place: name() }),
    }
    .into_iter()
    .collect();
    let check_age_seconds = age_of(place.checked, now, &mut reasons);
    PlaceReport {
        name: name(),
        role: place.role,
        region: place.region.clone(),
        reachable: match place.reach {
            Reach::Unknown => None,
            reach => Some(reach == Reach::Reached),
        },
        check_age_seconds,
        state: State::of(&reasons),
        reasons,
    }
}

fn component_report(component: &Component) -> ComponentReport {
    let name = || component.name.clone();
    let reasons: Vec<Reason> = match component.status {
        health::Status::Up => None,
        health::Status::Down => Some(Reason::ComponentDown { component: name() }),
        health::Status::Unknown => Some(Reason::ComponentUnknown { component: name() }),
    }
    .into_iter()
    .collect();
    ComponentReport {
        name: name(),
        status: component.status,
        latency_seconds: component.latency.map(seconds),
        failure: component.failure.clone(),
        state: State::of(&reasons),
        reasons,
    }
}

fn channel_report(channel: &Channel, now: Timestamp) -> ChannelReport {
    let name = || channel.name.clone();
    let mut reasons = Vec::new();
    if let Some(since) = channel.failing {
        let failing_seconds = seconds(now.since(since));
        reasons.push(Reason::ChannelFailing { channel: name(), failing_seconds });
    }
    let success_age_seconds = age_of(channel.succeeded, now, &mut reasons);
    // By a clock that went back nothing can be said, and that is said already.
    let age_or_never = success_age_seconds.or(channel.succeeded.is_none().then_some(f64::INFINITY));
    let is_silent = |most: Duration| age_or_never.is_some_and(|age| age > seconds(most));
    if channel.silence_max.is_some_and(is_silent) {
        reasons.push(Reason::ChannelSilent { channel: name(), silent_seconds: success_age_seconds });
    }
    ChannelReport { name: name(), success_age_seconds, state: State::of(&reasons), reasons }
}

/// How old something is in seconds; where it lies in the future there is no age, and that is a reason.
fn age_of(instant: Option<Timestamp>, now: Timestamp, reasons: &mut Vec<Reason>) -> Option<f64> {
    match age(instant?, now) {
        Ok(age) => Some(seconds(age)),
        Err(ahead) => {
            push_once(reasons, Reason::ClockAhead { ahead_seconds: seconds(ahead) });
            None
        }
    }
}

/// One wrong clock is one reason, however much was seen by it.
fn push_once(reasons: &mut Vec<Reason>, reason: Reason) {
    let same = |other: &Reason| std::mem::discriminant(other) == std::mem::discriminant(&reason);
    if !reasons.iter().any(same) {
        reasons.push(reason);
    }
}

fn exposure_of(domain: Domain, loss: Loss, rpo: Option<Duration>) -> Exposure {
    let lost = match loss {
        Loss::Known(lost) => Some(lost),
        Loss::Unknown(_) | Loss::Everything => None,
    };
    Exposure {
        domain,
        exposure_seconds: lost.map(|lost| seconds(lost.time)),
        exposure_bytes: lost.and_then(|lost| lost.bytes),
        exposure_writes: lost.and_then(|lost| lost.writes),
        everything: loss == Loss::Everything,
        rpo_seconds: rpo.map(seconds),
    }
}

fn unreachable(place: &Place, since: Option<Timestamp>, now: Timestamp) -> Reason {
    let silent_seconds = since.map(|since| seconds(now.since(since)));
    Reason::PlaceUnreachable { place: place.name.clone(), silent_seconds }
}
