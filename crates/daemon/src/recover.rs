//! A controller that comes back on an empty machine: from the repository, or a copy, and an admin slot alone.
//!
//! The order is: everything that could refuse is asked first; then the state is built; then this machine's writer
//! is enrolled and takes over the lost host's datasets; and last the lost host's key is revoked, since that is what
//! cannot be taken back.
//!
//! Failpoints: `recover::state-built`, `recover::adopted`.

use crate::means::Trouble;
use crate::record::{Record, Sequence, What};
use crate::ship::{CONTROLLER, STORE, records_of};
use crate::state::State;
use lifeboat_base::clock::Timestamp;
use lifeboat_base::failpoint;
use lifeboat_repository::ids::{DatasetName, WriterId};
use lifeboat_repository::{EnrolledWriter, Repository, RepositoryError};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// What came back.
#[derive(Debug)]
pub struct Recovered {
    /// The host that was lost, as its controller called itself.
    pub host: String,
    /// The plan that it kept last.
    pub plan: String,
    /// How many records came back, and when the last of them was kept.
    pub records: u64,
    /// When the last of them was kept: what happened after it is not known.
    pub until: Option<Timestamp>,
    /// The datasets that this machine may publish now because the lost host could.
    pub adopted: Vec<DatasetName>,
    /// The keys that were revoked.
    pub revoked: Vec<WriterId>,
    /// The new key.
    pub writer: WriterId,
}

/// A controller whose records a repository holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Its dataset.
    pub dataset: DatasetName,
    /// Its host.
    pub host: String,
    /// When its newest snapshot of records was taken.
    pub seen: Timestamp,
}

fn trouble(error: RepositoryError) -> Trouble {
    Trouble::of(&error)
}

/// The controllers whose records a repository holds.
///
/// # Errors
/// Where its snapshots cannot be listed.
pub fn controllers(repository: &Repository) -> Result<Vec<Controller>, Trouble> {
    let snapshots = repository.snapshots(None, &mut Vec::new()).map_err(trouble)?;
    let newest = crate::copies::newest(snapshots);
    let of_controllers = newest.into_iter().filter(|(dataset, published)| {
        dataset.as_str().starts_with(CONTROLLER) && published.snapshot.store == STORE
    });
    Ok(of_controllers
        .map(|(dataset, published)| {
            let snapshot = published.snapshot;
            Controller { dataset, host: snapshot.source, seen: snapshot.taken }
        })
        .collect())
}

fn choose(controllers: Vec<Controller>, host: Option<&str>) -> Result<Controller, Trouble> {
    let names = controllers.iter().map(|one| one.host.as_str()).collect::<Vec<_>>().join(", ");
    let mut chosen: Vec<Controller> =
        controllers.into_iter().filter(|one| host.is_none_or(|host| host == one.host)).collect();
    match (chosen.pop(), chosen.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_), false) => Err(Trouble::new(
            format!("the repository holds the records of several controllers: {names}"),
            "Say with --lost-host which of them was lost.",
        )),
        (None, _) if names.is_empty() => Err(Trouble::new(
            "the repository holds no controller's records",
            "It was never served from, or this is not the repository: check --repository. Without records, start \
             `lifeboat serve` with the plan.",
        )),
        (None, _) => Err(Trouble::new(
            format!("the repository holds no records of that host's controller, only of {names}"),
            "Name one of these with --lost-host.",
        )),
    }
}

