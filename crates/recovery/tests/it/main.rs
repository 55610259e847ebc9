//! Recovery against real servers.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![expect(clippy::print_stdout, reason = "what is skipped and which server is asked is said")]

mod bad_days;
mod clusters;
mod copying;
mod export;
mod house;
mod import;
mod logs;
mod postgres;
mod push;
mod refused;
mod retention;
mod timelines;
