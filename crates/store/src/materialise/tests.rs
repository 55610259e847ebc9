//! Hostile and unusual snapshots. Round trips are tested with the driver that reads real trees.

use super::*;
use crate::exclude::Patterns;
use crate::memory::MemoryTree;
use crate::testing::is_root;
use lifeboat_repository::tree::{Extent, FileTime};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn entry(name: impl Into<Vec<u8>>, kind: EntryKind, content: Content) -> Entry {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut entry = Entry::new(name, kind);
    entry.metadata = Metadata {
        mode: if kind == EntryKind::Directory { 0o755 } else { 0o644 },
        uid,
        gid,
        modified: FileTime { secs: 1_000_000, nanos: 7 },
        ..Metadata::default()
    };
    entry.content = content;
    entry
}

fn file(tree: &mut MemoryTree, name: &str, bytes: &[u8]) -> Entry {
    let content = tree.add_stream(bytes);
    Entry { size: bytes.len() as u64, ..entry(name, EntryKind::File, content) }
}

fn directory(tree: &mut MemoryTree, name: &str, entries: Vec<Entry>) -> Entry {
    let nodes = tree.add_listing(entries);
    entry(name, EntryKind::Directory, Content::Listing { nodes })
}

fn symlink(name: &str, target: &str) -> Entry {
    entry(name, EntryKind::Symlink, Content::Target { path: target.into() })
}

fn hard_link(name: &str, target: &str) -> Entry {
    entry(name, EntryKind::File, Content::HardLink { path: target.into() })
}

fn tree_of(build: impl FnOnce(&mut MemoryTree) -> Vec<Entry>) -> MemoryTree {
    let mut tree = MemoryTree::default();
    let entries = build(&mut tree);
    tree.nodes = tree.add_listing(entries);
    tree.metadata = entry("", EntryKind::Directory, Content::Nothing).metadata;
    tree
}

fn restore(tree: &MemoryTree, into: &Path, patterns: &[&str], window_bytes: usize) -> Result<Report> {
    let include = Include::new(Patterns::parse(patterns).unwrap());
    let options = Options { include: &include, window_bytes, progress: &Progress::default() };
    materialise(tree, Directory::open_root(into).unwrap(), options)
}

/// A target with a neighbour that nothing may reach.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.target()).unwrap();
        fs::create_dir(place.neighbour()).unwrap();
        place
    }

    fn target(&self) -> std::path::PathBuf {
        self.0.path().join("target")
    }

    fn neighbour(&self) -> std::path::PathBuf {
        self.0.path().join("neighbour")
    }

    fn assert_nothing_escaped(&self) {
        let mut names: Vec<_> =
            fs::read_dir(self.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["neighbour", "target"]);
        assert_eq!(fs::read_dir(self.neighbour()).unwrap().count(), 0);
    }
}

#[test]
fn names_that_leave_the_target_are_refused() {
    for name in ["..", ".", "", "/etc/x", "a/b", "../neighbour/x", "nul\0"] {
        for kind in [EntryKind::File, EntryKind::Directory, EntryKind::Symlink, EntryKind::Fifo] {
            let place = Place::new();
            let tree = tree_of(|tree| {
                let nodes = tree.add_listing(Vec::new());
                let content = match kind {
                    EntryKind::Directory => Content::Listing { nodes },
                    EntryKind::Symlink => Content::Target { path: b"x".into() },
                    _ => Content::Nothing,
                };
                let bad = entry(name, kind, content);
                vec![directory(tree, "d", vec![bad])]
            });
            let error = restore(&tree, &place.target(), &[], WINDOW_BYTES).unwrap_err();
            assert!(matches!(error, MaterialiseError::Unsafe { .. }), "{name:?}: {error}");
            assert!(lifeboat_base::report(&error).starts_with("restore into d: "), "{error}");
            assert!(error.hint().is_some());
            place.assert_nothing_escaped();
        }
    }
}

#[test]
fn a_directory_below_a_link_of_the_same_name_is_refused() {
    let place = Place::new();
    let outside = place.neighbour();
    let tree = tree_of(|tree| {
        let inner = file(tree, "x", b"escaped");
        vec![symlink("d", outside.to_str().unwrap()), directory(tree, "d", vec![inner])]
    });
    let error = restore(&tree, &place.target(), &[], WINDOW_BYTES).unwrap_err();
    assert!(matches!(error, MaterialiseError::Impossible { .. }), "{error}");
    place.assert_nothing_escaped();
}

