//! What a run is like, derived from its records and from nothing else.

use crate::approval::{Signed, Statement};
use crate::escalation::Tellings;
use crate::event::{Act, Begun, Ended, Event, Intent, Outcome, Part, Record, Said, TakenOver};
use crate::heard::HeardSoFar;
use crate::ids::{Generation, RequestId};
use crate::phases::{Doing, PhaseTimes};
use crate::status::{Illegal, RunStatus, StepStatus};
use lifeboat_base::clock::Timestamp;
use lifeboat_runbook::{Phase, StepId};
use std::collections::{BTreeMap, BTreeSet};

/// What a run is like.
#[derive(Clone, Debug, Default)]
pub struct RunState {
    /// The run.
    pub status: RunStatus,
    /// How it was begun.
    pub begun: Option<Begun>,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// The steps that something happened to.
    pub steps: BTreeMap<StepId, StepState>,
    /// What is being agreed to, by the block that it is about.
    pub asked: BTreeMap<StepId, Asked>,
    /// The latest time that was seen.
    pub latest: Timestamp,
    /// The number of the last record.
    pub number: u64,
    /// The record that changed its status last.
    pub turned: u64,
    /// Which requests of the mirror were heard.
    pub heard: HeardSoFar,
    /// Who wrote last.
    pub generation: Generation,
    /// How often it was taken over, and by whom last.
    pub taken_over: Option<TakenOver>,
    /// With which record that was, last.
    pub taken: u64,
    /// Whether it waits for its mirror no more: a person said that nobody goes on with it elsewhere.
    pub has_left_mirror: bool,
    /// Whether undoing was ever asked for.
    pub undo_asked: bool,
    /// Why nothing is begun, where it is paused or given up.
    pub reason: Option<String>,
    /// The record with which it stopped by itself, and when, where it did.
    pub stopped_itself: Option<(u64, Timestamp)>,
    /// What people were told of.
    pub tellings: Tellings,
    times: PhaseTimes,
    under_way: BTreeSet<StepId>,
    stuck: BTreeSet<StepId>,
}

impl Default for Generation {
    fn default() -> Self {
        Self::FIRST
    }
}

/// What a step is like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepState {
    /// Its status.
    pub status: StepStatus,
    /// How often it was begun.
    pub attempts: u32,
    /// How often its undo was begun.
    pub undo_attempts: u32,
    /// How often the present act came to nothing since a person last said something about it.
    pub tries: u32,
    /// Whether it may have changed something that was not undone.
    pub possibly_done: bool,
    /// What it left.
    pub outputs: BTreeMap<String, String>,
    /// The record after which it was, possibly, done: undo goes backwards by it.
    pub finished: u64,
    /// Why it is as it is, where that has a reason.
    pub why: Option<String>,
    /// Who confirmed, skipped or settled it.
    pub by: Option<String>,
    /// Since when it is as it is.
    pub since: Timestamp,
    /// Since which record.
    pub record: u64,
    /// How long its last attempt took.
    pub took_ms: u64,
    /// The part of the recovery time that it is.
    pub phase: Option<Phase>,
}

/// What is being agreed to.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Exactly what.
    pub statement: Statement,
    /// By whom, so far.
    pub given: Vec<Signed>,
    /// The record that asks.
    pub record: u64,
}

/// A record that cannot follow those before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// Its event cannot follow.
    #[error("record {number} of the journal")]
    Event {
        /// The record.
        number: u64,
        /// What is wrong.
        #[source]
        source: Illegal,
    },
    /// Its number is not the next one.
    #[error("record {number} of the journal stands where record {expected} belongs")]
    Number {
        /// What it says.
        number: u64,
        /// What it should say.
        expected: u64,
    },
    /// It answers a request of the mirror that was answered before.
    #[error("record {number} of the journal answers request {request} once more")]
    HeardTwice {
        /// The record.
        number: u64,
        /// The request.
        request: RequestId,
    },
    /// Its generation cannot write any more, or not yet.
    #[error("record {number} of the journal is of generation {generation}, which does not write there")]
    Generation {
        /// The record.
        number: u64,
        /// What it says.
        generation: Generation,
    },
}

