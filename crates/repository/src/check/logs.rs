//! Check of the logs: every object is there whole, nothing is missing between them, and what two of them hold
//! is the same.
//!
//! Heads are always read; payloads as far as that was asked for, a few at a time. Where everything is read each is
//! once; where some of it is, also those before it that it overlaps, for they must say the same. What is wrong
//! is named with the lineage and the positions that it costs. Positions before the first object are missing
//! only where a snapshot says that it needs them, and so are those that verdicts let expire. In a copy nobody
//! knows what the origin let expire: there nothing is missing between what one snapshot needs for itself and what
//! the next one does. That objects are gone from the end of a lineage cannot be known here.
//!
//! This module deliberately knows no payload: that two of them agree is all that it asks of one.

use super::{Check, Reading};
use crate::error::{RepositoryError, Result};
use crate::ids::{BodyHash, DatasetName};
use crate::layout;
use crate::log::object::{Headed, Loaded};
use crate::log::ranges::{merge, overlap, without};
use crate::log::retire::{self, Expired, LineageKey, Needs, held_by};
use crate::log::{Lineage, LogCatalogue, LogPayload, reason};
use crate::repository::Repository;
use crate::snapshots::{Published, is_about_one_object};
use lifeboat_objects::Key;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;

/// Prune may take objects while they are read; it cannot do so again and again within one check.
const MAX_DISTURBANCES: u32 = 5;

/// Positions of a log that nothing readable holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LostLog {
    /// The dataset.
    pub dataset: DatasetName,
    /// The lineage.
    pub lineage: Lineage,
    /// The first position that is lost.
    pub from: u64,
    /// The first position behind it that is not.
    pub to: u64,
}

/// Checks the logs of every dataset, and says so in the report. `snapshots` are those that are not forgotten.
pub(super) fn check(check: &mut Check<'_>, snapshots: &[Published]) -> Result<()> {
    let (needs, mut expired) =
        (Needs::of(snapshots.iter().filter(retire::says_what_it_needs)), Expired::default());
    for dataset in retire::datasets(check.repository)? {
        let mut found = Examination::of(check, &dataset, &needs, &mut expired)?;
        for _ in 0..MAX_DISTURBANCES {
            if !found.disturbed {
                break;
            }
            found = Examination::of(check, &dataset, &needs, &mut expired)?;
        }
        found.problems.into_iter().for_each(|(object, what)| check.problem(object, what));
        check.report.lost_logs.extend(found.lost);
        check.report.logs += found.objects;
        check.report.read_bytes += found.read_bytes;
    }
    check.report.lost_logs.sort();
    Ok(())
}

/// What was found of one dataset's logs.
#[derive(Default)]
struct Found {
    problems: Vec<(String, String)>,
    lost: Vec<LostLog>,
    objects: u64,
    read_bytes: u64,
    /// Whether prune took objects meanwhile, so that all of this must be looked at again.
    disturbed: bool,
}

struct Examination<'c> {
    catalogue: &'c LogCatalogue,
    needs: &'c Needs,
    expired: &'c mut Expired,
    reading: &'c Reading,
    threads: usize,
    found: Found,
}

