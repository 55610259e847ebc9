//! Reading a log across objects, in order, believing nothing that is not signed, linked and agreed on.

use super::catalogue::{LogCatalogue, same_payload};
use super::object::{Headed, Loaded};
use super::{Lineage, LogError, LogMark, LogPayload};
use crate::error::RepositoryError;
use crate::ids::{BodyHash, DatasetName, WriterId};
use crate::repository::Repository;
use crate::snapshots::{Unreadable, is_about_one_object};
use lifeboat_objects::Key;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Prune may take an object between listing and reading it, never again and again at one position: what
/// replaces it is there before it goes.
const MAX_RELISTINGS: u32 = 5;

/// A stretch of log that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPiece {
    /// Its first position.
    pub start: u64,
    /// The first position behind it.
    pub end: u64,
    /// What the payload is.
    pub kind: String,
    /// The payload of exactly these positions.
    pub payload: LogPayload,
    /// When which of these positions had arrived; the last mark may lie behind the end.
    pub marks: Vec<LogMark>,
    /// Who wrote the object that it was taken from.
    pub writer: WriterId,
}

/// Reads positions `from` to `to` of one lineage, object by object. An iterator that ends after the last
/// position or after its first error; memory holds two objects at most.
#[derive(Debug)]
pub struct LogReader {
    catalogue: LogCatalogue,
    lineage: Lineage,
    to: u64,
    branch: Option<WriterId>,
    position: u64,
    ended: bool,
    /// Objects that start behind the position, the next one last.
    ahead: Vec<Arc<Headed>>,
    /// Objects that cover the position.
    active: Vec<Arc<Headed>>,
    /// The bodies that the object that starts at the position may name as its predecessor; `None` at the
    /// start of reading.
    follows: Option<HashSet<BodyHash>>,
    damaged: BTreeMap<Key, RepositoryError>,
    damaged_heads: Vec<Headed>,
    /// Objects that the branch that was asked for contradicts.
    rejected: HashSet<Key>,
    relistings: u32,
    relisted_at: Option<u64>,
}

