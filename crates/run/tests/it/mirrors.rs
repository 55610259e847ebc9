//! Executors that race, freeze and thaw, with a mirror and without one, and a run that goes on elsewhere.

use super::*;
use lifeboat_base::Hint;
use lifeboat_run::event::{Act, Again, Ended, Ending, Event};
use lifeboat_run::mirror::{Created, FolderMirror, Left, MemoryMirror, Mirror, MirrorError, Slot};
use lifeboat_run::{
    Carried, Carriers, Carry, FolderError, Order, Request, RequestId, RunStatus, Stop, StoppedStatement,
};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// One step that may be done once, between two that may be repeated.
pub(super) const TEXT: &str = r#"# R

```bash {step=before repeat=safe undo=none why=x}
true
```

```bash {step=once undo=none why=x}
true
```

```bash {step=after repeat=safe undo=none why=x}
true
```
"#;

pub(super) fn mirrored(mirror: &MemoryMirror) -> House {
    House { mirror: Some(Arc::new(mirror.clone())), confirm_within: Duration::from_millis(300), ..house() }
}

pub(super) fn statement() -> Option<StoppedStatement> {
    Some(StoppedStatement { text: "I pulled its plug".to_owned() })
}

/// Counts what is carried out, and holds a step up until it is let go: an executor that is frozen.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<(Mutex<Inside>, Condvar)>);

#[derive(Default)]
struct Inside {
    counted: BTreeMap<String, u32>,
    held: Option<String>,
    has_arrived: bool,
}

impl Gate {
    pub(super) fn holding(step: &str) -> Self {
        let gate = Self::default();
        gate.0.0.lock().unwrap().held = Some(step.to_owned());
        gate
    }

    pub(super) fn wait_until_held(&self) {
        let inside = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(inside, |inside| !inside.has_arrived).unwrap());
    }

    pub(super) fn let_go(&self) {
        self.0.0.lock().unwrap().held = None;
        self.0.1.notify_all();
    }

    pub(super) fn times(&self, step: &str) -> u32 {
        self.0.0.lock().unwrap().counted.get(step).copied().unwrap_or(0)
    }
}

impl Carry for Gate {
    fn carry(&self, order: &Order, _: &Stop) -> Carried {
        let mut inside = self.0.0.lock().unwrap();
        *inside.counted.entry(order.block.to_string()).or_default() += 1;
        if inside.held.as_deref() == Some(order.block.as_str()) {
            inside.has_arrived = true;
            self.0.1.notify_all();
        }
        let held = |inside: &mut Inside| inside.held.as_deref() == Some(order.block.as_str());
        drop(self.0.1.wait_while(inside, held).unwrap());
        Carried::ended(Ended::Done)
    }

    fn look(&self, _: &Order) -> Vec<String> {
        Vec::new()
    }
}

pub(super) fn with(gate: &Gate, house: House) -> House {
    House { carriers: Carriers::all(Arc::new(gate.clone())), ..house }
}

pub(super) fn drive(executor: &mut Executor) -> Result<Rest, RunError> {
    executor.drive(Until::PeopleAreNeeded, &mut |_: &Record, _: &RunState| {})
}

/// An executor that hangs in a step, driven by a thread of its own.
pub(super) fn frozen(
    house: House,
    at: &str,
) -> (tempfile::TempDir, RunId, Gate, std::thread::JoinHandle<Result<Rest, RunError>>) {
    let gate = Gate::holding(at);
    let Tried { state, mut executor, .. } = Tried::begin(TEXT, &[], with(&gate, house));
    let run = executor.state().begun.as_ref().unwrap().run.clone();
    let driving = std::thread::spawn(move || drive(&mut executor));
    gate.wait_until_held();
    (state, run, gate, driving)
}

#[track_caller]
fn settle(executor: &mut Executor, done: bool) {
    assert_eq!(drive(executor).unwrap(), Rest::Waiting);
    assert_eq!(
        executor.state().status_of(&id("once")),
        StepStatus::Unknown { act: Act::Do, repeat: Again::Never }
    );
    let (by, reason) = ("ann".to_owned(), "looked".to_owned());
    executor.asker().ask(Request::Settle { step: id("once"), done, by, reason, outputs: BTreeMap::new() });
}

