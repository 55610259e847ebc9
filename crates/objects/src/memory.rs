//! A store in memory: the reference that the other implementations are compared with, and what tests use.

use crate::{Creation, Key, Listed, MAX_OBJECT_BYTES, ObjectError, ObjectErrorKind, ObjectStore};
use lifeboat_base::clock::{Clock, Timestamp};
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Debug)]
struct Held {
    bytes: Arc<[u8]>,
    arrived: Timestamp,
}

/// A store in memory. Clones of the [`std::sync::Arc`] around it share its objects.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<Key, Held>>,
    clock: Clock,
}

impl MemoryStore {
    /// An empty store that dates arrivals by the machine's clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that dates arrivals by `clock`.
    pub fn with_clock(clock: Clock) -> Self {
        Self { objects: Mutex::default(), clock }
    }

    /// Replaces an object's bytes behind the trait's back, as rot or an attacker would. For tests.
    pub fn overwrite(&self, key: &Key, bytes: &[u8]) {
        let arrived = self.clock.now();
        self.lock().insert(key.clone(), Held { bytes: bytes.into(), arrived });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Held>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self, operation: &'static str, key: &Key) -> Result<Held, ObjectError> {
        let held = self.lock().get(key).cloned();
        held.ok_or_else(|| {
            ObjectError::new(ObjectErrorKind::NotFound, operation, key, "memory:", "no such object")
        })
    }
}

impl ObjectStore for MemoryStore {
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Creation, ObjectError> {
        if bytes.len() > MAX_OBJECT_BYTES {
            return Err(ObjectError::oversized("create", key, self.location(), bytes.len() as u64));
        }
        let arrived = self.clock.now();
        let mut objects = self.lock();
        if objects.contains_key(key) {
            return Ok(Creation::Existed);
        }
        objects.insert(key.clone(), Held { bytes: bytes.into(), arrived });
        Ok(Creation::Created)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, ObjectError> {
        Ok(self.held("get", key)?.bytes.to_vec())
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, ObjectError> {
        let held = self.held("get", key)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let range = start.checked_add(length).and_then(|end| held.bytes.get(start..end));
        range.map(<[u8]>::to_vec).ok_or_else(|| {
            let what = format!("{length} bytes from {offset} of an object of {}", held.bytes.len());
            ObjectError::new(ObjectErrorKind::Truncated, "get", key, self.location(), what)
        })
    }

    fn head(&self, key: &Key) -> Result<Listed, ObjectError> {
        let held = self.held("head", key)?;
        Ok(Listed { key: key.clone(), size_bytes: held.bytes.len() as u64, arrived: held.arrived })
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), ObjectError> {
        let lower = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.clone()));
        let listing: Vec<Listed> = self
            .lock()
            .range((lower, Bound::Unbounded))
            .filter(|(key, _)| key.as_str().starts_with(prefix))
            .map(|(key, held)| Listed {
                key: key.clone(),
                size_bytes: held.bytes.len() as u64,
                arrived: held.arrived,
            })
            .collect();
        for listed in listing {
            if visit(listed).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn delete(&self, key: &Key) -> Result<(), ObjectError> {
        self.lock().remove(key);
        Ok(())
    }

    fn location(&self) -> String {
        "memory:".to_owned()
    }
}
