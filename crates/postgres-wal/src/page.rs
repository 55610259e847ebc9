//! The header that each page of the log begins with.
//!
//! Owns its layout and what it says of itself. Whether a page belongs at the place where it was found is for
//! the reader to judge; it deliberately knows no record.

use crate::fields::{u32_at, u64_at};
use crate::position::{Lsn, SystemId, TimelineId};
use std::fmt;

/// How long the header of a page is, in bytes, where it is not the first page of a segment.
pub(crate) const SHORT_HEADER_BYTES: usize = 24;

/// How long the header of the first page of a segment is, in bytes.
pub(crate) const LONG_HEADER_BYTES: usize = 40;

/// The page begins with the rest of a record of the page before.
const CONTINUES: u16 = 0x1;
/// The header is a long one.
const LONG: u16 = 0x2;
/// The rest of a record, which should be here, was never written; another record takes its place.
const OVERWRITES: u16 = 0x8;
/// Every flag that there is.
const FLAGS: u16 = 0xf;

/// The major version of PostgreSQL that wrote a log. Each has a format of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// PostgreSQL 15.
    V15,
    /// PostgreSQL 16.
    V16,
    /// PostgreSQL 17.
    V17,
    /// PostgreSQL 18.
    V18,
}

impl Version {
    /// Every version whose log is read, the oldest first.
    pub const ALL: [Self; 4] = [Self::V15, Self::V16, Self::V17, Self::V18];

    /// The number that every page of this version's log begins with.
    pub const fn page_magic(self) -> u16 {
        match self {
            Self::V15 => 0xd110,
            Self::V16 => 0xd113,
            Self::V17 => 0xd116,
            Self::V18 => 0xd118,
        }
    }

    /// The version whose pages begin so; `None` where it is none that is read.
    pub fn of_magic(magic: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.page_magic() == magic)
    }

    /// The major version as a number: 15 to 18.
    pub const fn major(self) -> u32 {
        match self {
            Self::V15 => 15,
            Self::V16 => 16,
            Self::V17 => 17,
            Self::V18 => 18,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.major())
    }
}

/// How many bytes a page of the log has: fixed when PostgreSQL was built, 8 KiB unless somebody chose another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageSize(u32);

impl PageSize {
    /// What PostgreSQL is built with where nobody says otherwise.
    pub const DEFAULT: Self = Self(8 << 10);

    /// A size; `None` where PostgreSQL cannot be built with it.
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= 1 << 10 && bytes <= 64 << 10 {
            Some(Self(bytes as u32))
        } else {
            None
        }
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0 as u64
    }
}

/// What the first page of a segment says of the whole log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose log it is.
    pub system: SystemId,
    /// How many bytes a segment has.
    pub segment_bytes: u32,
    /// How many bytes a page of the log has.
    pub page_bytes: u32,
}

/// What the header of a page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// The magic number, which names the version.
    pub magic: u16,
    /// The flags, as they are.
    pub flags: u16,
    /// The timeline of the first record of the page.
    pub timeline: TimelineId,
    /// Where the page is.
    pub address: Lsn,
    /// How many bytes of a record that began before are still to come, from this page on.
    pub remaining: u32,
    /// What only the first page of a segment says.
    pub segment: Option<SegmentHeader>,
}

impl PageHeader {
    /// Reads a header. `None` where there are too few bytes for it.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let short = bytes.first_chunk::<SHORT_HEADER_BYTES>()?;
        let flags = (u32_at(short, 0) >> 16) as u16;
        let segment = match flags & LONG {
            0 => None,
            _ => Some(segment_header(bytes.first_chunk()?)),
        };
        Some(Self {
            magic: u32_at(short, 0) as u16,
            flags,
            timeline: TimelineId(u32_at(short, 4)),
            address: Lsn(u64_at(short, 8)),
            remaining: u32_at(short, 16),
            segment,
        })
    }

    /// Whether these first bytes of a header announce a long one.
    pub(crate) const fn is_long(first: &[u8; LONG_HEADER_BYTES]) -> bool {
        u16::from_le_bytes([first[2], first[3]]) & LONG != 0
    }

    /// Whether the page begins with the rest of a record.
    pub const fn continues(&self) -> bool {
        self.flags & CONTINUES != 0
    }

    /// Whether the rest of a record that should be here will never come.
    pub const fn overwrites(&self) -> bool {
        self.flags & OVERWRITES != 0
    }

    /// Whether it has flags that no version knows.
    pub const fn has_unknown_flags(&self) -> bool {
        self.flags & !FLAGS != 0
    }
}

fn segment_header(long: &[u8; LONG_HEADER_BYTES]) -> SegmentHeader {
    SegmentHeader {
        system: SystemId(u64_at(long, 24)),
        segment_bytes: u32_at(long, 32),
        page_bytes: u32_at(long, 36),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_version_has_its_magic() {
        for version in Version::ALL {
            assert_eq!(Version::of_magic(version.page_magic()), Some(version));
        }
        assert_eq!(Version::of_magic(0xd10d), None, "14 is not read");
        assert_eq!(Version::of_magic(0), None);
    }

    #[test]
    fn a_long_header_says_whose_log_it_is() {
        let bytes = [
            0x10, 0xd1, 0x06, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00,
            0x00, //
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x1d, 0x96, 0x7c, 0x3c, 0x5a, 0x14, 0x9b,
            0x69, //
            0x00, 0x00, 0x00, 0x01, 0x00, 0x20, 0x00, 0x00,
        ];
        let header = PageHeader::parse(&bytes).unwrap();
        assert_eq!(Version::of_magic(header.magic), Some(Version::V15));
        assert_eq!((header.timeline, header.address, header.remaining), (TimelineId(1), Lsn(0x100_0000), 0));
        assert!(!header.continues() && !header.overwrites() && !header.has_unknown_flags());
        let segment = header.segment.unwrap();
        assert_eq!(segment.system, SystemId(0x699b_145a_3c7c_961d));
        assert_eq!((segment.segment_bytes, segment.page_bytes), (16 << 20, 8192));
        assert_eq!(PageHeader::parse(&bytes[..39]), None);
    }

    #[test]
    fn sizes_that_no_build_has_are_refused() {
        for bad in [0, 512, 8191, 128 << 10] {
            assert_eq!(PageSize::new(bad), None, "{bad}");
        }
        assert_eq!(PageSize::new(8192), Some(PageSize::DEFAULT));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = PageHeader::parse(&bytes);
        }
    }
}
