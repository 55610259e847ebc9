//! `lifeboat follow`: continuous protection, in the foreground.

use crate::args::FollowArgs;
use crate::commands::backup::store_of;
use crate::commands::spool;
use crate::context::{Context, dataset_name, host_name};
use crate::failure::{Failure, Outcome};
use crate::guard::refuse_url;
use crate::output::{Output, bytes, duration, write_stdout};
use crate::recording;
use lifeboat_base::clock::{Clock, Timestamp};
use lifeboat_base::{Hint, Secret};
use lifeboat_evidence::{Action, Event};
use lifeboat_recovery::postgres::{FollowNews, FollowPlan, Synchronous, follow};
use lifeboat_recovery::{Target, is_postgres};
use lifeboat_repository::Repository;
use lifeboat_repository::ids::DatasetName;
use lifeboat_store_postgres::synchronous::WatchdogEvent;
use lifeboat_store_postgres::{FollowEvent, FollowStatus, SpoolStatus, Spooling};
use lifeboat_wire_postgres::ConnectOptions;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::ffi::OsString;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) fn run(context: &Context, args: &FollowArgs) -> Result<Outcome, Failure> {
    let jobs = jobs(context, args)?;
    let repository = context.open()?;
    let stop = stop_on_signals()?;
    let (output, ended) = (context.output, Mutex::new(Outcome::Done));
    std::thread::scope(|scope| {
        for (dataset, server, text) in jobs {
            let (repository, stop, ended) = (&repository, &stop, &ended);
            scope.spawn(move || {
                let followed = plan(context, repository, &dataset, server, &text, args)
                    .and_then(|plan| one(context, &plan, stop));
                if let Err(failure) = followed {
                    output.one_failure(dataset.as_str(), &failure);
                    say_line(
                        output,
                        &dataset,
                        "failed",
                        json!({ "error": failure.message, "hint": failure.hint }),
                    );
                    // The others go on: what is kept of them is worth it.
                    let outcome = if failure.code == 2 { Outcome::Refused } else { Outcome::Failed };
                    let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                    *ended = ended.worse(outcome);
                }
            });
        }
    });
    Ok(ended.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Ends gracefully on SIGINT and SIGTERM; a second one ends at once.
pub(crate) fn stop_on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let at_once = signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone());
        let gracefully = signal_hook::flag::register(signal, stop.clone());
        at_once.and(gracefully).map_err(|error| Failure::failed(format!("watch for signals: {error}")))?;
    }
    Ok(stop)
}

fn one(context: &Context, plan: &FollowPlan, stop: &AtomicBool) -> Result<(), Failure> {
    let output = context.output;
    let folder = plan.spool.as_ref().and_then(|spooling| spooling.spool.directory().parent());
    let drain = folder.map(|folder| {
        format!(
            "`lifeboat wal drain {} --spool {}` publishes it without the server.",
            plan.dataset,
            folder.display()
        )
    });
    let mut snapshot = None;
    // A receipt takes as long as the repository does: what else there is to say does not wait for it.
    std::thread::scope(|scope| {
        Ok(follow(plan, stop, &mut |news| {
            say(output, &plan.dataset, &news);
            match (&news, &drain) {
                (FollowNews::Event(FollowEvent::Spooled { ends: true, .. }), Some(drain)) => {
                    output.hint(drain);
                }
                (FollowNews::Event(FollowEvent::Disconnected { .. }), Some(drain)) => {
                    say_of_spool(output, plan, drain);
                }
                (FollowNews::SnapshotBegun, _) => {
                    snapshot = recording::begin(context, Action::Backup, plan.dataset.as_str());
                }
                _ => {}
            }
            let ended = taken_or_not(&plan.dataset, &news).and_then(|event| Some((event, snapshot.take()?)));
            if let Some((event, begun)) = ended {
                scope.spawn(move || recording::end(context, begun, event, &plan.repository));
            }
        })?)
    })
}

/// How a snapshot ended, for its receipt.
fn taken_or_not(dataset: &DatasetName, news: &FollowNews) -> Option<Event> {
    match news {
        FollowNews::SnapshotTaken(report) => Some(recording::protected(Action::Backup, report)),
        FollowNews::SnapshotFailed(error) => {
            let failed = Event::new(Action::Backup, lifeboat_evidence::Outcome::Failed);
            Some(failed.dataset(dataset.as_str()).because(&lifeboat_base::report(&**error)))
        }
        _ => None,
    }
}

