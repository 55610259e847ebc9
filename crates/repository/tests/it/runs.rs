//! Records of runs: each number is somebody's once, and a record says whose it is.

#![expect(clippy::unwrap_used, reason = "tests; the lint only knows functions that are marked as such")]

use crate::logs::directory_repository;
use crate::support::*;
use lifeboat_objects::{Key, ObjectStore};
use lifeboat_repository::ids::RunName;
use lifeboat_repository::{CheckOptions, CheckReport, Repository, RepositoryError, RunRecordCreation, check};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};

fn run(name: &str) -> RunName {
    RunName::new(name).unwrap()
}

fn checked(repository: &Arc<Repository>) -> CheckReport {
    check(repository, CheckOptions::default(), &|_, _| ()).unwrap()
}

fn record(
    repository: &Repository,
    run: &RunName,
    number: u64,
    bytes: &[u8],
) -> Result<RunRecordCreation, RepositoryError> {
    repository.create_run_record(&repository.writer().unwrap(), run, number, bytes)
}

#[test]
fn a_record_is_read_as_it_was_written_and_never_overwritten() {
    let house = House::new();
    let (one, other) = (run("20261122t190000z-07"), run("20261122t190000z-0"));
    for number in 1..=3 {
        let written = record(&house.repository, &one, number, format!("record {number}").as_bytes());
        assert_eq!(written.unwrap(), RunRecordCreation::Created);
    }
    assert_eq!(record(&house.repository, &other, 1, b"").unwrap(), RunRecordCreation::Created);
    let RunRecordCreation::Taken(Some(there)) = record(&house.repository, &one, 2, b"other").unwrap() else {
        panic!("it was overwritten");
    };
    // Tried again after an answer was lost: whoever does so knows its own bytes and its own key.
    let again = record(&house.repository, &one, 2, b"record 2").unwrap();
    assert_eq!(again, RunRecordCreation::Taken(Some(there.clone())));
    assert_eq!(there.bytes, b"record 2");
    assert_eq!(there.writer, house.repository.writer().unwrap().id());
    assert_eq!(house.repository.read_run_record(&one, 2).unwrap(), there);
    assert_eq!(house.repository.run_record_numbers(&one).unwrap(), [1, 2, 3]);
    assert_eq!(house.repository.run_record_numbers(&other).unwrap(), [1]);
    assert_eq!(house.repository.runs().unwrap(), [other, one.clone()]);
    assert!(house.repository.read_run_record(&one, 4).unwrap_err().is_not_found());
    assert!(checked(&house.repository).problems.is_empty());
}

#[test]
fn of_two_executors_one_gets_a_number_and_the_other_reads_what_stands_there() {
    let house = House::new();
    let state = tempfile::tempdir().unwrap();
    let elsewhere = house.open_elsewhere(state.path()).unwrap();
    let (ready, name) = (Barrier::new(2), run("r"));
    for number in 1..=20 {
        let outcomes: Vec<RunRecordCreation> = std::thread::scope(|scope| {
            let both: [(&Arc<Repository>, &[u8]); 2] = [(&house.repository, b"a"), (&elsewhere, b"b")];
            let claims = both.map(|(repository, bytes)| {
                let (ready, name) = (&ready, &name);
                scope.spawn(move || {
                    ready.wait();
                    record(repository, name, number, bytes).unwrap()
                })
            });
            claims.into_iter().map(|claim| claim.join().unwrap()).collect()
        });
        let won = outcomes.iter().filter(|outcome| **outcome == RunRecordCreation::Created).count();
        assert_eq!(won, 1, "{outcomes:?}");
        let there = house.repository.read_run_record(&name, number).unwrap();
        assert!(outcomes.contains(&RunRecordCreation::Taken(Some(there))), "{outcomes:?}");
    }
}

/// The same bytes by another writer are another's claim: both would act.
#[test]
fn equal_records_of_two_writers_are_two() {
    let house = House::new();
    let state = tempfile::tempdir().unwrap();
    let elsewhere = house.open_elsewhere(state.path()).unwrap();
    assert_eq!(record(&house.repository, &run("r"), 1, b"same").unwrap(), RunRecordCreation::Created);
    assert!(matches!(
        record(&elsewhere, &run("r"), 1, b"same").unwrap(),
        RunRecordCreation::Taken(Some(there)) if there.writer == house.repository.writer().unwrap().id()
    ));
}

#[test]
fn what_is_no_record_is_taken_and_damage() {
    let house = House::new();
    let name = run("r");
    record(&house.repository, &name, 1, b"one").unwrap();
    let bytes = house.store.get(&Key::new("runs/r/000000000001").unwrap()).unwrap();
    // Moved to another number, and to another run; and what nobody signed.
    house.store.create(&Key::new("runs/r/000000000002").unwrap(), &bytes).unwrap();
    house.store.create(&Key::new("runs/s/000000000001").unwrap(), &bytes).unwrap();
    house.store.create(&Key::new("runs/r/000000000003").unwrap(), b"noise").unwrap();
    for (name, number) in [("r", 2), ("s", 1), ("r", 3)] {
        let name = run(name);
        assert!(!house.repository.read_run_record(&name, number).unwrap_err().is_not_found());
        assert_eq!(record(&house.repository, &name, number, b"x").unwrap(), RunRecordCreation::Taken(None));
    }
    let problems = checked(&house.repository).problems;
    assert_eq!(problems.len(), 3, "{problems:?}");
}

#[test]
fn a_record_without_a_place_is_refused() {
    let house = House::new();
    for (number, bytes) in [(0, 1), (1_000_000_000_000, 1), (1, (1 << 20) + 1)] {
        let refused = record(&house.repository, &run("r"), number, &vec![0; bytes]).unwrap_err();
        assert!(matches!(refused, RepositoryError::RunRecord { .. }), "{refused}");
    }
    assert!(house.repository.runs().unwrap().is_empty());
}

const CHILD_ROOM: &str = "LIFEBOAT_TEST_RUNS_ROOM";

/// In a process of its own: one record. Does nothing unless it was started for it.
#[test]
fn recording() {
    let Some(room) = std::env::var_os(CHILD_ROOM) else { return };
    let repository = directory_repository(Path::new(&room), "executor");
    assert_eq!(record(&repository, &run("r"), 1, b"intent").unwrap(), RunRecordCreation::Created);
}

#[test]
fn a_record_is_there_or_not_however_its_writer_ends() {
    for (failpoint, is_there) in [("runs::before-put=kill", false), ("runs::after-put=kill", true)] {
        let room = tempfile::tempdir().unwrap();
        drop(directory_repository(room.path(), "executor"));
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["runs::recording", "--exact", "--test-threads=1"])
            .env(CHILD_ROOM, room.path())
            .env("LIFEBOAT_FAILPOINTS", failpoint)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(!ended.unwrap().success(), "{failpoint} ended it");
        let repository = directory_repository(room.path(), "executor");
        assert_eq!(repository.read_run_record(&run("r"), 1).is_ok(), is_there, "{failpoint}");
        // Whoever begins again finds its own record, or makes it.
        let again = record(&repository, &run("r"), 1, b"intent").unwrap();
        assert_eq!(again == RunRecordCreation::Created, !is_there, "{failpoint}: {again:?}");
        assert_eq!(repository.read_run_record(&run("r"), 1).unwrap().bytes, b"intent");
    }
}
