//! `lifeboat prove`: restored into scratch and questioned.

use crate::args::ProveArgs;
use crate::commands::restore::path_json;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{bytes, duration};
use crate::{point, recording};
use lifeboat_base::clock::Stopwatch;
use lifeboat_evidence::Action;
use lifeboat_recovery::import::DumpProof;
use lifeboat_recovery::postgres::{ClusterProof, ClusterQuestions, prove_cluster};
use lifeboat_recovery::prove::{Proof, Verdict, prove};
use lifeboat_recovery::queries::{Answered, Outcome as Answer, ProofQuery};
use lifeboat_recovery::samples::Occasion;
use lifeboat_repository::{Reader, Repository};
use lifeboat_store::progress::Progress;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

pub(crate) fn run(context: &Context, args: &ProveArgs) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let datasets = if args.datasets.is_empty() { all_datasets(&repository)? } else { args.datasets.clone() };
    if datasets.is_empty() {
        return Err(Failure::usage("there is no snapshot to prove", "Take one with `lifeboat backup`."));
    }
    let (mut outcome, mut documents) = (Outcome::Done, Vec::new());
    for dataset in &datasets {
        let (document, ended) = match prove_one(context, &repository, dataset, args) {
            Ok(proven) => proven,
            Err(failure) if failure.code == 2 => return Err(failure),
            // One dataset's failure leaves the others to be proven.
            Err(failure) => {
                context.did(recording::failed(Action::Proof, dataset, &failure));
                context.output.one_failure(dataset, &failure);
                (json!({ "dataset": dataset, "error": failure.message }), Outcome::Failed)
            }
        };
        documents.push(document);
        outcome = outcome.worse(ended);
    }
    if context.output.json {
        context.output.result(|| json!({ "proofs": documents }), |_| Ok(()))?;
    }
    Ok(outcome)
}

fn prove_one(
    context: &Context,
    repository: &Arc<Repository>,
    dataset: &str,
    args: &ProveArgs,
) -> Result<(Value, Outcome), Failure> {
    let progress = Arc::new(Progress::default());
    let queries = queries(context, dataset);
    let watch = Stopwatch::start();
    let path = point::find(context, repository, dataset, &args.at, &args.point)?;
    let (reader, published) = match &path {
        Some(path) => (Reader::new(repository)?, path.snapshot.clone()),
        None => context.find(repository, dataset, &args.at)?,
    };
    let resolving = watch.elapsed();
    let _pin = context.pin(repository, &[&published], "prove");
    let shown = context.output.progress(&format!("proving {dataset}"), &progress);
    let mut proof = match &path {
        Some(path) => {
            let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
            let questions = ClusterQuestions { queries, ..ClusterQuestions::default() };
            prove_cluster(&reader, path, &scratch, &questions, &progress)?
        }
        None => prove(&reader, &published, args.scratch.as_deref(), &queries, &progress)?,
    };
    drop(shown);
    proof.resolving = resolving;
    context.did(recording::proven(&published, &proof));
    context.keep_sample(repository, Occasion::Proof, &published, proof.measured())?;
    let outcome = match proof.verdict {
        Verdict::Proven => Outcome::Done,
        Verdict::Failed => Outcome::Failed,
        Verdict::Inconclusive => Outcome::Inconclusive,
    };
    let (short, taken) = (published.id.short(), published.snapshot.taken);
    if !context.output.json {
        let head = format!("{dataset}: snapshot {short} of {taken}: {}", proof.verdict.word());
        context.output.result(|| Value::Null, |text| to_text(&head, &proof, text))?;
    }
    let mut document = json!({ "dataset": dataset, "snapshot": published.id.to_string(), "taken": taken.to_string(), "proof": proof_json(&proof) });
    if let Some(path) = &path {
        document["point"] = path_json(path);
    }
    Ok((document, outcome))
}

/// What the plan wants to know of a dataset.
fn queries(context: &Context, dataset: &str) -> Vec<ProofQuery> {
    let plan = context.plan.datasets.get(dataset).and_then(|dataset| dataset.prove.as_ref());
    plan.map_or_else(Vec::new, |prove| prove.queries.iter().map(ProofQuery::from).collect())
}

/// Every dataset that has a snapshot, readable or not: what cannot be read must not pass as proven.
fn all_datasets(repository: &Repository) -> Result<Vec<String>, Failure> {
    let mut unreadable = Vec::new();
    let snapshots = repository.snapshots(None, &mut unreadable)?;
    let readable = snapshots.iter().map(|p| p.snapshot.position.dataset.to_string());
    let others = unreadable.iter().filter_map(|u| u.object.split('/').nth(1).map(str::to_owned));
    Ok(readable.chain(others).collect::<BTreeSet<String>>().into_iter().collect())
}

