//! The reader against logs that are forged: each way in which one can end, and every cutting of one that does not.

use super::*;
use crate::forge::{Forge, SEGMENT, SYSTEM, record};
use crate::record::manager;
use proptest::prelude::*;

type Seen = Vec<(Lsn, Lsn, TimelineId, u32)>;

fn layout() -> Layout {
    Layout::new(TimelineHistory::first(TimelineId(1)), SEGMENT)
}

fn read_with(layout: Layout, start: Lsn, pieces: &[&[u8]]) -> (Seen, End) {
    let mut reader = WalReader::new(start, layout);
    let mut seen = Vec::new();
    for piece in pieces {
        let fed = reader.feed(piece, |record| {
            seen.push((record.start, record.end, record.timeline, record.header.total_bytes));
            let _ = record.meaning().unwrap();
        });
        if let Err(end) = fed {
            assert_eq!(reader.finish(), end, "an end stays the end");
            return (seen, end);
        }
    }
    (seen, reader.finish())
}

fn read(forge: &Forge) -> (Seen, End) {
    read_with(layout(), forge.start, &[&forge.bytes])
}

/// Whether what was read is what was written, up to the last `but` records.
fn assert_read(forge: &Forge, but: usize) -> EndReason {
    let (seen, end) = read(forge);
    let written = &forge.records[..forge.records.len() - but];
    let places: Vec<_> = seen.iter().map(|(start, end, ..)| (*start, *end)).collect();
    assert_eq!(places, written);
    let complete = written.last().map_or(forge.start, |last| last.1);
    assert_eq!(end.at, complete, "{end}");
    end.reason
}

fn some_records(version: Version) -> Forge {
    let mut forge = Forge::new(version);
    forge.commit(700, 1);
    forge.other(100);
    forge.other(8192 - 24);
    forge.restore_point("here", 2);
    forge.commit_with(701, 3, &(0..5000).collect::<Vec<_>>());
    forge.other(3);
    forge
}

#[test]
fn records_are_read_in_every_version() {
    for version in Version::ALL {
        let forge = some_records(version);
        assert_eq!(assert_read(&forge, 0), EndReason::Exhausted, "{version}");
        let mut reader = WalReader::new(forge.start, layout());
        reader.feed(&forge.bytes, |record| assert_eq!(record.version, version)).unwrap();
        assert_eq!((reader.version(), reader.system()), (Some(version), Some(SystemId(SYSTEM))));
        assert_eq!(reader.position(), forge.position());
        assert_eq!(reader.complete(), forge.position());
    }
}

#[test]
fn pages_of_another_size_are_read_where_they_are_expected() {
    for bytes in [1 << 10, 32 << 10, 64 << 10] {
        let mut forge = Forge::new(Version::V15);
        forge.page_bytes = bytes;
        forge.other(100_000);
        forge.commit(1, 2);
        let mut other = layout();
        other.page_size = PageSize::new(bytes).unwrap();
        let (seen, end) = read_with(other, forge.start, &[&forge.bytes]);
        assert_eq!((seen.len(), end.reason), (2, EndReason::Exhausted), "{bytes}");
        let (seen, end) = read(&forge);
        let refused = EndReason::PageSize { expected: PageSize::DEFAULT, found: bytes as u32 };
        assert_eq!((seen.len(), end.reason), (0, refused));
    }
}

#[test]
fn a_log_reads_the_same_wherever_it_is_cut() {
    let mut forge = some_records(Version::V16);
    forge.switch();
    forge.other(20_000);
    let whole = read(&forge);
    for cut in (0..forge.bytes.len()).filter(|cut| *cut < 9000 || cut % 509 < 3) {
        let (first, rest) = forge.bytes.split_at(cut);
        assert_eq!(read_with(layout(), forge.start, &[first, rest]), whole, "{cut}");
    }
    let bytes: Vec<&[u8]> = forge.bytes.chunks(1).collect();
    assert_eq!(read_with(layout(), forge.start, &bytes), whole);
}

