//! The log as it streams: contiguous, answered, through promotions and to its end.

use crate::{replication, sql};
use lifeboat_base::Hint;
use lifeboat_postgres_server::StopMode;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster, test_installations};
use lifeboat_postgres_wal::{Lsn, SegmentSize, TimelineHistory, TimelineId};
use lifeboat_wire_postgres::{Connection, PostgresError, SlotKind, StreamEvent, WalStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const WAIT: Duration = Duration::from_millis(100);

fn end_of_log(cluster: &TestCluster) -> Lsn {
    cluster.psql("select pg_current_wal_flush_lsn()").parse().unwrap()
}

/// From the beginning of the segment that the log ends in.
fn from_here(mut session: Connection, slot: Option<&str>) -> WalStream {
    let identity = session.identify_system().unwrap();
    let start = SegmentSize::DEFAULT.start_of(identity.flushed);
    session.start_replication(slot, start, identity.timeline).unwrap()
}

/// Receives up to a position; what came.
fn receive_to(stream: &mut WalStream, to: Lsn) -> Vec<u8> {
    let mut log = Vec::new();
    while stream.position() < to {
        match stream.next(WAIT).unwrap() {
            StreamEvent::Wal { data, sent_micros, server_end, .. } => {
                log.extend_from_slice(data);
                assert!(sent_micros > 800_000_000_000_000, "after 2025: {sent_micros}");
                assert!(server_end > Lsn::ZERO);
            }
            StreamEvent::Keepalive { .. } | StreamEvent::Idle => {}
            StreamEvent::EndOfTimeline => panic!("the timeline does not end"),
        }
    }
    log
}

#[test]
fn what_is_written_comes_and_what_is_durable_is_said() {
    for installation in test_installations() {
        let cluster = TestCluster::start(&installation);
        let mut session = replication(&cluster);
        session.create_slot("ours", SlotKind::Permanent).unwrap();
        let mut stream = from_here(session, Some("ours"));
        let start = stream.position();
        cluster.psql("create table t (n text); insert into t values ('a word that is found again');");
        cluster.pgbench_init(1);
        let end = end_of_log(&cluster);
        let log = receive_to(&mut stream, end);
        assert_eq!(log.len() as u64, stream.position().since(start));
        let word = b"a word that is found again";
        assert!(log.windows(word.len()).any(|window| window == word));
        // What the server has in its own file, byte for byte.
        let name = cluster.psql(&format!("select pg_walfile_name('{}')", Lsn(start.0 + 1)));
        let segment = std::fs::read(cluster.data().join("pg_wal").join(name)).unwrap();
        let common = segment.len().min(log.len());
        assert!(common > 8192 && segment[..common] == log[..common]);

        stream.send_status(stream.position(), end, Lsn::ZERO, true).unwrap();
        let told = "select write_lsn, flush_lsn, replay_lsn, application_name from pg_stat_replication";
        let expected = format!("{}|{end}||lifeboat-test", stream.position());
        cluster.wait_for(told, &expected);
        let slot = "select restart_lsn from pg_replication_slots where slot_name = 'ours'";
        cluster.wait_for(slot, &end.to_string());
        // It was asked for a sign of life.
        loop {
            if let StreamEvent::Keepalive { reply_requested, .. } = stream.next(WAIT).unwrap() {
                assert!(!reply_requested);
                break;
            }
        }
        let in_use =
            replication(&cluster).start_replication(Some("ours"), start, TimelineId(1)).err().unwrap();
        assert_eq!(in_use.sqlstate(), Some("55006"), "{in_use:?}");
        assert!(in_use.hint().unwrap().contains("active_pid"));
        let status = stream.split_status();
        let mut session = stream.stop().unwrap();
        assert!(!status.send(end, end, Lsn::ZERO, false).unwrap(), "the stream is over");
        session.drop_slot("ours").unwrap();
    }
}

#[test]
fn commits_wait_for_a_status_from_another_thread() {
    for installation in test_installations() {
        let cluster = TestCluster::start(&installation);
        let mut stream = from_here(replication(&cluster), None);
        cluster.psql("create table t (n int)");
        cluster.set("synchronous_standby_names", "\"lifeboat-test\"");
        cluster.reload();
        let status = stream.split_status();
        let (received, over) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let _ = stream.next(WAIT).unwrap();
                    received.store(stream.position().0, Ordering::SeqCst);
                }
            });
            // A standby is one only when it has said where it is; then that it has nothing yet.
            let tell = |position: Lsn| status.send(position, position, Lsn::ZERO, false).unwrap();
            assert!(tell(end_of_log(&cluster)));
            cluster.wait_for("select sync_state from pg_stat_replication", "sync");
            let writer = scope.spawn(|| sql(&cluster).execute("insert into t values (1)"));
            cluster.wait_for("select count(*) from pg_stat_activity where wait_event = 'SyncRep'", "1");
            let end = end_of_log(&cluster);
            while received.load(Ordering::SeqCst) < end.0 {
                thread::sleep(Duration::from_millis(2));
            }
            assert!(!writer.is_finished(), "received is not yet durable");
            assert!(tell(end));
            writer.join().unwrap().unwrap();
            over.store(true, Ordering::SeqCst);
            reader.join().unwrap();
        });
    }
}

