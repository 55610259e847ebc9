//! What a job does: one function a kind of task. A job is told what it needs, records nothing itself, and its
//! end is a value: how it went, and what came of it.

use crate::house::House;
use crate::means::Trouble;
use crate::record::{JobOutcome, What};
use crate::task::{TaskKey, TaskKind};
use lifeboat_base::Hint;
use lifeboat_base::clock::{Stopwatch, Timestamp};
use lifeboat_plan::DatasetPlan;
use lifeboat_recovery::latest::{LatestProof, prove_latest};
use lifeboat_recovery::likeness::likeness;
use lifeboat_recovery::protect::{ProtectOptions, ProtectReport, protect};
use lifeboat_recovery::prove::Verdict;
use lifeboat_recovery::queries::ProofQuery;
use lifeboat_recovery::samples::{Occasion, Sample, Samples};
use lifeboat_recovery::{RecoveryError, Target};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{ChainFix, Published, Repository, RepositoryError};
use lifeboat_store::exclude::{Exclude, Patterns};
use lifeboat_store::progress::Progress;
use serde_json::{Value, json};
use std::sync::Arc;

/// What a job says that it waits for.
pub(crate) const WAITS_FOR: &str = "waits_for";
/// A proof that has nothing to prove yet.
pub(crate) const A_SNAPSHOT: &str = "snapshot";

/// How a job ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// How.
    pub outcome: JobOutcome,
    /// What came of it, or why it failed.
    pub detail: Value,
}

impl Done {
    fn well(detail: Value) -> Self {
        Self { outcome: JobOutcome::Done, detail }
    }

    /// It failed.
    pub(crate) fn of_trouble(trouble: &Trouble) -> Self {
        Self {
            outcome: JobOutcome::Failed,
            detail: json!({ "error": trouble.message, "hint": trouble.hint }),
        }
    }
}

type Attempt = Result<Done, Trouble>;

/// Does what a task asks for, once.
pub(crate) fn run(house: &House, key: &TaskKey, fix: Option<&ChainFix>) -> Done {
    let watch = Stopwatch::start();
    let attempt = match key.kind {
        TaskKind::Snapshot => snapshot(house, &key.subject, fix),
        TaskKind::Look => look(house, &key.subject, fix),
        TaskKind::Proof => proof(house, &key.subject),
        TaskKind::Copy => crate::copies::bring_up_to_date(house, &key.subject),
        TaskKind::Prune => crate::keep::prune(house, &key.subject),
        TaskKind::Check => crate::check::check(house),
        TaskKind::Heads => crate::evidence::sign_heads(house),
    };
    let mut done = attempt.unwrap_or_else(|trouble| Done::of_trouble(&trouble));
    if let Some(detail) = done.detail.as_object_mut() {
        detail.insert("took_seconds".to_owned(), json!(watch.elapsed().as_secs_f64()));
    }
    done
}

/// A dataset of the plan.
pub(crate) fn planned<'h>(
    house: &'h House,
    dataset: &str,
) -> Result<(DatasetName, &'h DatasetPlan), Trouble> {
    let plan = house.plan.datasets.get(dataset).ok_or_else(|| {
        Trouble::new(
            format!("{dataset} is no dataset of the plan"),
            "Start `lifeboat serve` again with the plan.",
        )
    })?;
    let name = DatasetName::new(dataset)
        .map_err(|error| Trouble::new(error.to_string(), "Rename it in the plan."))?;
    Ok((name, plan))
}

fn target(house: &House, plan: &DatasetPlan) -> Result<Target, Trouble> {
    Target::named(&house.means.store(&plan.store)?).map_err(|error| Trouble::of(&error))
}

fn snapshot(house: &House, dataset: &str, fix: Option<&ChainFix>) -> Attempt {
    let (name, plan) = planned(house, dataset)?;
    let target = target(house, plan)?;
    take(house, &name, plan, &target, fix)
}

fn take(
    house: &House,
    name: &DatasetName,
    plan: &DatasetPlan,
    target: &Target,
    fix: Option<&ChainFix>,
) -> Attempt {
    let patterns =
        Patterns::parse(&plan.exclude).map_err(|error| Trouble::of(&RecoveryError::from(error)))?;
    let options = ProtectOptions {
        exclude: Exclude { patterns, ..Exclude::default() },
        never: house.means.own_folders(),
        leadership: fix.cloned(),
        ..ProtectOptions::default()
    };
    let report = protect(&house.repository()?, name, target, &options, &Progress::default());
    let report = report.map_err(|error| Trouble::of(&error))?;
    house.live.snapshot_taken(name.as_str(), &report.published);
    Ok(taken(&report))
}

/// A snapshot that was taken.
pub(crate) fn taken(report: &ProtectReport) -> Done {
    let (stats, left_out) = (&report.published.snapshot.stats, report.left_out.count + report.torn.count);
    let detail = json!({
        "snapshot": report.published.id.to_string(),
        "taken": report.published.snapshot.taken.to_string(),
        "files": stats.files,
        "bytes": stats.content_bytes,
        "stored_bytes": stats.stored_bytes,
        "left_out": left_out,
        "notes": report.notes,
    });
    let outcome = if left_out == 0 { JobOutcome::Done } else { JobOutcome::LeftOut };
    Done { outcome, detail }
}

