//! The time that a run goes by: it never goes back.

use lifeboat_base::clock::{Clock, Stopwatch, Timestamp};
pub(crate) use lifeboat_evidence::time::{deserialize, option, serialize};

/// The time of a run: the machine's clock, but never before what the journal has seen, however the clock is set.
/// What has expired stays expired.
#[derive(Debug)]
pub(crate) struct RunTime {
    clock: Clock,
    latest: Timestamp,
    since: Stopwatch,
}

impl RunTime {
    /// Goes on from the latest time that a journal has.
    pub(crate) fn after(clock: Clock, latest: Timestamp) -> Self {
        Self { clock, latest, since: Stopwatch::start() }
    }

    /// The present time. Where the clock was set back it goes on by what has passed since.
    pub(crate) fn now(&mut self) -> Timestamp {
        let passed = match self.clock {
            Clock::System => self.since.elapsed(),
            Clock::Manual(_) => std::time::Duration::ZERO,
        };
        self.latest = self.clock.now().max(self.latest.plus(passed));
        self.since = Stopwatch::start();
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_base::clock::ManualClock;

    #[test]
    fn a_clock_that_is_set_back_does_not_take_the_run_back() {
        let manual = ManualClock::at(Timestamp::from_secs(100));
        let mut time = RunTime::after(Clock::Manual(manual.clone()), Timestamp::from_secs(90));
        assert_eq!(time.now(), Timestamp::from_secs(100));
        manual.set(Timestamp::from_secs(5));
        assert_eq!(time.now(), Timestamp::from_secs(100));
        manual.set(Timestamp::from_secs(101));
        assert_eq!(time.now(), Timestamp::from_secs(101));
    }

    #[test]
    fn a_journal_of_the_future_is_gone_on_from_and_time_still_passes() {
        let future = Clock::System.now().plus(std::time::Duration::from_secs(86_400));
        let mut time = RunTime::after(Clock::System, future);
        let first = time.now();
        let passed = Stopwatch::start();
        while passed.elapsed().as_micros() < 50 {}
        assert!(first >= future && time.now() > first);
    }
}
