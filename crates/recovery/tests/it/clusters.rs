//! Clusters of every kind: segments of any size, tablespaces, prepared transactions, what is not logged, large
//! objects, other locales; and without checksums.

use crate::house::{House, fill, on_each_version, on_one_version, rows, started};
use lifeboat_postgres_server::Installation;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster};
use lifeboat_postgres_wal::{Lsn, Target as Point};
use lifeboat_recovery::RecoveryError;
use lifeboat_recovery::postgres::{
    ClusterOptions as RestoreOptions, ClusterQuestions, prove_cluster, restore_cluster,
};
use lifeboat_recovery::prove::{Proof, Verdict};
use lifeboat_repository::tree::{Content, Entry};
use lifeboat_repository::{Descend, Reader, RepositoryError, Snapshot};
use lifeboat_store::progress::Progress;
use std::path::PathBuf;

fn proven(house: &House, installation: &Installation) -> Proof {
    let reader = Reader::new(&house.repository).unwrap();
    let questions =
        ClusterQuestions { installation: Some(installation.clone()), ..ClusterQuestions::default() };
    prove_cluster(&reader, &house.latest(), house.place.path(), &questions, &Progress::default())
        .unwrap_or_else(|error| panic!("{}", lifeboat_base::report(&error)))
}

#[test]
fn without_checksums_a_proof_is_inconclusive_and_says_why() {
    on_each_version(|installation| {
        let house = House::new();
        let options = ClusterOptions { checksums: false, ..ClusterOptions::new(installation.clone()) };
        let cluster = TestCluster::start_with(options);
        fill(&cluster, 100);
        let report = house.protect(&cluster);
        assert!(report.notes.iter().any(|note| note.contains("no data checksums")), "{:?}", report.notes);
        let proof = proven(&house, installation);
        assert_eq!(proof.verdict, Verdict::Inconclusive, "{:?}", proof.reasons);
        let text = format!("{:?}", proof.reasons);
        assert!(text.contains("without data checksums, damage within pages cannot be told"), "{text}");
    });
}

#[test]
fn pages_that_did_not_change_are_not_stored_again() {
    on_each_version(|installation| {
        let (house, options) = (House::new(), ClusterOptions::new(installation.clone()));
        let cluster = TestCluster::start_with(options.clone());
        fill(&cluster, 60_000);
        cluster.psql("vacuum freeze accounts; checkpoint");
        let first = house.protect(&cluster).published.snapshot;
        let table_bytes: u64 = cluster.psql("select pg_relation_size('accounts')").parse().unwrap();
        let place = cluster.psql("select pg_relation_filepath('accounts')");
        assert!(is_page_map(&house, &first, &place), "{place}");
        // One row in a thousand lies on one page in thirty or so.
        cluster.psql("update accounts set note = 'changed' where id % 1000 = 0");
        let second = house.protect(&cluster).published.snapshot;
        assert!(is_page_map(&house, &second, &place), "{place}");
        assert!(
            second.stats.new_bytes < table_bytes / 4,
            "{} of a table of {table_bytes}",
            second.stats.new_bytes
        );
        assert_eq!(rows(&house.restored(&house.latest(), &options, "restored")), rows(&cluster));
    });
}

#[test]
fn where_nobody_follows_a_snapshot_stores_no_log_but_what_it_needs() {
    on_each_version(|installation| {
        let (house, options) = (House::new(), ClusterOptions::new(installation.clone()));
        let cluster = TestCluster::start_with(options.clone());
        fill(&cluster, 30_000);
        house.protect(&cluster);
        let first = rows(&cluster);
        // More than a segment, which the server still has: nobody asked to keep it.
        fill(&cluster, 60_000);
        house.protect(&cluster);
        let second = rows(&cluster);
        let facts = house.latest().facts;
        let log = &house.logs()[0];
        let [own, later] = log.stretches.as_slice() else { panic!("{:?}", log.stretches) };
        assert_eq!(later.start, facts.first_needed().0);
        for stretch in [own, later] {
            assert!(stretch.end - stretch.start <= facts.segment.bytes(), "{stretch:?}");
        }
        let points = house.points();
        assert_eq!((points.recoverable.len(), points.holes.len()), (2, 1), "{points:?}");
        assert_eq!(rows(&house.restored(&house.latest(), &options, "second")), second);
        let between = Point::Lsn(Lsn(own.end));
        assert_eq!(rows(&house.restored(&house.resolve(between).unwrap(), &options, "first")), first);
    });
}

