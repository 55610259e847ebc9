//! Steps in their order, with what they are given and what they leave.

use super::*;
use lifeboat_run::Said;
use lifeboat_run::event::{Act, Again, Ending, Event};
use lifeboat_run::{EnvironmentAndFiles, Request, Secrets, dry_run};
use lifeboat_runbook::Phase;

#[test]
fn what_a_step_leaves_another_gets() {
    let text = r#"---
inputs:
  name: {type: text}
---
# R

```bash {step=measure repeat=safe pass=name outputs=greeting,lag undo=none why=looks}
echo "greeting=hello $name" >> "$LIFEBOAT_OUTPUT"
echo "lag=3s" >> "$LIFEBOAT_OUTPUT"
echo "unasked=x" >> "$LIFEBOAT_OUTPUT"
```

```check {step=answer pass=measure.greeting expect="== hello you"}
echo "$greeting"
```
"#;
    let mut tried = Tried::begin(text, &[("name", value("you"))], house());
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Done), "{:#?}", tried.records);
    assert_eq!(tried.output("measure", "greeting").as_deref(), Some("hello you"));
    assert_eq!(tried.output("measure", "unasked"), None);
    assert_eq!(tried.events(), ["intent", "outcome", "intent", "outcome", "ended"]);
    let story = tried.runs().open(&tried.run()).unwrap().story().unwrap();
    assert_eq!(story.records.len(), 6, "as it was seen, after the beginning");
    let times = tried.executor.standing().times;
    assert!(times.of(Phase::Execute) + times.of(Phase::Verify) == times.total());
}

#[test]
fn what_may_run_at_once_does_and_no_more_than_so_much() {
    // Each waits until the other is there: one after the other they would never end.
    let text = r#"---
inputs:
  place: {type: path}
---
# R

```bash {step=a needs=none repeat=safe timeout=30s pass=place undo=none why=x}
touch "$place/a"; until [ -e "$place/b" ]; do sleep 0.01; done
```

```bash {step=b needs=none repeat=safe timeout=30s pass=place undo=none why=x}
touch "$place/b"; until [ -e "$place/a" ]; do sleep 0.01; done
```

```bash {step=c needs="a,b" repeat=safe pass=place undo=none why=x}
rm "$place/a" "$place/b"
```
"#;
    let place = tempfile::tempdir().unwrap();
    let mut tried = Tried::begin(text, &[("place", value(place.path().to_str().unwrap()))], house());
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Done));
    assert_eq!(tried.events()[..2], ["intent", "intent"]);
}

#[test]
fn a_step_that_fails_is_tried_again_as_often_as_the_document_says() {
    let text = r#"---
inputs:
  place: {type: path}
---
# R

```bash {step=flaky repeat=safe retries=2 retry_every=1ms pass=place undo=none why=x}
echo x >> "$place/tries"
[ "$(wc -l < "$place/tries")" -ge 3 ]
```
"#;
    let place = tempfile::tempdir().unwrap();
    let inputs = [("place", value(place.path().to_str().unwrap()))];
    let mut tried = Tried::begin(text, &inputs, house());
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Done));
    assert_eq!(tried.executor.state().steps[&id("flaky")].attempts, 3);
    let text = text.replace("-ge 3", "-ge 9");
    std::fs::remove_file(place.path().join("tries")).unwrap();
    let mut tried = Tried::begin(&text, &inputs, house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(tried.status("flaky"), StepStatus::Failed { act: Act::Do, repeat: Again::Safe });
    assert_eq!(lines(&place.path().join("tries")).len(), 3);
    let said = Said { step: id("flaky"), by: "ann".to_owned(), reason: "fixed the disk".to_owned() };
    tried.executor.asker().ask(Request::Again(said));
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(lines(&place.path().join("tries")).len(), 6, "a person's word begins the count anew");
}

#[test]
fn a_check_has_three_answers() {
    let text = "# R\n\n```check {step=ask}\nexit CODE\n```\n";
    for (code, expected) in [("1", "failed"), ("2", "unknown"), ("127", "unknown")] {
        let mut tried = Tried::begin(&text.replace("CODE", code), &[], house());
        assert_eq!(tried.drive().unwrap(), Rest::Waiting);
        let status = serde_json::to_value(tried.status("ask")).unwrap();
        assert_eq!(status["is"], expected, "{code}");
    }
}

