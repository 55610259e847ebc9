//! WAL that has arrived and is not durable yet: what lies between the one who receives and the one who publishes.
//!
//! While one stretch is being made durable the next one gathers, so that many commits go into one object and
//! are acknowledged at once. The room is bounded: who receives waits when it is full, and the server keeps what
//! it has not sent.

use lifeboat_base::clock::{Stopwatch, Timestamp};
use lifeboat_postgres_wal::{Lsn, TimelineId};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A run of WAL of one timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalStretch {
    /// The timeline.
    pub timeline: TimelineId,
    /// Its first position.
    pub start: Lsn,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// When its first byte arrived.
    pub first: Timestamp,
    /// When its last byte arrived.
    pub last: Timestamp,
}

impl WalStretch {
    /// The first position behind it.
    pub fn end(&self) -> Lsn {
        self.start.after(self.bytes.len() as u64)
    }

    /// The bytes between two positions, as far as they lie within it.
    pub(crate) fn part(&self, range: &std::ops::Range<u64>) -> &[u8] {
        let offset = |position: u64| {
            let offset = position.saturating_sub(self.start.0).min(self.bytes.len() as u64);
            usize::try_from(offset).unwrap_or(self.bytes.len())
        };
        self.bytes.get(offset(range.start)..offset(range.end)).unwrap_or_default()
    }
}

/// When what has gathered is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gathering {
    /// As soon as the oldest byte has waited so long.
    pub(crate) wait: Duration,
    /// Or as soon as there are so many bytes. No stretch is longer.
    pub(crate) stretch_bytes: usize,
    /// How many bytes may wait in all.
    pub(crate) room_bytes: usize,
}

/// The room between the two.
#[derive(Debug)]
pub(crate) struct Pending {
    gathering: Gathering,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(WalStretch, Stopwatch)>,
    bytes: usize,
    /// So many of the stretches that wait are to be published at once.
    flushed: usize,
    /// Somebody waits until everything before this position is published.
    wanted: Lsn,
    ended: bool,
}

