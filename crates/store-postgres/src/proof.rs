//! Questioning a restored cluster, by a server of its own version that nobody else can reach.
//!
//! A data page is only whole if its checksum fits, an index only if it agrees with its table, a foreign key only
//! if what it names is there. Each of these is asked in its own way, and what could not be asked is said.

use lifeboat_postgres_server::{Identity, Installation, Server};
use lifeboat_wire_postgres::{ConnectOptions, Connection, PostgresError, Purpose, Rows};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

/// The SQLSTATE of a statement that took too long (`query_canceled`).
const QUERY_CANCELLED: &str = "57014";

/// The rows of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRows {
    /// The database.
    pub database: String,
    /// Schema and table, quoted as SQL wants them.
    pub table: String,
    /// How many there are.
    pub rows: u64,
}

/// What a cluster answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// What is damaged or missing.
    pub faults: Vec<String>,
    /// What could not be asked.
    pub doubts: Vec<String>,
    /// The databases that were asked.
    pub databases: Vec<String>,
    /// The rows of every table.
    pub tables: Vec<TableRows>,
    /// How many foreign keys were checked.
    pub foreign_keys: u64,
}

/// Whether a catalogue agrees with itself: each gives a number of contradictions.
const CATALOGUE: [(&str, &str); 5] = [
    (
        "relations without their columns",
        "select count(*) from pg_class c where c.relkind in ('r','i','t','v','m','f','p','I')
           and c.relnatts <> (select count(*) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0)",
    ),
    (
        "columns without their relation",
        "select count(*) from pg_attribute a left join pg_class c on c.oid = a.attrelid where c.oid is null",
    ),
    (
        "indexes without their table",
        "select count(*) from pg_index i left join pg_class c on c.oid = i.indexrelid
           left join pg_class t on t.oid = i.indrelid where c.oid is null or t.oid is null",
    ),
    (
        "relations without their schema",
        "select count(*) from pg_class c left join pg_namespace n on n.oid = c.relnamespace where n.oid is null",
    ),
    (
        "relations without their file",
        "select count(*) from pg_class c where c.relkind in ('r','i','t','m','S') and c.relpersistence <> 't'
           and pg_relation_filepath(c.oid) is not null
           and pg_stat_file(pg_relation_filepath(c.oid), true) is null",
    ),
];

/// Every table that has rows of its own, as SQL names it. Unlogged tables are empty after a recovery, by design.
const TABLES: &str = "select format('%I.%I', n.nspname, c.relname) from pg_class c
     join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'm') and c.relpersistence = 'p' and (c.relkind <> 'm' or c.relispopulated)
       and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') order by 1";

/// For each validated foreign key: its name, and a query that counts rows that name nothing.
const FOREIGN_KEYS: &str = "select format('%s of %s', k.conname, k.conrelid::regclass),
       format('select count(*) from %s a where %s and not exists (select from %s b where %s)',
         k.conrelid::regclass,
         (select string_agg(format('a.%I is not null', f.attname), ' and ')
            from unnest(k.conkey) as n(num) join pg_attribute f on f.attrelid = k.conrelid and f.attnum = n.num),
         k.confrelid::regclass,
         (select string_agg(format('b.%I operator(%s.%s) a.%I', t.attname, ons.nspname, o.oprname, f.attname), ' and ')
            from unnest(k.conkey, k.confkey, k.conpfeqop) as n(num, fnum, op)
            join pg_attribute f on f.attrelid = k.conrelid and f.attnum = n.num
            join pg_attribute t on t.attrelid = k.confrelid and t.attnum = n.fnum
            join pg_operator o on o.oid = n.op
            join pg_namespace ons on ons.oid = o.oprnamespace))
     from pg_constraint k where k.contype = 'f' and k.convalidated and k.conparentid = 0 order by 1";

/// Asks a running server everything that can be asked of it.
///
/// # Errors
/// Where it cannot be asked at all. What is found is in the answers.
pub fn question(
    server: &ConnectOptions,
    installation: &Installation,
    identity: &Identity,
    place: &Server,
) -> Result<Answers, PostgresError> {
    let mut answers = Answers::default();
    let mut main = Connection::open(server, Purpose::Sql)?;
    let listed = main
        .query("select datname from pg_database where datallowconn and datname <> 'template0' order by 1")?;
    answers.databases = column(&listed, 0);
    for database in answers.databases.clone() {
        let mut options = server.clone();
        options.set_database(&database);
        match Connection::open(&options, Purpose::Sql) {
            Ok(mut connection) => question_database(&mut connection, &database, &mut answers)?,
            Err(error) => answers.faults.push(format!("database {database} cannot be opened: {error}")),
        }
    }
    compare_indexes(installation, identity, place, server.user(), &mut answers);
    Ok(answers)
}

