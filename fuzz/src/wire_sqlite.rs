//! Targets for the bytes that SQLite leaves on disk.

use lifeboat_wire_sqlite::{
    Checksum, ChecksumOrder, DatabaseHeader, FRAME_HEADER_BYTES, Hotness, JournalHeader, JournalRecords,
    PageSize, WAL_HEADER_BYTES, WAL_INDEX_HEADER_BYTES, WalHeader, WalIndex, committed_wal, hotness,
    super_journal,
};

/// A target: its corpus, and the function that says whether it takes an input.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target of this module.
pub const TARGETS: &[Target] = &[
    ("sqlite_header", header),
    ("sqlite_journal", journal),
    ("sqlite_wal", wal),
    ("sqlite_wal_index", wal_index),
];

/// The header of a database.
pub fn header(bytes: &[u8]) -> bool {
    let Ok(header) = DatabaseHeader::parse(bytes) else { return false };
    header.pages(bytes.len() as u64);
    true
}

/// A rollback journal: its records lie within it, and a super-journal's record too.
pub fn journal(bytes: &[u8]) -> bool {
    let named = super_journal(bytes).expect("a slice can be read");
    assert!(named.as_ref().is_none_or(|named| named.record_offset < bytes.len() as u64));
    let hot = hotness(Some(bytes), 4096, false, |_| Ok(true)).expect("a slice can be read");
    assert_eq!(matches!(hot, Hotness::Hot { .. }), bytes.first().is_some_and(|first| *first != 0));
    let source = bytes.to_vec();
    let Some(mut records) = JournalRecords::new(source, PageSize::DEFAULT).expect("a slice can be read")
    else {
        return false;
    };
    assert!(JournalHeader::parse(bytes).is_ok());
    let (page_bytes, mut played) = (records.page_size().as_usize(), 0);
    while let Some(record) = records.next_record().expect("a slice can be read") {
        assert_eq!(record.content.len(), page_bytes);
        played += page_bytes + 8;
        assert!(played <= bytes.len(), "more records than the journal has bytes");
    }
    true
}

/// A write-ahead log, as it is and with its checksums made to fit, since no mutation would find them.
pub fn wal(bytes: &[u8]) -> bool {
    takes_wal(bytes) | summed(bytes).is_some_and(|summed| takes_wal(&summed))
}

/// Every page that a log is said to hold lies within it.
fn takes_wal(bytes: &[u8]) -> bool {
    let source = bytes.to_vec();
    let Ok(Some(wal)) = committed_wal(source, None) else { return false };
    assert!(WalHeader::parse(bytes).is_ok_and(|header| header == wal.header));
    let end = wal.header.frame_offset(wal.last_frame + 1);
    assert!(end <= bytes.len() as u64, "frame {} of {} bytes", wal.last_frame, bytes.len());
    for (page, frame) in wal.index.range(0..u32::MAX) {
        assert!(*page > 0 && (1..=wal.last_frame).contains(frame));
        assert_eq!(wal.index.frame_of(*page), Some(*frame));
    }
    true
}

/// The same log with checksums that fit, and the salts of its header in every frame.
fn summed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut wal = bytes.to_vec();
    let header = wal.first_chunk::<WAL_HEADER_BYTES>()?;
    let order = if header[3] & 1 == 1 { ChecksumOrder::BigEndian } else { ChecksumOrder::LittleEndian };
    let page_size = PageSize::new(u32::from_be_bytes(*header[8..].first_chunk()?))?;
    let salts: [u8; 8] = *header[16..].first_chunk()?;
    let mut sum = Checksum::default().over(order, &header[..24]);
    put_sum(&mut wal[24..32], sum);
    for frame in wal[WAL_HEADER_BYTES..].chunks_exact_mut(FRAME_HEADER_BYTES + page_size.as_usize()) {
        frame[8..16].copy_from_slice(&salts);
        sum = sum.over(order, &frame[..8]).over(order, &frame[FRAME_HEADER_BYTES..]);
        put_sum(&mut frame[16..24], sum);
    }
    Some(wal)
}

fn put_sum(place: &mut [u8], sum: Checksum) {
    place[..4].copy_from_slice(&sum.0.to_be_bytes());
    place[4..].copy_from_slice(&sum.1.to_be_bytes());
}

/// The header of a wal-index. Its copy and its checksum are made to fit where the input is half of it, since
/// no mutation would find them.
pub fn wal_index(bytes: &[u8]) -> bool {
    let whole = doubled(bytes);
    let Ok(index) = WalIndex::parse(whole.as_deref().unwrap_or(bytes)) else { return false };
    assert!(index.same_commit(&index));
    true
}

/// A header with both copies alike, from one that is shorter.
fn doubled(bytes: &[u8]) -> Option<Vec<u8>> {
    let (first, rest) = bytes.split_at_checked(40).filter(|_| bytes.len() < WAL_INDEX_HEADER_BYTES)?;
    let sum = Checksum::default().over(ChecksumOrder::NATIVE, first);
    let copy = [first, &sum.0.to_ne_bytes(), &sum.1.to_ne_bytes()].concat();
    let mut whole = [copy.as_slice(), &copy, rest].concat();
    whole.resize(WAL_INDEX_HEADER_BYTES, 0);
    Some(whole)
}
