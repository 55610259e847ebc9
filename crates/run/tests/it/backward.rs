//! Undo that fails, pauses, and runs that are given up.

use super::*;
use lifeboat_run::event::{Act, Again, Ending, Event};
use lifeboat_run::{Request, RunStatus, Said};

/// Two steps, the second on top of the first, one beside them, and one that fails; the second's undo fails until it is
/// mended.
const TEXT: &str = r#"---
inputs:
  place: {type: path}
---
# R

```bash {step=below needs=none pass=place undo=undo-below}
echo below >> "$place/effects"
```

```bash {step=above needs=below pass=place undo=undo-above}
echo above >> "$place/effects"
```

```bash {step=beside needs=none pass=place undo=undo-beside}
echo beside >> "$place/effects"
```

```bash {step=bad needs="above,beside" undo=none why="it only fails"}
exit 1
```

```bash {step=undo-below pass=place}
echo undo-below >> "$place/effects"
```

```bash {step=undo-above pass=place}
[ -e "$place/mended" ]; echo undo-above >> "$place/effects"
```

```bash {step=undo-beside pass=place}
echo undo-beside >> "$place/effects"
```
"#;

fn abort(undo: bool) -> Request {
    Request::Abort { by: "ann".to_owned(), reason: "it burns".to_owned(), undo }
}

fn given_up(place: &Path) -> Tried {
    let mut tried = Tried::begin(TEXT, &[("place", value(place.to_str().unwrap()))], house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    tried.executor.asker().ask(abort(true));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    tried
}

fn undone(place: &Path) -> Vec<String> {
    let mut undone = lines(&place.join("effects"));
    undone.retain(|line| line.starts_with("undo-"));
    undone.sort();
    undone
}

#[test]
fn a_failed_undo_stops_what_it_stands_on_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let mut tried = given_up(place.path());
    assert_eq!(undone(place.path()), ["undo-beside"]);
    assert_eq!(tried.status("above"), StepStatus::Failed { act: Act::Undo, repeat: Again::Never });
    assert_eq!(tried.status("below"), StepStatus::Done, "it is not undone under what is still there");
    let waiting = serde_json::to_value(tried.executor.standing().waiting).unwrap();
    assert_eq!((&waiting[0]["for"], &waiting[0]["act"]), (&"failed".into(), &"undo".into()), "{waiting}");
    // Mended, and tried again by a person.
    std::fs::write(place.path().join("mended"), "").unwrap();
    let said = Said { step: id("above"), by: "ann".to_owned(), reason: "mended".to_owned() };
    tried.executor.asker().ask(Request::Again(said));
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Undone));
    assert_eq!(undone(place.path()), ["undo-above", "undo-below", "undo-beside"]);
}

#[test]
fn a_failed_undo_shows_in_the_end() {
    let place = tempfile::tempdir().unwrap();
    let mut tried = given_up(place.path());
    tried.executor.asker().ask(abort(false));
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::UndoneInPart));
    assert_eq!(tried.status("above"), StepStatus::Failed { act: Act::Undo, repeat: Again::Never });
}

#[test]
fn a_failed_undo_is_there_after_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let tried = given_up(place.path());
    let (runs, run) = (tried.runs(), tried.run());
    drop(tried.executor);
    std::fs::write(place.path().join("mended"), "").unwrap();
    let mut executor = Executor::resume(&runs, &run, house(), &compile_bytes).unwrap();
    let rest = executor.drive(Until::PeopleAreNeeded, &mut |_: &Record, _: &RunState| {}).unwrap();
    assert_eq!(rest, Rest::Waiting, "nobody tries it again by himself");
    let settled = Request::Settle {
        step: id("above"),
        done: true,
        by: "ann".to_owned(),
        reason: "by hand".to_owned(),
        outputs: BTreeMap::new(),
    };
    executor.asker().ask(settled);
    let rest = executor.drive(Until::PeopleAreNeeded, &mut |_: &Record, _: &RunState| {}).unwrap();
    assert_eq!(rest, Rest::Waiting, "what failed is known to have failed");
    let said = Said { step: id("above"), by: "ann".to_owned(), reason: "mended".to_owned() };
    executor.asker().ask(Request::Again(said));
    let rest = executor.drive(Until::PeopleAreNeeded, &mut |_: &Record, _: &RunState| {}).unwrap();
    assert_eq!(rest, Rest::Ended(Ending::Undone));
}

#[test]
fn giving_up_without_undo_leaves_everything_and_says_so() {
    let place = tempfile::tempdir().unwrap();
    let mut tried = Tried::begin(TEXT, &[("place", value(place.path().to_str().unwrap()))], house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    tried.executor.asker().ask(abort(false));
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Aborted));
    assert!(undone(place.path()).is_empty());
    let ended = Executor::resume(&tried.runs(), &tried.run(), house(), &compile_bytes);
    drop(tried.executor);
    assert!(ended.is_err());
}

#[test]
fn giving_up_stops_what_is_under_way_and_undoes_it_as_possibly_done() {
    let text = r#"---
inputs:
  place: {type: path}
---
# R

```bash {step=long pass=place undo=undo-long}
echo long >> "$place/effects"
sleep 600
```

```bash {step=undo-long pass=place}
echo undo-long >> "$place/effects"
```
"#;
    let place = tempfile::tempdir().unwrap();
    let mut tried = Tried::begin(text, &[("place", value(place.path().to_str().unwrap()))], house());
    let asker = tried.executor.asker();
    let effects = place.path().join("effects");
    let waiting = std::thread::spawn(move || {
        let watch = lifeboat_base::clock::Stopwatch::start();
        while lines(&effects).is_empty() {
            assert!(watch.elapsed().as_secs() < 60, "it never began");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        asker.ask(abort(true));
    });
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Undone), "{:#?}", tried.records);
    waiting.join().unwrap();
    assert_eq!(lines(&place.path().join("effects")), ["long", "undo-long"]);
    assert_eq!(tried.events(), ["intent", "abort-asked", "outcome", "intent", "outcome", "ended"]);
}

#[test]
fn a_pause_lets_what_runs_end_and_begins_nothing() {
    let text = "# R\n\n- [ ] look {step=look}\n\n```bash {step=act undo=none why=x}\ntrue\n```\n";
    let mut tried = Tried::begin(text, &[], house());
    let asker = tried.executor.asker();
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    asker.ask(Request::Pause { by: "ann".to_owned(), reason: "wait for Bob".to_owned() });
    asker.ask(Request::Confirm { step: id("look"), by: "ann".to_owned(), done: true, note: None });
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(tried.executor.state().status, RunStatus::Paused { undoing: false });
    assert_eq!((tried.status("look"), tried.status("act")), (StepStatus::Done, StepStatus::Pending));
    assert_eq!(tried.executor.standing().reason.as_deref(), Some("wait for Bob"));
    asker.ask(Request::Resume { by: "ann".to_owned() });
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Done));
    assert!(matches!(&tried.records.last().unwrap().event, Event::Ended { how: Ending::Done }));
}
