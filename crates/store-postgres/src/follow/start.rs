//! Where following goes on: on which timeline, at which position, and what must agree there.

use crate::cluster::Cluster;
use crate::error::{PostgresStoreError, Result};
use crate::sink::{FollowedLog, WalSink};
use lifeboat_base::clock::Timestamp;
use lifeboat_postgres_wal::{Lsn, SegmentSize, TimelineHistory, TimelineId};
use lifeboat_wire_postgres::Connection;

/// How much of what is kept is asked for again and compared, before anything is appended to it.
const OVERLAP_BYTES: u64 = 64 << 10;

/// Where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The timeline to stream.
    pub(crate) timeline: TimelineId,
    /// The position to ask for.
    pub(crate) position: Lsn,
    /// What is kept from there on: the server must send the same.
    pub(crate) overlap: Vec<u8>,
}

impl Start {
    /// The first position that is new.
    pub(crate) fn first_new(&self) -> Lsn {
        self.position.after(self.overlap.len() as u64)
    }

    /// The same, asking for nothing that lies before the segment of the first new position.
    pub(crate) fn within_segment(mut self, segment: SegmentSize) -> Self {
        let position = segment.start_of(self.first_new()).max(self.position);
        let older = usize::try_from(position.since(self.position)).unwrap_or(usize::MAX);
        self.overlap.drain(..older.min(self.overlap.len()));
        Self { position, ..self }
    }
}

/// What is kept, and what the server is: all that decides where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    /// The timelines that are kept, with their ends, ascending.
    kept: Vec<(TimelineId, Lsn)>,
    /// The history of the server's timeline.
    history: TimelineHistory,
    /// Where the server's WAL ends.
    flushed: Lsn,
    /// The first position that the server has promised to keep.
    promised: Lsn,
}

/// The timeline and position to go on with, before looking at what is kept of it.
fn choose(standing: &Standing, cluster: &Cluster) -> Result<(TimelineId, Lsn)> {
    let server = standing.history.timeline();
    let Some((newest, end)) = standing.kept.last().copied() else {
        let position = cluster.segment.start_of(standing.promised);
        return Ok((standing.history.timeline_at(position), position));
    };
    if newest == server {
        if end > standing.flushed {
            let (system, kept, flushed) = (cluster.system, end, standing.flushed);
            return Err(PostgresStoreError::Behind { system, timeline: server, server: flushed, kept });
        }
        return Ok((newest, end));
    }
    let (ancestor, end, left) =
        standing.ancestor().ok_or(PostgresStoreError::NoDescendant { server, kept: newest })?;
    if end < left {
        return Ok((ancestor, end));
    }
    Ok((next_timeline(&standing.history, ancestor), cluster.segment.start_of(left)))
}

impl Standing {
    /// The newest kept timeline that the server's comes from, its end, and where the server's history left it. A
    /// branch beside the newest timeline counts where it has a number of its own: a cluster that was restored to
    /// before a promotion, say. The number of an older timeline is that of an old primary that is back.
    fn ancestor(&self) -> Option<(TimelineId, Lsn, Lsn)> {
        let (newest, _) = self.kept.last()?;
        if self.history.timeline() < *newest {
            return None;
        }
        let left = |(kept, end): &(TimelineId, Lsn)| Some((*kept, *end, self.history.end_of(*kept)?));
        self.kept.iter().rev().find_map(left)
    }
}

/// The timeline that came after one of the ancestors.
fn next_timeline(history: &TimelineHistory, ancestor: TimelineId) -> TimelineId {
    let switches = history.switches();
    let next = switches.iter().find(|switch| switch.timeline > ancestor);
    next.map_or(history.timeline(), |switch| switch.timeline)
}

/// Asks the server and the log where to go on. The histories of the server's timelines are kept first,
/// so that no WAL is ever kept whose timeline nobody could explain.
pub(crate) fn find_start(
    connection: &mut Connection,
    cluster: &Cluster,
    promised: Option<Lsn>,
    log: &mut dyn FollowedLog,
    now: Timestamp,
) -> Result<Start> {
    let history = keep_histories(connection, cluster.timeline, log, now)?;
    let mut kept = Vec::new();
    for timeline in log.timelines()? {
        if let Some(end) = log.end(timeline)? {
            kept.push((timeline, end));
        }
    }
    let promised = promised.unwrap_or(cluster.flushed);
    // Asked once more, after the log was looked at: somebody else may be appending what is newer than the first
    // answer, and that is no server that was set back.
    let flushed = connection.identify_system()?.flushed.max(cluster.flushed);
    let standing = Standing { kept, history, flushed, promised };
    let (timeline, position) = choose(&standing, cluster)?;
    match log.tail(timeline, OVERLAP_BYTES)? {
        Some((position, overlap)) => Ok(Start { timeline, position, overlap }),
        None => Ok(Start { timeline, position, overlap: Vec::new() }),
    }
}

fn keep_histories(
    connection: &mut Connection,
    timeline: TimelineId,
    log: &mut dyn FollowedLog,
    now: Timestamp,
) -> Result<TimelineHistory> {
    if timeline == TimelineId(1) {
        return Ok(TimelineHistory::first(timeline));
    }
    let file = connection.timeline_history(timeline)?;
    let history = TimelineHistory::parse(timeline, &file.content).map_err(|error| {
        PostgresStoreError::NotServed { what: format!("an unreadable history ({error})") }
    })?;
    if let Some(kept) = log.history(timeline)?
        && kept != history
    {
        // Two standbys were promoted, and took the same number.
        let at = first_difference(&kept, &history).unwrap_or_default();
        return Err(PostgresStoreError::Diverged { system: log.system(), timeline, at });
    }
    log.keep_history(timeline, &file.content, now)?;
    Ok(history)
}

