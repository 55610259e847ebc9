//! The reader of a log: bytes in, in whatever pieces; whole and checked records out.
//!
//! ```text
//! pieces ──▶ pages (header, address, timeline) ──▶ records (length, previous, checksum) ──▶ Record
//!                     │ anything that does not fit                │
//!                     └──────────────▶ End { at, reason } ◀───────┘
//! ```
//!
//! Memory is bounded: of a record that means nothing here no byte is kept, only its checksum is carried along;
//! one that does is kept up to [`KEPT_BYTES_MAX`], and of a longer one its head. A record that lies whole in a
//! piece and in a page is not copied at all.
//!
//! It deliberately does not know what a record means, except that a switch fills its segment and that a
//! timeline begins with a record that says so.

use crate::end::{End, EndReason};
use crate::fields::u32_at;
use crate::history::TimelineHistory;
use crate::meaning::{self, Meaning};
use crate::page::{LONG_HEADER_BYTES, PageHeader, PageSize, SHORT_HEADER_BYTES, SegmentHeader, Version};
use crate::position::{Lsn, SegmentSize, SystemId, TimelineId};
use crate::record::{Body, MAX_RECORD_BYTES, RECORD_HEADER_BYTES, Record, RecordCrc, RecordHeader};

/// How much of one record is kept at most, in bytes: a commit with four million subtransactions fits.
pub const KEPT_BYTES_MAX: usize = 16 << 20;

/// What is kept of a record that is longer than that, in bytes: a prefix of a message, the time of a commit.
pub const KEPT_HEAD_BYTES: usize = 64 << 10;

/// Records begin at multiples of this.
const ALIGNMENT: u64 = 8;

/// Which log is read, and how it is laid out.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The timelines of the log, up to the one that is read.
    pub history: TimelineHistory,
    /// How long its segments are.
    pub segment_size: SegmentSize,
    /// How long its pages are.
    pub page_size: PageSize,
    /// Whose log it is; `None` takes the first one that is met, and then no other.
    pub system: Option<SystemId>,
}

impl Layout {
    /// A log with pages of the usual size, of whatever cluster.
    pub const fn new(history: TimelineHistory, segment_size: SegmentSize) -> Self {
        Self { history, segment_size, page_size: PageSize::DEFAULT, system: None }
    }
}

/// What the reader found next.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A record.
    Record(Record<'a>),
    /// All that was given is taken.
    NeedsMore,
    /// The log goes no further, whatever else is given.
    End(End),
}

/// What was read is not what the other timeline came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timeline {timeline} was read up to {position}, and timeline {next} did not come from that")]
pub struct Diverged {
    /// The timeline that was read.
    pub timeline: TimelineId,
    /// Up to where.
    pub position: Lsn,
    /// The timeline that was to be followed.
    pub next: TimelineId,
}

/// Where the reader is in the record that it reads.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Before the very first page: what it begins with may be the rest of an older record.
    Start,
    /// In the rest of a record that began before the reading did.
    Rest { left: u64 },
    /// Between two records.
    Between,
    /// In the header of a record.
    Header { start: Lsn },
    /// Behind the header of a record.
    Body { start: Lsn, header: RecordHeader, left: u64, crc: RecordCrc, keep: usize },
    /// Behind a switch, where nothing more is in the segment.
    Filler { until: Lsn },
}

/// A record that is whole, before its bytes are lent out.
struct Whole<'a> {
    start: Lsn,
    end: Lsn,
    header: RecordHeader,
    /// `None` where the bytes, if any, are the kept ones.
    body: Option<&'a [u8]>,
    version: Version,
}

/// How far a step came.
enum Progress<'a> {
    Whole(Whole<'a>),
    /// The piece is used up.
    Starved,
    Goes,
}

/// Reads a log from one place on. See the module's first lines.
#[derive(Debug)]
pub struct WalReader {
    layout: Layout,
    version: Option<Version>,
    /// Of the next byte that is taken.
    position: Lsn,
    state: State,
    /// The bytes of the header of a page, until it is whole.
    page: [u8; LONG_HEADER_BYTES],
    page_have: usize,
    /// The same for the header of a record.
    header: [u8; RECORD_HEADER_BYTES],
    header_have: usize,
    /// What is kept of the record that is being read.
    kept: Vec<u8>,
    /// Where the last whole record begins.
    last: Option<Lsn>,
    /// Where the next record would begin.
    complete: Lsn,
    /// The timeline at `complete`, and where it is left.
    timeline: TimelineId,
    timeline_ends: Lsn,
    /// The timeline that the records have to begin, having crossed the place where it branches off.
    awaits: Option<TimelineId>,
    ended: Option<End>,
}

