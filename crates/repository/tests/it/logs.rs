//! Logs, with a synthetic store: whatever is killed, lost, doubled or late, nothing acknowledged is missing,
//! nothing is doubled, and nothing is believed that is not known.
//!
//! The store produces transaction *n* from a seed, so that what a log must hold is known at every position.
//! Randomised tests print their seed; `LIFEBOAT_LOG_SEED` pins it.

#![expect(
    clippy::print_stdout,
    reason = "seeds are printed, and the driver speaks to the test that kills it"
)]
#![expect(clippy::unwrap_used, reason = "tests; the lint only knows functions that are marked as such")]

use crate::support::*;
use lifeboat_base::Secret;
use lifeboat_base::clock::{Clock, Timestamp};
use lifeboat_objects::directory::DirectoryStore;
use lifeboat_objects::fault::{Fault, Faulty, Plan};
use lifeboat_objects::{Key, ObjectErrorKind, ObjectStore, SharedStore, list_all};
use lifeboat_repository::tree::Metadata;
use lifeboat_repository::{
    CompactOptions, CompactReport, Environment, LOG_END_FACT, LOG_POSITION_FACT, Lineage, LineageLog, Lock,
    LogCatalogue, LogCutOff, LogError, LogExtent, LogPayload, LogReader, LogStanding, LogWriter,
    PruneOptions, PruneReport, Published, Repository, RepositoryError, SnapshotWriter, Unlock, compact_logs,
    fuzz_log, prune_with, stretches,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "synthetic";

/// A store that produces a stream of transactions: the same for the same seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FakeStore {
    pub(crate) seed: u64,
    pub(crate) units: bool,
}

impl FakeStore {
    fn transaction(self, n: u64) -> Vec<u8> {
        let length = if self.units { (n * 7 + self.seed) % 90 } else { 1 };
        noise(self.seed.wrapping_mul(31).wrapping_add(n), length as usize)
    }

    pub(crate) fn payload(self, range: Range<u64>) -> LogPayload {
        let units: Vec<Vec<u8>> = range.map(|n| self.transaction(n)).collect();
        if self.units { LogPayload::Units(units) } else { LogPayload::Bytes(units.concat()) }
    }
}

pub(crate) const UNITS: FakeStore = FakeStore { seed: 1, units: true };
pub(crate) const BYTES: FakeStore = FakeStore { seed: 2, units: false };

/// Random numbers that a seed repeats.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below.max(1)
    }
}

/// Seeds of a randomised test, each printed.
pub(crate) fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let pinned = std::env::var("LIFEBOAT_LOG_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let first = pinned.unwrap_or_else(|| u64::from_le_bytes(lifeboat_base::random::bytes()) >> 8 | 1);
    (0..if pinned.is_some() { 1 } else { count }).map(move |n| {
        let seed = first.wrapping_add(n * 0x9e37_79b9);
        println!("LIFEBOAT_LOG_SEED={seed}");
        seed
    })
}

pub(crate) fn lineage() -> Lineage {
    Lineage::new("7123-1").unwrap()
}

pub(crate) fn extent(repository: &Repository, range: &Range<u64>) -> LogExtent {
    // Arrival follows the position, so that times can be foretold.
    let _ = repository;
    LogExtent { start: range.start, end: range.end, first: at(range.start), last: at(range.end - 1) }
}

pub(crate) fn at(position: u64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + position as i64)
}

pub(crate) fn open(repository: &Arc<Repository>) -> LogWriter {
    let signer = repository.writer().unwrap();
    LogWriter::open(repository, &signer, &dataset("db"), &lineage()).unwrap()
}

pub(crate) fn ship(writer: &mut LogWriter, house: &House, store: FakeStore, range: Range<u64>) {
    let end = range.end;
    let durable = writer.append(extent(&house.repository, &range), KIND, &store.payload(range)).unwrap();
    assert_eq!((durable, writer.end()), (end, Some(end)));
}

pub(crate) fn read(repository: &Arc<Repository>, range: Range<u64>) -> Result<Vec<LogPayload>, LogError> {
    LogReader::open(repository, &dataset("db"), &lineage(), range)?
        .map(|piece| piece.map(|piece| piece.payload))
        .collect()
}

