//! A database in a directory of its own, the snapshots that are taken of it, and what they must obey.

use crate::writer::Writer;
use lifeboat_store_sqlite::{JournalMode, Snapshot, SnapshotOptions, SnapshotReport, Verdict, question};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// What every transaction of a writer keeps: the counter, its mirror and the number of rows are the same.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE counter(n INTEGER NOT NULL); INSERT INTO counter VALUES(0);
    CREATE TABLE mirror(n INTEGER NOT NULL); INSERT INTO mirror VALUES(0);
    CREATE TABLE log(seq INTEGER PRIMARY KEY, pad BLOB NOT NULL);
    CREATE INDEX log_pad ON log(pad);";

pub(crate) struct Database {
    pub(crate) directory: TempDir,
    pub(crate) scratch: TempDir,
    pub(crate) path: PathBuf,
}

impl Database {
    pub(crate) fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.db");
        Self { path, directory, scratch: tempfile::tempdir().unwrap() }
    }

    /// With the schema, and closed again.
    pub(crate) fn new(pragmas: &str) -> Self {
        let database = Self::empty();
        let connection = Connection::open(&database.path).unwrap();
        connection.execute_batch(&format!("{pragmas}; {SCHEMA}")).unwrap();
        drop(connection);
        database
    }

    pub(crate) fn options(&self) -> SnapshotOptions {
        // Far more than is needed, since the machine may be busy; tests that mean a limit set their own.
        SnapshotOptions {
            max_stall: Duration::from_secs(60),
            scratch: self.scratch.path().to_owned(),
            ..SnapshotOptions::default()
        }
    }

    pub(crate) fn take(&self) -> Snapshot {
        Snapshot::take(&self.path, &self.options()).unwrap()
    }

    pub(crate) fn take_image(&self) -> Image {
        read(self.take()).0
    }

    pub(crate) fn writer(&self, job: &str, mode: &str) -> Writer {
        Writer::start(&self.path, job, mode)
    }

    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        PathBuf::from(format!("{}{suffix}", self.path.display()))
    }

    pub(crate) fn read(&self, suffix: &str) -> Vec<u8> {
        std::fs::read(self.beside(suffix)).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "files that a test throws away")]
    pub(crate) fn put(&self, suffix: &str, bytes: &[u8]) {
        std::fs::write(self.beside(suffix), bytes).unwrap();
    }

    /// Every file in its directory but the shared memory.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = all_files(self.directory.path());
        files.remove("app.db-shm");
        files
    }

    /// That no copy was left behind.
    pub(crate) fn assert_scratch_is_empty(&self) {
        assert_eq!(std::fs::read_dir(self.scratch.path()).unwrap().count(), 0);
    }
}

pub(crate) fn all_files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    pub(crate) page_size: u32,
}

/// Reads a snapshot in order to its end.
pub(crate) fn read(mut snapshot: Snapshot) -> (Image, SnapshotReport) {
    let page_size = snapshot.page_size().get();
    let mut bytes = Vec::new();
    while let Some(run) = snapshot.next_run().unwrap() {
        assert_eq!(bytes.len() as u64, u64::from(run.first_page - 1) * u64::from(page_size));
        bytes.extend_from_slice(run.bytes);
    }
    assert_eq!(bytes.len() as u64, snapshot.size_bytes());
    let report = snapshot.finish().unwrap();
    (Image { bytes, page_size }, report)
}

impl Image {
    /// Has the image proven, checks the invariant and returns the counter.
    #[expect(clippy::disallowed_methods, reason = "a file that a test throws away")]
    pub(crate) fn count(&self) -> i64 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("restored.db");
        std::fs::write(&path, &self.bytes).unwrap();
        let questions = question(&path).unwrap();
        assert_eq!(questions.verdict(), Verdict::Proven, "{questions:?}");
        count(&path)
    }
}

/// The counter of a database, after a check of the invariant.
pub(crate) fn count(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    let ask = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let counter = ask("SELECT n FROM counter");
    assert_eq!(ask("SELECT n FROM mirror"), counter);
    assert_eq!(ask("SELECT count(*) FROM log"), counter);
    assert_eq!(ask("SELECT coalesce(max(seq), 0) FROM log"), counter);
    counter
}

pub(crate) fn expected_mode(mode: &str) -> JournalMode {
    if mode == "wal" { JournalMode::Wal } else { JournalMode::Rollback }
}
