//! Following through a spool, against real servers, while the repository is away.

use crate::support::{AT_MOST, House, on_each_version};
use lifeboat_base::clock::Stopwatch;
use lifeboat_postgres_server::Installation;
use lifeboat_postgres_server::testing::TestCluster;
use lifeboat_postgres_wal::{Lsn, TimelineId};
use lifeboat_store_postgres::{
    DEFAULT_SPOOL_LIMIT_BYTES, Elsewhere, FollowEvent, Follower, Following, PostgresStoreError,
    RepositoryLog, Spool, SpoolOwner, Spooling, drain, histories,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Duration;

const ONE: TimelineId = TimelineId(1);
const TWO: TimelineId = TimelineId(2);

/// A house with a spool.
struct Scene {
    place: tempfile::TempDir,
    house: House,
}

/// A follower at work.
struct Work {
    following: Following,
    events: Receiver<FollowEvent>,
    thread: JoinHandle<Result<(), PostgresStoreError>>,
}

impl Scene {
    fn of(cluster: &TestCluster) -> Self {
        let place = tempfile::tempdir_in("/var/tmp").unwrap();
        let house = House::new(place.path(), &cluster.url("postgres"));
        Self { place, house }
    }

    fn spool(&self) -> Arc<Spool> {
        let owner =
            SpoolOwner { repository: self.house.repository.id(), dataset: self.house.dataset.clone() };
        Arc::new(Spool::open(&self.place.path().join("spool"), owner, DEFAULT_SPOOL_LIMIT_BYTES).unwrap())
    }

    fn follow(&self, elsewhere: Elsewhere) -> Work {
        let spooling = Spooling { spool: self.spool(), elsewhere };
        let options = self.house.follow_options();
        let (follower, events) =
            Follower::through(&self.house.repository, &self.house.dataset, options, Some(spooling));
        let following = follower.handle();
        Work { following, events, thread: std::thread::spawn(move || follower.run()) }
    }

    fn repository(&self) -> PathBuf {
        let mut names = std::fs::read_dir(self.place.path()).unwrap().map(|entry| entry.unwrap().path());
        names.find(|path| path.to_string_lossy().contains("repository-")).unwrap()
    }

    fn log(&self, cluster: &TestCluster) -> RepositoryLog {
        let system = cluster.psql("select system_identifier from pg_control_system()");
        RepositoryLog::new(&self.house.repository, &self.house.dataset, system.trim().parse().unwrap())
    }
}

impl Work {
    /// Waits until what a server has written is acknowledged.
    fn reaches(&self, cluster: &TestCluster) -> Lsn {
        let written: Lsn = cluster.psql("select pg_current_wal_flush_lsn()").trim().parse().unwrap();
        assert!(self.following.wait_for(written, AT_MOST), "{:?}", self.following.status());
        written
    }

    fn until(&self, what: &str, fits: impl Fn(&Following) -> bool) {
        let watch = Stopwatch::start();
        while !fits(&self.following) {
            assert!(watch.elapsed() < AT_MOST, "{what}: {:?}", self.following.status());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(self) -> Vec<FollowEvent> {
        self.following.stop();
        self.thread.join().unwrap().unwrap();
        self.events.try_iter().collect()
    }
}

fn move_to(from: &Path, to: &Path) {
    assert!(std::process::Command::new("mv").arg(from).arg(to).status().unwrap().success());
}

/// A standby is followed, the repository goes away, the standby is promoted and restarted: all of it is acknowledged by
/// the spool, and drained when nobody follows any more.
fn promoted_while_the_repository_is_away(installation: &Installation) {
    let primary = TestCluster::start(installation);
    let mut standby = primary.standby();
    let scene = Scene::of(&standby);
    let work = scene.follow(Elsewhere::Assumed);
    assert!(work.following.wait_until_streaming(AT_MOST));
    primary.psql("create table t as select generate_series(1, 1000) n");
    let before: Lsn = primary.psql("select pg_current_wal_flush_lsn()").trim().parse().unwrap();
    assert!(work.following.wait_for(before, AT_MOST));
    work.until("published", |following| {
        following.status().spool.unwrap().published.is_some_and(|(_, end)| end >= before)
    });

    let (repository, away) = (scene.repository(), scene.place.path().join("away"));
    move_to(&repository, &away);
    standby.promote();
    standby.psql("insert into t select generate_series(1001, 2000)");
    work.until("the next timeline", |following| following.status().timeline == TWO);
    work.reaches(&standby);
    // Another connection: where to go on is what the spool says.
    standby.restart();
    standby.psql("insert into t select generate_series(2001, 3000)");
    let end = work.reaches(&standby);
    assert!(work.following.status().spool.unwrap().waiting_bytes > 0);
    let events = work.stop();
    let has = |fits: fn(&FollowEvent) -> bool| events.iter().any(fits);
    assert!(has(|event| matches!(event, FollowEvent::Switched { from: ONE, to: TWO, .. })), "{events:?}");
    assert!(has(|event| matches!(event, FollowEvent::NotPublished { .. })), "{events:?}");
    assert!(has(|event| matches!(event, FollowEvent::Spooled { ends: true, .. })), "{events:?}");
    assert!(!has(|event| matches!(event, FollowEvent::Hole { .. })), "{events:?}");

    move_to(&away, &repository);
    let drained = drain(&scene.spool(), &scene.house.repository, &mut |_| {}).unwrap();
    assert!(drained.bytes > 0);
    let mut log = scene.log(&standby);
    assert_eq!(log.timelines().unwrap(), [ONE, TWO]);
    assert!(log.end(TWO).unwrap() >= Some(end));
    let kept = histories(&scene.house.repository, &scene.house.dataset, log.system()).unwrap();
    assert_eq!(kept.keys().copied().collect::<Vec<_>>(), [TWO]);

    // And without a spool it goes on from there.
    let (follower, events) =
        Follower::new(&scene.house.repository, &scene.house.dataset, scene.house.follow_options());
    let work =
        Work { following: follower.handle(), events, thread: std::thread::spawn(move || follower.run()) };
    work.reaches(&standby);
    assert!(!work.stop().iter().any(|event| matches!(event, FollowEvent::Hole { .. })));
}

#[test]
fn a_promotion_goes_through_the_spool() {
    on_each_version(promoted_while_the_repository_is_away);
}

#[test]
fn a_spool_beside_its_server_is_not_begun() {
    on_each_version(|installation| {
        let cluster = TestCluster::start(installation);
        let work = Scene::of(&cluster).follow(Elsewhere::Checked);
        let refused = work.thread.join().unwrap().unwrap_err();
        assert!(matches!(refused, PostgresStoreError::SpoolBesideServer { .. }) && refused.is_usage());
        assert_eq!(cluster.psql("select count(*) from pg_replication_slots"), "0");
    });
}
