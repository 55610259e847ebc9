//! Generated places: whatever is found, the plan that is written reads back and is sound.

use crate::{DATABASE, Place};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

fn value() -> impl Strategy<Value = String> {
    let scheme = prop::sample::select(vec![
        "postgres",
        "postgresql+asyncpg",
        "jdbc:postgresql",
        "redis",
        "mongodb+srv",
        "s3",
        "sqlite",
        "https",
        "file",
    ]);
    let rest = prop_oneof![
        "[a-z]{1,6}(:[a-z@/:#?]{0,6})?@[a-z.]{1,8}(:[0-9]{1,6})?/[a-z_]{0,6}",
        "[a-z.]{0,8}(,[a-z]{1,4}){0,2}/\\PC{0,8}",
        "\\PC{0,12}",
    ];
    prop_oneof![(scheme, rest).prop_map(|(scheme, rest)| format!("{scheme}://{rest}")), "\\PC{0,20}"]
}

fn variable() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "DATABASE_URL",
            "POSTGRES_URL",
            "REDIS_URL",
            "MONGO",
            "PGHOST",
            "PGPORT",
            "PGUSER"
        ])
        .prop_map(str::to_owned),
        "[A-Z]{1,4}_(URL|DSN|URI)",
    ];
    (name, value())
}

/// A text as JSON has it, which YAML reads as well.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn scalar() -> impl Strategy<Value = String> {
    let quoted = |text: String| json(&text);
    prop_oneof![
        value().prop_map(quoted),
        "[0-9]{1,5}(:[0-9]{1,5})?".prop_map(|text| format!("\"{text}\"")),
        "[abc]",
        prop::sample::select(vec!["./data:/x", "./uploads:/y:ro", "../out:/z", "d:/w"]).prop_map(json),
    ]
}

fn compose() -> impl Strategy<Value = String> {
    let image = prop::sample::select(vec![
        "postgres:16",
        "redis",
        "app",
        "web/api:1",
        "x",
        "mongo:7",
        "minio/minio",
        "vault",
    ]);
    let name = prop_oneof!["[abc]", "[a-zA-Z._-]{1,6}"];
    let service = (name, image, prop::collection::vec(scalar(), 0..4), "\\PC{0,20}");
    prop::collection::vec(service, 0..5).prop_map(|services| {
        let mut text = "services:\n".to_owned();
        for (name, image, scalars, check) in services {
            let list = scalars.join(", ");
            text.push_str(&format!(
                "  \"{name}\":\n    image: {image}\n    ports: [{list}]\n    volumes: [{list}]\n    depends_on: [{list}]\n    \
                 environment: {{A_URL: {}}}\n    healthcheck: {{test: {}}}\n",
                scalars.first().map_or("~", String::as_str),
                json(&check),
            ));
        }
        text
    })
}

fn manifest() -> impl Strategy<Value = String> {
    let kind = prop::sample::select(vec![
        "Deployment",
        "StatefulSet",
        "CronJob",
        "Service",
        "ConfigMap",
        "Secret",
        "Pod",
    ]);
    let image = prop::sample::select(vec!["postgres", "app", "redis:7"]);
    let part = (kind, "[a-c]", image, scalar(), scalar(), prop::option::of(0_u32..70_000));
    prop::collection::vec(part, 1..5).prop_map(|parts| {
        let documents = parts.iter().map(|(kind, name, image, one, other, port)| {
            let port = port.map_or("http".to_owned(), |port| port.to_string());
            let pod = format!(
                "{{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: [{{image: \"{image}\", \
                 ports: [{{name: http, containerPort: {port}}}], env: [{{name: A_URL, value: {one}}}, \
                 {{name: DATABASE_URL, valueFrom: {{secretKeyRef: {{name: {other}}}}}}}], envFrom: [{{configMapRef: \
                 {{name: a}}}}], readinessProbe: {{httpGet: {{path: {other}, port: {port}}}, periodSeconds: {port}}}}}]}}}}"
            );
            format!(
                "kind: {kind}\nmetadata: {{name: {name}, namespace: n}}\ndata: {{B_URL: {one}}}\nspec: {{selector: \
                 {{app: {name}}}, ports: [{{port: 80, targetPort: {port}}}], template: {pod}, jobTemplate: {{spec: \
                 {{template: {pod}}}}}}}\n"
            )
        });
        documents.collect::<Vec<_>>().join("---\n")
    })
}