fn is_page_map(house: &House, snapshot: &Snapshot, place: &str) -> bool {
    let reader = Reader::new(&house.repository).unwrap();
    let mut found = false;
    reader
        .walk(snapshot, &mut |folder: &[u8], entry: &Entry| {
            let path = [folder, &entry.name].join(&b'/');
            found |= path == place.as_bytes() && matches!(entry.content, Content::Pages { .. });
            Ok::<_, RepositoryError>(Descend::Yes)
        })
        .unwrap();
    found
}

#[test]
fn large_segments_are_served_end_to_end() {
    // Small ones are: most tests of bad days have segments of 1 MiB.
    const MIB: u32 = 64;
    on_each_version(|installation| {
        let house = House::new();
        let options = ClusterOptions { wal_segment_mib: MIB, ..ClusterOptions::new(installation.clone()) };
        let options = options.with("max_wal_size", "128MB").with("min_wal_size", "128MB");
        let cluster = TestCluster::start_with(options.clone());
        fill(&cluster, 200);
        let followed = house.follow(&cluster);
        house.protect(&cluster);
        fill(&cluster, 1000);
        cluster.psql("select pg_create_restore_point('middle')");
        let middle = rows(&cluster);
        cluster.psql("select pg_switch_wal()");
        fill(&cluster, 1000);
        followed.catch_up(&cluster);
        assert_eq!(crate::house::holes(&followed.stop()), []);
        let latest = rows(&cluster);
        drop(cluster);
        let path = house.resolve(Point::Name("middle".to_owned())).unwrap();
        assert_eq!(path.facts.segment.bytes(), u64::from(MIB) << 20);
        assert_eq!(rows(&house.restored(&path, &options, "middle")), middle);
        assert_eq!(rows(&house.restored(&house.latest(), &options, "latest")), latest);
    });
}

/// A folder for a tablespace, beside the data directory.
fn room(cluster: &TestCluster, name: &str) -> PathBuf {
    let room = cluster.place().join(name);
    std::fs::create_dir(&room).unwrap();
    cluster.identity().own(&room).unwrap();
    room
}

#[test]
fn tablespaces_are_restored_beside_or_where_they_are_told_to_go() {
    on_each_version(|installation| {
        let (house, options) = (House::new(), ClusterOptions::new(installation.clone()));
        let cluster = TestCluster::start_with(options.clone());
        let [fast, slow] = ["fast disk", "slow"].map(|name| room(&cluster, name));
        for (name, room) in [("fast", &fast), ("slow", &slow)] {
            cluster.psql(&format!("create tablespace {name} location '{}'", room.display()));
            cluster.psql(&format!(
                "create table in_{name} tablespace {name} as select i, repeat(md5(i::text), 20) t
                 from generate_series(1, 3000) i"
            ));
        }
        let followed = house.follow(&cluster);
        house.protect(&cluster);
        cluster.psql("insert into in_slow select i, 'later' from generate_series(1, 100) i");
        followed.catch_up(&cluster);
        followed.stop();
        let both = "select count(*) || md5(string_agg(t, '' order by i, t))
            from (select * from in_fast union all select * from in_slow) both_tables";
        let there = cluster.psql(both);
        drop(cluster);
        let path = house.latest();
        assert_eq!(path.facts.tablespaces.len(), 2);
        let (into, restored) = house.restore_with(&path, "beside", &RestoreOptions::default());
        for placed in &restored.tablespaces {
            let beside =
                house.place.path().join("beside.tablespaces").join(placed.tablespace.oid.to_string());
            assert_eq!(placed.place, beside);
        }
        for placed in &restored.tablespaces {
            own(&placed.place);
        }
        assert_eq!(started(&options, &into).psql(both), there, "beside");
        let elsewhere = house.place.path().join("elsewhere");
        let told = RestoreOptions {
            tablespaces: vec![(slow.to_str().unwrap().to_owned(), elsewhere.clone())],
            ..RestoreOptions::default()
        };
        let (into, restored) = house.restore_with(&path, "remapped", &told);
        for placed in &restored.tablespaces {
            own(&placed.place);
            assert_eq!(placed.place == elsewhere, placed.tablespace.location == slow.to_str().unwrap());
        }
        assert_eq!(started(&options, &into).psql(both), there, "remapped");
        assert_eq!(proven(&house, installation).verdict, Verdict::Proven);
    });
}

