//! Databases in WAL mode: reading keeps nobody waiting, but needs to know which frames count.
//!
//! Where the application is connected, a read transaction of SQLite keeps the WAL from being begun again and
//! the database from receiving anything newer than that transaction. The pages are then read from the files
//! themselves: the wal-index says up to which frame, and the checksums of the WAL prove it.
//!
//! Where `-wal` or `-shm` is missing, nobody is connected, since every connection opens both. SHARED keeps whoever
//! connects from deleting them again. So what was read before both are still found missing was read undisturbed,
//! and no connection of ours is needed, which would have had to create them.

use crate::error::SnapshotError;
use crate::files::{DatabaseFiles, FileId, is_there};
use crate::lock::SharedLock;
use crate::pages::Pages;
use crate::report::Isolation;
use crate::snapshot::{Held, Hold, Look, read_header};
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::failpoint;
use lifeboat_wire_sqlite::{
    CommittedWal, PageSize, ReadAt, WAL_HEADER_BYTES, WAL_INDEX_HEADER_BYTES, WalHeader, WalIndex,
    committed_wal,
};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, FileControl, OpenFlags, TransactionState};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Holds a database in WAL mode.
pub(crate) fn hold(
    files: &mut DatabaseFiles,
    lock: SharedLock,
    patience: Duration,
    page_size: PageSize,
) -> Result<Look, SnapshotError> {
    let missing = missing_files(files)?;
    if missing.is_empty() {
        return hold_transaction(files, lock, patience);
    }
    if lock.shared_elsewhere().map_err(SnapshotError::lock(files.path()))? {
        return Ok(Look::Again("somebody has it open, but -wal or -shm is missing"));
    }
    hold_unattended(files, Unattended { _lock: lock, missing }, page_size)
}

fn missing_files(files: &DatabaseFiles) -> Result<Vec<PathBuf>, SnapshotError> {
    let mut missing = Vec::new();
    for suffix in ["-wal", "-shm"] {
        let path = files.path_beside(suffix);
        if !is_there(&path).map_err(SnapshotError::io("look for", &path))? {
            missing.push(path);
        }
    }
    Ok(missing)
}

/// SHARED on a database that nobody has open in WAL mode.
#[derive(Debug)]
pub(crate) struct Unattended {
    _lock: SharedLock,
    missing: Vec<PathBuf>,
}

impl Unattended {
    /// To be asked after each read.
    pub(crate) fn still_holds(&self, path: &Path) -> Result<(), SnapshotError> {
        for missing in &self.missing {
            if is_there(missing).map_err(SnapshotError::io("look for", missing))? {
                let what = "an application opened it";
                return Err(SnapshotError::Disturbed { path: path.to_owned(), what });
            }
        }
        Ok(())
    }
}

fn hold_unattended(
    files: &mut DatabaseFiles,
    unattended: Unattended,
    page_size: PageSize,
) -> Result<Look, SnapshotError> {
    let path = files.path().to_owned();
    let wal_path = files.path_beside("-wal");
    let wal = files.open_beside("-wal").map_err(SnapshotError::io("open", &wal_path))?;
    let committed = match &wal {
        Some(wal) => read_wal(wal, None, &path)?,
        None => None,
    };
    let database = Arc::clone(files.database());
    let (pages, wal_frames) = match (wal, committed) {
        (Some(wal), Some(committed)) if committed.last_frame > 0 => {
            let frames = committed.last_frame;
            (Pages::under_log(path.clone(), database, wal, committed)?, frames)
        }
        _ => (Pages::of_file(path.clone(), database, page_size, None)?, 0),
    };
    unattended.still_holds(&path)?;
    let held = Held::new(pages, Hold::Unattended(unattended), Isolation::Unattended);
    Ok(Look::Held(Box::new(Held { wal_frames, ..held })))
}

/// A read transaction of SQLite. What it sees stays in the database and its WAL until it ends.
#[derive(Debug)]
pub(crate) struct ReadTransaction {
    // Dropped first: a connection must be closed before any handle of its files is.
    connection: Connection,
    _lock: SharedLock,
    wal: Arc<File>,
    /// The header of the WAL that frames are read from; `None` where none are.
    generation: Option<WalHeader>,
}

impl ReadTransaction {
    /// To be asked after reading: whether the transaction is open and the WAL was not begun again, which would
    /// show that the transaction's lock was lost.
    pub(crate) fn still_holds(&self, path: &Path) -> Result<(), SnapshotError> {
        let lost = |what| SnapshotError::Disturbed { path: path.to_owned(), what };
        if !matches!(self.connection.transaction_state(Some("main")), Ok(TransactionState::Read)) {
            return Err(lost("the read transaction ended"));
        }
        let Some(generation) = &self.generation else { return Ok(()) };
        let mut bytes = [0; WAL_HEADER_BYTES];
        let whole = self.wal.fill_at(0, &mut bytes).map_err(SnapshotError::io("read WAL of", path))?;
        if whole && WalHeader::parse(&bytes).as_ref() == Ok(generation) {
            Ok(())
        } else {
            Err(lost("its WAL was begun again under a read transaction"))
        }
    }
}

