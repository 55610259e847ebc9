//! Histories that part: promotions while a cluster is followed, old primaries and clones that come back, another
//! cluster under the same name.

use crate::house::{CHECKSUM, House, fill, flushed, on_each_version, on_one_version, rows, url};
use lifeboat_postgres_server::StopMode;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster};
use lifeboat_postgres_wal::{Edge, Target as Point, TimelineId};
use lifeboat_repository::LogExtent;
use lifeboat_store_postgres::{FollowEvent, PostgresStoreError, RecoveryTarget, resolve};
use std::process::Command;

const ONE: TimelineId = TimelineId(1);
const TWO: TimelineId = TimelineId(2);
const SEGMENT_BYTES: u64 = 1 << 20;

fn small(installation: &lifeboat_postgres_server::Installation) -> ClusterOptions {
    ClusterOptions { wal_segment_mib: 1, ..ClusterOptions::new(installation.clone()) }
}

/// Where the standby is promoted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    MidSegment,
    AtBoundary,
}

#[test]
fn a_promotion_is_followed_and_each_timeline_restored_and_the_old_primary_refused() {
    on_each_version(|installation| {
        for place in [Where::MidSegment, Where::AtBoundary] {
            promoted(&small(installation), place);
        }
    });
}

fn promoted(options: &ClusterOptions, place: Where) {
    let house = House::new();
    let mut primary = TestCluster::start_with(options.clone());
    fill(&primary, 300);
    let standby = primary.standby();
    let mut followed = house.follow(&standby);
    house.protect(&standby);
    fill(&primary, 200);
    let early = rows(&primary);
    primary.psql("select pg_create_restore_point('early')");
    fill(&primary, 100);
    let last = rows(&primary);
    standby.wait_for(CHECKSUM, &last);
    if place == Where::AtBoundary {
        reach_boundary(&primary, &standby);
        primary.kill9();
    }
    standby.promote();
    fill(&standby, 77);
    standby.psql("select pg_create_restore_point('second')");
    let second = rows(&standby);
    fill(&standby, 5);
    followed.wait_for("switch", |event| matches!(event, FollowEvent::Switched { .. }));
    let Some(FollowEvent::Switched { from, to, at }) = followed.said.last() else { unreachable!() };
    assert_eq!((*from, *to), (ONE, TWO));
    assert_eq!(at.0.is_multiple_of(SEGMENT_BYTES), place == Where::AtBoundary, "{at}");
    followed.catch_up(&standby);
    assert_eq!(crate::house::holes(&followed.stop()), []);
    if place == Where::AtBoundary {
        primary.start_server();
    }
    assert_old_primary_refused(&house, &primary);
    let name = |name: &str| Point::Name(name.to_owned());
    for (into, target, timeline, there) in [
        ("early", name("early"), Some(ONE), &early),
        ("early-by-two", name("early"), Some(TWO), &early),
        ("last-of-one", Point::Latest, Some(ONE), &last),
        ("second", name("second"), Some(TWO), &second),
        ("latest", Point::Latest, None, &rows(&standby)),
    ] {
        let path = house.resolve_on(target, timeline);
        let path = path.unwrap_or_else(|error| panic!("{into}: {}", lifeboat_base::report(&error)));
        assert_eq!(&rows(&house.restored(&path, options, into)), there, "{into} {place:?}");
    }
    assert!(house.resolve_on(name("second"), Some(ONE)).is_err(), "it is of the other branch");
    assert!(house.resolve_on(Point::Latest, Some(TimelineId(3))).is_err(), "there is no such timeline");
}

/// Fills the segment up, until nothing is written behind it on either side.
fn reach_boundary(primary: &TestCluster, standby: &TestCluster) {
    for _ in 0..100 {
        primary.psql("select pg_switch_wal()");
        let end = flushed(primary);
        standby.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{end}'"), "t");
        if end.0.is_multiple_of(SEGMENT_BYTES) && flushed(standby) == end {
            return;
        }
        fill(primary, 1);
    }
    panic!("the primary is never quiet at the end of a segment");
}

