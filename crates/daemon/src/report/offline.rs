//! A report without a running service: what the repository and its copies show by themselves. What only a service
//! knows (streams, jobs, proofs, who leads) is unknown here, never `ok`.

use super::known::restore_of;
use super::{REPOSITORY, datasets, places, services};
use crate::copies::{newest, reaches};
use crate::live::SnapshotSeen;
use crate::means::Trouble;
use crate::task::copy_name;
use lifeboat_base::clock::Timestamp;
use lifeboat_plan::{DatasetPlan, Mode, Plan};
use lifeboat_recovery::samples::Samples;
use lifeboat_repository::{Repository, RepositoryError};
use lifeboat_watch::forecast::{Activity, Takes};
use lifeboat_watch::health::Status;
use lifeboat_watch::observe::{
    Component, Dataset, Held, Leadership, Log, Observations, Place, Proof, Reach, Role, Stream,
};
use lifeboat_watch::report::{Limits, Report, judge};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What a place holds of a dataset.
struct Holding {
    snapshot: SnapshotSeen,
    log: Option<Timestamp>,
}

type Holdings = BTreeMap<String, Holding>;

/// This machine, as far as a report needs it.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// Where its state is.
    pub state: &'a Path,
    /// Its name.
    pub host: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// Makes a report of what is in a repository and its copies.
pub fn of_repositories(
    plan: &Plan,
    repository: Result<Arc<Repository>, Trouble>,
    mut copy: impl FnMut(&lifeboat_plan::CopyPlan) -> Result<Arc<Repository>, Trouble>,
    why_no_service: &str,
    here: Here<'_>,
) -> Report {
    let samples = repository.as_ref().ok().map(|repository| Samples::new(here.state, &repository.id()));
    let main = repository.and_then(|repository| held(&repository).map_err(|error| Trouble::of(&error)));
    let mut all = vec![(REPOSITORY.to_owned(), Role::Repository, places::region_of_repository(plan), main)];
    for (place, planned) in plan.copies.iter().enumerate() {
        let held = copy(planned).and_then(|copy| held(&copy).map_err(|error| Trouble::of(&error)));
        all.push((copy_name(planned, place), Role::Copy, planned.region.clone(), held));
    }
    let host = plan.repository.as_ref().and_then(|repository| repository.host.clone());
    let reach = |held: &Result<Holdings, Trouble>| match held {
        Ok(_) => Reach::Reached,
        Err(_) => Reach::Unreachable(None),
    };
    let observed = Observations {
        system: plan.system.as_ref().map_or_else(|| here.host.to_owned(), |system| system.name.clone()),
        // Whether anybody leads is not seen from here, and said once: by the service that does not answer.
        leader: Leadership::Unneeded,
        places: all
            .iter()
            .map(|(name, role, region, held)| Place {
                name: name.clone(),
                role: *role,
                host: host.clone().filter(|_| *role == Role::Repository),
                region: region.clone(),
                reach: reach(held),
                checked: None,
            })
            .collect(),
        datasets: plan
            .datasets
            .iter()
            .map(|(name, planned)| dataset(plan, name, planned, &all, samples.as_ref(), here))
            .collect(),
        services: services::all(plan, &BTreeMap::new()),
        components: vec![Component {
            name: "serve".to_owned(),
            status: Status::Unknown,
            latency: None,
            failure: Some(why_no_service.to_owned()),
        }],
        ..Observations::default()
    };
    judge(&observed, &Limits::default(), here.now)
}

fn held(repository: &Arc<Repository>) -> Result<Holdings, RepositoryError> {
    let newest = newest(repository.snapshots(None, &mut Vec::new())?);
    let mut held = BTreeMap::new();
    for (dataset, published) in newest {
        let reaches = reaches(repository, &dataset, &published)?;
        let snapshot = SnapshotSeen::of(&published);
        let log = Some(reaches).filter(|reaches| *reaches > snapshot.taken);
        held.insert(dataset.to_string(), Holding { snapshot, log });
    }
    Ok(held)
}

type Seen = (String, Role, Option<String>, Result<Holdings, Trouble>);

fn dataset(
    plan: &Plan,
    name: &str,
    planned: &DatasetPlan,
    all: &[Seen],
    samples: Option<&Samples>,
    here: Here<'_>,
) -> Dataset {
    let of_place = |(place, _, _, held): &Seen| {
        let holding = held.as_ref().ok()?.get(name)?;
        let log = holding.log.map(|through| Log { through, position: None, hole: None });
        Some(Held { place: place.clone(), snapshot: Some(holding.snapshot.taken), log, ..Held::default() })
    };
    let main = all.first().and_then(|(_, _, _, held)| held.as_ref().ok()?.get(name));
    let measured = main
        .zip(samples)
        .and_then(|(main, samples)| restore_of(samples, here.host, name, &main.snapshot, None));
    let stated = || planned.recover?.stated();
    let is_continuous = planned.protect.as_ref().is_some_and(|protect| protect.mode == Mode::Continuous);
    Dataset {
        name: name.to_owned(),
        rpo: datasets::objectives(plan, name, planned),
        host: planned.host.clone(),
        region: datasets::region(plan, planned),
        store: Status::Unknown,
        held: all.iter().filter_map(of_place).collect(),
        stream: is_continuous.then(Stream::default),
        schedule: None,
        proof: Proof::default(),
        restore: match (measured, stated()) {
            (Some(measured), _) => measured,
            (None, Some(stated)) => vec![Activity::new("restore", Takes::Stated(stated.duration()))],
            (None, None) => Vec::new(),
        },
        shares: datasets::shares(planned),
    }
}
