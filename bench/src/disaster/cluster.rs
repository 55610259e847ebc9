//! The servers: one cluster that is made once and copied for every round, and what is restored.

use crate::error::BenchError;
use lifeboat_postgres_server::{Identity, Installation, Server, ServerOptions, ServerPlace, StopMode};
use lifeboat_wire_postgres::{ConnectOptions, Connection, PostgresError, Purpose};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A start with recovery on a machine that is busy.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// The role that owns the cluster.
const SUPERUSER: &str = "postgres";
/// What pgbench keeps true with every transaction: how much the accounts, tellers and branches differ from the
/// history.
const IMBALANCE: &str = "select count(distinct sum) - 1 from (
    select coalesce(sum(delta), 0) as sum from pgbench_history
    union all select sum(abalance) from pgbench_accounts
    union all select sum(tbalance) from pgbench_tellers
    union all select sum(bbalance) from pgbench_branches) sums";

/// Whose programs, run as whom.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) installation: Installation,
    identity: Identity,
}

impl Programs {
    /// The programs of an installation.
    ///
    /// # Errors
    /// Where nobody is found to run servers as.
    pub(super) fn new(installation: Installation) -> Result<Self, BenchError> {
        Ok(Self { installation, identity: Identity::suitable()? })
    }

    fn command(&self, program: &str) -> Command {
        self.installation.command(program, &self.identity)
    }

    /// Makes the cluster that every round begins with: pgbench's tables and the ledger's, put away cleanly.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(super) fn make_template(&self, data: &Path, scale: u32) -> Result<(), BenchError> {
        fs::create_dir(data).map_err(|error| BenchError::io("create", data, error))?;
        self.identity.own(data).map_err(|error| BenchError::io("give away", data, error))?;
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(data).args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--no-locale"]);
        run(initdb.args(["--data-checksums", "--username", SUPERUSER]))?;
        // In files of the directory: what a killed server leaves in shared memory would stay for ever.
        set(data, "dynamic_shared_memory_type", "mmap")?;
        set(data, "max_slot_wal_keep_size", "1GB")?;
        set(data, "shared_buffers", "32MB")?;
        let running = self.start(data)?;
        run(self.client("pgbench", &running).args(["-i", "-q", "-s", &scale.to_string()]))?;
        running.connect()?.execute(super::ledger::TABLE)?;
        running.server.stop(StopMode::Fast)?;
        Ok(())
    }

    /// A copy of a cluster that is not running.
    ///
    /// # Errors
    /// Where it cannot be copied.
    pub(super) fn copy(&self, template: &Path, data: &Path) -> Result<(), BenchError> {
        run(Command::new("cp").arg("-a").arg(template).arg(data))
    }

    /// Starts a server and waits until it takes connections.
    ///
    /// # Errors
    /// Where it does not.
    pub(super) fn start(&self, data: &Path) -> Result<Running, BenchError> {
        self.identity.own(data).map_err(|error| BenchError::io("give away", data, error))?;
        let place = ServerPlace::for_sockets(&self.identity)?;
        let mut server =
            Server::start(&self.installation, &self.identity, ServerOptions::new(data, place.path()))?;
        server.wait_ready(READY_WITHIN, &mut || {})?;
        Ok(Running { url: format!("{}&user={SUPERUSER}", server.url("postgres")), server, place })
    }

    /// A command that connects to a server.
    pub(super) fn client(&self, program: &str, running: &Running) -> Command {
        let mut command = self.command(program);
        command.env("PGHOST", running.place.path()).env("PGPORT", running.server.port().to_string());
        command.env("PGUSER", SUPERUSER).env("PGDATABASE", "postgres");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// A server that takes connections.
#[derive(Debug)]
pub(super) struct Running {
    server: Server,
    place: ServerPlace,
    /// Where it is.
    pub(super) url: String,
}

impl Running {
    fn connect(&self) -> Result<Connection, BenchError> {
        let options = ConnectOptions::parse(&self.url, &|_| None).map_err(PostgresError::from)?;
        Ok(Connection::open(&options, Purpose::Sql)?)
    }

    /// `kill -9` of all its processes, and `rm -rf` of its directory.
    ///
    /// # Errors
    /// Where the directory cannot be removed.
    pub(super) fn destroy(self, killed: &mut dyn FnMut()) -> Result<(), BenchError> {
        let data = self.server.data().to_owned();
        let segment = shared_memory(&data);
        self.server.kill();
        killed();
        if let Some(segment) = segment {
            // A system has only so many, and nobody else will ever free it. Where it is gone already, fine.
            let _ = Command::new("ipcrm").args(["-m", &segment]).stderr(Stdio::null()).status();
        }
        fs::remove_dir_all(&data).map_err(|error| BenchError::io("remove", &data, error))
    }

    /// What a restored server has of the ledger; and whether pgbench's sums agree and it takes writes.
    ///
    /// # Errors
    /// Where it cannot be asked, or does not take a write.
    pub(super) fn rows(&self) -> Result<(BTreeSet<u64>, bool), BenchError> {
        let mut connection = self.connect()?;
        let rows = connection.query("select number from ledger order by number")?;
        let mut numbers = BTreeSet::new();
        for row in 0..rows.len() {
            let number = rows.text(row, 0)?.and_then(|text| text.parse().ok());
            numbers.insert(number.ok_or_else(|| BenchError::Disaster("a row has no number".to_owned()))?);
        }
        let balanced = connection.query(IMBALANCE)?.single()? == "0";
        connection.execute("create table lifeboat_takes_writes ()")?;
        Ok((numbers, balanced))
    }

    /// Whether it has ended recovery.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub(super) fn is_primary(&self) -> Result<bool, BenchError> {
        Ok(self.connect()?.query("select pg_catalog.pg_is_in_recovery()")?.single()? == "f")
    }

    /// Stops it.
    ///
    /// # Errors
    /// Where it does not stop.
    pub(super) fn stop(self) -> Result<(), BenchError> {
        Ok(self.server.stop(StopMode::Immediate)?)
    }
}

/// The small segment of shared memory that a server has, which outlives it where it is killed: the second number
/// of the seventh line.
fn shared_memory(data: &Path) -> Option<String> {
    let file = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let number = file.lines().nth(6)?.split_whitespace().nth(1)?;
    number.parse::<u32>().is_ok().then(|| number.to_owned())
}

/// Adds a line to `postgresql.conf`.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn set(data: &Path, name: &str, value: &str) -> Result<(), BenchError> {
    let path: PathBuf = data.join("postgresql.conf");
    let file = OpenOptions::new().append(true).open(&path);
    file.and_then(|mut file| writeln!(file, "{name} = '{value}'"))
        .map_err(|error| BenchError::io("append to", &path, error))
}

fn run(command: &mut Command) -> Result<(), BenchError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stderr(Stdio::piped())
        .output()
        .map_err(|source| BenchError::Start { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(BenchError::Failed { command: program, status: output.status.to_string(), said })
}