fn extents(house: &House) -> Vec<(String, Vec<LogExtent>)> {
    house.logs().into_iter().map(|log| (log.lineage.as_str().to_owned(), log.stretches)).collect()
}

fn assert_old_primary_refused(house: &House, primary: &TestCluster) {
    fill(primary, 1000);
    let before = extents(house);
    let refused = house.begin_to_follow(&url(primary)).refused();
    assert!(
        matches!(refused, PostgresStoreError::NoDescendant { server: ONE, kept: TWO }),
        "{}",
        lifeboat_base::report(&refused)
    );
    assert!(house.try_protect(&url(primary)).is_err());
    assert_eq!(extents(house), before);
}

#[test]
fn a_clone_that_went_its_own_way_on_the_same_timeline_is_refused() {
    on_one_version(|installation| {
        let (house, options) = (House::new(), small(installation));
        let mut cluster = TestCluster::start_with(options.clone());
        fill(&cluster, 300);
        let followed = house.follow(&cluster);
        house.protect(&cluster);
        followed.catch_up(&cluster);
        followed.stop();
        cluster.stop(StopMode::Fast);
        let copy = house.place.path().join("clone");
        let copied = Command::new("cp").arg("-a").arg(cluster.data()).arg(&copy).status().unwrap();
        assert!(copied.success());
        cluster.start_server();
        let followed = house.follow(&cluster);
        fill(&cluster, 400);
        let end = followed.catch_up(&cluster);
        followed.stop();
        let before = extents(&house);
        let mut clone = TestCluster::of_directory(options.clone(), &copy);
        clone.start_server();
        let refused = house.begin_to_follow(&url(&clone)).refused();
        assert!(matches!(refused, PostgresStoreError::Behind { .. }), "{}", lifeboat_base::report(&refused));
        while flushed(&clone) <= end {
            fill(&clone, 300);
        }
        let refused = house.begin_to_follow(&url(&clone)).refused();
        assert!(
            matches!(refused, PostgresStoreError::Diverged { .. }),
            "{}",
            lifeboat_base::report(&refused)
        );
        assert!(house.try_protect(&url(&clone)).is_err(), "nor is a snapshot of it taken");
        assert_eq!(extents(&house), before, "nothing was appended");
        // The one that was followed goes on.
        let followed = house.follow(&cluster);
        fill(&cluster, 10);
        followed.catch_up(&cluster);
        followed.stop();
        assert_eq!(rows(&house.restored(&house.latest(), &options, "restored")), rows(&cluster));
    });
}

#[test]
fn another_cluster_under_the_same_name_begins_a_lineage_of_its_own() {
    on_one_version(|installation| {
        let (house, options) = (House::new(), small(installation));
        let first = TestCluster::start_with(options.clone());
        fill(&first, 100);
        let snapshot = house.protect(&first).published;
        let (system, first_rows) = (first.control().system_id, rows(&first));
        drop(first);
        let second = TestCluster::start_with(options.clone());
        fill(&second, 200);
        let followed = house.follow(&second);
        let kept = followed.said.iter().find_map(|event| match event {
            FollowEvent::OtherCluster { kept, system } => Some((kept.clone(), *system)),
            _ => None,
        });
        let (kept, new) = kept.expect("it is said");
        assert_eq!(kept.iter().map(ToString::to_string).collect::<Vec<_>>(), [system.to_string()]);
        assert_eq!(new.to_string(), second.control().system_id.to_string());
        house.protect(&second);
        fill(&second, 50);
        followed.catch_up(&second);
        followed.stop();
        assert_eq!(rows(&house.restored(&house.latest(), &options, "second")), rows(&second));
        let old = RecoveryTarget { target: Point::Latest, edge: Edge::Inclusive, timeline: None };
        let old = resolve(&house.repository, &house.dataset, &old, Some(&snapshot)).unwrap();
        assert_eq!(rows(&house.restored(&old, &options, "first")), first_rows);
    });
}

