//! Targets for PostgreSQL's write-ahead log, and for the words in which places of it are said.

use lifeboat_postgres_wal::{
    Edge, Layout, Lsn, Meaning, PageHeader, PageSize, RECORD_HEADER_BYTES, Record, RecordHeader, Replay,
    Resolution, Resolver, SegmentName, SegmentSize, Summary, SystemId, Target as Wanted, TargetError,
    TimelineHistory, TimelineId, Version, WalReader, fuzz_wal, manager,
};
use std::fmt::Display;
use std::str::FromStr;

/// A target: its corpus, and the function that says whether it takes an input.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target of this module.
pub const TARGETS: &[Target] = &[("postgres_wal", wal), ("postgres_names", names)];

/// Where a log begins that is read here: at the beginning of a segment of 1 MiB.
const START: Lsn = Lsn(1 << 20);
/// How long a page of the inputs is, in bytes.
const PAGE_BYTES: usize = 8 << 10;
const LONG_HEADER_BYTES: usize = 40;
const SHORT_HEADER_BYTES: usize = 24;
/// How many targets are resolved in one log.
const WANTED_MAX: usize = 8;

/// A log as it is, and its records in pages that fit, with checksums that fit: no mutation would find them.
/// These records are all read back, and whatever a target means is a place that means the same.
pub fn wal(bytes: &[u8]) -> bool {
    let taken = fuzz_wal(bytes);
    let records = records(bytes);
    if records.is_empty() {
        return taken;
    }
    // Small pages cut small inputs in many places.
    let forged = Forged::new(version_of(bytes), &records, 1 << 10);
    let candidates = forged.read_back();
    forged.resolve_all(&candidates);
    true
}

/// The records of a log from elsewhere, in pages that are where a log is read here.
pub fn moved(log: &[u8]) -> Vec<u8> {
    Forged::new(version_of(log), &records(log), PAGE_BYTES).bytes
}

fn version_of(log: &[u8]) -> Version {
    let version = log.first_chunk().and_then(|magic| Version::of_magic(u16::from_le_bytes(*magic)));
    version.unwrap_or(Version::V18)
}

/// The records of a log, as far as their lengths lead. The rest of an older one is left out.
fn records(log: &[u8]) -> Vec<Vec<u8>> {
    let left = PageHeader::parse(log).filter(PageHeader::continues).map_or(0, |page| page.remaining as usize);
    let pages = log.chunks(PAGE_BYTES).enumerate();
    let bodies = pages.map(|(index, page)| {
        let header_bytes = if index == 0 { LONG_HEADER_BYTES } else { SHORT_HEADER_BYTES };
        page.get(header_bytes..).unwrap_or_default()
    });
    let stream = bodies.collect::<Vec<_>>().concat();
    let mut rest = stream.get(left.next_multiple_of(8)..).unwrap_or_default();
    let mut records = Vec::new();
    while let Some(header) = rest.first_chunk().map(RecordHeader::parse) {
        let bytes = header.total_bytes as usize;
        if bytes < RECORD_HEADER_BYTES || (22..128).contains(&header.manager) {
            break;
        }
        records.push(rest[..bytes.min(rest.len())].to_vec());
        if is_switch(&header) {
            break;
        }
        rest = rest.get(bytes.next_multiple_of(8)..).unwrap_or_default();
    }
    records
}

const fn is_switch(header: &RecordHeader) -> bool {
    header.manager == manager::XLOG && header.kind() == 0x40
}

const fn segment_size() -> SegmentSize {
    SegmentSize::new(START.0).expect("1 MiB is a size")
}

/// A log with the records of an input.
struct Forged {
    bytes: Vec<u8>,
    version: Version,
    page_bytes: usize,
    /// Where each record begins and ends.
    places: Vec<(Lsn, Lsn)>,
}

impl Forged {
    fn new(version: Version, records: &[Vec<u8>], page_bytes: usize) -> Self {
        let mut forged = Self { bytes: Vec::new(), version, page_bytes, places: Vec::new() };
        for record in records {
            forged.put(record);
        }
        forged
    }

    fn position(&self) -> Lsn {
        START.after(self.bytes.len() as u64)
    }

