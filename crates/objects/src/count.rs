//! Counts requests and bytes, so that a test or a benchmark can state what an operation cost.

use crate::{Creation, Key, Listed, ObjectError, ObjectStore, SharedStore};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

/// What one kind of request came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests made, failed ones included.
    pub requests: u64,
    /// Requests that ended in an error.
    pub failed: u64,
    /// Bytes of objects given or received by the ones that succeeded. For a listing: the objects visited.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, bytes: Option<u64>) {
        self.requests += 1;
        self.failed += u64::from(bytes.is_none());
        self.bytes += bytes.unwrap_or(0);
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            failed: self.failed.saturating_sub(earlier.failed),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}

/// What every kind of request came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects created or found to exist; the bytes are counted only for the created.
    pub create: Tally,
    /// Whole objects read.
    pub get: Tally,
    /// Parts of objects read.
    pub get_range: Tally,
    /// Sizes asked for.
    pub head: Tally,
    /// Listings; their `bytes` are objects visited.
    pub list: Tally,
    /// Objects deleted.
    pub delete: Tally,
}

impl Counts {
    /// Bytes of objects read, whole and in parts.
    pub fn bytes_read(&self) -> u64 {
        self.get.bytes + self.get_range.bytes
    }

    /// Bytes of objects created.
    pub fn bytes_written(&self) -> u64 {
        self.create.bytes
    }

    /// Requests of every kind.
    pub fn requests(&self) -> u64 {
        let all = [self.create, self.get, self.get_range, self.head, self.list, self.delete];
        all.iter().map(|tally| tally.requests).sum()
    }

    /// What came between `earlier` and these counts.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            create: self.create.since(earlier.create),
            get: self.get.since(earlier.get),
            get_range: self.get_range.since(earlier.get_range),
            head: self.head.since(earlier.head),
            list: self.list.since(earlier.list),
            delete: self.delete.since(earlier.delete),
        }
    }
}

/// A store that counts.
#[derive(Debug)]
pub struct Counted {
    inner: SharedStore,
    counts: Mutex<Counts>,
}

impl Counted {
    /// Wraps a store.
    pub fn new(inner: SharedStore) -> Self {
        Self { inner, counts: Mutex::default() }
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, which: impl FnOnce(&mut Counts) -> &mut Tally, bytes: Option<u64>) {
        which(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner)).add(bytes);
    }
}

impl ObjectStore for Counted {
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Creation, ObjectError> {
        let outcome = self.inner.create(key, bytes);
        let stored = outcome.as_ref().ok().map(|creation| match creation {
            Creation::Created => bytes.len() as u64,
            Creation::Existed => 0,
        });
        self.note(|counts| &mut counts.create, stored);
        outcome
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, ObjectError> {
        let outcome = self.inner.get(key);
        self.note(|counts| &mut counts.get, outcome.as_ref().ok().map(|bytes| bytes.len() as u64));
        outcome
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, ObjectError> {
        let outcome = self.inner.get_range(key, offset, length);
        self.note(|counts| &mut counts.get_range, outcome.as_ref().ok().map(|bytes| bytes.len() as u64));
        outcome
    }

    fn head(&self, key: &Key) -> Result<Listed, ObjectError> {
        let outcome = self.inner.head(key);
        self.note(|counts| &mut counts.head, outcome.as_ref().ok().map(|_| 0));
        outcome
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), ObjectError> {
        let mut visited = 0;
        let outcome = self.inner.list(prefix, after, &mut |listed| {
            visited += 1;
            visit(listed)
        });
        self.note(|counts| &mut counts.list, outcome.as_ref().ok().map(|()| visited));
        outcome
    }

    fn delete(&self, key: &Key) -> Result<(), ObjectError> {
        let outcome = self.inner.delete(key);
        self.note(|counts| &mut counts.delete, outcome.as_ref().ok().map(|()| 0));
        outcome
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn parallelism(&self) -> usize {
        self.inner.parallelism()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list_all;
    use crate::memory::MemoryStore;
    use std::sync::Arc;

    #[test]
    fn every_request_and_byte_is_counted() {
        let store = Counted::new(Arc::new(MemoryStore::new()));
        let key = Key::new("a").unwrap();
        store.create(&key, b"12345").unwrap();
        store.create(&key, b"12345").unwrap();
        let before = store.counts();
        store.get(&key).unwrap();
        store.get_range(&key, 1, 3).unwrap();
        store.get_range(&key, 4, 3).unwrap_err();
        store.head(&key).unwrap();
        list_all(&store, "").unwrap();
        store.delete(&key).unwrap();
        let counts = store.counts().since(&before);
        assert_eq!(counts.bytes_read(), 8);
        assert_eq!(counts.get_range, Tally { requests: 2, failed: 1, bytes: 3 });
        assert_eq!(counts.list, Tally { requests: 1, failed: 0, bytes: 1 });
        assert_eq!((counts.requests(), counts.bytes_written()), (6, 0));
        assert_eq!(store.counts().create, Tally { requests: 2, failed: 0, bytes: 5 });
    }
}
