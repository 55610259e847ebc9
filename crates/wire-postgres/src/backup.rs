//! A base backup as it arrives: archives, blocks of them, and the manifest.
//!
//! Knows the conversation and deliberately not what is in an archive.

use crate::connection::{Connection, Stop};
use crate::error::{PostgresError, ServerError};
use crate::inbox::Message;
use crate::message::{Fields, Malformed};
use crate::rows::Rows;
use lifeboat_postgres_wal::{Lsn, TimelineId};

/// How the server sums up each file in the manifest. It does so while it sends, on one core, so that the sum
/// limits how fast a backup can be: SHA-256 to about 550 MB/s on a machine that hashes in hardware, and to 150
/// where the server was built without OpenSSL; CRC-32C costs next to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestChecksums {
    /// Only sizes.
    None,
    /// Finds accidents; what `pg_basebackup` asks for by itself.
    Crc32c,
    /// Finds changes on purpose, too.
    Sha256,
}

impl ManifestChecksums {
    const fn word(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Crc32c => "CRC32C",
            Self::Sha256 => "SHA256",
        }
    }
}

/// What a base backup is asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseBackupOptions {
    /// What `backup_label` calls it.
    pub label: String,
    /// Whether the server makes its checkpoint at once, or spreads it as it does by itself (minutes).
    pub fast_checkpoint: bool,
    /// Whether the log that the backup needs is in it. It need not be where the log is followed.
    pub wal: bool,
    /// How much the server sends at most, in KiB a second (32 to 1048576).
    pub max_rate_kib: Option<u32>,
    /// Whether tablespaces are listed in a file `tablespace_map` and not as links.
    pub tablespace_map: bool,
    /// Whether the server checks its pages as it reads them, where it has checksums.
    pub verify_checksums: bool,
    /// How the manifest sums up files.
    pub checksums: ManifestChecksums,
}

impl Default for BaseBackupOptions {
    fn default() -> Self {
        Self {
            label: "lifeboat".to_owned(),
            fast_checkpoint: true,
            wal: false,
            max_rate_kib: None,
            tablespace_map: true,
            verify_checksums: true,
            checksums: ManifestChecksums::Sha256,
        }
    }
}

impl BaseBackupOptions {
    fn command(&self) -> Result<String, PostgresError> {
        if let Some(rate) = self.max_rate_kib.filter(|rate| !(32..=1_048_576).contains(rate)) {
            let what = "rate of a backup (32 to 1048576 KiB a second)";
            return Err(PostgresError::Argument { what, value: rate.to_string() });
        }
        let checkpoint = if self.fast_checkpoint { "fast" } else { "spread" };
        let rate = self.max_rate_kib.map(|rate| format!(", MAX_RATE {rate}")).unwrap_or_default();
        Ok(format!(
            "BASE_BACKUP (LABEL '{label}', PROGRESS true, CHECKPOINT '{checkpoint}', WAL {wal}, WAIT false, \
             TABLESPACE_MAP {map}, VERIFY_CHECKSUMS {verify}, MANIFEST 'yes', MANIFEST_CHECKSUMS '{sums}'{rate})",
            label = self.label.replace('\'', "''"),
            wal = self.wal,
            map = self.tablespace_map,
            verify = self.verify_checksums,
            sums = self.checksums.word(),
        ))
    }
}

/// A tablespace in a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tablespace {
    /// Its number; `None` for the data directory itself.
    pub oid: Option<u32>,
    /// Where it lies on the server; `None` for the data directory itself.
    pub location: Option<String>,
    /// About how much there is, in KiB.
    pub size_kib: Option<u64>,
}

/// The next piece of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupMessage<'b> {
    /// An archive begins. The one before it, if any, is whole.
    Archive {
        /// What its file would be called: `base.tar`, `16384.tar`.
        name: &'b str,
        /// Where its tablespace lies on the server; empty for the data directory.
        location: &'b str,
    },
    /// Bytes of the archive or the manifest.
    Data(&'b [u8]),
    /// The manifest begins; every archive is whole.
    Manifest,
    /// So many bytes were read so far, by the server's count.
    Progress(u64),
}

/// Where a backup ends: what must be replayed before it is consistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupEnd {
    /// The first position behind it.
    pub end: Lsn,
    /// Its timeline.
    pub timeline: TimelineId,
}

/// A base backup under way.
#[derive(Debug)]
pub struct BaseBackup {
    connection: Connection,
    start: (Lsn, TimelineId),
    tablespaces: Vec<Tablespace>,
    received: bool,
    /// The bytes that came last, in the session's buffer.
    data: Option<Message>,
}

