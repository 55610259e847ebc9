//! Starting a child that does not outlive us, however we end.
//!
//! The kernel can send a child a signal when its parent dies; but its parent is the *thread* that started it. So
//! one thread of this process starts them all, and lives as long as the process. It deliberately knows nothing of
//! what is started.

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

struct Order {
    command: Command,
    answer: SyncSender<io::Result<Child>>,
}

static STARTER: Mutex<Option<Sender<Order>>> = Mutex::new(None);

/// Starts a command that gets `signal` when this process ends.
pub(crate) fn bound_to_us(mut command: Command, signal: Signal) -> io::Result<Child> {
    die_with_parent(&mut command, signal);
    // A group of its own: what a terminal sends to ours (Ctrl-C) is ours to pass on.
    command.process_group(0);
    let (answer, started) = sync_channel(1);
    let gone = || io::Error::other("the thread that starts servers is gone");
    starter()?.send(Order { command, answer }).map_err(|_| gone())?;
    started.recv().map_err(|_| gone())?
}

#[expect(unsafe_code, reason = "the child must ask for the signal itself, between fork and exec")]
fn die_with_parent(command: &mut Command, signal: Signal) {
    let parent = getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(signal))?;
        // The parent may have died before the child could ask.
        if getppid() == Some(parent) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed: these are two system calls, and the
    // error is one number; nothing is allocated or locked.
    unsafe {
        command.pre_exec(ask);
    }
}

fn starter() -> io::Result<Sender<Order>> {
    let mut starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = starter.as_ref() {
        return Ok(sender.clone());
    }
    let (sender, orders) = channel();
    thread::Builder::new().name("server-starter".to_owned()).spawn(move || carry_out(&orders))?;
    Ok(starter.insert(sender).clone())
}

/// Never ends: the static keeps one sender.
fn carry_out(orders: &Receiver<Order>) {
    while let Ok(mut order) = orders.recv() {
        let _ = order.answer.send(order.command.spawn());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, getpgid};
    use std::process::Stdio;

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let asked = thread::spawn(|| {
            let mut command = Command::new("sleep");
            command.arg("600").stdin(Stdio::null());
            bound_to_us(command, Signal::KILL).unwrap()
        });
        let mut child = asked.join().unwrap();
        // The signal of a parent's death is sent before its thread can be joined.
        thread::sleep(std::time::Duration::from_millis(50));
        assert!(child.try_wait().unwrap().is_none(), "it still runs");
        let pid = Pid::from_child(&child);
        assert_eq!(getpgid(Some(pid)), Ok(pid), "in a group of its own");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn what_cannot_be_started_says_so() {
        let error = bound_to_us(Command::new("/nonexistent/program"), Signal::KILL).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
