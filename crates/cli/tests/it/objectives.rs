//! One plan with everything in it, kept: PostgreSQL followed, SQLite and files on schedule, a repository in a folder and
//! a copy on S3. Each is then taken away in turn, and the status, its exit code and the metrics say so, and say when it
//! is back. How long that took is printed.

use crate::place::{PASSPHRASE, Place, Ran};
use crate::serve::Serving;
use lifeboat_objects::testing::{ACCESS_KEY, BUCKET, SECRET_KEY, SeaweedFs, seaweedfs_alone};
use lifeboat_postgres_server::testing::{TestCluster, test_installation};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const TOKEN: &str = "a-token-of-a-test";
const PATIENCE: Duration = Duration::from_secs(120);

struct World {
    place: Place,
    cluster: TestCluster,
    copy: SeaweedFs,
    address: String,
}

impl World {
    fn new() -> Option<Self> {
        let (installation, copy) = (test_installation(15)?, seaweedfs_alone()?);
        let world = Self {
            place: Place::new(),
            cluster: TestCluster::start(&installation),
            copy,
            address: String::new(),
        };
        world.cluster.psql("create table users (id int primary key); insert into users values (1), (2)");
        let database = rusqlite::Connection::open(world.place.path("app.db")).unwrap();
        database.execute_batch("create table t (x); insert into t values (1)").unwrap();
        world.place.write("tree/a", "first");
        world.place.write("copy-key", PASSPHRASE);
        let mut init = world.command(&[
            "repo",
            "init",
            "-r",
            &world.copy_url(),
            "--copy-of",
            "repo",
            "--no-recovery-key",
        ]);
        init.env("LIFEBOAT_KEY", "env:LIFEBOAT_PASSPHRASE").env("LIFEBOAT_ORIGIN_PASSPHRASE", PASSPHRASE);
        Ran::of(&mut init).expect(0);
        world.place.write("lifeboat.toml", world.plan());
        Some(world)
    }

    fn copy_url(&self) -> String {
        format!("s3://{BUCKET}/objectives?region=us-east-1&endpoint={}&timeout=2", self.copy.endpoint())
    }

    fn plan(&self) -> String {
        let path = |below: &str| self.place.path(below).display().to_string();
        format!(
            r#"
            [system]
            name = "test"
            region = "west"
            [serve]
            listen = "127.0.0.1:0"
            token = "env:TOKEN"
            check_every = "5s"
            [repository]
            url = "{repository}"
            key = "file:{key}"
            region = "west"
            [datasets.app]
            store = "postgres:///postgres"
            rpo = {{ host = "5s", repository = "60s", region = "60s" }}
            protect = "continuous"
            [datasets.notes]
            store = "{notes}"
            host = "here"
            rpo = "60s"
            protect = {{ every = "2s" }}
            [datasets.tree]
            store = "{tree}"
            host = "here"
            rpo = "60s"
            protect = {{ every = "2s" }}
            [[copies]]
            name = "away"
            url = "{copy}"
            key = "file:{copy_key}"
            region = "east"
            schedule = {{ every = "3s" }}
            "#,
            repository = path("repo"),
            key = path("key"),
            notes = path("app.db"),
            tree = path("tree"),
            copy = self.copy_url(),
            copy_key = path("copy-key"),
        )
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        command
            .env("LIFEBOAT_HOST", "here")
            .env("TOKEN", TOKEN)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("PGHOST", self.cluster.socket_dir())
            .env("PGPORT", self.cluster.port().to_string())
            .env("PGUSER", "postgres");
        command
    }

    /// What `lifeboat status` says, and its exit code.
    fn status(&self) -> (Option<i32>, Value) {
        let url = format!("http://{}", self.address);
        let ran = Ran::of(&mut self.command(&["status", "--json", "--url", &url]));
        (ran.code, serde_json::from_str(&ran.stdout).unwrap_or_default())
    }

    /// Waits until the status has this exit code and is so; how long that took.
    #[track_caller]
    fn until(&self, code: i32, is_so: impl Fn(&Value) -> bool) -> f64 {
        let begun = Instant::now();
        loop {
            let (now, status) = self.status();
            if now == Some(code) && is_so(&status) {
                return begun.elapsed().as_secs_f64();
            }
            assert!(begun.elapsed() < PATIENCE, "exit {now:?}: {status:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn has_metric(&self, line: &str) -> bool {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: here\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().any(|one| one == line)
    }
}

#[expect(clippy::disallowed_methods, reason = "what a disaster does need not be durable")]
fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap();
}

fn named<'v>(list: &'v Value, name: &str) -> &'v Value {
    list.as_array().and_then(|all| all.iter().find(|one| one["name"] == name)).unwrap_or(&Value::Null)
}

/// Whether a dataset has one of these reasons.
fn dataset_says(status: &Value, dataset: &str, reasons: &[&str]) -> bool {
    let said = named(&status["datasets"], dataset)["reasons"].as_array().cloned().unwrap_or_default();
    said.iter().any(|one| reasons.iter().any(|reason| one["reason"] == *reason))
}

fn is_unreachable(status: &Value, place: &str) -> bool {
    named(&status["places"], place)["reachable"] == false
}

#[test]
#[expect(clippy::print_stderr, reason = "how long it took to show is what the run is for")]
fn each_objective_is_met_and_shown_and_each_loss_shows() {
    let Some(mut world) = World::new() else { return };
    let mut serving = Serving::start(world.command(&["serve", "--json"]));
    let listening = serving.until(|event| event["event"] == "listening");
    world.address = listening["detail"]["address"].as_str().unwrap().to_owned();
    let mut took = vec![("all is well", world.until(0, |status| status["state"] == "ok"))];

    world.cluster.kill9();
    took.push(("the server is gone", world.until(1, |s| dataset_says(s, "app", &["stalled"]))));
    assert!(world.has_metric("lifeboat_dataset_state{dataset=\"app\",state=\"ok\"} 0"));
    took.push((
        "its objective is missed",
        world.until(1, |s| named(&s["datasets"], "app")["state"] == "breach"),
    ));
    world.cluster.start_server();
    took.push(("the server is back", world.until(0, |status| status["state"] == "ok")));

    for (dataset, file) in [("notes", "app.db"), ("tree", "tree")] {
        let (there, gone) = (world.place.path(file), world.place.path("gone"));
        rename(&there, &gone);
        took.push(("a store is gone", world.until(1, |s| dataset_says(s, dataset, &["store_down"]))));
        rename(&gone, &there);
        took.push(("it is back", world.until(0, |status| status["state"] == "ok")));
    }

    world.copy.kill();
    took.push(("the copy is gone", world.until(1, |s| is_unreachable(s, "away"))));
    assert!(world.has_metric("lifeboat_place_reachable{place=\"away\",role=\"copy\"} 0"));
    world.copy.restart().unwrap();
    took.push(("the copy is back", world.until(0, |status| status["state"] == "ok")));

    let (there, gone) = (world.place.path("repo"), world.place.path("gone"));
    rename(&there, &gone);
    took.push(("the region's repository is gone", world.until(1, |s| is_unreachable(s, "repository"))));
    assert!(world.has_metric("lifeboat_place_reachable{place=\"repository\",role=\"repository\"} 0"));
    rename(&gone, &there);
    took.push(("the repository is back", world.until(0, |status| status["state"] == "ok")));
    for (what, seconds) in took {
        eprintln!("{seconds:6.1} s until it showed that {what}");
    }
    serving.stop();
}
