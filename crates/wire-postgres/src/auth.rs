//! Proving who we are: passwords in the clear, MD5, SCRAM-SHA-256 with and without channel binding.
//!
//! Owns the exchange between the first message of a session and being let in. It deliberately does not know
//! where a password was looked up, and never writes one anywhere.

use crate::connection::Connection;
use crate::error::PostgresError;
use crate::inbox::Message;
use crate::message::{self, Fields, Malformed};
use crate::options::ChannelBinding;
use lifeboat_base::Secret;
use postgres_protocol::authentication::{md5_hash, sasl};
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// What we can prove.
#[derive(Debug)]
pub(crate) struct Credentials<'c> {
    pub(crate) password: Option<&'c Secret>,
    pub(crate) binding: ChannelBinding,
    /// The hash of the server's certificate, on an encrypted channel that has one.
    pub(crate) end_point: Option<Vec<u8>>,
}

/// Where the exchange stands. What the server may say next follows from it.
enum Progress {
    /// Nothing was proved.
    Open,
    /// We said who we are; the server checks that.
    Sent,
    /// A SCRAM exchange is under way. Its state wipes nothing by itself, so it is short-lived.
    Scram { exchange: sasl::ScramSha256, bound: bool, answered: bool },
    /// The server proved itself too.
    Proved { bound: bool },
}

/// Answers what the server asks until it lets us in.
pub(crate) fn authenticate(
    connection: &mut Connection,
    credentials: &Credentials<'_>,
    deadline: Option<Instant>,
) -> Result<(), PostgresError> {
    let mut progress = Progress::Open;
    loop {
        let Some(message) = connection.receive(deadline)? else {
            return Err(connection.io(io::ErrorKind::TimedOut.into()));
        };
        match message.tag {
            b'R' => {}
            b'E' => return Err(connection.server_error(&message)?),
            _ => return Err(connection.unexpected(&message)),
        }
        match step(connection, credentials, progress, &message)? {
            Some(next) => progress = next,
            None => return Ok(()),
        }
    }
}

/// One request of the server. `None`: we are in.
fn step(
    connection: &Connection,
    credentials: &Credentials<'_>,
    progress: Progress,
    message: &Message,
) -> Result<Option<Progress>, PostgresError> {
    let mut fields = Fields(connection.body(message));
    let kind = fields.i32("an authentication request without a kind");
    let kind = kind.map_err(|error| connection.malformed(error))?;
    match (kind, progress) {
        (0, progress) => admitted(connection, credentials, &progress).map(|()| None),
        (3, Progress::Open) => in_the_clear(connection, credentials).map(Some),
        (5, Progress::Open) => md5(connection, credentials, fields).map(Some),
        (10, Progress::Open) => begin_scram(connection, credentials, fields).map(Some),
        (11, Progress::Scram { exchange, bound, answered: false }) => {
            answer_scram(connection, exchange, bound, fields.0).map(Some)
        }
        (12, Progress::Scram { exchange, bound, answered: true }) => {
            finish_scram(connection, exchange, bound, fields.0).map(Some)
        }
        (3 | 5 | 10 | 11 | 12, _) => Err(connection.protocol("an authentication request out of turn")),
        (other, _) => Err(PostgresError::Authentication {
            target: connection.session().target.clone(),
            method: method(other),
        }),
    }
}

fn method(kind: i32) -> String {
    match kind {
        2 => "Kerberos 5".to_owned(),
        6 => "SCM credentials".to_owned(),
        7 | 8 => "GSSAPI".to_owned(),
        9 => "SSPI".to_owned(),
        other => format!("method {other}"),
    }
}

/// A server that skips its own proof is not let off it.
fn admitted(
    connection: &Connection,
    credentials: &Credentials<'_>,
    progress: &Progress,
) -> Result<(), PostgresError> {
    let bound = match progress {
        Progress::Scram { .. } => {
            return Err(connection.protocol("an exchange of proofs that ends without its own"));
        }
        Progress::Proved { bound } => *bound,
        Progress::Open | Progress::Sent => false,
    };
    if credentials.binding == ChannelBinding::Require && !bound {
        return Err(no_binding(connection));
    }
    Ok(())
}

fn no_binding(connection: &Connection) -> PostgresError {
    PostgresError::NoChannelBinding { target: connection.session().target.clone() }
}

fn password<'c>(connection: &Connection, credentials: &Credentials<'c>) -> Result<&'c [u8], PostgresError> {
    let session = || Arc::clone(connection.facts());
    credentials.password.map(Secret::expose).ok_or_else(|| PostgresError::NoPassword { session: session() })
}