#[test]
fn whatever_comes_after_a_whole_record_the_end_is_behind_it() {
    let forge = some_records(Version::V15);
    for length in 0..forge.bytes.len() {
        let (seen, end) = read_with(layout(), forge.start, &[&forge.bytes[..length]]);
        let at = forge.start.after(length as u64);
        // The padding behind a record is no part of it.
        let whole = |(start, total): (Lsn, u32)| ends_at(start, total) <= at;
        let lengths = read(&forge).0.into_iter().map(|(start, _, _, total)| (start, total));
        assert_eq!(seen.len(), lengths.filter(|record| whole(*record)).count(), "{length}");
        assert_eq!(end.at, seen.last().map_or(forge.start, |last| last.1), "{length}");
        assert!(matches!(end.reason, EndReason::Exhausted | EndReason::Torn), "{length}: {end}");
    }
}

/// The position behind the last byte of a record, with the headers of the pages that it goes through.
fn ends_at(start: Lsn, total: u32) -> Lsn {
    let (mut at, mut left) = (start.0, u64::from(total));
    loop {
        let room = 8192 - at % 8192;
        if left <= room {
            return Lsn(at + left);
        }
        (at, left) = (at + room + 24, left - room);
    }
}

#[test]
fn zeros_behind_the_last_record_are_its_end() {
    for padding in [8, 4096, 8192, 100_000] {
        let mut forge = some_records(Version::V18);
        forge.bytes.extend(vec![0; padding]);
        assert_eq!(assert_read(&forge, 0), EndReason::Zeros);
    }
    let mut forge = Forge::new(Version::V15);
    forge.other(8192 - 40 - 24 - 5);
    assert_eq!(forge.position().0 % 8192, 0, "the record fills its page");
    forge.bytes.extend([0; 8192]);
    assert_eq!(assert_read(&forge, 0), EndReason::Zeros);
}

#[test]
fn what_a_segment_held_before_is_no_record() {
    let mut forge = some_records(Version::V15);
    let mut old = forge.clone();
    // The page that follows is one of an older segment, renamed.
    forge.bytes.resize(forge.bytes.len().next_multiple_of(8192), 0);
    let zeros = forge.clone();
    assert_eq!(assert_read(&zeros, 0), EndReason::Zeros);
    old.other(30_000);
    let mut full = some_records(Version::V15);
    full.other(8192 - (full.bytes.len() % 8192) - 24 - 5);
    assert_eq!(full.bytes.len() % 8192, 0);
    full.bytes.extend(&old.bytes[8192..16384]);
    assert!(matches!(assert_read(&full, 0), EndReason::PageAddress { .. }));
}

#[test]
fn the_rest_of_an_older_record_is_skipped() {
    let mut older = Forge::new(Version::V17);
    older.other(3 << 20);
    older.commit(800, 9);
    let second = SEGMENT.bytes() as usize;
    let (seen, end) = read_with(layout(), Lsn(2 << 20), &[&older.bytes[second..]]);
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].0, end.at), (older.records[1].0, older.position()));
    // It was not whole when the log ended.
    let (seen, end) = read_with(layout(), Lsn(2 << 20), &[&older.bytes[second..second + 9000]]);
    assert_eq!((seen.len(), end), (0, End { at: Lsn(2 << 20), reason: EndReason::Torn }));
}

#[test]
fn a_switch_ends_its_segment() {
    let mut forge = some_records(Version::V15);
    forge.switch();
    forge.commit(900, 1);
    assert_eq!(forge.records[6].1, Lsn(2 << 20));
    // PostgreSQL may leave anything behind a switch.
    let at = forge.bytes.len() - 200_000;
    forge.bytes[at..at + 50].fill(0xee);
    assert_eq!(assert_read(&forge, 0), EndReason::Exhausted);
}

