//! Opening and making a repository, reading and creating its control objects, keys and writers.
//!
//! This module owns the path by which every control object is read (unwrap, check who signed it, check that
//! it stands where it says) and created (once, recognising our own object after a retry). It deliberately
//! knows nothing of what snapshots contain or how prune decides.

use crate::bodies::{
    self, ChunkerParameters, Config, EnrolledWriter, EpochInfo, Origin, Role, Roster, Slot, SlotInfo,
};
use crate::crypto::{EpochPrivateKey, EpochPublicKey, IdKey, PublicKey, Signer};
use crate::envelope::{self, EnvelopeError, FORMAT, ObjectType, Seal, Signed};
use crate::error::{RepositoryError, Result};
use crate::ids::{BodyHash, DatasetName, RepositoryId, TicketId, WriterId};
use crate::index_cache::IndexCache;
use crate::keys::{self, EpochKeys, Keys, Lock, RecoveryKey, Unlock};
use crate::layout;
use crate::log::retire::Expired;
use crate::opening::{
    MAX_OCCUPIED, create_first_roster, judge_root, open_any_slot, read_config, read_trust, remove_all,
};
use crate::pack::{MAX_BLOCK_BYTES, MAX_PACK_BYTES};
use crate::state::LocalState;
use crate::trust::{Distrust, Need, Trust, received_in_time};
use lifeboat_base::clock::{Clock, Timestamp};
use lifeboat_base::{failpoint, random};
use lifeboat_objects::{Creation, Key, SharedStore, list_all};
use minicbor::Decode;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
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
    fn check(&self) -> Result<(), &'static str> {
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

/// A body that was read, with who signed it.
#[derive(Clone, Debug)]
pub(crate) struct Opened<T> {
    pub(crate) body: T,
    pub(crate) hash: BodyHash,
    pub(crate) writer: WriterId,
    pub(crate) signed: Signed,
}

