//! Proof of a restored database: everything that can be asked of it without its application.
//!
//! Three outcomes. What SQLite calls damaged is a *fault*. What could not be asked (a virtual table or a
//! collation that only the application has) is a *doubt*, and so are foreign keys that lead nowhere: SQLite
//! enforces them only where the application asks for it, so the original may well be like that.
//!
//! Memory: SQLite's page cache is limited to 8 MiB; beside it, the largest single row.

mod answer;
mod checksum;
mod schema;

pub use answer::{AnswerError, answer};
pub use schema::{Schema, TableKind};

use checksum::TableChecksum;
use lifeboat_base::Hint;
use rusqlite::config::DbConfig;
use rusqlite::ffi::ErrorCode;
use rusqlite::{Connection, OpenFlags};
use schema::Table;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::files::{beside, exists_for_sqlite};

/// The page cache of the connection that asks, in KiB.
const CACHE_KIB: u32 = 8 * 1024;

/// How many lines of the integrity check, and how many foreign keys, are kept.
const KEPT: usize = 20;

/// What a proof comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything was asked and answered well.
    Proven,
    /// The database is damaged.
    Failed,
    /// No damage was found, but not everything could be asked.
    Inconclusive,
}

/// Damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A line of the integrity check.
    Integrity(String),
    /// SQLite called the database damaged while it did something else.
    Unreadable {
        /// What was being done, in the present tense.
        operation: String,
        /// What SQLite said.
        error: String,
    },
}

/// Something that could not be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// A virtual table whose module only the application has, or that cannot be read by itself.
    VirtualTable {
        /// Its name.
        table: String,
        /// What SQLite said.
        error: String,
    },
    /// Rows refer to rows that do not exist. Whether they did in the original, the copy cannot tell.
    ForeignKeys {
        /// How many references.
        violations: u64,
        /// The first of them, as `table rowid → parent`.
        first: Vec<String>,
    },
    /// Something could not be asked without the application: a collation or a function of its own.
    Unasked {
        /// What was being done, in the present tense.
        operation: String,
        /// What SQLite said.
        error: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integrity(line) => write!(f, "integrity check: {line}"),
            Self::Unreadable { operation, error } => write!(f, "{operation}: {error}"),
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VirtualTable { table, error } => write!(f, "virtual table {table} cannot be read: {error}"),
            Self::ForeignKeys { violations, first } => {
                write!(f, "{violations} foreign keys lead nowhere, among them {}", first.join(", "))
            }
            Self::Unasked { operation, error } => write!(f, "{operation}: {error}"),
        }
    }
}

/// What one table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFacts {
    /// Its name.
    pub name: String,
    /// What kind of table it is.
    pub kind: TableKind,
    /// How many rows it has.
    pub rows: u64,
    /// A checksum of its rows in any order: two tables with the same rows have the same one, whatever the order
    /// and the rowids. See `proof/checksum.rs` for its definition.
    pub checksum: [u8; 32],
}

/// What a database was asked, and what it answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// All objects of the schema.
    pub schema: Schema,
    /// Every table that could be read, by name; those of SQLite itself and shadow tables too.
    pub tables: Vec<TableFacts>,
    /// Damage.
    pub faults: Vec<Fault>,
    /// What could not be told.
    pub doubts: Vec<Doubt>,
}

impl Questions {
    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        match (self.faults.is_empty(), self.doubts.is_empty()) {
            (false, _) => Verdict::Failed,
            (true, false) => Verdict::Inconclusive,
            (true, true) => Verdict::Proven,
        }
    }

    /// All rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Files an error of SQLite: damage, or something that could not be asked.
    fn note(&mut self, operation: impl Into<String>, error: &rusqlite::Error) {
        let (operation, text) = (operation.into(), error.to_string());
        if is_damage(error) {
            self.faults.push(Fault::Unreadable { operation, error: text });
        } else {
            self.doubts.push(Doubt::Unasked { operation, error: text });
        }
    }
}

/// Why a database could not be asked anything.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The operating system refused the file.
    #[error("open {}", path.display())]
    Io {
        /// The database.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// SQLite refused to open it, for another reason than damage.
    #[error("open {}", path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
}

impl Hint for ProofError {
    fn hint(&self) -> Option<String> {
        Some(
            "Check that the restored database is where it was restored to, and that it can be read."
                .to_owned(),
        )
    }
}

