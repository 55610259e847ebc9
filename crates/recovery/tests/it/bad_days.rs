//! Bad days: slots that are dropped or lost, a repository that is away or full, followers that are killed.

use crate::house::{
    Followed, HAPPENS_WITHIN, House, fill, flushed, follower, holes, on_each_version, on_one_version,
    open_to_all, reopened, rows, url,
};
use lifeboat_base::clock::Stopwatch;
use lifeboat_objects::ObjectErrorKind;
use lifeboat_objects::fault::{Fault, Operation, Plan, Rule};
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster};
use lifeboat_postgres_server::{Installation, StopMode};
use lifeboat_postgres_wal::{Lsn, Target as Point, TimelineId};
use lifeboat_store_postgres::FollowEvent;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Segments so small that log goes as soon as nothing keeps it.
fn forgetful(installation: &Installation) -> ClusterOptions {
    let small = ClusterOptions { wal_segment_mib: 1, ..ClusterOptions::new(installation.clone()) };
    small.with("min_wal_size", "2MB").with("max_wal_size", "4MB").with("wal_keep_size", "0")
}

/// Adds rows, and lets the server remove every segment that nothing keeps.
fn bury_log(cluster: &TestCluster) {
    for _ in 0..4 {
        fill(cluster, 50);
        cluster.psql("select pg_switch_wal()");
    }
    cluster.psql("checkpoint");
}

fn drop_slot(cluster: &TestCluster) {
    cluster.wait_for("select active from pg_replication_slots", "f");
    cluster.psql("select pg_drop_replication_slot('lifeboat_app')");
}

/// The oldest position that the slot keeps.
fn kept_from(cluster: &TestCluster) -> Lsn {
    cluster.psql("select restart_lsn from pg_replication_slots").parse().unwrap()
}

/// A cluster with rows and a snapshot, whose follower has been stopped.
fn followed_for_a_while(house: &House, options: ClusterOptions) -> TestCluster {
    let cluster = TestCluster::start_with(options);
    fill(&cluster, 500);
    let followed = house.follow(&cluster);
    house.protect(&cluster);
    fill(&cluster, 100);
    followed.catch_up(&cluster);
    assert_eq!(holes(&followed.stop()), []);
    cluster
}

/// Follows until everything is durable, and gives what was said.
fn followed_to_the_end(house: &House, cluster: &TestCluster) -> Vec<FollowEvent> {
    let followed = house.follow(cluster);
    followed.catch_up(cluster);
    followed.stop()
}

fn assert_latest_has(house: &House, of: &ClusterOptions, name: &str, rows_there: &str) {
    let restored = house.restored(&house.latest(), of, name);
    assert_eq!(rows(&restored), rows_there, "{name}");
}

#[test]
fn a_slot_that_was_dropped_leaves_no_hole_where_the_log_is_still_there() {
    on_one_version(|installation| {
        let (house, options) = (House::new(), forgetful(installation));
        let cluster = followed_for_a_while(&house, options.clone());
        drop_slot(&cluster);
        fill(&cluster, 100);
        assert_eq!(holes(&followed_to_the_end(&house, &cluster)), []);
        assert!(house.points().holes.is_empty());
        assert_latest_has(&house, &options, "restored", &rows(&cluster));
    });
}

#[test]
fn a_hole_is_said_and_shown_and_a_new_snapshot_leads_behind_it() {
    on_each_version(|installation| {
        let (house, options) = (House::new(), forgetful(installation));
        let cluster = followed_for_a_while(&house, options.clone());
        let before = rows(&cluster);
        drop_slot(&cluster);
        bury_log(&cluster);
        let told = holes(&followed_to_the_end(&house, &cluster));
        assert_eq!(told.len(), 1, "{told:?}");
        assert_holes_shown(&house, &told);
        // What lies before the hole can still be had.
        assert_latest_has(&house, &options, "before", &before);
        assert!(house.latest().goes_on_to >= Some(told[0].1), "and that is not the latest state");
        let followed = house.follow(&cluster);
        house.protect(&cluster);
        fill(&cluster, 10);
        followed.catch_up(&cluster);
        assert_eq!(holes(&followed.stop()), [], "it is one hole, and told once");
        assert_latest_has(&house, &options, "behind", &rows(&cluster));
        assert_eq!(house.latest().goes_on_to, None);
        assert_eq!(house.points().recoverable.len(), 2);
        let within = house.resolve(Point::Lsn(told[0].0.after(100))).unwrap_err();
        assert!(lifeboat_base::report(&within).contains("not reached"), "{within}");
    });
}

fn assert_holes_shown(house: &House, told: &[(Lsn, Lsn)]) {
    let shown: Vec<_> = house.points().holes.iter().map(|hole| (hole.from, hole.to)).collect();
    assert_eq!(shown, told);
}

