//! Streams: one supervisor a continuously protected dataset. A follower that ends is started again, after a
//! pause that grows; it ends for good only when it is told to.

use crate::evidence;
use crate::house::House;
use crate::jobs::{Done, planned, taken};
use crate::lead::Lead;
use crate::means::Trouble;
use crate::task::{TaskKey, TaskKind, is_shared};
use lifeboat_base::Secret;
use lifeboat_base::clock::Stopwatch;
use lifeboat_plan::{Ack, DatasetPlan, Mode};
use lifeboat_recovery::postgres::{FollowNews, FollowPlan, LeadsBy, Synchronous, follow};
use lifeboat_recovery::{RecoveryError, Target};
use lifeboat_repository::RepositoryError;
use lifeboat_repository::ids::DatasetName;
use lifeboat_store_postgres::synchronous::WatchdogEvent;
use lifeboat_store_postgres::{
    DEFAULT_SPOOL_LIMIT_BYTES, Elsewhere, FollowEvent, PostgresStoreError, Spool, SpoolOwner, Spooling,
    TakeOver,
};
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A commit waits at most so long for others to be published with it.
const GATHER: Duration = Duration::from_millis(200);
/// How often a follower says how far it is: well within the three seconds in which a stall must show.
const SAY_EVERY: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A follower that ran so long starts anew with the first pause.
const RAN_WELL: Duration = Duration::from_secs(60);
const MAX_WAIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A supervised stream.
#[derive(Debug)]
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    /// Starts following a dataset.
    pub(crate) fn start(house: &Arc<House>, lead: &Arc<Lead>, dataset: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, name, flag) = (house.clone(), dataset.to_owned(), stop.clone());
        let lead = lead.clone();
        let thread = std::thread::Builder::new()
            .name(format!("follow {name}"))
            .spawn(move || supervise(&shared, &lead, &name, &flag));
        if let Err(error) = &thread {
            house.live.stream_failed(dataset, format!("start a thread: {error}"));
        }
        Self { stop, thread: thread.ok() }
    }

    /// Tells it to end, and does not wait.
    pub(crate) fn tell_to_end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether it has ended; a stream whose thread could not be started has.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.tell_to_end();
        if let Some(thread) = self.thread.take() {
            // It panicked: that has been told where it happened.
            let _ = thread.join();
        }
    }
}

/// Whether a dataset is followed.
pub(crate) fn is_followed(plan: &DatasetPlan) -> bool {
    let is_continuous = plan.protect.as_ref().is_some_and(|protect| protect.mode == Mode::Continuous);
    is_continuous && plan.store_kind().is_none_or(|kind| kind == lifeboat_plan::StoreKind::Postgres)
}

fn supervise(house: &House, lead: &Arc<Lead>, dataset: &str, stop: &AtomicBool) {
    let mut pause = FIRST_PAUSE;
    while !stop.load(Ordering::Relaxed) {
        let watch = Stopwatch::start();
        let ended = prepare(house, lead, dataset).and_then(|plan| follow_one(house, dataset, &plan, stop));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let trouble = ended
            .err()
            .unwrap_or_else(|| Trouble::new("the follower ended by itself", "Look at the server's log."));
        house.live.stream_failed(dataset, trouble.message.clone());
        pause = if watch.elapsed() > RAN_WELL { FIRST_PAUSE } else { pause };
        let detail = json!({ "error": trouble.message, "hint": trouble.hint, "again_in_seconds": pause.as_secs_f64() });
        house.note(dataset, "stream-failed", detail);
        sleep(pause, stop);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    house.live.stream_ended(dataset);
}

/// Follows, and leaves a receipt of each snapshot that is taken meanwhile.
fn follow_one(house: &House, dataset: &str, plan: &FollowPlan, stop: &AtomicBool) -> Result<(), Trouble> {
    let key = TaskKey { kind: TaskKind::Snapshot, subject: dataset.to_owned() };
    let mut snapshot = None;
    // A receipt takes as long as the repository does: the status does not wait for it.
    std::thread::scope(|scope| {
        let followed = follow(plan, stop, &mut |news| {
            if let FollowNews::SnapshotBegun = &news {
                snapshot = evidence::begin(house, &key);
            }
            if let Some(done) = taken_or_not(&news) {
                let (begun, key) = (snapshot.take(), &key);
                scope.spawn(move || evidence::end(house, key, begun, &done));
            }
            hear(house, dataset, news);
        });
        followed.map_err(|error| Trouble::of(&error))
    })
}

/// How a snapshot ended that a follower took.
fn taken_or_not(news: &FollowNews) -> Option<Done> {
    match news {
        FollowNews::SnapshotTaken(report) => {
            let mut done = taken(report);
            done.detail["took_seconds"] = json!(report.took.as_secs_f64());
            Some(done)
        }
        FollowNews::SnapshotFailed(error) => Some(Done::of_trouble(&Trouble::of(&**error))),
        _ => None,
    }
}

/// Sleeps, unless it is told to stop.
pub(crate) fn sleep(pause: Duration, stop: &AtomicBool) {
    let watch = Stopwatch::start();
    while watch.elapsed() < pause && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK_EVERY.min(pause));
    }
}

