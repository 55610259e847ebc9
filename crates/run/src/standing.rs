//! Where we are: what a person wants to see at a glance, in the middle of a recovery.

use crate::approval::Statement;
use crate::escalation::{About, ToldOf, What};
use crate::event::Act;
use crate::phases::PhaseTimes;
use crate::state::{RunState, StepState};
use crate::status::{RunStatus, StepStatus};
use lifeboat_base::clock::Timestamp;
use lifeboat_plan::Span;
use lifeboat_runbook::{Action, Runbook, Step, StepId, Undo};
use serde::Serialize;
use std::time::Duration;

/// So many of the next steps are named.
const NEXT: usize = 5;

/// Where we are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// The run.
    pub status: RunStatus,
    /// Why nothing is begun, where it is paused or given up.
    pub reason: Option<String>,
    /// What is under way.
    pub current: Vec<Under>,
    /// What comes next.
    pub next: Vec<Named>,
    /// What people have to do before it goes on.
    pub waiting: Vec<Waiting>,
    /// Who was told of that, and who is told next.
    pub told: Vec<ToldOf>,
    /// Why nobody is told, where nobody is.
    pub nobody_to_tell: Option<String>,
    /// What was, possibly, done and cannot be undone any more.
    pub irrevocable: Vec<Irrevocable>,
    /// So many steps are over, of so many.
    pub over: usize,
    /// So many steps there are.
    pub steps: usize,
    /// The recovery time so far, in its parts.
    pub times: PhaseTimes,
    /// The instant that this is of.
    #[serde(serialize_with = "crate::time::serialize")]
    pub now: Timestamp,
    /// How long since it began.
    #[serde(rename = "elapsed_ms", serialize_with = "millis")]
    pub elapsed: Duration,
    /// How fast everything is to be back.
    pub rto: Option<Span>,
}

fn millis<S: serde::Serializer>(length: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}

/// A step by name and title.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Its name.
    pub step: StepId,
    /// What people read.
    pub title: String,
}

/// What is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Under {
    /// The step.
    #[serde(flatten)]
    pub named: Named,
    /// Done or undone.
    pub act: Act,
    /// Since when.
    #[serde(serialize_with = "crate::time::serialize")]
    pub since: Timestamp,
}

/// What people have to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "for", rename_all = "kebab-case")]
pub enum Waiting {
    /// Somebody does what the step says and confirms it.
    Person {
        /// The step.
        step: StepId,
        /// What is to be done.
        text: String,
        /// By whom.
        role: Option<String>,
    },
    /// Somebody agrees.
    Approval {
        /// To exactly what.
        statement: Statement,
        /// Who did so far.
        given: Vec<String>,
    },
    /// It failed: it is tried again, left out, or the run given up.
    Failed {
        /// The step.
        step: StepId,
        /// Done or undone.
        act: Act,
        /// Why.
        why: Option<String>,
    },
    /// Somebody finds out what happened and says so.
    Unknown {
        /// The step.
        step: StepId,
        /// Done or undone.
        act: Act,
        /// Why nobody knows.
        why: Option<String>,
    },
}

/// What cannot be undone any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Irrevocable {
    /// The step.
    pub step: StepId,
    /// Why not, in the words of the document.
    pub reason: Option<String>,
}

impl Standing {
    /// Where a run is at an instant.
    pub fn of(state: &RunState, runbook: &Runbook, now: Timestamp) -> Self {
        let is_over = |step: &&Step| state.status_of(&step.id).is_over();
        let times = state.times(now);
        let known = |step: &StepId| state.steps.get(step);
        let waiting = waiting(state, runbook);
        let is_needed = !waiting.is_empty() || state.stopped_itself.is_some();
        Self {
            status: state.status,
            reason: state.reason.clone(),
            current: runbook.steps.iter().filter_map(|step| under_way(step, known(&step.id)?)).collect(),
            next: next(state, runbook),
            nobody_to_tell: state.tellings.nobody().filter(|_| is_needed).map(str::to_owned),
            waiting,
            told: state.tellings.shown(|about| is_awaited(state, about)),
            irrevocable: runbook
                .steps
                .iter()
                .filter_map(|step| irrevocable(step, known(&step.id)?))
                .collect(),
            over: runbook.forward().filter(is_over).count(),
            steps: runbook.forward().count(),
            now,
            elapsed: times.total(),
            times,
            rto: state.begun.as_ref().and_then(|begun| begun.rto),
        }
    }

