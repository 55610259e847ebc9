//! Why something is not `ok`: each reason with its numbers, and the one rule that makes states and exit codes of
//! reasons.

use crate::exposure::Domain;
use crate::time::words_of;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How something stands against what was promised. The order is that of severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Met, by what was measured lately.
    #[default]
    Ok,
    /// Still met, and something is wrong.
    AtRisk,
    /// Cannot be told.
    Unknown,
    /// Not met.
    Breach,
}

impl State {
    /// All of them, mildest first.
    pub const ALL: [Self; 4] = [Self::Ok, Self::AtRisk, Self::Unknown, Self::Breach];

    /// What these reasons together make of something: the worst that one of them makes of it.
    pub fn of<'a>(reasons: impl IntoIterator<Item = &'a Reason>) -> Self {
        reasons.into_iter().map(Reason::state).max().unwrap_or_default()
    }

    /// The word for it, as metrics and JSON have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::AtRisk => "at_risk",
            Self::Unknown => "unknown",
            Self::Breach => "breach",
        }
    }

    /// The words for it, as people read it.
    pub fn words(self) -> &'static str {
        match self {
            Self::AtRisk => "at risk",
            other => other.as_str(),
        }
    }
}

/// One thing that is wrong, missing or not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// More would be lost now than may be.
    ExposureAboveRpo {
        /// What fails.
        domain: Domain,
        /// What would be lost.
        exposure_seconds: f64,
        /// What may be.
        rpo_seconds: f64,
    },
    /// Nothing that would survive holds a whole snapshot.
    NothingSurvives {
        /// What fails.
        domain: Domain,
        /// What may be lost; `None` where nothing is promised.
        rpo_seconds: Option<f64>,
    },
    /// The next snapshot comes too late: until it is durable, more will be exposed than may be.
    NextSnapshotTooLate {
        /// The most that will be exposed.
        exposure_seconds: f64,
        /// What may be.
        rpo_seconds: f64,
    },
    /// Not much is left of the RPO.
    NearRpo {
        /// What fails.
        domain: Domain,
        /// What would be lost.
        exposure_seconds: f64,
        /// What may be.
        rpo_seconds: f64,
    },
    /// What is held was not observed.
    NotObserved {
        /// What fails.
        domain: Domain,
    },
    /// No region is declared, so that nobody can say what survives its loss.
    RegionUndeclared,
    /// Something was seen at an instant that is still to come: a clock went back, or is wrong.
    ClockAhead {
        /// By how much.
        ahead_seconds: f64,
    },
    /// The stream says nothing any more.
    Stalled {
        /// For how long.
        silent_seconds: f64,
    },
    /// Nothing was heard of the stream at all.
    NeverHeard,
    /// Log is missing behind the newest snapshot.
    Hole {
        /// The place.
        place: String,
    },
    /// The store does not answer.
    StoreDown,
    /// The last proof failed.
    ProofFailed {
        /// How long ago.
        age_seconds: f64,
    },
    /// The last proof could not tell.
    ProofInconclusive {
        /// How long ago.
        age_seconds: f64,
    },
    /// The last time that it was proven is too long ago.
    ProofTooOld {
        /// How long.
        age_seconds: f64,
        /// How long it may be.
        most_seconds: f64,
    },
    /// It was never proven, though proofs are promised.
    NeverProven,
    /// A copy is further behind the repository than it may be, or holds nothing.
    CopyLags {
        /// The copy.
        place: String,
        /// How far; `None` where it holds nothing.
        lag_seconds: Option<f64>,
        /// How far; `None` where it holds nothing.it may be.
        most_seconds: f64,
    },
    /// A repository or copy does not answer.
    PlaceUnreachable {
        /// Which.
        place: String,
        /// For how long, where that is known.
        silent_seconds: Option<f64>,
    },
    /// A repository or copy is gone.
    PlaceLost {
        /// Which.
        place: String,
    },
    /// A repository or copy was not asked yet.
    PlaceUnknown {
        /// Which.
        place: String,
    },
    /// A job should have begun.
    JobLate {
        /// Which.
        job: String,
        /// For how long.
        late_seconds: f64,
    },
    /// A job failed.
    JobFailed {
        /// Which.
        job: String,
        /// How often in a row.
        failures: u32,
    },
    /// A component is down.
    ComponentDown {
        /// Which.
        component: String,
    },
    /// Whether a component is up is not known.
    ComponentUnknown {
        /// Which.
        component: String,
    },
    /// A service does not answer.
    ServiceDown {
        /// For how long, where that is known.
        down_seconds: Option<f64>,
    },
    /// A service has been down for longer than it may be.
    DownBeyondRto {
        /// For how long.
        down_seconds: f64,
        /// How long it may be.
        rto_seconds: f64,
    },
    /// Whether a service answers is not known.
    ServiceUnknown,
    /// Recovery would take longer than it may.
    RecoveryAboveRto {
        /// What nine of ten recoveries would stay within, or more.
        recovery_seconds: f64,
        /// How long it may take.
        rto_seconds: f64,
    },
    /// How long recovery takes cannot be told: parts of it are unknown.
    RecoveryUnknown {
        /// The parts.
        parts: Vec<String>,
    },
    /// There is no forecast.
    NoForecast {
        /// Why not.
        why: String,
    },
    /// A dataset or service that is needed is not `ok`.
    NeedNotOk {
        /// Which.
        need: String,
        /// How it stands.
        state: State,
    },
    /// A message waits and cannot be sent.
    ChannelFailing {
        /// The channel.
        channel: String,
        /// For how long.
        failing_seconds: f64,
    },
    /// Nothing arrived at a channel for longer than it may be silent.
    ChannelSilent {
        /// The channel.
        channel: String,
        /// For how long; `None` where nothing ever arrived.
        silent_seconds: Option<f64>,
    },
    /// Nobody leads, so that what is shared is not done.
    NoLeader,
}

