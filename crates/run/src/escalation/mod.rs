//! Who is told when that a run needs people, and what was told already.
//!
//! ```text
//! awaited (state, time) ─▶ due (plan, document) ─▶ record ─▶ sender, a thread a recipient ─▶ record
//! ```
//! Who is due is a pure function of the plan, the document, what is waited for, what was told and the time. A message
//! is a record before it is sent, and another one when it arrived or did not: whoever goes on with the run sends what
//! was under way once more, under the same identity, and nothing else.
//!
//! It deliberately knows no network: whoever assembled the house gives it a [`Messenger`].

mod due;
mod record;
mod send;
mod told;
mod words;

pub(crate) use due::{Awaited, due, settled};
pub use record::{About, Next, Recipient, Telling, Told, What};
pub(crate) use send::{Letter, Sender, Sent};
pub use told::{Failing, Tellings, ToldOf};
pub(crate) use words::{Scene, notice};

use lifeboat_base::backoff::Backoff;
use lifeboat_base::clock::Timestamp;
use lifeboat_plan::{Plan, Span};
use lifeboat_runbook::Front;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Everybody who was told is told again so often, once the plan names nobody else.
const REMINDERS: u32 = 6;
/// A reminder so often, unless the plan's channels say otherwise.
const REMIND: Duration = Duration::from_hours(4);

/// Somebody who is told, by the document, the plan, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// Their name there.
    pub name: String,
    /// What they do.
    pub roles: BTreeSet<String>,
    /// Where they are reached: addresses, numbers, channels.
    pub reach: Vec<String>,
}

/// One stage of an escalation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// So long after the waiting began.
    pub after: Duration,
    /// The contacts who are told.
    pub who: BTreeSet<String>,
    /// What else the plan says that is done.
    pub actions: Vec<String>,
    /// Whether it only tells everybody once more.
    pub is_reminder: bool,
}

/// Sends messages. Each call may take as long as it likes: it is made on a thread of its own.
pub trait Messenger: Send + Sync {
    /// Where a message for these would go: the channels that take such messages, and those of them who can be mailed.
    /// Nothing is sent.
    fn recipients(&self, whom: &[&Contact]) -> BTreeSet<Recipient>;

    /// Sends one message and waits until the other side has taken it. Sent again after an error it may arrive twice,
    /// with the same identity. `reach` is where a contact is reached.
    ///
    /// # Errors
    /// Where it was not taken, or that is not known. No error holds a secret.
    fn send(&self, to: &Recipient, reach: &[String], notice: &Notice) -> Result<(), NotSent>;
}

/// A message that did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotSent {
    /// Why not.
    pub why: String,
    /// Whether another attempt may succeed.
    pub is_worth_another: bool,
    /// How long the other side wants to be left alone.
    pub after: Option<Duration>,
}

/// Where in the life of what is waited for a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It began.
    Began,
    /// It is still waited for.
    Still,
    /// It is settled.
    Settled,
}

/// A message, as it is sent and sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The same for every attempt, and another one for each recipient.
    pub id: String,
    /// What it is about, the same for all messages about it.
    pub key: String,
    /// Where in its life.
    pub moment: Moment,
    /// The severity that the document names.
    pub severity: Option<String>,
    /// One line: what is needed of whom, for which run, on which host, until when.
    pub headline: String,
    /// Everything else, in lines.
    pub text: String,
    /// Since when it is waited for.
    pub since: Timestamp,
    /// When the message was made.
    pub at: Timestamp,
}

/// By whom and how people are told.
#[derive(Clone)]
pub struct Tells {
    /// Who sends.
    pub messenger: Arc<dyn Messenger>,
    /// Whose contacts and escalation it is.
    pub plan: Arc<Plan>,
    /// How patiently.
    pub pace: Pace,
}

/// How patiently messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long a recipient is left alone after a failure; its attempts do not count, `give_up` does.
    pub backoff: Backoff,
    /// What could not be sent for so long is given up.
    pub give_up: Duration,
    /// So long the first attempts of what is still to be said are waited for when an executor ends.
    pub finish_within: Duration,
}

