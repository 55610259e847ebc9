//! Snapshots of databases that other processes write to, die in, lock and close.
//!
//! The writers are processes of their own (this test binary, started again), since SQLite's locks belong to
//! processes: threads of ours would share them. Every image is opened by SQLite, checked, and held against an
//! invariant that only whole transactions keep.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do, the test cannot go on without")]

mod damage;
mod image;
mod rollback;
mod wal;
mod writer;

use image::Database;
use lifeboat_store_sqlite::{
    Isolation, Snapshot, SnapshotError, SnapshotOptions, SnapshotWarning, WithoutReflink,
};

/// The other end of [`writer::Writer`]; does nothing in an ordinary run.
#[test]
fn writer_process() {
    writer::run_if_asked();
}

#[test]
fn what_is_not_a_database_is_said_with_a_hint() {
    use lifeboat_base::Hint;
    let database = Database::empty();
    let take = || Snapshot::take(&database.path, &database.options()).unwrap_err();
    let missing = take();
    assert!(matches!(&missing, SnapshotError::Io { .. }), "{missing:?}");
    assert_eq!(missing.hint().unwrap(), "Check the path.");
    database.put("", &b"some text, and not a database. ".repeat(8));
    let text = take();
    assert!(matches!(&text, SnapshotError::NotADatabase { .. }), "{text:?}");
    assert!(text.to_string().ends_with("is not a SQLite database"));
    assert!(text.hint().unwrap().contains("encrypted"));
    database.put("", b"short");
    assert!(matches!(take(), SnapshotError::NotADatabase { .. }));
    let directory = Snapshot::take(database.directory.path(), &database.options()).unwrap_err();
    assert!(matches!(directory, SnapshotError::NotAFile { .. }), "{directory:?}");
}

#[test]
fn a_database_without_a_byte_is_an_empty_snapshot() {
    let database = Database::empty();
    database.put("", b"");
    database.put("-journal", &[1; 600]);
    let mut snapshot = database.take();
    assert_eq!((snapshot.page_count(), snapshot.size_bytes()), (0, 0));
    assert!(snapshot.next_run().unwrap().is_none());
    let report = snapshot.finish().unwrap();
    assert_eq!(report.isolation, Isolation::Empty);
    assert_eq!(std::fs::read(database.beside("-journal")).unwrap(), [1; 600], "SQLite would have deleted it");
}

#[test]
fn every_page_size_in_both_modes() {
    for mode in ["delete", "wal"] {
        for page_size in [512, 1024, 4096, 65_536] {
            let database =
                Database::new(&format!("PRAGMA page_size={page_size}; PRAGMA journal_mode={mode}"));
            let image = database.take_image();
            assert_eq!(image.page_size, page_size);
            assert!(
                image.bytes == database.read(""),
                "{mode} {page_size}: the image of an idle database is its file"
            );
            assert_eq!(image.count(), 0);
        }
    }
}

#[test]
fn a_page_at_a_time_is_the_same_as_a_run() {
    let database = Database::new("PRAGMA journal_mode=wal");
    let writer = database.writer("fill", "wal");
    let snapshot = database.take();
    assert_eq!(snapshot.isolation(), Isolation::ReadTransaction);
    let page_size = snapshot.page_size().as_usize();
    let mut single = Vec::new();
    let mut page = vec![0; page_size];
    for number in 1..=snapshot.page_count() {
        assert_eq!(snapshot.read_pages(number, &mut page).unwrap(), 1);
        single.extend_from_slice(&page);
    }
    assert_eq!(snapshot.read_pages(snapshot.page_count() + 1, &mut page).unwrap(), 0);
    let mut three = vec![0; 3 * page_size];
    assert_eq!(snapshot.read_pages(snapshot.page_count() - 1, &mut three).unwrap(), 2);
    let (image, _) = image::read(snapshot);
    assert!(image.bytes == single);
    drop(writer);
}

#[test]
fn a_file_that_vanishes_or_is_replaced_is_read_to_its_end() {
    let database = Database::new("");
    let whole = database.read("");
    let options = SnapshotOptions { without_reflink: WithoutReflink::ReadUnderLock, ..database.options() };
    let snapshot = Snapshot::take(&database.path, &options).unwrap();
    assert_eq!(snapshot.isolation(), Isolation::Lock);
    std::fs::remove_file(&database.path).unwrap();
    let (image, report) = image::read(snapshot);
    assert!(image.bytes == whole);
    assert_eq!(report.warnings, [SnapshotWarning::Replaced]);
}
