//! The header of the wal-index, the first 136 bytes of the file `-shm`.
//!
//! Shared memory, in the byte order and with the checksum of the machine that uses it. The first 96 bytes are
//! two copies of one structure; a writer fills the second first, so that a reader which finds them equal has a
//! whole one. What the file holds is only true while a process is connected: SQLite rebuilds it from the WAL.

use crate::PageSize;
use crate::bytes::array;
use crate::wal::{Checksum, ChecksumOrder};

/// How long the header is.
pub const WAL_INDEX_HEADER_BYTES: usize = 136;

const VERSION: u32 = 3_007_000;
const COPY_BYTES: usize = 48;
const CHECKSUMMED_BYTES: usize = 40;

/// What the header of the wal-index says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalIndex {
    /// Raised by each transaction.
    pub change: u32,
    /// The size of the pages; `None` where the WAL holds no frame yet.
    pub page_size: Option<PageSize>,
    /// The byte order of the WAL's checksums.
    pub order: ChecksumOrder,
    /// The last frame that is committed; 0 where there is none.
    pub last_frame: u32,
    /// The size of the database in pages as of that frame; 0 where there is none.
    pub pages: u32,
    /// The cumulative checksum as of that frame.
    pub frame_checksum: Checksum,
    /// The salts of the WAL's present generation, as the WAL's header has them.
    pub salts: [u8; 8],
    /// How many frames were copied into the database.
    pub backfilled: u32,
    /// The frames that readers may hold; [`u32::MAX`] where a slot was never used.
    pub read_marks: [u32; 5],
    /// How many frames a checkpoint began to copy.
    pub backfill_attempted: u32,
}

/// Why bytes are not a whole header of a wal-index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalIndexError {
    /// Fewer bytes than the header has.
    #[error("{bytes} bytes are too few for a wal-index")]
    Short {
        /// How many there are.
        bytes: usize,
    },
    /// The two copies differ: a writer is at it, or died there.
    #[error("the two headers of the wal-index differ")]
    Torn,
    /// Nobody filled it yet.
    #[error("the wal-index is not initialised")]
    NotInitialised,
    /// The checksum does not fit.
    #[error("the wal-index does not fit its checksum")]
    Checksum,
    /// Another format.
    #[error("unknown wal-index version {version}")]
    Version {
        /// The field.
        version: u32,
    },
}

impl WalIndex {
    /// Reads a header, in the byte order of this machine.
    ///
    /// # Errors
    /// See [`WalIndexError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, WalIndexError> {
        let header: &[u8; WAL_INDEX_HEADER_BYTES] =
            bytes.first_chunk().ok_or(WalIndexError::Short { bytes: bytes.len() })?;
        check(header)?;
        let field = |offset| native(header, offset);
        Ok(Self {
            change: field(8),
            page_size: array(header, 14).map(u16::from_ne_bytes).and_then(PageSize::from_u16),
            order: if header[13] == 0 { ChecksumOrder::LittleEndian } else { ChecksumOrder::BigEndian },
            last_frame: field(16),
            pages: field(20),
            frame_checksum: Checksum(field(24), field(28)),
            salts: array(header, 32).unwrap_or_default(),
            backfilled: field(96),
            read_marks: [field(100), field(104), field(108), field(112), field(116)],
            backfill_attempted: field(128),
        })
    }

    /// Whether two headers describe the same commit of the same generation, whatever was copied since.
    pub fn same_commit(&self, other: &Self) -> bool {
        let key = |index: &Self| {
            (index.change, index.last_frame, index.pages, index.frame_checksum, index.salts, index.page_size)
        };
        key(self) == key(other)
    }
}

fn check(header: &[u8; WAL_INDEX_HEADER_BYTES]) -> Result<(), WalIndexError> {
    if header[..COPY_BYTES] != header[COPY_BYTES..2 * COPY_BYTES] {
        return Err(WalIndexError::Torn);
    }
    if header[12] == 0 {
        return Err(WalIndexError::NotInitialised);
    }
    let sum = Checksum::default().over(ChecksumOrder::NATIVE, &header[..CHECKSUMMED_BYTES]);
    if sum != Checksum(native(header, 40), native(header, 44)) {
        return Err(WalIndexError::Checksum);
    }
    match native(header, 0) {
        VERSION => Ok(()),
        version => Err(WalIndexError::Version { version }),
    }
}

fn native(header: &[u8], offset: usize) -> u32 {
    array(header, offset).map(u32::from_ne_bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::committed_wal;
    use proptest::prelude::*;

    /// The `-wal` and the `-shm` of a connected database, before and after a checkpoint.
    fn real(page_size: u32, checkpoint: bool) -> (Vec<u8>, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection
            .execute_batch(&format!(
                "PRAGMA page_size={page_size}; PRAGMA journal_mode=wal; CREATE TABLE t(x);
                 INSERT INTO t VALUES(zeroblob(100000)); INSERT INTO t VALUES(2);"
            ))
            .unwrap();
        if checkpoint {
            connection.execute_batch("PRAGMA wal_checkpoint(passive)").unwrap();
        }
        let read = |name| std::fs::read(directory.path().join(name)).unwrap();
        (read("a.db-wal"), read("a.db-shm"))
    }

    #[test]
    fn the_wal_index_agrees_with_the_wal() {
        for page_size in [512, 4096, 65_536] {
            let (wal, shm) = real(page_size, false);
            let index = WalIndex::parse(&shm).unwrap();
            let wal = committed_wal(&wal, None).unwrap().unwrap();
            assert_eq!(index.page_size, PageSize::new(page_size));
            assert_eq!((index.last_frame, index.pages), (wal.last_frame, wal.pages));
            assert_eq!(index.frame_checksum, wal.checksum);
            assert_eq!((index.salts, index.order), (wal.header.salts, wal.header.order));
            assert_eq!(index.backfilled, 0);
        }
    }

    #[test]
    fn a_checkpoint_shows() {
        let (_, shm) = real(4096, true);
        let index = WalIndex::parse(&shm).unwrap();
        assert_eq!(index.backfilled, index.last_frame);
        assert!(index.backfilled > 0);
    }

    #[test]
    fn what_is_torn_or_foreign_is_said() {
        let (_, shm) = real(4096, false);
        let with = |offset: &[usize], byte: u8| {
            let mut bad = shm.clone();
            offset.iter().for_each(|at| bad[*at] = byte);
            WalIndex::parse(&bad).unwrap_err()
        };
        assert_eq!(WalIndex::parse(&shm[..135]), Err(WalIndexError::Short { bytes: 135 }));
        assert_eq!(with(&[16], 99), WalIndexError::Torn);
        assert_eq!(with(&[12, 60], 0), WalIndexError::NotInitialised);
        assert_eq!(with(&[20, 68], 0xee), WalIndexError::Checksum);
        assert_eq!(WalIndex::parse(&[0; 136]), Err(WalIndexError::NotInitialised));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(half in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = WalIndex::parse(&half);
            let mut doubled = half.clone();
            doubled.resize(COPY_BYTES, 1);
            doubled.extend_from_within(..);
            doubled.resize(WAL_INDEX_HEADER_BYTES, 7);
            let sum = Checksum::default().over(ChecksumOrder::NATIVE, &doubled[..CHECKSUMMED_BYTES]);
            for copy in [0, COPY_BYTES] {
                doubled[copy + 40..copy + 44].copy_from_slice(&sum.0.to_ne_bytes());
                doubled[copy + 44..copy + 48].copy_from_slice(&sum.1.to_ne_bytes());
            }
            let _ = WalIndex::parse(&doubled);
        }
    }
}
