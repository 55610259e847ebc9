//! The table of docs/retention.md once more, written down naively: what [`super::decide`] is compared with. Whole
//! seconds and a calendar of its own.

use lifeboat_base::clock::Timestamp;
use lifeboat_plan::Retain;
use std::collections::BTreeSet;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Which period an instant is in: the same number, the same period.
type Period = fn(i64) -> i64;

/// The places, in ascending order of time, of what is kept.
pub(crate) fn kept(taken: &[Timestamp], retain: &Retain, now: Timestamp) -> BTreeSet<usize> {
    let ages: Vec<i64> = taken.iter().map(|time| now.as_secs() - time.as_secs()).collect();
    let mut kept = BTreeSet::new();
    let newest = retain.at_least.map_or(1, |n| n.get()).max(retain.versions);
    kept.extend((0..taken.len()).rev().take(newest as usize));
    let calendar: [(u32, Period); 5] = [
        (retain.hourly, |secs| secs.div_euclid(HOUR)),
        (retain.daily, |secs| secs.div_euclid(DAY)),
        // The epoch was a Thursday.
        (retain.weekly, |secs| (secs.div_euclid(DAY) + 3).div_euclid(7)),
        (retain.monthly, |secs| month(secs.div_euclid(DAY))),
        (retain.yearly, |secs| month(secs.div_euclid(DAY)).div_euclid(12)),
    ];
    for (count, period) in calendar {
        let mut seen = BTreeSet::new();
        for n in (0..taken.len()).rev() {
            let is_newest = seen.insert(period(taken[n].as_secs()));
            if seen.len() > count as usize {
                break;
            }
            if is_newest {
                kept.insert(n);
            }
        }
    }
    kept.extend((0..taken.len()).filter(|n| retain.days > 0 && ages[*n] < i64::from(retain.days) * DAY));
    if let Some(window) = retain.window {
        let window = i64::try_from(window.duration().as_secs()).unwrap();
        kept.extend((0..taken.len()).filter(|n| ages[*n] < window));
        kept.extend((0..taken.len()).rev().find(|n| ages[*n] >= window));
    }
    kept
}

/// How many months after the year 0 a day since 1970-01-01 is.
fn month(day: i64) -> i64 {
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut year, mut left) = (1970, day);
    while left < 0 || left >= 365 + i64::from(is_leap(year)) {
        let step = if left < 0 { -1 } else { 1 };
        let passed = if left < 0 { year - 1 } else { year };
        left -= step * (365 + i64::from(is_leap(passed)));
        year += step;
    }
    let mut months = 0;
    for days in [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < days {
            break;
        }
        left -= days;
        months += 1;
    }
    year * 12 + months
}
