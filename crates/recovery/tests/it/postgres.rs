//! The conformance suite of the PostgreSQL driver: real servers of each version, really destroyed.

use lifeboat_base::clock::Clock;
use lifeboat_objects::directory::DirectoryStore;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster, test_installations};
use lifeboat_postgres_server::{Installation, StopMode};
use lifeboat_postgres_wal::{Edge, Lsn, Target as Point, TargetError};
use lifeboat_recovery::postgres::{
    ClusterOptions as RestoreOptions, ClusterQuestions, prove_cluster, restore_cluster,
};
use lifeboat_recovery::protect::{ProtectOptions, ProtectReport, protect};
use lifeboat_recovery::prove::Verdict;
use lifeboat_recovery::{RecoveryError, Target};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{Environment, InitOptions, Lock, Reader, Repository};
use lifeboat_store::progress::Progress;
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

/// A repository in a folder, and what is restored from it.
struct House {
    place: TempDir,
    repository: Arc<Repository>,
    dataset: DatasetName,
}

impl House {
    fn new() -> Self {
        let place = tempfile::tempdir_in("/var/tmp").unwrap();
        open_to_all(place.path());
        let store = DirectoryStore::create(place.path().join("repository")).unwrap();
        let environment = Environment {
            state: Some(place.path().join("state")),
            writer_key: None,
            host: "test".to_owned(),
            clock: Clock::System,
        };
        let lock = Lock::Command(lifeboat_base::Secret::new(vec![7; 32]));
        let repository = Repository::init(
            Arc::new(store),
            &[(lock, "test".to_owned())],
            &InitOptions::default(),
            environment,
        )
        .unwrap();
        Self { place, repository: Arc::new(repository), dataset: DatasetName::new("app").unwrap() }
    }

    fn protect(&self, cluster: &TestCluster) -> ProtectReport {
        let target = Target::postgres(&url(cluster)).unwrap();
        protect(&self.repository, &self.dataset, &target, &ProtectOptions::default(), &Progress::default())
            .unwrap_or_else(|error| panic!("{}", lifeboat_base::report(&error)))
    }

    fn follow(&self, cluster: &TestCluster) -> Followed {
        let options = FollowOptions {
            server: ConnectOptions::parse(&url(cluster), &|_| None).unwrap(),
            slot: SlotChoice::Permanent(slot_name(&self.dataset)),
            gather: Duration::from_millis(50),
            give_up: false,
        };
        let (follower, events) = Follower::new(&self.repository, &self.dataset, options);
        let handle = follower.handle();
        let thread = std::thread::spawn(move || follower.run());
        assert!(
            handle.wait_until_streaming(Duration::from_secs(60)),
            "{:?}",
            events.try_iter().collect::<Vec<_>>()
        );
        Followed { handle, events, thread: Some(thread) }
    }

    fn resolve(&self, target: Point) -> Result<RecoveryPath, PostgresStoreError> {
        let wanted = RecoveryTarget { target, edge: Edge::Inclusive, timeline: None };
        resolve(&self.repository, &self.dataset, &wanted, None)
    }

    /// Restores along a path and starts what was restored.
    fn restored(&self, path: &RecoveryPath, installation: &Installation, name: &str) -> TestCluster {
        let into = self.restore(path, name);
        let mut cluster = TestCluster::of_directory(ClusterOptions::new(installation.clone()), &into);
        cluster.start_server();
        cluster.wait_for("select pg_is_in_recovery()", "f");
        cluster
    }

    fn restore(&self, path: &RecoveryPath, name: &str) -> PathBuf {
        let into = self.place.path().join(name);
        let reader = Reader::new(&self.repository).unwrap();
        restore_cluster(&reader, path, &into, &RestoreOptions::default(), &Progress::default())
            .unwrap_or_else(|error| panic!("{}", lifeboat_base::report(&error)));
        into
    }
}

/// A follower at work.
struct Followed {
    handle: Following,
    events: Receiver<FollowEvent>,
    thread: Option<JoinHandle<Result<(), PostgresStoreError>>>,
}

impl Followed {
    /// Waits until everything that the server has written is durable.
    fn catch_up(&self, cluster: &TestCluster) -> Lsn {
        let written: Lsn = cluster.psql("select pg_current_wal_flush_lsn()").trim().parse().unwrap();
        assert!(self.handle.wait_for(written, Duration::from_secs(60)), "{:?}", self.handle.status());
        written
    }

    fn stop(mut self) -> Vec<FollowEvent> {
        self.handle.stop();
        self.thread.take().unwrap().join().unwrap().unwrap();
        self.events.try_iter().collect()
    }
}

fn url(cluster: &TestCluster) -> String {
    format!("{}&user=postgres", cluster.url("postgres"))
}

/// Servers run as another user where the tests run as root.
fn open_to_all(place: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o711)).unwrap();
}

fn on_each_version(test: impl Fn(&Installation)) {
    for installation in test_installations() {
        println!("--- PostgreSQL {}", installation.version);
        test(&installation);
    }
}

const CHECKSUM: &str =
    "select count(*) || ' ' || coalesce(sum(hashtext(t::text)::bigint), 0) from accounts t";

fn fill(cluster: &TestCluster, rows: u32) {
    cluster.psql(&format!(
        "create table if not exists accounts (id int primary key, note text);
         insert into accounts select i, repeat(md5(i::text), 10) from generate_series(1, {rows}) i"
    ));
}

