//! Prune beside writers and readers: nothing that is needed goes, what nobody needs does.

use crate::support::*;
use lifeboat_objects::{Key, ObjectStore, list_all};
use lifeboat_repository::tree::Metadata;
use lifeboat_repository::{
    PruneOptions, PruneReport, Published, Reader, ReaderPin, RepositoryError, SnapshotWriter, prune,
};
use std::time::Duration;

fn options() -> PruneOptions {
    PruneOptions { wait: Duration::ZERO, ..PruneOptions::default() }
}

fn prune_now(house: &House) -> PruneReport {
    prune(&house.repository, options()).unwrap()
}

fn forget(house: &House, published: &Published) {
    let signer = house.repository.writer().unwrap();
    house.repository.forget(&signer, published, "test").unwrap();
}

fn pack_bytes(house: &House) -> u64 {
    list_all(&*house.store, "packs/").unwrap().iter().map(|listed| listed.size_bytes).sum()
}

#[test]
fn what_nobody_needs_goes_and_the_rest_restores() {
    let house = House::new();
    let (first, second) = (house.backup(&sample(1)), house.backup(&sample(2)));
    let before = pack_bytes(&house);
    assert_eq!(prune_now(&house).deleted_packs, 0, "everything is needed");
    let dry_run = |forgotten_then: &[&Published]| {
        let dry_run = Some(forgotten_then.iter().map(|published| published.slot.clone()).collect());
        prune(&house.repository, PruneOptions { dry_run, ..options() }).unwrap()
    };
    let foreseen = dry_run(&[&first]);
    assert_eq!(dry_run(&[]).deleted_bytes, 0, "without forgetting nothing goes");
    forget(&house, &first);
    let dry = dry_run(&[]);
    assert_eq!(foreseen.deleted_bytes, dry.deleted_bytes);
    assert!(dry.deleted_bytes > before / 3, "{dry:?}");
    assert_eq!(pack_bytes(&house), before, "a dry run deletes nothing");
    let report = prune_now(&house);
    assert!(report.deleted_packs > 0 && pack_bytes(&house) < before * 6 / 10, "{report:?}");
    assert_eq!(restore(&house.repository, &second).unwrap(), sample(2));
    assert!(house.repository.find_snapshot(None, &first.id.to_string()).is_err());
    forget(&house, &second);
    prune_now(&house);
    assert_eq!(pack_bytes(&house), 0);
    assert_eq!(restore(&house.repository, &house.backup(&sample(2))).unwrap(), sample(2));
}

#[test]
fn generations_of_changes_stay_small_and_whole() {
    let house = House::new();
    let mut files = sample(1);
    let mut kept = Vec::new();
    for n in 0..40u64 {
        files.insert(format!("dir/{n:03}.txt"), noise(n, 3000));
        let page = (n as usize * 37) % 1500;
        files.get_mut("app.db").unwrap()[page * 512..(page + 20).min(1500) * 512]
            .copy_from_slice(&noise(n, 512 * 20)[..(20.min(1500 - page)) * 512]);
        kept.push((house.backup(&files), files.clone()));
        if kept.len() > 5 {
            forget(&house, &kept.remove(0).0);
            prune_now(&house);
        }
    }
    for (published, files) in &kept {
        assert_eq!(
            &restore(&house.repository, published).unwrap(),
            files,
            "snapshot {}",
            published.snapshot.position
        );
    }
    let fresh = House::new();
    for (_, files) in &kept {
        fresh.backup(files);
    }
    let (used, least) = (pack_bytes(&house), pack_bytes(&fresh));
    assert!(used * 10 <= least * 13, "{used} bytes where {least} would do");
}

#[test]
fn a_writer_at_work_is_waited_for_and_what_it_relies_on_stays() {
    let house = House::new();
    let first = house.backup(&sample(1));
    house.clock.advance(Duration::from_secs(1));
    // The writer relies on the first snapshot's chunks; then that snapshot is forgotten.
    let mut writer = SnapshotWriter::begin(&house.repository, source("data")).unwrap();
    write_files(&mut writer, &sample(1)).unwrap();
    forget(&house, &first);
    let report = prune_now(&house);
    // Its base is pinned by the lease, so there is nothing to condemn, or prune waits.
    assert_eq!(report.deleted_packs, 0, "{report:?}");
    let second = writer.finish(Metadata::default()).unwrap();
    prune_now(&house);
    assert_eq!(restore(&house.repository, &second).unwrap(), sample(1));
}

