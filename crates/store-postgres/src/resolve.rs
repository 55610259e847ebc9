//! From what a person asks for to one snapshot and one position of the log, before anything is written.

use crate::error::{PostgresStoreError, Result};
use crate::facts::{SnapshotFacts, Tablespace};
use crate::segments::{Leg, WalSource, legs};
use crate::sink::{KeptHistory, histories_in};
use crate::{STORE, lineage};
use lifeboat_postgres_wal::{
    Edge, EndReason, Layout, Lsn, Meaning, PgTime, Record, Replay, Resolution, Resolver, SystemId, Target,
    TargetError, TimelineHistory, TimelineId, WalReader,
};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{LogCatalogue, Published, Repository};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What somebody wants to get back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryTarget {
    /// The point.
    pub target: Target,
    /// Whether what the target names is included.
    pub edge: Edge,
    /// The timeline that it lies on; `None`: the newest one that is kept.
    pub timeline: Option<TimelineId>,
}

impl RecoveryTarget {
    /// All that there is.
    pub const LATEST: Self = Self { target: Target::Latest, edge: Edge::Inclusive, timeline: None };
}

/// How a target is reached.
#[derive(Clone, Debug)]
pub struct RecoveryPath {
    /// The snapshot that it begins with.
    pub snapshot: Published,
    /// What that says of its cluster.
    pub facts: SnapshotFacts,
    /// The timelines that it goes along.
    pub history: TimelineHistory,
    /// The history files that are known of the cluster: those on the way, and those of other branches, whose numbers
    /// are taken.
    pub history_files: Vec<(TimelineId, Vec<u8>)>,
    /// Where it ends.
    pub resolution: Resolution,
    /// The runs of log that it needs.
    pub legs: Vec<Leg>,
    /// The marker of the snapshot, if it was found in the log.
    pub marker_at: Option<Lsn>,
    /// Where the latest state was asked for and is not this: the log goes on behind a hole, to this position, and no
    /// snapshot leads there.
    pub goes_on_to: Option<Lsn>,
    /// The tablespaces that the log makes on the way. A server that replays that makes them where they were, whatever
    /// lies there now.
    pub later_tablespaces: Vec<Tablespace>,
}

impl RecoveryPath {
    /// Bytes of log on the way.
    pub fn wal_bytes(&self) -> u64 {
        self.legs.iter().map(|leg| leg.positions.end - leg.positions.start).sum()
    }
}

/// Finds the newest snapshot from which a target can be reached, and where exactly the target lies.
///
/// `only` is a snapshot that a person chose; without it all of the dataset are looked at, the newest first.
///
/// # Errors
/// Where no snapshot reaches the target: the error says what can be had.
pub fn resolve(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    wanted: &RecoveryTarget,
    only: Option<&Published>,
) -> Result<RecoveryPath> {
    let candidates = candidates(repository, dataset, only)?;
    let Some((_, newest)) = candidates.first() else {
        return Err(PostgresStoreError::NoSnapshot { dataset: dataset.clone() });
    };
    let system = newest.system;
    // Listed once: a log of many small objects takes its time.
    let catalogue = LogCatalogue::read(repository, dataset)?;
    let kept = histories_in(&catalogue, system)?;
    let timeline = wanted.timeline.or_else(|| newest_timeline(&catalogue, system)).unwrap_or(newest.timeline);
    let mut answer = None;
    for (snapshot, facts) in candidates {
        if facts.system != system {
            continue;
        }
        let source = WalSource::over(catalogue.clone(), system, facts.segment);
        match try_from(&source, snapshot, facts, &kept, timeline, wanted) {
            Ok(path) => return Ok(path),
            Err(error) => {
                let is_final = is_final(&error, &wanted.target);
                if is_final {
                    return Err(error);
                }
                answer = keep_better(answer, error);
            }
        }
    }
    Err(answer.unwrap_or(PostgresStoreError::NoSnapshot { dataset: dataset.clone() }))
}

fn candidates(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    only: Option<&Published>,
) -> Result<Vec<(Published, SnapshotFacts)>> {
    if let Some(only) = only {
        return Ok(vec![(only.clone(), SnapshotFacts::read(&only.snapshot.facts)?)]);
    }
    let snapshots = repository.snapshots(Some(dataset), &mut Vec::new())?;
    let mut all: Vec<_> = snapshots
        .into_iter()
        .filter(|published| published.snapshot.store == STORE)
        .filter_map(|published| {
            let facts = SnapshotFacts::read(&published.snapshot.facts).ok()?;
            Some((published, facts))
        })
        .collect();
    all.sort_by_key(|(published, _)| std::cmp::Reverse(published.snapshot.taken));
    Ok(all)
}

