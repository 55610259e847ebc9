//! The write-ahead log: new pages, appended until a checkpoint copies them into the database.
//!
//! ```text
//! wal    := header32 frame*
//! header := magic4 version4 page-size4 checkpoint4 salt8 checksum8
//! frame  := page4 commit-pages4 salt8 checksum8 content
//! ```
//!
//! A frame counts if its salts are the header's and its checksum continues the chain from the header; a
//! transaction counts if its last frame, which states the size of the database, does. What lies behind that is
//! an older generation or a transaction that did not end, and the readers here end before it.

use crate::bytes::{array, u32_be};
use crate::{PageSize, ReadAt};
use std::io;

/// How long the header of the log is.
pub const WAL_HEADER_BYTES: usize = 32;
/// How long the header of a frame is.
pub const FRAME_HEADER_BYTES: usize = 24;

const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;
/// How many bytes of frames are read at once.
const READ_BYTES: usize = 1 << 20;

/// In which byte order the checksums read the words that they sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumOrder {
    /// Written on a little-endian machine.
    LittleEndian,
    /// Written on a big-endian machine.
    BigEndian,
}

impl ChecksumOrder {
    /// The order of this machine.
    pub const NATIVE: Self = if cfg!(target_endian = "big") { Self::BigEndian } else { Self::LittleEndian };
}

/// SQLite's cumulative checksum over pairs of 32-bit words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checksum(pub u32, pub u32);

impl Checksum {
    /// Continues over `bytes`, a multiple of eight; what is left over is not looked at.
    #[must_use]
    pub fn over(self, order: ChecksumOrder, bytes: &[u8]) -> Self {
        match order {
            ChecksumOrder::LittleEndian => self.sum(bytes, u32::from_le_bytes),
            ChecksumOrder::BigEndian => self.sum(bytes, u32::from_be_bytes),
        }
    }

    #[inline]
    fn sum(self, bytes: &[u8], word: impl Fn([u8; 4]) -> u32) -> Self {
        let Self(mut first, mut second) = self;
        for [a, b, c, d, e, f, g, h] in bytes.as_chunks::<8>().0.iter().copied() {
            first = first.wrapping_add(word([a, b, c, d])).wrapping_add(second);
            second = second.wrapping_add(word([e, f, g, h])).wrapping_add(first);
        }
        Self(first, second)
    }

    fn stored(bytes: &[u8], offset: usize) -> Option<Self> {
        Some(Self(u32_be(bytes, offset)?, u32_be(bytes, offset + 4)?))
    }
}

/// The header of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalHeader {
    /// The size of the pages.
    pub page_size: PageSize,
    /// How often the log was begun again.
    pub checkpoint_sequence: u32,
    /// What tells the frames of this generation from older ones.
    pub salts: [u8; 8],
    /// The byte order of the checksums.
    pub order: ChecksumOrder,
    /// The checksum of the header, from which the first frame's goes on.
    pub checksum: Checksum,
}

/// Why bytes are not the header of a log. Except for the version, SQLite takes such a log for an empty one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalHeaderError {
    /// Fewer bytes than a header has.
    #[error("{bytes} bytes are too few for a WAL")]
    Short {
        /// How many there are.
        bytes: usize,
    },
    /// Something else.
    #[error("a WAL does not start with {found:#010x}")]
    Magic {
        /// The first word.
        found: u32,
    },
    /// A page size that SQLite does not know.
    #[error("page size {stored} in a WAL header")]
    PageSize {
        /// The field.
        stored: u32,
    },
    /// The checksum does not fit.
    #[error("the WAL header does not fit its checksum")]
    Checksum,
    /// Whole, but of another format: SQLite refuses it.
    #[error("unknown WAL version {version}")]
    Version {
        /// The field.
        version: u32,
    },
}

