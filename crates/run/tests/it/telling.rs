//! Who is told what a run waits for, when, how often, and what becomes of that over restarts.

use super::*;
use lifeboat_base::backoff::Backoff;
use lifeboat_base::clock::{Clock, ManualClock, Timestamp};
use lifeboat_plan::Plan;
use lifeboat_run::event::{Ending, Event};
use lifeboat_run::{
    Contact, Messenger, Moment, NotSent, Notice, Pace, Recipient, Request, Said, Tells, Told,
};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const BEGINNING: Timestamp = Timestamp::from_secs(1_800_000_000);
/// Longer than a busy machine takes.
const PATIENCE: Duration = Duration::from_secs(60);

const PLAN: &str = r##"
[contacts.chief]
role = "Commander"
reach = ["chief@a.org", "+1 555 0100"]
[contacts.lead]
reach = ["lead@a.org"]
[contacts.board]
reach = ["#board"]
[[escalation]]
after = "5m"
action = "the lead is told"
contact = "lead"
[[escalation]]
after = "10m"
action = "the board is told"
contact = "board"
"##;

/// A step that fails until something is mended, and then one for a commander.
const TEXT: &str = r#"---
severity: SEV-1
objectives: { rto: 1h }
inputs:
  place: {type: path}
---
# R

```bash {step=mend pass=place repeat=safe undo=none why=x}
test -e "$place/mended"
```

- [ ] Call the bank {step=call by=commander timeout=20m}
"#;

/// Remembers what was sent, and fails as it is told.
#[derive(Default)]
struct Post {
    sent: Mutex<Vec<(String, Notice)>>,
    tries: Mutex<Vec<(String, Notice)>>,
    is_away: AtomicBool,
    hangs: Mutex<bool>,
    freed: Condvar,
    /// Nobody at all.
    is_nobody: bool,
}

impl Messenger for Post {
    fn recipients(&self, whom: &[&Contact]) -> BTreeSet<Recipient> {
        if self.is_nobody {
            return BTreeSet::new();
        }
        let mailed = whom.iter().filter(|contact| contact.reach.iter().any(|address| address.contains('@')));
        let contacts = mailed.map(|contact| Recipient::Contact(contact.name.clone()));
        contacts.chain([Recipient::Channel("ops".to_owned())]).collect()
    }

    fn send(&self, to: &Recipient, reach: &[String], notice: &Notice) -> Result<(), NotSent> {
        assert_eq!(reach.is_empty(), matches!(to, Recipient::Channel(_)), "{to}: {reach:?}");
        self.tries.lock().unwrap().push((to.to_string(), notice.clone()));
        let mut hangs = self.hangs.lock().unwrap();
        while *hangs {
            hangs = self.freed.wait(hangs).unwrap();
        }
        drop(hangs);
        if self.is_away.load(Ordering::SeqCst) {
            return Err(NotSent { why: "away".to_owned(), is_worth_another: true, after: None });
        }
        self.sent.lock().unwrap().push((to.to_string(), notice.clone()));
        Ok(())
    }
}

impl Post {
    /// What has arrived since the last look: to whom, and the first line.
    fn taken(&self) -> Vec<(String, String)> {
        let mut sent: Vec<(String, String)> =
            self.sent.lock().unwrap().drain(..).map(|(to, notice)| (to, notice.headline)).collect();
        sent.sort();
        sent
    }

    /// Waits until so many were tried and so many have arrived.
    #[track_caller]
    fn wait_until(&self, is_so: impl Fn(usize, usize) -> bool) {
        let watch = lifeboat_base::clock::Stopwatch::start();
        while !is_so(self.tries.lock().unwrap().len(), self.sent.lock().unwrap().len()) {
            assert!(watch.elapsed() < PATIENCE, "it never came to that");
            std::thread::yield_now();
        }
    }

    fn hang(&self, hangs: bool) {
        *self.hangs.lock().unwrap() = hangs;
        self.freed.notify_all();
    }
}

/// A run on a clock of its own.
struct Stage {
    place: tempfile::TempDir,
    clock: ManualClock,
    post: Arc<Post>,
    tried: Tried,
}

