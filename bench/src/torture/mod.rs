//! `lifeboat-bench torture`: real processes of two writers on one repository, each killed or frozen at a
//! random instant, and after each round the proof that nothing which was acknowledged is lost.
//!
//! In a round two writers work at once, each with its own state directory, on datasets of their own and on
//! one that both publish: backups, prunes with retention, restores. Lease and grace are seconds, so that a
//! process which is frozen for longer loses its claim while others delete. While one is frozen the other goes
//! on. A tree never changes while a backup reads it, so that whatever the backup published is known exactly.
//!
//! After the round, and undisturbed: the next backup succeeds; what is listed is what the ledger allows; the
//! newest snapshot of each dataset, one older one and all that appeared unacknowledged restore to the very
//! same trees. Every so often all of them do, and `check --read-data` finds nothing.
//!
//! The choices follow from the seed; the instants at which processes meet do not.

mod ledger;
mod process;
mod source;

use crate::data::remove_all;
use crate::draw::Draw;
use crate::error::BenchError;
use crate::lifeboat::{Lifeboat, failed};
use ledger::{Attempt, Ledger, Point};
use lifeboat_base::clock::{Clock, Stopwatch};
use lifeboat_base::{crashsafe, report as say};
use process::{Arena, Blow, Ended, Fate};
use serde_json::Value;
use source::Manifest;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(1);
/// How many snapshots retention keeps of each dataset.
const KEEP: usize = 3;
/// Every so many rounds everything is restored and checked.
const THOROUGH_EVERY: u32 = 25;
/// One round in so many must see a prune that deletes packs, so that the run means something.
const ROUNDS_PER_DELETION: u32 = 5;
const WRITERS: usize = 2;
/// The dataset that both writers publish.
const SHARED: &str = "shared";
/// How many more processes a writer starts while the other is frozen, at most.
const MORE_WHILE_FROZEN: usize = 4;

/// What `torture` was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Torture {
    /// How many rounds.
    pub(crate) rounds: u32,
    /// What the choices follow from.
    pub(crate) seed: u64,
    /// A folder that does not exist or is empty; removed when all went well.
    pub(crate) dir: PathBuf,
    /// Lifeboat's program.
    pub(crate) lifeboat: PathBuf,
}

/// Runs the rounds and prints a summary. 0 where nothing was violated, else 1.
///
/// # Errors
/// Where the machine does not let it run at all.
pub(crate) fn run(options: &Torture) -> Result<u8, BenchError> {
    crate::floor::packs::empty_folder(&options.dir)?;
    let torture = Run::prepare(options)?;
    progress(&format!("seed {}, {} rounds in {}", options.seed, options.rounds, options.dir.display()));
    let violation = torture.rounds();
    let mut tally = torture.tally().clone();
    let enough = tally.deleting >= u64::from(options.rounds / ROUNDS_PER_DELETION);
    let violation = match violation {
        Ok(()) if enough => None,
        Ok(()) => Some(format!("only {} prunes deleted packs, so little was tried", tally.deleting)),
        Err(violation) => Some(violation),
    };
    tally.took = torture.watch.elapsed();
    crate::print(&summary(options, &torture, &tally, violation.as_deref()))?;
    if violation.is_some() {
        return Ok(1);
    }
    remove_all(&options.dir).map(|()| 0)
}

/// What was counted.
#[derive(Clone, Debug, Default)]
struct Tally {
    rounds: u32,
    backups: u64,
    acknowledged: u64,
    prunes: u64,
    prunes_done: u64,
    deleting: u64,
    deleted_packs: u64,
    voided: u64,
    left_waiting: u64,
    restores_amid: u64,
    killed: u64,
    frozen: u64,
    frozen_past_lease: u64,
    compared: u64,
    checks: u64,
    took: Duration,
}

/// What a writer does with one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    Backup,
    Prune,
    Restore,
}

impl Verb {
    fn draw(draw: &mut Draw) -> Self {
        match draw.below(100) {
            0..45 => Self::Backup,
            45..88 => Self::Prune,
            _ => Self::Restore,
        }
    }

