//! S3's bad days: a server that dies, refuses, stalls, tears, or is none.

use crate::alone;
use lifeboat_base::{Hint, Secret, report};
use lifeboat_objects::remote::patiently;
use lifeboat_objects::s3::{S3Config, S3Store};
use lifeboat_objects::testing::{self, ACCESS_KEY};
use lifeboat_objects::{
    Creation, Key, Location, ObjectError, ObjectErrorKind, ObjectStore, S3Location, list_all, open,
};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

/// A store on a server of our own on this machine, which allows it half a second of silence.
fn at(listener: &TcpListener) -> S3Store {
    let location = S3Location {
        bucket: "bucket".to_owned(),
        endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
        ..S3Location::default()
    };
    let mut config = S3Config::new(location).with_keys("access", Secret::new(b"HUNTER2".to_vec()));
    config.timeout = Duration::from_millis(500);
    S3Store::connect(config).unwrap()
}

/// A server that treats every connection alike, in a thread that ends with the test's process.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let accepting = listener.try_clone().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in accepting.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    listener
}

/// Reads a request's head, answers with these bytes, and closes.
fn answering(answer: impl Into<Vec<u8>>) -> TcpListener {
    let answer = answer.into();
    server(move |mut stream| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
            head.push(byte[0]);
        }
        let _ = stream.write_all(&answer);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

fn with_status(status: &str) -> TcpListener {
    answering(format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwords"))
}

fn all_requests(store: &S3Store) -> Vec<ObjectError> {
    let name = key("a/b");
    vec![
        store.create(&name, b"bytes").unwrap_err(),
        store.get(&name).unwrap_err(),
        store.get_range(&name, 1, 1).unwrap_err(),
        store.head(&name).unwrap_err(),
        list_all(store, "").unwrap_err(),
        store.delete(&name).unwrap_err(),
    ]
}

#[test]
fn a_server_that_stalls_is_a_transient_error_within_the_time_limit() {
    let held = std::sync::Mutex::new(Vec::new());
    let listener = server(move |stream| held.lock().unwrap().push(stream));
    for error in all_requests(&at(&listener)) {
        assert_eq!(error.kind, ObjectErrorKind::Transient, "{}", report(&error));
        assert!(report(&error).contains("no answer within 500ms"), "{}", report(&error));
    }
}

#[test]
fn a_server_that_stalls_in_the_middle_is_noticed_too() {
    let listener = server(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nLast-Modified: Sun, 22 Nov 2026 02:00:00 GMT\r\nETag: \"x\"\r\n\r\nhalf");
        thread::sleep(Duration::from_secs(600));
    });
    let error = at(&listener).get(&key("a")).unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Transient, "{}", report(&error));
}

/// The bytes of an object earn time, but not while nobody takes them.
#[test]
fn a_server_that_takes_no_bytes_is_noticed_before_their_time_is_up() {
    let held = std::sync::Mutex::new(Vec::new());
    let listener = server(move |stream| held.lock().unwrap().push(stream));
    let error = at(&listener).create(&key("a"), &vec![0; 32 << 20]).unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Transient, "{}", report(&error));
    assert!(!report(&error).contains("no answer within"), "{}", report(&error));
}

#[test]
fn a_redirection_is_not_followed() {
    let elsewhere = server(|_| panic!("a signed request was sent elsewhere"));
    let location = format!("Location: http://{}/\r\n", elsewhere.local_addr().unwrap());
    let head = format!(
        "HTTP/1.1 307 Temporary Redirect\r\n{location}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    for error in all_requests(&at(&answering(head))) {
        assert_eq!(error.kind, ObjectErrorKind::Other, "{}", report(&error));
    }
}

#[test]
fn a_connection_that_breaks_in_the_middle_is_transient() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nLast-Modified: Sun, 22 Nov 2026 02:00:00 GMT\r\nETag: \"x\"\r\n\r\nhalf";
    let error = at(&answering(head)).get(&key("a")).unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Transient, "{}", report(&error));
}

#[test]
fn nobody_listening_is_transient() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let store = at(&listener);
    drop(listener);
    for error in all_requests(&store) {
        assert_eq!(error.kind, ObjectErrorKind::Transient, "{}", report(&error));
    }
}

#[test]
fn what_a_server_answers_is_sorted() {
    for (status, kind) in [
        ("500 Internal Server Error", ObjectErrorKind::Transient),
        ("503 Slow Down", ObjectErrorKind::Transient),
        ("429 Too Many Requests", ObjectErrorKind::Transient),
        ("507 Insufficient Storage", ObjectErrorKind::Full),
        ("403 Forbidden", ObjectErrorKind::Denied),
        ("401 Unauthorized", ObjectErrorKind::Denied),
        ("400 Bad Request", ObjectErrorKind::Other),
        ("301 Moved Permanently", ObjectErrorKind::Other),
    ] {
        let listener = with_status(status);
        for error in all_requests(&at(&listener)) {
            assert_eq!(error.kind, kind, "{status}: {}", report(&error));
            assert!(!report(&error).contains("HUNTER2"));
        }
    }
}

