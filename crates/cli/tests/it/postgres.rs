//! The program beside a real PostgreSQL server: what it prints, and what it keeps.

use crate::place::{Place, Ran};
use crate::transcript::Transcript;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster, test_installation};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A folder and a running server. Where the server's programs are is in its environment, as a person would have
/// it, and so is everything that a URL would say.
struct Beside {
    place: Place,
    cluster: TestCluster,
}

impl Beside {
    fn new() -> Option<Self> {
        let installation = test_installation(15)?;
        let beside = Self { place: Place::new(), cluster: TestCluster::start(&installation) };
        beside.cluster.psql(
            "create table users (id int primary key, name text not null);
             create table debates (id int primary key, owner int not null references users);
             insert into users select i, 'user ' || i from generate_series(1, 500) i;
             insert into debates select i, 1 + i % 500 from generate_series(1, 900) i",
        );
        Some(beside)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        command
            .env("PGHOST", self.cluster.socket_dir())
            .env("PGPORT", self.cluster.port().to_string())
            .env("PGUSER", "postgres");
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ran = Ran::of(self.command(arguments).arg("--json")).expect(0);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// Starts to follow, and waits until a snapshot was taken.
    fn follow(&self) -> Following {
        self.follow_with(&["--gather", "10ms"])
    }

    fn follow_with(&self, options: &[&str]) -> Following {
        let mut command = self.command(&["follow", "app", "--json", "--say-every", "100ms"]);
        let mut following = Following::begin(command.args(options));
        following.until(|event| event["event"] == "snapshot-taken");
        following
    }

    /// Everything differs from run to run that the server or the clock decides.
    fn seen(&self, seen: &mut Transcript<'_>, arguments: &[&str]) {
        let ran = self.run(arguments);
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let sockets = self.cluster.socket_dir().display().to_string();
        let mask = |text: &str| {
            let text = text.replace(&sockets, "[SOCKETS]");
            let text = text.replace(&format!("port={}", self.cluster.port()), "port=[PORT]");
            mask(&text.replace(&format!("{host}:postgres://"), "[HOST]:postgres://"))
        };
        let masked = Ran { stdout: mask(&ran.stdout), stderr: mask(&ran.stderr), ..ran };
        seen.add(&arguments.join(" "), &masked);
    }
}

/// `lifeboat follow` at work.
pub(crate) struct Following {
    child: Child,
    lines: BufReader<ChildStdout>,
    /// The names of the events that were read.
    seen: Vec<String>,
}

impl Following {
    pub(crate) fn begin(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines, seen: Vec::new() }
    }

