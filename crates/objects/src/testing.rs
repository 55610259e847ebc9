//! A real S3 server for tests: SeaweedFS, on loopback, in a temporary directory, ended by its process id.
//!
//! Where the binary is looked for, in this order: `LIFEBOAT_WEED`, `$LIFEBOAT_TEST_TOOLS/venv/bin/weed`,
//! `test-tools/venv/bin/weed` in the build's target directory (`scripts/test-tools.sh` installs it there),
//! `PATH`. A test that finds none fails, unless `LIFEBOAT_SKIP_S3=1` says that this is known.

use crate::location::S3Location;
use crate::s3::{S3Config, S3Store};
use crate::{Key, ObjectError, ObjectStore};
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::{Secret, crashsafe, hex, random};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// The public half of the key that the server knows.
pub const ACCESS_KEY: &str = "lifeboat-test";
/// The secret half. A test's, so no secret.
pub const SECRET_KEY: &str = "not-a-secret-0123456789";
/// The bucket that is there when the server has started.
pub const BUCKET: &str = "lifeboat";

/// The server needs some 5 s on an idle machine, and up to 15 s until the first good read after SIGKILL.
const READY_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum SeaweedFsError {
    /// No binary was found.
    #[error(
        "there is no SeaweedFS binary: run scripts/test-tools.sh, or set LIFEBOAT_WEED to one, or LIFEBOAT_SKIP_S3=1 to go without the tests that need it"
    )]
    NoBinary,
    /// Something that it needs could not be made, or it could not be started.
    #[error("start SeaweedFS")]
    Start(#[source] io::Error),
    /// It ended.
    #[error("SeaweedFS ended by itself; the end of its log:\n{log}")]
    Ended {
        /// The last lines that it wrote.
        log: String,
    },
    /// It does not answer.
    #[error("SeaweedFS does not answer; the end of its log:\n{log}")]
    NotReady {
        /// The last lines that it wrote.
        log: String,
        /// The last error.
        #[source]
        source: Box<ObjectError>,
    },
}

/// A server, shared by the tests of this process that use it at the same time and ended after the last of
/// them. `None` where `LIFEBOAT_SKIP_S3=1` is set, which is printed.
///
/// # Panics
/// Where there is no binary or it does not start: a test that is not skipped must not pass.
pub fn seaweedfs() -> Option<Arc<SeaweedFs>> {
    static SHARED: Mutex<Weak<SeaweedFs>> = Mutex::new(Weak::new());
    if is_skipped() {
        return None;
    }
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let server = shared.upgrade().unwrap_or_else(|| Arc::new(started()));
    *shared = Arc::downgrade(&server);
    Some(server)
}

/// A server of one's own, for tests that kill it. Otherwise as [`seaweedfs`].
///
/// # Panics
/// As [`seaweedfs`].
pub fn seaweedfs_alone() -> Option<SeaweedFs> {
    if is_skipped() { None } else { Some(started()) }
}

fn started() -> SeaweedFs {
    SeaweedFs::start().unwrap_or_else(|error| panic!("{}", lifeboat_base::report(&error)))
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen in the test's output")]
fn is_skipped() -> bool {
    let skipped = std::env::var("LIFEBOAT_SKIP_S3").is_ok_and(|value| value == "1");
    if skipped {
        eprintln!("SKIPPED: LIFEBOAT_SKIP_S3=1, nothing was tried against a real S3 server");
    }
    skipped
}

/// A running server. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct SeaweedFs {
    child: Option<Child>,
    binary: PathBuf,
    ports: Ports,
    directory: TempDir,
}

/// So often a server is started again whose port is taken, and so long after the last time.
const PORT_TRIES: u32 = 20;
const PORT_PATIENCE: Duration = Duration::from_millis(500);

impl SeaweedFs {
    /// Starts a server and waits until it stores and reads.
    ///
    /// # Errors
    /// [`SeaweedFsError`]
    pub fn start() -> Result<Self, SeaweedFsError> {
        let binary = find_binary().ok_or(SeaweedFsError::NoBinary)?;
        let directory = tempfile::tempdir().map_err(SeaweedFsError::Start)?;
        prepare(directory.path()).map_err(SeaweedFsError::Start)?;
        let ports = Ports::free().map_err(SeaweedFsError::Start)?;
        let mut server = Self { child: None, binary, ports, directory };
        server.restart()?;
        Ok(server)
    }

    /// Kills the server (SIGKILL), as a power cut would. Its data stay.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the server again on the same data and ports, without waiting until it is ready.
    ///
    /// # Errors
    /// [`SeaweedFsError::Start`]
    pub fn restart_without_waiting(&mut self) -> Result<(), SeaweedFsError> {
        self.kill();
        let log =
            File::options().create(true).append(true).open(self.log_path()).map_err(SeaweedFsError::Start)?;
        let errors = log.try_clone().map_err(SeaweedFsError::Start)?;
        let started = Command::new(&self.binary)
            .args(self.arguments())
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn();
        self.child = Some(started.map_err(SeaweedFsError::Start)?);
        Ok(())
    }

