//! What goes in comes back: everything that a file system says of a path.

use crate::support::*;
use lifeboat_store::chain::Chain;
use lifeboat_store::{Directory, Name};
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

fn chmod(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn set_time(path: impl AsRef<Path>, secs: i64, nanos: i64) {
    let time = Timespec { tv_sec: secs, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path.as_ref(), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_xattr(path: impl AsRef<Path>, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path.as_ref(), name, value, XattrFlags::empty()).unwrap();
}

fn make_node(path: &Path, kind: FileType, device: u64) {
    rustix::fs::mknodat(CWD, path, kind, Mode::RUSR, device).unwrap();
}

#[test]
fn everything_that_a_user_can_make() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    write(root.join("empty"), b"");
    write(root.join("small"), b"content");
    write(root.join("large"), (0..200_000u32).map(|n| (n / 7) as u8).collect::<Vec<_>>());
    write(root.join(name(b"not-utf8-\xff\xfe\n")), b"x");
    fs::create_dir(root.join("d")).unwrap();
    fs::create_dir(root.join("d/empty")).unwrap();
    write(root.join("d/file"), b"y");
    fs::hard_link(root.join("small"), root.join("d/again")).unwrap();
    fs::hard_link(root.join("small"), root.join("a-first-name")).unwrap();
    symlink("small", root.join("link")).unwrap();
    symlink("/nowhere/".repeat(400), root.join("long-link")).unwrap();
    symlink(name(b"\xff"), root.join("odd-link")).unwrap();
    make_node(&root.join("pipe"), FileType::Fifo, 0);
    make_node(&root.join("socket"), FileType::Socket, 0);
    for (n, mode) in [0o000, 0o400, 0o4755, 0o2711, 0o1777, 0o777, 0o606].into_iter().enumerate() {
        let path = root.join(format!("mode-{n}"));
        write(&path, b"m");
        set_time(&path, [-2_000_000_000, -1, 0, 1, 4_000_000_000, 5, 6][n], 999_999_999 - n as i64);
        chmod(&path, mode);
    }
    set_xattr(root.join("small"), "user.comment", b"\0\xff");
    set_xattr(root.join("d"), "user.on-directory", &[7; 3000]);
    set_time(root.join("link"), -77, 123);
    set_time(root.join("pipe"), 77, 1);
    chmod(root.join("d/empty"), 0o2750);
    set_time(root.join("d"), 1_234_567_890, 123_456_789);
    set_time(root, 1, 1);
    chmod(root, 0o1750);
    let before = look(root);
    let after = House::new().round_trip(root);
    assert_same(&before, &look(after.path()));
}

#[test]
fn everything_that_only_root_can_make() {
    if !is_root("everything_that_only_root_can_make") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    make_node(&root.join("char"), FileType::CharacterDevice, rustix::fs::makedev(4095, 1_048_575));
    make_node(&root.join("block"), FileType::BlockDevice, rustix::fs::makedev(7, 3));
    fs::hard_link(root.join("char"), root.join("char-again")).unwrap();
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, bits, id) in [
        (1u16, 7u16, u32::MAX),
        (2, 5, 4711),
        (4, 5, u32::MAX),
        (8, 1, 99),
        (0x10, 7, u32::MAX),
        (0x20, 1, u32::MAX),
    ] {
        acl.extend([tag.to_le_bytes(), bits.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    for path in ["file", "setuid"] {
        write(root.join(path), path);
        std::os::unix::fs::chown(root.join(path), Some(1234), Some(4321)).unwrap();
    }
    chmod(root.join("setuid"), 0o6755);
    set_xattr(
        root.join("setuid"),
        "security.capability",
        &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    set_xattr(root.join("file"), "system.posix_acl_access", &acl);
    fs::create_dir(root.join("d")).unwrap();
    set_xattr(root.join("d"), "system.posix_acl_default", &acl);
    write(root.join("d/inherits"), b"");
    fs::create_dir(root.join("closed")).unwrap();
    write(root.join("closed/inside"), b"seen by root alone");
    chmod(root.join("closed"), 0o000);
    symlink("x", root.join("link")).unwrap();
    std::os::unix::fs::lchown(root.join("link"), Some(1), Some(2)).unwrap();
    set_xattr(root.join("link"), "trusted.t", b"v");
    set_xattr(root.join("char"), "trusted.t", b"w");
    std::os::unix::fs::chown(root, Some(65534), Some(65533)).unwrap();
    let before = look(root);
    let after = House::new().round_trip(root);
    assert_same(&before, &look(after.path()));
}

#[test]
fn holes_stay_holes() {
    let tree = tempfile::tempdir().unwrap();
    let file = fs::File::create(tree.path().join("sparse")).unwrap();
    file.set_len(1 << 33).unwrap();
    for at in [0, 1 << 20, (1 << 32) + 5, (1 << 33) - 3] {
        file.write_all_at(b"abc", at).unwrap();
    }
    let hole = fs::File::create(tree.path().join("all-hole")).unwrap();
    hole.set_len(1 << 40).unwrap();
    let (report, published) = House::new().backup_and_keep(tree.path());
    assert!(report.bytes_read < 1 << 20, "{} bytes read", report.bytes_read);
    let after = published;
    for (path, size) in [("sparse", 1u64 << 33), ("all-hole", 1 << 40)] {
        let metadata = fs::metadata(after.path().join(path)).unwrap();
        assert_eq!(metadata.len(), size);
        assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) < 200, "{path}");
    }
    let restored = fs::File::open(after.path().join("sparse")).unwrap();
    let mut bytes = [0; 6];
    for (at, expected) in [
        (0, b"abc\0\0\0"),
        (1 << 20, b"abc\0\0\0"),
        ((1 << 32) + 3, b"\0\0abc\0"),
        ((1 << 33) - 6, b"\0\0\0abc"),
    ] {
        restored.read_exact_at(&mut bytes, at).unwrap();
        assert_eq!(&bytes, expected, "at {at}");
    }
}

impl House {
    fn backup_and_keep(&self, root: &Path) -> (lifeboat_store_files::SnapshotReport, tempfile::TempDir) {
        let (report, published) = self.backup(root);
        let restored = self.restore(&published);
        (report, restored)
    }
}

#[test]
fn paths_longer_than_the_kernel_takes() {
    let tree = tempfile::tempdir().unwrap();
    let part = "long".repeat(30);
    let directory = Name::new(part.as_bytes()).unwrap();
    let leaf = Name::new(b"leaf").unwrap();
    let mut chain = Chain::new(Directory::open_root(tree.path()).unwrap());
    for _ in 0..300 {
        chain.current().unwrap().create_child(directory).unwrap();
        chain.enter(directory).unwrap();
    }
    assert!(chain.path().len() > 4096 * 8);
    let file = chain.current().unwrap().create_file(leaf, Mode::RUSR).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    // A second name for it at the top, which sorts before.
    let root = Directory::open_root(tree.path()).unwrap();
    root.create_link(Name::new(b"a").unwrap(), chain.current().unwrap(), leaf).unwrap();
    let after = House::new().round_trip(tree.path());
    let mut chain = Chain::new(Directory::open_root(after.path()).unwrap());
    for _ in 0..300 {
        chain.enter(directory).unwrap();
    }
    let stat = chain.current().unwrap().stat(leaf).unwrap();
    assert_eq!((stat.st_size, stat.st_nlink), (4, 2));
    assert_eq!(fs::read(after.path().join("a")).unwrap(), b"deep");
}

#[test]
fn a_large_directory() {
    let tree = tempfile::tempdir().unwrap();
    for n in 0..5000 {
        write(tree.path().join(format!("{:08x}", n * 2_654_435_761u64 % 0xffff_ffff)), format!("{n}"));
    }
    let before = look(tree.path());
    assert_same(&before, &look(House::new().round_trip(tree.path()).path()));
}

#[test]
fn included_paths_alone() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("a/b")).unwrap();
    write(tree.path().join("a/b/wanted.txt"), b"w");
    write(tree.path().join("a/b/other"), b"o");
    write(tree.path().join("a/first"), b"linked");
    fs::hard_link(tree.path().join("a/first"), tree.path().join("z.txt")).unwrap();
    set_time(tree.path().join("a"), 5, 5);
    let house = House::new();
    let (_, published) = house.backup(tree.path());
    let into = tempfile::tempdir().unwrap();
    let report: RestoreReport = house.try_restore(&published, into.path(), &["*.txt"]).unwrap();
    assert_eq!((report.files, report.directories, report.hard_links), (2, 2, 0));
    let (before, after) = (look(tree.path()), look(into.path()));
    for path in ["", "a", "a/b", "a/b/wanted.txt"] {
        assert_eq!(before[path.as_bytes()], after[path.as_bytes()], "{path}");
    }
    assert_eq!(after[&b"z.txt"[..]].content, b"linked");
    assert_eq!(after.len(), 5);
}

