//! Webhooks against a real HTTP server: what is sent, what counts as taken, and what is worth another attempt.

use crate::certificates::Certificates;
use crate::dispatching::run;
use crate::{NOW, event, message};
use lifeboat_base::clock::Timestamp;
use lifeboat_base::{Hint, Secret, report};
use lifeboat_notify::dispatch::State;
use lifeboat_notify::signature::verify;
use lifeboat_notify::template::Templates;
use lifeboat_notify::testing::{Answer, HttpSink, answers, refusing_port};
use lifeboat_notify::webhook::{Webhook, WebhookSettings};
use lifeboat_notify::{Channel, Dispatcher, Kind, Route, SendError, Settings};
use std::time::Duration;

fn settings(url: &str) -> WebhookSettings {
    WebhookSettings {
        name: "hook".to_owned(),
        url: Secret::new(url.as_bytes().to_vec()),
        secret: Some(Secret::new(b"whsec".to_vec())),
        timeout: Duration::from_secs(20),
        authority: None,
        allow_http: false,
    }
}

fn hook(port: u16) -> Webhook {
    Webhook::new(settings(&format!("http://127.0.0.1:{port}/in/t0ken?key=t0ken"))).unwrap()
}

fn status(status: u16) -> Answer {
    Answer::Status(status, "")
}

#[test]
fn a_message_is_posted_signed_and_named() {
    let sink = HttpSink::start(vec![status(204)], None);
    hook(sink.port).send(&message("m1"), NOW).unwrap();
    let request = sink.requests().remove(0);
    assert_eq!(request.line, "POST /in/t0ken?key=t0ken HTTP/1.1");
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["idempotency-key"], "m1");
    assert!(request.headers["user-agent"].starts_with("lifeboat/"));
    let header = &request.headers["lifeboat-signature"];
    let secret = Secret::new(b"whsec".to_vec());
    verify(&secret, header, &request.body, NOW, Duration::from_secs(300)).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!((&body["kind"], &body["phase"]), (&"stall".into(), &"began".into()));
    assert_eq!((&body["about"], &body["since"]), (&"users".into(), &"2027-01-15T08:00:00Z".into()));
    assert_eq!(body["subject"], "[aragora] P1 stream stalled: users é");
}

#[test]
fn without_a_secret_there_is_no_signature() {
    let sink = HttpSink::start(vec![status(200)], None);
    let url = format!("http://localhost:{}/", sink.port);
    let hook = Webhook::new(WebhookSettings { secret: None, ..settings(&url) }).unwrap();
    hook.send(&message("m1"), NOW).unwrap();
    assert!(!sink.requests()[0].headers.contains_key("lifeboat-signature"));
}

fn outcome(answer: Answer) -> SendError {
    let sink = HttpSink::start(vec![answer], None);
    let error = hook(sink.port).send(&message("m1"), NOW).unwrap_err();
    assert_eq!(sink.requests().len(), 1, "one attempt and no redirection followed");
    let said = format!("{} {error:?} {:?}", report(&error), error.hint());
    assert!(!said.contains("t0ken") && !said.contains("whsec"), "{said}");
    error
}

#[test]
fn what_is_worth_another_attempt() {
    for code in [500, 502, 503, 504, 429, 408] {
        assert!(outcome(status(code)).is_retriable(), "{code}");
    }
    for code in [400, 401, 403, 404, 410, 301, 302, 307] {
        let error = outcome(Answer::Status(code, "Location: http://127.0.0.1:1/\r\n"));
        assert!(!error.is_retriable(), "{code}");
        assert_eq!(error.to_string(), format!("127.0.0.1 answered {code}"));
    }
    assert!(outcome(Answer::Close).is_retriable());
}

#[test]
fn who_asks_for_patience_gets_it() {
    let error = outcome(Answer::Status(429, "Retry-After: 17\r\n"));
    assert_eq!(error.after(), Some(Duration::from_secs(17)));
    let error = outcome(Answer::Status(503, "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n"));
    assert_eq!(error.after(), None);
}

#[test]
fn a_server_that_hangs_is_given_up() {
    let sink = HttpSink::start(vec![Answer::Hang], None);
    let url = format!("http://127.0.0.1:{}/t0ken", sink.port);
    let impatient = WebhookSettings { timeout: Duration::from_secs(2), ..settings(&url) };
    let error = Webhook::new(impatient).unwrap().send(&message("m1"), NOW).unwrap_err();
    assert!(error.is_retriable());
    let said = report(&error);
    assert!(said.starts_with("post to 127.0.0.1: ") && !said.contains("t0ken"), "{said}");
    // Ends only once the other side has given up.
    sink.requests();
}

