//! Log that is acknowledged by a spool: on another host than the server, which for these tests is a network
//! namespace of its own. Where none can be made the tests say so and end.

use crate::place::{PROGRAM, Place, Ran};
use crate::postgres::Following;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster, test_installation};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A network namespace, and an address on either side of a cable between it and this one.
struct Elsewhere {
    name: String,
    here: IpAddr,
}

impl Elsewhere {
    /// Makes one; `None`, with the reason, where that is not permitted.
    #[expect(clippy::print_stderr, reason = "a skipped test must be seen in the test's output")]
    fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = (std::process::id() % 16_000) * 4 + number % 4;
        let (name, cable) = (format!("lifeboat-it-{id}"), format!("lb{id}"));
        // Of a block for benchmarks of networks: no machine has such an address.
        let [third, fourth] = [(id >> 6) as u8, ((id << 2) & 0xFF) as u8];
        let (here, there) =
            (Ipv4Addr::new(198, 18, third, fourth + 1), Ipv4Addr::new(198, 18, third, fourth + 2));
        let elsewhere = Self { name, here: here.into() };
        let name = &elsewhere.name;
        let steps = [
            format!("netns add {name}"),
            format!("link add {cable}h type veth peer name {cable}t netns {name}"),
            format!("addr add {here}/30 dev {cable}h"),
            format!("link set {cable}h up"),
            format!("-n {name} addr add {there}/30 dev {cable}t"),
            format!("-n {name} link set {cable}t up"),
            format!("-n {name} link set lo up"),
        ];
        for step in steps {
            if let Err(said) = ip(&step) {
                eprintln!("SKIPPED: no host that is elsewhere can be made here (ip {step}: {said})");
                return None;
            }
        }
        Some(elsewhere)
    }

    /// A program that runs there.
    fn runs(&self, program: &Path) -> Vec<String> {
        ["netns", "exec", &self.name, program.to_str().unwrap()].map(str::to_owned).into()
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // A watchdog outlives its follower for as long as its server may come back.
        let left = Command::new("ip").args(["netns", "pids", &self.name]).output();
        let left = left.map(|left| String::from_utf8_lossy(&left.stdout).into_owned()).unwrap_or_default();
        left.split_whitespace().filter_map(|pid| pid.parse().ok()).for_each(kill);
        let _ = ip(&format!("netns delete {}", self.name));
    }
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// A server here and Lifeboat there, with a role that may do what following needs and no more.
struct Scene {
    place: Place,
    cluster: TestCluster,
    elsewhere: Elsewhere,
}

impl Scene {
    fn new() -> Option<Self> {
        let installation = test_installation(15)?;
        let elsewhere = Elsewhere::new()?;
        let options = ClusterOptions { address: Some(elsewhere.here), ..ClusterOptions::new(installation) };
        let cluster = TestCluster::start_with(options.with("max_slot_wal_keep_size", "2GB"));
        cluster.psql(
            "create table ledger (n int primary key);
             create role lifeboat login replication;
             grant alter system on parameter synchronous_standby_names to lifeboat;
             grant execute on function pg_reload_conf() to lifeboat;
             grant pg_monitor to lifeboat",
        );
        let place = Place::new();
        place.write("lifeboat.toml", "[datasets.app]\nstore = \"postgres:///postgres\"\nprotect = { ack = \"spool\", spool = \"spool\" }\n");
        Some(Self { place, cluster, elsewhere })
    }

    /// Lifeboat on the other host.
    fn there(&self, user: &str, arguments: &[&str]) -> Command {
        let mut all = self.elsewhere.runs(Path::new(PROGRAM));
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let mut command = self.place.wrapped("ip".as_ref(), &all);
        command
            .env("PGHOST", self.elsewhere.here.to_string())
            .env("PGPORT", self.cluster.port().to_string())
            .env("PGUSER", user);
        command
    }

