//! What a folder and an environment suggest, looked at from outside: whole plans, hostile files, generated places.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod document;
mod generated;
mod hostile;
mod systems;

use lifeboat_discover::{Found, Kept, Surroundings, look_around, plan_text};
use lifeboat_plan::Plan;
use lifeboat_plan::lint::{Known, Weight, lint};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

/// How a SQLite database begins; nobody reads further here.
const DATABASE: &str = "SQLite format 3\0and the rest of a page";

/// A folder and an environment of one test.
struct Place {
    folder: TempDir,
    variables: BTreeMap<String, String>,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), variables: BTreeMap::new() }
    }

    fn with(self, path: &str, content: &str) -> Self {
        write(self.folder.path(), path, content);
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn look(&self) -> Found {
        let surroundings = Surroundings {
            root: self.folder.path().to_owned(),
            variables: self.variables.clone(),
            host: "host-1".to_owned(),
        };
        Found { system: "system".to_owned(), ..look_around(&surroundings).unwrap() }
    }

    /// What is found, and the plan that it makes, which must be sound.
    fn plan(&self) -> (Found, String, Plan) {
        let found = self.look();
        let text = plan_text(&found, &Kept::default());
        let plan = sound(&text);
        (found, text, plan)
    }
}

/// Reads a plan, which must hold no contradiction and no hazard.
fn sound(text: &str) -> Plan {
    let plan = Plan::parse(text, "p.toml").unwrap_or_else(|error| panic!("{error}\n{text}"));
    let report = lint(&plan, &Known::default());
    let heavy: Vec<_> = report.findings.iter().filter(|finding| finding.weight != Weight::Unknown).collect();
    assert!(heavy.is_empty(), "{heavy:#?}\n{text}");
    plan
}

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    lifeboat_base::crashsafe::create_dir_all(path.parent().unwrap()).unwrap();
    lifeboat_base::crashsafe::replace(&path, content.as_bytes()).unwrap();
}

/// Compares a text with a file; `LIFEBOAT_UPDATE_SNAPSHOTS=1` writes what is seen instead.
#[track_caller]
fn compare(path: &Path, seen: &str) {
    if std::env::var("LIFEBOAT_UPDATE_SNAPSHOTS").is_ok_and(|value| value == "1") {
        lifeboat_base::crashsafe::replace(path, seen.as_bytes()).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == seen,
        "{} is not what is seen; LIFEBOAT_UPDATE_SNAPSHOTS=1 accepts it\n=== expected\n{expected}\n=== seen\n{seen}",
        path.display()
    );
}
