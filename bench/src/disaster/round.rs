//! One round: a server at work, its end at a random instant, the way back, and the count.

use super::cluster::{Programs, Running, set};
use super::follow::{FollowTask, Followed};
use super::house::House;
use super::ledger::{Count, acknowledged, count};
use super::{Disaster, Mode};
use crate::data::remove_all;
use crate::draw::Draw;
use crate::error::BenchError;
use lifeboat_base::clock::{Clock, Stopwatch, Timestamp};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long WAL gathers where nobody waits for it.
const GATHER: Duration = Duration::from_millis(250);
/// How long a restored server may take to end recovery.
const PRIMARY_WITHIN: Duration = Duration::from_secs(60);
/// How long the ledger may take to notice that the server is gone.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);
/// How long an acknowledgement is waited for before a kill.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(20);
/// How long everything works between two events, at most and at least.
const WORK_MS: (usize, usize) = (100, 1500);
/// How far apart the two ends of a double kill may be.
const BOTH_WITHIN_MS: usize = 40;

/// What befalls the follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing.
    Spared,
    /// Killed, and started again before the server ends.
    Back { with_clients: bool },
    /// Killed, and started again after the server has ended.
    Late { with_clients: bool },
    /// Killed with the server.
    Both { first: bool },
}

impl Fate {
    /// In every other round the follower is killed; the three ways take turns, the rest is drawn.
    pub(super) fn of_round(number: u32, draw: &mut Draw) -> Self {
        let drawn = draw.percent(50);
        match (number % 2, (number / 2) % 3) {
            (0, _) => Self::Spared,
            (_, 0) => Self::Late { with_clients: drawn },
            (_, 1) => Self::Back { with_clients: drawn },
            _ => Self::Both { first: drawn },
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = |with| if with { ", clients too" } else { "" };
        match self {
            Self::Spared => f.write_str("follower spared"),
            Self::Back { with_clients } => {
                write!(f, "follower killed, back before{}", clients(*with_clients))
            }
            Self::Late { with_clients } => write!(f, "follower killed, back after{}", clients(*with_clients)),
            Self::Both { first: true } => f.write_str("both killed, follower first"),
            Self::Both { first: false } => f.write_str("both killed, server first"),
        }
    }
}

/// What a round came to.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) fate: Fate,
    pub(super) count: Count,
    /// What must never be.
    pub(super) violations: Vec<String>,
    /// How long everything worked.
    pub(super) worked: Duration,
    /// How long the files took to restore.
    pub(super) restored: Duration,
    /// How long the server took to replay and take writes.
    pub(super) replayed: Duration,
}

/// Everything that a round needs.
pub(super) struct Round<'r> {
    pub(super) options: &'r Disaster,
    pub(super) programs: &'r Programs,
    pub(super) template: &'r Path,
    pub(super) number: u32,
    pub(super) folder: PathBuf,
}