#[test]
fn a_record_that_was_given_up_is_left_out() {
    let mut forge = some_records(Version::V16);
    let (previous, torn) = (forge.previous, forge.position());
    // The beginning of a record, up to the end of its page; then the server went on with the next.
    let long = record(previous, 10, 0, 5, &[1; 20_000]);
    let room = 8192 - (torn.0 % 8192) as usize;
    forge.bytes.extend(&long[..room]);
    let page = forge.bytes.len();
    forge.page(8, 0);
    let data = [&torn.0.to_le_bytes()[..], &7i64.to_le_bytes()].concat();
    forge.record(manager::XLOG, 0xd0, 0, &data);
    forge.commit(901, 8);
    assert_eq!(assert_read(&forge, 0), EndReason::Exhausted);
    // Without the word of the page it is the end.
    forge.bytes[page + 2] = 0;
    assert_eq!(assert_read(&forge, 2), EndReason::NoContinuation);
}

#[test]
fn each_bad_header_ends_the_log_with_its_reason() {
    let page = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut forge = some_records(Version::V15);
        change(&mut forge.bytes);
        read(&forge).1.reason
    };
    assert_eq!(page(&|bytes| bytes[0] = 0x11), EndReason::PageMagic { found: 0xd111 });
    assert_eq!(page(&|bytes| bytes[..2].reverse()), EndReason::PageMagic { found: 0x10d1 });
    let other = EndReason::PageVersion { expected: Version::V15, found: Version::V18 };
    assert_eq!(page(&|bytes| bytes[8192] = 0x18), other);
    assert_eq!(page(&|bytes| bytes[3] = 0x40), EndReason::PageFlags { found: 0x4002 });
    assert_eq!(page(&|bytes| bytes[2] = 0), EndReason::NoSegmentHeader);
    assert_eq!(page(&|bytes| bytes[8] = 1), EndReason::PageAddress { found: Lsn(0x10_0001) });
    let timeline = EndReason::PageTimeline { expected: TimelineId(1), found: TimelineId(7) };
    assert_eq!(page(&|bytes| bytes[4] = 7), timeline);
    let size = EndReason::SegmentSize { expected: SEGMENT, found: 2 << 20 };
    assert_eq!(page(&|bytes| bytes[34] = 0x20), size);
    let size = EndReason::PageSize { expected: PageSize::DEFAULT, found: 32 << 10 };
    assert_eq!(page(&|bytes| bytes[37] = 0x80), size);
    assert_eq!(page(&|bytes| bytes[2] = 3), EndReason::UnexpectedContinuation);
    assert_eq!(page(&|bytes| bytes[8192 + 16] ^= 1), EndReason::NoContinuation);

    let mut of_another = layout();
    of_another.system = Some(SystemId(5));
    let forge = some_records(Version::V15);
    let end = read_with(of_another, forge.start, &[&forge.bytes]).1;
    assert_eq!(end.reason, EndReason::System { expected: SystemId(5), found: SystemId(SYSTEM) });
    let end = read_with(layout(), Lsn(0x10_0008), &[&forge.bytes]).1;
    assert_eq!(end.reason, EndReason::NoBoundary);
}

#[test]
fn each_bad_record_ends_the_log_with_its_reason() {
    let with = |offset: usize, value: u8| {
        let mut forge = Forge::new(Version::V15);
        forge.other(10);
        let at = forge.other(10).since(forge.start) as usize;
        forge.bytes[at + offset] = value;
        assert_read(&forge, 1)
    };
    assert_eq!(with(0, 0), EndReason::Zeros);
    assert_eq!(with(0, 23), EndReason::RecordLength { found: 23 });
    assert_eq!(with(3, 0x40), EndReason::RecordLength { found: 0x4000_0024 });
    assert!(matches!(with(8, 0xff), EndReason::Previous { .. }));
    assert_eq!(with(17, 22), EndReason::Manager { found: 22 });
    assert_eq!(with(17, 127), EndReason::Manager { found: 127 });
    for offset in [4, 16, 20, 23, 24, 35] {
        assert!(matches!(with(offset, 0xa5), EndReason::Crc { .. }), "{offset}");
    }
}

