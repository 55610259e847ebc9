//! When everything in the repository was last read, and what of it is to be read now: the pace at which `check_within`
//! is kept.
//!
//! What lies in a repository stands on a line ([`Share`]). [`Readings`] says of each stretch of it when it was last
//! read. A check reads so much of what has waited longest that all the rest can still be read in time, at this pace,
//! by those that follow. So after a restart, a missed hour or another plan nothing is forgotten: what is due comes
//! first, and whoever is late reads more, though never more than a bound at once.
//!
//! It is pure: it is told the time and reads nothing.

use lifeboat_base::clock::Timestamp;
use lifeboat_repository::Share;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Whoever is late reads at most so many-th part of everything at once, unless the plan's own pace is faster.
const CATCH_UP: u128 = 24;
/// The plan's own pace may be exceeded so many times.
const HURRY: u128 = 3;
/// So many stretches are told apart. More than a year of hours; beyond it neighbours are taken as one.
const MAX_STRETCHES: usize = 10_000;

const WHOLE: u128 = 1 << 64;

/// When each stretch of the line was last read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Readings(Vec<Stretch>);

/// A stretch: to the beginning of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stretch {
    /// Where it begins.
    #[serde(rename = "from")]
    first: u64,
    /// When it was last read, in nanoseconds since the epoch; where it never was, since when it waits for it.
    #[serde(rename = "read")]
    read_nanos: i64,
    /// Whether it never was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    waits: bool,
}

/// A stretch and where it ends.
#[derive(Clone, Copy)]
struct Ended {
    share: Share,
    read: Timestamp,
    waits: bool,
}

impl Readings {
    /// Nothing was read yet; the time runs from now.
    pub(crate) fn none_before(now: Timestamp) -> Self {
        Self(vec![Stretch { first: 0, read_nanos: now.as_nanos(), waits: true }])
    }

    /// Reads what [`Readings::to_text`] wrote; nothing where it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let Self(stretches) = serde_json::from_str(text).ok()?;
        let is_line = stretches.first()?.first == 0 && stretches.is_sorted_by(|a, b| a.first < b.first);
        is_line.then_some(Self(stretches))
    }

    /// As the state keeps it.
    pub(crate) fn to_text(&self) -> String {
        serde_json::json!(self.0).to_string()
    }

    /// Since when everything was read; nothing where some of it never was.
    pub(crate) fn everything_since(&self) -> Option<Timestamp> {
        let times = self.0.iter().map(|one| (!one.waits).then_some(Timestamp::from_nanos(one.read_nanos)));
        times.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// What is to be read now, so that each stretch is read again within so long, by checks that come every so often.
    pub(crate) fn due(&self, now: Timestamp, within: Duration, every: Duration) -> Vec<Share> {
        let mut waiting: Vec<Ended> = self.ended().collect();
        // Of two that wait since the same instant, the one that was never read at all.
        waiting.sort_by_key(|one| (one.read, !one.waits, one.share.first));
        let wanted = pace(&waiting, now, within, every);
        take(&waiting, wanted.min(most(within, every)))
    }

    /// When the last of it was read.
    pub(crate) fn newest(&self) -> Option<Timestamp> {
        let read = self.0.iter().filter(|stretch| !stretch.waits);
        read.map(|stretch| Timestamp::from_nanos(stretch.read_nanos)).max()
    }

    /// As [`Readings::after`], from where to where each share lies; one that ends before it begins is none.
    #[must_use]
    pub(crate) fn after_read(self, shares: &[(u64, u64)], at: Timestamp) -> Self {
        let shares = shares.iter().filter(|(first, last)| first <= last);
        let shares: Vec<Share> = shares.map(|(first, last)| Share { first: *first, last: *last }).collect();
        self.after(&shares, at)
    }

    /// These were read at an instant.
    #[must_use]
    pub(crate) fn after(self, shares: &[Share], at: Timestamp) -> Self {
        shares.iter().fold(self, |readings, share| readings.after_one(*share, at))
    }

    fn after_one(self, share: Share, at: Timestamp) -> Self {
        let before = self.ended().filter(|one| one.share.first < share.first);
        let behind = self.ended().filter(|one| one.share.last > share.last);
        let stretch =
            |first, one: Ended| Stretch { first, read_nanos: one.read.as_nanos(), waits: one.waits };
        let mut stretches: Vec<Stretch> = before.map(|one| stretch(one.share.first, one)).collect();
        stretches.push(stretch(share.first, Ended { share, read: at, waits: false }));
        stretches.extend(behind.map(|one| stretch(one.share.first.max(share.last.saturating_add(1)), one)));
        stretches.dedup_by_key(|one| (one.read_nanos, one.waits));
        Self(bounded(stretches))
    }

    fn ended(&self) -> impl Iterator<Item = Ended> {
        let ends = self.0.iter().skip(1).map(|next| next.first - 1).chain([u64::MAX]);
        self.0.iter().zip(ends).map(|(stretch, last)| Ended {
            share: Share { first: stretch.first, last },
            read: Timestamp::from_nanos(stretch.read_nanos),
            waits: stretch.waits,
        })
    }
}