impl Round<'_> {
    /// Plays it. Its folder is removed where nothing was violated.
    ///
    /// # Errors
    /// Where it could not be played, or not be restored from: also a violation, for the caller to judge.
    pub(super) fn play(&self) -> Result<Outcome, BenchError> {
        fs::create_dir(&self.folder).map_err(|error| BenchError::io("create", &self.folder, error))?;
        super::open_to_all(&self.folder)?;
        let mut draw = Draw::new(self.options.seed, &format!("round {}", self.number));
        let fate = Fate::of_round(self.number, &mut draw);
        let mut scene = self.scene()?;
        let watch = Stopwatch::start();
        let mut violations = Vec::new();
        let disaster = scene.until_the_end(self, fate, &mut draw, &mut violations)?;
        let worked = watch.elapsed();
        let files = std::mem::take(&mut scene.clients.files);
        let mut outcome = self.back(&scene.house, &files, disaster)?;
        outcome.violations.extend(violations);
        (outcome.fate, outcome.worked) = (fate, worked);
        if outcome.violations.is_empty() {
            remove_all(&self.folder)?;
        }
        Ok(outcome)
    }

    fn gather(&self) -> Duration {
        match self.options.mode {
            Mode::Asynchronous => GATHER,
            Mode::Synchronous => Duration::ZERO,
        }
    }

    /// A server, its follower and its clients, with a snapshot taken while they work.
    fn scene(&self) -> Result<Scene, BenchError> {
        let data = self.folder.join("primary");
        self.programs.copy(self.template, &data)?;
        if self.options.mode == Mode::Synchronous {
            set(&data, "synchronous_standby_names", "FIRST 1 (lifeboat)")?;
        }
        let house = House::init(&self.folder)?;
        let server = self.programs.start(&data)?;
        let task = FollowTask {
            url: format!("{}&application_name=lifeboat", server.url),
            house: self.folder.clone(),
            gather: self.gather(),
        };
        let mut follower = Followed::start(&task)?;
        follower.wait_for("streaming")?;
        let mut clients = Clients::default();
        clients.start(self, &server)?;
        house.protect(&server.url)?;
        Ok(Scene { server: Some(server), house, task, follower, clients })
    }

    /// The way back, and what it brought.
    fn back(&self, house: &House, files: &[PathBuf], disaster: Timestamp) -> Result<Outcome, BenchError> {
        let into = self.folder.join("restored");
        let watch = Stopwatch::start();
        house.restore(&into)?;
        let restored = watch.elapsed();
        let watch = Stopwatch::start();
        let server = self.programs.start(&into)?;
        while !server.is_primary()? {
            if watch.elapsed() > PRIMARY_WITHIN {
                return Err(BenchError::Disaster("the restored server does not end recovery".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let (present, balanced) = server.rows()?;
        let replayed = watch.elapsed();
        server.stop()?;
        let count = count(&acknowledged(files)?, &present, disaster);
        let violations = self.violations(&count, balanced);
        Ok(Outcome { fate: Fate::Spared, count, violations, worked: Duration::ZERO, restored, replayed })
    }

    fn violations(&self, count: &Count, balanced: bool) -> Vec<String> {
        let mut violations = Vec::new();
        if count.acknowledged == 0 {
            violations.push("nothing was acknowledged: nothing was tried".to_owned());
        }
        if count.holes > 0 {
            violations.push(format!("{} lost rows are older than one that is there", count.holes));
        }
        if !balanced {
            violations.push("pgbench's sums do not agree".to_owned());
        }
        if self.options.mode == Mode::Synchronous && count.lost > 0 {
            violations.push(format!("{} rows are lost that were synchronous", count.lost));
        }
        violations
    }
}

/// What works until the disaster.
struct Scene {
    server: Option<Running>,
    house: House,
    task: FollowTask,
    follower: Followed,
    clients: Clients,
}

impl Scene {
    /// Lets everything work, and end. Gives the instant at which the server did.
    fn until_the_end(
        &mut self,
        round: &Round<'_>,
        fate: Fate,
        draw: &mut Draw,
        violations: &mut Vec<String>,
    ) -> Result<Timestamp, BenchError> {
        work(draw);
        if let Fate::Back { with_clients } | Fate::Late { with_clients } = fate {
            self.follower.kill();
            if with_clients {
                self.clients.kill();
            }
            if matches!(fate, Fate::Back { .. }) {
                self.restart_follower("streaming", violations)?;
            }
            if with_clients && let Some(server) = &self.server {
                self.clients.start(round, server)?;
            }
            work(draw);
        }
        let is_stalled = round.options.mode == Mode::Synchronous && matches!(fate, Fate::Late { .. });
        if !is_stalled {
            self.clients.wait_for_acknowledgement()?;
        }
        let gap = Duration::from_millis(draw.below(BOTH_WITHIN_MS) as u64);
        if fate == (Fate::Both { first: true }) {
            self.follower.kill();
            std::thread::sleep(gap);
        }
        let disaster = Clock::System.now();
        let Some(server) = self.server.take() else { return Ok(disaster) };
        let follower = &mut self.follower;
        server.destroy(&mut || {
            if fate == (Fate::Both { first: false }) {
                std::thread::sleep(gap);
                follower.kill();
            }
        })?;
        match fate {
            Fate::Late { .. } => self.restart_follower("disconnected", violations)?,
            // What it has received is durable once it says so.
            Fate::Spared | Fate::Back { .. } => self.follower.wait_for("disconnected")?,
            Fate::Both { .. } => {}
        }
        self.clients.end()?;
        self.hear(violations);
        self.follower.kill();
        Ok(disaster)
    }

    fn restart_follower(&mut self, until: &str, violations: &mut Vec<String>) -> Result<(), BenchError> {
        self.hear(violations);
        self.follower = Followed::start(&self.task)?;
        self.follower.wait_for(until)
    }

    /// The slot keeps everything: a follower that tells of a hole has lost something.
    fn hear(&mut self, violations: &mut Vec<String>) {
        violations
            .extend(self.follower.holes().into_iter().map(|hole| format!("the follower told of a {hole}")));
    }
}

fn work(draw: &mut Draw) {
    let (least, most) = WORK_MS;
    std::thread::sleep(Duration::from_millis((least + draw.below(most - least)) as u64));
}

/// The clients: pgbench and the ledger, each a process of its own.
#[derive(Debug, Default)]
struct Clients {
    pgbench: Option<Child>,
    ledger: Option<Child>,
    files: Vec<PathBuf>,
}

impl Clients {
    /// Starts both; the ledger with a new session.
    fn start(&mut self, round: &Round<'_>, server: &Running) -> Result<(), BenchError> {
        let session = self.files.len() + 1;
        let file = round.folder.join(format!("acknowledged-{session}"));
        let mut ledger = super::own_command()?;
        ledger.args(["disaster-ledger", &server.url]).arg(&file).args(["--session", &session.to_string()]);
        self.ledger = Some(spawn(&mut ledger)?);
        await_file(&file)?;
        self.files.push(file);
        let mut pgbench = round.programs.client("pgbench", server);
        pgbench.args(["-n", "-c", "4", "-j", "1", "-T", "3600"]);
        self.pgbench = Some(spawn(&mut pgbench)?);
        Ok(())
    }

    /// Waits until the ledger has had one more row acknowledged: right after that is when a loss hurts most.
    fn wait_for_acknowledgement(&self) -> Result<(), BenchError> {
        let Some(file) = self.files.last() else { return Ok(()) };
        let length = || file.metadata().map_or(0, |meta| meta.len());
        let (before, watch) = (length(), Stopwatch::start());
        while length() == before {
            if watch.elapsed() > ACKNOWLEDGED_WITHIN {
                return Err(BenchError::Disaster("no row is acknowledged any more".to_owned()));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    fn kill(&mut self) {
        for child in [&mut self.pgbench, &mut self.ledger].into_iter().flatten() {
            super::kill(child);
        }
        (self.pgbench, self.ledger) = (None, None);
    }

    /// Waits until the ledger has noticed that the server is gone, and ends both.
    fn end(&mut self) -> Result<(), BenchError> {
        if let Some(ledger) = &mut self.ledger {
            let watch = Stopwatch::start();
            let failed = |source| BenchError::Start { program: "wait for the ledger".to_owned(), source };
            loop {
                match ledger.try_wait().map_err(failed)? {
                    Some(status) if status.success() => break,
                    Some(status) => {
                        return Err(BenchError::Disaster(format!("the ledger failed ({status})")));
                    }
                    None if watch.elapsed() > NOTICED_WITHIN => {
                        return Err(BenchError::Disaster("the ledger waits for a dead server".to_owned()));
                    }
                    None => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        }
        self.kill();
        Ok(())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.kill();
    }
}

fn await_file(file: &Path) -> Result<(), BenchError> {
    let watch = Stopwatch::start();
    while !file.exists() {
        if watch.elapsed() > ACKNOWLEDGED_WITHIN {
            return Err(BenchError::Disaster("the ledger does not begin".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn spawn(command: &mut Command) -> Result<Child, BenchError> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().map_err(|source| BenchError::Start { program, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_half_of_the_rounds_the_follower_is_killed_in_every_way() {
        let fates: Vec<Fate> =
            (0..60).map(|number| Fate::of_round(number, &mut Draw::new(7, &number.to_string()))).collect();
        let of = |is: &dyn Fn(&Fate) -> bool| fates.iter().filter(|fate| is(fate)).count();
        assert_eq!(of(&|fate| *fate == Fate::Spared), 30);
        assert_eq!(of(&|fate| matches!(fate, Fate::Late { .. })), 10);
        assert_eq!(of(&|fate| matches!(fate, Fate::Back { .. })), 10);
        for with_clients in [true, false] {
            assert!(
                fates.contains(&Fate::Late { with_clients }) && fates.contains(&Fate::Back { with_clients })
            );
            assert!(fates.contains(&Fate::Both { first: with_clients }));
        }
    }
}
