//! Snapshots: what is written is read back, what is known is not stored again, secrets and trust hold.

use crate::support::*;
use lifeboat_base::Secret;
use lifeboat_objects::Key;
use lifeboat_repository::{
    Environment, InitOptions, Lock, Repository, RepositoryError, Unlock, new_recovery_lock,
};
use std::sync::Arc;

#[test]
fn what_was_written_is_restored() {
    let house = House::new();
    let files = sample(1);
    let published = house.backup(&files);
    assert_eq!(restore(&house.repository, &published).unwrap(), files);
    assert_eq!(published.snapshot.stats.files, files.len() as u64);
    assert_eq!(published.snapshot.position.number, 1);
}

#[test]
fn a_second_snapshot_stores_only_what_is_new() {
    let house = House::new();
    let mut files = sample(1);
    let first = house.backup(&files);
    let same = house.backup(&files);
    assert_eq!(same.snapshot.stats.new_bytes, 0);
    assert_eq!(same.snapshot.predecessor, Some((1, first.id)));
    files.get_mut("app.db").unwrap()[512 * 700] ^= 1;
    files.insert("dir/041.txt".to_owned(), b"new".to_vec());
    let third = house.backup(&files);
    // One page in a block of its own, a difference of a leaf, an inner node, a small file, two listings.
    assert!(third.snapshot.stats.new_bytes < 12_000, "{} new bytes", third.snapshot.stats.new_bytes);
    assert_eq!(restore(&house.repository, &third).unwrap(), files);
    assert_eq!(restore(&house.repository, &first).unwrap(), sample(1));
}

#[test]
fn differences_of_leaves_end_after_eight_and_all_generations_restore() {
    let house = House::new();
    let mut files = sample(1);
    let mut kept = vec![(house.backup(&files), files.clone())];
    for n in 0..20 {
        files.get_mut("app.db").unwrap()[512 * (10 + n * 30)] ^= 1;
        kept.push((house.backup(&files), files.clone()));
    }
    for (published, files) in &kept {
        assert_eq!(&restore(&house.repository, published).unwrap(), files);
    }
}

#[test]
fn another_machine_restores_with_the_secret_alone() {
    let house = House::new();
    let files = sample(3);
    house.backup(&files);
    let elsewhere = tempfile::tempdir().unwrap();
    let repository = house.open_elsewhere(elsewhere.path()).unwrap();
    let found = repository.find_snapshot(Some(&dataset("data")), "latest").unwrap();
    assert_eq!(restore(&repository, &found).unwrap(), files);
    // It writes as a writer of its own, in a chain of its own, and finds everything there.
    let mine = backup(&repository, "data", &files).unwrap();
    assert_eq!((mine.snapshot.position.number, mine.snapshot.stats.new_bytes), (1, 0));
    assert_ne!(mine.snapshot.position.writer, found.snapshot.position.writer);
    assert_eq!(repository.writers().len(), 2);
}

#[test]
fn secrets_open_and_others_do_not() {
    let clock = lifeboat_base::clock::ManualClock::default();
    let store = Arc::new(lifeboat_objects::memory::MemoryStore::new());
    let state = tempfile::tempdir().unwrap();
    let (recovery_lock, recovery) = new_recovery_lock();
    let locks = [(Lock::Passphrase(passphrase()), "first".to_owned()), (recovery_lock, "paper".to_owned())];
    let open = |unlock: &Unlock| Repository::open(store.clone(), unlock, environment(state.path(), &clock));
    assert!(matches!(open(&Unlock::Passphrase(passphrase())), Err(RepositoryError::NotARepository(_))));
    let repository =
        Repository::init(store.clone(), &locks, &small_options(), environment(state.path(), &clock)).unwrap();
    assert!(open(&Unlock::Passphrase(passphrase())).unwrap().is_admin());
    let paper = Unlock::Passphrase(Secret::new(recovery.to_text().as_bytes().to_vec()));
    assert!(open(&paper).unwrap().is_admin());
    assert!(matches!(
        open(&Unlock::Passphrase(Secret::new(b"wrong".to_vec()))),
        Err(RepositoryError::WrongKey)
    ));
    assert!(matches!(
        Repository::init(store.clone(), &locks, &InitOptions::default(), Environment::default()),
        Err(RepositoryError::AlreadyARepository(_))
    ));
    // A plain slot reads and cannot change the roster; retiring slots leaves one admin.
    let plain = Secret::new(vec![9; 32]);
    repository.add_slot(&Lock::Command(plain.clone()), "reader", false).unwrap();
    let reader = open(&Unlock::Command(plain)).unwrap();
    assert!(!reader.is_admin());
    assert!(matches!(
        reader.add_slot(&Lock::Passphrase(passphrase()), "x", false),
        Err(RepositoryError::NeedsAdmin(_))
    ));
    let slots = repository.slots();
    repository.retire_slot(&slots[0].id).unwrap();
    assert!(matches!(repository.retire_slot(&slots[1].id), Err(RepositoryError::LastAdminSlot(_))));
    assert!(matches!(open(&Unlock::Passphrase(passphrase())), Err(RepositoryError::WrongKey)));
    assert!(open(&paper).is_ok());
}

#[test]
fn a_newer_format_is_refused() {
    let house = House::new();
    let key = Key::new("config").unwrap();
    let mut config = lifeboat_objects::ObjectStore::get(&*house.store, &key).unwrap();
    config[3] = 2;
    house.store.overwrite(&key, &config);
    let error = house.open_elsewhere(house.state.path()).unwrap_err();
    assert!(matches!(error, RepositoryError::NewerFormat { found: 2, supported: 1 }), "{error}");
}

#[test]
fn a_replayed_roster_and_a_forged_one_are_refused() {
    let house = House::new();
    house.backup(&sample(1));
    let newest = Key::new("roster/000000000002").unwrap();
    let bytes = lifeboat_objects::ObjectStore::get(&*house.store, &newest).unwrap();
    lifeboat_objects::ObjectStore::delete(&*house.store, &newest).unwrap();
    let error = house.open_elsewhere(house.state.path()).unwrap_err();
    assert!(matches!(error, RepositoryError::RolledBack { seen: 2, shown: 1, .. }), "{error}");
    let mut forged = bytes.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    house.store.overwrite(&newest, &forged);
    assert!(matches!(house.open_elsewhere(house.state.path()), Err(RepositoryError::Damaged { .. })));
    house.store.overwrite(&newest, &bytes);
    house.open_elsewhere(house.state.path()).unwrap();
}

#[test]
fn a_revoked_writer_writes_no_more_and_what_it_wrote_counts() {
    let house = House::new();
    let files = sample(1);
    let published = house.backup(&files);
    house.clock.advance(std::time::Duration::from_secs(10));
    house.repository.revoke(&published.snapshot.position.writer).unwrap();
    assert!(matches!(backup(&house.repository, "data", &files), Err(RepositoryError::NotPermitted { .. })));
    let found = house.repository.find_snapshot(None, "latest").unwrap();
    assert_eq!(restore(&house.repository, &found).unwrap(), files);
    // The same bytes, received after the revocation, count no more.
    let key =
        Key::new(format!("snapshots/data/{}/000000000001", published.snapshot.position.writer)).unwrap();
    let bytes = lifeboat_objects::ObjectStore::get(&*house.store, &key).unwrap();
    house.store.overwrite(&key, &bytes);
    assert!(house.repository.find_snapshot(None, "latest").is_err());
}
