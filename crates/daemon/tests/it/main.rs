//! The service as it is seen from outside: over HTTP, by Prometheus, by those who are told.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod alarms;
mod api;
mod document;
mod firing;
mod keeping;
mod killing;
mod limits;
mod probing;
mod scenes;
mod scrape;
mod telling;
mod web;
mod world;
