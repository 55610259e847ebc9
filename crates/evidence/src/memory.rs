//! Chains in memory: for tests, and the plainest form of what [`Chains`] promises.

use crate::chains::{Chains, ChainsError, Creation, Stored};
use crate::ids::ChainId;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Objects = BTreeMap<(ChainId, u64), Vec<u8>>;

/// Chains in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryChains {
    objects: Arc<Mutex<Objects>>,
    write_only: bool,
}

impl MemoryChains {
    /// No chains yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same chains, as a host sees them that can write and not read.
    #[must_use]
    pub fn write_only(&self) -> Self {
        Self { objects: self.objects.clone(), write_only: true }
    }

    /// Puts anything at a number, as somebody could who holds the store.
    pub fn put(&self, chain: &ChainId, number: u64, bytes: &[u8]) {
        self.lock().insert((*chain, number), bytes.to_vec());
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chains for MemoryChains {
    fn chains(&self) -> Result<Vec<ChainId>, ChainsError> {
        let chains: BTreeSet<ChainId> = self.lock().keys().map(|(chain, _)| *chain).collect();
        Ok(chains.into_iter().filter(|_| !self.write_only).collect())
    }

    fn numbers(&self, chain: &ChainId, after: u64, limit: usize) -> Result<Option<Vec<u64>>, ChainsError> {
        if self.write_only {
            return Ok(None);
        }
        let range = (Bound::Excluded((*chain, after)), Bound::Included((*chain, u64::MAX)));
        Ok(Some(self.lock().range(range).map(|((_, number), _)| *number).take(limit).collect()))
    }

    fn read(&self, chain: &ChainId, number: u64) -> Result<Stored, ChainsError> {
        if self.write_only {
            return Ok(Stored::Hidden);
        }
        let found = self.lock().get(&(*chain, number)).cloned();
        Ok(found.map_or(Stored::Absent, Stored::Receipt))
    }

    fn create(&self, chain: &ChainId, number: u64, bytes: &[u8]) -> Result<Creation, ChainsError> {
        let mut objects = self.lock();
        if objects.contains_key(&(*chain, number)) {
            return Ok(Creation::Existed);
        }
        objects.insert((*chain, number), bytes.to_vec());
        Ok(Creation::Created)
    }

    fn remove(&self, chain: &ChainId, number: u64) -> Result<(), ChainsError> {
        self.lock().remove(&(*chain, number));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{REPOSITORY, TestSigner};

    #[test]
    fn chains_in_memory_keep_what_chains_promise() {
        crate::conformance::check(&MemoryChains::new(), &TestSigner::new(1), REPOSITORY);
    }
}