/// What was restored belongs to whom it belonged; where the server runs as somebody else, to him.
#[test]
fn a_tablespace_that_the_log_makes_is_found_before_a_server_writes_to_it() {
    on_each_version(|installation| {
        let (house, options) = (House::new(), ClusterOptions::new(installation.clone()));
        let mut cluster = TestCluster::start_with(options.clone());
        let followed = house.follow(&cluster);
        house.protect(&cluster);
        cluster.psql("select pg_create_restore_point('before')");
        let late = room(&cluster, "late");
        cluster.psql(&format!("create tablespace late location '{}'", late.display()));
        let oid = cluster.psql("select oid from pg_tablespace where spcname = 'late'").trim().to_owned();
        cluster.psql("create table in_late tablespace late as select i from generate_series(1, 300) i");
        cluster.psql("set allow_in_place_tablespaces = on; create tablespace inside location ''");
        followed.catch_up(&cluster);
        followed.stop();
        let path = house.latest();
        let made: Vec<String> = path.later_tablespaces.iter().map(|space| space.oid.to_string()).collect();
        assert_eq!(made, std::slice::from_ref(&oid));

        let into = house.place.path().join("refused");
        let restore = |options: &RestoreOptions| {
            let reader = Reader::new(&house.repository).unwrap();
            restore_cluster(&reader, &path, &into, options, &Progress::default())
        };
        let allowed = |place: PathBuf| RestoreOptions {
            tablespaces: vec![(oid.clone(), place)],
            ..RestoreOptions::default()
        };
        for refused in [RestoreOptions::default(), allowed(house.place.path().join("elsewhere"))] {
            let error = restore(&refused).expect_err("it would write to where the tablespace was");
            assert!(matches!(error, RecoveryError::LaterTablespace { .. }), "{error}");
            assert!(!into.exists());
        }
        let proof = proven(&house, installation);
        assert_eq!(proof.verdict, Verdict::Inconclusive, "{:?}", proof.reasons);
        assert!(proof.reasons[0].contains("no server was started"), "{:?}", proof.reasons);
        assert!(house.resolve(Point::Name("before".to_owned())).unwrap().later_tablespaces.is_empty());

        cluster.kill9();
        std::fs::remove_dir_all(cluster.data()).unwrap();
        restore(&allowed(late.clone())).unwrap();
        let restored = started(&options, &into);
        assert_eq!(restored.psql("select count(*) from in_late").trim(), "300");
    });
}

fn own(place: &std::path::Path) {
    lifeboat_postgres_server::Identity::suitable().unwrap().own(place).unwrap();
}

