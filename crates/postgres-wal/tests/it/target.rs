//! PostgreSQL itself as the oracle of targets: it restores once with the target as a person would give it, and once
//! with the position that we found for it. Both times the last record that it replays and the rows are the same.

use crate::log::{Kept, Log};
use crate::workload;
use lifeboat_base::{Hint, report};
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster, test_installations};
use lifeboat_postgres_server::{Installation, StopMode};
use lifeboat_postgres_wal::{
    Edge, Lsn, Meaning, PgTime, Replay, Resolution, Resolver, SegmentName, SegmentSize, Target, TargetError,
    TimelineId, TransactionRef,
};
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The least that there is: what is restored is copied often.
const SEGMENT: SegmentSize = match SegmentSize::new(1 << 20) {
    Some(size) => size,
    None => panic!("1 MiB is a size"),
};

/// A base backup and the log that follows it.
struct Backup<'a> {
    cluster: &'a TestCluster,
    directory: PathBuf,
    replay: Replay,
    /// What was restored already: many targets are the same position.
    by_position: RefCell<Vec<(Resolution, Recovered)>>,
}

/// What a recovery came to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Recovered {
    /// The end of the last record that was replayed: where the new timeline left the old one.
    branched_at: Lsn,
    /// Each row and the transaction that wrote it.
    rows: String,
    prepared: String,
}

