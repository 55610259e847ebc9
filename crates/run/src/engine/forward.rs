//! Going forward: every step whose needs are met, as far as there is room.

use super::moves::{Move, next};
use super::{Executor, Observer};
use crate::error::RunError;
use crate::event::{Act, Ended, Part};
use crate::status::StepStatus;
use lifeboat_base::clock::Timestamp;
use lifeboat_plan::Span;
use lifeboat_runbook::Step;

impl Executor {
    /// Begins what may begin; when the next thing is due.
    pub(super) fn go_forward(&mut self, observer: &mut dyn Observer) -> Result<Option<Timestamp>, RunError> {
        let places: Vec<usize> = self.candidates.iter().copied().collect();
        let mut due = None;
        for place in places {
            // Something in between may have stopped the run.
            if !self.state.status.may_do(Act::Do) {
                return Ok(due);
            }
            let step = self.graph.step(place);
            // Thousands may wait for room: they are passed over without a further look.
            let has_room = self.has_room() || super::judge::is_person(step);
            if has_room && !self.is_running(&step.id) {
                let step = step.clone();
                due = earliest(due, self.advance(&step, Act::Do, observer)?);
            }
        }
        Ok(due)
    }

    /// Takes the next move of an act that nobody is carrying out; when there is one to come, when.
    pub(super) fn advance(
        &mut self,
        step: &Step,
        act: Act,
        observer: &mut dyn Observer,
    ) -> Result<Option<Timestamp>, RunError> {
        let Some(block) = self.graph.block(step, act).cloned() else { return Ok(None) };
        let now = self.time.now();
        let state = self.state.steps.get(&step.id).cloned().unwrap_or_default();
        match next(&state, &block, act, self.state.taken_over.is_some(), now) {
            Move::Begin => self.begin_agreed(step, &block, act, observer),
            Move::Probe if self.has_room() => self.begin(step, act, Part::Probe, observer).map(|()| None),
            Move::Probe => Ok(None),
            Move::GiveUp => self.give_up_one(step, observer).map(|()| None),
            Move::At(due) => Ok(Some(due)),
            Move::Person => self.wait_for_person(step, &block, act, state.since, observer),
            Move::Stuck | Move::Over => Ok(None),
        }
    }

    fn begin_agreed(
        &mut self,
        step: &Step,
        block: &Step,
        act: Act,
        observer: &mut dyn Observer,
    ) -> Result<Option<Timestamp>, RunError> {
        if act == Act::Do && block.approval.is_some() {
            return self.begin_with_consent(step, observer);
        }
        if self.has_room() || super::judge::is_person(block) {
            self.begin(step, act, Part::Itself, observer)?;
        }
        Ok(None)
    }

    /// Nobody waits for a person for ever; but that it gets late makes no sleep.
    fn wait_for_person(
        &mut self,
        step: &Step,
        block: &Step,
        act: Act,
        since: Timestamp,
        observer: &mut dyn Observer,
    ) -> Result<Option<Timestamp>, RunError> {
        if self.time.now() < since.plus(block.timeout.duration()) {
            return Ok(None);
        }
        let why = format!("nobody confirmed it within {}", Span::new(block.timeout.duration()));
        self.outcome(step, act, Part::Itself, Ended::Failed { why }, None, observer).map(|()| None)
    }

    /// What a killed or stopped executor left open, and nobody can know about.
    pub(super) fn give_up_one(&mut self, step: &Step, observer: &mut dyn Observer) -> Result<(), RunError> {
        let is_of_people = |act| self.graph.block(step, act).is_some_and(super::judge::is_person);
        let ended = "its executor ended while it was under way".to_owned();
        match self.state.status_of(&step.id) {
            StepStatus::Open { act, .. } if is_of_people(act) => {
                let why = "the run was given up before anybody said whether it is done".to_owned();
                self.outcome(step, act, Part::Itself, Ended::Unknown { why }, None, observer)
            }
            StepStatus::Open { act, .. } => {
                self.clear_up_after(step, act);
                self.outcome(step, act, Part::Itself, Ended::Unknown { why: ended }, None, observer)
            }
            StepStatus::Probing { act } => {
                self.outcome(step, act, Part::Probe, Ended::Unknown { why: ended }, None, observer)
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}
