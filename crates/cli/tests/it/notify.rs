//! `lifeboat notify test`: through real sinks, whole outputs, and without a repository.

use crate::place::{Place, Ran};
use crate::transcript::Transcript;
use lifeboat_notify::testing::{Answer, HttpSink, Manners, SmtpSink, refusing_port};

const SECRET: &str = "a-secret-of-a-test";

fn plan(place: &Place, channels: &[(&str, String)]) {
    let all = channels.iter().map(|(name, keys)| format!("[notify.{name}]\n{keys}\n"));
    place.write("lifeboat.toml", format!("[system]\nname = \"test\"\n{}", all.collect::<String>()));
}

fn webhook(port: u16) -> String {
    format!("webhook = \"http://127.0.0.1:{port}/in/{SECRET}\"\nsecret = \"env:HOOK_SECRET\"\n")
}

fn mail(port: u16) -> String {
    format!(
        "smtp = \"smtp+plain://127.0.0.1:{port}\"\nuser = \"lifeboat\"\npassword = \"env:HOOK_SECRET\"\n\
         from = \"Lifeboat <lifeboat@example.org>\"\nto = [\"on-call@example.org\"]\n"
    )
}

/// Nothing that is needed for anything else is there.
fn notify(place: &Place, arguments: &[&str]) -> Ran {
    let all = [&["notify", "test"], arguments].concat();
    let mut command = place.command(&all);
    command.env("HOOK_SECRET", SECRET);
    for name in ["LIFEBOAT_REPOSITORY", "LIFEBOAT_PASSPHRASE", "LIFEBOAT_KEY"] {
        command.env_remove(name);
    }
    let ran = Ran::of(&mut command);
    assert!(!format!("{ran}").contains(SECRET), "a secret is shown: {ran}");
    ran
}

fn typed(arguments: &[&str]) -> String {
    [&["notify", "test"], arguments].concat().join(" ")
}

#[test]
fn each_channel_says_what_became_of_its_message() {
    let place = Place::empty();
    let mut seen = Transcript::new(&place);
    seen.add("notify test", &notify(&place, &[]));
    let answer = |status| Answer::Status(status, "");
    let hook = HttpSink::start(vec![answer(204), answer(200)], None);
    let (text, document) = (SmtpSink::start(Manners::default()), SmtpSink::start(Manners::default()));
    let subject = "subject = \"{{ system }}: {{ kind_words }}\"\n";
    for (sink, json) in [(&text, false), (&document, true)] {
        plan(&place, &[("ops", webhook(hook.port) + subject), ("on-call", mail(sink.port))]);
        let arguments: &[&str] = if json { &["--json"] } else { &[] };
        seen.add(&typed(arguments), &notify(&place, arguments));
    }
    seen.compare("notify.txt");
    let requests = hook.requests();
    let body: serde_json::Value = serde_json::from_slice(&requests[0].body).unwrap();
    assert_eq!((&body["kind"], &body["system"]), (&"test".into(), &"test".into()));
    assert_eq!(body["subject"], "test: test");
    assert!(requests[0].headers["lifeboat-signature"].starts_with("t="), "{requests:?}");
    assert!(text.session().mail.unwrap().contains("to see whether it arrives"));
    assert!(document.session().mail.is_some());
}

#[test]
fn one_that_fails_says_why_and_holds_up_no_other() {
    let place = Place::empty();
    let mut seen = Transcript::new(&place);
    let good = HttpSink::start(vec![Answer::Status(200, ""); 4], None);
    let refusing = HttpSink::start(vec![Answer::Status(403, ""); 2], None);
    let refused = Manners { instead: Some(("AUTH", "535 wrong")), ..Manners::default() };
    let (text, document) = (SmtpSink::start(refused.clone()), SmtpSink::start(refused));
    for (sink, arguments) in [(&text, &[][..]), (&document, &["--json"][..])] {
        let faulty = webhook(good.port) + "body = \"{{ what.is.it }}\"\n";
        let unset = webhook(good.port).replace("HOOK_SECRET", "NOT_SET");
        plan(
            &place,
            &[
                ("away", webhook(refusing_port())),
                ("faulty", faulty),
                ("good", webhook(good.port)),
                ("mail", mail(sink.port)),
                ("refusing", webhook(refusing.port)),
                ("unset", unset),
            ],
        );
        seen.add(&typed(arguments), &notify(&place, arguments));
    }
    seen.add("notify test nobody", &notify(&place, &["nobody"]));
    seen.compare("notify-failing.txt");
    drop((text.session(), document.session()));
    assert_eq!((good.requests().len(), refusing.requests().len()), (4, 2));
}

#[test]
fn only_those_that_are_named_are_tested() {
    let place = Place::empty();
    let hook = HttpSink::start(vec![Answer::Status(200, "")], None);
    plan(&place, &[("away", webhook(refusing_port())), ("ops", webhook(hook.port))]);
    let ran = notify(&place, &["ops"]).expect(0);
    assert!(ran.stdout.starts_with("ops  webhook  delivered in "), "{ran}");
    assert_eq!((ran.stdout.lines().count(), hook.requests().len()), (1, 1));
}