    /// The folder of the repository in which such a process claims something.
    fn claims(self) -> &'static str {
        match self {
            Self::Backup => "leases",
            Self::Prune => "condemned",
            Self::Restore => "readers",
        }
    }
}

struct Writer {
    number: usize,
    lifeboat: Lifeboat,
    tree: PathBuf,
    output: PathBuf,
}

struct Run {
    options: Torture,
    writers: Vec<Writer>,
    repository: PathBuf,
    ledger: Mutex<Ledger>,
    tally: Mutex<Tally>,
    /// How long each kind of process takes undisturbed.
    expected: Mutex<BTreeMap<Verb, Duration>>,
    /// How many processes are frozen now.
    frozen: AtomicUsize,
    watch: Stopwatch,
}

/// What must never be. Everything that goes wrong here is one: the machine is not at fault.
type Violated<T> = Result<T, String>;

fn in_words(error: BenchError) -> String {
    say(&error)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run {
    fn prepare(options: &Torture) -> Result<Self, BenchError> {
        let dir = fs::canonicalize(&options.dir).map_err(|e| BenchError::io("find", &options.dir, e))?;
        // A copy: a build that replaces the program must not change what is being tried.
        let (program, repository) = (dir.join("lifeboat"), dir.join("repository"));
        fs::copy(&options.lifeboat, &program).map_err(|e| BenchError::io("copy", &options.lifeboat, e))?;
        let writers: Vec<Writer> =
            (0..WRITERS).map(|number| writer(number, &dir, &program, &repository)).collect();
        for writer in &writers {
            let mut draw = Draw::new(options.seed, &format!("tree {}", writer.number));
            source::make(&writer.tree, &mut draw)?;
            crashsafe::create_dir_all(&writer.output)?;
        }
        init(&writers[0].lifeboat)?;
        for writer in &writers {
            // A key pair does not prove the root to a machine: it learns it from the passphrase.
            Lifeboat { key_file: None, ..writer.lifeboat.clone() }.json(["points"])?;
        }
        Ok(Self {
            options: options.clone(),
            writers,
            repository,
            ledger: Mutex::default(),
            tally: Mutex::default(),
            expected: Mutex::default(),
            frozen: AtomicUsize::new(0),
            watch: Stopwatch::start(),
        })
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    fn rounds(&self) -> Violated<()> {
        for round in 0..self.options.rounds {
            self.round(round).map_err(|violation| format!("round {}: {violation}", round + 1))?;
            self.tally().rounds += 1;
            if (round + 1).is_multiple_of(THOROUGH_EVERY) {
                let tally = self.tally().clone();
                progress(&format!(
                    "round {}: {} acknowledged, {} prunes deleted packs, {} killed, {} frozen, {} restores equal, {:.0} s",
                    round + 1,
                    tally.acknowledged,
                    tally.deleting,
                    tally.killed,
                    tally.frozen,
                    tally.compared,
                    self.watch.elapsed().as_secs_f64()
                ));
            }
        }
        Ok(())
    }

    fn round(&self, round: u32) -> Violated<()> {
        let draws: Vec<Draw> = (0..WRITERS)
            .map(|w| Draw::new(self.options.seed, &format!("round {round} writer {w}")))
            .collect();
        let ends: Vec<Violated<()>> = std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .writers
                .iter()
                .zip(draws)
                .map(|(writer, mut draw)| scope.spawn(move || self.turn(writer, &mut draw)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread died".to_owned())))
                .collect()
        });
        ends.into_iter().collect::<Violated<()>>()?;
        let mut draw = Draw::new(self.options.seed, &format!("round {round} after"));
        self.next_backup(round, &mut draw)?;
        self.verify(round, &mut draw)
    }

    /// One writer's part of a round: a process, and more while the other writer's is frozen.
    fn turn(&self, writer: &Writer, draw: &mut Draw) -> Violated<()> {
        self.step(writer, Verb::draw(draw), Fate::draw(draw, LEASE), draw)?;
        for _ in 0..MORE_WHILE_FROZEN {
            if self.frozen.load(Ordering::Relaxed) == 0 {
                break;
            }
            let fate = if draw.percent(50) { Fate::CALM } else { Fate::draw(draw, LEASE) };
            self.step(writer, Verb::draw(draw), fate, draw)?;
        }
        Ok(())
    }

    fn step(&self, writer: &Writer, verb: Verb, fate: Fate, draw: &mut Draw) -> Violated<()> {
        match verb {
            Verb::Backup => {
                let dataset = if draw.percent(50) { SHARED.to_owned() } else { own_dataset(writer) };
                self.backup(writer, &dataset, fate, draw)
            }
            Verb::Prune => self.prune(writer, fate, draw),
            Verb::Restore => self.restore_amid(writer, fate, draw),
        }
    }

    /// Runs one process of a writer and counts what befell it.
    fn process(&self, writer: &Writer, verb: Verb, args: &[&str], fate: Fate) -> Violated<Ended> {
        let expected = lock(&self.expected).get(&verb).copied().unwrap_or(Duration::from_millis(300));
        let watched = self.repository.join(verb.claims());
        let arena = Arena { output: &writer.output.join("process"), watched: &watched, expected };
        let mut command = writer.lifeboat.command(args);
        command.arg("--json");
        let told = |frozen| {
            let change = if frozen { AtomicUsize::fetch_add } else { AtomicUsize::fetch_sub };
            change(&self.frozen, 1, Ordering::Relaxed);
        };
        let ended = arena.run(&mut command, fate, &told).map_err(in_words)?;
        self.count(verb, fate, &ended);
        let killed = ended.was_killed() && ended.struck;
        // 5 says that something was left out: a prune may leave what others still hold to the next one.
        let fine = ended.code() == Some(0) || (verb == Verb::Prune && ended.code() == Some(5));
        if killed || fine {
            return Ok(ended);
        }
        Err(format!("{} (fate {fate:?})", say(&failed(&command, &ended.said(), b""))))
    }

    fn count(&self, verb: Verb, fate: Fate, ended: &Ended) {
        if fate.blow == Blow::None && ended.code() == Some(0) {
            let mut expected = lock(&self.expected);
            let known = expected.entry(verb).or_insert(ended.took);
            *known = (*known * 3 + ended.took) / 4;
        }
        let mut tally = self.tally();
        match verb {
            Verb::Backup => tally.backups += 1,
            Verb::Prune => tally.prunes += 1,
            Verb::Restore => tally.restores_amid += 1,
        }
        tally.killed += u64::from(ended.was_killed());
        if let (Some(time), true) = (fate.frozen(), ended.struck) {
            tally.frozen += 1;
            tally.frozen_past_lease += u64::from(time > LEASE);
        }
    }

    fn backup(&self, writer: &Writer, dataset: &str, fate: Fate, draw: &mut Draw) -> Violated<()> {
        source::mutate(&writer.tree, draw).map_err(in_words)?;
        let manifest = Arc::new(source::manifest(&writer.tree).map_err(in_words)?);
        let tree = writer.tree.to_string_lossy();
        let began = Clock::System.now();
        let ended = self.process(writer, Verb::Backup, &["backup", &tree, "--name", dataset], fate)?;
        if ended.code() == Some(0) {
            let document = parsed(&ended)?;
            let point = Point::from_json(&document["backups"][0])?;
            lock(&self.ledger).acknowledged(point, manifest);
            self.tally().acknowledged += 1;
            return Ok(());
        }
        let ended = Clock::System.now();
        let (dataset, source) = (dataset.to_owned(), writer.tree.clone());
        lock(&self.ledger).attempted(Attempt { dataset, source, began, ended, manifest });
        Ok(())
    }

    fn prune(&self, writer: &Writer, fate: Fate, draw: &mut Draw) -> Violated<()> {
        let keep = KEEP.to_string();
        let unused = ["0", "5", "10"][draw.below(3)];
        let wait = if draw.percent(15) { "100ms" } else { "30s" };
        let args = ["prune", "--at-least", &keep, "--max-unused", unused, "--wait", wait];
        let ended = self.process(writer, Verb::Prune, &args, fate)?;
        if !matches!(ended.code(), Some(0 | 5)) {
            return Ok(());
        }
        let document = parsed(&ended)?;
        let mut tally = self.tally();
        let deleted = document["deleted_packs"].as_u64().unwrap_or(0);
        tally.prunes_done += 1;
        tally.deleting += u64::from(deleted > 0);
        tally.deleted_packs += deleted;
        tally.voided += document["voided"].as_array().map_or(0, |voided| voided.len() as u64);
        let waiting = ended.code() == Some(5);
        tally.left_waiting += u64::from(waiting);
        if waiting && wait != "100ms" {
            return Err(format!("a prune waited {wait} in vain for {}", document["waiting_for"]));
        }
        Ok(())
    }

    /// A restore beside everything else. Only SIGKILL befalls it: a reader that is frozen past its lease has
    /// lost what it pinned, and may say so.
    fn restore_amid(&self, writer: &Writer, fate: Fate, draw: &mut Draw) -> Violated<()> {
        let present: Vec<Point> = lock(&self.ledger).present().iter().map(|k| k.point.clone()).collect();
        // The newest of a dataset, which no retention forgets meanwhile.
        let newest: BTreeMap<String, Point> =
            present.into_iter().map(|point| (point.dataset.clone(), point)).collect();
        let newest: Vec<Point> = newest.into_values().collect();
        let Some(point) = draw.of(&newest) else { return Ok(()) };
        let fate = if fate.blow == Blow::Kill { fate } else { Fate::CALM };
        let target = writer.output.join("restored");
        remove_all(&target).map_err(in_words)?;
        let into = target.to_string_lossy();
        let args = ["restore", &point.dataset, "--to", &point.id, "--into", &into];
        let ended = self.process(writer, Verb::Restore, &args, fate)?;
        if ended.code() == Some(0) {
            self.compare(&point.id, &target)?;
        }
        remove_all(&target).map_err(in_words)
    }

    /// Whatever has happened, the next backup succeeds.
    fn next_backup(&self, round: u32, draw: &mut Draw) -> Violated<()> {
        let writer = &self.writers[round as usize % WRITERS];
        let dataset = if (round as usize / WRITERS).is_multiple_of(2) {
            own_dataset(writer)
        } else {
            SHARED.to_owned()
        };
        self.backup(writer, &dataset, Fate::CALM, draw).map_err(|e| format!("the next backup: {e}"))
    }

    fn verify(&self, round: u32, draw: &mut Draw) -> Violated<()> {
        let tombstones = ledger::tombstones(&self.repository).map_err(in_words)?;
        let listed = self.writers[0].lifeboat.json(["points"]).map_err(in_words)?;
        let appeared = lock(&self.ledger).compare(&listed, &tombstones, KEEP)?;
        let thorough = (round + 1).is_multiple_of(THOROUGH_EVERY);
        let chosen = self.chosen(thorough, appeared, draw);
        self.restore_all(&chosen)?;
        if thorough {
            self.writers[1].lifeboat.json(["check", "--read-data"]).map_err(in_words)?;
            self.tally().checks += 1;
        }
        Ok(())
    }

    /// What is restored after a round.
    fn chosen(&self, thorough: bool, appeared: Vec<String>, draw: &mut Draw) -> Vec<Point> {
        let ledger = lock(&self.ledger);
        let present = ledger.present();
        let newest: BTreeMap<&str, &str> =
            present.iter().map(|k| (k.point.dataset.as_str(), k.point.id.as_str())).collect();
        let older: Vec<&str> = present
            .iter()
            .map(|k| k.point.id.as_str())
            .filter(|id| !newest.values().any(|newest| newest == id))
            .collect();
        let one_older = draw.of(&older).copied();
        let is_chosen = |point: &Point| {
            thorough
                || newest.get(point.dataset.as_str()) == Some(&point.id.as_str())
                || one_older == Some(point.id.as_str())
                || appeared.contains(&point.id)
        };
        present.iter().map(|known| known.point.clone()).filter(|point| is_chosen(point)).collect()
    }

    fn restore_all(&self, points: &[Point]) -> Violated<()> {
        let next = AtomicUsize::new(0);
        let work = |writer: &Writer| -> Violated<()> {
            while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.restore(writer, point)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                self.writers.iter().map(|writer| scope.spawn(move || work(writer))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("a thread died".to_owned())))
        })
    }

    fn restore(&self, writer: &Writer, point: &Point) -> Violated<()> {
        let target = writer.output.join("restored");
        remove_all(&target).map_err(in_words)?;
        let into = target.to_string_lossy();
        let args = ["restore", &point.dataset, "--to", &point.id, "--into", &into];
        writer.lifeboat.json(args).map_err(in_words)?;
        self.compare(&point.id, &target)?;
        remove_all(&target).map_err(in_words)
    }

    fn compare(&self, id: &str, target: &Path) -> Violated<()> {
        let expected: Arc<Manifest> =
            lock(&self.ledger).manifest(id).ok_or_else(|| format!("snapshot {id} is not known"))?;
        let found = source::manifest(target).map_err(in_words)?;
        self.tally().compared += 1;
        match source::difference(&expected, &found) {
            None => Ok(()),
            Some(what) => Err(format!("snapshot {id} restores to something else: {what}")),
        }
    }
}

