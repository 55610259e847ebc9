//! The searches that are made: small ones in the tests, large ones on demand, and for each broken rule the
//! smallest repository in which it does harm.

use crate::config::{Config, Content, Demand, MAX_CHUNKS, Mutation, ReadOrder};

const CHUNK_0: Content = Content { full: 1, delta: 0 };
const CHUNK_1: Content = Content { full: 2, delta: 0 };
const CHUNKS_0_1: Content = Content { full: 3, delta: 0 };
/// Chunk 1, stored as a delta upon chunk 0.
const DELTA_1: Content = Content { full: 0, delta: 2 };
/// Chunk 1 may be a delta upon chunk 0.
const ONE_ON_ZERO: [Option<u8>; MAX_CHUNKS] = [None, Some(0), None, None];
/// Chunk 1 may be a delta upon chunk 0, and chunk 2 upon chunk 1.
const CHAIN: [Option<u8>; MAX_CHUNKS] = [None, Some(0), Some(1), None];

/// One garbage pack that the index still names; one writer that wants its chunk; one pruner.
const SMALLEST: Config = Config {
    name: "one writer, one pruner",
    bases: [None; MAX_CHUNKS],
    packs: &[CHUNK_0],
    indexes: &[0b1],
    snapshots: &[],
    wants: &[0b1],
    attempts: 1,
    leases_pin: false,
    releases: false,
    restarts: false,
    holds: false,
    forgets: 0,
    hangs: 0,
    pruners: 1,
    runs: 1,
    lists: 1,
    most_listed: 8,
    repacks: true,
    read_order: ReadOrder::ListsFirst,
    demand: Demand::NothingNeededIsDead,
    mutation: None,
};

/// Every rule that is broken on purpose.
pub const MUTATIONS: [Mutation; 13] = [
    Mutation::OpensBeforeVerdict,
    Mutation::LeasesBeforeList,
    Mutation::NoRevalidation,
    Mutation::DeadCountsAsPresent,
    Mutation::ReleaseFillsNothing,
    Mutation::ResendsCondemned,
    Mutation::VerdictsExpire,
    Mutation::PinsBeforeTombstones,
    Mutation::BasesUnchecked,
    Mutation::CondemnedCountsAsPresent,
    Mutation::OwnPacksUnchecked,
    Mutation::CompactsOnlyLive,
    Mutation::VerdictBeforeReplacement,
];

/// Two writers that want the garbage chunk, and two pruners: the least that all four can meet over.
pub const PAIR: Config = Config {
    name: "two writers, two pruners, one chunk",
    wants: &[0b1, 0b1],
    pruners: 2,
    most_listed: 1,
    ..SMALLEST
};

/// The searches that the tests make: each at most two million states.
pub const QUICK: &[Config] = &[
    Config {
        name: "q1 two writers with the same new chunk, two pruners, one hanging request",
        packs: &[],
        indexes: &[],
        hangs: 1,
        ..PAIR
    },
    Config {
        name: "q2 two writers, two pruners, a chunk in two packs, a snapshot, one forget",
        packs: &[CHUNK_0, CHUNK_0],
        indexes: &[0b11],
        snapshots: &[0b1],
        forgets: 1,
        ..PAIR
    },
    Config {
        name: "q3 two writers, two pruners, a chunk and its delta",
        bases: ONE_ON_ZERO,
        packs: &[CHUNK_0, DELTA_1],
        indexes: &[0b11],
        wants: &[0b11, 0b10],
        ..PAIR
    },
    Config {
        name: "q4 two writers with the same new chunk and two attempts each, two pruners",
        packs: &[],
        indexes: &[],
        attempts: 2,
        ..PAIR
    },
    Config {
        name: "q5 one writer with two attempts, two rounds of two pruners",
        wants: &[0b1],
        attempts: 2,
        runs: 2,
        lists: 2,
        ..PAIR
    },
    Config {
        name: "q6 one writer with a new chunk that hangs, restarts and releases, two pruners",
        wants: &[0b11],
        attempts: 2,
        hangs: 1,
        releases: true,
        restarts: true,
        ..PAIR
    },
    Config {
        name: "q7 one writer, two pruners, a hold, a pinned base, one forget",
        snapshots: &[0b1],
        wants: &[0b1],
        leases_pin: true,
        holds: true,
        forgets: 1,
        most_listed: 8,
        ..PAIR
    },
    Config {
        name: "q8 two writers that read verdicts before lists, with the same new chunk and two attempts each",
        packs: &[],
        indexes: &[],
        attempts: 2,
        read_order: ReadOrder::VerdictsFirst,
        ..PAIR
    },
];

