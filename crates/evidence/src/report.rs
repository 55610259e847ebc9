//! What verifying found: findings, each with its place; doubts; and how far each chain is witnessed.

use crate::bundle::Excerpt;
use crate::ids::{ChainId, WriterId};
use lifeboat_base::clock::Timestamp;
use serde_json::{Value, json};
use std::fmt;

/// What is wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// What stands there is no receipt, or nobody who may do so put it there.
    Unreadable(String),
    /// Its content is not what its writer signed.
    Changed,
    /// It names this writer, and another one signed it.
    Foreign(WriterId),
    /// It belongs to another place.
    Misplaced {
        /// Where it says that it belongs.
        chain: ChainId,
        /// And at which number.
        number: u64,
    },
    /// It stands behind receipts of higher numbers.
    Reordered,
    /// The same receipt is there twice.
    Duplicated,
    /// Its writer signed two different receipts of one number, or a second beginning.
    Forked,
    /// Receipts are missing that a later one names.
    Removed {
        /// The first one that is missing.
        from: u64,
        /// The last.
        to: u64,
    },
    /// Receipts at the end are missing that a witness has seen.
    TailRemoved {
        /// The first one that is missing.
        from: u64,
        /// The last one that was seen.
        to: u64,
        /// Who saw it.
        witness: Witness,
    },
    /// A witness saw another receipt at this number.
    Rewritten(Witness),
    /// Its writer had been revoked before.
    AfterRevocation(Timestamp),
    /// It lets others expire, and its writer may not.
    MayNotExpire,
    /// It lets receipts expire that are younger than its own retention.
    ExpiredEarly(ChainId),
}

impl Flaw {
    /// Its name, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Changed => "changed",
            Self::Foreign(_) => "foreign-signature",
            Self::Misplaced { .. } => "misplaced",
            Self::Reordered => "reordered",
            Self::Duplicated => "duplicated",
            Self::Forked => "forked",
            Self::Removed { .. } => "removed",
            Self::TailRemoved { .. } => "tail-removed",
            Self::Rewritten(_) => "rewritten",
            Self::AfterRevocation(_) => "after-revocation",
            Self::MayNotExpire => "may-not-expire",
            Self::ExpiredEarly(_) => "expired-early",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "what stands there is no receipt: {why}"),
            Self::Changed => f.write_str("its content is not what its writer signed"),
            Self::Foreign(writer) => write!(f, "it names this writer, and writer {writer} signed it"),
            Self::Misplaced { chain, number } => write!(f, "it belongs to chain {chain}, number {number}"),
            Self::Reordered => f.write_str("it stands behind receipts of higher numbers"),
            Self::Duplicated => f.write_str("the same receipt is there twice"),
            Self::Forked => f.write_str("its writer signed two different histories that meet here"),
            Self::Removed { from, to } => write!(f, "receipts {from} to {to} are missing"),
            Self::TailRemoved { from, to, witness } => {
                write!(f, "receipts {from} to {to} are missing at the end; seen by {witness}")
            }
            Self::Rewritten(witness) => write!(f, "another receipt stood here; seen by {witness}"),
            Self::AfterRevocation(at) => write!(f, "its writer was revoked at {at}"),
            Self::MayNotExpire => f.write_str("it lets receipts expire, and its writer is no maintainer"),
            Self::ExpiredEarly(chain) => {
                write!(f, "it lets receipts of chain {chain} expire before their time")
            }
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The chain.
    pub chain: ChainId,
    /// The number in it.
    pub number: u64,
    /// What is wrong.
    pub flaw: Flaw,
}

/// Why something could not be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoubtKind {
    /// The writer's public key is not among those that were given.
    UnknownWriter,
    /// A newer release wrote it, in a form of this version.
    Newer(u64),
}

impl fmt::Display for DoubtKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownWriter => f.write_str("its writer's public key is not among those that were given"),
            Self::Newer(version) => write!(f, "a newer release wrote it, as version {version}"),
        }
    }
}

/// Something that could not be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The chain.
    pub chain: ChainId,
    /// The first number in it.
    pub number: u64,
    /// Why.
    pub kind: DoubtKind,
}

/// Who saw a tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// A `heads` receipt.
    Receipt {
        /// Its chain.
        chain: ChainId,
        /// Its number.
        number: u64,
        /// Its time.
        at: Timestamp,
    },
    /// Whoever verifies remembers it.
    Memory,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Receipt { chain, number, at } => {
                write!(f, "receipt {number} of writer {} of {at}", chain.writer)
            }
            Self::Memory => f.write_str("this machine, which remembers it"),
        }
    }
}

