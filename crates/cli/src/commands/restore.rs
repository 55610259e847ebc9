//! `lifeboat restore`: a snapshot back.

use crate::args::RestoreArgs;
use crate::commands::{problems_json, say_problems};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{bytes, duration};
use lifeboat_recovery::restore::{RestoreOptions, restore};
use lifeboat_store::progress::Progress;
use serde_json::json;
use std::io::Write;
use std::sync::Arc;

pub(crate) fn run(context: &Context, args: &RestoreArgs) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let (reader, published) = context.find(&repository, &args.dataset, &args.to)?;
    let _pin = context.pin(&repository, &[&published], "restore");
    let options = RestoreOptions { include: args.include.clone(), force: args.force };
    let progress = Arc::new(Progress::default());
    let shown = context.output.progress(&format!("restoring {}", args.dataset), &progress);
    let restored = restore(&reader, &published, &args.into, &options, &progress)?;
    drop(shown);
    let report = &restored.report;
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
    Ok(match report.left_out.is_empty() {
        true => Outcome::Done,
        false if restored.damage_hint().is_some() => Outcome::Failed,
        false => Outcome::LeftOut,
    })
}
