//! A log in a directory, read as the program reads it.

use lifeboat_postgres_wal::{
    End, Layout, Lsn, Meaning, Record, RecordHeader, SegmentName, SegmentSize, TimelineHistory, TimelineId,
    WalReader,
};
use std::path::{Path, PathBuf};

/// A record, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) start: Lsn,
    pub(crate) end: Lsn,
    pub(crate) timeline: TimelineId,
    pub(crate) header: RecordHeader,
    pub(crate) meaning: Option<Meaning>,
}

impl Kept {
    fn of(record: &Record<'_>) -> Self {
        let meaning = record.meaning().unwrap_or_else(|error| panic!("{}: {error}", record.start));
        let &Record { start, end, timeline, header, .. } = record;
        Self { start, end, timeline, header, meaning }
    }
}

/// The segments of a log as files.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) directory: PathBuf,
    pub(crate) history: TimelineHistory,
    pub(crate) size: SegmentSize,
}

impl Log {
    pub(crate) fn new(directory: &Path, timeline: TimelineId, size: SegmentSize) -> Self {
        let file = directory.join(timeline.history_file_name());
        let history = match std::fs::read(file) {
            Ok(content) => TimelineHistory::parse(timeline, &content).unwrap(),
            Err(_) => TimelineHistory::first(timeline),
        };
        Self { directory: directory.to_owned(), history, size }
    }

    /// The file with the segment that begins here: the newest timeline's that has it.
    pub(crate) fn segment(&self, start: Lsn) -> Option<Vec<u8>> {
        let timeline = self.history.timeline_at(start.after(self.size.bytes() - 1));
        let name = SegmentName { timeline, start };
        std::fs::read(self.directory.join(name.file_name(self.size))).ok()
    }

    /// Where the first segment begins that is there.
    pub(crate) fn first(&self) -> Lsn {
        let names = std::fs::read_dir(&self.directory).unwrap().filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            SegmentName::parse(&name, self.size).ok().filter(|name| self.history.includes(name.timeline))
        });
        names.map(|name| name.start).min().unwrap()
    }

    pub(crate) fn reader(&self, start: Lsn) -> WalReader {
        WalReader::new(start, Layout::new(self.history.clone(), self.size))
    }

    /// Every record from the first segment on.
    pub(crate) fn records(&self) -> (Vec<Kept>, End) {
        self.records_cut(&mut || usize::MAX)
    }

    /// The same, given in pieces of such lengths.
    pub(crate) fn records_cut(&self, piece_bytes: &mut dyn FnMut() -> usize) -> (Vec<Kept>, End) {
        let mut records = Vec::new();
        let end = self.feed(self.first(), piece_bytes, |record| records.push(Kept::of(record)));
        (records, end)
    }

    /// Feeds a reader with all that is there.
    pub(crate) fn feed(
        &self,
        start: Lsn,
        piece_bytes: &mut dyn FnMut() -> usize,
        mut on_record: impl FnMut(&Record<'_>),
    ) -> End {
        let mut reader = self.reader(start);
        let mut at = start;
        while let Some(segment) = self.segment(at) {
            let mut rest = segment.as_slice();
            while !rest.is_empty() {
                let (piece, left) = rest.split_at(piece_bytes().clamp(1, rest.len()));
                if let Err(end) = reader.feed(piece, &mut on_record) {
                    return end;
                }
                rest = left;
            }
            at = at.after(self.size.bytes());
        }
        reader.finish()
    }
}
