//! Who is told what, how often, and what has not arrived yet: a state machine that does no I/O.
//!
//! ```text
//! raise ─▶ condition ─ began ─▶ queue ─▶ next ─▶ (a channel) ─▶ settled ─▶ gone, or back to the end of the queue
//!            │  reminder, every so often
//!            └─ clear … calm for a while ─ recovered ─▶ queue
//! ```
//! A condition that comes back while it is still calming down was never over: what flaps is told once. Messages wait
//! for each channel by itself, so that one that is down holds up no other; one that fails goes behind the others, so
//! that it holds up none of them either. Every queue is bounded, and what is lost by that is counted.

use crate::channel::{SendError, new_id};
use crate::event::{Event, Kind, Message, Phase};
use crate::nanos;
use crate::template::Templates;
use lifeboat_base::backoff::Backoff;
use lifeboat_base::clock::Timestamp;
use lifeboat_base::report;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// So many messages wait for one channel; beyond that the oldest is lost, since newer ones say more.
pub const WAITING_MAX: usize = 1000;
/// The longest that another side is left alone because it asked for it.
const AFTER_MAX: Duration = Duration::from_secs(3600);

/// How often people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A condition that still holds is told again after so long.
    pub remind: Duration,
    /// A condition is over once it has not held for so long.
    pub calm: Duration,
    /// How long a channel is left alone after a failure; its attempts do not count, `expire` does.
    pub backoff: Backoff,
    /// A message that could not be sent for so long is given up.
    pub expire: Duration,
}

impl Default for Settings {
    /// Every 4 hours; calm for a minute; after 5 seconds to 10 minutes; given up after a day.
    fn default() -> Self {
        let backoff =
            Backoff { first: Duration::from_secs(5), cap: Duration::from_secs(600), attempts: u32::MAX };
        Self {
            remind: Duration::from_secs(4 * 3600),
            calm: Duration::from_secs(60),
            backoff,
            expire: Duration::from_secs(86_400),
        }
    }
}

/// What one channel is told.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// The channel's name.
    pub channel: String,
    /// Only these sorts of things; everything where there is none.
    pub kinds: BTreeSet<Kind>,
    /// A sign of life so often: whoever gets it can notice that it does not come.
    pub heartbeat: Option<Duration>,
    /// The user's own texts.
    pub templates: Templates,
}

impl Route {
    fn takes(&self, kind: Kind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }
}

/// All that must survive a restart. Whoever owns the dispatcher keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    conditions: BTreeMap<String, Condition>,
    channels: BTreeMap<String, ChannelState>,
}

/// Something that holds, or has just stopped to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Condition {
    event: Event,
    #[serde(with = "nanos")]
    since: Timestamp,
    #[serde(with = "nanos")]
    told: Timestamp,
    #[serde(with = "nanos::optional", default)]
    cleared: Option<Timestamp>,
}

/// How one channel stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ChannelState {
    waiting: VecDeque<Message>,
    failures: u32,
    #[serde(with = "nanos::optional", default)]
    not_before: Option<Timestamp>,
    #[serde(with = "nanos::optional", default)]
    succeeded: Option<Timestamp>,
    #[serde(with = "nanos::optional", default)]
    failing: Option<Timestamp>,
    #[serde(with = "nanos::optional", default)]
    heartbeat: Option<Timestamp>,
    last_error: Option<String>,
    template_problem: Option<String>,
    lost: u64,
}

/// How a channel does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Its name.
    pub channel: String,
    /// When a message last arrived there.
    pub succeeded: Option<Timestamp>,
    /// Since when nothing arrives that should.
    pub failing: Option<Timestamp>,
    /// How often in a row it failed.
    pub failures: u32,
    /// What the last failure was.
    pub last_error: Option<String>,
    /// What is wrong with its templates.
    pub template_problem: Option<String>,
    /// How many messages wait.
    pub waiting: usize,
    /// How many were given up.
    pub lost: u64,
    /// How often it is sent a sign of life.
    pub heartbeat: Option<Duration>,
}

/// What is to be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Through which channel.
    pub channel: String,
    /// What.
    pub message: Message,
}

/// Decides who is told what.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    system: String,
    settings: Settings,
    routes: Vec<Route>,
    state: State,
}

impl Dispatcher {
    /// With what was kept of the one before, [`State::default`] at first. Messages for channels that are no more are
    /// dropped.
    pub fn new(system: &str, settings: Settings, routes: Vec<Route>, mut state: State) -> Self {
        state.channels.retain(|name, _| routes.iter().any(|route| route.channel == *name));
        for route in &routes {
            state.channels.entry(route.channel.clone()).or_default();
        }
        Self { system: system.to_owned(), settings, routes, state }
    }

