//! What can go wrong between us and a server.
//!
//! What to do next is said in `hint`.

use crate::options::{OptionsError, PasswordSource};
use lifeboat_postgres_wal::Lsn;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the server said went wrong, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// How bad it is: `ERROR`, `FATAL`, `PANIC`, or for notices `WARNING`, `NOTICE` …; never translated.
    pub severity: String,
    /// The SQLSTATE, five characters.
    pub code: String,
    /// What happened, in the server's language.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What the server would do.
    pub hint: Option<String>,
    /// Where in the server's doings it happened.
    pub context: Option<String>,
}

impl ServerError {
    /// Whether the session is over.
    pub fn ends_the_session(&self) -> bool {
        self.severity == "FATAL" || self.severity == "PANIC"
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        write!(f, " [{}]", self.code)
    }
}

impl std::error::Error for ServerError {}

/// Who talks to whom, and how: what errors and hints need to know of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// The server that was tried: `db-1:5432`, or the path of its socket.
    pub target: String,
    /// As whom.
    pub user: String,
    /// The database; for sessions that replicate nothing hangs on it.
    pub database: String,
    /// Whether the session replicates.
    pub replication: bool,
    /// Whether it goes through a unix socket.
    pub unix: bool,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The address that the server sees, where nothing between us changes it.
    pub local_address: Option<String>,
    /// The address that we reach the server at; `None` where there is no network between.
    pub peer_address: Option<IpAddr>,
    /// Where the password came from.
    pub password: PasswordSource,
}

