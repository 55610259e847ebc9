//! The executor: it decides what comes next, records it, and only then lets it be done.
//!
//! ```text
//!            ┌────────── requests of people, time, what is finished ──────────┐
//!            ▼                                                                │
//!   state ── next move ── record (journal, synced) ── apply ── workers carry it out
//!                              │
//!                              └── mirror: in order; what may be done once is confirmed there first
//! ```
//!
//! One thread decides and writes; what is carried out beside it only reports back. A step that has an intent and no
//! outcome, and that nobody here is carrying out, is what a killed executor left: its `repeat` says what follows.

mod backward;
mod consent;
mod forward;
pub(crate) mod graph;
mod hearing;
mod intent;
mod judge;
pub(crate) mod moves;
mod open;
mod people;
mod tell;
pub(crate) mod workers;

pub use hearing::HEAR_EVERY;
pub use open::{Begin, CONFIRM_WITHIN, Compile, DEFAULT_WIDTH, House};
pub(crate) use open::{begun, mirror_of, who};
pub use workers::{Finished, Key, Task, Threads, Workers};

use crate::carry::Stop;
use crate::error::RunError;
use crate::event::{Ending, Event, Heard, Record};
use crate::folder::RunFolder;
use crate::journal::{Journal, Line};
use crate::mirror::ship::Shipper;
use crate::requests::Request;
use crate::resolve::Lookup;
use crate::standing::Standing;
use crate::state::RunState;
use crate::status::{RunStatus, StepStatus};
use crate::time::RunTime;
use graph::Graph;
use lifeboat_base::clock::Timestamp;
use lifeboat_runbook::StepId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Requests, expiry and takeovers are looked for at least so often.
const LOOK: Duration = Duration::from_millis(100);

/// Sees each record when it is durable, with what the run is like after it.
pub trait Observer {
    /// A record is durable. What the run is like may be so after a later one, which is seen next.
    fn saw(&mut self, record: &Record, state: &RunState);
}

impl<F: FnMut(&Record, &RunState)> Observer for F {
    fn saw(&mut self, record: &Record, state: &RunState) {
        self(record, state);
    }
}

/// How long to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until the run is over, waiting for people meanwhile.
    Over,
    /// Until nothing can be done without people.
    PeopleAreNeeded,
}

/// Why it stopped.
#[derive(Clone, Debug, PartialEq)]
pub enum Rest {
    /// The run is over.
    Ended(Ending),
    /// People are needed; [`Executor::standing`] says what for.
    Waiting,
}

/// Executes one run.
pub struct Executor {
    house: House,
    graph: Graph,
    folder: Option<RunFolder>,
    journal: Journal,
    shipper: Option<Shipper>,
    /// Who looks for requests in the mirror.
    listener: Option<hearing::Listener>,
    state: RunState,
    time: RunTime,
    workers: Box<dyn Workers>,
    /// Records that are appended and not synced yet.
    unsynced: Vec<(Record, Line)>,
    /// What is being carried out, by whom it is about.
    running: BTreeMap<Key, Stop>,
    /// The forward steps whose needs are met and that are not over.
    candidates: BTreeSet<usize>,
    send: Sender<Request>,
    requests: Receiver<Request>,
    /// Who tells people, where anybody does.
    teller: Option<tell::Teller>,
}

/// Asks things of an executor from another thread of its process.
#[derive(Clone, Debug)]
pub struct Asker(Sender<Request>);

impl Asker {
    /// Asks. Where the executor is gone, nobody hears it.
    pub fn ask(&self, request: Request) {
        let _ = self.0.send(request);
    }
}

/// What an executor is put together from.
pub(crate) struct Parts {
    pub(crate) house: House,
    pub(crate) graph: Graph,
    pub(crate) folder: Option<RunFolder>,
    pub(crate) journal: Journal,
    pub(crate) shipper: Option<Shipper>,
    pub(crate) state: RunState,
    pub(crate) workers: Box<dyn Workers>,
}

