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
use crate::state::Head;
use crate::trust::Need;
use lifeboat_objects::list_all;
use std::collections::HashSet;

/// Prune may conclude a list and open the next between our two listings; it cannot do so again and again
/// within the time of a listing.
const MAX_COUNTING_ATTEMPTS: u32 = 5;

/// What the lists and verdicts said when they were read.
#[derive(Clone, Debug, Default)]
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
    /// Reads every list and verdict.
    pub(crate) fn read_lists(&self) -> Result<Lists> {
        // Verdicts are listed first: a verdict that appears between the two listings then has its list in
        // the second one, and what it names counts as condemned, which is the careful side.
        let (verdicts, lists) = self.count_verdicts_and_lists()?;
        let mut known = Lists { newest_list: lists, newest_verdict: verdicts, ..Lists::default() };
        for number in 1..=verdicts {
            let verdict: BulkSet = self.read_set(ObjectType::Verdict, number)?;
            known.dead.extend(verdict.packs);
            known.dead.extend(verdict.indexes);
            known.dead_logs.extend(verdict.logs);
        }
        if lists > verdicts {
            let open = self.read_set(ObjectType::CondemnList, lists)?;
            known.condemned.extend(open.packs.iter().chain(&open.indexes));
            known.open = Some(open);
        }
        self.check_head(verdicts)?;
        Ok(known)
    }

    pub(crate) fn read_set(&self, kind: ObjectType, number: u64) -> Result<BulkSet> {
        let key =
            if kind == ObjectType::Verdict { layout::verdict(number) } else { layout::condemned(number) };
        let opened = self.read::<BulkSet>(kind, &key, Need::Maintain)?;
        if opened.body.number != number || opened.body.repository != self.id() {
            return Err(RepositoryError::damaged(&key, "it belongs to another place"));
        }
        if kind == ObjectType::Verdict {
            self.state.raise(&Head::Verdict, number, &opened.hash)?;
        }
        Ok(opened.body)
    }

    fn count_verdicts_and_lists(&self) -> Result<(u64, u64)> {
        let mut counted = (0, 0);
        for _ in 0..MAX_COUNTING_ATTEMPTS {
            let verdicts = self.count_without_gaps(layout::VERDICTS, "verdict")?;
            let lists = self.count_without_gaps(layout::CONDEMNED, "condemn list")?;
            if lists == verdicts || lists == verdicts + 1 {
                return Ok((verdicts, lists));
            }
            counted = (verdicts, lists);
        }
        let what = format!("there are {} condemn lists and {} verdicts", counted.1, counted.0);
        Err(RepositoryError::damaged(layout::CONDEMNED, what))
    }

    fn count_without_gaps(&self, prefix: &str, what: &str) -> Result<u64> {
        let mut expected = 1;
        for listed in list_all(&*self.store, prefix)? {
            if layout::listed_number(&listed.key) != Some(expected) {
                return Err(RepositoryError::damaged(
                    &listed.key,
                    format!("{what} {expected} is missing before it"),
                ));
            }
            expected += 1;
        }
        Ok(expected - 1)
    }

    fn check_head(&self, verdicts: u64) -> Result<()> {
        match self.state.head(&Head::Verdict)? {
            Some((seen, _)) if seen > verdicts => Err(RepositoryError::RolledBack {
                what: "the verdicts of prune".to_owned(),
                seen,
                shown: verdicts,
            }),
            _ => Ok(()),
        }
    }
}