impl Connection {
    /// Begins a base backup, which takes the session over. Returns when the server has made its checkpoint.
    ///
    /// # Errors
    /// What the server says; a server older than 15.
    pub fn base_backup(mut self, options: &BaseBackupOptions) -> Result<BaseBackup, PostgresError> {
        self.require_version()?;
        self.begin("start a base backup", &options.command()?)?;
        let (results, stop) = self.collect()?;
        if stop != Stop::CopyOut {
            return Err(self.protocol("no archives"));
        }
        let [start, tablespaces] = &results[..] else {
            return Err(self.protocol("archives without a start and a list of tablespaces"));
        };
        let start = position(&self, start)?;
        let tablespaces = (0..tablespaces.len())
            .map(|row| tablespace(&self, tablespaces, row))
            .collect::<Result<_, _>>()?;
        self.doing = "receive a base backup";
        Ok(BaseBackup { connection: self, start, tablespaces, received: false, data: None })
    }
}

fn position(connection: &Connection, rows: &Rows) -> Result<(Lsn, TimelineId), PostgresError> {
    let rows = connection.one_row(std::slice::from_ref(rows))?;
    Ok((connection.parse(rows, 0)?, connection.parse(rows, 1)?))
}

fn tablespace(connection: &Connection, rows: &Rows, row: usize) -> Result<Tablespace, PostgresError> {
    let is_there = |column| Ok::<_, PostgresError>(rows.text(row, column)?.is_some());
    Ok(Tablespace {
        oid: is_there(0)?.then(|| connection.parse_in(rows, row, 0)).transpose()?,
        location: rows.text(row, 1)?.map(str::to_owned),
        size_kib: is_there(2)?.then(|| connection.parse_in(rows, row, 2)).transpose()?,
    })
}

impl BaseBackup {
    /// Where the backup starts: the log is needed from here on.
    pub const fn start(&self) -> (Lsn, TimelineId) {
        self.start
    }

    /// What is in the backup: the data directory and the tablespaces.
    pub fn tablespaces(&self) -> &[Tablespace] {
        &self.tablespaces
    }

    /// Warnings and notices since they were last taken: damaged pages are named here.
    pub fn take_notices(&mut self) -> Vec<ServerError> {
        self.connection.take_notices()
    }

    /// A handle that cancels the backup, or ends the session, from another thread.
    pub fn cancel_handle(&self) -> crate::CancelHandle {
        self.connection.cancel_handle()
    }

    /// The bytes that [`BaseBackup::next`] gave last, again; none where it gave something else.
    pub fn data(&self) -> &[u8] {
        let body = self.data.as_ref().map(|message| self.connection.body(message));
        body.and_then(|body| body.get(1..)).unwrap_or_default()
    }

    /// The next piece; `None` at the end. It lies in the session's buffer until the next one is asked for.
    ///
    /// # Errors
    /// What the server says in the middle of it, or where the connection breaks.
    #[expect(
        clippy::should_implement_trait,
        reason = "each piece borrows the buffer that the next one reuses"
    )]
    pub fn next(&mut self) -> Result<Option<BackupMessage<'_>>, PostgresError> {
        self.data = None;
        if self.received {
            return Ok(None);
        }
        let message = self.connection.expect()?;
        match message.tag {
            b'd' => {
                let piece = piece(self.connection.body(&message));
                self.data = matches!(piece, Ok(BackupMessage::Data(_))).then(|| message.clone());
                piece.map(Some).map_err(|error| self.connection.malformed(error))
            }
            b'c' => {
                self.received = true;
                Ok(None)
            }
            b'E' => Err(self.connection.server_error(&message)?),
            _ => Err(self.connection.unexpected(&message)),
        }
    }

    /// Ends the backup after its last piece: says where it ends and gives the session back.
    ///
    /// # Errors
    /// What the server says, also that it found damaged pages; where the pieces were not all taken.
    pub fn finish(mut self) -> Result<(BackupEnd, Connection), PostgresError> {
        if !self.received {
            let what = "it was not received to its end".to_owned();
            return Err(PostgresError::Result { doing: "finish a base backup", what });
        }
        self.connection.doing = "finish a base backup";
        let (results, stop) = self.connection.collect()?;
        match (results.first(), stop) {
            (Some(rows), Stop::Ready) => {
                let (end, timeline) = position(&self.connection, rows)?;
                Ok((BackupEnd { end, timeline }, self.connection))
            }
            _ => Err(self.connection.protocol("a backup that does not say where it ends")),
        }
    }
}

/// What one CopyData of a backup means, by its first byte.
fn piece(body: &[u8]) -> Result<BackupMessage<'_>, Malformed> {
    let mut fields = Fields(body);
    match fields.u8("an empty piece of a backup")? {
        b'd' => Ok(BackupMessage::Data(fields.0)),
        b'n' => Ok(BackupMessage::Archive {
            name: fields.text("an archive without a name in UTF-8")?,
            location: fields.text("an archive without a location in UTF-8")?,
        }),
        b'm' => Ok(BackupMessage::Manifest),
        b'p' => Ok(BackupMessage::Progress(fields.u64("progress without a number")?)),
        _ => Err(Malformed("a piece of a backup of an unknown kind")),
    }
}

pub(crate) fn fuzz_piece(body: &[u8]) -> bool {
    piece(body).is_ok()
}