fn question_database(
    connection: &mut Connection,
    database: &str,
    answers: &mut Answers,
) -> Result<(), PostgresError> {
    for (what, sql) in CATALOGUE {
        match count(connection, sql) {
            Ok(0) => {}
            Ok(contradictions) => answers.faults.push(format!("{database}: {contradictions} {what}")),
            Err(error) => answers.faults.push(format!("{database}: {what} cannot be counted: {error}")),
        }
    }
    let tables = connection.query(TABLES)?;
    for table in column(&tables, 0) {
        match count(connection, &format!("select count(*) from only {table}")) {
            Ok(rows) => answers.tables.push(TableRows { database: database.to_owned(), table, rows }),
            Err(error) => answers.faults.push(format!("{database}: {table} cannot be read: {error}")),
        }
    }
    let keys = connection.query(FOREIGN_KEYS)?;
    for (name, sql) in column(&keys, 0).into_iter().zip(column(&keys, 1)) {
        answers.foreign_keys += 1;
        match count(connection, &sql) {
            Ok(0) => {}
            Ok(rows) => answers.faults.push(format!("{database}: {rows} rows break {name}")),
            Err(error) => answers.faults.push(format!("{database}: {name} cannot be checked: {error}")),
        }
    }
    Ok(())
}

fn count(connection: &mut Connection, sql: &str) -> Result<u64, PostgresError> {
    Ok(connection.query(sql)?.single()?.parse().unwrap_or(u64::MAX))
}

/// A column of a result. Names that are not UTF-8 are shown as well as can be.
fn column(rows: &Rows, column: usize) -> Vec<String> {
    let text = |row| String::from_utf8_lossy(rows.bytes(row, column).unwrap_or_default()).into_owned();
    (0..rows.len()).map(text).collect()
}

/// Why a question of a person's own has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The server could not be asked, or refused or failed at the question.
    #[error(transparent)]
    Refused(#[from] PostgresError),
    /// It took too long.
    #[error("there was no answer within {} s", .0.as_secs())]
    TooSlow(Duration),
}

/// The value that a query gives, as text, in a session that writes nothing.
///
/// # Errors
/// Where it gives no single value, or none in time.
pub fn answer(server: &ConnectOptions, sql: &str, within: Duration) -> Result<String, AnswerError> {
    let mut connection = Connection::open(server, Purpose::Sql)?;
    connection.execute("set default_transaction_read_only = on")?;
    connection.execute(&format!("set statement_timeout = {}", within.as_millis().max(1)))?;
    match connection.query(sql) {
        Err(error) if error.sqlstate() == Some(QUERY_CANCELLED) => Err(AnswerError::TooSlow(within)),
        rows => Ok(rows?.single()?.to_owned()),
    }
}

/// Tables and indexes, compared by PostgreSQL's own `pg_amcheck`.
fn compare_indexes(
    installation: &Installation,
    identity: &Identity,
    server: &Server,
    user: &str,
    answers: &mut Answers,
) {
    let mut command = installation.command("pg_amcheck", identity);
    command
        .args(["--all", "--install-missing", "--heapallindexed", "--no-password", "--jobs=2"])
        .arg("--host")
        .arg(server.socket_dir())
        .args(["--port", &server.port().to_string(), "--username", user]);
    match command.output() {
        Err(error) => answers.doubts.push(format!("pg_amcheck could not be run: {error}")),
        Ok(output) if output.status.success() => {}
        // Its own words: 2 where it found damage, 1 where it could not look.
        Ok(output) if output.status.code() == Some(2) => {
            answers.faults.push(format!("pg_amcheck: {}", first_lines(&output)));
        }
        Ok(output) => answers.doubts.push(format!("pg_amcheck could not look: {}", first_lines(&output))),
    }
}

/// Every page of a cluster whose server has been shut down, by PostgreSQL's own `pg_checksums`.
pub fn verify_checksums(
    installation: &Installation,
    identity: &Identity,
    data: &Path,
    answers: &mut Answers,
) {
    let mut command = installation.command("pg_checksums", identity);
    command.arg("--check").arg("--pgdata").arg(data);
    match command.output() {
        Err(error) => answers.doubts.push(format!("pg_checksums could not be run: {error}")),
        Ok(output) if output.status.success() => {}
        Ok(output) => answers.faults.push(format!("pg_checksums: {}", first_lines(&output))),
    }
}

fn first_lines(output: &Output) -> String {
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let said = String::from_utf8_lossy(&said);
    said.lines().map(str::trim).filter(|line| !line.is_empty()).take(5).collect::<Vec<_>>().join("; ")
}
