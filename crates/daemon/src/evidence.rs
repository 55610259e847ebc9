//! Receipts of what the service does: begun before a job, ended after it, like those of the command line.

use crate::house::House;
use crate::jobs::Done;
use crate::means::Trouble;
use crate::record::JobOutcome;
use crate::task::{TaskKey, TaskKind};
use lifeboat_base::Hint;
use lifeboat_evidence::{Action, DEFAULT_RETENTION_DAYS, Event, Outcome, Who};
use lifeboat_receipts::{Begun, Ended, Recorder};
use serde_json::{Value, json};

/// What a job leaves: nothing, where it is no act of its own.
fn action_of(kind: TaskKind) -> Option<Action> {
    match kind {
        TaskKind::Snapshot | TaskKind::Look => Some(Action::Backup),
        TaskKind::Proof => Some(Action::Proof),
        TaskKind::Copy => Some(Action::Copy),
        TaskKind::Prune => Some(Action::Prune),
        TaskKind::Check => Some(Action::Check),
        // Witnessing is a receipt by itself.
        TaskKind::Heads => None,
    }
}

/// A receipt that waits for its job's end.
pub(crate) struct Pending {
    recorder: Recorder,
    begun: Begun,
    action: Action,
}

fn recorder(house: &House) -> Option<Recorder> {
    let repository = house.open_repository()?;
    let (state, host) = (house.means.state_folder(), house.means.host());
    Some(Recorder::new(&state, &repository.location(), &host, Who::Serve, house.clock.clone()))
}

/// A job begins. Without the repository there is nothing to begin: the state keeps that the job failed.
pub(crate) fn begin(house: &House, key: &TaskKey) -> Option<Pending> {
    let action = action_of(key.kind)?;
    let recorder = recorder(house)?;
    let begun = recorder.begin(action.clone(), dataset_of(key));
    Some(Pending { recorder, begun, action })
}

/// A job ended.
pub(crate) fn end(house: &House, key: &TaskKey, pending: Option<Pending>, done: &Done) {
    let Some(Pending { recorder, begun, action }) = pending else { return };
    let events = if says_nothing(key, done) { Vec::new() } else { vec![event(house, key, action, done)] };
    let ended = recorder.end(begun, events, house.open_repository().as_ref());
    say(house, &ended);
}

/// The dataset that a task is about, where it is about one.
fn dataset_of(key: &TaskKey) -> Option<&str> {
    let is_of_copy = matches!(key.kind, TaskKind::Copy | TaskKind::Prune);
    Some(key.subject.as_str()).filter(|name| !is_of_copy && !name.is_empty())
}

/// A look at what has not changed, a copy that had nothing to copy, and a check that finds nothing new, leave no
/// receipt: there are thousands.
fn says_nothing(key: &TaskKey, done: &Done) -> bool {
    let is_well = done.outcome == JobOutcome::Done;
    match key.kind {
        TaskKind::Look => is_well && done.detail["changed"] == json!(false),
        TaskKind::Copy => is_well && done.detail["copied"] == json!(0) && done.detail["logs"] == json!(0),
        TaskKind::Check => done.detail["new"] != json!(true),
        _ => false,
    }
}

fn event(house: &House, key: &TaskKey, action: Action, done: &Done) -> Event {
    let outcome = match done.outcome {
        JobOutcome::Done => Outcome::Done,
        JobOutcome::LeftOut => Outcome::LeftOut,
        JobOutcome::Inconclusive => Outcome::Inconclusive,
        JobOutcome::Failed => Outcome::Failed,
        JobOutcome::Interrupted => Outcome::Interrupted,
    };
    let mut event = Event::new(action, outcome);
    match dataset_of(key) {
        Some(dataset) => event = event.dataset(dataset),
        None if !key.subject.is_empty() => event = event.fact("copy", key.subject.as_str()),
        None => {}
    }
    if let Some(repository) = house.open_repository() {
        event = event.fact("repository", repository.id().to_string());
    }
    done.detail.as_object().into_iter().flatten().fold(event, |event, (name, value)| said(event, name, value))
}

/// What a job says of itself, as facts.
fn said(event: Event, name: &str, value: &Value) -> Event {
    match (name, value) {
        ("snapshot", Value::String(id)) => event.snapshot(id),
        ("error", Value::String(why)) => event.because(why),
        ("reasons" | "problems", Value::Array(reasons)) => {
            reasons.iter().filter_map(Value::as_str).fold(event, |event, reason| event.because(reason))
        }
        (name, Value::Number(number)) if name.ends_with("_seconds") => {
            let time =
                number.as_f64().and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
            match (time, name.strip_suffix("_seconds")) {
                (Some(time), Some(part)) => event.took(part, time),
                _ => event,
            }
        }
        (name, Value::Number(number)) => {
            number.as_u64().map_or(event.clone(), |count| event.fact(name, count))
        }
        (name, Value::String(text)) => event.fact(name, text.as_str()),
        (name, Value::Bool(truth)) => event.fact(name, *truth),
        _ => event,
    }
}

fn say(house: &House, ended: &Ended) {
    if let Some(trouble) = &ended.trouble {
        let error = lifeboat_base::report(trouble);
        let detail =
            json!({ "error": error, "hint": trouble.hint(), "waiting": ended.waiting, "lost": ended.lost });
        house.say("evidence", "not-written", detail);
    }
}

/// The leader's hourly work: the tips of everybody's receipts are witnessed, what waits is written, and what is older
/// than the plan keeps expires.
pub(crate) fn sign_heads(house: &House) -> Result<Done, Trouble> {
    let repository = house.repository()?;
    let Some(recorder) = recorder(house) else {
        return Err(Trouble::new("the repository is not open", "Nothing is to be done: it is tried again."));
    };
    say(house, &recorder.drain(&repository));
    let witnessed = recorder.witness(&repository).map_err(|error| Trouble::of(&error))?;
    if let Some(ended) = &witnessed {
        say(house, ended);
    }
    let expired = recorder.expire(&repository, retention_days(house)).map_err(|error| Trouble::of(&error))?;
    let detail = json!({ "witnessed": witnessed.is_some(), "expired": expired });
    Ok(Done { outcome: JobOutcome::Done, detail })
}

fn retention_days(house: &House) -> u32 {
    let planned = house.plan.serve.as_ref().and_then(|serve| serve.evidence);
    planned.map_or(DEFAULT_RETENTION_DAYS, |span| {
        u32::try_from(span.duration().as_secs() / (24 * 60 * 60)).unwrap_or(u32::MAX)
    })
}
