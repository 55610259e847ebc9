//! What a server's archiver hands over, file by file: the way into the log where replication is not allowed.
//!
//! A finished segment, the last and incomplete one of a timeline that was left (`.partial`), the history of a
//! timeline and the label of a backup each become durable in the same log that a follower writes, so that a
//! restore does not know the difference. The archiver asks again after every failure, and sometimes after a
//! success that it did not see: what is there already is compared, and only what is missing is appended.
//!
//! Failpoints: `postgres::push-compared`, `postgres::push-appended`.

use crate::lineage::{self, WAL_KIND};
use crate::sink::{RepositoryLog, histories};
use lifeboat_base::clock::Clock;
use lifeboat_base::{Hint, failpoint};
use lifeboat_postgres_wal::{
    EndReason, HistoryError, Layout, Lsn, PageHeader, PageSize, SegmentName, SegmentSize, SystemId,
    TimelineHistory, TimelineId, Version, WalReader,
};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{
    Lineage, LogCatalogue, LogError, LogExtent, LogPayload, LogReader, LogSpan, LogWriter, Repository,
    RepositoryError,
};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much of a segment goes into one object at most, in bytes: a usual segment goes into one.
const PIECE_BYTES: u64 = 16 << 20;
/// The header of a segment, in bytes.
const HEADER_BYTES: usize = 40;
/// A history or a label of a backup is a few lines.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// What the payload of backup labels is called in the log container: units, whose position is the LSN of the
/// backup's start.
const LABEL_KIND: &str = "postgres-backup-label";

/// A file that was handed over and is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Whose it is.
    pub system: SystemId,
    /// Bytes that were not there before.
    pub appended: u64,
    /// Bytes that were there already, and equal.
    pub known: u64,
    /// Another cluster was kept under this dataset's name before, and this one begins a lineage of its own.
    pub new_cluster: bool,
    /// The log of the timeline that is missing before this file, if any is.
    pub hole: Option<(Lsn, Lsn)>,
}

/// A file that could not be handed over. Nothing says that it is durable: the archiver must keep it.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// No archiver hands over such a file.
    #[error("{} is named like nothing that an archiver hands over", .0.display())]
    Name(PathBuf),
    /// The operating system refused something.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was being done, in the present tense.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The content is not what the name says.
    #[error("{} {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A history that cannot be believed.
    #[error("read {}", path.display())]
    History {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: HistoryError,
    },
    /// The repository holds something else of the same name.
    #[error("{} differs from what the repository holds of {what}", path.display())]
    Differs {
        /// The file.
        path: PathBuf,
        /// Of what.
        what: String,
    },
    /// Nothing says whose file this is.
    #[error("no segment of the log lies beside {}, so that nobody can tell whose it is", .0.display())]
    Nobodys(PathBuf),
    /// The log in the repository failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl Hint for PushError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Log(error) => return error.hint(),
            Self::Repository(error) => return error.hint(),
            Self::Name(_) => "Set archive_command = 'lifeboat wal push %p --dataset NAME'.",
            Self::Io { .. } => "The path is relative to the data directory, where the archiver runs.",
            Self::Content { .. } | Self::History { .. } => {
                "PostgreSQL 15 to 18 with the usual log pages of 8 KiB are served; look at the file with pg_waldump."
            }
            Self::Differs { .. } => {
                "Two servers archive as one: a clone, or one that was set back. Nothing was appended; give the other one a dataset of its own."
            }
            Self::Nobodys(_) => "Push it where it lies, in pg_wal.",
        };
        Some(hint.to_owned())
    }
}

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Segment { partial: bool },
    History(TimelineId),
    Label { timeline: TimelineId },
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        let (stem, rest) = name.split_once('.').unwrap_or((name, ""));
        let is_hex = |text: &str, digits| {
            text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
        };
        let timeline = || {
            let number = u32::from_str_radix(stem.get(..8)?, 16).ok().filter(|number| *number > 0);
            number.map(TimelineId)
        };
        match rest.rsplit_once('.').unwrap_or(("", rest)) {
            ("", "") if is_hex(stem, 24) && !name.ends_with('.') => Some(Self::Segment { partial: false }),
            ("", "partial") if is_hex(stem, 24) => Some(Self::Segment { partial: true }),
            ("", "history") if is_hex(stem, 8) => timeline().map(Self::History),
            (offset, "backup") if is_hex(stem, 24) && is_hex(offset, 8) => {
                Some(Self::Label { timeline: timeline()? })
            }
            _ => None,
        }
    }
}