fn writer(number: usize, dir: &Path, program: &Path, repository: &Path) -> Writer {
    let of = |what: &str| dir.join(format!("{what}-{number}"));
    let lifeboat = Lifeboat {
        program: program.to_owned(),
        folder: dir.to_owned(),
        repository: repository.to_owned(),
        state: of("state"),
        key_file: Some(dir.join("key")),
    };
    Writer { number, lifeboat, tree: of("tree"), output: of("output") }
}

fn own_dataset(writer: &Writer) -> String {
    format!("own-{}", writer.number)
}

/// Makes the repository, and a slot that opens without the cost of a passphrase, so that processes spend
/// their lives with what may go wrong.
fn init(lifeboat: &Lifeboat) -> Result<(), BenchError> {
    let first = Lifeboat { key_file: None, ..lifeboat.clone() };
    let (lease, grace) = (format!("{}s", LEASE.as_secs()), format!("{}s", GRACE.as_secs()));
    first.json(["repo", "init", "--no-recovery-key", "--lease", &lease, "--grace", &grace])?;
    let key_file = lifeboat.folder.join("key").to_string_lossy().into_owned();
    let pair = first.json(["key", "pair", &key_file])?;
    let public = pair["public_key"].as_str().unwrap_or_default();
    first.json(["key", "add", "--public-key", public, "--admin"])?;
    Ok(())
}

