//! Beginning a run, and going on with one.

use super::meant::{here, mirrored};
use super::{drive, failed, find, house, mirror, mirror_in_time, of_run, person, pinned, read, runs, tell};
use crate::args::{ResumeArgs, RunArgs};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::time::instant;
use lifeboat_base::clock::Timestamp;
use lifeboat_run::{
    Begin, DryRun, Event, Executor, FolderError, Given, House, Obstacle, Record, Request, RunFolder, RunId,
    StoppedStatement, dry_run,
};
use lifeboat_runbook::{InputKind, Runbook};
use std::collections::BTreeMap;
use std::io::Write;

pub(super) fn run(context: &Context, args: &RunArgs) -> Result<Outcome, Failure> {
    let (text, runbook) = read(context.output, &args.file)?;
    let inputs = inputs(&runbook, &args.inputs)?;
    if args.dry_run {
        // Nobody does anything.
        return look(context, &runbook, &inputs, &house(context, "", args.drive.width)?);
    }
    let house = tell::telling(context, house(context, &person(args.drive.by.as_deref())?, args.drive.width)?);
    let since = args.since.as_deref().map(|text| time(context, text)).transpose()?;
    let house = House { mirror: if args.mirror { Some(mirror(context)?) } else { None }, ..house };
    let begin = Begin { document: text.into_bytes(), runbook: runbook.clone(), inputs, since, rto: None };
    let executor = Executor::begin_run(&runs(context)?, house, begin).map_err(|error| of_run(&error))?;
    drive::drive(context, executor, &runbook, &args.drive, &[])
}

pub(super) fn resume(context: &Context, args: &ResumeArgs) -> Result<Outcome, Failure> {
    let who = person(args.drive.by.as_deref())?;
    let mut house = tell::telling(context, house(context, &who, args.drive.width)?);
    let (run, folder) = meant(context, args)?;
    house.mirror = match folder {
        None => Some(mirror(context)?),
        // A fetch that was cut off before the first record: only the mirror has the run.
        Some(folder) if args.take_over && has_nothing(&folder)? && context.names_repository() => {
            Some(mirror(context)?)
        }
        Some(folder) if is_mirrored(&folder)? => Some(mirror_in_time(context)?),
        Some(_) => None,
    };
    let runs = runs(context)?;
    let executor = if args.take_over {
        let stopped = args.stopped.clone().map(|text| StoppedStatement { text });
        Executor::take_over(&runs, &run, house, &pinned, stopped)
    } else {
        Executor::resume(&runs, &run, house, &pinned)
    };
    let executor = executor.map_err(|error| of_run(&error))?;
    if executor.state().reason.as_deref() == Some(drive::TOLD_TO_END) {
        executor.asker().ask(Request::Resume { by: who });
    }
    let folder = runs.open(&run).map_err(|error| failed(&error))?;
    let document = folder.document().map_err(|error| failed(&error))?;
    let past = folder.story().map_err(|error| failed(&error))?.records;
    let runbook = pinned(&document).map_err(|error| Failure::failed(error.to_string()))?;
    let past: Vec<Record> = past.into_iter().map(|(record, _)| record).collect();
    drive::drive(context, executor, &runbook, &args.drive, &past)
}

/// A run of this machine; to be taken over, also one that only the mirror has.
fn meant(context: &Context, args: &ResumeArgs) -> Result<(RunId, Option<RunFolder>), Failure> {
    if args.take_over && context.names_repository() {
        return Ok(match here(context, &args.run)? {
            Some(folder) => (folder.run().clone(), Some(folder)),
            None => (mirrored(context, &args.run)?, None),
        });
    }
    let folder = find(context, &args.run)?;
    Ok((folder.run().clone(), Some(folder)))
}

fn has_nothing(folder: &RunFolder) -> Result<bool, Failure> {
    Ok(folder.story().map_err(|error: FolderError| failed(&error))?.records.is_empty())
}

