//! Databases in rollback mode: held by SHARED, which keeps writers from committing, so for as short as can be.

use crate::error::SnapshotError;
use crate::files;
use crate::files::DatabaseFiles;
use crate::lock::SharedLock;
use crate::pages::Pages;
use crate::report::Isolation;
use crate::scratch::Scratch;
use crate::snapshot::{Held, Hold, Look, SnapshotOptions, WithoutReflink, read_header};
use lifeboat_base::failpoint;
use lifeboat_wire_sqlite::{PageSize, SuperJournal};
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Holds a database whose journal, if there is one, is not hot.
pub(crate) fn hold(
    files: &DatabaseFiles,
    lock: SharedLock,
    options: &SnapshotOptions,
    page_size: PageSize,
) -> Result<Look, SnapshotError> {
    let scratch = Scratch::new(&options.scratch)?;
    let isolation = match scratch.reflink(files.database(), &scratch.database())? {
        true => Isolation::Reflink,
        false if options.without_reflink == WithoutReflink::ReadUnderLock => {
            return hold_lock(files, lock, options, page_size);
        }
        false => copy_or_stall(files, &scratch, files.database(), &scratch.database(), &lock, options)?,
    };
    let stall = lock.held();
    drop(lock);
    own(files, scratch, isolation, page_size).map(|held| Look::Held(Box::new(Held { stall, ..held })))
}

fn hold_lock(
    files: &DatabaseFiles,
    lock: SharedLock,
    options: &SnapshotOptions,
    page_size: PageSize,
) -> Result<Look, SnapshotError> {
    let pages = Pages::of_file(files.path().to_owned(), Arc::clone(files.database()), page_size, None)?;
    let hold = Hold::Lock { lock, limit: options.max_stall };
    Ok(Look::Held(Box::new(Held::new(pages, hold, Isolation::Lock))))
}

fn own(
    files: &DatabaseFiles,
    scratch: Scratch,
    isolation: Isolation,
    page_size: PageSize,
) -> Result<Held, SnapshotError> {
    let copy = scratch.database();
    let file = File::open(&copy).map_err(SnapshotError::io("open", &copy))?;
    let pages = Pages::of_file(files.path().to_owned(), Arc::new(file), page_size, None)?;
    Ok(Held::new(pages, Hold::Own { _scratch: Some(scratch) }, isolation))
}

/// Takes a copy of a database and of its hot journal, and lets SQLite roll back the copy.
pub(crate) fn roll_back_copy(
    files: &DatabaseFiles,
    lock: SharedLock,
    journal: &File,
    super_journal: Option<SuperJournal>,
    options: &SnapshotOptions,
) -> Result<Look, SnapshotError> {
    let path = files.path();
    let scratch = Scratch::new(&options.scratch)?;
    let copy = scratch.database();
    let journal_copy = files::beside(&copy, "-journal");
    let isolation = clone_or_copy(files, &scratch, files.database(), &copy, &lock, options)?;
    clone_or_copy(files, &scratch, journal, &journal_copy, &lock, options)?;
    // Nobody gets RESERVED past a hot journal. Whoever has it now made a new journal while we looked, and what
    // was copied is that one; SQLite knows the same race.
    if lock.reserved_elsewhere().map_err(SnapshotError::lock(path))? {
        return Ok(Look::Again("a writer began while its journal was looked at"));
    }
    let stall = lock.held();
    drop(lock);
    failpoint::reach("store-sqlite::hot-journal-copied").map_err(SnapshotError::io("roll back", &copy))?;
    if let Some(named) = super_journal {
        forget_super_journal(&journal_copy, &named)?;
    }
    let_sqlite_roll_back(&copy, &journal_copy, path)?;
    let rolled_back = File::open(&copy).map_err(SnapshotError::io("open", &copy))?;
    let page_size = read_header(&rolled_back, path)?.page_size;
    let held = own(files, scratch, isolation, page_size)?;
    Ok(Look::Held(Box::new(Held { stall, rolled_back: true, ..held })))
}

fn clone_or_copy(
    files: &DatabaseFiles,
    scratch: &Scratch,
    from: &File,
    name: &Path,
    lock: &SharedLock,
    options: &SnapshotOptions,
) -> Result<Isolation, SnapshotError> {
    if scratch.reflink(from, name)? {
        return Ok(Isolation::Reflink);
    }
    copy_or_stall(files, scratch, from, name, lock, options)
}

fn copy_or_stall(
    files: &DatabaseFiles,
    scratch: &Scratch,
    from: &File,
    name: &Path,
    lock: &SharedLock,
    options: &SnapshotOptions,
) -> Result<Isolation, SnapshotError> {
    let limit = options.max_stall;
    if scratch.copy(from, name, || lock.held() <= limit)? {
        Ok(Isolation::Copy)
    } else {
        Err(SnapshotError::Stalled { path: files.path().to_owned(), limit })
    }
}

/// Cuts the record that names the super-journal off the copy of a journal. Else SQLite, having rolled back the
/// copy, would look into the application's super-journal, and delete it if it found no other use of it.
fn forget_super_journal(journal: &Path, named: &SuperJournal) -> Result<(), SnapshotError> {
    let cut = || {
        let file = File::options().write(true).open(journal)?;
        file.set_len(named.record_offset)
    };
    cut().map_err(SnapshotError::io("cut", journal))
}

fn let_sqlite_roll_back(copy: &Path, journal: &Path, path: &Path) -> Result<(), SnapshotError> {
    let fail = || SnapshotError::sqlite("roll back the hot journal in a copy of", path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(copy, flags).map_err(fail())?;
    // A copy that is thrown away need not survive a crash.
    connection.pragma_update(None, "synchronous", "off").map_err(fail())?;
    connection.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0)).map_err(fail())?;
    drop(connection);
    let left = files::exists_for_sqlite(journal).map_err(SnapshotError::io("look for", journal))?;
    if left { Err(SnapshotError::RollBack { path: path.to_owned() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_wire_sqlite::super_journal;

    /// SQLite looks into the super-journal after rolling back; the versions differ in what they then delete.
    #[test]
    fn a_copy_that_was_cut_names_no_super_journal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let name = b"/srv/main.db-mj0AB1C2934";
        let mut journal = vec![9; 600];
        journal.extend(PageSize::DEFAULT.lock_page().to_be_bytes());
        journal.extend(name);
        journal.extend(24u32.to_be_bytes());
        journal.extend(name.iter().map(|byte| u32::from(*byte)).sum::<u32>().to_be_bytes());
        journal.extend([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
        lifeboat_base::crashsafe::create(&path, &journal).unwrap();
        let named = super_journal(&journal).unwrap().unwrap();
        forget_super_journal(&path, &named).unwrap();
        let cut = std::fs::read(&path).unwrap();
        assert_eq!(cut, [9; 600]);
        assert_eq!(super_journal(&cut).unwrap(), None);
    }
}
