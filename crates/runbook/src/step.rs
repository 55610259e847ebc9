//! What a runbook compiles to: steps, what each needs, and what may be done with it when something goes wrong.
//! Everything here is settled: names resolve, defaults are filled in, the graph has no cycle.

use crate::front::Front;
use lifeboat_plan::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// A runbook that is sound.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Runbook {
    /// Its first heading.
    pub title: String,
    /// SHA-256 of the document's bytes: what a run is pinned to. In JSON lower-case hexadecimal.
    #[serde(serialize_with = "as_hex")]
    #[schemars(with = "String")]
    pub document: [u8; 32],
    /// What stands before its text.
    pub front: Front,
    /// Everything that can be carried out, in the document's order, each before whatever needs it.
    pub steps: Vec<Step>,
}

fn as_hex<S: serde::Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&lifeboat_base::hex::encode(bytes))
}

impl Runbook {
    /// The schema of what a runbook compiles to, JSON Schema 2020-12.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// A step by its name.
    pub fn step(&self, id: &StepId) -> Option<&Step> {
        self.steps.iter().find(|step| step.id == *id)
    }

    /// The steps that are carried out in order, without those that only undo or only look.
    pub fn forward(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.role == Role::Forward)
    }
}

/// A step's name: lower-case letters, digits and hyphens, beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StepId(String);

/// What is no name of a step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a step: lower-case letters, digits and hyphens, at most 64, beginning with a letter"
)]
pub struct StepIdError(String);

impl StepId {
    /// So many letters at the most.
    pub(crate) const LONGEST: usize = 64;

    /// Reads a name.
    ///
    /// # Errors
    /// Where it has other characters than it may have.
    pub fn new(text: &str) -> Result<Self, StepIdError> {
        let is_sound = text.len() <= Self::LONGEST
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if is_sound { Ok(Self(text.to_owned())) } else { Err(StepIdError(text.to_owned())) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl JsonSchema for StepId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StepId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[a-z][a-z0-9-]{0,63}$", "description": "A step's name." })
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StepId {
    type Err = StepIdError;

    fn from_str(text: &str) -> Result<Self, StepIdError> {
        Self::new(text)
    }
}

impl TryFrom<String> for StepId {
    type Error = StepIdError;

    fn try_from(text: String) -> Result<Self, StepIdError> {
        Self::new(&text)
    }
}

impl From<StepId> for String {
    fn from(id: StepId) -> Self {
        id.0
    }
}

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It is carried out in its order.
    Forward,
    /// It is carried out only to undo another.
    Undo,
    /// It only looks whether another was carried out (`repeat=check`).
    Probe,
}

/// Which part of the recovery time a step's time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Finding out that something is wrong.
    Detect,
    /// Deciding what to do.
    Decide,
    /// Waiting for consent.
    Approve,
    /// Doing it.
    Execute,
    /// Seeing that it worked.
    Verify,
    /// Letting users in again.
    Traffic,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Step {
    /// Its name.
    pub id: StepId,
    /// What people read: its `title`; of a person's step what is to be done; or else the first sentence of the
    /// paragraph that it stands right under, or the heading.
    pub title: String,
    /// The headings above it, outermost first, without the document's title.
    pub section: Vec<String>,
    /// The line of the document at which its block begins, from 1.
    pub line: u32,
    /// What it is for.
    pub role: Role,
    /// What is done.
    pub action: Action,
    /// Whether it only looks: it changes nothing, and its answer is yes, no, or that it cannot tell.
    pub is_check: bool,
    /// The steps that come before it; without `needs` the one that stands before it.
    pub needs: Vec<StepId>,
    /// It is stopped after so long.
    pub timeout: Span,
    /// How it is tried again after a failure, within one attempt of the run.
    pub retry: Option<Retry>,
    /// What a crash in the middle of it means.
    pub repeat: Repeat,
    /// How it is undone.
    pub undo: Undo,
    /// Who has to agree beforehand.
    pub approval: Option<Approval>,
    /// The values that are passed to it.
    pub passed: Vec<Passed>,
    /// The values that it leaves.
    pub outputs: Vec<Output>,
    /// What its answer must be, beyond that it ends well.
    pub expect: Option<Expectation>,
    /// Which part of the recovery time it is.
    pub phase: Phase,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Action {
    /// A person does it and says so.
    Person {
        /// What is to be done.
        text: String,
        /// The role of who does it; anybody, if none is named.
        role: Option<String>,
        /// Whether the document has it ticked already, which means nothing to a run.
        ticked: bool,
    },
    /// A script for bash, run with `-euo pipefail`.
    Bash {
        /// The script.
        script: String,
    },
    /// SQL for one database.
    Sql {
        /// The database: an address, a reference to one (`env:NAME`, `file:PATH`), or `${name}` of what is passed.
        on: String,
        /// The statements; `:'name'` stands for a passed value as a literal, `:"name"` for one as an identifier.
        script: String,
    },
    /// One HTTP request; `${name}` stands for a passed value.
    Http {
        /// The request.
        request: HttpRequest,
    },
    /// One command of Lifeboat's own, word by word; `${name}` stands for a passed value, within its word.
    Lifeboat {
        /// The words after `lifeboat`.
        words: Vec<String>,
    },
}

/// An HTTP request as it stands in the document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HttpRequest {
    /// The method.
    pub method: String,
    /// Where to.
    pub url: String,
    /// Its headers, in order.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Option<String>,
}

/// How a step is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Retry {
    /// So many times more.
    pub times: NonZeroU32,
    /// With so long in between.
    pub every: Span,
}

/// What a crash in the middle of a step means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Repeat {
    /// It may be carried out again.
    Safe,
    /// A probe decides: yes means that it was carried out, no that it was not.
    Check(StepId),
    /// Nobody but a person can say.
    Never,
}

