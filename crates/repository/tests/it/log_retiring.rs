//! Logs that are compacted, replaced and expired: every position stays that somebody may need.

use crate::logs::*;
use crate::support::*;
use lifeboat_base::clock::Timestamp;
use lifeboat_objects::ObjectStore;
use lifeboat_repository::tree::Metadata;
use lifeboat_repository::{
    CompactOptions, LOG_POSITION_FACT, LogError, LogExtent, LogPayload, LogReader, RepositoryError,
    SnapshotWriter, compact_logs, stretches,
};

#[test]
fn compaction_keeps_every_position_and_prune_removes_what_it_replaces() {
    for store in [UNITS, BYTES] {
        let house = House::new();
        let (_state, other) = elsewhere(&house);
        let (mut a, mut b) = (open(&house.repository), open(&other));
        for n in 0..30 {
            ship(&mut a, &house, store, n * 10..(n + 1) * 10);
        }
        for n in 0..8 {
            ship(&mut b, &house, store, n * 37..(n + 1) * 37);
        }
        let before = summary(&house.repository);
        let report = compact(&house.repository, 8);
        assert_eq!((report.written, report.refused.len()), (1, 0), "{report:?}");
        assert_eq!(report.replaced, 38);
        // Both are there now, and what was replaced still reads as the same.
        assert_holds(&house.repository, store, 0..300);
        assert_eq!(prune_logs(&house.repository, None).deleted_logs, 38);
        let after = summary(&house.repository);
        assert_eq!((after.objects, &after.stretches), (1, &before.stretches));
        for range in [0..300, 5..6, 299..300, 123..234] {
            assert_holds(&house.repository, store, range);
        }
        // Writers that were open go on: their links are remembered.
        ship(&mut a, &house, store, 300..310);
        ship(&mut b, &house, store, 296..320);
        assert_holds(&house.repository, store, 0..320);
        assert_eq!(prune_logs(&house.repository, None).deleted_logs, 0);
        // When which position had arrived is remembered more finely than an object.
        let reader = LogReader::open(&house.repository, &dataset("db"), &lineage(), 0..300).unwrap();
        let marks: Vec<(u64, Timestamp)> =
            reader.flat_map(|piece| piece.unwrap().marks).map(|mark| (mark.end, mark.at)).collect();
        assert!(marks.len() >= 8 && marks.iter().all(|(end, time)| *time == at(end - 1)), "{marks:?}");
        // And again, compacted ones among them.
        for n in 32..50 {
            ship(&mut a, &house, store, if n == 32 { 310..330 } else { n * 10..(n + 1) * 10 });
        }
        assert!(compact(&house.repository, 8).written >= 1);
        assert!(prune_logs(&house.repository, None).deleted_logs >= 19);
        assert_holds(&house.repository, store, 0..500);
    }
}

/// What compresses to next to nothing: many small objects, which are far too large for one.
#[test]
fn zeros_are_put_together_only_as_far_as_one_object_can_hold() {
    const MIB: usize = 1 << 20;
    for payload in [LogPayload::Bytes(vec![0; 5 * MIB]), LogPayload::Units(vec![vec![0; 5 * MIB]])] {
        let house = House::new();
        let mut writer = open(&house.repository);
        let step = payload.positions();
        for turn in 0..10 {
            let (first, last) = (at(turn), at(turn + 1));
            let extent = LogExtent { start: turn * step, end: (turn + 1) * step, first, last };
            writer.append(extent, "zeros", &payload).unwrap();
        }
        let report = compact(&house.repository, 2);
        assert!(report.written >= 2 && report.replaced >= 8, "{report:?}");
        assert!(report.refused.is_empty(), "{report:?}");
        let pieces = read(&house.repository, 0..10 * step).unwrap();
        assert_eq!(pieces.iter().map(LogPayload::positions).sum::<u64>(), 10 * step);
    }
}

#[test]
fn compaction_needs_a_maintainer() {
    let house = House::new();
    let mut writer = open(&house.repository);
    ship(&mut writer, &house, BYTES, 0..10);
    ship(&mut writer, &house, BYTES, 10..20);
    let signer = house.repository.writer().unwrap();
    house.repository.enrol(signer.public(), "demoted", lifeboat_repository::Role::Write, Vec::new()).unwrap();
    let options = CompactOptions { at_least: 2, ..CompactOptions::default() };
    let refused = compact_logs(&house.repository, &signer, &dataset("db"), &lineage(), options);
    assert!(matches!(refused, Err(LogError::Repository(RepositoryError::NotPermitted { .. }))));
    ship(&mut writer, &house, BYTES, 20..30);
}

#[test]
fn what_a_maintainer_compacted_is_not_believed_of_one_who_is_none() {
    let house = House::new();
    let (_state, other) = elsewhere(&house);
    let mut writer = open(&house.repository);
    for n in 0..4 {
        ship(&mut writer, &house, BYTES, n * 10..(n + 1) * 10);
    }
    assert_eq!(compact(&other, 2).written, 1);
    let demoted = other.writer().unwrap();
    house
        .repository
        .enrol(demoted.public(), "demoted", lifeboat_repository::Role::Write, Vec::new())
        .unwrap();
    let mut unreadable = Vec::new();
    let log = stretches(&house.repository, &dataset("db"), &mut unreadable).unwrap().remove(0);
    assert_eq!((log.objects, unreadable.len()), (4, 1));
    assert_eq!(prune_logs(&house.repository, None).deleted_logs, 0);
    assert_holds(&house.repository, BYTES, 0..40);
}

