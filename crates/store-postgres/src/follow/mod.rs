//! Following the write-ahead log: received as the server writes it, made durable, then acknowledged.
//!
//! ```text
//!  connecting ──► streaming ──► (end of the timeline) ──► streaming the next one
//!      ▲              │ connection lost, or the WAL is gone
//!      └── pause ◄────┘
//! ```
//! One thread receives, another one publishes; between them lies a bounded room. The position that the server is
//! told is the one up to which the log is durable, so that the slot keeps exactly what is not.
//!
//! Failpoints: `postgres::received-not-published`, `postgres::published-not-acknowledged`,
//! `postgres::timeline-ended`.

mod publish;
mod session;
mod spooling;
mod start;

pub use spooling::Spooling;

use crate::cluster::Cluster;
use crate::error::Result;
use crate::host::Elsewhere;
use crate::pending::{Gathering, Pending};
use crate::sink::{FollowedLog, RepositoryLog};
use crate::spool::{SpoolStatus, SpooledLog};
use lifeboat_base::backoff::Backoff;
use lifeboat_base::clock::{Clock, Stopwatch, Timestamp};
use lifeboat_base::{Hint, report};
use lifeboat_postgres_wal::{Lsn, SystemId, TimelineId};
use lifeboat_repository::Repository;
use lifeboat_repository::ids::DatasetName;
use lifeboat_wire_postgres::{ConnectOptions, PostgresError, StatusSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One object holds at most so much: enough for many commits, little enough to be durable soon.
const STRETCH_BYTES: usize = 8 << 20;
/// So much may wait for a repository that is slow or away; then the server keeps the rest.
const ROOM_BYTES: usize = 48 << 20;
/// Waits between attempts to reach a server that is away.
const PATIENCE: Backoff =
    Backoff { first: Duration::from_millis(250), cap: Duration::from_secs(5), attempts: u32::MAX };

/// How a cluster is followed.
#[derive(Clone, Debug)]
pub struct FollowOptions {
    /// Where the server is. The application's name is what `synchronous_standby_names` may name.
    pub server: ConnectOptions,
    /// The slot that keeps WAL for us.
    pub slot: SlotChoice,
    /// WAL waits at most so long for more to be published with it. Zero: every commit is published at once.
    pub gather: Duration,
    /// End with the first error instead of connecting again.
    pub give_up: bool,
    /// Whether a session that holds the slot may be ended to have it: asked each time that one does.
    pub take_over: Option<TakeOver>,
}

/// Says whether a session of the server that holds our slot may be ended now: where we have replaced whoever holds
/// it, and that one may be frozen or cut off, so that the server would wait for it.
#[derive(Clone)]
pub struct TakeOver(Arc<dyn Fn() -> bool + Send + Sync>);

impl TakeOver {
    /// Asks this each time.
    pub fn when(may: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(may))
    }

    pub(crate) fn may(&self) -> bool {
        (self.0)()
    }
}

impl std::fmt::Debug for TakeOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TakeOver")
    }
}

/// The slot that keeps WAL on the server until it is durable here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotChoice {
    /// One that stays, made where it does not exist.
    Permanent(String),
    /// One that goes with the connection.
    Temporary(String),
}

impl SlotChoice {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Permanent(name) | Self::Temporary(name) => name,
        }
    }
}

