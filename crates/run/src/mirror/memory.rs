//! A mirror in memory: for tests, and the plainest form of what [`Mirror`] promises.

use super::{Created, Left, Mirror, MirrorError, Slot, check_length, check_same};
use crate::ids::{RequestId, RunId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct Holds {
    slots: BTreeMap<Slot, Vec<u8>>,
    requests: BTreeMap<(RunId, RequestId), Vec<u8>>,
}

/// A mirror in memory. Clones share it; whether it can be reached is each one's own.
#[derive(Clone, Debug, Default)]
pub struct MemoryMirror {
    holds: Arc<Mutex<Holds>>,
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
        Self { holds: self.holds.clone(), is_away: Arc::default() }
    }

    /// Takes it away, or brings it back.
    pub fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    fn lock(&self) -> Result<MutexGuard<'_, Holds>, MirrorError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(MirrorError::new("reach the mirror", "it is away"));
        }
        Ok(self.holds.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Mirror for MemoryMirror {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn create(&self, slot: &Slot, bytes: &[u8]) -> Result<Created, MirrorError> {
        let mut holds = self.lock()?;
        if let Some(there) = holds.slots.get(slot) {
            return Ok(Created::Taken(there.clone()));
        }
        holds.slots.insert(slot.clone(), bytes.to_vec());
        Ok(Created::Created)
    }

    fn read(&self, slot: &Slot) -> Result<Option<Vec<u8>>, MirrorError> {
        Ok(self.lock()?.slots.get(slot).cloned())
    }

    fn runs(&self) -> Result<Vec<RunId>, MirrorError> {
        let runs: BTreeSet<RunId> = self.lock()?.slots.keys().map(|slot| slot.run.clone()).collect();
        Ok(runs.into_iter().collect())
    }

    fn leave(&self, run: &RunId, id: &RequestId, bytes: &[u8]) -> Result<(), MirrorError> {
        check_length(bytes)?;
        let mut holds = self.lock()?;
        check_same(holds.requests.entry((run.clone(), *id)).or_insert_with(|| bytes.to_vec()), bytes)
    }

    fn requests(&self, run: &RunId, most: usize) -> Result<Vec<RequestId>, MirrorError> {
        let holds = self.lock()?;
        let ids = holds.requests.keys().filter(|(of, _)| of == run).map(|(_, id)| *id);
        Ok(ids.take(most).collect())
    }

    fn request(&self, run: &RunId, id: &RequestId) -> Result<Option<Left>, MirrorError> {
        let left = self.lock()?.requests.get(&(run.clone(), *id)).cloned();
        Ok(left.map(|bytes| Left::Bytes { bytes, from: None }))
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
