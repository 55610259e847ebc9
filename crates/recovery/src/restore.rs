//! Restoring: a snapshot back to where people can use it. What can be known beforehand is known before the
//! first byte is written: that the place is empty, that it can be written to, that there is room.

use crate::error::{RecoveryError, Result};
use crate::threads;
use lifeboat_base::clock::Stopwatch;
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
    let needed = needed_bytes(reader, published, &include)?;
    if needed.is_none() {
        return Err(RecoveryError::NothingMatches(published.id.short()));
    }
    check_space(into, needed.unwrap_or(0))?;
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

fn check_empty(into: &Path, force: bool) -> Result<()> {
    let mut listing = match std::fs::read_dir(into) {
        Ok(listing) => listing,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(RecoveryError::io("list", into)(error)),
    };
    if !force && listing.next().is_some() {
        return Err(RecoveryError::NotEmpty(into.to_owned()));
    }
    Ok(())
}

/// How many bytes what is selected takes, or `None` where nothing is.
fn needed_bytes(reader: &Reader, published: &Published, include: &Include) -> Result<Option<u64>> {
    if include.selects_root() {
        return Ok(Some(published.snapshot.stats.content_bytes));
    }
    let mut needed = None;
    // Whether a directory is selected decides about what lies in it, so selected prefixes are remembered.
    let mut selected: Vec<Vec<u8>> = Vec::new();
    reader.walk(&published.snapshot, &mut |directory, entry| {
        let path = join(directory, &entry.name);
        let is_directory = entry.kind == lifeboat_repository::tree::EntryKind::Directory;
        let above = selected.iter().any(|prefix| prefix.as_slice() == directory);
        let chosen = include.selects(&path, is_directory, above);
        if chosen {
            *needed.get_or_insert(0) += if is_directory { 0 } else { entry.size };
        }
        if is_directory {
            selected.retain(|prefix| directory.starts_with(prefix.as_slice()) || prefix.is_empty());
            if chosen {
                selected.push(path.clone());
            }
        }
        let descend = chosen || include.may_select_below(&path);
        Ok::<_, RepositoryError>(if descend { Descend::Yes } else { Descend::No })
    })?;
    Ok(needed)
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// Room for the content and a little more, where the file system says what it has.
fn check_space(into: &Path, needed: u64) -> Result<()> {
    let existing = into.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    rustix::fs::access(existing, rustix::fs::Access::WRITE_OK)
        .map_err(|e| RecoveryError::io("write to", existing)(e.into()))?;
    let Ok(stat) = rustix::fs::statvfs(existing) else { return Ok(()) };
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    if available < needed {
        return Err(RecoveryError::NoSpace { path: into.to_owned(), available, needed });
    }
    Ok(())
}
