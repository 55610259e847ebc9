//! Telling people: what the report says becomes events, the dispatcher decides who is told what, and its state is
//! kept as a record before anything is sent and after, so that a restart neither forgets nor repeats.

mod channels;
mod events;

use crate::house::House;
use crate::record::What;
use crate::report::{Report, Reports, is_ours};
use crate::state::StateError;
use channels::Told;
use lifeboat_base::clock::Timestamp;
use lifeboat_notify::dispatch::State;
use lifeboat_notify::{Dispatcher, Event, Kind};
use lifeboat_watch::observe::Channel as ChannelSeen;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The name under which the state keeps what is still to be told.
const FACT: &str = "messages";
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The words of what still holds are brought up to date so often: numbers in them change all the time.
const WORDS_EVERY: Duration = Duration::from_mins(5);
/// A channel that is sent signs of life may miss so many before its silence is a failure.
const MISSED: u32 = 3;

/// Tells until it is told to stop. Without a channel in the plan there is nobody to tell.
pub(crate) fn keep(house: &House, reports: &Reports, stop: &AtomicBool) {
    let told = Told::of(house);
    if told.routes.is_empty() {
        return;
    }
    let mut telling = Telling::new(house, &told);
    while !stop.load(Ordering::Relaxed) {
        if let Some(report) = reports.newest() {
            telling.hear(house, &report);
        }
        if let Err(error) = telling.send(house, &told, stop) {
            house.say("notify", "not-kept", json!({ "error": lifeboat_base::report(&error) }));
        }
        let health = telling.health();
        reports.find_out(|found| found.channels = health);
        crate::stream::sleep(LOOK_EVERY, stop);
    }
}

/// What was told, and what is to be.
struct Telling {
    dispatcher: Dispatcher,
    kept: State,
    words: BTreeMap<String, (Event, Timestamp)>,
    /// Another host led since we began.
    followed: bool,
}

impl Telling {
    fn new(house: &House, told: &Told) -> Self {
        let kept = house.state.fact(FACT).ok().flatten();
        let kept: State = kept.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let system =
            house.plan.system.as_ref().map_or_else(|| house.means.host(), |system| system.name.clone());
        let dispatcher = Dispatcher::new(&system, told.settings, told.routes.clone(), kept.clone());
        Self { dispatcher, kept, words: BTreeMap::new(), followed: false }
    }

    /// Takes in how things stand.
    fn hear(&mut self, house: &House, report: &Report) {
        let (now, host, seen) = (house.clock.now(), house.means.host(), house.live.seen());
        // Before everything was looked at once, what is not known is only not known yet.
        if seen.is_started && seen.repository.asked.is_some() {
            let holding = events::holding(report, &host, |dataset| is_ours(house, &seen, dataset));
            let holding = self.in_lasting_words(holding, now);
            self.dispatcher.observe(holding, now);
        }
        self.hear_of_leader(report, &host, now);
        self.dispatcher.tick(now);
    }

    /// The same words for what still holds, for a while: else each second would be something new to keep.
    fn in_lasting_words(&mut self, holding: Vec<Event>, now: Timestamp) -> Vec<Event> {
        let before = std::mem::take(&mut self.words);
        for event in holding {
            let lasting = before.get(&event.key).filter(|(_, since)| now.since(*since) < WORDS_EVERY);
            let kept = lasting.cloned().unwrap_or((event, now));
            self.words.insert(kept.0.key.clone(), kept);
        }
        self.words.values().map(|(event, _)| event.clone()).collect()
    }

    /// A takeover is told by whoever took over.
    fn hear_of_leader(&mut self, report: &Report, host: &str, now: Timestamp) {
        let Some(leader) = &report.leader else { return };
        if leader.here && std::mem::take(&mut self.followed) {
            let event = Event {
                key: format!("leader {}", leader.generation),
                kind: Kind::LeaderChanged,
                about: host.to_owned(),
                what: format!("{host} leads now, as generation {}", leader.generation),
                severity: None,
            };
            self.dispatcher.once(&event, now);
        }
        self.followed |= !leader.here;
    }

    /// Sends what is due. Nothing is sent that is not kept.
    fn send(&mut self, house: &House, told: &Told, stop: &AtomicBool) -> Result<(), StateError> {
        self.keep(house)?;
        while let Some(delivery) =
            self.dispatcher.next(house.clock.now()).filter(|_| !stop.load(Ordering::Relaxed))
        {
            let outcome = told.send(&delivery, house.clock.now());
            let (channel, subject) = (&delivery.channel, &delivery.message.subject);
            match &outcome {
                Ok(()) => house.say("notify", "told", json!({ "channel": channel, "subject": subject })),
                Err(error) => {
                    let error = lifeboat_base::report(error);
                    house.say(
                        "notify",
                        "not-told",
                        json!({ "channel": channel, "subject": subject, "error": error }),
                    );
                }
            }
            self.dispatcher.settled(&delivery, outcome, house.clock.now());
            self.keep(house)?;
        }
        Ok(())
    }

    fn keep(&mut self, house: &House) -> Result<(), StateError> {
        if *self.dispatcher.state() == self.kept {
            return Ok(());
        }
        let queue = json!(self.dispatcher.state());
        house.state.keep(house.clock.now(), What::Messages { queue })?;
        self.kept = self.dispatcher.state().clone();
        Ok(())
    }

    fn health(&self) -> Vec<ChannelSeen> {
        let channels = self.dispatcher.health().into_iter();
        channels
            .map(|health| ChannelSeen {
                name: health.channel,
                succeeded: health.succeeded,
                failing: health.failing,
                silence_max: health.heartbeat.map(|every| every.saturating_mul(MISSED)),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_still_holds_keeps_its_words_for_a_while() {
        let event = |what: &str| Event {
            key: "stall users".to_owned(),
            kind: Kind::Stall,
            about: "users".to_owned(),
            what: what.to_owned(),
            severity: None,
        };
        let dispatcher =
            Dispatcher::new("x", lifeboat_notify::Settings::default(), Vec::new(), State::default());
        let mut telling =
            Telling { dispatcher, kept: State::default(), words: BTreeMap::new(), followed: false };
        let mut words = |what: &str, at| {
            telling.in_lasting_words(vec![event(what)], Timestamp::from_secs(at))[0].what.clone()
        };
        assert_eq!(
            (words("4 s", 0), words("5 s", 1), words("299 s", 299)),
            ("4 s".into(), "4 s".into(), "4 s".into())
        );
        assert_eq!(words("300 s", 300), "300 s");
        assert_eq!(telling.in_lasting_words(Vec::new(), Timestamp::from_secs(301)), []);
    }
}
