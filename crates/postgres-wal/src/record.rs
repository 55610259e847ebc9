//! A record of the log: its header, its checksum, and where its own data lies behind those of the pages that
//! it changes.
//!
//! It deliberately does not know what the data mean (`meaning` does), nor how a record is cut into pages.

use crate::fields::{Fields, Short, u32_at, u64_at};
use crate::page::Version;
use crate::position::{Lsn, TimelineId};

/// How long the header of a record is, in bytes.
pub const RECORD_HEADER_BYTES: usize = 24;

/// The longest record that PostgreSQL can write or read again: it must fit into one allocation.
pub const MAX_RECORD_BYTES: u32 = 0x3fff_ffff;

/// The resource managers whose records have a meaning here.
pub mod manager {
    /// Checkpoints, restore points, switches.
    pub const XLOG: u8 = 0;
    /// Commits and aborts.
    pub const TRANSACTION: u8 = 1;
    /// Tablespaces that are made and dropped.
    pub const TABLESPACE: u8 = 5;
    /// Messages for logical decoding.
    pub const LOGICAL_MESSAGE: u8 = 21;
    /// The last that PostgreSQL 15 to 18 have themselves.
    pub(crate) const LAST: u8 = 21;
    /// The first that an extension may have.
    pub(crate) const FIRST_CUSTOM: u8 = 128;
}

/// The part of `info` that belongs to the log itself and not to the resource manager.
const INFO_OF_LOG: u8 = 0x0f;

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// How long the record is, in bytes, its header included and the headers of pages not.
    pub total_bytes: u32,
    /// The transaction that wrote it, or 0.
    pub xid: u32,
    /// Where the record before begins.
    pub previous: Lsn,
    /// What it is, in terms of its resource manager.
    pub info: u8,
    /// Its resource manager (see [`manager`]).
    pub manager: u8,
    /// The checksum that it should have.
    pub crc: u32,
}

impl RecordHeader {
    /// Reads a header. Every content can be read; whether it can be believed is another question.
    pub fn parse(bytes: &[u8; RECORD_HEADER_BYTES]) -> Self {
        Self {
            total_bytes: u32_at(bytes, 0),
            xid: u32_at(bytes, 4),
            previous: Lsn(u64_at(bytes, 8)),
            info: bytes[16],
            manager: bytes[17],
            crc: u32_at(bytes, 20),
        }
    }

    /// The part of `info` that says which of its manager's records this is.
    pub const fn kind(&self) -> u8 {
        self.info & !INFO_OF_LOG
    }

    /// Whether a resource manager of this number can exist.
    pub(crate) const fn has_manager(&self) -> bool {
        self.manager <= manager::LAST || self.manager >= manager::FIRST_CUSTOM
    }
}

/// The checksum of a record (CRC-32C), taken piece by piece: first all that follows its header, then the
/// header up to the checksum itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RecordCrc(u32);

impl RecordCrc {
    pub(crate) fn body(self, piece: &[u8]) -> Self {
        Self(crc32c::crc32c_append(self.0, piece))
    }

    pub(crate) fn finish(self, header: &[u8; RECORD_HEADER_BYTES]) -> u32 {
        crc32c::crc32c_append(self.0, &header[..RECORD_HEADER_BYTES - 4])
    }
}

/// What of a record's bytes behind its header was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// All of them.
    Whole(&'a [u8]),
    /// The first ones of a record that was too long to be kept.
    Head(&'a [u8]),
    /// None: no record of this kind means anything here.
    Omitted,
}

/// A record whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where it begins: what PostgreSQL compares with `recovery_target_lsn`.
    pub start: Lsn,
    /// Where it ends, as PostgreSQL says it: rounded up to 8 bytes; the end of the segment behind a switch.
    pub end: Lsn,
    /// The timeline that it is of.
    pub timeline: TimelineId,
    /// The version of PostgreSQL that wrote it.
    pub version: Version,
    /// Its header.
    pub header: RecordHeader,
    /// Its bytes.
    pub body: Body<'a>,
}

/// The highest number that a page of a record has.
const MAX_BLOCK: u8 = 32;
const DATA_SHORT: u8 = 255;
const DATA_LONG: u8 = 254;
const ORIGIN: u8 = 253;
const TOP_LEVEL_XID: u8 = 252;