/// What happens while a cluster is followed, for whoever shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FollowEvent {
    /// The server sends.
    Streaming {
        /// The cluster.
        system: SystemId,
        /// The timeline.
        timeline: TimelineId,
        /// The first position that is new.
        from: Lsn,
    },
    /// The log of this cluster begins, and others were kept under the same name before.
    OtherCluster {
        /// The clusters that were kept before.
        kept: Vec<SystemId>,
        /// This one.
        system: SystemId,
    },
    /// WAL that the server does not have any more: no point between can be restored to, and a snapshot is needed
    /// to restore to any point behind it.
    Hole {
        /// The timeline.
        timeline: TimelineId,
        /// The first position that is missing.
        from: Lsn,
        /// The first position that is there again.
        to: Lsn,
    },
    /// A timeline ended, and the next one is followed.
    Switched {
        /// The old timeline.
        from: TimelineId,
        /// The new one.
        to: TimelineId,
        /// Where it was left.
        at: Lsn,
    },
    /// Something that a person should change on the server.
    Warning {
        /// What.
        text: String,
    },
    /// The repository could not take a stretch. It is tried again.
    NotPublished {
        /// Where the stretch begins.
        position: Lsn,
        /// Why.
        error: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The spool could not take a stretch. It is tried again.
    NotSpooled {
        /// Where the stretch begins.
        position: Lsn,
        /// Why.
        error: String,
        /// What to do.
        hint: Option<String>,
    },
    /// What a spool holds when following begins or ends: it is not in the repository yet.
    Spooled {
        /// Bytes of log.
        waiting_bytes: u64,
        /// Bytes that a crash had cut off, and that were never acknowledged.
        torn_bytes: u64,
        /// Whether following ends.
        ends: bool,
    },
    /// The connection ended. It is made again.
    Disconnected {
        /// Why.
        error: String,
        /// What to do.
        hint: Option<String>,
        /// After which pause.
        again_in: Duration,
    },
}

/// How far following is, as of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowStatus {
    /// The timeline.
    pub timeline: TimelineId,
    /// Up to where the log is durable: in the spool where there is one, else in the repository. So much is
    /// acknowledged to the server.
    pub durable: Lsn,
    /// Up to where WAL has arrived.
    pub received: Lsn,
    /// Up to where the server's WAL went when it last said so.
    pub server_end: Lsn,
    /// How long the oldest byte that has arrived is waiting to be durable. A bound from below of what would be
    /// lost: what the server has not sent is not in it.
    pub oldest_wait: Option<Duration>,
    /// How long ago the server was last heard of.
    pub silent_for: Duration,
    /// Whether the server is sending.
    pub connected: bool,
    /// What is in the spool, where there is one.
    pub spool: Option<SpoolStatus>,
}

/// A follower, shared by those who work and those who watch.
#[derive(Clone, Debug)]
pub struct Following(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    pending: Pending,
    spool: Option<Spooling>,
    events: Mutex<std::sync::mpsc::Sender<FollowEvent>>,
}

#[derive(Debug)]
struct State {
    status: FollowStatus,
    heard: Stopwatch,
    stop: bool,
    /// This session receives no more: what has arrived is published, and that is all.
    session_over: bool,
    failed: bool,
    begins: Begins,
    slot_is_made: bool,
}

/// Where a log begins that did not come this far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    /// Where the log ends that is kept, or else with what the slot keeps: nothing in between is to be missing.
    Kept,
    /// Where somebody says once it is known.
    Awaited,
    /// With the segment of this position, whatever is missing before it.
    At(Lsn),
}

impl Following {
    /// What has been reached.
    pub fn status(&self) -> FollowStatus {
        let state = self.0.lock();
        FollowStatus {
            oldest_wait: self.0.pending.oldest(),
            silent_for: state.heard.elapsed(),
            spool: self.0.spool.as_ref().map(|spooling| spooling.spool.status()),
            ..state.status
        }
    }

    /// Asks it to end. What has arrived is published first, as far as the repository takes it at once.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Waits until the log is durable up to a position, at most so long. False where it is not. What is waited for
    /// does not wait for more to come.
    pub fn wait_for(&self, position: Lsn, at_most: Duration) -> bool {
        self.0.pending.want(position);
        let short = |state: &mut State| state.status.durable < position && !state.failed && !state.stop;
        let waited = self.0.changed.wait_timeout_while(self.0.lock(), at_most, short);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.status.durable >= position
    }

