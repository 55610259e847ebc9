//! The lint against whole plans: the two systems' of the seeds, plans with one fault each, sound ones, and plans
//! that nobody would write.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod anything;
mod faults;
mod many;
mod measured;
mod seeds;
mod sound;

use lifeboat_plan::Plan;
use lifeboat_plan::lint::{Known, Report, Weight, lint};

/// What the lint says of a plan of which nothing was measured.
#[track_caller]
fn linted(text: &str) -> Report {
    match Plan::parse(text, "plan.toml") {
        Ok(plan) => lint(&plan, &Known::default()),
        Err(error) => panic!("{error}\n{text}"),
    }
}

/// The findings that are more than a missing figure, a line each.
fn serious(report: &Report) -> Vec<String> {
    let serious = report.findings.iter().filter(|finding| finding.weight != Weight::Unknown);
    serious.map(|finding| format!("{} [{}] {}", finding.rule, finding.key, finding.what)).collect()
}
