//! Copies take logs along: verbatim, once, and without believing the origin's maintainers.

#![expect(clippy::unwrap_used, reason = "tests; the lint only knows functions that are marked as such")]

use crate::checking::copy_of;
use crate::logs::*;
use crate::support::*;
use lifeboat_base::Secret;
use lifeboat_base::clock::ManualClock;
use lifeboat_objects::memory::MemoryStore;
use lifeboat_objects::{Key, ObjectStore, list_all};
use lifeboat_repository::{
    CheckOptions, CopyReport, LogError, LogWriter, Published, Reading, Repository, Unlock, check, copy,
};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// A repository with logs and a copy of it.
struct Pair {
    house: House,
    store: Arc<MemoryStore>,
    state: tempfile::TempDir,
    target: Arc<Repository>,
}

impl Pair {
    fn new() -> Self {
        let (house, store, state) =
            (House::new(), Arc::new(MemoryStore::new()), tempfile::tempdir().unwrap());
        let target = copy_of(&house, &store, &state);
        Self { house, store, state, target }
    }

    fn ship(&self, ends: &[u64]) {
        let mut writer = open(&self.house.repository);
        for pair in ends.windows(2) {
            ship(&mut writer, &self.house, BYTES, pair[0]..pair[1]);
        }
    }

    fn copy(&self, snapshots: &[Published]) -> CopyReport {
        copy(&self.house.repository, &self.target, snapshots).unwrap()
    }

    fn keys(&self) -> Vec<Key> {
        list_all(&*self.store, "logs/").unwrap().into_iter().map(|listed| listed.key).collect()
    }
}

fn assert_whole(repository: &Arc<Repository>) {
    let report =
        check(repository, CheckOptions { read: Reading::Everything, threads: 2 }, &|_, _| ()).unwrap();
    assert!(report.is_whole(), "{report:?}");
}

#[test]
fn logs_go_along_once_and_the_copy_reads_them_alone() {
    let pair = Pair::new();
    let snapshot = snapshot_at(&pair.house, 0);
    pair.ship(&[0, 10, 20, 30]);
    let report = pair.copy(std::slice::from_ref(&snapshot));
    assert_eq!((report.logs, report.left_out.len()), (3, 0), "{report:?}");
    assert_eq!(pair.keys(), objects(&*pair.house.store), "under the same names");
    assert_holds(&pair.target, BYTES, 0..30);
    // Again: nothing. More: only what is new.
    assert_eq!(pair.copy(std::slice::from_ref(&snapshot)).logs, 0);
    pair.ship(&[30, 44]);
    assert_eq!(pair.copy(std::slice::from_ref(&snapshot)).logs, 1);
    assert_whole(&pair.target);
    // The origin is gone, and the copy is opened elsewhere with its own secret.
    let Pair { house, store, state, target } = pair;
    drop((house, state, target));
    let unlock = Unlock::Command(Secret::new(vec![3; 32]));
    let empty = tempfile::tempdir().unwrap();
    let alone = Repository::open(store, &unlock, environment(empty.path(), &ManualClock::default()))
        .map(Arc::new)
        .unwrap();
    assert_holds(&alone, BYTES, 0..44);
    assert_whole(&alone);
    // Whoever takes over continues where the origin's log ends.
    let signer = alone.writer().unwrap();
    let mut writer = LogWriter::open(&alone, &signer, &dataset("db"), &lineage()).unwrap();
    assert_eq!(writer.end(), Some(44));
    let range = 44..60;
    writer.append(extent_of(&range), "synthetic", &BYTES.payload(range)).unwrap();
    assert_holds(&alone, BYTES, 0..60);
    assert_whole(&alone);
}

fn extent_of(range: &Range<u64>) -> lifeboat_repository::LogExtent {
    let at = lifeboat_base::clock::Timestamp::from_secs(1_800_000_000);
    lifeboat_repository::LogExtent { start: range.start, end: range.end, first: at, last: at }
}

#[test]
fn what_no_snapshot_of_the_copy_needs_stays_behind() {
    let pair = Pair::new();
    pair.ship(&[0, 10, 20, 30, 40]);
    let (old, new) = (snapshot_at(&pair.house, 5), snapshot_at(&pair.house, 25));
    assert_eq!(pair.copy(std::slice::from_ref(&new)).logs, 2);
    assert!(read(&pair.target, 0..40).is_err());
    assert_holds(&pair.target, BYTES, 20..40);
    assert_whole(&pair.target);
    // An older snapshot brings what it needs.
    assert_eq!(pair.copy(&[old.clone(), new.clone()]).logs, 2);
    assert_holds(&pair.target, BYTES, 0..40);
    // The copy forgets it, and its logs expire: they do not come back with the next copy.
    let found = pair.target.find_snapshot(None, &old.id.to_string()).unwrap();
    pair.target.forget(&pair.target.writer().unwrap(), &found, "test").unwrap();
    assert_eq!(prune_logs(&pair.target, Some(20)).deleted_logs, 2);
    assert_eq!(pair.copy(&[old, new]).logs, 0);
    assert_holds(&pair.target, BYTES, 20..40);
}

