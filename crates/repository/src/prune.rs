//! Prune: gives back the space of what nobody needs, beside writers and readers, without a lock.
//!
//! 1. A **condemn list** names what may go: packs that nobody needs or that are worth rewriting, index
//!    objects that they make obsolete, logs that a compacted one replaces or that have expired. List *n + 1*
//!    is opened only after verdict *n*.
//! 2. Whoever concludes list *n* lists the leases after it exists and waits for exactly those: each slot is
//!    filled by its snapshot, by a release, or, once the lease has lapsed, by a **void**.
//! 3. Then all snapshots and holds are read, then the index. What is needed and lies only in condemned packs
//!    is copied to replacement packs, durable and indexed before the verdict.
//! 4. The **verdict** names what of the list may be deleted. Deletion follows a verdict only.
//!
//! Safety rests on this order. Clocks only decide how long a lease is waited for.
//! Failpoints: `prune::after-list`, `prune::before-verdict`, `prune::after-verdict`, `prune::between-deletions`.

use crate::bodies::{BulkSet, End, Lease, ReaderLease, Role, Void};
use crate::crypto::Signer;
use crate::envelope::ObjectType;
use crate::error::{RepositoryError, Result};
use crate::ids::{BulkName, Position, TicketId, WriterId};
use crate::index::{Index, IndexedPack};
use crate::layout;
use crate::lists::Lists;
use crate::log::retire::{self, LogCutOff, LogSurvey};
use crate::mark::{Live, mark};
use crate::pipeline::write_index_object;
use crate::reader::Reader;
use crate::repository::{Claim, Repository};
use crate::rewrite::rewrite;
use crate::survey::{self, Proposal};
use crate::trust::Need;
use lifeboat_base::clock::{Stopwatch, Timestamp};
use lifeboat_base::failpoint;
use lifeboat_objects::list_all;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// The most names of one list, so that it stays one object.
const MAX_NAMES: usize = 200_000;
/// The same for logs, whose names are longer.
const MAX_LOG_NAMES: usize = 50_000;
/// A condemned pack of which more than this share turned out to be needed is spared, in percent.
const SPARE_ABOVE_PERCENT: u64 = 90;

/// How to prune.
#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// How much waste may stay, in percent of what is needed.
    pub max_unused_percent: u64,
    /// How long to wait for leases in all before the rest is left to the next prune.
    pub wait: Duration,
    /// Only say what would be done, once these snapshots are forgotten too.
    pub dry_run: Option<BTreeSet<Position>>,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self { max_unused_percent: 10, wait: Duration::from_mins(60), dry_run: None }
    }
}

/// What prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Bytes of packs that are needed, as stored.
    pub live_bytes: u64,
    /// Bytes of all indexed packs before.
    pub total_bytes: u64,
    /// Packs that the list named.
    pub condemned_packs: u64,
    /// Packs that were deleted.
    pub deleted_packs: u64,
    /// Index objects that were deleted.
    pub deleted_indexes: u64,
    /// Log objects that were deleted.
    pub deleted_logs: u64,
    /// Bytes that were deleted.
    pub deleted_bytes: u64,
    /// Bytes of packs and index objects that replace what was deleted.
    pub rewritten_bytes: u64,
    /// Slots that were taken from writers whose lease had lapsed.
    pub voided: Vec<Position>,
    /// Leases that prune still waits for; what the list names is deleted once they end.
    pub waiting_for: Vec<String>,
}

/// Prunes a repository.
///
/// # Errors
/// Where this machine may not maintain it, or where something that is needed cannot be found: then nothing
/// is deleted.
pub fn prune(repository: &Arc<Repository>, options: PruneOptions) -> Result<PruneReport> {
    prune_with(repository, options, &[])
}

/// As [`prune`], and lets logs expire up to the given positions, as far as no kept snapshot needs them.
///
/// # Errors
/// As [`prune`].
pub fn prune_with(
    repository: &Arc<Repository>,
    options: PruneOptions,
    cut_offs: &[LogCutOff],
) -> Result<PruneReport> {
    let signer = repository.writer()?;
    repository.trust().permit(&signer.id(), Need::Maintain)?;
    let mut prune = Prune { repository, signer, options, cut_offs, report: PruneReport::default() };
    // Every turn begins with one reading of the lists: a list is opened only on a reading that saw none open,
    // since the verdict before it then exists for ever, however late the new list is created.
    for _ in 0..MAX_TURNS {
        if prune.undisturbed(Prune::turn)? == Turn::Over {
            return Ok(prune.report);
        }
    }
    prune.report.waiting_for.push("other prunes, which open one condemn list after the other".to_owned());
    Ok(prune.report)
}

