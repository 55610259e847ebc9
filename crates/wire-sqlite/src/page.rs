//! The size of a page: a power of two from 512 to 65536.

use std::fmt;

/// The size of a database's pages in bytes: a power of two from 512 to 65536.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

impl PageSize {
    /// The smallest that SQLite knows.
    pub const MIN: Self = Self(512);
    /// The largest that SQLite knows.
    pub const MAX: Self = Self(65_536);
    /// What SQLite makes unless told otherwise.
    pub const DEFAULT: Self = Self(4096);

    /// A page size in bytes, or `None` where SQLite has no such size.
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= Self::MIN.0 && bytes <= Self::MAX.0 {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// The size as two bytes hold it, in the database header and in the wal-index: 1 stands for 65536.
    pub const fn from_u16(stored: u16) -> Option<Self> {
        match stored {
            1 => Some(Self::MAX),
            bytes => Self::new(bytes as u32),
        }
    }

    /// Bytes.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Bytes, for slicing.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }

    /// How many pages `bytes` are, the last one perhaps in part.
    pub const fn pages_in(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.0 as u64)
    }

    /// The page that SQLite never stores anything in, because its locks lie on those bytes.
    pub const fn lock_page(self) -> u32 {
        0x4000_0000 / self.0 + 1
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_powers_of_two_in_range() {
        for bytes in [512, 1024, 4096, 32_768, 65_536] {
            assert_eq!(PageSize::new(bytes).unwrap().get(), bytes);
        }
        for bytes in [0, 1, 256, 513, 131_072, u32::MAX] {
            assert_eq!(PageSize::new(bytes), None, "{bytes}");
        }
        assert_eq!(PageSize::from_u16(1), Some(PageSize::MAX));
        assert_eq!(PageSize::from_u16(0), None);
        assert_eq!(PageSize::DEFAULT.lock_page(), 262_145);
        assert_eq!(PageSize::DEFAULT.pages_in(4097), 2);
    }
}
