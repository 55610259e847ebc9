//! A snapshot of a live database: found out how, held still, read in order.
//!
//! ```text
//! open the file, take SHARED
//!   ├ no byte                    → nothing to read
//!   ├ hot journal                → copy both, give SHARED back, roll back the copy        (rollback.rs)
//!   ├ rollback mode              → clone, copy or read under SHARED                       (rollback.rs)
//!   └ WAL mode  ├ -wal or -shm missing → read under SHARED, watch that they stay missing  (wal.rs)
//!               └ both there           → a read transaction through SQLite                (wal.rs)
//! ```

use crate::error::SnapshotError;
use crate::files::{self, DatabaseFiles};
use crate::lock::SharedLock;
use crate::pages::{PageRun, Pages};
use crate::report::{Isolation, SnapshotReport, SnapshotWarning};
use crate::scratch::Scratch;
use crate::{rollback, wal};
use lifeboat_base::clock::Stopwatch;
use lifeboat_wire_sqlite::{
    DATABASE_HEADER_BYTES, DatabaseHeader, HeaderError, Hotness, JournalMode, PageSize, ReadAt, SuperJournal,
    hotness,
};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// For how long, unless told otherwise, SHARED is asked for and, in rollback mode, held.
pub const DEFAULT_MAX_STALL: Duration = Duration::from_secs(5);

/// How much [`Snapshot::next_run`] reads at once.
const RUN_BYTES: usize = 1 << 20;

/// The pause before a database that was just changing hands is looked at again.
const SETTLE: Duration = Duration::from_millis(5);

/// What to do with a database in rollback mode where the file system cannot clone it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutReflink {
    /// Copy it into scratch and let its writers go on: they wait as long as a copy takes.
    Copy,
    /// Read it where it is: no scratch space, but its writers wait until the last page was read.
    ReadUnderLock,
}

/// How a snapshot is taken.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// For how long SHARED is asked for, and for how long at most writers may be kept from committing.
    pub max_stall: Duration,
    /// An existing directory for copies, best on the file system of the database, where copies may be free.
    pub scratch: PathBuf,
    /// What to do where copies are not free. A hot journal is always copied, with its database.
    pub without_reflink: WithoutReflink,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self {
            max_stall: DEFAULT_MAX_STALL,
            scratch: std::env::temp_dir(),
            without_reflink: WithoutReflink::Copy,
        }
    }
}

/// A database as of one instant. Whatever holds it still is let go when this is dropped.
#[derive(Debug)]
pub struct Snapshot {
    // The order is that in which they are dropped. A connection must be closed before any handle of the files
    // that it has locked, and a handle only through `files`.
    pages: Pages,
    hold: Hold,
    files: DatabaseFiles,
    buffer: Vec<u8>,
    next_page: u32,
    report: SnapshotReport,
}

/// What keeps the pages as they are while they are read.
#[derive(Debug)]
pub(crate) enum Hold {
    /// Nothing has to: they are a private copy, or there are none.
    Own { _scratch: Option<Scratch> },
    /// SHARED, which keeps writers waiting.
    Lock { lock: SharedLock, limit: Duration },
    /// SHARED, and nobody at work.
    Unattended(wal::Unattended),
    /// A read transaction.
    Transaction(wal::ReadTransaction),
}

/// The pages of a snapshot, what holds them, and what to say about it.
pub(crate) struct Held {
    pub(crate) pages: Pages,
    pub(crate) hold: Hold,
    pub(crate) isolation: Isolation,
    pub(crate) stall: Duration,
    pub(crate) wal_frames: u32,
    pub(crate) rolled_back: bool,
    pub(crate) warnings: Vec<SnapshotWarning>,
}

impl Held {
    pub(crate) fn new(pages: Pages, hold: Hold, isolation: Isolation) -> Self {
        let (stall, wal_frames, rolled_back) = (Duration::ZERO, 0, false);
        Self { pages, hold, isolation, stall, wal_frames, rolled_back, warnings: Vec::new() }
    }
}

/// What one look at the database led to.
pub(crate) enum Look {
    /// It is held still.
    Held(Box<Held>),
    /// It was changing hands; to be looked at again.
    Again(&'static str),
}

impl Snapshot {
    /// Holds the database at `path` still, without changing it, and makes it readable.
    ///
    /// # Errors
    /// See [`SnapshotError`]; nothing is held then, and nothing was changed.
    pub fn take(path: &Path, options: &SnapshotOptions) -> Result<Self, SnapshotError> {
        // What a killed process left beside the database, before anybody is kept waiting.
        lifeboat_base::scratch::sweep(&options.scratch);
        let waiting = Stopwatch::start();
        loop {
            let mut files = DatabaseFiles::open(path).map_err(SnapshotError::io("open", path))?;
            check_kind(&files)?;
            let patience = options.max_stall.saturating_sub(waiting.elapsed());
            let lock = take_shared(&files, patience, &waiting)?;
            let waited = waiting.elapsed();
            match look(&mut files, lock, options)? {
                Look::Held(held) => return Self::assemble(files, *held, waited),
                Look::Again(what) if waiting.elapsed() >= options.max_stall => {
                    return Err(SnapshotError::Disturbed { path: files.path().to_owned(), what });
                }
                Look::Again(_) => std::thread::sleep(SETTLE),
            }
        }
    }

