//! Executors that are killed, as processes of their own, and what the next one finds.

use super::*;
use crate::scripts::wait_until_dead;
use lifeboat_run::event::{Act, Again, Ending};
use lifeboat_run::{Request, StepStatus};
use std::process::Command;

/// Where the process of its own finds what it is to execute.
const PLACE: &str = "LIFEBOAT_TEST_RUN_PLACE";
const DOCUMENT: &str = "document.md";

/// Begins or resumes a run in a process of its own.
#[test]
#[ignore = "started by the others as a process of its own"]
fn child() {
    let place = std::env::var(PLACE).unwrap();
    let mut executor = executor(Path::new(&place)).unwrap();
    executor.drive(Until::PeopleAreNeeded, &mut |_: &Record, _: &RunState| {}).unwrap();
}

/// The run in a place: the one that is there, or a new one; none where it is over.
fn executor(place: &Path) -> Option<Executor> {
    let runs = Runs::within(place);
    for run in runs.list().unwrap() {
        match Executor::resume(&runs, &run, house(), &compile_bytes) {
            Ok(executor) => return Some(executor),
            Err(RunError::Over(_)) => return None,
            // Killed before its first record: nothing was done.
            Err(RunError::NotBegun(_)) | Err(RunError::Folder(lifeboat_run::FolderError::Absent { .. })) => {}
            Err(error) => panic!("{}", lifeboat_base::report(&error)),
        }
    }
    let text = std::fs::read_to_string(place.join(DOCUMENT)).unwrap();
    let begin = begin(&text, &[("place", value(place.to_str().unwrap()))]);
    Some(Executor::begin_run(&runs, house(), begin).unwrap())
}

/// Executes in a process of its own, which is to be killed at a failpoint; whether it was.
fn is_killed(place: &Path, failpoint: &str, let_pass: u32) -> bool {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kills::child", "--ignored", "--test-threads=1"])
        .env(PLACE, place)
        .env("LIFEBOAT_FAILPOINTS", format!("{failpoint}={let_pass}*kill"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() || said.contains("1 passed"), "{said}");
    match output.status.code() {
        Some(0) => false,
        None => true,
        Some(code) => panic!("exit code {code}\n{said}\n{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Kills an executor at each arrival at each failpoint, lets another one resume and a person look, and counts. Gives
/// the failpoints at which somebody was killed.
pub(crate) fn kill_everywhere(text: &str) -> Vec<&'static str> {
    let mut killed = Vec::new();
    for failpoint in ["run::append", "run::written", "run::synced", "run::carry", "run::carried"] {
        for let_pass in 0.. {
            let place = tempfile::tempdir().unwrap();
            std::fs::write(place.path().join(DOCUMENT), text).unwrap();
            if !is_killed(place.path(), failpoint, let_pass) {
                break;
            }
            killed.push(failpoint);
            go_on_and_count(place.path(), text, &format!("{failpoint} {let_pass}"));
        }
    }
    killed
}

fn go_on_and_count(place: &Path, text: &str, instant: &str) {
    let effects = place.join("effects");
    // Killed right after its last record: there is nothing to go on with.
    let Some(mut executor) = executor(place) else { return count(text, &effects, instant) };
    let mut observer = |_: &Record, _: &RunState| {};
    let mut asked = 0;
    while executor.drive(Until::PeopleAreNeeded, &mut observer).unwrap() == Rest::Waiting {
        asked += 1;
        assert!(asked < 10, "{instant}: it never ends");
        say_what_is_so(&mut executor, &effects);
    }
    assert!(matches!(executor.state().status, lifeboat_run::RunStatus::Ended { how: Ending::Done }));
    count(text, &effects, instant);
    assert!(asked <= 2, "{instant}: only what may be done once is asked about");
}

fn count(text: &str, effects: &Path, instant: &str) {
    let effects = counted(effects);
    for step in compiled(text).forward() {
        // A step that may be repeated leaves no line: it would be no mistake.
        if text.contains(&format!("echo {} >>", step.id)) {
            assert_eq!(effects.get(step.id.as_str()), Some(&1), "{instant}: {effects:?}");
        }
    }
}

/// A person looks at the file of effects and says what is so.
fn say_what_is_so(executor: &mut Executor, effects: &Path) {
    let counted = counted(effects);
    let stuck: Vec<StepId> = executor.state().stuck().cloned().collect();
    for step in stuck {
        let status = executor.state().status_of(&step);
        assert_eq!(status, StepStatus::Unknown { act: Act::Do, repeat: Again::Never });
        let done = counted.contains_key(step.as_str());
        let (by, reason) = ("ann".to_owned(), "looked into the file".to_owned());
        executor.asker().ask(Request::Settle { step, done, by, reason, outputs: BTreeMap::new() });
    }
}

/// The script kills its executor after it took effect: no failpoint, an instant in the middle of the action.
#[test]
fn an_executor_that_dies_under_a_script_takes_it_along_and_resumes_by_its_probe() {
    let text = r#"---
inputs:
  place: {type: path}
---
# R

```bash {step=once pass=place repeat=check probe=was-done undo=none why=x}
echo once >> "$place/effects"
kill -9 $PPID
sleep 600
echo survived >> "$place/effects"
```

```check {step=was-done pass=place}
grep -qx once "$place/effects"
```
"#;
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join(DOCUMENT), text).unwrap();
    assert!(is_killed(place.path(), "run::no-such-moment", 0), "by its own script");
    let mut executor = executor(place.path()).unwrap();
    let mut kinds = Vec::new();
    let mut observer = |record: &Record, _: &RunState| kinds.push(kind(record));
    let rest = executor.drive(Until::PeopleAreNeeded, &mut observer).unwrap();
    assert_eq!(rest, Rest::Ended(Ending::Done));
    assert_eq!(kinds, ["intent", "outcome", "ended"], "the probe, and nothing else");
    assert_eq!(lines(&place.path().join("effects")), ["once"]);
}

#[test]
fn what_may_be_done_once_and_was_interrupted_waits_for_a_person() {
    let text = "---\ninputs:\n  place: {type: path}\n---\n# R\n\n```bash {step=once pass=place undo=none why=x}\nsleep 600 & echo $! > \"$place/left\"\nkill -9 $PPID\nwait\n```\n";
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join(DOCUMENT), text).unwrap();
    assert!(is_killed(place.path(), "run::no-such-moment", 0));
    let mut executor = executor(place.path()).unwrap();
    let rest = executor.drive(Until::PeopleAreNeeded, &mut |_: &Record, _: &RunState| {}).unwrap();
    assert_eq!(rest, Rest::Waiting);
    let waiting = serde_json::to_value(executor.standing().waiting).unwrap();
    assert_eq!(waiting[0]["for"], "unknown", "{waiting}");
    assert_eq!(waiting[0]["why"], "its executor ended while it was under way");
    wait_until_dead(&place.path().join("left"));
}
