//! The bytes of a spool: what a file and a record begin with.
//!
//! ```text
//! file    head block │ record │ record │ … │ zeros
//! record  head (80 bytes) │ content │ zeros up to the next block
//! ```
//! All numbers are little-endian. A file is zeros before it is begun, so that nothing that follows a record can be
//! taken for one. Records begin at blocks, so that no block that holds an acknowledged record is ever written again.
//! The hashes of a file's records are keyed by its head: a record of another file never fits. This module
//! deliberately knows no file system.

use lifeboat_base::clock::Timestamp;
use lifeboat_base::random;
use lifeboat_postgres_wal::{Lsn, SystemId, TimelineId};
use lifeboat_repository::ids::{DatasetName, RepositoryId};

/// What disks write at once, in bytes.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// The head of a record, in bytes.
pub(crate) const HEAD_BYTES: usize = 80;
/// No record holds more: a stretch is at most half as long.
pub(crate) const MAX_CONTENT_BYTES: usize = 16 << 20;
const FILE_MAGIC: &[u8; 8] = b"LBSPOOL1";
const RECORD_MAGIC: &[u8; 4] = b"LBrc";
/// The part of a record's head that its own hash is of: fields and the hash of the content.
const HASHED_BYTES: usize = 64;

/// Whose a spool is: it is published nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolOwner {
    /// The repository.
    pub repository: RepositoryId,
    /// The dataset.
    pub dataset: DatasetName,
}

/// What a file begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileHead {
    pub(crate) owner: SpoolOwner,
    /// The cluster whose log it holds.
    pub(crate) system: SystemId,
    /// Files follow each other by their numbers.
    pub(crate) sequence: u64,
    /// Where the file before this one ended: what lies behind that was never acknowledged.
    pub(crate) before_end: u64,
    /// The number of its first record.
    pub(crate) first: u64,
    /// Differs from file to file.
    pub(crate) tag: [u8; 16],
}

/// The key of the hashes of a file's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordKey([u8; 32]);

impl FileHead {
    pub(crate) fn new(
        owner: &SpoolOwner,
        system: SystemId,
        sequence: u64,
        before_end: u64,
        first: u64,
    ) -> Self {
        Self { owner: owner.clone(), system, sequence, before_end, first, tag: random::bytes() }
    }

    fn fields(&self) -> Vec<u8> {
        let dataset = self.owner.dataset.as_str().as_bytes();
        // A name has at most 100 bytes.
        let length = u8::try_from(dataset.len()).unwrap_or(u8::MAX);
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        bytes.extend_from_slice(FILE_MAGIC);
        bytes.extend_from_slice(&self.owner.repository.0);
        for number in [self.system.0, self.sequence, self.before_end, self.first] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.tag);
        bytes.push(length);
        bytes.extend_from_slice(dataset);
        bytes
    }

    /// The block that a file begins with, and the key of its records.
    pub(crate) fn encode(&self) -> (Vec<u8>, RecordKey) {
        let mut bytes = self.fields();
        let hash = *blake3::hash(&bytes).as_bytes();
        bytes.extend_from_slice(&hash);
        bytes.resize(BLOCK_BYTES, 0);
        (bytes, RecordKey(hash))
    }

    /// Reads such a block; `None` where it is none.
    pub(crate) fn parse(block: &[u8]) -> Option<(Self, RecordKey)> {
        let mut fields = Fields(block);
        if fields.take::<8>()? != *FILE_MAGIC {
            return None;
        }
        let repository = RepositoryId(fields.take()?);
        let [system, sequence, before_end, first] =
            [fields.number()?, fields.number()?, fields.number()?, fields.number()?];
        let tag = fields.take()?;
        let [length] = fields.take::<1>()?;
        let name = fields.slice(usize::from(length))?;
        let hashed = block.len() - fields.0.len();
        let hash = *blake3::hash(&block[..hashed]).as_bytes();
        let rest_is_zero = |rest: &[u8]| rest.iter().all(|byte| *byte == 0);
        if fields.take::<32>()? != hash || !rest_is_zero(fields.0) {
            return None;
        }
        let dataset = DatasetName::new(std::str::from_utf8(name).ok()?).ok()?;
        let owner = SpoolOwner { repository, dataset };
        Some((Self { owner, system: SystemId(system), sequence, before_end, first, tag }, RecordKey(hash)))
    }
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A stretch of WAL.
    Wal,
    /// The history of a timeline.
    History,
}

