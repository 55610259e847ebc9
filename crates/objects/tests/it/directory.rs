//! A directory's bad days: a full disk, a read-only one, missing rights, foreign files, crashes' leavings.

use crate::alone;
use lifeboat_base::clock::Timestamp;
use lifeboat_base::{Hint, report};
use lifeboat_objects::directory::DirectoryStore;
use lifeboat_objects::{Creation, Key, ObjectErrorKind, ObjectStore, list_all};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn put_file(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_store_that_is_not_there_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let error = DirectoryStore::open(&missing).unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::NotFound);
    assert!(report(&error).starts_with("open store at file:/"), "{}", report(&error));
    put_file(&missing, b"a file");
    assert_eq!(DirectoryStore::open(&missing).unwrap_err().kind, ObjectErrorKind::Other);
    assert!(DirectoryStore::create(missing.join("below")).is_err());
}

#[test]
fn a_store_that_vanishes_is_neither_empty_nor_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    let store = DirectoryStore::create(&root).unwrap();
    store.create(&key("a/one"), b"1").unwrap();
    fs::remove_dir_all(&root).unwrap();
    assert_eq!(list_all(&store, "").unwrap_err().kind, ObjectErrorKind::NotFound);
    assert_eq!(list_all(&store, "a/").unwrap_err().kind, ObjectErrorKind::NotFound);
    assert_eq!(store.create(&key("a/two"), b"2").unwrap_err().kind, ObjectErrorKind::NotFound);
    assert!(!root.exists());
}

#[test]
fn a_directory_that_somebody_removed_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::create(directory.path()).unwrap();
    store.create(&key("a/b/one"), b"1").unwrap();
    fs::remove_dir_all(directory.path().join("a")).unwrap();
    assert_eq!(store.create(&key("a/b/two"), b"2").unwrap(), Creation::Created);
    assert_eq!(store.get(&key("a/b/two")).unwrap(), b"2");
}

#[test]
fn what_is_no_object_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let store = DirectoryStore::create(root).unwrap();
    store.create(&key("a/one"), b"1").unwrap();
    for name in [".tmp-0123", "a/.tmp-0123", "README.txt", "lost+found/x", ".hidden/x", "a/Thumbs.db"] {
        put_file(&root.join(name), b"foreign");
    }
    put_file(&directory.path().join("outside"), b"1");
    symlink("outside", root.join("link")).unwrap();
    symlink("..", root.join("a/loop")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(root.join("fifo")).status().unwrap();
    assert!(fifo.success());
    let names: Vec<String> = list_all(&store, "").unwrap().iter().map(|l| l.key.to_string()).collect();
    assert_eq!(names, ["a/one", "outside"]);
    for name in ["link", "fifo", "a"] {
        assert!(store.get(&key(name)).unwrap_err().is_not_found(), "{name}");
        assert!(store.head(&key(name)).unwrap_err().is_not_found(), "{name}");
        assert_eq!(store.create(&key(name), b"").unwrap_err().kind, ObjectErrorKind::Other, "{name}");
    }
}

#[test]
fn objects_are_private_and_dated_by_their_arrival() {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::create(directory.path()).unwrap();
    store.create(&key("one"), b"1").unwrap();
    let path = directory.path().join("one");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1_700_000_000_123_456_789);
    fs::File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
    assert_eq!(store.head(&key("one")).unwrap().arrived, Timestamp::from_nanos(1_700_000_000_123_456_789));
}

#[test]
fn only_old_temporary_files_are_swept() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let store = DirectoryStore::create(root).unwrap();
    store.create(&key("a/b/one"), b"1").unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    for name in ["a/b/.tmp-old", ".tmp-old", "a/.tmp-young"] {
        put_file(&root.join(name), b"half");
    }
    for name in ["a/b/.tmp-old", ".tmp-old", "a/b/one"] {
        fs::File::options().write(true).open(root.join(name)).unwrap().set_modified(old).unwrap();
    }
    assert_eq!(store.sweep_temporary(Timestamp::from_secs(2000)).unwrap(), 2);
    assert_eq!(store.sweep_temporary(Timestamp::from_secs(2000)).unwrap(), 0);
    assert!(root.join("a/.tmp-young").exists());
    assert_eq!(store.get(&key("a/b/one")).unwrap(), b"1");
}

/// Runs what follows with mounts of its own, so that nothing outside sees the file system that a test makes. Root
/// needs no name space of users for that, which not every machine allows.
fn own_disk() -> &'static [&'static str] {
    match rustix::process::geteuid().is_root() {
        true => &["unshare", "--mount", "--"],
        false => &["unshare", "--user", "--map-root-user", "--mount", "--"],
    }
}

