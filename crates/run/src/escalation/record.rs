//! What the journal has of people being told: what they are told of, who, and what became of each message.

use crate::event::Act;
use lifeboat_base::clock::Timestamp;
use lifeboat_runbook::StepId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a run waits for people for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "kebab-case")]
pub enum What {
    /// Somebody agrees.
    Consent {
        /// To which block.
        block: StepId,
    },
    /// Somebody does what a step says.
    Person {
        /// The step.
        step: StepId,
        /// Done or undone.
        act: Act,
    },
    /// A step failed, or could not be begun: somebody decides.
    Failed {
        /// The step.
        step: StepId,
        /// Done or undone.
        act: Act,
    },
    /// Nobody knows whether a step happened: somebody finds out.
    Unknown {
        /// The step.
        step: StepId,
        /// Done or undone.
        act: Act,
    },
    /// The run stopped by itself: somebody lets it go on.
    Stopped,
}

impl What {
    /// The step that it is about, where it is about one.
    pub fn step(&self) -> Option<&StepId> {
        match self {
            Self::Consent { block } => Some(block),
            Self::Person { step, .. } | Self::Failed { step, .. } | Self::Unknown { step, .. } => Some(step),
            Self::Stopped => None,
        }
    }
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipient {
    /// To a channel of the plan, by its name.
    Channel(String),
    /// To a contact by mail, by their name.
    Contact(String),
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(name) => f.write_str(name),
            Self::Contact(name) => write!(f, "mail to {name}"),
        }
    }
}

/// Who is told next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Next {
    /// When, unless it is settled before.
    #[serde(with = "crate::time")]
    pub at: Timestamp,
    /// The contacts.
    pub who: Vec<String>,
}

/// One thing that people are told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The record with which the waiting began.
    pub record: u64,
    /// When that was.
    #[serde(with = "crate::time")]
    pub since: Timestamp,
    /// What is waited for.
    pub what: What,
    /// The role that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Until when it can be given.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::option")]
    pub until: Option<Timestamp>,
    /// The contacts whom this is for.
    pub who: Vec<String>,
    /// What the plan says that is done by now, beside telling somebody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// The escalation has come so far, in milliseconds since the waiting began.
    pub through_ms: u64,
    /// Who is told next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
}

/// A message that is about to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telling {
    /// What it is about.
    pub about: Vec<About>,
    /// Whether it says that this is settled.
    pub settled: bool,
    /// Where it goes; nowhere, where none of those whom it is for can be reached.
    pub to: Vec<Recipient>,
}

/// What became of a message, or of its first attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// The record that it was about to be sent with.
    pub telling: u64,
    /// Where it went.
    pub to: Recipient,
    /// How often that was tried.
    pub attempts: u32,
    /// Why it did not arrive, where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether that is the end of it: else it is tried again.
    pub over: bool,
}
