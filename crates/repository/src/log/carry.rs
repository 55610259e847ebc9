//! Carrying logs to a copy: every object that the copy can use and does not have, verbatim.
//!
//! An object is known again by the hash of its head's body, so that copying twice carries nothing twice. What
//! the copy let expire stays away, since no snapshot there needs it, also where the origin has put it together
//! with more that the copy has. A compacted object goes along only where
//! the copy lacks some of what it replaced: what another repository's maintainer compacted stands for nothing
//! in a copy.

use super::catalogue::{LogCatalogue, reason};
use super::object::Headed;
use super::ranges::{merge, without};
use super::retire::{self, LineageKey, Needs};
use crate::copy::CopyReport;
use crate::crypto::Signer;
use crate::error::{RepositoryError, Result};
use crate::ids::{BodyHash, DatasetName};
use crate::layout;
use crate::lists::Lists;
use crate::repository::{Claim, Repository};
use crate::snapshots::is_about_one_object;
use lifeboat_base::{failpoint, random};
use lifeboat_objects::Key;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, PoisonError};

/// Prune may take objects in the origin while they are read; it cannot do so again and again.
const MAX_DISTURBANCES: u32 = 5;
/// A name is taken by what does not count, or was condemned; a random one is not.
const MAX_NAMES: u32 = 4;

/// Carries a dataset's logs. Objects that cannot be read are named in the report and do not hold up others.
pub(crate) fn carry(
    origin: &Arc<Repository>,
    target: &Arc<Repository>,
    dataset: &DatasetName,
    report: &mut CopyReport,
) -> Result<()> {
    for _ in 0..MAX_DISTURBANCES {
        let mut carrier = Carrier::new(origin, target, dataset)?;
        let whole = carrier.carry_all();
        report.logs += carrier.carried;
        report.log_bytes += carrier.bytes;
        if whole? {
            report.left_out.append(&mut carrier.left_out);
            return Ok(());
        }
    }
    let what = "prune took objects again and again while they were copied";
    Err(RepositoryError::damaged(layout::logs(dataset), what))
}

struct Carrier {
    origin: Arc<Repository>,
    target: Arc<Repository>,
    signer: Signer,
    source: LogCatalogue,
    lists: Lists,
    /// Bodies that are in the copy, or in something that its own maintainer compacted.
    known: HashSet<BodyHash>,
    /// The positions that bodies in the copy hold.
    held: HashMap<BodyHash, Range<u64>>,
    /// All positions that the copy holds, per lineage.
    there: HashMap<LineageKey, Vec<Range<u64>>>,
    /// What the copy's snapshots need for themselves.
    needs: Needs,
    ends: HashMap<LineageKey, u64>,
    carried: u64,
    bytes: u64,
    left_out: Vec<String>,
}

impl Carrier {
    fn new(origin: &Arc<Repository>, target: &Arc<Repository>, dataset: &DatasetName) -> Result<Self> {
        // Snapshots before lists: what expires after this does so although these need it not.
        let mut unreadable = Vec::new();
        let snapshots = target.snapshots(Some(dataset), &mut unreadable)?;
        let lists = target.read_lists()?;
        let source = LogCatalogue::read(origin, dataset)?;
        let there = LogCatalogue::read(target, dataset)?;
        let mut ends = HashMap::new();
        for head in source.heads() {
            let end = ends.entry(retire::lineage_of(head)).or_insert(0);
            *end = head.body.end.max(*end);
        }
        let mut carrier = Self {
            origin: origin.clone(),
            target: target.clone(),
            signer: target.writer()?,
            left_out: source
                .unreadable()
                .iter()
                .map(|u| format!("{}: {}", u.object, reason(&u.error)))
                .collect(),
            source,
            lists,
            known: HashSet::new(),
            held: HashMap::new(),
            there: HashMap::new(),
            needs: Needs::of(&snapshots),
            ends,
            carried: 0,
            bytes: 0,
        };
        // What is condemned must not be relied on.
        for head in there.heads() {
            if !carrier.is_condemned(&head.key) {
                carrier.learn(head)?;
            }
        }
        Ok(carrier)
    }

