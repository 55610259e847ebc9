//! What people reach, and how fast it must be back: the system, environments, tiers, services, failover.

use crate::amount::Availability;
use crate::span::{Span, Takes};
use crate::text::{schema_as, text_or_table};
use serde::Deserialize;

/// The system as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemPlan {
    /// What it is called.
    pub name: String,
    /// What it is, for people.
    pub description: Option<String>,
    /// The region where it runs, unless somebody says otherwise.
    pub region: Option<String>,
    /// How much of the time it must work.
    pub availability: Option<Availability>,
    /// How fast anything of it must be back, whatever its tier says.
    pub rto: Option<Span>,
    /// How much of anything may be lost, where a dataset says nothing.
    pub rpo: Option<Span>,
    /// The mean time to recovery that is promised.
    pub mttr: Option<Span>,
}

/// An environment: objectives of its own for the services in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentPlan {
    /// What it is, for people.
    pub description: Option<String>,
    /// How fast its services must be back.
    pub rto: Option<Takes>,
    /// How much of the data of its services may be lost.
    pub rpo: Option<Span>,
    /// How much of the time its services must work.
    pub availability: Option<Availability>,
}

/// A class of services with the same RTO.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TierPlan {
    /// How fast its services must be back.
    pub rto: Span,
    /// What is in it, for people.
    pub description: Option<String>,
    /// How much of the time its services must work.
    pub availability: Option<Availability>,
}

/// Something that users reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServicePlan {
    /// Its tier, hence its RTO.
    pub tier: Option<String>,
    /// The environment that it runs in.
    pub environment: Option<String>,
    /// What it is, for people.
    pub description: Option<String>,
    /// The datasets and services that it cannot be without, in any order.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Where it says whether it is ready.
    pub probe: Option<ProbePlan>,
    /// The region where it runs; that of the system, if left out.
    pub region: Option<String>,
    /// How much of the time it must work.
    pub availability: Option<Availability>,
    /// How fast it must be back, where that is not its tier's.
    pub rto: Option<Span>,
    /// How long it takes to notice that it is down; reckoned from the probe, if left out.
    pub detect: Option<Span>,
    /// How long it takes to decide what to do.
    pub decide: Option<Span>,
    /// What is done beside restoring its data, one after the other.
    #[serde(default)]
    pub steps: Vec<StepPlan>,
    /// The host that it runs on, where that is one.
    pub host: Option<String>,
    /// Ports that it listens on.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Other names that it goes by.
    #[serde(default)]
    pub names: Vec<String>,
}

/// Something that is done, and how long it is said to take.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepPlan {
    /// What is done.
    pub name: String,
    /// How long it takes.
    pub takes: Takes,
}

/// Where a service says whether it is ready, and how often it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "RawProbe")]
pub struct ProbePlan {
    /// An HTTP URL that answers 2xx.
    pub url: String,
    /// Between two questions.
    pub interval: Span,
    /// An answer later than this is none.
    pub timeout: Span,
    /// So many failures in a row mean that it is down.
    pub failures: u32,
    /// So many successes in a row mean that it is up again.
    pub successes: u32,
    /// Failures count for nothing so long after a start.
    pub start_period: Span,
}

impl ProbePlan {
    /// How long it takes at the most until a service that went down is known to be.
    pub fn detects_within(&self) -> Span {
        self.interval.times(self.failures).plus(self.timeout)
    }
}

#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
enum RawProbe {
    Url(String),
    Table(RawProbeTable),
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawProbeTable {
    /// An HTTP URL that answers 2xx.
    url: String,
    /// Between two questions; 10s.
    interval: Option<Span>,
    /// An answer later than this is none; 5s.
    timeout: Option<Span>,
    /// So many failures in a row mean that it is down; 3.
    failures: Option<u32>,
    /// So many successes in a row mean that it is up again; 2.
    successes: Option<u32>,
    /// Failures count for nothing so long after a start; none.
    #[serde(default)]
    start_period: Span,
}

impl From<RawProbe> for ProbePlan {
    fn from(raw: RawProbe) -> Self {
        let raw = match raw {
            RawProbe::Table(raw) => raw,
            RawProbe::Url(url) => RawProbeTable {
                url,
                interval: None,
                timeout: None,
                failures: None,
                successes: None,
                start_period: Span::default(),
            },
        };
        Self {
            url: raw.url,
            interval: raw.interval.unwrap_or(Span::from_secs(10)),
            timeout: raw.timeout.unwrap_or(Span::from_secs(5)),
            failures: raw.failures.unwrap_or(3).max(1),
            successes: raw.successes.unwrap_or(2).max(1),
            start_period: raw.start_period,
        }
    }
}

text_or_table!(RawProbe, Url, Table, "a URL, or a table with url");
schema_as!(ProbePlan, RawProbe);

/// A failover: moving services from one region to another.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailoverPlan {
    /// Away from here.
    pub from: String,
    /// To here.
    pub to: String,
    /// How long it may take.
    pub within: Span,
    /// How long it takes to notice that it is due.
    pub detect: Option<Span>,
    /// How long it takes to decide.
    pub decide: Option<Span>,
    /// What is done, one after the other.
    #[serde(default)]
    pub steps: Vec<StepPlan>,
}

/// A host that datasets live on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostPlan {
    /// Where it stands.
    pub region: Option<String>,
}

/// A lock that something relies on: it must not live in what it guards.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockPlan {
    /// The dataset that it lives in, or `repository`.
    pub lives_in: String,
    /// The datasets and services that cannot be recovered without it.
    pub guards: Vec<String>,
}

/// A key of the system's own, by which data are encrypted or signed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyPlan {
    /// A new one every so long; never, if left out.
    pub rotate: Option<Span>,
    /// How long an old one still works after that.
    pub overlap: Option<Span>,
    /// How many old ones are kept; all, if neither this nor `overlap` is given.
    pub keep_previous: Option<u32>,
    /// The datasets that cannot be read, or verified, without it.
    pub protects: Vec<String>,
    /// The dataset that it is kept in.
    pub kept_in: Option<String>,
}

impl KeyPlan {
    /// How long after it was replaced an old one still works; for ever, where nothing ends it.
    pub fn lives_on(&self) -> Option<Span> {
        let rotate = self.rotate?;
        let by_count = self.keep_previous.map(|count| rotate.times(count));
        match (self.overlap, by_count) {
            (Some(overlap), Some(by_count)) => Some(overlap.min(by_count)),
            (one, other) => one.or(other),
        }
    }
}
