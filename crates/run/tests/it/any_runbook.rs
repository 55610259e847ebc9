//! What must hold of any runbook: each step may happen twice where it says so, a failure at any step can be undone,
//! and a kill before or after any record does nothing twice. Another runbook is one more line in [`ALL`].

use super::*;
use crate::kills::kill_everywhere;
use lifeboat_run::event::{Act, Ended, Ending, Part};
use lifeboat_run::{Carried, Carriers, Carry, Order, Request, Stop};
use lifeboat_runbook::{Repeat, Undo};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// Every script appends its step's name to `$place/effects` once for each time that it takes effect; an undo appends
/// `undo-` and the name of its step.
pub(crate) const CHAIN: &str = r#"---
inputs:
  place: {type: path}
---
# A chain

```check {step=look pass=place}
[ -d "$place" ]
```

```bash {step=fence pass=place undo=unfence}
echo fence >> "$place/effects"
```

```bash {step=prepare pass=place repeat=safe undo=unprepare outputs=position}
touch "$place/prepared"; echo position=7 >> "$LIFEBOAT_OUTPUT"
```

```bash {step=promote pass="place,prepare.position" repeat=check probe=is-promoted undo=demote}
[ "$position" = 7 ]; echo promote >> "$place/effects"
```

```bash {step=tell pass=place undo=none why="who was told was told"}
echo tell >> "$place/effects"
```

```check {step=is-promoted pass=place}
grep -qx promote "$place/effects"
```

```bash {step=unfence pass=place repeat=safe}
echo undo-fence >> "$place/effects"
```

```bash {step=unprepare pass=place repeat=safe}
rm -f "$place/prepared"; echo undo-prepare >> "$place/effects"
```

```bash {step=demote pass=place repeat=safe}
echo undo-promote >> "$place/effects"
```
"#;

pub(crate) const FAN: &str = r#"---
inputs:
  place: {type: path}
---
# A fan

```bash {step=one needs=none pass=place undo=undo-one}
echo one >> "$place/effects"
```

```bash {step=two needs=none pass=place undo=undo-two}
echo two >> "$place/effects"
```

```bash {step=three needs="one,two" pass=place repeat=safe undo=undo-three}
touch "$place/three"
```

```bash {step=undo-one pass=place}
echo undo-one >> "$place/effects"
```

```bash {step=undo-two pass=place}
echo undo-two >> "$place/effects"
```

```bash {step=undo-three pass=place repeat=safe}
rm -f "$place/three"; echo undo-three >> "$place/effects"
```
"#;

pub(crate) const ALL: &[&str] = &[CHAIN, FAN];

/// Does something to orders on their way.
struct Wrapped<F> {
    inner: Arc<dyn Carry>,
    with: F,
}

impl<F: Fn(&dyn Carry, &Order, &Stop) -> Carried + Send + Sync> Carry for Wrapped<F> {
    fn carry(&self, order: &Order, stop: &Stop) -> Carried {
        (self.with)(&*self.inner, order, stop)
    }

    fn look(&self, order: &Order) -> Vec<String> {
        self.inner.look(order)
    }
}

fn wrapped(with: impl Fn(&dyn Carry, &Order, &Stop) -> Carried + Send + Sync + 'static) -> House {
    let mut house = house();
    let inner = house.carriers.bash.clone().unwrap();
    house.carriers = Carriers::all(Arc::new(Wrapped { inner, with }));
    house
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let effects = place.path().join("effects");
    (place, effects)
}

fn at(place: &tempfile::TempDir) -> [(&'static str, Given); 1] {
    [("place", value(place.path().to_str().unwrap()))]
}

#[test]
fn every_step_may_happen_twice_that_says_so() {
    for text in ALL {
        let runbook = compiled(text);
        let (place, effects) = place();
        let house = wrapped(move |inner, order, stop| {
            let is_safe = runbook
                .step(&order.block)
                .is_some_and(|block| block.is_check || block.repeat == Repeat::Safe);
            if is_safe {
                assert_eq!(inner.carry(order, stop).ended, Ended::Done, "{}", order.block);
            }
            inner.carry(order, stop)
        });
        let mut tried = Tried::begin(text, &at(&place), house);
        assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Done), "{:#?}", tried.records);
        assert!(counted(&effects).values().all(|times| *times == 1), "{:?}", counted(&effects));
    }
}

/// Fails one step, before it takes effect or after, gives the run up with undo, and looks what is left.
#[test]
fn a_failure_at_each_step_can_be_undone() {
    for text in ALL {
        let runbook = compiled(text);
        for step in runbook.forward() {
            for takes_effect in [false, true] {
                let (place, effects) = place();
                let failing = step.id.clone();
                let house = wrapped(move |inner, order, stop| {
                    if (&order.block, order.part) != (&failing, Part::Itself) {
                        return inner.carry(order, stop);
                    }
                    if takes_effect {
                        inner.carry(order, stop);
                    }
                    Carried::failed("on purpose")
                });
                let mut tried = Tried::begin(text, &at(&place), house);
                assert_eq!(tried.drive().unwrap(), Rest::Waiting);
                assert!(matches!(tried.status(step.id.as_str()), StepStatus::Failed { act: Act::Do, .. }));
                let abort = Request::Abort { by: "ann".to_owned(), reason: "no".to_owned(), undo: true };
                tried.executor.asker().ask(abort);
                assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Undone), "{:#?}", tried.records);
                check_undone(&tried, &runbook, &effects, step.id.as_str());
            }
        }
    }
}

fn check_undone(tried: &Tried, runbook: &Runbook, effects: &Path, failed: &str) {
    let effects = counted(effects);
    for step in runbook.forward() {
        let undone = effects.get(&format!("undo-{}", step.id)).copied().unwrap_or(0);
        let state = tried.executor.state().steps.get(&step.id);
        let can_be_undone = matches!(step.undo, Undo::By(_));
        let was_begun = state.is_some_and(|state| state.attempts > 0);
        assert_eq!(undone, u32::from(can_be_undone && was_begun), "{} of {failed}: {effects:?}", step.id);
        assert!(!state.is_some_and(|state| state.possibly_done && can_be_undone));
    }
}

/// What completed last is undone first.
#[test]
fn undo_goes_backwards() {
    let (place, effects) = place();
    let mut tried = Tried::begin(&CHAIN.replace("echo tell", "exit 1; echo tell"), &at(&place), house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let abort = Request::Abort { by: "ann".to_owned(), reason: "no".to_owned(), undo: true };
    tried.executor.asker().ask(abort);
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Undone));
    assert_eq!(lines(&effects), ["fence", "promote", "undo-promote", "undo-prepare", "undo-fence"]);
}

#[test]
fn a_kill_at_any_instant_does_nothing_twice() {
    let mut killed = BTreeSet::new();
    for text in ALL {
        killed.extend(kill_everywhere(text));
    }
    let all = ["run::append", "run::carried", "run::carry", "run::synced", "run::written"];
    assert_eq!(killed.into_iter().collect::<Vec<_>>(), all, "somebody was killed at each");
}