fn to_text(head: &str, proof: &Proof, text: &mut Vec<u8>) -> std::io::Result<()> {
    writeln!(
        text,
        "{head}; {} in {} files read back, restored in {}, questioned in {}",
        bytes(proof.bytes),
        proof.files,
        duration(proof.restoring),
        duration(proof.questioning)
    )?;
    for reason in &proof.reasons {
        writeln!(text, "  {reason}")?;
    }
    if let Some(cluster) = &proof.cluster {
        cluster_to_text(cluster, text)?;
    }
    if let Some(dump) = &proof.dump {
        dump_to_text(dump, text)?;
    }
    for query in &proof.queries {
        let answer = query.answer.as_deref().unwrap_or("no answer");
        writeln!(text, "  query {:<40} {answer:>12}", query.name)?;
    }
    if let Some(questions) = &proof.questions {
        for table in &questions.tables {
            let checksum = lifeboat_base::hex::encode(&table.checksum[..8]);
            writeln!(text, "  table {:<30} {:>10} rows  checksum {checksum}", table.name, table.rows)?;
        }
    }
    Ok(())
}

fn cluster_to_text(cluster: &ClusterProof, text: &mut Vec<u8>) -> std::io::Result<()> {
    if let Some(server) = &cluster.server {
        let (answers, wal) = (&cluster.answers, bytes(cluster.wal_bytes));
        let rows: u64 = answers.tables.iter().map(|table| table.rows).sum();
        writeln!(
            text,
            "  PostgreSQL {server} replayed {wal} of log to {} on timeline {} in {}; {} databases, {} tables with {rows} rows, {} foreign keys",
            cluster.stop,
            cluster.timeline,
            duration(cluster.replaying),
            answers.databases.len(),
            answers.tables.len(),
            answers.foreign_keys,
        )?;
    }
    for table in &cluster.answers.tables {
        writeln!(
            text,
            "  table {:<40} {:>12} rows",
            format!("{}: {}", table.database, table.table),
            table.rows
        )?;
    }
    Ok(())
}

/// What the server said that a dump was restored into.
fn dump_to_text(dump: &DumpProof, text: &mut Vec<u8>) -> std::io::Result<()> {
    let answers = &dump.answers;
    if let Some(server) = &dump.server {
        let rows: u64 = answers.tables.iter().map(|table| table.rows).sum();
        writeln!(
            text,
            "  restored into PostgreSQL {server} in {}: {} tables with {rows} rows, {} foreign keys, {} roles made for it",
            duration(dump.restoring),
            answers.tables.len(),
            answers.foreign_keys,
            dump.roles.len()
        )?;
    }
    for table in &answers.tables {
        writeln!(text, "  table {:<40} {:>12} rows", table.table, table.rows)?;
    }
    Ok(())
}

fn dump_json(dump: &DumpProof) -> Value {
    let answers = &dump.answers;
    let tables: Vec<Value> =
        answers.tables.iter().map(|table| json!({ "table": table.table, "rows": table.rows })).collect();
    json!({
        "server": dump.server,
        "restore_seconds": dump.restoring.as_secs_f64(),
        "roles": dump.roles,
        "tables": tables,
        "foreign_keys": answers.foreign_keys,
    })
}

/// What a cluster's server said, for programs.
fn cluster_json(cluster: &ClusterProof) -> Value {
    let tables: Vec<Value> = cluster
        .answers
        .tables
        .iter()
        .map(|table| json!({ "database": table.database, "table": table.table, "rows": table.rows }))
        .collect();
    json!({
        "server": cluster.server,
        "lsn": cluster.stop.to_string(),
        "timeline": cluster.timeline.0,
        "wal_bytes": cluster.wal_bytes,
        "log_seconds": cluster.fetching_log.as_secs_f64(),
        "replay_seconds": cluster.replaying.as_secs_f64(),
        "databases": cluster.answers.databases,
        "tables": tables,
        "foreign_keys": cluster.answers.foreign_keys,
    })
}

fn query_json(query: &Answered) -> Value {
    let met = match query.outcome {
        Answer::Met => Some(true),
        Answer::Missed(_) => Some(false),
        Answer::Unknown(_) => None,
    };
    json!({ "name": query.name, "answer": query.answer, "met": met })
}

/// A proof for programs.
pub(crate) fn proof_json(proof: &Proof) -> Value {
    let database = proof.questions.as_ref().map(|questions| {
        let tables: Vec<Value> = questions.tables.iter().map(|t| json!({ "name": t.name, "rows": t.rows, "checksum": lifeboat_base::hex::encode(&t.checksum) })).collect();
        json!({ "schema_objects": questions.schema.objects, "schema_hash": lifeboat_base::hex::encode(&questions.schema.hash), "tables": tables })
    });
    json!({
        "verdict": proof.verdict.word(),
        "reasons": proof.reasons,
        "files": proof.files,
        "bytes": proof.bytes,
        "resolve_seconds": proof.resolving.as_secs_f64(),
        "restore_seconds": proof.restoring.as_secs_f64(),
        "question_seconds": proof.questioning.as_secs_f64(),
        "database": database,
        "cluster": proof.cluster.as_ref().map(cluster_json),
        "dump": proof.dump.as_ref().map(dump_json),
        "queries": proof.queries.iter().map(query_json).collect::<Vec<_>>(),
    })
}
