//! A cluster in PostgreSQL's own plain forms, for whoever goes on without Lifeboat.
//!
//! A directory or archives, as `pg_basebackup` makes them: the files of the snapshot exactly as they were, and in
//! `pg_wal` the log up to the point that was asked for. No setting is added. A server that is started there
//! replays what lies in `pg_wal` and goes on in the same timeline, which is why the log ends at the point. Or the
//! log itself, as `pg_receivewal` leaves it.
//!
//! The manifest is written last: where it is missing, the export was not finished.
//!
//! Failpoints: `export::before-log`, `export::before-log-archive`, `export::before-manifest`.

use super::tar::{Member, TarWriter};
use super::{
    ClusterOptions, LogPlace, Owner, PlacedTablespace, TABLESPACES, check_room, inside, place, sync,
};
use crate::error::{RecoveryError, Result};
use crate::restore::{check_empty, check_writable, nearest};
use crate::threads;
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::{crashsafe, failpoint};
use lifeboat_postgres_wal::{
    Lsn, PageHeader, SegmentName, SegmentSize, SystemId, TimelineHistory, TimelineId,
};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::tree::{Entry, EntryKind, FileTime, Metadata};
use lifeboat_repository::{Descend, LogCatalogue, LogError, Reader, Repository};
use lifeboat_store::materialise::Report;
use lifeboat_store::progress::Progress;
use lifeboat_store_postgres::{Leg, PostgresStoreError, RecoveryPath, WalSource, histories, legs, lineage};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What the manifest of a base backup is called.
const MANIFEST: &str = "backup_manifest";
/// What a server copies last, and so does everybody who makes a backup.
const CONTROL_FILE: &[u8] = b"global/pg_control";
/// The header of a segment, in bytes.
const SEGMENT_HEADER_BYTES: u64 = 40;
/// How large a manifest may be to be believed, in bytes: it is kept in memory, with 200 bytes a file.
const MAX_MANIFEST_BYTES: u64 = 1 << 30;

/// The form of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClusterFormat {
    /// A data directory, as `pg_basebackup --format=plain --wal-method=fetch` makes it.
    #[default]
    Directory,
    /// `base.tar`, `pg_wal.tar` and an archive for each tablespace, as `pg_basebackup --format=tar` makes them.
    Tar,
}

/// How a cluster is exported.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// The form.
    pub format: ClusterFormat,
    /// Export into a place that holds something.
    pub force: bool,
    /// For a directory: where tablespaces go, by their number or their old place; the others go beside it.
    pub tablespaces: Vec<(String, PathBuf)>,
}

/// What was exported.
#[derive(Debug)]
pub struct ExportedCluster {
    /// Files and bytes, and what could not be exported. Of archives, their members.
    pub report: Report,
    /// The archives, in the order in which they were written.
    pub archives: Vec<PathBuf>,
    /// For a directory: where tablespaces are.
    pub tablespaces: Vec<PlacedTablespace>,
    /// Where a server ends that is started there as it is.
    pub ends_at: Lsn,
    /// Its timeline, in which it goes on.
    pub timeline: TimelineId,
    /// Bytes of log.
    pub wal_bytes: u64,
    /// What a person should know.
    pub notes: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Exports a point of a cluster.
///
/// # Errors
/// Before anything is written: where the place is not empty, cannot be written to or has no room, or where the
/// point lies on another timeline than its snapshot. After: where the repository cannot be read or the place takes
/// nothing more.
pub fn export_cluster(
    reader: &Reader,
    path: &RecoveryPath,
    into: &Path,
    options: &ExportOptions,
    progress: &Progress,
) -> Result<ExportedCluster> {
    let watch = Stopwatch::start();
    let into = &std::path::absolute(into).map_err(RecoveryError::io("resolve", into))?;
    let export = Export { reader, path, into, leg: plain_leg(path)?, progress };
    let mut exported = match options.format {
        ClusterFormat::Directory => export.directory(options)?,
        ClusterFormat::Tar => export.archives(options)?,
    };
    if reader.entry(&path.snapshot.snapshot, b"standby.signal")?.is_some() {
        exported
            .notes
            .push("the snapshot is of a standby: remove standby.signal to start it as a primary".to_owned());
    }
    for space in &path.later_tablespaces {
        exported.notes.push(format!(
            "the log makes tablespace {} at {}: a server that is started on this writes there",
            space.oid, space.location
        ));
    }
    exported.took = watch.elapsed();
    Ok(exported)
}

/// The log that a server replays which is told nothing: all that is there, of its own timeline. So it ends where
/// the point is.
fn plain_leg(path: &RecoveryPath) -> Result<Leg> {
    let resolution = &path.resolution;
    let way = legs(&path.facts, &path.history, plain_end(path)).unwrap_or_default();
    match <[Leg; 1]>::try_from(way) {
        Ok([leg]) => Ok(leg),
        Err(_) => {
            Err(RecoveryError::LaterTimeline { snapshot: path.facts.timeline, point: resolution.timeline })
        }
    }
}

/// A segment that was switched away from is empty behind the switch, and need not be there to its end: the log
/// that is there bounds what is asked for.
fn plain_end(path: &RecoveryPath) -> Lsn {
    let resolution = &path.resolution;
    let end = if resolution.inclusive { resolution.log_needed } else { resolution.stop };
    let there = path.legs.last().map_or(end, |leg| Lsn(leg.positions.end));
    end.max(path.facts.stop).min(there)
}

struct Export<'e> {
    reader: &'e Reader,
    path: &'e RecoveryPath,
    into: &'e Path,
    leg: Leg,
    progress: &'e Progress,
}