impl<'a> Backup<'a> {
    fn take(cluster: &'a TestCluster) -> Self {
        let directory = cluster.place().join("backup");
        let mut command = cluster.command("pg_basebackup");
        let output = command.arg("-D").arg(&directory).args(["-X", "none", "-c", "fast"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let manifest = std::fs::read_to_string(directory.join("backup_manifest")).unwrap();
        let of = |field: &str| {
            let rest = manifest.split_once(&format!("\"{field}\": \"")).unwrap().1;
            rest.split_once('"').unwrap().0.parse::<Lsn>().unwrap()
        };
        let replay = Replay { redo: of("Start-LSN"), consistent: of("End-LSN") };
        Self::of(cluster, directory, replay)
    }

    const fn of(cluster: &'a TestCluster, directory: PathBuf, replay: Replay) -> Self {
        Self { cluster, directory, replay, by_position: RefCell::new(Vec::new()) }
    }

    /// Restores it to a position, unless that was done.
    fn recover_to(&self, log: &Log, resolution: &Resolution) -> Recovered {
        let done = self.by_position.borrow().iter().find(|(done, _)| done == resolution).cloned();
        let (_, recovered) = done.unwrap_or_else(|| {
            let recovered = self.recover(log, &settings_of_resolution(resolution));
            let recovered = recovered.unwrap_or_else(|said| panic!("{resolution:?}: {said}"));
            self.by_position.borrow_mut().push((resolution.clone(), recovered.clone()));
            (resolution.clone(), recovered)
        });
        recovered
    }

    /// Restores a copy of it by PostgreSQL; what the server said, where it could not.
    fn recover(&self, log: &Log, settings: &[(&str, String)]) -> Result<Recovered, String> {
        let copy = self.cluster.place().join("restored");
        let copied = Command::new("cp").arg("-a").arg(&self.directory).arg(&copy).status().unwrap();
        assert!(copied.success());
        std::fs::File::create(copy.join("recovery.signal")).unwrap();
        let options = ClusterOptions::new(self.cluster.installation().clone());
        let mut restored = TestCluster::of_directory(options, &copy);
        restored.set("restore_command", &format!("cp '{}/%f' '%p'", log.directory.display()));
        restored.set("recovery_target_action", "promote");
        // So that it is ready when it has recovered, and not while it does.
        restored.set("hot_standby", "off");
        restored.set("fsync", "off");
        for (name, value) in settings {
            restored.set(name, value);
        }
        let recovered = match restored.try_start() {
            Ok(()) => Ok(Recovered::of(&restored)),
            Err(error) => Err(error.log().map(ToString::to_string).unwrap_or_default()),
        };
        if restored.server().is_some() {
            restored.stop(StopMode::Immediate);
        }
        std::fs::remove_dir_all(&copy).unwrap();
        recovered
    }

    fn resolve(&self, log: &Log, target: &Target, edge: Edge) -> Result<Resolution, TargetError> {
        let mut resolver = Resolver::new(target.clone(), edge, self.replay);
        let mut flow = ControlFlow::Continue(());
        let end = log.feed(log.first(), &mut || usize::MAX, |record| {
            if flow.is_continue() {
                flow = resolver.see(record);
            }
        });
        resolver.finish(end.at)
    }

    /// PostgreSQL does the same with the target and with what we say that it is.
    fn agrees(&self, log: &Log, target: &Target, edge: Edge) -> (Resolution, Recovered) {
        let resolution = self.resolve(log, target, edge).unwrap_or_else(|error| panic!("{error}"));
        let mut as_given = settings_of(target, edge);
        as_given.push(("recovery_target_timeline", log.history.timeline().to_string()));
        let by_target = self.recover(log, &as_given).unwrap_or_else(|said| panic!("{target}: {said}"));
        let by_position = self.recover_to(log, &resolution);
        assert_eq!(by_target, by_position, "{target}, {edge:?}: {resolution:?}");
        assert!(resolution.reached, "{target}");
        let wrote =
            |transaction: &TransactionRef| by_position.rows.contains(&format!("[{}]", transaction.xid));
        assert!(!resolution.first_left_out.as_ref().is_some_and(wrote), "{target}: {resolution:?}");
        if *target != Target::Immediate {
            assert!(resolution.last_transaction.as_ref().is_some_and(wrote), "{target}: {resolution:?}");
        }
        (resolution, by_position)
    }
}

impl Recovered {
    fn of(restored: &TestCluster) -> Self {
        let file = restored.psql("select pg_walfile_name(pg_current_wal_lsn())");
        let timeline = SegmentName::parse(&file, SEGMENT).unwrap().timeline;
        let restored_log = Log::new(&restored.data().join("pg_wal"), timeline, SEGMENT);
        let branched_at = restored_log.history.switches().last().unwrap().at;
        let rows = restored.psql("select string_agg(note || '[' || xid || ']', ' ' order by note) from rows");
        let prepared = restored.psql("select string_agg(gid, ' ') from pg_prepared_xacts");
        Self { branched_at, rows, prepared }
    }
}

/// A target as a person would set it.
fn settings_of(target: &Target, edge: Edge) -> Vec<(&'static str, String)> {
    let (name, value) = match target {
        Target::Latest => return Vec::new(),
        Target::Immediate => ("recovery_target", "immediate".to_owned()),
        // It takes an offset and no `Z`.
        Target::Time(time) => {
            ("recovery_target_time", time.to_string().replace('T', " ").replace('Z', "+00"))
        }
        Target::Lsn(lsn) => ("recovery_target_lsn", lsn.to_string()),
        Target::Xid(xid) => ("recovery_target_xid", xid.to_string()),
        Target::Name(name) => ("recovery_target_name", name.clone()),
    };
    let inclusive = if edge == Edge::Inclusive { "on" } else { "off" };
    vec![(name, value), ("recovery_target_inclusive", inclusive.to_owned())]
}

fn settings_of_resolution(resolution: &Resolution) -> Vec<(&'static str, String)> {
    let inclusive = if resolution.inclusive { "on" } else { "off" };
    vec![
        ("recovery_target_lsn", resolution.stop.to_string()),
        ("recovery_target_inclusive", inclusive.to_owned()),
        ("recovery_target_timeline", resolution.timeline.to_string()),
    ]
}

fn row(note: &str) -> String {
    format!("insert into rows values ('{note}', pg_current_xact_id()::text);")
}

fn xid_of(cluster: &TestCluster, sql: &str) -> u64 {
    let said = cluster.psql(sql);
    said.lines().next().unwrap().parse().unwrap_or_else(|_| panic!("{said}"))
}

/// What was done behind the backup, and what it can be asked for by.
struct Done {
    aborted: u64,
    prepared: u64,
    whole: u64,
    part: u64,
    position: Lsn,
}

fn work(cluster: &TestCluster) -> Done {
    cluster.psql(&row("01"));
    cluster.psql(&format!("select pg_create_restore_point('twice'); {}", row("02")));
    cluster.psql(&format!("select pg_create_restore_point('twice'); {}", row("03")));
    let prepared = xid_of(
        cluster,
        &format!("begin; {} select pg_current_xact_id(); prepare transaction 'p';", row("04")),
    );
    cluster.psql(&format!("begin; {} prepare transaction 'left'; {}", row("never"), row("05")));
    cluster.psql(&format!("commit prepared 'p'; {}", row("06")));
    let aborted = xid_of(cluster, &format!("begin; {} select pg_current_xact_id(); rollback;", row("07")));
    let position = cluster.psql("select pg_current_wal_insert_lsn()").parse().unwrap();
    let said = cluster.psql(&format!(
        "begin; {} select pg_current_xact_id(); savepoint s; insert into rows values ('part', 'part');
         select xmin from rows where note = 'part'; release s; commit;",
        row("08")
    ));
    let mut xids = said.lines().map(|line| line.parse::<u64>().unwrap());
    let (whole, part) = (xids.next().unwrap(), xids.next().unwrap());
    cluster.psql(&format!("checkpoint; {} select pg_switch_wal(); {}", row("09"), row("10")));
    Done { aborted, prepared, whole, part, position }
}

fn log_of(cluster: &TestCluster, timeline: u32) -> Log {
    Log::new(&cluster.data().join("pg_wal"), TimelineId(timeline), SEGMENT)
}

fn commits(records: &[Kept], after: Lsn) -> Vec<&Kept> {
    let commits = records.iter().filter(|record| matches!(record.meaning, Some(Meaning::Commit(_))));
    commits.filter(|record| record.start > after).collect()
}

fn time_of(record: &Kept) -> PgTime {
    match &record.meaning {
        Some(Meaning::Commit(end)) => end.at,
        other => panic!("{other:?}"),
    }
}

fn every_kind_of_target(installation: &Installation) {
    let mut cluster = workload::cluster(installation, 1);
    cluster.psql("create table rows (note text, xid text)");
    cluster.psql(&format!("select pg_create_restore_point('twice'); {}", row("00")));
    let backup = Backup::take(&cluster);
    let done = work(&cluster);
    let (directory, replay) = (backup.directory, backup.replay);
    cluster.stop(StopMode::Fast);
    let backup = Backup::of(&cluster, directory, replay);
    let log = log_of(&cluster, 1);
    let (records, _) = log.records();
    let commits = commits(&records, replay.consistent);
    let middle = commits[4];
    let (before, at) = (PgTime(time_of(middle).0 - 1), time_of(middle));
    let inside = records.iter().rfind(|record| record.start < done.position).unwrap().start.after(8);

    use Edge::{Exclusive, Inclusive};
    let agrees = |target, edge| backup.agrees(&log, &target, edge);
    let (latest, everything) = agrees(Target::Latest, Inclusive);
    assert_eq!((latest.first_left_out, everything.prepared.as_str()), (None, "left"));
    let (_, immediate) = agrees(Target::Immediate, Inclusive);
    assert_eq!(immediate.rows.split(' ').count(), 1, "{immediate:?}");
    let (named, rows) = agrees(Target::Name("twice".into()), Inclusive);
    assert!(rows.rows.contains("01[") && !rows.rows.contains("02["), "the first behind the backup: {rows:?}");
    assert_eq!(named.first_left_out.unwrap().xid, named.last_transaction.unwrap().xid + 1);

    let (included, _) = agrees(Target::Time(at), Inclusive);
    assert_eq!(included.last_transaction.unwrap().start, middle.start);
    let (excluded, _) = agrees(Target::Time(at), Exclusive);
    assert_eq!((excluded.stop, excluded.inclusive), (middle.start, false));
    assert_eq!(excluded.first_left_out.unwrap().start, middle.start);
    assert_eq!(agrees(Target::Time(before), Inclusive).0, excluded);

    let (included, _) = agrees(Target::Xid(done.prepared), Inclusive);
    assert_eq!(u64::from(included.last_transaction.unwrap().xid), done.prepared);
    let (excluded, rows) = agrees(Target::Xid(done.prepared), Exclusive);
    assert_eq!(u64::from(excluded.first_left_out.unwrap().xid), done.prepared);
    assert!(rows.rows.contains("05[") && rows.prepared.contains('p'), "{rows:?}");
    agrees(Target::Xid(done.aborted), Inclusive);
    agrees(Target::Xid(done.aborted | 1 << 32), Exclusive);
    agrees(Target::Xid(done.whole), Inclusive);

    for edge in [Inclusive, Exclusive] {
        agrees(Target::Lsn(done.position), edge);
        agrees(Target::Lsn(inside), edge);
        agrees(Target::Lsn(middle.start), edge);
    }
    what_cannot_be_had(&backup, &log, &done);
}

fn what_cannot_be_had(backup: &Backup<'_>, log: &Log, done: &Done) {
    let refused = |target: &Target, word: &str| {
        let said = backup.recover(log, &settings_of(target, Edge::Inclusive)).unwrap_err();
        assert!(said.contains(word), "{target}: {said}");
        backup.resolve(log, target, Edge::Inclusive).unwrap_err()
    };
    let early = refused(&Target::Lsn(backup.replay.redo), "before consistent recovery point");
    assert!(matches!(early, TargetError::BeforeConsistent { .. }), "{early}");

    let ended = "recovery ended before configured recovery target was reached";
    let TargetError::NotReached { nearest, part_of, .. } = refused(&Target::Xid(done.part), ended) else {
        panic!()
    };
    assert_eq!(part_of.map(|whole| u64::from(whole.xid)), Some(done.whole));
    let all = backup.recover(log, &settings_of_resolution(&nearest)).unwrap();
    assert!(all.rows.contains("10["), "{all:?}");

    let late = refused(&Target::Time(PgTime(i64::MAX / 4)), ended);
    assert!(report(&late).contains("its last transaction is"), "{late}");
    assert!(late.hint().unwrap().contains("latest"));
    let unknown = refused(&Target::Name("never made".into()), ended);
    assert!(matches!(unknown, TargetError::NotReached { part_of: None, .. }), "{unknown}");
}

#[test]
fn postgresql_stops_where_every_kind_of_target_was_resolved_to() {
    for installation in test_installations() {
        every_kind_of_target(&installation);
    }
}

/// A quiet server: no commit comes after the time, and yet the log is known to go on behind it. PostgreSQL gives up
/// on such a time; at the position that we found it does not.
#[test]
fn a_time_after_the_last_commit_can_be_had_where_the_log_goes_on() {
    for installation in test_installations() {
        let mut cluster = workload::cluster(&installation, 1);
        cluster.psql("create table rows (note text, xid text)");
        let replay = Backup::take(&cluster);
        let (directory, replay) = (replay.directory, replay.replay);
        cluster.psql(&row("01"));
        let now =
            cluster.psql("select (extract(epoch from clock_timestamp() - '2000-01-01') * 1000000)::bigint");
        cluster.psql("select pg_create_restore_point('later')");
        cluster.stop(StopMode::Fast);
        let backup = Backup::of(&cluster, directory, replay);
        let log = log_of(&cluster, 1);
        let target = Target::Time(PgTime(now.parse().unwrap()));
        let said = backup.recover(&log, &settings_of(&target, Edge::Inclusive)).unwrap_err();
        assert!(said.contains("recovery ended before"), "{said}");
        let resolution = backup.resolve(&log, &target, Edge::Inclusive).unwrap();
        assert!(!resolution.reached);
        let recovered = backup.recover(&log, &settings_of_resolution(&resolution)).unwrap();
        assert!(recovered.rows.contains("01["), "{recovered:?}");
    }
}

/// The files of both logs in one directory, as an archive has them.
fn merged(cluster: &TestCluster, from: &[&TestCluster]) -> PathBuf {
    let archive = cluster.place().join("archive");
    std::fs::create_dir(&archive).unwrap();
    for data in from.iter().map(|cluster| cluster.data().join("pg_wal")) {
        for entry in std::fs::read_dir(data).unwrap().map(Result::unwrap) {
            let there = archive.join(entry.file_name());
            if entry.file_type().unwrap().is_file() && !there.exists() {
                std::fs::copy(entry.path(), there).unwrap();
            }
        }
    }
    own(cluster, &archive);
    archive
}

fn own(cluster: &TestCluster, path: &Path) {
    cluster.identity().own(path).unwrap();
}

#[test]
fn a_point_on_each_timeline_is_found() {
    for installation in test_installations() {
        let mut primary = workload::cluster(&installation, 1);
        primary.psql("create table rows (note text, xid text)");
        let backup = Backup::take(&primary);
        let (directory, replay) = (backup.directory, backup.replay);
        primary.psql(&row("before"));
        let mut standby = primary.standby();
        primary.psql(&row("both"));
        let reached = primary.psql("select pg_current_wal_lsn()");
        standby.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{reached}'"), "t");
        standby.promote();
        standby.psql(&format!("{} select pg_create_restore_point('two'); {}", row("two"), row("late")));
        primary.psql(&format!("{} select pg_create_restore_point('one'); {}", row("one"), row("late")));
        standby.stop(StopMode::Fast);
        primary.stop(StopMode::Fast);
        let archive = merged(&primary, &[&primary, &standby]);
        let backup = Backup::of(&primary, directory, replay);
        for (timeline, name) in [(1, "one"), (2, "two")] {
            let log = Log::new(&archive, TimelineId(timeline), SEGMENT);
            let (named, recovered) = backup.agrees(&log, &Target::Name(name.into()), Edge::Inclusive);
            assert_eq!(named.timeline, TimelineId(timeline));
            let has = |note: &str| recovered.rows.contains(&format!("{note}["));
            assert!(has("both") && has(name) && !has("late"), "{recovered:?}");
            let (latest, _) = backup.agrees(&log, &Target::Latest, Edge::Inclusive);
            assert_eq!(latest.timeline, TimelineId(timeline));
        }
        // A point before the branch, asked for on the second timeline.
        let log = Log::new(&archive, TimelineId(2), SEGMENT);
        let at = log.history.switches()[0].at;
        for edge in [Edge::Inclusive, Edge::Exclusive] {
            backup.agrees(&log, &Target::Lsn(at), edge);
        }
    }
}