#[test]
fn who_thaws_after_a_takeover_on_the_same_machine_stops() {
    let (state, run, gate, driving) = frozen(house(), "once");
    let runs = Runs::within(state.path());
    let other = Gate::default();
    let refused =
        Executor::take_over(&runs, &run, with(&other, house()), &compile_bytes, None).err().unwrap();
    assert!(
        matches!(&refused, RunError::StatementNeeded { why } if why == "the run is not mirrored"),
        "{refused}"
    );
    assert!(refused.hint().unwrap().contains("stopped"));
    let mut executor =
        Executor::take_over(&runs, &run, with(&other, house()), &compile_bytes, statement()).unwrap();
    gate.let_go();
    let thawed = driving.join().unwrap().unwrap_err();
    assert!(matches!(thawed, RunError::TakenOver { .. }), "{thawed}");
    settle(&mut executor, true);
    assert_eq!(drive(&mut executor).unwrap(), Rest::Ended(Ending::Done));
    assert_eq!(
        (gate.times("once") + other.times("once"), gate.times("after"), other.times("after")),
        (1, 0, 1)
    );
    let story = runs.open(&run).unwrap().story().unwrap();
    assert!(story.void.iter().all(|record| matches!(record.event, Event::Outcome(_))), "{:?}", story.void);
    let taken = story.records.iter().find_map(|(record, _)| match &record.event {
        Event::TakenOver(taken) => Some(taken.clone()),
        _ => None,
    });
    assert_eq!(taken.unwrap().statement.as_deref(), Some("I pulled its plug"));
}

#[test]
fn of_two_who_take_over_at_once_one_does() {
    for round in 0..5 {
        let (state, run, gate, driving) = frozen(house(), "before");
        let runs = Runs::within(state.path());
        let results: Vec<_> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        Executor::take_over(
                            &runs,
                            &run,
                            with(&Gate::default(), house()),
                            &compile_bytes,
                            statement(),
                        )
                    })
                })
                .collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).collect()
        });
        gate.let_go();
        assert!(driving.join().unwrap().is_err());
        let mut won: Vec<Executor> = Vec::new();
        for result in results {
            match result {
                Ok(executor) => won.push(executor),
                Err(RunError::Folder(FolderError::Lost(_))) => {}
                Err(error) => panic!("{}", lifeboat_base::report(&error)),
            }
        }
        // Who came later may have taken over from who came first; then the first one finds out before it acts.
        let going: Vec<Result<Rest, RunError>> = won.iter_mut().map(drive).collect();
        let ended = going.iter().filter(|rest| matches!(rest, Ok(Rest::Ended(Ending::Done)))).count();
        assert_eq!(ended, 1, "round {round}: {going:?}");
        assert!(
            going.iter().all(|rest| matches!(rest, Ok(_) | Err(RunError::TakenOver { .. }))),
            "{going:?}"
        );
    }
}

#[test]
fn in_a_mirrored_run_what_may_be_done_once_is_confirmed_first() {
    let mirror = MemoryMirror::new();
    let gate = Gate::default();
    let mut tried = Tried::begin(TEXT, &[], with(&gate, mirrored(&mirror)));
    mirror.set_away(true);
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(tried.executor.state().status, RunStatus::Paused { undoing: false });
    let reason = tried.executor.standing().reason.unwrap();
    assert!(reason.starts_with("the mirror does not confirm that once begins: "), "{reason}");
    assert_eq!((gate.times("before"), gate.times("once")), (1, 0), "what may be repeated waits for nobody");
    assert_eq!(tried.drive().unwrap(), Rest::Waiting, "it does not go on by itself");
    mirror.set_away(false);
    tried.executor.asker().ask(Request::Resume { by: "ann".to_owned() });
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Done));
    assert_eq!(gate.times("once"), 1);
    let last = Slot { run: tried.run(), number: tried.executor.state().number };
    assert!(mirror.read(&last).unwrap().is_some(), "all of it is there at the end");
}

