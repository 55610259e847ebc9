//! Compaction: many small objects become one that covers the same positions.
//!
//! The small ones are not touched here. They are superseded once the compacted log names them, and leave with
//! the next prune, after a condemn list and its verdict, like everything else.

use super::catalogue::{LogCatalogue, LogExtent};
use super::object::Headed;
use super::payload::LogPayload;
use super::reader::LogReader;
use super::writer::{Description, create};
use super::{Lineage, LogError, LogMark};
use crate::bodies::{LogReplaced, LogTable};
use crate::crypto::Signer;
use crate::error::RepositoryError;
use crate::ids::DatasetName;
use crate::repository::Repository;
use crate::trust::Need;
use lifeboat_base::failpoint;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Reading, joining and sealing hold several times as much in memory.
const MAX_TARGET_BYTES: usize = 16 << 20;
/// What a compacted payload may be before it is compressed: zeros compress to next to nothing.
const MAX_JOINED_BYTES: u64 = MAX_TARGET_BYTES as u64;

/// How to compact.
#[derive(Clone, Copy, Debug)]
pub struct CompactOptions {
    /// How large compacted payloads become, in bytes; at most 16 MiB.
    pub target_bytes: usize,
    /// So many objects at least are worth one that replaces them.
    pub at_least: usize,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self { target_bytes: 8 << 20, at_least: 8 }
    }
}

/// What compaction did.
#[derive(Debug, Default)]
pub struct CompactReport {
    /// Objects that were written.
    pub written: u64,
    /// Objects that they replace; they go with the next prune.
    pub replaced: u64,
    /// Stretches that were left as they are, because they have forked or cannot be read.
    pub refused: Vec<LogError>,
}

/// Compacts one lineage of a dataset.
///
/// # Errors
/// Where `signer` may not maintain the repository, or storing failed.
pub fn compact_logs(
    repository: &Arc<Repository>,
    signer: &Signer,
    dataset: &DatasetName,
    lineage: &Lineage,
    options: CompactOptions,
) -> Result<CompactReport, LogError> {
    repository.trust().permit(&signer.id(), Need::Maintain)?;
    let catalogue = LogCatalogue::read(repository, dataset)?;
    let heads = catalogue.of(lineage);
    let mut report = CompactReport::default();
    let mut due = runs(&heads, options);
    while let Some(run) = due.pop() {
        match compact(&catalogue, lineage, signer, &heads, &run) {
            Ok(Some(replaced)) => {
                report.written += 1;
                report.replaced += replaced;
            }
            // Prune was at work where we read; the next compaction finds it settled.
            Ok(None) => {}
            // Units say only when they are read how large they are.
            Err(LogError::TooLarge { .. }) if run.len() > 2 => {
                let (one, other) = run.split_at(run.len() / 2);
                due.extend([one.to_vec(), other.to_vec()].into_iter().filter(|half| half.len() > 1));
            }
            // Two that fit no object together stay two.
            Err(LogError::TooLarge { .. }) => {}
            Err(error) if is_about_the_log(&error) => report.refused.push(error),
            Err(error) => return Err(error),
        }
    }
    failpoint::reach("log::compacted-before-list").map_err(|e| RepositoryError::Io("compact a log", e))?;
    Ok(report)
}

fn is_about_the_log(error: &LogError) -> bool {
    match error {
        LogError::Repository(error) => crate::snapshots::is_about_one_object(error),
        LogError::Hole { .. } | LogError::Forked { .. } | LogError::Unlinked { .. } => true,
        _ => false,
    }
}

/// Objects that follow each other and are worth putting together.
type Run = Vec<Arc<Headed>>;

