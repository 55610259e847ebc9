//! What a plan says of reading checks and of copies' retention is kept: seen from outside, and in the repositories.

use crate::world::{KEY, SERVE, World, plan};
use lifeboat_base::Secret;
use lifeboat_base::crashsafe;
use lifeboat_evidence::{Action, Event, Outcome, SignedReceipt};
use lifeboat_objects::directory::DirectoryStore;
use lifeboat_repository::ids::{BodyHash, DatasetName};
use lifeboat_repository::{Environment, Held, Repository, Role, Unlock};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn opened(world: &World, below: &str, state: &tempfile::TempDir) -> Arc<Repository> {
    let store = DirectoryStore::open(world.path(below)).unwrap();
    let environment = Environment { state: Some(state.path().to_owned()), ..Environment::default() };
    let unlock = Unlock::Command(Secret::new(KEY.to_vec()));
    Arc::new(Repository::open(Arc::new(store), &unlock, environment).unwrap())
}

/// The snapshots of a dataset, oldest first.
fn snapshots(repository: &Repository, dataset: &str) -> Vec<BodyHash> {
    let dataset = DatasetName::new(dataset).unwrap();
    let snapshots = repository.snapshots(Some(&dataset), &mut Vec::new()).unwrap();
    snapshots.into_iter().map(|published| published.id).collect()
}

/// What receipts say was done so.
fn events(repository: &Repository, action: &Action) -> Vec<Event> {
    let mut events = Vec::new();
    for chain in repository.receipt_chains().unwrap() {
        for number in repository.receipt_numbers(&chain, 0, 10_000).unwrap() {
            let receipt = SignedReceipt::parse(&repository.read_receipt(&chain, number).unwrap()).unwrap();
            events.push(receipt.receipt().draft.event.clone());
        }
    }
    events.retain(|event| event.action == *action);
    events
}

fn jobs(world: &World, which: &str) -> Vec<Value> {
    world.get(&format!("/api/v1/jobs?{which}")).json()["jobs"].as_array().unwrap().clone()
}

fn failures_of(world: &World, name: &str) -> Option<u64> {
    let status = world.status();
    let jobs = status["jobs"].as_array()?;
    jobs.iter().find(|job| job["name"] == name)?["failures"].as_u64()
}

/// The largest object below a folder.
fn largest(folder: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => pending.push(entry.path()),
                false => found.push((entry.metadata().unwrap().len(), entry.path())),
            }
        }
    }
    found.into_iter().max().unwrap().1
}

#[test]
fn bits_that_flip_are_found_within_the_time_and_stay_found_until_they_are_sound() {
    let text = plan(SERVE).replace("[repository]", "[repository]\ncheck_within = \"4s\"");
    let world = World::listening(&text);
    // What does not compress: the middle of its pack is content, and no listing.
    let noise: Vec<[u8; 32]> = (0..10_000).map(|_| lifeboat_base::random::bytes()).collect();
    crashsafe::create(&world.path("tree/noise"), &noise.concat()).unwrap();
    let world = world.ready();
    let read = |job: &Value| job["detail"]["read_bytes"].as_u64() > Some(300_000);
    world.until("the large pack was read", |world| jobs(world, "kind=check&outcome=done").iter().any(read));
    let (pack, state) = (largest(&world.path("repository/packs")), tempfile::tempdir().unwrap());
    let name = pack.file_name().unwrap().to_string_lossy().into_owned();
    let sound = std::fs::read(&pack).unwrap();
    let mut flipped = sound.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    crashsafe::replace(&pack, &flipped).unwrap();
    world.until("it was found", |world| failures_of(world, "check") > Some(0));
    let failed = jobs(&world, "kind=check&outcome=failed");
    let detail = &failed.last().unwrap()["detail"];
    assert!(detail["problems"][0].as_str().unwrap().contains(&name), "{detail}");
    assert!(detail["error"].as_str().unwrap().contains(&name), "{detail}");
    // Checks that read other parts do not say that all is well.
    world.until("it is found again", |world| failures_of(world, "check") > Some(2));
    let repository = opened(&world, "repository", &state);
    let found = events(&repository, &Action::Check);
    let [event] = &found[..] else { panic!("{found:?}") };
    assert_eq!(event.outcome, Outcome::Failed);
    assert!(event.reasons.iter().any(|reason| reason.contains(&name)), "{event:?}");
    crashsafe::replace(&pack, &sound).unwrap();
    world.until("it is sound again", |world| failures_of(world, "check") == Some(0));
}