impl Executor {
    pub(crate) fn of(parts: Parts) -> Self {
        let Parts { house, graph, folder, journal, shipper, state, workers } = parts;
        let time = RunTime::after(house.clock.clone(), state.latest);
        let (send, requests) = channel();
        let (unsynced, running, candidates) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        let teller = house.tells.as_ref().map(|tells| tell::Teller::new(tells, &graph.runbook().front));
        let mut executor = Self {
            house,
            graph,
            folder,
            journal,
            shipper,
            listener: None,
            state,
            time,
            workers,
            unsynced,
            running,
            candidates,
            send,
            requests,
            teller,
        };
        executor.candidates =
            executor.graph.forward().filter(|place| executor.is_candidate(*place)).collect();
        executor
    }

    /// Asks things of this executor from another thread.
    pub fn asker(&self) -> Asker {
        Asker(self.send.clone())
    }

    /// What the run is like.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// Whether the mirror did not answer when it was last asked.
    pub fn is_mirror_silent(&self) -> bool {
        self.shipper.as_ref().is_some_and(Shipper::is_silent)
    }

    /// Where we are, for people.
    pub fn standing(&mut self) -> Standing {
        let now = self.time.now();
        Standing::of(&self.state, self.graph.runbook(), now)
    }

    /// Goes on with the run.
    ///
    /// # Errors
    /// Where nothing more can be recorded, or somebody else has taken over. What was being carried out is stopped.
    pub fn drive(&mut self, until: Until, observer: &mut dyn Observer) -> Result<Rest, RunError> {
        let driven = self.go(until, observer);
        if driven.is_err() {
            self.stop_all();
        }
        driven
    }

    fn go(&mut self, until: Until, observer: &mut dyn Observer) -> Result<Rest, RunError> {
        loop {
            if let RunStatus::Ended { how } = self.state.status {
                return Ok(Rest::Ended(how));
            }
            let before = self.state.number;
            self.look_for_takeover()?;
            self.take_requests(observer)?;
            let due = self.begin_what_can(observer)?;
            self.tell(observer)?;
            // What was recorded may let something else begin.
            if self.end_if_over(observer)? || self.state.number > before {
                continue;
            }
            let rests = self.running.is_empty() && due.is_none();
            self.sync(observer)?;
            if rests && until == Until::PeopleAreNeeded {
                return Ok(Rest::Waiting);
            }
            self.wait(due, observer)?;
        }
    }

    fn wait(&mut self, due: Option<Timestamp>, observer: &mut dyn Observer) -> Result<(), RunError> {
        let wait = due.map_or(LOOK, |due| due.since(self.time.now()).min(LOOK));
        if let Some(finished) = self.workers.next(wait) {
            self.finish(finished, observer)?;
            while let Some(finished) = self.workers.next(Duration::ZERO) {
                self.finish(finished, observer)?;
            }
        }
        Ok(())
    }

    /// Begins what may begin; when the next thing is due, if something waits for its time.
    fn begin_what_can(&mut self, observer: &mut dyn Observer) -> Result<Option<Timestamp>, RunError> {
        match self.state.status {
            RunStatus::Going => self.go_forward(observer),
            RunStatus::Undoing => self.go_backward(observer),
            RunStatus::Aborting => self.give_up(observer).map(|()| None),
            RunStatus::New | RunStatus::Paused { .. } | RunStatus::Ended { .. } => Ok(None),
        }
    }

    fn end_if_over(&mut self, observer: &mut dyn Observer) -> Result<bool, RunError> {
        if !self.running.is_empty() {
            return Ok(false);
        }
        let how = match self.state.status {
            RunStatus::Going if self.candidates.is_empty() => Ending::Done,
            RunStatus::Aborting if !self.state.undo_asked => Ending::Aborted,
            RunStatus::Aborting if self.is_undone() => Ending::Undone,
            RunStatus::Aborting => Ending::UndoneInPart,
            RunStatus::Undoing if self.is_undone() => Ending::Undone,
            _ => return Ok(false),
        };
        self.record(Event::Ended { how }, observer)?;
        // The end should be known elsewhere too; where it is not in time, the next who looks ships it. Where another
        // executor's record stands, it is not the end of the run.
        if let Some(shipper) = self.shipper.as_ref().filter(|_| self.state.waits_for_mirror()) {
            shipper.confirm(self.state.number, self.house.confirm_within);
            self.look_for_takeover()?;
        }
        Ok(true)
    }

