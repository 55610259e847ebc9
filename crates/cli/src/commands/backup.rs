//! `lifeboat backup`: a snapshot now.

use crate::args::{BackupArgs, WhatArgs};
use crate::commands::{problems_json, say_problems};
use crate::context::{Context, dataset_name};
use crate::failure::{Failure, Outcome};
use crate::guard::refuse_url;
use crate::output::{bytes, duration};
use crate::recording;
use lifeboat_evidence::Action;
use lifeboat_recovery::protect::{ProtectOptions, ProtectReport, protect, protect_stream};
use lifeboat_recovery::{RecoveryError, Target, is_postgres};
use lifeboat_repository::Repository;
use lifeboat_repository::ids::DatasetName;
use lifeboat_store::exclude::{Exclude, Patterns};
use lifeboat_store::progress::Progress;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// What is to be protected, and as which dataset.
struct Job {
    dataset: DatasetName,
    /// A path or a URL, which may come from the environment with a password in it: it is never shown.
    target: OsString,
    exclude: Vec<String>,
}

pub(crate) fn run(context: &Context, args: &BackupArgs) -> Result<Outcome, Failure> {
    if args.stdin {
        return stream(context, args);
    }
    let jobs = jobs(context, args)?;
    refuse_one_name_twice(&jobs)?;
    let repository = context.open()?;
    let (mut outcome, mut documents) = (Outcome::Done, Vec::new());
    for job in jobs {
        adopt(&repository, args, &job.dataset)?;
        let (document, ended) = match back_up(context, &repository, args, &job) {
            Ok(report) => {
                context.did(recording::protected(Action::Backup, &report));
                (said(context, &job.dataset, &report)?, left_out(&report))
            }
            Err(failure) if failure.code == 2 => return Err(failure),
            Err(failure) => {
                context.did(recording::failed(Action::Backup, job.dataset.as_str(), &failure));
                context.output.one_failure(job.dataset.as_str(), &failure);
                (json!({ "dataset": job.dataset.as_str(), "error": failure.message }), Outcome::Failed)
            }
        };
        documents.push(document);
        outcome = outcome.worse(ended);
    }
    if context.output.json {
        context.output.result(|| json!({ "backups": documents }), |_| Ok(()))?;
    }
    Ok(outcome)
}

fn back_up(
    context: &Context,
    repository: &Arc<Repository>,
    args: &BackupArgs,
    job: &Job,
) -> Result<ProtectReport, Failure> {
    let target = Target::named(&job.target)?;
    let mut what = args.what.clone();
    what.exclude.splice(0..0, job.exclude.iter().cloned());
    let progress = Arc::new(Progress::default());
    let _shown = context.output.progress(&format!("protecting {}", job.dataset), &progress);
    Ok(protect(repository, &job.dataset, &target, &protect_options(context, &what)?, &progress)?)
}

fn stream(context: &Context, args: &BackupArgs) -> Result<Outcome, Failure> {
    let name = args.name.as_deref().unwrap_or_default();
    let dataset = dataset_name(name)?;
    let repository = context.open()?;
    adopt(&repository, args, &dataset)?;
    let progress = Arc::new(Progress::default());
    let shown = context.output.progress(&format!("protecting {dataset}"), &progress);
    let report = protect_stream(&repository, &dataset, name, &mut std::io::stdin().lock(), &progress)?;
    drop(shown);
    context.did(recording::protected(Action::Backup, &report));
    let document = said(context, &dataset, &report)?;
    if context.output.json {
        context.output.result(|| json!({ "backups": [document] }), |_| Ok(()))?;
    }
    Ok(Outcome::Done)
}

fn adopt(repository: &Repository, args: &BackupArgs, dataset: &DatasetName) -> Result<(), Failure> {
    if args.adopt {
        let signer = repository.writer()?;
        repository.adopt(&signer.id(), dataset)?;
    }
    Ok(())
}

fn jobs(context: &Context, args: &BackupArgs) -> Result<Vec<Job>, Failure> {
    if let Some(name) = &args.name {
        let [target] = args.targets.as_slice() else {
            return Err(Failure::usage(
                "--name goes with one folder or database",
                "lifeboat backup ./tree --name tree",
            ));
        };
        refuse_url(target.as_ref())?;
        return Ok(vec![Job { dataset: dataset_name(name)?, target: target.into(), exclude: Vec::new() }]);
    }
    let planned = |name: &str| {
        context.plan.datasets.get(name).map(|dataset| (dataset.store.clone(), dataset.exclude.clone()))
    };
    if args.targets.is_empty() {
        if context.plan.datasets.is_empty() {
            return Err(Failure::usage(
                "nothing to back up is named",
                "lifeboat backup ./tree --name tree, or declare datasets in lifeboat.toml.",
            ));
        }
        return context.plan.datasets.keys().map(|name| job(name, planned(name))).collect();
    }
    args.targets
        .iter()
        .map(|target| match planned(target) {
            Some(found) => job(target, Some(found)),
            None if is_postgres(target) || Path::new(target).exists() => {
                refuse_url(target.as_ref())?;
                let detected = Target::named(target.as_ref()).map_err(Failure::from)?;
                job(&detected.default_name(), Some((target.clone(), Vec::new())))
            }
            None => refuse_url(target.as_ref()).and(Err(Failure::usage(
                format!("{target} is neither a dataset of the plan nor a folder or database"),
                "Check the name or the path.",
            ))),
        })
        .collect()
}

