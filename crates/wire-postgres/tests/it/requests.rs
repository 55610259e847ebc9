//! Questions and their answers, in a session for SQL and in one that replicates.

use crate::{options, replication, sql};
use lifeboat_base::Hint;
use lifeboat_postgres_server::testing::{TestCluster, test_installations};
use lifeboat_postgres_wal::{Lsn, TimelineId};
use lifeboat_wire_postgres::{Connection, PostgresError, Purpose, SlotKind};
use std::thread;
use std::time::Duration;

#[test]
fn sql_is_answered_and_an_error_leaves_the_session_usable() {
    for installation in test_installations() {
        let cluster = TestCluster::start(&installation);
        let mut session = sql(&cluster);
        let number = session.query("show server_version_num").unwrap();
        assert_eq!(number.single().unwrap(), session.server_version().to_string());
        assert_eq!(session.server_version() / 10_000, installation.major);
        assert_eq!(session.parameter("client_encoding"), Some("UTF8"));

        let text = "create table t (a int, b text); insert into t values (1, 'ä'), (2, null); \
                    select a, b from t order by a; insert into t values (3, '')";
        let results = session.query_all(text).unwrap();
        assert_eq!(
            results.iter().map(|rows| rows.tag()).collect::<Vec<_>>(),
            ["CREATE TABLE", "INSERT 0 2", "SELECT 2", "INSERT 0 1"]
        );
        assert_eq!(results[2].columns(), ["a", "b"]);
        assert_eq!(results[2].text(0, 1).unwrap(), Some("ä"));
        assert_eq!(results[2].text(1, 1).unwrap(), None);
        let last = session.query("select count(*) from t; set work_mem = '8MB'").unwrap();
        assert_eq!(last.single().unwrap(), "3");
        assert!(session.query("").unwrap().is_empty());

        let wrong = session.query("select 1; select 1 / 0; select 2").unwrap_err();
        assert_eq!(wrong.sqlstate(), Some("22012"));
        assert!(lifeboat_base::report(&wrong).starts_with("run SQL: ERROR: division by zero"), "{wrong:?}");
        session.execute("do $$ begin raise warning 'careful'; end $$").unwrap();
        let notices = session.take_notices();
        assert_eq!((notices[0].severity.as_str(), notices[0].message.as_str()), ("WARNING", "careful"));
        assert!(matches!(session.query("select '\0'"), Err(PostgresError::Argument { .. })));
        assert_eq!(session.query("select 7").unwrap().single().unwrap(), "7");
    }
}

#[test]
fn an_answer_without_end_ends_the_session_and_not_the_memory() {
    for installation in test_installations() {
        let cluster = TestCluster::start(&installation);
        let mut session = sql(&cluster);
        let large = session.query("select repeat('x', 1000000) from generate_series(1, 100000)").unwrap_err();
        assert!(matches!(large, PostgresError::TooLarge { .. }), "{large:?}");
        assert!(matches!(session.query("select 1"), Err(PostgresError::Broken { .. })));
        let mut session = sql(&cluster);
        let copy = session.query("copy (select 1) to stdout").unwrap_err();
        assert!(matches!(copy, PostgresError::Protocol { .. }), "{copy:?}");
        assert!(matches!(session.query("select 1"), Err(PostgresError::Broken { .. })));
    }
}

#[test]
fn another_thread_cancels_and_ends() {
    for installation in test_installations() {
        let cluster = TestCluster::start(&installation);
        let mut session = sql(&cluster);
        let handle = session.cancel_handle();
        let sleeps =
            || cluster.wait_for("select count(*) from pg_stat_activity where wait_event = 'PgSleep'", "1");
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| session.query("select pg_sleep(3600)"));
            sleeps();
            handle.cancel().unwrap();
            assert_eq!(sleeper.join().unwrap().unwrap_err().sqlstate(), Some("57014"));
        });
        assert_eq!(session.query("select 1").unwrap().single().unwrap(), "1");
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| session.query("select pg_sleep(3600)"));
            sleeps();
            handle.shutdown();
            let ended = sleeper.join().unwrap().unwrap_err();
            assert!(ended.is_transient(), "{ended:?}");
        });
    }
}

