//! What a snapshot of a cluster remembers of it: everything that a restore must know before it begins.

use crate::lineage;
use lifeboat_base::Hint;
use lifeboat_postgres_wal::{Lsn, SegmentSize, SystemId, TimelineId};
use lifeboat_repository::{LOG_END_FACT, LOG_POSITION_FACT, SnapshotWriter};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;

/// A tablespace outside of the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    /// Its object identifier: the name of its folder in `pg_tblspc`.
    pub oid: u32,
    /// Where it lay on the primary.
    pub location: String,
}

/// What is known of a cluster at a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// The cluster.
    pub system: SystemId,
    /// The timeline that the backup was taken on.
    pub timeline: TimelineId,
    /// Where redo begins.
    pub start: Lsn,
    /// Where the restored cluster is consistent: nothing earlier can be restored to from this snapshot.
    pub stop: Lsn,
    /// The server's version as a number: 150014 is 15.14.
    pub server_version: u32,
    /// Bytes of a page of data.
    pub block_bytes: u32,
    /// Bytes of a segment of WAL.
    pub segment: SegmentSize,
    /// Whether pages carry checksums. Without them damage within a page cannot be told.
    pub checksums: bool,
    /// The tablespaces outside of the data directory.
    pub tablespaces: Vec<Tablespace>,
    /// The message that was written into the WAL during the backup, to be found again.
    pub marker: Option<String>,
    /// The role that the cluster was made with, whom a proof asks as.
    pub superuser: Option<String>,
}

/// A snapshot that does not say what it must.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot says no {name} that can be read: {value:?}")]
pub struct FactError {
    /// Which fact.
    pub name: &'static str,
    /// What it says, if anything.
    pub value: Option<String>,
}

impl Hint for FactError {
    fn hint(&self) -> Option<String> {
        Some("It was written by another release or is no snapshot of PostgreSQL; `lifeboat points` lists others.".to_owned())
    }
}

const SYSTEM: &str = "system";
const TIMELINE: &str = "timeline";
const START: &str = "start-lsn";
const STOP: &str = "stop-lsn";
const SERVER_VERSION: &str = "server-version";
const BLOCK_BYTES: &str = "block-bytes";
const SEGMENT_BYTES: &str = "segment-bytes";
const CHECKSUMS: &str = "data-checksums";
const TABLESPACES: &str = "tablespaces";
const MARKER: &str = "marker";
const SUPERUSER: &str = "superuser";

impl SnapshotFacts {
    /// Major version: 15 for 15.14.
    pub fn major_version(&self) -> u32 {
        self.server_version / 10_000
    }

    /// The first position of the log that a restore needs: PostgreSQL reads a segment from its beginning.
    pub fn first_needed(&self) -> Lsn {
        self.segment.start_of(self.start)
    }

    /// Writes them into a snapshot, with its lineage.
    pub fn write(&self, writer: &mut SnapshotWriter) {
        writer.set_lineage(&lineage::name_of_timeline(self.system, self.timeline));
        writer.set_fact(LOG_POSITION_FACT, self.first_needed().0);
        writer.set_fact(LOG_END_FACT, self.stop.0);
        writer.set_fact(SYSTEM, self.system);
        writer.set_fact(TIMELINE, self.timeline);
        writer.set_fact(START, self.start);
        writer.set_fact(STOP, self.stop);
        writer.set_fact(SERVER_VERSION, self.server_version);
        writer.set_fact(BLOCK_BYTES, self.block_bytes);
        writer.set_fact(SEGMENT_BYTES, self.segment.bytes());
        writer.set_fact(CHECKSUMS, if self.checksums { "on" } else { "off" });
        if !self.tablespaces.is_empty() {
            writer.set_fact(TABLESPACES, serde_json::to_string(&self.tablespaces).unwrap_or_default());
        }
        if let Some(marker) = &self.marker {
            writer.set_fact(MARKER, marker);
        }
        if let Some(superuser) = &self.superuser {
            writer.set_fact(SUPERUSER, superuser);
        }
    }

    /// Reads them from a snapshot.
    ///
    /// # Errors
    /// Where one is missing or makes no sense.
    pub fn read(facts: &BTreeMap<String, String>) -> Result<Self, FactError> {
        let segment: u64 = parsed(facts, SEGMENT_BYTES)?;
        let segment = SegmentSize::new(segment).ok_or_else(|| error(facts, SEGMENT_BYTES))?;
        let tablespaces = match facts.get(TABLESPACES) {
            None => Vec::new(),
            Some(text) => serde_json::from_str(text).map_err(|_| error(facts, TABLESPACES))?,
        };
        Ok(Self {
            system: parsed(facts, SYSTEM)?,
            timeline: parsed(facts, TIMELINE)?,
            start: parsed(facts, START)?,
            stop: parsed(facts, STOP)?,
            server_version: parsed(facts, SERVER_VERSION)?,
            block_bytes: parsed(facts, BLOCK_BYTES)?,
            segment,
            checksums: facts.get(CHECKSUMS).is_some_and(|text| text == "on"),
            tablespaces,
            marker: facts.get(MARKER).cloned(),
            superuser: facts.get(SUPERUSER).cloned(),
        })
    }
}

fn parsed<T: FromStr>(facts: &BTreeMap<String, String>, name: &'static str) -> Result<T, FactError> {
    facts.get(name).and_then(|text| text.parse().ok()).ok_or_else(|| error(facts, name))
}

fn error(facts: &BTreeMap<String, String>, name: &'static str) -> FactError {
    FactError { name, value: facts.get(name).cloned() }
}
