//! What would be lost of a dataset now, if its host, its host and the repository, or its region failed.
//!
//! Counted from durable positions only, by what is left: places on the lost host, the repository itself, places of
//! the lost region or of none do not count, nor does log without a snapshot before it or behind a hole. A snapshot
//! counts from the instant of which it is, not from when it was finished. A server that is idle and heard of has
//! nothing to lose.

use crate::observe::{Dataset, Held, Log, Place, Reach, Role, Stream};
use crate::time::age;
use lifeboat_base::clock::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;

/// What fails at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// The host that holds the dataset.
    Host,
    /// That host, and the repository.
    Repository,
    /// All that is in the dataset's region.
    Region,
}

impl Domain {
    /// All of them, the smallest first.
    pub const ALL: [Self; 3] = [Self::Host, Self::Repository, Self::Region];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Repository => "repository",
            Self::Region => "region",
        }
    }
}

/// What would be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// So much.
    Known(Lost),
    /// Cannot be told.
    Unknown(Unknown),
    /// All of it: nothing is left that could be restored.
    Everything,
}

/// How much would be lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// What was acknowledged in the last so long.
    pub time: Duration,
    /// Bytes of log, as far as the server has said where it stands.
    pub bytes: Option<u64>,
    /// Acknowledged writes, where the ledger runs.
    pub writes: Option<u64>,
}

/// Why it cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// What is held was not observed yet.
    NotObserved,
    /// What is held was seen so far in the future.
    ClockAhead(Duration),
    /// No region is declared.
    RegionUndeclared,
}

impl Loss {
    /// The less the better; what is known is better than what is not, and that better than nothing.
    fn rank(&self) -> (u8, Duration) {
        match self {
            Self::Known(lost) => (0, lost.time),
            Self::Unknown(_) => (1, Duration::ZERO),
            Self::Everything => (2, Duration::ZERO),
        }
    }
}

/// The places by their names.
pub(crate) type Places<'a> = HashMap<&'a str, &'a Place>;

/// What one judgement of exposure needs beside the dataset.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) places: &'a [Place],
    pub(crate) by_name: &'a Places<'a>,
    pub(crate) now: Timestamp,
    /// A stream that was silent for longer has stalled.
    pub(crate) stall: Duration,
}

/// What would be lost of a dataset if a domain failed now: what the best of the places that are left lacks. As long
/// as one of them cannot be told, only what is within the RPO is known.
pub(crate) fn loss(dataset: &Dataset, domain: Domain, rpo: Option<Duration>, view: View<'_>) -> Loss {
    let region = region_of(dataset, view);
    if domain == Domain::Region && region.is_none() {
        return Loss::Unknown(Unknown::RegionUndeclared);
    }
    let survivors = view.places.iter().filter(|place| survives(place, domain, dataset, region));
    let losses = || survivors.clone().map(|place| loss_with(place, domain, dataset, view));
    let best = losses().min_by_key(Loss::rank).unwrap_or(Loss::Everything);
    match best {
        Loss::Known(lost) if rpo.is_none_or(|rpo| lost.time > rpo) => {
            losses().find(|loss| matches!(loss, Loss::Unknown(_))).unwrap_or(best)
        }
        best => best,
    }
}

/// A dataset whose region is not declared is taken to be where the repository is.
fn region_of<'a>(dataset: &'a Dataset, view: View<'a>) -> Option<&'a str> {
    let repository = || view.places.iter().find(|place| place.role == Role::Repository);
    dataset.region.as_deref().or_else(|| repository()?.region.as_deref())
}

fn survives(place: &Place, domain: Domain, dataset: &Dataset, region: Option<&str>) -> bool {
    let is_elsewhere = place.host.is_none() || place.host != dataset.host;
    is_elsewhere
        && match domain {
            Domain::Host => true,
            Domain::Repository => place.role == Role::Copy,
            // A place without a region cannot be shown to be in another one.
            Domain::Region => place.region.is_some() && place.region.as_deref() != region,
        }
}

