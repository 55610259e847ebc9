//! What is agreed among people: severities, incidents, contacts, escalation, messages, reviews.

use crate::Plan;
use crate::span::Span;
use crate::text::text_schema;
use lifeboat_base::hex;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Somebody who carries out runbooks and agrees to their steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonPlan {
    /// What they may do: the roles that runbooks ask for.
    pub roles: Vec<String>,
    /// The public halves of what they sign with; without one they cannot agree to anything.
    #[serde(default)]
    pub keys: Vec<ApproverKey>,
}

/// The public half of a key that somebody signs approvals with: Ed25519 (RFC 8032), 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApproverKey(pub [u8; 32]);

impl TryFrom<String> for ApproverKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        hex::decode::<32>(&text)
            .map(Self)
            .ok_or_else(|| "an approver's public key has 64 hexadecimal digits".to_owned())
    }
}

impl fmt::Display for ApproverKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl From<ApproverKey> for String {
    fn from(key: ApproverKey) -> Self {
        key.to_string()
    }
}

text_schema!(
    ApproverKey,
    "ApproverKey",
    r"^[0-9a-f]{64}$",
    "The public half of a key that somebody signs approvals with: Ed25519, 64 hexadecimal digits."
);

/// A severity of incidents.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeverityPlan {
    /// Its name.
    pub name: Option<String>,
    /// What it means.
    pub description: Option<String>,
    /// How soon somebody must be at it.
    pub response: Span,
    /// An update at least every so long.
    pub updates: Option<Span>,
}

/// How severe a severity is by its name, 0 the most: the number that it ends with, or a word that everybody knows.
pub(crate) fn rank(name: &str) -> Option<u64> {
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    if digits > 0 {
        return name[name.len() - digits..].parse().ok();
    }
    let words: [&[&str]; 4] =
        [&["critical", "blocker"], &["high", "major"], &["medium", "moderate"], &["low", "minor"]];
    let name = name.to_ascii_lowercase();
    words.iter().position(|words| words.contains(&name.as_str())).map(|at| at as u64)
}

impl Plan {
    /// Whether what has a severity (or a level) concerns whoever is told `from` a severity or level on. Where that
    /// cannot be told it does: better told than not.
    pub fn concerns(&self, severity: Option<&str>, from: Option<&str>) -> bool {
        let (Some(severity), Some(from)) = (severity, from) else { return true };
        if severity == from {
            return true;
        }
        match (self.gravity(severity), self.gravity(from)) {
            (Some(severity), Some(from)) => severity <= from,
            _ => true,
        }
    }

    /// The rank of a severity, or of the severity that a level has.
    fn gravity(&self, name: &str) -> Option<u64> {
        match self.levels.get(name) {
            Some(level) => rank(level.severity.as_deref()?),
            None => rank(name),
        }
    }
}

/// A level of disaster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LevelPlan {
    /// What it means.
    pub description: Option<String>,
    /// What is done.
    pub response: String,
    /// The severity of an incident of this level.
    pub severity: Option<String>,
}

/// A kind of incident.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentPlan {
    /// Its severity.
    pub severity: String,
    /// What it means.
    pub description: Option<String>,
}

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContactPlan {
    /// What they do.
    pub role: Option<String>,
    /// Where they are reached: an address, a number, a channel.
    pub reach: Vec<String>,
    /// How long after the start they are told.
    pub after: Option<Span>,
    /// The severity or level from which on they are told; any, if left out.
    pub from: Option<String>,
}

/// A step of the escalation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscalationPlan {
    /// How long after the start.
    pub after: Span,
    /// What is done.
    pub action: String,
    /// The contact who is told.
    pub contact: Option<String>,
    /// The severity or level from which on; any, if left out.
    pub from: Option<String>,
}

/// What those outside are told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommunicationPlan {
    /// What is said, and where.
    pub what: String,
    /// How long after the start.
    pub after: Option<Span>,
    /// And again every so long.
    pub every: Option<Span>,
    /// How long after the end.
    pub after_resolution: Option<Span>,
}

/// When what of a review is due, after the end of an incident.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewPlan {
    /// What happened when is written down.
    pub timeline: Option<Span>,
    /// The people meet.
    pub meeting: Option<Span>,
    /// Everything that is to be done has an owner.
    pub actions: Option<Span>,
    /// The review is shared.
    pub shared: Option<Span>,
    /// The cause is known.
    pub cause: Option<Span>,
    /// It cannot happen again.
    pub prevention: Option<Span>,
}

/// What some document promises: each is held against what the plan says and against the others.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromisePlan {
    /// The document, and where in it.
    pub source: String,
    /// Of what: `system`, `failover`, `review`, or `services.NAME`, `datasets.NAME`, `tiers.NAME`.
    pub of: String,
    /// How fast it is back.
    pub rto: Option<Span>,
    /// How much of it may be lost.
    pub rpo: Option<Span>,
    /// How often a snapshot is taken.
    pub every: Option<Span>,
    /// How long snapshots are kept.
    pub kept: Option<Span>,
    /// How long the log is kept.
    pub window: Option<Span>,
    /// How much of the time it works.
    pub availability: Option<crate::amount::Availability>,
    /// The mean time to recovery.
    pub mttr: Option<Span>,
    /// How long a failover takes.
    pub failover: Option<Span>,
    /// How soon a failure is noticed.
    pub detect: Option<Span>,
    /// How far a replica may be behind.
    pub lag: Option<Span>,
    /// When the review has met.
    pub meeting: Option<Span>,
    /// When the review is shared.
    pub shared: Option<Span>,
    /// What it is called there.
    pub called: Option<String>,
    /// Where it is, or under which address it is probed.
    pub at: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_from_a_severity_on_is_told_of_what_is_worse() {
        let text = "[levels.L3]\nresponse = \"r\"\nseverity = \"SEV-1\"\n[levels.L9]\nresponse = \"r\"\n";
        let plan = Plan::parse(text, "p.toml").unwrap();
        for (severity, from, concerns) in [
            (Some("SEV-1"), Some("SEV-2"), true),
            (Some("SEV-2"), Some("SEV-2"), true),
            (Some("SEV-3"), Some("SEV-2"), false),
            (Some("SEV-2"), Some("L3"), false),
            (Some("SEV-1"), Some("L3"), true),
            (Some("SEV-4"), Some("L9"), true),
            (Some("purple"), Some("SEV-1"), true),
            (None, Some("SEV-1"), true),
            (Some("SEV-4"), None, true),
        ] {
            assert_eq!(plan.concerns(severity, from), concerns, "{severity:?} from {from:?}");
        }
    }
}
