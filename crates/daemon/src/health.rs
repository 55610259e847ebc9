//! Health: what the service stands on, checked again and again, each check in a thread that may wait for it without
//! holding up the others. What is up and what is down watch says.

use crate::house::House;
use crate::live::{PlaceSeen, Seen};
use crate::report::Reports;
use crate::task::is_done_by;
use lifeboat_base::clock::{Clock, Stopwatch, Timestamp};
use lifeboat_base::report;
use lifeboat_objects::Key;
use lifeboat_plan::StoreKind;
use lifeboat_recovery::Target;
use lifeboat_repository::Repository;
use lifeboat_watch::health::{Checker, Outcome, Settings, Status};
use lifeboat_watch::observe::Component;
use lifeboat_wire_postgres::{Connection, Purpose};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a store's check is called: this, and the dataset.
const STORE: &str = "store:";
/// What a copy's check is called: this, and the copy.
const COPY: &str = "copy:";
/// Three failures fit into one interval, and the second that a report takes, so that by its end what is down is known
/// to be.
const CHECKS: u32 = 4;
/// Without a check for so many intervals nothing is known any more; and so much for a check that waits.
const MISSED: u32 = 12;
const WAITING: Duration = Duration::from_secs(60);

/// Every check by its name.
#[derive(Debug)]
pub(crate) struct Health {
    checkers: Mutex<BTreeMap<String, Checker>>,
    settings: Settings,
    pause: Duration,
    clock: Clock,
}

/// One check.
enum What {
    State,
    Keys,
    Repository,
    Copy(String),
    Store(String),
}

impl What {
    fn name(&self) -> String {
        match self {
            Self::State => "state".to_owned(),
            Self::Keys => "keys".to_owned(),
            Self::Repository => "repository".to_owned(),
            Self::Copy(name) => format!("{COPY}{name}"),
            Self::Store(dataset) => format!("{STORE}{dataset}"),
        }
    }

    fn check(&self, house: &House) -> Result<(), String> {
        match self {
            Self::State => house.state.end().map(|_| ()).map_err(|error| report(&error)),
            Self::Keys => keys(house),
            Self::Repository => ask(house, house.open_repository(), |seen| &mut seen.repository),
            Self::Copy(name) => {
                ask(house, house.open_copy(name), |seen| seen.copies.entry(name.clone()).or_default())
            }
            Self::Store(dataset) => store(house, dataset),
        }
    }
}

/// How long after a check the next one begins, and how long an answer may be waited for.
pub(crate) fn pause(house: &House) -> Duration {
    (crate::survey::every(house) / CHECKS).max(Duration::from_secs(1))
}

impl Health {
    /// With every check of a plan, none of them made yet.
    pub(crate) fn new(house: &House) -> Self {
        let pause = pause(house);
        let settings = Settings { stale_after: pause * MISSED + WAITING, ..Settings::default() };
        let checkers =
            all(house).iter().flatten().map(|what| (what.name(), Checker::new(settings))).collect();
        Self { checkers: Mutex::new(checkers), settings, pause, clock: house.clock.clone() }
    }

    /// Starts checking, until it is told to stop.
    pub(crate) fn start(
        self: &Arc<Self>,
        house: &Arc<House>,
        reports: &Arc<Reports>,
        stop: &Arc<AtomicBool>,
    ) -> Vec<std::io::Result<std::thread::JoinHandle<()>>> {
        let start = |group: Vec<What>| {
            let name = group.first().map(What::name).unwrap_or_default();
            let (health, house, reports, stop) = (self.clone(), house.clone(), reports.clone(), stop.clone());
            std::thread::Builder::new().name(format!("health {name}")).spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    group.iter().for_each(|what| health.check(&house, what));
                    health.tell(&reports);
                    crate::stream::sleep(health.pause, &stop);
                }
            })
        };
        all(house).into_iter().filter(|group| !group.is_empty()).map(start).collect()
    }

    fn check(&self, house: &House, what: &What) {
        let watch = Stopwatch::start();
        let outcome = match what.check(house) {
            Ok(()) => Outcome::Success(watch.elapsed()),
            Err(why) => Outcome::Failure(why),
        };
        let (name, now) = (what.name(), self.clock.now());
        let mut checkers = self.checkers.lock().unwrap_or_else(PoisonError::into_inner);
        let checker = checkers.entry(name.clone()).or_insert_with(|| Checker::new(self.settings));
        let change = checker.record(outcome, now);
        let why = checker.failure().map(str::to_owned);
        drop(checkers);
        if let Some(change) = change.filter(|change| change.to == Status::Down || change.is_recovery()) {
            let event = if change.to == Status::Down { "lost" } else { "back" };
            house.note(&name, event, serde_json::json!({ "error": why }));
        }
    }

    /// Tells the report what is neither a place nor a store of its own, and which stores answer.
    fn tell(&self, reports: &Reports) {
        let now = self.clock.now();
        let checkers = self.checkers.lock().unwrap_or_else(PoisonError::into_inner);
        let components =
            ["state", "keys"].into_iter().filter_map(|name| Some(component(name, checkers.get(name)?, now)));
        let components = components.collect();
        let stores = checkers.iter().filter_map(|(name, checker)| Some((name.strip_prefix(STORE)?, checker)));
        let stores = stores.map(|(dataset, checker)| (dataset.to_owned(), checker.status(now))).collect();
        drop(checkers);
        reports.find_out(|found| (found.components, found.stores) = (components, stores));
    }

    /// Looks at every check.
    pub(crate) fn each<T>(&self, mut look: impl FnMut(&str, &Checker, Timestamp) -> T) -> Vec<T> {
        let now = self.clock.now();
        let checkers = self.checkers.lock().unwrap_or_else(PoisonError::into_inner);
        checkers.iter().map(|(name, checker)| look(name, checker, now)).collect()
    }
}