/// What a reason says to whoever asks by an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// A warning: nothing failed, and nothing is missed.
    Warning,
    /// An objective is missed, or will be for certain.
    Missed,
    /// Cannot be told.
    Unknown,
    /// Something failed. Silence is a failure.
    Failed,
}

impl Reason {
    /// What this alone makes of whatever it is a reason for.
    pub fn state(&self) -> State {
        match self {
            Self::ExposureAboveRpo { .. }
            | Self::NothingSurvives { rpo_seconds: Some(_), .. }
            | Self::RecoveryAboveRto { .. }
            | Self::DownBeyondRto { .. } => State::Breach,
            Self::NotObserved { .. }
            | Self::RegionUndeclared
            | Self::ClockAhead { .. }
            | Self::NeverHeard
            | Self::PlaceUnknown { .. }
            | Self::ComponentUnknown { .. }
            | Self::ServiceUnknown
            | Self::RecoveryUnknown { .. }
            | Self::NoForecast { .. } => State::Unknown,
            // Its own objective is another one: that it cannot be told carries over, that it is missed does not.
            Self::NeedNotOk { state: State::Unknown, .. } => State::Unknown,
            _ => State::AtRisk,
        }
    }

    fn weight(&self) -> Weight {
        match self {
            Self::NearRpo { .. } | Self::NeedNotOk { .. } => Weight::Warning,
            Self::ExposureAboveRpo { .. }
            | Self::NothingSurvives { .. }
            | Self::NextSnapshotTooLate { .. }
            | Self::RecoveryAboveRto { .. }
            | Self::DownBeyondRto { .. }
            | Self::ProofTooOld { .. }
            | Self::CopyLags { .. } => Weight::Missed,
            Self::ProofInconclusive { .. } | Self::NeverProven => Weight::Unknown,
            other if other.state() == State::Unknown => Weight::Unknown,
            _ => Weight::Failed,
        }
    }
}

