//! Whether a component is up: so many failures in a row make it down, so many successes up.
//!
//! Thresholds and window as operators know them (3 failures, 2 successes, 10 latencies). Owns the one transition
//! function; deliberately knows nothing of how a component is checked, or when.

use crate::time::age;
use lifeboat_base::clock::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

/// What is known of a component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not checked often enough to tell, or not for too long.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

impl Status {
    /// The word for it, as metrics and JSON have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// What a component is after the checks in a row that end with the newest one.
    fn next(self, row: Row, settings: &Settings) -> Self {
        match row {
            Row::Failures(n) if n >= settings.failures_down.get() => Self::Down,
            Row::Successes(n) if n >= settings.successes_up.get() => Self::Up,
            _ => self,
        }
    }
}

/// How many checks in a row said the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Successes(u32),
    Failures(u32),
}

impl Row {
    fn and(self, succeeded: bool) -> Self {
        match (self, succeeded) {
            (Self::Successes(n), true) => Self::Successes(n.saturating_add(1)),
            (Self::Failures(n), false) => Self::Failures(n.saturating_add(1)),
            (_, true) => Self::Successes(1),
            (_, false) => Self::Failures(1),
        }
    }
}

/// When a component counts as down, as up, and as unknown again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Failures in a row that make it down.
    pub failures_down: NonZeroU32,
    /// Successes in a row that make it up.
    pub successes_up: NonZeroU32,
    /// How many latencies are remembered.
    pub latencies: NonZeroUsize,
    /// After so long without a check nothing is known any more.
    pub stale_after: Duration,
}

impl Default for Settings {
    /// 3 failures, 2 successes, 10 latencies; stale after three checks of the usual 30 seconds were missed.
    fn default() -> Self {
        Self {
            failures_down: NonZeroU32::MIN.saturating_add(2),
            successes_up: NonZeroU32::MIN.saturating_add(1),
            latencies: NonZeroUsize::MIN.saturating_add(9),
            stale_after: Duration::from_secs(90),
        }
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The component answered, after so long.
    Success(Duration),
    /// It did not; why, in words without a secret.
    Failure(String),
}

/// A component became something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it was.
    pub from: Status,
    /// What it is.
    pub to: Status,
    /// By the check of this instant.
    pub at: Timestamp,
}

impl Change {
    /// Whether it is up again after it was down; the first time up is no recovery.
    pub fn is_recovery(&self) -> bool {
        (self.from, self.to) == (Status::Down, Status::Up)
    }
}

/// The checks of one component.
#[derive(Clone, Debug)]
pub struct Checker {
    settings: Settings,
    status: Status,
    row: Row,
    since: Option<Timestamp>,
    checked: Option<Timestamp>,
    latencies: VecDeque<Duration>,
    failure: Option<String>,
}

