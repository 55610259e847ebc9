//! Recording: a note at the beginning, receipts at the end.
//!
//! The order: the drafts are durable on this host, then the note of the beginning goes, then each draft is signed at
//! the next number of the chain, the signed receipt is durable here, it is created in the repository, and draft and
//! signed receipt go. A process that is killed at any of these moments leaves what the next one takes along; a signed
//! receipt is created again as it is, so that nothing is said twice.
//!
//! Failpoints: `receipts::begun`, `receipts::waiting`, `receipts::signed`, `receipts::created`.

use crate::chains::{RepositoryChains, WriterKey};
use crate::head;
use crate::waiting::{self, Held, Waiting, WaitingError};
use lifeboat_base::clock::{Clock, Timestamp};
use lifeboat_base::{Hint, failpoint, random};
use lifeboat_evidence::append::{Entry, Made};
use lifeboat_evidence::chains::tip;
use lifeboat_evidence::{
    Action, AppendError, ChainId, Chains, ChainsError, Draft, Event, EventId, Head, Outcome, RepositoryId,
    Sign, Who, append, expiry,
};
use lifeboat_repository::{Repository, RepositoryError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a receipt does not stand in the repository yet.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// This host may not write there, or the repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The chain could not be read.
    #[error(transparent)]
    Chains(#[from] ChainsError),
    /// It could not be appended.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It could not be kept on this host.
    #[error(transparent)]
    Waiting(#[from] WaitingError),
    /// Something was to be removed that waits for its receipt.
    #[error("the receipt that lets others expire could not be written yet")]
    NotYet,
}

impl Hint for RecordError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Repository(error) => error.hint(),
            Self::Chains(error) => error.hint(),
            Self::Append(error) => error.hint(),
            Self::Waiting(error) => error.hint(),
            Self::NotYet => None,
        }
    }
}

/// What came of recording.
#[derive(Debug, Default)]
pub struct Ended {
    /// Receipts that stand in the repository now, older ones that waited included.
    pub written: u64,
    /// Receipts that wait on this host.
    pub waiting: usize,
    /// Receipts of this time that are neither there nor here.
    pub lost: u64,
    /// Why not all are written.
    pub trouble: Option<RecordError>,
}

/// Something that has begun. Dropping it without an end leaves it to be said that it was interrupted.
#[derive(Debug)]
pub struct Begun {
    id: EventId,
    started: Timestamp,
    /// The note on this host; none where it could not be written.
    note: Option<Held>,
}

/// Leaves receipts for what one host does with one repository.
#[derive(Clone, Debug)]
pub struct Recorder {
    state: PathBuf,
    waiting: Waiting,
    host: String,
    who: Who,
    clock: Clock,
}

impl Recorder {
    /// For a host with its state directory, and the repository at a location.
    pub fn new(state: &Path, location: &str, host: &str, who: Who, clock: Clock) -> Self {
        let waiting = Waiting::new(state, location);
        Self { state: state.to_owned(), waiting, host: host.to_owned(), who, clock }
    }

    /// What waits for this repository.
    pub fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// Notes that something begins: if this process is killed, the next receipt says that it was interrupted. A host
    /// that cannot keep the note goes on without.
    pub fn begin(&self, action: Action, dataset: Option<&str>) -> Begun {
        let started = self.clock.now();
        let mut event = Event::new(action, Outcome::Interrupted).started(started);
        event.subject.dataset = dataset.map(str::to_owned);
        let draft = self.draft(event);
        let note = self.waiting.begin(&draft).unwrap_or_default();
        // A test's failpoint that fails is as good as one that passes: nothing rests on the note.
        let _ = failpoint::reach("receipts::begun");
        Begun { id: draft.id, started, note }
    }

    fn draft(&self, event: Event) -> Draft {
        Draft {
            id: EventId(random::bytes()),
            at: self.clock.now(),
            host: self.host.clone(),
            who: self.who,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            event,
        }
    }

    /// Records how something ended, and takes along what waits. Without a repository it waits itself.
    pub fn end(&self, begun: Begun, events: Vec<Event>, repository: Option<&Arc<Repository>>) -> Ended {
        let mut drafts: Vec<Draft> = events.into_iter().map(|event| self.draft(event)).collect();
        for draft in &mut drafts {
            draft.event.started.get_or_insert(begun.started);
        }
        // Should the note outlive this process, its identity tells that this is the same thing's end.
        if let Some(first) = drafts.first_mut() {
            first.id = begun.id;
        }
        let (held, homeless, mut trouble) = self.keep(drafts);
        if let Some(note) = &begun.note {
            let _ = waiting::remove(&note.path);
        }
        let mut ended = Ended { lost: homeless.len() as u64, ..Ended::default() };
        if let Some(repository) = repository {
            let written = self.write(repository, held, homeless, &mut ended);
            trouble = written.err().or(trouble.filter(|_| ended.lost > 0));
        }
        ended.trouble = trouble;
        ended.waiting = self.waiting.count();
        ended
    }

    /// Records something that has no beginning of its own.
    pub fn record(&self, event: Event, repository: &Arc<Repository>) -> Ended {
        let begun = Begun { id: EventId(random::bytes()), started: self.clock.now(), note: None };
        self.end(begun, vec![event], Some(repository))
    }

    /// Makes drafts durable here; gives those that could not be, and why.
    fn keep(&self, drafts: Vec<Draft>) -> (Vec<Held>, Vec<Draft>, Option<RecordError>) {
        let (mut held, mut homeless, mut trouble) = (Vec::new(), Vec::new(), None);
        for (nth, draft) in drafts.into_iter().enumerate() {
            match self.waiting.add(&draft, nth) {
                Ok(kept) => held.extend(kept),
                Err(error) => {
                    homeless.push(draft);
                    trouble = Some(error.into());
                }
            }
        }
        let _ = failpoint::reach("receipts::waiting");
        (held, homeless, trouble)
    }

