//! Keys, of the system and of the repositories: whether each outlives what needs it, and lies outside of it.

use super::Found;
use super::finding::{Finding, Rule};
use super::graph::cycles;
use super::paths::{folder_of, is_within_any};
use super::view::View;
use crate::dataset::DatasetPlan;
use crate::part;
use crate::service::KeyPlan;
use crate::span::Span;
use std::collections::{HashMap, HashSet};

/// `key-life` and `key-not-kept`: a key must work for as long as anything is kept that was made with it.
pub(super) fn lives(view: &View<'_>, found: &mut Found) {
    for (name, key) in &view.plan.keys {
        let place = format!("keys.{}", part(name));
        if key.kept_in.is_none() && !key.protects.is_empty() {
            let what = format!(
                "where key {name} is kept is said nowhere: without it {} cannot be read",
                key.protects.join(", ")
            );
            let hint = format!("Keep it as a dataset of its own, and name that in `{place}.kept_in`.");
            found.push(Finding::hazard(Rule::KeyNotKept, &place, what).hint(hint));
        }
        let Some(lives_on) = key.lives_on() else { continue };
        for dataset in &key.protects {
            let of = view.plan.datasets.get(dataset);
            found.extend(of.and_then(|of| life(name, key, lives_on, dataset, of, &place)));
        }
    }
}

fn life(
    name: &str,
    key: &KeyPlan,
    lives_on: Span,
    dataset: &str,
    of: &DatasetPlan,
    place: &str,
) -> Option<Finding> {
    let retain = of.retain?;
    let reach = retain.reach();
    let replaced = key.rotate.map_or(String::new(), |rotate| format!("is replaced every {rotate} and "));
    if reach > lives_on {
        let what = format!(
            "key {name} {replaced}works {lives_on} longer, and {dataset} is kept for {reach}: what is older cannot be read with any key"
        );
        let hint = format!(
            "Keep old keys for {reach} at least: leave out `keep_previous` and `overlap`, or raise them."
        );
        return Some(Finding::contradiction(Rule::KeyLife, place, what).hint(hint));
    }
    (retain.versions > 0).then(|| {
        let what = format!("key {name} {replaced}works {lives_on} longer; how old {} versions of {dataset} are cannot be computed", retain.versions);
        let hint = "Keep every old key: leave out `keep_previous` and `overlap`.";
        Finding::unknown(Rule::KeyLife, place, what).hint(hint)
    })
}

/// `key-cycle`: a dataset needs a key, which is kept in a dataset, which needs a key.
pub(super) fn kept_in_cycles(view: &View<'_>, found: &mut Found) {
    let names: Vec<&str> = view.plan.datasets.keys().map(String::as_str).collect();
    let place: HashMap<&str, usize> = names.iter().enumerate().map(|(n, name)| (*name, n)).collect();
    let mut edges = vec![Vec::new(); names.len()];
    let mut key_of = HashMap::new();
    for (name, key) in &view.plan.keys {
        let Some(kept) = key.kept_in.as_ref().and_then(|kept| place.get(kept.as_str())) else { continue };
        for dataset in key.protects.iter().filter_map(|dataset| place.get(dataset.as_str())) {
            edges[*dataset].push(*kept);
            key_of.entry((*dataset, *kept)).or_insert(name.as_str());
        }
    }
    for cycle in cycles(&edges) {
        found.push(cycle_of_keys(&cycle, &names, &key_of));
    }
}

fn cycle_of_keys(cycle: &[usize], names: &[&str], key_of: &HashMap<(usize, usize), &str>) -> Finding {
    let steps = cycle.iter().zip(cycle.iter().cycle().skip(1));
    let said = steps.clone().map(|(dataset, kept)| {
        let key = key_of.get(&(*dataset, *kept)).copied().unwrap_or_default();
        format!("{} needs key {key}, which is kept in {}", names[*dataset], names[*kept])
    });
    let said: Vec<String> = said.collect();
    let first = steps.clone().next().and_then(|(dataset, kept)| key_of.get(&(*dataset, *kept)).copied());
    let key = format!("keys.{}.kept_in", part(first.unwrap_or_default()));
    let hint = "Keep the key outside of everything that needs it.";
    Finding::contradiction(Rule::KeyCycle, key, said.join(", and ")).hint(hint)
}

/// `repository-key`: what opens the repository must not lie in it, nor in a folder that only it could give back.
pub(super) fn repository_key(view: &View<'_>, found: &mut Found) {
    let Some(repository) = &view.plan.repository else { return };
    let Some(path) = repository.key.as_deref().and_then(|key| key.strip_prefix("file:")) else { return };
    let own: HashSet<&str> = folder_of(&repository.url).into_iter().collect();
    if is_within_any(path, &own).is_some() {
        let what = format!("the key of the repository is read from {path}, which is in the repository");
        let hint = "Keep it on every host that needs it, and once where no disaster reaches.";
        found.push(Finding::contradiction(Rule::RepositoryKey, "repository.key", what).hint(hint));
        return;
    }
    let folders =
        view.plan.datasets.iter().filter_map(|(name, dataset)| Some((folder_of(&dataset.store)?, name)));
    let owners: HashMap<&str, &String> = folders.collect();
    let folders: HashSet<&str> = owners.keys().copied().collect();
    if let Some(name) = is_within_any(path, &folders).and_then(|folder| owners.get(folder)) {
        let what = format!(
            "the key of the repository is read from {path}, which is in dataset {name}: to restore it, it must be there"
        );
        let hint = "Keep it outside of what it protects as well.";
        found.push(Finding::contradiction(Rule::RepositoryKey, "repository.key", what).hint(hint));
    }
}

/// `copy-key`: who steals the secret of the one opens the other.
pub(super) fn copy_keys(view: &View<'_>, found: &mut Found) {
    let own = view
        .plan
        .repository
        .as_ref()
        .map(|repository| repository.key.as_deref().unwrap_or("env:LIFEBOAT_PASSPHRASE"));
    for (place, copy) in view.plan.copies.iter().enumerate() {
        let name = copy.name.as_deref().unwrap_or(&copy.url);
        let key = copy.key.as_ref().map(ToString::to_string);
        let what = match &key {
            None => format!("copy {name} has no key of its own: one theft opens both"),
            Some(key) if Some(key.as_str()) == own => format!(
                "copy {name} and the repository are opened by the same secret, {key}: one theft opens both"
            ),
            Some(_) => continue,
        };
        let hint = format!("Give it a secret of its own: `copies.{place}.key`.");
        found.push(Finding::hazard(Rule::CopyKey, format!("copies.{place}"), what).hint(hint));
    }
}