#[test]
fn a_slot_that_fell_behind_is_made_anew_and_the_hole_is_said() {
    on_each_version(|installation| {
        let (house, options) = (House::new(), forgetful(installation).with("max_slot_wal_keep_size", "3MB"));
        let cluster = followed_for_a_while(&house, options.clone());
        cluster.wait_for("select active from pg_replication_slots", "f");
        for _ in 0..3 {
            bury_log(&cluster);
        }
        cluster.wait_for("select wal_status from pg_replication_slots", "lost");
        let told = holes(&followed_to_the_end(&house, &cluster));
        assert_eq!(told.len(), 1, "{told:?}");
        assert_holes_shown(&house, &told);
        // The slot keeps log again.
        cluster.wait_for("select wal_status from pg_replication_slots", "reserved");
        let kept = kept_from(&cluster);
        fill(&cluster, 10);
        cluster.psql("select pg_switch_wal(); checkpoint");
        assert_eq!(kept_from(&cluster), kept);
        let followed = house.follow(&cluster);
        house.protect(&cluster);
        followed.catch_up(&cluster);
        assert_eq!(holes(&followed.stop()), []);
        assert_latest_has(&house, &options, "restored", &rows(&cluster));
    });
}

/// Nothing works: as where the network to it is gone.
fn away() -> Plan {
    let all = [Operation::Create, Operation::Get, Operation::GetRange, Operation::Head, Operation::List];
    Plan::scripted(all.map(|what| Rule::new(what, Fault::ErrorBefore(ObjectErrorKind::Transient))))
}

#[test]
fn a_repository_that_is_away_for_a_while_costs_nothing_but_time() {
    on_one_version(|installation| {
        let (house, options) = (House::new(), forgetful(installation));
        let cluster = TestCluster::start_with(options.clone());
        fill(&cluster, 100);
        let mut followed = house.follow(&cluster);
        house.protect(&cluster);
        followed.catch_up(&cluster);
        house.faults.set_plan(away());
        fill(&cluster, 100);
        followed.wait_for("complaint", |event| matches!(event, FollowEvent::NotPublished { .. }));
        let durable = followed.handle.status().durable;
        bury_log(&cluster);
        assert!(kept_from(&cluster) <= durable, "the server keeps what is not durable");
        assert_eq!(followed.handle.status().durable, durable);
        // The server is shut down meanwhile, which it could not while we held on; and the repository is needed to
        // know where to go on.
        let mut cluster = cluster;
        cluster.stop(StopMode::Fast);
        cluster.start_server();
        fill(&cluster, 100);
        assert!(kept_from(&cluster) <= durable);
        house.faults.set_plan(Plan::none());
        followed.catch_up(&cluster);
        assert_eq!(holes(&followed.stop()), []);
        assert!(house.points().holes.is_empty());
        assert_latest_has(&house, &options, "restored", &rows(&cluster));
    });
}

/// A small file system of its own in memory, gone when this is dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None` where only root may have one and we are not.
    fn mount(path: PathBuf, size: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: only root can mount a small disk");
            return None;
        }
        std::fs::create_dir_all(&path).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], &path);
        Some(Self(path))
    }

    fn grow(&self, size: &str) {
        mount(&["-o", &format!("remount,size={size}")], &self.0);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], path: &Path) {
    let mounted = Command::new("mount").args(arguments).arg(path).status().unwrap();
    assert!(mounted.success(), "mount {arguments:?} {}", path.display());
}

#[test]
fn a_repository_that_is_full_takes_the_rest_once_it_has_room() {
    on_one_version(|installation| {
        let place = tempfile::tempdir().unwrap();
        let Some(disk) = Disk::mount(place.path().join("repository"), "12m") else { return };
        let (house, options) = (House::in_place(place), forgetful(installation));
        let cluster = TestCluster::start_with(options.clone());
        fill(&cluster, 100);
        let mut followed = house.follow(&cluster);
        house.protect(&cluster);
        cluster.psql(
            "create table noise as select string_agg(md5(random()::text), '') as hex
            from generate_series(1, 800000) i group by i / 50",
        );
        let hint = wait_until_full(&mut followed);
        assert!(
            hint.is_some_and(|hint| hint.contains("space") || hint.contains("room")),
            "{:?}",
            followed.said
        );
        let durable = followed.handle.status().durable;
        bury_log(&cluster);
        assert!(kept_from(&cluster) <= durable, "the server keeps what is not durable");
        disk.grow("400m");
        followed.catch_up(&cluster);
        assert_eq!(holes(&followed.stop()), []);
        let noise = "select count(*) || md5(string_agg(hex, '' order by hex)) from noise";
        let restored = house.restored(&house.latest(), &options, "restored");
        assert_eq!((restored.psql(noise), rows(&restored)), (cluster.psql(noise), rows(&cluster)));
        drop(disk);
    });
}

/// What it advises once the repository is full.
fn wait_until_full(followed: &mut Followed) -> Option<String> {
    followed.wait_for("complaint", |event| matches!(event, FollowEvent::NotPublished { .. }));
    match followed.said.last() {
        Some(FollowEvent::NotPublished { hint, .. }) => hint.clone(),
        _ => None,
    }
}

