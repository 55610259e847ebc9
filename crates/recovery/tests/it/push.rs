//! What a real archiver hands over, pushed file by file.

use crate::house::{House, fill, on_each_version, on_one_version, rows};
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster};
use lifeboat_postgres_wal::{Lsn, Target as Point};
use lifeboat_store_postgres::{PushError, Pushed, histories, push};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A folder that servers archive into, byte for byte and in order.
fn archive(house: &House) -> PathBuf {
    let archive = house.place.path().join("archive");
    std::fs::create_dir(&archive).unwrap();
    std::fs::set_permissions(&archive, std::fs::Permissions::from_mode(0o777)).unwrap();
    archive
}

fn archiving(options: ClusterOptions, archive: &Path) -> ClusterOptions {
    let command = format!("cp %p {0}/.%f && chmod 644 {0}/.%f && mv {0}/.%f {0}/%f", archive.display());
    options.with("archive_mode", "on").with("archive_command", &command)
}

/// Waits until the segment that is written to is archived; gives its end.
fn switch(cluster: &TestCluster) -> Lsn {
    let name = cluster.psql("select pg_walfile_name(pg_switch_wal())");
    let sql = format!("select last_archived_wal >= '{}' from pg_stat_archiver", name.trim());
    cluster.wait_for(&sql, "t");
    cluster.psql("select pg_current_wal_lsn()").trim().parse().unwrap()
}

fn files(archive: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().path());
    let all: BTreeSet<PathBuf> =
        all.filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.')).collect();
    all.into_iter().collect()
}

fn pushed(house: &House, path: &Path) -> Pushed {
    push(&house.repository, &house.dataset, path)
        .unwrap_or_else(|error| panic!("{}: {}", path.display(), lifeboat_base::report(&error)))
}

fn refused(house: &House, path: &Path) -> PushError {
    push(&house.repository, &house.dataset, path).expect_err(&path.display().to_string())
}

fn is_segment(path: &Path) -> bool {
    path.file_name().unwrap().len() == 24
}

#[test]
fn what_an_archiver_hands_over_leads_to_the_latest_state() {
    on_each_version(|installation| {
        let house = House::new();
        let archive = archive(&house);
        let options = archiving(ClusterOptions::new(installation.clone()), &archive);
        let cluster = TestCluster::start_with(options.clone());
        fill(&cluster, 1000);
        house.protect(&cluster);
        let before = files(&archive).len();
        fill(&cluster, 20_000);
        switch(&cluster);
        fill(&cluster, 500);
        let expected = rows(&cluster);
        switch(&cluster);
        let all = files(&archive);
        assert!(all.len() >= before + 2, "{all:?}");
        let first: Vec<Pushed> = all.iter().map(|path| pushed(&house, path)).collect();
        assert!(first.iter().map(|one| one.appended).sum::<u64>() > 16 << 20);
        assert!(first.iter().all(|one| !one.new_cluster), "{first:?}");
        // The archiver did not see that it succeeded, and asks again.
        for (path, before) in all.iter().zip(&first) {
            let again = pushed(&house, path);
            assert_eq!(
                (again.appended, again.known),
                (0, before.appended + before.known),
                "{}",
                path.display()
            );
        }
        assert!(house.logs().iter().all(|log| log.holes.is_empty()), "{:?}", house.logs());
        let mut cluster = cluster;
        cluster.kill9();
        std::fs::remove_dir_all(cluster.data()).unwrap();
        let restored =
            house.restored(&house.latest(), &ClusterOptions::new(installation.clone()), "restored");
        assert_eq!(rows(&restored), expected);
    });
}

