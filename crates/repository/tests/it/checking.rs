//! Check finds what is wrong and names what it costs; copies stand on their own.

use crate::support::*;
use lifeboat_base::Secret;
use lifeboat_objects::memory::MemoryStore;
use lifeboat_objects::{Key, ObjectStore, list_all};
use lifeboat_repository::{
    CheckOptions, CheckReport, Lock, PruneOptions, Reading, Repository, Share, check, copy, prune,
};
use std::sync::Arc;
use std::time::Duration;

fn check_now(house: &House) -> CheckReport {
    check(&house.repository, CheckOptions { read: Reading::Everything, threads: 2 }, &|_, _| ()).unwrap()
}

#[test]
fn an_undamaged_repository_is_whole() {
    let house = House::new();
    let first = house.backup(&sample(1));
    house.backup(&sample(2));
    let report = check_now(&house);
    assert!(report.is_whole(), "{report:?}");
    assert!(report.read_bytes > 1_000_000 && report.snapshots == 2);
    house.repository.forget(&house.repository.writer().unwrap(), &first, "test").unwrap();
    prune(&house.repository, PruneOptions { wait: Duration::ZERO, ..PruneOptions::default() }).unwrap();
    let report = check_now(&house);
    assert!(report.is_whole(), "{report:?}");
}

#[test]
fn a_damaged_pack_costs_the_files_in_it_and_no_others() {
    let house = House::new();
    house.backup(&sample(1));
    // The largest pack holds content; the listings come last, in what is left over.
    let packs = list_all(&*house.store, "packs/").unwrap();
    let key = packs.into_iter().max_by_key(|listed| listed.size_bytes).unwrap().key;
    let mut bytes = house.store.get(&key).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    house.store.overwrite(&key, &bytes);
    let report = check_now(&house);
    assert!(report.problems.iter().any(|p| p.object == key.to_string()), "{report:?}");
    assert!(!report.lost.is_empty() && report.lost.len() < sample(1).len(), "{report:?}");
    assert!(report.lost.iter().all(|lost| !lost.path.is_empty()), "{report:?}");
}

#[test]
fn a_removed_tip_shows_against_the_head_that_was_seen() {
    let house = House::new();
    house.backup(&sample(1));
    let second = house.backup(&sample(2));
    house
        .store
        .delete(&Key::new(format!("snapshots/{}/{}/000000000002", "data", second.slot.writer)).unwrap())
        .unwrap();
    let report = check_now(&house);
    assert!(report.problems.iter().any(|p| p.what.contains("this machine has seen")), "{report:?}");
    // Another machine has seen nothing, and cannot know.
    let elsewhere = tempfile::tempdir().unwrap();
    let repository = house.open_elsewhere(elsewhere.path()).unwrap();
    assert!(check(&repository, CheckOptions::default(), &|_, _| ()).unwrap().is_whole());
}

#[test]
fn a_removed_snapshot_in_the_middle_shows_everywhere() {
    let house = House::new();
    let first = house.backup(&sample(1));
    house.backup(&sample(2));
    house
        .store
        .delete(&Key::new(format!("snapshots/{}/{}/000000000001", "data", first.slot.writer)).unwrap())
        .unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let repository = house.open_elsewhere(elsewhere.path()).unwrap();
    let report = check(&repository, CheckOptions::default(), &|_, _| ()).unwrap();
    assert!(report.problems.iter().any(|p| p.what.contains("nobody claims it")), "{report:?}");
}

pub(crate) fn copy_of(house: &House, store: &Arc<MemoryStore>, state: &tempfile::TempDir) -> Arc<Repository> {
    let lock = Lock::Command(Secret::new(vec![3; 32]));
    Repository::init_copy(
        store.clone(),
        &house.repository,
        &[(lock, "copy".to_owned())],
        &small_options(),
        environment(state.path(), &house.clock),
    )
    .map(Arc::new)
    .unwrap()
}

