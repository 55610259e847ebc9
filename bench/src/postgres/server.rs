//! The server that is measured, and the programs beside it, all run as one user.

use crate::error::BenchError;
use crate::measure;
use lifeboat_base::clock::Stopwatch;
use lifeboat_postgres_server::{Identity, Installation, Server, ServerOptions, ServerPlace, StopMode};
use lifeboat_wire_postgres::{ConnectOptions, Connection, PostgresError, Purpose};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A start with a gigabyte of redo on a machine that is busy.
const READY_WITHIN: Duration = Duration::from_secs(600);
/// How long a state is waited for that a server reaches by itself.
const HAPPENS_WITHIN: Duration = Duration::from_secs(300);
/// The role that owns the cluster.
pub(super) const SUPERUSER: &str = "postgres";
/// Settings of every cluster here: as durable as any, and nothing happens that nobody asked for.
const SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "256MB"),
    ("wal_level", "replica"),
    ("max_wal_senders", "10"),
    ("max_replication_slots", "10"),
    ("max_wal_size", "8GB"),
    ("wal_keep_size", "4GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum", "off"),
    ("archive_mode", "on"),
    ("archive_command", "/bin/true"),
    // In files of the directory: what a killed server leaves in shared memory would stay for ever.
    ("dynamic_shared_memory_type", "mmap"),
];

/// Whose programs, run as whom.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) installation: Installation,
    identity: Identity,
}

impl Programs {
    /// The programs in a directory, or else those of PostgreSQL 15, or else the newest.
    ///
    /// # Errors
    /// Where there are none, or nobody to run them as.
    pub(super) fn find(named: Option<&Path>) -> Result<Self, BenchError> {
        let installation = match named {
            Some(bin) => Installation::at(bin)?,
            None => Installation::find(15).or_else(|error| {
                Installation::all().into_iter().max_by_key(|found| found.major).ok_or(error)
            })?,
        };
        Ok(Self { installation, identity: Identity::suitable()? })
    }

    /// A program of PostgreSQL by its name, or any other by its whole path, run as the server's user.
    pub(super) fn command(&self, program: &str) -> Command {
        self.installation.command(program, &self.identity)
    }

    /// A new folder of the server's user.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(super) fn folder(&self, path: &Path) -> Result<PathBuf, BenchError> {
        fs::create_dir_all(path).map_err(|error| BenchError::io("create", path, error))?;
        fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(|error| BenchError::io("set the mode of", path, error))?;
        self.own(path)?;
        Ok(path.to_owned())
    }

    /// Gives a path and all below to the server's user.
    ///
    /// # Errors
    /// Where it cannot.
    pub(super) fn own(&self, path: &Path) -> Result<(), BenchError> {
        self.identity.own(path).map_err(|error| BenchError::io("give away", path, error))
    }

    /// A new cluster with our settings.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(super) fn make(&self, data: &Path, log: &Path) -> Result<(), BenchError> {
        self.folder(data)?;
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(data).args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--no-locale"]);
        measure::run(initdb.args(["--data-checksums", "--username", SUPERUSER]), log)?;
        let lines: Vec<String> = SETTINGS.iter().map(|(name, value)| format!("{name} = '{value}'")).collect();
        append(&data.join("postgresql.conf"), &lines)
    }

    /// Starts a server and waits until it takes connections; one that has to recover has ended that then.
    ///
    /// # Errors
    /// Where it does not.
    pub(super) fn start(&self, data: &Path, settings: &[(&str, &str)]) -> Result<Running, BenchError> {
        self.own(data)?;
        let place = ServerPlace::for_sockets(&self.identity)?;
        let mut options = ServerOptions::new(data, place.path());
        options.settings = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let mut server = Server::start(&self.installation, &self.identity, options)?;
        server.wait_ready(READY_WITHIN, &mut || {})?;
        Ok(Running { url: format!("{}&user={SUPERUSER}", server.url("postgres")), server, place })
    }

    /// A command that connects to a server.
    pub(super) fn client(&self, program: &str, running: &Running) -> Command {
        let mut command = self.command(program);
        command.env("PGHOST", running.place.path()).env("PGPORT", running.server.port().to_string());
        command.env("PGUSER", SUPERUSER).env("PGDATABASE", "postgres");
        command
    }
}

/// Adds lines to a file of settings.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn append(path: &Path, lines: &[String]) -> Result<(), BenchError> {
    let file = File::options().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(format!("{}\n", lines.join("\n")).as_bytes()))
        .map_err(|error| BenchError::io("append to", path, error))
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
    /// A session.
    ///
    /// # Errors
    /// Where it is refused.
    pub(super) fn connect(&self) -> Result<Connection, BenchError> {
        connect(&self.url)
    }

    /// Carries out one statement.
    ///
    /// # Errors
    /// What the server says.
    pub(super) fn execute(&self, sql: &str) -> Result<(), BenchError> {
        Ok(self.connect()?.execute(sql)?)
    }

    /// The one value that a query gives.
    ///
    /// # Errors
    /// What the server says, or where it gives something else.
    pub(super) fn single(&self, sql: &str) -> Result<String, BenchError> {
        Ok(self.connect()?.query(sql)?.single()?.to_owned())
    }

    /// Changes a setting without a restart and waits until new sessions see it.
    ///
    /// # Errors
    /// Where it never does.
    pub(super) fn set(&self, name: &str, value: &str) -> Result<(), BenchError> {
        let quoted = value.replace('\'', "''");
        // Never waits for a standby that is gone.
        let mut connection = self.connect()?;
        connection.execute("set synchronous_commit = local")?;
        connection.execute(&format!("alter system set {name} = '{quoted}'"))?;
        self.server.reload();
        let shown = format!("select current_setting('{name}') = '{quoted}'");
        self.wait_until(&shown)
    }

    /// Waits until a query gives true.
    ///
    /// # Errors
    /// Where it does not for minutes.
    pub(super) fn wait_until(&self, sql: &str) -> Result<(), BenchError> {
        let watch = Stopwatch::start();
        while self.single(sql)? != "t" {
            if watch.elapsed() > HAPPENS_WITHIN {
                return Err(BenchError::Postgresql(format!("this never became true: {sql}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Everything written, nothing going on.
    ///
    /// # Errors
    /// What the server says.
    pub(super) fn checkpoint(&self) -> Result<(), BenchError> {
        self.execute("checkpoint")
    }

    pub(super) fn pid(&self) -> u32 {
        self.server.pid()
    }

    pub(super) fn data(&self) -> &Path {
        self.server.data()
    }

    pub(super) fn socket_folder(&self) -> &Path {
        self.place.path()
    }

    pub(super) fn port(&self) -> u16 {
        self.server.port()
    }

    /// The end of its log.
    pub(super) fn log(&self) -> String {
        self.server.log_tail()
    }

    /// Stops it; nothing of it is wanted any more.
    ///
    /// # Errors
    /// Where it does not stop.
    pub(super) fn stop(self) -> Result<(), BenchError> {
        Ok(self.server.stop(StopMode::Immediate)?)
    }
}

/// A session with the server that a URL names.
///
/// # Errors
/// Where it is refused.
pub(super) fn connect(url: &str) -> Result<Connection, BenchError> {
    let options = ConnectOptions::parse(url, &|_| None).map_err(PostgresError::from)?;
    Ok(Connection::open(&options, Purpose::Sql)?)
}
