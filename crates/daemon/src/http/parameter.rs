//! Parameters: what may be asked with, and within which bounds. One declaration is what a request is held against
//! and what the document says.

use super::fault::Fault;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use url::form_urlencoded;

/// The largest whole number that every reader of JSON has exactly.
pub(crate) const LARGEST: u64 = (1 << 53) - 1;
/// How a dataset is named (docs/format.md).
const NAME: &str = "^[a-z0-9][a-z0-9._-]{0,99}$";

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the path.
    Path,
    /// Behind the question mark; may be left out.
    Query,
}

/// What a parameter may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole number, both ends included.
    Whole { least: u64, most: u64, usual: Option<u64> },
    /// One of these words.
    Word(&'static [&'static str]),
    /// The name of a dataset.
    Name,
}

/// A parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) what: &'static str,
    pub(crate) kind: Kind,
}

impl Parameter {
    /// What the document says of it.
    pub(crate) fn described(&self) -> Value {
        let schema = match self.kind {
            Kind::Whole { least, most, usual: None } => {
                json!({ "type": "integer", "minimum": least, "maximum": most })
            }
            Kind::Whole { least, most, usual: Some(usual) } => {
                json!({ "type": "integer", "minimum": least, "maximum": most, "default": usual })
            }
            Kind::Word(words) => json!({ "type": "string", "enum": words }),
            Kind::Name => json!({ "type": "string", "pattern": NAME, "minLength": 1, "maxLength": 100 }),
        };
        let (place, required) = match self.place {
            Place::Path => ("path", true),
            Place::Query => ("query", false),
        };
        json!({ "name": self.name, "in": place, "required": required, "description": self.what, "schema": schema })
    }

    fn check(&self, text: &str) -> Result<(), Fault> {
        let wrong = |why: String| Err(Fault::Parameter { name: self.name.to_owned(), why });
        match self.kind {
            Kind::Whole { least, most, .. } => match whole(text) {
                Some(number) if (least..=most).contains(&number) => Ok(()),
                _ => wrong(format!("must be a whole number from {least} to {most}")),
            },
            Kind::Word(words) if words.contains(&text) => Ok(()),
            Kind::Word(words) => wrong(format!("must be one of {}", words.join(", "))),
            Kind::Name if is_name(text) => Ok(()),
            Kind::Name => wrong("must be the name of a dataset".to_owned()),
        }
    }
}

/// Digits alone: a sign or a blank is none.
fn whole(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if is_plain { text.parse().ok() } else { None }
}

fn is_name(text: &str) -> bool {
    lifeboat_repository::ids::DatasetName::new(text).is_ok()
}

/// What was asked with: every value is within its bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked(BTreeMap<&'static str, String>);

impl Asked {
    /// Holds what came with a request against what may come.
    ///
    /// # Errors
    /// With the first parameter that may not: also an unknown one, since nothing is passed over in silence.
    pub(crate) fn checked<'a>(
        known: &[Parameter],
        path: impl Iterator<Item = (&'a str, &'a str)>,
        query: &str,
    ) -> Result<Self, Fault> {
        let mut asked = Self::default();
        for (name, value) in path {
            asked.take(known, Place::Path, name, value)?;
        }
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            asked.take(known, Place::Query, &name, &value)?;
        }
        Ok(asked)
    }

    fn take(&mut self, known: &[Parameter], place: Place, name: &str, value: &str) -> Result<(), Fault> {
        let wrong =
            |why: &str| Fault::Parameter { name: name.chars().take(40).collect(), why: why.to_owned() };
        let parameter = known.iter().find(|parameter| parameter.place == place && parameter.name == name);
        let parameter = parameter.ok_or_else(|| wrong("is not known here"))?;
        parameter.check(value)?;
        match self.0.insert(parameter.name, value.to_owned()) {
            None => Ok(()),
            Some(_) => Err(wrong("is given twice")),
        }
    }

    /// A word or a name, where it was given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A whole number, where it was given.
    pub(crate) fn whole(&self, name: &str) -> Option<u64> {
        self.text(name).and_then(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Parameter] = &[
        Parameter { name: "name", place: Place::Path, what: "A name.", kind: Kind::Name },
        Parameter {
            name: "limit",
            place: Place::Query,
            what: "How many.",
            kind: Kind::Whole { least: 1, most: 1000, usual: Some(100) },
        },
        Parameter {
            name: "outcome",
            place: Place::Query,
            what: "How.",
            kind: Kind::Word(&["done", "failed"]),
        },
    ];

    fn checked(name: &str, query: &str) -> Result<Asked, Fault> {
        Asked::checked(KNOWN, [("name", name)].into_iter(), query)
    }

    #[test]
    fn what_is_within_its_bounds_is_taken() {
        let asked = checked("users", "limit=1000&outcome=done").unwrap();
        assert_eq!(
            (asked.text("name"), asked.whole("limit"), asked.text("outcome")),
            (Some("users"), Some(1000), Some("done"))
        );
        assert_eq!(checked("users", "").unwrap().whole("limit"), None);
    }

    #[test]
    fn what_is_not_is_refused_by_its_name() {
        for (name, query, wrong) in [
            ("Users", "", "name"),
            ("users", "limit=0", "limit"),
            ("users", "limit=1001", "limit"),
            ("users", "limit=", "limit"),
            ("users", "limit=+5", "limit"),
            ("users", "limit=99999999999999999999999", "limit"),
            ("users", "limit=5&limit=5", "limit"),
            ("users", "outcome=great", "outcome"),
            ("users", "limits=5", "limits"),
            ("users", "name=users", "name"),
        ] {
            match checked(name, query) {
                Err(Fault::Parameter { name, .. }) => assert_eq!(name, wrong, "{query}"),
                other => panic!("{name} {query}: {other:?}"),
            }
        }
    }
}
