//! What can be restored to: every stretch of the log that some snapshot reaches, and every hole.
//!
//! Pure: the snapshots, the stretches of log and the histories come from outside, from the objects that are
//! really there.

use crate::facts::SnapshotFacts;
use crate::lineage;
use lifeboat_base::clock::Timestamp;
use lifeboat_postgres_wal::{Lsn, SystemId, TimelineHistory, TimelineId};
use lifeboat_repository::{LineageLog, LogExtent};
use std::collections::BTreeMap;

/// A snapshot, as far as it decides what can be restored to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPoint {
    /// What it is called.
    pub id: String,
    /// When it was taken.
    pub taken: Timestamp,
    /// What it says of its cluster.
    pub facts: SnapshotFacts,
}

/// A run of positions of one timeline, each of which can be restored to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recoverable {
    /// The cluster.
    pub system: SystemId,
    /// The timeline.
    pub timeline: TimelineId,
    /// The first position.
    pub from: Lsn,
    /// The last position: the end of what is there.
    pub to: Lsn,
    /// When the first position was reached: the snapshot's time, or the arrival of the log.
    pub from_time: Timestamp,
    /// When what is there ended.
    pub to_time: Timestamp,
    /// The snapshots that reach it, oldest first.
    pub snapshots: Vec<String>,
}

/// Log that is missing: nothing between can be restored to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The cluster.
    pub system: SystemId,
    /// The timeline.
    pub timeline: TimelineId,
    /// The first position that is missing.
    pub from: Lsn,
    /// The first position that is there again.
    pub to: Lsn,
    /// When the last position before it arrived.
    pub from_time: Timestamp,
    /// When the first position behind it arrived.
    pub to_time: Timestamp,
}

/// What can be restored to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryPoints {
    /// The stretches, by cluster, timeline and position.
    pub recoverable: Vec<Recoverable>,
    /// The holes.
    pub holes: Vec<Hole>,
    /// Snapshots of which a part of the log that they need themselves is missing.
    pub unreachable: Vec<String>,
}

impl RecoveryPoints {
    /// Bytes of log that restoring the latest point behind a snapshot replays.
    pub fn log_behind(&self, snapshot: &str, facts: &SnapshotFacts) -> u64 {
        let reached = self.recoverable.iter().filter(|one| one.snapshots.iter().any(|id| id == snapshot));
        let ends = reached.map(|one| one.to.0.saturating_sub(facts.first_needed().0));
        ends.max().unwrap_or(0)
    }
}

/// Finds what can be restored to.
pub fn recovery_points(
    snapshots: &[SnapshotPoint],
    logs: &[LineageLog],
    histories: &BTreeMap<SystemId, BTreeMap<TimelineId, TimelineHistory>>,
) -> RecoveryPoints {
    let logs: BTreeMap<(SystemId, TimelineId), &LineageLog> =
        logs.iter().filter_map(|log| Some((lineage::parse(log.lineage.as_str())?, log))).collect();
    let mut points = RecoveryPoints { holes: holes(&logs), ..RecoveryPoints::default() };
    for snapshot in snapshots {
        let reached = reached_by(snapshot, &logs, histories.get(&snapshot.facts.system));
        if reached.is_empty() {
            points.unreachable.push(snapshot.id.clone());
        }
        for one in reached {
            merge(&mut points.recoverable, one);
        }
    }
    points.recoverable.sort_by_key(|one| (one.system, one.timeline, one.from));
    points
}

fn holes(logs: &BTreeMap<(SystemId, TimelineId), &LineageLog>) -> Vec<Hole> {
    let between = |((system, timeline), log): (&(SystemId, TimelineId), &&LineageLog)| {
        let pairs = log.stretches.windows(2).map(|pair| Hole {
            system: *system,
            timeline: *timeline,
            from: Lsn(pair[0].end),
            to: Lsn(pair[1].start),
            from_time: pair[0].last,
            to_time: pair[1].first,
        });
        pairs.collect::<Vec<_>>()
    };
    logs.iter().flat_map(between).collect()
}

