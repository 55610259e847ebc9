//! Where chains lie: a place in which a receipt is created once at its number, and never overwritten.

use crate::event::Head;
use crate::ids::ChainId;
use crate::keys::Sign;
use crate::receipt::SignedReceipt;
use lifeboat_base::Hint;
use std::error::Error;

/// So many numbers are asked for at once.
pub const PAGE: usize = 10_000;
/// So many objects at the end of a chain that are no receipts are passed over to find its tip.
const MAX_PASSED_OVER: usize = 64;

/// What stands at a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Nothing.
    Absent,
    /// A receipt's bytes. Whether they are one, and whose, is for the reader to judge.
    Receipt(Vec<u8>),
    /// Something that cannot be read, or that nobody who may do so put there; and why.
    Unreadable(String),
    /// Something that this host may not read.
    Hidden,
}

/// What came of creating a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// It is there, whole and durable.
    Created,
    /// Something stands there already, perhaps the same.
    Existed,
}

/// A place of chains that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation}")]
pub struct ChainsError {
    /// What was being done, in the present tense.
    pub operation: &'static str,
    /// Why it failed.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
    /// What to check or run next.
    pub hint: Option<String>,
}

impl ChainsError {
    /// A failure whose cause may know what to do.
    pub fn new<E: Hint + Send + Sync + 'static>(operation: &'static str, source: E) -> Self {
        let hint = source.hint();
        Self { operation, source: Box::new(source), hint }
    }
}

impl Hint for ChainsError {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// A place of chains.
pub trait Chains {
    /// The chains that have anything, in order.
    ///
    /// # Errors
    /// Where they cannot be listed.
    fn chains(&self) -> Result<Vec<ChainId>, ChainsError>;

    /// The numbers above `after` at which anything stands, ascending, at most `limit`; `None` where this host
    /// may not list.
    ///
    /// # Errors
    /// Where they cannot be listed.
    fn numbers(&self, chain: &ChainId, after: u64, limit: usize) -> Result<Option<Vec<u64>>, ChainsError>;

    /// What stands at a number.
    ///
    /// # Errors
    /// Where the place fails as a whole; what is wrong with one object is an answer.
    fn read(&self, chain: &ChainId, number: u64) -> Result<Stored, ChainsError>;

    /// Creates a receipt. Never overwrites.
    ///
    /// # Errors
    /// After one nobody knows whether it is there; creating it again is safe.
    fn create(&self, chain: &ChainId, number: u64, bytes: &[u8]) -> Result<Creation, ChainsError>;

    /// Removes what stands at a number. To be called only for what an `expired` receipt named.
    ///
    /// # Errors
    /// Where it cannot be removed. What is not there is no error.
    fn remove(&self, chain: &ChainId, number: u64) -> Result<(), ChainsError>;
}

/// Every number of a chain above `after`.
///
/// # Errors
/// As [`Chains::numbers`].
pub fn all_numbers(
    chains: &dyn Chains,
    chain: &ChainId,
    after: u64,
) -> Result<Option<Vec<u64>>, ChainsError> {
    let (mut all, mut after) = (Vec::new(), after);
    loop {
        let Some(page) = chains.numbers(chain, after, PAGE)? else { return Ok(None) };
        let whole = page.len() < PAGE;
        after = page.last().copied().unwrap_or(after);
        all.extend(page);
        if whole {
            return Ok(Some(all));
        }
    }
}

/// The end of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The highest number at which anything stands.
    pub last: u64,
    /// The last receipt: what stands above it is none.
    pub head: Option<Head>,
}

/// Finds the end of a chain, from a receipt that is known to be in it, or from its beginning. Where a signer is
/// given, only its own receipts count.
///
/// # Errors
/// Where the chain cannot be listed or read.
pub fn tip(
    chains: &dyn Chains,
    chain: &ChainId,
    known: Option<Head>,
    signer: Option<&dyn Sign>,
) -> Result<Tip, ChainsError> {
    let known_number = known.map_or(0, |head| head.number);
    let Some(numbers) = all_numbers(chains, chain, known_number)? else {
        return Ok(Tip { last: known_number, head: known });
    };
    let last = numbers.last().copied().unwrap_or(known_number);
    for number in numbers.into_iter().rev().take(MAX_PASSED_OVER) {
        if let Some(hash) = good_at(chains, chain, number, signer)? {
            return Ok(Tip { last, head: Some(Head { chain: *chain, number, hash }) });
        }
    }
    Ok(Tip { last, head: known })
}

fn good_at(
    chains: &dyn Chains,
    chain: &ChainId,
    number: u64,
    signer: Option<&dyn Sign>,
) -> Result<Option<crate::ids::Digest>, ChainsError> {
    let Stored::Receipt(bytes) = chains.read(chain, number)? else { return Ok(None) };
    let Ok(signed) = SignedReceipt::parse(&bytes) else { return Ok(None) };
    let ours = signer.is_none_or(|signer| signer.public_key().signed(&signed.message(), signed.signature()));
    let in_place = (signed.receipt().chain, signed.receipt().number) == (*chain, number);
    Ok((ours && in_place).then(|| signed.hash()))
}
