//! Logs of which only parts stay: what older snapshots need for themselves, and everything from a position on. The
//! hole between is no loss, and a loss is none of it.

#![expect(clippy::unwrap_used, reason = "tests; the lint only knows functions that are marked as such")]

use crate::checking::copy_of;
use crate::logs::*;
use crate::support::*;
use lifeboat_base::clock::Clock;
use lifeboat_objects::memory::MemoryStore;
use lifeboat_objects::{Key, ObjectStore};
use lifeboat_repository::tree::Metadata;
use lifeboat_repository::{
    CheckOptions, CheckReport, LOG_END_FACT, LOG_POSITION_FACT, LogWriter, Published, Reading, Repository,
    Role, SnapshotWriter, check, copy,
};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

fn checked(repository: &Arc<Repository>) -> CheckReport {
    check(repository, CheckOptions { read: Reading::Everything, threads: 2 }, &|_, _| ()).unwrap()
}

fn lost(report: &CheckReport) -> Vec<(u64, u64)> {
    report.lost_logs.iter().map(|lost| (lost.from, lost.to)).collect()
}

/// Objects of ten positions up to 200, and three snapshots.
fn house() -> (House, Vec<Published>) {
    let house = House::new();
    let mut writer = open(&house.repository);
    for n in 0..20 {
        ship(&mut writer, &house, BYTES, n * 10..(n + 1) * 10);
    }
    let snapshots = [5..12, 60..61, 123..140].map(|own| snapshot_of(&house, own)).to_vec();
    (house, snapshots)
}

#[test]
fn between_what_snapshots_need_a_hole_is_left_and_check_reports_nothing_lost() {
    let (house, _) = house();
    let window = cut_off(123, &[5..12, 60..61]);
    // 0..20, 60..70 and 120.. stay: whole objects.
    assert_eq!(prune_logs_with(&house.repository, std::slice::from_ref(&window)).deleted_logs, 4 + 5);
    assert_eq!(extents(&summary(&house.repository)), [(0, 20), (60, 70), (120, 200)]);
    for kept in [5..12, 60..61, 123..200] {
        assert_holds(&house.repository, BYTES, kept);
    }
    let (_state, other) = elsewhere(&house);
    for repository in [&house.repository, &other] {
        let report = checked(repository);
        assert!(report.is_whole(), "{report:?}");
    }
    assert_eq!(prune_logs_with(&house.repository, &[window]).deleted_logs, 0);
    // Compaction does not bridge it, and what is put together says the same.
    assert_eq!(compact(&house.repository, 2).written, 2);
    assert!(prune_logs(&house.repository, None).deleted_logs > 0);
    assert_eq!(extents(&summary(&house.repository)), [(0, 20), (60, 70), (120, 200)]);
    assert!(checked(&house.repository).is_whole());
    // Whoever wrote it goes on at its end.
    ship(&mut open(&house.repository), &house, BYTES, 200..210);
    assert!(checked(&house.repository).is_whole());
}

#[test]
fn whoever_asks_for_too_much_is_not_given_what_a_snapshot_needs_for_itself() {
    let (house, snapshots) = house();
    // No range is spared by who asks; the snapshots' own are, and the end.
    assert_eq!(prune_logs(&house.repository, Some(u64::MAX)).deleted_logs, 20 - 2 - 1 - 2 - 1);
    assert_eq!(extents(&summary(&house.repository)), [(0, 20), (60, 70), (120, 140), (190, 200)]);
    assert!(checked(&house.repository).is_whole());
    let signer = house.repository.writer().unwrap();
    house.repository.forget(&signer, &snapshots[1], "test").unwrap();
    assert_eq!(prune_logs(&house.repository, Some(u64::MAX)).deleted_logs, 1);
    assert!(checked(&house.repository).is_whole());
}

#[test]
fn a_loss_beside_a_hole_is_named_and_no_more() {
    let (house, _) = house();
    prune_logs_with(&house.repository, &[cut_off(123, &[5..12, 60..61])]);
    // An object of the window, one that a snapshot needs, and one at the edge of what expired.
    for (range, costs) in [(150..160, (150, 160)), (10..20, (10, 20)), (60..70, (60, 70))] {
        let key = objects_of(&house, range.clone()).remove(0);
        let bytes = house.store.get(&key).unwrap();
        house.store.delete(&key).unwrap();
        let report = checked(&house.repository);
        assert_eq!((lost(&report), report.problems.len()), (vec![costs], 1), "{report:?}");
        house.store.create(&key, &bytes).unwrap();
        assert!(checked(&house.repository).is_whole(), "{range:?}");
    }
}