#[test]
fn a_promotion_ends_the_timeline_and_the_next_one_is_followed() {
    for installation in test_installations() {
        let primary = TestCluster::start(&installation);
        primary.psql("create table t (n int)");
        let standby = primary.standby();
        let mut session = replication(&standby);
        session.create_slot("ours", SlotKind::Permanent).unwrap();
        let mut stream = from_here(session, Some("ours"));
        let start = stream.position();
        primary.psql("insert into t select generate_series(1, 1000)");
        let _ = receive_to(&mut stream, end_of_log(&primary));
        assert_eq!(stream.timeline(), TimelineId(1));
        assert!(matches!(
            stream.next(Duration::ZERO).unwrap(),
            StreamEvent::Idle | StreamEvent::Keepalive { .. }
        ));
        standby.promote();
        let early = loop {
            match stream.next(WAIT).unwrap() {
                StreamEvent::EndOfTimeline => break stream.position(),
                StreamEvent::Keepalive { reply_requested: true, .. } => {
                    stream.send_status(stream.position(), stream.position(), Lsn::ZERO, false).unwrap();
                }
                _ => {}
            }
        };
        assert_eq!(stream.next(WAIT).unwrap(), StreamEvent::EndOfTimeline, "the end stays the end");
        let status = stream.split_status();
        let (next, mut session) = stream.end_of_timeline().unwrap();
        assert_eq!((next.timeline, next.start), (TimelineId(2), early));
        assert!(!status.send(early, early, Lsn::ZERO, false).unwrap(), "the stream is over");

        let history = session.timeline_history(next.timeline).unwrap();
        assert_eq!(history.name, "00000002.history");
        let history = TimelineHistory::parse(next.timeline, &history.content).unwrap();
        assert_eq!(history.end_of(TimelineId(1)), Some(next.start));

        // The same segment once more, on the new timeline.
        let again = SegmentSize::DEFAULT.start_of(next.start);
        let mut stream = session.start_replication(Some("ours"), again, next.timeline).unwrap();
        standby.psql("insert into t values (424242)");
        let _ = receive_to(&mut stream, end_of_log(&standby));
        assert!(stream.position() > next.start);
        let session = stream.stop().unwrap();

        // The old timeline from a server that has left it: up to its end, and then on.
        let mut stream = session.start_replication(None, start, TimelineId(1)).unwrap();
        while stream.next(WAIT).unwrap() != StreamEvent::EndOfTimeline {}
        assert_eq!(stream.position(), next.start);
        let (same, session) = stream.end_of_timeline().unwrap();
        assert_eq!(same, next);
        // Nothing at all is left of it at its very end.
        let mut stream = session.start_replication(None, next.start, TimelineId(1)).unwrap();
        assert_eq!(stream.next(WAIT).unwrap(), StreamEvent::EndOfTimeline);
        let (same, session) = stream.end_of_timeline().unwrap();
        assert_eq!(same, next);
        // And behind its end there is nothing to be had.
        let behind = session.start_replication(None, next.start.after(1 << 20), TimelineId(1)).err().unwrap();
        assert!(behind.server().is_some(), "{behind:?}");
    }
}

