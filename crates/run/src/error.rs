//! What keeps a run from being begun, resumed or gone on with.

use crate::folder::FolderError;
use crate::ids::RunId;
use crate::journal::JournalError;
use crate::mirror::MirrorError;
use crate::state::Unsound;
use crate::status::Illegal;
use lifeboat_base::Hint;
use std::error::Error;

/// Why a run cannot be executed (any further) here.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its journal holds what cannot be.
    #[error("the journal of the run does not make sense")]
    Unsound(#[from] Unsound),
    /// An event that cannot follow: a fault of this program.
    #[error("the run was about to record what cannot be")]
    Illegal(#[from] Illegal),
    /// Its mirror.
    #[error("the mirror of the run")]
    Mirror(#[source] MirrorError),
    /// Its mirror did not confirm its beginning.
    #[error("the mirror does not confirm the beginning of the run: {0}")]
    MirrorSilent(String),
    /// It is mirrored, and nobody said where.
    #[error("run {run} is mirrored to {place}, and no mirror is given")]
    MirrorMissing {
        /// The run.
        run: RunId,
        /// Where.
        place: String,
    },
    /// Its pinned document does not compile here.
    #[error("read the pinned document of the run")]
    Document(#[source] Box<dyn Error + Send + Sync>),
    /// The document is not the one that the run is pinned to.
    #[error("the document of run {0} is not the one that it was begun with")]
    OtherDocument(RunId),
    /// Its folder holds no beginning.
    #[error("run {0} was never begun: its executor ended before the first record")]
    NotBegun(RunId),
    /// Somebody else has it.
    #[error("run {run} has been taken over{}", by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default())]
    TakenOver {
        /// The run.
        run: RunId,
        /// Who has it, where that is known.
        by: Option<String>,
    },
    /// Its mirror has records of the same executor that this machine lost, as after a disk was put back.
    #[error("run {run} has {here} records here and {there} in its mirror")]
    Behind {
        /// The run.
        run: RunId,
        /// So many are here.
        here: u64,
        /// So many are there.
        there: u64,
    },
    /// A person has to say that the other executor is stopped.
    #[error("{why}: a person has to state that the other executor is stopped")]
    StatementNeeded {
        /// Why.
        why: String,
    },
    /// A thread could not be started.
    #[error("start a thread")]
    Thread(#[source] std::io::Error),
    /// It is over.
    #[error("run {0} is over")]
    Over(RunId),
}

impl Hint for RunError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Folder(error) => return error.hint(),
            Self::Journal(error) => return error.hint(),
            Self::Mirror(error) => {
                return error.hint().or_else(|| {
                    Some("Check that the mirror can be reached from here; a run may also be begun without one.".to_owned())
                });
            }
            Self::MirrorSilent(_) => {
                "Resume the run when the mirror answers, or begin another one that is not mirrored."
            }
            Self::MirrorMissing { .. } => "Give the plan whose repository the run is mirrored to.",
            Self::Unsound(_) | Self::OtherDocument(_) => {
                "Keep the run's folder as it is; continue from the mirror on another machine if it is mirrored."
            }
            Self::NotBegun(_) => "Begin it anew; nothing was done.",
            Self::Behind { .. } => {
                "This machine lost records of it (a disk put back?), or shares its state with another: `--take-over` fetches what the mirror has and goes on from there."
            }
            Self::TakenOver { .. } => "Nothing more is done here; `lifeboat runbook show` says who has it.",
            Self::StatementNeeded { .. } => {
                "Make sure that the other executor is stopped (its process ended, its machine off), then take over and state how you know."
            }
            Self::Over(_) => "`lifeboat runbook show` says how it ended; begin another run.",
            Self::Illegal(_) | Self::Document(_) | Self::Thread(_) => return None,
        };
        Some(hint.to_owned())
    }
}
