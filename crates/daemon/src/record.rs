//! What happened, as the controller keeps it: a record is written before a job begins and after it ended, and
//! from the records alone everything else that the controller knows can be built again.
//!
//! A record is never changed. It carries no secret: the plan names secrets by reference.

use crate::task::TaskKey;
use lifeboat_base::clock::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Which record of a controller, from 1 without a gap.
pub type Sequence = u64;

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When.
    #[serde(with = "instant")]
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum What {
    /// The controller started on a host, with a plan.
    Started {
        /// The host.
        host: String,
        /// The release of Lifeboat.
        version: String,
        /// The plan as it was read.
        plan: String,
    },
    /// In a repository or a copy this host signs with a key: whoever recovers it knows which one to revoke.
    Signs {
        /// The identity of the repository or the copy.
        repository: String,
        /// The key's.
        writer: String,
    },
    /// The controller stopped as it was told to.
    Stopped,
    /// A job begins. Its number is that of this record.
    Began {
        /// Which task it does.
        task: TaskKey,
        /// The generation of leadership, where the job is shared among hosts.
        generation: Option<u64>,
    },
    /// A job ended.
    Ended {
        /// Which.
        job: Sequence,
        /// How.
        outcome: JobOutcome,
        /// What came of it, or why it failed.
        detail: Value,
    },
    /// A job's controller ended before the job did; found at the next start.
    Interrupted {
        /// Which.
        job: Sequence,
    },
    /// A dataset that is protected on change was looked at, and looked like this.
    Looked {
        /// The dataset.
        dataset: String,
        /// What it looked like: equal only where nothing has changed.
        likeness: String,
    },
    /// What the repository holds was read, bit by bit.
    Read {
        /// The identity of the repository.
        repository: String,
        /// When it was begun: what came later was not read.
        #[serde(with = "instant")]
        begun: Timestamp,
        /// Of where the objects stand, from where to where they were read, both included.
        shares: Vec<(u64, u64)>,
        /// The objects that are known to be damaged now. They are read each time, until they are sound or gone.
        damaged: Vec<String>,
    },
    /// This host leads.
    Led {
        /// Under which generation.
        generation: u64,
    },
    /// This host leads no more.
    Followed {
        /// The generation that leads now, where it is known.
        generation: Option<u64>,
    },
    /// Something that people may have to know of.
    Noted {
        /// About what: a dataset, a copy, the repository.
        subject: String,
        /// A stable word: `stalled`, `moving`, `lost`, `back`, …
        event: String,
        /// More of it.
        detail: Value,
    },
    /// The messages that are still to be told, whole.
    Messages {
        /// As the dispatcher keeps them.
        queue: Value,
    },
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobOutcome {
    /// It did what it should.
    Done,
    /// It did, but left something out.
    LeftOut,
    /// It could not tell.
    Inconclusive,
    /// It failed.
    Failed,
    /// The controller ended before it did.
    Interrupted,
}

impl JobOutcome {
    /// Whether the next one is due as planned, rather than soon again.
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Done | Self::LeftOut | Self::Inconclusive)
    }

    /// The word for people and programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::LeftOut => "left-out",
            Self::Inconclusive => "inconclusive",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// The outcome of a word.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Done, Self::LeftOut, Self::Inconclusive, Self::Failed, Self::Interrupted]
            .into_iter()
            .find(|outcome| outcome.word() == word)
    }
}

/// Instants as whole nanoseconds since the epoch: what is read back is what was written.
mod instant {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Timestamp};

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        at.as_nanos().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(deserializer).map(Timestamp::from_nanos)
    }
}

impl Record {
    /// As it ships: one line of JSON.
    ///
    /// # Errors
    /// None that a record can cause; serde's type says so nevertheless.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads one that shipped.
    ///
    /// # Errors
    /// Where it is none, or a newer release wrote it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskKind;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let task = TaskKey { kind: TaskKind::Snapshot, subject: "users".to_owned() };
        let records = [
            What::Started { host: "a".to_owned(), version: "1".to_owned(), plan: "x = 1\n".to_owned() },
            What::Began { task, generation: Some(3) },
            What::Ended { job: 2, outcome: JobOutcome::LeftOut, detail: serde_json::json!({ "files": 3 }) },
            What::Read {
                repository: "r".to_owned(),
                begun: Timestamp::from_nanos(1_800_000_000_000_000_001),
                shares: vec![(0, 7), (u64::MAX - 1, u64::MAX)],
                damaged: vec!["packs/00/1".to_owned()],
            },
            What::Stopped,
        ];
        for (n, what) in (0_i64..).zip(records) {
            let record = Record { at: Timestamp::from_nanos(1_800_000_000_123_456_789 + n), what };
            assert_eq!(Record::from_bytes(&record.to_bytes().unwrap()).unwrap(), record);
        }
        assert!(Record::from_bytes(br#"{"at":1,"what":"dreamt"}"#).is_err());
    }

    #[test]
    fn outcomes_have_words() {
        for word in ["done", "left-out", "inconclusive", "failed", "interrupted"] {
            assert_eq!(JobOutcome::of(word).unwrap().word(), word);
        }
        assert_eq!(JobOutcome::of("x"), None);
    }
}
