//! Retention: which snapshots of a dataset to keep.
//!
//! Of each of the last so many hours, days, weeks and months *that have a snapshot* the newest one is kept
//! (calendar periods in UTC, weeks from Monday), and always the newest `at_least`. This module decides; it
//! forgets nothing itself.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use lifeboat_base::clock::Timestamp;
use lifeboat_plan::Retain;
use std::collections::BTreeSet;

/// Why a snapshot is kept; no reason: it goes.
pub type Reasons = Vec<&'static str>;

/// Says for each snapshot, in the order given, why it is kept. `taken` need not be sorted.
pub fn decide(taken: &[Timestamp], retain: &Retain) -> Vec<Reasons> {
    let mut newest_first: Vec<usize> = (0..taken.len()).collect();
    newest_first.sort_by_key(|n| std::cmp::Reverse((taken[*n], *n)));
    let mut reasons: Vec<Reasons> = vec![Vec::new(); taken.len()];
    let at_least = retain.at_least.map_or(1, |n| n.get() as usize);
    for n in newest_first.iter().take(at_least) {
        reasons[*n].push("at-least");
    }
    type Period = fn(Timestamp) -> (Date, i8);
    let rules: [(&'static str, u32, Period); 4] = [
        ("hourly", retain.hourly, hour),
        ("daily", retain.daily, day),
        ("weekly", retain.weekly, week),
        ("monthly", retain.monthly, month),
    ];
    for (name, count, period) in rules {
        let mut kept = BTreeSet::new();
        for n in &newest_first {
            if kept.len() >= count as usize {
                break;
            }
            if kept.insert(period(taken[*n])) {
                reasons[*n].push(name);
            }
        }
    }
    reasons
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;
    use std::time::Duration;

    fn hours(count: u64) -> Vec<Timestamp> {
        let start = Timestamp::from_jiff("2026-01-01T00:30:00Z".parse().unwrap());
        (0..count).map(|n| start.plus(Duration::from_hours(n))).collect()
    }

    fn kept(taken: &[Timestamp], retain: &Retain) -> Vec<String> {
        let reasons = decide(taken, retain);
        taken
            .iter()
            .zip(reasons)
            .filter(|(_, r)| !r.is_empty())
            .map(|(t, r)| format!("{t} {}", r.join(",")))
            .collect()
    }

    #[test]
    fn the_newest_of_each_period_is_kept() {
        let retain = Retain { hourly: 2, daily: 3, weekly: 2, monthly: 2, at_least: None };
        let kept = kept(&hours(24 * 40), &retain);
        assert_eq!(
            kept,
            [
                "2026-01-31T23:30:00Z monthly",
                "2026-02-07T23:30:00Z daily",
                "2026-02-08T23:30:00Z daily,weekly",
                "2026-02-09T22:30:00Z hourly",
                "2026-02-09T23:30:00Z at-least,hourly,daily,weekly,monthly",
            ]
        );
    }

    #[test]
    fn at_least_so_many_stay_whatever_their_age() {
        let retain = Retain { at_least: NonZeroU32::new(3), ..Retain::default() };
        assert_eq!(decide(&hours(10), &retain).iter().filter(|r| !r.is_empty()).count(), 3);
        assert_eq!(
            decide(&hours(10), &Retain::default()).iter().filter(|r| !r.is_empty()).count(),
            1,
            "never none"
        );
        assert!(decide(&[], &retain).is_empty());
    }

    #[test]
    fn periods_without_a_snapshot_do_not_count() {
        let day = |n: i64| Timestamp::from_secs(1_800_000_000 + n * 86_400);
        let retain = Retain { daily: 3, ..Retain::default() };
        let taken = [day(0), day(30), day(31), day(90)];
        assert_eq!(
            decide(&taken, &retain).iter().map(|r| r.contains(&"daily")).collect::<Vec<_>>(),
            [false, true, true, true]
        );
    }
}
