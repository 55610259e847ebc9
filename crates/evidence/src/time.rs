//! Times in JSON, for `#[serde(with = …)]`: RFC 3339 in UTC.

use lifeboat_base::clock::Timestamp;
use serde::{Deserialize, Deserializer, Serializer, de};

/// Writes a time.
///
/// # Errors
/// Where the serializer fails.
pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

/// Reads a time.
///
/// # Errors
/// Where it is none, or one that a [`Timestamp`] cannot hold.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    read(&text).ok_or_else(|| de::Error::custom(format!("{text:?} is no time of RFC 3339")))
}

fn read(text: &str) -> Option<Timestamp> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    let time = Timestamp::from_jiff(instant);
    (time.to_jiff() == instant).then_some(time)
}

/// The same where there may be none.
pub mod option {
    use super::*;
    use serde::Serialize;

    #[derive(Serialize, Deserialize)]
    struct Time(#[serde(with = "super")] Timestamp);

    /// Writes a time, or that there is none.
    ///
    /// # Errors
    /// Where the serializer fails.
    pub fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(Time).serialize(serializer)
    }

    /// Reads a time, or that there is none.
    ///
    /// # Errors
    /// Where it is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<Time>::deserialize(deserializer)?.map(|time| time.0))
    }
}
