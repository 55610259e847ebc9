//! A repository, a cluster and a follower.

use crate::children;
use lifeboat_base::clock::{Clock, Stopwatch};
use lifeboat_objects::directory::DirectoryStore;
use lifeboat_postgres_server::Installation;
use lifeboat_postgres_server::testing::{TestCluster, test_installations};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{Environment, InitOptions, Lock, Repository};
use lifeboat_store_postgres::synchronous::{ExposureInterval, WatchdogConfig, exposure_intervals};
use lifeboat_store_postgres::{FollowOptions, SlotChoice};
use lifeboat_wire_postgres::ConnectOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// Which child this process is.
pub(crate) const CHILD: &str = "LIFEBOAT_TEST_CHILD";
const URL: &str = "LIFEBOAT_TEST_URL";
const PLACE: &str = "LIFEBOAT_TEST_PLACE";
/// A test that is not done by then never will be.
pub(crate) const AT_MOST: Duration = Duration::from_secs(300);

pub(crate) fn on_each_version(test: impl Fn(&Installation)) {
    for installation in test_installations() {
        println!("--- PostgreSQL {}", installation.version);
        test(&installation);
    }
}

/// A place with a repository of its own each time that it is opened, and the records of a watchdog.
pub(crate) struct House {
    pub(crate) repository: Arc<Repository>,
    pub(crate) dataset: DatasetName,
    pub(crate) url: String,
    place: PathBuf,
}

impl House {
    pub(crate) fn new(place: &Path, url: &str) -> Self {
        let id = lifeboat_base::hex::encode(&lifeboat_base::random::bytes::<8>());
        let store = DirectoryStore::create(place.join(format!("repository-{id}"))).unwrap();
        let environment = Environment {
            state: Some(place.join(format!("state-{id}"))),
            writer_key: None,
            host: "test".to_owned(),
            clock: Clock::System,
        };
        let lock = Lock::Command(lifeboat_base::Secret::new(vec![7; 32]));
        let locks = [(lock, "test".to_owned())];
        let repository =
            Repository::init(Arc::new(store), &locks, &InitOptions::default(), environment).unwrap();
        Self {
            repository: Arc::new(repository),
            dataset: DatasetName::new("app").unwrap(),
            url: url.to_owned(),
            place: place.to_owned(),
        }
    }

    pub(crate) fn from_environment() -> Self {
        Self::new(Path::new(&std::env::var(PLACE).unwrap()), &std::env::var(URL).unwrap())
    }

    pub(crate) fn server(&self) -> ConnectOptions {
        ConnectOptions::parse(&self.url, &|_| None).unwrap()
    }

    pub(crate) fn follow_options(&self) -> FollowOptions {
        FollowOptions {
            server: self.server(),
            slot: SlotChoice::Permanent("lifeboat_app".to_owned()),
            gather: Duration::ZERO,
            give_up: false,
            take_over: None,
        }
    }

    pub(crate) fn watchdog_config(&self) -> WatchdogConfig {
        watchdog_config(&self.place, &self.url)
    }
}

fn watchdog_config(place: &Path, url: &str) -> WatchdogConfig {
    WatchdogConfig {
        server: url.to_owned(),
        name: "lifeboat".to_owned(),
        max_wait: Duration::from_secs(1),
        directory: place.join("watchdog"),
        alone: false,
    }
}

/// A cluster that is followed by other processes.
pub(crate) struct Scene {
    pub(crate) cluster: TestCluster,
    pub(crate) place: TempDir,
}

impl Scene {
    pub(crate) fn new(installation: &Installation) -> Self {
        let cluster = TestCluster::start(installation);
        cluster.psql("create table t (n int)");
        Self { cluster, place: tempfile::tempdir_in("/var/tmp").unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        self.cluster.url("postgres")
    }

    pub(crate) fn house(&self) -> House {
        House::new(self.place.path(), &self.url())
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions::parse(&self.url(), &|_| None).unwrap()
    }

    /// A follower in synchronous mode, in a process of its own.
    pub(crate) fn follower(&self) -> FollowerProcess {
        let mut command = children::command("follower");
        command.env(URL, self.url()).env(PLACE, self.place.path());
        FollowerProcess(Some(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()))
    }

    pub(crate) fn watchdog_config(&self) -> WatchdogConfig {
        watchdog_config(self.place.path(), &self.url())
    }

    /// What the list is.
    pub(crate) fn names(&self) -> String {
        self.cluster.psql("show synchronous_standby_names")
    }

    pub(crate) fn wait_for_names(&self, expected: &str) {
        self.cluster.wait_for("show synchronous_standby_names", expected);
    }

    pub(crate) fn intervals(&self) -> Vec<ExposureInterval> {
        exposure_intervals(&self.watchdog_config().directory).unwrap()
    }

    pub(crate) fn wait_for_intervals(&self, what: &str, fits: impl Fn(&[ExposureInterval]) -> bool) {
        let watch = Stopwatch::start();
        while !fits(&self.intervals()) {
            assert!(watch.elapsed() < AT_MOST, "{what}: {:?}", self.intervals());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sets the list as an administrator does.
    pub(crate) fn set_names(&self, names: &str) {
        self.cluster.psql(&format!("alter system set synchronous_standby_names = '{names}'"));
        self.cluster.psql("select pg_reload_conf()");
        self.wait_for_names(names);
    }

    /// Writes a row; comes back when the server has acknowledged it.
    pub(crate) fn write(&self, n: u32) -> JoinHandle<()> {
        let mut psql = self.cluster.command("psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", &format!("insert into t values ({n})")]);
        psql.stdout(Stdio::null());
        std::thread::spawn(move || {
            let status = psql.status().unwrap();
            assert!(status.success(), "{status}");
        })
    }

    /// A standby that is not ours, which acknowledges everything.
    pub(crate) fn other_standby(&self, name: &str) -> OtherStandby {
        let folder = self.cluster.place().join(format!("wal-of-{name}"));
        std::fs::create_dir(&folder).unwrap();
        self.cluster.identity().own(&folder).unwrap();
        let mut command = self.cluster.command("pg_receivewal");
        command.env("PGAPPNAME", name).arg("--synchronous").arg("-D").arg(folder);
        let standby = OtherStandby(command.stderr(Stdio::null()).spawn().unwrap());
        let streams = format!("select count(*) from pg_stat_replication where application_name = '{name}'");
        self.cluster.wait_for(&streams, "1");
        standby
    }
}

/// A `pg_receivewal`, ended when it is dropped.
pub(crate) struct OtherStandby(Child);

impl Drop for OtherStandby {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A follower's process.
pub(crate) struct FollowerProcess(Option<Child>);

impl FollowerProcess {
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let child = self.0.as_ref().unwrap();
        let process = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(process, signal).unwrap();
    }

    /// As an operator ends it.
    pub(crate) fn stop(mut self) {
        let mut child = self.0.take().unwrap();
        drop(child.stdin.take());
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for FollowerProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
