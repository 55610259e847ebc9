//! The service that keeps a plan: it takes snapshots and proofs when they are due, follows what is continuous,
//! keeps copies and retention, leads or waits to lead, and says how things stand.
//!
//! It knows everyone and holds no rule of its own: what is due the plan says, how it is done recovery says, what
//! it means watch says. What it owns is that nothing is forgotten and nothing is done twice that may not be:
//! every job is recorded before it begins and after it ended ([`record`], [`state`]), and a record outlives the
//! machine, since it ships to the repository ([`ship`]).
//!
//! It deliberately does not know any secret or the environment: whoever starts it reads them ([`Means`]).

pub mod ask;
mod check;
mod copies;
mod evidence;
mod health;
mod house;
pub mod http;
mod jobs;
mod keep;
mod lead;
pub mod live;
mod means;
mod outside;
mod probe;
mod reading;
pub mod record;
pub mod recover;
pub mod report;
pub mod schedule;
mod serve;
pub mod ship;
pub mod state;
mod stream;
mod survey;
pub mod task;
mod tell;

pub use house::{House, Tell};
pub use jobs::Done;
pub use means::{Means, Trouble};
pub use outside::{LISTEN, Outside};
pub use serve::Service;
pub use tell::{Secrets, channel_of, templates_of};
