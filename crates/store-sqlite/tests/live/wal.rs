//! WAL mode: beside writers and checkpoints, after crashes, and with nobody there.

use crate::image::{Database, all_files, count, expected_mode, read};
use lifeboat_store_sqlite::{Isolation, Snapshot, SnapshotError};
use std::time::Duration;

#[test]
fn snapshots_beside_writers_and_their_checkpoints_hold_whole_transactions_only() {
    for page_size in [4096, 512] {
        let database = Database::new(&format!("PRAGMA page_size={page_size}; PRAGMA journal_mode=wal"));
        let writers = [database.writer("count", "wal"), database.writer("count-much", "wal")];
        let mut last = 0;
        let mut with_frames = 0;
        for _ in 0..20 {
            let (image, report) = read(database.take());
            assert_eq!((report.mode, report.isolation), (expected_mode("wal"), Isolation::ReadTransaction));
            assert_eq!(report.stall, Duration::ZERO);
            with_frames += u32::from(report.wal_frames > 0);
            let counter = image.count();
            assert!(counter >= last.max(401), "{counter} after {last}");
            last = counter;
        }
        assert!(with_frames > 0, "no snapshot needed the WAL");
        drop(writers);
        assert!(count(&database.path) >= last);
    }
}

#[test]
fn an_idle_application_finds_its_files_as_they_were() {
    let database = Database::new("PRAGMA journal_mode=wal");
    let mut writer = database.writer("obey", "wal");
    writer.order("add 50");
    writer.wait_for("done");
    let before = database.files();
    let (image, report) = read(database.take());
    assert_eq!(report.isolation, Isolation::ReadTransaction);
    assert!(report.wal_frames > 0);
    assert_eq!(image.count(), 53);
    assert!(database.files() == before, "the database or its WAL changed");
    // All frames are in the database now: the snapshot is the file alone.
    writer.order("PRAGMA wal_checkpoint(passive)");
    writer.wait_for("done");
    let before = database.files();
    let (image, report) = read(database.take());
    assert_eq!(report.wal_frames, 0);
    assert!(image.bytes == before["app.db"]);
    assert!(database.files() == before);
    // And the application goes on.
    writer.order("add 1");
    writer.wait_for("done");
    assert_eq!(database.take_image().count(), 54);
}

#[test]
fn what_a_killed_writer_left_is_read_and_nothing_but_the_shared_memory_is_touched() {
    for shared_memory in [true, false] {
        let database = Database::new("PRAGMA journal_mode=wal");
        database.writer("fill", "wal").kill();
        if !shared_memory {
            std::fs::remove_file(database.beside("-shm")).unwrap();
        }
        let before = database.files();
        assert!(before["app.db-wal"].len() > 100_000);
        let (image, report) = read(database.take());
        let expected = if shared_memory { Isolation::ReadTransaction } else { Isolation::Unattended };
        assert_eq!(report.isolation, expected);
        assert!(report.wal_frames > 0);
        assert_eq!(image.count(), 400);
        assert!(database.files() == before, "shared memory: {shared_memory}");
        assert_eq!(database.beside("-shm").exists(), shared_memory, "a file was made beside the database");
        assert_eq!(count(&database.path), 400);
    }
}

#[test]
fn a_torn_wal_is_read_up_to_its_last_whole_transaction() {
    let database = Database::new("PRAGMA journal_mode=wal");
    database.writer("fill", "wal").kill();
    std::fs::remove_file(database.beside("-shm")).unwrap();
    let whole = database.read("-wal");
    for keep in [whole.len() - 1, whole.len() / 2, 33, 31, 0] {
        database.put("-wal", &whole[..keep]);
        let database_before = database.read("");
        let image = database.take_image();
        let counter = image.count();
        assert!(counter < 400 && counter % 10 == 0, "{counter}");
        assert!(database.read("") == database_before && database.read("-wal").len() == keep);
    }
}

#[test]
fn nobody_there_means_nothing_is_touched_at_all() {
    let database = Database::new("PRAGMA journal_mode=wal");
    let before = all_files(database.directory.path());
    assert_eq!(before.len(), 1);
    let (image, report) = read(database.take());
    assert_eq!((report.isolation, report.mode), (Isolation::Unattended, expected_mode("wal")));
    assert!(image.bytes == before["app.db"]);
    assert!(all_files(database.directory.path()) == before);
}

