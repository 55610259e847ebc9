//! The survey: what is in the repository and in the copies, looked at again and again. What it sees is what would be
//! left if this host were lost.

use crate::copies::{look, note, reaches};
use crate::house::House;
use crate::live::SnapshotSeen;
use crate::means::Trouble;
use lifeboat_base::clock::Timestamp;
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{Published, Repository};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often, unless the plan says otherwise.
const EVERY: Duration = Duration::from_secs(30);

/// How often what is not a stream is looked at.
pub(crate) fn every(house: &House) -> Duration {
    let planned = house.plan.serve.as_ref().and_then(|serve| serve.check_every);
    planned.map_or(EVERY, lifeboat_plan::Span::duration).max(Duration::from_secs(1))
}

/// Looks until it is told to stop, at each place in a thread of its own: one that does not answer keeps no other from
/// being looked at.
pub(crate) fn keep(house: &House, stop: &AtomicBool) {
    std::thread::scope(|scope| {
        for (name, _) in house.copies() {
            let started = std::thread::Builder::new().name(format!("survey {name}")).spawn_scoped(scope, {
                let name = name.clone();
                move || again_and_again(house, stop, || look(house, &name))
            });
            if let Err(error) = started {
                let failure = Some(format!("start a thread: {error}"));
                house.live.change(|seen| seen.copies.entry(name).or_default().failure = failure);
            }
        }
        again_and_again(house, stop, || look_at_repository(house));
    });
}

fn again_and_again(house: &House, stop: &AtomicBool, look: impl Fn()) {
    while !stop.load(Ordering::Relaxed) {
        look();
        crate::stream::sleep(every(house), stop);
    }
}

fn look_at_repository(house: &House) {
    let seen = house.repository().and_then(|repository| snapshots(house, &repository));
    let now = house.clock.now();
    match seen {
        Ok((newest, held)) => {
            for (dataset, published) in &newest {
                house.live.snapshot_taken(dataset.as_str(), published);
            }
            house.live.change(|seen| note(&mut seen.repository, now, Ok(held)));
            forget_lost(house, &newest);
        }
        Err(trouble) => house.live.change(|seen| note(&mut seen.repository, now, Err(trouble))),
    }
}

/// The newest snapshot of each dataset.
type Newest = BTreeMap<DatasetName, Published>;

/// The newest snapshots, and up to when each dataset can be restored.
fn snapshots(
    house: &House,
    repository: &Arc<Repository>,
) -> Result<(Newest, BTreeMap<String, Timestamp>), Trouble> {
    let (newest, seen) = (house.newest(None)?, house.live.seen());
    let mut held = BTreeMap::new();
    for (dataset, published) in &newest {
        // Of a log that is followed here its follower says more.
        let is_followed_here =
            seen.datasets.get(dataset.as_str()).is_some_and(|dataset| dataset.stream.is_some());
        let is_followed = house.plan.datasets.get(dataset.as_str()).is_some_and(crate::stream::is_followed);
        let until = if is_followed && !is_followed_here {
            reaches(repository, dataset, published).map_err(|error| Trouble::of(&error))?
        } else {
            published.snapshot.taken
        };
        held.insert(dataset.to_string(), until);
    }
    Ok((newest, held))
}

/// A snapshot that is there no more protects nothing.
fn forget_lost(house: &House, newest: &BTreeMap<DatasetName, Published>) {
    house.live.change(|seen| {
        for (name, dataset) in &mut seen.datasets {
            let there = DatasetName::new(name).ok().and_then(|name| newest.get(&name)).map(SnapshotSeen::of);
            let was = dataset.snapshot.as_ref().map(|snapshot| snapshot.taken);
            // One that was published while we listed is newer than what was listed.
            if there.as_ref().map(|snapshot| snapshot.taken) < was
                && !is_newer_than_listing(was, seen.repository.answered)
            {
                dataset.snapshot = there;
            }
        }
    });
}

/// Whether something was published after the listing may have passed it by.
fn is_newer_than_listing(taken: Option<Timestamp>, answered: Option<Timestamp>) -> bool {
    const MOMENT: Duration = Duration::from_secs(60);
    match (taken, answered) {
        (Some(taken), Some(answered)) => answered.since(taken) < MOMENT,
        _ => true,
    }
}
