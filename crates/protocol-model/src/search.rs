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
    tally.bytes = seen.bytes();
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
    let mut tally = Tally::default();
    let wrong = |_: Option<Step>, state: &State| state.violation(config);
    let ending = match walk(config, most_states, &mut tally, wrong) {
        Walk::Found(violation, path) => Ending::Broken(Counterexample { violation, path }),
        Walk::Complete => Ending::Complete,
        Walk::Limit => Ending::Limit,
    };
    (ending, tally)
}

/// The fewest steps after which `wanted` is true of the last step and the state after it, looked for in
/// at most `most_states` states. It shows that a search is not empty of what it is meant to cover.
///
/// # Panics
/// Where `config` is beyond what the model's state can hold.
pub fn reach(
    config: &Config,
    most_states: usize,
    wanted: impl Fn(Step, &State) -> bool,
) -> Option<Vec<Step>> {
    let mut tally = Tally::default();
    let meets = |step: Option<Step>, state: &State| step.filter(|step| wanted(*step, state));
    match walk(config, most_states, &mut tally, meets) {
        Walk::Found(_, path) => Some(path),
        Walk::Complete | Walk::Limit => None,
    }
}

/// How a walk ended.
enum Walk<T> {
    Found(T, Vec<Step>),
    Complete,
    Limit,
}

/// Breadth first through every state, until `judge` finds something. It judges every step, those to states
/// met before included: what matters of a step is not always left in the state.
fn walk<T>(
    config: &Config,
    most_states: usize,
    tally: &mut Tally,
    judge: impl Fn(Option<Step>, &State) -> Option<T>,
) -> Walk<T> {
    assert_eq!(config.out_of_bounds(), None, "{} is beyond the model", config.name);
    let mut seen = Seen::new();
    let mut met = vec![Met { from: 0, step: None, depth: 0, state: State::new(config) }];
    let mut steps = Vec::new();
    seen.insert(&met[0].state);
    if let Some(found) = judge(None, &met[0].state) {
        return Walk::Found(found, Vec::new());
    }
    let mut at = 0;
    while let Some(Met { depth, state, .. }) = met.get(at) {
        let depth = *depth;
        count(tally, depth, &seen);
        if met.len() >= most_states {
            return Walk::Limit;
        }
        state.steps(config, &mut steps);
        tally.steps += steps.len() as u64;
        for (step, state) in steps.drain(..) {
            if let Some(found) = judge(Some(step), &state) {
                return Walk::Found(found, path_to(&met, at, step));
            }
            if seen.insert(&state) {
                met.push(Met { from: at, step: Some(step), depth: depth + 1, state });
            }
        }
        at += 1;
    }
    Walk::Complete
}

/// A state, and how it was reached.
struct Met {
    from: usize,
    step: Option<Step>,
    depth: usize,
    state: State,
}

/// The steps to the state at `at`, and then `last`.
fn path_to(met: &[Met], mut at: usize, last: Step) -> Vec<Step> {
    let mut path = vec![last];
    while let Some(step) = met[at].step {
        path.push(step);
        at = met[at].from;
    }
    path.reverse();
    path
}
