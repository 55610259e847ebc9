//! The way back of a PostgreSQL cluster: a snapshot, the log behind it, and a server that replays the one onto the
//! other.
//!
//! Where it ends is known before it begins: the target has been resolved to one position of the log
//! ([`lifeboat_store_postgres::resolve`]), and place, room and tablespaces are looked at before the first byte is
//! written. What is restored is complete in itself: the log lies in `pg_wal`, so that starting it needs neither
//! Lifeboat nor the repository; unless the log is to be fetched while it is replayed ([`ahead`]).

pub mod ahead;
mod export;
mod follow;
mod points;
mod prove;
mod tar;

pub use export::{
    ClusterFormat, ExportOptions, ExportedCluster, ExportedWal, WalRange, export_cluster, export_wal,
};
pub use follow::{FollowNews, FollowPlan, LeadsBy, Synchronous, follow};
pub use points::cluster_points;
pub(crate) use prove::ask_all;
pub use prove::{ClusterProof, ClusterQuestions, prove_cluster};

use crate::error::{RecoveryError, Result};
use crate::restore::{check_empty, check_writable, nearest};
use crate::samples::{Measured, Phases};
use crate::threads;
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::crashsafe;
use lifeboat_repository::Reader;
use lifeboat_store::Directory;
use lifeboat_store::exclude::{Include, Patterns};
use lifeboat_store::materialise::{self, Report, WINDOW_BYTES, materialise};
use lifeboat_store::part::TreePart;
use lifeboat_store::progress::Progress;
use lifeboat_store::tree::{SnapshotTree, TreeReader};
use lifeboat_store_postgres::{
    AtTarget, Neutralised, RecoveryPath, RecoverySettings, Tablespace, WalSource, with_recovery,
};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where tablespaces lie in a data directory.
const TABLESPACES: &str = "pg_tblspc";
/// What a server takes for a sign that it is to recover from an archive.
const RECOVERY_SIGNAL: &str = "recovery.signal";
/// What a server takes for a sign that it is a standby.
const STANDBY_SIGNAL: &str = "standby.signal";
/// The archive has nothing: all that is needed lies in `pg_wal`. (A server insists on being told a command.)
const NO_ARCHIVE: &str = "/bin/false";

/// How a cluster is restored.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// Restore into a place that holds something.
    pub force: bool,
    /// Where tablespaces go: by their number or their old place. The others go beside the data directory.
    pub tablespaces: Vec<(String, PathBuf)>,
    /// What the server does at the target.
    pub action: AtTarget,
    /// Where the log is while it is replayed.
    pub log: LogPlace,
}

/// Where a restored cluster finds the log that it replays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogPlace {
    /// In `pg_wal`, all of it: starting the server needs nothing else.
    #[default]
    Inside,
    /// In the repository: the server fetches it by a command while it replays, and little of it is on disk at once.
    Fetched {
        /// The folder in which [`ahead`] keeps what is ready.
        folder: PathBuf,
        /// The `restore_command`.
        command: String,
    },
}

/// A tablespace that was put somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedTablespace {
    /// What it was.
    pub tablespace: Tablespace,
    /// Where it is now.
    pub place: PathBuf,
}

/// What was restored.
#[derive(Debug)]
pub struct RestoredCluster {
    /// Files and bytes of the data directory and its tablespaces.
    pub report: Report,
    /// Bytes of log that are to be replayed.
    pub wal_bytes: u64,
    /// The tablespaces.
    pub tablespaces: Vec<PlacedTablespace>,
    /// Settings of the old primary that were taken back.
    pub neutralised: Vec<Neutralised>,
    /// How long the files took.
    pub placing: Duration,
    /// How long the log took.
    pub fetching_log: Duration,
}

impl RestoredCluster {
    /// What was measured, for whoever remembers it; `None` where something was left out, which took no time. A log that
    /// the server is to fetch itself was not brought back.
    pub fn measured(&self, resolving: Duration, log: &LogPlace) -> Option<Measured> {
        let (log_bytes, log) = match log {
            LogPlace::Inside => (self.wal_bytes, self.fetching_log),
            LogPlace::Fetched { .. } => (0, Duration::ZERO),
        };
        let phases = Phases { resolving, files: self.placing, log, replay: None, questions: None };
        let is_whole = self.report.left_out.is_empty();
        is_whole.then_some(Measured { bytes: self.report.bytes, log_bytes, phases })
    }
}

