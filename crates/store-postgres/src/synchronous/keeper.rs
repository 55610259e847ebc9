//! The follower's side: starts the watchdog, tells it that the follower is there, and starts it again where it dies.
//!
//! The pipe is all that ties the two together: when the follower is killed, the system closes it, and the watchdog
//! takes our name out. Where no watchdog can be started any more, the name is taken out from here.

use super::exposure::RecordError;
use super::machine::ExposureReason;
use super::watchdog::{Beat, WatchdogConfig, WatchdogEvent, leave_now};
use super::{Result, SynchronousError};
use crate::follow::Following;
use lifeboat_base::backoff::Backoff;
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::{Hint, crashsafe, report};
use lifeboat_wire_postgres::ConnectOptions;
use rustix::fs::{OFlags, fcntl_setfl};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often the watchdog is told that the follower is there.
const BEAT_EVERY: Duration = Duration::from_millis(250);
/// WAL that waits for longer means that we are not caught up.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(1);
/// A watchdog that worked for so long begins to count anew.
const WORKED_FOR: Duration = Duration::from_secs(60);
/// Attempts to have a watchdog, and the waits between.
const PATIENCE: Backoff =
    Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(2), attempts: 4 };
/// Attempts to take the name out from here go on until it is done.
const LEAVING: Backoff =
    Backoff { first: Duration::from_millis(200), cap: Duration::from_secs(5), attempts: u32::MAX };
/// The file that a follower keeps locked.
const FOLLOWER_LOCK: &str = "follower.lock";
const POLL: Duration = Duration::from_millis(20);

/// A watchdog's process, seen from who started it. Dropped, the watchdog takes our name out and ends.
#[derive(Debug)]
pub struct Watchdog {
    child: Child,
    pipe: ChildStdin,
    begun: Stopwatch,
}

impl Watchdog {
    /// Starts a process that runs [`super::run_watchdog`] on its standard input and output, and tells it what to watch.
    /// What it says comes out at `events`.
    ///
    /// # Errors
    /// Where the process cannot be started or instructed.
    pub fn spawn(
        mut command: Command,
        config: &WatchdogConfig,
        events: &Sender<WatchdogEvent>,
    ) -> Result<Self> {
        let process = |operation| move |source| SynchronousError::Process { operation, source };
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // A group of its own: what a terminal sends to ours is not meant for it.
        command.process_group(0);
        let mut child = command.spawn().map_err(process("start"))?;
        let (Some(mut pipe), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(process("instruct")(io::ErrorKind::BrokenPipe.into()));
        };
        say(&mut pipe, config).map_err(process("instruct"))?;
        // A watchdog that does not read any more must not hold us up.
        fcntl_setfl(&pipe, OFlags::NONBLOCK).map_err(|error| process("instruct")(error.into()))?;
        pass_on(output, events.clone());
        Ok(Self { child, pipe, begun: Stopwatch::start() })
    }

    /// Tells it that the follower is there.
    ///
    /// # Errors
    /// Where it is gone, or does not read any more.
    pub fn beat(&mut self, caught_up: bool) -> Result<()> {
        say(&mut self.pipe, &Beat::Here { caught_up })
            .map_err(|source| SynchronousError::Process { operation: "beat to", source })
    }

    /// Its process.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Whether its process has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Tells it that the follower ends on purpose, and waits until our name is out of the list, at most so long. False
    /// where that takes longer: it goes on trying by itself.
    pub fn stop(mut self, at_most: Duration) -> bool {
        let _ = say(&mut self.pipe, &Beat::Stop);
        let Self { mut child, pipe, .. } = self;
        drop(pipe);
        let waited = Stopwatch::start();
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) if waited.elapsed() < at_most => thread::sleep(POLL),
                _ => return false,
            }
        }
    }

    fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(pipe: &mut ChildStdin, what: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    pipe.write_all(&line)
}

/// What is no event is something that the program says besides.
fn pass_on(output: ChildStdout, events: Sender<WatchdogEvent>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { return };
            let Ok(event) = serde_json::from_str(&line) else { continue };
            if events.send(event).is_err() {
                return;
            }
        }
    });
}

