//! Restoring: a snapshot back to where people can use it. What can be known beforehand is known before the
//! first byte is written: that the place is empty, that it can be written to, that there is room.

use crate::error::{RecoveryError, Result};
use crate::samples::{Measured, Phases};
use crate::threads;
use lifeboat_base::Hint;
use lifeboat_base::clock::Stopwatch;
use lifeboat_repository::tree::{Content, Entry, EntryKind};
use lifeboat_repository::{Descend, Published, Reader, RepositoryError};
use lifeboat_store::Directory;
use lifeboat_store::exclude::{Include, Patterns};
use lifeboat_store::materialise::{self, Report, WINDOW_BYTES, materialise};
use lifeboat_store::progress::Progress;
use lifeboat_store::tree::SnapshotTree;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// How to restore.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Patterns of what to bring back; none: everything.
    pub include: Vec<String>,
    /// Restore into a place that holds something. What exists is kept and reported.
    pub force: bool,
}

/// What was restored.
#[derive(Debug)]
pub struct RestoreReport {
    /// What the restore did and could not do.
    pub report: Report,
    /// How long it took.
    pub took: Duration,
}

impl RestoreReport {
    /// What was measured, for whoever remembers it; `None` where something was left out, which took no time.
    pub fn measured(&self, resolving: Duration) -> Option<Measured> {
        let phases = Phases { resolving, files: self.took, ..Phases::default() };
        let is_whole = self.report.left_out.is_empty();
        is_whole.then_some(Measured { bytes: self.report.bytes, log_bytes: 0, phases })
    }

    /// What to do about it, where something is missing because the repository is damaged and not because of
    /// the place.
    pub fn damage_hint(&self) -> Option<String> {
        let damaged = self.report.left_out.first.iter().any(|problem| {
            let cause = problem.source.get_ref().and_then(|cause| cause.downcast_ref::<RepositoryError>());
            cause.is_some_and(RepositoryError::is_about_one_object)
        });
        damaged.then(|| RepositoryError::damaged("", "").hint())?
    }
}

/// Restores a snapshot into a folder, which is made if it does not exist.
///
/// # Errors
/// Before anything is written: where the place is not empty, cannot be written to, or has no room. After: where
/// the snapshot cannot be read or the place takes nothing more.
pub fn restore(
    reader: &Reader,
    published: &Published,
    into: &Path,
    options: &RestoreOptions,
    progress: &Progress,
) -> Result<RestoreReport> {
    let watch = Stopwatch::start();
    let include = Include::new(Patterns::parse(&options.include)?);
    check_empty(into, options.force)?;
    check_writable(into)?;
    check_space(into, reader, published, &include)?;
    std::fs::create_dir_all(into).map_err(RecoveryError::io("create", into))?;
    let target = Directory::open_root(into).map_err(RecoveryError::io("open", into))?;
    let tree = SnapshotTree { reader, snapshot: &published.snapshot, threads: threads() };
    let report = materialise(
        &tree,
        target,
        materialise::Options { include: &include, window_bytes: WINDOW_BYTES, progress },
    )?;
    Ok(RestoreReport { report, took: watch.elapsed() })
}

pub(crate) fn check_empty(into: &Path, force: bool) -> Result<()> {
    let mut listing = match std::fs::read_dir(into) {
        Ok(listing) => listing,
        // Nothing is there, unless it is a symbolic link into the void.
        Err(error) if error.kind() == ErrorKind::NotFound && into.symlink_metadata().is_err() => {
            return Ok(());
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(RecoveryError::NotAFolder(into.to_owned()));
        }
        Err(error) => return Err(RecoveryError::io("list", into)(error)),
    };
    if !force && listing.next().is_some() {
        return Err(RecoveryError::NotEmpty(into.to_owned()));
    }
    Ok(())
}

/// Whether what is selected has room, where the file system says what it has.
fn check_space(into: &Path, reader: &Reader, published: &Published, include: &Include) -> Result<()> {
    let available =
        rustix::fs::statvfs(nearest(into)).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    let available = available.unwrap_or(u64::MAX);
    // Names of one file and holes are counted there as if each took its size: an upper bound, and free.
    if include.selects_root() && published.snapshot.stats.content_bytes <= available {
        return Ok(());
    }
    let Some(needed) = needed_bytes(reader, published, include)? else {
        return Err(RecoveryError::NothingMatches(published.id.short()));
    };
    if available < needed {
        return Err(RecoveryError::NoSpace { path: into.to_owned(), available, needed });
    }
    Ok(())
}

pub(crate) fn check_writable(into: &Path) -> Result<()> {
    let existing = nearest(into);
    rustix::fs::access(existing, rustix::fs::Access::WRITE_OK)
        .map_err(|e| RecoveryError::io("write to", existing)(e.into()))
}

/// A place, or the nearest one above it that exists.
pub(crate) fn nearest(into: &Path) -> &Path {
    let existing = into.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    if existing.as_os_str().is_empty() { Path::new(".") } else { existing }
}

/// How many bytes what is selected takes, or `None` where nothing is.
fn needed_bytes(reader: &Reader, published: &Published, include: &Include) -> Result<Option<u64>> {
    let mut needed = include.selects_root().then_some(0);
    // Whether a directory is selected decides about what lies in it, so selected prefixes are remembered.
    let mut selected: Vec<Vec<u8>> = needed.iter().map(|_| Vec::new()).collect();
    let mut visit = |directory: &[u8], entry: &Entry| {
        let path = join(directory, &entry.name);
        let is_directory = entry.kind == EntryKind::Directory;
        let above = selected.iter().any(|prefix| prefix.as_slice() == directory);
        let chosen = include.selects(&path, is_directory, above);
        if chosen {
            *needed.get_or_insert(0) += occupied(entry);
        }
        if is_directory {
            selected.retain(|prefix| directory.starts_with(prefix.as_slice()) || prefix.is_empty());
            if chosen {
                selected.push(path.clone());
            }
        }
        let descend = chosen || include.may_select_below(&path);
        Ok::<_, RepositoryError>(if descend { Descend::Yes } else { Descend::No })
    };
    // What is lost with a damaged listing takes no room; the restore itself names it.
    let mut lost = None;
    reader.walk_what_is_left(&published.snapshot, &mut visit, &mut |_, error| {
        lost.get_or_insert(error);
        Ok(())
    })?;
    match (needed, lost) {
        // What was asked for may be in the part that is lost.
        (None, Some(error)) => Err(error.into()),
        _ => Ok(needed),
    }
}

/// What an entry takes on disk, in bytes, as far as its content says: a further name of a file and the holes
/// of a sparse one take nothing.
fn occupied(entry: &Entry) -> u64 {
    match &entry.content {
        Content::Chunks { extents, .. } if !extents.is_empty() => extents.iter().map(|e| e.length).sum(),
        Content::Chunks { .. } | Content::Pages { .. } => entry.size,
        _ => 0,
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
