//! Following a cluster, with a snapshot wherever the log alone would lead nowhere.

use crate::error::{RecoveryError, Result};
use crate::protect::{ProtectOptions, ProtectReport, protect};
use crate::target::Target;
use lifeboat_base::clock::Stopwatch;
use lifeboat_postgres_wal::{Lsn, SystemId, TimelineId};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{LogCatalogue, Repository};
use lifeboat_store::progress::Progress;
use lifeboat_store_postgres::{
    FollowEvent, FollowOptions, FollowStatus, Follower, Following, STORE, SlotChoice, SnapshotFacts, lineage,
    slot_name,
};
use lifeboat_wire_postgres::ConnectOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A stream that has not moved for so long is said to be stalled.
const STALLED_AFTER: Duration = Duration::from_secs(3);
/// How often it is looked whether the stream moves.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is followed, and how.
#[derive(Clone, Debug)]
pub struct FollowPlan {
    /// Where it is kept.
    pub repository: Arc<Repository>,
    /// As which dataset.
    pub dataset: DatasetName,
    /// The server.
    pub server: ConnectOptions,
    /// How long a commit may wait for others to be published with it.
    pub gather: Duration,
    /// How often to tell the status.
    pub say_every: Duration,
    /// Whether a snapshot is taken where the log leads nowhere without one.
    pub snapshots: bool,
}

/// What there is to tell.
#[derive(Debug)]
pub enum FollowNews {
    /// Something happened.
    Event(FollowEvent),
    /// How far it is.
    Status(FollowStatus),
    /// The stream has not moved for some seconds: commits would be lost.
    Stalled(FollowStatus),
    /// It moves again.
    Moving(FollowStatus),
    /// A snapshot has been begun.
    SnapshotBegun,
    /// A snapshot has been taken.
    SnapshotTaken(Box<ProtectReport>),
    /// A snapshot failed; the log is kept nevertheless.
    SnapshotFailed(Box<RecoveryError>),
}

/// Follows until `stop` is set, and tells what happens.
///
/// # Errors
/// Where going on would be wrong or cannot succeed without a person.
pub fn follow(plan: &FollowPlan, stop: &AtomicBool, tell: &mut dyn FnMut(FollowNews)) -> Result<()> {
    let options = FollowOptions {
        server: plan.server.clone(),
        slot: SlotChoice::Permanent(slot_name(&plan.dataset)),
        gather: plan.gather,
        give_up: false,
    };
    let (follower, events) = Follower::new(&plan.repository, &plan.dataset, options);
    let following = follower.handle();
    let thread = std::thread::spawn(move || follower.run());
    let mut watch = Watch {
        plan,
        following: &following,
        said: Stopwatch::start(),
        is_stalled: false,
        snapshot: None,
        wants_snapshot: false,
    };
    watch.until_stopped(&events, stop, tell, &|| thread.is_finished());
    following.stop();
    let done = thread.join();
    watch.end_snapshot(tell);
    events.try_iter().for_each(|event| tell(FollowNews::Event(event)));
    tell(FollowNews::Status(following.status()));
    match done {
        Ok(done) => Ok(done?),
        Err(_) => Err(lifeboat_repository::RepositoryError::Aborted.into()),
    }
}

/// Watching one follower.
struct Watch<'w> {
    plan: &'w FollowPlan,
    following: &'w Following,
    said: Stopwatch,
    is_stalled: bool,
    snapshot: Option<JoinHandle<Result<ProtectReport>>>,
    wants_snapshot: bool,
}

impl Watch<'_> {
    fn until_stopped(
        &mut self,
        events: &Receiver<FollowEvent>,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(FollowNews),
        has_ended: &dyn Fn() -> bool,
    ) {
        while !stop.load(Ordering::Relaxed) && !has_ended() {
            match events.recv_timeout(LOOK_EVERY) {
                Ok(event) => {
                    self.note(&event);
                    tell(FollowNews::Event(event));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.tell_status(tell);
            self.take_snapshot(tell);
        }
    }

    /// Whether what happened makes a snapshot necessary.
    fn note(&mut self, event: &FollowEvent) {
        match event {
            FollowEvent::Hole { .. } => self.wants_snapshot = true,
            FollowEvent::Streaming { system, timeline, from } => {
                // Where that cannot be found out, a snapshot too many does no harm.
                self.wants_snapshot |= !leads_to(self.plan, *system, *timeline, *from).unwrap_or(false);
            }
            _ => {}
        }
    }

    fn tell_status(&mut self, tell: &mut dyn FnMut(FollowNews)) {
        let status = self.following.status();
        let stands = status.silent_for > STALLED_AFTER
            || status.oldest_wait.is_some_and(|wait| wait > STALLED_AFTER.max(2 * self.plan.gather));
        if stands != self.is_stalled {
            self.is_stalled = stands;
            tell(if stands { FollowNews::Stalled(status) } else { FollowNews::Moving(status) });
        }
        if self.said.elapsed() >= self.plan.say_every {
            self.said = Stopwatch::start();
            tell(FollowNews::Status(status));
        }
    }

    fn take_snapshot(&mut self, tell: &mut dyn FnMut(FollowNews)) {
        if self.snapshot.as_ref().is_some_and(JoinHandle::is_finished) {
            self.end_snapshot(tell);
        }
        let due = self.wants_snapshot && self.plan.snapshots && self.following.status().connected;
        if !due || self.snapshot.is_some() {
            return;
        }
        self.wants_snapshot = false;
        tell(FollowNews::SnapshotBegun);
        let plan = self.plan.clone();
        self.snapshot = Some(std::thread::spawn(move || {
            let target = Target::Postgres(Box::new(plan.server));
            let options = ProtectOptions::default();
            protect(&plan.repository, &plan.dataset, &target, &options, &Progress::default())
        }));
    }

    fn end_snapshot(&mut self, tell: &mut dyn FnMut(FollowNews)) {
        match self.snapshot.take().map(JoinHandle::join) {
            None => {}
            Some(Ok(Ok(report))) => tell(FollowNews::SnapshotTaken(Box::new(report))),
            Some(Ok(Err(error))) => tell(FollowNews::SnapshotFailed(Box::new(error))),
            Some(Err(_)) => {
                let error = lifeboat_repository::RepositoryError::Aborted.into();
                tell(FollowNews::SnapshotFailed(Box::new(error)));
            }
        }
    }
}

/// Whether a snapshot is kept that leads to the log from a position of a timeline on.
fn leads_to(plan: &FollowPlan, system: SystemId, timeline: TimelineId, from: Lsn) -> Result<bool> {
    let snapshots = plan.repository.snapshots(Some(&plan.dataset), &mut Vec::new())?;
    let of_cluster = snapshots
        .iter()
        .filter(|published| published.snapshot.store == STORE)
        .filter_map(|published| SnapshotFacts::read(&published.snapshot.facts).ok())
        .filter(|facts| facts.system == system && facts.timeline <= timeline);
    let logs = LogCatalogue::read(&plan.repository, &plan.dataset)?.lineages();
    let name = lineage::name_of_timeline(system, timeline);
    let log = logs.iter().find(|log| log.lineage.as_str() == name);
    let stretch_start =
        log.and_then(|log| log.stretches.iter().rfind(|s| s.end >= from.0)).map_or(from.0, |s| s.start);
    Ok(of_cluster
        .into_iter()
        .any(|facts| facts.timeline < timeline || facts.first_needed().0 >= stretch_start))
}
