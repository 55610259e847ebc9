//! Bad input: a clear error, a hint, the right exit code, and nothing lost.

use crate::place::{PASSPHRASE, Place, Ran, is_root_or_skip};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

#[test]
fn a_wrong_passphrase_is_said_once_and_changes_nothing() {
    let place = Place::with_snapshot();
    let before = place.objects("");
    let with = |key: &str, passphrase: &str| {
        let mut command = place.command(&["points"]);
        Ran::of(command.env("LIFEBOAT_KEY", key).env("LIFEBOAT_PASSPHRASE", passphrase))
    };
    with("env:LIFEBOAT_PASSPHRASE", "wrong").refused(1, "no key slot", "LIFEBOAT_PASSPHRASE");
    with("env:LIFEBOAT_PASSPHRASE", "").refused(2, "env:LIFEBOAT_PASSPHRASE is empty", "Check");
    with("env:LIFEBOAT_PASSPHRASE", &format!("{PASSPHRASE}\n")).expect(0);
    with("env:NOT_SET", "").refused(2, "NOT_SET is not set", "Set NOT_SET");
    with("file:nowhere", "").refused(2, "nowhere", "permissions");
    with("file:/dev/null", "").refused(2, "empty", "Check");
    with("command:exit 3", "").refused(2, "exit status: 3", "Run the command by hand");
    with("command:true", "").refused(2, "empty", "Check");
    with("LIFEBOAT-PRIVATE-00", "").refused(2, "secret was given", "env:NAME");
    with("command:echo LIFEBOAT-PRIVATE-00", "").refused(2, "private key is malformed", "key pair");
    assert_eq!(place.objects(""), before);
}

#[test]
fn a_secret_on_the_command_line_is_refused_and_never_repeated() {
    let place = Place::with_snapshot();
    for arguments in [
        &["points", "--key", "hunter2"][..],
        &["key", "add", "--passphrase", "hunter2"],
        &["key", "rotate", "--passphrase", "hunter2"],
        &["copy", "--to", "copy", "--to-key", "hunter2"],
        &["points", "--repository", "s3://AKIA:hunter2@bucket/prefix"],
        &["points", "--repository", "s3://bucket?secret_access_key=hunter2"],
        &["points", "-rs3://AKIA:hunter2@bucket"],
        &["backup", "postgres://app:hunter2@db/users", "--name", "users"],
        &["backup", "redis://:hunter2@cache"],
        &["rehearse", "postgres://app:hunter2@db/users"],
        &["rehearse", "postgres://db/users?password=hunter2"],
        &["copy", "--to", "s3://AKIA:hunter2@bucket"],
        &["repo", "init", "--copy-of", "s3://AKIA:hunter2@bucket"],
        &["points", "postgres://app:hunter2@db/users", "too", "many"],
    ] {
        for json in [&[][..], &["--json"]] {
            let ran = place.run(&[arguments, json].concat()).refused(2, "", "");
            assert!(!ran.said().contains("hunter2"), "{arguments:?}: {ran}");
        }
    }
    for (name, value) in [("LIFEBOAT_REPOSITORY", "s3://AKIA:hunter2@bucket"), ("LIFEBOAT_KEY", "hunter2")] {
        let ran = Ran::of(place.command(&["points", "--json"]).env(name, value)).refused(2, "", "");
        assert!(!ran.said().contains("hunter2"), "{name}: {ran}");
    }
    place.write("lifeboat.toml", "[datasets.users]\nstore = \"postgres://app:hunter2@db/users\"\n");
    let ran = place.run(&["backup"]).refused(2, "password", "Take the password out");
    assert!(!ran.said().contains("hunter2"), "{ran}");
}

#[test]
fn a_place_that_is_no_repository_is_said() {
    let place = Place::with_snapshot();
    place.write("file", "x");
    for location in ["nowhere", "tree", "file:tree/sub"] {
        place.run(&["points", "-r", location]).refused(1, "holds no repository", "repo init");
    }
    place.run(&["points", "-r", "file"]).refused(1, "not a directory", "folder");
    place.run(&["points", "-r", ""]).refused(2, "location is empty", "Write a path");
    place.run(&["points", "-r", "ftp://host/x"]).refused(2, "scheme", "Write a path");
    place.run(&["points", "-r", "s3://bucket?reqion=x"]).refused(2, "`reqion`", "region");
    let unnamed = Ran::of(place.command(&["points"]).env_remove("LIFEBOAT_REPOSITORY"));
    unnamed.refused(2, "no repository is named", "LIFEBOAT_REPOSITORY");
    place.run(&["repo", "init"]).refused(1, "holds a repository already", "empty location");
    place.assert_healthy("refusals");
}

