//! The chains of snapshots: every slot filled or claimed, each snapshot behind its predecessor, nothing gone that
//! this machine has seen.

use super::Check;
use crate::bodies::Tombstone;
use crate::envelope::ObjectType;
use crate::error::Result;
use crate::ids::{BodyHash, DatasetName, Position, WriterId};
use crate::layout;
use crate::snapshots::{Filled, Published};
use crate::state::Head;
use crate::trust::Need;
use lifeboat_objects::list_all;
use std::collections::{BTreeMap, BTreeSet};

/// The slots of one chain: for each snapshot its hash and its predecessor, for anything else nothing.
type Chain = BTreeMap<u64, Option<(BodyHash, Option<(u64, BodyHash)>)>>;
type Chains = BTreeMap<(DatasetName, WriterId), Chain>;

impl Check<'_> {
    /// Every slot of every chain is filled or leased, and snapshots follow one another. Gives the snapshots
    /// that are not forgotten, oldest first.
    pub(super) fn chains(&mut self) -> Result<Vec<Published>> {
        let forgotten = self.forgotten()?;
        let leased = self.leased()?;
        let mut chains = Chains::new();
        let mut snapshots = Vec::new();
        for listed in list_all(&*self.repository.store, layout::SNAPSHOTS)? {
            let Some(position) = layout::position(&listed.key) else { continue };
            let slot = self.repository.slot(&position);
            let filled = self.note(&listed.key, slot)?;
            if filled.is_none() && !forgotten.contains(&position) {
                self.lose_whole(&position);
            }
            let chain = chains.entry((position.dataset.clone(), position.writer)).or_default();
            let Some(Some(Filled::Snapshot(opened))) = filled else {
                chain.insert(position.number, None);
                continue;
            };
            let in_origin_chain = opened.body.position == position;
            let own = in_origin_chain.then_some((opened.hash, opened.body.predecessor));
            chain.insert(position.number, own);
            if !forgotten.contains(&position) {
                snapshots.push(Published::new(position, *opened));
            }
        }
        for ((dataset, writer), slots) in &chains {
            self.chain(dataset, writer, slots, &forgotten, &leased);
        }
        self.heads(&chains, &forgotten)?;
        self.raise_heads(&snapshots)?;
        snapshots.sort_by_key(|published| (published.snapshot.taken, published.snapshot.position.clone()));
        Ok(snapshots)
    }

    fn chain(
        &mut self,
        dataset: &DatasetName,
        writer: &WriterId,
        slots: &Chain,
        forgotten: &BTreeSet<Position>,
        leased: &BTreeSet<Position>,
    ) {
        let at = |number| Position { dataset: dataset.clone(), writer: *writer, number };
        let highest = slots.keys().next_back().copied().unwrap_or(0);
        for number in 1..highest {
            let position = at(number);
            if !slots.contains_key(&number) && !forgotten.contains(&position) && !leased.contains(&position) {
                self.problem(
                    layout::snapshot(&position),
                    "the slot is empty, and nobody claims it: its object was lost or removed",
                );
                if held_a_snapshot(slots, number) {
                    self.lose_whole(&position);
                }
            }
        }
        for (number, own) in slots {
            let Some((_, Some((before, hash)))) = own else { continue };
            let found = slots.get(before).and_then(Option::as_ref).map(|(hash, _)| hash);
            if found.is_some_and(|found| found != hash)
                || (found.is_none() && !forgotten.contains(&at(*before)) && !slots.contains_key(before))
            {
                self.problem(
                    layout::snapshot(&at(*number)),
                    format!("its predecessor {before} is not the one that it names"),
                );
            }
        }
    }

    /// The positions that tombstones stand at, the damaged ones included: each is reported, and none makes
    /// a snapshot whose content may be gone look like one that should be whole.
    fn forgotten(&mut self) -> Result<BTreeSet<Position>> {
        let mut forgotten = BTreeSet::new();
        for listed in list_all(&*self.repository.store, layout::TOMBSTONES)? {
            let Some(position) = layout::position(&listed.key) else { continue };
            let read = self.repository.read::<Tombstone>(ObjectType::Tombstone, &listed.key, Need::Maintain);
            if let Some(opened) = self.note(&listed.key, read)?
                && opened.body.position != position
            {
                self.problem(&listed.key, "it belongs to another place");
            }
            forgotten.insert(position);
        }
        Ok(forgotten)
    }

    fn leased(&self) -> Result<BTreeSet<Position>> {
        let listed = list_all(&*self.repository.store, layout::LEASES)?;
        Ok(listed.iter().filter_map(|l| layout::lease_parts(&l.key)).map(|(position, _)| position).collect())
    }

    /// What this machine has seen at the tip of a chain must still be there, or be forgotten.
    fn heads(&mut self, chains: &Chains, forgotten: &BTreeSet<Position>) -> Result<()> {
        for (dataset, writer, number, _) in self.repository.state.chains()? {
            let position = Position { dataset: dataset.clone(), writer, number };
            let there = chains.get(&(dataset, writer)).is_some_and(|slots| slots.contains_key(&number));
            if !there && !forgotten.contains(&position) {
                self.problem(
                    layout::snapshot(&position),
                    "this machine has seen a snapshot here, and it is gone",
                );
                self.lose_whole(&position);
            }
        }
        if let Some((seen, _)) = self.repository.state.head(&Head::Roster)?
            && seen > self.repository.trust().roster.number
        {
            self.problem("roster", format!("this machine has seen number {seen}"));
        }
        Ok(())
    }

    fn raise_heads(&self, snapshots: &[Published]) -> Result<()> {
        for published in snapshots {
            let Position { dataset, writer, number } = &published.slot;
            self.repository.state.raise(&Head::Chain(dataset, writer), *number, &published.id)?;
        }
        Ok(())
    }
}

/// Whether an empty slot held a snapshot: the next snapshot names its predecessor. Where none can be asked,
/// the slot is taken for one.
fn held_a_snapshot(slots: &Chain, number: u64) -> bool {
    let next = slots.range(number + 1..).find_map(|(_, own)| own.as_ref());
    next.is_none_or(|(_, predecessor)| predecessor.is_some_and(|(before, _)| before >= number))
}
