//! Which log objects may go: those that a compacted log replaces, and those that have expired.
//!
//! Prune asks twice: when it opens a list, and again before its verdict, when every lease that could hide a
//! snapshot has ended. What has expired stays nevertheless as long as a kept snapshot needs it for itself, and
//! the end of a lineage that a kept snapshot belongs to stays, so that its writer finds it.
//!
//! A hole that expiry left is told from a loss by the lists and verdicts, which are kept for ever: they name
//! what expired.

use super::catalogue::LogCatalogue;
use super::object::Headed;
use super::ranges::{merge, overlap};
use super::{LOG_END_FACT, LOG_POSITION_FACT, Lineage};
use crate::bodies::{BulkSet, Snapshot};
use crate::envelope::ObjectType;
use crate::error::Result;
use crate::ids::{BodyHash, DatasetName};
use crate::layout;
use crate::lists::Lists;
use crate::repository::Repository;
use crate::snapshots::{Published, is_about_one_object};
use crate::survey::Proposal;
use lifeboat_objects::list_all;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// How much of a lineage's log has expired: objects that hold nothing of what stays may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCutOff {
    /// The dataset.
    pub dataset: DatasetName,
    /// The lineage.
    pub lineage: Lineage,
    /// The first position from which on everything must stay.
    pub before: u64,
    /// What must stay below it.
    pub stays: Vec<Range<u64>>,
}

impl LogCutOff {
    /// Whether an object that holds these positions has expired.
    pub fn lets_go(&self, held: &Range<u64>) -> bool {
        held.end <= self.before && !self.stays.iter().any(|stays| overlap(stays, held))
    }
}

pub(crate) type LineageKey = (DatasetName, String);

/// The logs of a repository and what its snapshots need of them.
pub(crate) struct LogSurvey {
    repository: Arc<Repository>,
    heads: Vec<Arc<Headed>>,
    needs: Needs,
    ends: HashMap<LineageKey, u64>,
}

impl LogSurvey {
    /// `snapshots` are those that are kept.
    pub(crate) fn read(repository: &Arc<Repository>, snapshots: &[Published]) -> Result<Self> {
        let mut heads = Vec::new();
        for dataset in datasets(repository)? {
            heads.extend(LogCatalogue::read(repository, &dataset)?.heads().cloned());
        }
        let mut ends = HashMap::new();
        for head in &heads {
            let end = ends.entry(lineage_of(head)).or_insert(0);
            *end = head.body.end.max(*end);
        }
        Ok(Self { repository: repository.clone(), heads, needs: Needs::of(snapshots), ends })
    }

    /// What a new list should name.
    pub(crate) fn propose(&self, cut_offs: &[LogCutOff], proposal: &mut Proposal) -> Result<()> {
        let superseded = self.superseded(None)?;
        let expired = |head: &Headed| {
            let of_it =
                |c: &&LogCutOff| c.dataset == head.body.dataset && c.lineage.as_str() == head.body.lineage;
            cut_offs.iter().filter(of_it).any(|c| c.lets_go(&held_by(head))) && self.is_unneeded(head)
        };
        for head in &self.heads {
            if expired(head) {
                proposal.expired_logs.push(head.key.to_string());
            } else if superseded.contains(&head.hash) {
                proposal.logs.push(head.key.to_string());
            } else {
                continue;
            }
            proposal.freed_bytes += head.size_bytes;
        }
        Ok(())
    }

    /// What of a list may be deleted: what an object replaces that itself stays, and of what had expired that
    /// which no kept snapshot needs. Whoever opened the list knew the cut-off; whoever concludes it need not.
    pub(crate) fn confirm(&self, list: &BulkSet) -> Result<Vec<String>> {
        let expired: HashSet<&str> = list.expired_logs.iter().flatten().map(String::as_str).collect();
        let going: HashSet<&str> =
            list.logs.iter().map(String::as_str).chain(expired.iter().copied()).collect();
        let superseded = self.superseded(Some(&going))?;
        let confirmed = self.heads.iter().filter(|head| {
            let name = head.key.as_str();
            going.contains(name)
                && (superseded.contains(&head.hash) || (expired.contains(name) && self.is_unneeded(head)))
        });
        Ok(confirmed.map(|head| head.key.to_string()).collect())
    }