/// What remains of a repository whose config is gone must not be buried under a new one.
#[test]
fn a_repository_without_its_config_is_not_made_anew() {
    let place = Place::with_snapshot();
    let config = std::fs::read(place.path("repo/config")).unwrap();
    std::fs::remove_file(place.path("repo/config")).unwrap();
    place.run(&["points"]).refused(1, "holds no repository", "Check the location");
    place.run(&["repo", "init"]).refused(1, "no config", "put its `config` back");
    place.write("repo/config", config);
    place.assert_healthy("its config came back");
}

#[test]
fn a_repository_of_a_newer_format_is_refused() {
    let place = Place::with_snapshot();
    let path = place.path("repo/config");
    let config = std::fs::read(&path).unwrap();
    let at = newer_format_at(&config);
    let mut newer = config.clone();
    newer[at] += 1;
    place.write("repo/config", &newer);
    let before = place.objects("");
    for arguments in [
        &["points"][..],
        &["backup", "tree"],
        &["prune"],
        &["check"],
        &["restore", "tree", "--to", "latest", "--into", "out"],
    ] {
        place.run(arguments).refused(1, "format 2", "at least as new");
    }
    assert_eq!(place.objects(""), before);
    assert!(!place.path("out").exists());
    place.write("repo/config", &config);
    place.assert_healthy("the old format");
}

/// Where the config says its format: the byte whose change makes the program speak of a newer one. Found by
/// trying, since this test knows nothing of the format.
fn newer_format_at(config: &[u8]) -> usize {
    let place = Place::new();
    let found = (0..config.len().min(200)).filter(|at| config[*at] == 1).find(|at| {
        let mut newer = config.to_vec();
        newer[*at] += 1;
        place.write("repo/config", &newer);
        place.run(&["points"]).stderr.contains("format 2")
    });
    found.expect("one of the config's bytes is its format")
}

#[test]
fn what_does_not_exist_is_said() {
    let place = Place::with_snapshot();
    let no_dataset = "no snapshot of dataset users";
    for arguments in [
        &["points", "users"][..],
        &["ls", "users"],
        &["diff", "users", "latest"],
        &["dump", "users"],
        &["restore", "users", "--to", "latest", "--into", "out"],
        &["restore", "users", "--to", "2026-01-01T00:00:00Z", "--into", "out"],
        &["prove", "users"],
        &["forget", "users", "latest"],
        &["hold", "add", "users", "latest", "--reason", "x"],
    ] {
        place.run(arguments).refused(2, no_dataset, "lifeboat points");
    }
    place.run(&["ls", "No Such"]).refused(2, "cannot name a dataset", "lifeboat points");
    place.run(&["ls", "tree", "--at", "00000000"]).refused(2, "no snapshot 00000000", "points");
    place.run(&["ls", "tree", "nothing/here"]).refused(2, "nothing/here is not in", "lifeboat ls");
    place.run(&["dump", "tree", "nothing"]).refused(2, "not in snapshot", "lifeboat ls");
    place.run(&["backup", "nothing"]).refused(2, "neither a dataset", "path");
    place.run(&["backup", "nothing", "--name", "n"]).refused(1, "nothing", "path");
    place.run(&["backup", "tree/a.txt", "--name", "n"]).refused(2, "neither a folder nor", "--stdin");
    place.run(&["backup"]).refused(2, "nothing to back up", "--name");
    place.run(&["backup", "tree", "tree/sub", "--name", "n"]).refused(
        2,
        "--name goes with one",
        "lifeboat backup",
    );
    place.run(&["backup", "tree", "--name", "../up"]).refused(2, "cannot name a dataset", "");
    place.run(&["rehearse", "nothing"]).refused(1, "nothing", "path");
    place.run(&["key", "retire", "abcd"]).refused(2, "no key slot", "key list");
    place.run(&["hold", "release", "abcd"]).refused(2, "no hold", "hold list");
    place.run(&["repo", "writers", "revoke", "zzzz"]).refused(2, "no writer", "writers list");
    place.run(&["backup", "tree", "--plan", "nowhere.toml"]).refused(2, "nowhere.toml", "--plan");
    place.run(&["prove", "--scratch", "nowhere", "tree"]).refused(1, "nowhere", "");
    place.assert_healthy("refusals");
}

