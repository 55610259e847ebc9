//! Runbooks with exactly one hazard: a sound one with one more step, or one thing changed. The rule that is named
//! finds it, and no other rule finds anything.

use crate::compiled;
use lifeboat_plan::lint::Weight;
use lifeboat_runbook::lint::{Finding, Rule, lint};
use std::collections::BTreeSet;

/// A runbook without a finding.
const BASE: &str = r#"---
review_every: 90d
reviewed: 2026-11-01
objectives: { rto: 1h }
inputs:
  host: { type: text, default: db-1 }
---
# Base

```check {step=look timeout=1m pass=host}
ping -c 1 "$host" | grep -q ttl
```

- [ ] Users are told {timeout=5m}

```bash {step=fence timeout=1m undo=unfence pass=host}
fencectl take "$host"
```

```bash {step=unfence timeout=1m pass=host}
fencectl give "$host"
```

```bash {step=act timeout=2m repeat=safe}
systemctl restart web
pg_dump app | gzip > app.sql.gz
rm -f /tmp/marker
mv data data.broken
echo "DROP TABLE is not run here"
curl -s http://localhost/ > /dev/null || true
sqlite3 app.db ".backup 'copy.db'"
redis-cli -a "$REDIS_PASSWORD" INFO
```

```bash {step=promote timeout=2m needs=act approve=commander undo=none why="a timeline begins"}
pg_ctl promote -D data
```

```check {step=verify timeout=1m by=sql on=env:DATABASE_URL expect=">= 1"}
select count(*) from users
```

```check {step=in-recovery timeout=1m by=sql on=env:DATABASE_URL}
select not pg_is_in_recovery()
```

```check {step=healthy timeout=1m}
curl -sf http://localhost/readyz > /dev/null
```
"#;

/// One more step at the end: its attributes, and what is in it.
fn with(language: &str, attributes: &str, body: &str) -> String {
    format!("{BASE}\n```{language} {{step=more timeout=1m {attributes}}}\n{body}\n```\n")
}

fn changed(from: &str, to: &str) -> String {
    assert_eq!(BASE.matches(from).count(), 1, "{from:?} is there once");
    BASE.replace(from, to)
}

const SAFE: &str = "repeat=safe";
const AGREED: &str = "repeat=safe approve=commander";

