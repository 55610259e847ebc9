//! Base backups: received, unpacked, verified by PostgreSQL's own tools, and started.

use crate::{options, replication, sql};
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster, test_installations};
use lifeboat_postgres_server::{Identity, ServerPlace};
use lifeboat_postgres_wal::{Lsn, SegmentName, SegmentSize, TimelineId};
use lifeboat_wire_postgres::{
    BackupMessage, BaseBackup, BaseBackupOptions, Connection, ManifestChecksums, PostgresError, Purpose,
    SlotKind, StreamEvent,
};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Writes each archive and the manifest into a folder, and says which archives there were.
pub(crate) fn receive(backup: &mut BaseBackup, folder: &Path) -> Vec<(String, String)> {
    let mut archives = Vec::new();
    let mut file: Option<File> = None;
    let (mut data, mut progress) = (0, 0);
    while let Some(message) = backup.next().unwrap() {
        match message {
            BackupMessage::Archive { name, location } => {
                archives.push((name.to_owned(), location.to_owned()));
                file = Some(File::create(folder.join(name)).unwrap());
            }
            BackupMessage::Manifest => file = Some(File::create(folder.join("backup_manifest")).unwrap()),
            BackupMessage::Data(bytes) => {
                data += bytes.len() as u64;
                file.as_mut().expect("an archive begins before its bytes").write_all(bytes).unwrap();
            }
            BackupMessage::Progress(bytes) => {
                assert!(bytes >= progress, "progress does not go back");
                progress = bytes;
            }
        }
    }
    assert!(progress > 0 && data >= progress, "{data} bytes, {progress} by the server's count");
    assert!(backup.next().unwrap().is_none(), "the end stays the end");
    archives
}

fn unpack(archive: &Path, into: &Path) {
    fs::create_dir_all(into).unwrap();
    let status =
        Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(into).stdin(Stdio::null()).status();
    assert!(status.unwrap().success(), "{} is a tar archive", archive.display());
}

fn with_tablespace(cluster: &TestCluster) -> PathBuf {
    let space = cluster.place().join("space here");
    fs::create_dir(&space).unwrap();
    cluster.identity().own(&space).unwrap();
    cluster.psql(&format!(
        "create tablespace extra location '{}'; create table far (n int) tablespace extra; \
         insert into far select generate_series(1, 5000); create table near as table far;",
        space.display()
    ));
    space
}

#[test]
fn a_backup_with_its_own_log_is_verified_and_starts() {
    for installation in test_installations() {
        let cluster = TestCluster::start(&installation);
        let space = with_tablespace(&cluster);
        let identity = Identity::suitable().unwrap();
        let folder = ServerPlace::for_sockets(&identity).unwrap();
        let options = BaseBackupOptions { wal: true, label: "it's ours".to_owned(), ..Default::default() };
        let mut backup = replication(&cluster).base_backup(&options).unwrap();
        let tablespaces = backup.tablespaces().to_vec();
        let there = |found: &Option<String>| found.as_deref().map(Path::new) == Some(&*space);
        assert!(tablespaces.iter().any(|one| one.oid.is_some() && there(&one.location)), "{tablespaces:?}");
        assert!(tablespaces.iter().any(|one| one.oid.is_none() && one.location.is_none()));
        assert!(tablespaces.iter().all(|one| one.size_kib > Some(0)), "{tablespaces:?}");
        let archives = receive(&mut backup, folder.path());
        assert_eq!(archives.len(), 2, "{archives:?}");
        let (start, timeline) = backup.start();
        let (end, mut session) = backup.finish().unwrap();
        assert!(end.end > start && end.timeline == timeline);
        // The session can be used on.
        assert_eq!(session.identify_system().unwrap().timeline, timeline);

        let data = folder.path().join("restored");
        unpack(&folder.path().join("base.tar"), &data);
        assert!(fs::read_to_string(data.join("backup_label")).unwrap().contains("LABEL: it's ours"));
        assert!(fs::read_to_string(data.join("tablespace_map")).unwrap().contains("space here"));
        let moved = folder.path().join("moved");
        let (name, location) = archives.iter().find(|(name, _)| name != "base.tar").unwrap();
        assert_eq!(Path::new(location), space);
        unpack(&folder.path().join(name), &moved);
        let oid = name.strip_suffix(".tar").unwrap();
        std::os::unix::fs::symlink(&moved, data.join("pg_tblspc").join(oid)).unwrap();
        fs::remove_file(data.join("tablespace_map")).unwrap();
        identity.own(folder.path()).unwrap();
        fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        verify(&cluster, &folder.path().join("backup_manifest"), &data);
        let manifest = fs::read_to_string(folder.path().join("backup_manifest")).unwrap();
        assert!(manifest.contains("\"Checksum-Algorithm\": \"SHA256\""));

        let mut restored = TestCluster::of_directory(ClusterOptions::new(installation.clone()), &data);
        identity.own(&moved).unwrap();
        restored.start_server();
        assert_eq!(restored.psql("select sum(n) from far; select sum(n) from near"), "12502500\n12502500");
    }
}

