//! What single attributes say: lists of names, references to values, approvals, bounds, expectations. Knows no step
//! but the one that they belong to.

use crate::front::{InputKind, VALUE_NAME, is_number, is_value_name};
use crate::step::{Expectation, Output, Passed, Phase, Relation, Source, StepId};
use lifeboat_plan::{Size, Span, nearest};
use std::num::NonZeroU32;

/// So long may a list be.
const MAX_ITEMS: usize = 1_000;

/// The items of a comma-separated list.
pub(crate) fn items(text: &str) -> Result<impl Iterator<Item = &str>, String> {
    let count = text.bytes().filter(|byte| *byte == b',').count() + 1;
    if count > MAX_ITEMS {
        return Err(format!("{count} items are more than a list may have, {MAX_ITEMS}"));
    }
    Ok(text.split(',').map(str::trim))
}

/// The names of a list; `none` is no name.
pub(crate) fn steps(text: &str) -> Result<Vec<StepId>, String> {
    let mut names = Vec::new();
    for item in items(text)? {
        let name = step(item)?;
        if names.contains(&name) {
            return Err(format!("`{item}` stands in the list twice"));
        }
        names.push(name);
    }
    Ok(names)
}

/// One name.
pub(crate) fn step(text: &str) -> Result<StepId, String> {
    if text == "none" {
        return Err("`none` is no name of a step: it says that there is none".to_owned());
    }
    StepId::new(text).map_err(|error| error.to_string())
}

/// `name` of an input, or `step.name` of an output.
pub(crate) fn source(text: &str) -> Result<Source, String> {
    match text.split_once('.') {
        Some((of, name)) => Ok(Source::Output { step: step(of)?, name: value_name(name)? }),
        None => Ok(Source::Input(value_name(text)?)),
    }
}

fn value_name(text: &str) -> Result<String, String> {
    if is_value_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no name of a value: {VALUE_NAME}"))
}

/// The name that a source has where it has no other.
pub(crate) fn own_name(source: &Source) -> &str {
    match source {
        Source::Input(name) | Source::Output { name, .. } => name,
    }
}

/// `a`, `step.output` or `name=either`, comma-separated.
pub(crate) fn passed(text: &str) -> Result<Vec<Passed>, String> {
    let mut all: Vec<Passed> = Vec::new();
    for item in items(text)? {
        let passed = match item.split_once('=') {
            Some((name, from)) => Passed { name: value_name(name.trim())?, source: source(from.trim())? },
            None => {
                let source = source(item)?;
                Passed { name: own_name(&source).to_owned(), source }
            }
        };
        // A script sees hyphens as underscores.
        if all.iter().any(|other| variable(&other.name) == variable(&passed.name)) {
            return Err(format!("two values are passed as `{}`", passed.name));
        }
        all.push(passed);
    }
    Ok(all)
}

/// A name as a script sees it.
fn variable(name: &str) -> String {
    name.replace('-', "_")
}

/// `name` or `name=/pointer`, comma-separated.
pub(crate) fn outputs(text: &str) -> Result<Vec<Output>, String> {
    let mut all: Vec<Output> = Vec::new();
    for item in items(text)? {
        let (name, at) = item.split_once('=').map_or((item, None), |(name, at)| (name, Some(at)));
        let name = value_name(name.trim())?;
        if all.iter().any(|other| variable(&other.name) == variable(&name)) {
            return Err(format!("output `{name}` is there twice"));
        }
        all.push(Output { name, pointer: at.map(|at| pointer(at.trim())).transpose()? });
    }
    Ok(all)
}

/// RFC 6901: empty, or `/` before each part, with `~0` and `~1` for `~` and `/`.
fn pointer(text: &str) -> Result<String, String> {
    let is_escaped = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    if is_escaped && (text.is_empty() || text.starts_with('/')) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no JSON pointer: write it as /restored/point"))
}

/// `role` or `2 of role`.
pub(crate) fn approvers(text: &str) -> Result<(NonZeroU32, String), String> {
    let (count, role) = match text.split_once(" of ") {
        Some((count, role)) => (count.trim(), role.trim()),
        None => ("1", text.trim()),
    };
    let quorum = count.parse().map_err(|_| format!("{count:?} is no number of people"))?;
    if role.is_empty() {
        return Err("an approval names the role of who may give it".to_owned());
    }
    Ok((quorum, role.to_owned()))
}

const RELATIONS: &[(&str, Relation)] = &[
    ("<=", Relation::AtMost),
    (">=", Relation::AtLeast),
    ("==", Relation::Equal),
    ("<", Relation::Less),
    (">", Relation::More),
];

/// `name<=5s`: on which side of which limit a fact is.
pub(crate) fn bound(text: &str) -> Result<(Source, Relation, String), String> {
    let wrong = || format!("{text:?} is no bound: write it as loss<=5s");
    let at = text.find(['<', '>', '=']).ok_or_else(wrong)?;
    let (sign, relation) =
        RELATIONS.iter().find(|(sign, _)| text[at..].starts_with(sign)).ok_or_else(wrong)?;
    let limit = text[at + sign.len()..].trim();
    if !is_measure(limit) {
        return Err(format!("{limit:?} is no limit: a number, a length of time (5s) or a size (1MiB)"));
    }
    Ok((source(text[..at].trim())?, *relation, limit.to_owned()))
}