/// Two targets of the same name would become snapshots of one dataset.
fn refuse_one_name_twice(jobs: &[Job]) -> Result<(), Failure> {
    let mut seen = std::collections::BTreeMap::new();
    for job in jobs {
        // As paths, for which a slash at the end means nothing.
        let target = Path::new(&job.target);
        if seen.insert(&job.dataset, target).is_some_and(|other| other != target) {
            return Err(Failure::usage(
                format!("two of the targets would both be dataset {}", job.dataset),
                "Back them up one at a time, each with its own --name.",
            ));
        }
    }
    Ok(())
}

fn job(name: &str, found: Option<(String, Vec<String>)>) -> Result<Job, Failure> {
    let (store, exclude) = found.unwrap_or_default();
    Ok(Job { dataset: dataset_name(name)?, target: store_of(&store)?, exclude })
}

/// Where a dataset is, from what the plan or a person says: a path, a URL without secrets, or `env:NAME`.
pub(crate) fn store_of(store: &str) -> Result<OsString, Failure> {
    if let Some(name) = store.strip_prefix("env:") {
        return std::env::var_os(name).ok_or_else(|| {
            Failure::usage(
                format!("the environment variable {name} is not set, and a dataset is kept where it says"),
                format!("Set {name}."),
            )
        });
    }
    refuse_url(store.as_ref())?;
    Ok(store.strip_prefix("file:").or_else(|| store.strip_prefix("sqlite:")).unwrap_or(store).into())
}

/// What of a target is taken, from what was typed.
pub(crate) fn protect_options(context: &Context, what: &WhatArgs) -> Result<ProtectOptions, Failure> {
    let patterns = Patterns::parse(&what.exclude).map_err(RecoveryError::from)?;
    let exclude = Exclude { patterns, caches: what.exclude_caches, one_file_system: what.one_file_system };
    Ok(ProtectOptions {
        exclude,
        never: context.own_folders(),
        max_stall: Some(what.max_stall),
        leadership: None,
    })
}

/// Whether everything was taken.
pub(crate) fn left_out(report: &ProtectReport) -> Outcome {
    if report.left_out.is_empty() && report.torn.is_empty() { Outcome::Done } else { Outcome::LeftOut }
}

/// Says what was protected; gives the same for programs.
fn said(context: &Context, dataset: &DatasetName, report: &ProtectReport) -> Result<Value, Failure> {
    let (id, snapshot) = (report.published.id, &report.published.snapshot);
    let stats = &snapshot.stats;
    say_problems(context.output, "left out", &report.left_out);
    say_problems(context.output, "changed while it was read", &report.torn);
    for note in &report.notes {
        context.output.note(note);
    }
    if !context.output.json {
        context.output.result(
            || Value::Null,
            |text| {
                write!(
                    text,
                    "{dataset}: snapshot {} of {}: {} in {} files",
                    id.short(),
                    snapshot.taken,
                    bytes(stats.content_bytes),
                    stats.files
                )?;
                if stats.unchanged > 0 {
                    write!(text, " ({} unchanged)", stats.unchanged)?;
                }
                writeln!(
                    text,
                    ", {} new, stored as {}, {}",
                    bytes(stats.new_bytes),
                    bytes(stats.stored_bytes),
                    duration(report.took)
                )
            },
        )?;
    }
    Ok(json!({
        "dataset": dataset.as_str(),
        "snapshot": id.to_string(),
        "position": report.published.slot.to_string(),
        "taken": snapshot.taken.to_string(),
        "store": snapshot.store,
        "files": stats.files,
        "directories": stats.directories,
        "unchanged": stats.unchanged,
        "content_bytes": stats.content_bytes,
        "new_bytes": stats.new_bytes,
        "stored_bytes": stats.stored_bytes,
        "left_out": problems_json(&report.left_out),
        "changed_while_read": problems_json(&report.torn),
        "notes": report.notes,
        "facts": snapshot.facts,
        "seconds": report.took.as_secs_f64(),
    }))
}
