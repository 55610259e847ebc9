//! What people elsewhere ask, through the mirror: done or refused, recorded with its identity, and never twice.

use super::*;
use lifeboat_base::clock::{Stopwatch, Timestamp};
use lifeboat_run::event::{Ending, Event};
use lifeboat_run::mirror::{
    Created, FolderMirror, Left, LeftRequest, MemoryMirror, Mirror, MirrorError, Mirrored, Slot,
};
use lifeboat_run::{Heard, Request, RequestId, RunStatus, Said, Unsound};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What is waited for comes, or the test is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
const TWO_LOOKS: &str = "# R\n\n- [ ] look {step=look}\n\n- [ ] look again {step=again}\n";

fn hearing(mirror: &Arc<impl Mirror + 'static>) -> House {
    let hear_every = Duration::from_millis(2);
    House { mirror: Some(mirror.clone()), hear_every, confirm_within: Duration::from_millis(300), ..house() }
}

/// Who asks elsewhere: by what the mirror has.
struct Elsewhere<'a> {
    mirror: &'a dyn Mirror,
    run: RunId,
    asked: Mutex<u8>,
}

impl<'a> Elsewhere<'a> {
    fn of(mirror: &'a dyn Mirror, run: &RunId) -> Self {
        Self { mirror, run: run.clone(), asked: Mutex::default() }
    }

    fn next_id(&self) -> RequestId {
        let mut asked = self.asked.lock().unwrap();
        *asked += 1;
        RequestId([*asked; 16])
    }

    fn ask_having_seen(&self, seen: u64, request: Request) -> RequestId {
        let (id, run) = (self.next_id(), self.run.clone());
        LeftRequest { run, seen, request }.leave(self.mirror, &id).unwrap();
        id
    }

    fn ask(&self, request: Request) -> RequestId {
        let seen = Mirrored::read(self.mirror, &self.run).unwrap().state.number;
        self.ask_having_seen(seen, request)
    }
}

fn ann() -> String {
    "ann".to_owned()
}

fn pause() -> Request {
    Request::Pause { by: ann(), reason: "wait".to_owned() }
}

fn resume() -> Request {
    Request::Resume { by: ann() }
}

fn confirm(step: &str) -> Request {
    Request::Confirm { step: id(step), by: ann(), done: true, note: None }
}