#[test]
fn what_does_not_depend_on_a_failure_goes_on() {
    let text = "# R\n\n```bash {step=bad needs=none undo=none why=x}\nexit 3\n```\n\n```bash {step=after needs=bad undo=none why=x}\ntrue\n```\n\n```bash {step=beside needs=none undo=none why=x}\ntrue\n```\n";
    let mut tried = Tried::begin(text, &[], house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(tried.status("beside"), StepStatus::Done);
    assert_eq!(tried.status("after"), StepStatus::Pending);
    assert_eq!(tried.why("bad"), "exit code 3");
    let standing = tried.executor.standing();
    assert_eq!((standing.over, standing.steps), (1, 3));
    assert_eq!(standing.irrevocable.len(), 2, "{standing:?}");
}

#[test]
fn an_expectation_that_is_not_met_is_a_failure() {
    let text = "# R\n\n```bash {step=count repeat=safe expect=\">= 10\" undo=none why=x}\necho 9\n```\n";
    let mut tried = Tried::begin(text, &[], house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(tried.why("count"), "the answer is 9, not >= 10");
}

#[test]
fn an_output_that_is_missing_is_a_failure() {
    let text = "# R\n\n```bash {step=leave outputs=what undo=none why=x}\ntrue\n```\n";
    let mut tried = Tried::begin(text, &[], house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(tried.why("leave"), "it ended well and left no what");
}

#[test]
fn looking_ahead_names_what_stands_in_the_way_and_does_nothing() {
    let text = r#"---
inputs:
  place: {type: path}
  password: {type: secret}
---
# R

```bash {step=here pass=place undo=none why=x}
touch "$place/touched"
```

```bash {step=gone pass=password undo=none why=x}
lifeboat-no-such-program
```

```sql {step=query on="env:DATABASE_URL" repeat=safe undo=none why=x}
select 1;
```

```bash {step=agreed approve="2 of commander" undo=none why=x}
true
```
"#;
    let place = tempfile::tempdir().unwrap();
    let inputs = BTreeMap::from([
        ("place".to_owned(), value(place.path().to_str().unwrap())),
        ("password".to_owned(), Given::Secret("env:LIFEBOAT_TEST_NOT_SET".to_owned())),
    ]);
    let looked = dry_run(&compiled(text), &inputs, &house());
    let said: Vec<String> =
        looked.findings.iter().map(|finding| serde_json::to_string(finding).unwrap()).collect();
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(
        said[0].contains(r#""block":"gone""#) && said[0].contains("LIFEBOAT_TEST_NOT_SET is not set"),
        "{said:?}"
    );
    assert!(said[1].contains("nobody here carries out sql blocks"), "{said:?}");
    assert!(said[2].contains("2 of commander must agree, and the plan lists 0"), "{said:?}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    assert!(EnvironmentAndFiles.get("env:PATH").is_ok());
}

#[test]
fn a_document_that_is_not_the_compiled_one_is_not_begun() {
    let state = tempfile::tempdir().unwrap();
    let mut begin = begin("# R\n\n- [ ] look\n", &[]);
    begin.document.push(b'\n');
    let refused = Executor::begin_run(&Runs::within(state.path()), house(), begin).err().unwrap();
    assert!(matches!(refused, RunError::OtherDocument(_)), "{refused}");
    assert!(Runs::within(state.path()).list().unwrap().is_empty());
}

#[test]
fn what_began_before_the_run_counts_as_detecting() {
    let state = tempfile::tempdir().unwrap();
    let mut begin = begin("# R\n\n- [ ] look\n", &[]);
    let now = lifeboat_base::clock::Clock::System.now();
    begin.since = Some(now.minus(std::time::Duration::from_secs(60)));
    begin.rto = Some("1h".parse().unwrap());
    let mut executor = Executor::begin_run(&Runs::within(state.path()), house(), begin).unwrap();
    let mut seen = 0;
    let mut observer = |_: &Record, _: &RunState| seen += 1;
    assert_eq!(executor.drive(Until::PeopleAreNeeded, &mut observer).unwrap(), Rest::Waiting);
    let standing = executor.standing();
    assert!(standing.times.of(Phase::Detect).as_secs() >= 60);
    assert!(standing.left().unwrap().as_secs() < 3540);
    assert!(matches!(&executor.state().status, lifeboat_run::RunStatus::Going));
    assert_eq!(seen, 1);
    let events = Runs::within(state.path()).open(&executor.state().begun.as_ref().unwrap().run).unwrap();
    assert!(matches!(events.story().unwrap().records[0].0.event, Event::Begun(_)));
}

/// A record has to hold it, with every byte that cannot stand there as it is written out.
#[test]
fn what_is_too_long_once_it_is_written_down_fails_and_does_not_end_the_executor() {
    let text = r#"# R

```bash {step=one repeat=safe outputs=v undo=none why=x}
{ printf v=; head -c 50000 /dev/zero | tr '\0' '\1'; echo; } >> "$LIFEBOAT_OUTPUT"
```
"#;
    let mut tried = Tried::begin(text, &[], house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert!(tried.why("one").contains("bytes of outputs"), "{}", tried.why("one"));
}

/// Each of them is short enough, and together they are too long to be shown to anybody.
#[test]
fn consent_to_more_than_a_record_holds_is_not_asked_for() {
    let mut text = "# R\n".to_owned();
    for step in ["a", "b", "c", "d", "e"] {
        text += &format!(
            "\n```bash {{step={step} repeat=safe outputs=v{step} undo=none why=x}}\n{{ printf v{step}=; head -c 60000 /dev/zero | tr '\\0' x; echo; }} >> \"$LIFEBOAT_OUTPUT\"\n```\n"
        );
    }
    text += "\n```bash {step=last repeat=safe undo=none why=x approve=boss facts=a.va,b.vb,c.vc,d.vd,e.ve}\ntrue\n```\n";
    let mut tried = Tried::begin(&text, &[], house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    let reason = tried.executor.standing().reason.unwrap();
    assert!(reason.starts_with("consent to last cannot be asked for: its facts "), "{reason}");
}
