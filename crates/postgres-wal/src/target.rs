//! What a recovery target means in a given log: one place, at which PostgreSQL stops when told.
//!
//! The rules are PostgreSQL's own. It asks of each record, before it replays it and after, whether to stop:
//!
//! | target | stops |
//! |---|---|
//! | time | before the first commit or abort that is later than the time (or as late, exclusive) |
//! | transaction | after its commit or abort (before, exclusive) |
//! | name | after the first restore point of that name |
//! | position | after the first record that begins there or later (before, exclusive) |
//! | immediate | after the record that makes the base backup consistent |
//!
//! Whatever the target was, the answer is a position with inclusive or exclusive, and stopping there is the
//! same: the position is the beginning of the record that decided.
//!
//! It deliberately knows no files and no server: records come in, a [`Resolution`] or what can be had comes out.

use crate::meaning::{Meaning, MeaningError};
use crate::position::{Lsn, TimelineId};
use crate::record::Record;
use crate::summary::TransactionRef;
use crate::time::PgTime;
use lifeboat_base::Hint;
use std::fmt;
use std::ops::ControlFlow;

/// What somebody wants to get back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All that the log has.
    Latest,
    /// The first state that can be started: as the base backup ended.
    Immediate,
    /// An instant of the server's clock.
    Time(PgTime),
    /// A position in the log.
    Lsn(Lsn),
    /// The end of a transaction, and everything that ended before it in the log. With or without its epoch:
    /// only the lower 32 bits count.
    Xid(u64),
    /// A restore point.
    Name(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("the latest state"),
            Self::Immediate => f.write_str("the end of the base backup"),
            Self::Time(time) => write!(f, "the time {time}"),
            Self::Lsn(lsn) => write!(f, "the position {lsn}"),
            Self::Xid(xid) => write!(f, "transaction {xid}"),
            Self::Name(name) => write!(f, "the restore point {name:?}"),
        }
    }
}

/// What becomes of the record that a target names: `recovery_target_inclusive`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edge {
    /// It is replayed, as PostgreSQL does where nobody says otherwise.
    #[default]
    Inclusive,
    /// It is left out. Means nothing for a name, nor for latest and immediate.
    Exclusive,
}

/// From where on a base backup is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Where replay begins: the redo position of the backup's checkpoint. Records before it decide nothing.
    pub redo: Lsn,
    /// Where the backup ended: nothing before it can be started.
    pub consistent: Lsn,
}

/// A target as a place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// What to give as `recovery_target_lsn`.
    pub stop: Lsn,
    /// What to give as `recovery_target_inclusive`.
    pub inclusive: bool,
    /// What to give as `recovery_target_timeline`: the timeline of the record at `stop`.
    pub timeline: TimelineId,
    /// How far the log must be there for PostgreSQL to stop: the end of the record at `stop`.
    pub log_needed: Lsn,
    /// The last transaction that is included, in the order of the log.
    pub last_transaction: Option<TransactionRef>,
    /// The first transaction that is left out, if one was met before the log ended or was put away.
    pub first_left_out: Option<TransactionRef>,
    /// Whether PostgreSQL would stop there with the target as it was given. If not, the log ends before a
    /// record that would have stopped it, and yet it is known to have all that the target asks for.
    pub reached: bool,
}

/// Why a target cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It lies before the base backup was consistent.
    #[error("{target} lies at {stop}, before the base backup was complete at {consistent}")]
    BeforeConsistent {
        /// The target.
        target: Target,
        /// Where PostgreSQL would stop, and give up.
        stop: Lsn,
        /// Where the backup was complete.
        consistent: Lsn,
    },
    /// It lies behind the end of the log, or nowhere.
    #[error("{target} is not reached: the log ends at {end}, {}", last_said(nearest.last_transaction.as_ref()))]
    NotReached {
        /// The target.
        target: Target,
        /// Where the log ends.
        end: Lsn,
        /// What can be had: all that the log has.
        nearest: Box<Resolution>,
        /// The transaction that the one asked for is only a part of, if it is.
        part_of: Option<TransactionRef>,
    },
    /// The log ends before the base backup was consistent.
    #[error("the log ends at {end}, before the base backup was complete at {consistent}")]
    LogTooShort {
        /// Where the log ends.
        end: Lsn,
        /// Where the backup was complete.
        consistent: Lsn,
    },
    /// A record that could decide cannot be read.
    #[error("read the record at {at}")]
    Unreadable {
        /// Where it begins.
        at: Lsn,
        /// Why.
        #[source]
        source: MeaningError,
    },
}