#[test]
fn a_full_disk_is_said_and_harms_nothing() {
    let Some(root) = alone::given() else {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap().to_owned();
        let script = format!("mount -t tmpfs -o size=1m tmpfs {root} && exec \"$@\"");
        let wrapper = [own_disk(), &["sh", "-c", &script, "sh"]].concat();
        alone::run("directory::a_full_disk_is_said_and_harms_nothing", &wrapper, &root, &[]);
        return;
    };
    let store = DirectoryStore::create(&root).unwrap();
    store.create(&key("packs/first"), &[7; 500_000]).unwrap();
    let error = store.create(&key("packs/second"), &[8; 2_000_000]).unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Full, "{}", report(&error));
    assert!(error.hint().unwrap().contains("space"));
    assert_eq!(store.get(&key("packs/first")).unwrap(), [7; 500_000]);
    assert!(store.get(&key("packs/second")).unwrap_err().is_not_found());
    assert_eq!(
        fs::read_dir(Path::new(&root).join("packs")).unwrap().count(),
        1,
        "nothing half-written stays"
    );
    assert_eq!(store.create(&key("packs/second"), &[8; 300_000]).unwrap(), Creation::Created);
}

#[test]
fn a_read_only_disk_is_said() {
    let Some(root) = alone::given() else {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap().to_owned();
        let script = format!("mount -t tmpfs tmpfs {root} && exec \"$@\"");
        let wrapper = [own_disk(), &["sh", "-c", &script, "sh"]].concat();
        alone::run("directory::a_read_only_disk_is_said", &wrapper, &root, &[]);
        return;
    };
    let store = DirectoryStore::create(&root).unwrap();
    store.create(&key("a/one"), b"1").unwrap();
    let remounted = std::process::Command::new("mount").args(["-o", "remount,ro", &root]).status().unwrap();
    assert!(remounted.success());
    for name in ["a/two", "b/two"] {
        let error = store.create(&key(name), b"2").unwrap_err();
        assert_eq!(error.kind, ObjectErrorKind::ReadOnly, "{}", report(&error));
    }
    assert_eq!(store.delete(&key("a/one")).unwrap_err().kind, ObjectErrorKind::ReadOnly);
    assert_eq!(DirectoryStore::create(&root).unwrap_err().kind, ObjectErrorKind::ReadOnly);
    assert_eq!(store.create(&key("a/one"), b"1").unwrap(), Creation::Existed);
    assert_eq!(store.get(&key("a/one")).unwrap(), b"1");
}

#[test]
fn missing_rights_are_said() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let store = DirectoryStore::create(directory.path().join("store")).unwrap();
    store.create(&key("a/one"), b"1").unwrap();
    fs::set_permissions(store.root().join("a"), fs::Permissions::from_mode(0o000)).unwrap();
    // Root may do everything: this one thread gives that up.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::process::Uid::from_raw(65534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            for outcome in [
                store.get(&key("a/one")).map(|_| ()),
                store.create(&key("a/two"), b"2").map(|_| ()),
                store.delete(&key("a/one")),
                list_all(&store, "").map(|_| ()),
                list_all(&store, "a/").map(|_| ()),
            ] {
                assert_eq!(outcome.unwrap_err().kind, ObjectErrorKind::Denied);
            }
        });
    });
    fs::set_permissions(store.root().join("a"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(store.get(&key("a/one")).unwrap(), b"1");
}

/// Killed at each failpoint of creating and deleting: the object is there whole or not at all, and what a
/// crash leaves behind is not listed.
#[test]
fn a_kill_at_any_instant_leaves_an_object_whole_or_not_at_all() {
    if let Some(root) = alone::given() {
        let store = DirectoryStore::open(root).unwrap();
        store.create(&key("new/object"), b"whole").unwrap();
        store.delete(&key("old/object")).unwrap();
        return;
    }
    let test = "directory::a_kill_at_any_instant_leaves_an_object_whole_or_not_at_all";
    for (failpoint, created, deleted) in [
        ("objects::directory-made", false, false),
        ("crashsafe::written", false, false),
        ("crashsafe::synced", false, false),
        ("crashsafe::named", true, false),
        ("objects::deleted", true, true),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = DirectoryStore::create(directory.path()).unwrap();
        store.create(&key("old/object"), b"old").unwrap();
        let output = killed(test, directory.path(), failpoint);
        assert!(!output.status.success(), "{failpoint} was not reached");
        let mut expected = Vec::new();
        expected.extend(created.then_some("new/object"));
        expected.extend((!deleted).then_some("old/object"));
        let names: Vec<String> = list_all(&store, "").unwrap().iter().map(|l| l.key.to_string()).collect();
        assert_eq!(names, expected, "{failpoint}");
        let creation = store.create(&key("new/object"), b"whole").unwrap();
        assert_eq!(creation == Creation::Existed, created, "{failpoint}");
        assert_eq!(store.get(&key("new/object")).unwrap(), b"whole");
    }
}

fn killed(test: &str, root: &Path, failpoint: &str) -> std::process::Output {
    use std::os::unix::process::ExitStatusExt;
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--test-threads=1"])
        .env("LIFEBOAT_TEST_ALONE", root)
        .env("LIFEBOAT_FAILPOINTS", format!("{failpoint}=kill"))
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(9), "{failpoint}: {}", String::from_utf8_lossy(&output.stdout));
    output
}
