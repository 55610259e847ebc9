//! Servers that lie: every message cut, changed or out of turn is an error, never a panic and never memory.

use crate::options;
use lifeboat_base::Hint;
use lifeboat_postgres_wal::{Lsn, TimelineId};
use lifeboat_wire_postgres::{
    BaseBackupOptions, ConnectOptions, Connection, PostgresError, Purpose, StreamEvent, fuzz_backend,
};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// What a server says to let somebody in.
pub(crate) fn welcome() -> Vec<u8> {
    [
        framed(b'R', &[0, 0, 0, 0]),
        framed(b'S', b"server_version\x0018.6\0"),
        framed(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]),
        framed(b'Z', b"I"),
    ]
    .concat()
}

/// Lets `client` talk to a server that says these bytes, whatever it hears, and hangs up.
fn against<T>(script: &[u8], client: impl FnOnce(&ConnectOptions) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
    let options = options(&format!("host={} user=u password=p", folder.path().display()));
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Whoever hangs up early is the client, which may.
            drop(stream.write_all(script));
            drop(stream.shutdown(std::net::Shutdown::Write));
            let mut heard = Vec::new();
            drop(stream.read_to_end(&mut heard));
        });
        let result = client(&options);
        server.join().unwrap();
        result
    })
}

fn open_error(script: &[u8]) -> PostgresError {
    against(script, |options| Connection::open(options, Purpose::Sql)).unwrap_err()
}

