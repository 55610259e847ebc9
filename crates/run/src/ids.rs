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

/// A request's identity: when it was asked (nanoseconds since 1970, big-endian), then 8 random bytes. Whoever asks
/// keeps it when an answer was lost, so that a request stays one. Its order is that of asking as far as clocks agree,
/// and nothing else rests on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(pub [u8; 16]);

/// What is no identity of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no identity of a request: 32 hexadecimal digits")]
pub struct RequestIdError(String);

impl RequestId {
    /// A new one for what is asked now.
    pub fn new(now: Timestamp) -> Self {
        let asked = u64::try_from(now.as_nanos()).unwrap_or_default();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&asked.to_be_bytes());
        id[8..].copy_from_slice(&random::bytes::<8>());
        Self(id)
    }
}

impl FromStr for RequestId {
    type Err = RequestIdError;

    fn from_str(text: &str) -> Result<Self, RequestIdError> {
        hex::decode(text).map(Self).ok_or_else(|| RequestIdError(text.to_owned()))
    }
}

impl TryFrom<String> for RequestId {
    type Error = RequestIdError;

    fn try_from(text: String) -> Result<Self, RequestIdError> {
        text.parse()
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
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

    #[test]
    fn what_is_asked_later_comes_later_and_reads_back() {
        let at = |secs| RequestId::new(Timestamp::from_secs(secs));
        assert!(at(1) < at(2) && at(200) < at(1_800_000_000));
        assert_ne!(at(1), at(1));
        assert!(RequestId::new(Timestamp::from_secs(-1)) < at(1));
        assert_eq!(at(7).to_string().parse::<RequestId>().map(|id| id.to_string().len()), Ok(32));
        for text in ["", "0A0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a", &"0".repeat(31), &"0".repeat(33)] {
            assert!(text.parse::<RequestId>().is_err(), "{text}");
        }
    }
}