impl WalHeader {
    /// Reads the header of a log, checking in SQLite's order.
    ///
    /// # Errors
    /// See [`WalHeaderError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, WalHeaderError> {
        let header: &[u8; WAL_HEADER_BYTES] =
            bytes.first_chunk().ok_or(WalHeaderError::Short { bytes: bytes.len() })?;
        let field = |offset| u32_be(header, offset).unwrap_or_default();
        let order = match field(0) {
            MAGIC => ChecksumOrder::LittleEndian,
            found if found == MAGIC | 1 => ChecksumOrder::BigEndian,
            found => return Err(WalHeaderError::Magic { found }),
        };
        let page_size = PageSize::new(field(8)).ok_or(WalHeaderError::PageSize { stored: field(8) })?;
        let checksum = Checksum::default().over(order, &header[..24]);
        if Checksum::stored(header, 24) != Some(checksum) {
            return Err(WalHeaderError::Checksum);
        }
        if field(4) != VERSION {
            return Err(WalHeaderError::Version { version: field(4) });
        }
        let salts = array(header, 16).unwrap_or_default();
        Ok(Self { page_size, checkpoint_sequence: field(12), salts, order, checksum })
    }

    /// Where frame `number` (from 1) begins in the file.
    pub fn frame_offset(&self, number: u32) -> u64 {
        let before = u64::from(number.saturating_sub(1));
        WAL_HEADER_BYTES as u64 + before * self.frame_bytes() as u64
    }

    /// Where the content of frame `number` (from 1) begins in the file.
    pub fn content_offset(&self, number: u32) -> u64 {
        self.frame_offset(number) + FRAME_HEADER_BYTES as u64
    }

    fn frame_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.page_size.as_usize()
    }
}

/// The header of one frame, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The page that the frame holds.
    pub page: u32,
    /// The size of the database in pages after the transaction that this frame ends; 0 where it ends none.
    pub commit_pages: u32,
    /// The generation that it was written in.
    pub salts: [u8; 8],
    /// The checksum up to and with this frame.
    pub checksum: Checksum,
}

impl FrameHeader {
    /// Reads the header of a frame; `None` where there are too few bytes. Says nothing of its truth.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            page: u32_be(bytes, 0)?,
            commit_pages: u32_be(bytes, 4)?,
            salts: array(bytes, 8)?,
            checksum: Checksum::stored(bytes, 16)?,
        })
    }

    /// The checksum up to and with `frame` (header and content), if it is the next valid one of `wal` after
    /// `before`.
    fn accept(frame: &[u8], wal: &WalHeader, before: Checksum) -> Option<(Self, Checksum)> {
        let header = Self::parse(frame)?;
        if header.salts != wal.salts || header.page == 0 {
            return None;
        }
        let sum = before.over(wal.order, &frame[..8]).over(wal.order, frame.get(FRAME_HEADER_BYTES..)?);
        (sum == header.checksum).then_some((header, sum))
    }
}

/// A frame of a committed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number in the log, from 1.
    pub number: u32,
    /// The page that it holds.
    pub page: u32,
    /// The size of the database in pages after the transaction that this frame ends; 0 where it ends none.
    pub commit_pages: u32,
    /// The checksum up to and with this frame.
    pub checksum: Checksum,
}

/// The frames of the committed transactions of a log, in order, each checked. Ends at the last valid commit
/// frame, however much lies behind it. Holds one buffer, and the numbers of one transaction's frames.
#[derive(Debug)]
pub struct CommittedFrames<S> {
    source: S,
    header: WalHeader,
    checksum: Checksum,
    next_number: u32,
    last_number: u32,
    buffer: Vec<u8>,
    buffered: std::ops::Range<usize>,
    transaction: Vec<Frame>,
    given: usize,
    ended: bool,
}

impl<S: ReadAt> CommittedFrames<S> {
    /// Reads `source`, whose header is `header`, up to frame `limit` at most.
    pub fn new(source: S, header: WalHeader, limit: Option<u32>) -> Self {
        let frame_bytes = header.frame_bytes();
        let frames_at_once = (READ_BYTES / frame_bytes).max(1);
        Self {
            source,
            checksum: header.checksum,
            header,
            next_number: 1,
            last_number: limit.unwrap_or(u32::MAX - 1),
            buffer: vec![0; frames_at_once * frame_bytes],
            buffered: 0..0,
            transaction: Vec::new(),
            given: 0,
            ended: false,
        }
    }

    fn read_transaction(&mut self) -> io::Result<()> {
        self.transaction.clear();
        self.given = 0;
        while !self.ended {
            match self.read_frame()? {
                Some(frame) => self.transaction.push(frame),
                None => break,
            }
            if self.transaction.last().is_some_and(|frame| frame.commit_pages != 0) {
                return Ok(());
            }
        }
        self.ended = true;
        self.transaction.clear();
        Ok(())
    }

