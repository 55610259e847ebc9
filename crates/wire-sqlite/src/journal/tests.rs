//! The journal's readers, on journals that the real SQLite left behind.

use super::*;
use crate::DatabaseHeader;
use proptest::prelude::*;
use std::path::Path;
use std::sync::LazyLock;

/// A database and its journal in the middle of a transaction that spilled.
struct Crashed {
    before: Vec<u8>,
    database: Vec<u8>,
    journal: Vec<u8>,
}

fn crashed(pragmas: &str) -> Crashed {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(&format!(
            "{pragmas};
             CREATE TABLE t(id INTEGER PRIMARY KEY, x);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<300)
             INSERT INTO t SELECT i, randomblob(700) FROM n;"
        ))
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA cache_size=5; PRAGMA cache_spill=1; BEGIN;
             UPDATE t SET x=randomblob(700) WHERE id%2=0; UPDATE t SET x=randomblob(750) WHERE id%2=1;",
        )
        .unwrap();
    let database = std::fs::read(&path).unwrap();
    let journal = std::fs::read(directory.path().join("a.db-journal")).unwrap();
    Crashed { before, database, journal }
}

/// Undoes a transaction with our own reader. A journal that states no page size has the database's.
fn play_back(database: &[u8], journal: &[u8]) -> (Vec<u8>, u32) {
    let mut image = database.to_vec();
    let fallback = DatabaseHeader::parse(database).unwrap().page_size;
    let mut records = JournalRecords::new(journal, fallback).unwrap().unwrap();
    let page_size = records.page_size().as_usize();
    image.resize(records.header().initial_pages as usize * page_size, 0);
    let mut segments = 0;
    while let Some(record) = records.next_record().unwrap() {
        let start = (record.page as usize - 1) * page_size;
        image[start..start + page_size].copy_from_slice(record.content);
        segments = record.segment + 1;
    }
    assert!(records.next_record().unwrap().is_none(), "the end is final");
    (image, segments)
}

#[test]
fn a_journal_of_the_real_sqlite_undoes_its_transaction() {
    for (pragmas, count_kind) in [
        ("PRAGMA page_size=4096", "exact"),
        ("PRAGMA page_size=512", "exact"),
        ("PRAGMA page_size=65536", "exact"),
        ("PRAGMA journal_mode=persist", "exact"),
        ("PRAGMA synchronous=off", "until-end"),
    ] {
        let crashed = crashed(pragmas);
        assert_ne!(crashed.before, crashed.database, "{pragmas}: nothing spilled");
        let first = JournalHeader::parse(&crashed.journal).unwrap();
        assert_eq!(first.records == RecordCount::UntilEnd, count_kind == "until-end", "{pragmas}");
        let (image, segments) = play_back(&crashed.database, &crashed.journal);
        assert!(image == crashed.before, "{pragmas}: the image differs");
        assert!(segments > 1 || count_kind == "until-end", "{pragmas}: {segments} segments");
    }
}

#[test]
fn a_record_that_does_not_fit_its_checksum_ends_the_playback() {
    let mut crashed = crashed("");
    let whole = count(&crashed.journal);
    let first = JournalHeader::parse(&crashed.journal).unwrap();
    let third = first.sector_bytes as usize + 2 * (4096 + 8);
    // The sum looks at every two hundredth byte, counted from the end of the page.
    crashed.journal[third + 4 + 4096 - 200] ^= 1;
    assert_eq!(count(&crashed.journal), 2);
    assert!(whole > 2);
}

#[test]
fn a_segment_that_was_never_synced_counts_nothing() {
    let mut crashed = crashed("");
    crashed.journal[8..12].fill(0);
    let mut records = JournalRecords::new(&crashed.journal, PageSize::DEFAULT).unwrap().unwrap();
    // The next header is looked for on the next sector, where a record lies.
    assert!(records.next_record().unwrap().is_none());
}

fn count(journal: &[u8]) -> usize {
    let mut records = JournalRecords::new(journal, PageSize::DEFAULT).unwrap().unwrap();
    let mut count = 0;
    while records.next_record().unwrap().is_some() {
        count += 1;
    }
    count
}

fn with_super_journal(mut journal: Vec<u8>, name: &[u8]) -> Vec<u8> {
    journal.extend(PageSize::DEFAULT.lock_page().to_be_bytes());
    journal.extend(name);
    journal.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
    let sum = name.iter().fold(0u32, |sum, byte| sum.wrapping_add_signed(i32::from(byte.cast_signed())));
    journal.extend(sum.to_be_bytes());
    journal.extend(MAGIC);
    journal
}

#[test]
fn super_journals_are_found_and_only_real_ones() {
    let journal = crashed("").journal;
    assert_eq!(super_journal(&journal).unwrap(), None);
    let name = "/srv/größe/a.db-mj12AB34956".as_bytes();
    let named = with_super_journal(journal.clone(), name);
    let found = super_journal(&named).unwrap().unwrap();
    assert_eq!(found.name, name);
    assert_eq!(&named[..found.record_offset as usize], journal);
    assert_eq!(super_journal(&named[..found.record_offset as usize].to_vec()).unwrap(), None);

    for bad in ["/etc/passwd", "a-mj", "", "/srv/a.db-mj12AB34856", "/srv/a.db-mj12ABxx956"] {
        let named = with_super_journal(journal.clone(), bad.as_bytes());
        assert_eq!(super_journal(&named).unwrap(), None, "{bad}");
    }
    let long = format!("/{}/a.db-mj12AB34956", "x".repeat(600));
    assert_eq!(super_journal(&with_super_journal(journal, long.as_bytes())).unwrap(), None);
}

