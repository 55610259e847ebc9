//! What a cluster's history is called in a repository.
//!
//! Each timeline of a cluster is a lineage of its own, so that nothing is ever appended to another one's: a
//! promotion begins the next, and so does another system identifier. The histories of the timelines, which say
//! where each one was left, are a lineage of their own, with the number of the timeline for a position.

use lifeboat_postgres_wal::{SystemId, TimelineId};
use lifeboat_repository::{Lineage, LogError};

/// What the payload of WAL is called in the log container: bytes, whose position is their LSN.
pub const WAL_KIND: &str = "postgres-wal";
/// What the payload of history files is called in the log container: units, whose position is their timeline.
pub const HISTORY_KIND: &str = "postgres-history";

/// The lineage that holds the WAL of one timeline.
///
/// # Errors
/// Never for what PostgreSQL can name; the rule of names is the repository's.
pub fn of_timeline(system: SystemId, timeline: TimelineId) -> Result<Lineage, LogError> {
    Lineage::new(&name_of_timeline(system, timeline))
}

/// The name of that lineage.
pub fn name_of_timeline(system: SystemId, timeline: TimelineId) -> String {
    format!("{system}-{timeline}")
}

/// The lineage that holds the history files of a cluster.
///
/// # Errors
/// As [`of_timeline`].
pub fn of_histories(system: SystemId) -> Result<Lineage, LogError> {
    Lineage::new(&format!("{system}-histories"))
}

/// The cluster and timeline whose WAL a lineage holds; `None` where it holds something else.
pub fn parse(lineage: &str) -> Option<(SystemId, TimelineId)> {
    let (system, timeline) = lineage.split_once('-')?;
    Some((system.parse().ok()?, timeline.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let (system, timeline) = (SystemId(7_401_234_567_890_123_456), TimelineId(3));
        let lineage = of_timeline(system, timeline).unwrap();
        assert_eq!(lineage.as_str(), "7401234567890123456-3");
        assert_eq!(parse(lineage.as_str()), Some((system, timeline)));
        assert_eq!(parse(of_histories(system).unwrap().as_str()), None);
        assert_eq!(parse("app"), None);
    }
}
