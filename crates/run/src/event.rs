//! What happens in a run, as the journal has it. What a run is like is derived from these and from nothing else.

use crate::approval::{Signed, Statement};
use crate::escalation::{Telling, Told};
use crate::ids::{Generation, RequestId, RunId};
use lifeboat_base::clock::Timestamp;
use lifeboat_evidence::Digest;
use lifeboat_plan::Span;
use lifeboat_runbook::{Phase, StepId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A record of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its number in the run, from 1, over all generations.
    pub number: u64,
    /// Who wrote it.
    pub generation: Generation,
    /// When; never before the record before it.
    #[serde(with = "crate::time")]
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
    /// Which request of the mirror it answers, where it answers one: that one is not heard again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<Heard>,
}

/// A request that was left in the mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heard {
    /// Which.
    pub id: RequestId,
    /// Who put it there, as far as the mirror vouches for that: a key's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Event {
    /// The run was begun.
    Begun(Begun),
    /// Something is about to be done: written and synced before it is.
    Intent(Intent),
    /// What came of it.
    Outcome(Outcome),
    /// Somebody leaves a step out.
    Skipped(Said),
    /// Somebody wants a step that failed, or its undo, to be tried again.
    Again(Said),
    /// Somebody says what happened to a step that nobody else can know about.
    Settled {
        /// The step.
        step: StepId,
        /// Whether it was carried out.
        done: bool,
        /// Who says so.
        by: String,
        /// What makes them sure.
        reason: String,
        /// What it left, as they found it.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        outputs: BTreeMap<String, String>,
    },
    /// Facts were asked again before an approval or an intent.
    Measured {
        /// The block that consent is asked for.
        block: StepId,
        /// Their values.
        facts: BTreeMap<String, String>,
    },
    /// Consent is asked for.
    ApprovalAsked(Statement),
    /// Somebody consents.
    ApprovalGiven(Signed),
    /// What was agreed to is not so any more: everybody is asked again.
    ApprovalVoid {
        /// The block that was agreed to.
        block: StepId,
        /// What changed.
        why: String,
    },
    /// Nobody consented in time, or the step was not begun in time.
    ApprovalExpired {
        /// The block that was agreed to.
        block: StepId,
    },
    /// No step is begun any more.
    Paused {
        /// Who wants that; nobody where the run stopped by itself.
        by: Option<String>,
        /// Why.
        reason: String,
    },
    /// Steps are begun again.
    Resumed {
        /// Who wants that.
        by: String,
    },
    /// The run is given up.
    AbortAsked {
        /// Who wants that.
        by: String,
        /// Why.
        reason: String,
        /// Whether what was done is undone.
        undo: bool,
    },
    /// A mirrored run goes on though its mirror is silent: nothing waits for it any more. What is recorded is still
    /// brought there when it answers again.
    MirrorLeft {
        /// Who wants that.
        by: String,
        /// How they know that nobody goes on with it elsewhere.
        reason: String,
    },
    /// Another executor goes on with it.
    TakenOver(TakenOver),
    /// Something that was asked for and not done.
    Refused {
        /// Who asked.
        by: String,
        /// For what.
        what: String,
        /// Why not.
        why: String,
    },
    /// What the executor found on opening the journal, or about its mirror.
    Noted {
        /// What.
        what: String,
    },
    /// People are about to be told what the run waits for them for, or that it is settled.
    Telling(Telling),
    /// What became of that.
    Told(Told),
    /// People should be told, and nobody can be.
    NobodyToTell {
        /// Why not.
        why: String,
    },
    /// The run is over.
    Ended {
        /// How.
        how: Ending,
    },
}

/// How a run was begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begun {
    /// Its name.
    pub run: RunId,
    /// The runbook's title.
    pub title: String,
    /// SHA-256 of the document.
    pub document: Digest,
    /// What it was given.
    pub inputs: BTreeMap<String, Given>,
    /// Who began it.
    pub by: String,
    /// Where.
    pub host: String,
    /// Where it is mirrored, if it is.
    pub mirror: Option<String>,
    /// When what it recovers from began, if somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::option")]
    pub since: Option<Timestamp>,
    /// How fast everything is to be back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto: Option<Span>,
}

/// The value of an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Given {
    /// A value.
    Value(String),
    /// Where a secret is; never the secret.
    Secret(String),
}

/// What is done with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// It is carried out.
    Do,
    /// It is undone.
    Undo,
}

/// What an act is made of: itself, or a look whether it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The block itself.
    Itself,
    /// Its probe.
    Probe,
}

/// What a crash in the middle means, as the journal has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Again {
    /// It may be done again.
    Safe,
    /// A probe says whether it was done.
    Check,
    /// A person has to say.
    Never,
}

/// What is about to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The step that this is about.
    pub step: StepId,
    /// Done or undone.
    pub act: Act,
    /// Itself or its probe.
    pub part: Part,
    /// The block that is carried out: the step's own, its undo's or its probe's.
    pub block: StepId,
    /// How often this act was begun, with this time.
    pub attempt: u32,
    /// What a crash in the middle of it means.
    pub repeat: Again,
    /// Which part of the recovery time it is.
    pub phase: Phase,
    /// SHA-256 of the exact text with its values.
    pub text: Digest,
}

/// What came of an intent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The step that this is about.
    pub step: StepId,
    /// Done or undone.
    pub act: Act,
    /// Itself or its probe.
    pub part: Part,
    /// Which attempt.
    pub attempt: u32,
    /// How it ended.
    pub result: Ended,
    /// What it left, masked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Who says so, where a person does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// How something ended. Of a probe: it happened, it did not happen, nobody can tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ended", rename_all = "kebab-case")]
pub enum Ended {
    /// Well.
    Done,
    /// It failed.
    Failed {
        /// Why.
        why: String,
    },
    /// Nobody can tell.
    Unknown {
        /// Why not.
        why: String,
    },
    /// It was certainly not begun: nothing happened.
    NotBegun {
        /// Why not.
        why: String,
    },
}

/// What a person said about a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// The step.
    pub step: StepId,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// How another executor came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakenOver {
    /// Who.
    pub by: String,
    /// Where.
    pub host: String,
    /// What a person says about the other executor, where one had to.
    pub statement: Option<String>,
    /// The last record that counts of the generation before, by its chain value.
    pub after: Digest,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Every step was done or left out.
    Done,
    /// It was given up, and nothing undone.
    Aborted,
    /// It was given up, and all that can be undone is undone.
    Undone,
    /// It was given up, and something that should have been undone is not.
    UndoneInPart,
}

impl Outcome {
    /// Whether it certainly was not begun.
    pub fn was_not_begun(&self) -> bool {
        matches!(self.result, Ended::NotBegun { .. })
    }
}

impl Event {
    /// The step that this is about, where it changes one.
    pub fn step(&self) -> Option<&StepId> {
        match self {
            Self::Intent(Intent { step, .. })
            | Self::Outcome(Outcome { step, .. })
            | Self::Skipped(Said { step, .. })
            | Self::Again(Said { step, .. })
            | Self::Settled { step, .. } => Some(step),
            _ => None,
        }
    }
}
