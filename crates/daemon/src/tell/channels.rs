//! The channels of the plan, made ready. One that cannot be made is told of and left out: it must not keep the others
//! from telling.

use crate::house::House;
use crate::means::Trouble;
use lifeboat_base::Secret;
use lifeboat_base::clock::Timestamp;
use lifeboat_notify::dispatch::Delivery;
use lifeboat_notify::smtp::{Smtp, SmtpSettings};
use lifeboat_notify::template::Templates;
use lifeboat_notify::webhook::{Webhook, WebhookSettings};
use lifeboat_notify::{Channel, Kind, Rejected, Route, SendError, Settings};
use lifeboat_plan::{Event, NotifyPlan, SecretRef, Span};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A reminder so often, unless the plan says otherwise.
const REMIND: Duration = Duration::from_hours(4);

/// Reads a secret that the plan names.
pub type Secrets<'a> = &'a dyn Fn(&SecretRef) -> Result<Secret, Trouble>;

/// Whom to tell, and how.
pub(super) struct Told {
    pub(super) routes: Vec<Route>,
    pub(super) settings: Settings,
    channels: BTreeMap<String, Box<dyn Channel>>,
}

impl Told {
    pub(super) fn of(house: &House) -> Self {
        let (mut routes, mut channels) = (Vec::new(), BTreeMap::new());
        for (name, plan) in &house.plan.notify {
            match channel_of(name, plan, &|reference| house.means.secret(reference)) {
                Ok(channel) => {
                    channels.insert(name.clone(), channel);
                    routes.push(route(name, plan));
                }
                Err(trouble) => {
                    house.note(
                        name,
                        "channel-refused",
                        json!({ "error": trouble.message, "hint": trouble.hint }),
                    );
                }
            }
        }
        let remind = house.plan.notify.values().filter_map(|plan| plan.remind).min();
        let settings = Settings { remind: remind.map_or(REMIND, Span::duration), ..Settings::default() };
        Self { routes, settings, channels }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// Where it did not arrive.
    pub(super) fn send(&self, delivery: &Delivery, now: Timestamp) -> Result<(), SendError> {
        match self.channels.get(&delivery.channel) {
            Some(channel) => channel.send(&delivery.message, now),
            None => Err(SendError::Final { what: "the plan has no such channel".to_owned(), source: None }),
        }
    }
}

fn route(name: &str, plan: &NotifyPlan) -> Route {
    Route {
        channel: name.to_owned(),
        kinds: plan.on.iter().flat_map(|event| kinds(*event)).copied().collect::<BTreeSet<Kind>>(),
        heartbeat: plan.heartbeat.map(Span::duration),
        templates: templates_of(plan),
    }
}

/// A channel's own texts.
pub fn templates_of(plan: &NotifyPlan) -> Templates {
    Templates { subject: plan.subject.clone(), body: plan.body.clone() }
}

/// What a word of the plan stands for.
const fn kinds(event: Event) -> &'static [Kind] {
    match event {
        Event::Breach => &[Kind::Breach],
        // Whatever may let an objective be missed, and has no word of its own.
        Event::AtRisk => &[Kind::AtRisk, Kind::Down, Kind::Unknown],
        Event::Stall => &[Kind::Stall],
        Event::ProofFailed => &[Kind::ProofFailed],
        Event::JobFailed => &[Kind::JobFailed],
        Event::CopyBehind => &[Kind::CopyLags],
        Event::LeaderChanged => &[Kind::LeaderChanged],
        Event::PeopleNeeded => &[Kind::PeopleNeeded],
    }
}

/// A channel of the plan, made ready: nothing is sent yet. Its secrets are read as they are asked for.
///
/// # Errors
/// Where a secret is not there, or the channel's settings are none that something can be sent by.
pub fn channel_of(name: &str, plan: &NotifyPlan, secrets: Secrets<'_>) -> Result<Box<dyn Channel>, Trouble> {
    let secret = |reference: Option<&SecretRef>| reference.map(secrets).transpose();
    let refused = |rejected: Rejected| Trouble::of(&rejected);
    match (&plan.webhook, &plan.smtp) {
        (Some(url), None) => {
            let mut settings = WebhookSettings::at(name, address(url, secrets)?);
            settings.secret = secret(plan.secret.as_ref())?;
            Ok(Box::new(Webhook::new(settings).map_err(refused)?))
        }
        (None, Some(server)) => {
            let from = plan.from.as_deref().unwrap_or_default();
            let mut settings = SmtpSettings::at(name, server, from, plan.to.clone()).map_err(refused)?;
            let password = secret(plan.password.as_ref())?;
            settings.credentials = plan.user.clone().zip(password);
            Ok(Box::new(Smtp::new(settings).map_err(refused)?))
        }
        _ => Err(Trouble::new(
            format!("channel {name} has neither a webhook nor a mail server, or both"),
            "Write `webhook` or `smtp` in the plan.",
        )),
    }
}

/// An address may be a secret by itself: then the plan only names it.
fn address(url: &str, secrets: Secrets<'_>) -> Result<Secret, Trouble> {
    let named =
        url.split_once(':').is_some_and(|(scheme, _)| matches!(scheme, "env" | "file" | "command" | "vault"));
    match SecretRef::try_from(url.to_owned()) {
        Ok(reference) if named => secrets(&reference),
        _ => Ok(Secret::new(url.as_bytes().to_vec())),
    }
}
