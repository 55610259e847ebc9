//! Takeovers that come to nothing, come too late, or find that a run went on in two ways: what is left of it can always
//! be read and gone on with, and nobody goes on who did not take it over.

use super::mirrors::{Gate, TEXT, drive, frozen, mirrored, statement, wait_for_slot, with};
use super::*;
use lifeboat_base::clock::Timestamp;
use lifeboat_plan::Plan;
use lifeboat_run::event::{Act, Again, Ended, Ending, Event};
use lifeboat_run::mirror::{Created, Left, MemoryMirror, Mirror, MirrorError, Slot};
use lifeboat_run::{
    Carried, Carriers, Carry, Contact, FolderError, Generation, Messenger, NotSent, Notice, Order, Pace,
    Recipient, Request, RequestId, Stop, Tells,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PERSON: &str = "# R\n\n- [ ] look {step=look}\n";

fn confirm() -> Request {
    Request::Confirm { step: id("look"), by: "ann".to_owned(), done: true, note: None }
}

/// Takes over as people do who know of nothing that is open.
fn take_over(state: &Path, run: &RunId, house: House) -> Result<Executor, RunError> {
    Executor::take_over(&Runs::within(state), run, house, &compile_bytes, None)
}

fn resume(state: &Path, run: &RunId, house: House) -> Result<Executor, RunError> {
    Executor::resume(&Runs::within(state), run, house, &compile_bytes)
}

struct Post;

impl Messenger for Post {
    fn recipients(&self, _: &[&Contact]) -> BTreeSet<Recipient> {
        BTreeSet::from([Recipient::Channel("ops".to_owned())])
    }

    fn send(&self, _: &Recipient, _: &[String], _: &Notice) -> Result<(), NotSent> {
        Ok(())
    }
}

/// That it is over is told when it is: the end is not the last record then.
#[test]
fn a_run_that_is_over_and_told_of_is_not_taken_over() {
    let plan = Plan::parse("[contacts.ann]\nreach = [\"ann@a.org\"]\n", "p.toml").unwrap();
    let tells = || Tells {
        messenger: Arc::new(Post),
        plan: Arc::new(plan.clone()),
        pace: Pace { finish_within: std::time::Duration::from_secs(60), ..Pace::default() },
    };
    let mirror = MemoryMirror::new();
    let told = || House { tells: Some(tells()), ..mirrored(&mirror) };
    let mut tried = Tried::begin(PERSON, &[], told());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    tried.executor.asker().ask(confirm());
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Done));
    let mut none = |_: &Record, _: &RunState| {};
    tried.executor.finish_telling(&mut none).unwrap();
    let (run, number) = (tried.run(), tried.executor.state().number);
    let state = tried.state;
    wait_for_slot(&mirror, &run, number);
    drop(tried.executor);
    let runs = Runs::within(state.path());
    let last = runs.open(&run).unwrap().story().unwrap().records.pop().unwrap().0;
    assert!(matches!(last.event, Event::Told(_)), "{last:?}");
    let elsewhere = tempfile::tempdir().unwrap();
    for place in [state.path(), elsewhere.path()] {
        let refused = Executor::take_over(&Runs::within(place), &run, told(), &compile_bytes, statement());
        let refused = refused.err().unwrap();
        assert!(matches!(refused, RunError::Over(_)), "{refused}");
    }
    let story = runs.open(&run).unwrap().story().unwrap();
    RunState::of(story.records.iter().map(|(record, _)| record)).unwrap();
    assert_eq!((story.number(), story.newest), (number, Generation::FIRST));
    assert_eq!(mirror.read(&Slot { run, number: number + 1 }).unwrap(), None);
}

/// What a machine fetched to take a run over is not its own before it did.
#[test]
fn who_is_refused_a_takeover_cannot_resume_instead() {
    let mirror = MemoryMirror::new();
    let (_here, run, gate, driving) = frozen(mirrored(&mirror), "once");
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Gate::default();
    let there = || with(&other, mirrored(&mirror.from_elsewhere()));
    for _ in 0..2 {
        let refused = take_over(elsewhere.path(), &run, there()).err().unwrap();
        assert!(matches!(refused, RunError::StatementNeeded { .. }), "{refused}");
        let refused = resume(elsewhere.path(), &run, there()).err().unwrap();
        assert!(matches!(refused, RunError::Folder(FolderError::HalfTaken(_))), "{refused}");
    }
    gate.let_go();
    assert_eq!(driving.join().unwrap().unwrap(), Rest::Ended(Ending::Done), "nobody took it over");
    let over = take_over(elsewhere.path(), &run, there()).err().unwrap();
    assert!(matches!(over, RunError::Over(_)), "{over}");
    assert_eq!((gate.times("once"), other.times("once"), other.times("after")), (1, 0, 0));
}

/// A mirror that is gone after so many reads.
struct Failing(MemoryMirror, AtomicU64);