    fn assemble(files: DatabaseFiles, held: Held, waited: Duration) -> Result<Self, SnapshotError> {
        let header = header_of(&held.pages)?;
        let mut warnings = held.warnings;
        let stated = header.as_ref().map_or(0, |header| header.stated_pages);
        warnings.extend(held.pages.warnings(stated));
        let report = SnapshotReport {
            mode: header.as_ref().map_or(JournalMode::Rollback, |header| header.journal_mode),
            isolation: held.isolation,
            waited,
            stall: held.stall,
            wal_frames: held.wal_frames,
            change_counter: header.as_ref().map_or(0, |header| header.change_counter),
            rolled_back: held.rolled_back,
            warnings,
        };
        let run = RUN_BYTES.max(held.pages.page_size.as_usize());
        let (pages, hold) = (held.pages, held.hold);
        Ok(Self { pages, hold, files, buffer: vec![0; run], next_page: 1, report })
    }

    /// The size of the pages.
    pub fn page_size(&self) -> PageSize {
        self.pages.page_size
    }

    /// How many pages there are; none where the file has no byte.
    pub fn page_count(&self) -> u32 {
        self.pages.count
    }

    /// The size of the image in bytes.
    pub fn size_bytes(&self) -> u64 {
        u64::from(self.page_count()) * u64::from(self.page_size().get())
    }

    /// How the database is held still while this is read.
    pub fn isolation(&self) -> Isolation {
        self.report.isolation
    }

    /// The next pages in order, up to a MiB of them, or `None` after the last.
    ///
    /// # Errors
    /// After any error the snapshot is worthless: the pages read before and after it need not fit together.
    pub fn next_run(&mut self) -> Result<Option<PageRun<'_>>, SnapshotError> {
        let first_page = self.next_page;
        let left = self.pages.count.saturating_sub(first_page - 1) as usize;
        let page_size = self.pages.page_size.as_usize();
        let count = left.min(self.buffer.len() / page_size);
        if count == 0 {
            return Ok(None);
        }
        let buffer = &mut self.buffer[..count * page_size];
        self.pages.read(first_page, buffer)?;
        self.hold.still_holds(&self.pages.path)?;
        self.next_page = first_page.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        Ok(Some(PageRun { first_page, bytes: &self.buffer[..count * page_size] }))
    }

    /// Reads pages in any order: as many as `buffer` has room for, from `first_page` (from 1) on. Returns how many
    /// whole pages were filled, fewer only at the end.
    ///
    /// # Errors
    /// As [`Self::next_run`].
    pub fn read_pages(&self, first_page: u32, buffer: &mut [u8]) -> Result<u32, SnapshotError> {
        let first_page = first_page.max(1);
        let room = u32::try_from(buffer.len() / self.pages.page_size.as_usize()).unwrap_or(u32::MAX);
        let count = self.pages.count.saturating_sub(first_page - 1).min(room);
        let bytes = &mut buffer[..count as usize * self.pages.page_size.as_usize()];
        self.pages.read(first_page, bytes)?;
        self.hold.still_holds(&self.pages.path)?;
        Ok(count)
    }

    /// Lets the database go and says what the snapshot was.
    ///
    /// # Errors
    /// Where the database turns out not to have been held still: what was read is then worthless.
    pub fn finish(self) -> Result<SnapshotReport, SnapshotError> {
        self.hold.still_holds(&self.pages.path)?;
        let mut report = self.report;
        if let Hold::Lock { lock, .. } = &self.hold {
            report.stall = lock.held();
        }
        drop(self.hold);
        let in_place = self.files.in_place().map_err(SnapshotError::io("look for", self.files.path()))?;
        if !in_place {
            report.warnings.push(SnapshotWarning::Replaced);
        }
        Ok(report)
    }
}

impl Hold {
    fn still_holds(&self, path: &Path) -> Result<(), SnapshotError> {
        match self {
            Self::Own { .. } => Ok(()),
            Self::Lock { lock, limit } if lock.held() > *limit => {
                Err(SnapshotError::Stalled { path: path.to_owned(), limit: *limit })
            }
            Self::Lock { .. } => Ok(()),
            Self::Unattended(unattended) => unattended.still_holds(path),
            Self::Transaction(transaction) => transaction.still_holds(path),
        }
    }
}

fn check_kind(files: &DatabaseFiles) -> Result<(), SnapshotError> {
    let metadata = files.database().metadata().map_err(SnapshotError::io("open", files.path()))?;
    if metadata.is_file() { Ok(()) } else { Err(SnapshotError::NotAFile { path: files.path().to_owned() }) }
}

fn take_shared(
    files: &DatabaseFiles,
    patience: Duration,
    waiting: &Stopwatch,
) -> Result<SharedLock, SnapshotError> {
    let lock = SharedLock::take(files.database(), patience).map_err(SnapshotError::lock(files.path()))?;
    lock.ok_or_else(|| SnapshotError::Busy { path: files.path().to_owned(), waited: waiting.elapsed() })
}

