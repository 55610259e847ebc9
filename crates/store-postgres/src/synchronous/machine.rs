//! Whether commits wait for us, as a machine: one state, one event, the next state.
//!
//! ```text
//!            caught up                 the server waits for us
//!     Out ─────────────► Entering ───────────────► Listed
//!      ▲                    │                        │ a commit waited too long,
//!      │ taken out          ▼                        │ or the follower is gone or ends
//!      └──────────────── Leaving ◄───────────────────┘
//!                           └──► Over, where nobody follows any more
//! ```
//! It deliberately knows no server, no file and no clock: what is to be done in a state is its [`Duty`], and what came
//! of it is the next event.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Why commits are acknowledged without us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExposureReason {
    /// The follower has not caught up since it began.
    Starting,
    /// A commit waited for us for longer than was set.
    Stalled,
    /// The follower ended without a word.
    FollowerGone,
    /// The follower was told to end.
    Stopped,
    /// Somebody else took our name out.
    RemovedByOthers,
    /// The server is another one than before, or has other settings since it was away.
    ServerChanged,
}

impl fmt::Display for ExposureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "the follower had not caught up yet",
            Self::Stalled => "a commit waited too long",
            Self::FollowerGone => "the follower was gone",
            Self::Stopped => "the follower was stopped",
            Self::RemovedByOthers => "somebody else took the name out",
            Self::ServerChanged => "the server changed, or its settings while it was away",
        })
    }
}

/// Whether there is anybody to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// The follower is there.
    Alive,
    /// It said that it ends.
    Stopping,
    /// It ended without saying so.
    Gone,
}

impl Life {
    fn reason(self) -> Option<ExposureReason> {
        match self {
            Self::Alive => None,
            Self::Stopping => Some(ExposureReason::Stopped),
            Self::Gone => Some(ExposureReason::FollowerGone),
        }
    }
}

/// How our name stands in `synchronous_standby_names`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is not there: commits do not wait for us.
    Out(ExposureReason),
    /// It is being put there.
    Entering,
    /// It is there. `proven`: the server has said since that it waits for us.
    Listed { proven: bool },
    /// It is being taken out.
    Leaving(ExposureReason),
    /// It is not there, and nobody follows: there is nothing left to do.
    Over,
}

/// What a look at the server showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Whether the list has our name.
    pub(crate) listed: bool,
    /// Whether the server counts us among those it waits for.
    pub(crate) counted: bool,
    /// Whether we hold what the server has, and have for long enough.
    pub(crate) caught_up: bool,
    /// Whether a commit will have waited for us for too long by the next look.
    pub(crate) waited_too_long: bool,
    /// Whether the session with the server is a new one.
    pub(crate) new_session: bool,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The server was looked at.
    Looked(Look, Life),
    /// Our name was put in, and the server has read it.
    Placed,
    /// Our name was taken out, and the server has read it.
    Removed(Life),
}

/// What is to be done as long as a state lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Nothing.
    None,
    /// See that the interval of exposure is on record.
    RecordExposed(ExposureReason),
    /// Put our name in.
    Place,
    /// See that the interval of exposure is on record, then take our name out.
    Remove(ExposureReason),
    /// See that the end of the interval is on record.
    RecordCovered,
}

impl State {
    /// Where a watchdog begins, before its first look.
    pub(crate) const FIRST: Self = Self::Out(ExposureReason::Starting);

    /// Whether our name is neither on its way into the list nor on its way out, and was not seen there.
    pub(crate) const fn has_nothing_to_undo(self, perhaps_listed: bool) -> bool {
        matches!(self, Self::Out(_) | Self::Over) && !perhaps_listed
    }

    /// What is to be done.
    pub(crate) fn duty(self) -> Duty {
        match self {
            Self::Out(reason) => Duty::RecordExposed(reason),
            Self::Entering => Duty::Place,
            Self::Listed { proven: true } => Duty::RecordCovered,
            Self::Leaving(reason) => Duty::Remove(reason),
            Self::Listed { proven: false } | Self::Over => Duty::None,
        }
    }

    /// What comes of an event.
    pub(crate) fn next(self, event: Event) -> Self {
        match event {
            Event::Looked(look, life) => self.after_look(look, life),
            Event::Placed => match self {
                Self::Entering => Self::Listed { proven: false },
                other => other,
            },
            Event::Removed(life) => match (self, life) {
                (Self::Leaving(reason), Life::Alive) => Self::Out(reason),
                (Self::Leaving(_), _) => Self::Over,
                (other, _) => other,
            },
        }
    }

