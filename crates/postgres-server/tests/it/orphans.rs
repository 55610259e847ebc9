//! No server is left behind, however its owner ends.

use crate::again;
use lifeboat_postgres_server::testing::{TestCluster, test_installation, test_installations};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::thread;

const VERSION: &str = "LIFEBOAT_TEST_HOLD";

/// The process holds a server until it is killed; the first line that matters has the server's number.
fn hold(major: &str) -> ! {
    let installation = test_installation(major.parse().unwrap()).unwrap();
    // Its parent, as the kernel sees it, must not be a thread that ends.
    let cluster = thread::spawn(move || TestCluster::start(&installation)).join().unwrap();
    assert_eq!(cluster.psql("select 1"), "1", "it outlives the thread that asked for it");
    #[expect(clippy::print_stdout, reason = "this is what the other process waits for")]
    {
        println!("\nHOLDS {}", cluster.server().unwrap().pid());
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
        let mut owner = again(
            "orphans::a_killed_owner_leaves_no_server_behind",
            &[(VERSION, &installation.major.to_string())],
        );
        let mut owner = owner.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
        let server = lines.map(Result::unwrap).find_map(|line| line.strip_prefix("HOLDS ")?.parse().ok());
        let server: i32 = server.expect("the other process started its server");
        let processes = family_of(server);
        assert!(processes.len() > 4, "a server and its workers: {}", processes.len());
        owner.kill().unwrap();
        owner.wait().unwrap();
        processes.iter().for_each(wait_gone);
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
    let is_child = |number: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        let above = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        above == Some(parent)
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let family = numbers.filter(is_child).chain([parent]);
    family.filter_map(|number| pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()).collect()
}

fn is_gone(process: &OwnedFd) -> bool {
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&now)) == Ok(1)
}

fn wait_gone(process: &OwnedFd) {
    let long = rustix::time::Timespec { tv_sec: 120, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&long)), Ok(1), "a process still runs");
}
