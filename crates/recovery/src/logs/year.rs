//! 400 days of hourly snapshots and a log that never stops, pruned every day: what is there afterwards is what the table
//! of docs/retention.md says, by a model that was written down naively, and everything that is promised can be had.

use super::needed::{self, Base, Branch, Branches};
use crate::retention::{decide, model, window_start};
use lifeboat_base::clock::Timestamp;
use lifeboat_plan::{Retain, Span};
use lifeboat_postgres_wal::{SystemId, TimelineHistory, TimelineId};
use lifeboat_repository::LogCutOff;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

const SYSTEM: SystemId = SystemId(7);
const BEGIN: Timestamp = Timestamp::from_secs(1_767_225_600);
const MINUTE: u64 = 60;
/// A segment, and what an hour writes.
const SEGMENT: u64 = 1000;
const HOURLY: u64 = 600;

fn at(minute: u64) -> Timestamp {
    BEGIN.plus(Duration::from_secs(minute * MINUTE))
}

/// What lies in the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    timeline: u32,
    held: Range<u64>,
    last: Timestamp,
}

/// A cluster, and the repository that it is kept in.
struct World {
    retain: Retain,
    minute: u64,
    /// The first position that is not written yet.
    position: u64,
    timeline: u32,
    /// Each timeline's history, as PostgreSQL writes it.
    history: String,
    histories: BTreeMap<TimelineId, TimelineHistory>,
    objects: Vec<Object>,
    snapshots: Vec<Base>,
    /// Every snapshot that there ever was.
    taken: Vec<Timestamp>,
    /// The history of what was written: the timelines, and where each one began.
    began: Vec<(u32, u64)>,
}

impl World {
    fn new(retain: Retain) -> Self {
        Self {
            retain,
            minute: 0,
            position: 0,
            timeline: 1,
            history: String::new(),
            histories: BTreeMap::new(),
            objects: Vec::new(),
            snapshots: Vec::new(),
            taken: Vec::new(),
            began: vec![(1, 0)],
        }
    }

    /// Twenty minutes of writing, durable as one object.
    fn write(&mut self) {
        let start = self.position;
        self.minute += 20;
        self.position += HOURLY / 3;
        let held = start..self.position;
        // A timeline's log begins with a segment, so that it repeats what it shares with its ancestor.
        let begins = self.began.last().is_some_and(|(_, began)| *began == start);
        let held = if begins { start - start % SEGMENT..held.end } else { held };
        self.objects.push(Object { timeline: self.timeline, held, last: at(self.minute) });
    }

    /// Consistent at the end of the newest object, or at its first position.
    fn snapshot(&mut self, at_end: bool) {
        let stop = if at_end { self.position } else { self.position - HOURLY / 3 + 1 };
        let (start, taken) = (stop - 30, at(self.minute));
        let (timeline, first_needed) = (TimelineId(self.timeline), start - start % SEGMENT);
        self.snapshots.push(Base { taken, system: SYSTEM, timeline, first_needed, stop });
        self.taken.push(taken);
    }

    fn promote(&mut self) {
        self.history += &format!("{}\t0/{:X}\tpromoted\n", self.timeline, self.position);
        self.timeline += 1;
        let timeline = TimelineId(self.timeline);
        let history = TimelineHistory::parse(timeline, self.history.as_bytes()).unwrap();
        self.histories.insert(timeline, history);
        self.began.push((self.timeline, self.position));
    }

    fn branches(&self) -> Branches {
        let mut lasts: BTreeMap<u32, Timestamp> = BTreeMap::new();
        for object in &self.objects {
            let last = lasts.entry(object.timeline).or_default();
            *last = object.last.max(*last);
        }
        let branch = |(timeline, last)| Branch { system: SYSTEM, timeline: TimelineId(timeline), last };
        let histories = BTreeMap::from([(SYSTEM, self.histories.clone())]);
        Branches { all: lasts.into_iter().map(branch).collect(), histories }
    }

    /// What upkeep does, over objects that are only imagined.
    fn prune(&mut self) {
        let now = at(self.minute);
        let start = window_start(&self.retain, now).unwrap();
        let branches = self.branches();
        let times: Vec<Timestamp> = self.snapshots.iter().map(|base| base.taken).collect();
        let reasons = decide(&times, &self.retain, now);
        let anchors = needed::anchors(&self.snapshots, &branches, start);
        let places = (0..times.len()).filter(|n| !reasons[*n].is_empty() || anchors.contains(n));
        self.snapshots = places.map(|n| self.snapshots[n]).collect();
        for branch in &branches.all {
            let Some(stays) = needed::with_window(&self.snapshots, &branches, start, branch) else {
                continue;
            };
            let cut_off = LogCutOff {
                dataset: lifeboat_repository::ids::DatasetName::new("app").unwrap(),
                lineage: lifeboat_repository::Lineage::new("7-1").unwrap(),
                before: stays.from,
                stays: stays.ranges,
            };
            let is_of_it = |object: &Object| object.timeline == branch.timeline.0;
            self.objects.retain(|object| !is_of_it(object) || !cut_off.lets_go(&object.held));
        }
    }