/// Makes a file of `pg_wal` durable in a dataset's log. The same file again is a success.
///
/// # Errors
/// Where it is not what its name says, where the repository holds something else of the same positions, and
/// where the repository fails. Then nobody may rely on it.
pub fn push(repository: &Arc<Repository>, dataset: &DatasetName, path: &Path) -> Result<Pushed, PushError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let kind = name.and_then(Kind::of).ok_or_else(|| PushError::Name(path.to_owned()))?;
    let push = Push { repository, dataset, path, name: name.unwrap_or_default() };
    match kind {
        Kind::Segment { partial } => push.segment(partial),
        Kind::History(timeline) => push.history(timeline),
        Kind::Label { timeline } => push.label(timeline),
    }
}

/// A file on its way.
struct Push<'p> {
    repository: &'p Arc<Repository>,
    dataset: &'p DatasetName,
    path: &'p Path,
    name: &'p str,
}

/// A segment whose header was believed.
struct Segment {
    file: File,
    name: SegmentName,
    size: SegmentSize,
    system: SystemId,
}

impl Push<'_> {
    fn segment(&self, partial: bool) -> Result<Pushed, PushError> {
        let segment = self.open_segment()?;
        let start = segment.name.start;
        let end = if partial { self.end_of_partial(&segment)? } else { start.after(segment.size.bytes()) };
        let lineage = lineage::of_timeline(segment.system, segment.name.timeline)?;
        // Of a log of a hundred thousand objects, those few count that hold these positions or end where they begin.
        let touches =
            |span: &LogSpan| span.lineage == lineage.as_str() && span.start <= end.0 && start.0 <= span.end;
        let (catalogue, names) = LogCatalogue::read_part(self.repository, self.dataset, &touches)?;
        let stretches = stretches_of(&catalogue, &lineage);
        let (known, missing) = divide(start.0..end.0, &stretches);
        for range in &known {
            self.compare(&segment, &catalogue, &lineage, range)?;
        }
        reach("postgres::push-compared")?;
        for range in &missing {
            self.append(&segment, &catalogue, &lineage, range)?;
        }
        let is_continued = stretches.iter().any(|stretch| stretch.start <= start.0 && start.0 <= stretch.end);
        let earlier = names.iter().filter(|span| span.lineage == lineage.as_str() && span.end < start.0);
        let before = earlier.map(|span| span.end).max().filter(|_| !is_continued);
        Ok(Pushed {
            system: segment.system,
            appended: missing.iter().map(length).sum(),
            known: known.iter().map(length).sum(),
            new_cluster: is_new_cluster(&names, segment.system),
            hole: before.map(|before| (Lsn(before), start)),
        })
    }

    /// Opens the segment and holds its header against its name.
    fn open_segment(&self) -> Result<Segment, PushError> {
        let file = File::open(self.path).map_err(self.io("open"))?;
        let length = file.metadata().map_err(self.io("look at"))?.len();
        let header = read_header(&file).map_err(self.io("read"))?;
        let header = header.ok_or_else(|| self.content("does not begin with the header of a segment"))?;
        let Some(said) = header.segment.filter(|_| Version::of_magic(header.magic).is_some()) else {
            return Err(self.content(format!(
                "begins with {:#06X}, as no segment of PostgreSQL 15 to 18 does",
                header.magic
            )));
        };
        let size = SegmentSize::new(u64::from(said.segment_bytes)).filter(|size| size.bytes() == length);
        let size = size.ok_or_else(|| {
            self.content(format!("has {length} bytes and says that a segment has {}", said.segment_bytes))
        })?;
        if u64::from(said.page_bytes) != PageSize::DEFAULT.bytes() {
            return Err(
                self.content(format!("has log pages of {} bytes, which are not served", said.page_bytes))
            );
        }
        let stem = self.name.split('.').next().unwrap_or_default();
        let name = SegmentName::parse(stem, size).map_err(|error| self.content(format!("({error})")))?;
        if header.address != name.start {
            let said = SegmentName::of(name.timeline, header.address, size).file_name(size);
            return Err(self.content(format!("says of itself that it is {said}")));
        }
        // The first segment of a timeline begins with pages of the one that was left.
        if header.timeline > name.timeline {
            return Err(self.content(format!("begins with a page of timeline {}", header.timeline)));
        }
        Ok(Segment { file, name, size, system: said.system })
    }

    /// Where the last whole record of a segment ends: what follows is left over from an earlier use of the file.
    fn end_of_partial(&self, segment: &Segment) -> Result<Lsn, PushError> {
        let timeline = segment.name.timeline;
        let kept = histories(self.repository, self.dataset, segment.system)?;
        let history = match kept.get(&timeline) {
            Some(kept) => kept.history.clone(),
            None => self.history_beside(timeline)?,
        };
        let mut reader = WalReader::new(segment.name.start, Layout::new(history, segment.size));
        let mut offset = 0;
        while offset < segment.size.bytes() {
            let bytes = self.read(segment, offset..segment.size.bytes().min(offset + PIECE_BYTES))?;
            if reader.feed(&bytes, |_| {}).is_err() {
                break;
            }
            offset += bytes.len() as u64;
        }
        let end = reader.finish();
        let is_ordinary = end.reason.is_ordinary() || matches!(end.reason, EndReason::Exhausted);
        if is_ordinary { Ok(end.at) } else { Err(self.content(format!("cannot be read: {end}"))) }
    }

    fn history_beside(&self, timeline: TimelineId) -> Result<TimelineHistory, PushError> {
        let path = self.path.with_file_name(timeline.history_file_name());
        match std::fs::read(&path) {
            Ok(content) => TimelineHistory::parse(timeline, &content)
                .map_err(|source| PushError::History { path: path.clone(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(TimelineHistory::first(timeline)),
            Err(source) => Err(PushError::Io { operation: "read", path, source }),
        }
    }

    /// Whether the repository holds the same.
    fn compare(
        &self,
        segment: &Segment,
        catalogue: &LogCatalogue,
        lineage: &Lineage,
        range: &Range<u64>,
    ) -> Result<(), PushError> {
        for piece in LogReader::over(catalogue.clone(), lineage, range.clone()) {
            let piece = piece?;
            let from = Lsn(piece.start).since(segment.name.start);
            let bytes = self.read(segment, from..from + (piece.end - piece.start))?;
            let LogPayload::Bytes(kept) = piece.payload else {
                return Err(self.differs(format!("lineage {lineage}: {}", piece.kind)));
            };
            if let Some(at) = kept.iter().zip(&bytes).position(|(kept, byte)| kept != byte) {
                let at = Lsn(piece.start).after(at as u64);
                return Err(self.differs(format!("timeline {}, from {at} on", segment.name.timeline)));
            }
        }
        Ok(())
    }

    fn append(
        &self,
        segment: &Segment,
        catalogue: &LogCatalogue,
        lineage: &Lineage,
        range: &Range<u64>,
    ) -> Result<(), PushError> {
        let signer = self.repository.writer()?;
        let mut writer = LogWriter::open_in(catalogue, &signer, lineage, range.start)?;
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + PIECE_BYTES);
            let from = Lsn(start).since(segment.name.start);
            let bytes = self.read(segment, from..from + (end - start))?;
            let now = Clock::System.now();
            let extent = LogExtent { start, end, first: now, last: now };
            writer.append(extent, WAL_KIND, &LogPayload::Bytes(bytes))?;
            reach("postgres::push-appended")?;
            start = end;
        }
        Ok(())
    }

    fn history(&self, timeline: TimelineId) -> Result<Pushed, PushError> {
        let content = self.text()?;
        TimelineHistory::parse(timeline, &content)
            .map_err(|source| PushError::History { path: self.path.to_owned(), source })?;
        let system = self.system_beside()?;
        let (_, names) = LogCatalogue::read_part(self.repository, self.dataset, &|_| false)?;
        let kept = histories(self.repository, self.dataset, system)?;
        let known = match kept.get(&timeline) {
            Some(kept) if kept.content == content => true,
            Some(_) => return Err(self.differs(format!("the history of timeline {timeline}"))),
            None => false,
        };
        if !known {
            let mut log = RepositoryLog::new(self.repository, self.dataset, system);
            log.keep_history(timeline, &content, Clock::System.now())?;
        }
        Ok(pushed_text(&names, system, &content, known))
    }

    /// The label of a backup that somebody took: for people, and kept as it is.
    fn label(&self, timeline: TimelineId) -> Result<Pushed, PushError> {
        let content = self.text()?;
        let (system, size) = self.segment_beside()?;
        let mut parts = self.name.split('.');
        let segment = parts.next().unwrap_or_default();
        let segment =
            SegmentName::parse(segment, size).map_err(|error| self.content(format!("({error})")))?;
        let offset = parts.next().and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default();
        let position = segment.start.after(offset).0;
        let lineage = Lineage::new(&format!("{system}-{timeline}-backups"))?;
        let of_labels = |span: &LogSpan| span.lineage == lineage.as_str();
        let (catalogue, names) = LogCatalogue::read_part(self.repository, self.dataset, &of_labels)?;
        let payload = LogPayload::Units(vec![content.clone()]);
        let (known, _) = divide(position..position + 1, &stretches_of(&catalogue, &lineage));
        for piece in
            known.iter().flat_map(|range| LogReader::over(catalogue.clone(), &lineage, range.clone()))
        {
            if piece?.payload != payload {
                return Err(self.differs(format!("the backup at {}", Lsn(position))));
            }
        }
        if known.is_empty() {
            let signer = self.repository.writer()?;
            let mut writer = LogWriter::open_in(&catalogue, &signer, &lineage, position)?;
            let now = Clock::System.now();
            let extent = LogExtent { start: position, end: position + 1, first: now, last: now };
            writer.append(extent, LABEL_KIND, &payload)?;
        }
        Ok(pushed_text(&names, system, &content, !known.is_empty()))
    }

    /// The cluster whose log lies in the same folder: a history does not say whose it is.
    fn system_beside(&self) -> Result<SystemId, PushError> {
        self.segment_beside().map(|(system, _)| system)
    }

    fn segment_beside(&self) -> Result<(SystemId, SegmentSize), PushError> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let listing = std::fs::read_dir(folder).map_err(self.io("list the folder of"))?;
        let segments = listing.flatten().filter(|entry| {
            entry.file_name().to_str().and_then(Kind::of).is_some_and(|k| matches!(k, Kind::Segment { .. }))
        });
        let said = |entry: std::fs::DirEntry| {
            let header = read_header(&File::open(entry.path()).ok()?).ok()??;
            Version::of_magic(header.magic)?;
            let said = header.segment?;
            Some((said.system, SegmentSize::new(u64::from(said.segment_bytes))?))
        };
        segments.into_iter().find_map(said).ok_or_else(|| PushError::Nobodys(self.path.to_owned()))
    }

    fn text(&self) -> Result<Vec<u8>, PushError> {
        let length = std::fs::metadata(self.path).map_err(self.io("look at"))?.len();
        if length > MAX_TEXT_BYTES {
            return Err(self.content(format!("has {length} bytes, and is a few lines of text elsewhere")));
        }
        std::fs::read(self.path).map_err(self.io("read"))
    }

    fn read(&self, segment: &Segment, range: Range<u64>) -> Result<Vec<u8>, PushError> {
        let mut bytes = vec![0; length(&range) as usize];
        segment.file.read_exact_at(&mut bytes, range.start).map_err(self.io("read"))?;
        Ok(bytes)
    }

    fn io(&self, operation: &'static str) -> impl Fn(io::Error) -> PushError {
        let path = self.path.to_owned();
        move |source| PushError::Io { operation, path: path.clone(), source }
    }

    fn content(&self, what: impl Into<String>) -> PushError {
        PushError::Content { path: self.path.to_owned(), what: what.into() }
    }

    fn differs(&self, what: String) -> PushError {
        PushError::Differs { path: self.path.to_owned(), what }
    }
}

