//! SQL, for PostgreSQL and SQLite. The statements are sent as they stand, with passed values as literals and
//! identifiers; the columns of the last row are the outputs, the first of them is the answer.

mod postgres;
mod shown;
mod sqlite;

use lifeboat_recovery::Target;
use lifeboat_run::event::Ended;
use lifeboat_run::{Carried, Carry, EnvironmentAndFiles, Order, Secrets, Stop, Value, fill};
use lifeboat_runbook::Action;
use lifeboat_runbook::template::{self, Dialect};
use shown::Answer;
use std::ffi::OsStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// It is looked whether to stop at least every so often.
const LOOK: Duration = Duration::from_millis(50);

/// Carries out `sql` blocks.
#[derive(Clone)]
pub struct Sql {
    secrets: Arc<dyn Secrets>,
}

impl Default for Sql {
    fn default() -> Self {
        Self { secrets: Arc::new(EnvironmentAndFiles) }
    }
}

/// What is to be asked of what.
struct Question {
    target: Target,
    script: String,
}

/// What came of it.
enum End {
    /// Everything was carried out.
    Answered(Answer),
    /// The database refused a statement.
    Refused(String),
    /// It was certainly not begun.
    NotBegun(String),
    /// Nobody can tell.
    Lost(String),
}

impl Sql {
    /// With secrets from elsewhere than the environment and files.
    pub fn with_secrets(secrets: Arc<dyn Secrets>) -> Self {
        Self { secrets }
    }

    fn question(&self, order: &Order) -> Result<Question, String> {
        let Action::Sql { on, script } = &order.action else { return Err("this is no SQL".to_owned()) };
        let on = fill(on, &order.values)?;
        let is_hidden =
            is_reference(&on) || order.values.values().any(|value| matches!(value, Value::Secret { .. }));
        let address = if is_reference(&on) { self.read(&on)? } else { on };
        let target = Target::named(OsStr::new(&address)).map_err(|error| match is_hidden {
            // It may have a password in it, which an error would repeat.
            true => {
                "what it runs on is neither the address of a PostgreSQL server nor a database file".to_owned()
            }
            false => lifeboat_base::report(&error),
        })?;
        let dialect = match &target {
            Target::Postgres(_) => Dialect::Postgres,
            Target::Sqlite(_) | Target::Files(_) => Dialect::Sqlite,
        };
        let value = |name: &str| order.values.get(name)?.expose().ok().map(str::to_owned);
        let script = template::fill_sql(script, dialect, value);
        let script = script.map_err(|name| format!("{name} is not passed, or is no UTF-8"))?;
        Ok(Question { target, script })
    }

    fn read(&self, reference: &str) -> Result<String, String> {
        let secret = self.secrets.get(reference)?;
        let text = std::str::from_utf8(secret.expose()).map_err(|_| format!("{reference} is no UTF-8"))?;
        Ok(text.to_owned())
    }
}

fn is_reference(on: &str) -> bool {
    on.starts_with("env:") || on.starts_with("file:")
}

impl Carry for Sql {
    fn carry(&self, order: &Order, stop: &Stop) -> Carried {
        let question = match self.question(order) {
            Ok(question) => question,
            Err(why) => return Carried::not_begun(why),
        };
        let watch = Watch::new(order.timeout, stop);
        let end = match &question.target {
            Target::Postgres(options) => postgres::ask(options, &question.script, &watch),
            Target::Sqlite(path) => sqlite::ask(path, &question.script, &watch),
            Target::Files(path) => End::NotBegun(format!("{} is a folder and no database", path.display())),
        };
        carried(order, end, &watch)
    }

    fn look(&self, order: &Order) -> Vec<String> {
        match self.question(order) {
            Ok(Question { target: Target::Files(path), .. }) => {
                vec![format!("{} is a folder and no database", path.display())]
            }
            Ok(_) => Vec::new(),
            Err(why) => vec![why],
        }
    }
}

fn carried(order: &Order, end: End, watch: &Watch) -> Carried {
    let answer = match end {
        End::Answered(answer) => answer,
        // What was stopped may have been carried out in part, or in whole right before.
        End::Refused(why) | End::Lost(why) if watch.was_stopped() => {
            return Carried::unknown(format!("it was stopped: {why}"));
        }
        // A question that could not be asked has no answer; a statement that was refused has failed.
        End::Refused(why) if order.asks => return Carried::unknown(why),
        End::Refused(why) => return Carried::failed(why),
        End::NotBegun(why) => return Carried::not_begun(why),
        End::Lost(why) => return Carried::unknown(why),
    };
    if let Err(error) = answer.capture(order) {
        return Carried::unknown(format!("it was carried out, and its answer could not be kept: {error}"));
    }
    let first = answer.first(order);
    let outputs = answer.outputs(order);
    let ended = match &outputs {
        Err(why) => Ended::Failed { why: why.clone() },
        // Without an expectation an answer says no by being false, zero or nothing at all.
        Ok(_) if order.asks && !order.expects && answer.says_no() => {
            Ended::Failed { why: "the answer is no".to_owned() }
        }
        Ok(_) => Ended::Done,
    };
    Carried { ended, outputs: outputs.unwrap_or_default(), answer: first }
}

/// Stops what takes too long or is not wanted any more, from beside it.
struct Watch {
    timeout: Duration,
    stop: Stop,
    was_stopped: AtomicBool,
}

impl Watch {
    fn new(timeout: Duration, stop: &Stop) -> Self {
        Self { timeout, stop: stop.clone(), was_stopped: AtomicBool::new(false) }
    }

    fn was_stopped(&self) -> bool {
        self.was_stopped.load(Ordering::SeqCst)
    }

    /// Does something, and has it ended by `end` when it takes too long. `end` is called again and again until it is
    /// done: what is to end it may come a moment too early.
    fn over<T>(&self, end: impl Fn() + Sync, work: impl FnOnce() -> T) -> T {
        let done = (Mutex::new(false), Condvar::new());
        std::thread::scope(|scope| {
            scope.spawn(|| self.look(&done, &end));
            // Also where the work panics, the one beside it must not wait for ever.
            let _at_the_end = AtEnd(&done);
            work()
        })
    }

    fn look(&self, (done, changed): &(Mutex<bool>, Condvar), end: &(impl Fn() + Sync)) {
        let watch = lifeboat_base::clock::Stopwatch::start();
        let mut is_done = done.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_done {
            if self.stop.is_wanted() || watch.elapsed() >= self.timeout {
                self.was_stopped.store(true, Ordering::SeqCst);
                end();
            }
            is_done = changed.wait_timeout(is_done, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

struct AtEnd<'d>(&'d (Mutex<bool>, Condvar));

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }
}
