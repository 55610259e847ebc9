//! Following a cluster, with a snapshot wherever the log alone would lead nowhere.

use crate::error::{RecoveryError, Result};
use crate::protect::{ProtectOptions, ProtectReport, protect};
use crate::target::Target;
use lifeboat_base::Secret;
use lifeboat_base::clock::Stopwatch;
use lifeboat_postgres_wal::{Lsn, SystemId, TimelineId};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{ChainFix, LogCatalogue, Repository};
use lifeboat_store::progress::Progress;
use lifeboat_store_postgres::synchronous::{
    WatchdogConfig, WatchdogEvent, WatchdogKeeper, check_synchronous, keep_watchdog,
};
use lifeboat_store_postgres::{
    Elsewhere, FollowEvent, FollowOptions, FollowStatus, Follower, Following, STORE, SlotChoice,
    SnapshotFacts, Spooling, TakeOver, check_elsewhere, lineage, slot_name,
};
use lifeboat_wire_postgres::ConnectOptions;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A stream that has not moved for so long is said to be stalled.
const STALLED_AFTER: Duration = Duration::from_secs(3);
/// How long the end of synchronous mode is waited for.
const LEAVES_WITHIN: Duration = Duration::from_secs(30);
/// What we call ourselves where nobody says otherwise.
const DEFAULT_NAME: &str = "lifeboat";
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
    /// What is durable in this spool is acknowledged; without one, what is durable in the repository.
    pub spool: Option<Spooling>,
    /// Commits wait until they are acknowledged by us.
    pub synchronous: Option<Synchronous>,
    /// Whether a session that holds the slot may be ended to have it.
    pub take_over: Option<TakeOver>,
    /// Under whose leadership snapshots are published, where a leader follows.
    pub leadership: Option<LeadsBy>,
}

/// Says what a snapshot that a leader publishes carries, as of now.
#[derive(Clone)]
pub struct LeadsBy(Arc<dyn Fn() -> lifeboat_repository::Result<ChainFix> + Send + Sync>);

impl LeadsBy {
    /// Asks this before each snapshot; where it fails, none is taken.
    pub fn asking(ask: impl Fn() -> lifeboat_repository::Result<ChainFix> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl fmt::Debug for LeadsBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeadsBy")
    }
}

/// How commits wait for us, and for how long at most.
#[derive(Clone)]
pub struct Synchronous {
    /// The longest time that a commit may wait.
    pub max_wait: Duration,
    /// The server once more, as text, for the watchdog's own session.
    pub server: Secret,
    /// Where the intervals of exposure are kept: of this dataset alone.
    pub directory: PathBuf,
    /// Makes the command of the watchdog's process.
    pub watchdog: Arc<dyn Fn() -> Command + Send + Sync>,
}