#[test]
fn a_run_goes_on_elsewhere_from_its_mirror_alone() {
    let place = tempfile::tempdir().unwrap();
    let mirror: Arc<dyn Mirror> = Arc::new(FolderMirror::new(place.path()));
    let text = "# R\n\n```bash {step=one repeat=safe outputs=what undo=none why=x}\necho what=seven >> \"$LIFEBOAT_OUTPUT\"\n```\n\n- [ ] look {step=look}\n\n```check {step=see pass=one.what}\n[ \"$what\" = seven ]\n```\n";
    let here = House { mirror: Some(mirror.clone()), ..house() };
    let mut tried = Tried::begin(text, &[], here);
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let (run, number) = (tried.run(), tried.executor.state().number);
    wait_for_slot(&*mirror, &run, number);
    // The machine is gone, with everything on it.
    drop(tried);
    let elsewhere = tempfile::tempdir().unwrap();
    let there = House { mirror: Some(mirror.clone()), host: "host-2".to_owned(), ..house() };
    assert_eq!(mirror.runs().unwrap(), std::slice::from_ref(&run));
    let runs = Runs::within(elsewhere.path());
    let mut executor = Executor::take_over(&runs, &run, there, &compile_bytes, None).unwrap();
    assert_eq!(executor.state().number, number + 1);
    let confirm = Request::Confirm { step: id("look"), by: "ann".to_owned(), done: true, note: None };
    executor.asker().ask(confirm);
    assert_eq!(drive(&mut executor).unwrap(), Rest::Ended(Ending::Done));
    assert_eq!(runs.open(&run).unwrap().document().unwrap(), text.as_bytes());
}