/// Without a server there is still something to do.
fn say_of_spool(output: Output, plan: &FollowPlan, drain: &str) {
    let waiting = plan.spool.as_ref().map_or(0, |spooling| spooling.spool.status().waiting_bytes);
    if waiting > 0 {
        let (dataset, waiting) = (&plan.dataset, bytes(waiting));
        output.note(&format!("{dataset}: {waiting} wait in the spool and go on being published meanwhile"));
        output.hint(&format!("Once this follower has ended, {drain}"));
    }
}

fn plan(
    context: &Context,
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    server: ConnectOptions,
    text: &str,
    args: &FollowArgs,
) -> Result<FollowPlan, Failure> {
    let spool: Option<Spooling> = spool::of_follower(context, repository, dataset, args.ack, &args.spool)?;
    Ok(FollowPlan {
        repository: repository.clone(),
        dataset: dataset.clone(),
        server,
        gather: args.gather,
        say_every: args.say_every,
        snapshots: !args.no_snapshot,
        spool,
        synchronous: synchronous(context, dataset, text, args)?,
        // A person who starts a second follower is told that there is a first one.
        take_over: None,
        leadership: None,
    })
}

/// How commits wait, where they are to.
fn synchronous(
    context: &Context,
    dataset: &DatasetName,
    server: &str,
    args: &FollowArgs,
) -> Result<Option<Synchronous>, Failure> {
    if !args.synchronous {
        return Ok(None);
    }
    let program =
        std::env::current_exe().map_err(|error| Failure::failed(format!("find this program: {error}")))?;
    let watchdog = move || {
        let mut command = Command::new(&program);
        command.arg("follow-watchdog");
        command
    };
    Ok(Some(Synchronous {
        max_wait: args.max_wait,
        server: Secret::new(server.as_bytes().to_vec()),
        directory: context.watchdog_dir(dataset)?,
        watchdog: Arc::new(watchdog),
    }))
}

/// A dataset, its server, and the server as text, in which there may be a password.
type Job = (DatasetName, ConnectOptions, String);

/// The datasets that are followed, and their servers.
fn jobs(context: &Context, args: &FollowArgs) -> Result<Vec<Job>, Failure> {
    if let Some(name) = &args.name {
        let [target] = args.targets.as_slice() else {
            return Err(Failure::usage(
                "--name goes with one server",
                "lifeboat follow postgres://backup@db-1/app --name app",
            ));
        };
        refuse_url(target.as_ref())?;
        return Ok(vec![job(dataset_name(name)?, target, target.into())?]);
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
                return job(dataset_name(&found.default_name())?, target, target.into());
            }
            let planned = context.plan.datasets.get(target).ok_or_else(|| {
                Failure::usage(
                    format!("{target} is neither a dataset of the plan nor the URL of a PostgreSQL server"),
                    "Check the name, or write postgres://user@host/database.",
                )
            })?;
            job(dataset_name(target)?, target, store_of(&planned.store)?)
        })
        .collect()
}

