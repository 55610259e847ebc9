//! Rollback mode: live journals, hot ones, ended ones, and those of several databases.

use crate::image::{Database, Image, all_files, count, expected_mode, read};
use lifeboat_base::Hint;
use lifeboat_store_sqlite::{
    Isolation, Snapshot, SnapshotError, SnapshotOptions, SnapshotReport, SnapshotWarning, WithoutReflink,
};
use std::path::Path;
use std::time::Duration;

const MODES: [&str; 3] = ["delete", "truncate", "persist"];

fn take_with(database: &Database, without_reflink: WithoutReflink) -> (Image, SnapshotReport) {
    let options = SnapshotOptions { without_reflink, ..database.options() };
    read(Snapshot::take(&database.path, &options).unwrap())
}

#[test]
fn snapshots_beside_a_writer_hold_whole_transactions_only() {
    for mode in MODES {
        let database = Database::new("");
        let writers = [database.writer("count", mode), database.writer("count", mode)];
        let mut last = 0;
        for round in 0..12 {
            let way = [WithoutReflink::Copy, WithoutReflink::ReadUnderLock][round % 2];
            let (image, report) = take_with(&database, way);
            assert_eq!(report.mode, expected_mode(mode));
            assert!(!report.rolled_back, "{mode}: a live journal was taken for a hot one");
            assert!(report.stall > Duration::ZERO);
            let counter = image.count();
            assert!(counter >= last.max(2), "{mode}: {counter} after {last}");
            last = counter;
        }
        drop(writers);
        assert!(count(&database.path) >= last);
        database.assert_scratch_is_empty();
    }
}

#[test]
fn a_hot_journal_is_rolled_back_in_the_copy_and_nowhere_else() {
    for mode in MODES {
        let database = Database::new("");
        database.writer("spill", mode).kill();
        let before = all_files(database.directory.path());
        assert_eq!(before.len(), 2, "{mode}: {:?}", before.keys());
        let (image, report) = read(database.take());
        assert!(report.rolled_back);
        assert_eq!(image.count(), 500);
        assert!(image.bytes != before["app.db"], "{mode}: the database file was never changed");
        assert!(all_files(database.directory.path()) == before, "{mode}: something beside the copy changed");
        database.assert_scratch_is_empty();
        // The application's own recovery comes to the same.
        assert_eq!(count(&database.path), 500);
        assert!(image.bytes == database.read(""), "{mode}: SQLite made another image of it");
        // Now the journal is ended, or gone.
        let (again, report) = read(database.take());
        assert!(!report.rolled_back && again.bytes == image.bytes);
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "a seed that failed has to be seen")]
fn writers_killed_at_random_leave_what_can_be_read() {
    let seed = std::env::var("LIFEBOAT_TEST_SEED")
        .map_or_else(|_| lifeboat_base::random::below(u64::MAX), |seed| seed.parse().unwrap());
    println!("LIFEBOAT_TEST_SEED={seed}");
    let mut state = seed | 1;
    let mut hot = 0;
    for round in 0..18 {
        let database = Database::new("");
        let writer = database.writer("count-much", MODES[round % 3]);
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis((state >> 33) % 60));
        writer.kill();
        let before = all_files(database.directory.path());
        let (image, report) = read(database.take());
        assert!(all_files(database.directory.path()) == before, "round {round}");
        hot += u32::from(report.rolled_back);
        assert_eq!(image.count(), count(&database.path), "round {round}");
    }
    println!("{hot} of 18 journals were hot");
    assert!(hot > 0, "no writer was killed within a transaction");
}

#[test]
fn a_live_journal_is_not_copied() {
    for mode in MODES {
        let database = Database::new("");
        let whole = database.read("");
        let writer = database.writer("reserved", mode);
        assert_eq!(database.read("-journal")[0], 0xd9, "{mode}: it would look hot");
        let (image, report) = read(database.take());
        assert!(!report.rolled_back);
        assert!(image.bytes == whole, "{mode}");
        drop(writer);
    }
}

#[test]
fn a_writer_that_never_leaves_is_an_error_with_a_hint() {
    let database = Database::new("");
    let writer = database.writer("exclusive", "delete");
    let options = SnapshotOptions { max_stall: Duration::from_millis(50), ..database.options() };
    let error = Snapshot::take(&database.path, &options).unwrap_err();
    assert!(
        matches!(&error, SnapshotError::Busy { waited, .. } if *waited >= options.max_stall),
        "{error:?}"
    );
    assert!(error.is_transient());
    assert!(error.hint().unwrap().contains("--max-stall"));
    writer.kill();
    assert_eq!(database.take_image().count(), 0);
}

