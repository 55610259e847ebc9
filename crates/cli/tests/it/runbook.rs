//! Runbooks as people meet them: shown, carried out over several commands and on a terminal, killed and gone on with.

use crate::place::{Place, Ran};
use crate::terminal::Terminal;
use crate::transcript::{Transcript, compare};
use std::process::Stdio;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A switch with an approval in the middle, a check that fails until somebody mends something, and ways back.
const RUNBOOK: &str = r#"---
inputs:
  target: { type: text, description: who serves from now on }
objectives: { rto: 1h }
owner: operations
version: "1"
---
# Switch to another host

## Prepare

```bash {step=prepare pass=target outputs=lag undo=put-back repeat=check probe=is-prepared timeout=1m}
echo "$target" > active
echo "lag=3s" >> "$LIFEBOAT_OUTPUT"
```

```check {step=is-prepared}
test -e active
```

```bash {step=put-back repeat=safe}
rm active
```

- [ ] Users have been told {step=told by="communications" timeout=10m}

## Switch

```bash {step=switch repeat=never undo=none why="what the old host still took is lost" approve="2 of commander" facts=target bounds="prepare.lag<=5s" pass=target timeout=1m}
echo "$target" >> served
```

## Verify

```check {step=serves timeout=1m}
test -e mended
```
"#;

struct Stage {
    place: Place,
}

impl Stage {
    fn new() -> Self {
        let place = Place::empty();
        place.write("switch.md", RUNBOOK);
        let mut plan = "[system]\nname = \"test\"\n".to_owned();
        for (name, role) in [("ann", "commander"), ("bob", "commander"), ("eve", "communications")] {
            let made = place.json(&["runbook", "key", &format!("{name}.key")]);
            let key = made["public_key"].as_str().unwrap();
            plan += &format!("[people.{name}]\nroles = [\"{role}\"]\nkeys = [\"{key}\"]\n");
        }
        place.write("lifeboat.toml", plan);
        Self { place }
    }

    fn newest(&self) -> String {
        self.place.json(&["runbook", "list"])[0]["run"].as_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.place.path(name)).ok()
    }

    fn approve(&self, run: &str, who: &str) -> Ran {
        let key = format!("file:{}", self.place.path(&format!("{who}.key")).display());
        self.place.run(&["runbook", "approve", run, "switch", "--by", who, "--with", &key, "--yes"])
    }
}

#[test]
fn a_run_with_consent_failure_undo_and_resume_is_readable() {
    let stage = Stage::new();
    let mut seen = Transcript::new(&stage.place);
    seen.run(&["runbook", "show", "switch.md"]);
    seen.run(&["runbook", "run", "switch.md", "--dry-run", "-i", "target=db-2"]);
    seen.run(&["runbook", "run", "switch.md", "--by", "ann"]);
    seen.run(&["runbook", "run", "switch.md", "--by", "ann", "-i", "taget=db-2"]);
    seen.run(&["runbook", "run", "switch.md", "--by", "ann", "--no-wait", "-i", "target=db-2"]);
    let run = stage.newest();
    let resume = ["runbook", "resume", &run, "--by", "ann", "--no-wait"];
    seen.run(&["runbook", "confirm", &run, "told", "--by", "ann"]).run(&resume);
    seen.run(&["runbook", "confirm", &run, "told", "--by", "eve", "--note", "status page"]).run(&resume);
    seen.add("runbook approve RUN switch --by ann", &stage.approve(&run, "ann"));
    seen.add("runbook approve RUN switch --by eve", &stage.approve(&run, "eve"));
    seen.run(&resume);
    assert_eq!(stage.read("served"), None, "one of two has agreed");
    seen.add("runbook approve RUN switch --by bob", &stage.approve(&run, "bob")).run(&resume);
    assert_eq!(stage.read("served").as_deref(), Some("db-2\n"));
    stage.place.write("mended", "");
    seen.run(&["runbook", "again", &run, "serves", "--by", "bob", "--reason", "mended"]).run(&resume);
    seen.run(&["runbook", "list"]).run(&["runbook", "show", &run]).run(&resume);
    seen.run(&["runbook", "run", "switch.md", "--by", "bob", "--no-wait", "-i", "target=db-3"]);
    let other = stage.newest();
    seen.run(&["runbook", "abort", &other, "--by", "bob", "--reason", "a false alarm"]);
    seen.run(&["runbook", "resume", &other, "--by", "bob", "--no-wait"]);
    assert_eq!(stage.read("active"), None, "it is undone");
    seen.compare("runbook.txt");
}

/// So many rows has a terminal that nobody made larger.
const ROWS: u16 = 24;

/// The screens that people see, one after the other.
struct Screens<'s> {
    stage: &'s Stage,
    text: String,
}

