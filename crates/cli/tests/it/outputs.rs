//! What every command prints, as text and as a document, word for word.

use crate::place::{PASSPHRASE, PROGRAM, Place, Ran};
use crate::transcript::{Transcript, compare};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

/// A tree with one of each kind of entry, and times that do not differ from run to run.
fn make_tree(place: &Place) {
    place.write("tree/a.txt", "first\n");
    place.write("tree/sub/b.txt", "second\n");
    place.write("tree/sub/deep/c.bin", [0, 1, 2, 255]);
    crate::place::write_file(&place.path("tree").join(OsStr::from_bytes(b"odd\xff\nname")), b"odd\n");
    let script = "cd tree && ln -s a.txt link && ln a.txt name && mkfifo pipe && chmod -R u=rwX,g=rX,o=rX . && chmod 4750 sub/b.txt";
    sh(place, script);
    settle(place);
}

fn settle(place: &Place) {
    sh(place, "find tree -depth -exec touch -h -d 2026-01-02T03:04:05.678Z {} +");
}

fn sh(place: &Place, script: &str) {
    let ran = Ran::of(&mut place.wrapped("/bin/sh".as_ref(), &["-ec", script]));
    assert_eq!(ran.code, Some(0), "{script}: {ran}");
}

#[test]
fn a_repository_is_made() {
    let place = Place::empty();
    let mut seen = Transcript::new(&place);
    seen.run(&["repo", "init"]).run(&["repo", "init"]).run(&["key", "list"]);
    seen.both(&["repo", "writers", "list"]);
    seen.run(&["repo", "init", "--repository", "second", "--json"]);
    seen.run(&["repo", "init", "--repository", "third", "--no-recovery-key", "--lease", "10m"]);
    seen.compare("repo-init.txt");
}

#[test]
fn a_tree_goes_in_and_comes_back() {
    let place = Place::new();
    make_tree(&place);
    let mut seen = Transcript::new(&place);
    seen.run(&["points"]).run(&["points", "--json"]);
    seen.both(&["backup", "tree"]).both(&["points"]).run(&["points", "tree"]);
    seen.both(&["ls", "tree"]).both(&["ls", "-R", "tree", "sub"]).run(&["ls", "tree", "a.txt"]);
    place.write("tree/a.txt", "first, changed\n");
    place.write("tree/new.txt", "new\n");
    sh(&place, "chmod 700 tree/sub; rm tree/link");
    settle(&place);
    seen.run(&["backup", "./tree", "--name", "tree"]);
    let first = place.json(&["points", "tree"])["points"][0]["snapshot"].as_str().unwrap().to_owned();
    seen.both(&["diff", "tree", &first[..8]]).run(&["diff", "tree", "latest", &first]);
    seen.run(&["dump", "tree", "a.txt"]).run(&["dump", "tree", "/sub/deep/../b.txt"]);
    seen.run(&["dump", "tree", "name", "--at", &first])
        .run(&["dump", "tree", "pipe"])
        .run(&["dump", "tree", "sub"]);
    seen.run(&["dump", "tree", "link", "--at", &first]).run(&["dump", "tree"]);
    seen.run(&["restore", "tree", "--to", "latest", "--into", "out"]);
    seen.run(&["restore", "tree", "--to", &first, "--into", "out-json", "--json"]);
    seen.run(&[
        "restore",
        "tree",
        "--to",
        "latest",
        "--into",
        "part",
        "--include",
        "*.txt",
        "--include",
        "!new.*",
    ]);
    seen.both(&["prove", "tree"]).both(&["check"]).both(&["check", "--read-data"]);
    seen.both(&["check", "--read-data", "--part", "1/1"]).run(&["check", "--part", "1/2"]);
    seen.run(&["check", "--read-data", "--part", "3/2"]).run(&["check", "--read-data", "--part", "half"]);
    seen.compare("tree.txt");
}

#[test]
fn a_database_goes_in_and_is_proven() {
    let place = Place::new();
    let database = rusqlite::Connection::open(place.path("app.db")).unwrap();
    let rows = "create table notes (id integer primary key, text text); insert into notes (text) values ('a'), ('b');";
    database.execute_batch(rows).unwrap();
    let mut seen = Transcript::new(&place);
    seen.both(&["backup", "app.db"]).run(&["points"]).both(&["prove", "app"]);
    database.execute_batch("pragma journal_mode = wal; insert into notes (text) values ('c');").unwrap();
    seen.run(&["backup", "app.db"]).run(&["prove"]);
    seen.compare("database.txt");
}

