//! Check of logs: what is damaged or missing is named with the positions that it costs, and nothing else is.

#![expect(clippy::unwrap_used, reason = "tests; the lint only knows functions that are marked as such")]

use crate::logs::*;
use crate::support::*;
use lifeboat_objects::ObjectStore;
use lifeboat_repository::{CheckOptions, CheckReport, Reading, Share, check};

fn checked(house: &House, read_data: bool) -> CheckReport {
    check(&house.repository, CheckOptions { read: Reading::everything(read_data), threads: 3 }, &|_, _| ())
        .unwrap()
}

/// What both ways of checking find.
fn both(house: &House) -> [CheckReport; 2] {
    [false, true].map(|read_data| checked(house, read_data))
}

fn lost(report: &CheckReport) -> Vec<(u64, u64)> {
    report.lost_logs.iter().map(|lost| (lost.from, lost.to)).collect()
}

/// That exactly one problem was found, about this object, with these words.
fn assert_one(report: &CheckReport, object: &str, words: &str) {
    let [problem] = report.problems.as_slice() else { panic!("{report:?}") };
    assert!(problem.object == object && problem.what.contains(words), "{problem:?}");
    assert!(!report.is_whole());
}

fn shipped(house: &House, ends: &[u64]) {
    let mut writer = open(&house.repository);
    for pair in ends.windows(2) {
        ship(&mut writer, house, BYTES, pair[0]..pair[1]);
    }
}

#[test]
fn whole_logs_are_whole_before_and_after_compaction_and_prune() {
    let house = House::new();
    let (_state, other) = elsewhere(&house);
    let ends: Vec<u64> = (0..=20).map(|n| n * 10).collect();
    shipped(&house, &ends);
    // Another leader shipped some of the same, cut differently.
    let signer = other.writer().unwrap();
    let mut again =
        lifeboat_repository::LogWriter::open_at(&other, &signer, &dataset("db"), &lineage(), 35).unwrap();
    ship(&mut again, &house, BYTES, 35..77);
    snapshot_at(&house, 0);
    for report in both(&house) {
        assert!(report.is_whole() && report.logs == 21, "{report:?}");
    }
    assert!(compact(&house.repository, 4).written > 0);
    let compacted = both(&house);
    assert!(compacted.iter().all(CheckReport::is_whole), "{compacted:?}");
    assert!(compacted[1].read_bytes > compacted[0].read_bytes);
    assert!(prune_logs(&house.repository, None).deleted_logs > 0);
    shipped(&house, &[200, 250]);
    for report in both(&house) {
        assert!(report.is_whole() && report.logs < 21, "{report:?}");
    }
}

#[test]
fn a_missing_object_is_a_hole_with_its_positions() {
    let house = House::new();
    shipped(&house, &[0, 10, 20, 30, 40]);
    house.store.delete(&objects_of(&house, 10..20)[0]).unwrap();
    for report in both(&house) {
        assert_one(&report, "logs/db/7123-1", "positions 10 to 20");
        assert_eq!(lost(&report), [(10, 20)]);
    }
}

#[test]
fn the_front_is_missing_only_where_a_snapshot_needs_it() {
    let house = House::new();
    shipped(&house, &[0, 10, 20, 30]);
    house.store.delete(&objects_of(&house, 0..10)[0]).unwrap();
    // What expired goes from the front as well: nobody knows that these were ever needed.
    assert!(both(&house).iter().all(CheckReport::is_whole));
    snapshot_at(&house, 15);
    assert!(both(&house).iter().all(CheckReport::is_whole));
    snapshot_at(&house, 5);
    for report in both(&house) {
        assert_one(&report, "logs/db/7123-1", "positions 5 to 10, and a snapshot needs them");
        assert_eq!(lost(&report), [(5, 10)]);
    }
}

#[test]
fn damage_of_a_head_costs_its_positions_and_is_no_second_hole() {
    let house = House::new();
    shipped(&house, &[0, 10, 20, 30]);
    let key = objects_of(&house, 10..20).remove(0);
    let whole = house.store.get(&key).unwrap();
    flip(&house, &key, whole.len() - 120);
    for report in both(&house) {
        assert_one(&report, key.as_str(), "costs positions 10 to 20 of lineage 7123-1");
        assert_eq!(lost(&report), [(10, 20)]);
    }
    house.store.overwrite(&key, &whole[..whole.len() - 1]);
    for report in both(&house) {
        assert_one(&report, key.as_str(), "only a part of it arrived");
    }
}