pub(crate) fn joined(pieces: Vec<LogPayload>) -> LogPayload {
    match pieces.first() {
        Some(LogPayload::Units(_)) => LogPayload::Units(
            pieces
                .into_iter()
                .flat_map(|piece| match piece {
                    LogPayload::Units(units) => units,
                    LogPayload::Bytes(_) => panic!("bytes among units"),
                })
                .collect(),
        ),
        _ => LogPayload::Bytes(
            pieces
                .into_iter()
                .flat_map(|piece| match piece {
                    LogPayload::Bytes(bytes) => bytes,
                    LogPayload::Units(_) => panic!("units among bytes"),
                })
                .collect(),
        ),
    }
}

pub(crate) fn assert_holds(repository: &Arc<Repository>, store: FakeStore, range: Range<u64>) {
    let pieces = read(repository, range.clone()).unwrap_or_else(|e| panic!("{}", lifeboat_base::report(&e)));
    let held = if pieces.is_empty() { store.payload(0..0) } else { joined(pieces) };
    assert!(held == store.payload(range.clone()), "{range:?} is not what the store did");
}

pub(crate) fn summary(repository: &Arc<Repository>) -> LineageLog {
    let mut unreadable = Vec::new();
    let mut all = stretches(repository, &dataset("db"), &mut unreadable).unwrap();
    assert!(unreadable.is_empty(), "{unreadable:?}");
    assert_eq!(all.len(), 1);
    all.remove(0)
}

pub(crate) fn extents(log: &LineageLog) -> Vec<(u64, u64)> {
    log.stretches.iter().map(|stretch| (stretch.start, stretch.end)).collect()
}

pub(crate) fn objects(store: &dyn ObjectStore) -> Vec<Key> {
    list_all(store, "logs/").unwrap().into_iter().map(|listed| listed.key).collect()
}

/// The objects that hold exactly these positions.
pub(crate) fn objects_of(house: &House, range: Range<u64>) -> Vec<Key> {
    let name = format!("/{:016x}-{:016x}-", range.start, range.end);
    objects(&*house.store).into_iter().filter(|key| key.as_str().contains(&name)).collect()
}

pub(crate) fn compact(repository: &Arc<Repository>, at_least: usize) -> CompactReport {
    let signer = repository.writer().unwrap();
    let options = CompactOptions { at_least, target_bytes: 32 << 10 };
    compact_logs(repository, &signer, &dataset("db"), &lineage(), options).unwrap()
}

pub(crate) fn prune_logs(repository: &Arc<Repository>, before: Option<u64>) -> PruneReport {
    let cut_off = before.map(|before| cut_off(before, &[]));
    prune_logs_with(repository, cut_off.as_slice())
}

pub(crate) fn cut_off(before: u64, stays: &[Range<u64>]) -> LogCutOff {
    LogCutOff { dataset: dataset("db"), lineage: lineage(), before, stays: stays.to_vec() }
}

pub(crate) fn prune_logs_with(repository: &Arc<Repository>, cut_offs: &[LogCutOff]) -> PruneReport {
    let options = PruneOptions { wait: Duration::ZERO, ..PruneOptions::default() };
    prune_with(repository, options, cut_offs).unwrap()
}

/// A second machine.
pub(crate) fn elsewhere(house: &House) -> (tempfile::TempDir, Arc<Repository>) {
    let state = tempfile::tempdir().unwrap();
    let repository = house.open_elsewhere(state.path()).unwrap();
    (state, repository)
}

pub(crate) fn flip(house: &House, key: &Key, from_end: usize) {
    let mut bytes = house.store.get(key).unwrap();
    let at = bytes.len() - from_end;
    bytes[at] ^= 1;
    house.store.overwrite(key, &bytes);
}

#[test]
fn what_was_appended_is_read_to_any_position() {
    for store in [UNITS, BYTES] {
        let house = House::new();
        let mut writer = open(&house.repository);
        assert_eq!(writer.end(), None);
        for range in [100..130, 130..131, 131..400, 400..900] {
            ship(&mut writer, &house, store, range);
        }
        for range in [100..900, 100..101, 130..131, 129..132, 250..899, 899..900] {
            assert_holds(&house.repository, store, range);
        }
        let log = summary(&house.repository);
        assert_eq!((extents(&log), log.holes, log.objects), (vec![(100, 900)], vec![], 4));
        assert_eq!((log.stretches[0].first, log.stretches[0].last), (at(100), at(899)));
        assert_eq!(open(&house.repository).end(), Some(900), "it continues at the durable end");
        assert!(matches!(writer.compare().unwrap(), LogStanding::Alone));
    }
}

