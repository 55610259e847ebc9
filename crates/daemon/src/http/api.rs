//! The API: everything that it gives is only for reading, and comes from the report, the state or the repository.

use super::Inner;
use super::answer::Answer;
use super::fault::Fault;
use super::parameter::Asked;
use super::shapes::{
    CopiesShown, DatasetsShown, EventShown, EventsShown, JobShown, JobsShown, PointsShown, ServicesShown,
    SnapshotShown, StretchShown,
};
use crate::record::JobOutcome;
use crate::report::Report;
use crate::state::{JobsWanted, WantedOutcome};
use crate::task::TaskKind;
use lifeboat_repository::LogCatalogue;
use lifeboat_repository::ids::DatasetName;
use lifeboat_watch::observe::Role;
use std::collections::BTreeSet;

type Answered = Result<Answer, Fault>;

/// So many of what there may be many of, unless somebody asks for another number.
const USUAL: u64 = 100;

fn limit(asked: &Asked) -> usize {
    usize::try_from(asked.whole("limit").unwrap_or(USUAL)).unwrap_or(usize::MAX)
}

pub(super) fn status(inner: &Inner, _: &Asked) -> Answered {
    Answer::json(&*inner.report()?)
}

pub(super) fn datasets(inner: &Inner, asked: &Asked) -> Answered {
    let report = inner.report()?;
    let (after, state) = (asked.text("after").unwrap_or_default(), asked.text("state"));
    // By name: the plan has them so, and the report keeps its order.
    let wanted = report.datasets.iter().filter(|dataset| {
        dataset.name.as_str() > after && state.is_none_or(|state| dataset.state.as_str() == state)
    });
    let mut datasets: Vec<_> = wanted.take(limit(asked) + 1).cloned().collect();
    let has_more = datasets.len() > limit(asked);
    datasets.truncate(limit(asked));
    let next = datasets.last().filter(|_| has_more).map(|last| last.name.clone());
    Answer::json(&DatasetsShown { at: report.at.to_string(), datasets, next })
}

fn no_dataset(name: &str) -> Fault {
    Fault::NoSuchThing { what: format!("dataset {name} in the plan") }
}

pub(super) fn dataset(inner: &Inner, asked: &Asked) -> Answered {
    let (report, name) = (inner.report()?, asked.text("name").unwrap_or_default());
    let found = report.datasets.iter().find(|dataset| dataset.name == name);
    Answer::json(found.ok_or_else(|| no_dataset(name))?)
}

pub(super) fn points(inner: &Inner, asked: &Asked) -> Answered {
    let name = asked.text("name").unwrap_or_default();
    if !inner.house.plan.datasets.contains_key(name) {
        return Err(no_dataset(name));
    }
    let dataset = DatasetName::new(name).map_err(|_| no_dataset(name))?;
    let repository = inner.house.open_repository().ok_or(Fault::RepositoryAway)?;
    let read = || {
        let snapshots = repository.snapshots(Some(&dataset), &mut Vec::new())?;
        let held: BTreeSet<_> = repository.holds()?.into_iter().map(|hold| hold.position).collect();
        let logs = LogCatalogue::read(&repository, &dataset)?.lineages();
        Ok::<_, lifeboat_repository::RepositoryError>((snapshots, held, logs))
    };
    let (snapshots, held, logs) = read().map_err(|error| inner.failed(&error))?;
    let newest = snapshots.iter().rev().take(limit(asked));
    Answer::json(&PointsShown {
        dataset: name.to_owned(),
        snapshots: newest.map(|one| SnapshotShown::of(one, held.contains(&one.slot))).collect(),
        snapshot_count: snapshots.len(),
        log: StretchShown::all(&logs),
    })
}

pub(super) fn services(inner: &Inner, _: &Asked) -> Answered {
    let report = inner.report()?;
    Answer::json(&ServicesShown { at: report.at.to_string(), services: report.services.clone() })
}

pub(super) fn copies(inner: &Inner, _: &Asked) -> Answered {
    let report: &Report = &*inner.report()?;
    let copies = report.places.iter().filter(|place| place.role == Role::Copy).cloned().collect();
    Answer::json(&CopiesShown { at: report.at.to_string(), copies })
}

pub(super) fn jobs(inner: &Inner, asked: &Asked) -> Answered {
    let outcome = asked.text("outcome").and_then(|word| match word {
        "running" => Some(WantedOutcome::Running),
        word => JobOutcome::of(word).map(WantedOutcome::Ended),
    });
    let wanted = JobsWanted {
        kind: asked.text("kind").and_then(TaskKind::of),
        subject: asked.text("subject").map(str::to_owned),
        outcome,
        before: asked.whole("before"),
    };
    let most = limit(asked);
    let jobs = inner.house.state.jobs_wanted(&wanted, most as u32).map_err(|error| inner.failed(&error))?;
    let next = jobs.last().filter(|_| jobs.len() >= most).map(|job| job.job);
    Answer::json(&JobsShown { jobs: jobs.into_iter().map(JobShown::of).collect(), next })
}

pub(super) fn job(inner: &Inner, asked: &Asked) -> Answered {
    let id = asked.whole("id").unwrap_or_default();
    let job = inner.house.state.job(id).map_err(|error| inner.failed(&error))?;
    Answer::json(&JobShown::of(
        job.ok_or_else(|| Fault::NoSuchThing { what: format!("job {id}, or it is kept no more") })?,
    ))
}

pub(super) fn events(inner: &Inner, asked: &Asked) -> Answered {
    let (since, state) = (asked.whole("since").unwrap_or(0), &inner.house.state);
    let end = state.end().map_err(|error| inner.failed(&error))?;
    let records = state.records(since, limit(asked) as u32).map_err(|error| inner.failed(&error))?;
    let next = records.last().map_or(since, |(sequence, _)| *sequence);
    let events = records.iter().filter_map(|(sequence, record)| EventShown::of(*sequence, record)).collect();
    Answer::json(&EventsShown { events, next, end: end.max(next) })
}

pub(super) fn openapi(_: &Inner, _: &Asked) -> Answered {
    Answer::json(&super::openapi())
}
