//! Runs that tell people what they wait for them for: through real receivers of webhooks and mail, over expiry, kills
//! and failures, and what people see of it.

use crate::place::{Place, Ran};
use lifeboat_base::Secret;
use lifeboat_base::clock::Clock;
use lifeboat_notify::signature;
use lifeboat_notify::testing::{Answer, HttpSink, Manners, Request, Session, SmtpSink};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than a busy machine takes.
const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "a-secret-of-a-test";

const PEOPLE: &str = r##"
[contacts.chief]
role = "Commander"
reach = ["chief@example.org", "+1 555 0100"]

[contacts.lead]
reach = ["lead@example.org"]

[contacts.board]
reach = ["#board"]

[[escalation]]
after = "1s"
action = "the lead is told"
contact = "lead"

[[escalation]]
after = "1h"
action = "the board is told"
contact = "board"
"##;

/// A switch that a commander must agree to, soon.
const SWITCH: &str = r#"---
severity: SEV-1
objectives: { rto: 1h }
contacts:
  owner: { role: operations, reach: ["+1 555 0199"] }
---
# Switch to another host

```bash {step=switch repeat=never undo=none why="it is served elsewhere then" approve=commander expires=5s timeout=1m}
echo switched >> served
```
"#;

/// A step that says a secret and fails, until something is mended.
const FAILS: &str = r#"---
inputs:
  token: { type: secret }
---
# Mend

```bash {step=mend pass=token repeat=safe undo=none why=x timeout=1m}
echo "the token is $token" >&2
test -e mended
```
"#;

struct Stage {
    place: Place,
}

impl Stage {
    fn new(channels: &str) -> Self {
        let place = Place::empty();
        place.write("switch.md", SWITCH);
        place.write("fails.md", FAILS);
        let made = place.json(&["runbook", "key", "ann.key"]);
        let key = made["public_key"].as_str().unwrap();
        let people = format!("[people.ann]\nroles = [\"commander\"]\nkeys = [\"{key}\"]\n");
        place.write("lifeboat.toml", format!("[system]\nname = \"test\"\n{people}{PEOPLE}{channels}"));
        Self { place }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        command.env("HOOK_SECRET", SECRET).env("TOKEN", SECRET);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let ran = Ran::of(&mut self.command(arguments));
        assert!(!ran.said().contains(SECRET), "a secret is shown: {ran}");
        ran
    }

    /// Begins what fails, as far as it goes without people.
    fn begin(&self, failpoints: &str) -> Ran {
        let arguments = ["runbook", "run", "fails.md", "--by", "ann", "--no-wait", "-i", "token=env:TOKEN"];
        Ran::of(self.command(&arguments).env("LIFEBOAT_FAILPOINTS", failpoints))
    }

    fn resume(&self, run: &str) -> Ran {
        self.run(&["runbook", "resume", run, "--by", "ann", "--no-wait"])
    }

    fn newest(&self) -> String {
        self.place.json(&["runbook", "list"])[0]["run"].as_str().unwrap().to_owned()
    }

    fn approve(&self, run: &str) -> Ran {
        let key = format!("file:{}", self.place.path("ann.key").display());
        self.run(&["runbook", "approve", run, "switch", "--by", "ann", "--with", &key, "--yes"])
    }

    fn show(&self, run: &str) -> String {
        let shown = self.run(&["runbook", "show", run]).expect(0).stdout;
        assert!(shown.lines().all(|line| line.chars().count() <= 80 || line.contains('/')), "{shown}");
        // Lines that were broken to fit.
        shown.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn events(&self, run: &str) -> Vec<Value> {
        let shown = self.place.json(&["runbook", "show", run]);
        shown["records"].as_array().unwrap().iter().map(|record| record["event"].clone()).collect()
    }
}

fn hook(port: u16) -> String {
    format!("[notify.ops]\nwebhook = \"http://127.0.0.1:{port}/in/{SECRET}\"\nsecret = \"env:HOOK_SECRET\"\n")
}

fn mail(port: u16) -> String {
    format!(
        "[notify.mail]\nsmtp = \"smtp+plain://127.0.0.1:{port}\"\nuser = \"lifeboat\"\n\
         password = \"env:HOOK_SECRET\"\nfrom = \"Lifeboat <lifeboat@example.org>\"\n\
         to = [\"on-call@example.org\"]\n"
    )
}

fn well(count: usize) -> HttpSink {
    HttpSink::start(vec![Answer::Status(200, ""); count], None)
}

/// What a webhook's receiver was told, once it has checked who says so.
fn told(request: &Request) -> Value {
    let (secret, header) = (Secret::new(SECRET.as_bytes().to_vec()), &request.headers["lifeboat-signature"]);
    let now = Clock::System.now();
    signature::verify(&secret, header, &request.body, now, Duration::from_mins(5)).unwrap();
    let text = String::from_utf8(request.body.clone()).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&told["kind"], &told["system"]), (&"people_needed".into(), &"test".into()));
    assert_eq!(told["id"].as_str().unwrap(), request.headers["idempotency-key"]);
    told
}

