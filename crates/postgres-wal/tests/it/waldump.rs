//! `pg_waldump` as the oracle: record by record, and what it says of those that mean something.

use crate::log::{Kept, Log};
use crate::workload;
use lifeboat_base::random;
use lifeboat_postgres_server::testing::{TestCluster, test_installations};
use lifeboat_postgres_server::{Installation, StopMode};
use lifeboat_postgres_wal::{
    Lsn, Meaning, PgTime, SegmentName, SegmentSize, TimelineId, TransactionEnd, WalLevel,
};
use std::collections::BTreeSet;
use std::path::Path;

/// The names that `pg_waldump` gives to resource managers.
const MANAGERS: [&str; 22] = [
    "XLOG",
    "Transaction",
    "Storage",
    "CLOG",
    "Database",
    "Tablespace",
    "MultiXact",
    "RelMap",
    "Standby",
    "Heap2",
    "Heap",
    "Btree",
    "Hash",
    "Gin",
    "Gist",
    "Sequence",
    "SPGist",
    "BRIN",
    "CommitTs",
    "ReplicationOrigin",
    "Generic",
    "LogicalMessage",
];

/// A line of its output.
#[derive(Debug)]
struct Line {
    manager: String,
    total_bytes: u32,
    xid: u32,
    start: Lsn,
    previous: Lsn,
    description: String,
}

impl Line {
    fn parse(text: &str) -> Self {
        let (head, description) = text.split_once(", desc: ").unwrap_or_else(|| panic!("{text}"));
        let after = |mark: &str| {
            let rest = &head[head.find(mark).unwrap_or_else(|| panic!("{text}")) + mark.len()..];
            rest.split(',').next().unwrap().trim().to_owned()
        };
        let (manager, length) =
            after("rmgr: ").split_once(' ').map(|(name, rest)| (name.to_owned(), rest.to_owned())).unwrap();
        Self {
            manager,
            total_bytes: length.rsplit('/').next().unwrap().trim().parse().unwrap(),
            xid: after("tx:").parse().unwrap(),
            start: after("lsn: ").parse().unwrap(),
            previous: after("prev ").parse().unwrap(),
            description: description.to_owned(),
        }
    }
}

fn waldump(
    installation: &Installation,
    cluster: &TestCluster,
    log: &Log,
    timeline: TimelineId,
    start: Lsn,
) -> Vec<Line> {
    let mut command = installation.command("pg_waldump", cluster.identity());
    command.env("TZ", "UTC").arg("-p").arg(&log.directory);
    command.args(["-t", &timeline.to_string(), "-s", &start.to_string()]);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(Line::parse).collect()
}

/// Our records from the first of a timeline's segments on, against the oracle's.
fn compare(
    installation: &Installation,
    cluster: &TestCluster,
    log: &Log,
    ours: &[Kept],
) -> BTreeSet<&'static str> {
    let mut seen = BTreeSet::new();
    let mut ours = ours.iter();
    let mut start = ours.as_slice().first().unwrap().start;
    let timelines = log.history.switches().iter().map(|switch| (switch.timeline, switch.at));
    for (timeline, end) in timelines.chain([(log.history.timeline(), Lsn(u64::MAX))]) {
        if start >= end {
            continue;
        }
        for line in waldump(installation, cluster, log, timeline, start) {
            if line.start >= end {
                break;
            }
            let record = ours.next().unwrap_or_else(|| panic!("missed {line:?}"));
            let same = record.start == line.start
                && record.header.previous == line.previous
                && record.header.xid == line.xid
                && record.header.total_bytes == line.total_bytes
                && MANAGERS[usize::from(record.header.manager)] == line.manager
                && record.timeline == timeline;
            assert!(same, "{line:?}\n{record:?}");
            seen.extend(compare_meaning(record, &line));
        }
        start = end;
    }
    assert_eq!(ours.next(), None, "there is a record more than pg_waldump knows");
    seen
}

/// What a record means, against its description; which kind it is.
fn compare_meaning(record: &Kept, line: &Line) -> Option<&'static str> {
    let kind = line.description.split(' ').next().unwrap();
    let Some(meaning) = &record.meaning else {
        let meant = [
            "COMMIT",
            "ABORT",
            "PREPARE",
            "RESTORE",
            "CHECKPOINT_S",
            "CHECKPOINT_O",
            "MESSAGE",
            "END_OF",
            "PARAM",
        ];
        assert!(line.manager != "Tablespace" || !kind.starts_with("CREATE"), "{line:?}");
        let missed = line.manager != "ReplicationOrigin" && meant.iter().any(|meant| kind.starts_with(meant));
        assert!(!missed, "{line:?}");
        return None;
    };
    let (kind, said) = said(meaning);
    for part in said {
        assert!(line.description.contains(&part), "{part:?} is not in {line:?}\n{meaning:?}");
    }
    if let Meaning::Commit(end) | Meaning::Abort(end) = meaning {
        compare_end(end, line);
    }
    Some(kind)
}

