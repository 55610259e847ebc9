//! Condemn lists and verdicts: which bulk objects may not be relied on.
//!
//! Lists and verdicts are numbered from 1 without gaps and kept for ever. A pack that a list names is
//! *condemned* until the verdict of that number exists; one that a verdict names is *dead* for ever, whether
//! or not its bytes still lie in the store.

use crate::bodies::BulkSet;
use crate::envelope::ObjectType;
use crate::error::{RepositoryError, Result};
use crate::ids::BulkName;
use crate::layout;
use crate::repository::Repository;
use crate::snapshots::{Unreadable, noting};
use crate::state::{Dead, Head};
use crate::trust::Need;
use lifeboat_objects::{Key, list_all};
use std::collections::HashSet;

/// Prune may conclude a list and open the next between our two listings; it cannot do so again and again
/// within the time of a listing.
const MAX_COUNTING_ATTEMPTS: u32 = 5;

/// What the lists and verdicts said when they were read.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    /// The newest list.
    pub(crate) newest_list: u64,
    /// The newest verdict: the same number, or one less.
    pub(crate) newest_verdict: u64,
    /// What the newest list names, while its verdict is not there yet.
    pub(crate) open: Option<BulkSet>,
    condemned: HashSet<BulkName>,
    dead: HashSet<BulkName>,
    pub(crate) dead_logs: HashSet<String>,
    /// What does not count, and takes the numbers of what would.
    unreadable: Vec<Unreadable>,
}

impl Lists {
    /// Whether a verdict names it.
    pub(crate) fn is_dead(&self, name: &BulkName) -> bool {
        self.dead.contains(name)
    }

    /// Whether a list without verdict names it.
    pub(crate) fn is_condemned(&self, name: &BulkName) -> bool {
        self.condemned.contains(name)
    }
}

impl Repository {
    /// Reads every list and verdict, but for the verdicts that this machine has read before. What no
    /// maintainer signed and stands beyond those that count does not count: anybody who can create objects
    /// can put it there.
    pub(crate) fn read_lists(&self) -> Result<Lists> {
        for _ in 0..MAX_COUNTING_ATTEMPTS {
            // Verdicts are listed first: a verdict that appears between the two listings then has its list
            // in the second one, and what it names counts as condemned, which is the careful side.
            let verdicts = self.numbers(layout::VERDICTS)?;
            let lists = self.numbers(layout::CONDEMNED)?;
            let mut known = self.take_verdicts(&verdicts)?;
            self.check_head(&mut known)?;
            if self.take_lists(&mut known, &lists)? {
                return Ok(known);
            }
        }
        Err(RepositoryError::damaged(layout::CONDEMNED, "there are more condemn lists than verdicts and one"))
    }

    /// As [`Repository::read_lists`], for prune: what cannot be read stands where the next one belongs, or
    /// may be a genuine one that was damaged.
    pub(crate) fn read_whole_lists(&self) -> Result<Lists> {
        let mut lists = self.read_lists()?;
        lists.unreadable.pop().map_or(Ok(lists), |unreadable| Err(unreadable.error))
    }

    /// Reads one list or verdict.
    pub(crate) fn read_set(&self, kind: ObjectType, number: u64) -> Result<BulkSet> {
        let key =
            if kind == ObjectType::Verdict { layout::verdict(number) } else { layout::condemned(number) };
        let opened = self.read::<BulkSet>(kind, &key, Need::Maintain)?;
        if opened.body.number != number {
            return Err(RepositoryError::damaged(&key, "it belongs to another place"));
        }
        if kind == ObjectType::Verdict {
            self.state.raise(&Head::Verdict, number, &opened.hash)?;
        }
        Ok(opened.body)
    }

    fn numbers(&self, prefix: &str) -> Result<Vec<u64>> {
        Ok(list_all(&*self.store, prefix)?.iter().filter_map(|l| layout::listed_number(&l.key)).collect())
    }

