//! The rollback journal: old pages, kept so that a transaction that did not end can be undone.
//!
//! ```text
//! segment := header (padded to a sector) record*          next segment starts on a sector
//! header  := magic8 count4 nonce4 initial-pages4 sector-size4 page-size4
//! record  := page4 content checksum4
//! end     := lock-page4 name length4 checksum4 magic8       only where several databases commit as one
//! ```
//!
//! Owns the format and the rule that tells a *hot* journal from one that means nothing. It does not know how to
//! look for locks or files: whoever asks brings the answers.

use crate::bytes::{array, u32_be};
use crate::{PageSize, ReadAt};
use std::io;

const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
const HEADER_BYTES: usize = 28;
/// What SQLite takes for the sector size until the first header states another.
const ASSUMED_SECTOR_BYTES: u64 = 512;
const MAX_SECTOR_BYTES: u32 = 65_536;
/// Length, checksum and magic behind the name of a super-journal.
const SUPER_TRAILER_BYTES: u64 = 16;
/// SQLite's `MAX_PATHNAME` on Unix: a longer name is no name.
const MAX_SUPER_NAME_BYTES: u32 = 512;

/// How many records follow a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordCount {
    /// So many; zero where the segment was never synced, so that the database cannot have been changed by it.
    Exactly(u32),
    /// As many as the file holds: the writer runs without syncing (stored as -1).
    UntilEnd,
}

/// The header of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalHeader {
    /// How many records follow.
    pub records: RecordCount,
    /// What the checksums of its records start from.
    pub nonce: u32,
    /// The size of the database in pages before the transaction.
    pub initial_pages: u32,
    /// The size of a sector in bytes: headers lie on multiples of it. Meant only in the first header.
    pub sector_bytes: u32,
    /// The database's page size; `None` from SQLite before 3.5.8, which stored 0. Meant only in the first header.
    pub page_size: Option<PageSize>,
}

/// Why bytes are not the header of a journal. SQLite ends a playback at such bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalHeaderError {
    /// Fewer bytes than a header has.
    #[error("{bytes} bytes are too few for a journal header")]
    Short {
        /// How many there are.
        bytes: usize,
    },
    /// Not a journal, or one that was ended by overwriting its header.
    #[error("a journal does not start like this")]
    Magic,
    /// The sector size is none that SQLite knows.
    #[error("sector size {stored} in a journal header")]
    SectorSize {
        /// The field.
        stored: u32,
    },
    /// The page size is none that SQLite knows.
    #[error("page size {stored} in a journal header")]
    PageSize {
        /// The field.
        stored: u32,
    },
}

impl JournalHeader {
    /// Reads the first header of a journal.
    ///
    /// # Errors
    /// See [`JournalHeaderError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, JournalHeaderError> {
        let header = Self::parse_later(bytes)?;
        let sector = header.sector_bytes;
        if !(32..=MAX_SECTOR_BYTES).contains(&sector) || !sector.is_power_of_two() {
            return Err(JournalHeaderError::SectorSize { stored: sector });
        }
        let stored = u32_be(bytes, 24).unwrap_or_default();
        let page_size = match stored {
            0 => None,
            _ => Some(PageSize::new(stored).ok_or(JournalHeaderError::PageSize { stored })?),
        };
        Ok(Self { page_size, ..header })
    }

    /// Reads the header of a segment that is not the first, whose sizes SQLite does not look at.
    fn parse_later(bytes: &[u8]) -> Result<Self, JournalHeaderError> {
        let header: &[u8; HEADER_BYTES] =
            bytes.first_chunk().ok_or(JournalHeaderError::Short { bytes: bytes.len() })?;
        if !header.starts_with(&MAGIC) {
            return Err(JournalHeaderError::Magic);
        }
        let field = |offset| u32_be(header, offset).unwrap_or_default();
        let records = match field(8) {
            u32::MAX => RecordCount::UntilEnd,
            count => RecordCount::Exactly(count),
        };
        Ok(Self {
            records,
            nonce: field(12),
            initial_pages: field(16),
            sector_bytes: field(20),
            page_size: None,
        })
    }
}

/// One page as it was before the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalRecord<'a> {
    /// The page's number, from 1.
    pub page: u32,
    /// The page's old content.
    pub content: &'a [u8],
    /// Which segment it lies in, from 0.
    pub segment: u32,
}

/// The records that SQLite would play back from a hot journal, in its order, ending where it would end: at a
/// header that is none, a checksum that does not fit, or the end of the file.
#[derive(Debug)]
pub struct JournalRecords<S> {
    source: S,
    size_bytes: u64,
    first: JournalHeader,
    page_size: PageSize,
    offset: u64,
    nonce: u32,
    left_in_segment: u32,
    segment: u32,
    buffer: Vec<u8>,
}

