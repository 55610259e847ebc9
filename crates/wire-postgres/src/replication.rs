//! What a replication session can be asked: who the server is, its settings, slots and timelines.
//!
//! Knows commands and the form of their answers, and no stream.

use crate::connection::Connection;
use crate::error::PostgresError;
use crate::rows::Rows;
use lifeboat_postgres_wal::{Lsn, SystemId, TimelineId};
use std::str::FromStr;

/// The oldest version whose commands are spoken.
const OLDEST_VERSION: u32 = 150_000;

/// Who a server is, and where its log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Which cluster.
    pub system: SystemId,
    /// The timeline it is on.
    pub timeline: TimelineId,
    /// Up to where its log is durable there.
    pub flushed: Lsn,
}

/// Where a slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// From where on the log is kept for it. `None` where it keeps nothing: it was never used, or it has lost
    /// what it kept.
    pub restart: Option<Lsn>,
    /// The timeline of that position.
    pub restart_timeline: Option<TimelineId>,
}

/// How long a slot lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// Until it is dropped. It keeps the log for whoever comes back.
    Permanent,
    /// As long as the session.
    Temporary,
}

/// A timeline's history as the server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryFile {
    /// The file's name: `00000002.history`.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
}

impl Connection {
    /// Who the server is.
    ///
    /// # Errors
    /// What the server says.
    pub fn identify_system(&mut self) -> Result<Identity, PostgresError> {
        let results = self.ask("identify the system", "IDENTIFY_SYSTEM")?;
        let rows = self.one_row(&results)?;
        Ok(Identity {
            system: self.parse(rows, 0)?,
            timeline: self.parse(rows, 1)?,
            flushed: self.parse(rows, 2)?,
        })
    }

    /// A setting of the server, with its unit as `SHOW` writes it (`16MB`).
    ///
    /// # Errors
    /// What the server says; names with anything but letters, digits, dots and underscores are refused.
    pub fn show(&mut self, setting: &str) -> Result<String, PostgresError> {
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if !setting.split('.').all(plain) {
            return Err(PostgresError::Argument { what: "name of a setting", value: setting.to_owned() });
        }
        let quoted = setting.split('.').map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join(".");
        let results = self.ask("show a setting", &format!("SHOW {quoted}"))?;
        Ok(self.one_row(&results)?.single()?.to_owned())
    }

    /// Where a slot stands; `None` where there is none of this name.
    ///
    /// # Errors
    /// What the server says, also where the slot is a logical one.
    pub fn read_slot(&mut self, name: &str) -> Result<Option<SlotState>, PostgresError> {
        let command = format!("READ_REPLICATION_SLOT {}", slot_name(name)?);
        let results = self.ask("read a replication slot", &command)?;
        let rows = self.one_row(&results)?;
        // A row of NULLs stands for a slot that does not exist.
        if rows.text(0, 0)?.is_none() {
            return Ok(None);
        }
        let restart = rows.text(0, 1)?.is_some().then(|| self.parse(rows, 1)).transpose()?;
        // The server writes timeline 0 where it has none.
        let timeline = rows.text(0, 2)?.filter(|text| *text != "0").is_some();
        let restart_timeline = timeline.then(|| self.parse(rows, 2)).transpose()?;
        Ok(Some(SlotState { restart, restart_timeline }))
    }

    /// Makes a physical slot that keeps the log from now on.
    ///
    /// # Errors
    /// What the server says, also where there is one of this name.
    pub fn create_slot(&mut self, name: &str, kind: SlotKind) -> Result<(), PostgresError> {
        let temporary = match kind {
            SlotKind::Permanent => "",
            SlotKind::Temporary => " TEMPORARY",
        };
        let name = slot_name(name)?;
        let command = format!("CREATE_REPLICATION_SLOT {name}{temporary} PHYSICAL (RESERVE_WAL)");
        self.ask("create a replication slot", &command).map(drop)
    }

    /// Drops a slot: the log is not kept for it any more.
    ///
    /// # Errors
    /// What the server says, also where there is none of this name or somebody uses it.
    pub fn drop_slot(&mut self, name: &str) -> Result<(), PostgresError> {
        let command = format!("DROP_REPLICATION_SLOT {}", slot_name(name)?);
        self.ask("drop a replication slot", &command).map(drop)
    }

    /// The history of a timeline. The first has none.
    ///
    /// # Errors
    /// What the server says, also where it does not have the timeline.
    pub fn timeline_history(&mut self, timeline: TimelineId) -> Result<HistoryFile, PostgresError> {
        let results = self.ask("read a timeline's history", &format!("TIMELINE_HISTORY {timeline}"))?;
        let rows = self.one_row(&results)?;
        let name = rows.text(0, 0)?.unwrap_or_default();
        if name != timeline.history_file_name() {
            return Err(self.protocol(format!("the history of another timeline: {name}")));
        }
        // The content is bytes as they are, in whatever encoding.
        let content = rows.bytes(0, 1).ok_or_else(|| self.protocol("a history without content"))?;
        Ok(HistoryFile { name: name.to_owned(), content: content.to_vec() })
    }

    /// The first result that has columns, if it has exactly one row.
    pub(crate) fn one_row<'r>(&self, results: &'r [Rows]) -> Result<&'r Rows, PostgresError> {
        let rows = results.iter().find(|rows| !rows.columns().is_empty());
        rows.filter(|rows| rows.len() == 1).ok_or_else(|| self.protocol("an answer that is not one row"))
    }

    /// A cell of the first row as what it has to be.
    pub(crate) fn parse<T: FromStr>(&self, rows: &Rows, column: usize) -> Result<T, PostgresError> {
        self.parse_in(rows, 0, column)
    }

    pub(crate) fn parse_in<T: FromStr>(
        &self,
        rows: &Rows,
        row: usize,
        column: usize,
    ) -> Result<T, PostgresError> {
        let text = rows.text(row, column)?.unwrap_or_default();
        text.parse().map_err(|_| self.protocol(format!("an answer with {text:?} in column {column}")))
    }

    /// Refuses a server whose commands are not spoken.
    pub(crate) fn require_version(&self) -> Result<(), PostgresError> {
        if self.server_version() >= OLDEST_VERSION {
            return Ok(());
        }
        Err(PostgresError::TooOld {
            target: self.session().target.clone(),
            version: self.parameter("server_version").unwrap_or_default().to_owned(),
        })
    }
}

/// A slot's name in quotes, so that it is never taken for a word of the language.
pub(crate) fn slot_name(name: &str) -> Result<String, PostgresError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=63).contains(&name.len()) && name.bytes().all(fits) {
        Ok(format!("\"{name}\""))
    } else {
        Err(PostgresError::Argument { what: "name of a replication slot", value: name.to_owned() })
    }
}