impl RunState {
    /// The state after these records.
    ///
    /// # Errors
    /// With the first record that cannot follow.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Self, Unsound> {
        let mut state = Self::default();
        for record in records {
            state.apply(record)?;
        }
        Ok(state)
    }

    /// Takes in the next record.
    ///
    /// # Errors
    /// Where it cannot follow; the state is then as it was.
    pub fn apply(&mut self, record: &Record) -> Result<(), Unsound> {
        self.check_place(record)?;
        let at = |source| Unsound::Event { number: record.number, source };
        let status = self.status.next(&record.event).map_err(at)?;
        let step = self.next_step(&record.event).map_err(at)?;
        self.times.pass(record.at, self.latest);
        (self.number, self.generation) = (record.number, record.generation);
        self.latest = self.latest.max(record.at);
        if status != self.status {
            self.turned = record.number;
        }
        self.status = status;
        if let Some((id, status)) = step {
            self.change_step(id, status, record);
        }
        self.take_in(record);
        self.times.now(self.doing());
        Ok(())
    }

    /// Whether an event could be next.
    ///
    /// # Errors
    /// Where it cannot follow.
    pub fn check(&self, event: &Event) -> Result<(), Illegal> {
        self.status.next(event)?;
        self.next_step(event)?;
        Ok(())
    }

    fn check_place(&self, record: &Record) -> Result<(), Unsound> {
        let expected = self.number + 1;
        if record.number != expected {
            return Err(Unsound::Number { number: record.number, expected });
        }
        let is_sound = match &record.event {
            Event::TakenOver(_) => record.generation > self.generation,
            _ => record.generation == self.generation,
        };
        match &record.heard {
            Some(heard) if self.heard.has(&heard.id) => {
                return Err(Unsound::HeardTwice { number: record.number, request: heard.id });
            }
            _ if is_sound => return Ok(()),
            _ => {}
        }
        Err(Unsound::Generation { number: record.number, generation: record.generation })
    }

    fn next_step(&self, event: &Event) -> Result<Option<(StepId, StepStatus)>, Illegal> {
        let Some(id) = event.step() else { return Ok(None) };
        Ok(Some((id.clone(), self.status_of(id).next(event)?)))
    }

    /// What a step is like.
    pub fn status_of(&self, id: &StepId) -> StepStatus {
        self.steps.get(id).map(|step| step.status).unwrap_or_default()
    }

    fn change_step(&mut self, id: StepId, status: StepStatus, record: &Record) {
        set(&mut self.under_way, &id, status.is_under_way());
        set(&mut self.stuck, &id, status.is_stuck());
        self.steps.entry(id).or_default().change(status, record);
    }

    /// The steps with an intent and no outcome.
    pub fn under_way(&self) -> impl Iterator<Item = &StepId> {
        self.under_way.iter()
    }

    /// The steps that failed, or of which nobody knows.
    pub fn stuck(&self) -> impl Iterator<Item = &StepId> {
        self.stuck.iter()
    }

    fn take_in(&mut self, record: &Record) {
        if let Some(heard) = &record.heard {
            self.heard.take_in(heard);
        }
        match &record.event {
            Event::Begun(begun) => {
                self.begun_at = record.at;
                self.times.begin(begun.since, record.at);
                self.begun = Some(begun.clone());
            }
            Event::ApprovalAsked(statement) => {
                let asked = Asked { statement: statement.clone(), given: Vec::new(), record: record.number };
                self.asked.insert(statement.block.clone(), asked);
            }
            Event::ApprovalGiven(signed) => {
                if let Some(asked) = self.asked.get_mut(&signed.block) {
                    asked.given.push(signed.clone());
                }
            }
            Event::ApprovalVoid { block, .. } | Event::ApprovalExpired { block } => {
                self.asked.remove(block);
            }
            // Consent is to one doing of it, with the retries that belong to it.
            Event::Again(Said { step, .. })
            | Event::Skipped(Said { step, .. })
            | Event::Settled { step, .. } => {
                self.forget_consent(step);
            }
            Event::Outcome(Outcome { step, result: Ended::Done, .. }) => self.forget_consent(step),
            Event::Paused { by, reason } => {
                self.reason = Some(reason.clone());
                self.stopped_itself = by.is_none().then_some((record.number, record.at));
            }
            Event::Resumed { .. } => (self.reason, self.stopped_itself) = (None, None),
            Event::AbortAsked { undo, reason, .. } => {
                self.undo_asked |= undo;
                self.stopped_itself = None;
                self.reason = Some(reason.clone());
            }
            Event::MirrorLeft { .. } => self.has_left_mirror = true,
            Event::TakenOver(taken) => {
                (self.taken_over, self.taken) = (Some(taken.clone()), record.number);
            }
            Event::Telling(telling) => self.tellings.begin(record.number, record.at, telling),
            Event::Told(told) => self.tellings.end(told),
            Event::NobodyToTell { why } => self.tellings.have_nobody(why),
            _ => {}
        }
    }

    fn forget_consent(&mut self, step: &StepId) {
        self.asked.retain(|_, asked| asked.statement.step != *step);
    }

    /// Whether what may be done once waits until its mirror confirms it.
    pub fn waits_for_mirror(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| begun.mirror.is_some()) && !self.has_left_mirror
    }

    /// Since when what it recovers from is there: as somebody said, or since it was begun.
    pub fn since(&self) -> Timestamp {
        self.begun.as_ref().and_then(|begun| begun.since).unwrap_or(self.begun_at)
    }

    /// The recovery time up to an instant, in its parts.
    pub fn times(&self, now: Timestamp) -> PhaseTimes {
        let mut times = self.times.clone();
        if !matches!(self.status, RunStatus::Ended { .. } | RunStatus::New) {
            times.pass(now.max(self.latest), self.latest);
        }
        times
    }

    /// What the present time is spent on.
    fn doing(&self) -> Doing {
        let phase = |id| self.steps.get(id).and_then(|step: &StepState| step.phase);
        match self.status {
            RunStatus::New | RunStatus::Ended { .. } => Doing::Nothing,
            _ => match self.under_way.iter().filter_map(phase).max() {
                Some(phase) => Doing::Phase(phase),
                None if matches!(self.status, RunStatus::Paused { .. }) => Doing::Phase(Phase::Decide),
                None if !self.stuck.is_empty() => Doing::Phase(Phase::Decide),
                None if !self.asked.is_empty() => Doing::Phase(Phase::Approve),
                None => Doing::Phase(Phase::Execute),
            },
        }
    }
}

