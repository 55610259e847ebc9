//! Which run is meant and where it is: on this machine, or on another one, seen through the repository.
//!
//! A run of this machine is asked and shown here, without a network. One that is not here is looked for in the plan's
//! repository by itself: whoever was told to agree should not have to know where a run is executed.

use super::screen::{day_and_time, news};
use super::{failed, mirror, of_run, pinned, runs};
use crate::context::Context;
use crate::failure::Failure;
use lifeboat_run::mirror::{Mirror, Mirrored};
use lifeboat_run::{Event, Record, RunFolder, RunId, RunState};
use lifeboat_runbook::Runbook;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

const SEE_LIST: &str =
    "`lifeboat runbook list --mirrored` shows the runs of this machine and of the repository.";

/// A run that people mean.
pub(super) enum Meant {
    /// It is on this machine.
    Here(RunFolder),
    /// It is what its mirror says that it is.
    Elsewhere(Box<Elsewhere>),
}

/// A run seen through the repository.
pub(super) struct Elsewhere {
    pub(super) mirror: Arc<dyn Mirror>,
    pub(super) seen: Mirrored,
}

/// What of a run can be looked at, wherever it is.
pub(super) struct View {
    pub(super) run: RunId,
    pub(super) runbook: Runbook,
    pub(super) state: RunState,
    pub(super) records: Vec<Record>,
    /// Records of executors that had been taken over from.
    pub(super) void: Vec<Record>,
}

/// Whether whoever looks also wants to say something: that takes a key that may write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Look,
    Ask,
}

/// The run that is meant: by its name or the beginning of it. Of this machine, unless only the repository has it or it
/// is wanted as that has it.
pub(super) fn meant(context: &Context, text: &str, mirrored: bool, to: To) -> Result<Meant, Failure> {
    if mirrored {
        return elsewhere(context, text, to)?
            .ok_or_else(|| Failure::usage(format!("there is no run {text:?} in the repository"), SEE_LIST));
    }
    if let Some(folder) = here(context, text)? {
        return if is_only_fetched(&folder) { fetched(context, folder, to) } else { Ok(Meant::Here(folder)) };
    }
    let is_name = text.parse::<RunId>().is_ok();
    if !is_name || !context.names_repository() {
        return Err(nowhere(text));
    }
    let there = elsewhere(context, text, to).map_err(|failure| Failure {
        message: format!(
            "there is no run {text:?} on this machine, and not to be seen in the repository: {}",
            failure.message
        ),
        ..failure
    })?;
    if there.is_some() {
        context.output.note("the run is not on this machine: this goes through the repository");
    }
    there.ok_or_else(|| {
        Failure::usage(format!("there is no run {text:?} on this machine, nor in the repository"), SEE_LIST)
    })
}

/// Whether a mirrored run was fetched here to take it over, and was not taken over: nobody here executes it. What
/// cannot be read is not judged here.
fn is_only_fetched(folder: &RunFolder) -> bool {
    let Ok(story) = folder.story() else { return false };
    match story.records.first().map(|(record, _)| &record.event) {
        Some(Event::Begun(begun)) => begun.mirror.is_some() && story.generation() != story.newest,
        _ => true,
    }
}

/// It is asked where it is executed. What is here may still be looked at where the repository does not answer.
fn fetched(context: &Context, folder: RunFolder, to: To) -> Result<Meant, Failure> {
    if !context.names_repository() {
        return Ok(Meant::Here(folder));
    }
    match elsewhere(context, folder.run().as_str(), to) {
        Ok(Some(there)) => {
            let what = "the run was not taken over by this machine: this goes through the repository";
            context.output.note(what);
            Ok(there)
        }
        Err(failure) if to == To::Ask => Err(failure),
        Ok(None) | Err(_) => Ok(Meant::Here(folder)),
    }
}

/// The run of this machine that is meant.
pub(super) fn find(context: &Context, text: &str) -> Result<RunFolder, Failure> {
    here(context, text)?.ok_or_else(|| nowhere(text))
}

/// The run that the repository has and that is meant.
pub(super) fn mirrored(context: &Context, text: &str) -> Result<RunId, Failure> {
    let all = mirror::to_look_at(context)?.runs().map_err(|error| failed(&error))?;
    one(&all, text)?.cloned().ok_or_else(|| {
        Failure::usage(format!("there is no run {text:?} on this machine, nor in the repository"), SEE_LIST)
    })
}