/// The searches that take minutes each. In those that speak of a new chunk a writer uploads before the
/// first list exists, so that what it uploads can be condemned under it.
pub const FULL: &[Config] = &[
    Config {
        name: "f1 one chunk in two packs, a snapshot, one forget, any list",
        packs: &[CHUNK_0, CHUNK_0],
        indexes: &[0b11],
        snapshots: &[0b1],
        forgets: 1,
        most_listed: 8,
        ..PAIR
    },
    Config {
        name: "f2 a chunk and its delta, base pinned, one forget",
        bases: ONE_ON_ZERO,
        packs: &[CHUNK_0, DELTA_1],
        indexes: &[0b11],
        snapshots: &[0b11],
        wants: &[0b11, 0b10],
        leases_pin: true,
        forgets: 1,
        ..PAIR
    },
    Config {
        name: "f3 a pack half of which is dead, a new chunk, one forget",
        packs: &[CHUNKS_0_1],
        snapshots: &[0b001],
        wants: &[0b110, 0b011],
        forgets: 1,
        ..PAIR
    },
    Config { name: "f4 a new chunk, two attempts", wants: &[0b11, 0b10], attempts: 2, ..PAIR },
    Config {
        name: "f5 three chunks, a chain of deltas, the last one new, one forget",
        bases: CHAIN,
        packs: &[CHUNK_0, DELTA_1],
        indexes: &[0b11],
        snapshots: &[0b011],
        wants: &[0b110, 0b100],
        forgets: 1,
        ..PAIR
    },
    Config { name: "f6 two rounds", runs: 2, lists: 2, ..PAIR },
    Config {
        name: "f7 two rounds, one writer with two attempts and a new chunk",
        wants: &[0b11],
        attempts: 2,
        runs: 2,
        lists: 2,
        ..PAIR
    },
    Config {
        name: "f8 two rounds of one pruner, two writers with two attempts and a new chunk",
        wants: &[0b11, 0b10],
        attempts: 2,
        pruners: 1,
        runs: 2,
        lists: 2,
        ..PAIR
    },
    Config {
        name: "f9 a hold and a pinned base, one forget",
        snapshots: &[0b1],
        leases_pin: true,
        holds: true,
        forgets: 1,
        ..PAIR
    },
    Config {
        name: "f10 a new chunk, one hanging request, releases, one forget",
        snapshots: &[0b1],
        wants: &[0b11, 0b10],
        hangs: 1,
        releases: true,
        forgets: 1,
        ..PAIR
    },
    Config {
        name: "f11 a new chunk, two attempts, restarts, verdicts read before lists",
        wants: &[0b11, 0b10],
        attempts: 2,
        restarts: true,
        read_order: ReadOrder::VerdictsFirst,
        ..PAIR
    },
    Config {
        name: "f12 two chunks under two index objects, a new chunk, any list",
        packs: &[CHUNK_0, CHUNK_1],
        indexes: &[0b01, 0b10],
        wants: &[0b101, 0b110],
        most_listed: 8,
        ..PAIR
    },
    Config {
        name: "f13 one writer with two attempts and a new chunk, hanging, releasing, restarting, one forget",
        snapshots: &[0b1],
        wants: &[0b11],
        attempts: 2,
        hangs: 1,
        releases: true,
        restarts: true,
        forgets: 1,
        ..PAIR
    },
    Config { name: "f14 three rounds of two pruners, one writer", wants: &[0b1], runs: 3, lists: 3, ..PAIR },
    Config {
        name: "f15 two rounds, one writer with a new chunk, one hanging request, one forget",
        snapshots: &[0b1],
        wants: &[0b11],
        hangs: 1,
        forgets: 1,
        runs: 2,
        lists: 2,
        ..PAIR
    },
];

/// The smallest repository in which breaking `mutation` loses data: not merely relies on what a verdict
/// names, but ends with a chunk that is nowhere.
pub const fn breaking(mutation: Mutation) -> Config {
    let gone = Config {
        name: mutation.name(),
        demand: Demand::NothingNeededIsGone,
        mutation: Some(mutation),
        ..SMALLEST
    };
    match mutation {
        // Two packs hold the chunk of the one snapshot; each list names one of them.
        Mutation::OpensBeforeVerdict | Mutation::DeadCountsAsPresent => Config {
            packs: &[CHUNK_0, CHUNK_0],
            indexes: &[0b11],
            snapshots: &[0b1],
            wants: &[],
            pruners: if matches!(mutation, Mutation::OpensBeforeVerdict) { 2 } else { 1 },
            runs: 2,
            lists: 2,
            ..gone
        },
        Mutation::LeasesBeforeList
        | Mutation::VerdictsExpire
        | Mutation::CondemnedCountsAsPresent
        | Mutation::CompactsOnlyLive => gone,
        Mutation::NoRevalidation => Config { attempts: 2, ..gone },
        // The repository is empty, so that the writer has a pack of its own to send twice.
        Mutation::ResendsCondemned | Mutation::OwnPacksUnchecked => {
            Config { packs: &[], indexes: &[], attempts: 2, ..gone }
        }
        // The writer wants a delta; a list names its base alone.
        Mutation::BasesUnchecked => Config {
            bases: ONE_ON_ZERO,
            packs: &[CHUNK_0, DELTA_1],
            indexes: &[0b11],
            wants: &[0b10],
            ..gone
        },
        Mutation::VerdictBeforeReplacement => Config { snapshots: &[0b1], wants: &[], ..gone },
        Mutation::ReleaseFillsNothing => Config { releases: true, hangs: 1, ..gone },
        // The one snapshot is forgotten while a hold is placed upon it.
        Mutation::PinsBeforeTombstones => {
            Config { snapshots: &[0b1], wants: &[], holds: true, forgets: 1, ..gone }
        }
    }
}

/// The same search with every rule kept.
pub const fn kept(broken: Config) -> Config {
    Config { mutation: None, demand: Demand::NothingNeededIsDead, ..broken }
}