#[test]
fn a_promotion_is_archived_with_its_history_and_the_rest_of_the_old_timeline() {
    on_each_version(|installation| {
        let house = House::new();
        let archive = archive(&house);
        let options = archiving(ClusterOptions::new(installation.clone()), &archive);
        let primary = TestCluster::start_with(options.clone());
        house.protect(&primary);
        fill(&primary, 1000);
        let standby = primary.standby();
        fill(&primary, 1000);
        let written = primary.psql("select pg_current_wal_flush_lsn()");
        standby.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{}'", written.trim()), "t");
        let mut primary = primary;
        primary.kill9();
        standby.promote();
        fill(&standby, 1000);
        let expected = rows(&standby);
        switch(&standby);
        let names: Vec<String> = files(&archive)
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert!(names.iter().any(|name| name.ends_with(".partial")), "{names:?}");
        assert!(names.contains(&"00000002.history".to_owned()), "{names:?}");
        for path in files(&archive) {
            let one = pushed(&house, &path);
            let again = pushed(&house, &path);
            assert_eq!((again.appended, again.known), (0, one.appended + one.known), "{}", path.display());
            if path.extension().is_some_and(|extension| extension == "partial") {
                assert!(
                    one.appended + one.known < 16 << 20,
                    "what follows the log's end is not of it: {one:?}"
                );
            }
        }
        let system = house.latest().facts.system;
        assert_eq!(histories(&house.repository, &house.dataset, system).unwrap().len(), 1);
        let path = house.latest();
        assert_eq!((path.legs.len(), path.resolution.timeline.0), (2, 2));
        let restored = house.restored(&path, &ClusterOptions::new(installation.clone()), "restored");
        assert_eq!(rows(&restored), expected);
        // Another history of the same name is of another promotion.
        let history = archive.join("00000002.history");
        std::fs::remove_file(&history).unwrap();
        lifeboat_base::crashsafe::replace(&history, b"1\t0/3000000\tno recovery target specified\n").unwrap();
        assert!(matches!(refused(&house, &history), PushError::Differs { .. }));
    });
}

#[test]
fn segments_that_are_missing_are_said_and_fill_their_hole_later() {
    on_one_version(|installation| {
        let house = House::new();
        let archive = archive(&house);
        let cluster = TestCluster::start_with(archiving(ClusterOptions::new(installation.clone()), &archive));
        for _ in 0..4 {
            fill(&cluster, 10);
            switch(&cluster);
        }
        let all: Vec<PathBuf> = files(&archive).into_iter().filter(|path| is_segment(path)).collect();
        assert_eq!(pushed(&house, &all[0]).hole, None);
        let (from, to) = pushed(&house, &all[2]).hole.unwrap();
        assert_eq!(to.since(from), 16 << 20);
        assert_eq!(house.logs()[0].holes.len(), 1);
        assert_eq!(pushed(&house, &all[1]).hole, None);
        assert!(house.logs()[0].holes.is_empty(), "{:?}", house.logs());
        assert_eq!(pushed(&house, &all[3]).hole, None);
        assert_eq!(house.logs()[0].stretches.len(), 1);
    });
}

#[test]
fn a_push_costs_the_same_however_long_the_log_is() {
    on_one_version(|installation| {
        let house = House::new();
        let archive = archive(&house);
        let options = ClusterOptions { wal_segment_mib: 1, ..ClusterOptions::new(installation.clone()) };
        let cluster = TestCluster::start_with(archiving(options, &archive));
        for _ in 0..12 {
            fill(&cluster, 10);
            switch(&cluster);
        }
        let all: Vec<PathBuf> = files(&archive).into_iter().filter(|path| is_segment(path)).collect();
        let requests = |path: &PathBuf| {
            let before = house.faults.requests();
            assert!(pushed(&house, path).appended > 0);
            house.faults.requests() - before
        };
        let each: Vec<u64> = all.iter().map(requests).collect();
        // The first one follows none, the second looks at one that it follows; so does every other.
        assert_eq!(each[2..].iter().collect::<BTreeSet<_>>().len(), 1, "{each:?}");
        assert!(each[2] <= each[1], "{each:?}");
    });
}