    /// The bodies that compacted logs replace. Before anything `going` is given up for one of them, that one
    /// must stay itself and is read whole.
    fn superseded(&self, going: Option<&HashSet<&str>>) -> Result<HashSet<BodyHash>> {
        let mut superseded = HashSet::new();
        let stays = |head: &&Arc<Headed>| going.is_none_or(|going| !going.contains(head.key.as_str()));
        let stands_for_others = |head: &&Arc<Headed>| head.stands_for_others_in(&self.repository);
        for head in self.heads.iter().filter(stands_for_others).filter(stays) {
            match self.replaced_by(head, going) {
                Ok(replaced) => superseded.extend(replaced),
                // What cannot be read replaces nothing.
                Err(error) if is_about_one_object(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(superseded)
    }

    fn replaced_by(&self, head: &Headed, going: Option<&HashSet<&str>>) -> Result<HashSet<BodyHash>> {
        let table = self.repository.read_log_table(head)?;
        let replaced: HashSet<BodyHash> = table.replaced.iter().map(|replaced| replaced.body).collect();
        let counts = |going: &HashSet<&str>| {
            self.heads.iter().any(|h| going.contains(h.key.as_str()) && replaced.contains(&h.hash))
        };
        if going.is_some_and(counts) {
            self.repository.load_log(head)?;
        }
        Ok(replaced)
    }

    fn is_unneeded(&self, head: &Headed) -> bool {
        let lineage = lineage_of(head);
        let is_end = self.ends.get(&lineage) == Some(&head.body.end) && self.needs.knows(&lineage);
        !is_end && !self.needs.any_of(&lineage, &held_by(head))
    }
}

/// What kept snapshots need of the log for themselves, per lineage.
#[derive(Debug, Default)]
pub(crate) struct Needs(HashMap<LineageKey, Vec<Range<u64>>>);

impl Needs {
    pub(crate) fn of<'p>(snapshots: impl IntoIterator<Item = &'p Published>) -> Self {
        let mut needs: HashMap<LineageKey, Vec<Range<u64>>> = HashMap::new();
        for snapshot in snapshots.into_iter().map(|published| &published.snapshot) {
            let Some(lineage) = &snapshot.lineage else { continue };
            let key = (snapshot.position.dataset.clone(), lineage.clone());
            needs.entry(key).or_default().push(own_log(snapshot));
        }
        needs.values_mut().for_each(merge);
        Self(needs)
    }

    /// Whether a snapshot of the lineage is kept.
    pub(crate) fn knows(&self, lineage: &LineageKey) -> bool {
        self.0.contains_key(lineage)
    }

    /// The positions of a lineage that snapshots need, ascending.
    pub(crate) fn in_lineage(&self, lineage: &LineageKey) -> &[Range<u64>] {
        self.0.get(lineage).map_or(&[], Vec::as_slice)
    }

    /// Whether any of these positions is needed.
    pub(crate) fn any_of(&self, lineage: &LineageKey, held: &Range<u64>) -> bool {
        self.in_lineage(lineage).iter().any(|need| overlap(need, held))
    }
}

/// The positions of its lineage that a snapshot needs for itself. One that does not say where that begins may
/// need everything, and one that does not say where it ends everything behind its beginning.
fn own_log(snapshot: &Snapshot) -> Range<u64> {
    let start = position(snapshot, LOG_POSITION_FACT).unwrap_or(0);
    let end = position(snapshot, LOG_END_FACT).filter(|end| *end > start);
    start..end.unwrap_or(u64::MAX)
}

/// Whether a snapshot says where the log that it needs begins.
pub(crate) fn says_what_it_needs(published: &&Published) -> bool {
    position(&published.snapshot, LOG_POSITION_FACT).is_some()
}

fn position(snapshot: &Snapshot, fact: &str) -> Option<u64> {
    let digits = snapshot.facts.get(fact)?;
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// The positions that verdicts let expire, per lineage: what is missing there is no loss.
#[derive(Debug, Default)]
pub(crate) struct Expired {
    read: u64,
    positions: HashMap<LineageKey, Vec<Range<u64>>>,
}

impl Expired {
    /// Reads the lists and verdicts that were not there yet.
    pub(crate) fn refresh(&mut self, repository: &Repository) -> Result<()> {
        self.refresh_to(repository, repository.read_lists()?.newest_verdict)
    }

    /// As [`Expired::refresh`], up to the verdict that is known to be the newest.
    pub(crate) fn refresh_to(&mut self, repository: &Repository, newest: u64) -> Result<()> {
        if newest <= self.read {
            return Ok(());
        }
        for number in self.read + 1..=newest {
            match self.learn(repository, number) {
                // Whoever reads it knows that it is damaged; what it let go then looks lost.
                Err(error) if is_about_one_object(&error) => {}
                learned => learned?,
            }
        }
        self.read = newest;
        self.positions.values_mut().for_each(merge);
        Ok(())
    }

    fn learn(&mut self, repository: &Repository, number: u64) -> Result<()> {
        let list = repository.read_set(ObjectType::CondemnList, number)?;
        let Some(named) = list.expired_logs else { return Ok(()) };
        let verdict = repository.read_set(ObjectType::Verdict, number)?;
        let dead: HashSet<&str> = verdict.logs.iter().map(String::as_str).collect();
        for name in named.iter().filter(|name| dead.contains(name.as_str())) {
            let Some(name) = layout::listed_log(name).and_then(|key| layout::log_name(&key)) else {
                continue;
            };
            self.positions.entry((name.dataset, name.lineage)).or_default().push(name.start..name.end);
        }
        Ok(())
    }

    /// The positions of a lineage that have expired, ascending.
    pub(crate) fn in_lineage(&self, lineage: &LineageKey) -> &[Range<u64>] {
        self.positions.get(lineage).map_or(&[], Vec::as_slice)
    }
}

/// Names that verdicts named and that are still in the store.
pub(crate) fn leftovers(repository: &Repository, lists: &Lists) -> Result<Vec<String>> {
    let listed = list_all(&*repository.store, layout::LOGS)?;
    let dead = listed.into_iter().map(|l| l.key.to_string()).filter(|name| lists.dead_logs.contains(name));
    Ok(dead.collect())
}

/// The datasets that have logs.
pub(crate) fn datasets(repository: &Repository) -> Result<BTreeSet<DatasetName>> {
    let listed = list_all(&*repository.store, layout::LOGS)?;
    Ok(listed.iter().filter_map(|l| layout::log_name(&l.key)).map(|name| name.dataset).collect())
}

pub(crate) fn lineage_of(head: &Headed) -> LineageKey {
    (head.body.dataset.clone(), head.body.lineage.clone())
}

/// The positions that an object holds.
pub(crate) fn held_by(head: &Headed) -> Range<u64> {
    head.body.start..head.body.end
}
