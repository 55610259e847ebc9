//! The repository's log, watched from outside: when which position became durable.
//!
//! An object of the log is created at once with its final name, which holds its positions. Whoever sees the name
//! appear does not know yet that it is durable: so the watcher syncs the object and its folder itself and takes the
//! time after that. What it says is never too early, whatever the follower claims.

use crate::error::BenchError;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long nothing is looked at between two looks.
const POLL: Duration = Duration::from_millis(1);

/// Nanoseconds of the machine's monotonic clock, which all its processes share.
pub(super) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// An object of the log, and when it was certainly durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) at_ns: u64,
}

/// The positions that the name of an object of the log holds: `START-END-WRITER-NONCE`.
fn positions(name: &str) -> Option<(u64, u64)> {
    let mut parts = name.split('-');
    let mut position = || u64::from_str_radix(parts.next().filter(|part| part.len() == 16)?, 16).ok();
    let positions = (position()?, position()?);
    (parts.count() == 2).then_some(positions)
}

/// The folder with the longest log: that of the history files is short.
fn log_folder(repository: &Path) -> Option<PathBuf> {
    let list =
        |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let lineages = list(repository.join("logs")).flat_map(list);
    lineages.filter(|folder| folder.is_dir()).max_by_key(|folder| end_of(folder))
}

fn end_of(folder: &Path) -> u64 {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    names.filter_map(|entry| positions(entry.file_name().to_str()?)).map(|(_, end)| end).max().unwrap_or(0)
}

/// How far a log in a repository reaches.
pub(super) fn log_end(repository: &Path) -> u64 {
    log_folder(repository).map_or(0, |folder| end_of(&folder))
}

/// A watcher at work.
#[derive(Debug)]
pub(super) struct Watcher {
    stop: Arc<AtomicBool>,
    worker: JoinHandle<Result<Vec<Arrival>, BenchError>>,
}

impl Watcher {
    /// Begins to watch a log that has at least one object.
    ///
    /// # Errors
    /// Where there is none, or the system does not let it be watched.
    pub(super) fn start(repository: &Path) -> Result<Self, BenchError> {
        let folder = log_folder(repository)
            .ok_or_else(|| BenchError::Postgresql("the repository has no log yet".to_owned()))?;
        let failed = |error: rustix::io::Errno| BenchError::io("watch", &folder, error.into());
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(failed)?;
        inotify::add_watch(&events, &folder, WatchFlags::CREATE | WatchFlags::MOVED_TO).map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let worker = std::thread::spawn(move || {
            let mut arrivals = Vec::new();
            loop {
                let is_last = told.load(Ordering::Acquire);
                let seen = drain(&events).map_err(|error| BenchError::io("watch", &folder, error.into()))?;
                arrivals.extend(durable(&folder, &seen)?);
                if is_last {
                    return Ok(arrivals);
                }
                std::thread::sleep(POLL);
            }
        });
        Ok(Self { stop, worker })
    }

    /// Ends it and gives what it saw.
    ///
    /// # Errors
    /// What went wrong while it watched.
    pub(super) fn finish(self) -> Result<Vec<Arrival>, BenchError> {
        self.stop.store(true, Ordering::Release);
        let died = |_| BenchError::Postgresql("the watcher's thread died".to_owned());
        self.worker.join().map_err(died)?
    }
}

/// The names of objects that have appeared.
fn drain(events: &std::os::fd::OwnedFd) -> rustix::io::Result<Vec<String>> {
    let mut room = [MaybeUninit::uninit(); 16 << 10];
    let mut reader = inotify::Reader::new(events, &mut room);
    let mut names = Vec::new();
    loop {
        match reader.next() {
            // What was not told is missing at the end, and no commit then seems covered that was not.
            Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {}
            Ok(event) => {
                names.extend(event.file_name().and_then(|name| name.to_str().ok()).map(str::to_owned));
            }
            Err(rustix::io::Errno::AGAIN) => return Ok(names),
            Err(error) => return Err(error),
        }
    }
}

/// Makes what has appeared durable, whoever else may be doing that, and says when it was.
fn durable(folder: &Path, names: &[String]) -> Result<Vec<Arrival>, BenchError> {
    let mut arrivals = Vec::new();
    for name in names {
        let Some((start, end)) = positions(name) else { continue };
        for path in [&folder.join(name), folder] {
            File::open(path)
                .and_then(|file| file.sync_all())
                .map_err(|error| BenchError::io("sync", path, error))?;
        }
        arrivals.push(Arrival { start, end, at_ns: monotonic_ns() });
    }
    Ok(arrivals)
}

/// For each instant at which the log grew, how far it then reached without a hole; ascending in both.
pub(super) fn reach(arrivals: &[Arrival]) -> Vec<(u64, u64)> {
    let mut waiting = arrivals.to_vec();
    waiting.sort_by_key(|arrival| arrival.at_ns);
    let mut reached = arrivals.iter().map(|arrival| arrival.start).min().unwrap_or(0);
    let (mut early, mut reach) = (Vec::<Arrival>::new(), Vec::new());
    for arrival in waiting {
        early.push(arrival);
        while let Some(next) = early.iter().position(|a| a.start <= reached && a.end > reached) {
            reached = early.swap_remove(next).end;
            reach.push((arrival.at_ns, reached));
        }
    }
    reach
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_positions() {
        let name = "0000000001000000-00000000010000ff-0123456789abcdef0123456789abcdef-0011223344556677";
        assert_eq!(positions(name), Some((0x0100_0000, 0x0100_00ff)));
        for bad in ["", ".tmp-1", "0000000001000000-00000000010000ff", "1-2-3-4"] {
            assert_eq!(positions(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_lies_behind_a_hole_does_not_count_until_it_is_filled() {
        let at = |start, end, at_ns| Arrival { start, end, at_ns };
        let seen = [at(0, 10, 1), at(20, 30, 2), at(10, 20, 5), at(30, 40, 7)];
        assert_eq!(reach(&seen), [(1, 10), (5, 20), (5, 30), (7, 40)]);
    }

    #[test]
    fn an_object_that_appears_is_seen_and_synced() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/bench/1-1");
        fs::create_dir_all(&log).unwrap();
        let watcher = Watcher::start(folder.path()).unwrap();
        let before = monotonic_ns();
        let name = "0000000000000010-0000000000000020-00-11";
        lifeboat_base::crashsafe::create(&log.join(name), b"x").unwrap();
        let seen = watcher.finish().unwrap();
        assert_eq!(seen.len(), 1);
        assert!(seen[0].start == 16 && seen[0].end == 32 && seen[0].at_ns > before, "{seen:?}");
        assert_eq!(log_end(folder.path()), 32);
    }
}