#[test]
fn hotness_follows_the_rules_of_sqlite() {
    let crashed = crashed("");
    let hot = |journal: &[u8]| {
        hotness(Some(journal), 4096, false, |_| panic!("no super-journal is named")).unwrap()
    };
    assert_eq!(hotness(None::<&Vec<u8>>, 4096, false, |_| Ok(true)).unwrap(), Hotness::Absent);
    assert_eq!(hot(b""), Hotness::Absent);
    assert_eq!(hot(&[0; 512]), Hotness::Ended);
    assert_eq!(hot(&crashed.journal), Hotness::Hot { super_journal: None });
    // Hot by the first byte alone, though nothing would be played back.
    assert_eq!(hot(b"\x01garbage"), Hotness::Hot { super_journal: None });
    let asked = |database_bytes, reserved| {
        hotness(Some(&crashed.journal), database_bytes, reserved, |_| Ok(true)).unwrap()
    };
    assert_eq!(asked(4096, true), Hotness::Live);
    assert_eq!(asked(0, false), Hotness::NoDatabase);

    let named = with_super_journal(crashed.journal.clone(), b"/x/a.db-mj000000900");
    let with = |exists| hotness(Some(&named), 4096, false, |_| Ok(exists)).unwrap();
    assert!(
        matches!(with(true), Hotness::Hot { super_journal: Some(found) } if found.name == b"/x/a.db-mj000000900")
    );
    assert!(matches!(with(false), Hotness::Committed(_)));
    let error = hotness(Some(&named), 4096, false, |_| Err(io::Error::other("cannot look")));
    assert_eq!(error.unwrap_err().to_string(), "cannot look");
}

#[test]
fn a_journal_that_states_no_page_size_has_the_databases() {
    let mut crashed = crashed("PRAGMA page_size=1024");
    crashed.journal[24..28].fill(0);
    assert_eq!(JournalHeader::parse(&crashed.journal).unwrap().page_size, None);
    let ours = play_back(&crashed.database, &crashed.journal).0;
    assert!(ours == crashed.before);
    assert!(ours == sqlite_rolls_back(&crashed.database, &crashed.journal));
}

/// What SQLite's own rollback makes of a database and a journal.
fn sqlite_rolls_back(database: &[u8], journal: &[u8]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    put(&directory.path().join("a.db"), database);
    put(&directory.path().join("a.db-journal"), journal);
    let connection = rusqlite::Connection::open(directory.path().join("a.db")).unwrap();
    let _ = connection.execute_batch("PRAGMA synchronous=off");
    let _ = connection.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0));
    drop(connection);
    std::fs::read(directory.path().join("a.db")).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a file that a test throws away")]
fn put(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_journal_is_played_back_as_sqlite_would(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        header_flip in proptest::option::of((8usize..28, any::<u8>())),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        static CRASHED: LazyLock<Crashed> = LazyLock::new(|| crashed("PRAGMA page_size=1024"));
        let crashed = &*CRASHED;
        let mut journal = crashed.journal.clone();
        for (index, byte) in flips {
            let at = index.index(journal.len());
            journal[at] = byte;
        }
        if let Some((at, byte)) = header_flip {
            journal[at] = byte;
        }
        if cut {
            journal.truncate(keep.index(journal.len()));
        }
        let hot = hotness(Some(&journal), crashed.database.len() as u64, false, |_| Ok(false)).unwrap();
        prop_assume!(!journal.is_empty() && matches!(hot, Hotness::Hot { .. }));
        let ours = match JournalRecords::new(&journal, PageSize::new(1024).unwrap()).unwrap() {
            // A journal of another page size makes SQLite cut the file by that size: not worth imitating.
            Some(records) if records.page_size().get() != 1024 => return Ok(()),
            // A header that states a size of gigabytes would make a file of gigabytes.
            Some(records) if records.header().initial_pages > 10_000 => return Ok(()),
            Some(_) => play_back(&crashed.database, &journal).0,
            None => crashed.database.clone(),
        };
        prop_assert!(sqlite_rolls_back(&crashed.database, &journal) == ours, "the images differ");
    }

    #[test]
    fn no_bytes_make_the_readers_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        start in any::<bool>(), end in any::<bool>(),
    ) {
        if start && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(&MAGIC);
        }
        if end && bytes.len() >= 16 {
            let length = bytes.len();
            bytes[length - 8..].copy_from_slice(&MAGIC);
            bytes[length - 16..length - 12].copy_from_slice(&12u32.to_be_bytes());
        }
        let _ = JournalHeader::parse(&bytes);
        let _ = super_journal(&bytes).unwrap();
        let _ = hotness(Some(&bytes), 1, false, |_| Ok(true)).unwrap();
        if let Some(mut records) = JournalRecords::new(&bytes, PageSize::MIN).unwrap() {
            while records.next_record().unwrap().is_some() {}
        }
    }
}
