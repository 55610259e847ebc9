//! How far a snapshot or a restore is, for whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counted along by those who work, read by whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    /// Another entry is done.
    pub fn count_entry(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    /// More bytes were read or written.
    pub fn count_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many entries are done.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// How many bytes were read or written.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