    pub(crate) fn until(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "following ended");
            let event: Value = serde_json::from_str(&line).unwrap();
            self.seen.push(event["event"].as_str().unwrap_or_default().to_owned());
            if wanted(&event) {
                return event;
            }
        }
    }

    /// Waits until commits wait for it: that may come before a snapshot or after it.
    pub(crate) fn until_covered(&mut self) {
        if !self.seen.iter().any(|event| event == "covered") {
            self.until(|event| event["event"] == "covered");
        }
    }

    pub(crate) fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Following {
    /// Kills the follower alone: its watchdog does what it is there for, for as long as the answer is held.
    pub(crate) fn leave_the_watchdog(mut self) -> Watchdogs {
        self.kill()
    }

    fn kill(&mut self) -> Watchdogs {
        let watchdogs = Watchdogs(children(self.child.id()));
        let _ = self.child.kill();
        let _ = self.child.wait();
        watchdogs
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

/// Watchdogs whose follower is gone. Where the server is destroyed as well they would look for it for days.
pub(crate) struct Watchdogs(Vec<i32>);

impl Drop for Watchdogs {
    fn drop(&mut self) {
        for watchdog in self.0.drain(..).filter_map(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(watchdog, rustix::process::Signal::KILL);
        }
    }
}

/// The processes that a process has started.
fn children(of: u32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parent = |process: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // Behind the name, which may have any characters: the state, then the parent.
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    numbers.filter(|process| parent(process) == Some(of)).collect()
}

#[test]
fn a_server_is_rehearsed_backed_up_restored_and_proven() {
    let Some(beside) = Beside::new() else { return };
    beside.place.write("lifeboat.toml", "[datasets.app]\nstore = \"env:DATABASE_URL\"\n");
    let mut seen = Transcript::new(&beside.place);
    let url = "postgres:///postgres";
    for arguments in [
        &["rehearse", url][..],
        &["backup", url, "--name", "app"],
        &["points", "app"],
        &["restore", "app", "--to", "latest", "--into", "restored"],
        &["restore", "app", "--to", "latest", "--into", "restored"],
        &["restore", "app", "--to", "name:nowhere", "--into", "elsewhere"],
        &["restore", "app", "--to", "lsn:0/1", "--into", "elsewhere"],
        &["restore", "app", "--to", "xid:many", "--into", "elsewhere"],
        &["restore", "app", "--to", "latest", "--into", "elsewhere", "--tablespace", "5=elsewhere"],
        &["restore", "app", "--to", "latest", "--into", "elsewhere", "--include", "base"],
        &["restore", "app", "--to", "latest", "--timeline", "7", "--into", "elsewhere"],
        &["prove", "app"],
        &["backup", "app"],
        &["follow"],
        &["follow", "postgres://me:secret@db/app"],
        &["backup", "mysql://db/app"],
        &["backup", "postgres:///nothing?user=nobody-here"],
    ] {
        beside.seen(&mut seen, arguments);
    }
    assert!(!beside.place.path("elsewhere").exists(), "nothing is written before it is known to succeed");
    seen.compare("postgres.txt");
}

#[test]
fn what_is_followed_is_restored_to_any_transaction() {
    let Some(mut beside) = Beside::new() else { return };
    beside.place.write("lifeboat.toml", "[datasets.app]\nstore = \"postgres:///postgres\"\n");
    let mut following = beside.follow();
    let xid = beside
        .cluster
        .psql("with gone as (delete from debates where id > 100 returning 1) select pg_current_xact_id() from gone limit 1");
    beside.cluster.psql("insert into users values (501, 'after')");
    let mut written = 0;
    for id in 502..514 {
        beside.cluster.psql(&format!("insert into users values ({id}, 'after')"));
        written = position(beside.cluster.psql("select pg_current_wal_flush_lsn()").trim());
        following
            .until(|event| event["durable"].as_str().is_some_and(|durable| position(durable) >= written));
    }
    beside.cluster.kill9();
    std::fs::remove_dir_all(beside.cluster.data()).unwrap();
    following.until(|event| event["event"] == "disconnected");
    following.stop();
    let listed = beside.json(&["evidence", "list", "--kind", "backup", "--dataset", "app"]);
    let [receipt] = listed["receipts"].as_array().unwrap().as_slice() else { panic!("{listed:#}") };
    let receipt = &receipt["receipt"];
    assert_eq!((&receipt["outcome"], &receipt["who"]), (&"done".into(), &"operator".into()), "{receipt:#}");

    let point = format!("xid:{}", xid.trim());
    let proofs = beside.json(&["prove", "app", "--at", &point, "--before"]);
    let rows = |proofs: &Value| -> Vec<u64> {
        let tables = proofs["proofs"][0]["proof"]["cluster"]["tables"].as_array().unwrap().iter();
        tables.map(|table| table["rows"].as_u64().unwrap()).collect()
    };
    assert_eq!(proofs["proofs"][0]["proof"]["verdict"], "proven", "{proofs:#}");
    assert_eq!(rows(&proofs), [900, 500]);
    assert_eq!(rows(&beside.json(&["prove", "app", "--at", &point])), [100, 500]);
    assert_eq!(rows(&beside.json(&["prove", "app"])), [100, 513]);
    let forecast = &beside.json(&["points", "app"])["forecast"];
    assert_eq!(forecast["samples"], 3, "{forecast:#}");
    assert!(forecast["log_bytes"].as_u64().unwrap() > 0, "{forecast:#}");
    assert!(forecast["typical"]["replay_seconds"].as_f64().unwrap() > 0.0, "{forecast:#}");

    // Small objects become few, and everything can still be restored to.
    let objects = beside.place.objects("logs/").len();
    let pruned = beside.json(&["prune"]);
    assert!(pruned["compacted_logs"].as_u64().unwrap() >= 12, "{pruned:#}");
    assert!(beside.place.objects("logs/").len() + 11 <= objects, "{pruned:#}");
    assert_eq!(rows(&beside.json(&["prove", "app", "--at", &point])), [100, 500]);
    assert_eq!(rows(&beside.json(&["prove", "app"])), [100, 513]);
    beside.run(&["check", "--read-data"]).expect(0);

    let points = beside.json(&["points", "app"]);
    let log = &points["logs"][0];
    assert_eq!(log["holes"].as_array().unwrap().len(), 0, "{log:#}");
    assert!(position(log["recoverable"][0]["to"].as_str().unwrap()) >= written);
}

#[test]
fn two_that_follow_one_slot_do_not_disturb_each_other() {
    let Some(beside) = Beside::new() else { return };
    beside.place.write("lifeboat.toml", "[datasets.app]\nstore = \"postgres:///postgres\"\n");
    let mut first = beside.follow();
    let mut second = Following::begin(&mut beside.command(&["follow", "app", "--json"]));
    let refused = second.until(|event| event["event"] == "disconnected");
    assert!(refused["error"].as_str().unwrap().contains("is active"), "{refused}");
    first.until(|event| event["event"] == "status" && event["connected"] == true);
    first.stop();
    second.until(|event| event["event"] == "streaming");
    second.stop();
}

fn position(lsn: &str) -> u64 {
    let (high, low) = lsn.split_once('/').unwrap();
    u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
}

/// Replaces what a server decides: positions, identifiers, versions, sizes, counts of files.
fn mask(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.');
    while !rest.is_empty() {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if end == 0 {
            let first = rest.chars().next().unwrap();
            masked.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, after) = rest.split_at(end);
        let (shown, used) = mask_word(&masked, word, after);
        masked.push_str(&shown);
        rest = &after[used..];
    }
    squeeze(&masked)
}

fn mask_word(before: &str, word: &str, after: &str) -> (String, usize) {
    let hex = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
    let is_number = word.parse::<f64>().is_ok();
    let unit = [" kB", " MB", " B"].into_iter().find(|unit| after.starts_with(unit));
    let counted = [" files", " entries"].iter().any(|what| after.starts_with(what));
    let (position, end) = word.strip_suffix('.').map_or((word, ""), |position| (position, "."));
    if position.split_once('/').is_some_and(|(high, low)| hex(high) && hex(low)) {
        (format!("[LSN]{end}"), 0)
    } else if let Some(unit) = unit.filter(|_| is_number) {
        ("[SIZE]".to_owned(), unit.len())
    } else if is_number
        && (counted || after.trim_start().starts_with("[HOST]") || before.ends_with("transaction is "))
    {
        ("[NUMBER]".to_owned(), 0)
    } else if before.ends_with("PostgreSQL ") && is_number && word.contains('.') {
        ("[VERSION]".to_owned(), 0)
    } else if word.len() >= 17 && word.bytes().all(|b| b.is_ascii_digit()) {
        ("[SYSTEM]".to_owned(), 0)
    } else {
        (word.to_owned(), 0)
    }
}

/// Columns are as wide as what was masked was.
fn squeeze(text: &str) -> String {
    let squeezed = text.lines().map(|line| {
        let mut line = line.to_owned();
        while line.contains("  ") && line.contains('[') {
            line = line.replace("  ", " ");
        }
        line + "\n"
    });
    squeezed.collect()
}

/// The server's user must reach the program, the repository and the key, as anybody's would.
fn give_to_the_server(beside: &Beside, paths: &[&str]) {
    use std::os::unix::fs::PermissionsExt;
    let root = beside.place.root();
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o755)).unwrap();
    for path in paths {
        beside.cluster.identity().own(&root.join(path)).unwrap();
    }
}

