//! The conformance suite of the PostgreSQL driver: real servers of each version, really destroyed.

use crate::house::{CHECKSUM, House, fill, on_each_version, on_one_version};
use lifeboat_plan::Expectation;
use lifeboat_postgres_server::StopMode;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster};
use lifeboat_postgres_wal::{Lsn, Target as Point, TargetError};
use lifeboat_recovery::RecoveryError;
use lifeboat_recovery::postgres::{
    ClusterOptions as RestoreOptions, ClusterQuestions, prove_cluster, restore_cluster,
};
use lifeboat_recovery::prove::Verdict;
use lifeboat_recovery::queries::ProofQuery;
use lifeboat_repository::Reader;
use lifeboat_store::progress::Progress;
use lifeboat_store_postgres::PostgresStoreError;
use std::time::Duration;

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
        let proof = prove_cluster(&reader, &path, house.place.path(), &questions, &Progress::default())
            .unwrap_or_else(|error| panic!("{}", lifeboat_base::report(&error)));
        assert_eq!(proof.verdict, Verdict::Proven, "{:?}", proof.reasons);
        let answers = proof.cluster.unwrap().answers;
        assert_eq!(answers.tables.iter().map(|t| t.rows).collect::<Vec<_>>(), [20_000]);
        let restored = house.restored(&path, &ClusterOptions::new(installation.clone()), "restored");
        assert_eq!(restored.psql(CHECKSUM), rows);
    });
}

#[test]
fn the_plan_asks_what_was_restored_and_a_wrong_answer_fails_the_proof() {
    on_one_version(|installation| {
        let house = House::new();
        let cluster = TestCluster::start(installation);
        fill(&cluster, 300);
        cluster.psql("create database other");
        house.protect(&cluster);
        let path = house.resolve(Point::Latest).unwrap();
        let query = |name: &str, sql: &str, expected| ProofQuery {
            name: name.to_owned(),
            database: None,
            sql: sql.to_owned(),
            expected,
        };
        let at_least = |min| Expectation::Between { min: Some(min), max: None };
        let equals = |text: &str| Expectation::Equals(text.to_owned());
        let good = vec![
            query("has accounts", "select count(*) from accounts", at_least(300)),
            query("named", "select current_database()", equals("postgres")),
            // A hardened service may not write and execute the same memory.
            query("compiled", "select current_setting('jit')", equals("off")),
            ProofQuery {
                database: Some("other".to_owned()),
                ..query("other", "select current_database()", equals("other"))
            },
        ];
        let asked = |queries: Vec<ProofQuery>| {
            let questions = ClusterQuestions { queries, installation: Some(installation.clone()) };
            let reader = Reader::new(&house.repository).unwrap();
            prove_cluster(&reader, &path, house.place.path(), &questions, &Progress::default()).unwrap()
        };
        let proof = asked(good.clone());
        assert_eq!(proof.verdict, Verdict::Proven, "{:?}", proof.reasons);
        let answers: Vec<_> = proof.queries.iter().map(|query| query.answer.as_deref()).collect();
        assert_eq!(answers, [Some("300"), Some("postgres"), Some("off"), Some("other")]);
        let measured = proof.measured().unwrap();
        assert!(
            measured.bytes > 0 && measured.log_bytes > 0 && measured.phases.replay.is_some(),
            "{measured:?}"
        );
        let bad = vec![
            query("more", "select count(*) from accounts", at_least(301)),
            query("gone", "select count(*) from removed", at_least(0)),
            query("writes", "create table mine ()", at_least(0)),
        ];
        let proof = asked([good, bad].concat());
        assert_eq!(proof.verdict, Verdict::Failed);
        let [more, gone, writes] = proof.reasons.as_slice() else { panic!("{:?}", proof.reasons) };
        assert_eq!(more, "query \"more\" gave 300, and at least 301 was expected");
        assert!(gone.contains("\"removed\" does not exist"), "{gone}");
        assert!(writes.contains("read-only transaction"), "{writes}");
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
            let restored = house.restored(&path, &ClusterOptions::new(installation.clone()), name);
            assert_eq!(&state(&restored), rows, "{name}");
        }
        let latest = house.restored(
            &house.resolve(Point::Latest).unwrap(),
            &ClusterOptions::new(installation.clone()),
            "latest",
        );
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
    on_one_version(|installation| {
        let house = House::new();
        let cluster = TestCluster::start(installation);
        house.protect(&cluster);
        let path = house.latest();
        let into = house.restore(&path, "restored");
        let reader = Reader::new(&house.repository).unwrap();
        let again = restore_cluster(&reader, &path, &into, &RestoreOptions::default(), &Progress::default());
        assert!(matches!(again, Err(RecoveryError::NotEmpty(_))));
    });
}
