//! The log's readers, on logs that the real SQLite wrote.

use super::*;
use proptest::prelude::*;
use std::sync::LazyLock;

/// A database and its log, never checkpointed, and what the database is as a whole.
struct Real {
    database: Vec<u8>,
    wal: Vec<u8>,
    whole: Vec<u8>,
}

fn real(page_size: u32) -> Real {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA page_size={page_size}; PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0;
             CREATE TABLE t(id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES(1, randomblob(3000));"
        ))
        .unwrap();
    for _ in 0..12 {
        connection
            .execute_batch(
                "BEGIN; INSERT INTO t(x) VALUES(randomblob(900)); UPDATE t SET x=randomblob(800) WHERE id%5=0; COMMIT",
            )
            .unwrap();
    }
    let read = |name| std::fs::read(directory.path().join(name)).unwrap();
    let (database, wal) = (read("a.db"), read("a.db-wal"));
    connection.execute_batch("PRAGMA wal_checkpoint(truncate)").unwrap();
    Real { database, wal, whole: read("a.db") }
}

/// Applies a log with our own reader.
fn overlay(database: &[u8], wal_bytes: &Vec<u8>) -> Vec<u8> {
    let mut image = database.to_vec();
    let Some(wal) = committed_wal(wal_bytes, None).unwrap() else { return image };
    let page_size = wal.header.page_size.as_usize();
    if wal.last_frame > 0 {
        image.resize(wal.pages as usize * page_size, 0);
    }
    for (page, frame) in wal.index.range(1..wal.pages + 1) {
        let from = usize::try_from(wal.header.content_offset(*frame)).unwrap();
        let to = (*page as usize - 1) * page_size;
        image[to..to + page_size].copy_from_slice(&wal_bytes[from..from + page_size]);
    }
    image
}

#[test]
fn a_log_of_the_real_sqlite_is_what_its_checkpoint_makes_of_it() {
    for page_size in [512, 4096, 65_536] {
        let real = real(page_size);
        assert_ne!(real.database, real.whole);
        assert!(overlay(&real.database, &real.wal) == real.whole, "page size {page_size}");
    }
}

#[test]
fn the_iterator_ends_at_the_last_commit_before_a_damaged_frame() {
    let real = real(4096);
    let whole = committed_wal(&real.wal, None).unwrap().unwrap();
    let frames: Vec<Frame> =
        CommittedFrames::new(&real.wal, whole.header.clone(), None).map(Result::unwrap).collect();
    assert_eq!(frames.len(), whole.last_frame as usize);
    for damaged in &frames {
        let mut wal = real.wal.clone();
        wal[usize::try_from(whole.header.content_offset(damaged.number)).unwrap() + 77] ^= 1;
        let expected = frames
            .iter()
            .rfind(|frame| frame.number < damaged.number && frame.commit_pages != 0)
            .map_or(0, |frame| frame.number);
        assert_eq!(committed_wal(&wal, None).unwrap().unwrap().last_frame, expected);
        let limited = committed_wal(&real.wal, Some(damaged.number - 1)).unwrap().unwrap();
        assert_eq!(limited.last_frame, expected);
    }
}

#[test]
fn frames_of_an_older_generation_do_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(50000));")
        .unwrap();
    let before = committed_wal(std::fs::read(directory.path().join("a.db-wal")).unwrap(), None);
    let before = before.unwrap().unwrap();
    connection.execute_batch("PRAGMA wal_checkpoint(restart); INSERT INTO t VALUES(1)").unwrap();
    let wal = std::fs::read(directory.path().join("a.db-wal")).unwrap();
    let after = committed_wal(&wal, None).unwrap().unwrap();
    assert!(wal.len() as u64 > after.header.frame_offset(before.last_frame), "the file kept its size");
    assert!(after.last_frame > 0 && after.last_frame < before.last_frame);
    assert_ne!(after.header.salts, before.header.salts);
    assert_eq!(after.header.checkpoint_sequence, before.header.checkpoint_sequence + 1);
}