/// The first position that lies on different timelines by two histories of the same one.
fn first_difference(one: &TimelineHistory, other: &TimelineHistory) -> Option<Lsn> {
    let ends = |history: &TimelineHistory| -> Vec<_> {
        history.switches().iter().map(|switch| (switch.at, switch.timeline)).collect()
    };
    let (one, other) = (ends(one), ends(other));
    let same = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
    one.get(same).into_iter().chain(other.get(same)).map(|(at, _)| *at).min()
}

/// As [`keep_histories`], for a timeline that has just begun.
pub(crate) fn keep_history(
    connection: &mut Connection,
    timeline: TimelineId,
    sink: &mut dyn WalSink,
    now: Timestamp,
) -> Result<()> {
    let file = connection.timeline_history(timeline)?;
    sink.keep_history(timeline, &file.content, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_postgres_wal::SystemId;

    const SEGMENT: u64 = 16 << 20;

    fn cluster(timeline: u32) -> Cluster {
        Cluster {
            system: SystemId(7),
            timeline: TimelineId(timeline),
            flushed: Lsn(10 * SEGMENT + 500),
            server_version: 150_014,
            block_bytes: 8192,
            segment: SegmentSize::DEFAULT,
            checksums: true,
            slot_keeps_at_most: None,
        }
    }

    /// Timeline 3: 1 was left in segment 4, 2 in segment 6.
    fn standing(kept: &[(u32, u64)], server: u32) -> Standing {
        let lines = ["", "1\t0/4000100\tx\n", "1\t0/4000100\tx\n2\t0/6000200\tx\n"];
        let history =
            TimelineHistory::parse(TimelineId(server), lines[server as usize - 1].as_bytes()).unwrap();
        let kept = kept.iter().map(|(timeline, end)| (TimelineId(*timeline), Lsn(*end))).collect();
        Standing { kept, history, flushed: Lsn(10 * SEGMENT + 500), promised: Lsn(9 * SEGMENT + 7) }
    }

    fn chosen(kept: &[(u32, u64)], server: u32) -> Result<(u32, u64)> {
        let (timeline, position) = choose(&standing(kept, server), &cluster(server))?;
        Ok((timeline.0, position.0))
    }

    #[test]
    fn it_begins_with_the_segment_that_the_server_promised_to_keep() {
        assert_eq!(chosen(&[], 1).unwrap(), (1, 9 * SEGMENT));
        assert_eq!(chosen(&[], 3).unwrap(), (3, 9 * SEGMENT));
        let mut earlier = standing(&[], 3);
        earlier.promised = Lsn(0x500_0001);
        assert_eq!(choose(&earlier, &cluster(3)).unwrap(), (TimelineId(2), Lsn(0x500_0000)));
    }

    #[test]
    fn what_is_compared_may_be_cut_to_one_segment() {
        let cut = |position: u64, overlap: usize| {
            let start = Start { timeline: TimelineId(1), position: Lsn(position), overlap: vec![7; overlap] };
            let first_new = start.first_new();
            let cut = start.within_segment(SegmentSize::DEFAULT);
            assert_eq!(cut.first_new(), first_new);
            (cut.position.0, cut.overlap.len())
        };
        assert_eq!(cut(SEGMENT - 100, 130), (SEGMENT, 30));
        assert_eq!(cut(SEGMENT - 100, 100), (SEGMENT, 0));
        assert_eq!(cut(SEGMENT + 5, 100), (SEGMENT + 5, 100));
    }

    #[test]
    fn it_goes_on_where_it_ended() {
        assert_eq!(chosen(&[(1, 5 * SEGMENT + 9)], 1).unwrap(), (1, 5 * SEGMENT + 9));
        assert_eq!(chosen(&[(1, 99), (3, 8 * SEGMENT)], 3).unwrap(), (3, 8 * SEGMENT));
    }

    #[test]
    fn a_timeline_is_followed_to_its_end_and_then_the_next_from_its_first_segment() {
        assert_eq!(chosen(&[(1, 0x400_00FF)], 3).unwrap(), (1, 0x400_00FF));
        assert_eq!(chosen(&[(1, 0x400_0100)], 3).unwrap(), (2, 0x400_0000));
        assert_eq!(chosen(&[(2, 0x700_0000)], 3).unwrap(), (3, 0x600_0000), "beyond the switch");
    }

    #[test]
    fn what_is_no_descendant_or_was_set_back_is_refused() {
        assert!(matches!(chosen(&[(1, 10 * SEGMENT + 501)], 1), Err(PostgresStoreError::Behind { .. })));
        assert!(matches!(chosen(&[(2, 5)], 1), Err(PostgresStoreError::NoDescendant { .. })));
        let mut strange = standing(&[(2, 5)], 3);
        strange.history = TimelineHistory::parse(TimelineId(3), b"1\t0/4000100\tx\n").unwrap();
        assert!(matches!(choose(&strange, &cluster(3)), Err(PostgresStoreError::NoDescendant { .. })));
    }

    #[test]
    fn a_branch_beside_the_newest_timeline_goes_on_from_where_it_left_its_ancestor() {
        let mut beside = standing(&[(1, 0x400_0200), (2, 0x500_0000)], 3);
        beside.history = TimelineHistory::parse(TimelineId(3), b"1\t0/4000100\tx\n").unwrap();
        assert_eq!(choose(&beside, &cluster(3)).unwrap(), (TimelineId(3), Lsn(0x400_0000)));
        let one = beside.history.clone();
        let other = TimelineHistory::parse(TimelineId(3), b"1\t0/4000200\tx\n").unwrap();
        assert_eq!(first_difference(&one, &other), Some(Lsn(0x400_0100)));
        assert_eq!(first_difference(&one, &one), None);
    }
}
