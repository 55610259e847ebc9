//! Targets that cannot take what is restored.

use crate::support::*;
use lifeboat_base::Hint;
use lifeboat_store::materialise::MaterialiseError;
use std::path::Path;
use std::process::Command;

/// A small file system of its own, unmounted at the end.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// `None`, loudly, where this machine does not let us mount.
    fn new(test: &str, options: &str) -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        if !is_root(test) {
            return None;
        }
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "lifeboat-test"])
            .arg(place.path())
            .status();
        if mounted.is_ok_and(|status| status.success()) { Some(Self(place)) } else { skipped(test) }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn skipped(test: &str) -> Option<Mounted> {
    eprintln!("SKIPPED, needs to mount: {test}");
    None
}

fn restore_error(published_tree: &Path, into: &Path) -> MaterialiseError {
    let house = House::new();
    let (_, published) = house.backup(published_tree);
    house.try_restore(&published, into, &[]).unwrap_err()
}

#[test]
fn a_full_disk_ends_the_restore_with_a_hint() {
    let Some(target) = Mounted::new("a_full_disk_ends_the_restore_with_a_hint", "size=1m") else { return };
    let tree = tempfile::tempdir().unwrap();
    for n in 0..40 {
        write(tree.path().join(format!("{n:02}")), vec![n; 50_000]);
    }
    let error = restore_error(tree.path(), target.path());
    assert!(matches!(error, MaterialiseError::Target(_)), "{error:?}");
    assert!(lifeboat_base::report(&error).ends_with("No space left on device (os error 28)"), "{error:?}");
    assert!(error.hint().unwrap().contains("space"));
    // What looks like a file is whole.
    for entry in std::fs::read_dir(target.path()).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().len(), 50_000);
    }
}

#[test]
fn a_read_only_target_ends_the_restore_with_a_hint() {
    let Some(target) = Mounted::new("a_read_only_target_ends_the_restore_with_a_hint", "ro") else { return };
    let tree = tempfile::tempdir().unwrap();
    write(tree.path().join("file"), b"x");
    let error = restore_error(tree.path(), target.path());
    assert!(lifeboat_base::report(&error).ends_with("Read-only file system (os error 30)"), "{error:?}");
    assert!(error.hint().unwrap().contains("writable"));
}

#[test]
fn no_inodes_left_is_a_full_disk_too() {
    let Some(target) = Mounted::new("no_inodes_left_is_a_full_disk_too", "size=16m,nr_inodes=60") else {
        return;
    };
    let tree = tempfile::tempdir().unwrap();
    for n in 0..100 {
        std::fs::create_dir(tree.path().join(format!("{n:03}"))).unwrap();
    }
    let error = restore_error(tree.path(), target.path());
    assert!(lifeboat_base::report(&error).contains("No space left on device"), "{error:?}");
}

#[test]
fn what_stands_in_the_way_is_not_overwritten() {
    // Somebody else's file stands where one of ours should go; it is not overwritten.
    let (tree, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(tree.path().join("a"), b"ours");
    write(tree.path().join("b"), b"ours");
    write(target.path().join("a"), b"theirs");
    let house = House::new();
    let (_, published) = house.backup(tree.path());
    let report = house.try_restore(&published, target.path(), &[]).unwrap();
    assert_eq!((report.files, report.left_out.count), (1, 1));
    assert_eq!(lifeboat_base::report(&report.left_out.first[0]), "write a: File exists (os error 17)");
    assert_eq!(std::fs::read(target.path().join("a")).unwrap(), b"theirs");
}
