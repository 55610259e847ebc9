//! How long a service would take to be back: what happens before anything is restored, then what it needs in the
//! order of dependencies, then its own steps. A forecast, and said to be one; each part says what it comes from.
//!
//! Restores that share a host or a repository share its rate, and so go one after the other; others go side by side.
//! The p50 takes each part at its median, the p90 each part at its own p90. The latter is the p90 of the whole where
//! the parts are slow together, as they are on one slow machine, network or store, and otherwise more than that. A
//! few samples carry no finer statement, and drawing at random from them would only look like one.

use crate::observe::{Dataset, Service};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;

/// How long something takes, and how that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Takes {
    /// By so many samples.
    Measured {
        /// Half of them took no longer.
        p50: Duration,
        /// Nine of ten did.
        p90: Duration,
        /// How many they are.
        samples: usize,
    },
    /// As somebody says, in the plan or a runbook.
    Stated(Duration),
    /// Nobody knows.
    #[default]
    Unknown,
}

impl Takes {
    /// From samples, by nearest rank; unknown where there are none.
    pub fn of_samples(samples: &[Duration]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let rank =
            |tenths: usize| sorted.get((sorted.len() * tenths).div_ceil(10).saturating_sub(1)).copied();
        match (rank(5), rank(9)) {
            (Some(p50), Some(p90)) => Self::Measured { p50, p90, samples: sorted.len() },
            _ => Self::Unknown,
        }
    }

    fn at(self, quantile: Quantile) -> Duration {
        match (self, quantile) {
            (Self::Measured { p50, .. }, Quantile::P50) => p50,
            (Self::Measured { p90, .. }, Quantile::P90) => p90,
            (Self::Stated(stated), _) => stated,
            (Self::Unknown, _) => Duration::ZERO,
        }
    }

    fn basis(self) -> Basis {
        match self {
            Self::Measured { samples, .. } => Basis::Measured { samples },
            Self::Stated(_) => Basis::Stated,
            Self::Unknown => Basis::Unknown,
        }
    }
}

/// What a part of a forecast comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "basis", rename_all = "snake_case")]
pub enum Basis {
    /// Measured so many times.
    Measured {
        /// How often.
        samples: usize,
    },
    /// Stated in the plan or a runbook.
    Stated,
    /// Nobody knows how long it takes: it counts as nothing, and the whole is a lower bound.
    Unknown,
}

/// One thing that takes time on the way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// What it is: `detect`, `decide`, `snapshot`, `log`, …
    pub name: String,
    /// How long it takes.
    pub takes: Takes,
}

impl Activity {
    /// An activity.
    pub fn new(name: &str, takes: Takes) -> Self {
        Self { name: name.to_owned(), takes }
    }
}

/// A part of a forecast.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The dataset or service.
    pub of: String,
    /// What is done.
    pub activity: String,
    /// At its median.
    pub p50: Duration,
    /// At its p90.
    pub p90: Duration,
    /// What that comes from.
    pub basis: Basis,
}

/// How long a service would take to be back.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// With each part at its median.
    pub p50: Duration,
    /// With each part at its p90.
    pub p90: Duration,
    /// Whether parts are unknown, so that both are lower bounds.
    pub at_least: bool,
    /// What it consists of, in the order in which it is done.
    pub parts: Vec<Part>,
}

/// Why there is no forecast.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForecastError {
    /// Services need each other.
    #[error("services need each other: {}", names.join(" → "))]
    Cycle {
        /// Their names, the first one again at the end.
        names: Vec<String>,
    },
    /// What is needed is neither a dataset nor a service.
    #[error("{service} needs {need}, which is neither a dataset nor a service")]
    UnknownNeed {
        /// Who needs it.
        service: String,
        /// What it needs.
        need: String,
    },
}

impl lifeboat_base::Hint for ForecastError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Cycle { .. } => {
                "Take one of these out of the `needs` of another: somebody must come first.".to_owned()
            }
            Self::UnknownNeed { need, .. } => format!("Declare {need}, or take it out of `needs`."),
        })
    }
}

#[derive(Clone, Copy)]
enum Quantile {
    P50,
    P90,
}

/// The datasets and services of a system by their names. A name that both have means the dataset.
pub struct House<'a> {
    datasets: HashMap<&'a str, &'a Dataset>,
    services: HashMap<&'a str, &'a Service>,
}

impl<'a> House<'a> {
    /// Those of a system.
    pub fn new(datasets: &'a [Dataset], services: &'a [Service]) -> Self {
        Self {
            datasets: datasets.iter().map(|dataset| (dataset.name.as_str(), dataset)).collect(),
            services: services.iter().map(|service| (service.name.as_str(), service)).collect(),
        }
    }

    /// How long a service would take to be back.
    ///
    /// # Errors
    /// Where services need each other, or something that is not there.
    pub fn forecast(&self, service: &'a Service) -> Result<Forecast, ForecastError> {
        let order = self.order(service)?;
        let parts = self.parts(&order);
        Ok(Forecast {
            p50: self.duration(&order, Quantile::P50),
            p90: self.duration(&order, Quantile::P90),
            at_least: parts.iter().any(|part| part.basis == Basis::Unknown),
            parts,
        })
    }

