//! Copies with rules of their own: what they get, keep and give up, with a clock that is moved.

use crate::retention::{DAY, HOUR, Moved, SEGMENT, assert_whole, environment, pruned, publish_as_maintainer};
use lifeboat_base::Secret;
use lifeboat_base::clock::{Clock, Timestamp};
use lifeboat_objects::memory::MemoryStore;
use lifeboat_plan::{Retain, Span};
use lifeboat_recovery::copying::{CopyRules, worth_copying};
use lifeboat_recovery::retention::decide;
use lifeboat_repository::ids::{BodyHash, DatasetName};
use lifeboat_repository::tree::Metadata;
use lifeboat_repository::{
    CopyReport, Held, InitOptions, Lock, Published, Repository, Role, SnapshotWriter, copy_beside,
};
use lifeboat_store_postgres::SnapshotFacts;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// A repository whose clock is moved, and a copy of it.
struct Pair {
    moved: Moved,
    copy: Arc<Repository>,
    _states: [tempfile::TempDir; 2],
}

impl Pair {
    fn new() -> Self {
        let states = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let moved = Moved::new(states[0].path());
        let store = Arc::new(MemoryStore::with_clock(Clock::Manual(moved.clock.clone())));
        let lock = [(Lock::Command(Secret::new(vec![3; 32])), "copy".to_owned())];
        let options = InitOptions { grace: Duration::ZERO, ..InitOptions::default() };
        let its = environment(&moved.clock, Some(states[1].path()));
        let copy = Repository::init_copy(store, &moved.repository, &lock, &options, its).unwrap();
        Self { moved, copy: Arc::new(copy), _states: states }
    }

    /// Brings the copy up to date by its own rules.
    fn bring(&self, retain: Retain) -> CopyReport {
        let (origin, target) = (&self.moved.repository, &self.copy);
        let held = Held::of(target).unwrap();
        let retain_of = |_: &DatasetName| Some(retain);
        let rules = CopyRules { target, held: &held, retain_of: &retain_of, now: self.moved.now() };
        let snapshots = origin.snapshots(None, &mut Vec::new()).unwrap();
        let worthy = worth_copying(origin, snapshots, &rules).unwrap();
        copy_beside(origin, target, &worthy, held).unwrap()
    }

    fn prune(&self, retain: Retain) -> usize {
        pruned(&self.copy, retain, self.moved.now()).forgotten.len()
    }

    fn in_copy(&self) -> Vec<Published> {
        self.copy.snapshots(None, &mut Vec::new()).unwrap()
    }

    fn taken_in_copy(&self) -> Vec<Timestamp> {
        self.in_copy().into_iter().map(|published| published.snapshot.taken).collect()
    }

    fn ids_in_copy(&self) -> Vec<BodyHash> {
        self.in_copy().into_iter().map(|published| published.id).collect()
    }
}

/// What a table keeps of everything that there ever was.
fn kept(all: &[Timestamp], retain: &Retain, now: Timestamp) -> Vec<Timestamp> {
    let reasons = decide(all, retain, now);
    all.iter().zip(reasons).filter(|(_, reasons)| !reasons.is_empty()).map(|(time, _)| *time).collect()
}

#[test]
fn a_copy_gets_what_its_rules_keep_and_nothing_that_they_would_give_up_at_once() {
    let pair = Pair::new();
    let at_least = NonZeroU32::new(2);
    let retain = Retain { daily: 4, weekly: 2, at_least, ..Retain::default() };
    let mut all = Vec::new();
    for _ in 0..40 {
        pair.moved.clock.advance(6 * HOUR);
        publish_as_maintainer(&pair.moved);
        all.push(pair.moved.now());
    }
    // The origin has kept ten days, and the copy is new.
    let report = pair.bring(retain);
    let expected = kept(&all, &retain, pair.moved.now());
    assert!(expected.len() < 8, "{expected:?}");
    assert_eq!((report.copied.len(), pair.taken_in_copy()), (expected.len(), expected));
    assert_eq!(pair.prune(retain), 0);
    assert_eq!(pair.bring(retain).copied, []);
    // Two weeks more, in which the copy is brought up to date now and then.
    for n in 0..56_u64 {
        pair.moved.clock.advance(6 * HOUR);
        publish_as_maintainer(&pair.moved);
        all.push(pair.moved.now());
        if n % 3 == 0 {
            pair.bring(retain);
        }
        if n % 7 == 0 {
            pair.bring(retain);
            pair.prune(retain);
            assert_eq!(pair.taken_in_copy(), kept(&all, &retain, pair.moved.now()), "{n}");
            let again = pair.bring(retain);
            assert_eq!((again.copied.len(), again.stored_bytes, again.logs), (0, 0, 0), "{n}");
            assert_eq!(pair.prune(retain), 0, "{n}");
        }
        let there = pair.taken_in_copy();
        assert!(there.len() >= 2, "{n}: never below at_least");
    }
    assert_whole(&pair.copy);
    // The newest stays, however old everything is.
    pair.moved.clock.advance(1000 * DAY);
    pair.prune(Retain::default());
    assert_eq!(pair.taken_in_copy().len(), 1);
    pair.bring(Retain::default());
    pair.prune(Retain::default());
    assert_eq!(pair.taken_in_copy().as_slice(), &all[all.len() - 1..]);
}

