//! Which logs there are: from listings and heads, never from payloads.

use super::Lineage;
use super::object::Headed;
use crate::error::{RepositoryError, Result};
use crate::ids::{DatasetName, WriterId};
use crate::layout::{self, LogName};
use crate::repository::Repository;
use crate::snapshots::{Unreadable, is_about_one_object};
use lifeboat_base::clock::Timestamp;
use lifeboat_objects::{Key, Listed, list_all};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A verdict that appears while we list makes us list again; it cannot do so again and again.
const MAX_LISTING_ATTEMPTS: u32 = 5;

/// A run of positions, and when they arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogExtent {
    /// The first position.
    pub start: u64,
    /// The first position behind it.
    pub end: u64,
    /// When its first position arrived.
    pub first: Timestamp,
    /// When its last position arrived.
    pub last: Timestamp,
}

/// Two objects that hold the same positions with different content, as their heads alone show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFork {
    /// The first position of both.
    pub start: u64,
    /// The first position behind both.
    pub end: u64,
    /// The writers, and the objects that they wrote.
    pub branches: Vec<(WriterId, String)>,
}

/// What is there of one lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineageLog {
    /// The lineage.
    pub lineage: Lineage,
    /// The stretches without a hole, ascending.
    pub stretches: Vec<LogExtent>,
    /// What lies between them: start and end of each hole.
    pub holes: Vec<(u64, u64)>,
    /// Where it has certainly forked. Objects that were cut differently are compared when they are read.
    pub forks: Vec<LogFork>,
    /// How many objects it takes, and their bytes.
    pub objects: u64,
    /// Bytes of all objects.
    pub size_bytes: u64,
}

/// What is there of a dataset's logs, per lineage. Also gives what could not be read: it counts as a hole
/// unless another object covers it.
///
/// # Errors
/// Where the store cannot be listed.
pub fn stretches(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    unreadable: &mut Vec<Unreadable>,
) -> Result<Vec<LineageLog>> {
    let catalogue = LogCatalogue::read(repository, dataset)?;
    unreadable.extend(catalogue.unreadable());
    Ok(catalogue.lineages())
}

/// What the name of a log object says that it holds. Nobody has looked whether it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSpan {
    /// The lineage.
    pub lineage: String,
    /// The first position.
    pub start: u64,
    /// The first position behind it.
    pub end: u64,
}

/// The heads of a dataset's log objects. Whoever watches keeps one and refreshes it: heads never change, so
/// that only new ones are read.
#[derive(Clone, Debug)]
pub struct LogCatalogue {
    repository: Arc<Repository>,
    dataset: DatasetName,
    heads: BTreeMap<Key, Arc<Headed>>,
    unreadable: BTreeMap<Key, String>,
}

impl LogCatalogue {
    /// Lists a dataset's log objects and reads their heads.
    ///
    /// # Errors
    /// Where the store cannot be listed. An object that cannot be read does not hide the others.
    pub fn read(repository: &Arc<Repository>, dataset: &DatasetName) -> Result<Self> {
        Ok(Self::read_part(repository, dataset, &|_| true)?.0)
    }

    /// Lists a dataset's log objects and reads the heads of those alone whose names are wanted. Also gives what all of
    /// the names say. For who knows what he asks about: a part says nothing of the rest.
    ///
    /// # Errors
    /// As [`LogCatalogue::read`].
    pub fn read_part(
        repository: &Arc<Repository>,
        dataset: &DatasetName,
        wanted: &dyn Fn(&LogSpan) -> bool,
    ) -> Result<(Self, Vec<LogSpan>)> {
        let mut catalogue = Self {
            repository: repository.clone(),
            dataset: dataset.clone(),
            heads: BTreeMap::new(),
            unreadable: BTreeMap::new(),
        };
        let names = catalogue.refresh_part(wanted)?;
        Ok((catalogue, names))
    }

    /// Lists again and reads the heads that are new.
    ///
    /// # Errors
    /// As [`LogCatalogue::read`].
    pub fn refresh(&mut self) -> Result<()> {
        self.refresh_part(&|_| true).map(drop)
    }

    fn refresh_part(&mut self, wanted: &dyn Fn(&LogSpan) -> bool) -> Result<Vec<LogSpan>> {
        let mut spans = Vec::new();
        for _ in 0..MAX_LISTING_ATTEMPTS {
            let lists = self.repository.read_lists()?;
            let mut listed = list_all(&*self.repository.store, &layout::logs(&self.dataset))?;
            spans.clear();
            // Names of other forms are none of ours.
            listed.retain(|one| {
                let name = layout::log_name(&one.key);
                let Some(LogName { lineage, start, end, .. }) =
                    name.filter(|_| !lists.dead_logs.contains(one.key.as_str()))
                else {
                    return false;
                };
                let span = LogSpan { lineage, start, end };
                let is_wanted = wanted(&span);
                spans.push(span);
                is_wanted
            });
            self.adopt(&listed)?;
            // Without a new verdict nothing went while we listed, and what was listed is all that there is.
            let verdicts = list_all(&*self.repository.store, layout::VERDICTS)?.len() as u64;
            if verdicts == lists.newest_verdict {
                break;
            }
        }
        Ok(spans)
    }

