//! `lifeboat follow`: continuous protection, in the foreground.

use crate::args::FollowArgs;
use crate::commands::backup::store_of;
use crate::context::{Context, dataset_name};
use crate::failure::{Failure, Outcome};
use crate::guard::refuse_url;
use crate::output::{Output, duration, write_stdout};
use lifeboat_base::Hint;
use lifeboat_base::clock::Clock;
use lifeboat_recovery::postgres::{FollowNews, FollowPlan, follow};
use lifeboat_recovery::{Target, is_postgres};
use lifeboat_repository::Repository;
use lifeboat_repository::ids::DatasetName;
use lifeboat_store_postgres::{FollowEvent, FollowStatus};
use lifeboat_wire_postgres::ConnectOptions;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) fn run(context: &Context, args: &FollowArgs) -> Result<Outcome, Failure> {
    let jobs = jobs(context, args)?;
    let repository = context.open()?;
    let stop = stop_on_signals()?;
    let (output, gone) = (context.output, AtomicBool::new(false));
    std::thread::scope(|scope| {
        for (dataset, server) in jobs {
            let (repository, stop, gone) = (&repository, &stop, &gone);
            scope.spawn(move || {
                if let Err(failure) = one(output, repository, &dataset, server, args, stop) {
                    output.one_failure(dataset.as_str(), &failure);
                    say_line(
                        output,
                        &dataset,
                        "failed",
                        json!({ "error": failure.message, "hint": failure.hint }),
                    );
                    // The others go on: what is kept of them is worth it.
                    gone.store(true, Ordering::Relaxed);
                }
            });
        }
    });
    Ok(if gone.into_inner() { Outcome::Failed } else { Outcome::Done })
}

/// Ends gracefully on SIGINT and SIGTERM; a second one ends at once.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let at_once = signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone());
        let gracefully = signal_hook::flag::register(signal, stop.clone());
        at_once.and(gracefully).map_err(|error| Failure::failed(format!("watch for signals: {error}")))?;
    }
    Ok(stop)
}

fn one(
    output: Output,
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    server: ConnectOptions,
    args: &FollowArgs,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let plan = FollowPlan {
        repository: repository.clone(),
        dataset: dataset.clone(),
        server,
        gather: args.gather,
        say_every: args.say_every,
        snapshots: !args.no_snapshot,
    };
    Ok(follow(&plan, stop, &mut |news| say(output, dataset, &news))?)
}

/// The datasets that are followed, and their servers.
fn jobs(context: &Context, args: &FollowArgs) -> Result<Vec<(DatasetName, ConnectOptions)>, Failure> {
    if let Some(name) = &args.name {
        let [target] = args.targets.as_slice() else {
            return Err(Failure::usage(
                "--name goes with one server",
                "lifeboat follow postgres://backup@db-1/app --name app",
            ));
        };
        refuse_url(target.as_ref())?;
        return Ok(vec![(dataset_name(name)?, server(target, target.into())?)]);
    }
    if args.targets.is_empty() {
        return planned_clusters(context);
    }
    args.targets
        .iter()
        .map(|target| {
            refuse_url(target.as_ref())?;
            if is_postgres(target) {
                let found = Target::named(target.as_ref())?;
                return Ok((dataset_name(&found.default_name())?, server(target, target.into())?));
            }
            let planned = context.plan.datasets.get(target).ok_or_else(|| {
                Failure::usage(
                    format!("{target} is neither a dataset of the plan nor the URL of a PostgreSQL server"),
                    "Check the name, or write postgres://user@host/database.",
                )
            })?;
            Ok((dataset_name(target)?, server(target, store_of(&planned.store)?)?))
        })
        .collect()
}

/// Every dataset of the plan that has a log to follow.
fn planned_clusters(context: &Context) -> Result<Vec<(DatasetName, ConnectOptions)>, Failure> {
    let mut found = Vec::new();
    for (name, dataset) in &context.plan.datasets {
        let store = store_of(&dataset.store)?;
        if store.to_str().is_some_and(is_postgres) {
            found.push((dataset_name(name)?, server(name, store)?));
        }
    }
    if found.is_empty() {
        return Err(Failure::usage(
            "nothing to follow is named, and the plan has no PostgreSQL dataset",
            "lifeboat follow postgres://backup@db-1/app, or declare a dataset in lifeboat.toml.",
        ));
    }
    Ok(found)
}

fn server(name: &str, store: OsString) -> Result<ConnectOptions, Failure> {
    match Target::named(&store)? {
        Target::Postgres(options) => Ok(*options),
        Target::Files(_) | Target::Sqlite(_) => Err(Failure::usage(
            format!("{name} is no PostgreSQL server: this release follows no other store"),
            "Protect it with `lifeboat backup`.",
        )),
    }
}

