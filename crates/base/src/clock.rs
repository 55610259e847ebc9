//! The time, asked in one place so that a test can move it.
//!
//! Wall time names instants for people; it may jump, so no rule of safety rests on it. Monotonic time only
//! says how long something took.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// An instant of wall time in nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// An instant from nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// An instant from whole seconds since the epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// How long after `earlier` this is; zero where it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This instant moved forward, saturating.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// This instant moved back, saturating.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// The calendar's view of this instant.
    pub fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// An instant of the calendar, saturating to what 64 bits of nanoseconds can hold (1677 to 2262).
    pub fn from_jiff(timestamp: jiff::Timestamp) -> Self {
        let nanos = timestamp.as_nanosecond();
        Self(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
    }
}

/// RFC 3339 in UTC, with as many fractional digits as there are.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_jiff().fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the time comes from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's own clock.
    #[default]
    System,
    /// A clock that only a test moves.
    Manual(ManualClock),
}

impl Clock {
    /// The present instant of wall time.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let now = std::time::SystemTime::now();
                match now.duration_since(std::time::SystemTime::UNIX_EPOCH) {
                    Ok(since) => Timestamp::default().plus(since),
                    Err(before) => Timestamp::default().minus(before.duration()),
                }
            }
            Self::Manual(manual) => Timestamp(manual.0.load(Ordering::SeqCst)),
        }
    }
}

/// A clock that stands still until it is told to move. Clones share the same time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(now.0)))
    }

    /// Sets the time, also backwards.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }

    /// Moves the time forward.
    pub fn advance(&self, by: Duration) {
        self.set(Timestamp(self.0.load(Ordering::SeqCst)).plus(by));
    }
}

/// Measures how long something took, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let manual = ManualClock::at(Timestamp::from_secs(100));
        let clock = Clock::Manual(manual.clone());
        assert_eq!(clock.now(), Timestamp::from_secs(100));
        manual.advance(Duration::from_millis(1500));
        assert_eq!(clock.now().to_string(), "1970-01-01T00:01:41.5Z");
        manual.set(Timestamp::from_secs(5));
        assert_eq!(clock.now().since(Timestamp::from_secs(9)), Duration::ZERO);
    }

    #[test]
    fn instants_before_the_epoch_round_down() {
        assert_eq!(Timestamp::from_nanos(-1).as_secs(), -1);
        assert_eq!(Timestamp::from_secs(0).minus(Duration::from_nanos(1)), Timestamp::from_nanos(-1));
    }
}
