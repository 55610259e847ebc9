//! What is left out on purpose, and what has to be.

use crate::support::*;
use lifeboat_base::Hint;
use lifeboat_store::exclude::{Exclude, Patterns};
use lifeboat_store_files::{FilesDriver, FilesError, FilesOptions};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn paths(root: &Path) -> Vec<String> {
    look(root).into_keys().map(|path| String::from_utf8(path).unwrap()).collect()
}

fn backup_with(house: &House, root: &Path, options: FilesOptions) -> (u64, Vec<String>) {
    let (report, published) = house.try_backup(root, options).unwrap();
    assert!(report.left_out.is_empty());
    (report.excluded, paths(house.restore(&published).path()))
}

#[test]
fn patterns_and_caches() {
    let tree = tempfile::tempdir().unwrap();
    for directory in ["cache/deep", "build", "src/build"] {
        fs::create_dir_all(tree.path().join(directory)).unwrap();
    }
    for file in ["a.log", "keep.log", "build/out", "src/build/out", "src/main.rs", "cache/x", "cache/deep/y"]
    {
        write(tree.path().join(file), file);
    }
    write(tree.path().join("cache/CACHEDIR.TAG"), b"Signature: 8a477f597d28d172789f06886806bc55\n");
    let exclude = Exclude {
        patterns: Patterns::parse(["*.log", "!keep.log", "/build/"]).unwrap(),
        caches: true,
        one_file_system: false,
    };
    let options = FilesOptions { exclude, never: Vec::new() };
    let (excluded, kept) = backup_with(&House::new(), tree.path(), options);
    assert_eq!(
        kept,
        ["", "cache", "cache/CACHEDIR.TAG", "keep.log", "src", "src/build", "src/build/out", "src/main.rs"]
    );
    assert_eq!(excluded, 4);
}

#[test]
fn the_repository_itself_is_never_recorded() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("repo/packs")).unwrap();
    write(tree.path().join("file"), b"x");
    std::os::unix::fs::symlink("repo", tree.path().join("link")).unwrap();
    let never = vec![tree.path().join("link"), PathBuf::from("/nonexistent-lifeboat")];
    let (excluded, kept) =
        backup_with(&House::new(), tree.path(), FilesOptions { never, ..FilesOptions::default() });
    assert_eq!((excluded, kept), (1, vec!["".to_owned(), "file".to_owned(), "link".to_owned()]));
}

#[test]
fn other_file_systems_are_left_where_they_are() {
    // A root that has another one mounted below in every Linux: /dev has /dev/pts or /dev/shm.
    let root = Path::new("/dev");
    let device = |path: &Path| rustix::fs::lstat(path).map(|stat| stat.st_dev).ok();
    let mounted: Vec<&str> = ["pts", "shm", "mqueue"]
        .into_iter()
        .filter(|name| device(&root.join(name)).is_some_and(|below| Some(below) != device(root)))
        .collect();
    assert!(!mounted.is_empty(), "no file system is mounted below /dev");
    let exclude = Exclude {
        patterns: Patterns::parse(["/*", "!/pts", "!/shm", "!/mqueue"]).unwrap(),
        one_file_system: true,
        caches: false,
    };
    let house = House::new();
    let (report, published) = house.try_backup(root, FilesOptions { exclude, never: Vec::new() }).unwrap();
    assert_eq!(report.left_out.count, 0, "{report:?}");
    let reader = lifeboat_repository::Reader::new(&house.repository).unwrap();
    for name in mounted {
        let entry = reader.entry(&published.snapshot, name.as_bytes()).unwrap().unwrap();
        assert_eq!(
            entry.content,
            lifeboat_repository::tree::Content::Nothing,
            "{name} is recorded, and empty"
        );
    }
}

