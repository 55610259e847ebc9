//! Objects of every kind that are missing, cut short, flipped or swapped: check, prove and restore say so and
//! name what is lost, and everything else still comes back.

use crate::place::{Place, Ran, noise, write_file};
use crate::tree::{self, Item};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

type Tree = BTreeMap<PathBuf, Item>;

/// A repository with a past: live snapshots of two datasets, one forgotten and pruned away, one held.
struct Past {
    place: Place,
    live: Vec<Live>,
}

/// A snapshot that must come back.
struct Live {
    dataset: String,
    id: String,
    position: String,
    files: Tree,
}

impl Past {
    fn new() -> Self {
        let place = Place::new();
        let mut live = Vec::new();
        for (n, dataset) in ["tree", "tree", "other", "tree"].into_iter().enumerate() {
            place.write(&format!("{dataset}/fixed"), noise(7, 5000));
            place.write(&format!("{dataset}/changing"), noise(100 + n as u64, 3000));
            let document = place.json(&["backup", dataset]);
            let text = |field: &str| document["backups"][0][field].as_str().unwrap().to_owned();
            let files = tree::of(&place.path(dataset));
            live.push(Live {
                dataset: dataset.to_owned(),
                id: text("snapshot"),
                position: text("position"),
                files,
            });
        }
        let forgotten = live.remove(0).id;
        place.ok(&["hold", "add", "other", "latest", "--reason", "test"]);
        place.ok(&["forget", "tree", &forgotten]);
        place.ok(&["prune", "--max-unused", "0"]);
        Self { place, live }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Missing,
    Truncated,
    Flipped,
    Swapped,
}

const DAMAGES: [Damage; 4] = [Damage::Missing, Damage::Truncated, Damage::Flipped, Damage::Swapped];

fn inflict(place: &Place, object: &str, damage: Damage, other: &str) {
    let path = place.path("repo").join(object);
    let mut bytes = std::fs::read(&path).unwrap();
    match damage {
        Damage::Missing => return std::fs::remove_file(&path).unwrap(),
        Damage::Truncated => bytes.truncate(bytes.len() / 2),
        Damage::Flipped => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        Damage::Swapped => bytes = std::fs::read(place.path("repo").join(other)).unwrap(),
    }
    write_file(&path, &bytes);
}

/// What nobody can miss once it is gone, because nothing refers to it.
fn is_missed_by_nobody(object: &str, damage: Damage) -> bool {
    // A hold stands alone: what removes it leaves no trace.
    damage == Damage::Missing && object.starts_with("holds/")
}

fn damaged_everywhere(prefix: &str) {
    let past = Past::new();
    let objects = past.place.objects("");
    // What a tombstone stands for is needed by nobody any more.
    let forgotten = |name: &str| objects.contains(&name.replacen("snapshots/", "tombstones/", 1));
    let of_kind: Vec<&String> = objects
        .iter()
        .filter(|name| name.starts_with(prefix) && (prefix != "snapshots/" || !forgotten(name)))
        .collect();
    assert!(!of_kind.is_empty(), "the past has no object of {prefix}");
    for damage in DAMAGES {
        for object in of_kind.iter().take(3) {
            let kin = of_kind.iter().find(|name| *name != object).copied();
            let other = kin.unwrap_or_else(|| objects.iter().find(|name| name != object).unwrap());
            let twin = past.place.twin();
            inflict(&twin, object, damage, other);
            assert_damage_is_told(&past, &twin, object, damage);
        }
    }
}

fn assert_damage_is_told(past: &Past, place: &Place, object: &str, damage: Damage) {
    let case = format!("{damage:?} {object}");
    let checked = place.run(&["check", "--read-data", "--json"]);
    if is_missed_by_nobody(object, damage) {
        return;
    }
    assert_eq!(checked.code, Some(1), "{case}: {checked}");
    let document: Value = serde_json::from_str(&checked.stdout).unwrap();
    if document["error"].is_string() {
        assert!(document["hint"].is_string(), "{case}: {checked}");
        assert_nothing_can_be_read_wrongly(past, place, &case);
        return;
    }
    let lost = document["lost"].to_string();
    // Nobody knows the name of an index object that is gone; what it costs is known.
    // Where a chain is broken, the object after the gap is named.
    let problems = document["problems"].to_string();
    let kind = object.split('/').next().unwrap();
    let named =
        problems.contains(object.rsplit('/').next().unwrap()) || problems.contains(&format!("{kind}/"));
    assert!(named || lost.len() > 2, "{case}: neither named nor missed in {checked}");
    let (mut whole, mut all_lost) = (0, true);
    for Live { dataset, id, position, files } in &past.live {
        let said_lost = lost.contains(&id[..8]) || lost.contains(position);
        all_lost &= said_lost;
        let (restored, seen) = restore(place, dataset, id);
        let is_whole = restored.code == Some(0) && seen == *files;
        assert!(
            is_whole || said_lost || slot_is_gone(object, &restored),
            "{case}: {dataset} {id}: {restored}\n{checked}"
        );
        assert!(is_whole || restored.stderr.contains("hint: "), "{case}: {restored}");
        whole += usize::from(is_whole);
        if said_lost && !is_whole {
            let proven = place.run(&["prove", dataset, "--at", id]);
            assert!(
                slot_is_gone(object, &restored) || restored.code == Some(1) && proven.code == Some(1),
                "{case}: {restored}\n{proven}"
            );
        }
    }
    assert!(whole > 0 || all_lost, "{case}: nothing can be restored");
}

/// A snapshot whose object is gone or unreadable is not found by its identity.
fn slot_is_gone(object: &str, restored: &Ran) -> bool {
    object.starts_with("snapshots/") && matches!(restored.code, Some(1 | 2))
}

fn assert_nothing_can_be_read_wrongly(past: &Past, place: &Place, case: &str) {
    for Live { dataset, id, files, .. } in &past.live {
        let (restored, seen) = restore(place, dataset, id);
        let refused = restored.code == Some(1) && restored.stderr.contains("hint: ");
        assert!(refused || (restored.code == Some(0) && seen == *files), "{case}: {restored}");
    }
}

fn restore(place: &Place, dataset: &str, id: &str) -> (Ran, Tree) {
    let into = format!("restored-{}", &id[..12]);
    let ran = place.run(&["restore", dataset, "--to", id, "--into", &into]);
    let path = place.path(&into);
    let seen = if path.exists() { tree::of(&path) } else { Tree::new() };
    (ran, seen)
}

#[test]
fn damaged_packs() {
    damaged_everywhere("packs/");
}

#[test]
fn damaged_index_objects() {
    damaged_everywhere("index/");
}

#[test]
fn damaged_snapshots() {
    damaged_everywhere("snapshots/");
}

#[test]
fn damaged_roster_config_and_slots() {
    damaged_everywhere("config");
    damaged_everywhere("roster/");
    damaged_everywhere("slots/");
}

#[test]
fn damaged_lists_and_verdicts() {
    damaged_everywhere("condemned/");
    damaged_everywhere("verdicts/");
}

#[test]
fn damaged_tombstones_and_holds() {
    damaged_everywhere("tombstones/");
    damaged_everywhere("holds/");
}

/// The newest snapshot cannot be read: `latest` says that it takes an older one, and proof does not pass.
#[test]
fn an_unreadable_newest_snapshot_is_not_passed_over_in_silence() {
    let past = Past::new();
    let place = &past.place;
    let newest = place.objects("snapshots/tree/").pop().unwrap();
    inflict(place, &newest, Damage::Flipped, "");
    let restored = place.run(&["restore", "tree", "--to", "latest", "--into", "out"]).expect(0);
    assert!(
        restored.stderr.contains(&format!("warning: {newest} cannot be read and was passed over")),
        "{restored}"
    );
    assert!(place.run(&["points"]).expect(5).stderr.contains(&newest));
    place.run(&["prune", "--at-least", "1"]).refused(1, "damaged", "check");
    inflict(place, &place.objects("snapshots/other/")[0], Damage::Flipped, "");
    let proven = place.run(&["prove"]).expect(1);
    assert!(proven.stderr.contains("error: other: ") && proven.stdout.contains("tree: "), "{proven}");
}