#[test]
fn a_restored_cluster_is_followed_as_a_timeline_of_its_own() {
    on_one_version(|installation| {
        let (house, options) = (House::new(), small(installation));
        let cluster = TestCluster::start_with(options.clone());
        fill(&cluster, 100);
        let followed = house.follow(&cluster);
        house.protect(&cluster);
        fill(&cluster, 10);
        cluster.psql("select pg_create_restore_point('good')");
        let good = rows(&cluster);
        cluster.psql("delete from accounts");
        followed.catch_up(&cluster);
        followed.stop();
        let path = house.resolve(Point::Name("good".to_owned())).unwrap();
        let restored = house.restored(&path, &options, "restored");
        assert_eq!(rows(&restored), good);
        let followed = house.follow(&restored);
        fill(&restored, 33);
        followed.catch_up(&restored);
        followed.stop();
        let there = rows(&restored);
        drop(restored);
        // The old snapshot leads to both branches.
        assert_eq!(rows(&house.restored(&house.latest(), &options, "again")), there);
        let first = house.resolve_on(Point::Latest, Some(ONE)).unwrap();
        assert_eq!(rows(&house.restored(&first, &options, "first")), "0 0");
    });
}

#[test]
fn a_cluster_that_is_restored_to_before_a_promotion_is_protected_again_beside_the_other_branch() {
    on_one_version(|installation| {
        let (house, options) = (House::new(), small(installation));
        let primary = TestCluster::start_with(options.clone());
        fill(&primary, 100);
        let standby = primary.standby();
        let followed = house.follow(&standby);
        house.protect(&standby);
        primary.psql("select pg_create_restore_point('early')");
        fill(&primary, 10);
        standby.wait_for(CHECKSUM, &rows(&primary));
        standby.promote();
        fill(&standby, 10);
        followed.catch_up(&standby);
        followed.stop();
        let path = house.resolve_on(Point::Name("early".to_owned()), Some(ONE)).unwrap();
        let restored = house.restored(&path, &options, "restored");
        // Timeline 2 is the standby's, and what is kept of it is not this cluster's.
        assert_eq!(restored.psql("select timeline_id from pg_control_checkpoint()"), "3");
        let before = extents(&house);
        let followed = house.follow(&restored);
        fill(&restored, 33);
        followed.catch_up(&restored);
        followed.stop();
        for (lineage, stretches) in before {
            let now = extents(&house).into_iter().find(|(name, _)| *name == lineage);
            assert!(
                now.is_some_and(|(_, now)| now == stretches || lineage.ends_with("histories")),
                "{lineage}"
            );
        }
        let there = rows(&restored);
        drop(restored);
        assert_eq!(rows(&house.restored(&house.latest(), &options, "third")), there);
        let second = house.resolve_on(Point::Latest, Some(TWO)).unwrap();
        assert_eq!(rows(&house.restored(&second, &options, "second")), rows(&standby));
        // The other branch is not the newest any more.
        fill(&standby, 10);
        let refused = house.begin_to_follow(&url(&standby)).refused();
        assert!(
            matches!(refused, PostgresStoreError::NoDescendant { server: TWO, kept: TimelineId(3) }),
            "{}",
            lifeboat_base::report(&refused)
        );
    });
}

#[test]
fn two_standbys_that_were_promoted_to_the_same_number_are_told_apart() {
    on_one_version(|installation| {
        let (house, options) = (House::new(), small(installation));
        let primary = TestCluster::start_with(options.clone());
        fill(&primary, 100);
        let [one, other] = [primary.standby(), primary.standby()];
        let followed = house.follow(&one);
        house.protect(&one);
        fill(&primary, 10);
        for standby in [&one, &other] {
            standby.wait_for(CHECKSUM, &rows(&primary));
        }
        one.promote();
        fill(&one, 10);
        followed.catch_up(&one);
        followed.stop();
        fill(&primary, 10);
        other.wait_for(CHECKSUM, &rows(&primary));
        other.promote();
        fill(&other, 2000);
        let before = extents(&house);
        let refused = house.begin_to_follow(&url(&other)).refused();
        assert!(
            matches!(refused, PostgresStoreError::Diverged { timeline: TWO, .. }),
            "{}",
            lifeboat_base::report(&refused)
        );
        assert_eq!(extents(&house), before);
    });
}