/// Every dataset of the plan that has a log to follow.
fn planned_clusters(context: &Context) -> Result<Vec<Job>, Failure> {
    let mut found = Vec::new();
    for (name, dataset) in &context.plan.datasets {
        let store = store_of(&dataset.store)?;
        if store.to_str().is_some_and(is_postgres) {
            found.push(job(dataset_name(name)?, name, store)?);
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

fn job(dataset: DatasetName, named: &str, store: OsString) -> Result<Job, Failure> {
    match Target::named(&store)? {
        Target::Postgres(options) => Ok((dataset, *options, store.to_string_lossy().into_owned())),
        Target::Files(_) | Target::Sqlite(_) => Err(Failure::usage(
            format!("{named} is no PostgreSQL server: this release follows no other store"),
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
        FollowNews::Watchdog(event) => watched(event),
        FollowNews::SynchronousNote(text) => {
            ("synchronous-note", Some(text.clone()), json!({ "text": text }))
        }
        FollowNews::SynchronousEnded(true) => (
            "synchronous-ended",
            Some("commits do not wait for us any more".to_owned()),
            json!({ "clean": true }),
        ),
        FollowNews::SynchronousEnded(false) => {
            output.warn(&format!(
                "{dataset}: commits may still wait for us; the watchdog goes on taking our name out"
            ));
            ("synchronous-ended", None, json!({ "clean": false }))
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
        FollowEvent::NotSpooled { position, error, hint } => (
            "not-spooled",
            Some(format!("warning: the spool took nothing from {position} on, trying again: {error}")),
            json!({ "position": position.to_string(), "error": error, "hint": hint }),
        ),
        FollowEvent::Spooled { waiting_bytes, torn_bytes, ends } => (
            if *ends { "spool-left" } else { "spool-opened" },
            Some(spooled_text(*waiting_bytes, *torn_bytes, *ends)),
            json!({ "waiting_bytes": waiting_bytes, "torn_bytes": torn_bytes }),
        ),
        FollowEvent::Disconnected { error, hint, again_in } => (
            "disconnected",
            Some(format!("warning: {error}; connecting again in {}", duration(*again_in))),
            json!({ "error": error, "hint": hint, "again_seconds": again_in.as_secs_f64() }),
        ),
    }
}

/// What the watchdog says.
fn watched(event: &WatchdogEvent) -> (&'static str, Option<String>, Value) {
    let since = |nanos: i64| Timestamp::from_nanos(nanos).to_string();
    match event {
        WatchdogEvent::Covered { since_nanos } => (
            "covered",
            Some(format!("commits wait for us since {}", since(*since_nanos))),
            json!({ "since": since(*since_nanos) }),
        ),
        WatchdogEvent::Exposed { since_nanos, reason } => (
            "exposed",
            Some(format!("warning: commits do not wait for us since {}: {reason}", since(*since_nanos))),
            json!({ "since": since(*since_nanos), "reason": reason.to_string() }),
        ),
        WatchdogEvent::Problem { error, hint } => {
            ("watchdog-problem", Some(format!("warning: {error}")), json!({ "error": error, "hint": hint }))
        }
        WatchdogEvent::Restarted => (
            "watchdog-restarted",
            Some("warning: the watchdog ended and was started again".to_owned()),
            json!({}),
        ),
        WatchdogEvent::Unguarded => (
            "unguarded",
            Some("warning: no watchdog can be had any more: synchronous mode has ended".to_owned()),
            json!({}),
        ),
    }
}

fn spooled_text(waiting_bytes: u64, torn_bytes: u64, ends: bool) -> String {
    let (waiting, torn) = (bytes(waiting_bytes), bytes(torn_bytes));
    match (ends, torn_bytes) {
        (true, _) => {
            format!("warning: {waiting} of log are in the spool of this host and not in the repository")
        }
        (false, 0) => format!("{waiting} of log were left in the spool: they are published now"),
        _ => format!(
            "{waiting} of log were left in the spool: they are published now; {torn} behind them were cut off by a crash and never acknowledged"
        ),
    }
}

fn status_text(status: &FollowStatus) -> String {
    let behind = status.server_end.since(status.durable);
    let waiting = status.oldest_wait.map(|wait| format!(", the oldest byte waits {}", duration(wait)));
    let connected = if status.connected { "" } else { ", not connected" };
    let place = status.spool.map_or("the repository".to_owned(), |_| format!("the spool on {}", host_name()));
    format!(
        "durable in {place} to {} on timeline {}, {behind} bytes behind the server{}{connected}{}",
        status.durable,
        status.timeline,
        waiting.unwrap_or_default(),
        status.spool.map(|spool| unpublished_text(&spool)).unwrap_or_default()
    )
}

/// How far the repository is behind a spool: restores see only what is there.
fn unpublished_text(spool: &SpoolStatus) -> String {
    let published = match spool.published {
        Some((timeline, end)) => format!("to {end} on timeline {timeline}"),
        None => "not yet".to_owned(),
    };
    let waits = spool.oldest_wait.map(|wait| format!(" for {}", duration(wait)));
    format!(
        "; in the repository {published}, {} wait in the spool{}",
        bytes(spool.waiting_bytes),
        waits.unwrap_or_default()
    )
}

fn status_json(status: &FollowStatus) -> Value {
    let in_repository = match &status.spool {
        None => Some((status.timeline, status.durable)),
        Some(spool) => spool.published,
    };
    json!({
        "timeline": status.timeline.0,
        "durable": status.durable.to_string(),
        "received": status.received.to_string(),
        "server_end": status.server_end.to_string(),
        "behind_bytes": status.server_end.since(status.durable),
        "oldest_wait_seconds": status.oldest_wait.map(|wait| wait.as_secs_f64()),
        "silent_seconds": status.silent_for.as_secs_f64(),
        "connected": status.connected,
        "ack": if status.spool.is_some() { "spool" } else { "repository" },
        "in_repository": in_repository.map(|(timeline, end)| json!({ "timeline": timeline.0, "to": end.to_string() })),
        "spool": status.spool.map(|spool| json!({
            "host": host_name(),
            "waiting_bytes": spool.waiting_bytes,
            "oldest_wait_seconds": spool.oldest_wait.map(|wait| wait.as_secs_f64()),
        })),
    })
}
