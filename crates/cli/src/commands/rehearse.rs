//! `lifeboat rehearse`: the whole way at once, measured.

use crate::args::RehearseArgs;
use crate::commands::backup::{left_out, protect_options};
use crate::commands::say_problems;
use crate::context::{Context, dataset_name, host_name};
use crate::failure::{Failure, Outcome};
use crate::guard::refuse_url;
use crate::output::{bytes, duration};
use lifeboat_recovery::postgres::ClusterProof;
use lifeboat_recovery::prove::Verdict;
use lifeboat_recovery::rehearse::{
    Loss, Rehearsal, rehearse_demonstration, rehearse_target, temporary_repository, write_until_killed,
};
use lifeboat_recovery::samples::Occasion;
use lifeboat_recovery::{RecoveryError, Scratch, Target};
use lifeboat_store::progress::Progress;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// The writer of the demonstration: the same program, in a process of its own that can be killed.
pub(crate) fn writer(database: &Path, log: &Path) -> Result<Outcome, Failure> {
    write_until_killed(database, log)?;
    Ok(Outcome::Done)
}

pub(crate) fn run(context: &Context, args: &RehearseArgs) -> Result<Outcome, Failure> {
    if let Some(target) = &args.target {
        refuse_url(target.as_os_str())?;
    }
    let within = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let mut scratch = Scratch::new(&within).map_err(RecoveryError::from)?;
    let output = context.output;
    let repository = if context.names_repository() {
        context.open()?
    } else {
        temporary_repository(&scratch, &host_name())?
    };
    let progress = Arc::new(Progress::default());
    let rehearsal = match &args.target {
        Some(path) => {
            let target = Target::named(path.as_os_str())?;
            output.note(&format!("rehearsing with {target}, which is only read"));
            let shown = output.progress("rehearsing", &progress);
            let dataset = dataset_name(&target.default_name())?;
            let mut options = protect_options(context, &args.what)?;
            // The target may hold the folder for temporary files: the repository must not take in itself.
            options.never.push(scratch.path().to_owned());
            let rehearsal = rehearse_target(&repository, &dataset, &target, &options, &scratch, &progress)?;
            drop(shown);
            // A repository that goes with the scratch folder has no forecasts.
            if context.names_repository() {
                let (published, measured) = (&rehearsal.protected.published, rehearsal.proof.measured());
                context.keep_sample(&repository, Occasion::Rehearsal, published, measured)?;
            }
            rehearsal
        }
        None => {
            let program = std::env::current_exe()
                .map_err(|error| Failure::failed(format!("find this program: {error}")))?;
            let start = |database: &Path, log: &Path| {
                let mut command = Command::new(&program);
                command.arg("rehearse-writer").arg(database).arg(log);
                command
            };
            rehearse_demonstration(&repository, &scratch, &start, &progress, &mut |text| output.note(text))?
        }
    };
    if args.keep {
        scratch.keep();
    }
    say_problems(output, "left out", &rehearsal.protected.left_out);
    say_problems(output, "changed while it was read", &rehearsal.protected.torn);
    output.result(
        || to_json(&rehearsal, &scratch, args.keep),
        |text| to_text(&rehearsal, &scratch, args.keep, text),
    )?;
    let missing = left_out(&rehearsal.protected);
    // Where every removed file is discarded on the disk at once, this takes longer than all the rest.
    let shown = output.progress("removing the scratch copies", &Arc::default());
    drop(scratch);
    drop(shown);
    Ok(match rehearsal.proof.verdict {
        Verdict::Proven => missing,
        Verdict::Failed => Outcome::Failed,
        Verdict::Inconclusive => missing.worse(Outcome::Inconclusive),
    })
}