#[test]
fn a_frozen_writer_loses_its_slot_validates_again_and_publishes_whole() {
    let house = House::new();
    let first = house.backup(&sample(1));
    let other = house.backup(&sample(2));
    let mut writer = SnapshotWriter::begin(&house.repository, source("elsewhere")).unwrap();
    write_files(&mut writer, &sample(1)).unwrap();
    forget(&house, &first);
    // The writer has no base that would pin what it relies on; a prune opens a list and waits for it.
    let waiting = prune_now(&house);
    assert_eq!((waiting.waiting_for.len(), waiting.deleted_packs), (1, 0), "{waiting:?}");
    // It freezes beyond its lease: the clock jumps, no renewal came.
    house.clock.advance(Duration::from_secs(3600));
    let report = prune_now(&house);
    assert_eq!(report.voided.len(), 1, "{report:?}");
    assert!(report.deleted_packs > 0);
    // It thaws. What it relied on is gone: it must not publish a broken snapshot.
    match writer.finish(Metadata::default()) {
        Ok(published) => assert_eq!(restore(&house.repository, &published).unwrap(), sample(1)),
        Err(RepositoryError::StoredInVain(_)) => {}
        Err(other) => panic!("{other}"),
    }
    assert_eq!(restore(&house.repository, &other).unwrap(), sample(2));
    let again = backup(&house.repository, "elsewhere", &sample(1)).unwrap();
    assert_eq!(restore(&house.repository, &again).unwrap(), sample(1));
}

#[test]
fn a_voided_writer_whose_chunks_survived_takes_the_next_slot() {
    let house = House::new();
    let kept = house.backup(&sample(1));
    let mut writer = SnapshotWriter::begin(&house.repository, source("data")).unwrap();
    write_files(&mut writer, &sample(1)).unwrap();
    let gone = backup(&house.repository, "gone", &sample(7)).unwrap();
    forget(&house, &gone);
    house.clock.advance(Duration::from_secs(3600));
    assert_eq!(prune_now(&house).voided.len(), 1);
    let published = writer.finish(Metadata::default()).unwrap();
    assert_eq!(published.snapshot.position.number, kept.snapshot.position.number + 2);
    assert_eq!(restore(&house.repository, &published).unwrap(), sample(1));
}

#[test]
fn a_reader_pins_what_it_reads() {
    let house = House::new();
    let (first, _) = (house.backup(&sample(1)), house.backup(&sample(2)));
    let signer = house.repository.writer().unwrap();
    let pin =
        ReaderPin::take(&house.repository, &signer, std::slice::from_ref(&first.slot), "restore").unwrap();
    let reader = Reader::new(&house.repository).unwrap();
    forget(&house, &first);
    assert_eq!(prune_now(&house).deleted_packs, 0);
    assert_eq!(restore(&house.repository, &first).unwrap(), sample(1));
    drop((pin, reader));
    assert!(prune_now(&house).deleted_packs > 0);
}

#[test]
fn a_reader_without_a_pin_finds_what_was_rewritten() {
    let house = House::new();
    let mut files = sample(1);
    let first = house.backup(&files);
    for n in 0..30 {
        files.insert(format!("dir/{n:03}.txt"), noise(n, 2000));
    }
    let second = house.backup(&files);
    let reader = Reader::new(&house.repository).unwrap();
    forget(&house, &first);
    assert!(
        prune(&house.repository, PruneOptions { max_unused_percent: 0, ..options() }).unwrap().deleted_packs
            > 0
    );
    // The old index of this reader names packs that are gone.
    let mut bytes = 0;
    reader
        .walk(&second.snapshot, &mut |_, entry| {
            reader.pieces(entry, &mut |piece| {
                bytes += u64::from(piece.length);
                Ok::<_, RepositoryError>(())
            })?;
            Ok::<_, RepositoryError>(lifeboat_repository::Descend::Yes)
        })
        .unwrap();
    assert!(bytes > 500_000);
    assert_eq!(restore(&house.repository, &second).unwrap(), files);
}

#[test]
fn holds_outlast_forgetting_and_retention() {
    let house = House::new();
    let first = house.backup(&sample(1));
    let signer = house.repository.writer().unwrap();
    let hold = house.repository.hold(&signer, &first, "audit").unwrap();
    assert!(matches!(house.repository.forget(&signer, &first, "x"), Err(RepositoryError::Held(_))));
    house.repository.release_hold(&signer, &hold.ticket).unwrap();
    forget(&house, &first);
    assert!(matches!(
        house.repository.hold(&signer, &first, "late"),
        Err(RepositoryError::NoSuchSnapshot(_))
    ));
    assert!(house.repository.holds().unwrap().is_empty());
}

#[test]
fn a_missing_verdict_is_noticed() {
    let house = House::new();
    let first = house.backup(&sample(1));
    house.backup(&sample(2));
    forget(&house, &first);
    prune_now(&house);
    house.store.delete(&Key::new("verdicts/000000000001").unwrap()).unwrap();
    assert!(matches!(prune(&house.repository, options()), Err(RepositoryError::RolledBack { .. })));
}

#[test]
fn garbage_of_a_dead_writer_goes_after_the_grace_time() {
    let house = House::new();
    let kept = house.backup(&sample(1));
    let mut writer = SnapshotWriter::begin(&house.repository, source("data")).unwrap();
    write_files(&mut writer, &sample(5)).unwrap();
    drop(writer);
    let before = pack_bytes(&house);
    house.clock.advance(Duration::from_secs(1));
    let report = prune_now(&house);
    assert!(report.waiting_for.is_empty(), "a dropped writer releases its slot: {report:?}");
    assert!(pack_bytes(&house) <= before);
    let left: u64 = pack_bytes(&house);
    prune_now(&house);
    assert!(pack_bytes(&house) <= left);
    assert_eq!(restore(&house.repository, &kept).unwrap(), sample(1));
}