#[test]
fn a_root_that_is_not_there_is_an_error_with_a_hint() {
    let place = tempfile::tempdir().unwrap();
    write(place.path().join("file"), b"");
    for (name, kind) in
        [("missing", std::io::ErrorKind::NotFound), ("file", std::io::ErrorKind::NotADirectory)]
    {
        let driver = FilesDriver::new(place.path().join(name), FilesOptions::default());
        let Err(error @ FilesError::Root(_)) = driver.probe() else { panic!("{name} is no root") };
        assert!(error.hint().is_some());
        assert!(matches!(&error, FilesError::Root(cause) if cause.kind() == kind), "{error:?}");
        assert!(error.to_string().ends_with(name));
    }
}

#[test]
fn a_root_that_vanishes_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    fs::create_dir(&root).unwrap();
    write(root.join("pipe"), b"");
    let house = House::new();
    let driver = FilesDriver::new(&root, FilesOptions::default());
    let mut writer = house.writer();
    // The root is removed by the one who watches the progress, that is while it is read.
    let progress = lifeboat_store::progress::Progress::default();
    let result = std::thread::scope(|scope| {
        for n in 0..2000 {
            write(root.join(format!("{n}")), b"x");
        }
        let (root, progress) = (&root, &progress);
        scope.spawn(move || {
            while progress.entries() == 0 {
                std::hint::spin_loop();
            }
            fs::remove_dir_all(root).unwrap();
        });
        driver.snapshot(&mut writer, progress)
    });
    // Where the reader was faster, there is a report; it is never an empty success after the removal.
    match result {
        Err(FilesError::Vanished { path }) => assert_eq!(path, root),
        Err(other) => panic!("{other:?}"),
        Ok(report) => assert!(report.files > 0),
    }
}

#[test]
fn what_cannot_be_read_is_listed_and_the_rest_goes_on() {
    if !is_root("what_cannot_be_read_is_listed_and_the_rest_goes_on") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    fs::create_dir_all(tree.join("closed/inner")).unwrap();
    write(tree.join("open"), b"open");
    write(tree.join("secret"), b"secret");
    write(tree.join("z-setuid"), b"s");
    fs::set_permissions(tree.join("secret"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::set_permissions(tree.join("z-setuid"), PermissionsExt::from_mode(0o4755)).unwrap();
    fs::set_permissions(tree.join("closed"), PermissionsExt::from_mode(0o700)).unwrap();
    fs::set_permissions(&tree, PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o777)).unwrap();
    as_nobody("leaving_out::as_somebody_who_may_read_little", place.path());
}

/// Run by the test above, as another user.
#[test]
#[ignore = "only as another user, by what_cannot_be_read_is_listed_and_the_rest_goes_on"]
fn as_somebody_who_may_read_little() {
    let place = PathBuf::from(std::env::var_os("LIFEBOAT_TEST_DIRECTORY").unwrap());
    let house = House::new();
    let (report, published) = house.try_backup(&place.join("tree"), FilesOptions::default()).unwrap();
    assert_eq!((report.files, report.directories, report.left_out.count), (2, 1, 2));
    let told: Vec<String> = report.left_out.first.iter().map(|p| lifeboat_base::report(p)).collect();
    assert_eq!(
        told,
        [
            "open directory closed: Permission denied (os error 13)",
            "open secret: Permission denied (os error 13)"
        ]
    );
    assert_eq!(published.snapshot.stats.left_out, 2);
    // And back: everything but owners, and no setuid bit without its owner.
    let into = tempfile::tempdir().unwrap();
    let report = house.try_restore(&published, into.path(), &[]).unwrap();
    assert_eq!((report.files, report.directories, report.left_out.count), (2, 1, 0));
    let told: Vec<String> = report.refused.first.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "set owner of open",
            "set owner of z-setuid",
            "set mode of z-setuid",
            "set owner of closed",
            "set owner of ."
        ]
    );
    let seen = look(into.path());
    assert_eq!(seen[&b"z-setuid"[..]].mode & 0o7777, 0o755);
    assert_eq!(seen[&b"closed"[..]].mode & 0o7777, 0o700);
    assert_eq!(seen[&b"open"[..]].content, b"open");
}
