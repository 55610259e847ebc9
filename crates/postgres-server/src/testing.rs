//! Clusters for tests: made, started, killed and removed by the test; and the installations that tests run against.
//!
//! Which installations: those of `LIFEBOAT_TEST_POSTGRES` (directories of programs, colon-separated; `./test` sets
//! it), or else PostgreSQL 15 and 18 in `/usr/lib/postgresql/*/bin` and in `postgres-*/bin` of the test tools
//! (`$LIFEBOAT_TEST_TOOLS`, or `test-tools` in the build's target directory). A test that finds none fails, unless
//! `LIFEBOAT_SKIP_POSTGRES=1` says that this is known. It deliberately knows no driver: SQL goes through `psql`.

use crate::installation::{debian_directories, entries};
use crate::{ControlData, Identity, Installation, Server, ServerError, ServerOptions, ServerPlace, StopMode};
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::{Hint, report};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

/// The superuser of a test's cluster; `trust` lets everybody be it.
pub const SUPERUSER: &str = "postgres";
/// The major versions that everything is tried with.
pub const MAJORS: [u32; 2] = [15, 18];

/// A start with crash recovery on a machine that is busy with other tests.
const READY_WITHIN: Duration = Duration::from_secs(300);
/// How long a state is waited for that a server reaches by itself.
const HAPPENS_WITHIN: Duration = Duration::from_secs(300);
/// Ports are taken between choosing and listening where many tests run at once.
const MAX_PORTS_TRIED: u32 = 5;
const POLL: Duration = Duration::from_millis(20);

/// What every cluster is made with: small, and as durable as any.
const SETTINGS: [(&str, &str); 9] = [
    ("shared_buffers", "32MB"),
    ("wal_level", "replica"),
    ("max_wal_senders", "12"),
    ("max_replication_slots", "12"),
    ("max_connections", "60"),
    // In files of the directory: what a killed server leaves in shared memory would stay for ever.
    ("dynamic_shared_memory_type", "mmap"),
    ("log_min_messages", "log"),
    ("wal_sender_timeout", "60s"),
    ("timezone", "UTC"),
];

/// The installations that tests run against: 15 and 18. Empty where `LIFEBOAT_SKIP_POSTGRES=1` is set, which is
/// printed.
///
/// # Panics
/// Where one is missing or does not work: a test that is not skipped must not pass.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen in the test's output")]
pub fn test_installations() -> Vec<Installation> {
    if std::env::var("LIFEBOAT_SKIP_POSTGRES").is_ok_and(|value| value == "1") {
        eprintln!("SKIPPED: LIFEBOAT_SKIP_POSTGRES=1, nothing was tried against a real PostgreSQL server");
        return Vec::new();
    }
    match std::env::var_os("LIFEBOAT_TEST_POSTGRES") {
        Some(named) if !named.is_empty() => std::env::split_paths(&named).map(|bin| at(&bin)).collect(),
        _ => MAJORS.map(found).into(),
    }
}

/// The installation of one major version that tests run against; `None` where such tests are skipped, or where
/// `LIFEBOAT_TEST_POSTGRES` does not name it.
///
/// # Panics
/// As [`test_installations`].
pub fn test_installation(major: u32) -> Option<Installation> {
    test_installations().into_iter().find(|installation| installation.major == major)
}

fn at(bin: &Path) -> Installation {
    Installation::at(bin).unwrap_or_else(|error| panic!("{}: {}", report(&error), hint()))
}

const fn hint() -> &'static str {
    "run ./test once, it installs them, or set LIFEBOAT_TEST_POSTGRES to the directories of their programs, or \
     LIFEBOAT_SKIP_POSTGRES=1 to go without the tests that need them"
}

fn found(major: u32) -> Installation {
    let mut tools: Vec<PathBuf> =
        std::env::var_os("LIFEBOAT_TEST_TOOLS").map(PathBuf::from).into_iter().collect();
    // `test-tools` beside what the running test was built into.
    let test = std::env::current_exe().unwrap_or_default();
    tools.extend(test.ancestors().skip(1).map(|above| above.join("test-tools")));
    let installed = tools.iter().flat_map(|tools| entries(tools, |name| name.starts_with("postgres-")));
    let bins = debian_directories().into_iter().chain(installed.map(|root| root.join("bin")));
    let mut works = bins.filter_map(|bin| Installation::at(&bin).ok());
    works
        .find(|installation| installation.major == major)
        .unwrap_or_else(|| panic!("there is no PostgreSQL {major} for tests: {}", hint()))
}

