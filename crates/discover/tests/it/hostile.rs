//! Files of somebody who means harm: refused, said, and passed over, while the rest is found.

use crate::{DATABASE, Place};

fn missed(place: &Place) -> Vec<String> {
    let found = place.look();
    found.passed_over.into_iter().filter(|passed| passed.is_missed).map(|passed| passed.path).collect()
}

fn bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..20 {
        let items = vec![format!("*a{}", n - 1); 9].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{items}]\n"));
    }
    text
}

#[test]
fn what_cannot_be_read_is_said_and_the_rest_is_found() {
    let place = Place::new()
        .with("compose.bomb.yml", &bomb())
        .with("compose.broken.yml", "services: [\n")
        .with("compose.deep.yml", &"[".repeat(50_000))
        .with("compose.long.yml", &format!("# {}\n", "x".repeat(2 << 20)))
        .with("compose.yml", "services: {db: {image: postgres}}\n")
        .with("app.db", DATABASE);
    let names = ["compose.bomb.yml", "compose.broken.yml", "compose.deep.yml", "compose.long.yml"];
    assert_eq!(missed(&place), names);
    let (_, _, plan) = place.plan();
    assert_eq!(plan.datasets.len(), 2);
}

#[test]
fn shapes_that_nobody_expects_are_no_fault() {
    for (number, text) in [
        "services: 7",
        "services: {a: ~, b: [], c: {image: [], environment: 5, ports: {}, volumes: [[], 7, ':', '::']}}",
        "services: {a: {ports: ['99999:1', 'x:y', '1-5:1-5', ':80', '80:'], healthcheck: {test: [[], 5]}}}",
        "services: {a: {healthcheck: {test: 'curl http://'}, depends_on: [a, a, b, 7], env_file: [../../etc/passwd, {}]}}",
        "- 1\n- 2\n",
        "'just text'",
        "1: {2: 3}\n",
    ]
    .into_iter()
    .enumerate()
    {
        let place = Place::new().with("compose.yml", text).with("k8s/a.yml", text);
        place.plan();
        let (_, _, plan) = Place::new().with(&format!("k8s/{number}.yaml"), text).plan();
        assert!(plan.datasets.is_empty());
    }
}

#[test]
fn manifests_that_lead_nowhere_are_no_fault() {
    let place = Place::new().with(
        "k8s/a.yaml",
        "kind: List\nitems:\n- {kind: List, items: [{kind: Pod, metadata: {name: x}}]}\n- {kind: Deployment}\n\
         - {kind: Deployment, metadata: {name: \"a\\nb\"}, spec: {template: {spec: {containers: [{readinessProbe: \
         {httpGet: {port: nowhere}}}, {ports: [{}]}, 5]}}}}\n",
    );
    let (found, _, plan) = place.plan();
    assert_eq!(plan.services.keys().collect::<Vec<_>>(), ["a-b"], "{found:?}");
}

#[test]
fn services_in_a_circle_do_not_make_a_circle() {
    let place = Place::new().with(
        "compose.yml",
        "services:\n  a: {depends_on: [b], expose: [1]}\n  b: {depends_on: [c], expose: [2]}\n  c: {depends_on: [a], expose: [3]}\n",
    );
    let (_, _, plan) = place.plan();
    assert_eq!(plan.services["b"].needs, ["c"]);
    assert!(plan.services["c"].needs.is_empty());
}

#[test]
fn a_link_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    crate::write(outside.path(), "compose.yml", "services: {db: {image: postgres}}\n");
    crate::write(outside.path(), "x.db", DATABASE);
    let place = Place::new();
    for (name, target) in [("compose.yml", "compose.yml"), ("x.db", "x.db"), ("data", "")] {
        std::os::unix::fs::symlink(outside.path().join(target), place.folder.path().join(name)).unwrap();
    }
    assert!(place.look().is_empty());
}

#[test]
fn names_that_mean_harm_stay_names() {
    let place = Place::new().with("we\"ird\n[datasets.evil]\n.db", DATABASE).with("data/\u{1b}[31m.txt", "x");
    let (_, text, plan) = place.plan();
    assert_eq!(plan.datasets.len(), 2, "{text}");
    assert!(!text.contains('\u{1b}'));
}