fn nowhere(text: &str) -> Failure {
    Failure::usage(
        format!("there is no run {text:?} on this machine"),
        "`lifeboat runbook list` shows the runs; `--mirrored` those of the repository as well.",
    )
}

/// The run of this machine that is meant, if it has one.
pub(super) fn here(context: &Context, text: &str) -> Result<Option<RunFolder>, Failure> {
    let runs = runs(context)?;
    let all = runs.list().map_err(|error| failed(&error))?;
    let run = one(&all, text)?;
    run.map(|run| runs.open(run).map_err(|error| failed(&error))).transpose()
}

/// The one that a text names, whole or by its beginning.
fn one<'r>(all: &'r [RunId], text: &str) -> Result<Option<&'r RunId>, Failure> {
    if let Some(run) = all.iter().find(|run| run.as_str() == text) {
        return Ok(Some(run));
    }
    let meant: Vec<&RunId> = all.iter().filter(|run| run.as_str().starts_with(text)).collect();
    match meant.as_slice() {
        [] => Ok(None),
        [run] => Ok(Some(run)),
        several => {
            let names: Vec<&str> = several.iter().map(|run| run.as_str()).collect();
            Err(Failure::usage(
                format!("{text:?} may be {} runs: {}", several.len(), names.join(", ")),
                "Write more of its name.",
            ))
        }
    }
}

fn elsewhere(context: &Context, text: &str, to: To) -> Result<Option<Meant>, Failure> {
    let mirror = match to {
        To::Ask => mirror(context)?,
        To::Look => mirror::to_look_at(context)?,
    };
    let all = mirror.runs().map_err(|error| failed(&error))?;
    let Some(run) = one(&all, text)? else { return Ok(None) };
    let seen = Mirrored::read(&*mirror, run).map_err(|error| of_run(&error))?;
    Ok(Some(Meant::Elsewhere(Box::new(Elsewhere { mirror, seen }))))
}

impl Meant {
    /// What can be looked at.
    pub(super) fn view(&self) -> Result<View, Failure> {
        match self {
            Self::Here(folder) => view_here(folder),
            Self::Elsewhere(there) => {
                let seen = &there.seen;
                let (run, state, records) =
                    (seen.begun.run.clone(), seen.state.clone(), seen.records.clone());
                let runbook = runbook(&seen.document)?;
                Ok(View { run, runbook, state, records, void: Vec::new() })
            }
        }
    }

    /// Where captured output lies, where that can be read here.
    pub(super) fn folder(&self) -> Option<(PathBuf, PathBuf)> {
        match self {
            Self::Here(folder) => Some((folder.path().to_owned(), folder.output())),
            Self::Elsewhere(_) => None,
        }
    }
}

fn view_here(folder: &RunFolder) -> Result<View, Failure> {
    let story = folder.story().map_err(|error| failed(&error))?;
    let records: Vec<Record> = story.records.into_iter().map(|(record, _)| record).collect();
    let state = RunState::of(&records).map_err(|error| Failure::failed(lifeboat_base::report(&error)))?;
    let document = folder.document().map_err(|error| failed(&error))?;
    Ok(View { run: folder.run().clone(), runbook: runbook(&document)?, state, records, void: story.void })
}

fn runbook(document: &[u8]) -> Result<Runbook, Failure> {
    pinned(document).map_err(|error| Failure::failed(error.to_string()))
}

impl View {
    /// What happened, a line each.
    pub(super) fn news(&self) -> Vec<String> {
        self.records.iter().filter_map(news).collect()
    }
}

impl Elsewhere {
    /// As a document.
    pub(super) fn document(&self) -> Value {
        let by = self.seen.executed_by();
        json!({
            "place": self.seen.place,
            "by": by.by,
            "host": by.host,
            "since": by.since.to_string(),
            "record": self.seen.state.number,
            "at": self.seen.state.latest.to_string(),
        })
    }

    /// For people.
    pub(super) fn say(&self, text: &mut Vec<u8>) -> io::Result<()> {
        let by = self.seen.executed_by();
        writeln!(text, "as mirrored in {}", self.seen.place)?;
        writeln!(text, "executed by {} on {} since {}", by.by, by.host, day_and_time(by.since))?;
        writeln!(text, "as far as {} says", self.last())
    }

    /// The last record, and when it was.
    pub(super) fn last(&self) -> String {
        format!("record {} at {}", self.seen.state.number, day_and_time(self.seen.state.latest))
    }
}
