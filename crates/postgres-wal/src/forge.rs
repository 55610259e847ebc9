//! Logs for tests, written page by page as PostgreSQL writes them, and as no PostgreSQL would.

use crate::page::Version;
use crate::position::{Lsn, SegmentSize};
use crate::record::{RECORD_HEADER_BYTES, RecordCrc, manager};

pub(crate) const SEGMENT: SegmentSize = match SegmentSize::new(1 << 20) {
    Some(size) => size,
    None => panic!("1 MiB is a size"),
};
pub(crate) const SYSTEM: u64 = 7_001_002_003_004_005_006;

/// A log that is being written.
#[derive(Clone, Debug)]
pub(crate) struct Forge {
    pub(crate) bytes: Vec<u8>,
    pub(crate) start: Lsn,
    pub(crate) version: Version,
    pub(crate) page_bytes: u64,
    pub(crate) timeline: u32,
    pub(crate) previous: Lsn,
    /// Where each record begins and ends.
    pub(crate) records: Vec<(Lsn, Lsn)>,
}

impl Forge {
    pub(crate) fn new(version: Version) -> Self {
        let start = Lsn(1 << 20);
        Self {
            bytes: Vec::new(),
            start,
            version,
            page_bytes: 8192,
            timeline: 1,
            previous: Lsn(100),
            records: Vec::new(),
        }
    }

    pub(crate) fn position(&self) -> Lsn {
        self.start.after(self.bytes.len() as u64)
    }

    /// The header of a page, where one is due.
    pub(crate) fn page(&mut self, flags: u16, remaining: u32) {
        let at = self.position();
        let long = SEGMENT.start_of(at) == at;
        let flags = flags | if long { 2 } else { 0 };
        self.bytes.extend(self.version.page_magic().to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(self.timeline.to_le_bytes());
        self.bytes.extend(at.0.to_le_bytes());
        self.bytes.extend(remaining.to_le_bytes());
        self.bytes.extend([0; 4]);
        if long {
            self.bytes.extend(SYSTEM.to_le_bytes());
            self.bytes.extend((SEGMENT.bytes() as u32).to_le_bytes());
            self.bytes.extend((self.page_bytes as u32).to_le_bytes());
        }
    }

    fn at_page(&self) -> bool {
        self.position().0.is_multiple_of(self.page_bytes)
    }

    /// Bytes of a record, with the headers of the pages that they go through.
    pub(crate) fn continued(&mut self, mut bytes: &[u8]) {
        let mut flags = 0;
        while !bytes.is_empty() {
            if self.at_page() {
                self.page(flags, if flags == 0 { 0 } else { bytes.len() as u32 });
            }
            let room = (self.page_bytes - self.position().0 % self.page_bytes) as usize;
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.bytes.extend(now);
            bytes = rest;
            flags = 1;
        }
        while !self.bytes.len().is_multiple_of(8) {
            self.bytes.push(0);
        }
    }

    /// A record with such bytes behind its header.
    pub(crate) fn raw(&mut self, manager: u8, info: u8, xid: u32, body: &[u8]) -> Lsn {
        if self.at_page() {
            self.page(0, 0);
        }
        let start = self.position();
        let record = record(self.previous, manager, info, xid, body);
        self.continued(&record);
        self.previous = start;
        self.records.push((start, self.position()));
        start
    }

    /// A record with such data.
    pub(crate) fn record(&mut self, manager: u8, info: u8, xid: u32, data: &[u8]) -> Lsn {
        let length = (data.len() as u32).to_le_bytes();
        let head = if data.len() < 256 { vec![255, length[0]] } else { [&[254][..], &length].concat() };
        self.raw(manager, info, xid, &[&head[..], data].concat())
    }

    /// A commit without anything but its time.
    pub(crate) fn commit(&mut self, xid: u32, at: i64) -> Lsn {
        self.record(manager::TRANSACTION, 0x00, xid, &at.to_le_bytes())
    }

    pub(crate) fn abort(&mut self, xid: u32, at: i64) -> Lsn {
        self.record(manager::TRANSACTION, 0x20, xid, &at.to_le_bytes())
    }

    /// A commit of a transaction that had been prepared, by another one.
    pub(crate) fn commit_prepared(&mut self, by: u32, xid: u32, at: i64) -> Lsn {
        let data = [&at.to_le_bytes()[..], &(1u32 << 4).to_le_bytes(), &xid.to_le_bytes()].concat();
        self.record(manager::TRANSACTION, 0xb0, by, &data)
    }

    /// A commit with subtransactions.
    pub(crate) fn commit_with(&mut self, xid: u32, at: i64, parts: &[u32]) -> Lsn {
        let parts: Vec<u8> =
            [parts.len() as u32].iter().chain(parts).flat_map(|part| part.to_le_bytes()).collect();
        let data = [&at.to_le_bytes()[..], &(1u32 << 1).to_le_bytes(), &parts].concat();
        self.record(manager::TRANSACTION, 0x80, xid, &data)
    }

    pub(crate) fn restore_point(&mut self, name: &str, at: i64) -> Lsn {
        let mut data = [&at.to_le_bytes()[..], name.as_bytes()].concat();
        data.resize(72, 0);
        self.record(manager::XLOG, 0x70, 0, &data)
    }

    pub(crate) fn end_of_recovery(&mut self, timeline: u32, previous: u32) -> Lsn {
        let mut data = [&5i64.to_le_bytes()[..], &timeline.to_le_bytes(), &previous.to_le_bytes()].concat();
        if self.version >= Version::V17 {
            data.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        }
        self.record(manager::XLOG, 0x90, 0, &data)
    }

    /// A record that means nothing here.
    pub(crate) fn other(&mut self, bytes: usize) -> Lsn {
        self.record(10, 0x00, 9, &vec![0x5a; bytes])
    }

    /// A switch, and nothing up to the end of its segment.
    pub(crate) fn switch(&mut self) -> Lsn {
        let start = self.raw(manager::XLOG, 0x40, 0, &[]);
        let end = SEGMENT.start_from(self.position());
        self.bytes.resize(end.since(self.start) as usize, 0);
        if let Some(last) = self.records.last_mut() {
            last.1 = end;
        }
        start
    }
}

/// A whole record, as it is before it is cut into pages.
pub(crate) fn record(previous: Lsn, manager: u8, info: u8, xid: u32, body: &[u8]) -> Vec<u8> {
    let mut header = [0; RECORD_HEADER_BYTES];
    header[..4].copy_from_slice(&((RECORD_HEADER_BYTES + body.len()) as u32).to_le_bytes());
    header[4..8].copy_from_slice(&xid.to_le_bytes());
    header[8..16].copy_from_slice(&previous.0.to_le_bytes());
    (header[16], header[17]) = (info, manager);
    let crc = RecordCrc::default().body(body).finish(&header);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    [&header[..], body].concat()
}