#[test]
fn damage_of_a_payload_is_found_by_reading_and_costs_what_nothing_else_holds() {
    let house = House::new();
    let (_state, other) = elsewhere(&house);
    shipped(&house, &[0, 10, 20, 30]);
    let key = objects_of(&house, 10..20).remove(0);
    flip(&house, &key, 3);
    assert!(checked(&house, false).is_whole(), "payloads are read only where that was asked for");
    let report = checked(&house, true);
    assert_one(&report, key.as_str(), "costs positions 10 to 20");
    assert_eq!(lost(&report), [(10, 20)]);
    // Another writer holds some of it, and then all.
    let signer = other.writer().unwrap();
    let mut again =
        lifeboat_repository::LogWriter::open_at(&other, &signer, &dataset("db"), &lineage(), 8).unwrap();
    ship(&mut again, &house, BYTES, 8..14);
    assert_eq!(lost(&checked(&house, true)), [(14, 20)]);
    ship(&mut again, &house, BYTES, 14..25);
    let report = checked(&house, true);
    assert_one(&report, key.as_str(), "other objects hold its positions");
    assert_eq!(lost(&report), []);
}

#[test]
fn the_payload_of_another_object_is_damage() {
    let house = House::new();
    shipped(&house, &[0, 10, 20]);
    let (first, second) = (objects_of(&house, 0..10).remove(0), objects_of(&house, 10..20).remove(0));
    let (mut mixed, donor) = (house.store.get(&first).unwrap(), house.store.get(&second).unwrap());
    let payload = u32::from_le_bytes(mixed[12..16].try_into().unwrap()) as usize;
    let from = mixed.len() - payload;
    mixed[from..].copy_from_slice(&donor[donor.len() - payload..]);
    house.store.overwrite(&first, &mixed);
    let report = checked(&house, true);
    assert_one(&report, first.as_str(), "not the one that was signed");
    assert_eq!(lost(&report), [(0, 10)]);
}

#[test]
fn what_differs_is_a_fork_and_costs_nothing() {
    let house = House::new();
    let (_state, other) = elsewhere(&house);
    let (mut a, mut b) = (open(&house.repository), open(&other));
    let other_history = FakeStore { seed: 99, ..BYTES };
    ship(&mut a, &house, BYTES, 0..10);
    ship(&mut a, &house, BYTES, 10..20);
    ship(&mut b, &house, other_history, 0..10);
    for report in both(&house) {
        assert!(report.problems.iter().any(|p| p.what.contains("forked")), "{report:?}");
        assert_eq!((lost(&report), report.is_whole()), (Vec::new(), false));
    }
    // Cut differently, only their content shows it.
    let house = House::new();
    let (_state, other) = elsewhere(&house);
    let (mut a, mut b) = (open(&house.repository), open(&other));
    ship(&mut a, &house, BYTES, 0..10);
    ship(&mut b, &house, other_history, 0..7);
    let [heads, read] = both(&house);
    assert!(heads.is_whole(), "{heads:?}");
    assert_eq!(read.problems.len(), 1, "{read:?}");
    assert!(read.problems[0].what.contains("forked"), "{read:?}");
}

#[test]
fn an_object_that_continues_another_is_a_fork() {
    let house = House::new();
    let (_state, other) = elsewhere(&house);
    let (mut a, mut b) = (open(&house.repository), open(&other));
    ship(&mut a, &house, BYTES, 0..10);
    ship(&mut b, &house, FakeStore { seed: 99, ..BYTES }, 0..10);
    let of_b =
        objects_of(&house, 0..10).into_iter().find(|key| key.as_str().contains(&signer_id(&other))).unwrap();
    ship(&mut b, &house, FakeStore { seed: 99, ..BYTES }, 10..20);
    house.store.delete(&of_b).unwrap();
    let next = objects_of(&house, 10..20).remove(0);
    for report in both(&house) {
        assert_one(&report, next.as_str(), "continues another object");
    }
}

fn signer_id(repository: &lifeboat_repository::Repository) -> String {
    repository.writer().unwrap().id().to_string()
}