/// The stretches that one snapshot reaches: on its own timeline, and on those that came from it.
fn reached_by(
    snapshot: &SnapshotPoint,
    logs: &BTreeMap<(SystemId, TimelineId), &LineageLog>,
    histories: Option<&BTreeMap<TimelineId, TimelineHistory>>,
) -> Vec<Recoverable> {
    let facts = &snapshot.facts;
    let Some(own) = stretch(logs, facts.system, facts.timeline, facts.first_needed(), facts.stop) else {
        return Vec::new();
    };
    let of = |timeline, from, to: &LogExtent, from_time| Recoverable {
        system: facts.system,
        timeline,
        from,
        to: Lsn(to.end),
        from_time,
        to_time: to.last,
        snapshots: vec![snapshot.id.clone()],
    };
    let mut reached = vec![of(facts.timeline, facts.stop, own, snapshot.taken)];
    for (timeline, history) in histories.into_iter().flatten() {
        if let Some((last, begins)) = reach_through(facts, history, logs) {
            reached.push(of(*timeline, begins, last, last.first.max(snapshot.taken)));
        }
    }
    reached
}

/// The log of a descending timeline, where nothing is missing on the way there, and where that timeline begins.
fn reach_through<'l>(
    facts: &SnapshotFacts,
    history: &TimelineHistory,
    logs: &BTreeMap<(SystemId, TimelineId), &'l LineageLog>,
) -> Option<(&'l LogExtent, Lsn)> {
    let left = history.end_of(facts.timeline).filter(|left| *left >= facts.stop)?;
    stretch(logs, facts.system, facts.timeline, facts.first_needed(), left)?;
    let mut begins = left;
    for switch in history.switches().iter().filter(|switch| switch.timeline > facts.timeline) {
        let first = facts.segment.start_of(begins);
        stretch(logs, facts.system, switch.timeline, first, switch.at)?;
        begins = switch.at;
    }
    let first = facts.segment.start_of(begins);
    Some((stretch(logs, facts.system, history.timeline(), first, begins)?, begins))
}

/// The stretch of a timeline's log that holds everything from one position to another.
fn stretch<'l>(
    logs: &BTreeMap<(SystemId, TimelineId), &'l LineageLog>,
    system: SystemId,
    timeline: TimelineId,
    from: Lsn,
    to: Lsn,
) -> Option<&'l LogExtent> {
    let log = logs.get(&(system, timeline))?;
    log.stretches.iter().find(|stretch| stretch.start <= from.0 && to.0 <= stretch.end)
}

