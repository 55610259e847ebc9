//! What is to be fetched next and where it goes: one window of a restore.
//!
//! A window is bounded in memory. Within it the repository may deliver in any order and from several
//! threads; a file is created with its first piece and gets its metadata with its last.

use super::outcome::Outcome;
use super::place::{Place, Pool};
use crate::attributes::{self, Creator};
use crate::directory::{Directory, Name};
use crate::error::PathError;
use crate::progress::Progress;
use crate::writeback;
use lifeboat_base::failpoint;
use lifeboat_repository::tree::{Entry, Metadata};
use lifeboat_repository::{Piece, RepositoryError, Request};
use rustix::fs::Mode;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many files of several pieces stay open at once.
const OPEN_FILES_MAX: usize = 128;
/// After so many bytes of a file the disk is to begin with them.
const WRITE_OUT_BYTES: u64 = 8 << 20;
/// What is counted for one file besides its name and attributes, in bytes: the slot and its allocations.
const FILE_COST: usize = size_of::<FileSlot>() + 64;
/// What is counted for a piece, in bytes: while it is fetched, the repository holds each request twice more,
/// with where it was found.
const PIECE_COST: usize = 3 * size_of::<Request>() + 32 + size_of::<Destination>();
/// What is counted for a directory or link besides its path, in bytes.
const ITEM_COST: usize = 256;

/// A file that is being restored.
#[derive(Debug)]
pub(super) struct FileSlot {
    place: Arc<Place>,
    name: Box<[u8]>,
    size: u64,
    metadata: Metadata,
    state: Mutex<FileState>,
}

#[derive(Debug, Default)]
struct FileState {
    handle: Option<OwnedFd>,
    created: bool,
    /// Whether it was created writable, whatever its mode shall be.
    reopenable: bool,
    /// Whether it is among the files that may be closed when there are too many.
    queued: bool,
    /// Given up; what still comes of it is passed over.
    failed: bool,
    /// Pieces that have not been written, plus one while more may be planned.
    left: u64,
    /// Where the data ends so far.
    end: u64,
    /// Bytes that were written since the disk was last told to begin, and the part of the file that holds them.
    waiting: u64,
    waiting_in: Option<Range<u64>>,
}

impl FileState {
    /// Counts what was written; gives the part of the file that the disk is to begin with, once it is much.
    fn waits(&mut self, written: Range<u64>) -> Option<Range<u64>> {
        self.waiting += written.end - written.start;
        let before = self.waiting_in.take().unwrap_or_else(|| written.clone());
        let part = before.start.min(written.start)..before.end.max(written.end);
        if self.waiting < WRITE_OUT_BYTES {
            self.waiting_in = Some(part);
            return None;
        }
        self.waiting = 0;
        Some(part)
    }
}

/// Where a piece goes.
#[derive(Clone, Copy, Debug)]
struct Destination {
    file: u32,
    length: u32,
    offset: u64,
}

impl Destination {
    /// Whether `next` is the same file's, directly behind this.
    fn goes_on(&self, next: &Self) -> bool {
        self.file == next.file && self.offset.checked_add(u64::from(self.length)) == Some(next.offset)
    }
}

/// A further name of a file that is in the target, or will be after this window.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) place: Arc<Place>,
    pub(super) name: Box<[u8]>,
    pub(super) target: Vec<u8>,
}

/// One window.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) requests: Vec<Request>,
    destinations: Vec<Destination>,
    files: Vec<FileSlot>,
    pub(super) links: Vec<Link>,
    /// Directories in which all is planned, what lies deeper first.
    pub(super) complete: Vec<(Arc<Place>, Metadata)>,
    open: Mutex<VecDeque<u32>>,
    cost: usize,
}

