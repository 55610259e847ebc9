//! Every way in which chains can be tampered with, each found by its name and place.

use super::*;
use crate::append::{Entry, append};
use crate::chains::{Chains, Stored};
use crate::event::{Action, Event, Outcome};
use crate::keys::Sign;
use crate::memory::MemoryChains;
use crate::receipt::Receipt;
use crate::report::Verdict;
use crate::testing::{BEGINNING, REPOSITORY, TestSigner, draft, key_of, receipt};
use serde_json::json;

/// Two writers, the first of which leads.
struct World {
    chains: MemoryChains,
    leader: TestSigner,
    other: TestSigner,
}

impl World {
    /// Five receipts each, and between them what the leader has seen of the other: up to 3.
    fn new() -> Self {
        let world =
            Self { chains: MemoryChains::new(), leader: TestSigner::new(1), other: TestSigner::new(2) };
        (1..=3).for_each(|n| world.add(&world.other, n));
        (1..=4).for_each(|n| world.add(&world.leader, n));
        world.witness();
        (4..=5).for_each(|n| world.add(&world.other, n));
        world
    }

    fn add(&self, signer: &TestSigner, n: u64) {
        self.add_event(signer, n, draft(n).event);
    }

    fn add_event(&self, signer: &TestSigner, n: u64, event: Event) {
        let draft = crate::receipt::Draft { event, ..draft(n) };
        let entry = Entry { draft, written: None, known: None };
        append(&self.chains, REPOSITORY, signer, entry, &mut |_| Ok(())).unwrap();
    }

    fn head(&self, signer: &TestSigner, number: u64) -> Head {
        let hash = self.read(signer, number).hash();
        Head { chain: signer.chain(), number, hash }
    }

    fn witness(&self) {
        let mut event = Event::new(Action::Heads, Outcome::Done);
        let tip = crate::chains::tip(&self.chains, &self.other.chain(), None, None).unwrap();
        event.heads.extend(tip.head);
        self.add_event(&self.leader, 5, event);
    }