/// What is known of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainReport {
    /// The chain.
    pub chain: ChainId,
    /// What people call its writer, by the keys.
    pub name: Option<String>,
    /// How many receipts count.
    pub receipts: u64,
    /// The number and the time of the first that counts.
    pub first: Option<(u64, Timestamp)>,
    /// The number and the time of the last that counts.
    pub last: Option<(u64, Timestamp)>,
    /// Up to which number its beginning was let expire.
    pub expired_through: Option<u64>,
    /// The highest number that a witness names, and who.
    pub witnessed: Option<(u64, Witness)>,
}

impl ChainReport {
    /// The receipts at the end whose removal would not have shown, from and to: nobody else had seen what comes
    /// after the last of them, nor these.
    pub fn unwitnessed(&self) -> Option<(u64, u64)> {
        let (last, _) = self.last?;
        let from = self.witnessed.map_or(self.first?.0, |(number, _)| number + 1);
        (from <= last).then_some((from, last))
    }

    /// What of the end cannot be told, for people.
    pub fn tail(&self) -> String {
        let what = "if receipts after it were removed, that cannot show";
        let Some((last, at)) = self.last else { return format!("no receipt counts; {what}") };
        match (self.unwitnessed(), self.witnessed) {
            (None, Some((_, witness))) => {
                format!("the end is receipt {last} of {at}, seen by {witness}; {what}")
            }
            (_, None) => {
                format!("the end is receipt {last} of {at}, which no other chain has seen; {what}")
            }
            (Some(_), Some((seen, witness))) => {
                format!("the end is receipt {last} of {at}; up to {seen} it was seen by {witness}; {what}")
            }
        }
    }
}

/// What it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong, as far as can be told.
    Sound,
    /// Something is wrong.
    Flawed,
    /// Nothing is known to be wrong, and not all could be judged.
    Inconclusive,
}

impl Verdict {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Flawed => "flawed",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// What verifying found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The chains.
    pub chains: Vec<ChainReport>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be judged.
    pub doubts: Vec<Doubt>,
    /// Where not everything was there to be verified.
    pub excerpt: Option<Excerpt>,
}

impl Report {
    /// What it comes to. Nothing at all is nothing proven.
    pub fn verdict(&self) -> Verdict {
        match (self.findings.is_empty(), self.doubts.is_empty()) {
            (false, _) => Verdict::Flawed,
            (true, false) => Verdict::Inconclusive,
            (true, true) => Verdict::Sound,
        }
    }

    /// How many receipts count.
    pub fn receipts(&self) -> u64 {
        self.chains.iter().map(|chain| chain.receipts).sum()
    }

    /// For programs.
    pub fn to_value(&self) -> Value {
        let place = |chain: &ChainId, number: u64| json!({ "repository": chain.repository, "writer": chain.writer, "number": number });
        let findings = self.findings.iter().map(|finding| {
            let mut value = place(&finding.chain, finding.number);
            value["finding"] = json!(finding.flaw.word());
            value["what"] = json!(finding.flaw.to_string());
            value
        });
        let doubts = self.doubts.iter().map(|doubt| {
            let mut value = place(&doubt.chain, doubt.number);
            value["what"] = json!(doubt.kind.to_string());
            value
        });
        let mut value = json!({
            "verdict": self.verdict().word(),
            "receipts": self.receipts(),
            "findings": findings.collect::<Vec<_>>(),
            "doubts": doubts.collect::<Vec<_>>(),
            "chains": self.chains.iter().map(chain_value).collect::<Vec<_>>(),
        });
        if let Some(excerpt) = &self.excerpt {
            value["excerpt"] = json!(excerpt);
        }
        value
    }
}

fn chain_value(chain: &ChainReport) -> Value {
    let end = |end: Option<(u64, Timestamp)>| {
        end.map(|(number, at)| json!({ "number": number, "at": at.to_string() }))
    };
    json!({
        "repository": chain.chain.repository,
        "writer": chain.chain.writer,
        "name": chain.name,
        "receipts": chain.receipts,
        "first": end(chain.first),
        "last": end(chain.last),
        "expired_through": chain.expired_through,
        "seen_through": chain.witnessed.map(|(number, _)| number),
        "seen_by": chain.witnessed.map(|(_, witness)| witness.to_string()),
        "tail": chain.tail(),
    })
}