    fn adopt(&mut self, listed: &[Listed]) -> Result<()> {
        let mut known = std::mem::take(&mut self.heads);
        self.unreadable.clear();
        let mut unknown = Vec::new();
        for listed in listed {
            match known.remove(&listed.key) {
                Some(head) => drop(self.heads.insert(listed.key.clone(), head)),
                None => unknown.push(listed),
            }
        }
        for (key, read) in read_heads(&self.repository, &unknown) {
            match read {
                Ok(head) => drop(self.heads.insert(key, Arc::new(head))),
                // It went since it was listed.
                Err(error) if error.is_not_found() => {}
                Err(error) if is_about_one_object(&error) => {
                    self.unreadable.insert(key, reason(&error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What is there, per lineage.
    pub fn lineages(&self) -> Vec<LineageLog> {
        let mut by_lineage: BTreeMap<&str, Vec<Arc<Headed>>> = BTreeMap::new();
        for head in self.heads.values() {
            by_lineage.entry(&head.body.lineage).or_default().push(head.clone());
        }
        by_lineage
            .into_iter()
            .filter_map(|(lineage, heads)| Some(summary(Lineage::new(lineage).ok()?, heads)))
            .collect()
    }

    /// The objects that could not be read, with the reason.
    pub fn unreadable(&self) -> Vec<Unreadable> {
        self.unreadable
            .iter()
            .map(|(key, what)| Unreadable {
                object: key.to_string(),
                error: RepositoryError::damaged(key, what),
            })
            .collect()
    }

    pub(crate) fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    pub(crate) fn dataset(&self) -> &DatasetName {
        &self.dataset
    }

    /// The heads of one lineage, by start.
    pub(crate) fn of(&self, lineage: &Lineage) -> Vec<Arc<Headed>> {
        let mut heads: Vec<Arc<Headed>> =
            self.heads.values().filter(|head| head.body.lineage == lineage.as_str()).cloned().collect();
        sort(&mut heads);
        heads
    }

    pub(crate) fn heads(&self) -> impl Iterator<Item = &Arc<Headed>> {
        self.heads.values()
    }

    /// The object at a position that could not be read, if its name says that there is one.
    pub(crate) fn unreadable_at(&self, lineage: &Lineage, position: u64) -> Option<RepositoryError> {
        let covers =
            |name: LogName| name.lineage == lineage.as_str() && name.start <= position && position < name.end;
        let mut all = self.unreadable.iter();
        let (key, what) = all.find(|(key, _)| layout::log_name(key).is_some_and(covers))?;
        Some(RepositoryError::damaged(key, what))
    }
}

/// Why an object cannot be read, where it is named beside this.
pub(crate) fn reason(error: &RepositoryError) -> String {
    match error {
        RepositoryError::Damaged { what, .. } => what.clone(),
        other => lifeboat_base::report(other),
    }
}

/// Reads heads with as many requests at once as pay off.
fn read_heads(repository: &Repository, listed: &[&Listed]) -> Vec<(Key, Result<Headed>)> {
    let (next, read) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(listed.len())));
    let work = || {
        while let Some(one) = listed.get(next.fetch_add(1, Ordering::Relaxed)) {
            let head = repository.read_log_head(one);
            read.lock().unwrap_or_else(PoisonError::into_inner).push((one.key.clone(), head));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..repository.store.parallelism().min(listed.len()) {
            scope.spawn(work);
        }
        work();
    });
    read.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// By start, the longest first.
pub(crate) fn sort(heads: &mut [Arc<Headed>]) {
    heads.sort_by(|a, b| {
        let order = a.body.start.cmp(&b.body.start).then(b.body.end.cmp(&a.body.end));
        order.then_with(|| a.key.cmp(&b.key))
    });
}

fn summary(lineage: Lineage, mut heads: Vec<Arc<Headed>>) -> LineageLog {
    sort(&mut heads);
    let mut stretches: Vec<LogExtent> = Vec::new();
    for head in &heads {
        let body = &head.body;
        match stretches.last_mut().filter(|stretch| body.start <= stretch.end) {
            Some(stretch) => {
                stretch.end = stretch.end.max(body.end);
                stretch.first = stretch.first.min(body.first);
                stretch.last = stretch.last.max(body.last);
            }
            None => stretches.push(LogExtent {
                start: body.start,
                end: body.end,
                first: body.first,
                last: body.last,
            }),
        }
    }
    let holes = stretches.windows(2).map(|pair| (pair[0].end, pair[1].start)).collect();
    let size_bytes = heads.iter().map(|head| head.size_bytes).sum();
    LineageLog { lineage, stretches, holes, forks: forks(&heads), objects: heads.len() as u64, size_bytes }
}

fn forks(heads: &[Arc<Headed>]) -> Vec<LogFork> {
    let mut by_extent: HashMap<(u64, u64), Vec<&Arc<Headed>>> = HashMap::new();
    for head in heads {
        by_extent.entry((head.body.start, head.body.end)).or_default().push(head);
    }
    let mut forks: Vec<LogFork> = by_extent
        .into_iter()
        .filter(|(_, same)| same.iter().any(|head| !same_payload(head, same[0])))
        .map(|((start, end), same)| LogFork {
            start,
            end,
            branches: same.iter().map(|head| (head.writer, head.key.to_string())).collect(),
        })
        .collect();
    forks.sort_by_key(|fork| (fork.start, fork.end));
    forks
}

/// Whether two heads of the same extent bind the same content.
pub(crate) fn same_payload(one: &Headed, other: &Headed) -> bool {
    (one.body.units, one.body.payload) == (other.body.units, other.body.payload)
}