fn compare_end(end: &TransactionEnd, line: &Line) {
    let parts = end.subtransactions.as_deref().unwrap();
    assert_eq!(line.description.contains("subxacts:"), !parts.is_empty(), "{line:?}");
    let prefix = if end.prepared { format!("_PREPARED {}: ", end.xid) } else { String::new() };
    assert!(line.description.contains(&prefix) && (end.prepared || end.xid == line.xid), "{line:?}");
    assert_eq!(end.origin.is_some(), line.description.contains("origin:"), "{line:?}");
}

/// A kind, and what `pg_waldump` must say of such a record.
fn said(meaning: &Meaning) -> (&'static str, Vec<String>) {
    match meaning {
        Meaning::Commit(end) => {
            (if end.prepared { "commit prepared" } else { "commit" }, end_said("COMMIT", end))
        }
        Meaning::Abort(end) => {
            (if end.prepared { "abort prepared" } else { "abort" }, end_said("ABORT", end))
        }
        Meaning::Prepare(prepared) => {
            let mut said = vec!["PREPARE".into(), format!("gid {}: {}", prepared.gid, time(prepared.at))];
            said.extend(parts_said(prepared.subtransactions.as_deref().unwrap()));
            ("prepare", said)
        }
        Meaning::RestorePoint { name, .. } => ("restore point", vec![format!("RESTORE_POINT {name}")]),
        Meaning::Switch => ("switch", vec!["SWITCH".into()]),
        Meaning::Checkpoint(checkpoint) => {
            let word = if checkpoint.shutdown { "CHECKPOINT_SHUTDOWN" } else { "CHECKPOINT_ONLINE" };
            let (redo, timeline, previous) =
                (checkpoint.redo, checkpoint.timeline, checkpoint.previous_timeline);
            let first = format!(
                "{word} redo {redo}; tli {timeline}; prev tli {previous}; fpw {}",
                checkpoint.full_page_writes
            );
            let xid = format!("; xid {}:{}", checkpoint.next_xid >> 32, checkpoint.next_xid as u32);
            (if checkpoint.shutdown { "shutdown" } else { "checkpoint" }, vec![first, xid])
        }
        Meaning::EndOfRecovery(end) => {
            let (timeline, previous, at) = (end.timeline, end.previous_timeline, time(end.at));
            let said = format!("END_OF_RECOVERY tli {timeline}; prev tli {previous}; time {at}");
            ("end of recovery", vec![said])
        }
        Meaning::Parameters(set) => (
            "parameters",
            vec![format!(
                "max_connections={} max_worker_processes={} max_wal_senders={} max_prepared_xacts={} \
             max_locks_per_xact={} wal_level={} wal_log_hints={} track_commit_timestamp={}",
                set.max_connections,
                set.max_worker_processes,
                set.max_wal_senders,
                set.max_prepared_transactions,
                set.max_locks_per_transaction,
                match set.wal_level {
                    WalLevel::Minimal => "minimal",
                    WalLevel::Replica => "replica",
                    WalLevel::Logical => "logical",
                },
                if set.wal_log_hints { "on" } else { "off" },
                if set.track_commit_timestamp { "on" } else { "off" },
            )],
        ),
        Meaning::FullPageWrites { on } => ("full_page_writes", vec![format!("FPW_CHANGE {on}")]),
        Meaning::OverwriteContinuation { overwritten, at } => {
            ("overwritten", vec![format!("OVERWRITE_CONTRECORD lsn {overwritten}; time {}", time(*at))])
        }
        Meaning::BackupEnd { start } => ("backup end", vec![format!("BACKUP_END {start}")]),
        Meaning::Tablespace { oid, location } => ("tablespace", vec![format!("CREATE {oid} \"{location}\"")]),
        Meaning::Message(message) => {
            let word = if message.transactional { "transactional" } else { "non-transactional" };
            let hex: Vec<String> =
                message.content.iter().take(64).map(|byte| format!("{byte:02X}")).collect();
            let said = format!(
                "MESSAGE {word}, prefix \"{}\"; payload ({} bytes): {}",
                message.prefix,
                message.content_bytes,
                hex.join(" ")
            );
            ("message", vec![said])
        }
    }
}

fn end_said(word: &str, end: &TransactionEnd) -> Vec<String> {
    let mut said = vec![word.to_owned(), time(end.at)];
    said.extend(parts_said(end.subtransactions.as_deref().unwrap()));
    if let Some(origin) = end.origin {
        said.push(format!("lsn {}, at {}", origin.lsn, time(origin.at)));
    }
    said
}