    fn after_look(self, look: Look, life: Life) -> Self {
        match (self, life.reason()) {
            (Self::Over | Self::Leaving(_), _) => self,
            // What was being put in may be in the server's file and not read yet: it is taken out in any case.
            (Self::Entering | Self::Listed { .. }, Some(reason)) => Self::Leaving(reason),
            (Self::Out(_), Some(reason)) if look.listed => Self::Leaving(reason),
            (Self::Out(_), Some(_)) => Self::Over,
            (Self::Out(_), None) if look.listed => Self::Listed { proven: false },
            // Whoever took us out had a reason: we come back when we are started again.
            (Self::Out(ExposureReason::RemovedByOthers), None) => self,
            (Self::Out(_), None) if look.caught_up => Self::Entering,
            (Self::Out(_), None) => self,
            (Self::Entering, None) if !look.caught_up => Self::Leaving(ExposureReason::Stalled),
            (Self::Entering, None) => self,
            (Self::Listed { .. }, None) => Self::listed(self, look),
        }
    }

    fn listed(self, look: Look) -> Self {
        match self {
            _ if !look.listed && look.new_session => Self::Out(ExposureReason::ServerChanged),
            _ if !look.listed => Self::Out(ExposureReason::RemovedByOthers),
            _ if look.waited_too_long => Self::Leaving(ExposureReason::Stalled),
            Self::Listed { proven } => Self::Listed { proven: proven || look.counted },
            other => other,
        }
    }
}

/// With nothing to undo, a server that is away is tried for so long once nobody follows any more.
const NOTHING_TO_UNDO: Duration = Duration::from_secs(60);
/// With our name perhaps in its list, it is tried for so long: over a weekend and the holidays around it. Who comes back
/// later than that comes back to commits that wait, so that this is said and stays on record.
const PERHAPS_LISTED: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long a server that does not answer is tried, once there is nobody to wait for; `None`: for ever.
pub(crate) const fn tried_for(life: Life, nothing_to_undo: bool) -> Option<Duration> {
    match life {
        Life::Alive => None,
        Life::Stopping | Life::Gone if nothing_to_undo => Some(NOTHING_TO_UNDO),
        Life::Stopping | Life::Gone => Some(PERHAPS_LISTED),
    }
}

/// Since when we have been caught up without a break.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Calm {
    since: Option<Duration>,
}