/// A tree to make: what a name is, and in a directory what lies below.
#[derive(Clone, Debug)]
enum Plant {
    File {
        bytes: Vec<u8>,
        mode: u32,
        secs: i64,
        nanos: i64,
        xattr: Option<Vec<u8>>,
    },
    Sparse {
        size: u64,
        at: Vec<u64>,
    },
    Link(Vec<u8>),
    Pipe,
    /// Another name of an earlier file.
    Again(usize),
    Directory {
        below: Vec<(Vec<u8>, Plant)>,
        mode: u32,
        secs: i64,
    },
}

fn some_name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(b"ab.-\\*[\n\xff\xc3\xa9 ".to_vec()), 1..12)
        .prop_filter("a name", |name| Name::new(name).is_ok())
}

fn some_plant() -> impl Strategy<Value = Plant> {
    let file = (
        prop::collection::vec(any::<u8>(), 0..30_000),
        0u32..0o10000,
        -3_000_000_000i64..5_000_000_000,
        0i64..1_000_000_000,
        prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
    )
        .prop_map(|(bytes, mode, secs, nanos, xattr)| Plant::File { bytes, mode, secs, nanos, xattr });
    let sparse = (0u64..5_000_000, prop::collection::vec(0u64..5_000_000, 0..6))
        .prop_map(|(size, at)| Plant::Sparse { size, at });
    let target = prop::collection::vec(1u8..=255, 1..200).prop_map(Plant::Link);
    let leaf = prop_oneof![6 => file, 1 => sparse, 2 => target, 1 => Just(Plant::Pipe), 2 => any::<usize>().prop_map(Plant::Again)];
    leaf.prop_recursive(4, 40, 8, |inner| {
        (prop::collection::vec((some_name(), inner), 0..8), 0u32..0o10000, -1000i64..1_000_000)
            .prop_map(|(below, mode, secs)| Plant::Directory { below, mode: mode | 0o700, secs })
    })
}