/// What a cluster is made with.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Whose programs.
    pub installation: Installation,
    /// Bytes of a segment of the log, in MiB.
    pub wal_segment_mib: u32,
    /// Whether data pages have checksums.
    pub checksums: bool,
    /// Whether it also listens on 127.0.0.1.
    pub tcp: bool,
    /// An address of this machine that it listens on instead, and at which it trusts everybody.
    pub address: Option<IpAddr>,
    /// What `initdb` is told besides.
    pub initdb: Vec<String>,
    /// Lines of `postgresql.conf`, so that `ALTER SYSTEM` outranks them.
    pub settings: Vec<(String, String)>,
}

impl ClusterOptions {
    /// Segments of 16 MiB, checksums, a socket only.
    pub const fn new(installation: Installation) -> Self {
        Self {
            installation,
            wal_segment_mib: 16,
            checksums: true,
            tcp: false,
            address: None,
            initdb: Vec::new(),
            settings: Vec::new(),
        }
    }

    /// The same with one more setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    fn initdb_arguments(&self) -> Vec<String> {
        let segments = format!("--wal-segsize={}", self.wal_segment_mib);
        let fixed =
            ["--no-sync", "--auth=trust", "--encoding=UTF8", "--no-locale", "--username=postgres", &segments];
        let mut arguments: Vec<String> = fixed.map(str::to_owned).into();
        match (self.checksums, self.installation.major) {
            (true, _) => arguments.push("--data-checksums".to_owned()),
            (false, 18..) => arguments.push("--no-data-checksums".to_owned()),
            (false, _) => {}
        }
        arguments.extend(self.initdb.iter().cloned());
        arguments
    }
}

/// A cluster in a temporary folder, of which all is removed when it is dropped. Its methods panic, with the server's
/// log, where something fails: what else could a test do.
#[derive(Debug)]
pub struct TestCluster {
    // Dropped in this order: the server ends before its folder goes.
    server: Option<Server>,
    options: ClusterOptions,
    identity: Identity,
    data: PathBuf,
    port: u16,
    place: ServerPlace,
}

impl TestCluster {
    /// A running cluster with the usual options.
    ///
    /// # Panics
    /// Where it cannot be made or does not start.
    pub fn start(installation: &Installation) -> Self {
        Self::start_with(ClusterOptions::new(installation.clone()))
    }

    /// A running cluster.
    ///
    /// # Panics
    /// Where it cannot be made or does not start.
    pub fn start_with(options: ClusterOptions) -> Self {
        let mut cluster = Self::make(options);
        cluster.start_first();
        cluster
    }

    /// Starts it on another port, where somebody took the one that was free when it was chosen.
    fn start_first(&mut self) {
        for _ in 0..MAX_PORTS_TRIED {
            match self.try_start() {
                Err(error) if self.options.tcp && error.to_string().contains("Address already in use") => {
                    self.port = free_port();
                }
                outcome => return expect_started(outcome),
            }
        }
        panic!("{MAX_PORTS_TRIED} ports that were free were taken");
    }