fn is_measure(text: &str) -> bool {
    is_number(text) || text.parse::<Span>().is_ok() || text.parse::<Size>().is_ok()
}

/// `>= 1`; without a sign it must be equal.
pub(crate) fn expectation(text: &str) -> Result<Expectation, String> {
    let text = text.trim();
    let found = RELATIONS.iter().find(|(sign, _)| text.starts_with(sign));
    let (relation, value) =
        found.map_or((Relation::Equal, text), |(sign, relation)| (*relation, text[sign.len()..].trim()));
    if relation != Relation::Equal && !is_measure(value) {
        return Err(format!("{value:?} is neither more nor less than anything: a number, 5s or 1MiB is"));
    }
    if found.is_none() && text.starts_with(['!', '=']) {
        return Err(format!(
            "{text:?} is no expectation: it begins with <, <=, ==, >=, > or nothing of these"
        ));
    }
    Ok(Expectation { relation, value: value.to_owned() })
}

const PHASES: &[(&str, Phase)] = &[
    ("detect", Phase::Detect),
    ("decide", Phase::Decide),
    ("approve", Phase::Approve),
    ("execute", Phase::Execute),
    ("verify", Phase::Verify),
    ("traffic", Phase::Traffic),
];

/// A part of the recovery time.
pub(crate) fn phase(text: &str) -> Result<Phase, String> {
    one_of(text, "phase", PHASES)
}

/// What a crash means, still without its probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeatable {
    Safe,
    Check,
    Never,
}

pub(crate) fn repeat(text: &str) -> Result<Repeatable, String> {
    let known = [("safe", Repeatable::Safe), ("check", Repeatable::Check), ("never", Repeatable::Never)];
    one_of(text, "repeat", &known)
}

fn one_of<T: Copy>(text: &str, what: &str, known: &[(&str, T)]) -> Result<T, String> {
    let names = || known.iter().map(|(name, _)| *name);
    known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let all = names().collect::<Vec<_>>().join(", ");
        let meant = Some(text)
            .filter(|text| text.len() <= StepId::LONGEST)
            .and_then(|text| nearest(text, names()))
            .map(|near| format!("; did you mean {near}?"))
            .unwrap_or_default();
        format!("{text:?} is no {what}: it is one of {all}{meant}")
    })
}

/// A length of time that is not nothing.
pub(crate) fn span(text: &str) -> Result<Span, String> {
    let span: Span = text.parse()?;
    if span == Span::default() { Err("no time at all is too little".to_owned()) } else { Ok(span) }
}

/// Whether a value of this type may be compared with a limit.
pub(crate) const fn is_measured(kind: InputKind) -> bool {
    matches!(kind, InputKind::Integer | InputKind::Number | InputKind::Duration | InputKind::Size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_passed_by_their_names() {
        let read = passed("target, find.host,old=find.primary").unwrap();
        let names: Vec<&str> = read.iter().map(|passed| passed.name.as_str()).collect();
        assert_eq!(names, ["target", "host", "old"]);
        assert_eq!(read[0].source, Source::Input("target".to_owned()));
        for text in ["", "a,,b", "a,a", "a-b,a_b", "A", "x.y.z", "none.a", "a=", "=a", "a b"] {
            assert!(passed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn outputs_have_pointers() {
        let read = outputs("point=/restored/point,status, all=").unwrap();
        let pointers: Vec<Option<&str>> = read.iter().map(|output| output.pointer.as_deref()).collect();
        assert_eq!(pointers, [Some("/restored/point"), None, Some("")]);
        for text in ["a=b", "a=/~2", "a=/~", "a,a", ""] {
            assert!(outputs(text).is_err(), "{text}");
        }
    }

    #[test]
    fn approvals_bounds_and_expectations() {
        assert_eq!(approvers("2 of sre").unwrap(), (NonZeroU32::new(2).unwrap(), "sre".to_owned()));
        assert_eq!(approvers("incident commander").unwrap().0.get(), 1);
        for text in ["", "0 of a", "x of a", "2 of "] {
            assert!(approvers(text).is_err(), "{text}");
        }
        let (fact, relation, limit) = bound("lag.bytes <= 1MiB").unwrap();
        assert_eq!((own_name(&fact), relation, limit.as_str()), ("bytes", Relation::AtMost, "1MiB"));
        for text in ["lag", "lag<=", "lag=5", "<=5s", "lag<=soon"] {
            assert!(bound(text).is_err(), "{text}");
        }
        assert_eq!(expectation(">= 1").unwrap().relation, Relation::AtLeast);
        assert_eq!(
            expectation("ok").unwrap(),
            Expectation { relation: Relation::Equal, value: "ok".to_owned() }
        );
        for text in ["!= 1", "=1", "> many"] {
            assert!(expectation(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_are_proposed() {
        assert!(phase("exectue").unwrap_err().contains("did you mean execute?"));
        assert!(repeat("safely").unwrap_err().contains("did you mean safe?"));
        assert!(span("0s").is_err());
    }
}
