//! The newest snapshot of every dataset, looked at again and again without reading what was read before.
//!
//! Of each chain (dataset and writer) only the tip is read: the highest number that is not forgotten. A snapshot is
//! never changed, so that one that was read before is taken from memory; what was forgotten since, or published by a
//! leader that had been replaced, does not count. Memory grows with the chains, not with the snapshots.
//!
//! Where a tip cannot be read, the one below it answers.

use crate::error::Result;
use crate::ids::{DatasetName, Position, WriterId};
use crate::layout;
use crate::leader::effective_snapshots;
use crate::repository::Repository;
use crate::snapshots::{Filled, Published, Unreadable, is_about_one_object};
use lifeboat_objects::list_all;
use std::collections::BTreeMap;

/// The tips that were read before.
#[derive(Debug, Default)]
pub struct Tips(BTreeMap<Position, Published>);

impl Tips {
    /// The newest snapshot that counts of each dataset. Tips that cannot be read go to `unreadable`.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub fn newest(
        &mut self,
        repository: &Repository,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<BTreeMap<DatasetName, Published>> {
        let forgotten = repository.forgotten()?;
        let mut chains: BTreeMap<(DatasetName, WriterId), Vec<Position>> = BTreeMap::new();
        for listed in list_all(&*repository.store, layout::SNAPSHOTS)? {
            if let Some(position) = layout::position(&listed.key).filter(|at| !forgotten.contains(at)) {
                chains.entry((position.dataset.clone(), position.writer)).or_default().push(position);
            }
        }
        let mut tips = BTreeMap::new();
        for mut chain in chains.into_values() {
            chain.sort_unstable_by_key(|position| std::cmp::Reverse(position.number));
            if let Some(tip) = self.tip(repository, chain, unreadable)? {
                tips.insert(tip.slot.clone(), tip);
            }
        }
        self.0 = tips;
        self.judge(repository)
    }

    /// The first of these that holds a snapshot: a slot may hold a release or a void instead.
    fn tip(
        &mut self,
        repository: &Repository,
        newest_first: Vec<Position>,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<Option<Published>> {
        for position in newest_first {
            if let Some(known) = self.0.remove(&position) {
                return Ok(Some(known));
            }
            match repository.slot(&position) {
                Ok(Some(Filled::Snapshot(opened))) => return Ok(Some(Published::new(position, *opened))),
                Ok(_) => {}
                Err(error) if is_about_one_object(&error) => {
                    unreadable.push(Unreadable { object: layout::snapshot(&position).to_string(), error });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn judge(&self, repository: &Repository) -> Result<BTreeMap<DatasetName, Published>> {
        let leaders = repository.leaders()?;
        let counted =
            effective_snapshots(&repository.id(), self.0.values().cloned().collect(), &leaders).counted;
        let mut newest: BTreeMap<DatasetName, Published> = BTreeMap::new();
        for published in counted {
            let dataset = published.slot.dataset.clone();
            let is_newer =
                newest.get(&dataset).is_none_or(|known| known.snapshot.taken <= published.snapshot.taken);
            if is_newer {
                newest.insert(dataset, published);
            }
        }
        Ok(newest)
    }
}