fn tells(post: &Arc<Post>) -> Tells {
    let backoff = Backoff { first: Duration::from_millis(1), cap: Duration::from_millis(5), attempts: 9 };
    let pace = Pace { backoff, finish_within: PATIENCE, ..Pace::default() };
    Tells { messenger: post.clone(), plan: Arc::new(Plan::parse(PLAN, "p.toml").unwrap()), pace }
}

fn house_with(clock: &ManualClock, post: &Arc<Post>) -> House {
    House { clock: Clock::Manual(clock.clone()), tells: Some(tells(post)), ..house() }
}

impl Stage {
    fn new(text: &str, post: Post) -> Self {
        let (place, clock, post) = (tempfile::tempdir().unwrap(), ManualClock::at(BEGINNING), Arc::new(post));
        let inputs = [("place", value(place.path().to_str().unwrap()))];
        let inputs = if text.contains("place:") { &inputs[..] } else { &[] };
        let tried = Tried::begin(text, inputs, house_with(&clock, &post));
        Self { place, clock, post, tried }
    }

    /// As far as it goes without people; what is to be told has arrived, or failed once.
    #[track_caller]
    fn go(&mut self) -> Rest {
        let rest = self.tried.drive().unwrap();
        let records = &mut self.tried.records;
        self.tried
            .executor
            .finish_telling(&mut |record: &Record, _: &RunState| records.push(record.clone()))
            .unwrap();
        rest
    }

    /// The same at another time.
    fn go_at(&mut self, seconds: u64) -> Vec<(String, String)> {
        self.clock.set(BEGINNING.plus(Duration::from_secs(seconds)));
        self.go();
        self.post.taken()
    }

    fn say(&self, request: Request) {
        self.tried.executor.asker().ask(request);
    }

    fn again(&self, step: &str) {
        self.say(Request::Again(Said { step: id(step), by: "ann".to_owned(), reason: "mended".to_owned() }));
    }

    fn confirm(&self, step: &str) {
        self.say(Request::Confirm { step: id(step), by: "ann".to_owned(), done: true, note: None });
    }

    fn mend(&self) {
        std::fs::write(self.place.path().join("mended"), "").unwrap();
    }

    /// The executor ends, and another one goes on with the run.
    fn restart(&mut self) {
        let (runs, run) = (self.tried.runs(), self.tried.run());
        // The lock of the one is free when it is gone.
        let other = Tried::begin("# R\n\n- [ ] x\n", &[], house()).executor;
        drop(std::mem::replace(&mut self.tried.executor, other));
        self.tried.executor =
            Executor::resume(&runs, &run, house_with(&self.clock, &self.post), &compile_bytes).unwrap();
    }

    fn told(&self) -> Vec<Told> {
        let told = self.tried.records.iter().filter_map(|record| match &record.event {
            Event::Told(told) => Some(told.clone()),
            _ => None,
        });
        told.collect()
    }

    fn count(&self, kind: &str) -> usize {
        self.tried.events().iter().filter(|event| *event == kind).count()
    }
}

fn names(sent: &[(String, String)]) -> Vec<&str> {
    sent.iter().map(|(to, _)| to.as_str()).collect()
}

#[test]
fn what_is_needed_is_told_at_once_and_to_more_people_the_longer_it_lasts() {
    let mut stage = Stage::new(TEXT, Post::default());
    let sent = stage.go_at(0);
    assert_eq!(names(&sent), ["mail to chief", "ops"]);
    let run = stage.tried.run();
    let line = format!("mend FAILED, somebody must decide, run {run} on host-1");
    assert!(sent.iter().all(|(_, its)| *its == line), "{sent:?}");
    for (seconds, who) in [(0, vec![]), (299, vec![]), (300, vec!["mail to lead", "ops"]), (301, vec![])] {
        assert_eq!(names(&stage.go_at(seconds)), who, "{seconds}");
    }
    let standing = stage.tried.executor.standing();
    let next = standing.told[0].next.as_ref().unwrap();
    assert_eq!((next.who.clone(), next.at.since(BEGINNING).as_secs()), (vec!["board".to_owned()], 600));
    assert_eq!(standing.told[0].arrived.len(), 3, "{:?}", standing.told);
    assert_eq!(names(&stage.go_at(600)), ["ops"], "nobody mails the board: the channel is told whom to call");
    let notice = stage.post.tries.lock().unwrap().last().unwrap().1.clone();
    assert!(notice.text.contains("To be reached: board: #board"), "{}", notice.text);
    assert_eq!((notice.moment, notice.severity.as_deref()), (Moment::Still, Some("SEV-1")));
}