    /// Starts the server again on the same data and ports, and waits until it stores and reads.
    ///
    /// # Errors
    /// [`SeaweedFsError`]
    pub fn restart(&mut self) -> Result<(), SeaweedFsError> {
        for _ in 0..PORT_TRIES {
            self.restart_without_waiting()?;
            match self.wait_until_ready() {
                // While it was down, somebody's connection got one of its ports, and will let it go.
                Err(SeaweedFsError::Ended { log }) if log.contains("address already in use") => {
                    thread::sleep(PORT_PATIENCE);
                }
                ended => return ended,
            }
        }
        self.restart_without_waiting()?;
        self.wait_until_ready()
    }

    /// How to reach a part of the bucket that no other test uses.
    pub fn config(&self) -> S3Config {
        self.config_of(&format!("test-{}", hex::encode(&random::bytes::<6>())))
    }

    /// How to reach a part of the bucket.
    pub fn config_of(&self, prefix: &str) -> S3Config {
        let location = S3Location {
            bucket: BUCKET.to_owned(),
            prefix: prefix.to_owned(),
            region: Some("us-east-1".to_owned()),
            endpoint: Some(self.endpoint()),
            ..S3Location::default()
        };
        S3Config::new(location).with_keys(ACCESS_KEY, Secret::new(SECRET_KEY.as_bytes().to_vec()))
    }

    /// The server's URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.s3[0])
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn wait_until_ready(&mut self) -> Result<(), SeaweedFsError> {
        let waited = Stopwatch::start();
        loop {
            if let Some(Ok(Some(_))) = self.child.as_mut().map(Child::try_wait) {
                return Err(SeaweedFsError::Ended { log: self.log_end() });
            }
            match self.try_once() {
                Ok(()) => return Ok(()),
                Err(error) if waited.elapsed() > READY_WITHIN => {
                    return Err(SeaweedFsError::NotReady { log: self.log_end(), source: Box::new(error) });
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    /// The first object also makes the bucket: the key is an administrator's.
    fn try_once(&self) -> Result<(), ObjectError> {
        let mut config = self.config_of("ready");
        config.timeout = Duration::from_secs(5);
        let store = S3Store::connect(config)?;
        let Ok(key) = Key::new(hex::encode(&random::bytes::<8>())) else { return Ok(()) };
        store.create(&key, b"ready")?;
        store.get(&key).map(|_| ())
    }

    fn log_end(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4000)..]).into_owned()
    }

    fn arguments(&self) -> Vec<String> {
        let directory = self.directory.path().display();
        let mut all: Vec<String> = [
            "-logtostderr=true",
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
            "-s3.config=s3.json",
            "-master.telemetry=false",
            "-master.electionTimeout=1s",
            "-master.volumeSizeLimitMB=256",
            "-volume.max=20",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]
        .map(str::to_owned)
        .to_vec();
        all.push(format!("-dir={directory}/data"));
        all.push(format!("-filer.localSocket={directory}/filer.sock"));
        let Ports { master, volume, filer, s3 } = &self.ports;
        for (name, [http, grpc]) in [("master", master), ("volume", volume), ("filer", filer), ("s3", s3)] {
            all.push(format!("-{name}.port={http}"));
            all.push(format!("-{name}.port.grpc={grpc}"));
        }
        all
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        self.kill();
        for socket in self.ports.sockets() {
            let _ = fs::remove_file(socket);
        }
    }
}

fn prepare(directory: &Path) -> io::Result<()> {
    fs::create_dir(directory.join("data"))?;
    let identity = format!(
        r#"{{"identities":[{{"name":"test","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
    );
    crashsafe::create(&directory.join("s3.json"), identity.as_bytes())
        .map(|_| ())
        .map_err(|error| error.source)
}

/// A port for requests and one for gRPC, of each part.
#[derive(Debug)]
struct Ports {
    master: [u16; 2],
    volume: [u16; 2],
    filer: [u16; 2],
    s3: [u16; 2],
}

impl Ports {
    /// All are held until the last is found, so that no two are the same.
    fn free() -> io::Result<Self> {
        let held =
            (0..8).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<Vec<_>>>()?;
        let ports =
            held.iter().map(|held| held.local_addr().map(|a| a.port())).collect::<io::Result<Vec<_>>>()?;
        let pair = |at: usize| [ports[at], ports[at + 1]];
        Ok(Self { master: pair(0), volume: pair(2), filer: pair(4), s3: pair(6) })
    }

    /// The sockets that the server leaves in `/tmp`, wherever else it is told to work.
    fn sockets(&self) -> Vec<String> {
        let parts =
            [("master", self.master), ("volume", self.volume), ("filer", self.filer), ("s3", self.s3)];
        let grpc = parts.map(|(name, [_, port])| format!("/tmp/seaweedfs-{name}-grpc-{port}.sock"));
        grpc.into_iter().chain([format!("/tmp/seaweedfs-s3-{}.sock", self.s3[0])]).collect()
    }
}

fn find_binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("LIFEBOAT_WEED") {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let tools = std::env::var_os("LIFEBOAT_TEST_TOOLS").map(PathBuf::from);
    let installed = tools.into_iter().chain(target_tools()).map(|tools| tools.join("venv/bin/weed"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|directory| directory.join("weed")).collect::<Vec<_>>();
    installed.chain(on_path).find(|candidate| candidate.is_file())
}

/// `test-tools` beside what the running test was built into.
fn target_tools() -> Vec<PathBuf> {
    let Ok(test) = std::env::current_exe() else { return Vec::new() };
    test.ancestors().skip(1).map(|above| above.join("test-tools")).collect()
}