    /// Appends what waits, oldest first, and then what could not be kept here.
    fn write(
        &self,
        repository: &Arc<Repository>,
        held: Vec<Held>,
        homeless: Vec<Draft>,
        ended: &mut Ended,
    ) -> Result<(), RecordError> {
        let pen = Pen::new(self, repository)?;
        for draft in homeless {
            pen.append(draft, None, &mut |_| Ok(()))?;
            ended.written += 1;
            ended.lost -= 1;
        }
        self.waiting.sweep()?;
        let mut held: Vec<Option<Held>> = held.into_iter().map(Some).collect();
        for path in self.waiting.drafts()? {
            let ours = held.iter_mut().find(|held| held.as_ref().is_some_and(|held| held.path == path));
            let (late, taken) = match ours {
                Some(ours) => (false, ours.take()),
                None => (true, waiting::hold(&path)?),
            };
            if let Some(taken) = taken {
                pen.write(&taken, late)?;
                ended.written += 1;
            }
        }
        Ok(())
    }

    /// Appends what waits.
    pub fn drain(&self, repository: &Arc<Repository>) -> Ended {
        let mut ended = Ended::default();
        ended.trouble = self.write(repository, Vec::new(), Vec::new(), &mut ended).err();
        ended.waiting = self.waiting.count();
        ended
    }

    /// Witnesses the tips of all other chains in this one: what the leader does every hour. Gives `None` where
    /// there is no other chain.
    ///
    /// # Errors
    /// Where a chain cannot be read.
    pub fn witness(&self, repository: &Arc<Repository>) -> Result<Option<Ended>, RecordError> {
        let own = WriterKey(repository.writer()?).public_key().writer();
        let chains = RepositoryChains::new(repository);
        let mut event = Event::new(Action::Heads, Outcome::Done);
        for chain in chains.chains()? {
            if chain.writer != own {
                event.heads.extend(tip(&chains, &chain, None, None)?.head);
            }
        }
        if event.heads.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.record(event, repository)))
    }

    /// Lets the beginnings of chains go that are older than the retention, after a receipt says so. Gives how many
    /// receipts went.
    ///
    /// # Errors
    /// Where this host may not maintain, or a chain cannot be read or written; what is left goes the next time.
    pub fn expire(&self, repository: &Arc<Repository>, retention_days: u32) -> Result<u64, RecordError> {
        let chains = RepositoryChains::with_signer(repository, repository.writer()?);
        let Some(event) = expiry::plan(&chains, retention_days, self.clock.now())? else { return Ok(0) };
        let expired = event.expired.clone();
        let ended = self.record(event, repository);
        if ended.trouble.is_some() || ended.written == 0 {
            return Err(ended.trouble.unwrap_or(RecordError::NotYet));
        }
        Ok(expiry::remove(&chains, &expired)?)
    }

    /// The tip of its own chain that this host remembers: a witness when it verifies.
    pub fn remembered(&self, repository: &Repository) -> Option<Head> {
        head::remembered(&self.state, &RepositoryId(repository.id().0))
    }
}

/// What appends to this host's chain.
struct Pen<'r> {
    recorder: &'r Recorder,
    repository: RepositoryId,
    chains: RepositoryChains,
    key: WriterKey,
}

impl<'r> Pen<'r> {
    fn new(recorder: &'r Recorder, repository: &Arc<Repository>) -> Result<Self, RecordError> {
        let signer = repository.writer()?;
        Ok(Self {
            recorder,
            repository: RepositoryId(repository.id().0),
            chains: RepositoryChains::with_signer(repository, signer.clone()),
            key: WriterKey(signer),
        })
    }

    fn chain(&self) -> ChainId {
        ChainId { repository: self.repository, writer: self.key.public_key().writer() }
    }

    /// Appends a draft that waits here, or finds that it was appended before its process was killed.
    fn write(&self, held: &Held, late: bool) -> Result<(), RecordError> {
        if !self.was_created(held)? {
            let written = late.then(|| self.recorder.clock.now());
            self.append(waiting::read(&held.path)?, written, &mut |signed| {
                waiting::keep_signed(&held.path, signed)?;
                failpoint::reach("receipts::signed")
            })?;
        }
        Ok(waiting::done(held)?)
    }

    /// A receipt that was signed already is created as it was signed; elsewhere only where its number is taken.
    fn was_created(&self, held: &Held) -> Result<bool, RecordError> {
        let Some(signed) = waiting::signed(&held.path) else { return Ok(false) };
        if signed.receipt().chain != self.chain() {
            return Ok(false);
        }
        let made = append::create(&self.chains, &signed)? == Made::Ours;
        if made {
            self.remember(&Head {
                chain: self.chain(),
                number: signed.receipt().number,
                hash: signed.hash(),
            });
        }
        Ok(made)
    }

    fn append(
        &self,
        draft: Draft,
        written: Option<Timestamp>,
        keep: &mut dyn FnMut(&lifeboat_evidence::SignedReceipt) -> std::io::Result<()>,
    ) -> Result<(), RecordError> {
        let known = head::read(&self.recorder.state, &self.chain());
        let entry = Entry { draft, written, known };
        let appended = append(&self.chains, self.repository, &self.key, entry, keep)?;
        let _ = failpoint::reach("receipts::created");
        self.remember(&appended.head());
        Ok(())
    }

    /// Without it the next receipt is looked for from the beginning: no reason to say that this one failed.
    fn remember(&self, head: &Head) {
        let _ = head::raise(&self.recorder.state, head);
    }
}