impl Examination<'_> {
    fn of(check: &Check<'_>, dataset: &DatasetName, needs: &Needs, expired: &mut Expired) -> Result<Found> {
        let catalogue = LogCatalogue::read(check.repository, dataset)?;
        let (reading, threads) = (&check.options.read, check.options.threads.max(1));
        let found = Found::default();
        let mut this = Examination { catalogue: &catalogue, needs, expired, reading, threads, found };
        let unreadable = catalogue.unreadable();
        this.found.objects = catalogue.heads().count() as u64 + unreadable.len() as u64;
        let mut damaged: HashMap<Lineage, Vec<Damage>> = HashMap::new();
        for one in unreadable {
            if let Some((lineage, damage)) = Damage::named(&one.object, reason(&one.error)) {
                damaged.entry(lineage).or_default().push(damage);
            }
        }
        let with_heads = catalogue.heads().filter_map(|head| Lineage::new(&head.body.lineage).ok());
        let lineages: BTreeSet<Lineage> = with_heads.chain(damaged.keys().cloned()).collect();
        for lineage in lineages {
            let damaged = damaged.remove(&lineage).unwrap_or_default();
            this.lineage(&lineage, damaged)?;
        }
        Ok(this.found)
    }

    fn problem(&mut self, object: impl Display, what: impl Display) {
        self.found.problems.push((object.to_string(), what.to_string()));
    }

    /// `unread` are the objects whose heads cannot be believed: their names alone say what they may hold.
    fn lineage(&mut self, lineage: &Lineage, unread: Vec<Damage>) -> Result<()> {
        let heads = self.catalogue.of(lineage);
        let mut claimed: Vec<Range<u64>> = unread.iter().map(|damage| damage.range.clone()).collect();
        merge(&mut claimed);
        let mut damaged = unread;
        if *self.reading != Reading::Everything {
            self.forks(lineage);
        }
        self.read(&heads, &mut damaged)?;
        self.links(&heads, &mut damaged)?;
        let bad: HashSet<&str> = damaged.iter().map(|damage| damage.object.as_str()).collect();
        let mut good: Vec<Range<u64>> = heads
            .iter()
            .filter(|head| !bad.contains(head.key.as_str()))
            .map(|head| head.body.start..head.body.end)
            .collect();
        merge(&mut good);
        self.costs(lineage, &damaged, &good);
        self.holes(lineage, &heads, &claimed)
    }

    /// Names each damaged object with what it costs.
    fn costs(&mut self, lineage: &Lineage, damaged: &[Damage], good: &[Range<u64>]) {
        let mut lost = Vec::new();
        for Damage { object, what, range } in damaged {
            let costs = without(range.clone(), good);
            let cost = match costs.is_empty() {
                true => "other objects hold its positions".to_owned(),
                false => format!("this costs positions {} of lineage {lineage}", in_words(&costs)),
            };
            self.problem(object, format!("{what}; {cost}"));
            lost.extend(costs);
        }
        merge(&mut lost);
        self.lose(lineage, lost);
    }

    /// Names the positions that no object holds, but for those that a damaged one may have held and those that
    /// expired.
    fn holes(&mut self, lineage: &Lineage, heads: &[Arc<Headed>], claimed: &[Range<u64>]) -> Result<()> {
        let mut held: Vec<Range<u64>> = heads.iter().map(|head| held_by(head)).collect();
        merge(&mut held);
        let Some(first) = held.first().map(|first| first.start) else { return Ok(()) };
        let needs = self.needs.in_lineage(&self.key(lineage));
        let needed = |need: &Range<u64>| without(need.start..need.end.min(first), claimed);
        self.miss(lineage, needs.iter().flat_map(needed).collect(), ", and a snapshot needs them");
        for pair in held.windows(2) {
            let hole = pair[0].end..pair[1].start;
            let mut missing = without(hole.clone(), claimed);
            if !missing.is_empty() {
                let gone = self.let_go(lineage, heads, hole)?;
                missing = missing.into_iter().flat_map(|range| without(range, &gone)).collect();
            }
            self.miss(lineage, missing, "");
        }
        Ok(())
    }

    /// What of a hole is no loss. What a snapshot needs for itself never is.
    fn let_go(
        &mut self,
        lineage: &Lineage,
        heads: &[Arc<Headed>],
        hole: Range<u64>,
    ) -> Result<Vec<Range<u64>>> {
        let (repository, key) = (self.catalogue.repository(), self.key(lineage));
        self.expired.refresh(repository)?;
        let needs = self.needs.in_lineage(&key);
        let is_copy = repository.config.copy_of.is_some();
        let expired = match is_copy && is_between_snapshots(&hole, heads, needs) {
            true => std::slice::from_ref(&hole),
            false => self.expired.in_lineage(&key),
        };
        Ok(expired.iter().flat_map(|range| without(range.clone(), needs)).collect())
    }

    fn key(&self, lineage: &Lineage) -> LineageKey {
        (self.catalogue.dataset().clone(), lineage.as_str().to_owned())
    }

    fn miss(&mut self, lineage: &Lineage, missing: Vec<Range<u64>>, why: &str) {
        if !missing.is_empty() {
            let prefix = format!("{}{lineage}", layout::logs(self.catalogue.dataset()));
            self.problem(prefix, format!("no object holds positions {}{why}", in_words(&missing)));
            self.lose(lineage, missing);
        }
    }

    fn lose(&mut self, lineage: &Lineage, ranges: Vec<Range<u64>>) {
        let dataset = self.catalogue.dataset();
        let lost = |range: Range<u64>| LostLog {
            dataset: dataset.clone(),
            lineage: lineage.clone(),
            from: range.start,
            to: range.end,
        };
        self.found.lost.extend(ranges.into_iter().map(lost));
    }

    /// What heads alone show: objects of the same extent that bind different content.
    fn forks(&mut self, lineage: &Lineage) {
        for log in self.catalogue.lineages().into_iter().filter(|log| log.lineage == *lineage) {
            for fork in log.forks {
                let names: Vec<&str> = fork.branches.iter().map(|(_, object)| object.as_str()).collect();
                let (first, others) =
                    names.split_first().map_or(("", &names[..]), |(first, rest)| (*first, rest));
                let others = others.join(", ");
                let what = format!(
                    "the lineage has forked: it does not hold the same positions {} to {} as {others}",
                    fork.start, fork.end
                );
                self.problem(first, what);
            }
        }
    }

    /// Reads the objects that are to be read, and compares each with the one before it that reaches farthest. That
    /// compares whatever overlaps: where all before agreed, that one speaks for the others.
    fn read(&mut self, heads: &[Arc<Headed>], damaged: &mut Vec<Damage>) -> Result<()> {
        let taken = heads.iter().enumerate().filter(|(_, head)| self.reading.takes_log(&head.key));
        let wanted: Vec<(usize, Arc<Headed>)> = taken.map(|(at, head)| (at, head.clone())).collect();
        let reach = reach(heads);
        let mut kept = None;
        for batch in wanted.chunks(self.threads) {
            let loaded = load(self.catalogue.repository(), batch.iter().map(|(_, head)| head));
            for ((at, head), loaded) in batch.iter().zip(loaded) {
                self.found.read_bytes += head.size_bytes;
                let Some(loaded) = self.judge(head, loaded, damaged)? else { continue };
                let before = overlapping(&heads[..*at], &reach, head);
                self.compare(head, &loaded.payload, before, damaged, &mut kept)?;
                if kept.as_ref().is_none_or(|kept: &Kept| kept.0.body.end < head.body.end) {
                    kept = Some((head.clone(), loaded.payload));
                }
            }
        }
        Ok(())
    }

    /// Compares an object with the one before it that reaches farthest, which as a rule has just been read.
    fn compare(
        &mut self,
        head: &Headed,
        payload: &LogPayload,
        mut before: Vec<&Arc<Headed>>,
        damaged: &[Damage],
        kept: &mut Option<Kept>,
    ) -> Result<()> {
        before.retain(|other| damaged.iter().all(|damage| damage.object != other.key.as_str()));
        before.sort_by_key(|other| Reverse(other.body.end));
        for other in before {
            if kept.as_ref().is_none_or(|kept| kept.0.key != other.key) {
                match self.catalogue.repository().load_log(other) {
                    Ok(loaded) => *kept = Some((other.clone(), loaded.payload)),
                    // Whoever has it in his share says so.
                    Err(error) if is_about_one_object(&error) || error.is_not_found() => continue,
                    Err(error) => return Err(error),
                }
                self.found.read_bytes += other.size_bytes;
            }
            let Some((other, its)) = kept.as_ref() else { continue };
            if let Some(position) = first_difference((other, its), (head, payload)) {
                let what = format!(
                    "the lineage has forked: from position {position} on it differs from {}",
                    other.key
                );
                self.problem(&head.key, what);
            }
            break;
        }
        Ok(())
    }

    fn judge(
        &mut self,
        head: &Headed,
        loaded: Result<Loaded>,
        damaged: &mut Vec<Damage>,
    ) -> Result<Option<Loaded>> {
        match loaded {
            Ok(loaded) => return Ok(Some(loaded)),
            Err(error) if error.is_not_found() && self.is_dead(&head.key)? => self.found.disturbed = true,
            Err(error) if is_about_one_object(&error) => damaged.push(Damage::of(head, &error)),
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    fn is_dead(&self, key: &Key) -> Result<bool> {
        Ok(self.catalogue.repository().read_lists()?.dead_logs.contains(key.as_str()))
    }

    /// An object that starts where others end must name one of them, or one that a compacted log stands for;
    /// not where another object holds the positions on both sides, for then their content has been compared.
    fn links(&mut self, heads: &[Arc<Headed>], damaged: &mut Vec<Damage>) -> Result<()> {
        let mut enders: HashMap<u64, HashSet<BodyHash>> = HashMap::new();
        for head in heads {
            enders.entry(head.body.end).or_default().insert(head.hash);
            if !head.is_compacted() || damaged.iter().any(|damage| damage.object == head.key.as_str()) {
                continue;
            }
            match self.catalogue.repository().read_log_table(head) {
                Ok(table) => table.replaced.iter().for_each(|replaced| {
                    enders.entry(replaced.end).or_default().insert(replaced.body);
                }),
                Err(error) if error.is_not_found() && self.is_dead(&head.key)? => self.found.disturbed = true,
                Err(error) if is_about_one_object(&error) => damaged.push(Damage::of(head, &error)),
                Err(error) => return Err(error),
            }
        }
        let mut bridged = Bridged::default();
        for head in heads {
            let start = head.body.start;
            let before = enders.get(&start).filter(|_| !bridged.is(start));
            if let (Some(before), Some(predecessor)) = (before, &head.body.predecessor)
                && !before.contains(predecessor)
            {
                let what =
                    "the lineage has forked: it continues another object than those that end at position";
                self.problem(&head.key, format!("{what} {start}"));
            }
            bridged.add(head);
        }
        Ok(())
    }
}

/// Which positions lie within an object, and not only at the seam of two. Asked in ascending order.
#[derive(Default)]
struct Bridged {
    /// The farthest end of what starts before `start`, and of what starts there.
    before: u64,
    at: u64,
    start: u64,
}

impl Bridged {
    fn is(&mut self, position: u64) -> bool {
        if position > self.start {
            self.before = self.before.max(self.at);
            self.start = position;
        }
        self.before > position
    }

    fn add(&mut self, head: &Headed) {
        self.is(head.body.start);
        self.at = self.at.max(head.body.end);
    }
}

/// Whether what lies on both sides of a hole is what snapshots need for themselves.
fn is_between_snapshots(hole: &Range<u64>, heads: &[Arc<Headed>], needs: &[Range<u64>]) -> bool {
    let is_needed = |head: &Arc<Headed>| needs.iter().any(|need| overlap(need, &held_by(head)));
    let mut below = heads.iter().filter(|head| head.body.end == hole.start);
    let mut above = heads.iter().filter(|head| head.body.start == hole.end);
    below.any(is_needed) && above.any(is_needed)
}

/// An object that cannot be read, and the positions that it held or says that it holds.
struct Damage {
    object: String,
    what: String,
    range: Range<u64>,
}

impl Damage {
    fn of(head: &Headed, error: &RepositoryError) -> Self {
        let range = head.body.start..head.body.end;
        Self { object: head.key.to_string(), what: reason(error), range }
    }

    /// What is known of an object from its name alone.
    fn named(object: &str, what: String) -> Option<(Lineage, Self)> {
        let name = layout::log_name(&Key::new(object).ok()?)?;
        let lineage = Lineage::new(&name.lineage).ok()?;
        Some((lineage, Self { object: object.to_owned(), what, range: name.start..name.end }))
    }
}

/// How far the objects reach that come before each one, and before the end.
fn reach(heads: &[Arc<Headed>]) -> Vec<u64> {
    let ends = heads.iter().scan(0, |farthest, head| {
        *farthest = head.body.end.max(*farthest);
        Some(*farthest)
    });
    std::iter::once(0).chain(ends).collect()
}

/// Those before an object that hold some of its positions, in their order.
fn overlapping<'h>(before: &'h [Arc<Headed>], reach: &[u64], head: &Headed) -> Vec<&'h Arc<Headed>> {
    let start = head.body.start;
    let first = reach[..=before.len()].partition_point(|reach| *reach <= start).saturating_sub(1);
    before.iter().skip(first).filter(|other| other.body.end > start).collect()
}

