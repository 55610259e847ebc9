//! A journal that is full, torn, damaged, read-only or somebody else's.

use super::*;
use lifeboat_base::Hint;
use lifeboat_run::FolderError;
use lifeboat_run::event::{Ending, Event};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Where the process of its own finds its state directory.
const STATE: &str = "LIFEBOAT_TEST_RUN_STATE";
const TEXT: &str = r#"---
inputs:
  place: {type: path}
---
# R

```bash {step=one pass=place undo=none why=x}
echo one >> "$place/effects"
```

```bash {step=two pass=place undo=none why=x}
echo two >> "$place/effects"
```
"#;

/// Begins or resumes the run of a state directory, and says on standard error what kept it from its end.
#[test]
#[ignore = "started by the others as a process of its own"]
fn child() {
    let state = PathBuf::from(std::env::var(STATE).unwrap());
    let runs = Runs::within(&state);
    let place = std::env::temp_dir();
    let begun = match runs.list().unwrap().first() {
        Some(run) => Executor::resume(&runs, run, house(), &compile_bytes),
        None => {
            Executor::begin_run(&runs, house(), begin(TEXT, &[("place", value(place.to_str().unwrap()))]))
        }
    };
    let driven = begun
        .and_then(|mut executor| executor.drive(Until::PeopleAreNeeded, &mut |_: &Record, _: &RunState| {}));
    match driven {
        Ok(rest) => assert_eq!(rest, Rest::Ended(Ending::Done)),
        Err(error) => panic!("{}\nHINT: {}", lifeboat_base::report(&error), error.hint().unwrap()),
    }
}