fn loss_with(place: &Place, domain: Domain, dataset: &Dataset, view: View<'_>) -> Loss {
    let held = dataset.held.iter().find(|held| held.place == place.name);
    match (place.reach, held) {
        (Reach::Lost, _) => Loss::Everything,
        (Reach::Unknown, None) => Loss::Unknown(Unknown::NotObserved),
        (_, None) => Loss::Everything,
        (_, Some(held)) => {
            let log = durable_log(held, domain, dataset);
            loss_of(held, log, dataset.stream.as_ref(), view)
        }
    }
}

/// The log that reaches furthest: that of the place or, while only the host is lost, of a spool elsewhere.
fn durable_log<'a>(held: &'a Held, domain: Domain, dataset: &Dataset) -> Option<&'a Log> {
    let spool = held
        .spool
        .as_ref()
        .filter(|spool| domain == Domain::Host && Some(&spool.host) != dataset.host.as_ref());
    let logs = held.log.iter().chain(spool.map(|spool| &spool.log));
    logs.max_by_key(|log| (log.hole.is_none(), log.through, log.position))
}

fn loss_of(held: &Held, log: Option<&Log>, stream: Option<&Stream>, view: View<'_>) -> Loss {
    let Some(snapshot) = held.snapshot else { return Loss::Everything };
    let behind = |log: &Log| stream?.position?.checked_sub(log.position?);
    let bytes = log.and_then(behind);
    let writes = held.writes_missing;
    if log.zip(stream).is_some_and(|(log, stream)| is_current(log, stream, view)) {
        return Loss::Known(Lost { time: Duration::ZERO, bytes: Some(0), writes });
    }
    match age(reach(snapshot, log), view.now) {
        Ok(time) => Loss::Known(Lost { time, bytes, writes }),
        Err(ahead) => Loss::Unknown(Unknown::ClockAhead(ahead)),
    }
}

/// Whether all that a server has is durable, by what it said just now.
fn is_current(log: &Log, stream: &Stream, view: View<'_>) -> bool {
    let is_fresh = |heard| age(heard, view.now).is_ok_and(|age| age <= view.stall);
    let has_all = log.hole.is_none() && stream.position.is_some() && log.position >= stream.position;
    has_all && stream.heard.is_some_and(is_fresh)
}

/// The newest instant that can be restored to.
fn reach(snapshot: Timestamp, log: Option<&Log>) -> Timestamp {
    let unbroken = log.map(|log| log.hole.map_or(log.through, |hole| hole.min(log.through)));
    unbroken.map_or(snapshot, |through| through.max(snapshot))
}

/// The newest instant that can be restored to from what a place holds; `None` where it holds no snapshot.
pub(crate) fn restorable_to(held: &Held) -> Option<Timestamp> {
    held.snapshot.map(|snapshot| reach(snapshot, held.log.as_ref()))
}