#[test]
fn what_exists_is_known_without_reading_payloads() {
    let house = House::new();
    let big = LogPayload::Bytes(noise(9, 3 << 20));
    let mut writer = open(&house.repository);
    let range = 0..big.positions();
    writer.append(extent(&house.repository, &range), KIND, &big).unwrap();
    let counted = Arc::new(lifeboat_objects::count::Counted::new(house.store.clone()));
    let repository =
        Repository::open(counted.clone(), &House::unlock(), environment(house.state.path(), &house.clock))
            .map(Arc::new)
            .unwrap();
    let before = counted.counts().bytes_read();
    assert_eq!(extents(&summary(&repository)), [(0, 3 << 20)]);
    let bytes = counted.counts().bytes_read() - before;
    assert!(bytes <= 8192, "{bytes} bytes were read");
}

#[test]
fn an_append_must_continue_and_must_fit() {
    let house = House::new();
    let mut writer = open(&house.repository);
    ship(&mut writer, &house, UNITS, 10..20);
    let mut append = |range: Range<u64>, payload: &LogPayload| {
        writer.append(extent(&house.repository, &range), KIND, payload).unwrap_err()
    };
    let error = append(21..30, &UNITS.payload(21..30));
    assert!(matches!(error, LogError::NotNext { expected: 20, start: 21 }), "{error}");
    let error = append(19..30, &UNITS.payload(19..30));
    assert!(matches!(error, LogError::NotNext { expected: 20, start: 19 }), "{error}");
    let error = append(20..31, &UNITS.payload(20..30));
    assert!(matches!(error, LogError::WrongExtent { positions: 10, .. }), "{error}");
    let huge = LogPayload::Bytes(vec![0; (32 << 20) + 1]);
    let error = append(20..20 + huge.positions(), &huge);
    assert!(matches!(error, LogError::TooLarge { .. }), "{error}");
    assert_eq!(objects(&*house.store).len(), 1);
    assert!(matches!(writer.skip_to(19), Err(LogError::NotNext { .. })));
    assert!(Lineage::new("../up").is_err() && Lineage::new("").is_err());
}

#[test]
fn the_largest_payload_fits_one_object() {
    let house = House::new();
    let mut writer = open(&house.repository);
    let largest = LogPayload::Bytes(noise(3, 32 << 20));
    writer.append(extent(&house.repository, &(0..32 << 20)), KIND, &largest).unwrap();
    assert!(joined(read(&house.repository, 0..32 << 20).unwrap()) == largest);
}

#[test]
fn a_hole_is_explicit_and_shown() {
    let house = House::new();
    let mut writer = open(&house.repository);
    ship(&mut writer, &house, UNITS, 0..10);
    writer.skip_to(15).unwrap();
    ship(&mut writer, &house, UNITS, 15..30);
    let log = summary(&house.repository);
    assert_eq!((extents(&log), log.holes), (vec![(0, 10), (15, 30)], vec![(10, 15)]));
    let error = read(&house.repository, 0..30).unwrap_err();
    assert!(matches!(error, LogError::Hole { from: 10, to: 15, .. }), "{error}");
    assert_holds(&house.repository, UNITS, 15..30);
    // Another writer who still has it fills it, and the log reads through.
    let (_state, other) = elsewhere(&house);
    let signer = other.writer().unwrap();
    let mut filling = LogWriter::open_at(&other, &signer, &dataset("db"), &lineage(), 10).unwrap();
    ship(&mut filling, &house, UNITS, 10..15);
    assert_holds(&house.repository, UNITS, 0..30);
    assert_eq!(extents(&summary(&house.repository)), [(0, 30)]);
    assert_eq!(open(&other).end(), Some(30));
}

#[test]
fn a_missing_object_in_the_middle_is_a_hole_and_reading_gives_what_comes_before() {
    let house = House::new();
    let mut writer = open(&house.repository);
    for n in 0..5 {
        ship(&mut writer, &house, BYTES, n * 10..(n + 1) * 10);
    }
    house.store.delete(&objects_of(&house, 20..30)[0]).unwrap();
    let log = summary(&house.repository);
    assert_eq!((extents(&log), log.holes), (vec![(0, 20), (30, 50)], vec![(20, 30)]));
    let mut reader = LogReader::open(&house.repository, &dataset("db"), &lineage(), 0..50).unwrap();
    let before: Vec<LogPayload> = reader.by_ref().map_while(Result::ok).map(|piece| piece.payload).collect();
    assert_eq!(joined(before), BYTES.payload(0..20));
    assert_eq!(reader.position(), 20);
    let error = read(&house.repository, 0..50).unwrap_err();
    assert!(matches!(error, LogError::Hole { from: 20, to: 30, .. }), "{error}");
    // Asked for less than the hole, it ends where it was asked to.
    let error = read(&house.repository, 0..25).unwrap_err();
    assert!(matches!(error, LogError::Hole { from: 20, to: 25, .. }), "{error}");
}