/// The newest timeline of a cluster of which there is any log.
fn newest_timeline(catalogue: &LogCatalogue, system: SystemId) -> Option<TimelineId> {
    let lineages = catalogue.lineages();
    let all = lineages.iter().filter_map(|log| lineage::parse(log.lineage.as_str()));
    all.filter(|(of, _)| *of == system).map(|(_, timeline)| timeline).max()
}

/// Older snapshots lead no farther than newer ones: they are worth a look only where the target may lie before
/// the newer one, or has no place in time.
fn is_final(error: &PostgresStoreError, target: &Target) -> bool {
    match error {
        PostgresStoreError::Target(TargetError::NotReached { .. }) => {
            matches!(target, Target::Time(_) | Target::Lsn(_))
        }
        PostgresStoreError::Target(_)
        | PostgresStoreError::Unreachable { .. }
        | PostgresStoreError::LogDamaged { .. }
        | PostgresStoreError::Log(_) => false,
        _ => true,
    }
}

/// Of two reasons: a target before the older snapshot says more than one before the newer; of others the first.
fn keep_better(earlier: Option<PostgresStoreError>, error: PostgresStoreError) -> Option<PostgresStoreError> {
    match (&earlier, &error) {
        (Some(PostgresStoreError::Target(TargetError::BeforeConsistent { .. })), _) | (None, _) => {
            Some(error)
        }
        _ => earlier,
    }
}

fn try_from(
    source: &WalSource,
    snapshot: Published,
    facts: SnapshotFacts,
    kept: &BTreeMap<TimelineId, KeptHistory>,
    timeline: TimelineId,
    wanted: &RecoveryTarget,
) -> Result<RecoveryPath> {
    let history = history_of(kept, timeline);
    let unreachable = || PostgresStoreError::Unreachable { snapshot: snapshot.id.short(), timeline };
    let end = end_of_log(source, &facts, &history).ok_or_else(unreachable)?;
    let way = legs(&facts, &history, end).ok_or_else(unreachable)?;
    let mut scan = Scan::new(wanted, &facts, &history);
    scan.run(source, &way)?;
    let found = scan.finish()?;
    let (resolution, marker_at) = (found.resolution, found.marker_at);
    let made_before = |(at, _): &(Lsn, Tablespace)| *at <= resolution.stop;
    let later_tablespaces =
        found.tablespaces.into_iter().filter(made_before).map(|(_, space)| space).collect();
    // Behind a switch a segment is empty, and need not be there.
    let legs = legs(&facts, &history, resolution.log_needed.min(end)).ok_or_else(unreachable)?;
    // All of them, also those of other branches: a server that is promoted takes the next number of which it finds
    // none, and a number that is taken must not get a second meaning.
    let history_files = kept.iter().map(|(of, kept)| (*of, kept.content.clone())).collect();
    let newest = source.end(timeline).filter(|newest| wanted.target == Target::Latest && *newest > end);
    Ok(RecoveryPath {
        snapshot,
        facts,
        history,
        history_files,
        resolution,
        legs,
        marker_at,
        goes_on_to: newest,
        later_tablespaces,
    })
}

/// A timeline of which no history was kept came from none that is known.
fn history_of(kept: &BTreeMap<TimelineId, KeptHistory>, timeline: TimelineId) -> TimelineHistory {
    kept.get(&timeline).map_or_else(|| TimelineHistory::first(timeline), |kept| kept.history.clone())
}

/// Where the log ends on the way along a history from a snapshot on: at the first thing that is missing.
fn end_of_log(source: &WalSource, facts: &SnapshotFacts, history: &TimelineHistory) -> Option<Lsn> {
    if !history.includes(facts.timeline) {
        return None;
    }
    let mut from = facts.first_needed();
    for switch in history.switches().iter().filter(|switch| switch.timeline >= facts.timeline) {
        let end = source.end_of_stretch(switch.timeline, from)?;
        if end < switch.at {
            return Some(end);
        }
        from = facts.segment.start_of(switch.at);
    }
    source.end_of_stretch(history.timeline(), from)
}