#[test]
fn a_message_says_what_to_type_until_when_and_what_it_means_to_wait() {
    let mut stage = Stage::new(TEXT, Post::default());
    stage.go_at(0);
    stage.mend();
    stage.again("mend");
    stage.go_at(60);
    let tries = stage.post.tries.lock().unwrap().clone();
    let run = stage.tried.run();
    let said = |line: &str, parts: &[String]| {
        let notice = &tries.iter().find(|(_, notice)| notice.headline.starts_with(line)).unwrap().1;
        assert!(notice.headline.len() < 120, "{}", notice.headline);
        for part in parts {
            assert!(notice.text.contains(part), "{part}\n{}", notice.text);
        }
        notice.headline.clone()
    };
    let failed = [
        format!("lifeboat runbook again {run} mend --reason WHY --by YOU"),
        "exit code 1".to_owned(),
        "The recovery has taken 0s of the RTO of 1h, and it waits: 1h are left.".to_owned(),
        "lead is told at 2027-01-15T08:05:00Z".to_owned(),
    ];
    said("mend FAILED", &failed);
    let needed = [
        format!("lifeboat runbook confirm {run} call --by YOU"),
        "Call the bank".to_owned(),
        "To be reached: chief (Commander): chief@a.org, +1 555 0100".to_owned(),
        "taken 1m of the RTO of 1h, and it waits: 59m are left.".to_owned(),
    ];
    let line = said("commander must do call", &needed);
    assert!(line.ends_with(&format!("run {run} on host-1, until 2027-01-15T08:21:00Z")), "{line}");
}

#[test]
fn what_is_settled_is_said_once_to_those_who_were_told() {
    let mut stage = Stage::new(TEXT, Post::default());
    stage.go_at(0);
    stage.mend();
    stage.again("mend");
    let sent = stage.go_at(10);
    let lines: Vec<&str> = sent.iter().map(|(_, line)| line.split(", run ").next().unwrap()).collect();
    let both = ["commander must do call", "mend is tried again, says ann"];
    assert_eq!(lines, [both, both].concat(), "{sent:?}");
    assert_eq!(names(&sent), ["mail to chief", "mail to chief", "ops", "ops"]);
    assert_eq!(stage.go_at(11), []);
    stage.confirm("call");
    // The run is over then, and that is said all the same.
    assert_eq!(stage.go(), Rest::Ended(Ending::Done));
    let sent = stage.post.taken();
    assert_eq!(names(&sent), ["mail to chief", "ops"]);
    assert!(sent[0].1.starts_with("call is done, says ann, run "), "{sent:?}");
    let story = stage.tried.runs().open(&stage.tried.run()).unwrap().story().unwrap();
    let state = RunState::of(story.records.iter().map(|(record, _)| record)).unwrap();
    assert_eq!(state.number, stage.tried.executor.state().number, "what was told after the end is in it");
}

#[test]
fn who_did_it_is_told_and_a_step_of_people_that_nobody_did_is_told_as_failed_to_the_same() {
    let mut stage = Stage::new(TEXT, Post::default());
    stage.mend();
    stage.go_at(0);
    stage.go_at(300);
    // Nobody did it in twenty minutes: it is another question about the same, and nobody hears that it is settled.
    let sent = stage.go_at(1200);
    let about_call = |(_, line): &&(String, String)| line.starts_with("call FAILED");
    let failed: Vec<_> = sent.iter().filter(about_call).cloned().collect();
    assert_eq!(names(&failed), ["mail to chief", "mail to lead", "ops"], "{sent:?}");
    assert!(sent.iter().all(|(_, line)| !line.contains("could not be done")), "{sent:?}");
}

