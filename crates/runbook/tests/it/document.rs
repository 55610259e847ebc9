//! docs/runbook.md, docs/lint.md and the schema say what the program does.

use crate::compiled;
use lifeboat_runbook::lint::{Rule, lint};
use lifeboat_runbook::{MAX_BYTES, MAX_STEPS, Runbook};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn docs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn page(name: &str) -> String {
    std::fs::read_to_string(docs().join(name)).unwrap()
}

fn compare(path: &Path, seen: &str) {
    if std::env::var("LIFEBOAT_UPDATE_SNAPSHOTS").is_ok_and(|value| value == "1") {
        lifeboat_base::crashsafe::replace(path, seen.as_bytes()).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(expected == seen, "{} is old; LIFEBOAT_UPDATE_SNAPSHOTS=1 renews it", path.display());
}

#[test]
fn the_schema_that_is_checked_in_is_the_programs() {
    compare(&docs().join("runbook.schema.json"), &format!("{:#}\n", Runbook::json_schema()));
}

/// Held against the schema as far as that goes without a validator: every key that is there is known, every key that
/// must be there is.
#[test]
fn what_is_compiled_has_the_shape_of_the_schema() {
    let schema = Runbook::json_schema();
    let value = serde_json::to_value(compiled(crate::sound::WHOLE)).unwrap();
    assert_eq!(value["document"].as_str().unwrap().len(), 64);
    keys(&schema, &schema, &value, "runbook");
}

fn keys(root: &Value, schema: &Value, value: &Value, path: &str) {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        return keys(root, root.pointer(target.trim_start_matches('#')).unwrap(), value, path);
    }
    if let Some(list) = value.as_array() {
        return list
            .iter()
            .for_each(|item| keys(root, schema.get("items").unwrap_or(&Value::Null), item, path));
    }
    let (Some(object), Some(known)) =
        (value.as_object(), schema.get("properties").and_then(Value::as_object))
    else {
        return;
    };
    for required in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        assert!(object.contains_key(required.as_str().unwrap()), "{path} lacks {required}");
    }
    for (key, inner) in object {
        let schema = known.get(key).unwrap_or_else(|| panic!("{path}.{key} is not in the schema"));
        keys(root, schema, inner, &format!("{path}.{key}"));
    }
}

/// The examples of the page, which are runbooks in blocks with four backticks.
#[test]
fn the_examples_are_runbooks_without_a_finding() {
    let page = page("runbook.md");
    let examples: Vec<&str> =
        page.split("````markdown\n").skip(1).map(|rest| rest.split("````").next().unwrap()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        let runbook = compiled(example);
        assert_eq!(lint(&runbook, example, "2026-11-22".parse().unwrap()), [], "{}", runbook.title);
    }
}

#[test]
fn bounds_are_said() {
    let said = format!("At most {} MiB and {} steps", MAX_BYTES >> 20, "20,000");
    assert!(page("runbook.md").contains(&said) && MAX_STEPS == 20_000);
}

#[test]
fn every_rule_is_explained_and_no_other() {
    let page = page("lint.md");
    let section = page.split("\n## Runbooks\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let explained: BTreeSet<&str> = rows.collect();
    let all: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    assert_eq!(explained, all);
}