    /// A cluster that has not been started.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn make(options: ClusterOptions) -> Self {
        let cluster = Self::without_data(options);
        let mut initdb = cluster.options.installation.command("initdb", &cluster.identity);
        run(initdb.arg("-D").arg(&cluster.data).args(cluster.options.initdb_arguments()));
        let own = cluster.options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in SETTINGS.into_iter().chain(own) {
            cluster.set(name, value);
        }
        if cluster.options.address.is_some() {
            cluster.trust_everybody();
        }
        cluster
    }

    fn trust_everybody(&self) {
        let rules = OpenOptions::new().append(true).open(self.data.join("pg_hba.conf"));
        let rules = rules.and_then(|mut rules| {
            rules.write_all(
                b"host all,replication all 0.0.0.0/0 trust\nhost replication all 0.0.0.0/0 trust\n",
            )
        });
        rules.unwrap_or_else(|error| panic!("trust everybody: {error}"));
    }

    /// A cluster of a directory that is there already (a restored one, say). It is given to the server's user, and
    /// stays when the cluster goes; it has not been started.
    ///
    /// # Panics
    /// Where it cannot be given away.
    pub fn of_directory(options: ClusterOptions, data: &Path) -> Self {
        let mut cluster = Self::without_data(options);
        cluster.data = data.to_owned();
        cluster.identity.own(data).unwrap_or_else(|error| panic!("own the directory: {error}"));
        cluster
    }

    fn without_data(options: ClusterOptions) -> Self {
        let identity = Identity::suitable().unwrap_or_else(|error| panic!("{}", report(&error)));
        let place = ServerPlace::for_sockets(&identity).unwrap_or_else(|error| panic!("{}", report(&error)));
        let data = place.path().join("data");
        Self { server: None, options, identity, data, port: free_port(), place }
    }

    /// A standby of this cluster: a base backup, with the log streamed, running. It is read-only until
    /// [`TestCluster::promote`].
    ///
    /// # Panics
    /// Where the backup fails or the standby does not start.
    pub fn standby(&self) -> Self {
        let mut standby = Self::without_data(self.options.clone());
        let mut backup = self.command("pg_basebackup");
        run(backup.arg("-D").arg(&standby.data).args(["-R", "-X", "stream", "-c", "fast"]));
        standby.start_first();
        standby
    }

    /// Starts the server and waits until it is ready.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start_server(&mut self) {
        expect_started(self.try_start());
    }

    /// Starts the server and waits until it is ready.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn try_start(&mut self) -> Result<(), ServerError> {
        let mut options = ServerOptions::new(&self.data, self.place.path());
        (options.port, options.listen_tcp) = (self.port, self.options.tcp);
        if let Some(address) = self.options.address {
            options.settings.push(("listen_addresses".to_owned(), address.to_string()));
        }
        let mut server = Server::start(&self.options.installation, &self.identity, options)?;
        server.wait_ready(READY_WITHIN, &mut || {})?;
        self.server = Some(server);
        Ok(())
    }

    /// Stops the server; its directory stays.
    ///
    /// # Panics
    /// Where it does not run, or does not stop as it should.
    pub fn stop(&mut self, mode: StopMode) {
        self.taken().stop(mode).unwrap_or_else(|error| panic!("{}", report(&error)));
    }

    /// `kill -9` of the server and all its processes; its directory stays.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn kill9(&mut self) {
        self.taken().kill();
    }

    /// Stops the server (fast) and starts it again.
    ///
    /// # Panics
    /// As [`TestCluster::stop`] and [`TestCluster::start_server`].
    pub fn restart(&mut self) {
        self.stop(StopMode::Fast);
        self.start_server();
    }

    /// Makes a standby a primary, and waits until it is one.
    ///
    /// # Panics
    /// Where it is not one in time.
    pub fn promote(&self) {
        assert_eq!(self.psql("select pg_promote(true, 300)"), "t", "promoted\n{}", self.log());
    }

    fn taken(&mut self) -> Server {
        self.server.take().expect("the test's server runs")
    }

    /// The server, while it runs.
    pub const fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// Whose programs it is made with.
    pub const fn installation(&self) -> &Installation {
        &self.options.installation
    }

    /// Whom it runs as.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A folder that belongs to the server's user and goes with the cluster: sockets, and what a test wants to put
    /// beside.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// Where its socket lies.
    pub fn socket_dir(&self) -> &Path {
        self.place.path()
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// A connection string for its socket, as the superuser.
    ///
    /// # Panics
    /// Where the path of the socket is no text.
    pub fn url(&self, database: &str) -> String {
        let socket = self.place.path().to_str().expect("the path of the socket is text");
        format!(
            "postgresql:///{database}?host={}&port={}&user={SUPERUSER}",
            socket.replace('/', "%2F"),
            self.port
        )
    }

    /// A connection string for loopback, as the superuser; for a cluster with [`ClusterOptions::tcp`].
    pub fn tcp_url(&self, database: &str) -> String {
        format!("postgresql://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The end of the running server's log.
    pub fn log(&self) -> String {
        self.server.as_ref().map(Server::log_tail).unwrap_or_default()
    }

    /// What its control file says.
    ///
    /// # Panics
    /// Where it cannot be read.
    pub fn control(&self) -> ControlData {
        crate::control_data(self.installation(), &self.data)
            .unwrap_or_else(|error| panic!("{}", report(&error)))
    }

    /// Adds a line to `postgresql.conf`; [`TestCluster::reload`] or a restart makes it count.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn set(&self, name: &str, value: &str) {
        let line = format!("{name} = '{}'\n", value.replace('\'', "''"));
        let file = OpenOptions::new().append(true).open(self.data.join("postgresql.conf"));
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .unwrap_or_else(|error| panic!("set {name}: {error}"));
    }

    /// Replaces the lines of `pg_hba.conf`, and makes them count.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn set_hba(&self, lines: &str) {
        let file = OpenOptions::new().write(true).truncate(true).open(self.data.join("pg_hba.conf"));
        file.and_then(|mut file| writeln!(file, "{lines}"))
            .unwrap_or_else(|error| panic!("set_hba: {error}"));
        if self.server.is_some() {
            self.reload();
        }
    }

    /// Lets the server read its settings again. Connections made afterwards have them.
    ///
    /// # Panics
    /// Where the server does not run or does not do it.
    pub fn reload(&self) {
        let server = self.server.as_ref().expect("the test's server runs");
        let reloads = || server.log_tail().matches("received SIGHUP").count();
        let before = reloads();
        server.reload();
        // The server says it first and then reads, before it takes another connection.
        wait_until("the server reads its settings", || reloads() > before);
    }

    /// A command for a program of the installation, as the server's user, that connects to this cluster.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.installation().command(program, &self.identity);
        command.env("PGHOST", self.place.path()).env("PGPORT", self.port.to_string());
        command.env("PGUSER", SUPERUSER).env("PGDATABASE", "postgres");
        command
    }

    /// Runs SQL in the database `postgres`, each statement a transaction of its own; what it printed, without
    /// alignment or headers.
    ///
    /// # Panics
    /// Where a statement fails.
    pub fn psql(&self, sql: &str) -> String {
        self.psql_in("postgres", sql)
    }

    /// As [`TestCluster::psql`], in any database.
    ///
    /// # Panics
    /// Where a statement fails.
    pub fn psql_in(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap_or_else(|said| panic!("{sql}\n{said}\n{}", self.log()))
    }

    /// As [`TestCluster::psql_in`].
    ///
    /// # Errors
    /// What `psql` said, where a statement fails or the connection is lost.
    pub fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = self.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-", "-d", database]);
        let answer = feed(&mut psql, sql).map_err(|error| error.to_string())?;
        match answer.status.success() {
            true => Ok(String::from_utf8_lossy(&answer.stdout).trim_end().to_owned()),
            false => Err(String::from_utf8_lossy(&answer.stderr).into_owned()),
        }
    }

    /// Waits until a query answers so.
    ///
    /// # Panics
    /// Where it does not within five minutes.
    pub fn wait_for(&self, sql: &str, expected: &str) {
        let mut last = String::new();
        wait_until(&format!("{sql} answers {expected}"), || {
            last = self.try_psql("postgres", sql).unwrap_or_else(|said| said);
            last == expected
        });
    }

    /// Makes the tables of pgbench, of so many times 100 000 accounts.
    ///
    /// # Panics
    /// Where it fails.
    pub fn pgbench_init(&self, scale: u32) {
        run(self.command("pgbench").args(["-i", "-q", "-s", &scale.to_string()]));
    }

    /// Runs pgbench with these arguments; what it printed.
    ///
    /// # Panics
    /// Where it fails.
    pub fn pgbench(&self, arguments: &[&str]) -> String {
        String::from_utf8_lossy(&run(self.command("pgbench").args(arguments)).stdout).into_owned()
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        let _ = self.server.take();
        remove_shared_memory(&self.data);
    }
}

