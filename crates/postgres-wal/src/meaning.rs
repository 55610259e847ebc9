//! What a record means, for the few kinds of records that a restore, a target or a measurement needs.
//!
//! Owns the layouts of those records in PostgreSQL 15 to 18. It deliberately does not know where in the log a
//! record is, and nothing of the records that change pages: what they do is PostgreSQL's to replay.

use crate::fields::{Fields, Short};
use crate::page::Version;
use crate::position::{Lsn, TimelineId};
use crate::record::{Body, RECORD_HEADER_BYTES, Record, RecordHeader, main_data, manager};
use crate::time::PgTime;
use crate::transaction::{self, Prepared, TransactionEnd};

/// The kinds of records of the log's own resource manager.
mod kind {
    pub(super) const CHECKPOINT_SHUTDOWN: u8 = 0x00;
    pub(super) const CHECKPOINT_ONLINE: u8 = 0x10;
    pub(super) const SWITCH: u8 = 0x40;
    pub(super) const BACKUP_END: u8 = 0x50;
    pub(super) const PARAMETER_CHANGE: u8 = 0x60;
    pub(super) const RESTORE_POINT: u8 = 0x70;
    pub(super) const FULL_PAGE_WRITES: u8 = 0x80;
    pub(super) const END_OF_RECOVERY: u8 = 0x90;
    pub(super) const OVERWRITE_CONTINUATION: u8 = 0xd0;
    pub(super) const TABLESPACE_CREATE: u8 = 0x00;
}

/// What `pg_create_restore_point` keeps of a name, with its end, in bytes.
const RESTORE_POINT_NAME_BYTES: u64 = 64;

/// A record with a meaning here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A transaction that was committed, in one phase or two.
    Commit(TransactionEnd),
    /// A transaction that was rolled back, in one phase or two.
    Abort(TransactionEnd),
    /// A transaction that was prepared, and is neither committed nor rolled back yet.
    Prepare(Prepared),
    /// A place with a name.
    RestorePoint {
        /// When it was made, by the server's clock.
        at: PgTime,
        /// Its name.
        name: String,
    },
    /// The rest of the segment is empty.
    Switch,
    /// A checkpoint.
    Checkpoint(Checkpoint),
    /// Recovery ended, and a timeline began.
    EndOfRecovery(EndOfRecovery),
    /// Settings that a standby must match, or a restore start with.
    Parameters(Parameters),
    /// `full_page_writes` was turned on or off.
    FullPageWrites {
        /// What it is now.
        on: bool,
    },
    /// A record, of which a crash left only the beginning, was given up.
    OverwriteContinuation {
        /// Where that record began.
        overwritten: Lsn,
        /// When, by the server's clock.
        at: PgTime,
    },
    /// A base backup was ended.
    BackupEnd {
        /// Where that backup's replay begins.
        start: Lsn,
    },
    /// A tablespace was made. Whoever replays it makes it at the same place.
    Tablespace {
        /// Its object identifier.
        oid: u32,
        /// Its folder; empty where it lies in the data directory.
        location: String,
    },
    /// What `pg_logical_emit_message` wrote.
    Message(Message),
}

/// A checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whether the server was shutting down (or had ended its recovery): nothing was written beside it.
    pub shutdown: bool,
    /// Where replay from this checkpoint begins.
    pub redo: Lsn,
    /// The timeline.
    pub timeline: TimelineId,
    /// The timeline before, where this checkpoint begins a new one; else the same.
    pub previous_timeline: TimelineId,
    /// Whether `full_page_writes` was on.
    pub full_page_writes: bool,
    /// The next transaction's identifier, with its epoch.
    pub next_xid: u64,
    /// When it began, by the server's clock, to the second.
    pub at: PgTime,
}

/// The end of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndOfRecovery {
    /// When, by the server's clock.
    pub at: PgTime,
    /// The timeline that begins.
    pub timeline: TimelineId,
    /// The timeline that it came from.
    pub previous_timeline: TimelineId,
}

/// How much of the changes a server writes to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalLevel {
    /// Only what a crash needs: nothing can be restored to a point from that.
    Minimal,
    /// What replicas and restores need.
    Replica,
    /// What logical decoding needs too.
    Logical,
}

/// The settings of the server that a restored one must not be below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_worker_processes`.
    pub max_worker_processes: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: u32,
    /// `wal_level`.
    pub wal_level: WalLevel,
    /// `wal_log_hints`.
    pub wal_log_hints: bool,
    /// `track_commit_timestamp`.
    pub track_commit_timestamp: bool,
}

/// A message for whoever reads the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The database that it was written in, by its number.
    pub database: u32,
    /// Whether it belongs to a transaction (the record's), and counts only with that.
    pub transactional: bool,
    /// What it is about.
    pub prefix: String,
    /// The message; of one that is longer than what the reader keeps, the beginning.
    pub content: Vec<u8>,
    /// How long the message is, in bytes.
    pub content_bytes: u64,
}

