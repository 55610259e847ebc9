//! No server is left behind, however its owner ends.

use crate::again;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster, test_installation, test_installations};
use lifeboat_postgres_server::{Identity, ServerPlace};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

const VERSION: &str = "LIFEBOAT_TEST_HOLD";

/// The process holds a server until it is killed; the first line that matters has the server's number.
fn hold(major: &str) -> ! {
    let installation = test_installation(major.parse().unwrap()).unwrap();
    // Its parent, as the kernel sees it, must not be a thread that ends.
    let cluster = thread::spawn(move || TestCluster::start(&installation)).join().unwrap();
    assert_eq!(cluster.psql("select 1"), "1", "it outlives the thread that asked for it");
    #[expect(clippy::print_stdout, reason = "this is what the other process waits for")]
    {
        println!("\nHOLDS {} {}", cluster.server().unwrap().pid(), cluster.place().display());
    }
    loop {
        thread::park();
    }
}

#[test]
fn a_killed_owner_leaves_no_server_behind() {
    if let Ok(major) = std::env::var(VERSION) {
        hold(&major);
    }
    for installation in test_installations() {
        // A place of its own: other tests would sweep it, and a server whose directory is gone ends by itself.
        let temporary = tempfile::tempdir().unwrap();
        fs::set_permissions(temporary.path(), Permissions::from_mode(0o711)).unwrap();
        let variables =
            [(VERSION, installation.major.to_string()), ("TMPDIR", temporary.path().display().to_string())];
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        let mut owner = again("orphans::a_killed_owner_leaves_no_server_behind", &variables);
        let mut owner = owner.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
        let holds = |line: String| line.strip_prefix("HOLDS ").map(str::to_owned);
        let held = lines.map(Result::unwrap).find_map(holds).expect("the other process started its server");
        let (server, place) = held.split_once(' ').unwrap();
        let processes = family_of(server.parse().unwrap());
        assert!(processes.len() > 4, "a server and its workers: {}", processes.len());
        let place = Path::new(place);
        assert!(place.starts_with(temporary.path()) && place.exists());
        owner.kill().unwrap();
        owner.wait().unwrap();
        processes.iter().for_each(wait_gone);
        drop(ServerPlace::new(temporary.path(), &Identity::suitable().unwrap()).unwrap());
        assert!(!place.exists(), "the next one swept what the killed one left");
    }
}

/// Commands that a server runs to archive or to restore would write on after its end.
#[test]
fn a_kill_takes_what_the_server_started() {
    for installation in test_installations() {
        let options = ClusterOptions::new(installation).with("archive_mode", "on");
        let mut cluster = TestCluster::start_with(options.with("archive_command", "sleep 3600"));
        cluster.psql("select pg_switch_wal() from pg_create_restore_point('x')");
        let server = cluster.server().unwrap().pid().cast_signed();
        let grandchildren = loop {
            let found: Vec<i32> = children_of(server).into_iter().flat_map(children_of).collect();
            if !found.is_empty() {
                break found;
            }
            thread::sleep(Duration::from_millis(10));
        };
        let grandchildren: Vec<OwnedFd> = grandchildren.into_iter().filter_map(held).collect();
        assert!(!grandchildren.is_empty());
        cluster.kill9();
        grandchildren.iter().for_each(wait_gone);
    }
}

#[test]
fn a_kill_takes_the_whole_family() {
    for installation in test_installations() {
        let mut cluster = TestCluster::start(&installation);
        let processes = family_of(cluster.server().unwrap().pid().cast_signed());
        assert!(processes.len() > 4, "a server and its workers: {}", processes.len());
        cluster.kill9();
        assert!(processes.iter().all(is_gone), "none is left when it returns");
    }
}

#[test]
fn a_dropped_server_is_stopped() {
    for installation in test_installations() {
        let cluster = TestCluster::start(&installation);
        let (processes, place) =
            (family_of(cluster.server().unwrap().pid().cast_signed()), cluster.place().to_owned());
        drop(cluster);
        processes.iter().for_each(wait_gone);
        assert!(!place.exists(), "nor is its folder left");
    }
}

/// A process and its children, held.
fn family_of(parent: i32) -> Vec<OwnedFd> {
    children_of(parent).into_iter().chain([parent]).filter_map(held).collect()
}

fn held(number: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()
}

fn children_of(parent: i32) -> Vec<i32> {
    let is_child = |number: &i32| {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        let above = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        above == Some(parent)
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}

fn is_gone(process: &OwnedFd) -> bool {
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&now)) == Ok(1)
}

fn wait_gone(process: &OwnedFd) {
    let long = rustix::time::Timespec { tv_sec: 120, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&long)), Ok(1), "a process still runs");
}