impl Checker {
    /// A component that was never checked.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            status: Status::Unknown,
            row: Row::Successes(0),
            since: None,
            checked: None,
            latencies: VecDeque::with_capacity(settings.latencies.get()),
            failure: None,
        }
    }

    /// Takes one check in; what it changed, if anything.
    pub fn record(&mut self, outcome: Outcome, at: Timestamp) -> Option<Change> {
        self.checked = Some(at);
        self.row = self.row.and(matches!(outcome, Outcome::Success(_)));
        match outcome {
            Outcome::Success(latency) => self.remember(latency),
            Outcome::Failure(why) => self.failure = Some(why),
        }
        let (from, to) = (self.status, self.status.next(self.row, &self.settings));
        self.status = to;
        (from != to).then(|| {
            self.since = Some(at);
            Change { from, to, at }
        })
    }

    fn remember(&mut self, latency: Duration) {
        if self.latencies.len() >= self.settings.latencies.get() {
            self.latencies.pop_front();
        }
        self.latencies.push_back(latency);
        self.failure = None;
    }

    /// What is known of the component now. A check that lies in the future, or too far back, says nothing.
    pub fn status(&self, now: Timestamp) -> Status {
        match self.checked.map(|checked| age(checked, now)) {
            Some(Ok(age)) if age <= self.settings.stale_after => self.status,
            _ => Status::Unknown,
        }
    }

    /// Since when it is what it was last found to be.
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Failures in a row, zero where the last check succeeded.
    pub fn failures(&self) -> u32 {
        match self.row {
            Row::Failures(n) => n,
            Row::Successes(_) => 0,
        }
    }

    /// Why the last check failed, if it did.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The middle one of the remembered latencies.
    pub fn latency(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) / 2).copied()
    }

    /// The longest of them.
    pub fn latency_max(&self) -> Option<Duration> {
        self.latencies.iter().max().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Outcome = Outcome::Success(Duration::from_millis(5));

    fn fail() -> Outcome {
        Outcome::Failure("refused".to_owned())
    }

    fn after(outcomes: &str) -> (Status, Vec<Change>) {
        let mut checker = Checker::new(Settings::default());
        let mut changes = Vec::new();
        for (at, outcome) in outcomes.chars().enumerate() {
            let outcome = if outcome == 's' { S } else { fail() };
            changes.extend(checker.record(outcome, Timestamp::from_secs(at as i64)));
        }
        (checker.status(Timestamp::from_secs(outcomes.len() as i64)), changes)
    }

    #[test]
    fn three_failures_make_it_down_and_two_successes_up() {
        for (outcomes, status, changes) in [
            ("", Status::Unknown, 0),
            ("s", Status::Unknown, 0),
            ("ff", Status::Unknown, 0),
            ("ss", Status::Up, 1),
            ("fff", Status::Down, 1),
            ("ssff", Status::Up, 1),
            ("ssffsff", Status::Up, 1),
            ("ssfff", Status::Down, 2),
            ("ssfffs", Status::Down, 2),
            ("ssfffsfs", Status::Down, 2),
            ("ssfffss", Status::Up, 3),
        ] {
            let (found, seen) = after(outcomes);
            assert_eq!((found, seen.len()), (status, changes), "{outcomes}");
        }
    }

    #[test]
    fn only_what_was_down_recovers() {
        let recoveries = |outcomes| after(outcomes).1.iter().filter(|c| c.is_recovery()).count();
        assert_eq!((recoveries("ss"), recoveries("ssfff"), recoveries("fffss")), (0, 0, 1));
        let last = after("ssfff").1[1];
        assert_eq!((last.from, last.to, last.at), (Status::Up, Status::Down, Timestamp::from_secs(4)));
    }

    #[test]
    fn thresholds_are_as_set() {
        let one = NonZeroU32::MIN;
        let mut checker =
            Checker::new(Settings { failures_down: one, successes_up: one, ..Settings::default() });
        let at = Timestamp::from_secs(1);
        assert_eq!(checker.record(S, at).unwrap().to, Status::Up);
        assert_eq!(checker.record(fail(), at).unwrap().to, Status::Down);
        assert_eq!((checker.failures(), checker.failure()), (1, Some("refused")));
        assert_eq!(checker.record(S, at).unwrap().to, Status::Up);
        assert_eq!((checker.failures(), checker.failure()), (0, None));
    }

    #[test]
    fn what_nobody_checks_is_unknown_again_and_so_is_a_check_in_the_future() {
        let mut checker = Checker::new(Settings::default());
        for at in [100, 101] {
            checker.record(S, Timestamp::from_secs(at));
        }
        for (now, status) in
            [(101, Status::Up), (191, Status::Up), (192, Status::Unknown), (50, Status::Unknown)]
        {
            assert_eq!(checker.status(Timestamp::from_secs(now)), status, "{now}");
        }
    }

    #[test]
    fn the_newest_ten_latencies_count() {
        let mut checker = Checker::new(Settings::default());
        assert_eq!((checker.latency(), checker.latency_max()), (None, None));
        for millis in [1000, 900, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10] {
            checker.record(Outcome::Success(Duration::from_millis(millis)), Timestamp::default());
        }
        let millis = |n| Some(Duration::from_millis(n));
        assert_eq!((checker.latency(), checker.latency_max()), (millis(5), millis(10)));
    }
}
