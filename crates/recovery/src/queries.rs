//! The plan's own questions to restored data, and what each answer is held against.

use lifeboat_plan::{Expectation, QueryPlan};
use lifeboat_store_sqlite::AnswerError as SqliteError;
use std::path::Path;
use std::time::Duration;

/// A question is waited for so long. One that takes longer has told nothing.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(600);

/// A question of the plan's own: a query that gives one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofQuery {
    /// What it is called.
    pub name: String,
    /// The database of a cluster that is asked; `None`: the one that the dataset's store names.
    pub database: Option<String>,
    /// What is asked.
    pub sql: String,
    /// What the answer must be.
    pub expected: Expectation,
}

impl From<&QueryPlan> for ProofQuery {
    fn from(plan: &QueryPlan) -> Self {
        let QueryPlan { name, database, sql, expected } = plan.clone();
        Self { name, database, sql, expected }
    }
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was expected.
    Met,
    /// Something else, or no value at all: what was protected is not as it should be.
    Missed(String),
    /// Nothing could be told.
    Unknown(String),
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What the question is called.
    pub name: String,
    /// The value, where there was one.
    pub answer: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
}

/// Why there was no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoValue {
    /// Why.
    pub(crate) error: String,
    /// It took too long, which says nothing of the data.
    pub(crate) is_too_slow: bool,
}

impl ProofQuery {
    /// Asks a restored SQLite database.
    pub(crate) fn ask_sqlite(&self, database: &Path) -> Answered {
        let answered = lifeboat_store_sqlite::answer(database, &self.sql, ANSWERED_WITHIN);
        self.judge(answered.map_err(|error| NoValue {
            is_too_slow: matches!(error, SqliteError::TooSlow(_)),
            error: lifeboat_base::report(&error),
        }))
    }

    /// Holds an answer against what was expected.
    pub(crate) fn judge(&self, answered: Result<String, NoValue>) -> Answered {
        let name = &self.name;
        let (answer, outcome) = match answered {
            Ok(value) => {
                let outcome = self.expected.missed_by(&value).map_or(Outcome::Met, |expected| {
                    Outcome::Missed(format!("query {name:?} gave {value}, and {expected} was expected"))
                });
                (Some(value), outcome)
            }
            Err(NoValue { error, is_too_slow: true }) => {
                (None, Outcome::Unknown(format!("query {name:?}: {error}")))
            }
            Err(NoValue { error, .. }) => (None, Outcome::Missed(format!("query {name:?} failed: {error}"))),
        };
        Answered { name: name.clone(), answer, outcome }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(min: i64) -> ProofQuery {
        let expected = Expectation::Between { min: Some(min), max: None };
        ProofQuery { name: "has users".to_owned(), database: None, sql: String::new(), expected }
    }

    #[test]
    fn an_answer_is_met_missed_or_not_known() {
        let met = query(1).judge(Ok("1".to_owned()));
        assert_eq!((met.answer.as_deref(), met.outcome), (Some("1"), Outcome::Met));
        let Outcome::Missed(text) = query(1).judge(Ok("0".to_owned())).outcome else { panic!("it passed") };
        assert_eq!(text, "query \"has users\" gave 0, and at least 1 was expected");
        let none = |is_too_slow| query(1).judge(Err(NoValue { error: "no".to_owned(), is_too_slow })).outcome;
        assert!(matches!(none(false), Outcome::Missed(_)), "what is gone cannot be asked");
        assert!(matches!(none(true), Outcome::Unknown(_)), "slow is not wrong");
    }
}
