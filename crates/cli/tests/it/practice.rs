//! The runbook to practise with, as people use it: it waits until it is told, it is killed in the middle of what it
//! does and gone on with, somebody else takes it over, and it is given up and undone.

use crate::place::{Place, Ran};
use crate::recoveries::Crew;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);
const PERSON: &str = "cora";
/// However late it is killed, what came of its first step is not recorded yet.
const NO_OUTCOME: &str = "run::carried=freeze";

/// A run of it, and who practises.
struct Practice {
    place: Place,
    input: String,
}

impl Practice {
    fn new() -> Self {
        let place = Place::new();
        let path = "../../plans/aragora/runbooks/practice.md";
        let runbook = std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        place.write("practice.md", runbook);
        let mut plan = "[system]\nname = \"test\"\n".to_owned();
        let command = |arguments: &[&str]| place.command(arguments);
        Crew::new(&command, "cora.key", &mut plan);
        place.write("lifeboat.toml", plan);
        let input = format!("folder={}", place.path("practice").display());
        Self { place, input }
    }

    /// A process that waits for people, as on a terminal.
    fn waits(&self, arguments: &[&str], failpoints: &str) -> Waits {
        let mut command = self.place.command(arguments);
        command.env("LIFEBOAT_FAILPOINTS", failpoints);
        let child = command.args(["--by", PERSON]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Waits(Some(child.unwrap()))
    }

    fn begin(&self) -> (Waits, String) {
        let waits = self.waits(&["runbook", "run", "practice.md", "-i", &self.input], "");
        let listed = || self.place.json(&["runbook", "list"])[0]["run"].as_str().map(str::to_owned);
        until("the run", &|| listed().is_some_and(|run| self.waits_for(&run, "person")));
        (waits, listed().unwrap())
    }

    fn shown(&self, run: &str) -> Value {
        self.place.json(&["runbook", "show", run])
    }

    fn waits_for(&self, run: &str, what: &str) -> bool {
        // Between two lines of its journal it can always be read; before the first there is nothing to read.
        let shown = self.place.run(&["runbook", "show", run, "--json"]);
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap_or_default();
        shown["standing"]["waiting"].as_array().is_some_and(|all| all.iter().any(|one| one["for"] == what))
    }

    fn resumed(&self, run: &str) -> Ran {
        self.place.run(&["runbook", "resume", run, "--by", PERSON, "--no-wait"])
    }

    fn said(&self, words: &[&str]) {
        self.place.run(&[words, &["--by", PERSON]].concat()).expect(0);
    }

    /// What the run waits for is done.
    fn answered(&self, run: &str) {
        let command = |arguments: &[&str]| -> Command { self.place.command(arguments) };
        let key = format!("file:{}", self.place.path("cora.key").display());
        let mut crew = Crew { command: &command, key, settled: Vec::new(), beside: None };
        crew.answer(run, &self.shown(run));
    }

    fn lines(&self, file: &str) -> usize {
        let text = std::fs::read_to_string(self.place.path("practice").join(file));
        text.map_or(0, |text| text.lines().count())
    }

    fn has(&self, file: &str) -> bool {
        self.place.path("practice").join(file).exists()
    }
}

/// A process that carries a run out and waits for people.
struct Waits(Option<Child>);

impl Waits {
    fn kill(mut self) {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn end(mut self) -> Ran {
        Ran::from(self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = kill_process(Pid::from_child(&child), Signal::KILL);
            let _ = child.wait();
        }
    }
}

#[track_caller]
fn until(what: &str, has: &dyn Fn() -> bool) {
    let begun = Instant::now();
    while !has() {
        assert!(begun.elapsed() < PATIENCE, "{what} was waited for in vain");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Killed while it waits, in the middle of what may be done once, and in the middle of what a check decides.
#[test]
fn practice_is_killed_wherever_it_is_and_done_once() {
    let practice = Practice::new();
    let (waits, run) = practice.begin();
    waits.kill();
    let again = practice.waits(&["runbook", "resume", &run], NO_OUTCOME);
    practice.said(&["runbook", "confirm", &run, "told"]);
    until("the line", &|| practice.lines("once") == 1);
    again.kill();
    let resumed = practice.resumed(&run).expect(4);
    assert!(resumed.stdout.contains("NOBODY KNOWS"), "{resumed}");
    practice.said(&["runbook", "settle", &run, "once", "--done", "--reason", "the line is there"]);
    let again = practice.waits(&["runbook", "resume", &run], NO_OUTCOME);
    until("the marker", &|| practice.has("marker"));
    again.kill();
    // The check says that it was done: on to the question of consent, which a person answers.
    practice.resumed(&run).expect(4);
    practice.answered(&run);
    let failed = practice.resumed(&run).expect(4);
    assert!(failed.stdout.contains("fixed FAILED"), "{failed}");
    assert_eq!(std::fs::read_to_string(practice.place.path("practice/published")).unwrap(), "1\n");
    practice.place.write("practice/fixed", "");
    practice.said(&["runbook", "again", &run, "fixed", "--reason", "I made the file"]);
    practice.resumed(&run).expect(0);
    assert_eq!(practice.lines("once"), 1, "it was done once");
}

/// Somebody else takes it over from a process that is still there; then it is given up.
#[test]
fn practice_is_taken_over_and_undone() {
    let practice = Practice::new();
    let (waits, run) = practice.begin();
    let take_over = ["runbook", "resume", &run, "--take-over", "--no-wait", "--by", "bob"];
    practice.place.run(&take_over).refused(1, "the run is not mirrored", "stopped");
    let stated = ["--stopped", "it hangs, and nobody will touch it again"];
    practice.place.run(&[&take_over[..], &stated].concat()).expect(4);
    waits.end().refused(1, "has been taken over by bob on", "");
    practice.said(&["runbook", "confirm", &run, "told"]);
    practice.resumed(&run).expect(4);
    assert!(practice.waits_for(&run, "approval") && practice.lines("once") == 1);
    practice.said(&["runbook", "abort", &run, "--reason", "enough for today"]);
    practice.resumed(&run).expect(1);
    assert_eq!(practice.shown(&run)["standing"]["status"]["how"], "undone");
    assert!(!practice.has("once") && !practice.has("marker") && !practice.has("published"));
}

/// Consent is to the number of lines as it is: with another one it is void, and asked for anew.
#[test]
fn practice_shows_consent_that_becomes_void() {
    let practice = Practice::new();
    let (waits, run) = practice.begin();
    waits.kill();
    practice.said(&["runbook", "confirm", &run, "told"]);
    practice.resumed(&run).expect(4);
    practice.answered(&run);
    std::fs::OpenOptions::new()
        .append(true)
        .open(practice.place.path("practice/once"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"more\n"))
        .unwrap();
    practice.resumed(&run).expect(4);
    assert!(!practice.has("published"), "it was agreed to one line, and there are two");
    assert!(practice.waits_for(&run, "approval"), "it is asked for anew");
}