    fn read(&self, signer: &TestSigner, number: u64) -> SignedReceipt {
        match self.chains.read(&signer.chain(), number).unwrap() {
            Stored::Receipt(bytes) => SignedReceipt::parse(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn keys(&self) -> KeyRing {
        [&self.leader, &self.other].map(key_of).into_iter().collect()
    }

    fn bundle(&self) -> Bundle {
        Bundle::collect(&self.chains, REPOSITORY, self.keys()).unwrap()
    }

    fn verify(&self) -> Report {
        verify(&self.bundle(), &self.keys(), &[])
    }

    /// Signs anything as a writer, and puts it anywhere.
    fn put(&self, signer: &TestSigner, at: u64, receipt: &Receipt) {
        let signed = SignedReceipt::sign(receipt, signer).unwrap();
        self.chains.put(&signer.chain(), at, &signed.to_bytes().unwrap());
    }
}

#[track_caller]
fn only(report: &Report, signer: &TestSigner, number: u64, flaw: &Flaw) {
    let expected = Finding { chain: signer.chain(), number, flaw: flaw.clone() };
    assert_eq!(report.findings, [expected]);
    assert_eq!(report.verdict(), Verdict::Flawed);
}

#[test]
fn what_nobody_touched_is_sound_and_says_what_it_cannot_tell() {
    let world = World::new();
    let report = world.verify();
    assert_eq!((report.verdict(), report.receipts()), (Verdict::Sound, 10));
    let of = |signer: &TestSigner| report.chains.iter().find(|c| c.chain == signer.chain()).unwrap();
    let other = of(&world.other);
    assert_eq!((other.unwitnessed(), other.witnessed.unwrap().0), (Some((4, 5)), 3));
    let tail = other.tail();
    assert!(tail.contains("receipt 5 of 2027-01-15T13:00:00Z; up to 3 it was seen by receipt 5"), "{tail}");
    assert_eq!(of(&world.leader).unwitnessed(), Some((1, 5)));
    assert!(of(&world.leader).tail().contains("which no other chain has seen"));
}

#[test]
fn change_shows() {
    for (path, value) in [
        ("outcome", json!("failed")),
        ("at", json!("2020-01-01T00:00:00Z")),
        ("host", json!("host-2")),
        ("facts", json!({ "bytes": 7 })),
        ("added", json!(1)),
    ] {
        let world = World::new();
        let mut changed = world.read(&world.leader, 3).to_value();
        changed["receipt"][path] = value;
        world.chains.put(&world.leader.chain(), 3, changed.to_string().as_bytes());
        only(&world.verify(), &world.leader, 3, &Flaw::Changed);
    }
}

#[test]
fn removal_shows_at_the_beginning_in_the_middle_and_where_the_end_was_seen() {
    let world = World::new();
    world.chains.remove(&world.other.chain(), 1).unwrap();
    only(&world.verify(), &world.other, 2, &Flaw::Removed { from: 1, to: 1 });

    let world = World::new();
    [2, 3].into_iter().for_each(|n| world.chains.remove(&world.leader.chain(), n).unwrap());
    only(&world.verify(), &world.leader, 4, &Flaw::Removed { from: 2, to: 3 });

    let world = World::new();
    [3, 4, 5].into_iter().for_each(|n| world.chains.remove(&world.other.chain(), n).unwrap());
    let seen = world.read(&world.leader, 5);
    let at = seen.receipt().draft.at;
    let witness = Witness::Receipt { chain: world.leader.chain(), number: 5, at };
    only(&world.verify(), &world.other, 3, &Flaw::TailRemoved { from: 3, to: 3, witness });

    let world = World::new();
    (1..=5).for_each(|n| world.chains.remove(&world.other.chain(), n).unwrap());
    only(&world.verify(), &world.other, 1, &Flaw::TailRemoved { from: 1, to: 3, witness });
}

#[test]
fn the_removal_of_an_end_that_nobody_saw_does_not_show_unless_somebody_remembers_it() {
    let world = World::new();
    let remembered = world.head(&world.other, 5);
    [4, 5].into_iter().for_each(|n| world.chains.remove(&world.other.chain(), n).unwrap());
    let report = world.verify();
    assert_eq!(report.verdict(), Verdict::Sound);
    let tail = report.chains.iter().find(|c| c.chain == world.other.chain()).unwrap().tail();
    assert!(tail.contains("the end is receipt 3") && tail.contains("cannot show"), "{tail}");
    let report = verify(&world.bundle(), &world.keys(), &[remembered]);
    let witness = Witness::Memory;
    only(&report, &world.other, 4, &Flaw::TailRemoved { from: 4, to: 5, witness });
}

#[test]
fn reorder_shows() {
    let world = World::new();
    let mut bundle = world.bundle();
    let chain = bundle.chains.iter_mut().find(|chain| chain.id == world.leader.chain()).unwrap();
    chain.placed.swap(1, 3);
    let report = verify(&bundle, &world.keys(), &[]);
    let flaws: Vec<_> = report.findings.iter().map(|f| (f.number, f.flaw.clone())).collect();
    assert_eq!(flaws, [(2, Flaw::Reordered), (3, Flaw::Reordered)]);

    let world = World::new();
    let (second, third) = (world.read(&world.leader, 2), world.read(&world.leader, 3));
    world.chains.put(&world.leader.chain(), 2, &third.to_bytes().unwrap());
    world.chains.put(&world.leader.chain(), 3, &second.to_bytes().unwrap());
    let report = world.verify();
    assert!(report.findings.iter().all(|f| matches!(f.flaw, Flaw::Misplaced { .. })), "{report:?}");
    assert_eq!(report.findings.len(), 2);
}

#[test]
fn duplication_shows() {
    let world = World::new();
    let mut bundle = world.bundle();
    let again = bundle.chains[0].placed[2].clone();
    bundle.chains[0].placed.insert(3, again);
    let report = verify(&bundle, &world.keys(), &[]);
    let place = Finding { chain: bundle.chains[0].id, number: 3, flaw: Flaw::Duplicated };
    assert_eq!(report.findings, [place]);

    let world = World::new();
    let again = world.read(&world.leader, 5).to_bytes().unwrap();
    world.chains.put(&world.leader.chain(), 6, &again);
    let flaw = Flaw::Misplaced { chain: world.leader.chain(), number: 5 };
    only(&world.verify(), &world.leader, 6, &flaw);
}

#[test]
fn a_foreign_signature_shows() {
    let world = World::new();
    let previous = world.read(&world.leader, 5).hash();
    let forged = receipt(&world.leader, 6, Some(previous));
    let signed = SignedReceipt::sign(&forged, &world.other).unwrap();
    world.chains.put(&world.leader.chain(), 6, &signed.to_bytes().unwrap());
    let foreign = Flaw::Foreign(world.other.public_key().writer());
    only(&world.verify(), &world.leader, 6, &foreign);
    // A key that nobody knows.
    let signed = SignedReceipt::sign(&forged, &TestSigner::new(9)).unwrap();
    world.chains.put(&world.leader.chain(), 6, &signed.to_bytes().unwrap());
    only(&world.verify(), &world.leader, 6, &Flaw::Changed);
}

#[test]
fn a_fork_shows() {
    let world = World::new();
    let third = world.read(&world.other, 3);
    let mut fork = receipt(&world.other, 4, Some(third.hash()));
    fork.draft.host = "another history".to_owned();
    world.put(&world.other, 4, &fork);
    only(&world.verify(), &world.other, 5, &Flaw::Forked);

    let world = World::new();
    let mut bundle = world.bundle();
    let chain = bundle.chains.iter_mut().find(|chain| chain.id == world.other.chain()).unwrap();
    let content = Content::Receipt(Box::new(SignedReceipt::sign(&fork, &world.other).unwrap()));
    chain.placed.insert(4, crate::bundle::Placed { number: 4, content });
    only(&verify(&bundle, &world.keys(), &[]), &world.other, 4, &Flaw::Forked);
}

#[test]
fn a_history_that_was_written_anew_shows_where_it_was_seen() {
    let world = World::new();
    let chain = world.other.chain();
    (1..=5).for_each(|n| world.chains.remove(&chain, n).unwrap());
    (11..=14).for_each(|n| world.add(&world.other, n));
    let at = world.read(&world.leader, 5).receipt().draft.at;
    let witness = Witness::Receipt { chain: world.leader.chain(), number: 5, at };
    only(&world.verify(), &world.other, 3, &Flaw::Rewritten(witness));
}

#[test]
fn what_is_no_receipt_is_named_and_what_goes_around_it_is_whole() {
    let world = World::new();
    world.chains.put(&world.other.chain(), 6, b"junk");
    world.add(&world.other, 7);
    let report = world.verify();
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert!(matches!(&report.findings[0], Finding { number: 6, flaw: Flaw::Unreadable(_), .. }));
}

#[test]
fn who_is_not_known_or_newer_is_a_doubt() {
    let world = World::new();
    let keys: KeyRing = [key_of(&world.leader)].into_iter().collect();
    let report = verify(&world.bundle(), &keys, &[]);
    let doubt = Doubt { chain: world.other.chain(), number: 1, kind: DoubtKind::UnknownWriter };
    assert_eq!((report.verdict(), report.doubts), (Verdict::Inconclusive, vec![doubt]));

    let mut newer = world.read(&world.leader, 5).to_value();
    newer["receipt"]["version"] = json!(9);
    newer["receipt"]["number"] = json!(6);
    world.chains.put(&world.leader.chain(), 6, newer.to_string().as_bytes());
    let report = world.verify();
    assert_eq!(report.verdict(), Verdict::Inconclusive);
    assert_eq!(report.doubts[0].kind, DoubtKind::Newer(9));
}

#[test]
fn what_a_writer_signed_before_it_was_revoked_counts_for_ever_and_nothing_later() {
    let world = World::new();
    let revoked = BEGINNING.plus(Duration::from_hours(4));
    let with = |revoked| {
        let key = Key { revoked: Some(revoked), ..key_of(&world.other) };
        [key_of(&world.leader), key].into_iter().collect::<KeyRing>()
    };
    let report = verify(&world.bundle(), &with(revoked), &[]);
    let flaws: Vec<_> = report.findings.iter().map(|f| (f.number, f.flaw.clone())).collect();
    assert_eq!(flaws, [4, 5].map(|n| (n, Flaw::AfterRevocation(revoked))));
    let later = with(BEGINNING.plus(Duration::from_hours(6)));
    assert_eq!(verify(&world.bundle(), &later, &[]).verdict(), Verdict::Sound);
}

fn expire(world: &World, signer: &TestSigner, through: u64, retention_days: u32, on_day: u64) {
    let last = world.read(&world.other, through);
    let mut event = Event::new(Action::Expired, Outcome::Done);
    event.expired.push(Expired {
        chain: world.other.chain(),
        through,
        hash: last.hash(),
        at: last.receipt().draft.at,
        retention_days,
    });
    world.add_event(signer, on_day * 24, event);
}

#[test]
fn a_beginning_that_expired_may_be_gone_as_far_as_was_said() {
    let world = World::new();
    expire(&world, &world.leader, 3, 10, 11);
    for gone in 1..=3 {
        world.chains.remove(&world.other.chain(), gone).unwrap();
        let report = world.verify();
        assert_eq!(report.verdict(), Verdict::Sound, "{gone}: {report:?}");
    }
    let chain = world.verify().chains.into_iter().find(|c| c.chain == world.other.chain()).unwrap();
    assert_eq!((chain.expired_through, chain.first.unwrap().0), (Some(3), 4));
    world.chains.remove(&world.other.chain(), 4).unwrap();
    only(&world.verify(), &world.other, 5, &Flaw::Removed { from: 4, to: 4 });
}

#[test]
fn an_expiry_by_nobody_who_may_or_before_its_time_expires_nothing() {
    let world = World::new();
    expire(&world, &world.other, 3, 10, 11);
    let plain = Key { role: "write".to_owned(), ..key_of(&world.other) };
    let keys: KeyRing = [key_of(&world.leader), plain].into_iter().collect();
    only(&verify(&world.bundle(), &keys, &[]), &world.other, 6, &Flaw::MayNotExpire);

    let world = World::new();
    expire(&world, &world.leader, 3, 12, 11);
    only(&world.verify(), &world.leader, 6, &Flaw::ExpiredEarly(world.other.chain()));
}

#[test]
fn an_excerpt_is_followed_within_itself() {
    let world = World::new();
    let hour = |n| Some(BEGINNING.plus(Duration::from_hours(n)));
    let excerpt = crate::bundle::Excerpt { from: hour(2), to: hour(4) };
    let report = verify(&world.bundle().excerpt(excerpt), &world.keys(), &[]);
    assert_eq!((report.verdict(), report.receipts()), (Verdict::Sound, 6));
    assert_eq!(report.excerpt, Some(excerpt));
    world.chains.remove(&world.leader.chain(), 3).unwrap();
    let report = verify(&world.bundle().excerpt(excerpt), &world.keys(), &[]);
    only(&report, &world.leader, 4, &Flaw::Removed { from: 3, to: 3 });
}

/// Any single change of one byte of any receipt is found.
#[test]
fn a_flipped_bit_in_any_byte_of_a_receipt_shows() {
    let world = World::new();
    let chain = world.other.chain();
    let good = world.read(&world.other, 2).to_bytes().unwrap();
    for byte in 0..good.len() {
        let mut flipped = good.clone();
        flipped[byte] ^= 1 << (byte % 7);
        world.chains.put(&chain, 2, &flipped);
        let report = world.verify();
        assert_ne!(report.verdict(), Verdict::Sound, "byte {byte}: {}", String::from_utf8_lossy(&flipped));
    }
    world.chains.put(&chain, 2, &good);
    assert_eq!(world.verify().verdict(), Verdict::Sound);
}
