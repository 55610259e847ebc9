//! Leaders: one process at a time does what is shared, and readers know whose word counts.
//!
//! Generation *g* is the object `leaders/g`, created once: of two candidates one wins it. A leader shows that
//! it lives by numbered heartbeats. It is stale when an observer has seen no new heartbeat for a time, on the
//! observer's own monotonic clock; what anybody's wall clock shows decides nothing.
//!
//! A frozen leader that thaws cannot know that it has been replaced. So readers decide: the first entry under
//! generation *g* in a shared chain fixes the chain, and later entries under a lower generation are void
//! ([`effective`]). Snapshots stand in a chain for each writer; their first entry under *g* names the tips of
//! the other chains as its leader saw them ([`ChainFix`]), and each later one repeats that. Log objects are
//! accepted under any generation, since the store's acknowledgements may rest on them.
//!
//! Failpoints: `leader::before-claim`, `leader::claimed`, `leader::before-heartbeat`.
//!
//! This module deliberately does not know what a leader does.

use crate::bodies::{Heartbeat, Leader, Role};
use crate::crypto::Signer;
use crate::envelope::ObjectType;
use crate::error::{RepositoryError, Result};
use crate::ids::{DatasetName, Position, RepositoryId, TicketId, WriterId};
use crate::layout;
use crate::repository::{Claim, Repository};
use crate::snapshots::{Published, is_about_one_object};
use crate::trust::Need;
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::{failpoint, random};
use lifeboat_objects::{Key, list_all};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Objects that nobody who may lead has signed occupy a generation and lead nothing; so many are passed over.
const MAX_OCCUPIED: u64 = 64;
/// So many heartbeats are kept: an observer needs the newest, and one that it is about to read.
const KEPT_HEARTBEATS: u64 = 8;
/// Under this name a snapshot repeats the tips that its leader fixed.
const TIPS_FACT: &str = "leader-tips";

/// A clock that only ever goes forward, at the speed of time.
pub trait Monotonic: Send + Sync + std::fmt::Debug {
    /// How long since some fixed instant.
    fn elapsed(&self) -> Duration;
}

impl Monotonic for Stopwatch {
    fn elapsed(&self) -> Duration {
        Self::elapsed(self)
    }
}

/// Who led under which generation.
pub type Leaders = BTreeMap<u64, WriterId>;

/// What came of standing for leadership.
#[derive(Debug)]
pub enum Outcome {
    /// We lead.
    Leading(Leadership),
    /// Somebody else does.
    Following {
        /// The generation.
        generation: u64,
        /// Who leads.
        writer: WriterId,
        /// For how long we have seen no new heartbeat.
        silent_for: Duration,
    },
}

/// Whether a leader still leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Current,
    /// It was replaced, and must stop.
    Superseded {
        /// The generation that replaced it.
        generation: u64,
        /// Who leads now.
        writer: WriterId,
    },
}

/// Somebody who leads as soon as nobody else does. Keep one and let it stand again and again: staleness is
/// what it has seen itself.
#[derive(Debug)]
pub struct Candidate {
    repository: Arc<Repository>,
    signer: Signer,
    stale_after: Duration,
    clock: Arc<dyn Monotonic>,
    seen: Option<Sighting>,
}

/// The newest sign of life, and when we first saw it.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    generation: u64,
    heartbeat: u64,
    since: Duration,
}

impl Candidate {
    /// A candidate that takes over from a leader of which it has seen no new heartbeat for `stale_after`.
    pub fn new(
        repository: &Arc<Repository>,
        signer: &Signer,
        stale_after: Duration,
        clock: Arc<dyn Monotonic>,
    ) -> Self {
        Self { repository: repository.clone(), signer: signer.clone(), stale_after, clock, seen: None }
    }

    /// Looks at who leads, and takes over where nobody does: at once where there never was a leader or the
    /// last one resigned, otherwise when it is stale.
    ///
    /// # Errors
    /// Where the store cannot be read or written, or this writer may not lead.
    pub fn stand(&mut self) -> Result<Outcome> {
        let Some((generation, writer)) = self.repository.leaders()?.into_iter().next_back() else {
            return self.claim(1);
        };
        let pulse = self.repository.pulse(generation, &writer)?;
        let silent_for = self.silence(generation, pulse.number);
        if pulse.resigned || silent_for >= self.stale_after {
            return self.claim(generation + 1);
        }
        Ok(Outcome::Following { generation, writer, silent_for })
    }

    fn silence(&mut self, generation: u64, heartbeat: u64) -> Duration {
        let now = self.clock.elapsed();
        let known = self.seen.filter(|seen| (seen.generation, seen.heartbeat) == (generation, heartbeat));
        let seen = known.unwrap_or(Sighting { generation, heartbeat, since: now });
        self.seen = Some(seen);
        now.saturating_sub(seen.since)
    }

