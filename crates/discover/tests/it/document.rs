//! The schema of a plan as it is checked in, and the page that explains its keys, held to the program.

use crate::compare;
use lifeboat_plan::Plan;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Where each table of a plan is explained: its path, and the heading. `*` stands for a name or a place in a list.
const SECTIONS: &[(&str, &str)] = &[
    ("", "Everything"),
    ("communication.*", "`[[communication]]`"),
    ("contacts.*", "`[contacts.NAME]`"),
    ("people.*", "`[people.NAME]`"),
    ("copies.*", "`[[copies]]`"),
    ("copies.*.retain", "`retain`"),
    ("copies.*.schedule", "A schedule"),
    ("datasets.*", "`[datasets.NAME]`"),
    ("datasets.*.protect", "`protect`"),
    ("datasets.*.prove", "`prove`"),
    ("datasets.*.prove.queries.*", "`queries`"),
    ("datasets.*.recover", "`recover`"),
    ("datasets.*.replica", "`replica`"),
    ("datasets.*.retain", "`retain`"),
    ("datasets.*.rpo", "`rpo`"),
    ("environments.*", "`[environments.NAME]`"),
    ("escalation.*", "`[[escalation]]`"),
    ("failovers.*", "`[failovers.NAME]`"),
    ("failovers.*.steps.*", "`steps`"),
    ("hosts.*", "`[hosts.NAME]`"),
    ("incidents.*", "`[incidents.NAME]`"),
    ("keys.*", "`[keys.NAME]`"),
    ("levels.*", "`[levels.NAME]`"),
    ("locks.*", "`[locks.NAME]`"),
    ("notify.*", "`[notify.NAME]`"),
    ("promises.*", "`[[promises]]`"),
    ("repository", "`[repository]`"),
    ("repository.prune", "A schedule"),
    ("review", "`[review]`"),
    ("serve", "`[serve]`"),
    ("serve.scratch", "`scratch`"),
    ("services.*", "`[services.NAME]`"),
    ("services.*.probe", "`probe`"),
    ("services.*.steps.*", "`steps`"),
    ("severities.*", "`[severities.NAME]`"),
    ("system", "`[system]`"),
    ("tiers.*", "`[tiers.NAME]`"),
];

fn docs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn page() -> String {
    std::fs::read_to_string(docs().join("plan.md")).unwrap()
}

#[test]
fn the_schema_that_is_checked_in_is_the_programs() {
    let schema = format!("{:#}\n", Plan::json_schema());
    compare(&docs().join("lifeboat.schema.json"), &schema);
}

/// The tables of a schema: for each path the keys, with whether they must be there.
fn tables(root: &Value) -> BTreeMap<String, BTreeMap<String, bool>> {
    let mut found = BTreeMap::new();
    descend(root, root, String::new(), &mut found);
    found
}

fn descend(root: &Value, schema: &Value, path: String, found: &mut BTreeMap<String, BTreeMap<String, bool>>) {
    assert!(path.matches('.').count() < 8, "the plan has no end: {path}");
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(reference.trim_start_matches('#')).unwrap();
        descend(root, target, path.clone(), found);
    }
    for variant in ["anyOf", "oneOf", "allOf"].iter().filter_map(|key| schema.get(key)?.as_array()).flatten()
    {
        descend(root, variant, path.clone(), found);
    }
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for inner in ["items", "additionalProperties"].iter().filter_map(|key| schema.get(key)) {
        descend(root, inner, below("*"), found);
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let keys = properties.keys().map(|key| (key.clone(), required.contains(&Value::from(key.as_str()))));
    found.entry(path.clone()).or_default().extend(keys);
    for (key, inner) in properties {
        descend(root, inner, below(key), found);
    }
}

/// The rows of a page, by heading: keys, with whether they must be there.
fn rows(page: &str) -> BTreeMap<String, BTreeMap<String, bool>> {
    let mut found: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    let mut heading = String::new();
    for line in page.lines() {
        if line.starts_with('#') && !line.starts_with("#:") {
            heading = line.trim_start_matches('#').trim().to_owned();
        }
        let Some(row) = line.strip_prefix("| `") else { continue };
        let (key, rest) = row.split_once('`').unwrap();
        let cells: Vec<&str> = rest.split('|').collect();
        assert_eq!(cells.len(), 5, "{heading}: {line}");
        let again =
            found.entry(heading.clone()).or_default().insert(key.to_owned(), cells[2].trim() == "required");
        assert_eq!(again, None, "{heading}: {key} stands there twice");
    }
    found
}

#[test]
fn every_key_is_explained_and_no_other() {
    let (tables, rows) = (tables(&Plan::json_schema()), rows(&page()));
    let known: BTreeMap<&str, &str> = SECTIONS.iter().copied().collect();
    let paths: BTreeSet<&str> = tables.keys().map(String::as_str).collect();
    assert_eq!(paths, known.keys().copied().collect(), "the tables of a plan have their sections");
    for (path, keys) in &tables {
        let heading = known[path.as_str()];
        assert_eq!(rows.get(heading), Some(keys), "{path}: `{heading}` of docs/plan.md");
    }
    let headings: BTreeSet<&str> = rows.keys().map(String::as_str).collect();
    assert_eq!(headings, known.values().copied().collect(), "nothing else is explained");
}

#[test]
fn the_examples_are_plans() {
    let page = page();
    let examples: Vec<&str> =
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        let inner = example.contains("prune =").then(|| format!("[repository]\nurl = \"x\"\n{example}"));
        Plan::parse(inner.as_deref().unwrap_or(example), "docs/plan.md").unwrap();
    }
    crate::sound(page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap());
}