    fn read_frame(&mut self) -> io::Result<Option<Frame>> {
        if self.next_number > self.last_number || !self.fill()? {
            return Ok(None);
        }
        let frame_bytes = self.header.frame_bytes();
        let bytes = &self.buffer[self.buffered.start..self.buffered.start + frame_bytes];
        let Some((header, checksum)) = FrameHeader::accept(bytes, &self.header, self.checksum) else {
            return Ok(None);
        };
        self.buffered.start += frame_bytes;
        self.checksum = checksum;
        let number = self.next_number;
        self.next_number += 1;
        Ok(Some(Frame { number, page: header.page, commit_pages: header.commit_pages, checksum }))
    }

    /// Makes sure that a whole frame is in the buffer; `false` where the file has none any more.
    fn fill(&mut self) -> io::Result<bool> {
        if self.buffered.len() < self.header.frame_bytes() {
            let offset = self.header.frame_offset(self.next_number);
            let read = self.source.read_at(offset, &mut self.buffer)?;
            self.buffered = 0..read;
        }
        Ok(self.buffered.len() >= self.header.frame_bytes())
    }
}

impl<S: ReadAt> Iterator for CommittedFrames<S> {
    type Item = io::Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.given == self.transaction.len()
            && let Err(error) = self.read_transaction()
        {
            self.ended = true;
            return Some(Err(error));
        }
        let frame = self.transaction.get(self.given).copied()?;
        self.given += 1;
        Some(Ok(frame))
    }
}

/// Which frame holds the last version of each page. Eight bytes a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageIndex {
    /// (page, frame); ascending and unique once compact.
    entries: Vec<(u32, u32)>,
    compact: usize,
}

impl PageIndex {
    /// The frame that holds the last version of `page`.
    pub fn frame_of(&self, page: u32) -> Option<u32> {
        let at = self.entries.binary_search_by_key(&page, |entry| entry.0).ok()?;
        Some(self.entries[at].1)
    }

    /// The (page, frame) pairs of `pages`, ascending by page.
    pub fn range(&self, pages: std::ops::Range<u32>) -> &[(u32, u32)] {
        let start = self.entries.partition_point(|entry| entry.0 < pages.start);
        let rest = &self.entries[start..];
        &rest[..rest.partition_point(|entry| entry.0 < pages.end)]
    }

    /// How many pages have a version in the log.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no page has one.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes a frame, whose number is higher than all before.
    fn push(&mut self, page: u32, frame: u32) {
        self.entries.push((page, frame));
        if self.entries.len() >= 2 * self.compact.max(1 << 16) {
            self.finish();
        }
    }

    fn finish(&mut self) {
        // Descending by frame within a page, so that the first of each page is its last version.
        self.entries.sort_unstable_by_key(|(page, frame)| (*page, std::cmp::Reverse(*frame)));
        self.entries.dedup_by_key(|entry| entry.0);
        self.compact = self.entries.len();
    }
}

/// What the committed transactions of a log amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedWal {
    /// The log's header.
    pub header: WalHeader,
    /// The last committed frame; 0 where there is none.
    pub last_frame: u32,
    /// The size of the database in pages as of that frame; 0 where there is none.
    pub pages: u32,
    /// The cumulative checksum as of that frame, or the header's.
    pub checksum: Checksum,
    /// Where the last version of each page lies.
    pub index: PageIndex,
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Reading failed.
    #[error("read the WAL")]
    Read(#[from] io::Error),
    /// The log has a format that this reader does not know.
    #[error(transparent)]
    Format(WalHeaderError),
}

/// Reads and checks a whole log once, up to frame `limit` at most: `None` where SQLite would take it for empty.
///
/// # Errors
/// See [`WalError`].
pub fn committed_wal<S: ReadAt>(source: S, limit: Option<u32>) -> Result<Option<CommittedWal>, WalError> {
    let mut bytes = [0; WAL_HEADER_BYTES];
    if !source.fill_at(0, &mut bytes)? {
        return Ok(None);
    }
    let header = match WalHeader::parse(&bytes) {
        Ok(header) => header,
        Err(error @ WalHeaderError::Version { .. }) => return Err(WalError::Format(error)),
        Err(_) => return Ok(None),
    };
    let mut wal = CommittedWal {
        last_frame: 0,
        pages: 0,
        checksum: header.checksum,
        index: PageIndex::default(),
        header: header.clone(),
    };
    for frame in CommittedFrames::new(source, header, limit) {
        let frame = frame?;
        wal.index.push(frame.page, frame.number);
        if frame.commit_pages != 0 {
            (wal.last_frame, wal.pages, wal.checksum) = (frame.number, frame.commit_pages, frame.checksum);
        }
    }
    wal.index.finish();
    Ok(Some(wal))
}

#[cfg(test)]
mod tests;
