//! The first hundred bytes of a database.

use crate::PageSize;
use crate::bytes::{u16_be, u32_be};

/// How long the header is.
pub const DATABASE_HEADER_BYTES: usize = 100;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// How a database says that it protects its transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalMode {
    /// Old pages go into a rollback journal: DELETE, TRUNCATE, PERSIST, MEMORY or OFF, which the file cannot tell.
    Rollback,
    /// New pages go into a write-ahead log.
    Wal,
}

/// How text is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextEncoding {
    /// UTF-8.
    Utf8,
    /// UTF-16, little-endian.
    Utf16Le,
    /// UTF-16, big-endian.
    Utf16Be,
    /// Nothing was stored yet.
    Unset,
}

/// What the header of a database says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseHeader {
    /// The size of its pages.
    pub page_size: PageSize,
    /// By the read version, which decides for every reader.
    pub journal_mode: JournalMode,
    /// The file format that a writer must know: 1 or 2.
    pub write_version: u8,
    /// Bytes at the end of each page that SQLite leaves to extensions.
    pub reserved_bytes: u8,
    /// Raised by each transaction in rollback mode, and rarely in WAL mode.
    pub change_counter: u32,
    /// The size in pages that the header states, whoever wrote it.
    pub stated_pages: u32,
    /// The change counter when a version of SQLite wrote the header that keeps `stated_pages`.
    pub version_valid_for: u32,
    /// Raised when the schema changes.
    pub schema_cookie: u32,
    /// How text is stored.
    pub text_encoding: TextEncoding,
    /// The application's own mark.
    pub application_id: u32,
    /// The application's own version.
    pub user_version: u32,
    /// The version of SQLite that last wrote, as `X*1000000 + Y*1000 + Z`.
    pub sqlite_version: u32,
}

/// Why bytes are not the header of a database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer than a hundred bytes.
    #[error("{bytes} bytes are too few for a SQLite database")]
    Short {
        /// How many there are.
        bytes: usize,
    },
    /// The file starts with something else; an encrypted database does too.
    #[error("not a SQLite database: it does not start with \"SQLite format 3\"")]
    Magic,
    /// The page size is none that SQLite knows.
    #[error("damaged SQLite header: page size {stored}")]
    PageSize {
        /// The two bytes.
        stored: u16,
    },
    /// The file format is newer than this reader.
    #[error("unknown SQLite file format: read version {version}")]
    ReadVersion {
        /// The byte.
        version: u8,
    },
    /// A fraction that the format fixes has another value, or too little of a page is usable.
    #[error("damaged SQLite header: {what}")]
    Damaged {
        /// Which field.
        what: &'static str,
    },
}

impl DatabaseHeader {
    /// Reads a header from the start of a database, with the checks that SQLite makes before it trusts a file.
    ///
    /// # Errors
    /// See [`HeaderError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let header: &[u8; DATABASE_HEADER_BYTES] =
            bytes.first_chunk().ok_or(HeaderError::Short { bytes: bytes.len() })?;
        if !header.starts_with(MAGIC) {
            return Err(HeaderError::Magic);
        }
        let page_size = page_size(header)?;
        check_fractions(header)?;
        check_usable(page_size, header[20])?;
        Ok(Self::read_fields(header, page_size, journal_mode(header[19])?))
    }

    fn read_fields(header: &[u8], page_size: PageSize, journal_mode: JournalMode) -> Self {
        let field = |offset| u32_be(header, offset).unwrap_or_default();
        Self {
            page_size,
            journal_mode,
            write_version: header[18],
            reserved_bytes: header[20],
            change_counter: field(24),
            stated_pages: field(28),
            schema_cookie: field(40),
            text_encoding: text_encoding(field(56)),
            user_version: field(60),
            application_id: field(68),
            version_valid_for: field(92),
            sqlite_version: field(96),
        }
    }

    /// The size in pages by SQLite's rule: what the header states, if it is not zero and the version that wrote
    /// last kept it up; else what the file holds.
    pub fn pages(&self, file_bytes: u64) -> u64 {
        if self.stated_pages != 0 && self.change_counter == self.version_valid_for {
            u64::from(self.stated_pages)
        } else {
            self.page_size.pages_in(file_bytes)
        }
    }
}

fn page_size(header: &[u8]) -> Result<PageSize, HeaderError> {
    let stored = u16_be(header, 16).unwrap_or_default();
    PageSize::from_u16(stored).ok_or(HeaderError::PageSize { stored })
}