/// How far a copy is behind the repository; `None` where it holds nothing.
pub(crate) fn lag(copy: &Held, repository: &Held) -> Option<Duration> {
    let Some(ahead) = restorable_to(repository) else { return Some(Duration::ZERO) };
    let position = |held: &Held| held.log.filter(|log| log.hole.is_none()).and_then(|log| log.position);
    let behind = restorable_to(copy)?;
    let has_all = position(copy).is_some() && position(copy) >= position(repository);
    Some(if has_all { Duration::ZERO } else { ahead.since(behind) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Spool;

    const NOW: Timestamp = Timestamp::from_secs(100_000);
    const NONE: Loss = Loss::Everything;
    const RPO: Option<Duration> = Some(Duration::from_secs(300));

    fn ago(seconds: u64) -> Timestamp {
        NOW.minus(Duration::from_secs(seconds))
    }

    fn place(name: &str, role: Role, host: Option<&str>, region: Option<&str>) -> Place {
        Place {
            name: name.to_owned(),
            role,
            host: host.map(str::to_owned),
            region: region.map(str::to_owned),
            reach: Reach::Reached,
            checked: None,
        }
    }

    fn snapshot(place: &str, taken: u64) -> Held {
        Held { place: place.to_owned(), snapshot: Some(ago(taken)), ..Held::default() }
    }

    fn with_log(place: &str, through: u64, position: u64) -> Held {
        let log = Log { through: ago(through), position: Some(position), hole: None };
        Held { log: Some(log), ..snapshot(place, 5000) }
    }

    fn dataset(held: Vec<Held>) -> Dataset {
        Dataset { name: "users".to_owned(), host: Some("db".to_owned()), held, ..Dataset::default() }
    }

    fn losses_at(dataset: &Dataset, places: &[Place], now: Timestamp) -> [Loss; 3] {
        let by_name = places.iter().map(|place| (place.name.as_str(), place)).collect();
        let view = View { places, by_name: &by_name, now, stall: Duration::from_secs(3) };
        Domain::ALL.map(|domain| loss(dataset, domain, RPO, view))
    }

    fn losses(dataset: &Dataset, places: &[Place]) -> [Loss; 3] {
        losses_at(dataset, places, NOW)
    }

    fn lost(seconds: u64) -> Loss {
        Loss::Known(Lost { time: Duration::from_secs(seconds), bytes: None, writes: None })
    }

    fn three_places() -> Vec<Place> {
        vec![
            place("main", Role::Repository, None, Some("east")),
            place("near", Role::Copy, None, Some("east")),
            place("west", Role::Copy, None, Some("west")),
        ]
    }

    #[test]
    fn each_domain_is_counted_by_what_it_leaves() {
        let held = vec![snapshot("main", 10), snapshot("near", 60), snapshot("west", 3600)];
        let mut users = dataset(held);
        users.region = Some("east".to_owned());
        assert_eq!(losses(&users, &three_places()), [lost(10), lost(60), lost(3600)]);
    }

    #[test]
    fn a_repository_on_the_lost_host_is_lost_with_it() {
        let users = dataset(vec![snapshot("main", 10)]);
        let on = |host| losses(&users, &[place("main", Role::Repository, host, None)])[0];
        assert_eq!((on(Some("db")), on(Some("other")), on(None)), (NONE, lost(10), lost(10)));
    }

    #[test]
    fn a_place_without_a_region_survives_no_region() {
        let held = vec![snapshot("main", 10), snapshot("off", 20)];
        let places =
            |off| [place("main", Role::Repository, None, Some("east")), place("off", Role::Copy, None, off)];
        let region = |off| losses(&dataset(held.clone()), &places(off))[2];
        assert_eq!((region(None), region(Some("east")), region(Some("west"))), (NONE, NONE, lost(20)));
        let undeclared = [place("main", Role::Repository, None, None)];
        assert_eq!(losses(&dataset(held), &undeclared)[2], Loss::Unknown(Unknown::RegionUndeclared));
    }

    #[test]
    fn what_was_not_asked_is_unknown_and_what_is_lost_holds_nothing() {
        let mut main = place("main", Role::Repository, None, None);
        let held = vec![snapshot("main", 10)];
        main.reach = Reach::Unknown;
        assert_eq!(losses(&dataset(vec![]), &[main.clone()])[0], Loss::Unknown(Unknown::NotObserved));
        assert_eq!(losses(&dataset(held.clone()), &[main.clone()])[0], lost(10));
        main.reach = Reach::Unreachable(None);
        assert_eq!(losses(&dataset(held.clone()), &[main.clone()])[0], lost(10));
        assert_eq!(losses(&dataset(vec![]), &[main.clone()])[0], NONE);
        main.reach = Reach::Lost;
        assert_eq!(losses(&dataset(held), &[main])[0], NONE);
    }

    #[test]
    fn an_idle_server_that_is_heard_of_has_nothing_to_lose() {
        let main = [place("main", Role::Repository, None, None)];
        let mut users = dataset(vec![with_log("main", 2, 500)]);
        let mut loss = |heard: u64, position| {
            let heard = Some(ago(heard));
            users.stream = Some(Stream { heard, position: Some(position), ..Stream::default() });
            losses(&users, &main)[0]
        };
        let known = |time, bytes| {
            Loss::Known(Lost { time: Duration::from_secs(time), bytes: Some(bytes), writes: None })
        };
        assert_eq!(loss(2, 500), known(0, 0));
        assert_eq!(loss(3, 500), known(0, 0));
        assert_eq!(loss(4, 500), known(2, 0), "it may have written since");
        assert_eq!(loss(1, 640), known(2, 140));
    }

    #[test]
    fn log_without_a_snapshot_or_behind_a_hole_restores_nothing() {
        let main = [place("main", Role::Repository, None, None)];
        let mut held = with_log("main", 1, 500);
        held.log = held.log.map(|log| Log { hole: Some(ago(700)), ..log });
        let mut users = dataset(vec![held.clone()]);
        users.stream = Some(Stream { heard: Some(NOW), position: Some(500), ..Stream::default() });
        assert!(matches!(losses(&users, &main)[0], Loss::Known(lost) if lost.time.as_secs() == 700));
        held.log = held.log.map(|log| Log { hole: Some(ago(9000)), ..log });
        users.held = vec![held.clone()];
        assert!(matches!(losses(&users, &main)[0], Loss::Known(lost) if lost.time.as_secs() == 5000));
        held.snapshot = None;
        users.held = vec![held];
        assert_eq!(losses(&users, &main)[0], NONE);
    }

    #[test]
    fn a_spool_on_another_host_counts_while_only_the_host_is_lost() {
        let places = [place("main", Role::Repository, None, None), place("west", Role::Copy, None, None)];
        let mut held = with_log("main", 60, 500);
        let log = Log { through: ago(1), position: Some(900), hole: None };
        held.spool = Some(Spool { host: "witness".to_owned(), log });
        let with_spool = |held: &Held| {
            let losses = losses(&dataset(vec![held.clone()]), &places);
            (losses[0], losses[1])
        };
        assert_eq!(with_spool(&held), (lost(1), NONE));
        held.spool = Some(Spool { host: "db".to_owned(), log });
        assert_eq!(with_spool(&held), (lost(60), NONE));
    }

    #[test]
    fn a_clock_that_went_back_leaves_nothing_known() {
        let main = [place("main", Role::Repository, None, None)];
        let users = dataset(vec![snapshot("main", 0)]);
        let at = |seconds| losses_at(&users, &main, ago(seconds))[0];
        assert_eq!(at(1), lost(0), "clocks of two hosts differ by as much");
        assert_eq!(at(3600), Loss::Unknown(Unknown::ClockAhead(Duration::from_secs(3600))));
        let distant = losses_at(&users, &main, Timestamp::from_nanos(i64::MAX))[0];
        assert!(matches!(distant, Loss::Known(_)), "{distant:?}");
    }

    #[test]
    fn a_place_that_cannot_be_told_makes_a_breach_of_the_others_uncertain() {
        let places = [place("main", Role::Repository, None, None), place("west", Role::Copy, None, None)];
        let ahead = Held { snapshot: Some(NOW.plus(Duration::from_secs(60))), ..snapshot("main", 0) };
        let with = |west| losses(&dataset(vec![ahead.clone(), snapshot("west", west)]), &places)[0];
        assert_eq!(with(300), lost(300));
        assert_eq!(with(301), Loss::Unknown(Unknown::ClockAhead(Duration::from_secs(60))));
    }

    #[test]
    fn a_copy_lags_by_time_unless_it_holds_the_same_position() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(lag(&snapshot("west", 90), &snapshot("main", 30)), seconds(60));
        assert_eq!(lag(&snapshot("west", 30), &snapshot("main", 90)), seconds(0));
        assert_eq!(lag(&Held::default(), &snapshot("main", 30)), None);
        assert_eq!(lag(&Held::default(), &Held::default()), seconds(0));
        assert_eq!(lag(&with_log("west", 600, 500), &with_log("main", 0, 500)), seconds(0));
        assert_eq!(lag(&with_log("west", 600, 400), &with_log("main", 0, 500)), seconds(600));
    }
}
