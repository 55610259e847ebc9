//! What a directory says of itself before a server is started on it: its control file, as `pg_controldata` prints
//! it. That program has known every version's layout since before there was one to parse; this deliberately
//! knows none of them.

use crate::{Identity, Installation};
use lifeboat_base::Hint;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What a control file holds. Positions are LSNs, zero where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlData {
    /// What tells this cluster from others.
    pub system_id: u64,
    /// PostgreSQL's word for what the cluster is doing: `shut down`, `in production`, `in archive recovery`.
    pub state: String,
    /// The version of the catalogue, which is one major version's.
    pub catalog_version: u32,
    /// The latest checkpoint.
    pub checkpoint: u64,
    /// Where redo from it begins.
    pub redo: u64,
    /// Its timeline.
    pub timeline: u32,
    /// Up to where a recovery must come before the files fit together.
    pub minimum_recovery: u64,
    /// The timeline of that position.
    pub minimum_recovery_timeline: u32,
    /// Where the backup began that this directory was restored from, until its end has been replayed.
    pub backup_start: u64,
    /// Where that backup ended; only where it was taken from a standby.
    pub backup_end: u64,
    /// Whether the record of the backup's end has yet to be replayed.
    pub needs_backup_end_record: bool,
    /// Bytes of a block of data.
    pub block_bytes: u32,
    /// Bytes of a block of the log.
    pub wal_block_bytes: u32,
    /// Bytes of a segment of the log.
    pub wal_segment_bytes: u32,
    /// The version of the checksums of data pages; zero where there are none.
    pub checksum_version: u32,
    /// The primary's setting, as the five that follow: a server that recovers needs them at least as high.
    pub wal_level: String,
    /// Greatest number of connections.
    pub max_connections: u32,
    /// Greatest number of background workers.
    pub max_worker_processes: u32,
    /// Greatest number of senders of the log.
    pub max_wal_senders: u32,
    /// Greatest number of prepared transactions.
    pub max_prepared_xacts: u32,
    /// Locks a transaction, on average.
    pub max_locks_per_xact: u32,
}

impl ControlData {
    /// Whether its server put everything away when it ended.
    pub fn is_shut_down(&self) -> bool {
        matches!(self.state.as_str(), "shut down" | "shut down in recovery")
    }
}

/// Why a directory's control file cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ControlDataError {
    /// `pg_controldata` cannot be started.
    #[error("start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// It refused the directory.
    #[error("{} has no control file that can be read: {said}", data.display())]
    Refused {
        /// The directory.
        data: PathBuf,
        /// What the program said.
        said: String,
    },
    /// It doubts what it read: the checksum is wrong, or the file is another version's.
    #[error("the control file of {} is damaged, or another major version's: {said}", data.display())]
    Damaged {
        /// The directory.
        data: PathBuf,
        /// What the program said.
        said: String,
    },
    /// A line is missing or holds something else than it should.
    #[error("pg_controldata says nothing usable of {:?} for {}: {found:?}", field, data.display())]
    Field {
        /// The directory.
        data: PathBuf,
        /// The line's name.
        field: &'static str,
        /// What is there.
        found: Option<String>,
    },
}

impl Hint for ControlDataError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Start { .. } => None,
            Self::Refused { .. } => Some("Name the directory that holds PG_VERSION and global/pg_control.".to_owned()),
            Self::Damaged { .. } => Some(
                "Compare PG_VERSION in the directory with the installation; if they agree, restore the directory again."
                    .to_owned(),
            ),
            Self::Field { .. } => Some("This version of PostgreSQL may be newer than Lifeboat knows.".to_owned()),
        }
    }
}

