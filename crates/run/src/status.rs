//! What a step and a run are like, and the one function for each that says what may happen next. What the journal
//! holds beyond that is an error of whoever wrote it.

use crate::event::{Act, Again, Ended, Ending, Event, Intent, Outcome, Part};
use serde::{Deserialize, Serialize};

/// What a step is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum StepStatus {
    /// Nothing was ever begun.
    #[default]
    Pending,
    /// An intent without an outcome: it may be happening, or have happened.
    Open {
        /// Done or undone.
        act: Act,
        /// What may be done about it after a crash.
        repeat: Again,
    },
    /// Its probe is being asked whether it happened.
    Probing {
        /// Whether what happened.
        act: Act,
    },
    /// It did not happen, as its probe or a person says, or a person wants it again: it may be begun.
    Ready {
        /// What may be begun.
        act: Act,
    },
    /// It was done.
    Done,
    /// It failed, possibly half done.
    Failed {
        /// What failed.
        act: Act,
        /// What may be done about it without a person.
        repeat: Again,
    },
    /// Nobody knows whether it happened.
    Unknown {
        /// Whether what happened.
        act: Act,
        /// What may be done about it without a person.
        repeat: Again,
    },
    /// It was about to be begun, and certainly was not.
    NotBegun {
        /// What was not begun.
        act: Act,
    },
    /// Somebody left it out.
    Skipped,
    /// It was undone.
    Undone,
}

/// An event that cannot follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} cannot follow where {subject} is {status}")]
pub struct Illegal {
    /// What happened.
    pub event: String,
    /// To what.
    pub subject: String,
    /// What that was like.
    pub status: String,
}

fn illegal(event: &Event, subject: &str, status: &impl std::fmt::Debug) -> Illegal {
    let whole = format!("{event:?}");
    let event = whole.split(['(', '{']).next().unwrap_or_default().trim().to_owned();
    Illegal { event, subject: subject.to_owned(), status: format!("{status:?}") }
}

impl StepStatus {
    /// What it is like after an event about it.
    ///
    /// # Errors
    /// Where the event cannot follow.
    pub fn next(&self, event: &Event) -> Result<Self, Illegal> {
        let next = match event {
            Event::Intent(intent) => self.after_intent(intent),
            Event::Outcome(outcome) => self.after_outcome(outcome),
            Event::Skipped(_) => self.after_skip(),
            Event::Again(_) => self.after_again(),
            Event::Settled { done, .. } => self.after_settling(*done),
            _ => None,
        };
        next.ok_or_else(|| illegal(event, event.step().map_or("no step", |step| step.as_str()), self))
    }

    fn after_intent(self, intent: &Intent) -> Option<Self> {
        match intent.part {
            Part::Itself => {
                self.may_begin(intent.act).then_some(Self::Open { act: intent.act, repeat: intent.repeat })
            }
            Part::Probe => self.may_probe(intent.act).then_some(Self::Probing { act: intent.act }),
        }
    }

    /// Whether an act may be begun, without doing twice what may be done once.
    pub fn may_begin(self, act: Act) -> bool {
        let first = match act {
            Act::Do => self == Self::Pending,
            Act::Undo => self.may_be_undone(),
        };
        first || self.may_be_repeated(act)
    }

    fn may_be_undone(self) -> bool {
        match self {
            Self::Done | Self::Skipped => true,
            Self::Failed { act, .. }
            | Self::Unknown { act, .. }
            | Self::NotBegun { act }
            | Self::Ready { act } => act == Act::Do,
            _ => false,
        }
    }

    fn may_be_repeated(self, wanted: Act) -> bool {
        match self {
            Self::Ready { act } => act == wanted,
            Self::Open { act, repeat } | Self::Failed { act, repeat } | Self::Unknown { act, repeat } => {
                act == wanted && repeat == Again::Safe
            }
            _ => false,
        }
    }

    fn may_probe(self, wanted: Act) -> bool {
        match self {
            // After a takeover: the other executor may have begun it where nobody saw.
            Self::Pending => wanted == Act::Do,
            Self::Probing { act } => act == wanted,
            Self::Open { act, repeat } | Self::Failed { act, repeat } | Self::Unknown { act, repeat } => {
                act == wanted && repeat == Again::Check
            }
            _ => false,
        }
    }

