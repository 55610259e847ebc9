//! Exports, held against PostgreSQL's own programs.

use crate::house::{House, fill, flushed, on_each_version, on_one_version, rows};
use lifeboat_postgres_server::Installation;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster, test_installations};
use lifeboat_postgres_wal::{Edge, Lsn, SegmentName, SegmentSize, Target as Point, TimelineId};
use lifeboat_recovery::RecoveryError;
use lifeboat_recovery::postgres::{
    ClusterFormat, ExportOptions, ExportedCluster, WalRange, export_cluster, export_wal,
};
use lifeboat_repository::Reader;
use lifeboat_store::progress::Progress;
use lifeboat_store_postgres::{RecoveryPath, RecoveryTarget, resolve};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

fn export(house: &House, path: &RecoveryPath, name: &str, format: ClusterFormat) -> ExportedCluster {
    let into = house.place.path().join(name);
    try_export(house, path, &into, &ExportOptions { format, ..ExportOptions::default() })
        .unwrap_or_else(|error| panic!("{}", lifeboat_base::report(&error)))
}

fn try_export(
    house: &House,
    path: &RecoveryPath,
    into: &Path,
    options: &ExportOptions,
) -> Result<ExportedCluster, RecoveryError> {
    let reader = Reader::new(&house.repository).unwrap();
    export_cluster(&reader, path, into, options, &Progress::default())
}

/// A cluster with a tablespace, whose table `elsewhere` lies in it.
fn with_tablespace(installation: &Installation) -> TestCluster {
    let cluster = TestCluster::start(installation);
    let space = cluster.place().join("space");
    std::fs::create_dir(&space).unwrap();
    std::fs::set_permissions(&space, std::fs::Permissions::from_mode(0o777)).unwrap();
    give_to_server(&cluster, &space);
    cluster.psql(&format!("create tablespace space location '{}'", space.display()));
    cluster.psql("create table elsewhere tablespace space as select generate_series(1, 5000) i");
    cluster
}