fn plant(path: &Path, what: &Plant, files: &mut Vec<std::path::PathBuf>) {
    if fs::symlink_metadata(path).is_ok() {
        return;
    }
    match what {
        Plant::File { bytes, mode, secs, nanos, xattr } => {
            write(path, bytes);
            if let Some(value) = xattr {
                set_xattr(path, "user.x", value);
            }
            chmod(path, *mode | 0o400);
            set_time(path, *secs, *nanos);
            files.push(path.to_owned());
        }
        Plant::Sparse { size, at } => {
            let file = fs::File::create(path).unwrap();
            at.iter().for_each(|at| file.write_all_at(b"data", *at).unwrap());
            file.set_len(*size).unwrap();
            file.sync_all().unwrap();
            files.push(path.to_owned());
        }
        Plant::Link(target) => symlink(name(target), path).unwrap(),
        Plant::Pipe => make_node(path, FileType::Fifo, 0),
        Plant::Again(n) => {
            if let Some(first) = n.checked_rem(files.len()).map(|n| &files[n]) {
                fs::hard_link(first, path).unwrap();
            }
        }
        Plant::Directory { below, mode, secs } => {
            fs::create_dir(path).unwrap();
            below.iter().for_each(|(below, what)| plant(&path.join(name(below)), what, files));
            chmod(path, *mode);
            set_time(path, *secs, 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_back(below in prop::collection::vec((some_name(), some_plant()), 0..12)) {
        let tree = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        below.iter().for_each(|(below, what)| plant(&tree.path().join(name(below)), what, &mut files));
        let before = look(tree.path());
        let house = House::new();
        let after = house.round_trip(tree.path());
        assert_same(&before, &look(after.path()));
        // The second snapshot takes every file over and gives the same tree.
        let (report, published) = house.backup(tree.path());
        prop_assert_eq!(report.unchanged, report.files);
        assert_same(&before, &look(house.restore(&published).path()));
    }
}
