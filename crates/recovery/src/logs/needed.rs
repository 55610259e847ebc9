//! Which log the points of a window need, and which a snapshot needs for itself.
//!
//! Without a window a cluster's log stays from its oldest kept snapshot on. With one it stays where a point of the
//! window is reached through it: from the newest snapshot before the window, along every timeline on the way. Of an
//! older snapshot that is kept there stays what it needs to be consistent, and nothing behind it.
//!
//! Pure: snapshots, timelines and their histories come from outside. It deliberately knows no objects.

use lifeboat_base::clock::Timestamp;
use lifeboat_postgres_wal::{Lsn, SystemId, TimelineHistory, TimelineId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A snapshot of a cluster, as far as it decides which log stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// When it was taken, as retention sees it.
    pub(crate) taken: Timestamp,
    pub(crate) system: SystemId,
    pub(crate) timeline: TimelineId,
    /// The first position that it needs.
    pub(crate) first_needed: u64,
    /// Where it is consistent.
    pub(crate) stop: u64,
}

/// The log of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    pub(crate) system: SystemId,
    pub(crate) timeline: TimelineId,
    /// When the last of it arrived.
    pub(crate) last: Timestamp,
}

/// The timelines of a dataset of which there is log, and where each one came from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Branches {
    pub(crate) all: Vec<Branch>,
    pub(crate) histories: BTreeMap<SystemId, BTreeMap<TimelineId, TimelineHistory>>,
}

/// What of a timeline's log stays: everything from a position on, and ranges below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stays {
    pub(crate) from: u64,
    pub(crate) ranges: Vec<Range<u64>>,
}

impl Stays {
    /// From ranges of which those without end reach to the last position there is.
    fn of(mut ranges: Vec<Range<u64>>) -> Self {
        let endless = ranges.iter().filter(|range| range.end == u64::MAX).map(|range| range.start).min();
        let from = endless.unwrap_or(u64::MAX);
        ranges.retain(|range| range.start < from && !range.is_empty());
        ranges.sort_by_key(|range| (range.start, range.end));
        ranges.dedup_by(|next, before| {
            let touches = next.start <= before.end;
            if touches {
                before.end = before.end.max(next.end);
            }
            touches
        });
        Self { from, ranges }
    }
}

/// What stays of a timeline's log where a window is kept; `None`: all of it.
pub(crate) fn with_window(
    kept: &[Base],
    branches: &Branches,
    start: Timestamp,
    of: &Branch,
) -> Option<Stays> {
    let mut ranges: Vec<Range<u64>> = kept.iter().filter_map(|base| own(base, of)).collect();
    for current in branches.current(kept, start) {
        let sources = branches.sources(kept, current, start);
        if sources.is_empty() && current == of {
            // Its snapshot may be on the way.
            return None;
        }
        ranges.extend(sources.iter().filter_map(|n| branches.way(&kept[*n], current, of)));
    }
    Some(Stays::of(ranges)).filter(|stays| stays.from > 0)
}

/// What stays of a timeline's log where no window is kept: everything from the oldest snapshot on; `None`: all of it.
pub(crate) fn without_window(kept: &[Base], of: &Branch) -> Option<Stays> {
    let leads_here = |base: &&Base| base.system == of.system && base.timeline <= of.timeline;
    let leading: Vec<&Base> = kept.iter().filter(leads_here).collect();
    if leading.iter().any(|base| base.timeline < of.timeline) {
        // It is reached from its ancestor, and so from its beginning.
        return None;
    }
    if let Some(from) = leading.iter().map(|base| base.first_needed).min() {
        return Some(Stays { from, ranges: Vec::new() });
    }
    // Nothing leads to it. Where everything that stays is younger than all of it, nothing ever will again; else it
    // may have only begun, with its snapshot on the way.
    let oldest = kept.iter().map(|base| base.taken).min()?;
    (of.last < oldest).then_some(Stays { from: u64::MAX, ranges: Vec::new() })
}

/// The snapshots that the points of a window are reached from: those before it, each the newest that leads to one of
/// the timelines that the points lie on. Of two timelines the newest snapshot of all may lead to one alone.
pub(crate) fn anchors(snapshots: &[Base], branches: &Branches, start: Timestamp) -> BTreeSet<usize> {
    let current = branches.current(snapshots, start);
    current.into_iter().filter_map(|branch| branches.anchor(snapshots, branch, start)).collect()
}

/// The log that a snapshot needs for itself, where it is of this timeline.
fn own(base: &Base, of: &Branch) -> Option<Range<u64>> {
    let is_of_it = (base.system, base.timeline) == (of.system, of.timeline);
    is_of_it.then_some(base.first_needed..base.stop)
}