impl fmt::Debug for Synchronous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Synchronous").field("max_wait", &self.max_wait).finish_non_exhaustive()
    }
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
    /// The watchdog of synchronous mode says something.
    Watchdog(WatchdogEvent),
    /// Something that a person should know of how commits wait.
    SynchronousNote(String),
    /// Synchronous mode has ended; false where our name could not be taken out in time.
    SynchronousEnded(bool),
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
    let mut server = plan.server.clone();
    if plan.synchronous.is_some() {
        // The name that commits wait for is this dataset's, unless a person chose one.
        if [DEFAULT_NAME, ""].contains(&server.application_name()) {
            server.set_application_name(&slot_name(&plan.dataset));
        }
        // Before anybody waits for us.
        if plan.spool.as_ref().is_some_and(|spooling| spooling.elsewhere == Elsewhere::Checked) {
            check_elsewhere(&server)?;
        }
        check_synchronous(&server)?
            .notes
            .into_iter()
            .for_each(|note| tell(FollowNews::SynchronousNote(note)));
    }
    let options = FollowOptions {
        server: server.clone(),
        slot: SlotChoice::Permanent(slot_name(&plan.dataset)),
        // Where a spool acknowledges, nobody waits for what is published from it.
        gather: if plan.synchronous.is_some() && plan.spool.is_none() { Duration::ZERO } else { plan.gather },
        give_up: false,
        take_over: plan.take_over.clone(),
    };
    let (follower, events) = Follower::through(&plan.repository, &plan.dataset, options, plan.spool.clone());
    let following = follower.handle();
    let thread = std::thread::spawn(move || follower.run());
    let (said, watchdog_events) = channel();
    let keeper = plan.synchronous.as_ref().map(|how| keep(how, server, &following, said)).transpose();
    let keeper = match keeper {
        Ok(keeper) => keeper,
        Err(error) => {
            following.stop();
            let _ = thread.join();
            return Err(error);
        }
    };
    let mut watch = Watch {
        plan,
        following: &following,
        watchdog_events,
        said: Stopwatch::start(),
        is_stalled: false,
        snapshot: None,
        wants_snapshot: false,
    };
    watch.until_stopped(&events, stop, tell, &|| thread.is_finished());
    // First nobody waits for us any more, then we end.
    if let Some(keeper) = keeper {
        tell(FollowNews::SynchronousEnded(keeper.stop()));
    }
    following.stop();
    let done = thread.join();
    watch.end_snapshot(tell);
    watch.tell_watchdog(tell);
    events.try_iter().for_each(|event| tell(FollowNews::Event(event)));
    tell(FollowNews::Status(following.status()));
    match done {
        Ok(done) => Ok(done?),
        Err(_) => Err(lifeboat_repository::RepositoryError::Aborted.into()),
    }
}

fn keep(
    how: &Synchronous,
    server: ConnectOptions,
    following: &Following,
    events: Sender<WatchdogEvent>,
) -> Result<WatchdogKeeper> {
    let config = WatchdogConfig {
        server: String::from_utf8_lossy(how.server.expose()).into_owned(),
        name: server.application_name().to_owned(),
        max_wait: how.max_wait,
        directory: how.directory.clone(),
        alone: false,
    };
    let watchdog = how.watchdog.clone();
    let start = move || watchdog();
    Ok(keep_watchdog(start, config, server, following.clone(), events, LEAVES_WITHIN)?)
}

/// Watching one follower.
struct Watch<'w> {
    plan: &'w FollowPlan,
    following: &'w Following,
    watchdog_events: Receiver<WatchdogEvent>,
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
            self.tell_watchdog(tell);
            self.tell_status(tell);
            self.take_snapshot(tell);
        }
    }

    fn tell_watchdog(&self, tell: &mut dyn FnMut(FollowNews)) {
        self.watchdog_events.try_iter().for_each(|event| tell(FollowNews::Watchdog(event)));
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
            let leadership = plan.leadership.as_ref().map(|leads| (leads.0)()).transpose()?;
            let target = Target::Postgres(Box::new(plan.server));
            let options = ProtectOptions { leadership, ..ProtectOptions::default() };
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
    // What is in a spool will follow on the log; asked first, since it only becomes less.
    let spooled = plan.spool.as_ref().map_or(0, |spooling| spooling.spool.status().waiting_bytes);
    let snapshots = plan.repository.snapshots(Some(&plan.dataset), &mut Vec::new())?;
    let of_cluster = snapshots
        .iter()
        .filter(|published| published.snapshot.store == STORE)
        .filter_map(|published| SnapshotFacts::read(&published.snapshot.facts).ok())
        .filter(|facts| facts.system == system && facts.timeline <= timeline);
    let logs = LogCatalogue::read(&plan.repository, &plan.dataset)?.lineages();
    let name = lineage::name_of_timeline(system, timeline);
    let log = logs.iter().find(|log| log.lineage.as_str() == name);
    let reached = from.0.saturating_sub(spooled);
    let stretch_start =
        log.and_then(|log| log.stretches.iter().rfind(|s| s.end >= reached)).map_or(from.0, |s| s.start);
    Ok(of_cluster
        .into_iter()
        .any(|facts| facts.timeline < timeline || facts.first_needed().0 >= stretch_start))
}