    fn follow(&self, options: &[&str]) -> Following {
        let mut command = self.there("lifeboat", &["follow", "app", "--json", "--say-every", "50ms"]);
        Following::begin(command.args(options))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ran = Ran::of(self.there("lifeboat", arguments).arg("--json")).expect(0);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// The numbers that a restored server has.
    fn restored(&self, into: &str) -> Vec<u32> {
        Ran::of(&mut self.there("lifeboat", &["restore", "app", "--to", "latest", "--into", into])).expect(0);
        give_to_the_server(self, into);
        let options = ClusterOptions::new(self.cluster.installation().clone());
        let mut server = TestCluster::of_directory(options, &self.place.path(into));
        server.start_server();
        server.wait_for("select pg_is_in_recovery()", "f");
        let numbers = server.psql("select n from ledger order by n");
        numbers.lines().map(|line| line.trim().parse().unwrap()).collect()
    }

    /// The repository is away, as a bucket is that cannot be reached.
    fn move_repository(&self, from: &str, to: &str) {
        let moved = Command::new("mv").args([self.place.path(from), self.place.path(to)]).status().unwrap();
        assert!(moved.success());
    }
}

fn give_to_the_server(scene: &Scene, path: &str) {
    use std::os::unix::fs::PermissionsExt;
    let root = scene.place.root();
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o755)).unwrap();
    scene.cluster.identity().own(&root.join(path)).unwrap();
}

#[test]
fn a_spool_beside_the_server_is_refused() {
    let Some(scene) = Scene::new() else { return };
    let address = scene.elsewhere.here.to_string();
    let refused = |command: &mut Command, why: &str| {
        let ran = Ran::of(command);
        ran.refused(2, why, "--ack repository");
    };
    let here = |host: &str| {
        let mut command = scene.place.command(&["follow", "app"]);
        command.env("PGHOST", host).env("PGPORT", scene.cluster.port().to_string()).env("PGUSER", "lifeboat");
        command
    };
    refused(&mut here(scene.cluster.socket_dir().to_str().unwrap()), "it is reached through a unix socket");
    refused(&mut here(&address), &format!("{address} is an address of this host"));
    // From there it is another address; but who may read its files sees that it is the same machine.
    refused(&mut scene.there("postgres", &["follow", "app"]), "it runs on the same kernel");
    assert_eq!(scene.cluster.psql("select count(*) from pg_replication_slots"), "0", "nothing was begun");
    // What was asked for wrongly, too.
    let wrong = |arguments: &[&str], why: &str| {
        Ran::of(&mut scene.there("lifeboat", arguments)).refused(2, why, "");
    };
    wrong(&["follow", "app", "--ack", "repository", "--spool", "x"], "go with --ack spool");
    wrong(&["follow", "app", "--spool-limit", "1MiB"], "too small");
    wrong(&["follow", "app", "--spool", "/dev/shm"], "lies in memory");
    wrong(&["wal", "drain", "other"], "no folder is named");
}

#[test]
fn what_the_spool_acknowledged_is_published_and_restored_when_the_server_is_gone() {
    let Some(mut scene) = Scene::new() else { return };
    let mut following = scene.follow(&["--gather", "10ms"]);
    following.until(|event| event["event"] == "snapshot-taken");
    scene.cluster.psql("insert into ledger values (1)");
    let status = following.until(|event| {
        event["event"] == "status" && event["spool"]["waiting_bytes"] == 0 && event["behind_bytes"] == 0
    });
    assert_eq!(status["ack"], "spool");
    assert_eq!(status["in_repository"]["to"], status["durable"]);
    assert!(status["spool"]["host"].as_str().is_some_and(|host| !host.is_empty()));

    // The repository is away: what arrives is acknowledged all the same, and the two positions part.
    scene.move_repository("repo", "away");
    scene.cluster.psql("insert into ledger select generate_series(2, 5000)");
    let written = scene.cluster.psql("select pg_current_wal_flush_lsn()");
    let written = written.trim();
    let acknowledged = format!("select flush_lsn >= '{written}' from pg_stat_replication");
    scene.cluster.wait_for(&acknowledged, "t");
    let status = following.until(|event| {
        event["event"] == "status" && event["spool"]["waiting_bytes"].as_u64() > Some(100_000)
    });
    assert_ne!(status["in_repository"]["to"], status["durable"]);
    following.until(|event| event["event"] == "not-published");
    scene.cluster.kill9();
    let disconnected = following.until(|event| event["event"] == "disconnected");
    assert!(disconnected["hint"].is_string() || disconnected["error"].is_string());
    drop(following);

    scene.move_repository("away", "repo");
    let drained = scene.json(&["wal", "drain", "app"]);
    assert!(drained["bytes"].as_u64() > Some(100_000), "{drained:#}");
    assert_eq!(scene.json(&["wal", "drain", "app"])["published"], serde_json::json!([]));
    assert_eq!(scene.restored("restored"), (1..=5000).collect::<Vec<_>>());
}