/// Asks the restored database at `path` whether it is whole, and what is in it.
///
/// A database with neither WAL nor journal beside it is only read. One with either is recovered first, as any
/// application would: it has to be our own copy.
///
/// # Errors
/// Where it cannot be opened for a reason that says nothing of the database; damage is an answer.
pub fn question(path: &Path) -> Result<Questions, ProofError> {
    std::fs::File::open(path).map_err(|source| ProofError::Io { path: path.to_owned(), source })?;
    let connection = open(path)?;
    let mut questions = Questions::default();
    if let Err(error) = configure(&connection) {
        questions.note("open", &error);
        return Ok(questions);
    }
    match schema::read(&connection) {
        Ok((schema, tables)) => {
            questions.schema = schema;
            ask_integrity(&connection, &tables, &mut questions);
            ask_foreign_keys(&connection, &mut questions);
            tables.iter().for_each(|table| ask_table(&connection, table, &mut questions));
        }
        Err(error) => questions.note("read the schema", &error),
    }
    Ok(questions)
}

fn open(path: &Path) -> Result<Connection, ProofError> {
    let to_recover = |suffix| {
        exists_for_sqlite(&beside(path, suffix))
            .map_err(|source| ProofError::Io { path: beside(path, suffix), source })
    };
    let opened = if to_recover("-wal")? || to_recover("-journal")? {
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
    } else {
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(immutable_uri(path), flags)
    };
    opened.map_err(|source| ProofError::Open { path: path.to_owned(), source })
}

/// Nobody else has the file, so SQLite needs neither locks nor, in WAL mode, files beside it.
fn immutable_uri(path: &Path) -> PathBuf {
    let mut uri = b"file:".to_vec();
    // A path that does not begin with a slash could be taken for an authority or a scheme.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for byte in absolute.as_os_str().as_bytes() {
        match byte {
            b'%' | b'?' | b'#' => uri.extend(format!("%{byte:02x}").bytes()),
            byte => uri.push(*byte),
        }
    }
    uri.extend(b"?immutable=1");
    OsString::from_vec(uri).into()
}

/// Little memory, and no trust in what the schema might run.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.execute_batch(&format!(
        "PRAGMA cache_size=-{CACHE_KIB}; PRAGMA mmap_size=0; PRAGMA temp_store=file; PRAGMA cell_size_check=on;
         PRAGMA query_only=on;"
    ))
}

fn ask_integrity(connection: &Connection, tables: &[Table], questions: &mut Questions) {
    let Err(error) = check(connection, None, questions) else { return };
    questions.note("check the integrity of the database", &error);
    // What stopped it may concern one table only (its collation, say). The others can still be asked, though
    // not whether every page is in use once.
    for table in tables.iter().filter(|table| table.kind != TableKind::Virtual) {
        if let Err(error) = check(connection, Some(&table.name), questions) {
            questions.note(format!("check the integrity of table {}", table.name), &error);
        }
    }
}

fn check(connection: &Connection, table: Option<&str>, questions: &mut Questions) -> rusqlite::Result<()> {
    let of = table.map_or(KEPT.to_string(), quote);
    let mut statement = connection.prepare(&format!("PRAGMA main.integrity_check({of})"))?;
    let mut rows = statement.query([])?;
    let mut lines = 0;
    while let Some(row) = rows.next()? {
        let line: String = row.get(0)?;
        if line != "ok" && lines < KEPT {
            lines += 1;
            questions.faults.push(Fault::Integrity(line));
        }
    }
    Ok(())
}

fn ask_foreign_keys(connection: &Connection, questions: &mut Questions) {
    let mut first = Vec::new();
    let mut violations = 0;
    let asked = for_each_violation(connection, |line| {
        violations += 1;
        if first.len() < KEPT {
            first.push(line);
        }
    });
    if violations > 0 {
        questions.doubts.push(Doubt::ForeignKeys { violations, first });
    }
    if let Err(error) = asked {
        questions.note("check foreign keys", &error);
    }
}

fn for_each_violation(connection: &Connection, mut visit: impl FnMut(String)) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("PRAGMA main.foreign_key_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let rowid: Option<i64> = row.get(1)?;
        let rowid = rowid.map_or("row".to_owned(), |rowid| rowid.to_string());
        visit(format!("{} {rowid} → {}", row.get::<_, String>(0)?, row.get::<_, String>(2)?));
    }
    Ok(())
}

fn ask_table(connection: &Connection, table: &Table, questions: &mut Questions) {
    match read_table(connection, &table.name) {
        Ok(read) => {
            let (rows, checksum) = read.finish();
            questions.tables.push(TableFacts { name: table.name.clone(), kind: table.kind, rows, checksum });
        }
        Err(error) if table.kind == TableKind::Virtual && !is_damage(&error) => {
            questions
                .doubts
                .push(Doubt::VirtualTable { table: table.name.clone(), error: error.to_string() });
        }
        Err(error) => questions.note(format!("read table {}", table.name), &error),
    }
}

fn read_table(connection: &Connection, name: &str) -> rusqlite::Result<TableChecksum> {
    let mut statement = connection.prepare(&format!("SELECT * FROM main.{}", quote(name)))?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let mut checksum = TableChecksum::default();
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            checksum.value(row.get_ref(column)?);
        }
        checksum.end_row();
    }
    Ok(checksum)
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

#[cfg(test)]
mod tests;
