//! One module for each command or family of commands.

pub(crate) mod backup;
pub(crate) mod copy;
pub(crate) mod evidence;
pub(crate) mod export;
pub(crate) mod follow;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod keep;
pub(crate) mod key;
pub(crate) mod lint;
pub(crate) mod look;
pub(crate) mod meta;
pub(crate) mod notify;
pub(crate) mod points;
pub(crate) mod prove;
pub(crate) mod push;
pub(crate) mod rehearse;
pub(crate) mod repo;
pub(crate) mod restore;
pub(crate) mod runbook;
pub(crate) mod serve;
pub(crate) mod spool;
pub(crate) mod status;
pub(crate) mod wal;
pub(crate) mod watchdog;

use crate::output::Output;
use lifeboat_store::Problems;
use serde_json::{Value, json};

/// How many problems a person is shown; `--json` has more.
const SHOWN_PROBLEMS: usize = 20;

/// Says what went wrong with single paths.
pub(crate) fn say_problems(output: Output, what: &str, problems: &Problems) {
    for problem in problems.first.iter().take(SHOWN_PROBLEMS) {
        output.warn(&format!("{what}: {}", lifeboat_base::report(problem)));
    }
    let shown = problems.first.len().min(SHOWN_PROBLEMS) as u64;
    if problems.count > shown {
        output.warn(&format!("{what}: {} more", problems.count - shown));
    }
}

/// What went wrong with single paths, for programs.
pub(crate) fn problems_json(problems: &Problems) -> Value {
    let first: Vec<String> = problems.first.iter().map(|problem| lifeboat_base::report(problem)).collect();
    json!({ "count": problems.count, "first": first })
}