/// Two neighbours as one: read when the one that waited longer was.
fn bounded(stretches: Vec<Stretch>) -> Vec<Stretch> {
    if stretches.len() <= MAX_STRETCHES {
        return stretches;
    }
    let of_two = |pair: &[Stretch]| Stretch {
        first: pair[0].first,
        read_nanos: pair.iter().map(|one| one.read_nanos).min().unwrap_or_default(),
        waits: pair.iter().any(|one| one.waits),
    };
    stretches.chunks(2).map(of_two).collect()
}

fn length(share: Share) -> u128 {
    u128::from(share.last - share.first) + 1
}

/// How much must be read now, for everything to be in time if the checks to come read as much. The last one before
/// a stretch is due does not count: it may begin late, and takes its time.
fn pace(waiting: &[Ended], now: Timestamp, within: Duration, every: Duration) -> u128 {
    let (mut until_then, mut wanted) = (0, 0);
    for one in waiting {
        until_then += length(one.share);
        // What is said to be read in the future was read by a clock that is not to be believed.
        let left = one.read.min(now).plus(within).since(now);
        let checks = (left.as_nanos() / every.as_nanos().max(1)).max(1);
        wanted = until_then.div_ceil(checks).max(wanted);
    }
    wanted
}

/// The most that is read at once.
fn most(within: Duration, every: Duration) -> u128 {
    let checks = (within.as_nanos() / every.as_nanos().max(1)).max(1);
    (WHOLE / CATCH_UP).max((WHOLE / checks).saturating_mul(HURRY))
}

/// So much of what has waited longest.
fn take(waiting: &[Ended], wanted: u128) -> Vec<Share> {
    let (mut shares, mut left) = (Vec::new(), wanted);
    for Ended { share, .. } in waiting {
        if left == 0 {
            break;
        }
        let taken = length(*share).min(left);
        let last = u128::from(share.first) + taken - 1;
        shares.push(Share { first: share.first, last: u64::try_from(last).unwrap_or(u64::MAX) });
        left -= taken;
    }
    joined(shares)
}

