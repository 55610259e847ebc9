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
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use channels::{Secrets, channel_of, templates_of};

/// The name under which the state keeps what is still to be told.
const FACT: &str = "messages";
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is told at once has held for so long: what is not known at a start is mostly only not known yet.
const fn patience(kind: Kind) -> Duration {
    match kind {
        Kind::Breach | Kind::Stall => Duration::from_secs(3),
        Kind::Down | Kind::JobFailed | Kind::CopyLags => Duration::from_secs(15),
        _ => Duration::from_mins(1),
    }
}

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

/// Something that holds.
#[derive(Clone)]
struct Words {
    event: Event,
    /// When it was put into words.
    at: Timestamp,
    since: Timestamp,
}

/// What was told before and is still to be; nothing at the first start.
fn kept_state(house: &House) -> Result<State, String> {
    let kept = house.state.fact(FACT).map_err(|error| lifeboat_base::report(&error))?;
    kept.map_or_else(
        || Ok(State::default()),
        |text| serde_json::from_str(&text).map_err(|error| error.to_string()),
    )
}

/// What was told, and what is to be.
struct Telling {
    dispatcher: Dispatcher,
    kept: State,
    /// By key: what holds, in the words of when it was last put into words, and since when it holds.
    words: BTreeMap<String, Words>,
    /// Another host led since we began.
    followed: bool,
}

impl Telling {
    fn new(house: &House, told: &Told) -> Self {
        let kept = kept_state(house).unwrap_or_else(|why| {
            // Better told twice than not at all: what holds is told again.
            house.say("messages", "forgotten", json!({ "error": why }));
            State::default()
        });
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

    /// What has held for long enough, in the same words for a while: else each second would be something new to keep.
    fn in_lasting_words(&mut self, holding: Vec<Event>, now: Timestamp) -> Vec<Event> {
        let mut before = std::mem::take(&mut self.words);
        // What was told before a restart goes on to hold.
        let told: BTreeSet<&str> = self.dispatcher.holding().collect();
        for event in holding {
            let known = before.remove(&event.key);
            let since = known.as_ref().map_or(now, |known| known.since);
            let is_told = told.contains(event.key.as_str());
            let lasting = known.filter(|known| is_told && now.since(known.at) < WORDS_EVERY);
            let words = lasting.unwrap_or(Words { event, at: now, since });
            self.words.insert(words.event.key.clone(), words);
        }
        let is_due = |words: &&Words| {
            told.contains(words.event.key.as_str()) || now.since(words.since) >= patience(words.event.kind)
        };
        self.words.values().filter(is_due).map(|words| words.event.clone()).collect()
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
            let now = Timestamp::from_secs(at);
            let told = telling.in_lasting_words(vec![event(what)], now);
            telling.dispatcher.observe(told.clone(), now);
            told.into_iter().map(|event| event.what).collect::<Vec<_>>()
        };
        assert_eq!((words("1 s", 0), words("3 s", 2)), (vec![], vec![]), "it may be over at once");
        assert_eq!((words("4 s", 3), words("5 s", 4)), (vec!["4 s".to_owned()], vec!["4 s".to_owned()]));
        assert_eq!(
            (words("303 s", 302), words("304 s", 303)),
            (vec!["4 s".to_owned()], vec!["304 s".to_owned()])
        );
        assert_eq!(telling.in_lasting_words(Vec::new(), Timestamp::from_secs(301)), [] as [Event; 0]);
    }
}
