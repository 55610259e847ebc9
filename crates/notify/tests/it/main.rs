//! Notifications against real servers on this host, and the dispatcher through simulated days.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod certificates;
mod dispatching;
mod mail;
mod webhooks;

use lifeboat_base::clock::Timestamp;
use lifeboat_notify::{Event, Kind, Message, Phase};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn event(key: &str, kind: Kind) -> Event {
    Event {
        key: key.to_owned(),
        kind,
        about: "users".to_owned(),
        what: "the stream is stalled: silent for 4.0s".to_owned(),
        severity: Some("P1".to_owned()),
    }
}

fn message(id: &str) -> Message {
    Message {
        id: id.to_owned(),
        system: "aragora".to_owned(),
        event: event("stall users", Kind::Stall),
        phase: Phase::Began,
        since: NOW,
        at: NOW,
        subject: "[aragora] P1 stream stalled: users é".to_owned(),
        body: "aragora: users: the stream is stalled.\n.\n..\nend é\n".to_owned(),
    }
}
