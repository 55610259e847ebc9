//! Consent: who may give it, to what exactly, and when it is void.

use super::*;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use lifeboat_base::clock::{Clock, ManualClock, Timestamp};
use lifeboat_evidence::{PublicKey, Sign, Signature};
use lifeboat_run::event::{Ending, Event};
use lifeboat_run::{People, Person, Request, RunStatus, Signed, Statement, Waiting};
use std::time::Duration;

/// A key of a seed.
struct Key(Ed25519KeyPair);

impl Key {
    fn of(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }
}

impl Sign for Key {
    fn public_key(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().try_into().unwrap())
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).as_ref().try_into().unwrap())
    }
}

const BEGINNING: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A promotion that two commanders must agree to: to the timeline as it is, and to a loss up to five seconds. What
/// is measured stands in files.
const TEXT: &str = r#"---
inputs:
  place: {type: path}
---
# R

```check {step=measure pass=place outputs="timeline,loss"}
[ -e "$place/loss" ]
echo "timeline=$(cat "$place/timeline")" >> "$LIFEBOAT_OUTPUT"
echo "loss=$(cat "$place/loss")" >> "$LIFEBOAT_OUTPUT"
```

```bash {step=promote pass=place undo=none why=x approve="2 of commander" facts="measure.timeline" bounds="measure.loss <= 5s" expires=1h}
echo promoted >> "$place/effects"
```
"#;

struct Asked {
    place: tempfile::TempDir,
    clock: ManualClock,
    tried: Tried,
}

fn people() -> People {
    let mut people = People::default();
    for (name, seed, role) in [("ann", 1, "commander"), ("bob", 2, "commander"), ("eve", 3, "communications")]
    {
        let roles = [role.to_owned()].into();
        people.add(name, Person { roles, keys: vec![Key::of(seed).public_key()] });
    }
    // Two names, and one key: one person.
    people
        .add("anna", Person { roles: ["commander".to_owned()].into(), keys: vec![Key::of(1).public_key()] });
    people
}

fn house_at(clock: &ManualClock) -> House {
    House { people: people(), clock: Clock::Manual(clock.clone()), ..house() }
}

impl Asked {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(BEGINNING);
        let inputs = [("place", value(place.path().to_str().unwrap()))];
        let tried = Tried::begin(TEXT, &inputs, house_at(&clock));
        let mut asked = Self { place, clock, tried };
        asked.measure("timeline", "3");
        asked.measure("loss", "2s");
        asked.drive();
        asked
    }

    fn measure(&self, what: &str, value: &str) {
        std::fs::write(self.place.path().join(what), value).unwrap();
    }

    #[track_caller]
    fn drive(&mut self) {
        assert_eq!(self.tried.drive().unwrap(), Rest::Waiting, "{:#?}", self.tried.records);
    }

    #[track_caller]
    fn statement(&mut self) -> Statement {
        let waiting = self.tried.executor.standing().waiting;
        let mut statements = waiting.into_iter().filter_map(|waiting| match waiting {
            Waiting::Approval { statement, .. } => Some(statement),
            _ => None,
        });
        statements.next_back().unwrap()
    }

    fn ask(&self, signed: Signed) {
        self.tried.executor.asker().ask(Request::Approve(signed));
    }

    fn agree(&mut self, by: &str, seed: u8) {
        let signed = self.statement().sign(by, &Key::of(seed));
        self.ask(signed);
    }

    fn is_done(&self) -> bool {
        self.place.path().join("effects").exists()
    }

    fn whys(&self) -> Vec<String> {
        let whys = self.tried.records.iter().filter_map(|record| match &record.event {
            Event::Refused { why, .. } | Event::ApprovalVoid { why, .. } => Some(why.clone()),
            Event::ApprovalExpired { .. } => Some("expired".to_owned()),
            _ => None,
        });
        whys.collect()
    }
}

#[test]
fn two_people_who_may_are_enough_and_less_is_not() {
    let mut asked = Asked::new();
    let statement = asked.statement();
    assert_eq!(statement.facts, BTreeMap::from([("timeline".to_owned(), "3".to_owned())]), "{statement:?}");
    assert_eq!((statement.bounds[0].shown.as_str(), statement.bounds[0].limit.as_str()), ("2s", "5s"));
    for (by, seed) in [("eve", 3), ("mallory", 4), ("bob", 1), ("ann", 1), ("ann", 1), ("anna", 1)] {
        asked.agree(by, seed);
    }
    asked.drive();
    assert_eq!(
        asked.whys(),
        [
            "eve is no commander",
            "the plan has nobody called \"mallory\"",
            "the plan lists no such key for bob",
            "ann has agreed already",
            "ann has agreed already",
        ]
    );
    assert!(!asked.is_done());
    asked.agree("bob", 2);
    assert_eq!(asked.tried.drive().unwrap(), Rest::Ended(Ending::Done));
    assert!(asked.is_done());
}

#[test]
fn a_signature_is_under_one_name_and_one_statement() {
    let mut asked = Asked::new();
    let statement = asked.statement();
    let mut stolen = statement.sign("ann", &Key::of(2));
    (stolen.by, stolen.key) = ("bob".to_owned(), Key::of(2).public_key());
    asked.ask(stolen);
    let mut other = statement.clone();
    other.bounds[0].limit = "5h".to_owned();
    let other = other.sign("bob", &Key::of(2));
    asked.ask(other);
    let mut elsewhere = statement.sign("bob", &Key::of(2));
    elsewhere.block = id("measure");
    asked.ask(elsewhere);
    asked.drive();
    let whys = asked.whys();
    assert_eq!(
        whys,
        [
            "the signature is not that of bob",
            "bob agreed to something that has changed since",
            "nobody asks for consent to measure",
        ]
    );
}

