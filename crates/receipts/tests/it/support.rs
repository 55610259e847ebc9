//! A repository in memory, a state directory and a clock that only the test moves.

use lifeboat_base::Secret;
use lifeboat_base::clock::{Clock, ManualClock, Timestamp};
use lifeboat_evidence::{Action, Bundle, Event, Outcome, Report, RepositoryId, Who, verify};
use lifeboat_objects::memory::MemoryStore;
use lifeboat_objects::{Creation, Key, Listed, ObjectError, ObjectErrorKind, ObjectStore, SharedStore};
use lifeboat_receipts::{Recorder, RepositoryChains, key_ring};
use lifeboat_repository::{Environment, InitOptions, Lock, Repository, Unlock};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

pub(crate) fn secret() -> Secret {
    Secret::new(vec![7; 32])
}

pub(crate) struct House {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) state: tempfile::TempDir,
    pub(crate) clock: ManualClock,
    pub(crate) repository: Arc<Repository>,
}

impl House {
    pub(crate) fn new() -> Self {
        let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
        let store = Arc::new(MemoryStore::with_clock(Clock::Manual(clock.clone())));
        let state = tempfile::tempdir().unwrap();
        let locks = [(Lock::Command(secret()), "test".to_owned())];
        let environment = environment(state.path(), &clock);
        let repository =
            Repository::init(store.clone(), &locks, &InitOptions::default(), environment).unwrap();
        Self { store, state, clock, repository: Arc::new(repository) }
    }

    /// The repository as another host sees it, through any store.
    pub(crate) fn open(&self, store: SharedStore, state: &Path) -> Arc<Repository> {
        let environment = environment(state, &self.clock);
        Arc::new(Repository::open(store, &Unlock::Command(secret()), environment).unwrap())
    }

    pub(crate) fn recorder(&self) -> Recorder {
        self.recorder_at(self.state.path(), Who::Operator)
    }

    pub(crate) fn recorder_at(&self, state: &Path, who: Who) -> Recorder {
        Recorder::new(state, "memory:", "host-1", who, Clock::Manual(self.clock.clone()))
    }

    pub(crate) fn verify(&self) -> (Bundle, Report) {
        verify_in(&self.repository)
    }
}

pub(crate) fn environment(state: &Path, clock: &ManualClock) -> Environment {
    Environment {
        state: Some(state.to_owned()),
        host: "host-1".to_owned(),
        clock: Clock::Manual(clock.clone()),
        ..Environment::default()
    }
}

pub(crate) fn verify_in(repository: &Arc<Repository>) -> (Bundle, Report) {
    repository.writer().unwrap();
    let chains = RepositoryChains::new(repository);
    let keys = key_ring(repository);
    let bundle = Bundle::collect(&chains, RepositoryId(repository.id().0), keys.clone()).unwrap();
    let report = verify(&bundle, &keys, &[]);
    (bundle, report)
}

pub(crate) fn event(dataset: &str) -> Event {
    Event::new(Action::Backup, Outcome::Done).dataset(dataset)
}

/// The datasets of all receipts, chain by chain.
pub(crate) fn datasets(bundle: &Bundle) -> Vec<String> {
    bundle.receipts().filter_map(|signed| signed.receipt().draft.event.subject.dataset.clone()).collect()
}

/// A store that refuses some requests for receipts.
#[derive(Debug)]
pub(crate) struct Refusing {
    pub(crate) inner: SharedStore,
    pub(crate) may_read: bool,
    pub(crate) may_create: bool,
}

impl Refusing {
    fn refuse(&self, allowed: bool, key: &str) -> Result<(), ObjectError> {
        if allowed || !key.starts_with("receipts/") {
            return Ok(());
        }
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        Err(ObjectError::about(ObjectErrorKind::Denied, "ask for", key, "memory:", denied))
    }
}

impl ObjectStore for Refusing {
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Creation, ObjectError> {
        self.refuse(self.may_create, key.as_str())?;
        self.inner.create(key, bytes)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, ObjectError> {
        self.refuse(self.may_read, key.as_str())?;
        self.inner.get(key)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, ObjectError> {
        self.refuse(self.may_read, key.as_str())?;
        self.inner.get_range(key, offset, length)
    }

    fn head(&self, key: &Key) -> Result<Listed, ObjectError> {
        self.refuse(self.may_read, key.as_str())?;
        self.inner.head(key)
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), ObjectError> {
        self.refuse(self.may_read, prefix)?;
        self.inner.list(prefix, after, visit)
    }

    fn delete(&self, key: &Key) -> Result<(), ObjectError> {
        self.inner.delete(key)
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}
