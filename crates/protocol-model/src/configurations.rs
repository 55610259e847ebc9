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
pub const MUTATIONS: [Mutation; 8] = [
    Mutation::OpensBeforeVerdict,
    Mutation::LeasesBeforeList,
    Mutation::NoRevalidation,
    Mutation::DeadCountsAsPresent,
    Mutation::ReleaseFillsNothing,
    Mutation::ResendsCondemned,
    Mutation::VerdictsExpire,
    Mutation::PinsBeforeTombstones,
];

/// The searches that the tests make: each a few hundred thousand states.
pub const QUICK: &[Config] = &[PAIR];

/// Two of each.
const PAIR: Config =
    Config { name: "q1 one chunk", wants: &[0b1, 0b1], pruners: 2, most_listed: 1, ..SMALLEST };

/// The searches that take minutes each.
pub const FULL: &[Config] = &[
    Config {
        name: "a1 one chunk, dup, snapshot, forget",
        packs: &[CHUNK_0, CHUNK_0],
        indexes: &[0b11],
        snapshots: &[0b1],
        forgets: 1,
        ..PAIR
    },
    Config { name: "a2 one chunk, hang", hangs: 1, ..PAIR },
    Config { name: "a3 one chunk, two attempts of writers", attempts: 2, ..PAIR },
    Config { name: "a4 one chunk, two rounds", runs: 2, lists: 2, ..PAIR },
    Config {
        name: "a5 two chunks delta",
        bases: ONE_ON_ZERO,
        packs: &[CHUNK_0, DELTA_1],
        indexes: &[0b11],
        wants: &[0b11, 0b10],
        ..PAIR
    },
    Config {
        name: "a6 one writer two attempts, hang, release, restart",
        wants: &[0b1],
        attempts: 2,
        hangs: 1,
        releases: true,
        restarts: true,
        ..PAIR
    },
    Config { name: "a7 one writer two rounds", wants: &[0b1], runs: 2, lists: 2, ..PAIR },
    Config {
        name: "a8 pins holds forget",
        snapshots: &[0b1],
        leases_pin: true,
        holds: true,
        forgets: 1,
        ..PAIR
    },
    Config {
        name: "a9 one writer two attempts two rounds",
        wants: &[0b1],
        attempts: 2,
        runs: 2,
        lists: 2,
        ..PAIR
    },
];

/// The smallest repository in which breaking `mutation` loses data: not merely relies on what a verdict
/// names, but ends with a chunk that is nowhere.
pub const fn breaking(mutation: Mutation) -> Config {
    let gone = Config { demand: Demand::NothingNeededIsGone, mutation: Some(mutation), ..SMALLEST };
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
        Mutation::LeasesBeforeList | Mutation::VerdictsExpire => gone,
        Mutation::NoRevalidation => Config { attempts: 2, ..gone },
        // The repository is empty, so that the writer has a pack of its own to send twice.
        Mutation::ResendsCondemned => Config { packs: &[], indexes: &[], attempts: 2, ..gone },
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