    /// Waits until the server sends, so that a backup may begin; at most so long.
    pub fn wait_until_streaming(&self, at_most: Duration) -> bool {
        let idle = |state: &mut State| !state.status.connected && !state.failed && !state.stop;
        let waited = self.0.changed.wait_timeout_while(self.0.lock(), at_most, idle);
        waited.unwrap_or_else(PoisonError::into_inner).0.status.connected
    }

    /// Waits until the slot is made, so that the server keeps what it writes from now on; at most so long.
    pub(crate) fn wait_until_kept(&self, at_most: Duration) -> bool {
        let idle = |state: &mut State| !state.slot_is_made && !state.failed && !state.stop;
        let waited = self.0.changed.wait_timeout_while(self.0.lock(), at_most, idle);
        waited.unwrap_or_else(PoisonError::into_inner).0.slot_is_made
    }

    /// Says from which position on the log is needed, where that was awaited.
    pub(crate) fn begin_at(&self, position: Lsn) {
        let mut state = self.0.lock();
        if state.begins == Begins::Awaited {
            state.begins = Begins::At(position);
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.lock().stop = true;
        self.pending.end();
        self.changed.notify_all();
    }

    fn pending(&self) -> &Pending {
        &self.pending
    }

    fn say(&self, event: FollowEvent) {
        // Nobody listens any more: then nobody needs to know.
        let _ = self.events.lock().unwrap_or_else(PoisonError::into_inner).send(event);
    }

    fn durable(&self) -> Lsn {
        self.lock().status.durable
    }

    fn received(&self) -> Lsn {
        self.lock().status.received
    }

    fn is_stopped(&self) -> bool {
        self.lock().stop
    }

    /// Whether nothing more will arrive.
    fn is_over(&self) -> bool {
        let state = self.lock();
        state.stop || state.session_over
    }

    fn is_durable(&self, timeline: TimelineId, position: Lsn) {
        let mut state = self.lock();
        state.status.timeline = timeline;
        state.status.durable = state.status.durable.max(position);
        drop(state);
        self.changed.notify_all();
    }

    fn update(&self, change: impl FnOnce(&mut FollowStatus)) {
        let mut state = self.lock();
        change(&mut state.status);
        state.heard = Stopwatch::start();
        drop(state);
        self.changed.notify_all();
    }

    /// Tells the server up to where the log is durable. What has only arrived is in memory: for who commits with
    /// `remote_write` it must not count as written either.
    fn tell(&self, status: &StatusSender) -> Result<(), PostgresError> {
        let durable = self.durable();
        status.send(durable, durable, Lsn::ZERO, false).map(drop)
    }

    /// Says that the slot is made, and waits where it is still to be said from which position on the log is needed.
    fn slot_is_made(&self) -> Begins {
        let mut state = self.lock();
        state.slot_is_made = true;
        self.changed.notify_all();
        let awaited = |state: &mut State| state.begins == Begins::Awaited && !state.stop;
        self.changed.wait_while(state, awaited).unwrap_or_else(PoisonError::into_inner).begins
    }

    /// Waits; false where it was told to stop meanwhile.
    fn pause(&self, time: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), time, |state| !state.stop);
        !waited.unwrap_or_else(PoisonError::into_inner).0.stop
    }
}

/// Follows one cluster for one dataset.
#[derive(Debug)]
pub struct Follower {
    options: FollowOptions,
    repository: Arc<Repository>,
    dataset: DatasetName,
    shared: Arc<Shared>,
}

impl Follower {
    /// A follower that has not begun, and where its events come out.
    pub fn new(
        repository: &Arc<Repository>,
        dataset: &DatasetName,
        options: FollowOptions,
    ) -> (Self, std::sync::mpsc::Receiver<FollowEvent>) {
        Self::through(repository, dataset, options, None)
    }

