//! The pruner: open or join a list, wait for its leases, read what lives, save it, decide.
//!
//! It owns what a pruner remembers and in which order it sends its requests. Deletions are not here: once a
//! verdict exists, any pruner may carry them out in any order and at any time, and [`crate::world`] does.

use crate::config::{Config, Content, Mutation};
use crate::set::Set;
use crate::step::{Actor, Deed, Step};
use crate::store::{Hold, INDEXES, PACKS, Slot, Store, index_beside, pruners_pack};
use crate::world::State;

/// What a pruner remembers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pruner {
    /// How many verdicts it has taken part in.
    pub run: u8,
    /// The verdicts that it read at the start of this run.
    pub known: Set,
    /// What it does next.
    pub phase: Phase,
}

/// What a pruner does next, for the list and verdict of one number.
#[expect(
    missing_docs,
    reason = "number: of the list; wait: slots; live: chunks; the rest is named for its type"
)]
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// Read lists and verdicts.
    Look,
    /// List the leases before the list exists: only a broken pruner does.
    EarlyLeases { number: u8 },
    /// Create a list, having listed the leases before: only a broken pruner does.
    LateOpen { number: u8, wait: Set },
    /// Create a list.
    Open { number: u8 },
    /// List the leases.
    Leases { number: u8 },
    /// Wait until these slots are filled, or fill them; then read the snapshots.
    Wait { number: u8, wait: Set },
    /// Read the snapshots after the pins: only a broken pruner does.
    LateSnapshots { number: u8, live: Set },
    /// Read what leases and holds pin.
    Pins { number: u8, live: Set },
    /// Read the index and make a plan.
    Index { number: u8, live: Set },
    /// Upload a replacement pack.
    Upload { number: u8, plan: Plan },
    /// Create an index object.
    Record { number: u8, plan: Plan },
    /// Create the verdict.
    Decide { number: u8, verdict: Set },
    /// Nothing more.
    Done,
}

/// What a pruner wants to do about a list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Plan {
    /// The replacement pack's content; nothing, if none is needed.
    pub content: Content,
    /// The packs that a new index object names; none, if there is no such object.
    pub entries: Set,
    /// The verdict.
    pub verdict: Set,
}

impl Pruner {
    /// A pruner that has done nothing yet.
    pub(crate) fn new() -> Pruner {
        Pruner { run: 0, known: Set::EMPTY, phase: Phase::Look }
    }

    fn end_run(&mut self, config: &Config) {
        let run = self.run + 1;
        let phase = if run < config.runs { Phase::Look } else { Phase::Done };
        *self = Pruner { run, known: Set::EMPTY, phase };
    }
}

/// Adds to `out` every step that pruner `number` can take, with the state after it.
pub(crate) fn steps(config: &Config, state: &State, number: usize, out: &mut Vec<(Step, State)>) {
    let mut turn = Turn { config, state, number, out };
    match turn.me().phase {
        Phase::Look => turn.look(),
        Phase::EarlyLeases { number } => {
            turn.list_leases(|wait| Phase::LateOpen { number, wait });
        }
        Phase::LateOpen { number, wait } => turn.open(number, Phase::Wait { number, wait }),
        Phase::Open { number } => turn.open(number, Phase::Leases { number }),
        Phase::Leases { number } => turn.list_leases(|wait| Phase::Wait { number, wait }),
        Phase::Wait { number, wait } => turn.wait(number, wait),
        Phase::LateSnapshots { number, live } => turn.read_snapshots(number, live),
        Phase::Pins { number, live } => turn.read_pins(number, live),
        Phase::Index { number, live } => turn.plan(number, live),
        Phase::Upload { number, plan } => turn.upload(number, plan),
        Phase::Record { number, plan } => turn.record(number, plan),
        Phase::Decide { number, verdict } => turn.decide(number, verdict),
        Phase::Done => {}
    }
}

struct Turn<'a> {
    config: &'a Config,
    state: &'a State,
    number: usize,
    out: &'a mut Vec<(Step, State)>,
}

