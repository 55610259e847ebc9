//! The protocol of writers and prune under exhaustive search, and under rules broken on purpose.
//!
//! `cargo test -p lifeboat-protocol-model -- --nocapture` prints the counterexamples in words.

#![expect(
    clippy::print_stdout,
    reason = "figures and counterexamples are for people, who ask by --nocapture"
)]

use std::collections::HashSet;
use std::process::Command;

use lifeboat_protocol_model::configurations::{FULL, MUTATIONS, PAIR, QUICK, breaking, kept};
use lifeboat_protocol_model::set::Set;
use lifeboat_protocol_model::step::{Actor, Deed, Step};
use lifeboat_protocol_model::store::{REPLACEMENTS, Slot, Store};
use lifeboat_protocol_model::world::State;
use lifeboat_protocol_model::{Config, Ending, Mutation, Tally, exhaust, reach, shortest};

/// Far above what any search here needs; one that reaches it was not exhaustive and fails.
const MOST_STATES: u64 = 5_000_000;

/// Searches all of `config`, which must hold.
fn holds(config: &Config) -> Tally {
    let (ending, tally) = exhaust(config, MOST_STATES, |_| ());
    match ending {
        Ending::Complete => tally,
        Ending::Limit => panic!("{}: more than {MOST_STATES} states", config.name),
        Ending::Broken(counterexample) => panic!("{}:\n{counterexample}", config.name),
    }
}

#[test]
fn every_snapshot_stays_readable_whoever_stops_or_comes_late() {
    for config in QUICK {
        let tally = holds(config);
        println!("{}: {} states, {} steps", config.name, tally.states, tally.steps);
    }
}

#[test]
fn every_broken_rule_loses_data_and_the_kept_one_does_not() {
    for mutation in MUTATIONS {
        let config = breaking(mutation);
        let (ending, tally) = shortest(&config, MOST_STATES as usize);
        let Ending::Broken(counterexample) = ending else {
            panic!("{} went unnoticed in {} states", config.name, tally.states);
        };
        println!("{}, found after {} states:\n{counterexample}\n", config.name, tally.states);
        let whole = holds(&kept(config));
        println!("with the rule kept: {} states\n", whole.states);
    }
}

/// The depth-first search by fingerprints, the breadth-first one, and a plain one that keeps whole states
/// in a standard set must meet the same number of states: no fingerprint hides a state.
#[test]
fn three_ways_of_searching_meet_the_same_states() {
    let deep = holds(&PAIR);
    let (ending, broad) = shortest(&PAIR, MOST_STATES as usize);
    assert_eq!(ending, Ending::Complete);
    assert_eq!((deep.states, deep.steps), (broad.states, broad.steps));
    assert_eq!(deep.states, count_exactly(&PAIR));
}

