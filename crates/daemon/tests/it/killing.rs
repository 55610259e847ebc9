//! Stores, the repository and the copy taken away one after the other: the status, the metrics and the health say so,
//! and say when they are back.

use crate::world::{SERVE, World};
use serde_json::Value;

fn has_reason(of: &Value, reason: &str) -> bool {
    of["reasons"].as_array().is_some_and(|all| all.iter().any(|one| one["reason"] == reason))
}

fn named<'v>(list: &'v Value, name: &str) -> &'v Value {
    list.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap()
}

fn has_line(world: &World, line: &str) -> bool {
    world.get("/metrics").body.lines().any(|one| one == line)
}

#[test]
fn a_store_that_is_gone_shows_and_so_does_its_return() {
    let world = World::serving(SERVE);
    world.until("all is well", |world| world.get("/health").json()["overall"] == "ok");
    world.take_away("tree");
    world.until("the store is down", |world| {
        has_reason(named(&world.status()["datasets"], "tree"), "store_down")
    });
    let health = world.get("/health");
    assert_eq!(
        (health.status, &health.json()["checks"]["store:tree"]["status"]),
        (503, &Value::from("down"))
    );
    assert!(has_line(&world, "lifeboat_check_up{check=\"store:tree\"} 0"));
    world.until("its job fails", |world| {
        has_reason(named(&world.status()["jobs"], "snapshot tree"), "job_failed")
    });
    assert_ne!(named(&world.status()["datasets"], "tree")["state"], "ok");
    assert!(!has_reason(named(&world.status()["datasets"], "app"), "store_down"));
    let events = world.get("/api/v1/events?limit=1000").json();
    let lost = |one: &Value| one["subject"] == "store:tree" && one["event"] == "lost";
    assert!(events["events"].as_array().unwrap().iter().any(lost), "{events}");
    world.put_back("tree");
    world.until("it is back", |world| world.get("/health").status == 200);
    world.until("its job is well", |world| named(&world.status()["jobs"], "snapshot tree")["failures"] == 0);
}

#[test]
fn a_repository_that_is_gone_shows() {
    let world = World::serving(SERVE);
    world.until("it is reached", |world| {
        has_line(world, "lifeboat_place_reachable{place=\"repository\",role=\"repository\"} 1")
    });
    world.take_away("repository");
    world.until("it is not reached", |world| {
        has_line(world, "lifeboat_place_reachable{place=\"repository\",role=\"repository\"} 0")
    });
    assert!(has_reason(named(&world.status()["places"], "repository"), "place_unreachable"));
    assert!(has_reason(named(&world.status()["datasets"], "tree"), "place_unreachable"));
    world.until("nobody leads", |world| has_reason(&world.status(), "no_leader"));
    assert!(has_line(&world, "lifeboat_leader 0"));
    world.until("the check is down", |world| {
        world.get("/health").json()["checks"]["repository"]["status"] == "down"
    });
    world.put_back("repository");
    world.until("it is back", |world| world.status()["leader"]["here"] == true);
}

#[test]
fn a_copy_that_is_gone_shows_by_the_region_that_it_stood_for() {
    let world = World::serving(SERVE);
    let region = |world: &World| named(&world.status()["datasets"], "tree")["exposures"][2].clone();
    world.until("the copy holds it", |world| region(world)["exposure_seconds"].is_number());
    assert_eq!(region(&world)["domain"], "region");
    world.take_away("copy");
    world.until("it is not reached", |world| {
        has_line(world, "lifeboat_place_reachable{place=\"away\",role=\"copy\"} 0")
    });
    world.until("its job fails", |world| {
        has_reason(named(&world.status()["jobs"], "copy away"), "job_failed")
    });
    world.put_back("copy");
    world.until("its job is well", |world| named(&world.status()["jobs"], "copy away")["failures"] == 0);
}