fn journal_mode(read_version: u8) -> Result<JournalMode, HeaderError> {
    match read_version {
        // SQLite refuses only what is above what it knows; nothing writes 0, and it reads as 1.
        0 | 1 => Ok(JournalMode::Rollback),
        2 => Ok(JournalMode::Wal),
        version => Err(HeaderError::ReadVersion { version }),
    }
}

fn check_fractions(header: &[u8]) -> Result<(), HeaderError> {
    if header[21..24] == [64, 32, 32] {
        Ok(())
    } else {
        Err(HeaderError::Damaged { what: "payload fractions" })
    }
}

fn check_usable(page_size: PageSize, reserved_bytes: u8) -> Result<(), HeaderError> {
    if page_size.get() - u32::from(reserved_bytes) < 480 {
        return Err(HeaderError::Damaged { what: "reserved bytes" });
    }
    Ok(())
}

fn text_encoding(field: u32) -> TextEncoding {
    match field {
        2 => TextEncoding::Utf16Le,
        3 => TextEncoding::Utf16Be,
        0 => TextEncoding::Unset,
        // SQLite looks at the two lowest bits and takes the rest for UTF-8.
        _ => TextEncoding::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn database(pragmas: &str) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch(pragmas).unwrap();
        connection.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(9000))").unwrap();
        drop(connection);
        std::fs::read(&path).unwrap()
    }

    #[test]
    fn every_page_size_of_the_real_sqlite() {
        for bytes in [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536] {
            let file = database(&format!("PRAGMA page_size={bytes}"));
            let header = DatabaseHeader::parse(&file).unwrap();
            assert_eq!(header.page_size.get(), bytes);
            assert_eq!(header.pages(file.len() as u64), file.len() as u64 / u64::from(bytes));
            assert_eq!(header.journal_mode, JournalMode::Rollback);
            assert_eq!(header.change_counter, header.version_valid_for);
            assert_eq!(header.sqlite_version, u32::try_from(rusqlite::version_number()).unwrap());
        }
    }

    #[test]
    fn journal_mode_encoding_and_the_applications_marks() {
        let file = database(
            "PRAGMA encoding='UTF-16be'; PRAGMA user_version=7; PRAGMA application_id=9; PRAGMA journal_mode=wal",
        );
        let header = DatabaseHeader::parse(&file).unwrap();
        assert_eq!(header.journal_mode, JournalMode::Wal);
        assert_eq!(header.text_encoding, TextEncoding::Utf16Be);
        assert_eq!((header.user_version, header.application_id), (7, 9));
    }

    #[test]
    fn a_page_count_that_an_old_version_left_behind_is_not_believed() {
        let mut file = database("");
        file[24..28].copy_from_slice(&77u32.to_be_bytes());
        let header = DatabaseHeader::parse(&file).unwrap();
        assert_eq!(header.pages(5 * 4096), 5);
        file[92..96].copy_from_slice(&77u32.to_be_bytes());
        file[28..32].copy_from_slice(&0u32.to_be_bytes());
        assert_eq!(DatabaseHeader::parse(&file).unwrap().pages(3 * 4096 + 1), 4);
    }

    #[test]
    fn what_is_not_a_database_is_said() {
        assert_eq!(DatabaseHeader::parse(b"SQLite"), Err(HeaderError::Short { bytes: 6 }));
        assert_eq!(DatabaseHeader::parse(&[0; 100]), Err(HeaderError::Magic));
        let good = database("");
        let with = |offset: usize, byte: u8| {
            let mut bad = good.clone();
            bad[offset] = byte;
            DatabaseHeader::parse(&bad).unwrap_err()
        };
        assert_eq!(with(16, 3), HeaderError::PageSize { stored: 0x300 });
        assert_eq!(with(19, 3), HeaderError::ReadVersion { version: 3 });
        assert_eq!(with(21, 0), HeaderError::Damaged { what: "payload fractions" });
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = DatabaseHeader::parse(&bytes);
        }

        #[test]
        fn no_bytes_behind_the_magic_make_it_panic(bytes in any::<[u8; 32]>(), rest in any::<[u8; 32]>()) {
            let mut header = MAGIC.to_vec();
            header.extend(bytes);
            header.extend(rest);
            header.resize(DATABASE_HEADER_BYTES, 0xff);
            if let Ok(header) = DatabaseHeader::parse(&header) {
                prop_assert!(header.page_size.get().is_power_of_two());
                let _ = header.pages(u64::MAX);
            }
        }
    }
}
