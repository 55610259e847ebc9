//! Check: does the repository hold what it says, and if not, which snapshots and files does it cost.
//!
//! Every control object is read and judged; chains are compared with the heads that this machine has seen;
//! every pack that the index names must be there. Packs that are to be read are: their bytes against their
//! name, every chunk against its identity. What is damaged is then looked for in every snapshot. Each of these
//! is a module below; here is their order, and what is said in the end.

mod chains;
mod control;
mod files;
mod logs;
mod packs;
mod reading;
mod trusted;

use crate::error::{RepositoryError, Result};
use crate::ids::{BulkName, Position};
use crate::reader::Reader;
use crate::repository::Repository;
use std::collections::HashSet;
use std::sync::Arc;

pub use logs::LostLog;
pub use reading::{Reading, Share};

/// How thoroughly to check.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// Which packs and logs are read, with every chunk in them.
    pub read: Reading,
    /// How many packs to read at once; each takes its size in memory and more.
    pub threads: usize,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object, and the position within it where there is one.
    pub object: String,
    /// What is wrong.
    pub what: String,
}

/// A file that cannot be restored whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LostFile {
    /// The snapshot: its short identity and where it stands.
    pub snapshot: String,
    /// The path within it; empty for the whole snapshot.
    pub path: String,
}

/// What check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What it costs.
    pub lost: Vec<LostFile>,
    /// What it costs of the logs; each is among the problems as well.
    pub lost_logs: Vec<LostLog>,
    /// Snapshots, by where they stand, that leaders published after they had been replaced: they do not count.
    pub void: Vec<String>,
    /// Log objects that were looked at.
    pub logs: u64,
    /// Snapshots that were looked through.
    pub snapshots: u64,
    /// Packs that the index names.
    pub packs: u64,
    /// Chunks that the index names.
    pub chunks: u64,
    /// Bytes of packs and logs that were read.
    pub read_bytes: u64,
    /// Objects that nothing refers to; the next prune removes them.
    pub garbage_objects: u64,
}

impl CheckReport {
    /// Whether everything is as it should be.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty() && self.lost.is_empty() && self.lost_logs.is_empty()
    }
}

/// Tells how far a check has come: bytes read, bytes to read.
pub type CheckProgress<'p> = dyn Fn(u64, u64) + Sync + 'p;

/// Checks a repository.
///
/// # Errors
/// Only where the store cannot be listed at all: whatever can be said about single objects is in the report.
pub fn check(
    repository: &Arc<Repository>,
    options: CheckOptions,
    progress: &CheckProgress<'_>,
) -> Result<CheckReport> {
    let mut check = Check { repository, options, report: CheckReport::default() };
    check.trust()?;
    let lists = check.lists()?;
    let snapshots = check.chains()?;
    let index = check.index(&lists)?;
    if check.stops_readers()? {
        snapshots.iter().for_each(|published| check.lose_whole(&published.slot));
    }
    let bad = check.packs(&index, &lists, progress)?;
    check.snapshots(index, &bad, &snapshots)?;
    control::check(&mut check, &snapshots)?;
    logs::check(&mut check, &snapshots)?;
    check.report.lost.sort();
    check.report.lost.dedup();
    Ok(check.report)
}

/// Blocks that cannot be read, by pack and number within it, which stay what they are when the index is read
/// again.
type Bad = HashSet<(BulkName, u32)>;

struct Check<'r> {
    repository: &'r Arc<Repository>,
    options: CheckOptions,
    report: CheckReport,
}

impl Check<'_> {
    fn problem(&mut self, object: impl ToString, what: impl ToString) {
        let problem = Problem { object: object.to_string(), what: what.to_string() };
        // The same damage is met on several ways.
        if !self.report.problems.contains(&problem) {
            self.report.problems.push(problem);
        }
    }

    /// Names a whole snapshot as lost.
    fn lose_whole(&mut self, position: &Position) {
        self.report.lost.push(LostFile { snapshot: position.to_string(), path: String::new() });
    }

    /// Takes an error about an object as a problem; others end the check.
    fn note<T>(&mut self, object: impl ToString, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(RepositoryError::Damaged { object, what }) => {
                self.problem(object, what);
                Ok(None)
            }
            Err(
                error @ (RepositoryError::RolledBack { .. }
                | RepositoryError::MissingChunk(_)
                | RepositoryError::NewerFormat { .. }),
            ) => {
                self.problem(object, error);
                Ok(None)
            }
            Err(RepositoryError::Store(error))
                if error.is_not_found() || error.kind == lifeboat_objects::ObjectErrorKind::Truncated =>
            {
                self.problem(object, lifeboat_base::report(&error));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether damage so far keeps readers from restoring anything at all, however whole the packs are.
    fn stops_readers(&mut self) -> Result<bool> {
        if self.report.problems.is_empty() {
            return Ok(false);
        }
        let listing = self.repository.snapshots(None, &mut Vec::new());
        let listed = self.note("snapshots", listing)?.is_some();
        let reader = Reader::new(self.repository);
        let opened = self.note("index", reader)?.is_some();
        Ok(!listed || !opened)
    }
}
