//! Where things are: copies, the repository, locks and spools, each against what it must survive.

use super::Found;
use super::finding::{Finding, Rule};
use super::paths::{folder_of, plain};
use super::sum::listed;
use super::view::View;
use crate::dataset::{DatasetPlan, StoreKind};
use crate::part;
use crate::protect::{Ack, ProtectPlan};
use crate::span::Span;
use std::collections::HashMap;

/// `copy-place`: what lies in the same place is lost with it.
pub(super) fn copies(view: &View<'_>, found: &mut Found) {
    let repository =
        view.plan.repository.as_ref().map(|repository| (plain(&repository.url), "the repository".to_owned()));
    let mut places: HashMap<&str, String> = repository.into_iter().collect();
    for (place, copy) in view.plan.copies.iter().enumerate() {
        let name = copy.name.clone().unwrap_or_else(|| format!("copy {place}"));
        if let Some(other) = places.get(plain(&copy.url)) {
            let what = format!("{name} is where {other} is, {}: it copies nothing", copy.url);
            let hint = "Name another place: another host, better another region.";
            found.push(
                Finding::contradiction(Rule::CopyPlace, format!("copies.{place}.url"), what).hint(hint),
            );
            continue;
        }
        places.insert(plain(&copy.url), name);
    }
}

/// `repository-host` and `repository-region`: what is lost with the data cannot give them back.
pub(super) fn repository(view: &View<'_>, found: &mut Found) {
    let Some(repository) = &view.plan.repository else { return };
    let is_folder = folder_of(&repository.url).is_some();
    let (mut beside, mut perhaps, mut within) = (Vec::new(), Vec::new(), Vec::new());
    for (name, dataset) in &view.plan.datasets {
        if view.is_beside(dataset) {
            beside.push(name.as_str());
        } else if is_folder && repository.host.is_none() && is_local(dataset) {
            perhaps.push(name.as_str());
        } else if is_in_one_region(view, dataset) {
            within.push(name.as_str());
        }
    }
    found.extend(on_host(view, repository.host.as_deref().unwrap_or_default(), &beside));
    found.extend(perhaps_on_host(&repository.url, &perhaps));
    found.extend(in_region(view, &within));
}

/// Read where it lies, and where that is said by nobody.
fn is_local(dataset: &DatasetPlan) -> bool {
    dataset.host.is_none() && dataset.store_kind().is_some_and(|kind| !kind.is_on_the_network())
}

fn is_in_one_region(view: &View<'_>, dataset: &DatasetPlan) -> bool {
    let Some(region) = view.region_of(dataset) else { return false };
    // An objective for the region has a rule of its own, which says more.
    let has_objective = dataset.rpo.is_some_and(|rpo| rpo.region.is_some());
    let replica = dataset.replica.as_ref().map(|replica| replica.region.as_str());
    !has_objective
        && view.region_of_repository() == Some(region)
        && replica.is_none_or(|replica| replica == region)
}

fn on_host(view: &View<'_>, host: &str, names: &[&str]) -> Option<Finding> {
    let is_copied = !view.plan.copies.is_empty();
    let what = match (names, is_copied) {
        ([], _) => return None,
        (_, true) => format!(
            "{} and the repository are on one host, {host}: only the copies survive it",
            listed(names)
        ),
        (_, false) => {
            format!("{} and the repository are on one host, {host}: nothing survives it", listed(names))
        }
    };
    let hint = "Move the repository to another host or to object storage.";
    let make = if is_copied { Finding::hazard } else { Finding::contradiction };
    Some(make(Rule::RepositoryHost, "repository.host".to_owned(), what).hint(hint))
}

fn perhaps_on_host(url: &str, names: &[&str]) -> Option<Finding> {
    (!names.is_empty()).then(|| {
        let what = format!("whether the folder {url} is on the host of {} cannot be told: no host is stated", listed(names));
        let hint = "State `repository.host` and the `host` of each dataset; a folder on the same host is lost with them.";
        Finding::unknown(Rule::RepositoryHost, "repository.url", what).hint(hint)
    })
}

fn in_region(view: &View<'_>, names: &[&str]) -> Option<Finding> {
    let region = view.region_of_repository()?;
    let is_away = view.is_copied_away_from(region);
    let leaves = view.plan.failovers.values().any(|failover| failover.from == region);
    (!names.is_empty() && !is_away && !leaves).then(|| {
        let what = format!(
            "{} and the repository are in one region, {region}, and no copy is in another",
            listed(names)
        );
        let hint = "Add a copy in another region.";
        Finding::hazard(Rule::RepositoryRegion, "repository.region", what).hint(hint)
    })
}