    /// A service and all services that it needs, each after what it needs itself.
    fn order(&self, target: &'a Service) -> Result<Vec<&'a Service>, ForecastError> {
        let mut order = Vec::new();
        let mut done: HashMap<&str, bool> = HashMap::from([(target.name.as_str(), false)]);
        // A path through the needs, with how many of each service's needs were seen. Not recursive: a chain of
        // services may be longer than a stack is deep.
        let mut path = vec![(target, 0)];
        while let Some((service, seen)) = path.last_mut() {
            let service: &'a Service = service;
            let Some(need) = service.needs.get(*seen) else {
                done.insert(&service.name, true);
                order.push(service);
                path.pop();
                continue;
            };
            *seen += 1;
            let Some(next) = self.needed(service, need)? else { continue };
            match done.get(next.name.as_str()) {
                Some(true) => {}
                Some(false) => return Err(cycle(&path, next)),
                None => {
                    done.insert(&next.name, false);
                    path.push((next, 0));
                }
            }
        }
        Ok(order)
    }

    /// The service that a need names; `None` where it is a dataset.
    fn needed(&self, service: &Service, need: &str) -> Result<Option<&'a Service>, ForecastError> {
        match (self.datasets.contains_key(need), self.services.get(need)) {
            (true, _) => Ok(None),
            (false, Some(next)) => Ok(Some(next)),
            (false, None) => {
                Err(ForecastError::UnknownNeed { service: service.name.clone(), need: need.to_owned() })
            }
        }
    }

