//! `lifeboat-bench disaster`: a server under load is killed and its directory removed, and what comes back is
//! held against a ledger of what it had acknowledged.
//!
//! Each round has a real server with `pgbench -c 4`, a ledger (a process that inserts numbered rows and, after
//! each acknowledgement, appends the number to a file and syncs it), and a follower in a process of its own. A
//! snapshot is taken while they work. At a random instant, right after an acknowledgement, all processes of the
//! server are killed and its directory is removed; in half of the rounds the follower is killed as well, at
//! another instant or the same, and started again before or after, in some with the clients. Then everything is
//! restored to the latest point, started, and counted.
//!
//! Without synchronous replication, rows may be lost from the end, and some rounds must lose some, or nothing was
//! tried. With it none may be. Never may a row be lost that is older than one that is there. The choices follow
//! from the seed; the instants at which processes meet do not.

mod cluster;
mod follow;
mod house;
mod ledger;
mod round;

pub(crate) use follow::{FollowTask, run as follow};
pub(crate) use ledger::{LedgerTask, run as ledger};

use crate::data::remove_all;
use crate::error::BenchError;
use cluster::Programs;
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::report as say;
use lifeboat_postgres_server::Installation;
use round::{Outcome, Round};
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// pgbench's scale: small, since every round copies and restores it.
const SCALE: u32 = 1;
/// Without synchronous replication one round in so many must lose something, so that the run means something.
const ROUNDS_PER_LOSS: u32 = 5;

/// Whether the server waits for the log to be in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It does not.
    Asynchronous,
    /// It does.
    Synchronous,
}

/// What `disaster` was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disaster {
    /// How many rounds.
    pub(crate) rounds: u32,
    /// Whether the server waits.
    pub(crate) mode: Mode,
    /// What the choices follow from.
    pub(crate) seed: u64,
    /// A folder that does not exist or is empty; removed when all went well.
    pub(crate) dir: PathBuf,
    /// The directory of PostgreSQL's programs; else the newest that is found.
    pub(crate) postgres: Option<PathBuf>,
}

/// Runs the rounds, prints a line for each and a summary. 0 where nothing was violated, else 1.
///
/// # Errors
/// Where the machine does not let it run at all.
pub(crate) fn run(options: &Disaster) -> Result<u8, BenchError> {
    crate::floor::packs::empty_folder(&options.dir)?;
    let dir = fs::canonicalize(&options.dir).map_err(|e| BenchError::io("find", &options.dir, e))?;
    open_to_all(&dir)?;
    let programs = Programs::new(installation(options.postgres.as_deref())?)?;
    let (version, seed) = (&programs.installation.version, options.seed);
    crate::print(&format!(
        "PostgreSQL {version}, {}, {} rounds, seed {seed}",
        options.mode.name(),
        options.rounds
    ))?;
    let template = dir.join("template");
    programs.make_template(&template, SCALE)?;
    let (mut tally, watch) = (Tally::default(), Stopwatch::start());
    for number in 0..options.rounds {
        let folder = dir.join(format!("round-{}", number + 1));
        let round = Round { options, programs: &programs, template: &template, number, folder };
        let played = round.play();
        crate::print(&line(number, &played))?;
        tally.add(number, played);
    }
    tally.judge(options);
    crate::print(&summary(options, version, &tally, watch.elapsed()))?;
    if !tally.violations.is_empty() {
        return Ok(1);
    }
    remove_all(&dir).map(|()| 0)
}

fn installation(named: Option<&Path>) -> Result<Installation, BenchError> {
    if let Some(bin) = named {
        return Ok(Installation::at(bin)?);
    }
    let newest = Installation::all().into_iter().max_by_key(|installation| installation.major);
    newest
        .ok_or_else(|| BenchError::Usage("no PostgreSQL is found here: name one with --postgres".to_owned()))
}

/// The server runs as another user where we are root.
fn open_to_all(folder: &Path) -> Result<(), BenchError> {
    fs::set_permissions(folder, Permissions::from_mode(0o711))
        .map_err(|error| BenchError::io("open to the server's user", folder, error))
}

/// This program, to be run as another process.
fn own_command() -> Result<Command, BenchError> {
    let own = std::env::current_exe();
    Ok(Command::new(own.map_err(|source| BenchError::Start { program: "this program".to_owned(), source })?))
}

/// SIGKILL, and out of the table of processes. One that has ended is gone already.
fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Asynchronous => "asynchronous",
            Self::Synchronous => "synchronous",
        }
    }
}

/// What was counted over all rounds.
#[derive(Clone, Debug, Default)]
struct Tally {
    played: u32,
    acknowledged: u64,
    rounds_with_loss: u32,
    lost: u64,
    largest_loss: u64,
    largest_span: Duration,
    phantoms: u64,
    holes: u64,
    violations: Vec<String>,
}