/// Restores a cluster along a path, ready to be started.
///
/// # Errors
/// Before anything is written: where the place is not empty, cannot be written to, or has no room. After: where
/// the repository cannot be read or the place takes nothing more.
pub fn restore_cluster(
    reader: &Reader,
    path: &RecoveryPath,
    into: &Path,
    options: &ClusterOptions,
    progress: &Progress,
) -> Result<RestoredCluster> {
    let into = &std::path::absolute(into).map_err(RecoveryError::io("resolve", into))?;
    check_later(&path.later_tablespaces, options)?;
    let mut restored = place(reader, path, into, options, progress)?;
    prepare(reader, path, into, options, &mut restored)?;
    Ok(restored)
}

/// Checks everything and writes the files of the snapshot, exactly as they were.
fn place(
    reader: &Reader,
    path: &RecoveryPath,
    into: &Path,
    options: &ClusterOptions,
    progress: &Progress,
) -> Result<RestoredCluster> {
    let watch = Stopwatch::start();
    let tablespaces = place_tablespaces(path, into, options)?;
    for place in std::iter::once(into).chain(tablespaces.iter().map(|placed| placed.place.as_path())) {
        check_empty(place, options.force)?;
        check_writable(place)?;
    }
    check_room(path, into, &options.log)?;
    let tree = SnapshotTree { reader, snapshot: &path.snapshot.snapshot, threads: threads() };
    let elsewhere = path.facts.tablespaces.iter().map(|space| inside(space.oid).into_bytes());
    let mut report = write_tree(&TreePart::without(&tree, elsewhere.collect()), into, progress)?;
    for placed in &tablespaces {
        let inside = inside(placed.tablespace.oid);
        if let Some(part) = TreePart::below(&tree, inside.as_bytes())? {
            add(&mut report, write_tree(&part, &placed.place, progress)?);
        }
        let link = into.join(&inside);
        symlink(&placed.place, &link).map_err(RecoveryError::io("link", &link))?;
    }
    Ok(RestoredCluster {
        report,
        wal_bytes: 0,
        tablespaces,
        neutralised: Vec::new(),
        placing: watch.elapsed(),
        fetching_log: Duration::ZERO,
    })
}

fn inside(oid: u32) -> String {
    format!("{TABLESPACES}/{oid}")
}

fn write_tree<T: TreeReader>(tree: &T, into: &Path, progress: &Progress) -> Result<Report> {
    fs::create_dir_all(into).map_err(RecoveryError::io("create", into))?;
    let target = Directory::open_root(into).map_err(RecoveryError::io("open", into))?;
    let include = Include::new(Patterns::parse(&[] as &[&str])?);
    let options = materialise::Options { include: &include, window_bytes: WINDOW_BYTES, progress };
    Ok(materialise(tree, target, options)?)
}

fn add(sum: &mut Report, more: Report) {
    sum.files += more.files;
    sum.directories += more.directories;
    sum.bytes += more.bytes;
    for (sum, more) in [(&mut sum.left_out, more.left_out), (&mut sum.refused, more.refused)] {
        let unkept = more.count - more.first.len() as u64;
        more.first.into_iter().for_each(|problem| sum.add(problem));
        sum.count += unkept;
    }
}

fn is_named(space: &Tablespace, named: &str) -> bool {
    named == space.oid.to_string() || named.trim_end_matches('/') == space.location.trim_end_matches('/')
}

/// What the log makes is made where it was, by the server itself: only who says that it may lie there wants that.
fn check_later(later: &[Tablespace], options: &ClusterOptions) -> Result<()> {
    let is_allowed = |space: &&Tablespace| {
        let mut named = options.tablespaces.iter().filter(|(named, _)| is_named(space, named));
        named.any(|(_, place)| place == Path::new(&space.location))
    };
    match later.iter().find(|space| !is_allowed(space)) {
        Some(Tablespace { oid, location }) => {
            Err(RecoveryError::LaterTablespace { oid: *oid, location: location.clone() })
        }
        None => Ok(()),
    }
}

/// Where each tablespace of the snapshot goes. A name that fits none is refused: it would go where nobody meant it to.
fn place_tablespaces(
    path: &RecoveryPath,
    into: &Path,
    options: &ClusterOptions,
) -> Result<Vec<PlacedTablespace>> {
    let tablespaces = &path.facts.tablespaces;
    for (named, _) in &options.tablespaces {
        let mut known = tablespaces.iter().chain(&path.later_tablespaces);
        if !known.any(|space| is_named(space, named)) {
            return Err(RecoveryError::NoTablespace { named: named.clone() });
        }
    }
    let mut beside = OsString::from(into);
    beside.push(".tablespaces");
    let place_of = |space: &Tablespace| {
        let named = options.tablespaces.iter().find(|(named, _)| is_named(space, named));
        let place = named
            .map_or_else(|| PathBuf::from(&beside).join(space.oid.to_string()), |(_, place)| place.clone());
        let place = std::path::absolute(&place).map_err(RecoveryError::io("resolve", &place))?;
        Ok(PlacedTablespace { tablespace: space.clone(), place })
    };
    tablespaces.iter().map(place_of).collect()
}

