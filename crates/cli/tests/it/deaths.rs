//! An executor that dies in every step of a run: right behind the record of the intent, behind the act and before
//! anything is recorded of it, and right behind the record of the outcome.
//!
//! Where the next process dies is decided by what the last one left in the journal, and by nothing else.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// An instant of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// Its intent is recorded, and nothing done.
    Announced,
    /// It is done, and nothing recorded of that.
    Carried,
    /// Its outcome is recorded.
    Recorded,
}

/// What the executor died of so far.
#[derive(Debug, Default)]
pub(crate) struct Deaths {
    /// Steps that are never carried out once they are announced: their probe says that there is nothing to do.
    idle: Vec<&'static str>,
    seen: BTreeSet<(String, Moment)>,
    /// What people had asked for when their first request was recorded, and the executor died.
    heard: BTreeSet<String>,
    is_armed_behind_the_act: bool,
    pub(crate) processes: u32,
}

/// A step of the journal that is carried out by no person.
struct Step<'a> {
    name: &'a str,
    is_over: bool,
    /// Its probe is asked before anything else.
    is_probed: bool,
}

impl Deaths {
    pub(crate) fn new(idle: &[&'static str]) -> Self {
        Self { idle: idle.to_vec(), ..Self::default() }
    }

    /// What the next process is armed with, after one that left this behind.
    pub(crate) fn arm(&mut self, shown: &Value) -> String {
        self.processes += 1;
        if shown.is_null() {
            return self.behind(1);
        }
        let asked = asked(shown);
        match newest_step(shown).filter(|step| !step.is_over) {
            Some(step) if !self.has_seen(step.name, Moment::Carried) => {
                self.is_armed_behind_the_act = true;
                format!("run::carried={}*kill", u32::from(step.is_probed))
            }
            // Its intent or that of its probe, then the outcome.
            Some(_) => self.behind(asked.len() + 1),
            None if asked.first().is_some_and(|first| self.heard.insert(first.clone())) => self.behind(0),
            None => self.behind(asked.len()),
        }
    }

    fn behind(&mut self, records: usize) -> String {
        self.is_armed_behind_the_act = false;
        format!("run::written={records}*kill")
    }

    fn has_seen(&self, step: &str, moment: Moment) -> bool {
        self.idle.contains(&step) && moment == Moment::Carried
            || self.seen.contains(&(step.to_owned(), moment))
    }

    /// Takes in where a process died that left this behind.
    pub(crate) fn died(&mut self, shown: &Value) {
        let Some(last) = shown["records"].as_array().and_then(|records| records.last()) else { return };
        let event = &last["event"];
        let moment = match event["is"].as_str() {
            Some("intent") if event["part"] == "itself" && self.is_armed_behind_the_act => Moment::Carried,
            Some("intent") if event["part"] == "itself" => Moment::Announced,
            Some("outcome") if event["result"]["ended"] == "done" => Moment::Recorded,
            _ => return,
        };
        self.seen.insert((event["step"].as_str().unwrap().to_owned(), moment));
    }

    /// The executor died at each moment of each of these steps.
    #[track_caller]
    pub(crate) fn assert_everywhere(&self, steps: &[String]) {
        let moments = [Moment::Announced, Moment::Carried, Moment::Recorded];
        let all = steps.iter().flat_map(|step| moments.map(|moment| (step, moment)));
        let left: Vec<_> = all.filter(|(step, moment)| !self.has_seen(step, *moment)).collect();
        assert!(left.is_empty(), "it never died there: {left:?}");
    }

    /// So often it died in a step.
    pub(crate) fn count(&self) -> usize {
        self.seen.len()
    }
}

/// The requests that lie in the inbox, oldest first.
fn asked(shown: &Value) -> Vec<String> {
    let inbox = Path::new(shown["folder"].as_str().unwrap()).join("inbox");
    let names = std::fs::read_dir(inbox).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".json"));
    names.sort();
    names
}

/// The newest step that is carried out by no person.
fn newest_step(shown: &Value) -> Option<Step<'_>> {
    let events = || shown["records"].as_array().unwrap().iter().map(|record| &record["event"]);
    let waits = shown["standing"]["waiting"].as_array().unwrap().iter().filter(|one| one["for"] == "person");
    let said = events().filter(|event| event["is"] == "outcome" && event["by"].is_string());
    let of_people: BTreeSet<&str> = waits.chain(said).filter_map(|one| one["step"].as_str()).collect();
    let intent = events().rfind(|event| {
        event["is"] == "intent"
            && event["part"] == "itself"
            && !of_people.contains(event["step"].as_str().unwrap())
    })?;
    let name = intent["step"].as_str().unwrap();
    let newest = events().rfind(|event| event["step"] == name).unwrap();
    let is_over = newest["is"] == "outcome" && newest["result"]["ended"] == "done";
    let is_probed = newest["is"] == "intent" && intent["repeat"] == "check";
    Some(Step { name, is_over, is_probed })
}
