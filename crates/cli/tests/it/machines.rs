//! A run that goes on on another machine: for these tests a set of namespaces, with a host name, processes and files
//! of its own, so that nothing of the first machine can be read there. Both reach the same repository on S3, and the
//! same world. Where no namespaces can be made the tests say so and end.

use crate::place::{PROGRAM, Ran};
use crate::races::Field;
use crate::recoveries::Crew;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Whoever does `switch` on the first machine loses it in the middle.
const RUNBOOK: &str = r#"---
objectives: { rto: 1h }
inputs:
  world: { type: path, description: what both machines act upon }
---
# Switch, from wherever

```bash {step=prepare repeat=safe undo=none why="a test" pass=world outputs=where timeout=1m}
echo "$HOSTNAME" >> "$world/prepared"
echo "where=$HOSTNAME" >> "$LIFEBOAT_OUTPUT"
```

- [ ] Users have been told {step=told by=communications timeout=10m}

```bash {step=switch repeat=never undo=none why="what the old one took is lost" approve="incident commander" facts=prepare.where pass=world timeout=1m}
echo "$HOSTNAME" >> "$world/switched"
if [ "$HOSTNAME" = first ]; then
  kill -9 "$PPID"
  sleep 600
fi
```

```check {step=serves pass=world timeout=1m}
[ "$(wc -l < "$world/switched")" = 1 ]
```
"#;

/// A machine: it has a name, processes of its own, and an empty disk where the other has its files.
struct Machine<'a> {
    field: &'a Field,
    unshare: Child,
    /// Its first process, as we see it.
    first: String,
}