fn count_exactly(config: &Config) -> u64 {
    let first = State::new(config);
    let mut met = HashSet::from([first.clone()]);
    let mut open = vec![first];
    let mut steps = Vec::new();
    while let Some(state) = open.pop() {
        state.steps(config, &mut steps);
        for (_, next) in steps.drain(..) {
            if met.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    met.len() as u64
}

/// A counterexample must be readable by someone who has never seen the source.
#[test]
fn a_counterexample_reads_as_words() {
    let (ending, _) = shortest(&breaking(Mutation::VerdictBeforeReplacement), 1_000);
    let Ending::Broken(counterexample) = ending else { panic!("not found") };
    let expected = "  1. pruner 0 decides to open list 1
  2. pruner 0 creates list 1: initial pack 0, initial index object 0
  3. pruner 0 lists the leases and has none to wait for
  4. pruner 0 reads the snapshots, live so far: chunk 0
  5. pruner 0 reads the index, will name initial pack 0 in a new index object, wants the verdict initial index object 0
  6. pruner 0 creates verdict 1: initial index object 0
  7. the store deletes initial index object 0 for some pruner
     chunk 0 of the snapshot at initial snapshot 0 cannot be relied upon";
    assert_eq!(counterexample.to_string(), expected);
}

/// Bounds that the fixed-size state cannot hold are refused by name; none of the searches has any.
#[test]
fn bounds_beyond_the_model_are_named() {
    assert_eq!(Config { attempts: 3, ..PAIR }.out_of_bounds(), Some("attempts"));
    assert_eq!(Config { lists: 4, ..PAIR }.out_of_bounds(), Some("lists"));
    assert_eq!(Config { bases: [Some(0), None, None, None], ..PAIR }.out_of_bounds(), Some("bases"));
    for config in QUICK.iter().chain(FULL) {
        assert_eq!(config.out_of_bounds(), None, "{}", config.name);
    }
}

/// A search that holds is worth something only if the dangerous things happen in it.
#[test]
fn what_the_rules_guard_against_does_happen() {
    let busy = Config { attempts: 2, hangs: 1, releases: true, snapshots: &[0b1], forgets: 1, ..PAIR };
    let alone = Config { wants: &[0b11], ..busy };
    let rounds = Config { runs: 2, lists: 2, hangs: 0, releases: false, ..alone };
    happens("a writer publishes after a void", &alone, |step, state| {
        matches!(step.deed, Deed::Publish { slot: 1 }) && state.store.slots[0] == Slot::Void
    });
    happens(
        "a dead pack comes back by a late upload",
        &alone,
        |step, state| matches!(step.deed, Deed::Lands { object } if dead(&state.store).has(object)),
    );
    happens("a late snapshot finds its slot filled", &alone, |step, _| {
        matches!(step.deed, Deed::SnapshotFails { .. })
    });
    happens("a late snapshot takes its slot", &alone, |step, _| {
        matches!(step.deed, Deed::SnapshotLands { .. })
    });
    happens("a pruner helps with another's list", &busy, |step, state| {
        step.actor == Actor::Pruner(1)
            && matches!(step.deed, Deed::Decide { .. })
            && state.pruners[0].run == 0
    });
    happens("a pruner loses the race for a verdict", &alone, |step, _| {
        matches!(step.deed, Deed::DecideLost { .. })
    });
    happens("a pruner loses the race for a list", &alone, |step, _| {
        matches!(step.deed, Deed::OpenLost { .. })
    });
    happens("a needed pack is replaced and deleted", &alone, |step, state| {
        matches!(step.deed, Deed::Delete { object: 0 }) && state.store.tombstones.is_empty()
    });
    happens("a second verdict names a replacement made for the first", &rounds, |_, state| {
        state.store.decided.len() == 2 && !(state.store.verdicts[1] & REPLACEMENTS).is_empty()
    });
    happens("both writers publish and something is deleted", &PAIR, |step, state| {
        matches!(step.deed, Deed::Delete { .. })
            && state.store.slots[0] == Slot::Snapshot
            && state.store.slots[2] == Slot::Snapshot
    });
}

fn dead(store: &Store) -> Set {
    store.decided.iter().fold(Set::EMPTY, |dead, number| dead | store.verdicts[usize::from(number)])
}

fn happens(what: &str, config: &Config, wanted: impl Fn(Step, &State) -> bool) {
    let Some(path) = reach(config, 2_000_000, wanted) else {
        panic!("{what}: never, in {}", config.name);
    };
    println!("{what}: after {} steps", path.len());
}

fn program(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lifeboat-protocol-model"))
        .args(arguments)
        .output()
        .expect("the program starts");
    (output.status.code(), String::from_utf8(output.stdout).expect("it prints text"))
}

/// The program must not call a search clean that it did not finish.
#[test]
fn the_program_tells_complete_from_cut_short() {
    let (code, said) = program(&["--quick", "--only", "q7"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no violation"), "{said}");
    let (code, said) = program(&["--quick", "--only", "q7", "--most-states", "1000"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("1000 states") && said.contains("the rest unknown"), "{said}");
    let (code, said) = program(&["--broken", "--most-states", "100"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("listing leases before list n exists: not found"), "{said}");
    assert_eq!(program(&["--most-states", "many"]).0, Some(2));
    assert_eq!(program(&["--quick", "--only", "no such search"]).0, Some(2));
}
