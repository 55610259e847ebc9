//! Runs as a whole, on a real disk, with real scripts.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![expect(clippy::disallowed_methods, reason = "what tests write need not outlive them")]

mod any_runbook;
mod asks;
mod backward;
mod consent;
mod forward;
mod journal;
mod kills;
mod mirrors;
mod requests;
mod scripts;
mod takeovers;
mod telling;

use lifeboat_run::{
    Begin, Executor, Given, House, Record, Rest, RunError, RunId, RunState, Runs, StepStatus, Until,
};
use lifeboat_runbook::{Runbook, StepId, compile};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

/// A runbook that must be sound.
#[track_caller]
fn compiled(text: &str) -> Runbook {
    compile(text).unwrap_or_else(|faults| panic!("{faults}\n{text}"))
}

fn compile_bytes(bytes: &[u8]) -> Result<Runbook, Box<dyn Error + Send + Sync>> {
    compile(std::str::from_utf8(bytes)?).map_err(|faults| faults.to_string().into())
}

fn id(name: &str) -> StepId {
    StepId::new(name).unwrap()
}

fn house() -> House {
    House::new("tester", "host-1")
}

fn begin(text: &str, inputs: &[(&str, Given)]) -> Begin {
    Begin {
        document: text.as_bytes().to_vec(),
        runbook: compiled(text),
        inputs: inputs.iter().map(|(name, given)| ((*name).to_owned(), given.clone())).collect(),
        since: None,
        rto: None,
    }
}

fn value(text: &str) -> Given {
    Given::Value(text.to_owned())
}

/// A run in a folder of its own.
struct Tried {
    state: tempfile::TempDir,
    executor: Executor,
    records: Vec<Record>,
}

impl Tried {
    #[track_caller]
    fn begin(text: &str, inputs: &[(&str, Given)], house: House) -> Self {
        let state = tempfile::tempdir().unwrap();
        let executor = Executor::begin_run(&Runs::within(state.path()), house, begin(text, inputs)).unwrap();
        Self { state, executor, records: Vec::new() }
    }

    fn runs(&self) -> Runs {
        Runs::within(self.state.path())
    }

    fn run(&self) -> RunId {
        self.executor.state().begun.as_ref().unwrap().run.clone()
    }

    /// As far as it goes without people.
    fn drive(&mut self) -> Result<Rest, RunError> {
        let records = &mut self.records;
        let mut observer = |record: &Record, _: &RunState| records.push(record.clone());
        self.executor.drive(Until::PeopleAreNeeded, &mut observer)
    }

    fn status(&self, step: &str) -> StepStatus {
        self.executor.state().status_of(&id(step))
    }

    fn output(&self, step: &str, name: &str) -> Option<String> {
        self.executor.state().steps[&id(step)].outputs.get(name).cloned()
    }

    fn why(&self, step: &str) -> String {
        self.executor.state().steps[&id(step)].why.clone().unwrap_or_default()
    }

    /// What was recorded, by the kinds of the events.
    fn events(&self) -> Vec<String> {
        self.records.iter().map(kind).collect()
    }
}

/// The kind of a record's event.
fn kind(record: &Record) -> String {
    serde_json::to_value(&record.event).unwrap()["is"].as_str().unwrap().to_owned()
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// How often each line is in a file.
fn counted(path: &Path) -> BTreeMap<String, u32> {
    let mut counted = BTreeMap::new();
    for line in lines(path) {
        *counted.entry(line).or_default() += 1;
    }
    counted
}
