//! The second snapshot, and files that change at the wrong moment.

use crate::support::*;
use lifeboat_base::clock::Clock;
use lifeboat_repository::tree::Content;
use lifeboat_repository::{Descend, Reader, RepositoryError};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn what_is_unchanged_is_not_read() {
    let tree = tempfile::tempdir().unwrap();
    for n in 0..50 {
        write(tree.path().join(format!("{n:02}")), vec![n; 20_000]);
    }
    fs::hard_link(tree.path().join("07"), tree.path().join("99-again")).unwrap();
    let house = House::new();
    let (first, _) = house.backup(tree.path());
    assert_eq!((first.files, first.hard_links, first.unchanged, first.bytes_read), (50, 1, 0, 1_000_000));
    write(tree.path().join("20"), b"new");
    fs::remove_file(tree.path().join("30")).unwrap();
    write(tree.path().join("new"), b"another");
    let (second, published) = house.backup(tree.path());
    assert_eq!((second.files, second.hard_links, second.unchanged, second.bytes_read), (50, 1, 48, 10));
    assert_eq!(published.snapshot.stats.unchanged, 48);
    assert_same(&look(tree.path()), &look(house.restore(&published).path()));
}

#[test]
fn new_metadata_alone_is_recorded_without_new_content() {
    let tree = tempfile::tempdir().unwrap();
    let path = tree.path().join("file");
    write(&path, vec![5; 50_000]);
    let house = House::new();
    house.backup(tree.path());
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    rustix::fs::setxattr(&path, "user.x", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    let (_, published) = house.backup(tree.path());
    assert!(published.snapshot.stats.new_bytes < 2000, "only the listing is new");
    assert_same(&look(tree.path()), &look(house.restore(&published).path()));
}

/// Somebody writes other bytes of the same length and puts the time back, as some programs do.
#[test]
fn a_time_put_back_hides_nothing() {
    let tree = tempfile::tempdir().unwrap();
    let path = tree.path().join("file");
    write(&path, b"before");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let house = House::new();
    house.backup(tree.path());
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"after!", 0).unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), modified);
    let (report, published) = house.backup(tree.path());
    assert_eq!(report.unchanged, 0);
    assert_eq!(fs::read(house.restore(&published).path().join("file")).unwrap(), b"after!");
}

#[test]
fn what_had_just_changed_is_read_again() {
    let tree = tempfile::tempdir().unwrap();
    write(tree.path().join("file"), b"x");
    // A base that was begun in the very second in which the file changed.
    let house = House::at(Clock::System.now().minus(std::time::Duration::from_secs(3600)));
    house.backup(tree.path());
    assert_eq!(house.backup(tree.path()).0.unchanged, 0);
    assert_eq!(house.backup(tree.path()).0.unchanged, 1);
}

#[test]
fn a_file_that_never_stands_still_is_kept_and_flagged() {
    const ALONE: &str = "LIFEBOAT_TEST_ALONE";
    // A process of its own, which waits behind each reading: whoever changes the file comes to run meanwhile, also
    // where others keep the machine busy.
    if std::env::var_os(ALONE).is_none() {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "changes::a_file_that_never_stands_still_is_kept_and_flagged"]);
        let ran = again.env(ALONE, "").env("LIFEBOAT_FAILPOINTS", "files::read=pause:100").output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    write(tree.path().join("calm"), vec![1; 100_000]);
    let restless = fs::File::create(tree.path().join("restless")).unwrap();
    restless.write_all_at(&vec![1; 3_000_000], 0).unwrap();
    let (house, stop) = (House::new(), AtomicBool::new(false));
    let (report, published) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0u64;
            while !stop.load(Ordering::Relaxed) {
                restless.write_all_at(&n.to_le_bytes(), n % 2_999_000).unwrap();
                n += 1;
            }
        });
        let done = house.backup(tree.path());
        stop.store(true, Ordering::Relaxed);
        done
    });
    assert_eq!((report.files, report.torn.count, report.left_out.count), (2, 1, 0));
    assert_eq!(lifeboat_base::report(&report.torn.first[0]), "read restless: it changed while it was read");
    assert_eq!(published.snapshot.stats.torn, 1);
    assert_eq!(torn_names(&house, &published), ["restless"]);
    assert_eq!(fs::metadata(house.restore(&published).path().join("restless")).unwrap().size(), 3_000_000);
    // What is torn is no base for anything.
    let (report, published) = house.backup(tree.path());
    assert_eq!((report.unchanged, report.torn.count), (1, 0));
    assert!(torn_names(&house, &published).is_empty());
    assert_same(&look(tree.path()), &look(house.restore(&published).path()));
}

fn torn_names(house: &House, published: &lifeboat_repository::Published) -> Vec<String> {
    let mut names = Vec::new();
    let reader = Reader::new(&house.repository).unwrap();
    let walked: Result<(), RepositoryError> = reader.walk(&published.snapshot, &mut |_, entry| {
        if entry.torn {
            names.push(entry.display_name());
        }
        Ok(Descend::Yes)
    });
    walked.unwrap();
    names
}

/// Files grow, shrink, come and go while snapshots are made; each snapshot is whole, and flags what it must.
#[test]
fn a_tree_that_churns_is_recorded_all_the_same() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("d")).unwrap();
    let (house, stop) = (House::new(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0usize;
            while !stop.load(Ordering::Relaxed) {
                let path = tree.path().join("d").join(format!("{:02}", n % 40));
                write(&path, vec![n as u8; n * 37 % 60_000]);
                if n.is_multiple_of(5) {
                    fs::remove_file(&path).unwrap();
                }
                n += 1;
            }
        });
        for _ in 0..10 {
            let (report, published) = house.backup(tree.path());
            let restored = house.restore(&published);
            let files = fs::read_dir(restored.path().join("d")).unwrap().count() as u64;
            assert_eq!(files, report.files);
            for entry in fs::read_dir(restored.path().join("d")).unwrap() {
                let (path, name) = {
                    let entry = entry.unwrap();
                    (entry.path(), entry.file_name())
                };
                let bytes = fs::read(&path).unwrap();
                let torn = torn_names(&house, &published).contains(&name.into_string().unwrap());
                assert!(
                    torn || bytes.windows(2).all(|pair| pair[0] == pair[1]),
                    "a mixture that is not flagged"
                );
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn further_names_refer_to_the_first() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("d")).unwrap();
    write(tree.path().join("d/z"), b"content");
    fs::hard_link(tree.path().join("d/z"), tree.path().join("e")).unwrap();
    let house = House::new();
    let (report, published) = house.backup(tree.path());
    assert_eq!((report.files, report.hard_links, report.bytes_read), (1, 1, 7));
    let reader = Reader::new(&house.repository).unwrap();
    let later = reader.entry(&published.snapshot, b"e").unwrap().unwrap();
    assert_eq!(later.content, Content::HardLink { path: b"d/z".to_vec() });
    // A new name that sorts before: now that one carries the content, which the base has elsewhere.
    fs::hard_link(tree.path().join("e"), tree.path().join("a")).unwrap();
    let (_, published) = house.backup(tree.path());
    assert_same(&look(tree.path()), &look(house.restore(&published).path()));
}
