//! Which log objects may go: those that a compacted log replaces, and those that have expired.
//!
//! Prune asks twice: when it opens a list, and again before its verdict, when every lease that could hide a
//! snapshot has ended. What has expired stays nevertheless as long as a kept snapshot of its lineage needs
//! it, and the end of a lineage that a kept snapshot belongs to stays, so that its writer finds it.

use super::LOG_POSITION_FACT;
use super::Lineage;
use super::catalogue::LogCatalogue;
use super::object::Headed;
use crate::bodies::{BulkSet, Snapshot};
use crate::error::Result;
use crate::ids::{BodyHash, DatasetName};
use crate::layout;
use crate::lists::Lists;
use crate::repository::Repository;
use crate::snapshots::{Published, is_about_one_object};
use crate::survey::Proposal;
use lifeboat_objects::list_all;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Up to where a lineage's log has expired: objects that end at or before the position may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCutOff {
    /// The dataset.
    pub dataset: DatasetName,
    /// The lineage.
    pub lineage: Lineage,
    /// The first position that must stay.
    pub before: u64,
}

pub(crate) type LineageKey = (DatasetName, String);

/// The logs of a repository and what its snapshots need of them.
pub(crate) struct LogSurvey {
    repository: Arc<Repository>,
    heads: Vec<Arc<Headed>>,
    /// The first position that a kept snapshot needs, per lineage.
    needed: HashMap<LineageKey, u64>,
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
        Ok(Self { repository: repository.clone(), heads, needed: needed(snapshots), ends })
    }

    /// What a new list should name.
    pub(crate) fn propose(&self, cut_offs: &[LogCutOff], proposal: &mut Proposal) -> Result<()> {
        let superseded = self.superseded(None)?;
        let expired = |head: &Headed| {
            let asked =
                |c: &&LogCutOff| c.dataset == head.body.dataset && c.lineage.as_str() == head.body.lineage;
            let before = cut_offs.iter().filter(asked).map(|c| c.before).max();
            before.is_some_and(|before| head.body.end <= before) && self.is_unneeded(head)
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
        match self.needed.get(&lineage) {
            Some(needed) => head.body.end <= *needed && self.ends.get(&lineage) != Some(&head.body.end),
            None => true,
        }
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

/// The first position that snapshots need, per lineage. One that does not say it may need everything.
pub(crate) fn needed(snapshots: &[Published]) -> HashMap<LineageKey, u64> {
    let mut needed = HashMap::new();
    for snapshot in snapshots.iter().map(|published| &published.snapshot) {
        let Some(lineage) = &snapshot.lineage else { continue };
        let first = needed.entry((snapshot.position.dataset.clone(), lineage.clone())).or_insert(u64::MAX);
        *first = first_position(snapshot).unwrap_or(0).min(*first);
    }
    needed
}

/// The first position of its lineage that a snapshot says that it needs.
pub(crate) fn first_position(snapshot: &Snapshot) -> Option<u64> {
    let digits = snapshot.facts.get(LOG_POSITION_FACT)?;
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}
