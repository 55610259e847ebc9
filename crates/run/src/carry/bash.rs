//! Scripts: `bash -euo pipefail -c`, in a process group of their own, with what is passed as environment variables.

use super::capture::{Capture, Stream};
use super::{Carried, Carry, Masker, Order, Stop, group, programs};
use crate::event::Ended;
use lifeboat_base::clock::Stopwatch;
use lifeboat_plan::Span;
use lifeboat_runbook::Action;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// So long a script has after SIGTERM before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// It is looked whether to stop at least every so often.
const LOOK: Duration = Duration::from_millis(50);
/// So much of standard output is the answer.
const ANSWER_BYTES: usize = 64 << 10;
/// So much is taken of what a script leaves in `LIFEBOAT_OUTPUT`.
const OUTPUT_BYTES: u64 = 64 << 10;
/// Where a script leaves `name=value` lines.
const OUTPUT_VARIABLE: &str = "LIFEBOAT_OUTPUT";

/// Carries out scripts.
#[derive(Clone, Debug)]
pub struct Bash {
    /// So long a script has after SIGTERM before SIGKILL.
    pub grace: Duration,
}

impl Default for Bash {
    fn default() -> Self {
        Self { grace: GRACE }
    }
}

impl Carry for Bash {
    fn carry(&self, order: &Order, stop: &Stop) -> Carried {
        let mut script = match Script::start(order) {
            Ok(script) => script,
            Err(why) => return Carried::not_begun(why),
        };
        let ended = script.wait(self, order, stop);
        script.finish(order, ended)
    }

    fn look(&self, order: &Order) -> Vec<String> {
        match &order.action {
            Action::Bash { script } => programs::look(script),
            _ => vec!["this is no script".to_owned()],
        }
    }

    fn clear_up(&self, order: &Order) {
        group::clear_up(&tag(order));
    }
}

fn tag(order: &Order) -> String {
    format!("{}/{}/{}", order.run, order.block, order.attempt)
}

/// Where a script leaves its outputs, until they are read.
fn values_file(order: &Order) -> PathBuf {
    order.capture.with_extension("values")
}

struct Script {
    child: Child,
    pidfd: OwnedFd,
    out: Option<File>,
    err: Option<File>,
    out_stream: Stream,
    err_stream: Stream,
    capture: Capture,
}

/// How a script ended.
enum End {
    Exited(ExitStatus),
    TimedOut,
    Stopped,
    Lost(io::Error),
}

impl Script {
    fn start(order: &Order) -> Result<Self, String> {
        let Action::Bash { script } = &order.action else { return Err("this is no script".to_owned()) };
        let capture = Capture::create(&order.capture).map_err(|e| format!("capture its output: {e}"))?;
        let values = values_file(order);
        Capture::create(&values).map_err(|e| format!("make a file for its outputs: {e}"))?;
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script, "bash"]);
        command
            .env(OUTPUT_VARIABLE, &values)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in &order.values {
            command.env(variable(name), value.expose()?);
        }
        let mut child = group::spawn(&mut command, &tag(order)).map_err(|e| format!("start bash: {e}"))?;
        let out = child.stdout.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        let err = child.stderr.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).map_err(|error| {
            group::signal(&child, Signal::KILL);
            let _ = child.wait();
            format!("watch bash: {error}")
        })?;
        let stream = |answer_bytes| Stream::new(&order.secrets, answer_bytes);
        Ok(Self { child, pidfd, out, err, out_stream: stream(ANSWER_BYTES), err_stream: stream(0), capture })
    }

    fn wait(&mut self, bash: &Bash, order: &Order, stop: &Stop) -> End {
        let watch = Stopwatch::start();
        loop {
            let left = order.timeout.saturating_sub(watch.elapsed());
            match self.poll(left.min(LOOK)) {
                Ok(true) => return self.reap(),
                Ok(false) => {}
                Err(error) => {
                    self.end_group(bash);
                    return End::Lost(error);
                }
            }
            let end = if stop.is_wanted() { End::Stopped } else { End::TimedOut };
            if stop.is_wanted() || watch.elapsed() >= order.timeout {
                self.end_group(bash);
                return end;
            }
        }
    }

    /// Waits for output or the end, at most so long; whether it is the end.
    fn poll(&mut self, wait: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(wait).map_err(io::Error::other)?;
        let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
        fds.extend(
            [&self.out, &self.err]
                .into_iter()
                .flatten()
                .map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)),
        );
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let has_ended = !fds[0].revents().is_empty();
        let ready: Vec<bool> = fds[1..].iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        self.read(&ready)?;
        Ok(has_ended)
    }

    fn read(&mut self, ready: &[bool]) -> io::Result<()> {
        let pipes = [(&mut self.out, &mut self.out_stream), (&mut self.err, &mut self.err_stream)];
        let open = pipes.into_iter().filter(|(pipe, _)| pipe.is_some());
        for ((pipe, stream), is_ready) in open.zip(ready) {
            if *is_ready {
                take(pipe, stream, &mut self.capture)?;
            }
        }
        Ok(())
    }

    /// The script has ended: what is in the pipes is taken, and nobody waits for what it left in the background.
    fn reap(&mut self) -> End {
        let status = match self.child.wait() {
            Ok(status) => status,
            Err(error) => return End::Lost(error),
        };
        for (pipe, stream) in [(&mut self.out, &mut self.out_stream), (&mut self.err, &mut self.err_stream)] {
            while pipe.as_ref().is_some_and(is_readable) {
                if let Err(error) = take(pipe, stream, &mut self.capture) {
                    return End::Lost(error);
                }
            }
        }
        End::Exited(status)
    }

    /// Ends everybody in the group: asked first, then killed.
    fn end_group(&mut self, bash: &Bash) {
        group::signal(&self.child, Signal::TERM);
        let watch = Stopwatch::start();
        while watch.elapsed() < bash.grace && !self.is_gone() {
            // What is printed while ending is read on, so that nobody hangs on a full pipe.
            let _ = self.poll(Duration::from_millis(5));
        }
        group::signal(&self.child, Signal::KILL);
        let _ = self.child.wait();
    }

    fn is_gone(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_))) && group::is_empty(&self.child)
    }

    fn finish(mut self, order: &Order, end: End) -> Carried {
        let drained = self.out_stream.finish(&mut self.capture);
        let drained = drained.and_then(|()| self.err_stream.finish(&mut self.capture));
        let captured = drained.and_then(|()| self.capture.finish());
        let outputs = read_outputs(order);
        let answer = String::from_utf8_lossy(&self.out_stream.answer).trim().to_owned();
        let ended = match (end, captured) {
            (End::Lost(error), _) => {
                Ended::Unknown { why: format!("it could not be watched to its end: {error}") }
            }
            (End::TimedOut, _) => {
                Ended::Unknown { why: format!("it was stopped after {}", Span::new(order.timeout)) }
            }
            (End::Stopped, _) => Ended::Unknown { why: "it was stopped".to_owned() },
            (End::Exited(status), _) => judge(order.asks, status),
        };
        match (ended, outputs) {
            (Ended::Done, Err(why)) => Carried::failed(why),
            (ended, outputs) => Carried { ended, outputs: outputs.unwrap_or_default(), answer: Some(answer) },
        }
    }
}