fn parts_said(parts: &[u32]) -> Option<String> {
    let each: String = parts.iter().map(|part| format!(" {part}")).collect();
    (!parts.is_empty()).then(|| format!("; subxacts:{each}"))
}

/// As PostgreSQL writes a time: always six digits of a second.
fn time(at: PgTime) -> String {
    let whole = PgTime(at.0 - at.0.rem_euclid(1_000_000)).to_string();
    let whole = whole.replace('T', " ");
    format!("{}.{:06} UTC", whole.trim_end_matches('Z'), at.0.rem_euclid(1_000_000))
}

const MEANT: [&str; 16] = [
    "abort",
    "abort prepared",
    "backup end",
    "checkpoint",
    "commit",
    "commit prepared",
    "full_page_writes",
    "message",
    "overwritten",
    "parameters",
    "prepare",
    "restore point",
    "shutdown",
    "switch",
    "tablespace",
    "end of recovery",
];

fn pg_wal(data: &Path, timeline: u32, mib: u32) -> Log {
    Log::new(&data.join("pg_wal"), TimelineId(timeline), SegmentSize::new(u64::from(mib) << 20).unwrap())
}

/// One cluster with everything in its log, read whole and in pieces; then its standby, promoted.
fn everything_is_read(installation: &Installation, mib: u32) {
    let mut primary = workload::cluster(installation, mib);
    workload::everything(&mut primary);
    workload::overwritten_record(&mut primary);
    let mut standby = primary.standby();
    primary.psql("insert into t (note) values ('before the promotion')");
    let reached = primary.psql("select pg_current_wal_lsn()");
    standby.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{reached}'"), "t");
    standby.promote();
    standby.psql("insert into t (note) values ('on the second timeline'); checkpoint");
    standby.stop(StopMode::Fast);
    primary.stop(StopMode::Fast);

    let log = pg_wal(primary.data(), 1, mib);
    let (records, end) = log.records();
    let mut seen = compare(installation, &primary, &log, &records);
    assert!(end.reason.is_ordinary() && records.last().unwrap().end == end.at, "{end}");
    let mut size = random_sizes(&[1, 7, 24, 8191, 8192, 100_000, 3 << 20]);
    assert_eq!(log.records_cut(&mut size).0, records);

    let log = pg_wal(standby.data(), 2, mib);
    let (records, end) = log.records();
    seen.extend(compare(installation, &standby, &log, &records));
    assert!(end.reason.is_ordinary(), "{end}");
    assert_eq!(records.iter().map(|record| record.timeline).collect::<BTreeSet<_>>().len(), 2);
    assert_eq!(seen, BTreeSet::from(MEANT), "every kind was met");
    the_old_timeline_is_not_taken_for_the_new(&standby, &log);
}

/// The segment that both timelines have, once as the old one left it: its records end where the switch is.
fn the_old_timeline_is_not_taken_for_the_new(standby: &TestCluster, log: &Log) {
    let at = log.history.switches()[0].at;
    let start = log.size.start_of(at);
    let old = SegmentName { timeline: TimelineId(1), start }.file_name(log.size);
    let partial = log.directory.join(format!("{old}.partial"));
    let old = std::fs::read(log.directory.join(old)).or_else(|_| std::fs::read(partial)).unwrap();
    let mut reader = log.reader(start);
    let end = reader.feed(&old, |_| {}).unwrap_err();
    assert!(end.at == at, "{end}, and the switch is at {at}\n{}", standby.data().display());
}

/// Lengths that are drawn anew each run; the seed is printed, and `LIFEBOAT_TEST_SEED` pins it.
#[expect(clippy::print_stdout, reason = "the seed of a failed run must be seen")]
pub(crate) fn random_sizes(bounds: &'static [usize]) -> impl FnMut() -> usize {
    let seed = std::env::var("LIFEBOAT_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut state: u64 = seed.unwrap_or_else(|| u64::from_le_bytes(random::bytes()));
    println!("LIFEBOAT_TEST_SEED={state}");
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = (state >> 33) as usize;
        1 + drawn / bounds.len() % bounds[drawn % bounds.len()]
    }
}

#[test]
fn a_log_in_segments_of_1_mib_is_read_as_pg_waldump_reads_it() {
    for installation in test_installations() {
        everything_is_read(&installation, 1);
    }
}

#[test]
fn a_log_in_segments_of_64_mib_is_read_as_pg_waldump_reads_it() {
    for installation in test_installations() {
        everything_is_read(&installation, 64);
    }
}
