//! The whole way over S3, against a real server and against ones that misbehave.

use crate::place::{PASSPHRASE, Place, Ran, noise};
use crate::tree;
use lifeboat_objects::testing::{ACCESS_KEY, BUCKET, SECRET_KEY, SeaweedFs, seaweedfs, seaweedfs_alone};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The program with a repository on a server.
fn command(place: &Place, endpoint: &str, secret: &str, arguments: &[&str]) -> Command {
    let mut command = place.command(arguments);
    command
        .env(
            "LIFEBOAT_REPOSITORY",
            format!("s3://{BUCKET}/{}?region=us-east-1&endpoint={endpoint}&timeout=5", prefix(place)),
        )
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", secret);
    command
}

fn prefix(place: &Place) -> String {
    place.root().file_name().unwrap().to_str().unwrap().to_ascii_lowercase()
}

fn run(place: &Place, server: &SeaweedFs, arguments: &[&str]) -> Ran {
    Ran::of(&mut command(place, &server.endpoint(), SECRET_KEY, arguments))
}

fn make(server: &SeaweedFs) -> Place {
    let place = Place::empty();
    run(&place, server, &["repo", "init", "--no-recovery-key"]).expect(0);
    place.write("tree/a.txt", "first\n");
    place.write("tree/large", noise(1, 3 << 20));
    place
}

#[test]
fn the_whole_way_over_s3() {
    let Some(server) = seaweedfs() else { return };
    let place = make(&server);
    let run = |arguments: &[&str]| run(&place, &server, arguments);
    run(&["repo", "init"]).refused(1, "holds a repository already", "empty location");
    run(&["backup", "tree"]).expect(0);
    let first = tree::of(&place.path("tree"));
    place.write("tree/a.txt", "second\n");
    run(&["backup", "tree"]).expect(0);
    let points = run(&["points", "--json"]).expect(0).stdout;
    let points: serde_json::Value = serde_json::from_str(&points).unwrap();
    let oldest = points["points"][0]["snapshot"].as_str().unwrap().to_owned();
    run(&["restore", "tree", "--to", &oldest, "--into", "out"]).expect(0);
    assert_eq!(tree::of(&place.path("out")), first);
    run(&["prove"]).expect(0);
    run(&["check", "--read-data"]).expect(0);
    run(&["prune", "--at-least", "1", "--max-unused", "0"]).expect(0);
    run(&["check", "--read-data"]).expect(0);
    run(&["restore", "tree", "--to", "latest", "--into", "out-2"]).expect(0);
    assert_eq!(tree::of(&place.path("out-2")), tree::of(&place.path("tree")));
    let wrong = Ran::of(&mut command(&place, &server.endpoint(), "wrong-secret", &["points"]));
    let wrong = wrong.refused(1, "", "credentials");
    assert!(!wrong.said().contains("wrong-secret"), "{wrong}");
}

#[test]
fn a_server_that_is_killed_and_comes_back() {
    let Some(mut server) = seaweedfs_alone() else { return };
    let place = make(&server);
    run(&place, &server, &["backup", "tree"]).expect(0);
    let first = tree::of(&place.path("tree"));
    place.write("tree/larger", noise(2, 24 << 20));
    let mut backup = command(&place, &server.endpoint(), SECRET_KEY, &["backup", "tree"]);
    backup
        .env("LIFEBOAT_FAILPOINTS", "pipeline::pack-before-put=pause:3000")
        .env("LIFEBOAT_FAILPOINTS_SEEN", place.path("seen"));
    let backup = backup.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !std::fs::read_to_string(place.path("seen")).is_ok_and(|seen| seen.contains("pack-before-put")) {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.kill();
    Ran::from(backup.wait_with_output().unwrap()).refused(1, "tree: ", "network");
    server.restart().unwrap();
    run(&place, &server, &["check", "--read-data"]).expect(0);
    run(&place, &server, &["restore", "tree", "--to", "latest", "--into", "out"]).expect(0);
    assert_eq!(tree::of(&place.path("out")), first);
    run(&place, &server, &["backup", "tree"]).expect(0);
    run(&place, &server, &["restore", "tree", "--to", "latest", "--into", "out-2"]).expect(0);
    assert_eq!(tree::of(&place.path("out-2")), tree::of(&place.path("tree")));
}

/// A server that accepts and never answers: the error comes by itself. (Were there no limit, this test would
/// never end; it asserts no time.)
#[test]
fn a_server_that_never_answers_is_said() {
    let place = Place::empty();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    let location = format!("s3://bucket/prefix?region=us-east-1&endpoint={endpoint}&timeout=2");
    let stalled = |arguments: &[&str]| {
        let mut command = place.command(&[arguments, &["-r", &location]].concat());
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        Ran::of(command.env("LIFEBOAT_PASSPHRASE", PASSPHRASE))
    };
    stalled(&["points"]).refused(1, "s3://bucket/prefix", "Check the network");
}

#[test]
fn a_server_that_refuses_is_said() {
    let place = Place::empty();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let location = format!("s3://bucket/prefix?region=us-east-1&endpoint=http://127.0.0.1:{port}&timeout=2");
    let mut command = place.command(&["points", "-r", &location]);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    Ran::of(&mut command).refused(1, "s3://bucket/prefix", "Check the network");
    let mut command = place.command(&["points", "-r", &location]);
    Ran::of(&mut command).refused(1, "", "");
}
