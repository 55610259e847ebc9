//! The fuzz targets of this crate as properties. Their seeds are what PostgreSQL itself writes into its log.

#[path = "../../../../fuzz/src/replay.rs"]
#[expect(unreachable_pub, reason = "several test programs and the fuzzers share it")]
mod replay;
#[path = "../../../../fuzz/src/postgres_wal.rs"]
#[expect(unreachable_pub, reason = "the fuzzers share it")]
mod targets;

use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster, test_installations};
use lifeboat_postgres_wal::{Lsn, SegmentName, SegmentSize, TimelineId, fuzz_wal};
use targets::TARGETS;

/// What a seed has at most, in bytes.
const SEED_BYTES: usize = 12 << 10;

/// What is worth a seed: records whose meaning is read, in a log that is small otherwise.
const WORKLOADS: [(&str, &str); 5] = [
    (
        "parts",
        "begin; insert into t values (1); savepoint a; insert into t values (2); savepoint b;
         insert into t values (3); rollback to b; release a; commit;
         begin; insert into t values (4); savepoint a; create table never (a int); rollback;
         insert into t values (5)",
    ),
    (
        "two-phases",
        "begin; insert into t values (6); savepoint s; insert into t values (7); prepare transaction 'kept one';
         begin; insert into t values (8); prepare transaction 'lost one';
         commit prepared 'kept one'; rollback prepared 'lost one'",
    ),
    (
        "points",
        "select pg_create_restore_point('before the change');
         select pg_logical_emit_message(false, 'lifeboat', 'beside any transaction');
         select pg_logical_emit_message(true, 'lifeboat', 'in a transaction');
         select pg_create_restore_point('ä'); insert into t values (9); checkpoint; insert into t values (10)",
    ),
    (
        "origin",
        "select pg_replication_origin_create('elsewhere');
         select pg_replication_origin_session_setup('elsewhere');
         begin; select pg_replication_origin_xact_setup('AB/CD', '2020-02-02 02:02:02.123456+00');
         insert into t values (11); commit; drop table gone",
    ),
    ("long", "select pg_logical_emit_message(true, 'long', repeat('x', 9000)); insert into t values (12)"),
];

fn segment_size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

fn cluster(major: u32) -> Option<TestCluster> {
    let installation = test_installations().into_iter().find(|installation| installation.major == major)?;
    let mut options = ClusterOptions::new(installation);
    options.wal_segment_mib = 1;
    let settings = [
        ("autovacuum", "off"),
        ("full_page_writes", "off"),
        ("max_prepared_transactions", "10"),
        ("wal_keep_size", "1GB"),
        ("wal_level", "logical"),
    ];
    let cluster =
        TestCluster::start_with(settings.iter().fold(options, |o, (name, value)| o.with(name, value)));
    cluster.psql("create table t (a int); create table gone (a int)");
    Some(cluster)
}

fn segment(cluster: &TestCluster, start: Lsn) -> Vec<u8> {
    let name = SegmentName { timeline: TimelineId(1), start }.file_name(segment_size());
    std::fs::read(cluster.data().join("pg_wal").join(name)).unwrap()
}

/// What a server writes from the beginning of a segment on.
fn written_by(cluster: &mut TestCluster, work: impl FnOnce(&mut TestCluster)) -> Vec<u8> {
    cluster.psql("select pg_switch_wal()");
    let position: Lsn = cluster.psql("select pg_current_wal_insert_lsn()").parse().unwrap();
    let start = segment_size().start_of(position);
    work(cluster);
    let end: Lsn = cluster.psql("select pg_current_wal_flush_lsn()").parse().unwrap();
    let mut log = segment(cluster, start);
    log.truncate((end.since(start) as usize).min(SEED_BYTES));
    log
}

#[test]
fn what_servers_write_is_a_seed() {
    for major in [15, 18] {
        let Some(mut cluster) = cluster(major) else { return };
        let seed = |kind: &str, log: &[u8]| {
            let log = targets::moved(log);
            assert!(fuzz_wal(&log), "{major}-{kind} is read as it is");
            replay::seed(TARGETS, "postgres_wal", &format!("{major}-{kind}"), &log);
        };
        for (kind, sql) in WORKLOADS {
            let log = written_by(&mut cluster, |cluster| {
                let _ = cluster.psql(sql);
            });
            seed(kind, &log);
        }
        let changed = written_by(&mut cluster, |cluster| {
            cluster.set("max_connections", "61");
            cluster.restart();
            let _ = cluster.psql("insert into t values (13)");
        });
        seed("changed", &changed);
    }
}

#[test]
fn names_of_every_kind_are_seeds() {
    for (kind, text) in [
        ("position", "16/B374D848"),
        ("timeline", "26"),
        ("system", "7574563094513250141"),
        ("segment", "0000000100000001000000FF"),
        ("segment-of-1-gib", "000000020000000a00000003"),
        (
            "history",
            "1\t0/3000060\tno recovery target specified\n\n# a remark\n2\t0/40001C8\tbefore 2026-11-22\n",
        ),
    ] {
        replay::seed(TARGETS, "postgres_names", kind, text.as_bytes());
    }
}

#[test]
fn every_target_holds_on_its_corpus_and_on_mutations_of_it() {
    replay::run(TARGETS);
}
