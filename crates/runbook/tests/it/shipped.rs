//! The runbooks that ship with the plans are sound, and hide nothing that the lint knows.

use crate::compiled;
use lifeboat_runbook::lint::lint;
use lifeboat_runbook::{Action, Role, Runbook};
use std::path::{Path, PathBuf};

fn shipped() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plans/aragora/runbooks");
    let mut all: Vec<(PathBuf, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|item| item.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect();
    all.sort();
    all
}

fn named(name: &str) -> Runbook {
    let all = shipped();
    compiled(&all.iter().find(|(path, _)| path.ends_with(name)).unwrap().1)
}

#[test]
fn they_compile_and_nothing_is_found() {
    let all = shipped();
    assert!(all.len() >= 4, "{all:?}");
    for (path, text) in all {
        let runbook = compiled(&text);
        // The day of their last review: a test that fails one day without a change tests the calendar.
        let reviewed = runbook.front.reviewed.unwrap();
        assert_eq!(lint(&runbook, &text, reviewed), [], "{}", path.display());
    }
}

/// What they recover is what the plan beside them calls so.
#[test]
fn they_name_what_the_plan_has() {
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plans/aragora/lifeboat.toml"),
    );
    let plan = lifeboat_plan::Plan::parse(&text.unwrap(), "lifeboat.toml").unwrap();
    for (path, text) in shipped() {
        let front = compiled(&text).front;
        for dataset in &front.datasets {
            assert!(plan.datasets.contains_key(dataset), "{}: {dataset}", path.display());
        }
        for service in &front.services {
            let tier = plan.services[service].tier.as_ref().unwrap();
            let rto = front.objectives.rto.unwrap();
            assert!(rto <= plan.tiers[tier].rto, "{}: {service} is {tier}", path.display());
        }
        if let Some(severity) = &front.severity {
            assert!(plan.severities.contains_key(severity), "{}: {severity}", path.display());
        }
    }
}

/// Nothing is moved or promoted before the restored data was looked at and somebody agreed.
#[test]
fn data_is_looked_at_before_it_is_put_in_place() {
    for name in ["sqlite-snapshot.md", "postgres-snapshot.md", "postgres-point-in-time.md"] {
        let runbook = named(name);
        let at = |id: &str| runbook.steps.iter().position(|step| step.id.as_str() == id).unwrap();
        let looked = if name.contains("point") { "point-is-reached" } else { "restored-is-whole" };
        let order = ["decided", "restore", looked, "way-is-free", "swap", "in-place"].map(at);
        assert!(order.is_sorted(), "{name}: {order:?}");
        let swap = &runbook.steps[at("swap")];
        assert!(swap.approval.as_ref().is_some_and(|approval| approval.facts.len() >= 3), "{name}");
        let undone = runbook.steps.iter().filter(|step| step.role == Role::Undo).count();
        assert!(undone >= 2, "{name}: {undone}");
    }
}

/// A run of the one for practice stands still until a person has spoken.
#[test]
fn practice_waits_for_a_person() {
    let runbook = named("practice.md");
    let last = runbook.steps.iter().rfind(|step| step.role == Role::Forward).unwrap();
    assert_eq!(last.id.as_str(), "once-only", "the line is counted in the end");
    let at = runbook.steps.iter().position(|step| matches!(step.action, Action::Person { .. })).unwrap();
    let changes: Vec<_> = runbook
        .forward()
        .filter(|step| !step.is_check && step.id.as_str() != "prepare")
        .filter(|step| !matches!(step.action, Action::Person { .. }))
        .collect();
    assert!(changes.len() >= 3);
    for step in changes {
        let place = runbook.steps.iter().position(|own| own.id == step.id).unwrap();
        assert!(place > at, "{} does not wait", step.id);
    }
}