#[test]
fn damage_is_named_unless_another_object_stands_in() {
    let house = House::new();
    let (_state, other) = elsewhere(&house);
    let (mut a, mut b) = (open(&house.repository), open(&other));
    for range in [0..10, 10..20, 20..30] {
        ship(&mut a, &house, UNITS, range);
    }
    let damaged = objects_of(&house, 10..20).remove(0);
    let whole = house.store.get(&damaged).unwrap();
    for from_end in [1, whole.len() - 100, whole.len() - 14, whole.len() - 1] {
        flip(&house, &damaged, from_end);
        let error = read(&house.repository, 0..30).unwrap_err();
        assert!(
            matches!(&error, LogError::Repository(RepositoryError::Damaged { object, .. }) if object == damaged.as_str()),
            "{from_end}: {error}"
        );
        house.store.overwrite(&damaged, &whole);
    }
    house.store.overwrite(&damaged, &whole[..whole.len() - 1]);
    let mut unreadable = Vec::new();
    let log = stretches(&house.repository, &dataset("db"), &mut unreadable).unwrap().remove(0);
    assert_eq!((log.holes, unreadable.len()), (vec![(10, 20)], 1), "a torn object shows without its payload");
    flip(&house, &damaged, 20);
    house.store.overwrite(&damaged, &whole);
    flip(&house, &damaged, 5);
    // The other leader had shipped the same, cut differently.
    for range in [0..12, 12..25] {
        ship(&mut b, &house, UNITS, range);
    }
    let mut reader = LogReader::open(&house.repository, &dataset("db"), &lineage(), 0..30).unwrap();
    let pieces: Vec<LogPayload> = reader.by_ref().map(|piece| piece.unwrap().payload).collect();
    assert_eq!(joined(pieces), UNITS.payload(0..30));
    assert_eq!(reader.unreadable().len(), 1);
}

#[test]
fn a_damaged_object_was_no_fork_for_what_follows_it() {
    let house = House::new();
    let (_state, other) = elsewhere(&house);
    let mut a = open(&house.repository);
    for range in [0..10, 10..20, 20..30] {
        ship(&mut a, &house, BYTES, range);
    }
    let damaged = objects_of(&house, 10..20).remove(0);
    flip(&house, &damaged, 3);
    // Another writer's object stands in for it; what comes next names the damaged one, whose head is good.
    let signer = other.writer().unwrap();
    let mut b = LogWriter::open_at(&other, &signer, &dataset("db"), &lineage(), 10).unwrap();
    ship(&mut b, &house, BYTES, 10..20);
    assert_holds(&house.repository, BYTES, 0..30);
    // With other content there is no telling whose branch goes on.
    let house = House::new();
    let (_state, other) = elsewhere(&house);
    let mut a = open(&house.repository);
    for range in [0..10, 10..20, 20..30] {
        ship(&mut a, &house, BYTES, range);
    }
    flip(&house, &objects_of(&house, 10..20).remove(0), 3);
    let signer = other.writer().unwrap();
    let mut b = LogWriter::open_at(&other, &signer, &dataset("db"), &lineage(), 10).unwrap();
    ship(&mut b, &house, FakeStore { seed: 99, ..BYTES }, 10..20);
    let error = read(&house.repository, 0..30).unwrap_err();
    assert!(matches!(error, LogError::Unlinked { position: 20, .. }), "{error}");
}

