//! `lifeboat export`: a cluster in PostgreSQL's own plain forms.

use crate::args::{ExportArgs, ExportFormat};
use crate::commands::restore::{path_json, where_it_ends};
use crate::commands::{problems_json, say_problems};
use crate::context::{Context, dataset_name};
use crate::failure::{Failure, Outcome};
use crate::output::{bytes, duration};
use crate::{point, recording};
use lifeboat_evidence::{Action, Event};
use lifeboat_postgres_wal::{Lsn, TimelineId};
use lifeboat_recovery::postgres::{
    ClusterFormat, ExportOptions, ExportedCluster, WalRange, export_cluster, export_wal,
};
use lifeboat_repository::{Reader, Repository};
use lifeboat_store::progress::Progress;
use lifeboat_store_postgres::RecoveryPath;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) fn run(context: &Context, args: &ExportArgs) -> Result<Outcome, Failure> {
    refuse_mixed(args)?;
    let repository = context.open()?;
    match args.format {
        ExportFormat::Wal => log(context, &repository, args),
        ExportFormat::Directory => cluster(context, &repository, args, ClusterFormat::Directory),
        ExportFormat::Tar => cluster(context, &repository, args, ClusterFormat::Tar),
    }
}

/// Each form has options of its own; one that would be passed over is refused.
fn refuse_mixed(args: &ExportArgs) -> Result<(), Failure> {
    let ranged = args.from.is_some() || args.until.is_some();
    let pointed = args.to.is_some() || args.point.before;
    let said = match args.format {
        ExportFormat::Wal if pointed => "--to and --before are for a directory and for archives",
        ExportFormat::Wal | ExportFormat::Tar if !args.tablespace.is_empty() => {
            "--tablespace is for a directory"
        }
        ExportFormat::Directory | ExportFormat::Tar if ranged => "--from and --until are for --format wal",
        _ => return Ok(()),
    };
    Err(Failure::usage(said, "`lifeboat help export` shows what goes with which format."))
}

fn cluster(
    context: &Context,
    repository: &Arc<Repository>,
    args: &ExportArgs,
    format: ClusterFormat,
) -> Result<Outcome, Failure> {
    let which = args.to.as_deref().unwrap_or("latest");
    let path = point::find(context, repository, &args.dataset, which, &args.point)?.ok_or_else(|| {
        Failure::usage(
            format!("{} is no PostgreSQL cluster", args.dataset),
            "`lifeboat restore` gives its files back as they were, which is its own plain form.",
        )
    })?;
    let _pin = context.pin(repository, &[&path.snapshot], "export");
    let reader = Reader::new(repository)?;
    let options = ExportOptions { format, force: args.force, tablespaces: args.tablespace.clone() };
    context.output.note(&format!("exporting {}", where_it_ends(&path)));
    let progress = Arc::new(Progress::default());
    let shown = context.output.progress(&format!("exporting {}", args.dataset), &progress);
    let exported = export_cluster(&reader, &path, &args.into, &options, &progress)?;
    drop(shown);
    let outcome = if exported.report.left_out.is_empty() { Outcome::Done } else { Outcome::Failed };
    context.did(
        recording::brought_back(Action::Export, outcome, &path.snapshot, &exported.report.left_out)
            .point(where_it_ends(&path))
            .fact("files", exported.report.files)
            .fact("bytes", exported.report.bytes)
            .fact("wal_bytes", exported.wal_bytes)
            .fact("into", args.into.display().to_string())
            .took("all", exported.took),
    );
    say_problems(context.output, "left out", &exported.report.left_out);
    say_problems(context.output, "not set", &exported.report.refused);
    for placed in &exported.tablespaces {
        let (space, place) = (&placed.tablespace, placed.place.display());
        context.output.note(&format!("tablespace {} of {} is in {place}", space.oid, space.location));
    }
    for note in &exported.notes {
        context.output.note(note);
    }
    context.output.note(&format!(
        "started as it is, it goes on in timeline {} as the old primary did; `lifeboat restore` begins a new one",
        exported.timeline
    ));
    context.output.result(
        || cluster_json(args, &path, &exported),
        |text| {
            let report = &exported.report;
            writeln!(
                text,
                "{}: exported into {}: {} in {} files, and {} of log up to {}, {}",
                args.dataset,
                args.into.display(),
                bytes(report.bytes),
                report.files,
                bytes(exported.wal_bytes),
                exported.ends_at,
                duration(exported.took)
            )
        },
    )?;
    Ok(outcome)
}

fn cluster_json(args: &ExportArgs, path: &RecoveryPath, exported: &ExportedCluster) -> Value {
    let tablespaces: Vec<Value> = exported
        .tablespaces
        .iter()
        .map(|placed| json!({ "oid": placed.tablespace.oid, "was": placed.tablespace.location, "is": placed.place.display().to_string() }))
        .collect();
    let archives: Vec<String> =
        exported.archives.iter().map(|archive: &PathBuf| archive.display().to_string()).collect();
    json!({
        "dataset": args.dataset,
        "into": args.into.display().to_string(),
        "point": path_json(path),
        "ends_at": exported.ends_at.to_string(),
        "timeline": exported.timeline.0,
        "files": exported.report.files,
        "directories": exported.report.directories,
        "bytes": exported.report.bytes,
        "wal_bytes": exported.wal_bytes,
        "archives": archives,
        "tablespaces": tablespaces,
        "left_out": problems_json(&exported.report.left_out),
        "metadata_not_set": problems_json(&exported.report.refused),
        "notes": exported.notes,
        "seconds": exported.took.as_secs_f64(),
    })
}

fn log(context: &Context, repository: &Arc<Repository>, args: &ExportArgs) -> Result<Outcome, Failure> {
    let range = WalRange {
        from: args.from,
        until: match args.until.as_deref() {
            None | Some("latest") => None,
            Some(text) => Some(position(text)?),
        },
        timeline: args.point.timeline.map(|number| TimelineId(number.get())),
    };
    let progress = Arc::new(Progress::default());
    let shown = context.output.progress(&format!("exporting the log of {}", args.dataset), &progress);
    let dataset = dataset_name(&args.dataset)?;
    let exported = export_wal(repository, &dataset, &range, &args.into, args.force, &progress)?;
    drop(shown);
    context.did(
        Event::new(Action::Export, lifeboat_evidence::Outcome::Done)
            .dataset(args.dataset.as_str())
            .point(format!(
                "log of timeline {} from {} to {}",
                exported.timeline, exported.from, exported.until
            ))
            .fact("files", exported.files.len() as u64)
            .fact("into", args.into.display().to_string())
            .took("all", exported.took),
    );
    context.output.result(
        || {
            json!({
                "dataset": args.dataset,
                "into": args.into.display().to_string(),
                "system": exported.system.to_string(),
                "timeline": exported.timeline.0,
                "from": exported.from.to_string(),
                "until": exported.until.to_string(),
                "files": exported.files,
                "seconds": exported.took.as_secs_f64(),
            })
        },
        |text| {
            writeln!(
                text,
                "{}: log of timeline {} from {} to {} exported into {}: {} files, {}",
                args.dataset,
                exported.timeline,
                exported.from,
                exported.until,
                args.into.display(),
                exported.files.len(),
                duration(exported.took)
            )
        },
    )?;
    Ok(Outcome::Done)
}

/// A position, with or without what says that it is one.
pub(crate) fn position(text: &str) -> Result<Lsn, Failure> {
    let bare = text.strip_prefix("lsn:").unwrap_or(text);
    bare.parse().map_err(|_| {
        Failure::usage(format!("{text} names no position"), "Write it as 16/B374D848, or latest.")
    })
}
