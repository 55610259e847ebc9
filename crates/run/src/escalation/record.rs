//! What the journal has of people being told: what they are told of, who, and what became of each message.

use crate::event::Act;
use crate::journal::MAX_RECORD_BYTES;
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

/// One message is about so many things at the most.
const MOST_ABOUT: usize = 100;
/// A telling is at most so long in the journal, with room for what a record has beside it.
const MOST_BYTES: usize = MAX_RECORD_BYTES / 2;

impl Telling {
    /// As much of it as a record holds; what it is not about then is due in the next one. Where a single thing has more
    /// contacts than that, the last of them are left out, and channels are told before contacts.
    pub(crate) fn bounded(mut self) -> Self {
        self.about.truncate(MOST_ABOUT);
        while self.about.len() > 1 && self.bytes() > MOST_BYTES {
            self.about.truncate(self.about.len() / 2);
        }
        while self.bytes() > MOST_BYTES && self.shorten() {}
        self
    }

    fn bytes(&self) -> usize {
        serde_json::to_vec(self).map_or(usize::MAX, |bytes| bytes.len())
    }

    /// Halves every list; whether there was anything to halve.
    fn shorten(&mut self) -> bool {
        fn halve<T>(list: &mut Vec<T>) -> bool {
            let length = list.len();
            list.truncate(length / 2);
            length > 0
        }
        let mut is_shorter = halve(&mut self.to);
        for about in &mut self.about {
            is_shorter |= halve(&mut about.who) | halve(&mut about.actions);
            is_shorter |= about.next.as_mut().is_some_and(|next| halve(&mut next.who));
        }
        is_shorter
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn about(record: u64, names: usize) -> About {
        let who: Vec<String> = (0..names).map(|n| format!("contact-{n}")).collect();
        let at = Timestamp::from_secs(1_800_000_000);
        About {
            record,
            since: at,
            what: What::Failed { step: StepId::new("a").unwrap(), act: Act::Do },
            role: None,
            until: None,
            actions: who.clone(),
            next: Some(Next { at, who: who.clone() }),
            who,
            through_ms: 0,
        }
    }

    #[test]
    fn a_telling_fits_into_a_record_whatever_it_is_about() {
        for (things, names) in [(1, 1), (5000, 3), (90, 1000), (1, 100_000), (0, 0)] {
            let to = (0..names).map(|n| Recipient::Contact(format!("contact-{n}"))).collect();
            let about: Vec<About> = (0..things).map(|record| about(record, names)).collect();
            let telling = Telling { about, settled: false, to }.bounded();
            assert!(telling.bytes() <= MOST_BYTES, "{things} {names}");
            assert_eq!(telling.about.is_empty(), things == 0, "{things} {names}");
            assert!(telling.about.iter().all(|about| !about.who.is_empty()), "{things} {names}");
        }
    }
}