#[test]
fn a_thawed_leader_that_ships_the_same_does_no_harm() {
    let house = House::new();
    let (_state, other) = elsewhere(&house);
    let mut old = open(&house.repository);
    old.set_generation(Some(1));
    ship(&mut old, &house, BYTES, 0..100);
    // It freezes; the new leader goes on from what is durable, and the old one thaws with the same in hand.
    let mut new = open(&other);
    new.set_generation(Some(2));
    assert_eq!(new.end(), Some(100));
    ship(&mut new, &house, BYTES, 100..200);
    ship(&mut old, &house, BYTES, 100..200);
    assert!(matches!(old.compare().unwrap(), LogStanding::Agreed));
    assert!(matches!(new.compare().unwrap(), LogStanding::Agreed));
    ship(&mut new, &house, BYTES, 200..250);
    ship(&mut old, &house, BYTES, 200..330);
    ship(&mut new, &house, BYTES, 250..300);
    assert!(matches!(old.compare().unwrap(), LogStanding::Agreed));
    // What the old one alone acknowledged is there, under its lower generation.
    assert_holds(&house.repository, BYTES, 0..330);
    assert_eq!(extents(&summary(&house.repository)), [(0, 330)]);
    assert_eq!(objects(&*house.store).len(), 6, "both kept what they acknowledged");
    // And the next writer continues behind it.
    assert_eq!(open(&other).end(), Some(330));
}

#[test]
fn histories_that_differ_fork_and_nothing_is_chosen() {
    let other_history = FakeStore { seed: 99, ..BYTES };
    for (second, same_cut) in [(100..200, true), (100..160, false)] {
        let house = House::new();
        let (_state, other) = elsewhere(&house);
        let mut a = open(&house.repository);
        ship(&mut a, &house, BYTES, 0..100);
        let mut b = open(&other);
        ship(&mut a, &house, BYTES, 100..200);
        assert!(matches!(a.compare().unwrap(), LogStanding::Alone));
        ship(&mut b, &house, other_history, second.clone());
        let LogStanding::Forked(LogError::Forked { position, .. }) = b.compare().unwrap() else {
            panic!("the fork was not reported")
        };
        let differs = (100..200).find(|n| BYTES.transaction(*n) != other_history.transaction(*n)).unwrap();
        assert_eq!(position, differs);
        ship(&mut a, &house, BYTES, 200..220);
        let error = read(&house.repository, 0..220).unwrap_err();
        assert!(matches!(&error, LogError::Forked { position, .. } if *position == differs), "{error}");
        assert_eq!(summary(&house.repository).forks.len(), usize::from(same_cut));
        assert_holds(&house.repository, BYTES, 0..100);
        // Nothing that was acknowledged is lost: each branch reads whole for who asks for it.
        let branch = |repository: &Arc<Repository>, range: Range<u64>| {
            let writer = repository.writer().unwrap().id();
            let reader = LogReader::open(&house.repository, &dataset("db"), &lineage(), range).unwrap();
            let pieces: Result<Vec<LogPayload>, LogError> =
                reader.on_branch(writer).map(|piece| piece.map(|piece| piece.payload)).collect();
            pieces.map(joined)
        };
        assert_eq!(branch(&house.repository, 0..220).unwrap(), BYTES.payload(0..220));
        assert_eq!(branch(&other, 100..second.end).unwrap(), other_history.payload(second.clone()));
        // The other branch ends where its writer stopped: what follows there is not its own.
        assert!(branch(&other, 0..220).is_err());
        // Compaction leaves a fork alone.
        let report = compact(&house.repository, 2);
        assert_eq!((report.written, report.refused.len()), (0, 1), "{report:?}");
        assert_eq!(prune_logs(&house.repository, None).deleted_logs, 0);
        assert_eq!(branch(&other, 100..second.end).unwrap(), other_history.payload(second));
    }
}

#[test]
fn an_object_that_continues_something_else_is_not_taken_for_the_next() {
    let house = House::new();
    let (_state, other) = elsewhere(&house);
    let (mut a, mut b) = (open(&house.repository), open(&other));
    ship(&mut a, &house, BYTES, 0..10);
    let other_history = FakeStore { seed: 99, ..BYTES };
    ship(&mut b, &house, other_history, 0..10);
    ship(&mut b, &house, other_history, 10..20);
    let of_b = other.writer().unwrap().id().to_string();
    let first = objects_of(&house, 0..10).into_iter().find(|key| key.as_str().contains(&of_b)).unwrap();
    // The fork itself is gone; the link still shows that the two do not belong together.
    house.store.delete(&first).unwrap();
    let error = read(&house.repository, 0..20).unwrap_err();
    assert!(matches!(error, LogError::Unlinked { position: 10, .. }), "{error}");
    assert_holds(&house.repository, BYTES, 0..10);
    assert_holds(&house.repository, other_history, 10..20);
}