/// PostgreSQL's own check of every file against the manifest. `tablespace_map` is ours to take away.
fn verify(cluster: &TestCluster, manifest: &Path, data: &Path) {
    let mut command = cluster.command("pg_verifybackup");
    let output =
        command.args(["-n", "-q", "-i", "tablespace_map", "-m"]).arg(manifest).arg(data).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_manifest_sums_up_as_it_is_asked_to() {
    for installation in test_installations() {
        let cluster = TestCluster::start(&installation);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup_manifest");
        for (checksums, word) in [
            (ManifestChecksums::None, None),
            (ManifestChecksums::Crc32c, Some("CRC32C")),
            (ManifestChecksums::Sha256, Some("SHA256")),
        ] {
            let options = BaseBackupOptions { checksums, ..Default::default() };
            let mut backup = replication(&cluster).base_backup(&options).unwrap();
            let _ = receive(&mut backup, folder.path());
            let manifest = fs::read_to_string(&path).unwrap();
            let found = manifest.split("\"Checksum-Algorithm\": \"").nth(1);
            assert_eq!(found.and_then(|rest| rest.split('"').next()), word);
        }
    }
}

/// Receives the log from a position up to another one into files as `pg_wal` has them.
fn receive_log(session: Connection, slot: &str, from: Lsn, to: Lsn, folder: &Path) {
    let (size, timeline) = (SegmentSize::DEFAULT, TimelineId(1));
    let mut stream = session.start_replication(Some(slot), from, timeline).unwrap();
    while stream.position() < to {
        let StreamEvent::Wal { mut start, mut data, .. } = stream.next(Duration::from_secs(60)).unwrap()
        else {
            continue;
        };
        while !data.is_empty() {
            let name = SegmentName::of(timeline, start, size);
            let left = name.start.after(size.bytes()).since(start) as usize;
            let (now, later) = data.split_at(data.len().min(left));
            let path = folder.join(name.file_name(size));
            let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
            file.set_len(size.bytes()).unwrap();
            let _ = file.seek(SeekFrom::Start(start.since(name.start))).unwrap();
            file.write_all(now).unwrap();
            (start, data) = (start.after(now.len() as u64), later);
        }
    }
    drop(stream.stop().unwrap());
}

#[test]
fn a_backup_without_log_starts_with_the_log_that_was_streamed() {
    for installation in test_installations() {
        let cluster = TestCluster::start(&installation);
        cluster.pgbench_init(1);
        let identity = Identity::suitable().unwrap();
        let folder = ServerPlace::for_sockets(&identity).unwrap();
        let mut session = replication(&cluster);
        session.create_slot("ours", SlotKind::Permanent).unwrap();
        let mut backup = session.base_backup(&BaseBackupOptions::default()).unwrap();
        let from = SegmentSize::DEFAULT.start_of(backup.start().0);
        let _ = cluster.pgbench(&["-n", "-c", "2", "-t", "50"]);
        let archives = receive(&mut backup, folder.path());
        assert_eq!(archives, [("base.tar".to_owned(), String::new())]);
        let (_, session) = backup.finish().unwrap();
        let _ = cluster.pgbench(&["-n", "-c", "2", "-t", "50"]);
        let to = cluster.psql("select pg_current_wal_flush_lsn()").parse().unwrap();
        let data = folder.path().join("restored");
        unpack(&folder.path().join("base.tar"), &data);
        receive_log(session, "ours", from, to, &data.join("pg_wal"));
        let question = "select count(*), sum(delta) from pgbench_history";
        let expected = cluster.psql(question);
        fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        identity.own(folder.path()).unwrap();
        let mut restored = TestCluster::of_directory(ClusterOptions::new(installation.clone()), &data);
        restored.start_server();
        assert_eq!(restored.psql(question), expected);
        assert!(expected.starts_with("200|"), "{expected}");
    }
}

#[test]
fn a_backup_that_cannot_be_is_refused_and_one_that_is_left_ends() {
    for installation in test_installations() {
        let cluster = TestCluster::start(&installation);
        let slow = BaseBackupOptions { max_rate_kib: Some(31), ..Default::default() };
        assert!(matches!(replication(&cluster).base_backup(&slow), Err(PostgresError::Argument { .. })));
        let slow = BaseBackupOptions { max_rate_kib: Some(512), ..Default::default() };
        let mut backup = replication(&cluster).base_backup(&slow).unwrap();
        assert!(matches!(backup.next().unwrap(), Some(BackupMessage::Archive { name: "base.tar", .. })));
        let running = "select count(*) from pg_stat_progress_basebackup";
        cluster.wait_for(running, "1");
        let error = backup.finish().err().unwrap();
        assert!(matches!(error, PostgresError::Result { .. }), "{error:?}");
        cluster.wait_for(running, "0");
        let wrong = Connection::open(&options(&cluster.url("postgres")), Purpose::Sql).unwrap();
        let error = wrong.base_backup(&BaseBackupOptions::default()).err().unwrap();
        assert_eq!(error.sqlstate(), Some("42601"), "{error:?}");
    }
}

#[test]
fn damaged_pages_are_reported_with_the_backup() {
    for installation in test_installations() {
        let mut cluster = TestCluster::start(&installation);
        cluster.psql("create table t as select generate_series(1, 20000) as n; checkpoint");
        let path = cluster.psql("select pg_relation_filepath('t')");
        cluster.stop(lifeboat_postgres_server::StopMode::Fast);
        let mut file = OpenOptions::new().write(true).open(cluster.data().join(path)).unwrap();
        let _ = file.seek(SeekFrom::Start(8192 * 3 + 4000)).unwrap();
        file.write_all(b"damage").unwrap();
        cluster.start_server();
        let folder = tempfile::tempdir().unwrap();
        let mut backup = replication(&cluster).base_backup(&BaseBackupOptions::default()).unwrap();
        let _ = receive(&mut backup, folder.path());
        let notices = backup.take_notices();
        assert!(notices.iter().any(|notice| notice.message.contains("checksum")), "{notices:?}");
        let error = backup.finish().err().unwrap();
        assert_eq!(error.sqlstate(), Some("XX001"), "{error:?}");
        let unchecked = BaseBackupOptions { verify_checksums: false, ..Default::default() };
        let mut backup = replication(&cluster).base_backup(&unchecked).unwrap();
        let _ = receive(&mut backup, folder.path());
        assert!(backup.finish().is_ok());
        drop(sql(&cluster));
    }
}