    fn learn(&mut self, head: &Headed) -> Result<()> {
        self.known.insert(head.hash);
        self.held.insert(head.hash, retire::held_by(head));
        let there = self.there.entry(retire::lineage_of(head)).or_default();
        there.push(retire::held_by(head));
        merge(there);
        if head.stands_for_others_in(&self.target) {
            match self.target.read_log_table(head) {
                Ok(table) => self.known.extend(table.replaced.iter().map(|replaced| replaced.body)),
                Err(error) if is_about_one_object(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_condemned(&self, key: &Key) -> bool {
        let open = self.lists.open.iter();
        let mut names = open.flat_map(|set| set.logs.iter().chain(set.expired_logs.iter().flatten()));
        names.any(|name| name == key.as_str())
    }

    /// False where prune took something meanwhile, so that the origin must be listed again.
    fn carry_all(&mut self) -> Result<bool> {
        let heads: Vec<Arc<Headed>> = self.source.heads().cloned().collect();
        let (compacted, plain): (Vec<_>, Vec<_>) = heads.iter().partition(|head| head.is_compacted());
        for head in plain.into_iter().chain(compacted) {
            if self.known.contains(&head.hash) || !self.is_wanted(head)? {
                continue;
            }
            if !self.attempt(head, Self::carry_unless_it_adds_nothing)? {
                return Ok(false);
            }
        }
        self.carry_links(&heads)
    }

    /// A reader goes on with an object only where it names what ended there. What is named goes along also where it
    /// brings no position: after the origin has put small objects together, whoever writes there names the new one.
    fn carry_links(&mut self, heads: &[Arc<Headed>]) -> Result<bool> {
        let by_hash: HashMap<BodyHash, &Arc<Headed>> = heads.iter().map(|head| (head.hash, head)).collect();
        let mut pending: Vec<&Arc<Headed>> = heads.iter().collect();
        while let Some(head) = pending.pop() {
            let named = head.body.predecessor.and_then(|hash| by_hash.get(&hash).copied());
            let Some(named) = named.filter(|named| self.is_missing_link(head, named)) else { continue };
            if !self.attempt(named, Self::carry_one)? {
                return Ok(false);
            }
            pending.push(named);
        }
        Ok(true)
    }

    /// Whether the copy has an object, and other ones that end where it starts, and lacks the one that it names.
    fn is_missing_link(&self, head: &Headed, named: &Headed) -> bool {
        let end = retire::held_by(named).end;
        let ends_there = |range: &Range<u64>| (range.start..range.end).contains(&end.saturating_sub(1));
        let there = self.there.get(&retire::lineage_of(named));
        self.known.contains(&head.hash)
            && !self.known.contains(&named.hash)
            && head.body.start == end
            && there.is_some_and(|there| there.iter().any(ends_there))
    }

    /// False where prune took it meanwhile. What cannot be read does not hold up others.
    fn attempt(&mut self, head: &Headed, carry: fn(&mut Self, &Headed) -> Result<()>) -> Result<bool> {
        match carry(self, head) {
            Ok(()) => {}
            Err(error) if error.is_not_found() && self.went(head)? => return Ok(false),
            Err(error) if is_about_one_object(&error) => {
                self.left_out.push(format!("{}: {}", head.key, reason(&error)));
            }
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Whether prune took it in the origin since it was listed.
    fn went(&self, head: &Headed) -> Result<bool> {
        Ok(self.origin.read_lists()?.dead_logs.contains(head.key.as_str()))
    }

    /// What the copy lacks of what its snapshots need for themselves and of the lineage's end always; else nothing
    /// that they have left behind, and nothing that the copy once let go.
    fn is_wanted(&self, head: &Headed) -> Result<bool> {
        let (lineage, held) = (retire::lineage_of(head), retire::held_by(head));
        let there = self.there.get(&lineage).map_or(&[][..], Vec::as_slice);
        let mut missing = without(held.clone(), there);
        let lacks_something = !missing.is_empty();
        if !lacks_something {
            missing.push(held.clone());
        }
        let is_end = self.ends.get(&lineage) == Some(&held.end)
            && missing.last().is_some_and(|range| range.end == held.end);
        let is_needed = missing.iter().any(|range| self.needs.any_of(&lineage, range));
        Ok(match self.needs.in_lineage(&lineage).first() {
            Some(first) if held.end <= first.start => is_end,
            Some(_) if is_end || is_needed => true,
            _ if self.lists.dead_logs.contains(head.key.as_str()) => false,
            _ => !lacks_something || !self.were_let_go(&lineage, &missing)?,
        })
    }

    /// Whether the copy let all of these positions expire: the origin may hold them under another name than it did.
    fn were_let_go(&self, lineage: &LineageKey, positions: &[Range<u64>]) -> Result<bool> {
        let mut expired = self.target.expired.lock().unwrap_or_else(PoisonError::into_inner);
        expired.refresh_to(&self.target, self.lists.newest_verdict)?;
        let expired = expired.in_lineage(lineage);
        Ok(positions.iter().all(|range| without(range.clone(), expired).is_empty()))
    }

    fn carry_unless_it_adds_nothing(&mut self, head: &Headed) -> Result<()> {
        let adds_nothing = head.is_compacted() && self.adds_nothing(head)?;
        if adds_nothing { Ok(()) } else { self.carry_one(head) }
    }

    fn carry_one(&mut self, head: &Headed) -> Result<()> {
        if !self.target.trust().knows(&head.body.repository) {
            let what = "it was copied there from a third repository: copy it from that one";
            return Err(RepositoryError::damaged(&head.key, what));
        }
        let bytes = self.origin.rewrap_log(head, &self.target, &self.signer)?;
        failpoint::reach("log::before-carry").map_err(|e| RepositoryError::Io("copy a log", e))?;
        self.create(head, &bytes)?;
        self.learn(head)?;
        self.carried += 1;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Whether the copy has every object that a compacted one replaced, by itself or in something that its own
    /// maintainer put together, and so all of its positions.
    fn adds_nothing(&self, head: &Headed) -> Result<bool> {
        let table = self.origin.read_log_table(head)?;
        let mut held: Vec<Range<u64>> =
            table.replaced.iter().filter_map(|replaced| self.held.get(&replaced.body).cloned()).collect();
        if table.replaced.iter().all(|replaced| self.known.contains(&replaced.body)) {
            held.extend(self.there.get(&retire::lineage_of(head)).into_iter().flatten().cloned());
        }
        merge(&mut held);
        Ok(without(retire::held_by(head), &held).is_empty())
    }

    /// Under the name that it has in the origin, unless that was condemned here or something else stands there.
    fn create(&self, head: &Headed, bytes: &[u8]) -> Result<()> {
        let named = layout::log_name(&head.key);
        let name = named.ok_or_else(|| RepositoryError::damaged(&head.key, "it has no name of a log"))?;
        let mut key = head.key.clone();
        for _ in 0..MAX_NAMES {
            let free = !self.is_condemned(&key) && !self.lists.dead_logs.contains(key.as_str());
            if free && (self.target.create_once(&key, bytes)? == Claim::Won || self.is_there(&key, head)?) {
                return Ok(());
            }
            key = layout::log(&name, u64::from_le_bytes(random::bytes()));
        }
        Err(RepositoryError::damaged(layout::LOGS, "every name that was tried is taken by something else"))
    }

    /// Whether another copier was faster.
    fn is_there(&self, key: &Key, head: &Headed) -> Result<bool> {
        match self.target.read_log_head(&self.target.store.head(key)?) {
            Ok(there) => Ok(there.hash == head.hash),
            Err(error) if is_about_one_object(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
