//! Restoring: a snapshot's tree becomes a tree of files in an empty directory.
//!
//! ```text
//!   walk the tree ──► create directories, links, pipes, devices; plan the files
//!        ▲                         │ a window is full, or the tree ends
//!        └──── next window ◄──── fetch, write, give metadata to files
//!                                make hard links, seal directories (deepest first)
//! ```
//!
//! A file is created with its first piece and complete with its last. A directory is open to its owner
//! alone until all below it is there, and gets its metadata then, so that its times are the recorded ones
//! and nobody meets a file before it has its owner.
//!
//! Memory is bounded by [`Options::window_bytes`], however large the tree. What cannot be restored, because the
//! target refuses it or the repository is damaged there, is noted and the rest goes on, but for what would
//! fail everywhere (no space, read-only). This module knows
//! nothing of how content is kept: it asks a [`TreeReader`].

mod outcome;
mod place;
mod plan;
#[cfg(test)]
mod tests;

use crate::attributes::{self, Creator};
use crate::directory::{Directory, Name, UnsafeName};
use crate::error::{PathError, display_path};
use crate::exclude::Include;
use crate::progress::Progress;
use crate::tree::TreeReader;
use lifeboat_base::{Hint, failpoint};
use lifeboat_repository::tree::{Content, Entry, EntryKind, Metadata};
use lifeboat_repository::{Descend, RepositoryError, Request};
use outcome::Outcome;
use place::{Place, Pool};
use plan::{Link, Plan, Writer};
use rustix::fs::FileType;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

pub use outcome::Report;

/// How a tree is restored.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// What of it.
    pub include: &'a Include,
    /// How much memory the plan of one window may take, in bytes.
    pub window_bytes: usize,
    /// Counts along.
    pub progress: &'a Progress,
}

/// Room for some 150,000 files of a few pieces. A block that is needed in two windows is fetched twice.
pub const WINDOW_BYTES: usize = 56 << 20;

/// A restore that ended early. What was restored until then stays.
#[derive(Debug, thiserror::Error)]
pub enum MaterialiseError {
    /// The repository could not give what the snapshot refers to.
    #[error("read the snapshot")]
    Repository(#[from] RepositoryError),
    /// The target could not be written to.
    #[error(transparent)]
    Target(#[from] PathError),
    /// The snapshot holds a name that would leave the target.
    #[error("restore into {}", display_path(directory))]
    Unsafe {
        /// Where the name stands.
        directory: Vec<u8>,
        /// The name.
        #[source]
        source: UnsafeName,
    },
    /// The snapshot holds something that no tree of files can be.
    #[error("the snapshot says of {} that {what}", display_path(path))]
    Impossible {
        /// Where.
        path: Vec<u8>,
        /// What it says.
        what: &'static str,
    },
}

impl Hint for MaterialiseError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Repository(error) => error.hint(),
            Self::Target(error) => error.hint(),
            Self::Unsafe { source, .. } => source.hint(),
            Self::Impossible { .. } => Some(
                "The tree is damaged or forged: run `lifeboat check`, and restore from another snapshot or copy.".to_owned(),
            ),
        }
    }
}

type Result<T> = std::result::Result<T, MaterialiseError>;

/// Restores a tree into `target`, which the caller has found empty.
///
/// # Errors
/// Where the snapshot is damaged, hostile or not readable, and where the target can take nothing more. What
/// concerns single entries is in the report instead.
pub fn materialise<R: TreeReader>(reader: &R, target: Directory, options: Options<'_>) -> Result<Report> {
    let at_root = |operation: &'static str| move |error: io::Error| PathError::new(operation, *b"", error);
    attributes::stop_handing_down(&target).map_err(at_root("remove the default ACL of"))?;
    let creator = Creator::below(&target).map_err(at_root("question"))?;
    let mut restore = Restore {
        reader,
        options,
        pool: Pool::new(target),
        creator,
        outcome: Outcome::default(),
        plan: Plan::default(),
        levels: Vec::new(),
        carriers: HashMap::new(),
        last_link_source: None,
    };
    restore.run()?;
    failpoint::reach("store::tree-not-synced").map_err(at_root("sync"))?;
    rustix::fs::syncfs(&**restore.pool.root()).map_err(io::Error::from).map_err(at_root("sync"))?;
    Ok(restore.outcome.into_report())
}

/// Whether a directory of the target exists yet. With `--include` it is made when something below is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Creation {
    Due,
    Done,
    Failed,
}

