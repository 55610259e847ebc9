//! The repository of one round, opened by several processes, and the way back from it.

use crate::error::BenchError;
use lifeboat_base::Secret;
use lifeboat_base::clock::Clock;
use lifeboat_objects::directory::DirectoryStore;
use lifeboat_recovery::Target;
use lifeboat_recovery::postgres::{ClusterOptions, restore_cluster};
use lifeboat_recovery::protect::{ProtectOptions, protect};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{Environment, InitOptions, Lock, Reader, Repository, RepositoryError, Unlock};
use lifeboat_store::progress::Progress;
use lifeboat_store_postgres::{RecoveryTarget, resolve};
use std::path::Path;
use std::sync::Arc;

/// Every repository here is thrown away: its secret is none.
const SECRET: [u8; 32] = [7; 32];
const DATASET: &str = "ledger";

/// A repository in a folder.
#[derive(Debug)]
pub(super) struct House {
    pub(super) repository: Arc<Repository>,
    pub(super) dataset: DatasetName,
}

impl House {
    /// A new one.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(super) fn init(folder: &Path) -> Result<Self, BenchError> {
        let store = DirectoryStore::create(folder.join("repository")).map_err(RepositoryError::from)?;
        let lock = (Lock::Command(Secret::new(SECRET.to_vec())), "bench".to_owned());
        let repository =
            Repository::init(Arc::new(store), &[lock], &InitOptions::default(), environment(folder))?;
        Self::with(repository)
    }

    /// One that exists.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub(super) fn open(folder: &Path) -> Result<Self, BenchError> {
        let store = DirectoryStore::open(folder.join("repository")).map_err(RepositoryError::from)?;
        let unlock = Unlock::Command(Secret::new(SECRET.to_vec()));
        Self::with(Repository::open(Arc::new(store), &unlock, environment(folder))?)
    }

    fn with(repository: Repository) -> Result<Self, BenchError> {
        let dataset = DatasetName::new(DATASET).map_err(|error| BenchError::Usage(error.to_string()))?;
        Ok(Self { repository: Arc::new(repository), dataset })
    }

    /// A snapshot of a running server.
    ///
    /// # Errors
    /// Where it cannot be taken.
    pub(super) fn protect(&self, url: &str) -> Result<(), BenchError> {
        let (target, options) = (Target::postgres(url)?, ProtectOptions::default());
        protect(&self.repository, &self.dataset, &target, &options, &Progress::default())?;
        Ok(())
    }

    /// Everything that there is, restored into a folder.
    ///
    /// # Errors
    /// Where it cannot be.
    pub(super) fn restore(&self, into: &Path) -> Result<(), BenchError> {
        let path = resolve(&self.repository, &self.dataset, &RecoveryTarget::LATEST, None)?;
        let reader = Reader::new(&self.repository)?;
        restore_cluster(&reader, &path, into, &ClusterOptions::default(), &Progress::default())?;
        Ok(())
    }
}

fn environment(folder: &Path) -> Environment {
    Environment {
        state: Some(folder.join("state")),
        writer_key: None,
        host: "bench".to_owned(),
        clock: Clock::System,
    }
}
