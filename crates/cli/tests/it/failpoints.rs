//! A kill at every named failpoint that a command can reach. Which there are is read from the sources, so that
//! a new one is either reached here or listed with the reason why it cannot be.

use crate::place::{PASSPHRASE, Place, Ran, noise};
use crate::tree;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Failpoints that no command reaches, and why.
const OUT_OF_REACH: &[(&str, &str)] = &[
    ("log::", "only with a server; the repository's own tests kill there"),
    ("postgres::", "only with a server; the tests of recovery kill there"),
    ("export::", "only with a server; the tests of recovery kill there"),
    ("synchronous::", "only with a server; the driver's own tests kill there"),
    ("spool::", "only with a server elsewhere; the driver's own tests kill there"),
    ("leader::", "leading begins with `serve`; the repository's own tests kill there"),
    ("runs::", "only a mirrored run; the repository's own tests kill there"),
    ("run::", "a run has steps and people; its own tests kill there, and those of the recoveries"),
    ("base::nobody", "a test's own"),
];

/// The commands that write, each with what must be there before it.
const COMMANDS: &[(&str, &[&str])] = &[
    ("init", &["repo", "init", "--repository", "new", "--no-recovery-key"]),
    ("backup", &["backup", "tree"]),
    ("backup of a database with a log", &["backup", "wal.db"]),
    ("backup of a database with a log that was left", &["backup", "log.db"]),
    ("backup of a database with a journal", &["backup", "journal.db"]),
    ("backup of a database with a hot journal", &["backup", "hot.db"]),
    ("restore", &["restore", "tree", "--to", "latest", "--into", "out"]),
    ("prove", &["prove", "tree"]),
    ("prune", &["prune", "--at-least", "1", "--max-unused", "0"]),
    ("forget", &["forget", "tree", "latest"]),
    ("hold", &["hold", "add", "tree", "latest", "--reason", "test"]),
    ("copy", &["copy", "--to", "copy", "--to-key", "env:LIFEBOAT_PASSPHRASE"]),
    ("key add", &["key", "add", "--command", "echo 1234567890123456"]),
    ("key rotate", &["key", "rotate", "--command", "echo 1234567890123456"]),
    ("key pair", &["key", "pair", "mine.key"]),
    (
        "writers enrol",
        &[
            "repo",
            "writers",
            "enrol",
            "--public-key",
            "abababababababababababababababababababababababababababababababab",
        ],
    ),
];

/// What the commands of `key add` and `key rotate` print.
const NEW_KEY: &str = "1234567890123456";

/// What was there before the kill.
struct Past {
    place: Place,
    snapshots: Vec<(String, BTreeMap<PathBuf, tree::Item>)>,
}

impl Past {
    fn new() -> Self {
        let place = Place::new();
        let mut snapshots = Vec::new();
        for n in 0..2 {
            place.write("tree/fixed", noise(1, 20_000));
            place.write("tree/changing", noise(10 + n, 30_000));
            snapshots.push((place.backup(), tree::of(&place.path("tree"))));
        }
        place.write("tree/new/folder/file", noise(99, 10_000));
        make_databases(&place);
        let mut init =
            place.command(&["repo", "init", "-r", "copy", "--copy-of", "repo", "--no-recovery-key"]);
        init.env("LIFEBOAT_KEY", "env:LIFEBOAT_PASSPHRASE").env("LIFEBOAT_ORIGIN_PASSPHRASE", PASSPHRASE);
        Ran::of(&mut init).expect(0);
        Self { place, snapshots }
    }
}

fn make_databases(place: &Place) {
    for (name, mode) in [("wal.db", "wal"), ("journal.db", "delete")] {
        let database = rusqlite::Connection::open(place.path(name)).unwrap();
        let rows = format!(
            "pragma journal_mode = {mode}; create table t (x); insert into t values (randomblob(100000));"
        );
        database.execute_batch(&rows).unwrap();
    }
    leave_log(place);
    leave_hot_journal(&place.path("hot.db"));
}

/// A database whose log was not copied back: the last connection did not close it.
fn leave_log(place: &Place) {
    let database = rusqlite::Connection::open(place.path("live.db")).unwrap();
    let rows = "pragma journal_mode = wal; create table t (x); insert into t values (randomblob(100000));";
    database.execute_batch(rows).unwrap();
    for (from, to) in ["", "-wal", "-shm"].map(|end| (format!("live.db{end}"), format!("log.db{end}"))) {
        std::fs::copy(place.path(&from), place.path(&to)).unwrap();
    }
}