impl WalReader {
    /// A reader of the log from `start` on: the beginning of a segment, or of any other page. The rest of a
    /// record that began before is skipped.
    pub fn new(start: Lsn, layout: Layout) -> Self {
        let mut reader = Self {
            version: None,
            position: start,
            state: State::Start,
            page: [0; LONG_HEADER_BYTES],
            page_have: 0,
            header: [0; RECORD_HEADER_BYTES],
            header_have: 0,
            kept: Vec::new(),
            last: None,
            complete: start,
            timeline: layout.history.timeline(),
            timeline_ends: Lsn(u64::MAX),
            awaits: None,
            ended: None,
            layout,
        };
        reader.enter_timeline(start);
        if !start.0.is_multiple_of(reader.layout.page_size.bytes()) {
            reader.ended = Some(End { at: start, reason: EndReason::NoBoundary });
        }
        reader
    }

    /// The position of the next byte that it takes.
    pub const fn position(&self) -> Lsn {
        self.position
    }

    /// Where the next record would begin: all before is whole and checked.
    pub const fn complete(&self) -> Lsn {
        self.complete
    }

    /// The version that wrote the log, once a page of it was seen.
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// Whose log it is, once the first page of a segment was seen, or where the reader was told.
    pub const fn system(&self) -> Option<SystemId> {
        self.layout.system
    }

    /// Goes on with a timeline that branched off: what is given next is of its log, from the same position on. A
    /// record that is only half read is finished there.
    ///
    /// # Errors
    /// Where more was read of the old timeline than the new one has of it. A new reader has to begin again.
    pub fn follow(&mut self, history: TimelineHistory) -> Result<(), Diverged> {
        let (timeline, next) = (self.timeline, history.timeline());
        let left = history.end_of(timeline).unwrap_or(Lsn(u64::MAX));
        if !history.includes(timeline) || self.position > left {
            return Err(Diverged { timeline, position: self.position, next });
        }
        self.layout.history = history;
        self.timeline_ends = left;
        Ok(())
    }