fn pushed_text(names: &[LogSpan], system: SystemId, content: &[u8], is_known: bool) -> Pushed {
    let bytes = content.len() as u64;
    let (appended, known) = if is_known { (0, bytes) } else { (bytes, 0) };
    Pushed { system, appended, known, new_cluster: is_new_cluster(names, system), hole: None }
}

/// The header that a file begins with; `None` where it is too short for one.
fn read_header(file: &File) -> io::Result<Option<PageHeader>> {
    let mut bytes = [0; HEADER_BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(PageHeader::parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether other clusters were kept under the dataset's name, and this one never.
fn is_new_cluster(names: &[LogSpan], system: SystemId) -> bool {
    let mut systems = names.iter().filter_map(|span| lineage::parse(&span.lineage)).map(|(of, _)| of);
    let mut any = false;
    let known = systems.by_ref().inspect(|_| any = true).any(|of| of == system);
    any && !known
}

pub(crate) fn stretches_of(catalogue: &LogCatalogue, lineage: &Lineage) -> Vec<LogExtent> {
    let log = catalogue.lineages().into_iter().find(|log| log.lineage == *lineage);
    log.map(|log| log.stretches).unwrap_or_default()
}

/// What of a range is there, and what is missing, both ascending.
pub(crate) fn divide(range: Range<u64>, stretches: &[LogExtent]) -> (Vec<Range<u64>>, Vec<Range<u64>>) {
    let (mut known, mut missing, mut position) = (Vec::new(), Vec::new(), range.start);
    for stretch in stretches.iter().filter(|s| s.end > range.start && s.start < range.end) {
        let (from, to) = (stretch.start.max(position), stretch.end.min(range.end));
        if position < from {
            missing.push(position..from);
        }
        if from < to {
            known.push(from..to);
        }
        position = position.max(to);
    }
    if position < range.end {
        missing.push(position..range.end);
    }
    (known, missing)
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

fn reach(moment: &'static str) -> Result<(), LogError> {
    failpoint::reach(moment).map_err(|error| RepositoryError::Io("push", error).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_base::clock::Timestamp;
    use proptest::prelude::*;

    #[test]
    fn files_are_told_by_their_names() {
        let one = TimelineId(1);
        for (name, kind) in [
            ("000000010000000000000001", Some(Kind::Segment { partial: false })),
            ("000000010000000000000001.partial", Some(Kind::Segment { partial: true })),
            ("0000001A.history", Some(Kind::History(TimelineId(26)))),
            ("000000010000000000000002.00000028.backup", Some(Kind::Label { timeline: one })),
            ("000000010000000000000001.", None),
            ("000000010000000000000001.gz", None),
            ("00000001000000000000000g", None),
            ("00000001000000000000000a", None),
            ("00000000.history", None),
            ("00000001.00000002.history", None),
            ("000000010000000000000002.backup", None),
            ("", None),
        ] {
            assert_eq!(Kind::of(name), kind, "{name}");
        }
    }

    fn extents(stretches: &[(u64, u64)]) -> Vec<LogExtent> {
        let now = Timestamp::default();
        stretches
            .iter()
            .map(|(start, end)| LogExtent { start: *start, end: *end, first: now, last: now })
            .collect()
    }

    #[test]
    #[expect(clippy::single_range_in_vec_init, reason = "lists of ranges, some of one")]
    fn what_is_there_is_divided_from_what_is_missing() {
        let of = |stretches: &[(u64, u64)]| divide(10..20, &extents(stretches));
        assert_eq!(of(&[]), (vec![], vec![10..20]));
        assert_eq!(of(&[(0, 10), (20, 30)]), (vec![], vec![10..20]));
        assert_eq!(of(&[(0, 13)]), (vec![10..13], vec![13..20]));
        assert_eq!(of(&[(5, 12), (14, 15), (18, 40)]), (vec![10..12, 14..15, 18..20], vec![12..14, 15..18]));
        assert_eq!(of(&[(0, 40)]), (vec![10..20], vec![]));
    }

    proptest! {
        #[test]
        fn the_two_parts_are_the_whole(cuts in proptest::collection::btree_set(0u64..60, 0..8), from in 0u64..50, length in 1u64..20) {
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let stretches: Vec<(u64, u64)> = cuts.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
            let (known, missing) = divide(from..from + length, &extents(&stretches));
            let mut all: Vec<Range<u64>> = known.iter().chain(&missing).cloned().collect();
            all.sort_by_key(|range| range.start);
            let mut position = from;
            for range in &all {
                prop_assert_eq!(range.start, position);
                position = range.end;
            }
            prop_assert_eq!(position, from + length);
            for range in &known {
                prop_assert!(stretches.iter().any(|(start, end)| *start <= range.start && range.end <= *end));
            }
        }

        #[test]
        fn no_name_makes_it_panic(name in ".{0,60}") {
            let _ = Kind::of(&name);
        }
    }
}
