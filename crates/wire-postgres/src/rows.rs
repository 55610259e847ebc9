//! The answer to a question: rows of cells as text.

use crate::error::PostgresError;
use crate::message::{self, Malformed};

/// What all results of one command may have together. Answers here are settings and counts; who wants a table's
/// contents wants another client.
pub(crate) const LARGEST_RESULT: usize = 64 << 20;

/// What a cell costs besides its text.
const CELL_BYTES: usize = size_of::<Option<(usize, usize)>>();

/// The rows of one result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    columns: Vec<String>,
    /// Where each cell's text lies, row by row; `None` for NULL.
    cells: Vec<Option<(usize, usize)>>,
    text: Vec<u8>,
    rows: usize,
    tag: String,
}

impl Rows {
    pub(crate) fn described(body: &[u8]) -> Result<Self, Malformed> {
        Ok(Self { columns: message::columns(body)?, ..Self::default() })
    }

    pub(crate) fn push(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let (cells, text) = (&mut self.cells, &mut self.text);
        let count = message::cells(body, |cell| {
            cells.push(cell.map(|cell| {
                let start = text.len();
                text.extend_from_slice(cell);
                (start, text.len())
            }));
        })?;
        if count != self.columns.len() {
            return Err(Malformed("a row with another number of cells than columns"));
        }
        self.rows += 1;
        Ok(())
    }

    pub(crate) fn tagged(mut self, tag: &str) -> Self {
        tag.clone_into(&mut self.tag);
        self
    }

    /// What the rows cost, in bytes.
    pub(crate) fn cost(&self) -> usize {
        self.text.len() + self.cells.len() * CELL_BYTES + self.rows
    }

    /// The names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// How many rows there are.
    pub const fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// What the server says it did: `SELECT 3`, `CREATE TABLE`.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// A cell's bytes; `None` for NULL and for what is not there.
    pub fn bytes(&self, row: usize, column: usize) -> Option<&[u8]> {
        if row >= self.rows || column >= self.columns.len() {
            return None;
        }
        let (start, end) = (*self.cells.get(row * self.columns.len() + column)?)?;
        self.text.get(start..end)
    }

    /// A cell's text; `None` for NULL.
    ///
    /// # Errors
    /// Where there is no such cell, or it is not UTF-8 (in a database of the encoding `SQL_ASCII`).
    pub fn text(&self, row: usize, column: usize) -> Result<Option<&str>, PostgresError> {
        let wrong = |what: String| PostgresError::Result { doing: "read a result", what };
        if row >= self.rows || column >= self.columns.len() {
            return Err(wrong(format!("there is no column {column} in row {row}")));
        }
        let text = self.bytes(row, column).map(std::str::from_utf8).transpose();
        text.map_err(|_| wrong(format!("{} in row {row} is not UTF-8", self.columns[column])))
    }

    /// The text of the only cell there is.
    ///
    /// # Errors
    /// Where there is not exactly one row of one column, or it is NULL or not UTF-8.
    pub fn single(&self) -> Result<&str, PostgresError> {
        let wrong = |what: String| PostgresError::Result { doing: "read a result", what };
        if self.rows != 1 || self.columns.len() != 1 {
            return Err(wrong(format!("one value was expected, not {} rows", self.rows)));
        }
        self.text(0, 0)?.ok_or_else(|| wrong("one value was expected, not NULL".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_where_they_were_put() {
        let mut rows = Rows { columns: vec!["a".to_owned(), "b".to_owned()], ..Rows::default() };
        rows.push(b"\0\x02\0\0\0\x01x\xff\xff\xff\xff").unwrap();
        rows.push(b"\0\x02\0\0\0\x01\xff\0\0\0\x02yz").unwrap();
        assert!(rows.push(b"\0\x01\0\0\0\x01x").is_err());
        assert_eq!(rows.text(0, 0).unwrap(), Some("x"));
        assert_eq!(rows.text(0, 1).unwrap(), None);
        assert!(rows.text(1, 0).is_err(), "not UTF-8");
        assert_eq!(rows.bytes(1, 0), Some(&[0xff][..]));
        assert_eq!(rows.text(1, 1).unwrap(), Some("yz"));
        assert!(rows.text(2, 0).is_err() && rows.text(0, 2).is_err() && rows.single().is_err());
        assert_eq!(rows.bytes(0, usize::MAX), None);
    }
}
