//! What comes next for a step: a pure function of what it is like and what the document says of it.

use super::graph::{is_person, repeat};
use crate::event::{Act, Again};
use crate::state::StepState;
use crate::status::StepStatus;
use lifeboat_base::clock::Timestamp;
use lifeboat_runbook::Step;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// It is begun.
    Begin,
    /// Its probe is asked.
    Probe,
    /// Nobody can know any more.
    GiveUp,
    /// It is tried again at this time.
    At(Timestamp),
    /// A person is doing it.
    Person,
    /// Nothing without a person's word.
    Stuck,
    /// There is nothing to be done.
    Over,
}

/// What comes next for an act of a step whose block this is, which nobody is carrying out.
pub(crate) fn next(state: &StepState, block: &Step, act: Act, is_taken_over: bool, now: Timestamp) -> Move {
    match state.status {
        StepStatus::Pending if act == Act::Undo => Move::Over,
        // The other executor may have begun it where nobody saw.
        StepStatus::Pending if is_taken_over && repeat(block) == Again::Check => Move::Probe,
        StepStatus::Pending => Move::Begin,
        StepStatus::Open { act: open, .. } if open != act => Move::GiveUp,
        StepStatus::Open { .. } if is_person(block) => Move::Person,
        StepStatus::Open { repeat: Again::Safe, .. } => Move::Begin,
        StepStatus::Open { repeat: Again::Check, .. } => Move::Probe,
        StepStatus::Open { repeat: Again::Never, .. } => Move::GiveUp,
        StepStatus::Probing { act: probed } => {
            if probed == act {
                Move::Probe
            } else {
                Move::GiveUp
            }
        }
        StepStatus::Done | StepStatus::Skipped if act == Act::Do => Move::Over,
        StepStatus::Undone => Move::Over,
        StepStatus::Done | StepStatus::Skipped => Move::Begin,
        StepStatus::Ready { act: of }
        | StepStatus::Failed { act: of, .. }
        | StepStatus::Unknown { act: of, .. }
        | StepStatus::NotBegun { act: of }
            if of != act =>
        {
            if act == Act::Undo {
                Move::Begin
            } else {
                Move::Stuck
            }
        }
        StepStatus::Ready { .. } => {
            if is_tired(state, block) {
                Move::Stuck
            } else {
                Move::Begin
            }
        }
        StepStatus::Unknown { repeat: Again::Check, .. } => Move::Probe,
        StepStatus::Failed { repeat, .. } | StepStatus::Unknown { repeat, .. } => {
            after_failure(state, block, repeat, now)
        }
        StepStatus::NotBegun { .. } => Move::Stuck,
    }
}

fn is_tired(state: &StepState, block: &Step) -> bool {
    state.tries > block.retry.map_or(0, |retry| retry.times.get())
}

fn after_failure(state: &StepState, block: &Step, repeat: Again, now: Timestamp) -> Move {
    let Some(retry) = block.retry.filter(|_| !is_tired(state, block)) else { return Move::Stuck };
    let due = state.since.plus(retry.every.duration());
    match repeat {
        Again::Never => Move::Stuck,
        _ if now < due => Move::At(due),
        Again::Safe => Move::Begin,
        Again::Check => Move::Probe,
    }
}
