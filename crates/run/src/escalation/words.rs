//! What a message says: first what is needed of whom, for which run, on which host, until when; then what it means to
//! wait, and what is to be typed. No value of the run is in it: whoever is about to agree is shown them by the command.

use super::record::{About, Recipient, Telling, What};
use super::{Escalation, Moment, Notice};
use crate::event::Act;
use crate::people::People;
use crate::state::RunState;
use crate::status::{RunStatus, StepStatus};
use lifeboat_base::clock::Timestamp;
use lifeboat_base::hex;
use lifeboat_evidence::Digest;
use lifeboat_plan::Span;
use lifeboat_runbook::{Action, Runbook, StepId};
use std::fmt::Write;
use std::time::Duration;

/// So many things are told of in one message, each with its own lines; of more, only how many.
const DETAILED: usize = 10;
/// A reason or a title is cut to so many characters.
const LONGEST: usize = 300;

/// Where a message is from.
pub(crate) struct Scene<'a> {
    pub(crate) state: &'a RunState,
    pub(crate) runbook: &'a Runbook,
    pub(crate) escalation: &'a Escalation,
    pub(crate) people: &'a People,
    pub(crate) host: &'a str,
    pub(crate) now: Timestamp,
}

/// The message of a telling for one recipient. Made anew after a crash it has the same identity.
pub(crate) fn notice(scene: &Scene<'_>, number: u64, telling: &Telling, to: &Recipient) -> Notice {
    let run = scene.run();
    let name = serde_json::to_string(to).unwrap_or_default();
    let id = Digest::of(format!("lifeboat telling 1\n{run}\n{number}\n{name}").as_bytes());
    let records: Vec<String> =
        telling.about.iter().take(DETAILED).map(|about| about.record.to_string()).collect();
    Notice {
        id: hex::encode(&id.0[..16]),
        key: format!("run {run} {}", records.join(",")),
        moment: moment(telling),
        severity: scene.runbook.front.severity.clone(),
        headline: scene.headline(telling),
        text: scene.text(telling),
        since: telling.about.iter().map(|about| about.since).min().unwrap_or(scene.now),
        at: scene.now,
    }
}

fn moment(telling: &Telling) -> Moment {
    match telling.settled {
        true => Moment::Settled,
        false if telling.about.iter().any(|about| about.through_ms == 0) => Moment::Began,
        false => Moment::Still,
    }
}

