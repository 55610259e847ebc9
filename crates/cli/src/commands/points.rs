//! `lifeboat points`: what can be restored to.

use crate::args::PointsArgs;
use crate::context::{Context, dataset_name};
use crate::failure::{Failure, Outcome};
use crate::output::bytes;
use crate::time::no_snapshot;
use lifeboat_repository::Published;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;

pub(crate) fn run(context: &Context, args: &PointsArgs) -> Result<Outcome, Failure> {
    let dataset = args.dataset.as_deref().map(dataset_name).transpose()?;
    let repository = context.open()?;
    let mut unreadable = Vec::new();
    let snapshots = repository.snapshots(dataset.as_ref(), &mut unreadable)?;
    for unreadable in &unreadable {
        context.output.warn(&format!(
            "{} cannot be read: {}",
            unreadable.object,
            lifeboat_base::report(&unreadable.error)
        ));
    }
    if let Some(dataset) = dataset.filter(|name| !context.plan.datasets.contains_key(name.as_str()))
        && snapshots.is_empty()
        && unreadable.is_empty()
    {
        return Err(no_snapshot(&dataset));
    }
    let held: BTreeSet<_> = repository.holds()?.into_iter().map(|hold| hold.position).collect();
    context.output.result(
        || json!({ "points": snapshots.iter().map(|p| point_json(p, held.contains(&p.slot))).collect::<Vec<_>>(), "unreadable": unreadable.iter().map(|u| &u.object).collect::<Vec<_>>() }),
        |text| {
            if snapshots.is_empty() {
                return writeln!(text, "no snapshot");
            }
            writeln!(text, "{:<9} {:<30} {:<20} {:<8} {:>10} {:>9}  source", "snapshot", "taken (UTC)", "dataset", "store", "size", "entries")?;
            for p in &snapshots {
                let s = &p.snapshot;
                let taken = s.taken.to_jiff().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
                let mark = if held.contains(&p.slot) { "  (held)" } else { "" };
                let entries = s.stats.files + s.stats.directories;
                writeln!(text, "{:<9} {:<30} {:<20} {:<8} {:>10} {:>9}  {}:{}{mark}", p.id.short(), taken, s.position.dataset.as_str(), s.store, bytes(s.stats.content_bytes), entries, s.host, s.source)?;
            }
            Ok(())
        },
    )?;
    Ok(if unreadable.is_empty() { Outcome::Done } else { Outcome::LeftOut })
}

/// A snapshot for programs.
pub(crate) fn point_json(published: &Published, held: bool) -> Value {
    let s = &published.snapshot;
    json!({
        "snapshot": published.id.to_string(),
        "position": published.slot.to_string(),
        "dataset": s.position.dataset.as_str(),
        "taken": s.taken.to_string(),
        "finished": s.finished.to_string(),
        "store": s.store,
        "host": s.host,
        "source": s.source,
        "content_bytes": s.stats.content_bytes,
        "stored_bytes": s.stats.stored_bytes,
        "files": s.stats.files,
        "directories": s.stats.directories,
        "left_out": s.stats.left_out,
        "changed_while_read": s.stats.torn,
        "facts": s.facts,
        "held": held,
    })
}
