//! Backups of other tools in, PostgreSQL's own forms out, and a server that archives by the program itself.

use crate::place::{PROGRAM, Place, Ran};
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster, test_installation, test_installations};
use lifeboat_postgres_server::{Installation, StopMode};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

/// A server whose archiver runs the program, as the server's user, with the repository in this folder.
fn archiving(place: &Place, installation: &Installation) -> TestCluster {
    let words = [("LIFEBOAT_REPOSITORY", place.path("repo")), ("LIFEBOAT_STATE", place.path("server-state"))];
    let environment: Vec<String> =
        words.iter().map(|(name, value)| format!("{name}=\"{}\"", value.display())).collect();
    let command = format!(
        "env {} LIFEBOAT_KEY=\"file:{}\" \"{}\" wal push %p --dataset app",
        environment.join(" "),
        place.path("key").display(),
        place.path("lifeboat").display()
    );
    let options = ClusterOptions::new(installation.clone());
    TestCluster::start_with(options.with("archive_mode", "on").with("archive_command", &command))
}

/// What the server's user must reach: the repository, the key and a state of its own.
fn open_to(place: &Place, cluster: &TestCluster) {
    let owner = std::fs::metadata(cluster.data()).unwrap();
    std::fs::set_permissions(place.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(place.path("server-state")).unwrap();
    // Where the program was built, another user may not go.
    if !place.path("lifeboat").exists() {
        std::fs::copy(PROGRAM, place.path("lifeboat")).unwrap();
    }
    for path in ["repo", "key", "server-state"] {
        give(&place.path(path), owner.uid(), owner.gid());
    }
}

fn give(path: &Path, uid: u32, gid: u32) {
    chown(path, Some(uid), Some(gid)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), uid, gid);
        }
    }
}

/// Waits until the segment that is written to is archived.
fn switch(cluster: &TestCluster) {
    cluster.psql("create table if not exists switched (); drop table switched");
    let last = cluster.psql("select pg_walfile_name(pg_switch_wal())");
    let archived = format!("select last_archived_wal >= '{}' from pg_stat_archiver", last.trim());
    cluster.wait_for(&archived, "t");
}

const ROWS: &str = "select count(*) || ' ' || sum(abalance) || ' ' || (select count(*) from pgbench_history) from pgbench_accounts";

#[test]
fn a_server_that_archives_by_the_program_is_restored_to_the_latest_state() {
    for installation in test_installations() {
        let place = Place::new();
        let cluster = archiving(&place, &installation);
        open_to(&place, &cluster);
        cluster.pgbench_init(1);
        let url = cluster.url("postgres");
        let mut backup = place.command(&["backup", &url, "--name", "app"]);
        Ran::of(&mut backup).expect(0);
        open_to(&place, &cluster);
        // Until here what we wrote was not the server's user's to read, and the archiver had to ask again.
        switch(&cluster);
        cluster.psql("select pg_stat_reset_shared('archiver')");
        cluster.pgbench(&["-c", "4", "-t", "500"]);
        let expected = cluster.psql(ROWS);
        switch(&cluster);
        assert_eq!(
            cluster.psql("select failed_count from pg_stat_archiver").trim(),
            "0",
            "{}",
            cluster.log()
        );
        let mut cluster = cluster;
        cluster.stop(StopMode::Immediate);
        std::fs::remove_dir_all(cluster.data()).unwrap();
        place.ok(&["restore", "app", "--to", "latest", "--into", "restored"]);
        let mut restored =
            TestCluster::of_directory(ClusterOptions::new(installation.clone()), &place.path("restored"));
        restored.start_server();
        restored.wait_for("select pg_is_in_recovery()", "f");
        assert_eq!(restored.psql(ROWS), expected);
    }
}

#[test]
fn what_cannot_be_pushed_is_said_in_one_line() {
    let place = Place::new();
    place.write("pg_wal/000000010000000000000001", "no segment");
    let push = |file: &str| place.run(&["wal", "push", file, "--dataset", "app"]);
    let one_line = |ran: Ran, code: i32, what: &str| {
        let ran = ran.expect(code);
        assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 1), "{ran}");
        assert!(ran.stderr.starts_with("error: push ") && ran.stderr.contains(what), "{ran}");
    };
    one_line(push("pg_wal/000000010000000000000001"), 1, "does not begin with the header");
    one_line(push("pg_wal/000000010000000000000002"), 1, "No such file");
    one_line(push("pg_wal/postgresql.conf"), 1, "named like nothing that an archiver hands over");
    let mut elsewhere =
        place.command(&["wal", "push", "pg_wal/000000010000000000000001", "--dataset", "app"]);
    one_line(Ran::of(elsewhere.env("LIFEBOAT_REPOSITORY", place.path("nowhere"))), 1, "holds no repository");
    let mut keyless = place.command(&["wal", "push", "pg_wal/000000010000000000000001", "--dataset", "app"]);
    one_line(Ran::of(keyless.env("LIFEBOAT_KEY", "env:NOT_SET")), 2, "NOT_SET is not set");
    one_line(place.run(&["wal", "push", "pg_wal/0", "--dataset", "No Name"]), 2, "No Name");
}