fn is_readable(pipe: &File) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    poll(&mut fds, Some(&now)).is_ok() && !fds[0].revents().is_empty()
}

/// Reads once; at the end the pipe is closed.
fn take(pipe: &mut Option<File>, stream: &mut Stream, capture: &mut Capture) -> io::Result<()> {
    let Some(file) = pipe else { return Ok(()) };
    let mut buffer = [0; 16 << 10];
    match file.read(&mut buffer) {
        Ok(0) => *pipe = None,
        Ok(read) => stream.push(&buffer[..read], capture)?,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn judge(asks: bool, status: ExitStatus) -> Ended {
    match status.code() {
        Some(0) => Ended::Done,
        Some(1) if asks => Ended::Failed { why: "the answer is no".to_owned() },
        Some(code) => {
            let why = match code {
                127 => "exit code 127: a program was not found".to_owned(),
                code => format!("exit code {code}"),
            };
            if asks { Ended::Unknown { why } } else { Ended::Failed { why } }
        }
        // Nobody asked it how far it had come.
        None => Ended::Unknown { why: format!("it ended by {status}") },
    }
}

/// A name as bash can have it.
fn variable(name: &str) -> String {
    name.replace('-', "_")
}

fn read_outputs(order: &Order) -> Result<BTreeMap<String, String>, String> {
    let path = values_file(order);
    let read = File::open(&path).and_then(|file| {
        let mut text = Vec::new();
        file.take(OUTPUT_BYTES + 1).read_to_end(&mut text)?;
        Ok(text)
    });
    let _ = std::fs::remove_file(&path);
    let text = read.map_err(|error| format!("read its outputs: {error}"))?;
    if text.len() as u64 > OUTPUT_BYTES {
        return Err(format!("its outputs are more than {OUTPUT_BYTES} bytes"));
    }
    let text = Masker::text(&order.secrets, &String::from_utf8_lossy(&text));
    let named = text.lines().filter_map(|line| line.split_once('='));
    let wanted =
        named.filter(|(name, _)| order.outputs.iter().any(|output| variable(&output.name) == variable(name)));
    Ok(wanted.map(|(name, value)| (declared(order, name), value.to_owned())).collect())
}

/// The name as the document declares it: a script may write it with underscores.
fn declared(order: &Order, name: &str) -> String {
    let output = order.outputs.iter().find(|output| variable(&output.name) == variable(name));
    output.map_or_else(|| name.to_owned(), |output| output.name.clone())
}
