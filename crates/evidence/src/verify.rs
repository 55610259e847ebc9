//! Verifying: chains against public keys and against each other, and nothing else. Pure, and so offline.
//!
//! Each receipt is judged by itself (its signature, its place), then each chain by its links, then the chains by what
//! `heads` receipts say of them. What a damaged receipt explains is not reported again as a broken link.
//!
//! What cannot show: that receipts were removed from the end of a chain after the last one that anybody else had
//! seen. [`ChainReport::tail`] says for each chain where that begins. A receipt that a revoked writer's stolen key
//! back-dated is told from a genuine one by the repository alone, which asks when the store received it.

use crate::bundle::{Bundle, Chain, Content};
use crate::event::{Expired, Head};
use crate::ids::{ChainId, Digest};
use crate::keys::{Key, KeyRing};
use crate::receipt::SignedReceipt;
use crate::report::{ChainReport, Doubt, DoubtKind, Finding, Flaw, Report, Witness};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Numbers have twelve digits in the names of objects.
const MAX_NUMBER: u64 = 999_999_999_999;

/// A receipt whose content its writer signed, as far as can be told.
struct Judged<'b> {
    signed: &'b SignedReceipt,
    hash: Digest,
    /// Whether its signature could be checked.
    trusted: bool,
}

/// What a chain is made of.
#[derive(Default)]
struct State<'b> {
    good: BTreeMap<u64, Judged<'b>>,
    /// Numbers at which something stands that does not count.
    occupied: BTreeSet<u64>,
}

impl State<'_> {
    /// The stretches from `from` to `to` at which nothing stands.
    fn absent(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let (mut stretches, mut next) = (Vec::new(), from);
        if from > to {
            return stretches;
        }
        let there: BTreeSet<u64> = self
            .good
            .range(from..=to)
            .map(|(n, _)| *n)
            .chain(self.occupied.range(from..=to).copied())
            .collect();
        for number in there {
            if number > next {
                stretches.push((next, number - 1));
            }
            next = number + 1;
        }
        if next <= to {
            stretches.push((next, to));
        }
        stretches
    }

    fn last(&self) -> u64 {
        let good = self.good.keys().next_back().copied().unwrap_or(0);
        good.max(self.occupied.iter().next_back().copied().unwrap_or(0))
    }
}

/// Verifies what a bundle holds by public keys. `known` are tips that whoever verifies remembers.
pub fn verify(bundle: &Bundle, keys: &KeyRing, known: &[Head]) -> Report {
    let mut verifier = Verifier {
        keys,
        states: BTreeMap::new(),
        expired: BTreeMap::new(),
        report: Report { excerpt: bundle.excerpt, ..Report::default() },
    };
    for chain in &bundle.chains {
        let state = verifier.judge_chain(chain);
        verifier.states.insert(chain.id, state);
    }
    verifier.read_expiry();
    verifier.follow_links();
    let witnessed = verifier.hear_witnesses(known);
    verifier.conclude(&witnessed)
}

struct Verifier<'b, 'k> {
    keys: &'k KeyRing,
    states: BTreeMap<ChainId, State<'b>>,
    /// The furthest expiry of each chain.
    expired: BTreeMap<ChainId, Expired>,
    report: Report,
}

