//! `lifeboat check`, `prune`, `forget` and `hold`: keeping the repository.

use crate::args::{CheckArgs, ForgetArgs, HoldCommand, PruneArgs};
use crate::context::{Context, dataset_name};
use crate::failure::{Failure, Outcome};
use crate::output::bytes;
use crate::time::find_point;
use lifeboat_plan::Retain;
use lifeboat_recovery::logs::{Compacted, compact, cut_offs};
use lifeboat_recovery::retention::decide;
use lifeboat_repository::ids::{DatasetName, TicketId};
use lifeboat_repository::{CheckOptions, CheckReport, PruneOptions, PruneReport, Published, Repository};
use lifeboat_store::progress::Progress;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

pub(crate) fn check(context: &Context, args: &CheckArgs) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let progress = Arc::new(Progress::default());
    let shown = context.output.progress("checking", &progress);
    let options = CheckOptions { read_data: args.read_data, threads: lifeboat_recovery::threads() };
    let report = lifeboat_repository::check(&repository, options, &|done, _| {
        progress.count_bytes(done.saturating_sub(progress.bytes()));
    })?;
    drop(shown);
    context.output.result(|| check_json(&report), |text| check_text(&report, args.read_data, text))?;
    Ok(if report.is_whole() { Outcome::Done } else { Outcome::Failed })
}

fn check_text(report: &CheckReport, read_data: bool, text: &mut Vec<u8>) -> std::io::Result<()> {
    for problem in &report.problems {
        writeln!(text, "damaged: {}: {}", problem.object, problem.what)?;
    }
    for lost in &report.lost {
        writeln!(
            text,
            "lost: snapshot {}: {}",
            lost.snapshot,
            if lost.path.is_empty() { "all of it" } else { &lost.path }
        )?;
    }
    for lost in &report.lost_logs {
        writeln!(
            text,
            "lost: log of {}, lineage {}: positions {} to {}",
            lost.dataset,
            lost.lineage.as_str(),
            lost.from,
            lost.to
        )?;
    }
    for void in &report.void {
        writeln!(text, "void: snapshot {void} was published by a leader that had been replaced")?;
    }
    let how = if read_data {
        format!("{} read", bytes(report.read_bytes))
    } else {
        "packs listed, not read (--read-data reads them)".to_owned()
    };
    writeln!(
        text,
        "{} snapshots, {} log objects, {} packs, {} chunks; {how}",
        report.snapshots, report.logs, report.packs, report.chunks
    )?;
    if report.garbage_objects > 0 {
        writeln!(text, "{} objects belong to nothing; the next prune removes them", report.garbage_objects)?;
    }
    match report.is_whole() {
        true => writeln!(text, "no damage found"),
        false => writeln!(
            text,
            "{} problems; restore what is lost from a copy, or from another snapshot",
            report.problems.len()
        ),
    }
}

fn check_json(report: &CheckReport) -> Value {
    let problems: Vec<Value> =
        report.problems.iter().map(|p| json!({ "object": p.object, "what": p.what })).collect();
    let lost: Vec<Value> =
        report.lost.iter().map(|l| json!({ "snapshot": l.snapshot, "path": l.path })).collect();
    let lost_logs: Vec<Value> = report
        .lost_logs
        .iter()
        .map(|l| json!({ "dataset": l.dataset.as_str(), "lineage": l.lineage.as_str(), "from": l.from, "to": l.to }))
        .collect();
    json!({ "whole": report.is_whole(), "problems": problems, "lost": lost, "lost_logs": lost_logs, "void": report.void, "logs": report.logs, "snapshots": report.snapshots, "packs": report.packs, "chunks": report.chunks, "read_bytes": report.read_bytes, "garbage_objects": report.garbage_objects })
}

