//! Names: whether what is referred to is there, whether it goes by one name, and whether it goes round in circles.

use super::Found;
use super::finding::{Finding, Rule};
use super::graph::cycles;
use super::paths::plain;
use super::promises::Of;
use super::view::View;
use crate::{Plan, part};
use std::collections::{HashMap, HashSet};

/// A table of the plan whose names others refer to.
#[derive(Clone, Copy)]
enum Table {
    Services,
    Datasets,
    Tiers,
    Environments,
    Hosts,
    Severities,
    Levels,
    Contacts,
    Failovers,
}

impl Table {
    fn has(self, plan: &Plan, name: &str) -> bool {
        match self {
            Self::Services => plan.services.contains_key(name),
            Self::Datasets => plan.datasets.contains_key(name),
            Self::Tiers => plan.tiers.contains_key(name),
            Self::Environments => plan.environments.contains_key(name),
            Self::Hosts => plan.hosts.contains_key(name),
            Self::Severities => plan.severities.contains_key(name),
            Self::Levels => plan.levels.contains_key(name),
            Self::Contacts => plan.contacts.contains_key(name),
            Self::Failovers => plan.failovers.contains_key(name),
        }
    }

    fn names(self, plan: &Plan) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Services => Box::new(plan.services.keys().map(String::as_str)),
            Self::Datasets => Box::new(plan.datasets.keys().map(String::as_str)),
            Self::Tiers => Box::new(plan.tiers.keys().map(String::as_str)),
            Self::Environments => Box::new(plan.environments.keys().map(String::as_str)),
            Self::Hosts => Box::new(plan.hosts.keys().map(String::as_str)),
            Self::Severities => Box::new(plan.severities.keys().map(String::as_str)),
            Self::Levels => Box::new(plan.levels.keys().map(String::as_str)),
            Self::Contacts => Box::new(plan.contacts.keys().map(String::as_str)),
            Self::Failovers => Box::new(plan.failovers.keys().map(String::as_str)),
        }
    }
}

/// What may be needed or guarded.
const RECOVERED: &[Table] = &[Table::Services, Table::Datasets];
/// From what on somebody is told.
const GRAVITY: &[Table] = &[Table::Severities, Table::Levels];

/// `unknown-name`: whoever refers to a name means something that is there.
pub(super) fn unknown_names(view: &View<'_>, found: &mut Found) {
    let mut names = Names { view, found };
    names.of_services();
    names.of_datasets();
    names.of_keys_and_locks();
    names.of_people();
    names.of_promises();
    names.of_failovers();
}

struct Names<'n, 'a> {
    view: &'n View<'a>,
    found: &'n mut Found,
}

impl Names<'_, '_> {
    /// A reference: the key where it stands, what kind of thing is meant, its name, and where it may be.
    fn refer(&mut self, key: String, kind: &str, name: &str, tables: &[Table]) {
        let plan = self.view.plan;
        if tables.iter().any(|table| table.has(plan, name)) {
            return;
        }
        let finding = Finding::contradiction(Rule::UnknownName, key, format!("there is no {kind} {name:?}"));
        let known = tables.iter().flat_map(|table| table.names(plan));
        self.found.push(match self.view.suggest(name, known) {
            Some(nearest) => finding.hint(format!("Did you mean `{nearest}`?")),
            None => finding.hint(format!("Declare the {kind}, or correct the name.")),
        });
    }

    fn perhaps(&mut self, key: impl FnOnce() -> String, kind: &str, name: Option<&String>, tables: &[Table]) {
        if let Some(name) = name {
            self.refer(key(), kind, name, tables);
        }
    }

    /// Hosts need not be declared; where some are, one that is not is a slip.
    fn host(&mut self, key: impl FnOnce() -> String, name: Option<&String>) {
        if !self.view.plan.hosts.is_empty() {
            self.perhaps(key, "host", name, &[Table::Hosts]);
        }
    }

