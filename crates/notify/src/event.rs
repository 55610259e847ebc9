//! What people are told of, and the message that tells them.

use crate::nanos;
use lifeboat_base::clock::Timestamp;
use serde::{Deserialize, Serialize};

/// What sort of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An objective is missed.
    Breach,
    /// An objective is still met, and something is wrong.
    AtRisk,
    /// A stream says nothing any more.
    Stall,
    /// A proof failed, or could not tell.
    ProofFailed,
    /// A job failed or is late.
    JobFailed,
    /// A copy is behind, or does not answer.
    CopyLags,
    /// A repository, store or component does not answer.
    Down,
    /// How something stands cannot be told.
    Unknown,
    /// Somebody else leads.
    LeaderChanged,
    /// A run waits for people.
    PeopleNeeded,
    /// A sign of life.
    Heartbeat,
    /// Somebody asked for it.
    Test,
}

impl Kind {
    /// The word for it, as JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Breach => "breach",
            Self::AtRisk => "at_risk",
            Self::Stall => "stall",
            Self::ProofFailed => "proof_failed",
            Self::JobFailed => "job_failed",
            Self::CopyLags => "copy_lags",
            Self::Down => "down",
            Self::Unknown => "unknown",
            Self::LeaderChanged => "leader_changed",
            Self::PeopleNeeded => "people_needed",
            Self::Heartbeat => "heartbeat",
            Self::Test => "test",
        }
    }

    /// The words for it, as people read it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Breach => "objective missed",
            Self::AtRisk => "objective at risk",
            Self::Stall => "stream stalled",
            Self::ProofFailed => "proof not passed",
            Self::JobFailed => "job failed",
            Self::CopyLags => "copy behind",
            Self::Down => "not reachable",
            Self::Unknown => "cannot be told",
            Self::LeaderChanged => "leader changed",
            Self::PeopleNeeded => "people are needed",
            Self::Heartbeat => "sign of life",
            Self::Test => "test",
        }
    }
}

/// Where in the life of a condition a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It began.
    Began,
    /// It still holds.
    Reminder,
    /// It is over.
    Recovered,
    /// It has no duration: something happened, once.
    Once,
}

impl Phase {
    /// The word for it, as JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Began => "began",
            Self::Reminder => "reminder",
            Self::Recovered => "recovered",
            Self::Once => "once",
        }
    }
}

/// Something that people are told of. Nothing in it may be a secret: all of it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What makes it the same condition as before: as long as it holds, people are told once.
    pub key: String,
    /// What sort of thing it is.
    pub kind: Kind,
    /// What it is about: a dataset, a job, a copy.
    pub about: String,
    /// What is wrong, in one clause.
    pub what: String,
    /// How bad that is, in the plan's own words.
    pub severity: Option<String>,
}

/// One message, as it is sent and sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The same for every attempt: by it, a receiver knows a repetition.
    pub id: String,
    /// The system's name.
    pub system: String,
    /// What it tells.
    pub event: Event,
    /// Where in the life of the condition it is.
    pub phase: Phase,
    /// Since when the condition holds or held.
    #[serde(with = "nanos")]
    pub since: Timestamp,
    /// When the message was made.
    #[serde(with = "nanos")]
    pub at: Timestamp,
    /// One line.
    pub subject: String,
    /// The text.
    pub body: String,
}
