//! The object store as the model sees it: bulk objects under fixed names, lists, verdicts, slots.
//!
//! It owns what a single request does to the store, and what can be read out of it. It knows nothing of
//! who sends the requests, nor in which order.
//!
//! A bulk object's name stands for its content's hash. The model gives each actor names of its own, one
//! for each lease or run, so that two orders of the same uploads meet in the same state.

use crate::config::{Config, Content, MAX_ATTEMPTS, MAX_INITIAL, MAX_LISTS, MAX_RUNS, Mutation};
use crate::set::Set;

/// Packs have the numbers 0 to 15 and index objects 16 to 31, so that one set holds both.
const INDEXES_FROM: u8 = 16;
/// Every pack there can be.
pub(crate) const PACKS: Set = Set::of(0xFFFF);
/// Every pack that a pruner can upload in place of condemned ones.
pub const REPLACEMENTS: Set = Set::of(((1 << (2 * MAX_RUNS)) - 1) << pruners_pack(0, 0));
/// Every index object there can be.
pub(crate) const INDEXES: Set = Set::of(0xFFFF_0000);
/// Slots of both writers.
pub(crate) const SLOTS: usize = 2 * MAX_ATTEMPTS;

/// The pack that writer `writer` uploads under its lease number `attempt`.
pub(crate) const fn writers_pack(writer: usize, attempt: u8) -> u8 {
    (MAX_INITIAL + writer * MAX_ATTEMPTS) as u8 + attempt
}

/// The pack that pruner `pruner` uploads in its run number `run`.
pub(crate) const fn pruners_pack(pruner: usize, run: u8) -> u8 {
    (MAX_INITIAL + 2 * MAX_ATTEMPTS + pruner * MAX_RUNS) as u8 + run
}

/// The index object made along with `pack`.
pub(crate) const fn index_beside(pack: u8) -> u8 {
    pack + INDEXES_FROM
}

/// The slot of `writer` and its lease number `attempt`.
pub(crate) const fn slot_of(writer: usize, attempt: u8) -> usize {
    writer * MAX_ATTEMPTS + attempt as usize
}

/// A snapshot slot and the lease upon it. Whatever fills a slot stays there for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Slot {
    /// No lease names the slot.
    Unclaimed,
    /// A lease names it, and nothing fills it.
    Leased,
    /// Published.
    Snapshot,
    /// Given up by the lease's own writer.
    Released,
    /// Filled by a pruner that judged the lease lapsed.
    Void,
    /// The lease object is gone and nothing fills the slot: only a broken rule leads here.
    Abandoned,
}

/// Somebody's hold on the first snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hold {
    /// There is none.
    None,
    /// The hold object exists; whether its snapshot was forgotten before has not been looked at.
    Placed,
    /// After placing it, no tombstone was seen: from here on the snapshot must stay readable.
    Effective,
    /// A tombstone was there: the hold failed, and says so.
    Failed,
}

/// Everything that the object store holds, and the requests still under way to it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Store {
    /// Bulk objects that exist.
    pub exists: Set,
    /// Bulk objects of which one more PUT is under way that nobody waits for.
    pub hung: Set,
    /// Bulk objects that were sent twice with different content.
    pub renamed: Set,
    /// What each pack holds, or would hold.
    pub contents: [Content; 16],
    /// Which packs each index object names, or would name.
    pub entries: [u16; 16],
    /// Condemn lists; an empty one does not exist.
    pub lists: [Set; MAX_LISTS],
    /// Verdicts; whether one exists says `decided`.
    pub verdicts: [Set; MAX_LISTS],
    /// The numbers of the verdicts that exist.
    pub decided: Set,
    /// The slots of the writers.
    pub slots: [Slot; SLOTS],
    /// Slots for which a snapshot's creation is under way that nobody waits for.
    pub hung_snapshots: Set,
    /// Forgotten snapshots: the slots, then the initial ones.
    pub tombstones: Set,
    /// The hold.
    pub hold: Hold,
    /// Requests that may still hang.
    pub hangs_left: u8,
}

impl Store {
    /// The repository as `config` has it at the start.
    pub(crate) fn new(config: &Config) -> Store {
        let mut store = Store {
            exists: Set::EMPTY,
            hung: Set::EMPTY,
            renamed: Set::EMPTY,
            contents: [Content::default(); 16],
            entries: [0; 16],
            lists: [Set::EMPTY; MAX_LISTS],
            verdicts: [Set::EMPTY; MAX_LISTS],
            decided: Set::EMPTY,
            slots: [Slot::Unclaimed; SLOTS],
            hung_snapshots: Set::EMPTY,
            tombstones: Set::EMPTY,
            hold: Hold::None,
            hangs_left: config.hangs,
        };
        for (pack, content) in (0..).zip(config.packs) {
            store.put_pack(pack, *content);
        }
        for (at, entries) in (0..).zip(config.indexes) {
            store.put_index(index_beside(at), Set::of(u32::from(*entries)));
        }
        store
    }

