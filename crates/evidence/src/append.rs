//! Appending to a writer's own chain: the next number, created once. Who loses the race for a number continues
//! from the winner's.
//!
//! What is no receipt may stand at a number; then the next one is taken, and the link goes around it. A host that
//! may not read cannot tell what stands there, its own receipt after a lost answer included: it takes the next
//! number, links to what it meant to write, and says in `repeats` where the same may stand already.

use crate::chains::{self, Chains, ChainsError, Creation, Stored};
use crate::event::Head;
use crate::ids::{ChainId, RepositoryId};
use crate::keys::Sign;
use crate::receipt::{Draft, Receipt, ReceiptError, SignedReceipt, VERSION};
use lifeboat_base::Hint;
use lifeboat_base::clock::Timestamp;

/// Objects that are no receipts occupy a number; so many are passed over, and as many races lost.
const MAX_ATTEMPTS: u32 = 64;

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The place of chains failed.
    #[error(transparent)]
    Chains(#[from] ChainsError),
    /// It cannot be written as a receipt.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// What was signed could not be kept before it was created.
    #[error("keep the receipt on this host before it is written")]
    Keep(#[source] std::io::Error),
    /// Every number that was tried is taken.
    #[error("the numbers of chain {chain} up to {last} are taken")]
    Occupied {
        /// The chain.
        chain: ChainId,
        /// The last number that was tried.
        last: u64,
    },
}

impl Hint for AppendError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Chains(error) => error.hint(),
            Self::Receipt(error) => error.hint(),
            Self::Keep(_) => Some("Check the space and the permissions of the state directory.".to_owned()),
            Self::Occupied { .. } => Some(
                "Run `lifeboat evidence verify`: it names what stands there; remove what nobody signed and find out who can write to the store."
                    .to_owned(),
            ),
        }
    }
}

/// What is to be appended.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was done.
    pub draft: Draft,
    /// When it is written, where it had to wait.
    pub written: Option<Timestamp>,
    /// The last receipt of the chain that this host knows.
    pub known: Option<Head>,
}

/// What was appended.
#[derive(Clone, Debug, PartialEq)]
pub struct Appended {
    /// The receipt.
    pub signed: SignedReceipt,
}

impl Appended {
    /// The chain's tip after it.
    pub fn head(&self) -> Head {
        head_of(&self.signed)
    }
}

fn head_of(signed: &SignedReceipt) -> Head {
    let receipt = signed.receipt();
    Head { chain: receipt.chain, number: receipt.number, hash: signed.hash() }
}

/// Appends to the signer's chain in a repository. `keep` is called with each receipt before it is created, so that
/// it can be created again after a crash.
///
/// # Errors
/// [`AppendError`]; then nobody knows whether the last receipt that `keep` saw is there.
pub fn append(
    chains: &dyn Chains,
    repository: RepositoryId,
    signer: &dyn Sign,
    entry: Entry,
    keep: &mut dyn FnMut(&SignedReceipt) -> std::io::Result<()>,
) -> Result<Appended, AppendError> {
    let chain = ChainId { repository, writer: signer.public_key().writer() };
    let Entry { draft, written, mut known } = entry;
    let (mut repeats, mut last) = (None, 0);
    for _ in 0..MAX_ATTEMPTS {
        let tip = chains::tip(chains, &chain, known, Some(signer))?;
        last = tip.last.saturating_add(1);
        let previous = tip.head.map(|head| head.hash);
        let draft = draft.clone();
        let receipt = Receipt { version: VERSION, chain, number: last, previous, written, repeats, draft };
        let signed = SignedReceipt::sign(&receipt, signer)?;
        keep(&signed).map_err(AppendError::Keep)?;
        match create(chains, &signed)? {
            Made::Ours => return Ok(Appended { signed }),
            Made::Taken => {}
            Made::Unknown => {
                known = Some(head_of(&signed));
                repeats = Some(last);
            }
        }
    }
    Err(AppendError::Occupied { chain, last })
}

/// What came of creating a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It stands there.
    Ours,
    /// Something else does.
    Taken,
    /// Something does, and this host may not see what.
    Unknown,
}