/// The same log as a big-endian machine would have written it, its checksums made anew.
#[test]
fn both_byte_orders_of_the_checksum() {
    let real = real(1024);
    let header = WalHeader::parse(&real.wal).unwrap();
    assert_eq!(header.order, ChecksumOrder::NATIVE);
    let mut other = real.wal.clone();
    other[3] ^= 1;
    let order = ChecksumOrder::BigEndian;
    let mut sum = Checksum::default().over(order, &other[..24]);
    let put = |bytes: &mut [u8], sum: Checksum| {
        bytes[..4].copy_from_slice(&sum.0.to_be_bytes());
        bytes[4..8].copy_from_slice(&sum.1.to_be_bytes());
    };
    put(&mut other[24..32], sum);
    for frame in other[WAL_HEADER_BYTES..].chunks_exact_mut(FRAME_HEADER_BYTES + 1024) {
        sum = sum.over(order, &frame[..8]).over(order, &frame[FRAME_HEADER_BYTES..]);
        put(&mut frame[16..24], sum);
    }
    assert_eq!(WalHeader::parse(&other).unwrap().order, order);
    assert!(overlay(&real.database, &other) == real.whole);
}

#[test]
fn what_is_no_log_is_empty_and_what_is_newer_is_an_error() {
    let real = real(4096);
    assert_eq!(committed_wal(Vec::new(), None).unwrap(), None);
    assert_eq!(committed_wal(vec![0; 5000], None).unwrap(), None);
    let mut newer = real.wal.clone();
    newer[4..8].copy_from_slice(&3_008_000u32.to_be_bytes());
    assert_eq!(WalHeader::parse(&newer), Err(WalHeaderError::Checksum));
    let sum = Checksum::default().over(ChecksumOrder::NATIVE, &newer[..24]);
    newer[24..28].copy_from_slice(&sum.0.to_be_bytes());
    newer[28..32].copy_from_slice(&sum.1.to_be_bytes());
    let error = committed_wal(&newer, None).unwrap_err();
    assert_eq!(error.to_string(), "unknown WAL version 3008000");
}

#[test]
fn a_page_index_keeps_the_last_version() {
    let mut index = PageIndex::default();
    for frame in 1..=300_000u32 {
        index.push(frame % 1000 + 1, frame);
    }
    index.finish();
    assert_eq!(index.len(), 1000);
    assert_eq!(index.frame_of(1), Some(300_000));
    assert_eq!(index.frame_of(1000), Some(299_999));
    assert_eq!(index.frame_of(1001), None);
    assert_eq!(index.range(999..2000), [(999, 299_998), (1000, 299_999)]);
    assert!(index.range(2000..2001).is_empty());
}

/// What SQLite makes of a database and a log: its own recovery and checkpoint.
#[expect(clippy::disallowed_methods, reason = "files that a test throws away")]
fn sqlite_recovers(database: &[u8], wal: &[u8]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    std::fs::write(&path, database).unwrap();
    std::fs::write(directory.path().join("a.db-wal"), wal).unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    let _ = connection.query_row("PRAGMA wal_checkpoint(truncate)", [], |_| Ok(()));
    drop(connection);
    std::fs::read(&path).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_log_is_read_as_sqlite_would(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        static REAL: LazyLock<Real> = LazyLock::new(|| real(1024));
        let real = &*REAL;
        let mut wal = real.wal.clone();
        for (index, byte) in flips {
            let at = index.index(wal.len());
            wal[at] = byte;
        }
        if cut {
            wal.truncate(keep.index(wal.len()));
        }
        prop_assert!(overlay(&real.database, &wal) == sqlite_recovers(&real.database, &wal));
    }

    #[test]
    fn no_bytes_make_the_readers_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = committed_wal(&bytes, None);
        let _ = FrameHeader::parse(&bytes);
        if bytes.len() >= WAL_HEADER_BYTES {
            bytes[..4].copy_from_slice(&MAGIC.to_be_bytes());
            bytes[4..8].copy_from_slice(&VERSION.to_be_bytes());
            bytes[8..12].copy_from_slice(&512u32.to_be_bytes());
            let sum = Checksum::default().over(ChecksumOrder::LittleEndian, &bytes[..24]);
            bytes[24..28].copy_from_slice(&sum.0.to_be_bytes());
            bytes[28..32].copy_from_slice(&sum.1.to_be_bytes());
            prop_assert_eq!(committed_wal(&bytes, None).unwrap().unwrap().last_frame, 0);
        }
    }
}
