//! The service: one loop that begins what is due and hears what ended, and the threads beside it.
//!
//! ```text
//!             ┌── lead: who leads            ┌── job (at most so many)
//!   the loop ─┼── ship: records to the       ├── job
//!             │   repository                 └── …
//!             ├── survey: what is there      ┌── stream (one a followed dataset)
//!             └── the report                 └── …
//! ```
//! Nothing begins that was not recorded before, and what a crash interrupted is looked at first: a snapshot that had
//! been published is recorded as done, everything else is due again at once.
//!
//! Failpoints: `controller::begun` (recorded, and nothing done yet), `controller::done` (done, and not recorded yet).

use crate::house::House;
use crate::jobs::{self, Done};
use crate::lead::{self, Lead};
use crate::means::Trouble;
use crate::record::{JobOutcome, Sequence, What};
use crate::schedule::Scheduler;
use crate::state::{Job, StateError};
use crate::stream::{Stream, is_followed};
use crate::task::{TaskKey, TaskKind, is_done_by, is_shared, tasks};
use crate::{evidence, ship, survey};
use lifeboat_base::failpoint;
use lifeboat_repository::ids::DatasetName;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many jobs run at once, unless the plan says otherwise.
const JOBS: u32 = 2;
/// The loop looks up at least so often: leadership and hurried tasks come from outside.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long jobs are waited for when the service ends; what is not done by then is interrupted.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// A job that ended.
struct Ended {
    job: Sequence,
    key: TaskKey,
    done: Done,
}

/// A running service, for those who ask and tell it things.
#[derive(Debug)]
pub struct Service {
    house: Arc<House>,
    lead: Arc<Lead>,
    scheduler: Mutex<Scheduler>,
    /// Proofs that found nothing to prove yet.
    early: Mutex<BTreeSet<TaskKey>>,
}

impl Service {
    /// A service that has not begun.
    ///
    /// # Errors
    /// Where the state cannot be read.
    pub fn new(house: Arc<House>) -> Result<Self, StateError> {
        let tasks = tasks(&house.plan, &house.means.host());
        let scheduler = Scheduler::new(tasks, &house.state.past()?, house.clock.now());
        Ok(Self { house, lead: Arc::default(), scheduler: Mutex::new(scheduler), early: Mutex::default() })
    }

    /// What every part shares.
    pub fn house(&self) -> &Arc<House> {
        &self.house
    }

    /// Looks at the scheduler.
    pub fn scheduler<T>(&self, look: impl FnOnce(&mut Scheduler) -> T) -> T {
        look(&mut self.scheduler.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Serves until it is told to stop.
    ///
    /// # Errors
    /// Where the controller's state fails: without it nothing may be begun.
    pub fn run(&self, stop: &AtomicBool) -> Result<(), StateError> {
        let house = &self.house;
        let started = What::Started {
            host: house.means.host(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plan: house.plan_text.clone(),
        };
        house.state.keep(house.clock.now(), started)?;
        let beside = AtomicBool::new(false);
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| lead::keep(house, &self.lead, &beside));
            scope.spawn(|| survey::keep(house, &beside));
            scope.spawn(|| ship::keep(house, &beside));
            let ended = self.settle(stop).and_then(|()| {
                house.live.change(|seen| seen.is_started = true);
                self.work(stop)
            });
            house.live.change(|seen| seen.is_stopping = true);
            let stopped = house.state.keep(house.clock.now(), What::Stopped);
            beside.store(true, Ordering::SeqCst);
            ended.and(stopped.map(|_| ()))
        });
        house.say("controller", "stopped", json!({}));
        ended
    }

    /// What a crash interrupted is looked at before anything begins.
    fn settle(&self, stop: &AtomicBool) -> Result<(), StateError> {
        for job in self.house.state.open_jobs()? {
            self.settle_one(&job, stop)?;
        }
        Ok(())
    }

