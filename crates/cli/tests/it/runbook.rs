//! Runbooks as people meet them: shown, carried out over several commands and on a terminal, killed and gone on with.

use crate::place::{Place, Ran};
use crate::transcript::Transcript;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
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

/// A terminal of 80 columns with a command on it.
struct Terminal {
    child: Child,
    typed: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(mut command: Command) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        command
            .stdin(OwnedFd::from(theirs.try_clone().unwrap()))
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        // What the command holds of it must end with the command.
        drop(command);
        let (typed, mut reads) = (File::from(ours), Vec::new());
        let mut screen = typed.try_clone().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let all = shown.clone();
        std::thread::spawn(move || {
            reads.resize(4096, 0);
            while let Ok(count @ 1..) = screen.read(&mut reads) {
                all.lock().unwrap().extend_from_slice(&reads[..count]);
            }
        });
        Self { child, typed, shown }
    }

    /// What is on the screen: everything since it was last drawn, from its beginning.
    fn screen(&self) -> String {
        let text = String::from_utf8_lossy(&self.shown.lock().unwrap()).replace("\r\n", "\n");
        let text = text
            .replace("\u{1b}7\u{1b}[H", "\u{1b}[2J\u{1b}[H")
            .replace("\u{1b}[K", "")
            .replace("\u{1b}8", "");
        text.rsplit("\u{1b}[2J\u{1b}[H").next().unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn until(&self, has: &str) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if screen.contains(has) {
                return screen;
            }
            assert!(begun.elapsed() < PATIENCE, "{has:?} was waited for in vain:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn type_line(&mut self, line: &str) {
        self.typed.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn on_a_terminal_one_screen_says_where_it_is_and_takes_what_is_typed() {
    let stage = Stage::new();
    let arguments = ["runbook", "run", "switch.md", "--by", "eve", "-i", "target=db-2"];
    let mut terminal = Terminal::start(stage.place.command(&arguments));
    terminal.until("do told (communications)");
    terminal.type_line("done told status page");
    let asked = terminal.until("agree to switch");
    assert!(
        asked.contains("target = db-2; prepare.lag = 3s (<= 5s)") || asked.contains("lag = 3s"),
        "{asked}"
    );
    let run = stage.newest();
    for who in ["ann", "bob"] {
        stage.approve(&run, who).expect(0);
    }
    let failed = terminal.until("serves FAILED");
    assert!(failed.contains("no way back"), "{failed}");
    for line in failed.lines() {
        assert!(line.chars().count() <= 80 && !line.contains('\u{1b}'), "{line:?}");
    }
    terminal.type_line("again serves");
    terminal.until("say why as well");
    stage.place.write("mended", "");
    terminal.type_line("again serves it is mended");
    terminal.until("done · 4 of 4 steps over");
    assert!(terminal.child.wait().unwrap().success());
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
    let taken = elsewhere(&["runbook", "resume", &run, "--take-over", "--by", "ann", "--no-wait"]);
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
