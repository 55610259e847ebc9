//! Log that is fetched while a server replays it, ahead of what the server asks for.
//!
//! ```text
//! server ── restore_command ──► fetch: is the segment here? ──► hands it over
//!                                 │ no                              ▲
//!                                 ▼                                 │
//!                        starts, if none works,  ──►  fetch_ahead: keeps some segments here, several at once
//! ```
//! The two meet in a folder beside the restored directory. It holds the plan (which runs of log, which histories),
//! the segments that are ready, and a file that the one who fetches ahead keeps locked: the lock ends with the
//! process, however that ends. A segment that is there under its name is whole.
//!
//! It deliberately does not know where the repository is or what opens it: whoever starts the second process does.

use crate::error::{RecoveryError, Result};
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::crashsafe;
use lifeboat_postgres_wal::{Lsn, SegmentName, SegmentSize, SystemId, TimelineId};
use lifeboat_repository::Repository;
use lifeboat_repository::ids::DatasetName;
use lifeboat_store_postgres::{Leg, RecoveryPath, WalSource};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const PLAN: &str = "plan.json";
const LOCK: &str = "fetching.lock";
const LOG: &str = "fetching.log";
/// What a segment that the server waits for is asked with.
const WANTED: &str = ".wanted";
/// Segments are written here and go where they are looked for when they are whole.
const UNFINISHED: &str = "unfinished";
/// How many segments may lie ready: enough to keep a server busy, little enough for any disk.
const READY_SEGMENTS: usize = 8;
/// How much of the log is on disk at once at most, in segments: what is ready, what is being fetched, and what the
/// server keeps of what it has replayed until its next restart point.
pub(crate) const ROOM_SEGMENTS: u64 = 2 * READY_SEGMENTS as u64 + 4;
/// How often a folder is looked into.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long nobody may ask for anything before the one who fetches ahead ends.
const IDLE_FOR: Duration = Duration::from_secs(120);
/// How long the other process may take until it has the lock.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// What a server will ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AheadPlan {
    dataset: String,
    system: String,
    segment_bytes: u64,
    runs: Vec<Run>,
    histories: Vec<History>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    timeline: u32,
    from: u64,
    to: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct History {
    timeline: u32,
    content: String,
}

/// What became of a server's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The file is where the server wants it.
    There,
    /// There is no such file on the way to the target: the server goes on without it.
    NotOnTheWay,
}

impl AheadPlan {
    /// What is needed on a path.
    pub fn of(path: &RecoveryPath) -> Self {
        let history = |(timeline, content): &(TimelineId, Vec<u8>)| History {
            timeline: timeline.0,
            content: String::from_utf8_lossy(content).into_owned(),
        };
        Self {
            dataset: path.snapshot.snapshot.position.dataset.to_string(),
            system: path.facts.system.to_string(),
            segment_bytes: path.facts.segment.bytes(),
            runs: path
                .legs
                .iter()
                .map(|leg| Run { timeline: leg.timeline.0, from: leg.positions.start, to: leg.positions.end })
                .collect(),
            histories: path.history_files.iter().map(history).collect(),
        }
    }

    /// Makes the folder.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder.join(UNFINISHED)).map_err(RecoveryError::io("create", folder))?;
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        let text = text.map_err(RecoveryError::io("describe", folder))?;
        Ok(crashsafe::replace(&folder.join(PLAN), &text)?)
    }

    /// Reads it from a folder.
    ///
    /// # Errors
    /// Where there is none, or none that makes sense.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(PLAN);
        let bytes = fs::read(&path).map_err(RecoveryError::io("read", &path))?;
        let plan: Self = serde_json::from_slice(&bytes)
            .map_err(|error| RecoveryError::io("understand", &path)(error.into()))?;
        plan.segment().map(|_| plan)
    }

    /// The dataset whose log it is.
    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    fn segment(&self) -> Result<SegmentSize> {
        SegmentSize::new(self.segment_bytes).ok_or_else(|| self.senseless("the size of segments"))
    }

    fn system(&self) -> Result<SystemId> {
        self.system.parse().map_err(|_| self.senseless("the system identifier"))
    }

    fn senseless(&self, what: &str) -> RecoveryError {
        let text = format!("{what} makes no sense");
        RecoveryError::io("follow the plan of", &self.dataset)(io::Error::new(
            io::ErrorKind::InvalidData,
            text,
        ))
    }

    /// The segments in the order in which a server asks for them, each with the run that fills it.
    fn parts(&self) -> Result<Vec<(String, Leg)>> {
        let size = self.segment()?;
        let mut parts = Vec::new();
        for run in &self.runs {
            let timeline = TimelineId(run.timeline);
            let mut from = run.from;
            while from < run.to {
                let name = SegmentName::of(timeline, Lsn(from), size);
                let to = name.start.after(size.bytes()).0.min(run.to);
                parts.push((name.file_name(size), Leg { timeline, positions: from..to }));
                from = to;
            }
        }
        Ok(parts)
    }

    fn history(&self, file: &str) -> Option<&str> {
        let named = |history: &&History| TimelineId(history.timeline).history_file_name() == file;
        self.histories.iter().find(named).map(|history| history.content.as_str())
    }
}

