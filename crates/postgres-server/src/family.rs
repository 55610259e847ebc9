//! A server and its children, ended at once as by a power cut. It deliberately knows nothing of PostgreSQL.

use lifeboat_base::clock::Stopwatch;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, pidfd_open, waitid,
};
use rustix::time::Timespec;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// SIGKILL needs no cooperation; only a process within an unresponsive device takes longer.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// Kills a child of ours and all of its children, and waits until the latter are gone. The child itself is left
/// for its owner to wait for.
pub(crate) fn kill(parent: Pid) {
    // A stopped parent neither makes new children nor takes leave of old ones: each number stays who it was
    // until we hold it. It deliberately is not continued.
    let _ = kill_process(parent, Signal::STOP);
    // Stopped, or ended before that; in either case its owner has yet to wait for it.
    let _ =
        waitid(WaitId::Pid(parent), WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    let children: Vec<OwnedFd> = children_of(parent).into_iter().filter_map(killed).collect();
    let _ = kill_process(parent, Signal::KILL);
    let watch = Stopwatch::start();
    for child in &children {
        wait_gone(child, GONE_WITHIN.saturating_sub(watch.elapsed()));
    }
}

/// Kills a child and what it started in turn: a server's child leads a group of its own, of the commands that it
/// runs to archive and to restore. Kernels before 5.3 hold no processes: there nobody waits for them.
fn killed(child: Pid) -> Option<OwnedFd> {
    let held = pidfd_open(child, PidfdFlags::empty()).ok();
    let _ = kill_process_group(child, Signal::KILL);
    let _ = kill_process(child, Signal::KILL);
    held
}

fn wait_gone(child: &OwnedFd, limit: Duration) {
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
    let _ = poll(&mut [PollFd::new(child, PollFlags::IN)], Some(&limit));
}

fn children_of(parent: Pid) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|number| parent_of(*number) == Some(parent.as_raw_nonzero().get()))
        .filter_map(Pid::from_raw)
        .collect()
}

fn parent_of(number: i32) -> Option<i32> {
    parent_in(&fs::read_to_string(format!("/proc/{number}/stat")).ok()?)
}

/// `12 (a name) S 7 …`: the name may hold anything, brackets too.
fn parent_in(stat: &str) -> Option<i32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent_in("12 (sleep) S 7 12 3"), Some(7));
        assert_eq!(parent_in("12 (a) S 9 (b) R 8 1"), Some(8));
        assert_eq!(parent_in("12 (a"), None);
    }

    #[test]
    fn children_go_with_their_parent() {
        let mut command = std::process::Command::new("sh");
        let mut parent = command.args(["-c", "sleep 600 & sleep 600 & wait"]).spawn().unwrap();
        let pid = Pid::from_child(&parent);
        while children_of(pid).len() < 2 {
            std::thread::yield_now();
        }
        let held = |child| pidfd_open(child, PidfdFlags::empty()).unwrap();
        let children: Vec<OwnedFd> = children_of(pid).into_iter().map(held).collect();
        kill(pid);
        parent.wait().unwrap();
        assert!(children.iter().all(is_gone));
    }

    fn is_gone(child: &OwnedFd) -> bool {
        poll(&mut [PollFd::new(child, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(1)
    }
}