#[test]
fn points_in_time_are_found_or_refused() {
    let place = Place::with_snapshot();
    let first = place.json(&["points"])["points"][0]["taken"].as_str().unwrap().to_owned();
    place.write("tree/a.txt", "later\n");
    place.backup();
    let at = |time: &str| place.run(&["dump", "tree", "a.txt", "--at", time]);
    assert_eq!(at(&first).expect(0).stdout, "first\n", "an instant means what was there by then");
    assert_eq!(at("2200-01-01T00:00:00Z").expect(0).stdout, "later\n");
    let later = at("2200-01-01T01:00:00+01:00").expect(0);
    assert!(later.stderr.contains("2200-01-01T01:00:00+01:00 is 2200-01-01T00:00:00Z in UTC"), "{later}");
    place.ok(&["restore", "tree", "--to", &first, "--into", "then"]);
    assert_eq!(std::fs::read(place.path("then/a.txt")).unwrap(), b"first\n");
    at("2001-01-01T00:00:00Z").refused(2, "no snapshot at or before", &first);
    at("2999-01-01T00:00:00Z").refused(2, "too far away", "2261");
    at("2026-13-01").refused(2, "no time", "RFC 3339");
    for ambiguous in ["2026-10-25T02:30:00", "2026-03-29T02:30:00"] {
        let mut command = place.command(&["restore", "tree", "--to", ambiguous, "--into", "out"]);
        Ran::of(command.env("TZ", "Europe/Berlin")).refused(2, "ambiguous", "offset");
    }
    assert!(!place.path("out").exists());
}

#[test]
fn a_place_that_holds_something_is_never_overwritten() {
    let place = Place::with_snapshot();
    place.write("full/a.txt", "mine\n");
    let restore = |into: &str, more: &[&str]| {
        place.run(&[&["restore", "tree", "--to", "latest", "--into", into], more].concat())
    };
    restore("full", &[]).refused(1, "full is not empty", "--force");
    let forced = restore("full", &["--force"]).expect(5);
    assert!(forced.stderr.contains("left out: write a.txt"), "{forced}");
    assert_eq!(std::fs::read(place.path("full/a.txt")).unwrap(), b"mine\n", "what exists is kept");
    assert_eq!(std::fs::read(place.path("full/sub/b.txt")).unwrap(), b"second\n");
    let document =
        place.run(&["restore", "tree", "--to", "latest", "--into", "full", "--force", "--json"]).expect(5);
    assert!(document.stdout.contains("\"left_out\""), "{document}");
}

#[test]
fn a_target_that_is_no_folder_is_refused() {
    let place = Place::with_snapshot();
    place.write("file", "mine");
    std::fs::create_dir(place.path("empty")).unwrap();
    symlink("nowhere", place.path("dangling")).unwrap();
    symlink("empty", place.path("linked")).unwrap();
    symlink("file", place.path("to-file")).unwrap();
    let restore = |into: &str| place.run(&["restore", "tree", "--to", "latest", "--into", into]);
    for target in ["file", "to-file", "dangling", "file/below"] {
        restore(target).refused(1, "is not a folder", "empty or does not exist");
    }
    assert_eq!(std::fs::read(place.path("file")).unwrap(), b"mine");
    assert!(!place.path("nowhere").exists(), "nothing is made behind a link");
    restore("linked").expect(0);
    assert_eq!(crate::tree::of(&place.path("empty")), crate::tree::of(&place.path("tree")));
    restore("").expect(2);
}

#[test]
fn a_target_without_permission_is_refused() {
    if !is_root_or_skip("restoring as a user without permission") {
        return;
    }
    let place = Place::with_snapshot();
    std::fs::create_dir(place.path("theirs")).unwrap();
    let program = crate::disks::public_copy(&place);
    let arguments = ["restore", "tree", "--to", "latest", "--into", "theirs/below"];
    crate::disks::as_nobody(&place, &program, &arguments).refused(1, "theirs", "permissions");
}