const HAS_IMAGE: u8 = 0x10;
const SAME_RELATION: u8 = 0x80;
const IMAGE_HAS_HOLE: u8 = 0x01;
/// The image is compressed, in one of three ways.
const IMAGE_COMPRESSED: u8 = 0x1c;

/// Which relation: a tablespace, a database and a file.
const RELATION_BYTES: u64 = 12;
const BLOCK_NUMBER_BYTES: u64 = 4;

/// A record's own data, and whether some of them are missing at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MainData<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) cut: bool,
}

/// Finds a record's own data behind what it says of pages. `kept` may be the head of a body of `total` bytes.
pub(crate) fn main_data(kept: &[u8], total: u64) -> Result<MainData<'_>, Short> {
    let mut fields = Fields(kept);
    let mut of_pages = 0;
    let mut headers_left = total;
    let length = loop {
        // A record without data of its own ends its headers where the data of its pages begin.
        if headers_left <= of_pages {
            break 0;
        }
        let before = fields.0.len();
        let id = fields.u8()?;
        match id {
            DATA_SHORT => break u64::from(fields.u8()?),
            DATA_LONG => break u64::from(fields.u32()?),
            ORIGIN => drop(fields.u16()?),
            TOP_LEVEL_XID => drop(fields.u32()?),
            0..=MAX_BLOCK => of_pages += skip_block(&mut fields)?,
            _ => return Err(Short),
        }
        headers_left -= (before - fields.0.len()) as u64;
    };
    let headers = (kept.len() - fields.0.len()) as u64;
    if headers + of_pages + length != total {
        return Err(Short);
    }
    let begin = usize::try_from(headers + of_pages).map_err(|_| Short)?;
    let cut = (kept.len() as u64) < total;
    Ok(MainData { bytes: kept.get(begin..).ok_or(Short)?, cut })
}

/// Reads past the header of a page, and says how many bytes of data the page has further on.
fn skip_block(fields: &mut Fields<'_>) -> Result<u64, Short> {
    let flags = fields.u8()?;
    let mut data = u64::from(fields.u16()?);
    if flags & HAS_IMAGE != 0 {
        data += u64::from(fields.u16()?);
        fields.u16()?;
        let image = fields.u8()?;
        if image & IMAGE_HAS_HOLE != 0 && image & IMAGE_COMPRESSED != 0 {
            fields.u16()?;
        }
    }
    if flags & SAME_RELATION == 0 {
        fields.bytes(RELATION_BYTES)?;
    }
    fields.bytes(BLOCK_NUMBER_BYTES)?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data_of(kept: &[u8]) -> Result<&[u8], Short> {
        main_data(kept, kept.len() as u64).map(|data| data.bytes)
    }

    #[test]
    fn data_are_found_behind_an_origin_and_pages() {
        assert_eq!(data_of(b"\xff\x03abc"), Ok(&b"abc"[..]));
        assert_eq!(data_of(b"\xfe\x03\0\0\0abc"), Ok(&b"abc"[..]));
        assert_eq!(data_of(b"\xfd\x01\x00\xfc\x09\0\0\0\xff\x01a"), Ok(&b"a"[..]));
        // A page with data, an image with a hole that is compressed, then a page of the same relation.
        let first = [&[0, 0x30, 2, 0, 3, 0, 9, 0, 0x05, 7, 7][..], &[1; 12], &[2; 4]].concat();
        let second = [&[1, 0xa0, 1, 0][..], &[3; 4]].concat();
        let whole = [&first[..], &second, &[0xff, 2], b"IIIddD", b"me"].concat();
        assert_eq!(data_of(&whole), Ok(&b"me"[..]));
        let none = [&first[..], b"IIIdd"].concat();
        assert_eq!(data_of(&none), Ok(&b""[..]));
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        for bad in [&b"\xff\x04abc"[..], b"\xff\x02abc", b"\xff", b"\xfe\xff\xff\xff\xffabc", b"\x40", b"\0"]
        {
            assert_eq!(data_of(bad), Err(Short), "{bad:?}");
        }
        assert_eq!(data_of(b""), Ok(&b""[..]));
    }

    #[test]
    fn the_head_of_a_long_record_is_enough_to_find_its_data() {
        let data = main_data(b"\xfe\0\0\x01\0head", 5 + 65536).unwrap();
        assert_eq!(data, MainData { bytes: b"head", cut: true });
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), more in 0u64..9) {
            let _ = main_data(&bytes, bytes.len() as u64 + more);
        }
    }
}
