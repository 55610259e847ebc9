//! Synchronous mode against real servers, with followers that hang and die.

use crate::children;
use crate::support::{AT_MOST, Scene, on_each_version};
use lifeboat_base::Hint;
use lifeboat_base::clock::Stopwatch;
use lifeboat_store_postgres::Follower;
use lifeboat_store_postgres::synchronous::{
    EditError, ExposureReason, SynchronousError, WatchdogEvent, check_synchronous, keep_watchdog,
};
use lifeboat_wire_postgres::ConnectOptions;
use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

fn reasons(scene: &Scene) -> Vec<(ExposureReason, bool)> {
    scene.intervals().iter().map(|interval| (interval.reason, interval.to.is_some())).collect()
}

#[test]
fn what_could_not_be_undone_is_refused_at_the_start() {
    on_each_version(|installation| {
        let scene = Scene::new(installation);
        scene.cluster.psql("create role \"Boat\" login replication");
        let url = scene.url().replace("user=postgres", "user=Boat");
        let options = ConnectOptions::parse(&url, &|_| None).unwrap();
        // What the hint says is done, one statement at a time: each leaves one thing less to say.
        for missing in [3, 2, 1] {
            let error = check_synchronous(&options).unwrap_err();
            let SynchronousError::Privileges { grants, .. } = &error else { panic!("{error}") };
            assert_eq!(grants.len(), missing, "{error}");
            assert!(error.hint().unwrap().ends_with(&grants.join(" ")));
            scene.cluster.psql(&grants[0]);
        }
        let standing = check_synchronous(&options).unwrap();
        assert_eq!((standing.name.as_str(), standing.listed), ("lifeboat", false));
        assert_eq!(standing.notes, Vec::<String>::new());
        for (names, refused) in [("*", true), ("ANY 1 (a, b)", true), ("ANY 1 (a, lifeboat)", false)] {
            scene.cluster.psql(&format!("alter system set synchronous_standby_names = '{names}'"));
            scene.cluster.psql("select pg_reload_conf()");
            scene.wait_for_names(names);
            match check_synchronous(&options) {
                Err(SynchronousError::Edit(EditError::Wildcard { .. } | EditError::Quorum { .. })) => {
                    assert!(refused, "{names}");
                }
                Ok(standing) => assert!(!refused && standing.listed && standing.notes.len() == 1, "{names}"),
                Err(error) => panic!("{names}: {error}"),
            }
        }
        scene.set_names("");
        scene.cluster.psql("alter role \"Boat\" set synchronous_commit = remote_apply");
        assert!(matches!(check_synchronous(&options), Err(SynchronousError::RemoteApply)));
        let standby = scene.cluster.standby();
        let options = ConnectOptions::parse(&standby.url("postgres"), &|_| None).unwrap();
        assert!(matches!(check_synchronous(&options), Err(SynchronousError::Standby)));
    });
}

#[test]
fn a_follower_that_hangs_keeps_commits_waiting_no_longer_than_was_set() {
    on_each_version(|installation| {
        let scene = Scene::new(installation);
        let _other = scene.other_standby("a");
        scene.set_names("a");
        let follower = scene.follower();
        scene.wait_for_names("FIRST 2 (lifeboat, a)");
        scene.wait_for_intervals("covered", |all| all.last().is_some_and(|last| last.to.is_some()));
        scene.write(1).join().unwrap();
        follower.signal(Signal::STOP);
        let hung = scene.write(2);
        scene.wait_for_names("a");
        hung.join().unwrap();
        assert_eq!(reasons(&scene), [(ExposureReason::Starting, true), (ExposureReason::Stalled, false)]);
        scene.write(3).join().unwrap();
        follower.signal(Signal::CONT);
        scene.wait_for_names("FIRST 2 (lifeboat, a)");
        scene.wait_for_intervals("covered again", |all| all.iter().all(|interval| interval.to.is_some()));
        scene.write(4).join().unwrap();
        follower.stop();
        assert_eq!(scene.names(), "a");
        let expected = [ExposureReason::Starting, ExposureReason::Stalled, ExposureReason::Stopped]
            .map(|r| (r, r != ExposureReason::Stopped));
        assert_eq!(reasons(&scene), expected);
        assert_eq!(scene.cluster.psql("select count(*) from t"), "4");
    });
}

#[test]
fn a_follower_that_is_killed_is_taken_out_and_comes_back() {
    on_each_version(|installation| {
        let scene = Scene::new(installation);
        // From the file that administrators edit: what is put back is exactly that.
        scene.cluster.set("synchronous_standby_names", "LIFEBOAT");
        scene.cluster.reload();
        let follower = scene.follower();
        scene.write(1).join().unwrap();
        scene.wait_for_intervals("nothing to record", |all| all.iter().all(|interval| interval.to.is_some()));
        follower.signal(Signal::KILL);
        scene.write(2).join().unwrap();
        scene.wait_for_names("");
        scene.wait_for_intervals("on record", |all| {
            all.last().is_some_and(|last| last.reason == ExposureReason::FollowerGone && last.to.is_none())
        });
        drop(follower);
        let follower = scene.follower();
        scene.wait_for_names("LIFEBOAT");
        scene.wait_for_intervals("covered", |all| all.iter().all(|interval| interval.to.is_some()));
        let automatic = std::fs::read_to_string(scene.cluster.data().join("postgresql.auto.conf")).unwrap();
        assert!(!automatic.contains("synchronous_standby_names"), "{automatic}");
        scene.write(3).join().unwrap();
        follower.stop();
        assert_eq!(scene.names(), "");
    });
}

