//! The walk of one snapshot: what is in the tree, in the order in which a snapshot wants it.

use crate::stream::FileStream;
use crate::unchanged::Unchanged;
use crate::{FilesDriver, FilesError, SnapshotReport};
use lifeboat_base::failpoint;
use lifeboat_repository::tree::{Content, Entry, EntryKind, FileTime};
use lifeboat_repository::{RepositoryError, SnapshotWriter};
use lifeboat_store::attributes::{self, XattrReader};
use lifeboat_store::chain::Chain;
use lifeboat_store::exclude::{CACHE_TAG_NAME, Exclude, is_tagged_cache};
use lifeboat_store::listing::{Lister, Listing};
use lifeboat_store::progress::Progress;
use lifeboat_store::{Directory, Name, PathError, sparse};
use rustix::fs::Stat;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// How often a file that changes while it is read is read again.
const REREADS: u32 = 2;
/// Above this size in bytes a file that changes is not read again: it would most likely change again, and
/// every attempt costs as much as the first.
const REREAD_BYTES_MAX: u64 = 64 << 20;

/// Which inode on which device.
type Identity = (u64, u64);

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

pub(crate) struct Walk<'a> {
    driver: &'a FilesDriver,
    exclude: &'a Exclude,
    never: Vec<Identity>,
    writer: &'a mut SnapshotWriter,
    progress: &'a Progress,
    chain: Chain,
    levels: Vec<Level>,
    lister: Lister,
    xattrs: XattrReader,
    unchanged: Unchanged,
    root_device: u64,
    /// Who we are, and whether that is root: whose files we may read without a trace.
    user: (u32, bool),
    names: HashMap<Identity, FirstName>,
    report: SnapshotReport,
}

/// A directory of the tree that is being walked.
struct Level {
    listing: Listing,
    next: usize,
    /// Its own entry; nobody asks for the root's.
    entry: Entry,
    /// Only the tag of it is recorded.
    is_cache: bool,
}

/// A file with several names, of which one has been recorded.
struct FirstName {
    path: Vec<u8>,
    /// How many names have not been met.
    left: u64,
    /// An inode may be given to another file while we walk: then these differ.
    size: u64,
    modified: FileTime,
}

/// One attempt at reading a file.
enum Attempt {
    /// It was the same before and after.
    Whole(Entry),
    /// It was not; this is what was read, and what it is now.
    Changed(Entry, Box<Stat>),
}

/// Why a file was not read.
enum Failure {
    /// The file cannot be read.
    Source(&'static str, io::Error),
    /// The repository cannot be written.
    Repository(RepositoryError),
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        match error {
            RepositoryError::Source(error) => Self::Source("read", error),
            error => Self::Repository(error),
        }
    }
}

