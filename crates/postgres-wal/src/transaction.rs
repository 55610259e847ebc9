//! The ends of transactions, as the log has them.
//!
//! Owns the layout of the records of commits, aborts and preparations. It deliberately reads past what such a
//! record says of files, statistics and caches: that is for the server that replays it.

use crate::fields::{Fields, Short};
use crate::meaning::{Meaning, Unread};
use crate::page::Version;
use crate::position::Lsn;
use crate::record::RecordHeader;
use crate::time::PgTime;

/// Which kind of record, as a part of `info`.
const KIND: u8 = 0x70;
const COMMIT: u8 = 0x00;
const PREPARE: u8 = 0x10;
const ABORT: u8 = 0x20;
const COMMIT_PREPARED: u8 = 0x30;
const ABORT_PREPARED: u8 = 0x40;
/// Whether flags follow the time.
const HAS_FLAGS: u8 = 0x80;

/// What of the following a record has.
mod has {
    pub(super) const DATABASE: u32 = 1 << 0;
    pub(super) const SUBTRANSACTIONS: u32 = 1 << 1;
    pub(super) const RELATIONS: u32 = 1 << 2;
    pub(super) const INVALIDATIONS: u32 = 1 << 3;
    pub(super) const TWO_PHASES: u32 = 1 << 4;
    pub(super) const ORIGIN: u32 = 1 << 5;
    pub(super) const GID: u32 = 1 << 7;
    pub(super) const DROPPED_STATISTICS: u32 = 1 << 8;
}

/// A relation's file: a tablespace, a database and a number.
const RELATION_BYTES: u64 = 12;
/// A message to forget something cached.
const INVALIDATION_BYTES: u64 = 16;
/// What the bytes of a prepared transaction are rounded up to, part by part.
const PREPARED_ALIGNMENT: u64 = 8;

/// Where a change came from, if logical replication brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its end in the log of the server that it came from.
    pub lsn: Lsn,
    /// When it was committed there.
    pub at: PgTime,
}

/// The end of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionEnd {
    /// The transaction that ended: for one of two phases the one that had been prepared, and not the one that
    /// ended it.
    pub xid: u32,
    /// When, by the server's clock.
    pub at: PgTime,
    /// Its subtransactions that ended in the same way; `None` where the record was too long to be kept whole.
    pub subtransactions: Option<Vec<u32>>,
    /// What it was prepared as, where that is written (`wal_level = logical`).
    pub gid: Option<String>,
    /// Whether it had been prepared.
    pub prepared: bool,
    /// Where it came from.
    pub origin: Option<Origin>,
}

/// A transaction that was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The transaction.
    pub xid: u32,
    /// When, by the server's clock.
    pub at: PgTime,
    /// What it was prepared as.
    pub gid: String,
    /// Its subtransactions; `None` where the record was too long to be kept whole.
    pub subtransactions: Option<Vec<u32>>,
    /// Where it came from.
    pub origin: Option<Origin>,
}

/// What people call a record of this kind; `None` where it has no meaning here.
pub(crate) const fn name_of(kind: u8) -> Option<&'static str> {
    Some(match kind & KIND {
        COMMIT => "commit",
        PREPARE => "prepare",
        ABORT => "abort",
        COMMIT_PREPARED => "commit prepared",
        ABORT_PREPARED => "abort prepared",
        _ => return None,
    })
}

/// Reads a record; of one that is `cut` only what lies at its beginning.
pub(crate) fn parse(
    header: &RecordHeader,
    fields: &mut Fields<'_>,
    cut: bool,
    version: Version,
) -> Result<Meaning, Unread> {
    Ok(match header.kind() & KIND {
        PREPARE => Meaning::Prepare(prepared(fields, cut)?),
        COMMIT | COMMIT_PREPARED => Meaning::Commit(end(header, fields, cut, version)?),
        _ => Meaning::Abort(end(header, fields, cut, version)?),
    })
}