impl Export<'_> {
    fn exported(&self) -> ExportedCluster {
        ExportedCluster {
            report: Report::default(),
            archives: Vec::new(),
            tablespaces: Vec::new(),
            ends_at: Lsn(self.leg.positions.end),
            timeline: self.leg.timeline,
            wal_bytes: self.leg.positions.end - self.leg.positions.start,
            notes: Vec::new(),
            took: Duration::ZERO,
        }
    }

    fn source(&self) -> Result<WalSource> {
        let (facts, dataset) = (&self.path.facts, &self.path.snapshot.snapshot.position.dataset);
        Ok(WalSource::open(self.reader.repository(), dataset, facts.system, facts.segment)?)
    }

    /// The history of the timeline, if it has one: a server looks for it also where it follows no other.
    fn histories(&self) -> impl Iterator<Item = &(TimelineId, Vec<u8>)> {
        self.path.history_files.iter().filter(|(timeline, _)| *timeline <= self.leg.timeline)
    }

    fn directory(&self, options: &ExportOptions) -> Result<ExportedCluster> {
        let placing = ClusterOptions {
            force: options.force,
            tablespaces: options.tablespaces.clone(),
            ..ClusterOptions::default()
        };
        let restored = place(self.reader, self.path, self.into, &placing, self.progress)?;
        reach("export::before-log")?;
        self.log_into_directory()?;
        for placed in &restored.tablespaces {
            sync(&placed.place)?;
        }
        sync(self.into)?;
        let (report, tablespaces) = (restored.report, restored.tablespaces);
        Ok(ExportedCluster { report, tablespaces, ..self.exported() })
    }

    fn log_into_directory(&self) -> Result<()> {
        let (wal, owner) = (self.into.join("pg_wal"), Owner::of(self.into)?);
        let status = wal.join("archive_status");
        fs::create_dir_all(&status).map_err(RecoveryError::io("create", &status))?;
        self.source()?.write_segments(std::slice::from_ref(&self.leg), &wal, threads())?;
        for (timeline, content) in self.histories() {
            crashsafe::replace(&wal.join(timeline.history_file_name()), content)?;
        }
        for entry in fs::read_dir(&wal).map_err(RecoveryError::io("list", &wal))? {
            let entry = entry.map_err(RecoveryError::io("list", &wal))?;
            owner.give(&entry.path())?;
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                // What lies here was archived: a server that archives does not do so again.
                let done = status.join(done(&entry.file_name().to_string_lossy()));
                File::create(&done).map_err(RecoveryError::io("create", &done))?;
                owner.give(&done)?;
            }
        }
        owner.give(&wal)
    }

    fn archives(&self, options: &ExportOptions) -> Result<ExportedCluster> {
        let snapshot = &self.path.snapshot.snapshot;
        let manifest = self.manifest()?;
        check_empty(self.into, options.force)?;
        check_writable(self.into)?;
        check_room(self.path, self.into, &LogPlace::Inside)?;
        crashsafe::create_dir_all(self.into)?;
        let mut exported = self.exported();
        // One that was there is of something else from here on.
        crashsafe::remove(&self.into.join(MANIFEST))?;
        for space in &self.path.facts.tablespaces {
            let below = inside(space.oid).into_bytes();
            let mut tar = self.tar(&format!("{}.tar", space.oid))?;
            self.walk(&below, &mut tar, &mut exported.report)?;
            exported.add(tar)?;
        }
        let mut tar = self.tar("base.tar")?;
        self.walk(b"", &mut tar, &mut exported.report)?;
        exported.add(tar)?;
        reach("export::before-log-archive")?;
        let mut tar = self.tar("pg_wal.tar")?;
        self.log_into_tar(&mut tar, &snapshot.root_metadata)?;
        exported.add(tar)?;
        crashsafe::sync_directory(self.into)?;
        reach("export::before-manifest")?;
        if let Some(manifest) = manifest {
            crashsafe::replace(&self.into.join(MANIFEST), &manifest)?;
        }
        Ok(exported)
    }

    fn tar(&self, name: &str) -> Result<TarWriter<'_>> {
        TarWriter::create(self.into.join(name), self.reader, self.progress)
    }

    /// The manifest of the backup, whole.
    fn manifest(&self) -> Result<Option<Vec<u8>>> {
        let Some(entry) = self.reader.entry(&self.path.snapshot.snapshot, MANIFEST.as_bytes())? else {
            return Ok(None);
        };
        if entry.size > MAX_MANIFEST_BYTES {
            return Err(RecoveryError::UnfitForTar(MANIFEST.to_owned()));
        }
        whole(self.reader, &entry).map(Some)
    }

    /// Writes the snapshot's tree, or what lies below one folder of it, into an archive.
    fn walk(&self, below: &[u8], tar: &mut TarWriter<'_>, report: &mut Report) -> Result<()> {
        let mut control = None;
        self.reader.walk(&self.path.snapshot.snapshot, &mut |directory: &[u8], entry: &Entry| {
            let path = join(directory, &entry.name);
            let Some(name) = within(&path, below) else {
                let leads_there = below.starts_with(&path);
                return Ok::<_, RecoveryError>(if leads_there { Descend::Yes } else { Descend::No });
            };
            if let Some(target) = self.tablespace_at(name) {
                self.link(tar, name, &target, &entry.metadata)?;
                return Ok(Descend::No);
            }
            match entry.kind {
                EntryKind::File if name == CONTROL_FILE => control = Some(entry.clone()),
                EntryKind::File if name == MANIFEST.as_bytes() => {}
                EntryKind::Directory => {
                    report.directories += 1;
                    tar.entry(name, entry)?;
                }
                _ => self.file(tar, name, entry, report)?,
            }
            Ok(Descend::Yes)
        })?;
        match control {
            Some(control) => self.file(tar, CONTROL_FILE, &control, report),
            None => Ok(()),
        }
    }

    fn file(&self, tar: &mut TarWriter<'_>, name: &[u8], entry: &Entry, report: &mut Report) -> Result<()> {
        report.files += 1;
        report.bytes += entry.size;
        tar.entry(name, entry)
    }

    /// Where the tablespace lay whose folder this is.
    fn tablespace_at(&self, name: &[u8]) -> Option<String> {
        let spaces = &self.path.facts.tablespaces;
        let space = spaces.iter().find(|space| inside(space.oid).as_bytes() == name)?;
        Some(space.location.clone())
    }

    fn link(&self, tar: &mut TarWriter<'_>, name: &[u8], target: &str, metadata: &Metadata) -> Result<()> {
        let metadata = Metadata { mode: 0o777, ..metadata.clone() };
        let kind = EntryKind::Symlink;
        tar.begin(&Member { path: name, kind, metadata: &metadata, size: 0, target: target.as_bytes() })
    }

    fn log_into_tar(&self, tar: &mut TarWriter<'_>, root: &Metadata) -> Result<()> {
        let taken = FileTime { secs: self.path.snapshot.snapshot.taken.as_secs(), nanos: 0 };
        let metadata = Metadata { mode: 0o600, modified: taken, ..root.clone() };
        let segment = self.path.facts.segment;
        let mut names = Vec::new();
        for (timeline, content) in self.histories() {
            names.push(timeline.history_file_name());
            text_into_tar(tar, &timeline.history_file_name(), content, &metadata)?;
        }
        let mut sink = TarSink { tar, metadata: &metadata, segment, names: &mut names, failure: None };
        let cut = cut_segments(&self.source()?, &self.leg, segment, &mut sink);
        // A failure of the archive is more than that the log could not be visited.
        if let Some(failure) = sink.failure.take() {
            return Err(failure);
        }
        cut?;
        for name in names {
            text_into_tar(tar, &format!("archive_status/{}", done(&name)), b"", &metadata)?;
        }
        Ok(())
    }
}

