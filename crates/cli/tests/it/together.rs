//! Several processes at once on one repository: no one waits for a lock, and nothing is lost.

use crate::place::{Place, Ran, noise};
use crate::tree;
use std::process::{Child, Stdio};

fn start(place: &Place, arguments: &[&str]) -> Child {
    place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> Ran {
    Ran::from(child.wait_with_output().unwrap())
}

fn assert_every_snapshot_restores(place: &Place, expected: usize) {
    place.run(&["check", "--read-data"]).expect(0);
    let points = place.json(&["points"]);
    let points = points["points"].as_array().unwrap();
    assert_eq!(points.len(), expected);
    for point in points {
        let (dataset, id) = (point["dataset"].as_str().unwrap(), point["snapshot"].as_str().unwrap());
        let proven = place.run(&["prove", dataset, "--at", id]);
        assert_eq!(proven.code, Some(0), "{proven}");
    }
}

#[test]
fn two_backups_of_one_dataset_at_once() {
    let place = Place::with_snapshot();
    place.write("tree/large", noise(1, 4 << 20));
    // From one machine, and from another whose writer has a name of its own.
    let running: Vec<Child> =
        [&["backup", "tree"][..], &["backup", "tree"], &["backup", "tree", "--state-dir", "state-2"]]
            .into_iter()
            .map(|arguments| start(&place, arguments))
            .collect();
    for child in running {
        end(child).expect(0);
    }
    assert_every_snapshot_restores(&place, 4);
    place.assert_healthy("two backups at once");
}

#[test]
fn backups_of_different_datasets_at_once() {
    let place = Place::new();
    for n in 0..3 {
        place.write(&format!("data-{n}/own"), noise(n, 2 << 20));
        place.write(&format!("data-{n}/shared"), noise(77, 2 << 20));
    }
    let running: Vec<Child> = (0..3).map(|n| start(&place, &["backup", &format!("data-{n}")])).collect();
    for child in running {
        end(child).expect(0);
    }
    assert_every_snapshot_restores(&place, 3);
}

/// Backups, restores and prunes from several processes: whoever is in another's way waits or says so, and
/// every snapshot stays whole.
#[test]
fn backup_beside_prune_beside_restore() {
    let place = Place::new();
    place.write("tree/fixed", noise(1, 1 << 20));
    place.write("other/fixed", noise(2, 1 << 20));
    place.ok(&["backup", "tree", "other"]);
    for round in 0..4 {
        place.write("tree/changing", noise(100 + round, 2 << 20));
        place.write("other/changing", noise(200 + round, 2 << 20));
        let held = place.json(&["points", "tree"]);
        let newest =
            held["points"].as_array().unwrap().last().unwrap()["snapshot"].as_str().unwrap().to_owned();
        let into = format!("restored-{round}");
        let restore = start(&place, &["restore", "tree", "--to", &newest, "--into", &into]);
        let running: Vec<Child> = [
            &["backup", "tree"][..],
            &["prune", "--at-least", "2", "--max-unused", "0", "--wait", "20s"],
            &["backup", "other", "--state-dir", "state-2"],
            &["prune", "--at-least", "2", "--max-unused", "0", "--wait", "20s", "--state-dir", "state-2"],
        ]
        .into_iter()
        .map(|arguments| start(&place, arguments))
        .collect();
        end(restore).expect(0);
        for (n, child) in running.into_iter().enumerate() {
            let ran = end(child);
            let pruning = n % 2 == 1;
            assert!(ran.code == Some(0) || pruning && ran.code == Some(5), "round {round}: {ran}");
        }
        assert_eq!(
            tree::of(&place.path(&into))[std::path::Path::new("fixed")],
            tree::of(&place.path("tree"))[std::path::Path::new("fixed")]
        );
        place.run(&["check", "--read-data"]).expect(0);
    }
    place.ok(&["prune", "--at-least", "2", "--max-unused", "0"]);
    assert_every_snapshot_restores(&place, 4);
    place.assert_healthy("everything at once");
}
