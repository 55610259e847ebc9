//! What the tests with real servers share: a repository that can be made to fail, followers, restored clusters.

use lifeboat_base::clock::{Clock, Stopwatch};
use lifeboat_objects::SharedStore;
use lifeboat_objects::directory::DirectoryStore;
use lifeboat_objects::fault::{Faulty, Plan};
use lifeboat_postgres_server::Installation;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster, test_installations};
use lifeboat_postgres_wal::{Edge, Lsn, Target as Point, TimelineId};
use lifeboat_recovery::postgres::{
    ClusterOptions as RestoreOptions, RestoredCluster, cluster_points, restore_cluster,
};
use lifeboat_recovery::protect::{ProtectOptions, ProtectReport, protect};
use lifeboat_recovery::{RecoveryError, Target};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{
    Environment, InitOptions, LineageLog, Lock, LogCatalogue, Reader, Repository, Unlock,
};
use lifeboat_store::progress::Progress;
use lifeboat_store_postgres::points::RecoveryPoints;
use lifeboat_store_postgres::{
    FollowEvent, FollowOptions, Follower, Following, PostgresStoreError, RecoveryPath, RecoveryTarget,
    SlotChoice, resolve, slot_name,
};
use lifeboat_wire_postgres::ConnectOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take that must happen, on a machine that is busy.
pub(crate) const HAPPENS_WITHIN: Duration = Duration::from_secs(120);
/// Every repository here is thrown away: its secret is none.
const SECRET: [u8; 32] = [7; 32];

/// A repository in a folder, and what is restored from it.
pub(crate) struct House {
    pub(crate) place: TempDir,
    /// Between the repository and its folder: goes wrong where a test says so.
    pub(crate) faults: Arc<Faulty>,
    pub(crate) repository: Arc<Repository>,
    pub(crate) dataset: DatasetName,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::in_place(tempfile::tempdir().unwrap())
    }

    pub(crate) fn in_place(place: TempDir) -> Self {
        open_to_all(place.path());
        let store = DirectoryStore::create(place.path().join("repository")).unwrap();
        let faults = Arc::new(Faulty::new(Arc::new(store), Plan::none()));
        let lock = Lock::Command(lifeboat_base::Secret::new(SECRET.to_vec()));
        let repository = Repository::init(
            faults.clone() as SharedStore,
            &[(lock, "test".to_owned())],
            &InitOptions::default(),
            environment(place.path()),
        )
        .unwrap();
        Self { place, faults, repository: Arc::new(repository), dataset: dataset() }
    }

    pub(crate) fn protect(&self, cluster: &TestCluster) -> ProtectReport {
        self.try_protect(&url(cluster)).unwrap_or_else(|error| panic!("{}", lifeboat_base::report(&error)))
    }

    pub(crate) fn try_protect(&self, url: &str) -> Result<ProtectReport, RecoveryError> {
        let target = Target::postgres(url)?;
        protect(&self.repository, &self.dataset, &target, &ProtectOptions::default(), &Progress::default())
    }

    /// Follows a cluster, and waits until it is streamed.
    pub(crate) fn follow(&self, cluster: &TestCluster) -> Followed {
        let mut followed = self.begin_to_follow(&url(cluster));
        followed.wait_for("streaming", |event| matches!(event, FollowEvent::Streaming { .. }));
        followed
    }

    /// Begins to follow, whatever comes of it.
    pub(crate) fn begin_to_follow(&self, url: &str) -> Followed {
        let (follower, events) = follower(&self.repository, url);
        let handle = follower.handle();
        let thread = std::thread::spawn(move || {
            let done = follower.run();
            if let Err(error) = &done {
                println!("the follower ended: {}", lifeboat_base::report(error));
            }
            done
        });
        Followed { handle, events, said: Vec::new(), thread: Some(thread) }
    }

    pub(crate) fn resolve(&self, target: Point) -> Result<RecoveryPath, PostgresStoreError> {
        self.resolve_on(target, None)
    }

    pub(crate) fn resolve_on(
        &self,
        target: Point,
        timeline: Option<TimelineId>,
    ) -> Result<RecoveryPath, PostgresStoreError> {
        let wanted = RecoveryTarget { target, edge: Edge::Inclusive, timeline };
        resolve(&self.repository, &self.dataset, &wanted, None)
    }

    pub(crate) fn latest(&self) -> RecoveryPath {
        self.resolve(Point::Latest).unwrap_or_else(|error| panic!("{}", lifeboat_base::report(&error)))
    }

    /// Restores along a path and starts what was restored.
    pub(crate) fn restored(&self, path: &RecoveryPath, of: &ClusterOptions, name: &str) -> TestCluster {
        let into = self.restore(path, name);
        started(of, &into)
    }

    pub(crate) fn restore(&self, path: &RecoveryPath, name: &str) -> PathBuf {
        self.restore_with(path, name, &RestoreOptions::default()).0
    }

    pub(crate) fn restore_with(
        &self,
        path: &RecoveryPath,
        name: &str,
        options: &RestoreOptions,
    ) -> (PathBuf, RestoredCluster) {
        let into = self.place.path().join(name);
        let reader = Reader::new(&self.repository).unwrap();
        let restored = restore_cluster(&reader, path, &into, options, &Progress::default());
        (into, restored.unwrap_or_else(|error| panic!("{}", lifeboat_base::report(&error))))
    }

    pub(crate) fn points(&self) -> RecoveryPoints {
        cluster_points(&self.repository, &self.dataset).unwrap().unwrap_or_default()
    }

    /// What is kept of the log, lineage by lineage. No two writers may ever have disagreed.
    pub(crate) fn logs(&self) -> Vec<LineageLog> {
        let logs = LogCatalogue::read(&self.repository, &self.dataset).unwrap().lineages();
        assert!(logs.iter().all(|log| log.forks.is_empty()), "{logs:?}");
        logs
    }
}