/// Reads the control file of a directory with the `pg_controldata` of an installation, which must be of the
/// directory's major version.
///
/// # Errors
/// [`ControlDataError`]; a control file whose checksum is wrong is an error, though the program only warns.
pub fn control_data(installation: &Installation, data: &Path) -> Result<ControlData, ControlDataError> {
    let program = installation.program("pg_controldata");
    let absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let answer = installation.command("pg_controldata", &Identity::ourselves()).arg(&absolute).output();
    let answer = answer.map_err(|source| ControlDataError::Start { program, source })?;
    let complaints = String::from_utf8_lossy(&answer.stderr).trim().replace('\n', "; ");
    if !answer.status.success() {
        return Err(ControlDataError::Refused { data: data.to_owned(), said: complaints });
    }
    let text = String::from_utf8_lossy(&answer.stdout);
    // Up to 16 the warning is printed among the answers.
    let doubt = text.lines().find(|line| line.starts_with("WARNING: ")).map(str::to_owned);
    if let Some(said) = doubt.or(Some(complaints).filter(|said| !said.is_empty())) {
        return Err(ControlDataError::Damaged { data: data.to_owned(), said });
    }
    Printed::new(data, &text).read()
}

/// The lines of an answer by their names.
struct Printed<'a> {
    data: &'a Path,
    lines: HashMap<&'a str, &'a str>,
}

impl<'a> Printed<'a> {
    fn new(data: &'a Path, text: &'a str) -> Self {
        let parts = text.lines().filter_map(|line| line.split_once(':'));
        Self { data, lines: parts.map(|(name, value)| (name.trim(), value.trim())).collect() }
    }

    fn read(&self) -> Result<ControlData, ControlDataError> {
        Ok(ControlData {
            system_id: self.number("Database system identifier")?,
            state: self.text("Database cluster state")?.to_owned(),
            catalog_version: self.number("Catalog version number")?,
            checkpoint: self.position("Latest checkpoint location")?,
            redo: self.position("Latest checkpoint's REDO location")?,
            timeline: self.number("Latest checkpoint's TimeLineID")?,
            minimum_recovery: self.position("Minimum recovery ending location")?,
            minimum_recovery_timeline: self.number("Min recovery ending loc's timeline")?,
            backup_start: self.position("Backup start location")?,
            backup_end: self.position("Backup end location")?,
            needs_backup_end_record: self.text("End-of-backup record required")? == "yes",
            block_bytes: self.number("Database block size")?,
            wal_block_bytes: self.number("WAL block size")?,
            wal_segment_bytes: self.number("Bytes per WAL segment")?,
            checksum_version: self.number("Data page checksum version")?,
            wal_level: self.text("wal_level setting")?.to_owned(),
            max_connections: self.number("max_connections setting")?,
            max_worker_processes: self.number("max_worker_processes setting")?,
            max_wal_senders: self.number("max_wal_senders setting")?,
            max_prepared_xacts: self.number("max_prepared_xacts setting")?,
            max_locks_per_xact: self.number("max_locks_per_xact setting")?,
        })
    }

    fn text(&self, field: &'static str) -> Result<&'a str, ControlDataError> {
        self.lines.get(field).copied().ok_or_else(|| self.unusable(field))
    }

    fn number<N: FromStr>(&self, field: &'static str) -> Result<N, ControlDataError> {
        self.text(field)?.parse().map_err(|_| self.unusable(field))
    }

    fn position(&self, field: &'static str) -> Result<u64, ControlDataError> {
        let half = |text: &str| u32::from_str_radix(text, 16).ok().map(u64::from);
        let parse = |text: &str| {
            let (high, low) = text.split_once('/')?;
            Some(half(high)? << 32 | half(low)?)
        };
        parse(self.text(field)?).ok_or_else(|| self.unusable(field))
    }

    fn unusable(&self, field: &'static str) -> ControlDataError {
        let found = self.lines.get(field).map(|found| (*found).to_owned());
        ControlDataError::Field { data: self.data.to_owned(), field, found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_missing_or_odd_is_named() {
        let printed = Printed::new(
            Path::new("/data"),
            "Backup start location:   0/zz\nodd\nmax_connections setting: -1\n",
        );
        assert!(printed.position("Backup start location").unwrap_err().to_string().contains("0/zz"));
        assert!(printed.number::<u32>("max_connections setting").is_err());
        assert!(printed.text("WAL block size").unwrap_err().to_string().contains("None"));
    }
}
