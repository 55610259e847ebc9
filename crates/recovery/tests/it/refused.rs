//! Servers that do not let us in, or are not set up for it: what a person reads, word by word.

use crate::house::{House, fill, on_each_version};
use lifeboat_base::Hint;
use lifeboat_postgres_server::Installation;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster};
use lifeboat_store_postgres::FollowEvent;
use lifeboat_wire_postgres::{ConnectOptions, Connection, Purpose};

const ROLES: &str = "create role backup login replication password 'right';
    create role plain login password 'right'";
const OURS: &str = "local all postgres trust\nlocal replication postgres trust";

/// What is said where so many senders are allowed, and used.
fn full(installation: &Installation, senders: u32) -> String {
    let setting = if installation.major == 15 { "max_wal_senders" } else { "\"max_wal_senders\"" };
    format!(
        "log in: FATAL: number of requested standby connections exceeds {setting} (currently {senders}) [53300]\n\
         hint: Every WAL sender is in use: raise max_wal_senders (above 0 it needs wal_level = replica) and restart \
         the server, or stop one of those in pg_stat_replication."
    )
}

/// A cluster that asks for passwords on loopback, and a role that may replicate, and one that may not.
fn guarded(options: ClusterOptions) -> TestCluster {
    let cluster = TestCluster::start_with(ClusterOptions { tcp: true, ..options });
    cluster.psql(ROLES);
    let lines = "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256";
    cluster.set_hba(&format!("{OURS}\n{lines}"));
    cluster
}

fn url(cluster: &TestCluster, user: &str, password: &str) -> String {
    format!("postgresql://{user}:{password}@127.0.0.1:{}/postgres", cluster.port())
}

/// What is printed, with the port that differs from run to run taken out.
fn printed(cluster: &TestCluster, error: &impl Hint) -> String {
    let text = format!("{}\nhint: {}", lifeboat_base::report(error), error.hint().unwrap_or_default());
    text.replace(&cluster.port().to_string(), "PORT")
}

/// What `backup` and `follow` say; they must agree, since the cause is the same.
fn both_refused(house: &House, cluster: &TestCluster, url: &str) -> String {
    let of_follow = house.begin_to_follow(url).refused();
    let of_backup = house.try_protect(url).unwrap_err();
    let said = printed(cluster, &of_backup);
    assert_eq!(said, printed(cluster, &of_follow));
    said
}

fn backup_refused(house: &House, cluster: &TestCluster, url: &str) -> String {
    printed(cluster, &house.try_protect(url).unwrap_err())
}

#[test]
fn who_is_not_let_in_reads_what_to_change() {
    on_each_version(|installation| {
        let house = House::new();
        let cluster = guarded(ClusterOptions::new(installation.clone()));
        let wrong = both_refused(&house, &cluster, &url(&cluster, "backup", "wrong"));
        assert_eq!(
            wrong,
            "log in: FATAL: password authentication failed for user \"backup\" [28P01]\n\
             hint: Check the password for \"backup\" in the connection string."
        );
        let plain = both_refused(&house, &cluster, &url(&cluster, "plain", "right"));
        let why = match installation.major {
            15 => "must be superuser or replication role to start walsender",
            _ => {
                "permission denied to start WAL sender (Only roles with the REPLICATION attribute may start a WAL \
                 sender process.)"
            }
        };
        assert_eq!(
            plain,
            format!(
                "log in: FATAL: {why} [42501]\nhint: As a superuser: `ALTER ROLE \"plain\" REPLICATION`."
            )
        );
        cluster.set_hba(&format!("{OURS}\nhost all all 127.0.0.1/32 scram-sha-256"));
        let unlisted = both_refused(&house, &cluster, &url(&cluster, "backup", "right"));
        assert_eq!(
            unlisted,
            "log in: FATAL: no pg_hba.conf entry for replication connection from host \"127.0.0.1\", user \
             \"backup\", no encryption [28000]\nhint: Add to pg_hba.conf on the server: `host replication backup \
             127.0.0.1/32 scram-sha-256`; then `select pg_reload_conf()`."
        );
    });
}

#[test]
fn a_role_that_may_only_replicate_is_enough() {
    on_each_version(|installation| {
        let house = House::new();
        let cluster = guarded(ClusterOptions::new(installation.clone()));
        fill(&cluster, 10);
        let lines = "host replication all 127.0.0.1/32 scram-sha-256";
        cluster.set_hba(&format!("{OURS}\n{lines}"));
        let report = house.try_protect(&url(&cluster, "backup", "right")).unwrap();
        let note = report.notes.iter().find(|note| note.contains("no marker was written"));
        assert!(note.is_some_and(|note| note.contains("pg_hba.conf")), "{:?}", report.notes);
        let restored =
            house.restored(&house.latest(), &ClusterOptions::new(installation.clone()), "restored");
        assert_eq!(restored.psql("select count(*) from accounts"), "10");
    });
}

#[test]
fn a_server_without_enough_log_or_senders_is_told_what_it_lacks() {
    on_each_version(|installation| {
        let house = House::new();
        let options = ClusterOptions::new(installation.clone()).with("max_wal_senders", "1");
        let mut cluster = guarded(options);
        let target = url(&cluster, "backup", "right");
        let taken = ConnectOptions::parse(&target, &|_| None).unwrap();
        let taken = Connection::open(&taken, Purpose::Replication).unwrap();
        let said = backup_refused(&house, &cluster, &target);
        assert_eq!(said, full(installation, 1));
        // A follower waits: somebody may leave.
        let mut followed = house.begin_to_follow(&target);
        followed.wait_for("complaint", |event| matches!(event, FollowEvent::Disconnected { .. }));
        drop(taken);
        followed.wait_for("streaming", |event| matches!(event, FollowEvent::Streaming { .. }));
        followed.stop();
        cluster.psql("select pg_drop_replication_slot('lifeboat_app')");
        cluster.set("wal_level", "minimal");
        cluster.set("max_wal_senders", "0");
        cluster.restart();
        let minimal = backup_refused(&house, &cluster, &target);
        assert_eq!(minimal, full(installation, 0));
    });
}

#[test]
fn a_server_without_slots_left_is_told_so() {
    on_each_version(|installation| {
        let house = House::new();
        let cluster = guarded(ClusterOptions::new(installation.clone()).with("max_replication_slots", "1"));
        cluster.psql("select pg_create_physical_replication_slot('somebodys')");
        let refused = both_refused(&house, &cluster, &url(&cluster, "backup", "right"));
        assert_eq!(
            refused,
            "create a replication slot: ERROR: all replication slots are in use [53400]\n\
             hint: Raise max_replication_slots and restart the server, or drop a slot that nobody uses: select * \
             from pg_replication_slots."
        );
        cluster.psql("select pg_drop_replication_slot('somebodys')");
        assert!(house.try_protect(&url(&cluster, "backup", "right")).is_ok());
    });
}

#[test]
fn a_snapshot_and_a_follower_need_two_senders_at_least() {
    on_each_version(|installation| {
        let house = House::new();
        let cluster = guarded(ClusterOptions::new(installation.clone()).with("max_wal_senders", "1"));
        let said = backup_refused(&house, &cluster, &url(&cluster, "backup", "right"));
        assert_eq!(said, full(installation, 1));
    });
}
