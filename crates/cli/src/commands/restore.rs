//! `lifeboat restore`: a snapshot back.

use crate::args::{AtPoint, RestoreArgs};
use crate::commands::wal::restore_command;
use crate::commands::{problems_json, say_problems};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{bytes, duration};
use crate::{point, recording};
use lifeboat_base::clock::Stopwatch;
use lifeboat_evidence::Action;
use lifeboat_postgres_wal::TransactionRef;
use lifeboat_recovery::postgres::{ClusterOptions, LogPlace, RestoredCluster, restore_cluster};
use lifeboat_recovery::restore::{RestoreOptions, restore};
use lifeboat_recovery::samples::Occasion;
use lifeboat_repository::{Reader, Repository};
use lifeboat_store::progress::Progress;
use lifeboat_store_postgres::RecoveryPath;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn run(context: &Context, args: &RestoreArgs) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let watch = Stopwatch::start();
    if let Some(path) = point::find(context, &repository, &args.dataset, &args.to, &args.point)? {
        return cluster(context, &repository, args, &path, watch.elapsed());
    }
    refuse_for_files(args)?;
    let (reader, published) = context.find(&repository, &args.dataset, &args.to)?;
    let resolving = watch.elapsed();
    let _pin = context.pin(&repository, &[&published], "restore");
    let options = RestoreOptions { include: args.include.clone(), force: args.force };
    let progress = Arc::new(Progress::default());
    let shown = context.output.progress(&format!("restoring {}", args.dataset), &progress);
    let restored = restore(&reader, &published, &args.into, &options, &progress)?;
    drop(shown);
    context.keep_sample(&repository, Occasion::Restore, &published, restored.measured(resolving))?;
    let report = &restored.report;
    let outcome = match report.left_out.is_empty() {
        true => Outcome::Done,
        false if restored.damage_hint().is_some() => Outcome::Failed,
        false => Outcome::LeftOut,
    };
    context.did(
        recording::brought_back(Action::Restore, outcome, &published, &report.left_out)
            .fact("files", report.files)
            .fact("bytes", report.bytes)
            .fact("into", args.into.display().to_string())
            .took("resolve", resolving)
            .took("restore", restored.took),
    );
    say_problems(context.output, "left out", &report.left_out);
    say_problems(context.output, "not set", &report.refused);
    if let Some(hint) = restored.damage_hint() {
        context.output.hint(&hint);
    }
    context.output.result(
        || {
            json!({
                "dataset": args.dataset,
                "snapshot": published.id.to_string(),
                "taken": published.snapshot.taken.to_string(),
                "into": args.into.display().to_string(),
                "files": report.files,
                "directories": report.directories,
                "symlinks": report.symlinks,
                "hard_links": report.hard_links,
                "special": report.special,
                "bytes": report.bytes,
                "left_out": problems_json(&report.left_out),
                "metadata_not_set": problems_json(&report.refused),
                "damaged": restored.damage_hint().is_some(),
                "seconds": restored.took.as_secs_f64(),
            })
        },
        |text| {
            writeln!(
                text,
                "{}: snapshot {} of {} restored into {}: {} in {} files, {}",
                args.dataset,
                published.id.short(),
                published.snapshot.taken,
                args.into.display(),
                bytes(report.bytes),
                report.files,
                duration(restored.took)
            )
        },
    )?;
    Ok(outcome)
}

/// What only a cluster has.
fn refuse_for_files(args: &RestoreArgs) -> Result<(), Failure> {
    if args.tablespace.is_empty() && args.at_point == AtPoint::Promote && !args.fetch_log {
        return Ok(());
    }
    Err(Failure::usage(
        format!("{} is no PostgreSQL cluster", args.dataset),
        "--tablespace, --fetch-log and --at-point are for clusters; leave them away.",
    ))
}