/// A record that has the right checksum and not the layout that its kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeaningError {
    /// Its fields do not fit its length.
    #[error("a {kind} record of PostgreSQL {version} does not have the length that its fields need")]
    Layout {
        /// What it is.
        kind: &'static str,
        /// Whose layout was expected.
        version: Version,
    },
    /// A `wal_level` that does not exist.
    #[error("a parameter change sets the unknown wal_level {found}")]
    WalLevel {
        /// The number of the level.
        found: i32,
    },
    /// What is needed of it lies behind what the reader keeps of a record.
    #[error("a {kind} record of {bytes} bytes is too long to be read")]
    TooLong {
        /// What it is.
        kind: &'static str,
        /// How long it is.
        bytes: u32,
    },
}

impl Record<'_> {
    /// What it means; `None` where it means nothing here.
    ///
    /// # Errors
    /// Where it does not have the layout that its kind has.
    pub fn meaning(&self) -> Result<Option<Meaning>, MeaningError> {
        parse(&self.header, self.body, self.version)
    }
}

/// Whether a record can mean something here, so that its bytes are worth keeping.
pub(crate) const fn is_of_interest(header: &RecordHeader) -> bool {
    name_of(header).is_some()
}

/// Whether a record ends its segment.
pub(crate) const fn is_switch(header: &RecordHeader) -> bool {
    header.manager == manager::XLOG && header.kind() == kind::SWITCH
}

/// What people call a record of this kind; `None` where it has no meaning here.
const fn name_of(header: &RecordHeader) -> Option<&'static str> {
    Some(match (header.manager, header.kind()) {
        (manager::XLOG, kind::CHECKPOINT_SHUTDOWN | kind::CHECKPOINT_ONLINE) => "checkpoint",
        (manager::XLOG, kind::SWITCH) => "switch",
        (manager::XLOG, kind::BACKUP_END) => "backup end",
        (manager::XLOG, kind::PARAMETER_CHANGE) => "parameter change",
        (manager::XLOG, kind::RESTORE_POINT) => "restore point",
        (manager::XLOG, kind::FULL_PAGE_WRITES) => "full_page_writes",
        (manager::XLOG, kind::END_OF_RECOVERY) => "end of recovery",
        (manager::XLOG, kind::OVERWRITE_CONTINUATION) => "overwritten continuation",
        (manager::TRANSACTION, of_transaction) => return transaction::name_of(of_transaction),
        (manager::TABLESPACE, kind::TABLESPACE_CREATE) => "tablespace",
        (manager::LOGICAL_MESSAGE, 0) => "logical message",
        _ => return None,
    })
}

/// Reads a record.
pub(crate) fn parse(
    header: &RecordHeader,
    body: Body<'_>,
    version: Version,
) -> Result<Option<Meaning>, MeaningError> {
    let (Some(kind), Body::Whole(kept) | Body::Head(kept)) = (name_of(header), body) else {
        return Ok(None);
    };
    let layout = MeaningError::Layout { kind, version };
    let too_long = MeaningError::TooLong { kind, bytes: header.total_bytes };
    let total = u64::from(header.total_bytes).saturating_sub(RECORD_HEADER_BYTES as u64);
    let Ok(data) = main_data(kept, total) else {
        return Err(if let Body::Head(_) = body { too_long } else { layout });
    };
    let mut fields = Fields(data.bytes);
    let meaning = match header.manager {
        manager::XLOG => of_log(header, &mut fields, version),
        manager::TRANSACTION => transaction::parse(header, &mut fields, data.cut, version),
        manager::TABLESPACE => tablespace(&mut fields).map_err(Unread::from),
        _ => message(&mut fields, data.cut),
    };
    match meaning {
        Ok(meaning) if data.cut || fields.0.is_empty() => Ok(Some(meaning)),
        Err(Unread::WalLevel(found)) => Err(MeaningError::WalLevel { found }),
        _ if data.cut => Err(too_long),
        _ => Err(layout),
    }
}

/// Why a record could not be read.
#[derive(Debug)]
pub(crate) enum Unread {
    Short,
    WalLevel(i32),
}

impl From<Short> for Unread {
    fn from(Short: Short) -> Self {
        Self::Short
    }
}

