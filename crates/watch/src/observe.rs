//! What was observed: the whole input of a judgement. Plain facts, each with the instant that it is of.
//!
//! Whoever observes maps the plan and the state of jobs, streams, repositories and proofs to these. An instant or a
//! number that nobody knows is `None`, never zero.

use crate::forecast::Activity;
use crate::health;
use lifeboat_base::clock::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// All that was observed.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// The system's name.
    pub system: String,
    /// Who leads, as far as is known.
    pub leader: Leadership,
    /// The repository and its copies.
    pub places: Vec<Place>,
    /// What must survive.
    pub datasets: Vec<Dataset>,
    /// What users reach.
    pub services: Vec<Service>,
    /// What is done on a schedule, or was asked for.
    pub jobs: Vec<Job>,
    /// What else is checked: the state database, keys, a store's host.
    pub components: Vec<Component>,
    /// Where notifications go.
    pub channels: Vec<Channel>,
}

/// Whether somebody does what is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Leadership {
    /// Nobody is known to.
    #[default]
    Nobody,
    /// Nothing is shared, so nobody has to.
    Unneeded,
    /// Somebody does.
    Held(Leader),
}

/// Who does what is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Leader {
    /// The host.
    pub host: String,
    /// The number under which it does.
    pub generation: u64,
    /// Whether whoever observes is it.
    pub here: bool,
}

/// Whether a place is a repository or a copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The repository that is written to.
    Repository,
    /// A copy of it.
    Copy,
}

impl Role {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::Copy => "copy",
        }
    }
}

/// How a place is at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// It was not asked yet.
    #[default]
    Unknown,
    /// It answered when it was last asked.
    Reached,
    /// It does not answer; since when, if it ever did. What it holds is taken to be there.
    Unreachable(Option<Timestamp>),
    /// It is gone, or says that it is damaged: what it held does not count.
    Lost,
}

/// Where recovery points are kept.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name, unique among the places.
    pub name: String,
    /// Repository or copy.
    pub role: Role,
    /// The one host that it lives on; `None` for a place on the network.
    pub host: Option<String>,
    /// Its region, if it is declared.
    pub region: Option<String>,
    /// How it is.
    pub reach: Reach,
    /// When its integrity was last checked.
    pub checked: Option<Timestamp>,
}

/// What may be lost of a dataset when a domain fails; `None` where nothing is promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Objectives {
    /// When its host fails.
    pub host: Option<Duration>,
    /// When its host and the repository fail.
    pub repository: Option<Duration>,
    /// When its region fails.
    pub region: Option<Duration>,
}

/// A dataset.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// What is promised.
    pub rpo: Objectives,
    /// The host that holds it; `None` where the store is on the network.
    pub host: Option<String>,
    /// Its region, if it is declared.
    pub region: Option<String>,
    /// Whether its store answers.
    pub store: health::Status,
    /// What each place holds of it. A place that is not named holds nothing.
    pub held: Vec<Held>,
    /// How its log is followed; `None` where it is not.
    pub stream: Option<Stream>,
    /// When snapshots are taken; `None` where they are not taken on a schedule.
    pub schedule: Option<Schedule>,
    /// What proofs said.
    pub proof: Proof,
    /// What bringing it back consists of: snapshot, log, replay. Empty where nobody knows.
    pub restore: Vec<Activity>,
    /// What its restore shares with others, so that they wait for each other: its host, its repository.
    pub shares: Vec<String>,
}

/// What one place holds of one dataset.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// The place's name.
    pub place: String,
    /// The instant of which its newest whole snapshot is (not when it was finished).
    pub snapshot: Option<Timestamp>,
    /// The log behind that snapshot.
    pub log: Option<Log>,
    /// Acknowledged writes that the ledger has and this place has not.
    pub writes_missing: Option<u64>,
    /// How far this place may be behind the repository; `None` for the repository itself, and where nothing is said.
    pub lag_max: Option<Duration>,
    /// Log that is durable outside the place, on another host: what a spool holds.
    pub spool: Option<Spool>,
}

/// The log that is durable somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The instant through which all that was acknowledged is in it.
    pub through: Timestamp,
    /// The position that it reaches.
    pub position: Option<u64>,
    /// From when on log is missing, where there is a hole behind the snapshot.
    pub hole: Option<Timestamp>,
}

/// Log in synced files on a host.
#[derive(Clone, Debug)]
pub struct Spool {
    /// The host.
    pub host: String,
    /// What it reaches, together with what the repository holds.
    pub log: Log,
}

/// How a stream stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// When the server last said anything.
    pub heard: Option<Timestamp>,
    /// Where its log stood then.
    pub position: Option<u64>,
    /// Up to where it is durable in the repository (or the spool, where that is what acknowledges).
    pub durable: Option<u64>,
    /// The instant through which all that the server acknowledged is durable.
    pub through: Option<Timestamp>,
}

impl Stream {
    /// The log that it has made durable, where there is any.
    pub fn log(&self, hole: Option<Timestamp>) -> Option<Log> {
        self.through.map(|through| Log { through, position: self.durable, hole })
    }
}

/// When a dataset's snapshots are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// When the next one is due.
    pub next: Option<Timestamp>,
    /// When the one that is being taken was begun.
    pub running: Option<Timestamp>,
    /// How long one takes until it is durable, measured.
    pub takes: Option<Duration>,
}

/// What a proof said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Restored, started, questioned.
    Proven,
    /// It could not be restored, or the answers were wrong.
    Failed,
    /// It could not tell.
    Inconclusive,
}

/// What proofs said of a dataset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// The newest verdict, and when it was given.
    pub last: Option<(Verdict, Timestamp)>,
    /// When it was last proven.
    pub proven: Option<Timestamp>,
    /// How old that may be; `None` where no proofs are promised.
    pub age_max: Option<Duration>,
}

/// Something that is done on a schedule, or was asked for.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// Its name, unique among the jobs.
    pub name: String,
    /// What it does, in one word of the glossary (`snapshot`, `proof`, `prune`, `copy`, `check`).
    pub kind: String,
    /// The dataset that it is for; `None` where it is for the system.
    pub dataset: Option<String>,
    /// When it last succeeded.
    pub succeeded: Option<Timestamp>,
    /// How often in a row it failed.
    pub failures: u32,
    /// Since when it is at it.
    pub running: Option<Timestamp>,
    /// When it is due; in the past where it should have begun.
    pub due: Option<Timestamp>,
}

/// Something that is checked.
#[derive(Clone, Debug, Default)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// What it is known to be.
    pub status: health::Status,
    /// The middle one of the last latencies.
    pub latency: Option<Duration>,
    /// Why the last check failed, without a secret.
    pub failure: Option<String>,
}

/// A service, with what its recovery consists of.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// How fast it must be back; `None` where nothing is promised.
    pub rto: Option<Duration>,
    /// Datasets and services that it needs, by name.
    pub needs: Vec<String>,
    /// Whether its probe answers; `None` where it has none.
    pub probe: Option<health::Status>,
    /// Since when it has been down, if it is.
    pub down: Option<Timestamp>,
    /// What happens before anything is restored: detect, decide, approve.
    pub before: Vec<Activity>,
    /// What happens once its needs are there: execute, verify, traffic.
    pub after: Vec<Activity>,
}

/// Where notifications go.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// When a message last arrived there.
    pub succeeded: Option<Timestamp>,
    /// Since when a message has been waiting that could not be sent.
    pub failing: Option<Timestamp>,
    /// How long it may be silent before that is a failure; `None` where it is only sent to when something happens.
    pub silence_max: Option<Duration>,
}
