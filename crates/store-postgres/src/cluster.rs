//! What a server says of its cluster before anything is done with it.

use crate::error::{PostgresStoreError, Result};
use lifeboat_postgres_wal::{Lsn, SegmentSize, SystemId, TimelineId};
use lifeboat_wire_postgres::{ConnectOptions, Connection, PostgresError, Purpose};
use std::ops::RangeInclusive;

/// The oldest version that is served.
const OLDEST_VERSION: u32 = 150_000;
/// The blocks that WAL is cut into by every build that distributions ship.
const WAL_BLOCK_BYTES: u64 = 8192;
/// The blocks of data that PostgreSQL can be compiled for (`--with-blocksize`).
const BLOCK_BYTES: RangeInclusive<u32> = 1024..=32768;

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
        let build = Build::of(|setting| connection.show(setting))?;
        let checksums = connection.show("data_checksums")? == "on";
        let keeps = connection.show("max_slot_wal_keep_size")?;
        let identity = connection.identify_system()?;
        Ok(Self {
            system: identity.system,
            timeline: identity.timeline,
            flushed: identity.flushed,
            server_version,
            block_bytes: build.block_bytes,
            segment: build.segment,
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

/// What was decided when a server was compiled and its cluster made, as far as it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Build {
    block_bytes: u32,
    segment: SegmentSize,
}

impl Build {
    /// Nothing is guessed: what a server does not say in a way that is understood is refused.
    fn of(mut show: impl FnMut(&str) -> Result<String, PostgresError>) -> Result<Self> {
        if show("wal_level")? == "minimal" {
            return Err(not_served(
                "wal_level = minimal (set wal_level = replica and restart it)".to_owned(),
            ));
        }
        let wal_block = show("wal_block_size")?;
        if wal_block.parse() != Ok(WAL_BLOCK_BYTES) {
            return Err(not_served(format!("blocks of WAL of {wal_block} bytes")));
        }
        let block = show("block_size")?;
        let known = |bytes: &u32| BLOCK_BYTES.contains(bytes) && bytes.is_power_of_two();
        let block_bytes = block.parse().ok().filter(known);
        let segment_text = show("wal_segment_size")?;
        let segment = bytes_of(&segment_text).and_then(SegmentSize::new);
        Ok(Self {
            block_bytes: block_bytes.ok_or_else(|| not_served(format!("blocks of {block} bytes")))?,
            segment: segment.ok_or_else(|| not_served(format!("segments of WAL of {segment_text}")))?,
        })
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

    fn build(settings: [&str; 4]) -> Result<(u32, u64), String> {
        let names = ["wal_level", "wal_block_size", "block_size", "wal_segment_size"];
        let shown = |name: &str| Ok(settings[names.iter().position(|own| *own == name).unwrap()].to_owned());
        let build = Build::of(shown).map_err(|error| error.to_string())?;
        Ok((build.block_bytes, build.segment.bytes()))
    }

    #[test]
    fn a_build_is_served_or_refused_and_never_guessed() {
        assert_eq!(build(["replica", "8192", "8192", "16MB"]), Ok((8192, 16 << 20)));
        assert_eq!(build(["logical", "8192", "32768", "64MB"]), Ok((32768, 64 << 20)));
        assert_eq!(build(["replica", "8192", "1024", "1GB"]), Ok((1024, 1 << 30)));
        for (settings, said) in [
            (["minimal", "8192", "8192", "16MB"], "wal_level = minimal"),
            (["replica", "32768", "8192", "16MB"], "blocks of WAL of 32768 bytes"),
            (["replica", "8192", "65536", "16MB"], "blocks of 65536 bytes"),
            (["replica", "8192", "8000", "16MB"], "blocks of 8000 bytes"),
            (["replica", "8192", "8192", "3MB"], "segments of WAL of 3MB"),
            (["replica", "8192", "8192", ""], "segments of WAL of"),
        ] {
            let refused = build(settings).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
    }

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
