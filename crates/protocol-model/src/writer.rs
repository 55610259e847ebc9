//! The writer: lease, lists and verdicts, index, packs, index object, snapshot; and again after a void.
//!
//! It owns what a writer remembers and in which order it sends its requests. It knows no pruner: whatever
//! it learns of one, it reads from the store.

use crate::config::{Config, Content, Mutation, ReadOrder};
use crate::set::Set;
use crate::step::{Actor, Deed, Step};
use crate::store::{Slot, Store, index_beside, slot_of, writers_pack};
use crate::world::State;

/// What a writer remembers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Writer {
    /// How many leases it has left behind.
    pub attempt: u8,
    /// Its own packs whose upload was answered.
    pub own: Set,
    /// Whether it found its base there after it had created its lease.
    pub pinned: bool,
    /// What it does next.
    pub phase: Phase,
}

/// What a writer does next.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// Take a lease.
    Lease,
    /// Send the first of the two reads of lists and verdicts.
    FirstRead,
    /// Send the second; the first saw these numbers.
    SecondRead {
        /// Numbers of lists, or of verdicts, by the configuration's order.
        seen: Set,
    },
    /// Look whether the base is still there.
    Base {
        /// What is condemned or dead.
        banned: Set,
    },
    /// Read the index and compare.
    Compare {
        /// What is condemned or dead.
        banned: Set,
    },
    /// Upload a pack.
    Upload {
        /// Its name.
        pack: u8,
        /// What goes into it.
        content: Content,
        /// Older packs of its own that the index object will name along with it.
        entries: Set,
    },
    /// Create an index object.
    Record {
        /// The packs that it names.
        entries: Set,
    },
    /// Create the snapshot.
    Publish,
    /// Nothing more: its snapshot is published, as far as it knows.
    Published,
    /// Nothing more: it gave up.
    GaveUp,
}

impl Writer {
    /// A writer that has done nothing yet.
    pub(crate) fn new() -> Writer {
        Writer { attempt: 0, own: Set::EMPTY, pinned: false, phase: Phase::Lease }
    }

    /// Whether the writer reads out of its base, and may rely on it, under a lease on `slot`.
    pub(crate) fn relies_on_base(&self, slot: Slot) -> bool {
        self.pinned && slot == Slot::Leased
    }

    fn holds_lease(&self) -> bool {
        !matches!(self.phase, Phase::Lease | Phase::Published | Phase::GaveUp)
    }

    fn end(&mut self, phase: Phase) {
        *self = Writer { attempt: self.attempt, own: Set::EMPTY, pinned: false, phase };
    }

    /// Goes on with the next lease, or gives up where the bounds allow no other.
    fn try_again(&mut self, config: &Config) {
        if self.attempt + 1 < config.attempts {
            self.attempt += 1;
            self.pinned = false;
            self.phase = Phase::Lease;
        } else {
            self.end(Phase::GaveUp);
        }
    }
}

/// Adds to `out` every step that writer `number` can take, with the state after it.
pub(crate) fn steps(config: &Config, state: &State, number: usize, out: &mut Vec<(Step, State)>) {
    let mut turn = Turn { config, state, number, out };
    let me = turn.me();
    match me.phase {
        Phase::Lease => turn.lease(),
        Phase::FirstRead => turn.first_read(),
        Phase::SecondRead { seen } => turn.second_read(seen),
        Phase::Base { banned } => turn.look_at_base(banned),
        Phase::Compare { banned } => turn.compare(banned),
        Phase::Upload { pack, content, entries } => turn.upload(pack, content, entries),
        Phase::Record { entries } => turn.record(entries),
        Phase::Publish => turn.publish(),
        Phase::Published | Phase::GaveUp => return,
    }
    turn.find_void_early();
    turn.release();
    turn.restart();
}

struct Turn<'a> {
    config: &'a Config,
    state: &'a State,
    number: usize,
    out: &'a mut Vec<(Step, State)>,
}

