//! A process that spools and publishes is killed at every moment that has a name, and at random ones: what it had
//! acknowledged is there, and what it had published is there once.
//!
//! The process is this test program again, told by its environment what to be. `LIFEBOAT_TEST_SEED` pins the random
//! kills.

use super::*;
use crate::sink::{FollowedLog, RepositoryLog, WalSink};
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::random;
use lifeboat_objects::directory::DirectoryStore;
use lifeboat_objects::{SharedStore, list_all};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{
    Environment, InitOptions, Lock, LogCatalogue, LogPayload, LogReader, Repository, Unlock,
};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const SYSTEM: SystemId = SystemId(77);
const ONE: TimelineId = TimelineId(1);
const BEGIN: u64 = 1000;
const PLACE: &str = "LIFEBOAT_TEST_SPOOL";
const SEED: &str = "LIFEBOAT_TEST_SEED";
const LIMIT: u64 = 5 * FILE_BYTES;
/// So many stretches go into more than one file.
const STRETCHES: u64 = 24;
const AT_MOST: Duration = Duration::from_secs(300);

/// Every moment at which something has changed that another process will find.
const MOMENTS: [&str; 10] = [
    "spool::file-made",
    "spool::file-begun",
    "spool::record-written",
    "spool::record-synced",
    "spool::published",
    "spool::file-removed",
    "crashsafe::synced",
    "crashsafe::named",
    "log::before-put",
    "log::after-put",
];

/// A place with a repository that several processes open one after the other.
struct House {
    folder: TempDir,
}

fn environment(place: &Path) -> Environment {
    Environment {
        state: Some(place.join("state")),
        writer_key: None,
        host: "test".to_owned(),
        clock: Clock::System,
    }
}

fn secret() -> lifeboat_base::Secret {
    lifeboat_base::Secret::new(vec![7; 32])
}

fn dataset() -> DatasetName {
    DatasetName::new("app").unwrap()
}

fn open(place: &Path) -> (SharedStore, Arc<Repository>) {
    let store: SharedStore = Arc::new(DirectoryStore::open(place.join("repository")).unwrap());
    let repository = Repository::open(store.clone(), &Unlock::Command(secret()), environment(place)).unwrap();
    (store, Arc::new(repository))
}

fn open_spool(place: &Path, repository: &Repository) -> Spool {
    let owner = SpoolOwner { repository: repository.id(), dataset: dataset() };
    Spool::open(&place.join("spool"), owner, LIMIT).unwrap()
}

fn bytes(from: u64, length: u64) -> Vec<u8> {
    (from..from + length).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// Some are as long as a stretch gets, most are a commit.
fn length_of(number: u64) -> u64 {
    if number.is_multiple_of(4) { 6 << 20 } else { 100 + number * 977 % 9000 }
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let place = folder.path();
        let store = Arc::new(DirectoryStore::create(place.join("repository")).unwrap());
        let locks = [(Lock::Command(secret()), "test".to_owned())];
        Repository::init(store, &locks, &InitOptions::default(), environment(place)).unwrap();
        Self { folder }
    }

    /// A process that goes on where the last one ended.
    fn spooler(&self, failpoints: &str) -> Spooler {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "spool::kills::child", "--nocapture", "--test-threads=1"]);
        command.env(PLACE, self.folder.path()).env("LIFEBOAT_FAILPOINTS", failpoints);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Spooler { child, lines, acknowledged: 0 }
    }

    /// Looks at what was left, and publishes it. Gives back where the log ends then.
    fn drained(&self, acknowledged: u64) -> u64 {
        let (store, repository) = open(self.folder.path());
        let spool = Arc::new(open_spool(self.folder.path(), &repository));
        let mut log = SpooledLog::new(&spool, RepositoryLog::new(&repository, &dataset(), SYSTEM));
        let end = FollowedLog::end(&mut log, ONE).unwrap().map_or(BEGIN, |end| end.0);
        assert!(end >= acknowledged, "acknowledged to {acknowledged}, and there to {end}");
        drain(&spool, &repository, &mut |_| {}).unwrap();
        is_there_once(&store, &repository, end);
        end
    }
}

/// The repository holds everything up to a position, and no byte of it twice.
fn is_there_once(store: &SharedStore, repository: &Arc<Repository>, end: u64) {
    let lineage = crate::lineage::of_timeline(SYSTEM, ONE).unwrap();
    let catalogue = LogCatalogue::read(repository, &dataset()).unwrap();
    let mut at = BEGIN;
    if end > BEGIN {
        for piece in LogReader::over(catalogue, &lineage, BEGIN..end) {
            let piece = piece.unwrap();
            let LogPayload::Bytes(kept) = piece.payload else { panic!("bytes") };
            assert_eq!(piece.start, at);
            assert!(kept == bytes(at, kept.len() as u64), "other bytes from {at} on");
            at = piece.end;
        }
    }
    assert_eq!(at, end);
    let prefix = format!("logs/app/{lineage}/");
    let stored: u64 = list_all(&**store, &prefix).unwrap().iter().map(|object| length(&object.key)).sum();
    assert_eq!(stored, end - BEGIN, "something is stored twice");
}