/// The next message of a channel that a test waits for.
#[track_caller]
fn next(sink: &HttpSink) -> Value {
    told(&sink.request_within(PATIENCE).expect("nobody was told in time"))
}

/// A process that is not left behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The recipients of a mail.
fn recipients(session: &Session) -> String {
    let lines = session.commands.iter().filter_map(|line| line.strip_prefix("RCPT TO:"));
    lines.collect::<Vec<_>>().join(" ")
}

#[test]
fn consent_is_asked_for_by_webhook_and_mail_again_when_it_expired_and_said_to_be_given() {
    let (ops, server) = (well(50), SmtpSink::serving(Manners::default(), 50));
    let stage = Stage::new(&format!("{}{}", hook(ops.port), mail(server.port)));
    let mut command = stage.command(&["runbook", "run", "switch.md", "--by", "ann"]);
    let mut running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let first = next(&ops);
    let run = stage.newest();
    let subject = first["subject"].as_str().unwrap();
    let start = format!("[test] SEV-1 1 of commander must agree to switch, run {run} on ");
    assert!(subject.starts_with(&start), "{subject}");
    assert!(subject.contains(", until 20"), "{subject}");
    let body = first["body"].as_str().unwrap();
    for part in [
        format!("lifeboat runbook approve {run} switch --with file:YOUR-KEY --by YOU"),
        "These can: ann.".to_owned(),
        "To be reached: chief (Commander): chief@example.org, +1 555 0100".to_owned(),
        "of the RTO of 1h, and it waits".to_owned(),
        "Unless it is settled by then, ".to_owned(),
    ] {
        assert!(body.contains(&part), "{part}\n{body}");
    }
    assert!(body.lines().next().unwrap().contains("must agree to switch"), "{body}");
    // The lead is told a second later (at once, where the machine took so long); then nobody agreed in time.
    let mut before = vec![body.to_owned()];
    let anew = loop {
        let message = next(&ops);
        if message["key"] != first["key"] {
            break message;
        }
        assert_eq!(message["phase"], "reminder");
        before.push(message["body"].as_str().unwrap().to_owned());
    };
    assert!(before.iter().any(|body| body.contains("To be reached: lead: lead@example.org")), "{before:#?}");
    assert_eq!(anew["phase"], "began", "{anew}");
    let body = anew["body"].as_str().unwrap();
    assert!(
        body.contains("reached: chief") && body.contains("reached: lead"),
        "who was told before is: {body}"
    );
    let begun = Instant::now();
    while running.0.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        // One that expires just now is asked for anew.
        stage.approve(&run);
    }
    assert_eq!(std::fs::read_to_string(stage.place.path("served")).unwrap(), "switched\n");
    let mut settled = next(&ops);
    while settled["phase"] != "recovered" {
        settled = next(&ops);
    }
    let subject = settled["subject"].as_str().unwrap();
    assert!(subject.contains("settled: switch is agreed to by ann, run "), "{subject}");
    let mut mails = Vec::new();
    while mails.len() < 4
        || !mails
            .iter()
            .any(|(to, mail): &(String, String)| to.contains("lead") && mail.contains("is agreed to"))
    {
        let session = server.session_within(PATIENCE).expect("a mail is missing");
        assert!(!format!("{:?}", session.mail).contains(SECRET));
        mails.push((recipients(&session), session.mail.unwrap_or_default()));
    }
    for who in ["on-call@example.org", "chief@example.org", "lead@example.org"] {
        let to: Vec<&String> =
            mails.iter().filter(|(to, _)| to.contains(who)).map(|(_, mail)| mail).collect();
        assert!(to.iter().any(|mail| mail.contains("must agree to switch")), "{who}: {mails:#?}");
    }
    let settled = stage.events(&run).into_iter().filter(|event| event["settled"] == true);
    let to: Vec<String> =
        settled.flat_map(|event| event["to"].as_array().unwrap().clone()).map(|to| to.to_string()).collect();
    let different: BTreeSet<&String> = to.iter().collect();
    assert_eq!((to.len(), different.len()), (4, 4), "each is told once that it is settled: {to:?}");
}