#[test]
fn what_the_copy_let_go_does_not_come_back_put_together() {
    let pair = Pair::new();
    let (old, new) = (snapshot_of(&pair.house, 0..5), snapshot_of(&pair.house, 85..86));
    let ends: Vec<u64> = (0..=11).map(|n| n * 10).collect();
    pair.ship(&ends[..=8]);
    let both = [old.clone(), new.clone()];
    assert_eq!(pair.copy(&both).logs, 8);
    let found = pair.target.find_snapshot(None, &old.id.to_string()).unwrap();
    pair.target.forget(&pair.target.writer().unwrap(), &found, "test").unwrap();
    // Most of it under a name of the copy's own.
    assert!(compact(&pair.target, 4).written > 0);
    assert!(prune_logs(&pair.target, None).deleted_logs > 0);
    pair.ship(&ends[8..]);
    assert_eq!(pair.copy(&both).logs, 3);
    assert_eq!(prune_logs(&pair.target, Some(110)).deleted_logs, 2);
    let kept = pair.keys();
    assert_whole(&pair.target);
    assert_eq!(pair.copy(&both).logs, 0);
    // One object for all of it: the copy has the end, and gave up the rest.
    assert_eq!(compact(&pair.house.repository, 4).written, 1);
    assert!(prune_logs(&pair.house.repository, None).deleted_logs > 0);
    assert_eq!(pair.copy(&both).logs, 0);
    assert_eq!(pair.keys(), kept);
    // What is new still comes, and with it the object that it names: without that no reader would go on.
    pair.ship(&[110, 120]);
    assert_eq!(pair.copy(&both).logs, 2);
    assert_eq!(pair.copy(&both).logs, 0);
    assert_holds(&pair.target, BYTES, 80..120);
    assert_whole(&pair.target);
}

#[test]
fn what_continues_a_compacted_log_is_read_in_a_copy_that_has_the_small_ones() {
    let pair = Pair::new();
    let snapshot = snapshot_at(&pair.house, 0);
    let ends: Vec<u64> = (0..=10).map(|n| n * 10).collect();
    pair.ship(&ends);
    assert_eq!(pair.copy(std::slice::from_ref(&snapshot)).logs, 10);
    assert_eq!(compact(&pair.house.repository, 4).written, 1);
    assert_eq!(prune_logs(&pair.house.repository, None).deleted_logs, 10);
    assert_eq!(pair.copy(std::slice::from_ref(&snapshot)).logs, 0);
    // Whoever opens the log again names the one that is there.
    pair.ship(&[100, 110, 120]);
    assert_eq!(pair.copy(std::slice::from_ref(&snapshot)).logs, 3);
    assert_holds(&pair.target, BYTES, 0..120);
    assert_whole(&pair.target);
    assert_eq!(pair.copy(std::slice::from_ref(&snapshot)).logs, 0);
}

#[test]
fn what_expired_and_is_needed_again_comes_back_under_a_new_name() {
    let pair = Pair::new();
    pair.ship(&[0, 10, 20, 30]);
    let (old, new) = (snapshot_at(&pair.house, 0), snapshot_at(&pair.house, 25));
    let older = snapshot_at(&pair.house, 3);
    pair.copy(&[old.clone(), new.clone()]);
    let found = pair.target.find_snapshot(None, &old.id.to_string()).unwrap();
    pair.target.forget(&pair.target.writer().unwrap(), &found, "test").unwrap();
    assert_eq!(prune_logs(&pair.target, Some(20)).deleted_logs, 2);
    assert_eq!(pair.copy(&[new, older]).logs, 2);
    // A name that a verdict named never counts again.
    assert_holds(&pair.target, BYTES, 0..30);
    assert_whole(&pair.target);
}

