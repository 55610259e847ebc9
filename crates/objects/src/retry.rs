//! Tries again what may work in a moment, and only that.
//!
//! A request that fails with [`ObjectErrorKind::Transient`] is repeated on the schedule of a
//! [`Backoff`]; every other error is final. After an own attempt to create whose outcome nobody knows, an
//! object that "existed" is read and compared: equal bytes are this attempt's own success.
//!
//! [`ObjectErrorKind::Transient`]: crate::ObjectErrorKind::Transient

use crate::{Creation, Key, Listed, ObjectError, ObjectStore, SharedStore};
use lifeboat_base::backoff::Backoff;
use lifeboat_base::clock::Stopwatch;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// A store that tries again.
#[derive(Debug)]
pub struct Retrying {
    inner: SharedStore,
    backoff: Backoff,
    give_up_after: Duration,
    retries: AtomicU64,
}

impl Retrying {
    /// Wraps a store.
    pub fn new(inner: SharedStore, backoff: Backoff) -> Self {
        Self { inner, backoff, give_up_after: Duration::MAX, retries: AtomicU64::new(0) }
    }

    /// Starts no further attempt once a request, its waits included, has taken this long: against a server
    /// that stalls each attempt takes as long as its time limit.
    #[must_use]
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.give_up_after = time;
        self
    }

    /// How many requests were repeated so far.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Calls `attempt` with the number of attempts that failed before, until it succeeds or must not be
    /// repeated.
    fn repeat<T>(&self, mut attempt: impl FnMut(u32) -> Result<T, ObjectError>) -> Result<T, ObjectError> {
        let started = Stopwatch::start();
        let mut failed = 0;
        loop {
            let error = match attempt(failed) {
                Err(error) if error.is_transient() => error,
                outcome => return outcome,
            };
            failed += 1;
            match self.backoff.wait_after(failed) {
                Some(wait) if started.elapsed().saturating_add(wait) < self.give_up_after => {
                    thread::sleep(wait);
                }
                _ => return Err(error),
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_ours(&self, key: &Key, bytes: &[u8]) -> Result<bool, ObjectError> {
        match self.get(key) {
            Ok(found) => Ok(found == bytes),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl ObjectStore for Retrying {
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Creation, ObjectError> {
        let mut uncertain = false;
        let creation = self.repeat(|failed| {
            uncertain = failed > 0;
            self.inner.create(key, bytes)
        })?;
        if creation == Creation::Existed && uncertain && self.is_ours(key, bytes)? {
            return Ok(Creation::Created);
        }
        Ok(creation)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, ObjectError> {
        self.repeat(|_| self.inner.get(key))
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, ObjectError> {
        self.repeat(|_| self.inner.get_range(key, offset, length))
    }

    fn head(&self, key: &Key) -> Result<Listed, ObjectError> {
        self.repeat(|_| self.inner.head(key))
    }

    /// Goes on after the last object that was visited: none is visited twice, and none once the visitor has
    /// had enough.
    fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), ObjectError> {
        let mut seen = after.cloned();
        let mut enough = false;
        self.repeat(|_| {
            let resume = seen.clone();
            let listed = self.inner.list(prefix, resume.as_ref(), &mut |listed| {
                seen = Some(listed.key.clone());
                let flow = visit(listed);
                enough = flow.is_break();
                flow
            });
            if enough { Ok(()) } else { listed }
        })
    }

    fn delete(&self, key: &Key) -> Result<(), ObjectError> {
        self.repeat(|_| self.inner.delete(key))
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn parallelism(&self) -> usize {
        self.inner.parallelism()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, Faulty, Operation, Plan, Rule};
    use crate::memory::MemoryStore;
    use crate::{ObjectErrorKind, list_all};
    use std::sync::Arc;

    const AT_ONCE: Backoff = Backoff { first: Duration::ZERO, cap: Duration::ZERO, attempts: 4 };

    fn key(name: &str) -> Key {
        Key::new(name).unwrap()
    }

    fn over(plan: Plan) -> (Arc<MemoryStore>, Retrying) {
        let memory = Arc::new(MemoryStore::new());
        let faulty = Faulty::new(memory.clone(), plan);
        (memory, Retrying::new(Arc::new(faulty), AT_ONCE))
    }

    fn failing(operation: Operation, fault: Fault, times: u32) -> (Arc<MemoryStore>, Retrying) {
        over(Plan::scripted([Rule::new(operation, fault).times(times)]))
    }

    #[test]
    fn a_transient_error_is_tried_again_and_the_last_one_is_told() {
        let before = Fault::ErrorBefore(ObjectErrorKind::Transient);
        let (_, store) = failing(Operation::Create, before, 3);
        assert_eq!(store.create(&key("a"), b"1").unwrap(), Creation::Created);
        assert_eq!(store.retries(), 3);
        let (_, store) = failing(Operation::Create, before, 4);
        assert!(store.create(&key("a"), b"1").unwrap_err().is_transient());
    }

    #[test]
    fn another_error_is_final() {
        let (_, store) = failing(Operation::Get, Fault::ErrorBefore(ObjectErrorKind::Denied), 1);
        assert_eq!(store.get(&key("a")).unwrap_err().kind, ObjectErrorKind::Denied);
        assert_eq!(store.retries(), 0);
    }

    #[test]
    fn an_own_attempt_that_took_effect_counts_as_created() {
        let after = Fault::ErrorAfter(ObjectErrorKind::Transient);
        let (_, store) = failing(Operation::Create, after, 1);
        assert_eq!(store.create(&key("a"), b"1").unwrap(), Creation::Created);
        assert_eq!(
            store.create(&key("a"), b"1").unwrap(),
            Creation::Existed,
            "no attempt of this call failed"
        );
    }

    #[test]
    fn somebody_elses_object_stays_existed() {
        let (memory, store) = failing(Operation::Create, Fault::ErrorBefore(ObjectErrorKind::Transient), 1);
        memory.create(&key("a"), b"theirs").unwrap();
        assert_eq!(store.create(&key("a"), b"ours").unwrap(), Creation::Existed);
        assert_eq!(store.get(&key("a")).unwrap(), b"theirs");
    }

    #[test]
    fn a_torn_own_attempt_is_not_taken_for_success() {
        let torn = Fault::Torn { keep_bytes: 2, then: Some(ObjectErrorKind::Transient) };
        let (_, store) = failing(Operation::Create, torn, 1);
        assert_eq!(store.create(&key("a"), b"whole").unwrap(), Creation::Existed);
    }

    #[test]
    fn a_listing_goes_on_where_it_broke_off() {
        let (memory, store) = failing(Operation::List, Fault::ErrorAfter(ObjectErrorKind::Transient), 2);
        for name in ["a/1", "a/2", "a/3"] {
            memory.create(&key(name), b"").unwrap();
        }
        let names: Vec<String> =
            list_all(&store, "a/").unwrap().into_iter().map(|listed| listed.key.to_string()).collect();
        assert_eq!(names, ["a/1", "a/2", "a/3"]);
        assert_eq!(store.retries(), 2);
    }

    #[test]
    fn a_visitor_that_had_enough_is_not_called_again() {
        let (memory, store) = failing(Operation::List, Fault::ErrorAfter(ObjectErrorKind::Transient), 1);
        memory.create(&key("a"), b"").unwrap();
        memory.create(&key("b"), b"").unwrap();
        let mut seen = 0;
        let listed = store.list("", None, &mut |_| {
            seen += 1;
            ControlFlow::Break(())
        });
        assert!(listed.is_ok());
        assert_eq!((seen, store.retries()), (1, 0));
    }

    #[test]
    fn no_attempt_starts_once_the_time_is_up() {
        let (_, store) = failing(Operation::Get, Fault::ErrorBefore(ObjectErrorKind::Transient), 100);
        let store = store.give_up_after(Duration::ZERO);
        assert!(store.get(&key("a")).unwrap_err().is_transient());
        assert_eq!(store.retries(), 0);
    }
}