    fn settle_one(&self, job: &Job, stop: &AtomicBool) -> Result<(), StateError> {
        let house = &self.house;
        let published = loop {
            match jobs::was_done(house, &job.task, job.begun) {
                Ok(published) => break published,
                // Whether it had been done only the repository can say; to guess would be to do it twice.
                Err(trouble) if !stop.load(Ordering::Relaxed) => {
                    house.live.change(|seen| seen.repository.failure = Some(trouble.message.clone()));
                    house.say(
                        "controller",
                        "waiting",
                        json!({ "for": "repository", "error": trouble.message }),
                    );
                    crate::stream::sleep(Duration::from_secs(2), stop);
                }
                Err(_) => return Ok(()),
            }
        };
        let now = house.clock.now();
        let what = match &published {
            Some(published) => {
                house.live.snapshot_taken(&job.task.subject, published);
                let detail = json!({ "snapshot": published.id.to_string(), "found_after_restart": true });
                What::Ended { job: job.job, outcome: JobOutcome::Done, detail }
            }
            None => What::Interrupted { job: job.job },
        };
        house.state.keep(now, what)?;
        let outcome = if published.is_some() { JobOutcome::Done } else { JobOutcome::Interrupted };
        self.scheduler(|scheduler| {
            scheduler.ended(&job.task, now, outcome);
            if published.is_none() {
                scheduler.hurry(&job.task, now);
            }
        });
        house.say(&job.task.to_string(), "settled", json!({ "job": job.job, "outcome": outcome.word() }));
        Ok(())
    }

    fn work(&self, stop: &AtomicBool) -> Result<(), StateError> {
        let house = &self.house;
        let most = house.plan.serve.as_ref().and_then(|serve| serve.jobs).unwrap_or(JOBS).max(1) as usize;
        let (sender, receiver) = channel();
        let mut streams: BTreeMap<String, Stream> = BTreeMap::new();
        let mut running = 0;
        while !stop.load(Ordering::Relaxed) {
            let leads = self.lead.leads();
            self.tend_streams(&mut streams, leads);
            self.hurry_proofs();
            let ready = self.scheduler(|scheduler| scheduler.ready(house.clock.now(), leads, most - running));
            for key in ready {
                self.begin(key, &sender)?;
                running += 1;
            }
            running -= self.hear(&receiver, LOOK_EVERY)?;
        }
        streams.values().for_each(Stream::tell_to_end);
        drop(streams);
        let watch = lifeboat_base::clock::Stopwatch::start();
        while running > 0 && watch.elapsed() < ENDS_WITHIN {
            running -= self.hear(&receiver, LOOK_EVERY)?;
        }
        Ok(())
    }

    /// Records that a job begins, and begins it.
    fn begin(&self, key: TaskKey, sender: &Sender<Ended>) -> Result<(), StateError> {
        let house = &self.house;
        let is_shared = self.scheduler(|scheduler| scheduler.task(&key).is_some_and(|task| task.is_shared));
        let generation = if is_shared { self.lead.generation() } else { None };
        let now = house.clock.now();
        let job = house.state.keep(now, What::Began { task: key.clone(), generation })?;
        reach("controller::begun")?;
        self.scheduler(|scheduler| scheduler.begun(&key, now));
        if key.kind != TaskKind::Look {
            house.say(&key.to_string(), "began", json!({ "job": job }));
        }
        let (house, lead, sender) = (house.clone(), self.lead.clone(), sender.clone());
        let (doing, told) = (key.clone(), sender.clone());
        let spawned = std::thread::Builder::new().name(key.to_string()).spawn(move || {
            // A job that panicked has failed: else it would keep its room, and its dataset, for ever.
            let done = catch_unwind(AssertUnwindSafe(|| do_once(&house, &lead, &doing, is_shared)))
                .unwrap_or_else(|_| Done::of_trouble(&panicked(&doing)));
            // Nobody hears where the service ended first: then it is interrupted, and looked at when it starts again.
            let _ = sender.send(Ended { job, key: doing, done });
        });
        if let Err(error) = spawned {
            let trouble = Trouble::new(format!("start a thread: {error}"), "Check the limits of this user.");
            let _ = told.send(Ended { job, key, done: Done::of_trouble(&trouble) });
        }
        Ok(())
    }