/// Only a SCRAM exchange can be bound to the channel: nothing else is told a password where that is required.
fn refuse_unbound(connection: &Connection, credentials: &Credentials<'_>) -> Result<(), PostgresError> {
    if credentials.binding == ChannelBinding::Require { Err(no_binding(connection)) } else { Ok(()) }
}

fn in_the_clear(connection: &Connection, credentials: &Credentials<'_>) -> Result<Progress, PostgresError> {
    refuse_unbound(connection, credentials)?;
    let session = connection.session();
    if !session.encrypted && !session.unix {
        return Err(PostgresError::PasswordInTheClear { target: session.target.clone() });
    }
    send_password(connection, password(connection, credentials)?)
}

fn send_password(connection: &Connection, password: &[u8]) -> Result<Progress, PostgresError> {
    let mut body = password.to_vec();
    body.push(0);
    let framed = Secret::new(message::framed(b'p', &body));
    drop(Secret::new(body));
    connection.send(framed.expose()).map(|()| Progress::Sent)
}

fn md5(
    connection: &Connection,
    credentials: &Credentials<'_>,
    mut fields: Fields<'_>,
) -> Result<Progress, PostgresError> {
    refuse_unbound(connection, credentials)?;
    let salt = fields.bytes(4, "an MD5 request without salt").map_err(|error| connection.malformed(error))?;
    let salt = [salt[0], salt[1], salt[2], salt[3]];
    let password = password(connection, credentials)?;
    let hash = md5_hash(connection.session().user.as_bytes(), password, salt);
    send_password(connection, hash.as_bytes())
}

fn begin_scram(
    connection: &Connection,
    credentials: &Credentials<'_>,
    fields: Fields<'_>,
) -> Result<Progress, PostgresError> {
    let offered = mechanisms(fields).map_err(|error| connection.malformed(error))?;
    let (mechanism, binding, bound) = choose(&offered, credentials).ok_or_else(|| {
        let target = connection.session().target.clone();
        if credentials.binding == ChannelBinding::Require {
            PostgresError::NoChannelBinding { target }
        } else {
            PostgresError::Authentication { target, method: format!("SASL ({})", offered.join(", ")) }
        }
    })?;
    let exchange = sasl::ScramSha256::new(password(connection, credentials)?, binding);
    let first = exchange.message();
    let mut body = mechanism.as_bytes().to_vec();
    body.push(0);
    body.extend(u32::try_from(first.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend(first);
    connection.send(&message::framed(b'p', &body))?;
    Ok(Progress::Scram { exchange, bound, answered: false })
}

fn mechanisms(mut fields: Fields<'_>) -> Result<Vec<String>, Malformed> {
    let mut names = Vec::new();
    loop {
        match fields.text("a list of mechanisms without an end")? {
            "" => return Ok(names),
            name => names.push(name.to_owned()),
        }
    }
}

/// The best of what is offered. A server that offers no binding is told that we could have bound, so that
/// somebody in between who took the offer away is found out.
fn choose(
    offered: &[String],
    credentials: &Credentials<'_>,
) -> Option<(&'static str, sasl::ChannelBinding, bool)> {
    let offers = |name: &str| offered.iter().any(|offer| offer == name);
    let end_point = match credentials.binding {
        ChannelBinding::Disable => None,
        ChannelBinding::Prefer | ChannelBinding::Require => credentials.end_point.clone(),
    };
    match end_point {
        Some(hash) if offers(sasl::SCRAM_SHA_256_PLUS) => {
            Some((sasl::SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(hash), true))
        }
        _ if credentials.binding == ChannelBinding::Require || !offers(sasl::SCRAM_SHA_256) => None,
        Some(_) => Some((sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested(), false)),
        None => Some((sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported(), false)),
    }
}

fn proof(connection: &Connection, source: io::Error) -> PostgresError {
    PostgresError::Proof { target: connection.session().target.clone(), source }
}

fn answer_scram(
    connection: &Connection,
    mut exchange: sasl::ScramSha256,
    bound: bool,
    challenge: &[u8],
) -> Result<Progress, PostgresError> {
    exchange.update(challenge).map_err(|error| proof(connection, error))?;
    connection.send(&message::framed(b'p', exchange.message()))?;
    Ok(Progress::Scram { exchange, bound, answered: true })
}

fn finish_scram(
    connection: &Connection,
    mut exchange: sasl::ScramSha256,
    bound: bool,
    outcome: &[u8],
) -> Result<Progress, PostgresError> {
    exchange.finish(outcome).map_err(|error| proof(connection, error))?;
    Ok(Progress::Proved { bound })
}