    fn after_outcome(self, outcome: &Outcome) -> Option<Self> {
        match (self, outcome.part) {
            (Self::Open { act, repeat }, Part::Itself) if act == outcome.act => Some(match &outcome.result {
                Ended::Done => Self::over(act),
                Ended::Failed { .. } => Self::Failed { act, repeat },
                Ended::Unknown { .. } => Self::Unknown { act, repeat },
                Ended::NotBegun { .. } => Self::NotBegun { act },
            }),
            // It was not even announced: a value was missing, or nobody here can do it.
            (status, Part::Itself) if outcome.was_not_begun() && status.may_begin(outcome.act) => {
                Some(Self::NotBegun { act: outcome.act })
            }
            (status, Part::Probe) if outcome.was_not_begun() && status.may_probe(outcome.act) => {
                Some(Self::Unknown { act: outcome.act, repeat: Again::Never })
            }
            (Self::Probing { act }, Part::Probe) if act == outcome.act => Some(match &outcome.result {
                Ended::Done => Self::over(act),
                Ended::Failed { .. } => Self::Ready { act },
                // The probe was what could have known.
                Ended::Unknown { .. } | Ended::NotBegun { .. } => Self::Unknown { act, repeat: Again::Never },
            }),
            _ => None,
        }
    }

    fn over(act: Act) -> Self {
        match act {
            Act::Do => Self::Done,
            Act::Undo => Self::Undone,
        }
    }

    fn after_skip(self) -> Option<Self> {
        let act = match self {
            Self::Pending => Act::Do,
            Self::Ready { act } | Self::Failed { act, .. } | Self::NotBegun { act } => act,
            _ => return None,
        };
        (act == Act::Do).then_some(Self::Skipped)
    }

    fn after_again(self) -> Option<Self> {
        match self {
            Self::Ready { act } | Self::Failed { act, .. } | Self::NotBegun { act } => {
                Some(Self::Ready { act })
            }
            Self::Unknown { act, repeat: Again::Safe } => Some(Self::Ready { act }),
            _ => None,
        }
    }

    fn after_settling(self, done: bool) -> Option<Self> {
        match self {
            Self::Unknown { act, .. } => Some(if done { Self::over(act) } else { Self::Ready { act } }),
            _ => None,
        }
    }

    /// Whether it has an intent and no outcome.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Open { .. } | Self::Probing { .. })
    }

    /// Whether it failed, was not begun, or nobody knows.
    pub fn is_stuck(self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Unknown { .. } | Self::NotBegun { .. })
    }

    /// Whether what needs it may begin.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Skipped)
    }
}

/// What a run is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum RunStatus {
    /// Nothing happened.
    #[default]
    New,
    /// Steps are begun.
    Going,
    /// No step is begun; what runs goes on to its end.
    Paused {
        /// Whether it goes on with undoing.
        undoing: bool,
    },
    /// It is given up: what runs is stopped.
    Aborting,
    /// It is given up, and what was done is undone.
    Undoing,
    /// It is over.
    Ended {
        /// How.
        how: Ending,
    },
}

impl RunStatus {
    /// What it is like after an event.
    ///
    /// # Errors
    /// Where the event cannot follow.
    pub fn next(&self, event: &Event) -> Result<Self, Illegal> {
        let next = match (*self, event) {
            (Self::New, Event::Begun(_)) => Some(Self::Going),
            // That it is over is told when it is.
            (Self::Ended { .. }, Event::Telling(_) | Event::Told(_)) => Some(*self),
            (Self::New | Self::Ended { .. }, _) | (_, Event::Begun(_)) => None,
            (_, Event::Intent(intent)) => self.may_do(intent.act).then_some(*self),
            (Self::Going, Event::Paused { .. }) => Some(Self::Paused { undoing: false }),
            (Self::Undoing, Event::Paused { .. }) => Some(Self::Paused { undoing: true }),
            (_, Event::Paused { .. }) => None,
            (Self::Paused { undoing }, Event::Resumed { .. }) => {
                Some(if undoing { Self::Undoing } else { Self::Going })
            }
            (_, Event::Resumed { .. }) => None,
            (_, Event::AbortAsked { undo, .. }) => Some(if *undo { Self::Undoing } else { Self::Aborting }),
            (Self::Going | Self::Undoing | Self::Aborting, Event::Ended { how }) => {
                Some(Self::Ended { how: *how })
            }
            (_, Event::Ended { .. }) => None,
            _ => Some(*self),
        };
        next.ok_or_else(|| illegal(event, "the run", self))
    }