impl Plan {
    /// About how many bytes of memory the window takes.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    pub(super) fn add_link(&mut self, link: Link) {
        self.cost += ITEM_COST + link.target.len();
        self.links.push(link);
    }

    pub(super) fn add_complete(&mut self, place: Arc<Place>, metadata: Metadata) {
        self.cost += ITEM_COST + metadata_cost(&metadata);
        self.complete.push((place, metadata));
    }

    /// Begins a file: pieces may follow, then [`Plan::end_file`].
    pub(super) fn begin_file(&mut self, place: &Arc<Place>, entry: &Entry) {
        self.cost += FILE_COST + entry.name.len() + metadata_cost(&entry.metadata);
        self.files.push(FileSlot {
            place: Arc::clone(place),
            name: entry.name.as_slice().into(),
            size: entry.size,
            metadata: entry.metadata.clone(),
            state: Mutex::new(FileState { left: 1, ..FileState::default() }),
        });
    }

    /// Plans a piece of the file begun last.
    pub(super) fn add_piece(&mut self, piece: Piece) {
        let Some(file) = self.files.last_mut() else { return };
        let state = file.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.left += 1;
        state.end = state.end.max(piece.offset.saturating_add(u64::from(piece.length)));
        let file = u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX);
        let token = self.destinations.len() as u64;
        self.requests.push(Request { source: piece.source, length: piece.length, token });
        self.destinations.push(Destination { file, length: piece.length, offset: piece.offset });
        self.cost += PIECE_COST;
    }

    /// Where the pieces of some tokens go.
    fn destinations_of(&self, tokens: Range<u64>) -> &[Destination] {
        let place = |token| usize::try_from(token).unwrap_or(usize::MAX);
        self.destinations.get(place(tokens.start)..place(tokens.end)).unwrap_or_default()
    }

    /// No piece of the file begun last follows. Gives back whether all of them are written already, so that
    /// [`Writer::finish_last`] is due.
    pub(super) fn end_file(&mut self) -> bool {
        self.files.last_mut().is_some_and(|file| {
            let state = file.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            state.left -= 1;
            state.left == 0
        })
    }

    /// A new window, which takes over a file that is still being planned.
    pub(super) fn next(mut self) -> Self {
        let mut next = Self::default();
        if let Some(mut file) = self.files.pop() {
            let state = file.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            state.handle = None;
            state.queued = false;
            if state.left > 0 {
                next.cost = FILE_COST + file.name.len() + metadata_cost(&file.metadata);
                next.files.push(file);
            }
        }
        next
    }

    /// A file that is not whole although all was delivered, if there is one.
    pub(super) fn unfinished(&mut self, planning: bool) -> Option<Vec<u8>> {
        let still_planned = usize::from(planning);
        let count = self.files.len() - still_planned.min(self.files.len());
        self.files[..count]
            .iter_mut()
            .find_map(|file| {
                (file.state.get_mut().unwrap_or_else(PoisonError::into_inner).left > 0).then_some(file)
            })
            .map(|file| file.place.path_of(&file.name))
    }
}

fn metadata_cost(metadata: &Metadata) -> usize {
    metadata.xattrs.iter().map(|xattr| size_of_val(xattr) + xattr.name.len() + xattr.value.len() + 32).sum()
}

/// Writes what is delivered.
#[derive(Clone, Copy)]
pub(super) struct Writer<'a> {
    pub(super) pool: &'a Pool,
    pub(super) creator: Creator,
    pub(super) outcome: &'a Outcome,
    pub(super) progress: &'a Progress,
}

