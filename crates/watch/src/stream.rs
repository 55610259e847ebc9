//! Through which instant a stream is safe: what a follower saw and made durable, folded into one observation.
//!
//! A server says where its log stands, again and again, also while it is idle. Once that position is durable, all
//! that it had acknowledged when it said so is safe. Positions are numbers that grow; what they mean is the caller's.

use crate::observe::Stream;
use crate::time::CLOCK_TOLERANCE;
use lifeboat_base::clock::Timestamp;
use std::collections::VecDeque;

/// How many positions that are not durable yet are remembered. What is forgotten only makes the exposure look
/// larger, by at most the time between two that were kept.
const SEEN_MAX: usize = 1024;

/// A position that a server said it stood at.
#[derive(Clone, Copy, Debug)]
struct Seen {
    position: u64,
    at: Timestamp,
}

/// What was seen of one stream so far.
#[derive(Clone, Debug, Default)]
pub struct StreamTracker {
    /// Not durable yet, ascending in both.
    seen: VecDeque<Seen>,
    heard: Option<Timestamp>,
    server: Option<u64>,
    durable: Option<u64>,
    through: Option<Timestamp>,
}

impl StreamTracker {
    /// A stream that nothing was heard of.
    pub fn new() -> Self {
        Self::default()
    }

    /// The server said, at this instant, that its log stands at this position: a heartbeat or log.
    pub fn heard(&mut self, position: u64, at: Timestamp) {
        if self.heard.is_some_and(|before| before.since(at) > CLOCK_TOLERANCE) {
            self.forget_times();
        }
        if self.server.is_some_and(|before| position < before) {
            self.forget_positions();
        }
        self.heard = Some(at);
        self.server = Some(position);
        match self.durable {
            Some(durable) if durable >= position => self.through = Some(at),
            _ => self.remember(Seen { position, at }),
        }
    }

    /// Everything up to this position is durable.
    pub fn durable(&mut self, position: u64) {
        self.durable = Some(position);
        while let Some(seen) = self.seen.front().copied().filter(|seen| seen.position <= position) {
            self.through = Some(seen.at);
            self.seen.pop_front();
        }
    }

    /// Another lineage: positions cannot be compared with what was before.
    pub fn forget_positions(&mut self) {
        self.seen.clear();
        self.server = None;
        self.durable = None;
    }

    /// The clock went back: what was said by it before cannot be compared with what it says now.
    fn forget_times(&mut self) {
        self.seen.clear();
        self.through = None;
    }

    fn remember(&mut self, seen: Seen) {
        if let Some(last) = self.seen.back_mut().filter(|last| last.position == seen.position) {
            last.at = seen.at;
            return;
        }
        if self.seen.len() >= SEEN_MAX {
            // Neither the next to be durable nor the newest.
            self.seen.remove(SEEN_MAX / 2);
        }
        self.seen.push_back(seen);
    }

    /// What there is to judge.
    pub fn observation(&self) -> Stream {
        Stream { heard: self.heard, position: self.server, durable: self.durable, through: self.through }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn an_idle_server_is_safe_through_its_last_heartbeat() {
        let mut stream = StreamTracker::new();
        stream.heard(100, at(10));
        assert_eq!(stream.observation().through, None);
        stream.durable(100);
        assert_eq!(stream.observation().through, Some(at(10)));
        for second in 11..500 {
            stream.heard(100, at(second));
        }
        assert_eq!(stream.observation().through, Some(at(499)));
    }

    #[test]
    fn after_a_long_pause_only_what_is_new_is_exposed() {
        let mut stream = StreamTracker::new();
        stream.heard(100, at(0));
        stream.durable(100);
        stream.heard(100, at(3600));
        stream.heard(200, at(3601));
        assert_eq!(stream.observation().through, Some(at(3600)));
        stream.durable(150);
        assert_eq!(stream.observation().through, Some(at(3600)));
        stream.durable(200);
        assert_eq!(stream.observation().through, Some(at(3601)));
    }

    #[test]
    fn what_is_behind_is_safe_through_what_is_durable_of_it() {
        let mut stream = StreamTracker::new();
        for second in 0..10_000 {
            stream.heard(u64::try_from(second).unwrap() * 10, at(second));
        }
        assert!(stream.seen.len() <= SEEN_MAX);
        stream.durable(99_990);
        assert_eq!(stream.observation().through, Some(at(9_999)));
        // What was forgotten errs to the safe side.
        let mut behind = StreamTracker::new();
        for second in 0..5_000 {
            behind.heard(u64::try_from(second).unwrap() * 10, at(second));
        }
        behind.durable(30_000);
        assert!(behind.observation().through.unwrap() <= at(3_000));
    }

    #[test]
    fn another_lineage_keeps_the_time_and_a_clock_that_went_back_does_not() {
        let mut stream = StreamTracker::new();
        stream.heard(100, at(50));
        stream.durable(100);
        stream.heard(40, at(51));
        let after = stream.observation();
        assert_eq!((after.through, after.durable), (Some(at(50)), None));
        stream.durable(40);
        stream.heard(40, at(20));
        assert_eq!(stream.observation().through, Some(at(20)));
        stream.heard(60, at(10));
        assert_eq!(stream.observation().through, None, "nothing of the time before can be compared");
        // A clock that is set by less than clocks differ anyhow changes nothing.
        stream.durable(60);
        stream.heard(60, at(10).minus(Duration::from_millis(500)));
        assert!(stream.observation().through.is_some());
    }
}
