//! Protecting: a snapshot of a target, now.

use crate::error::{RecoveryError, Result};
use crate::target::Target;
use lifeboat_base::clock::{Stopwatch, Timestamp};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::tree::{Entry, EntryKind, FileTime, Metadata};
use lifeboat_repository::{ChainFix, Published, Repository, RepositoryError, SnapshotSource, SnapshotWriter};
use lifeboat_store::Problems;
use lifeboat_store::exclude::Exclude;
use lifeboat_store::progress::Progress;
use lifeboat_store_files::{FilesDriver, FilesOptions};
use lifeboat_store_postgres::ClusterSource;
use lifeboat_store_sqlite::{Snapshot as DatabaseSnapshot, SnapshotOptions, WithoutReflink};
use lifeboat_wire_postgres::ConnectOptions;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How to protect.
#[derive(Clone, Debug, Default)]
pub struct ProtectOptions {
    /// What of a folder is left out.
    pub exclude: Exclude,
    /// Folders that are never taken along: the repository itself, the state.
    pub never: Vec<PathBuf>,
    /// How long writers of a database in rollback mode may be kept waiting.
    pub max_stall: Option<Duration>,
    /// What a leader found when it took over: without it a snapshot is nobody's but its writer's.
    pub leadership: Option<ChainFix>,
}

/// What was protected.
#[derive(Debug)]
pub struct ProtectReport {
    /// The snapshot.
    pub published: Published,
    /// What could not be read and is missing from it.
    pub left_out: Problems,
    /// What changed while it was read.
    pub torn: Problems,
    /// What else the driver noticed, for people.
    pub notes: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// What a driver left behind: a report without its time.
pub(crate) struct Taken {
    published: Published,
    left_out: Problems,
    torn: Problems,
    notes: Vec<String>,
}

impl Taken {
    pub(crate) fn whole(published: Published, notes: Vec<String>) -> Self {
        Self { published, left_out: Problems::default(), torn: Problems::default(), notes }
    }

