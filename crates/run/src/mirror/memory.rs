//! A mirror in memory: for tests, and the plainest form of what [`Mirror`] promises.

use super::{Created, Mirror, MirrorError, Slot};
use crate::ids::RunId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A mirror in memory. Clones share it; whether it can be reached is each one's own.
#[derive(Clone, Debug, Default)]
pub struct MemoryMirror {
    slots: Arc<Mutex<BTreeMap<Slot, Vec<u8>>>>,
    is_away: Arc<AtomicBool>,
}

impl MemoryMirror {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same slots as another machine reaches them.
    #[must_use]
    pub fn from_elsewhere(&self) -> Self {
        Self { slots: self.slots.clone(), is_away: Arc::default() }
    }

    /// Takes it away, or brings it back.
    pub fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    fn lock(&self) -> Result<MutexGuard<'_, BTreeMap<Slot, Vec<u8>>>, MirrorError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(MirrorError::new("reach the mirror", "it is away"));
        }
        Ok(self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Mirror for MemoryMirror {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn create(&self, slot: &Slot, bytes: &[u8]) -> Result<Created, MirrorError> {
        let mut slots = self.lock()?;
        if let Some(there) = slots.get(slot) {
            return Ok(Created::Taken(there.clone()));
        }
        slots.insert(slot.clone(), bytes.to_vec());
        Ok(Created::Created)
    }

    fn read(&self, slot: &Slot) -> Result<Option<Vec<u8>>, MirrorError> {
        Ok(self.lock()?.get(slot).cloned())
    }

    fn runs(&self) -> Result<Vec<RunId>, MirrorError> {
        let runs: BTreeSet<RunId> = self.lock()?.keys().map(|slot| slot.run.clone()).collect();
        Ok(runs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_in_memory_keeps_what_mirrors_promise() {
        super::super::conformance::check(&MemoryMirror::new());
    }
}