#[test]
fn killed_between_the_record_and_the_sending_it_is_sent_once_and_behind_it_once_more_under_the_same_identity()
{
    for (failpoint, times) in [("run::telling", 1), ("run::told", 2)] {
        let ops = well(10);
        let stage = Stage::new(&hook(ops.port));
        let killed = stage.begin(&format!("{failpoint}=kill"));
        assert_eq!(killed.signal, Some(9), "{failpoint}: {killed}");
        let run = stage.newest();
        stage.resume(&run).expect(4);
        stage.resume(&run).expect(4);
        let sent: Vec<Value> =
            std::iter::from_fn(|| ops.request_within(Duration::ZERO).as_ref().map(told)).collect();
        assert_eq!(sent.len(), times, "{failpoint}: {sent:?}");
        assert!(sent.iter().all(|message| message["id"] == sent[0]["id"]), "{failpoint}: {sent:?}");
        let tellings = stage.events(&run).into_iter().filter(|event| event["is"] == "telling").count();
        assert_eq!(tellings, 1, "{failpoint}");
    }
}

#[test]
fn what_did_not_arrive_is_shown_with_why_and_sent_when_the_other_side_is_back() {
    let ops = HttpSink::start(
        vec![Answer::Status(503, ""), Answer::Status(200, ""), Answer::Status(200, "")],
        None,
    );
    let stage = Stage::new(&hook(ops.port));
    let ran = stage.begin("").expect(4);
    assert!(ran.stdout.contains("NOT TOLD: ops: 127.0.0.1 answered 503; it is tried again"), "{ran}");
    let run = stage.newest();
    let shown = stage.show(&run);
    assert!(shown.contains("NOT at ops (127.0.0.1 answered 503, tried again)"), "{shown}");
    stage.resume(&run).expect(4);
    let shown = stage.show(&run);
    assert!(shown.contains("told mend FAILED: ") && shown.contains("chief"), "{shown}");
    assert!(shown.contains("arrived at ops") && !shown.contains("NOT at ops"), "{shown}");
    stage.place.write("mended", "");
    stage.run(&["runbook", "again", &run, "mend", "--by", "ann", "--reason", "mended"]).expect(0);
    stage.resume(&run).expect(0);
    let sent: Vec<Value> = ops.requests().iter().map(told).collect();
    assert_eq!(sent[0]["id"], sent[1]["id"], "another attempt is the same message");
    assert_eq!(sent[2]["phase"], "recovered");
    assert!(
        sent[2]["about"].as_str().unwrap().starts_with("mend is tried again, says ann, run "),
        "{sent:?}"
    );
}

#[test]
fn the_screen_says_who_is_next_and_a_dry_run_who_would_be() {
    let ops = well(10);
    let stage = Stage::new(&hook(ops.port));
    let looked = stage.run(&["runbook", "run", "switch.md", "--dry-run"]).expect(0).stdout;
    for line in [
        "  commander, at once: chief (ops)",
        "    to be called: chief (chief@example.org, +1 555 0100)",
        "  commander, after 1s: lead (ops)",
        "  commander, after 1h: board (ops)",
        "  whatever fails or stops, at once: chief, owner (ops)",
    ] {
        assert!(looked.contains(line), "{line}\n{looked}");
    }
    let other = SWITCH.replace("approve=commander", "approve=\"2 of stranger\"");
    stage.place.write("other.md", other);
    let strange = stage.run(&["runbook", "run", "other.md", "--dry-run"]).stdout;
    assert!(strange.contains("    no contact of the document or the plan is stranger\n"), "{strange}");
    assert!(strange.contains("  stranger, at once: chief, owner (ops)\n"), "{strange}");
    let looked = stage.place.json(&["runbook", "run", "switch.md", "--dry-run"]);
    assert_eq!(looked["telling"][1]["who"], serde_json::json!(["lead"]), "{looked}");
    stage.begin("").expect(4);
    let run = stage.newest();
    // A second later the lead is told by whoever goes on, and nobody goes on here.
    let patience = Instant::now();
    let mut shown = stage.show(&run);
    while !shown.contains("lead is told when somebody goes on with the run") {
        assert!(patience.elapsed() < PATIENCE, "{shown}");
        shown = stage.show(&run);
    }
    stage.resume(&run).expect(4);
    let shown = stage.show(&run);
    assert!(shown.contains("unless somebody decides: board is told in"), "{shown}");
}

#[test]
fn with_no_channel_that_takes_it_nobody_is_told_and_that_is_said() {
    let ops = well(10);
    let stage = Stage::new(&format!("{}on = [\"breach\"]\n", hook(ops.port)));
    let looked = stage.run(&["runbook", "run", "switch.md", "--dry-run"]).expect(0).stdout;
    assert!(looked.contains("nobody would be told that people are needed"), "{looked}");
    let ran = stage.begin("").expect(4);
    assert_eq!(
        ran.stdout.matches("NOBODY IS TOLD: no channel of the plan takes such messages").count(),
        1,
        "{ran}"
    );
    assert!(stage.show(&stage.newest()).contains("told NOBODY: no channel of the plan takes such messages"));
    stage.resume(&stage.newest()).expect(4);
    assert!(ops.request_within(Duration::ZERO).is_none());
}