/// A transaction that has written to the database already when its process dies.
fn leave_hot_journal(database: &Path) {
    let made = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "failpoints::a_process_that_dies_in_a_transaction", "--ignored"])
        .env("LIFEBOAT_TEST_HOT_JOURNAL", database)
        .output()
        .unwrap();
    assert!(!made.status.success());
    let journal = database.with_extension("db-journal");
    assert!(std::fs::metadata(journal).is_ok_and(|journal| journal.len() > 512), "the journal is hot");
}

#[test]
#[ignore = "run by another test, as a process of its own"]
fn a_process_that_dies_in_a_transaction() {
    let path = std::env::var_os("LIFEBOAT_TEST_HOT_JOURNAL").unwrap();
    let database = rusqlite::Connection::open(path).unwrap();
    let rows =
        "create table t (x); with recursive n(i) as (select 1 union all select i + 1 from n where i < 500)
        insert into t select randomblob(1000) from n;
        pragma cache_size = 2; begin immediate; update t set x = randomblob(1000);";
    database.execute_batch(rows).unwrap();
    std::process::abort();
}

fn past() -> &'static Past {
    static PAST: OnceLock<Past> = OnceLock::new();
    PAST.get_or_init(Past::new)
}

/// Every command is killed at each failpoint that it reaches, at its first arrival there.
fn killed_everywhere(commands: &[&str]) {
    for (what, arguments) in COMMANDS.iter().filter(|(what, _)| commands.contains(what)) {
        for (failpoint, _) in reached_by(past(), what, arguments) {
            kill_there(past(), arguments, &failpoint, 0);
        }
    }
}

/// What moves the most is also killed in the middle of its work.
fn killed_halfway(commands: &[&str]) {
    for (what, arguments) in COMMANDS.iter().filter(|(what, _)| commands.contains(what)) {
        for (failpoint, times) in
            reached_by(past(), what, arguments).into_iter().filter(|(_, times)| *times > 1)
        {
            kill_there(past(), arguments, &failpoint, times / 2);
        }
    }
}

#[test]
fn backups_that_are_killed_lose_nothing() {
    killed_everywhere(&[
        "backup",
        "backup of a database with a log",
        "backup of a database with a log that was left",
        "backup of a database with a journal",
        "backup of a database with a hot journal",
    ]);
    killed_halfway(&["backup"]);
}

#[test]
fn prunes_and_copies_that_are_killed_lose_nothing() {
    killed_everywhere(&["prune", "forget", "hold", "copy"]);
    killed_halfway(&["prune"]);
}

#[test]
fn restores_and_proofs_that_are_killed_lose_nothing() {
    killed_everywhere(&["restore", "prove"]);
    killed_halfway(&["restore"]);
}

#[test]
fn changes_of_keys_that_are_killed_lose_nothing() {
    killed_everywhere(&["init", "key add", "key rotate", "key pair", "writers enrol"]);
}

#[test]
fn every_named_failpoint_is_reached_by_a_command() {
    let mut seen = BTreeSet::new();
    for (what, arguments) in COMMANDS {
        seen.extend(reached_by(past(), what, arguments).into_keys());
    }
    assert_all_are_known(&seen);
}

/// How often a command reaches each failpoint.
fn reached_by(past: &Past, what: &str, arguments: &[&str]) -> BTreeMap<String, u32> {
    let twin = past.place.twin();
    let seen = twin.path("seen");
    let ran = Ran::of(command(&twin, arguments).env("LIFEBOAT_FAILPOINTS_SEEN", &seen));
    assert_eq!(ran.code, Some(0), "{what}: {ran}");
    let mut reached = BTreeMap::new();
    for name in std::fs::read_to_string(seen).unwrap_or_default().lines() {
        *reached.entry(name.to_owned()).or_insert(0) += 1;
    }
    reached
}

/// A new repository is opened by its passphrase: it has no other slot yet.
fn command(place: &Place, arguments: &[&str]) -> std::process::Command {
    let mut command = place.command(arguments);
    if arguments.contains(&"init") {
        command.env_remove("LIFEBOAT_KEY");
    }
    command
}

