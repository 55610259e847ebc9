//! Retention: which snapshots of a dataset to keep, by the table in docs/retention.md.
//!
//! Always the newest `at_least`; the newest `versions`; of each of the last so many hours, days, weeks, months and
//! years *that have a snapshot* the newest one (calendar periods in UTC, weeks from Monday); everything younger than
//! `days`; and everything younger than the `window`, with the one before, from which the window's log starts.
//! Younger than a length of time is what is not as old: what is exactly as old is not. What was taken in the future
//! by the clock that is asked is younger than anything.
//!
//! This module decides; it forgets nothing itself, and knows nothing of what snapshots contain.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use lifeboat_base::clock::Timestamp;
use lifeboat_plan::Retain;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

#[cfg(test)]
pub(crate) mod model;

/// Why a snapshot is kept; no reason: it goes.
pub type Reasons = Vec<&'static str>;

/// The reason of what the window keeps.
pub const WINDOW: &str = "window";

/// Says for each snapshot, in the order given, why it is kept at an instant. `taken` need not be sorted; of two of one
/// instant the later in the order counts as the newer.
pub fn decide(taken: &[Timestamp], retain: &Retain, now: Timestamp) -> Vec<Reasons> {
    let mut decision = Decision::new(taken);
    decision.newest("at-least", retain.at_least.map_or(1, |n| n.get()));
    decision.newest_of_each("hourly", retain.hourly, hour);
    decision.newest_of_each("daily", retain.daily, day);
    decision.newest_of_each("weekly", retain.weekly, week);
    decision.newest_of_each("monthly", retain.monthly, month);
    decision.newest_of_each("yearly", retain.yearly, year);
    if retain.days > 0 {
        decision.younger_than("days", now.minus(days(retain.days)));
    }
    decision.newest("versions", retain.versions);
    if let Some(start) = window_start(retain, now) {
        decision.younger_than(WINDOW, start);
        decision.newest_before(WINDOW, start);
    }
    decision.reasons
}

/// Where the window begins: every point behind it can be had.
pub fn window_start(retain: &Retain, now: Timestamp) -> Option<Timestamp> {
    retain.window.map(|window| now.minus(window.duration()))
}

fn days(count: u32) -> Duration {
    Duration::from_hours(24 * u64::from(count))
}

struct Decision<'t> {
    taken: &'t [Timestamp],
    newest_first: Vec<usize>,
    reasons: Vec<Reasons>,
}

impl<'t> Decision<'t> {
    fn new(taken: &'t [Timestamp]) -> Self {
        let mut newest_first: Vec<usize> = (0..taken.len()).collect();
        newest_first.sort_by_key(|n| Reverse((taken[*n], *n)));
        Self { taken, newest_first, reasons: vec![Vec::new(); taken.len()] }
    }

    fn newest(&mut self, rule: &'static str, count: u32) {
        for n in self.newest_first.iter().take(count as usize) {
            self.reasons[*n].push(rule);
        }
    }

    fn newest_of_each(&mut self, rule: &'static str, count: u32, period: fn(Timestamp) -> (Date, i8)) {
        let mut kept = BTreeSet::new();
        for n in &self.newest_first {
            if kept.len() >= count as usize {
                break;
            }
            if kept.insert(period(self.taken[*n])) {
                self.reasons[*n].push(rule);
            }
        }
    }

    fn younger_than(&mut self, rule: &'static str, start: Timestamp) {
        for n in self.newest_first.iter().take_while(|n| self.taken[**n] > start) {
            self.reasons[*n].push(rule);
        }
    }

    /// One of the very instant serves as well as one before it.
    fn newest_before(&mut self, rule: &'static str, start: Timestamp) {
        if let Some(n) = self.newest_first.iter().find(|n| self.taken[**n] <= start) {
            self.reasons[*n].push(rule);
        }
    }
}

fn day(time: Timestamp) -> (Date, i8) {
    (time.to_jiff().to_zoned(TimeZone::UTC).date(), 0)
}

fn hour(time: Timestamp) -> (Date, i8) {
    let zoned = time.to_jiff().to_zoned(TimeZone::UTC);
    (zoned.date(), zoned.hour())
}

fn week(time: Timestamp) -> (Date, i8) {
    let date = day(time).0;
    let since_monday = i64::from(date.weekday().to_monday_zero_offset());
    (date.saturating_sub(jiff::Span::new().days(since_monday)), 0)
}

fn month(time: Timestamp) -> (Date, i8) {
    (day(time).0.first_of_month(), 0)
}

