//! The names of one directory, in byte order.
//!
//! A directory may hold a million names, so they lie one behind the other in one allocation with four bytes
//! each to find them: some 30 MiB for a million names of 24 bytes. What the names stand for is not asked.

use crate::directory::{Directory, Name};
use rustix::fs::{RawDir, SeekFrom};
use std::io;

/// How much the kernel is asked for at once. The largest record is some 280 bytes.
const KERNEL_BUFFER_BYTES: usize = 64 * 1024;
/// A length before each name.
const LENGTH_BYTES: usize = 2;

/// Lists directories one after the other, with one buffer for all.
#[derive(Debug)]
pub struct Lister {
    buffer: Vec<u8>,
}

impl Default for Lister {
    fn default() -> Self {
        Self { buffer: Vec::with_capacity(KERNEL_BUFFER_BYTES) }
    }
}

impl Lister {
    /// The names in a directory, without `.` and `..`, sorted by their bytes.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn list(&mut self, directory: &Directory) -> io::Result<Listing> {
        rustix::fs::seek(directory, SeekFrom::Start(0))?;
        let mut entries = RawDir::new(directory, self.buffer.spare_capacity_mut());
        let mut listing = Listing::default();
        while let Some(entry) = entries.next() {
            listing.push(entry?.file_name().to_bytes())?;
        }
        listing.sort();
        Ok(listing)
    }
}

/// Sorted names.
#[derive(Debug, Default)]
pub struct Listing {
    /// Each name behind its length.
    arena: Vec<u8>,
    /// Where each name starts in the arena, in the order of the names.
    starts: Vec<u32>,
}

impl Listing {
    /// How many names there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The name at `index` in byte order.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.starts.get(index).map(|start| name_at(&self.arena, *start))
    }

    /// Whether a name is there.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.starts.binary_search_by(|start| name_at(&self.arena, *start).cmp(name)).is_ok()
    }

    /// All names in byte order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.starts.iter().map(|start| name_at(&self.arena, *start))
    }

    fn push(&mut self, name: &[u8]) -> io::Result<()> {
        if matches!(name, b"." | b"..") {
            return Ok(());
        }
        let name = Name::new(name)?.as_bytes();
        let too_large =
            || io::Error::new(io::ErrorKind::FileTooLarge, "the names of this directory fill 4 GiB");
        let start = u32::try_from(self.arena.len()).map_err(|_| too_large())?;
        let length = u16::try_from(name.len()).map_err(|_| too_large())?;
        self.arena.extend_from_slice(&length.to_ne_bytes());
        self.arena.extend_from_slice(name);
        self.starts.push(start);
        Ok(())
    }

    fn sort(&mut self) {
        let arena = &self.arena;
        self.starts.sort_unstable_by(|a, b| name_at(arena, *a).cmp(name_at(arena, *b)));
    }
}

fn name_at(arena: &[u8], start: u32) -> &[u8] {
    let start = start as usize;
    let length = usize::from(u16::from_ne_bytes([arena[start], arena[start + 1]]));
    &arena[start + LENGTH_BYTES..start + LENGTH_BYTES + length]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    fn list(path: &std::path::Path) -> Vec<Vec<u8>> {
        let listing = Lister::default().list(&Directory::open_root(path).unwrap()).unwrap();
        listing.iter().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn names_come_in_byte_order_whatever_bytes_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let names: [&[u8]; 6] = [b"\xff\xfe", b"a", b"B", b"a.b", b"\n", b"-rf"];
        for name in names {
            std::fs::File::create(directory.path().join(OsStr::from_bytes(name))).unwrap();
        }
        let sorted: Vec<Vec<u8>> =
            names.iter().map(|n| n.to_vec()).collect::<BTreeSet<_>>().into_iter().collect();
        assert_eq!(list(directory.path()), sorted);
    }

    #[test]
    fn a_directory_larger_than_the_kernels_buffer() {
        let directory = tempfile::tempdir().unwrap();
        for n in (0..3000).rev() {
            std::fs::File::create(directory.path().join(format!("{n:0>60}"))).unwrap();
        }
        let root = Directory::open_root(directory.path()).unwrap();
        let mut lister = Lister::default();
        let listing = lister.list(&root).unwrap();
        assert_eq!(listing.len(), 3000);
        assert_eq!(listing.get(2999).unwrap(), format!("{:0>60}", 2999).as_bytes());
        assert!(listing.get(3000).is_none() && !listing.is_empty());
        assert_eq!(lister.list(&root).unwrap().len(), 3000, "a directory can be listed twice");
    }

    #[test]
    fn a_million_names_take_some_thirty_mebibytes() {
        let mut listing = Listing::default();
        for n in 0..1_000_000u32 {
            listing
                .push(format!("{:024}", n.wrapping_mul(2_654_435_761) % 1_000_000_007).as_bytes())
                .unwrap();
        }
        listing.sort();
        assert!(listing.iter().is_sorted());
        assert!(listing.arena.len() + listing.starts.len() * 4 <= 31 << 20);
    }

    proptest! {
        #[test]
        fn sorted_and_complete(names in proptest::collection::btree_set(proptest::collection::vec(1u8..=255, 1..40), 0..60)) {
            let names: BTreeSet<Vec<u8>> = names.into_iter().filter(|n| Name::new(n).is_ok()).collect();
            let mut listing = Listing::default();
            for name in names.iter().rev() {
                listing.push(name).unwrap();
            }
            listing.sort();
            prop_assert!(listing.iter().eq(names.iter().map(Vec::as_slice)));
            prop_assert!(names.iter().all(|name| listing.contains(name)));
            prop_assert!(!listing.contains(b"\0"));
        }
    }
}
