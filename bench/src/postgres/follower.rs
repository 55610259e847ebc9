//! `lifeboat follow` at work, seen from outside.

use super::server::{Programs, Running};
use super::tools::{Lifeboat, NAME};
use super::usage;
use crate::error::BenchError;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long a follower may take to say what it must say next: a snapshot of the whole may lie between.
const SAYS_WITHIN: Duration = Duration::from_secs(900);

/// What one follower has cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) cpu_s: f64,
    pub(super) peak_bytes: u64,
}

/// A follower. Killed where it is dropped.
#[derive(Debug)]
pub(super) struct Followed {
    child: Child,
    lines: Receiver<String>,
}

impl Followed {
    /// Starts one; what it complains of goes to `log`.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub(super) fn start(
        programs: &Programs,
        lifeboat: &Lifeboat,
        running: &Running,
        args: &[&str],
        log: &Path,
    ) -> Result<Self, BenchError> {
        let url = format!("{}&application_name={}", running.url, super::STANDBY);
        let mut command = lifeboat.command(programs, ["follow", &url, "--name", NAME, "--json"]);
        let said = File::options().create(true).append(true).open(log);
        command
            .args(args)
            .stdout(Stdio::piped())
            .stderr(said.map_err(|e| BenchError::io("open log", log, e))?);
        let started = |source| BenchError::Start { program: "lifeboat follow".to_owned(), source };
        let mut child = command.spawn().map_err(started)?;
        let (sender, lines) = channel();
        let stdout = child.stdout.take();
        std::thread::spawn(move || {
            let lines = stdout.map(BufReader::new).into_iter().flat_map(BufRead::lines);
            // Nobody listens once it was dropped.
            lines.map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { child, lines })
    }

    /// Waits until it says that something happened.
    ///
    /// # Errors
    /// Where it ends or is silent for too long.
    pub(super) fn wait_for(&mut self, event: &str) -> Result<(), BenchError> {
        let mut said = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(SAYS_WITHIN) {
            let is_it =
                serde_json::from_str::<serde_json::Value>(&line).is_ok_and(|line| line["event"] == event);
            if is_it {
                return Ok(());
            }
            said.push(line);
        }
        Err(BenchError::Postgresql(format!("lifeboat follow does not say {event}: {}", said.join("; "))))
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// Where it has ended.
    pub(super) fn used(&self) -> Result<Used, BenchError> {
        let pid = self.child.id();
        Ok(Used { cpu_s: usage::tree_cpu_s(pid), peak_bytes: usage::peak_bytes(pid)? })
    }

    /// Asks it to end, and says what it has used.
    ///
    /// # Errors
    /// Where it has ended before, or does not end well.
    pub(super) fn stop(mut self) -> Result<Used, BenchError> {
        let used = self.used()?;
        ask_to_end(&self.child);
        let status = self.child.wait().map_err(|e| BenchError::io("wait for", "lifeboat follow", e))?;
        if status.success() {
            return Ok(used);
        }
        Err(BenchError::Postgresql(format!("lifeboat follow ended badly ({status})")))
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// SIGINT: what a person sends, and `pg_receivewal` 15 listens to nothing else. One that has ended hears nothing.
pub(super) fn ask_to_end(child: &Child) {
    let _ = kill_process(Pid::from_child(child), Signal::INT);
}
