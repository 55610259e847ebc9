//! A mirrored run whose repository is part of the disaster.

use crate::place::{Place, Ran};
use crate::races::moved;

const RUNBOOK: &str = r#"# Switch

- [ ] Users have been told {step=told timeout=1h}

```bash {step=prepare repeat=safe undo=none why="nothing is changed" timeout=1m}
echo prepared >> prepared
```

```bash {step=switch repeat=never undo=none why="it is seen outside" timeout=1m}
echo switched >> switched
```
"#;

fn lines(place: &Place, name: &str) -> usize {
    std::fs::read_to_string(place.path(name)).unwrap_or_default().lines().count()
}

fn resumed(place: &Place, run: &str) -> Ran {
    place.run(&["runbook", "resume", run, "--by", "ann", "--no-wait"])
}

#[test]
fn a_run_goes_on_without_its_repository_when_somebody_answers_for_it() {
    let place = Place::new();
    place.write("switch.md", RUNBOOK);
    let begun = ["runbook", "run", "switch.md", "--by", "ann", "--mirror", "--no-wait"];
    place.run(&begun).expect(4);
    let run = place.json(&["runbook", "list"])[0]["run"].as_str().unwrap().to_owned();
    place.run(&["runbook", "confirm", &run, "told", "--by", "ann"]).expect(0);
    moved(&place.path("repo"), &place.path("gone"));

    let waits = resumed(&place, &run).expect(4);
    assert!(waits.stderr.contains("the run's mirror cannot be reached: "), "{waits}");
    assert!(waits.stdout.contains("the mirror does not confirm that switch begins"), "{waits}");
    assert_eq!((lines(&place, "prepared"), lines(&place, "switched")), (1, 0));

    let leave =
        ["runbook", "continue", &run, "--without-mirror", "its disk burnt, I am alone", "--by", "ann"];
    place.run(&leave).expect(0);
    let done = resumed(&place, &run).expect(0);
    assert!(done.stdout.contains("ann lets it go on without its mirror: its disk burnt, I am"), "{done}");
    assert_eq!((lines(&place, "prepared"), lines(&place, "switched")), (1, 1));

    // The repository comes back: the rest of the run arrives there, and nobody begins it again.
    moved(&place.path("gone"), &place.path("repo"));
    let over = resumed(&place, &run).expect(1);
    assert!(over.stderr.contains("is over"), "{over}");
    let mut elsewhere =
        place.command(&["runbook", "resume", &run, "--take-over", "--by", "bob", "--no-wait"]);
    let elsewhere = Ran::of(elsewhere.env("LIFEBOAT_STATE", place.path("elsewhere"))).expect(1);
    assert!(elsewhere.stderr.contains("is over"), "{elsewhere}");
    assert_eq!(lines(&place, "switched"), 1);
}

/// What is missing is the key, not the repository: nothing is begun that waits for it.
#[test]
fn a_run_without_the_means_to_open_its_mirror_is_not_resumed() {
    let place = Place::new();
    place.write("switch.md", RUNBOOK);
    place.run(&["runbook", "run", "switch.md", "--by", "ann", "--mirror", "--no-wait"]).expect(4);
    let run = place.json(&["runbook", "list"])[0]["run"].as_str().unwrap().to_owned();
    let mut resume = place.command(&["runbook", "resume", &run, "--by", "ann", "--no-wait"]);
    let refused = Ran::of(resume.env("LIFEBOAT_KEY", "env:LIFEBOAT_NOT_SET")).expect(2);
    assert!(refused.stderr.contains("LIFEBOAT_NOT_SET"), "{refused}");
}
