//! Rot: one referenced object is damaged at a time, and check must find it and name what it costs.
//!
//! What it costs is found out by restoring every file of every snapshot one by one. A file that cannot be
//! restored must be named, itself or by a directory above it; nothing may be named that is whole. The seed is
//! printed, and `LIFEBOAT_TEST_SEED` pins it.

use crate::support::*;
use lifeboat_base::Secret;
use lifeboat_base::clock::{Clock, ManualClock, Timestamp};
use lifeboat_objects::memory::MemoryStore;
use lifeboat_objects::{Key, ObjectStore, list_all};
use lifeboat_repository::ids::Position;
use lifeboat_repository::tree::Metadata;
use lifeboat_repository::{
    CheckOptions, CheckReport, ChunkerParameters, InitOptions, Lock, LostFile, PruneOptions, Published,
    Reader, Reading, Repository, RepositoryError, Request, SnapshotWriter, check, prune,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ROUNDS: u64 = 1000;

/// What is damaged, and how often: most of a repository is packs.
const PREFIXES: &[(&str, usize)] = &[
    ("packs/", 6),
    ("index/", 3),
    ("snapshots/", 3),
    ("config", 1),
    ("slots/", 1),
    ("roster/", 1),
    ("condemned/", 1),
    ("verdicts/", 1),
    ("tombstones/", 1),
    ("holds/", 1),
];

/// Small pieces, so that every file has packs, blocks and chunks of its own.
fn tiny_options() -> InitOptions {
    InitOptions {
        chunker: ChunkerParameters { min_bytes: 256, average_bytes: 1024, max_bytes: 4096 },
        block_bytes: 4 << 10,
        pack_bytes: 12 << 10,
        ..small_options()
    }
}

fn tiny_house() -> House {
    let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
    let store = Arc::new(MemoryStore::with_clock(Clock::Manual(clock.clone())));
    let state = tempfile::tempdir().unwrap();
    let locks = [(Lock::Command(Secret::new(vec![7; 32])), "test".to_owned())];
    let environment = environment(state.path(), &clock);
    let repository = Arc::new(Repository::init(store.clone(), &locks, &tiny_options(), environment).unwrap());
    House { store, clock, state, repository }
}

/// Generation `n` of a tree: some files stay, some change, a database changes a little.
fn generation(n: u64) -> Files {
    let mut files = Files::new();
    files.insert("empty".to_owned(), Vec::new());
    files.insert("big.bin".to_owned(), [noise(1, 9000), noise(50 + n, 3000)].concat());
    files.insert("zeros".to_owned(), vec![0; 5000]);
    for file in 0..8 {
        let age = if file % 4 == n % 4 { n } else { 0 };
        files.insert(format!("dir/{file}.txt"), noise(file * 1000 + age, 700));
    }
    files.insert(format!("other/{n}.log"), format!("generation {n} ").repeat(40).into_bytes());
    let mut database = noise(7, 512 * 60);
    for page in 0..n {
        let at = (page * 11 % 60) as usize * 512;
        database[at..at + 512].copy_from_slice(&noise(900 + page, 512));
    }
    files.insert("app.db".to_owned(), database);
    files
}

/// A repository with a past, and what its snapshots must give back.
struct Past {
    house: House,
    /// The snapshots that are not forgotten, with their files.
    live: Vec<(Published, Files)>,
    forgotten: BTreeSet<Position>,
    held: BTreeSet<Key>,
}

impl Past {
    fn new() -> Self {
        let house = tiny_house();
        house.repository.add_slot(&Lock::Command(Secret::new(vec![9; 32])), "second", true).unwrap();
        let mut past = Self { house, live: Vec::new(), forgotten: BTreeSet::new(), held: BTreeSet::new() };
        (1..=4).for_each(|n| past.backup(n));
        past.forget(1);
        past.prune();
        past.two_writers_at_once();
        past.given_up_slot();
        (5..=7).for_each(|n| past.backup(n));
        past.forget(0);
        past.prune();
        past.backup(8);
        past.forget(2);
        past.prune();
        past.holds();
        // Forgotten, and not pruned yet.
        past.forget(3);
        past
    }

    fn backup(&mut self, n: u64) {
        let files = generation(n);
        self.live.push((self.house.backup(&files), files));
    }

    fn forget(&mut self, n: usize) {
        let (published, _) = self.live.remove(n);
        let repository = &self.house.repository;
        repository.forget(&repository.writer().unwrap(), &published, "test").unwrap();
        self.forgotten.insert(published.slot);
    }

    fn prune(&self) {
        let options = PruneOptions { wait: Duration::ZERO, max_unused_percent: 0, ..PruneOptions::default() };
        assert!(prune(&self.house.repository, options).unwrap().deleted_packs > 0);
    }

    /// Two writers that do not see each other's chunks store them twice.
    fn two_writers_at_once(&mut self) {
        let elsewhere = tempfile::tempdir().unwrap();
        let other = self.house.open_elsewhere(elsewhere.path()).unwrap();
        let files = generation(30);
        let mut writers = [
            SnapshotWriter::begin(&self.house.repository, source("twice")).unwrap(),
            SnapshotWriter::begin(&other, source("twice")).unwrap(),
        ];
        writers.iter_mut().for_each(|writer| write_files(writer, &files).unwrap());
        for writer in writers {
            self.live.push((writer.finish(Metadata::default()).unwrap(), files.clone()));
        }
    }

    /// A writer that gives up: a release fills its slot.
    fn given_up_slot(&self) {
        drop(SnapshotWriter::begin(&self.house.repository, source("data")).unwrap());
    }

    fn holds(&mut self) {
        let repository = &self.house.repository;
        let signer = repository.writer().unwrap();
        for (published, _) in &self.live[..2] {
            repository.hold(&signer, published, "audit").unwrap();
        }
        self.held = self.keys("holds/").into_iter().collect();
        let ended = repository.hold(&signer, &self.live[2].0, "over").unwrap();
        repository.release_hold(&signer, &ended.ticket).unwrap();
    }

    fn keys(&self, prefix: &str) -> Vec<Key> {
        let listed = list_all(&*self.house.store, prefix.strip_suffix("config").unwrap_or(prefix)).unwrap();
        listed.into_iter().map(|l| l.key).filter(|key| key.as_str().starts_with(prefix)).collect()
    }

    /// The objects of a prefix that something refers to.
    fn referenced(&self, prefix: &str) -> Vec<Key> {
        let mut keys = self.keys(prefix);
        keys.retain(|key| prefix != "holds/" || self.held.contains(key));
        keys
    }

    fn open(&self) -> Result<Arc<Repository>, RepositoryError> {
        self.house.open_elsewhere(self.house.state.path())
    }
}

fn check_data(repository: &Arc<Repository>) -> CheckReport {
    check(repository, CheckOptions { read: Reading::Everything, threads: 1 }, &|_, _| ()).unwrap()
}

// --- damage ---------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Flip,
    Truncation,
    Swap,
    Deletion,
}