    /// A pack's PUT that is carried out and answered.
    pub(crate) fn put_pack(&mut self, pack: u8, content: Content) {
        self.name_pack(pack, content);
        self.exists |= Set::one(pack);
    }

    /// A pack's PUT that is sent and not answered.
    pub(crate) fn hang_pack(&mut self, pack: u8, content: Content) {
        self.name_pack(pack, content);
        self.hang(pack);
    }

    /// An index object's PUT that is carried out and answered.
    pub(crate) fn put_index(&mut self, index: u8, packs: Set) {
        self.name_index(index, packs);
        self.exists |= Set::one(index);
    }

    /// An index object's PUT that is sent and not answered.
    pub(crate) fn hang_index(&mut self, index: u8, packs: Set) {
        self.name_index(index, packs);
        self.hang(index);
    }

    fn hang(&mut self, object: u8) {
        self.hung |= Set::one(object);
        self.hangs_left -= 1;
    }

    fn name_pack(&mut self, pack: u8, content: Content) {
        let before = &mut self.contents[usize::from(pack)];
        if !before.is_empty() && *before != content {
            self.renamed |= Set::one(pack);
        }
        *before = content;
    }

    fn name_index(&mut self, index: u8, packs: Set) {
        let before = &mut self.entries[usize::from(index - INDEXES_FROM)];
        if *before != 0 && u32::from(*before) != packs.bits() {
            self.renamed |= Set::one(index);
        }
        *before = packs.bits() as u16;
    }

    /// What `pack` holds, or held before it was deleted: an index entry outlives its pack.
    pub(crate) fn content(&self, pack: u8) -> Content {
        self.contents[usize::from(pack)]
    }

    /// The packs that the index objects of `indexes` name.
    pub(crate) fn named_by(&self, indexes: Set) -> Set {
        let entries = (indexes & INDEXES).iter().map(|index| self.entries[usize::from(index - INDEXES_FROM)]);
        Set::of(u32::from(entries.fold(0, |all, packs| all | packs)))
    }

    /// The chunks that can be read out of `packs`: whole ones, and deltas whose base can be read.
    pub(crate) fn readable(&self, config: &Config, packs: Set) -> Set {
        let mut held = Content::default();
        for pack in (packs & PACKS).iter() {
            let content = self.content(pack);
            held = Content { full: held.full | content.full, delta: held.delta | content.delta };
        }
        let mut readable = Set::of(u32::from(held.full));
        for chunk in Set::of(u32::from(held.delta)).iter() {
            let base = config.bases[usize::from(chunk)];
            if base.is_some_and(|base| readable.has(base)) {
                readable |= Set::one(chunk);
            }
        }
        readable
    }

    /// The numbers of the condemn lists that exist.
    pub(crate) fn listed(&self) -> Set {
        (0..).zip(&self.lists).filter(|(_, list)| !list.is_empty()).map(|(number, _)| number).collect()
    }

    /// The numbers of the verdicts that somebody who reads them now takes into account.
    pub(crate) fn known_verdicts(&self, config: &Config) -> Set {
        if !config.breaks(Mutation::VerdictsExpire) {
            return self.decided;
        }
        let expired = |number: &u8| (self.verdicts[usize::from(*number)] & self.exists).is_empty();
        self.decided.iter().filter(|number| !expired(number)).collect()
    }

    /// What the verdicts with these numbers name.
    pub(crate) fn dead(&self, verdicts: Set) -> Set {
        verdicts.iter().fold(Set::EMPTY, |dead, number| dead | self.verdicts[usize::from(number)])
    }

    /// What the lists with these numbers name.
    pub(crate) fn condemned(&self, lists: Set) -> Set {
        lists.iter().fold(Set::EMPTY, |named, number| named | self.lists[usize::from(number)])
    }

    /// Slots under lease that nothing fills.
    pub(crate) fn open_leases(&self) -> Set {
        (0..).zip(&self.slots).filter(|(_, slot)| **slot == Slot::Leased).map(|(at, _)| at).collect()
    }

    /// The snapshots that are published and not forgotten, each with a mask of its chunks.
    pub(crate) fn snapshots(&self, config: &Config) -> impl Iterator<Item = (u8, Set)> {
        let slots = (0..).zip(&self.slots).filter(|(_, slot)| **slot == Slot::Snapshot);
        let published = slots.map(|(at, _)| (at, config.wants[usize::from(at) / MAX_ATTEMPTS]));
        let initial = (SLOTS as u8..).zip(config.snapshots.iter().copied());
        published
            .chain(initial)
            .filter(|(name, _)| !self.tombstones.has(*name))
            .map(|(name, chunks)| (name, Set::of(u32::from(chunks))))
    }

    /// Whether the first snapshot, which leases and holds pin, is forgotten.
    pub(crate) fn base_is_forgotten(&self) -> bool {
        self.tombstones.has(SLOTS as u8)
    }
}
