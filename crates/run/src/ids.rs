//! Names of runs and numbers of whoever executes them.

use lifeboat_base::clock::Timestamp;
use lifeboat_base::{hex, random};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A run's name: when it was begun, in UTC, and four random bytes: `20261122t184800z-0a1b2c3d`. It is a folder's
/// name as well, and names sort by age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// What is no name of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a run: lower-case letters, digits and hyphens, at most 64")]
pub struct RunIdError(String);

impl RunId {
    /// A new name for a run that begins now.
    pub fn new(now: Timestamp) -> Self {
        let begun = now.to_jiff().strftime("%Y%m%dt%H%M%Sz").to_string();
        Self(format!("{begun}-{}", hex::encode(&random::bytes::<4>())))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, RunIdError> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_sound = (1..=64).contains(&text.len()) && text.chars().all(is_plain);
        if is_sound { Ok(Self(text.to_owned())) } else { Err(RunIdError(text.to_owned())) }
    }
}

impl TryFrom<String> for RunId {
    type Error = RunIdError;

    fn try_from(text: String) -> Result<Self, RunIdError> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of whoever executes a run: 1 for who began it, one more for each takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl Generation {
    /// Of who began.
    pub const FIRST: Self = Self(1);

    /// Of the next who takes over.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_plain_folder_and_reads_back() {
        let id = RunId::new(Timestamp::from_secs(1_800_000_000));
        assert!(id.as_str().starts_with("20270115t080000z-"), "{id}");
        assert_eq!(id.as_str().parse::<RunId>().unwrap(), id);
        for text in ["", "..", "a/b", "A", &"a".repeat(65)] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
    }
}
