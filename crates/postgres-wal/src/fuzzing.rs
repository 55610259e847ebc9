//! For the fuzz targets: any bytes as a log, and any bytes as one record.
//!
//! It deliberately knows nothing of where the bytes come from.

use crate::history::TimelineHistory;
use crate::meaning;
use crate::page::Version;
use crate::position::{Lsn, SegmentSize, TimelineId};
use crate::reader::{Layout, Step, WalReader};
use crate::record::{Body, RECORD_HEADER_BYTES, RecordHeader};

/// For fuzzing: reads anything as the beginning of a segment of 1 MiB, whole and byte by byte, and as the body
/// of a record of every kind. Whether a record was read.
#[doc(hidden)]
pub fn fuzz_wal(bytes: &[u8]) -> bool {
    let (whole, cut) = (read(bytes, bytes.len().max(1)), read(bytes, 1));
    assert_eq!(whole, cut, "a log reads the same however it is cut");
    whole.0 > 0 || reads_as_record(bytes)
}

/// How many records there are, where the last one ends, and a word on why.
fn read(bytes: &[u8], piece_bytes: usize) -> (usize, Lsn, String) {
    let Some(segment_size) = SegmentSize::new(1 << 20) else { return Default::default() };
    let layout = Layout::new(TimelineHistory::first(TimelineId(1)), segment_size);
    let mut reader = WalReader::new(Lsn(1 << 20), layout);
    let mut records = 0;
    for mut piece in bytes.chunks(piece_bytes) {
        loop {
            let before = reader.complete();
            match reader.next(&mut piece) {
                Step::Record(record) => {
                    assert!(record.start >= before && record.end > record.start);
                    let _ = record.meaning();
                    records += 1;
                }
                Step::NeedsMore => break,
                Step::End(end) => return (records, end.at, end.to_string()),
            }
        }
    }
    let end = reader.finish();
    (records, end.at, end.to_string())
}

/// No mutation finds a checksum that fits; the layouts of the records are tried without one.
fn reads_as_record(bytes: &[u8]) -> bool {
    let Some((header, body)) = bytes.split_first_chunk::<RECORD_HEADER_BYTES>() else { return false };
    let mut header = RecordHeader::parse(header);
    header.total_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let of = |version| matches!(meaning::parse(&header, Body::Whole(body), version), Ok(Some(_)));
    let whole = Version::ALL.into_iter().filter(|version| of(*version)).count() > 0;
    header.total_bytes = header.total_bytes.saturating_add(1 << 20);
    let _ = meaning::parse(&header, Body::Head(body), Version::V18);
    whole
}
