//! What is searched: the bounds of a search, the repository that it starts from, and the rule, if any, that
//! is broken on purpose. It knows no transition.

use crate::set::Set;

/// Chunks that one model may speak of.
pub const MAX_CHUNKS: usize = 4;
/// Leases that one writer may take, one after the other.
pub const MAX_ATTEMPTS: usize = 2;
/// Times that one pruner may take part in a verdict.
pub const MAX_RUNS: usize = 3;
/// Condemn lists that may be opened in all.
pub const MAX_LISTS: usize = 3;
/// Bulk objects of each kind, and snapshots, that the repository may hold at the start.
pub const MAX_INITIAL: usize = 4;

/// A rule of the protocol that is broken on purpose, to show that the model can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// A pruner may open list *n+1* although verdict *n* does not exist.
    OpensBeforeVerdict,
    /// A pruner lists the leases first and creates its list afterwards.
    LeasesBeforeList,
    /// A writer that found a void takes a new lease and publishes what it had, unchecked.
    NoRevalidation,
    /// A pruner counts what an earlier verdict named as present, as long as an index object speaks of it.
    DeadCountsAsPresent,
    /// A writer that gives up removes its lease and leaves the slot free.
    ReleaseFillsNothing,
    /// A writer sends the same bytes under the same name again although a list or verdict names them.
    ResendsCondemned,
    /// A verdict is forgotten once everything that it names has been deleted.
    VerdictsExpire,
    /// A pruner reads what leases and holds pin before it reads which snapshots are forgotten.
    PinsBeforeTombstones,
    /// A writer takes a delta for present wherever its base is.
    BasesUnchecked,
    /// A writer takes what a list without a verdict names for present.
    CondemnedCountsAsPresent,
    /// A writer trusts what it uploaded under an earlier lease without looking up the names.
    OwnPacksUnchecked,
    /// A pruner that compacts the index leaves out surviving packs that nothing published needs.
    CompactsOnlyLive,
    /// A pruner creates its verdict first and uploads the replacement afterwards.
    VerdictBeforeReplacement,
}

impl Mutation {
    /// The broken rule in a few words.
    pub const fn name(self) -> &'static str {
        match self {
            Mutation::OpensBeforeVerdict => "opening n+1 before verdict n",
            Mutation::LeasesBeforeList => "listing leases before list n exists",
            Mutation::NoRevalidation => "publishing after a void without revalidating",
            Mutation::DeadCountsAsPresent => "pruners that count dead packs as present",
            Mutation::ReleaseFillsNothing => "a release that fills no slot",
            Mutation::ResendsCondemned => "re-sending the same bytes after a list named them",
            Mutation::VerdictsExpire => "verdicts that expire",
            Mutation::PinsBeforeTombstones => "reading pins before tombstones",
            Mutation::BasesUnchecked => "a delta taken for present whatever became of its base",
            Mutation::CondemnedCountsAsPresent => "writers that count condemned packs as present",
            Mutation::OwnPacksUnchecked => "own packs trusted without their names being looked up",
            Mutation::CompactsOnlyLive => "compaction that leaves out surviving packs nobody needs yet",
            Mutation::VerdictBeforeReplacement => "a verdict created before the replacement is durable",
        }
    }
}

/// What must hold in every state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demand {
    /// What is needed is readable, and through nothing that a verdict names, deleted yet or not.
    NothingNeededIsDead,
    /// What is needed is readable now. Weaker: counterexamples to it end in data that is really gone.
    NothingNeededIsGone,
}

/// What one pack holds: chunks in full, and chunks as a delta upon their base.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Content {
    /// Chunks stored whole.
    pub full: u8,
    /// Chunks stored as a delta.
    pub delta: u8,
}

impl Content {
    /// Whether the pack holds nothing, which is to say that there is no such pack.
    pub const fn is_empty(self) -> bool {
        self.full | self.delta == 0
    }

    /// The chunks in either form.
    pub const fn chunks(self) -> Set {
        Set::of((self.full | self.delta) as u32)
    }