impl ExportedCluster {
    fn add(&mut self, tar: TarWriter<'_>) -> Result<()> {
        self.archives.push(tar.path().to_owned());
        tar.finish().map(|_| ())
    }
}

fn text_into_tar(tar: &mut TarWriter<'_>, name: &str, text: &[u8], metadata: &Metadata) -> Result<()> {
    let (path, size) = (name.as_bytes(), text.len() as u64);
    tar.begin(&Member { path, kind: EntryKind::File, metadata, size, target: b"" })?;
    tar.bytes(text)?;
    tar.pad()
}

fn done(name: &str) -> String {
    format!("{name}.done")
}

/// A small file, whole.
fn whole(reader: &Reader, entry: &Entry) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(entry.size).unwrap_or(usize::MAX)];
    let (mut requests, mut places) = (Vec::new(), Vec::new());
    reader.pieces(entry, &mut |piece| {
        let token = places.len() as u64;
        places.push(piece.offset as usize);
        requests.push(lifeboat_repository::Request { source: piece.source, length: piece.length, token });
        Ok::<_, RecoveryError>(())
    })?;
    let filled = std::sync::Mutex::new(&mut bytes);
    reader.fetch(requests, threads(), &|token, piece| {
        let mut filled = filled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let place = places.get(token as usize).copied().unwrap_or(usize::MAX);
        let room = filled.get_mut(place..).and_then(|rest| rest.get_mut(..piece.len()));
        room.ok_or("more was delivered than was requested")?.copy_from_slice(piece);
        Ok(())
    })?;
    Ok(bytes)
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