/// Whether an object that is created once is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// We made it, now or in an attempt before.
    Won,
    /// Another object stands there.
    Lost,
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

    /// The writers that the roster lists.
    pub fn writers(&self) -> Vec<EnrolledWriter> {
        self.trust().roster.writers.clone()
    }

    /// The key slots that the roster lists.
    pub fn slots(&self) -> Vec<SlotInfo> {
        self.trust().roster.slots.clone()
    }

    /// The slot that opened the repository.
    pub fn opened_slot(&self) -> Option<TicketId> {
        self.keys.slot
    }

    /// The key that signs for this machine, enrolled on first use where an admin slot opened the
    /// repository.
    ///
    /// # Errors
    /// [`RepositoryError::NotPermitted`] where it is not enrolled and cannot be.
    pub fn writer(&self) -> Result<Signer> {
        let signer = self.state.writer()?;
        if self.trust().writer(&self.id(), &signer.id()).is_none()
            && self.refresh_trust()?.writer(&self.id(), &signer.id()).is_none()
        {
            if !self.is_admin() {
                return Err(RepositoryError::NotPermitted {
                    writer: signer.id().to_string(),
                    action: "write: it is not enrolled, and this key slot is not admin".to_owned(),
                });
            }
            self.enrol(signer.public(), &self.environment.host, Role::Maintain, Vec::new())?;
        }
        self.trust().permit(&signer.id(), Need::Write)?;
        Ok(signer)
    }

    /// Whether this machine has a writer's key that is enrolled already.
    pub fn is_enrolled(&self) -> Result<bool> {
        Ok(self.state.existing_writer()?.is_some_and(|s| self.trust().permit(&s.id(), Need::Write).is_ok()))
    }

    /// Lists a writer in the roster, or changes its role and datasets.
    ///
    /// # Errors
    /// [`RepositoryError::NeedsAdmin`] without the root key.
    pub fn enrol(&self, public: PublicKey, name: &str, role: Role, datasets: Vec<DatasetName>) -> Result<()> {
        let enrolled = self.clock().now();
        self.change_roster("enrolling a writer", |roster| {
            roster.writers.retain(|writer| writer.public != public);
            let (name, datasets) = (name.to_owned(), datasets.clone());
            roster.writers.push(EnrolledWriter { public, name, role, datasets, enrolled, revoked: None });
            Ok(())
        })
    }

    /// Lets a writer that is bound to certain datasets publish one more.
    ///
    /// # Errors
    /// Without the root key, or where there is no such writer.
    pub fn adopt(&self, id: &WriterId, dataset: &DatasetName) -> Result<()> {
        self.change_roster("adopting a dataset", |roster| {
            let writer = find_writer(roster, id)?;
            if !writer.datasets.is_empty() && !writer.datasets.contains(dataset) {
                writer.datasets.push(dataset.clone());
            }
            Ok(())
        })
    }

    /// Revokes a writer: what the store has received from it so far still counts, nothing later.
    ///
    /// # Errors
    /// Without the root key, or where there is no such writer.
    pub fn revoke(&self, id: &WriterId) -> Result<()> {
        let now = self.clock().now();
        self.change_roster("revoking a writer", |roster| {
            find_writer(roster, id)?.revoked.get_or_insert(now);
            Ok(())
        })
    }

    /// Adds a key slot and tries it.
    ///
    /// # Errors
    /// [`RepositoryError::NeedsAdmin`] without the root key.
    pub fn add_slot(&self, lock: &Lock, label: &str, admin: bool) -> Result<SlotInfo> {
        let root = self.root_signer("adding a key slot")?;
        let slot = keys::lock_slot(self.id(), &self.keys, lock, admin)?;
        let info = slot_info(&slot, lock, label, self.clock().now());
        let bytes = wrap_open(ObjectType::Slot, bodies::encode(&slot), root, &self.id())?;
        self.store.create(&layout::slot(&slot.id), &bytes)?;
        failpoint::reach("repository::slot-before-roster")
            .map_err(|e| RepositoryError::Io("add a key slot", e))?;
        self.change_roster("adding a key slot", |roster| {
            roster.slots.push(info.clone());
            Ok(())
        })?;
        Ok(info)
    }

    /// Retires a key slot: it opens the repository no more. Who kept what it once opened is not excluded.
    ///
    /// # Errors
    /// [`RepositoryError::LastAdminSlot`], and without the root key.
    pub fn retire_slot(&self, id: &TicketId) -> Result<()> {
        self.change_roster("retiring a key slot", |roster| {
            let slot = roster.slots.iter().find(|slot| slot.id == *id);
            let admin = slot.ok_or_else(|| RepositoryError::Unknown(format!("key slot {id}")))?.admin;
            if admin && roster.slots.iter().filter(|slot| slot.admin).count() == 1 {
                return Err(RepositoryError::LastAdminSlot(id.to_string()));
            }
            roster.slots.retain(|slot| slot.id != *id);
            Ok(())
        })?;
        failpoint::reach("repository::slot-before-delete")
            .map_err(|e| RepositoryError::Io("retire a key slot", e))?;
        Ok(self.store.delete(&layout::slot(id))?)
    }

    fn root_signer(&self, action: &'static str) -> Result<&Signer> {
        self.keys.root_signer.as_ref().ok_or(RepositoryError::NeedsAdmin(action))
    }

    /// Publishes the next roster; when another admin was faster, on top of his.
    fn change_roster(&self, action: &'static str, change: impl Fn(&mut Roster) -> Result<()>) -> Result<()> {
        let root = self.root_signer(action)?;
        let (mut base, mut occupied) = (0, 0);
        loop {
            let trust = self.refresh_trust()?;
            // What a later release wrote into it would be lost with a roster that we write.
            if bodies::encode(&trust.roster) != trust.roster_signed {
                return Err(RepositoryError::NewerRoster(trust.roster.number));
            }
            // Who loses the race goes on from the winner's; what does not count occupies its number.
            occupied = if base == trust.roster.number { occupied + 1 } else { 0 };
            base = trust.roster.number;
            if occupied > MAX_OCCUPIED {
                let key = layout::roster(base + occupied);
                return Err(RepositoryError::Occupied(key.to_string()));
            }
            let mut roster = trust.roster.clone();
            roster.previous = Some(BodyHash::of(&trust.roster_signed));
            roster.number = base + 1 + occupied;
            change(&mut roster)?;
            let bytes = wrap_open(ObjectType::Roster, bodies::encode(&roster), root, &self.id())?;
            if let Claim::Won = self.create_once(&layout::roster(roster.number), &bytes)? {
                self.refresh_trust()?;
                return Ok(());
            }
        }
    }

    /// The newest epoch: what new objects are sealed to.
    pub(crate) fn epoch(&self) -> Result<(u32, EpochPublicKey)> {
        keys::newest_epoch(&self.trust().roster)
    }

    /// Wraps a body for this repository.
    pub(crate) fn wrap(&self, kind: ObjectType, signed: &Signed) -> Result<Vec<u8>> {
        if is_sealed(kind) {
            let (epoch, public) = self.epoch()?;
            envelope::wrap(kind, signed, &self.id(), Seal::To { epoch, public: &public })
        } else {
            envelope::wrap(kind, signed, &self.id(), Seal::Open)
        }
    }

    /// Creates a control object from bytes that nobody else would write, so that finding our own after a
    /// retry counts as having made it.
    pub(crate) fn create_once(&self, key: &Key, bytes: &[u8]) -> Result<Claim> {
        match self.store.create(key, bytes)? {
            Creation::Created => Ok(Claim::Won),
            Creation::Existed if self.store.get(key)? == bytes => Ok(Claim::Won),
            Creation::Existed => Ok(Claim::Lost),
        }
    }

    /// Signs a body and creates it under `key`.
    pub(crate) fn create_signed<T: minicbor::Encode<()>>(
        &self,
        kind: ObjectType,
        key: &Key,
        body: &T,
        signer: &Signer,
    ) -> Result<Claim> {
        let signed = Signed::new(kind, bodies::encode(body), signer);
        self.create_once(key, &self.wrap(kind, &signed)?)
    }

    /// Reads an object that must be of a kind and signed by whom `need` says.
    pub(crate) fn read<T: for<'b> Decode<'b, ()>>(
        &self,
        kind: ObjectType,
        key: &Key,
        need: Need<'_>,
    ) -> Result<Opened<T>> {
        let bytes = self.store.get(key)?;
        self.judge(kind, key, &bytes, need)
    }

    /// As [`Repository::read`], from bytes at hand.
    pub(crate) fn judge<T: for<'b> Decode<'b, ()>>(
        &self,
        kind: ObjectType,
        key: &Key,
        bytes: &[u8],
        need: Need<'_>,
    ) -> Result<Opened<T>> {
        let (found, signed) = self.unwrap(key, bytes)?;
        if found != kind {
            return Err(RepositoryError::damaged(key, format!("it is a {found:?} where a {kind:?} belongs")));
        }
        let writer = self.check_signature(kind, key, &signed, need)?;
        let body = decode(&signed.body, key)?;
        Ok(Opened { body, hash: BodyHash::of(&signed.body), writer, signed })
    }

    /// Reads an envelope without judging it.
    pub(crate) fn unwrap(&self, key: &Key, bytes: &[u8]) -> Result<(ObjectType, Signed)> {
        envelope::unwrap(bytes, Some(&self.id()), Some(&self.keys.epochs)).map_err(|error| match error {
            EnvelopeError::Newer(found) => RepositoryError::NewerFormat { found, supported: FORMAT },
            other => RepositoryError::damaged(key, other),
        })
    }

    /// Checks that a writer whom `need` admits signed, in time if it has been revoked since.
    pub(crate) fn check_signature(
        &self,
        kind: ObjectType,
        key: &Key,
        signed: &Signed,
        need: Need<'_>,
    ) -> Result<WriterId> {
        // What an origin's writers signed counts only inside a copied snapshot. (The body of an index object
        // is a table, which names its repository itself.)
        if kind != ObjectType::Index && body_repository(&signed.body) != Some(self.id()) {
            return Err(RepositoryError::damaged(key, "it belongs to another repository"));
        }
        self.check_signer(kind, key, signed, need)
    }

    /// As [`Repository::check_signature`], whatever repository the body names.
    pub(crate) fn check_signer(
        &self,
        kind: ObjectType,
        key: &Key,
        signed: &Signed,
        need: Need<'_>,
    ) -> Result<WriterId> {
        let mut trust = self.trust();
        let mut judged = trust.judge(kind, signed, &self.id(), need).cloned();
        if matches!(judged, Err(Distrust::Unlisted(_))) {
            trust = self.refresh_trust()?;
            judged = trust.judge(kind, signed, &self.id(), need).cloned();
        }
        let in_time = match judged {
            Ok(writer) if writer.revoked.is_some() => {
                let arrived = self.store.head(key)?.arrived;
                received_in_time(&writer, arrived).map(|()| writer)
            }
            other => other,
        };
        in_time.map(|writer| writer.public.id()).map_err(|distrust| RepositoryError::damaged(key, distrust))
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

/// Every body starts with the repository that it was made for, under key 0.
fn body_repository(body: &[u8]) -> Option<RepositoryId> {
    #[derive(Decode)]
    #[cbor(map)]
    struct Head {
        #[n(0)]
        repository: RepositoryId,
    }
    minicbor::decode::<Head>(body).ok().map(|head| head.repository)
}

/// What a plain-text observer may see: what must be read before a key is, or by a host that has none.
fn is_sealed(kind: ObjectType) -> bool {
    !matches!(
        kind,
        ObjectType::Config
            | ObjectType::Slot
            | ObjectType::Roster
            | ObjectType::Origin
            | ObjectType::Release
            | ObjectType::Void
            | ObjectType::Tombstone
            | ObjectType::Lease
            | ObjectType::CondemnList
            | ObjectType::Verdict
            | ObjectType::Leader
            | ObjectType::Heartbeat
    )
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

fn slot_info(slot: &Slot, lock: &Lock, label: &str, created: Timestamp) -> SlotInfo {
    SlotInfo {
        id: slot.id,
        kind: lock.kind().to_owned(),
        admin: slot.admin,
        label: label.to_owned(),
        created,
    }
}

pub(crate) fn wrap_open(
    kind: ObjectType,
    body: Vec<u8>,
    signer: &Signer,
    repository: &RepositoryId,
) -> Result<Vec<u8>> {
    envelope::wrap(kind, &Signed::new(kind, body, signer), repository, Seal::Open)
}

fn find_writer<'r>(roster: &'r mut Roster, id: &WriterId) -> Result<&'r mut EnrolledWriter> {
    let found = roster.writers.iter_mut().find(|writer| writer.public.id() == *id);
    found.ok_or_else(|| RepositoryError::Unknown(format!("writer {id}")))
}

