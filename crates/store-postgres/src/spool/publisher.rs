//! Publishing what a spool holds: in order, each record once, and removed from the spool only when it is durable in
//! the repository.
//!
//! After a crash nobody has noted what was published: the repository knows. What it has is compared and left out, so
//! that another history is noticed and nothing is stored twice.

use super::reading::{Batch, BatchContent};
use super::{Spool, SpoolError};
use crate::error::Result;
use crate::follow::FollowEvent;
use crate::sink::RepositoryLog;
use lifeboat_base::backoff::Backoff;
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::{Hint, report};
use lifeboat_postgres_wal::{Lsn, SystemId, TimelineId};
use lifeboat_repository::Repository;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One object holds at most so much.
const BATCH_BYTES: usize = 8 << 20;
/// How long to wait for something to publish before looking whether it is to end.
const LOOK_UP: Duration = Duration::from_millis(250);
/// So long it goes on once it is to end: the rest stays in the spool.
const END_WITHIN: Duration = Duration::from_secs(10);
/// Waits between attempts, as long as the repository cannot take anything.
const PATIENCE: Backoff =
    Backoff { first: Duration::from_millis(200), cap: Duration::from_secs(5), attempts: u32::MAX };

/// Publishes from a spool to a repository.
#[derive(Debug)]
pub(crate) struct Publisher<'s> {
    spool: &'s Spool,
    repository: &'s Arc<Repository>,
    logs: BTreeMap<SystemId, RepositoryLog>,
}

/// How a publisher works beside a follower.
pub(crate) struct Publishing<'p> {
    /// Records wait at most so long for more to be published with them.
    pub(crate) gather: Duration,
    /// Set when it is to end.
    pub(crate) ends: &'p AtomicBool,
    /// Tells what happens.
    pub(crate) say: &'p (dyn Fn(FollowEvent) + Sync),
    /// Waits; false where it is to end.
    pub(crate) pause: &'p (dyn Fn(Duration) -> bool + Sync),
}

impl<'s> Publisher<'s> {
    pub(crate) fn new(spool: &'s Spool, repository: &'s Arc<Repository>) -> Self {
        Self { spool, repository, logs: BTreeMap::new() }
    }

    /// Publishes until it is to end, and then what is left, as far as the repository takes it at once.
    pub(crate) fn run(mut self, how: &Publishing<'_>) -> Result<()> {
        while !how.ends.load(Ordering::Relaxed) {
            // Where that is not possible, whoever needs the file says so.
            let _ = self.spool.prepare();
            if self.spool.wait_for_records(LOOK_UP) {
                self.spool.wait_for_bytes(BATCH_BYTES as u64, how.gather);
                self.publish_patiently(how)?;
            }
        }
        let ending = Stopwatch::start();
        while ending.elapsed() < END_WITHIN {
            match self.publish_next() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(self.spool.clear()?),
                Err(error) if error.is_passing() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn publish_patiently(&mut self, how: &Publishing<'_>) -> Result<()> {
        let mut failed = 0;
        while let Err(error) = self.publish_next() {
            if !error.is_passing() {
                return Err(error);
            }
            failed += 1;
            (how.say)(FollowEvent::NotPublished {
                position: self.spool.status().published.map(|(_, end)| end).unwrap_or_default(),
                error: report(&error),
                hint: error.hint(),
            });
            if !(how.pause)(PATIENCE.wait_after(failed).unwrap_or(PATIENCE.cap)) {
                // It is about to end: until then there is no hurry.
                std::thread::sleep(LOOK_UP);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Publishes the oldest records that are not; `None` where there are none.
    pub(super) fn publish_next(&mut self) -> Result<Option<Batch>> {
        let Some(batch) = self.spool.read(BATCH_BYTES)? else { return Ok(None) };
        let log = self.logs.entry(batch.system).or_insert_with(|| {
            RepositoryLog::new(self.repository, &self.spool.owner().dataset, batch.system)
        });
        let published = match &batch.content {
            BatchContent::Wal(stretch) => log.fit(stretch),
            BatchContent::History { timeline, content, at } => {
                log.keep_history(*timeline, content, *at).map_err(Into::into)
            }
        };
        // Nobody knows whether it is there: what the log holds is looked at again before it is tried again.
        published.inspect_err(|_| log.look_again())?;
        self.spool.let_go(&batch)?;
        Ok(Some(batch))
    }
}

/// What was published of a spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// The log that was in it, by cluster and timeline, from where to where.
    pub stretches: BTreeMap<(SystemId, TimelineId), (Lsn, Lsn)>,
    /// Bytes of log.
    pub bytes: u64,
}

impl Drained {
    fn add(&mut self, batch: &Batch) {
        let BatchContent::Wal(stretch) = &batch.content else { return };
        let end = stretch.end();
        let whole = self.stretches.entry((batch.system, stretch.timeline)).or_insert((stretch.start, end));
        whole.1 = end;
        self.bytes += batch.bytes();
    }
}

/// Publishes everything that is in a spool, and empties it. `tell` hears of each step.
///
/// # Errors
/// Where the repository does not take it, or the spool is damaged: what came before is published.
pub fn drain(spool: &Spool, repository: &Arc<Repository>, tell: &mut dyn FnMut(&Drained)) -> Result<Drained> {
    if repository.id() != spool.owner().repository {
        let (path, found) = (spool.directory().to_owned(), Box::new(spool.owner().clone()));
        return Err(SpoolError::Foreign { path, found }.into());
    }
    let mut publisher = Publisher::new(spool, repository);
    let mut drained = Drained::default();
    while let Some(batch) = publisher.publish_next()? {
        drained.add(&batch);
        tell(&drained);
    }
    spool.clear()?;
    Ok(drained)
}