fn last_said(last: Option<&TransactionRef>) -> String {
    last.map_or_else(
        || "without a transaction".to_owned(),
        |last| format!("and its last transaction is {} of {}", last.xid, last.committed_at),
    )
}

impl Hint for TargetError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::BeforeConsistent { consistent, .. } => {
                format!("Restore from an older snapshot, or choose a target behind {consistent}.")
            }
            Self::NotReached { part_of: Some(whole), .. } => {
                format!("This is a subtransaction: restore to transaction {}, which it is a part of.", whole.xid)
            }
            Self::NotReached { .. } => "Restore to `latest` to get all that the log has.".to_owned(),
            Self::LogTooShort { .. } => {
                "The log of the time of this snapshot is missing: restore from an older snapshot.".to_owned()
            }
            Self::Unreadable { .. } => {
                "The record is intact and not understood: choose a target before it, or report its kind and the \
                 version of the server."
                    .to_owned()
            }
        })
    }
}

/// The record at which to stop.
#[derive(Clone, Copy, Debug)]
struct Stop {
    start: Lsn,
    end: Lsn,
    timeline: TimelineId,
    inclusive: bool,
}

impl Stop {
    const fn at(record: &Record<'_>, inclusive: bool) -> Self {
        Self { start: record.start, end: record.end, timeline: record.timeline, inclusive }
    }
}

/// Finds out what a target means, record by record.
#[derive(Debug)]
pub struct Resolver {
    target: Target,
    edge: Edge,
    replay: Replay,
    stop: Option<Stop>,
    /// The last record that is replayed.
    last: Option<Stop>,
    consistent: bool,
    last_transaction: Option<TransactionRef>,
    first_left_out: Option<TransactionRef>,
    /// The latest instant at which the server is known to have had no more log than this.
    clock: Option<PgTime>,
    part_of: Option<TransactionRef>,
    unreadable: Option<(Lsn, MeaningError)>,
}

impl Resolver {
    /// A resolver of a target in the log behind a base backup.
    pub const fn new(target: Target, edge: Edge, replay: Replay) -> Self {
        Self {
            target,
            edge,
            replay,
            stop: None,
            last: None,
            consistent: replay.consistent.0 <= replay.redo.0,
            last_transaction: None,
            first_left_out: None,
            clock: None,
            part_of: None,
            unreadable: None,
        }
    }

    /// Takes the next record of the log, beginning at the redo position or before it. Breaks off once nothing
    /// that comes could change the answer.
    pub fn see(&mut self, record: &Record<'_>) -> ControlFlow<()> {
        if self.unreadable.is_some() || self.first_left_out.is_some() {
            return ControlFlow::Break(());
        }
        match record.meaning() {
            Ok(meaning) => self.take(record, meaning.as_ref()),
            // What comes behind the stop is only looked at for the name of what is left out.
            Err(_) if self.stop.is_some() => ControlFlow::Continue(()),
            Err(error) => {
                self.unreadable = Some((record.start, error));
                ControlFlow::Break(())
            }
        }
    }

    /// Tells an instant at which the server had written no more than the log that was seen so far, as the
    /// follower of a quiet server knows it. A time before that is reached although no later commit is there.
    pub fn saw_clock(&mut self, at: PgTime) {
        self.clock = self.clock.max(Some(at));
    }

    fn take(&mut self, record: &Record<'_>, meaning: Option<&Meaning>) -> ControlFlow<()> {
        let replayed = record.start >= self.replay.redo;
        if self.stop.is_none() && replayed && self.stops_before(record, meaning) {
            self.stop = Some(Stop::at(record, false));
        }
        let transaction = meaning.and_then(|meaning| TransactionRef::of_commit(record, meaning));
        if self.stop.is_some() {
            self.first_left_out = transaction;
            return if transaction.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        }
        self.last_transaction = transaction.or(self.last_transaction);
        if replayed {
            self.last = Some(Stop::at(record, true));
            self.consistent |= record.end >= self.replay.consistent;
        }
        if let Some(meaning) = meaning {
            self.note(meaning, transaction);
        }
        if replayed && self.stops_after(record, meaning) {
            self.stop = self.last;
        }
        ControlFlow::Continue(())
    }