impl Turn<'_> {
    fn me(&self) -> &Pruner {
        &self.state.pruners[self.number]
    }

    fn take(&mut self, deed: Deed, change: impl FnOnce(&mut Pruner, &mut Store)) {
        let mut next = self.state.clone();
        change(&mut next.pruners[self.number], &mut next.store);
        self.out.push((Step { actor: Actor::Pruner(self.number), deed }, next));
    }

    /// Joins the lowest list without a verdict; where there is none, opens the next.
    fn look(&mut self) {
        let store = &self.state.store;
        let known = store.known_verdicts(self.config);
        let undecided = (store.listed() - store.decided).iter().next();
        let next = store.listed().len() as u8;
        if let Some(number) = undecided {
            self.take(Deed::Look { number, help: true }, |me, _| {
                me.known = known;
                me.phase = Phase::Leases { number };
            });
        }
        if undecided.is_some() && !self.config.breaks(Mutation::OpensBeforeVerdict) {
            return;
        }
        if next < self.config.lists {
            let early = self.config.breaks(Mutation::LeasesBeforeList);
            self.take(Deed::Look { number: next, help: false }, |me, _| {
                me.known = known;
                me.phase =
                    if early { Phase::EarlyLeases { number: next } } else { Phase::Open { number: next } };
            });
        }
    }

    /// Creates the list, with any choice of what exists and is not dead: whatever a pruner may have found
    /// to be garbage, by however old a reading, is among the choices.
    fn open(&mut self, number: u8, then: Phase) {
        let at = usize::from(number);
        if !self.state.store.lists[at].is_empty() {
            self.take(Deed::OpenLost { number }, |me, _| me.phase = then);
            return;
        }
        let store = &self.state.store;
        let choice = store.exists - store.dead(store.decided);
        for list in choice.subsets(self.config.most_listed) {
            self.take(Deed::Open { number, list }, |me, store| {
                store.lists[at] = list;
                me.phase = then.clone();
            });
        }
    }

    fn list_leases(&mut self, then: impl FnOnce(Set) -> Phase) {
        let open = self.state.store.open_leases();
        self.take(Deed::ListLeases { open }, |me, _| me.phase = then(open));
    }

    /// Fills a slot that is still open, or goes on when none is. That a slot is filled stays true, so that
    /// finding it and the next request can be one step.
    fn wait(&mut self, number: u8, wait: Set) {
        let open = wait & self.state.store.open_leases();
        for slot in open.iter() {
            self.take(Deed::Void { slot }, |_, store| store.slots[usize::from(slot)] = Slot::Void);
        }
        if !open.is_empty() {
            return;
        }
        if self.config.breaks(Mutation::PinsBeforeTombstones) {
            let live = self.pinned();
            self.take(Deed::ReadPins { live }, |me, _| me.phase = Phase::LateSnapshots { number, live });
        } else {
            let live = self.published();
            let anything_pins = self.config.leases_pin || self.config.holds;
            self.take(Deed::ReadSnapshots { live }, |me, _| {
                me.phase =
                    if anything_pins { Phase::Pins { number, live } } else { Phase::Index { number, live } };
            });
        }
    }

    fn published(&self) -> Set {
        self.state.store.snapshots(self.config).fold(Set::EMPTY, |live, (_, chunks)| live | chunks)
    }

    fn pinned(&self) -> Set {
        let store = &self.state.store;
        let by_lease = self.config.leases_pin && !store.open_leases().is_empty();
        let by_hold = matches!(store.hold, Hold::Placed | Hold::Effective);
        if by_lease || by_hold { self.config.base_chunks() } else { Set::EMPTY }
    }

    fn read_snapshots(&mut self, number: u8, live: Set) {
        let live = live | self.published();
        self.take(Deed::ReadSnapshots { live }, |me, _| me.phase = Phase::Index { number, live });
    }

    fn read_pins(&mut self, number: u8, live: Set) {
        let live = live | self.pinned();
        self.take(Deed::ReadPins { live }, |me, _| me.phase = Phase::Index { number, live });
    }

    fn plan(&mut self, number: u8, live: Set) {
        let pack = pruners_pack(self.number, self.me().run);
        let survey = Survey::new(self.config, &self.state.store, self.me().known, number, live);
        // Whoever decides first may stop for ever before the upload, so that the upload need not be modelled.
        let hasty = self.config.breaks(Mutation::VerdictBeforeReplacement);
        for plan in survey.plans(pack) {
            let deed = Deed::Plan { content: plan.content, entries: plan.entries, verdict: plan.verdict };
            self.take(deed, |me, _| {
                me.phase = if hasty {
                    Phase::Decide { number, verdict: plan.verdict }
                } else if !plan.content.is_empty() {
                    Phase::Upload { number, plan }
                } else if !plan.entries.is_empty() {
                    Phase::Record { number, plan }
                } else {
                    Phase::Decide { number, verdict: plan.verdict }
                };
            });
        }
    }

    fn may_hang(&self, object: u8) -> bool {
        self.state.store.hangs_left > 0 && !self.state.store.hung.has(object)
    }

    fn upload(&mut self, number: u8, plan: Plan) {
        let pack = pruners_pack(self.number, self.me().run);
        self.take(Deed::Put { object: pack }, |me, store| {
            store.put_pack(pack, plan.content);
            me.phase = Phase::Record { number, plan: Plan { content: Content::default(), ..plan } };
        });
        if self.may_hang(pack) {
            self.take(Deed::PutHangs { object: pack }, |_, store| store.hang_pack(pack, plan.content));
        }
    }

    fn record(&mut self, number: u8, plan: Plan) {
        let index = index_beside(pruners_pack(self.number, self.me().run));
        self.take(Deed::Put { object: index }, |me, store| {
            store.put_index(index, plan.entries);
            me.phase = Phase::Decide { number, verdict: plan.verdict };
        });
        if self.may_hang(index) {
            self.take(Deed::PutHangs { object: index }, |_, store| store.hang_index(index, plan.entries));
        }
    }

    fn decide(&mut self, number: u8, verdict: Set) {
        let config = self.config;
        if self.state.store.decided.has(number) {
            self.take(Deed::DecideLost { number }, |me, _| me.end_run(config));
            return;
        }
        self.take(Deed::Decide { number, verdict }, |me, store| {
            store.verdicts[usize::from(number)] = verdict;
            store.decided |= Set::one(number);
            me.end_run(config);
        });
    }
}