/// The watchdog is killed in each crash window, when the name is put in and when it is taken out; the next one goes
/// on from there.
#[test]
fn a_watchdog_that_is_killed_at_any_moment_is_followed_by_one_that_puts_it_right() {
    let windows = [
        "synchronous::looked",
        "synchronous::exposure-recorded",
        "synchronous::placement-recorded",
        "synchronous::altered-not-reloaded",
        "synchronous::reloaded",
    ];
    on_each_version(|installation| {
        let scene = Scene::new(installation);
        let _other = scene.other_standby("a");
        scene.set_names("a");
        for window in windows {
            for passes in [0, 1] {
                println!("{window} after {passes}");
                kill_watchdog_at(&scene, &format!("{window}={passes}*kill"));
            }
        }
    });
}

fn kill_watchdog_at(scene: &Scene, failpoint: &str) {
    let house = scene.house();
    // Each time from the beginning, so that each window is passed as often.
    let _ = std::fs::remove_dir_all(house.watchdog_config().directory);
    scene.cluster.psql(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = 'lifeboat_app' and not active",
    );
    let (follower, _events) = Follower::new(&house.repository, &house.dataset, house.follow_options());
    let following = follower.handle();
    let thread = std::thread::spawn(move || follower.run());
    let started = Arc::new(AtomicU32::new(0));
    let (count, failpoint) = (started.clone(), failpoint.to_owned());
    let start = move || {
        let mut command = children::command("watchdog");
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            command.env("LIFEBOAT_FAILPOINTS", &failpoint);
        }
        command
    };
    let (said, events) = channel();
    let keeper =
        keep_watchdog(start, house.watchdog_config(), house.server(), following.clone(), said, AT_MOST)
            .unwrap();
    scene.wait_for_names("FIRST 2 (lifeboat, a)");
    scene.wait_for_intervals("covered", |all| all.iter().all(|interval| interval.to.is_some()));
    scene.write(1).join().unwrap();
    // Now it stalls: nobody acknowledges any more.
    following.stop();
    thread.join().unwrap().unwrap();
    scene.write(2).join().unwrap();
    scene.wait_for_names("a");
    scene.wait_for_intervals("exposed", |all| all.last().is_some_and(|last| last.to.is_none()));
    let watch = Stopwatch::start();
    while started.load(Ordering::SeqCst) < 2 {
        assert!(watch.elapsed() < AT_MOST, "the failpoint was reached");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(keeper.stop(), "the name is out");
    assert_eq!(scene.names(), "a");
    let said: Vec<_> = events.try_iter().collect();
    assert_eq!(said.iter().filter(|event| **event == WatchdogEvent::Restarted).count(), 1, "{said:?}");
}

#[test]
fn where_no_watchdog_can_be_had_synchronous_mode_ends() {
    on_each_version(|installation| {
        let scene = Scene::new(installation);
        let house = scene.house();
        let (follower, _events) = Follower::new(&house.repository, &house.dataset, house.follow_options());
        let following = follower.handle();
        let thread = std::thread::spawn(move || follower.run());
        let (said, events) = channel();
        // The first one works until the name is in; those after it die before they look.
        let started = AtomicU32::new(0);
        let start = move || {
            let mut command = children::command("watchdog");
            let first = started.fetch_add(1, Ordering::SeqCst) == 0;
            let failpoint = if first { "synchronous::looked=30*kill" } else { "synchronous::looked=kill" };
            command.env("LIFEBOAT_FAILPOINTS", failpoint);
            command
        };
        let keeper =
            keep_watchdog(start, house.watchdog_config(), house.server(), following.clone(), said, AT_MOST)
                .unwrap();
        scene.wait_for_names("FIRST 1 (lifeboat)");
        let unguarded = std::iter::from_fn(|| events.recv_timeout(AT_MOST).ok())
            .find(|event| *event == WatchdogEvent::Unguarded);
        assert!(unguarded.is_some());
        assert_eq!(scene.names(), "");
        assert!(scene.intervals().last().unwrap().to.is_none());
        following.stop();
        thread.join().unwrap().unwrap();
        // Nobody follows, and nobody waits.
        scene.write(1).join().unwrap();
        assert!(keeper.stop());
    });
}

#[test]
fn a_name_that_an_administrator_takes_out_stays_out_until_the_next_start() {
    on_each_version(|installation| {
        let scene = Scene::new(installation);
        let follower = scene.follower();
        scene.wait_for_names("FIRST 1 (lifeboat)");
        scene.wait_for_intervals("covered", |all| all.iter().all(|interval| interval.to.is_some()));
        scene.set_names("");
        scene.wait_for_intervals("noticed", |all| {
            all.last().is_some_and(|last| last.reason == ExposureReason::RemovedByOthers)
        });
        // It would be back by now: it takes our own name back after a second of calm.
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(scene.names(), "");
        scene.set_names("lifeboat");
        scene.wait_for_intervals("covered", |all| all.iter().all(|interval| interval.to.is_some()));
        follower.stop();
        assert_eq!(scene.names(), "");
    });
}

#[test]
fn a_server_that_restarts_finds_its_synchronous_standby_again() {
    on_each_version(|installation| {
        let mut scene = Scene::new(installation);
        let follower = scene.follower();
        scene.wait_for_names("FIRST 1 (lifeboat)");
        scene.cluster.kill9();
        scene.cluster.start_server();
        scene.write(1).join().unwrap();
        scene.wait_for_names("FIRST 1 (lifeboat)");
        scene.wait_for_intervals("covered", |all| all.iter().all(|interval| interval.to.is_some()));
        follower.stop();
        assert_eq!(scene.names(), "");
    });
}
