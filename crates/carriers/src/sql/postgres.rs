//! PostgreSQL, in the simple query protocol: several statements in one text are one transaction, unless they say
//! otherwise themselves.

use super::shown::Answer;
use super::{End, Watch};
use lifeboat_wire_postgres::{ConnectOptions, Connection, PostgresError, Purpose, Rows};

pub(super) fn ask(options: &ConnectOptions, script: &str, watch: &Watch) -> End {
    let mut connection = match Connection::open(options, Purpose::Sql) {
        Ok(connection) => connection,
        Err(error) => return End::NotBegun(lifeboat_base::report(&error)),
    };
    let handle = connection.cancel_handle();
    let cancel = || {
        let _ = handle.cancel();
    };
    match watch.over(cancel, || connection.query(script)) {
        Ok(rows) => {
            answer(&rows).map_or_else(|error| End::Lost(lifeboat_base::report(&error)), End::Answered)
        }
        // The server says so itself: what it refused it has not done.
        Err(error @ PostgresError::Server { .. }) => End::Refused(lifeboat_base::report(&error)),
        Err(error) => End::Lost(lifeboat_base::report(&error)),
    }
}

fn answer(rows: &Rows) -> Result<Answer, PostgresError> {
    let mut answer =
        Answer { columns: rows.columns().to_vec(), tag: rows.tag().to_owned(), ..Answer::default() };
    for row in 0..rows.len() {
        let cells = (0..answer.columns.len()).map(|column| Ok(rows.text(row, column)?.map(str::to_owned)));
        answer.push(cells.collect::<Result<_, PostgresError>>()?);
    }
    Ok(answer)
}
