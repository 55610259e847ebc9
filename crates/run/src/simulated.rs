//! A world in which runs are rehearsed by the thousand: actions that are only counted, a journal in memory that tears,
//! executors that are killed at any instant, and a person who looks at what is really so before saying it.
//!
//! Everything follows from one seed. What is held against the world at the end is in [`World::audit`].

use crate::carry::{Carried, Carriers, Carry, Order, Stop};
use crate::engine::{Executor, Finished, House, Parts, Rest, Task, Until, Workers, graph::Graph};
use crate::error::RunError;
use crate::event::{Act, Begun, Ended, Ending, Event, Part, Record, Said};
use crate::ids::{Generation, RunId};
use crate::journal::{BEGINNING, Journal, JournalError, Medium, read};
use crate::requests::Request;
use crate::standing::Waiting;
use crate::state::RunState;
use lifeboat_base::clock::{Clock, ManualClock, Timestamp};
use lifeboat_evidence::Digest;
use lifeboat_runbook::{Repeat, Runbook, StepId, Undo};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// When every simulated run begins.
const BEGINNING_OF_TIME: Timestamp = Timestamp::from_secs(1_800_000_000);
/// A run that is not over after so many executors and requests never will be.
const MAX_ROUNDS: u32 = 500;

/// Numbers that follow from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The dice of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// How hard the world is, each as once in so many times; 0 for never.
#[derive(Clone, Copy, Debug)]
pub struct Hardness {
    /// An executor is killed at an instant.
    pub kill: u64,
    /// An action comes to nothing good.
    pub fail: u64,
    /// The person gives the run up with undo.
    pub abort: u64,
}

#[derive(Debug)]
struct Inside {
    dice: Dice,
    hardness: Hardness,
    /// What is really so, by the step that it belongs to.
    done: BTreeSet<StepId>,
    /// How often each act of a step really happened.
    happened: BTreeMap<(StepId, Act), u32>,
    journal: Vec<u8>,
    /// So much of it is durable.
    synced: usize,
    is_killed: bool,
    kills: u32,
    faults: Vec<String>,
    skipped: BTreeSet<StepId>,
}

/// The world. Clones are the same one.
#[derive(Clone, Debug)]
pub struct World(Arc<Mutex<Inside>>, ManualClock);

