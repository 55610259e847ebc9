//! What tables there are, and a hash of everything that the schema declares.

use rusqlite::Connection;
use rusqlite::types::ValueRef;

const CONTEXT: &str = "Lifeboat 2026 SQLite schema v1";

/// All objects of a schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// How many tables, indexes, views and triggers, those of SQLite itself too.
    pub objects: u64,
    /// A hash of type, name, table and SQL of each, in the order of type and name. Where they lie in the file
    /// does not count.
    pub hash: [u8; 32],
}

/// What kind of table it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// With a rowid.
    Ordinary,
    /// WITHOUT ROWID.
    WithoutRowid,
    /// Stored by a virtual table for itself.
    Shadow,
    /// Answered by a module.
    Virtual,
}

/// A table of the schema.
pub(super) struct Table {
    pub(super) name: String,
    pub(super) kind: TableKind,
}

/// Reads the schema, and which tables there are, by name.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<(Schema, Vec<Table>)> {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    let mut schema = Schema::default();
    let mut names = Vec::new();
    let mut statement = connection.prepare(
        "SELECT type, name, tbl_name, sql, coalesce(rootpage, 0) FROM main.sqlite_schema ORDER BY type, name",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        schema.objects += 1;
        for column in 0..4 {
            hash_text(&mut hasher, row.get_ref(column)?);
        }
        if row.get::<_, String>(0)? == "table" {
            names.push((row.get::<_, String>(1)?, row.get::<_, i64>(4)? == 0));
        }
    }
    schema.hash = *hasher.finalize().as_bytes();
    let tables = names
        .into_iter()
        .map(|(name, is_virtual)| Ok(Table { kind: kind(connection, &name, is_virtual)?, name }))
        .collect::<rusqlite::Result<_>>()?;
    Ok((schema, tables))
}

fn hash_text(hasher: &mut blake3::Hasher, value: ValueRef<'_>) {
    let bytes = match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        // An index that belongs to a constraint has no SQL.
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => b"",
    };
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// Only a table without a page of its own is virtual; SQLite is asked for the rest, which needs no module.
fn kind(connection: &Connection, name: &str, is_virtual: bool) -> rusqlite::Result<TableKind> {
    if is_virtual {
        return Ok(TableKind::Virtual);
    }
    let mut statement = connection
        .prepare_cached("SELECT type, wr FROM pragma_table_list(?1) WHERE schema = 'main' COLLATE nocase")?;
    let mut rows = statement.query([name])?;
    let Some(row) = rows.next()? else { return Ok(TableKind::Ordinary) };
    let (kind, without_rowid) = (row.get::<_, String>(0)?, row.get::<_, bool>(1)?);
    Ok(match (kind.as_str(), without_rowid) {
        ("shadow", _) => TableKind::Shadow,
        (_, true) => TableKind::WithoutRowid,
        _ => TableKind::Ordinary,
    })
}
