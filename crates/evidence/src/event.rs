//! What was done and what was seen: the part of a receipt that whoever did it says.

use crate::ids::{ChainId, Digest};
use lifeboat_base::clock::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// A text is cut to so many bytes: a receipt is one small object.
const MAX_TEXT_BYTES: usize = 4096;
/// So many reasons are kept; how many more there were is said.
const MAX_REASONS: usize = 50;
/// Integers beyond it are not exact in every reader's arithmetic (RFC 8785).
const MAX_EXACT: u64 = 1 << 53;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// A snapshot was taken.
    Backup,
    /// A snapshot was restored into scratch and questioned.
    Proof,
    /// A recovery point was put back.
    Restore,
    /// A recovery point was written in its engine's own form.
    Export,
    /// A backup of another tool was taken in.
    Import,
    /// Snapshots were copied to another repository.
    Copy,
    /// Space was given back.
    Prune,
    /// What is kept was read and compared with what it should be.
    Check,
    /// Snapshots were forgotten by name.
    Forget,
    /// A hold was set or ended.
    Hold,
    /// Content was read with a key, and handed out.
    KeyUse,
    /// A key slot was added, replaced or retired.
    KeyChange,
    /// A writer was enrolled, changed or revoked.
    WriterChange,
    /// The plan was changed.
    PlanChange,
    /// Who may do what, or how long something is kept, was changed.
    PolicyChange,
    /// A runbook was carried out, or a part of it.
    Run,
    /// A scheduled job came to nothing.
    JobFailed,
    /// The tips of other chains, witnessed.
    Heads,
    /// Beginnings of chains that may be removed.
    Expired,
    /// A word of a later release.
    Other(String),
}

const ACTIONS: &[(Action, &str)] = &[
    (Action::Backup, "backup"),
    (Action::Proof, "proof"),
    (Action::Restore, "restore"),
    (Action::Export, "export"),
    (Action::Import, "import"),
    (Action::Copy, "copy"),
    (Action::Prune, "prune"),
    (Action::Check, "check"),
    (Action::Forget, "forget"),
    (Action::Hold, "hold"),
    (Action::KeyUse, "key-use"),
    (Action::KeyChange, "key-change"),
    (Action::WriterChange, "writer-change"),
    (Action::PlanChange, "plan-change"),
    (Action::PolicyChange, "policy-change"),
    (Action::Run, "run"),
    (Action::JobFailed, "job-failed"),
    (Action::Heads, "heads"),
    (Action::Expired, "expired"),
];

impl Action {
    /// As it is written.
    pub fn word(&self) -> &str {
        if let Self::Other(word) = self {
            return word;
        }
        ACTIONS.iter().find(|(action, _)| action == self).map_or("", |(_, word)| word)
    }

    /// Reads a word; one that is not known is of a later release.
    pub fn from_word(word: &str) -> Self {
        let known = ACTIONS.iter().find(|(_, known)| *known == word);
        known.map_or_else(|| Self::Other(word.to_owned()), |(action, _)| action.clone())
    }

    /// The words of all that are known.
    pub fn words() -> impl Iterator<Item = &'static str> {
        ACTIONS.iter().map(|(_, word)| *word)
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|word| Self::from_word(&word))
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All of it was done; of a proof: proven.
    Done,
    /// It failed.
    Failed,
    /// It could not be told.
    Inconclusive,
    /// It was done, and some items were left out.
    LeftOut,
    /// It was begun, and nobody said how it ended: its process was killed.
    Interrupted,
}

impl Outcome {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
            Self::LeftOut => "left-out",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// A person, or what a person set up, by the command line.
    Operator,
    /// `lifeboat serve`, by its schedule.
    Serve,
}

impl Who {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Serve => "serve",
        }
    }
}

/// What it was done to; each part only where there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The snapshot's identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The recovery point, as it was resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<String>,
}

impl Subject {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A measured or observed value. It is made from numbers, truths, texts and lists of these, and from nothing
/// that holds a secret:
///
/// ```compile_fail
/// let secret = lifeboat_base::Secret::new(b"hunter2".to_vec());
/// let fact = lifeboat_evidence::Fact::from(secret);
/// ```
///
/// ```
/// let fact = lifeboat_evidence::Fact::from("LSN 0/3000028");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fact(Value);

impl Fact {
    /// The value.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// The number, where it is one.
    pub fn number(&self) -> Option<f64> {
        self.0.as_f64()
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Value::String(text) => f.write_str(text),
            other => other.fmt(f),
        }
    }
}

impl From<u64> for Fact {
    fn from(count: u64) -> Self {
        Self(if count <= MAX_EXACT { count.into() } else { count.to_string().into() })
    }
}

impl From<bool> for Fact {
    fn from(truth: bool) -> Self {
        Self(truth.into())
    }
}

impl From<&str> for Fact {
    fn from(text: &str) -> Self {
        Self(cut(text).into())
    }
}

impl From<String> for Fact {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// In seconds, to the microsecond.
impl From<Duration> for Fact {
    fn from(time: Duration) -> Self {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self(Value::from(micros as f64 / 1e6))
    }
}

impl<T: Into<Self>> FromIterator<T> for Fact {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(Value::Array(items.into_iter().map(|item| item.into().0).collect()))
    }
}