#[test]
fn nobody_there_is_worth_another_attempt() {
    let port = refusing_port();
    assert!(!answers(port));
    let error = hook(port).send(&message("m1"), NOW).unwrap_err();
    assert!(error.is_retriable(), "{error}");
    assert!(!report(&error).contains("t0ken"), "{}", report(&error));
}

#[test]
fn only_a_certificate_that_fits_is_talked_to() {
    let certificates = Certificates::make();
    let send = |certificate: &str, authority: Option<Vec<u8>>| {
        let sink = HttpSink::start(vec![status(200)], Some(certificates.server(certificate)));
        let url = format!("https://localhost:{}/t0ken", sink.port);
        let hook = Webhook::new(WebhookSettings { authority, ..settings(&url) }).unwrap();
        (hook.send(&message("m1"), NOW), sink.requests().len())
    };
    let (sent, requests) = send("server", Some(certificates.authority()));
    assert!(sent.is_ok() && requests == 1, "{sent:?}");
    for (certificate, authority) in [("server", None), ("stranger", Some(certificates.authority()))] {
        let (sent, requests) = send(certificate, authority);
        let error = sent.unwrap_err();
        assert_eq!(requests, 0, "{certificate}: nothing is said to a stranger");
        assert!(error.is_retriable() && report(&error).contains("ertificate"), "{}", report(&error));
    }
}

#[test]
fn an_authority_that_is_none_is_refused() {
    let authority = Some(b"no certificate".to_vec());
    assert!(Webhook::new(WebhookSettings { authority, ..settings("https://example.org/") }).is_err());
}

#[test]
fn it_can_be_sent_from_a_thread_of_a_runtime() {
    let sink = HttpSink::start(vec![status(200)], None);
    let hook = hook(sink.port);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { hook.send(&message("m1"), NOW) }).unwrap();
    assert_eq!(sink.requests().len(), 1);
}

#[test]
fn a_server_that_was_broken_gets_the_same_message_again_and_a_restart_changes_nothing() {
    let sink = HttpSink::start(vec![status(500), Answer::Close, status(200), status(200)], None);
    let hook: Box<dyn Channel> = Box::new(hook(sink.port));
    let routes = || vec![Route { channel: "hook".to_owned(), ..Route::default() }];
    let mut now = NOW;
    let mut kept = State::default();
    for _ in 0..4 {
        // As after a restart: all that there is comes from what was kept.
        let text = serde_json::to_string(&kept).unwrap();
        let state = serde_json::from_str(&text).unwrap();
        let mut dispatcher = Dispatcher::new("aragora", Settings::default(), routes(), state);
        dispatcher.observe(vec![event("stall users", Kind::Stall)], now);
        if now == NOW.plus(Duration::from_secs(3 * 3600)) {
            dispatcher.once(&event("leader 7", Kind::LeaderChanged), now);
        }
        run(&mut dispatcher, std::slice::from_ref(&hook), now);
        kept = dispatcher.state().clone();
        now = now.plus(Duration::from_secs(3600));
    }
    let requests = sink.requests();
    let ids: Vec<&String> = requests.iter().map(|request| &request.headers["idempotency-key"]).collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3], "{ids:?}");
    let signed_at: Vec<&str> =
        requests.iter().map(|r| r.headers["lifeboat-signature"].split(',').next().unwrap()).collect();
    let at = |hours: i64| format!("t={}", Timestamp::from_secs(NOW.as_secs() + hours * 3600).as_secs());
    assert_eq!(signed_at, [at(0), at(1), at(2), at(3)], "each attempt is signed anew");
}

#[test]
fn a_test_says_whether_it_arrived_and_is_in_the_channels_words() {
    let sink = HttpSink::start(vec![status(200)], None);
    let (good, bad) = (hook(sink.port), hook(refusing_port()));
    let templates = Templates { subject: Some("{{ kind }} of {{ system }}".to_owned()), body: None };
    let outcomes = [&good, &bad].map(|hook| lifeboat_notify::test(hook, &templates, "aragora", NOW));
    assert!(outcomes[0].is_ok() && outcomes[1].is_err());
    let body: serde_json::Value = serde_json::from_slice(&sink.requests()[0].body).unwrap();
    assert_eq!((&body["kind"], &body["about"]), (&"test".into(), &"hook".into()));
    assert_eq!(body["subject"], "test of aragora");
}