/// Somebody who can write to the target swaps a directory for a link while the restore runs: here before it
/// begins, which the command would refuse.
#[test]
fn a_link_planted_in_the_target_is_not_followed() {
    let place = Place::new();
    std::os::unix::fs::symlink(place.neighbour(), place.target().join("d")).unwrap();
    std::os::unix::fs::symlink(place.neighbour().join("y"), place.target().join("e")).unwrap();
    let tree = tree_of(|tree| {
        let inner = file(tree, "x", b"escaped");
        let outer = file(tree, "e", b"escaped");
        vec![directory(tree, "d", vec![inner]), outer, file(tree, "f", b"fine")]
    });
    let report = restore(&tree, &place.target(), &[], WINDOW_BYTES).unwrap();
    assert_eq!((report.files, report.left_out.count), (1, 2));
    assert_eq!(report.left_out.first[0].to_string(), "create directory d");
    place.assert_nothing_escaped();
}

#[test]
fn hard_links_out_of_the_target_are_refused() {
    for target in
        ["../neighbour/secret", "/etc/passwd", "d/../../neighbour/secret", "link/secret", "a//b", ""]
    {
        let place = Place::new();
        let outside = place.neighbour().to_str().unwrap().to_owned();
        let tree = tree_of(|_| vec![symlink("link", &outside), hard_link("mine", target)]);
        fs::File::create(place.neighbour().join("secret")).unwrap();
        let report = restore(&tree, &place.target(), &[], WINDOW_BYTES).unwrap();
        assert_eq!((report.hard_links, report.left_out.count), (0, 1), "{target}");
        assert!(!place.target().join("mine").exists());
    }
}

#[test]
fn a_kind_with_the_content_of_another_is_refused() {
    for (kind, content) in [
        (EntryKind::File, Content::Target { path: b"x".into() }),
        (EntryKind::Symlink, Content::Nothing),
        (EntryKind::Directory, Content::Target { path: b"x".into() }),
        (EntryKind::Fifo, Content::Listing { nodes: Vec::new() }),
    ] {
        let place = Place::new();
        let tree = tree_of(|_| vec![entry("x", kind, content)]);
        let error = restore(&tree, &place.target(), &[], WINDOW_BYTES).unwrap_err();
        assert!(matches!(error, MaterialiseError::Impossible { .. }), "{error}");
    }
}

#[test]
fn content_that_is_lost_costs_its_file_and_no_other() {
    for window_bytes in [WINDOW_BYTES, 1000] {
        let place = Place::new();
        let mut tree = tree_of(|tree| {
            let large = file(tree, "large", &vec![7; 35_000]);
            let first = file(tree, "a", b"one");
            vec![first, large, hard_link("linked", "large"), file(tree, "z", b"two")]
        });
        let large = tree.entry(b"large").unwrap().unwrap();
        let Content::Chunks { chunks, .. } = &large.content else { panic!("a stream") };
        let third = Content::Chunks { chunks: vec![chunks[2]], depth: 0, extents: Vec::new() };
        tree.lose_content(&third);
        let report = restore(&tree, &place.target(), &[], window_bytes).unwrap();
        assert_eq!((report.files, report.left_out.count), (2, 2), "{report:?}");
        let first = lifeboat_base::report(&report.left_out.first[0]);
        assert!(first.contains("large") && first.contains("chunk"), "{first}");
        assert!(!place.target().join("large").exists(), "half a file looks whole");
        assert_eq!(fs::read(place.target().join("a")).unwrap(), b"one");
        assert_eq!(fs::read(place.target().join("z")).unwrap(), b"two");
    }
}

#[test]
fn a_listing_that_is_lost_costs_its_directory_and_no_other() {
    let place = Place::new();
    let mut tree = tree_of(|tree| {
        let below = file(tree, "x", b"gone");
        let lost = directory(tree, "lost", vec![below]);
        vec![file(tree, "a", b"one"), lost, file(tree, "z", b"two")]
    });
    let lost = tree.entry(b"lost").unwrap().unwrap();
    tree.lose_listing(&lost.content);
    let report = restore(&tree, &place.target(), &[], WINDOW_BYTES).unwrap();
    assert_eq!((report.files, report.directories, report.left_out.count), (2, 1, 1), "{report:?}");
    assert_eq!(fs::read(place.target().join("z")).unwrap(), b"two");
}