/// Chooses from objects sorted by start: a chain that covers each position once, without the large ones.
fn runs(heads: &[Arc<Headed>], options: CompactOptions) -> Vec<Run> {
    let target = options.target_bytes.clamp(1, MAX_TARGET_BYTES);
    let mut runs: Vec<Run> = Vec::new();
    let (mut run, mut bytes, mut joined, mut end) = (Run::new(), 0, 0, 0);
    for head in heads {
        if head.body.end <= end {
            // A duplicate of what was chosen already.
            continue;
        }
        let small = head.payload_bytes() < target / 2;
        let continues = run.last().is_none_or(|last| {
            let (last, next) = (&last.body, &head.body);
            next.start <= last.end && (&next.kind, next.units) == (&last.kind, last.units)
        });
        let fits = bytes + head.payload_bytes() <= target && joined + bytes_in(head) <= MAX_JOINED_BYTES;
        if !small || !continues || !fits {
            runs.push(std::mem::take(&mut run));
            (bytes, joined) = (0, 0);
        }
        end = head.body.end;
        if small {
            bytes += head.payload_bytes();
            joined += bytes_in(head);
            run.push(head.clone());
        }
    }
    runs.push(run);
    runs.retain(|run| run.len() >= options.at_least.max(2));
    runs
}

/// What a head says of the size of its payload before it was compressed: of units, nothing.
fn bytes_in(head: &Headed) -> u64 {
    if head.body.units { 0 } else { head.body.end - head.body.start }
}

/// Writes the object that replaces a run, and gives how many objects it replaces.
fn compact(
    catalogue: &LogCatalogue,
    lineage: &Lineage,
    signer: &Signer,
    heads: &[Arc<Headed>],
    run: &[Arc<Headed>],
) -> Result<Option<u64>, LogError> {
    let (Some(front), Some(back)) = (run.first(), run.last()) else { return Ok(None) };
    let (start, end) = (front.body.start, back.body.end);
    let mut reader = LogReader::over(catalogue.clone(), lineage, start..end);
    let Some((payload, marks)) = read_all(&mut reader)? else { return Ok(None) };
    if reader.was_disturbed() {
        return Ok(None);
    }
    // Everything that lies within was compared while it was read, except for what is damaged.
    let within: Vec<&Arc<Headed>> = heads
        .iter()
        .filter(|head| start <= head.body.start && head.body.end <= end)
        .filter(|head| !reader.damaged().contains_key(&head.key))
        .collect();
    let table = LogTable { marks, replaced: replaced(catalogue.repository(), &within)? };
    let times = || within.iter().map(|head| (head.body.first, head.body.last));
    let extent = LogExtent {
        start,
        end,
        first: times().map(|(first, _)| first).min().unwrap_or(front.body.first),
        last: times().map(|(_, last)| last).max().unwrap_or(back.body.last),
    };
    let description = Description {
        dataset: catalogue.dataset(),
        lineage,
        extent,
        kind: &front.body.kind,
        predecessor: front.body.predecessor,
        generation: None,
    };
    create(catalogue.repository(), signer, &description, &payload, Some(&table))?;
    Ok(Some(within.len() as u64))
}

/// `None` where there is nothing, or two shapes of payload that cannot be joined.
fn read_all(reader: &mut LogReader) -> Result<Option<(LogPayload, Vec<LogMark>)>, LogError> {
    let mut whole: Option<(LogPayload, Vec<LogMark>)> = None;
    for piece in reader {
        let piece = piece?;
        match &mut whole {
            None => whole = Some((piece.payload, piece.marks)),
            Some((payload, marks)) => {
                if !payload.join(piece.payload) {
                    return Ok(None);
                }
                let known = marks.last().map_or(0, |mark| mark.end);
                marks.extend(piece.marks.into_iter().filter(|mark| mark.end > known));
            }
        }
    }
    Ok(whole)
}

/// The objects within, and those that they had replaced before.
fn replaced(repository: &Repository, within: &[&Arc<Headed>]) -> Result<Vec<LogReplaced>, LogError> {
    let mut replaced = BTreeSet::new();
    for head in within {
        replaced.insert((head.body.end, head.hash));
        if head.is_compacted() {
            let table = repository.read_log_table(head)?;
            replaced.extend(table.replaced.iter().map(|r| (r.end, r.body)));
        }
    }
    Ok(replaced.into_iter().map(|(end, body)| LogReplaced { end, body }).collect())
}