    /// Records an event and takes it in. It is durable when this returns, but for an outcome, which nothing rests on
    /// before the next record, or before the executor waits.
    pub(crate) fn record(&mut self, event: Event, observer: &mut dyn Observer) -> Result<(), RunError> {
        self.record_answer(event, None, observer)
    }

    /// Records what answers a request, with that request.
    fn record_answer(
        &mut self,
        event: Event,
        heard: Option<&Heard>,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        self.state.check(&event)?;
        let at = self.time.now();
        let appended = self.journal.append(at, event, heard.cloned());
        let (record, line) = appended.map_err(|error| self.say_superseded(error))?;
        self.state.apply(&record)?;
        if let Some(step) = record.event.step() {
            self.update_candidates(&step.clone());
        }
        let may_wait = matches!(record.event, Event::Outcome(_));
        self.unsynced.push((record, line));
        if may_wait { Ok(()) } else { self.sync(observer) }
    }

    /// Makes durable what was recorded; only then is it shipped and seen.
    fn sync(&mut self, observer: &mut dyn Observer) -> Result<(), RunError> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        self.journal.sync().map_err(|error| self.say_superseded(error))?;
        for (record, line) in std::mem::take(&mut self.unsynced) {
            if let Some(shipper) = &self.shipper {
                shipper.push(line);
            }
            observer.saw(&record, &self.state);
        }
        Ok(())
    }

    fn say_superseded(&self, error: crate::journal::JournalError) -> RunError {
        match (error, &self.state.begun) {
            (crate::journal::JournalError::Superseded, Some(begun)) => {
                RunError::TakenOver { run: begun.run.clone(), by: self.taken_here_by() }
            }
            (error, _) => error.into(),
        }
    }

    /// Who took it over on this machine, if they have recorded that already.
    fn taken_here_by(&self) -> Option<String> {
        let story = self.folder.as_ref()?.story().ok()?;
        story.records.iter().rev().find_map(|(_, line)| who(&line.bytes))
    }

    fn look_for_takeover(&mut self) -> Result<(), RunError> {
        self.journal.check_superseded().map_err(|error| self.say_superseded(error))?;
        match (&self.shipper, &self.state.begun) {
            (Some(shipper), Some(begun)) if shipper.is_taken() => {
                Err(RunError::TakenOver { run: begun.run.clone(), by: shipper.taken_by() })
            }
            _ => Ok(()),
        }
    }

    fn is_candidate(&self, place: usize) -> bool {
        let is_over = |place: &usize| self.state.status_of(&self.graph.step(*place).id).is_over();
        let undone = self.state.status_of(&self.graph.step(place).id) == StepStatus::Undone;
        !undone && !is_over(&place) && self.graph.needs(place).iter().all(is_over)
    }

    fn update_candidates(&mut self, step: &StepId) {
        let Some(place) = self.graph.place(step) else { return };
        if !self.state.status_of(step).is_over() {
            return;
        }
        self.candidates.remove(&place);
        let freed: Vec<usize> =
            self.graph.dependents(place).iter().copied().filter(|place| self.is_candidate(*place)).collect();
        let forward =
            freed.into_iter().filter(|place| self.graph.step(*place).role == lifeboat_runbook::Role::Forward);
        self.candidates.extend(forward);
    }

    fn is_running(&self, step: &StepId) -> bool {
        self.running.keys().any(|key| matches!(key, Key::Act { step: of, .. } if of == step))
    }

    fn has_room(&self) -> bool {
        self.running.len() < self.house.width
    }

    fn stop_all(&self) {
        self.running.values().for_each(Stop::stop);
    }

    fn output(&self, step: &StepId, name: &str) -> Option<String> {
        self.state.steps.get(step)?.outputs.get(name).cloned()
    }

    fn with_lookup<T>(&self, with: impl FnOnce(&Lookup<'_>) -> Result<T, String>) -> Result<T, String> {
        let begun = self.state.begun.as_ref().ok_or("the run was not begun")?;
        let output = |step: &StepId, name: &str| self.output(step, name);
        with(&Lookup { begun, output: &output, secrets: &*self.house.secrets })
    }
}

/// What is being carried out is stopped with who would record what came of it.
impl Drop for Executor {
    fn drop(&mut self) {
        self.stop_all();
    }
}
