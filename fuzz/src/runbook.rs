//! The target for runbooks: documents that people write.

use lifeboat_runbook::lint::lint;
use lifeboat_runbook::template::{Dialect, fill, fill_sql};
use lifeboat_runbook::{Action, Role, Runbook, compile};
use std::collections::BTreeSet;

/// A target: its corpus, and the function that says whether it takes an input.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target of this module.
pub const TARGETS: &[Target] = &[("runbook", runbook)];

/// Whatever compiles is settled and is linted; whatever does not says why, and where.
pub fn runbook(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let runbook = match compile(text) {
        Ok(runbook) => runbook,
        Err(faults) => {
            let lines = u32::try_from(text.matches('\n').count()).unwrap() + 1;
            assert!(faults.iter().count() > 0, "a document is refused and nobody says why");
            for fault in &faults {
                assert!((1..=lines).contains(&fault.line), "line {} of {lines}: {fault}", fault.line);
                assert!(!fault.what.is_empty());
            }
            return false;
        }
    };
    is_settled(&runbook);
    for finding in lint(&runbook, text, "2026-11-22".parse().unwrap()) {
        assert!(!finding.what.is_empty() && finding.line > 0, "{finding:?}");
    }
    true
}

fn is_settled(runbook: &Runbook) {
    let mut before = BTreeSet::new();
    for step in &runbook.steps {
        for need in &step.needs {
            assert!(before.contains(need), "{} stands before {need}, which it needs", step.id);
            assert_eq!(runbook.step(need).unwrap().role, Role::Forward);
        }
        assert!(step.role == Role::Forward || step.needs.is_empty());
        assert!(before.insert(step.id.clone()), "two steps are called {}", step.id);
        is_filled(&step.action, |name| step.passed.iter().any(|passed| passed.name == name));
    }
}

/// Every reference of a step is to something that is passed, and can be filled in.
fn is_filled(action: &Action, is_passed: impl Fn(&str) -> bool) {
    let value = |name: &str| is_passed(name).then(|| "${x}'\":'x'".to_owned());
    let texts: Vec<&str> = match action {
        Action::Sql { on, script } => {
            for dialect in [Dialect::Postgres, Dialect::Sqlite] {
                fill_sql(script, dialect, value).unwrap();
            }
            vec![on]
        }
        Action::Http { request } => {
            let headers = request.headers.iter().map(|(_, value)| value.as_str());
            headers.chain([request.url.as_str()]).chain(request.body.as_deref()).collect()
        }
        Action::Lifeboat { words } => words.iter().map(String::as_str).collect(),
        Action::Person { .. } | Action::Bash { .. } => Vec::new(),
    };
    for text in texts {
        fill(text, value).unwrap();
    }
}
