//! What stands before a runbook's text: what it needs to know, what it promises, whose it is. Knows no step.

use lifeboat_plan::{SecretRef, Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The front matter of a runbook.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Front {
    /// What a run has to be told, by name.
    pub inputs: BTreeMap<String, Input>,
    /// The severity of the incident that it is for: a name of the plan.
    pub severity: Option<String>,
    /// What is promised.
    pub objectives: Objectives,
    /// Whose it is.
    pub owner: Option<String>,
    /// Which version it is, as people say it.
    pub version: Option<String>,
    /// It is to be reviewed every so long.
    pub review_every: Option<Span>,
    /// The day of its last review.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "Option<String>")]
    pub reviewed: Option<jiff::civil::Date>,
    /// Who is asked, by name.
    pub contacts: BTreeMap<String, Contact>,
    /// The services that it brings back: names of the plan.
    pub services: Vec<String>,
    /// The datasets that it brings back: names of the plan.
    pub datasets: Vec<String>,
}

fn as_text<S: serde::Serializer>(day: &Option<jiff::civil::Date>, serializer: S) -> Result<S::Ok, S::Error> {
    day.map(|day| day.to_string()).serialize(serializer)
}

/// What is promised of a recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Objectives {
    /// How fast it must be done.
    pub rto: Option<Span>,
    /// How much may be lost.
    pub rpo: Option<Span>,
}

/// Somebody who is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Contact {
    /// What they do: a role of approvals and of people's steps.
    pub role: Option<String>,
    /// Where they are reached.
    pub reach: Vec<String>,
}

/// Something that a run has to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Input {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: InputKind,
    /// What it is unless somebody says otherwise; one without must be told.
    pub default: Option<String>,
    /// What it may be, where that is a choice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// What it means, for people.
    pub description: Option<String>,
}

/// What an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InputKind {
    /// One line of text.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A length of time: `90s`, `1h30m`.
    Duration,
    /// A size: `500MB`, `2.3GiB`.
    Size,
    /// An instant (RFC 3339); without an offset it is local.
    Time,
    /// One of `choices`.
    Choice,
    /// A path.
    Path,
    /// A secret, by reference: `env:NAME` or `file:PATH`.
    Secret,
}

impl InputKind {
    /// All of them with their names.
    pub(crate) const NAMES: &[(&'static str, Self)] = &[
        ("text", Self::Text),
        ("integer", Self::Integer),
        ("number", Self::Number),
        ("boolean", Self::Boolean),
        ("duration", Self::Duration),
        ("size", Self::Size),
        ("time", Self::Time),
        ("choice", Self::Choice),
        ("path", Self::Path),
        ("secret", Self::Secret),
    ];
}

impl Input {
    /// Whether a value is one of this input.
    ///
    /// # Errors
    /// Saying what it would have to be. The value of a secret is not repeated.
    pub fn accepts(&self, value: &str) -> Result<(), String> {
        if value.chars().any(char::is_control) {
            return Err("an input is one line, without control characters".to_owned());
        }
        let is_sound = match self.kind {
            InputKind::Text => true,
            InputKind::Path => !value.is_empty(),
            InputKind::Integer => value.parse::<i64>().is_ok(),
            InputKind::Number => is_number(value),
            InputKind::Boolean => matches!(value, "true" | "false"),
            InputKind::Duration => return value.parse::<Span>().map(|_| ()),
            InputKind::Size => return value.parse::<Size>().map(|_| ()),
            InputKind::Time => is_time(value),
            InputKind::Choice => self.choices.iter().any(|choice| choice == value),
            InputKind::Secret => return secret(value),
        };
        if is_sound { Ok(()) } else { Err(format!("{value:?} is no {}", self.expected())) }
    }

    fn expected(&self) -> String {
        let plain = match self.kind {
            InputKind::Integer => "whole number",
            InputKind::Number => "number",
            InputKind::Boolean => "truth value: true or false",
            InputKind::Time => "instant: write it as 2026-11-22T14:30:00Z",
            InputKind::Path => "path",
            InputKind::Choice => return format!("choice: it is one of {}", self.choices.join(", ")),
            _ => "value of this type",
        };
        plain.to_owned()
    }
}

/// A plain decimal number.
pub(crate) fn is_number(text: &str) -> bool {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    is_plain && text.parse::<f64>().is_ok_and(f64::is_finite)
}

fn is_time(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok() || text.parse::<jiff::civil::DateTime>().is_ok()
}

fn secret(value: &str) -> Result<(), String> {
    match SecretRef::try_from(value.to_owned()) {
        Ok(_) => Ok(()),
        Err(_) => Err("a secret is named, never given here: say env:NAME, file:PATH, command:PROGRAM or vault:PATH#FIELD".to_owned()),
    }
}

/// Whether this can be the name of an input, an output or a passed value: it becomes a variable everywhere.
pub(crate) fn is_value_name(name: &str) -> bool {
    const LONGEST: usize = 64;
    name.len() <= LONGEST
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

/// What a name of a value may be, for a message.
pub(crate) const VALUE_NAME: &str =
    "lower-case letters, digits, hyphens and underscores, at most 64, beginning with a letter";

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(kind: InputKind, value: &str) -> Result<(), String> {
        let choices = vec!["a".to_owned(), "b".to_owned()];
        Input { kind, default: None, choices, description: None }.accepts(value)
    }

    #[test]
    fn values_are_held_against_their_types() {
        for (kind, good, bad) in [
            (InputKind::Integer, "-3", "3.5"),
            (InputKind::Number, "3.5", "inf"),
            (InputKind::Boolean, "true", "yes"),
            (InputKind::Duration, "1h30m", "1.5h"),
            (InputKind::Size, "2GiB", "2"),
            (InputKind::Time, "2026-11-22T14:30:00Z", "yesterday"),
            (InputKind::Time, "2026-11-22T14:30:00", "2026-11-22T25:00:00"),
            (InputKind::Choice, "b", "c"),
            (InputKind::Path, "/srv/a.db", ""),
            (InputKind::Secret, "env:PGPASSWORD", "hunter2"),
            (InputKind::Secret, "vault:secret/db#password", "vault:secret/db"),
            (InputKind::Text, "", "two\nlines"),
        ] {
            accepts(kind, good).unwrap();
            assert!(accepts(kind, bad).is_err(), "{kind:?} {bad:?}");
        }
    }

    #[test]
    fn what_was_given_as_a_secret_is_not_repeated() {
        let error = accepts(InputKind::Secret, "hunter2").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
