//! The log of a cluster that goes through a spool: it ends where the spool ends, and what is before that lies in the
//! repository.
//!
//! The repository is asked once in the life of a process where its log ends. From then on the spool knows where to go
//! on, so that following does not depend on a repository that is away.

use super::tail::Tail;
use super::{Spool, SpoolError};
use crate::error::Result;
use crate::pending::WalStretch;
use crate::sink::{FollowedLog, RepositoryLog, WalSink};
use lifeboat_base::clock::{Stopwatch, Timestamp};
use lifeboat_postgres_wal::{Lsn, SystemId, TimelineHistory, TimelineId};
use lifeboat_repository::LogError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// So long a full spool is given to become emptier, before it is said that it is full.
const ROOM_WITHIN: Duration = Duration::from_secs(1);

/// The log of one cluster.
#[derive(Debug)]
pub(crate) struct SpooledLog {
    spool: Arc<Spool>,
    repository: RepositoryLog,
}

impl SpooledLog {
    pub(crate) fn new(spool: &Arc<Spool>, repository: RepositoryLog) -> Self {
        Self { spool: spool.clone(), repository }
    }

    /// Asks the repository once how far its log goes. One that is away is asked again later, where the spool knows
    /// enough to go on.
    fn look(&mut self) -> Result<()> {
        let system = self.repository.system();
        if self.spool.has_looked(system) {
            return Ok(());
        }
        match ends_of(&mut self.repository) {
            Ok(ends) => self.spool.looked(system, ends),
            Err(_) if self.spool.knows(system) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn ends_of(repository: &mut RepositoryLog) -> Result<BTreeMap<TimelineId, Lsn>> {
    let mut ends = BTreeMap::new();
    repository.look_again();
    for timeline in repository.timelines()? {
        if let Some(end) = repository.end(timeline)? {
            ends.insert(timeline, end);
        }
    }
    Ok(ends)
}

impl WalSink for SpooledLog {
    fn append(&mut self, stretch: &WalStretch) -> Result<()> {
        let system = self.repository.system();
        if let Some(end) = self.spool.end(system, stretch.timeline)
            && end != stretch.start
        {
            return Err(LogError::NotNext { expected: end.0, start: stretch.start.0 }.into());
        }
        let waited = Stopwatch::start();
        loop {
            match self.spool.append(system, stretch) {
                Err(SpoolError::Full { .. }) if waited.elapsed() < ROOM_WITHIN => {
                    self.spool.wait_for_change(ROOM_WITHIN);
                }
                other => return Ok(other?),
            }
        }
    }

    fn skip_to(&mut self, timeline: TimelineId, position: Lsn) -> Result<()> {
        let system = self.repository.system();
        match self.spool.end(system, timeline) {
            Some(end) if position < end => {
                Err(LogError::NotNext { expected: end.0, start: position.0 }.into())
            }
            _ => {
                self.spool.skip_to(system, timeline, position);
                Ok(())
            }
        }
    }

    fn keep_history(&mut self, timeline: TimelineId, content: &[u8], now: Timestamp) -> Result<()> {
        Ok(self.spool.keep_history(self.repository.system(), timeline, content, now)?)
    }
}

impl FollowedLog for SpooledLog {
    fn system(&self) -> SystemId {
        self.repository.system()
    }

    fn systems(&mut self) -> Result<BTreeSet<SystemId>> {
        let known = self.spool.systems();
        match self.spool.knows(self.repository.system()) {
            true => Ok(known),
            false => Ok(&self.repository.systems()? | &known),
        }
    }

    fn timelines(&mut self) -> Result<Vec<TimelineId>> {
        self.look()?;
        Ok(self.spool.timelines(self.repository.system()))
    }

    fn end(&mut self, timeline: TimelineId) -> Result<Option<Lsn>> {
        self.look()?;
        Ok(self.spool.end(self.repository.system(), timeline))
    }

    fn tail(&mut self, timeline: TimelineId, most: u64) -> Result<Option<(Lsn, Vec<u8>)>> {
        self.look()?;
        match self.spool.tail(self.repository.system(), timeline, most) {
            Some((_, bytes)) if bytes.is_empty() => Ok(self.repository.tail(timeline, most)?),
            tail => Ok(tail),
        }
    }

    fn history(&mut self, timeline: TimelineId) -> Result<Option<TimelineHistory>> {
        let system = self.repository.system();
        match self.spool.history(system, timeline) {
            Some(history) => Ok(Some(history)),
            None => Ok(self.repository.history(timeline)?),
        }
    }
}

/// What a spool knows of the logs that go through it.
impl Spool {
    fn has_looked(&self, system: SystemId) -> bool {
        self.lock().looked.contains(&system)
    }

    /// The repository's log may go further, where somebody else followed meanwhile.
    fn looked(&self, system: SystemId, ends: BTreeMap<TimelineId, Lsn>) {
        let mut state = self.lock();
        state.looked.insert(system);
        if state.published.is_none() {
            state.published = ends.last_key_value().map(|(timeline, end)| (*timeline, *end));
        }
        for (timeline, end) in ends {
            let tail = state.tails.entry((system, timeline)).or_insert_with(|| Tail::at(end));
            if tail.end() < end {
                *tail = Tail::at(end);
            }
        }
    }

    fn knows(&self, system: SystemId) -> bool {
        self.lock().tails.keys().any(|(of, _)| *of == system)
    }

    fn systems(&self) -> BTreeSet<SystemId> {
        self.lock().tails.keys().map(|(system, _)| *system).collect()
    }

    fn timelines(&self, system: SystemId) -> Vec<TimelineId> {
        let state = self.lock();
        state.tails.keys().filter(|(of, _)| *of == system).map(|(_, timeline)| *timeline).collect()
    }

    fn end(&self, system: SystemId, timeline: TimelineId) -> Option<Lsn> {
        self.lock().tails.get(&(system, timeline)).map(Tail::end)
    }

    fn tail(&self, system: SystemId, timeline: TimelineId, most: u64) -> Option<(Lsn, Vec<u8>)> {
        let state = self.lock();
        let tail = state.tails.get(&(system, timeline))?;
        let (start, bytes) = tail.last(usize::try_from(most).unwrap_or(usize::MAX));
        Some((start, bytes.to_vec()))
    }

    fn history(&self, system: SystemId, timeline: TimelineId) -> Option<TimelineHistory> {
        self.lock().histories.get(&(system, timeline)).map(|kept| kept.history.clone())
    }

    /// What comes next lies behind a hole. Like a repository's log this is known only to this process until it comes.
    fn skip_to(&self, system: SystemId, timeline: TimelineId, position: Lsn) {
        self.lock().tails.insert((system, timeline), Tail::at(position));
    }
}