/// Whether files and log have room. What the server itself writes while it replays is not known beforehand.
fn check_room(path: &RecoveryPath, into: &Path, log: &LogPlace) -> Result<()> {
    let segment = path.facts.segment.bytes();
    let all = path.wal_bytes() + path.legs.len() as u64 * segment;
    let segments = match log {
        LogPlace::Inside => all,
        LogPlace::Fetched { .. } => all.min(ahead::ROOM_SEGMENTS * segment),
    };
    let needed = path.snapshot.snapshot.stats.content_bytes.saturating_add(segments);
    let Ok(stat) = rustix::fs::statvfs(nearest(into)) else { return Ok(()) };
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    if available < needed {
        return Err(RecoveryError::NoSpace { path: into.to_owned(), available, needed });
    }
    Ok(())
}

/// Puts the log where the server finds it and writes the settings. From here on the directory is one to be started.
fn prepare(
    reader: &Reader,
    path: &RecoveryPath,
    into: &Path,
    options: &ClusterOptions,
    restored: &mut RestoredCluster,
) -> Result<()> {
    let watch = Stopwatch::start();
    let owner = Owner::of(into)?;
    restored.wal_bytes = path.wal_bytes();
    match &options.log {
        LogPlace::Inside => put_log_inside(reader, path, &into.join("pg_wal"), owner)?,
        LogPlace::Fetched { folder, .. } => {
            ahead::AheadPlan::of(path).write(folder)?;
            owner.give(folder)?;
            owner.give_all_in(folder)?;
        }
    }
    restored.neutralised = configure(path, into, options, owner)?;
    sync(into)?;
    restored.fetching_log = watch.elapsed();
    Ok(())
}

fn put_log_inside(reader: &Reader, path: &RecoveryPath, wal: &Path, owner: Owner) -> Result<()> {
    fs::create_dir_all(wal).map_err(RecoveryError::io("create", wal))?;
    let facts = &path.facts;
    let dataset = &path.snapshot.snapshot.position.dataset;
    let source = WalSource::open(reader.repository(), dataset, facts.system, facts.segment)?;
    source.write_segments(&path.legs, wal, threads())?;
    for (timeline, content) in &path.history_files {
        write(&wal.join(timeline.history_file_name()), content)?;
    }
    owner.give(wal)?;
    owner.give_all_in(wal)
}

fn configure(
    path: &RecoveryPath,
    into: &Path,
    options: &ClusterOptions,
    owner: Owner,
) -> Result<Vec<Neutralised>> {
    let restore_command = match &options.log {
        LogPlace::Inside => NO_ARCHIVE.to_owned(),
        LogPlace::Fetched { command, .. } => command.clone(),
    };
    let settings = RecoverySettings {
        timeline: path.history.timeline(),
        stop: Some((path.resolution.stop, path.resolution.inclusive)),
        action: options.action,
        restore_command,
    };
    let automatic = into.join("postgresql.auto.conf");
    let configuration = read_text(&into.join("postgresql.conf"))?;
    let (text, neutralised) = with_recovery(&configuration, &read_text(&automatic)?, &settings);
    write(&automatic, text.as_bytes())?;
    // The snapshot of a standby says that it is one.
    crashsafe::remove(&into.join(STANDBY_SIGNAL))?;
    let signal = into.join(RECOVERY_SIGNAL);
    write(&signal, b"")?;
    owner.give(&automatic)?;
    owner.give(&signal)?;
    Ok(neutralised)
}

fn read_text(path: &Path) -> Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        // Debian keeps its own in /etc: then it is not part of the cluster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(RecoveryError::io("read", path)(error)),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(crashsafe::replace(path, bytes)?)
}

fn sync(into: &Path) -> Result<()> {
    let directory = fs::File::open(into).map_err(RecoveryError::io("open", into))?;
    rustix::fs::syncfs(&directory).map_err(|error| RecoveryError::io("sync", into)(error.into()))
}

/// Whom the files belong to: the same as the data directory.
#[derive(Clone, Copy, Debug)]
struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    fn of(directory: &Path) -> Result<Self> {
        let stat = fs::metadata(directory).map_err(RecoveryError::io("look at", directory))?;
        Ok(Self { uid: stat.uid(), gid: stat.gid() })
    }

    fn give_all_in(self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).map_err(RecoveryError::io("list", folder))?.flatten() {
            self.give(&entry.path())?;
        }
        Ok(())
    }

    fn give(self, path: &Path) -> Result<()> {
        if rustix::process::geteuid().is_root() {
            lchown(path, Some(self.uid), Some(self.gid)).map_err(RecoveryError::io("give away", path))?;
        }
        Ok(())
    }
}