fn say(output: Output, dataset: &DatasetName, news: &FollowNews) {
    let (event, text, fields) = match news {
        FollowNews::Event(event) => described(event),
        FollowNews::Status(status) => ("status", Some(status_text(status)), status_json(status)),
        FollowNews::Stalled(status) => {
            output.warn(&format!("{dataset}: stalled: {}", status_text(status)));
            ("stalled", None, status_json(status))
        }
        FollowNews::Moving(status) => {
            ("moving", Some(format!("moving again: {}", status_text(status))), status_json(status))
        }
        FollowNews::SnapshotBegun => {
            ("snapshot-begun", Some("no kept snapshot leads here: taking one".to_owned()), json!({}))
        }
        FollowNews::SnapshotTaken(report) => {
            let id = report.published.id;
            (
                "snapshot-taken",
                Some(format!("snapshot {} taken in {}", id.short(), duration(report.took))),
                json!({ "snapshot": id.to_string(), "seconds": report.took.as_secs_f64(), "notes": report.notes }),
            )
        }
        FollowNews::SnapshotFailed(error) => {
            let said = lifeboat_base::report(&**error);
            output.warn(&format!("{dataset}: the snapshot failed: {said}"));
            if let Some(hint) = error.hint() {
                output.hint(&hint);
            }
            ("snapshot-failed", None, json!({ "error": said, "hint": error.hint() }))
        }
    };
    if let Some(text) = text.filter(|_| !output.json) {
        output.note(&format!("{dataset}: {text}"));
    }
    say_line(output, dataset, event, fields);
}

/// One line of JSON an event, where that was asked for.
fn say_line(output: Output, dataset: &DatasetName, event: &str, mut fields: Value) {
    if !output.json {
        return;
    }
    fields["event"] = event.into();
    fields["dataset"] = dataset.as_str().into();
    fields["at"] = Clock::System.now().to_string().into();
    // Nobody reads any more: following goes on all the same.
    let _ = write_stdout(format!("{fields}\n").as_bytes());
}

fn described(event: &FollowEvent) -> (&'static str, Option<String>, Value) {
    match event {
        FollowEvent::Streaming { system, timeline, from } => (
            "streaming",
            Some(format!("following system {system} on timeline {timeline} from {from}")),
            json!({ "system": system.to_string(), "timeline": timeline.0, "from": from.to_string() }),
        ),
        FollowEvent::OtherCluster { kept, system } => (
            "other-cluster",
            Some(format!(
                "another cluster was kept under this name before: a new lineage begins with system {system}"
            )),
            json!({ "kept": kept.iter().map(ToString::to_string).collect::<Vec<_>>(), "system": system.to_string() }),
        ),
        FollowEvent::Hole { timeline, from, to } => (
            "hole",
            Some(format!(
                "the server has no WAL of timeline {timeline} from {from} to {to} any more: nothing between can be restored to"
            )),
            json!({ "timeline": timeline.0, "from": from.to_string(), "to": to.to_string() }),
        ),
        FollowEvent::Switched { from, to, at } => (
            "switched",
            Some(format!("timeline {from} ended at {at}: following timeline {to}")),
            json!({ "from": from.0, "to": to.0, "at": at.to_string() }),
        ),
        FollowEvent::Warning { text } => {
            ("warning", Some(format!("warning: {text}")), json!({ "text": text }))
        }
        FollowEvent::NotPublished { position, error, hint } => (
            "not-published",
            Some(format!("warning: the repository took nothing from {position} on, trying again: {error}")),
            json!({ "position": position.to_string(), "error": error, "hint": hint }),
        ),
        FollowEvent::Disconnected { error, hint, again_in } => (
            "disconnected",
            Some(format!("warning: {error}; connecting again in {}", duration(*again_in))),
            json!({ "error": error, "hint": hint, "again_seconds": again_in.as_secs_f64() }),
        ),
    }
}

fn status_text(status: &FollowStatus) -> String {
    let behind = status.server_end.since(status.durable);
    let waiting = status.oldest_wait.map(|wait| format!(", the oldest byte waits {}", duration(wait)));
    let connected = if status.connected { "" } else { ", not connected" };
    format!(
        "durable in the repository to {} on timeline {}, {behind} bytes behind the server{}{connected}",
        status.durable,
        status.timeline,
        waiting.unwrap_or_default()
    )
}

fn status_json(status: &FollowStatus) -> Value {
    json!({
        "timeline": status.timeline.0,
        "durable": status.durable.to_string(),
        "received": status.received.to_string(),
        "server_end": status.server_end.to_string(),
        "behind_bytes": status.server_end.since(status.durable),
        "oldest_wait_seconds": status.oldest_wait.map(|wait| wait.as_secs_f64()),
        "silent_seconds": status.silent_for.as_secs_f64(),
        "connected": status.connected,
        "ack": "repository",
    })
}