/// Restores a cluster to a point of its log, ready to be started.
fn cluster(
    context: &Context,
    repository: &Arc<Repository>,
    args: &RestoreArgs,
    path: &RecoveryPath,
    resolving: Duration,
) -> Result<Outcome, Failure> {
    if !args.include.is_empty() {
        return Err(Failure::usage(
            "a part of a cluster cannot be started, so --include does not go with it",
            "Restore all of it, or take one file with `lifeboat dump`.",
        ));
    }
    let _pin = context.pin(repository, &[&path.snapshot], "restore");
    let reader = Reader::new(repository)?;
    let options = ClusterOptions {
        force: args.force,
        tablespaces: args.tablespace.clone(),
        action: args.at_point.into(),
        log: log_place(context, args)?,
    };
    context.output.note(&format!("restoring to {}", where_it_ends(path)));
    if let Some(newest) = path.goes_on_to {
        context.output.warn(&format!(
            "this is not the latest state: the log goes on behind a hole, to {newest}, and no snapshot leads there"
        ));
    }
    let progress = Arc::new(Progress::default());
    let shown = context.output.progress(&format!("restoring {}", args.dataset), &progress);
    let restored = restore_cluster(&reader, path, &args.into, &options, &progress)?;
    drop(shown);
    let measured = restored.measured(resolving, &options.log);
    context.keep_sample(repository, Occasion::Restore, &path.snapshot, measured)?;
    let outcome = if restored.report.left_out.is_empty() { Outcome::Done } else { Outcome::Failed };
    context.did(
        recording::brought_back(Action::Restore, outcome, &path.snapshot, &restored.report.left_out)
            .point(where_it_ends(path))
            .fact("files", restored.report.files)
            .fact("bytes", restored.report.bytes)
            .fact("wal_bytes", restored.wal_bytes)
            .fact("into", args.into.display().to_string())
            .took("resolve", resolving)
            .took("files", restored.placing)
            .took("log", restored.fetching_log),
    );
    say_problems(context.output, "left out", &restored.report.left_out);
    say_problems(context.output, "not set", &restored.report.refused);
    for setting in &restored.neutralised {
        context.output.note(&format!("taken back: {} was {:?}", setting.name, setting.was));
    }
    for placed in &restored.tablespaces {
        let (space, place) = (&placed.tablespace, placed.place.display());
        context.output.note(&format!("tablespace {} of {} is in {place}", space.oid, space.location));
    }
    context.output.result(
        || cluster_json(args, path, &restored),
        |text| {
            let took = duration(restored.placing + restored.fetching_log);
            let into = std::path::absolute(&args.into)?;
            let into = into.display();
            writeln!(
                text,
                "{}: restored into {into}: {} in {} files, and {} of log to replay, {took}",
                args.dataset,
                bytes(restored.report.bytes),
                restored.report.files,
                bytes(restored.wal_bytes),
            )?;
            writeln!(text, "start it: pg_ctl --pgdata={into} --wait --timeout=86400 start   (PostgreSQL {}, as its owner)", path.facts.major_version())
        },
    )?;
    Ok(outcome)
}

/// Where the server finds the log.
fn log_place(context: &Context, args: &RestoreArgs) -> Result<LogPlace, Failure> {
    if !args.fetch_log {
        return Ok(LogPlace::Inside);
    }
    let mut beside = std::path::absolute(&args.into)?.into_os_string();
    beside.push(".wal");
    let folder = PathBuf::from(beside);
    let command = restore_command(context, &folder)?;
    context.output.note(&format!("the server will run: {command}"));
    Ok(LogPlace::Fetched { folder, command })
}

/// Where a restore ends, for people.
pub(crate) fn where_it_ends(path: &RecoveryPath) -> String {
    let resolution = &path.resolution;
    let edge = if resolution.inclusive { "with" } else { "before" };
    let last = resolution.last_transaction.as_ref().map_or_else(
        || "no transaction is behind the snapshot".to_owned(),
        |last| format!("the last transaction is {} of {}", last.xid, last.committed_at),
    );
    let next = resolution
        .first_left_out
        .as_ref()
        .map(|next| format!("; the first one left out is {} of {}", next.xid, next.committed_at));
    format!(
        "timeline {}, {edge} the record at {}, from snapshot {}: {last}{}",
        resolution.timeline,
        resolution.stop,
        path.snapshot.id.short(),
        next.unwrap_or_default()
    )
}

/// Where a restore ends, for programs.
pub(crate) fn path_json(path: &RecoveryPath) -> Value {
    let transaction = |found: &Option<TransactionRef>| {
        found.as_ref().map(
            |t| json!({ "xid": t.xid, "committed_at": t.committed_at.to_string(), "lsn": t.end.to_string() }),
        )
    };
    let resolution = &path.resolution;
    json!({
        "snapshot": path.snapshot.id.to_string(),
        "system": path.facts.system.to_string(),
        "timeline": resolution.timeline.0,
        "lsn": resolution.stop.to_string(),
        "inclusive": resolution.inclusive,
        "last_transaction": transaction(&resolution.last_transaction),
        "first_transaction_left_out": transaction(&resolution.first_left_out),
        "server_version": path.facts.server_version,
        "log_goes_on_to": path.goes_on_to.map(|newest| newest.to_string()),
    })
}

fn cluster_json(args: &RestoreArgs, path: &RecoveryPath, restored: &RestoredCluster) -> Value {
    let tablespaces: Vec<Value> = restored
        .tablespaces
        .iter()
        .map(|placed| json!({ "oid": placed.tablespace.oid, "was": placed.tablespace.location, "is": placed.place.display().to_string() }))
        .collect();
    let neutralised: Vec<Value> =
        restored.neutralised.iter().map(|n| json!({ "name": n.name, "was": n.was })).collect();
    json!({
        "dataset": args.dataset,
        "into": args.into.display().to_string(),
        "point": path_json(path),
        "files": restored.report.files,
        "directories": restored.report.directories,
        "bytes": restored.report.bytes,
        "wal_bytes": restored.wal_bytes,
        "tablespaces": tablespaces,
        "settings_taken_back": neutralised,
        "left_out": problems_json(&restored.report.left_out),
        "metadata_not_set": problems_json(&restored.report.refused),
        "files_seconds": restored.placing.as_secs_f64(),
        "log_seconds": restored.fetching_log.as_secs_f64(),
    })
}