fn prepare(house: &House, lead: &Arc<Lead>, dataset: &str) -> Result<FollowPlan, Trouble> {
    let (name, planned) = planned(house, dataset)?;
    let store = house.means.store(&planned.store)?;
    let Target::Postgres(server) = Target::named(&store).map_err(|error| Trouble::of(&error))? else {
        return Err(Trouble::new(
            format!("{dataset} is protected continuously, and only PostgreSQL can be in this release"),
            "Write protect = { every = \"…\" } or \"on-change\".",
        ));
    };
    let protect = planned.protect.clone().unwrap_or_default();
    let repository = house.repository()?;
    let spool = match protect.ack {
        Ack::Repository => None,
        Ack::Spool => Some(open_spool(&repository, &name, &protect)?),
    };
    let synchronous = if protect.synchronous {
        Some(Synchronous {
            max_wait: protect.max_wait.map_or(MAX_WAIT, lifeboat_plan::Span::duration),
            server: Secret::new(store.as_bytes().to_vec()),
            directory: house.means.state_folder().join("synchronous").join(dataset),
            watchdog: house.means.watchdog()?,
        })
    } else {
        None
    };
    let leadership = is_shared(planned).then(|| lead_of(lead, &name));
    // Whoever led before may be frozen, and the server would wait for it. One that thaws must not take it back: it asks
    // the repository whether it still leads.
    let lead = lead.clone();
    let take_over = is_shared(planned).then(|| TakeOver::when(move || lead.is_confirmed()));
    Ok(FollowPlan {
        repository,
        dataset: name,
        server: *server,
        gather: GATHER,
        say_every: SAY_EVERY,
        snapshots: true,
        spool,
        synchronous,
        take_over,
        leadership,
    })
}

/// What the follower publishes itself is the leader's: of one that was replaced it does not count.
fn lead_of(lead: &Arc<Lead>, dataset: &DatasetName) -> LeadsBy {
    let (lead, dataset) = (lead.clone(), dataset.clone());
    LeadsBy::asking(move || lead.fix(&dataset)?.ok_or(RepositoryError::Aborted))
}

fn open_spool(
    repository: &lifeboat_repository::Repository,
    dataset: &DatasetName,
    protect: &lifeboat_plan::ProtectPlan,
) -> Result<Spooling, Trouble> {
    let folder = protect.spool.as_ref().ok_or_else(|| {
        Trouble::new(
            format!("no folder is named for the spool of {dataset}"),
            "Write protect = { ack = \"spool\", spool = \"DIR\" } in the plan.",
        )
    })?;
    let owner = SpoolOwner { repository: repository.id(), dataset: dataset.clone() };
    let limit = protect.spool_limit.map_or(DEFAULT_SPOOL_LIMIT_BYTES, |size| size.0);
    let spool = Spool::open(&PathBuf::from(folder).join(dataset.as_str()), owner, limit)
        .map_err(|error| Trouble::of(&RecoveryError::from(PostgresStoreError::from(error))))?;
    Ok(Spooling { spool: Arc::new(spool), elsewhere: Elsewhere::Checked })
}

