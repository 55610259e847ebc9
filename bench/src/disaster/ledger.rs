//! The ledger: numbered rows, and a synced file of those that the server acknowledged, written by a process of
//! its own. And the count: what of the file is missing in a restored database.

use crate::error::BenchError;
use lifeboat_base::clock::{Clock, Timestamp};
use lifeboat_wire_postgres::{ConnectOptions, Connection, PostgresError, Purpose};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The table of the ledger.
pub(super) const TABLE: &str = "create table ledger (number bigint primary key, session int not null)";
/// Between two sessions so many numbers are never used: the first one's last row may have been committed and
/// not acknowledged.
const NUMBERS_A_SESSION: u64 = 1 << 32;

/// What the ledger's process is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LedgerTask {
    /// Where the server is.
    pub(crate) url: String,
    /// The file of what was acknowledged; it must not exist.
    pub(crate) file: PathBuf,
    /// Which session of the ledger this is, from 1 on.
    pub(crate) session: u32,
}

/// Writes rows until the server is gone.
///
/// # Errors
/// Where the server refuses a row, or the file takes nothing more.
pub(crate) fn run(task: &LedgerTask) -> Result<(), BenchError> {
    let io = |operation| move |error| BenchError::io(operation, &task.file, error);
    let mut file = File::create_new(&task.file).map_err(io("create"))?;
    let options = ConnectOptions::parse(&task.url, &|_| None).map_err(PostgresError::from)?;
    let mut connection = Connection::open(&options, Purpose::Sql)?;
    for number in u64::from(task.session) * NUMBERS_A_SESSION.. {
        let row = format!("insert into ledger values ({number}, {})", task.session);
        match connection.execute(&row) {
            Ok(()) => {}
            // The server is gone: nobody knows what became of this row.
            Err(error) if error.is_transient() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let line = format!("{number} {}\n", Clock::System.now().as_nanos());
        file.write_all(line.as_bytes()).and_then(|()| file.sync_data()).map_err(io("write to"))?;
    }
    Ok(())
}

/// What was acknowledged, with the instant at which the ledger knew it.
pub(super) type Acknowledged = BTreeMap<u64, Timestamp>;

/// Reads the files of all sessions. A line that its process did not live to finish is none.
///
/// # Errors
/// Where a file cannot be read, or holds something else.
pub(super) fn acknowledged(files: &[PathBuf]) -> Result<Acknowledged, BenchError> {
    let mut all = Acknowledged::new();
    for path in files {
        let text = fs::read_to_string(path).map_err(|error| BenchError::io("read", path, error))?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let (number, at) = parsed(line).ok_or_else(|| damaged(path))?;
            all.insert(number, at);
        }
    }
    Ok(all)
}

fn parsed(line: &str) -> Option<(u64, Timestamp)> {
    let (number, nanos) = line.split_once(' ')?;
    Some((number.parse().ok()?, Timestamp::from_nanos(nanos.parse().ok()?)))
}

fn damaged(path: &Path) -> BenchError {
    BenchError::Damaged { path: path.to_owned(), what: "holds a line that the ledger did not write" }
}

/// What a restored database has of what was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Rows that were acknowledged.
    pub(super) acknowledged: u64,
    /// Of these, rows that are not there.
    pub(super) lost: u64,
    /// From the acknowledgement of the first lost row to the end: the kill, or the last row that was acknowledged
    /// while all the processes were being killed.
    pub(super) span: Duration,
    /// Rows that are there and were never acknowledged: legal.
    pub(super) phantoms: u64,
    /// Lost rows that are older than one that is there: never legal.
    pub(super) holes: u64,
}

/// Holds a database against the ledger. Sessions follow each other, so that their numbers are in the order of
/// time.
pub(super) fn count(acknowledged: &Acknowledged, present: &BTreeSet<u64>, disaster: Timestamp) -> Count {
    let lost: Vec<(u64, Timestamp)> = acknowledged
        .iter()
        .filter(|(number, _)| !present.contains(number))
        .map(|(number, at)| (*number, *at))
        .collect();
    let newest = present.last().copied();
    let end = acknowledged.values().copied().fold(disaster, Timestamp::max);
    Count {
        acknowledged: acknowledged.len() as u64,
        lost: lost.len() as u64,
        span: lost.first().map(|(_, at)| end.since(*at)).unwrap_or_default(),
        phantoms: present.iter().filter(|number| !acknowledged.contains_key(number)).count() as u64,
        holes: lost.iter().filter(|(number, _)| Some(*number) < newest).count() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: i64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    fn counted(present: &[u64]) -> Count {
        let acknowledged = [(1, ms(10)), (2, ms(20)), (3, ms(30)), (4, ms(40))].into();
        count(&acknowledged, &present.iter().copied().collect(), ms(45))
    }

    #[test]
    fn what_is_missing_at_the_end_is_lost_and_its_span_goes_to_the_disaster() {
        let whole = Count { acknowledged: 4, ..Count::default() };
        assert_eq!(counted(&[1, 2, 3, 4]), whole);
        assert_eq!(counted(&[1, 2]), Count { lost: 2, span: Duration::from_millis(15), ..whole });
        let acknowledged = [(1, ms(10)), (2, ms(50))].into();
        assert_eq!(count(&acknowledged, &[].into(), ms(45)).span, Duration::from_millis(40));
        assert_eq!(counted(&[]), Count { lost: 4, span: Duration::from_millis(35), ..whole });
    }

    #[test]
    fn a_row_that_was_never_acknowledged_is_no_loss_and_what_is_missing_before_it_is_a_hole() {
        let whole = Count { acknowledged: 4, ..Count::default() };
        assert_eq!(counted(&[1, 2, 3, 4, 5]), Count { phantoms: 1, ..whole });
        let span = Duration::from_millis(25);
        assert_eq!(counted(&[1, 3, 4]), Count { lost: 1, holes: 1, span, ..whole });
        let span = Duration::from_millis(5);
        assert_eq!(counted(&[1, 2, 3, 5]), Count { lost: 1, holes: 1, phantoms: 1, span, ..whole });
    }

    #[test]
    fn a_line_that_was_not_finished_is_none() {
        let place = tempfile::tempdir().unwrap();
        let [first, second, bad] = ["first", "second", "bad"].map(|name| place.path().join(name));
        lifeboat_base::crashsafe::replace(&first, b"1 10\n2 20\n3 3").unwrap();
        lifeboat_base::crashsafe::replace(&second, b"").unwrap();
        lifeboat_base::crashsafe::replace(&bad, b"1 10\nx\n2 20\n").unwrap();
        let all = acknowledged(&[first, second]).unwrap();
        assert_eq!(all, [(1, Timestamp::from_nanos(10)), (2, Timestamp::from_nanos(20))].into());
        assert!(matches!(acknowledged(&[bad]), Err(BenchError::Damaged { .. })));
    }
}