#[test]
fn strangers_and_swapped_objects_are_no_recovery_points() {
    let house = House::new();
    let mut writer = open(&house.repository);
    ship(&mut writer, &house, BYTES, 0..10);
    ship(&mut writer, &house, BYTES, 10..20);
    let (first, second) = (objects_of(&house, 0..10).remove(0), objects_of(&house, 10..20).remove(0));
    let stranger = House::new();
    ship(&mut open(&stranger.repository), &stranger, BYTES, 0..10);
    let foreign = stranger.store.get(&objects(&*stranger.store)[0]).unwrap();
    let place =
        |name: &str| Key::new(format!("{}{name}", first.as_str().rsplit_once('/').unwrap().0)).unwrap();
    let far = format!("/{:016x}-{:016x}-{}-0000000000000001", 20, 900, writer_of(&house));
    // A stranger's object, one that was moved, and bytes that are nothing.
    let (own, key) = (house.store.get(&second).unwrap(), place(&far));
    for bytes in [foreign.as_slice(), own.as_slice(), b"nothing"] {
        house.store.overwrite(&key, bytes);
        let mut unreadable = Vec::new();
        let log = stretches(&house.repository, &dataset("db"), &mut unreadable).unwrap().remove(0);
        assert_eq!((extents(&log), unreadable.len()), (vec![(0, 20)], 1));
        assert_holds(&house.repository, BYTES, 0..20);
        assert!(read(&house.repository, 0..30).is_err());
        assert_eq!(open(&house.repository).end(), Some(20));
    }
    // The payload of one under the head of the other, of the same length.
    let (mut mixed, donor) = (house.store.get(&first).unwrap(), house.store.get(&second).unwrap());
    let payload = u32::from_le_bytes(mixed[12..16].try_into().unwrap()) as usize;
    let from = mixed.len() - payload;
    mixed[from..].copy_from_slice(&donor[donor.len() - payload..]);
    house.store.overwrite(&first, &mixed);
    house.store.delete(&key).unwrap();
    let error = read(&house.repository, 0..20).unwrap_err();
    assert!(lifeboat_base::report(&error).contains("not the one that was signed"), "{error}");
}

/// Needs everything from a position on.
pub(crate) fn snapshot_at(house: &House, position: u64) -> Published {
    snapshot_with(house, &[(LOG_POSITION_FACT, position)])
}

/// Needs these positions for itself.
pub(crate) fn snapshot_of(house: &House, own: Range<u64>) -> Published {
    snapshot_with(house, &[(LOG_POSITION_FACT, own.start), (LOG_END_FACT, own.end)])
}

fn snapshot_with(house: &House, facts: &[(&str, u64)]) -> Published {
    house.clock.advance(Duration::from_secs(60));
    let mut source = source("db");
    source.lineage = Some(lineage().as_str().to_owned());
    let mut writer = SnapshotWriter::begin(&house.repository, source).unwrap();
    for (name, position) in facts {
        writer.set_fact(name, position);
    }
    writer.finish(Metadata::default()).unwrap()
}

fn writer_of(house: &House) -> String {
    house.repository.writer().unwrap().id().to_string()
}

/// Three machines with random cuts of one history, compaction, prune and reading in any order: at every
/// moment the log holds what was acknowledged and nothing else.
#[test]
fn any_order_of_shipping_compacting_and_pruning_keeps_the_history() {
    for seed in seeds(6) {
        let mut dice = Dice(seed);
        let store = FakeStore { seed: dice.roll(1000), units: dice.roll(2) == 0 };
        let house = House::new();
        let machines: Vec<_> = (0..3).map(|_| elsewhere(&house)).collect();
        let mut writers: Vec<LogWriter> = machines.iter().map(|(_, machine)| open(machine)).collect();
        let mut acknowledged = 0;
        for _ in 0..40 {
            let who = dice.roll(3) as usize;
            match dice.roll(12) {
                0 => writers[who] = open(&machines[who].1),
                1 => drop(compact(&machines[who].1, 2 + dice.roll(4) as usize)),
                2 => drop(prune_logs(&machines[who].1, None)),
                3 => match writers[who].compare().unwrap() {
                    LogStanding::Forked(error) => panic!("{error}"),
                    LogStanding::Alone | LogStanding::Agreed => {}
                },
                _ => {
                    let start = writers[who].end().unwrap_or(0);
                    let range = start..start + 1 + dice.roll(40);
                    acknowledged = acknowledged.max(range.end);
                    ship(&mut writers[who], &house, store, range);
                }
            }
            let from = dice.roll(acknowledged.max(1));
            assert_holds(&house.repository, store, from..acknowledged.max(from));
        }
        let log = summary(&house.repository);
        assert_eq!((extents(&log), log.forks), (vec![(0, acknowledged)], vec![]));
        assert_holds(&house.repository, store, 0..acknowledged);
    }
}