#[test]
fn a_damaged_compacted_log_costs_what_it_replaced_once_that_is_gone() {
    let house = House::new();
    let ends: Vec<u64> = (0..=10).map(|n| n * 10).collect();
    shipped(&house, &ends);
    assert_eq!(compact(&house.repository, 4).written, 1);
    let key = objects_of(&house, 0..100).remove(0);
    let whole = house.store.get(&key).unwrap();
    let head = u32::from_le_bytes(whole[4..8].try_into().unwrap()) as usize;
    // A byte of the table, which heads do not bind by reading them alone.
    flip(&house, &key, whole.len() - 16 - head - 100);
    for report in both(&house) {
        assert_one(&report, key.as_str(), "other objects hold its positions");
    }
    house.store.overwrite(&key, &whole);
    assert_eq!(prune_logs(&house.repository, None).deleted_logs, 10);
    assert!(both(&house).iter().all(CheckReport::is_whole));
    flip(&house, &key, whole.len() - 16 - head - 100);
    for report in both(&house) {
        assert_eq!(lost(&report), [(0, 100)]);
        assert_one(&report, key.as_str(), "costs positions 0 to 100");
    }
}

#[test]
fn what_nobody_signed_is_named_and_hides_no_hole() {
    let house = House::new();
    shipped(&house, &[0, 10, 20, 30]);
    house.store.delete(&objects_of(&house, 10..20)[0]).unwrap();
    let writer = signer_id(&house.repository);
    let far = format!("logs/db/7123-1/{:016x}-{:016x}-{writer}-0000000000000001", 1000, 2000);
    house.store.create(&lifeboat_objects::Key::new(far.as_str()).unwrap(), b"nothing").unwrap();
    // Not the name of a log: passed over.
    house.store.create(&lifeboat_objects::Key::new("logs/db/7123-1/notes").unwrap(), b"nothing").unwrap();
    for report in both(&house) {
        assert_eq!(lost(&report), [(10, 20), (1000, 2000)], "{report:?}");
        assert_eq!(report.problems.len(), 2, "{report:?}");
    }
}

fn checked_part(house: &House, number: u32, of: u32) -> CheckReport {
    let read = Reading::share(Share::part(number, of).unwrap());
    check(&house.repository, CheckOptions { read, threads: 3 }, &|_, _| ()).unwrap()
}

#[test]
fn damage_of_a_payload_is_found_by_the_part_that_it_lies_in_and_by_no_other() {
    const PARTS: u32 = 3;
    let house = House::new();
    let ends: Vec<u64> = (0..=24).map(|n| n * 5).collect();
    shipped(&house, &ends);
    let whole: Vec<CheckReport> = (1..=PARTS).map(|number| checked_part(&house, number, PARTS)).collect();
    let read = |report: &CheckReport| report.read_bytes;
    let everything = read(&checked(&house, true));
    assert_eq!(whole.iter().map(read).sum::<u64>(), everything);
    let mut found_in = std::collections::BTreeSet::new();
    for start in (0..120).step_by(5) {
        let key = objects_of(&house, start..start + 5).remove(0);
        let sound = house.store.get(&key).unwrap();
        flip(&house, &key, 3);
        let reports = (1..=PARTS).map(|number| (number, checked_part(&house, number, PARTS)));
        let finding: Vec<(u32, CheckReport)> = reports.filter(|(_, report)| !report.is_whole()).collect();
        let [(part, report)] = &finding[..] else { panic!("{key}: {finding:?}") };
        assert_one(report, key.as_str(), "costs positions");
        assert_eq!(lost(report), [(start, start + 5)]);
        found_in.insert(*part);
        house.store.overwrite(&key, &sound);
    }
    assert!(found_in.len() > 1, "{found_in:?}");
}

#[test]
fn what_two_objects_in_different_parts_say_differently_is_found_by_the_part_of_the_later_one() {
    let house = House::new();
    let (_state, other) = elsewhere(&house);
    let mut writer = open(&house.repository);
    ship(&mut writer, &house, BYTES, 0..10);
    ship(&mut writer, &house, BYTES, 10..30);
    let signer = other.writer().unwrap();
    let mut late =
        lifeboat_repository::LogWriter::open_at(&other, &signer, &dataset("db"), &lineage(), 15).unwrap();
    let other_history = FakeStore { seed: 99, ..BYTES };
    ship(&mut late, &house, other_history, 15..40);
    let differs =
        |report: &CheckReport| report.problems.iter().filter(|p| p.what.contains("it differs from")).count();
    assert_eq!(differs(&checked(&house, true)), 1);
    // However the two are parted: one part alone finds it.
    for parts in [2, 3, 5, 16, 64] {
        let found = (1..=parts).map(|number| differs(&checked_part(&house, number, parts))).sum::<usize>();
        assert_eq!(found, 1, "{parts} parts");
    }
}