impl Branches {
    /// The timelines that a point of the window lies on: those of which log has arrived since it began, and where all
    /// is quiet those that were the newest before.
    fn current(&self, snapshots: &[Base], start: Timestamp) -> Vec<&Branch> {
        let last = self.all.iter().map(|branch| branch.last).max();
        let system = snapshots.iter().max_by_key(|base| base.taken).map(|base| base.system);
        let of_system = self.all.iter().filter(|branch| Some(branch.system) == system);
        let newest = of_system.map(|branch| (branch.system, branch.timeline)).max();
        let is_current = |branch: &&Branch| {
            branch.last >= start
                || Some(branch.last) == last
                || Some((branch.system, branch.timeline)) == newest
        };
        self.all.iter().filter(is_current).collect()
    }

    /// The snapshots that points of the window on a timeline are reached from.
    fn sources(&self, snapshots: &[Base], to: &Branch, start: Timestamp) -> BTreeSet<usize> {
        let within = snapshots.iter().enumerate().filter(|(_, base)| base.taken > start);
        let leading = within.filter(|(_, base)| self.leaves(base, to).is_some()).map(|(n, _)| n);
        leading.chain(self.anchor(snapshots, to, start)).collect()
    }

    fn anchor(&self, snapshots: &[Base], to: &Branch, start: Timestamp) -> Option<usize> {
        let before = snapshots.iter().enumerate().filter(|(_, base)| base.taken <= start);
        let leading = before.filter(|(_, base)| self.leaves(base, to).is_some());
        leading.max_by_key(|(n, base)| (base.taken, *n)).map(|(n, _)| n)
    }

    /// Where the way from a snapshot to a timeline leaves the snapshot's own; `None` where there is no such way.
    fn leaves(&self, base: &Base, to: &Branch) -> Option<u64> {
        if base.system != to.system {
            return None;
        }
        if base.timeline == to.timeline {
            return Some(u64::MAX);
        }
        self.history(to)?.end_of(base.timeline).filter(|left| Lsn(base.stop) <= *left).map(|left| left.0)
    }

    /// What of a timeline's log lies on the way from a snapshot to another one.
    fn way(&self, base: &Base, to: &Branch, of: &Branch) -> Option<Range<u64>> {
        let leaves = self.leaves(base, to)?;
        if of.system != base.system || of.timeline < base.timeline {
            return None;
        }
        if of.timeline == base.timeline {
            return Some(base.first_needed..leaves);
        }
        if of.timeline == to.timeline {
            return Some(0..u64::MAX);
        }
        self.history(to)?.end_of(of.timeline).map(|left| 0..left.0)
    }

