//! Points of a log as people write them: `latest`, a time, `lsn:…`, `xid:…`, `name:…`, a snapshot.

use crate::args::{AtPoint, PointArgs};
use crate::context::{Context, dataset_name};
use crate::failure::Failure;
use crate::time::instant;
use lifeboat_postgres_wal::{Edge, Target, TimelineId};
use lifeboat_recovery::RecoveryError;
use lifeboat_repository::Repository;
use lifeboat_repository::ids::DatasetName;
use lifeboat_store_postgres::{AtTarget, RecoveryPath, RecoveryTarget, STORE, resolve, target_time};
use std::sync::Arc;

/// Whether a dataset's newest snapshot is one of a PostgreSQL cluster. There the log leads past what cannot be read,
/// which a person should hear of all the same.
fn is_cluster(context: &Context, repository: &Repository, dataset: &DatasetName) -> Result<bool, Failure> {
    let mut unreadable = Vec::new();
    let snapshots = repository.snapshots(Some(dataset), &mut unreadable)?;
    let is_cluster = snapshots.last().is_some_and(|published| published.snapshot.store == STORE);
    for unreadable in unreadable.iter().filter(|_| is_cluster) {
        let error = lifeboat_base::report(&unreadable.error);
        context.output.warn(&format!("{} cannot be read and was passed over: {error}", unreadable.object));
    }
    Ok(is_cluster)
}

/// The way to a point of a cluster; `None` where the dataset is none.
pub(crate) fn find(
    context: &Context,
    repository: &Arc<Repository>,
    dataset: &str,
    which: &str,
    args: &PointArgs,
) -> Result<Option<RecoveryPath>, Failure> {
    let name = dataset_name(dataset)?;
    if !is_cluster(context, repository, &name)? {
        return match needs_a_log(which, args) {
            true => Err(Failure::usage(
                format!("{dataset} keeps no log: only its snapshots can be restored to"),
                "`lifeboat points` lists them; give latest, a time or a snapshot.",
            )),
            false => Ok(None),
        };
    }
    let timeline = args.timeline.map(|number| TimelineId(number.get()));
    let edge = if args.before { Edge::Exclusive } else { Edge::Inclusive };
    let (target, only) = match target(context, which)? {
        Some(target) => (target, None),
        None => (Target::Immediate, Some(repository.find_snapshot(Some(&name), which)?)),
    };
    let timeline = match &only {
        // A snapshot is of one timeline, whatever came after it.
        Some(published) => timeline.or_else(|| own_timeline(&published.snapshot.facts)),
        None => timeline,
    };
    let wanted = RecoveryTarget { target, edge, timeline };
    let path = resolve(repository, &name, &wanted, only.as_ref()).map_err(RecoveryError::from)?;
    Ok(Some(path))
}

fn own_timeline(facts: &std::collections::BTreeMap<String, String>) -> Option<TimelineId> {
    lifeboat_store_postgres::SnapshotFacts::read(facts).ok().map(|facts| facts.timeline)
}

fn needs_a_log(which: &str, args: &PointArgs) -> bool {
    let prefixed = ["lsn:", "xid:", "name:"].iter().any(|prefix| which.starts_with(prefix));
    prefixed || args.timeline.is_some() || args.before
}

/// The point that a text means; `None` where it can only be a snapshot.
fn target(context: &Context, which: &str) -> Result<Option<Target>, Failure> {
    let malformed = |what: &str, example: &str| {
        Failure::usage(format!("{which} names no {what}"), format!("Write it as {example}."))
    };
    let target = match which.split_once(':') {
        _ if which == "latest" => Target::Latest,
        Some(("lsn", text)) => {
            Target::Lsn(text.parse().map_err(|_| malformed("position", "lsn:16/B374D848"))?)
        }
        Some(("xid", text)) => Target::Xid(text.parse().map_err(|_| malformed("transaction", "xid:4711"))?),
        Some(("name", "")) => return Err(malformed("restore point", "name:before-migration")),
        Some(("name", text)) => Target::Name(text.to_owned()),
        _ => return Ok(instant(which, context.output)?.map(target_time)),
    };
    Ok(Some(target))
}

impl From<AtPoint> for AtTarget {
    fn from(at: AtPoint) -> Self {
        match at {
            AtPoint::Promote => Self::Promote,
            AtPoint::Pause => Self::Pause,
            AtPoint::Shutdown => Self::Shutdown,
        }
    }
}