/// The same repository as seen by another process.
pub(crate) fn reopened(place: &Path) -> Arc<Repository> {
    let store = DirectoryStore::open(place.join("repository")).unwrap();
    let unlock = Unlock::Command(lifeboat_base::Secret::new(SECRET.to_vec()));
    Arc::new(Repository::open(Arc::new(store), &unlock, environment(place)).unwrap())
}

pub(crate) fn follower(repository: &Arc<Repository>, url: &str) -> (Follower, Receiver<FollowEvent>) {
    let options = FollowOptions {
        server: ConnectOptions::parse(url, &|_| None).unwrap(),
        slot: SlotChoice::Permanent(slot_name(&dataset())),
        gather: Duration::from_millis(50),
        give_up: false,
        take_over: None,
    };
    Follower::new(repository, &dataset(), options)
}

fn dataset() -> DatasetName {
    DatasetName::new("app").unwrap()
}

fn environment(place: &Path) -> Environment {
    Environment {
        state: Some(place.join("state")),
        writer_key: None,
        host: "test".to_owned(),
        clock: Clock::System,
    }
}

/// A restored directory, its server started and out of recovery.
pub(crate) fn started(of: &ClusterOptions, data: &Path) -> TestCluster {
    let mut cluster = TestCluster::of_directory(of.clone(), data);
    cluster.start_server();
    cluster.wait_for("select pg_is_in_recovery()", "f");
    cluster
}

/// A follower at work.
pub(crate) struct Followed {
    pub(crate) handle: Following,
    events: Receiver<FollowEvent>,
    /// What it has said so far.
    pub(crate) said: Vec<FollowEvent>,
    thread: Option<JoinHandle<Result<(), PostgresStoreError>>>,
}

impl Followed {
    /// Waits until everything that the server has written is durable.
    pub(crate) fn catch_up(&self, cluster: &TestCluster) -> Lsn {
        let written = flushed(cluster);
        assert!(self.handle.wait_for(written, HAPPENS_WITHIN), "{:?}", self.handle.status());
        written
    }

    /// Waits until it says something.
    pub(crate) fn wait_for(&mut self, what: &str, is_it: impl Fn(&FollowEvent) -> bool) {
        let watch = Stopwatch::start();
        while let Ok(event) = self.events.recv_timeout(HAPPENS_WITHIN.saturating_sub(watch.elapsed())) {
            let found = is_it(&event);
            self.said.push(event);
            if found {
                return;
            }
        }
        let ended = self.thread.take().filter(JoinHandle::is_finished).map(JoinHandle::join);
        panic!("no {what}: {:?} {ended:?}", self.said);
    }

    /// Stops it; everything that it has said.
    pub(crate) fn stop(mut self) -> Vec<FollowEvent> {
        self.handle.stop();
        self.thread.take().unwrap().join().unwrap().unwrap();
        self.said.extend(self.events.try_iter());
        self.said
    }

    /// Waits until it ends by itself.
    pub(crate) fn refused(mut self) -> PostgresStoreError {
        self.thread.take().unwrap().join().unwrap().expect_err("it goes on")
    }
}

/// The holes among what a follower said.
pub(crate) fn holes(said: &[FollowEvent]) -> Vec<(Lsn, Lsn)> {
    let hole = |event: &FollowEvent| match event {
        FollowEvent::Hole { from, to, .. } => Some((*from, *to)),
        _ => None,
    };
    said.iter().filter_map(hole).collect()
}

/// Up to where a server's log is durable there: of a standby, what it has received.
pub(crate) fn flushed(cluster: &TestCluster) -> Lsn {
    let sql = "select case when pg_is_in_recovery() then pg_last_wal_receive_lsn() \
               else pg_current_wal_flush_lsn() end";
    cluster.psql(sql).trim().parse().unwrap()
}

pub(crate) fn url(cluster: &TestCluster) -> String {
    cluster.url("postgres")
}

/// Servers run as another user where the tests run as root.
pub(crate) fn open_to_all(place: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o711)).unwrap();
}

pub(crate) fn on_each_version(test: impl Fn(&Installation)) {
    for installation in test_installations() {
        println!("--- PostgreSQL {}", installation.version);
        test(&installation);
    }
}

/// For what does not hang on the version: the oldest one.
pub(crate) fn on_one_version(test: impl Fn(&Installation)) {
    if let Some(installation) = test_installations().first() {
        test(installation);
    }
}

pub(crate) const CHECKSUM: &str =
    "select count(*) || ' ' || coalesce(sum(hashtext(t::text)::bigint), 0) from accounts t";

/// Adds rows to a table that is made where it is missing.
pub(crate) fn fill(cluster: &TestCluster, rows: u32) {
    cluster.psql(&format!(
        "create table if not exists accounts (id int primary key, note text);
         insert into accounts select m + i, repeat(md5((m + i)::text), 10)
         from generate_series(1, {rows}) i, (select coalesce(max(id), 0) m from accounts) last"
    ));
}

pub(crate) fn rows(cluster: &TestCluster) -> String {
    cluster.psql(CHECKSUM)
}