/// Something between us and a server that did not work.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The server cannot be reached.
    #[error("connect to {target}")]
    Unreachable {
        /// The server.
        target: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The server did not let us in within the limit.
    #[error("{target} did not answer within {} s", limit.as_secs())]
    ConnectTimeout {
        /// The server.
        target: String,
        /// The limit.
        limit: Duration,
    },
    /// Of several servers none will do.
    #[error("none of {count} servers will do: {attempts}")]
    NoneOfSeveral {
        /// How many were tried.
        count: usize,
        /// What became of each.
        attempts: String,
        /// What became of the last one; `attempts` says it already.
        last: Box<PostgresError>,
    },
    /// The server is in another role than the one that was asked for.
    #[error("{target} is not what target_session_attrs asks for")]
    WrongRole {
        /// The server.
        target: String,
    },
    /// Reading or writing failed.
    #[error("{doing}: connection to {target} broke")]
    Io {
        /// What we were at.
        doing: &'static str,
        /// The server.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server hung up without a word.
    #[error("{doing}: {target} closed the connection")]
    Closed {
        /// What we were at.
        doing: &'static str,
        /// The server.
        target: String,
    },
    /// The server said no.
    #[error("{doing}")]
    Server {
        /// What we were at.
        doing: &'static str,
        /// In whose session.
        session: Arc<SessionFacts>,
        /// What it said.
        #[source]
        error: Box<ServerError>,
    },
    /// The server said something that is not the protocol.
    #[error("{doing}: {target} does not keep to the protocol: {what}")]
    Protocol {
        /// What we were at.
        doing: &'static str,
        /// The server.
        target: String,
        /// What it did.
        what: String,
    },
    /// More than we are ready to hold.
    #[error("{doing}: {what} has {bytes} bytes, more than the {limit} that are taken")]
    TooLarge {
        /// What we were at.
        doing: &'static str,
        /// What is too large.
        what: &'static str,
        /// Its size, as far as it is known.
        bytes: u64,
        /// What would be taken.
        limit: u64,
    },
    /// The server does not encrypt, and nothing else will do.
    #[error("{target} does not offer TLS")]
    TlsRefused {
        /// The server.
        target: String,
    },
    /// No encrypted channel came about.
    #[error("set up TLS with {target}")]
    Tls {
        /// The server.
        target: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file with certificates or keys is of no use.
    #[error("read certificates from {path}", path = path.display())]
    Certificates {
        /// The file, or `system`.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server wants a password, and there is none.
    #[error("{target} wants a password for {user:?}, and there is none", target = session.target, user = session.user)]
    NoPassword {
        /// In whose session.
        session: Arc<SessionFacts>,
    },
    /// The server wants the password itself, on a channel that others may hear.
    #[error("{target} wants the password in the clear, on a connection that is not encrypted")]
    PasswordInTheClear {
        /// The server.
        target: String,
    },
    /// The server wants to know who we are in a way that is not served.
    #[error("{target} wants authentication by {method}, which is not served")]
    Authentication {
        /// The server.
        target: String,
        /// What it wants.
        method: String,
    },
    /// The exchange of proofs failed: the server is not who it says, or does not know our password.
    #[error("exchange proofs of the password with {target}")]
    Proof {
        /// The server.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The password exchange cannot be tied to the channel, and nothing else will do.
    #[error("{target} does not offer channel binding")]
    NoChannelBinding {
        /// The server.
        target: String,
    },
    /// A server that is too old.
    #[error("{target} runs PostgreSQL {version}")]
    TooOld {
        /// The server.
        target: String,
        /// Its version as it says it.
        version: String,
    },
    /// A name or value that cannot be asked for.
    #[error("{value:?} is no {what}")]
    Argument {
        /// What it should be.
        what: &'static str,
        /// What it is.
        value: String,
    },
    /// A result has not the form that the question promises.
    #[error("{doing}: {what}")]
    Result {
        /// What we were at.
        doing: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The session was left in the middle of something by an earlier error.
    #[error("{doing}: the session with {target} is of no use any more after an earlier error")]
    Broken {
        /// What we were at.
        doing: &'static str,
        /// The server.
        target: String,
    },
    /// The stream does not go on where it stopped: something is missing or came twice.
    #[error("the log from {target} goes on at {found}, and not at {expected}")]
    Gap {
        /// The server.
        target: String,
        /// Where it has to go on.
        expected: Lsn,
        /// Where it does.
        found: Lsn,
    },
    /// The server ended the stream although the timeline goes on: it shuts down.
    #[error("{target} ended the stream at {position}")]
    StreamEnded {
        /// The server.
        target: String,
        /// The end of what was received.
        position: Lsn,
    },
    /// The connection options make no sense.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

impl PostgresError {
    /// What the server said, if it was the server that said no.
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Server { error, .. } => Some(error),
            Self::NoneOfSeveral { last, .. } => last.server(),
            _ => None,
        }
    }

    /// The SQLSTATE, if it was the server that said no.
    pub fn sqlstate(&self) -> Option<&str> {
        self.server().map(|error| error.code.as_str())
    }

    /// Whether the same may work later without anybody changing anything: the network or the server went away,
    /// starts, stops, or is full.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::ConnectTimeout { .. }
            | Self::Io { .. }
            | Self::Closed { .. }
            | Self::Broken { .. }
            | Self::WrongRole { .. }
            | Self::StreamEnded { .. } => true,
            Self::Server { error, .. } => {
                ["57P01", "57P02", "57P03", "53300", "55006"].contains(&error.code.as_str())
                    || error.code.starts_with("08")
            }
            Self::Tls { source, .. } => went_away(source),
            Self::NoneOfSeveral { last, .. } => last.is_transient(),
            _ => false,
        }
    }

    /// Whether the next of several servers is worth a try. A server that answers and says no is believed.
    pub(crate) fn tries_next_host(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::ConnectTimeout { .. }
            | Self::Io { .. }
            | Self::Closed { .. }
            | Self::WrongRole { .. } => true,
            Self::Tls { source, .. } => went_away(source),
            Self::Server { error, .. } => error.code == "57P03",
            _ => false,
        }
    }
}

/// Whether a handshake ended because the other side was gone, and not by anybody's judgement.
fn went_away(source: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    matches!(source.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | TimedOut | UnexpectedEof)
}