#[test]
fn a_reader_at_work_goes_on_while_what_it_reads_is_replaced() {
    for read_first in 0..12u64 {
        let house = House::new();
        let mut writer = open(&house.repository);
        for n in 0..24 {
            ship(&mut writer, &house, UNITS, n * 10..(n + 1) * 10);
        }
        let mut reader = LogReader::open(&house.repository, &dataset("db"), &lineage(), 3..240).unwrap();
        let mut pieces: Vec<LogPayload> =
            reader.by_ref().take(read_first as usize).map(|piece| piece.unwrap().payload).collect();
        let (_state, other) = elsewhere(&house);
        assert_eq!(compact(&other, 2).written, 1);
        assert_eq!(prune_logs(&other, None).deleted_logs, 24);
        pieces.extend(reader.map(|piece| piece.unwrap().payload));
        assert_eq!(joined(pieces), UNITS.payload(3..240));
    }
}

#[test]
fn what_expired_goes_and_what_a_kept_snapshot_needs_stays() {
    let house = House::new();
    let mut writer = open(&house.repository);
    for n in 0..10 {
        ship(&mut writer, &house, BYTES, n * 10..(n + 1) * 10);
    }
    let old = snapshot_at(&house, 25);
    let new = snapshot_at(&house, 70);
    assert_eq!(prune_logs(&house.repository, None).deleted_logs, 0, "nothing expires by itself");
    assert_eq!(prune_logs(&house.repository, Some(15)).deleted_logs, 1);
    assert_eq!(extents(&summary(&house.repository)), [(10, 100)]);
    assert_eq!(prune_logs(&house.repository, Some(1000)).deleted_logs, 1, "the older snapshot needs 20..30");
    assert_holds(&house.repository, BYTES, 25..100);
    let signer = house.repository.writer().unwrap();
    let hold = house.repository.hold(&signer, &old, "audit").unwrap();
    assert!(house.repository.forget(&signer, &old, "test").is_err());
    house.repository.release_hold(&signer, &hold.ticket).unwrap();
    house.repository.forget(&signer, &old, "test").unwrap();
    assert_eq!(prune_logs(&house.repository, Some(1000)).deleted_logs, 5);
    assert_holds(&house.repository, BYTES, 70..100);
    // The end of a lineage that is in use stays, so that its writer finds it.
    let newest = snapshot_at(&house, 100);
    house.repository.forget(&signer, &new, "test").unwrap();
    assert_eq!(prune_logs(&house.repository, Some(u64::MAX)).deleted_logs, 2);
    assert_eq!(open(&house.repository).end(), Some(100));
    // A lineage that no snapshot is left of goes whole.
    house.repository.forget(&signer, &newest, "test").unwrap();
    assert_eq!(prune_logs(&house.repository, Some(u64::MAX)).deleted_logs, 1);
    assert!(objects(&*house.store).is_empty());
}

#[test]
fn a_verdict_spares_what_was_needed_since_its_list() {
    let house = House::new();
    let mut log = open(&house.repository);
    for n in 0..10 {
        ship(&mut log, &house, BYTES, n * 10..(n + 1) * 10);
    }
    // A snapshot is being written: prune opens its list and must wait.
    let mut source = source("db");
    source.lineage = Some(lineage().as_str().to_owned());
    let mut writer = SnapshotWriter::begin(&house.repository, source).unwrap();
    writer.set_fact(LOG_POSITION_FACT, 35);
    let waiting = prune_logs(&house.repository, Some(80));
    assert_eq!((waiting.waiting_for.len(), waiting.deleted_logs), (1, 0), "{waiting:?}");
    writer.finish(Metadata::default()).unwrap();
    // Whoever concludes the list was given no cut-off, and judges by the snapshot that is there now.
    let (_state, other) = elsewhere(&house);
    assert_eq!(prune_logs(&other, None).deleted_logs, 3);
    assert_holds(&house.repository, BYTES, 35..100);
    assert_eq!(extents(&summary(&house.repository)), [(30, 100)]);
}

#[test]
fn a_verdict_spares_small_objects_whose_replacement_was_lost() {
    let house = House::new();
    let mut log = open(&house.repository);
    for n in 0..10 {
        ship(&mut log, &house, BYTES, n * 10..(n + 1) * 10);
    }
    let small = objects(&*house.store);
    assert_eq!(compact(&house.repository, 2).written, 1);
    let replacement = objects(&*house.store).into_iter().find(|key| !small.contains(key)).unwrap();
    let writer = SnapshotWriter::begin(&house.repository, source("elsewhere")).unwrap();
    assert_eq!(prune_logs(&house.repository, None).waiting_for.len(), 1);
    // Between list and verdict the payload of the replacement rots; its head still reads.
    flip(&house, &replacement, 3);
    drop(writer);
    assert_eq!(prune_logs(&house.repository, None).deleted_logs, 0);
    house.store.delete(&replacement).unwrap();
    assert_holds(&house.repository, BYTES, 0..100);
}

#[test]
fn a_name_that_a_verdict_named_never_counts_again() {
    let house = House::new();
    let mut log = open(&house.repository);
    for n in 0..4 {
        ship(&mut log, &house, BYTES, n * 10..(n + 1) * 10);
    }
    let late = objects_of(&house, 10..20).remove(0);
    let bytes = house.store.get(&late).unwrap();
    compact(&house.repository, 2);
    assert_eq!(prune_logs(&house.repository, None).deleted_logs, 4);
    // A hanging PUT completes at last.
    house.store.create(&late, &bytes).unwrap();
    assert_eq!(summary(&house.repository).objects, 1);
    assert_holds(&house.repository, BYTES, 0..40);
    assert_eq!(prune_logs(&house.repository, None).deleted_logs, 1, "it is deleted again");
    assert_eq!(objects(&*house.store).len(), 1);
}
