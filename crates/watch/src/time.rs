//! Ages, and how times and durations are written into a report. Owns the one answer to a clock that jumped.

use lifeboat_base::clock::Timestamp;
use std::time::Duration;

/// How far ahead of the judging clock an instant may lie: clocks of several hosts are kept together within this, or
/// nothing that one says can be judged by another.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// How old something is, or by how much it lies in the future: no age at all can then be told.
pub(crate) fn age(of: Timestamp, now: Timestamp) -> Result<Duration, Duration> {
    let ahead = of.since(now);
    if ahead > CLOCK_TOLERANCE { Err(ahead) } else { Ok(now.since(of)) }
}

/// Seconds to the millisecond: as exactly as anything here is known.
pub(crate) fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}

/// A duration as people read it: `0.4s`, `12s`, `3m 20s`, `5h 7m`, `2d 4h`.
pub(crate) fn words(duration: Duration) -> String {
    let whole = duration.as_secs();
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match whole {
        0 if duration.is_zero() => "0s".to_owned(),
        0..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{whole}s"),
        60..3600 => format!("{minutes}m {}s", whole % 60),
        3600..86_400 => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// The same of seconds in a report.
pub(crate) fn words_of(seconds: f64) -> String {
    words(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// Instants as RFC 3339 in UTC.
pub(crate) mod rfc3339 {
    use super::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(at)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Timestamp::from_jiff).map_err(D::Error::custom)
    }

    /// The same where there may be none.
    pub(crate) mod optional {
        use super::Timestamp;
        use serde::{Deserialize, Deserializer, Serializer, de::Error};

        pub(crate) fn serialize<S: Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => to.collect_str(at),
                None => to.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
            let text = Option::<String>::deserialize(from)?;
            text.map(|text| text.parse().map(Timestamp::from_jiff).map_err(D::Error::custom)).transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ahead_has_no_age() {
        let now = Timestamp::from_secs(1000);
        assert_eq!(age(Timestamp::from_secs(990), now), Ok(Duration::from_secs(10)));
        assert_eq!(age(now.plus(CLOCK_TOLERANCE), now), Ok(Duration::ZERO));
        assert_eq!(age(Timestamp::from_secs(1060), now), Err(Duration::from_secs(60)));
    }

    #[test]
    fn durations_are_read_by_people() {
        for (millis, text) in [
            (0, "0s"),
            (400, "0.4s"),
            (9_940, "9.9s"),
            (12_900, "12s"),
            (200_000, "3m 20s"),
            (18_420_000, "5h 7m"),
            (187_200_000, "2d 4h"),
        ] {
            assert_eq!(words(Duration::from_millis(millis)), text);
        }
        assert_eq!(words_of(f64::NAN), "0s");
    }
}
