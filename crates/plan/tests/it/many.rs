//! Large plans: the lint reads each statement a few times, however many there are. What it takes is printed by
//! `cargo run --release -p lifeboat-plan --example lint_time`.

use lifeboat_plan::Plan;
use lifeboat_plan::lint::{Known, Rule, Weight, lint};
use std::fmt::Write;

/// Twenty thousand datasets with a service for every ten, each with a fault and an unknown name: a rule that
/// compared each with each would not come back while anybody waits.
#[test]
fn twenty_thousand_datasets_are_linted() {
    let mut text = "[tiers.t]\nrto = \"1h\"\n[repository]\nurl = \"s3://b\"\n".to_owned();
    for n in 0..20_000 {
        let cron = n % 60;
        writeln!(text, "[datasets.d{n}]\nstore = \"/srv/{n}\"\nrpo = \"1h\"\nprotect = {{ cron = \"{cron} 2 * * *\" }}\nnames = [\"n{n}\"]").unwrap();
        if n % 10 == 0 {
            writeln!(text, "[services.s{n}]\ntier = \"t\"\nneeds = [\"d{n}\", \"d{}\", \"x{n}\"]", n / 2)
                .unwrap();
        }
    }
    let report = lint(&Plan::parse(&text, "plan.toml").unwrap(), &Known::default());
    let count = |rule: Rule| report.findings.iter().filter(|finding| finding.rule == rule).count();
    assert_eq!(count(Rule::RpoHost), 20_000);
    assert_eq!(count(Rule::UnknownName), 2_000);
    assert_eq!(report.of(Weight::Unknown).filter(|finding| finding.rule == Rule::RtoSum).count(), 2_000);
}

/// Ten thousand services in a row: what all of them need together is not followed to the end, and that is said.
#[test]
fn what_needs_too_much_is_said_to_do_so() {
    let mut text = "[tiers.t]\nrto = \"1h\"\n".to_owned();
    for n in 0..10_000 {
        writeln!(text, "[services.s{n:05}]\ntier = \"t\"\nneeds = [\"s{:05}\"]", (n + 1) % 10_000).unwrap();
    }
    let report = lint(&Plan::parse(&text, "plan.toml").unwrap(), &Known::default());
    assert!(report.findings.iter().any(|finding| finding.what.contains("more than can be followed")));
    assert_eq!(report.findings.iter().filter(|finding| finding.rule == Rule::NeedsCycle).count(), 1);
}