impl Default for Pace {
    /// After a second to five minutes; given up after a day; ten seconds at the end.
    fn default() -> Self {
        let backoff =
            Backoff { first: Duration::from_secs(1), cap: Duration::from_mins(5), attempts: u32::MAX };
        Self { backoff, give_up: Duration::from_hours(24), finish_within: Duration::from_secs(10) }
    }
}

/// Who is told when, by a plan and a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Escalation {
    contacts: BTreeMap<String, Contact>,
    of_document: BTreeSet<String>,
    /// Those whom neither a time of their own nor a step of the escalation names.
    at_once: BTreeSet<String>,
    steps: Vec<Stage>,
    remind: Duration,
}

impl Escalation {
    /// Of a plan and a document's front matter.
    pub fn of(plan: &Plan, front: &Front) -> Self {
        let mut escalation = Self {
            remind: plan
                .notify
                .values()
                .filter_map(|channel| channel.remind)
                .min()
                .map_or(REMIND, Span::duration),
            ..Self::default()
        };
        for (name, contact) in &front.contacts {
            escalation.add(name, contact.role.as_ref(), &contact.reach);
            escalation.of_document.insert(name.clone());
        }
        for (name, contact) in &plan.contacts {
            escalation.add(name, contact.role.as_ref(), &contact.reach);
        }
        escalation.plan(plan, front.severity.as_deref());
        escalation
    }

    fn add(&mut self, name: &str, role: Option<&String>, reach: &[String]) {
        let contact = self.contacts.entry(name.to_owned()).or_default();
        name.clone_into(&mut contact.name);
        contact.roles.extend(role.cloned());
        let new = reach.iter().filter(|address| !contact.reach.contains(address)).cloned();
        contact.reach.extend(new.collect::<Vec<_>>());
    }

    /// The steps of the plan, as far as they concern a severity.
    fn plan(&mut self, plan: &Plan, severity: Option<&str>) {
        let concerned = |from: &Option<String>| plan.concerns(severity, from.as_deref());
        let named: BTreeSet<&String> =
            plan.escalation.iter().filter_map(|step| step.contact.as_ref()).collect();
        for (name, contact) in plan.contacts.iter().filter(|(_, contact)| concerned(&contact.from)) {
            match contact.after {
                Some(after) => self.steps.push(stage(after.duration(), Some(name))),
                None if !named.contains(name) => drop(self.at_once.insert(name.clone())),
                None => {}
            }
        }
        for step in plan.escalation.iter().filter(|step| concerned(&step.from)) {
            let whom = step
                .contact
                .as_ref()
                .filter(|name| plan.contacts.get(*name).is_none_or(|contact| concerned(&contact.from)));
            let mut told = stage(step.after.duration(), whom);
            if step.contact.is_none() {
                told.actions.push(step.action.clone());
            }
            self.steps.push(told);
        }
    }

    /// A contact by name.
    pub fn contact(&self, name: &str) -> Option<&Contact> {
        self.contacts.get(name)
    }

    /// Everybody.
    pub fn contacts(&self) -> impl Iterator<Item = &Contact> {
        self.contacts.values()
    }

    /// Whether a contact is who a role asks for.
    pub fn has_role(&self, role: &str) -> bool {
        self.contacts.values().any(|contact| is_of(contact, role))
    }

    /// The stages of waiting for somebody of a role, in order; the first is at once, and the last are reminders.
    pub fn stages(&self, role: Option<&str>) -> Vec<Stage> {
        let mut stages = BTreeMap::from([(Duration::ZERO, stage_of(self.first(role)))]);
        for step in &self.steps {
            let stage: &mut Stage = stages.entry(step.after).or_default();
            stage.after = step.after;
            stage.who.extend(step.who.iter().cloned());
            stage.actions.extend(step.actions.iter().cloned());
        }
        let last = stages.keys().next_back().copied().unwrap_or_default();
        let everybody: BTreeSet<String> = stages.values().flat_map(|stage| stage.who.clone()).collect();
        let reminders = (1..=REMINDERS).map(|count| Stage {
            after: last.saturating_add(self.remind.saturating_mul(count)),
            who: everybody.clone(),
            actions: Vec::new(),
            is_reminder: true,
        });
        stages.into_values().chain(reminders).collect()
    }

