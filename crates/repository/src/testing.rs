//! What the unit tests of several modules need.

use crate::{Environment, InitOptions, Lock, Repository};
use lifeboat_base::Secret;
use lifeboat_objects::memory::MemoryStore;
use std::sync::Arc;

/// A new repository in memory.
pub(crate) fn repository() -> Arc<Repository> {
    let locks = [(Lock::Command(Secret::new(vec![7; 32])), "test".to_owned())];
    let store = Arc::new(MemoryStore::new());
    Arc::new(Repository::init(store, &locks, &InitOptions::default(), Environment::default()).unwrap())
}