/// The exit code that these reasons add up to: 1 something failed, else 4 something cannot be told, else 3 an
/// objective is missed, else 0. A warning alone changes nothing.
pub fn exit_code<'a>(reasons: impl IntoIterator<Item = &'a Reason>) -> u8 {
    let weights = |wanted: Weight| move |found: &Weight| *found == wanted;
    let all: Vec<Weight> = reasons.into_iter().map(Reason::weight).collect();
    let has = |wanted: Weight| all.iter().any(weights(wanted));
    match () {
        () if has(Weight::Failed) => 1,
        () if has(Weight::Unknown) => 4,
        () if has(Weight::Missed) => 3,
        () => 0,
    }
}

/// One clause for people, without a full stop.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExposureAboveRpo { domain, exposure_seconds, rpo_seconds } => {
                let (exposure, rpo) = (words_of(*exposure_seconds), words_of(*rpo_seconds));
                write!(f, "if the {} fails now, {exposure} are lost; {rpo} may be", domain.as_str())
            }
            Self::NothingSurvives { domain, .. } => {
                write!(f, "if the {} fails now, everything is lost", domain.as_str())
            }
            Self::NextSnapshotTooLate { exposure_seconds, rpo_seconds } => {
                let (exposure, rpo) = (words_of(*exposure_seconds), words_of(*rpo_seconds));
                write!(f, "{exposure} will be exposed before the next snapshot is durable; {rpo} may be")
            }
            Self::NearRpo { domain, exposure_seconds, rpo_seconds } => {
                let (exposure, rpo) = (words_of(*exposure_seconds), words_of(*rpo_seconds));
                write!(
                    f,
                    "if the {} fails now, {exposure} of the {rpo} that may be are lost",
                    domain.as_str()
                )
            }
            Self::NotObserved { domain } => {
                write!(f, "what is left if the {} fails was not observed yet", domain.as_str())
            }
            Self::RegionUndeclared => f.write_str("no region is declared"),
            Self::ClockAhead { ahead_seconds } => {
                write!(f, "a clock is wrong: something was seen {} in the future", words_of(*ahead_seconds))
            }
            Self::Stalled { silent_seconds } => {
                write!(f, "the stream is stalled: silent for {}", words_of(*silent_seconds))
            }
            Self::NeverHeard => f.write_str("nothing was heard of the stream yet"),
            Self::Hole { place } => write!(f, "log is missing in {place} behind the newest snapshot"),
            Self::StoreDown => f.write_str("the store does not answer"),
            Self::ProofFailed { age_seconds } => {
                write!(f, "the last proof failed, {} ago", words_of(*age_seconds))
            }
            Self::ProofInconclusive { age_seconds } => {
                write!(f, "the last proof was inconclusive, {} ago", words_of(*age_seconds))
            }
            Self::ProofTooOld { age_seconds, most_seconds } => {
                let (age, most) = (words_of(*age_seconds), words_of(*most_seconds));
                write!(f, "proven {age} ago; {most} may be")
            }
            Self::NeverProven => f.write_str("never proven"),
            Self::CopyLags { place, lag_seconds: None, .. } => write!(f, "{place} holds nothing of it"),
            Self::CopyLags { place, lag_seconds: Some(lag), most_seconds } => {
                let (lag, most) = (words_of(*lag), words_of(*most_seconds));
                write!(f, "{place} is {lag} behind the repository; {most} may be")
            }
            Self::PlaceUnreachable { place, silent_seconds: Some(silent) } => {
                write!(f, "{place} has not answered for {}", words_of(*silent))
            }
            Self::PlaceUnreachable { place, silent_seconds: None } => write!(f, "{place} does not answer"),
            Self::PlaceLost { place } => write!(f, "{place} is lost"),
            Self::PlaceUnknown { place } => write!(f, "{place} was not asked yet"),
            Self::JobLate { job, late_seconds } => {
                write!(f, "{job} should have begun {} ago", words_of(*late_seconds))
            }
            Self::JobFailed { job, failures: 1 } => write!(f, "{job} failed"),
            Self::JobFailed { job, failures } => write!(f, "{job} failed {failures} times in a row"),
            Self::ComponentDown { component } => write!(f, "{component} is down"),
            Self::ComponentUnknown { component } => write!(f, "whether {component} is up is not known"),
            Self::ServiceDown { down_seconds: Some(down) } => {
                write!(f, "it has not answered for {}", words_of(*down))
            }
            Self::ServiceDown { down_seconds: None } => f.write_str("it does not answer"),
            Self::DownBeyondRto { down_seconds, rto_seconds } => {
                let (down, rto) = (words_of(*down_seconds), words_of(*rto_seconds));
                write!(f, "it has been down for {down}; {rto} may be")
            }
            Self::ServiceUnknown => f.write_str("whether it answers is not known"),
            Self::RecoveryAboveRto { recovery_seconds, rto_seconds } => {
                let (recovery, rto) = (words_of(*recovery_seconds), words_of(*rto_seconds));
                write!(f, "recovery would take {recovery} (p90, forecast); {rto} may be")
            }
            Self::RecoveryUnknown { parts } => {
                write!(f, "how long recovery takes cannot be told: {} unknown", parts.join(", "))
            }
            Self::NoForecast { why } => write!(f, "no forecast: {why}"),
            Self::NeedNotOk { need, state } => write!(f, "needs {need}: {}", state.words()),
            Self::ChannelFailing { channel, failing_seconds } => {
                write!(f, "nothing can be sent to {channel} for {}", words_of(*failing_seconds))
            }
            Self::ChannelSilent { channel, silent_seconds: Some(silent) } => {
                write!(f, "nothing arrived at {channel} for {}", words_of(*silent))
            }
            Self::ChannelSilent { channel, silent_seconds: None } => {
                write!(f, "nothing ever arrived at {channel}")
            }
            Self::NoLeader => f.write_str("nobody leads"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stalled() -> Reason {
        Reason::Stalled { silent_seconds: 4.0 }
    }

    fn breach() -> Reason {
        Reason::ExposureAboveRpo { domain: Domain::Host, exposure_seconds: 90.0, rpo_seconds: 60.0 }
    }

    #[test]
    fn the_worst_reason_decides() {
        let near = Reason::NearRpo { domain: Domain::Host, exposure_seconds: 50.0, rpo_seconds: 60.0 };
        for (reasons, state, code) in [
            (vec![], State::Ok, 0),
            (vec![near.clone()], State::AtRisk, 0),
            (vec![near.clone(), breach()], State::Breach, 3),
            (vec![Reason::NeverHeard, near], State::Unknown, 4),
            (vec![breach(), Reason::NeverHeard], State::Breach, 4),
            (vec![breach(), stalled(), Reason::NeverHeard], State::Breach, 1),
        ] {
            assert_eq!((State::of(&reasons), exit_code(&reasons)), (state, code), "{reasons:?}");
        }
    }

    #[test]
    fn reasons_are_data_and_words() {
        let json = serde_json::to_string(&stalled()).unwrap();
        assert_eq!(json, r#"{"reason":"stalled","silent_seconds":4.0}"#);
        assert_eq!(serde_json::from_str::<Reason>(&json).unwrap(), stalled());
        assert_eq!(breach().to_string(), "if the host fails now, 1m 30s are lost; 1m 0s may be");
    }

    #[test]
    fn what_another_lacks_is_not_missed_twice() {
        let need = |state| Reason::NeedNotOk { need: "users".to_owned(), state };
        assert_eq!(need(State::Breach).state(), State::AtRisk);
        assert_eq!(need(State::Unknown).state(), State::Unknown);
        assert_eq!(exit_code(&[need(State::Breach)]), 0);
    }
}
