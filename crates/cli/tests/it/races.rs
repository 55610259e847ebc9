//! Executors with state directories of their own that race for one run in a real repository, in a directory and on
//! S3: two that take it over at once, one that is frozen and thaws, one whose repository goes away. A line in a file
//! counts what may be done once.

use crate::place::{Place, Ran, Random};
use lifeboat_objects::testing::{ACCESS_KEY, BUCKET, SECRET_KEY, SeaweedFs, seaweedfs, seaweedfs_alone};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);
/// So many rounds are raced by chance; a seed repeats them.
const ROUNDS: u64 = 6;

/// One step that may be done once, between two that may be repeated.
const RACE: &str = r#"# Race

```bash {step=before repeat=safe undo=none why="a test" timeout=1m}
true
```

```bash {step=once repeat=never undo=none why="a test" timeout=1m}
echo done >> once
```

```bash {step=after repeat=safe undo=none why="a test" timeout=1m}
echo done >> after
```
"#;

/// What may be done once twice; the first time it waits until it is let go.
const LONG: &str = r#"# Long

```bash {step=long repeat=never undo=none why="a test" timeout=5m}
echo done >> long
until [ -e go ]; do sleep 0.05; done
```

```bash {step=after repeat=safe undo=none why="a test" timeout=1m}
echo done >> after
```

```bash {step=last repeat=never undo=none why="a test" timeout=1m}
echo done >> last
```
"#;

enum Server {
    Shared(Arc<SeaweedFs>),
    Own(SeaweedFs),
}

/// A repository, and machines that have nothing else in common.
pub(crate) struct Field {
    pub(crate) place: Place,
    server: Option<Server>,
    known: RefCell<BTreeSet<String>>,
}

impl Field {
    fn directory() -> Self {
        Self { place: Place::new(), server: None, known: RefCell::default() }
    }

    /// On a server that other tests use as well.
    pub(crate) fn s3() -> Option<Self> {
        Some(Self::on(Server::Shared(seaweedfs()?)))
    }

    /// On a server that can be stopped.
    fn s3_alone() -> Option<Self> {
        Some(Self::on(Server::Own(seaweedfs_alone()?)))
    }

    fn on(server: Server) -> Self {
        let field = Self { place: Place::empty(), server: Some(server), known: RefCell::default() };
        Ran::of(&mut field.command("one", &["repo", "init", "--no-recovery-key"])).expect(0);
        // A slot that opens without the work of a passphrase.
        let add = [
            "key",
            "add",
            "--admin",
            "--label",
            "quick",
            "--command",
            "echo 000102030405060708090a0b0c0d0e0f",
        ];
        Ran::of(&mut field.command("one", &add)).expect(0);
        field.place.write("key", "000102030405060708090a0b0c0d0e0f");
        field
    }

    pub(crate) fn command(&self, machine: &str, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        command
            .env("LIFEBOAT_STATE", self.place.path(&format!("state-{machine}")))
            .env("LIFEBOAT_HOST", machine)
            .env("LIFEBOAT_PERSON", format!("person-{machine}"));
        if let Some(location) = self.location() {
            command
                .env("LIFEBOAT_REPOSITORY", location)
                .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
                .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        }
        command
    }

    /// Where the repository is, on S3.
    pub(crate) fn location(&self) -> Option<String> {
        let endpoint = match self.server.as_ref()? {
            Server::Shared(server) => server.endpoint(),
            Server::Own(server) => server.endpoint(),
        };
        let prefix = self.place.root().file_name().unwrap().to_str().unwrap().to_ascii_lowercase();
        Some(format!("s3://{BUCKET}/{prefix}?region=us-east-1&endpoint={endpoint}&timeout=5"))
    }