    /// What must survive a restart: to be kept after every change, before anything is sent.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// This is all that holds now: tells of what is new, and of what is over.
    pub fn observe(&mut self, holding: Vec<Event>, now: Timestamp) {
        let keys: BTreeSet<String> = holding.iter().map(|event| event.key.clone()).collect();
        let over: Vec<String> =
            self.state.conditions.keys().filter(|key| !keys.contains(*key)).cloned().collect();
        for key in over {
            self.clear(&key, now);
        }
        for event in holding {
            self.raise(event, now);
        }
    }

    /// This holds. Said again while it does, it changes nothing but the words of the next reminder.
    pub fn raise(&mut self, event: Event, now: Timestamp) {
        if let Some(condition) = self.state.conditions.get_mut(&event.key) {
            condition.event = event;
            condition.cleared = None;
            return;
        }
        self.enqueue(&event, Phase::Began, now, now);
        let condition = Condition { since: now, told: now, cleared: None, event };
        self.state.conditions.insert(condition.event.key.clone(), condition);
    }

    /// This does not hold any more. People are told once it has stayed so.
    pub fn clear(&mut self, key: &str, now: Timestamp) {
        if let Some(condition) = self.state.conditions.get_mut(key) {
            condition.cleared.get_or_insert(now);
        }
    }

    /// This happened, and has no duration.
    pub fn once(&mut self, event: &Event, now: Timestamp) {
        self.enqueue(event, Phase::Once, now, now);
    }

    /// What is due by the clock alone: recoveries, reminders, signs of life, and messages that are given up.
    pub fn tick(&mut self, now: Timestamp) {
        self.tell_recoveries(now);
        self.tell_reminders(now);
        self.tell_heartbeats(now);
        self.give_up(now);
    }