#[test]
fn another_cluster_begins_a_lineage_and_never_appends() {
    on_one_version(|installation| {
        let house = House::new();
        let archive = archive(&house);
        let other = archive.with_file_name("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o777)).unwrap();
        let mut seen = Vec::new();
        for folder in [&archive, &other] {
            let cluster =
                TestCluster::start_with(archiving(ClusterOptions::new(installation.clone()), folder));
            fill(&cluster, 10);
            switch(&cluster);
            let one = pushed(&house, &files(folder)[0]);
            assert_eq!(one.appended, 16 << 20);
            seen.push((one.system, one.new_cluster));
        }
        assert!(seen[0].0 != seen[1].0 && !seen[0].1 && seen[1].1, "{seen:?}");
        assert_eq!(house.logs().len(), 2);
    });
}

#[test]
fn what_is_not_what_its_name_says_is_refused() {
    on_one_version(|installation| {
        let house = House::new();
        let archive = archive(&house);
        let cluster = TestCluster::start_with(archiving(ClusterOptions::new(installation.clone()), &archive));
        fill(&cluster, 10);
        switch(&cluster);
        let segment = files(&archive).into_iter().find(|path| is_segment(path)).unwrap();
        pushed(&house, &segment);
        let before = house.logs();
        let other = |name: &str| archive.with_file_name(name);
        let copy = |name: &str| {
            std::fs::copy(&segment, other(name)).unwrap();
            other(name)
        };
        let change = |path: &Path, at: u64, bytes: &[u8]| {
            OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
        };
        // Of another place than it says.
        let wrong = refused(&house, &copy("000000010000000000000077"));
        assert!(
            matches!(&wrong, PushError::Content { what, .. } if what.contains("says of itself")),
            "{wrong}"
        );
        // Another content, in the last page and in the first.
        let name = segment.file_name().unwrap().to_str().unwrap();
        for at in [(16 << 20) - 1, 3000] {
            let changed = copy(name);
            let mut byte = [0];
            OpenOptions::new().read(true).open(&changed).unwrap().read_exact_at(&mut byte, at).unwrap();
            change(&changed, at, &[!byte[0]]);
            let differs = refused(&house, &changed);
            let position: Lsn =
                cluster.psql(&format!("select '0/0'::pg_lsn + {}", (1 << 24) + at)).trim().parse().unwrap();
            assert!(
                matches!(&differs, PushError::Differs { what, .. } if what.contains(&position.to_string())),
                "{differs}, {position}"
            );
        }
        // Cut short, of an unknown version, no segment at all.
        let short = copy(name);
        OpenOptions::new().write(true).open(&short).unwrap().set_len(5 << 20).unwrap();
        assert!(matches!(refused(&house, &short), PushError::Content { .. }));
        let unknown = copy(name);
        change(&unknown, 0, &[0x0d, 0xd1]);
        assert!(refused(&house, &unknown).to_string().contains("0xD10D"));
        let empty = other("000000010000000000000009");
        lifeboat_base::crashsafe::replace(&empty, b"").unwrap();
        assert!(matches!(refused(&house, &empty), PushError::Content { .. }));
        for name in ["postgresql.conf", "000000010000000000000001.gz"] {
            assert!(matches!(refused(&house, &copy(name)), PushError::Name(_)));
        }
        assert!(matches!(refused(&house, &other("000000010000000000000042")), PushError::Io { .. }));
        // A history alone is nobody's.
        let alone = house.place.path().join("alone/00000002.history");
        std::fs::create_dir(alone.parent().unwrap()).unwrap();
        lifeboat_base::crashsafe::replace(&alone, b"1\t0/3000000\tx\n").unwrap();
        assert!(matches!(refused(&house, &alone), PushError::Nobodys(_)));
        assert_eq!(house.logs(), before, "nothing of it was kept");
        assert!(house.resolve(Point::Latest).is_err(), "there is no snapshot");
    });
}

#[test]
fn the_label_of_a_backup_is_kept() {
    on_one_version(|installation| {
        let house = House::new();
        let archive = archive(&house);
        let cluster = TestCluster::start_with(archiving(ClusterOptions::new(installation.clone()), &archive));
        let into = cluster.place().join("backup");
        let backup = cluster
            .command("pg_basebackup")
            .args(["-U", "postgres", "-X", "none", "-c", "fast", "-D"])
            .arg(&into)
            .status();
        assert!(backup.unwrap().success());
        let label = files(&archive).into_iter().find(|path| path.extension().is_some_and(|e| e == "backup"));
        let label = label.expect("the server archives the label of a backup");
        assert!(pushed(&house, &label).appended > 100);
        assert_eq!(pushed(&house, &label).appended, 0);
        let changed = archive.with_file_name(label.file_name().unwrap());
        let text = std::fs::read_to_string(&label).unwrap().replace("LABEL:", "LABEL: other");
        lifeboat_base::crashsafe::replace(&changed, text.as_bytes()).unwrap();
        std::fs::copy(
            files(&archive).iter().find(|p| is_segment(p)).unwrap(),
            archive.with_file_name("000000010000000000000001"),
        )
        .unwrap();
        assert!(matches!(refused(&house, &changed), PushError::Differs { .. }));
    });
}