/// A path relative to a folder, where it lies below it.
fn within<'p>(path: &'p [u8], below: &[u8]) -> Option<&'p [u8]> {
    if below.is_empty() { Some(path) } else { path.strip_prefix(below)?.strip_prefix(b"/") }
}

/// What takes a log segment by segment.
trait SegmentSink {
    /// A segment begins; `whole` says whether all of it will come.
    fn begin(&mut self, name: SegmentName, whole: bool) -> io::Result<()>;
    /// The next bytes of it.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// It is as whole as it will be: the rest of it is zeros.
    fn end(&mut self, missing: u64) -> io::Result<()>;
}

/// Reads a run of log, which begins with a segment, and cuts it into segments.
fn cut_segments(
    source: &WalSource,
    leg: &Leg,
    size: SegmentSize,
    sink: &mut dyn SegmentSink,
) -> Result<(), PostgresStoreError> {
    let failed = |source| PostgresStoreError::Io {
        operation: "write the log as",
        path: SegmentName::of(leg.timeline, Lsn(leg.positions.start), size).file_name(size).into(),
        source,
    };
    let mut open = None;
    source.read(leg, &mut |start, bytes| {
        cut(leg, size, start, bytes, &mut open, sink).map_err(failed)?;
        Ok(true)
    })?;
    match open {
        Some(left) => sink.end(left).map_err(failed),
        None => Ok(()),
    }
}

/// `open` is how many bytes the segment misses that is begun.
fn cut(
    leg: &Leg,
    size: SegmentSize,
    mut start: Lsn,
    mut bytes: &[u8],
    open: &mut Option<u64>,
    sink: &mut dyn SegmentSink,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = match *open {
            Some(left) => left,
            None => {
                let name = SegmentName::of(leg.timeline, start, size);
                sink.begin(name, name.start.after(size.bytes()).0 <= leg.positions.end)?;
                size.bytes()
            }
        };
        let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        sink.bytes(now)?;
        (start, bytes) = (start.after(now.len() as u64), later);
        let left = left - now.len() as u64;
        *open = Some(left).filter(|left| *left > 0);
        if left == 0 {
            sink.end(0)?;
        }
    }
    Ok(())
}