/// Adds a stretch, or lets one that ends at the same place begin earlier.
fn merge(all: &mut Vec<Recoverable>, one: Recoverable) {
    let same = |other: &&mut Recoverable| {
        (other.system, other.timeline, other.to) == (one.system, one.timeline, one.to)
    };
    match all.iter_mut().find(same) {
        Some(other) => {
            if one.from < other.from {
                (other.from, other.from_time) = (one.from, one.from_time);
            }
            other.snapshots.extend(one.snapshots);
        }
        None => all.push(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_postgres_wal::SegmentSize;

    const SEGMENT: u64 = 16 << 20;
    const SYSTEM: SystemId = SystemId(7);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn snapshot(id: &str, timeline: u32, start: u64, stop: u64) -> SnapshotPoint {
        let facts = SnapshotFacts {
            system: SYSTEM,
            timeline: TimelineId(timeline),
            start: Lsn(start),
            stop: Lsn(stop),
            server_version: 150_014,
            block_bytes: 8192,
            segment: SegmentSize::DEFAULT,
            checksums: true,
            tablespaces: Vec::new(),
            marker: None,
            superuser: None,
        };
        SnapshotPoint { id: id.to_owned(), taken: at(stop as i64 / 1000), facts }
    }

    fn log(timeline: u32, stretches: &[(u64, u64)]) -> LineageLog {
        let extent = |(start, end): &(u64, u64)| LogExtent {
            start: *start,
            end: *end,
            first: at(*start as i64 / 1000),
            last: at(*end as i64 / 1000),
        };
        LineageLog {
            lineage: lineage::of_timeline(SYSTEM, TimelineId(timeline)).unwrap(),
            stretches: stretches.iter().map(extent).collect(),
            holes: Vec::new(),
            forks: Vec::new(),
            objects: 1,
            size_bytes: 1,
        }
    }

    fn found(snapshots: &[SnapshotPoint], logs: &[LineageLog], history: &[(u32, &str)]) -> RecoveryPoints {
        let histories = history
            .iter()
            .map(|(timeline, text)| {
                let timeline = TimelineId(*timeline);
                (timeline, TimelineHistory::parse(timeline, text.as_bytes()).unwrap())
            })
            .collect();
        recovery_points(snapshots, logs, &BTreeMap::from([(SYSTEM, histories)]))
    }

    fn runs(points: &RecoveryPoints) -> Vec<(u32, u64, u64, Vec<&str>)> {
        let run = |one: &Recoverable| (one.timeline.0, one.from.0, one.to.0);
        let ids = points.recoverable.iter().map(|one| one.snapshots.iter().map(String::as_str).collect());
        let runs = points.recoverable.iter().map(run).zip(ids);
        runs.map(|((timeline, from, to), ids)| (timeline, from, to, ids)).collect()
    }

    #[test]
    fn a_snapshot_reaches_to_the_end_of_its_stretch() {
        let early = snapshot("early", 1, SEGMENT + 40, SEGMENT + 500);
        let late = snapshot("late", 1, 2 * SEGMENT + 40, 2 * SEGMENT + 500);
        let points = found(&[early, late], &[log(1, &[(SEGMENT, 3 * SEGMENT)])], &[]);
        assert_eq!(runs(&points), [(1, SEGMENT + 500, 3 * SEGMENT, vec!["early", "late"])]);
        assert!(points.holes.is_empty() && points.unreachable.is_empty());
    }

    #[test]
    fn nothing_is_reached_through_a_hole() {
        let early = snapshot("early", 1, SEGMENT + 40, SEGMENT + 500);
        let torn = snapshot("torn", 1, 2 * SEGMENT + 40, 2 * SEGMENT + 500);
        let late = snapshot("late", 1, 4 * SEGMENT + 40, 4 * SEGMENT + 500);
        let stretches = [(SEGMENT, 2 * SEGMENT + 400), (3 * SEGMENT, 5 * SEGMENT)];
        let points = found(&[early, torn, late], &[log(1, &stretches)], &[]);
        assert_eq!(
            runs(&points),
            [
                (1, SEGMENT + 500, 2 * SEGMENT + 400, vec!["early"]),
                (1, 4 * SEGMENT + 500, 5 * SEGMENT, vec!["late"])
            ]
        );
        assert_eq!(points.unreachable, ["torn"]);
        let hole = &points.holes[0];
        assert_eq!((hole.from.0, hole.to.0), (2 * SEGMENT + 400, 3 * SEGMENT));
    }

    #[test]
    fn timelines_are_reached_through_the_place_where_their_ancestor_was_left() {
        let base = snapshot("base", 1, SEGMENT + 40, SEGMENT + 500);
        let histories = [(2, "1\t0/3000100\tx\n"), (3, "1\t0/3000100\tx\n2\t0/4000200\tx\n")];
        let one = log(1, &[(SEGMENT, 3 * SEGMENT + 0x900)]);
        let two = log(2, &[(3 * SEGMENT, 4 * SEGMENT + 0x200)]);
        let three = log(3, &[(4 * SEGMENT, 5 * SEGMENT)]);
        let all = [one.clone(), two, three.clone()];
        let points = found(std::slice::from_ref(&base), &all, &histories);
        let timelines: Vec<_> = runs(&points).into_iter().map(|(t, from, to, _)| (t, from, to)).collect();
        assert_eq!(
            timelines,
            [
                (1, SEGMENT + 500, 3 * SEGMENT + 0x900),
                (2, 0x300_0100, 4 * SEGMENT + 0x200),
                (3, 0x400_0200, 5 * SEGMENT)
            ]
        );
        // Timeline 2 ends before it was left: 3 cannot be reached.
        let short = log(2, &[(3 * SEGMENT, 4 * SEGMENT + 0x1ff)]);
        let points = found(&[base], &[one, short, three], &histories);
        assert_eq!(points.recoverable.len(), 2);
    }

    #[test]
    fn a_snapshot_behind_the_switch_does_not_reach_the_descendant() {
        let late = snapshot("late", 1, 3 * SEGMENT + 0x200, 3 * SEGMENT + 0x300);
        let logs = [log(1, &[(SEGMENT, 3 * SEGMENT + 0x900)]), log(2, &[(3 * SEGMENT, 5 * SEGMENT)])];
        let points = found(&[late], &logs, &[(2, "1\t0/3000100\tx\n")]);
        assert_eq!(runs(&points).len(), 1);
    }
}