    /// Whether an act may be begun.
    pub fn may_do(self, act: Act) -> bool {
        match act {
            Act::Do => self == Self::Going,
            Act::Undo => self == Self::Undoing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Said;
    use lifeboat_evidence::Digest;
    use lifeboat_runbook::{Phase, StepId};

    fn step() -> StepId {
        StepId::new("a").unwrap()
    }

    fn intent(act: Act, part: Part, repeat: Again) -> Event {
        let phase = Phase::Execute;
        let (block, text) = (step(), Digest([0; 32]));
        Event::Intent(Intent { step: step(), act, part, block, attempt: 1, repeat, phase, text })
    }

    fn outcome(act: Act, part: Part, result: Ended) -> Event {
        let outputs = Default::default();
        Event::Outcome(Outcome { step: step(), act, part, attempt: 1, result, outputs, took_ms: 0, by: None })
    }

    fn why() -> String {
        "x".to_owned()
    }

    fn events() -> Vec<Event> {
        let said = || Said { step: step(), by: why(), reason: why() };
        let mut events = vec![Event::Skipped(said()), Event::Again(said())];
        for act in [Act::Do, Act::Undo] {
            for repeat in [Again::Safe, Again::Check, Again::Never] {
                events.push(intent(act, Part::Itself, repeat));
            }
            events.push(intent(act, Part::Probe, Again::Check));
            for part in [Part::Itself, Part::Probe] {
                let failed = [
                    Ended::Failed { why: why() },
                    Ended::Unknown { why: why() },
                    Ended::NotBegun { why: why() },
                ];
                events
                    .extend([Ended::Done].into_iter().chain(failed).map(|result| outcome(act, part, result)));
            }
        }
        events.extend([true, false].map(|done| Event::Settled {
            step: step(),
            done,
            by: why(),
            reason: why(),
            outputs: Default::default(),
        }));
        events
    }

    /// Every way of so many events, from the beginning.
    fn walk(
        status: StepStatus,
        depth: u32,
        path: &mut Vec<Event>,
        see: &mut impl FnMut(&[Event], StepStatus),
    ) {
        see(path, status);
        if depth == 0 {
            return;
        }
        for event in events() {
            if let Ok(next) = status.next(&event) {
                path.push(event);
                walk(next, depth - 1, path, see);
                path.pop();
            }
        }
    }

    /// What may be done once is begun a second time only after a probe or a person said that it did not happen, or
    /// a person who knows that it failed wants it again.
    #[test]
    fn nothing_is_done_twice_that_may_be_done_once() {
        let mut seen = 0;
        walk(StepStatus::Pending, 5, &mut Vec::new(), &mut |path, _| {
            for (place, event) in path.iter().enumerate() {
                let Event::Intent(Intent { part: Part::Itself, act, .. }) = event else { continue };
                let before = path[..place].iter().rposition(|earlier| {
                    matches!(earlier, Event::Intent(Intent { part: Part::Itself, act: a, repeat, .. }) if a == act && *repeat != Again::Safe)
                });
                let Some(before) = before else { continue };
                seen += 1;
                let freed = path[before + 1..place].iter().any(|between| match between {
                    Event::Outcome(Outcome {
                        part,
                        result: Ended::Failed { .. } | Ended::Done,
                        act: a,
                        ..
                    }) => *part == Part::Probe || a != act,
                    Event::Settled { .. } | Event::Again(_) | Event::Skipped(_) => true,
                    Event::Intent(other) => other.act != *act,
                    Event::Outcome(_) => false,
                    _ => false,
                });
                let repeated_safely = path[before + 1..place]
                    .iter()
                    .any(|between| matches!(between, Event::Intent(i) if i.repeat == Again::Safe));
                assert!(freed || repeated_safely, "{path:#?}");
            }
        });
        assert!(seen > 100, "{seen}");
    }

    #[test]
    fn an_open_never_is_settled_by_a_person_and_by_nobody_else() {
        let open = StepStatus::Open { act: Act::Do, repeat: Again::Never };
        assert!(open.next(&intent(Act::Do, Part::Itself, Again::Never)).is_err());
        assert!(open.next(&intent(Act::Do, Part::Probe, Again::Never)).is_err());
        let unknown = open.next(&outcome(Act::Do, Part::Itself, Ended::Unknown { why: why() })).unwrap();
        assert!(unknown.next(&Event::Again(Said { step: step(), by: why(), reason: why() })).is_err());
        let settled = Event::Settled {
            step: step(),
            done: true,
            by: why(),
            reason: why(),
            outputs: Default::default(),
        };
        assert_eq!(unknown.next(&settled), Ok(StepStatus::Done));
        assert!(StepStatus::Done.next(&settled).is_err());
    }

    #[test]
    fn what_cannot_follow_is_named() {
        let error = StepStatus::Done.next(&intent(Act::Do, Part::Itself, Again::Safe)).unwrap_err();
        assert_eq!(error.to_string(), "Intent cannot follow where a is Done");
        let error = RunStatus::New.next(&Event::Resumed { by: why() }).unwrap_err();
        assert_eq!(error.to_string(), "Resumed cannot follow where the run is New");
    }

    #[test]
    fn a_pause_goes_back_to_what_it_interrupted() {
        let pause = Event::Paused { by: None, reason: why() };
        let resume = Event::Resumed { by: why() };
        for status in [RunStatus::Going, RunStatus::Undoing] {
            assert_eq!(status.next(&pause).unwrap().next(&resume), Ok(status));
        }
        let over = RunStatus::Going.next(&Event::Ended { how: Ending::Done }).unwrap();
        assert!(over.next(&pause).is_err() && over.next(&resume).is_err());
        assert!(
            RunStatus::Paused { undoing: false }.next(&intent(Act::Do, Part::Itself, Again::Safe)).is_err()
        );
    }
}