/// Brings a controller back into an empty state folder.
///
/// # Errors
/// Before anything has changed: where there are no such records, this slot is not admin, or the folder already has a
/// state. Afterwards: where the roster could not be changed; then it is run again.
pub fn recover(
    repository: &Arc<Repository>,
    folder: &Path,
    host: Option<&str>,
) -> Result<Recovered, Trouble> {
    if !repository.is_admin() {
        return Err(Trouble::new(
            "this key slot may not enrol a writer or revoke one",
            "Open the repository with an admin passphrase, or with the recovery key.",
        ));
    }
    let controller = choose(controllers(repository)?, host)?;
    let records = records_of(repository, &controller.dataset)?;
    let plan = last_plan(&records).ok_or_else(|| {
        Trouble::new("the controller's records name no plan", "Start `lifeboat serve` with a plan instead.")
    })?;
    let until = records.last().map(|(_, record)| record.at);
    let keys = keys_in(&records, &repository.id().to_string());
    let count = records.len() as u64;
    build(folder, records)?;
    reach("recover::state-built")?;
    let writer = repository.writer().map_err(trouble)?.id();
    let lost = writers_of(repository, &controller.host, &keys, &writer);
    let adopted = adopt(repository, &writer, &lost)?;
    reach("recover::adopted")?;
    let mut revoked = Vec::new();
    for (id, _) in lost {
        repository.revoke(&id).map_err(trouble)?;
        revoked.push(id);
    }
    Ok(Recovered { host: controller.host, plan, records: count, until, adopted, revoked, writer })
}

fn last_plan(records: &[(Sequence, Record)]) -> Option<String> {
    records.iter().rev().find_map(|(_, record)| match &record.what {
        What::Started { plan, .. } => Some(plan.clone()),
        _ => None,
    })
}

/// A state that is there already may know more than the repository; one that is a part of what the records say was
/// left by an attempt of ours that did not end.
fn build(folder: &Path, records: Vec<(Sequence, Record)>) -> Result<(), Trouble> {
    let state = State::open(folder).map_err(|error| Trouble::of(&error))?;
    let there = state.end().map_err(|error| Trouble::of(&error))?;
    let known = state.records(0, u32::MAX).map_err(|error| Trouble::of(&error))?;
    if there > records.len() as u64 || known != records[..known.len()] {
        return Err(Trouble::new(
            format!("there is a controller's state in {} already, of another history", folder.display()),
            "Start `lifeboat serve` without --recover, or name an empty folder with --state-dir.",
        ));
    }
    state.adopt(records).map_err(|error| Trouble::of(&error))?;
    Ok(())
}

/// The keys with which a controller signed in this repository, by its own records.
fn keys_in(records: &[(Sequence, Record)], repository: &str) -> BTreeSet<String> {
    let signs = records.iter().filter_map(|(_, record)| match &record.what {
        What::Signs { repository: at, writer } if at == repository => Some(writer.clone()),
        _ => None,
    });
    signs.collect()
}

/// The lost host's writers that still may write: those that it said were its own, and those that have its name.
fn writers_of(
    repository: &Repository,
    host: &str,
    keys: &BTreeSet<String>,
    ours: &WriterId,
) -> Vec<(WriterId, EnrolledWriter)> {
    let listed = repository.writers().into_iter().map(|writer| (writer.public.id(), writer));
    let is_lost = |id: &WriterId, writer: &EnrolledWriter| {
        (writer.name == host || keys.contains(&id.to_string())) && writer.revoked.is_none() && id != ours
    };
    listed.filter(|(id, writer)| is_lost(id, writer)).collect()
}

/// A writer that may publish anything needs nothing; one that is bound is given what the lost one was bound to.
fn adopt(
    repository: &Repository,
    writer: &WriterId,
    lost: &[(WriterId, EnrolledWriter)],
) -> Result<Vec<DatasetName>, Trouble> {
    let datasets: BTreeSet<&DatasetName> = lost.iter().flat_map(|(_, lost)| &lost.datasets).collect();
    for dataset in &datasets {
        repository.adopt(writer, dataset).map_err(trouble)?;
    }
    Ok(datasets.into_iter().cloned().collect())
}

fn reach(name: &'static str) -> Result<(), Trouble> {
    failpoint::reach(name).map_err(|error| Trouble::new(format!("recover: {error}"), "Run it again."))
}
