//! What people ask of whoever executes a run: written into the run's inbox by any process, taken from there by the
//! executor, and recorded with what became of it.

use crate::approval::Signed;
use crate::event::Said;
use crate::folder::{FolderError, RunFolder};
use crate::journal::JournalError;
use lifeboat_base::clock::Timestamp;
use lifeboat_base::{crashsafe, hex, random};
use lifeboat_evidence::canonical;
use lifeboat_runbook::StepId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// Somebody agrees.
    Approve(Signed),
    /// Somebody did what a step for people says, or could not.
    Confirm {
        /// The step.
        step: StepId,
        /// Who.
        by: String,
        /// Whether it is done.
        done: bool,
        /// What there is to say about it.
        note: Option<String>,
    },
    /// A step is left out.
    Skip(Said),
    /// A step that failed, or its undo, is tried again.
    Again(Said),
    /// Somebody knows what happened to a step of which nobody knew.
    Settle {
        /// The step.
        step: StepId,
        /// Whether it was carried out.
        done: bool,
        /// Who says so.
        by: String,
        /// What makes them sure.
        reason: String,
        /// What it left, as they found it: everything that the document says it leaves, if it was carried out.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        outputs: BTreeMap<String, String>,
    },
    /// No more steps are begun.
    Pause {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Steps are begun again, also those that were not begun since something was missing.
    Resume {
        /// Who.
        by: String,
    },
    /// A mirrored run waits for its mirror no more, and goes on.
    LeaveMirror {
        /// Who.
        by: String,
        /// How they know that nobody goes on with it elsewhere.
        reason: String,
    },
    /// The run is given up.
    Abort {
        /// Who.
        by: String,
        /// Why.
        reason: String,
        /// Whether what was done is undone.
        undo: bool,
    },
}

impl Request {
    /// Who asks.
    pub fn by(&self) -> &str {
        match self {
            Self::Approve(signed) => &signed.by,
            Self::Skip(said) | Self::Again(said) => &said.by,
            Self::Confirm { by, .. }
            | Self::Settle { by, .. }
            | Self::Pause { by, .. }
            | Self::Resume { by }
            | Self::LeaveMirror { by, .. }
            | Self::Abort { by, .. } => by,
        }
    }

    /// In a few words.
    pub(crate) fn what(&self) -> String {
        match self {
            Self::Approve(signed) => format!("approve {}", signed.block),
            Self::Confirm { step, .. } => format!("confirm {step}"),
            Self::Skip(said) => format!("skip {}", said.step),
            Self::Again(said) => format!("try {} again", said.step),
            Self::Settle { step, .. } => format!("settle {step}"),
            Self::Pause { .. } => "pause".to_owned(),
            Self::Resume { .. } => "resume".to_owned(),
            Self::LeaveMirror { .. } => "leave the mirror".to_owned(),
            Self::Abort { .. } => "abort".to_owned(),
        }
    }
}

/// A request as it lies in the inbox.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InInbox {
    request: Request,
    /// How far the run was on this machine when it was asked: it may have gone on elsewhere before this is heard.
    seen: u64,
}

impl RunFolder {
    /// Leaves a request for whoever executes the run, now or later.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn ask(&self, request: &Request, now: Timestamp) -> Result<(), FolderError> {
        // A pause must be heard though the journal cannot be read from here: then nothing of it was seen.
        let seen = self.story().map_or(0, |story| story.number());
        let value = serde_json::to_value(InInbox { request: request.clone(), seen }).unwrap_or_default();
        let bytes = canonical::to_bytes(&value).unwrap_or_default();
        let name = format!("{:020}-{}.json", now.as_nanos().max(0), hex::encode(&random::bytes::<4>()));
        crashsafe::create(&self.inbox().join(name), &bytes)?;
        Ok(())
    }
}

/// A request that lies in the inbox.
pub(crate) struct Asked {
    pub(crate) path: PathBuf,
    pub(crate) request: Result<Request, String>,
    /// The last record that this machine had then.
    pub(crate) seen: u64,
}

/// What lies in an inbox, oldest first.
pub(crate) fn waiting(inbox: &Path) -> Result<Vec<Asked>, JournalError> {
    let listing = fs::read_dir(inbox).map_err(|e| JournalError::io("list", inbox, e))?;
    let mut paths: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    Ok(paths.into_iter().map(asked).collect())
}

fn asked(path: PathBuf) -> Asked {
    match read(&path) {
        Ok(InInbox { request, seen }) => Asked { path, request: Ok(request), seen },
        Err(why) => Asked { path, request: Err(why), seen: 0 },
    }
}

fn read(path: &Path) -> Result<InInbox, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let value = canonical::parse(&bytes).map_err(|error| lifeboat_base::report(&error))?;
    InInbox::deserialize(value).map_err(|error| error.to_string())
}