/// Runs the process of its own behind a command, with `place` as its temporary folder.
fn run(wrapper: &[&str], state: &Path, place: &Path, failpoints: &str) -> Output {
    let mut words: Vec<std::ffi::OsString> = wrapper.iter().map(Into::into).collect();
    words.push(std::env::current_exe().unwrap().into());
    words.extend(
        ["--exact", "journal::child", "--ignored", "--test-threads=1", "--nocapture"].map(Into::into),
    );
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(STATE, state).env("TMPDIR", place).env("LIFEBOAT_FAILPOINTS", failpoints);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A file system of its own, of so many bytes, for the process of its own; then what follows.
fn mounted(options: &str, then: &str, at: &Path) -> Vec<String> {
    let at = at.display();
    let script = format!("mount -t tmpfs -o {options} none {at} && {then} && exec \"$@\"");
    let mut words: Vec<&str> = vec!["unshare"];
    if !rustix::process::geteuid().is_root() {
        words.extend(["--user", "--map-root-user"]);
    }
    words.extend(["--mount", "--", "bash", "-c", &script, "bash"]);
    words.into_iter().map(str::to_owned).collect()
}

fn as_strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn on_a_full_disk_nothing_is_begun() {
    let (state, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wrapper = mounted("size=64k", "true", state.path());
    let output = run(&as_strs(&wrapper), state.path(), place.path(), "");
    let said = said(&output);
    assert!(!output.status.success() && said.contains("hold room free in"), "{said}");
    assert!(said.contains("HINT: Make room on that file system"), "{said}");
    assert!(!place.path().join("effects").exists(), "nothing was begun");
}

#[test]
fn on_a_read_only_file_system_nothing_is_begun() {
    let (state, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let remount = format!("mount -o remount,ro {}", state.path().display());
    let wrapper = mounted("size=8m", &remount, state.path());
    let output = run(&as_strs(&wrapper), state.path(), place.path(), "");
    let said = said(&output);
    assert!(!output.status.success() && said.contains("Read-only file system"), "{said}");
    assert!(said.contains("HINT: Check that the state directory can be written"), "{said}");
    assert!(!place.path().join("effects").exists());
}

/// Each append fails once, before or after its bytes are there; the next executor goes on from what is there.
#[test]
fn a_disk_that_fails_at_any_append_loses_nothing() {
    let mut failures = 0;
    for failpoint in ["run::append", "run::written"] {
        for let_pass in 0..20 {
            let (state, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let output = run(&[], state.path(), place.path(), &format!("{failpoint}={let_pass}*error"));
            if output.status.success() {
                break;
            }
            failures += 1;
            let said = said(&output);
            assert!(said.contains("append to") && said.contains("HINT: Look at the disk"), "{said}");
            let runs = Runs::within(state.path());
            let story = runs.open(&runs.list().unwrap()[0]).unwrap().story().unwrap();
            let open =
                story.records.last().is_some_and(|(record, _)| matches!(record.event, Event::Intent(_)));
            let effects = lines(&place.path().join("effects")).len();
            let outcomes =
                story.records.iter().filter(|(record, _)| matches!(record.event, Event::Outcome(_))).count();
            assert!(effects == outcomes || (open && effects == outcomes + 1), "{failpoint} {let_pass}");
        }
    }
    assert_eq!(failures, 12, "six records, in two ways");
}

fn stopped_at_people() -> Tried {
    let text = "# R\n\n```bash {step=one undo=none why=x}\ntrue\n```\n\n- [ ] look {step=look}\n";
    let mut tried = Tried::begin(text, &[], house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    tried
}

fn journal_of(runs: &Runs, run: &RunId) -> PathBuf {
    runs.open(run).unwrap().path().join("journal-0001.jsonl")
}

#[test]
fn a_torn_end_is_cut_and_said() {
    let tried = stopped_at_people();
    let (runs, run) = (tried.runs(), tried.run());
    drop(tried.executor);
    let path = journal_of(&runs, &run);
    let whole = std::fs::read(&path).unwrap();
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"at\":\"2027").unwrap();
    let executor = Executor::resume(&runs, &run, house(), &compile_bytes).unwrap();
    drop(executor);
    let after = std::fs::read(&path).unwrap();
    assert!(after.starts_with(&whole));
    let story = runs.open(&run).unwrap().story().unwrap();
    let last = &story.records.last().unwrap().0.event;
    let what = "11 bytes at the end of the journal were no whole record, and were cut".to_owned();
    assert_eq!(*last, Event::Noted { what });
}

#[test]
fn a_last_newline_that_is_missing_costs_nothing() {
    let tried = stopped_at_people();
    let (runs, run) = (tried.runs(), tried.run());
    let records = tried.executor.state().number;
    drop(tried.executor);
    let path = journal_of(&runs, &run);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let executor = Executor::resume(&runs, &run, house(), &compile_bytes).unwrap();
    assert_eq!(executor.state().number, records);
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[test]
fn damage_in_the_middle_is_named_and_nothing_goes_on() {
    let tried = stopped_at_people();
    let (runs, run) = (tried.runs(), tried.run());
    drop(tried.executor);
    let path = journal_of(&runs, &run);
    let mut bytes = std::fs::read(&path).unwrap();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 20;
    bytes[second] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = Executor::resume(&runs, &run, house(), &compile_bytes).err().unwrap();
    let said = lifeboat_base::report(&error);
    assert!(said.contains("journal-0001.jsonl, line 2: the journal is damaged"), "{said}");
    assert!(error.hint().unwrap().contains("mirror"));
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "it is left as it is");
}

#[test]
fn a_document_that_was_changed_is_not_the_pinned_one() {
    let tried = stopped_at_people();
    let (runs, run) = (tried.runs(), tried.run());
    drop(tried.executor);
    let document = runs.open(&run).unwrap().path().join("runbook.md");
    let text = std::fs::read_to_string(&document).unwrap();
    std::fs::write(&document, text.replace("true", "false")).unwrap();
    let error = Executor::resume(&runs, &run, house(), &compile_bytes).err().unwrap();
    assert!(matches!(error, RunError::OtherDocument(_)), "{error}");
}

#[test]
fn two_executors_on_one_machine_are_one() {
    let tried = stopped_at_people();
    let (runs, run) = (tried.runs(), tried.run());
    let error = Executor::resume(&runs, &run, house(), &compile_bytes).err().unwrap();
    assert!(matches!(error, RunError::Folder(FolderError::Busy(_))), "{error}");
    drop(tried.executor);
    assert!(Executor::resume(&runs, &run, house(), &compile_bytes).is_ok());
}

#[test]
fn a_run_that_is_not_there_says_where_it_was_looked_for() {
    let state = tempfile::tempdir().unwrap();
    let run: RunId = "20270115t080000z-00000000".parse().unwrap();
    let error = Executor::resume(&Runs::within(state.path()), &run, house(), &compile_bytes).err().unwrap();
    assert!(
        lifeboat_base::report(&error).contains("there is no run 20270115t080000z-00000000 in"),
        "{error}"
    );
}
