//! How long commits have been waiting for us.
//!
//! The server says which sessions wait for a standby, and neither since when nor for whom. Since when: a wait began
//! behind the last look that did not show it. For whom: for us as long as we have not acknowledged what the server had
//! written when the wait was first seen, for the commit's own record is in that. It deliberately knows no clock.

use lifeboat_postgres_wal::Lsn;
use std::collections::BTreeMap;
use std::time::Duration;

/// One wait of one session: its process, its transaction's begin and its query's, as the server writes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Waiter(pub(crate) String);

/// The waits that were seen at the last look.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    seen: BTreeMap<Waiter, Wait>,
    last_look: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    /// It began at this time or later.
    since: Duration,
    /// What the server had written when it was first seen.
    written: Lsn,
}

impl Waits {
    /// Takes note of a look; says how long the longest wait for us may have lasted.
    pub(crate) fn observe(
        &mut self,
        now: Duration,
        waiters: Vec<Waiter>,
        written: Lsn,
        acknowledged: Option<Lsn>,
    ) -> Option<Duration> {
        let new = Wait { since: self.last_look.unwrap_or(now), written };
        let before = std::mem::take(&mut self.seen);
        self.seen = waiters
            .into_iter()
            .map(|waiter| {
                let wait = before.get(&waiter).copied().unwrap_or(new);
                (waiter, wait)
            })
            .collect();
        self.last_look = Some(now);
        let for_us = self.seen.values().filter(|wait| acknowledged.is_none_or(|at| at < wait.written));
        for_us.map(|wait| now.saturating_sub(wait.since)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn waiters(names: &[&str]) -> Vec<Waiter> {
        names.iter().map(|name| Waiter((*name).to_owned())).collect()
    }

    #[test]
    fn a_wait_lasts_as_long_as_the_same_one_is_seen() {
        let mut waits = Waits::default();
        assert_eq!(waits.observe(secs(1), vec![], Lsn(10), None), None);
        assert_eq!(waits.observe(secs(2), waiters(&["a"]), Lsn(20), Some(Lsn(5))), Some(secs(1)));
        assert_eq!(waits.observe(secs(5), waiters(&["a", "b"]), Lsn(30), Some(Lsn(5))), Some(secs(4)));
        assert_eq!(waits.observe(secs(6), waiters(&["b"]), Lsn(30), None), Some(secs(4)));
        assert_eq!(waits.observe(secs(7), waiters(&["a"]), Lsn(40), None), Some(secs(1)), "another one");
    }

    #[test]
    fn who_waits_for_others_does_not_wait_for_us() {
        let mut waits = Waits::default();
        waits.observe(secs(0), waiters(&["a"]), Lsn(20), Some(Lsn(10)));
        assert_eq!(waits.observe(secs(9), waiters(&["a"]), Lsn(90), Some(Lsn(20))), None);
    }
}
