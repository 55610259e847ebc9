//! Sums of lengths of time that can be read back term by term.

use crate::span::Span;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Nothing that is planned takes so long: a schedule that never comes twice does.
const WITHOUT_END: Span = Span::from_secs(100 * 365 * 24 * 60 * 60);

/// One term of a sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Term {
    /// What takes so long.
    pub what: String,
    /// How long.
    pub span: Span,
    /// Where that comes from.
    pub source: Source,
}

/// Where a length of time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "from")]
pub enum Source {
    /// The plan says so.
    Stated,
    /// The plan says nothing, and this is what happens then.
    Default,
    /// Nine of ten took no longer.
    Measured {
        /// How many were measured.
        count: usize,
    },
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, said(self.span))?;
        match self.source {
            Source::Stated => Ok(()),
            Source::Default => f.write_str(" (unless told otherwise)"),
            Source::Measured { count } => write!(f, " (nine of ten of {count} measured)"),
        }
    }
}

/// A length of time as people read it.
pub(super) fn said(span: Span) -> String {
    if span >= WITHOUT_END { "without end".to_owned() } else { span.to_string() }
}

/// A part of a sum that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// What takes an unknown time.
    pub(super) what: String,
    /// The key where it could be stated.
    pub(super) key: String,
}

/// Terms, and what is missing among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    terms: Vec<Term>,
    missing: Vec<Missing>,
}

impl Sum {
    pub(super) fn stated(mut self, what: impl Into<String>, span: Span) -> Self {
        self.push(what, span, Source::Stated);
        self
    }

    pub(super) fn push(&mut self, what: impl Into<String>, span: Span, source: Source) {
        self.terms.push(Term { what: what.into(), span, source });
    }

    /// Adds it where it is known; else remembers that it is missing.
    pub(super) fn push_or_miss(
        &mut self,
        what: impl Into<String>,
        known: Option<(Span, Source)>,
        key: impl Into<String>,
    ) {
        match known {
            Some((span, source)) => self.push(what, span, source),
            None => self.missing.push(Missing { what: what.into(), key: key.into() }),
        }
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.terms.extend(other.terms);
        self.missing.extend(other.missing);
    }

    /// Takes over what another one misses, and none of its terms.
    pub(super) fn miss(&mut self, other: Self) {
        self.missing.extend(other.missing);
    }

    pub(super) fn total(&self) -> Span {
        self.terms.iter().fold(Span::default(), |sum, term| sum.plus(term.span))
    }

    pub(super) fn missing(&self) -> &[Missing] {
        &self.missing
    }

    pub(super) fn into_terms(self) -> Vec<Term> {
        self.terms
    }

    /// Whether it is longer than this, whatever the missing parts take: what is missing takes some time.
    pub(super) fn exceeds(&self, limit: Span) -> bool {
        let total = self.total();
        total > limit || (total == limit && !self.missing.is_empty())
    }

    /// What is left of a limit for everything but the first term.
    pub(super) fn left_of(&self, limit: Span) -> Option<Span> {
        let rest = self
            .terms
            .iter()
            .skip(1)
            .fold(Duration::ZERO, |sum, term| sum.saturating_add(term.span.duration()));
        let left = limit.duration().checked_sub(rest)?;
        // To the second, so that what is proposed can be written.
        (left.as_secs() > 0).then(|| Span::from_secs(left.as_secs()))
    }

    /// The names of what is missing: `takes and ships`.
    pub(super) fn says_missing(&self) -> String {
        let names: Vec<&str> = self.missing.iter().map(|missing| missing.what.as_str()).collect();
        listed(&names)
    }
}

/// `total: term + term`, or the one term alone.
impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", said(self.total()))?;
        for (n, term) in self.terms.iter().enumerate() {
            let plus = if n == 0 { "" } else { " + " };
            write!(f, "{plus}{term}")?;
        }
        if !self.missing.is_empty() {
            write!(f, ", and {}, which nobody has stated or measured", self.says_missing())?;
        }
        Ok(())
    }
}

/// So many of a list are named; the others are counted.
const NAMED: usize = 5;

/// `a, b and c`; of many only the first, and how many more.
pub(super) fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        _ if names.len() > NAMED => {
            format!("{} and {} more", names[..NAMED].join(", "), names.len() - NAMED)
        }
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Span {
        text.parse().unwrap()
    }

    #[test]
    fn a_sum_is_said_term_by_term() {
        let sum = Sum::default()
            .stated("every", span("24h"))
            .stated("takes", span("15m"))
            .stated("ships", span("5m"));
        assert_eq!(sum.to_string(), "1d20m: every 1d + takes 15m + ships 5m");
        assert!(sum.exceeds(span("1d19m")) && !sum.exceeds(span("1d20m")));
        assert_eq!(sum.left_of(span("1h")), Some(span("40m")));
        assert_eq!(sum.left_of(span("20m")), None);
    }

    #[test]
    fn what_is_missing_takes_some_time() {
        let mut sum = Sum::default().stated("every", span("1h"));
        sum.push_or_miss("takes", None, "datasets.x.protect.takes");
        assert!(sum.exceeds(span("1h")) && !sum.exceeds(span("61m")));
        assert_eq!(sum.to_string(), "1h: every 1h, and takes, which nobody has stated or measured");
    }

    #[test]
    fn long_lists_are_counted() {
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
        assert_eq!(listed(&["a"; 9]), "a, a, a, a, a and 4 more");
        assert_eq!(said(Span::new(Duration::MAX)), "without end");
    }
}