impl Calm {
    /// Takes note of a look; says whether we have been caught up for as long as is asked.
    pub(crate) fn observe(&mut self, now: Duration, caught_up: bool, for_at_least: Duration) -> bool {
        let since = self.since.unwrap_or(now);
        self.since = caught_up.then_some(since);
        caught_up && now.saturating_sub(since) >= for_at_least
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExposureReason::{FollowerGone, RemovedByOthers, ServerChanged, Stalled, Starting, Stopped};

    const REASONS: [ExposureReason; 6] =
        [Starting, Stalled, FollowerGone, Stopped, RemovedByOthers, ServerChanged];
    const LIVES: [Life; 3] = [Life::Alive, Life::Stopping, Life::Gone];

    fn states() -> Vec<State> {
        let mut states = vec![State::Entering, State::Over];
        states.extend([true, false].map(|proven| State::Listed { proven }));
        states.extend(REASONS.iter().flat_map(|reason| [State::Out(*reason), State::Leaving(*reason)]));
        states
    }

    fn looks() -> Vec<Look> {
        (0u8..32)
            .map(|bits| Look {
                listed: bits & 1 > 0,
                counted: bits & 2 > 0,
                caught_up: bits & 4 > 0,
                waited_too_long: bits & 8 > 0,
                new_session: bits & 16 > 0,
            })
            .collect()
    }

    /// Every state with every event, against rules that are said another way than the code says them.
    #[test]
    fn every_transition_keeps_the_rules() {
        for state in states() {
            for look in looks() {
                for life in LIVES {
                    let next = state.next(Event::Looked(look, life));
                    let case = format!("{state:?} {look:?} {life:?} -> {next:?}");
                    if life != Life::Alive && state != State::Over {
                        let leaving = matches!(next, State::Leaving(_));
                        assert!(leaving || (next == State::Over && !look.listed), "{case}");
                        let may_be_in_file = !matches!(state, State::Out(_));
                        assert!(leaving || !may_be_in_file, "{case}");
                    }
                    if next == State::Entering {
                        assert!(
                            look.caught_up && life == Life::Alive && !look.listed | (state == next),
                            "{case}"
                        );
                        assert_ne!(state, State::Out(RemovedByOthers), "{case}");
                    }
                    if matches!(state, State::Listed { .. }) && look.listed && look.waited_too_long {
                        assert!(matches!(next, State::Leaving(_)), "{case}");
                    }
                    if next == (State::Listed { proven: true }) {
                        assert!(look.listed && (look.counted || state == next), "{case}");
                    }
                    if matches!(state, State::Leaving(_)) {
                        assert_eq!(next, state, "only having been taken out ends it");
                    }
                    if state == State::Over {
                        assert_eq!(next, State::Over);
                    }
                }
            }
            let placed = state.next(Event::Placed);
            let entering = state == State::Entering;
            assert_eq!(placed, if entering { State::Listed { proven: false } } else { state });
            for life in LIVES {
                let removed = state.next(Event::Removed(life));
                match (state, life) {
                    (State::Leaving(reason), Life::Alive) => assert_eq!(removed, State::Out(reason)),
                    (State::Leaving(_), _) => assert_eq!(removed, State::Over),
                    _ => assert_eq!(removed, state),
                }
            }
        }
    }

    #[test]
    fn exposure_is_on_record_in_every_state_in_which_commits_may_not_wait() {
        for state in states() {
            let recorded = match state.duty() {
                Duty::RecordExposed(reason) | Duty::Remove(reason) => Some(reason),
                _ => None,
            };
            match state {
                State::Out(reason) | State::Leaving(reason) => assert_eq!(recorded, Some(reason)),
                _ => assert_eq!(recorded, None, "{state:?}"),
            }
            let covered = state.duty() == Duty::RecordCovered;
            assert_eq!(covered, state == State::Listed { proven: true }, "{state:?}");
        }
    }

    #[test]
    fn the_whole_round() {
        let look = Look {
            listed: false,
            counted: false,
            caught_up: false,
            waited_too_long: false,
            new_session: false,
        };
        let alive = |look| Event::Looked(look, Life::Alive);
        let mut state = State::FIRST.next(alive(look));
        assert_eq!(state, State::Out(Starting));
        state = state.next(alive(Look { caught_up: true, ..look }));
        assert_eq!((state, state.duty()), (State::Entering, Duty::Place));
        state = state.next(Event::Placed);
        let listed = Look { listed: true, caught_up: true, counted: true, ..look };
        state = state.next(alive(listed));
        assert_eq!((state, state.duty()), (State::Listed { proven: true }, Duty::RecordCovered));
        state = state.next(alive(Look { waited_too_long: true, ..listed }));
        assert_eq!((state, state.duty()), (State::Leaving(Stalled), Duty::Remove(Stalled)));
        state = state.next(Event::Removed(Life::Alive));
        assert_eq!(state, State::Out(Stalled));
        assert_eq!(state.next(Event::Looked(look, Life::Gone)), State::Over);
    }

    #[test]
    fn a_server_that_stays_away_is_given_up_only_where_nobody_follows() {
        for state in states() {
            for perhaps_listed in [true, false] {
                let tried = |life| tried_for(life, state.has_nothing_to_undo(perhaps_listed));
                assert_eq!(tried(Life::Alive), None, "{state:?}");
                assert_eq!(tried(Life::Gone), tried(Life::Stopping), "{state:?}");
                // Soon only where our name can be nowhere: not in the list, and not on its way there or back.
                let is_out = matches!(state, State::Out(_) | State::Over) && !perhaps_listed;
                assert_eq!(tried(Life::Gone).unwrap() < Duration::from_secs(3600), is_out, "{state:?}");
            }
        }
    }

    #[test]
    fn calm_lasts_only_without_a_break() {
        let (mut calm, second) = (Calm::default(), Duration::from_secs(1));
        assert!(!calm.observe(Duration::ZERO, true, second));
        assert!(calm.observe(second, true, second));
        assert!(!calm.observe(second * 2, false, second));
        assert!(!calm.observe(second * 3, true, second));
        assert!(calm.observe(second * 4, true, Duration::ZERO));
    }
}
