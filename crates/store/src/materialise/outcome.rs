//! What a restore did and what it could not do, counted from several threads.

use crate::attributes::Refusal;
use crate::error::{PathError, Problems};
use crate::progress::Progress;
use std::io;
use std::sync::{Mutex, PoisonError};

/// What a restore did.
#[derive(Debug, Default)]
pub struct Report {
    /// Files with content of their own, whole.
    pub files: u64,
    /// Directories, without the root.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Pipes, sockets and devices.
    pub special: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Bytes written.
    pub bytes: u64,
    /// What could not be restored at all.
    pub left_out: Problems,
    /// Metadata that could not be set on what was restored.
    pub refused: Problems,
}

/// The report while it is made.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    report: Mutex<Report>,
}

impl Outcome {
    pub(super) fn count(&self, progress: &Progress, add: impl FnOnce(&mut Report)) {
        progress.count_entry();
        self.change(add);
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn refused(&self, path: impl Fn() -> Vec<u8>, refused: Vec<Refusal>) {
        for refusal in refused {
            let problem = PathError::new(refusal.aspect.operation(), path(), refusal.source);
            self.change(|report| report.refused.add(problem));
        }
    }

    /// Notes what could not be restored. What would fail for every other entry as well ends the restore.
    pub(super) fn left_out(&self, problem: PathError) -> Result<(), PathError> {
        if is_fatal(&problem.source) {
            return Err(problem);
        }
        self.change(|report| report.left_out.add(problem));
        Ok(())
    }

    pub(super) fn into_report(self) -> Report {
        self.report.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fatal(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::NOSPC
                | Errno::DQUOT
                | Errno::ROFS
                | Errno::IO
                | Errno::MFILE
                | Errno::NFILE
                | Errno::NOMEM
        )
    )
}