/// Neighbours as one.
fn joined(mut shares: Vec<Share>) -> Vec<Share> {
    shares.sort_by_key(|share| share.first);
    shares.dedup_by(|next, share| {
        let are_neighbours = share.last.checked_add(1) == Some(next.first);
        if are_neighbours {
            share.last = next.last;
        }
        are_neighbours
    });
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_hours(1);
    const DAY: Duration = Duration::from_hours(24);

    fn start() -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }

    /// Of how much of everything, in parts of a million.
    fn millionths(shares: &[Share]) -> u128 {
        shares.iter().map(|share| length(*share)).sum::<u128>() * 1_000_000 / WHOLE
    }

    /// When what waits longest was read, or began to wait.
    fn oldest(readings: &Readings) -> Timestamp {
        readings.ended().map(|one| one.read).min().unwrap()
    }

    /// Checks at these instants; the longest that anything was not read at any of them, from a first one on.
    struct Simulated {
        readings: Readings,
        /// The most that was read at once.
        most: u128,
    }

    impl Simulated {
        fn new() -> Self {
            Self { readings: Readings::none_before(start()), most: 0 }
        }

        fn check(&mut self, now: Timestamp, within: Duration, every: Duration) {
            let due = self.readings.due(now, within, every);
            self.most = self.most.max(millionths(&due));
            self.readings = self.readings.clone().after(&due, now);
        }

        fn waits(&self, now: Timestamp) -> Duration {
            now.since(oldest(&self.readings))
        }
    }

    #[test]
    fn everything_is_read_within_the_time_at_an_even_pace() {
        let (mut simulated, within) = (Simulated::new(), 30 * DAY);
        let mut now = start();
        for hour in 0..24 * 90 {
            // Checks never begin quite in time.
            now = now.plus(HOUR + Duration::from_secs(hour % 7));
            simulated.check(now, within, HOUR);
            assert!(simulated.waits(now) <= within, "{hour}: {:?}", simulated.waits(now));
        }
        // A 720th part is 1389 millionths.
        assert!((1389..1600).contains(&simulated.most), "{}", simulated.most);
        assert!(simulated.readings.0.len() < 800, "{}", simulated.readings.0.len());
    }

    #[test]
    fn after_a_pause_what_waited_is_read_first_and_never_too_much_at_once() {
        let (mut simulated, within) = (Simulated::new(), 30 * DAY);
        let mut now = start();
        for _ in 0..24 * 35 {
            now = now.plus(HOUR);
            simulated.check(now, within, HOUR);
        }
        now = now.plus(10 * DAY);
        simulated.most = 0;
        let mut late = 0;
        while simulated.waits(now) > within {
            now = now.plus(HOUR);
            simulated.check(now, within, HOUR);
            late += 1;
        }
        assert!(late <= 12, "a third of everything, a 24th part an hour: {late}");
        assert!((40_000..=41_667).contains(&simulated.most), "{}", simulated.most);
        // And then again at an even pace, in time.
        simulated.most = 0;
        for _ in 0..24 * 60 {
            now = now.plus(HOUR);
            simulated.check(now, within, HOUR);
            assert!(simulated.waits(now) <= within);
        }
        assert!(simulated.most < 20_000, "{}", simulated.most);
    }

    #[test]
    fn a_pause_in_the_middle_is_made_up_for_before_the_time_is_over() {
        let (mut simulated, within) = (Simulated::new(), 30 * DAY);
        let mut now = start();
        for hour in 0..24 * 60 {
            now = now.plus(if hour == 200 { 10 * DAY } else { HOUR });
            simulated.check(now, within, HOUR);
            assert!(simulated.waits(now) <= within, "{hour}: {:?}", simulated.waits(now));
        }
        assert!(simulated.most < 3 * 1389, "{}", simulated.most);
    }

    #[test]
    fn another_time_in_the_plan_forgets_nothing() {
        let mut simulated = Simulated::new();
        let mut now = start();
        for _ in 0..24 * 25 {
            now = now.plus(HOUR);
            simulated.check(now, 30 * DAY, HOUR);
        }
        // Half a day for everything from now on: reached as fast as the bound allows.
        let mut late = 0;
        while simulated.waits(now) > 12 * HOUR {
            now = now.plus(HOUR);
            simulated.check(now, 12 * HOUR, HOUR);
            late += 1;
        }
        assert!(late <= 12, "{late}");
        for _ in 0..100 {
            now = now.plus(HOUR);
            simulated.check(now, 12 * HOUR, HOUR);
            assert!(simulated.waits(now) <= 12 * HOUR);
        }
        for _ in 0..24 * 100 {
            now = now.plus(HOUR);
            simulated.check(now, 90 * DAY, HOUR);
            assert!(simulated.waits(now) <= 90 * DAY);
        }
    }

    #[test]
    fn one_check_for_everything_reads_everything() {
        let readings = Readings::none_before(start());
        assert_eq!(readings.due(start(), HOUR, HOUR), [Share::WHOLE]);
        assert_eq!(readings.due(start(), Duration::ZERO, HOUR), [Share::WHOLE]);
        assert_eq!(readings.due(start().plus(9 * HOUR), HOUR, Duration::ZERO).len(), 1);
        assert_eq!((readings.everything_since(), readings.newest()), (None, None));
        let half = readings.clone().after(&[Share { first: 0, last: u64::MAX / 2 }], start());
        assert_eq!((half.everything_since(), half.newest()), (None, Some(start())));
        let read = readings.after(&[Share::WHOLE], start().plus(HOUR));
        assert_eq!(read.everything_since(), Some(start().plus(HOUR)));
        assert_eq!(read.0.len(), 1);
    }

    #[test]
    fn what_is_kept_is_read_again_and_nonsense_is_nothing() {
        let readings =
            Readings::none_before(start()).after(&[Share { first: 7, last: 99 }], start().plus(HOUR));
        assert_eq!(readings.0.len(), 3);
        assert_eq!(Readings::parse(&readings.to_text()), Some(readings));
        for nonsense in
            ["", "[]", "{}", r#"[{"from":1,"read":2}]"#, r#"[{"from":0,"read":2},{"from":0,"read":2}]"#]
        {
            assert_eq!(Readings::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn so_many_stretches_are_told_apart_and_no_more() {
        let mut readings = Readings::none_before(start());
        for n in 0..12_000_u64 {
            let share = Share { first: n << 20, last: (n << 20) + 9 };
            readings = readings.after(&[share], start().plus(Duration::from_secs(n + 1)));
            assert!(readings.0.len() <= MAX_STRETCHES);
        }
        assert_eq!(oldest(&readings), start(), "taken as one they were read when the older was");
    }

    proptest! {
        /// Against a line of 256 places, each with its time.
        #[test]
        fn what_was_read_is_known_place_by_place(reads in prop::collection::vec((0_u64..256, 0_u64..256), 0..40)) {
            let mut places = [start(); 256];
            let mut readings = Readings::none_before(start());
            for (n, (one, other)) in (1..).zip(reads) {
                let (first, last) = (one.min(other), one.max(other));
                let at = start().plus(HOUR * n);
                places[first as usize..=last as usize].fill(at);
                let share = Share { first: first << 56, last: (last << 56) | (u64::MAX >> 8) };
                readings = readings.after(&[share], at);
            }
            for (place, read) in places.into_iter().enumerate() {
                let at = (place as u64) << 56;
                let found: Vec<_> = readings.ended().filter(|one| (one.share.first..=one.share.last).contains(&at)).collect();
                prop_assert_eq!(found.len(), 1);
                prop_assert_eq!(found[0].read, read);
            }
            // What is due is what waited longest, whatever the pace.
            let due = readings.due(start().plus(100 * HOUR), 30 * DAY, HOUR);
            let oldest = oldest(&readings);
            prop_assert!(due.iter().any(|share| readings.ended().any(|one| one.read == oldest && one.share.first == share.first)));
        }
    }
}
