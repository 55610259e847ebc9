//! Amounts as people write them: `2.3GiB`, `100MiB/s`, `99.9%`.

use crate::span::Span;
use crate::text::text_schema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// So many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size: write it as \"500MB\" or \"2.3GiB\"");
        let text_in = text.trim();
        let (unit, factor) =
            UNITS.iter().find(|(unit, _)| text_in.ends_with(unit)).copied().ok_or_else(wrong)?;
        let number = text_in[..text_in.len() - unit.len()].trim();
        // Ten digits are more than any size needs, and are exact in a float.
        let is_plain = number.len() <= 10 && number.chars().all(|c| c.is_ascii_digit() || c == '.');
        let number: f64 = number.parse().ok().filter(|_| is_plain).ok_or_else(wrong)?;
        let bytes = (number * factor as f64).round();
        if bytes >= u64::MAX as f64 { Err(wrong()) } else { Ok(Self(bytes as u64)) }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = UNITS[..4].iter().find(|(_, factor)| self.0 >= *factor);
        match binary {
            Some((unit, factor)) if self.0.is_multiple_of(*factor) => write!(f, "{}{unit}", self.0 / factor),
            Some((unit, factor)) => write!(f, "{:.1}{unit}", self.0 as f64 / *factor as f64),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

text_schema!(Size, "Size", r"^\s*[0-9.]+\s*([KMGT]iB|[kMGT]B|B)\s*$", "A size: 500MB, 2.3GiB.");

/// So many bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(Size);

impl Rate {
    /// So many bytes a second, at least one.
    pub const fn bytes_per_second(self) -> u64 {
        self.0.0
    }

    /// How long so much takes.
    pub fn time_for(self, size: Size) -> Span {
        Span::new(Duration::from_millis((u128::from(size.0) * 1000 / u128::from(self.0.0)) as u64))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = text.trim().strip_suffix("/s").map(str::parse::<Size>);
        match size {
            Some(Ok(size)) if size.0 > 0 => Ok(Self(size)),
            _ => Err(format!("{text:?} is no rate: write it as \"100MiB/s\"")),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

text_schema!(Rate, "Rate", r"^\s*[0-9.]+\s*([KMGT]iB|[kMGT]B|B)/s\s*$", "A rate: 100MiB/s.");

/// A share of the time in which something must work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Availability {
    /// What may be missing, in millionths.
    missing_ppm: u32,
}

impl Availability {
    /// How long it may be away in so long.
    pub fn budget(self, within: Span) -> Span {
        let millis = within.duration().as_millis() * u128::from(self.missing_ppm) / 1_000_000;
        Span::new(Duration::from_millis(millis as u64))
    }
}

impl FromStr for Availability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no availability: write it as \"99.9%\"");
        let number = text.trim().strip_suffix('%').ok_or_else(wrong)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit());
        if whole.is_empty() || fraction.len() > 4 || !is_number(whole) || !is_number(fraction) {
            return Err(wrong());
        }
        let ppm: u32 = format!("{whole}{fraction:0<4}").parse().map_err(|_| wrong())?;
        let missing_ppm = 1_000_000_u32.checked_sub(ppm).filter(|_| ppm > 0).ok_or_else(wrong)?;
        Ok(Self { missing_ppm })
    }
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = 1_000_000 - self.missing_ppm;
        let text = format!("{}.{:04}", there / 10_000, there % 10_000);
        write!(f, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl TryFrom<String> for Availability {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Availability> for String {
    fn from(availability: Availability) -> Self {
        availability.to_string()
    }
}

text_schema!(
    Availability,
    "Availability",
    r"^\s*[0-9]{1,3}(\.[0-9]{1,4})?%\s*$",
    "A share of the time: 99.9%."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_are_read_and_said() {
        for (text, bytes) in [("500MB", 500_000_000), ("2.5GiB", 2_684_354_560), ("7B", 7), ("1 KiB", 1024)] {
            assert_eq!(text.parse::<Size>().unwrap().0, bytes, "{text}");
        }
        assert_eq!(Size(3 << 30).to_string(), "3GiB");
        assert_eq!(Size(500_000_000).to_string(), "476.8MiB");
        let rate: Rate = "100MiB/s".parse().unwrap();
        assert_eq!(rate.time_for(Size(1 << 30)).to_string(), "10s240ms");
        for text in ["", "5", "5XB", "-5MB", "1e9MB", "0MB/s", "5MB", "99999999999TiB"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_availability_leaves_a_budget() {
        let three: Availability = "99.9%".parse().unwrap();
        assert_eq!(three.budget("30d".parse().unwrap()).to_string(), "43m12s");
        assert_eq!(three.to_string(), "99.9%");
        assert_eq!("100%".parse::<Availability>().unwrap().budget(Span::from_secs(1000)), Span::default());
        for text in ["", "99.9", "101%", "0%", "-1%", "99.99999%", "%", "x%"] {
            assert!(text.parse::<Availability>().is_err(), "{text}");
        }
    }
}