fn to_text(rehearsal: &Rehearsal, scratch: &Scratch, keep: bool, text: &mut Vec<u8>) -> std::io::Result<()> {
    let (stats, proof) = (&rehearsal.protected.published.snapshot.stats, &rehearsal.proof);
    for (part, took) in &rehearsal.parts {
        writeln!(text, "{part:<22}{}", duration(*took))?;
    }
    writeln!(text)?;
    writeln!(
        text,
        "snapshot              {} of {}",
        rehearsal.protected.published.id.short(),
        rehearsal.protected.published.snapshot.taken
    )?;
    writeln!(
        text,
        "protected             {} in {} entries, stored as {}",
        bytes(stats.content_bytes),
        stats.files + stats.directories,
        bytes(stats.stored_bytes)
    )?;
    let rate = stats.content_bytes as f64 / rehearsal.restoring.as_secs_f64().max(0.001);
    writeln!(text, "restored              {} per second, metadata and sync included", bytes(rate as u64))?;
    write!(
        text,
        "proof                 {}: {} read back and compared",
        proof.verdict.word(),
        bytes(proof.bytes)
    )?;
    match (&proof.questions, &proof.cluster) {
        (Some(questions), _) => writeln!(
            text,
            "; integrity check, foreign keys, {} tables with {} rows",
            questions.tables.len(),
            questions.rows()
        )?,
        (None, Some(cluster)) => cluster_to_text(cluster, text)?,
        (None, None) => writeln!(text, ", {} files", proof.files)?,
    }
    for reason in &proof.reasons {
        writeln!(text, "                      {reason}")?;
    }
    for note in &rehearsal.protected.notes {
        writeln!(text, "noticed               {note}")?;
    }
    match &rehearsal.loss {
        Loss::Counted { acknowledged, recovered, lost, span, log } => {
            writeln!(text, "acknowledged writes   {acknowledged}")?;
            writeln!(text, "recovered             {recovered}")?;
            writeln!(
                text,
                "lost                  {lost}, written over {} after the snapshot",
                duration(*span)
            )?;
            if keep {
                writeln!(text, "the writer's log      {}", log.display())?;
            }
        }
        Loss::Since { taken, age } => {
            writeln!(text, "would be lost         what was written since {taken}, {} ago", duration(*age))?;
        }
    }
    if keep {
        writeln!(text, "kept                  {}", scratch.path().display())?;
    }
    Ok(())
}

fn cluster_to_text(cluster: &ClusterProof, text: &mut Vec<u8>) -> std::io::Result<()> {
    let answers = &cluster.answers;
    let rows: u64 = answers.tables.iter().map(|table| table.rows).sum();
    let server = cluster.server.as_deref().unwrap_or("(none was found)");
    writeln!(
        text,
        "; page checksums, indexes against tables, catalogues, {} foreign keys",
        answers.foreign_keys
    )?;
    writeln!(
        text,
        "server                PostgreSQL {server}, replayed {} of log",
        bytes(cluster.wal_bytes)
    )?;
    writeln!(
        text,
        "found                 {} databases, {} tables with {rows} rows",
        answers.databases.len(),
        answers.tables.len()
    )
}

fn to_json(rehearsal: &Rehearsal, scratch: &Scratch, keep: bool) -> Value {
    let (published, proof) = (&rehearsal.protected.published, &rehearsal.proof);
    let parts: serde_json::Map<String, Value> = rehearsal
        .parts
        .iter()
        .map(|(part, took)| (format!("{}_seconds", part.replace(' ', "_")), json!(took.as_secs_f64())))
        .collect();
    let loss = match &rehearsal.loss {
        Loss::Counted { acknowledged, recovered, lost, span, log } => json!({
            "acknowledged_writes": acknowledged, "recovered_writes": recovered, "lost_writes": lost,
            "lost_seconds": span.as_secs_f64(), "log": keep.then(|| log.display().to_string()),
        }),
        Loss::Since { taken, age } => json!({ "since": taken.to_string(), "seconds": age.as_secs_f64() }),
    };
    json!({
        "snapshot": published.id.to_string(),
        "taken": published.snapshot.taken.to_string(),
        "content_bytes": published.snapshot.stats.content_bytes,
        "stored_bytes": published.snapshot.stats.stored_bytes,
        "parts": parts,
        "proof": super::prove::proof_json(proof),
        "loss": loss,
        "notes": rehearsal.protected.notes,
        "kept": keep.then(|| scratch.path().display().to_string()),
    })
}