impl<'a> Machine<'a> {
    /// Makes one; `None`, with the reason, where that is not permitted.
    #[expect(clippy::print_stderr, reason = "a skipped test must be seen in the test's output")]
    fn new(field: &'a Field, name: &str) -> Option<Self> {
        let boot = "echo \"$0\" > /proc/sys/kernel/hostname && mount -t tmpfs -o mode=0755 none \"$1\" \
                    && echo up && exec sleep infinity";
        let mut unshare = Command::new("unshare");
        unshare.args(["--uts", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child"]);
        unshare.args(["bash", "-c", boot, name]).arg(field.place.root());
        let started = unshare.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let Ok(mut unshare) = started else {
            eprintln!("SKIPPED: there is no unshare(1) to make a machine with");
            return None;
        };
        let mut said = String::new();
        BufReader::new(unshare.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        if said.trim() != "up" {
            let mut why = String::new();
            let _ = unshare.wait();
            unshare.stderr.take().unwrap().read_to_string(&mut why).unwrap();
            eprintln!("SKIPPED: no machine can be made here ({})", why.trim());
            return None;
        }
        let id = unshare.id();
        let first = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        Some(Self { field, unshare, first: first.trim().to_owned() })
    }

    fn disk(&self) -> &Path {
        self.field.place.root()
    }

    /// A program there, with the repository and nothing of ours in its environment.
    fn runs(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first, "--uts", "--pid", "--mount", "--"]);
        command.args(["bash", "-c", "cd \"$0\" && exec \"$@\""]).arg(self.disk()).args(words);
        command.env_clear().stdin(Stdio::null());
        for (name, value) in self.field.command("here", &[]).get_envs() {
            let is_of_the_machine = name == "LIFEBOAT_HOST" || name == "LIFEBOAT_PERSON";
            if let Some(value) = value.filter(|_| !is_of_the_machine) {
                command.env(name, value);
            }
        }
        command.env("LIFEBOAT_STATE", self.disk().join("state"));
        command
    }

    /// Lifeboat there.
    fn command(&self, arguments: &[&str]) -> Command {
        self.runs(&[&[PROGRAM], arguments].concat())
    }

    fn ran(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// What a program there prints.
    fn said(&self, words: &[&str]) -> String {
        Ran::of(&mut self.runs(words)).expect(0).stdout.trim().to_owned()
    }

    /// What a person has with them: the plan, a key of the repository, and one to agree with.
    fn is_given(&self, stick: &Path) {
        self.said(&["cp", "-r", &format!("{}/.", stick.display()), "."]);
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // Its first process dies with it, and all others with that.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// What is outside of both machines.
struct World {
    folder: TempDir,
    stick: TempDir,
}

impl World {
    /// With what a person has at hand.
    fn new(field: &Field) -> Self {
        let world = Self { folder: TempDir::new().unwrap(), stick: TempDir::new().unwrap() };
        let mut plan = "[system]\nname = \"test\"\n".to_owned();
        let command = |arguments: &[&str]| field.command("here", arguments);
        Crew::new(&command, "cora.key", &mut plan);
        for file in ["key", "cora.key"] {
            std::fs::copy(field.place.path(file), world.stick.path().join(file)).unwrap();
        }
        crate::place::write_file(&world.stick.path().join("lifeboat.toml"), plan.as_bytes());
        world
    }

    /// A run that begins and is mirrored, and does not end there.
    fn begin(&self, machine: &Machine<'_>, failpoints: &str) -> (Ran, String) {
        machine.said(&["bash", "-c", &format!("cat > runbook.md <<'END'\n{RUNBOOK}\nEND")]);
        let world = format!("world={}", self.folder.path().display());
        let run = ["runbook", "run", "runbook.md", "-i", &world, "--mirror", "--by", "ann", "--no-wait"];
        let ran = Ran::of(machine.command(&run).env("LIFEBOAT_FAILPOINTS", failpoints));
        let run = ran.stderr.lines().find_map(|line| line.strip_prefix("run ")).unwrap().to_owned();
        (ran, run)
    }

    /// Where something was done, each time.
    fn places(&self, what: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join(what)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn forget(&self) {
        for what in ["prepared", "switched"] {
            let _ = std::fs::remove_file(self.folder.path().join(what));
        }
    }
}

/// A person answers on a machine what the run asks there.
fn answered(machine: &Machine<'_>, run: &str) {
    let command = |arguments: &[&str]| machine.command(arguments);
    let key = format!("file:{}", machine.disk().join("cora.key").display());
    let mut crew = Crew { command: &command, key, settled: Vec::new(), beside: None::<PathBuf> };
    let shown = crew.json(&["runbook", "show", run]);
    crew.answer(run, &shown);
}

/// Resumed where it began: it is said who has it, and where, and nothing is done.
fn the_first_is_told(world: &World, first: &Machine<'_>, run: &str) {
    let before = (world.places("prepared"), world.places("switched"));
    let late = first.ran(&["runbook", "resume", run, "--by", "ann", "--no-wait"]);
    late.refused(1, "has been taken over by bob on second", "");
    assert_eq!((world.places("prepared"), world.places("switched")), before);
}

/// The second machine has nothing of the first: another name, other processes, an empty disk.
fn assert_is_another(first: &Machine<'_>, second: &Machine<'_>) {
    for (machine, name) in [(first, "first"), (second, "second")] {
        assert_eq!(machine.said(&["bash", "-c", "echo $HOSTNAME"]), name);
        let processes = machine.said(&["bash", "-c", "echo /proc/[0-9]*"]);
        assert!(processes.split(' ').count() <= 3, "{name} sees others' processes: {processes}");
    }
    assert_eq!(second.said(&["ls", "-A"]), "", "nothing of the first is there");
}

#[test]
fn a_run_goes_on_on_another_machine_from_the_repository_alone() {
    let Some(field) = Field::s3() else { return };
    let (Some(first), Some(second)) = (Machine::new(&field, "first"), Machine::new(&field, "second")) else {
        return;
    };
    let world = World::new(&field);
    first.is_given(world.stick.path());
    assert_is_another(&first, &second);
    second.is_given(world.stick.path());
    killed_between_record_and_record(&world, &first, &second);
    world.forget();
    killed_within_what_may_be_done_once(&world, &first, &second);
}

/// What was under way may be repeated: nobody has to state anything.
fn killed_between_record_and_record(world: &World, first: &Machine<'_>, second: &Machine<'_>) {
    let (killed, run) = world.begin(first, "run::carried=kill");
    assert_eq!(killed.signal, Some(9), "{killed}");
    assert_eq!(world.places("prepared"), ["first"]);
    let listed = second.ran(&["runbook", "list", "--mirrored"]).expect(0);
    assert!(listed.stdout.contains("only in the repository"), "{listed}");
    second.ran(&["runbook", "resume", &run, "--take-over", "--by", "bob", "--no-wait"]).expect(4);
    assert_eq!(world.places("prepared"), ["first", "second"], "it may be repeated");
    let resume = ["runbook", "resume", &run, "--by", "bob", "--no-wait"];
    for code in [4, 0] {
        answered(second, &run);
        second.ran(&resume).expect(code);
    }
    assert_eq!(world.places("switched"), ["second"]);
    let shown = second.ran(&["runbook", "show", &run, "--json"]).expect(0);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["standing"]["status"]["how"], "done");
    let begun = &shown["records"][0]["event"];
    assert_eq!((begun["host"].as_str(), begun["by"].as_str()), (Some("first"), Some("ann")));
    the_first_is_told(world, first, &run);
}

/// Killed with its machine in the middle of what may be done once: nobody can see from elsewhere how far it came.
fn killed_within_what_may_be_done_once(world: &World, first: &Machine<'_>, second: &Machine<'_>) {
    let (waits, run) = world.begin(first, "");
    assert_eq!(waits.code, Some(4), "{waits}");
    let resume = ["runbook", "resume", &run, "--by", "ann", "--no-wait"];
    answered(first, &run);
    first.ran(&resume).expect(4);
    answered(first, &run);
    let killed = first.ran(&resume);
    assert_eq!(killed.signal, Some(9), "{killed}");
    assert_eq!(world.places("switched"), ["first"]);
    let take_over = ["runbook", "resume", &run, "--take-over", "--by", "bob", "--no-wait"];
    second.ran(&take_over).refused(1, "switch may be under way, and may be done once", "stopped");
    let stated = ["--stopped", "its process was killed: I saw it"];
    let taken = second.ran(&[&take_over[..], &stated].concat()).expect(4);
    assert!(taken.stdout.contains("NOBODY KNOWS"), "{taken}");
    assert_eq!(world.places("switched"), ["first"], "it is not done again");
    let settle = ["runbook", "settle", &run, "switch", "--by", "bob", "--done", "--reason", "it is switched"];
    second.ran(&settle).expect(0);
    second.ran(&["runbook", "resume", &run, "--by", "bob", "--no-wait"]).expect(0);
    assert_eq!(world.places("switched"), ["first"], "it was done once");
    the_first_is_told(world, first, &run);
}