struct TarSink<'t, 'r> {
    tar: &'t mut TarWriter<'r>,
    metadata: &'t Metadata,
    segment: SegmentSize,
    names: &'t mut Vec<String>,
    failure: Option<RecoveryError>,
}

impl TarSink<'_, '_> {
    fn keep(&mut self, done: Result<()>) -> io::Result<()> {
        done.map_err(|error| {
            let said = error.to_string();
            self.failure = Some(error);
            io::Error::other(said)
        })
    }
}

impl SegmentSink for TarSink<'_, '_> {
    fn begin(&mut self, name: SegmentName, _: bool) -> io::Result<()> {
        let name = name.file_name(self.segment);
        let begun = self.tar.begin(&Member {
            path: name.as_bytes(),
            kind: EntryKind::File,
            metadata: self.metadata,
            size: self.segment.bytes(),
            target: b"",
        });
        self.names.push(name);
        self.keep(begun)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let added = self.tar.bytes(bytes);
        self.keep(added)
    }

    fn end(&mut self, missing: u64) -> io::Result<()> {
        let end = self.tar.position() + missing;
        let added = self.tar.zeros_until(end);
        self.keep(added)
    }
}

/// Which log is exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalRange {
    /// From the segment that holds this position on; `None`: from where the log begins that leads to the end.
    pub from: Option<Lsn>,
    /// Up to this position; `None`: all that there is.
    pub until: Option<Lsn>,
    /// The timeline that it leads to; `None`: the newest one that is kept.
    pub timeline: Option<TimelineId>,
}

/// What was exported of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedWal {
    /// The cluster.
    pub system: SystemId,
    /// The timeline that it leads to.
    pub timeline: TimelineId,
    /// The first position.
    pub from: Lsn,
    /// The first position that is not in it.
    pub until: Lsn,
    /// The files, in order.
    pub files: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Exports the log of a cluster as files of `pg_wal`, the last one with the name `….partial` where it is not
/// whole, and the histories of its timelines: what `pg_receivewal` would have left.
///
/// # Errors
/// Before anything is written: where there is no such log, it has a hole, or the place is not empty, cannot be
/// written to or has no room. After: where the repository cannot be read or the place takes nothing more.
pub fn export_wal(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    range: &WalRange,
    into: &Path,
    force: bool,
    progress: &Progress,
) -> Result<ExportedWal> {
    let watch = Stopwatch::start();
    let plan = WalPlan::make(repository, dataset, range)?;
    check_empty(into, force)?;
    check_writable(into)?;
    plan.check_room(into)?;
    crashsafe::create_dir_all(into)?;
    let mut files = Vec::new();
    for (timeline, content) in &plan.histories {
        crashsafe::replace(&into.join(timeline.history_file_name()), content)?;
        files.push(timeline.history_file_name());
    }
    for leg in &plan.legs {
        let mut sink = FolderSink { into, segment: plan.segment, progress, files: &mut files, file: None };
        cut_segments(&plan.source, leg, plan.segment, &mut sink)?;
    }
    crashsafe::sync_directory(into)?;
    let (first, last) = (plan.legs.first(), plan.legs.last());
    Ok(ExportedWal {
        system: plan.system,
        timeline: plan.timeline,
        from: Lsn(first.map_or(0, |leg| leg.positions.start)),
        until: Lsn(last.map_or(0, |leg| leg.positions.end)),
        files,
        took: watch.elapsed(),
    })
}

/// What is to be written, known to be there.
struct WalPlan {
    system: SystemId,
    timeline: TimelineId,
    segment: SegmentSize,
    source: WalSource,
    legs: Vec<Leg>,
    histories: Vec<(TimelineId, Vec<u8>)>,
}