    pub(crate) fn after(self, took: Duration) -> ProtectReport {
        let Self { published, left_out, torn, notes } = self;
        ProtectReport { published, left_out, torn, notes, took }
    }
}

/// How often a target is read, where what was stored of it is pruned away before it could be published.
const MAX_READINGS: u32 = 3;

/// Takes a snapshot of a target. Where this machine stood still so long that its slot was voided and what it
/// had stored is pruned away, the target is read again.
///
/// # Errors
/// Where the target cannot be read at all, or the repository fails: then nothing is published.
pub fn protect(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    target: &Target,
    options: &ProtectOptions,
    progress: &Progress,
) -> Result<ProtectReport> {
    protect_again(repository, dataset, target, options, None, progress)
}

/// Takes a snapshot of a target that stands still, as of the instant that it is known to show.
pub(crate) fn protect_as_of(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    target: &Target,
    options: &ProtectOptions,
    as_of: Timestamp,
    progress: &Progress,
) -> Result<ProtectReport> {
    protect_again(repository, dataset, target, options, Some(as_of), progress)
}

fn protect_again(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    target: &Target,
    options: &ProtectOptions,
    as_of: Option<Timestamp>,
    progress: &Progress,
) -> Result<ProtectReport> {
    let watch = Stopwatch::start();
    let mut readings = 1;
    let mut taken = loop {
        match protect_once(repository, dataset, target, options, as_of, progress) {
            Err(RecoveryError::Repository(RepositoryError::StoredInVain(_))) if readings < MAX_READINGS => {
                readings += 1;
            }
            other => break other?,
        }
    };
    if readings > 1 {
        taken.notes.push(format!(
            "read {readings} times: this machine stood still beyond its lease, and prune deleted what had been stored"
        ));
    }
    Ok(taken.after(watch.elapsed()))
}

fn protect_once(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    target: &Target,
    options: &ProtectOptions,
    as_of: Option<Timestamp>,
    progress: &Progress,
) -> Result<Taken> {
    let store = match target {
        Target::Files(_) => lifeboat_store_files::STORE,
        Target::Sqlite(_) => SQLITE,
        Target::Postgres(_) => lifeboat_store_postgres::STORE,
    };
    let mut writer = SnapshotWriter::begin(repository, source(dataset, store, &target.to_string()))?;
    if let Some(fix) = &options.leadership {
        writer.set_leadership(fix);
    }
    let unread = index_notes(&writer);
    let mut taken = match target {
        Target::Files(path) => protect_files(writer, path, options, as_of, progress),
        Target::Sqlite(path) => protect_sqlite(writer, path, options, as_of, progress),
        Target::Postgres(server) => protect_postgres(repository, writer, dataset, server, progress),
    }?;
    taken.notes.extend(unread);
    Ok(taken)
}

/// What of the index could not be read: nothing is lost to this snapshot, but somebody should know.
pub(crate) fn index_notes(writer: &SnapshotWriter) -> Vec<String> {
    let note = |line| format!("{line}; what it describes is stored once more, run `lifeboat check`");
    writer.left_out_of_index().into_iter().map(note).collect()
}

/// What a SQLite database's store is called in a snapshot.
pub const SQLITE: &str = "sqlite";
/// What a stream's store is called in a snapshot.
pub const STREAM: &str = "stream";

pub(crate) fn source(dataset: &DatasetName, store: &str, source: &str) -> SnapshotSource {
    SnapshotSource {
        dataset: dataset.clone(),
        store: store.to_owned(),
        source: source.to_owned(),
        lineage: None,
        program: concat!("lifeboat ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

fn protect_files(
    mut writer: SnapshotWriter,
    path: &Path,
    options: &ProtectOptions,
    as_of: Option<Timestamp>,
    progress: &Progress,
) -> Result<Taken> {
    let driver = FilesDriver::new(
        path,
        FilesOptions { exclude: options.exclude.clone(), never: options.never.clone() },
    );
    let report = driver.snapshot(&mut writer, progress)?;
    if let Some(as_of) = as_of {
        writer.set_taken(as_of);
    }
    let published = writer.finish(report.root)?;
    Ok(Taken { published, left_out: report.left_out, torn: report.torn, notes: Vec::new() })
}

/// The slot is claimed before: the database should be held still no longer than it is read.
fn protect_sqlite(
    mut writer: SnapshotWriter,
    path: &Path,
    options: &ProtectOptions,
    as_of: Option<Timestamp>,
    progress: &Progress,
) -> Result<Taken> {
    let scratch = path.parent().map_or_else(std::env::temp_dir, PathBuf::from);
    let scratch = if is_writable(&scratch) { scratch } else { std::env::temp_dir() };
    let mut snapshot_options =
        SnapshotOptions { scratch, without_reflink: WithoutReflink::Copy, ..SnapshotOptions::default() };
    if let Some(max_stall) = options.max_stall {
        snapshot_options.max_stall = max_stall;
    }
    let mut database = DatabaseSnapshot::take(path, &snapshot_options)?;
    writer.set_taken(as_of.unwrap_or_else(|| lifeboat_base::clock::Clock::System.now()));
    let name = path.file_name().map(std::os::unix::ffi::OsStrExt::as_bytes).unwrap_or(b"database").to_vec();
    let mut entry = Entry::new(name.clone(), EntryKind::File);
    entry.metadata = file_metadata(path)?;
    let folder = folder_of(&entry.metadata);
    let base = writer.base_entry(&name);
    entry.size = database.size_bytes();
    let page_bytes = database.page_size().get();
    let stored = {
        let mut reader =
            DatabaseReader { database: &mut database, run: Vec::new(), at: 0, progress, failure: None };
        let stored = writer.pages(page_bytes, base.as_ref().map(|entry| &entry.content), &mut reader);
        if let Some(failure) = reader.failure.take() {
            return Err(failure.into());
        }
        stored?
    };
    let report = database.finish()?;
    entry.size = stored.bytes;
    entry.content = stored.content;
    writer.add(entry)?;
    writer.set_fact("journal_mode", format!("{:?}", report.mode).to_ascii_lowercase());
    writer.set_fact("change_counter", report.change_counter);
    writer.set_fact("wal_frames", report.wal_frames);
    writer.set_fact("stall_ms", report.stall.as_millis());
    let mut notes: Vec<String> = report.warnings.iter().map(ToString::to_string).collect();
    if report.rolled_back {
        notes.push("a hot journal was found; it was copied along and rolled back in the copy, and the application's own was left alone".to_owned());
    }
    let published = writer.finish(folder)?;
    Ok(Taken::whole(published, notes))
}

/// The lineage is known once the server has been asked; what is published says it.
fn protect_postgres(
    repository: &Arc<Repository>,
    mut writer: SnapshotWriter,
    dataset: &DatasetName,
    server: &ConnectOptions,
    progress: &Progress,
) -> Result<Taken> {
    let source =
        ClusterSource { repository: repository.clone(), dataset: dataset.clone(), server: server.clone() };
    let protected = lifeboat_store_postgres::protect(&source, &mut writer, progress)?;
    let published = writer.finish(protected.backup.root)?;
    Ok(Taken::whole(published, protected.notes))
}

/// The folder that a single file is restored into: its owner's alone.
pub(crate) fn folder_of(file: &Metadata) -> Metadata {
    Metadata { mode: 0o700, uid: file.uid, gid: file.gid, modified: file.modified, ..Metadata::default() }
}

fn is_writable(directory: &Path) -> bool {
    rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).is_ok()
}

pub(crate) fn file_metadata(path: &Path) -> Result<Metadata> {
    use std::os::unix::fs::MetadataExt;
    let stat = std::fs::metadata(path).map_err(RecoveryError::io("look at", path))?;
    let time = |secs, nanos: i64| FileTime { secs, nanos: u32::try_from(nanos).unwrap_or(0) };
    Ok(Metadata {
        mode: stat.mode() & 0o7777,
        uid: stat.uid(),
        gid: stat.gid(),
        modified: time(stat.mtime(), stat.mtime_nsec()),
        changed: time(stat.ctime(), stat.ctime_nsec()),
        inode: stat.ino(),
        device: stat.dev(),
        links: 1,
        ..Metadata::default()
    })
}

/// The pages of a database as one stream. The driver's own error is kept aside, since a stream can only say
/// that reading failed.
struct DatabaseReader<'d> {
    database: &'d mut DatabaseSnapshot,
    run: Vec<u8>,
    at: usize,
    progress: &'d Progress,
    failure: Option<lifeboat_store_sqlite::SnapshotError>,
}

impl Read for DatabaseReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.run.len() {
            match self.database.next_run() {
                Ok(Some(run)) => {
                    self.run.clear();
                    self.run.extend_from_slice(run.bytes);
                    self.at = 0;
                }
                Ok(None) => return Ok(0),
                Err(error) => {
                    self.failure = Some(error);
                    return Err(io::Error::other("the database could not be read"));
                }
            }
        }
        let bytes = buffer.len().min(self.run.len() - self.at);
        buffer[..bytes].copy_from_slice(&self.run[self.at..self.at + bytes]);
        self.at += bytes;
        self.progress.count_bytes(bytes as u64);
        Ok(bytes)
    }
}