/// Requests fail before and after they take effect, and writes are torn: whoever tries again until it is
/// acknowledged has it, once.
#[test]
fn a_store_that_fails_loses_nothing_that_was_acknowledged() {
    for seed in seeds(4) {
        let mut dice = Dice(seed);
        let house = House::new();
        let kinds = [
            Fault::ErrorBefore(ObjectErrorKind::Transient),
            Fault::ErrorAfter(ObjectErrorKind::Transient),
            Fault::Torn { keep_bytes: dice.roll(900) as usize, then: Some(ObjectErrorKind::Transient) },
        ];
        let faulty = Arc::new(Faulty::new(house.store.clone(), Plan::none()));
        let shared: SharedStore = faulty.clone();
        let state = tempfile::tempdir().unwrap();
        let repository = Repository::open(shared, &House::unlock(), environment(state.path(), &house.clock))
            .map(Arc::new)
            .unwrap();
        let signer = repository.writer().unwrap();
        faulty.set_plan(Plan::seeded(seed, 60, kinds));
        let (mut acknowledged, mut failures) = (0, 0);
        while acknowledged < 600 {
            // A restart: the store still has what it has not been told is durable.
            let Ok(mut writer) = LogWriter::open(&repository, &signer, &dataset("db"), &lineage()) else {
                failures += 1;
                continue;
            };
            assert!(writer.end().unwrap_or(0) >= acknowledged, "an acknowledged transaction is missing");
            for _ in 0..1 + dice.roll(20) {
                let start = writer.end().unwrap_or(0);
                let range = start..start + 1 + dice.roll(20);
                match writer.append(extent(&repository, &range), KIND, &UNITS.payload(range.clone())) {
                    Ok(durable) => acknowledged = durable,
                    Err(_) => failures += 1,
                }
            }
        }
        assert!(failures > 0 && !faulty.struck().is_empty(), "the faults happened");
        faulty.set_plan(Plan::none());
        let end = acknowledged;
        let mut reader = LogReader::open(&repository, &dataset("db"), &lineage(), 0..end).unwrap();
        let pieces: Vec<LogPayload> = reader.by_ref().map(|piece| piece.unwrap().payload).collect();
        assert!(joined(pieces) == UNITS.payload(0..end));
    }
}

// Real processes, really killed.

const CHILD_ROOM: &str = "LIFEBOAT_LOG_CHILD";

pub(crate) fn directory_repository(room: &Path, name: &str) -> Arc<Repository> {
    let store: SharedStore = Arc::new(DirectoryStore::create(room.join("repository")).unwrap());
    let environment = Environment {
        state: Some(room.join(name)),
        writer_key: None,
        host: name.to_owned(),
        clock: Clock::System,
    };
    let secret = Secret::new(vec![7; 32]);
    let locks = [(Lock::Command(secret.clone()), "test".to_owned())];
    match Repository::open(store.clone(), &Unlock::Command(secret), environment.clone()) {
        Ok(repository) => Arc::new(repository),
        Err(RepositoryError::NotARepository(_)) => {
            Arc::new(Repository::init(store, &locks, &small_options(), environment).unwrap())
        }
        Err(error) => panic!("{error}"),
    }
}

/// A copy of it beside it.
pub(crate) fn copy_in_directory(room: &Path, origin: &Repository) -> Arc<Repository> {
    let store: SharedStore = Arc::new(DirectoryStore::create(room.join("copy")).unwrap());
    let environment = Environment {
        state: Some(room.join("copier")),
        writer_key: None,
        host: "copier".to_owned(),
        clock: Clock::System,
    };
    let secret = Secret::new(vec![7; 32]);
    match Repository::open(store.clone(), &Unlock::Command(secret.clone()), environment.clone()) {
        Err(RepositoryError::NotARepository(_)) => {
            let locks = [(Lock::Command(secret), "test".to_owned())];
            Arc::new(Repository::init_copy(store, origin, &locks, &small_options(), environment).unwrap())
        }
        opened => Arc::new(opened.unwrap()),
    }
}

