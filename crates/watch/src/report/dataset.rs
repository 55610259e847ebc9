//! How a dataset stands: every reason that its streams, snapshots, copies, jobs and proofs give.

use super::{CopyLag, DatasetReport, Exposure, Limits, age_of, exposure_of, push_once, unreachable};
use crate::exposure::{self, Domain, Loss, Unknown, View};
use crate::health;
use crate::observe::{Dataset, Held, Reach, Role, Schedule, Stream, Verdict};
use crate::reason::{Reason, State};
use crate::time::seconds;
use lifeboat_base::clock::Timestamp;
use std::time::Duration;

pub(super) fn report(dataset: &Dataset, jobs: &[Reason], limits: &Limits, view: View<'_>) -> DatasetReport {
    let mut reasons = Vec::new();
    let exposures = Domain::ALL.map(|domain| judge_domain(dataset, domain, limits, view, &mut reasons));
    let heartbeat_age_seconds = judge_stream(dataset.stream.as_ref(), limits, view.now, &mut reasons);
    judge_next_snapshot(dataset, view, &mut reasons);
    judge_places(dataset, view, &mut reasons);
    let copies = judge_copies(dataset, view, &mut reasons);
    let proof_age_seconds = judge_proof(dataset, view.now, &mut reasons);
    if dataset.store == health::Status::Down {
        reasons.push(Reason::StoreDown);
    }
    reasons.extend(jobs.iter().cloned());
    DatasetReport {
        name: dataset.name.clone(),
        state: State::of(&reasons),
        reasons,
        exposures: exposures.into(),
        restorable_to: repository(dataset, view).and_then(exposure::restorable_to),
        heartbeat_age_seconds,
        proof: dataset.proof.last.map(|(verdict, _)| verdict),
        proof_age_seconds,
        copies,
    }
}

/// What the repository holds of it.
fn repository<'a>(dataset: &'a Dataset, view: View<'_>) -> Option<&'a Held> {
    let is_repository = |held: &&Held| {
        view.by_name.get(held.place.as_str()).is_some_and(|place| place.role == Role::Repository)
    };
    dataset.held.iter().find(is_repository)
}

fn rpo_of(dataset: &Dataset, domain: Domain) -> Option<Duration> {
    match domain {
        Domain::Host => dataset.rpo.host,
        Domain::Repository => dataset.rpo.repository,
        Domain::Region => dataset.rpo.region,
    }
}

/// The smallest domain is judged in any case, as far as that goes without an objective; a larger one only where
/// something is promised for it.
fn judge_domain(
    dataset: &Dataset,
    domain: Domain,
    limits: &Limits,
    view: View<'_>,
    reasons: &mut Vec<Reason>,
) -> Exposure {
    let rpo = rpo_of(dataset, domain);
    let loss = exposure::loss(dataset, domain, rpo, view);
    if rpo.is_some() || domain == Domain::Host {
        match (loss, rpo) {
            (Loss::Known(lost), Some(rpo)) => reasons.extend(against(lost.time, rpo, domain, limits)),
            (Loss::Known(_), None) => {}
            (Loss::Everything, _) => {
                reasons.push(Reason::NothingSurvives { domain, rpo_seconds: rpo.map(seconds) });
            }
            (Loss::Unknown(Unknown::NotObserved), _) => reasons.push(Reason::NotObserved { domain }),
            (Loss::Unknown(Unknown::RegionUndeclared), _) => reasons.push(Reason::RegionUndeclared),
            (Loss::Unknown(Unknown::ClockAhead(ahead)), _) => {
                push_once(reasons, Reason::ClockAhead { ahead_seconds: seconds(ahead) });
            }
        }
    }
    exposure_of(domain, loss, rpo)
}

fn against(exposed: Duration, rpo: Duration, domain: Domain, limits: &Limits) -> Option<Reason> {
    let (exposure_seconds, rpo_seconds) = (seconds(exposed), seconds(rpo));
    if exposed > rpo {
        Some(Reason::ExposureAboveRpo { domain, exposure_seconds, rpo_seconds })
    } else if exposure_seconds > rpo_seconds * limits.near {
        Some(Reason::NearRpo { domain, exposure_seconds, rpo_seconds })
    } else {
        None
    }
}

