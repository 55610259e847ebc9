//! The driver against real servers of each version.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what happens is told where a test fails")]

mod children;
mod fuzzing;
mod names;
mod spool;
mod support;
mod synchronous;
