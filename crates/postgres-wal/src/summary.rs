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