fn end(
    header: &RecordHeader,
    fields: &mut Fields<'_>,
    cut: bool,
    version: Version,
) -> Result<TransactionEnd, Short> {
    let prepared = matches!(header.kind() & KIND, COMMIT_PREPARED | ABORT_PREPARED);
    let at = PgTime(fields.i64()?);
    if cut && !prepared {
        // The transaction is in the header of the record; all else is only known of whole ones.
        let (gid, origin) = (None, None);
        return Ok(TransactionEnd { xid: header.xid, at, subtransactions: None, gid, prepared, origin });
    }
    let flags = if header.kind() & HAS_FLAGS == 0 { 0 } else { fields.u32()? };
    let has = |flag: u32| flags & flag != 0;
    if has(has::DATABASE) {
        fields.bytes(8)?;
    }
    let subtransactions = if has(has::SUBTRANSACTIONS) { counted_xids(fields)? } else { Vec::new() };
    if has(has::RELATIONS) {
        skip_counted(fields, RELATION_BYTES)?;
    }
    if has(has::DROPPED_STATISTICS) {
        skip_counted(fields, statistics_bytes(version))?;
    }
    if has(has::INVALIDATIONS) {
        skip_counted(fields, INVALIDATION_BYTES)?;
    }
    let xid = if has(has::TWO_PHASES) { fields.u32()? } else { header.xid };
    let gid = if has(has::GID) { Some(fields.text()?) } else { None };
    let origin = if has(has::ORIGIN) { Some(origin(fields)?) } else { None };
    Ok(TransactionEnd { xid, at, subtransactions: Some(subtransactions), gid, prepared, origin })
}

/// How many bytes name an entry of the statistics: its number has 64 bits from 18 on.
const fn statistics_bytes(version: Version) -> u64 {
    match version {
        Version::V15 | Version::V16 | Version::V17 => 12,
        Version::V18 => 16,
    }
}

fn origin(fields: &mut Fields<'_>) -> Result<Origin, Short> {
    Ok(Origin { lsn: Lsn(fields.u64()?), at: PgTime(fields.i64()?) })
}

fn counted_xids(fields: &mut Fields<'_>) -> Result<Vec<u32>, Short> {
    let count = fields.count()?;
    xids(fields, count)
}

fn xids(fields: &mut Fields<'_>, count: u64) -> Result<Vec<u32>, Short> {
    let mut xids = Fields(fields.bytes(count * 4)?);
    Ok(std::iter::from_fn(|| xids.u32().ok()).collect())
}

fn skip_counted(fields: &mut Fields<'_>, each: u64) -> Result<(), Short> {
    let count = fields.count()?;
    fields.bytes(count * each).map(drop)
}

/// A prepared transaction is written as the file that outlives a restart; only what it begins with is read,
/// and what locks and the like follow is skipped.
fn prepared(fields: &mut Fields<'_>, cut: bool) -> Result<Prepared, Short> {
    let begins_with = fields.0.len() as u64;
    // A magic number and the length.
    fields.bytes(8)?;
    let xid = fields.u32()?;
    // The database.
    fields.bytes(4)?;
    let at = PgTime(fields.i64()?);
    // The owner.
    fields.bytes(4)?;
    let subtransactions = fields.count()?;
    // How many relations, statistics and invalidations there are, and a flag with padding.
    fields.bytes(5 * 4 + 2)?;
    let gid_bytes = u64::from(fields.u16()?);
    let from = origin(fields)?;
    let gid = Fields(fields.bytes(gid_bytes)?).text()?;
    let read = begins_with - fields.0.len() as u64;
    fields.bytes(read.wrapping_neg() % PREPARED_ALIGNMENT)?;
    let subtransactions = match xids(fields, subtransactions) {
        Err(Short) if cut => None,
        xids => Some(xids?),
    };
    fields.0 = &[];
    let origin = (from.lsn != Lsn::ZERO).then_some(from);
    Ok(Prepared { xid, at, gid, subtransactions, origin })
}