    /// The datasets that a service needs itself.
    fn datasets_of(&self, service: &'a Service) -> impl Iterator<Item = &'a Dataset> {
        service.needs.iter().filter_map(|need| self.datasets.get(need.as_str()).copied())
    }

    /// How long all of it takes with each part at a quantile.
    fn duration(&self, order: &[&'a Service], quantile: Quantile) -> Duration {
        let before = order.iter().map(|service| total(&service.before, quantile)).max().unwrap_or_default();
        let mut ready: HashMap<&str, Duration> = HashMap::new();
        let mut free: HashMap<&str, Duration> = HashMap::new();
        for service in order {
            for dataset in self.datasets_of(service) {
                if !ready.contains_key(dataset.name.as_str()) {
                    ready.insert(&dataset.name, restored(dataset, before, &mut free, quantile));
                }
            }
            let needs = service.needs.iter().filter_map(|need| ready.get(need.as_str()).copied());
            let begin = needs.max().unwrap_or_default().max(before);
            ready.insert(&service.name, begin.saturating_add(total(&service.after, quantile)));
        }
        order.last().and_then(|target| ready.get(target.name.as_str()).copied()).unwrap_or_default()
    }

    fn parts(&self, order: &[&'a Service]) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut seen: HashMap<&str, ()> = HashMap::new();
        for service in order {
            parts.extend(parts_of(&service.name, &service.before, "detect and decide"));
        }
        for service in order {
            for dataset in self.datasets_of(service) {
                if seen.insert(&dataset.name, ()).is_none() {
                    parts.extend(parts_of(&dataset.name, &dataset.restore, "restore"));
                }
            }
            parts.extend(parts_of(&service.name, &service.after, "steps"));
        }
        parts
    }
}

/// When a dataset is restored, once what it shares with others is free. Nothing is restored before it is decided.
fn restored<'a>(
    dataset: &'a Dataset,
    before: Duration,
    free: &mut HashMap<&'a str, Duration>,
    quantile: Quantile,
) -> Duration {
    let shared = || dataset.shares.iter().map(String::as_str);
    let begin = shared().filter_map(|shared| free.get(shared).copied()).max().unwrap_or_default().max(before);
    let end = begin.saturating_add(total(&dataset.restore, quantile));
    for shared in shared() {
        free.insert(shared, end);
    }
    end
}

fn total(activities: &[Activity], quantile: Quantile) -> Duration {
    let durations = activities.iter().map(|activity| activity.takes.at(quantile));
    durations.fold(Duration::ZERO, Duration::saturating_add)
}

/// Where nothing at all is said, one unknown part: what nobody declared still takes time.
fn parts_of(of: &str, activities: &[Activity], otherwise: &str) -> Vec<Part> {
    let part = |name: &str, takes: Takes| Part {
        of: of.to_owned(),
        activity: name.to_owned(),
        p50: takes.at(Quantile::P50),
        p90: takes.at(Quantile::P90),
        basis: takes.basis(),
    };
    match activities {
        [] => vec![part(otherwise, Takes::Unknown)],
        _ => activities.iter().map(|activity| part(&activity.name, activity.takes)).collect(),
    }
}

fn cycle(path: &[(&Service, usize)], again: &Service) -> ForecastError {
    let names = path.iter().map(|(service, _)| service.name.clone());
    let mut names: Vec<String> = names.skip_while(|name| *name != again.name).collect();
    names.push(again.name.clone());
    ForecastError::Cycle { names }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(name: &str, seconds: u64) -> Activity {
        Activity::new(name, Takes::Stated(Duration::from_secs(seconds)))
    }

    fn dataset(name: &str, shares: &str, seconds: u64) -> Dataset {
        Dataset {
            name: name.to_owned(),
            shares: vec![shares.to_owned()],
            restore: vec![stated("snapshot", seconds)],
            ..Dataset::default()
        }
    }

    fn service(name: &str, needs: &[&str], steps: u64) -> Service {
        Service {
            name: name.to_owned(),
            needs: needs.iter().map(|&need| need.to_owned()).collect(),
            before: vec![stated("detect", 60), stated("decide", 30)],
            after: vec![stated("execute", steps)],
            ..Service::default()
        }
    }

    fn p50(datasets: &[Dataset], services: &[Service]) -> u64 {
        House::new(datasets, services).forecast(&services[0]).unwrap().p50.as_secs()
    }

    #[test]
    fn restores_that_share_a_rate_go_one_after_the_other() {
        let api = [service("api", &["users", "debates"], 10)];
        let shared = [dataset("users", "main", 100), dataset("debates", "main", 200)];
        assert_eq!(p50(&shared, &api), 90 + 300 + 10);
        let apart = [dataset("users", "main", 100), dataset("debates", "west", 200)];
        assert_eq!(p50(&apart, &api), 90 + 200 + 10);
    }

    #[test]
    fn what_is_needed_comes_first_and_is_restored_once() {
        let datasets = [dataset("users", "main", 100), dataset("debates", "main", 200)];
        let services = [
            service("site", &["api", "users"], 5),
            service("api", &["accounts", "debates"], 10),
            service("accounts", &["users"], 20),
        ];
        // users to 190, accounts to 210, debates to 390, api to 400, site to 405.
        assert_eq!(p50(&datasets, &services), 405);
        let parts = House::new(&datasets, &services).forecast(&services[0]).unwrap().parts;
        let order: Vec<&str> = parts.iter().skip(6).map(|part| part.of.as_str()).collect();
        assert_eq!(order, ["users", "accounts", "debates", "api", "site"]);
    }

    #[test]
    fn decisions_are_made_once_and_the_slowest_counts() {
        let mut services = [service("site", &["api"], 0), service("api", &[], 0)];
        services[1].before = vec![stated("detect", 500)];
        assert_eq!(p50(&[], &services), 500);
    }

    #[test]
    fn quantiles_are_composed_each_from_its_own() {
        let samples: Vec<Duration> = (1..=10).map(Duration::from_secs).collect();
        let takes = Takes::of_samples(&samples);
        let (p50, p90) = (Duration::from_secs(5), Duration::from_secs(9));
        assert_eq!(takes, Takes::Measured { p50, p90, samples: 10 });
        assert_eq!(Takes::of_samples(&[]), Takes::Unknown);
        let mut users = dataset("users", "main", 0);
        users.restore = vec![Activity::new("snapshot", takes), Activity::new("log", takes)];
        let services = [service("api", &["users"], 0)];
        let forecast = House::new(&[users], &services).forecast(&services[0]).unwrap();
        assert_eq!((forecast.p50.as_secs(), forecast.p90.as_secs(), forecast.at_least), (100, 108, false));
        assert_eq!(forecast.parts[2].basis, Basis::Measured { samples: 10 });
    }

    #[test]
    fn what_nobody_knows_makes_it_a_lower_bound() {
        let known = [dataset("users", "main", 100)];
        let mut unknown = known.clone();
        unknown[0].restore.clear();
        let services = [service("api", &["users"], 10)];
        let forecast = |datasets| House::new(datasets, &services).forecast(&services[0]).unwrap();
        assert!(!forecast(&known).at_least);
        let bound = forecast(&unknown);
        assert_eq!((bound.at_least, bound.p50.as_secs()), (true, 100));
        assert_eq!((bound.parts[2].activity.as_str(), bound.parts[2].basis), ("restore", Basis::Unknown));
    }

    #[test]
    fn a_cycle_is_refused_with_its_names() {
        let services =
            [service("site", &["api"], 0), service("api", &["auth"], 0), service("auth", &["api"], 0)];
        let error = House::new(&[], &services).forecast(&services[0]).unwrap_err();
        assert_eq!(error.to_string(), "services need each other: api → auth → api");
        let lonely = [service("self", &["self"], 0)];
        let error = House::new(&[], &lonely).forecast(&lonely[0]).unwrap_err();
        assert_eq!(error, ForecastError::Cycle { names: vec!["self".into(), "self".into()] });
        let missing = [service("api", &["nothing"], 0)];
        let error = House::new(&[], &missing).forecast(&missing[0]).unwrap_err();
        assert!(error.to_string().starts_with("api needs nothing"), "{error}");
    }

    #[test]
    fn a_chain_may_be_longer_than_a_stack_is_deep() {
        let name = |n: usize| format!("s{n}");
        let services: Vec<Service> =
            (0..50_000).map(|n| service(&name(n), &[name(n + 1).as_str()], 1)).collect();
        let mut services = services;
        services.last_mut().unwrap().needs.clear();
        assert_eq!(p50(&[], &services), 90 + 50_000);
    }
}
