//! The whole: store, writers, pruners, what can happen next, and what must never be.
//!
//! Every actor may stop for ever or come back late at any step, because in every state each of them may
//! be the next to move or never move again.

use std::fmt;

use crate::config::{Config, Demand};
use crate::pruner::{self, Pruner};
use crate::set::Set;
use crate::step::{Actor, BulkName, Deed, SlotName, Step};
use crate::store::{Hold, INDEXES, PACKS, Slot, Store, slot_of};
use crate::writer::{self, Phase, Writer};

/// One state of everything.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    /// The object store.
    pub store: Store,
    /// The writers; those beyond the configuration's number never move.
    pub writers: [Writer; 2],
    /// The pruners; those beyond the configuration's number never move.
    pub pruners: [Pruner; 2],
}

/// What must never be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// A published snapshot that is not forgotten cannot be read.
    Snapshot {
        /// The snapshot.
        name: u8,
        /// The first chunk that is lost.
        chunk: u8,
    },
    /// A snapshot under an effective hold cannot be read.
    Held {
        /// The first chunk that is lost.
        chunk: u8,
    },
    /// The base of a running backup cannot be read.
    Base {
        /// The writer.
        writer: u8,
        /// The first chunk that is lost.
        chunk: u8,
    },
    /// A writer believes that it published, and did not.
    Belief {
        /// The writer.
        writer: u8,
    },
    /// One name was sent with two contents.
    Renamed {
        /// The object.
        object: u8,
    },
    /// A verdict names what its list does not.
    BeyondList {
        /// The verdict's number.
        number: u8,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Violation::Snapshot { name, chunk } => {
                write!(f, "chunk {chunk} of the snapshot at {} cannot be relied upon", SlotName(name))
            }
            Violation::Held { chunk } => {
                write!(f, "chunk {chunk} of the held snapshot cannot be relied upon")
            }
            Violation::Base { writer, chunk } => {
                write!(f, "chunk {chunk} of the base of writer {writer} cannot be relied upon")
            }
            Violation::Belief { writer } => write!(f, "writer {writer} believes that it published"),
            Violation::Renamed { object } => write!(f, "{} has two contents", BulkName(object)),
            Violation::BeyondList { number } => {
                write!(f, "verdict {} names what its list does not", number + 1)
            }
        }
    }
}

impl State {
    /// The first state of a search.
    pub fn new(config: &Config) -> State {
        State {
            store: Store::new(config),
            writers: [Writer::new(), Writer::new()],
            pruners: [Pruner::new(), Pruner::new()],
        }
    }

    /// Puts into `out` every step that anybody can take, with the state after it.
    pub fn steps(&self, config: &Config, out: &mut Vec<(Step, State)>) {
        for number in 0..config.wants.len() {
            writer::steps(config, self, number, out);
        }
        for number in 0..usize::from(config.pruners) {
            pruner::steps(config, self, number, out);
        }
        self.late_requests(out);
        self.deletions(out);
        self.operators(config, out);
    }

    fn take(&self, actor: Actor, deed: Deed, out: &mut Vec<(Step, State)>, change: impl FnOnce(&mut Store)) {
        let mut next = self.clone();
        change(&mut next.store);
        out.push((Step { actor, deed }, next));
    }

    /// Requests that nobody waits for are carried out at any time, whatever became of who sent them.
    fn late_requests(&self, out: &mut Vec<(Step, State)>) {
        for object in self.store.hung.iter() {
            self.take(Actor::Store, Deed::Lands { object }, out, |store| {
                store.hung = store.hung - Set::one(object);
                store.exists |= Set::one(object);
            });
        }
        for slot in self.store.hung_snapshots.iter() {
            let at = usize::from(slot);
            let free = matches!(self.store.slots[at], Slot::Leased | Slot::Abandoned);
            let deed = if free { Deed::SnapshotLands { slot } } else { Deed::SnapshotFails { slot } };
            self.take(Actor::Store, deed, out, |store| {
                store.hung_snapshots = store.hung_snapshots - Set::one(slot);
                if free {
                    store.slots[at] = Slot::Snapshot;
                }
            });
        }
    }

    /// Whoever knows a verdict may delete what it names, at any time and more than once.
    fn deletions(&self, out: &mut Vec<(Step, State)>) {
        for object in (self.store.exists & self.store.dead(self.store.decided)).iter() {
            self.take(Actor::Store, Deed::Delete { object }, out, |store| {
                store.exists = store.exists - Set::one(object);
            });
        }
    }

    fn operators(&self, config: &Config, out: &mut Vec<(Step, State)>) {
        if self.store.tombstones.len() < config.forgets {
            for (snapshot, _) in self.store.snapshots(config) {
                self.take(Actor::Operator, Deed::Forget { snapshot }, out, |store| {
                    store.tombstones |= Set::one(snapshot);
                });
            }
        }
        if config.holds && self.store.hold == Hold::None {
            self.take(Actor::Operator, Deed::Hold, out, |store| store.hold = Hold::Placed);
        }
        if self.store.hold == Hold::Placed {
            let effective = !self.store.base_is_forgotten();
            self.take(Actor::Operator, Deed::CheckHold { effective }, out, |store| {
                store.hold = if effective { Hold::Effective } else { Hold::Failed };
            });
        }
    }

    /// The first thing that is wrong with this state, if there is any.
    pub fn violation(&self, config: &Config) -> Option<Violation> {
        let readable = self.reliable(config);
        self.unreadable_snapshot(config, readable)
            .or_else(|| self.unreadable_pin(config, readable))
            .or_else(|| self.mistaken_writer(config))
            .or_else(|| self.broken_name())
    }

    /// The chunks that can be read, by the configuration's demand with or without what is dead.
    fn reliable(&self, config: &Config) -> Set {
        let dead = match config.demand {
            Demand::NothingNeededIsDead => self.store.dead(self.store.decided),
            Demand::NothingNeededIsGone => Set::EMPTY,
        };
        let good = self.store.exists - dead;
        self.store.readable(config, self.store.named_by(good & INDEXES) & good & PACKS)
    }

    fn unreadable_snapshot(&self, config: &Config, readable: Set) -> Option<Violation> {
        self.store.snapshots(config).find_map(|(name, chunks)| {
            let chunk = (chunks - readable).iter().next()?;
            Some(Violation::Snapshot { name, chunk })
        })
    }

    fn unreadable_pin(&self, config: &Config, readable: Set) -> Option<Violation> {
        let chunk = (config.base_chunks() - readable).iter().next()?;
        if self.store.hold == Hold::Effective {
            return Some(Violation::Held { chunk });
        }
        let relying = (0..2).find(|&number| {
            let writer = &self.writers[number];
            writer.relies_on_base(self.store.slots[slot_of(number, writer.attempt)])
        })?;
        Some(Violation::Base { writer: relying as u8, chunk })
    }

    fn mistaken_writer(&self, config: &Config) -> Option<Violation> {
        let mistaken = (0..config.wants.len()).find(|&number| {
            let writer = &self.writers[number];
            let slot = self.store.slots[slot_of(number, writer.attempt)];
            writer.phase == Phase::Published && slot != Slot::Snapshot
        })?;
        Some(Violation::Belief { writer: mistaken as u8 })
    }

    fn broken_name(&self) -> Option<Violation> {
        if let Some(object) = self.store.renamed.iter().next() {
            return Some(Violation::Renamed { object });
        }
        let within = |number: u8| {
            self.store.lists[usize::from(number)].covers(self.store.verdicts[usize::from(number)])
        };
        let number = self.store.decided.iter().find(|&number| !within(number))?;
        Some(Violation::BeyondList { number })
    }
}
