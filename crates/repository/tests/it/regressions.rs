//! One test for each thing that was wrong, named after it.

use crate::support::*;
use lifeboat_base::Secret;
use lifeboat_base::clock::{ManualClock, Timestamp};
use lifeboat_objects::memory::MemoryStore;
use lifeboat_objects::{Creation, Key, Listed, ObjectError, ObjectStore, SharedStore, list_all};
use lifeboat_repository::tree::{Content, Metadata};
use lifeboat_repository::{
    CheckOptions, ChunkerParameters, Descend, InitOptions, Lock, PruneOptions, Published, Repository,
    RepositoryError, Request, Role, SnapshotWriter, Unlock, check, prune,
};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What somebody else does.
type Deed = Box<dyn FnOnce() + Send>;

/// A store in which somebody else does something right before an object under a prefix is created, or right
/// before the prefix is listed for the n-th time.
pub(crate) struct Meddling {
    store: SharedStore,
    deed: Mutex<Option<(Moment, Deed)>>,
}

/// When a deed is done.
#[derive(Clone, Copy)]
enum Moment {
    Creating(&'static str),
    Listing { prefix: &'static str, times_before: u32 },
}

impl Meddling {
    pub(crate) fn before_creating(
        prefix: &'static str,
        store: SharedStore,
        deed: impl FnOnce() + Send + 'static,
    ) -> Arc<Self> {
        Self::at(Moment::Creating(prefix), store, deed)
    }

    fn at(moment: Moment, store: SharedStore, deed: impl FnOnce() + Send + 'static) -> Arc<Self> {
        Arc::new(Self { store, deed: Mutex::new(Some((moment, Box::new(deed)))) })
    }

    /// Does the deed if this is its moment. Not under the lock: it may use this store itself.
    fn meddle(&self, is_now: impl FnOnce(&mut Moment) -> bool) {
        let deed = self.deed.lock().unwrap().take_if(|(moment, _)| is_now(moment));
        if let Some((_, deed)) = deed {
            deed();
        }
    }

    fn is_done(&self) -> bool {
        self.deed.lock().unwrap().is_none()
    }
}

impl fmt::Debug for Meddling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meddling")
    }
}

