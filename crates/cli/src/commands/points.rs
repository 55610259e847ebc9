//! `lifeboat points`: what can be restored to.

use crate::args::PointsArgs;
use crate::context::{Context, dataset_name};
use crate::failure::{Failure, Outcome};
use crate::output::{bytes, duration};
use crate::time::no_snapshot;
use lifeboat_base::clock::Timestamp;
use lifeboat_recovery::postgres::cluster_points;
use lifeboat_recovery::samples::{Forecast, Phases};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{Published, Repository};
use lifeboat_store_postgres::points::{Hole, Recoverable, RecoveryPoints};
use lifeboat_store_postgres::synchronous::{ExposureInterval, exposure_intervals};
use lifeboat_store_postgres::{STORE, SnapshotFacts};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

/// So many intervals of exposure are shown: the newest.
const EXPOSED_SHOWN: usize = 10;

pub(crate) fn run(context: &Context, args: &PointsArgs) -> Result<Outcome, Failure> {
    let dataset = args.dataset.as_deref().map(dataset_name).transpose()?;
    let dataset_filter = dataset.clone();
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
    let clusters = clusters(&repository, dataset_filter.as_ref(), &snapshots)?;
    let forecast = match &dataset_filter {
        Some(dataset) => forecast(context, &repository, dataset, &snapshots, &clusters)?,
        None => None,
    };
    let exposed = match &dataset_filter {
        Some(dataset) => exposed(context, dataset),
        None => Vec::new(),
    };
    let held: BTreeSet<_> = repository.holds()?.into_iter().map(|hold| hold.position).collect();
    context.output.result(
        || json!({ "points": snapshots.iter().map(|p| point_json(p, held.contains(&p.slot))).collect::<Vec<_>>(), "logs": clusters.iter().map(|(dataset, points)| log_json(dataset, points)).collect::<Vec<_>>(), "exposed": exposed.iter().map(exposed_json).collect::<Vec<_>>(), "forecast": forecast.as_ref().map(forecast_json), "unreadable": unreadable.iter().map(|u| &u.object).collect::<Vec<_>>() }),
        |text| {
            if snapshots.is_empty() {
                return writeln!(text, "no snapshot");
            }
            writeln!(text, "{:<9} {:<30} {:<20} {:<8} {:>10} {:>9}  source", "snapshot", "taken (UTC)", "dataset", "store", "size", "entries")?;
            for p in &snapshots {
                let s = &p.snapshot;
                let taken = time(s.taken);
                let mark = if held.contains(&p.slot) { "  (held)" } else { "" };
                let entries = s.stats.files + s.stats.directories;
                writeln!(text, "{:<9} {:<30} {:<20} {:<8} {:>10} {:>9}  {}:{}{mark}", p.id.short(), taken, s.position.dataset.as_str(), s.store, bytes(s.stats.content_bytes), entries, s.host, s.source)?;
            }
            for (dataset, points) in &clusters {
                log_to_text(dataset, points, text)?;
            }
            exposed_to_text(&exposed, text)?;
            forecast.as_ref().map_or(Ok(()), |forecast| forecast_to_text(forecast, text))
        },
    )?;
    Ok(if unreadable.is_empty() { Outcome::Done } else { Outcome::LeftOut })
}

/// When commits did not wait for us although they were to, as the watchdogs of this machine have recorded it.
fn exposed(context: &Context, dataset: &DatasetName) -> Vec<ExposureInterval> {
    let recorded = context.watchdog_dir(dataset).map(|directory| exposure_intervals(&directory));
    match recorded {
        Ok(Ok(intervals)) => intervals,
        Ok(Err(error)) => {
            let error = lifeboat_base::report(&error);
            context.output.warn(&format!("when commits did not wait cannot be read: {error}"));
            Vec::new()
        }
        // Without a state directory nothing was recorded.
        Err(_) => Vec::new(),
    }
}

fn exposed_to_text(exposed: &[ExposureInterval], text: &mut Vec<u8>) -> std::io::Result<()> {
    if exposed.is_empty() {
        return Ok(());
    }
    writeln!(text, "\ncommits did not wait for the repository (synchronous mode, from this machine)")?;
    let earlier = exposed.len().saturating_sub(EXPOSED_SHOWN);
    if earlier > 0 {
        writeln!(text, "({earlier} earlier ones: --json lists them)")?;
    }
    for one in &exposed[earlier..] {
        let to = one.to.map_or("(no end on record)".to_owned(), time);
        writeln!(text, "{:<25} to {to:<25} {}", time(one.from), one.reason)?;
    }
    Ok(())
}

fn exposed_json(interval: &ExposureInterval) -> Value {
    json!({
        "from": interval.from.to_string(),
        "to": interval.to.map(|to| to.to_string()),
        "reason": interval.reason,
        "standby": interval.standby,
    })
}