/// A server that was killed and never started again leaves a small segment of shared memory, of which a system has
/// only so many. Its number is the second one of the seventh line.
fn remove_shared_memory(data: &Path) {
    let Ok(file) = fs::read_to_string(data.join("postmaster.pid")) else { return };
    let segment = file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
    if let Some(segment) = segment.filter(|number| number.parse::<u32>().is_ok()) {
        let _ = Command::new("ipcrm").args(["-m", segment]).stderr(Stdio::null()).status();
    }
}

fn expect_started(outcome: Result<(), ServerError>) {
    if let Err(error) = outcome {
        let log = error.log().unwrap_or_default();
        panic!("{}\n{}\n{log}", report(&error), error.hint().unwrap_or_default());
    }
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.unwrap_or_else(|error| panic!("find a free port: {error}")).port()
}

fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let watch = Stopwatch::start();
    while !happened() {
        assert!(watch.elapsed() < HAPPENS_WITHIN, "{what}: not within {HAPPENS_WITHIN:?}");
        thread::sleep(POLL);
    }
}

fn run(command: &mut Command) -> Output {
    let answer = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.success(), "{command:?}: {}\n{said}", answer.status);
    answer
}

fn feed(command: &mut Command, input: &str) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take();
    let input = input.to_owned();
    // On a thread, since it may answer before it has read everything.
    let writer = thread::spawn(move || stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes())));
    let answer = child.wait_with_output();
    // A program that ended early did not read it all, and says why itself.
    let _ = writer.join();
    answer
}