fn of_log(header: &RecordHeader, fields: &mut Fields<'_>, version: Version) -> Result<Meaning, Unread> {
    Ok(match header.kind() {
        kind::CHECKPOINT_SHUTDOWN => Meaning::Checkpoint(checkpoint(fields, true)?),
        kind::CHECKPOINT_ONLINE => Meaning::Checkpoint(checkpoint(fields, false)?),
        kind::SWITCH => Meaning::Switch,
        kind::BACKUP_END => Meaning::BackupEnd { start: Lsn(fields.u64()?) },
        kind::PARAMETER_CHANGE => Meaning::Parameters(parameters(fields)?),
        kind::RESTORE_POINT => restore_point(fields)?,
        kind::FULL_PAGE_WRITES => Meaning::FullPageWrites { on: fields.u8()? != 0 },
        kind::END_OF_RECOVERY => Meaning::EndOfRecovery(end_of_recovery(fields, version)?),
        _ => Meaning::OverwriteContinuation { overwritten: Lsn(fields.u64()?), at: PgTime(fields.i64()?) },
    })
}

fn checkpoint(fields: &mut Fields<'_>, shutdown: bool) -> Result<Checkpoint, Short> {
    let redo = Lsn(fields.u64()?);
    let (timeline, previous_timeline) = (TimelineId(fields.u32()?), TimelineId(fields.u32()?));
    let full_page_writes = fields.u8()? != 0;
    // Padding, and from 17 on the wal_level; then the next object's and the next multixact's numbers, and the
    // oldest ones.
    fields.bytes(7)?;
    let next_xid = fields.u64()?;
    fields.bytes(7 * 4 + 4)?;
    let at = PgTime::from_unix_seconds(fields.i64()?);
    // The range of commit timestamps, the oldest active transaction, and padding.
    fields.bytes(3 * 4 + 4)?;
    Ok(Checkpoint { shutdown, redo, timeline, previous_timeline, full_page_writes, next_xid, at })
}

fn parameters(fields: &mut Fields<'_>) -> Result<Parameters, Unread> {
    let parameters = Parameters {
        max_connections: fields.u32()?,
        max_worker_processes: fields.u32()?,
        max_wal_senders: fields.u32()?,
        max_prepared_transactions: fields.u32()?,
        max_locks_per_transaction: fields.u32()?,
        wal_level: wal_level(fields.i32()?)?,
        wal_log_hints: fields.u8()? != 0,
        track_commit_timestamp: fields.u8()? != 0,
    };
    fields.bytes(2)?;
    Ok(parameters)
}

fn wal_level(found: i32) -> Result<WalLevel, Unread> {
    match found {
        0 => Ok(WalLevel::Minimal),
        1 => Ok(WalLevel::Replica),
        2 => Ok(WalLevel::Logical),
        _ => Err(Unread::WalLevel(found)),
    }
}

fn restore_point(fields: &mut Fields<'_>) -> Result<Meaning, Short> {
    let at = PgTime(fields.i64()?);
    let name = Fields(fields.bytes(RESTORE_POINT_NAME_BYTES)?).text()?;
    Ok(Meaning::RestorePoint { at, name })
}

fn end_of_recovery(fields: &mut Fields<'_>, version: Version) -> Result<EndOfRecovery, Short> {
    let end = EndOfRecovery {
        at: PgTime(fields.i64()?),
        timeline: TimelineId(fields.u32()?),
        previous_timeline: TimelineId(fields.u32()?),
    };
    if version >= Version::V17 {
        // The wal_level, and padding.
        fields.bytes(8)?;
    }
    Ok(end)
}

fn tablespace(fields: &mut Fields<'_>) -> Result<Meaning, Short> {
    Ok(Meaning::Tablespace { oid: fields.u32()?, location: fields.text()? })
}