/// What a pruner sees when it makes its plan.
struct Survey<'a> {
    config: &'a Config,
    store: &'a Store,
    list: Set,
    /// Index objects that no verdict names.
    indexes: Set,
    /// Packs that those name and no verdict names.
    packs: Set,
    /// Live chunks that can be read out of `packs`.
    needed: Set,
}

impl Survey<'_> {
    fn new<'a>(config: &'a Config, store: &'a Store, known: Set, number: u8, live: Set) -> Survey<'a> {
        let dead = if config.breaks(Mutation::DeadCountsAsPresent) { Set::EMPTY } else { store.dead(known) };
        let indexes = (store.exists & INDEXES) - dead;
        let packs = store.named_by(indexes) - dead;
        let needed = live & store.readable(config, packs);
        Survey { config, store, list: store.lists[usize::from(number)], indexes, packs, needed }
    }

    /// The plans that a pruner may choose from: spare condemned packs that are needed, preferring either
    /// end of the list, or write their live part anew; and the same for index objects.
    fn plans(&self, replacement: u8) -> Vec<Plan> {
        let mut plans = Vec::with_capacity(6);
        let condemned = self.list & PACKS;
        let rising = (self.droppable(condemned.iter()), Content::default());
        let falling = (self.droppable(condemned.iter_down()), Content::default());
        let anew = (condemned, self.to_save(condemned));
        for (dropped, content) in
            [Some(rising), Some(falling), self.config.repacks.then_some(anew)].into_iter().flatten()
        {
            let new = if content.is_empty() { Set::EMPTY } else { Set::one(replacement) };
            for (indexes, entries) in [self.spare_indexes(dropped), self.compact_indexes(dropped)] {
                let plan = Plan { content, entries: entries | new, verdict: dropped | indexes };
                if !plans.contains(&plan) {
                    plans.push(plan);
                }
            }
        }
        plans
    }

    /// Of the condemned packs, one after the other, those without which the rest is still enough.
    fn droppable(&self, condemned: impl Iterator<Item = u8>) -> Set {
        let mut kept = self.packs;
        let mut dropped = Set::EMPTY;
        for pack in condemned {
            let without = kept - Set::one(pack);
            if self.store.readable(self.config, without).covers(self.needed) {
                kept = without;
                dropped |= Set::one(pack);
            }
        }
        dropped
    }

    /// What must be written anew if all of `condemned` goes: in the form that it has, bases included.
    fn to_save(&self, condemned: Set) -> Content {
        let kept = self.store.readable(self.config, self.packs - condemned);
        let held = (condemned & self.packs)
            .iter()
            .fold(Set::EMPTY, |full, pack| full | Set::of(u32::from(self.store.content(pack).full)));
        let mut lacking = self.needed - kept;
        let mut content = Content::default();
        for chunk in (0..self.config.bases.len() as u8).rev() {
            if lacking.has(chunk) {
                let as_delta = !held.has(chunk);
                content = content.with(chunk, as_delta);
                let base = self.config.bases[usize::from(chunk)].filter(|_| as_delta);
                lacking |= base.map_or(Set::EMPTY, Set::one) - kept;
            }
        }
        content
    }

    /// Condemned index objects that go because others name the same surviving packs; nothing to write.
    fn spare_indexes(&self, dropped: Set) -> (Set, Set) {
        let surviving = self.packs - dropped;
        let mut kept = self.indexes;
        for index in (self.list & INDEXES).iter() {
            let without = kept - Set::one(index);
            if self.store.named_by(without).covers(surviving) {
                kept = without;
            }
        }
        ((self.list & INDEXES) - kept, Set::EMPTY)
    }

    /// All condemned index objects go; a new one names the surviving packs that no other does.
    fn compact_indexes(&self, dropped: Set) -> (Set, Set) {
        let condemned = self.list & INDEXES;
        let mut surviving = self.packs - dropped;
        if self.config.breaks(Mutation::CompactsOnlyLive) {
            let live = |pack: &u8| !(self.store.content(*pack).chunks() & self.needed).is_empty();
            surviving = surviving.iter().filter(live).collect();
        }
        (condemned, surviving - self.store.named_by(self.indexes - condemned))
    }
}
