//! Receipts as objects: created once, outside prune, sealed like other bodies, and carried by a copy verbatim.
//!
//! A receipt's own signature is over its plaintext and lies inside; the envelope's is that of whoever put it here:
//! its writer, or the copier. This module deliberately does not know what a receipt says.

use crate::bodies::{self, EnrolledWriter, ReceiptObject};
use crate::crypto::Signer;
use crate::envelope::{ObjectType, Signed};
use crate::error::{RepositoryError, Result};
use crate::ids::{RepositoryId, WriterId};
use crate::layout;
use crate::repository::Repository;
use crate::snapshots::is_about_one_object;
use crate::trust::Need;
use lifeboat_base::failpoint;
use lifeboat_objects::{Creation, Key, Listed, ObjectErrorKind};
use std::ops::ControlFlow;

/// Until two listings agree, so often is listed again what is to be carried.
const MAX_LISTINGS: u32 = 5;

/// A chain of receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiptChain {
    /// The repository that they are of; in a copy that may be an origin.
    pub repository: RepositoryId,
    /// Who signs them.
    pub writer: WriterId,
}

/// What came of creating a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptCreation {
    /// It is there.
    Ours,
    /// Something else is, or something that this host may not read.
    Taken,
}

impl Repository {
    /// The chains that have anything.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub fn receipt_chains(&self) -> Result<Vec<ReceiptChain>> {
        let (mut chains, mut after) = (Vec::new(), None);
        // One look a chain, however long it is.
        while let Some(key) = self.first_receipt(after.as_ref())? {
            after = match layout::receipt_parts(&key) {
                Some((chain, _)) => {
                    chains.push(chain);
                    Some(layout::receipt(&chain, layout::MAX_NUMBER))
                }
                None => Some(key),
            };
        }
        Ok(chains)
    }

    fn first_receipt(&self, after: Option<&Key>) -> Result<Option<Key>> {
        let mut first = None;
        self.store.list(layout::RECEIPTS, after, &mut |listed: Listed| {
            first = Some(listed.key);
            ControlFlow::Break(())
        })?;
        Ok(first)
    }

    /// The numbers of a chain above `after` at which anything stands, ascending, at most `limit`.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub fn receipt_numbers(&self, chain: &ReceiptChain, after: u64, limit: usize) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        if after >= layout::MAX_NUMBER || limit == 0 {
            return Ok(numbers);
        }
        let after = layout::receipt(chain, after);
        self.store.list(&layout::receipts(chain), Some(&after), &mut |listed: Listed| {
            numbers.extend(layout::receipt_parts(&listed.key).map(|(_, number)| number));
            if numbers.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(numbers)
    }

    /// A receipt's bytes, as they were given to whoever created it.
    ///
    /// # Errors
    /// [`RepositoryError::is_not_found`]; damage where it stands elsewhere than it says, or was not put there by
    /// its writer or, in a copy, by a writer of the copy.
    pub fn read_receipt(&self, chain: &ReceiptChain, number: u64) -> Result<Vec<u8>> {
        let key = layout::receipt(chain, number);
        let opened = self.read::<ReceiptObject>(ObjectType::Receipt, &key, Need::Write)?;
        let body = opened.body;
        if (body.origin, body.writer, body.number) != (chain.repository, chain.writer, number) {
            return Err(RepositoryError::damaged(&key, "it belongs to another place"));
        }
        if chain.repository == self.id() && opened.writer != chain.writer {
            return Err(RepositoryError::damaged(
                &key,
                "it was put there by another writer than its chain's",
            ));
        }
        if chain.repository != self.id() && !self.trust().knows(&chain.repository) {
            return Err(RepositoryError::damaged(
                &key,
                "it is of a repository whose roster is not known here",
            ));
        }
        Ok(body.receipt)
    }

    /// Creates a receipt of this repository in the signer's own chain. What stands there already is never
    /// overwritten.
    ///
    /// # Errors
    /// Where the signer may not write, or the store fails.
    pub fn create_receipt(&self, signer: &Signer, number: u64, receipt: &[u8]) -> Result<ReceiptCreation> {
        let chain = ReceiptChain { repository: self.id(), writer: signer.id() };
        self.put_receipt(signer, &chain, number, receipt)
    }

    fn put_receipt(
        &self,
        signer: &Signer,
        chain: &ReceiptChain,
        number: u64,
        receipt: &[u8],
    ) -> Result<ReceiptCreation> {
        self.trust().permit(&signer.id(), Need::Write)?;
        if !(1..=layout::MAX_NUMBER).contains(&number) {
            return Err(RepositoryError::Occupied(layout::receipts(chain)));
        }
        let key = layout::receipt(chain, number);
        let body = ReceiptObject {
            repository: self.id(),
            origin: chain.repository,
            writer: chain.writer,
            number,
            receipt: receipt.to_vec(),
        };
        let signed = Signed::new(ObjectType::Receipt, bodies::encode(&body), signer);
        match self.store.create(&key, &self.wrap(ObjectType::Receipt, &signed)?)? {
            Creation::Created => Ok(ReceiptCreation::Ours),
            // The object's bytes differ with each sealing: what is in it tells whether it is ours.
            Creation::Existed => self.whose(chain, number, receipt),
        }
    }

    fn whose(&self, chain: &ReceiptChain, number: u64, receipt: &[u8]) -> Result<ReceiptCreation> {
        match self.read_receipt(chain, number) {
            Ok(there) if there == receipt => Ok(ReceiptCreation::Ours),
            Ok(_) => Ok(ReceiptCreation::Taken),
            Err(error) if is_about_one_object(&error) || is_denied(&error) => Ok(ReceiptCreation::Taken),
            Err(error) => Err(error),
        }
    }

    /// Removes a receipt that has expired, as a signed receipt has said before (docs/format.md, Receipts).
    ///
    /// # Errors
    /// Where the signer may not maintain, or the store fails.
    pub fn remove_receipt(&self, signer: &Signer, chain: &ReceiptChain, number: u64) -> Result<()> {
        self.trust().permit(&signer.id(), Need::Maintain)?;
        Ok(self.store.delete(&layout::receipt(chain, number))?)
    }

    /// Every writer whose receipts can be judged here, with the repository whose roster lists it: also those that
    /// were revoked, and those of origins.
    pub fn receipt_writers(&self) -> Vec<(RepositoryId, EnrolledWriter)> {
        let trust = self.trust();
        let rosters = std::iter::once(&trust.roster).chain(&trust.origins);
        rosters
            .flat_map(|roster| roster.writers.iter().map(|writer| (roster.repository, writer.clone())))
            .collect()
    }
}