/// An object that was read, and is kept for those that overlap it.
type Kept = (Arc<Headed>, LogPayload);

/// Loads a few objects at once.
fn load<'h>(repository: &Repository, heads: impl Iterator<Item = &'h Arc<Headed>>) -> Vec<Result<Loaded>> {
    std::thread::scope(|scope| {
        let loading: Vec<_> = heads.map(|head| scope.spawn(move || repository.load_log(head))).collect();
        let aborted = |_| Err(RepositoryError::Aborted);
        loading.into_iter().map(|thread| thread.join().unwrap_or_else(aborted)).collect()
    })
}

/// The first position that both hold and on which they do not agree.
fn first_difference(one: (&Headed, &LogPayload), other: (&Headed, &LogPayload)) -> Option<u64> {
    let from = one.0.body.start.max(other.0.body.start);
    let to = one.0.body.end.min(other.0.body.end);
    if from >= to {
        return None;
    }
    let cut =
        |(head, payload): (&Headed, &LogPayload)| payload.cut(from - head.body.start, to - head.body.start);
    cut(one).differs_at(&cut(other)).map(|offset| from + offset)
}

fn in_words(ranges: &[Range<u64>]) -> String {
    let words: Vec<String> = ranges.iter().map(|range| format!("{} to {}", range.start, range.end)).collect();
    words.join(", ")
}