fn parsed(ended: &Ended) -> Violated<Value> {
    serde_json::from_slice(&ended.stdout)
        .map_err(|error| format!("it printed no JSON ({error}): {}", ended.said()))
}

fn summary(options: &Torture, run: &Run, tally: &Tally, violation: Option<&str>) -> String {
    let ledger = lock(&run.ledger);
    let rows = [
        ("rounds", u64::from(tally.rounds)),
        ("backups started", tally.backups),
        ("… acknowledged", tally.acknowledged),
        ("… published, though never acknowledged", ledger.appeared),
        ("prunes started", tally.prunes),
        ("… that ended by themselves", tally.prunes_done),
        ("… that deleted packs", tally.deleting),
        ("… that left something to the next one", tally.left_waiting),
        ("packs that they deleted", tally.deleted_packs),
        ("verdicts in the repository", ledger::objects(&run.repository, "verdicts")),
        ("slots taken from writers whose lease had lapsed", tally.voided),
        ("restores started amid the others", tally.restores_amid),
        ("processes killed", tally.killed),
        ("processes frozen", tally.frozen),
        ("… for longer than the lease", tally.frozen_past_lease),
        ("snapshots forgotten by retention", ledger.forgotten() as u64),
        ("restores compared byte for byte", tally.compared),
        ("full checks, nothing found", tally.checks),
    ];
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(
        text,
        "Torture: seed {}, began {} s ago, lease {} s, grace {} s.\n\n| | |\n|---|---|",
        options.seed,
        tally.took.as_secs(),
        LEASE.as_secs(),
        GRACE.as_secs()
    );
    for (what, count) in rows {
        let _ = writeln!(text, "| {what} | {count} |");
    }
    let _ = match violation {
        None => writeln!(text, "\nNothing that was acknowledged was lost, and nothing else was violated."),
        Some(what) => {
            writeln!(text, "\n**Violated**: {what}\nEverything is kept in {}.", options.dir.display())
        }
    };
    text
}

fn progress(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