impl<S: ReadAt> JournalRecords<S> {
    /// Starts at the first header; `None` where there is none, so that nothing would be played back.
    ///
    /// `fallback` is the database's page size, for a journal that does not state one.
    ///
    /// # Errors
    /// What reading says.
    pub fn new(source: S, fallback: PageSize) -> io::Result<Option<Self>> {
        let size_bytes = source.size_bytes()?;
        let mut bytes = [0; HEADER_BYTES];
        if size_bytes < ASSUMED_SECTOR_BYTES || !source.fill_at(0, &mut bytes)? {
            return Ok(None);
        }
        let Ok(first) = JournalHeader::parse(&bytes) else { return Ok(None) };
        let page_size = first.page_size.unwrap_or(fallback);
        let mut records = Self {
            source,
            size_bytes,
            nonce: 0,
            offset: 0,
            left_in_segment: 0,
            segment: 0,
            buffer: vec![0; page_size.as_usize() + 8],
            page_size,
            first,
        };
        records.enter_segment(0, &records.first.clone());
        Ok(Some(records))
    }

    /// The first header.
    pub fn header(&self) -> &JournalHeader {
        &self.first
    }

    /// The size of the pages in it.
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// The next record to play back, or `None` at the end.
    ///
    /// # Errors
    /// What reading says.
    pub fn next_record(&mut self) -> io::Result<Option<JournalRecord<'_>>> {
        loop {
            while self.left_in_segment > 0 {
                match self.read_record()? {
                    Step::Play(page) => {
                        let content = &self.buffer[4..4 + self.page_size.as_usize()];
                        return Ok(Some(JournalRecord { page, content, segment: self.segment }));
                    }
                    Step::PassOver => {}
                    Step::End => return self.end(),
                }
            }
            if !self.next_segment()? {
                return self.end();
            }
        }
    }

    fn end(&mut self) -> io::Result<Option<JournalRecord<'_>>> {
        self.left_in_segment = 0;
        self.offset = self.size_bytes;
        Ok(None)
    }

    fn enter_segment(&mut self, start: u64, header: &JournalHeader) {
        self.offset = start.saturating_add(u64::from(self.first.sector_bytes));
        self.nonce = header.nonce;
        self.left_in_segment = match header.records {
            RecordCount::Exactly(count) => count,
            // Counted from the first header, as SQLite does: nothing follows such a segment.
            RecordCount::UntilEnd => {
                let rest = self.size_bytes.saturating_sub(u64::from(self.first.sector_bytes));
                u32::try_from(rest / self.record_bytes()).unwrap_or(u32::MAX)
            }
        };
    }

    fn record_bytes(&self) -> u64 {
        u64::from(self.page_size.get()) + 8
    }

    fn next_segment(&mut self) -> io::Result<bool> {
        let sector = u64::from(self.first.sector_bytes);
        let start = self.offset.div_ceil(sector).saturating_mul(sector);
        let mut bytes = [0; HEADER_BYTES];
        if start.saturating_add(sector) > self.size_bytes || !self.source.fill_at(start, &mut bytes)? {
            return Ok(false);
        }
        let Ok(header) = JournalHeader::parse_later(&bytes) else { return Ok(false) };
        self.enter_segment(start, &header);
        self.segment = self.segment.saturating_add(1);
        Ok(true)
    }

    fn read_record(&mut self) -> io::Result<Step> {
        self.left_in_segment -= 1;
        let read = self.source.read_at(self.offset, &mut self.buffer)?;
        let content_end = self.page_size.as_usize() + 4;
        if read < content_end {
            return Ok(Step::End);
        }
        self.offset = self.offset.saturating_add(self.record_bytes());
        let page = u32_be(&self.buffer, 0).unwrap_or_default();
        if page == 0 || page == self.page_size.lock_page() {
            return Ok(Step::End);
        }
        // Looked at before the checksum, as SQLite does: such a page was new, and is cut off.
        if page > self.first.initial_pages {
            return Ok(Step::PassOver);
        }
        let content = &self.buffer[4..content_end];
        let whole = read == self.buffer.len();
        let fits = u32_be(&self.buffer, content_end) == Some(record_checksum(self.nonce, content));
        Ok(if whole && fits { Step::Play(page) } else { Step::End })
    }
}

enum Step {
    Play(u32),
    PassOver,
    End,
}

/// SQLite sums one byte in two hundred: enough to notice a page that was never written.
fn record_checksum(nonce: u32, content: &[u8]) -> u32 {
    let mut sum = nonce;
    let mut at = content.len().saturating_sub(200);
    while at > 0 {
        sum = sum.wrapping_add(u32::from(content[at]));
        at = at.saturating_sub(200);
    }
    sum
}