impl<'b> Verifier<'b, '_> {
    fn find(&mut self, chain: ChainId, number: u64, flaw: Flaw) {
        self.report.findings.push(Finding { chain, number, flaw });
    }

    /// A doubt is said once a chain and kind, at its first number.
    fn doubt(&mut self, chain: ChainId, number: u64, kind: DoubtKind) {
        if !self.report.doubts.iter().any(|doubt| (doubt.chain, doubt.kind) == (chain, kind)) {
            self.report.doubts.push(Doubt { chain, number, kind });
        }
    }

    fn judge_chain(&mut self, chain: &'b Chain) -> State<'b> {
        let mut state = State::default();
        let mut highest = 0;
        for placed in &chain.placed {
            let (id, number) = (chain.id, placed.number);
            if !(1..=MAX_NUMBER).contains(&number) {
                self.find(id, number, Flaw::Unreadable("there is no such number".to_owned()));
                continue;
            }
            if number < highest && !state.good.contains_key(&number) {
                self.find(id, number, Flaw::Reordered);
            }
            highest = highest.max(number);
            let judged = match &placed.content {
                Content::Receipt(signed) => self.judge(id, number, signed),
                Content::Unreadable(why) => {
                    self.find(id, number, Flaw::Unreadable(why.clone()));
                    None
                }
                Content::Newer(version) => {
                    self.doubt(id, number, DoubtKind::Newer(*version));
                    None
                }
            };
            self.place(&mut state, id, number, judged);
        }
        state
    }

    fn place(&mut self, state: &mut State<'b>, chain: ChainId, number: u64, judged: Option<Judged<'b>>) {
        let Some(judged) = judged else {
            state.occupied.insert(number);
            return;
        };
        match state.good.get(&number) {
            Some(there) if there.hash == judged.hash => self.find(chain, number, Flaw::Duplicated),
            Some(_) => self.find(chain, number, Flaw::Forked),
            None => {
                state.good.insert(number, judged);
            }
        }
    }

    /// One receipt by itself.
    fn judge(&mut self, chain: ChainId, number: u64, signed: &'b SignedReceipt) -> Option<Judged<'b>> {
        let receipt = signed.receipt();
        if (receipt.chain, receipt.number) != (chain, number) {
            let (chain_, number_) = (receipt.chain, receipt.number);
            self.find(chain, number, Flaw::Misplaced { chain: chain_, number: number_ });
            return None;
        }
        let judged = |trusted| Judged { signed, hash: signed.hash(), trusted };
        let Some(key) = self.keys.of(&chain).cloned() else {
            self.doubt(chain, number, DoubtKind::UnknownWriter);
            return Some(judged(false));
        };
        if !key.public_key.signed(&signed.message(), signed.signature()) {
            let other = self.keys.signer_of(&signed.message(), signed.signature());
            self.find(chain, number, other.map_or(Flaw::Changed, Flaw::Foreign));
            return None;
        }
        self.ask_revocation(chain, number, signed, &key);
        Some(judged(true))
    }

    fn ask_revocation(&mut self, chain: ChainId, number: u64, signed: &SignedReceipt, key: &Key) {
        let receipt = signed.receipt();
        let written = receipt.written.unwrap_or(receipt.draft.at);
        if let Some(revoked) = key.revoked.filter(|revoked| written >= *revoked) {
            self.find(chain, number, Flaw::AfterRevocation(revoked));
        }
    }

    fn trusted(&self) -> Vec<&'b SignedReceipt> {
        let judged = self.states.values().flat_map(|state| state.good.values());
        judged.filter(|judged| judged.trusted).map(|judged| judged.signed).collect()
    }

    fn read_expiry(&mut self) {
        for signed in self.trusted() {
            let receipt = signed.receipt();
            let (by, number) = (receipt.chain, receipt.number);
            if receipt.draft.event.expired.is_empty() {
                continue;
            }
            if !self.keys.of(&by).is_some_and(Key::maintains) {
                self.find(by, number, Flaw::MayNotExpire);
                continue;
            }
            for expired in &receipt.draft.event.expired {
                let kept = Duration::from_hours(24 * u64::from(expired.retention_days));
                if expired.at.plus(kept) > receipt.draft.at {
                    self.find(by, number, Flaw::ExpiredEarly(expired.chain));
                    continue;
                }
                let furthest = self.expired.entry(expired.chain).or_insert(*expired);
                if expired.through > furthest.through {
                    *furthest = *expired;
                }
            }
        }
    }

    fn follow_links(&mut self) {
        let states = std::mem::take(&mut self.states);
        for (chain, state) in &states {
            let mut before: Option<(u64, Digest)> = None;
            for (number, judged) in &state.good {
                match before {
                    None => self.begin(*chain, state, *number, judged),
                    Some(before) => self.link(*chain, state, before, *number, judged),
                }
                before = Some((*number, judged.hash));
            }
        }
        self.states = states;
    }

    /// The first receipt that is there: the chain's beginning, or what is left behind an expired one.
    fn begin(&mut self, chain: ChainId, state: &State<'_>, number: u64, judged: &Judged<'_>) {
        let Some(previous) = judged.signed.receipt().previous else { return };
        if let Some(expired) = self.expired.get(&chain).filter(|expired| expired.through >= number - 1) {
            if expired.through == number - 1 && expired.hash != previous {
                self.find(chain, number, Flaw::Forked);
            }
            return;
        }
        if self.report.excerpt.is_none() {
            let from = self.expired.get(&chain).map_or(1, |expired| expired.through.saturating_add(1));
            self.missing(chain, state, from, number - 1, number);
        }
    }

    fn link(
        &mut self,
        chain: ChainId,
        state: &State<'_>,
        (before, hash): (u64, Digest),
        number: u64,
        judged: &Judged<'_>,
    ) {
        match judged.signed.receipt().previous {
            // What stands between was never part of the chain.
            Some(previous) if previous == hash => {}
            Some(_) if before + 1 < number => self.missing(chain, state, before + 1, number - 1, number),
            _ => self.find(chain, number, Flaw::Forked),
        }
    }

    /// Receipts that a link names and that are not there. Where something else stands that was found already, that
    /// explains it.
    fn missing(&mut self, chain: ChainId, state: &State<'_>, from: u64, to: u64, seen_at: u64) {
        for (from, to) in state.absent(from, to) {
            self.find(chain, seen_at, Flaw::Removed { from, to });
        }
    }

    /// What witnesses say of the tips: the highest number of each chain that one names.
    fn hear_witnesses(&mut self, known: &[Head]) -> BTreeMap<ChainId, (u64, Witness)> {
        let mut heads: Vec<(Head, Witness)> = known.iter().map(|head| (*head, Witness::Memory)).collect();
        for signed in self.trusted() {
            let receipt = signed.receipt();
            let (chain, number, at) = (receipt.chain, receipt.number, receipt.draft.at);
            let witness = Witness::Receipt { chain, number, at };
            heads.extend(receipt.draft.event.heads.iter().map(|head| (*head, witness)));
        }
        let mut furthest: BTreeMap<ChainId, (u64, Witness)> = BTreeMap::new();
        for (head, witness) in heads {
            self.compare(&head, witness);
            let seen = furthest.entry(head.chain).or_insert((head.number, witness));
            if head.number > seen.0 {
                *seen = (head.number, witness);
            }
        }
        for (chain, (number, witness)) in &furthest {
            self.compare_tip(*chain, *number, *witness);
        }
        furthest
    }

    fn compare(&mut self, head: &Head, witness: Witness) {
        let there = self.states.get(&head.chain).and_then(|state| state.good.get(&head.number));
        if there.is_some_and(|judged| judged.hash != head.hash) {
            self.find(head.chain, head.number, Flaw::Rewritten(witness));
        }
    }

    fn compare_tip(&mut self, chain: ChainId, number: u64, witness: Witness) {
        let expired = self.expired.get(&chain).map_or(0, |expired| expired.through);
        let last = self.states.get(&chain).map_or(0, State::last).max(expired);
        if number > last && self.report.excerpt.is_none() {
            let from = last.saturating_add(1);
            self.find(chain, from, Flaw::TailRemoved { from, to: number, witness });
        }
    }

    fn conclude(mut self, witnessed: &BTreeMap<ChainId, (u64, Witness)>) -> Report {
        for (chain, state) in &self.states {
            if let Some(expired) = self.expired.get(chain)
                && let Some(judged) = state.good.get(&expired.through)
                && judged.hash != expired.hash
            {
                let flaw = Flaw::Forked;
                self.report.findings.push(Finding { chain: *chain, number: expired.through, flaw });
            }
            let end = |judged: Option<(&u64, &Judged<'_>)>| {
                judged.map(|(number, judged)| (*number, judged.signed.receipt().draft.at))
            };
            self.report.chains.push(ChainReport {
                chain: *chain,
                name: self.keys.of(chain).map(|key| key.name.clone()),
                receipts: state.good.len() as u64,
                first: end(state.good.first_key_value()),
                last: end(state.good.last_key_value()),
                expired_through: self.expired.get(chain).map(|expired| expired.through),
                witnessed: witnessed.get(chain).copied(),
            });
        }
        self.report.findings.sort_by_key(|finding| (finding.chain, finding.number));
        self.report
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