    /// The newest snapshot that is as old as the window or older; the oldest where there is none yet.
    fn origin(&self) -> Option<&Base> {
        let start = window_start(&self.retain, at(self.minute)).unwrap();
        self.snapshots.iter().rev().find(|base| base.taken <= start).or(self.snapshots.first())
    }

    /// Whether the table says that an object stays: history went straight on, so that later is what has a later
    /// timeline, or the same one and a later position.
    fn stays(&self, object: &Object) -> bool {
        let own = |base: &Base| {
            base.timeline.0 == object.timeline
                && base.first_needed < object.held.end
                && object.held.start < base.stop
        };
        let later =
            |origin: &Base| (object.timeline, object.held.end) > (origin.timeline.0, origin.first_needed);
        self.snapshots.iter().any(own) || self.origin().is_none_or(later)
    }

    /// Whether everything between two positions of a timeline is there.
    fn holds(&self, timeline: u32, range: Range<u64>) -> bool {
        let mut reached = range.start;
        for object in self.objects.iter().filter(|object| object.timeline == timeline) {
            if object.held.start <= reached {
                reached = reached.max(object.held.end);
            }
        }
        reached >= range.end
    }

    /// Everything that is promised of the log can be had.
    fn assert_restorable(&self) {
        for base in &self.snapshots {
            assert!(self.holds(base.timeline.0, base.first_needed..base.stop), "{base:?}");
        }
        // Any point of the window: from the snapshot that it starts from to the end, along every timeline.
        let Some(origin) = self.origin() else { return };
        let ends = self.began.iter().skip(1).map(|(_, began)| *began).chain([self.position]);
        for ((timeline, began), end) in self.began.iter().zip(ends) {
            if *timeline >= origin.timeline.0 {
                let is_origin = *timeline == origin.timeline.0;
                let from = if is_origin { origin.first_needed } else { began - began % SEGMENT };
                assert!(self.holds(*timeline, from..end), "timeline {timeline} at minute {}", self.minute);
            }
        }
    }
}

/// What happens in an hour besides writing.
fn is_silent(hour: u64) -> bool {
    // Five days without a snapshot, more than the window without one, and now and then an hour.
    (2000..2120).contains(&hour) || (5000..5500).contains(&hour) || hour.is_multiple_of(97)
}

fn lived(retain: Retain, days: u64) {
    let mut world = World::new(retain);
    let at_least = retain.at_least.map_or(1, |n| n.get() as usize);
    for hour in 0..days * 24 {
        for _ in 0..3 {
            world.write();
        }
        if !is_silent(hour) {
            world.snapshot(hour % 2 == 0);
        }
        // Two of these between one snapshot and the next.
        if [3000, 5200, 5300, 8000].contains(&hour) {
            world.promote();
        }
        if hour % 24 == 23 {
            let before = world.objects.clone();
            world.prune();
            let now = at(world.minute);
            let kept: BTreeSet<Timestamp> = world.snapshots.iter().map(|base| base.taken).collect();
            let table = model::kept(&world.taken, &retain, now);
            let table: BTreeSet<Timestamp> = table.into_iter().map(|n| world.taken[n]).collect();
            assert_eq!(kept, table, "hour {hour}");
            assert!(kept.len() >= at_least.min(world.taken.len()), "hour {hour}");
            let stays: Vec<Object> = before.into_iter().filter(|object| world.stays(object)).collect();
            assert_eq!(world.objects, stays, "hour {hour}");
            world.assert_restorable();
        }
    }
    assert!(world.objects.len() < 20 * 24 * 3, "{} objects are left", world.objects.len());
}

#[test]
fn four_hundred_days_are_kept_as_the_table_says() {
    let common = Retain {
        hourly: 48,
        daily: 14,
        weekly: 8,
        monthly: 12,
        yearly: 2,
        window: Some(Span::from_secs(7 * 24 * 3600)),
        ..Retain::default()
    };
    lived(common, 400);
}

#[test]
fn a_window_with_few_other_rules_is_kept_as_the_table_says() {
    let day = 24 * 3600;
    for (window, days, versions, at_least) in [(day, 0, 0, 30), (14 * day + 1800, 3, 5, 1), (0, 2, 0, 1)] {
        let at_least = NonZeroU32::new(at_least);
        let window = Some(Span::from_secs(window));
        lived(Retain { window, days, versions, at_least, ..Retain::default() }, 400);
    }
}
