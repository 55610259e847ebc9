//! Making a repository: what is chosen once, and the order in which its first objects come.

use super::roster::slot_info;
use super::{Environment, Repository, wrap_open};
use crate::bodies::{ChunkerParameters, Config, EpochInfo, Roster};
use crate::crypto::{EpochPrivateKey, IdKey, Signer};
use crate::envelope::{FORMAT, ObjectType};
use crate::error::{RepositoryError, Result};
use crate::ids::RepositoryId;
use crate::index_cache::IndexCache;
use crate::keys::{EpochKeys, Keys, Lock, RecoveryKey};
use crate::opening::{create_first_roster, remove_all};
use crate::pack::{MAX_BLOCK_BYTES, MAX_PACK_BYTES};
use crate::trust::Trust;
use crate::{bodies, keys, layout};
use lifeboat_base::clock::Timestamp;
use lifeboat_base::{failpoint, random};
use lifeboat_objects::{Creation, SharedStore, list_all};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

/// The shortest lease: renewals come at a third of it.
const MIN_LEASE: Duration = Duration::from_secs(1);
/// The smallest target for packs: below it there is a request for every few blocks.
const MIN_PACK_BYTES: u32 = 4 << 10;

/// How a new repository is to be.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// How long a lease lasts without renewal.
    pub lease: Duration,
    /// How old an object that nothing refers to must be before prune condemns it.
    pub grace: Duration,
    /// How streams are cut.
    pub chunker: ChunkerParameters,
    /// How much raw content is compressed together, in bytes.
    pub block_bytes: u32,
    /// How large packs become, in bytes.
    pub pack_bytes: u32,
    /// The level of zstd.
    pub compression_level: i32,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            lease: Duration::from_mins(15),
            grace: Duration::from_hours(24),
            chunker: ChunkerParameters { min_bytes: 128 << 10, average_bytes: 512 << 10, max_bytes: 2 << 20 },
            block_bytes: 2 << 20,
            pack_bytes: 16 << 20,
            compression_level: 3,
        }
    }
}

impl InitOptions {
    /// Whether a repository can work like this, or what is wrong.
    fn check(&self) -> Result<(), &'static str> {
        if self.lease < MIN_LEASE {
            return Err("the lease time is below one second");
        }
        check_sizes(self.chunker, self.block_bytes, self.pack_bytes, self.compression_level)
    }
}

impl Config {
    /// Whether a repository can work like this, or what is wrong.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.lease_secs < MIN_LEASE.as_secs() {
            return Err("the lease time is below one second");
        }
        check_sizes(self.chunker, self.block_bytes, self.pack_bytes, self.compression_level)
    }
}

fn check_sizes(
    chunker: ChunkerParameters,
    block_bytes: u32,
    pack_bytes: u32,
    level: i32,
) -> Result<(), &'static str> {
    let ChunkerParameters { min_bytes: min, average_bytes: average, max_bytes: max } = chunker;
    let block_limit = MAX_BLOCK_BYTES as u32;
    if !(0 < min && min < average && average < max && max <= block_limit) {
        return Err("chunks must have sizes min < average < max, of at most 16 MiB");
    }
    if ![min, average, max].iter().all(|bytes| bytes.is_power_of_two()) {
        return Err("the sizes of chunks must be powers of two");
    }
    if block_bytes == 0 || block_bytes > block_limit {
        return Err("blocks must have at most 16 MiB");
    }
    if pack_bytes < MIN_PACK_BYTES || pack_bytes as usize > MAX_PACK_BYTES {
        return Err("packs must have 4 KiB to 32 MiB");
    }
    if !zstd::compression_level_range().contains(&level) {
        return Err("there is no such level of compression");
    }
    Ok(())
}

impl Repository {
    /// Makes a repository in an empty store, with one slot for each lock, each with the root key. Every
    /// slot is opened once before this returns.
    ///
    /// # Errors
    /// Where the store is unsuitable or holds a repository already.
    pub fn init(
        store: SharedStore,
        locks: &[(Lock, String)],
        options: &InitOptions,
        environment: Environment,
    ) -> Result<Self> {
        Self::init_with(store, locks, options, environment, IdKey::random(), None)
    }

    /// Makes a repository that snapshots of `origin` can be copied to: a root and keys of its own, but the
    /// same identities of chunks and the same chunker, so that bodies can be carried verbatim.
    ///
    /// # Errors
    /// As [`Repository::init`].
    pub fn init_copy(
        store: SharedStore,
        origin: &Self,
        locks: &[(Lock, String)],
        options: &InitOptions,
        environment: Environment,
    ) -> Result<Self> {
        let options = InitOptions { chunker: origin.config.chunker, ..options.clone() };
        Self::init_with(
            store,
            locks,
            &options,
            environment,
            origin.keys.id_key.clone(),
            Some(origin.config.repository),
        )
    }