#[test]
fn a_replication_session_knows_the_system_and_its_settings() {
    for installation in test_installations() {
        let cluster = TestCluster::start(&installation);
        let mut session = replication(&cluster);
        let identity = session.identify_system().unwrap();
        let control = cluster.control();
        assert_eq!((identity.system.0, identity.timeline.0), (control.system_id, control.timeline));
        let now: Lsn = cluster.psql("select pg_current_wal_flush_lsn()").parse().unwrap();
        assert!(identity.flushed <= now && identity.flushed > Lsn::ZERO);
        assert_eq!(session.show("wal_segment_size").unwrap(), "16MB");
        assert_eq!(session.show("data_checksums").unwrap(), "on");
        assert_eq!(session.show("no_such_setting").unwrap_err().sqlstate(), Some("42704"));
        assert!(matches!(session.show("a; drop"), Err(PostgresError::Argument { .. })));
        let none = session.timeline_history(TimelineId(7)).unwrap_err();
        assert_eq!(none.sqlstate(), Some("58P01"), "{none:?}");
        assert_eq!(session.identify_system().unwrap().system, identity.system);
    }
}

#[test]
fn slots_are_made_read_and_dropped() {
    for installation in test_installations() {
        let cluster = TestCluster::start(&installation);
        let mut session = replication(&cluster);
        assert_eq!(session.read_slot("ours").unwrap(), None);
        session.create_slot("ours", SlotKind::Permanent).unwrap();
        session.create_slot("select", SlotKind::Temporary).unwrap();
        let state = session.read_slot("ours").unwrap().unwrap();
        let restart = cluster.psql("select restart_lsn from pg_replication_slots where slot_name = 'ours'");
        assert_eq!(state.restart.unwrap().to_string(), restart);
        assert_eq!(state.restart_timeline, Some(TimelineId(1)));
        let again = session.create_slot("ours", SlotKind::Permanent).unwrap_err();
        assert_eq!(again.sqlstate(), Some("42710"), "{again:?}");
        assert!(again.hint().unwrap().contains("drop it"));
        for bad in ["", "Ours", "a b", "a\"b", &"x".repeat(64)] {
            let error = session.read_slot(bad).unwrap_err();
            assert!(error.hint().unwrap().contains("lower-case"), "{error:?}");
        }
        drop(session);
        let rest = "select count(*) from pg_replication_slots";
        cluster.wait_for(rest, "1");
        let mut session = replication(&cluster);
        session.drop_slot("ours").unwrap();
        assert_eq!(session.read_slot("ours").unwrap(), None);
        let missing = session.drop_slot("ours").unwrap_err();
        assert_eq!(missing.sqlstate(), Some("42704"));
        assert!(missing.hint().unwrap().contains("slot is gone"));
        cluster.wait_for(rest, "0");

        cluster.set("max_replication_slots", "12");
        for number in 0..12 {
            session.create_slot(&format!("s{number}"), SlotKind::Temporary).unwrap();
        }
        let full = session.create_slot("more", SlotKind::Temporary).unwrap_err();
        assert!(full.hint().unwrap().contains("max_replication_slots"), "{full:?}");
    }
}

#[test]
fn a_server_that_ends_the_session_is_heard() {
    for installation in test_installations() {
        let mut cluster = TestCluster::start(&installation);
        let mut session = sql(&cluster);
        let pid = session.query("select pg_backend_pid()").unwrap().single().unwrap().to_owned();
        cluster.psql(&format!("select pg_terminate_backend({pid})"));
        cluster.wait_for(&format!("select count(*) from pg_stat_activity where pid = {pid}"), "0");
        let ended = session.query("select 1").unwrap_err();
        assert!(ended.is_transient(), "{ended:?}");
        assert!(matches!(session.query("select 1"), Err(PostgresError::Broken { .. })));
        let mut session = sql(&cluster);
        cluster.kill9();
        assert!(session.query("select 1").unwrap_err().is_transient());
    }
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for_without_end() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = options(&format!("host=127.0.0.1 port={port} user=u connect_timeout=1"));
    let silent = Connection::open(&options, Purpose::Sql).unwrap_err();
    let second = Duration::from_secs(1);
    assert!(matches!(silent, PostgresError::ConnectTimeout { limit, .. } if limit == second), "{silent:?}");
    assert!(silent.hint().unwrap().contains("connect_timeout"));
}
