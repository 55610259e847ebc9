//! The fuzz targets of this crate as properties. Their seeds are what servers really said, and what people write.

#[path = "../../../../fuzz/src/replay.rs"]
#[expect(unreachable_pub, reason = "several test programs and the fuzzers share it")]
mod replay;
#[path = "../../../../fuzz/src/wire_postgres.rs"]
#[expect(unreachable_pub, reason = "the fuzzers share it")]
mod targets;

use crate::options;
use lifeboat_postgres_server::testing::{TestCluster, test_installations};
use lifeboat_postgres_wal::{Lsn, SegmentSize, TimelineId};
use lifeboat_wire_postgres::{BaseBackupOptions, Connection, Purpose, SlotKind, StreamEvent};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;
use targets::TARGETS;

/// What a seed has at most, in bytes.
const SEED_BYTES: usize = 6 << 10;
/// Messages longer than this are data, of which a seed has no need.
const DATA_BYTES: usize = 900;

/// What a server says to a client that believes to talk to it directly.
fn recorded(cluster: &TestCluster, purpose: Purpose, client: impl FnOnce(Connection)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
    let here = options(&format!("host={} user=postgres dbname=postgres", folder.path().display()));
    thread::scope(|scope| {
        let recorder = scope.spawn(|| {
            let (near, _) = listener.accept().unwrap();
            let far = cluster.socket_dir().join(format!(".s.PGSQL.{}", cluster.port()));
            let far = UnixStream::connect(far).unwrap();
            let (mut from_client, mut to_server) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            scope.spawn(move || {
                drop(std::io::copy(&mut from_client, &mut to_server));
                drop(to_server.shutdown(std::net::Shutdown::Write));
            });
            record(far, near)
        });
        client(Connection::open(&here, purpose).unwrap());
        recorder.join().unwrap()
    })
}

/// Copies until the server hangs up. The client may be gone before that.
fn record(mut from: UnixStream, mut to: UnixStream) -> Vec<u8> {
    let (mut said, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(count @ 1..) = from.read(&mut piece) {
        said.extend_from_slice(&piece[..count]);
        drop(to.write_all(&piece[..count]));
    }
    said
}

/// The messages without long data, and no more than a seed needs.
fn shortened(said: &[u8]) -> Vec<u8> {
    let (mut rest, mut kept) = (said, Vec::new());
    while let Some(length) = rest.get(1..5) {
        let length = 1 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let (message, behind) = rest.split_at(length.min(rest.len()));
        if message.len() <= DATA_BYTES && kept.len() + message.len() <= SEED_BYTES {
            kept.extend_from_slice(message);
        }
        rest = behind;
    }
    kept
}

#[test]
fn what_servers_say_is_a_seed() {
    for installation in test_installations() {
        let major = installation.major;
        let cluster = TestCluster::start(&installation);
        let seed = |kind: &str, said: &[u8]| {
            replay::seed(TARGETS, "postgres_backend", &format!("{major}-{kind}"), &shortened(said));
        };
        seed("answers", &recorded(&cluster, Purpose::Sql, ask));
        seed("replication", &recorded(&cluster, Purpose::Replication, replicate));
        seed("backup", &recorded(&cluster, Purpose::Replication, back_up));
        seed("stream", &recorded(&cluster, Purpose::Replication, stream));
    }
}

fn ask(mut sql: Connection) {
    let answer = sql.query("select 1 as one, null as none, 'ä' as text, repeat('x', 300) as long").unwrap();
    assert_eq!(answer.len(), 1);
    drop(sql.query("do $$ begin raise warning 'careful' using hint = 'look', detail = 'what'; end $$"));
    assert!(sql.query("select 1/0").is_err());
    assert!(sql.query("select from nowhere").is_err());
}

fn replicate(mut session: Connection) {
    let _ = session.identify_system().unwrap();
    assert_eq!(session.show("wal_segment_size").unwrap(), "16MB");
    session.create_slot("seed", SlotKind::Temporary).unwrap();
    assert!(session.read_slot("seed").unwrap().is_some());
    assert!(session.read_slot("absent").unwrap().is_none());
    assert!(session.timeline_history(TimelineId(9)).is_err());
}

fn back_up(session: Connection) {
    let mut backup = session.base_backup(&BaseBackupOptions::default()).unwrap();
    while backup.next().unwrap().is_some() {}
    let _ = backup.finish().unwrap();
}

fn stream(mut session: Connection) {
    let identity = session.identify_system().unwrap();
    let start = SegmentSize::DEFAULT.start_of(identity.flushed);
    let mut stream = session.start_replication(None, start, identity.timeline).unwrap();
    while stream.position() < identity.flushed {
        let _ = stream.next(Duration::from_secs(60)).unwrap();
    }
    stream.send_status(Lsn::ZERO, Lsn::ZERO, Lsn::ZERO, true).unwrap();
    while !matches!(stream.next(Duration::from_secs(60)).unwrap(), StreamEvent::Keepalive { .. }) {}
    let _ = stream.stop().unwrap();
}

#[test]
fn what_is_in_a_password_file_is_a_seed() {
    for (kind, text) in [
        ("plain", "db-1\n5432\napp\nbackup\n# ours\ndb-1:5432:app:backup:word\n"),
        ("any", "db-1\n5432\nreplication\nbackup\nother:*:*:*:no\n*:*:replication:backup:wo\\:rd\\\\\r\n"),
        ("escaped", "::1\n5433\na\\b\nu\n\\:\\:1:5433:a\\\\b:u:one:two\n"),
    ] {
        replay::seed(TARGETS, "postgres_passfile", kind, text.as_bytes());
    }
}

#[test]
fn what_people_write_is_a_seed() {
    for (kind, text) in [
        ("url", "postgres://backup:pass%40word@db-1.example:5433/app?sslmode=verify-full&application_name=x"),
        ("socket", "postgresql:///app?host=%2Fvar%2Frun%2Fpostgresql&port=5432&user=postgres"),
        (
            "hosts",
            "postgresql://u@h1:1,[2001:db8::1]:2,h3/d?target_session_attrs=read-write&load_balance_hosts=random",
        ),
        (
            "words",
            "host=db-1 hostaddr=127.0.0.1 user=u dbname = 'a \\'b\\\\ c' keepalives_idle=3 connect_timeout=10",
        ),
        (
            "environment",
            "\nPGHOST=h\nPGUSER=u\nPGDATABASE=d\nPGSSLMODE=require\nPGSSLROOTCERT=/a/b.crt\nPGPORT=1",
        ),
        (
            "service",
            "service=main user=u\n--\n# ours\n[other]\nhost=a\n\n[main]\nhost=b\nport=5433\n[third]\nhost=c\n",
        ),
        (
            "certificates",
            "postgres://u@h/d?sslnegotiation=direct&sslrootcert=system&sslcert=c&sslkey=k&sslsni=0",
        ),
    ] {
        replay::seed(TARGETS, "postgres_options", kind, text.as_bytes());
    }
}

#[test]
fn every_target_holds_on_its_corpus_and_on_mutations_of_it() {
    replay::run(TARGETS);
}
