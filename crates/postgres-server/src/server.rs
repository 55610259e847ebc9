//! One running server: started, watched, stopped, killed, and never left behind.
//!
//! Whether it is ready is read from the eighth line of `postmaster.pid`, which the server keeps for this purpose
//! and which `pg_ctl` reads as well. It deliberately knows no protocol: it never connects.

use crate::{Identity, Installation, ServerError, ServerLog, family, place, spawn};
use lifeboat_base::clock::Stopwatch;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

/// How often a server is looked at that is waited for: it starts in some 100 ms.
const POLL: Duration = Duration::from_millis(10);
/// A stop writes a checkpoint, which on a slow disk takes minutes; a smart one also waits for its clients.
const STOPS_WITHIN: Duration = Duration::from_secs(600);
/// An immediate stop kills what did not obey after five seconds.
const STOPS_AT_ONCE_WITHIN: Duration = Duration::from_secs(10);
/// The log is complete when the last child has closed it, which is soon after the server's end.
const LOG_CLOSES_WITHIN: Duration = Duration::from_secs(2);

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Its directory.
    pub data: PathBuf,
    /// Settings that outrank every file; a name given twice has the last value.
    pub settings: Vec<(String, String)>,
    /// The main file of settings, where it is not the one in the directory.
    pub config_file: Option<PathBuf>,
    /// Where its socket lies; a [`crate::ServerPlace`] is private.
    pub socket_dir: PathBuf,
    /// The port: part of the socket's name, and of the address on loopback.
    pub port: u16,
    /// Whether it also listens on 127.0.0.1.
    pub listen_tcp: bool,
}

impl ServerOptions {
    /// A directory served on a socket alone, under PostgreSQL's usual port (which names the socket).
    pub fn new(data: impl Into<PathBuf>, socket_dir: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            settings: Vec::new(),
            config_file: None,
            socket_dir: socket_dir.into(),
            port: 5432,
            listen_tcp: false,
        }
    }

    /// The server works in its own directory, not in ours.
    fn with_absolute_paths(mut self) -> Result<Self, ServerError> {
        let paths = [&mut self.data, &mut self.socket_dir].into_iter().chain(self.config_file.as_mut());
        for path in paths {
            *path = std::path::absolute(&path).map_err(ServerError::io("find the whole path of", path))?;
        }
        Ok(self)
    }

    /// The settings in the order of their rank. Ours keep a server that comes from elsewhere (a restored one, with
    /// its old settings) from writing or listening where it did there; the caller's come last and outrank them.
    fn settings(&self) -> Vec<(String, OsString)> {
        let mut settings: Vec<(String, OsString)> = Vec::new();
        let mut set = |name: &str, value: OsString| settings.push((name.to_owned(), value));
        if let Some(file) = &self.config_file {
            set("config_file", file.into());
        }
        set("listen_addresses", if self.listen_tcp { "127.0.0.1".into() } else { OsString::new() });
        if !self.listen_tcp {
            // It serves no socket, and its certificate may not have come along.
            set("ssl", "off".into());
        }
        set("port", self.port.to_string().into());
        set("unix_socket_directories", in_a_list(&self.socket_dir));
        set("external_pid_file", OsString::new());
        set("logging_collector", "off".into());
        set("log_destination", "stderr".into());
        set("lc_messages", "C".into());
        set("log_startup_progress_interval", "1s".into());
        for (name, value) in &self.settings {
            set(name, value.into());
        }
        settings
    }
}

/// A path as one element of a setting that is a list.
fn in_a_list(path: &Path) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    let mut quoted = vec![b'"'];
    for byte in path.as_os_str().as_bytes() {
        if *byte == b'"' {
            quoted.push(b'"');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    OsString::from_vec(quoted)
}

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It has begun, and takes no connections.
    Starting,
    /// It replays its log, and takes no connections.
    Recovering,
    /// It takes connections: as a primary, or as a standby that can be read.
    Ready,
    /// It was told to stop.
    Stopping,
    /// It has ended.
    Gone,
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Recovering => "recovering",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Gone => "gone",
        })
    }
}

/// How a server is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// After its clients have left.
    Smart,
    /// Clients are sent away, everything is put away.
    Fast,
    /// At once; the next start recovers, as after a crash.
    Immediate,
}

impl StopMode {
    const fn signal(self) -> Signal {
        match self {
            Self::Smart => Signal::TERM,
            Self::Fast => Signal::INT,
            Self::Immediate => Signal::QUIT,
        }
    }
}

impl fmt::Display for StopMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smart => "smart",
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        })
    }
}

