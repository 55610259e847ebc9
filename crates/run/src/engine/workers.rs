//! Who carries out orders beside the one who writes the journal.

use crate::carry::{Carried, Carry, Order, Stop};
use crate::event::{Act, Part};
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::failpoint;
use lifeboat_runbook::StepId;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What a task is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// An act of a step, or its probe.
    Act {
        /// The step.
        step: StepId,
        /// Done or undone.
        act: Act,
        /// Itself or its probe.
        part: Part,
        /// Which attempt.
        attempt: u32,
    },
    /// The facts of an approval.
    Facts {
        /// The block that is agreed to.
        block: StepId,
    },
}

/// Orders that are carried out one after the other.
pub struct Task {
    /// What for.
    pub key: Key,
    /// The orders, each with who carries it out.
    pub orders: Vec<(Order, Arc<dyn Carry>)>,
    /// Says that it is not wanted any more.
    pub stop: Stop,
}

/// What came of a task.
#[derive(Debug)]
pub struct Finished {
    /// What it was for.
    pub key: Key,
    /// What came of each order, up to the first that was not done.
    pub carried: Vec<(StepId, Carried)>,
    /// How long it took.
    pub took: Duration,
}

impl Task {
    /// Carries it out.
    pub fn carry(self) -> Finished {
        let watch = Stopwatch::start();
        let mut carried = Vec::new();
        for (order, carrier) in &self.orders {
            let result = carry(order, &**carrier, &self.stop);
            let is_done = result.ended == crate::event::Ended::Done;
            carried.push((order.block.clone(), result));
            if !is_done {
                break;
            }
        }
        Finished { key: self.key, carried, took: watch.elapsed() }
    }
}

fn carry(order: &Order, carrier: &dyn Carry, stop: &Stop) -> Carried {
    if let Err(error) = failpoint::reach("run::carry") {
        return Carried::not_begun(error.to_string());
    }
    let carried = catch_unwind(AssertUnwindSafe(|| carrier.carry(order, stop)));
    let carried = carried.unwrap_or_else(|_| Carried::unknown("whoever carried it out panicked"));
    match failpoint::reach("run::carried") {
        Ok(()) => carried,
        Err(error) => Carried::unknown(error.to_string()),
    }
}

/// Those who carry out tasks.
pub trait Workers: Send {
    /// Begins a task.
    ///
    /// # Errors
    /// Where it certainly was not begun.
    fn start(&mut self, task: Task) -> io::Result<()>;

    /// The next that is finished, waiting at most so long.
    fn next(&mut self, wait: Duration) -> Option<Finished>;
}

/// A thread a task.
#[derive(Debug)]
pub struct Threads {
    send: Sender<Finished>,
    finished: Receiver<Finished>,
    running: Vec<JoinHandle<()>>,
}

impl Default for Threads {
    fn default() -> Self {
        let (send, finished) = channel();
        Self { send, finished, running: Vec::new() }
    }
}

impl Workers for Threads {
    fn start(&mut self, task: Task) -> io::Result<()> {
        self.running.retain(|thread| !thread.is_finished());
        let send = self.send.clone();
        let thread = thread::Builder::new().name("run-step".to_owned()).spawn(move || {
            // Nobody listens any more where the executor is gone.
            let _ = send.send(task.carry());
        })?;
        self.running.push(thread);
        Ok(())
    }

    fn next(&mut self, wait: Duration) -> Option<Finished> {
        self.finished.recv_timeout(wait).ok()
    }
}

/// Nothing that was begun goes on behind the back of who asked for it.
impl Drop for Threads {
    fn drop(&mut self) {
        for thread in self.running.drain(..) {
            let _ = thread.join();
        }
    }
}