pub(crate) fn prune(context: &Context, args: &PruneArgs) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let (forgotten, kept) = apply_retention(context, &repository, args)?;
    let progress = Arc::new(Progress::default());
    let shown = context.output.progress("pruning", &progress);
    let with_logs: BTreeSet<DatasetName> =
        kept.iter().chain(&forgotten).map(|published| published.snapshot.position.dataset.clone()).collect();
    // What is put together now leaves the small objects to this very prune.
    let compacted = if args.dry_run { Compacted::default() } else { compact(&repository, &with_logs)? };
    let cut_offs = cut_offs(&repository, &with_logs, &kept)?;
    let dry_run = args.dry_run.then(|| forgotten.iter().map(|published| published.slot.clone()).collect());
    let options = PruneOptions { max_unused_percent: args.max_unused, wait: args.wait, dry_run };
    let report = lifeboat_repository::prune_with(&repository, options, &cut_offs)?;
    drop(shown);
    for (dataset, lineage, error) in &compacted.refused {
        let error = lifeboat_base::report(error);
        context.output.warn(&format!("the log of {dataset}, lineage {lineage}, stays as it is: {error}"));
    }
    context.output.result(
        || prune_json(&report, &compacted, &forgotten, args.dry_run),
        |text| prune_text(&report, &compacted, &forgotten, args.dry_run, text),
    )?;
    let finished = report.waiting_for.is_empty() || args.dry_run;
    Ok(if finished && compacted.refused.is_empty() { Outcome::Done } else { Outcome::LeftOut })
}

/// Forgets what no rule keeps, dataset by dataset; gives what it forgot, or would, and what stays.
fn apply_retention(
    context: &Context,
    repository: &Repository,
    args: &PruneArgs,
) -> Result<(Vec<Published>, Vec<Published>), Failure> {
    let only = args.dataset.as_deref().map(dataset_name).transpose()?;
    let mut unreadable = Vec::new();
    let snapshots = repository.snapshots(only.as_ref(), &mut unreadable)?;
    if let Some(unreadable) = unreadable.pop() {
        return Err(unreadable.error.into());
    }
    let held: BTreeSet<_> = repository.holds()?.into_iter().map(|hold| hold.position).collect();
    let mut datasets: BTreeMap<String, Vec<Published>> = BTreeMap::new();
    for published in snapshots {
        datasets.entry(published.snapshot.position.dataset.to_string()).or_default().push(published);
    }
    let (mut forgotten, mut kept) = (Vec::new(), Vec::new());
    for (dataset, snapshots) in datasets {
        let Some(retain) = retention_of(context, args, &dataset) else {
            kept.extend(snapshots);
            continue;
        };
        let taken: Vec<_> = snapshots.iter().map(|p| p.snapshot.taken).collect();
        let reasons = decide(&taken, &retain);
        for (published, reasons) in snapshots.into_iter().zip(reasons) {
            let stays = !reasons.is_empty() || held.contains(&published.slot);
            if stays { kept.push(published) } else { forgotten.push(published) }
        }
    }
    if !args.dry_run && !forgotten.is_empty() {
        let signer = repository.writer()?;
        for published in &forgotten {
            repository.forget(&signer, published, "retention")?;
        }
    }
    Ok((forgotten, kept))
}

/// What was typed outranks the plan; without either nothing is forgotten.
fn retention_of(context: &Context, args: &PruneArgs, dataset: &str) -> Option<Retain> {
    let typed = [args.hourly, args.daily, args.weekly, args.monthly].iter().any(Option::is_some)
        || args.at_least.is_some();
    if typed {
        let [hourly, daily, weekly, monthly] =
            [args.hourly, args.daily, args.weekly, args.monthly].map(Option::unwrap_or_default);
        return Some(Retain { hourly, daily, weekly, monthly, at_least: args.at_least });
    }
    context.plan.datasets.get(dataset).and_then(|planned| planned.retain)
}

fn prune_text(
    report: &PruneReport,
    compacted: &Compacted,
    forgotten: &[Published],
    dry_run: bool,
    text: &mut Vec<u8>,
) -> std::io::Result<()> {
    let would = if dry_run { "would be " } else { "" };
    for published in forgotten {
        writeln!(
            text,
            "{would}forgotten: {} {} of {}",
            published.snapshot.position.dataset,
            published.id.short(),
            published.snapshot.taken
        )?;
    }
    for position in &report.voided {
        writeln!(text, "the claim of {position} had lapsed and was voided")?;
    }
    if dry_run {
        return writeln!(
            text,
            "{} would be freed; {} needed of {} stored",
            bytes(report.deleted_bytes),
            bytes(report.live_bytes),
            bytes(report.total_bytes)
        );
    }
    writeln!(
        text,
        "{} deleted in {} packs and {} index objects, {} rewritten",
        bytes(report.deleted_bytes),
        report.deleted_packs,
        report.deleted_indexes,
        bytes(report.rewritten_bytes)
    )?;
    if compacted.written > 0 || report.deleted_logs > 0 {
        writeln!(
            text,
            "{} small log objects put together in {}, {} log objects deleted",
            compacted.replaced, compacted.written, report.deleted_logs
        )?;
    }
    for waiting in &report.waiting_for {
        writeln!(text, "not finished: still waiting for {waiting}; run `lifeboat prune` again")?;
    }
    Ok(())
}