    /// The same through a spool: what is durable there is acknowledged at once, and `gather` is how long it may wait
    /// there to be published with more.
    pub fn through(
        repository: &Arc<Repository>,
        dataset: &DatasetName,
        options: FollowOptions,
        spool: Option<Spooling>,
    ) -> (Self, std::sync::mpsc::Receiver<FollowEvent>) {
        let (events, receiver) = std::sync::mpsc::channel();
        let wait = if spool.is_some() { Duration::ZERO } else { options.gather };
        let gathering = Gathering { wait, stretch_bytes: STRETCH_BYTES, room_bytes: ROOM_BYTES };
        let status = FollowStatus {
            timeline: TimelineId(1),
            durable: Lsn::ZERO,
            received: Lsn::ZERO,
            server_end: Lsn::ZERO,
            oldest_wait: None,
            silent_for: Duration::ZERO,
            connected: false,
            spool: None,
        };
        let state = State {
            status,
            heard: Stopwatch::start(),
            stop: false,
            session_over: false,
            failed: false,
            begins: Begins::Kept,
            slot_is_made: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            pending: Pending::new(gathering),
            spool,
            events: Mutex::new(events),
        });
        let (repository, dataset) = (repository.clone(), dataset.clone());
        (Self { options, repository, dataset, shared }, receiver)
    }

    /// The log is needed only from a position on that is not known yet: [`Following::begin_at`] says it. What was
    /// written before it is not asked for, though the server may still have it.
    pub(crate) fn await_beginning(&self) {
        self.shared.lock().begins = Begins::Awaited;
    }

    /// A handle to watch and stop it with.
    pub fn handle(&self) -> Following {
        Following(self.shared.clone())
    }

    /// Follows until it is stopped. A server or a repository that is away is waited for.
    ///
    /// # Errors
    /// Where going on would be wrong, or cannot succeed without a person: another history than the one that is
    /// kept, a missing privilege, a wrong password.
    pub fn run(self) -> Result<()> {
        let done = match &self.shared.spool {
            Some(spooling) => spooling::run(&self, &spooling.spool),
            None => self.until_stopped(),
        };
        let mut state = self.shared.lock();
        state.failed = done.is_err();
        state.status.connected = false;
        drop(state);
        self.shared.changed.notify_all();
        done
    }

    fn until_stopped(&self) -> Result<()> {
        let mut failed = 0;
        while !self.shared.is_stopped() {
            let begun = Stopwatch::start();
            let error = match session::run(self) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.shared.lock().status.connected = false;
            if self.options.give_up || !error.is_passing() {
                return Err(error);
            }
            // One that worked for a while begins to count anew.
            failed = if begun.elapsed() > PATIENCE.cap { 1 } else { failed + 1 };
            let again_in = PATIENCE.wait_after(failed).unwrap_or(PATIENCE.cap);
            self.shared.say(FollowEvent::Disconnected {
                error: report(&error),
                hint: error.hint(),
                again_in,
            });
            self.shared.pause(again_in);
        }
        Ok(())
    }

    fn log(&self, system: SystemId) -> Box<dyn FollowedLog> {
        let repository = RepositoryLog::new(&self.repository, &self.dataset, system);
        match &self.shared.spool {
            Some(spooling) => Box::new(SpooledLog::new(&spooling.spool, repository)),
            None => Box::new(repository),
        }
    }

    /// What makes a position count as durable.
    fn acknowledges(&self) -> &'static str {
        if self.shared.spool.is_some() { "spool" } else { "repository" }
    }

    /// Whether a server on this host must be refused.
    fn is_to_be_elsewhere(&self) -> bool {
        self.shared.spool.as_ref().is_some_and(|spooling| spooling.elsewhere == Elsewhere::Checked)
    }

    fn now(&self) -> Timestamp {
        Clock::System.now()
    }

    fn warn_of(&self, cluster: &Cluster) {
        let SlotChoice::Permanent(name) = &self.options.slot else { return };
        if cluster.slot_keeps_at_most.is_none() {
            self.shared.say(FollowEvent::Warning {
                text: format!(
                    "slot {name} keeps WAL without a bound while nobody follows, until the server's disk is full: set max_slot_wal_keep_size on the server"
                ),
            });
        }
    }
}
