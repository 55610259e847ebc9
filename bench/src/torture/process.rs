//! One process of the program and what befalls it: nothing, SIGKILL, or SIGSTOP for a while.

use crate::draw::Draw;
use crate::error::BenchError;
use lifeboat_base::clock::Stopwatch;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// Longer than any process here takes, however busy the machine: what goes on longer hangs.
const HANGS_AFTER: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(1);

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Blow {
    /// Nothing.
    None,
    /// SIGKILL.
    Kill,
    /// SIGSTOP for a while, then SIGCONT.
    Freeze(Duration),
    /// SIGSTOP for a while, then SIGKILL.
    FreezeAndKill(Duration),
}

/// When it is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Moment {
    /// After this part of the time that such a process takes.
    AfterStart(f64),
    /// The same, but counted from when the watched folder has changed: the process has claimed something.
    AfterClaim(f64),
}

/// What befalls a process, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fate {
    /// What.
    pub(crate) blow: Blow,
    /// When.
    pub(crate) moment: Moment,
}

impl Fate {
    /// A process that nobody disturbs.
    pub(crate) const CALM: Self = Self { blow: Blow::None, moment: Moment::AfterStart(0.0) };

    /// Draws a fate. `lease` is what a long freeze must exceed.
    pub(crate) fn draw(draw: &mut Draw, lease: Duration) -> Self {
        let short = Duration::from_millis(50 + draw.below(900) as u64);
        let long = lease.mul_f64(1.2 + draw.fraction());
        let blow = match draw.below(100) {
            0..45 => Blow::Kill,
            45..65 => Blow::Freeze(short),
            65..82 => Blow::Freeze(long),
            82..87 => Blow::FreezeAndKill(long),
            _ => Blow::None,
        };
        let part = draw.fraction();
        let moment = if draw.percent(50) { Moment::AfterStart(part) } else { Moment::AfterClaim(part / 2.0) };
        Self { blow, moment }
    }

    /// How long it is frozen, if it is.
    pub(crate) fn frozen(&self) -> Option<Duration> {
        match self.blow {
            Blow::Freeze(time) | Blow::FreezeAndKill(time) => Some(time),
            Blow::None | Blow::Kill => None,
        }
    }
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit status; `None` where it hung and was killed for that.
    pub(crate) status: Option<ExitStatus>,
    /// Whether the blow reached it alive.
    pub(crate) struck: bool,
    /// How long it took, in all.
    pub(crate) took: Duration,
    /// What it printed.
    pub(crate) stdout: Vec<u8>,
    /// What it said besides.
    pub(crate) stderr: Vec<u8>,
}

impl Ended {
    /// Its exit code; `None` where a signal ended it or it hung.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// Whether SIGKILL ended it.
    pub(crate) fn was_killed(&self) -> bool {
        self.status.and_then(|status| status.signal()) == Some(Signal::KILL.as_raw())
    }

    /// How it ended, for people.
    pub(crate) fn said(&self) -> String {
        let status = self.status.map_or_else(|| "it hung".to_owned(), |status| status.to_string());
        format!("{status}: {}", String::from_utf8_lossy(&self.stderr).trim().replace('\n', " / "))
    }
}

/// Runs processes that take `expected`; what they print goes through files with this path as their start.
pub(crate) struct Arena<'a> {
    /// Where output is kept while a process runs.
    pub(crate) output: &'a Path,
    /// The folder whose change means that something was claimed.
    pub(crate) watched: &'a Path,
    /// How long such a process takes undisturbed.
    pub(crate) expected: Duration,
}