/// How a simulated run went.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it ended.
    pub ending: Ending,
    /// How often an executor was killed.
    pub kills: u32,
    /// How many records there are.
    pub records: u64,
    /// What is wrong; nothing, if all is well.
    pub faults: Vec<String>,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, hardness: Hardness) -> Self {
        let inside = Inside {
            dice: Dice::new(seed),
            hardness,
            done: BTreeSet::new(),
            happened: BTreeMap::new(),
            journal: Vec::new(),
            synced: 0,
            is_killed: false,
            kills: 0,
            faults: Vec::new(),
            skipped: BTreeSet::new(),
        };
        Self(Arc::new(Mutex::new(inside)), ManualClock::at(BEGINNING_OF_TIME))
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a runbook to its end in this world.
    ///
    /// # Errors
    /// What is wrong with the engine: a journal that cannot be read back, or a run that never ends.
    pub fn run(&self, runbook: &Runbook, width: usize) -> Result<Report, String> {
        for _ in 0..MAX_ROUNDS {
            match self.one_executor(runbook, width) {
                Ok(Some(ending)) => return Ok(self.report(runbook, ending)),
                Ok(None) | Err(RunError::Journal(_)) => self.lock().is_killed = false,
                Err(error) => return Err(lifeboat_base::report(&error)),
            }
        }
        Err("the run never ends".to_owned())
    }

    fn report(&self, runbook: &Runbook, ending: Ending) -> Report {
        let faults = self.audit(runbook, ending);
        let inside = self.lock();
        let records = inside.journal.iter().filter(|byte| **byte == b'\n').count() as u64;
        Report { ending, kills: inside.kills, records, faults }
    }

    /// One executor's life; how the run ended, if it did.
    fn one_executor(&self, runbook: &Runbook, width: usize) -> Result<Option<Ending>, RunError> {
        let mut executor = self.executor(runbook, width)?;
        let mut observer = |record: &Record, _: &RunState| self.see(record);
        if executor.state().begun.is_none() {
            executor.begin_simulated(runbook, &mut observer)?;
        }
        for _ in 0..MAX_ROUNDS {
            match executor.drive(Until::PeopleAreNeeded, &mut observer)? {
                Rest::Ended(ending) => return Ok(Some(ending)),
                Rest::Waiting => self.be_a_person(&mut executor, runbook),
            }
        }
        Ok(None)
    }

    fn executor(&self, runbook: &Runbook, width: usize) -> Result<Executor, RunError> {
        let reading = {
            let mut inside = self.lock();
            let reading = read(&inside.journal, BEGINNING, Path::new("simulated"))?;
            inside.journal.truncate(reading.whole_bytes);
            if reading.lacks_newline {
                inside.journal.push(b'\n');
            }
            inside.synced = inside.journal.len();
            reading
        };
        let state = RunState::of(reading.records.iter().map(|(record, _)| record))?;
        let chain = reading.records.last().map_or(BEGINNING, |(_, line)| line.chain);
        let journal = Journal::after(Box::new(self.clone()), Generation::FIRST, state.number, chain);
        let mut house = House::new("simulation", "nowhere");
        (house.clock, house.width) = (Clock::Manual(self.1.clone()), width);
        house.carriers = Carriers::all(Arc::new(self.clone()));
        let workers = Box::new(Queue { world: self.clone(), waiting: Vec::new() });
        let graph = Graph::of(runbook.clone());
        Ok(Executor::of(Parts { house, graph, folder: None, journal, shipper: None, state, workers }))
    }

    fn see(&self, record: &Record) {
        if let Event::Skipped(said) = &record.event {
            self.lock().skipped.insert(said.step.clone());
        }
    }

    /// Looks at what is really so, and says it.
    fn be_a_person(&self, executor: &mut Executor, runbook: &Runbook) {
        let asker = executor.asker();
        let by = || "somebody".to_owned();
        let standing = executor.standing();
        let mut inside = self.lock();
        let (abort, is_going) = (inside.hardness.abort, executor.state().status.may_do(Act::Do));
        if is_going && abort > 0 && inside.dice.once_in(abort) {
            asker.ask(Request::Abort { by: by(), reason: "enough".to_owned(), undo: true });
            return;
        }
        for waiting in standing.waiting {
            let said = |step: &StepId| Said { step: step.clone(), by: by(), reason: "looked".to_owned() };
            match waiting {
                Waiting::Unknown { step, .. } if may_again(executor, &step) => {
                    asker.ask(Request::Again(said(&step)));
                }
                Waiting::Unknown { step, act, .. } => {
                    let done = inside.done.contains(&step) == (act == Act::Do);
                    let (by, reason) = (by(), "looked".to_owned());
                    asker.ask(Request::Settle { step, done, by, reason, outputs: BTreeMap::new() });
                }
                Waiting::Failed { step, act: Act::Do, .. }
                    if inside.done.contains(&step) && once(runbook, &step) =>
                {
                    asker.ask(Request::Skip(said(&step)));
                }
                Waiting::Failed { step, .. } => asker.ask(Request::Again(said(&step))),
                Waiting::Person { step, .. } => {
                    inside.done.insert(step.clone());
                    asker.ask(Request::Confirm { step, by: by(), done: true, note: None });
                }
                Waiting::Approval { .. } => inside.faults.push("consent was asked for".to_owned()),
            }
        }
        if !is_going {
            asker.ask(Request::Resume { by: by() });
        }
    }

    /// What is not as it must be after the end.
    fn audit(&self, runbook: &Runbook, ending: Ending) -> Vec<String> {
        let inside = self.lock();
        let mut faults = inside.faults.clone();
        for step in runbook.forward() {
            let times = inside.happened.get(&(step.id.clone(), Act::Do)).copied().unwrap_or(0);
            if times > 1 && once(runbook, &step.id) {
                faults.push(format!("{} was done {times} times", step.id));
            }
            let is_done = inside.done.contains(&step.id);
            let is_skipped = inside.skipped.contains(&step.id);
            if ending == Ending::Done && !is_done && !is_skipped {
                faults.push(format!("{} counts as done and is not", step.id));
            }
            if ending == Ending::Undone && is_done && matches!(step.undo, Undo::By(_)) {
                faults.push(format!("{} counts as undone and is done", step.id));
            }
        }
        faults
    }
}

fn may_again(executor: &Executor, step: &StepId) -> bool {
    let said = Said { step: step.clone(), by: String::new(), reason: String::new() };
    executor.state().status_of(step).next(&Event::Again(said)).is_ok()
}

/// Whether a step may happen once only.
fn once(runbook: &Runbook, step: &StepId) -> bool {
    runbook.step(step).is_some_and(|step| !step.is_check && step.repeat != Repeat::Safe)
}