fn source(operation: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::Source(operation, error)
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        driver: &'a FilesDriver,
        root: Directory,
        writer: &'a mut SnapshotWriter,
        progress: &'a Progress,
    ) -> Result<Self, FilesError> {
        let stat = root.stat_self().map_err(|error| driver.at_root("question", error))?;
        let euid = rustix::process::geteuid();
        let mut walk = Self {
            driver,
            exclude: &driver.options.exclude,
            never: identities(&driver.options.never),
            unchanged: Unchanged::since(writer.base().map(|base| base.snapshot.taken)),
            writer,
            progress,
            chain: Chain::new(root),
            levels: Vec::new(),
            lister: Lister::default(),
            xattrs: XattrReader::default(),
            root_device: stat.st_dev,
            user: (euid.as_raw(), euid.is_root()),
            names: HashMap::new(),
            report: SnapshotReport { root: attributes::metadata_of(&stat), ..SnapshotReport::default() },
        };
        let level =
            walk.open_level(Entry::new("", EntryKind::Directory)).map_err(|e| driver.at_root("list", e))?;
        walk.report.root.xattrs.clone_from(&level.entry.metadata.xattrs);
        walk.levels.push(level);
        Ok(walk)
    }

    pub(crate) fn run(mut self) -> Result<SnapshotReport, FilesError> {
        while let Some(level) = self.levels.last_mut() {
            match level.listing.get(level.next) {
                Some(name) => {
                    let name = name.to_vec();
                    level.next += 1;
                    self.visit(&name)?;
                }
                None => self.leave()?,
            }
        }
        self.check_root()?;
        self.writer.stats_mut().left_out += self.report.left_out.count;
        Ok(self.report)
    }

    /// A root that was removed under our hands leaves a snapshot of less and less of it.
    fn check_root(&mut self) -> Result<(), FilesError> {
        let stat = self.chain.current().and_then(Directory::stat_self);
        let stat = stat.map_err(|error| self.driver.at_root("question", error))?;
        if stat.st_nlink > 0 {
            return Ok(());
        }
        Err(FilesError::Vanished { path: self.driver.root.clone() })
    }

    fn visit(&mut self, name: &[u8]) -> Result<(), FilesError> {
        if self.levels.last().is_some_and(|level| level.is_cache) && name != CACHE_TAG_NAME {
            self.report.excluded += 1;
            return Ok(());
        }
        let found = Name::new(name).map_err(io::Error::from);
        match found.and_then(|name| Ok((name, self.chain.current()?.stat(name)?))) {
            Ok((name, stat)) => self.visit_known(name, &stat),
            Err(error) => {
                self.leave_out("question", name, error);
                Ok(())
            }
        }
    }

    fn visit_known(&mut self, name: Name<'_>, stat: &Stat) -> Result<(), FilesError> {
        let Some(entry) = attributes::entry_of(name.as_bytes(), stat) else {
            self.leave_out("record", name.as_bytes(), io::ErrorKind::Unsupported.into());
            return Ok(());
        };
        let is_directory = entry.kind == EntryKind::Directory;
        let patterns = &self.exclude.patterns;
        if (!patterns.is_empty()
            && self.exclude.leaves_out(&self.chain.path_of(name.as_bytes()), is_directory))
            || (is_directory && self.never.contains(&identity(stat)))
        {
            self.report.excluded += 1;
            return Ok(());
        }
        if is_directory { self.enter(name, entry) } else { self.record(name, entry, stat) }
    }

    fn enter(&mut self, name: Name<'_>, entry: Entry) -> Result<(), FilesError> {
        self.writer.enter(name.as_bytes());
        if self.exclude.one_file_system && entry.metadata.device != self.root_device {
            self.report.excluded += 1;
            return self.close_directory(entry);
        }
        match self.chain.enter(name) {
            Ok(stat) => {
                let level = Entry { metadata: attributes::metadata_of(&stat), ..entry.clone() };
                match self.open_level(level) {
                    Ok(level) => {
                        self.levels.push(level);
                        return Ok(());
                    }
                    Err(error) => {
                        self.chain.leave();
                        self.leave_out("list", name.as_bytes(), error);
                    }
                }
            }
            Err(error) => self.leave_out("open directory", name.as_bytes(), error),
        }
        self.close_directory(entry)
    }

    /// Reads what is in the directory where the chain stands.
    fn open_level(&mut self, mut entry: Entry) -> io::Result<Level> {
        let directory = self.chain.current()?;
        entry.metadata.xattrs = self.xattrs.of_open(directory)?;
        let listing = self.lister.list(directory)?;
        let is_cache = self.exclude.caches && listing.contains(CACHE_TAG_NAME) && is_tagged_cache(directory)?;
        Ok(Level { listing, next: 0, entry, is_cache })
    }

    fn leave(&mut self) -> Result<(), FilesError> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        if self.levels.is_empty() {
            return Ok(());
        }
        self.chain.leave();
        self.close_directory(level.entry)
    }

    fn close_directory(&mut self, entry: Entry) -> Result<(), FilesError> {
        self.report.directories += 1;
        self.progress.count_entry();
        Ok(self.writer.leave(entry)?)
    }

    /// Records what is no directory.
    fn record(&mut self, name: Name<'_>, mut entry: Entry, stat: &Stat) -> Result<(), FilesError> {
        if let Some(path) = self.earlier_name(&entry) {
            entry.content = Content::HardLink { path };
            self.report.hard_links += 1;
            self.progress.count_entry();
            return Ok(self.writer.add(entry)?);
        }
        let base = self.writer.base_entry(name.as_bytes()).filter(|base| self.unchanged.holds(&entry, base));
        match (entry.kind, base) {
            (EntryKind::File, Some(base)) if self.writer.reuse(&base)? => {
                self.report.unchanged += 1;
                self.take_over(entry, base)
            }
            (EntryKind::File, _) => self.record_file(name, entry, stat),
            (_, Some(base)) => self.take_over(entry, base),
            (_, None) => self.record_unopened(name, entry),
        }
    }

    /// With the same change time, the attributes are the same as well.
    fn take_over(&mut self, mut entry: Entry, base: Entry) -> Result<(), FilesError> {
        entry.content = base.content;
        entry.metadata.xattrs = base.metadata.xattrs;
        self.add(entry)
    }

    fn record_unopened(&mut self, name: Name<'_>, mut entry: Entry) -> Result<(), FilesError> {
        let read = self.chain.current().and_then(|directory| {
            entry.metadata.xattrs = self.xattrs.of_name(directory, name)?;
            if entry.kind == EntryKind::Symlink {
                entry.content = Content::Target { path: directory.read_link(name)? };
            }
            Ok(())
        });
        match read {
            Ok(()) => self.add(entry),
            Err(error) => {
                self.leave_out("read", name.as_bytes(), error);
                Ok(())
            }
        }
    }

    fn add(&mut self, entry: Entry) -> Result<(), FilesError> {
        match entry.kind {
            EntryKind::File => self.report.files += 1,
            _ => self.report.others += 1,
        }
        self.progress.count_entry();
        self.remember_name(&entry);
        Ok(self.writer.add(entry)?)
    }

    /// The path under which this file was recorded already.
    fn earlier_name(&mut self, entry: &Entry) -> Option<Vec<u8>> {
        if entry.metadata.links < 2 {
            return None;
        }
        let identity = (entry.metadata.device, entry.metadata.inode);
        let first = self.names.get_mut(&identity)?;
        if (first.size, first.modified) != (entry.size, entry.metadata.modified) {
            self.names.remove(&identity);
            return None;
        }
        first.left -= 1;
        if first.left > 0 {
            Some(first.path.clone())
        } else {
            self.names.remove(&identity).map(|first| first.path)
        }
    }

    fn remember_name(&mut self, entry: &Entry) {
        let metadata = &entry.metadata;
        if metadata.links > 1 {
            let path = self.chain.path_of(&entry.name);
            let first =
                FirstName { path, left: metadata.links - 1, size: entry.size, modified: metadata.modified };
            self.names.insert((metadata.device, metadata.inode), first);
        }
    }

    /// Reads a file until it does not change meanwhile, but not for ever.
    fn record_file(&mut self, name: Name<'_>, mut entry: Entry, stat: &Stat) -> Result<(), FilesError> {
        let mut before = *stat;
        for rereads_left in (0..=REREADS).rev() {
            match self.read_file(name, entry, &before) {
                Ok(Attempt::Whole(entry)) => return self.add(entry),
                Ok(Attempt::Changed(read, now)) => {
                    if rereads_left == 0 || attributes::size_of(&now) > REREAD_BYTES_MAX {
                        return self.add_torn(read);
                    }
                    (entry, before) = (read, *now);
                }
                Err(Failure::Source(operation, error)) => {
                    self.leave_out(operation, name.as_bytes(), error);
                    return Ok(());
                }
                Err(Failure::Repository(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn add_torn(&mut self, mut entry: Entry) -> Result<(), FilesError> {
        entry.torn = true;
        let why = io::Error::other("it changed while it was read");
        self.report.torn.add(PathError::new("read", self.chain.path_of(&entry.name), why));
        self.add(entry)
    }

    /// Reads a file that `before` described. Attributes are read before the last question: setting one
    /// moves the change time.
    fn read_file(&mut self, name: Name<'_>, entry: Entry, before: &Stat) -> Result<Attempt, Failure> {
        let file = self.open_file(name, before).map_err(source("open"))?;
        let opened = rustix::fs::fstat(&file).map_err(|error| Failure::Source("question", error.into()))?;
        if attributes::kind_of(&opened) != Some(EntryKind::File) {
            return Err(Failure::Source("read", io::Error::other("it is no file any more")));
        }
        let mut entry = Entry { metadata: attributes::metadata_of(&opened), ..entry };
        entry.size = attributes::size_of(&opened);
        self.read_content(&file, &opened, &mut entry)?;
        failpoint::reach("files::read").map_err(source("read"))?;
        entry.metadata.xattrs = self.xattrs.of_open(&file).map_err(source("read attributes of"))?;
        let after = rustix::fs::fstat(&file).map_err(|error| Failure::Source("question", error.into()))?;
        let same = state(&opened) == state(&after) && entry.size == attributes::size_of(&after);
        Ok(if same { Attempt::Whole(entry) } else { Attempt::Changed(entry, Box::new(after)) })
    }

    fn open_file(&mut self, name: Name<'_>, stat: &Stat) -> io::Result<OwnedFd> {
        let (uid, is_root) = self.user;
        let directory = self.chain.current()?;
        match directory.open_file(name, is_root || stat.st_uid == uid) {
            // Root of a container may own nothing out there.
            Err(error) if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::PERM) => {
                directory.open_file(name, false)
            }
            opened => opened,
        }
    }

    fn read_content(&mut self, file: &OwnedFd, stat: &Stat, entry: &mut Entry) -> Result<(), Failure> {
        let extents = holes(file, stat, entry.size).map_err(source("find the holes of"))?;
        let stored = match &extents {
            Some(extents) => {
                let mut stream = FileStream::sparse(file.as_fd(), extents, self.progress);
                self.writer.content(&entry.name, extents.clone(), &mut stream)?
            }
            None => {
                let mut stream = FileStream::whole(file.as_fd(), entry.size, self.progress);
                let stored = self.writer.content(&entry.name, Vec::new(), &mut stream)?;
                entry.size = stored.bytes;
                stored
            }
        };
        self.report.bytes_read += stored.bytes;
        entry.content = stored.content;
        Ok(())
    }

    fn leave_out(&mut self, operation: &'static str, name: &[u8], error: io::Error) {
        self.report.left_out.add(PathError::new(operation, self.chain.path_of(name), error));
    }
}

/// The data extents of a file with holes; `None` for one without.
fn holes(
    file: &OwnedFd,
    stat: &Stat,
    size: u64,
) -> io::Result<Option<Vec<lifeboat_repository::tree::Extent>>> {
    if !sparse::may_have_holes(stat) {
        return Ok(None);
    }
    let extents = sparse::data_extents(file, size)?;
    let whole = matches!(extents[..], [only] if only.length == size);
    Ok((!whole).then_some(extents))
}

/// What tells whether a file was touched.
fn state(stat: &Stat) -> (u64, FileTime, FileTime) {
    let metadata = attributes::metadata_of(stat);
    (attributes::size_of(stat), metadata.modified, metadata.changed)
}

fn identities(paths: &[PathBuf]) -> Vec<Identity> {
    paths.iter().filter_map(|path| rustix::fs::stat(path).ok()).map(|stat| identity(&stat)).collect()
}