/// The driver: continues at the durable end and acknowledges, a line each, what the repository has. Every
/// now and then it compacts. Started alone it does so for a while; as a child of a test until it is killed.
#[test]
fn driver() {
    let child = std::env::var(CHILD_ROOM).ok();
    let alone = tempfile::tempdir().unwrap();
    let room = child.as_deref().map_or(alone.path(), Path::new);
    let repository = directory_repository(room, "driver");
    let mut writer = open(&repository);
    let until = if child.is_some() { u64::MAX } else { writer.end().unwrap_or(0) + 200 };
    let mut dice = Dice(u64::from(std::process::id()) | 1);
    println!();
    while writer.end().unwrap_or(0) < until {
        let start = writer.end().unwrap_or(0);
        let range = start..start + 1 + dice.roll(30);
        let durable = writer.append(extent(&repository, &range), KIND, &UNITS.payload(range)).unwrap();
        println!("acknowledged {durable}");
        std::io::stdout().flush().unwrap();
        if dice.roll(6) == 0 {
            compact(&repository, 4);
            println!("compacted");
        }
    }
    assert_holds(&repository, UNITS, 0..writer.end().unwrap());
}

fn start_driver(room: &Path, failpoints: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["logs::driver", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD_ROOM, room)
        .env("LIFEBOAT_FAILPOINTS", failpoints)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Reads acknowledgements until there are so many, kills, and gives the last position that was acknowledged.
fn kill_after(child: &mut Child, acknowledgements: u64) -> u64 {
    let (mut last, mut seen) = (0, 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(position) = line.strip_prefix("acknowledged ") else { continue };
        last = position.parse().unwrap();
        seen += 1;
        if seen == acknowledgements {
            // It goes on for as long as the signal takes: a random instant. What it says until then counts.
            child.kill().unwrap();
        }
    }
    assert!(!child.wait().unwrap().success(), "it was killed");
    last
}

#[test]
fn a_driver_killed_anywhere_has_lost_and_doubled_nothing() {
    let room = tempfile::tempdir().unwrap();
    drop(directory_repository(room.path(), "driver"));
    let mut acknowledged = 0;
    let mut killed: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in seeds(1) {
        let mut dice = Dice(seed);
        for point in ["log::before-put", "log::after-put", "log::compacted-before-list", "", "", ""] {
            for _ in 0..2 {
                let failpoints = match point {
                    "" => String::new(),
                    point => format!("{point}={}*kill", dice.roll(5)),
                };
                let mut child = start_driver(room.path(), &failpoints);
                let never = if point.is_empty() { 1 + dice.roll(20) } else { u64::MAX };
                acknowledged = acknowledged.max(kill_after(&mut child, never));
                *killed.entry(point).or_default() += 1;
                let repository = directory_repository(room.path(), "observer");
                let end = open(&repository).end().unwrap_or(0);
                assert!(end >= acknowledged, "{end} is durable, {acknowledged} was acknowledged");
                assert_holds(&repository, UNITS, 0..end);
                if end > 0 {
                    let log = summary(&repository);
                    assert!(log.holes.is_empty() && log.forks.is_empty(), "{log:?}");
                }
                if dice.roll(2) == 0 {
                    prune_logs(&repository, None);
                    assert_holds(&repository, UNITS, 0..end);
                }
            }
        }
    }
    assert_eq!(killed.len(), 4);
    let repository = directory_repository(room.path(), "observer");
    compact(&repository, 2);
    assert!(prune_logs(&repository, None).deleted_logs > 0);
    assert_holds(&repository, UNITS, 0..acknowledged);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_log(&bytes);
        let mut framed = b"LBG\x01".to_vec();
        framed.extend_from_slice(&bytes);
        fuzz_log(&framed);
    }
}

#[test]
fn a_catalogue_that_is_kept_reads_only_what_is_new() {
    let house = House::new();
    let mut writer = open(&house.repository);
    for n in 0..20 {
        ship(&mut writer, &house, BYTES, n * 10..(n + 1) * 10);
    }
    let counted = Arc::new(lifeboat_objects::count::Counted::new(house.store.clone()));
    let repository =
        Repository::open(counted.clone(), &House::unlock(), environment(house.state.path(), &house.clock))
            .map(Arc::new)
            .unwrap();
    let mut catalogue = LogCatalogue::read(&repository, &dataset("db")).unwrap();
    ship(&mut writer, &house, BYTES, 200..210);
    let before = counted.counts();
    catalogue.refresh().unwrap();
    assert_eq!(counted.counts().since(&before).get_range.requests, 1);
    assert_eq!(extents(&catalogue.lineages()[0]), [(0, 210)]);
}