#[test]
fn log_that_was_removed_and_slots_that_lost_it_are_told() {
    for installation in test_installations() {
        let options = ClusterOptions::new(installation.clone())
            .with("max_slot_wal_keep_size", "1MB")
            .with("wal_keep_size", "0")
            .with("min_wal_size", "32MB")
            .with("max_wal_size", "32MB");
        let cluster = TestCluster::start_with(options);
        let mut session = replication(&cluster);
        session.create_slot("ours", SlotKind::Permanent).unwrap();
        let kept = session.read_slot("ours").unwrap().unwrap();
        assert!(kept.restart.is_some());
        let start = SegmentSize::DEFAULT.start_of(session.identify_system().unwrap().flushed);
        cluster.psql("create table t (n text)");
        for _ in 0..6 {
            cluster.psql("insert into t select repeat('x', 1000) from generate_series(1, 2000)");
            cluster.psql("select pg_switch_wal()");
            cluster.psql("checkpoint");
        }
        let lost = "select wal_status from pg_replication_slots";
        cluster.wait_for(lost, "lost");
        let state = session.read_slot("ours").unwrap().unwrap();
        assert_eq!(state.restart, None, "{state:?}");
        // Some versions object at once, some with the first piece.
        let failed = |slot: Option<&str>| {
            let stream = replication(&cluster).start_replication(slot, start, TimelineId(1));
            stream.and_then(|mut stream| stream.next(Duration::from_secs(60)).map(drop)).unwrap_err()
        };
        let removed = failed(None);
        assert_eq!(removed.sqlstate(), Some("58P01"), "{removed:?}");
        assert!(removed.hint().unwrap().contains("new snapshot"));
        let invalid = failed(Some("ours"));
        // Newer versions refuse the slot, older ones find the log gone.
        let expected = if installation.major >= 18 { "55000" } else { "58P01" };
        assert_eq!(invalid.sqlstate(), Some(expected), "{invalid:?}");
        assert!(invalid.hint().unwrap().contains("new snapshot"), "{:?}", invalid.hint());
        let missing = failed(Some("nobodys"));
        assert_eq!(missing.sqlstate(), Some("42704"), "{missing:?}");
    }
}

#[test]
fn a_server_that_shuts_down_or_dies_ends_the_stream() {
    for installation in test_installations() {
        let mut cluster = TestCluster::start(&installation);
        let mut stream = from_here(replication(&cluster), None);
        let status = stream.split_status();
        let end = thread::scope(|scope| {
            let reader = scope.spawn(move || {
                loop {
                    match stream.next(WAIT) {
                        Ok(_) => {
                            let position = stream.position();
                            // The server waits until we have all it wrote.
                            drop(status.send(position, position, Lsn::ZERO, false));
                        }
                        Err(error) => return error,
                    }
                }
            });
            cluster.psql("create table t (n int)");
            cluster.stop(StopMode::Fast);
            reader.join().unwrap()
        });
        assert!(matches!(end, PostgresError::StreamEnded { .. }), "{end:?}");
        assert!(end.is_transient());

        cluster.start_server();
        let mut stream = from_here(replication(&cluster), None);
        cluster.kill9();
        let end = loop {
            match stream.next(WAIT) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(end.is_transient(), "{end:?}");

        cluster.start_server();
        let mut stream = from_here(replication(&cluster), None);
        let handle = stream.cancel_handle();
        let end = thread::scope(|scope| {
            let reader = scope.spawn(move || {
                loop {
                    if let Err(error) = stream.next(Duration::from_secs(3600)) {
                        return error;
                    }
                }
            });
            handle.shutdown();
            reader.join().unwrap()
        });
        assert!(end.is_transient(), "{end:?}");
    }
}
