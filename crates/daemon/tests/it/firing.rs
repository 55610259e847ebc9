//! Every alert fires of what a real service says, and every panel shows something of it.

use crate::alarms::{alerts_of, read};
use crate::scenes::{Scene, scenes};
use serde_json::Value;
use std::collections::BTreeSet;

/// Panels that show only what is wrong: empty where all is well. In which scene there is something.
const WHERE_WRONG: [(&str, &str); 7] = [
    (r#"min by (service) (lifeboat_service_state{state!="ok"} == 1)"#, "services and channels"),
    ("max by (place, role) (lifeboat_place_reachable) == 0", "repository gone"),
    ("lifeboat_check_up == 0", "stores gone"),
    ("max by (component) (lifeboat_component_up) == 0", "repository never there"),
    (r#"max by (channel) (lifeboat_channel_state{state!="ok"}) == 1"#, "services and channels"),
    ("max by (task) (lifeboat_job_consecutive_failures) > 0", "stores gone"),
    ("min by (task) (lifeboat_job_late_seconds) > 0", "hung job"),
];
/// What is mostly over before it is scraped: in which scene it lasts.
const NOW_AND_THEN: [(&str, &str); 1] = [("max by (task) (lifeboat_job_running_seconds)", "hung job")];
/// What only a followed server has.
const OF_STREAMS: [&str; 2] = ["lifeboat_stream_heartbeat_age_seconds", "lifeboat_dataset_exposure_bytes"];

fn named<'s>(scenes: &'s [Scene], name: &str) -> Option<&'s Scene> {
    scenes.iter().find(|scene| scene.name == name)
}

fn has_server(scenes: &[Scene]) -> bool {
    named(scenes, "stalled").is_some()
}

#[test]
fn every_alert_fires_of_what_a_real_service_says() {
    let Some((scenes, _)) = scenes() else { return };
    let fired: BTreeSet<String> =
        scenes.iter().flat_map(|scene| &scene.alerts).map(|alert| alert.name.clone()).collect();
    assert_eq!(fired, alerts_of(&read("lifeboat.rules.yml")));
}

#[test]
fn where_all_is_well_only_the_watchdog_fires() {
    let Some((scenes, _)) = scenes() else { return };
    let names: Vec<&str> =
        named(scenes, "well").unwrap().alerts.iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(names, ["LifeboatWatchdog"]);
}

#[test]
fn every_panel_shows_something() {
    let Some((scenes, promtool)) = scenes() else { return };
    let dashboard: Value = serde_json::from_str(&read("../grafana/lifeboat.json")).unwrap();
    let mut expressions = BTreeSet::new();
    gather(&dashboard, &mut expressions);
    assert!(expressions.len() > 20, "{expressions:?}");
    let folder = tempfile::tempdir().unwrap();
    let elsewhere: Vec<(&str, &str)> = WHERE_WRONG.iter().chain(&NOW_AND_THEN).copied().collect();
    let of_the_well = expressions.iter().map(String::as_str).filter(|expression| {
        !NOW_AND_THEN.iter().any(|(its, _)| its == expression)
            && (has_server(scenes) || !OF_STREAMS.iter().any(|metric| expression.contains(metric)))
    });
    let is_wrong = |expression: &str| WHERE_WRONG.iter().any(|(its, _)| *its == expression);
    let of_the_well: Vec<_> = of_the_well.map(|expression| (expression, !is_wrong(expression))).collect();
    named(scenes, "well").unwrap().scrape.has_data(promtool, folder.path(), &of_the_well).unwrap();
    for (expression, scene) in elsewhere {
        assert!(expressions.contains(expression), "the dashboard has no {expression}");
        let scene = named(scenes, scene).unwrap();
        scene.scrape.has_data(promtool, folder.path(), &[(expression, true)]).unwrap();
    }
}

/// Every `expr` of the dashboard.
fn gather(value: &Value, expressions: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            expressions.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| gather(value, expressions));
        }
        Value::Array(values) => values.iter().for_each(|value| gather(value, expressions)),
        _ => {}
    }
}
