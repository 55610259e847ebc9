//! Servers for tests, each a thread of the test itself: one that takes webhooks, one that takes mail. They answer as
//! they are told and remember what they were sent. Their methods panic where something fails: what else could a test
//! do.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod http;
mod smtp;

pub use http::{Answer, HttpSink, Request, answers, refusing_port};
pub use smtp::{Manners, Session, SmtpSink};
