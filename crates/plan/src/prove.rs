//! What a proof of a dataset asks beside what is always asked: queries, and what they must give.

use crate::schedule::{Schedule, when};
use crate::span::Span;
use crate::text::schema_as;
use serde::Deserialize;
use std::collections::BTreeSet;

/// How a dataset is proven.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawProve")]
pub struct ProvePlan {
    /// When a proof is due.
    pub schedule: Option<Schedule>,
    /// How old the last proof may be.
    pub max_age: Option<Span>,
    /// Questions to the restored data.
    pub queries: Vec<QueryPlan>,
}

/// A question to the restored data: a query that gives one value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawQuery")]
pub struct QueryPlan {
    /// What it is called: once in a dataset.
    pub name: String,
    /// The database of a cluster that is asked; the one that the store names, if left out.
    pub database: Option<String>,
    /// What is asked.
    pub sql: String,
    /// What the answer must be.
    pub expected: Expectation,
}

/// What an answer must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// A number within bounds, of which there is one at least.
    Between {
        /// Not below this.
        min: Option<i64>,
        /// Not above this.
        max: Option<i64>,
    },
    /// This, as text or as number.
    Equals(String),
}

impl Expectation {
    /// What was expected, where an answer is something else.
    pub fn missed_by(&self, answer: &str) -> Option<String> {
        let (min, max) = match self {
            Self::Equals(wanted) if is_same(wanted, answer) => return None,
            Self::Equals(wanted) => return Some(wanted.clone()),
            Self::Between { min, max } => (*min, *max),
        };
        if min.is_some_and(|min| !at_least(answer, min)) {
            return min.map(|min| format!("at least {min}"));
        }
        max.filter(|max| !at_most(answer, *max)).map(|max| format!("at most {max}"))
    }
}

/// Numbers are the same however they are written.
fn is_same(wanted: &str, answer: &str) -> bool {
    let both = || Some((wanted.parse::<f64>().ok()?, answer.parse::<f64>().ok()?));
    // Of whole numbers that no fraction can hold, the text alone says whether they are equal.
    let are_small = wanted.len().max(answer.len()) <= 15;
    wanted == answer || (are_small && both().is_some_and(|(wanted, answer)| wanted == answer))
}

/// What is no number is within no bound.
fn at_least(answer: &str, min: i64) -> bool {
    match answer.parse::<i64>() {
        Ok(number) => number >= min,
        Err(_) => answer.parse::<f64>().is_ok_and(|number| number >= min as f64),
    }
}

fn at_most(answer: &str, max: i64) -> bool {
    match answer.parse::<i64>() {
        Ok(number) => number <= max,
        Err(_) => answer.parse::<f64>().is_ok_and(|number| number <= max as f64),
    }
}

/// As it is written.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawProve {
    /// A proof every so long.
    every: Option<Span>,
    /// Or by a calendar: the five fields of cron.
    cron: Option<String>,
    /// The time zone of the calendar; UTC unless named.
    timezone: Option<String>,
    /// Put off by up to so long, by chance.
    #[serde(default)]
    jitter: Span,
    /// How old the last proof may be.
    max_age: Option<Span>,
    /// Questions to the restored data.
    #[serde(default)]
    queries: Vec<QueryPlan>,
}

impl TryFrom<RawProve> for ProvePlan {
    type Error = String;

    fn try_from(raw: RawProve) -> Result<Self, String> {
        let mut names = BTreeSet::new();
        match raw.queries.iter().find(|query| !names.insert(&query.name)) {
            Some(twice) => Err(format!("two queries are called {:?}", twice.name)),
            None => {
                let due = when(raw.every, raw.cron.as_deref(), raw.timezone.as_deref())?;
                let schedule = due.map(|when| Schedule { when, jitter: raw.jitter });
                Ok(Self { schedule, max_age: raw.max_age, queries: raw.queries })
            }
        }
    }
}

schema_as!(ProvePlan, RawProve);

/// As it is written.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawQuery {
    /// What it is called: once in a dataset.
    name: String,
    /// The database of a cluster that is asked; the one that the store names, if left out.
    database: Option<String>,
    /// What is asked; gives one value.
    sql: String,
    /// Not below this.
    min: Option<i64>,
    /// Not above this.
    max: Option<i64>,
    /// This, as text or as number.
    equals: Option<Value>,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