/// A stream that is silent, or of which nothing was ever heard. Its heartbeat's age.
fn judge_stream(
    stream: Option<&Stream>,
    limits: &Limits,
    now: Timestamp,
    reasons: &mut Vec<Reason>,
) -> Option<f64> {
    let stream = stream?;
    if stream.heard.is_none() {
        reasons.push(Reason::NeverHeard);
    }
    let silent_seconds = age_of(stream.heard, now, reasons)?;
    if silent_seconds > seconds(limits.stall) {
        reasons.push(Reason::Stalled { silent_seconds });
    }
    Some(silent_seconds)
}

/// Where snapshots alone protect it: whether the next one is durable before more is exposed than may be.
fn judge_next_snapshot(dataset: &Dataset, view: View<'_>, reasons: &mut Vec<Reason>) {
    let schedule = dataset.schedule.as_ref().filter(|_| dataset.stream.is_none());
    let taken = repository(dataset, view).and_then(|held| held.snapshot);
    let (Some(schedule), Some(rpo), Some(taken)) = (schedule, dataset.rpo.host, taken) else { return };
    let Some(durable) = next_durable(schedule, view.now) else { return };
    let exposed = durable.since(taken);
    let is_breach = |reason: &Reason| matches!(reason, Reason::ExposureAboveRpo { domain: Domain::Host, .. });
    if exposed > rpo && !reasons.iter().any(is_breach) {
        let (exposure_seconds, rpo_seconds) = (seconds(exposed), seconds(rpo));
        reasons.push(Reason::NextSnapshotTooLate { exposure_seconds, rpo_seconds });
    }
}

/// When the next snapshot will be durable at the earliest.
fn next_durable(schedule: &Schedule, now: Timestamp) -> Option<Timestamp> {
    let takes = schedule.takes.unwrap_or_default();
    match (schedule.running, schedule.next) {
        (Some(begun), _) => Some(begun.plus(takes).max(now)),
        (None, Some(next)) => Some(next.max(now).plus(takes)),
        (None, None) => None,
    }
}

fn judge_places(dataset: &Dataset, view: View<'_>, reasons: &mut Vec<Reason>) {
    for held in &dataset.held {
        if held.log.is_some_and(|log| log.hole.is_some()) {
            reasons.push(Reason::Hole { place: held.place.clone() });
        }
    }
    // Said where they are; here as well where this dataset's recovery points are written to.
    let place = repository(dataset, view).and_then(|held| view.by_name.get(held.place.as_str()));
    if let Some((place, Reach::Unreachable(since))) = place.map(|place| (place, place.reach)) {
        reasons.push(unreachable(place, since, view.now));
    }
}

fn judge_copies(dataset: &Dataset, view: View<'_>, reasons: &mut Vec<Reason>) -> Vec<CopyLag> {
    let Some(repository) = repository(dataset, view) else { return Vec::new() };
    let copies = dataset.held.iter().filter(|held| held.place != repository.place);
    copies.map(|copy| judge_copy(copy, repository, reasons)).collect()
}

fn judge_copy(copy: &Held, repository: &Held, reasons: &mut Vec<Reason>) -> CopyLag {
    let lag = exposure::lag(copy, repository);
    if let Some(most) = copy.lag_max.filter(|most| lag.is_none_or(|lag| lag > *most)) {
        let (place, lag_seconds) = (copy.place.clone(), lag.map(seconds));
        reasons.push(Reason::CopyLags { place, lag_seconds, most_seconds: seconds(most) });
    }
    CopyLag {
        place: copy.place.clone(),
        lag_seconds: lag.map(seconds),
        lag_max_seconds: copy.lag_max.map(seconds),
    }
}

/// What proofs say of it. How long ago it was last proven.
fn judge_proof(dataset: &Dataset, now: Timestamp, reasons: &mut Vec<Reason>) -> Option<f64> {
    let proof = &dataset.proof;
    if let Some((verdict, at)) = proof.last {
        let age_seconds = age_of(Some(at), now, reasons).unwrap_or_default();
        match verdict {
            Verdict::Proven => {}
            Verdict::Failed => reasons.push(Reason::ProofFailed { age_seconds }),
            Verdict::Inconclusive => reasons.push(Reason::ProofInconclusive { age_seconds }),
        }
    }
    let proof_age_seconds = age_of(proof.proven, now, reasons);
    match (proof.age_max.map(seconds), proof_age_seconds) {
        (Some(most_seconds), Some(age_seconds)) if age_seconds > most_seconds => {
            reasons.push(Reason::ProofTooOld { age_seconds, most_seconds });
        }
        (Some(_), None) if proof.proven.is_none() => reasons.push(Reason::NeverProven),
        _ => {}
    }
    proof_age_seconds
}