/// What a read transaction sees.
enum View {
    /// The database file alone, and how many pages of it; `None` where the file says so.
    Database(Option<u32>),
    /// The database file under the frames of the WAL up to that of this index.
    Frames(WalIndex),
}

fn hold_transaction(
    files: &mut DatabaseFiles,
    lock: SharedLock,
    patience: Duration,
) -> Result<Look, SnapshotError> {
    let path = files.path().to_owned();
    let (Some(wal), Some(shm)) = (open_log(files, "-wal")?, open_log(files, "-shm")?) else {
        return Ok(Look::Again("-wal or -shm vanished"));
    };
    check_writable(&files.path_beside("-shm"))?;
    let connection = connect(&path, patience)?;
    let view = begin(&connection, &shm, &path, patience)?;
    if !same_files(files, &wal, &shm)? {
        return Ok(Look::Again("-wal or -shm was replaced"));
    }
    failpoint::reach("store-sqlite::read-transaction-open").map_err(SnapshotError::io("read", &path))?;
    let transaction = |generation| {
        Hold::Transaction(ReadTransaction { connection, _lock: lock, wal: Arc::clone(&wal), generation })
    };
    let database = Arc::clone(files.database());
    let (pages, generation, wal_frames) = match view {
        View::Database(count) => {
            let page_size = read_header(&database, &path)?.page_size;
            (Pages::of_file(path, database, page_size, count)?, None, 0)
        }
        View::Frames(index) => {
            let committed = read_indexed_wal(&wal, &index, &path)?;
            let generation = Some(committed.header.clone());
            (Pages::under_log(path, database, Arc::clone(&wal), committed)?, generation, index.last_frame)
        }
    };
    let held = Held::new(pages, transaction(generation), Isolation::ReadTransaction);
    Ok(Look::Held(Box::new(Held { wal_frames, ..held })))
}

fn open_log(files: &mut DatabaseFiles, suffix: &str) -> Result<Option<Arc<File>>, SnapshotError> {
    let path = files.path_beside(suffix);
    files.open_beside(suffix).map_err(SnapshotError::io("open", &path))
}

/// Readers write their marks into the shared memory. SQLite would go on without, in a way in which it does not
/// use the shared memory that we read.
fn check_writable(shm: &Path) -> Result<(), SnapshotError> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    accessat(CWD, shm, Access::WRITE_OK | Access::READ_OK, AtFlags::EACCESS)
        .map_err(|error| SnapshotError::SharedMemory { path: shm.to_owned(), source: error.into() })
}

/// Whether the connection, which opened them by name, has the files that we have.
fn same_files(files: &DatabaseFiles, wal: &File, shm: &File) -> Result<bool, SnapshotError> {
    let same = || -> io::Result<bool> {
        let at = |suffix| FileId::at(&files.path_beside(suffix));
        Ok(files.in_place()?
            && at("-wal")? == Some(FileId::of(&wal.metadata()?))
            && at("-shm")? == Some(FileId::of(&shm.metadata()?)))
    };
    same().map_err(SnapshotError::io("look for the files of", files.path()))
}

/// A connection that leaves everything but the shared memory as it is, when it is closed too: no checkpoint, no
/// end of the WAL. (Closed as the last one, it would not get EXCLUSIVE past our own SHARED either.)
fn connect(path: &Path, patience: Duration) -> Result<Connection, SnapshotError> {
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        // The plain VFS, whose locks and shared memory are those of the application.
        let connection = Connection::open_with_flags_and_vfs(path, flags, "unix")?;
        connection.busy_timeout(patience)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.file_control(Some("main"), FileControl::PersistWal(&mut 1))?;
        Ok(connection)
    };
    open().map_err(SnapshotError::sqlite("open", path))
}

/// Begins a read transaction and finds out what it sees.
///
/// SQLite does not tell which commit a transaction sees. The wal-index does, if it shows the same commit before
/// and after the transaction began; under a busy writer that may take a few attempts.
fn begin(
    connection: &Connection,
    shm: &File,
    path: &Path,
    patience: Duration,
) -> Result<View, SnapshotError> {
    let trying = Stopwatch::start();
    // The first transaction makes SQLite rebuild a wal-index that its last user did not leave in order.
    begin_read(connection, path)?;
    loop {
        end_read(connection, path)?;
        let before = read_index(shm, path)?;
        begin_read(connection, path)?;
        let after = read_index(shm, path)?;
        if let (Some(before), Some(after)) = (before, after)
            && let Some(view) = view(&before, after)
        {
            return Ok(view);
        }
        if trying.elapsed() >= patience {
            let what = "its writers left no moment to pin a commit down";
            return Err(SnapshotError::Disturbed { path: path.to_owned(), what });
        }
    }
}