#[test]
fn a_server_fetches_its_log_while_it_replays() {
    let Some(mut beside) = Beside::new() else { return };
    beside.place.write("lifeboat.toml", "[datasets.app]\nstore = \"postgres:///postgres\"\n");
    let mut following = beside.follow();
    // More segments than are kept ready at once.
    for _ in 0..12 {
        beside.cluster.psql("create table if not exists big (t text); insert into big select repeat(md5(i::text), 20) from generate_series(1, 9000) i; select pg_switch_wal()");
    }
    let rows = beside.cluster.psql("select count(*), sum(hashtext(t)::bigint) from big");
    let written = position(beside.cluster.psql("select pg_current_wal_flush_lsn()").trim());
    following.until(|event| event["durable"].as_str().is_some_and(|durable| position(durable) >= written));
    beside.cluster.kill9();
    following.stop();

    let program = beside.place.path("lifeboat");
    std::fs::copy(crate::place::PROGRAM, &program).unwrap();
    let restore = ["restore", "app", "--to", "latest", "--into", "restored", "--fetch-log", "--json"];
    let mut command = beside.command(&restore);
    let mut copied = Command::new(&program);
    copied.args(restore).current_dir(beside.place.root()).env_clear();
    for (name, value) in command.stdin(Stdio::null()).get_envs() {
        copied.envs(value.map(|value| (name, value)));
    }
    let restored = Ran::of(&mut copied).expect(0);
    assert!(restored.stderr.contains("the server will run: '"), "{restored}");
    let inside = beside.place.path("restored/pg_wal");
    let segments = std::fs::read_dir(inside).unwrap().flatten().filter(|e| e.file_name().len() == 24).count();
    assert_eq!(segments, 0, "the log is left in the repository");

    give_to_the_server(&beside, &["lifeboat", "repo", "key", "restored", "restored.wal"]);
    let options = ClusterOptions::new(beside.cluster.installation().clone());
    let mut server = TestCluster::of_directory(options, &beside.place.path("restored"));
    // What opens the repository comes from the key file that the command names.
    server.start_server();
    server.wait_for("select pg_is_in_recovery()", "f");
    assert_eq!(server.psql("select count(*), sum(hashtext(t)::bigint) from big"), rows);
    let log = std::fs::read_to_string(beside.place.path("restored.wal/fetching.log")).unwrap();
    assert_eq!(log, "", "nothing went wrong");
}