impl WalPlan {
    fn make(repository: &Arc<Repository>, dataset: &DatasetName, range: &WalRange) -> Result<Self> {
        let catalogue = LogCatalogue::read(repository, dataset).map_err(LogError::from)?;
        let no_log = || RecoveryError::NoLog { dataset: dataset.clone(), timeline: range.timeline };
        // Of several clusters, the one that was kept last; of its timelines, the one that was asked for or the newest.
        let mut logs: Vec<_> = catalogue
            .lineages()
            .into_iter()
            .filter_map(|log| Some((lineage::parse(log.lineage.as_str())?, log)))
            .filter(|((_, timeline), _)| range.timeline.is_none_or(|wanted| wanted == *timeline))
            .collect();
        logs.sort_by_key(|((_, timeline), log)| (log.stretches.last().map(|last| last.last), *timeline));
        let ((system, timeline), log) = logs.pop().ok_or_else(no_log)?;
        let last = log.stretches.last().ok_or_else(no_log)?;
        let segment =
            segment_size(repository, dataset, system, timeline, Lsn(last.start))?.ok_or_else(no_log)?;
        let source = WalSource::open(repository, dataset, system, segment)?;
        let until = range.until.unwrap_or(Lsn(last.end));
        let from = range.from.unwrap_or(Lsn(last.start));
        if from >= until {
            return Err(RecoveryError::NothingBetween { from, until });
        }
        let kept = histories(repository, dataset, system)?;
        let history = kept.get(&timeline).map(|kept| kept.history.clone());
        let history = history.unwrap_or_else(|| TimelineHistory::first(timeline));
        let legs = legs_between(&history, segment, from, until);
        let first = legs.first().map_or(timeline, |leg| leg.timeline);
        let histories = kept
            .into_iter()
            .filter(|(of, _)| *of >= first && history.includes(*of))
            .map(|(of, kept)| (of, kept.content))
            .collect();
        let plan = Self { system, timeline, segment, source, legs, histories };
        plan.check_whole(dataset)?;
        Ok(plan)
    }

    fn check_whole(&self, dataset: &DatasetName) -> Result<()> {
        for leg in &self.legs {
            let Range { start, end } = leg.positions.clone();
            let reaches = self.source.end_of_stretch(leg.timeline, Lsn(start)).unwrap_or(Lsn(start));
            if reaches.0 < end {
                let lineage = lineage::of_timeline(self.system, leg.timeline)?;
                let hole = LogError::Hole { dataset: dataset.clone(), lineage, from: reaches.0, to: end };
                return Err(PostgresStoreError::Log(hole).into());
            }
        }
        Ok(())
    }

    fn check_room(&self, into: &Path) -> Result<()> {
        let size = self.segment.bytes();
        let segments = |leg: &Leg| (leg.positions.end - leg.positions.start).div_ceil(size) * size;
        let needed = self.legs.iter().map(segments).sum();
        let Ok(stat) = rustix::fs::statvfs(nearest(into)) else { return Ok(()) };
        let available = stat.f_bavail.saturating_mul(stat.f_frsize);
        if available < needed {
            return Err(RecoveryError::NoSpace { path: into.to_owned(), available, needed });
        }
        Ok(())
    }
}

/// What the first segment of a stretch says how long segments are.
fn segment_size(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    system: SystemId,
    timeline: TimelineId,
    start: Lsn,
) -> Result<Option<SegmentSize>> {
    // The size of segments decides only how a log is written, not how it is read.
    let source = WalSource::open(repository, dataset, system, SegmentSize::DEFAULT)?;
    let leg = Leg { timeline, positions: start.0..start.after(SEGMENT_HEADER_BYTES).0 };
    let mut header = Vec::new();
    source.read(&leg, &mut |_, bytes| {
        header.extend_from_slice(bytes);
        Ok(true)
    })?;
    let said = PageHeader::parse(&header).and_then(|header| header.segment);
    Ok(said.and_then(|said| SegmentSize::new(u64::from(said.segment_bytes))))
}

/// The runs of log from one position to another along a history, each from the beginning of a segment.
fn legs_between(history: &TimelineHistory, segment: SegmentSize, from: Lsn, until: Lsn) -> Vec<Leg> {
    let mut legs = Vec::new();
    let mut start = segment.start_of(from);
    for switch in history.switches().iter().filter(|switch| switch.at > from) {
        if switch.at >= until {
            legs.push(Leg { timeline: switch.timeline, positions: start.0..until.0 });
            return legs;
        }
        legs.push(Leg { timeline: switch.timeline, positions: start.0..switch.at.0 });
        start = segment.start_of(switch.at);
    }
    legs.push(Leg { timeline: history.timeline(), positions: start.0..until.0 });
    legs
}