/// Damage that was done, and how to undo it.
struct Damage {
    prefix: &'static str,
    kind: Kind,
    what: String,
    before: Vec<(Key, Vec<u8>)>,
}

/// A generator that is the same everywhere (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn prefix(&mut self) -> &'static str {
        let mut left = self.below(PREFIXES.iter().map(|(_, weight)| weight).sum());
        for (prefix, weight) in PREFIXES {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return prefix,
            }
        }
        unreachable!("the weights add up")
    }
}

impl Damage {
    fn new(past: &Past, dice: &mut Dice) -> Self {
        let prefix = dice.prefix();
        let keys = past.referenced(prefix);
        let key = keys[dice.below(keys.len())].clone();
        let kinds = [Kind::Flip, Kind::Truncation, Kind::Deletion, Kind::Swap];
        let kind = kinds[dice.below(if keys.len() > 1 { 4 } else { 3 })];
        let store = &past.house.store;
        let mut bytes = store.get(&key).unwrap();
        let mut before = vec![(key.clone(), bytes.clone())];
        let detail = match kind {
            Kind::Flip => {
                let (at, bit) = (dice.below(bytes.len()), dice.below(8));
                bytes[at] ^= 1 << bit;
                store.overwrite(&key, &bytes);
                format!("bit {bit} of byte {at} of {}", bytes.len())
            }
            Kind::Truncation => {
                let length = dice.below(bytes.len());
                store.overwrite(&key, &bytes[..length]);
                format!("to {length} of {} bytes", bytes.len())
            }
            Kind::Swap => {
                let others: Vec<&Key> = keys.iter().filter(|other| **other != key).collect();
                let other = others[dice.below(others.len())].clone();
                let theirs = store.get(&other).unwrap();
                store.overwrite(&key, &theirs);
                store.overwrite(&other, &bytes);
                let detail = format!("with {other}");
                before.push((other, theirs));
                detail
            }
            Kind::Deletion => {
                store.delete(&key).unwrap();
                String::new()
            }
        };
        Self { prefix, kind, what: format!("{kind:?} of {key} {detail}"), before }
    }

    fn undo(&self, past: &Past) {
        for (key, bytes) in &self.before {
            past.house.store.overwrite(key, bytes);
        }
    }

    /// Why check cannot know of this damage, where it cannot.
    fn hidden_by_design(&self, past: &Past, nothing_is_lost: bool) -> Option<&'static str> {
        let slot = || {
            let parts: Vec<&str> = self.before[0].0.as_str().split('/').collect();
            format!("{}/{}/{}", parts[1], parts[2], parts[3].trim_start_matches('0'))
        };
        match (self.kind, self.prefix) {
            (Kind::Deletion, "tombstones/") => {
                Some("no object refers to a tombstone; where its snapshot was pruned, that shows")
            }
            (Kind::Deletion, "holds/") => Some("no object refers to a hold"),
            (Kind::Deletion, "snapshots/") if past.forgotten.iter().any(|f| f.to_string() == slot()) => {
                Some("its tombstone says that nobody needs it")
            }
            (Kind::Deletion, "index/") if nothing_is_lost => {
                Some("it describes packs that no snapshot needs")
            }
            _ => None,
        }
    }
}