impl Inside {
    /// Whether this is the instant at which the executor is killed.
    fn kill_now(&mut self) -> bool {
        // Whoever is always killed gets nowhere: it gets rarer with each time.
        let rarer = self.hardness.kill * (1 + u64::from(self.kills));
        if !self.is_killed && self.hardness.kill > 0 && self.dice.once_in(rarer) {
            self.is_killed = true;
            self.kills += 1;
            // The machine with it, once in so often: of what was not synced any part may be lost.
            if self.dice.once_in(2) {
                let unsynced = self.journal.len() - self.synced;
                let lost = usize::try_from(self.dice.below(unsynced as u64 + 1)).unwrap_or(0);
                self.journal.truncate(self.journal.len() - lost);
            }
        }
        self.is_killed
    }

    fn happen(&mut self, step: &StepId, act: Act) {
        *self.happened.entry((step.clone(), act)).or_default() += 1;
        match act {
            Act::Do => drop(self.done.insert(step.clone())),
            Act::Undo => drop(self.done.remove(step)),
        }
    }
}

fn killed() -> JournalError {
    JournalError::io("append to", Path::new("simulated"), io::Error::other("the executor was killed"))
}

impl Medium for World {
    fn append(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        let mut inside = self.lock();
        if inside.is_killed {
            return Err(killed());
        }
        if inside.kill_now() {
            // In the middle of the append: anything from nothing to all but the newline arrived.
            let kept = usize::try_from(inside.dice.below(bytes.len() as u64)).unwrap_or(0);
            inside.journal.extend_from_slice(&bytes[..kept]);
            return Err(killed());
        }
        inside.journal.extend_from_slice(bytes);
        match inside.kill_now() {
            true => Err(killed()),
            false => Ok(()),
        }
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        let mut inside = self.lock();
        if inside.is_killed || inside.kill_now() {
            return Err(killed());
        }
        inside.synced = inside.journal.len();
        match inside.kill_now() {
            true => Err(killed()),
            false => Ok(()),
        }
    }
}

impl Carry for World {
    fn carry(&self, order: &Order, _stop: &Stop) -> Carried {
        let mut inside = self.lock();
        if inside.is_killed || inside.kill_now() {
            return Carried::unknown("killed before");
        }
        if order.part == Part::Probe || order.asks {
            return inside.answer(order);
        }
        let fail = inside.hardness.fail;
        let bad = fail > 0 && inside.dice.once_in(fail);
        let happens = !bad || inside.dice.once_in(2);
        if happens {
            inside.happen(&order.step, order.act);
        }
        if inside.kill_now() {
            return Carried::unknown("killed after");
        }
        let outputs = order.outputs.iter().map(|output| (output.name.clone(), "1".to_owned())).collect();
        let ended = match (bad, inside.dice.once_in(2)) {
            (false, _) => Ended::Done,
            (true, true) => Ended::Failed { why: "bad luck".to_owned() },
            (true, false) => Ended::Unknown { why: "bad luck".to_owned() },
        };
        Carried { ended, outputs, answer: None }
    }

    fn look(&self, _order: &Order) -> Vec<String> {
        Vec::new()
    }
}

impl Inside {
    /// A probe says what is really so, or cannot tell; a check says yes, and then its step is done.
    fn answer(&mut self, order: &Order) -> Carried {
        let cannot_tell = self.hardness.fail > 0 && self.dice.once_in(self.hardness.fail);
        let is_done = self.done.contains(&order.step) == (order.act == Act::Do);
        let outputs = order.outputs.iter().map(|output| (output.name.clone(), "1".to_owned())).collect();
        match order.part {
            _ if cannot_tell => Carried::unknown("nobody can tell"),
            Part::Probe if !is_done => Carried::failed("no"),
            Part::Probe => Carried { ended: Ended::Done, outputs, answer: None },
            Part::Itself => {
                self.done.insert(order.step.clone());
                Carried { ended: Ended::Done, outputs, answer: None }
            }
        }
    }
}

/// Tasks that are carried out when somebody waits for them, in an order that the dice say.
struct Queue {
    world: World,
    waiting: Vec<Task>,
}

impl Workers for Queue {
    fn start(&mut self, task: Task) -> io::Result<()> {
        self.waiting.push(task);
        Ok(())
    }

    fn next(&mut self, wait: Duration) -> Option<Finished> {
        if self.waiting.is_empty() {
            self.world.1.advance(wait);
            return None;
        }
        let among = self.waiting.len() as u64;
        let place = usize::try_from(self.world.lock().dice.below(among)).unwrap_or(0);
        self.world.1.advance(Duration::from_secs(1));
        Some(self.waiting.swap_remove(place).carry())
    }
}