impl Turn<'_> {
    fn me(&self) -> &Writer {
        &self.state.writers[self.number]
    }

    fn slot(&self) -> usize {
        slot_of(self.number, self.me().attempt)
    }

    fn take(&mut self, deed: Deed, change: impl FnOnce(&mut Writer, &mut Store)) {
        let mut next = self.state.clone();
        change(&mut next.writers[self.number], &mut next.store);
        self.out.push((Step { actor: Actor::Writer(self.number), deed }, next));
    }

    fn lease(&mut self) {
        let slot = self.slot();
        let unchecked = self.me().attempt > 0 && self.config.breaks(Mutation::NoRevalidation);
        self.take(Deed::Lease { slot: slot as u8 }, |me, store| {
            store.slots[slot] = Slot::Leased;
            me.phase = if unchecked { Phase::Publish } else { Phase::FirstRead };
        });
    }

    /// Lists that still count: all, unless verdicts expire and take their lists along.
    fn lists(&self) -> Set {
        let store = &self.state.store;
        store.listed() - (store.decided - store.known_verdicts(self.config))
    }

    fn first_read(&mut self) {
        let (deed, seen) = match self.config.read_order {
            ReadOrder::ListsFirst => (Deed::ReadLists { lists: self.lists() }, self.lists()),
            ReadOrder::VerdictsFirst => {
                let verdicts = self.state.store.known_verdicts(self.config);
                (Deed::ReadVerdicts { verdicts }, verdicts)
            }
        };
        self.take(deed, |me, _| me.phase = Phase::SecondRead { seen });
    }

    fn second_read(&mut self, seen: Set) {
        let (lists, verdicts, deed) = match self.config.read_order {
            ReadOrder::ListsFirst => {
                let verdicts = self.state.store.known_verdicts(self.config);
                (seen, verdicts, Deed::ReadVerdicts { verdicts })
            }
            ReadOrder::VerdictsFirst => (self.lists(), seen, Deed::ReadLists { lists: self.lists() }),
        };
        let store = &self.state.store;
        let condemned = store.condemned(lists - verdicts);
        let ignored = self.config.breaks(Mutation::CondemnedCountsAsPresent);
        let banned = store.dead(verdicts) | if ignored { Set::EMPTY } else { condemned };
        let pins = self.config.leases_pin;
        self.take(deed, |me, _| {
            me.phase = if pins { Phase::Base { banned } } else { Phase::Compare { banned } };
        });
    }

    fn look_at_base(&mut self, banned: Set) {
        let forgotten = self.state.store.base_is_forgotten();
        self.take(Deed::LookAtBase { forgotten }, |me, _| {
            me.pinned = !forgotten;
            me.phase = Phase::Compare { banned };
        });
    }

    /// Compares what is wanted with what is present: what the index names, and what this writer uploaded
    /// before, each pack checked by its name. The index is believed whatever its objects' own fate is.
    fn compare(&mut self, banned: Set) {
        let store = &self.state.store;
        let indexed = store.named_by(store.exists);
        let trusted = self.config.breaks(Mutation::OwnPacksUnchecked);
        let own = self.me().own - if trusted { Set::EMPTY } else { banned };
        let present = (indexed - banned) | own;
        let wanted = Set::of(u32::from(self.config.wants[self.number]));
        let readable = self.present_chunks(present);
        let missing = wanted - readable;
        let unindexed = own - indexed;
        let whole = self.content_of(missing, Set::EMPTY);
        let deltas = self.content_of(missing, readable | missing);
        self.intend(banned, missing, whole, unindexed);
        if deltas != whole {
            self.intend(banned, missing, deltas, unindexed);
        }
    }

    fn present_chunks(&self, packs: Set) -> Set {
        let store = &self.state.store;
        if self.config.breaks(Mutation::BasesUnchecked) {
            return packs.iter().fold(Set::EMPTY, |all, pack| all | store.content(pack).chunks());
        }
        store.readable(self.config, packs)
    }

    /// A pack of `chunks`, as deltas where the base is among `bases`.
    fn content_of(&self, chunks: Set, bases: Set) -> Content {
        let is_delta = |chunk: u8| self.config.bases[usize::from(chunk)].is_some_and(|base| bases.has(base));
        chunks.iter().fold(Content::default(), |pack, chunk| pack.with(chunk, is_delta(chunk)))
    }

    fn intend(&mut self, banned: Set, missing: Set, content: Content, entries: Set) {
        let pack = self.name_for(content, banned);
        self.take(Deed::Compare { missing, content }, |me, _| {
            me.phase = if !content.is_empty() {
                Phase::Upload { pack, content, entries }
            } else if !entries.is_empty() {
                Phase::Record { entries }
            } else {
                Phase::Publish
            };
        });
    }

    /// The name for an upload: that of the earlier lease's spooled pack if its bytes are wanted again and
    /// nothing names it, else a new one.
    fn name_for(&self, content: Content, banned: Set) -> u8 {
        let attempt = self.me().attempt;
        if let Some(earlier) = attempt.checked_sub(1) {
            let spooled = writers_pack(self.number, earlier);
            let allowed = !banned.has(spooled) || self.config.breaks(Mutation::ResendsCondemned);
            if allowed && self.state.store.content(spooled) == content {
                return spooled;
            }
        }
        writers_pack(self.number, attempt)
    }

    fn may_hang(&self, object: u8) -> bool {
        self.state.store.hangs_left > 0 && !self.state.store.hung.has(object)
    }

    fn upload(&mut self, pack: u8, content: Content, entries: Set) {
        self.take(Deed::Put { object: pack }, |me, store| {
            store.put_pack(pack, content);
            me.own |= Set::one(pack);
            me.phase = Phase::Record { entries: entries | Set::one(pack) };
        });
        if self.may_hang(pack) {
            self.take(Deed::PutHangs { object: pack }, |_, store| store.hang_pack(pack, content));
        }
    }

    fn record(&mut self, entries: Set) {
        let index = index_beside(writers_pack(self.number, self.me().attempt));
        self.take(Deed::Put { object: index }, |me, store| {
            store.put_index(index, entries);
            me.phase = Phase::Publish;
        });
        if self.may_hang(index) {
            self.take(Deed::PutHangs { object: index }, |_, store| store.hang_index(index, entries));
        }
    }

    fn publish(&mut self) {
        let at = self.slot();
        let slot = at as u8;
        match self.state.store.slots[at] {
            Slot::Leased | Slot::Snapshot => self.take(Deed::Publish { slot }, |me, store| {
                store.slots[at] = Slot::Snapshot;
                me.end(Phase::Published);
            }),
            _ => self.find_void(slot),
        }
        let store = &self.state.store;
        if store.hangs_left > 0 && !store.hung_snapshots.has(slot) {
            self.take(Deed::PublishHangs { slot }, |_, store| {
                store.hung_snapshots |= Set::one(slot);
                store.hangs_left -= 1;
            });
        }
    }

    fn find_void(&mut self, slot: u8) {
        let config = self.config;
        self.take(Deed::FindVoid { slot }, |me, _| me.try_again(config));
    }

    /// A writer may look at its slot between uploads.
    fn find_void_early(&mut self) {
        let uploading = matches!(self.me().phase, Phase::Upload { .. } | Phase::Record { .. });
        let at = self.slot();
        let void = self.state.store.slots[at] == Slot::Void;
        if uploading && void && !self.config.breaks(Mutation::NoRevalidation) {
            self.find_void(at as u8);
        }
    }

    fn release(&mut self) {
        let at = self.slot();
        let open = self.state.store.slots[at] == Slot::Leased;
        if !(self.config.releases && self.me().holds_lease() && open) {
            return;
        }
        let left =
            if self.config.breaks(Mutation::ReleaseFillsNothing) { Slot::Abandoned } else { Slot::Released };
        self.take(Deed::Release { slot: at as u8 }, |me, store| {
            store.slots[at] = left;
            me.end(Phase::GaveUp);
        });
    }

    fn restart(&mut self) {
        if self.config.restarts && self.me().holds_lease() && self.me().attempt + 1 < self.config.attempts {
            self.take(Deed::Restart, |me, _| {
                *me = Writer { attempt: me.attempt + 1, ..Writer::new() };
            });
        }
    }
}