#[test]
fn windows_of_any_size_restore_the_same() {
    let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n * 7 / 3) as u8).collect();
    for window_bytes in [1, 1000, 3000, WINDOW_BYTES] {
        let place = Place::new();
        let tree = tree_of(|tree| {
            let inner: Vec<_> =
                (0..40).map(|n| file(tree, &format!("{n:03}"), &bytes[n * 1000..n * 2500])).collect();
            let large = file(tree, "large", &bytes);
            vec![directory(tree, "d", inner), large, hard_link("link", "d/039"), hard_link("m", "d/038")]
        });
        let report = restore(&tree, &place.target(), &[], window_bytes).unwrap();
        assert!(report.left_out.is_empty() && report.refused.is_empty(), "{report:?}");
        assert_eq!((report.files, report.directories, report.hard_links), (41, 1, 2));
        assert_eq!(report.bytes, 1_000_000 + (0..40).map(|n| n * 1500).sum::<u64>());
        assert_eq!(fs::read(place.target().join("large")).unwrap(), bytes);
        for n in 0..40 {
            let path = place.target().join(format!("d/{n:03}"));
            assert_eq!(fs::read(&path).unwrap(), &bytes[n * 1000..n * 2500]);
            assert_eq!(fs::metadata(&path).unwrap().mtime_nsec(), 7);
        }
        let inode = |path: &str| fs::metadata(place.target().join(path)).unwrap().ino();
        assert_eq!(inode("link"), inode("d/039"));
        assert_eq!(fs::metadata(place.target().join("d")).unwrap().mtime(), 1_000_000);
        assert_eq!(fs::metadata(place.target()).unwrap().mtime(), 1_000_000);
    }
}

#[test]
fn more_large_files_than_may_be_open_at_once() {
    let place = Place::new();
    let tree = tree_of(|tree| (0..400).map(|n| file(tree, &format!("{n:03}"), &[n as u8; 45_000])).collect());
    let report = restore(&tree, &place.target(), &[], WINDOW_BYTES).unwrap();
    assert_eq!((report.files, report.left_out.count), (400, 0));
    for n in 0..400 {
        assert_eq!(fs::read(place.target().join(format!("{n:03}"))).unwrap(), [n as u8; 45_000]);
    }
}

#[test]
fn holes_are_left_out_and_sizes_kept() {
    let place = Place::new();
    let tree = tree_of(|tree| {
        let Content::Chunks { chunks, depth, .. } = tree.add_stream(&[7; 15_000]) else { unreachable!() };
        let extents =
            vec![Extent { offset: 1 << 20, length: 9_000 }, Extent { offset: 5 << 20, length: 6_000 }];
        let mut sparse = entry("sparse", EntryKind::File, Content::Chunks { chunks, depth, extents });
        sparse.size = 9 << 20;
        let mut hole = entry("hole", EntryKind::File, Content::Nothing);
        hole.size = 1 << 30;
        vec![hole, sparse]
    });
    let report = restore(&tree, &place.target(), &[], WINDOW_BYTES).unwrap();
    assert_eq!(report.files, 2);
    let bytes = fs::read(place.target().join("sparse")).unwrap();
    assert_eq!(bytes.len(), 9 << 20);
    assert!(
        bytes[1 << 20..(1 << 20) + 9_000].iter().chain(&bytes[5 << 20..(5 << 20) + 6_000]).all(|b| *b == 7)
    );
    assert_eq!(bytes.iter().filter(|b| **b != 0).count(), 15_000);
    let hole = fs::metadata(place.target().join("hole")).unwrap();
    assert_eq!((hole.size(), hole.blocks()), (1 << 30, 0));
    assert!(fs::metadata(place.target().join("sparse")).unwrap().blocks() < 200);
}