/// To the millisecond, as a person reads it.
fn time(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// What restoring the latest point would take, and how much of it.
struct Latest {
    forecast: Forecast,
    bytes: u64,
    log_bytes: u64,
}

/// By what was measured on this host, where anything was.
fn forecast(
    context: &Context,
    repository: &Repository,
    dataset: &DatasetName,
    snapshots: &[Published],
    clusters: &[(DatasetName, RecoveryPoints)],
) -> Result<Option<Latest>, Failure> {
    let Some(newest) = snapshots.last() else { return Ok(None) };
    let facts = SnapshotFacts::read(&newest.snapshot.facts).ok();
    let log =
        clusters.first().zip(facts).map(|((_, points), facts)| points.log_behind(&newest.id.short(), &facts));
    let (bytes, log_bytes) = (newest.snapshot.stats.content_bytes, log.unwrap_or(0));
    let forecast = context.forecast(repository, dataset, bytes, log_bytes)?;
    Ok(forecast.map(|forecast| Latest { forecast, bytes, log_bytes }))
}

fn forecast_to_text(latest: &Latest, text: &mut Vec<u8>) -> std::io::Result<()> {
    let Latest { forecast: Forecast { typical, slow, samples, newest }, .. } = latest;
    let at = newest.to_jiff().strftime("%Y-%m-%dT%H:%M:%SZ");
    let from = if *samples == 1 {
        format!("1 sample of {at}")
    } else {
        format!("{samples} samples, the newest of {at}")
    };
    let total = duration(typical.total());
    writeln!(text, "\nforecast for this host, from {from}: restoring the latest point takes {total}")?;
    write!(text, "  {} of files in {}", bytes(latest.bytes), duration(typical.files))?;
    if latest.log_bytes > 0 {
        write!(text, ", {} of log in {}", bytes(latest.log_bytes), duration(typical.log))?;
        match typical.replay {
            Some(replay) => write!(text, ", replayed in {}", duration(replay))?,
            None => write!(text, ", and its replay, which `lifeboat prove` measures")?,
        }
    }
    writeln!(text, "; {} where it is slow (nine of ten)", duration(slow.total()))
}

fn forecast_json(latest: &Latest) -> Value {
    let phases = |phases: &Phases| {
        json!({
            "seconds": phases.total().as_secs_f64(),
            "resolve_seconds": phases.resolving.as_secs_f64(),
            "files_seconds": phases.files.as_secs_f64(),
            "log_seconds": phases.log.as_secs_f64(),
            "replay_seconds": phases.replay.map(|replay| replay.as_secs_f64()),
        })
    };
    let Forecast { typical, slow, samples, newest } = &latest.forecast;
    json!({
        "bytes": latest.bytes,
        "log_bytes": latest.log_bytes,
        "samples": samples,
        "newest_sample": newest.to_string(),
        "typical": phases(typical),
        "slow": phases(slow),
    })
}

/// What can be restored to behind snapshots, for every cluster among the datasets.
fn clusters(
    repository: &Arc<Repository>,
    dataset: Option<&DatasetName>,
    snapshots: &[Published],
) -> Result<Vec<(DatasetName, RecoveryPoints)>, Failure> {
    let of_snapshots = snapshots
        .iter()
        .filter(|published| published.snapshot.store == STORE)
        .map(|published| published.snapshot.position.dataset.clone());
    let datasets: BTreeSet<DatasetName> = of_snapshots.chain(dataset.cloned()).collect();
    let mut clusters = Vec::new();
    for dataset in datasets {
        if let Some(points) = cluster_points(repository, &dataset)? {
            clusters.push((dataset, points));
        }
    }
    Ok(clusters)
}

fn log_to_text(dataset: &DatasetName, points: &RecoveryPoints, text: &mut Vec<u8>) -> std::io::Result<()> {
    writeln!(text, "\n{dataset}: any point of these stretches of log")?;
    writeln!(
        text,
        "{:<8} {:<17} {:<25} {:<17} {:<25}  snapshots",
        "timeline", "from", "from (UTC)", "to", "to (UTC)"
    )?;
    for one in &points.recoverable {
        let (from, to) = (one.from.to_string(), one.to.to_string());
        writeln!(
            text,
            "{:<8} {from:<17} {:<25} {to:<17} {:<25}  {}",
            one.timeline.to_string(),
            time(one.from_time),
            time(one.to_time),
            one.snapshots.join(" ")
        )?;
    }
    for hole in &points.holes {
        let (from, to) = (hole.from.to_string(), hole.to.to_string());
        writeln!(
            text,
            "{:<8} {from:<17} {:<25} {to:<17} {:<25}  a hole: nothing between can be restored to",
            hole.timeline.to_string(),
            time(hole.from_time),
            time(hole.to_time)
        )?;
    }
    for snapshot in &points.unreachable {
        writeln!(text, "snapshot {snapshot} misses a part of the log that it needs: it cannot be restored")?;
    }
    Ok(())
}

fn log_json(dataset: &DatasetName, points: &RecoveryPoints) -> Value {
    let stretch = |one: &Recoverable| {
        json!({
            "system": one.system.to_string(), "timeline": one.timeline.0,
            "from": one.from.to_string(), "to": one.to.to_string(),
            "from_time": one.from_time.to_string(), "to_time": one.to_time.to_string(),
            "snapshots": one.snapshots,
        })
    };
    let hole = |hole: &Hole| {
        json!({
            "system": hole.system.to_string(), "timeline": hole.timeline.0,
            "from": hole.from.to_string(), "to": hole.to.to_string(),
            "from_time": hole.from_time.to_string(), "to_time": hole.to_time.to_string(),
        })
    };
    json!({
        "dataset": dataset.as_str(),
        "recoverable": points.recoverable.iter().map(stretch).collect::<Vec<_>>(),
        "holes": points.holes.iter().map(hole).collect::<Vec<_>>(),
        "snapshots_without_their_log": points.unreachable,
    })
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
