//! Snapshots as a set: which there are, in which order, which are forgotten and which are held.
//!
//! A slot holds a snapshot, a release or a void. A tombstone outranks whatever stands at its number. This
//! module reads and writes these control objects; it does not know what snapshots contain.

use crate::bodies::{CopiedSnapshot, End, Hold, Role, Snapshot, Tombstone};
use crate::crypto::Signer;
use crate::envelope::ObjectType;
use crate::error::{RepositoryError, Result};
use crate::ids::{BodyHash, DatasetName, Position, TicketId, WriterId};
use crate::layout;
use crate::leader::{Effective, effective_snapshots, led_under};
use crate::repository::{Claim, Opened, Repository};
use crate::state::Head;
use crate::trust::Need;
use lifeboat_base::clock::Timestamp;
use lifeboat_base::random;
use lifeboat_objects::{Key, list_all};
use std::collections::{BTreeMap, BTreeSet};

/// A snapshot with its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The hash of its body: what people call it by.
    pub id: BodyHash,
    /// Where it stands in this repository: its own position, or in a copy a slot of the copier's chain.
    pub slot: Position,
    /// What it says.
    pub snapshot: Snapshot,
}

impl Published {
    pub(crate) fn new(slot: Position, opened: Opened<Snapshot>) -> Self {
        Self { id: opened.hash, slot, snapshot: opened.body }
    }
}

/// What stands at a slot.
#[derive(Clone, Debug)]
pub(crate) enum Filled {
    Snapshot(Box<Opened<Snapshot>>),
    Release,
    Void,
}

/// A control object that could not be read while a set of them was listed.
#[derive(Debug)]
pub struct Unreadable {
    /// Its name.
    pub object: String,
    /// Why.
    pub error: RepositoryError,
}

