//! Trees that go into a repository and come back. One binary, so that it is linked once.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it")]

mod changes;
mod leaving_out;
mod round_trip;
mod support;
mod targets;