#[test]
fn a_backup_alone_is_restored_and_proven() {
    on_each_version(|installation| {
        let house = House::new();
        let cluster = TestCluster::start(installation);
        fill(&cluster, 20_000);
        let report = house.protect(&cluster);
        assert!(report.published.snapshot.stats.files > 500, "{:?}", report.published.snapshot.stats);
        let rows = cluster.psql(CHECKSUM);
        drop(cluster);
        let path = house.resolve(Point::Latest).unwrap();
        assert!(path.marker_at.is_some(), "the marker is in the log: {:?}", report.notes);
        let reader = Reader::new(&house.repository).unwrap();
        let questions =
            ClusterQuestions { installation: Some(installation.clone()), ..ClusterQuestions::default() };
        let questions =
            ClusterQuestions { installation: Some(installation.clone()), ..ClusterQuestions::default() };
        let proof = prove_cluster(&reader, &path, house.place.path(), &questions, &Progress::default())
            .unwrap_or_else(|error| panic!("{}", lifeboat_base::report(&error)));
        assert_eq!(proof.verdict, Verdict::Proven, "{:?}", proof.reasons);
        let answers = proof.cluster.unwrap().answers;
        assert_eq!(answers.tables.iter().map(|t| t.rows).collect::<Vec<_>>(), [20_000]);
        let restored = house.restored(&path, installation, "restored");
        assert_eq!(restored.psql(CHECKSUM), rows);
    });
}

#[test]
fn every_kind_of_target_is_reached_after_the_server_is_destroyed() {
    on_each_version(|installation| {
        let house = House::new();
        let cluster = TestCluster::start(installation);
        fill(&cluster, 1000);
        let followed = house.follow(&cluster);
        house.protect(&cluster);
        let state = |cluster: &TestCluster| cluster.psql(CHECKSUM);
        cluster.psql("insert into accounts values (10001, 'before the restore point')");
        cluster.psql("select pg_create_restore_point('quiet')");
        let at_name = state(&cluster);
        let xid = cluster.psql("with w as (insert into accounts values (10002, 'x') returning 1) select pg_current_xact_id() from w");
        let at_xid = state(&cluster);
        let lsn: Lsn = cluster.psql("select pg_current_wal_insert_lsn()").trim().parse().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let time = cluster
            .psql("select (extract(epoch from clock_timestamp()) * 1000000)::bigint - 946684800000000");
        std::thread::sleep(Duration::from_millis(50));
        cluster.psql("drop table accounts");
        cluster.psql("create table after_the_drop ()");
        followed.catch_up(&cluster);
        let mut cluster = cluster;
        cluster.kill9();
        std::fs::remove_dir_all(cluster.data()).unwrap();
        followed.stop();
        let time = Point::Time(lifeboat_postgres_wal::PgTime(time.trim().parse().unwrap()));
        let xid = Point::Xid(xid.trim().parse().unwrap());
        for (name, target, rows) in [
            ("name", Point::Name("quiet".to_owned()), &at_name),
            ("xid", xid, &at_xid),
            ("lsn", Point::Lsn(Lsn(lsn.0 - 1)), &at_xid),
            ("time", time, &at_xid),
        ] {
            let path = house
                .resolve(target)
                .unwrap_or_else(|error| panic!("{name}: {}", lifeboat_base::report(&error)));
            let restored = house.restored(&path, installation, name);
            assert_eq!(&state(&restored), rows, "{name}");
        }
        let latest = house.restored(&house.resolve(Point::Latest).unwrap(), installation, "latest");
        assert_eq!(
            latest
                .psql("select to_regclass('accounts') is null, to_regclass('after_the_drop') is null")
                .trim(),
            "t|f"
        );
        let error = house.resolve(Point::Name("never made".to_owned())).unwrap_err();
        assert!(matches!(error, PostgresStoreError::Target(TargetError::NotReached { .. })), "{error}");
    });
}

#[test]
fn the_restored_directory_passes_the_servers_own_tools() {
    on_each_version(|installation| {
        let house = House::new();
        let cluster = TestCluster::start(installation);
        fill(&cluster, 5000);
        cluster.psql("create index on accounts (note)");
        house.protect(&cluster);
        let into = house.restore(&house.resolve(Point::Latest).unwrap(), "restored");
        let mut restored = TestCluster::of_directory(ClusterOptions::new(installation.clone()), &into);
        let run = |cluster: &TestCluster, program: &str, arguments: &[&str]| {
            let output = cluster.command(program).args(arguments).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned()
                + &String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{program}: {said}");
        };
        run(&restored, "pg_verifybackup", &[into.to_str().unwrap()]);
        restored.start_server();
        restored.wait_for("select pg_is_in_recovery()", "f");
        run(&restored, "pg_amcheck", &["--all", "--install-missing", "--heapallindexed", "-U", "postgres"]);
        restored.stop(StopMode::Fast);
        run(&restored, "pg_checksums", &["--check", "-D", into.to_str().unwrap()]);
    });
}

#[test]
fn a_place_that_is_not_empty_is_left_alone() {
    let installations = test_installations();
    let Some(installation) = installations.first() else { return };
    let house = House::new();
    let cluster = TestCluster::start(installation);
    house.protect(&cluster);
    let path = house.resolve(Point::Latest).unwrap();
    let into = house.restore(&path, "restored");
    let reader = Reader::new(&house.repository).unwrap();
    let again = restore_cluster(&reader, &path, &into, &RestoreOptions::default(), &Progress::default());
    assert!(matches!(again, Err(RecoveryError::NotEmpty(_))));
}
