//! The plan: what is declared in `lifeboat.toml`, its objectives, and the lint that holds them against each
//! other.
//!
//! An unknown key is an error that names the nearest known one. What is read here is only well formed; whether
//! names that are referred to exist, and whether promises can be kept, the lint says.
//!
//! The plan does no I/O (but that names of time zones are looked up where the system keeps them) and
//! deliberately knows no repository and no store: a location, a secret's reference and a dataset's store are
//! text to it.

use lifeboat_base::Hint;
use serde::Deserialize;
use std::collections::BTreeMap;

mod amount;
mod dataset;
mod lines;
pub mod lint;
mod people;
mod protect;
mod prove;
mod schedule;
mod secret;
mod serve;
mod service;
mod span;
mod text;

pub use amount::{Availability, Rate, Size};
pub use dataset::{DatasetPlan, RecoverPlan, ReplicaPlan, Retain, RpoPlan, StoreKind};
pub use lines::{Lines, part};
pub use people::{
    ApproverKey, CommunicationPlan, ContactPlan, EscalationPlan, IncidentPlan, LevelPlan, PersonPlan,
    PromisePlan, ReviewPlan, SeverityPlan,
};
pub use protect::{Ack, Mode, ProtectPlan};
pub use prove::{Expectation, ProvePlan, QueryPlan};
pub use schedule::{Calendar, Schedule, When};
pub use secret::SecretRef;
pub use serve::{CopyPlan, Event, NotifyPlan, RepositoryPlan, ScratchPlan, ServePlan};
pub use service::{
    EnvironmentPlan, FailoverPlan, HostPlan, KeyPlan, LockPlan, ProbePlan, ServicePlan, StepPlan, SystemPlan,
    TierPlan,
};
pub use span::{Span, Takes};

/// What a plan file is called, unless another is named.
pub const FILE_NAME: &str = "lifeboat.toml";

/// A plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The system as a whole.
    pub system: Option<SystemPlan>,
    /// Environments, by name.
    #[serde(default)]
    pub environments: BTreeMap<String, EnvironmentPlan>,
    /// Tiers, by name.
    #[serde(default)]
    pub tiers: BTreeMap<String, TierPlan>,
    /// Hosts, by name.
    #[serde(default)]
    pub hosts: BTreeMap<String, HostPlan>,
    /// What users reach, by name.
    #[serde(default)]
    pub services: BTreeMap<String, ServicePlan>,
    /// What must survive, by name.
    #[serde(default)]
    pub datasets: BTreeMap<String, DatasetPlan>,
    /// Where recovery points are kept.
    pub repository: Option<RepositoryPlan>,
    /// Where else they are kept.
    #[serde(default)]
    pub copies: Vec<CopyPlan>,
    /// Keys of the system's own, by name.
    #[serde(default)]
    pub keys: BTreeMap<String, KeyPlan>,
    /// Locks that something relies on, by name.
    #[serde(default)]
    pub locks: BTreeMap<String, LockPlan>,
    /// Failovers, by name.
    #[serde(default)]
    pub failovers: BTreeMap<String, FailoverPlan>,
    /// Severities of incidents, by name.
    #[serde(default)]
    pub severities: BTreeMap<String, SeverityPlan>,
    /// Levels of disasters, by name.
    #[serde(default)]
    pub levels: BTreeMap<String, LevelPlan>,
    /// Kinds of incidents, by name.
    #[serde(default)]
    pub incidents: BTreeMap<String, IncidentPlan>,
    /// Who is told, by name.
    #[serde(default)]
    pub contacts: BTreeMap<String, ContactPlan>,
    /// Who carries out runbooks and agrees to their steps, by name.
    #[serde(default)]
    pub people: BTreeMap<String, PersonPlan>,
    /// Who is told what when, inside.
    #[serde(default)]
    pub escalation: Vec<EscalationPlan>,
    /// Who is told what when, outside.
    #[serde(default)]
    pub communication: Vec<CommunicationPlan>,
    /// When what of a review is due.
    pub review: Option<ReviewPlan>,
    /// What documents promise.
    #[serde(default)]
    pub promises: Vec<PromisePlan>,
    /// The service that keeps the plan.
    pub serve: Option<ServePlan>,
    /// Whom it tells, by name.
    #[serde(default)]
    pub notify: BTreeMap<String, NotifyPlan>,
}