impl LogReader {
    /// Reads positions `range` of a lineage.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub fn open(
        repository: &Arc<Repository>,
        dataset: &DatasetName,
        lineage: &Lineage,
        range: Range<u64>,
    ) -> Result<Self, LogError> {
        Ok(Self::over(LogCatalogue::read(repository, dataset)?, lineage, range))
    }

    /// As [`LogReader::open`], from a catalogue at hand.
    pub fn over(catalogue: LogCatalogue, lineage: &Lineage, range: Range<u64>) -> Self {
        let mut reader = Self {
            catalogue,
            lineage: lineage.clone(),
            to: range.end,
            branch: None,
            position: range.start,
            ended: false,
            ahead: Vec::new(),
            active: Vec::new(),
            follows: None,
            damaged: BTreeMap::new(),
            damaged_heads: Vec::new(),
            rejected: HashSet::new(),
            relistings: 0,
            relisted_at: None,
        };
        reader.arrange();
        reader
    }

    /// Believes this writer where objects differ or do not follow each other: only for a person who has found
    /// out which branch the store itself continued.
    #[must_use]
    pub fn on_branch(mut self, writer: WriterId) -> Self {
        self.branch = Some(writer);
        self
    }

    /// The next position to be read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Objects that were damaged, and for which another one stood in so far.
    pub fn unreadable(&self) -> Vec<Unreadable> {
        let mut unreadable = self.catalogue.unreadable();
        unreadable.extend(self.damaged.iter().map(|(key, error)| Unreadable {
            object: key.to_string(),
            error: RepositoryError::damaged(key, lifeboat_base::report(error)),
        }));
        unreadable
    }

    /// Whether it had to list again because objects went: then it may have met objects that came meanwhile.
    pub(crate) fn was_disturbed(&self) -> bool {
        self.relistings > 0
    }

    pub(crate) fn damaged(&self) -> &BTreeMap<Key, RepositoryError> {
        &self.damaged
    }

    fn arrange(&mut self) {
        self.active.clear();
        self.ahead = self.catalogue.of(&self.lineage);
        self.ahead.retain(|head| !self.damaged.contains_key(&head.key) && !self.rejected.contains(&head.key));
        self.ahead.reverse();
    }

    /// Moves what covers the position from `ahead` to `active`.
    fn advance(&mut self) {
        let position = self.position;
        while let Some(head) = self.ahead.pop_if(|head| head.body.start <= position) {
            self.active.push(head);
        }
        self.active.retain(|head| head.covers(position));
    }

    fn relist(&mut self) -> Result<(), LogError> {
        self.catalogue.refresh()?;
        self.arrange();
        Ok(())
    }

    fn read_next(&mut self) -> Result<LogPiece, LogError> {
        loop {
            self.advance();
            let Some(head) = self.choose() else {
                self.hole()?;
                continue;
            };
            self.check_link(&head)?;
            let Some(loaded) = self.load(&head)? else { continue };
            let end = self.end_of(&head);
            let Some(follows) = self.compare(&head, &loaded, end)? else { continue };
            let piece = self.piece(&head, &loaded, end);
            (self.position, self.follows) = (end, Some(follows));
            return Ok(piece);
        }
    }

    /// Of what covers the position: the branch that was asked for, then whatever reaches farthest.
    fn choose(&self) -> Option<Arc<Headed>> {
        let rank = |head: &&Arc<Headed>| (self.branch == Some(head.writer), head.body.end);
        self.active.iter().max_by_key(rank).cloned()
    }

    /// Nothing covers the position: says why, unless it was only deleted while we looked.
    fn hole(&mut self) -> Result<(), LogError> {
        if self.relisted_at != Some(self.position) {
            self.relisted_at = Some(self.position);
            return self.relist();
        }
        if let Some(error) = self.catalogue.unreadable_at(&self.lineage, self.position) {
            return Err(error.into());
        }
        let position = self.position;
        let heads = self.catalogue.of(&self.lineage);
        let lost = heads.iter().find(|head| head.covers(position) && self.damaged.contains_key(&head.key));
        if let Some(error) = lost.and_then(|head| self.damaged.remove(&head.key)) {
            return Err(error.into());
        }
        let next = self.ahead.last().map_or(self.to, |head| head.body.start);
        let (dataset, lineage) = (self.catalogue.dataset().clone(), self.lineage.clone());
        Err(LogError::Hole { dataset, lineage, from: position, to: next.min(self.to) })
    }

    /// An object that starts where another ended must name one that ended there with the same content. Where
    /// objects overlap, their content has been compared, which says more.
    fn check_link(&self, head: &Headed) -> Result<(), LogError> {
        let (Some(follows), Some(predecessor)) = (&self.follows, &head.body.predecessor) else {
            return Ok(());
        };
        let linked = head.body.start != self.position
            || follows.contains(predecessor)
            || self.branch == Some(head.writer);
        if linked {
            return Ok(());
        }
        Err(LogError::Unlinked { object: head.key.to_string(), position: self.position })
    }

    /// `None` where the object went or is damaged: then others are looked at.
    fn load(&mut self, head: &Headed) -> Result<Option<Loaded>, LogError> {
        match self.catalogue.repository().load_log(head) {
            Ok(loaded) => Ok(Some(loaded)),
            Err(error) if error.is_not_found() && self.relistings < MAX_RELISTINGS => {
                self.relistings += 1;
                self.relist()?;
                Ok(None)
            }
            Err(error) if is_about_one_object(&error) => {
                self.damaged.insert(head.key.clone(), error);
                self.damaged_heads.push(head.clone());
                self.set_aside(&head.key);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn set_aside(&mut self, key: &Key) {
        self.active.retain(|other| other.key != *key);
        self.ahead.retain(|other| other.key != *key);
    }

    /// How far an object is read: another one may only be asked for its branch where that has none itself.
    fn end_of(&self, head: &Headed) -> u64 {
        let end = head.body.end.min(self.to);
        if self.branch.is_none_or(|branch| branch == head.writer) {
            return end;
        }
        let of_branch = self.ahead.iter().rev().find(|other| self.branch == Some(other.writer));
        of_branch.map_or(end, |other| end.min(other.body.start))
    }

    /// Compares everything else that covers positions up to `end`, and gives what an object that starts at
    /// `end` may name as its predecessor. `None` where what was listed has changed.
    fn compare(
        &mut self,
        head: &Arc<Headed>,
        loaded: &Loaded,
        end: u64,
    ) -> Result<Option<HashSet<BodyHash>>, LogError> {
        let mut follows = HashSet::new();
        let compared = head.stands_for_others_in(self.catalogue.repository());
        let table = loaded.table.iter().filter(|_| compared);
        let replaced: HashSet<BodyHash> = table.flat_map(|table| &table.replaced).map(|r| r.body).collect();
        add_links(&mut follows, head, loaded, end);
        // One that is damaged held the same: its head says so.
        let same = self.damaged_heads.iter().filter(|h| h.body.end == end && is_same(h, head));
        follows.extend(same.map(|h| h.hash));
        let overlapping =
            self.active.iter().chain(self.ahead.iter().rev().take_while(|h| h.body.start < end));
        let others: Vec<Arc<Headed>> = overlapping
            .filter(|other| other.key != head.key && !replaced.contains(&other.hash))
            .cloned()
            .collect();
        for other in others {
            if !other.is_compacted() && is_same(&other, head) {
                if other.body.end == end {
                    follows.insert(other.hash);
                }
                continue;
            }
            let disturbed = self.relistings;
            match self.load(&other)? {
                Some(second) if self.agree(head, loaded, &other, &second, end)? => {
                    add_links(&mut follows, &other, &second, end);
                }
                Some(_) => {
                    self.set_aside(&other.key);
                    self.rejected.insert(other.key.clone());
                }
                None if self.relistings != disturbed => return Ok(None),
                None => {}
            }
        }
        Ok(Some(follows))
    }

    /// False where they differ and the branch that was asked for decides.
    fn agree(
        &self,
        head: &Headed,
        loaded: &Loaded,
        other: &Headed,
        second: &Loaded,
        end: u64,
    ) -> Result<bool, LogError> {
        let from = self.position.max(other.body.start);
        let to = end.min(other.body.end);
        let cut =
            |head: &Headed, payload: &LogPayload| payload.cut(from - head.body.start, to - head.body.start);
        let differing = cut(head, &loaded.payload).differs_at(&cut(other, &second.payload));
        match differing {
            None => Ok(true),
            Some(_) if self.branch == Some(head.writer) && head.writer != other.writer => Ok(false),
            Some(offset) => Err(LogError::Forked {
                dataset: self.catalogue.dataset().clone(),
                lineage: self.lineage.clone(),
                position: from + offset,
                one: head.key.to_string(),
                other: other.key.to_string(),
            }),
        }
    }

    fn piece(&self, head: &Headed, loaded: &Loaded, end: u64) -> LogPiece {
        let mut marks = head.marks(loaded.table.as_ref());
        marks.retain(|mark| mark.end > self.position);
        let needed = marks.iter().position(|mark| mark.end >= end).map_or(marks.len(), |last| last + 1);
        marks.truncate(needed);
        LogPiece {
            start: self.position,
            end,
            kind: head.body.kind.clone(),
            payload: loaded.payload.cut(self.position - head.body.start, end - head.body.start),
            marks,
            writer: head.writer,
        }
    }
}

/// Whether two heads say that they hold the same positions with the same content.
fn is_same(one: &Headed, other: &Headed) -> bool {
    (one.body.start, one.body.end) == (other.body.start, other.body.end) && same_payload(one, other)
}

fn add_links(follows: &mut HashSet<BodyHash>, head: &Headed, loaded: &Loaded, end: u64) {
    if head.body.end == end {
        follows.insert(head.hash);
    }
    let replaced = loaded.table.iter().flat_map(|table| &table.replaced);
    follows.extend(replaced.filter(|replaced| replaced.end == end).map(|replaced| replaced.body));
}

impl Iterator for LogReader {
    type Item = Result<LogPiece, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended || self.position >= self.to {
            return None;
        }
        let next = self.read_next();
        self.ended = next.is_err();
        Some(next)
    }
}
