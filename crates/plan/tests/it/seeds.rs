//! The plans of the two systems: what the seed runbooks state, in which the lint finds what they contradict, and the
//! corrected ones, in which it finds nothing.

use crate::{linted, serious};

const ARAGORA_STATED: &str = include_str!("../../../../plans/aragora/as-stated.toml");
const ARAGORA: &str = include_str!("../../../../plans/aragora/lifeboat.toml");
const AEGIS_STATED: &str = include_str!("../../../../plans/aegis/as-stated.toml");
const AEGIS: &str = include_str!("../../../../plans/aegis/lifeboat.toml");

/// A contradiction of the seeds: the rule that finds it, and parts of its message.
type Found = (&'static str, &'static [&'static str]);

const ARAGORA_FINDS: &[Found] = &[
    // An RPO of one hour beside a backup every 24 hours.
    ("rpo-host", &["database may lose 1h", "every 1d", "003, Automated Database Backups"]),
    // A verification that only warns, at 24 hours, against an RPO of 15 minutes.
    ("stale-after", &["active-debates may lose 15m", "stale after 1d"]),
    // Hourly snapshots against an RPO of an hour, daily ones against one of a day.
    ("rpo-host", &["debate-history may lose 1h", "can lose 1h: every 1h, and takes"]),
    ("rpo-host", &["telemetry may lose 1d", "can lose 1d: every 1d, and takes"]),
    // Retention of 7, 14 and 30 days for one database.
    ("promised-twice", &["datasets.database has its snapshots kept for 30d", "7d (003", "14d (000"]),
    // RTO of one hour and of four for one service.
    ("promised-twice", &["services.debate-engine must be back in 1h", "4h (002"]),
    ("rto-sum", &["debate-engine must be back in 1h", "full DR activation (debate-engine) 4h"]),
    // Tiers of 8 and 24 hours in a system of four.
    ("rto-order", &["tier low may take 1d", "4h"]),
    ("rto-order", &["tier medium may take 8h"]),
    // Failover in 15 minutes beside steps of 15 to 30, after five minutes of detection.
    ("failover-sum", &["may take 15m", "noticing 5m", "30m", "at the least it takes 25m"]),
    // A critical service that needs one of a lower tier.
    ("needs-lower-tier", &["debate-engine must be back in 1h", "needs api, which may take 4h"]),
    // Two severity scales, and two review deadlines.
    ("two-scales", &["SEV-1", "L1, L2, L3, L4"]),
    ("promised-twice", &["review meets after 2d", "3d (002"]),
    // Keys that die before what they protect.
    ("key-life", &["receipt-signing", "works 90d longer", "receipts is kept for 2555d"]),
    ("key-life", &["encryption", "works 7d longer", "database is kept for 30d"]),
    ("key-not-kept", &["receipt-signing"]),
    // start_period + retries * interval is 120 s, not 90, and the probe is /healthz, not /readyz.
    ("detection", &["within 1m30s", "2m: start period 30s + 3 intervals of 30s, 1m30s"]),
    ("probe-liveness", &["/healthz"]),
    ("named-twice", &["services.api is at http://localhost:8080/healthz", "/readyz (003"]),
    // One recovery of four hours spends five months of a 99.9 % budget.
    ("availability-budget", &["aragora must work 99.9%", "4h", "5.5 months"]),
    // Redis snapshots every 15 minutes, 6 hours, 60 or 300 seconds.
    ("promised-twice", &["datasets.redis has a new snapshot every 15m", "6h (002", "1m (003", "5m (003"]),
    // One thing, several names.
    ("named-twice", &["knowledge-mound is at .nomic/knowledge_mound.db", ".aragora_beads (003"]),
    (
        "named-twice",
        &["services.api is called api", "aragora (000", "aragora-api (002", "aragora-backend (003"],
    ),
    ("named-twice", &["datasets.redis is at env:REDIS_URL", "env:ARAGORA_REDIS_URL (003"]),
    ("port-twice", &["metrics and prometheus both listen on port 9090"]),
    ("named-twice", &["active-debates and debate-history are one store"]),
    ("named-twice", &["database and receipts are one store"]),
    // A lock in the database that is being migrated.
    ("lock-place", &["migrations", "database"]),
    // Placeholders where contacts belong.
    ("contact-address", &["on-call", "[PagerDuty/Slack]"]),
    ("contact-address", &["executives", "Phone"]),
    // What no schedule protects.
    ("nothing-protects", &["knowledge-mound may lose 1h"]),
    ("nothing-protects", &["receipts may lose 1h"]),
    ("copy-key", &["no key of its own"]),
    // Half an hour in the mean, and two to four hours for a full activation.
    ("mttr", &["30m in the mean", "debate-engine", "full DR activation (debate-engine) 4h"]),
];

const AEGIS_FINDS: &[Found] = &[
    ("rpo-host", &["postgres may lose 1d", "every 1d, and takes"]),
    ("promised-twice", &["environments.prod may lose 1d", "5m (004"]),
    ("key-cycle", &["secrets needs key sealed-secrets, which is kept in secrets"]),
    ("contact-address", &["ops@example.com"]),
    ("nothing-protects", &["model-artifacts may lose 1d"]),
    ("nothing-protects", &["manifests"]),
    ("nothing-retains", &["postgres"]),
    ("nothing-proves", &["postgres"]),
];

#[track_caller]
fn finds(text: &str, expected: &[Found]) {
    let report = linted(text);
    for (rule, parts) in expected {
        let is_it = |finding: &&lifeboat_plan::lint::Finding| {
            finding.rule.name() == *rule && parts.iter().all(|part| finding.what.contains(part))
        };
        assert!(
            report.findings.iter().any(|finding| is_it(&finding)),
            "{rule} {parts:?} is not among\n{}",
            serious(&report).join("\n")
        );
    }
    assert!(report.misses(false));
}

/// Nothing serious, and of what is unknown each says where it could be stated, or that it waits for a driver.
#[track_caller]
fn is_clean(text: &str) {
    let report = linted(text);
    assert_eq!(serious(&report), Vec::<String>::new());
    assert!(report.is_sound() && !report.misses(true));
    for finding in &report.findings {
        let by_measurement =
            ["rpo-host", "rpo-repository", "rpo-region", "rto-sum"].contains(&finding.rule.name());
        assert!(by_measurement || finding.rule.name() == "no-driver", "{finding:#?}");
    }
}

#[test]
fn what_the_seeds_of_aragora_contradict_is_found() {
    finds(ARAGORA_STATED, ARAGORA_FINDS);
}

#[test]
fn what_the_seed_of_aegis_contradicts_is_found() {
    finds(AEGIS_STATED, AEGIS_FINDS);
}

#[test]
fn aragora_corrected_is_clean() {
    is_clean(ARAGORA);
}

#[test]
fn aegis_corrected_is_clean() {
    is_clean(AEGIS);
}