impl Mirror for Failing {
    fn place(&self) -> String {
        self.0.place()
    }

    fn create(&self, slot: &Slot, bytes: &[u8]) -> Result<Created, MirrorError> {
        self.0.create(slot, bytes)
    }

    fn read(&self, slot: &Slot) -> Result<Option<Vec<u8>>, MirrorError> {
        let left = self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map_err(|_| MirrorError::new("read", "the network is gone"))?;
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
fn a_fetch_that_is_cut_off_anywhere_can_be_tried_again_and_not_resumed() {
    let mirror = MemoryMirror::new();
    let mut tried = Tried::begin(PERSON, &[], mirrored(&mirror));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let (run, number) = (tried.run(), tried.executor.state().number);
    wait_for_slot(&mirror, &run, number);
    // Each takeover adds a record, and so the reads are never enough.
    for reads in 0..12 {
        let elsewhere = tempfile::tempdir().unwrap();
        let failing = Failing(mirror.from_elsewhere(), AtomicU64::new(reads));
        let house = House { mirror: Some(Arc::new(failing)), ..mirrored(&mirror) };
        let error = take_over(elsewhere.path(), &run, house).err().unwrap();
        assert!(matches!(error, RunError::Mirror(_)), "after {reads}: {error}");
        let away = mirror.from_elsewhere();
        away.set_away(true);
        assert!(resume(elsewhere.path(), &run, mirrored(&away)).is_err(), "after {reads}");
        let mut executor = take_over(elsewhere.path(), &run, mirrored(&mirror.from_elsewhere())).unwrap();
        assert_eq!(drive(&mut executor).unwrap(), Rest::Waiting);
    }
}

/// The mirror was silent when somebody answered for it that the run goes on nowhere else, and it did.
#[test]
fn a_run_that_went_on_in_two_ways_goes_on_as_its_mirror_has_it() {
    let mirror = MemoryMirror::new();
    let Tried { state, mut executor, .. } = Tried::begin(PERSON, &[], mirrored(&mirror));
    assert_eq!(drive(&mut executor).unwrap(), Rest::Waiting);
    let run = executor.state().begun.as_ref().unwrap().run.clone();
    wait_for_slot(&mirror, &run, executor.state().number);
    drop(executor);
    let elsewhere = tempfile::tempdir().unwrap();
    let mut there = take_over(elsewhere.path(), &run, mirrored(&mirror.from_elsewhere())).unwrap();
    assert_eq!(drive(&mut there).unwrap(), Rest::Waiting);
    drop(there);
    // Here, the same generation once more, and another one on top of it.
    mirror.set_away(true);
    for _ in 0..2 {
        let taken = Executor::take_over(
            &Runs::within(state.path()),
            &run,
            mirrored(&mirror),
            &compile_bytes,
            statement(),
        );
        assert_eq!(drive(&mut taken.unwrap()).unwrap(), Rest::Waiting);
    }
    mirror.set_away(false);
    assert!(matches!(resume(state.path(), &run, mirrored(&mirror)), Err(RunError::TakenOver { .. })));
    let mut here = take_over(state.path(), &run, mirrored(&mirror)).unwrap();
    here.asker().ask(confirm());
    assert_eq!(drive(&mut here).unwrap(), Rest::Ended(Ending::Done));
    let folder = Runs::within(state.path()).open(&run).unwrap();
    for (record, line) in &folder.story().unwrap().records {
        let slot = Slot { run: run.clone(), number: record.number };
        assert_eq!(mirror.read(&slot).unwrap().as_ref(), Some(&line.bytes), "{}", record.number);
    }
    let parted = std::fs::read_dir(folder.path()).unwrap().flatten();
    let parted = parted.filter(|entry| entry.file_name().to_string_lossy().starts_with("parted-"));
    assert_eq!(parted.count(), 2, "what this machine recorded meanwhile is kept to be seen");
}

/// A disk that was put back, in the middle of a line.
#[test]
fn what_a_crash_left_of_a_line_does_not_spoil_what_is_fetched_behind_it() {
    let mirror = MemoryMirror::new();
    let Tried { state, mut executor, .. } = Tried::begin(PERSON, &[], mirrored(&mirror));
    assert_eq!(drive(&mut executor).unwrap(), Rest::Waiting);
    let (run, number) = (executor.state().begun.as_ref().unwrap().run.clone(), executor.state().number);
    wait_for_slot(&mirror, &run, number);
    drop(executor);
    let journal = Runs::within(state.path()).open(&run).unwrap().path().join("journal-0001.jsonl");
    let whole = std::fs::read(&journal).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap();
    for kept in [first, first + 9] {
        let before = tempfile::tempdir().unwrap();
        let folder = Runs::within(before.path()).create(&run, PERSON.as_bytes()).unwrap();
        std::fs::write(folder.path().join("journal-0001.jsonl"), &whole[..kept]).unwrap();
        let taken = take_over(before.path(), &run, mirrored(&mirror));
        let mut executor = taken.unwrap_or_else(|error| panic!("{kept}: {}", lifeboat_base::report(&error)));
        assert_eq!(drive(&mut executor).unwrap(), Rest::Waiting);
    }
}

/// The plan names another repository by now: what stands there confirms nothing of this run.
#[test]
fn another_mirror_than_the_run_was_begun_with_confirms_nothing() {
    let mirror = MemoryMirror::new();
    let gate = Gate::default();
    let Tried { state, executor, .. } = Tried::begin(TEXT, &[], with(&gate, mirrored(&mirror)));
    let run = executor.state().begun.as_ref().unwrap().run.clone();
    drop(executor);
    let another = MemoryMirror::new();
    let refused = take_over(state.path(), &run, with(&gate, mirrored(&another))).err().unwrap();
    assert!(matches!(refused, RunError::Mirror(_)), "{refused}");
    let mut executor = resume(state.path(), &run, with(&gate, mirrored(&another))).unwrap();
    assert_eq!(drive(&mut executor).unwrap(), Rest::Waiting);
    let reason = executor.standing().reason.unwrap();
    assert!(reason.contains("it does not hold this run"), "{reason}");
    assert_eq!((gate.times("before"), gate.times("once")), (1, 0));
    drop(executor);
    let stated = Executor::take_over(
        &Runs::within(state.path()),
        &run,
        with(&gate, mirrored(&another)),
        &compile_bytes,
        statement(),
    );
    drop(stated.unwrap());
    assert_eq!(another.runs().unwrap(), [], "nothing of it is brought there");
    let mut executor = resume(state.path(), &run, with(&gate, mirrored(&mirror))).unwrap();
    executor.asker().ask(Request::Resume { by: "ann".to_owned() });
    assert_eq!(drive(&mut executor).unwrap(), Rest::Ended(Ending::Done));
    assert_eq!(gate.times("once"), 1);
}

/// It did not happen, somebody said here: of the first attempt. The run went on elsewhere before that was heard.
#[test]
fn an_old_word_is_not_taken_for_what_happened_elsewhere_since() {
    let mirror = MemoryMirror::new();
    let gate = Lost::default();
    let lost = |house: House| House { carriers: Carriers::all(Arc::new(gate.clone())), ..house };
    let Tried { state, mut executor, .. } = Tried::begin(TEXT, &[], lost(mirrored(&mirror)));
    assert_eq!(drive(&mut executor).unwrap(), Rest::Waiting);
    let unknown = StepStatus::Unknown { act: Act::Do, repeat: Again::Never };
    assert_eq!(executor.state().status_of(&id("once")), unknown);
    let run = executor.state().begun.as_ref().unwrap().run.clone();
    wait_for_slot(&mirror, &run, executor.state().number);
    drop(executor);
    let settled = || Request::Settle {
        step: id("once"),
        done: false,
        by: "ann".to_owned(),
        reason: "I looked".to_owned(),
        outputs: BTreeMap::new(),
    };
    let here = Runs::within(state.path()).open(&run).unwrap();
    here.ask(&settled(), Timestamp::from_secs(1)).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut there = take_over(elsewhere.path(), &run, lost(mirrored(&mirror.from_elsewhere()))).unwrap();
    there.asker().ask(settled());
    assert_eq!(drive(&mut there).unwrap(), Rest::Waiting);
    assert_eq!((there.state().status_of(&id("once")), gate.times()), (unknown, 2));
    wait_for_slot(&mirror, &run, there.state().number);
    drop(there);
    let mut executor = take_over(state.path(), &run, lost(mirrored(&mirror))).unwrap();
    assert_eq!(drive(&mut executor).unwrap(), Rest::Waiting);
    assert_eq!((executor.state().status_of(&id("once")), gate.times()), (unknown, 2));
    let story = here.story().unwrap();
    let why = story.records.iter().rev().find_map(|(record, _)| match &record.event {
        Event::Refused { why, .. } => Some(why.clone()),
        _ => None,
    });
    assert!(why.unwrap().starts_with("once has changed since ann looked"));
    // What is said now is about what is so now.
    here.ask(&settled(), Timestamp::from_secs(2)).unwrap();
    assert_eq!(drive(&mut executor).unwrap(), Rest::Waiting);
    assert_eq!(gate.times(), 3);
}

/// Nobody ever knows what came of `once`.
#[derive(Clone, Default)]
struct Lost(Arc<AtomicU64>);

impl Lost {
    fn times(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Carry for Lost {
    fn carry(&self, order: &Order, _: &Stop) -> Carried {
        if order.block != id("once") {
            return Carried::ended(Ended::Done);
        }
        self.0.fetch_add(1, Ordering::SeqCst);
        Carried::ended(Ended::Unknown { why: "the line went dead".to_owned() })
    }

    fn look(&self, _: &Order) -> Vec<String> {
        Vec::new()
    }
}