#[test]
fn a_name_that_is_taken_existed_and_a_conflict_over_nothing_may_be_tried_again() {
    let store = at(&with_status("412 Precondition Failed"));
    assert_eq!(store.create(&key("a"), b"1").unwrap(), Creation::Existed);
    let listener = server(|mut stream| {
        let mut request = [0; 4];
        let _ = stream.read_exact(&mut request);
        let status = if &request == b"PUT " { "409 Conflict" } else { "404 Not Found" };
        let _ = stream.write_all(
            format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    assert_eq!(at(&listener).create(&key("a"), b"1").unwrap_err().kind, ObjectErrorKind::Transient);
}

#[test]
fn what_speaks_no_s3_is_an_error() {
    for error in all_requests(&at(&answering("SSH-2.0-OpenSSH_9.2\r\n"))) {
        assert_ne!(error.kind, ObjectErrorKind::NotFound, "{}", report(&error));
    }
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n<ht>";
    assert_eq!(list_all(&at(&answering(page)), "").unwrap_err().kind, ObjectErrorKind::Other);
}

/// More than an object can have must not be read into memory, whatever a server says.
#[test]
fn a_server_cannot_make_us_read_without_end() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 9000000000000\r\nLast-Modified: Sun, 22 Nov 2026 02:00:00 GMT\r\nETag: \"x\"\r\n\r\n";
    let error = at(&answering(head)).get(&key("a")).unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Other, "{}", report(&error));
    assert!(report(&error).contains("9000000000000 bytes"), "{}", report(&error));
}

/// A repository is opened before anybody waits for a server, and from wherever, another runtime included.
#[test]
fn a_store_works_and_is_dropped_on_a_thread_of_another_runtime() {
    let listener = with_status("403 Forbidden");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = at(&listener);
        assert_eq!(store.get(&key("a")).unwrap_err().kind, ObjectErrorKind::Denied);
        drop(store);
    });
}

#[test]
fn missing_credentials_are_said_before_the_first_request() {
    if alone::given().is_none() {
        let test = "s3::missing_credentials_are_said_before_the_first_request";
        // Where a machine's role would be asked for, nobody listens.
        let variables = [("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")];
        alone::run(
            test,
            &["env", "-u", "AWS_ACCESS_KEY_ID", "-u", "AWS_SECRET_ACCESS_KEY"],
            "yes",
            &variables,
        );
        return;
    }
    let location = Location::parse("s3://bucket/p?endpoint=http://127.0.0.1:1&timeout=2").unwrap();
    let error = open(&location).unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Denied, "{}", report(&error));
    assert!(report(&error).contains("AWS_ACCESS_KEY_ID is not set"), "{}", report(&error));
    assert!(error.hint().unwrap().contains("credentials"));
}

#[test]
fn credentials_and_server_come_from_the_environment() {
    let Some(url) = alone::given() else {
        let Some(server) = testing::seaweedfs() else { return };
        let prefix = server.config().location.prefix;
        let variables = [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", testing::SECRET_KEY),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &server.endpoint()),
        ];
        let test = "s3::credentials_and_server_come_from_the_environment";
        alone::run(test, &["env"], &format!("s3://{}/{prefix}?timeout=60", testing::BUCKET), &variables);
        return;
    };
    let store = open(&Location::parse(&url).unwrap()).unwrap();
    assert_eq!(store.create(&key("a/b"), b"bytes").unwrap(), Creation::Created);
    assert_eq!(store.get(&key("a/b")).unwrap(), b"bytes");
    assert!(store.location().contains("?endpoint=http://127.0.0.1:"), "{}", store.location());
}

#[test]
fn a_wrong_secret_is_refused_with_a_hint() {
    let Some(server) = testing::seaweedfs() else { return };
    let config = server.config();
    let good = S3Store::connect(config.clone()).unwrap();
    good.create(&key("a/b"), b"bytes").unwrap();
    let wrong = config.with_keys(ACCESS_KEY, Secret::new(b"HUNTER2".to_vec()));
    for error in all_requests(&S3Store::connect(wrong).unwrap()) {
        assert_eq!(error.kind, ObjectErrorKind::Denied, "{}", report(&error));
        assert!(error.hint().unwrap().contains("credentials"));
        assert!(!report(&error).contains("HUNTER2") && !report(&error).contains(testing::SECRET_KEY));
    }
    assert_eq!(good.get(&key("a/b")).unwrap(), b"bytes");
}