    /// Takes a piece of the log, and gives each record that it completes.
    ///
    /// # Errors
    /// Where the log ends. Later pieces end in the same way.
    pub fn feed(&mut self, mut piece: &[u8], mut on_record: impl FnMut(&Record<'_>)) -> Result<(), End> {
        loop {
            match self.next(&mut piece) {
                Step::Record(record) => on_record(&record),
                Step::NeedsMore => return Ok(()),
                Step::End(end) => return Err(end),
            }
        }
    }

    /// Takes from the front of a piece until a record is whole or nothing is left.
    pub fn next<'a, 'p: 'a>(&'a mut self, piece: &mut &'p [u8]) -> Step<'a> {
        if let Some(end) = self.ended {
            return Step::End(end);
        }
        let stepped = match self.advance(piece) {
            Ok(Some(whole)) => self.completed(&whole).map(|()| Some(whole)),
            other => other,
        };
        match stepped {
            Ok(Some(whole)) => Step::Record(self.lend(&whole)),
            Ok(None) => Step::NeedsMore,
            Err(reason) => Step::End(self.end(reason)),
        }
    }

    /// Says where the log ends when nothing more will be given.
    pub fn finish(self) -> End {
        let in_record = matches!(self.state, State::Rest { .. } | State::Header { .. } | State::Body { .. });
        let torn = in_record || self.page_have > 0;
        let reason = if torn { EndReason::Torn } else { EndReason::Exhausted };
        self.ended.unwrap_or(End { at: self.complete, reason })
    }

    fn end(&mut self, reason: EndReason) -> End {
        *self.ended.insert(End { at: self.complete, reason })
    }

    fn lend<'a>(&'a self, whole: &Whole<'a>) -> Record<'a> {
        let header = whole.header;
        let body_bytes = header.total_bytes as usize - RECORD_HEADER_BYTES;
        let body = match whole.body {
            _ if !meaning::is_of_interest(&header) => Body::Omitted,
            Some(body) => Body::Whole(body),
            None if self.kept.len() == body_bytes => Body::Whole(&self.kept),
            None => Body::Head(&self.kept),
        };
        let Whole { start, end, version, .. } = *whole;
        Record { start, end, timeline: self.timeline, version, header, body }
    }

    fn advance<'a>(&mut self, piece: &mut &'a [u8]) -> Result<Option<Whole<'a>>, EndReason> {
        loop {
            if let State::Filler { until } = self.state {
                if !self.fill(piece, until) {
                    return Ok(None);
                }
                continue;
            }
            if self.position.0.is_multiple_of(self.layout.page_size.bytes()) {
                if !self.take_page_header(piece)? {
                    return Ok(None);
                }
                continue;
            }
            let whole = match self.state {
                State::Start | State::Between => self.begin(piece),
                State::Rest { left } => self.skip_rest(piece, left),
                State::Header { start } => self.gather_header(piece, start)?,
                _ => self.take_body(piece)?,
            };
            match whole {
                Progress::Whole(whole) => return Ok(Some(whole)),
                Progress::Starved => return Ok(None),
                Progress::Goes => {}
            }
        }
    }

    /// How many bytes of the page are left. Only asked behind the header of a page.
    fn room(&self) -> usize {
        let page_bytes = self.layout.page_size.bytes();
        (page_bytes - (self.position.0 & (page_bytes - 1))) as usize
    }

    fn take<'a>(&mut self, piece: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = piece.split_at(count.min(piece.len()));
        *piece = rest;
        self.position = self.position.after(taken.len() as u64);
        taken
    }

    /// Takes what lies behind a switch. Whether it came to the end of it.
    fn fill(&mut self, piece: &mut &[u8], until: Lsn) -> bool {
        self.take(piece, usize::try_from(until.since(self.position)).unwrap_or(usize::MAX));
        let filled = self.position == until;
        if filled {
            self.state = State::Between;
        }
        filled
    }

    /// Takes the header of a page. Whether it is whole.
    fn take_page_header(&mut self, piece: &mut &[u8]) -> Result<bool, EndReason> {
        // The position stays at the beginning of the page until its header is whole.
        loop {
            let long = self.page_have >= SHORT_HEADER_BYTES && PageHeader::is_long(&self.page);
            let want = if long { LONG_HEADER_BYTES } else { SHORT_HEADER_BYTES };
            if self.page_have == want {
                break;
            }
            let (taken, rest) = piece.split_at(piece.len().min(want - self.page_have));
            if taken.is_empty() {
                return Ok(false);
            }
            self.page[self.page_have..][..taken.len()].copy_from_slice(taken);
            self.page_have += taken.len();
            *piece = rest;
        }
        let header = PageHeader::parse(&self.page[..self.page_have]).ok_or(EndReason::Torn)?;
        self.check_page(&header)?;
        self.begin_page(&header)?;
        self.position = self.position.after(self.page_have as u64);
        self.page_have = 0;
        Ok(true)
    }

    fn check_page(&mut self, header: &PageHeader) -> Result<(), EndReason> {
        let Some(found) = Version::of_magic(header.magic) else {
            return Err(match header.magic {
                0 => EndReason::Zeros,
                found => EndReason::PageMagic { found },
            });
        };
        let expected = *self.version.get_or_insert(found);
        if found != expected {
            return Err(EndReason::PageVersion { expected, found });
        }
        if header.has_unknown_flags() {
            return Err(EndReason::PageFlags { found: header.flags });
        }
        if header.address != self.position {
            return Err(EndReason::PageAddress { found: header.address });
        }
        match &header.segment {
            Some(segment) => self.check_segment(segment)?,
            None if self.layout.segment_size.start_of(self.position) == self.position => {
                return Err(EndReason::NoSegmentHeader);
            }
            None => {}
        }
        let expected = self.layout.history.timeline_at(self.position);
        if header.timeline != expected {
            return Err(EndReason::PageTimeline { expected, found: header.timeline });
        }
        Ok(())
    }

    fn check_segment(&mut self, segment: &SegmentHeader) -> Result<(), EndReason> {
        let expected = *self.layout.system.get_or_insert(segment.system);
        if segment.system != expected {
            return Err(EndReason::System { expected, found: segment.system });
        }
        let (segment_size, page_size) = (self.layout.segment_size, self.layout.page_size);
        if u64::from(segment.segment_bytes) != segment_size.bytes() {
            return Err(EndReason::SegmentSize { expected: segment_size, found: segment.segment_bytes });
        }
        if u64::from(segment.page_bytes) != page_size.bytes() {
            return Err(EndReason::PageSize { expected: page_size, found: segment.page_bytes });
        }
        Ok(())
    }

    /// Holds what a page says of its beginning against what was read before it.
    fn begin_page(&mut self, page: &PageHeader) -> Result<(), EndReason> {
        let left = match self.state {
            State::Start if page.continues() => u64::from(page.remaining),
            State::Start | State::Between | State::Filler { .. } => 0,
            State::Rest { left } | State::Body { left, .. } => left,
            // At least its length is there: records begin at multiples of eight bytes.
            State::Header { .. } => u64::from(self.length_of_header()) - self.header_have as u64,
        };
        if left > 0 && page.overwrites() {
            // A crash left only the beginning of that record, and the server went on behind it.
            self.state = State::Between;
            return Ok(());
        }
        match (left, page.continues()) {
            (0, false) => self.state = State::Between,
            (0, true) => return Err(EndReason::UnexpectedContinuation),
            (left, true) if u64::from(page.remaining) == left => {}
            _ => return Err(EndReason::NoContinuation),
        }
        if let State::Start = self.state {
            self.state = State::Rest { left };
        }
        Ok(())
    }

    /// What the header that is being gathered says of the record's length.
    fn length_of_header(&self) -> u32 {
        u32_at(&self.header, 0)
    }

    /// Begins a record, if the bytes for it are there.
    fn begin<'a>(&mut self, piece: &mut &'a [u8]) -> Progress<'a> {
        let padding = self.position.0.wrapping_neg() % ALIGNMENT;
        self.take(piece, padding as usize);
        if piece.is_empty() {
            return Progress::Starved;
        }
        if !self.position.0.is_multiple_of(self.layout.page_size.bytes()) {
            self.state = State::Header { start: self.position };
            self.header_have = 0;
        }
        Progress::Goes
    }

    fn skip_rest<'a>(&mut self, piece: &mut &'a [u8], left: u64) -> Progress<'a> {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(self.room());
        let left = left - self.take(piece, count).len() as u64;
        self.state = State::Rest { left };
        if left == 0 {
            self.state = State::Between;
            self.complete = aligned(self.position);
            self.enter_timeline(self.complete);
            return Progress::Goes;
        }
        if piece.is_empty() { Progress::Starved } else { Progress::Goes }
    }

    fn gather_header<'a>(&mut self, piece: &mut &'a [u8], start: Lsn) -> Result<Progress<'a>, EndReason> {
        let count = (RECORD_HEADER_BYTES - self.header_have).min(self.room());
        let taken = self.take(piece, count);
        self.header[self.header_have..][..taken.len()].copy_from_slice(taken);
        self.header_have += taken.len();
        if self.header_have >= size_of::<u32>() {
            check_length(self.length_of_header())?;
        }
        if self.header_have == RECORD_HEADER_BYTES {
            return self.headed(piece, start);
        }
        Ok(if piece.is_empty() { Progress::Starved } else { Progress::Goes })
    }

    /// Goes on behind a whole header. A body that lies in one piece is done with at once, without a copy.
    fn headed<'a>(&mut self, piece: &mut &'a [u8], start: Lsn) -> Result<Progress<'a>, EndReason> {
        let header = RecordHeader::parse(&self.header);
        self.check_header(&header, start)?;
        let body_bytes = header.total_bytes as usize - RECORD_HEADER_BYTES;
        if body_bytes <= piece.len() && body_bytes <= self.room_in_page() {
            let body = self.take(piece, body_bytes);
            let crc = RecordCrc::default().body(body);
            return self.whole(start, header, crc, Some(body)).map(Progress::Whole);
        }
        let keep = match body_bytes {
            _ if !meaning::is_of_interest(&header) => 0,
            0..=KEPT_BYTES_MAX => body_bytes,
            _ => KEPT_HEAD_BYTES,
        };
        self.kept.clear();
        self.kept.shrink_to(KEPT_HEAD_BYTES);
        let (left, crc) = (body_bytes as u64, RecordCrc::default());
        self.state = State::Body { start, header, left, crc, keep };
        Ok(Progress::Goes)
    }

    /// The same as `room`, also where a header ended its page: then there is none.
    fn room_in_page(&self) -> usize {
        if self.position.0.is_multiple_of(self.layout.page_size.bytes()) { 0 } else { self.room() }
    }

    fn take_body<'a>(&mut self, piece: &mut &'a [u8]) -> Result<Progress<'a>, EndReason> {
        let State::Body { start, header, left, crc, keep } = self.state else { return Ok(Progress::Goes) };
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(self.room());
        let taken = self.take(piece, count);
        let (left, crc) = (left - taken.len() as u64, crc.body(taken));
        let kept = taken.len().min(keep - self.kept.len());
        self.kept.extend_from_slice(&taken[..kept]);
        if left == 0 {
            return self.whole(start, header, crc, None).map(Progress::Whole);
        }
        self.state = State::Body { start, header, left, crc, keep };
        Ok(if piece.is_empty() { Progress::Starved } else { Progress::Goes })
    }

    fn check_header(&self, header: &RecordHeader, start: Lsn) -> Result<(), EndReason> {
        if !header.has_manager() {
            return Err(EndReason::Manager { found: header.manager });
        }
        let follows = self.last.map_or(header.previous < start, |last| header.previous == last);
        if follows { Ok(()) } else { Err(EndReason::Previous { found: header.previous }) }
    }

    /// Checks a record whose last byte was taken.
    fn whole<'a>(
        &mut self,
        start: Lsn,
        header: RecordHeader,
        crc: RecordCrc,
        body: Option<&'a [u8]>,
    ) -> Result<Whole<'a>, EndReason> {
        let computed = crc.finish(&self.header);
        if computed != header.crc {
            return Err(EndReason::Crc { stored: header.crc, computed });
        }
        let mut end = aligned(self.position);
        self.state = State::Between;
        if meaning::is_switch(&header) {
            end = self.layout.segment_size.start_from(end);
            self.state = State::Filler { until: end };
        }
        let version = self.version.ok_or(EndReason::NoBoundary)?;
        Ok(Whole { start, end, header, body, version })
    }

    /// Counts a record in, if it is of the timeline that it should be of.
    fn completed(&mut self, whole: &Whole<'_>) -> Result<(), EndReason> {
        if whole.start >= self.timeline_ends {
            self.enter_timeline(whole.start);
            self.awaits = Some(self.timeline);
        }
        if whole.end > self.timeline_ends {
            let expected = self.layout.history.timeline_at(self.timeline_ends);
            return Err(EndReason::NoTimelineSwitch { expected });
        }
        if let Some(expected) = self.awaits {
            self.check_first_of(expected, whole)?;
        }
        self.last = Some(whole.start);
        self.complete = whole.end;
        Ok(())
    }

    /// A timeline begins with a checkpoint or an end of recovery that names it; only two records, which say
    /// nothing of a timeline, may come before that.
    fn check_first_of(&mut self, expected: TimelineId, whole: &Whole<'_>) -> Result<(), EndReason> {
        let body = Body::Whole(whole.body.unwrap_or(&self.kept));
        let begun = match meaning::parse(&whole.header, body, whole.version) {
            Ok(Some(Meaning::OverwriteContinuation { .. } | Meaning::FullPageWrites { .. })) => return Ok(()),
            Ok(Some(Meaning::EndOfRecovery(end))) => end.timeline,
            Ok(Some(Meaning::Checkpoint(checkpoint))) if checkpoint.shutdown => checkpoint.timeline,
            _ => return Err(EndReason::NoTimelineSwitch { expected }),
        };
        if begun != expected {
            return Err(EndReason::NoTimelineSwitch { expected });
        }
        self.awaits = None;
        Ok(())
    }

    fn enter_timeline(&mut self, position: Lsn) {
        let history = &self.layout.history;
        self.timeline = history.timeline_at(position);
        self.timeline_ends = history.end_of(self.timeline).unwrap_or(Lsn(u64::MAX));
    }
}

/// Where the next record can begin.
const fn aligned(position: Lsn) -> Lsn {
    Lsn(position.after(ALIGNMENT - 1).0 & !(ALIGNMENT - 1))
}

fn check_length(found: u32) -> Result<(), EndReason> {
    match found {
        0 => Err(EndReason::Zeros),
        _ if (found as usize) < RECORD_HEADER_BYTES || found > MAX_RECORD_BYTES => {
            Err(EndReason::RecordLength { found })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
