//! People are told, over real HTTP, and told that it is over; a sign of life comes by itself; nothing is told twice
//! across a restart.

use crate::web::{PATIENCE, Sink};
use crate::world::{SERVE, World};
use lifeboat_notify::testing::{Manners, SmtpSink};

#[test]
fn what_breaks_is_told_once_with_its_words() {
    let sink = Sink::start();
    let notify = format!(
        "{SERVE}[notify.ops]\nwebhook = \"http://{}/hook\"\nsecret = \"env:TOKEN\"\nheartbeat = \"1h\"\n",
        sink.address
    );
    let world = World::serving(&notify);
    let heartbeat = sink.until(|_, body| body["kind"] == "heartbeat");
    assert_eq!((heartbeat["system"].as_str(), heartbeat["phase"].as_str()), (Some("test"), Some("once")));
    world.take_away("tree");
    let told = |kind: &'static str, about: &'static str| {
        move |body: &serde_json::Value| body["kind"] == kind && body["about"] == about
    };
    let (is_down, has_failed) = (told("down", "tree"), told("job_failed", "snapshot tree"));
    let mut seen = Vec::new();
    while !(seen.iter().any(is_down) && seen.iter().any(has_failed)) {
        let body = sink.until(|head, _| {
            assert!(head.contains("lifeboat-signature: t=") && head.contains("idempotency-key: "), "{head}");
            true
        });
        assert_eq!(body["phase"], "began", "{body}");
        seen.push(body);
    }
    let down: Vec<_> = seen.iter().filter(|body| is_down(body)).collect();
    assert_eq!((down.len(), down[0]["what"].as_str()), (1, Some("the store does not answer")));
    world.until("the channel is seen", |world| {
        let line = "lifeboat_channel_state{channel=\"ops\",state=\"ok\"} 1";
        world.get("/metrics").body.lines().any(|one| one == line)
    });
    let kept = world.get("/api/v1/status").body;
    assert!(!kept.contains(crate::world::TOKEN), "a secret is shown");
}

/// More is exposed than may be: whoever is on call gets a mail, with the words of the status in it.
#[test]
fn a_breach_is_mailed() {
    let sink = SmtpSink::start(Manners::default());
    let rest = format!(
        "{SERVE}[datasets.late]\nstore = \"tree\"\nhost = \"here\"\nrpo = \"1s\"\nprotect = {{ every = \"1h\" }}\n\
         [notify.mail]\nsmtp = \"smtp+plain://localhost:{}\"\nuser = \"lifeboat\"\npassword = \"env:TOKEN\"\n\
         from = \"Lifeboat <lifeboat@example.org>\"\nto = [\"on-call@example.org\"]\non = [\"breach\"]\n",
        sink.port
    );
    let world = World::serving(&rest);
    let session = sink.session_within(PATIENCE).expect("a mail");
    // base64 of \0lifeboat\0a-token-of-a-test
    let password = "AUTH PLAIN AGxpZmVib2F0AGEtdG9rZW4tb2YtYS10ZXN0";
    assert!(session.commands.iter().any(|command| command == password), "{session:?}");
    assert!(session.commands.iter().any(|command| command.starts_with("RCPT TO:<on-call@example.org>")));
    let mail = session.mail.unwrap();
    assert!(mail.contains("\nSubject: [test] objective missed: late\n"), "{mail}");
    assert!(mail.contains("if the host fails now") && mail.contains("1.0s may be"), "{mail}");
    world.until("the channel is seen", |world| {
        let line = "lifeboat_channel_state{channel=\"mail\",state=\"ok\"} 1";
        world.get("/metrics").body.lines().any(|one| one == line)
    });
}
