//! Holds a store to a bandwidth and to a number of requests at once.
//!
//! Bandwidth is a debt: a request starts only when the bytes of the earlier ones are paid for at the given
//! rate. Over time the rate holds exactly; a single object is not slowed while it is on its way.

use crate::{Creation, Key, Listed, ObjectError, ObjectStore, SharedStore};
use lifeboat_base::clock::Stopwatch;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What a store is held to; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of objects a second, both directions together.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Requests at once.
    pub requests_in_flight: Option<NonZeroUsize>,
}

/// A store held to [`Limits`].
#[derive(Debug)]
pub struct Limited {
    inner: SharedStore,
    limits: Limits,
    started: Stopwatch,
    paid_until: Mutex<Duration>,
    in_flight: Mutex<usize>,
    one_ended: Condvar,
}

impl Limited {
    /// Wraps a store.
    pub fn new(inner: SharedStore, limits: Limits) -> Self {
        Self {
            inner,
            limits,
            started: Stopwatch::start(),
            paid_until: Mutex::default(),
            in_flight: Mutex::default(),
            one_ended: Condvar::new(),
        }
    }

    /// Waits until earlier bytes are paid for, and owes `bytes` more.
    fn pay(&self, bytes: usize) {
        let Some(rate) = self.limits.bytes_per_second else { return };
        let wait = {
            let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
            owe(&mut paid_until, self.started.elapsed(), bytes, rate)
        };
        thread::sleep(wait);
    }

    fn enter(&self) -> Permit<'_> {
        if let Some(most) = self.limits.requests_in_flight {
            let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
            while *in_flight >= most.get() {
                in_flight = self.one_ended.wait(in_flight).unwrap_or_else(PoisonError::into_inner);
            }
            *in_flight += 1;
        }
        Permit(self)
    }

    fn read(&self, request: impl FnOnce() -> Result<Vec<u8>, ObjectError>) -> Result<Vec<u8>, ObjectError> {
        self.pay(0);
        let _permit = self.enter();
        let bytes = request()?;
        if let Some(rate) = self.limits.bytes_per_second {
            let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
            owe(&mut paid_until, self.started.elapsed(), bytes.len(), rate);
        }
        Ok(bytes)
    }
}

/// How long to wait at `now` before the next request, which adds `bytes` to the debt.
fn owe(paid_until: &mut Duration, now: Duration, bytes: usize, rate: NonZeroU64) -> Duration {
    let wait = paid_until.saturating_sub(now);
    let nanos = bytes as u128 * 1_000_000_000 / u128::from(rate.get());
    let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    *paid_until = (*paid_until).max(now).saturating_add(cost);
    wait
}

/// One request in flight.
struct Permit<'a>(&'a Limited);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.0.limits.requests_in_flight.is_some() {
            *self.0.in_flight.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            self.0.one_ended.notify_one();
        }
    }
}

impl ObjectStore for Limited {
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Creation, ObjectError> {
        self.pay(bytes.len());
        let _permit = self.enter();
        self.inner.create(key, bytes)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, ObjectError> {
        self.read(|| self.inner.get(key))
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, ObjectError> {
        self.read(|| self.inner.get_range(key, offset, length))
    }

    fn head(&self, key: &Key) -> Result<Listed, ObjectError> {
        let _permit = self.enter();
        self.inner.head(key)
    }

    /// Is no request in flight while it visits: the visitor may make requests of its own.
    fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), ObjectError> {
        let mut permit = Some(self.enter());
        self.inner.list(prefix, after, &mut |listed| {
            permit = None;
            let flow = visit(listed);
            permit = Some(self.enter());
            flow
        })
    }

    fn delete(&self, key: &Key) -> Result<(), ObjectError> {
        let _permit = self.enter();
        self.inner.delete(key)
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn parallelism(&self) -> usize {
        self.limits.requests_in_flight.map_or(usize::MAX, NonZeroUsize::get).min(self.inner.parallelism())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, Faulty, Operation, Plan, Rule};
    use crate::memory::MemoryStore;
    use std::sync::Arc;

    #[test]
    fn the_debt_of_earlier_bytes_is_waited_for() {
        let rate = NonZeroU64::new(1000).unwrap();
        let mut paid_until = Duration::ZERO;
        let at = Duration::from_millis;
        assert_eq!(owe(&mut paid_until, at(0), 500, rate), at(0), "the first request owes nothing yet");
        assert_eq!(owe(&mut paid_until, at(100), 500, rate), at(400));
        assert_eq!(owe(&mut paid_until, at(600), 0, rate), at(400));
        assert_eq!(owe(&mut paid_until, at(5000), 1000, rate), at(0), "idle time pays, but is not saved up");
        assert_eq!(owe(&mut paid_until, at(5000), usize::MAX, rate), at(1000));
    }

    #[test]
    fn bytes_in_both_directions_are_owed() {
        let limits = Limits { bytes_per_second: NonZeroU64::new(1_000_000), ..Limits::default() };
        let store = Limited::new(Arc::new(MemoryStore::new()), limits);
        let key = Key::new("a").unwrap();
        store.create(&key, &[0; 1000]).unwrap();
        let written = *store.paid_until.lock().unwrap();
        assert!(written >= Duration::from_millis(1), "{written:?}");
        store.get(&key).unwrap();
        let read = *store.paid_until.lock().unwrap();
        assert!(read >= written + Duration::from_millis(1), "{read:?}");
    }

    #[test]
    fn no_more_requests_than_allowed_are_in_flight() {
        let hang = Rule::new(Operation::Head, Fault::Hang(Duration::from_millis(20)));
        let faulty = Arc::new(Faulty::new(Arc::new(MemoryStore::new()), Plan::scripted([hang])));
        let limits = Limits { requests_in_flight: NonZeroUsize::new(2), ..Limits::default() };
        let store = Limited::new(faulty.clone(), limits);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| store.head(&Key::new("a").unwrap()).unwrap_err());
            }
        });
        assert_eq!(faulty.struck().len(), 8);
        assert!((1..=2).contains(&faulty.most_at_once()), "{}", faulty.most_at_once());
        assert_eq!(store.parallelism(), 1);
    }

    #[test]
    fn a_visitor_may_make_requests() {
        let memory = Arc::new(MemoryStore::new());
        let key = Key::new("a").unwrap();
        memory.create(&key, b"1").unwrap();
        let limits = Limits { requests_in_flight: NonZeroUsize::new(1), ..Limits::default() };
        let store = Limited::new(memory, limits);
        let mut seen = Vec::new();
        store
            .list("", None, &mut |listed| {
                seen.push(store.get(&listed.key).unwrap());
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(seen, [b"1"]);
    }
}
