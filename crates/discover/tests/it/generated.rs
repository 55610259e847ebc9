//! Generated places: whatever is found, the plan that is written reads back and is sound.

use crate::{DATABASE, Place};
use proptest::prelude::*;

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

fn scalar() -> impl Strategy<Value = String> {
    let quoted = |text: String| format!("{text:?}").replace("\\u{", "").replace('}', "");
    prop_oneof![
        value().prop_map(quoted),
        "[0-9]{1,5}(:[0-9]{1,5})?".prop_map(|text| format!("\"{text}\"")),
        "[a-z]{1,6}"
    ]
}

fn compose() -> impl Strategy<Value = String> {
    let image = prop::sample::select(vec!["postgres:16", "redis", "app", "mongo:7", "minio/minio", "vault"]);
    let service = ("[a-zA-Z._-]{1,6}", image, prop::collection::vec(scalar(), 0..4), "\\PC{0,20}");
    prop::collection::vec(service, 0..5).prop_map(|services| {
        let mut text = "services:\n".to_owned();
        for (name, image, scalars, check) in services {
            let list = scalars.join(", ");
            text.push_str(&format!(
                "  \"{name}\":\n    image: {image}\n    ports: [{list}]\n    volumes: [{list}]\n    depends_on: [{list}]\n    \
                 environment: {{A_URL: {}}}\n    healthcheck: {{test: {check:?}}}\n",
                scalars.first().map_or("~", String::as_str)
            ));
        }
        text
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
        "\\PC{0,60}".prop_map(|text| ("k8s/a.yaml".to_owned(), text)),
    ]
}

/// Paths that the folder can hold: others are left to what is above it.
fn is_possible(path: &str) -> bool {
    path.split('/').all(|part| part.len() < 200 && !matches!(part, "" | "." | ".."))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

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