/// Whether the store refused to let us see.
fn is_denied(error: &RepositoryError) -> bool {
    matches!(error, RepositoryError::Store(error) if error.kind == ObjectErrorKind::Denied)
}

/// What carrying did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) receipts: u64,
    pub(crate) left_out: Vec<String>,
}

/// Carries to a copy the receipts that came after those that it has, verbatim, each chain in order. They are a
/// consistent cut: no receipt that is carried has seen one that was left behind for having come later.
pub(crate) fn carry(origin: &Repository, target: &Repository) -> Result<Carried> {
    let signer = target.writer()?;
    let mut carried = Carried::default();
    for (chain, numbers) in consistent_cut(origin, target)? {
        if !target.trust().knows(&chain.repository) {
            let what = "its receipts were copied there from a third repository: copy them from that one";
            carried.left_out.push(format!("{}: {what}", layout::receipts(&chain)));
            continue;
        }
        for number in numbers {
            carry_one(origin, target, &signer, &chain, number, &mut carried)?;
        }
    }
    Ok(carried)
}

type Cut = Vec<(ReceiptChain, Vec<u64>)>;

fn consistent_cut(origin: &Repository, target: &Repository) -> Result<Cut> {
    let mut cut = lacking(origin, target)?;
    for _ in 0..MAX_LISTINGS {
        let again = lacking(origin, target)?;
        if again == cut {
            break;
        }
        cut = again;
    }
    Ok(cut)
}

/// What the origin has and the copy lacks. What the copy let expire stays away: it lies before what it has.
fn lacking(origin: &Repository, target: &Repository) -> Result<Cut> {
    let mut lacking = Vec::new();
    for chain in origin.receipt_chains()? {
        // What was taken from this copy once is at home here.
        if chain.repository == target.id() {
            continue;
        }
        let newest = target.receipt_numbers(&chain, 0, usize::MAX)?.pop().unwrap_or(0);
        let numbers = origin.receipt_numbers(&chain, newest, usize::MAX)?;
        if !numbers.is_empty() {
            lacking.push((chain, numbers));
        }
    }
    Ok(lacking)
}

fn carry_one(
    origin: &Repository,
    target: &Repository,
    signer: &Signer,
    chain: &ReceiptChain,
    number: u64,
    carried: &mut Carried,
) -> Result<()> {
    let receipt = match origin.read_receipt(chain, number) {
        Ok(receipt) => receipt,
        Err(error) if is_about_one_object(&error) => {
            let error = lifeboat_base::report(&error);
            carried.left_out.push(format!("{}: {error}", layout::receipt(chain, number)));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    failpoint::reach("copy::before-receipt").map_err(|e| RepositoryError::Io("copy a receipt", e))?;
    match target.put_receipt(signer, chain, number, &receipt)? {
        ReceiptCreation::Ours => carried.receipts += 1,
        ReceiptCreation::Taken => carried
            .left_out
            .push(format!("{}: something else stands there in the copy", layout::receipt(chain, number))),
    }
    Ok(())
}