fn component(name: &str, checker: &Checker, now: Timestamp) -> Component {
    Component {
        name: name.to_owned(),
        status: checker.status(now),
        latency: checker.latency(),
        failure: checker.failure().map(str::to_owned),
    }
}

/// Every check, in groups of which each has a thread: whatever may wait for a network waits alone.
fn all(house: &House) -> Vec<Vec<What>> {
    let mut groups = vec![vec![What::State, What::Keys], vec![What::Repository]];
    groups.extend(house.copies().map(|(name, _)| vec![What::Copy(name)]));
    let ours = house.plan.datasets.iter().filter(|(_, plan)| is_done_by(plan, &house.means.host()));
    let (far, near): (Vec<_>, Vec<_>) =
        ours.partition(|(_, plan)| plan.store_kind().is_none_or(StoreKind::is_on_the_network));
    groups.push(near.into_iter().map(|(name, _)| What::Store(name.clone())).collect());
    groups.extend(far.into_iter().map(|(name, _)| vec![What::Store(name.clone())]));
    groups
}

fn keys(house: &House) -> Result<(), String> {
    let repository =
        house.open_repository().ok_or("the repository is not open, so that no key is known to open it")?;
    match repository.is_enrolled() {
        Ok(true) => Ok(()),
        Ok(false) => Err("this machine's key may not write to the repository".to_owned()),
        Err(error) => Err(report(&error)),
    }
}

/// Whether a repository answers: its smallest object is looked at. That it was asked is known while it has not answered:
/// a request that is repeated until somebody answers would hide for long that nobody does.
fn ask(
    house: &House,
    repository: Option<Arc<Repository>>,
    place: impl Fn(&mut Seen) -> &mut PlaceSeen,
) -> Result<(), String> {
    let Some(repository) = repository else {
        let failure = house.live.change(|seen| place(seen).failure.clone());
        return Err(failure.unwrap_or_else(|| "it was not opened yet".to_owned()));
    };
    let begun = house.clock.now();
    house.live.change(|seen| place(seen).asking = Some(begun));
    let answer = answers(&repository);
    house.live.change(|seen| {
        let place = place(seen);
        place.asking = None;
        match &answer {
            Ok(()) => place.answered = Some(house.clock.now()),
            // It stands until a survey has seen everything again.
            Err(why) => place.failure = Some(why.clone()),
        }
    });
    answer
}

fn answers(repository: &Repository) -> Result<(), String> {
    let key = Key::new("config").map_err(|error| report(&error))?;
    repository.store().head(&key).map(|_| ()).map_err(|error| report(&error))
}

/// Whether a store is there: a path that can be looked at, a server that lets us in.
fn store(house: &House, dataset: &str) -> Result<(), String> {
    let plan = house.plan.datasets.get(dataset).ok_or("it is no dataset of the plan")?;
    let store = house.means.store(&plan.store).map_err(|trouble| trouble.message)?;
    match Target::named(&store).map_err(|error| report(&error))? {
        // To name it, it was looked at.
        Target::Files(_) | Target::Sqlite(_) => Ok(()),
        Target::Postgres(options) => {
            Connection::open(&options, Purpose::Sql).map(|_| ()).map_err(|error| report(&error))
        }
    }
}
