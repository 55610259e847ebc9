//! Lengths of time as people write them: `15m`, `1h30m`, `100ms`, `15m..30m`.

use crate::text::text_schema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const UNITS: [(&str, u64); 6] = [
    ("w", 7 * 24 * 60 * 60 * 1000),
    ("d", 24 * 60 * 60 * 1000),
    ("h", 60 * 60 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];

/// A length of time, exact to the millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

impl Span {
    /// So long.
    pub const fn new(length: Duration) -> Self {
        Self(length)
    }

    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As the standard library has it.
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// Both, one after the other; the longest there is where that is longer.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// So many times as long.
    #[must_use]
    pub const fn times(self, count: u32) -> Self {
        Self(self.0.saturating_mul(count))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        // Weeks are written and not printed: ninety days are said as such.
        for (unit, millis) in &UNITS[1..] {
            let count = left / millis;
            if count > 0 {
                write!(f, "{count}{unit}")?;
                left -= count * millis;
            }
        }
        Ok(())
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no length of time: write it as \"90s\", \"15m\", \"1h30m\" or \"7d\"");
        let (mut rest, mut total) = (text.trim(), 0_u64);
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (unit, tail) = tail.split_at(letters);
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let (_, millis) = UNITS.iter().find(|(known, _)| *known == unit).ok_or_else(wrong)?;
            total = number.checked_mul(*millis).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
            rest = tail;
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

text_schema!(Span, "Span", r"^\s*([0-9]+(ms|s|m|h|d|w))+\s*$", "A length of time: 90s, 15m, 1h30m, 7d.");

/// What a step takes: one length, or the least and the most that was stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Takes {
    /// At the least.
    pub least: Span,
    /// At the most.
    pub most: Span,
}

impl FromStr for Takes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let takes = Self { least: least.parse()?, most: most.parse()? };
        if takes.least > takes.most {
            return Err(format!("{text:?} is no range: {} is more than {}", takes.least, takes.most));
        }
        Ok(takes)
    }
}

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.least == self.most {
            return write!(f, "{}", self.most);
        }
        write!(f, "{}..{}", self.least, self.most)
    }
}

impl TryFrom<String> for Takes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Takes> for String {
    fn from(takes: Takes) -> Self {
        takes.to_string()
    }
}

text_schema!(
    Takes,
    "Takes",
    r"^\s*([0-9]+(ms|s|m|h|d|w))+\s*(\.\.\s*([0-9]+(ms|s|m|h|d|w))+\s*)?$",
    "What something takes: 15m, or between two lengths: 15m..30m."
);

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Span {
        text.parse().unwrap()
    }

    #[test]
    fn lengths_are_read_and_said_as_people_write_them() {
        for (text, seconds) in
            [("90s", 90), ("15m", 900), ("1h30m", 5400), ("7d", 604_800), ("2w", 1_209_600)]
        {
            assert_eq!(span(text).duration(), Duration::from_secs(seconds), "{text}");
        }
        assert_eq!(span("100ms").duration(), Duration::from_millis(100));
        for (text, said) in
            [("90s", "1m30s"), ("24h", "1d"), ("0s", "0s"), ("2w", "14d"), ("1500ms", "1s500ms")]
        {
            assert_eq!(span(text).to_string(), said);
            assert_eq!(span(said), span(text));
        }
    }

    #[test]
    fn what_is_no_length_is_refused_with_an_example() {
        for text in
            ["", "15", "m", "1 h", "-1h", "1.5h", "1y", "99999999999999999999s", "999999999999999999w"]
        {
            let error = text.parse::<Span>().unwrap_err();
            assert!(error.contains("1h30m"), "{text}: {error}");
        }
    }

    #[test]
    fn a_range_has_its_ends_in_order() {
        let takes: Takes = "15m..30m".parse().unwrap();
        assert_eq!((takes.least, takes.most), (span("15m"), span("30m")));
        assert_eq!(takes.to_string(), "15m..30m");
        assert_eq!("15m".parse::<Takes>().unwrap().to_string(), "15m");
        assert!("30m..15m".parse::<Takes>().unwrap_err().contains("is more than"));
        assert!("15m..".parse::<Takes>().is_err());
    }
}