/// A server that we started. Where it is dropped it is stopped at once, and where we are killed the kernel does it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pid: Pid,
    ended: Option<ExitStatus>,
    log: ServerLog,
    identity: Identity,
    data: PathBuf,
    socket_dir: PathBuf,
    port: u16,
}

impl Server {
    /// Starts a server, and does not wait for it.
    ///
    /// # Errors
    /// Where its program cannot be started at all. What the server itself objects to is told by
    /// [`Server::wait_ready`].
    pub fn start(
        installation: &Installation,
        identity: &Identity,
        options: ServerOptions,
    ) -> Result<Self, ServerError> {
        let options = options.with_absolute_paths()?;
        place::check_socket_path(&options.socket_dir, options.port)?;
        let mut child =
            spawn::bound_to_us(command(installation, identity, &options), StopMode::Immediate.signal())
                .map_err(|source| refused(installation, identity, source))?;
        let follow =
            |from| ServerLog::follow(from).map_err(ServerError::io("read the log of", &options.data));
        let log = match child.stderr.take().map(follow) {
            Some(Ok(log)) => log,
            Some(Err(error)) => return Err(abandon(child, error)),
            None => {
                let error = std::io::Error::other("it has no log");
                return Err(abandon(child, ServerError::io("start", &options.data)(error)));
            }
        };
        let pid = Pid::from_child(&child);
        let ServerOptions { data, socket_dir, port, .. } = options;
        Ok(Self { child, pid, ended: None, log, identity: identity.clone(), data, socket_dir, port })
    }

    /// Waits until it takes connections; calls `on_wait` again and again meanwhile.
    ///
    /// # Errors
    /// [`ServerError::Ended`] with the end of its log, or [`ServerError::NotReady`] after `limit`; then it still
    /// runs.
    pub fn wait_ready(&mut self, limit: Duration, on_wait: &mut dyn FnMut()) -> Result<(), ServerError> {
        let watch = Stopwatch::start();
        loop {
            match self.state()? {
                ServerState::Ready => return Ok(()),
                ServerState::Gone => return Err(self.why_it_ended()),
                state if watch.elapsed() >= limit => return Err(self.not_ready(state, limit)),
                _ => on_wait(),
            }
            thread::sleep(POLL);
        }
    }

    /// What it is doing now.
    ///
    /// # Errors
    /// Where the system does not tell whether it has ended.
    pub fn state(&mut self) -> Result<ServerState, ServerError> {
        if self.has_ended()?.is_some() {
            return Ok(ServerState::Gone);
        }
        // A file that is not there yet, or is just being written, is one of a server that starts.
        let file = fs::read(self.data.join("postmaster.pid")).unwrap_or_default();
        let told = told_state(&String::from_utf8_lossy(&file), self.pid.as_raw_nonzero().get());
        Ok(match told {
            ServerState::Starting if self.log.is_recovering() => ServerState::Recovering,
            told => told,
        })
    }

    /// Stops it and waits until it has ended.
    ///
    /// # Errors
    /// Where it does not stop within ten minutes (it is killed then), or did not put everything away. An immediate
    /// stop, which never does, has only the former.
    pub fn stop(mut self, mode: StopMode) -> Result<(), ServerError> {
        self.signal(mode.signal());
        let Some(status) = self.wait_ended(STOPS_WITHIN)? else {
            let data = self.data.clone();
            self.end_now();
            return Err(ServerError::DidNotStop { data, mode, waited: STOPS_WITHIN });
        };
        if status.success() || mode == StopMode::Immediate {
            return Ok(());
        }
        self.log.wait_closed(LOG_CLOSES_WITHIN);
        let (reason, log) = (self.log.reason(), self.log.tail());
        Err(ServerError::StoppedBadly { data: self.data.clone(), status, reason, log })
    }

    /// `kill -9`, of the server and all its processes, as by a power cut. Returns when they are gone.
    pub fn kill(mut self) {
        self.end_now();
    }

    /// Tells it to read its settings again. It does so soon, not at once.
    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where its socket lies.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// A connection string for its socket, without a user: that is what the caller adds (`&user=…`) or has by
    /// default.
    pub fn url(&self, database: &str) -> String {
        let (database, host) =
            (percent(database.as_bytes()), percent(self.socket_dir.as_os_str().as_bytes()));
        format!("postgresql:///{database}?host={host}&port={}", self.port)
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        self.log.tail()
    }

    /// Its log, which can be read while the server is waited for, and after its end.
    pub fn log(&self) -> ServerLog {
        self.log.clone()
    }