enum Value {
    Number(i64),
    Text(String),
}

schema_as!(QueryPlan, RawQuery);

impl TryFrom<RawQuery> for QueryPlan {
    type Error = String;

    fn try_from(raw: RawQuery) -> Result<Self, String> {
        let RawQuery { name, database, sql, min, max, equals } = raw;
        for (what, text) in [("name", &name), ("sql", &sql)] {
            if text.trim().is_empty() {
                return Err(format!("the {what} of a query is empty"));
            }
        }
        let expected = match (equals, min, max) {
            (None, None, None) => {
                return Err(format!("query {name:?} expects nothing: give it min, max or equals"));
            }
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                return Err(format!("query {name:?} has equals beside min or max"));
            }
            (None, Some(min), Some(max)) if min > max => {
                return Err(format!("query {name:?} expects at least {min} and at most {max}"));
            }
            (None, min, max) => Expectation::Between { min, max },
            (Some(Value::Number(number)), ..) => Expectation::Equals(number.to_string()),
            (Some(Value::Text(text)), ..) => Expectation::Equals(text),
        };
        Ok(Self { name, database, sql, expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Plan, PlanError};
    use lifeboat_base::Hint;

    fn parsed(prove: &str) -> Result<Vec<QueryPlan>, PlanError> {
        let text = format!("[datasets.users]\nstore = \"a\"\nprove = {{ {prove} }}\n");
        Ok(Plan::parse(&text, "p.toml")?.datasets["users"].prove.clone().unwrap().queries)
    }

    fn refused(prove: &str) -> PlanError {
        parsed(prove).expect_err("it is read")
    }

    #[test]
    fn queries_say_what_they_expect() {
        let one = parsed(
            r#"queries = [{ name = "has users", sql = "select count(*) from users", min = 1 },
                          { name = "version", sql = "select v", equals = 7, database = "app" }]"#,
        )
        .unwrap();
        assert_eq!(one[0].expected, Expectation::Between { min: Some(1), max: None });
        assert_eq!(one[1].expected, Expectation::Equals("7".to_owned()));
        assert_eq!(one[1].database.as_deref(), Some("app"));
        assert_eq!(parsed("").unwrap(), []);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_line() {
        let query = |rest: &str| refused(&format!("queries = [{{ name = \"n\", sql = \"s\"{rest} }}]"));
        assert!(query("").what.contains("expects nothing"), "{}", query(""));
        assert!(query(", min = 1, equals = 2").what.contains("beside min or max"));
        assert!(query(", min = 2, max = 1").what.contains("at least 2 and at most 1"));
        assert!(
            refused("queries = [{ name = \"\", sql = \"s\", min = 1 }]").what.contains("name of a query")
        );
        let twice = "{ name = \"n\", sql = \"s\", min = 1 }";
        let error = refused(&format!("queries = [{twice}, {twice}]"));
        assert_eq!((error.line, error.what.contains("two queries are called")), (3, true), "{error}");
        assert_eq!(query(", mix = 1").hint().as_deref(), Some("Did you mean `min`?"));
    }

    #[test]
    fn answers_are_held_against_what_is_expected() {
        let between = |min, max| Expectation::Between { min, max };
        assert_eq!(between(Some(1), None).missed_by("1"), None);
        assert_eq!(between(Some(1), None).missed_by("0").unwrap(), "at least 1");
        assert_eq!(between(None, Some(5)).missed_by("6").unwrap(), "at most 5");
        assert_eq!(between(Some(1), Some(5)).missed_by("2.5"), None);
        assert_eq!(between(Some(1), None).missed_by("many").unwrap(), "at least 1");
        let most = i64::MAX;
        assert_eq!(
            between(Some(most), None).missed_by("9223372036854775806").unwrap(),
            format!("at least {most}")
        );
        let equals = |wanted: &str| Expectation::Equals(wanted.to_owned());
        assert_eq!(equals("t").missed_by("t"), None);
        assert_eq!(equals("42").missed_by("42.00"), None);
        assert_eq!(equals("9007199254740993").missed_by("9007199254740992").unwrap(), "9007199254740993");
        assert_eq!(equals("42").missed_by("43").unwrap(), "42");
    }
}
