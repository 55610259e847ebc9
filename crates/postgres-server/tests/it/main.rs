//! Real servers of every version that tests run against: found, started, stopped, killed, and never left behind.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod clusters;
mod installations;
mod orphans;
mod servers;

use std::process::{Command, Output};

/// Runs one test of this program again, in a process of its own with these variables.
fn again(test: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.envs(variables.iter().copied());
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