impl Screens<'_> {
    /// Takes a screen down as soon as all of these are on it, and checks what holds of each.
    #[track_caller]
    fn take(&mut self, terminal: &Terminal, what: &str, all: &[&str]) -> String {
        let screen = terminal.until(all);
        assert!(terminal.is_plain(), "nothing depends on a colour:\n{screen}");
        assert!(screen.starts_with("Switch to another host\nrun "), "its beginning is there:\n{screen}");
        self.text += &format!("=== {what}\n{}\n\n", Transcript::new(&self.stage.place).filtered(&screen));
        screen
    }
}

#[test]
fn on_a_terminal_one_screen_says_where_it_is_and_takes_what_is_typed() {
    let stage = Stage::new();
    let mut seen = Screens { stage: &stage, text: String::new() };
    let arguments = ["runbook", "run", "switch.md", "--by", "eve", "-i", "target=db-2"];
    let mut terminal = Terminal::start(stage.place.command(&arguments), ROWS);
    seen.take(
        &terminal,
        "a person is waited for",
        &["do told (communications)", "told        NOBODY", "NOBODY IS TOLD", "\n>"],
    );
    terminal.type_line("hlep");
    seen.take(&terminal, "something was mistyped", &["hlep: \"hlep\" means nothing here"]);
    terminal.type_line("done told status page");
    let needs = ["agree to switch", "switch needs 2 of role commander to agree"];
    let asked = seen.take(&terminal, "consent is waited for", &needs);
    assert!(asked.contains("target = db-2; lag = 3s (<="), "{asked}");
    let run = stage.newest();
    stage.approve(&run, "ann").expect(0);
    seen.take(&terminal, "one of two agreed", &["so far ann", "ann agrees to switch"]);

    // Its machine is restarted.
    terminal.child.kill().unwrap();
    terminal.wait();
    let resume = ["runbook", "resume", &run, "--by", "eve"];
    let mut terminal = Terminal::start(stage.place.command(&resume), ROWS);
    seen.take(&terminal, "gone on with after a crash", &["so far ann", "ann agrees to switch", "\n>"]);
    stage.approve(&run, "bob").expect(0);
    let failed = ["needs you   serves FAILED", "serves FAILED (", "no way back"];
    seen.take(&terminal, "a step failed, and one cannot be undone any more", &failed);
    terminal.type_line("again serves");
    terminal.until(&["say why as well"]);
    terminal.type_line("help");
    seen.take(&terminal, "help", &["happened STEP WHY"]);
    terminal.type_line("abort the new host does not serve");
    terminal.until(&["undoing prepare", "over: undone"]);
    assert_eq!(terminal.wait().code(), Some(1));
    assert_eq!(stage.read("active"), None, "it is undone");
    let undone = seen.take(&terminal, "given up, and undone as far as that goes", &["undone · "]);
    assert!(undone.contains("no way back"), "{undone}");
    compare("screens.txt", &seen.text);
}

/// On a terminal with few rows what needs people stays, and where the rest is to be seen is said.
#[test]
fn on_a_small_terminal_what_matters_is_there() {
    let stage = Stage::new();
    let arguments = ["runbook", "run", "switch.md", "--by", "eve", "-i", "target=db-2"];
    let terminal = Terminal::start(stage.place.command(&arguments), 14);
    let screen = terminal.until(&["do told (communications)", "more lines: lifeboat runbook show ", "\n>"]);
    assert!(screen.starts_with("Switch to another host\nrun "), "{screen}");
}