    fn claim(&mut self, from: u64) -> Result<Outcome> {
        self.repository.permit_leading(&self.signer.id())?;
        for generation in from..from.saturating_add(MAX_OCCUPIED) {
            failpoint::reach("leader::before-claim").map_err(|e| RepositoryError::Io("lead", e))?;
            let body = Leader {
                repository: self.repository.id(),
                generation,
                writer: self.signer.id(),
                at: self.repository.clock().now(),
                nonce: TicketId(random::bytes()),
            };
            let key = layout::leader(generation);
            if let Claim::Won =
                self.repository.create_signed(ObjectType::Leader, &key, &body, &self.signer)?
            {
                failpoint::reach("leader::claimed").map_err(|e| RepositoryError::Io("lead", e))?;
                return Ok(Outcome::Leading(Leadership::new(self, generation)));
            }
            if let Some(writer) = self.repository.leader(&key)? {
                let silent_for = self.silence(generation, 0);
                return Ok(Outcome::Following { generation, writer, silent_for });
            }
        }
        let what = "the generations after the last leader are all occupied by objects that nobody signed";
        Err(RepositoryError::damaged(layout::LEADERS, what))
    }
}

/// What the leader of a generation holds. Dropping it says nothing to others: they wait until it is stale.
#[derive(Debug)]
pub struct Leadership {
    repository: Arc<Repository>,
    signer: Signer,
    generation: u64,
    heartbeats: u64,
    fixer: ChainFixer,
}

impl Leadership {
    fn new(candidate: &Candidate, generation: u64) -> Self {
        Self {
            repository: candidate.repository.clone(),
            signer: candidate.signer.clone(),
            generation,
            heartbeats: 0,
            fixer: ChainFixer { repository: candidate.repository.clone(), generation, fixes: Arc::default() },
        }
    }

    /// The generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// As [`ChainFixer::is_current`].
    ///
    /// # Errors
    /// Where the store cannot be read: then nobody knows, and a leader stops.
    pub fn is_current(&self) -> Result<bool> {
        self.fixer.is_current()
    }

    /// Gives a sign of life, unless a newer generation exists. To be called several times within the time
    /// after which others call it stale.
    ///
    /// # Errors
    /// Where the store cannot be read or written; call it again.
    pub fn heartbeat(&mut self) -> Result<Standing> {
        let standing = self.fixer.standing()?;
        if standing == Standing::Current {
            self.beat(false)?;
        }
        Ok(standing)
    }

    /// Steps down: whoever stands next leads at once.
    ///
    /// # Errors
    /// Where the store cannot be written: then others wait until this leader is stale.
    pub fn resign(mut self) -> Result<()> {
        self.beat(true)
    }

    fn beat(&mut self, resigned: bool) -> Result<()> {
        failpoint::reach("leader::before-heartbeat")
            .map_err(|e| RepositoryError::Io("give a sign of life", e))?;
        loop {
            let number = self.heartbeats + 1;
            let at = self.repository.clock().now();
            let (repository, generation) = (self.repository.id(), self.generation);
            let body = Heartbeat { repository, generation, number, at, resigned };
            let key = layout::heartbeat(generation, number);
            let claim = self.repository.create_signed(ObjectType::Heartbeat, &key, &body, &self.signer)?;
            self.heartbeats = number;
            // Lost to an earlier attempt of ours that seemed to fail: the next number is free.
            if let Claim::Won = claim {
                break;
            }
        }
        if self.heartbeats % KEPT_HEARTBEATS == 1 { self.tidy() } else { Ok(()) }
    }

    /// Removes the heartbeats that nobody looks at any more.
    fn tidy(&self) -> Result<()> {
        let oldest = layout::heartbeat(self.generation, self.heartbeats.saturating_sub(KEPT_HEARTBEATS));
        for listed in list_all(&*self.repository.store, layout::HEARTBEATS)? {
            if listed.key < oldest {
                self.repository.store.delete(&listed.key)?;
            }
        }
        Ok(())
    }

    /// What the snapshots of a dataset that are published under this leadership carry.
    ///
    /// # Errors
    /// As [`ChainFixer::fix`].
    pub fn fix(&mut self, dataset: &DatasetName) -> Result<ChainFix> {
        self.fixer.fix(dataset)
    }

    /// What fixes chains apart from this: long chains are read while signs of life go on.
    pub fn fixer(&self) -> ChainFixer {
        self.fixer.clone()
    }
}

/// Fixes the chains of a generation. Clones share what they have read.
#[derive(Clone, Debug)]
pub struct ChainFixer {
    repository: Arc<Repository>,
    generation: u64,
    fixes: Arc<Mutex<BTreeMap<DatasetName, ChainFix>>>,
}