fn hazards() -> Vec<(&'static str, String)> {
    let bash = |attributes: &str, body: &str| with("bash", attributes, body);
    let check = |body: &str| with("check", "", body);
    vec![
        ("undo-missing", bash("", "touch /srv/x")),
        ("undo-missing", bash("undo=none", "touch /srv/x")),
        ("unapproved", bash(SAFE, "psql -c 'DROP TABLE users'")),
        ("unapproved", bash(SAFE, "docker exec -i pg psql -U a -c \"ALTER USER a PASSWORD '$NEW'\"")),
        ("unapproved", bash(SAFE, "redis-cli FLUSHDB")),
        ("unapproved", bash(SAFE, "redis-cli -a \"$P\" flushall")),
        ("unapproved", bash(SAFE, "sudo rm -rf \"$DATA\"")),
        ("unapproved", bash(SAFE, "x=$(rm -r a)")),
        ("unapproved", bash(SAFE, "mkfs.ext4 /dev/sdb1")),
        ("unapproved", bash(SAFE, "kubectl -n a delete pvc data")),
        ("unapproved", bash(SAFE, "psql <<SQL\ntruncate table users;\nSQL")),
        ("unapproved", bash(SAFE, "echo 'drop database a' | psql")),
        ("unapproved", with("sql", "repeat=safe on=env:DB", "delete from users;")),
        ("unapproved", with("sql", "repeat=safe on=env:DB", "truncate users")),
        ("unapproved", with("http", SAFE, "DELETE http://localhost/x")),
        ("unapproved", with("lifeboat", SAFE, "lifeboat restore users --to latest --into /srv/a --force")),
        ("unapproved", with("lifeboat", SAFE, "forget users x")),
        ("unapproved", changed(" approve=commander", "")),
        ("unchecked", bash("repeat=safe approve=commander needs=none", "redis-cli FLUSHALL")),
        ("unfenced", changed("needs=act approve", "needs=look approve")),
        ("unfenced", with("sql", "needs=look repeat=safe approve=c on=env:DB", "select pg_promote()")),
        ("unfenced", bash("needs=look repeat=safe approve=c", "redis-cli -h b REPLICAOF NO ONE")),
        ("check-swallowed", check("grep -q ok state || true")),
        ("check-swallowed", check("grep -q ok state || echo failed")),
        ("check-swallowed", check("set +e\ngrep -q ok state")),
        ("check-swallowed", check("grep -q ok state; exit 0")),
        ("check-swallowed", with("check", "expect=ok", "cat state > /dev/null")),
        ("check-cannot-fail", check("gunzip -t backup.sql.gz && echo \"Integrity OK\"")),
        ("check-cannot-fail", check("sqlite3 a.db \"SELECT COUNT(*) FROM users\" > /dev/null")),
        ("check-cannot-fail", check("sqlite3 a.db 'PRAGMA integrity_check'")),
        ("check-cannot-fail", check("count=$(psql -tc 'select count(*) from users')\necho \"$count\"")),
        ("check-cannot-fail", check("pg_restore --list a.dump > /dev/null")),
        ("check-cannot-fail", check("curl -s http://localhost/readyz")),
        ("check-cannot-fail", check("echo fine")),
        ("sqlite-copy", bash(SAFE, "cp .nomic/users.db /backup/")),
        ("sqlite-copy", bash(SAFE, "sudo rsync -a /srv/app.sqlite3 backup:/srv")),
        ("sqlite-glob", bash(SAFE, "sqlite3 /backup/km_*.db .tables")),
        ("no-such-command", bash(SAFE, "pg_restore --target-time='2026-01-01' -d a a.dump")),
        ("no-such-command", bash(SAFE, "pg_wal_replay --start-lsn=0/1")),
        ("no-such-command", bash(SAFE, "echo x >> /srv/pg/recovery.conf")),
        ("no-such-command", bash(SAFE, "age=$(( $(date +%s) - $(stat -f %m \"$x\") ))\necho \"$age\"")),
        ("no-such-command", bash(SAFE, "psql -c \"select pg_start_backup('a')\"")),
        ("no-such-command", with("sql", "repeat=safe on=env:DB", "select pg_stop_backup()")),
        ("no-such-command", bash(SAFE, "pg_xlogdump 1")),
        ("secret-written", bash(SAFE, "export PGPASSWORD=hunter2")),
        ("secret-written", bash(AGREED, "psql -c \"ALTER USER a PASSWORD 'hunter2'\"")),
        ("secret-written", format!("{BASE}\nThe database is at postgres://app:hunter2@db-1/app.\n")),
        ("secret-written", format!("{BASE}\nUse AKIA{}.\n", "ABCDEFGHIJKLMNOP")),
        ("review-overdue", changed("reviewed: 2026-11-01", "reviewed: 2026-08-01")),
        ("run-sum", changed("rto: 1h", "rto: 10m")),
        ("run-sum", changed(" {timeout=5m}", "")),
        ("run-sum", with("check", "retries=60 retry_every=10s", "test -e ready")),
        ("ticked", changed("- [ ] Users", "- [x] Users")),
        ("input-unused", changed("inputs:\n", "inputs:\n  other: { type: text }\n")),
    ]
}

fn linted(text: &str) -> Vec<Finding> {
    lint(&compiled(text), text, "2026-11-22".parse().unwrap())
}