#[test]
fn what_a_compacted_object_replaced_did_not_expire() {
    let house = House::new();
    let mut writer = open(&house.repository);
    for n in 0..12 {
        ship(&mut writer, &house, BYTES, n * 10..(n + 1) * 10);
    }
    snapshot_of(&house, 0..5);
    let before = objects(&*house.store);
    assert_eq!(compact(&house.repository, 2).written, 1);
    assert_eq!(prune_logs(&house.repository, None).deleted_logs, 12);
    ship(&mut writer, &house, BYTES, 120..130);
    let compacted = objects(&*house.store).into_iter().find(|key| !before.contains(key)).unwrap();
    snapshot_of(&house, 120..125);
    let bytes = house.store.get(&compacted).unwrap();
    house.store.delete(&compacted).unwrap();
    assert_eq!(lost(&checked(&house.repository)), [(0, 5)], "nobody knows what stood behind it");
    house.store.create(&compacted, &bytes).unwrap();
    assert!(checked(&house.repository).is_whole());
}

#[test]
fn a_verdict_spares_what_a_snapshot_that_was_being_written_needs_for_itself() {
    let (house, _) = house();
    let mut source = source("db");
    source.lineage = Some(lineage().as_str().to_owned());
    let mut writer = SnapshotWriter::begin(&house.repository, source).unwrap();
    writer.set_fact(LOG_POSITION_FACT, 85);
    writer.set_fact(LOG_END_FACT, 95);
    let window = cut_off(123, &[5..12, 60..61]);
    assert_eq!(prune_logs_with(&house.repository, &[window]).waiting_for.len(), 1);
    writer.finish(Metadata::default()).unwrap();
    assert_eq!(prune_logs(&house.repository, None).deleted_logs, 4 + 5 - 2);
    assert_eq!(extents(&summary(&house.repository)), [(0, 20), (60, 70), (80, 100), (120, 200)]);
    assert!(checked(&house.repository).is_whole());
}

/// A log that is followed, kept in parts, compacted and pruned in any order.
struct Life {
    house: House,
    end: u64,
    /// Everything from here on stays.
    window: u64,
    kept: Vec<(Range<u64>, Published)>,
}

impl Life {
    fn step(&mut self, writer: &mut LogWriter, dice: &mut Dice) {
        match dice.roll(7) {
            0..=2 => {
                let next = self.end + 1 + dice.roll(30);
                ship(writer, &self.house, BYTES, self.end..next);
                self.end = next;
            }
            3 if self.end > self.window + 10 => {
                let stop = self.end - dice.roll(5);
                let own = self.window.max(stop.saturating_sub(1 + dice.roll(30)))..stop;
                self.kept.push((own.clone(), snapshot_of(&self.house, own)));
            }
            4 => drop(compact(&self.house.repository, 2)),
            5 if self.kept.len() > 1 => self.forget(dice),
            _ => self.prune(dice),
        }
    }

    fn forget(&mut self, dice: &mut Dice) {
        let (_, gone) = self.kept.remove(dice.roll(self.kept.len() as u64) as usize);
        let repository = &self.house.repository;
        repository.forget(&repository.writer().unwrap(), &gone, "test").unwrap();
    }

    /// Whoever asks does not always say what older snapshots need.
    fn prune(&mut self, dice: &mut Dice) {
        let Some(last) = self.kept.iter().map(|(own, _)| own.start).max() else { return };
        self.window = self.window.max(dice.roll(last + 1));
        let stays: Vec<Range<u64>> = self.kept.iter().map(|(own, _)| own.clone()).collect();
        let stays = if dice.roll(2) == 0 { &stays[..] } else { &[] };
        prune_logs_with(&self.house.repository, &[cut_off(self.window, stays)]);
    }

    /// What the oldest snapshot needs first is lost. That it is gone shows as long as there is anything behind it.
    fn assert_loss_shows(&self) {
        let Some(first) = self.kept.iter().map(|(own, _)| own.start).min() else { return };
        let (gone, left): (Vec<_>, Vec<_>) =
            objects(&*self.house.store).into_iter().partition(|key| extent_of(key).contains(&first));
        gone.iter().for_each(|key| self.house.store.delete(key).unwrap());
        let is_behind = |key: &Key| extent_of(key).start > first;
        assert_eq!(
            checked(&self.house.repository).is_whole(),
            !left.iter().any(is_behind),
            "{gone:?} of {left:?}"
        );
    }