/// Takes in what a follower says: how far it is goes to the status, what happened into the records.
fn hear(house: &House, dataset: &str, news: FollowNews) {
    match news {
        FollowNews::Status(status) => house.live.stream_status(dataset, status, house.clock.now()),
        FollowNews::Stalled(status) => {
            house.live.stream_status(dataset, status, house.clock.now());
            house.note(dataset, "stalled", json!({ "silent_seconds": status.silent_for.as_secs_f64() }));
        }
        FollowNews::Moving(status) => {
            house.live.stream_status(dataset, status, house.clock.now());
            house.note(dataset, "moving", json!({ "durable": status.durable.to_string() }));
        }
        FollowNews::SnapshotTaken(report) => {
            house.live.snapshot_taken(dataset, &report.published);
            house.note(dataset, "base-taken", json!({ "snapshot": report.published.id.to_string() }));
        }
        FollowNews::SnapshotFailed(error) => {
            house.note(dataset, "base-failed", json!({ "error": lifeboat_base::report(&*error) }));
        }
        FollowNews::SnapshotBegun => house.say(dataset, "base-begun", Value::Null),
        FollowNews::SynchronousNote(note) => house.say(dataset, "synchronous", json!({ "note": note })),
        FollowNews::SynchronousEnded(is_clean) => {
            house.note(dataset, "synchronous-ended", json!({ "clean": is_clean }));
        }
        FollowNews::Watchdog(event) => hear_watchdog(house, dataset, &event),
        FollowNews::Event(event) => {
            let (word, detail) = told(&event);
            match event {
                FollowEvent::Hole { .. }
                | FollowEvent::Switched { .. }
                | FollowEvent::OtherCluster { .. } => {
                    house.note(dataset, word, detail);
                }
                _ => house.say(dataset, word, detail),
            }
        }
    }
}

fn hear_watchdog(house: &House, dataset: &str, event: &WatchdogEvent) {
    let exposed = |is_exposed| house.live.stream_exposed(dataset, is_exposed);
    match event {
        WatchdogEvent::Covered { since_nanos } => {
            exposed(false);
            house.note(dataset, "covered", json!({ "since_nanos": since_nanos }));
        }
        WatchdogEvent::Exposed { since_nanos, reason } => {
            exposed(true);
            let reason = format!("{reason:?}");
            house.note(dataset, "exposed", json!({ "since_nanos": since_nanos, "reason": reason }));
        }
        WatchdogEvent::Problem { error, hint } => {
            house.say(dataset, "watchdog-problem", json!({ "error": error, "hint": hint }));
        }
        WatchdogEvent::Restarted => house.note(dataset, "watchdog-restarted", Value::Null),
        WatchdogEvent::Unguarded => {
            exposed(true);
            house.note(dataset, "watchdog-lost", Value::Null);
        }
    }
}

/// An event as a word and what goes with it.
fn told(event: &FollowEvent) -> (&'static str, Value) {
    match event {
        FollowEvent::Streaming { system, timeline, from } => (
            "streaming",
            json!({ "system": system.to_string(), "timeline": timeline.0, "from": from.to_string() }),
        ),
        FollowEvent::OtherCluster { kept, system } => (
            "other-cluster",
            json!({ "system": system.to_string(), "kept": kept.iter().map(ToString::to_string).collect::<Vec<_>>() }),
        ),
        FollowEvent::Hole { timeline, from, to } => {
            ("hole", json!({ "timeline": timeline.0, "from": from.to_string(), "to": to.to_string() }))
        }
        FollowEvent::Switched { from, to, at } => {
            ("switched", json!({ "from": from.0, "to": to.0, "at": at.to_string() }))
        }
        FollowEvent::Warning { text } => ("warning", json!({ "text": text })),
        FollowEvent::NotPublished { position, error, hint } => {
            ("not-published", json!({ "position": position.to_string(), "error": error, "hint": hint }))
        }
        FollowEvent::NotSpooled { position, error, hint } => {
            ("not-spooled", json!({ "position": position.to_string(), "error": error, "hint": hint }))
        }
        FollowEvent::Spooled { waiting_bytes, torn_bytes, ends } => {
            ("spooled", json!({ "waiting_bytes": waiting_bytes, "torn_bytes": torn_bytes, "ends": ends }))
        }
        FollowEvent::Disconnected { error, hint, again_in } => (
            "disconnected",
            json!({ "error": error, "hint": hint, "again_in_seconds": again_in.as_secs_f64() }),
        ),
    }
}
