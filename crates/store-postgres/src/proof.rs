//! Questioning a restored cluster, by a server of its own version that nobody else can reach.
//!
//! A data page is only whole if its checksum fits, an index only if it agrees with its table, a foreign key only
//! if what it names is there. Each of these is asked in its own way, and what could not be asked is said.

use lifeboat_postgres_server::{Identity, Installation, Server};
use lifeboat_wire_postgres::{ConnectOptions, Connection, PostgresError, Purpose, Rows};
use std::path::Path;
use std::process::Output;

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

/// A question of the plan's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofQuery {
    /// What it is called.
    pub name: String,
    /// The database that is asked; `None`: the one that the dataset names.
    pub database: Option<String>,
    /// What is asked: one row with one number.
    pub sql: String,
    /// The answer must not be below this.
    pub min: Option<i64>,
    /// The answer must not be above this.
    pub max: Option<i64>,
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
    /// The plan's own questions: name and answer.
    pub queries: Vec<(String, String)>,
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
    queries: &[ProofQuery],
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
    for query in queries {
        ask(server, query, &mut answers);
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

/// One of the plan's questions.
fn ask(server: &ConnectOptions, query: &ProofQuery, answers: &mut Answers) {
    let mut options = server.clone();
    if let Some(database) = &query.database {
        options.set_database(database);
    }
    let asked = Connection::open(&options, Purpose::Sql)
        .and_then(|mut connection| connection.query(&query.sql)?.single().map(str::to_owned));
    let name = &query.name;
    match asked {
        Err(error) => answers.faults.push(format!("query {name:?} failed: {error}")),
        Ok(answer) => {
            answers.faults.extend(outside(query, &answer));
            answers.queries.push((name.clone(), answer));
        }
    }
}

fn outside(query: &ProofQuery, answer: &str) -> Option<String> {
    let name = &query.name;
    if query.min.is_none() && query.max.is_none() {
        return None;
    }
    let Ok(number) = answer.parse::<i64>() else {
        return Some(format!("query {name:?} gave {answer:?}, which is no whole number"));
    };
    match (query.min.filter(|min| number < *min), query.max.filter(|max| number > *max)) {
        (Some(min), _) => Some(format!("query {name:?} gave {number}, and at least {min} was expected")),
        (_, Some(max)) => Some(format!("query {name:?} gave {number}, and at most {max} was expected")),
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_held_against_their_bounds() {
        let query = |min, max| ProofQuery {
            name: "has users".to_owned(),
            database: None,
            sql: String::new(),
            min,
            max,
        };
        assert_eq!(outside(&query(Some(1), None), "1"), None);
        assert_eq!(outside(&query(None, None), "anything"), None);
        assert!(outside(&query(Some(1), None), "0").unwrap().contains("at least 1"));
        assert!(outside(&query(None, Some(5)), "6").unwrap().contains("at most 5"));
        assert!(outside(&query(Some(1), None), "many").unwrap().contains("no whole number"));
    }
}
