//! Readers for the bytes that SQLite leaves on disk: the database header, the rollback journal, the
//! write-ahead log and the wal-index.
//!
//! Every parser takes foreign bytes and never panics; what it cannot make sense of is an error or the end of
//! an iteration, as SQLite itself would decide. The rules are those of SQLite's file format document and of
//! its `pager.c` and `wal.c`; where they differ between versions, the comment at the rule says so.
//!
//! Files are read through [`ReadAt`], so that a log of many gigabytes costs one buffer and not its size.
//!
//! This crate deliberately takes no lock, opens no file, runs no SQL and knows no repository. Whether the bytes
//! may change while they are read is the caller's concern.

mod bytes;
mod header;
mod journal;
mod page;
mod read_at;
mod wal;
mod wal_index;

pub use header::{DATABASE_HEADER_BYTES, DatabaseHeader, HeaderError, JournalMode, TextEncoding};
pub use journal::{
    Hotness, JournalHeader, JournalHeaderError, JournalRecord, JournalRecords, RecordCount, SuperJournal,
    hotness, super_journal,
};
pub use page::PageSize;
pub use read_at::ReadAt;
pub use wal::{
    Checksum, ChecksumOrder, CommittedFrames, CommittedWal, FRAME_HEADER_BYTES, Frame, FrameHeader,
    PageIndex, WAL_HEADER_BYTES, WalError, WalHeader, WalHeaderError, committed_wal,
};
pub use wal_index::{WAL_INDEX_HEADER_BYTES, WalIndex, WalIndexError};