fn give_to_server(cluster: &TestCluster, path: &Path) {
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(cluster.data()).unwrap();
    std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

fn snapshot_alone(house: &House) -> RecoveryPath {
    let wanted = RecoveryTarget { target: Point::Immediate, edge: Edge::Inclusive, timeline: None };
    resolve(&house.repository, &house.dataset, &wanted, None).unwrap()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// Starts what was exported, told nothing: it must be a primary at once, on the timeline of the snapshot.
fn start_plainly(installation: &Installation, data: &Path) -> TestCluster {
    let mut cluster = TestCluster::of_directory(ClusterOptions::new(installation.clone()), data);
    cluster.start_server();
    assert_eq!(cluster.psql("select pg_is_in_recovery()").trim(), "f");
    assert_eq!(cluster.psql("select timeline_id from pg_control_checkpoint()").trim(), "1");
    cluster
}

#[test]
fn a_directory_starts_by_itself_where_it_was_asked_to_end() {
    on_each_version(|installation| {
        let house = House::new();
        let cluster = with_tablespace(installation);
        fill(&cluster, 2000);
        let followed = house.follow(&cluster);
        let at_backup = rows(&cluster);
        house.protect(&cluster);
        fill(&cluster, 100);
        cluster.psql("select pg_create_restore_point('here')");
        let at_point = rows(&cluster);
        fill(&cluster, 100);
        let at_end = rows(&cluster);
        followed.catch_up(&cluster);
        followed.stop();
        let verify = |data: &Path| {
            let mut command = cluster.command("pg_verifybackup");
            run(command.arg(data));
        };
        for (name, path, expected) in [
            ("alone", snapshot_alone(&house), &at_backup),
            ("point", house.resolve(Point::Name("here".to_owned())).unwrap(), &at_point),
            ("latest", house.latest(), &at_end),
        ] {
            let exported = export(&house, &path, name, ClusterFormat::Directory);
            let data = house.place.path().join(name);
            assert!(!data.join("recovery.signal").exists());
            assert!(data.join("pg_wal/archive_status").read_dir().unwrap().count() > 0);
            assert_eq!(exported.tablespaces.len(), 1);
            verify(&data);
            let started = start_plainly(installation, &data);
            assert_eq!(&rows(&started), expected, "{name}");
            assert_eq!(started.psql("select count(*) from elsewhere").trim(), "5000");
        }
        let again =
            try_export(&house, &house.latest(), &house.place.path().join("alone"), &ExportOptions::default());
        assert!(matches!(again, Err(RecoveryError::NotEmpty(_))));
    });
}

/// The last record switches to the next segment, so that it ends where that begins; of the zeros behind it the log
/// has as many as had arrived.
#[test]
fn a_segment_that_was_switched_away_from_need_not_be_there_to_its_end() {
    on_one_version(|installation| {
        let house = House::new();
        let cluster = TestCluster::start(installation);
        fill(&cluster, 100);
        let followed = house.follow(&cluster);
        house.protect(&cluster);
        fill(&cluster, 10);
        followed.catch_up(&cluster);
        followed.stop();
        let mut path = house.latest();
        let there = path.legs.last().unwrap().positions.end;
        let next = SegmentSize::DEFAULT.start_of(Lsn(there)).after(SegmentSize::DEFAULT.bytes());
        assert!(there < next.0, "the log ends within a segment");
        path.resolution.log_needed = next;
        let exported = export(&house, &path, "switched", ClusterFormat::Directory);
        assert_eq!(exported.ends_at, Lsn(there));
        let started = start_plainly(installation, &house.place.path().join("switched"));
        assert_eq!(rows(&started), rows(&cluster));
    });
}

/// What a transaction before and after an exclusive end decides: the record itself must not be there.
#[test]
fn an_exclusive_end_leaves_its_transaction_out() {
    on_one_version(|installation| {
        let house = House::new();
        let cluster = TestCluster::start(installation);
        fill(&cluster, 100);
        let followed = house.follow(&cluster);
        house.protect(&cluster);
        let before = rows(&cluster);
        let xid = cluster.psql("with w as (insert into accounts values (100001, 'x') returning 1) select pg_current_xact_id() from w");
        let after = rows(&cluster);
        fill(&cluster, 1);
        followed.catch_up(&cluster);
        followed.stop();
        for (edge, expected) in [(Edge::Exclusive, before), (Edge::Inclusive, after)] {
            let target = Point::Xid(xid.trim().parse().unwrap());
            let wanted = RecoveryTarget { target, edge, timeline: None };
            let path = resolve(&house.repository, &house.dataset, &wanted, None).unwrap();
            let name = format!("{edge:?}");
            export(&house, &path, &name, ClusterFormat::Directory);
            let started = start_plainly(installation, &house.place.path().join(name));
            assert_eq!(rows(&started), expected, "{edge:?}");
        }
    });
}

#[test]
fn archives_pass_the_newest_pg_verifybackup_and_start_unpacked() {
    on_each_version(|installation| {
        let house = House::new();
        let cluster = with_tablespace(installation);
        fill(&cluster, 3000);
        let expected = rows(&cluster);
        house.protect(&cluster);
        let exported = export(&house, &snapshot_alone(&house), "archives", ClusterFormat::Tar);
        let place = house.place.path().join("archives");
        let names: Vec<String> = exported
            .archives
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(&names[1..], ["base.tar", "pg_wal.tar"], "{names:?}");
        give_to_server(&cluster, &place);
        for path in &exported.archives {
            give_to_server(&cluster, path);
        }
        give_to_server(&cluster, &place.join("backup_manifest"));
        if let Some(newest) = test_installations().into_iter().find(|one| one.major >= 18) {
            let identity = lifeboat_postgres_server::Identity::suitable().unwrap();
            run(newest.command("pg_verifybackup", &identity).args(["--no-parse-wal"]).arg(&place));
        }
        let data = unpack(&cluster, &exported.archives, &house.place.path().join("unpacked"));
        let started = start_plainly(installation, &data);
        assert_eq!(rows(&started), expected);
        assert_eq!(started.psql("select count(*) from elsewhere").trim(), "5000");
    });
}

/// Unpacks as a person would, the tablespace into a new place.
fn unpack(cluster: &TestCluster, archives: &[PathBuf], data: &Path) -> PathBuf {
    let untar = |archive: &Path, into: &Path| {
        std::fs::create_dir_all(into).unwrap();
        run(Command::new("tar").arg("-xpf").arg(archive).arg("-C").arg(into));
    };
    untar(&archives[1], data);
    untar(&archives[2], &data.join("pg_wal"));
    let oid = archives[0].file_stem().unwrap();
    let (link, space) = (data.join("pg_tblspc").join(oid), data.with_file_name("unpacked-space"));
    let was = std::fs::read_link(&link).unwrap();
    assert_eq!(was, cluster.place().join("space"), "the link names the old place");
    untar(&archives[0], &space);
    std::fs::remove_file(&link).unwrap();
    symlink(&space, &link).unwrap();
    std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700)).unwrap();
    give_to_server(cluster, data);
    give_to_server(cluster, &space);
    data.to_owned()
}