impl Repository {
    /// What stands at a slot, or `None` where it is empty.
    pub(crate) fn slot(&self, position: &Position) -> Result<Option<Filled>> {
        let key = layout::snapshot(position);
        match self.store.get(&key) {
            Ok(bytes) => self.judge_slot(&key, position, &bytes).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn judge_slot(&self, key: &Key, position: &Position, bytes: &[u8]) -> Result<Filled> {
        let (kind, _) = self.unwrap(key, bytes)?;
        let elsewhere = || RepositoryError::damaged(key, "it belongs to another place");
        match kind {
            ObjectType::Snapshot => {
                let opened = self.judge::<Snapshot>(kind, key, bytes, Need::Publish(&position.dataset))?;
                let own = opened.writer == position.writer && opened.body.position == *position;
                if own { Ok(Filled::Snapshot(Box::new(opened))) } else { Err(elsewhere()) }
            }
            ObjectType::CopiedSnapshot => {
                let copied =
                    self.judge::<CopiedSnapshot>(kind, key, bytes, Need::Publish(&position.dataset))?;
                if copied.writer != position.writer || copied.body.position != *position {
                    return Err(elsewhere());
                }
                self.judge_copied(key, copied.body).map(|opened| Filled::Snapshot(Box::new(opened)))
            }
            ObjectType::Release => {
                let opened = self.judge::<crate::bodies::Release>(kind, key, bytes, Need::Write)?;
                let own = opened.writer == position.writer && opened.body.position == *position;
                if own { Ok(Filled::Release) } else { Err(elsewhere()) }
            }
            ObjectType::Void => {
                let opened = self.judge::<crate::bodies::Void>(kind, key, bytes, Need::Maintain)?;
                if opened.body.position == *position { Ok(Filled::Void) } else { Err(elsewhere()) }
            }
            other => Err(RepositoryError::damaged(key, format!("a {other:?} cannot fill a slot"))),
        }
    }

    /// What an origin's writer signed, in a copy that countersigned the origin. The slot is the copier's own,
    /// and every fact that stands in both must be the same.
    fn judge_copied(&self, key: &Key, copied: CopiedSnapshot) -> Result<Opened<Snapshot>> {
        let signed = copied.snapshot;
        let body: Snapshot =
            crate::bodies::decode(&signed.body).map_err(|e| RepositoryError::damaged(key, e))?;
        let same = |position: &Position| position.dataset == copied.position.dataset;
        if !same(&body.position) || !copied.left_out.iter().all(same) {
            return Err(RepositoryError::damaged(
                key,
                "it copies a snapshot of another dataset than its slot's",
            ));
        }
        // Whether the origin's writer was revoked is not asked: the copier judged it when it copied.
        let (repository, need) = (body.repository, Need::Publish(&body.position.dataset));
        let trust = self.trust();
        let judged =
            trust.judge(ObjectType::Snapshot, &signed, &repository, need).map(|writer| writer.public.id());
        let writer = judged.map_err(|distrust| RepositoryError::damaged(key, distrust))?;
        if writer != body.position.writer {
            return Err(RepositoryError::damaged(
                key,
                "it was signed by another writer than its position names",
            ));
        }
        Ok(Opened { hash: BodyHash::of(&signed.body), writer, body, signed })
    }

    /// Every snapshot that counts: not forgotten, and not published by a leader that had been replaced. Oldest
    /// first; of one dataset, or of all. Control objects that cannot be read go to `unreadable` and do not
    /// hide the others.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub fn snapshots(
        &self,
        dataset: Option<&DatasetName>,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<Vec<Published>> {
        Ok(self.judged_snapshots(dataset, unreadable)?.counted)
    }

    /// As [`Repository::snapshots`], with those apart that leaders published after they had been replaced:
    /// nobody builds on them, but their content stays until they are forgotten. Where the leader of a
    /// generation cannot be told, because its object is damaged or gone, what names it is unreadable.
    ///
    /// # Errors
    /// As [`Repository::snapshots`].
    pub fn judged_snapshots(
        &self,
        dataset: Option<&DatasetName>,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<Effective<Published>> {
        let snapshots = self.all_snapshots(dataset, unreadable)?;
        let own = |published: &Published| led_under(&self.id(), published);
        if snapshots.iter().all(|published| own(published).is_none()) {
            return Ok(Effective { counted: snapshots, void: Vec::new() });
        }
        let leaders = self.leaders()?;
        let (known, led_by_nobody): (Vec<_>, Vec<_>) = snapshots
            .into_iter()
            .partition(|published| own(published).is_none_or(|generation| leaders.contains_key(&generation)));
        unreadable.extend(led_by_nobody.into_iter().map(|published| {
            let (object, generation) = (layout::snapshot(&published.slot), own(&published).unwrap_or(0));
            let leader = layout::leader(generation);
            let what = format!("whether it counts cannot be told: {leader} is missing, damaged or forged");
            Unreadable { object: object.to_string(), error: RepositoryError::damaged(object, what) }
        }));
        Ok(effective_snapshots(&self.id(), known, &leaders))
    }

    /// The instant by which retention judges a snapshot's age: when it was taken; of one that a write-only host
    /// published, when the store received it, since such a host may say anything.
    ///
    /// # Errors
    /// Where the store does not say it.
    pub fn retention_time(&self, published: &Published) -> Result<Timestamp> {
        match self.is_write_only(published) {
            true => Ok(self.store.head(&layout::snapshot(&published.slot))?.arrived),
            false => Ok(published.snapshot.taken),
        }
    }

    /// Whether a write-only host published a snapshot.
    pub fn is_write_only(&self, published: &Published) -> bool {
        let snapshot = &published.snapshot;
        let trust = self.trust();
        let writer = trust.writer(&snapshot.repository, &snapshot.position.writer);
        writer.is_some_and(|writer| writer.role == Role::WriteOnly)
    }

    /// Every snapshot that is not forgotten, whether its leader had been replaced or not: what must not be
    /// deleted, and what stands in the chains.
    pub(crate) fn all_snapshots(
        &self,
        dataset: Option<&DatasetName>,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<Vec<Published>> {
        let prefix = dataset.map_or(layout::SNAPSHOTS.to_owned(), |d| format!("{}{d}/", layout::SNAPSHOTS));
        let forgotten = self.forgotten_noting(unreadable)?;
        let mut snapshots = Vec::new();
        for listed in list_all(&*self.store, &prefix)? {
            let Some(position) = layout::position(&listed.key) else { continue };
            if forgotten.contains(&position) {
                continue;
            }
            match self.slot(&position) {
                Ok(Some(Filled::Snapshot(opened))) => {
                    self.state.raise(
                        &Head::Chain(&position.dataset, &position.writer),
                        position.number,
                        &opened.hash,
                    )?;
                    snapshots.push(Published::new(position, *opened));
                }
                Ok(_) => {}
                Err(error) if is_about_one_object(&error) => {
                    unreadable.push(Unreadable { object: listed.key.to_string(), error });
                }
                Err(error) => return Err(error),
            }
        }
        snapshots.sort_by_key(|published| (published.snapshot.taken, published.snapshot.position.clone()));
        Ok(snapshots)
    }

    /// The positions that are forgotten: a tombstone stands there, and no hold that has not ended.
    pub(crate) fn forgotten(&self) -> Result<BTreeSet<Position>> {
        self.forgotten_noting(&mut Vec::new())
    }

    /// As [`Repository::forgotten`]; tombstones and holds that do not count go to `unreadable`.
    fn forgotten_noting(&self, unreadable: &mut Vec<Unreadable>) -> Result<BTreeSet<Position>> {
        let mut forgotten = self.tombstones(unreadable)?;
        if !forgotten.is_empty() {
            for hold in self.holds_noting(unreadable)? {
                forgotten.remove(&hold.position);
            }
        }
        Ok(forgotten)
    }

    /// The positions that tombstones stand at. One that no maintainer signed for its place does not count.
    fn tombstones(&self, unreadable: &mut Vec<Unreadable>) -> Result<BTreeSet<Position>> {
        let mut tombstones = BTreeSet::new();
        for listed in list_all(&*self.store, layout::TOMBSTONES)? {
            let Some(position) = layout::position(&listed.key) else { continue };
            let read = self.read::<Tombstone>(ObjectType::Tombstone, &listed.key, Need::Maintain);
            let in_place = read.and_then(|opened| match opened.body.position == position {
                true => Ok(()),
                false => Err(RepositoryError::damaged(&listed.key, "it belongs to another place")),
            });
            if noting(unreadable, &listed.key, in_place)?.is_some() {
                tombstones.insert(position);
            }
        }
        Ok(tombstones)
    }

    /// Finds a snapshot by `latest`, by the first digits of its identity, or by its full position. What a
    /// replaced leader published is never the latest, and is found where it is named.
    ///
    /// # Errors
    /// [`RepositoryError::NoSuchSnapshot`], [`RepositoryError::AmbiguousSnapshot`].
    pub fn find_snapshot(&self, dataset: Option<&DatasetName>, which: &str) -> Result<Published> {
        let mut unreadable = Vec::new();
        let all = self.judged_snapshots(dataset, &mut unreadable)?;
        let described = dataset.map_or(which.to_owned(), |d| format!("{which} of dataset {d}"));
        let mut found: Vec<Published> = if which == "latest" {
            all.counted.into_iter().next_back().into_iter().collect()
        } else {
            // Whoever names one means it, also one that a replaced leader published.
            let digits = which.to_ascii_lowercase();
            let long_enough = digits.len() >= 4;
            all.counted
                .into_iter()
                .chain(all.void)
                .filter(|p| {
                    (long_enough && p.id.to_string().starts_with(&digits))
                        || p.snapshot.position.to_string() == which
                })
                .collect()
        };
        match (found.pop(), found.is_empty(), unreadable.pop()) {
            (Some(one), true, _) => Ok(one),
            (Some(_), false, _) => Err(RepositoryError::AmbiguousSnapshot(described)),
            (None, _, Some(unreadable)) => Err(unreadable.error),
            (None, _, None) => Err(RepositoryError::NoSuchSnapshot(described)),
        }
    }

    /// Forgets a snapshot: its tombstone stays for ever, its space comes back with the next prune.
    ///
    /// # Errors
    /// [`RepositoryError::Held`], [`RepositoryError::NotPermitted`].
    pub fn forget(&self, signer: &Signer, published: &Published, reason: &str) -> Result<()> {
        self.trust().permit(&signer.id(), Need::Maintain)?;
        let position = &published.slot;
        if self.holds()?.iter().any(|hold| hold.position == *position) {
            return Err(RepositoryError::Held(position.clone()));
        }
        let body = Tombstone {
            repository: self.id(),
            position: position.clone(),
            snapshot: published.id,
            at: self.clock().now(),
            reason: reason.to_owned(),
        };
        // Somebody else's tombstone says the same.
        self.create_signed(ObjectType::Tombstone, &layout::tombstone(position), &body, signer)?;
        Ok(())
    }

    /// Holds a snapshot: nothing forgets it until the hold is released.
    ///
    /// # Errors
    /// [`RepositoryError::NoSuchSnapshot`] where it was forgotten meanwhile.
    pub fn hold(&self, signer: &Signer, published: &Published, reason: &str) -> Result<Hold> {
        let position = published.slot.clone();
        let is_forgotten = || self.tombstones(&mut Vec::new()).map(|all| all.contains(&position));
        if is_forgotten()? {
            return Err(RepositoryError::NoSuchSnapshot(published.id.short()));
        }
        let ticket = TicketId(random::bytes());
        let hold = Hold {
            repository: self.id(),
            ticket,
            position: position.clone(),
            at: self.clock().now(),
            reason: reason.to_owned(),
        };
        self.create_signed(ObjectType::Hold, &layout::hold(&ticket), &hold, signer)?;
        // Forgetting reads the holds first: if it was faster than our hold, its tombstone is there now. If it
        // comes later still, the hold wins until it ends: what is held is listed, and its content stays.
        if is_forgotten()? {
            self.release_hold(signer, &ticket)?;
            return Err(RepositoryError::NoSuchSnapshot(published.id.short()));
        }
        Ok(hold)
    }

    /// Ends a hold.
    ///
    /// # Errors
    /// [`RepositoryError::Unknown`] where there is no such hold.
    pub fn release_hold(&self, signer: &Signer, ticket: &TicketId) -> Result<()> {
        self.trust().permit(&signer.id(), Need::Maintain)?;
        if !self.holds()?.iter().any(|hold| hold.ticket == *ticket) {
            return Err(RepositoryError::Unknown(format!("hold {ticket}")));
        }
        let body = End { repository: self.id(), ticket: *ticket, at: self.clock().now() };
        self.create_signed(ObjectType::End, &layout::hold_ended(ticket), &body, signer).map(|_: Claim| ())
    }

    /// The holds that have not ended.
    ///
    /// # Errors
    /// Where one of them cannot be read: then nobody knows what is held, and nothing may be forgotten.
    pub fn holds(&self) -> Result<Vec<Hold>> {
        let mut unreadable = Vec::new();
        let holds = self.holds_noting(&mut unreadable)?;
        unreadable.pop().map_or(Ok(holds), |unreadable| Err(unreadable.error))
    }

    /// As [`Repository::holds`]; those that do not count go to `unreadable`.
    fn holds_noting(&self, unreadable: &mut Vec<Unreadable>) -> Result<Vec<Hold>> {
        let held = list_all(&*self.store, layout::HOLDS)?;
        let ended = self.ended(layout::HOLDS_ENDED)?;
        let mut holds = BTreeMap::new();
        for listed in held {
            let read =
                self.read::<Hold>(ObjectType::Hold, &listed.key, Need::Write).map(|opened| opened.body);
            let in_place = read.and_then(|hold| match layout::ticket(&listed.key) == Some(hold.ticket) {
                true => Ok(hold),
                false => Err(RepositoryError::damaged(&listed.key, "it belongs to another place")),
            });
            if let Some(hold) = noting(unreadable, &listed.key, in_place)?
                && !ended.contains_key(&hold.ticket)
            {
                holds.insert((hold.at, hold.ticket), hold);
            }
        }
        Ok(holds.into_values().collect())
    }

    /// The tickets whose end has been signed, and by whom. An end that does not count leaves what it names
    /// as it is, which is the careful side.
    pub(crate) fn ended(&self, prefix: &str) -> Result<BTreeMap<TicketId, WriterId>> {
        let need = if prefix == layout::HOLDS_ENDED { Need::Maintain } else { Need::Write };
        let mut ended = BTreeMap::new();
        for listed in list_all(&*self.store, prefix)? {
            match self.read::<End>(ObjectType::End, &listed.key, need) {
                Ok(end) if layout::ticket(&listed.key) == Some(end.body.ticket) => {
                    ended.insert(end.body.ticket, end.writer);
                }
                Ok(_) => {}
                Err(error) if is_about_one_object(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ended)
    }
}

/// Takes an error about one object as something to say, and lets others through.
pub(crate) fn noting<T>(unreadable: &mut Vec<Unreadable>, key: &Key, read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_about_one_object(&error) => {
            unreadable.push(Unreadable { object: key.to_string(), error });
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether an error is about one object, so that others can still be read.
pub(crate) fn is_about_one_object(error: &RepositoryError) -> bool {
    error.is_about_one_object()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Signed;
    use crate::keys::Lock;
    use crate::repository::{Environment, InitOptions};
    use crate::writer::{SnapshotSource, SnapshotWriter};
    use lifeboat_base::Secret;
    use lifeboat_objects::memory::MemoryStore;
    use std::path::Path;
    use std::sync::Arc;

    fn environment(state: &Path) -> Environment {
        Environment { state: Some(state.to_owned()), host: "test".to_owned(), ..Environment::default() }
    }

    fn locks() -> [(Lock, String); 1] {
        [(Lock::Command(Secret::new(vec![7; 32])), "test".to_owned())]
    }

    fn dataset(name: &str) -> DatasetName {
        DatasetName::new(name).unwrap()
    }

    fn publish(repository: &Arc<Repository>, name: &str) -> Published {
        let source = SnapshotSource {
            dataset: dataset(name),
            store: "files".to_owned(),
            source: "/data".to_owned(),
            lineage: None,
            program: "test".to_owned(),
        };
        SnapshotWriter::begin(repository, source).unwrap().finish(crate::tree::Metadata::default()).unwrap()
    }

    /// What a copier signs at a slot of its own chain: the origin's snapshot, verbatim.
    fn forge(target: &Repository, inner: &Signed, slot: &Position, left_out: Vec<Position>) -> Result<bool> {
        let body = CopiedSnapshot {
            repository: target.id(),
            position: slot.clone(),
            snapshot: inner.clone(),
            left_out,
            at: target.clock().now(),
        };
        let key = layout::snapshot(slot);
        target.create_signed(ObjectType::CopiedSnapshot, &key, &body, &target.writer()?)?;
        Ok(matches!(target.slot(slot)?, Some(Filled::Snapshot(_))))
    }

    #[test]
    fn a_copied_snapshot_counts_only_where_it_and_its_slot_say_the_same() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (store, options) = (Arc::new(MemoryStore::new()), InitOptions::default());
        let origin = Repository::init(store, &locks(), &options, environment(one.path())).unwrap();
        let origin = Arc::new(origin);
        let published = publish(&origin, "users");
        let Some(Filled::Snapshot(opened)) = origin.slot(&published.slot).unwrap() else {
            panic!("no snapshot")
        };
        let store = Arc::new(MemoryStore::new());
        let target = Repository::init_copy(store, &origin, &locks(), &options, environment(other.path()));
        let target = Arc::new(target.unwrap());
        if !target.knows_origin(&origin) {
            target.countersign_origin(&origin).unwrap();
        }
        let writer = target.writer().unwrap().id();
        let slot = |name: &str, number| Position { dataset: dataset(name), writer, number };
        let missing = |name: &str| vec![Position { dataset: dataset(name), ..published.slot.clone() }];
        assert!(forge(&target, &opened.signed, &slot("users", 1), missing("users")).unwrap());
        // A copier that may publish both datasets shows one's content under the name of the other.
        for (at, left_out) in [
            (slot("debates", 1), Vec::new()),
            (slot("debates", 2), missing("debates")),
            (slot("users", 2), missing("debates")),
        ] {
            let error = forge(&target, &opened.signed, &at, left_out).unwrap_err();
            assert!(error.to_string().contains("another dataset"), "{error}");
        }
        let mut unreadable = Vec::new();
        let listed = target.snapshots(None, &mut unreadable).unwrap();
        assert_eq!((listed.len(), unreadable.len()), (1, 3), "{unreadable:?}");
        assert_eq!((listed[0].id, &listed[0].slot), (published.id, &slot("users", 1)));
    }
}