    fn of_services(&mut self) {
        for (name, service) in &self.view.plan.services {
            let key = |last: &str| format!("services.{}.{last}", part(name));
            self.perhaps(|| key("tier"), "tier", service.tier.as_ref(), &[Table::Tiers]);
            self.perhaps(
                || key("environment"),
                "environment",
                service.environment.as_ref(),
                &[Table::Environments],
            );
            self.host(|| key("host"), service.host.as_ref());
            for (place, need) in service.needs.iter().enumerate() {
                self.refer(key(&format!("needs.{place}")), "dataset or service", need, RECOVERED);
            }
        }
    }

    fn of_datasets(&mut self) {
        for (name, dataset) in &self.view.plan.datasets {
            let key = |last: &str| format!("datasets.{}.{last}", part(name));
            self.perhaps(|| key("tier"), "tier", dataset.tier.as_ref(), &[Table::Tiers]);
            self.host(|| key("host"), dataset.host.as_ref());
        }
        let host = self.view.plan.repository.as_ref().and_then(|repository| repository.host.as_ref());
        self.host(|| "repository.host".to_owned(), host);
    }

    fn of_keys_and_locks(&mut self) {
        for (name, own) in &self.view.plan.keys {
            let key = |last: &str| format!("keys.{}.{last}", part(name));
            self.perhaps(|| key("kept_in"), "dataset", own.kept_in.as_ref(), &[Table::Datasets]);
            for (place, dataset) in own.protects.iter().enumerate() {
                self.refer(key(&format!("protects.{place}")), "dataset", dataset, &[Table::Datasets]);
            }
        }
        for (name, lock) in &self.view.plan.locks {
            let key = |last: &str| format!("locks.{}.{last}", part(name));
            if lock.lives_in != "repository" {
                self.refer(key("lives_in"), "dataset", &lock.lives_in, &[Table::Datasets]);
            }
            for (place, guarded) in lock.guards.iter().enumerate() {
                self.refer(key(&format!("guards.{place}")), "dataset or service", guarded, RECOVERED);
            }
        }
    }

    fn of_people(&mut self) {
        let plan = self.view.plan;
        for (name, incident) in &plan.incidents {
            let key = format!("incidents.{}.severity", part(name));
            self.refer(key, "severity", &incident.severity, &[Table::Severities]);
        }
        for (name, level) in &plan.levels {
            let key = || format!("levels.{}.severity", part(name));
            self.perhaps(key, "severity", level.severity.as_ref(), &[Table::Severities]);
        }
        for (name, contact) in &plan.contacts {
            let key = || format!("contacts.{}.from", part(name));
            self.perhaps(key, "severity or level", contact.from.as_ref(), GRAVITY);
        }
        for (place, step) in plan.escalation.iter().enumerate() {
            let key = |last: &str| format!("escalation.{place}.{last}");
            self.perhaps(|| key("contact"), "contact", step.contact.as_ref(), &[Table::Contacts]);
            self.perhaps(|| key("from"), "severity or level", step.from.as_ref(), GRAVITY);
        }
    }

    fn of_promises(&mut self) {
        for (place, promise) in self.view.plan.promises.iter().enumerate() {
            let key = format!("promises.{place}.of");
            match Of::read(&promise.of) {
                Some(Of::Service(name)) => self.refer(key, "service", name, &[Table::Services]),
                Some(Of::Dataset(name)) => self.refer(key, "dataset", name, &[Table::Datasets]),
                Some(Of::Tier(name)) => self.refer(key, "tier", name, &[Table::Tiers]),
                Some(Of::Environment(name)) => self.refer(key, "environment", name, &[Table::Environments]),
                Some(Of::Failover(name)) => self.refer(key, "failover", name, &[Table::Failovers]),
                Some(Of::System | Of::Review | Of::Failovers) => {}
                None => {
                    let what = format!("{:?} is nothing that could be promised of", promise.of);
                    let hint = "Say system, review, failover, or services.NAME, datasets.NAME, tiers.NAME, environments.NAME, failovers.NAME.";
                    self.found.push(Finding::contradiction(Rule::UnknownName, key, what).hint(hint));
                }
            }
        }
    }