fn year(time: Timestamp) -> (Date, i8) {
    (day(time).0.first_of_year(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_plan::Span;
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(text: &str) -> Timestamp {
        Timestamp::from_jiff(text.parse().unwrap())
    }

    fn hours(count: u64) -> Vec<Timestamp> {
        let start = at("2026-01-01T00:30:00Z");
        (0..count).map(|n| start.plus(Duration::from_hours(n))).collect()
    }

    /// What is kept when the newest has just been taken.
    fn kept(taken: &[Timestamp], retain: &Retain) -> Vec<String> {
        let now = taken.iter().copied().max().unwrap_or_default();
        let reasons = decide(taken, retain, now);
        let kept = taken.iter().zip(reasons).filter(|(_, reasons)| !reasons.is_empty());
        kept.map(|(time, reasons)| format!("{time} {}", reasons.join(","))).collect()
    }

    fn by(rule: &str, taken: &[Timestamp], retain: &Retain, now: Timestamp) -> Vec<bool> {
        decide(taken, retain, now).iter().map(|reasons| reasons.contains(&rule)).collect()
    }

    #[test]
    fn the_newest_of_each_period_is_kept() {
        let retain = Retain { hourly: 2, daily: 3, weekly: 2, monthly: 2, yearly: 2, ..Retain::default() };
        assert_eq!(
            kept(&hours(24 * 40), &retain),
            [
                "2026-01-31T23:30:00Z monthly",
                "2026-02-07T23:30:00Z daily",
                "2026-02-08T23:30:00Z daily,weekly",
                "2026-02-09T22:30:00Z hourly",
                "2026-02-09T23:30:00Z at-least,hourly,daily,weekly,monthly,yearly",
            ]
        );
        let years = [at("2023-12-31T23:59:59Z"), at("2024-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")];
        assert_eq!(by("yearly", &years, &retain, years[2]), [false, true, true]);
    }

    #[test]
    fn at_least_so_many_stay_whatever_their_age() {
        let retain = Retain { at_least: NonZeroU32::new(3), ..Retain::default() };
        assert_eq!(kept(&hours(10), &retain).len(), 3);
        assert_eq!(kept(&hours(10), &Retain::default()).len(), 1, "never none");
        assert!(decide(&[], &retain, at("2026-01-01T00:00:00Z")).is_empty());
        let versions = Retain { versions: 4, ..retain };
        assert_eq!(kept(&hours(10), &versions).len(), 4);
    }

    #[test]
    fn periods_without_a_snapshot_do_not_count() {
        let day = |n: i64| Timestamp::from_secs(1_800_000_000 + n * 86_400);
        let retain = Retain { daily: 3, ..Retain::default() };
        let taken = [day(0), day(30), day(31), day(90)];
        assert_eq!(by("daily", &taken, &retain, day(90)), [false, true, true, true]);
    }

    #[test]
    fn what_is_exactly_as_old_is_not_younger() {
        let now = at("2026-03-01T12:00:00Z");
        let edge = now.minus(2 * 24 * HOUR);
        let taken = [edge.minus(HOUR), edge, edge.plus(Duration::from_nanos(1)), now, now.plus(HOUR)];
        let retain = Retain { days: 2, ..Retain::default() };
        assert_eq!(by("days", &taken, &retain, now), [false, false, true, true, true]);
        assert_eq!(by("days", &taken, &Retain::default(), now), [false; 5], "no days: no rule");
    }

    #[test]
    fn the_window_starts_from_the_snapshot_before_it() {
        let now = at("2026-03-01T12:00:00Z");
        let start = now.minus(24 * HOUR);
        let retain = Retain { window: Some(Span::new(24 * HOUR)), ..Retain::default() };
        let nano = Duration::from_nanos(1);
        let before = [start.minus(2 * HOUR), start.minus(nano), start.plus(nano), now];
        assert_eq!(by(WINDOW, &before, &retain, now), [false, true, true, true]);
        // One of that very instant serves as well.
        let sharp = [start.minus(nano), start, start, start.plus(nano)];
        assert_eq!(by(WINDOW, &sharp, &retain, now), [false, false, true, true]);
        let all_old = [start.minus(9 * HOUR), start.minus(3 * HOUR)];
        assert_eq!(by(WINDOW, &all_old, &retain, now), [false, true]);
        assert_eq!(by(WINDOW, &[now], &retain, now), [true]);
        assert_eq!(window_start(&Retain::default(), now), None);
    }

    #[test]
    fn the_examples_of_the_document_are_so() {
        let now = at("2027-02-05T00:00:00Z");
        let every = |begin: &str, step: Duration, count: u32| -> Vec<Timestamp> {
            (0..count).map(|n| at(begin).plus(n * step)).collect()
        };
        let rules = Retain { daily: 7, weekly: 4, monthly: 12, ..Retain::default() };
        let hourly = decide(&every("2026-01-01T00:00:00Z", HOUR, 9600), &Retain { hourly: 24, ..rules }, now);
        let first_by = |rule: &str| {
            let by_it =
                |reasons: &&Reasons| reasons.iter().find(|reason| **reason != "at-least") == Some(&rule);
            hourly.iter().filter(by_it).count()
        };
        assert_eq!(["hourly", "daily", "weekly", "monthly"].map(first_by), [24, 6, 2, 10]);
        assert_eq!(hourly.iter().filter(|reasons| !reasons.is_empty()).count(), 42);
        let window = Retain { window: Some(Span::new(7 * 24 * HOUR)), ..rules };
        let bases = every("2026-01-01T01:00:00Z", 24 * HOUR, 400);
        let kept: Vec<Timestamp> = bases
            .iter()
            .zip(decide(&bases, &window, now))
            .filter(|(_, reasons)| !reasons.is_empty())
            .map(|(time, _)| *time)
            .collect();
        assert_eq!(kept.len(), 20);
        let older = kept.iter().filter(|time| **time < at("2027-01-28T01:00:00Z"));
        assert_eq!((older.count(), kept[0]), (12, at("2026-03-31T01:00:00Z")));
        assert!(kept.contains(&at("2027-01-28T01:00:00Z")));
    }

    #[test]
    fn lengths_beyond_the_calendar_keep_everything() {
        let forever = Span::from_secs(u64::MAX / 1000);
        let retain = Retain { days: u32::MAX, window: Some(forever), hourly: u32::MAX, ..Retain::default() };
        assert_eq!(kept(&hours(5), &retain).len(), 5);
    }

    #[test]
    fn the_order_of_snapshots_changes_nothing() {
        let retain = Retain { hourly: 2, daily: 2, days: 1, versions: 2, ..Retain::default() };
        let (forward, now) = (hours(70), hours(70)[69]);
        let mut backward = forward.clone();
        backward.reverse();
        let mut reversed = decide(&backward, &retain, now);
        reversed.reverse();
        assert_eq!(decide(&forward, &retain, now), reversed);
    }

    fn any_rules() -> impl Strategy<Value = Retain> {
        let counts = (0_u32..40, 0_u32..20, 0_u32..8, 0_u32..8, 0_u32..4, 0_u32..60);
        let others = (0_u32..12, 0_u32..9, proptest::option::of(0_u64..5_000_000));
        (counts, others).prop_map(|(counts, (versions, at_least, window))| {
            let (hourly, daily, weekly, monthly, yearly, days) = counts;
            let (at_least, window) = (NonZeroU32::new(at_least), window.map(Span::from_secs));
            Retain { hourly, daily, weekly, monthly, yearly, days, versions, at_least, window }
        })
    }

    /// Seconds between snapshots: of one instant, minutes, hours, and weeks of silence.
    fn any_gaps() -> impl Strategy<Value = Vec<u64>> {
        let gap = prop_oneof![Just(0_u64), 1..4000_u64, Just(3600), Just(86_400), 80_000..3_000_000_u64];
        proptest::collection::vec(gap, 0..120)
    }

    /// From an instant on which every period begins or ends somewhere near.
    fn after_gaps(begin: i64, gaps: &[u64]) -> Vec<Timestamp> {
        let mut time = Timestamp::from_secs(begin);
        let next = |gap: &u64| {
            time = time.plus(Duration::from_secs(*gap));
            time
        };
        gaps.iter().map(next).collect()
    }

    fn places(reasons: &[Reasons]) -> BTreeSet<usize> {
        reasons.iter().enumerate().filter(|(_, reasons)| !reasons.is_empty()).map(|(n, _)| n).collect()
    }

    proptest! {
        #[test]
        fn every_rule_is_what_the_table_says(
            retain in any_rules(),
            gaps in any_gaps(),
            begin in -200_000_000_i64..2_000_000_000,
            later in 0_u64..4_000_000,
        ) {
            let taken = after_gaps(begin, &gaps);
            let now = taken.last().map_or_else(Timestamp::default, |last| last.plus(Duration::from_secs(later)));
            let kept = places(&decide(&taken, &retain, now));
            prop_assert_eq!(&kept, &model::kept(&taken, &retain, now));
            let at_least = retain.at_least.map_or(1, |n| n.get() as usize);
            prop_assert!(kept.len() >= at_least.min(taken.len()));
        }

        /// However often and whenever it is pruned: what is there is what the table keeps of all that ever was.
        #[test]
        fn pruning_more_often_keeps_no_less(
            retain in any_rules(),
            gaps in any_gaps(),
            begin in -200_000_000_i64..2_000_000_000,
            pruned in proptest::collection::vec(any::<bool>(), 120),
        ) {
            let taken = after_gaps(begin, &gaps);
            let mut there: Vec<usize> = Vec::new();
            for (n, now) in taken.iter().enumerate() {
                there.push(n);
                if pruned[n] {
                    let times: Vec<Timestamp> = there.iter().map(|n| taken[*n]).collect();
                    let kept = places(&decide(&times, &retain, *now));
                    there = kept.into_iter().map(|place| there[place]).collect();
                    let of_all = model::kept(&taken[..=n], &retain, *now);
                    prop_assert_eq!(&there, &of_all.into_iter().collect::<Vec<_>>());
                }
            }
        }
    }
}
