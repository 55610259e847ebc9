//! Receipts in a real repository: appended, taken along after a crash, carried by a copy, expired.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod copies;
mod recording;
mod support;
