//! Refuses everything that would change a store: for a look at a repository that must not be touched.

use crate::{Creation, Key, Listed, ObjectError, ObjectErrorKind, ObjectStore, SharedStore};
use std::ops::ControlFlow;

/// A store that can only be read.
#[derive(Debug)]
pub struct ReadOnly {
    inner: SharedStore,
}

impl ReadOnly {
    /// Wraps a store.
    pub fn new(inner: SharedStore) -> Self {
        Self { inner }
    }

    fn refuse(&self, operation: &'static str, key: &Key) -> ObjectError {
        ObjectError::new(
            ObjectErrorKind::ReadOnly,
            operation,
            key,
            self.location(),
            "opened for reading only",
        )
    }
}

impl ObjectStore for ReadOnly {
    fn create(&self, key: &Key, _bytes: &[u8]) -> Result<Creation, ObjectError> {
        Err(self.refuse("create", key))
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, ObjectError> {
        self.inner.get(key)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, ObjectError> {
        self.inner.get_range(key, offset, length)
    }

    fn head(&self, key: &Key) -> Result<Listed, ObjectError> {
        self.inner.head(key)
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), ObjectError> {
        self.inner.list(prefix, after, visit)
    }

    fn delete(&self, key: &Key) -> Result<(), ObjectError> {
        Err(self.refuse("delete", key))
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
    fn reads_pass_and_changes_do_not() {
        let memory = Arc::new(MemoryStore::new());
        let key = Key::new("a/b").unwrap();
        memory.create(&key, b"bytes").unwrap();
        let store = ReadOnly::new(memory.clone());
        assert_eq!(store.get(&key).unwrap(), b"bytes");
        assert_eq!(store.get_range(&key, 1, 2).unwrap(), b"yt");
        assert_eq!(list_all(&store, "").unwrap(), [store.head(&key).unwrap()]);
        assert_eq!(store.delete(&key).unwrap_err().kind, ObjectErrorKind::ReadOnly);
        let other = Key::new("other").unwrap();
        assert_eq!(store.create(&other, b"").unwrap_err().kind, ObjectErrorKind::ReadOnly);
        assert_eq!(list_all(&*memory, "").unwrap().len(), 1);
    }
}
