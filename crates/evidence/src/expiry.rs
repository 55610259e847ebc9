//! Expiry: the beginning of a chain may go once it is older than the retention, after a signed `expired` receipt has
//! said up to where. Only beginnings go, and never a chain's last receipt.
//!
//! An older `expired` receipt that goes with a beginning is stated again, so that what it vouches for stays vouched
//! for.

use crate::chains::{Chains, ChainsError, Stored, all_numbers};
use crate::event::{Action, Event, Expired, Outcome};
use crate::ids::ChainId;
use crate::receipt::SignedReceipt;
use lifeboat_base::clock::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// Seven years: how long receipts are kept, unless a plan says otherwise.
pub const DEFAULT_RETENTION_DAYS: u32 = 2555;

/// What may go, as the event to be appended before anything does; `None` where nothing may.
///
/// # Errors
/// Where chains cannot be read.
pub fn plan(chains: &dyn Chains, retention_days: u32, now: Timestamp) -> Result<Option<Event>, ChainsError> {
    let before = now.minus(Duration::from_hours(24 * u64::from(retention_days)));
    let (mut going, mut restated) = (BTreeMap::new(), BTreeMap::new());
    for chain in chains.chains()? {
        let numbers = all_numbers(chains, &chain, 0)?.unwrap_or_default();
        let Some((_, all_but_last)) = numbers.split_last() else { continue };
        for number in all_but_last {
            // What is no receipt goes with the receipts around it.
            let Some(signed) = receipt_at(chains, &chain, *number)? else { continue };
            let draft = &signed.receipt().draft;
            if draft.at > before {
                break;
            }
            draft.event.expired.iter().for_each(|expired| restate(&mut restated, expired));
            let (through, hash, at) = (*number, signed.hash(), draft.at);
            going.insert(chain, Expired { chain, through, hash, at, retention_days });
        }
    }
    if going.is_empty() {
        return Ok(None);
    }
    going.values().for_each(|expired| restate(&mut restated, expired));
    let mut event = Event::new(Action::Expired, Outcome::Done);
    event.expired = restated.into_values().collect();
    Ok(Some(event))
}

fn restate(restated: &mut BTreeMap<ChainId, Expired>, expired: &Expired) {
    let furthest = restated.entry(expired.chain).or_insert(*expired);
    if expired.through > furthest.through {
        *furthest = *expired;
    }
}

fn receipt_at(
    chains: &dyn Chains,
    chain: &ChainId,
    number: u64,
) -> Result<Option<SignedReceipt>, ChainsError> {
    let Stored::Receipt(bytes) = chains.read(chain, number)? else { return Ok(None) };
    Ok(SignedReceipt::parse(&bytes).ok().filter(|signed| signed.receipt().number == number))
}

/// Removes what an `expired` receipt, which is durable by now, lets go. Gives how many numbers are free.
///
/// # Errors
/// Where something cannot be removed; the next expiry goes on from there.
pub fn remove(chains: &dyn Chains, expired: &[Expired]) -> Result<u64, ChainsError> {
    let mut removed = 0;
    for expired in expired {
        let numbers = all_numbers(chains, &expired.chain, 0)?.unwrap_or_default();
        // In order: after a crash what is left is still the end of a chain.
        for number in numbers.into_iter().take_while(|number| *number <= expired.through) {
            chains.remove(&expired.chain, number)?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::append::{Entry, append};
    use crate::bundle::Bundle;
    use crate::keys::KeyRing;
    use crate::memory::MemoryChains;
    use crate::report::Verdict;
    use crate::testing::{BEGINNING, REPOSITORY, TestSigner, draft, key_of};
    use crate::verify::verify;

    const HOURS_A_DAY: u64 = 24;

    fn add(chains: &MemoryChains, signer: &TestSigner, hour: u64, event: Option<Event>) {
        let mut draft = draft(hour);
        draft.event = event.unwrap_or(draft.event);
        let entry = Entry { draft, written: None, known: None };
        append(chains, REPOSITORY, signer, entry, &mut |_| Ok(())).unwrap();
    }

    fn numbers(chains: &MemoryChains, signer: &TestSigner) -> Vec<u64> {
        all_numbers(chains, &signer.chain(), 0).unwrap().unwrap()
    }

    #[test]
    fn years_of_receipts_expire_round_by_round_and_what_is_left_verifies() {
        let (chains, leader, other) = (MemoryChains::new(), TestSigner::new(1), TestSigner::new(2));
        let keys: KeyRing = [&leader, &other].map(key_of).into_iter().collect();
        // The other writer falls silent after the tenth day.
        (1..=10).for_each(|day| add(&chains, &other, day * HOURS_A_DAY, None));
        for day in 1..=100 {
            add(&chains, &leader, day * HOURS_A_DAY, None);
            let now = BEGINNING.plus(Duration::from_hours(day * HOURS_A_DAY));
            if let Some(event) = plan(&chains, 30, now).unwrap() {
                let expired = event.expired.clone();
                add(&chains, &leader, day * HOURS_A_DAY, Some(event));
                assert!(remove(&chains, &expired).unwrap() > 0);
            }
            let bundle = Bundle::collect(&chains, REPOSITORY, keys.clone()).unwrap();
            let report = verify(&bundle, &keys, &[]);
            assert_eq!(report.verdict(), Verdict::Sound, "day {day}: {:?}", report.findings);
        }
        assert_eq!(numbers(&chains, &other), [10], "the last receipt stays");
        let oldest = Bundle::collect(&chains, REPOSITORY, keys).unwrap();
        let oldest =
            oldest.chains.iter().find(|c| c.id == leader.chain()).unwrap().receipts().next().unwrap();
        let age = BEGINNING.plus(Duration::from_hours(100 * HOURS_A_DAY)).since(oldest.receipt().draft.at);
        assert!(age < Duration::from_hours(30 * HOURS_A_DAY), "{age:?}");
    }

    #[test]
    fn nothing_young_expires() {
        let (chains, leader) = (MemoryChains::new(), TestSigner::new(1));
        (1..=5).for_each(|hour| add(&chains, &leader, hour, None));
        let now = BEGINNING.plus(Duration::from_hours(2554 * HOURS_A_DAY));
        assert_eq!(plan(&chains, DEFAULT_RETENTION_DAYS, now).unwrap(), None);
    }
}
