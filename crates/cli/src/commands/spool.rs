//! The spool of `lifeboat follow --ack spool`, and `lifeboat wal drain`, which publishes what one has left.

use crate::args::{AckArg, SpoolArgs};
use crate::context::{Context, dataset_name};
use crate::failure::{Failure, Outcome};
use crate::output::bytes;
use lifeboat_plan::{Ack, ProtectPlan};
use lifeboat_recovery::RecoveryError;
use lifeboat_repository::Repository;
use lifeboat_repository::ids::DatasetName;
use lifeboat_store::progress::Progress;
use lifeboat_store_postgres::{
    DEFAULT_SPOOL_LIMIT_BYTES, Drained, Elsewhere, PostgresStoreError, Spool, SpoolOwner, Spooling, drain,
};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Opens the spool of a dataset, where what is followed is to be acknowledged by one.
pub(crate) fn of_follower(
    context: &Context,
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    ack: Option<AckArg>,
    args: &SpoolArgs,
) -> Result<Option<Spooling>, Failure> {
    let planned = planned(context, dataset);
    let ack = ack.map_or(planned.ack, |ack| match ack {
        AckArg::Repository => Ack::Repository,
        AckArg::Spool => Ack::Spool,
    });
    match ack {
        Ack::Spool => {
            let spool = Arc::new(open(repository, dataset, args, &planned)?);
            Ok(Some(Spooling { spool, elsewhere: Elsewhere::Checked }))
        }
        Ack::Repository if args.spool.is_some() || args.spool_limit.is_some() => Err(Failure::usage(
            "--spool and --spool-limit go with --ack spool",
            "Without it the log is acknowledged once it is in the repository, and no spool is used.",
        )),
        Ack::Repository => Ok(None),
    }
}

fn planned(context: &Context, dataset: &DatasetName) -> ProtectPlan {
    let planned = context.plan.datasets.get(dataset.as_str());
    planned.and_then(|dataset| dataset.protect.clone()).unwrap_or_default()
}

fn open(
    repository: &Repository,
    dataset: &DatasetName,
    args: &SpoolArgs,
    planned: &ProtectPlan,
) -> Result<Spool, Failure> {
    let folder =
        args.spool.clone().or_else(|| planned.spool.as_ref().map(PathBuf::from)).ok_or_else(|| {
            Failure::usage(
                format!("no folder is named for the spool of {dataset}"),
                "Give --spool DIR, or write protect = { ack = \"spool\", spool = \"DIR\" } in the plan.",
            )
        })?;
    let planned_limit = planned.spool_limit.map(|size| size.0);
    let limit = args.spool_limit.or(planned_limit).unwrap_or(DEFAULT_SPOOL_LIMIT_BYTES);
    let owner = SpoolOwner { repository: repository.id(), dataset: dataset.clone() };
    let opened = Spool::open(&folder.join(dataset.as_str()), owner, limit);
    opened.map_err(|error| RecoveryError::from(PostgresStoreError::from(error)).into())
}

/// `lifeboat wal drain`.
pub(crate) fn run_drain(context: &Context, dataset: &str, args: &SpoolArgs) -> Result<Outcome, Failure> {
    let name = dataset_name(dataset)?;
    let repository = context.open()?;
    let spool = open(&repository, &name, args, &planned(context, &name))?;
    let torn_bytes = spool.torn_bytes();
    let progress = Arc::new(Progress::default());
    let shown = context.output.progress("publishing", &progress);
    let mut told = 0;
    let drained = drain(&spool, &repository, &mut |so_far| {
        progress.count_bytes(so_far.bytes - told);
        told = so_far.bytes;
    });
    drop(shown);
    let drained = drained.map_err(RecoveryError::from)?;
    context.output.result(
        || drained_json(dataset, &drained, torn_bytes),
        |text| drained_text(dataset, &drained, torn_bytes, text),
    )?;
    Ok(Outcome::Done)
}

fn drained_json(dataset: &str, drained: &Drained, torn_bytes: u64) -> Value {
    let stretches = drained.stretches.iter().map(|((system, timeline), (from, to))| {
        json!({ "system": system.to_string(), "timeline": timeline.0, "from": from.to_string(), "to": to.to_string() })
    });
    json!({
        "dataset": dataset,
        "published": stretches.collect::<Vec<_>>(),
        "bytes": drained.bytes,
        "torn_bytes": torn_bytes,
    })
}

fn drained_text(
    dataset: &str,
    drained: &Drained,
    torn_bytes: u64,
    text: &mut Vec<u8>,
) -> std::io::Result<()> {
    if drained.stretches.is_empty() {
        writeln!(text, "{dataset}: the spool held no log")?;
    }
    for ((system, timeline), (from, to)) in &drained.stretches {
        writeln!(
            text,
            "{dataset}: system {system}, timeline {timeline}: the log from {from} to {to} is in the repository"
        )?;
    }
    if torn_bytes > 0 {
        writeln!(
            text,
            "{dataset}: {} at the end were cut off by a crash and were never acknowledged",
            bytes(torn_bytes)
        )?;
    }
    Ok(())
}
