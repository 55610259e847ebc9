//! Telling people what a run waits for them for, through the channels of the plan: the same that the service tells
//! by, with their own texts and signatures. Contacts who have a mail address are written to by the plan's mail server.

use crate::context::Context;
use crate::secret::read_secret;
use lifeboat_base::clock::{Clock, Timestamp};
use lifeboat_daemon::{Trouble, channel_of, templates_of};
use lifeboat_notify::{Channel, Kind, Message, Phase, message};
use lifeboat_plan::{NotifyPlan, Plan, SecretRef};
use lifeboat_run::{Contact, Escalation, House, Messenger, Moment, NotSent, Notice, Pace, Recipient, Tells};
use lifeboat_runbook::{Action, Runbook};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// A house that tells people by what the plan says.
pub(super) fn telling(context: &Context, house: House) -> House {
    let plan = Arc::new(context.plan.clone());
    let system = plan.system.as_ref().map_or_else(|| context.host(), |system| system.name.clone());
    let messenger = Arc::new(ByThePlan { plan: plan.clone(), system, channels: Mutex::default() });
    House { tells: Some(Tells { messenger, plan, pace: Pace::default() }), ..house }
}

/// Sends through the channels of a plan.
struct ByThePlan {
    plan: Arc<Plan>,
    system: String,
    /// Those that were made ready, by whom they write to.
    channels: Mutex<BTreeMap<Recipient, Arc<dyn Channel>>>,
}

impl ByThePlan {
    /// The channels that take such messages.
    fn takers(&self) -> impl Iterator<Item = (&String, &NotifyPlan)> {
        let takes =
            |plan: &NotifyPlan| plan.on.is_empty() || plan.on.contains(&lifeboat_plan::Event::PeopleNeeded);
        self.plan.notify.iter().filter(move |(_, plan)| takes(plan))
    }

    /// The mail server that contacts are written to by. What its channel takes is for that channel's own recipients.
    fn mail(&self) -> Option<(&String, &NotifyPlan)> {
        self.plan.notify.iter().find(|(_, plan)| plan.smtp.is_some())
    }

    /// Whether a contact gets mail that a channel's own recipients do not get already.
    fn is_mailed(&self, contact: &Contact) -> bool {
        let is_told = |address: &String| {
            self.takers().any(|(_, plan)| plan.smtp.is_some() && plan.to.contains(address))
        };
        let addresses = mail_addresses(&contact.reach);
        self.mail().is_some() && !addresses.is_empty() && !addresses.iter().all(is_told)
    }

    /// The channel to a recipient and how it is set up.
    fn plan_of(&self, to: &Recipient, reach: &[String]) -> Option<(String, NotifyPlan)> {
        match to {
            Recipient::Channel(name) => Some((name.clone(), self.plan.notify.get(name)?.clone())),
            Recipient::Contact(_) => {
                let ((name, plan), to) = (self.mail()?, mail_addresses(reach));
                (!to.is_empty()).then(|| (name.clone(), NotifyPlan { to, ..plan.clone() }))
            }
        }
    }

    /// Secrets are read here and not before: what reads one may take as long as it likes.
    fn channel(&self, to: &Recipient, name: &str, plan: &NotifyPlan) -> Result<Arc<dyn Channel>, Trouble> {
        let known = || self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = known().get(to) {
            return Ok(channel.clone());
        }
        let secret = |reference: &SecretRef| {
            read_secret(&reference.to_string())
                .map_err(|failure| Trouble { message: failure.message, hint: failure.hint })
        };
        let channel: Arc<dyn Channel> = channel_of(name, plan, &secret)?.into();
        known().insert(to.clone(), channel.clone());
        Ok(channel)
    }

    fn message(&self, plan: &NotifyPlan, notice: &Notice) -> Message {
        let event = lifeboat_notify::Event {
            key: notice.key.clone(),
            kind: Kind::PeopleNeeded,
            about: notice.headline.clone(),
            what: notice.text.clone(),
            severity: notice.severity.clone(),
        };
        let phase = match notice.moment {
            Moment::Began => Phase::Began,
            Moment::Still => Phase::Reminder,
            Moment::Settled => Phase::Recovered,
        };
        let times: (Timestamp, Timestamp) = (notice.since, notice.at);
        message(&templates_of(plan), &self.system, notice.id.clone(), event, phase, times)
    }
}