#[test]
fn what_was_given_up_in_the_copy_by_hand_does_not_stand_in_for_what_could_come() {
    let pair = Pair::new();
    let retain = Retain { daily: 2, ..Retain::default() };
    pair.moved.clock.advance(2 * HOUR);
    let early = publish_as_maintainer(&pair.moved);
    pair.moved.clock.advance(HOUR);
    let late = publish_as_maintainer(&pair.moved);
    pair.moved.clock.advance(DAY);
    let next = publish_as_maintainer(&pair.moved);
    pair.bring(retain);
    assert_eq!(pair.ids_in_copy(), [late.id, next.id]);
    let found = pair.copy.find_snapshot(None, &late.id.to_string()).unwrap();
    pair.copy.forget(&pair.copy.writer().unwrap(), &found, "test").unwrap();
    assert_eq!(pair.bring(retain).copied, [early.id]);
    assert_eq!(pair.ids_in_copy(), [early.id, next.id]);
    assert_eq!(pair.prune(retain), 0);
}

#[test]
fn a_copy_with_a_window_keeps_its_own_log_and_gets_no_older_one_back() {
    let mut pair = Pair::new();
    let retain = Retain { daily: 6, window: Some(Span::new(2 * DAY)), ..Retain::default() };
    for day in 0..7_u64 {
        for _ in 0..4 {
            pair.moved.clock.advance(6 * HOUR);
            for _ in 0..5 {
                pair.moved.write(1 << 20);
            }
            pair.moved.snapshot();
            // What is written after a snapshot is log alone.
            pair.moved.write(100_000);
            pair.bring(retain);
        }
        // The origin keeps everything, and puts its log together under names that the copy does not know.
        pruned(&pair.moved.repository, Retain { versions: 1000, ..Retain::default() }, pair.moved.now());
        pair.bring(retain);
        pair.prune(retain);
        let held = pair.moved.held_in(&pair.copy);
        let again = pair.bring(retain);
        assert_eq!((again.copied.len(), again.logs), (0, 0), "day {day}: {again:?}");
        assert_eq!(pair.moved.held_in(&pair.copy), held, "day {day}");
        assert_whole(&pair.copy);
        // Everything from the newest snapshot before the window on.
        let (start, there) = (pair.moved.now().minus(2 * DAY), pair.in_copy());
        assert_eq!(there.last().map(|one| one.snapshot.taken), Some(pair.moved.now()), "day {day}");
        let first = there.iter().rev().find(|one| one.snapshot.taken <= start).or(there.first()).unwrap();
        let needed = SnapshotFacts::read(&first.snapshot.facts).unwrap().first_needed().0.max(SEGMENT);
        let has_window = held.iter().any(|(from, to)| *from <= needed && *to == pair.moved.end());
        assert!(has_window, "day {day}: {needed} to {} in {held:?}", pair.moved.end());
    }
    let sum = |held: Vec<(u64, u64)>| held.iter().map(|(from, to)| to - from).sum::<u64>();
    let (in_copy, in_origin) = (sum(pair.moved.held_in(&pair.copy)), sum(pair.moved.held()));
    assert!(in_copy < in_origin * 2 / 3, "{in_copy} of {in_origin}");
}

#[test]
fn of_a_write_only_host_the_newest_comes_whatever_it_says_of_its_age() {
    let pair = Pair::new();
    let laptop_state = tempfile::tempdir().unwrap();
    let laptop = pair.moved.opened_elsewhere(laptop_state.path());
    let publish = |taken: Timestamp| -> Published {
        let mut writer = SnapshotWriter::begin(&laptop, pair.moved.source("files")).unwrap();
        writer.set_taken(taken);
        writer.finish(Metadata::default()).unwrap()
    };
    let first = publish(pair.moved.now());
    pair.moved
        .repository
        .enrol(laptop.writer().unwrap().public(), "laptop", Role::WriteOnly, Vec::new())
        .unwrap();
    let retain = Retain { versions: 1, ..Retain::default() };
    assert_eq!(pair.bring(retain).copied, [first.id]);
    pair.moved.clock.advance(HOUR);
    // It says that it is older than what the copy has: it arrives later nevertheless.
    let second = publish(pair.moved.now().minus(DAY));
    pair.moved.clock.advance(HOUR);
    assert_eq!(pair.bring(retain).copied, [second.id]);
    assert_eq!(pair.prune(retain), 1);
    assert_eq!(pair.ids_in_copy(), [second.id]);
    assert_eq!(pair.bring(retain).copied, []);
}
