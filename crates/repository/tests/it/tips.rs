//! The newest snapshots, looked at again and again: the same as reading everything.

#![expect(clippy::unwrap_used, reason = "tests; the lint only knows functions that are marked as such")]

use crate::support::*;
use lifeboat_base::random;
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{Published, Repository, Tips};
use std::collections::BTreeMap;
use std::time::Duration;

/// By reading everything.
fn newest(repository: &Repository) -> BTreeMap<DatasetName, String> {
    let snapshots = repository.snapshots(None, &mut Vec::new()).unwrap();
    snapshots.into_iter().map(|p| (p.slot.dataset.clone(), p.id.to_string())).collect()
}

fn seen(tips: &mut Tips, repository: &Repository) -> BTreeMap<DatasetName, String> {
    let newest = tips.newest(repository, &mut Vec::new()).unwrap();
    newest.into_iter().map(|(dataset, p)| (dataset, p.id.to_string())).collect()
}

#[test]
fn looking_at_tips_is_as_good_as_reading_everything() {
    let seed = random::bytes::<1>()[0];
    println!("seed {seed}");
    let house = House::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let machines = [house.repository.clone(), house.open_elsewhere(elsewhere.path()).unwrap()];
    let (mut tips, mut draw, mut kept) = (Tips::default(), u64::from(seed) + 1, Vec::<Published>::new());
    for turn in 0..60_u8 {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (machine, name) =
            (&machines[(draw >> 40) as usize % 2], ["a", "b", "c"][(draw >> 50) as usize % 3]);
        house.clock.advance(Duration::from_secs(60));
        if (draw >> 33) % 3 == 0 && !kept.is_empty() {
            // Often the newest: then the one before it answers.
            let published = kept.swap_remove(kept.len() - 1 - (draw >> 20) as usize % kept.len().min(2));
            let signer = house.repository.writer().unwrap();
            house.repository.forget(&signer, &published, "test").unwrap();
        } else {
            kept.push(backup(machine, name, &Files::from([("x".to_owned(), vec![turn])])).unwrap());
        }
        assert_eq!(seen(&mut tips, &house.repository), newest(&house.repository), "turn {turn}");
    }
}
