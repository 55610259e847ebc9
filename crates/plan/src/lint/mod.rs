//! The lint: holds the statements of a plan against each other and against what was measured, and says with the
//! sum what cannot be kept.
//!
//! Each rule is one function with one name; its reason and its arithmetic are in `docs/lint.md`. Rules read the
//! plan and [`Known`] and nothing else: the lint deliberately knows no file, no clock and no repository, so that
//! the same plan gives the same report anywhere. No rule compares every dataset with every other.

mod exposure;
mod finding;
mod graph;
mod keeping;
mod keys;
mod known;
mod names;
mod paths;
mod people;
mod places;
mod probes;
mod promises;
mod recovery;
mod region;
mod sum;
mod view;

pub use finding::{Finding, Rule, Weight};
pub use known::{Known, KnownDataset, Measured};
pub use sum::{Source, Term};

use crate::Plan;
use view::View;

/// What the lint found, the heaviest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Each of them.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Those of one weight.
    pub fn of(&self, weight: Weight) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.weight == weight)
    }

    /// Whether nothing contradicts and nothing is a hazard.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.weight == Weight::Unknown)
    }

    /// Whether an objective cannot be met; where hazards count as well, whether one is there.
    pub fn misses(&self, hazards_count: bool) -> bool {
        let counts = |weight| weight == Weight::Contradiction || (hazards_count && weight == Weight::Hazard);
        self.findings.iter().any(|finding| counts(finding.weight))
    }
}

/// Where rules put what they find.
type Found = Vec<Finding>;

/// Every rule, by what it is about.
const RULES: &[fn(&View<'_>, &mut Found)] = &[
    names::unknown_names,
    names::needs_cycles,
    names::named_twice,
    exposure::host,
    exposure::elsewhere,
    exposure::promised,
    exposure::stale_after,
    exposure::overlap,
    recovery::service_sums,
    recovery::rto_order,
    recovery::lower_tiers,
    recovery::failovers,
    recovery::availability,
    recovery::mttr,
    keeping::gaps,
    keeping::proofs,
    keeping::retention,
    keeping::scratch,
    keys::lives,
    keys::kept_in_cycles,
    keys::repository_key,
    keys::copy_keys,
    places::copies,
    places::repository,
    places::locks,
    places::spools,
    places::synchronous,
    region::uncovered,
    probes::detection,
    probes::liveness,
    probes::ports,
    people::scales,
    people::responses,
    people::escalation,
    people::contacts,
    people::review,
    promises::twice,
];

/// Holds a plan against itself and against what was measured.
pub fn lint(plan: &Plan, known: &Known) -> Report {
    let view = View::new(plan, known);
    let mut findings = Vec::new();
    for rule in RULES {
        rule(&view, &mut findings);
    }
    findings.sort_by(|a, b| (a.weight, a.rule, &a.key).cmp(&(b.weight, b.rule, &b.key)));
    Report { findings }
}
