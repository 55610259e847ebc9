//! What commands do that should not be done so: destroy without consent, promote without fencing, copy what is
//! written to, call what does not exist.

use super::finding::{Finding, Rule};
use super::shell::{Command, Word, commands};
use super::words;
use super::{Found, View};
use crate::step::{Action, HttpRequest, Step};
use crate::template::bare_sql;

/// A step that destroys has somebody's consent, and a check before it.
pub(super) fn destructive(view: &View<'_>, found: &mut Found) {
    let is_checked = view.before(|step| step.is_check);
    for (at, step) in view.forward() {
        let Some(what) = destroys(&step.action).or_else(|| promotes(&step.action)) else { continue };
        if step.approval.is_none() {
            let what = format!("does what cannot be taken back ({what}), and nobody agrees to it");
            found.push(Finding::of(Rule::Unapproved, step, what, "Say who does: approve=\"ROLE\"."));
        }
        if !is_checked[at] {
            let what = format!("does what cannot be taken back ({what}), and nothing is looked at before");
            let hint =
                "Put a check before it that says whether this is the right place and what is kept is there.";
            found.push(Finding::of(Rule::Unchecked, step, what, hint));
        }
    }
}

/// Something before a promotion sees to it that the old side writes no more.
pub(super) fn promotions(view: &View<'_>, found: &mut Found) {
    let fences = |text: &str| text.to_lowercase().contains("fenc");
    let is_fenced = view.before(|step| fences(step.id.as_str()) || fences(&step.title));
    for (at, step) in view.forward() {
        let Some(what) = promotes(&step.action) else { continue };
        if !is_fenced[at] {
            let what =
                format!("promotes ({what}), and nothing before it fences the old side: both may take writes");
            let hint = "Make sure that the old side cannot write, in a step whose name says so, and need it: needs=fence.";
            found.push(Finding::of(Rule::Unfenced, step, what, hint));
        }
    }
}

/// SQLite's files are copied by SQLite, and its shell takes one file.
pub(super) fn sqlite(view: &View<'_>, found: &mut Found) {
    for (step, command) in scripts(view) {
        let copies = ["cp", "scp", "rsync"].contains(&command.name());
        let is_database =
            |word: &Word| [".db", ".sqlite", ".sqlite3"].iter().any(|end| word.text.ends_with(end));
        if let Some(word) = command.words.iter().skip(1).find(|word| copies && is_database(word)) {
            let what = format!(
                "copies {} as a file: what is being written to it is torn, and its -wal is left behind",
                word.text
            );
            let hint = "Let SQLite do it (`.backup`), or `lifeboat backup`; to put a file aside, stop its writers and move it with its -wal.";
            found.push(Finding::of(Rule::SqliteCopy, step, what, hint));
        }
        let words = command.behind("sqlite3").unwrap_or_default();
        if let Some(word) = words.iter().find(|word| word.is_pattern) {
            let what = format!("hands {} to sqlite3, which takes the second match as SQL", word.text);
            found.push(Finding::of(Rule::SqliteGlob, step, what, "Name the one file."));
        }
    }
}

/// What is called exists as it is written.
pub(super) fn unknown(view: &View<'_>, found: &mut Found) {
    for (step, command) in scripts(view) {
        if let Some((what, hint)) = missing(&command) {
            found.push(Finding::of(Rule::NoSuchCommand, step, what, hint));
        }
    }
    for step in &view.runbook.steps {
        let Action::Sql { script, .. } = &step.action else { continue };
        if let Some((what, hint)) = missing_sql(script) {
            found.push(Finding::of(Rule::NoSuchCommand, step, what, hint));
        }
    }
}

/// Each command of each script, with its step.
fn scripts<'r>(view: &View<'r>) -> Vec<(&'r Step, Command)> {
    let steps = view.runbook.steps.iter();
    let scripts = steps.filter_map(|step| match &step.action {
        Action::Bash { script } => Some((step, script)),
        _ => None,
    });
    scripts
        .flat_map(|(step, script)| commands(script).into_iter().map(move |command| (step, command)))
        .collect()
}

fn missing(command: &Command) -> Option<(String, &'static str)> {
    const RENAMED: &[(&str, &str)] = &[
        ("pg_xlogdump", "It is called pg_waldump since PostgreSQL 10."),
        ("pg_receivexlog", "It is called pg_receivewal since PostgreSQL 10."),
        ("pg_resetxlog", "It is called pg_resetwal since PostgreSQL 10."),
        (
            "pg_wal_replay",
            "A server replays the log by itself: `lifeboat restore --to` prepares one that does.",
        ),
    ];
    if let Some((name, hint)) = RENAMED.iter().find(|(name, _)| command.behind(name).is_some()) {
        return Some((format!("calls {name}, which does not exist"), hint));
    }
    for program in ["pg_restore", "pg_basebackup"] {
        let words = command.behind(program).unwrap_or_default();
        if let Some(word) = words.iter().find(|word| word.text.starts_with("--target-")) {
            let what = format!("gives {program} the option {}, which it does not have", word.text);
            return Some((
                what,
                "A point in time is a server's target of recovery: `lifeboat restore --to TIME`.",
            ));
        }
    }
    let text = command.text();
    if text.contains("recovery.conf") {
        let what = "relies on recovery.conf, with which no server since PostgreSQL 12 starts".to_owned();
        return Some((what, "Write the settings into postgresql.auto.conf, beside a file recovery.signal."));
    }
    let stat = command.behind("stat").and_then(|words| words.first());
    if stat.is_some_and(|word| word.text.starts_with("-f")) {
        let what = "asks `stat -f` of a file, which on Linux speaks of its file system".to_owned();
        return Some((what, "On Linux it is stat -c %Y FILE."));
    }
    missing_sql(&text)
}