#[test]
fn an_unknown_key_of_the_plan_names_the_nearest() {
    let place = Place::with_snapshot();
    for (plan, message, hint) in [
        (
            "[datasets.tree]\nstroe = \"tree\"\n",
            "line 2, datasets.tree.stroe: unknown field `stroe`",
            "`store`",
        ),
        ("[repository]\nurl = \"repo\"\nkeys = \"env:X\"\n", "unknown field `keys`", "`key`"),
        ("[datasets.tree]\nstore = \"tree\"\nretain = { dayly = 3 }\n", "unknown field `dayly`", "`daily`"),
    ] {
        place.write("lifeboat.toml", plan);
        place.run(&["points"]).refused(2, message, hint);
    }
    place.write("lifeboat.toml", "[repository\n");
    let broken = place.run(&["points"]).expect(2);
    assert!(broken.stderr.contains("lifeboat.toml, line 1"), "{broken}");
    place.write("lifeboat.toml", "[datasets.\"No Good\"]\nstore = \"tree\"\n");
    place.run(&["backup"]).refused(2, "cannot name a dataset", "");
}

#[test]
fn a_dump_is_no_document() {
    let place = Place::with_snapshot();
    place.run(&["dump", "tree", "a.txt", "--json"]).refused(2, "no JSON", "Leave out --json");
}

#[test]
fn prune_without_retention_forgets_nothing() {
    let place = Place::with_snapshot();
    for n in 0..3 {
        place.write("tree/a.txt", format!("{n}"));
        place.backup();
    }
    let before = place.json(&["points"]);
    place.ok(&["prune"]);
    place.ok(&["prune", "--max-unused", "0"]);
    place.ok(&["prune", "--dry-run", "--at-least", "1"]);
    assert_eq!(place.json(&["points"]), before);
    let forgotten = place.json(&["prune", "--at-least", "2"]);
    assert_eq!(forgotten["forgotten"].as_array().unwrap().len(), 2);
    assert_eq!(place.json(&["points"])["points"].as_array().unwrap().len(), 2);
    place.run(&["prune", "--at-least", "0"]).expect(2);
    place.assert_healthy("prune");
}

#[test]
fn prune_keeps_by_each_rule_that_is_typed_and_else_by_the_plan() {
    let place = Place::with_snapshot();
    for n in 0..4 {
        place.write("tree/a.txt", format!("{n}"));
        place.backup();
    }
    let gone = |rules: &[&str]| {
        let pruned = place.json(&[&["prune", "--dry-run"], rules].concat());
        pruned["forgotten"].as_array().unwrap().len()
    };
    for (rules, forgotten) in [
        (["--days", "1"], 0),
        (["--window", "1d"], 0),
        (["--window", "0s"], 4),
        (["--versions", "3"], 2),
        (["--yearly", "1"], 4),
    ] {
        assert_eq!(gone(&rules), forgotten, "{rules:?}");
    }
    assert_eq!(gone(&["--yearly", "1", "--versions", "3", "--at-least", "4"]), 1);
    place.write(
        "lifeboat.toml",
        "[datasets.tree]\nstore = \"tree\"\nretain = { versions = 2, window = \"0s\" }\n",
    );
    assert_eq!((gone(&[]), gone(&["--days", "1"])), (3, 0));
    place.run(&["prune", "--window", "soon"]).expect(2);
    place.run(&["prune", "--days", "-1"]).expect(2);
}

#[test]
fn patterns_that_cannot_be_read_are_refused() {
    let place = Place::with_snapshot();
    let before = place.objects("");
    place.run(&["backup", "tree", "--exclude", "[a"]).refused(2, "read pattern `[a`", "Patterns know");
    place
        .run(&["restore", "tree", "--to", "latest", "--into", "out", "--include", "[a"])
        .refused(2, "`[a`", "Patterns");
    place.run(&["restore", "tree", "--to", "latest", "--into", "out", "--include", "zzz"]).refused(
        1,
        "nothing",
        "lifeboat ls",
    );
    assert!(!place.path("out").exists());
    place.run(&["backup", "tree", "--max-stall", "5"]).expect(2);
    place.run(&["prune", "--wait", "soon"]).expect(2);
    let kept = |name: &String| !name.starts_with("readers-ended/") && !name.starts_with("receipts/");
    let after: Vec<String> = place.objects("").into_iter().filter(kept).collect();
    let receipts = |objects: &[String]| objects.iter().filter(|name| name.starts_with("receipts/")).count();
    let left = place.objects("receipts/").len() - receipts(&before);
    assert_eq!(left, 1, "of the restore that found nothing; what was refused left none");
    assert_eq!(after, before.into_iter().filter(kept).collect::<Vec<_>>());
}