pub(crate) fn decode<T: for<'b> Decode<'b, ()>>(body: &[u8], object: impl ToString) -> Result<T> {
    bodies::decode(body).map_err(|error| RepositoryError::damaged(object, error))
}

/// Makes a recovery key's slot and tries it: used by `repo init`, and by `key add --recovery`.
pub fn new_recovery_lock() -> (Lock, RecoveryKey) {
    let key = RecoveryKey::generate();
    (Lock::Recovery(key.clone()), key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_base::Secret;
    use lifeboat_objects::ObjectStore;
    use lifeboat_objects::memory::MemoryStore;

    #[test]
    fn a_roster_of_a_later_release_lost_what_this_one_does_not_know() {
        let (store, state) = (Arc::new(MemoryStore::new()), tempfile::tempdir().unwrap());
        let secret = Secret::new(vec![7; 32]);
        let locks = [(Lock::Command(secret.clone()), "test".to_owned())];
        let environment = Environment { state: Some(state.path().to_owned()), ..Environment::default() };
        let repository =
            Repository::init(store.clone(), &locks, &InitOptions::default(), environment).unwrap();
        repository.add_slot(&locks[0].0, "second", false).unwrap();
        // The same roster with a key that this release does not know, signed by the root: a map of one more.
        let trust = repository.trust();
        let newer =
            Roster { number: 3, previous: Some(BodyHash::of(&trust.roster_signed)), ..trust.roster.clone() };
        let mut body = bodies::encode(&newer);
        body[0] += 1;
        body.extend_from_slice(&[0x18, 99, 0xf5]);
        let root = repository.root_signer("testing").unwrap();
        let bytes = wrap_open(ObjectType::Roster, body.clone(), root, &repository.id()).unwrap();
        store.create(&layout::roster(3), &bytes).unwrap();
        repository.refresh_trust().unwrap();
        assert_eq!(repository.trust().roster_signed, body);
        let refused = repository.add_slot(&locks[0].0, "third", false);
        assert!(matches!(refused, Err(RepositoryError::NewerRoster(3))), "{refused:?}");
        assert!(matches!(store.head(&layout::roster(4)), Err(error) if error.is_not_found()));
    }

    #[test]
    fn a_roster_with_a_role_of_a_later_release_was_passed_over_for_the_one_before() {
        let (store, state) = (Arc::new(MemoryStore::new()), tempfile::tempdir().unwrap());
        let state = Some(state.path().to_owned());
        let environment = Environment { state, host: "test-host".to_owned(), ..Environment::default() };
        let locks = [(Lock::Command(Secret::new(vec![7; 32])), "test".to_owned())];
        let options = InitOptions::default();
        let repository = Repository::init(store.clone(), &locks, &options, environment).unwrap();
        repository.writer().unwrap();
        let trust = repository.trust();
        let number = trust.roster.number + 1;
        let previous = Some(BodyHash::of(&trust.roster_signed));
        let newer = Roster { number, previous, ..trust.roster.clone() };
        let mut body = bodies::encode(&newer);
        // The role of the one writer, from `maintain` to one that nobody knows yet.
        let name = newer.writers[0].name.as_bytes();
        let at = body.windows(name.len()).position(|window| window == name).unwrap() + name.len();
        assert_eq!(body[at..at + 2], [2, 2]);
        body[at + 1] = 9;
        let root = repository.root_signer("testing").unwrap();
        let bytes = wrap_open(ObjectType::Roster, body, root, &repository.id()).unwrap();
        store.create(&layout::roster(number), &bytes).unwrap();
        let opened =
            Repository::open(store, &Unlock::Command(Secret::new(vec![7; 32])), Environment::default());
        assert!(matches!(opened, Err(RepositoryError::NewerRoster(n)) if n == number), "{opened:?}");
    }

    #[test]
    fn junk_at_the_next_numbers_of_the_roster_stopped_everybody() {
        let store = Arc::new(MemoryStore::new());
        let locks = [(Lock::Command(Secret::new(vec![7; 32])), "test".to_owned())];
        let options = InitOptions::default();
        let repository = Repository::init(store.clone(), &locks, &options, Environment::default()).unwrap();
        for number in [2, 3, 999_999_999_999] {
            store.create(&layout::roster(number), b"junk").unwrap();
        }
        repository.add_slot(&Lock::Command(Secret::new(vec![8; 32])), "second", false).unwrap();
        let unlock = Unlock::Command(Secret::new(vec![8; 32]));
        let opened = Repository::open(store, &unlock, Environment::default()).unwrap();
        assert_eq!((opened.trust().roster.number, opened.slots().len()), (4, 2));
        let first = crate::opening::read_roster(&opened.store, &opened.config, &opened.keys.root, 1).unwrap();
        assert_eq!(opened.trust().roster.previous, Some(BodyHash::of(&first.1)));
    }
}