#[test]
fn the_plan_asks_and_what_was_measured_foretells() {
    let place = Place::new();
    let database = rusqlite::Connection::open(place.path("app.db")).unwrap();
    database.execute_batch("create table users (name text); insert into users values ('a'), ('b')").unwrap();
    let plan = |queries: &str| {
        let plan =
            format!("[datasets.app]\nstore = \"app.db\"\n[datasets.app.prove]\nqueries = [{queries}]\n");
        place.write("lifeboat.toml", plan);
    };
    let count = "{ name = \"has users\", sql = \"select count(*) from users\", min = 1 }";
    plan(count);
    let mut seen = Transcript::new(&place);
    seen.run(&["backup", "app"]).run(&["points", "app"]).both(&["prove", "app"]).both(&["points", "app"]);
    plan(&format!("{count}, {{ name = \"first\", sql = \"select min(name) from users\", equals = \"z\" }}"));
    seen.both(&["prove", "app"]);
    plan("{ name = \"first\", sql = \"select 1\" }");
    seen.run(&["prove", "app"]);
    plan(count);
    place.write("tree/a.txt", "a");
    place.write(
        "lifeboat.toml",
        format!("[datasets.tree]\nstore = \"tree\"\nprove = {{ queries = [{count}] }}\n"),
    );
    seen.run(&["backup", "tree"]).run(&["prove", "tree"]);
    seen.compare("queries.txt");
}

#[test]
fn a_stream_goes_in() {
    let place = Place::new();
    let mut seen = Transcript::new(&place);
    for arguments in
        [&["backup", "--stdin", "--name", "dump"][..], &["backup", "--stdin", "--name", "dump", "--json"]]
    {
        let mut child = place.command(arguments);
        let mut child =
            child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"what pg_dump said\n").unwrap();
        seen.add(&arguments.join(" "), &Ran::from(child.wait_with_output().unwrap()));
    }
    seen.run(&["dump", "dump"]).run(&["ls", "dump", "--quiet"]);
    seen.compare("stream.txt");
}

#[test]
fn snapshots_are_held_forgotten_and_pruned() {
    let place = Place::with_snapshot();
    for n in 0..3 {
        place.write("tree/a.txt", format!("{n}"));
        place.backup();
    }
    let ids: Vec<String> = snapshots(&place);
    let mut seen = Transcript::new(&place);
    seen.run(&["hold", "add", "tree", &ids[0], "--reason", "audit"]);
    seen.run(&["hold", "add", "tree", "latest", "--reason", "before the move", "--json"]);
    seen.both(&["hold", "list"]).run(&["forget", "tree", &ids[0][..8]]).run(&["points"]);
    seen.run(&["prune", "--at-least", "1", "--dry-run", "--json"]).run(&[
        "prune",
        "--at-least",
        "1",
        "--dry-run",
    ]);
    let holds = place.json(&["hold", "list"]);
    let hold = |n: usize| holds["holds"][n]["hold"].as_str().unwrap().to_owned();
    seen.run(&["hold", "release", &hold(0)[..8]])
        .run(&["hold", "release", &hold(1), "--json"])
        .run(&["hold", "list"]);
    seen.run(&["forget", "tree", &ids[0]]).run(&[
        "forget",
        "tree",
        &ids[1],
        "--reason",
        "wrong folder",
        "--json",
    ]);
    seen.run(&["prune", "--hourly", "1", "--max-unused", "0"]).run(&["points"]).run(&["prune", "--json"]);
    seen.compare("keeping.txt");
}

