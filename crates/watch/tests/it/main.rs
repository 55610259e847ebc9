//! The status from observations, as everybody sees it: as a document, as text, as metrics, as an exit code.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod described;
mod documents;
mod judging;
mod system;
