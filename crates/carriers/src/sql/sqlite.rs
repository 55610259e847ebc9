//! SQLite: a database that is there already; none is made.

use super::shown::Answer;
use super::{End, Watch};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, OpenFlags, Row, Statement};
use std::path::Path;
use std::time::Duration;

/// So long it is waited for who else writes.
const BUSY: Duration = Duration::from_secs(30);

pub(super) fn ask(path: &Path, script: &str, watch: &Watch) -> End {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags);
    let connection = match opened.and_then(|connection| connection.busy_timeout(BUSY).map(|()| connection)) {
        Ok(connection) => connection,
        Err(error) => return End::NotBegun(format!("open {}: {error}", path.display())),
    };
    let interrupt = connection.get_interrupt_handle();
    match watch.over(|| interrupt.interrupt(), || run(&connection, script)) {
        Ok(answer) => End::Answered(answer),
        Err(why) => End::Refused(why),
    }
}

fn run(connection: &Connection, script: &str) -> Result<Answer, String> {
    let answer = statements(connection, script).map_err(|error| error.to_string())?;
    // What was begun and not committed does not happen: SQLite undoes it as the connection is closed.
    if connection.is_autocommit() {
        Ok(answer)
    } else {
        Err("a transaction was begun and not committed, and is undone".to_owned())
    }
}

fn statements(connection: &Connection, script: &str) -> rusqlite::Result<Answer> {
    let mut answer = Answer::default();
    for statement in Batch::new(connection, script).iterator() {
        let mut statement = statement?;
        if statement.column_count() == 0 {
            let changed = statement.execute([])?;
            answer.tag = format!("{changed} rows changed");
        } else {
            answer = rows(&mut statement)?;
        }
    }
    Ok(answer)
}

fn rows(statement: &mut Statement<'_>) -> rusqlite::Result<Answer> {
    let columns = statement.column_names().map(str::to_owned).collect();
    let mut answer = Answer { columns, ..Answer::default() };
    let width = answer.columns.len();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        answer.push((0..width).map(|column| cell(row, column)).collect::<rusqlite::Result<_>>()?);
    }
    Ok(answer)
}

fn cell(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Some(lifeboat_base::hex::encode(bytes)),
    })
}