impl Messenger for ByThePlan {
    fn recipients(&self, whom: &[&Contact]) -> BTreeSet<Recipient> {
        let channels = self.takers().map(|(name, _)| Recipient::Channel(name.clone()));
        let contacts = whom.iter().filter(|contact| self.is_mailed(contact));
        channels.chain(contacts.map(|contact| Recipient::Contact(contact.name.clone()))).collect()
    }

    fn send(&self, to: &Recipient, reach: &[String], notice: &Notice) -> Result<(), NotSent> {
        let not_sent = |why: String, is_worth_another| NotSent { why, is_worth_another, after: None };
        let (name, plan) = self.plan_of(to, reach).ok_or_else(|| {
            not_sent("whoever executes the run knows no such channel or address".to_owned(), false)
        })?;
        // Whoever set a variable or a file wrongly may still set it right.
        let channel = self.channel(to, &name, &plan).map_err(|trouble| not_sent(trouble.message, true))?;
        let sent = channel.send(&self.message(&plan, notice), Clock::System.now());
        sent.map_err(|error| NotSent {
            why: lifeboat_base::report(&error),
            is_worth_another: error.is_retriable(),
            after: error.after(),
        })
    }
}

/// The mail addresses among where somebody is reached; everything else is for people to call.
fn mail_addresses(reach: &[String]) -> Vec<String> {
    let bare = reach.iter().map(|address| address.strip_prefix("mailto:").unwrap_or(address).trim());
    bare.filter(|address| is_mail_address(address)).map(str::to_owned).collect()
}

fn is_mail_address(address: &str) -> bool {
    let is_plain = !address.contains(|c: char| c.is_whitespace() || c == '/' || c == ':');
    let parts = address.split_once('@');
    is_plain && parts.is_some_and(|(who, domain)| !who.is_empty() && domain.contains('.'))
}

/// Who would be told at one stage of what one role is asked for.
#[derive(Debug, Serialize)]
pub(super) struct Foreseen {
    /// The role that is asked for; none, for whatever asks for nobody in particular.
    role: Option<String>,
    /// Whether a contact has it.
    is_role_known: bool,
    after_seconds: u64,
    /// The contacts.
    who: BTreeSet<String>,
    /// What else the plan says that is done.
    actions: Vec<String>,
    /// Where messages would go.
    to: BTreeSet<Recipient>,
    /// Whom no message goes to by themselves, and where they are reached.
    to_be_called: Vec<String>,
}

/// Who would be told what when, by the plan and the document; nothing is sent.
pub(super) fn foreseen(context: &Context, runbook: &Runbook) -> Vec<Foreseen> {
    let plan = Arc::new(context.plan.clone());
    let messenger = ByThePlan { plan, system: String::new(), channels: Mutex::default() };
    let escalation = Escalation::of(&context.plan, &runbook.front);
    let roles = roles(runbook).into_iter().map(Some).chain([None]);
    roles.flat_map(|role| of_role(&messenger, &escalation, role.as_deref())).collect()
}

fn of_role(messenger: &ByThePlan, escalation: &Escalation, role: Option<&str>) -> Vec<Foreseen> {
    let stages = escalation.stages(role).into_iter().filter(|stage| !stage.is_reminder);
    let foreseen = stages.map(|stage| {
        let whom: Vec<&Contact> = stage.who.iter().filter_map(|name| escalation.contact(name)).collect();
        let called = whom.iter().filter(|contact| !messenger.is_mailed(contact));
        Foreseen {
            role: role.map(str::to_owned),
            is_role_known: role.is_none_or(|role| escalation.has_role(role)),
            after_seconds: stage.after.as_secs(),
            to_be_called: called
                .map(|contact| format!("{} ({})", contact.name, contact.reach.join(", ")))
                .collect(),
            to: messenger.recipients(&whom),
            who: stage.who,
            actions: stage.actions,
        }
    });
    foreseen.collect()
}