#[test]
fn a_channel_that_is_away_holds_up_nothing_and_gets_it_when_it_is_back() {
    let post = Post { is_away: AtomicBool::new(true), ..Post::default() };
    let mut stage = Stage::new(TEXT, post);
    stage.go_at(0);
    let failing = &stage.tried.executor.standing().told[0].failing;
    assert_eq!((failing.len(), failing[0].why.as_str(), failing[0].is_tried_again), (2, "away", true));
    let again: Vec<bool> = stage.told().iter().map(|told| told.over).collect();
    assert_eq!(again, [false, false], "one record a recipient, however often it is tried");
    stage.post.is_away.store(false, Ordering::SeqCst);
    let watch = lifeboat_base::clock::Stopwatch::start();
    while stage.count("told") < 4 && watch.elapsed() < PATIENCE {
        stage.go();
    }
    assert_eq!(names(&stage.post.taken()), ["mail to chief", "ops"]);
    assert!(
        stage.told()[2..].iter().all(|told| told.why.is_none() && told.attempts > 1),
        "{:?}",
        stage.told()
    );
    assert!(stage.tried.executor.standing().told[0].failing.is_empty());
}

#[test]
fn what_is_settled_before_it_could_be_sent_is_not_sent_any_more() {
    let post = Post { is_away: AtomicBool::new(true), ..Post::default() };
    let mut stage = Stage::new(TEXT, post);
    stage.mend();
    stage.go_at(0);
    stage.confirm("call");
    let watch = lifeboat_base::clock::Stopwatch::start();
    let withdrawn =
        |told: &Told| told.over && told.why.as_deref() == Some("it was settled before it arrived");
    while stage.told().into_iter().filter(withdrawn).count() < 2 {
        assert!(watch.elapsed() < PATIENCE, "{:?}", stage.told());
        stage.go();
    }
    stage.post.is_away.store(false, Ordering::SeqCst);
    while stage.post.sent.lock().unwrap().len() < 2 && watch.elapsed() < PATIENCE {
        stage.go();
    }
    let sent = stage.post.taken();
    assert_eq!(names(&sent), ["mail to chief", "ops"]);
    assert!(sent.iter().all(|(_, line)| line.starts_with("call is done")), "{sent:?}");
}

#[test]
fn one_that_hangs_holds_up_no_run() {
    let mut stage = Stage::new(TEXT, Post::default());
    stage.post.hang(true);
    assert_eq!(stage.tried.drive().unwrap(), Rest::Waiting);
    stage.mend();
    stage.again("mend");
    assert_eq!(stage.tried.drive().unwrap(), Rest::Waiting);
    stage.confirm("call");
    assert_eq!(stage.tried.drive().unwrap(), Rest::Ended(Ending::Done));
    assert_eq!(stage.post.taken(), []);
    stage.post.hang(false);
}

#[test]
fn a_restart_sends_what_was_under_way_once_more_under_the_same_identity_and_nothing_else() {
    let mut stage = Stage::new(TEXT, Post::default());
    stage.post.hang(true);
    assert_eq!(stage.tried.drive().unwrap(), Rest::Waiting);
    assert_eq!((stage.count("telling"), stage.count("told")), (1, 0));
    stage.post.wait_until(|tries, _| tries == 2);
    stage.restart();
    stage.post.hang(false);
    stage.go();
    // Also what the executor that is gone was about to send.
    stage.post.wait_until(|tries, sent| tries == 4 && sent == 4);
    let tries = std::mem::take(&mut *stage.post.tries.lock().unwrap());
    let ids = |to: &str| {
        let of: Vec<&str> = tries.iter().filter(|(its, _)| its == to).map(|(_, n)| n.id.as_str()).collect();
        (of.len(), of.into_iter().collect::<BTreeSet<_>>().len())
    };
    for to in ["mail to chief", "ops"] {
        let (count, different) = ids(to);
        assert_eq!((count, different), (2, 1), "{to}: {tries:?}");
    }
    let all: BTreeSet<&str> = tries.iter().map(|(_, notice)| notice.id.as_str()).collect();
    assert_eq!(all.len(), 2, "each recipient has its own");
    assert_eq!(stage.count("telling"), 1, "it is not told anew");
    stage.post.taken();
    stage.restart();
    assert_eq!(stage.go_at(0), [], "what arrived is not sent again");
    assert_eq!(names(&stage.go_at(301)), ["mail to lead", "ops"], "and what is due later is");
}