fn cut(text: &str) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text.to_owned();
    }
    let end = (0..=MAX_TEXT_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// Which plan was in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanVersion {
    /// Its version, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// SHA-256 of its text.
    pub hash: Digest,
}

/// What was lost, as measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// In seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<Fact>,
    /// In acknowledged writes, where a ledger counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<u64>,
}

/// The tip of a chain, as somebody saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The chain.
    #[serde(flatten)]
    pub chain: ChainId,
    /// The number of its last receipt.
    pub number: u64,
    /// That receipt's hash.
    pub hash: Digest,
}

/// The beginning of a chain that may be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expired {
    /// The chain.
    #[serde(flatten)]
    pub chain: ChainId,
    /// The number of the last receipt that goes.
    pub through: u64,
    /// That receipt's hash.
    pub hash: Digest,
    /// That receipt's time.
    #[serde(with = "crate::time")]
    pub at: Timestamp,
    /// How long receipts were kept, in days.
    pub retention_days: u32,
}

/// What was done and what was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Event {
    /// What was done.
    pub action: Action,
    /// To what.
    #[serde(default, skip_serializing_if = "Subject::is_empty")]
    pub subject: Subject,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it is not done, or not all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// When it began, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::option")]
    pub started: Option<Timestamp>,
    /// The plan in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanVersion>,
    /// What was measured and observed, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, Fact>,
    /// How long its parts took, in seconds, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub timings: BTreeMap<String, Fact>,
    /// Checksums, by what they are of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checksums: BTreeMap<String, String>,
    /// The identities of the keys that were used: key slots, epochs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub keys: BTreeSet<String>,
    /// What was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// The tips of other chains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<Head>,
    /// Beginnings that may be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expired: Vec<Expired>,
}

impl Event {
    /// Something that was done.
    pub fn new(action: Action, outcome: Outcome) -> Self {
        Self {
            action,
            subject: Subject::default(),
            outcome,
            reasons: Vec::new(),
            started: None,
            plan: None,
            facts: BTreeMap::new(),
            timings: BTreeMap::new(),
            checksums: BTreeMap::new(),
            keys: BTreeSet::new(),
            loss: None,
            heads: Vec::new(),
            expired: Vec::new(),
        }
    }

    /// To which dataset.
    #[must_use]
    pub fn dataset(mut self, name: impl Into<String>) -> Self {
        self.subject.dataset = Some(name.into());
        self
    }

    /// To or from which snapshot.
    #[must_use]
    pub fn snapshot(mut self, id: impl fmt::Display) -> Self {
        self.subject.snapshot = Some(id.to_string());
        self
    }

    /// To which recovery point.
    #[must_use]
    pub fn point(mut self, point: impl fmt::Display) -> Self {
        self.subject.point = Some(cut(&point.to_string()));
        self
    }

    /// Why it is not done, or not all of it.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        match self.reasons.len() {
            0..MAX_REASONS => self.reasons.push(cut(reason)),
            MAX_REASONS => self.reasons.push("and more that are not listed here".to_owned()),
            _ => {}
        }
        self
    }

    /// When it began.
    #[must_use]
    pub fn started(mut self, at: Timestamp) -> Self {
        self.started = Some(at);
        self
    }

    /// Something that was measured or observed.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<Fact>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// How long a part of it took.
    #[must_use]
    pub fn took(mut self, part: &str, time: Duration) -> Self {
        self.timings.insert(part.to_owned(), time.into());
        self
    }

    /// A checksum.
    #[must_use]
    pub fn checksum(mut self, of: &str, value: impl fmt::Display) -> Self {
        self.checksums.insert(of.to_owned(), value.to_string());
        self
    }

    /// A key that was used, by its identity.
    #[must_use]
    pub fn key(mut self, id: impl fmt::Display) -> Self {
        self.keys.insert(id.to_string());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_back_to_actions() {
        for (action, word) in ACTIONS {
            assert_eq!((Action::from_word(word), action.word()), (action.clone(), *word));
        }
        assert_eq!(Action::from_word("teleport"), Action::Other("teleport".to_owned()));
    }

    #[test]
    fn an_event_is_written_without_what_it_does_not_say_and_read_back() {
        let event = Event::new(Action::Backup, Outcome::LeftOut)
            .dataset("users")
            .because("one file")
            .took("store", Duration::from_nanos(1_234_567))
            .fact("bytes", u64::MAX)
            .fact("tables", ["a", "b"].into_iter().collect::<Fact>());
        let json = serde_json::to_value(&event).unwrap();
        let expected = serde_json::json!({
            "action": "backup", "subject": { "dataset": "users" }, "outcome": "left-out",
            "reasons": ["one file"], "timings": { "store": 0.001234 },
            "facts": { "bytes": "18446744073709551615", "tables": ["a", "b"] },
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }

    #[test]
    fn texts_and_lists_stay_small() {
        let long = "é".repeat(MAX_TEXT_BYTES);
        assert!(Fact::from(long.as_str()).to_string().len() <= MAX_TEXT_BYTES + 3);
        let event =
            (0..1000).fold(Event::new(Action::Prune, Outcome::Failed), |event, _| event.because(&long));
        assert_eq!(event.reasons.len(), MAX_REASONS + 1);
    }
}