fn kill_there(past: &Past, arguments: &[&str], failpoint: &str, let_pass: u32) {
    let twin = past.place.twin();
    let case = format!("{} killed at {failpoint}, arrival {}", arguments.join(" "), let_pass + 1);
    let armed = format!("{failpoint}={let_pass}*kill");
    let ran = Ran::of(command(&twin, arguments).env("LIFEBOAT_FAILPOINTS", armed));
    assert_eq!(ran.signal, Some(9), "{case}: {ran}");
    if arguments.contains(&"init") {
        return assert_init_can_be_run_again(&twin, arguments, &case);
    }
    if arguments[..2] == ["key", "rotate"] && twin.run(&["points"]).code != Some(0) {
        // The old key is retired already, so that the new one must open.
        twin.write("key", NEW_KEY);
    }
    let checked = twin.run(&["check", "--read-data"]);
    assert_eq!(checked.code, Some(0), "{case}: {checked}");
    let forgotten = past.snapshots.len() - assert_snapshots(past, &twin, &case);
    let may_forget = match arguments[0] {
        "prune" => 1,
        "forget" => 1,
        _ => 0,
    };
    assert!(forgotten <= may_forget, "{case}: {forgotten} snapshots are gone");
    let _ = std::fs::remove_dir_all(twin.path("out"));
    // What was cut off can be done again, if it is not done already.
    let again = command(&twin, arguments).output().unwrap();
    let again = Ran::from(again);
    assert!(
        again.code == Some(0) || matches!(arguments, ["forget" | "key", ..]),
        "{case}, then again: {again}"
    );
    let _ = std::fs::remove_dir_all(twin.path("out"));
    if arguments[..2] == ["key", "rotate"] {
        twin.write("key", NEW_KEY);
    }
    twin.assert_healthy(&case);
}

fn assert_init_can_be_run_again(place: &Place, arguments: &[&str], case: &str) {
    let again = Ran::of(&mut command(place, arguments));
    let done = again.code == Some(0) || again.stderr.contains("holds a repository already");
    assert!(done, "{case}, then again: {again}");
    let backup = Ran::of(&mut command(
        place,
        &["backup", "tree", "--repository", "new", "--key", "env:LIFEBOAT_PASSPHRASE"],
    ));
    assert_eq!(backup.code, Some(0), "{case}, then backup: {backup}");
}

/// How many of the earlier snapshots are there; each that is must restore byte for byte.
fn assert_snapshots(past: &Past, place: &Place, case: &str) -> usize {
    let points = place.run(&["points", "--json"]);
    assert_eq!(points.code, Some(0), "{case}: {points}");
    let there: Vec<_> = past.snapshots.iter().filter(|(id, _)| points.stdout.contains(id)).collect();
    for (id, expected) in &there {
        let into = format!("back-{}", &id[..12]);
        place.ok(&["restore", "tree", "--to", id, "--into", &into]);
        assert!(tree::of(&place.path(&into)) == *expected, "{case}: snapshot {id} came back otherwise");
    }
    there.len()
}

fn assert_all_are_known(seen: &BTreeSet<String>) {
    let out_of_reach = |name: &str| OUT_OF_REACH.iter().any(|(prefix, _)| name.starts_with(prefix));
    let named = named_in_sources();
    let missing: Vec<_> = named.iter().filter(|name| !seen.contains(*name) && !out_of_reach(name)).collect();
    assert!(missing.is_empty(), "no command reaches {missing:?}");
    let wrongly: Vec<_> = seen.iter().filter(|name| out_of_reach(name)).collect();
    assert!(wrongly.is_empty(), "listed as out of reach, but reached: {wrongly:?}");
    for (prefix, _) in OUT_OF_REACH {
        assert!(named.iter().any(|name| name.starts_with(prefix)), "{prefix} names no failpoint any more");
    }
}

/// Every failpoint that the sources of the floors below name.
fn named_in_sources() -> BTreeSet<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(crates).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let floor = ["base", "objects", "repository", "receipts", "recovery", "run"].contains(&name.as_str())
            || name.starts_with("store");
        if floor {
            names_below(&entry.path().join("src"), &mut names);
        }
    }
    names
}

fn names_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names_below(&path, names);
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            for call in text.split("reach(").skip(1) {
                let name = call.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                names.extend(name.filter(|name| name.contains("::")).map(str::to_owned));
            }
        }
    }
}