    fn init_with(
        store: SharedStore,
        locks: &[(Lock, String)],
        options: &InitOptions,
        environment: Environment,
        id_key: IdKey,
        copy_of: Option<RepositoryId>,
    ) -> Result<Self> {
        if exists(&store)? {
            return Err(RepositoryError::AlreadyARepository(store.location()));
        }
        refuse_remains(&store)?;
        options.check().map_err(RepositoryError::BadOptions)?;
        let root = Signer::generate();
        let (private, public) = EpochPrivateKey::generate();
        let config = new_config(options, &root, copy_of, environment.clock.now());
        let keys = Keys {
            root: root.public(),
            epochs: EpochKeys::new(1, private),
            id_key,
            root_signer: Some(root.clone()),
            slot: None,
        };
        // No config governs these, so nobody relies on them: an init before this one crashed, or races us.
        let leftovers = [list_all(&*store, layout::SLOTS)?, list_all(&*store, layout::ROSTER)?].concat();
        let (mut slots, mut made) = (Vec::new(), Vec::new());
        for (lock, label) in locks {
            let slot = keys::lock_slot(config.repository, &keys, lock, true)?;
            slots.push(slot_info(&slot, lock, label, environment.clock.now()));
            let bytes = wrap_open(ObjectType::Slot, bodies::encode(&slot), &root, &config.repository)?;
            store.create(&layout::slot(&slot.id), &bytes)?;
            made.push(layout::slot(&slot.id));
        }
        let epochs = vec![EpochInfo { number: 1, public: public.0, sealed_previous: None }];
        let roster = Roster {
            repository: config.repository,
            number: 1,
            previous: None,
            writers: Vec::new(),
            epochs,
            slots,
        };
        let roster = create_first_roster(&store, roster, &root)?;
        made.push(layout::roster(roster.body.number));
        failpoint::reach("repository::init-before-config")
            .map_err(|e| RepositoryError::Io("make the repository", e))?;
        // The config comes last: a location without one is no repository, and init can be run again.
        let bytes = wrap_open(ObjectType::Config, bodies::encode(&config), &root, &config.repository)?;
        let lost = store.create(&layout::config(), &bytes)? == Creation::Existed
            && store.get(&layout::config())? != bytes;
        if lost {
            remove_all(&store, &made);
            return Err(RepositoryError::AlreadyARepository(store.location()));
        }
        // What was there before the config cannot belong to anybody who opened this repository.
        remove_all(&store, &leftovers.into_iter().map(|listed| listed.key).collect::<Vec<_>>());
        let state = environment.local_state(&config.repository);
        state.pin_root(&keys.root.id())?;
        let trust =
            Trust { root: keys.root, roster: roster.body, roster_signed: roster.signed, origins: Vec::new() };
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
}

fn exists(store: &SharedStore) -> Result<bool> {
    match store.head(&layout::config()) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Refuses a place that holds what only a repository at work writes: its config was lost, and a new one would
/// bury it. Slots and rosters alone are what an init leaves that was killed.
fn refuse_remains(store: &SharedStore) -> Result<()> {
    for prefix in [layout::SNAPSHOTS, layout::PACKS, layout::INDEX, layout::LOGS] {
        if let Some(found) = list_all(&**store, prefix)?.into_iter().next() {
            return Err(RepositoryError::Remains { place: store.location(), object: found.key });
        }
    }
    Ok(())
}

fn new_config(
    options: &InitOptions,
    root: &Signer,
    copy_of: Option<RepositoryId>,
    created: Timestamp,
) -> Config {
    Config {
        repository: RepositoryId(random::bytes()),
        format: FORMAT,
        root: root.public(),
        created,
        lease_secs: options.lease.as_secs().max(1),
        grace_secs: options.grace.as_secs(),
        chunker: options.chunker,
        block_bytes: options.block_bytes,
        pack_bytes: options.pack_bytes,
        compression_level: options.compression_level,
        copy_of,
    }
}

/// Makes a recovery key's slot and tries it: used by `repo init`, and by `key add --recovery`.
pub fn new_recovery_lock() -> (Lock, RecoveryKey) {
    let key = RecoveryKey::generate();
    (Lock::Recovery(key.clone()), key)
}
