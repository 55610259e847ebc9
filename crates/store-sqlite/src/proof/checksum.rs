//! The checksum of a table.
//!
//! ```text
//! value    := 0                          NULL
//!           | 1 integer8                 little-endian
//!           | 2 ieee754-bits8            little-endian
//!           | 3 length8 utf8             text, whatever the database stores it as
//!           | 4 length8 bytes            a blob
//! row      := BLAKE3(value*)             in the order of SELECT *, as an integer of 256 bits, little-endian
//! checksum := BLAKE3 derive-key(CONTEXT) of rows8 and the sum of all rows modulo 2^256, little-endian
//! ```
//!
//! A sum does not depend on the order of the rows, so that neither VACUUM nor another query plan changes it. It
//! is meant against accidents: whoever may choose the rows can make two tables agree.

use rusqlite::types::ValueRef;

const CONTEXT: &str = "Lifeboat 2026 SQLite table checksum v1";

/// Values from this size on are hashed where they lie.
const LARGE_BYTES: usize = 64 << 10;

/// Adds up the rows of a table.
#[derive(Default)]
pub(super) struct TableChecksum {
    rows: u64,
    /// Little-endian.
    sum: [u64; 4],
    row: blake3::Hasher,
    buffer: Vec<u8>,
}

impl TableChecksum {
    /// Takes the next value of the row.
    pub(super) fn value(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.buffer.push(0),
            ValueRef::Integer(integer) => self.tagged(1, &integer.to_le_bytes()),
            ValueRef::Real(real) => self.tagged(2, &real.to_bits().to_le_bytes()),
            ValueRef::Text(bytes) => self.bytes(3, bytes),
            ValueRef::Blob(bytes) => self.bytes(4, bytes),
        }
    }

    /// The row is complete.
    pub(super) fn end_row(&mut self) {
        self.flush();
        self.add(self.row.finalize().as_bytes());
        self.row.reset();
        self.rows += 1;
    }

    /// The number of rows, and the checksum.
    pub(super) fn finish(self) -> (u64, [u8; 32]) {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&self.rows.to_le_bytes());
        for word in self.sum {
            hasher.update(&word.to_le_bytes());
        }
        (self.rows, *hasher.finalize().as_bytes())
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.buffer.push(tag);
        self.buffer.extend_from_slice(bytes);
    }

    fn bytes(&mut self, tag: u8, bytes: &[u8]) {
        self.tagged(tag, &(bytes.len() as u64).to_le_bytes());
        if bytes.len() < LARGE_BYTES {
            self.buffer.extend_from_slice(bytes);
        } else {
            self.flush();
            self.row.update(bytes);
        }
        if self.buffer.len() >= LARGE_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.row.update(&self.buffer);
        self.buffer.clear();
    }

    fn add(&mut self, row: &[u8; 32]) {
        let mut carry = false;
        for (word, bytes) in self.sum.iter_mut().zip(row.as_chunks::<8>().0) {
            let (sum, first) = word.overflowing_add(u64::from_le_bytes(*bytes));
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*word, carry) = (sum, first || second);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(rows: &[&[ValueRef<'_>]]) -> (u64, [u8; 32]) {
        let mut checksum = TableChecksum::default();
        for row in rows {
            row.iter().for_each(|value| checksum.value(*value));
            checksum.end_row();
        }
        checksum.finish()
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_everything_else_does() {
        use ValueRef::{Blob, Integer, Null, Real, Text};
        let rows: [&[ValueRef<'_>]; 3] = [&[Integer(1), Text(b"a")], &[Null, Real(1.0)], &[Blob(b"a"), Null]];
        let whole = checksum(&rows);
        assert_eq!(whole.0, 3);
        assert_eq!(checksum(&[rows[2], rows[0], rows[1]]), whole);
        let others: [&[&[ValueRef<'_>]]; 6] = [
            &[rows[0], rows[1]],
            &[rows[0], rows[1], rows[1]],
            &[rows[0], rows[1], &[Text(b"a"), Null]],
            &[rows[0], rows[1], &[Null, Blob(b"a")]],
            &[rows[0], &[Null, Integer(1)], rows[2]],
            &[],
        ];
        for other in others {
            assert_ne!(checksum(other).1, whole.1, "{other:?}");
        }
    }

    #[test]
    fn large_values_hash_as_the_definition_says() {
        let large = vec![7; LARGE_BYTES + 5];
        let mut row = vec![1];
        row.extend(9i64.to_le_bytes());
        row.push(4);
        row.extend((large.len() as u64).to_le_bytes());
        row.extend(&large);
        row.push(0);
        let mut expected = blake3::Hasher::new_derive_key(CONTEXT);
        expected.update(&1u64.to_le_bytes());
        expected.update(blake3::hash(&row).as_bytes());
        let found = checksum(&[&[ValueRef::Integer(9), ValueRef::Blob(&large), ValueRef::Null]]);
        assert_eq!(found, (1, *expected.finalize().as_bytes()));
    }

    #[test]
    fn sums_carry() {
        let mut checksum = TableChecksum::default();
        checksum.add(&[0xff; 32]);
        checksum.add(&{
            let mut one = [0; 32];
            one[0] = 1;
            one
        });
        assert_eq!(checksum.sum, [0; 4]);
    }
}
