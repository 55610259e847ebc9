//! The protocol of writers and prune under exhaustive search, and under rules broken on purpose.

use lifeboat_protocol_model::configurations::{MUTATIONS, QUICK, breaking, kept};
use lifeboat_protocol_model::{Config, Ending, Tally, exhaust, shortest};

/// Far above what any search here needs; one that reaches it was not exhaustive and fails.
const MOST_STATES: u64 = 20_000_000;

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
fn two_writers_and_two_pruners_keep_every_snapshot_whatever_stops_or_comes_late() {
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
            panic!("{mutation:?} went unnoticed in {} states", tally.states);
        };
        println!("{mutation:?}, found after {} states:\n{counterexample}\n", tally.states);
        let whole = holds(&kept(config));
        println!("with the rule kept: {} states\n", whole.states);
    }
}
