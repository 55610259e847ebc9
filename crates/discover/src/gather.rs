//! What was seen in many places, brought together: one store is one dataset, whatever its names.

use crate::found::{Engine, Found, FoundDataset, FoundService};
use crate::naming::{Names, slug};
use crate::sighting::{Need, Place, SeenService, SeenStore, Sightings};
use crate::walk::is_below;
use std::collections::{BTreeMap, BTreeSet};

/// Brings everything together.
pub(crate) fn gather(seen: Sightings, system: String, host: String) -> Found {
    let stores = merged_stores(seen.stores);
    let services = merged_services(seen.services);
    let mut names = Names::default();
    let service_names: Vec<String> =
        services.iter().map(|service| names.take(&[slug(&service.name)])).collect();
    let datasets: Vec<FoundDataset> = stores.iter().map(|store| dataset(store, &mut names)).collect();
    let resolver =
        Resolver { stores: &stores, datasets: &datasets, services: &services, names: &service_names };
    let services = resolver.services();
    let mut found =
        Found { system, host, datasets, services, undone: seen.undone, passed_over: seen.passed_over };
    found.undone.dedup();
    for dataset in &mut found.datasets {
        dedup(&mut dataset.seen);
    }
    found
}

/// What has a place in common is one; what joins two that were seen apart makes one of them.
fn merged_stores(seen: Vec<SeenStore>) -> Vec<SeenStore> {
    let mut stores: Vec<SeenStore> = Vec::new();
    for store in seen {
        let is_same = |other: &SeenStore| {
            other.engine == store.engine && other.places.iter().any(|place| store.places.contains(place))
        };
        let (same, apart): (Vec<_>, Vec<_>) = stores.into_iter().partition(is_same);
        let mut same = same.into_iter();
        stores = apart;
        let whole = match same.next() {
            None => store,
            Some(first) => same.chain([store]).fold(first, joined),
        };
        stores.push(whole);
    }
    stores
}

fn joined(mut one: SeenStore, other: SeenStore) -> SeenStore {
    if other.written.rank < one.written.rank {
        one.written = other.written;
    }
    one.places.extend(other.places);
    one.hints.extend(other.hints);
    one.variables.extend(other.variables);
    one.exclude.extend(other.exclude);
    one.remarks.extend(other.remarks);
    one.seen.extend(other.seen);
    dedup(&mut one.places);
    dedup(&mut one.variables);
    dedup(&mut one.exclude);
    dedup(&mut one.remarks);
    one
}

/// Leaves the first of what is there twice.
fn dedup<T: Ord + Clone>(items: &mut Vec<T>) {
    let mut seen = BTreeSet::new();
    items.retain(|item| seen.insert(item.clone()));
}

/// A service of one name in several files is one service.
fn merged_services(seen: Vec<SeenService>) -> Vec<SeenService> {
    let mut services: Vec<SeenService> = Vec::new();
    for service in seen {
        match services.iter_mut().find(|known| slug(&known.name) == slug(&service.name)) {
            None => services.push(service),
            Some(known) => {
                known.needs.extend(service.needs);
                known.ports.extend(service.ports);
                known.remarks.extend(service.remarks);
                known.seen.extend(service.seen);
                known.probe = known.probe.take().or(service.probe);
            }
        }
    }
    services
}

fn dataset(store: &SeenStore, names: &mut Names) -> FoundDataset {
    let word = store.engine.word();
    let first = store.hints.first().map_or(word, String::as_str);
    let mut wanted = store.hints.clone();
    let qualified = if first == word { first.to_owned() } else { slug(&format!("{first}-{word}")) };
    // Of a file its folder says more than its engine; of a server the engine says more than another name.
    let is_file = matches!(store.engine, Engine::Sqlite | Engine::Files);
    let place = if is_file { wanted.len() } else { wanted.len().min(1) };
    wanted.insert(place, qualified);
    let own = store.written.text.strip_prefix("env:");
    let mut remarks = store.remarks.clone();
    remarks.extend(store.written.remark.clone());
    FoundDataset {
        name: names.take(&wanted),
        engine: store.engine,
        store: store.written.text.clone(),
        exclude: store.exclude.clone(),
        names: store.variables.iter().filter(|name| Some(name.as_str()) != own).cloned().collect(),
        remarks,
        seen: store.seen.clone(),
    }
}

/// Finds what services mean by what they need.
struct Resolver<'a> {
    stores: &'a [SeenStore],
    datasets: &'a [FoundDataset],
    services: &'a [SeenService],
    names: &'a [String],
}

impl Resolver<'_> {
    fn services(&self) -> Vec<FoundService> {
        let mut taken_ports = BTreeSet::new();
        let mut edges: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut found = Vec::new();
        for (index, service) in self.services.iter().enumerate() {
            let (mut needs, mut needs_unprotected) = (Vec::new(), Vec::new());
            for need in &service.needs {
                for dataset in self.stores_of(need) {
                    let dataset = &self.datasets[dataset];
                    let list = if dataset.engine.has_driver() { &mut needs } else { &mut needs_unprotected };
                    list.push(dataset.name.clone());
                }
                if let Some(other) = self.service_of(need).filter(|other| !reaches(&edges, *other, index)) {
                    edges.entry(index).or_default().push(other);
                    needs.push(self.names[other].clone());
                }
            }
            dedup(&mut needs);
            dedup(&mut needs_unprotected);
            found.push(FoundService {
                name: self.names[index].clone(),
                needs,
                needs_unprotected,
                probe: service.probe.clone(),
                ports: service.ports.iter().copied().filter(|port| taken_ports.insert(*port)).collect(),
                remarks: distinct(&service.remarks),
                seen: distinct(&service.seen),
            });
        }
        found
    }

    fn service_of(&self, need: &Need) -> Option<usize> {
        let Need::Named(name) = need else { return None };
        self.services.iter().position(|service| slug(&service.name) == slug(name))
    }

    fn stores_of<'n>(&'n self, need: &'n Need) -> impl Iterator<Item = usize> + 'n {
        let matching = self.stores.iter().enumerate().filter(|(_, store)| is_meant(need, store));
        matching.map(|(index, _)| index)
    }
}

fn distinct<T: Ord + Clone>(items: &[T]) -> Vec<T> {
    let mut items = items.to_vec();
    dedup(&mut items);
    items
}

fn is_meant(need: &Need, store: &SeenStore) -> bool {
    match need {
        Need::Store(place) => store.places.contains(place),
        Need::Variable(name) => store.variables.contains(name),
        Need::Named(name) => {
            let name = crate::address::host_name(name);
            store.places.iter().any(|place| match place {
                Place::Server { host, .. } => *host == name,
                Place::Named(named) => *named == name,
                Place::Path(_) => false,
            })
        }
        Need::Below(folder) => {
            let is_local = matches!(store.engine, Engine::Sqlite | Engine::Files);
            is_local
                && store.places.iter().any(|place| match place {
                    // A folder within a folder of data is part of that dataset.
                    Place::Path(path) => {
                        is_below(path, folder) || (store.engine == Engine::Files && is_below(folder, path))
                    }
                    Place::Server { .. } | Place::Named(_) => false,
                })
        }
    }
}

/// Whether one service needs another, directly or through others: what closes a circle is left out.
fn reaches(edges: &BTreeMap<usize, Vec<usize>>, from: usize, to: usize) -> bool {
    let (mut open, mut seen) = (vec![from], BTreeSet::new());
    while let Some(node) = open.pop() {
        if node == to {
            return true;
        }
        if seen.insert(node) {
            open.extend(edges.get(&node).into_iter().flatten());
        }
    }
    false
}
