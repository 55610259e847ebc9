//! Consent: what exactly is agreed to, the signatures under it, and whether they still count.
//!
//! A statement binds the run, the block, its exact text with its values, exact facts by value and measured facts by
//! the bound that was shown. An approver signs the statement's SHA-256 together with their name. Whoever counts is
//! decided anew each time, from the people as they are then: distinct people, distinct keys, each of the role.

use crate::compare::{Compared, compare};
use crate::ids::RunId;
use crate::people::People;
use crate::resolve::Resolved;
use lifeboat_base::clock::Timestamp;
use lifeboat_evidence::{Digest, PublicKey, Sign, Signature, canonical};
use lifeboat_runbook::{Approval, Relation, StepId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What the signatures of approvals are separated by from everything else that a key signs.
const CONTEXT: &str = "lifeboat approval 1";

/// Exactly what is agreed to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The run.
    pub run: RunId,
    /// The step that this is about.
    pub step: StepId,
    /// The block that is to be carried out: the step's own.
    pub block: StepId,
    /// SHA-256 of the exact text with its values.
    pub text: Digest,
    /// The role of those who may agree.
    pub role: String,
    /// So many different people.
    pub quorum: u32,
    /// Facts that are agreed to as they are.
    pub facts: BTreeMap<String, String>,
    /// Measured facts that are agreed to up to a bound.
    pub bounds: Vec<ShownBound>,
    /// When it was asked for.
    #[serde(with = "crate::time")]
    pub asked: Timestamp,
    /// From when on it counts no more.
    #[serde(with = "crate::time")]
    pub expires: Timestamp,
}

/// A bound as it was shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShownBound {
    /// The fact.
    pub fact: String,
    /// How it is compared.
    pub relation: Relation,
    /// With what.
    pub limit: String,
    /// What it was when it was shown.
    pub shown: String,
}

/// A statement with a signature under it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The block that is agreed to.
    pub block: StepId,
    /// SHA-256 of the canonical statement.
    pub statement: Digest,
    /// Who agrees.
    pub by: String,
    /// With which key.
    pub key: PublicKey,
    /// Over the statement's SHA-256 and the name.
    pub signature: Signature,
}

/// Why an approval is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Nothing is asked for there.
    #[error("nobody asks for consent to {0}")]
    NotAsked(StepId),
    /// It is to something else than what is asked for now.
    #[error("{0} agreed to something that has changed since")]
    Changed(String),
    /// Too late.
    #[error("the question expired at {0}")]
    Expired(Timestamp),
    /// The plan has no such person.
    #[error("the plan has nobody called {0:?}")]
    Stranger(String),
    /// The person may not.
    #[error("{by} is no {role}")]
    Role {
        /// Who.
        by: String,
        /// Which role is needed.
        role: String,
    },
    /// The key is not theirs.
    #[error("the plan lists no such key for {0}")]
    Key(String),
    /// The signature is none.
    #[error("the signature is not that of {0}")]
    Signature(String),
    /// Once is enough.
    #[error("{0} has agreed already")]
    Twice(String),
}

impl Statement {
    /// What is agreed to with these facts.
    pub(crate) fn of(asking: &Asking<'_>, asked: Timestamp) -> Result<Self, String> {
        let approval = asking.approval;
        let value = |name: &str| {
            asking.facts.get(name).cloned().ok_or_else(|| format!("there is no value for {name}"))
        };
        let facts = approval.facts.iter().map(|fact| Ok((fact.name.clone(), value(&fact.name)?)));
        let bounds = approval.bounds.iter().map(|bound| {
            let fact = bound.fact.name.clone();
            Ok(ShownBound {
                shown: value(&fact)?,
                fact,
                relation: bound.relation,
                limit: bound.limit.clone(),
            })
        });
        Ok(Self {
            run: asking.run.clone(),
            step: asking.step.clone(),
            block: asking.resolved.block.clone(),
            text: asking.resolved.hash,
            role: approval.role.clone(),
            quorum: approval.quorum.get(),
            facts: facts.collect::<Result<_, String>>()?,
            bounds: bounds.collect::<Result<_, String>>()?,
            asked,
            expires: asked.plus(approval.expires.duration()),
        })
    }

