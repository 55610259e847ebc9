//! Answers that are none: each with a stable code, what is wrong, and what to check or run. What went wrong
//! inside is told to the service's own log, never to whoever asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is answered in place of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refusal {
    /// What is wrong, for people.
    pub error: String,
    /// A stable word for programs.
    pub code: String,
    /// What to check or run.
    pub hint: Option<String>,
}

/// Why something is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There is no such path.
    NoSuchPath,
    /// There is no such thing.
    NoSuchThing { what: String },
    /// A parameter is unknown, missing, given twice or out of its bounds.
    Parameter { name: String, why: String },
    /// Nothing but reading is done here.
    Method,
    /// The token was not shown.
    NoToken,
    /// The plan names no token, or it cannot be read.
    TokenUnset { why: String },
    /// The service is not yet there, or about to end.
    NotReady { why: String },
    /// The repository is not open.
    RepositoryAway,
    /// It took longer than anybody waits for.
    TooSlow,
    /// Too much is being asked at once.
    Busy,
    /// Something failed inside: told to the log.
    Inside,
}

impl Fault {
    /// Every one, for the document.
    #[cfg(test)]
    pub(crate) fn examples() -> Vec<Self> {
        let text = String::new;
        vec![
            Self::NoSuchPath,
            Self::NoSuchThing { what: text() },
            Self::Parameter { name: text(), why: text() },
            Self::Method,
            Self::NoToken,
            Self::TokenUnset { why: text() },
            Self::NotReady { why: text() },
            Self::RepositoryAway,
            Self::TooSlow,
            Self::Busy,
            Self::Inside,
        ]
    }

    /// The HTTP status.
    pub(crate) const fn status(&self) -> u16 {
        match self {
            Self::NoSuchPath | Self::NoSuchThing { .. } => 404,
            Self::Parameter { .. } => 400,
            Self::Method => 405,
            Self::NoToken => 401,
            Self::TokenUnset { .. }
            | Self::NotReady { .. }
            | Self::RepositoryAway
            | Self::TooSlow
            | Self::Busy => 503,
            Self::Inside => 500,
        }
    }

    /// The stable word.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NoSuchPath => "no-such-path",
            Self::NoSuchThing { .. } => "no-such-thing",
            Self::Parameter { .. } => "bad-parameter",
            Self::Method => "only-reading",
            Self::NoToken => "no-token",
            Self::TokenUnset { .. } => "token-unset",
            Self::NotReady { .. } => "not-ready",
            Self::RepositoryAway => "repository-away",
            Self::TooSlow => "too-slow",
            Self::Busy => "busy",
            Self::Inside => "inside",
        }
    }

    fn error(&self) -> String {
        match self {
            Self::NoSuchPath => "there is nothing at this path".to_owned(),
            Self::NoSuchThing { what } => format!("there is no {what}"),
            Self::Parameter { name, why } => format!("the parameter {name} {why}"),
            Self::Method => "this is only for reading".to_owned(),
            Self::NoToken => "a token must be shown, and this is none that opens".to_owned(),
            Self::TokenUnset { why } => format!("nobody can be let in: {why}"),
            Self::NotReady { why } => why.clone(),
            Self::RepositoryAway => "the repository is not open".to_owned(),
            Self::TooSlow => "this took too long".to_owned(),
            Self::Busy => "too much is being asked at once".to_owned(),
            Self::Inside => "something failed inside the service".to_owned(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::NoSuchPath => "GET /api/v1/openapi.json lists every path.",
            Self::NoSuchThing { .. } => "GET /api/v1/datasets and /api/v1/jobs list what there is.",
            Self::Parameter { .. } => "GET /api/v1/openapi.json has the bounds of every parameter.",
            Self::Method => "Use GET; what changes something is done with the lifeboat command.",
            Self::NoToken => {
                "Send `Authorization: Bearer TOKEN` with the token that the plan names in serve.token."
            }
            Self::TokenUnset { .. } => {
                "Write serve.token = \"env:NAME\" or \"file:PATH\" into the plan, check that it is there, and start \
                 `lifeboat serve` again."
            }
            Self::NotReady { .. } => {
                "Ask again in a few seconds; `lifeboat serve` says on its log what it waits for."
            }
            Self::RepositoryAway => {
                "Look at GET /health; the service opens the repository as soon as it answers."
            }
            Self::TooSlow | Self::Busy => "Ask again later, and for less.",
            Self::Inside => "Look at the log of `lifeboat serve`.",
        }
    }

    /// As it is answered.
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal { error: self.error(), code: self.code().to_owned(), hint: Some(self.hint().to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_fault_has_a_code_of_its_own_and_a_sentence_for_a_hint() {
        let faults = Fault::examples();
        let codes: BTreeSet<_> = faults.iter().map(Fault::code).collect();
        assert_eq!(codes.len(), faults.len());
        for fault in faults {
            let refusal = fault.refusal();
            assert!((400..600).contains(&fault.status()), "{refusal:?}");
            assert!(refusal.hint.unwrap().ends_with('.'));
        }
    }
}