fn prune_json(report: &PruneReport, compacted: &Compacted, forgotten: &[Published], dry_run: bool) -> Value {
    json!({
        "dry_run": dry_run,
        "forgotten": forgotten.iter().map(|p| p.id.to_string()).collect::<Vec<_>>(),
        "live_bytes": report.live_bytes,
        "total_bytes": report.total_bytes,
        "condemned_packs": report.condemned_packs,
        "deleted_packs": report.deleted_packs,
        "deleted_indexes": report.deleted_indexes,
        "deleted_bytes": report.deleted_bytes,
        "rewritten_bytes": report.rewritten_bytes,
        "compacted_logs": compacted.replaced,
        "deleted_logs": report.deleted_logs,
        "voided": report.voided.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "waiting_for": report.waiting_for,
    })
}

pub(crate) fn forget(context: &Context, args: &ForgetArgs) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let dataset = dataset_name(&args.dataset)?;
    // All are found before the first is forgotten.
    let found: Vec<Published> = args
        .snapshots
        .iter()
        .map(|which| find_point(&repository, &dataset, which, context.output))
        .collect::<Result<_, _>>()?;
    let signer = repository.writer()?;
    for published in &found {
        repository.forget(&signer, published, &args.reason)?;
    }
    context.output.result(
        || json!({ "forgotten": found.iter().map(|p| p.id.to_string()).collect::<Vec<_>>() }),
        |text| {
            found.iter().try_for_each(|p| {
                writeln!(
                    text,
                    "forgotten: {dataset} {} of {}; `lifeboat prune` gives back its space",
                    p.id.short(),
                    p.snapshot.taken
                )
            })
        },
    )?;
    Ok(Outcome::Done)
}

pub(crate) fn hold(context: &Context, command: &HoldCommand) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    match command {
        HoldCommand::Add { dataset, snapshot, reason } => {
            let published = find_point(&repository, &dataset_name(dataset)?, snapshot, context.output)?;
            let hold = repository.hold(&repository.writer()?, &published, reason)?;
            context.output.result(
                || hold_json(&hold),
                |text| {
                    writeln!(
                        text,
                        "held: {dataset} {} ({reason}); `lifeboat hold release {}` ends it",
                        published.id.short(),
                        &hold.ticket.to_string()[..8]
                    )
                },
            )?;
        }
        HoldCommand::List => {
            let holds = repository.holds()?;
            context.output.result(
                || json!({ "holds": holds.iter().map(hold_json).collect::<Vec<_>>() }),
                |text| {
                    holds.iter().try_for_each(|h| {
                        writeln!(
                            text,
                            "{}  {}  since {}  {}",
                            &h.ticket.to_string()[..8],
                            h.position,
                            h.at,
                            h.reason
                        )
                    })
                },
            )?;
        }
        HoldCommand::Release { hold } => {
            let tickets: Vec<TicketId> = repository.holds()?.into_iter().map(|h| h.ticket).collect();
            let ticket = by_digits(&tickets, hold, "hold")?;
            repository.release_hold(&repository.writer()?, &ticket)?;
            context.output.result(
                || json!({ "released": ticket.to_string() }),
                |text| writeln!(text, "released: {ticket}"),
            )?;
        }
    }
    Ok(Outcome::Done)
}

fn hold_json(hold: &lifeboat_repository::Hold) -> Value {
    json!({ "hold": hold.ticket.to_string(), "position": hold.position.to_string(), "since": hold.at.to_string(), "reason": hold.reason })
}

/// The one of several identities that starts with some digits.
pub(crate) fn by_digits<T: ToString + Copy>(all: &[T], digits: &str, what: &str) -> Result<T, Failure> {
    let mut matching = all.iter().filter(|id| id.to_string().starts_with(&digits.to_ascii_lowercase()));
    match (matching.next(), matching.next()) {
        (Some(one), None) if digits.len() >= 4 => Ok(*one),
        (Some(_), _) => Err(Failure::usage(
            format!("{digits} does not tell one {what} from the others"),
            "Give more digits, at least four.",
        )),
        (None, _) => Err(Failure::usage(
            format!("there is no {what} {digits}"),
            format!(
                "List what there is: `lifeboat {} list`.",
                if what == "hold" {
                    "hold"
                } else if what == "key slot" {
                    "key"
                } else {
                    "repo writers"
                }
            ),
        )),
    }
}