impl Scene<'_> {
    fn run(&self) -> &str {
        self.state.begun.as_ref().map_or("", |begun| begun.run.as_str())
    }

    fn headline(&self, telling: &Telling) -> String {
        let Some(first) = telling.about.first() else { return String::new() };
        let what = if telling.settled { self.settled(first) } else { self.needed(first) };
        let until = first
            .until
            .filter(|_| !telling.settled)
            .map_or(String::new(), |until| format!(", until {}", time(until)));
        let more = match telling.about.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        format!("{what}, run {} on {}{until}{more}", self.run(), self.host)
    }

    /// What is needed of whom, in a clause.
    fn needed(&self, about: &About) -> String {
        let role = about.role.as_deref();
        match &about.what {
            What::Consent { block } => {
                let quorum = self.state.asked.get(block).map_or(1, |asked| asked.statement.quorum);
                format!("{quorum} of {} must agree to {block}", role.unwrap_or("somebody"))
            }
            What::Person { step, act } => {
                format!("{} must do {}", role.unwrap_or("somebody"), named(step, *act))
            }
            What::Failed { step, act } => format!("{} FAILED, somebody must decide", named(step, *act)),
            What::Unknown { step, act } => {
                format!("somebody must find out whether {} happened", named(step, *act))
            }
            What::Stopped => "it stopped by itself, somebody must let it go on".to_owned(),
        }
    }

    fn text(&self, telling: &Telling) -> String {
        let mut text = format!("{}\n", cut(&self.runbook.title));
        for about in telling.about.iter().take(DETAILED) {
            text.push('\n');
            match telling.settled {
                true => drop(writeln!(text, "{}.", self.settled(about))),
                false => self.details(about, &mut text),
            }
        }
        if telling.about.len() > DETAILED {
            let _ = writeln!(text, "\n`lifeboat runbook show {}` says the others.", self.run());
        }
        text.push('\n');
        text + &self.clock(telling.settled)
    }

    fn details(&self, about: &About, text: &mut String) {
        let _ = writeln!(text, "{}.", self.needed(about));
        for line in self.explained(about) {
            let _ = writeln!(text, "  {}", cut(&line));
        }
        let _ =
            writeln!(text, "It has been waited for since {}. {}:", time(about.since), self.where_to_type());
        for command in self.commands(&about.what) {
            let _ = writeln!(text, "  lifeboat runbook {command} --by YOU");
        }
        for action in &about.actions {
            let _ = writeln!(text, "By the plan now: {}.", cut(action));
        }
        self.whom_to_call(about, text);
        if let Some(next) = about.next.as_ref().filter(|next| !next.who.is_empty()) {
            let verb = if next.who.len() == 1 { "is" } else { "are" };
            let (who, at) = (next.who.join(", "), time(next.at));
            let _ = writeln!(text, "Unless it is settled by then, {who} {verb} told at {at}.");
        }
    }

    fn where_to_type(&self) -> String {
        let is_mirrored = self.state.begun.as_ref().is_some_and(|begun| begun.mirror.is_some());
        let elsewhere =
            if is_mirrored { ", or wherever the plan and a key of its repository are" } else { "" };
        format!("On {}{elsewhere}", self.host)
    }

    /// What it is, in the words of the document and of the journal.
    fn explained(&self, about: &About) -> Vec<String> {
        let why = |step: &StepId| self.state.steps.get(step).and_then(|step| step.why.clone());
        match &about.what {
            What::Consent { block } => {
                let title = self.runbook.step(block).map(|step| step.title.clone());
                let given = self.state.asked.get(block).map(|asked| &asked.given);
                let given = given.filter(|given| !given.is_empty()).map(|given| {
                    let names: Vec<&str> = given.iter().map(|signed| signed.by.as_str()).collect();
                    format!("So far {} agreed.", names.join(", "))
                });
                let able = about.role.as_deref().map(|role| self.people.who_can_sign(role));
                let able = able.map(|able| match able.is_empty() {
                    true => "Nobody can: the plan lists nobody of that role with a key.".to_owned(),
                    false => format!("These can: {}.", able.join(", ")),
                });
                title.into_iter().chain(given).chain(able).collect()
            }
            What::Person { step, .. } => match self.runbook.step(step).map(|step| &step.action) {
                Some(Action::Person { text, .. }) => vec![text.clone()],
                _ => self.runbook.step(step).map(|step| step.title.clone()).into_iter().collect(),
            },
            What::Failed { step, .. } | What::Unknown { step, .. } => why(step).into_iter().collect(),
            What::Stopped => self.state.reason.clone().into_iter().collect(),
        }
    }

    /// What may be typed, each without who types it.
    fn commands(&self, what: &What) -> Vec<String> {
        let run = self.run();
        match what {
            What::Consent { block } => vec![format!("approve {run} {block} --with file:YOUR-KEY")],
            What::Person { step, .. } => {
                vec![format!("confirm {run} {step}"), format!("confirm {run} {step} --failed --note WHY")]
            }
            What::Failed { step, act } => {
                let again = format!("again {run} {step} --reason WHY");
                let skip = (*act == Act::Do).then(|| format!("skip {run} {step} --reason WHY"));
                let abort = (*act == Act::Do).then(|| format!("abort {run} --reason WHY"));
                [Some(again), skip, abort].into_iter().flatten().collect()
            }
            What::Unknown { step, .. } => vec![
                format!("settle {run} {step} --done --reason HOW-YOU-KNOW"),
                format!("settle {run} {step} --not-done --reason HOW-YOU-KNOW"),
            ],
            What::Stopped => vec![format!("continue {run}"), format!("abort {run} --reason WHY")],
        }
    }

    fn whom_to_call(&self, about: &About, text: &mut String) {
        for contact in about.who.iter().filter_map(|name| self.escalation.contact(name)) {
            let roles: Vec<&str> = contact.roles.iter().map(String::as_str).collect();
            let roles = if roles.is_empty() { String::new() } else { format!(" ({})", roles.join(", ")) };
            let _ =
                writeln!(text, "To be reached: {}{roles}: {}", contact.name, cut(&contact.reach.join(", ")));
        }
    }

    /// What it means to wait.
    fn clock(&self, settled: bool) -> String {
        let total = self.state.times(self.now).total();
        let took = format!("The recovery has taken {}", short(total));
        let waits = if settled { "" } else { ", and it waits" };
        let rto = self.state.begun.as_ref().and_then(|begun| begun.rto);
        match rto.map(|rto| (rto, rto.duration().checked_sub(total))) {
            None => format!("{took}{waits}.\n"),
            Some((rto, Some(left))) => {
                format!("{took} of the RTO of {rto}{waits}: {} are left.\n", short(left))
            }
            Some((rto, None)) => {
                let late = short(total.saturating_sub(rto.duration()));
                format!("{took}{waits}: the RTO of {rto} was missed {late} ago.\n")
            }
        }
    }

    /// What became of it, in a clause.
    fn settled(&self, about: &About) -> String {
        if let RunStatus::Aborting | RunStatus::Undoing = self.state.status
            && !matches!(
                about.what,
                What::Failed { act: Act::Undo, .. } | What::Person { act: Act::Undo, .. }
            )
        {
            return format!("{}: the run is given up", subject(&about.what));
        }
        let Some(step) = about.what.step() else { return "it goes on".to_owned() };
        let state = self.state.steps.get(step).cloned().unwrap_or_default();
        let by = state.by.map_or(String::new(), |by| format!(", says {by}"));
        match (&about.what, state.status) {
            (_, StepStatus::Skipped) => format!("{step} is left out{by}"),
            (What::Consent { block }, _) => format!("{block} is agreed to{}", self.who_agreed(block)),
            (What::Person { act, .. }, status) if status.is_stuck() => {
                format!("{} could not be done{by}", named(step, *act))
            }
            (What::Person { act, .. }, _) => format!("{} is done{by}", named(step, *act)),
            (What::Failed { act, .. }, _) => format!("{} is tried again{by}", named(step, *act)),
            (What::Unknown { act, .. }, status) => match status {
                StepStatus::Done | StepStatus::Undone => format!("{} happened{by}", named(step, *act)),
                _ => format!("{} did not happen{by}", named(step, *act)),
            },
            (What::Stopped, _) => "it goes on".to_owned(),
        }
    }

    fn who_agreed(&self, block: &StepId) -> String {
        let given = self.state.asked.get(block).map(|asked| &asked.given).filter(|given| !given.is_empty());
        given.map_or(String::new(), |given| {
            let names: Vec<&str> = given.iter().map(|signed| signed.by.as_str()).collect();
            format!(" by {}", names.join(", "))
        })
    }
}

fn subject(what: &What) -> String {
    match what {
        What::Consent { block } => block.to_string(),
        What::Person { step, act } | What::Failed { step, act } | What::Unknown { step, act } => {
            named(step, *act)
        }
        What::Stopped => "what stopped".to_owned(),
    }
}

fn named(step: &StepId, act: Act) -> String {
    if act == Act::Undo { format!("the undo of {step}") } else { step.to_string() }
}

/// To the second.
fn time(at: Timestamp) -> Timestamp {
    Timestamp::from_secs(at.as_secs())
}

fn short(time: Duration) -> Span {
    Span::from_secs(time.as_secs())
}

/// One line, and not too long. Control characters do nothing.
fn cut(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