    fn assert_kept(&self) {
        let needed =
            self.kept.iter().map(|(own, _)| own.clone()).chain(std::iter::once(self.window..self.end));
        needed.for_each(|range| assert_holds(&self.house.repository, BYTES, range));
        let report = checked(&self.house.repository);
        assert!(report.is_whole(), "{report:?}");
    }
}

#[test]
fn in_any_order_of_pruning_no_snapshot_loses_its_own_log_and_no_hole_is_a_loss() {
    for seed in seeds(8) {
        let mut dice = Dice(seed);
        let mut life = Life { house: House::new(), end: 0, window: 0, kept: Vec::new() };
        let mut writer = open(&life.house.repository);
        for _ in 0..60 {
            life.step(&mut writer, &mut dice);
            life.assert_kept();
        }
        life.assert_loss_shows();
    }
}

/// The positions that an object's name says.
fn extent_of(key: &Key) -> Range<u64> {
    let mut ends = key.last_component().split('-').map(|digits| u64::from_str_radix(digits, 16).unwrap());
    ends.next().unwrap()..ends.next().unwrap()
}

#[test]
fn a_copy_takes_what_is_left_and_what_it_let_go_does_not_come_back() {
    let (house, snapshots) = house();
    let (store, state) = (Arc::new(MemoryStore::new()), tempfile::tempdir().unwrap());
    let target = copy_of(&house, &store, &state);
    // The copy has everything, and keeps less than its origin.
    assert_eq!(copy(&house.repository, &target, &snapshots).unwrap().logs, 20);
    assert_eq!(prune_logs_with(&target, &[cut_off(123, &[5..12, 60..61])]).deleted_logs, 9);
    assert_eq!(copy(&house.repository, &target, &snapshots).unwrap().logs, 0);
    assert!(checked(&target).is_whole());
    // Another is made when the origin has holes of its own, which its lists and verdicts do not explain.
    prune_logs_with(&house.repository, &[cut_off(123, &[5..12, 60..61])]);
    let (store, state) = (Arc::new(MemoryStore::new()), tempfile::tempdir().unwrap());
    let late = copy_of(&house, &store, &state);
    assert_eq!(copy(&house.repository, &late, &snapshots).unwrap().logs, 11);
    assert!(checked(&late).is_whole(), "{:?}", checked(&late));
    // An object that was lost there is not taken for one of these.
    let key = objects_of(&house, 150..160).remove(0);
    store.delete(&key).unwrap();
    assert_eq!(lost(&checked(&late)), [(150, 160)]);
}

#[test]
fn the_age_of_what_a_write_only_host_says_is_when_it_arrived() {
    let house = House::new();
    let state = tempfile::tempdir().unwrap();
    let other = house.open_elsewhere(state.path()).unwrap();
    let mut writer = SnapshotWriter::begin(&other, source("laptop")).unwrap();
    house.clock.advance(Duration::from_secs(60));
    let arrived = Clock::Manual(house.clock.clone()).now();
    writer.set_taken(at(1_000_000));
    let published = writer.finish(Metadata::default()).unwrap();
    assert_eq!(house.repository.retention_time(&published).unwrap(), at(1_000_000));
    let laptop = other.writer().unwrap().public();
    house.repository.enrol(laptop, "laptop", Role::WriteOnly, Vec::new()).unwrap();
    assert!(house.repository.is_write_only(&published));
    assert_eq!(house.repository.retention_time(&published).unwrap(), arrived);
    // In a copy it is when the copy received it.
    let store = Arc::new(MemoryStore::with_clock(Clock::Manual(house.clock.clone())));
    let state = tempfile::tempdir().unwrap();
    let target = copy_of(&house, &store, &state);
    house.clock.advance(Duration::from_secs(3600));
    copy(&house.repository, &target, &[published]).unwrap();
    let copied = target.snapshots(None, &mut Vec::new()).unwrap().remove(0);
    assert!(target.is_write_only(&copied));
    assert_eq!(target.retention_time(&copied).unwrap(), arrived.plus(Duration::from_secs(3600)));
}
