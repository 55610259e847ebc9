//! A bundle: chains as they were read from where they lie, with the public keys, as one JSON document that can be
//! verified anywhere.
//!
//! It says what it saw and judges nothing; what could not be read is in it as well, with the reason.

use crate::canonical::{self, CanonicalError};
use crate::chains::{Chains, ChainsError, Stored, all_numbers};
use crate::ids::{ChainId, RepositoryId};
use crate::keys::{KeyRing, KeyRingError};
use crate::receipt::{ReceiptError, SignedReceipt};
use lifeboat_base::Hint;
use lifeboat_base::clock::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// The version of the document's form.
const VERSION: u64 = 1;
/// Where heads name what is not read yet, so often is read on.
const MAX_ROUNDS: u32 = 100;

/// What stands at a number of a chain.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A receipt.
    Receipt(Box<SignedReceipt>),
    /// A receipt of a later release.
    Newer(u64),
    /// No receipt, and why not.
    Unreadable(String),
}

/// A number of a chain with what stands there.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Where it stands.
    pub number: u64,
    /// What it is.
    pub content: Content,
}

/// A chain, in the order in which it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Whose.
    pub id: ChainId,
    /// What stands in it.
    pub placed: Vec<Placed>,
}

impl Chain {
    /// What is a receipt, whatever its signature is worth.
    pub fn receipts(&self) -> impl Iterator<Item = &SignedReceipt> {
        self.placed.iter().filter_map(|placed| match &placed.content {
            Content::Receipt(signed) => Some(&**signed),
            _ => None,
        })
    }
}

/// The time that an excerpt is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// Receipts before this are left out.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::option")]
    pub from: Option<Timestamp>,
    /// Receipts after this are.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::option")]
    pub to: Option<Timestamp>,
}

impl Excerpt {
    /// Whether a time lies in it.
    pub fn holds(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at <= to)
    }
}

/// Chains and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// The repository that the chains were read from.
    pub repository: RepositoryId,
    /// The chains.
    pub chains: Vec<Chain>,
    /// The public keys that the repository knew; whoever verifies decides whether to believe them.
    pub keys: KeyRing,
    /// Where it does not hold everything.
    pub excerpt: Option<Excerpt>,
}

/// A document that is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is no JSON.
    #[error("read the export")]
    Json(#[source] CanonicalError),
    /// It is JSON of another form.
    #[error("read the export")]
    Form(#[source] serde_json::Error),
    /// Its keys cannot be read.
    #[error("read the export")]
    Keys(#[source] KeyRingError),
    /// A newer release wrote it.
    #[error("the export is of version {0}, and this release reads version {VERSION}")]
    Newer(u64),
    /// A chain is in it twice.
    #[error("chain {0} is in the export twice")]
    Twice(ChainId),
}

impl Hint for BundleError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Newer(_) => "Use a release of Lifeboat at least as new as the one that wrote it.",
            _ => "Give a file that `lifeboat evidence export --format json` wrote, unchanged.",
        };
        Some(hint.to_owned())
    }
}

impl Bundle {
    /// Reads all chains. What heads name that was appended meanwhile is read as well, so that it does not look
    /// removed.
    ///
    /// # Errors
    /// Where the place of chains fails as a whole.
    pub fn collect(
        chains: &dyn Chains,
        repository: RepositoryId,
        keys: KeyRing,
    ) -> Result<Self, ChainsError> {
        let mut found = BTreeMap::new();
        for id in chains.chains()? {
            let numbers = all_numbers(chains, &id, 0)?.unwrap_or_default();
            let mut chain = Chain { id, placed: Vec::new() };
            read(chains, &mut chain, numbers)?;
            found.insert(id, chain);
        }
        for _ in 0..MAX_ROUNDS {
            if !read_on(chains, &mut found)? {
                break;
            }
        }
        Ok(Self { repository, chains: found.into_values().collect(), keys, excerpt: None })
    }