    /// Keeps what a record says beside its main purpose: what time it was, and which transaction is a part of
    /// which.
    fn note(&mut self, meaning: &Meaning, transaction: Option<TransactionRef>) {
        match meaning {
            Meaning::RestorePoint { at, .. } => self.saw_clock(*at),
            Meaning::Checkpoint(checkpoint) => self.saw_clock(checkpoint.at),
            Meaning::Commit(end) => {
                let parts = end.subtransactions.as_deref().unwrap_or_default();
                if parts.iter().any(|part| self.is_wanted(*part)) {
                    self.part_of = transaction;
                }
            }
            _ => {}
        }
    }

    const fn is_wanted(&self, xid: u32) -> bool {
        matches!(self.target, Target::Xid(wanted) if wanted as u32 == xid)
    }

    fn stops_before(&self, record: &Record<'_>, meaning: Option<&Meaning>) -> bool {
        let exclusive = self.edge == Edge::Exclusive;
        match (&self.target, meaning) {
            (Target::Immediate, _) => self.consistent,
            (Target::Lsn(lsn), _) => exclusive && record.start >= *lsn,
            (Target::Time(time), Some(Meaning::Commit(end) | Meaning::Abort(end))) => {
                end.at > *time || exclusive && end.at == *time
            }
            (Target::Xid(_), Some(Meaning::Commit(end) | Meaning::Abort(end))) => {
                exclusive && self.is_wanted(end.xid)
            }
            _ => false,
        }
    }

    fn stops_after(&self, record: &Record<'_>, meaning: Option<&Meaning>) -> bool {
        let inclusive = self.edge == Edge::Inclusive;
        match (&self.target, meaning) {
            (Target::Immediate, _) => self.consistent,
            (Target::Lsn(lsn), _) => inclusive && record.start >= *lsn,
            (Target::Xid(_), Some(Meaning::Commit(end) | Meaning::Abort(end))) => {
                inclusive && self.is_wanted(end.xid)
            }
            (Target::Name(wanted), Some(Meaning::RestorePoint { name, .. })) => name == wanted,
            _ => false,
        }
    }

    /// Answers, when the log has come to its end or nothing more needs to be seen. `end` is where the log ends:
    /// the end of its last whole record.
    ///
    /// # Errors
    /// See [`TargetError`]: it says what can be had instead.
    pub fn finish(self, end: Lsn) -> Result<Resolution, TargetError> {
        if let Some((at, source)) = self.unreadable {
            return Err(TargetError::Unreadable { at, source });
        }
        let consistent = self.replay.consistent;
        match (self.stop, self.last) {
            (Some(stop), _) if self.consistent => Ok(self.resolution(stop, true)),
            (Some(stop), _) => {
                Err(TargetError::BeforeConsistent { target: self.target, stop: stop.start, consistent })
            }
            (None, Some(last)) if self.consistent => self.without_stop(last, end),
            (None, _) => Err(TargetError::LogTooShort { end, consistent }),
        }
    }

    fn without_stop(self, last: Stop, end: Lsn) -> Result<Resolution, TargetError> {
        let everything = match self.target {
            Target::Latest => return Ok(self.resolution(last, true)),
            Target::Time(time) => self.clock.is_some_and(|clock| clock > time),
            Target::Lsn(lsn) => lsn <= end,
            Target::Immediate | Target::Xid(_) | Target::Name(_) => false,
        };
        let nearest = self.resolution(last, false);
        if everything {
            return Ok(nearest);
        }
        let (nearest, part_of) = (Box::new(nearest), self.part_of);
        Err(TargetError::NotReached { target: self.target, end, nearest, part_of })
    }

    const fn resolution(&self, stop: Stop, reached: bool) -> Resolution {
        Resolution {
            stop: stop.start,
            inclusive: stop.inclusive,
            timeline: stop.timeline,
            log_needed: stop.end,
            last_transaction: self.last_transaction,
            first_left_out: self.first_left_out,
            reached,
        }
    }
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