impl Pending {
    pub(crate) fn new(gathering: Gathering) -> Self {
        Self { gathering, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what has arrived. Positions must follow each other within a timeline.
    pub(crate) fn push(&self, timeline: TimelineId, start: Lsn, bytes: &[u8], now: Timestamp) {
        let mut state = self.lock();
        let (mut rest, mut start) = (bytes, start);
        while !rest.is_empty() {
            let room = state.room_behind(timeline, start, now, self.gathering.stretch_bytes);
            let (taken, left) = rest.split_at(rest.len().min(room));
            state.extend_last(taken, now);
            start = start.after(taken.len() as u64);
            rest = left;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until there is room, at most so long. True where there is.
    pub(crate) fn wait_for_room(&self, at_most: Duration) -> bool {
        let full = |state: &mut State| state.bytes >= self.gathering.room_bytes && !state.ended;
        let waited = self.changed.wait_timeout_while(self.lock(), at_most, full);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.bytes < self.gathering.room_bytes
    }

    /// Waits until a stretch is to be published and takes it; `None` once everything is taken after the end, or
    /// when nothing was to be published for so long.
    pub(crate) fn take(&self, at_most: Duration) -> Option<WalStretch> {
        let waited = Stopwatch::start();
        let mut state = self.lock();
        loop {
            let due = state.due_in(&self.gathering);
            match due {
                Some(Duration::ZERO) => break,
                None if state.ended => return None,
                _ => {}
            }
            let left = at_most.saturating_sub(waited.elapsed());
            if left.is_zero() {
                return None;
            }
            let pause = due.map_or(left, |due| due.min(left));
            let woken = self.changed.wait_timeout(state, pause);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let (stretch, _) = state.waiting.pop_front()?;
        state.flushed = state.flushed.saturating_sub(1);
        state.bytes -= stretch.bytes.len();
        drop(state);
        self.changed.notify_all();
        Some(stretch)
    }

    /// Nothing more will come: what is there is published at once.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// What is there is published at once; more may come later.
    pub(crate) fn flush(&self) {
        let mut state = self.lock();
        state.flushed = state.waiting.len();
        drop(state);
        self.changed.notify_all();
    }

    /// Somebody waits for what comes before a position: once all of that is there, it gathers no longer.
    pub(crate) fn want(&self, position: Lsn) {
        let mut state = self.lock();
        state.wanted = state.wanted.max(position);
        drop(state);
        self.changed.notify_all();
    }

    /// How long the oldest byte has been waiting.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.lock().waiting.front().map(|(_, since)| since.elapsed())
    }
}

impl State {
    /// How much fits behind the last stretch. Where that is full or ends elsewhere, a new one is begun.
    fn room_behind(&mut self, timeline: TimelineId, start: Lsn, now: Timestamp, most: usize) -> usize {
        let last = self.waiting.back().map(|(stretch, _)| stretch);
        let continued = last.filter(|last| last.timeline == timeline && last.end() == start);
        match continued.map(|last| most.saturating_sub(last.bytes.len())) {
            None | Some(0) => {
                let stretch = WalStretch { timeline, start, bytes: Vec::new(), first: now, last: now };
                self.waiting.push_back((stretch, Stopwatch::start()));
                most
            }
            Some(room) => room,
        }
    }

    fn extend_last(&mut self, bytes: &[u8], now: Timestamp) {
        if let Some((last, _)) = self.waiting.back_mut() {
            last.bytes.extend_from_slice(bytes);
            last.last = now;
            self.bytes += bytes.len();
        }
    }

    /// In what time the first stretch is to be published; `None` where there is none.
    fn due_in(&self, gathering: &Gathering) -> Option<Duration> {
        let (first, since) = self.waiting.front()?;
        let full = first.bytes.len() >= gathering.stretch_bytes || self.waiting.len() > 1;
        let is_wanted = first.start < self.wanted && first.end() >= self.wanted;
        let due =
            if full || is_wanted || self.ended || self.flushed > 0 { Duration::ZERO } else { gathering.wait };
        Some(due.saturating_sub(since.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATHERING: Gathering =
        Gathering { wait: Duration::from_secs(3600), stretch_bytes: 10, room_bytes: 25 };
    const ONE: TimelineId = TimelineId(1);
    const NOW: Timestamp = Timestamp::from_nanos(5);

    #[test]
    fn what_somebody_waits_for_gathers_no_longer_once_it_is_there() {
        let pending = Pending::new(GATHERING);
        pending.push(ONE, Lsn(100), &[1; 3], NOW);
        pending.want(Lsn(105));
        assert_eq!(pending.take(Duration::ZERO), None, "it is not all there");
        pending.push(ONE, Lsn(103), &[1; 3], NOW);
        assert_eq!(pending.take(Duration::ZERO).map(|stretch| stretch.end()), Some(Lsn(106)));
        pending.push(ONE, Lsn(106), &[1; 3], NOW);
        assert_eq!(pending.take(Duration::ZERO), None, "nobody waits for more");
    }

    #[test]
    fn stretches_are_full_or_of_one_timeline() {
        let pending = Pending::new(GATHERING);
        pending.push(ONE, Lsn(100), &[1; 7], NOW);
        assert_eq!(pending.take(Duration::ZERO), None, "it is not due");
        pending.push(ONE, Lsn(107), &[2; 7], NOW);
        let first = pending.take(Duration::ZERO).unwrap();
        assert_eq!((first.start, first.bytes.as_slice()), (Lsn(100), &[1, 1, 1, 1, 1, 1, 1, 2, 2, 2][..]));
        assert_eq!(pending.take(Duration::ZERO), None);
        pending.push(TimelineId(2), Lsn(111), &[3; 2], NOW);
        let second = pending.take(Duration::ZERO).unwrap();
        assert_eq!((second.start, second.end(), second.timeline), (Lsn(110), Lsn(114), ONE));
        pending.end();
        assert_eq!(pending.take(Duration::ZERO).unwrap().timeline, TimelineId(2));
        assert_eq!(pending.take(Duration::from_secs(3600)), None);
    }

    #[test]
    fn who_receives_waits_for_room() {
        let pending = Pending::new(GATHERING);
        pending.push(ONE, Lsn(0), &[1; 25], NOW);
        assert!(!pending.wait_for_room(Duration::ZERO));
        assert_eq!(pending.take(Duration::ZERO).unwrap().bytes.len(), 10);
        assert!(pending.wait_for_room(Duration::ZERO));
        assert!(pending.oldest().is_some());
    }

    #[test]
    fn what_waits_long_enough_is_published_without_being_full() {
        let pending = Pending::new(Gathering { wait: Duration::from_millis(1), ..GATHERING });
        pending.push(ONE, Lsn(0), &[1; 3], NOW);
        assert_eq!(pending.take(Duration::from_secs(3600)).unwrap().bytes.len(), 3);
    }
}