fn message(fields: &mut Fields<'_>, cut: bool) -> Result<Meaning, Unread> {
    let database = fields.u32()?;
    let transactional = fields.u8()? != 0;
    fields.bytes(3)?;
    let (prefix_bytes, content_bytes) = (fields.u64()?, fields.u64()?);
    let prefix = Fields(fields.bytes(prefix_bytes)?).text()?;
    let there = if cut { content_bytes.min(fields.0.len() as u64) } else { content_bytes };
    let content = fields.bytes(there)?.to_vec();
    Ok(Meaning::Message(Message { database, transactional, prefix, content, content_bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(manager: u8, info: u8, data: &[u8], version: Version) -> Result<Option<Meaning>, MeaningError> {
        let body = [&[254][..], &(data.len() as u32).to_le_bytes(), data].concat();
        let total_bytes = (RECORD_HEADER_BYTES + body.len()) as u32;
        let header = RecordHeader { total_bytes, xid: 3, previous: Lsn(8), info, manager, crc: 0 };
        parse(&header, Body::Whole(&body), version)
    }

    #[test]
    fn a_length_that_is_one_off_is_an_error_of_the_record() {
        let kinds = [
            (kind::CHECKPOINT_SHUTDOWN, 88),
            (kind::CHECKPOINT_ONLINE, 88),
            (kind::BACKUP_END, 8),
            (kind::PARAMETER_CHANGE, 28),
            (kind::RESTORE_POINT, 72),
            (kind::FULL_PAGE_WRITES, 1),
            (kind::END_OF_RECOVERY, 16),
            (kind::OVERWRITE_CONTINUATION, 16),
            (kind::SWITCH, 0),
        ];
        for (kind, length) in kinds {
            let read = |length| read(manager::XLOG, kind, &vec![0; length], Version::V16);
            assert!(matches!(read(length), Ok(Some(_))), "{kind:#x}");
            let wrong = [length.checked_sub(1), Some(length + 1)];
            for wrong in wrong.into_iter().flatten() {
                assert!(
                    matches!(read(wrong), Err(MeaningError::Layout { .. })),
                    "{kind:#x} of {wrong} bytes"
                );
            }
        }
        let end = |length, version| read(manager::XLOG, kind::END_OF_RECOVERY, &vec![0; length], version);
        assert!(end(24, Version::V17).is_ok() && end(16, Version::V17).is_err());
    }

    #[test]
    fn a_tablespace_says_where_it_lies() {
        let read = |data: &[u8]| read(manager::TABLESPACE, kind::TABLESPACE_CREATE, data, Version::V15);
        let made = Meaning::Tablespace { oid: 16_400, location: "/srv/fast".to_owned() };
        assert_eq!(read(b"\x10\x40\0\0/srv/fast\0"), Ok(Some(made)));
        let inside = Meaning::Tablespace { oid: 1, location: String::new() };
        assert_eq!(read(b"\x01\0\0\0\0"), Ok(Some(inside)));
        for wrong in [&b"\x10\x40\0"[..], b"\x10\x40\0\0/srv", b"\x10\x40\0\0/srv\0x"] {
            assert!(matches!(read(wrong), Err(MeaningError::Layout { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn a_level_that_does_not_exist_is_said() {
        let mut data = [0; 28];
        data[20] = 3;
        let said = read(manager::XLOG, kind::PARAMETER_CHANGE, &data, Version::V15);
        assert_eq!(said, Err(MeaningError::WalLevel { found: 3 }));
    }

    #[test]
    fn statistics_have_the_width_of_their_version() {
        // A commit prepared that drops one entry of the statistics.
        let commit = |width: usize| {
            let flags = (1u32 << 4 | 1 << 8).to_le_bytes();
            [&7i64.to_le_bytes()[..], &flags, &1u32.to_le_bytes(), &vec![9; width], &55u32.to_le_bytes()]
                .concat()
        };
        for (version, width) in [(Version::V15, 12), (Version::V17, 12), (Version::V18, 16)] {
            let Ok(Some(Meaning::Commit(end))) = read(manager::TRANSACTION, 0xb0, &commit(width), version)
            else {
                panic!("{version}");
            };
            assert_eq!((end.xid, end.prepared), (55, true));
            let other = commit(28 - width);
            assert!(read(manager::TRANSACTION, 0xb0, &other, version).is_err(), "{version}");
        }
    }

    #[test]
    fn a_count_that_is_negative_or_too_great_is_an_error() {
        for count in [-1, i32::MAX, 3] {
            let flags = (1u32 << 1).to_le_bytes();
            let data = [&7i64.to_le_bytes()[..], &flags, &i32::to_le_bytes(count), &[0; 8]].concat();
            assert!(read(manager::TRANSACTION, 0x80, &data, Version::V15).is_err(), "{count}");
        }
    }

    #[test]
    fn of_a_commit_in_two_phases_the_head_is_not_enough() {
        let header = RecordHeader {
            total_bytes: 1 << 20,
            xid: 3,
            previous: Lsn(8),
            info: 0xb0,
            manager: manager::TRANSACTION,
            crc: 0,
        };
        let data = (1u32 << 20) - RECORD_HEADER_BYTES as u32 - 5;
        let head =
            [&[254][..], &data.to_le_bytes(), &7i64.to_le_bytes(), &[2, 0, 0, 0, 0xff, 0, 0, 0]].concat();
        let said = parse(&header, Body::Head(&head), Version::V15);
        assert_eq!(said, Err(MeaningError::TooLong { kind: "commit prepared", bytes: 1 << 20 }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            manager in prop_oneof![Just(0u8), Just(1), Just(21)],
            info: u8,
            mut data in proptest::collection::vec(any::<u8>(), 0..160),
            flags in 0u32..512,
        ) {
            for version in Version::ALL {
                let _ = read(manager, info, &data, version);
            }
            // With flags that are likely, so that more than the first field is read.
            if data.len() > 12 {
                data[8..12].copy_from_slice(&flags.to_le_bytes());
                let _ = read(manager, info, &data, Version::V18);
            }
        }
    }
}
