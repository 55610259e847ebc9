//! `lifeboat copy`: snapshots to another repository.

use crate::args::CopyArgs;
use crate::context::{Context, dataset_name};
use crate::failure::{Failure, Outcome};
use crate::output::bytes;
use crate::recording;
use crate::secret::read_secret;
use lifeboat_objects::location::Location;
use lifeboat_repository::Published;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;

pub(crate) fn run(context: &Context, args: &CopyArgs) -> Result<Outcome, Failure> {
    let target_location = Location::parse(&args.to)?;
    let origin = context.open()?;
    let target = context.open_at(&target_location, &read_secret(&args.to_key)?)?;
    let only: Vec<_> = args.datasets.iter().map(|name| dataset_name(name)).collect::<Result<_, _>>()?;
    let mut unreadable = Vec::new();
    let mut snapshots: Vec<Published> = origin.snapshots(None, &mut unreadable)?;
    snapshots.retain(|p| only.is_empty() || only.contains(&p.snapshot.position.dataset));
    if args.latest {
        let newest: BTreeMap<_, _> =
            snapshots.into_iter().map(|p| (p.snapshot.position.dataset.clone(), p)).collect();
        snapshots = newest.into_values().collect();
    }
    for unreadable in &unreadable {
        context.output.warn(&format!(
            "{} cannot be read and is not copied: {}",
            unreadable.object,
            lifeboat_base::report(&unreadable.error)
        ));
    }
    let all: Vec<&Published> = snapshots.iter().collect();
    let _pin = context.pin(&origin, &all, "copy");
    let report = lifeboat_repository::copy(&origin, &target, &snapshots)?;
    for log in &report.left_out {
        context.output.warn(&format!("a log cannot be read and is not copied: {log}"));
    }
    let whole = unreadable.is_empty() && report.left_out.is_empty() && report.receipts_left_out.is_empty();
    let outcome = if whole { Outcome::Done } else { Outcome::LeftOut };
    context.did(recording::copied(&target_location.to_string(), &report, outcome));
    for receipt in &report.receipts_left_out {
        context.output.warn(&format!("a receipt cannot be read and is not copied: {receipt}"));
    }
    let copied: Vec<String> = report.copied.iter().map(ToString::to_string).collect();
    context.output.result(
        || json!({ "copied": copied, "already": report.already, "stored_bytes": report.stored_bytes, "logs": report.logs, "log_bytes": report.log_bytes, "logs_left_out": report.left_out, "receipts": report.receipts, "receipts_left_out": report.receipts_left_out }),
        |text| {
            writeln!(text, "{} snapshots copied to {target_location}, stored as {}; {} were there", copied.len(), bytes(report.stored_bytes), report.already)?;
            if report.logs > 0 {
                writeln!(text, "{} log objects copied, {}", report.logs, bytes(report.log_bytes))?;
            }
            Ok(())
        },
    )?;
    Ok(outcome)
}
