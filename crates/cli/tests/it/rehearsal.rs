//! Rehearsals: the loss that is printed is counted again here, and targets are only read.

use crate::place::{Place, Ran};
use crate::tree;
use rusqlite::Connection;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Without a repository named, as a newcomer has it.
fn rehearse(place: &Place, arguments: &[&str]) -> Command {
    let mut command = place.command(&[&["rehearse"], arguments].concat());
    command.env_remove("LIFEBOAT_REPOSITORY").env_remove("LIFEBOAT_KEY").env_remove("LIFEBOAT_PASSPHRASE");
    command
}

#[test]
fn the_loss_that_is_printed_equals_an_independent_count() {
    let place = Place::empty();
    std::fs::create_dir(place.path("scratch")).unwrap();
    let ran = Ran::of(&mut rehearse(&place, &["--keep", "--json", "--scratch", "scratch"])).expect(0);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["proof"]["verdict"], "proven");
    let log = std::fs::read_to_string(place.path(document["loss"]["log"].as_str().unwrap())).unwrap();
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let acknowledged: BTreeSet<i64> =
        whole.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    let kept = place.path(document["kept"].as_str().unwrap());
    let database = Connection::open(kept.join("application/app.db")).unwrap();
    let mut statement = database.prepare("select seq from entries").unwrap();
    let restored: BTreeSet<i64> =
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let lost = acknowledged.difference(&restored).count();
    assert!(lost > 0, "nothing was lost in five seconds of writing");
    assert_eq!(document["loss"]["lost_writes"], lost);
    assert_eq!(document["loss"]["acknowledged_writes"], acknowledged.len());
    assert_eq!(document["loss"]["recovered_writes"], acknowledged.intersection(&restored).count());
    assert!(document["proof"]["restore_seconds"].as_f64().unwrap() > 0.0, "measured, not made up: {ran}");
    assert!(document["parts"]["protect_seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_rehearsal_says_what_it_measured_and_leaves_nothing_behind() {
    let place = Place::new();
    std::fs::create_dir(place.path("scratch")).unwrap();
    let ran = place.run(&["rehearse", "--scratch", "scratch"]).expect(0);
    for line in [
        "protect ",
        "restore ",
        "snapshot ",
        "proof                 proven",
        "acknowledged writes",
        "recovered ",
        "lost ",
    ] {
        assert!(ran.stdout.lines().any(|said| said.starts_with(line)), "no line `{line}`: {ran}");
    }
    assert_eq!(std::fs::read_dir(place.path("scratch")).unwrap().count(), 0);
    let points = place.json(&["points", "demonstration"]);
    assert_eq!(points["points"].as_array().unwrap().len(), 1, "a named repository keeps the snapshot");
}

/// Found by these tests: the writer went on for ever after its rehearsal had been killed.
#[test]
fn the_writer_ends_with_its_rehearsal() {
    let place = Place::empty();
    std::fs::create_dir(place.path("scratch")).unwrap();
    let scratch = place.path("scratch");
    let mut command = rehearse(&place, &["--scratch", scratch.to_str().unwrap()]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while writers(&scratch) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "the rehearsal ended before its writer was seen");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for _ in 0..6000 {
        if writers(&scratch) == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the writer goes on without its rehearsal");
}

/// How many writers work below a folder.
fn writers(scratch: &Path) -> usize {
    let needle = scratch.to_str().unwrap();
    let lines = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).into_owned())
    });
    lines.filter(|line| line.contains("rehearse-writer") && line.contains(needle)).count()
}

#[test]
fn a_folder_is_only_read() {
    let place = Place::empty();
    place.write("tree/a.txt", "first\n");
    place.write("tree/sub/b.txt", "second\n");
    std::fs::create_dir(place.path("scratch")).unwrap();
    let before = tree::of(&place.path("tree"));
    let ran = Ran::of(&mut rehearse(&place, &["tree", "--scratch", "scratch", "--keep", "--json"])).expect(0);
    assert_eq!(tree::of(&place.path("tree")), before);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&document["proof"]["verdict"], &document["proof"]["files"]), (&"proven".into(), &2.into()));
    let kept = place.path(document["kept"].as_str().unwrap()).join("restored");
    assert_eq!(tree::of(&kept), before, "what is kept is what was restored");
    let text = Ran::of(&mut rehearse(&place, &["tree"])).expect(0);
    assert!(text.stdout.contains("would be lost") && text.stdout.contains("proven"), "{text}");
}

#[test]
fn a_database_at_rest_is_only_read() {
    let place = Place::empty();
    let path = place.path("app.db");
    let database = Connection::open(&path).unwrap();
    let rows = "pragma journal_mode = wal; create table t (x); insert into t values (randomblob(50000));";
    database.execute_batch(rows).unwrap();
    let read = || ["app.db", "app.db-wal"].map(|name| std::fs::read(place.path(name)).unwrap());
    let before = read();
    let ran = Ran::of(&mut rehearse(&place, &["app.db", "--json"])).expect(0);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["proof"]["database"]["tables"][0]["rows"], 1);
    assert!(read() == before, "the database or its log was changed");
    drop(database);
}

#[test]
fn a_database_is_proven_while_two_processes_write_to_it() {
    let place = Place::empty();
    let path = place.path("app.db");
    let database = Connection::open(&path).unwrap();
    let tables = "pragma journal_mode = wal; create table t0 (n integer primary key, x); create table t1 (n integer primary key, x);";
    database.execute_batch(tables).unwrap();
    let mut running: Vec<Child> = (0..2).map(|n| writer(&path, n)).collect();
    let count = |table: &str| -> i64 {
        database.query_row(&format!("select count(*) from {table}"), [], |row| row.get(0)).unwrap()
    };
    while count("t0") < 20 || count("t1") < 20 {
        std::thread::sleep(Duration::from_millis(10));
    }
    for _ in 0..3 {
        let before = [count("t0"), count("t1")];
        let ran = Ran::of(&mut rehearse(&place, &["app.db", "--json"])).expect(0);
        let document: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(document["proof"]["verdict"], "proven", "{ran}");
        for (n, before) in before.into_iter().enumerate() {
            let rows = document["proof"]["database"]["tables"][n]["rows"].as_i64().unwrap();
            assert!(rows >= before, "table {n}: {rows} rows, and {before} were there before");
        }
    }
    for child in &mut running {
        assert!(child.try_wait().unwrap().is_none(), "a writer was disturbed");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let whole: String = database.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok");
    for table in ["t0", "t1"] {
        let newest: i64 =
            database.query_row(&format!("select max(n) from {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(newest, count(table), "no write is missing");
    }
}

fn writer(database: &Path, table: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "rehearsal::a_process_that_writes", "--ignored"])
        .env("LIFEBOAT_TEST_WRITER", database)
        .env("LIFEBOAT_TEST_TABLE", format!("t{table}"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "run by another test, as a process of its own"]
fn a_process_that_writes() {
    let database = Connection::open(std::env::var_os("LIFEBOAT_TEST_WRITER").unwrap()).unwrap();
    database.busy_timeout(Duration::from_secs(30)).unwrap();
    let table = std::env::var("LIFEBOAT_TEST_TABLE").unwrap();
    for n in 1i64.. {
        database.execute(&format!("insert into {table} values (?1, randomblob(3000))"), [n]).unwrap();
    }
}
