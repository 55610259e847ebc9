//! `lifeboat serve`: killed at random instants, brought back from a copy alone, and two of them of which one leads.
//! Seeds are printed; `LIFEBOAT_TEST_SEED` pins one, `LIFEBOAT_KILLS` says how often (100 for what is shown).

use crate::place::{PASSPHRASE, Place, Ran, Random, noise};
use crate::tree;
use lifeboat_postgres_server::testing::{TestCluster, test_installation};
use rusqlite::Connection;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What is waited for at most: a machine that is busy is slow, one that hangs is broken.
const PATIENCE: Duration = Duration::from_secs(120);

/// A service at work.
pub(crate) struct Serving {
    child: Child,
    events: Receiver<Value>,
    /// What it said so far that nobody waited for.
    pub(crate) said: Vec<Value>,
}

impl Serving {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let (sender, events) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let Ok(event) = serde_json::from_str(&line) else { continue };
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Self { child, events, said: Vec::new() }
    }

    /// Waits for an event; what comes before it is kept in `said`.
    #[track_caller]
    pub(crate) fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match self.events.recv_timeout(Duration::from_millis(200)) {
                Ok(event) if is_it(&event) => return event,
                Ok(event) => self.said.push(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        panic!(
            "it was waited for in vain; said before: {:#?}",
            self.said.iter().rev().take(20).collect::<Vec<_>>()
        );
    }

    /// Waits until a task ended so.
    #[track_caller]
    pub(crate) fn until_ended(&mut self, task: &str, outcome: &str) -> Value {
        self.until(|event| {
            event["subject"] == task && event["event"] == "ended" && event["detail"]["outcome"] == outcome
        })
    }

    pub(crate) fn id(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.id(), signal).unwrap();
    }

    /// Whether it was still running.
    pub(crate) fn kill(mut self) -> bool {
        let was_running = self.child.try_wait().unwrap().is_none();
        let _ = self.child.kill();
        self.child.wait().unwrap();
        was_running
    }

    /// Waits until it has stopped as by SIGSTOP (proc(5): the state is what follows the name in parentheses).
    #[track_caller]
    fn until_frozen(&self) {
        let begun = Instant::now();
        let stat = format!("/proc/{}/stat", self.id());
        let is_frozen = |stat: &str| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T"));
        while !is_frozen(&std::fs::read_to_string(&stat).unwrap()) {
            assert!(begun.elapsed() < PATIENCE, "it never froze");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Told to end, it ends well.
    pub(crate) fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rounds() -> u64 {
    std::env::var("LIFEBOAT_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// A tree and a database that change, a repository, a copy elsewhere, and a plan that is due every second.
struct Kept {
    place: Place,
}

impl Kept {
    fn new() -> Self {
        let place = Place::new();
        place.write("copy-key", PASSPHRASE);
        let copy = place.path("copy").display().to_string();
        make_copy(&place, &copy);
        let kept = Self { place };
        kept.change(0);
        let (tree, app) = (kept.place.path("tree"), kept.place.path("app.db"));
        let plan = format!(
            r#"
            [serve]
            listen = "127.0.0.1:0"
            [datasets.tree]
            store = "{}"
            host = "here"
            protect = {{ every = "1s" }}
            prove = {{ every = "2s" }}
            [datasets.app]
            store = "{}"
            host = "here"
            protect = {{ mode = "on-change", look_every = "1s" }}
            [[copies]]
            name = "away"
            url = "{copy}"
            key = "file:{}"
            schedule = {{ every = "2s" }}
            "#,
            tree.display(),
            app.display(),
            kept.place.path("copy-key").display(),
        );
        kept.place.write("plan.toml", plan);
        kept
    }

    fn change(&self, round: u64) {
        self.place.write(&format!("tree/{}", round % 3), noise(round, 1 << 16));
        let database = Connection::open(self.place.path("app.db")).unwrap();
        database.execute_batch("CREATE TABLE IF NOT EXISTS t (x)").unwrap();
        database.execute("INSERT INTO t VALUES (?1)", [i64::try_from(round).unwrap()]).unwrap();
    }

    fn serve(&self) -> Serving {
        let arguments = ["serve", "--json", "--plan", "plan.toml", "--this-host", "here"];
        Serving::start(self.place.command(&arguments))
    }

    fn state(&self) -> Connection {
        Connection::open(self.place.path("state/controller/controller.db")).unwrap()
    }

    /// The identities of a dataset's snapshots in the repository.
    fn snapshots(&self, dataset: &str) -> BTreeSet<String> {
        let points = self.place.json(&["points", dataset]);
        let points = points["points"].as_array().unwrap();
        points.iter().map(|point| point["snapshot"].as_str().unwrap().to_owned()).collect()
    }
}

fn make_copy(place: &Place, copy: &str) {
    let mut init = place.command(&["repo", "init", "-r", copy, "--copy-of", "repo", "--no-recovery-key"]);
    init.env("LIFEBOAT_KEY", "env:LIFEBOAT_PASSPHRASE").env("LIFEBOAT_ORIGIN_PASSPHRASE", PASSPHRASE);
    Ran::of(&mut init).expect(0);
}

/// A job as the state has it.
struct Job {
    task: String,
    begun: i64,
    ended: Option<i64>,
    detail: Value,
}

fn jobs(state: &Connection) -> Vec<Job> {
    let mut statement = state.prepare("SELECT task, begun, ended, detail FROM jobs ORDER BY job").unwrap();
    let rows = statement.query_map([], |row| {
        let detail: Option<String> = row.get(3)?;
        let detail = detail.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Ok(Job { task: row.get(0)?, begun: row.get(1)?, ended: row.get(2)?, detail })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// The state makes sense: records without a gap, every job ended, never two of one dataset at once.
fn assert_consistent(state: &Connection) {
    let (count, end): (i64, i64) = state
        .query_row("SELECT count(*), max(sequence) FROM records", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(count, end, "a record is missing");
    let mut busy: BTreeMap<String, i64> = BTreeMap::new();
    for job in jobs(state) {
        let ended = job.ended.unwrap_or_else(|| panic!("{} is still open", job.task));
        let (_, subject) = job.task.split_once(' ').unwrap_or(("", "repository"));
        let until = busy.entry(subject.to_owned()).or_default();
        assert!(job.begun >= *until, "two jobs of {subject} at once");
        *until = ended;
    }
}

/// Every snapshot is some job's, and no job's is another's: nothing doubled, nothing forgotten.
fn assert_nothing_doubled_or_forgotten(kept: &Kept, state: &Connection) {
    for (dataset, task) in [("tree", "snapshot tree"), ("app", "look app")] {
        let of_jobs: Vec<String> = jobs(state)
            .into_iter()
            .filter(|job| job.task == task)
            .filter_map(|job| job.detail["snapshot"].as_str().map(str::to_owned))
            .collect();
        let distinct: BTreeSet<String> = of_jobs.iter().cloned().collect();
        assert_eq!(distinct.len(), of_jobs.len(), "a snapshot of {dataset} is two jobs'");
        assert_eq!(distinct, kept.snapshots(dataset), "{dataset}: what jobs say and what there is");
    }
}

#[test]
fn kills_at_any_instant_double_and_forget_nothing_and_a_copy_alone_brings_it_back() {
    let mut random = Random::seeded();
    let kept = Kept::new();
    let mut killed = 0;
    for round in 1..=rounds() {
        let serving = kept.serve();
        std::thread::sleep(Duration::from_millis(random.below(1500)));
        killed += u64::from(serving.kill());
        kept.change(round);
    }
    assert_eq!(killed, rounds(), "some ended before they were killed");
    let mut serving = kept.serve();
    let mut missing = BTreeSet::from(["snapshot tree", "proof tree", "look app"]);
    while !missing.is_empty() {
        let ended = serving.until(|event| event["event"] == "ended" && event["detail"]["outcome"] == "done");
        missing.remove(ended["subject"].as_str().unwrap());
    }
    // What came last is in the copy as well, records included: of two copies the second began after it.
    serving.until_ended("copy away", "done");
    serving.until_ended("copy away", "done");
    serving.stop();
    let state = kept.state();
    assert_consistent(&state);
    assert_nothing_doubled_or_forgotten(&kept, &state);
    kept.place.run(&["check", "--read-data"]).expect(0);
    comes_back_from_the_copy_alone(&kept);
}

/// The machine is gone with its repository: a new one has the copy's address and an admin key.
fn comes_back_from_the_copy_alone(kept: &Kept) {
    let machine = Place::empty();
    let copy = kept.place.path("copy").display().to_string();
    let tree_before = tree::of(&kept.place.path("tree"));
    for gone in ["repo", "state", "tree"] {
        std::fs::remove_dir_all(kept.place.path(gone)).unwrap();
    }
    let on_machine = |arguments: &[&str]| {
        let mut command = machine.command(arguments);
        command.env("LIFEBOAT_REPOSITORY", &copy).env("LIFEBOAT_HOST", "new-host");
        command
    };
    let mut serving = Serving::start(on_machine(&["serve", "--recover", "--json"]));
    let recovered = serving.until(|event| event["event"] == "recovered");
    assert_eq!(recovered["detail"]["lost_host"], "here", "{recovered}");
    assert!(recovered["detail"]["records"].as_u64().unwrap() > 3, "{recovered}");
    assert_eq!(recovered["detail"]["revoked"].as_array().unwrap().len(), 1, "{recovered}");
    serving.until(|event| event["subject"] == "leader" && event["event"] == "led");
    serving.stop();
    let plan = std::fs::read_to_string(machine.path("lifeboat.toml")).unwrap();
    assert_eq!(plan, std::fs::read_to_string(kept.place.path("plan.toml")).unwrap());
    Ran::of(&mut on_machine(&["restore", "tree", "--to", "latest", "--into", "back"])).expect(0);
    assert!(tree::of(&machine.path("back")) == tree_before, "the tree came back otherwise");
    // The lost host's key opens nothing for writing any more.
    let again = Ran::of(&mut on_machine(&["serve", "--recover", "--json"]));
    assert_ne!(again.code, Some(0), "{again}");
}

/// Two hosts that keep one plan: a server that either may follow.
struct Two {
    place: Place,
    cluster: TestCluster,
}

impl Two {
    fn new() -> Option<Self> {
        let installation = test_installation(15)?;
        let two = Self { place: Place::new(), cluster: TestCluster::start(&installation) };
        two.cluster.psql("create table rows (id bigint primary key)");
        let plan = r#"
            [serve]
            listen = "127.0.0.1:0"
            leader_silence = "3s"
            [datasets.app]
            store = "postgres:///postgres"
            protect = { mode = "continuous", every = "2s" }
        "#;
        two.place.write("plan.toml", plan);
        Some(two)
    }

    fn serve(&self, host: &str, failpoints: &str) -> Serving {
        let mut command =
            self.place.command(&["serve", "--json", "--plan", "plan.toml", "--this-host", host]);
        command
            .env("LIFEBOAT_FAILPOINTS", failpoints)
            .env("LIFEBOAT_STATE", self.place.path(&format!("state-{host}")))
            .env("PGHOST", self.cluster.socket_dir())
            .env("PGPORT", self.cluster.port().to_string())
            .env("PGUSER", "postgres");
        Serving::start(command)
    }
}

fn led(event: &Value) -> bool {
    event["subject"] == "leader" && event["event"] == "led"
}

fn followed(event: &Value) -> bool {
    event["subject"] == "leader" && event["event"] == "followed"
}

/// Writes rows until it is dropped.
struct Writer<'c> {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::ScopedJoinHandle<'c, u64>>,
}

impl<'c> Writer<'c> {
    fn start<'s: 'c>(scope: &'c std::thread::Scope<'c, '_>, cluster: &'s TestCluster) -> Self {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = stop.clone();
        let thread = scope.spawn(move || {
            let mut next = 0;
            while !flag.load(std::sync::atomic::Ordering::Relaxed) {
                cluster.psql(&format!("insert into rows select generate_series({next}, {next} + 9)"));
                next += 10;
                std::thread::sleep(Duration::from_millis(50));
            }
            next
        });
        Self { stop, thread: Some(thread) }
    }

    /// How many rows were acknowledged.
    fn stop(mut self) -> u64 {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// Waits until the follower has acknowledged everything.
fn until_all_is_durable(cluster: &TestCluster) {
    let asked = "select coalesce(bool_or(flush_lsn >= pg_current_wal_lsn()), false) from pg_stat_replication";
    let begun = Instant::now();
    while cluster.psql(asked).trim() != "t" {
        assert!(begun.elapsed() < PATIENCE, "it was never durable");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A leader that comes to publish its fourth snapshot stops there, having been sure that it leads. The ones before
/// leave it the time to stream.
const FREEZES: &str = "leader::before-publication=3*freeze";

/// How a leader is taken out of the way.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Killed,
    /// Right before it publishes, which it does as soon as it thaws.
    FrozenAtPublication,
    /// Anywhere in the middle of a snapshot.
    FrozenSomewhere,
}

/// So many of each kind, at least two; the first two that freeze, each host once, do so where it matters most.
fn faults(rounds: usize) -> Vec<Fault> {
    let rounds = rounds.max(2);
    let mut faults = vec![Fault::Killed; rounds];
    faults.extend([Fault::FrozenAtPublication; 2]);
    faults.resize(2 * rounds, Fault::FrozenSomewhere);
    faults
}

fn strike(leader: &mut Serving, fault: Fault, random: &mut Random) {
    match fault {
        Fault::Killed => {
            std::thread::sleep(Duration::from_millis(random.below(2500)));
            leader.signal(rustix::process::Signal::KILL);
        }
        Fault::FrozenAtPublication => leader.until_frozen(),
        Fault::FrozenSomewhere => {
            leader.until(|event| event["subject"] == "snapshot app" && event["event"] == "began");
            leader.signal(rustix::process::Signal::STOP);
        }
    }
}

#[test]
fn a_snapshot_that_a_stream_takes_leaves_a_receipt() {
    let Some(two) = Two::new() else { return };
    let mut serving = two.serve("a", "");
    let taken = serving.until(|event| event["event"] == "base-taken");
    serving.stop();
    let listed = two.place.json(&["evidence", "list", "--kind", "backup", "--dataset", "app"]);
    let id = taken["detail"]["snapshot"].as_str().unwrap();
    let receipts = listed["receipts"].as_array().unwrap();
    let of_it = receipts.iter().map(|one| &one["receipt"]).find(|receipt| receipt.to_string().contains(id));
    let receipt = of_it.unwrap_or_else(|| panic!("{listed:#}"));
    assert_eq!((&receipt["outcome"], &receipt["who"]), (&"done".into(), &"serve".into()), "{receipt:#}");
}

#[test]
#[expect(clippy::print_stderr, reason = "how long takeovers took is what the run is for")]
fn one_of_two_leads_through_kills_and_freezes() {
    let Some(two) = Two::new() else { return };
    let rounds = std::env::var("LIFEBOAT_TAKEOVERS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let faults = faults(rounds);
    let mut random = Random::seeded();
    let mut leader = two.serve("a", "");
    leader.until(led);
    let (mut other, mut hosts) = (two.serve("b", ""), ["a", "b"]);
    other.until(followed);
    leader.until(|event| event["event"] == "base-taken");
    let rows = std::thread::scope(|scope| {
        let writer = Writer::start(scope, &two.cluster);
        let mut took = Vec::new();
        for (round, fault) in faults.iter().enumerate() {
            strike(&mut leader, *fault, &mut random);
            let begun = Instant::now();
            other.until(led);
            let led_after = begun.elapsed().as_secs_f64();
            other.until(|event| event["subject"] == "app" && event["event"] == "streaming");
            took.push((led_after, begun.elapsed().as_secs_f64()));
            if *fault == Fault::FrozenAtPublication {
                // From then on what the one before publishes is too late.
                other.until_ended("snapshot app", "done");
            }
            if *fault == Fault::Killed {
                // It leads again two rounds later.
                let freezes = faults.get(round + 2) == Some(&Fault::FrozenAtPublication);
                leader = two.serve(hosts[0], if freezes { FREEZES } else { "" });
            } else {
                leader.signal(rustix::process::Signal::CONT);
            }
            leader.until(followed);
            std::mem::swap(&mut leader, &mut other);
            hosts.swap(0, 1);
        }
        let longest =
            took.iter().fold((0.0, 0.0), |(a, b), (led, streams)| (f64::max(a, *led), f64::max(b, *streams)));
        eprintln!("seconds until another led and streamed: {took:.1?}; the longest {longest:.1?}");
        writer.stop()
    });
    // Whatever led, what the server was told is durable is there: one stretch, and every row in it.
    until_all_is_durable(&two.cluster);
    other.stop();
    leader.stop();
    let points = two.place.json(&["points", "app"]);
    assert_nothing_late_counts(&two, &points);
    assert_eq!(points["logs"][0]["holes"].as_array().unwrap().len(), 0, "{points:#}");
    let proven = two.place.json(&["prove", "app"]);
    assert_eq!(proven["proofs"][0]["proof"]["verdict"], "proven", "{proven:#}");
    let restored = &proven["proofs"][0]["proof"]["cluster"]["tables"];
    let kept = restored.as_array().unwrap().iter().find(|table| table["table"] == "public.rows");
    assert_eq!(kept.unwrap()["rows"].as_u64(), Some(rows), "{restored:#}");
}

/// What a leader published after it had been replaced is found, and is nobody's recovery point.
#[expect(clippy::print_stderr, reason = "how often it came to that is what the run is for")]
fn assert_nothing_late_counts(two: &Two, points: &Value) {
    let checked = two.place.json(&["check"]);
    let void = checked["void"].as_array().unwrap();
    eprintln!("snapshots that came too late: {}", void.len());
    assert!(void.len() >= 2, "both that froze right before they published came too late: {checked:#}");
    let counted = points["points"].as_array().unwrap().len();
    // A slot of a backup that was killed holds no snapshot.
    let filled = two.place.objects("snapshots/app/").len();
    assert!(counted + void.len() <= filled, "{counted} count of {filled}: {checked:#}");
}
