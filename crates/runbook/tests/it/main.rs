//! Runbooks as a whole: what sound ones compile to, and everything that is said of those that are not.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod document;
mod faults;
mod fuzzing;
mod lint;
mod shipped;
mod sound;

use lifeboat_runbook::{Runbook, compile};

/// A runbook that must be sound.
#[track_caller]
fn compiled(text: &str) -> Runbook {
    match compile(text) {
        Ok(runbook) => runbook,
        Err(faults) => panic!("{faults}\n{text}"),
    }
}
