//! Plans with exactly one fault: `base.toml`, which is sound, with an edit. The rule that is named finds it, and no
//! other rule finds anything but a missing figure.

use crate::linted;
use lifeboat_plan::lint::{Rule, Weight};
use std::collections::BTreeSet;

/// A sound plan in which every kind of statement is there once.
pub(crate) const BASE: &str = include_str!("base.toml");

/// A fault: its rule, its weight, and what is replaced by what.
type Fault = (&'static str, Weight, &'static [Edit]);
/// What is replaced by what.
type Edit = (&'static str, &'static str);

use Weight::{Contradiction as C, Hazard as H};

const FAULTS: &[Fault] = &[
    // Exposure
    ("rpo-host", C, &[(r#"every = "6h""#, r#"every = "24h""#)]),
    (
        "rpo-host",
        C,
        &[("rto = \"40m\"\nrpo = \"1h\"", "rto = \"40m\"\nrpo = \"20m\""), ("stale_after = \"1h\"\n", "")],
    ),
    ("rpo-host", C, &[("of = \"services.shop\"\nrto = \"40m\"", "of = \"datasets.orders\"\nevery = \"1d\"")]),
    ("rpo-host", C, &[(r#"ships = "10s""#, r#"ships = "6m""#)]),
    (
        "rpo-host",
        C,
        &[(r#"{ every = "6h", takes = "2m" }"#, r#"{ cron = "0 3 * * MON-FRI", takes = "2m" }"#)],
    ),
    ("rpo-repository", C, &[("replica = { region = \"there\", lag = \"1s\" }\n", "")]),
    ("rpo-region", C, &[(r#"region = "10m""#, r#"region = "500ms""#)]),
    ("copy-region", C, &[("region = \"there\"\nschedule", "region = \"here\"\nschedule")]),
    ("nothing-protects", C, &[("protect = { every = \"6h\", takes = \"2m\" }\n", "")]),
    ("nothing-retains", H, &[("retain = { days = 31 }\n", "")]),
    ("nothing-proves", H, &[("prove = { every = \"7d\" }\n", "")]),
    ("no-log", C, &[(r#"{ every = "6h", takes = "2m" }"#, r#""continuous""#)]),
    ("stale-after", C, &[(r#"stale_after = "1h""#, r#"stale_after = "24h""#)]),
    ("stale-after", H, &[(r#"stale_after = "1h""#, r#"stale_after = "20m""#)]),
    ("proof-age", C, &[(r#"max_age = "2d""#, r#"max_age = "12h""#)]),
    ("overlap", C, &[(r#"takes = "2m""#, r#"takes = "7h""#)]),
    ("overlap", C, &[(r#"takes = "70s""#, r#"takes = "6m""#)]),
    // Recovery
    ("rto-sum", C, &[(r#"takes = "10m", size"#, r#"takes = "2h", size"#)]),
    ("rto-sum", C, &[(r#"name = "restart", takes = "1m""#, r#"name = "restart", takes = "1m..1h""#)]),
    ("rto-sum", C, &[(r#"takes = "10m", size = "10GiB""#, r#"rate = "1MiB/s", size = "10GiB""#)]),
    ("rto-sum", C, &[("detect = \"1m\"\ndecide = \"5m\"", "detect = \"1h\"\ndecide = \"5m\"")]),
    (
        "rto-order",
        C,
        &[
            ("rto = \"40m\"\nrpo", "rto = \"20m..35m\"\nrpo"),
            (r#"needs = ["users"]"#, "environment = \"prod\"\nneeds = [\"users\"]"),
        ],
    ),
    ("needs-lower-tier", C, &[("[services.auth]\ntier = \"gold\"", "[services.auth]\ntier = \"silver\"")]),
    ("needs-lower-tier", C, &[("[datasets.users]\n", "[datasets.users]\ntier = \"silver\"\n")]),
    ("failover-sum", C, &[(r#"within = "40m""#, r#"within = "15m""#)]),
    ("availability-budget", H, &[("[services.auth]\n", "[services.auth]\navailability = \"99.99%\"\n")]),
    ("availability-budget", H, &[("availability = \"99.9%\"", "availability = \"99.95%\"")]),
    ("mttr", H, &[("name = \"unit\"\n", "name = \"unit\"\nmttr = \"10m\"\n")]),
    ("detection", C, &[("environment = \"prod\"\n", "environment = \"prod\"\ndetect = \"5s\"\n")]),
    (
        "detection",
        C,
        &[("of = \"services.shop\"\nrto = \"40m\"", "of = \"services.shop\"\ndetect = \"20s\"")],
    ),
    ("probe-liveness", H, &[("/readyz", "/healthz")]),
    ("port-twice", C, &[("[8081]", "[8080]")]),
    // Keeping
    ("window", C, &[("retain = { days = 14 }", "retain = { days = 14, window = \"1d\" }")]),
    ("window", H, &[("every = \"1d\", ships", "every = \"10d\", ships"), ("daily = 30", "days = 30")]),
    ("retain-unfilled", H, &[("{ days = 31 }", "{ hourly = 24 }")]),
    ("at-least", H, &[("{ days = 31 }", "{ versions = 3, at_least = 5 }")]),
    ("at-least", H, &[("{ days = 31 }", "{}")]),
    ("scratch-limit", C, &[("50GiB", "5GiB")]),
    // Keys
    ("key-life", C, &[("rotate = \"90d\"\n", "rotate = \"90d\"\noverlap = \"7d\"\n")]),
    ("key-life", C, &[("rotate = \"90d\"\n", "rotate = \"7d\"\nkeep_previous = 1\n")]),
    ("key-cycle", C, &[(r#"protects = ["orders"]"#, r#"protects = ["orders", "vault"]"#)]),
    ("key-not-kept", H, &[("kept_in = \"vault\"\n", "")]),
    ("repository-key", C, &[("key = \"env:A\"", "key = \"file:/srv/vault/passphrase\"")]),
    ("copy-key", H, &[("key = \"env:B\"", "key = \"env:A\"")]),
    ("copy-key", H, &[("key = \"env:B\"\n", "")]),
    // Places
    ("copy-place", C, &[("s3://other/repo", "s3://bucket/repo/")]),
    ("repository-host", H, &[("key = \"env:A\"\n", "key = \"env:A\"\nhost = \"app-1\"\n")]),
    (
        "repository-region",
        H,
        &[
            ("region = \"there\"\nschedule", "region = \"here\"\nschedule"),
            ("from = \"here\"\nto = \"there\"", "from = \"elsewhere\"\nto = \"there\""),
            (
                "[datasets.orders]\n",
                "[services.far]\ntier = \"gold\"\nregion = \"elsewhere\"\n\n[datasets.orders]\n",
            ),
        ],
    ),
    ("lock-place", C, &[("lives_in = \"repository\"", "lives_in = \"orders\"")]),
    ("spool-host", C, &[("ships = \"10s\" }", "ships = \"10s\", ack = \"spool\" }\nhost = \"db-1\"")]),
    ("synchronous-wait", H, &[("ships = \"10s\"", "ships = \"10s\", synchronous = true, max_wait = \"5m\"")]),
    ("synchronous-wait", C, &[("ships = \"10s\"", "ships = \"10s\", synchronous = true, max_wait = \"5s\"")]),
    // Names
    ("needs-cycle", C, &[(r#"needs = ["users"]"#, r#"needs = ["users", "shop"]"#)]),
    ("unknown-name", C, &[(r#"needs = ["users"]"#, r#"needs = ["users", "user"]"#)]),
    (
        "unknown-name",
        C,
        &[("[services.auth]\ntier = \"gold\"", "[services.auth]\nrto = \"40m\"\ntier = \"glod\"")],
    ),
    (
        "unknown-name",
        C,
        &[("[incidents.outage]\nseverity = \"SEV-1\"", "[incidents.outage]\nseverity = \"SEV-0\"")],
    ),
    ("unknown-name", C, &[("contact = \"on-call\"", "contact = \"oncall\"")]),
    (
        "unknown-name",
        C,
        &[("store = \"/srv/vault\"\nhost = \"app-1\"", "store = \"/srv/vault\"\nhost = \"app-2\"")],
    ),
    ("unknown-name", C, &[("guards = [\"orders\"]", "guards = [\"order\"]")]),
    ("unknown-name", C, &[("of = \"services.shop\"", "of = \"service.shop\"")]),
    ("unknown-name", C, &[("from = \"here\"", "from = \"her\"")]),
    ("named-twice", C, &[("store = \"/srv/users.db\"", "store = \"file:///srv/vault/\"")]),
    ("named-twice", C, &[("[datasets.users]\n", "[datasets.users]\nnames = [\"vault\"]\n")]),
    (
        "named-twice",
        C,
        &[("of = \"services.shop\"\nrto = \"40m\"", "of = \"services.shop\"\ncalled = \"web\"")],
    ),
    (
        "named-twice",
        C,
        &[("of = \"services.shop\"\nrto = \"40m\"", "of = \"datasets.users\"\nat = \"/srv/u.db\"")],
    ),
    (
        "promised-twice",
        C,
        &[("of = \"services.shop\"\nrto = \"40m\"", "of = \"services.shop\"\nrto = \"4h\"")],
    ),
    (
        "promised-twice",
        C,
        &[("of = \"services.shop\"\nrto = \"40m\"", "of = \"datasets.users\"\nkept = \"30d\"")],
    ),
    // People
    ("two-scales", H, &[("response = \"wait\"\nseverity = \"SEV-2\"", "response = \"wait\"")]),
    ("response-order", C, &[("response = \"1h\"", "response = \"5m\"")]),
    ("escalation-late", C, &[("after = \"0s\"", "after = \"20m\"")]),
    ("contact-address", H, &[("\"#on-call\"", "\"[PagerDuty/Slack]\"")]),
    ("contact-address", H, &[("\"#on-call\"", "")]),
    ("review-order", C, &[("meeting = \"48h\"", "meeting = \"96h\"")]),
];

fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(BASE.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from:?} is there once");
        text.replace(from, to)
    })
}

#[test]
fn each_fault_is_found_by_its_rule_and_by_no_other() {
    assert_eq!(crate::serious(&linted(BASE)), Vec::<String>::new(), "the base is sound");
    let mut wrong = Vec::new();
    for (rule, weight, edits) in FAULTS {
        let report = linted(&edited(edits));
        let found: BTreeSet<_> = report
            .findings
            .iter()
            .filter(|finding| finding.weight != Weight::Unknown)
            .map(|finding| (finding.rule.name(), finding.weight))
            .collect();
        if found != BTreeSet::from([(*rule, *weight)]) {
            wrong.push(format!("{rule} by {edits:?}:\n{}\n", crate::serious(&report).join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(FAULTS.len() >= 40);
}

/// What is not there cannot be wrong: these rules say only that something cannot be computed.
#[test]
fn what_cannot_be_computed_is_said_with_the_key_that_would_say_it() {
    let cases: &[(&str, &str, &[Edit])] = &[
        ("rpo-missing", "datasets.vault", &[("rpo = \"24h\"\n", "")]),
        ("rpo-host", "datasets.orders.protect.ships", &[(", ships = \"10s\"", "")]),
        ("rpo-host", "datasets.vault.protect.takes", &[(", takes = \"2m\"", "")]),
        ("rto-missing", "services.auth", &[("[services.auth]\ntier = \"gold\"\n", "[services.auth]\n")]),
        ("rto-sum", "datasets.users.recover.takes", &[("recover = { takes = \"5m\" }\n", "")]),
        ("rto-sum", "services.auth.detect", &[("detect = \"1m\"\n", "")]),
        (
            "failover-sum",
            "failovers.move.decide",
            &[("detect = \"5m\"\ndecide = \"5m\"\n", "detect = \"5m\"\n")],
        ),
        (
            "no-repository",
            "repository",
            &[("[repository]\nurl = \"s3://bucket/repo\"\nkey = \"env:A\"\nregion = \"here\"\n", "")],
        ),
        (
            "no-driver",
            "datasets.vault",
            &[("store = \"/srv/vault\"", "store = \"/srv/vault\"\nkind = \"secrets\"")],
        ),
        ("no-driver", "datasets.vault.store", &[("store = \"/srv/vault\"", "store = \"env:VAULT\"")]),
        (
            "repository-host",
            "repository.url",
            &[
                ("s3://bucket/repo", "/mnt/repo"),
                ("store = \"/srv/vault\"\nhost = \"app-1\"", "store = \"/srv/vault\""),
            ],
        ),
        ("copy-region", "datasets.vault", &[("region = \"there\"\nschedule", "schedule")]),
        (
            "key-life",
            "keys.seal",
            &[
                ("retain = { daily = 30,", "retain = { versions = 30,"),
                ("rotate = \"90d\"\n", "rotate = \"90d\"\noverlap = \"90d\"\n"),
            ],
        ),
    ];
    for (rule, key, edits) in cases {
        let report = linted(&edited(edits));
        assert_eq!(crate::serious(&report), Vec::<String>::new(), "{edits:?}");
        let is_said = report
            .findings
            .iter()
            .any(|finding| (finding.rule.name(), finding.key.as_str()) == (*rule, *key));
        assert!(is_said, "{rule} at {key}: {:#?}", report.findings);
    }
}

/// Every rule is tried by a plan above, and explained in the documentation.
#[test]
fn every_rule_is_tried_and_explained() {
    let documentation = include_str!("../../../../docs/lint.md");
    let tried: BTreeSet<&str> = FAULTS.iter().map(|(rule, ..)| *rule).collect();
    let only_unknown = ["rpo-missing", "rto-missing", "no-driver", "no-repository"];
    for rule in Rule::ALL {
        assert!(
            tried.contains(rule.name()) || only_unknown.contains(&rule.name()),
            "{rule} is tried by no plan"
        );
        assert!(documentation.contains(&format!("`{rule}`")), "{rule} is not in docs/lint.md");
    }
}

#[test]
fn the_message_has_the_sum_and_the_key_has_a_line() {
    let text = edited(&[(r#"every = "6h", takes = "2m""#, r#"every = "24h", takes = "15m", ships = "5m""#)]);
    let report = linted(&text);
    let finding = &report.findings[0];
    assert_eq!(
        finding.what,
        "vault may lose 1d when its host is lost, and can lose 1d20m: every 1d + takes 15m + ships 5m"
    );
    assert_eq!(
        finding.hint.as_deref(),
        Some(
            "Take a snapshot of vault at least every 23h40m, or follow its log: `protect = \"continuous\"`."
        )
    );
    let line = lifeboat_plan::Lines::of(&text).line_of(&finding.key).unwrap();
    assert_eq!(text.lines().nth(line - 1), Some("rpo = \"24h\""));
}

#[test]
fn an_unknown_name_names_the_nearest() {
    let report = linted(&edited(&[(r#"needs = ["users"]"#, r#"needs = ["users", "ordrs"]"#)]));
    assert_eq!(report.findings[0].hint.as_deref(), Some("Did you mean `orders`?"));
}
