//! `lifeboat check`, `prune`, `forget` and `hold`: keeping the repository.

use crate::args::{CheckArgs, ForgetArgs, HoldCommand, PruneArgs};
use crate::context::{Context, dataset_name};
use crate::failure::{Failure, Outcome};
use crate::output::bytes;
use crate::recording;
use crate::time::find_point;
use lifeboat_base::clock::Clock;
use lifeboat_evidence::Action;
use lifeboat_objects::location::Location;
use lifeboat_plan::{CopyPlan, Retain, Span};
use lifeboat_recovery::upkeep::{self, Upkeep, UpkeepOptions};
use lifeboat_repository::ids::{DatasetName, TicketId};
use lifeboat_repository::{CheckOptions, CheckReport, Published, Reading};
use lifeboat_store::progress::Progress;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;

pub(crate) fn check(context: &Context, args: &CheckArgs) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let progress = Arc::new(Progress::default());
    let shown = context.output.progress("checking", &progress);
    let read = args.part.map_or(Reading::everything(args.read_data), |part| Reading::share(part.share));
    let options = CheckOptions { read, threads: lifeboat_recovery::threads() };
    let report = lifeboat_repository::check(&repository, options, &|done, _| {
        progress.count_bytes(done.saturating_sub(progress.bytes()));
    })?;
    drop(shown);
    if !report.is_whole() {
        context.did(recording::checked(&report));
    }
    context.output.result(|| check_json(&report, args), |text| check_text(&report, args, text))?;
    Ok(if report.is_whole() { Outcome::Done } else { Outcome::Failed })
}

fn check_text(report: &CheckReport, args: &CheckArgs, text: &mut Vec<u8>) -> std::io::Result<()> {
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
    let read = bytes(report.read_bytes);
    let how = match &args.part {
        Some(part) => format!("part {part}: {read} read"),
        None if args.read_data => format!("{read} read"),
        None => "packs listed, not read (--read-data reads them)".to_owned(),
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

fn check_json(report: &CheckReport, args: &CheckArgs) -> Value {
    let part = args.part.map(|part| part.to_string());
    let problems: Vec<Value> =
        report.problems.iter().map(|p| json!({ "object": p.object, "what": p.what })).collect();
    let lost: Vec<Value> =
        report.lost.iter().map(|l| json!({ "snapshot": l.snapshot, "path": l.path })).collect();
    let lost_logs: Vec<Value> = report
        .lost_logs
        .iter()
        .map(|l| json!({ "dataset": l.dataset.as_str(), "lineage": l.lineage.as_str(), "from": l.from, "to": l.to }))
        .collect();
    json!({ "whole": report.is_whole(), "problems": problems, "lost": lost, "lost_logs": lost_logs, "void": report.void, "logs": report.logs, "snapshots": report.snapshots, "packs": report.packs, "chunks": report.chunks, "part": part, "read_bytes": report.read_bytes, "garbage_objects": report.garbage_objects })
}

pub(crate) fn prune(context: &Context, args: &PruneArgs) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let retain_of = |dataset: &DatasetName| retention_of(context, args, dataset);
    let options = UpkeepOptions {
        retain_of: &retain_of,
        only: args.dataset.as_deref().map(dataset_name).transpose()?,
        dry_run: args.dry_run,
        max_unused_percent: args.max_unused,
        wait: args.wait,
        now: Clock::System.now(),
    };
    let progress = Arc::new(Progress::default());
    let shown = context.output.progress("pruning", &progress);
    let done = upkeep::prune(&repository, &options)?;
    drop(shown);
    for (dataset, lineage, error) in &done.compacted.refused {
        let error = lifeboat_base::report(error);
        context.output.warn(&format!("the log of {dataset}, lineage {lineage}, stays as it is: {error}"));
    }
    let dry_run = args.dry_run;
    context.output.result(|| prune_json(&done, dry_run), |text| prune_text(&done, dry_run, text))?;
    let finished = done.report.waiting_for.is_empty() || dry_run;
    let outcome =
        if finished && done.compacted.refused.is_empty() { Outcome::Done } else { Outcome::LeftOut };
    if !dry_run {
        recording::expire(context, &repository);
        context.did(recording::pruned(&done.report, &done.forgotten, outcome));
    }
    Ok(outcome)
}

/// What was typed outranks the plan; without either nothing is forgotten.
fn retention_of(context: &Context, args: &PruneArgs, dataset: &DatasetName) -> Option<Retain> {
    let counts = [args.hourly, args.daily, args.weekly, args.monthly, args.yearly, args.days, args.versions];
    if counts.iter().all(Option::is_none) && args.at_least.is_none() && args.window.is_none() {
        let of_dataset = || context.plan.datasets.get(dataset.as_str()).and_then(|planned| planned.retain);
        return copy_here(context).and_then(|copy| copy.retain).or_else(of_dataset);
    }
    let [hourly, daily, weekly, monthly, yearly, days, versions] = counts.map(Option::unwrap_or_default);
    let (at_least, window) = (args.at_least, args.window.map(Span::new));
    Some(Retain { hourly, daily, weekly, monthly, yearly, days, versions, at_least, window })
}

/// The copy of the plan that the repository is, where it is one.
fn copy_here(context: &Context) -> Option<&CopyPlan> {
    let whole = |location: Location| match location {
        Location::Directory(path) => Location::Directory(std::path::absolute(&path).unwrap_or(path)),
        other => other,
    };
    let here = whole(context.location().ok()?);
    let is_here = |copy: &&CopyPlan| Location::parse(&copy.url).is_ok_and(|location| whole(location) == here);
    context.plan.copies.iter().find(is_here)
}

fn prune_text(done: &Upkeep, dry_run: bool, text: &mut Vec<u8>) -> std::io::Result<()> {
    let Upkeep { forgotten, compacted, report, .. } = done;
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

fn prune_json(done: &Upkeep, dry_run: bool) -> Value {
    let Upkeep { forgotten, compacted, report, .. } = done;
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
        context.did(recording::done_to(Action::Forget, published, "forgotten", &args.reason));
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
            context.did(recording::done_to(Action::Hold, &published, "held", reason));
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
            context.did(recording::changed(Action::Hold, "released", ticket));
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