    /// SHA-256 of the canonical form. A statement has texts, times and small numbers only, which all have one.
    pub fn digest(&self) -> Digest {
        let value = serde_json::to_value(self).unwrap_or_default();
        Digest::of(&canonical::to_bytes(&value).unwrap_or_default())
    }

    /// Agrees to it.
    pub fn sign(&self, by: &str, signer: &dyn Sign) -> Signed {
        let statement = self.digest();
        let signature = signer.sign(&message(&statement, by));
        Signed {
            block: self.block.clone(),
            statement,
            by: by.to_owned(),
            key: signer.public_key(),
            signature,
        }
    }

    /// Whether a signature counts under it.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn judge(&self, signed: &Signed, people: &People) -> Result<(), NotTaken> {
        let by = || signed.by.clone();
        if signed.statement != self.digest() {
            return Err(NotTaken::Changed(by()));
        }
        let person = people.get(&signed.by).ok_or_else(|| NotTaken::Stranger(by()))?;
        if !person.roles.contains(&self.role) {
            return Err(NotTaken::Role { by: by(), role: self.role.clone() });
        }
        if !person.keys.contains(&signed.key) {
            return Err(NotTaken::Key(by()));
        }
        if !signed.key.signed(&message(&signed.statement, &signed.by), &signed.signature) {
            return Err(NotTaken::Signature(by()));
        }
        Ok(())
    }

    /// How many different people with different keys agree, by the people as they are now.
    pub(crate) fn agreed(&self, given: &[Signed], people: &People) -> u32 {
        let counting: Vec<&Signed> =
            given.iter().filter(|signed| self.judge(signed, people).is_ok()).collect();
        let names: BTreeSet<&str> = counting.iter().map(|signed| signed.by.as_str()).collect();
        let keys: BTreeSet<PublicKey> = counting.iter().map(|signed| signed.key).collect();
        u32::try_from(names.len().min(keys.len())).unwrap_or(u32::MAX)
    }

    /// What is not as it was agreed to, if anything.
    pub(crate) fn changed(&self, asking: &Asking<'_>) -> Option<String> {
        if asking.resolved.hash != self.text {
            return Some(format!("the text of {} is another one", self.block));
        }
        let now = |name: &str| asking.facts.get(name).map(String::as_str);
        let fact = self.facts.iter().find(|(name, value)| now(name) != Some(value.as_str()));
        if let Some((name, was)) = fact {
            return Some(format!("{name} was {was}, and is {}", now(name).unwrap_or("not known")));
        }
        self.bounds.iter().find_map(|bound| bound.passed(now(&bound.fact)))
    }

    /// A bound that what is shown now already passes: nobody is asked to agree to that.
    pub(crate) fn passed_bound(&self) -> Option<String> {
        self.bounds.iter().find_map(|bound| bound.passed(Some(&bound.shown)))
    }
}

impl ShownBound {
    fn passed(&self, now: Option<&str>) -> Option<String> {
        let Some(now) = now else { return Some(format!("{} is not known", self.fact)) };
        match compare(now, self.relation, &self.limit) {
            Compared::Holds => None,
            Compared::Fails => Some(format!("{} is {now}, beyond {}", self.fact, self.limit)),
            Compared::Incomparable => {
                Some(format!("{} is {now}, which does not compare with {}", self.fact, self.limit))
            }
        }
    }
}

/// What consent is asked for, with the facts as they are now.
pub(crate) struct Asking<'a> {
    pub(crate) run: &'a RunId,
    pub(crate) step: &'a StepId,
    pub(crate) approval: &'a Approval,
    pub(crate) resolved: &'a Resolved,
    pub(crate) facts: &'a BTreeMap<String, String>,
}

fn message(statement: &Digest, by: &str) -> Vec<u8> {
    let mut message = Vec::new();
    for part in [CONTEXT.as_bytes(), &statement.0, by.as_bytes()] {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part);
    }
    message
}