fn file() -> impl Strategy<Value = (String, String)> {
    prop_oneof![
        ("[a-z. \"'\\\\#\\[\\]*-]{1,8}", Just(DATABASE))
            .prop_map(|(name, content)| (format!("d/{name}x"), content.to_owned())),
        ("(data|uploads|media)/[^/\\x00]{1,12}", Just("x"))
            .prop_map(|(name, content)| (name, content.to_owned())),
        prop::collection::vec(variable(), 0..4).prop_map(|lines| {
            let lines: Vec<String> = lines.iter().map(|(name, value)| format!("{name}={value}")).collect();
            (".env".to_owned(), lines.join("\n"))
        }),
        compose().prop_map(|text| ("compose.yml".to_owned(), text)),
        manifest().prop_map(|text| ("k8s/a.yaml".to_owned(), text)),
        "\\PC{0,60}".prop_map(|text| ("k8s/a.yaml".to_owned(), text)),
    ]
}

/// Paths that the folder can hold: others are left to what is above it.
fn is_possible(path: &str) -> bool {
    path.split('/').all(|part| part.len() < 200 && !matches!(part, "" | "." | ".."))
}

/// A test that finds nothing would prove nothing.
#[test]
fn the_generated_places_hold_something() {
    let mut runner = TestRunner::deterministic();
    let (mut datasets, mut services, mut unprotected) = (0, 0, 0);
    for _ in 0..100 {
        let files = prop::collection::vec(file(), 0..6).new_tree(&mut runner).unwrap().current();
        let possible = files.iter().filter(|(path, _)| is_possible(path));
        let found = possible.fold(Place::new(), |place, (path, content)| place.with(path, content)).look();
        datasets += found.datasets.iter().filter(|dataset| dataset.engine.has_driver()).count();
        unprotected += found.datasets.iter().filter(|dataset| !dataset.engine.has_driver()).count();
        services += found.services.len();
    }
    assert!(datasets > 50 && services > 20 && unprotected > 20, "{datasets} {services} {unprotected}");
}

proptest! {
    #[test]
    fn what_is_written_is_a_sound_plan(
        variables in prop::collection::vec(variable(), 0..6),
        files in prop::collection::vec(file(), 0..6),
    ) {
        let mut place = Place::new();
        for (name, value) in variables {
            place = place.variable(&name, &value);
        }
        for (path, content) in files.iter().filter(|(path, _)| is_possible(path)) {
            place = place.with(path, content);
        }
        let (found, text, plan) = place.plan();
        let protected = found.datasets.iter().filter(|dataset| dataset.engine.has_driver()).count();
        prop_assert_eq!(plan.datasets.len(), protected, "{}", text);
        prop_assert_eq!(plan.services.len(), found.services.len());
    }

    #[test]
    fn no_password_goes_on(password in "[a-zA-Z0-9/:?#@!]{8,20}", user in "[a-z]{1,5}") {
        let secret = format!("Zz{password}zZ");
        let place = Place::new()
            .variable("A_URL", &format!("postgres://{user}:{secret}@db/app"))
            .variable("B_URL", &format!("postgresql+x://{user}:{secret}@db-2/app"))
            .variable("C_URL", &format!("rediss://:{secret}@cache/0"))
            .variable("D_DSN", &format!("host=db-3 user={user} password={secret}"))
            .with(".env", &format!("E_URL=mysql://{user}:{secret}@my/x\nF_PASSWORD={secret}\n"));
        let (found, text, _) = place.plan();
        let said = format!("{text}{found:?}");
        prop_assert!(!said.contains(&secret) && !said.contains(&format!("{password}zZ")), "{}", said);
    }
}
