//! What the tests of other crates rest on: a cluster that is made, used, killed and promoted.

use lifeboat_postgres_server::StopMode;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster, test_installations};

#[test]
fn a_cluster_keeps_what_was_committed_through_every_end() {
    for installation in test_installations() {
        let mut cluster = TestCluster::start(&installation);
        assert_eq!(
            cluster.psql("show server_version").split(' ').next(),
            Some(installation.version.as_str())
        );
        cluster.psql("create table t (n int); insert into t select generate_series(1, 1000);");
        cluster.kill9();
        assert!(cluster.data().join("postmaster.pid").exists(), "as after a crash");
        cluster.start_server();
        assert_eq!(cluster.psql("select count(*) from t"), "1000");
        for mode in [StopMode::Smart, StopMode::Fast, StopMode::Immediate] {
            cluster.stop(mode);
            assert_eq!(cluster.control().is_shut_down(), mode != StopMode::Immediate, "{mode}");
            cluster.start_server();
        }
        assert_eq!(cluster.psql("select sum(n) from t"), "500500");
        assert!(cluster.try_psql("postgres", "select no_such").unwrap_err().contains("no_such"));
    }
}

#[test]
fn a_standby_follows_and_is_promoted() {
    for installation in test_installations() {
        let primary = TestCluster::start(&installation);
        primary.pgbench_init(1);
        let standby = primary.standby();
        assert!(primary.pgbench(&["-c", "2", "-t", "20"]).contains("number of transactions"));
        standby.wait_for("select count(*) from pgbench_history", "40");
        assert_eq!(standby.psql("select pg_is_in_recovery()"), "t");
        standby.promote();
        assert_eq!(standby.psql("select pg_is_in_recovery()"), "f");
        standby.psql("insert into pgbench_tellers values (1000, 1, 0)");
        standby.psql("checkpoint");
        assert_eq!((standby.control().timeline, primary.control().timeline), (2, 1));
        assert_eq!(standby.control().system_id, primary.control().system_id);
    }
}

#[test]
fn options_reach_the_cluster() {
    for installation in test_installations() {
        let mut options = ClusterOptions::new(installation).with("work_mem", "7MB");
        (options.wal_segment_mib, options.checksums, options.tcp) = (64, false, true);
        let cluster = TestCluster::start_with(options);
        assert_eq!(
            cluster.psql("show data_checksums; show wal_segment_size; show work_mem"),
            "off\n64MB\n7MB"
        );
        let control = cluster.control();
        assert_eq!(
            (control.checksum_version, control.wal_segment_bytes, control.block_bytes),
            (0, 64 << 20, 8192)
        );
        assert_eq!((control.wal_level.as_str(), control.max_wal_senders), ("replica", 12));
        assert_eq!(
            control.system_id.to_string(),
            cluster.psql("select system_identifier from pg_control_system()")
        );
        let mut psql = cluster.command("psql");
        let answer = psql
            .args(["-X", "-A", "-t", "-c", "select 7", "-d", &cluster.tcp_url("postgres")])
            .output()
            .unwrap();
        assert_eq!(answer.stdout, b"7\n");
        cluster.set_hba("local all all reject");
        assert!(cluster.try_psql("postgres", "select 1").unwrap_err().contains("reject"));
        let mut psql = cluster.command("psql");
        let answer = psql.args(["-X", "-c", "select 7", "-d", &cluster.url("postgres")]).output().unwrap();
        assert!(String::from_utf8_lossy(&answer.stderr).contains("reject"), "{answer:?}");
    }
}
