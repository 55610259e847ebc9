//! Runs one test of this binary again as a process of its own, in another environment: with a disk of its
//! own, without rights, with other variables.

use std::ffi::OsString;
use std::process::{Command, Output};

/// Set in the process of its own.
const ALONE: &str = "LIFEBOAT_TEST_ALONE";

/// What the process of its own was given to know.
pub(crate) fn given() -> Option<String> {
    std::env::var(ALONE).ok()
}

/// Runs the test of that name, behind `wrapper` (a command that runs what follows it).
pub(crate) fn run(test: &str, wrapper: &[&str], given: &str, variables: &[(&str, &str)]) {
    let output = command(test, wrapper).env(ALONE, given).envs(variables.iter().copied()).output().unwrap();
    assert!(
        passed(&output),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn command(test: &str, wrapper: &[&str]) -> Command {
    let mut words: Vec<OsString> = wrapper.iter().map(OsString::from).collect();
    words.push(std::env::current_exe().unwrap().into());
    words.extend(["--exact", test, "--test-threads=1"].map(OsString::from));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// A name that matches no test also ends with success, and must not count as it.
fn passed(output: &Output) -> bool {
    output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed")
}