#[test]
fn names_of_any_bytes_go_in_and_come_back() {
    let place = Place::new();
    let names: [&[u8]; 7] = [
        b"\xff\xfe",
        b"new\nline",
        b"back\\slash",
        b"tab\t'quote\"",
        b" space ",
        b"-dash",
        "Å\u{301}é".as_bytes(),
    ];
    for name in names {
        crate::place::write_file(&place.path("tree").join(OsStr::from_bytes(name)), name);
    }
    place.backup();
    place.ok(&["restore", "tree", "--to", "latest", "--into", "out"]);
    assert_eq!(crate::tree::of(&place.path("out")), crate::tree::of(&place.path("tree")));
    for name in names {
        let arguments = [b"dump", &b"tree"[..], b"--", name].map(OsStr::from_bytes);
        let output = place.command(&arguments).output().unwrap();
        assert_eq!(output.stdout, name, "{}", String::from_utf8_lossy(&output.stderr));
        let arguments = [b"ls", &b"tree"[..], b"--", name].map(OsStr::from_bytes);
        assert_eq!(place.run(&arguments).expect(0).stdout.lines().count(), 1);
    }
    let listed = place.json(&["ls", "tree"]);
    assert_eq!(listed["entries"].as_array().unwrap().len(), names.len());
}

#[test]
fn two_folders_of_one_name_do_not_become_one_dataset() {
    let place = Place::new();
    place.write("one/data/x", "1");
    place.write("two/data/x", "2");
    place.run(&["backup", "one/data", "two/data"]).refused(2, "dataset data", "--name");
    assert!(place.objects("snapshots/").is_empty());
    place.ok(&["backup", "one/data", "one/data/"]);
}

/// Found by these tests: names of one file and holes were counted as if each took its size.
#[test]
fn a_restore_with_links_and_holes_is_not_refused_for_lack_of_room() {
    let place = Place::new();
    place.write("tree/a", "x");
    let sparse = std::fs::File::create(place.path("tree/sparse")).unwrap();
    sparse.set_len(1 << 50).or_else(|_| sparse.set_len(1 << 43)).unwrap();
    place.backup();
    place.ok(&["restore", "tree", "--to", "latest", "--into", "out"]);
    assert_eq!(std::fs::metadata(place.path("out/sparse")).unwrap().len(), sparse.metadata().unwrap().len());
}

/// The repository and the scratch folder within what is protected are not taken along.
#[test]
fn what_is_lifeboats_own_is_left_out() {
    let place = Place::new();
    place.write("tree/a", "x");
    std::fs::create_dir(place.path("tree/tmp")).unwrap();
    let mut command = place.command(&["rehearse", "tree", "--scratch", "tree/tmp", "--json"]);
    let rehearsed = Ran::of(command.env_remove("LIFEBOAT_REPOSITORY").env_remove("LIFEBOAT_KEY")).expect(0);
    let document: serde_json::Value = serde_json::from_str(&rehearsed.stdout).unwrap();
    assert_eq!(document["content_bytes"], 1, "{rehearsed}");
    let mut inside = place.command(&["repo", "init", "-r", "tree/repo", "--no-recovery-key"]);
    Ran::of(inside.env_remove("LIFEBOAT_KEY")).expect(0);
    let mut backup = place.command(&["backup", "tree", "-r", "tree/repo", "--state-dir", "tree/state"]);
    Ran::of(backup.env_remove("LIFEBOAT_KEY")).expect(0);
    let mut ls = place.command(&["ls", "-R", "tree", "-r", "tree/repo"]);
    let listed = Ran::of(ls.env_remove("LIFEBOAT_KEY")).expect(0).stdout;
    assert!(listed.contains(" a\n") && !listed.contains("repo/") && !listed.contains("state/"), "{listed}");
}