    fn ran(&self, machine: &str, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(machine, arguments))
    }

    fn start(&self, machine: &str, arguments: &[&str], failpoints: &str) -> Executor {
        Executor::start(self.command(machine, arguments).env("LIFEBOAT_FAILPOINTS", failpoints))
    }

    /// Begins a mirrored run.
    fn begin(&self, runbook: &str, failpoints: &str) -> Executor {
        self.place.write("race.md", runbook);
        self.start("one", &["runbook", "run", "race.md", "--mirror", "--no-wait"], failpoints)
    }

    fn take_over(&self, machine: &str, run: &str, failpoints: &str) -> Executor {
        self.start(machine, &["runbook", "resume", run, "--take-over", "--no-wait"], failpoints)
    }

    /// The run that a machine has begun since the last time that it was asked.
    fn run(&self, machine: &str) -> String {
        let listed = self.ran(machine, &["runbook", "list", "--json"]).expect(0);
        let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
        let mut known = self.known.borrow_mut();
        let mut runs = listed.as_array().unwrap().iter().map(|one| one["run"].as_str().unwrap().to_owned());
        runs.find(|run| known.insert(run.clone())).unwrap_or_else(|| panic!("nothing was begun: {listed}"))
    }

    /// What the newest record on a machine is, and of which step.
    fn newest_record(&self, machine: &str, run: &str) -> (String, String) {
        let shown = self.ran(machine, &["runbook", "show", run, "--json"]).expect(0);
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
        let event = &shown["records"].as_array().unwrap().last().unwrap()["event"];
        (event["is"].as_str().unwrap().to_owned(), event["step"].as_str().unwrap_or_default().to_owned())
    }

    /// So often something was done.
    fn times(&self, what: &str) -> usize {
        std::fs::read_to_string(self.place.path(what)).map_or(0, |text| text.lines().count())
    }

    #[track_caller]
    fn assert_times(&self, once: usize, after: usize, when: &str) {
        assert_eq!((self.times("once"), self.times("after")), (once, after), "{when}");
    }

    fn clear(&self) {
        for file in ["once", "after"] {
            let _ = std::fs::remove_file(self.place.path(file));
        }
    }

    /// Nobody reaches the repository.
    fn take_away(&mut self) {
        match &mut self.server {
            Some(Server::Own(server)) => server.kill(),
            Some(Server::Shared(_)) => panic!("others use it"),
            None => moved(&self.place.path("repo"), &self.place.path("repo.away")),
        }
    }

    fn bring_back(&mut self) {
        match &mut self.server {
            Some(Server::Own(server)) => server.restart().unwrap(),
            Some(Server::Shared(_)) => panic!("others use it"),
            None => {
                assert!(!self.place.path("repo").exists(), "nobody makes a repository where it was");
                moved(&self.place.path("repo.away"), &self.place.path("repo"));
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "what people and disasters do need not be durable")]
pub(crate) fn moved(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap();
}

/// A process that carries a run out, and may be frozen.
struct Executor {
    child: Option<Child>,
}

impl Executor {
    fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child: Some(child) }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    /// Waits until it is frozen or over; whether it is frozen.
    fn rests_frozen(&self) -> bool {
        let either = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.pid()), either).unwrap().unwrap();
        status.stopped()
    }

    #[track_caller]
    fn until_frozen(self) -> Self {
        if self.rests_frozen() {
            return self;
        }
        panic!("it was not frozen: {}", self.end());
    }

    fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn end(mut self) -> Ran {
        Ran::from(self.child.take().unwrap().wait_with_output().unwrap())
    }

    fn thawed(self) -> Ran {
        self.thaw();
        self.end()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[track_caller]
fn until(what: &str, has: &dyn Fn() -> bool) {
    let begun = Instant::now();
    while !has() {
        assert!(begun.elapsed() < PATIENCE, "{what} was waited for in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn executors_race_for_a_run_in_a_directory() {
    let mut field = Field::directory();
    all_races(&mut field);
}

#[test]
fn executors_race_for_a_run_on_s3() {
    let Some(mut field) = Field::s3() else { return };
    all_races(&mut field);
}

fn all_races(field: &mut Field) {
    for _ in 0..2 {
        of_two_who_take_over_at_once_one_does(field);
    }
    for point in ["run::append=3*freeze", "run::written=3*freeze", "run::synced=2*freeze"] {
        who_thaws_after_a_takeover_does_nothing_more(field, point);
    }
    who_is_frozen_right_before_the_act_needs_a_person(field);
    let mut random = Random::seeded();
    for round in 0..ROUNDS {
        whoever_races_it_is_done_once(field, &mut random, round);
    }
}

/// Both have claimed it on their own machines before either occupies the next slot of the mirror.
fn of_two_who_take_over_at_once_one_does(field: &Field) {
    field.clear();
    let killed = field.begin(RACE, "run::synced=1*kill").end();
    assert_eq!(killed.signal, Some(9), "{killed}");
    let run = field.run("one");
    let takers = ["two", "three"]
        .map(|machine| field.take_over(machine, &run, "run::claimed=freeze"))
        .map(Executor::until_frozen);
    takers.iter().for_each(Executor::thaw);
    let mut ended = takers.map(Executor::end);
    ended.sort_by_key(|ran| ran.code);
    let [won, lost] = ended;
    assert_eq!(won.code, Some(0), "{won}");
    lost.refused(1, "somebody else took run", "");
    field.assert_times(1, 1, "one of two took it over");
    late_is_told(field, "one", &run);
}

/// Whoever had a run is told who has it, and where, and does nothing.
#[track_caller]
fn late_is_told(field: &Field, machine: &str, run: &str) {
    let before = (field.times("once"), field.times("after"));
    let late = field.ran(machine, &["runbook", "resume", run, "--no-wait"]);
    let late = late.refused(1, "has been taken over by person-", "");
    assert!(late.stderr.contains(" on t"), "{late}");
    assert_eq!((field.times("once"), field.times("after")), before);
}

/// Frozen right before or right behind the record that it is about to do what may be done once.
fn who_thaws_after_a_takeover_does_nothing_more(field: &mut Field, point: &str) {
    field.clear();
    let frozen = field.begin(RACE, point).until_frozen();
    let run = field.run("one");
    let announced = field.newest_record("one", &run) == ("intent".to_owned(), "once".to_owned());
    assert_eq!(announced, !point.starts_with("run::append"), "{point}");
    field.assert_times(0, 0, point);
    field.take_over("two", &run, "").end().expect(0);
    field.assert_times(1, 1, point);
    let thawed = frozen.thawed().refused(1, "has been taken over by person-two on two", "");
    assert!(!thawed.stdout.contains("once: done"), "{thawed}");
    field.assert_times(1, 1, point);
    late_is_told(field, "one", &run);
}

/// Its intent is confirmed, and nothing done yet: nobody can see that from elsewhere.
fn who_is_frozen_right_before_the_act_needs_a_person(field: &Field) {
    field.clear();
    let frozen = field.begin(RACE, "run::carry=1*freeze").until_frozen();
    let run = field.run("one");
    let refused = field.take_over("two", &run, "").end();
    refused.refused(1, "once may be under way, and may be done once", "stopped");
    field.assert_times(0, 0, "nobody states that the other is stopped");
    frozen.kill();
    let stopped = ["runbook", "resume", &run, "--take-over", "--stopped", "I killed it", "--no-wait"];
    let taken = field.ran("two", &stopped).expect(4);
    assert!(taken.stdout.contains("NOBODY KNOWS"), "{taken}");
    field.assert_times(0, 0, "nobody knows whether it was done");
    let settle = ["runbook", "settle", &run, "once", "--not-done", "--reason", "there is no line"];
    field.ran("two", &settle).expect(0);
    field.ran("two", &["runbook", "resume", &run, "--no-wait"]).expect(0);
    field.assert_times(1, 1, "a person said what happened");
    late_is_told(field, "one", &run);
}

/// Where an executor is frozen, or not at all.
fn somewhere(random: &mut Random, is_taker: bool) -> String {
    const POINTS: [&str; 5] = ["append", "written", "synced", "carry", "carried"];
    match (is_taker, random.below(4)) {
        (true, 0) => String::new(),
        (true, 1) => "run::claimed=freeze".to_owned(),
        (true, 2) => "run::occupied=freeze".to_owned(),
        // Behind its beginning.
        _ => {
            let point = POINTS[usize::try_from(random.below(5)).unwrap()];
            let let_pass = if point.starts_with("carr") { random.below(3) } else { 1 + random.below(5) };
            format!("run::{point}={let_pass}*freeze")
        }
    }
}

/// One begins and two take over, each frozen somewhere and thawed in any order: it is done once, or nobody knows and
/// a person says what happened.
fn whoever_races_it_is_done_once(field: &Field, random: &mut Random, round: u64) {
    field.clear();
    let points = [somewhere(random, false), somewhere(random, true), somewhere(random, true)];
    let when = format!("round {round}: {points:?}");
    let first = field.begin(RACE, &points[0]);
    first.rests_frozen();
    let run = field.run("one");
    let mut all = vec![first];
    for (machine, point) in ["two", "three"].iter().zip(&points[1..]) {
        all.push(field.take_over(machine, &run, point));
        // Together, or one after the other.
        if random.below(2) == 0 {
            all.last().unwrap().rests_frozen();
        }
    }
    let mut ended = Vec::new();
    while !all.is_empty() {
        let next = all.swap_remove(usize::try_from(random.below(all.len() as u64)).unwrap());
        if next.rests_frozen() {
            next.thaw();
        }
        ended.push(next.end());
    }
    let done = ended.iter().filter(|ran| ran.code == Some(0)).count();
    let refused = |ran: &&Ran| {
        let why = ["has been taken over", "took run", "may be under way", "is over"];
        ran.code == Some(1) && why.iter().any(|why| ran.stderr.contains(why))
    };
    assert!(done <= 1 && ended.iter().filter(refused).count() == 3 - done, "{when}: {ended:#?}");
    assert!(field.times("once") <= 1, "{when}: {ended:#?}");
    if done == 0 {
        finish(field, &run, &when);
    }
    assert_eq!(field.times("once"), 1, "{when}: {ended:#?}");
}

/// All executors are gone: a person says so, and what they see.
fn finish(field: &Field, run: &str, when: &str) {
    let stopped = ["runbook", "resume", run, "--take-over", "--stopped", "all of them ended", "--no-wait"];
    let mut taken = field.ran("four", &stopped);
    if taken.code == Some(4) {
        let done = if field.times("once") == 1 { "--done" } else { "--not-done" };
        let settle = ["runbook", "settle", run, "once", done, "--reason", "I looked at the file"];
        field.ran("four", &settle).expect(0);
        taken = field.ran("four", &["runbook", "resume", run, "--no-wait"]);
    }
    assert_eq!(taken.code, Some(0), "{when}: {taken}");
}

#[test]
fn a_run_whose_repository_is_moved_away() {
    let mut field = Field::directory();
    without_the_repository(&mut field);
}

#[test]
fn a_run_whose_server_is_gone() {
    let Some(mut field) = Field::s3_alone() else { return };
    without_the_repository(&mut field);
}

/// Two runs, and the repository goes away.
///
/// One is frozen right behind the record of what may be done once, taken over elsewhere, and thaws while nobody can tell
/// it. The other is in the middle of what may be done once: that ends, what may be repeated goes on, and before the next
/// that may be done once the run stops and asks.
fn without_the_repository(field: &mut Field) {
    let frozen = field.begin(RACE, "run::written=3*freeze").until_frozen();
    let taken = field.run("one");
    field.take_over("two", &taken, "").end().expect(0);
    field.assert_times(1, 1, "it is taken over");
    let executor = field.begin(LONG, "");
    until("the step", &|| field.times("long") == 1);
    let run = field.run("one");
    field.take_away();
    frozen.thaw();
    field.place.write("go", "");
    let thawed = frozen.end().expect(4);
    assert!(thawed.stdout.contains("the mirror does not confirm that once begins"), "{thawed}");
    let stopped = executor.end().expect(4);
    assert!(stopped.stdout.contains("the mirror does not confirm that last begins"), "{stopped}");
    field.assert_times(1, 2, "who has it is not known, and the rest goes on");
    assert_eq!((field.times("long"), field.times("last")), (1, 0));
    field.bring_back();
    late_is_told(field, "one", &taken);
    field.ran("one", &["runbook", "continue", &run]).expect(0);
    field.ran("one", &["runbook", "resume", &run, "--no-wait"]).expect(0);
    field.assert_times(1, 2, "nothing is done twice");
    assert_eq!((field.times("long"), field.times("last")), (1, 1));
    // All of it is in the repository, the time without it included.
    field.take_over("two", &run, "").end().refused(1, "is over", "");
    let shown = field.ran("two", &["runbook", "show", &run]).expect(0);
    assert!(shown.stdout.contains("done · 3 of 3 steps over"), "{shown}");
}