#[test]
fn a_server_that_is_no_postgresql_is_found_out() {
    let http = open_error(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert!(matches!(http, PostgresError::TooLarge { limit: 65_536, .. }), "{http:?}");
    let tag = open_error(&framed(b'T', b"\0\0"));
    assert!(matches!(&tag, PostgresError::Protocol { .. }), "{tag:?}");
    assert!(tag.hint().unwrap().contains("host and port"));
    assert!(matches!(open_error(b""), PostgresError::Closed { .. } | PostgresError::Io { .. }));
}

#[test]
fn proofs_out_of_turn_are_refused() {
    let request = |kind: u8, rest: &[u8]| framed(b'R', &[&[0, 0, 0, kind], rest].concat());
    let scram = request(10, b"SCRAM-SHA-256\0\0");
    for script in [
        [scram.clone(), welcome()].concat(),
        [scram.clone(), scram.clone()].concat(),
        [scram.clone(), request(12, b"v=x")].concat(),
        request(11, b"r=x"),
        request(12, b"v=x"),
        [request(5, b"salt"), request(5, b"salt")].concat(),
        request(5, b"sa"),
        request(10, b"SCRAM"),
    ] {
        let error = open_error(&script);
        assert!(matches!(error, PostgresError::Protocol { .. }), "{error:?}");
    }
    let wrong = open_error(&[scram, request(11, b"r=other,s=AAAA,i=4096")].concat());
    assert!(matches!(wrong, PostgresError::Proof { .. }), "{wrong:?}");
    for kind in [2, 6, 7, 9, 99] {
        let error = open_error(&request(kind, b""));
        assert!(matches!(error, PostgresError::Authentication { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("pg_hba.conf"));
    }
    let other = open_error(&request(10, b"SCRAM-SHA-1024\0\0"));
    assert!(other.to_string().contains("SCRAM-SHA-1024"), "{other}");
}

#[test]
fn a_zero_byte_does_not_smuggle_an_option_in() {
    let error = against(&welcome(), |options| {
        let mut options = options.clone();
        options.set_database("d\0replication\0true");
        Connection::open(&options, Purpose::Sql).unwrap_err()
    });
    assert!(matches!(error, PostgresError::Argument { .. }), "{error:?}");
}

#[test]
fn a_server_that_starts_up_is_waited_for_by_who_can_wait() {
    let body = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
    let error = open_error(&framed(b'E', body));
    assert!(error.is_transient() && error.hint().unwrap().contains("wait"), "{error:?}");
}

#[test]
fn an_old_server_is_refused_before_it_is_asked() {
    let script = String::from_utf8(welcome()).unwrap().replace("18.6", "14.9").into_bytes();
    let error = against(&script, |options| {
        let connection = Connection::open(options, Purpose::Replication).unwrap();
        connection.start_replication(None, Lsn(0), TimelineId(1)).err().unwrap()
    });
    assert!(matches!(&error, PostgresError::TooOld { version, .. } if version == "14.9"), "{error:?}");
}

fn wal(start: u64, data: &[u8]) -> Vec<u8> {
    let mut body = vec![b'w'];
    body.extend(start.to_be_bytes());
    body.extend([0; 16]);
    body.extend(data);
    framed(b'd', &body)
}

fn streamed(messages: &[Vec<u8>]) -> (Lsn, PostgresError) {
    let script = [welcome(), framed(b'W', &[0, 0, 0]), messages.concat()].concat();
    against(&script, |options| {
        let connection = Connection::open(options, Purpose::Replication).unwrap();
        let mut stream = connection.start_replication(None, Lsn(100), TimelineId(1)).unwrap();
        loop {
            match stream.next(Duration::from_secs(60)) {
                Ok(StreamEvent::EndOfTimeline) => {
                    let position = stream.position();
                    return (position, stream.end_of_timeline().err().unwrap());
                }
                Ok(_) => {}
                Err(error) => return (stream.position(), error),
            }
        }
    })
}

#[test]
fn a_stream_with_a_hole_or_a_repetition_is_an_error() {
    for (second, found) in [(106, 106), (104, 104), (100, 100)] {
        let (position, error) = streamed(&[wal(100, b"12345"), wal(second, b"6")]);
        assert_eq!(position, Lsn(105));
        let gap = (Lsn(105), Lsn(found));
        assert!(
            matches!(error, PostgresError::Gap { expected, found, .. } if (expected, found) == gap),
            "{error:?}"
        );
    }
    let (position, error) = streamed(&[wal(100, b"12345"), wal(105, b"6")]);
    assert!(matches!(error, PostgresError::Closed { .. }), "{error:?}");
    assert_eq!(position, Lsn(106));
    let (_, error) = streamed(&[framed(b'c', b""), framed(b'Z', b"I")]);
    assert!(matches!(error, PostgresError::Protocol { .. }), "{error:?}");
    let (_, error) = streamed(&[framed(b'd', b"w123")]);
    assert!(matches!(error, PostgresError::Protocol { .. }), "{error:?}");
}

#[test]
fn a_length_alone_costs_no_memory() {
    // It says that a gibibyte follows, and hangs up.
    let script = [welcome(), framed(b'W', &[0, 0, 0]), vec![b'd', 0x40, 0, 0, 4, b'w']].concat();
    let error = against(&script, |options| {
        let connection = Connection::open(options, Purpose::Replication).unwrap();
        let mut stream = connection.start_replication(None, Lsn(100), TimelineId(1)).unwrap();
        stream.next(Duration::from_secs(60)).err().unwrap()
    });
    assert!(matches!(error, PostgresError::Closed { .. }), "{error:?}");
    let script = [welcome(), framed(b'W', &[0, 0, 0]), vec![b'd', 0x40, 0, 0, 5]].concat();
    let error = against(&script, |options| {
        let connection = Connection::open(options, Purpose::Replication).unwrap();
        let mut stream = connection.start_replication(None, Lsn(100), TimelineId(1)).unwrap();
        stream.next(Duration::from_secs(60)).err().unwrap()
    });
    assert!(matches!(error, PostgresError::TooLarge { .. }), "{error:?}");
}

/// A whole backup as a server says it.
fn backup_script() -> Vec<u8> {
    let columns = |names: &[&str]| {
        let mut body = (names.len() as u16).to_be_bytes().to_vec();
        for name in names {
            body.extend(name.bytes().chain([0; 19]));
        }
        framed(b'T', &body)
    };
    let row = |cells: &[Option<&str>]| {
        let mut body = (cells.len() as u16).to_be_bytes().to_vec();
        for cell in cells {
            body.extend(cell.map_or(-1, |cell| cell.len() as i32).to_be_bytes());
            body.extend(cell.unwrap_or_default().bytes());
        }
        framed(b'D', &body)
    };
    let done = framed(b'C', b"SELECT\0");
    let position = [columns(&["recptr", "tli"]), row(&[Some("0/2000028"), Some("1")]), done.clone()].concat();
    [
        welcome(),
        position.clone(),
        columns(&["spcoid", "spclocation", "size"]),
        row(&[Some("16384"), Some("/space"), Some("7")]),
        row(&[None, None, None]),
        done.clone(),
        framed(b'H', &[0, 0, 0]),
        framed(b'd', b"nbase.tar\0\0"),
        framed(b'd', b"dblocks"),
        framed(b'd', b"p\0\0\0\0\0\0\0\x07"),
        framed(b'd', b"m"),
        framed(b'd', b"d{}"),
        framed(b'c', b""),
        position,
        done,
        framed(b'Z', b"I"),
    ]
    .concat()
}

fn receive_backup(options: &ConnectOptions) -> Result<(usize, Lsn), PostgresError> {
    let connection = Connection::open(options, Purpose::Replication)?;
    let mut backup = connection.base_backup(&BaseBackupOptions::default())?;
    let mut pieces = backup.tablespaces().len();
    while backup.next()?.is_some() {
        pieces += 1;
    }
    Ok((pieces, backup.finish()?.0.end))
}

#[test]
fn a_backup_that_is_cut_anywhere_is_an_error() {
    let script = backup_script();
    assert_eq!(against(&script, receive_backup).unwrap(), (7, Lsn(0x200_0028)));
    for cut in 0..script.len() {
        assert!(against(&script[..cut], receive_backup).is_err(), "cut at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_backup_with_changed_bytes_makes_nobody_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut script = backup_script();
        for (at, byte) in changes {
            let at = at.index(script.len());
            script[at] = byte;
        }
        let _ = against(&script, receive_backup);
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _ = fuzz_backend(&bytes);
    }
}

#[test]
fn the_door_for_fuzzing_reads_what_a_server_says() {
    assert!(fuzz_backend(&backup_script()));
    assert!(!fuzz_backend(b"d\0\0\0\x05?"));
}