pub(super) fn wait_for_slot(mirror: &dyn Mirror, run: &RunId, number: u64) {
    let watch = lifeboat_base::clock::Stopwatch::start();
    while mirror.read(&Slot { run: run.clone(), number }).unwrap().is_none() {
        assert!(watch.elapsed() < Duration::from_secs(60), "it is never mirrored");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn who_thaws_after_a_takeover_elsewhere_stops_at_its_next_slot() {
    let mirror = MemoryMirror::new();
    let (_here, run, gate, driving) = frozen(mirrored(&mirror), "before");
    wait_for_slot(&mirror, &run, 2);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Gate::default();
    let runs = Runs::within(elsewhere.path());
    let house = with(&other, mirrored(&mirror.from_elsewhere()));
    // Nothing is open that may be done once: nobody has to state anything.
    let mut executor = Executor::take_over(&runs, &run, house, &compile_bytes, None).unwrap();
    gate.let_go();
    let thawed = driving.join().unwrap().unwrap_err();
    assert!(matches!(thawed, RunError::TakenOver { .. }), "{thawed}");
    assert_eq!(drive(&mut executor).unwrap(), Rest::Ended(Ending::Done));
    assert_eq!((gate.times("once"), other.times("once")), (0, 1));
}

/// The last step is over for both; the run ended where it was taken over to.
#[test]
fn who_thaws_at_the_end_of_a_run_that_was_taken_over_does_not_say_that_it_is_done() {
    let mirror = MemoryMirror::new();
    let (_here, run, gate, driving) = frozen(mirrored(&mirror), "after");
    wait_for_slot(&mirror, &run, 6);
    let elsewhere = tempfile::tempdir().unwrap();
    let runs = Runs::within(elsewhere.path());
    let there = House { host: "host-2".to_owned(), ..mirrored(&mirror.from_elsewhere()) };
    let mut executor =
        Executor::take_over(&runs, &run, with(&Gate::default(), there), &compile_bytes, None).unwrap();
    assert_eq!(drive(&mut executor).unwrap(), Rest::Ended(Ending::Done));
    gate.let_go();
    let thawed = driving.join().unwrap().unwrap_err();
    assert!(
        matches!(&thawed, RunError::TakenOver { by: Some(by), .. } if by.ends_with(" on host-2")),
        "{thawed}"
    );
}

#[test]
fn who_thaws_without_its_mirror_begins_nothing_that_may_be_done_once() {
    let mirror = MemoryMirror::new();
    let (here, run, gate, driving) = frozen(mirrored(&mirror), "before");
    wait_for_slot(&mirror, &run, 2);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Gate::default();
    let runs = Runs::within(elsewhere.path());
    let house = with(&other, mirrored(&mirror.from_elsewhere()));
    let mut executor = Executor::take_over(&runs, &run, house, &compile_bytes, None).unwrap();
    mirror.set_away(true);
    gate.let_go();
    assert_eq!(driving.join().unwrap().unwrap(), Rest::Waiting);
    assert_eq!(drive(&mut executor).unwrap(), Rest::Ended(Ending::Done));
    assert_eq!((gate.times("once"), other.times("once")), (0, 1));
    // The mirror is back, and who was taken over from finds out on resuming.
    mirror.set_away(false);
    let error =
        Executor::resume(&Runs::within(here.path()), &run, mirrored(&mirror), &compile_bytes).err().unwrap();
    assert!(matches!(&error, RunError::TakenOver { .. }), "{error}");
    assert!(error.to_string().ends_with(" has been taken over by tester on host-1"), "{error}");
}

/// Its disk was put back to an earlier day: nobody took the run over, and nothing is done twice.
#[test]
fn who_lost_records_that_the_mirror_has_is_told_so() {
    let mirror = MemoryMirror::new();
    let text = "# R\n\n- [ ] look {step=look}\n";
    let mut tried = Tried::begin(text, &[], mirrored(&mirror));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let (runs, run, number) = (tried.runs(), tried.run(), tried.executor.state().number);
    wait_for_slot(&mirror, &run, number);
    drop(tried.executor);
    let journal = runs.open(&run).unwrap().path().join("journal-0001.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    let first = text.lines().next().unwrap();
    std::fs::write(&journal, format!("{first}\n")).unwrap();
    let error = Executor::resume(&runs, &run, mirrored(&mirror), &compile_bytes).err().unwrap();
    assert!(matches!(&error, RunError::Behind { here: 1, there, .. } if *there == number), "{error}");
    assert!(error.hint().unwrap().contains("--take-over"));
    let mut executor = Executor::take_over(&runs, &run, mirrored(&mirror), &compile_bytes, None).unwrap();
    assert_eq!(drive(&mut executor).unwrap(), Rest::Waiting);
    assert_eq!(executor.state().number, number + 1);
}

fn left(mirror: &str) -> Request {
    Request::LeaveMirror { by: "ann".to_owned(), reason: mirror.to_owned() }
}

/// The repository is part of the disaster: a person answers for it that nobody else goes on.
#[test]
fn a_person_lets_a_run_go_on_without_its_mirror() {
    let mirror = MemoryMirror::new();
    let gate = Gate::default();
    let mut tried = Tried::begin(TEXT, &[], with(&gate, mirrored(&mirror)));
    mirror.set_away(true);
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    for request in [left(" "), left("its region is gone, and I am the only one"), left("twice")] {
        tried.executor.asker().ask(request);
    }
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Done));
    assert_eq!(tried.events().iter().filter(|kind| *kind == "refused").count(), 2);
    assert_eq!(gate.times("once"), 1);
    let (runs, run, number) = (tried.runs(), tried.run(), tried.executor.state().number);
    drop(tried.executor);
    // When the mirror is back, the next who looks brings it the end.
    let back = mirror.from_elsewhere();
    let over = Executor::resume(&runs, &run, mirrored(&back), &compile_bytes).err().unwrap();
    assert!(matches!(over, RunError::Over(_)), "{over}");
    assert!(back.read(&Slot { run, number }).unwrap().is_some());
}

#[test]
fn who_goes_on_without_the_mirror_stops_when_it_answers_that_somebody_else_did() {
    let mirror = MemoryMirror::new();
    let (_here, run, gate, driving) = frozen(mirrored(&mirror), "before");
    wait_for_slot(&mirror, &run, 2);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Gate::holding("once");
    let house = with(&other, mirrored(&mirror.from_elsewhere()));
    let mut taker =
        Executor::take_over(&Runs::within(elsewhere.path()), &run, house, &compile_bytes, None).unwrap();
    taker.asker().ask(left("I see nobody"));
    let taking = std::thread::spawn(move || drive(&mut taker));
    other.wait_until_held();
    gate.let_go();
    assert!(matches!(driving.join().unwrap(), Err(RunError::TakenOver { .. })));
    // What was recorded of going on without the mirror arrives in it: whoever takes over has to state something.
    wait_for_slot(&mirror, &run, 4);
    let third = tempfile::tempdir().unwrap();
    let house = with(&other, mirrored(&mirror.from_elsewhere()));
    let over = Executor::take_over(&Runs::within(third.path()), &run, house, &compile_bytes, None);
    assert!(
        matches!(&over, Err(RunError::StatementNeeded { why }) if why == "the run goes on without its mirror")
    );
    other.let_go();
    assert_eq!(taking.join().unwrap().unwrap(), Rest::Ended(Ending::Done));
}

/// An executor of this machine hangs, and the mirror is silent as well.
#[test]
fn a_run_of_this_machine_is_taken_over_without_its_mirror_if_somebody_answers_for_it() {
    let mirror = MemoryMirror::new();
    let (state, run, gate, driving) = frozen(mirrored(&mirror), "before");
    mirror.set_away(true);
    let runs = Runs::within(state.path());
    let other = Gate::default();
    let take = |statement| {
        Executor::take_over(&runs, &run, with(&other, mirrored(&mirror)), &compile_bytes, statement)
    };
    assert!(matches!(take(None).err().unwrap(), RunError::Mirror(_)));
    let mut executor = take(statement()).unwrap();
    gate.let_go();
    assert!(matches!(driving.join().unwrap(), Err(RunError::TakenOver { .. })));
    assert_eq!(drive(&mut executor).unwrap(), Rest::Waiting, "what may be done once waits for the mirror");
    assert_eq!((gate.times("once"), other.times("once")), (0, 0));
    mirror.set_away(false);
    executor.asker().ask(Request::Resume { by: "ann".to_owned() });
    assert_eq!(drive(&mut executor).unwrap(), Rest::Ended(Ending::Done));
    assert_eq!(other.times("once"), 1);
    let last = Slot { run, number: executor.state().number };
    assert!(mirror.read(&last).unwrap().is_some(), "all of it has arrived");
}

#[test]
fn a_step_that_may_be_done_once_and_is_open_needs_a_statement_and_is_unknown() {
    let mirror = MemoryMirror::new();
    let (_here, run, gate, driving) = frozen(mirrored(&mirror), "once");
    let elsewhere = tempfile::tempdir().unwrap();
    let runs = Runs::within(elsewhere.path());
    let other = Gate::default();
    let take = |statement| {
        let house = with(&other, mirrored(&mirror.from_elsewhere()));
        Executor::take_over(&runs, &run, house, &compile_bytes, statement)
    };
    let refused = take(None).err().unwrap();
    assert!(
        matches!(&refused, RunError::StatementNeeded { why } if why.starts_with("once may be under way")),
        "{refused}"
    );
    assert!(take(Some(StoppedStatement { text: " ".to_owned() })).is_err());
    let mut executor = take(statement()).unwrap();
    gate.let_go();
    assert!(driving.join().unwrap().is_err());
    settle(&mut executor, false);
    assert_eq!(drive(&mut executor).unwrap(), Rest::Ended(Ending::Done));
    assert_eq!(other.times("once"), 1, "since a person said that it was not done");
}

#[test]
fn after_a_takeover_a_step_with_a_probe_is_looked_at_before_it_is_begun() {
    let place = tempfile::tempdir().unwrap();
    let text = r#"---
inputs:
  place: {type: path}
---
# R

- [ ] look {step=look}

```bash {step=promote pass=place repeat=check probe=is-promoted undo=none why=x}
echo promote >> "$place/effects"
```

```check {step=is-promoted pass=place}
grep -qx promote "$place/effects"
```
"#;
    let mirror = MemoryMirror::new();
    let inputs = [("place", value(place.path().to_str().unwrap()))];
    let mut tried = Tried::begin(text, &inputs, mirrored(&mirror));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let run = tried.run();
    wait_for_slot(&mirror, &run, 2);
    // Cut off from its mirror, the other did it where nobody saw.
    std::fs::write(place.path().join("effects"), "promote\n").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let house = mirrored(&mirror.from_elsewhere());
    let runs = Runs::within(elsewhere.path());
    let mut executor = Executor::take_over(&runs, &run, house, &compile_bytes, None).unwrap();
    let confirm = Request::Confirm { step: id("look"), by: "ann".to_owned(), done: true, note: None };
    executor.asker().ask(confirm);
    assert_eq!(drive(&mut executor).unwrap(), Rest::Ended(Ending::Done));
    assert_eq!(lines(&place.path().join("effects")), ["promote"]);
}

#[test]
fn a_mirrored_run_is_not_begun_without_its_mirror_and_not_resumed_without_knowing_it() {
    let mirror = MemoryMirror::new();
    mirror.set_away(true);
    let state = tempfile::tempdir().unwrap();
    let runs = Runs::within(state.path());
    let refused = Executor::begin_run(&runs, mirrored(&mirror), begin(TEXT, &[])).err().unwrap();
    assert!(matches!(refused, RunError::Mirror(_)) && refused.hint().is_some(), "{refused}");
    assert!(runs.list().unwrap().is_empty());
    mirror.set_away(false);
    let executor = Executor::begin_run(&runs, mirrored(&mirror), begin(TEXT, &[])).unwrap();
    drop(executor);
    let run = runs.list().unwrap()[0].clone();
    let refused = Executor::resume(&runs, &run, house(), &compile_bytes).err().unwrap();
    assert!(matches!(&refused, RunError::MirrorMissing { place, .. } if place == "memory"), "{refused}");
    let mut executor =
        Executor::resume(&runs, &run, with(&Gate::default(), mirrored(&mirror)), &compile_bytes).unwrap();
    assert_eq!(drive(&mut executor).unwrap(), Rest::Ended(Ending::Done));
}

#[test]
fn what_was_recorded_while_the_mirror_was_away_arrives_after_a_restart() {
    let mirror = MemoryMirror::new();
    let text = "# R\n\n- [ ] look {step=look}\n\n- [ ] look again {step=again}\n";
    let mut tried = Tried::begin(text, &[], mirrored(&mirror));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    mirror.set_away(true);
    let said = Request::Confirm { step: id("look"), by: "ann".to_owned(), done: true, note: None };
    tried.executor.asker().ask(said);
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let (runs, run, number) = (tried.runs(), tried.run(), tried.executor.state().number);
    drop(tried.executor);
    let away = mirror.from_elsewhere();
    let executor = Executor::resume(&runs, &run, mirrored(&away), &compile_bytes).unwrap();
    wait_for_slot(&away, &run, number);
    drop(executor);
}

/// On two machines there is no common file to claim: the slot decides.
#[test]
fn of_two_machines_that_take_over_at_once_one_does() {
    for round in 0..5 {
        let mirror = MemoryMirror::new();
        let (_here, run, gate, driving) = frozen(mirrored(&mirror), "before");
        wait_for_slot(&mirror, &run, 2);
        let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let other = Gate::default();
        let results: Vec<_> = std::thread::scope(|scope| {
            let take = |place: &tempfile::TempDir| {
                let house = with(&other, mirrored(&mirror.from_elsewhere()));
                Executor::take_over(&Runs::within(place.path()), &run, house, &compile_bytes, None)
            };
            let takers: Vec<_> = places.iter().map(|place| scope.spawn(move || take(place))).collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).collect()
        });
        let mut won: Vec<Executor> = Vec::new();
        for result in results {
            match result {
                Ok(executor) => won.push(executor),
                Err(RunError::Folder(FolderError::Lost(_))) => {}
                Err(error) => panic!("{}", lifeboat_base::report(&error)),
            }
        }
        let going: Vec<Result<Rest, RunError>> = won.iter_mut().map(drive).collect();
        gate.let_go();
        assert!(driving.join().unwrap().is_err());
        let ended = going.iter().filter(|rest| matches!(rest, Ok(Rest::Ended(Ending::Done)))).count();
        assert_eq!((ended, other.times("once")), (1, 1), "round {round}: {going:?}");
    }
}

