//! `lifeboat import`: a backup that another tool made.

use crate::args::ImportArgs;
use crate::context::{Context, dataset_name};
use crate::failure::{Failure, Outcome};
use crate::output::{bytes, duration};
use crate::recording;
use crate::time::instant;
use lifeboat_recovery::import::{ImportOptions, Imported, Of, import};
use lifeboat_store::progress::Progress;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;

pub(crate) fn run(context: &Context, args: &ImportArgs) -> Result<Outcome, Failure> {
    let dataset = dataset_name(&args.name)?;
    let options = ImportOptions {
        database: args.database.clone(),
        taken: args.taken.as_deref().map(|text| taken(context, text)).transpose()?,
        zone: None,
        unpack: args.unpack,
        installation: None,
    };
    let repository = context.open()?;
    if args.adopt {
        repository.adopt(&repository.writer()?.id(), &dataset)?;
    }
    let progress = Arc::new(Progress::default());
    let shown = context.output.progress(&format!("importing {}", args.path.display()), &progress);
    let imported = import(&repository, &dataset, &args.path, &options, &progress)?;
    drop(shown);
    for one in &imported {
        context.did(recording::imported(one));
        say(context, one);
    }
    context.output.result(
        || json!({ "imports": imported.iter().map(to_json).collect::<Vec<_>>() }),
        |text| imported.iter().try_for_each(|one| to_text(one, text)),
    )?;
    let complete = imported.iter().all(|one| one.report.left_out.is_empty() && one.report.torn.is_empty());
    Ok(if complete { Outcome::Done } else { Outcome::LeftOut })
}

fn taken(context: &Context, text: &str) -> Result<lifeboat_base::clock::Timestamp, Failure> {
    instant(text, context.output)?.ok_or_else(|| {
        Failure::usage(format!("{text} is no time"), "Write RFC 3339, such as 2026-11-22T03:00:00Z.")
    })
}

fn say(context: &Context, one: &Imported) {
    for note in &one.report.notes {
        context.output.note(note);
    }
    let snapshot = &one.report.published.snapshot;
    if let Some(zone) = &one.taken.zone {
        let said_by = if one.taken.from == Of::Name { "its name" } else { "the dump" };
        context.output.note(&format!(
            "{}: {said_by} gives a local time, read in the time zone {zone}: {} in UTC",
            one.path.display(),
            snapshot.taken
        ));
    }
    if one.taken.from == Of::File {
        context.output.note(&format!(
            "{}: nothing in it says of when it is; the file is of {}",
            one.path.display(),
            snapshot.taken
        ));
    }
}

fn to_text(one: &Imported, text: &mut dyn Write) -> std::io::Result<()> {
    let (published, stats) = (&one.report.published, &one.report.published.snapshot.stats);
    let facts = &published.snapshot.facts;
    let version = facts.get("server-version").map(|version| format!(" of PostgreSQL {version}"));
    let form = facts.get("format").map(|format| format!(" ({format}{})", version.unwrap_or_default()));
    writeln!(
        text,
        "{}: snapshot {} of {}: {}{} imported, {} in {} files, {} new, stored as {}, {}",
        one.dataset,
        published.id.short(),
        published.snapshot.taken,
        published.snapshot.store,
        form.unwrap_or_default(),
        bytes(stats.content_bytes),
        stats.files,
        bytes(stats.new_bytes),
        bytes(stats.stored_bytes),
        duration(one.report.took)
    )
}

fn to_json(one: &Imported) -> Value {
    let (published, stats) = (&one.report.published, &one.report.published.snapshot.stats);
    json!({
        "dataset": one.dataset.as_str(),
        "path": one.path.display().to_string(),
        "snapshot": published.id.to_string(),
        "store": published.snapshot.store,
        "taken": published.snapshot.taken.to_string(),
        "taken_from": one.taken.from.word(),
        "taken_zone": one.taken.zone,
        "facts": published.snapshot.facts,
        "files": stats.files,
        "content_bytes": stats.content_bytes,
        "new_bytes": stats.new_bytes,
        "stored_bytes": stats.stored_bytes,
        "notes": one.report.notes,
        "seconds": one.report.took.as_secs_f64(),
    })
}