impl Executor {
    fn begin_simulated(
        &mut self,
        runbook: &Runbook,
        observer: &mut impl FnMut(&Record, &RunState),
    ) -> Result<(), RunError> {
        let begun = Begun {
            run: RunId::new(BEGINNING_OF_TIME),
            title: runbook.title.clone(),
            document: Digest(runbook.document),
            inputs: BTreeMap::new(),
            by: "simulation".to_owned(),
            host: "nowhere".to_owned(),
            mirror: None,
            since: None,
            rto: None,
        };
        self.record(Event::Begun(begun), observer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A runbook of so many steps: what needs what, what may be repeated and how it is undone follow from the dice.
    fn runbook(dice: &mut Dice) -> Runbook {
        let mut text = "# Simulated\n\n".to_owned();
        let count = 3 + dice.below(7);
        for n in 0..count {
            text.push_str(&step(n, dice));
        }
        lifeboat_runbook::compile(&text).unwrap_or_else(|faults| panic!("{faults}\n{text}"))
    }

    fn step(n: u64, dice: &mut Dice) -> String {
        let needs: Vec<String> = (0..n).filter(|_| dice.once_in(3)).map(|m| format!("s{m}")).collect();
        let needs = if needs.is_empty() { "none".to_owned() } else { format!("\"{}\"", needs.join(",")) };
        let retries = if dice.once_in(2) { " retries=2 retry_every=3s" } else { "" };
        let (repeat, probe) = match dice.below(4) {
            0 => (format!("repeat=safe{retries}"), String::new()),
            1 => (
                format!("repeat=check probe=p{n}{retries}"),
                format!("```check {{step=p{n}}}\ntrue\n```\n\n"),
            ),
            2 => return format!("```check {{step=s{n} needs={needs}{retries}}}\ntrue\n```\n\n"),
            _ => ("repeat=never".to_owned(), String::new()),
        };
        let (undo, block) = match dice.below(3) {
            0 => ("undo=none why=\"gone\"".to_owned(), String::new()),
            1 => (format!("undo=u{n}"), format!("```bash {{step=u{n} repeat=safe{retries}}}\ntrue\n```\n\n")),
            _ => (format!("undo=u{n}"), format!("```bash {{step=u{n} repeat=never}}\ntrue\n```\n\n")),
        };
        format!("```bash {{step=s{n} needs={needs} {repeat} {undo}}}\ntrue\n```\n\n{probe}{block}")
    }

    /// Put the seed of a round that failed here and run this test alone.
    #[test]
    fn one_seed() {
        check(11);
    }

    #[test]
    fn a_thousand_seeds() {
        let (mut kills, mut records, mut endings) = (0, 0, BTreeMap::new());
        for seed in 0..1000 {
            let report = check(seed);
            kills += report.kills;
            records += report.records;
            *endings.entry(format!("{:?}", report.ending)).or_insert(0) += 1;
        }
        assert!(kills > 1000 && records > 10_000, "{kills} kills, {records} records");
        assert!(endings["Done"] > 100 && endings["Undone"] > 100, "{endings:?}");
    }

    #[track_caller]
    fn check(seed: u64) -> Report {
        let mut dice = Dice::new(seed);
        let runbook = runbook(&mut dice);
        let hardness =
            Hardness { kill: 4 + dice.below(30), fail: 3 + dice.below(10), abort: 2 + dice.below(6) };
        let width = 1 + usize::try_from(dice.below(4)).unwrap();
        let report = World::new(seed, hardness).run(&runbook, width);
        let report = report.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert!(report.faults.is_empty(), "seed {seed}: {:?}", report.faults);
        report
    }

    /// The audit sees what it is there to see: an executor that does again what may be done once.
    #[test]
    fn the_audit_sees_an_effect_that_happened_twice() {
        let runbook =
            lifeboat_runbook::compile("# R\n\n```bash {step=a undo=none why=x}\ntrue\n```\n").unwrap();
        let world = World::new(1, Hardness { kill: 0, fail: 0, abort: 0 });
        let report = world.run(&runbook, 1).unwrap();
        assert!(report.faults.is_empty(), "{report:?}");
        world.lock().happen(&runbook.steps[0].id, Act::Do);
        assert_eq!(world.audit(&runbook, Ending::Done), ["a was done 2 times"]);
    }
}