impl Arena<'_> {
    /// Runs a command and lets its fate befall it. `frozen` is told when a freeze begins and ends.
    ///
    /// # Errors
    /// Where the command cannot be started or signalled.
    pub(crate) fn run(
        &self,
        command: &mut Command,
        fate: Fate,
        frozen: &dyn Fn(bool),
    ) -> Result<Ended, BenchError> {
        let (out, err) = (self.output.with_extension("out"), self.output.with_extension("err"));
        command.stdout(create(&out)?).stderr(create(&err)?);
        let program = command.get_program().to_string_lossy().into_owned();
        let claims = count(self.watched);
        let watch = Stopwatch::start();
        let mut child = command.spawn().map_err(|source| BenchError::Start { program, source })?;
        let struck = match fate.blow {
            Blow::None => false,
            _ => self.wait_for_moment(&mut child, fate.moment, claims)? && strike(&child, fate, frozen)?,
        };
        let status = wait(&mut child)?;
        let (stdout, stderr) = (read(&out)?, read(&err)?);
        Ok(Ended { status, struck, took: watch.elapsed(), stdout, stderr })
    }

    /// Waits until the moment has come; false where the process ended before.
    fn wait_for_moment(&self, child: &mut Child, moment: Moment, claims: usize) -> Result<bool, BenchError> {
        let (part, mut claimed) = match moment {
            Moment::AfterStart(part) => (part, true),
            Moment::AfterClaim(part) => (part, false),
        };
        let mut watch = Stopwatch::start();
        loop {
            if ended(child)?.is_some() {
                return Ok(false);
            }
            if !claimed && count(self.watched) != claims {
                (claimed, watch) = (true, Stopwatch::start());
            }
            // What claims nothing is struck late rather than never.
            let due = if claimed { self.expected.mul_f64(part) } else { self.expected.mul_f64(1.0 + part) };
            if watch.elapsed() >= due {
                return Ok(true);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Strikes a process that runs; false where it was over.
fn strike(child: &Child, fate: Fate, frozen: &dyn Fn(bool)) -> Result<bool, BenchError> {
    if let Some(time) = fate.frozen() {
        signal(child, Signal::STOP)?;
        frozen(true);
        std::thread::sleep(time);
        frozen(false);
        signal(child, Signal::CONT)?;
    }
    if matches!(fate.blow, Blow::Kill | Blow::FreezeAndKill(_)) {
        signal(child, Signal::KILL)?;
    }
    Ok(true)
}

/// The child is not waited for yet, so that its number is still its own.
fn signal(child: &Child, signal: Signal) -> Result<(), BenchError> {
    kill_process(Pid::from_child(child), signal).map_err(|e| BenchError::io("signal", "a process", e.into()))
}

fn ended(child: &mut Child) -> Result<Option<ExitStatus>, BenchError> {
    child.try_wait().map_err(|e| BenchError::io("wait for", "a process", e))
}

fn wait(child: &mut Child) -> Result<Option<ExitStatus>, BenchError> {
    let watch = Stopwatch::start();
    loop {
        if let Some(status) = ended(child)? {
            return Ok(Some(status));
        }
        if watch.elapsed() > HANGS_AFTER {
            child
                .kill()
                .and_then(|()| child.wait())
                .map_err(|e| BenchError::io("wait for", "a process", e))?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

/// How many entries there are below a folder; what vanishes meanwhile does not count.
fn count(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let below = |path: PathBuf| if path.is_dir() { count(&path) } else { 0 };
    entries.flatten().map(|entry| 1 + below(entry.path())).sum()
}

fn create(path: &Path) -> Result<File, BenchError> {
    File::create(path).map_err(|e| BenchError::io("create", path, e))
}

fn read(path: &Path) -> Result<Vec<u8>, BenchError> {
    fs::read(path).map_err(|e| BenchError::io("read", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn run(script: &str, blow: Blow) -> (Ended, Vec<bool>) {
        let folder = tempfile::tempdir().unwrap();
        let arena = Arena {
            output: &folder.path().join("output"),
            watched: folder.path(),
            expected: Duration::from_millis(100),
        };
        let told = RefCell::new(Vec::new());
        let fate = Fate { blow, moment: Moment::AfterStart(0.5) };
        let ended = arena
            .run(Command::new("sh").args(["-c", script]), fate, &|frozen| told.borrow_mut().push(frozen))
            .unwrap();
        (ended, told.into_inner())
    }

    #[test]
    fn blows_fall_on_what_runs() {
        let (calm, told) = run("echo out; echo err >&2; exit 5", Blow::None);
        assert_eq!((calm.code(), calm.struck, calm.was_killed()), (Some(5), false, false));
        assert_eq!((calm.stdout, calm.stderr, told), (b"out\n".to_vec(), b"err\n".to_vec(), vec![]));
        let (killed, _) = run("exec sleep 100", Blow::Kill);
        assert!(killed.was_killed() && killed.struck && killed.code().is_none());
        let (frozen, told) = run("exec sleep 0.3", Blow::Freeze(Duration::from_millis(30)));
        assert!(frozen.struck && frozen.code() == Some(0) && told == [true, false]);
        let (both, _) = run("exec sleep 100", Blow::FreezeAndKill(Duration::from_millis(10)));
        assert!(both.was_killed());
    }

    #[test]
    fn what_is_over_is_not_struck() {
        let (ended, _) = run("exit 0", Blow::Kill);
        assert_eq!((ended.code(), ended.struck), (Some(0), false));
    }
}