/// The roles that a runbook asks for.
fn roles(runbook: &Runbook) -> BTreeSet<String> {
    let people = runbook.steps.iter().filter_map(|step| match &step.action {
        Action::Person { role, .. } => role.clone(),
        _ => None,
    });
    let approvals = runbook.steps.iter().filter_map(|step| Some(step.approval.as_ref()?.role.clone()));
    people.chain(approvals).collect()
}

/// The same for people.
pub(super) fn say(foreseen: &[Foreseen], text: &mut Vec<u8>) -> io::Result<()> {
    let is_anybody = foreseen.iter().any(|stage| !stage.to.is_empty());
    if !is_anybody {
        return writeln!(
            text,
            "nobody would be told that people are needed: the plan has no channel that takes it ([notify.NAME])"
        );
    }
    writeln!(text, "who would be told that people are needed:")?;
    for stage in foreseen {
        let role = stage.role.as_deref().unwrap_or("whatever fails or stops");
        let after = match stage.after_seconds {
            0 => "at once".to_owned(),
            seconds => format!("after {}", lifeboat_plan::Span::from_secs(seconds)),
        };
        let whom: Vec<&str> = stage.who.iter().chain(&stage.actions).map(String::as_str).collect();
        let whom = if whom.is_empty() { "no contact".to_owned() } else { whom.join(", ") };
        let to: Vec<String> = stage.to.iter().map(ToString::to_string).collect();
        let to = if to.is_empty() { "NOBODY IS REACHED".to_owned() } else { to.join(", ") };
        writeln!(text, "  {role}, {after}: {whom} ({to})")?;
        if stage.after_seconds == 0 && !stage.is_role_known {
            writeln!(text, "    no contact of the document or the plan is {role}")?;
        }
        if !stage.to_be_called.is_empty() {
            writeln!(text, "    to be called: {}", stage.to_be_called.join("; "))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(plan: &str) -> ByThePlan {
        let plan = Arc::new(Plan::parse(plan, "p.toml").unwrap());
        ByThePlan { plan, system: "test".to_owned(), channels: Mutex::default() }
    }

    fn contact(name: &str, reach: &[&str]) -> Contact {
        let reach = reach.iter().map(|address| (*address).to_owned()).collect();
        Contact { name: name.to_owned(), reach, ..Contact::default() }
    }

    #[test]
    fn what_is_a_mail_address_and_what_is_for_people_to_call() {
        for address in ["a@b.org", "mailto:a@b.org", " a.b+c@d.example.org "] {
            assert_eq!(mail_addresses(&[address.to_owned()]).len(), 1, "{address}");
        }
        for other in
            ["#incidents", "@ann", "ann@", "ann@localhost", "https://a@b.org/x", "+1 555 0100", "a b@c.org"]
        {
            assert_eq!(mail_addresses(&[other.to_owned()]), [""; 0], "{other}");
        }
    }

    #[test]
    fn messages_go_to_the_channels_that_take_them_and_to_contacts_with_mail() {
        let hook = "[notify.ops]\nwebhook = \"https://a.org/x\"\n[notify.stalls]\nwebhook = \"https://a.org/y\"\non = [\"stall\"]\n";
        let mail = "[notify.mail]\nsmtp = \"smtps://a.org\"\nfrom = \"l@a.org\"\nto = [\"all@a.org\"]\n";
        let (ann, bob) = (contact("ann", &["#x", "ann@a.org"]), contact("bob", &["+1 555 0100"]));
        let all = contact("all", &["all@a.org"]);
        let names = |by: ByThePlan| {
            let found = by.recipients(&[&ann, &bob, &all]);
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(names(by("")), "");
        assert_eq!(names(by(hook)), "ops");
        assert_eq!(
            names(by(&format!("{hook}{mail}"))),
            "mail; ops; mail to ann",
            "all has it by the channel"
        );
        let quiet = format!("{hook}{mail}on = [\"breach\"]\n");
        assert_eq!(names(by(&quiet)), "ops; mail to all; mail to ann", "its server still writes to contacts");
    }
}