/// Where a process of its own finds the run that it takes over.
const PLACE: &str = "LIFEBOAT_TEST_TAKEOVER_PLACE";

fn here(place: &Path) -> House {
    House { mirror: Some(Arc::new(FolderMirror::new(&place.join("mirror")))), ..house() }
}

#[test]
#[ignore = "started by another as a process of its own"]
fn child() {
    let place = std::path::PathBuf::from(std::env::var(PLACE).unwrap());
    let runs = Runs::within(&place);
    let run = runs.list().unwrap()[0].clone();
    Executor::take_over(&runs, &run, here(&place), &compile_bytes, None).unwrap();
}

/// Who takes over is killed after the claim, or after the slot is occupied; the next who does goes on.
#[test]
fn a_takeover_that_is_killed_is_taken_over_and_not_resumed() {
    for failpoint in ["run::claimed", "run::occupied"] {
        let place = tempfile::tempdir().unwrap();
        let runs = Runs::within(place.path());
        let text = "# R\n\n- [ ] look {step=look}\n";
        let mut executor = Executor::begin_run(&runs, here(place.path()), begin(text, &[])).unwrap();
        assert_eq!(drive(&mut executor).unwrap(), Rest::Waiting);
        let run = runs.list().unwrap()[0].clone();
        wait_for_slot(&FolderMirror::new(&place.path().join("mirror")), &run, 2);
        drop(executor);
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "mirrors::child", "--ignored", "--test-threads=1"])
            .env(PLACE, place.path())
            .env("LIFEBOAT_FAILPOINTS", format!("{failpoint}=kill"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), None, "{}", String::from_utf8_lossy(&output.stderr));
        let refused = Executor::resume(&runs, &run, here(place.path()), &compile_bytes).err().unwrap();
        assert!(matches!(refused, RunError::Folder(FolderError::HalfTaken(_))), "{failpoint}: {refused}");
        let mut executor =
            Executor::take_over(&runs, &run, here(place.path()), &compile_bytes, None).unwrap();
        let confirm = Request::Confirm { step: id("look"), by: "ann".to_owned(), done: true, note: None };
        executor.asker().ask(confirm);
        assert_eq!(drive(&mut executor).unwrap(), Rest::Ended(Ending::Done), "{failpoint}");
        let story = runs.open(&run).unwrap().story().unwrap();
        let taken = story.records.iter().filter(|(record, _)| matches!(record.event, Event::TakenOver(_)));
        assert_eq!(taken.count(), if failpoint == "run::claimed" { 1 } else { 2 });
    }
}

