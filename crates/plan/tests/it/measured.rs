//! What was measured goes before what is stated, and a sum says which of its terms it was.

use crate::faults::BASE;
use lifeboat_plan::lint::{Finding, Known, KnownDataset, Measured, Rule, Source, Weight, lint};
use lifeboat_plan::{Plan, Span};

fn span(text: &str) -> Span {
    text.parse().unwrap()
}

fn measured(p90: &str) -> Option<Measured> {
    Some(Measured { p90: span(p90), count: 12 })
}

/// What a rule says of the sound plan, with an edit, when this was measured of a dataset.
fn said(edit: (&str, &str), rule: Rule, dataset: &str, of: KnownDataset) -> Vec<Finding> {
    let plan = Plan::parse(&BASE.replace(edit.0, edit.1), "plan.toml").unwrap();
    let known = Known { datasets: [(dataset.to_owned(), of)].into() };
    lint(&plan, &known).findings.into_iter().filter(|finding| finding.rule == rule).collect()
}

const AS_IT_IS: (&str, &str) = ("", "");

#[test]
fn a_snapshot_that_takes_longer_than_stated_misses_the_objective() {
    let slow = KnownDataset { snapshot: measured("29m"), ships: measured("2m"), ..KnownDataset::default() };
    let found = said(AS_IT_IS, Rule::RpoHost, "users", slow);
    assert_eq!(
        found[0].what,
        "users may lose 1h when its host is lost, and can lose 1h1m: every 30m + takes 29m (nine of ten of 12 measured) + ships 2m (nine of ten of 12 measured)"
    );
    assert_eq!(found[0].sum[1].source, Source::Measured { count: 12 });
    let fast = KnownDataset { snapshot: measured("10s"), ..KnownDataset::default() };
    assert_eq!(said(("takes = \"1m\"", "takes = \"2h\""), Rule::Overlap, "users", fast), []);
}

#[test]
fn a_log_that_is_behind_misses_the_objective() {
    let behind = KnownDataset { ships: measured("6m"), ..KnownDataset::default() };
    assert_eq!(said(AS_IT_IS, Rule::RpoHost, "orders", behind)[0].weight, Weight::Contradiction);
}

#[test]
fn a_restore_is_reckoned_as_it_was_measured() {
    let rate = "10MiB/s".parse().unwrap();
    let restore = Some(Measured::at_rate(rate, "60GiB".parse().unwrap(), 3));
    let found = said(AS_IT_IS, Rule::RtoSum, "orders", KnownDataset { restore, ..KnownDataset::default() });
    assert_eq!(found.len(), 1);
    assert!(
        found[0].what.contains("restoring orders 1h42m24s (nine of ten of 3 measured)"),
        "{}",
        found[0].what
    );
}

#[test]
fn a_proof_that_is_older_than_it_may_be_is_said() {
    let old = KnownDataset { proof_age: Some(span("50h")), ..KnownDataset::default() };
    let found = said(AS_IT_IS, Rule::ProofAge, "orders", old);
    assert_eq!(found[0].what, "the last proof of orders may be 2d old, and is 2d2h old");
    let young = KnownDataset { proof_age: Some(span("47h")), ..KnownDataset::default() };
    assert_eq!(said(AS_IT_IS, Rule::ProofAge, "orders", young), []);
    // A proof a day that takes more than a day: the one before it is older than two when it ends.
    let long = KnownDataset { restore: measured("25h"), ..KnownDataset::default() };
    assert_eq!(said(AS_IT_IS, Rule::ProofAge, "orders", long)[0].weight, Weight::Contradiction);
}

/// One host restores one dataset after the other, two hosts at once: the longest counts.
#[test]
fn restores_of_one_host_add_up_and_those_of_two_do_not() {
    let plan = |second: &str| {
        let dataset = |name: &str, host: &str| {
            format!(
                "[datasets.{name}]\nstore = \"/{name}\"\nhost = \"{host}\"\nrecover = {{ takes = \"20m\" }}\n"
            )
        };
        format!(
            "[services.web]\nrto = \"30m\"\nneeds = [\"a\", \"b\"]\ndetect = \"1m\"\ndecide = \"1m\"\n{}{}",
            dataset("a", "one"),
            dataset("b", second)
        )
    };
    let sums = |text: &str| {
        let report = lint(&Plan::parse(text, "plan.toml").unwrap(), &Known::default());
        report.findings.into_iter().filter(|finding| finding.rule == Rule::RtoSum).collect::<Vec<_>>()
    };
    assert_eq!(sums(&plan("two")), []);
    let together = sums(&plan("one"));
    assert_eq!(
        together[0].what,
        "web must be back in 30m, and it can take 42m: noticing 1m + deciding 1m + restoring a 20m + restoring b 20m"
    );
}