/// What a transaction sees that began between two readings of the wal-index.
///
/// A transaction that begins when all frames were copied into the database reads the database alone, and keeps
/// checkpoints from copying more. Any other keeps the WAL from being begun again, and checkpoints from copying
/// what is newer. Frames are only ever copied in ascending order, so where some were left afterwards, some were
/// left when it began; and where all had been copied before, all had been when it began. Where neither is so,
/// it has to begin again.
fn view(before: &WalIndex, after: WalIndex) -> Option<View> {
    if !before.same_commit(&after) {
        return None;
    }
    if after.backfilled < after.last_frame {
        return Some(View::Frames(after));
    }
    let pages = (after.pages != 0).then_some(after.pages);
    (before.backfilled == before.last_frame).then_some(View::Database(pages))
}

fn begin_read(connection: &Connection, path: &Path) -> Result<(), SnapshotError> {
    // Asks for nothing that needs the schema, which may be damaged without the snapshot being worthless.
    connection
        .execute_batch("BEGIN; PRAGMA schema_version")
        .map_err(SnapshotError::sqlite("begin a read transaction on", path))
}

fn end_read(connection: &Connection, path: &Path) -> Result<(), SnapshotError> {
    connection.execute_batch("ROLLBACK").map_err(SnapshotError::sqlite("end a read transaction on", path))
}

/// The wal-index as of one instant; `None` where it was being written.
fn read_index(shm: &File, path: &Path) -> Result<Option<WalIndex>, SnapshotError> {
    let read = || -> io::Result<Option<[u8; WAL_INDEX_HEADER_BYTES]>> {
        let (mut bytes, mut again) = ([0; WAL_INDEX_HEADER_BYTES], [0; WAL_INDEX_HEADER_BYTES]);
        let whole = shm.fill_at(0, &mut bytes)? && shm.fill_at(0, &mut again)?;
        // Copying is not atomic. What is the same twice was not half written.
        Ok((whole && bytes == again).then_some(bytes))
    };
    let bytes = read().map_err(SnapshotError::io("read shared memory of", path))?;
    Ok(bytes.and_then(|bytes| WalIndex::parse(&bytes).ok()))
}

fn read_wal(wal: &File, limit: Option<u32>, path: &Path) -> Result<Option<CommittedWal>, SnapshotError> {
    committed_wal(wal, limit).map_err(|source| SnapshotError::Wal { path: path.to_owned(), source })
}

/// Reads the WAL up to the commit that the index shows, and proves that it is that commit.
fn read_indexed_wal(wal: &File, index: &WalIndex, path: &Path) -> Result<CommittedWal, SnapshotError> {
    let damaged = |what| SnapshotError::WalDamaged { path: path.to_owned(), what };
    let committed = read_wal(wal, Some(index.last_frame), path)?.ok_or_else(|| damaged("header"))?;
    if committed.header.salts != index.salts {
        return Err(damaged("salts"));
    }
    if committed.last_frame != index.last_frame {
        return Err(damaged("last commit"));
    }
    if committed.pages != index.pages || committed.checksum != index.frame_checksum {
        return Err(damaged("size or checksum of the last commit"));
    }
    Ok(committed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_wire_sqlite::{Checksum, ChecksumOrder};

    fn index(change: u32, last_frame: u32, backfilled: u32) -> WalIndex {
        WalIndex {
            change,
            page_size: Some(PageSize::DEFAULT),
            order: ChecksumOrder::NATIVE,
            last_frame,
            pages: 7,
            frame_checksum: Checksum(1, 2),
            salts: [3; 8],
            backfilled,
            read_marks: [0; 5],
            backfill_attempted: backfilled,
        }
    }

    #[test]
    fn what_a_transaction_sees_is_only_said_where_it_is_certain() {
        let frames =
            |found: Option<View>| matches!(found, Some(View::Frames(index)) if index.last_frame == 9);
        let database = |found| matches!(found, Some(View::Database(Some(7))));
        assert!(frames(view(&index(1, 9, 0), index(1, 9, 0))));
        assert!(frames(view(&index(1, 9, 0), index(1, 9, 8))), "some frames were left when it began");
        assert!(database(view(&index(1, 9, 9), index(1, 9, 9))));
        assert!(view(&index(1, 9, 8), index(1, 9, 9)).is_none(), "the copying ended meanwhile");
        assert!(view(&index(1, 9, 0), index(2, 10, 0)).is_none(), "a commit came between");
        let other_generation = WalIndex { salts: [4; 8], ..index(1, 9, 0) };
        assert!(view(&index(1, 9, 0), other_generation).is_none());
        let empty = |pages| WalIndex { pages, ..index(1, 0, 0) };
        assert!(matches!(view(&empty(0), empty(0)), Some(View::Database(None))));
    }
}