impl ChainFixer {
    /// The generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether no newer generation exists. What is published after this said yes may still come too late;
    /// readers decide, by the order in the chain.
    ///
    /// # Errors
    /// Where the store cannot be read: then nobody knows, and a leader stops.
    pub fn is_current(&self) -> Result<bool> {
        Ok(self.standing()? == Standing::Current)
    }

    fn standing(&self) -> Result<Standing> {
        let newest = self.repository.leaders()?.into_iter().next_back();
        Ok(match newest.filter(|(generation, _)| *generation > self.generation) {
            Some((generation, writer)) => Standing::Superseded { generation, writer },
            None => Standing::Current,
        })
    }

    /// What the snapshots of a dataset that are published under this leadership carry. It is read from the
    /// chains once, before the first of them, and stays the same.
    ///
    /// # Errors
    /// Where a snapshot of the dataset cannot be read: then its chain's tip is not known.
    pub fn fix(&self, dataset: &DatasetName) -> Result<ChainFix> {
        // Held while it is read: two readings at different times would fix different tips.
        let mut fixes = self.fixes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fix) = fixes.get(dataset) {
            return Ok(fix.clone());
        }
        let mut unreadable = Vec::new();
        let snapshots = self.repository.judged_snapshots(Some(dataset), &mut unreadable)?.counted;
        // A tombstone that does not count hides no tip.
        unreadable.retain(|unreadable| unreadable.object.starts_with(layout::SNAPSHOTS));
        if let Some(unreadable) = unreadable.pop() {
            return Err(unreadable.error);
        }
        let mut fix = ChainFix { generation: self.generation, tips: BTreeMap::new() };
        for published in snapshots {
            let position = published.slot;
            let tip = fix.tips.entry(position.writer).or_insert(0);
            *tip = position.number.max(*tip);
        }
        fixes.insert(dataset.clone(), fix.clone());
        Ok(fix)
    }
}

/// What a leader found when it took over a dataset's chains: the last number of each writer that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainFix {
    generation: u64,
    tips: BTreeMap<WriterId, u64>,
}

impl ChainFix {
    /// The generation that a snapshot is published under.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The fact that a snapshot repeats: its name, and its value.
    pub(crate) fn fact(&self) -> (&'static str, String) {
        let tips: Vec<String> =
            self.tips.iter().map(|(writer, number)| format!("{writer}:{number}")).collect();
        (TIPS_FACT, tips.join(" "))
    }

    /// Reads what a snapshot repeats; what cannot be read fixes nothing, and then its own chain alone counts.
    fn tips(published: &Published) -> Option<BTreeMap<WriterId, u64>> {
        let text = published.snapshot.facts.get(TIPS_FACT)?;
        let tip = |tip: &str| {
            let (writer, number) = tip.split_once(':')?;
            let number = number.parse().ok().filter(|_| number.bytes().all(|b| b.is_ascii_digit()))?;
            Some((WriterId::from_hex(writer)?, number))
        };
        text.split(' ').filter(|tip| !tip.is_empty()).map(tip).collect()
    }
}

/// The entries of a shared chain that count, and those that came too late from a leader that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective<T> {
    /// What counts, in order.
    pub counted: Vec<T>,
    /// What does not, in order.
    pub void: Vec<T>,
}

impl<T> Effective<T> {
    fn split(entries: impl IntoIterator<Item = T>, mut counts: impl FnMut(&T) -> bool) -> Self {
        let (counted, void) = entries.into_iter().partition(|entry| counts(entry));
        Self { counted, void }
    }
}

/// Reads a shared chain: entries in their order, each with the generation that it was published under. The
/// first one under a generation fixes the chain, and later ones under a lower generation are void.
pub fn effective<T>(entries: impl IntoIterator<Item = (u64, T)>) -> Effective<(u64, T)> {
    let mut newest = 0;
    Effective::split(entries, |(generation, _)| {
        newest = newest.max(*generation);
        *generation == newest
    })
}

/// Reads the snapshots of a repository, of one dataset or several, by the same rule. Those that name no
/// generation always count, and so do copies: whoever copied them judged them, by leaders that are not known
/// here. Those that name a generation that their writer did not lead never do.
pub fn effective_snapshots(
    repository: &RepositoryId,
    snapshots: Vec<Published>,
    leaders: &Leaders,
) -> Effective<Published> {
    let fixes = fixes(repository, &snapshots, leaders);
    Effective::split(snapshots, |published| {
        let Position { dataset, writer, number } = &published.slot;
        let Some(generation) = led_under(repository, published) else { return true };
        let later = fixes.get(dataset).into_iter().flat_map(|fixes| fixes.range(generation + 1..));
        leaders.get(&generation) == Some(writer)
            && later.into_iter().all(|(_, fix)| fix.admits(writer, *number))
    })
}

