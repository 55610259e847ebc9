//! PostgreSQL's frontend/backend protocol, version 3.0, as a replication client needs it.
//!
//! ```no_run
//! use lifeboat_wire_postgres::{ConnectOptions, Connection, Purpose};
//!
//! let environment = |name: &str| std::env::var(name).ok();
//! let options = ConnectOptions::parse("postgres://backup@db-1/app", &environment)?;
//! let mut sql = Connection::open(&options, Purpose::Sql)?;
//! let settings = sql.query("select name, setting from pg_settings")?;
//! let mut replication = Connection::open(&options, Purpose::Replication)?;
//! println!("{} has {} settings", replication.identify_system()?.system, settings.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`ConnectOptions`] says whom to talk to, as libpq reads it. [`Connection`] is a session in which nothing is
//! under way. A base backup and the stream of the log take the session over ([`BaseBackup`], [`WalStream`])
//! and give it back when they are done, so that nothing can be asked out of turn.
//!
//! The rules are those of PostgreSQL's documentation, chapters "Frontend/Backend Protocol" and "Streaming
//! Replication Protocol". Everything blocks, on sockets of the standard library; what comes from the server is
//! foreign bytes, which make errors and never panics, and never more memory than arrived.
//!
//! This crate deliberately knows no repository, does not know what is in the log or in the files of a backup,
//! and writes nothing to disk.

mod auth;
mod backup;
mod cancel;
mod connection;
mod error;
mod fuzzing;
mod hint;
mod inbox;
mod message;
mod options;
mod replication;
mod rows;
mod socket;
mod startup;
mod stream;
mod tls;
mod transport;

pub use backup::{BackupEnd, BackupMessage, BaseBackup, BaseBackupOptions, ManifestChecksums, Tablespace};
pub use cancel::CancelHandle;
pub use connection::{Connection, Purpose};
pub use error::{PostgresError, ServerError, SessionFacts};
pub use fuzzing::{fuzz_backend, fuzz_passfile};
pub use options::{
    ChannelBinding, ConnectOptions, Host, HostSpec, KeepAlive, OptionsError, PasswordSource,
    RootCertificates, SslMode, SslNegotiation, SslOptions, TargetSession,
};
pub use replication::{HistoryFile, Identity, SlotKind, SlotState};
pub use rows::Rows;
pub use stream::{NextTimeline, StatusSender, StreamEvent, WalStream};
