//! Comparing what was measured with what was written: numbers, lengths of time, sizes, and else texts.

use lifeboat_plan::{Size, Span};
use lifeboat_runbook::{Expectation, Relation};
use std::cmp::Ordering;

/// What came of comparing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    Holds,
    Fails,
    /// They are of different kinds.
    Incomparable,
}

/// Compares a value with a limit. A bare number beside a limit with a unit is refused, not guessed.
pub(crate) fn compare(value: &str, relation: Relation, limit: &str) -> Compared {
    let (value, limit) = (value.trim(), limit.trim());
    let order = numbers(value, limit).or_else(|| spans(value, limit)).or_else(|| sizes(value, limit));
    match order {
        Some(order) => of(holds(order, relation)),
        None if relation == Relation::Equal => of(value == limit),
        None => Compared::Incomparable,
    }
}

fn of(holds: bool) -> Compared {
    if holds { Compared::Holds } else { Compared::Fails }
}

fn holds(order: Ordering, relation: Relation) -> bool {
    match relation {
        Relation::Less => order.is_lt(),
        Relation::AtMost => order.is_le(),
        Relation::More => order.is_gt(),
        Relation::AtLeast => order.is_ge(),
        Relation::Equal => order.is_eq(),
    }
}

fn numbers(value: &str, limit: &str) -> Option<Ordering> {
    if let (Ok(value), Ok(limit)) = (value.parse::<i128>(), limit.parse::<i128>()) {
        return Some(value.cmp(&limit));
    }
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    number(value)?.partial_cmp(&number(limit)?)
}

fn spans(value: &str, limit: &str) -> Option<Ordering> {
    let (value, limit): (Span, Span) = (value.parse().ok()?, limit.parse().ok()?);
    Some(value.cmp(&limit))
}

fn sizes(value: &str, limit: &str) -> Option<Ordering> {
    let (value, limit): (Size, Size) = (value.parse().ok()?, limit.parse().ok()?);
    Some(value.cmp(&limit))
}

/// Whether an answer is what is expected; if not, why.
pub(crate) fn unmet(answer: Option<&str>, expected: &Expectation) -> Option<(Compared, String)> {
    let Some(answer) = answer else {
        return Some((Compared::Incomparable, "there is no answer to compare".to_owned()));
    };
    let sign = sign(expected.relation);
    match compare(answer, expected.relation, &expected.value) {
        Compared::Holds => None,
        Compared::Fails => {
            Some((Compared::Fails, format!("the answer is {answer}, not {sign} {}", expected.value)))
        }
        Compared::Incomparable => {
            let why =
                format!("the answer is {answer}, which does not compare with {sign} {}", expected.value);
            Some((Compared::Incomparable, why))
        }
    }
}

/// How a relation is written.
pub(crate) fn sign(relation: Relation) -> &'static str {
    match relation {
        Relation::Less => "<",
        Relation::AtMost => "<=",
        Relation::More => ">",
        Relation::AtLeast => ">=",
        Relation::Equal => "==",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_is_compared_with_like() {
        use Compared::{Fails, Holds, Incomparable};
        use Relation::{AtLeast, AtMost, Equal, Less, More};
        for (value, relation, limit, expected) in [
            ("4s", AtMost, "5s", Holds),
            ("5001ms", AtMost, "5s", Fails),
            ("5s", Less, "5s", Fails),
            ("1MiB", AtMost, "1MiB", Holds),
            ("1025KiB", AtMost, "1MiB", Fails),
            ("10", AtLeast, "9", Holds),
            ("10", More, "9.5", Holds),
            ("9007199254740993", Equal, "9007199254740992", Fails),
            (" 200\n", Equal, "200", Holds),
            ("t", Equal, "t", Holds),
            ("5", AtMost, "5s", Incomparable),
            ("NaN", AtMost, "5", Incomparable),
            ("", AtMost, "5s", Incomparable),
        ] {
            assert_eq!(compare(value, relation, limit), expected, "{value} {relation:?} {limit}");
        }
    }
}