/// How many lists of others are concluded before one of our own is opened.
const MAX_TURNS: u32 = 5;

/// Whether prune has done what it can.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Over,
    /// A list that was open is concluded: ours may come next.
    Again,
}

/// Another prune may conclude a list while we read; it cannot do so again and again within one reading.
const MAX_DISTURBANCES: u32 = 5;

struct Prune<'r> {
    repository: &'r Arc<Repository>,
    signer: Signer,
    options: PruneOptions,
    cut_offs: &'r [LogCutOff],
    report: PruneReport,
}

impl Prune<'_> {
    /// Does something again when it failed because another prune deleted meanwhile what we were reading.
    fn undisturbed<T>(&mut self, attempt: impl Fn(&mut Self) -> Result<T>) -> Result<T> {
        for _ in 0..MAX_DISTURBANCES {
            let before = self.repository.read_lists()?.newest_verdict;
            match attempt(self) {
                Err(error) if error.is_not_found() || matches!(error, RepositoryError::MissingChunk(_)) => {
                    if self.repository.read_lists()?.newest_verdict == before {
                        return Err(error);
                    }
                }
                other => return other,
            }
        }
        attempt(self)
    }

    /// Concludes the list that is open; else opens one and concludes that.
    fn turn(&mut self) -> Result<Turn> {
        let lists = self.repository.read_whole_lists()?;
        match &lists.open {
            Some(open) if self.options.dry_run.is_some() => {
                self.report.waiting_for = vec![format!("condemn list {} to be concluded", open.number)];
                self.open_and_conclude(&lists).map(|()| Turn::Over)
            }
            Some(open) => Ok(if self.conclude(open)? { Turn::Again } else { Turn::Over }),
            None => self.open_and_conclude(&lists).map(|()| Turn::Over),
        }
    }

    /// Opens a list where `lists` show none that is open.
    fn open_and_conclude(&mut self, lists: &Lists) -> Result<()> {
        let (proposal, leftovers) = self.propose(lists)?;
        self.report.live_bytes = proposal.live_bytes;
        self.report.total_bytes = proposal.total_bytes;
        self.report.condemned_packs += proposal.packs.len() as u64;
        if self.options.dry_run.is_some() {
            self.report.deleted_bytes = proposal.freed_bytes;
            return Ok(());
        }
        self.delete(&leftovers)?;
        if proposal.packs.is_empty() && proposal.indexes.is_empty() && proposal.has_no_logs() {
            return Ok(());
        }
        let number = lists.newest_verdict + 1;
        let list = BulkSet {
            repository: self.repository.id(),
            number,
            packs: proposal.packs,
            indexes: proposal.indexes,
            logs: proposal.logs,
            writer: self.signer.id(),
            expired_logs: Some(proposal.expired_logs).filter(|expired| !expired.is_empty()),
        };
        // Whoever loses the race concludes the winner's list.
        self.repository.create_signed(
            ObjectType::CondemnList,
            &layout::condemned(number),
            &list,
            &self.signer,
        )?;
        failpoint::reach("prune::after-list").map_err(|e| RepositoryError::Io("prune", e))?;
        let list = self.repository.read_set(ObjectType::CondemnList, number)?;
        self.conclude(&list)?;
        Ok(())
    }

    /// What a new list should name, and dead objects that earlier prunes left behind.
    fn propose(&self, lists: &Lists) -> Result<(Proposal, BulkSet)> {
        let mut snapshots = self.repository.needed_snapshots(|| self.pinned())?;
        if let Some(forgotten_then) = &self.options.dry_run {
            let pinned = self.pinned()?;
            snapshots.retain(|p| !forgotten_then.contains(&p.slot) || pinned.contains(&p.slot));
        }
        let reader = Reader::with_index(self.repository, Arc::new(self.repository.load_whole_index(lists)?));
        let index = reader.index();
        let live = mark(&reader, &snapshots)?;
        let pack_bytes = u64::from(self.repository.config.pack_bytes);
        let mut proposal = survey::propose(&index, &live, self.options.max_unused_percent, pack_bytes);
        let mut leftovers = self.empty_set();
        self.unindexed(&index, lists, &mut proposal, &mut leftovers)?;
        proposal.packs.truncate(MAX_NAMES);
        let objects = self.repository.index_objects(lists)?;
        proposal.indexes = survey::propose_indexes(&objects, &proposal.packs);
        proposal.indexes.truncate(MAX_NAMES);
        leftovers.indexes = list_all(&*self.repository.store, layout::INDEX)?
            .iter()
            .filter_map(|listed| layout::bulk_name(&listed.key))
            .filter(|name| lists.is_dead(name))
            .collect();
        leftovers.logs = retire::leftovers(self.repository, lists)?;
        LogSurvey::read(self.repository, &snapshots)?.propose(self.cut_offs, &mut proposal)?;
        proposal.logs.truncate(MAX_LOG_NAMES);
        proposal.expired_logs.truncate(MAX_LOG_NAMES);
        Ok((proposal, leftovers))
    }

    /// Packs that no index object describes: garbage of a writer that died, once they are old enough; or
    /// dead already.
    fn unindexed(
        &self,
        index: &Index,
        lists: &Lists,
        proposal: &mut Proposal,
        leftovers: &mut BulkSet,
    ) -> Result<()> {
        let indexed: HashSet<BulkName> = index.packs.iter().map(|pack| pack.name).collect();
        let listed = list_all(&*self.repository.store, layout::PACKS)?;
        let now = self.now(listed.iter().map(|l| l.arrived).max());
        let grace = Duration::from_secs(self.repository.config.grace_secs);
        for object in listed {
            let Some(name) = layout::bulk_name(&object.key) else { continue };
            if lists.is_dead(&name) {
                leftovers.packs.push(name);
            } else if !indexed.contains(&name) && now.since(object.arrived) >= grace {
                proposal.packs.push(name);
                proposal.freed_bytes += object.size_bytes;
                proposal.total_bytes += object.size_bytes;
            }
        }
        Ok(())
    }

    /// The present, by our clock or by the store's, whichever is later: a clock that runs behind must not
    /// make anything look younger than something that has arrived since.
    fn now(&self, newest_arrival: Option<Timestamp>) -> Timestamp {
        self.repository.clock().now().max(newest_arrival.unwrap_or_default())
    }

    fn empty_set(&self) -> BulkSet {
        let (packs, indexes, logs) = (Vec::new(), Vec::new(), Vec::new());
        BulkSet {
            repository: self.repository.id(),
            number: 0,
            packs,
            indexes,
            logs,
            writer: self.signer.id(),
            expired_logs: None,
        }
    }

    /// What leases name as base, and readers as pinned. A lease whose slot is filled has ended and pins
    /// nothing, though its objects may still be there.
    fn pinned(&self) -> Result<BTreeSet<Position>> {
        let mut pinned = BTreeSet::new();
        for lease in self.writer_leases()? {
            if self.repository.slot(&lease.position)?.is_none() {
                pinned.extend(lease.base);
            } else if self.options.dry_run.is_none() {
                self.remove_lease(&lease.position)?;
            }
        }
        for reader in self.reader_leases()? {
            pinned.extend(reader.pins);
        }
        Ok(pinned)
    }

    /// Waits for the leases of a list, saves what is needed, writes the verdict and deletes. False where
    /// leases are still in the way.
    fn conclude(&mut self, list: &BulkSet) -> Result<bool> {
        if !self.await_leases()? {
            return Ok(false);
        }
        if self.repository.read_lists()?.newest_verdict >= list.number {
            let verdict = self.repository.read_set(ObjectType::Verdict, list.number)?;
            return self.delete(&verdict).map(|()| true);
        }
        let verdict = self.judge(list)?;
        failpoint::reach("prune::before-verdict").map_err(|e| RepositoryError::Io("prune", e))?;
        let key = layout::verdict(list.number);
        if let Claim::Lost =
            self.repository.create_signed(ObjectType::Verdict, &key, &verdict, &self.signer)?
        {
            // Somebody else concluded it; our replacements are garbage for a later prune.
            self.report.rewritten_bytes = 0;
        }
        failpoint::reach("prune::after-verdict").map_err(|e| RepositoryError::Io("prune", e))?;
        let verdict = self.repository.read_set(ObjectType::Verdict, list.number)?;
        self.delete(&verdict)?;
        Ok(true)
    }

    fn delete(&mut self, verdict: &BulkSet) -> Result<()> {
        let store = &self.repository.store;
        let indexes = verdict.indexes.iter().map(|name| (layout::index(name), Gone::Index));
        let logs = verdict.logs.iter().filter_map(|name| Some((layout::listed_log(name)?, Gone::Log)));
        let packs = verdict.packs.iter().map(|name| (layout::pack(name), Gone::Pack));
        for (key, kind) in indexes.chain(logs).chain(packs) {
            let size = match store.head(&key) {
                Ok(listed) => listed.size_bytes,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            store.delete(&key)?;
            failpoint::reach("prune::between-deletions").map_err(|e| RepositoryError::Io("prune", e))?;
            self.report.deleted_bytes += size;
            match kind {
                Gone::Pack => self.report.deleted_packs += 1,
                Gone::Index => self.report.deleted_indexes += 1,
                Gone::Log => self.report.deleted_logs += 1,
            }
        }
        Ok(())
    }

    /// What of a list may be deleted, once everything that is needed is safe elsewhere.
    fn judge(&mut self, list: &BulkSet) -> Result<BulkSet> {
        let lists = self.repository.read_whole_lists()?;
        let is_open = lists.open.as_ref().is_some_and(|open| open.number == list.number);
        if !is_open && lists.newest_verdict < list.number {
            // Writers see what is condemned in this list alone: without it nothing may be concluded.
            return Err(RepositoryError::damaged(layout::condemned(list.number), "it is not there any more"));
        }
        // Snapshots are read before the index: whatever they refer to was indexed before they were
        // published.
        let snapshots = self.repository.needed_snapshots(|| self.pinned())?;
        let reader = Reader::with_index(self.repository, Arc::new(self.repository.load_whole_index(&lists)?));
        let live = mark(&reader, &snapshots)?;
        let index = reader.index();
        let spared = spared(&index, &live, list);
        let condemned: Vec<BulkName> =
            list.packs.iter().filter(|name| !spared.contains(*name)).copied().collect();
        let replacements = rewrite(&reader, &self.signer, &live, &condemned)?;
        self.report.rewritten_bytes +=
            replacements.iter().map(|pack| u64::from(pack.size_bytes)).sum::<u64>();
        self.reindex(&lists, list, &condemned, replacements)?;
        let logs = match list.logs.is_empty() && list.expired_logs.is_none() {
            true => Vec::new(),
            false => LogSurvey::read(self.repository, &snapshots)?.confirm(list)?,
        };
        Ok(BulkSet {
            packs: condemned,
            indexes: list.indexes.clone(),
            logs,
            writer: self.signer.id(),
            expired_logs: None,
            ..list.clone()
        })
    }

    /// Describes replacements, and every surviving pack that only condemned index objects describe, in new
    /// index objects.
    fn reindex(
        &mut self,
        lists: &Lists,
        list: &BulkSet,
        condemned: &[BulkName],
        replacements: Vec<IndexedPack>,
    ) -> Result<()> {
        let going: HashSet<&BulkName> = condemned.iter().collect();
        let going_objects: HashSet<&BulkName> = list.indexes.iter().collect();
        let objects = self.repository.index_objects(lists)?;
        let mut described: HashSet<BulkName> = objects
            .iter()
            .filter(|(name, _)| !going_objects.contains(name))
            .flat_map(|(_, packs)| packs.iter().map(|p| p.name))
            .collect();
        let mut orphans: Vec<IndexedPack> = replacements;
        described.extend(orphans.iter().map(|pack| pack.name));
        for (_, packs) in objects.into_iter().filter(|(name, _)| going_objects.contains(name)) {
            for pack in packs {
                if !going.contains(&pack.name) && !lists.is_dead(&pack.name) && described.insert(pack.name) {
                    orphans.push(pack);
                }
            }
        }
        for group in crate::index::groups(orphans) {
            let (_, bytes) = write_index_object(self.repository, &self.signer, &group)?;
            self.report.rewritten_bytes += bytes;
        }
        Ok(())
    }

    /// Waits for every lease that exists now; true when each of them has ended.
    fn await_leases(&mut self) -> Result<bool> {
        let watch = Stopwatch::start();
        let mut writers = self.writer_leases()?;
        let mut readers = self.reader_leases()?;
        loop {
            let mut still = Vec::new();
            for lease in writers {
                if !self.has_ended(&lease, &watch)? {
                    still.push(lease);
                }
            }
            writers = still;
            let ended = self.repository.ended(layout::READERS_ENDED)?;
            let mut still = Vec::new();
            for reader in readers {
                if !self.is_ended(&ended, &reader) && !self.end_if_lapsed(&reader, &watch)? {
                    still.push(reader);
                }
            }
            readers = still;
            if writers.is_empty() && readers.is_empty() {
                return Ok(true);
            }
            if watch.elapsed() >= self.options.wait {
                self.report.waiting_for = writers
                    .iter()
                    .map(|l| format!("the writer of {}", l.position))
                    .chain(readers.iter().map(|r| format!("a reader ({})", r.purpose)))
                    .collect();
                return Ok(false);
            }
            std::thread::sleep(
                Duration::from_secs(self.repository.config.lease_secs).min(Duration::from_secs(20)) / 20,
            );
        }
    }

    /// Whether a writer's slot is filled; a lapsed one is filled with a void.
    fn has_ended(&mut self, lease: &WriterClaim, watch: &Stopwatch) -> Result<bool> {
        if self.repository.slot(&lease.position)?.is_some() {
            self.remove_lease(&lease.position)?;
            return Ok(true);
        }
        let newest = self.newest_arrival(&format!("{}/", crate::lease::lease_prefix(&lease.position)))?;
        if !self.has_lapsed(newest.unwrap_or(lease.arrived), watch) {
            return Ok(false);
        }
        let at = self.repository.clock().now();
        let void = Void { repository: self.repository.id(), position: lease.position.clone(), at };
        let claim = self.repository.create_signed(
            ObjectType::Void,
            &layout::snapshot(&lease.position),
            &void,
            &self.signer,
        )?;
        if let Claim::Won = claim {
            self.report.voided.push(lease.position.clone());
        }
        // The slot is filled now, by us or by a snapshot that was faster: the lease's objects may go.
        self.remove_lease(&lease.position)?;
        Ok(true)
    }

    /// Removes the objects of a lease whose slot is filled: its writer died before it could, or renewed once
    /// more after a void. Newest first, as the writer does.
    fn remove_lease(&self, position: &Position) -> Result<()> {
        let prefix = format!("{}/", crate::lease::lease_prefix(position));
        for listed in list_all(&*self.repository.store, &prefix)?.into_iter().rev() {
            self.repository.store.delete(&listed.key)?;
        }
        Ok(())
    }

    fn end_if_lapsed(&self, reader: &ReaderClaim, watch: &Stopwatch) -> Result<bool> {
        let prefix = format!("{}{}/", layout::READERS, reader.ticket);
        let newest = self.newest_arrival(&prefix)?;
        if !self.has_lapsed(newest.unwrap_or(reader.arrived), watch) {
            return Ok(false);
        }
        let end = End {
            repository: self.repository.id(),
            ticket: reader.ticket,
            at: self.repository.clock().now(),
        };
        self.repository.create_signed(
            ObjectType::End,
            &layout::reader_ended(&reader.ticket),
            &end,
            &self.signer,
        )?;
        for listed in list_all(&*self.repository.store, &prefix)? {
            self.repository.store.delete(&listed.key)?;
        }
        Ok(true)
    }

    fn newest_arrival(&self, prefix: &str) -> Result<Option<Timestamp>> {
        Ok(list_all(&*self.repository.store, prefix)?.into_iter().map(|listed| listed.arrived).max())
    }

    /// A lease has lapsed when no renewal came for the lease time, by our clock, or when we have watched it
    /// for that long ourselves.
    fn has_lapsed(&self, newest: Timestamp, watch: &Stopwatch) -> bool {
        let lease = Duration::from_secs(self.repository.config.lease_secs);
        let now = self.repository.clock().now();
        now.since(newest) > lease || (newest > now && watch.elapsed() > lease)
    }

    fn writer_leases(&self) -> Result<Vec<WriterClaim>> {
        let mut claims: BTreeMap<Position, WriterClaim> = BTreeMap::new();
        for listed in list_all(&*self.repository.store, layout::LEASES)? {
            let Some((position, renewal)) = layout::lease_parts(&listed.key) else { continue };
            let lease = match self.repository.read::<Lease>(ObjectType::Lease, &listed.key, Need::Write) {
                Ok(opened) => {
                    let says = (&opened.body.position, opened.body.renewal, opened.writer);
                    if says != (&position, renewal, position.writer) {
                        return Err(RepositoryError::damaged(&listed.key, "it belongs to another place"));
                    }
                    opened.body
                }
                // Removed since it was listed: its slot is filled.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            let claim = claims.entry(position.clone()).or_insert_with(|| WriterClaim {
                position,
                base: None,
                arrived: listed.arrived,
            });
            claim.arrived = claim.arrived.max(listed.arrived);
            claim.base = claim.base.take().or(lease.base);
        }
        Ok(claims.into_values().collect())
    }

    fn reader_leases(&self) -> Result<Vec<ReaderClaim>> {
        let ended = self.repository.ended(layout::READERS_ENDED)?;
        let mut claims: BTreeMap<TicketId, ReaderClaim> = BTreeMap::new();
        for listed in list_all(&*self.repository.store, layout::READERS)? {
            let Some(ticket) = layout::ticket(&listed.key) else { continue };
            let kind = ObjectType::ReaderLease;
            let opened = match self.repository.read::<ReaderLease>(kind, &listed.key, Need::Write) {
                Ok(opened) => opened,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            let lease = opened.body;
            if listed.key != layout::reader(&lease.ticket, lease.renewal) {
                return Err(RepositoryError::damaged(&listed.key, "it belongs to another place"));
            }
            let claim = claims.entry(ticket).or_insert_with(|| ReaderClaim {
                ticket,
                writer: opened.writer,
                pins: lease.pins,
                arrived: listed.arrived,
                purpose: lease.purpose,
            });
            // Nobody renews what is another's.
            if claim.writer == opened.writer {
                claim.arrived = claim.arrived.max(listed.arrived);
            }
        }
        Ok(claims.into_values().filter(|reader| !self.is_ended(&ended, reader)).collect())
    }

    /// Whether a reader's claim has ended: by its own writer's word or a maintainer's, and nobody else's.
    fn is_ended(&self, ended: &BTreeMap<TicketId, WriterId>, reader: &ReaderClaim) -> bool {
        ended.get(&reader.ticket).is_some_and(|by| {
            *by == reader.writer || self.repository.trust().role(by) == Some(Role::Maintain)
        })
    }
}

/// What was deleted.
#[derive(Clone, Copy)]
enum Gone {
    Pack,
    Index,
    Log,
}

/// A writer that claims a slot.
struct WriterClaim {
    position: Position,
    base: Option<Position>,
    arrived: Timestamp,
}

/// A reader that pins snapshots.
struct ReaderClaim {
    ticket: TicketId,
    writer: WriterId,
    pins: Vec<Position>,
    arrived: Timestamp,
    purpose: String,
}

/// The packs of a list that turned out to be needed almost whole: rewriting them would gain nothing.
fn spared(index: &Index, live: &Live, list: &BulkSet) -> HashSet<BulkName> {
    let small = list.packs.len() > 1;
    let uses = survey::pack_uses(index, live);
    let named: HashSet<&BulkName> = list.packs.iter().collect();
    uses.iter()
        .filter_map(|used| used.name.map(|name| (name, used)))
        .filter(|(name, used)| {
            named.contains(name)
                && used.live * 100 > used.size * SPARE_ABOVE_PERCENT
                && !(small && used.size < (1 << 20))
        })
        .map(|(name, _)| name)
        .collect()
}
