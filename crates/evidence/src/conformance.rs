//! What every implementation of [`Chains`] must do, as one test that panics where it does not.

use crate::append::{Entry, append};
use crate::bundle::Bundle;
use crate::chains::{Chains, Creation, Stored, all_numbers};
use crate::ids::{ChainId, RepositoryId};
use crate::keys::{Key, KeyRing, Sign};
use crate::receipt::{Receipt, SignedReceipt, VERSION};
use crate::report::Verdict;
use crate::testing::draft;
use crate::verify::verify;
use std::collections::BTreeSet;

/// So many threads append at once.
const THREADS: u64 = 4;
/// So many receipts each.
const EACH: u64 = 5;

/// Checks an implementation in which the signer's chain is empty.
pub fn check(chains: &(dyn Chains + Sync), signer: &(dyn Sign + Sync), repository: RepositoryId) {
    let chain = ChainId { repository, writer: signer.public_key().writer() };
    an_empty_chain_is_empty(chains, &chain);
    a_number_is_created_once(chains, signer, &chain);
    appending_at_once_loses_nothing(chains, signer, &chain);
    numbers_come_in_pages(chains, &chain);
    the_whole_verifies(chains, signer, &chain);
    what_is_removed_is_gone(chains, &chain);
}

fn an_empty_chain_is_empty(chains: &dyn Chains, chain: &ChainId) {
    assert!(!chains.chains().expect("chains are listed").contains(chain));
    assert_eq!(chains.numbers(chain, 0, 10).expect("numbers are listed"), Some(Vec::new()));
    assert_eq!(chains.read(chain, 1).expect("a number is read"), Stored::Absent);
}

fn first(signer: &dyn Sign, chain: &ChainId, of: u64) -> SignedReceipt {
    let receipt = Receipt {
        version: VERSION,
        chain: *chain,
        number: 1,
        previous: None,
        written: None,
        repeats: None,
        draft: draft(of),
    };
    SignedReceipt::sign(&receipt, signer).expect("a receipt is signed")
}

fn a_number_is_created_once(chains: &dyn Chains, signer: &dyn Sign, chain: &ChainId) {
    let [mine, other] = [1, 2].map(|of| first(signer, chain, of).to_bytes().expect("it is written"));
    assert_eq!(chains.create(chain, 1, &mine).expect("it is created"), Creation::Created);
    assert_eq!(chains.create(chain, 1, &other).expect("it is refused"), Creation::Existed);
    assert_eq!(chains.read(chain, 1).expect("it is read"), Stored::Receipt(mine), "the winner stays");
    assert!(chains.chains().expect("chains are listed").contains(chain));
}

fn appending_at_once_loses_nothing(
    chains: &(dyn Chains + Sync),
    signer: &(dyn Sign + Sync),
    chain: &ChainId,
) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for n in 0..EACH {
                    let draft = draft(100 * (thread + 1) + n);
                    let entry = Entry { draft, written: None, known: None };
                    append(chains, chain.repository, signer, entry, &mut |_| Ok(())).expect("it is appended");
                }
            });
        }
    });
    let numbers = all_numbers(chains, chain, 0).expect("numbers are listed").expect("and may be");
    assert_eq!(numbers, (1..=1 + THREADS * EACH).collect::<Vec<_>>(), "each has a number of its own");
}

fn numbers_come_in_pages(chains: &dyn Chains, chain: &ChainId) {
    assert_eq!(chains.numbers(chain, 3, 4).expect("numbers are listed"), Some(vec![4, 5, 6, 7]));
}

fn the_whole_verifies(chains: &dyn Chains, signer: &dyn Sign, chain: &ChainId) {
    let mut keys = KeyRing::new();
    keys.add(Key {
        repository: Some(chain.repository),
        public_key: signer.public_key(),
        name: "conformance".to_owned(),
        role: "maintain".to_owned(),
        revoked: None,
    });
    let bundle = Bundle::collect(chains, chain.repository, keys.clone()).expect("chains are read");
    let report = verify(&bundle, &keys, &[]);
    assert_eq!(report.verdict(), Verdict::Sound, "{:?} {:?}", report.findings, report.doubts);
    let chain = bundle.chains.iter().find(|there| there.id == *chain).expect("the chain is in the bundle");
    let ids: BTreeSet<_> = chain.receipts().map(|signed| signed.receipt().draft.id).collect();
    assert_eq!(ids.len() as u64, 1 + THREADS * EACH, "each event is there once");
}

fn what_is_removed_is_gone(chains: &dyn Chains, chain: &ChainId) {
    chains.remove(chain, 1).expect("it is removed");
    chains.remove(chain, 1).expect("what is not there is no error");
    assert_eq!(chains.read(chain, 1).expect("a number is read"), Stored::Absent);
    assert_eq!(chains.numbers(chain, 0, 1).expect("numbers are listed"), Some(vec![2]));
}