/// Answers a server's question: puts a file of the log where the server wants it. `start` starts a process that
/// calls [`fetch_ahead`], with its output going to the file that it is given.
///
/// # Errors
/// Where the file is on the way and cannot be had: the server must not go on without it.
pub fn fetch(
    folder: &Path,
    file: &str,
    destination: &Path,
    start: &dyn Fn(File) -> io::Result<()>,
) -> Result<Fetched> {
    let plan = AheadPlan::read(folder)?;
    if let Some(content) = plan.history(file) {
        crashsafe::replace(destination, content.as_bytes())?;
        return Ok(Fetched::There);
    }
    if !plan.parts()?.iter().any(|(name, _)| name == file) {
        return Ok(Fetched::NotOnTheWay);
    }
    let wanted = folder.join(format!("{file}{WANTED}"));
    let mut asked = None;
    loop {
        if hand_over(&folder.join(file), destination)? {
            let _ = fs::remove_file(&wanted);
            return Ok(Fetched::There);
        }
        let is_at_work = lock(folder)?.is_none();
        match asked {
            None => {
                crashsafe::replace(&wanted, b"")?;
                if !is_at_work {
                    start(log(folder)?).map_err(RecoveryError::io("start what fetches ahead for", folder))?;
                }
                asked = Some((Stopwatch::start(), is_at_work));
            }
            // It has ended, and the segment is not there.
            Some((_, true)) if !is_at_work => return Err(gave_up(folder)),
            Some((since, false)) if !is_at_work && since.elapsed() > STARTS_WITHIN => {
                return Err(gave_up(folder));
            }
            Some((since, seen)) => asked = Some((since, seen || is_at_work)),
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The lock of the one who fetches ahead; `None` where somebody has it.
fn lock(folder: &Path) -> Result<Option<File>> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(RecoveryError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(RecoveryError::io("lock", &path)(error)),
    }
}

/// The same, also where somebody only looked whether it is free.
fn lock_soon(folder: &Path) -> Result<Option<File>> {
    for _ in 0..100 {
        if let Some(lock) = lock(folder)? {
            return Ok(Some(lock));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(None)
}

fn log(folder: &Path) -> Result<File> {
    let path = folder.join(LOG);
    OpenOptions::new().create(true).append(true).open(&path).map_err(RecoveryError::io("open", &path))
}

/// What the other process said last.
fn gave_up(folder: &Path) -> RecoveryError {
    let log = fs::read_to_string(folder.join(LOG)).unwrap_or_default();
    let said = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
    RecoveryError::io("fetch ahead for", folder)(io::Error::other(said))
}

/// Moves a segment that is ready. False where it is not.
fn hand_over(ready: &Path, destination: &Path) -> Result<bool> {
    match fs::copy(ready, destination) {
        Ok(_) => {
            // The server syncs what it is given, and asks again after a crash.
            fs::remove_file(ready).map_err(RecoveryError::io("remove", ready))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && !ready.exists() => Ok(false),
        Err(error) => Err(RecoveryError::io("hand over", ready)(error)),
    }
}

/// Keeps segments ready, from the one on that is asked for, until all are fetched or nobody asks any more.
///
/// # Errors
/// Where the log cannot be read or the folder not be written.
pub fn fetch_ahead(repository: &Arc<Repository>, folder: &Path, threads: usize) -> Result<()> {
    let Some(_lock) = lock_soon(folder)? else { return Ok(()) };
    let plan = AheadPlan::read(folder)?;
    let dataset = DatasetName::new(plan.dataset())?;
    let source = WalSource::open(repository, &dataset, plan.system()?, plan.segment()?)?;
    let parts = plan.parts()?;
    let ahead = Ahead { source, folder: folder.to_owned(), parts };
    let (mut next, mut idle) = (0, Stopwatch::start());
    while idle.elapsed() < IDLE_FOR {
        let ready = ahead.ready()?;
        if let Some(wanted) = ahead.wanted(&ready)? {
            (next, idle) = (wanted, Stopwatch::start());
        }
        let room = READY_SEGMENTS.saturating_sub(ready.len());
        let due: Vec<usize> =
            (next..ahead.parts.len()).filter(|at| !ready.contains(&ahead.parts[*at].0)).take(room).collect();
        let Some(last) = due.last().copied() else {
            std::thread::sleep(LOOK_EVERY);
            continue;
        };
        ahead.bring(&due[..due.len().min(threads.max(1))])?;
        next = due.get(threads.max(1)).copied().unwrap_or(last + 1);
        idle = Stopwatch::start();
    }
    Ok(())
}

struct Ahead {
    source: WalSource,
    folder: PathBuf,
    parts: Vec<(String, Leg)>,
}

impl Ahead {
    fn names(&self) -> Result<BTreeSet<String>> {
        let listing = fs::read_dir(&self.folder).map_err(RecoveryError::io("list", &self.folder))?;
        Ok(listing.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// The segments that are ready.
    fn ready(&self) -> Result<BTreeSet<String>> {
        let names = self.names()?;
        Ok(self.parts.iter().map(|(name, _)| name).filter(|name| names.contains(*name)).cloned().collect())
    }

    /// The first segment that a server waits for and that is not ready.
    fn wanted(&self, ready: &BTreeSet<String>) -> Result<Option<usize>> {
        let names = self.names()?;
        let is_wanted = |name: &String| names.contains(&format!("{name}{WANTED}")) && !ready.contains(name);
        Ok(self.parts.iter().position(|(name, _)| is_wanted(name)))
    }

    /// Fetches some segments at once; each is there under its name when it is whole.
    fn bring(&self, due: &[usize]) -> Result<()> {
        let legs: Vec<Leg> = due.iter().map(|at| self.parts[*at].1.clone()).collect();
        let unfinished = self.folder.join(UNFINISHED);
        self.source.write_segments(&legs, &unfinished, due.len())?;
        for at in due {
            let name = &self.parts[*at].0;
            let (from, to) = (unfinished.join(name), self.folder.join(name));
            rename(&from, &to)?;
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "after a crash the server asks for it again")]
fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(RecoveryError::io("make ready", to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> AheadPlan {
        let run = |timeline, from, to| Run { timeline, from, to };
        AheadPlan {
            dataset: "app".to_owned(),
            system: "7".to_owned(),
            segment_bytes: 16 << 20,
            runs: vec![run(1, 0x100_0000, 0x300_0100), run(2, 0x300_0000, 0x400_0001)],
            histories: vec![History { timeline: 2, content: "1\t0/3000100\tx\n".to_owned() }],
        }
    }

    #[test]
    fn segments_come_in_the_order_of_the_way() {
        let names: Vec<String> = plan().parts().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "000000010000000000000001",
                "000000010000000000000002",
                "000000010000000000000003",
                "000000020000000000000003",
                "000000020000000000000004"
            ]
        );
    }

    #[test]
    fn what_is_not_on_the_way_is_said_at_once_and_a_failure_is_none() {
        let folder = tempfile::tempdir().unwrap();
        plan().write(folder.path()).unwrap();
        assert_eq!(AheadPlan::read(folder.path()).unwrap(), plan());
        let to = folder.path().join("taken");
        let never = |_| panic!("nothing is to be started");
        let ask = |file: &str| fetch(folder.path(), file, &to, &never).unwrap();
        assert_eq!(ask("00000003.history"), Fetched::NotOnTheWay);
        assert_eq!(ask("000000030000000000000001"), Fetched::NotOnTheWay);
        assert_eq!(ask("00000002.history"), Fetched::There);
        assert_eq!(fs::read(&to).unwrap(), b"1\t0/3000100\tx\n");
        let refused = |_| Err(io::Error::other("cannot be started"));
        assert!(fetch(folder.path(), "000000010000000000000001", &to, &refused).is_err());
        let senseless = AheadPlan { segment_bytes: 17, ..plan() };
        senseless.write(folder.path()).unwrap();
        assert!(AheadPlan::read(folder.path()).is_err());
    }
}