#[test]
fn what_was_acknowledged_while_commits_wait_is_not_lost_with_the_server() {
    let Some(mut beside) = Beside::new() else { return };
    beside.place.write("lifeboat.toml", "[datasets.app]\nstore = \"postgres:///postgres\"\n");
    let mut following = beside.follow_with(&["--synchronous", "--max-wait", "60s"]);
    following.until_covered();
    assert_eq!(beside.cluster.psql("show synchronous_standby_names").trim(), "FIRST 1 (lifeboat_app)");
    let inserts: String =
        (1..=150).map(|id| format!("insert into debates values ({}, 1);", 1000 + id)).collect();
    beside.cluster.psql(&inserts);
    beside.cluster.kill9();
    let _watchdogs = following.leave_the_watchdog();

    let proofs = beside.json(&["prove", "app"]);
    assert_eq!(proofs["proofs"][0]["proof"]["verdict"], "proven", "{proofs:#}");
    assert_eq!(proofs["proofs"][0]["proof"]["cluster"]["tables"][0]["rows"], 900 + 150);
    // Nobody follows any more: the watchdog, which outlived the follower, lets commits go on.
    beside.cluster.start_server();
    beside.cluster.wait_for("show synchronous_standby_names", "");
    beside.cluster.psql("insert into debates values (2000, 1)");
    // And what that cost is on record: before commits waited, and since they do not any more.
    let exposed = &beside.json(&["points", "app"])["exposed"];
    let reasons: Vec<&str> =
        exposed.as_array().unwrap().iter().map(|one| one["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["starting", "follower-gone"], "{exposed:#}");
    assert!(exposed[0]["to"].is_string() && exposed[1]["to"].is_null(), "{exposed:#}");
    let said = beside.run(&["points", "app"]).expect(0).stdout;
    assert!(said.contains("(no end on record)") && said.contains("the follower was gone"), "{said}");
}

#[test]
fn commits_are_not_made_to_wait_by_who_could_not_end_that() {
    let Some(beside) = Beside::new() else { return };
    beside.cluster.psql("create role backup login replication");
    let mut command = beside.command(&["follow", "postgres:///postgres", "--name", "app", "--synchronous"]);
    let refused = Ran::of(command.env("PGUSER", "backup"));
    let refused = refused.refused(1, "may not", "").said().to_lowercase();
    for needed in ["grant alter system on parameter", "pg_reload_conf", "pg_monitor"] {
        assert!(refused.contains(needed), "{needed}: {refused}");
    }
    assert_eq!(beside.cluster.psql("show synchronous_standby_names").trim(), "");
}

#[test]
fn who_is_killed_while_it_hands_over_or_exports_is_simply_asked_again() {
    let Some(beside) = Beside::new() else { return };
    let killed = |arguments: &[&str], failpoint: &str| {
        let mut command = beside.command(arguments);
        let ran = Ran::of(command.env("LIFEBOAT_FAILPOINTS", format!("{failpoint}=kill")));
        assert_eq!(ran.signal, Some(9), "{failpoint}: {ran}");
    };
    beside.run(&["backup", "postgres:///postgres", "--name", "app"]).expect(0);
    // At the very beginning of a segment the server would name the one before.
    beside.cluster.psql("insert into users values (501, 'after')");
    let name = beside.cluster.psql("select pg_walfile_name(pg_current_wal_lsn())");
    beside.cluster.psql("select pg_switch_wal()");
    let segment = beside.cluster.data().join("pg_wal").join(name.trim());
    let segment = segment.to_str().unwrap();
    let push = ["wal", "push", segment, "--dataset", "app"];
    // The one before is where the backup ended: an archiver hands over that one too.
    let wal = std::fs::read_dir(beside.cluster.data().join("pg_wal")).unwrap();
    let earlier = wal.map(|entry| entry.unwrap()).filter(|entry| entry.file_name().len() == 24);
    for entry in earlier.filter(|entry| entry.file_name().to_str() < Some(name.trim())) {
        beside.run(&["wal", "push", entry.path().to_str().unwrap(), "--dataset", "app"]).expect(0);
    }
    for failpoint in ["postgres::push-compared", "log::before-put", "postgres::push-appended"] {
        killed(&push, failpoint);
    }
    beside.run(&push).expect(0);
    let proofs = beside.json(&["prove", "app"]);
    assert_eq!(proofs["proofs"][0]["proof"]["cluster"]["tables"][1]["rows"], 501, "{proofs:#}");

    let export = |format: &'static str, into: &'static str| {
        ["export", "app", "--to", "latest", "--format", format, "--into", into]
    };
    killed(&export("directory", "one"), "export::before-log");
    killed(&export("tar", "two"), "export::before-log-archive");
    killed(&export("tar", "three"), "export::before-manifest");
    assert!(!beside.place.path("three/backup_manifest").exists(), "what is not whole has no manifest");
    beside.run(&export("tar", "two")).refused(1, "not empty", "");
    beside.run(&export("tar", "four")).expect(0);
    assert!(beside.place.path("four/backup_manifest").exists());
    beside.run(&["check", "--read-data"]).expect(0);
}
