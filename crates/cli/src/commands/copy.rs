//! `lifeboat copy`: snapshots to another repository.

use crate::args::CopyArgs;
use crate::context::{Context, dataset_name, read_secret};
use crate::failure::{Failure, Outcome};
use crate::output::bytes;
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
    context.output.result(
        || json!({ "copied": report.copied.iter().map(ToString::to_string).collect::<Vec<_>>(), "already": report.already, "stored_bytes": report.stored_bytes }),
        |text| writeln!(text, "{} snapshots copied to {target_location}, stored as {}; {} were there", report.copied.len(), bytes(report.stored_bytes), report.already),
    )?;
    Ok(if unreadable.is_empty() { Outcome::Done } else { Outcome::LeftOut })
}