/// A directory of the snapshot that is being walked.
#[derive(Debug)]
struct Level {
    place: Arc<Place>,
    metadata: Metadata,
    creation: Creation,
    selected: bool,
    path_length: usize,
    last_name: Vec<u8>,
}

struct Restore<'a, R: TreeReader> {
    reader: &'a R,
    options: Options<'a>,
    pool: Pool,
    creator: Creator,
    outcome: Outcome,
    plan: Plan,
    levels: Vec<Level>,
    /// Where content is that the first name of a file would have carried, had it been selected.
    carriers: HashMap<Vec<u8>, Vec<u8>>,
    last_link_source: Option<(Vec<u8>, Arc<Place>)>,
}

impl<R: TreeReader> Restore<'_, R> {
    fn run(&mut self) -> Result<()> {
        self.levels.push(Level {
            place: Arc::clone(self.pool.root_place()),
            metadata: self.reader.root_metadata().clone(),
            creation: Creation::Done,
            selected: self.options.include.selects_root(),
            path_length: 0,
            last_name: Vec::new(),
        });
        let reader = self.reader;
        let mut lost = Vec::new();
        reader.walk(&mut |directory, entry| self.visit(directory, entry), &mut |directory, error| {
            lost.push(PathError::new("list", directory, io::Error::other(error)));
            Ok(())
        })?;
        lost.into_iter().try_for_each(|problem| self.outcome.left_out(problem))?;
        while !self.levels.is_empty() {
            self.leave();
        }
        self.flush(false)
    }

    fn visit(&mut self, directory: &[u8], entry: &Entry) -> Result<Descend> {
        while self.levels.last().is_some_and(|level| level.path_length > directory.len()) {
            self.leave();
        }
        if self.plan.cost() >= self.options.window_bytes {
            self.flush(false)?;
        }
        let path = self.checked_path(directory, entry)?;
        let is_directory = entry.kind == EntryKind::Directory;
        let above = self.levels.last().is_some_and(|level| level.selected);
        let selected = self.options.include.selects(&path, is_directory, above);
        if is_directory {
            return self.enter(entry, &path, selected);
        }
        if selected && let Some(place) = self.ready()? {
            self.restore(&place, entry, path)?;
        }
        Ok(Descend::No)
    }

    /// The path of an entry, whose name stays in its directory and sorts after the one before.
    fn checked_path(&mut self, directory: &[u8], entry: &Entry) -> Result<Vec<u8>> {
        if let Err(source) = Name::new(&entry.name) {
            return Err(MaterialiseError::Unsafe { directory: directory.to_vec(), source });
        }
        let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        let path = [directory, separator, &entry.name].concat();
        match self.levels.last_mut() {
            Some(level) if level.last_name < entry.name => level.last_name.clone_from(&entry.name),
            _ => return Err(impossible(&path, "it comes twice or out of order")),
        }
        Ok(path)
    }

    fn enter(&mut self, entry: &Entry, path: &[u8], selected: bool) -> Result<Descend> {
        if !matches!(entry.content, Content::Listing { .. } | Content::Nothing) {
            return Err(impossible(path, "it is a directory with the content of something else"));
        }
        let Some(above) = self.levels.last() else { return Ok(Descend::No) };
        if !selected && !self.options.include.may_select_below(path) {
            return Ok(Descend::No);
        }
        self.levels.push(Level {
            place: self.pool.below(&above.place, &entry.name),
            metadata: entry.metadata.clone(),
            creation: if above.creation == Creation::Failed { Creation::Failed } else { Creation::Due },
            selected,
            path_length: path.len(),
            last_name: Vec::new(),
        });
        if selected && self.ready()?.is_none() {
            // Nothing can be restored below: it is not even walked.
            self.levels.pop();
            return Ok(Descend::No);
        }
        Ok(Descend::Yes)
    }

    fn leave(&mut self) {
        if let Some(level) = self.levels.pop()
            && level.creation == Creation::Done
        {
            self.plan.add_complete(level.place, level.metadata);
        }
    }

    /// The deepest level's place, created with all above it; `None` where that failed.
    fn ready(&mut self) -> Result<Option<Arc<Place>>> {
        let existing = self.levels.iter().rposition(|level| level.creation != Creation::Due);
        for index in existing.map_or(0, |index| index + 1)..self.levels.len() {
            self.levels[index].creation = match self.levels[index - 1].creation {
                Creation::Done => self.create_directory(index)?,
                failed => failed,
            };
        }
        let deepest = self.levels.last().filter(|level| level.creation == Creation::Done);
        Ok(deepest.map(|level| Arc::clone(&level.place)))
    }

    fn create_directory(&self, index: usize) -> Result<Creation> {
        let name = self.levels[index].place.name();
        let above = &self.levels[index - 1].place;
        let created = self.pool.open(above).and_then(|above| above.create_child(Name::new(name)?));
        match created {
            Ok(()) => {
                self.outcome.count(self.options.progress, |report| report.directories += 1);
                Ok(Creation::Done)
            }
            Err(error) => {
                self.outcome.left_out(PathError::new("create directory", above.path_of(name), error))?;
                Ok(Creation::Failed)
            }
        }
    }

    fn restore(&mut self, place: &Arc<Place>, entry: &Entry, path: Vec<u8>) -> Result<()> {
        match (&entry.content, entry.kind) {
            (Content::HardLink { path: target }, _) => self.restore_link(place, entry, path, target),
            (Content::Chunks { .. } | Content::Pages { .. } | Content::Nothing, EntryKind::File) => {
                self.plan_file(place, entry)
            }
            (Content::Target { .. }, EntryKind::Symlink)
            | (
                Content::Nothing,
                EntryKind::Fifo | EntryKind::Socket | EntryKind::CharDevice | EntryKind::BlockDevice,
            ) => self.create_unopened(place, entry, path),
            _ => Err(impossible(&path, "it is of one kind and has the content of another")),
        }
    }

    fn plan_file(&mut self, place: &Arc<Place>, entry: &Entry) -> Result<()> {
        self.plan.begin_file(place, entry);
        if entry.content != Content::Nothing {
            let reader = self.reader;
            let listed = reader.pieces(entry, &mut |piece| {
                self.plan.add_piece(piece);
                // A file may have more pieces than a window takes.
                if self.plan.cost() >= self.options.window_bytes { self.flush(true) } else { Ok(()) }
            });
            match listed {
                Err(MaterialiseError::Repository(error)) if error.is_about_one_object() => {
                    self.writer().lose_last(&self.plan, error)?;
                }
                other => other?,
            }
        }
        if self.plan.end_file() {
            self.writer().finish_last(&self.plan)?;
        }
        Ok(())
    }

    fn create_unopened(&self, place: &Arc<Place>, entry: &Entry, path: Vec<u8>) -> Result<()> {
        let created = self.pool.open(place).and_then(|directory| {
            let name = Name::new(&entry.name)?;
            create(&directory, name, entry)?;
            let mut refused = Vec::new();
            attributes::apply_to_name(&directory, name, entry.kind, &entry.metadata, &mut refused);
            self.outcome.refused(|| place.path_of(&entry.name), refused);
            Ok(())
        });
        if let Err(error) = created {
            return Ok(self.outcome.left_out(PathError::new("create", path, error))?);
        }
        self.outcome.count(self.options.progress, |report| match entry.kind {
            EntryKind::Symlink => report.symlinks += 1,
            _ => report.special += 1,
        });
        Ok(())
    }

    /// A further name. Where the first is not selected, this one becomes the first.
    fn restore_link(
        &mut self,
        place: &Arc<Place>,
        entry: &Entry,
        path: Vec<u8>,
        target: &[u8],
    ) -> Result<()> {
        let target = if self.selects(target) {
            target.to_vec()
        } else if let Some(carrier) = self.carriers.get(target) {
            carrier.clone()
        } else {
            let found = self.carried_content(&path, target)?;
            self.carriers.insert(target.to_vec(), path.clone());
            return self.restore(place, &Entry { name: entry.name.clone(), ..found }, path);
        };
        self.plan.add_link(Link { place: Arc::clone(place), name: entry.name.as_slice().into(), target });
        Ok(())
    }

    /// The entry that carries the content of the name at `path`.
    fn carried_content(&self, path: &[u8], target: &[u8]) -> Result<Entry> {
        match self.reader.entry(target)? {
            None => Err(impossible(path, "it is another name of a file that is not there")),
            Some(found)
                if found.kind == EntryKind::Directory
                    || matches!(found.content, Content::HardLink { .. }) =>
            {
                Err(impossible(path, "it is another name of what is no file"))
            }
            Some(found) => Ok(found),
        }
    }

    /// Whether a path that is no directory is selected, asked from the root down.
    fn selects(&self, path: &[u8]) -> bool {
        let include = self.options.include;
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        let above =
            ends.fold(include.selects_root(), |above, end| include.selects(&path[..end], true, above));
        include.selects(path, false, above)
    }

    fn writer(&self) -> Writer<'_> {
        Writer {
            pool: &self.pool,
            creator: self.creator,
            outcome: &self.outcome,
            progress: self.options.progress,
        }
    }

    /// Carries the window out and begins the next. `planning`: the file begun last has more pieces to come.
    fn flush(&mut self, planning: bool) -> Result<()> {
        let requests = std::mem::take(&mut self.plan.requests);
        if !requests.is_empty() {
            self.fetch(requests)?;
        }
        if let Some(path) = self.plan.unfinished(planning) {
            return Err(impossible(&path, "it has content that the repository did not deliver"));
        }
        for link in std::mem::take(&mut self.plan.links) {
            self.make_link(&link)?;
        }
        self.plan.complete.iter().try_for_each(|(place, metadata)| self.seal(place, metadata))?;
        self.plan = std::mem::take(&mut self.plan).next();
        Ok(())
    }

    fn fetch(&self, requests: Vec<Request>) -> Result<()> {
        let (writer, plan) = (self.writer(), &self.plan);
        let deliver = |tokens, bytes: &[u8]| Ok(writer.deliver(plan, tokens, bytes)?);
        let lost = |token, error| {
            writer.lose(plan, token, error).map_err(|error| RepositoryError::Delivery(error.into()))
        };
        let fetched = self.reader.fetch(requests, &deliver, &lost);
        // What the target said is the target's error, not the repository's.
        fetched.map_err(|error| match error {
            RepositoryError::Delivery(cause) => match cause.downcast::<PathError>() {
                Ok(target) => MaterialiseError::Target(*target),
                Err(cause) => RepositoryError::Delivery(cause).into(),
            },
            error => error.into(),
        })
    }

    fn make_link(&mut self, link: &Link) -> Result<()> {
        match self.try_link(link) {
            Ok(()) => self.outcome.count(self.options.progress, |report| report.hard_links += 1),
            Err(error) => {
                self.outcome.left_out(PathError::new("link", link.place.path_of(&link.name), error))?;
            }
        }
        Ok(())
    }

    fn try_link(&mut self, link: &Link) -> io::Result<()> {
        let (above, target) = split_last(&link.target);
        let source = self.link_source(above)?;
        let from = self.pool.open(&source)?;
        self.pool.open(&link.place)?.create_link(Name::new(&link.name)?, &from, Name::new(target)?)
    }

    /// The place at a path. Links often follow each other into one directory, so the last is remembered.
    fn link_source(&mut self, path: &[u8]) -> io::Result<Arc<Place>> {
        if let Some((known, place)) = &self.last_link_source
            && known == path
        {
            return Ok(Arc::clone(place));
        }
        let mut place = Arc::clone(self.pool.root_place());
        if !path.is_empty() {
            for name in path.split(|byte| *byte == b'/') {
                place = self.pool.below(&place, Name::new(name)?.as_bytes());
            }
        }
        self.last_link_source = Some((path.to_vec(), Arc::clone(&place)));
        Ok(place)
    }

    /// Gives a directory its metadata, when nothing more is created in it.
    fn seal(&self, place: &Arc<Place>, metadata: &Metadata) -> Result<()> {
        let mut refused = Vec::new();
        match self.pool.open(place) {
            Ok(directory) => attributes::apply_to_directory(&directory, metadata, &mut refused),
            Err(error) => self.outcome.left_out(PathError::new("open directory", place.path(), error))?,
        }
        self.outcome.refused(|| place.path(), refused);
        Ok(())
    }
}

fn create(directory: &Directory, name: Name<'_>, entry: &Entry) -> io::Result<()> {
    let device = entry.metadata.device_number;
    match (entry.kind, &entry.content) {
        (EntryKind::Symlink, Content::Target { path }) => directory.create_symlink(name, path),
        (EntryKind::Fifo, _) => directory.create_node(name, FileType::Fifo, 0),
        (EntryKind::Socket, _) => directory.create_node(name, FileType::Socket, 0),
        (EntryKind::CharDevice, _) => directory.create_node(name, FileType::CharacterDevice, device),
        (EntryKind::BlockDevice, _) => directory.create_node(name, FileType::BlockDevice, device),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn impossible(path: &[u8], what: &'static str) -> MaterialiseError {
    MaterialiseError::Impossible { path: path.to_vec(), what }
}