/// A mirror that takes what it is given and never answers.
struct Hanging(MemoryMirror, Mutex<bool>, Condvar);

impl Mirror for Hanging {
    fn place(&self) -> String {
        "hanging".to_owned()
    }

    fn create(&self, slot: &Slot, bytes: &[u8]) -> Result<Created, MirrorError> {
        if slot.number > 1 {
            drop(self.2.wait_while(self.1.lock().unwrap(), |hangs| *hangs).unwrap());
        }
        self.0.create(slot, bytes)
    }

    fn read(&self, slot: &Slot) -> Result<Option<Vec<u8>>, MirrorError> {
        self.0.read(slot)
    }

    fn runs(&self) -> Result<Vec<RunId>, MirrorError> {
        self.0.runs()
    }

    fn leave(&self, run: &RunId, id: &RequestId, bytes: &[u8]) -> Result<(), MirrorError> {
        self.0.leave(run, id, bytes)
    }

    fn requests(&self, run: &RunId, most: usize) -> Result<Vec<RequestId>, MirrorError> {
        self.0.requests(run, most)
    }

    fn request(&self, run: &RunId, id: &RequestId) -> Result<Option<Left>, MirrorError> {
        self.0.request(run, id)
    }
}

#[test]
fn a_mirror_that_hangs_holds_up_what_may_be_done_once_and_nothing_else() {
    let mirror = Arc::new(Hanging(MemoryMirror::new(), Mutex::new(true), Condvar::new()));
    let gate = Gate::default();
    let house = House {
        mirror: Some(mirror.clone()),
        confirm_within: Duration::from_millis(100),
        ..with(&gate, house())
    };
    let mut tried = Tried::begin(TEXT, &[], house);
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!((gate.times("before"), gate.times("once")), (1, 0));
    assert!(tried.executor.standing().reason.unwrap().ends_with("it does not answer"));
    *mirror.1.lock().unwrap() = false;
    mirror.2.notify_all();
    wait_for_slot(&mirror.0, &tried.run(), tried.executor.state().number);
    tried.executor.asker().ask(Request::Resume { by: "ann".to_owned() });
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Done));
    assert_eq!(gate.times("once"), 1);
}
