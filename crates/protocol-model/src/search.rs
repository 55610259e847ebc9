//! Exhaustive search over all interleavings.
//!
//! [`exhaust`] goes depth first and keeps only fingerprints, so that memory is eight bytes a state and a
//! little; [`shortest`] goes breadth first, keeps the states themselves, and so finds a counterexample with
//! the fewest steps. Neither uses a reduction by symmetry or partial order: every order of every request
//! is a path of its own.

use std::fmt;

use crate::config::Config;
use crate::seen::Seen;
use crate::step::Step;
use crate::world::{State, Violation};

/// How often a search reports progress, in states taken up.
const REPORT_EVERY: u64 = 1 << 20;

/// What a search has done.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// Different states met.
    pub states: u64,
    /// Steps tried, those to states met before included.
    pub steps: u64,
    /// The longest path followed.
    pub depth: usize,
    /// Memory of the set of states, in bytes.
    pub bytes: usize,
}

/// How a search ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Every state was met, and nothing is wrong with any.
    Complete,
    /// The limit of states was reached: nothing is known of the rest.
    Limit,
    /// Something is wrong.
    Broken(Counterexample),
}

/// A path from the first state to one with which something is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counterexample {
    /// What is wrong at the end.
    pub violation: Violation,
    /// The steps, first to last.
    pub path: Vec<Step>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in (1..).zip(&self.path) {
            writeln!(f, "{number:3}. {step}")?;
        }
        write!(f, "     {}", self.violation)
    }
}

/// Searches every state that `config` allows, depth first, until `most_states` have been met; tells
/// `progress` of it now and then.
///
/// # Panics
/// Where `config` is beyond what the model's state can hold.
pub fn exhaust(config: &Config, most_states: u64, mut progress: impl FnMut(&Tally)) -> (Ending, Tally) {
    assert_eq!(config.out_of_bounds(), None, "{} is beyond the model", config.name);
    let mut tally = Tally::default();
    let mut seen = Seen::new();
    let mut path: Vec<Step> = Vec::new();
    let mut open = vec![(0, None, State::new(config))];
    let mut steps = Vec::new();
    seen.insert(&open[0].2);
    while let Some((depth, step, state)) = open.pop() {
        path.truncate(depth);
        path.extend(step);
        count(&mut tally, path.len(), &seen);
        if tally.states.is_multiple_of(REPORT_EVERY) {
            progress(&tally);
        }
        if let Some(violation) = state.violation(config) {
            return (Ending::Broken(Counterexample { violation, path }), tally);
        }
        if tally.states >= most_states {
            return (Ending::Limit, tally);
        }
        state.steps(config, &mut steps);
        tally.steps += steps.len() as u64;
        let fresh = steps.drain(..).filter(|(_, next)| seen.insert(next));
        open.extend(fresh.map(|(step, next)| (path.len(), Some(step), next)));
    }
    (Ending::Complete, tally)
}

fn count(tally: &mut Tally, depth: usize, seen: &Seen) {
    tally.states += 1;
    tally.depth = tally.depth.max(depth);
    if tally.states.is_multiple_of(REPORT_EVERY) || tally.bytes == 0 {
        tally.bytes = seen.bytes();
    }
}

/// Searches like [`exhaust`], breadth first, keeping every state.
///
/// # Panics
/// Where `config` is beyond what the model's state can hold.
pub fn shortest(config: &Config, most_states: usize) -> (Ending, Tally) {
    assert_eq!(config.out_of_bounds(), None, "{} is beyond the model", config.name);
    let mut tally = Tally::default();
    let mut seen = Seen::new();
    let mut met = vec![Met { from: 0, step: None, depth: 0, state: State::new(config) }];
    let mut steps = Vec::new();
    seen.insert(&met[0].state);
    let mut at = 0;
    while at < met.len() {
        let depth = met[at].depth;
        count(&mut tally, depth, &seen);
        if let Some(violation) = met[at].state.violation(config) {
            return (Ending::Broken(Counterexample { violation, path: path_to(&met, at) }), tally);
        }
        if met.len() >= most_states {
            return (Ending::Limit, tally);
        }
        met[at].state.steps(config, &mut steps);
        tally.steps += steps.len() as u64;
        let fresh = steps.drain(..).filter(|(_, next)| seen.insert(next));
        met.extend(fresh.map(|(step, state)| Met { from: at, step: Some(step), depth: depth + 1, state }));
        at += 1;
    }
    (Ending::Complete, tally)
}

/// A state, and how it was reached.
struct Met {
    from: usize,
    step: Option<Step>,
    depth: usize,
    state: State,
}

fn path_to(met: &[Met], mut at: usize) -> Vec<Step> {
    let mut path = Vec::new();
    while let Some(step) = met[at].step {
        path.push(step);
        at = met[at].from;
    }
    path.reverse();
    path
}