impl Tally {
    fn add(&mut self, number: u32, played: Result<Outcome, BenchError>) {
        let outcome = match played {
            Ok(outcome) => outcome,
            Err(error) => {
                self.violations.push(format!("round {}: {}", number + 1, say(&error)));
                return;
            }
        };
        let count = outcome.count;
        self.played += 1;
        self.acknowledged += count.acknowledged;
        self.rounds_with_loss += u32::from(count.lost > 0);
        self.lost += count.lost;
        self.largest_loss = self.largest_loss.max(count.lost);
        self.largest_span = self.largest_span.max(count.span);
        self.phantoms += count.phantoms;
        self.holes += count.holes;
        let told = outcome.violations.into_iter();
        self.violations.extend(told.map(|what| format!("round {}: {what}", number + 1)));
    }

    /// Whether enough was tried.
    fn judge(&mut self, options: &Disaster) {
        let enough = options.rounds / ROUNDS_PER_LOSS;
        if options.mode == Mode::Asynchronous && self.rounds_with_loss < enough {
            let few = format!("only {} rounds lost anything, and {enough} must", self.rounds_with_loss);
            self.violations.push(few);
        }
    }
}

fn line(number: u32, played: &Result<Outcome, BenchError>) -> String {
    let outcome = match played {
        Ok(outcome) => outcome,
        Err(error) => return format!("round {:>3}: FAILED: {}", number + 1, say(error)),
    };
    let count = outcome.count;
    let mut line = format!(
        "round {:>3}: {}; {} acknowledged, {} lost over {:.1} ms, {} phantoms, {} holes; worked {:.1} s, restored in {:.1} s, replayed in {:.1} s",
        number + 1,
        outcome.fate,
        count.acknowledged,
        count.lost,
        count.span.as_secs_f64() * 1e3,
        count.phantoms,
        count.holes,
        outcome.worked.as_secs_f64(),
        outcome.restored.as_secs_f64(),
        outcome.replayed.as_secs_f64(),
    );
    for violation in &outcome.violations {
        let _ = write!(line, "; VIOLATED: {violation}");
    }
    line
}

fn summary(options: &Disaster, version: &str, tally: &Tally, took: Duration) -> String {
    let rows: [(&str, String); 8] = [
        ("rounds played", format!("{} of {}", tally.played, options.rounds)),
        ("acknowledged", tally.acknowledged.to_string()),
        ("rounds that lost something", tally.rounds_with_loss.to_string()),
        ("acknowledged and lost", tally.lost.to_string()),
        ("largest loss of a round", tally.largest_loss.to_string()),
        ("largest span", format!("{:.1} ms", tally.largest_span.as_secs_f64() * 1e3)),
        ("there and never acknowledged", tally.phantoms.to_string()),
        ("holes", tally.holes.to_string()),
    ];
    let mut text = format!(
        "\nDisaster: PostgreSQL {version}, {}, seed {}, {} s.\n\n| | |\n|---|---|\n",
        options.mode.name(),
        options.seed,
        took.as_secs()
    );
    // Writing into a String cannot fail.
    for (what, count) in rows {
        let _ = writeln!(text, "| {what} | {count} |");
    }
    let _ = match tally.violations.as_slice() {
        [] => writeln!(text, "\nNothing was violated."),
        all => writeln!(text, "\n**Violated**, kept in {}:\n- {}", options.dir.display(), all.join("\n- ")),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(mode: Mode) -> Disaster {
        Disaster { rounds: 50, mode, seed: 1, dir: "/d".into(), postgres: None }
    }

    #[test]
    fn a_run_that_lost_too_little_has_shown_nothing() {
        let judged = |mode, rounds_with_loss| {
            let mut tally = Tally { rounds_with_loss, ..Tally::default() };
            tally.judge(&options(mode));
            tally.violations.len()
        };
        assert_eq!(judged(Mode::Asynchronous, 9), 1);
        assert_eq!(judged(Mode::Asynchronous, 10), 0);
        assert_eq!(judged(Mode::Synchronous, 0), 0);
    }

    #[test]
    fn a_round_that_failed_is_a_violation_and_said() {
        let mut tally = Tally::default();
        let failed = || Err(BenchError::Disaster("no way back".to_owned()));
        assert_eq!(line(4, &failed()), "round   5: FAILED: no way back");
        tally.add(4, failed());
        let text = summary(&options(Mode::Synchronous), "15.18", &tally, Duration::ZERO);
        assert!(text.contains("**Violated**, kept in /d:\n- round 5: no way back"), "{text}");
    }
}
