//! Transactions, named and counted.
//!
//! It deliberately decides nothing: which of them are lost or included is for whoever cuts the log.

use crate::meaning::{Meaning, MeaningError};
use crate::position::Lsn;
use crate::record::Record;
use crate::time::PgTime;

/// A committed transaction, and where its commit is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionRef {
    /// The transaction.
    pub xid: u32,
    /// When it was committed, by the server's clock.
    pub committed_at: PgTime,
    /// Where the record of its commit begins.
    pub start: Lsn,
    /// Where that record ends: the position that its client could have been told.
    pub end: Lsn,
}

impl TransactionRef {
    /// The transaction that a record commits, if it does. (A record may commit none: PostgreSQL writes one
    /// without a number where only caches have to be told.)
    pub fn of_commit(record: &Record<'_>, meaning: &Meaning) -> Option<Self> {
        match meaning {
            Meaning::Commit(end) if end.xid != 0 => {
                Some(Self { xid: end.xid, committed_at: end.at, start: record.start, end: record.end })
            }
            _ => None,
        }
    }
}

/// What a stretch of the log has in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many records.
    pub records: u64,
    /// How many transactions were committed.
    pub commits: u64,
    /// How many transactions were rolled back. Those that wrote nothing leave no record.
    pub aborts: u64,
    /// The first commit, in the order of the log.
    pub first: Option<TransactionRef>,
    /// The last commit, in the order of the log.
    pub last: Option<TransactionRef>,
    /// The latest time of a commit, which need not be the last one's.
    pub latest: Option<PgTime>,
}

impl Summary {
    /// Counts a record.
    ///
    /// # Errors
    /// Where it does not have the layout that its kind has; it is then counted as a record alone.
    pub fn count(&mut self, record: &Record<'_>) -> Result<(), MeaningError> {
        self.records += 1;
        let Some(meaning) = record.meaning()? else { return Ok(()) };
        if matches!(meaning, Meaning::Abort(_)) {
            self.aborts += 1;
        }
        if let Some(transaction) = TransactionRef::of_commit(record, &meaning) {
            self.commits += 1;
            self.first = self.first.or(Some(transaction));
            self.last = Some(transaction);
            self.latest = self.latest.max(Some(transaction.committed_at));
        }
        Ok(())
    }

    /// Adds what the stretch behind this one has in it.
    #[must_use]
    pub fn followed_by(self, later: Self) -> Self {
        Self {
            records: self.records + later.records,
            commits: self.commits + later.commits,
            aborts: self.aborts + later.aborts,
            first: self.first.or(later.first),
            last: later.last.or(self.last),
            latest: self.latest.max(later.latest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::{Forge, SEGMENT};
    use crate::history::TimelineHistory;
    use crate::page::Version;
    use crate::position::TimelineId;
    use crate::reader::{Layout, WalReader};

    fn summary_of(forge: &Forge) -> Summary {
        let layout = Layout::new(TimelineHistory::first(TimelineId(1)), SEGMENT);
        let mut summary = Summary::default();
        let mut reader = WalReader::new(forge.start, layout);
        reader.feed(&forge.bytes, |record| summary.count(record).unwrap()).unwrap();
        summary
    }

    #[test]
    fn commits_are_counted_and_the_last_is_not_the_latest() {
        let mut forge = Forge::new(Version::V18);
        forge.commit(10, 500);
        forge.abort(11, 900);
        forge.commit_prepared(13, 12, 300);
        forge.commit(0, 950);
        forge.other(9000);
        let summary = summary_of(&forge);
        assert_eq!((summary.records, summary.commits, summary.aborts), (5, 2, 1));
        assert_eq!((summary.first.unwrap().xid, summary.last.unwrap().xid), (10, 12));
        assert_eq!(summary.latest, Some(PgTime(500)));
        let last = summary.last.unwrap();
        assert_eq!((last.start, last.end), forge.records[2]);
    }

    #[test]
    fn two_stretches_add_up_to_one() {
        let mut forge = Forge::new(Version::V15);
        forge.commit(10, 500);
        let first = summary_of(&forge);
        let none = Summary::default();
        assert_eq!((first.followed_by(none), none.followed_by(first)), (first, first));
        let twice = first.followed_by(first);
        assert_eq!((twice.commits, twice.records, twice.latest), (2, 2, Some(PgTime(500))));
    }
}
