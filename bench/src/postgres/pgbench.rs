//! pgbench: a load, and how fast it went.

use super::Bench;
use super::server::Running;
use crate::error::BenchError;
use crate::measure;
use std::process::{Command, Stdio};

/// Clients of the load, as the bounds say.
const CLIENTS: &str = "8";

/// So many transactions by each of a few clients, as fast as can be.
///
/// # Errors
/// Where pgbench fails.
pub(super) fn transactions(bench: &Bench<'_>, running: &Running, each: u32) -> Result<(), BenchError> {
    let mut command = bench.programs.client("pgbench", running);
    command.env("PGOPTIONS", "-c synchronous_commit=off").args([
        "-n",
        "-c",
        "4",
        "-j",
        "2",
        "-t",
        &each.to_string(),
    ]);
    measure::run(&mut command, &bench.log).map(|_| ())
}

/// The load, for so many seconds.
pub(super) fn load(bench: &Bench<'_>, running: &Running) -> Command {
    let mut command = bench.programs.client("pgbench", running);
    command.args(["-n", "-c", CLIENTS, "-j", "2", "-T", &bench.options.seconds.to_string()]);
    command
}

/// Transactions a second under the load.
///
/// # Errors
/// Where pgbench fails or does not say.
pub(super) fn throughput(bench: &Bench<'_>, running: &Running) -> Result<f64, BenchError> {
    let mut command = load(bench, running);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output =
        command.output().map_err(|source| BenchError::Start { program: "pgbench".to_owned(), source })?;
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match rate(&said) {
        Some(rate) if output.status.success() => Ok(rate),
        _ => Err(BenchError::Failed {
            command: "pgbench".to_owned(),
            status: output.status.to_string(),
            said: complained.trim().to_owned(),
        }),
    }
}

/// `tps = 834.123456 (without initial connection time)`
fn rate(said: &str) -> Option<f64> {
    let line = said.lines().find_map(|line| line.strip_prefix("tps = "))?;
    line.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read() {
        assert_eq!(
            rate("latency average = 1 ms\ntps = 834.5 (without initial connection time)\n"),
            Some(834.5)
        );
        assert_eq!(rate("nothing"), None);
    }
}