    /// A record, with what makes it fit where it is.
    fn put(&mut self, record: &[u8]) {
        if self.bytes.len().is_multiple_of(self.page_bytes) {
            self.page(0, 0);
        }
        let start = self.position();
        let previous = self.places.last().map_or(Lsn(START.0 - 8), |(start, _)| *start);
        let mut record = record.to_vec();
        let length = record.len() as u32;
        record[..4].copy_from_slice(&length.to_le_bytes());
        record[8..16].copy_from_slice(&previous.0.to_le_bytes());
        let (header, body) = record.split_at(RECORD_HEADER_BYTES);
        let sum = crc32c::crc32c_append(crc32c::crc32c(body), &header[..RECORD_HEADER_BYTES - 4]);
        record[RECORD_HEADER_BYTES - 4..][..4].copy_from_slice(&sum.to_le_bytes());
        self.spread(&record);
        let is_switch =
            record.first_chunk().map(RecordHeader::parse).is_some_and(|header| is_switch(&header));
        let end = if is_switch { segment_size().start_from(self.position()) } else { self.position() };
        self.places.push((start, end));
    }

    /// Bytes with the headers of the pages that they go through, and padding behind them.
    fn spread(&mut self, mut rest: &[u8]) {
        while !rest.is_empty() {
            if self.bytes.len().is_multiple_of(self.page_bytes) {
                self.page(1, rest.len() as u32);
            }
            let room = self.page_bytes - self.bytes.len() % self.page_bytes;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.bytes.extend(now);
            rest = later;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    fn page(&mut self, flags: u16, remaining: u32) {
        let at = self.position();
        let is_first = segment_size().start_of(at) == at;
        let flags = flags | if is_first { 2 } else { 0 };
        self.bytes.extend(self.version.page_magic().to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(1u32.to_le_bytes());
        self.bytes.extend(at.0.to_le_bytes());
        self.bytes.extend([remaining.to_le_bytes(), [0; 4]].concat());
        if is_first {
            self.bytes.extend(7u64.to_le_bytes());
            self.bytes.extend((START.0 as u32).to_le_bytes());
            self.bytes.extend((self.page_bytes as u32).to_le_bytes());
        }
    }

    fn read(&self, piece_bytes: usize, mut on_record: impl FnMut(&Record<'_>)) -> Lsn {
        let mut layout = Layout::new(TimelineHistory::first(TimelineId(1)), segment_size());
        layout.page_size = PageSize::new(self.page_bytes as u64).expect("a size of pages");
        let mut reader = WalReader::new(START, layout);
        for piece in self.bytes.chunks(piece_bytes) {
            reader.feed(piece, &mut on_record).expect("a log that fits goes on");
        }
        reader.finish().at
    }

    /// Reads every record, and says what somebody could want to get back to.
    fn read_back(&self) -> Vec<Wanted> {
        let (mut places, mut summary) = (Vec::new(), Summary::default());
        let mut wanted = vec![Wanted::Latest, Wanted::Immediate, Wanted::Lsn(START)];
        let end = self.read(61, |record| {
            places.push((record.start, record.end));
            let _ = summary.count(record);
            wanted.extend(record.meaning().ok().flatten().and_then(wanted_of));
        });
        assert_eq!(places, self.places);
        assert_eq!(Some(end), self.places.last().map(|(_, end)| *end));
        assert_eq!(summary.records, places.len() as u64);
        assert!(summary.commits + summary.aborts <= summary.records);
        wanted.truncate(WANTED_MAX - 1);
        wanted.push(Wanted::Lsn(places[places.len() / 2].0.after(1)));
        wanted
    }

    /// Whatever is wanted, the place that it means is one of a record, and means itself.
    fn resolve_all(&self, wanted: &[Wanted]) {
        let asked: Vec<_> = wanted
            .iter()
            .flat_map(|wanted| [(wanted.clone(), Edge::Inclusive), (wanted.clone(), Edge::Exclusive)])
            .collect();
        let found: Vec<Resolution> = self.resolve(&asked).into_iter().filter_map(what_can_be_had).collect();
        let again = found.iter().map(|found| {
            let edge = if found.inclusive { Edge::Inclusive } else { Edge::Exclusive };
            (Wanted::Lsn(found.stop), edge)
        });
        for (found, again) in found.iter().zip(self.resolve(&again.collect::<Vec<_>>())) {
            assert!(self.places.contains(&(found.stop, found.log_needed)), "{found:?}");
            let again = again.unwrap_or_else(|error| panic!("{found:?}: {error}"));
            assert_eq!(Resolution { reached: found.reached, ..again }, *found);
        }
    }

    fn resolve(&self, asked: &[(Wanted, Edge)]) -> Vec<Result<Resolution, TargetError>> {
        let replay = Replay { redo: START, consistent: START };
        let resolver = |(wanted, edge): &(Wanted, Edge)| Resolver::new(wanted.clone(), *edge, replay);
        let mut resolvers: Vec<_> = asked.iter().map(resolver).collect();
        let end = self.read(self.bytes.len(), |record| {
            for resolver in &mut resolvers {
                let _ = resolver.see(record);
            }
        });
        resolvers.into_iter().map(|resolver| resolver.finish(end)).collect()
    }
}

/// Every answer to a target has a place, also where it is only the nearest one.
fn what_can_be_had(answer: Result<Resolution, TargetError>) -> Option<Resolution> {
    match answer {
        Ok(resolution) => Some(resolution),
        Err(TargetError::NotReached { nearest, .. }) => Some(*nearest),
        Err(_) => None,
    }
}

fn wanted_of(meaning: Meaning) -> Option<Wanted> {
    match meaning {
        Meaning::Commit(end) if end.xid % 2 == 0 => Some(Wanted::Time(end.at)),
        Meaning::Commit(end) | Meaning::Abort(end) => Some(Wanted::Xid(u64::from(end.xid))),
        Meaning::RestorePoint { name, .. } => Some(Wanted::Name(name)),
        _ => None,
    }
}

/// Positions, timelines, system identifiers, names of segments, and histories of timelines: what is taken is
/// written as a text that means the same.
pub fn names(bytes: &[u8]) -> bool {
    let history = history(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return history };
    history
        | said_again::<Lsn>(text)
        | said_again::<TimelineId>(text)
        | said_again::<SystemId>(text)
        | segment(text)
}

fn said_again<T: FromStr<Err: std::fmt::Debug> + Display + PartialEq + std::fmt::Debug>(text: &str) -> bool {
    let Ok(said) = text.parse::<T>() else { return false };
    assert_eq!(said.to_string().parse::<T>().unwrap_or_else(|error| panic!("{said}: {error:?}")), said);
    true
}

/// The name of a segment of any size: it begins where one of that size can, and has one name.
fn segment(text: &str) -> bool {
    let sizes = (20..=30).filter_map(|power| SegmentSize::new(1 << power));
    let taken = sizes.filter(|size| {
        let Ok(name) = SegmentName::parse(text, *size) else { return false };
        assert_eq!(name.file_name(*size), text.to_ascii_uppercase());
        assert_eq!(SegmentName::of(name.timeline, name.start, *size), name);
        true
    });
    taken.count() > 0
}

/// A history: each position belongs to one timeline of it, and none begins before the one that it came from.
fn history(bytes: &[u8]) -> bool {
    let own = TimelineId(u32::MAX);
    let Ok(history) = TimelineHistory::parse(own, bytes) else { return false };
    assert_eq!(history.timeline_at(Lsn(u64::MAX)), own);
    let mut written = String::new();
    for switch in history.switches() {
        assert_eq!(history.end_of(switch.timeline), Some(switch.at));
        assert!(history.includes(switch.timeline) && history.timeline_at(switch.at) > switch.timeline);
        assert!(switch.at == Lsn::ZERO || history.timeline_at(Lsn(switch.at.0 - 1)) <= switch.timeline);
        written += &format!("{}\t{}\tno reason\n", switch.timeline, switch.at);
    }
    assert_eq!(TimelineHistory::parse(own, written.as_bytes()).as_ref(), Ok(&history));
    !history.switches().is_empty()
}
