//! What is checked in is what the program has: the OpenAPI document, the names in rules and dashboard.

use crate::world::{SERVE, World};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// LIFEBOAT_UPDATE=1 writes it anew.
#[test]
fn the_document_that_is_checked_in_is_the_programs() {
    let current = format!("{:#}\n", lifeboat_daemon::http::openapi());
    if std::env::var_os("LIFEBOAT_UPDATE").is_some() {
        lifeboat_base::crashsafe::replace(&root().join("docs/openapi.json"), current.as_bytes()).unwrap();
    }
    assert!(
        read("docs/openapi.json") == current,
        "docs/openapi.json is old: run this test with LIFEBOAT_UPDATE=1"
    );
}

/// Words of a text that look like metrics.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("lifeboat_")).map(str::to_owned).collect()
}

/// What the documents say that there is; watch's tests hold docs/status.md to its code.
fn documented() -> BTreeSet<String> {
    metrics_in(&(read("docs/status.md") + &read("docs/serve.md")))
}

#[test]
fn rules_and_dashboard_name_only_metrics_that_there_are() {
    let documented = documented();
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/lifeboat.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    assert!(queries.len() > 20, "{}", queries.len());
    for text in queries.iter().copied().chain([read("deploy/prometheus/lifeboat.rules.yml").as_str()]) {
        let named = metrics_in(text);
        let unknown: Vec<_> = named.difference(&documented).collect();
        assert!(unknown.is_empty() && (!named.is_empty() || !text.contains("expr")), "{text}: {unknown:?}");
    }
    // And the other way round: what there is, is shown.
    let shown = metrics_in(&dashboard.to_string());
    let not_shown: Vec<_> = documented.difference(&shown).collect();
    // Writes the service does not count yet, and the whole state is that of its parts.
    assert_eq!(not_shown, ["lifeboat_dataset_exposure_writes", "lifeboat_state"], "not on the dashboard");
}

#[test]
fn the_exporter_has_only_what_is_documented_and_its_text_is_read_by_promtool() {
    let world = World::serving(SERVE);
    world.until("a proof", |world| world.get("/metrics").body.contains("lifeboat_proof_age_seconds"));
    let metrics = world.get("/metrics");
    let names: BTreeSet<String> = metrics
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    let documented = documented();
    let unknown: Vec<_> = names.difference(&documented).collect();
    assert!(unknown.is_empty() && names.len() > 15, "{unknown:?} of {names:?}");
    if let Some(promtool) = crate::alarms::tool("promtool") {
        let file = world.path("metrics.txt");
        lifeboat_base::crashsafe::create(&file, metrics.body.as_bytes()).unwrap();
        let input = std::fs::File::open(&file).unwrap();
        let output =
            std::process::Command::new(promtool).args(["check", "metrics"]).stdin(input).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
}
