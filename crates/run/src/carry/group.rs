//! The processes of a script: a group of its own, which ends as a group, and of which nothing outlives an executor
//! that was killed.
//!
//! The script itself gets SIGKILL from the kernel when the thread that started it dies. What it had started has no
//! such tie; it is found by a variable in its environment ([`TAG`]) when the run is resumed. What left for a session of
//! its own (a server that was started as a daemon) did so on purpose and stays.

use rustix::process::{Pid, Signal, kill_process, kill_process_group, set_parent_process_death_signal};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Names the order in the environment of all that belongs to it: run, block, attempt and session.
const TAG: &str = "LIFEBOAT_STEP";

/// How the kernel names a session whose leader is in no namespace of processes that we see: whoever was started by
/// a container's runtime is in one.
const SESSION_OUTSIDE: i32 = 0;

/// Starts a command in a group of its own, tied to this thread and tagged.
#[expect(unsafe_code, reason = "the child must ask for the signal itself, between fork and exec")]
pub(crate) fn spawn(command: &mut Command, order: &str) -> io::Result<Child> {
    let session = session_of("self").unwrap_or(SESSION_OUTSIDE);
    command.env(TAG, format!("{order}/{session}")).process_group(0);
    let parent = rustix::process::getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the child could ask.
        if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed: these are two system calls, and the
    // error is one number; nothing is allocated or locked.
    unsafe {
        command.pre_exec(ask);
    }
    command.spawn()
}

/// Signals everybody in the group of a child.
pub(crate) fn signal(child: &Child, signal: Signal) {
    let _ = kill_process_group(Pid::from_child(child), signal);
}

/// Whether anybody is left in the group of a child.
pub(crate) fn is_empty(child: &Child) -> bool {
    rustix::process::test_kill_process_group(Pid::from_child(child)).is_err()
}

/// Kills what is left of an order of an executor that is gone.
pub(crate) fn clear_up(order: &str) {
    // What forks while we look is found the next time.
    const ROUNDS: u32 = 20;
    for _ in 0..ROUNDS {
        let left: Vec<Pid> = left_of(order).collect();
        if left.is_empty() {
            return;
        }
        for pid in left {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn left_of(order: &str) -> impl Iterator<Item = Pid> {
    let prefix = format!("{TAG}={order}/").into_bytes();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(move |pid: &i32| belongs(*pid, &prefix)).filter_map(Pid::from_raw)
}

fn belongs(pid: i32, prefix: &[u8]) -> bool {
    let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
    let Some(tag) = environment.split(|byte| *byte == 0).find(|variable| variable.starts_with(prefix)) else {
        return false;
    };
    let session = std::str::from_utf8(&tag[prefix.len()..]).ok().and_then(|session| session.parse().ok());
    session.is_some() && session_of(&pid.to_string()) == session
}

/// The session of a process (proc(5), `stat`), [`SESSION_OUTSIDE`] included, which `getsid` has no type for.
fn session_of(pid: &str) -> Option<i32> {
    session_in(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `12 (a name) S PARENT GROUP SESSION …`: the name may hold anything, brackets too.
fn session_in(stat: &str) -> Option<i32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_found_behind_any_name() {
        assert_eq!(session_in("12 (bash) S 7 12 3 0 -1"), Some(3));
        assert_eq!(session_in("12 (a) S 9 9 9 (b) R 8 12 0 0"), Some(SESSION_OUTSIDE));
        assert_eq!(session_in("12 (a) S 9"), None);
    }
}