    /// Who is told at once: those of the role; where nobody has it, or none is asked for, whom the document names, and
    /// of the plan those whom nothing says when to tell.
    fn first(&self, role: Option<&str>) -> BTreeSet<String> {
        let of_role = |contact: &&Contact| role.is_some_and(|role| is_of(contact, role));
        let asked: BTreeSet<String> =
            self.contacts.values().filter(of_role).map(|contact| contact.name.clone()).collect();
        match asked.is_empty() {
            true => self.of_document.union(&self.at_once).cloned().collect(),
            false => asked,
        }
    }
}

fn stage(after: Duration, whom: Option<&String>) -> Stage {
    Stage { after, who: whom.into_iter().cloned().collect(), ..Stage::default() }
}

fn stage_of(who: BTreeSet<String>) -> Stage {
    Stage { who, ..Stage::default() }
}

/// Whether a contact is who a role asks for. Plans write `Incident Commander` where runbooks write `incident
/// commander` or `incident-commander`.
fn is_of(contact: &Contact, role: &str) -> bool {
    let plain = |text: &str| {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        words.map(str::to_lowercase).collect::<Vec<_>>()
    };
    let role = plain(role);
    plain(&contact.name) == role || contact.roles.iter().any(|its| plain(its) == role)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r##"
[contacts.on-call]
role = "On-call Engineer"
reach = ["#incidents"]
after = "0s"
[contacts.chief]
role = "Incident Commander"
reach = ["chief@a.org"]
[contacts.lead]
reach = ["lead@a.org"]
[contacts.security]
reach = ["security@a.org"]
from = "SEV-1"
[[escalation]]
after = "5m"
action = "the lead is told"
contact = "lead"
[[escalation]]
after = "30m"
action = "the board is told"
from = "SEV-1"
"##;

    fn front(severity: Option<&str>) -> Front {
        let mut front = Front { severity: severity.map(str::to_owned), ..Front::default() };
        let own = lifeboat_runbook::Contact {
            role: Some("communications".to_owned()),
            reach: vec!["+1 555".to_owned()],
        };
        front.contacts.insert("voice".to_owned(), own);
        front
    }

    fn told(severity: Option<&str>, role: Option<&str>) -> Vec<(u64, String)> {
        let escalation = Escalation::of(&Plan::parse(PLAN, "p.toml").unwrap(), &front(severity));
        let stages = escalation.stages(role);
        assert_eq!(stages.len(), REMINDERS as usize + if severity == Some("SEV-2") { 2 } else { 3 });
        let words = |stage: Stage| stage.who.into_iter().chain(stage.actions).collect::<Vec<_>>().join(", ");
        stages.into_iter().take(4).map(|stage| (stage.after.as_secs(), words(stage))).collect()
    }

    #[test]
    fn whoever_is_asked_for_is_told_at_once_and_the_others_as_the_plan_says() {
        let all = |first: &str| {
            let (then, reminder) = ((300, "lead".to_owned()), format!("{first}, lead"));
            let reminder = (300 + 14_400, sorted(&reminder));
            (vec![(0, first.to_owned()), then], reminder)
        };
        for (role, first) in [
            (Some("incident-commander"), "chief, on-call"),
            (Some("Communications"), "on-call, voice"),
            (Some("nobody has it"), "chief, on-call, voice"),
            (None, "chief, on-call, voice"),
        ] {
            let (mut expected, reminder) = all(first);
            expected.push(reminder);
            assert_eq!(told(Some("SEV-2"), role)[..3], expected[..], "{role:?}");
        }
    }

    fn sorted(names: &str) -> String {
        names.split(", ").collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn who_is_told_of_the_worst_only_is_told_of_it_and_of_what_may_be() {
        for severity in [Some("SEV-1"), None] {
            let stages = told(severity, None);
            assert_eq!(stages[0].1, "chief, on-call, security, voice", "{severity:?}");
            assert_eq!(stages[2], (1800, "the board is told".to_owned()));
        }
    }
}