    /// Leaves out what is before or after a time. A chain keeps everything between its first and its last receipt
    /// of that time, so that its links can be followed.
    #[must_use]
    pub fn excerpt(mut self, excerpt: Excerpt) -> Self {
        for chain in &mut self.chains {
            let inside = |placed: &Placed| match &placed.content {
                Content::Receipt(signed) => excerpt.holds(signed.receipt().draft.at),
                _ => false,
            };
            let first = excerpt.from.map_or(Some(0), |_| chain.placed.iter().position(inside));
            let end = chain.placed.len().checked_sub(1);
            let last = excerpt.to.map_or(end, |_| chain.placed.iter().rposition(inside));
            let kept = first.zip(last).map(|(first, last)| chain.placed[first..=last].to_vec());
            chain.placed = kept.unwrap_or_default();
        }
        self.chains.retain(|chain| !chain.placed.is_empty());
        self.excerpt = Some(excerpt);
        self
    }

    /// Every receipt, whatever its signature is worth.
    pub fn receipts(&self) -> impl Iterator<Item = &SignedReceipt> {
        self.chains.iter().flat_map(Chain::receipts)
    }

    /// The document.
    pub fn to_value(&self) -> Value {
        let chains: Vec<Value> = self.chains.iter().map(chain_value).collect();
        let keys: Vec<_> = self.keys.keys().collect();
        let mut value = json!({
            "lifeboat_evidence": VERSION,
            "repository": self.repository,
            "keys": keys,
            "chains": chains,
        });
        if let Some(excerpt) = &self.excerpt {
            value["excerpt"] = json!(excerpt);
        }
        value
    }