#[test]
fn options_that_a_form_does_not_have_are_refused() {
    let place = Place::with_snapshot();
    for (arguments, said) in [
        (&["--format", "wal", "--to", "latest"][..], "--to and --before are for"),
        (&["--format", "tar", "--tablespace", "1=/x"], "--tablespace is for a directory"),
        (&["--from", "0/1000000"], "--from and --until are for --format wal"),
        (&["--format", "wal", "--until", "soon"], "soon names no position"),
        (&[], "tree is no PostgreSQL cluster"),
    ] {
        let ran = place.run(&[&["export", "tree", "--into", "out"], arguments].concat());
        ran.refused(2, said, "");
    }
    place.run(&["export", "tree", "--into", "out", "--format", "wal"]).refused(
        1,
        "there is no write-ahead log of tree",
        "lifeboat points",
    );
    assert!(!place.path("out").exists());
}

#[test]
fn a_dump_goes_in_is_proven_and_comes_back() {
    let Some(installation) = test_installation(15) else { return };
    let place = Place::new();
    let cluster = TestCluster::start(&installation);
    cluster.psql("create role owner; create table t (id int primary key); insert into t select generate_series(1, 700); alter table t owner to owner");
    let made = cluster.place().join("app.dump");
    let dumped = cluster.command("pg_dump").args(["-U", "postgres", "-Fc", "-f"]).arg(&made).status();
    assert!(dumped.unwrap().success());
    std::fs::copy(&made, place.path("app.dump")).unwrap();
    let imported = place.json(&["import", "app.dump", "--name", "app"]);
    let one = &imported["imports"][0];
    assert_eq!((&one["store"], &one["facts"]["format"]), (&"pg_dump".into(), &"custom".into()), "{imported}");
    assert_eq!((&one["taken_from"], &one["facts"]["database"]), (&"dump".into(), &"postgres".into()));
    let proof = place.json(&["prove", "app"]);
    let proof = &proof["proofs"][0]["proof"];
    assert_eq!((&proof["verdict"], &proof["dump"]["tables"][0]["rows"]), (&"proven".into(), &700.into()));
    let text = place.run(&["prove", "app"]).expect(0);
    assert!(text.stdout.contains("1 tables with 700 rows, 0 foreign keys, 1 roles made for it"), "{text}");
    place.ok(&["restore", "app", "--to", "latest", "--into", "back"]);
    let read = |path: &str| std::fs::read(place.path(path)).unwrap();
    assert!(read("back/app.dump") == read("app.dump"));
    let whole = read("app.dump");
    place.write("torn.dump", &whole[..whole.len() - 300]);
    place.run(&["import", "torn.dump", "--name", "app"]).refused(1, "pg_restore says", "pipefail");
    place.run(&["import", "key", "--name", "app"]).refused(2, "nothing that pg_dump made", "lifeboat backup");
    place.run(&["import", "app.dump", "--name", "app", "--taken", "soon"]).refused(
        2,
        "soon is no time",
        "RFC 3339",
    );
    place.run(&["import", "app.dump", "--name", "app", "--taken", "2200-01-01T00:00:00Z"]).refused(
        2,
        "lies in the future",
        "--taken",
    );
}

#[test]
fn a_cluster_goes_out_as_postgresql_has_it() {
    let Some(installation) = test_installation(15) else { return };
    let place = Place::new();
    let cluster = TestCluster::start(&installation);
    cluster.psql("create table t as select generate_series(1, 700) id");
    place.ok(&["backup", &cluster.url("postgres"), "--name", "app"]);
    let exported = place.json(&["export", "app", "--into", "out"]);
    assert!(exported["wal_bytes"].as_u64().unwrap() > 0, "{exported}");
    std::fs::set_permissions(place.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let verified = cluster.command("pg_verifybackup").arg(place.path("out")).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    place.run(&["export", "app", "--into", "out"]).refused(1, "is not empty", "--force");
    place.ok(&["export", "app", "--into", "archives", "--format", "tar"]);
    let listed = Command::new("tar").arg("-tf").arg(place.path("archives/base.tar")).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.lines().last(), Some("global/pg_control"), "as a server sends it");
    assert!(
        listed.lines().any(|line| line == "backup_label") && place.path("archives/backup_manifest").exists()
    );
    let log = place.json(&["export", "app", "--into", "log", "--format", "wal"]);
    let files = log["files"].as_array().unwrap();
    assert!(files.iter().any(|file| file.as_str().unwrap().starts_with("00000001")), "{log}");
}
