//! The server's clock, as its log has it.

use lifeboat_base::clock::Timestamp;
use std::fmt;

/// Seconds from 1970 to 2000, where PostgreSQL's count begins.
const EPOCH_UNIX_SECONDS: i64 = 946_684_800;

/// An instant of the server's clock: microseconds since 2000-01-01T00:00:00Z. Commits are not ordered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgTime(pub i64);

impl PgTime {
    /// An instant from seconds since 1970, saturating.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_sub(EPOCH_UNIX_SECONDS).saturating_mul(1_000_000))
    }

    /// An instant of our clock, rounded down to microseconds.
    pub const fn from_timestamp(timestamp: Timestamp) -> Self {
        let micros = timestamp.as_nanos().div_euclid(1000);
        Self(micros.saturating_sub(EPOCH_UNIX_SECONDS * 1_000_000))
    }

    /// The same instant of our clock, saturating to what it can say (1677 to 2262).
    pub const fn to_timestamp(self) -> Timestamp {
        let micros = self.0.saturating_add(EPOCH_UNIX_SECONDS * 1_000_000);
        Timestamp::from_nanos(micros.saturating_mul(1000))
    }
}

/// RFC 3339 in UTC.
impl fmt::Display for PgTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_timestamp().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_begins_in_2000() {
        assert_eq!(PgTime(0).to_string(), "2000-01-01T00:00:00Z");
        assert_eq!(PgTime(-1).to_string(), "1999-12-31T23:59:59.999999Z");
        assert_eq!(PgTime::from_unix_seconds(EPOCH_UNIX_SECONDS + 1), PgTime(1_000_000));
        assert_eq!(PgTime::from_timestamp(PgTime(123_456_789).to_timestamp()), PgTime(123_456_789));
        assert_eq!(
            PgTime::from_timestamp(Timestamp::from_nanos(EPOCH_UNIX_SECONDS * 1_000_000_000 - 1)),
            PgTime(-1)
        );
        let _ = PgTime(i64::MAX).to_string();
        let _ = PgTime::from_unix_seconds(i64::MIN);
    }
}
