//! A repository that is open, and how it comes to be: made once (`init`), its slots and writers changed by who
//! holds the root key (`roster`), every control object read and created by one path (`objects`).
//!
//! This module deliberately knows nothing of what snapshots contain or how prune decides.

mod init;
mod objects;
mod roster;

pub use init::{InitOptions, new_recovery_lock};
pub(crate) use objects::{Claim, Opened, decode, wrap_open};

use crate::bodies::{Config, Origin};
use crate::envelope::{FORMAT, ObjectType};
use crate::error::{RepositoryError, Result};
use crate::ids::{RepositoryId, WriterId};
use crate::index_cache::IndexCache;
use crate::keys::{Keys, Unlock};
use crate::log::retire::Expired;
use crate::opening::{judge_root, open_any_slot, read_config, read_trust};
use crate::state::LocalState;
use crate::trust::Trust;
use crate::{bodies, layout};
use lifeboat_base::clock::Clock;
use lifeboat_objects::SharedStore;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Where a machine keeps its state of repositories, and its clock.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// The state directory; without one nothing is remembered.
    pub state: Option<PathBuf>,
    /// Another place for the writer's private key.
    pub writer_key: Option<PathBuf>,
    /// A name for this machine, for people.
    pub host: String,
    /// The clock.
    pub clock: Clock,
}

impl Environment {
    fn local_state(&self, repository: &RepositoryId) -> LocalState {
        match &self.state {
            Some(directory) => LocalState::new(directory, repository, self.writer_key.clone()),
            None => LocalState::none(),
        }
    }
}

/// An open repository: everything can be read.
#[derive(Debug)]
pub struct Repository {
    pub(crate) store: SharedStore,
    pub(crate) config: Config,
    pub(crate) keys: Keys,
    pub(crate) state: LocalState,
    pub(crate) environment: Environment,
    pub(crate) index_cache: IndexCache,
    /// What its verdicts let expire of logs, as far as it was asked for.
    pub(crate) expired: Mutex<Expired>,
    trust: RwLock<Arc<Trust>>,
}

impl Repository {
    /// Opens a repository with what one of its slots takes.
    ///
    /// # Errors
    /// [`RepositoryError::NotARepository`], [`RepositoryError::NewerFormat`], [`RepositoryError::WrongKey`],
    /// [`RepositoryError::RolledBack`], and damage.
    pub fn open(store: SharedStore, unlock: &Unlock, environment: Environment) -> Result<Self> {
        Self::open_rooted(store, unlock, environment, None)
    }

    /// As [`Repository::open`], and only where the root has this fingerprint. A public-key slot needs one on
    /// a machine that has not opened the repository before, since anybody can make a slot for a public key.
    ///
    /// # Errors
    /// As [`Repository::open`]; [`RepositoryError::OtherRoot`], [`RepositoryError::UnknownRoot`].
    pub fn open_rooted(
        store: SharedStore,
        unlock: &Unlock,
        environment: Environment,
        root: Option<WriterId>,
    ) -> Result<Self> {
        let signed_config = read_config(&store)?;
        let config: Config = decode(&signed_config.body, "config")?;
        if config.format > FORMAT {
            return Err(RepositoryError::NewerFormat { found: config.format, supported: FORMAT });
        }
        let mut keys = open_any_slot(&store, &config.repository, unlock)?;
        if keys.root != config.root || !Trust::root_signed(&keys.root, ObjectType::Config, &signed_config) {
            return Err(RepositoryError::damaged(
                "config",
                "the root that the key slot names did not sign it",
            ));
        }
        config.check().map_err(|what| RepositoryError::damaged("config", what))?;
        let state = environment.local_state(&config.repository);
        judge_root(&state, &keys.root.id(), unlock, root)?;
        let trust = read_trust(&store, &config, keys.root, &state)?;
        keys.epochs.unlock_older(&config.repository, &trust.roster.epochs)?;
        state.pin_root(&keys.root.id())?;
        Ok(Self {
            store,
            config,
            keys,
            state,
            environment,
            index_cache: IndexCache::default(),
            expired: Mutex::default(),
            trust: RwLock::new(Arc::new(trust)),
        })
    }

    /// The repository's identity and settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it is, without secrets.
    pub fn location(&self) -> String {
        self.store.location()
    }

    /// The store under it.
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    /// The fingerprint of the root key, which a recovery kit records.
    pub fn root_fingerprint(&self) -> WriterId {
        self.keys.root.id()
    }

    /// Whether the slot that opened it holds the root key.
    pub fn is_admin(&self) -> bool {
        self.keys.root_signer.is_some()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.environment.clock
    }

    /// Which repository it is, wherever it lies.
    pub fn id(&self) -> RepositoryId {
        self.config.repository
    }

    pub(crate) fn trust(&self) -> Arc<Trust> {
        self.trust.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the newest roster again.
    pub(crate) fn refresh_trust(&self) -> Result<Arc<Trust>> {
        let trust = Arc::new(read_trust(&self.store, &self.config, self.keys.root, &self.state)?);
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = trust.clone();
        Ok(trust)
    }

    /// Remembers an origin's roster in this copy, so that what the origin's writers signed counts here.
    pub(crate) fn countersign_origin(&self, origin: &Self) -> Result<()> {
        let root = self.root_signer("copying from a new origin")?;
        if origin.id() == self.id() {
            return Err(RepositoryError::damaged("the origin", "it has the identity of the copy"));
        }
        let trust = origin.refresh_trust()?;
        let key = layout::origin(&trust.root.id(), trust.roster.number);
        let (_, roster) = origin.unwrap(
            &layout::roster(trust.roster.number),
            &origin.store.get(&layout::roster(trust.roster.number))?,
        )?;
        let body = Origin {
            repository: self.id(),
            origin: origin.id(),
            root: trust.root,
            roster,
            number: trust.roster.number,
        };
        let bytes = wrap_open(ObjectType::Origin, bodies::encode(&body), root, &self.id())?;
        self.store.create(&key, &bytes)?;
        self.refresh_trust()?;
        Ok(())
    }

    /// Whether the newest roster of `origin` is known here.
    pub(crate) fn knows_origin(&self, origin: &Self) -> bool {
        let newest = origin.trust().roster.number;
        self.trust().origins.iter().any(|o| o.repository == origin.id() && o.number >= newest)
    }
}
