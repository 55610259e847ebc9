//! The archives of a base backup as streams of bytes.
//!
//! The server sends everything in one stream: one tar archive for each tablespace, then the manifest, cut into
//! messages as it pleases. Here each of them can be read like a file.

use lifeboat_wire_postgres::{BackupEnd, BackupMessage, BaseBackup, Connection, PostgresError};
use std::io::{self, Read};

/// A base backup, part by part.
pub(crate) struct Parts {
    backup: BaseBackup,
    /// How much of the bytes that were received last has been read. They stay where they were received: a copy of
    /// everything costs more than it looks.
    read: usize,
    next: Next,
    failure: Option<PostgresError>,
}

/// What follows the bytes that were received last.
enum Next {
    /// More of the same part, or another part: the next message tells.
    Unknown,
    /// This part begins.
    Begins(Part),
    /// Nothing.
    End,
}

/// A part of a base backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The tar archive of the data directory (`None`), or of the tablespace that lies there.
    Archive {
        /// Where the tablespace lies on the primary.
        location: Option<String>,
    },
    /// The backup manifest.
    Manifest,
}

impl Parts {
    pub(crate) fn new(backup: BaseBackup) -> Self {
        Self { backup, read: 0, next: Next::Unknown, failure: None }
    }

    /// Goes to the next part, passing over what is left of this one.
    pub(crate) fn next_part(&mut self) -> Result<Option<Part>, PostgresError> {
        loop {
            self.read = self.backup.data().len();
            match std::mem::replace(&mut self.next, Next::Unknown) {
                Next::Begins(part) => return Ok(Some(part)),
                Next::End => {
                    self.next = Next::End;
                    return Ok(None);
                }
                Next::Unknown => self.receive()?,
            }
        }
    }

    /// The server's own error, where reading failed with one.
    pub(crate) fn take_failure(&mut self) -> Option<PostgresError> {
        self.failure.take()
    }

    /// Ends the backup.
    pub(crate) fn finish(self) -> Result<(BackupEnd, Connection), PostgresError> {
        self.backup.finish()
    }

    fn receive(&mut self) -> Result<(), PostgresError> {
        self.read = 0;
        match self.backup.next()? {
            None => self.next = Next::End,
            Some(BackupMessage::Archive { location, .. }) => {
                let location = Some(location.to_owned()).filter(|location| !location.is_empty());
                self.next = Next::Begins(Part::Archive { location });
            }
            Some(BackupMessage::Manifest) => self.next = Next::Begins(Part::Manifest),
            Some(BackupMessage::Data(_) | BackupMessage::Progress(_)) => {}
        }
        Ok(())
    }
}

impl Read for Parts {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.backup.data().len() {
            if !matches!(self.next, Next::Unknown) {
                return Ok(0);
            }
            if let Err(error) = self.receive() {
                let said = error.to_string();
                self.failure = Some(error);
                return Err(io::Error::other(said));
            }
        }
        let unread = &self.backup.data()[self.read..];
        let bytes = into.len().min(unread.len());
        into[..bytes].copy_from_slice(&unread[..bytes]);
        self.read += bytes;
        Ok(bytes)
    }
}