/// How a step is undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// There is nothing to undo: it only looks, or a person did it.
    Nothing,
    /// By another block.
    By(StepId),
    /// It cannot be undone.
    Impossible {
        /// Why not, in the words of the document.
        reason: Option<String>,
    },
}

/// Who has to agree before a step, and to what.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Approval {
    /// The role of those who may.
    pub role: String,
    /// So many different people.
    pub quorum: NonZeroU32,
    /// Facts that are agreed to as they are: any change makes the approval void.
    pub facts: Vec<Fact>,
    /// Measured facts that are agreed to up to a bound.
    pub bounds: Vec<Bound>,
    /// It is void after so long.
    pub expires: Span,
}

/// A fact that an approval binds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fact {
    /// Its name.
    pub name: String,
    /// Where its value is from. What a check says is asked again right before the step.
    pub source: Source,
}

/// A measured fact and how far it may go.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Bound {
    /// The fact.
    pub fact: Fact,
    /// How it is compared.
    pub relation: Relation,
    /// With what: a number, a length of time or a size, as the document writes it.
    pub limit: String,
}

/// How a value is compared with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Relation {
    /// `<`
    #[serde(rename = "<")]
    Less,
    /// `<=`
    #[serde(rename = "<=")]
    AtMost,
    /// `>`
    #[serde(rename = ">")]
    More,
    /// `>=`
    #[serde(rename = ">=")]
    AtLeast,
    /// `==`
    #[serde(rename = "==")]
    Equal,
}

/// Where a value is from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// An input of the run.
    Input(String),
    /// An output of a step.
    Output {
        /// The step.
        step: StepId,
        /// Its output.
        name: String,
    },
}

/// A value that is passed to a step: an environment variable of a script, a variable of everything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Passed {
    /// Its name within the step.
    pub name: String,
    /// Where it is from.
    pub source: Source,
}

/// A value that a step leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Where it stands in what the step answers (RFC 6901), where that is JSON. A script writes `name=value` lines
    /// to the file `$LIFEBOAT_OUTPUT`; SQL leaves the columns of its last row.
    pub pointer: Option<String>,
}

/// What a step's answer must be: the status of an HTTP answer, the first value of SQL's last row, or what a script
/// prints, trimmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Expectation {
    /// How it is compared.
    pub relation: Relation,
    /// With what.
    pub value: String,
}
