//! `lifeboat-bench postgres`: Lifeboat beside pgBackRest and `pg_basebackup`, and beside `pg_receivewal` and a standby.
//!
//! `backup` has one server with a database most of which does not compress, and lets every tool take its turn at a
//! full backup, a restore and a backup after a small change; then the log is replayed from what Lifeboat restored and
//! from where the server had left it. `follow` has pgbench at work and measures what following costs it, and how
//! long what was acknowledged is not yet in the repository.
//!
//! Lifeboat is run as the program that a person runs, and it, its peers and the servers all as one user. What the
//! server's processes use meanwhile is counted beside what each tool uses itself, so that nobody hides work there.
//! Nothing here knows how Lifeboat works inside, but for the names of the objects of its log ([`watch`]).

mod backup;
mod data;
mod follow;
mod follower;
mod ledger;
mod pgbench;
mod replay;
mod report;
mod server;
mod tools;
mod usage;
mod watch;

pub(crate) use ledger::{LedgerTask, run as ledger};

use crate::data::remove_all;
use crate::error::BenchError;
use crate::measure;
use crate::report::{Machine, load};
use lifeboat_base::clock::Clock;
use lifeboat_base::crashsafe;
use report::Run;
use server::Programs;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tools::{Lifeboat, PgBackRest};

/// No process may need more memory than this.
const PEAK_BYTES_MAX: u64 = 160 << 20;
/// What whoever follows is called by the server.
const STANDBY: &str = "bench_peer";

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Backups, restores, replay.
    Backup,
    /// Following.
    Follow,
}

/// What `postgres` was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Postgres {
    /// Which part.
    pub(crate) part: Part,
    /// How many rounds.
    pub(crate) rounds: u32,
    /// The size of the database, in thousandths of the full one.
    pub(crate) scale: u32,
    /// How long pgbench works in each measurement.
    pub(crate) seconds: u32,
    /// What the changes follow from.
    pub(crate) seed: u64,
    /// JSON instead of Markdown on standard output.
    pub(crate) json: bool,
    /// A folder; what this made in it before is removed.
    pub(crate) dir: PathBuf,
    /// Lifeboat's program.
    pub(crate) lifeboat: PathBuf,
    /// The directory of PostgreSQL's programs.
    pub(crate) postgres: Option<PathBuf>,
}

/// Measures, prints and keeps what was found.
///
/// # Errors
/// Where something that is measured fails.
pub(crate) fn run(options: &Postgres) -> Result<u8, BenchError> {
    let mut bench = Bench::open(options)?;
    bench.run.load_before = load();
    match options.part {
        Part::Backup => backup::run(&mut bench)?,
        Part::Follow => follow::run(&mut bench)?,
    }
    bench.run.load_after = load();
    bench.finish()
}

/// What both parts need.
struct Bench<'o> {
    options: &'o Postgres,
    programs: Programs,
    lifeboat: PathBuf,
    pgbackrest: Option<PathBuf>,
    /// Where everything lies; removed at the end.
    dir: PathBuf,
    log: PathBuf,
    run: Run,
}

impl<'o> Bench<'o> {
    fn open(options: &'o Postgres) -> Result<Self, BenchError> {
        crashsafe::create_dir_all(&options.dir)?;
        let dir = fs::canonicalize(&options.dir).map_err(|e| BenchError::io("find", &options.dir, e))?;
        let work = dir.join("postgres");
        remove_all(&work)?;
        for folder in [&dir, &work] {
            crashsafe::create_dir_all(folder)?;
            // The server runs as another user where we are root.
            fs::set_permissions(folder, Permissions::from_mode(0o711))
                .map_err(|error| BenchError::io("open to the server's user", folder, error))?;
        }
        let programs = Programs::find(options.postgres.as_deref())?;
        let run =
            Run { began: Clock::System.now().to_string(), machine: Machine::look(&dir), ..Run::default() };
        let lifeboat = Lifeboat::copy(&options.lifeboat, &work)?;
        let log = work.join("last-command.log");
        let mut bench =
            Self { options, programs, lifeboat, pgbackrest: PgBackRest::program(), dir: work, log, run };
        bench.describe();
        Ok(bench)
    }

    fn describe(&mut self) {
        let version = |program: &Path| {
            let output = Command::new(program).arg("--version").output().ok();
            output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
        };
        let lifeboat = version(&self.lifeboat);
        let pgbackrest = match &self.pgbackrest {
            Some(program) => PgBackRest::version(program).unwrap_or_default(),
            None => "pgBackRest is not there, so nothing is said about it".to_owned(),
        };
        let postgres = format!("PostgreSQL {}", self.programs.installation.version);
        let rounds = format!(
            "{} rounds, everybody in turn; size {} of the full one; pgbench for {} s at a time; seed {}",
            self.options.rounds,
            f64::from(self.options.scale) / 1000.0,
            self.options.seconds,
            self.options.seed
        );
        self.run.about.extend([postgres, lifeboat, pgbackrest, rounds]);
    }

    /// Nobody pays for what another left in the page cache, nor for memory that a virtual machine gave back to its
    /// host while nobody used it: to get a gigabyte of that again takes seconds, of whoever comes first.
    fn settle(&self) -> Result<(), BenchError> {
        measure::run(Command::new("sync").arg("-f").arg(&self.dir), &self.log)?;
        let own = std::env::current_exe().map_err(|error| BenchError::io("find", "this program", error))?;
        measure::run(Command::new(own).arg("touch-memory"), &self.log).map(|_| ())
    }

    fn finish(self) -> Result<u8, BenchError> {
        let (name, keep) = match self.options.part {
            Part::Backup => ("postgres-backup", self.options.dir.clone()),
            Part::Follow => ("postgres-follow", self.options.dir.clone()),
        };
        let (markdown, json) = (self.run.markdown(), serde_json::to_string_pretty(&self.run)?);
        crashsafe::replace(&keep.join(format!("{name}.md")), markdown.as_bytes())?;
        crashsafe::replace(&keep.join(format!("{name}.json")), json.as_bytes())?;
        crate::print(if self.options.json { &json } else { &markdown })?;
        remove_all(&self.dir)?;
        Ok(self.run.exit_code())
    }
}

fn progress(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