/// How many positions an object of a log holds, by its name.
fn length(key: &lifeboat_objects::Key) -> u64 {
    let key = key.to_string();
    let mut parts = key.rsplit('/').next().unwrap().split('-').map(|part| u64::from_str_radix(part, 16));
    let (start, end) = (parts.next().unwrap().unwrap(), parts.next().unwrap().unwrap());
    end - start
}

/// A process that spools and publishes.
struct Spooler {
    child: Child,
    lines: BufReader<ChildStdout>,
    acknowledged: u64,
}

impl Spooler {
    /// Hears what it acknowledges, until it has done so often or ends.
    fn hear(&mut self, times: u64) {
        let mut line = String::new();
        for _ in 0..times {
            line.clear();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return;
            }
            if let Some(end) = line.trim().strip_prefix("acknowledged ") {
                self.acknowledged = end.parse().unwrap();
            }
        }
    }

    /// Waits until it ends by itself; true where it was killed.
    fn until_killed(mut self) -> (u64, bool) {
        self.hear(u64::MAX);
        let status = self.child.wait().unwrap();
        assert!(status.success() || status.signal() == Some(9), "{status}");
        (self.acknowledged, status.signal() == Some(9))
    }

    fn kill(mut self) -> u64 {
        self.child.kill().unwrap();
        // What it had said before.
        self.hear(u64::MAX);
        self.child.wait().unwrap();
        self.acknowledged
    }
}

/// The process: appends where the log ends, says what is durable, and publishes beside it.
#[test]
fn child() {
    let Some(place) = std::env::var_os(PLACE) else { return };
    let place = Path::new(&place);
    let (_, repository) = open(place);
    let spool = Arc::new(open_spool(place, &repository));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let how = Publishing {
                gather: Duration::from_millis(5),
                ends: &done,
                say: &|event| panic!("{event:?}"),
                pause: &|_| false,
            };
            Publisher::new(&spool, &repository).run(&how).unwrap();
        });
        append_all(&spool, &repository);
        done.store(true, Ordering::Relaxed);
    });
}

fn append_all(spool: &Arc<Spool>, repository: &Arc<Repository>) {
    let mut log = SpooledLog::new(spool, RepositoryLog::new(repository, &dataset(), SYSTEM));
    let mut end = FollowedLog::end(&mut log, ONE).unwrap().map_or(BEGIN, |end| end.0);
    let watch = Stopwatch::start();
    for number in 0..STRETCHES {
        let now = Clock::System.now();
        let bytes = bytes(end, length_of(number));
        let stretch = WalStretch { timeline: ONE, start: Lsn(end), bytes, first: now, last: now };
        while let Err(error) = log.append(&stretch) {
            assert!(watch.elapsed() < AT_MOST && error.is_passing(), "{error}");
        }
        end = stretch.end().0;
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {end}").unwrap();
    }
}

#[test]
fn killed_at_every_moment_that_has_a_name_it_loses_nothing_and_stores_nothing_twice() {
    let house = House::new();
    let mut end = BEGIN;
    for moment in MOMENTS {
        let mut killed = 0;
        for passes in [0, 1, 3] {
            let spooler = house.spooler(&format!("{moment}={passes}*kill"));
            let (acknowledged, was_killed) = spooler.until_killed();
            killed += u32::from(was_killed);
            end = house.drained(acknowledged.max(end));
        }
        assert!(killed > 0, "nobody comes by {moment}");
    }
}

#[test]
fn killed_at_random_moments_it_loses_nothing_and_stores_nothing_twice() {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from_le_bytes(random::bytes()));
    println!("{SEED}={seed}");
    let (house, mut draw, mut acknowledged) = (House::new(), seed, BEGIN);
    let mut draws = |below: u64| {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (draw >> 33) % below
    };
    for round in 0..12 {
        let mut spooler = house.spooler("");
        spooler.hear(draws(STRETCHES + 10));
        std::thread::sleep(Duration::from_millis(draws(40)));
        acknowledged = spooler.kill().max(acknowledged);
        // Some are followed by the next process, which goes on with what is left.
        if draws(3) == 0 || round == 11 {
            acknowledged = house.drained(acknowledged);
        }
    }
}