/// Creates a receipt at its place; to be called again after a crash or an error with the same one.
///
/// # Errors
/// Where the place of chains fails.
pub fn create(chains: &dyn Chains, signed: &SignedReceipt) -> Result<Made, AppendError> {
    let (chain, number) = (signed.receipt().chain, signed.receipt().number);
    let bytes = signed.to_bytes()?;
    if chains.create(&chain, number, &bytes)? == Creation::Created {
        return Ok(Made::Ours);
    }
    Ok(match chains.read(&chain, number)? {
        Stored::Receipt(there) if there == bytes => Made::Ours,
        Stored::Hidden => Made::Unknown,
        _ => Made::Taken,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryChains;
    use crate::testing::{REPOSITORY, TestSigner, draft};

    fn entry(n: u64, known: Option<Head>) -> Entry {
        Entry { draft: draft(n), written: None, known }
    }

    fn add(chains: &MemoryChains, signer: &TestSigner, n: u64, known: Option<Head>) -> SignedReceipt {
        append(chains, REPOSITORY, signer, entry(n, known), &mut |_| Ok(())).unwrap().signed
    }

    #[test]
    fn each_receipt_names_the_one_before_it() {
        let (chains, signer) = (MemoryChains::new(), TestSigner::new(1));
        let first = add(&chains, &signer, 1, None);
        assert_eq!((first.receipt().number, first.receipt().previous), (1, None));
        let second = add(&chains, &signer, 2, None);
        assert_eq!((second.receipt().number, second.receipt().previous), (2, Some(first.hash())));
        let third = add(&chains, &signer, 3, Some(head_of(&second)));
        assert_eq!((third.receipt().number, third.receipt().previous), (3, Some(second.hash())));
    }

    #[test]
    fn what_is_no_receipt_is_gone_around() {
        let (chains, signer) = (MemoryChains::new(), TestSigner::new(1));
        let first = add(&chains, &signer, 1, None);
        chains.put(&signer.chain(), 2, b"junk");
        let third = add(&chains, &signer, 2, None);
        assert_eq!((third.receipt().number, third.receipt().previous), (3, Some(first.hash())));
    }

    #[test]
    fn a_tail_that_somebody_removed_is_not_taken_for_the_end() {
        let (chains, signer) = (MemoryChains::new(), TestSigner::new(1));
        let heads: Vec<_> = (1..=3).map(|n| head_of(&add(&chains, &signer, n, None))).collect();
        chains.remove(&signer.chain(), 3).unwrap();
        let next = add(&chains, &signer, 4, Some(heads[2]));
        assert_eq!((next.receipt().number, next.receipt().previous), (4, Some(heads[2].hash)));
    }

    #[test]
    fn who_cannot_read_takes_the_next_number_and_says_so() {
        let (chains, signer) = (MemoryChains::new(), TestSigner::new(1));
        let blind = chains.write_only();
        let first = add(&blind, &signer, 1, None);
        // The answer to the second was lost, or somebody put junk there: the host cannot tell.
        let lost = add(&blind, &signer, 2, Some(head_of(&first)));
        let again = add(&blind, &signer, 2, Some(head_of(&first)));
        let receipt = again.receipt();
        assert_eq!((receipt.number, receipt.repeats), (3, Some(2)));
        assert_eq!(receipt.previous, Some(lost.hash()), "the same bytes, so that the chain is whole");
    }

    #[test]
    fn what_was_created_before_a_crash_is_known_again() {
        let (chains, signer) = (MemoryChains::new(), TestSigner::new(1));
        let first = add(&chains, &signer, 1, None);
        assert_eq!(create(&chains, &first).unwrap(), Made::Ours);
        let other = SignedReceipt::sign(&crate::testing::receipt(&signer, 1, Some(first.hash())), &signer);
        assert_eq!(create(&chains, &other.unwrap()).unwrap(), Made::Taken);
        assert_eq!(create(&chains.write_only(), &first).unwrap(), Made::Unknown);
    }

    #[test]
    fn a_chain_full_of_junk_ends_the_attempts_with_a_hint() {
        let (chains, signer) = (MemoryChains::new(), TestSigner::new(1));
        let blind = chains.write_only();
        (1..=200).for_each(|n| chains.put(&signer.chain(), n, b"junk"));
        let refused = append(&blind, REPOSITORY, &signer, entry(1, None), &mut |_| Ok(())).unwrap_err();
        assert!(matches!(refused, AppendError::Occupied { last: 64, .. }), "{refused}");
        assert!(refused.hint().is_some_and(|hint| hint.contains("evidence verify")));
    }
}