impl Writer<'_> {
    /// Writes the bytes of requests that follow each other: in as few pieces as there are places for them.
    pub(super) fn deliver(self, plan: &Plan, tokens: Range<u64>, mut bytes: &[u8]) -> Result<(), PathError> {
        for run in plan.destinations_of(tokens).chunk_by(Destination::goes_on) {
            let length: usize = run.iter().map(|destination| destination.length as usize).sum();
            let (of_run, rest) = bytes.split_at(length.min(bytes.len()));
            bytes = rest;
            self.deliver_run(plan, run, of_run)?;
        }
        Ok(())
    }

    /// Writes what lies together in one file.
    fn deliver_run(self, plan: &Plan, run: &[Destination], bytes: &[u8]) -> Result<(), PathError> {
        let Some(first) = run.first() else { return Ok(()) };
        let slot = &plan.files[first.file as usize];
        let mut state = lock(slot);
        state.left = state.left.saturating_sub(run.len() as u64);
        if state.failed {
            return Ok(());
        }
        let written = self.write_piece(plan, *first, slot, &mut state, bytes);
        written.or_else(|error| self.give_up(slot, &mut state, "write", error))
    }

    /// Gives up the file that a request was for, which the repository cannot answer.
    pub(super) fn lose(self, plan: &Plan, token: u64, error: RepositoryError) -> Result<(), PathError> {
        let Some(destination) = plan.destinations_of(token..token.saturating_add(1)).first() else {
            return Ok(());
        };
        let slot = &plan.files[destination.file as usize];
        let mut state = lock(slot);
        state.left = state.left.saturating_sub(1);
        self.lose_file(slot, &mut state, error)
    }

    /// Gives up the file begun last, of which the repository cannot even say what it consists of.
    pub(super) fn lose_last(self, plan: &Plan, error: RepositoryError) -> Result<(), PathError> {
        plan.files.last().map_or(Ok(()), |slot| self.lose_file(slot, &mut lock(slot), error))
    }

    /// However many pieces of a file are lost, it is noted once.
    fn lose_file(
        self,
        slot: &FileSlot,
        state: &mut FileState,
        error: RepositoryError,
    ) -> Result<(), PathError> {
        if state.failed { Ok(()) } else { self.give_up(slot, state, "read", io::Error::other(error)) }
    }

    /// Completes the file begun last, of which nothing is left to write.
    pub(super) fn finish_last(self, plan: &Plan) -> Result<(), PathError> {
        let Some(slot) = plan.files.last() else { return Ok(()) };
        let mut state = lock(slot);
        if state.failed {
            return Ok(());
        }
        let finished = self.handle(slot, &mut state).and_then(|handle| self.finish(slot, &state, handle));
        finished.or_else(|error| self.give_up(slot, &mut state, "write", error))
    }

    fn write_piece(
        self,
        plan: &Plan,
        destination: Destination,
        slot: &FileSlot,
        state: &mut FileState,
        bytes: &[u8],
    ) -> io::Result<()> {
        let handle = self.handle(slot, state)?;
        write_all_at(&handle, bytes, destination.offset)?;
        self.progress.count_bytes(bytes.len() as u64);
        let written = destination.offset..destination.offset + bytes.len() as u64;
        if let Some(part) = state.waits(written) {
            writeback::begin(&handle, &part);
        }
        if state.left == 0 {
            return self.finish(slot, state, handle);
        }
        state.handle = Some(handle);
        if !std::mem::replace(&mut state.queued, true) {
            limit_open_files(plan, destination.file);
        }
        Ok(())
    }

    /// The file, created where it does not exist and opened again where it was closed meanwhile.
    fn handle(self, slot: &FileSlot, state: &mut FileState) -> io::Result<OwnedFd> {
        if let Some(handle) = state.handle.take() {
            return Ok(handle);
        }
        let directory = self.pool.open(&slot.place)?;
        let name = Name::new(&slot.name)?;
        if state.created {
            return directory.reopen_file(name);
        }
        // Closed and opened again, it must be writable in between.
        state.reopenable = state.left > 0;
        let more = if state.reopenable { Mode::WUSR } else { Mode::empty() };
        let handle = directory.create_file(name, self.creator.initial_mode(&slot.metadata) | more)?;
        state.created = true;
        Ok(handle)
    }

    fn finish(self, slot: &FileSlot, state: &FileState, handle: OwnedFd) -> io::Result<()> {
        failpoint::reach("store::file-written")?;
        if state.end != slot.size {
            rustix::fs::ftruncate(&handle, slot.size)?;
        }
        let mut refused = Vec::new();
        let creator = if state.reopenable { self.creator.without_mode() } else { self.creator };
        attributes::apply_to_file(&handle, &slot.metadata, creator, &mut refused);
        self.outcome.refused(|| slot.place.path_of(&slot.name), refused);
        self.outcome.count(self.progress, |report| {
            report.files += 1;
            report.bytes += state.end.min(slot.size);
        });
        Ok(())
    }

    /// Notes that a file is not restored, and takes away what there is of it: half a file looks whole.
    fn give_up(
        self,
        slot: &FileSlot,
        state: &mut FileState,
        operation: &'static str,
        error: io::Error,
    ) -> Result<(), PathError> {
        state.failed = true;
        state.handle = None;
        if state.created {
            let removed = self.pool.open(&slot.place).and_then(|directory| remove(&directory, &slot.name));
            if let Err(error) = removed {
                self.outcome.left_out(PathError::new("remove", slot.place.path_of(&slot.name), error))?;
            }
        }
        self.outcome.left_out(PathError::new(operation, slot.place.path_of(&slot.name), error))
    }
}

/// A file opened a while ago is closed when there are too many.
fn limit_open_files(plan: &Plan, newest: u32) {
    let mut open = plan.open.lock().unwrap_or_else(PoisonError::into_inner);
    open.push_back(newest);
    if open.len() <= OPEN_FILES_MAX {
        return;
    }
    let Some(oldest) = open.pop_front() else { return };
    // Never waited for: the thread that holds it may be waiting for the queue.
    match plan.files[oldest as usize].state.try_lock() {
        Ok(mut state) => {
            state.handle = None;
            state.queued = false;
        }
        Err(_) => open.push_back(oldest),
    }
}

fn remove(directory: &Directory, name: &[u8]) -> io::Result<()> {
    directory.remove_file(Name::new(name)?)
}

fn lock(slot: &FileSlot) -> MutexGuard<'_, FileState> {
    slot.state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_all_at(handle: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(handle, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_told_of_the_part_that_was_written_since() {
        let mut state = FileState::default();
        let half = WRITE_OUT_BYTES / 2;
        assert_eq!(state.waits(half..2 * half), None);
        assert_eq!(state.waits(0..half), Some(0..2 * half), "in any order");
        assert_eq!(state.waits(5 * half..6 * half), None);
        assert_eq!(state.waits(6 * half..8 * half), Some(5 * half..8 * half));
    }
}
