//! SQLite's locks on a database file, taken as open-file-description locks.
//!
//! SQLite itself uses POSIX locks, which belong to a process and vanish when the process closes *any* handle of
//! the file. Locks of an open file description conflict with them on the same bytes, and vanish only with their
//! own handle. So this process can hold SHARED without a SQLite connection, which would roll back a journal
//! that it finds.
//!
//! Knows the bytes and the order in which they are taken, and nothing of what lies under the lock.

use lifeboat_base::clock::Stopwatch;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

const PENDING: Range = Range { start: 0x4000_0000, length: 1 };
const RESERVED: Range = Range { start: 0x4000_0001, length: 1 };
const SHARED: Range = Range { start: 0x4000_0002, length: 510 };

/// The pause between two attempts grows from the first to the second: a commit takes milliseconds.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(5));

#[derive(Clone, Copy)]
struct Range {
    start: libc::off_t,
    length: libc::off_t,
}

/// SHARED on a database: while it is held, nobody can change the database in rollback mode, delete its WAL, or
/// move it from one mode to the other. Given back when dropped.
#[derive(Debug)]
pub(crate) struct SharedLock {
    file: Arc<File>,
    held: Stopwatch,
}

impl SharedLock {
    /// Takes SHARED as SQLite does, trying again for `patience`; `None` if somebody held it off for so long.
    pub(crate) fn take(file: &Arc<File>, patience: Duration) -> io::Result<Option<Self>> {
        let waiting = Stopwatch::start();
        let mut pause = RETRY.0;
        loop {
            if try_shared(file)? {
                return Ok(Some(Self { file: Arc::clone(file), held: Stopwatch::start() }));
            }
            if waiting.elapsed() >= patience {
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// For how long it has been held.
    pub(crate) fn held(&self) -> Duration {
        self.held.elapsed()
    }

    /// Whether somebody else holds RESERVED: a writer is preparing a transaction.
    pub(crate) fn reserved_elsewhere(&self) -> io::Result<bool> {
        would_block(&self.file, RESERVED)
    }

    /// Whether somebody else holds SHARED, as each connection in WAL mode does from its first read on.
    pub(crate) fn shared_elsewhere(&self) -> io::Result<bool> {
        would_block(&self.file, SHARED)
    }
}

impl Drop for SharedLock {
    fn drop(&mut self) {
        // Should it fail, the lock goes with the handle.
        let _ = set(&self.file, SHARED, libc::F_UNLCK);
    }
}

/// A read lock on PENDING keeps a waiting writer's turn: it fails while one waits for readers to leave.
fn try_shared(file: &File) -> io::Result<bool> {
    if !set(file, PENDING, libc::F_RDLCK)? {
        return Ok(false);
    }
    let shared = set(file, SHARED, libc::F_RDLCK);
    set(file, PENDING, libc::F_UNLCK)?;
    shared
}

/// Sets a lock; `false` where somebody else's is in the way.
fn set(file: &File, range: Range, kind: libc::c_int) -> io::Result<bool> {
    match fcntl(file, libc::F_OFD_SETLK, range, kind) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether somebody else's lock would be in the way of a write lock.
fn would_block(file: &File, range: Range) -> io::Result<bool> {
    let found = fcntl(file, libc::F_OFD_GETLK, range, libc::F_WRLCK)?;
    Ok(libc::c_int::from(found.l_type) != libc::F_UNLCK)
}

fn fcntl(file: &File, command: libc::c_int, range: Range, kind: libc::c_int) -> io::Result<libc::flock> {
    let mut lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: range.start,
        l_len: range.length,
        // The kernel asks for zero with this kind of lock.
        l_pid: 0,
    };
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and both commands take a pointer to a
    // `flock` that they read and fill; `lock` is one, and outlives the call.
    #[expect(unsafe_code, reason = "neither std nor rustix locks ranges for an open file description")]
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(lock) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path) -> Arc<File> {
        Arc::new(File::options().read(true).write(true).open(path).unwrap())
    }

    #[test]
    fn shared_goes_with_shared_and_waits_for_pending_and_exclusive() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (ours, other) = (open(file.path()), open(file.path()));
        let lock = SharedLock::take(&ours, Duration::ZERO).unwrap().unwrap();
        assert!(!lock.shared_elsewhere().unwrap());
        let second = SharedLock::take(&other, Duration::ZERO).unwrap().unwrap();
        assert!(lock.shared_elsewhere().unwrap());
        assert!(!set(&other, SHARED, libc::F_WRLCK).unwrap(), "nobody gets EXCLUSIVE under SHARED");
        drop((lock, second));
        for range in [PENDING, SHARED] {
            assert!(set(&other, range, libc::F_WRLCK).unwrap());
            assert!(SharedLock::take(&ours, Duration::ZERO).unwrap().is_none());
            assert!(set(&other, range, libc::F_UNLCK).unwrap());
        }
        assert!(SharedLock::take(&ours, Duration::ZERO).unwrap().is_some());
    }

    #[test]
    fn reserved_is_seen_and_does_not_hold_off_shared() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (ours, other) = (open(file.path()), open(file.path()));
        let lock = SharedLock::take(&ours, Duration::ZERO).unwrap().unwrap();
        assert!(!lock.reserved_elsewhere().unwrap());
        assert!(set(&other, RESERVED, libc::F_WRLCK).unwrap());
        assert!(lock.reserved_elsewhere().unwrap());
    }
}