impl ObjectStore for Meddling {
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Creation, ObjectError> {
        self.meddle(|moment| matches!(moment, Moment::Creating(prefix) if key.as_str().starts_with(*prefix)));
        self.store.create(key, bytes)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, ObjectError> {
        self.store.get(key)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, ObjectError> {
        self.store.get_range(key, offset, length)
    }

    fn head(&self, key: &Key) -> Result<Listed, ObjectError> {
        self.store.head(key)
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), ObjectError> {
        self.meddle(|moment| match moment {
            Moment::Listing { prefix: watched, times_before } if prefix == *watched => {
                let now = *times_before == 0;
                *times_before = times_before.saturating_sub(1);
                now
            }
            _ => false,
        });
        self.store.list(prefix, after, visit)
    }

    fn delete(&self, key: &Key) -> Result<(), ObjectError> {
        self.store.delete(key)
    }

    fn location(&self) -> String {
        self.store.location()
    }
}

pub(crate) fn names(store: &dyn ObjectStore, prefix: &str) -> Vec<Key> {
    list_all(store, prefix).unwrap().into_iter().map(|listed| listed.key).collect()
}

pub(crate) fn command_lock(secret: u8) -> Vec<(Lock, String)> {
    vec![(Lock::Command(Secret::new(vec![secret; 32])), "test".to_owned())]
}

pub(crate) fn command_unlock(secret: u8) -> Unlock {
    Unlock::Command(Secret::new(vec![secret; 32]))
}

fn prune_now(repository: &Arc<Repository>) -> lifeboat_repository::PruneReport {
    let options = PruneOptions { wait: Duration::ZERO, max_unused_percent: 0, ..PruneOptions::default() };
    prune(repository, options).unwrap()
}

fn forget(repository: &Arc<Repository>, published: &Published) {
    repository.forget(&repository.writer().unwrap(), published, "test").unwrap();
}

fn init_at(store: SharedStore, secret: u8, state: &tempfile::TempDir) -> Result<Repository, RepositoryError> {
    let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
    Repository::init(store, &command_lock(secret), &small_options(), environment(state.path(), &clock))
}

/// What stays after a crash right before the config is made, at `repository::init-before-config`.
#[test]
fn an_init_after_a_crashed_one_made_a_repository_that_never_opened() {
    let (store, state) = (Arc::new(MemoryStore::new()), tempfile::tempdir().unwrap());
    for secret in [1, 2] {
        init_at(store.clone(), secret, &state).unwrap();
        store.delete(&Key::new("config").unwrap()).unwrap();
    }
    let made = init_at(store.clone(), 3, &state).unwrap();
    assert_eq!(names(&*store, "slots/").len(), 1, "what no config governs is gone");
    assert_eq!(names(&*store, "roster/").len(), 1);
    let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
    let elsewhere = tempfile::tempdir().unwrap();
    let open = |secret| {
        Repository::open(store.clone(), &command_unlock(secret), environment(elsewhere.path(), &clock))
    };
    assert!(matches!(open(1), Err(RepositoryError::WrongKey)));
    let opened = Arc::new(open(3).unwrap());
    assert_eq!(opened.root_fingerprint(), made.root_fingerprint());
    let published = backup(&opened, "data", &sample(1)).unwrap();
    assert_eq!(restore(&opened, &published).unwrap(), sample(1));
    let report = check(&opened, CheckOptions::default(), &|_, _| ()).unwrap();
    assert!(report.is_whole(), "{report:?}");
}

/// Found by killing and freezing: a list that another prune had opened between two readings of the lists was
/// followed by the next one, before its verdict.
#[test]
fn a_list_was_opened_before_the_verdict_of_the_one_before() {
    (0..8).for_each(prune_beside_a_list_that_is_opened);
}

/// Another prune opens a list and has to leave it open, right before ours looks at the verdicts once more.
fn prune_beside_a_list_that_is_opened(times_before: u32) {
    let house = House::new();
    let snapshots: Vec<Published> = (1..4).map(|n| house.backup(&sample(n))).collect();
    let options = PruneOptions { wait: Duration::ZERO, max_unused_percent: 0, ..PruneOptions::default() };
    let signer = house.repository.writer().unwrap();
    house.repository.forget(&signer, &snapshots[0], "test").unwrap();
    // A backup is under way: nothing is concluded before it ends.
    let writer = SnapshotWriter::begin(&house.repository, source("elsewhere")).unwrap();
    let (other, mine, second) = (house.repository.clone(), options.clone(), snapshots[1].clone());
    let deed = move || {
        prune(&other, mine).unwrap();
        other.forget(&signer, &second, "test").unwrap();
    };
    let moment = Moment::Listing { prefix: "verdicts/", times_before };
    let meddling = Meddling::at(moment, house.store.clone(), deed);
    let environment = environment(house.state.path(), &house.clock);
    let repository = Arc::new(Repository::open(meddling, &House::unlock(), environment).unwrap());
    prune(&repository, options.clone()).unwrap();
    let (lists, verdicts) = (names(&*house.store, "condemned/"), names(&*house.store, "verdicts/"));
    assert_eq!((lists.len(), verdicts.len()), (1, 0), "{times_before}");
    drop(writer);
    prune(&house.repository, options).unwrap();
    assert_eq!(restore(&house.repository, &snapshots[2]).unwrap(), sample(3));
}

#[test]
fn of_two_inits_at_once_the_loser_left_the_winner_unreadable() {
    let (store, state) = (Arc::new(MemoryStore::new()), tempfile::tempdir().unwrap());
    let winner = store.clone();
    let racing = Meddling::before_creating("config", store.clone(), move || {
        init_at(winner, 1, &tempfile::tempdir().unwrap()).unwrap();
    });
    let lost = init_at(racing.clone(), 2, &state);
    assert!(racing.is_done() && matches!(lost, Err(RepositoryError::AlreadyARepository(_))));
    let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
    let open =
        |secret| Repository::open(store.clone(), &command_unlock(secret), environment(state.path(), &clock));
    assert!(matches!(open(2), Err(RepositoryError::WrongKey)));
    let repository = Arc::new(open(1).unwrap());
    backup(&repository, "data", &sample(1)).unwrap();
    assert!(check(&repository, CheckOptions::default(), &|_, _| ()).unwrap().is_whole());
}

#[test]
fn settings_that_no_repository_can_work_with_were_taken() {
    let chunker = |min_bytes, average_bytes, max_bytes| InitOptions {
        chunker: ChunkerParameters { min_bytes, average_bytes, max_bytes },
        ..small_options()
    };
    let bad = [
        chunker(0, 2048, 8192),
        chunker(2048, 2048, 8192),
        chunker(512, 8192, 8192),
        chunker(512, 2000, 8192),
        chunker(512, 2048, 32 << 20),
        InitOptions { block_bytes: 0, ..small_options() },
        InitOptions { block_bytes: (16 << 20) + 1, ..small_options() },
        InitOptions { pack_bytes: 0, ..small_options() },
        InitOptions { pack_bytes: (32 << 20) + 1, ..small_options() },
        InitOptions { lease: Duration::from_millis(999), ..small_options() },
        InitOptions { compression_level: 99, ..small_options() },
    ];
    let (clock, state) = (ManualClock::default(), tempfile::tempdir().unwrap());
    for options in bad {
        let store = Arc::new(MemoryStore::new());
        let environment = environment(state.path(), &clock);
        let made = Repository::init(store.clone(), &command_lock(1), &options, environment);
        assert!(matches!(made, Err(RepositoryError::BadOptions(_))), "{options:?}");
        assert!(names(&*store, "").is_empty(), "nothing is made: {options:?}");
    }
}

/// Two processes of one machine: the other claims, publishes and removes its lease between our counting and
/// our claim.
#[test]
fn a_slot_that_was_filled_meanwhile_was_claimed_again() {
    let house = House::new();
    let first = house.backup(&sample(1));
    let repository = house.repository.clone();
    let store = Meddling::before_creating("leases/", house.store.clone(), move || {
        backup(&repository, "data", &sample(2)).unwrap();
    });
    let ours =
        Repository::open(store.clone(), &House::unlock(), environment(house.state.path(), &house.clock))
            .map(Arc::new)
            .unwrap();
    let third = backup(&ours, "data", &sample(3)).unwrap();
    assert!(store.is_done());
    assert_eq!(third.slot.writer, first.slot.writer, "it is one writer");
    assert_eq!(third.slot.number, 3);
    assert!(names(&*house.store, "leases/").is_empty());
    for n in 1..=3 {
        let found = ours.find_snapshot(None, &format!("data/{}/{n}", first.slot.writer)).unwrap();
        assert_eq!(restore(&ours, &found).unwrap(), sample(n));
    }
}

/// A writer that dies after it published and before it removed its lease, or that renews once more after a
/// void, leaves a lease at a filled slot.
#[test]
fn a_lease_at_a_filled_slot_pinned_its_base_for_ever() {
    let house = House::new();
    let first = house.backup(&sample(1));
    house.clock.advance(Duration::from_secs(60));
    let mut writer = SnapshotWriter::begin(&house.repository, source("data")).unwrap();
    write_files(&mut writer, &sample(2)).unwrap();
    let left: Vec<(Key, Vec<u8>)> = names(&*house.store, "leases/")
        .into_iter()
        .map(|key| (key.clone(), house.store.get(&key).unwrap()))
        .collect();
    let second = writer.finish(Metadata::default()).unwrap();
    forget(&house.repository, &first);
    for (key, bytes) in &left {
        house.store.create(key, bytes).unwrap();
    }
    let report = prune_now(&house.repository);
    assert!(report.waiting_for.is_empty() && report.deleted_packs > 0, "{report:?}");
    assert!(names(&*house.store, "leases/").is_empty(), "what ended is removed");
    assert_eq!(restore(&house.repository, &second).unwrap(), sample(2));
}

#[test]
fn one_damaged_key_slot_hid_that_the_secret_was_wrong() {
    let house = House::new();
    let other = house.repository.add_slot(&command_lock(9)[0].0, "second", false).unwrap();
    let key = Key::new(format!("slots/{}", other.id)).unwrap();
    house.store.overwrite(&key, b"LBO");
    let open = |secret| {
        let environment = environment(house.state.path(), &house.clock);
        Repository::open(house.store.clone(), &command_unlock(secret), environment)
    };
    assert!(matches!(open(8), Err(RepositoryError::WrongKey)));
    open(7).unwrap();
    for key in names(&*house.store, "slots/") {
        house.store.overwrite(&key, b"LBO");
    }
    assert!(matches!(open(7), Err(RepositoryError::Damaged { .. })), "no slot is left to try");
}

/// Forgetting reads the holds, then somebody holds and sees no tombstone, then the tombstone is created.
#[test]
fn a_snapshot_that_was_held_while_it_was_forgotten_was_held_and_invisible() {
    let house = House::new();
    let first = house.backup(&sample(1));
    house.backup(&sample(2));
    forget(&house.repository, &first);
    let tombstone = names(&*house.store, "tombstones/").remove(0);
    let bytes = house.store.get(&tombstone).unwrap();
    house.store.delete(&tombstone).unwrap();
    let signer = house.repository.writer().unwrap();
    let hold = house.repository.hold(&signer, &first, "audit").unwrap();
    house.store.create(&tombstone, &bytes).unwrap();
    let listed = |id: &str| house.repository.find_snapshot(None, id);
    let id = first.id.to_string();
    prune_now(&house.repository);
    assert_eq!(restore(&house.repository, &listed(&id).unwrap()).unwrap(), sample(1), "the hold wins");
    house.repository.release_hold(&signer, &hold.ticket).unwrap();
    assert!(matches!(listed(&id), Err(RepositoryError::NoSuchSnapshot(_))), "until it ends");
    assert!(prune_now(&house.repository).deleted_packs > 0);
}

/// Whoever can only create objects puts junk under every free name.
#[test]
fn one_junk_object_stopped_all_readers() {
    let house = House::new();
    let (first, second) = (house.backup(&sample(1)), house.backup(&sample(2)));
    forget(&house.repository, &first);
    prune_now(&house.repository);
    let (list, verdict) = (names(&*house.store, "condemned/").len(), names(&*house.store, "verdicts/").len());
    assert_eq!((list, verdict), (1, 1));
    let slot = format!("data/{}", second.slot.writer);
    let junk = [
        format!("index/{}", "0".repeat(64)),
        format!("tombstones/{slot}/000000000002"),
        "condemned/000000000002".to_owned(),
        "condemned/000000000009".to_owned(),
        "condemned/x".to_owned(),
        "verdicts/000000000002".to_owned(),
        "verdicts/999999999999".to_owned(),
        "roster/000000000003".to_owned(),
        "roster/999999999999".to_owned(),
        format!("holds/{}", "0".repeat(32)),
        format!("holds-ended/{}", "0".repeat(32)),
        format!("readers-ended/{}", "0".repeat(32)),
    ];
    for name in &junk {
        house.store.create(&Key::new(name.clone()).unwrap(), b"junk").unwrap();
    }
    let fresh = tempfile::tempdir().unwrap();
    for state in [house.state.path(), fresh.path()] {
        let repository = house.open_elsewhere(state).unwrap();
        let found = repository.find_snapshot(None, "latest").unwrap();
        assert_eq!(restore(&repository, &found).unwrap(), files_of(&found, &second));
        let reader = lifeboat_repository::Reader::new(&repository).unwrap();
        assert_eq!(reader.left_out().len(), 1, "{:?}", reader.left_out());
        let mine = backup(&repository, "data", &sample(3)).unwrap();
        assert_eq!(restore(&repository, &mine).unwrap(), sample(3));
    }
    // Prune refuses, and names one after the other until none is left that could be a genuine one.
    let options = PruneOptions { wait: Duration::ZERO, ..PruneOptions::default() };
    let mut refused = Vec::new();
    while let Err(error) = prune(&house.repository, options.clone()) {
        let RepositoryError::Damaged { object, .. } = &error else { panic!("{error}") };
        assert!(junk.contains(object), "{error}");
        assert!(lifeboat_base::Hint::hint(&error).unwrap().contains("remove"), "{error}");
        house.store.delete(&Key::new(object.clone()).unwrap()).unwrap();
        refused.push(object.clone());
    }
    assert_eq!(refused.len(), 7, "{refused:?}");
    let report = check(&house.repository, CheckOptions::default(), &|_, _| ()).unwrap();
    assert!(report.problems.iter().any(|p| p.object == "roster/999999999999"), "{report:?}");
    assert!(report.lost.is_empty(), "{report:?}");
}

/// What `found` must hold: later rounds find what earlier ones wrote.
fn files_of(found: &Published, second: &Published) -> Files {
    if found.id == second.id { sample(2) } else { sample(3) }
}

#[test]
fn a_damaged_verdict_below_a_good_one_is_damage_and_no_junk() {
    let house = House::new();
    let mut last = house.backup(&sample(1));
    for n in 2..=3 {
        let next = house.backup(&sample(n));
        forget(&house.repository, &last);
        assert!(prune_now(&house.repository).deleted_packs > 0);
        last = next;
    }
    assert_eq!(names(&*house.store, "verdicts/").len(), 2);
    house.store.overwrite(&Key::new("verdicts/000000000001").unwrap(), b"junk");
    let fresh = tempfile::tempdir().unwrap();
    let stranger = house.open_elsewhere(fresh.path()).unwrap();
    let error = restore(&stranger, &last).unwrap_err();
    assert!(error.to_string().contains("verdicts/000000000001"), "{error}");
    // This machine has read it, and remembers what it named.
    assert_eq!(restore(&house.repository, &last).unwrap(), sample(3));
}

#[test]
fn every_verdict_was_read_again_by_every_command() {
    let house = House::new();
    let mut last = house.backup(&sample(1));
    for n in 2..=4 {
        let next = house.backup(&sample(n));
        forget(&house.repository, &last);
        prune_now(&house.repository);
        last = next;
    }
    let count = Arc::new(lifeboat_objects::count::Counted::new(house.store.clone()));
    let fresh = tempfile::tempdir().unwrap();
    for expected in [3, 0] {
        let environment = environment(fresh.path(), &house.clock);
        let repository =
            Repository::open(count.clone(), &House::unlock(), environment).map(Arc::new).unwrap();
        let before = count.counts().get.requests;
        lifeboat_repository::Reader::new(&repository).unwrap();
        let indexes = names(&*house.store, "index/").len() as u64;
        assert_eq!(count.counts().get.requests - before - indexes, expected);
    }
}

#[test]
fn an_index_object_of_a_write_only_writer_served_everybody() {
    let house = House::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = house.open_elsewhere(elsewhere.path()).unwrap();
    let theirs = backup(&other, "theirs", &sample(1)).unwrap();
    let (signer, datasets) = (other.writer().unwrap(), Vec::new());
    house.repository.enrol(signer.public(), "write-only", Role::WriteOnly, datasets).unwrap();
    let ours = backup(&house.repository, "ours", &sample(1)).unwrap();
    assert!(ours.snapshot.stats.new_bytes > 500_000, "nothing of theirs is relied on");
    assert_eq!(restore(&house.repository, &ours).unwrap(), sample(1));
    assert_eq!(restore(&house.repository, &theirs).unwrap(), sample(1), "ours serves theirs");
    assert!(prune_now(&house.repository).waiting_for.is_empty());
}

#[test]
fn content_of_more_levels_than_there_are_was_cut_off_and_not_refused() {
    let house = House::new();
    let published = house.backup(&sample(1));
    let reader = lifeboat_repository::Reader::new(&house.repository).unwrap();
    let mut refused = 0;
    for name in ["big.bin", "app.db"] {
        let mut entry = reader.entry(&published.snapshot, name.as_bytes()).unwrap().unwrap();
        match &mut entry.content {
            Content::Chunks { depth, .. } | Content::Pages { depth, .. } => *depth = 5,
            other => panic!("{other:?}"),
        }
        let pieces = reader.pieces(&entry, &mut |_| Ok::<_, RepositoryError>(()));
        refused += u32::from(pieces.unwrap_err().to_string().contains("5 levels"));
    }
    assert_eq!(refused, 2);
}

#[test]
fn nodes_of_a_directory_in_the_wrong_order_were_read() {
    let house = House::new();
    let files: Files = (0..3000).map(|n| (format!("{n:06}"), vec![n as u8])).collect();
    let mut published = house.backup(&files);
    assert!(published.snapshot.root.len() > 3);
    published.snapshot.root.swap(1, 2);
    let reader = lifeboat_repository::Reader::new(&house.repository).unwrap();
    let walked = reader.walk(&published.snapshot, &mut |_, _| Ok::<_, RepositoryError>(Descend::No));
    assert!(walked.unwrap_err().to_string().contains("sort after"));
    assert!(reader.folder(&published.snapshot.root).is_err());
    published.snapshot.root.swap(1, 2);
    reader.walk(&published.snapshot, &mut |_, _| Ok::<_, RepositoryError>(Descend::No)).unwrap();
}

#[test]
fn one_damaged_chunk_ended_the_fetching_of_all_others() {
    let house = House::new();
    let published = house.backup(&sample(1));
    let reader = lifeboat_repository::Reader::new(&house.repository).unwrap();
    let mut requests = Vec::new();
    for name in ["big.bin", "app.db"] {
        let Some(entry) = reader.entry(&published.snapshot, name.as_bytes()).unwrap() else {
            panic!("{name}")
        };
        reader
            .pieces(&entry, &mut |piece| {
                let token = requests.len() as u64;
                requests.push(Request { source: piece.source, length: piece.length, token });
                Ok::<_, RepositoryError>(())
            })
            .unwrap();
    }
    let mut packs = names(&*house.store, "packs/");
    // The two largest hold content, whatever their names; listings lie in a small one.
    packs.sort_by_key(|pack| std::cmp::Reverse(house.store.get(pack).unwrap().len()));
    let mut bytes = house.store.get(&packs[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    house.store.overwrite(&packs[0], &bytes);
    house.store.delete(&packs[1]).unwrap();
    let reader = lifeboat_repository::Reader::new(&house.repository).unwrap();
    let seen = Mutex::new((vec![0; requests.len()], 0));
    let deliver = |tokens: std::ops::Range<u64>, _: &[u8]| {
        tokens.for_each(|token| seen.lock().unwrap().0[token as usize] += 1);
        Ok(())
    };
    let lost = |token: u64, error: RepositoryError| {
        let said = lifeboat_base::report(&error);
        assert!(packs.iter().any(|pack| said.contains(pack.as_str())), "it names the pack: {said}");
        let mut seen = seen.lock().unwrap();
        seen.0[token as usize] += 1;
        seen.1 += 1;
        Ok(())
    };
    let count = requests.len();
    reader.fetch_what_is_left(requests.clone(), 2, &deliver, &lost).unwrap();
    let (times, gone) = seen.into_inner().unwrap();
    assert!(times.iter().all(|times| *times == 1), "each is delivered or lost, once");
    assert!(gone > 0 && gone < count, "{gone} of {count}");
    assert!(reader.fetch(requests, 1, &|_, _| Ok(())).is_err());
}
