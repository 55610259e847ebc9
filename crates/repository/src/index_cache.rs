//! Small index objects that this process has read before.
//!
//! A process that takes a thousand small snapshots an hour would otherwise open and verify every index object for
//! each of them, which is most of what such a snapshot costs. An index object is named by its content and never
//! changed, so that one that was read and believed stays what it is; whether it is still there and not dead, the listing
//! and the verdicts say each time. What a changed roster says of its writer could differ: then everything is forgotten.
//!
//! Only writers and readers use it. Prune and check read what is really there.

use crate::ids::BulkName;
use crate::index::IndexedPack;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Larger ones are few, and cost little for what they say.
const MAX_OBJECT_BYTES: usize = 32 << 10;
/// All of them together, as stored; decoded they take about three times as much.
const MAX_BYTES: usize = 4 << 20;

/// The objects that were read.
#[derive(Debug, Default)]
pub(crate) struct IndexCache(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    roster: u64,
    bytes: usize,
    objects: HashMap<BulkName, Arc<[IndexedPack]>>,
}

impl IndexCache {
    fn lock(&self, roster: u64) -> MutexGuard<'_, Inner> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.roster != roster {
            *inner = Inner { roster, ..Inner::default() };
        }
        inner
    }

    /// What an object says, where it was read under this roster.
    pub(crate) fn get(&self, roster: u64, name: &BulkName) -> Option<Arc<[IndexedPack]>> {
        self.lock(roster).objects.get(name).cloned()
    }

    /// Remembers what an object of so many bytes says. Where there is no room, all make room: that is rare, and what is
    /// needed again is soon read again.
    pub(crate) fn keep(&self, roster: u64, name: BulkName, packs: &[IndexedPack], bytes: usize) {
        if bytes > MAX_OBJECT_BYTES {
            return;
        }
        let mut inner = self.lock(roster);
        if inner.bytes + bytes > MAX_BYTES {
            *inner = Inner { roster, ..Inner::default() };
        }
        inner.bytes += bytes;
        inner.objects.insert(name, packs.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u8) -> BulkName {
        BulkName::of(&[n])
    }

    #[test]
    fn what_was_read_is_remembered_until_the_roster_changes() {
        let cache = IndexCache::default();
        assert_eq!(cache.get(1, &name(1)), None);
        cache.keep(1, name(1), &[], 100);
        assert!(cache.get(1, &name(1)).is_some());
        assert_eq!(cache.get(2, &name(1)), None);
        assert_eq!(cache.get(1, &name(1)), None);
    }

    #[test]
    fn it_takes_no_more_room_than_it_may() {
        let cache = IndexCache::default();
        cache.keep(1, name(0), &[], MAX_OBJECT_BYTES + 1);
        assert_eq!(cache.get(1, &name(0)), None, "too large");
        for n in 0..=(MAX_BYTES / MAX_OBJECT_BYTES) {
            cache.keep(1, name(n as u8), &[], MAX_OBJECT_BYTES);
            assert!(cache.get(1, &name(n as u8)).is_some());
            assert!(cache.lock(1).bytes <= MAX_BYTES);
        }
        assert_eq!(cache.get(1, &name(0)), None, "made room");
    }
}
