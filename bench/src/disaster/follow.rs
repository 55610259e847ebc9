//! The follower as a process of its own, so that it can be killed like the server.
//!
//! It says what happens on its standard output, a line an event, and ends when its standard input does: it must
//! not outlive the one who started it.

use super::house::House;
use crate::error::BenchError;
use lifeboat_store_postgres::{FollowEvent, FollowOptions, Follower, SlotChoice, slot_name};
use lifeboat_wire_postgres::{ConnectOptions, PostgresError};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long a follower may take to say what it must say next, on a machine that is busy.
const SAYS_WITHIN: Duration = Duration::from_secs(60);

/// What the follower's process is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FollowTask {
    /// Where the server is.
    pub(crate) url: String,
    /// The folder with the repository.
    pub(crate) house: PathBuf,
    /// How long WAL gathers.
    pub(crate) gather: Duration,
}

/// Follows until the standard input ends.
///
/// # Errors
/// Where going on would be wrong.
pub(crate) fn run(task: &FollowTask) -> Result<(), BenchError> {
    let house = House::open(&task.house)?;
    let options = FollowOptions {
        server: ConnectOptions::parse(&task.url, &|_| None).map_err(PostgresError::from)?,
        slot: SlotChoice::Permanent(slot_name(&house.dataset)),
        gather: task.gather,
        give_up: false,
        take_over: None,
    };
    let (follower, events) = Follower::new(&house.repository, &house.dataset, options);
    let handle = follower.handle();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        handle.stop();
    });
    let worker = std::thread::spawn(move || follower.run());
    for event in events {
        crate::print(&line(&event))?;
    }
    match worker.join() {
        Ok(done) => Ok(done?),
        Err(_) => Err(BenchError::Disaster("the follower's thread died".to_owned())),
    }
}

fn line(event: &FollowEvent) -> String {
    let word = match event {
        FollowEvent::Streaming { .. } => "streaming",
        FollowEvent::Hole { .. } => "hole",
        FollowEvent::Disconnected { .. } => "disconnected",
        FollowEvent::NotPublished { .. } => "not-published",
        FollowEvent::NotSpooled { .. } => "not-spooled",
        FollowEvent::Spooled { .. } => "spooled",
        FollowEvent::Warning { .. } => "warning",
        FollowEvent::Switched { .. } => "switched",
        FollowEvent::OtherCluster { .. } => "other-cluster",
    };
    format!("{word} {event:?}")
}

/// A follower at work, seen from outside. Killed where it is dropped.
#[derive(Debug)]
pub(super) struct Followed {
    child: Child,
    _stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Followed {
    /// Starts one.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub(super) fn start(task: &FollowTask) -> Result<Self, BenchError> {
        let mut command = super::own_command()?;
        command.args(["disaster-follow", &task.url]).arg(&task.house);
        command.args(["--gather-ms", &task.gather.as_millis().to_string()]);
        Self::spawn(&mut command)
    }

    fn spawn(command: &mut Command) -> Result<Self, BenchError> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|source| BenchError::Start { program: "the follower".to_owned(), source })?;
        let (sender, lines) = channel();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        std::thread::spawn(move || {
            let lines = stdout.map(BufReader::new).into_iter().flat_map(BufRead::lines);
            // Nobody listens once it was dropped.
            lines.map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { child, _stdin: stdin, lines, said: Vec::new() })
    }

    /// Waits until it says that something happened.
    ///
    /// # Errors
    /// Where it ends or is silent for too long.
    pub(super) fn wait_for(&mut self, event: &str) -> Result<(), BenchError> {
        loop {
            let Ok(line) = self.lines.recv_timeout(SAYS_WITHIN) else {
                let said = self.said.join("; ");
                return Err(BenchError::Disaster(format!("the follower does not say {event}: {said}")));
            };
            let is_it = line.starts_with(event);
            self.said.push(line);
            if is_it {
                return Ok(());
            }
        }
    }

    /// The holes that it told of.
    pub(super) fn holes(&mut self) -> Vec<String> {
        self.said.extend(self.lines.try_iter());
        self.said.iter().filter(|line| line.starts_with("hole")).cloned().collect()
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        super::kill(&mut self.child);
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.kill();
    }
}
