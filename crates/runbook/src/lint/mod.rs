//! The lint of a runbook: hazards that a sound one may still have, each with its line and what to do about it
//! (docs/lint.md).
//!
//! Each rule is one function. Rules read the document, what it compiled to and the day, and nothing else: no command
//! is run and no host is asked, so that the same runbook gives the same report anywhere. What a script does is told
//! by its words, as a careful reader would: a rule may miss what is written in a way that it does not know.

mod checks;
mod commands;
mod finding;
mod promises;
mod secrets;
mod shell;
mod words;

pub use finding::{Finding, Rule};

use crate::step::{Role, Runbook, Step, StepId};
use std::collections::HashMap;

/// What the rules read.
struct View<'r> {
    runbook: &'r Runbook,
    text: &'r str,
    today: jiff::civil::Date,
    places: HashMap<&'r StepId, usize>,
}

impl<'r> View<'r> {
    /// For each step whether one that comes before it is so.
    fn before(&self, is_so: impl Fn(&Step) -> bool) -> Vec<bool> {
        let steps = &self.runbook.steps;
        let mut before = vec![false; steps.len()];
        // Steps stand behind what they need.
        for (at, step) in steps.iter().enumerate() {
            let needs = step.needs.iter().filter_map(|need| self.places.get(need));
            before[at] = needs.copied().any(|need| before[need] || is_so(&steps[need]));
        }
        before
    }

    /// The steps of the order, each with its place.
    fn forward(&self) -> impl Iterator<Item = (usize, &'r Step)> {
        self.runbook.steps.iter().enumerate().filter(|(_, step)| step.role == Role::Forward)
    }

    fn checks(&self) -> impl Iterator<Item = &'r Step> {
        self.runbook.steps.iter().filter(|step| step.is_check)
    }
}

/// Where rules put what they find.
type Found = Vec<Finding>;

const RULES: &[fn(&View<'_>, &mut Found)] = &[
    promises::undo,
    promises::ticked,
    promises::inputs,
    promises::review,
    promises::recovery_time,
    commands::destructive,
    commands::promotions,
    commands::sqlite,
    commands::unknown,
    checks::swallowed,
    checks::unable,
    secrets::written,
];

/// Holds a runbook against what is known to go wrong; `text` is the document that it was compiled from.
pub fn lint(runbook: &Runbook, text: &str, today: jiff::civil::Date) -> Vec<Finding> {
    let places = runbook.steps.iter().enumerate().map(|(at, step)| (&step.id, at)).collect();
    let view = View { runbook, text, today, places };
    let mut findings = Vec::new();
    for rule in RULES {
        rule(&view, &mut findings);
    }
    findings.sort_by(|a, b| (a.weight, a.line, a.rule, &a.what).cmp(&(b.weight, b.line, b.rule, &b.what)));
    findings.dedup();
    findings
}