/// The record at the end of a journal that names a super-journal: several databases are committed as one by
/// deleting that file, so while it exists they are not committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuperJournal {
    /// The path, as the writer saw it.
    pub name: Vec<u8>,
    /// Where the record begins. A copy of the journal that is cut off here names no super-journal.
    pub record_offset: u64,
}

/// The super-journal that a journal names, if it names one.
///
/// Newer versions of SQLite also require that the name looks like one of theirs (`…-mjXXXXXX9XX`), so that a
/// crafted journal cannot make them delete a file. This reader follows them.
///
/// # Errors
/// What reading says.
pub fn super_journal(journal: &(impl ReadAt + ?Sized)) -> io::Result<Option<SuperJournal>> {
    let size_bytes = journal.size_bytes()?;
    let Some(trailer_offset) = size_bytes.checked_sub(SUPER_TRAILER_BYTES) else { return Ok(None) };
    let mut trailer = [0; SUPER_TRAILER_BYTES as usize];
    if !journal.fill_at(trailer_offset, &mut trailer)? || array::<8>(&trailer, 8) != Some(MAGIC) {
        return Ok(None);
    }
    let length = u32_be(&trailer, 0).unwrap_or_default();
    if length == 0 || length > MAX_SUPER_NAME_BYTES || u64::from(length) > trailer_offset {
        return Ok(None);
    }
    let name_offset = trailer_offset - u64::from(length);
    let mut name = vec![0; length as usize];
    if !journal.fill_at(name_offset, &mut name)? || !name_checksum_fits(&name, u32_be(&trailer, 4)) {
        return Ok(None);
    }
    // SQLite reads the name as a C string.
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    name.truncate(end);
    let record_offset = name_offset.saturating_sub(4);
    Ok(looks_like_a_super_journal(&name).then_some(SuperJournal { name, record_offset }))
}

/// The bytes are summed as C's `char`, which is signed on x86 and unsigned on ARM.
fn name_checksum_fits(name: &[u8], stored: Option<u32>) -> bool {
    let signed = name.iter().fold(0u32, |sum, byte| sum.wrapping_add_signed(i32::from(byte.cast_signed())));
    let unsigned = name.iter().fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    stored == Some(signed) || stored == Some(unsigned)
}

fn looks_like_a_super_journal(name: &[u8]) -> bool {
    let Some(tail) = name.last_chunk::<12>() else { return false };
    tail.starts_with(b"-mj") && tail[9] == b'9' && tail[3..].iter().all(u8::is_ascii_hexdigit)
}

/// What a journal beside a database means. Only [`Hotness::Hot`] asks for anything to be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hotness {
    /// There is none, or it is empty (`journal_mode=TRUNCATE`).
    Absent,
    /// The database has no byte: the journal is left over from another one of the same name.
    NoDatabase,
    /// A writer is at work and the journal is its own. The database is as its last transaction left it.
    Live,
    /// Its first byte is zero: it was ended (`journal_mode=PERSIST`).
    Ended,
    /// It belongs to a transaction over several databases that is committed: its super-journal is gone.
    Committed(SuperJournal),
    /// A transaction did not end. The database must not be read before the journal is played back.
    Hot {
        /// The super-journal that it names, which exists.
        super_journal: Option<SuperJournal>,
    },
}

/// What a journal beside a database means, by SQLite's rules.
///
/// To be asked while SHARED is held on the database, so that nobody can begin to change it. `reserved` says
/// whether somebody else holds RESERVED; `exists` whether a super-journal exists, which for SQLite means a file
/// that is not empty.
///
/// # Errors
/// What reading says, and what `exists` says.
pub fn hotness<J: ReadAt + ?Sized>(
    journal: Option<&J>,
    database_bytes: u64,
    reserved: bool,
    exists: impl FnOnce(&SuperJournal) -> io::Result<bool>,
) -> io::Result<Hotness> {
    let Some(journal) = journal else { return Ok(Hotness::Absent) };
    let mut first = [0];
    if !journal.fill_at(0, &mut first)? {
        return Ok(Hotness::Absent);
    }
    if reserved {
        return Ok(Hotness::Live);
    }
    if database_bytes == 0 {
        return Ok(Hotness::NoDatabase);
    }
    if first == [0] {
        return Ok(Hotness::Ended);
    }
    match super_journal(journal)? {
        Some(named) if !exists(&named)? => Ok(Hotness::Committed(named)),
        super_journal => Ok(Hotness::Hot { super_journal }),
    }
}

#[cfg(test)]
mod tests;
