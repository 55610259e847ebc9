//! What people ask: recorded when done, recorded when refused, and heard from any process.

use super::*;
use lifeboat_base::clock::{Clock, ManualClock, Timestamp};
use lifeboat_run::event::{Act, Again, Ending, Event};
use lifeboat_run::{People, Person, Request, Said};
use std::collections::BTreeSet;
use std::time::Duration;

fn person(roles: &[&str]) -> Person {
    Person { roles: roles.iter().map(|role| (*role).to_owned()).collect::<BTreeSet<_>>(), keys: Vec::new() }
}

fn confirm(step: &str, by: &str) -> Request {
    Request::Confirm { step: id(step), by: by.to_owned(), done: true, note: None }
}

fn refusals(tried: &Tried) -> Vec<String> {
    let whys = tried.records.iter().filter_map(|record| match &record.event {
        Event::Refused { why, .. } => Some(why.clone()),
        _ => None,
    });
    whys.collect()
}

#[test]
fn a_step_for_people_is_confirmed_by_name_and_by_who_may() {
    let mut house = house();
    let mut people = People::default();
    people.add("ann", person(&["communications"]));
    people.add("bob", person(&["database"]));
    house.people = people;
    let text = "# R\n\n- [ ] tell everybody {step=tell by=\"communications\"}\n\n- [ ] look {step=look}\n";
    let mut tried = Tried::begin(text, &[], house);
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let asker = tried.executor.asker();
    for (step, by) in [("tell", "bob"), ("look", "ann"), ("tell", " "), ("tell", "ann")] {
        asker.ask(confirm(step, by));
    }
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(
        refusals(&tried),
        ["bob is no communications", "look does not wait for anybody", "nobody says who asks"]
    );
    assert_eq!(tried.executor.state().steps[&id("tell")].by.as_deref(), Some("ann"));
    let cannot = |note: Option<&str>| Request::Confirm {
        step: id("look"),
        by: "zoe".to_owned(),
        done: false,
        note: note.map(str::to_owned),
    };
    asker.ask(cannot(None));
    asker.ask(cannot(Some("the light is off")));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(tried.why("look"), "the light is off");
    let said = |reason: &str| Said { step: id("look"), by: "ann".to_owned(), reason: reason.to_owned() };
    asker.ask(Request::Skip(said(" ")));
    asker.ask(Request::Skip(said("nothing to see")));
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Done));
    assert_eq!(tried.status("look"), StepStatus::Skipped);
    assert_eq!(refusals(&tried).last().unwrap(), "there is no reason");
}

#[test]
fn what_another_process_asks_is_found_in_the_inbox_also_after_a_restart() {
    let text = "# R\n\n- [ ] look {step=look}\n\n- [ ] look again {step=again}\n";
    let mut tried = Tried::begin(text, &[], house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let folder = tried.runs().open(&tried.run()).unwrap();
    folder.ask(&confirm("look", "ann"), Timestamp::from_secs(1)).unwrap();
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(tried.status("look"), StepStatus::Done);
    let (runs, run) = (tried.runs(), tried.run());
    drop(tried.executor);
    folder.ask(&confirm("again", "bob"), Timestamp::from_secs(2)).unwrap();
    std::fs::write(folder.path().join("inbox").join("00-nonsense.json"), "{").unwrap();
    let mut executor = Executor::resume(&runs, &run, house(), &compile_bytes).unwrap();
    let mut kinds = Vec::new();
    let mut observer = |record: &Record, _: &RunState| kinds.push(kind(record));
    let rest = executor.drive(Until::PeopleAreNeeded, &mut observer).unwrap();
    assert_eq!(rest, Rest::Ended(Ending::Done));
    assert_eq!(kinds, ["refused", "outcome", "ended"]);
    assert_eq!(std::fs::read_dir(folder.path().join("inbox")).unwrap().count(), 0);
}

#[test]
fn nobody_is_waited_for_longer_than_the_document_says_however_the_clock_jumps() {
    let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
    let mut house = house();
    house.clock = Clock::Manual(clock.clone());
    let mut tried = Tried::begin("# R\n\n- [ ] look {step=look timeout=1h}\n", &[], house);
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    clock.set(Timestamp::from_secs(1));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert!(matches!(tried.status("look"), StepStatus::Open { .. }));
    clock.set(Timestamp::from_secs(1_800_000_000).plus(Duration::from_secs(3601)));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(tried.status("look"), StepStatus::Failed { act: Act::Do, repeat: Again::Safe });
    assert_eq!(tried.why("look"), "nobody confirmed it within 1h");
    assert!(tried.records.is_sorted_by_key(|record| record.at), "the journal's time never goes back");
}

#[test]
fn what_cannot_be_is_refused_and_said() {
    let text = "# R\n\n```bash {step=bad undo=none why=x}\nexit 1\n```\n";
    let mut tried = Tried::begin(text, &[], house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let asker = tried.executor.asker();
    asker.ask(Request::Resume { by: "ann".to_owned() });
    let (by, reason) = ("ann".to_owned(), "so I say".to_owned());
    asker.ask(Request::Settle {
        step: id("bad"),
        done: true,
        by: by.clone(),
        reason: reason.clone(),
        outputs: BTreeMap::new(),
    });
    asker.ask(Request::Skip(Said { step: id("gone"), by, reason }));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let refused = refusals(&tried);
    assert!(refused[0].starts_with("Resumed cannot follow where the run is Going"), "{refused:?}");
    assert!(refused[1].starts_with("Settled cannot follow where bad is Failed"), "{refused:?}");
    assert_eq!(refused[2], "the runbook has no step gone");
}

/// What others go on with is not lost with the executor: who says that it happened says what it left.
#[test]
fn who_settles_a_step_says_what_it_left() {
    let place = tempfile::tempdir().unwrap();
    let text = r#"---
inputs:
  place: {type: path}
---
# R

```bash {step=make outputs=what pass=place timeout=1s undo=none why=x}
echo "what=seven" >> "$LIFEBOAT_OUTPUT"
sleep 60
```

```bash {step=use pass=place,make.what repeat=safe undo=none why=x}
echo "$what" >> "$place/used"
```
"#;
    let inputs = [("place", value(place.path().to_str().unwrap()))];
    let mut tried = Tried::begin(text, &inputs, house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(tried.status("make"), StepStatus::Unknown { act: Act::Do, repeat: Again::Never });
    let settle = |outputs: &[(&str, &str)]| Request::Settle {
        step: id("make"),
        done: true,
        by: "ann".to_owned(),
        reason: "I looked".to_owned(),
        outputs: outputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    let long = "\u{1}".repeat(11_000);
    for refused in [&[][..], &[("what", "7"), ("else", "8")][..], &[("what", long.as_str())][..]] {
        tried.executor.asker().ask(settle(refused));
    }
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let refused: Vec<String> = tried
        .records
        .iter()
        .filter_map(|record| match &record.event {
            Event::Refused { why, .. } => Some(why.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused[0].starts_with("it leaves what, and nobody says what that is"), "{refused:?}");
    assert_eq!(refused[1], "make leaves no else");
    tried.executor.asker().ask(settle(&[("what", "seven")]));
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Done));
    assert_eq!(lines(&place.path().join("used")), ["seven"]);
}