    fn take_verdicts(&self, numbers: &[u64]) -> Result<Lists> {
        let mut known = self.remembered(numbers)?;
        let remembered = known.newest_verdict;
        for number in numbers.iter().copied().filter(|number| *number > remembered) {
            let key = layout::verdict(number);
            let read = self.read_set(ObjectType::Verdict, number);
            let Some(verdict) = known.note(&key, read)? else { continue };
            known.comes_next(&key, number, known.newest_verdict)?;
            known.newest_verdict = number;
            known.dead.extend(verdict.packs.into_iter().chain(verdict.indexes));
            known.dead_logs.extend(verdict.logs);
        }
        if known.newest_verdict > remembered {
            let dead = Dead { number: known.newest_verdict, bulk: &known.dead, logs: &known.dead_logs };
            self.state.remember_dead(&dead)?;
        }
        Ok(known)
    }

    /// What verdicts named that this machine has read, as long as all of them are still there.
    fn remembered(&self, numbers: &[u64]) -> Result<Lists> {
        let Some((number, dead, dead_logs)) = self.state.dead()? else { return Ok(Lists::default()) };
        let there = (1..=number).all(|number| numbers.binary_search(&number).is_ok());
        let known = Lists { newest_verdict: number, dead, dead_logs, ..Lists::default() };
        Ok(if there { known } else { Lists::default() })
    }

    /// False where another list was opened since the verdicts were listed.
    fn take_lists(&self, known: &mut Lists, numbers: &[u64]) -> Result<bool> {
        let verdicts = known.newest_verdict;
        if let Some(missing) = (1..=verdicts).find(|number| numbers.binary_search(number).is_err()) {
            return Err(RepositoryError::damaged(layout::condemned(missing), "it is missing"));
        }
        known.newest_list = verdicts;
        for number in numbers.iter().copied().filter(|number| *number > verdicts) {
            let key = layout::condemned(number);
            let read = self.read_set(ObjectType::CondemnList, number);
            let Some(open) = known.note(&key, read)? else { continue };
            if known.open.is_some() {
                return Ok(false);
            }
            known.comes_next(&key, number, verdicts)?;
            known.newest_list = number;
            known.condemned.extend(open.packs.iter().chain(&open.indexes));
            known.open = Some(open);
        }
        Ok(true)
    }

    fn check_head(&self, known: &mut Lists) -> Result<()> {
        match self.state.head(&Head::Verdict)? {
            // The one that was seen may still be there, damaged: that says more.
            Some((seen, _)) if seen > known.newest_verdict => {
                let rolled_back = RepositoryError::RolledBack {
                    what: "the verdicts of prune".to_owned(),
                    seen,
                    shown: known.newest_verdict,
                };
                let key = layout::verdict(seen);
                let damaged = known.unreadable.iter().position(|u| u.object == key.as_str());
                Err(damaged.map_or(rolled_back, |at| known.unreadable.swap_remove(at).error))
            }
            _ => Ok(()),
        }
    }
}

impl Lists {
    /// Takes what does not count as something to say.
    fn note(&mut self, key: &Key, read: Result<BulkSet>) -> Result<Option<BulkSet>> {
        match read {
            Err(error) if error.is_not_found() => Err(error),
            read => noting(&mut self.unreadable, key, read),
        }
    }

    /// What counts follows on `before`; what fails below it was genuine, and is damaged.
    fn comes_next(&mut self, key: &Key, number: u64, before: u64) -> Result<()> {
        let prefix = key.as_str().trim_end_matches(key.last_component());
        if let Some(at) = self.unreadable.iter().position(|u| u.object.starts_with(prefix)) {
            return Err(self.unreadable.swap_remove(at).error);
        }
        if number == before + 1 {
            return Ok(());
        }
        Err(RepositoryError::damaged(key, format!("number {} is missing before it", before + 1)))
    }
}
