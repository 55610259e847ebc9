//! The processes that tests kill: this very program again, told by its environment what to be.
//!
//! As a test among others, without that variable, each of them only says that it is one.

use crate::support::{self, CHILD};
use lifeboat_store_postgres::Follower;
use lifeboat_store_postgres::synchronous::{keep_watchdog, run_watchdog};
use std::io::Read;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

fn is_child(name: &str) -> bool {
    std::env::var(CHILD).is_ok_and(|wanted| wanted == name)
}

/// This program, running one of the tests below and nothing else.
pub(crate) fn command(child: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("children::{child}"), "--nocapture", "--test-threads=1"]);
    command.env(CHILD, child).env_remove("LIFEBOAT_FAILPOINTS");
    command
}

#[test]
fn watchdog() {
    if is_child("watchdog") {
        let environment = |name: &str| std::env::var(name).ok();
        run_watchdog(std::io::stdin(), std::io::stdout(), &environment).unwrap();
    }
}

/// A follower in synchronous mode, until its standard input ends.
#[test]
fn follower() {
    if !is_child("follower") {
        return;
    }
    let house = support::House::from_environment();
    let (follower, events) = Follower::new(&house.repository, &house.dataset, house.follow_options());
    let following = follower.handle();
    let thread = std::thread::spawn(move || follower.run());
    std::thread::spawn(move || events.iter().for_each(|event| eprintln!("follower: {event:?}")));
    let (said, watchdog_events) = channel();
    std::thread::spawn(move || watchdog_events.iter().for_each(|event| eprintln!("watchdog: {event:?}")));
    let keeper = keep_watchdog(
        || command("watchdog"),
        house.watchdog_config(),
        house.server(),
        following.clone(),
        said,
        Duration::from_secs(60),
    )
    .unwrap();
    let _ = std::io::stdin().read(&mut [0]).unwrap();
    assert!(keeper.stop(), "the name is out");
    following.stop();
    thread.join().unwrap().unwrap();
}