/// The generation of this repository that a snapshot was published under; none for a copy.
pub(crate) fn led_under(repository: &RepositoryId, published: &Published) -> Option<u64> {
    let snapshot = &published.snapshot;
    let here = snapshot.repository == *repository && snapshot.position == published.slot;
    snapshot.generation.filter(|_| here)
}

/// The first entry that is left under a generation.
struct Fixed {
    writer: WriterId,
    number: u64,
    tips: Option<BTreeMap<WriterId, u64>>,
}

impl Fixed {
    /// Whether an entry under a lower generation came before.
    fn admits(&self, writer: &WriterId, number: u64) -> bool {
        if *writer == self.writer {
            return number < self.number;
        }
        self.tips.as_ref().is_none_or(|tips| number <= tips.get(writer).copied().unwrap_or(0))
    }
}

fn fixes(
    repository: &RepositoryId,
    snapshots: &[Published],
    leaders: &Leaders,
) -> HashMap<DatasetName, BTreeMap<u64, Fixed>> {
    let mut fixes: HashMap<DatasetName, BTreeMap<u64, Fixed>> = HashMap::new();
    for published in snapshots {
        let Position { dataset, writer, number } = &published.slot;
        let Some(generation) = led_under(repository, published) else { continue };
        if leaders.get(&generation) != Some(writer) {
            continue;
        }
        let fixed = fixes.entry(dataset.clone()).or_default();
        if fixed.get(&generation).is_none_or(|fix| *number < fix.number) {
            let fix = Fixed { writer: *writer, number: *number, tips: ChainFix::tips(published) };
            fixed.insert(generation, fix);
        }
    }
    fixes
}

/// The newest sign of life of a leader.
struct Pulse {
    number: u64,
    resigned: bool,
}

impl Repository {
    /// Who led under which generation, as far as it was signed by somebody who may lead.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn leaders(&self) -> Result<Leaders> {
        let mut leaders = Leaders::new();
        for listed in list_all(&*self.store, layout::LEADERS)? {
            let Some(generation) = layout::listed_number(&listed.key) else { continue };
            if let Some(writer) = self.leader(&listed.key)? {
                leaders.insert(generation, writer);
            }
        }
        Ok(leaders)
    }

    /// Who leads under a generation; `None` where its object is not what it should be.
    fn leader(&self, key: &Key) -> Result<Option<WriterId>> {
        match self.read_leader(key) {
            Ok(writer) => Ok(Some(writer)),
            Err(error) if is_about_one_object(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn read_leader(&self, key: &Key) -> Result<WriterId> {
        let opened = self.read::<Leader>(ObjectType::Leader, key, Need::Write)?;
        let body = opened.body;
        if layout::leader(body.generation) != *key || body.writer != opened.writer {
            return Err(RepositoryError::damaged(key, "it belongs to another place"));
        }
        if !self.may_lead(&opened.writer) {
            return Err(RepositoryError::damaged(key, "its writer may not lead"));
        }
        Ok(opened.writer)
    }

    /// Whoever can only write, and not read, cannot do what is shared. A leader that was revoked since did
    /// lead, so that what it published then still has its place.
    fn may_lead(&self, writer: &WriterId) -> bool {
        self.trust().writer(&self.id(), writer).is_some_and(|writer| writer.role != Role::WriteOnly)
    }

    fn permit_leading(&self, writer: &WriterId) -> Result<()> {
        self.trust().permit(writer, Need::Write)?;
        if self.may_lead(writer) {
            return Ok(());
        }
        Err(RepositoryError::NotPermitted { writer: writer.to_string(), action: "lead".to_owned() })
    }

    /// The newest heartbeat that the leader of a generation signed.
    fn pulse(&self, generation: u64, writer: &WriterId) -> Result<Pulse> {
        let first = layout::heartbeat(generation, 0);
        let prefix = first.as_str().trim_end_matches(first.last_component());
        for listed in list_all(&*self.store, prefix)?.iter().rev() {
            let number = layout::listed_number(&listed.key);
            match self.read::<Heartbeat>(ObjectType::Heartbeat, &listed.key, Need::Write) {
                Ok(opened) => {
                    let body = opened.body;
                    let place = (body.repository, body.generation, Some(body.number), opened.writer);
                    if place == (self.id(), generation, number, *writer) {
                        return Ok(Pulse { number: body.number, resigned: body.resigned });
                    }
                }
                Err(error) if is_about_one_object(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Pulse { number: 0, resigned: false })
    }
}