#[test]
fn consent_is_void_when_a_fact_changes_or_a_bound_is_passed() {
    for (what, value, why) in [
        ("timeline", "4", "timeline was 3, and is 4"),
        ("loss", "5001ms", "loss is 5001ms, beyond 5s"),
        ("loss", "much", "loss is much, which does not compare with 5s"),
    ] {
        let mut asked = Asked::new();
        asked.agree("ann", 1);
        asked.drive();
        // Between the two it changes, and nothing but the executor looks.
        asked.measure(what, value);
        asked.agree("bob", 2);
        asked.drive();
        assert_eq!(asked.whys(), [why]);
        assert!(!asked.is_done(), "{what}");
        if what == "timeline" {
            // Everybody is asked again, with the facts as they are now.
            assert_eq!(asked.statement().facts["timeline"], "4");
            asked.agree("ann", 1);
            asked.agree("bob", 2);
            assert_eq!(asked.tried.drive().unwrap(), Rest::Ended(Ending::Done));
        } else {
            // Nobody is asked to agree to what is beyond the bound already.
            assert_eq!(asked.tried.executor.state().status, RunStatus::Paused { undoing: false });
            asked.measure("loss", "1s");
            asked.tried.executor.asker().ask(Request::Resume { by: "ann".to_owned() });
            asked.drive();
            assert_eq!(asked.statement().bounds[0].shown, "1s");
        }
    }
}

#[test]
fn a_measured_fact_may_move_within_its_bound() {
    let mut asked = Asked::new();
    asked.agree("ann", 1);
    asked.measure("loss", "5s");
    asked.agree("bob", 2);
    assert_eq!(asked.tried.drive().unwrap(), Rest::Ended(Ending::Done));
    let measured = asked.tried.records.iter().rev().find_map(|record| match &record.event {
        Event::Measured { facts, .. } => Some(facts.clone()),
        _ => None,
    });
    assert_eq!(measured.unwrap()["loss"], "5s", "what it was when it was begun is recorded");
}

#[test]
fn a_check_that_cannot_answer_any_more_voids_consent() {
    let mut asked = Asked::new();
    asked.agree("ann", 1);
    asked.agree("bob", 2);
    std::fs::remove_file(asked.place.path().join("loss")).unwrap();
    asked.drive();
    assert!(!asked.is_done());
    assert!(asked.whys()[0].starts_with("measure: "), "{:?}", asked.whys());
    assert!(
        asked
            .tried
            .executor
            .standing()
            .reason
            .unwrap()
            .starts_with("consent to promote cannot be asked for: measure:")
    );
}

#[test]
fn consent_expires_and_a_clock_that_goes_back_does_not_revive_it() {
    let mut asked = Asked::new();
    asked.agree("ann", 1);
    asked.drive();
    let late = asked.statement().sign("bob", &Key::of(2));
    asked.clock.advance(Duration::from_secs(3601));
    asked.drive();
    assert_eq!(asked.whys(), ["expired"]);
    asked.clock.set(BEGINNING);
    asked.ask(late);
    asked.drive();
    assert_eq!(asked.whys(), ["expired", "bob agreed to something that has changed since"]);
    assert!(!asked.is_done());
    // Also for another executor, whose clock never was ahead.
    let (runs, run) = (asked.tried.runs(), asked.tried.run());
    let statement = asked.statement();
    drop(asked.tried.executor);
    let clock = ManualClock::at(BEGINNING);
    let mut executor = Executor::resume(&runs, &run, house_at(&clock), &compile_bytes).unwrap();
    assert!(executor.standing().elapsed >= Duration::from_secs(3600));
    assert!(statement.asked > BEGINNING.plus(Duration::from_secs(3600)));
    for (by, seed) in [("ann", 1), ("bob", 2)] {
        executor.asker().ask(Request::Approve(statement.sign(by, &Key::of(seed))));
    }
    let rest = executor.drive(Until::PeopleAreNeeded, &mut |_: &Record, _: &RunState| {}).unwrap();
    assert_eq!(rest, Rest::Ended(Ending::Done));
}

#[test]
fn consent_outlives_its_executor_and_counts_the_people_as_they_are_then() {
    let mut asked = Asked::new();
    asked.agree("ann", 1);
    asked.drive();
    let (runs, run) = (asked.tried.runs(), asked.tried.run());
    let statement = asked.statement();
    drop(asked.tried.executor);
    // Meanwhile Ann is no commander any more.
    let mut house = house_at(&asked.clock);
    let roles = ["communications".to_owned()].into();
    house.people.add("ann", Person { roles, keys: vec![Key::of(1).public_key()] });
    let mut executor = Executor::resume(&runs, &run, house, &compile_bytes).unwrap();
    executor.asker().ask(Request::Approve(statement.sign("bob", &Key::of(2))));
    let drive = |executor: &mut Executor| {
        executor.drive(Until::PeopleAreNeeded, &mut |_: &Record, _: &RunState| {}).unwrap()
    };
    assert_eq!(drive(&mut executor), Rest::Waiting);
    drop(executor);
    let mut executor = Executor::resume(&runs, &run, house_at(&asked.clock), &compile_bytes).unwrap();
    assert_eq!(drive(&mut executor), Rest::Ended(Ending::Done), "and now she is again");
}