#[test]
fn included_paths_come_with_their_directories_and_their_content() {
    let place = Place::new();
    let tree = tree_of(|tree| {
        let carrier = file(tree, "carrier", b"content");
        let other = file(tree, "other.txt", b"text");
        let deep = directory(
            tree,
            "deep",
            vec![hard_link("link1", "a/carrier"), hard_link("link2", "a/carrier"), other],
        );
        vec![
            directory(tree, "a", vec![carrier]),
            directory(tree, "b", vec![deep]),
            directory(tree, "c", vec![]),
        ]
    });
    let report = restore(&tree, &place.target(), &["/b/*/link*"], WINDOW_BYTES).unwrap();
    assert_eq!((report.files, report.hard_links, report.directories, report.left_out.count), (1, 1, 2, 0));
    assert_eq!(fs::read(place.target().join("b/deep/link2")).unwrap(), b"content");
    assert_eq!(fs::metadata(place.target().join("b/deep/link1")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(place.target().join("b")).unwrap().mtime(), 1_000_000);
    assert!(!place.target().join("a").exists() && !place.target().join("b/deep/other.txt").exists());

    let place = Place::new();
    let report = restore(&tree, &place.target(), &["!*.txt", "!/a"], WINDOW_BYTES).unwrap();
    assert_eq!((report.files, report.hard_links, report.directories), (1, 1, 3));
    assert!(!place.target().join("b/deep/other.txt").exists());
}

#[test]
fn a_link_to_nothing_is_impossible_where_it_must_carry_the_content() {
    let place = Place::new();
    let tree = tree_of(|_| vec![hard_link("x", "nowhere")]);
    assert!(matches!(
        restore(&tree, &place.target(), &["/x"], WINDOW_BYTES),
        Err(MaterialiseError::Impossible { .. })
    ));
    let report = restore(&tree, &place.target(), &[], WINDOW_BYTES).unwrap();
    assert_eq!(report.left_out.first[0].to_string(), "link x");
}

#[test]
fn a_tree_deeper_than_a_path_may_be_long() {
    let place = Place::new();
    let name = "d".repeat(100);
    let tree = tree_of(|tree| {
        let mut inner = vec![file(tree, "leaf", b"deep")];
        for _ in 0..300 {
            inner = vec![directory(tree, &name, inner)];
        }
        inner
    });
    let report = restore(&tree, &place.target(), &[], 5_000).unwrap();
    assert_eq!((report.directories, report.files, report.left_out.count), (300, 1, 0));
    let mut chain = crate::chain::Chain::new(Directory::open_root(&place.target()).unwrap());
    for _ in 0..300 {
        let stat = chain.enter(Name::new(name.as_bytes()).unwrap()).unwrap();
        assert_eq!(stat.st_mtime, 1_000_000);
    }
    assert_eq!(chain.current().unwrap().stat(Name::new(b"leaf").unwrap()).unwrap().st_size, 4);
}

#[test]
fn what_a_restore_hands_down_is_not_kept() {
    if !is_root("what_a_restore_hands_down_is_not_kept") {
        return;
    }
    let place = Place::new();
    // Everybody may do everything with what is created here: a directory with a default ACL and setgid.
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, id) in [(1u16, u32::MAX), (2, 1000), (4, u32::MAX), (0x10, u32::MAX), (0x20, u32::MAX)] {
        acl.extend([tag.to_le_bytes(), 7u16.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    rustix::fs::setxattr(place.target(), "system.posix_acl_default", &acl, rustix::fs::XattrFlags::empty())
        .unwrap();
    std::os::unix::fs::chown(place.target(), None, Some(4242)).unwrap();
    rustix::fs::chmod(place.target(), rustix::fs::Mode::from_raw_mode(0o2777)).unwrap();
    let tree = tree_of(|tree| {
        let inner = file(tree, "f", b"x");
        vec![directory(tree, "d", vec![inner])]
    });
    let report = restore(&tree, &place.target(), &[], WINDOW_BYTES).unwrap();
    assert!(report.refused.is_empty());
    for (path, mode) in [("", 0o755), ("d", 0o755), ("d/f", 0o644)] {
        let path = place.target().join(path);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.gid()), (mode, 0), "{path:?}");
        assert_eq!(rustix::fs::listxattr(&path, &mut [0u8; 1000][..]).unwrap(), 0, "{path:?}");
    }
}