/// Keeps a watchdog for as long as a follower works.
#[derive(Debug)]
pub struct WatchdogKeeper {
    stop: Sender<()>,
    thread: JoinHandle<bool>,
}

impl WatchdogKeeper {
    /// Ends synchronous mode: true once our name is out of the list. To be called while the follower still works, so
    /// that no commit waits for it in vain.
    pub fn stop(self) -> bool {
        let _ = self.stop.send(());
        self.thread.join().unwrap_or(false)
    }
}

/// Starts a watchdog and tells it how a follower is, until it is stopped. `start` makes the command that runs
/// [`super::run_watchdog`] each time one is needed. Waits at most `stop_within` for the end.
///
/// # Errors
/// Where the first watchdog cannot be started, or another follower uses the same directory.
pub fn keep_watchdog(
    start: impl Fn() -> Command + Send + 'static,
    config: WatchdogConfig,
    server: ConnectOptions,
    following: Following,
    events: Sender<WatchdogEvent>,
    stop_within: Duration,
) -> Result<WatchdogKeeper> {
    let lock = lock(&config)?;
    let watchdog = Watchdog::spawn(start(), &config, &events)?;
    let (stop, stopped) = channel();
    let keeping = Keeping { start, config, server, following, events, stopped, stop_within, _lock: lock };
    let thread = thread::Builder::new()
        .name("watchdog-keeper".to_owned())
        .spawn(move || keeping.keep(watchdog))
        .map_err(|source| SynchronousError::Process { operation: "keep", source })?;
    Ok(WatchdogKeeper { stop, thread })
}

fn lock(config: &WatchdogConfig) -> Result<File> {
    crashsafe::create_dir_all(&config.directory).map_err(RecordError::from)?;
    let path = config.directory.join(FOLLOWER_LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let locked = file.and_then(|file| file.try_lock().map(|()| file).map_err(io::Error::from));
    locked.map_err(|source| RecordError::Read { operation: "lock", path, source }.into())
}

struct Keeping<S> {
    start: S,
    config: WatchdogConfig,
    server: ConnectOptions,
    following: Following,
    events: Sender<WatchdogEvent>,
    stopped: Receiver<()>,
    stop_within: Duration,
    _lock: File,
}

impl<S: Fn() -> Command> Keeping<S> {
    fn keep(self, mut watchdog: Watchdog) -> bool {
        let mut failed = 0;
        loop {
            let alive = !watchdog.has_ended() && watchdog.beat(self.is_caught_up()).is_ok();
            if !alive {
                failed = if watchdog.begun.elapsed() > WORKED_FOR { 1 } else { failed + 1 };
                // One that hangs must not act later on.
                watchdog.kill();
                match self.start_again(&mut failed) {
                    Some(again) => watchdog = again,
                    None => return self.leave(),
                }
            }
            match self.stopped.recv_timeout(BEAT_EVERY) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return watchdog.stop(self.stop_within),
            }
        }
    }

    fn start_again(&self, failed: &mut u32) -> Option<Watchdog> {
        loop {
            thread::sleep(PATIENCE.wait_after(*failed)?);
            match Watchdog::spawn((self.start)(), &self.config, &self.events) {
                Ok(watchdog) => {
                    let _ = self.events.send(WatchdogEvent::Restarted);
                    return Some(watchdog);
                }
                Err(error) => {
                    *failed += 1;
                    self.problem(&error);
                }
            }
        }
    }

    /// There is no watchdog to be had: our name goes, and synchronous mode with it.
    fn leave(self) -> bool {
        let mut failed = 0;
        while let Err(error) = leave_now(&self.config, &self.server, ExposureReason::FollowerGone) {
            failed += 1;
            self.problem(&error);
            let pause = LEAVING.wait_after(failed).unwrap_or(LEAVING.cap);
            if !matches!(self.stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout)) {
                return false;
            }
        }
        let _ = self.events.send(WatchdogEvent::Unguarded);
        true
    }

    fn problem(&self, error: &SynchronousError) {
        let _ = self.events.send(WatchdogEvent::Problem { error: report(error), hint: error.hint() });
    }

    fn is_caught_up(&self) -> bool {
        let status = self.following.status();
        status.connected && status.oldest_wait.is_none_or(|wait| wait < CAUGHT_UP_WITHIN)
    }
}
