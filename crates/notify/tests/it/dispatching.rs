//! The dispatcher through simulated time, with channels that take or refuse messages as they are told.

use crate::{NOW, event};
use lifeboat_base::backoff::Backoff;
use lifeboat_base::clock::Timestamp;
use lifeboat_notify::dispatch::{State, WAITING_MAX};
use lifeboat_notify::template::Templates;
use lifeboat_notify::{Channel, Dispatcher, Event, Health, Kind, Message, Phase, Route, SendError, Settings};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

/// Sends everything that can be sent now, as an owner does.
pub(crate) fn run(dispatcher: &mut Dispatcher, channels: &[Box<dyn Channel>], now: Timestamp) {
    dispatcher.tick(now);
    while let Some(delivery) = dispatcher.next(now) {
        let channel = channels.iter().find(|channel| channel.name() == delivery.channel).unwrap();
        let outcome = channel.send(&delivery.message, now);
        dispatcher.settled(&delivery, outcome, now);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Takes,
    Busy,
    Refuses,
}

/// A channel in memory.
struct Memory {
    name: &'static str,
    mood: Mutex<Mood>,
    taken: Mutex<Vec<Message>>,
}

impl Memory {
    fn new(name: &'static str) -> &'static Self {
        Box::leak(Box::new(Self { name, mood: Mutex::new(Mood::Takes), taken: Mutex::default() }))
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn taken(&self) -> Vec<Message> {
        std::mem::take(&mut *self.taken.lock().unwrap())
    }

    fn phases(&self) -> Vec<Phase> {
        self.taken().into_iter().map(|message| message.phase).collect()
    }
}

struct Through(&'static Memory);

impl Channel for Through {
    fn name(&self) -> &str {
        self.0.name
    }

    fn send(&self, message: &Message, _now: Timestamp) -> Result<(), SendError> {
        match *self.0.mood.lock().unwrap() {
            Mood::Takes => {
                self.0.taken.lock().unwrap().push(message.clone());
                Ok(())
            }
            Mood::Busy => Err(SendError::Later { what: "busy".to_owned(), after: None, source: None }),
            Mood::Refuses => Err(SendError::Final { what: "refused".to_owned(), source: None }),
        }
    }
}

/// A dispatcher, its channels and the time.
struct World {
    dispatcher: Dispatcher,
    channels: Vec<Box<dyn Channel>>,
    routes: Vec<Route>,
    now: Timestamp,
}

impl World {
    fn new(channels: &[&'static Memory], change: impl Fn(&mut Route)) -> Self {
        let route = |memory: &&'static Memory| {
            let mut route = Route { channel: memory.name.to_owned(), ..Route::default() };
            change(&mut route);
            route
        };
        let routes: Vec<Route> = channels.iter().map(route).collect();
        Self {
            dispatcher: Dispatcher::new("aragora", Settings::default(), routes.clone(), State::default()),
            channels: channels.iter().map(|memory| Box::new(Through(memory)) as Box<dyn Channel>).collect(),
            routes,
            now: NOW,
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
        run(&mut self.dispatcher, &self.channels, self.now);
    }

    fn holds(&mut self, events: &[Event]) {
        self.dispatcher.observe(events.to_vec(), self.now);
        self.pass(0);
    }

    /// As after a kill: only what was kept is there.
    fn restart(&mut self) {
        let text = serde_json::to_string(self.dispatcher.state()).unwrap();
        let state: State = serde_json::from_str(&text).unwrap();
        assert_eq!(&state, self.dispatcher.state());
        self.dispatcher = Dispatcher::new("aragora", Settings::default(), self.routes.clone(), state);
    }

    fn health(&self) -> Health {
        self.dispatcher.health().remove(0)
    }
}

fn stall() -> Event {
    event("stall users", Kind::Stall)
}

fn breach() -> Event {
    event("breach users", Kind::Breach)
}

#[test]
fn a_condition_is_told_once_reminded_and_told_to_be_over_once() {
    let memory = Memory::new("on-call");
    let mut world = World::new(&[memory], |_| {});
    for _ in 0..3600 {
        world.holds(&[stall()]);
        world.pass(1);
    }
    assert_eq!(memory.phases(), [Phase::Began]);
    for _ in 0..8 * 60 {
        world.pass(60);
        world.holds(&[stall()]);
    }
    assert_eq!(memory.phases(), [Phase::Reminder, Phase::Reminder]);
    let end = world.now;
    world.holds(&[]);
    world.pass(59);
    assert_eq!(memory.phases(), []);
    world.pass(1);
    let over = memory.taken();
    assert_eq!((over.len(), over[0].phase, over[0].since, over[0].at), (1, Phase::Recovered, NOW, end));
    world.pass(100_000);
    assert_eq!(memory.phases(), []);
    assert_eq!(world.dispatcher.holding().count(), 0);
}

#[test]
fn what_flaps_is_told_once() {
    let memory = Memory::new("on-call");
    let mut world = World::new(&[memory], |_| {});
    for _ in 0..100 {
        world.holds(&[stall()]);
        world.pass(10);
        world.holds(&[]);
        world.pass(50);
    }
    world.pass(60);
    assert_eq!(memory.phases(), [Phase::Began, Phase::Recovered]);
}

#[test]
fn conditions_are_told_apart_by_their_keys() {
    let memory = Memory::new("on-call");
    let mut world = World::new(&[memory], |_| {});
    world.holds(&[stall(), breach()]);
    assert_eq!(memory.taken().len(), 2);
    world.holds(&[breach()]);
    world.pass(60);
    let over = memory.taken();
    assert_eq!((over.len(), over[0].event.kind), (1, Kind::Stall));
}

#[test]
fn a_channel_is_told_what_it_wants() {
    let (all, some) = (Memory::new("all"), Memory::new("some"));
    let mut world = World::new(&[all, some], |route| {
        if route.channel == "some" {
            route.kinds = BTreeSet::from([Kind::Breach]);
        }
    });
    world.holds(&[stall(), breach()]);
    world.dispatcher.once(&event("leader 8", Kind::LeaderChanged), NOW);
    world.pass(0);
    assert_eq!((all.taken().len(), some.taken().len()), (3, 1));
}

#[test]
fn a_channel_that_is_down_gets_it_later_and_holds_up_no_other() {
    let (down, up) = (Memory::new("a-down"), Memory::new("b-up"));
    let mut world = World::new(&[down, up], |_| {});
    down.is(Mood::Busy);
    world.holds(&[stall()]);
    assert_eq!((down.taken().len(), up.taken().len()), (0, 1));
    let health = world.health();
    assert_eq!((health.failing, health.waiting, health.failures), (Some(NOW), 1, 1));
    assert_eq!(health.last_error.as_deref(), Some("busy"));
    for _ in 0..60 {
        world.pass(60);
        world.restart();
    }
    // From 5 seconds to 10 minutes: in an hour some ten attempts, never sixty.
    let health = world.health();
    assert!((7..20).contains(&health.failures), "{health:?}");
    assert_eq!((health.failing, health.succeeded), (Some(NOW), None));
    down.is(Mood::Takes);
    world.pass(600);
    assert_eq!(down.phases(), [Phase::Began]);
    let health = world.health();
    assert_eq!((health.failing, health.succeeded, health.waiting), (None, Some(world.now), 0));
    assert_eq!((health.failures, health.last_error), (0, None));
}

#[test]
fn what_was_over_before_it_could_be_told_is_told_in_one_message() {
    let memory = Memory::new("on-call");
    let mut world = World::new(&[memory], |_| {});
    memory.is(Mood::Busy);
    world.holds(&[stall()]);
    world.pass(5 * 3600);
    world.holds(&[]);
    world.pass(60);
    memory.is(Mood::Takes);
    world.pass(3600);
    assert_eq!(memory.phases(), [Phase::Recovered]);
}

#[test]
fn a_message_that_is_refused_for_good_is_counted_as_lost_and_the_channel_as_failing() {
    let memory = Memory::new("on-call");
    let mut world = World::new(&[memory], |_| {});
    memory.is(Mood::Refuses);
    world.holds(&[stall()]);
    let health = world.health();
    assert_eq!((health.lost, health.waiting, health.failing), (1, 0, Some(NOW)));
    memory.is(Mood::Takes);
    world.pass(4 * 3600);
    assert_eq!(memory.phases(), [Phase::Reminder], "the condition still holds, so it is told after all");
    assert_eq!(world.health().failing, None);
}

#[test]
fn a_message_that_fails_holds_up_none_behind_it() {
    struct Picky;
    impl Channel for Picky {
        fn name(&self) -> &str {
            "picky"
        }

        fn send(&self, message: &Message, _now: Timestamp) -> Result<(), SendError> {
            match message.event.kind {
                Kind::Stall => Err(SendError::Later { what: "busy".into(), after: None, source: None }),
                _ => Ok(()),
            }
        }
    }
    let routes = vec![Route { channel: "picky".to_owned(), ..Route::default() }];
    let mut dispatcher = Dispatcher::new("aragora", Settings::default(), routes, State::default());
    dispatcher.observe(vec![stall(), breach()], NOW);
    let channels: Vec<Box<dyn Channel>> = vec![Box::new(Picky)];
    run(&mut dispatcher, &channels, NOW);
    run(&mut dispatcher, &channels, NOW.plus(Duration::from_secs(5)));
    assert_eq!(dispatcher.health()[0].waiting, 1);
    assert!(dispatcher.health()[0].succeeded.is_some());
}

#[test]
fn queues_are_bounded_and_old_messages_given_up_and_both_are_counted() {
    let memory = Memory::new("on-call");
    let mut world = World::new(&[memory], |_| {});
    memory.is(Mood::Busy);
    for n in 0..WAITING_MAX + 5 {
        world.dispatcher.once(&event(&format!("leader {n}"), Kind::LeaderChanged), NOW);
    }
    let health = world.health();
    assert_eq!((health.waiting, health.lost), (WAITING_MAX, 5));
    world.pass(86_400);
    let health = world.health();
    assert_eq!((health.waiting, health.lost), (0, WAITING_MAX as u64 + 5));
}

#[test]
fn a_sign_of_life_comes_in_time_one_at_a_time_and_after_a_restart() {
    let memory = Memory::new("watchdog");
    let mut world = World::new(&[memory], |route| {
        route.heartbeat = Some(Duration::from_secs(3600));
        route.kinds = BTreeSet::from([Kind::Breach]);
    });
    for _ in 0..180 {
        world.pass(60);
        world.restart();
    }
    let beats = memory.taken();
    assert_eq!(beats.len(), 3);
    assert!(beats.iter().all(|beat| beat.event.kind == Kind::Heartbeat && beat.phase == Phase::Once));
    assert_eq!(beats[1].at.since(beats[0].at), Duration::from_secs(3600));
    memory.is(Mood::Busy);
    world.pass(10 * 3600);
    world.pass(10 * 3600);
    assert_eq!(world.health().waiting, 1, "signs of life that are late say nothing more than one");
    assert_eq!(world.health().heartbeat, Some(Duration::from_secs(3600)));
}

#[test]
fn a_restart_between_sending_and_settling_repeats_the_same_id() {
    let memory = Memory::new("on-call");
    let mut world = World::new(&[memory], |_| {});
    world.dispatcher.observe(vec![stall()], world.now);
    let before = world.dispatcher.next(world.now).unwrap();
    world.restart();
    assert_eq!(world.dispatcher.next(world.now), Some(before.clone()));
    world.dispatcher.settled(&before, Ok(()), world.now);
    assert_eq!(world.dispatcher.next(world.now), None);
    world.restart();
    world.holds(&[stall()]);
    assert_eq!(memory.phases(), [], "told before the restart, and still holding");
}

#[test]
fn a_clock_that_goes_back_stops_nothing_for_good() {
    let memory = Memory::new("on-call");
    let mut world = World::new(&[memory], |route| route.heartbeat = Some(Duration::from_secs(3600)));
    memory.is(Mood::Busy);
    world.holds(&[stall()]);
    world.pass(3600);
    memory.is(Mood::Takes);
    world.now = NOW.minus(Duration::from_secs(1_000_000));
    world.pass(0);
    world.pass(0);
    let began = memory.phases().contains(&Phase::Began);
    assert!(began && world.health().lost == 0, "what waits is sent, and not taken for old");
    world.pass(4 * 3600);
    assert!(memory.phases().contains(&Phase::Reminder), "reminders come as ever");
}

#[test]
fn a_faulty_template_is_said_and_people_are_told_all_the_same() {
    let memory = Memory::new("on-call");
    let mut world = World::new(&[memory], |route| {
        route.templates = Templates { subject: None, body: Some("{{ password }}".to_owned()) };
    });
    world.holds(&[stall()]);
    let told = memory.taken().remove(0);
    assert!(told.body.contains("the stream is stalled") && told.body.contains("the template of the body"));
    assert!(world.health().template_problem.unwrap().starts_with("the template of the body"));
}

#[test]
fn channels_that_are_no_more_are_forgotten_and_new_ones_are_there() {
    let memory = Memory::new("old");
    let mut world = World::new(&[memory], |_| {});
    memory.is(Mood::Busy);
    world.holds(&[stall()]);
    world.routes = vec![Route { channel: "new".to_owned(), ..Route::default() }];
    world.restart_with_new_routes();
    let health = world.dispatcher.health();
    assert_eq!((health.len(), health[0].channel.as_str(), health[0].waiting), (1, "new", 0));
}

impl World {
    fn restart_with_new_routes(&mut self) {
        let state = self.dispatcher.state().clone();
        self.dispatcher = Dispatcher::new("aragora", Settings::default(), self.routes.clone(), state);
    }
}

#[test]
fn the_other_sides_wish_outlasts_the_backoff() {
    struct Patient;
    impl Channel for Patient {
        fn name(&self) -> &str {
            "patient"
        }

        fn send(&self, _message: &Message, _now: Timestamp) -> Result<(), SendError> {
            let after = Some(Duration::from_secs(1200));
            Err(SendError::Later { what: "later".into(), after, source: None })
        }
    }
    let routes = vec![Route { channel: "patient".to_owned(), ..Route::default() }];
    let backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(2), attempts: 3 };
    let settings = Settings { backoff, ..Settings::default() };
    let mut dispatcher = Dispatcher::new("aragora", settings, routes, State::default());
    dispatcher.observe(vec![stall()], NOW);
    let channels: Vec<Box<dyn Channel>> = vec![Box::new(Patient)];
    run(&mut dispatcher, &channels, NOW);
    assert_eq!(dispatcher.next(NOW.plus(Duration::from_secs(1199))), None);
    assert!(dispatcher.next(NOW.plus(Duration::from_secs(1200))).is_some());
}
