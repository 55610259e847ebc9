//! Disks that are full, read-only or not ours, on both sides; sources that vanish.

use crate::place::{PROGRAM, Place, Ran, is_root_or_skip, noise};
use crate::tree;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own in memory, gone when this is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], &path);
        Self(path)
    }

    fn remount(&self, options: &str) {
        mount(&["-o", &format!("remount,{options}")], &self.0);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], path: &Path) {
    let mounted = Command::new("mount").args(arguments).arg(path).status().unwrap();
    assert!(mounted.success(), "mount {arguments:?} {}", path.display());
}

/// A copy of the program that everybody may run, in a folder that everybody may enter.
pub(crate) fn public_copy(place: &Place) -> PathBuf {
    std::fs::set_permissions(place.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = place.path("lifeboat");
    std::fs::copy(PROGRAM, &copy).unwrap();
    copy
}

/// Runs a copy of the program as nobody, who owns the repository and the state.
pub(crate) fn as_nobody(place: &Place, program: &Path, arguments: &[&str]) -> Ran {
    let owned = ["repo", "state", "key"].map(|name| place.path(name));
    let chown = Command::new("chown").args(["-R", "65534:65534"]).args(owned).status().unwrap();
    assert!(chown.success());
    let mut words = vec!["--reuid=65534", "--regid=65534", "--clear-groups", program.to_str().unwrap()];
    words.extend(arguments);
    Ran::of(&mut place.wrapped(OsStr::new("setpriv"), &words))
}

fn move_repository(place: &Place, disk: &Path) {
    crate::place::copy_folder(&place.path("repo"), disk);
    std::fs::remove_dir_all(place.path("repo")).unwrap();
    std::os::unix::fs::symlink(disk, place.path("repo")).unwrap();
}

#[test]
fn a_full_repository_loses_nothing_and_goes_on_after_space_is_freed() {
    if !is_root_or_skip("a repository on a full disk") {
        return;
    }
    let place = Place::with_snapshot();
    let disk = Disk::mount(place.path("disk"), "16m");
    move_repository(&place, &disk.0);
    place.write("disk/ballast", vec![0; 11 << 20]);
    let before = tree::of(&place.path("tree"));
    let first = place.json(&["points"])["points"][0]["snapshot"].as_str().unwrap().to_owned();
    place.write("tree/large", noise(1, 8 << 20));
    let full = place.run(&["backup", "tree"]).refused(1, "tree: ", "Free or add space");
    assert!(full.stderr.contains("No space left") || full.stderr.contains("full"), "{full}");
    place.run(&["check", "--read-data"]).expect(0);
    place.ok(&["restore", "tree", "--to", &first, "--into", "out"]);
    assert_eq!(tree::of(&place.path("out")), before);
    std::fs::remove_file(place.path("disk/ballast")).unwrap();
    place.assert_healthy("space was freed");
}

#[test]
fn with_no_byte_left_everything_can_still_be_read() {
    if !is_root_or_skip("a repository on a disk without a free byte") {
        return;
    }
    let place = Place::with_snapshot();
    let disk = Disk::mount(place.path("disk"), "4m");
    move_repository(&place, &disk.0);
    fill(&place.path("disk/ballast"));
    place.run(&["restore", "tree", "--to", "latest", "--into", "out"]).expect(0);
    assert_eq!(tree::of(&place.path("out")), tree::of(&place.path("tree")));
    place.run(&["prove", "tree"]).expect(0);
    place.run(&["check", "--read-data"]).expect(0);
    place.run(&["backup", "tree"]).refused(1, "tree: ", "Free or add space");
    place.run(&["prune"]).refused(1, "", "Free or add space");
    std::fs::remove_file(place.path("disk/ballast")).unwrap();
    place.assert_healthy("space was freed");
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}

#[test]
fn a_read_only_repository_is_read_without_a_pin_and_refuses_the_rest() {
    if !is_root_or_skip("a repository on a read-only disk") {
        return;
    }
    let place = Place::with_snapshot();
    let disk = Disk::mount(place.path("disk"), "16m");
    move_repository(&place, &disk.0);
    disk.remount("ro");
    let restored = place.run(&["restore", "tree", "--to", "latest", "--into", "out"]).expect(0);
    assert!(restored.stderr.contains("without a pin"), "{restored}");
    assert_eq!(tree::of(&place.path("out")), tree::of(&place.path("tree")));
    for readable in
        [&["check", "--read-data"][..], &["points"], &["ls", "tree"], &["prove"], &["prune", "--dry-run"]]
    {
        place.run(readable).expect(0);
    }
    for writing in
        [&["backup", "tree"][..], &["prune"], &["forget", "tree", "latest"], &["key", "add", "--recovery"]]
    {
        let ran = place.run(writing).refused(1, "", "writable");
        assert!(ran.stderr.contains("Read-only"), "{ran}");
    }
    disk.remount("rw");
    place.assert_healthy("the disk became writable");
}

#[test]
fn a_restore_that_has_no_room_says_so_before_it_writes() {
    if !is_root_or_skip("a restore into a full disk") {
        return;
    }
    let place = Place::with_snapshot();
    place.write("tree/large", noise(2, 3 << 20));
    place.backup();
    let disk = Disk::mount(place.path("disk"), "2m");
    let restore = |more: &[&str]| {
        place.run(&[&["restore", "tree", "--to", "latest", "--into", "disk/out"], more].concat())
    };
    restore(&[]).refused(1, "bytes free", "--include");
    assert!(!place.path("disk/out").exists());
    restore(&["--include", "*.txt"]).expect(0);
    std::fs::remove_dir_all(place.path("disk/out")).unwrap();
    disk.remount("ro");
    restore(&[]).refused(1, "disk", "written to");
    place.run(&["prove", "--scratch", "disk"]).refused(1, "disk", "written to");
}

/// Every file takes a page of its own there, which nobody can know beforehand.
#[test]
fn a_disk_that_fills_up_during_a_restore_is_said() {
    if !is_root_or_skip("a restore into a disk that fills up") {
        return;
    }
    let place = Place::new();
    for n in 0..400 {
        place.write(&format!("tree/{n}"), n.to_string());
    }
    place.backup();
    let _disk = Disk::mount(place.path("disk"), "1m");
    let ran = place.run(&["restore", "tree", "--to", "latest", "--into", "disk/out"]);
    ran.refused(1, "No space left", "space");
    place.ok(&["restore", "tree", "--to", "latest", "--into", "elsewhere"]);
    assert_eq!(tree::of(&place.path("elsewhere")), tree::of(&place.path("tree")));
}

#[test]
fn state_that_cannot_be_kept_is_said() {
    if !is_root_or_skip("a state directory on a read-only disk") {
        return;
    }
    let place = Place::with_snapshot();
    let disk = Disk::mount(place.path("disk"), "1m");
    crate::place::copy_folder(&place.path("state"), &disk.0);
    fill(&place.path("disk/ballast"));
    let with = |arguments: &[&str]| place.run(&[arguments, &["--state-dir", "disk"]].concat());
    place.backup();
    with(&["backup", "tree"]).refused(1, "keep local state", "state directory");
    disk.remount("ro");
    with(&["backup", "tree"]).refused(1, "keep local state", "state directory");
    place.assert_healthy("another state directory failed");
}

#[test]
fn what_cannot_be_read_is_listed_and_the_rest_is_taken() {
    if !is_root_or_skip("a backup as a user who may not read everything") {
        return;
    }
    let place = Place::new();
    place.write("tree/open", "everybody's\n");
    place.write("tree/secret", "root's\n");
    place.write("tree/closed/within", "root's\n");
    for (path, mode) in
        [("tree", 0o755), ("tree/open", 0o644), ("tree/secret", 0o600), ("tree/closed", 0o700)]
    {
        std::fs::set_permissions(place.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let program = public_copy(&place);
    let ran = as_nobody(&place, &program, &["backup", "tree", "--json"]).expect(5);
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["backups"][0]["left_out"]["count"], 2, "{ran}");
    for path in ["secret", "closed"] {
        assert!(ran.stderr.contains("left out: ") && ran.stderr.contains(path), "{ran}");
    }
    let proven = as_nobody(&place, &program, &["prove", "tree"]).expect(4);
    assert!(
        proven.stdout.contains("inconclusive") && proven.stdout.contains("2 entries could not be read"),
        "{proven}"
    );
    assert_eq!(as_nobody(&place, &program, &["dump", "tree", "open"]).expect(0).stdout, "everybody's\n");
}

#[test]
fn a_source_that_vanishes_during_the_backup_is_said() {
    let place = Place::with_snapshot();
    let earlier = place.json(&["points"]);
    let mut command = place.command(&["backup", "tree"]);
    command
        .env("LIFEBOAT_FAILPOINTS", "lease::claimed=pause:2000")
        .env("LIFEBOAT_FAILPOINTS_SEEN", place.path("seen"));
    let child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while !std::fs::read_to_string(place.path("seen")).is_ok_and(|seen| seen.contains("lease::claimed")) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    rename(&place, "tree", "moved");
    Ran::from(child.wait_with_output().unwrap()).refused(1, "tree", "mounted");
    assert_eq!(place.json(&["points"]), earlier, "nothing is published");
    rename(&place, "moved", "tree");
    place.assert_healthy("the source came back");
}

/// A rename that need not survive a crash.
#[expect(clippy::disallowed_methods, reason = "the test moves its own folder")]
fn rename(place: &Place, from: &str, to: &str) {
    std::fs::rename(place.path(from), place.path(to)).unwrap();
}