pub(super) fn is_mirrored(folder: &RunFolder) -> Result<bool, Failure> {
    let story = folder.story().map_err(|error: FolderError| failed(&error))?;
    let first = story.records.first().map(|(record, _)| &record.event);
    Ok(matches!(first, Some(Event::Begun(begun)) if begun.mirror.is_some()))
}

/// What the run is given: what was said, and what the document says where nothing was.
fn inputs(runbook: &Runbook, said: &[(String, String)]) -> Result<BTreeMap<String, Given>, Failure> {
    let declared = &runbook.front.inputs;
    if let Some((unknown, _)) = said.iter().find(|(name, _)| !declared.contains_key(name)) {
        let nearest = lifeboat_plan::nearest(unknown, declared.keys().map(String::as_str));
        let hint = nearest.map_or_else(
            || format!("It has these: {}.", list(declared.keys())),
            |nearest| format!("Did you mean `{nearest}`?"),
        );
        return Err(Failure::usage(format!("the runbook has no input {unknown:?}"), hint));
    }
    let mut given = BTreeMap::new();
    let mut missing = Vec::new();
    for (name, input) in declared {
        let said = said.iter().rev().find(|(its, _)| its == name).map(|(_, value)| value);
        let Some(value) = said.or(input.default.as_ref()) else {
            missing.push(name);
            continue;
        };
        input.accepts(value).map_err(|why| {
            Failure::usage(
                format!("input {name}: {why}"),
                "`lifeboat runbook show FILE` says what its inputs are.",
            )
        })?;
        let is_secret = input.kind == InputKind::Secret;
        let value = value.clone();
        given.insert(name.clone(), if is_secret { Given::Secret(value) } else { Given::Value(value) });
    }
    if missing.is_empty() {
        return Ok(given);
    }
    Err(Failure::usage(
        format!("the runbook has to be told: {}", list(missing)),
        "Say each with --input NAME=VALUE; `lifeboat runbook show FILE` says what they are.",
    ))
}

fn list<'n>(names: impl IntoIterator<Item = &'n String>) -> String {
    names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn time(context: &Context, text: &str) -> Result<Timestamp, Failure> {
    instant(text, context.output)?.ok_or_else(|| {
        Failure::usage(format!("{text} is no time"), "Write RFC 3339, such as 2026-11-22T03:00:00Z.")
    })
}

fn look(
    context: &Context,
    runbook: &Runbook,
    inputs: &BTreeMap<String, Given>,
    house: &House,
) -> Result<Outcome, Failure> {
    let found = dry_run(runbook, inputs, house);
    let telling = tell::foreseen(context, runbook);
    let json = || {
        let mut document = serde_json::to_value(&found).unwrap_or_default();
        if let Some(document) = document.as_object_mut() {
            document.insert("telling".to_owned(), serde_json::to_value(&telling).unwrap_or_default());
        }
        document
    };
    context.output.result(json, |text| {
        say(runbook, &found, text)?;
        tell::say(&telling, text)
    })?;
    Ok(if found.findings.is_empty() { Outcome::Done } else { Outcome::Failed })
}

fn say(runbook: &Runbook, found: &DryRun, text: &mut Vec<u8>) -> std::io::Result<()> {
    writeln!(text, "{}: {} blocks were looked at, nothing was done", runbook.title, found.blocks)?;
    for finding in &found.findings {
        let (kind, what) = match &finding.obstacle {
            Obstacle::Value(what) => ("value", what),
            Obstacle::Carrying(what) => ("carrying it out", what),
            Obstacle::Consent(what) => ("consent", what),
            Obstacle::Person(what) => ("person", what),
        };
        writeln!(text, "line {:>3}  {:<20} {kind}: {what}", finding.line, finding.block.as_str())?;
    }
    if found.findings.is_empty() {
        writeln!(text, "everything that it needs is there")?;
    }
    Ok(())
}