#[test]
fn a_copy_restores_alone_and_outlives_the_origin() {
    let house = House::new();
    let mut files = sample(1);
    let first = house.backup(&files);
    files.get_mut("app.db").unwrap()[512 * 700] ^= 1;
    let second = house.backup(&files);
    let (store, state) = (Arc::new(MemoryStore::new()), tempfile::tempdir().unwrap());
    let target = copy_of(&house, &store, &state);
    let report = copy(&house.repository, &target, &[first.clone(), second.clone()]).unwrap();
    assert_eq!(report.copied, [first.id, second.id]);
    assert_eq!(copy(&house.repository, &target, &[first.clone(), second]).unwrap().already, 2);
    // The origin is forgotten and pruned to nothing; the copy alone is opened with its own secret.
    let signer = house.repository.writer().unwrap();
    house.repository.forget(&signer, &first, "stolen maintainer").unwrap();
    drop(house);
    let unlock = lifeboat_repository::Unlock::Command(Secret::new(vec![3; 32]));
    let empty = tempfile::tempdir().unwrap();
    let clock = lifeboat_base::clock::ManualClock::default();
    let target = Arc::new(Repository::open(store, &unlock, environment(empty.path(), &clock)).unwrap());
    let report = check(&target, CheckOptions { read: Reading::Everything, threads: 1 }, &|_, _| ()).unwrap();
    assert!(report.is_whole() && report.snapshots == 2, "{report:?}");
    let found = target.find_snapshot(None, &first.id.to_string()).unwrap();
    assert_eq!(restore(&target, &found).unwrap(), sample(1));
    assert_eq!(restore(&target, &target.find_snapshot(None, "latest").unwrap()).unwrap(), files);
}

#[test]
fn a_copy_is_forgotten_and_pruned_by_its_own_rules() {
    let house = House::new();
    let (first, second) = (house.backup(&sample(1)), house.backup(&sample(2)));
    let (store, state) = (Arc::new(MemoryStore::new()), tempfile::tempdir().unwrap());
    let target = copy_of(&house, &store, &state);
    copy(&house.repository, &target, &[first.clone(), second.clone()]).unwrap();
    let copied = target.find_snapshot(None, &first.id.to_string()).unwrap();
    target.forget(&target.writer().unwrap(), &copied, "test").unwrap();
    let report = prune(&target, PruneOptions { wait: Duration::ZERO, ..PruneOptions::default() }).unwrap();
    assert!(report.deleted_packs > 0);
    assert_eq!(
        restore(&target, &target.find_snapshot(None, &second.id.to_string()).unwrap()).unwrap(),
        sample(2)
    );
    // What the copy forgot is not copied again, and the origin still has it.
    assert_eq!(copy(&house.repository, &target, std::slice::from_ref(&first)).unwrap().already, 1);
    assert_eq!(restore(&house.repository, &first).unwrap(), sample(1));
}

#[test]
fn repositories_of_different_origin_do_not_copy() {
    let (house, other) = (House::new(), House::new());
    let first = house.backup(&sample(1));
    assert!(copy(&house.repository, &other.repository, &[first]).is_err());
}

#[test]
fn a_copy_gives_back_what_the_origin_lost() {
    let house = House::new();
    let first = house.backup(&sample(1));
    let (store, state) = (Arc::new(MemoryStore::new()), tempfile::tempdir().unwrap());
    let target = copy_of(&house, &store, &state);
    copy(&house.repository, &target, std::slice::from_ref(&first)).unwrap();
    for prefix in ["snapshots/", "packs/", "index/"] {
        for listed in list_all(&*house.store, prefix).unwrap() {
            house.store.delete(&listed.key).unwrap();
        }
    }
    assert!(house.repository.snapshots(None, &mut Vec::new()).unwrap().is_empty());
    let copied = target.find_snapshot(None, &first.id.to_string()).unwrap();
    let report = copy(&target, &house.repository, std::slice::from_ref(&copied)).unwrap();
    assert_eq!(report.copied, [first.id]);
    let back = house.repository.find_snapshot(None, &first.id.to_string()).unwrap();
    assert_eq!(back.snapshot, first.snapshot, "what was signed is the same, wherever it stands now");
    assert_eq!(restore(&house.repository, &back).unwrap(), sample(1));
}

#[test]
fn a_copy_of_a_copy_is_made_from_the_origin_or_refused_before_anything_is_stored() {
    let house = House::new();
    let first = house.backup(&sample(1));
    let (stores, states) =
        ([(); 2].map(|()| Arc::new(MemoryStore::new())), [(); 2].map(|()| tempfile::tempdir().unwrap()));
    let second = copy_of(&house, &stores[0], &states[0]);
    let third = copy_of(&house, &stores[1], &states[1]);
    copy(&house.repository, &second, std::slice::from_ref(&first)).unwrap();
    let copied = second.find_snapshot(None, &first.id.to_string()).unwrap();
    // The third was made as a copy of the first: it knows its roster, and takes its snapshots from anywhere.
    if let Err(error) = copy(&second, &third, std::slice::from_ref(&copied)) {
        assert!(error.to_string().contains("copy its snapshots from that one"), "{error}");
        assert!(list_all(&*stores[1], "snapshots/").unwrap().is_empty());
        copy(&house.repository, &third, std::slice::from_ref(&first)).unwrap();
    }
    let there = third.find_snapshot(None, &first.id.to_string()).unwrap();
    assert_eq!(restore(&third, &there).unwrap(), sample(1));
}