#[test]
fn each_hazard_is_found_by_its_rule_and_by_no_other() {
    assert_eq!(linted(BASE), [], "the base is sound");
    let hazards = hazards();
    let mut wrong = Vec::new();
    for (rule, text) in &hazards {
        let found = linted(text);
        let rules: BTreeSet<&str> = found.iter().map(|finding| finding.rule.name()).collect();
        if rules != BTreeSet::from([*rule]) {
            let behind = text.strip_prefix(BASE).unwrap_or(text);
            wrong.push(format!("{rule}: {behind}\n{found:#?}\n"));
        }
        assert!(!found.iter().any(|finding| finding.what.contains("hunter2")), "a secret is repeated");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let tried: BTreeSet<&str> = hazards.iter().map(|(rule, _)| *rule).collect();
    let all: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    assert_eq!(tried, all, "each rule is tried");
}

#[test]
fn findings_name_the_step_its_line_and_what_to_do() {
    let found = linted(&changed("needs=act approve", "needs=look approve"));
    assert_eq!((found.len(), found[0].line), (1, 35));
    assert_eq!(found[0].step.as_ref().unwrap().as_str(), "promote");
    assert!(
        found[0].what.contains("pg_ctl promote") && found[0].hint.as_ref().unwrap().contains("needs=fence")
    );
}

#[test]
fn the_longest_way_is_said_with_its_sum() {
    let found = linted(&changed("rto: 1h", "rto: 10m"));
    assert_eq!(found[0].weight, Weight::Contradiction);
    let sum = "look 1m + users-are-told 5m + act 2m + promote 2m and 4 more";
    assert!(found[0].what.contains(sum), "{}", found[0].what);
    assert!(found[0].what.contains("may take 14m"), "{}", found[0].what);
}

#[test]
fn what_comes_after_the_users_is_no_part_of_the_recovery() {
    let late = |phase: &str| {
        with("bash", SAFE, "tar c /srv").replace("timeout=1m repeat", &format!("timeout=1h {phase}repeat"))
    };
    assert_eq!(linted(&late("")).len(), 1, "too long, if it is part of it");
    let served = |text: String| text.replace("step=healthy timeout", "step=healthy phase=traffic timeout");
    assert_eq!(linted(&served(late(""))), []);
    assert_eq!(linted(&served(late("phase=traffic "))).len(), 1);
}

#[test]
fn a_review_without_a_day_cannot_be_computed() {
    let found = linted(&changed("reviewed: 2026-11-01\n", ""));
    assert_eq!((found.len(), found[0].weight, found[0].line), (1, Weight::Unknown, 2));
}

/// What the seed runbooks do, as steps.
#[test]
fn the_hazards_of_the_seeds_are_found() {
    let text = "# Seeds\n\n```check {step=integrity}\ngunzip -t backup-*.sql.gz && echo \"Integrity OK\"\n```\n\n\
        ```bash {step=restore}\ncp \".nomic/backups/$BACKUP/aragora_users.db\" .nomic/\n```\n\n\
        ```bash {step=drop}\ndocker exec -i aragora-postgres psql -U aragora -c \"DROP DATABASE IF EXISTS aragora;\"\n```\n\n\
        ```bash {step=pitr}\npg_restore \\\n  --target-time=\"2026-01-01\" \\\n  --target-action=promote \\\n  -d aragora_prod latest.dump\npg_wal_replay --start-lsn=0/XXXXXXXX\n```\n\n\
        ```bash {step=flush}\nredis-cli FLUSHDB\n```\n\n\
        ```bash {step=rotate}\nredis-cli CONFIG SET requirepass \"new-strong-password\"\n```\n";
    let rules: BTreeSet<&str> = linted(text).iter().map(|finding| finding.rule.name()).collect();
    let want = [
        "check-cannot-fail",
        "no-such-command",
        "secret-written",
        "sqlite-copy",
        "unapproved",
        "undo-missing",
    ];
    assert_eq!(rules, BTreeSet::from(want));
}
