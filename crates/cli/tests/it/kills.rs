//! SIGKILL at random instants of backup, prune and restore. The seed is printed; `LIFEBOAT_TEST_SEED` pins it.

use crate::place::{Place, Random, noise};
use crate::tree::{self, Item};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

const ROUNDS: u64 = 20;
/// Snapshots that are kept, so that prune has something to do.
const KEPT: usize = 3;

type Snapshots = Vec<(String, BTreeMap<PathBuf, Item>)>;

#[test]
fn a_kill_at_any_instant_loses_nothing() {
    let mut random = Random::seeded();
    let place = Place::empty();
    place.ok(&["repo", "init", "--no-recovery-key", "--lease", "1s", "--grace", "1s"]);
    place.ok(&["key", "add", "--admin", "--command", "echo 0123456789abcdef"]);
    place.write("key", "0123456789abcdef");
    let mut snapshots = Snapshots::new();
    let mut killed = 0;
    for round in 0..ROUNDS {
        place.write(&format!("tree/{}", round % 4), noise(round, 1 << 20));
        // More than one, where what was killed had published.
        while snapshots.len() >= KEPT {
            let (forgotten, _) = snapshots.remove(0);
            place.ok(&["forget", "tree", &forgotten]);
        }
        assert_eq!(place.json(&["points"])["points"].as_array().unwrap().len(), snapshots.len());
        let into = format!("killed-{round}");
        let action: &[&str] = match random.below(3) {
            1 => &["prune", "--wait", "2s", "--max-unused", "0"],
            2 if !snapshots.is_empty() => &["restore", "tree", "--to", "latest", "--into", &into],
            _ => &["backup", "tree"],
        };
        killed += u32::from(kill_during(&place, action, Duration::from_millis(random.below(120))));
        let after = format!("round {round}: killed {}", action[0]);
        adopt_what_was_published(&place, &mut snapshots);
        assert_all_restore(&place, &snapshots, &after);
        snapshots.push((place.backup(), tree::of(&place.path("tree"))));
    }
    assert!(killed > 3, "only {killed} of {ROUNDS} commands were still running when they were to be killed");
}

/// Whether it was still running.
fn kill_during(place: &Place, action: &[&str], after: Duration) -> bool {
    let mut child = place.command(action).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    let running = child.try_wait().unwrap().is_none();
    let _ = child.kill();
    child.wait().unwrap();
    running
}

/// A backup that was killed right after its publication counts.
fn adopt_what_was_published(place: &Place, snapshots: &mut Snapshots) {
    let points = place.json(&["points"]);
    for point in points["points"].as_array().unwrap() {
        let id = point["snapshot"].as_str().unwrap();
        if !snapshots.iter().any(|(known, _)| known == id) {
            snapshots.push((id.to_owned(), tree::of(&place.path("tree"))));
        }
    }
    assert_eq!(points["points"].as_array().unwrap().len(), snapshots.len(), "no snapshot is gone");
}

fn assert_all_restore(place: &Place, snapshots: &Snapshots, after: &str) {
    let checked = place.run(&["check", "--read-data"]);
    assert_eq!(checked.code, Some(0), "{after}: {checked}");
    for (id, expected) in snapshots {
        let into = place.path("restored");
        place.ok(&["restore", "tree", "--to", id, "--into", "restored"]);
        assert!(tree::of(&into) == *expected, "{after}: snapshot {id} came back otherwise");
        std::fs::remove_dir_all(into).unwrap();
    }
}