    /// The same pack with `chunk` in it, whole or as a delta.
    #[must_use]
    pub const fn with(self, chunk: u8, as_delta: bool) -> Content {
        if as_delta {
            Content { full: self.full, delta: self.delta | 1 << chunk }
        } else {
            Content { full: self.full | 1 << chunk, delta: self.delta }
        }
    }
}

/// The order in which a writer makes its two requests for what prune condemned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadOrder {
    /// Condemn lists, then verdicts.
    ListsFirst,
    /// Verdicts, then condemn lists.
    VerdictsFirst,
}

/// One search: bounds, first state, broken rule. Everything not said to be bounded is tried in every way.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What the search is called in reports.
    pub name: &'static str,
    /// For each chunk, the chunk (of a lower number) that it may be stored as a delta upon.
    pub bases: [Option<u8>; MAX_CHUNKS],
    /// The packs at the start.
    pub packs: &'static [Content],
    /// The index objects at the start: each a mask of the packs that it names.
    pub indexes: &'static [u16],
    /// The snapshots at the start: each a mask of its chunks. The first is the base that leases name.
    pub snapshots: &'static [u8],
    /// For each writer, a mask of the chunks of the snapshot that it wants to publish.
    pub wants: &'static [u8],
    /// Leases that a writer takes at most, one after the other.
    pub attempts: u8,
    /// Whether leases name the first snapshot as their base.
    pub leases_pin: bool,
    /// Whether a writer may give up at any step, filling its slot with a release.
    pub releases: bool,
    /// Whether a writer may be killed at any step and start again with nothing in memory.
    pub restarts: bool,
    /// Whether somebody places a hold on the first snapshot.
    pub holds: bool,
    /// Snapshots that may be forgotten, at any time and in any order.
    pub forgets: u32,
    /// Requests that may hang: sent, not answered, and carried out at any later time or never.
    pub hangs: u8,
    /// How many pruners there are.
    pub pruners: u8,
    /// Times that each pruner takes part in a verdict at most.
    pub runs: u8,
    /// Condemn lists that are opened at most.
    pub lists: u8,
    /// A list names any set of at most so many objects, or all there are.
    pub most_listed: u32,
    /// Whether a pruner may write the live part of condemned packs anew, or only spare such packs.
    pub repacks: bool,
    /// The order of a writer's two reads.
    pub read_order: ReadOrder,
    /// What must hold.
    pub demand: Demand,
    /// The rule that is broken, if one is.
    pub mutation: Option<Mutation>,
}

impl Config {
    /// Whether this search breaks `mutation`.
    pub fn breaks(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// The chunks of the first snapshot, which leases and holds pin.
    pub(crate) fn base_chunks(&self) -> Set {
        Set::of(self.snapshots.first().map_or(0, |chunks| u32::from(*chunks)))
    }

    /// The first bound that the model's fixed-size state cannot hold, if there is one.
    pub fn out_of_bounds(&self) -> Option<&'static str> {
        let bounds = [
            (self.packs.len() <= MAX_INITIAL, "packs"),
            (self.indexes.len() <= MAX_INITIAL, "indexes"),
            (self.snapshots.len() <= MAX_INITIAL, "snapshots"),
            (self.wants.len() <= 2, "wants"),
            ((1..=MAX_ATTEMPTS).contains(&usize::from(self.attempts)), "attempts"),
            (self.pruners <= 2, "pruners"),
            (usize::from(self.runs) <= MAX_RUNS, "runs"),
            (usize::from(self.lists) <= MAX_LISTS, "lists"),
            (
                !self.snapshots.is_empty() || !(self.leases_pin || self.holds),
                "a base or hold with no snapshot",
            ),
            (self.bases.iter().zip(0..).all(|(base, chunk)| base.is_none_or(|base| base < chunk)), "bases"),
        ];
        bounds.iter().find(|(holds, _)| !holds).map(|(_, name)| *name)
    }
}