    fn signal(&self, signal: Signal) {
        // Until we have waited for it, its number is nobody else's; afterwards there is nothing to tell.
        if self.ended.is_none() {
            let _ = kill_process(self.pid, signal);
        }
    }

    fn has_ended(&mut self) -> Result<Option<ExitStatus>, ServerError> {
        if self.ended.is_none() {
            self.ended =
                self.child.try_wait().map_err(ServerError::io("wait for the server on", &self.data))?;
        }
        Ok(self.ended)
    }

    fn wait_ended(&mut self, limit: Duration) -> Result<Option<ExitStatus>, ServerError> {
        let watch = Stopwatch::start();
        while self.has_ended()?.is_none() && watch.elapsed() < limit {
            thread::sleep(POLL);
        }
        Ok(self.ended)
    }

    fn end_now(&mut self) {
        if self.ended.is_none() {
            family::kill(self.pid);
            self.ended = self.child.wait().ok();
        }
    }

    fn why_it_ended(&self) -> ServerError {
        self.log.wait_closed(LOG_CLOSES_WITHIN);
        ServerError::Ended {
            data: self.data.clone(),
            status: self.ended.unwrap_or_default(),
            reason: self.log.reason(),
            log: self.log.tail(),
            obstacle: self.identity.obstacle(&self.data),
        }
    }

    fn not_ready(&self, state: ServerState, waited: Duration) -> ServerError {
        let (reason, log) = (self.log.reason(), self.log.tail());
        ServerError::NotReady { data: self.data.clone(), state, waited, reason, log }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked first, since then it removes its shared memory.
        self.signal(StopMode::Immediate.signal());
        if !matches!(self.wait_ended(STOPS_AT_ONCE_WITHIN), Ok(Some(_))) {
            self.end_now();
        }
    }
}

fn command(installation: &Installation, identity: &Identity, options: &ServerOptions) -> Command {
    let mut command = installation.command("postgres", identity);
    command.arg("-D").arg(&options.data);
    for (name, value) in options.settings() {
        let mut setting = OsString::from(name);
        setting.push("=");
        setting.push(value);
        command.arg("-c").arg(setting);
    }
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn refused(installation: &Installation, identity: &Identity, source: std::io::Error) -> ServerError {
    let program = installation.program("postgres");
    let obstacle = identity.obstacle(&installation.bin);
    ServerError::Start { program, user: identity.name().to_owned(), obstacle, source }
}

/// A server whose log nobody reads would block.
fn abandon(mut child: Child, error: ServerError) -> ServerError {
    family::kill(Pid::from_child(&child));
    let _ = child.wait();
    error
}

/// What `postmaster.pid` says: the first line is the process, the eighth what it does.
fn told_state(file: &str, pid: i32) -> ServerState {
    let mut lines = file.lines();
    // One that an earlier server left behind says nothing about this one.
    if lines.next().and_then(|line| line.trim().parse().ok()) != Some(pid) {
        return ServerState::Starting;
    }
    match lines.nth(6).map(str::trim) {
        Some("ready") => ServerState::Ready,
        Some("standby") => ServerState::Recovering,
        Some("stopping") => ServerState::Stopping,
        _ => ServerState::Starting,
    }
}

fn percent(text: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.iter()
        .map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_told_by_the_eighth_line_of_our_own_file() {
        let file = |pid, state: &str| format!("{pid}\n/data\n1700000000\n5432\n/tmp\n\n  1 2\n{state}\n");
        for (state, expected) in [
            ("starting", ServerState::Starting),
            ("ready   ", ServerState::Ready),
            ("standby ", ServerState::Recovering),
            ("stopping", ServerState::Stopping),
        ] {
            assert_eq!(told_state(&file(7, state), 7), expected, "{state}");
            assert_eq!(told_state(&file(8, state), 7), ServerState::Starting, "another server's {state}");
        }
        for cut in ["", "7", "7\n/data\n", "x\n"] {
            assert_eq!(told_state(cut, 7), ServerState::Starting);
        }
    }

    #[test]
    fn the_callers_settings_come_last() {
        let mut options = ServerOptions::new("/data", "/with,comma\"s");
        options.settings.push(("port".to_owned(), "7".to_owned()));
        let settings = options.settings();
        assert_eq!(settings.last(), Some(&("port".to_owned(), "7".into())));
        assert!(settings.contains(&("unix_socket_directories".to_owned(), "\"/with,comma\"\"s\"".into())));
        assert!(settings.contains(&("listen_addresses".to_owned(), OsString::new())));
    }

    #[test]
    fn names_in_a_url_are_escaped() {
        assert_eq!(percent("a/b é".as_bytes()), "a%2Fb%20%C3%A9");
    }
}
