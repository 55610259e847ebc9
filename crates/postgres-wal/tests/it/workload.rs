//! A log with everything in it that means something.

use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster};
use lifeboat_postgres_server::{Installation, StopMode};

/// A running cluster that keeps its whole log.
pub(crate) fn cluster(installation: &Installation, wal_segment_mib: u32) -> TestCluster {
    let mut options = ClusterOptions::new(installation.clone());
    options.wal_segment_mib = wal_segment_mib;
    let options = options
        .with("wal_keep_size", "4GB")
        .with("max_wal_size", "4GB")
        .with("max_prepared_transactions", "10")
        .with("autovacuum", "off");
    TestCluster::start_with(options)
}

/// One within the data directory and one beside it, which would be in the way of a standby on the same host.
fn tablespaces(cluster: &TestCluster) {
    cluster.psql("set allow_in_place_tablespaces = on; create tablespace inside location ''");
    let beside = cluster.place().join("beside");
    std::fs::create_dir(&beside).unwrap();
    cluster.identity().own(&beside).unwrap();
    cluster.psql(&format!("create tablespace beside location '{}'", beside.display()));
    cluster.psql("drop tablespace inside");
    cluster.psql("drop tablespace beside");
}

/// Every kind of record that has a meaning, but for those of a second timeline.
pub(crate) fn everything(cluster: &mut TestCluster) {
    cluster.psql("create table t (id serial primary key, note text); create table gone (a int)");
    cluster.psql("insert into t (note) select 'row ' || n from generate_series(1, 500) n");
    subtransactions(cluster);
    two_phases(cluster);
    messages(cluster);
    tablespaces(cluster);
    cluster.psql("select pg_create_restore_point('before the switch')");
    cluster.psql("select pg_switch_wal(); checkpoint; insert into t (note) values ('behind a switch')");
    // With more in every commit: the names of prepared transactions, and relations that were dropped.
    cluster.set("wal_level", "logical");
    cluster.set("max_connections", "61");
    cluster.restart();
    // The checkpointer tells the log of this, when it is next awake.
    cluster.set("full_page_writes", "off");
    cluster.reload();
    cluster.psql("checkpoint");
    two_phases(cluster);
    cluster.psql("select pg_replication_origin_create('elsewhere')");
    cluster.psql(
        "select pg_replication_origin_session_setup('elsewhere');
         begin; select pg_replication_origin_xact_setup('AB/CD', '2020-02-02 02:02:02.123456+00');
         insert into t (note) values ('from elsewhere'); commit;",
    );
    cluster.psql("create index on t (note); update t set note = note || '!'; vacuum full t; drop table gone");
}

fn subtransactions(cluster: &TestCluster) {
    cluster.psql(
        "begin; insert into t (note) values ('top'); savepoint a; insert into t (note) values ('a');
         savepoint b; insert into t (note) values ('b'); rollback to b; release a; commit;
         begin; insert into t (note) values ('never'); savepoint a; create table never (a int); rollback;",
    );
    // So many that the commit spans pages, and that they are assigned in records of their own.
    cluster.psql(
        "do $$ begin for n in 1..3000 loop begin insert into t (note) values ('part ' || n);
         exception when division_by_zero then null; end; end loop; end $$",
    );
}

fn two_phases(cluster: &TestCluster) {
    cluster.psql(
        "begin; insert into t (note) values ('kept'); savepoint s; create table two (a int);
         insert into two values (1); prepare transaction 'kept one';
         begin; insert into t (note) values ('lost'); create table three (a int);
         prepare transaction 'lost one';
         insert into t (note) values ('between'); commit prepared 'kept one'; rollback prepared 'lost one';
         begin; drop table two; prepare transaction 'drop'; commit prepared 'drop';",
    );
}

fn messages(cluster: &TestCluster) {
    cluster.psql(
        "select pg_logical_emit_message(true, 'lifeboat', 'in a transaction');
         select pg_logical_emit_message(false, 'lifeboat', 'beside any');
         select pg_logical_emit_message(true, 'long', repeat('x', 3000000));
         select pg_logical_emit_message(true, 'longer than what is kept', repeat('y', 20000000));",
    );
}

/// A record of which only the beginning is left, given up by the server.
pub(crate) fn overwritten_record(cluster: &mut TestCluster) {
    cluster.psql("checkpoint");
    let over_a_segment = cluster.control().wal_segment_bytes + 1000;
    cluster.psql(&format!("select pg_logical_emit_message(true, 'torn', repeat('z', {over_a_segment}))"));
    let last = cluster.psql("select pg_walfile_name(pg_current_wal_insert_lsn())");
    cluster.stop(StopMode::Immediate);
    std::fs::remove_file(cluster.data().join("pg_wal").join(last)).unwrap();
    cluster.start_server();
    cluster.psql("insert into t (note) values ('behind a torn record')");
}