/// A database that sorts by another rule than bytes, where the build has one; else one of another locale.
fn sorted_database(cluster: &TestCluster) {
    let make = |provider: &str| {
        let sql = format!("create database sorted template template0 {provider} locale 'C.utf8'");
        cluster.try_psql("postgres", &sql)
    };
    // Not every build has ICU.
    if make("locale_provider icu icu_locale 'sv'").is_err() {
        make("").unwrap();
    }
    cluster.psql_in(
        "sorted",
        "create table names (name text primary key);
         insert into names values ('Zorn'), ('Ångström'), ('Öberg'), ('Adam'), ('zebra')",
    );
}

#[test]
fn whatever_a_cluster_may_hold_comes_back_as_postgresql_says() {
    on_each_version(|installation| {
        let house = House::new();
        let options = ClusterOptions::new(installation.clone()).with("max_prepared_transactions", "5");
        let cluster = TestCluster::start_with(options.clone());
        fill(&cluster, 100);
        sorted_database(&cluster);
        cluster.psql("create unlogged table scratch as select generate_series(1, 1000) i");
        cluster.psql("select lo_from_bytea(4242, 'large before'::bytea)");
        cluster
            .psql("begin; insert into accounts values (-1, 'prepared before'); prepare transaction 'before'");
        let followed = house.follow(&cluster);
        house.protect(&cluster);
        cluster.psql(
            "select lo_put(4242, 6, 'behind'::bytea); select lo_from_bytea(4343, 'large after'::bytea)",
        );
        cluster
            .psql("begin; insert into accounts values (-2, 'prepared after'); prepare transaction 'after'");
        cluster.psql_in("sorted", "insert into names values ('Ärla'), ('aula')");
        cluster.psql("begin; insert into accounts values (-3, 'gone'); prepare transaction 'gone'");
        cluster.psql("rollback prepared 'gone'");
        followed.catch_up(&cluster);
        followed.stop();
        let names = "select string_agg(name, ' ' order by name) from names";
        let (there, sorted) = (rows(&cluster), cluster.psql_in("sorted", names));
        drop(cluster);
        let restored = house.restored(&house.latest(), &options, "restored");
        assert_eq!(rows(&restored), there);
        assert_eq!(restored.psql_in("sorted", names), sorted);
        assert_eq!(
            restored.psql("select count(*) from scratch"),
            "0",
            "what is not logged is empty, and is there"
        );
        let large = "select string_agg(convert_from(lo_get(oid), 'UTF8'), ', ' order by oid)
            from pg_largeobject_metadata";
        assert_eq!(restored.psql(large), "large behind, large after");
        let prepared = "select string_agg(gid, ' ' order by gid) from pg_prepared_xacts";
        assert_eq!(restored.psql(prepared), "after before");
        restored.psql("commit prepared 'before'");
        restored.psql("commit prepared 'after'");
        assert_eq!(restored.psql("select count(*) from accounts where id < 0"), "2");
        let proof = proven(&house, installation);
        assert_eq!(proof.verdict, Verdict::Proven, "{:?}", proof.reasons);
    });
}

#[test]
fn a_snapshot_of_a_standby_is_restored_as_a_primary() {
    on_one_version(|installation| {
        let (house, options) = (House::new(), ClusterOptions::new(installation.clone()));
        let primary = TestCluster::start_with(
            options.clone().with("archive_mode", "on").with("archive_command", "false"),
        );
        fill(&primary, 100);
        let standby = primary.standby();
        let followed = house.follow(&standby);
        house.protect(&standby);
        fill(&primary, 50);
        let there = rows(&primary);
        standby.wait_for(crate::house::CHECKSUM, &there);
        followed.catch_up(&standby);
        followed.stop();
        drop((standby, primary));
        let (into, restored) = house.restore_with(&house.latest(), "restored", &RestoreOptions::default());
        let taken: Vec<&str> = restored.neutralised.iter().map(|taken| taken.name.as_str()).collect();
        assert_eq!(taken, ["archive_mode", "archive_command", "primary_conninfo"]);
        assert_eq!(rows(&started(&options, &into)), there);
    });
}
