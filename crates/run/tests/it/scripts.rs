//! Scripts as processes: stopped as a group, masked, bounded.

use super::*;
use lifeboat_base::Secret;
use lifeboat_run::event::{Act, Again, Ended, Ending, Part};
use lifeboat_run::{Bash, Carried, Carry, Http, Masker, Order, Stop, Value};
use lifeboat_runbook::{Action, HttpRequest, Output};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

fn order(place: &Path, action: Action) -> Order {
    Order {
        run: "20270115t080000z-00000000".parse().unwrap(),
        step: id("a"),
        block: id("a"),
        act: Act::Do,
        part: Part::Itself,
        attempt: 1,
        action,
        asks: false,
        values: BTreeMap::new(),
        outputs: Vec::new(),
        expects: false,
        secrets: Vec::new(),
        timeout: Duration::from_secs(60),
        capture: place.join("a.1.log"),
    }
}

fn bash(script: &str) -> Action {
    Action::Bash { script: script.to_owned() }
}

fn is_alive(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).unwrap();
    // One that has ended and that nobody asked for is no more alive than one that is gone.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z')
}

fn wait_for(path: &Path) {
    let watch = lifeboat_base::clock::Stopwatch::start();
    while std::fs::read(path).map_or(true, |bytes| bytes.is_empty()) {
        assert!(watch.elapsed() < Duration::from_secs(60), "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn wait_until_dead(pid_file: &Path) {
    let watch = lifeboat_base::clock::Stopwatch::start();
    while is_alive(pid_file) {
        assert!(watch.elapsed() < Duration::from_secs(60), "it never died");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A script that ignores SIGTERM, with a child that does as well.
fn stubborn(place: &Path) -> String {
    let place = place.display();
    format!(
        "trap '' TERM\n(trap '' TERM; echo $BASHPID > {place}/child.tmp; mv {place}/child.tmp {place}/child; while true; do sleep 0.05; done) &\n\
         echo $$ > {place}/leader.tmp; mv {place}/leader.tmp {place}/leader\nwhile true; do sleep 0.05; done\n"
    )
}

#[test]
fn a_timeout_ends_the_whole_group_and_nobody_can_tell_what_happened() {
    let place = tempfile::tempdir().unwrap();
    let mut order = order(place.path(), bash(&stubborn(place.path())));
    order.timeout = Duration::from_millis(700);
    let carried = Bash { grace: Duration::from_millis(100) }.carry(&order, &Stop::default());
    assert_eq!(carried.ended, Ended::Unknown { why: "it was stopped after 700ms".to_owned() });
    for who in ["leader", "child"] {
        wait_until_dead(&place.path().join(who));
    }
}

#[test]
fn who_is_asked_to_stop_stops() {
    let place = tempfile::tempdir().unwrap();
    let order = order(place.path(), bash(&stubborn(place.path())));
    let stop = Stop::default();
    let carried = std::thread::scope(|scope| {
        let carrying = scope.spawn(|| Bash { grace: Duration::from_millis(50) }.carry(&order, &stop));
        wait_for(&place.path().join("child"));
        stop.stop();
        carrying.join().unwrap()
    });
    assert_eq!(carried.ended, Ended::Unknown { why: "it was stopped".to_owned() });
    wait_until_dead(&place.path().join("child"));
}

#[test]
fn a_script_that_asked_to_stop_cleans_up_gets_to_do_so() {
    let place = tempfile::tempdir().unwrap();
    let cleaned = place.path().join("cleaned");
    let script =
        format!("trap 'echo yes > {}; exit 1' TERM\nwhile true; do sleep 0.05; done", cleaned.display());
    let mut order = order(place.path(), bash(&script));
    order.timeout = Duration::from_millis(500);
    Bash::default().carry(&order, &Stop::default());
    assert_eq!(lines(&cleaned), ["yes"]);
}

#[test]
fn nobody_waits_for_what_a_script_left_in_the_background() {
    let place = tempfile::tempdir().unwrap();
    let pid = place.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; echo begun", pid.display());
    let carried = Bash::default().carry(&order(place.path(), bash(&script)), &Stop::default());
    assert_eq!((carried.ended, carried.answer.as_deref()), (Ended::Done, Some("begun")));
    assert!(is_alive(&pid), "a script may start what is to stay");
    let sleeping = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(sleeping).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

#[test]
fn a_secret_shows_neither_in_the_capture_nor_in_outputs_nor_in_the_journal() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("password");
    std::fs::write(&file, "hunter2-and-more\n").unwrap();
    let text = r#"---
inputs:
  password: {type: secret}
---
# R

```bash {step=show pass=password outputs=said undo=none why=x}
for part in $(echo "$password" | sed 's/./& /g'); do printf %s "$part"; done; echo
echo "$password" >&2
echo "said=it is $password" >> "$LIFEBOAT_OUTPUT"
```
"#;
    let given = Given::Secret(format!("file:{}", file.display()));
    let mut tried = Tried::begin(text, &[("password", given)], house());
    assert_eq!(tried.drive().unwrap(), Rest::Ended(Ending::Done), "{:?}", tried.records);
    assert_eq!(tried.output("show", "said").as_deref(), Some("it is ***"));
    let folder = tried.runs().open(&tried.run()).unwrap();
    let captured = std::fs::read_to_string(folder.output().join("show.1.log")).unwrap();
    assert_eq!(captured.matches("***").count(), 2, "{captured}");
    let mut looked = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap().chain(std::fs::read_dir(folder.output()).unwrap())
    {
        let path = entry.unwrap().path();
        if path.is_file() {
            looked += 1;
            let bytes = std::fs::read(&path).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains("hunter2"), "{}", path.display());
        }
    }
    assert_eq!(looked, 3, "the document, the journal, the capture; and what held outputs is gone");
}

#[test]
fn a_script_that_prints_without_end_fills_no_disk() {
    let place = tempfile::tempdir().unwrap();
    let carried = Bash::default().carry(
        &order(place.path(), bash("head -c 20000000 /dev/zero | tr '\\0' x; echo end")),
        &Stop::default(),
    );
    assert_eq!(carried.ended, Ended::Done);
    assert!(carried.answer.unwrap().len() <= 64 << 10);
    let bytes = std::fs::read(place.path().join("a.1.log")).unwrap();
    assert!(bytes.len() < 1 << 20 && bytes.ends_with(b"end\n"), "{}", bytes.len());
}

#[test]
fn what_cannot_be_begun_is_not_begun_and_says_so() {
    let place = tempfile::tempdir().unwrap();
    let mut order = order(place.path(), bash("true"));
    order.capture = place.path().join("no/such/folder.log");
    let carried = Bash::default().carry(&order, &Stop::default());
    assert!(
        matches!(&carried.ended, Ended::NotBegun { why } if why.starts_with("capture its output:")),
        "{carried:?}"
    );
    let text = "# R\n\n```sql {step=query on=\"env:X\" undo=none why=x}\nselect 1;\n```\n";
    let mut tried = Tried::begin(text, &[], house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(tried.status("query"), StepStatus::NotBegun { act: Act::Do });
    assert_eq!(tried.events(), ["outcome"], "nothing was announced");
}

#[test]
fn what_a_killed_executor_left_running_is_ended_before_it_is_done_again() {
    let place = tempfile::tempdir().unwrap();
    let pid = place.path().join("pid");
    // The tag that the executor gives: a grandchild of a script whose executor was killed still has it.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let session = stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap();
    let mut order = order(place.path(), bash("true"));
    order.run = "20270115t080000z-0000dead".parse().unwrap();
    let tag = format!("{}/{}/{}/{session}", order.run, order.block, order.attempt);
    let mut left = std::process::Command::new("bash");
    left.args(["-c", &format!("echo $$ > {}; sleep 600; true", pid.display())]).env("LIFEBOAT_STEP", tag);
    let mut left = left.spawn().unwrap();
    wait_for(&pid);
    let mut other = order.clone();
    other.attempt = 2;
    Bash::default().clear_up(&other);
    assert!(left.try_wait().unwrap().is_none(), "another attempt's is left alone");
    Bash::default().clear_up(&order);
    assert!(!left.wait().unwrap().success());
}

/// A container's first process is in a session that nobody in the container can name: `getsid` says 0. So is what is
/// started within a running one.
#[test]
#[expect(clippy::print_stderr, reason = "what was not tried is said")]
fn in_a_container_a_script_is_carried_out_and_cleared_up() {
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc"]);
    if !unshare.arg("true").output().is_ok_and(|tried| tried.status.success()) {
        eprintln!("skipped: no namespace of processes can be made here (it takes root and unshare(1))");
        return;
    }
    let mut inside = std::process::Command::new("unshare");
    inside.args(["--pid", "--fork", "--mount-proc"]).arg(std::env::current_exe().unwrap());
    let names =
        ["scripts::a_secret_shows", "scripts::what_a_killed_executor", "kills::an_executor_that_dies"];
    let ended = inside.args(names).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("3 passed"), "{said}");
}

/// Answers one request and gives back what it was.
fn answer_once(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&request).contains("\"to\"") {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the request ended early");
            request.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (url, answering)
}

fn request(place: &Path, url: &str) -> Order {
    let request = HttpRequest {
        method: "POST".to_owned(),
        url: format!("{url}/switch?to=${{to}}"),
        headers: vec![("Authorization".to_owned(), "Bearer ${token}".to_owned())],
        body: Some(r#"{"to":"${to}"}"#.to_owned()),
    };
    let mut order = order(place, Action::Http { request });
    let token = Secret::new(b"t0ken-and-more".to_vec());
    order.secrets = vec![token.clone()];
    order.values = BTreeMap::from([
        ("to".to_owned(), Value::Plain("db-2".to_owned())),
        ("token".to_owned(), Value::Secret { reference: "env:TOKEN".to_owned(), secret: token }),
    ]);
    order.outputs = [("status", None), ("leader", Some("/leader/name"))]
        .map(|(name, pointer)| Output { name: name.to_owned(), pointer: pointer.map(str::to_owned) })
        .into();
    order
}

#[test]
fn a_request_is_sent_once_and_its_answer_is_read_and_masked() {
    let place = tempfile::tempdir().unwrap();
    let body = r#"{"leader":{"name":"db-2"},"you said":"t0ken-and-more"}"#;
    let answer = format!("HTTP/1.1 201 Created\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (url, answering) = answer_once(answer.leak());
    let carried = Http.carry(&request(place.path(), &url), &Stop::default());
    let sent = answering.join().unwrap();
    assert!(
        sent.starts_with("POST /switch?to=db-2 HTTP/1.1\r\n") && sent.contains("Bearer t0ken-and-more"),
        "{sent}"
    );
    let outputs =
        BTreeMap::from([("status", "201"), ("leader", "db-2")].map(|(n, v)| (n.to_owned(), v.to_owned())));
    assert_eq!(carried, Carried { ended: Ended::Done, outputs, answer: Some("201".to_owned()) });
    let captured = std::fs::read_to_string(place.path().join("a.1.log")).unwrap();
    assert_eq!(captured, "201\n{\"leader\":{\"name\":\"db-2\"},\"you said\":\"***\"}");
}

#[test]
fn a_redirection_is_not_followed_and_no_answer_is_not_a_failure() {
    let place = tempfile::tempdir().unwrap();
    let (url, answering) =
        answer_once("HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n");
    let carried = Http.carry(&request(place.path(), &url), &Stop::default());
    assert_eq!(carried.ended, Ended::Failed { why: "the answer is 307".to_owned() });
    answering.join().unwrap();
    // Taken and never answered: the other side may have done it.
    let (url, answering) = answer_once("");
    let carried = Http.carry(&request(place.path(), &url), &Stop::default());
    assert!(matches!(&carried.ended, Ended::Unknown { .. }), "{carried:?}");
    answering.join().unwrap();
    // Never taken: it certainly did not.
    let carried = Http.carry(&request(place.path(), &url), &Stop::default());
    assert!(matches!(&carried.ended, Ended::Failed { why } if !why.contains("t0ken")), "{carried:?}");
}

#[test]
fn a_request_that_hangs_is_given_up_in_time() {
    let place = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut order = request(place.path(), &format!("http://{}", listener.local_addr().unwrap()));
    order.timeout = Duration::from_millis(200);
    let carried = Http.carry(&order, &Stop::default());
    assert_eq!(carried.ended, Ended::Unknown { why: "there was no answer within 200ms".to_owned() });
}

#[test]
fn a_step_that_timed_out_and_may_be_done_once_waits_for_a_person() {
    let text = "# R\n\n```bash {step=slow timeout=200ms undo=none why=x}\nsleep 600\n```\n";
    let mut tried = Tried::begin(text, &[], house());
    assert_eq!(tried.drive().unwrap(), Rest::Waiting);
    assert_eq!(tried.status("slow"), StepStatus::Unknown { act: Act::Do, repeat: Again::Never });
    assert_eq!(tried.why("slow"), "it was stopped after 200ms");
    let _: PathBuf = tried.runs().open(&tried.run()).unwrap().output();
    assert_eq!(Masker::text(&[], "x"), "x");
}