struct FolderSink<'f> {
    into: &'f Path,
    segment: SegmentSize,
    progress: &'f Progress,
    files: &'f mut Vec<String>,
    file: Option<File>,
}

impl SegmentSink for FolderSink<'_> {
    fn begin(&mut self, name: SegmentName, whole: bool) -> io::Result<()> {
        let name = name.file_name(self.segment);
        let name = if whole { name } else { format!("{name}.partial") };
        let path = self.into.join(&name);
        self.file = Some(OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?);
        self.progress.count_entry();
        self.files.push(name);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.progress.count_bytes(bytes.len() as u64);
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes))
    }

    fn end(&mut self, _: u64) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        file.set_len(self.segment.bytes())?;
        file.sync_all()
    }
}

fn reach(moment: &'static str) -> Result<()> {
    failpoint::reach(moment).map_err(RecoveryError::io("export to", TABLESPACES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(from: u64, until: u64) -> Vec<(u32, u64, u64)> {
        let history = TimelineHistory::parse(TimelineId(3), b"1\t0/3000100\tx\n2\t0/4000200\tx\n").unwrap();
        let legs = legs_between(&history, SegmentSize::DEFAULT, Lsn(from), Lsn(until));
        legs.into_iter().map(|leg| (leg.timeline.0, leg.positions.start, leg.positions.end)).collect()
    }

    #[test]
    fn a_range_goes_through_the_timelines_that_it_touches() {
        let all = [(1, 0x200_0000, 0x300_0100), (2, 0x300_0000, 0x400_0200), (3, 0x400_0000, 0x500_0000)];
        assert_eq!(way(0x200_0028, 0x500_0000), all);
        assert_eq!(way(0x200_0028, 0x300_0100), all[..1]);
        assert_eq!(way(0x300_0100, 0x400_0100), [(2, 0x300_0000, 0x400_0100)]);
        assert_eq!(way(0x450_0000, 0x500_0000), all[2..]);
    }

    #[derive(Default)]
    struct Seen(Vec<(String, usize, u64)>);

    impl SegmentSink for Seen {
        fn begin(&mut self, name: SegmentName, whole: bool) -> io::Result<()> {
            let size = SegmentSize::new(1 << 20).unwrap();
            self.0.push((format!("{}{}", name.file_name(size), if whole { "" } else { "?" }), 0, 0));
            Ok(())
        }

        fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.last_mut().unwrap().1 += bytes.len();
            Ok(())
        }

        fn end(&mut self, missing: u64) -> io::Result<()> {
            self.0.last_mut().unwrap().2 = missing;
            Ok(())
        }
    }

    #[test]
    fn pieces_are_cut_at_the_ends_of_segments() {
        let size = SegmentSize::new(1 << 20).unwrap();
        let leg = Leg { timeline: TimelineId(1), positions: 1 << 20..(3 << 20) + 5 };
        let (mut open, mut seen) = (None, Seen::default());
        cut(&leg, size, Lsn(1 << 20), &vec![1; 3 << 19], &mut open, &mut seen).unwrap();
        cut(&leg, size, Lsn(5 << 19), &vec![1; (1 << 19) + 5], &mut open, &mut seen).unwrap();
        assert_eq!(open, Some((1 << 20) - 5));
        let names = ["000000010000000000000001", "000000010000000000000002", "000000010000000000000003?"];
        let lengths = [1 << 20, 1 << 20, 5];
        assert_eq!(seen.0, [0, 1, 2].map(|n| (names[n].to_owned(), lengths[n], 0)));
    }

    #[test]
    fn paths_are_told_by_the_folder_that_they_lie_in() {
        assert_eq!(within(b"pg_tblspc/1/a", b"pg_tblspc/1"), Some(&b"a"[..]));
        assert_eq!(within(b"pg_tblspc/16/a", b"pg_tblspc/1"), None);
        assert_eq!(within(b"pg_tblspc/1", b"pg_tblspc/1"), None);
        assert_eq!(within(b"base", b""), Some(&b"base"[..]));
    }
}
