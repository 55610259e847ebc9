//! Sound plans, of several kinds: nothing contradicts, and nothing is a hazard.

use crate::{linted, serious};

const SOUND: &[&str] = &[
    "",
    crate::faults::BASE,
    // A folder on the machine of the data: what cannot be told is said, and no more.
    r#"
    [repository]
    url = "file:./lifeboat-repo"
    key = "env:LIFEBOAT_PASSPHRASE"
    [datasets.app]
    store = "./app.db"
    rpo = "1h"
    protect = { every = "30m" }
    retain = { hourly = 24, daily = 7, weekly = 4, monthly = 12, at_least = 1 }
    prove = { every = "1d" }
    "#,
    // A calendar, with a time zone and jitter.
    r#"
    [repository]
    url = "s3://bucket/repo"
    [datasets.tree]
    store = "/srv/tree"
    rpo = "26h"
    protect = { cron = "30 1 * * *", timezone = "Europe/Berlin", jitter = "10m", takes = "5m" }
    retain = { daily = 7 }
    prove = { cron = "0 4 * * SUN", max_age = "8d" }
    "#,
    // A log alone, with nothing measured.
    r#"
    [repository]
    url = "s3://bucket/repo"
    [tiers.critical]
    rto = "1h"
    [services.web]
    tier = "critical"
    needs = ["users"]
    probe = "http://localhost:8080/readyz"
    [datasets.users]
    store = "postgres://db/users"
    rpo = "1h"
    protect = "continuous"
    retain = { hourly = 24, daily = 7, weekly = 4, monthly = 3, at_least = 1, window = "7d" }
    prove = { every = "1d", queries = [{ name = "has users", sql = "select 1", min = 1 }] }
    "#,
    // Synchronous: nothing that was acknowledged is lost.
    r#"
    [repository]
    url = "s3://bucket/repo"
    [datasets.users]
    store = "postgres://db/users"
    rpo = "0s"
    protect = { mode = "continuous", every = "1d", synchronous = true, max_wait = "10s" }
    retain = { daily = 7, window = "2d" }
    prove = { every = "1d" }
    "#,
    // Two regions, and services that need each other in order.
    r#"
    [system]
    name = "two"
    region = "a"
    rpo = "1h"
    [repository]
    url = "s3://in-b/repo"
    key = "env:A"
    region = "b"
    [failovers.away]
    from = "a"
    to = "b"
    within = "1h"
    detect = "5m"
    decide = "5m"
    steps = [{ name = "everything", takes = "30m" }]
    [services.web]
    rto = "1h"
    needs = ["api"]
    [services.api]
    rto = "1h"
    needs = ["data"]
    [datasets.data]
    store = "/srv/data"
    protect = { every = "10m", takes = "1m" }
    retain = { days = 7 }
    prove = { every = "1d" }
    "#,
    // Old keys for as long as anything is kept that needs them.
    r#"
    [repository]
    url = "s3://bucket/repo"
    [datasets.receipts]
    store = "/srv/receipts"
    rpo = "1d"
    protect = { every = "1h", takes = "1m" }
    retain = { days = 2555 }
    prove = { every = "30d" }
    [datasets.safe]
    store = "/srv/safe"
    rpo = "1d"
    protect = "on-change"
    retain = { versions = 30 }
    prove = { every = "30d" }
    [keys.signing]
    rotate = "90d"
    keep_previous = 29
    protects = ["receipts"]
    kept_in = "safe"
    "#,
    // People only.
    r#"
    [severities.critical]
    response = "15m"
    [severities.high]
    response = "1h"
    [severities.medium]
    response = "4h"
    [levels.L1]
    response = "all hands"
    severity = "critical"
    [contacts.duty]
    reach = ["+49 30 901820", "duty@lifeboat.dev"]
    [[escalation]]
    after = "0s"
    action = "called"
    contact = "duty"
    [[communication]]
    what = "status page"
    after = "15m"
    [review]
    timeline = "1d"
    meeting = "2d"
    "#,
    // What documents promise is what the plan keeps.
    r#"
    [repository]
    url = "s3://bucket/repo"
    [datasets.users]
    store = "/srv/users.db"
    names = ["accounts", "env:USERS_DB"]
    rpo = "1h"
    protect = { every = "30m", takes = "1m" }
    retain = { days = 14 }
    prove = { every = "1d" }
    [[promises]]
    source = "wiki"
    of = "datasets.users"
    rpo = "60m"
    every = "30m"
    kept = "2w"
    called = "accounts"
    at = "env:USERS_DB"
    [[promises]]
    source = "contract"
    of = "datasets.users"
    kept = "336h"
    at = "file:///srv/users.db"
    "#,
    // A tier above, a spool on another host, ports on two hosts.
    r#"
    [repository]
    url = "s3://bucket/repo"
    [tiers.fast]
    rto = "10m"
    [tiers.slow]
    rto = "1d"
    [services.report]
    tier = "slow"
    needs = ["web"]
    host = "a"
    ports = [8080]
    [services.web]
    tier = "fast"
    needs = ["users"]
    host = "b"
    ports = [8080]
    [datasets.users]
    store = "postgres://db/users"
    rpo = "5m"
    protect = { mode = "continuous", every = "12h", ack = "spool", spool = "/var/spool/lifeboat", ships = "1s" }
    retain = { daily = 7, window = "1d" }
    prove = { every = "1d" }
    "#,
];

#[test]
fn in_sound_plans_nothing_is_found() {
    assert!(SOUND.len() >= 10);
    for text in SOUND {
        assert_eq!(serious(&linted(text)), Vec::<String>::new(), "{text}");
    }
}
