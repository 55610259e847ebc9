//! Who is believed: a copy beside a stolen origin, other roots, readers that others would end.

use crate::regressions::{command_lock, command_unlock, names};
use crate::support::*;
use lifeboat_objects::memory::MemoryStore;
use lifeboat_objects::{Key, ObjectStore};
use lifeboat_repository::{
    EpochPrivateKey, Lock, PruneOptions, Published, ReaderPin, Repository, RepositoryError, Role, Unlock,
    copy, prune,
};
use std::sync::Arc;
use std::time::Duration;

fn options() -> PruneOptions {
    PruneOptions { wait: Duration::ZERO, ..PruneOptions::default() }
}

/// Scenario 8: whoever stole a maintainer of the origin, and can put objects into the copy's store.
#[test]
fn a_stolen_maintainer_of_the_origin_erased_the_copy() {
    let house = House::new();
    let first = house.backup(&sample(1));
    let (store, state) = (Arc::new(MemoryStore::new()), tempfile::tempdir().unwrap());
    let target = Repository::init_copy(
        store.clone(),
        &house.repository,
        &command_lock(3),
        &small_options(),
        environment(state.path(), &house.clock),
    )
    .map(Arc::new)
    .unwrap();
    copy(&house.repository, &target, std::slice::from_ref(&first)).unwrap();
    let copied = target.find_snapshot(None, &first.id.to_string()).unwrap();
    // The origin's maintainer signs a tombstone for the slot in the copy, and a void for the next one.
    let thief = house.repository.writer().unwrap();
    let there = Published { slot: copied.slot.clone(), ..first.clone() };
    house.repository.forget(&thief, &there, "stolen").unwrap();
    let tombstone = names(&*house.store, "tombstones/").remove(0);
    store.create(&tombstone, &house.store.get(&tombstone).unwrap()).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let open =
        || Repository::open(store.clone(), &command_unlock(3), environment(elsewhere.path(), &house.clock));
    let opened = Arc::new(open().unwrap());
    let mut unreadable = Vec::new();
    let listed = opened.snapshots(None, &mut unreadable).unwrap();
    assert_eq!(listed, std::slice::from_ref(&copied), "what the origin signs forgets nothing here");
    assert_eq!(unreadable[0].object, tombstone.to_string());
    assert_eq!(restore(&opened, &copied).unwrap(), sample(1));
    // Prune does not go on beside what it cannot judge, and says what to remove.
    let error = prune(&target, options()).unwrap_err();
    assert!(error.to_string().contains(tombstone.as_str()), "{error}");
    store.delete(&tombstone).unwrap();
    assert_eq!(prune(&target, options()).unwrap().deleted_packs, 0);
}

#[test]
fn another_root_under_the_same_identity_is_refused() {
    let house = House::new();
    let (private, public) = EpochPrivateKey::generate();
    house.repository.add_slot(&Lock::PublicKey(public), "escrow", false).unwrap();
    let root = house.repository.root_fingerprint();
    let other = House::new().repository.root_fingerprint();
    let unlock = Unlock::PrivateKey(private);
    let open = |state: &tempfile::TempDir, unlock: &Unlock, root| {
        let environment = environment(state.path(), &house.clock);
        Repository::open_rooted(house.store.clone(), unlock, environment, root)
    };
    let state = tempfile::tempdir().unwrap();
    // Anybody can seal a false repository to a public key: the fingerprint must come from elsewhere.
    let unknown = open(&state, &unlock, None);
    assert!(matches!(unknown, Err(RepositoryError::UnknownRoot(found)) if found == root), "{unknown:?}");
    for unlock in [&unlock, &House::unlock()] {
        let refused = open(&state, unlock, Some(other));
        assert!(matches!(refused, Err(RepositoryError::OtherRoot { found, .. }) if found == root));
    }
    open(&state, &unlock, Some(root)).unwrap();
    open(&state, &unlock, None).unwrap();
    // The machine remembers: what it knew before outranks what is shown now.
    let repository = house.repository.config().repository.to_string();
    let pin = state.path().join(repository).join("root");
    assert_eq!(std::fs::read_to_string(&pin).unwrap().trim(), root.to_string());
    lifeboat_base::crashsafe::replace(&pin, format!("{other}\n").as_bytes()).unwrap();
    for unlock in [&unlock, &House::unlock()] {
        assert!(matches!(open(&state, unlock, None), Err(RepositoryError::OtherRoot { .. })));
    }
}

#[test]
fn anybody_could_end_the_lease_of_a_reader() {
    let house = House::new();
    let first = house.backup(&sample(1));
    house.backup(&sample(2));
    let elsewhere = tempfile::tempdir().unwrap();
    let other = house.open_elsewhere(elsewhere.path()).unwrap();
    let stranger = other.writer().unwrap();
    house.repository.enrol(stranger.public(), "stranger", Role::Write, Vec::new()).unwrap();
    let signer = house.repository.writer().unwrap();
    let pin =
        ReaderPin::take(&house.repository, &signer, std::slice::from_ref(&first.slot), "proof").unwrap();
    // The stranger ends a lease of its own, and puts that end under the name of ours.
    let ours = names(&*house.store, "readers/").remove(0);
    let ticket = ours.as_str().split('/').nth(1).unwrap().to_owned();
    drop(ReaderPin::take(&other, &stranger, std::slice::from_ref(&first.slot), "mischief").unwrap());
    let end = names(&*house.store, "readers-ended/").remove(0);
    let moved = Key::new(format!("readers-ended/{ticket}")).unwrap();
    house.store.create(&moved, &house.store.get(&end).unwrap()).unwrap();
    house.repository.forget(&signer, &first, "test").unwrap();
    assert_eq!(prune(&house.repository, options()).unwrap().deleted_packs, 0, "the reader is still there");
    assert_eq!(restore(&house.repository, &first).unwrap(), sample(1));
    house.store.delete(&moved).unwrap();
    drop(pin);
    assert!(prune(&house.repository, options()).unwrap().deleted_packs > 0);
}

#[test]
fn a_lease_that_stands_elsewhere_than_it_says_is_refused() {
    let house = House::new();
    let first = house.backup(&sample(1));
    let writer = lifeboat_repository::SnapshotWriter::begin(&house.repository, source("data")).unwrap();
    let lease = names(&*house.store, "leases/").remove(0);
    let moved = Key::new(format!("leases/data/{}/000000000009/000000000000", first.slot.writer)).unwrap();
    house.store.create(&moved, &house.store.get(&lease).unwrap()).unwrap();
    let error = prune(&house.repository, options()).unwrap_err();
    assert!(error.to_string().contains(moved.as_str()), "{error}");
    house.store.delete(&moved).unwrap();
    drop(writer);
    prune(&house.repository, options()).unwrap();
}