#[test]
fn a_follower_publishes_what_it_finds_while_the_server_is_away_and_goes_on() {
    let Some(mut scene) = Scene::new() else { return };
    let mut following = scene.follow(&["--gather", "10ms"]);
    following.until(|event| event["event"] == "snapshot-taken");
    scene.move_repository("repo", "away");
    scene.cluster.psql("insert into ledger select generate_series(1, 3000)");
    following.until(|event| event["spool"]["waiting_bytes"].as_u64() > Some(50_000));
    // Killed; what it had not spooled yet, the server has.
    drop(following);
    scene.cluster.kill9();
    scene.move_repository("away", "repo");

    let mut following = scene.follow(&["--gather", "10ms"]);
    let opened = following.until(|event| event["event"] == "spool-opened");
    assert!(opened["waiting_bytes"].as_u64() > Some(50_000), "{opened}");
    following.until(|event| event["event"] == "status" && event["spool"]["waiting_bytes"] == 0);
    // It is back, and nothing is missing: no hole, and no snapshot, since one leads to all of it.
    scene.cluster.start_server();
    scene.cluster.psql("insert into ledger values (3001)");
    let mut seen = Vec::new();
    following.until(|event| {
        seen.push(event["event"].as_str().unwrap_or_default().to_owned());
        event["event"] == "status" && event["connected"] == true && event["behind_bytes"] == 0
    });
    following.stop();
    assert!(!seen.iter().any(|event| event == "hole" || event == "snapshot-begun"), "{seen:?}");
    assert_eq!(scene.restored("restored"), (1..=3001).collect::<Vec<_>>());
    assert!(
        !scene
            .place
            .path("spool/app")
            .read_dir()
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().ends_with(".spool") }),
        "what is published is not kept"
    );
}

/// Commits one number after the other until the server is gone, and says what was acknowledged.
fn ledger(scene: &Scene, from: u32, ends: &AtomicBool) -> u32 {
    let mut acknowledged = from;
    while !ends.load(Ordering::Relaxed) {
        let next = acknowledged + 1;
        let mut psql = scene.cluster.command("psql");
        // Some in one session, so that it does not take a process each.
        let inserts: Vec<String> =
            (next..next + 20).map(|n| format!("insert into ledger values ({n}) returning n;")).collect();
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]).stderr(Stdio::null());
        psql.args(inserts.iter().flat_map(|insert| ["-c", insert]));
        let output = psql.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        acknowledged = said.lines().filter_map(|line| line.trim().parse().ok()).max().unwrap_or(acknowledged);
        if !output.status.success() {
            return acknowledged;
        }
    }
    acknowledged
}

/// `LIFEBOAT_TEST_SEED` pins the instants.
#[test]
#[expect(clippy::print_stdout, reason = "the seed is told")]
fn what_waited_for_the_spool_is_not_lost_with_the_server_and_the_follower_at_random_instants() {
    let seed = std::env::var("LIFEBOAT_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut draw = seed.unwrap_or_else(|| u64::from_le_bytes(lifeboat_base::random::bytes()));
    println!("LIFEBOAT_TEST_SEED={draw}");
    for round in 0..3 {
        let Some(mut scene) = Scene::new() else { return };
        let mut draws = |below: u64| {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (draw >> 33) % below
        };
        let mut following = scene.follow(&["--synchronous", "--max-wait", "120s", "--gather", "20ms"]);
        following.until(|event| event["event"] == "snapshot-taken");
        following.until_covered();
        if round != 0 {
            scene.move_repository("repo", "away");
        }
        let ends = AtomicBool::new(false);
        let acknowledged = std::thread::scope(|scope| {
            let ledger = scope.spawn(|| ledger(&scene, 0, &ends));
            let until = Instant::now() + Duration::from_millis(500 + draws(2500));
            while Instant::now() < until {
                following.until(|event| event["event"] == "status");
            }
            // The server first: a follower that is gone before it is not waited for any more.
            kill(scene.cluster.server().unwrap().pid());
            std::thread::sleep(Duration::from_millis(draws(20)));
            drop(following);
            ends.store(true, Ordering::Relaxed);
            ledger.join().unwrap()
        });
        scene.cluster.kill9();
        std::fs::remove_dir_all(scene.cluster.data()).unwrap();
        if round != 0 {
            scene.move_repository("away", "repo");
        }
        scene.json(&["wal", "drain", "app"]);
        let kept = scene.restored("restored");
        assert!(acknowledged > 0, "something was acknowledged");
        let last = kept.last().copied().unwrap_or_default();
        assert!(last >= acknowledged, "round {round}: acknowledged to {acknowledged}, kept to {last}");
        assert_eq!(kept, (1..=last).collect::<Vec<_>>());
        println!("round {round}: {acknowledged} acknowledged, {last} kept");
    }
}