fn two_timelines(timeline: u32) -> (Forge, Layout) {
    let mut forge = some_records(Version::V17);
    let content = format!("1\t{}\tno recovery target specified\n", forge.position());
    let history = TimelineHistory::parse(TimelineId(2), content.as_bytes()).unwrap();
    forge.timeline = 2;
    forge.record(manager::XLOG, 0x80, 0, &[1]);
    forge.end_of_recovery(timeline, 1);
    forge.commit(1000, 1);
    forge.other(20_000);
    (forge, Layout::new(history, SEGMENT))
}

#[test]
fn a_timeline_that_begins_within_a_page_is_followed() {
    let (forge, layout) = two_timelines(2);
    let (seen, end) = read_with(layout, forge.start, &[&forge.bytes]);
    assert_eq!((seen.len(), end.reason), (10, EndReason::Exhausted));
    let timelines: Vec<u32> = seen.iter().map(|(_, _, timeline, _)| timeline.0).collect();
    assert_eq!(timelines, [1, 1, 1, 1, 1, 1, 2, 2, 2, 2]);
}

#[test]
fn a_promotion_is_followed_from_the_middle_of_a_record_on() {
    let (forge, two) = two_timelines(2);
    let whole = read_with(two.clone(), forge.start, &[&forge.bytes]).0;
    let switch = two.history.switches()[0].at;
    for given in [0, 100, 8192, 9000, switch.since(forge.start) as usize] {
        let (old, new) = forge.bytes.split_at(given);
        let mut reader = WalReader::new(forge.start, layout());
        let mut starts = Vec::new();
        reader.feed(old, |record| starts.push((record.start, record.timeline))).unwrap();
        reader.follow(two.history.clone()).unwrap();
        reader.feed(new, |record| starts.push((record.start, record.timeline))).unwrap();
        let expected: Vec<_> = whole.iter().map(|(start, _, timeline, _)| (*start, *timeline)).collect();
        assert_eq!(starts, expected, "{given}");
    }
    let mut reader = WalReader::new(forge.start, layout());
    let mut old = some_records(Version::V17);
    old.commit(1000, 1);
    reader.feed(&old.bytes, |_| {}).unwrap();
    let diverged = reader.follow(two.history).unwrap_err();
    assert_eq!((diverged.position, diverged.next), (old.position(), TimelineId(2)));
    assert!(reader.follow(TimelineHistory::first(TimelineId(5))).is_err(), "no ancestor");
}

#[test]
fn the_old_timeline_behind_the_branch_is_not_taken_for_the_new_one() {
    let expected = EndReason::NoTimelineSwitch { expected: TimelineId(2) };
    let (forge, layout) = two_timelines(3);
    let (seen, end) = read_with(layout.clone(), forge.start, &[&forge.bytes]);
    assert_eq!((seen.len(), end.reason), (7, expected));

    let mut old = some_records(Version::V17);
    old.commit(1000, 1);
    let (seen, end) = read_with(layout.clone(), old.start, &[&old.bytes]);
    assert_eq!((seen.len(), end.at, end.reason), (6, old.records[5].1, expected));

    // A record that lies across the place where the timeline was left.
    let mut across = some_records(Version::V17);
    across.records.pop();
    across.bytes.truncate(across.records[4].1.since(across.start) as usize);
    across.previous = across.records[4].0;
    across.other(2000);
    let (_, end) = read_with(layout, across.start, &[&across.bytes]);
    assert_eq!(end.reason, expected);
}

