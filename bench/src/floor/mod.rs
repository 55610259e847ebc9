//! The floors: the least that a backup, a restore and a check must do, in plain loops of one thread.
//!
//! `floor-backup` reads the files in the order of their paths, concatenates them into blocks, compresses and
//! encrypts each block and appends it to files of 16 MiB, synced. `floor-restore` is the same backwards.
//! `floor-check` reads, hashes, decrypts, decompresses and hashes again. There is no deduplication, no
//! index, no metadata beyond path, mode and length, no key management and no verification that a backup
//! needs: what a real tool costs above this is the price of what it adds.
//!
//! [`same`] has the floors of restore and check on the very packs that Lifeboat reads; [`planner`] tells it
//! beforehand where everything is.

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod packs;
pub(crate) mod plan;
pub(crate) mod planner;
pub(crate) mod replay;
pub(crate) mod restore;
pub(crate) mod same;

use std::fmt;

/// How much went through a floor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Files.
    pub(crate) files: u64,
    /// Bytes of their contents.
    pub(crate) bytes: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files, {} bytes", self.files, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{backup, check, restore};
    use crate::options::FloorBackup;
    use crate::tree;
    use std::fs;
    use std::path::Path;

    fn planted(root: &Path) {
        let large: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let files: &[(&str, &[u8])] =
            &[("a/deep/er/x", b"one"), ("a/empty", b""), ("b", &large), ("b.z/y", &[0; 100_000]), ("z", b"")];
        tree::tests::plant(root, files);
    }

    fn floor_of(folder: &Path, block_bytes: usize) -> std::path::PathBuf {
        let out = folder.join(format!("packs-{block_bytes}"));
        let task = FloorBackup { tree: folder.join("tree"), out: out.clone(), block_bytes, level: 3 };
        assert_eq!(backup::run(&task).unwrap().files, 5);
        out
    }

    #[test]
    fn what_goes_in_comes_out_whatever_the_block() {
        let folder = tempfile::tempdir().unwrap();
        planted(&folder.path().join("tree"));
        let mut seen = Vec::new();
        for block_bytes in [64 << 10, 4 << 20] {
            let packs = floor_of(folder.path(), block_bytes);
            let target = folder.path().join(format!("restored-{block_bytes}"));
            assert_eq!(restore::run(&packs, &target).unwrap().bytes, 20_100_003);
            tree::compare(&folder.path().join("tree"), &target).unwrap();
            seen.push(check::run(&packs).unwrap());
        }
        assert_eq!(seen[0].contents, seen[1].contents);
        assert_ne!(seen[0].stored, seen[1].stored);
    }

    #[test]
    fn damage_anywhere_in_a_pack_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        planted(&folder.path().join("tree"));
        let packs = floor_of(folder.path(), 4 << 20);
        let pack = packs.join("00000000.pack");
        let good = fs::read(&pack).unwrap();
        for at in [0, 4, 7, 8, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            lifeboat_base::crashsafe::replace(&pack, &bad).unwrap();
            check::run(&packs).unwrap_err();
        }
        lifeboat_base::crashsafe::replace(&pack, &good[..good.len() - 1]).unwrap();
        check::run(&packs).unwrap_err();
        lifeboat_base::crashsafe::replace(&pack, &[]).unwrap();
        check::run(&packs).unwrap_err();
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        planted(&folder.path().join("tree"));
        let packs = floor_of(folder.path(), 4 << 20);
        let task = FloorBackup {
            tree: folder.path().join("tree"),
            out: packs.clone(),
            block_bytes: 4 << 20,
            level: 3,
        };
        backup::run(&task).unwrap_err();
        restore::run(&packs, &folder.path().join("tree")).unwrap_err();
    }
}