fn snapshots(place: &Place) -> Vec<String> {
    let points = place.json(&["points"]);
    points["points"].as_array().unwrap().iter().map(|p| p["snapshot"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn keys_are_added_rotated_and_retired() {
    let place = Place::new();
    let public = place.ok(&["key", "pair", "mine.key"]).trim().to_owned();
    place.write("second", "second passphrase\n");
    let mut seen = Transcript::new(&place);
    seen.run(&["key", "pair", "mine.key"]).run(&["key", "pair", "other.key", "--json"]);
    seen.run(&["key", "add", "--public-key", &public, "--label", "auditor"]);
    seen.run(&["key", "add", "--recovery", "--label", "safe"]);
    seen.run(&["key", "add", "--recovery", "--json"]);
    seen.run(&["key", "add", "--passphrase", "file:second", "--label", "on call"]);
    seen.run(&["key", "add", "--command", "echo short"]).run(&["key", "add"]);
    seen.both(&["key", "list"]).run(&["points", "--key", "file:mine.key"]).run(&[
        "points",
        "--key",
        "file:other.key",
    ]);
    seen.run(&["key", "add", "--recovery", "--key", "file:second"]);
    seen.run(&["key", "rotate", "--passphrase", "command:echo third", "--label", "new"]);
    seen.run(&["points"]).run(&["key", "list", "--key", "command:echo third"]);
    let slots = place.json(&["key", "list", "--key", "command:echo third"]);
    let auditor = slots["slots"].as_array().unwrap().iter().find(|slot| slot["label"] == "auditor").unwrap();
    seen.run(&["key", "retire", &auditor["slot"].as_str().unwrap()[..8], "--key", "command:echo third"]);
    seen.run(&["points", "--key", "file:mine.key"]);
    seen.compare("keys.txt");
}

#[test]
fn writers_are_enrolled_and_revoked() {
    let place = Place::with_snapshot();
    let mine = place.json(&["repo", "writers", "list"])["writers"][0]["writer"].as_str().unwrap().to_owned();
    let mut seen = Transcript::new(&place);
    let theirs = "ab".repeat(32);
    seen.run(&[
        "repo",
        "writers",
        "enrol",
        "--public-key",
        &theirs,
        "--name",
        "db-2",
        "--dataset",
        "users",
        "--no-maintain",
    ]);
    seen.run(&["repo", "writers", "enrol", "--json"]).both(&["repo", "writers", "list"]);
    seen.run(&["repo", "writers", "revoke", &mine[..8]]).run(&["points"]).run(&["backup", "tree"]);
    seen.compare("writers.txt");
}

#[test]
fn snapshots_are_copied() {
    let place = Place::with_snapshot();
    let origin = place.root().join("repo");
    let init = place.command(&[
        "repo",
        "init",
        "-r",
        "copy",
        "--copy-of",
        origin.to_str().unwrap(),
        "--no-recovery-key",
    ]);
    let mut seen = Transcript::new(&place);
    let mut with_origin = init;
    with_origin.env("LIFEBOAT_KEY", "env:LIFEBOAT_PASSPHRASE").env("LIFEBOAT_ORIGIN_PASSPHRASE", PASSPHRASE);
    seen.add("repo init -r copy --copy-of …", &Ran::of(&mut with_origin));
    seen.run(&["copy", "--to", "copy"]);
    seen.run(&["copy", "--to", "copy", "--to-key", "env:LIFEBOAT_PASSPHRASE"]);
    place.write("tree/a.txt", "changed");
    place.backup();
    seen.run(&["copy", "--to", "copy", "--to-key", "env:LIFEBOAT_PASSPHRASE", "--latest", "--json", "tree"]);
    seen.run(&["points", "-r", "copy", "--key", "env:LIFEBOAT_PASSPHRASE"]);
    seen.run(&["check", "--read-data", "-r", "copy", "--key", "env:LIFEBOAT_PASSPHRASE"]);
    seen.compare("copy.txt");
}

#[test]
fn a_copy_is_pruned_by_the_rules_that_the_plan_has_for_it() {
    let place = Place::with_snapshot();
    let origin = place.root().join("repo");
    let init = ["repo", "init", "-r", "copy", "--copy-of", origin.to_str().unwrap(), "--no-recovery-key"];
    let mut init = place.command(&init);
    init.env("LIFEBOAT_KEY", "env:LIFEBOAT_PASSPHRASE").env("LIFEBOAT_ORIGIN_PASSPHRASE", PASSPHRASE);
    Ran::of(&mut init).expect(0);
    for text in ["second", "third"] {
        place.write("tree/a.txt", text);
        place.backup();
    }
    place.ok(&["copy", "--to", "copy", "--to-key", "env:LIFEBOAT_PASSPHRASE"]);
    let plan = "[datasets.tree]\nstore = \"./tree\"\nretain = { versions = 3 }\n";
    let retain = |copy: &str| format!("{plan}[[copies]]\nurl = \"{copy}\"\nretain = {{ versions = 1 }}\n");
    let forgotten = |place: &Place| {
        let prune = ["prune", "--dry-run", "-r", "copy", "--key", "env:LIFEBOAT_PASSPHRASE"];
        place.json(&prune)["forgotten"].as_array().unwrap().len()
    };
    place.write("lifeboat.toml", plan);
    assert_eq!(forgotten(&place), 0);
    place.write("lifeboat.toml", retain("file:./copy"));
    assert_eq!(forgotten(&place), 2);
    place.write("lifeboat.toml", retain("file:./elsewhere"));
    assert_eq!(forgotten(&place), 0);
}

#[test]
fn a_plan_names_repository_and_datasets() {
    let place = Place::with_snapshot();
    place.write("tree/x.tmp", "left out");
    let plan = "[repository]\nurl = \"file:./repo\"\nkey = \"file:key\"\n\n[datasets.tree]\nstore = \"./tree\"\nexclude = [\"*.tmp\"]\nretain = { at_least = 1 }\n\n[datasets.gone]\nstore = \"./gone\"\n";
    place.write("lifeboat.toml", plan);
    let mut seen = Transcript::new(&place);
    let mut run = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        let ran = Ran::of(command.env_remove("LIFEBOAT_REPOSITORY").env_remove("LIFEBOAT_KEY"));
        seen.add(&arguments.join(" "), &ran);
    };
    run(&["backup"]);
    run(&["backup", "tree", "--json"]);
    run(&["ls", "tree"]);
    run(&["points", "gone"]);
    run(&["prune"]);
    run(&["points"]);
    seen.compare("plan.txt");
}

#[test]
fn every_command_explains_itself() {
    let place = Place::empty();
    let mut seen = Transcript::new(&place);
    seen.run(&["--help"]).run(&["--version"]).run(&[]).run(&["nonsense"]).run(&["restore", "--json"]);
    for command in [
        "rehearse",
        "init",
        "lint",
        "backup",
        "points",
        "ls",
        "diff",
        "dump",
        "restore",
        "prove",
        "check",
        "prune",
        "forget",
        "hold",
        "hold add",
        "hold list",
        "hold release",
        "copy",
        "key",
        "key list",
        "key add",
        "key rotate",
        "key retire",
        "key pair",
        "repo",
        "repo init",
        "repo writers",
        "repo writers list",
        "repo writers enrol",
        "repo writers revoke",
        "evidence",
        "evidence list",
        "evidence verify",
        "evidence export",
        "notify",
        "notify test",
        "completions",
        "man",
    ] {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        let mut run = place.command(&arguments);
        run.env_remove("LIFEBOAT_REPOSITORY").env_remove("LIFEBOAT_STATE");
        seen.add(&arguments.join(" "), &Ran::of(&mut run));
    }
    seen.compare("help.txt");
}

#[test]
fn help_never_shows_what_the_environment_holds() {
    let place = Place::empty();
    let mut command = place.command(&["points", "--help"]);
    command.env("LIFEBOAT_REPOSITORY", "s3://u:hunter2@b").env("LIFEBOAT_KEY", "hunter2");
    let ran = Ran::of(&mut command).expect(0);
    assert!(!ran.said().contains("hunter2"), "{ran}");
}

#[test]
fn completions_are_scripts_that_shells_read() {
    let place = Place::empty();
    let bash = place.ok(&["completions", "bash"]);
    let mut child =
        Command::new("bash").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bash.as_bytes()).unwrap();
    let read = child.wait_with_output().unwrap();
    assert!(read.status.success() && read.stderr.is_empty(), "{}", String::from_utf8_lossy(&read.stderr));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.ok(&["completions", shell]);
        assert!(script.contains("rehearse") && script.contains("repository"), "{shell}");
        assert!(
            !script.contains("rehearse-writer") && !script.contains("rehearse__writer"),
            "{shell}: what is hidden is offered"
        );
    }
    place.run(&["completions", "tcsh"]).expect(2);
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let place = Place::empty();
    place.ok(&["man", "pages/below"]);
    let mut pages: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(place.path("pages/below")).unwrap() {
        let entry = entry.unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        assert!(text.contains(".TH") && text.contains(".SH NAME"), "{}", entry.path().display());
        pages.push(entry.file_name().into_string().unwrap());
    }
    pages.sort();
    compare("manual-pages.txt", &(pages.join("\n") + "\n"));
    place.write("file", "");
    place.run(&["man", "file"]).refused(1, "file", "");
}

/// A reader that goes away, as `head` does, is no error.
#[test]
fn a_closed_pipe_is_no_error() {
    let place = Place::with_snapshot();
    place.write("tree/big", vec![b'x'; 4 << 20]);
    place.backup();
    let script = format!("{PROGRAM} dump tree big | head -c 5; exec {PROGRAM} ls -R tree | true");
    let ran = Ran::of(&mut place.wrapped("bash".as_ref(), &["-o", "pipefail", "-ec", &script])).expect(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("xxxxx", ""));
}