/// What a record begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHead {
    /// Records follow each other by their numbers, from file to file.
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) timeline: TimelineId,
    /// The first position of a stretch; zero for a history.
    pub(crate) start: Lsn,
    /// Bytes of content.
    pub(crate) length: u32,
    /// When its first byte arrived.
    pub(crate) first: Timestamp,
    /// When its last byte arrived.
    pub(crate) last: Timestamp,
}

impl RecordHead {
    pub(crate) fn end(&self) -> Lsn {
        self.start.after(u64::from(self.length))
    }

    /// Bytes of the record with what fills its last block.
    pub(crate) fn padded(&self) -> u64 {
        (HEAD_BYTES as u64 + u64::from(self.length)).next_multiple_of(BLOCK_BYTES as u64)
    }
}

/// The hash of a record's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentHash([u8; 16]);

/// Bytes at the place of a record's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadHead {
    /// Nothing was ever written there.
    Zeros,
    /// Neither zeros nor a head.
    Broken,
    /// A record.
    Record(RecordHead, ContentHash),
}

impl RecordKey {
    pub(crate) fn content(&self, content: &[u8]) -> ContentHash {
        ContentHash(self.hash(content))
    }

    fn hash(&self, bytes: &[u8]) -> [u8; 16] {
        let hash = blake3::keyed_hash(&self.0, bytes);
        let mut half = [0; 16];
        half.copy_from_slice(&hash.as_bytes()[..16]);
        half
    }

    /// A record as it is written, into `bytes`.
    pub(crate) fn encode(&self, head: &RecordHead, content: &[u8], bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.extend_from_slice(RECORD_MAGIC);
        let kind = match head.kind {
            Kind::Wal => 1u32,
            Kind::History => 2,
        };
        for number in [kind, head.timeline.0, head.length] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [head.number, head.start.0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for time in [head.first, head.last] {
            bytes.extend_from_slice(&time.as_nanos().to_le_bytes());
        }
        bytes.extend_from_slice(&self.content(content).0);
        let hash = self.hash(bytes);
        bytes.extend_from_slice(&hash);
        bytes.extend_from_slice(content);
        bytes.resize(usize::try_from(head.padded()).unwrap_or(usize::MAX), 0);
    }

    /// Reads the head of a record.
    pub(crate) fn parse(&self, bytes: &[u8; HEAD_BYTES]) -> ReadHead {
        if bytes.iter().all(|byte| *byte == 0) {
            return ReadHead::Zeros;
        }
        self.parse_head(bytes).map_or(ReadHead::Broken, |(head, content)| ReadHead::Record(head, content))
    }

    fn parse_head(&self, bytes: &[u8; HEAD_BYTES]) -> Option<(RecordHead, ContentHash)> {
        let mut fields = Fields(bytes);
        if fields.take::<4>()? != *RECORD_MAGIC || self.hash(&bytes[..HASHED_BYTES]) != bytes[HASHED_BYTES..]
        {
            return None;
        }
        let kind = match u32::from_le_bytes(fields.take()?) {
            1 => Kind::Wal,
            2 => Kind::History,
            _ => return None,
        };
        let timeline = TimelineId(u32::from_le_bytes(fields.take()?));
        let length = u32::from_le_bytes(fields.take()?);
        let (number, start) = (fields.number()?, Lsn(fields.number()?));
        let [first, last] = [fields.take()?, fields.take()?].map(|nanos| {
            let nanos: [u8; 8] = nanos;
            Timestamp::from_nanos(i64::from_le_bytes(nanos))
        });
        let content = ContentHash(fields.take()?);
        let fits = length as usize <= MAX_CONTENT_BYTES
            && start.0.checked_add(u64::from(length)).is_some()
            && (kind == Kind::Wal || start == Lsn::ZERO)
            && timeline.0 > 0;
        fits.then_some((RecordHead { number, kind, timeline, start, length, first, last }, content))
    }
}

/// For fuzzing: makes the hash fit in the block that a file begins with.
pub(super) fn refit_file_head(bytes: &mut [u8]) {
    const NAME_AT: usize = 8 + 16 + 4 * 8 + 16;
    let Some(length) = bytes.get(NAME_AT) else { return };
    let hashed = NAME_AT + 1 + usize::from(*length);
    if bytes.len() >= hashed + 32 {
        let hash = *blake3::hash(&bytes[..hashed]).as_bytes();
        bytes[hashed..hashed + 32].copy_from_slice(&hash);
    }
}

/// For fuzzing: makes the hashes fit, where a record seems to begin.
pub(super) fn refit_record(key: &RecordKey, bytes: &mut [u8]) {
    if bytes.len() < HEAD_BYTES || !bytes.starts_with(RECORD_MAGIC) {
        return;
    }
    let length = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
    if let Some(content) = bytes[HEAD_BYTES..].get(..length as usize) {
        let hash = key.content(content);
        bytes[HASHED_BYTES - 16..HASHED_BYTES].copy_from_slice(&hash.0);
    }
    let hash = key.hash(&bytes[..HASHED_BYTES]);
    bytes[HASHED_BYTES..HEAD_BYTES].copy_from_slice(&hash);
}

/// Bytes that are read from the front.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn slice(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.slice(N)?.try_into().ok()
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> SpoolOwner {
        SpoolOwner { repository: RepositoryId([7; 16]), dataset: DatasetName::new("app").unwrap() }
    }

