//! Who may say what: rosters, slots, condemn lists, verdicts, holds.

use super::Check;
use crate::bodies::{Roster, Slot};
use crate::envelope::ObjectType;
use crate::error::{RepositoryError, Result};
use crate::ids::BodyHash;
use crate::lists::Lists;
use crate::opening::read_slot;
use crate::trust::Trust;
use crate::{envelope, layout};
use lifeboat_objects::{Key, list_all};

impl Check<'_> {
    /// Every roster in its place, signed and linked; every slot that the newest one lists.
    pub(super) fn trust(&mut self) -> Result<()> {
        let root = self.repository.keys.root;
        let newest = self.repository.trust().roster.clone();
        let listed = list_all(&*self.repository.store, layout::ROSTER)?;
        let listed: Vec<u64> = listed.iter().filter_map(|l| layout::listed_number(&l.key)).collect();
        // What a crashed init had taken before may be gone: the first roster is the one that names no other.
        let first = listed.first().map_or(1, |first| newest.number.min(*first));
        let beyond = listed.into_iter().filter(|number| *number > newest.number);
        let mut previous: Option<Option<BodyHash>> = Some(None);
        for number in (first..=newest.number).chain(beyond) {
            let read = self.read_roster(number, &root);
            let read = self.note(layout::roster(number), read)?;
            if let Some((roster, _)) = &read
                && previous.is_some_and(|previous| previous != roster.previous)
            {
                self.problem(layout::roster(number), "it does not follow the roster before it");
            }
            previous = read.map(|(_, hash)| Some(hash));
        }
        for slot in &newest.slots {
            let read = self.read_slot(&layout::slot(&slot.id), &root);
            self.note(layout::slot(&slot.id), read)?;
        }
        Ok(())
    }

    fn read_roster(&self, number: u64, root: &crate::crypto::PublicKey) -> Result<(Roster, BodyHash)> {
        let key = layout::roster(number);
        let (kind, signed) = self.repository.unwrap(&key, &self.repository.store.get(&key)?)?;
        let roster: Roster =
            crate::bodies::decode(&signed.body).map_err(|e| RepositoryError::damaged(&key, e))?;
        let whole =
            kind == ObjectType::Roster && roster.number == number && Trust::root_signed(root, kind, &signed);
        if whole {
            Ok((roster, BodyHash::of(&signed.body)))
        } else {
            Err(RepositoryError::damaged(&key, "the root did not sign it for this place"))
        }
    }

    fn read_slot(&self, key: &Key, root: &crate::crypto::PublicKey) -> Result<Slot> {
        let slot = read_slot(&self.repository.store, key, &self.repository.id())?;
        let bytes = self.repository.store.get(key)?;
        let signed = envelope::unwrap(&bytes, None, None).map_err(|e| RepositoryError::damaged(key, e))?.1;
        if Trust::root_signed(root, ObjectType::Slot, &signed) {
            Ok(slot)
        } else {
            Err(RepositoryError::damaged(key, "the root did not sign it"))
        }
    }

    pub(super) fn lists(&mut self) -> Result<Lists> {
        let lists = self.repository.read_lists();
        let lists = self.note("condemn lists and verdicts", lists)?.unwrap_or_default();
        for (kind, prefix) in
            [(ObjectType::CondemnList, layout::CONDEMNED), (ObjectType::Verdict, layout::VERDICTS)]
        {
            for listed in list_all(&*self.repository.store, prefix)? {
                let Some(number) = layout::listed_number(&listed.key) else { continue };
                let set = self.repository.read_set(kind, number);
                self.note(&listed.key, set)?;
            }
        }
        let holds = self.repository.holds();
        self.note("holds", holds)?;
        Ok(lists)
    }
}