/// Drives until the run is as it should be.
#[track_caller]
fn until(
    executor: &mut Executor,
    records: &mut Vec<Record>,
    is_so: impl Fn(&RunState, &[Record]) -> bool,
) -> Rest {
    let watch = Stopwatch::start();
    loop {
        let mut observer = |record: &Record, _: &RunState| records.push(record.clone());
        let rest = executor.drive(Until::PeopleAreNeeded, &mut observer).unwrap();
        if is_so(executor.state(), records) {
            return rest;
        }
        assert!(watch.elapsed() < PATIENCE, "it is waited for in vain: {records:#?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Tried {
    #[track_caller]
    fn until(&mut self, is_so: impl Fn(&RunState, &[Record]) -> bool) -> Rest {
        until(&mut self.executor, &mut self.records, is_so)
    }

    #[track_caller]
    fn until_heard(&mut self, request: RequestId) -> Rest {
        self.until(|state, _| state.heard.has(&request))
    }
}

/// The answer to a request.
#[track_caller]
fn answer(records: &[Record], request: RequestId) -> &Event {
    let answers: Vec<&Record> = records
        .iter()
        .filter(|record| record.heard.as_ref().is_some_and(|heard| heard.id == request))
        .collect();
    assert_eq!(answers.len(), 1, "{records:#?}");
    &answers[0].event
}

#[track_caller]
fn why_refused(records: &[Record], request: RequestId) -> &str {
    match answer(records, request) {
        Event::Refused { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

/// Everything that was recorded is in the mirror: who asks elsewhere sees it.
fn mirrored(mirror: &dyn Mirror, executor: &Executor) {
    let (watch, state) = (Stopwatch::start(), executor.state());
    let last = Slot { run: state.begun.as_ref().unwrap().run.clone(), number: state.number };
    while mirror.read(&last).unwrap().is_none() {
        assert!(watch.elapsed() < PATIENCE, "it is never mirrored");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_is_asked_elsewhere_is_done_or_refused_and_recorded_as_that() {
    let mirror = Arc::new(MemoryMirror::new());
    let mut tried = Tried::begin(TWO_LOOKS, &[], hearing(&mirror));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let run = tried.run();
    mirrored(&*mirror, &tried.executor);
    let elsewhere = Elsewhere::of(&*mirror, &run);
    let paused = elsewhere.ask(pause());
    tried.until_heard(paused);
    assert_eq!(tried.executor.state().status, RunStatus::Paused { undoing: false });
    mirrored(&*mirror, &tried.executor);
    let goes_on = elsewhere.ask(resume());
    tried.until_heard(goes_on);
    assert_eq!(tried.executor.state().status, RunStatus::Going);
    let wrong = elsewhere.ask(confirm("again"));
    let right = elsewhere.ask(confirm("look"));
    tried.until_heard(right);
    assert_eq!(why_refused(&tried.records, wrong), "again does not wait for anybody");
    assert!(matches!(answer(&tried.records, paused), Event::Paused { by: Some(by), .. } if by == "ann"));
    assert!(matches!(answer(&tried.records, goes_on), Event::Resumed { .. }));
    assert!(matches!(answer(&tried.records, right), Event::Outcome(_)));
    mirrored(&*mirror, &tried.executor);
    let given_up = elsewhere.ask(Request::Abort { by: ann(), reason: "enough".to_owned(), undo: false });
    tried.until(|state, _| matches!(state.status, RunStatus::Ended { .. }));
    assert!(matches!(answer(&tried.records, given_up), Event::AbortAsked { .. }));
    // The records of a run say it all, elsewhere too.
    let there = Mirrored::read(&*mirror, &run).unwrap();
    assert_eq!(
        there.records,
        tried
            .runs()
            .open(&run)
            .unwrap()
            .story()
            .unwrap()
            .records
            .into_iter()
            .map(|(record, _)| record)
            .collect::<Vec<_>>()
    );
    assert_eq!((there.executed_by().by, there.executed_by().host), ("tester", "host-1"));
    // A journal that answers one request twice is not believed.
    let mut twice = there.records.clone();
    let of_pause = twice.iter().find(|record| record.heard.as_ref().is_some_and(|heard| heard.id == paused));
    let again = Record { number: there.state.number + 1, ..of_pause.unwrap().clone() };
    twice.push(again);
    assert!(matches!(RunState::of(&twice), Err(Unsound::HeardTwice { request, .. }) if request == paused));
}

/// It was answered before the restart: the answer names it, and nobody asks the inbox of another machine.
#[test]
fn after_a_restart_nothing_is_answered_again_and_what_is_new_comes_before_the_next_step() {
    let place = tempfile::tempdir().unwrap();
    let mirror = Arc::new(FolderMirror::new(&place.path().join("mirror")));
    let effects = place.path().join("effects");
    let text = "---\ninputs:\n  effects: {type: path}\n---\n# R\n\n- [ ] look {step=look}\n\n```bash {step=act pass=effects undo=none why=x}\necho act >> \"$effects\"\n```\n";
    let inputs = [("effects", value(effects.to_str().unwrap()))];
    let mut tried = Tried::begin(text, &inputs, hearing(&mirror));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let (runs, run) = (tried.runs(), tried.run());
    mirrored(&*mirror, &tried.executor);
    let elsewhere = Elsewhere::of(&*mirror, &run);
    let (early, back) = (elsewhere.ask(pause()), resume());
    tried.until_heard(early);
    // Here somebody lets it go on; the old request must not pause it again.
    tried.executor.asker().ask(back);
    tried.until(|state, _| state.status == RunStatus::Going);
    mirrored(&*mirror, &tried.executor);
    drop(tried.executor);
    let done = elsewhere.ask(confirm("look"));
    let stop = elsewhere.ask(pause());
    let mut executor = Executor::resume(&runs, &run, hearing(&mirror), &compile_bytes).unwrap();
    let mut records = Vec::new();
    until(&mut executor, &mut records, |state, _| state.heard.has(&stop));
    assert!(matches!(answer(&records, done), Event::Outcome(_)));
    let kinds: Vec<String> = records.iter().map(kind).collect();
    assert_eq!(kinds, ["outcome", "paused"], "nothing is begun before what was asked is heard");
    assert!(!effects.exists());
    assert!(executor.state().heard.has(&early));
    mirrored(&*mirror, &executor);
    let goes_on = elsewhere.ask(resume());
    until(&mut executor, &mut records, |state, _| matches!(state.status, RunStatus::Ended { .. }));
    assert!(matches!(answer(&records, goes_on), Event::Resumed { .. }));
    assert_eq!(lines(&effects), ["act"]);
}

#[test]
fn who_takes_over_does_not_carry_out_what_was_answered_and_hears_what_was_not() {
    let mirror = Arc::new(MemoryMirror::new());
    let text = "# R\n\n```bash {step=bad repeat=safe undo=none why=x}\nexit 1\n```\n";
    let mut tried = Tried::begin(text, &[], hearing(&mirror));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let run = tried.run();
    mirrored(&*mirror, &tried.executor);
    let elsewhere = Elsewhere::of(&*mirror, &run);
    let said = |reason: &str| Said { step: id("bad"), by: ann(), reason: reason.to_owned() };
    let again = elsewhere.ask(Request::Again(said("mended")));
    tried.until(|state, _| state.heard.has(&again) && state.steps[&id("bad")].attempts == 2);
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    mirrored(&*mirror, &tried.executor);
    drop(tried.executor);
    let unheard = elsewhere.ask(Request::Skip(said("it is not needed")));
    let other = tempfile::tempdir().unwrap();
    let there = House { host: "host-2".to_owned(), ..hearing(&mirror) };
    let mut executor =
        Executor::take_over(&Runs::within(other.path()), &run, there, &compile_bytes, None).unwrap();
    let mut records = Vec::new();
    until(&mut executor, &mut records, |state, _| matches!(state.status, RunStatus::Ended { .. }));
    assert!(matches!(answer(&records, unheard), Event::Skipped(_)));
    assert_eq!(executor.state().steps[&id("bad")].attempts, 2, "the old request is not carried out again");
    let mirrored = Mirrored::read(&*mirror, &run).unwrap();
    assert_eq!((mirrored.executed_by().by, mirrored.executed_by().host), ("tester", "host-2"));
}

/// Between looking and being heard the run went on: what was meant is not so any more.
#[test]
fn what_was_meant_for_an_earlier_turn_of_the_run_is_refused() {
    let mirror = Arc::new(MemoryMirror::new());
    let text = "# R\n\n```bash {step=bad undo=none why=x}\nexit 1\n```\n\n- [ ] look {step=look}\n";
    let mut tried = Tried::begin(text, &[], hearing(&mirror));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let run = tried.run();
    let elsewhere = Elsewhere::of(&*mirror, &run);
    let failed = tried.executor.state().number;
    let said = Said { step: id("bad"), by: ann(), reason: "looked".to_owned() };
    tried.executor.asker().ask(Request::Again(said.clone()));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(tried.executor.state().steps[&id("bad")].attempts, 2);
    tried.executor.asker().ask(pause());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let again = elsewhere.ask_having_seen(failed, Request::Again(said.clone()));
    let skip = elsewhere.ask_having_seen(failed, Request::Skip(said));
    let goes_on = elsewhere.ask_having_seen(failed, resume());
    let leave =
        elsewhere.ask_having_seen(failed, Request::LeaveMirror { by: ann(), reason: "so".to_owned() });
    tried.until_heard(leave);
    for late in [again, skip] {
        assert!(why_refused(&tried.records, late).starts_with("bad has changed since ann looked (record "));
    }
    assert!(
        why_refused(&tried.records, goes_on).starts_with("the run has changed since ann looked (record ")
    );
    assert_eq!(why_refused(&tried.records, leave), "it came through the mirror, which answers");
    assert_eq!(tried.executor.state().steps[&id("bad")].attempts, 2);
}

#[test]
fn what_is_no_request_is_refused_once_and_not_after_a_restart() {
    let mirror = Arc::new(MemoryMirror::new());
    let mut tried = Tried::begin(TWO_LOOKS, &[], hearing(&mirror));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let (runs, run) = (tried.runs(), tried.run());
    let [noise, other, long] = [1, 2, 3].map(|n| RequestId([n; 16]));
    mirror.leave(&run, &noise, b"{\"ask\":\"pause\"}").unwrap();
    let stray = LeftRequest { run: "another-run".parse().unwrap(), seen: 1, request: pause() };
    let bytes = serde_json::to_vec(&serde_json::to_value(&stray).unwrap()).unwrap();
    mirror.leave(&run, &other, &bytes).unwrap();
    let by = "a".repeat(60_000);
    LeftRequest { run: run.clone(), seen: 1, request: Request::Resume { by } }
        .leave(&*mirror, &long)
        .unwrap();
    tried.until_heard(long);
    assert!(why_refused(&tried.records, noise).contains("unknown field `ask`"), "{:#?}", tried.records);
    assert_eq!(why_refused(&tried.records, other), "it is about run another-run");
    assert_eq!(why_refused(&tried.records, long), "a name of more than 200 bytes is nobody's");
    let refusal = serde_json::to_vec(tried.records.last().unwrap()).unwrap();
    assert!(refusal.len() < 8192, "what stands in the journal is bounded: {}", refusal.len());
    drop(tried.executor);
    let mut executor = Executor::resume(&runs, &run, hearing(&mirror), &compile_bytes).unwrap();
    let elsewhere = Elsewhere { mirror: &*mirror, run, asked: Mutex::new(9) };
    let mut records = Vec::new();
    let last = elsewhere.ask(confirm("look"));
    until(&mut executor, &mut records, |state, _| state.heard.has(&last));
    let heard: Vec<Heard> = records.iter().filter_map(|record| record.heard.clone()).collect();
    assert_eq!(heard, [Heard { id: last, from: None }], "{records:#?}");
}

#[test]
fn a_mirror_that_was_away_is_heard_when_it_is_back_and_holds_up_nothing_meanwhile() {
    let mirror = Arc::new(MemoryMirror::new());
    let mut tried = Tried::begin(TWO_LOOKS, &[], hearing(&mirror));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let run = tried.run();
    mirrored(&*mirror, &tried.executor);
    let reachable = mirror.from_elsewhere();
    let elsewhere = Elsewhere::of(&reachable, &run);
    mirror.set_away(true);
    let asked = elsewhere.ask(confirm("look"));
    tried.executor.asker().ask(pause());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(tried.executor.state().status, RunStatus::Paused { undoing: false });
    assert!(!tried.executor.state().heard.has(&asked));
    mirror.set_away(false);
    tried.until_heard(asked);
    assert!(matches!(answer(&tried.records, asked), Event::Outcome(_)));
}

/// A mirror whose requests hang until they are let go, and that says who left which.
struct Odd {
    inner: MemoryMirror,
    hangs: Mutex<bool>,
    changed: Condvar,
}

impl Odd {
    fn new(hangs: bool) -> Self {
        Self { inner: MemoryMirror::new(), hangs: Mutex::new(hangs), changed: Condvar::new() }
    }

    fn let_go(&self) {
        *self.hangs.lock().unwrap() = false;
        self.changed.notify_all();
    }
}

impl Mirror for Odd {
    fn place(&self) -> String {
        "odd".to_owned()
    }

    fn create(&self, slot: &Slot, bytes: &[u8]) -> Result<Created, MirrorError> {
        self.inner.create(slot, bytes)
    }

    fn read(&self, slot: &Slot) -> Result<Option<Vec<u8>>, MirrorError> {
        self.inner.read(slot)
    }

    fn runs(&self) -> Result<Vec<RunId>, MirrorError> {
        self.inner.runs()
    }

    fn leave(&self, run: &RunId, id: &RequestId, bytes: &[u8]) -> Result<(), MirrorError> {
        self.inner.leave(run, id, bytes)
    }

    fn requests(&self, run: &RunId, most: usize) -> Result<Vec<RequestId>, MirrorError> {
        drop(self.changed.wait_while(self.hangs.lock().unwrap(), |hangs| *hangs).unwrap());
        self.inner.requests(run, most)
    }

    /// The first byte of an identity stands for a key.
    fn request(&self, run: &RunId, id: &RequestId) -> Result<Option<Left>, MirrorError> {
        let from = (id.0[0] != 0).then(|| format!("key {}", id.0[0]));
        Ok(self.inner.request(run, id)?.map(|left| match left {
            Left::Bytes { bytes, .. } => Left::Bytes { bytes, from },
            nonsense => nonsense,
        }))
    }
}

#[test]
fn a_mirror_that_hangs_holds_up_no_step_and_no_end() {
    let mirror = Arc::new(Odd::new(true));
    let text = "# R\n\n- [ ] look {step=look}\n\n```bash {step=act repeat=safe undo=none why=x}\ntrue\n```\n";
    let mut tried = Tried::begin(text, &[], hearing(&mirror));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let (runs, run) = (tried.runs(), tried.run());
    mirrored(&*mirror, &tried.executor);
    let late = Elsewhere::of(&mirror.inner, &run).ask(pause());
    drop(tried.executor);
    let mut executor = Executor::resume(&runs, &run, hearing(&mirror), &compile_bytes).unwrap();
    executor.asker().ask(confirm("look"));
    let rest = executor.drive(Until::PeopleAreNeeded, &mut |_: &Record, _: &RunState| {}).unwrap();
    assert_eq!(rest, Rest::Ended(Ending::Done));
    assert!(!executor.state().heard.has(&late));
    mirror.let_go();
}

/// Who can write to the mirror fills neither the journal nor the ears: others are still heard.
#[test]
fn a_flood_is_heard_no_further_than_so_much_and_keeps_nobody_else_from_being_heard() {
    let mirror = Arc::new(Odd::new(false));
    let mut tried = Tried::begin(TWO_LOOKS, &[], hearing(&mirror));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let (runs, run) = (tried.runs(), tried.run());
    mirrored(&*mirror, &tried.executor);
    let id = |key: u8, n: u16| {
        let mut id = [key; 16];
        id[14..].copy_from_slice(&n.to_be_bytes());
        RequestId(id)
    };
    for n in 0..300 {
        mirror.leave(&run, &id(0, n), b"noise").unwrap();
        mirror.leave(&run, &id(1, n), b"noise").unwrap();
    }
    let mine = RequestId([2; 16]);
    let seen = tried.executor.state().number;
    LeftRequest { run: run.clone(), seen, request: confirm("look") }.leave(&*mirror, &mine).unwrap();
    tried.until_heard(mine);
    assert!(matches!(answer(&tried.records, mine), Event::Outcome(_)));
    let from = |records: &[Record], key: Option<&str>| {
        let heard = records.iter().filter_map(|record| record.heard.as_ref());
        heard.filter(|heard| heard.from.as_deref() == key).count()
    };
    assert_eq!((from(&tried.records, None), from(&tried.records, Some("key 1"))), (250, 250));
    let notes = |records: &[Record]| records.iter().filter(|record| kind(record) == "noted").count();
    assert_eq!(notes(&tried.records), 2, "each is said once");
    drop(tried.executor);
    // The next who resumes hears no more of theirs either.
    let mut executor = Executor::resume(&runs, &run, hearing(&mirror), &compile_bytes).unwrap();
    let last = RequestId([3; 16]);
    let mut records = Vec::new();
    executor
        .drive(Until::PeopleAreNeeded, &mut |record: &Record, _: &RunState| records.push(record.clone()))
        .unwrap();
    let seen = executor.state().number;
    LeftRequest { run, seen, request: confirm("again") }.leave(&*mirror, &last).unwrap();
    let rest = until(&mut executor, &mut records, |state, _| state.heard.has(&last));
    assert_eq!((from(&records, None), from(&records, Some("key 1")), notes(&records)), (0, 0, 0));
    assert_eq!(rest, Rest::Ended(Ending::Done));
}

/// Where a process of its own finds the run that it resumes.
const PLACE: &str = "LIFEBOAT_TEST_ASKS_PLACE";

fn here(place: &Path) -> House {
    hearing(&Arc::new(FolderMirror::new(&place.join("mirror"))))
}

#[test]
#[ignore = "started by another as a process of its own"]
fn child() {
    let place = std::path::PathBuf::from(std::env::var(PLACE).unwrap());
    let runs = Runs::within(&place);
    let run = runs.list().unwrap()[0].clone();
    let mut executor = Executor::resume(&runs, &run, here(&place), &compile_bytes).unwrap();
    executor.drive(Until::PeopleAreNeeded, &mut |_: &Record, _: &RunState| {}).unwrap();
}

/// Killed before, within and behind the record that answers: what is asked for happens once.
#[test]
fn whoever_is_killed_at_the_answer_carries_out_what_was_asked_once() {
    let text = "---\ninputs:\n  place: {type: path}\n---\n# R\n\n```bash {step=bad pass=place undo=none why=x}\necho bad >> \"$place/effects\"\nexit 1\n```\n";
    for failpoint in ["run::append", "run::written", "run::synced"] {
        let place = tempfile::tempdir().unwrap();
        let runs = Runs::within(place.path());
        let inputs = [("place", value(place.path().to_str().unwrap()))];
        let mut executor = Executor::begin_run(&runs, here(place.path()), begin(text, &inputs)).unwrap();
        until(&mut executor, &mut Vec::new(), |state, _| state.steps[&id("bad")].attempts == 1);
        let run = executor.state().begun.as_ref().unwrap().run.clone();
        let mirror = FolderMirror::new(&place.path().join("mirror"));
        mirrored(&mirror, &executor);
        drop(executor);
        let said = Said { step: id("bad"), by: ann(), reason: "mended".to_owned() };
        let asked = Elsewhere::of(&mirror, &run).ask(Request::Again(said));
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "asks::child", "--ignored", "--test-threads=1"])
            .env(PLACE, place.path())
            .env("LIFEBOAT_FAILPOINTS", format!("{failpoint}=kill"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), None, "{}", String::from_utf8_lossy(&output.stderr));
        let mut executor = Executor::resume(&runs, &run, here(place.path()), &compile_bytes).unwrap();
        until(&mut executor, &mut Vec::new(), |state, _| state.steps[&id("bad")].attempts == 2);
        until(&mut executor, &mut Vec::new(), |state, _| state.stuck().count() == 1);
        assert_eq!(lines(&place.path().join("effects")), ["bad", "bad"], "{failpoint}");
        let story = runs.open(&run).unwrap().story().unwrap();
        let records: Vec<Record> = story.records.into_iter().map(|(record, _)| record).collect();
        assert!(matches!(answer(&records, asked), Event::Again(_)), "{failpoint}");
    }
}

#[test]
fn a_run_is_shown_from_its_mirror_only_if_all_of_it_fits_together() {
    let mirror = Arc::new(MemoryMirror::new());
    let mut tried = Tried::begin(TWO_LOOKS, &[], hearing(&mirror));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let run = tried.run();
    mirrored(&*mirror, &tried.executor);
    let there = Mirrored::read(&*mirror, &run).unwrap();
    assert_eq!((there.document.as_slice(), there.place.as_str()), (TWO_LOOKS.as_bytes(), "memory"));
    assert_eq!(there.state.number, tried.executor.state().number);
    assert_eq!(there.executed_by().since, there.state.begun_at);
    let unknown = "nobody-s-run".parse().unwrap();
    assert!(matches!(Mirrored::read(&*mirror, &unknown), Err(RunError::NotBegun(_))));
    // Each of these is what somebody might put there who can write to the mirror.
    let slot = |run: &RunId, number| Slot { run: run.clone(), number };
    let line = |number| mirror.read(&slot(&run, number)).unwrap().unwrap();
    let forged = |name: &str, slots: &[Vec<u8>]| {
        let other: RunId = name.parse().unwrap();
        let mirror = MemoryMirror::new();
        for (number, bytes) in (0..).zip(slots) {
            mirror.create(&slot(&other, number), bytes).unwrap();
        }
        lifeboat_base::report(&Mirrored::read(&mirror, &other).err().unwrap())
    };
    let document = TWO_LOOKS.as_bytes().to_vec();
    let replaced = forged(run.as_str(), &[b"# Other\n".to_vec(), line(1), line(2)]);
    assert!(replaced.ends_with("slot 0 is not the document that the run was begun with"), "{replaced}");
    let renamed = forged("another", &[document.clone(), line(1), line(2)]);
    assert!(renamed.ends_with("slot 1 is not the beginning of run another"), "{renamed}");
    let mut changed = line(2);
    changed[10] ^= 1;
    let broken = forged(run.as_str(), &[document.clone(), line(1), changed]);
    assert!(broken.contains("slot 2 of the mirror is damaged"), "{broken}");
    assert!(forged(run.as_str(), &[document]).contains("was never begun"));
}

#[test]
fn a_time_before_1970_names_a_request_as_well() {
    let id = RequestId::new(Timestamp::from_secs(-5));
    assert_eq!(id.to_string().parse(), Ok(id));
}