#[test]
fn an_application_that_comes_while_nobody_was_there_is_noticed() {
    let database = Database::new("PRAGMA journal_mode=wal");
    let mut snapshot = database.take();
    assert_eq!(snapshot.isolation(), Isolation::Unattended);
    let mut writer = database.writer("obey", "wal");
    let error = snapshot.next_run().unwrap_err();
    assert!(matches!(error, SnapshotError::Disturbed { .. }) && error.is_transient(), "{error:?}");
    // Even if it has gone again: SHARED keeps it from deleting what tells of it.
    writer.order("close");
    writer.wait_for("closed");
    assert!(matches!(snapshot.finish(), Err(SnapshotError::Disturbed { .. })));
    let (image, report) = read(database.take());
    assert_eq!(report.isolation, Isolation::ReadTransaction);
    assert_eq!(image.count(), 3);
}

#[test]
fn the_application_may_checkpoint_and_leave_while_it_is_read() {
    let database = Database::new("PRAGMA journal_mode=wal");
    let mut writer = database.writer("obey", "wal");
    writer.order("add 200");
    writer.wait_for("done");
    let snapshot = database.take();
    for order in ["add 100", "PRAGMA wal_checkpoint(passive)", "add 100"] {
        writer.order(order);
        writer.wait_for("done");
    }
    writer.order("close");
    writer.wait_for("closed");
    let (image, report) = read(snapshot);
    assert_eq!(image.count(), 203);
    assert!(report.warnings.is_empty());
    // What was committed later is still in the WAL, which was not removed under us.
    assert_eq!(database.take_image().count(), 403);
    assert_eq!(count(&database.path), 403);
}

#[test]
fn all_frames_copied_means_the_database_alone_even_if_the_wal_is_begun_again() {
    let database = Database::new("PRAGMA journal_mode=wal");
    let mut writer = database.writer("obey", "wal");
    for order in ["add 200", "PRAGMA wal_checkpoint(passive)"] {
        writer.order(order);
        writer.wait_for("done");
    }
    let snapshot = database.take();
    // The next transaction begins the WAL again, and no checkpoint may copy it into the database.
    for order in ["add 300", "PRAGMA wal_checkpoint(passive)", "add 300"] {
        writer.order(order);
        writer.wait_for("done");
    }
    let (image, report) = read(snapshot);
    assert_eq!((image.count(), report.wal_frames), (203, 0));
    assert_eq!(database.take_image().count(), 803);
}

/// Closing the handles of one snapshot must not drop the locks of another one in the same process.
#[test]
fn two_snapshots_of_one_database_in_one_process() {
    let database = Database::new("PRAGMA journal_mode=wal");
    let mut writer = database.writer("obey", "wal");
    writer.order("add 200");
    writer.wait_for("done");
    let (first, second) = (database.take(), database.take());
    drop(first);
    writer.order("add 1");
    writer.wait_for("done");
    writer.order("PRAGMA busy_timeout=10");
    writer.wait_for("done");
    // Its first column is 1 if it could not do all: our reader is in the way.
    writer.order("PRAGMA wal_checkpoint(truncate)");
    assert_eq!(writer.wait_for("answer"), "Ok(1)");
    let (image, _) = read(second);
    assert_eq!(image.count(), 203);
    writer.wait_for("done");
    writer.order("PRAGMA wal_checkpoint(truncate)");
    assert_eq!(writer.wait_for("answer"), "Ok(0)", "a lock was left behind");
}

#[test]
fn exclusive_locking_mode_is_a_busy_database() {
    let database = Database::new("PRAGMA journal_mode=wal");
    let mut writer = database.writer("obey", "wal");
    writer.order("PRAGMA locking_mode=exclusive");
    writer.wait_for("done");
    writer.order("add 1");
    writer.wait_for("done");
    let mut options = database.options();
    options.max_stall = Duration::from_millis(50);
    match Snapshot::take(&database.path, &options) {
        Err(SnapshotError::Busy { .. }) => {}
        // A connection that was opened shared keeps the shared memory, and readers may come.
        Ok(snapshot) => assert_eq!(read(snapshot).0.count(), 4),
        Err(error) => panic!("{error:?}"),
    }
}
