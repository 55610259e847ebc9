//! What runs are given by the house, against the real things. One binary, so that it is linked once.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod commands;
mod mirrors;
mod orders;
mod queries;
