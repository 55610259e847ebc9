//! How long to wait before trying again: exponential, capped, jittered, bounded in attempts.

use crate::random;
use std::time::Duration;

/// A retry schedule. The wait before attempt *n* lies between half of and all of
/// `first * 2^(n-1)`, never above `cap` ("equal jitter": spread out, yet never zero).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait before the first retry.
    pub first: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// How many attempts in all, the first one included.
    pub attempts: u32,
}

impl Backoff {
    /// Five attempts within some seven seconds: rides out a restarting server, not an outage.
    pub const SHORT: Self =
        Self { first: Duration::from_millis(200), cap: Duration::from_secs(5), attempts: 6 };

    /// The wait after `failed` attempts, or `None` when no attempt is left.
    pub fn wait_after(&self, failed: u32) -> Option<Duration> {
        if failed == 0 || failed >= self.attempts {
            return None;
        }
        let full = self.first.saturating_mul(1u32.checked_shl(failed - 1).unwrap_or(u32::MAX)).min(self.cap);
        let half = full / 2;
        let jitter_ns = random::below(u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).saturating_add(1));
        Some(half + Duration::from_nanos(jitter_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_then_end() {
        let backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(4), attempts: 6 };
        for (failed, full) in [(1, 1), (2, 2), (3, 4), (4, 4), (5, 4)] {
            let wait = backoff.wait_after(failed).unwrap();
            assert!(wait >= Duration::from_secs(full) / 2 && wait <= Duration::from_secs(full), "{failed}");
        }
        assert_eq!(backoff.wait_after(6), None);
        assert_eq!(backoff.wait_after(0), None);
    }
}