/// A snapshot, where the dataset does not look as it did when the last one was taken. What it looked like is
/// asked before it is read: a change in between is taken once more, never missed.
fn look(house: &House, dataset: &str, fix: Option<&ChainFix>) -> Attempt {
    let (name, plan) = planned(house, dataset)?;
    let target = target(house, plan)?;
    let Some(now) = likeness(&target).map_err(|error| Trouble::of(&error))? else {
        return Err(Trouble::new(
            format!("{dataset} is a server, and whether it has changed cannot be seen from outside"),
            "Protect it continuously, or every so long.",
        ));
    };
    let before = house.state.likeness(dataset).map_err(|error| Trouble::of(&error))?;
    if before.as_deref() == Some(now.as_str()) {
        house.live.looked_at(dataset, house.clock.now());
        return Ok(Done::well(json!({ "changed": false })));
    }
    let looked = house.clock.now();
    let mut done = take(house, &name, plan, &target, fix)?;
    if done.outcome == JobOutcome::Done {
        let what = What::Looked { dataset: dataset.to_owned(), likeness: now };
        house.state.keep(house.clock.now(), what).map_err(|error| Trouble::of(&error))?;
        house.live.looked_at(dataset, looked);
    }
    done.detail["changed"] = json!(true);
    Ok(done)
}

fn proof(house: &House, dataset: &str) -> Attempt {
    let (name, plan) = planned(house, dataset)?;
    let queries: Vec<ProofQuery> =
        plan.prove.iter().flat_map(|prove| prove.queries.iter().map(ProofQuery::from)).collect();
    let repository = house.repository()?;
    if let Some(too_big) = exceeds_scratch(house, &repository, &name)? {
        return Ok(too_big);
    }
    let proven = prove_latest(&repository, &name, &house.scratch_folder(), queries, &Progress::default());
    let proven = match proven {
        Ok(proven) => proven,
        // Nothing was proven and nothing was disproven.
        Err(RecoveryError::Repository(RepositoryError::NoSuchSnapshot(what))) => {
            let reason = format!("there is no snapshot yet: {what}");
            let detail = json!({ "reasons": [reason], WAITS_FOR: A_SNAPSHOT });
            return Ok(Done { outcome: JobOutcome::Inconclusive, detail });
        }
        Err(error) => return Err(Trouble::of(&error)),
    };
    keep_sample(house, &repository, &name, &proven);
    Ok(judged(house, dataset, &proven))
}

/// A proof that would not fit is not begun.
fn exceeds_scratch(
    house: &House,
    repository: &Arc<Repository>,
    name: &DatasetName,
) -> Result<Option<Done>, Trouble> {
    let limit =
        house.plan.serve.as_ref().and_then(|serve| serve.scratch.as_ref()).and_then(|scratch| scratch.limit);
    let Some(limit) = limit else { return Ok(None) };
    let newest = match repository.find_snapshot(Some(name), "latest") {
        Ok(newest) => newest,
        Err(RepositoryError::NoSuchSnapshot(_)) => return Ok(None),
        Err(error) => return Err(Trouble::of(&error)),
    };
    let needed = newest.snapshot.stats.content_bytes;
    Ok((needed > limit.0).then(|| Done {
        outcome: JobOutcome::Inconclusive,
        detail: json!({ "reasons": [format!("it would take {needed} bytes of scratch, and {} are allowed", limit.0)] }),
    }))
}

fn judged(house: &House, dataset: &str, proven: &LatestProof) -> Done {
    let (proof, published) = (&proven.proof, &proven.published);
    let outcome = match proof.verdict {
        Verdict::Proven => JobOutcome::Done,
        Verdict::Failed => JobOutcome::Failed,
        Verdict::Inconclusive => JobOutcome::Inconclusive,
    };
    house.live.proven(dataset, proof.verdict, house.clock.now(), proof.reasons.clone());
    let detail = json!({
        "verdict": proof.verdict.word(),
        "reasons": proof.reasons,
        "snapshot": published.id.to_string(),
        "taken": published.snapshot.taken.to_string(),
        "files": proof.files,
        "bytes": proof.bytes,
        "resolve_seconds": proof.resolving.as_secs_f64(),
        "restore_seconds": proof.restoring.as_secs_f64(),
        "question_seconds": proof.questioning.as_secs_f64(),
    });
    Done { outcome, detail }
}

/// Forecasts are made from it; without it a forecast only knows less.
fn keep_sample(house: &House, repository: &Repository, name: &DatasetName, proven: &LatestProof) {
    let Some(measured) = proven.proof.measured() else { return };
    let snapshot = &proven.published.snapshot;
    let sample = Sample {
        at: house.clock.now(),
        occasion: Occasion::Proof,
        host: house.means.host(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store: snapshot.store.clone(),
        snapshot: proven.published.id.to_string(),
        measured,
    };
    let samples = Samples::new(&house.means.state_folder(), &repository.id());
    if let Err(error) = samples.keep(name, &sample) {
        house.say(
            "samples",
            "not-kept",
            json!({ "error": lifeboat_base::report(&error), "hint": error.hint() }),
        );
    }
}

/// Whether a job whose controller ended before it was recorded as ended had been done: a snapshot that this
/// writer published after the job began is that job's.
pub(crate) fn was_done(house: &House, key: &TaskKey, begun: Timestamp) -> Result<Option<Published>, Trouble> {
    if !matches!(key.kind, TaskKind::Snapshot | TaskKind::Look) {
        return Ok(None);
    }
    // The plan may not name it any more.
    let Ok(name) = DatasetName::new(&key.subject) else { return Ok(None) };
    let repository = house.repository()?;
    let trouble = |error: RepositoryError| Trouble::of(&error);
    let writer = repository.writer().map_err(trouble)?.id();
    let snapshots = repository.snapshots(Some(&name), &mut Vec::new()).map_err(trouble)?;
    let ours = |published: &Published| published.slot.writer == writer && published.snapshot.taken >= begun;
    Ok(snapshots.into_iter().rev().find(ours))
}