    /// How much of the RTO is left; `None` where there is none, or nothing is left.
    pub fn left(&self) -> Option<Duration> {
        self.rto?.duration().checked_sub(self.elapsed)
    }
}

fn named(step: &Step) -> Named {
    Named { step: step.id.clone(), title: step.title.clone() }
}

fn under_way(step: &Step, state: &StepState) -> Option<Under> {
    match state.status {
        StepStatus::Open { act, .. } | StepStatus::Probing { act } => {
            Some(Under { named: named(step), act, since: state.since })
        }
        _ => None,
    }
}

/// What may begin next: not over, not under way, and what it needs is over or under way.
fn next(state: &RunState, runbook: &Runbook) -> Vec<Named> {
    if !matches!(state.status, RunStatus::Going | RunStatus::Paused { undoing: false } | RunStatus::New) {
        return Vec::new();
    }
    let passes = |id: &StepId| state.status_of(id).is_over() || state.status_of(id).is_under_way();
    let comes = |step: &&Step| {
        matches!(state.status_of(&step.id), StepStatus::Pending | StepStatus::Ready { act: Act::Do })
            && step.needs.iter().all(passes)
    };
    runbook.forward().filter(comes).map(named).take(NEXT).collect()
}

fn waiting(state: &RunState, runbook: &Runbook) -> Vec<Waiting> {
    let approvals =
        state.asked.values().filter(|asked| may_still_begin(state, &asked.statement)).map(|asked| {
            Waiting::Approval {
                statement: asked.statement.clone(),
                given: asked.given.iter().map(|signed| signed.by.clone()).collect(),
            }
        });
    let steps = runbook
        .steps
        .iter()
        .filter_map(|step| Some(waits(step, state.steps.get(&step.id)?, runbook)))
        .flatten();
    approvals.chain(steps).filter(|one| concerns(one, state.status)).collect()
}

/// Whether it still matters: what is given up needs nobody's consent and nobody who tries again, but an undo that
/// failed, and what nobody knows of, stay until the end and beyond.
const fn concerns(waiting: &Waiting, status: RunStatus) -> bool {
    match status {
        RunStatus::New | RunStatus::Going | RunStatus::Paused { .. } => true,
        RunStatus::Aborting | RunStatus::Undoing => {
            !matches!(waiting, Waiting::Approval { .. } | Waiting::Failed { act: Act::Do, .. })
        }
        RunStatus::Ended { .. } => {
            matches!(waiting, Waiting::Failed { act: Act::Undo, .. } | Waiting::Unknown { .. })
        }
    }
}

/// Whether what was told of is as it was then.
fn is_awaited(state: &RunState, about: &About) -> bool {
    let record = match &about.what {
        What::Consent { block } => state.asked.get(block).map(|asked| asked.record),
        What::Stopped => state.stopped_itself.map(|(record, _)| record),
        what => what.step().and_then(|step| state.steps.get(step)).map(|step| step.record),
    };
    record == Some(about.record) && !matches!(state.status, RunStatus::Ended { .. })
}

fn may_still_begin(state: &RunState, statement: &Statement) -> bool {
    !state.status_of(&statement.step).is_under_way()
}

fn waits(step: &Step, state: &StepState, runbook: &Runbook) -> Option<Waiting> {
    let (id, why) = (step.id.clone(), state.why.clone());
    match state.status {
        StepStatus::Open { act, .. } => {
            let block = match (act, &step.undo) {
                (Act::Do, _) => Some(step),
                (Act::Undo, Undo::By(block)) => runbook.step(block),
                (Act::Undo, _) => None,
            };
            match &block?.action {
                Action::Person { text, role, .. } => {
                    Some(Waiting::Person { step: id, text: text.clone(), role: role.clone() })
                }
                _ => None,
            }
        }
        StepStatus::Failed { act, .. } | StepStatus::NotBegun { act } => {
            Some(Waiting::Failed { step: id, act, why })
        }
        StepStatus::Unknown { act, .. } => Some(Waiting::Unknown { step: id, act, why }),
        _ => None,
    }
}

fn irrevocable(step: &Step, state: &StepState) -> Option<Irrevocable> {
    match &step.undo {
        Undo::Impossible { reason } if state.possibly_done || state.status.is_under_way() => {
            Some(Irrevocable { step: step.id.clone(), reason: reason.clone() })
        }
        _ => None,
    }
}