/// Reading the log from a snapshot on, with a target in mind.
struct Scan<'s> {
    reader: WalReader,
    resolver: Resolver,
    facts: &'s SnapshotFacts,
    target: Target,
    /// The first position that has not been read.
    position: Lsn,
    marker_at: Option<Lsn>,
    /// The tablespaces that were made, and where in the log.
    tablespaces: Vec<(Lsn, Tablespace)>,
    done: bool,
    ended: Option<lifeboat_postgres_wal::End>,
}

impl<'s> Scan<'s> {
    fn new(wanted: &RecoveryTarget, facts: &'s SnapshotFacts, history: &TimelineHistory) -> Self {
        let replay = Replay { redo: facts.start, consistent: facts.stop };
        let start = facts.first_needed();
        let mut layout = Layout::new(history.clone(), facts.segment);
        layout.system = Some(facts.system);
        Self {
            reader: WalReader::new(start, layout),
            resolver: Resolver::new(wanted.target.clone(), wanted.edge, replay),
            facts,
            target: wanted.target.clone(),
            position: start,
            marker_at: None,
            tablespaces: Vec::new(),
            done: false,
            ended: None,
        }
    }

    fn run(&mut self, source: &WalSource, legs: &[Leg]) -> Result<()> {
        for leg in legs {
            // The first segment of a timeline repeats what came before it.
            let known = Leg { timeline: leg.timeline, positions: self.position.0..leg.positions.end };
            source.read(&known, &mut |_, bytes| Ok(self.take(bytes)))?;
            self.position = Lsn(leg.positions.end);
            if self.done || self.ended.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// False once nothing more needs to be read.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let Self { reader, resolver, facts, marker_at, tablespaces, done, .. } = self;
        let fed = reader.feed(bytes, |record| {
            if record.start >= facts.start {
                tablespaces.extend(tablespace(record).map(|space| (record.start, space)));
            }
            if marker_at.is_none() && record.start < facts.stop {
                *marker_at = marker(record, facts);
            }
            *done |= resolver.see(record) == ControlFlow::Break(());
        });
        self.ended = fed.err();
        !self.done && self.ended.is_none()
    }

    fn finish(self) -> Result<Found> {
        let end = self.ended.unwrap_or_else(|| self.reader.finish());
        let at = end.at;
        let damaged = |error| match (&error, end.reason) {
            // What follows is only not there yet.
            (_, EndReason::Exhausted | EndReason::Torn) => PostgresStoreError::Target(error),
            _ => PostgresStoreError::LogDamaged { end, target: Box::new(error) },
        };
        let resolution = self.resolver.finish(at).map_err(damaged)?;
        let stops_early = !matches!(end.reason, EndReason::Exhausted | EndReason::Torn);
        if stops_early && !self.done && self.target == Target::Latest {
            // The rest of the log is there and cannot be read: `latest` would be less than what was kept.
            let target = TargetError::LogTooShort { end: at, consistent: self.facts.stop };
            return Err(PostgresStoreError::LogDamaged { end, target: Box::new(target) });
        }
        Ok(Found { resolution, marker_at: self.marker_at, tablespaces: self.tablespaces })
    }
}

/// What reading the log has found.
struct Found {
    resolution: Resolution,
    marker_at: Option<Lsn>,
    tablespaces: Vec<(Lsn, Tablespace)>,
}

/// The tablespace that a record makes outside of the data directory.
fn tablespace(record: &Record<'_>) -> Option<Tablespace> {
    match record.meaning() {
        Ok(Some(Meaning::Tablespace { oid, location })) if !location.is_empty() => {
            Some(Tablespace { oid, location })
        }
        _ => None,
    }
}

/// Where the snapshot's own message is, if this record is it.
fn marker(record: &Record<'_>, facts: &SnapshotFacts) -> Option<Lsn> {
    let wanted = facts.marker.as_ref()?;
    match record.meaning() {
        Ok(Some(Meaning::Message(message))) if message.content == wanted.as_bytes() => Some(record.start),
        _ => None,
    }
}

/// An instant as PostgreSQL's clock says it.
pub fn target_time(at: lifeboat_base::clock::Timestamp) -> Target {
    Target::Time(PgTime::from_timestamp(at))
}
