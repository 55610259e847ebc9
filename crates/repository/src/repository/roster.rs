//! Who may do what: key slots and writers, changed in the roster by who holds the root key.

use super::{Claim, Repository, wrap_open};
use crate::bodies::{EnrolledWriter, Role, Roster, Slot, SlotInfo};
use crate::crypto::{PublicKey, Signer};
use crate::envelope::ObjectType;
use crate::error::{RepositoryError, Result};
use crate::ids::{BodyHash, DatasetName, TicketId, WriterId};
use crate::keys::Lock;
use crate::opening::MAX_OCCUPIED;
use crate::trust::Need;
use crate::{bodies, keys, layout};
use lifeboat_base::clock::Timestamp;
use lifeboat_base::failpoint;

impl Repository {
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

    pub(super) fn root_signer(&self, action: &'static str) -> Result<&Signer> {
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
}

pub(super) fn slot_info(slot: &Slot, lock: &Lock, label: &str, created: Timestamp) -> SlotInfo {
    SlotInfo {
        id: slot.id,
        kind: lock.kind().to_owned(),
        admin: slot.admin,
        label: label.to_owned(),
        created,
    }
}

fn find_writer<'r>(roster: &'r mut Roster, id: &WriterId) -> Result<&'r mut EnrolledWriter> {
    let found = roster.writers.iter_mut().find(|writer| writer.public.id() == *id);
    found.ok_or_else(|| RepositoryError::Unknown(format!("writer {id}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Unlock;
    use crate::repository::{Environment, InitOptions};
    use lifeboat_base::Secret;
    use lifeboat_objects::ObjectStore;
    use lifeboat_objects::memory::MemoryStore;
    use std::sync::Arc;

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