fn missing_sql(text: &str) -> Option<(String, &'static str)> {
    let words = words::capitals(text);
    let old =
        ["PG_START_BACKUP", "PG_STOP_BACKUP"].into_iter().find(|old| words.iter().any(|word| word == old))?;
    let what = format!("calls {}, which is gone since PostgreSQL 15", old.to_lowercase());
    Some((
        what,
        "They are pg_backup_start and pg_backup_stop, in one session; `lifeboat backup` needs neither.",
    ))
}

/// What a step destroys, in the words that say so.
fn destroys(action: &Action) -> Option<String> {
    match action {
        Action::Person { .. } => None,
        Action::Bash { script } => commands(script).iter().find_map(command_destroys),
        Action::Sql { script, .. } => sql_destroys(script),
        Action::Http { request: HttpRequest { method, .. } } => {
            (method == "DELETE").then(|| "DELETE".to_owned())
        }
        Action::Lifeboat { words } => lifeboat_destroys(words),
    }
}

fn sql_destroys(script: &str) -> Option<String> {
    let words = words::capitals(&bare_sql(script));
    let truncates = words.first().is_some_and(|first| first == "TRUNCATE");
    words::destroys(&words).or_else(|| truncates.then(|| "TRUNCATE".to_owned()))
}

fn lifeboat_destroys(words: &[String]) -> Option<String> {
    let command = words.first()?.as_str();
    let is_forced = words.iter().any(|word| word == "--force");
    match command {
        "forget" | "prune" => Some(format!("lifeboat {command}")),
        "restore" if is_forced => Some("lifeboat restore --force".to_owned()),
        _ => None,
    }
}

/// Programs that destroy by what is behind them; nothing means that they always do.
const DESTROYERS: &[(&str, &[&str])] = &[
    ("dropdb", &[]),
    ("mkfs", &[]),
    ("wipefs", &[]),
    ("shred", &[]),
    ("pg_resetwal", &[]),
    ("lvremove", &[]),
    ("kubectl", &["delete"]),
    ("helm", &["uninstall"]),
    ("terraform", &["destroy"]),
    ("zfs", &["destroy"]),
    ("rsync", &["--delete"]),
    ("pg_restore", &["--clean"]),
    ("pg_restore", &["-c"]),
    ("docker", &["volume", "rm"]),
    ("docker", &["compose", "down", "-v"]),
    ("aws", &["s3", "rb"]),
    ("aws", &["s3", "rm"]),
    ("redis-cli", &["FLUSHALL"]),
    ("redis-cli", &["FLUSHDB"]),
];

fn command_destroys(command: &Command) -> Option<String> {
    let is_said = ["echo", "printf"].contains(&command.name()) && !command.is_piped;
    if is_said {
        return None;
    }
    if let Some(words) = command.behind("rm") {
        let has = |letter: char| words.iter().any(|word| short_option(&word.text, letter));
        return (has('r') || has('R')).then(|| "rm -r".to_owned());
    }
    if command.behind("dd").is_some_and(|words| words.iter().any(|word| word.text.starts_with("of=/dev/"))) {
        return Some("dd of=/dev/…".to_owned());
    }
    if let Some(mkfs) = command.words.iter().find(|word| word.name().starts_with("mkfs.")) {
        return Some(mkfs.text.clone());
    }
    let destroyer = DESTROYERS.iter().find(|(program, words)| {
        let behind = command.behind(program);
        behind.is_some_and(|behind| {
            words.iter().all(|word| behind.iter().any(|own| own.text.eq_ignore_ascii_case(word)))
        })
    });
    destroyer
        .map(|(program, words)| [&[*program], *words].concat().join(" "))
        .or_else(|| words::destroys(&words::capitals(&command.text())))
}

fn short_option(word: &str, letter: char) -> bool {
    word.strip_prefix('-').is_some_and(|letters| !letters.starts_with('-') && letters.contains(letter))
        || (letter == 'r' && word == "--recursive")
}

/// How a step promotes, in the words that say so.
fn promotes(action: &Action) -> Option<String> {
    match action {
        Action::Bash { script } => commands(script).iter().find_map(command_promotes),
        Action::Sql { script, .. } => says_promote(&bare_sql(script)),
        _ => None,
    }
}

fn command_promotes(command: &Command) -> Option<String> {
    const PROMOTERS: &[(&str, &[&str])] = &[
        ("pg_ctl", &["promote"]),
        ("pg_ctlcluster", &["promote"]),
        ("repmgr", &["promote"]),
        ("patronictl", &["failover"]),
        ("patronictl", &["switchover"]),
        ("redis-cli", &["replicaof", "one"]),
        ("redis-cli", &["slaveof", "one"]),
        ("aws", &["promote-read-replica"]),
    ];
    let has = |behind: &[Word], word: &str| behind.iter().any(|own| own.text.eq_ignore_ascii_case(word));
    let promoter = PROMOTERS.iter().find(|(program, words)| {
        command.behind(program).is_some_and(|behind| words.iter().all(|word| has(behind, word)))
    });
    promoter
        .map(|(program, words)| [&[*program], *words].concat().join(" "))
        .or_else(|| says_promote(&command.text()))
}

fn says_promote(text: &str) -> Option<String> {
    words::capitals(text).iter().any(|word| word == "PG_PROMOTE").then(|| "pg_promote()".to_owned())
}
