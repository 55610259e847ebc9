//! The fuzz targets of this crate as properties. Their seeds are what SQLite itself leaves on disk.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "../../../fuzz/src/replay.rs"]
#[expect(unreachable_pub, reason = "several test programs and the fuzzers share it")]
mod replay;
#[path = "../../../fuzz/src/wire_sqlite.rs"]
#[expect(unreachable_pub, reason = "the fuzzers share it")]
mod targets;

use rusqlite::Connection;
use std::path::Path;
use targets::TARGETS;

fn open(directory: &Path, pragmas: &str) -> Connection {
    let connection = Connection::open(directory.join("a.db")).unwrap();
    connection.execute_batch(&format!("PRAGMA page_size=512; {pragmas}")).unwrap();
    connection.execute_batch("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)").unwrap();
    for n in 0..6 {
        connection.execute("INSERT INTO t VALUES (?1, randomblob(300))", [n]).unwrap();
    }
    connection
}

fn file(directory: &Path, name: &str) -> Vec<u8> {
    std::fs::read(directory.join(name)).unwrap()
}

#[test]
fn what_sqlite_leaves_behind_a_wal_database_is_a_seed() {
    let directory = tempfile::tempdir().unwrap();
    let connection = open(directory.path(), "PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0;");
    connection.execute_batch("BEGIN; UPDATE t SET b = x'00' WHERE a < 3; COMMIT").unwrap();
    replay::seed(TARGETS, "sqlite_wal", "log", &file(directory.path(), "a.db-wal"));
    replay::seed(TARGETS, "sqlite_wal_index", "header", &file(directory.path(), "a.db-shm")[..136]);
    let once = &file(directory.path(), "a.db-shm");
    replay::seed(TARGETS, "sqlite_wal_index", "half", &[&once[..40], &once[96..130]].concat());
    replay::seed(TARGETS, "sqlite_header", "wal", &file(directory.path(), "a.db")[..100]);
}

#[test]
fn what_sqlite_leaves_behind_a_rollback_database_is_a_seed() {
    let directory = tempfile::tempdir().unwrap();
    let connection = open(directory.path(), "PRAGMA journal_mode=delete; PRAGMA cache_size=2;");
    replay::seed(TARGETS, "sqlite_header", "rollback", &file(directory.path(), "a.db")[..100]);
    // With so small a cache pages are written, and their journal synced, before the transaction ends.
    connection.execute_batch("BEGIN; UPDATE t SET b = zeroblob(300)").unwrap();
    let journal = file(directory.path(), "a.db-journal");
    replay::seed(TARGETS, "sqlite_journal", "hot", &journal);
    let name = b"/tmp/a.db-mj000000900";
    let sum = name.iter().map(|byte| u32::from(*byte)).sum::<u32>().to_be_bytes();
    let length = (name.len() as u32).to_be_bytes();
    let record = [&[0xff; 4][..], name, &length, &sum, &journal[..8]].concat();
    replay::seed(TARGETS, "sqlite_journal", "super-journal", &[journal.as_slice(), &record].concat());
}

#[test]
fn every_target_holds_on_its_corpus_and_on_mutations_of_it() {
    replay::run(TARGETS);
}