#[test]
fn a_damaged_roster_of_an_origin_is_named_and_does_not_keep_the_copy_shut() {
    let house = House::new();
    let first = house.backup(&sample(1));
    let (store, state) = (Arc::new(MemoryStore::new()), tempfile::tempdir().unwrap());
    let target = copy_of(&house, &store, &state);
    copy(&house.repository, &target, std::slice::from_ref(&first)).unwrap();
    backup(&target, "own", &sample(2)).unwrap();
    let keys: Vec<Key> =
        list_all(&*store, "origins/").unwrap().into_iter().map(|listed| listed.key).collect();
    for key in &keys {
        let mut bytes = store.get(key).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        store.overwrite(key, &bytes);
    }
    let unlock = lifeboat_repository::Unlock::Command(Secret::new(vec![3; 32]));
    let empty = tempfile::tempdir().unwrap();
    let opened =
        Repository::open(store, &unlock, environment(empty.path(), &house.clock)).map(Arc::new).unwrap();
    let mut unreadable = Vec::new();
    let listed = opened.snapshots(None, &mut unreadable).unwrap();
    assert_eq!((listed.len(), unreadable.len()), (1, 1), "{unreadable:?}");
    let report = check(&opened, CheckOptions::default(), &|_, _| ()).unwrap();
    for key in keys {
        assert!(report.problems.iter().any(|p| p.object == key.as_str()), "{report:?}");
    }
}

/// A check that reads one part.
fn check_part(house: &House, number: u32, of: u32) -> CheckReport {
    let read = Reading::share(Share::part(number, of).unwrap());
    check(&house.repository, CheckOptions { read, threads: 2 }, &|_, _| ()).unwrap()
}

#[test]
fn damage_is_found_by_the_part_that_it_lies_in_and_by_no_other() {
    const PARTS: u32 = 4;
    let house = House::new();
    for seed in 1..=4 {
        house.backup(&sample(seed * 10));
    }
    let whole: Vec<CheckReport> = (1..=PARTS).map(|number| check_part(&house, number, PARTS)).collect();
    assert!(whole.iter().all(CheckReport::is_whole), "{whole:?}");
    let read: u64 = whole.iter().map(|report| report.read_bytes).sum();
    assert_eq!(read, check_now(&house).read_bytes, "the parts are everything, and nothing twice");
    let packs = list_all(&*house.store, "packs/").unwrap();
    assert!(packs.len() > 20, "{}", packs.len());
    let mut found_in = std::collections::BTreeSet::new();
    for pack in packs {
        let sound = house.store.get(&pack.key).unwrap();
        let mut bytes = sound.clone();
        *bytes.last_mut().unwrap() ^= 1;
        house.store.overwrite(&pack.key, &bytes);
        let object = pack.key.to_string();
        let finds =
            |number: &u32| check_part(&house, *number, PARTS).problems.iter().any(|p| p.object == object);
        let finding: Vec<u32> = (1..=PARTS).filter(finds).collect();
        let [part] = finding[..] else { panic!("{object}: {finding:?}") };
        // By its name alone.
        let first = u64::from_str_radix(&object.rsplit('/').next().unwrap()[..16], 16).unwrap();
        assert_eq!(u128::from(part - 1), (u128::from(first) * u128::from(PARTS)) >> 64, "{object}");
        found_in.insert(part);
        // Whoever names it finds it too, whatever else he reads.
        let objects = std::collections::BTreeSet::from([object.clone()]);
        let read = Reading::Some { shares: Vec::new(), objects };
        let report = check(&house.repository, CheckOptions { read, threads: 1 }, &|_, _| ()).unwrap();
        assert!(report.problems.iter().any(|problem| problem.object == object), "{report:?}");
        assert_eq!(report.read_bytes, pack.size_bytes);
        house.store.overwrite(&pack.key, &sound);
    }
    assert!(found_in.len() > 1, "{found_in:?}");
    assert!(check_now(&house).is_whole());
}