#[test]
fn writers_are_never_stalled_for_longer_than_allowed() {
    let database = Database::new("");
    let with = |max_stall, without_reflink| {
        let options = SnapshotOptions { max_stall, without_reflink, ..database.options() };
        Snapshot::take(&database.path, &options)
    };
    match with(Duration::ZERO, WithoutReflink::Copy) {
        Err(error) => {
            assert!(matches!(error, SnapshotError::Stalled { .. }), "{error:?}");
            assert!(error.hint().unwrap().contains("WAL mode"));
        }
        Ok(snapshot) => assert_eq!(snapshot.isolation(), Isolation::Reflink),
    }
    database.assert_scratch_is_empty();
    let mut held = with(Duration::from_millis(20), WithoutReflink::ReadUnderLock).unwrap();
    if held.isolation() == Isolation::Lock {
        std::thread::sleep(Duration::from_millis(30));
        assert!(matches!(held.next_run(), Err(SnapshotError::Stalled { .. })));
    }
    drop(held);
    // SHARED is given back: a writer gets through.
    let _writer = database.writer("fill", "delete");
    assert_eq!(database.take_image().count(), 400);
}

/// The record that `writeSuperJournal` of SQLite appends, on a sector of its own as with `synchronous=full`.
fn name_super_journal(database: &Database, page_size: u32, name: &Path) {
    let name = name.to_str().unwrap().as_bytes();
    let mut journal = database.read("-journal");
    journal.resize(journal.len().next_multiple_of(512), 0);
    journal.extend((0x4000_0000 / page_size + 1).to_be_bytes());
    journal.extend(name);
    journal.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
    journal.extend(name.iter().map(|byte| u32::from(*byte)).sum::<u32>().to_be_bytes());
    journal.extend([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
    database.put("-journal", &journal);
}

#[expect(clippy::disallowed_methods, reason = "a file that a test throws away")]
fn put(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn while_its_super_journal_exists_a_journal_is_hot_and_the_super_journal_stays() {
    let database = Database::new("");
    database.writer("spill", "delete").kill();
    let super_journal = database.directory.path().join("main.db-mj0AB1C2934");
    // The only child that it names: SQLite would delete it after rolling back.
    let mut children = database.beside("-journal").to_str().unwrap().as_bytes().to_vec();
    children.push(0);
    put(&super_journal, &children);
    name_super_journal(&database, 4096, &super_journal);
    let before = all_files(database.directory.path());
    let (image, report) = read(database.take());
    assert!(report.rolled_back);
    assert_eq!(image.count(), 500);
    assert!(all_files(database.directory.path()) == before);
    // And so does SQLite see it.
    assert_eq!(count(&database.path), 500);
    assert!(!super_journal.exists(), "the constructed record means nothing to SQLite");
}

#[test]
fn once_its_super_journal_is_gone_a_journal_is_committed() {
    let database = Database::new("");
    database.writer("spill", "delete").kill();
    let super_journal = database.directory.path().join("main.db-mj0AB1C2934");
    name_super_journal(&database, 4096, &super_journal);
    let before = all_files(database.directory.path());
    let (image, report) = read(database.take());
    assert!(!report.rolled_back);
    assert!(image.bytes == before["app.db"]);
    assert_eq!(report.warnings, [SnapshotWarning::CommittedJournal { super_journal: super_journal.clone() }]);
    assert!(all_files(database.directory.path()) == before);
    // An empty one does not exist for SQLite.
    put(&super_journal, b"");
    assert!(!read(database.take()).1.rolled_back);
    // SQLite takes what is there for committed as well: it deletes the journal and changes nothing.
    let connection = rusqlite::Connection::open(&database.path).unwrap();
    let _ = connection.query_row("SELECT n FROM counter", [], |row| row.get::<_, i64>(0));
    drop(connection);
    assert!(database.read("") == before["app.db"]);
    assert!(!database.beside("-journal").exists());
}

#[test]
fn a_super_journal_that_cannot_be_looked_for_is_an_error() {
    let database = Database::new("");
    database.writer("spill", "delete").kill();
    name_super_journal(&database, 4096, Path::new("/in/another/container/main.db-mj0AB1C2934"));
    let error = Snapshot::take(&database.path, &database.options()).unwrap_err();
    assert!(matches!(&error, SnapshotError::SuperJournalOutOfSight { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("/in/another/container"));
}

#[test]
fn a_hot_journal_beside_a_wal_with_content_is_refused() {
    let database = Database::new("");
    database.writer("spill", "delete").kill();
    database.put("-wal", b"something");
    let error = Snapshot::take(&database.path, &database.options()).unwrap_err();
    assert!(matches!(&error, SnapshotError::TwoJournals { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("-wal"));
}

#[test]
fn a_file_that_ends_within_a_page_is_filled_up_and_said() {
    let database = Database::new("");
    let mut bytes = database.read("");
    bytes.extend([7; 100]);
    database.put("", &bytes);
    let (image, report) = read(database.take());
    assert_eq!(report.warnings, [SnapshotWarning::PartialPage { bytes: 100 }]);
    assert_eq!(image.bytes.len(), bytes.len() - 100 + 4096);
    assert!(image.bytes.starts_with(&bytes));
    database.put("", &bytes[..8192]);
    let (_, report) = read(database.take());
    assert!(matches!(report.warnings[..], [SnapshotWarning::MissingPages { found: 2, .. }]), "{report:?}");
}
