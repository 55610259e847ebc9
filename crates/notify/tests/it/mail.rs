//! Mail against a real SMTP server: encrypted or refused, taken or not, and worth another attempt or not.

use crate::certificates::Certificates;
use crate::{NOW, message};
use lifeboat_base::{Secret, report};
use lifeboat_notify::smtp::{Encryption, Smtp, SmtpSettings};
use lifeboat_notify::testing::refusing_port;
use lifeboat_notify::testing::{Manners, Session, SmtpSink};
use lifeboat_notify::{Channel, SendError};
use std::time::Duration;

fn settings(port: u16, encryption: Encryption) -> SmtpSettings {
    SmtpSettings {
        name: "mail".to_owned(),
        host: "localhost".to_owned(),
        port: Some(port),
        encryption,
        credentials: None,
        from: "Lifeboat <lifeboat@example.org>".to_owned(),
        to: vec!["on-call@example.org".to_owned(), "Boss <boss@example.org>".to_owned()],
        timeout: Duration::from_secs(20),
        authority: None,
    }
}

fn sent(
    manners: Manners,
    encryption: Encryption,
    change: impl FnOnce(&mut SmtpSettings),
) -> (Result<(), SendError>, Session) {
    let sink = SmtpSink::start(manners);
    let mut settings = settings(sink.port, encryption);
    change(&mut settings);
    let outcome = Smtp::new(settings).unwrap().send(&message("m1"), NOW);
    (outcome, sink.session())
}

fn with_password(settings: &mut SmtpSettings) {
    settings.credentials = Some(("user".to_owned(), Secret::new(b"p4ss".to_vec())));
}

#[test]
fn a_mail_arrives_whole_with_what_names_it() {
    let (outcome, session) = sent(Manners::default(), Encryption::Plain, |_| {});
    outcome.unwrap();
    let mail = session.mail.unwrap();
    let (head, body) = mail.split_once("\n\n").unwrap();
    for line in [
        "From: Lifeboat <lifeboat@example.org>",
        "To: on-call@example.org, Boss <boss@example.org>",
        "Message-ID: <m1@example.org>",
        "Date: Fri, 15 Jan 2027 08:00:00 +0000",
        "Auto-Submitted: auto-generated",
    ] {
        assert!(head.lines().any(|own| own == line), "{line} is not in\n{head}");
    }
    assert!(head.contains("Subject: =?utf-8?") || head.contains("Subject: [aragora]"), "{head}");
    assert!(body.contains("the stream is stalled") && body.contains("\n..\n"), "{body}");
    let recipients = session.commands.iter().filter(|command| command.starts_with("RCPT TO")).count();
    assert_eq!(recipients, 2);
}

#[test]
fn it_is_encrypted_before_anything_is_said() {
    let certificates = Certificates::make();
    let authority = Some(certificates.authority());
    let trusting = |settings: &mut SmtpSettings| {
        settings.authority.clone_from(&authority);
        with_password(settings);
    };
    let start_tls = Manners { start_tls: Some(certificates.server("server")), ..Manners::default() };
    let (outcome, session) = sent(start_tls, Encryption::StartTls, trusting);
    outcome.unwrap();
    assert_eq!(session.commands[..2].iter().map(|c| &c[..4]).collect::<Vec<_>>(), ["EHLO", "STAR"]);
    assert_eq!(session.in_clear, 2);
    // base64 of \0user\0p4ss
    assert!(session.commands.iter().any(|command| command == "AUTH PLAIN AHVzZXIAcDRzcw=="));
    assert!(session.mail.is_some());
    let tls = Manners { tls: Some(certificates.server("server")), ..Manners::default() };
    let (outcome, session) = sent(tls, Encryption::Tls, trusting);
    outcome.unwrap();
    assert!(session.in_clear == 0 && session.mail.is_some());
}

#[test]
fn a_certificate_that_does_not_fit_hears_nothing() {
    let certificates = Certificates::make();
    for (certificate, authority) in [("server", None), ("stranger", Some(certificates.authority()))] {
        let manners = Manners { tls: Some(certificates.server(certificate)), ..Manners::default() };
        let (outcome, session) = sent(manners, Encryption::Tls, |settings| {
            settings.authority = authority;
            with_password(settings);
        });
        let error = outcome.unwrap_err();
        assert!(error.is_retriable() && session.commands.is_empty(), "{}", report(&error));
        assert!(!report(&error).contains("p4ss"));
    }
}

#[test]
fn a_server_without_starttls_gets_no_password() {
    let (outcome, session) = sent(Manners::default(), Encryption::StartTls, with_password);
    let error = outcome.unwrap_err();
    assert!(!error.is_retriable(), "{}", report(&error));
    assert!(session.mail.is_none());
    assert!(session.commands.iter().all(|command| !command.starts_with("AUTH")), "{session:?}");
}

#[test]
fn answers_decide_whether_it_is_tried_again() {
    for (verb, reply, is_retriable) in [
        ("RCPT", "550 no such user", false),
        ("RCPT", "450 busy", true),
        ("MAIL", "421 going down", true),
        ("DATA", "554 no", false),
        (".", "451 try later", true),
        (".", "552 too much", false),
        ("EHLO", "500 what", false),
    ] {
        let manners = Manners { instead: Some((verb, reply)), ..Manners::default() };
        let (outcome, session) = sent(manners, Encryption::Plain, |_| {});
        let error = outcome.unwrap_err();
        assert_eq!(error.is_retriable(), is_retriable, "{verb} {reply}: {}", report(&error));
        assert!(session.mail.is_none());
    }
}

#[test]
fn a_wrong_password_is_final_and_not_said() {
    let manners = Manners { instead: Some(("AUTH", "535 wrong")), ..Manners::default() };
    let (outcome, _) = sent(manners, Encryption::Plain, with_password);
    let error = outcome.unwrap_err();
    let said = format!("{} {error:?}", report(&error));
    assert!(!error.is_retriable() && !said.contains("p4ss") && !said.contains("AHVzZXIAcDRzcw"), "{said}");
}

#[test]
fn a_server_that_hangs_or_is_not_there_is_tried_again() {
    let manners = Manners { hangs: true, ..Manners::default() };
    let (outcome, _) =
        sent(manners, Encryption::Plain, |settings| settings.timeout = Duration::from_millis(500));
    assert!(outcome.unwrap_err().is_retriable());
    let nobody = Smtp::new(settings(refusing_port(), Encryption::Plain)).unwrap();
    let error = nobody.send(&message("m1"), NOW).unwrap_err();
    assert!(error.is_retriable(), "{error}");
}

#[test]
fn what_a_message_says_cannot_become_a_header() {
    let sink = SmtpSink::start(Manners::default());
    let channel = Smtp::new(settings(sink.port, Encryption::Plain)).unwrap();
    let mut message = message("m1");
    message.subject = "users\r\nBcc: everybody@example.org".to_owned();
    channel.send(&message, NOW).unwrap();
    let session = sink.session();
    let mail = session.mail.unwrap();
    let head = mail.split("\n\n").next().unwrap();
    assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
    assert!(session.commands.iter().all(|command| !command.contains("everybody")));
}