    /// A region is declared by whatever is there.
    fn of_failovers(&mut self) {
        let plan = self.view.plan;
        if plan.failovers.is_empty() {
            return;
        }
        let services = plan.services.values().filter_map(|service| self.view.region_of_service(service));
        let datasets = plan.datasets.values().filter_map(|dataset| self.view.region_of(dataset));
        let inhabited: HashSet<&str> = services.chain(datasets).collect();
        for (name, failover) in &plan.failovers {
            if !inhabited.contains(failover.from.as_str()) {
                let key = format!("failovers.{}.from", part(name));
                let what = format!("no service and no dataset is in region {:?}", failover.from);
                let finding = Finding::contradiction(Rule::UnknownName, key, what);
                let nearest = self.view.suggest(&failover.from, inhabited.iter().copied());
                let hint = nearest
                    .map_or("Declare what is there.".to_owned(), |near| format!("Did you mean `{near}`?"));
                self.found.push(finding.hint(hint));
            }
        }
    }
}

/// `needs-cycle`: of services that need each other none can be recovered first.
pub(super) fn needs_cycles(view: &View<'_>, found: &mut Found) {
    let names: Vec<&str> = view.plan.services.keys().map(String::as_str).collect();
    let place: HashMap<&str, usize> = names.iter().enumerate().map(|(n, name)| (*name, n)).collect();
    let needs = |name: &&str| {
        let needs = view.plan.services.get(*name).map_or(&[][..], |service| &service.needs);
        needs.iter().filter_map(|need| place.get(need.as_str()).copied()).collect()
    };
    let edges: Vec<Vec<usize>> = names.iter().map(needs).collect();
    for cycle in cycles(&edges) {
        let round: Vec<&str> = cycle.iter().chain(cycle.first()).map(|n| names[*n]).collect();
        let what = format!("services need each other in a circle: {}", round.join(" needs "));
        let key = format!("services.{}.needs", part(round.first().copied().unwrap_or_default()));
        let hint = "Let one of them start without the other.";
        found.push(Finding::contradiction(Rule::NeedsCycle, key, what).hint(hint));
    }
}

/// `named-twice`: one store is one dataset, and one name is one thing.
pub(super) fn named_twice(view: &View<'_>, found: &mut Found) {
    let mut stores: HashMap<(&str, &str), &str> = HashMap::new();
    for (name, dataset) in &view.plan.datasets {
        let store = (plain(&dataset.store), dataset.host.as_deref().unwrap_or_default());
        if let Some(other) = stores.get(&store) {
            let what = format!(
                "{other} and {name} are one store, {}: it has two objectives, and is protected twice",
                dataset.store
            );
            let hint = "Make one dataset of them, with the stricter objectives.";
            found.push(
                Finding::contradiction(Rule::NamedTwice, format!("datasets.{}.store", part(name)), what)
                    .hint(hint),
            );
        } else {
            stores.insert(store, name);
        }
    }
    let plan = view.plan;
    let mut owners: HashMap<&str, (&'static str, &str)> = HashMap::new();
    owners.extend(plan.services.keys().map(|name| (name.as_str(), ("services", name.as_str()))));
    owners.extend(plan.datasets.keys().map(|name| (name.as_str(), ("datasets", name.as_str()))));
    let services = plan.services.iter().map(|(name, service)| ("services", name, &service.names));
    let datasets = plan.datasets.iter().map(|(name, dataset)| ("datasets", name, &dataset.names));
    for (table, name, others) in services.chain(datasets) {
        for other in others {
            let owner = *owners.entry(other).or_insert((table, name));
            if owner != (table, name.as_str()) {
                let what = format!("{name} goes by the name {other:?}, which is also a name of {}", owner.1);
                let key = format!("{table}.{}.names", part(name));
                let hint = "Let one name mean one thing.";
                found.push(Finding::contradiction(Rule::NamedTwice, key, what).hint(hint));
            }
        }
    }
}