fn set(steps: &mut BTreeSet<StepId>, id: &StepId, is_in: bool) {
    match is_in {
        true => drop(steps.insert(id.clone())),
        false => drop(steps.remove(id)),
    }
}

impl StepState {
    fn change(&mut self, status: StepStatus, record: &Record) {
        self.status = status;
        (self.since, self.record) = (record.at, record.number);
        match &record.event {
            Event::Intent(intent) => self.begin(intent),
            Event::Outcome(outcome) => self.end(outcome, record.number),
            Event::Settled { done, by, reason, outputs, .. } => {
                self.by = Some(by.clone());
                self.why = Some(reason.clone());
                self.tries = 0;
                if self.status == StepStatus::Done {
                    self.outputs.clone_from(outputs);
                }
                self.settle(*done, record.number);
            }
            Event::Skipped(said) | Event::Again(said) => {
                self.by = Some(said.by.clone());
                self.why = Some(said.reason.clone());
                self.tries = 0;
            }
            _ => {}
        }
    }

    fn begin(&mut self, intent: &Intent) {
        self.phase = Some(intent.phase);
        match (intent.part, intent.act) {
            (Part::Probe, _) => {}
            (Part::Itself, Act::Do) => self.attempts = intent.attempt,
            (Part::Itself, Act::Undo) => {
                // The doing's tries are not the undoing's.
                if self.undo_attempts == 0 {
                    self.tries = 0;
                }
                self.undo_attempts = intent.attempt;
            }
        }
    }

    fn end(&mut self, outcome: &Outcome, number: u64) {
        self.took_ms = outcome.took_ms;
        self.by.clone_from(&outcome.by);
        self.why = outcome.result.why().map(str::to_owned);
        if outcome.part == Part::Itself && outcome.result != Ended::Done {
            self.tries += 1;
        }
        match (outcome.act, outcome.part, &outcome.result) {
            (Act::Do, _, Ended::Done) => {
                self.outputs.clone_from(&outcome.outputs);
                self.possibly(number);
            }
            (Act::Do, Part::Itself, Ended::Failed { .. } | Ended::Unknown { .. }) => self.possibly(number),
            (Act::Do, Part::Probe, Ended::Unknown { .. } | Ended::NotBegun { .. }) => self.possibly(number),
            (Act::Do, Part::Probe, Ended::Failed { .. }) | (Act::Undo, _, Ended::Done) => {
                self.possibly_done = false;
            }
            _ => {}
        }
    }

    fn possibly(&mut self, number: u64) {
        self.possibly_done = true;
        self.finished = number;
    }

    fn settle(&mut self, done: bool, number: u64) {
        match (self.status, done) {
            (StepStatus::Done, _) => self.possibly(number),
            (StepStatus::Undone, _) | (StepStatus::Ready { act: Act::Do }, false) => {
                self.possibly_done = false;
            }
            _ => {}
        }
    }
}

impl Ended {
    /// The reason, where there is one.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Done => None,
            Self::Failed { why } | Self::Unknown { why } | Self::NotBegun { why } => Some(why),
        }
    }
}