// --- what it costs --------------------------------------------------------------------------------------

/// The files that cannot be restored, by snapshot.
type Truth = BTreeMap<Position, BTreeSet<String>>;

/// Restores every file of every snapshot, one by one.
fn restore_all(past: &Past, repository: &Arc<Repository>) -> Truth {
    let listed = repository.snapshots(None, &mut Vec::new());
    let listed: BTreeSet<Position> = listed.into_iter().flatten().map(|p| p.slot).collect();
    let reader = Reader::new(repository).ok();
    let mut truth = Truth::new();
    for (published, files) in &past.live {
        let reader = reader.as_ref().filter(|_| listed.contains(&published.slot));
        let is_lost = |path: &str, bytes: &[u8]| {
            reader.is_none_or(|reader| restore_one(reader, published, path).is_none_or(|b| b != bytes))
        };
        let lost = files.iter().filter(|(path, bytes)| is_lost(path, bytes)).map(|(path, _)| path.clone());
        truth.insert(published.slot.clone(), lost.collect());
    }
    truth
}

fn restore_one(reader: &Reader, published: &Published, path: &str) -> Option<Vec<u8>> {
    let entry = reader.entry(&published.snapshot, path.as_bytes()).ok()??;
    let mut requests = Vec::new();
    let collected = reader.pieces(&entry, &mut |piece| {
        requests.push(Request { source: piece.source, length: piece.length, token: piece.offset });
        Ok::<_, RepositoryError>(())
    });
    collected.ok()?;
    let bytes = Mutex::new(vec![0; entry.size as usize]);
    let fetched = reader.fetch(requests, 1, &|offset, piece| {
        bytes.lock().unwrap()[offset as usize..offset as usize + piece.len()].copy_from_slice(piece);
        Ok(())
    });
    fetched.ok()?;
    bytes.into_inner().ok()
}

/// Whether a line of the report is about a snapshot.
fn is_about(lost: &LostFile, slot: &Position) -> bool {
    lost.snapshot == slot.to_string() || lost.snapshot.ends_with(&format!("({slot})"))
}

fn covers(lost: &LostFile, path: &str) -> bool {
    let below = path.strip_prefix(&lost.path);
    lost.path.is_empty() || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Compares what the report names with the truth, both ways.
fn compare(report: &CheckReport, truth: &Truth) -> Result<(), String> {
    for (slot, lost) in truth {
        let named: Vec<&LostFile> = report.lost.iter().filter(|l| is_about(l, slot)).collect();
        for path in lost {
            if !named.iter().any(|l| covers(l, path)) {
                return Err(format!("{path} of {slot} cannot be restored and is not named"));
            }
        }
        for line in named {
            if !lost.iter().any(|path| covers(line, path)) {
                return Err(format!("{:?} of {slot} is named and can be restored", line.path));
            }
        }
    }
    Ok(())
}

// --- the tests ------------------------------------------------------------------------------------------

#[test]
fn every_damage_is_found_and_its_cost_is_named() {
    let pinned = std::env::var("LIFEBOAT_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed: u64 = pinned.unwrap_or_else(|| lifeboat_base::random::below(1 << 32));
    println!("LIFEBOAT_TEST_SEED={seed}");
    let (past, mut dice) = (Past::new(), Dice(seed));
    let report = check_data(&past.open().unwrap());
    assert!(report.is_whole(), "{report:?}");
    let mut tally: BTreeMap<(&str, Kind), [u64; 3]> = BTreeMap::new();
    for round in 0..ROUNDS {
        let damage = Damage::new(&past, &mut dice);
        let counts = tally.entry((damage.prefix, damage.kind)).or_default();
        counts[0] += 1;
        if let Ok(repository) = past.open() {
            let report = check_data(&repository);
            let truth = restore_all(&past, &repository);
            let costs = truth.values().any(|lost| !lost.is_empty());
            counts[2] += u64::from(costs);
            if report.problems.is_empty() {
                let reason = damage.hidden_by_design(&past, !costs);
                assert!(reason.is_some(), "round {round}: {} was not found", damage.what);
                counts[1] += 1;
            }
            if let Err(difference) = compare(&report, &truth) {
                panic!("round {round}: {}: {difference}\n{report:#?}", damage.what);
            }
        }
        damage.undo(&past);
    }
    println!("damage: rounds, hidden by design, with a cost");
    for ((prefix, kind), [rounds, hidden, costs]) in &tally {
        println!("{kind:?} of {prefix}: {rounds}, {hidden}, {costs}");
    }
    for (prefix, _) in PREFIXES {
        assert!(tally.keys().any(|(hit, _)| hit == prefix), "{prefix} was never hit");
    }
    let report = check_data(&past.open().unwrap());
    assert!(report.is_whole(), "{report:?}");
}