#[test]
fn of_a_record_that_is_too_long_the_head_is_kept() {
    let mut forge = Forge::new(Version::V18);
    let long = KEPT_BYTES_MAX + 1;
    let mut message =
        [&5u32.to_le_bytes()[..], &[1, 0, 0, 0], &2u64.to_le_bytes(), &(long as u64).to_le_bytes()].concat();
    message.extend(b"p\0");
    message.resize(message.len() + long, b'c');
    forge.record(manager::LOGICAL_MESSAGE, 0, 3, &message);
    forge.commit_with(702, 3, &vec![8; long / 4]);
    let mut reader = WalReader::new(forge.start, layout());
    let mut meanings = Vec::new();
    for piece in forge.bytes.chunks(1 << 20) {
        reader.feed(piece, |record| meanings.push(record.meaning().unwrap().unwrap())).unwrap();
        assert!(reader.kept.capacity() <= KEPT_BYTES_MAX);
    }
    let [Meaning::Message(message), Meaning::Commit(commit)] = &meanings[..] else { panic!() };
    assert_eq!((message.prefix.as_str(), message.content_bytes), ("p", long as u64));
    assert!(message.content.len() < KEPT_HEAD_BYTES && message.content.iter().all(|byte| *byte == b'c'));
    assert_eq!((commit.xid, commit.at.0, &commit.subtransactions), (702, 3, &None));
}

proptest! {
    #[test]
    fn any_cutting_gives_the_same(
        lengths in proptest::collection::vec(0usize..20_000, 1..20),
        cuts in proptest::collection::vec(1usize..9000, 1..50),
    ) {
        let mut forge = Forge::new(Version::V18);
        for (index, length) in lengths.iter().enumerate() {
            match index % 3 {
                0 => forge.other(*length),
                1 => forge.commit_with(index as u32, 7, &vec![4; length / 4]),
                _ => forge.restore_point("x", 1),
            };
        }
        let mut pieces = Vec::new();
        let mut rest = forge.bytes.as_slice();
        for cut in cuts.iter().cycle() {
            let (piece, left) = rest.split_at(*cut.min(&rest.len()));
            pieces.push(piece);
            rest = left;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(read_with(layout(), forge.start, &pieces), read(&forge));
        prop_assert_eq!(assert_read(&forge, 0), EndReason::Exhausted);
    }

    #[test]
    fn a_flipped_bit_is_noticed(at in any::<proptest::sample::Index>(), bit in 0u8..8) {
        let forge = some_records(Version::V16);
        let whole = read(&forge);
        let mut flipped = forge.clone();
        let at = at.index(flipped.bytes.len());
        flipped.bytes[at] ^= 1 << bit;
        let (seen, end) = read(&flipped);
        if (&seen, end) == (&whole.0, whole.1) {
            prop_assert!(means_nothing(&forge, at), "byte {} was flipped and nothing was noticed", at);
        } else {
            prop_assert!(whole.0.starts_with(&seen), "what was read before the flip stays");
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        at in 0usize..9000,
    ) {
        let _ = crate::fuzz_wal(&bytes);
        let mut forge = some_records(Version::V15);
        let place = at.min(forge.bytes.len());
        let end = (place + bytes.len()).min(forge.bytes.len());
        forge.bytes[place..end].copy_from_slice(&bytes[..end - place]);
        let _ = crate::fuzz_wal(&forge.bytes);
    }
}

/// Bytes that no checksum covers and nobody reads: the padding behind records, and that of page headers.
fn means_nothing(forge: &Forge, at: usize) -> bool {
    let position = forge.start.after(at as u64);
    let in_page = position.0 % 8192;
    if in_page < 24 {
        // How much of a record goes on is read only where the page says that one does.
        let continues = usize::try_from(in_page).is_ok_and(|in_page| forge.bytes[at - in_page + 2] & 1 == 1);
        // The flag for pages that backups need not keep, and four bytes of padding.
        return in_page == 2 || in_page >= 20 || (!continues && (16..20).contains(&in_page));
    }
    if SEGMENT.start_of(position).after(40) > position {
        // The first cluster that is met is taken.
        return in_page < 32;
    }
    let records = read(forge).0;
    let (start, _, _, total) = *records.iter().rfind(|(start, ..)| *start <= position).unwrap();
    // The two bytes of padding in a record's header are covered by its checksum.
    position >= ends_at(start, total)
}