/// A plan that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read {file}, line {line}{}: {what}", self.at_key())]
pub struct PlanError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The key, as a path, where one is concerned.
    pub key: Option<String>,
    /// What is wrong with it.
    pub what: String,
    /// The known key that is nearest to an unknown one.
    pub nearest: Option<String>,
}

impl PlanError {
    fn at_key(&self) -> String {
        self.key.as_ref().map(|key| format!(", {key}")).unwrap_or_default()
    }
}

impl Hint for PlanError {
    fn hint(&self) -> Option<String> {
        self.nearest.as_ref().map(|nearest| format!("Did you mean `{nearest}`?"))
    }
}

impl Plan {
    /// Reads a plan from its text; `file` only names it in errors.
    ///
    /// # Errors
    /// With line, what is wrong, and the nearest known key.
    pub fn parse(text: &str, file: &str) -> Result<Self, PlanError> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let what = error.message().to_owned();
            let lines = Lines::of(text);
            PlanError {
                file: file.to_owned(),
                line: lines.line(at),
                key: lines.key_at(at),
                nearest: nearest_key(&what),
                what,
            }
        })
    }

    /// The schema of a plan file, JSON Schema 2020-12, for editors.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}

/// From serde's message ``unknown field `x`, expected one of `a`, `b` ``, or the same of a variant.
fn nearest_key(message: &str) -> Option<String> {
    let unknown = ["unknown field ", "unknown variant "];
    let mut quoted =
        unknown.iter().find_map(|unknown| message.strip_prefix(unknown))?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    nearest(unknown, quoted).map(str::to_owned)
}

/// The word that somebody probably meant.
pub fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let nearest = known.min_by_key(|known| distance(unknown, known))?;
    (distance(unknown, nearest) <= unknown.len().max(3) / 2).then_some(nearest)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read() {
        let text = r#"
            [repository]
            url = "file:./repo"
            key = "env:LIFEBOAT_PASSPHRASE"
            [datasets.tree]
            store = "./tree"
            exclude = ["*.tmp"]
            retain = { hourly = 24, daily = 7, at_least = 3 }
        "#;
        let plan = Plan::parse(text, FILE_NAME).unwrap();
        assert_eq!(plan.repository.unwrap().url, "file:./repo");
        let retain = plan.datasets["tree"].retain.unwrap();
        assert_eq!((retain.hourly, retain.monthly, retain.at_least.unwrap().get()), (24, 0, 3));
    }

    #[test]
    fn a_plan_says_where_log_must_be_durable() {
        let protect = |text: &str| {
            let plan = Plan::parse(&format!("[datasets.x]\nstore = \"a\"\nprotect = {text}\n"), "p.toml")?;
            Ok::<_, PlanError>(plan.datasets["x"].protect.clone().unwrap())
        };
        assert_eq!(protect("{}").unwrap(), ProtectPlan::default());
        let spooled = protect(r#"{ ack = "spool", spool = "/var/spool/lifeboat", spool_limit = "2GiB" }"#);
        let spooled = spooled.unwrap();
        assert_eq!((spooled.ack, spooled.spool.as_deref()), (Ack::Spool, Some("/var/spool/lifeboat")));
        let hint = |text: &str| protect(text).unwrap_err().hint();
        assert_eq!(hint("{ acks = \"spool\" }").as_deref(), Some("Did you mean `ack`?"));
        assert_eq!(hint("{ ack = \"spol\" }").as_deref(), Some("Did you mean `spool`?"));
        assert!(protect("{ ack = 7 }").is_err());
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one_and_the_line() {
        let error = Plan::parse("[datasets.x]\nstore = \"a\"\nexcludes = []\n", "p.toml").unwrap_err();
        assert_eq!(error.line, 3, "{error}");
        assert_eq!(error.hint().as_deref(), Some("Did you mean `exclude`?"));
        let error = Plan::parse("[repository]\nurl = 7\n", "p.toml").unwrap_err();
        assert_eq!((error.line, error.hint()), (2, None));
        assert!(Plan::parse("[datasets.x]\nstore=\"a\"\nretain = { at_least = 0 }\n", "p").is_err());
    }
}