/// Killed in the middle of what may be done once: nobody does it again, and a person says what happened.
#[test]
fn a_run_that_was_killed_goes_on_and_does_nothing_twice() {
    let stage = Stage::new();
    let runbook = RUNBOOK.replace("echo \"$target\" >> served", "echo \"$target\" >> served; sleep 60");
    stage.place.write("switch.md", runbook);
    let arguments = ["runbook", "run", "switch.md", "--by", "eve", "-i", "target=db-2"];
    let mut command = stage.place.command(&arguments);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let until = |has: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !has() {
            assert!(begun.elapsed() < PATIENCE, "it was waited for in vain");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let waits_for = |kind: &str| {
        let list = stage.place.run(&["runbook", "list", "--json"]);
        let runs: serde_json::Value = serde_json::from_str(&list.stdout).unwrap_or_default();
        let Some(run) = runs[0]["run"].as_str() else { return false };
        let shown = stage.place.run(&["runbook", "show", run, "--json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap_or_default();
        shown["standing"]["waiting"].as_array().is_some_and(|all| all.iter().any(|one| one["for"] == kind))
    };
    until(&|| waits_for("person"));
    let run = stage.newest();
    stage.place.run(&["runbook", "confirm", &run, "told", "--by", "eve"]).expect(0);
    until(&|| waits_for("approval"));
    for who in ["ann", "bob"] {
        stage.approve(&run, who).expect(0);
    }
    until(&|| stage.read("served").is_some());
    child.kill().unwrap();
    child.wait().unwrap();
    let resume = ["runbook", "resume", &run, "--by", "ann", "--no-wait"];
    let resumed = stage.place.run(&resume);
    assert_eq!(resumed.code, Some(4), "{resumed}");
    assert!(resumed.stdout.contains("NOBODY KNOWS"), "{resumed}");
    assert_eq!(stage.read("served").as_deref(), Some("db-2\n"), "it was not done again");
    let settle = ["runbook", "settle", &run, "switch", "--by", "ann", "--done", "--reason", "it serves"];
    stage.place.run(&settle).expect(0);
    stage.place.write("mended", "");
    stage.place.run(&resume).expect(0);
    assert_eq!(stage.read("served").as_deref(), Some("db-2\n"));
}

/// Told to end, it lets what runs end and begins nothing more; whoever resumes it lets it go on.
#[test]
fn a_process_that_is_told_to_end_ends_between_steps() {
    let place = Place::empty();
    place.write(
        "two.md",
        "# Two\n\n```bash {step=first repeat=never undo=none why=\"a test\"}\n\
         touch begun; until test -e go; do sleep 0.05; done; echo once >> first\n```\n\n\
         ```bash {step=second repeat=never undo=none why=\"a test\"}\ntouch second\n```\n",
    );
    let mut command = place.command(&["runbook", "run", "two.md", "--by", "ann", "--json"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let until = |has: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !has() {
            assert!(begun.elapsed() < PATIENCE, "it was waited for in vain");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until(&|| place.path("begun").exists());
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    let run = place.json(&["runbook", "list"])[0]["run"].as_str().unwrap().to_owned();
    until(&|| place.ok(&["runbook", "show", &run]).contains("PAUSED"));
    place.write("go", "");
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert!(!place.path("second").exists());
    place.run(&["runbook", "resume", &run, "--by", "ann", "--no-wait"]).expect(0);
    assert!(place.path("second").exists());
    assert_eq!(std::fs::read_to_string(place.path("first")).unwrap(), "once\n");
}

/// A command of a block sees the plan and the state that the run was begun with.
#[test]
fn a_lifeboat_block_sees_what_the_run_sees() {
    let place = Place::new();
    place.write("tree/a", "first");
    place.write(
        "plans/other.toml",
        format!("[datasets.site]\nstore = \"{}\"\n", place.path("tree").display()),
    );
    place.write(
        "backup.md",
        "# Backup\n\n```lifeboat {step=backup repeat=safe outputs=id=/backups/0/snapshot undo=none why=\"it harms nobody\"}\n\
         lifeboat backup site\n```\n",
    );
    let command = ["--plan", "plans/other.toml", "runbook", "run", "backup.md", "--by", "ann", "--no-wait"];
    place.run(&command).expect(0);
    assert_eq!(place.json(&["points", "site"])["points"].as_array().unwrap().len(), 1);
}

/// Continued on another machine from what the repository has.
#[test]
fn a_mirrored_run_goes_on_elsewhere() {
    let place = Place::new();
    let stage = Stage::new();
    for file in ["switch.md", "lifeboat.toml"] {
        place.write(file, stage.read(file).unwrap());
    }
    let run = ["runbook", "run", "switch.md", "--by", "eve", "-i", "target=db-2", "--mirror", "--no-wait"];
    assert_eq!(place.run(&run).code, Some(4));
    let run = place.json(&["runbook", "list"])[0]["run"].as_str().unwrap().to_owned();
    let elsewhere = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("LIFEBOAT_STATE", place.path("elsewhere")).env("LIFEBOAT_HOST", "elsewhere");
        Ran::of(&mut command)
    };
    let listed = elsewhere(&["runbook", "list", "--mirrored"]);
    assert!(listed.stdout.contains("only in the repository"), "{listed}");
    // An earlier try was cut off before the first record.
    place.write(&format!("elsewhere/runs/{run}/runbook.md"), stage.read("switch.md").unwrap());
    place.write(&format!("elsewhere/runs/{run}/journal-0001.jsonl"), "");
    let taken = elsewhere(&["runbook", "resume", &run[..16], "--take-over", "--by", "ann", "--no-wait"]);
    assert_eq!(taken.code, Some(4), "{taken}");
    assert!(taken.stdout.contains("do told (communications)"), "{taken}");
    elsewhere(&["runbook", "confirm", &run, "told", "--by", "eve"]).expect(0);
    let goes_on = elsewhere(&["runbook", "resume", &run, "--by", "ann", "--no-wait"]);
    assert!(goes_on.stdout.contains("agree to switch"), "{goes_on}");
    let receipts = elsewhere(&["evidence", "list", "--kind", "run"]);
    assert!(receipts.stdout.lines().filter(|line| line.contains("run")).count() >= 3, "{receipts}");
    // Whoever had it stops as soon as it looks.
    let late = place.run(&["runbook", "resume", &run, "--by", "eve", "--no-wait"]);
    assert_eq!(late.code, Some(1), "{late}");
    assert!(late.stderr.contains("taken over"), "{late}");
}
