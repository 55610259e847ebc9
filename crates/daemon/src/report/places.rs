//! The repository and its copies, as watch wants to see them.

use super::REPOSITORY;
use super::known::Known;
use crate::house::House;
use crate::live::{PlaceSeen, Seen};
use crate::task::{TaskKey, TaskKind};
use lifeboat_base::clock::Timestamp;
use lifeboat_plan::Plan;
use lifeboat_watch::observe::{Place, Reach, Role};
use std::time::Duration;

/// A place that was not even asked for so many intervals does not answer: whoever asks it waits for it.
const MISSED: u32 = 3;
/// What asking all places takes at the most, beside the interval.
const ASKING: Duration = Duration::from_secs(60);

/// How long a place may be silent.
#[derive(Clone, Copy)]
struct Patience {
    /// Without being asked.
    unasked: Duration,
    /// While it is being asked.
    asked: Duration,
}

pub(super) fn all(house: &House, seen: &Seen, known: &Known, now: Timestamp) -> Vec<Place> {
    let patience = Patience {
        unasked: crate::survey::every(house) * MISSED + ASKING,
        asked: crate::health::pause(house),
    };
    let check = TaskKey { kind: TaskKind::Check, subject: String::new() };
    let planned = house.plan.repository.as_ref();
    let repository = Place {
        name: REPOSITORY.to_owned(),
        role: Role::Repository,
        host: planned.and_then(|planned| planned.host.clone()),
        region: region_of_repository(&house.plan),
        reach: reach(&seen.repository, patience, now),
        checked: known.last_good(&check),
    };
    let copies = house.copies().map(|(name, copy)| Place {
        role: Role::Copy,
        host: None,
        region: copy.region.clone(),
        reach: seen.copies.get(&name).map_or(Reach::Unknown, |place| reach(place, patience, now)),
        checked: None,
        name,
    });
    std::iter::once(repository).chain(copies).collect()
}

pub(super) fn region_of_repository(plan: &Plan) -> Option<String> {
    let repository = plan.repository.as_ref()?;
    let of_host = || plan.hosts.get(repository.host.as_ref()?)?.region.clone();
    repository.region.clone().or_else(of_host)
}

fn reach(place: &PlaceSeen, patience: Patience, now: Timestamp) -> Reach {
    let is_longer = |since: Option<Timestamp>, than| since.is_some_and(|since| now.since(since) > than);
    let is_silent = is_longer(place.asking, patience.asked) || is_longer(place.asked, patience.unasked);
    match place.asked {
        _ if place.failure.is_some() || is_silent => Reach::Unreachable(place.answered),
        None => Reach::Unknown,
        Some(_) => Reach::Reached,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_no_answer() {
        let at = Timestamp::from_secs;
        let patience = Patience { unasked: Duration::from_secs(100), asked: Duration::from_secs(10) };
        let mut place = PlaceSeen::default();
        assert_eq!(reach(&place, patience, at(1000)), Reach::Unknown);
        (place.asked, place.answered) = (Some(at(950)), Some(at(950)));
        assert_eq!(reach(&place, patience, at(1000)), Reach::Reached);
        assert_eq!(reach(&place, patience, at(1051)), Reach::Unreachable(Some(at(950))));
        place.asking = Some(at(960));
        assert_eq!(reach(&place, patience, at(970)), Reach::Reached);
        assert_eq!(reach(&place, patience, at(971)), Reach::Unreachable(Some(at(950))));
        place.asking = None;
        place.failure = Some("refused".to_owned());
        assert_eq!(reach(&place, patience, at(951)), Reach::Unreachable(Some(at(950))));
    }
}
