//! The ledger: rows that the server acknowledged, with the instant and a position that covers each, in a synced file
//! of a process of its own; and the exposure of each row.
//!
//! The position is asked for in the same session after the acknowledgement, as the position up to which the server
//! has flushed: it lies at or behind the end of the row's commit record. So a row counts as exposed a little too
//! long where others have committed between, and never too short.

use super::server::connect;
use super::watch::{Arrival, monotonic_ns, reach};
use crate::error::BenchError;
use lifeboat_base::clock::Stopwatch;
use lifeboat_postgres_wal::Lsn;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The table of the ledger.
pub(super) const TABLE: &str = "create table if not exists ledger (number bigint primary key)";

/// What the ledger's process is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LedgerTask {
    /// Where the server is.
    pub(crate) url: String,
    /// The file of what was acknowledged; it must not exist.
    pub(crate) file: PathBuf,
    /// How long it goes on.
    pub(crate) seconds: u32,
}

/// Writes rows for a while.
///
/// # Errors
/// Where the server refuses one, or the file takes nothing more.
pub(crate) fn run(task: &LedgerTask) -> Result<(), BenchError> {
    let io = |operation| move |error| BenchError::io(operation, &task.file, error);
    let mut file = File::create_new(&task.file).map_err(io("create"))?;
    let mut session = connect(&task.url)?;
    let watch = Stopwatch::start();
    let first = monotonic_ns();
    for number in first.. {
        if watch.elapsed() >= Duration::from_secs(task.seconds.into()) {
            break;
        }
        session.execute(&format!("insert into ledger values ({number})"))?;
        let acknowledged = monotonic_ns();
        let position = session.query("select pg_current_wal_flush_lsn()")?.single()?.to_owned();
        let line = format!("{number} {acknowledged} {position}\n");
        file.write_all(line.as_bytes()).and_then(|()| file.sync_data()).map_err(io("write to"))?;
    }
    Ok(())
}

/// One acknowledged row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    acknowledged_ns: u64,
    position: u64,
}

/// Reads the file.
///
/// # Errors
/// Where it cannot be read, or holds something else.
pub(super) fn rows(path: &Path) -> Result<Vec<Row>, BenchError> {
    let text = fs::read_to_string(path).map_err(|error| BenchError::io("read", path, error))?;
    let damaged =
        || BenchError::Damaged { path: path.to_owned(), what: "holds a line that the ledger did not write" };
    text.lines().map(|line| parsed(line).ok_or_else(damaged)).collect()
}

fn parsed(line: &str) -> Option<Row> {
    let mut words = line.split(' ').skip(1);
    let acknowledged_ns = words.next()?.parse().ok()?;
    let position: Lsn = words.next()?.parse().ok()?;
    Some(Row { acknowledged_ns, position: position.0 })
}

/// How long each row was exposed, in seconds; and how many never were durable.
pub(super) fn exposures(rows: &[Row], arrivals: &[Arrival]) -> (Vec<f64>, usize) {
    let reach = reach(arrivals);
    let mut each = Vec::new();
    for row in rows {
        let first = reach.partition_point(|(_, reached)| *reached < row.position);
        // What was durable before it was acknowledged was never exposed.
        let exposed = reach.get(first).map(|(at, _)| at.saturating_sub(row.acknowledged_ns));
        each.extend(exposed.map(|ns| ns as f64 / 1e9));
    }
    let never = rows.len() - each.len();
    (each, never)
}

/// The value that so much of all, from 0 to 1, do not exceed.
pub(super) fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_exposed_until_all_up_to_it_is_durable() {
        let row = |acknowledged_ns, position| Row { acknowledged_ns, position };
        let arrival = |start, end, at_ns| Arrival { start, end, at_ns };
        let arrivals = [arrival(0, 10, 1_000_000_000), arrival(10, 20, 3_000_000_000)];
        let rows = [row(500_000_000, 10), row(500_000_000, 11), row(4_000_000_000, 20), row(5, 21)];
        assert_eq!(exposures(&rows, &arrivals), (vec![0.5, 2.5, 0.0], 1));
    }

    #[test]
    fn lines_are_read_as_they_are_written() {
        assert_eq!(parsed("7 12 0/1000010"), Some(Row { acknowledged_ns: 12, position: 0x0100_0010 }));
        assert_eq!(parsed("7 12"), None);
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.99), Some(99.0));
        assert_eq!(quantile(&values, 0.5), Some(50.0));
        assert_eq!(quantile(&values, 1.0), Some(100.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
