//! The ground floor: crash-safe files, clocks, backoff, failpoints, secrets and the shape of an error.
//!
//! Everything above stands on this crate. It owns the one way in which Lifeboat makes a file durable
//! ([`crashsafe`]), the folders for what need not last ([`scratch`]), the one way in which it asks for the time
//! ([`clock`]) and the one way in which a test stops it at an exact instant ([`failpoint`]).
//!
//! It deliberately knows no runtime, no network, no repository and no store.

pub mod backoff;
pub mod clock;
pub mod crashsafe;
pub mod failpoint;
pub mod hex;
pub mod hint;
pub mod random;
pub mod scratch;
pub mod secret;

pub use hint::{Hint, report};
pub use secret::Secret;