#[test]
fn a_bucket_that_is_not_there_is_said() {
    let Some(server) = testing::seaweedfs() else { return };
    let mut config = server.config();
    config.location.bucket = "no-such-bucket".to_owned();
    let store = S3Store::connect(config).unwrap();
    assert!(list_all(&store, "").unwrap_err().is_not_found());
    assert!(store.get(&key("a")).unwrap_err().is_not_found());
}

#[test]
fn two_prefixes_do_not_see_each_other() {
    let Some(server) = testing::seaweedfs() else { return };
    let mut config = server.config();
    let outer = config.location.prefix.clone();
    let stores: Vec<S3Store> = ["x", "x-y", "xx"]
        .into_iter()
        .map(|name| {
            config.location.prefix = format!("{outer}/{name}");
            S3Store::connect(config.clone()).unwrap()
        })
        .collect();
    for store in &stores {
        store.create(&key("same/name"), store.location().as_bytes()).unwrap();
    }
    for store in &stores {
        assert_eq!(list_all(store, "").unwrap().len(), 1);
        assert_eq!(store.get(&key("same/name")).unwrap(), store.location().as_bytes());
    }
}

/// More than one page (1,000 names), used by many threads at once.
#[test]
fn listings_go_over_pages() {
    const OBJECTS: usize = 1_200;
    let Some(server) = testing::seaweedfs() else { return };
    let store = S3Store::connect(server.config()).unwrap();
    thread::scope(|scope| {
        for part in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for number in (part..OBJECTS).step_by(8) {
                    store.create(&key(&format!("pages/{number:05}")), b"x").unwrap();
                }
            });
        }
    });
    let names: Vec<String> = list_all(&store, "pages/").unwrap().iter().map(|l| l.key.to_string()).collect();
    let expected: Vec<String> = (0..OBJECTS).map(|number| format!("pages/{number:05}")).collect();
    assert_eq!(names, expected);
}

/// SeaweedFS does not list in byte order; who says that it does is told so, not served a wrong listing.
#[test]
fn a_wrong_promise_of_order_is_found_out() {
    let Some(server) = testing::seaweedfs() else { return };
    let mut config = server.config();
    config.location.ordered = true;
    let store = S3Store::connect(config).unwrap();
    for name in ["a/1", "a-b/1"] {
        store.create(&key(name), b"").unwrap();
    }
    assert_eq!(list_all(&store, "").unwrap_err().kind, ObjectErrorKind::Unsuitable);
    assert_eq!(lifeboat_objects::suitability(&store).unwrap_err().kind, ObjectErrorKind::Unsuitable);
}

/// Killed without warning while eight threads store; started again. What was acknowledged is there whole,
/// what was not is there whole or not at all, and who tries again for long enough notices nothing.
#[test]
fn a_server_that_is_killed_and_restarted_loses_nothing_that_it_acknowledged() {
    let Some(mut server) = testing::seaweedfs_alone() else { return };
    let mut config = server.config();
    config.timeout = Duration::from_secs(5);
    let store = Arc::new(S3Store::connect(config).unwrap());
    let bytes = |writer: u8, number: usize| vec![writer; 50_000 + number];
    let (acknowledged, failed) = thread::scope(|scope| {
        let writers: Vec<_> = (0..8u8)
            .map(|writer| {
                let store = &store;
                scope.spawn(move || {
                    for number in 0.. {
                        let name = key(&format!("w{writer}/{number:06}"));
                        if let Err(error) = store.create(&name, &bytes(writer, number)) {
                            return (number, error);
                        }
                    }
                    unreachable!()
                })
            })
            .collect();
        while list_all(&*store, "w0/").unwrap_or_default().len() < 5 {
            thread::sleep(Duration::from_millis(20));
        }
        server.kill();
        writers.into_iter().map(|writer| writer.join().unwrap()).unzip::<_, _, Vec<usize>, Vec<ObjectError>>()
    });
    for error in failed {
        assert_eq!(error.kind, ObjectErrorKind::Transient, "{}", report(&error));
    }
    server.restart_without_waiting().unwrap();
    let patient = patiently(store.clone()).give_up_after(Duration::from_secs(300));
    let first = key("w0/000000");
    while patient.get(&first).is_err_and(|error| error.is_transient()) {}
    for (writer, acknowledged) in (0..8u8).zip(acknowledged) {
        for number in 0..acknowledged {
            let name = key(&format!("w{writer}/{number:06}"));
            assert!(patient.get(&name).unwrap() == bytes(writer, number), "{name} was acknowledged");
        }
        let open = key(&format!("w{writer}/{acknowledged:06}"));
        let creation = patient.create(&open, &bytes(writer, acknowledged)).unwrap();
        assert!(patient.get(&open).unwrap() == bytes(writer, acknowledged), "{open} {creation:?}");
    }
    assert!(patient.retries() > 0, "the restart was waited for");
}