#[test]
fn compacted_logs_go_where_the_small_ones_are_gone() {
    let pair = Pair::new();
    let snapshot = snapshot_at(&pair.house, 0);
    let ends: Vec<u64> = (0..=10).map(|n| n * 10).collect();
    pair.ship(&ends[..=4]);
    assert_eq!(pair.copy(std::slice::from_ref(&snapshot)).logs, 4);
    pair.ship(&ends[4..]);
    assert_eq!(compact(&pair.house.repository, 4).written, 1);
    // The small ones are still there: the compacted one adds nothing to them.
    assert_eq!(pair.copy(std::slice::from_ref(&snapshot)).logs, 6);
    let later: Vec<u64> = (10..=20).map(|n| n * 10).collect();
    pair.ship(&later);
    assert_eq!(compact(&pair.house.repository, 4).written, 1);
    // With what the first one had replaced goes that one itself.
    assert_eq!(prune_logs(&pair.house.repository, None).deleted_logs, 21);
    pair.ship(&[200, 210]);
    assert_eq!(pair.copy(std::slice::from_ref(&snapshot)).logs, 2, "one compacted, one new");
    assert_holds(&pair.target, BYTES, 0..210);
    assert_whole(&pair.target);
    assert_eq!(pair.copy(std::slice::from_ref(&snapshot)).logs, 0);
    // What the origin's maintainer compacted stands for nothing here; what the copy's own does, does.
    assert_eq!(prune_logs(&pair.target, None).deleted_logs, 0);
    assert!(compact(&pair.target, 2).written > 0);
    assert!(prune_logs(&pair.target, None).deleted_logs > 0);
    assert_holds(&pair.target, BYTES, 0..210);
    assert_whole(&pair.target);
    assert_eq!(pair.copy(std::slice::from_ref(&snapshot)).logs, 0, "they are known again");
}

#[test]
fn a_log_that_nobody_carried_does_not_count_in_a_copy() {
    let pair = Pair::new();
    let snapshot = snapshot_at(&pair.house, 0);
    pair.ship(&[0, 10]);
    pair.copy(std::slice::from_ref(&snapshot));
    // The origin's own object, as it is: sealed to other keys.
    pair.ship(&[10, 20]);
    let key = objects_of(&pair.house, 10..20).remove(0);
    pair.store.create(&key, &pair.house.store.get(&key).unwrap()).unwrap();
    assert!(read(&pair.target, 0..20).is_err());
    assert_holds(&pair.target, BYTES, 0..10);
    // Its name is taken; the object goes under another.
    let report = pair.copy(std::slice::from_ref(&snapshot));
    assert_eq!((report.logs, report.left_out.len()), (1, 0), "{report:?}");
    assert_holds(&pair.target, BYTES, 0..20);
}

#[test]
fn a_damaged_log_is_left_out_and_named_and_holds_up_nothing() {
    let pair = Pair::new();
    let snapshot = snapshot_at(&pair.house, 0);
    pair.ship(&[0, 10, 20, 30, 40]);
    let (head, payload) =
        (objects_of(&pair.house, 10..20).remove(0), objects_of(&pair.house, 20..30).remove(0));
    let whole = pair.house.store.get(&payload).unwrap();
    flip(&pair.house, &head, whole.len() - 120);
    flip(&pair.house, &payload, 3);
    let report = pair.copy(std::slice::from_ref(&snapshot));
    assert_eq!((report.logs, report.left_out.len()), (2, 2), "{report:?}");
    for key in [head, payload.clone()] {
        assert!(report.left_out.iter().any(|line| line.starts_with(key.as_str())), "{report:?}");
    }
    // What is mended follows.
    pair.house.store.overwrite(&payload, &whole);
    assert_eq!(pair.copy(std::slice::from_ref(&snapshot)).logs, 1);
    let error = read(&pair.target, 0..40).unwrap_err();
    assert!(matches!(error, LogError::Hole { from: 10, to: 20, .. }), "{error}");
}

const CHILD_ROOM: &str = "LIFEBOAT_CARRY_CHILD";

/// Copies with whatever failpoints the environment arms. Started alone it copies once.
#[test]
fn copier() {
    let child = std::env::var(CHILD_ROOM).ok();
    let alone = tempfile::tempdir().unwrap();
    let room = child.as_deref().map_or(alone.path(), Path::new);
    let (origin, target) = two_directories(room);
    let snapshots = origin.snapshots(None, &mut Vec::new()).unwrap();
    copy(&origin, &target, &snapshots).unwrap();
}

fn two_directories(room: &Path) -> (Arc<Repository>, Arc<Repository>) {
    let origin = directory_repository(room, "driver");
    if origin.snapshots(None, &mut Vec::new()).unwrap().is_empty() {
        let mut writer = open(&origin);
        for n in 0..5 {
            let range = n * 10..(n + 1) * 10;
            writer.append(extent_of(&range), "synthetic", &BYTES.payload(range)).unwrap();
        }
        backup(&origin, "db", &sample(1)).unwrap();
    }
    (origin.clone(), copy_in_directory(room, &origin))
}

#[test]
fn a_copier_killed_before_any_log_goes_on_where_it_was() {
    let room = tempfile::tempdir().unwrap();
    for after in 0..5 {
        let killed = Command::new(std::env::current_exe().unwrap())
            .args(["log_carrying::copier", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD_ROOM, room.path())
            .env("LIFEBOAT_FAILPOINTS", "log::before-carry=1*kill")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        // Each attempt carries one more, and the last finds only one that is left.
        assert_eq!(killed.success(), after == 4, "attempt {after}: {killed}");
        let (_, target) = two_directories(room.path());
        assert_holds(&target, BYTES, 0..(after + 1) * 10);
        assert_whole(&target);
    }
}