#[test]
fn a_clock_that_jumps_tells_nobody_twice() {
    let mut stage = Stage::new(TEXT, Post::default());
    stage.go_at(0);
    assert_eq!(names(&stage.go_at(900)), ["mail to lead", "ops"], "both stages are one message");
    for seconds in [0, 310, 610, 899] {
        assert_eq!(stage.go_at(seconds), [], "{seconds}");
    }
    stage.restart();
    assert_eq!(stage.go_at(5), []);
}

#[test]
fn where_nobody_can_be_told_that_is_said_once() {
    let mut stage = Stage::new(TEXT, Post { is_nobody: true, ..Post::default() });
    for seconds in [0, 300, 600] {
        stage.go_at(seconds);
    }
    assert_eq!((stage.count("nobody-to-tell"), stage.count("telling")), (1, 0));
    assert!(stage.tried.executor.standing().nobody_to_tell.is_some());
    // With a plan that has a channel, whoever goes on with the run tells it.
    stage.post = Arc::new(Post::default());
    stage.restart();
    assert_eq!(names(&stage.go_at(601)), ["mail to chief", "mail to lead", "ops"]);
    assert_eq!(stage.tried.executor.standing().nobody_to_tell, None);
}

#[test]
fn many_that_fail_at_once_are_not_a_message_each() {
    let step = |n: usize| format!("```bash {{step=s{n} needs=none repeat=safe}}\nfalse\n```\n\n");
    let text = format!("# R\n\n{}", (0..80).map(step).collect::<String>());
    let mut stage = Stage::new(&text, Post::default());
    stage.go_at(0);
    assert!(stage.count("telling") <= 10, "{}", stage.count("telling"));
    let told = |stage: &Stage| stage.tried.executor.state().tellings.clone();
    let before = told(&stage);
    stage.go_at(299);
    assert_eq!(told(&stage), before);
    let sent = stage.go_at(301);
    assert!(sent.iter().all(|(_, line)| line.contains("more)")), "the others are told together: {sent:?}");
    assert_eq!(stage.tried.executor.standing().told.len(), 80);
}

#[test]
fn a_run_that_stopped_by_itself_is_in_nobodys_hands_and_one_that_was_paused_in_somebodys() {
    let text = r#"---
inputs:
  place: {type: path}
---
# R

```check {step=look pass=place outputs=x}
test -e "$place/seen" && exit 1
touch "$place/seen"
echo x=1 >> "$LIFEBOAT_OUTPUT"
```

```bash {step=act repeat=never undo=none why=x approve=commander facts=look.x}
true
```
"#;
    let mut stage = Stage::new(text, Post::default());
    // The check says no when it is asked again for the facts: nobody can be asked for consent.
    let sent = stage.go_at(0);
    assert_eq!(names(&sent), ["mail to chief", "ops"], "whom nothing says when to tell is told: {sent:?}");
    assert!(sent[0].1.starts_with("it stopped by itself, somebody must let it go on, run "), "{sent:?}");
    std::fs::remove_file(stage.place.path().join("seen")).unwrap();
    stage.say(Request::Resume { by: "ann".to_owned() });
    let sent = stage.go_at(1);
    let lines: Vec<&str> = sent.iter().map(|(_, line)| line.split(", run ").next().unwrap()).collect();
    let both = ["1 of commander must agree to act", "it goes on"];
    assert_eq!(lines, [both, both].concat());
    stage.say(Request::Pause { by: "ann".to_owned(), reason: "lunch".to_owned() });
    assert_eq!(stage.go_at(400), [], "nobody is told behind the back of whoever paused it");
    stage.say(Request::Resume { by: "ann".to_owned() });
    std::fs::remove_file(stage.place.path().join("seen")).unwrap();
    assert_eq!(names(&stage.go_at(401)), ["mail to lead", "ops"]);
}

#[test]
fn without_a_messenger_nothing_is_recorded_about_telling() {
    let inputs = [("place", value("/nowhere"))];
    let mut tried = Tried::begin(TEXT, &inputs, house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    tried.executor.finish_telling(&mut |_: &Record, _: &RunState| {}).unwrap();
    assert!(tried.events().iter().all(|event| !event.contains("tell") && event != "told"));
}