    /// Reads a document.
    ///
    /// # Errors
    /// [`BundleError`]; what is wrong with a single receipt is left to whoever verifies.
    pub fn parse(text: &[u8]) -> Result<Self, BundleError> {
        let value = canonical::parse(text).map_err(BundleError::Json)?;
        let keys = KeyRing::from_value(&value).map_err(BundleError::Keys)?;
        let document = Document::deserialize(value).map_err(BundleError::Form)?;
        if document.lifeboat_evidence > VERSION {
            return Err(BundleError::Newer(document.lifeboat_evidence));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = document.chains.iter().find(|chain| !seen.insert(chain.id)) {
            return Err(BundleError::Twice(twice.id));
        }
        let chains = document.chains.into_iter().map(DocumentChain::chain).collect();
        Ok(Self { repository: document.repository, chains, keys, excerpt: document.excerpt })
    }
}

/// Reads what heads name beyond what was read; false where there is nothing of that.
fn read_on(chains: &dyn Chains, found: &mut BTreeMap<ChainId, Chain>) -> Result<bool, ChainsError> {
    let named: Vec<_> = found
        .values()
        .flat_map(Chain::receipts)
        .flat_map(|s| s.receipt().draft.event.heads.clone())
        .collect();
    let mut wanted: BTreeMap<ChainId, RangeInclusive<u64>> = BTreeMap::new();
    for head in named {
        let last = found.get(&head.chain).and_then(|c| c.placed.last()).map_or(0, |placed| placed.number);
        let to = wanted.get(&head.chain).map_or(0, |range| *range.end()).max(head.number);
        if to > last {
            wanted.insert(head.chain, last + 1..=to);
        }
    }
    let mut any = false;
    for (id, range) in wanted {
        let there = all_numbers(chains, &id, *range.start() - 1)?.unwrap_or_default();
        let numbers: Vec<u64> = there.into_iter().filter(|number| range.contains(number)).collect();
        any |= !numbers.is_empty();
        let chain = found.entry(id).or_insert_with(|| Chain { id, placed: Vec::new() });
        read(chains, chain, numbers)?;
    }
    found.retain(|_, chain| !chain.placed.is_empty());
    Ok(any)
}

fn read(chains: &dyn Chains, chain: &mut Chain, numbers: Vec<u64>) -> Result<(), ChainsError> {
    for number in numbers {
        let content = match chains.read(&chain.id, number)? {
            // Removed since it was listed.
            Stored::Absent => continue,
            Stored::Hidden => Content::Unreadable("this host may not read it".to_owned()),
            Stored::Unreadable(why) => Content::Unreadable(why),
            Stored::Receipt(bytes) => content_of(SignedReceipt::parse(&bytes)),
        };
        chain.placed.push(Placed { number, content });
    }
    Ok(())
}

fn content_of(read: Result<SignedReceipt, ReceiptError>) -> Content {
    match read {
        Ok(signed) => Content::Receipt(Box::new(signed)),
        Err(ReceiptError::Newer(version)) => Content::Newer(version),
        Err(error) => Content::Unreadable(lifeboat_base::report(&error)),
    }
}

fn chain_value(chain: &Chain) -> Value {
    let placed: Vec<Value> = chain.placed.iter().map(placed_value).collect();
    json!({ "repository": chain.id.repository, "writer": chain.id.writer, "placed": placed })
}

fn placed_value(placed: &Placed) -> Value {
    let mut value = match &placed.content {
        Content::Receipt(signed) => signed.to_value(),
        Content::Newer(version) => json!({ "newer": version }),
        Content::Unreadable(why) => json!({ "unreadable": why }),
    };
    value["number"] = json!(placed.number);
    value
}

#[derive(Deserialize)]
struct Document {
    lifeboat_evidence: u64,
    repository: RepositoryId,
    chains: Vec<DocumentChain>,
    excerpt: Option<Excerpt>,
}

#[derive(Deserialize)]
struct DocumentChain {
    #[serde(flatten)]
    id: ChainId,
    placed: Vec<DocumentPlaced>,
}

#[derive(Deserialize)]
struct DocumentPlaced {
    number: u64,
    unreadable: Option<String>,
    newer: Option<u64>,
    #[serde(flatten)]
    signed: Value,
}

impl DocumentChain {
    fn chain(self) -> Chain {
        Chain { id: self.id, placed: self.placed.into_iter().map(DocumentPlaced::placed).collect() }
    }
}

impl DocumentPlaced {
    fn placed(self) -> Placed {
        let content = match (self.unreadable, self.newer) {
            (Some(why), _) => Content::Unreadable(why),
            (None, Some(version)) => Content::Newer(version),
            (None, None) => content_of(SignedReceipt::from_value(self.signed)),
        };
        Placed { number: self.number, content }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::append::{Entry, append};
    use crate::memory::MemoryChains;
    use crate::testing::{BEGINNING, REPOSITORY, TestSigner, draft, key_of};
    use std::time::Duration;

    fn bundle() -> Bundle {
        let (chains, signer) = (MemoryChains::new(), TestSigner::new(1));
        for n in 1..=5 {
            let entry = Entry { draft: draft(n), written: None, known: None };
            append(&chains, REPOSITORY, &signer, entry, &mut |_| Ok(())).unwrap();
        }
        chains.put(&signer.chain(), 6, b"junk");
        Bundle::collect(&chains, REPOSITORY, [key_of(&signer)].into_iter().collect()).unwrap()
    }

    #[test]
    fn a_document_reads_back() {
        let bundle = bundle();
        assert_eq!(bundle.chains[0].placed.len(), 6);
        let text = serde_json::to_vec_pretty(&bundle.to_value()).unwrap();
        assert_eq!(Bundle::parse(&text).unwrap(), bundle);
    }

    #[test]
    fn an_excerpt_holds_its_time_and_says_so() {
        let hour = |n| Some(BEGINNING.plus(Duration::from_hours(n)));
        let excerpt = bundle().excerpt(Excerpt { from: hour(2), to: hour(4) });
        let numbers: Vec<u64> = excerpt.chains[0].placed.iter().map(|placed| placed.number).collect();
        assert_eq!(numbers, [2, 3, 4]);
        let text = serde_json::to_vec(&excerpt.to_value()).unwrap();
        assert_eq!(Bundle::parse(&text).unwrap(), excerpt);
        let none = bundle().excerpt(Excerpt { from: hour(100), to: None });
        assert!(none.chains.is_empty());
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        let good = bundle().to_value();
        let mut newer = good.clone();
        newer["lifeboat_evidence"] = json!(2);
        let mut twice = good.clone();
        twice["chains"] = json!([good["chains"][0], good["chains"][0]]);
        for (value, expected) in [(newer, "version 2"), (twice, "twice"), (json!({}), "read the export")] {
            let error = Bundle::parse(value.to_string().as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected) && error.hint().is_some(), "{error}");
        }
    }
}
