//! One test for each thing that was wrong, named after it.

use crate::support::*;
use lifeboat_base::Secret;
use lifeboat_base::clock::{ManualClock, Timestamp};
use lifeboat_objects::memory::MemoryStore;
use lifeboat_objects::{Creation, Key, Listed, ObjectError, ObjectStore, SharedStore, list_all};
use lifeboat_repository::tree::Metadata;
use lifeboat_repository::{
    CheckOptions, ChunkerParameters, InitOptions, Lock, PruneOptions, Published, Repository, RepositoryError,
    SnapshotWriter, Unlock, check, prune,
};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What somebody else does.
type Deed = Box<dyn FnOnce() + Send>;

/// A store in which somebody else does something right before an object under a prefix is created.
pub(crate) struct Meddling {
    store: SharedStore,
    deed: Mutex<Option<(&'static str, Deed)>>,
}

impl Meddling {
    pub(crate) fn before_creating(
        prefix: &'static str,
        store: SharedStore,
        deed: impl FnOnce() + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { store, deed: Mutex::new(Some((prefix, Box::new(deed)))) })
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
        let deed = {
            let mut deed = self.deed.lock().unwrap();
            deed.take_if(|(prefix, _)| key.as_str().starts_with(*prefix))
        };
        if let Some((_, deed)) = deed {
            deed();
        }
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
