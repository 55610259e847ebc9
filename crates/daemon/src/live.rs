//! How things stand right now: what was last seen of every dataset, stream, copy and of the repository. Nothing here
//! is durable and nothing is judged: the report is made from it.

use lifeboat_base::clock::{Stopwatch, Timestamp};
use lifeboat_recovery::prove::Verdict;
use lifeboat_repository::Published;
use lifeboat_store_postgres::{FollowStatus, SnapshotFacts};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was last seen.
#[derive(Debug, Default)]
pub struct Live(Mutex<Seen>);

/// What was last seen, all of it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// By dataset.
    pub datasets: BTreeMap<String, DatasetSeen>,
    /// The repository.
    pub repository: PlaceSeen,
    /// By copy.
    pub copies: BTreeMap<String, PlaceSeen>,
    /// Who leads.
    pub leader: LeaderSeen,
    /// Whether everything that is done at a start is done.
    pub is_started: bool,
    /// Whether the service is about to end.
    pub is_stopping: bool,
}

/// A dataset.
#[derive(Clone, Debug, Default)]
pub struct DatasetSeen {
    /// Its newest snapshot in the repository.
    pub snapshot: Option<SnapshotSeen>,
    /// Protected on change: when it last looked as the newest snapshot has it.
    pub unchanged_at: Option<Timestamp>,
    /// Its newest proof.
    pub proof: Option<ProofSeen>,
    /// Its stream, where this host follows it.
    pub stream: Option<StreamSeen>,
    /// The last arrival of log in the repository, as far as the objects there say.
    pub log_until: Option<Timestamp>,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSeen {
    /// Its identity.
    pub id: String,
    /// The instant that it shows.
    pub taken: Timestamp,
    /// What a restore of it writes.
    pub bytes: u64,
    /// The position of a log from which on a restore of it needs log.
    pub log_from: Option<u64>,
}

impl SnapshotSeen {
    /// What is shown of a published one.
    pub fn of(published: &Published) -> Self {
        let snapshot = &published.snapshot;
        let facts = SnapshotFacts::read(&snapshot.facts).ok();
        Self {
            id: published.id.to_string(),
            taken: snapshot.taken,
            bytes: snapshot.stats.content_bytes,
            log_from: facts.map(|facts| facts.first_needed().0),
        }
    }
}

/// A proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofSeen {
    /// What it came to.
    pub verdict: Verdict,
    /// When it ended.
    pub at: Timestamp,
    /// Why it is not `proven`.
    pub reasons: Vec<String>,
}

/// A stream.
#[derive(Clone, Debug)]
pub struct StreamSeen {
    /// What it last said.
    pub status: Option<FollowStatus>,
    /// How long ago that was.
    pub heard: Stopwatch,
    /// When everything that the server had was last known to be durable.
    pub durable_through: Option<Timestamp>,
    /// Why it does not run, where it does not.
    pub failure: Option<String>,
    /// Commits wait for it, and did not while this was set.
    pub is_exposed: bool,
}

/// A repository or a copy.
#[derive(Clone, Debug, Default)]
pub struct PlaceSeen {
    /// When it last answered.
    pub answered: Option<Timestamp>,
    /// When it was last asked.
    pub asked: Option<Timestamp>,
    /// Since when an answer is waited for.
    pub asking: Option<Timestamp>,
    /// Why it did not answer, where it did not when it was last asked.
    pub failure: Option<String>,
    /// In a copy, by dataset: up to when it can be restored from here.
    pub holds: BTreeMap<String, Timestamp>,
    /// In a copy, by followed dataset: everything that was durable at this instant has been copied since. Of a server
    /// that is idle nothing else shows it: its log ends where it ended.
    pub caught_up: BTreeMap<String, Timestamp>,
}

/// Who leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderSeen {
    /// The generation.
    pub generation: Option<u64>,
    /// The writer.
    pub writer: Option<String>,
    /// Whether that is us.
    pub is_us: bool,
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything, as of now.
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// Changes something, at once.
    pub fn change<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        change(&mut self.lock())
    }

    fn dataset<T>(&self, dataset: &str, change: impl FnOnce(&mut DatasetSeen) -> T) -> T {
        self.change(|seen| change(seen.datasets.entry(dataset.to_owned()).or_default()))
    }

    /// A snapshot was published.
    pub fn snapshot_taken(&self, dataset: &str, published: &Published) {
        let taken = SnapshotSeen::of(published);
        self.dataset(dataset, |seen| {
            if seen.snapshot.as_ref().is_none_or(|known| known.taken <= taken.taken) {
                seen.snapshot = Some(taken);
            }
        });
    }

    /// A dataset looked as its newest snapshot has it.
    pub fn looked_at(&self, dataset: &str, at: Timestamp) {
        self.dataset(dataset, |seen| seen.unchanged_at = Some(at));
    }

    /// A proof ended.
    pub fn proven(&self, dataset: &str, verdict: Verdict, at: Timestamp, reasons: Vec<String>) {
        self.dataset(dataset, |seen| seen.proof = Some(ProofSeen { verdict, at, reasons }));
    }

    /// A stream said how far it is.
    pub fn stream_status(&self, dataset: &str, status: FollowStatus, now: Timestamp) {
        self.dataset(dataset, |seen| {
            let stream = seen.stream.get_or_insert_with(StreamSeen::new);
            stream.heard = Stopwatch::start();
            stream.failure = None;
            stream.status = Some(status);
            let is_whole =
                status.connected && status.oldest_wait.is_none() && status.durable >= status.server_end;
            // As of when the server was heard, not of when we looked.
            if is_whole {
                stream.durable_through = Some(now.minus(status.silent_for));
            } else if let Some(wait) = status.oldest_wait {
                let through = now.minus(wait);
                stream.durable_through = stream
                    .durable_through
                    .max(Some(through).filter(|_| status.received >= status.server_end));
            }
        });
    }

    /// A stream does not run.
    pub fn stream_failed(&self, dataset: &str, failure: String) {
        self.dataset(dataset, |seen| {
            seen.stream.get_or_insert_with(StreamSeen::new).failure = Some(failure);
        });
    }

    /// Commits wait for a stream, or do not.
    pub fn stream_exposed(&self, dataset: &str, is_exposed: bool) {
        self.dataset(dataset, |seen| {
            seen.stream.get_or_insert_with(StreamSeen::new).is_exposed = is_exposed;
        });
    }

    /// This host does not follow a dataset any more.
    pub fn stream_ended(&self, dataset: &str) {
        self.dataset(dataset, |seen| seen.stream = None);
    }
}

impl StreamSeen {
    fn new() -> Self {
        Self {
            status: None,
            heard: Stopwatch::start(),
            durable_through: None,
            failure: None,
            is_exposed: false,
        }
    }
}