#[test]
fn a_copy_is_kept_by_its_own_rules() {
    let text = plan(SERVE)
        .replace("name = \"away\"", "name = \"away\"\nretain = { versions = 2 }")
        .replace("[repository]", "[repository]\nprune = { every = \"1s\" }");
    let mut world = World::listening(&text).ready();
    world.until("the copy gave something up", |world| {
        let pruned = jobs(world, "kind=prune&subject=away&outcome=done");
        let forgotten: u64 = pruned.iter().filter_map(|job| job["detail"]["forgotten"].as_u64()).sum();
        // The controller's own records are given up as well, no more than two.
        forgotten >= 6
    });
    world.end();
    let states = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (origin, copy) = (opened(&world, "repository", &states[0]), opened(&world, "copy", &states[1]));
    let (there, here) = (snapshots(&copy, "tree"), snapshots(&origin, "tree"));
    // Some may have come since the last prune, and the newest may not be there yet.
    let newest = there.last().expect("never none");
    assert!(here[here.len() - 2..].contains(newest), "{there:?} of {here:?}");
    assert!(there.len() < here.len() && there.iter().all(|id| here.contains(id)), "{there:?} of {here:?}");
    let ever = Held::of(&copy).unwrap();
    let given_up = here.iter().filter(|id| ever.has_had(id) && !there.contains(id)).count();
    assert!(given_up >= 4, "{given_up}");
    let copied = events(&origin, &Action::Copy).into_iter().filter(|event| event.outcome == Outcome::Done);
    assert!(copied.count() >= 3);
    let of_copy: Vec<Event> = events(&origin, &Action::Prune)
        .into_iter()
        .filter(|event| event.facts.contains_key("copy") && event.outcome == Outcome::Done)
        .collect();
    assert!(
        !of_copy.is_empty() && of_copy.iter().all(|event| event.subject.dataset.is_none()),
        "{of_copy:?}"
    );
}

#[test]
fn a_copy_that_lets_us_write_and_not_delete_is_said_to_be_one() {
    let text = plan(SERVE).replace("[repository]", "[repository]\nprune = { every = \"1s\" }");
    let world = World::listening(&text);
    // There this host is enrolled, and not as a maintainer.
    let environment = Environment { state: Some(world.path("state")), ..Environment::default() };
    let store = Arc::new(DirectoryStore::open(world.path("copy")).unwrap());
    let copy = Repository::open(store, &Unlock::Command(Secret::new(KEY.to_vec())), environment).unwrap();
    copy.enrol(copy.writer().unwrap().public(), "here", Role::Write, Vec::new()).unwrap();
    let world = world.ready();
    world.until("it is said", |world| !jobs(world, "kind=prune&subject=away&outcome=left-out").is_empty());
    let job = &jobs(&world, "kind=prune&subject=away")[0];
    let reason = job["detail"]["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("away gives nothing up: this host may not delete there"), "{job}");
    assert_eq!(failures_of(&world, "prune away"), Some(0), "the plan asks nothing else of it");
    // It is written to all the same.
    let state = tempfile::tempdir().unwrap();
    let copied = |world: &World| snapshots(&opened(world, "copy", &state), "tree").len();
    let before = copied(&world);
    world.until("it is brought up to date", |world| copied(world) > before);
}