#[test]
fn the_log_is_what_pg_receivewal_leaves() {
    on_each_version(|installation| {
        let house = House::new();
        let cluster = TestCluster::start(installation);
        cluster.psql("select pg_create_physical_replication_slot('oracle', true)");
        let followed = house.follow(&cluster);
        fill(&cluster, 50_000);
        cluster.psql("select pg_switch_wal()");
        fill(&cluster, 1000);
        let end = followed.catch_up(&cluster);
        let oracle = cluster.place().join("oracle");
        std::fs::create_dir(&oracle).unwrap();
        give_to_server(&cluster, &oracle);
        let mut receive = cluster.command("pg_receivewal");
        run(receive
            .args(["-U", "postgres", "--slot=oracle", "--no-loop", "--no-sync", "-D"])
            .arg(&oracle)
            .arg(format!("--endpos={end}")));
        assert!(flushed(&cluster) >= end);
        followed.stop();
        let first = first_name(&oracle);
        let from = SegmentName::parse(&first, SegmentSize::DEFAULT).unwrap().start;
        let into = house.place.path().join("log");
        let range = WalRange { from: Some(from), until: Some(end), timeline: Some(TimelineId(1)) };
        let progress = Progress::default();
        let exported =
            export_wal(&house.repository, &house.dataset, &range, &into, false, &progress).unwrap();
        assert!(exported.files.len() >= 2, "{exported:?}");
        assert!(exported.files.last().unwrap().ends_with(".partial"));
        for name in &exported.files {
            let (ours, theirs) =
                (std::fs::read(into.join(name)).unwrap(), std::fs::read(oracle.join(name)).unwrap());
            assert_eq!((ours.len(), theirs.len()), (16 << 20, 16 << 20), "{name}");
            // pg_receivewal writes whole messages, also beyond where it was told to end.
            let whole = if name.ends_with(".partial") { (end.0 % (16 << 20)) as usize } else { ours.len() };
            assert!(ours[..whole] == theirs[..whole], "{name} differs");
            assert!(ours[whole..].iter().all(|byte| *byte == 0));
        }
        let again = export_wal(&house.repository, &house.dataset, &range, &into, false, &progress);
        assert!(matches!(again, Err(RecoveryError::NotEmpty(_))));
        export_wal(&house.repository, &house.dataset, &range, &into, true, &progress).unwrap();
        let late = WalRange { until: Some(end.after(64 << 20)), ..range };
        let late = export_wal(
            &house.repository,
            &house.dataset,
            &late,
            &house.place.path().join("late"),
            false,
            &progress,
        );
        assert!(lifeboat_base::report(&late.unwrap_err()).contains("hole"));
        assert!(!house.place.path().join("late").exists(), "nothing is written that cannot be whole");
    });
}

fn first_name(folder: &Path) -> String {
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.len() == 24).min().unwrap()
}

#[test]
fn a_log_of_two_timelines_has_the_rest_of_the_first_and_the_history() {
    on_one_version(|installation| {
        let house = House::new();
        let primary = TestCluster::start(installation);
        let standby = primary.standby();
        standby.psql("select pg_create_physical_replication_slot('lifeboat_app', true)");
        let followed = house.follow(&primary);
        house.protect(&primary);
        fill(&primary, 1000);
        let written = followed.catch_up(&primary);
        followed.stop();
        standby.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{written}'"), "t");
        drop(primary);
        standby.promote();
        fill(&standby, 1000);
        let followed = house.follow(&standby);
        followed.catch_up(&standby);
        followed.stop();
        let path = house.latest();
        assert_eq!(path.resolution.timeline, TimelineId(2));
        let refused = try_export(&house, &path, &house.place.path().join("plain"), &ExportOptions::default());
        assert!(matches!(refused, Err(RecoveryError::LaterTimeline { .. })), "{refused:?}");
        let into = house.place.path().join("log");
        let range = WalRange { from: Some(path.facts.start), ..WalRange::default() };
        let exported =
            export_wal(&house.repository, &house.dataset, &range, &into, false, &Progress::default())
                .unwrap();
        assert_eq!(exported.timeline, TimelineId(2));
        let old = exported.files.iter().filter(|name| name.starts_with("00000001")).collect::<Vec<_>>();
        assert!(old.last().unwrap().ends_with(".partial"), "{:?}", exported.files);
        assert!(exported.files.contains(&"00000002.history".to_owned()), "{:?}", exported.files);
        // What PostgreSQL itself writes is read by its own program, up to the end.
        let last = exported.files.last().unwrap().clone();
        let bare = into.join(last.trim_end_matches(".partial"));
        std::fs::copy(into.join(&last), &bare).unwrap();
        for path in std::fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().path()).chain([into.clone()])
        {
            give_to_server(&standby, &path);
        }
        let dumped = standby
            .command("pg_waldump")
            .arg("--quiet")
            .arg("--timeline=2")
            .arg("-p")
            .arg(&into)
            .arg(format!("--start={}", first_of(&exported.files)))
            .arg(format!("--end={}", exported.until))
            .output()
            .unwrap();
        assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    });
}

/// Where the first segment of the second timeline begins.
fn first_of(files: &[String]) -> Lsn {
    let first = files.iter().find(|name| name.starts_with("00000002") && name.len() >= 24).unwrap();
    SegmentName::parse(&first[..24], SegmentSize::DEFAULT).unwrap().start
}