    /// Hears what ended, for so long at most; gives how many.
    fn hear(&self, receiver: &Receiver<Ended>, most: Duration) -> Result<usize, StateError> {
        let mut heard = 0;
        match receiver.recv_timeout(most) {
            Ok(ended) => {
                self.record(&ended)?;
                heard += 1;
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        for ended in receiver.try_iter() {
            self.record(&ended)?;
            heard += 1;
        }
        Ok(heard)
    }

    fn record(&self, ended: &Ended) -> Result<(), StateError> {
        reach("controller::done")?;
        let (house, now) = (&self.house, self.house.clock.now());
        let Done { outcome, detail } = &ended.done;
        house.state.keep(now, What::Ended { job: ended.job, outcome: *outcome, detail: detail.clone() })?;
        self.scheduler(|scheduler| scheduler.ended(&ended.key, now, *outcome));
        if detail[jobs::WAITS_FOR] == jobs::A_SNAPSHOT {
            self.early.lock().unwrap_or_else(PoisonError::into_inner).insert(ended.key.clone());
        }
        let is_news = ended.key.kind != TaskKind::Look || detail["changed"] != json!(false);
        if is_news {
            let said = json!({ "job": ended.job, "outcome": outcome.word(), "detail": detail });
            house.say(&ended.key.to_string(), "ended", said);
        }
        Ok(())
    }

    /// A proof that found nothing to prove is due as soon as there is something: a followed dataset has its first
    /// snapshot from its stream, whenever that comes to it.
    fn hurry_proofs(&self) {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        if early.is_empty() {
            return;
        }
        let now = self.house.clock.now();
        early.retain(|key| {
            let has_snapshot = |seen: &mut crate::live::Seen| {
                seen.datasets.get(&key.subject).is_some_and(|dataset| dataset.snapshot.is_some())
            };
            let is_due = self.house.live.change(has_snapshot);
            if is_due {
                self.scheduler(|scheduler| scheduler.hurry(key, now));
            }
            !is_due
        });
    }

    /// Starts the streams that are ours, and ends those that are not any more.
    fn tend_streams(&self, streams: &mut BTreeMap<String, Stream>, leads: bool) {
        let (house, host) = (&self.house, self.house.means.host());
        let is_ours = |name: &str| {
            house.plan.datasets.get(name).is_some_and(|plan| {
                is_followed(plan) && is_done_by(plan, &host) && (leads || !is_shared(plan))
            })
        };
        for (name, stream) in streams.iter() {
            if !is_ours(name) {
                stream.tell_to_end();
            }
        }
        streams.retain(|_, stream| !stream.has_ended());
        for name in house.plan.datasets.keys().filter(|name| is_ours(name)) {
            if !streams.contains_key(name) {
                streams.insert(name.clone(), Stream::start(house, &self.lead, name));
            }
        }
    }
}

/// Does a job and leaves its receipt.
fn do_once(house: &House, lead: &Lead, key: &TaskKey, is_shared: bool) -> Done {
    let fix = if is_shared { fix_of(lead, key) } else { Ok(None) };
    let receipt = evidence::begin(house, key);
    let done = match fix {
        Ok(fix) => jobs::run(house, key, fix.as_ref()),
        Err(trouble) => Done::of_trouble(&trouble),
    };
    evidence::end(house, key, receipt, &done);
    done
}

fn panicked(key: &TaskKey) -> Trouble {
    Trouble::new(
        format!("{key} came to an end that it should not: a defect"),
        "Please report it, with the log.",
    )
}

fn fix_of(lead: &Lead, key: &TaskKey) -> Result<Option<lifeboat_repository::ChainFix>, Trouble> {
    if !matches!(key.kind, TaskKind::Snapshot | TaskKind::Look) {
        return Ok(None);
    }
    let dataset = DatasetName::new(&key.subject)
        .map_err(|error| Trouble::new(error.to_string(), "Rename the dataset in the plan."))?;
    let fix = lead.fix(&dataset).map_err(|error| Trouble::of(&error))?;
    match fix {
        Some(fix) => Ok(Some(fix)),
        None => {
            Err(Trouble::new("this host leads no more", "Nothing is to be done: whoever leads now does it."))
        }
    }
}

fn reach(name: &'static str) -> Result<(), StateError> {
    failpoint::reach(name).map_err(|source| StateError::Io {
        operation: "go on at",
        path: name.into(),
        source,
    })
}
