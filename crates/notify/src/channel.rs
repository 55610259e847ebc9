//! The trait of whatever a message can be sent through, and the test of a channel that somebody asks for.

use crate::event::{Event, Kind, Message, Phase};
use crate::template::Templates;
use lifeboat_base::clock::Timestamp;
use lifeboat_base::{Hint, hex, random};
use std::error::Error;
use std::time::Duration;

/// Sends messages to one place.
pub trait Channel: Send + Sync {
    /// Its name in the plan.
    fn name(&self) -> &str;

    /// Sends one message and waits until the other side has taken it. Sent again after an error, it may arrive twice,
    /// with the same id.
    ///
    /// # Errors
    /// Where it was not taken, or that is not known; which says whether it is worth trying again.
    fn send(&self, message: &Message, now: Timestamp) -> Result<(), SendError>;
}

/// A message that did not arrive. Never holds a secret: no URL, no credentials.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Another attempt may succeed: the network, a time limit, a server that is busy or broken.
    #[error("{what}")]
    Later {
        /// What happened.
        what: String,
        /// How long the other side wants to be left alone.
        after: Option<Duration>,
        /// What it comes from.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The same message will not be taken however often it is sent.
    #[error("{what}")]
    Final {
        /// What happened.
        what: String,
        /// What it comes from.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl SendError {
    /// Whether another attempt may succeed.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Later { .. })
    }

    /// How long the other side wants to be left alone.
    pub fn after(&self) -> Option<Duration> {
        match self {
            Self::Later { after, .. } => *after,
            Self::Final { .. } => None,
        }
    }

    pub(crate) fn later(what: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Later { what: what.into(), after: None, source: Some(Box::new(source)) }
    }

    pub(crate) fn never(what: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Final { what: what.into(), source: Some(Box::new(source)) }
    }
}

impl Hint for SendError {
    fn hint(&self) -> Option<String> {
        Some(
            match self {
                Self::Later { .. } => {
                    "It is tried again; check that the other side is up and reachable from here."
                }
                Self::Final { .. } => {
                    "Check the channel's address and credentials in the plan, then run `lifeboat notify test`."
                }
            }
            .to_owned(),
        )
    }
}

/// A channel that cannot be made of its settings.
#[derive(Debug, thiserror::Error)]
#[error("channel {channel}: {what}")]
pub struct Rejected {
    /// The channel.
    pub channel: String,
    /// What is wrong with its settings.
    pub what: String,
    /// What it comes from.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Rejected {
    pub(crate) fn new(channel: &str, what: impl Into<String>) -> Self {
        Self { channel: channel.to_owned(), what: what.into(), source: None }
    }

    pub(crate) fn because(
        channel: &str,
        what: impl Into<String>,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self { channel: channel.to_owned(), what: what.into(), source: Some(Box::new(source)) }
    }
}

impl Hint for Rejected {
    fn hint(&self) -> Option<String> {
        Some(format!("Correct channel {} in the plan; docs/notifications.md has its keys.", self.channel))
    }
}

/// A new identity of a message.
pub(crate) fn new_id() -> String {
    hex::encode(&random::bytes::<16>())
}

/// Sends a test message through a channel, once, in the channel's own words.
///
/// # Errors
/// Where it was not taken, or that is not known.
pub fn test(
    channel: &dyn Channel,
    templates: &Templates,
    system: &str,
    now: Timestamp,
) -> Result<(), SendError> {
    channel.send(&test_message(channel.name(), templates, system, now), now)
}

fn test_message(channel: &str, templates: &Templates, system: &str, now: Timestamp) -> Message {
    let event = Event {
        key: format!("test {channel}"),
        kind: Kind::Test,
        about: channel.to_owned(),
        what: "somebody asked for this message to see whether it arrives".to_owned(),
        severity: None,
    };
    message(templates, system, new_id(), event, Phase::Once, (now, now))
}

/// A message in a channel's own words, with an identity that whoever keeps it gives it. The times: since when it holds
/// or held, and when the message was made.
pub fn message(
    templates: &Templates,
    system: &str,
    id: String,
    event: Event,
    phase: Phase,
    (since, at): (Timestamp, Timestamp),
) -> Message {
    let text = templates.render(system, &event, phase, since, at);
    let system = system.to_owned();
    Message { id, system, event, phase, since, at, subject: text.subject, body: text.body }
}

/// A file without a certificate would be taken for one that adds none, and nobody would know why nobody is trusted.
pub(crate) fn require_certificate(channel: &str, pem: &[u8]) -> Result<(), Rejected> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    match pem.windows(BEGIN.len()).any(|window| window == BEGIN) {
        true => Ok(()),
        false => Err(Rejected::new(channel, "there is no certificate in its authority's PEM")),
    }
}
