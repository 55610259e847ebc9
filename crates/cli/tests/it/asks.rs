//! A run that one machine executes and people elsewhere see, agree to and pause: two state directories, one repository.

use crate::place::{Place, Ran};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

const RUNBOOK: &str = r#"---
inputs:
  target: { type: text, description: who serves from now on }
---
# Switch to another host

```bash {step=prepare pass=target outputs=lag undo=none why="it only looks" repeat=safe timeout=1m}
echo "lag=3s" >> "$LIFEBOAT_OUTPUT"
```

```bash {step=switch repeat=never undo=none why="what the old host still took is lost" approve="2 of commander" facts=target bounds="prepare.lag<=5s" pass=target timeout=1m}
echo "$target" >> served
```
"#;

/// Two machines: `a` executes, `b` is the laptop of whoever commands.
struct Field {
    place: Place,
}

impl Field {
    fn new() -> Self {
        let place = Place::new();
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

    fn command(&self, machine: &str, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        command
            .env("LIFEBOAT_STATE", self.place.path(&format!("state-{machine}")))
            .env("LIFEBOAT_HOST", machine);
        command
    }

    fn ran(&self, machine: &str, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(machine, arguments))
    }

    fn json(&self, machine: &str, arguments: &[&str]) -> Value {
        let ran = self.ran(machine, &[arguments, &["--json"]].concat()).expect(0);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// Begins a mirrored run on `a` that waits for people, in a process of its own.
    fn begin(&self) -> Executing {
        let begin = ["runbook", "run", "switch.md", "--by", "eve", "-i", "target=db-2", "--mirror"];
        let mut command = self.command("a", &begin);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Executing(command.spawn().unwrap())
    }

    /// What `b` sees of a run, as soon as it is as it should be.
    #[track_caller]
    fn until(&self, run: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let shown = self.json("b", &["runbook", "show", run]);
            if is_so(&shown) {
                return shown;
            }
            assert!(begun.elapsed() < PATIENCE, "it is waited for in vain: {shown:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The one run that the repository has.
    #[track_caller]
    fn mirrored(&self) -> String {
        let begun = Instant::now();
        loop {
            let listed = self.json("b", &["runbook", "list", "--mirrored"]);
            if let Some(run) = listed[0]["run"].as_str() {
                assert_eq!(listed[0]["here"], false);
                return run.to_owned();
            }
            assert!(begun.elapsed() < PATIENCE, "nothing is mirrored");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn approve(&self, run: &str, who: &str) -> Ran {
        let key = format!("file:{}", self.place.path(&format!("{who}.key")).display());
        self.ran("b", &["runbook", "approve", run, "switch", "--by", who, "--with", &key, "--yes"])
    }
}

/// A process that executes a run.
struct Executing(Child);

impl Executing {
    #[track_caller]
    fn ended(mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Executing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn waits_for_consent(shown: &Value) -> bool {
    shown["standing"]["waiting"].as_array().unwrap().iter().any(|one| one["for"] == "approval")
}

fn status(shown: &Value) -> &str {
    shown["standing"]["status"]["is"].as_str().unwrap()
}

/// The records that answer requests which came through the repository.
fn answers(shown: &Value) -> Vec<&Value> {
    shown["records"].as_array().unwrap().iter().filter(|record| !record["heard"].is_null()).collect()
}

#[test]
fn two_agree_pause_and_continue_from_another_machine() {
    let field = Field::new();
    let executing = field.begin();
    let run = field.mirrored();
    let shown = field.until(&run, waits_for_consent);
    assert_eq!(
        (&shown["mirrored"]["host"], &shown["mirrored"]["by"]),
        (&"a".into(), &"eve".into()),
        "{shown:#}"
    );
    assert_eq!((&shown["folder"], &shown["run"]), (&Value::Null, &run.as_str().into()));
    // Who only looks needs no key that may write to the repository, and is not enrolled.
    let rosters = field.place.objects("roster/");
    field.json("d", &["runbook", "show", &run]);
    assert_eq!(field.place.objects("roster/"), rosters);
    let text = field.ran("b", &["runbook", "show", &run[..20]]).expect(0);
    assert!(text.stdout.contains("executed by eve on a since 20"), "{text}");
    assert!(text.stdout.contains("\nas mirrored in ") && text.stdout.contains("agree to switch"), "{text}");
    assert!(text.stdout.contains("as far as record "), "{text}");
    assert!(text.stderr.contains("the run is not on this machine"), "{text}");

    let paused =
        field.ran("b", &["runbook", "pause", &run, "--by", "ann", "--reason", "wait for me"]).expect(0);
    assert!(paused.stdout.contains("left in the repository for whoever executes run"), "{paused}");
    field.until(&run, |shown| status(shown) == "paused");
    field.json("b", &["runbook", "continue", &run, "--by", "ann"]);
    field.until(&run, |shown| status(shown) == "going" && waits_for_consent(shown));

    field.ran("b", &["runbook", "confirm", &run, "prepare", "--by", "ann"]).expect(0);
    let no = field.approve(&run, "eve");
    assert_eq!(no.code, Some(2), "{no}");
    let ann = field.approve(&run, "ann").expect(0);
    // However quiet it is to be, nobody is asked whether they agree without seeing to what.
    let key = format!("file:{}", field.place.path("ann.key").display());
    let quiet = ["runbook", "approve", &run, "switch", "--by", "ann", "--with", &key, "--quiet"];
    let quiet = field.ran("b", &quiet);
    assert_eq!((quiet.code, quiet.stderr.contains("target is db-2")), (Some(2), true), "{quiet}");
    // Exactly what is signed is shown, from what the mirror has.
    assert!(ann.stderr.contains("target is db-2"), "{ann}");
    assert!(ann.stderr.contains("lag is 3s, and may go as far as 5s"), "{ann}");
    let shown = field.until(&run, |shown| shown["standing"]["waiting"][0]["given"][0] == "ann");
    // What nobody may do is refused there, and recorded with whose key left it.
    let refused = answers(&shown)[2];
    assert_eq!(refused["event"]["is"], "refused", "{refused:#}");
    let writers = field.ran("b", &["repo", "writers", "list"]).expect(0);
    assert!(writers.stdout.contains(refused["heard"]["from"].as_str().unwrap()), "{refused:#}\n{writers}");
    assert!(!field.place.path("served").exists(), "one of two has agreed");
    field.approve(&run[..20], "bob").expect(0);
    assert_eq!(executing.ended(), Some(0));
    assert_eq!(std::fs::read_to_string(field.place.path("served")).unwrap(), "db-2\n");
    let shown = field.until(&run, |shown| status(shown) == "ended");
    assert_eq!(answers(&shown).len(), 5, "each is answered once");
    // The machine that executed it shows the same records.
    let there = field.json("a", &["runbook", "show", &run]);
    assert_eq!(there["records"], shown["records"]);
    assert_eq!(there["mirrored"], Value::Null);
    let mirrored = field.json("a", &["runbook", "show", "--mirrored", &run]);
    assert_eq!(mirrored["records"], shown["records"]);
    let over = field.ran("b", &["runbook", "pause", &run, "--by", "ann", "--reason", "x"]);
    assert_eq!((over.code, over.stderr.contains("is over")), (Some(2), true), "{over}");
    field.place.ok(&["check"]);
}

/// Who was refused a takeover, or whose takeover was cut off, has the run's folder and does not execute it: what is said
/// there must not lie there unheard.
#[test]
fn who_only_fetched_a_run_asks_through_the_repository() {
    let field = Field::new();
    let begin = ["runbook", "run", "switch.md", "--by", "eve", "-i", "target=db-2", "--mirror", "--no-wait"];
    assert_eq!(field.ran("a", &begin).code, Some(4));
    let run = field.mirrored();
    let pause = ["runbook", "pause", &run, "--by", "ann", "--reason", "wait"];
    let journal = std::fs::read(field.place.path(&format!("state-a/runs/{run}/journal-0001.jsonl"))).unwrap();
    for (records, newest) in [("", "journal-0001.jsonl"), ("all", "journal-0002.jsonl")] {
        let folder = format!("state-b/runs/{run}");
        field.place.write(&format!("{folder}/runbook.md"), RUNBOOK);
        field.place.write(&format!("{folder}/{newest}"), "");
        if !records.is_empty() {
            field.place.write(&format!("{folder}/journal-0001.jsonl"), &journal);
        }
        let asked = field.ran("b", &pause).expect(0);
        assert!(asked.stdout.contains("eve on a"), "{asked}");
        assert_eq!(field.json("b", &["runbook", "show", &run])["mirrored"]["host"], "a");
    }
    let goes_on = field.ran("a", &["runbook", "resume", &run, "--by", "eve", "--no-wait"]);
    assert!(goes_on.stdout.contains("PAUSED"), "{goes_on}");
}

/// The machine that had it was taken over from: what is said there by mistake reaches whoever has it now.
#[test]
fn who_was_taken_over_from_asks_through_the_repository() {
    let field = Field::new();
    let begin = ["runbook", "run", "switch.md", "--by", "eve", "-i", "target=db-2", "--mirror", "--no-wait"];
    assert_eq!(field.ran("a", &begin).code, Some(4));
    let run = field.mirrored();
    let taken = field.ran("c", &["runbook", "resume", &run, "--take-over", "--by", "bob", "--no-wait"]);
    assert_eq!(taken.code, Some(4), "{taken}");
    let here = field.ran("a", &["runbook", "pause", &run, "--by", "ann", "--reason", "x"]).expect(0);
    assert!(here.stderr.contains("--mirrored"), "{here}");
    let asked = ["runbook", "pause", "--mirrored", &run, "--by", "ann", "--reason", "wait"];
    let there = field.ran("a", &asked).expect(0);
    assert!(there.stdout.contains("bob on c"), "{there}");
    // Heard before anything else, also by a process that waits for nobody.
    let goes_on = field.ran("c", &["runbook", "resume", &run, "--by", "bob", "--no-wait"]);
    assert_eq!(goes_on.code, Some(4), "{goes_on}");
    assert!(goes_on.stdout.contains("PAUSED"), "{goes_on}");
    let shown = field.json("a", &["runbook", "show", "--mirrored", &run]);
    assert_eq!((&shown["mirrored"]["host"], answers(&shown).len()), (&"c".into(), 1));
}

#[test]
fn a_run_that_is_nowhere_or_cannot_be_told_is_said_exactly() {
    let field = Field::new();
    let begin = ["runbook", "run", "switch.md", "--by", "eve", "-i", "target=db-2", "--mirror", "--no-wait"];
    for _ in 0..2 {
        assert_eq!(field.ran("a", &begin).code, Some(4));
    }
    let pause = |run: &str| field.ran("b", &["runbook", "pause", run, "--by", "ann", "--reason", "x"]);
    let nowhere = pause("19990101t");
    assert_eq!(nowhere.code, Some(2), "{nowhere}");
    assert!(
        nowhere.stderr.contains("there is no run \"19990101t\" on this machine, nor in the repository"),
        "{nowhere}"
    );
    assert!(nowhere.stderr.contains("runbook list --mirrored"), "{nowhere}");
    let several = pause("2");
    assert_eq!((several.code, several.stderr.contains("may be 2 runs: ")), (Some(2), true), "{several}");
    let shown = field.ran("b", &["runbook", "show", "switch.mdd"]);
    assert_eq!(shown.code, Some(2), "{shown}");
    assert!(shown.stderr.contains("there is no run \"switch.mdd\" on this machine\n"), "{shown}");
    let run = field.json("a", &["runbook", "list"])[0]["run"].as_str().unwrap().to_owned();
    let mirror =
        field.ran("b", &["runbook", "continue", &run, "--by", "ann", "--without-mirror", "so I say"]);
    assert_eq!((mirror.code, mirror.stderr.contains("which answers")), (Some(2), true), "{mirror}");
    // Without a repository, and with one that is not there.
    let mut alone = field.command("b", &["runbook", "show", &run]);
    let alone = Ran::of(alone.env_remove("LIFEBOAT_REPOSITORY"));
    assert_eq!((alone.code, alone.stderr.contains("on this machine\n")), (Some(2), true), "{alone}");
    let mut away = field.command("b", &["runbook", "show", &run]);
    let away = Ran::of(away.env("LIFEBOAT_REPOSITORY", field.place.path("gone")));
    assert_eq!(away.code, Some(1), "{away}");
    assert!(away.stderr.contains("not to be seen in the repository: "), "{away}");
    assert_eq!(field.place.objects("requests/"), [""; 0], "nothing was left");
}
