//! Where the data of a file with holes lies.

use lifeboat_repository::tree::Extent;
use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;

/// The most extents that are recorded of one file. Beyond that the smallest holes are recorded as zeros, so
/// that no file makes its entry large: 4,096 extents encode to some 60 KiB.
pub const EXTENTS_MAX: usize = 4096;
/// The smallest hole that is worth recording: a block of nearly every file system.
const SMALLEST_HOLE_BYTES: u64 = 4096;
const SECTOR_BYTES: u64 = 512;

/// Whether a file occupies less than its size, so that it may have holes (or is compressed, or tiny).
pub fn may_have_holes(stat: &Stat) -> bool {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(SECTOR_BYTES) < size
}

/// The extents of a file of `size` bytes that hold data, ascending and apart: one extent over all of it
/// where there is no hole or the file system cannot say, none where all of it is one hole.
///
/// The position of the file is moved.
///
/// # Errors
/// What the operating system says.
pub fn data_extents(file: impl AsFd, size: u64) -> io::Result<Vec<Extent>> {
    let mut extents = Extents::default();
    let mut position = 0;
    while position < size {
        let start = match rustix::fs::seek(&file, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(vec![Extent { offset: 0, length: size }]),
            Err(error) => return Err(error.into()),
        };
        if start >= size {
            break;
        }
        let end = match rustix::fs::seek(&file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            // Truncated between the two questions; whoever reads the file notices.
            Err(Errno::NXIO) => size,
            Err(error) => return Err(error.into()),
        };
        extents.push(start, end);
        position = end.max(start + 1);
    }
    Ok(extents.finish(size))
}

/// Collects extents, filling the smallest holes while there are too many.
struct Extents {
    extents: Vec<Extent>,
    smallest_hole: u64,
}

impl Default for Extents {
    fn default() -> Self {
        Self { extents: Vec::new(), smallest_hole: SMALLEST_HOLE_BYTES }
    }
}

impl Extents {
    fn push(&mut self, start: u64, end: u64) {
        match self.extents.last_mut() {
            Some(last) if start - (last.offset + last.length) < self.smallest_hole => {
                last.length = end - last.offset;
            }
            _ => self.extents.push(Extent { offset: start, length: end - start }),
        }
        while self.extents.len() > EXTENTS_MAX {
            self.smallest_hole *= 2;
            self.fill();
        }
    }

    fn fill(&mut self) {
        let smallest_hole = self.smallest_hole;
        self.extents.dedup_by(|later, earlier| {
            let joined = later.offset - (earlier.offset + earlier.length) < smallest_hole;
            if joined {
                earlier.length = later.offset + later.length - earlier.offset;
            }
            joined
        });
    }

    /// The holes at both ends count as well.
    fn finish(mut self, size: u64) -> Vec<Extent> {
        if let Some(first) = self.extents.first_mut()
            && first.offset < self.smallest_hole
        {
            first.length += first.offset;
            first.offset = 0;
        }
        if let Some(last) = self.extents.last_mut()
            && size - (last.offset + last.length) < self.smallest_hole
        {
            last.length = size - last.offset;
        }
        self.extents
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs::File;
    use std::os::unix::fs::{FileExt, MetadataExt};

    fn extent(offset: u64, length: u64) -> Extent {
        Extent { offset, length }
    }

    #[test]
    fn holes_of_a_real_file() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10 << 20).unwrap();
        assert_eq!(data_extents(&file, 10 << 20).unwrap(), []);
        file.write_all_at(&[1; 65536], 1 << 20).unwrap();
        file.write_all_at(&[1; 100], 5 << 20).unwrap();
        file.sync_all().unwrap();
        let extents = data_extents(&file, 10 << 20).unwrap();
        assert_eq!(extents.first(), Some(&extent(1 << 20, 65536)));
        assert_eq!(extents[1].offset, 5 << 20);
        assert!(extents[1].length >= 100 && extents[1].length <= 65536, "{extents:?}");
        assert_eq!(extents.len(), 2);
    }

    #[test]
    fn a_file_without_holes_is_one_extent() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 10_000], 0).unwrap();
        assert_eq!(data_extents(&file, 10_000).unwrap(), [extent(0, 10_000)]);
        assert_eq!(data_extents(&file, 0).unwrap(), []);
        assert!(data_extents(File::open("/proc/self/status").unwrap(), 0).unwrap().is_empty());
    }

    #[test]
    fn what_the_file_system_says_of_holes() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        assert!(may_have_holes(&rustix::fs::fstat(&file).unwrap()));
        assert!(file.metadata().unwrap().blocks() * 512 < 1 << 20);
        file.write_all_at(&vec![1; 1 << 20], 0).unwrap();
        file.sync_all().unwrap();
        assert!(!may_have_holes(&rustix::fs::fstat(&file).unwrap()));
    }

    proptest! {
        /// Whatever is joined: ascending, apart, at most so many, and all data is covered.
        #[test]
        fn extents_cover_the_data(runs in proptest::collection::vec((1u64..200_000, 1u64..200_000), 0..40), many in 0usize..3) {
            let mut extents = Extents::default();
            let mut data = Vec::new();
            let mut position = 0;
            for (hole, length) in runs.iter().cycle().take(runs.len() * [1, 10, 2000][many]) {
                position += hole;
                extents.push(position, position + length);
                data.push((position, position + length));
                position += length;
            }
            let size = position + 1;
            let extents = extents.finish(size);
            prop_assert!(extents.len() <= EXTENTS_MAX);
            prop_assert!(extents.windows(2).all(|w| w[0].offset + w[0].length < w[1].offset));
            prop_assert!(extents.last().is_none_or(|last| last.offset + last.length <= size));
            for (start, end) in data {
                let index = extents.partition_point(|e| e.offset + e.length < end);
                prop_assert!(extents[index].offset <= start && end <= extents[index].offset + extents[index].length);
            }
        }
    }
}