    fn tell_recoveries(&mut self, now: Timestamp) {
        let calm = self.settings.calm;
        let is_over =
            |condition: &Condition| condition.cleared.is_some_and(|cleared| has_passed(cleared, calm, now));
        let over: Vec<String> = self
            .state
            .conditions
            .iter()
            .filter(|(_, each)| is_over(each))
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            let Some(condition) = self.state.conditions.remove(&key) else { continue };
            // Whoever was not told of it yet is told in one message that it was, and is over.
            self.withdraw(&key);
            let ended = condition.cleared.unwrap_or(now);
            self.enqueue(&condition.event, Phase::Recovered, condition.since, ended);
        }
    }

    /// Takes back what waits of a condition.
    fn withdraw(&mut self, key: &str) {
        for channel in self.state.channels.values_mut() {
            channel.waiting.retain(|message| message.event.key != key || message.phase == Phase::Once);
        }
    }

    fn tell_reminders(&mut self, now: Timestamp) {
        let remind = self.settings.remind;
        let mut due = Vec::new();
        for condition in self.state.conditions.values_mut() {
            if condition.cleared.is_none() && has_passed(condition.told, remind, now) {
                condition.told = now;
                due.push((condition.event.clone(), condition.since));
            }
        }
        for (event, since) in due {
            self.enqueue(&event, Phase::Reminder, since, now);
        }
    }

    fn tell_heartbeats(&mut self, now: Timestamp) {
        for at in 0..self.routes.len() {
            let route = &self.routes[at];
            let (Some(every), Some(channel)) = (route.heartbeat, self.state.channels.get_mut(&route.channel))
            else {
                continue;
            };
            let waits = channel.waiting.iter().any(|message| message.event.kind == Kind::Heartbeat);
            let is_due = channel.heartbeat.is_none_or(|last| has_passed(last, every, now));
            if is_due && !waits {
                channel.heartbeat = Some(now);
                let event = heartbeat(&self.system, every);
                self.enqueue_for(at, &event, Phase::Once, now, now);
            }
        }
    }

    /// A clock that was set back makes no message older.
    fn give_up(&mut self, now: Timestamp) {
        let expire = self.settings.expire;
        for channel in self.state.channels.values_mut() {
            let before = channel.waiting.len();
            channel.waiting.retain(|message| now.since(message.at) < expire);
            channel.lost += (before - channel.waiting.len()) as u64;
        }
    }

    fn enqueue(&mut self, event: &Event, phase: Phase, since: Timestamp, now: Timestamp) {
        for at in 0..self.routes.len() {
            if self.routes[at].takes(event.kind) {
                self.enqueue_for(at, event, phase, since, now);
            }
        }
    }

    fn enqueue_for(&mut self, at: usize, event: &Event, phase: Phase, since: Timestamp, now: Timestamp) {
        let route = &self.routes[at];
        let Some(channel) = self.state.channels.get_mut(&route.channel) else { return };
        let text = route.templates.render(&self.system, event, phase, since, now);
        channel.template_problem = text.problem;
        if channel.waiting.len() >= WAITING_MAX {
            channel.waiting.pop_front();
            channel.lost += 1;
        }
        channel.waiting.push_back(Message {
            id: new_id(),
            system: self.system.clone(),
            event: event.clone(),
            phase,
            since,
            at: now,
            subject: text.subject,
            body: text.body,
        });
    }

    /// The next message to be sent, through the first channel that has one and need not be left alone. It stays until
    /// it is [`Self::settled`].
    pub fn next(&self, now: Timestamp) -> Option<Delivery> {
        let is_free = |channel: &ChannelState| {
            let longest = self.settings.backoff.cap.max(AFTER_MAX);
            // A wait that is longer than any is one that a clock set back has made.
            channel.not_before.is_none_or(|at| at <= now || at.since(now) > longest)
        };
        let mut free = self.state.channels.iter().filter(|(_, channel)| is_free(channel));
        free.find_map(|(name, channel)| {
            let message = channel.waiting.front()?.clone();
            Some(Delivery { channel: name.clone(), message })
        })
    }

    /// What became of a delivery.
    pub fn settled(&mut self, delivery: &Delivery, outcome: Result<(), SendError>, now: Timestamp) {
        let Some(channel) = self.state.channels.get_mut(&delivery.channel) else { return };
        let at = channel.waiting.iter().position(|message| message.id == delivery.message.id);
        let message = at.and_then(|at| channel.waiting.remove(at));
        match outcome {
            Ok(()) => channel.succeed(now),
            Err(error) => {
                channel.fail(&error, self.settings.backoff, now);
                match message {
                    Some(message) if error.is_retriable() => channel.waiting.push_back(message),
                    Some(_) => channel.lost += 1,
                    None => {}
                }
            }
        }
    }

    /// How each channel does, in the order of their names.
    pub fn health(&self) -> Vec<Health> {
        let heartbeat = |name: &str| {
            let mut routes = self.routes.iter();
            routes.find(|route| route.channel == name).and_then(|route| route.heartbeat)
        };
        let channels = self.state.channels.iter();
        channels.map(|(name, channel)| channel.health(name, heartbeat(name))).collect()
    }

    /// The keys of what holds.
    pub fn holding(&self) -> impl Iterator<Item = &str> {
        let holds = |(_, condition): &(&String, &Condition)| condition.cleared.is_none();
        self.state.conditions.iter().filter(holds).map(|(key, _)| key.as_str())
    }
}

impl ChannelState {
    fn succeed(&mut self, now: Timestamp) {
        self.succeeded = Some(now);
        (self.failing, self.failures, self.not_before, self.last_error) = (None, 0, None, None);
    }

    fn fail(&mut self, error: &SendError, backoff: Backoff, now: Timestamp) {
        self.failing.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(report(error));
        // Beyond the doublings that lead to the cap nothing changes, and no attempt is the last one.
        let endless = Backoff { attempts: u32::MAX, ..backoff };
        let wait = endless.wait_after(self.failures.min(31)).unwrap_or(backoff.cap);
        let asked = error.after().unwrap_or_default().min(AFTER_MAX);
        self.not_before = error.is_retriable().then(|| now.plus(wait.max(asked)));
    }

    fn health(&self, name: &str, heartbeat: Option<Duration>) -> Health {
        Health {
            channel: name.to_owned(),
            succeeded: self.succeeded,
            failing: self.failing,
            failures: self.failures,
            last_error: self.last_error.clone(),
            template_problem: self.template_problem.clone(),
            waiting: self.waiting.len(),
            lost: self.lost,
            heartbeat,
        }
    }
}

/// Whether so long has passed. A clock that was set back by more than that does not make anybody wait for it.
fn has_passed(from: Timestamp, long: Duration, now: Timestamp) -> bool {
    (now >= from && now.since(from) >= long) || from.since(now) > long
}

fn heartbeat(system: &str, every: Duration) -> Event {
    Event {
        key: "heartbeat".to_owned(),
        kind: Kind::Heartbeat,
        about: system.to_owned(),
        what: format!(
            "a sign of life, due every {} s; when it does not come, nobody is watching",
            every.as_secs()
        ),
        severity: None,
    }
}