    fn history(&self, of: &Branch) -> Option<&TimelineHistory> {
        self.histories.get(&of.system)?.get(&of.timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: SystemId = SystemId(7);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    /// Needs the ten positions up to where it is consistent.
    fn base(timeline: u32, stop: u64, taken: i64) -> Base {
        let timeline = TimelineId(timeline);
        Base { taken: at(taken), system: SYSTEM, timeline, first_needed: stop - 10, stop }
    }

    fn branches(lasts: &[(u32, i64)], histories: &[(u32, &str)]) -> Branches {
        let branch = |(timeline, last): &(u32, i64)| Branch {
            system: SYSTEM,
            timeline: TimelineId(*timeline),
            last: at(*last),
        };
        let history = |(timeline, text): &(u32, &str)| {
            let timeline = TimelineId(*timeline);
            (timeline, TimelineHistory::parse(timeline, text.as_bytes()).unwrap())
        };
        let histories = histories.iter().map(history).collect();
        Branches { all: lasts.iter().map(branch).collect(), histories: BTreeMap::from([(SYSTEM, histories)]) }
    }

    /// What stays of each timeline with a window that begins at an instant.
    fn stays(kept: &[Base], branches: &Branches, start: i64) -> Vec<Option<Stays>> {
        branches.all.iter().map(|of| with_window(kept, branches, at(start), of)).collect()
    }

    fn some(from: u64, ranges: &[(u64, u64)]) -> Option<Stays> {
        Some(Stays { from, ranges: ranges.iter().map(|(start, end)| *start..*end).collect() })
    }

    fn endless(of: &[Base], timeline: u32, last: i64) -> Option<u64> {
        let of_it = Branch { system: SYSTEM, timeline: TimelineId(timeline), last: at(last) };
        without_window(of, &of_it).map(|stays| stays.from)
    }

    #[test]
    fn without_a_window_the_log_stays_from_the_oldest_snapshot_on() {
        let other = Base { system: SystemId(8), ..base(1, 15, 1) };
        assert_eq!(endless(&[base(1, 310, 30), base(1, 110, 10), other], 1, 99), Some(100));
        let both = [base(1, 110, 10), base(2, 310, 30)];
        assert_eq!(endless(&both, 2, 99), None, "it is reached from its ancestor");
        assert_eq!(endless(&both[1..], 2, 99), Some(300));
    }

    #[test]
    fn what_nothing_leads_to_goes_once_all_that_stays_is_younger() {
        let all = [base(2, 310, 30), base(2, 510, 50)];
        assert_eq!(endless(&all, 1, 29), Some(u64::MAX), "an ancestor whose snapshots are gone");
        assert_eq!(endless(&all, 1, 30), None);
        assert_eq!(endless(&[], 1, 29), None, "a log that waits for its first snapshot");
    }

    #[test]
    fn a_window_starts_from_the_snapshot_before_it_and_older_ones_keep_their_own() {
        let kept = [base(1, 110, 10), base(1, 210, 20), base(1, 310, 30), base(1, 410, 40)];
        let one = branches(&[(1, 99)], &[]);
        assert_eq!(stays(&kept, &one, 35), [some(300, &[(100, 110), (200, 210)])]);
        // One of that very instant is before it; a nanosecond earlier it lies within.
        assert_eq!(stays(&kept, &one, 30), [some(300, &[(100, 110), (200, 210)])]);
        assert_eq!(stays(&kept, &one, 29), [some(200, &[(100, 110)])]);
        assert_eq!(stays(&kept, &one, 5), [some(100, &[])]);
    }

    #[test]
    fn a_store_that_is_quiet_keeps_its_newest_state() {
        // Nothing was written in the whole window: what is newest lies in the log before.
        let one = branches(&[(1, 25)], &[]);
        assert_eq!(stays(&[base(1, 110, 10), base(1, 210, 20)], &one, 1000), [some(200, &[(100, 110)])]);
    }

    #[test]
    fn a_log_that_waits_for_its_first_snapshot_stays() {
        let two = branches(&[(1, 99)], &[]);
        assert_eq!(stays(&[], &two, 50), [None]);
        let other = Base { system: SystemId(8), ..base(1, 110, 10) };
        assert_eq!(stays(&[other], &two, 50), [None]);
    }

    const TO_TWO: &str = "1\t0/190\tx\n";
    const TO_THREE: &str = "1\t0/190\tx\n2\t0/1F4\tx\n";

    #[test]
    fn a_window_across_promotions_keeps_what_leads_there() {
        // Timeline 1 was left at 400, timeline 2 at 500. Its own snapshot came late.
        let kept = [base(1, 110, 10), base(1, 210, 20), base(3, 610, 60)];
        let all = branches(&[(1, 40), (2, 50), (3, 99)], &[(2, TO_TWO), (3, TO_THREE)]);
        // The window began on timeline 3, before the snapshot there.
        assert_eq!(
            stays(&kept, &all, 55),
            [some(u64::MAX, &[(100, 110), (200, 400)]), some(u64::MAX, &[(0, 500)]), None],
        );
        // And on timeline 1: what went on there behind the place where it was left can be had as well.
        assert_eq!(stays(&kept, &all, 30)[0], some(200, &[(100, 110)]));
        // Once the window starts from the snapshot of timeline 3, its ancestors lead nowhere in it.
        assert_eq!(
            stays(&kept, &all, 65),
            [some(u64::MAX, &[(100, 110), (200, 210)]), some(u64::MAX, &[]), some(600, &[])],
        );
    }

    #[test]
    fn the_snapshots_of_a_primary_that_was_left_behind_lead_to_no_other_timeline() {
        // It was promoted at 400, and the old primary was still protected behind that.
        let snapshots = [base(1, 310, 30), base(1, 450, 45), base(1, 650, 65)];
        let all = branches(&[(1, 70), (2, 99)], &[(2, TO_TWO)]);
        assert_eq!(anchors(&snapshots, &all, at(60)), BTreeSet::from([0, 1]));
        assert_eq!(stays(&snapshots, &all, 60), [some(440, &[(300, 400)]), None]);
        // Later only timeline 2 is current, and only the first one leads there.
        assert_eq!(anchors(&snapshots, &all, at(80)), BTreeSet::from([0]));
        assert_eq!(stays(&snapshots, &all, 80)[0], some(u64::MAX, &[(300, 400), (440, 450), (640, 650)]));
    }
}