/// Takes a snapshot of a stream: one file of that name.
///
/// # Errors
/// Where the stream cannot be read to its end, or the repository fails: then nothing is published.
pub fn protect_stream(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    name: &str,
    stream: &mut dyn Read,
    progress: &Progress,
) -> Result<ProtectReport> {
    let watch = Stopwatch::start();
    let mut writer = SnapshotWriter::begin(repository, source(dataset, STREAM, name))?;
    let notes = index_notes(&writer);
    let mut counted = CountedReader { stream, progress };
    let stored = writer.content(name.as_bytes(), Vec::new(), &mut counted)?;
    let mut entry = Entry::new(name, EntryKind::File);
    if !entry.has_safe_name() {
        return Err(RecoveryError::UnknownTarget(PathBuf::from(name)));
    }
    let now = lifeboat_base::clock::Clock::System.now();
    let nanos = u32::try_from(now.as_nanos().rem_euclid(1_000_000_000)).unwrap_or(0);
    entry.metadata = Metadata {
        mode: 0o600,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        modified: FileTime { secs: now.as_secs(), nanos },
        links: 1,
        ..Metadata::default()
    };
    (entry.size, entry.content) = (stored.bytes, stored.content);
    let folder = folder_of(&entry.metadata);
    writer.add(entry)?;
    writer.set_taken(now);
    let published = writer.finish(folder)?;
    Ok(Taken::whole(published, notes).after(watch.elapsed()))
}

pub(crate) struct CountedReader<'r> {
    pub(crate) stream: &'r mut dyn Read,
    pub(crate) progress: &'r Progress,
}

impl Read for CountedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.stream.read(buffer)?;
        self.progress.count_bytes(bytes as u64);
        Ok(bytes)
    }
}
