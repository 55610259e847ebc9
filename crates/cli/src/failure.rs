//! How a command ends: its exit code, and what it says when it fails.

use lifeboat_base::{Hint, report};
use lifeboat_evidence::{BundleError, ChainsError, KeyRingError};
use lifeboat_objects::ObjectError;
use lifeboat_objects::location::LocationError;
use lifeboat_plan::PlanError;
use lifeboat_recovery::RecoveryError;
use lifeboat_repository::RepositoryError;

/// How a command ended, when it could be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Failed,
    /// It was carried out, and says that an objective is missed.
    Missed,
    Inconclusive,
    LeftOut,
    /// What could not be begun since it was asked for wrongly.
    Refused,
}

impl Outcome {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Refused => 2,
            Self::Missed => 3,
            Self::Inconclusive => 4,
            Self::LeftOut => 5,
        }
    }

    /// Over several datasets the worst wins: 1, 2, 4, 5, 3, 0.
    pub(crate) fn worse(self, other: Self) -> Self {
        let rank = |outcome| {
            [Self::Done, Self::Missed, Self::LeftOut, Self::Inconclusive, Self::Refused, Self::Failed]
                .iter()
                .position(|o| *o == outcome)
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

/// A command that could not be carried out.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A mistake in how the command was called.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: 2, message: message.into(), hint: Some(hint.into()) }
    }

    /// Anything else.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into(), hint: None }
    }

    fn of(code: u8, error: &(impl Hint + 'static)) -> Self {
        Self { code, message: report(error), hint: error.hint() }
    }
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        let usage = matches!(
            error,
            RepositoryError::NoSuchSnapshot(_)
                | RepositoryError::AmbiguousSnapshot(_)
                | RepositoryError::Unknown(_)
        );
        Self::of(if usage { 2 } else { 1 }, &error)
    }
}

impl From<RecoveryError> for Failure {
    fn from(error: RecoveryError) -> Self {
        match error {
            RecoveryError::Repository(error) => error.into(),
            other => Self::of(if other.is_usage() { 2 } else { 1 }, &other),
        }
    }
}

impl From<ObjectError> for Failure {
    fn from(error: ObjectError) -> Self {
        Self::of(1, &error)
    }
}

impl From<LocationError> for Failure {
    fn from(error: LocationError) -> Self {
        Self::of(2, &error)
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::of(2, &error)
    }
}

impl From<ChainsError> for Failure {
    fn from(error: ChainsError) -> Self {
        Self::of(1, &error)
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        Self::of(1, &error)
    }
}

impl From<KeyRingError> for Failure {
    fn from(error: KeyRingError) -> Self {
        Self::of(2, &error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(format!("write the output: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_outcome_wins() {
        use Outcome::*;
        assert_eq!(Done.worse(LeftOut), LeftOut);
        assert_eq!(Inconclusive.worse(LeftOut), Inconclusive);
        assert_eq!((Done.worse(Missed), Missed.worse(LeftOut)), (Missed, LeftOut));
        assert_eq!(LeftOut.worse(Failed), Failed);
        assert_eq!((Refused.worse(Failed), Inconclusive.worse(Refused)), (Failed, Refused));
        assert_eq!(Failed.worse(Done), Failed);
    }
}
