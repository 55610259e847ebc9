//! What a server says of its cluster before anything is done with it.

use crate::error::{PostgresStoreError, Result};
use lifeboat_postgres_wal::{Lsn, SegmentSize, SystemId, TimelineId};
use lifeboat_wire_postgres::{ConnectOptions, Connection, Purpose};

/// The oldest version that is served.
const OLDEST_VERSION: u32 = 150_000;
/// The blocks that WAL is cut into by every build that distributions ship.
const WAL_BLOCK_BYTES: u64 = 8192;

/// A cluster, as its server describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Which cluster it is.
    pub system: SystemId,
    /// The timeline that it is on.
    pub timeline: TimelineId,
    /// Up to where its WAL is durable there.
    pub flushed: Lsn,
    /// The server's version as a number: 150014 is 15.14.
    pub server_version: u32,
    /// Bytes of a page of data.
    pub block_bytes: u32,
    /// Bytes of a segment of WAL.
    pub segment: SegmentSize,
    /// Whether pages carry checksums.
    pub checksums: bool,
    /// How much WAL an idle slot may keep; `None` where there is no bound, so that a slot that nobody reads
    /// fills the server's disk.
    pub slot_keeps_at_most: Option<String>,
}

impl Cluster {
    /// Asks a server. Nothing but the privilege to replicate is needed.
    ///
    /// # Errors
    /// Where the server cannot be asked, or is one that this driver does not serve.
    pub fn probe(connection: &mut Connection) -> Result<Self> {
        let server_version = connection.server_version();
        if server_version < OLDEST_VERSION {
            let version = connection.parameter("server_version").unwrap_or("an unknown version").to_owned();
            return Err(not_served(format!("version {version}")));
        }
        let wal_level = connection.show("wal_level")?;
        if wal_level == "minimal" {
            return Err(not_served(
                "wal_level = minimal (set wal_level = replica and restart it)".to_owned(),
            ));
        }
        let wal_block = connection.show("wal_block_size")?;
        if wal_block.parse() != Ok(WAL_BLOCK_BYTES) {
            return Err(not_served(format!("blocks of WAL of {wal_block} bytes")));
        }
        let block = connection.show("block_size")?;
        let block_bytes = block.parse().map_err(|_| not_served(format!("blocks of {block} bytes")))?;
        let segment_text = connection.show("wal_segment_size")?;
        let segment = bytes_of(&segment_text).and_then(SegmentSize::new);
        let segment = segment.ok_or_else(|| not_served(format!("segments of WAL of {segment_text}")))?;
        let checksums = connection.show("data_checksums")? == "on";
        let keeps = connection.show("max_slot_wal_keep_size")?;
        let identity = connection.identify_system()?;
        Ok(Self {
            system: identity.system,
            timeline: identity.timeline,
            flushed: identity.flushed,
            server_version,
            block_bytes,
            segment,
            checksums,
            slot_keeps_at_most: Some(keeps).filter(|keeps| keeps != "-1"),
        })
    }

    /// Connects for replication and asks.
    ///
    /// # Errors
    /// As [`Cluster::probe`], or where the server cannot be reached.
    pub fn connect(options: &ConnectOptions) -> Result<(Connection, Self)> {
        let mut connection = Connection::open(options, Purpose::Replication)?;
        let cluster = Self::probe(&mut connection)?;
        Ok((connection, cluster))
    }
}

fn not_served(what: String) -> PostgresStoreError {
    PostgresStoreError::NotServed { what }
}

/// A size as PostgreSQL shows it: `16MB`.
fn bytes_of(shown: &str) -> Option<u64> {
    let digits = shown.len() - shown.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = shown.split_at(digits);
    let factor = match unit {
        "" | "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_postgresql_shows_them() {
        assert_eq!(bytes_of("16MB"), Some(16 << 20));
        assert_eq!(bytes_of("1GB"), Some(1 << 30));
        assert_eq!(bytes_of("1048576"), Some(1 << 20));
        assert_eq!(
            (bytes_of("MB"), bytes_of("16 MB"), bytes_of("99999999999999999999GB")),
            (None, None, None)
        );
    }
}
