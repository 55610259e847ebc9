//! An executable model of how writers and prune share a repository without an exclusive lock, and a search
//! through everything that it can do.
//!
//! The protocol stands in `docs/format.md`; this crate is its proof of concept in the literal sense. Every
//! actor is one enum of what it does next ([`writer`], [`pruner`]) and one function that yields its steps;
//! a step is one request to the object store ([`store`]). [`world`] puts them together and says what must
//! never be. [`search`] visits every state that can be reached, so that every interleaving, every actor
//! that stops for ever and every one that comes back late is among the paths. [`configurations`] lists the
//! bounds that are searched, and [`Mutation`] the rules that can be broken on purpose, each of which must
//! be found out.
//!
//! It deliberately knows no bytes, no key and no clock: a lapsed lease is one that a pruner may judge
//! lapsed at any moment, and a pack is the list of chunks in it.

pub mod config;
pub mod configurations;
pub mod pruner;
pub mod search;
mod seen;
pub mod set;
pub mod step;
pub mod store;
pub mod world;
pub mod writer;

pub use config::{Config, Demand, Mutation};
pub use search::{Counterexample, Ending, Tally, exhaust, reach, shortest};
