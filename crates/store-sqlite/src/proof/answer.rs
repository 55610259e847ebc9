//! One question of a person's own, which the restored database answers with one value.

use super::{ProofError, configure, open};
use rusqlite::ffi::ErrorCode;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, InterruptHandle};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The database could not be asked anything.
    #[error(transparent)]
    Database(#[from] ProofError),
    /// SQLite refused the question, or failed at it.
    #[error("{0}")]
    Refused(#[source] rusqlite::Error),
    /// There is not exactly one row of one column, or it is NULL, or no text.
    #[error("one value was expected, not {0}")]
    NotOneValue(String),
    /// It took too long.
    #[error("there was no answer within {} s", .0.as_secs())]
    TooSlow(Duration),
}

/// The value that a query gives, as text. Nothing is written to the database.
///
/// # Errors
/// Where it gives no single value, or none in time.
pub fn answer(path: &Path, sql: &str, within: Duration) -> Result<String, AnswerError> {
    let connection = open(path)?;
    configure(&connection).map_err(AnswerError::Refused)?;
    let alarm = Alarm::set(connection.get_interrupt_handle(), within);
    let value = single(&connection, sql);
    drop(alarm);
    match value {
        Err(AnswerError::Refused(error))
            if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) =>
        {
            Err(AnswerError::TooSlow(within))
        }
        other => other,
    }
}

fn single(connection: &Connection, sql: &str) -> Result<String, AnswerError> {
    let mut statement = connection.prepare(sql).map_err(AnswerError::Refused)?;
    let columns = statement.column_count();
    if columns != 1 {
        return Err(AnswerError::NotOneValue(format!("{columns} columns")));
    }
    let mut rows = statement.query([]).map_err(AnswerError::Refused)?;
    let first = rows.next().map_err(AnswerError::Refused)?;
    let Some(row) = first else { return Err(AnswerError::NotOneValue("0 rows".to_owned())) };
    let value = text(row.get_ref(0).map_err(AnswerError::Refused)?)?;
    match rows.next().map_err(AnswerError::Refused)? {
        None => Ok(value),
        Some(_) => Err(AnswerError::NotOneValue("several rows".to_owned())),
    }
}

fn text(value: ValueRef<'_>) -> Result<String, AnswerError> {
    match value {
        ValueRef::Integer(number) => Ok(number.to_string()),
        ValueRef::Real(number) => Ok(number.to_string()),
        ValueRef::Text(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Null => Err(AnswerError::NotOneValue("NULL".to_owned())),
        ValueRef::Blob(_) => Err(AnswerError::NotOneValue("a blob".to_owned())),
    }
}

/// Interrupts a connection after a while, unless it is dropped before.
struct Alarm {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Alarm {
    fn set(handle: InterruptHandle, within: Duration) -> Self {
        let (done, wait) = channel::<()>();
        let thread = std::thread::spawn(move || {
            if wait.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
                handle.interrupt();
            }
        });
        Self { done: Some(done), thread: Some(thread) }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(600);

    #[test]
    fn one_value_is_an_answer_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let made = Connection::open(&path).unwrap();
        made.execute_batch("create table users (name text); insert into users values ('a'), ('b')").unwrap();
        made.close().unwrap();
        let asked = |sql: &str| answer(&path, sql, SOON).map_err(|error| error.to_string());
        assert_eq!(asked("select count(*) from users").unwrap(), "2");
        assert_eq!(asked("select max(name) from users").unwrap(), "b");
        assert_eq!(asked("select 1.5").unwrap(), "1.5");
        assert!(asked("select name from users").unwrap_err().contains("several rows"));
        assert!(asked("select 1, 2").unwrap_err().contains("2 columns"));
        assert!(asked("select max(name) from users where false").unwrap_err().contains("NULL"));
        assert!(asked("select count(*) from gone").unwrap_err().contains("no such table"));
        let before = std::fs::read(&path).unwrap();
        assert!(asked("delete from users returning 1").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), before, "it was only read");
    }

    #[test]
    fn a_question_that_takes_too_long_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        Connection::open(&path).unwrap().execute_batch("create table t (x)").unwrap();
        let endless =
            "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";
        let asked = answer(&path, endless, Duration::from_millis(50));
        assert!(matches!(asked, Err(AnswerError::TooSlow(_))), "{asked:?}");
    }
}
