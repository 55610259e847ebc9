//! PostgreSQL servers of our own, for proofs, rehearsals and tests.
//!
//! Owns the way from a directory to a running server and back: which programs there are ([`Installation`]), whom
//! they run as ([`Identity`], never root), where their sockets lie ([`ServerPlace`]), starting, watching, stopping
//! and killing ([`Server`]), and what a directory says of itself before anything is started ([`control_data`]).
//! A server is our child: it ends with us, also where we are killed.
//!
//! It deliberately knows no repository, no protocol and no SQL: what a ready server is asked is others' business.

mod control;
mod error;
mod family;
mod identity;
mod installation;
mod log;
mod place;
mod server;
mod spawn;
#[cfg(feature = "testing")]
pub mod testing;

pub use control::{ControlData, ControlDataError, control_data};
pub use error::ServerError;
pub use identity::Identity;
pub use installation::{Installation, SEARCH_VARIABLE};
pub use log::ServerLog;
pub use place::ServerPlace;
pub use server::{Server, ServerOptions, ServerState, StopMode};