/// Finds out, under SHARED, how the database is protected, and holds it still accordingly.
fn look(
    files: &mut DatabaseFiles,
    lock: SharedLock,
    options: &SnapshotOptions,
) -> Result<Look, SnapshotError> {
    let path = files.path().to_owned();
    if !files.in_place().map_err(SnapshotError::io("look for", &path))? {
        return Ok(Look::Again("another file got its name"));
    }
    let database = Arc::clone(files.database());
    let size = database.size_bytes().map_err(SnapshotError::io("read", &path))?;
    let journal = files
        .open_beside("-journal")
        .map_err(SnapshotError::io("open journal", &files.path_beside("-journal")))?;
    let found = find_hotness(files, &lock, journal.as_deref(), size)?;
    let logged = files::exists_for_sqlite(&files.path_beside("-wal"))
        .map_err(SnapshotError::io("look for", &files.path_beside("-wal")))?;
    match (found, journal) {
        (Hotness::Hot { .. }, _) if logged => Err(SnapshotError::TwoJournals { path }),
        (Hotness::Hot { super_journal }, Some(journal)) => {
            rollback::roll_back_copy(files, lock, &journal, super_journal, options)
        }
        _ if size == 0 => {
            let pages = Pages::none(path, database);
            Ok(Look::Held(Box::new(Held::new(pages, Hold::Own { _scratch: None }, Isolation::Empty))))
        }
        (found, _) => hold_by_mode(files, lock, options, logged, found),
    }
}

fn hold_by_mode(
    files: &mut DatabaseFiles,
    lock: SharedLock,
    options: &SnapshotOptions,
    logged: bool,
    found: Hotness,
) -> Result<Look, SnapshotError> {
    let header = read_header(files.database(), files.path())?;
    // A WAL with content is used by SQLite whatever the header says.
    let mut look = if logged || header.journal_mode == JournalMode::Wal {
        wal::hold(files, lock, options.max_stall, header.page_size)?
    } else {
        rollback::hold(files, lock, options, header.page_size)?
    };
    if let (Look::Held(held), Hotness::Committed(named)) = (&mut look, found) {
        let super_journal = PathBuf::from(OsStr::from_bytes(&named.name));
        held.warnings.push(SnapshotWarning::CommittedJournal { super_journal });
    }
    Ok(look)
}

fn find_hotness(
    files: &DatabaseFiles,
    lock: &SharedLock,
    journal: Option<&File>,
    database_bytes: u64,
) -> Result<Hotness, SnapshotError> {
    let path = files.path();
    let reserved = lock.reserved_elsewhere().map_err(SnapshotError::lock(path))?;
    let mut out_of_sight = None;
    let found = hotness(journal, database_bytes, reserved, |named| {
        let looked = super_journal_exists(path, named);
        if looked.is_err() {
            out_of_sight = Some(PathBuf::from(OsStr::from_bytes(&named.name)));
        }
        looked
    });
    if let Some(super_journal) = out_of_sight {
        return Err(SnapshotError::SuperJournalOutOfSight { path: path.to_owned(), super_journal });
    }
    found.map_err(SnapshotError::io("read journal of", path))
}

/// Whether a super-journal exists, asked where the application would ask. A directory that is not there at all
/// says that the application sees other paths than we do (a container's), so that nothing can be concluded.
fn super_journal_exists(database: &Path, named: &SuperJournal) -> io::Result<bool> {
    let name = Path::new(OsStr::from_bytes(&named.name));
    let name = database.parent().map_or_else(|| name.to_owned(), |directory| directory.join(name));
    if files::exists_for_sqlite(&name)? {
        return Ok(true);
    }
    let directory = name.parent().unwrap_or(Path::new("/"));
    std::fs::metadata(directory).map(|_| false)
}

pub(crate) fn read_header(file: &File, path: &Path) -> Result<DatabaseHeader, SnapshotError> {
    let mut bytes = [0; DATABASE_HEADER_BYTES];
    let length = ReadAt::read_at(file, 0, &mut bytes).map_err(SnapshotError::io("read", path))?;
    DatabaseHeader::parse(&bytes[..length]).map_err(not_a_database(path))
}

/// The header as of the snapshot, which must agree with what the pages were read by.
fn header_of(pages: &Pages) -> Result<Option<DatabaseHeader>, SnapshotError> {
    if pages.count == 0 {
        return Ok(None);
    }
    let mut first = vec![0; pages.page_size.as_usize()];
    pages.read(1, &mut first)?;
    let header = DatabaseHeader::parse(&first).map_err(not_a_database(&pages.path))?;
    if header.page_size != pages.page_size {
        let source = HeaderError::Damaged { what: "the page size is not that of the WAL" };
        return Err(not_a_database(&pages.path)(source));
    }
    Ok(Some(header))
}

fn not_a_database(path: &Path) -> impl FnOnce(HeaderError) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::NotADatabase { path, source }
}