/// `lock-place`: a lock that is lost with what it guards is not there when that is recovered.
pub(super) fn locks(view: &View<'_>, found: &mut Found) {
    for (name, lock) in &view.plan.locks {
        let is_in_itself = lock.guards.contains(&lock.lives_in);
        if is_in_itself {
            let what = format!(
                "lock {name} lives in {} and guards it: while {} is down nobody can hold it",
                lock.lives_in, lock.lives_in
            );
            let hint =
                "Keep it outside of what it guards: the leader of the repository, or a lease elsewhere.";
            found.push(
                Finding::contradiction(Rule::LockPlace, format!("locks.{}.lives_in", part(name)), what)
                    .hint(hint),
            );
        }
    }
}

/// `spool-host`: log that is acknowledged and lies on the primary's host is lost with it.
pub(super) fn spools(view: &View<'_>, found: &mut Found) {
    for (name, dataset) in &view.plan.datasets {
        let spools = dataset.protect.as_ref().is_some_and(|protect| protect.ack == Ack::Spool);
        if !spools || dataset.store_kind().is_some_and(|kind| kind != StoreKind::Postgres) {
            continue;
        }
        let key = format!("datasets.{}.protect.ack", part(name));
        match is_read_on_its_own_host(dataset) {
            Some(true) => {
                let what = format!(
                    "log of {name} is acknowledged once it is in the spool, and the spool is on the primary's own host: what was acknowledged is lost with it"
                );
                let hint = "Follow from another host, or acknowledge in the repository.";
                found.push(Finding::contradiction(Rule::SpoolHost, key, what).hint(hint));
            }
            Some(false) => {}
            None => {
                let what = format!(
                    "whether the spool of {name} is on the primary's host cannot be told from {:?}",
                    dataset.store
                );
                let hint = format!("Leave `datasets.{}.host` out, where another host follows.", part(name));
                found.push(Finding::unknown(Rule::SpoolHost, key, what).hint(hint));
            }
        }
    }
}

/// Whoever follows a dataset with a host does it there.
fn is_read_on_its_own_host(dataset: &DatasetPlan) -> Option<bool> {
    let server = server_of(&dataset.store);
    match (&dataset.host, server) {
        (_, Some("localhost" | "127.0.0.1" | "[::1]" | "")) => Some(true),
        (None, _) => Some(false),
        (Some(host), Some(server)) => Some(host == server),
        (Some(_), None) => None,
    }
}

/// The host of `postgres://user@host:port/database`.
fn server_of(store: &str) -> Option<&str> {
    let (_, rest) = store.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit('@').next()?;
    let is_bracketed = host.starts_with('[');
    if is_bracketed { host.find(']').map(|end| &host[..=end]) } else { host.split(':').next() }
}

/// Nobody waits longer for a page than this.
const PATIENCE: Span = Span::from_secs(60);

/// `synchronous-wait`: how long a commit may wait lies between how long shipping takes and how long users wait.
pub(super) fn synchronous(view: &View<'_>, found: &mut Found) {
    for (name, dataset) in &view.plan.datasets {
        let waits = dataset.protect.as_ref().filter(|protect| protect.synchronous);
        if let Some((protect, wait)) = waits.and_then(|protect| Some((protect, protect.max_wait?))) {
            found.extend(waiting(view, name, protect, wait));
        }
    }
}

fn waiting(view: &View<'_>, name: &str, protect: &ProtectPlan, wait: Span) -> Option<Finding> {
    let key = format!("datasets.{}.protect.max_wait", part(name));
    if let Some((ships, _)) = view.ships(name, protect).filter(|(ships, _)| *ships >= wait) {
        let what = format!(
            "a commit to {name} may wait {wait}, and shipping takes {ships}: synchronous mode is suspended all the time"
        );
        return Some(
            Finding::contradiction(Rule::SynchronousWait, key, what)
                .hint(format!("Allow more than {ships}.")),
        );
    }
    (wait > PATIENCE).then(|| {
        let what = format!("a commit to {name} may wait {wait}: for those who write, that is an outage");
        Finding::hazard(Rule::SynchronousWait, key, what).hint(format!("Allow {PATIENCE} at the most."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_server_is_read() {
        for (store, host) in [
            ("postgres://u@db-1:5432/x", Some("db-1")),
            ("postgres://db-1/x?a=b", Some("db-1")),
            ("postgres://[::1]:5432/x", Some("[::1]")),
            ("postgres:///x", Some("")),
            ("postgres://[::1", None),
            ("env:DATABASE_URL", None),
        ] {
            assert_eq!(server_of(store), host, "{store}");
        }
    }
}