const PLACE: &str = "LIFEBOAT_TEST_HOUSE";
const URL: &str = "LIFEBOAT_TEST_URL";

#[test]
#[ignore = "run by another test, as a process of its own"]
fn a_follower_as_a_process_of_its_own() {
    let place = PathBuf::from(std::env::var_os(PLACE).unwrap());
    let (follower, events) = follower(&reopened(&place), &std::env::var(URL).unwrap());
    std::thread::spawn(move || events.iter().for_each(|event| println!("{event:?}")));
    follower.run().unwrap();
}

/// Killed where it is dropped.
struct Process(Child);

impl Process {
    fn follower(house: &House, cluster: &TestCluster, failpoints: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "bad_days::a_follower_as_a_process_of_its_own", "--ignored", "--nocapture"]);
        command.env(PLACE, house.place.path()).env(URL, url(cluster)).env("LIFEBOAT_FAILPOINTS", failpoints);
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }

    fn is_gone(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    fn assert_killed(&mut self, when: &str) {
        let status = self.0.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{when}: {status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every failpoint of the follower, with how often it is passed before the kill.
const KILLS: [(&str, u32); 4] = [
    ("postgres::received-not-published", 0),
    ("postgres::published-not-acknowledged", 0),
    ("postgres::received-not-published", 2),
    ("postgres::published-not-acknowledged", 2),
];
/// The one that only a promotion reaches.
const AT_PROMOTION: &str = "postgres::timeline-ended";

#[test]
fn no_failpoint_of_the_follower_is_forgotten() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store-postgres/src/follow");
    let mut found = 0;
    for file in std::fs::read_dir(sources).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for (at, _) in text.match_indices("reach(\"") {
            let name = text[at + "reach(\"".len()..].split('"').next().unwrap();
            found += 1;
            assert!(name == AT_PROMOTION || KILLS.iter().any(|(kill, _)| *kill == name), "{name}");
        }
    }
    assert_eq!(found, 3);
}

#[test]
fn a_follower_that_is_killed_at_any_failpoint_goes_on_without_a_hole() {
    on_one_version(|installation| {
        let (house, options) = (House::new(), forgetful(installation));
        open_to_all(house.place.path());
        let primary = TestCluster::start_with(options.clone());
        fill(&primary, 100);
        let standby = primary.standby();
        {
            let _follower = Process::follower(&house, &standby, "");
            standby.wait_for("select active from pg_replication_slots", "t");
            house.protect(&standby);
        }
        for (failpoint, passed) in KILLS {
            let mut follower = Process::follower(&house, &standby, &format!("{failpoint}={passed}*kill"));
            let watch = Stopwatch::start();
            while !follower.is_gone() {
                assert!(watch.elapsed() < HAPPENS_WITHIN, "{failpoint} is not reached");
                fill(&primary, 5);
            }
            follower.assert_killed(failpoint);
        }
        let last = rows(&primary);
        standby.wait_for(crate::house::CHECKSUM, &last);
        let mut follower = Process::follower(&house, &standby, &format!("{AT_PROMOTION}=kill"));
        standby.wait_for("select active from pg_replication_slots", "t");
        standby.promote();
        follower.assert_killed(AT_PROMOTION);
        fill(&standby, 20);
        assert_eq!(holes(&followed_to_the_end(&house, &standby)), []);
        assert!(house.logs().iter().all(|log| log.holes.is_empty()), "{:?}", house.logs());
        assert_latest_has(&house, &options, "second", &rows(&standby));
        let first = house.resolve_on(Point::Latest, Some(TimelineId(1))).unwrap();
        assert_eq!(rows(&house.restored(&first, &options, "first")), last);
    });
}

#[test]
fn a_follower_and_its_server_that_restart_over_and_over_lose_nothing() {
    on_one_version(|installation| {
        let (house, options) = (House::new(), forgetful(installation));
        let mut cluster = TestCluster::start_with(options.clone());
        fill(&cluster, 100);
        {
            let _follower = Process::follower(&house, &cluster, "");
            cluster.wait_for("select active from pg_replication_slots", "t");
            house.protect(&cluster);
        }
        for round in 0..6 {
            let follower = Process::follower(&house, &cluster, "");
            cluster.wait_for("select active from pg_replication_slots", "t");
            fill(&cluster, 40);
            let end = flushed(&cluster);
            match round % 3 {
                0 => drop(follower),
                1 => cluster.kill9(),
                _ => {
                    cluster.kill9();
                    drop(follower);
                }
            }
            if round % 3 != 0 {
                std::thread::sleep(Duration::from_millis(20));
                cluster.start_server();
                assert!(flushed(&cluster) >= end);
            }
        }
        assert_eq!(holes(&followed_to_the_end(&house, &cluster)), []);
        assert!(house.logs().iter().all(|log| log.holes.is_empty()), "{:?}", house.logs());
        assert_latest_has(&house, &options, "restored", &rows(&cluster));
    });
}