    fn head(length: u32) -> RecordHead {
        RecordHead {
            number: 9,
            kind: Kind::Wal,
            timeline: TimelineId(3),
            start: Lsn(0x1234),
            length,
            first: Timestamp::from_nanos(-5),
            last: Timestamp::from_nanos(6),
        }
    }

    #[test]
    fn a_file_s_head_is_read_back_and_nothing_else_is_one() {
        let head = FileHead::new(&owner(), SystemId(5), 2, 8192, 77);
        let (block, key) = head.encode();
        assert_eq!(block.len(), BLOCK_BYTES);
        assert_eq!(FileHead::parse(&block), Some((head, key)));
        for at in [0, 9, 30, 60, 80, 100, BLOCK_BYTES - 1] {
            let mut other = block.clone();
            other[at] ^= 1;
            assert_eq!(FileHead::parse(&other), None, "{at}");
        }
        assert_eq!(FileHead::parse(&[0; BLOCK_BYTES]), None);
        assert_eq!(FileHead::parse(&block[..40]), None);
    }

    #[test]
    fn a_record_is_read_back_by_the_file_that_it_is_of() {
        let (_, key) = FileHead::new(&owner(), SystemId(5), 2, 0, 0).encode();
        let (_, other) = FileHead::new(&owner(), SystemId(5), 2, 0, 0).encode();
        let (head, content) = (head(5000), vec![1; 5000]);
        let mut bytes = Vec::new();
        key.encode(&head, &content, &mut bytes);
        assert_eq!(bytes.len(), 2 * BLOCK_BYTES);
        assert_eq!(bytes.len() as u64, head.padded());
        let read: &[u8; HEAD_BYTES] = bytes[..HEAD_BYTES].try_into().unwrap();
        assert_eq!(key.parse(read), ReadHead::Record(head, key.content(&content)));
        assert_eq!(other.parse(read), ReadHead::Broken, "it is of another file");
        assert_ne!(key.content(&content), key.content(&content[1..]));
        assert_eq!(key.parse(&[0; HEAD_BYTES]), ReadHead::Zeros);
    }

    #[test]
    fn what_no_writer_writes_is_no_record() {
        let (_, key) = FileHead::new(&owner(), SystemId(5), 2, 0, 0).encode();
        let read = |head: RecordHead| {
            let mut bytes = Vec::new();
            key.encode(&head, &[], &mut bytes);
            key.parse(bytes[..HEAD_BYTES].try_into().unwrap())
        };
        assert!(matches!(read(head(0)), ReadHead::Record(..)));
        for bad in [
            RecordHead { timeline: TimelineId(0), ..head(0) },
            RecordHead { kind: Kind::History, ..head(0) },
            RecordHead { start: Lsn(u64::MAX), ..head(2) },
            head(MAX_CONTENT_BYTES as u32 + 1),
        ] {
            assert_eq!(read(bad), ReadHead::Broken, "{bad:?}");
        }
    }
}
