//! Requests to runs: left once however often they are sent, read no further than they may be long.

#![expect(clippy::unwrap_used, reason = "tests; the lint only knows functions that are marked as such")]

use crate::logs::directory_repository;
use crate::support::*;
use lifeboat_objects::{Key, ObjectStore};
use lifeboat_repository::ids::{RequestId, RunName};
use lifeboat_repository::{
    CheckOptions, MAX_RUN_REQUEST_BYTES, Repository, RepositoryError, Role, Signer, check,
};
use std::path::Path;
use std::process::{Command, Stdio};

fn run(name: &str) -> RunName {
    RunName::new(name).unwrap()
}

fn id(n: u8) -> RequestId {
    RequestId([n; 16])
}

fn leave(repository: &Repository, run: &RunName, n: u8, bytes: &[u8]) -> Result<bool, RepositoryError> {
    repository.leave_run_request(&repository.writer().unwrap(), run, &id(n), bytes)
}

#[test]
fn a_request_is_left_once_and_read_by_whoever_carries_the_run_out() {
    let house = House::new();
    let state = tempfile::tempdir().unwrap();
    let elsewhere = house.open_elsewhere(state.path()).unwrap();
    let (one, other) = (run("20261122t190000z-07"), run("20261122t190000z-0"));
    for n in [3, 1, 2] {
        assert!(leave(&house.repository, &one, n, &[n]).unwrap());
    }
    assert!(leave(&elsewhere, &other, 1, b"").unwrap());
    // Its answer was lost: it is sent again and stays one. Nobody else, and nothing else, gets its name.
    assert!(leave(&house.repository, &one, 2, &[2]).unwrap());
    assert!(!leave(&house.repository, &one, 2, b"other").unwrap());
    assert!(!leave(&elsewhere, &one, 2, &[2]).unwrap());
    assert_eq!(elsewhere.run_requests(&one, 10).unwrap(), [id(1), id(2), id(3)]);
    assert_eq!(elsewhere.run_requests(&one, 2).unwrap(), [id(1), id(2)]);
    assert_eq!(elsewhere.run_requests(&one, 0).unwrap(), []);
    assert_eq!(elsewhere.run_requests(&other, 10).unwrap(), [id(1)]);
    let read = elsewhere.read_run_request(&one, &id(2)).unwrap();
    assert_eq!((read.bytes, read.writer), (vec![2], house.repository.writer().unwrap().id()));
    assert!(elsewhere.read_run_request(&one, &id(4)).unwrap_err().is_not_found());
    assert!(house.repository.runs().unwrap().is_empty(), "a request makes no run");
    assert!(check(&elsewhere, CheckOptions::default(), &|_, _| ()).unwrap().problems.is_empty());
}

#[test]
fn what_is_no_request_is_damage_and_is_not_read_whole() {
    let house = House::new();
    leave(&house.repository, &run("r"), 1, b"one").unwrap();
    let key = |run: &str, n: u8| Key::new(format!("requests/{run}/{}", id(n))).unwrap();
    let bytes = house.store.get(&key("r", 1)).unwrap();
    // Moved to another identity and to another run; what nobody signed; and what would fill the memory.
    house.store.create(&key("r", 2), &bytes).unwrap();
    house.store.create(&key("s", 1), &bytes).unwrap();
    house.store.create(&key("r", 3), b"noise").unwrap();
    house.store.create(&key("r", 4), &vec![0; 1 << 20]).unwrap();
    for (name, n) in [("r", 2), ("s", 1), ("r", 3), ("r", 4)] {
        let error = house.repository.read_run_request(&run(name), &id(n)).unwrap_err();
        assert!(!error.is_not_found(), "{error}");
        assert_eq!(error.to_string().contains("larger"), n == 4, "{error}");
        assert!(!leave(&house.repository, &run(name), n, b"x").unwrap(), "it is never overwritten");
    }
    let checked = check(&house.repository, CheckOptions::default(), &|_, _| ()).unwrap();
    assert_eq!(checked.problems.len(), 4, "{:?}", checked.problems);
}

/// A host of which nothing is trusted but that it writes its own datasets: it pauses no recovery.
#[test]
fn who_can_only_write_asks_nothing() {
    let house = House::new();
    let signer = Signer::from_seed(&[7; 32]);
    let enrol = |role| house.repository.enrol(signer.public(), "app-1", role, Vec::new()).unwrap();
    enrol(Role::Write);
    assert!(house.repository.leave_run_request(&signer, &run("r"), &id(1), b"pause").unwrap());
    enrol(Role::WriteOnly);
    let refused = house.repository.leave_run_request(&signer, &run("r"), &id(2), b"pause").unwrap_err();
    assert!(matches!(refused, RepositoryError::NotPermitted { .. }), "{refused}");
    let unheard = house.repository.read_run_request(&run("r"), &id(1)).unwrap_err();
    assert!(unheard.is_about_one_object() && unheard.to_string().contains("may not ask"), "{unheard}");
}

#[test]
fn a_request_that_is_too_large_is_refused_and_the_largest_is_read_back() {
    let house = House::new();
    let refused = leave(&house.repository, &run("r"), 1, &vec![0; MAX_RUN_REQUEST_BYTES + 1]).unwrap_err();
    assert!(matches!(refused, RepositoryError::RunRequest { .. }), "{refused}");
    // Noise does not get shorter by compression.
    let largest = noise(1, MAX_RUN_REQUEST_BYTES);
    assert!(leave(&house.repository, &run("r"), 1, &largest).unwrap());
    assert!(house.repository.read_run_request(&run("r"), &id(1)).unwrap().bytes == largest);
}

const CHILD_ROOM: &str = "LIFEBOAT_TEST_REQUESTS_ROOM";

/// In a process of its own: one request. Does nothing unless it was started for it.
#[test]
fn leaving() {
    let Some(room) = std::env::var_os(CHILD_ROOM) else { return };
    assert!(leave(&directory_repository(Path::new(&room), "asker"), &run("r"), 1, b"pause").unwrap());
}

#[test]
fn a_request_is_there_or_not_however_its_writer_ends() {
    for (failpoint, is_there) in [("runs::before-request=kill", false), ("runs::after-request=kill", true)] {
        let room = tempfile::tempdir().unwrap();
        drop(directory_repository(room.path(), "asker"));
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["run_requests::leaving", "--exact", "--test-threads=1"])
            .env(CHILD_ROOM, room.path())
            .env("LIFEBOAT_FAILPOINTS", failpoint)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(!ended.unwrap().success(), "{failpoint} ended it");
        let repository = directory_repository(room.path(), "asker");
        assert_eq!(repository.read_run_request(&run("r"), &id(1)).is_ok(), is_there, "{failpoint}");
        assert!(leave(&repository, &run("r"), 1, b"pause").unwrap());
        assert_eq!(repository.run_requests(&run("r"), 10).unwrap(), [id(1)]);
    }
}
