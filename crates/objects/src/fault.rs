//! Faults on purpose: a store that errs, hangs, tears, lies and rots, by script or by chance.
//!
//! For tests, here and above. A [`Plan`] says what strikes when; what struck is recorded, so that a test can
//! prove that its fault happened. Chance is a function of the plan's seed and of how many requests came
//! before, so that a run of one thread can be repeated exactly.

use crate::{Creation, Key, Listed, ObjectError, ObjectErrorKind, ObjectStore, SharedStore};
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The longest that [`Fault::Hang`] hangs, so that no test hangs for ever.
pub const MAX_HANG: Duration = Duration::from_secs(60);

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`ObjectStore::create`]
    Create,
    /// [`ObjectStore::get`]
    Get,
    /// [`ObjectStore::get_range`]
    GetRange,
    /// [`ObjectStore::head`]
    Head,
    /// [`ObjectStore::list`]
    List,
    /// [`ObjectStore::delete`]
    Delete,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Get | Self::GetRange => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails and had no effect.
    ErrorBefore(ObjectErrorKind),
    /// It took effect (a listing visited one object), and fails.
    ErrorAfter(ObjectErrorKind),
    /// It takes this long (at most [`MAX_HANG`]), then works.
    Hang(Duration),
    /// Only the first bytes arrive. A created object is there with these; a read gives these. Then the
    /// request fails, or with `None` claims success. Other requests work.
    Torn {
        /// How many bytes arrive.
        keep_bytes: usize,
        /// The error that follows, if any.
        then: Option<ObjectErrorKind>,
    },
    /// It claims success and does nothing: created and not stored, deleted and still there, listed as empty.
    /// A read works.
    Lie,
    /// A read gives bytes of which one bit, counted modulo their number, is flipped. Other requests work.
    Flip {
        /// Which bit.
        bit: u64,
    },
}

/// A fault, and the requests that it strikes.
#[derive(Clone, Debug)]
pub struct Rule {
    operation: Operation,
    fault: Fault,
    prefix: String,
    let_pass: u32,
    times: u32,
}

impl Rule {
    /// `fault` strikes every `operation`.
    pub fn new(operation: Operation, fault: Fault) -> Self {
        Self { operation, fault, prefix: String::new(), let_pass: 0, times: u32::MAX }
    }

    /// Only on names (or listed prefixes) that start with this.
    #[must_use]
    pub fn under(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Lets so many matching requests pass first.
    #[must_use]
    pub fn after(mut self, let_pass: u32) -> Self {
        self.let_pass = let_pass;
        self
    }

    /// Strikes so many times, then never again.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    fn strikes(&mut self, operation: Operation, subject: &str) -> Option<Fault> {
        if self.operation != operation || !subject.starts_with(&self.prefix) || self.times == 0 {
            return None;
        }
        if self.let_pass > 0 {
            self.let_pass -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.fault)
    }
}

/// Which faults strike when. Rules come first, in their order; then chance.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    rules: Vec<Rule>,
    chance: Option<Chance>,
}

#[derive(Clone, Debug)]
struct Chance {
    seed: u64,
    per_thousand: u64,
    faults: Vec<Fault>,
}

impl Plan {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::default()
    }

    /// Exactly these rules.
    pub fn scripted(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { rules: rules.into_iter().collect(), chance: None }
    }

    /// One of `faults` strikes so many of a thousand requests.
    pub fn seeded(seed: u64, per_thousand: u32, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self::none().and_seeded(seed, per_thousand, faults)
    }

    /// This plan, and chance where none of its rules strikes.
    #[must_use]
    pub fn and_seeded(
        mut self,
        seed: u64,
        per_thousand: u32,
        faults: impl IntoIterator<Item = Fault>,
    ) -> Self {
        let faults: Vec<Fault> = faults.into_iter().collect();
        self.chance = Some(Chance { seed, per_thousand: per_thousand.into(), faults });
        self
    }

    fn strikes(&mut self, number: u64, operation: Operation, subject: &str) -> Option<Fault> {
        let scripted = self.rules.iter_mut().find_map(|rule| rule.strikes(operation, subject));
        scripted.or_else(|| self.chance.as_ref()?.strikes(number))
    }
}

impl Chance {
    fn strikes(&self, number: u64) -> Option<Fault> {
        let drawn = scramble(self.seed ^ scramble(number));
        let which = usize::try_from((drawn >> 32) % self.faults.len().max(1) as u64).unwrap_or(0);
        if drawn % 1000 < self.per_thousand { self.faults.get(which).copied() } else { None }
    }
}

/// A bijection of 64 bits without visible pattern (the finaliser of SplitMix64).
fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// One fault that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struck {
    /// The request that it happened to.
    pub operation: Operation,
    /// The object or the prefix.
    pub subject: String,
    /// What happened.
    pub fault: Fault,
}

#[derive(Debug, Default)]
struct State {
    plan: Plan,
    requests: u64,
    struck: Vec<Struck>,
    in_flight: usize,
    most_at_once: usize,
}

/// A store to which faults happen.
#[derive(Debug)]
pub struct Faulty {
    inner: SharedStore,
    state: Mutex<State>,
}

impl Faulty {
    /// Wraps a store.
    pub fn new(inner: SharedStore, plan: Plan) -> Self {
        Self { inner, state: Mutex::new(State { plan, ..State::default() }) }
    }

    /// Goes on with another plan.
    pub fn set_plan(&self, plan: Plan) {
        self.state().plan = plan;
    }

    /// What happened so far.
    pub fn struck(&self) -> Vec<Struck> {
        self.state().struck.clone()
    }

    /// How many requests came so far.
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    /// The most requests that were under way at one time.
    pub fn most_at_once(&self) -> usize {
        self.state().most_at_once
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault for the next request. A hang and an error before the effect happen here.
    fn strike(
        &self,
        operation: Operation,
        subject: &str,
    ) -> Result<(Option<Fault>, UnderWay<'_>), ObjectError> {
        let under_way = UnderWay::new(self);
        let fault = self.draw(operation, subject);
        match fault {
            Some(Fault::Hang(time)) => thread::sleep(time.min(MAX_HANG)),
            Some(Fault::ErrorBefore(kind)) => return Err(self.error(kind, operation, subject)),
            _ => {}
        }
        Ok((fault, under_way))
    }

    fn draw(&self, operation: Operation, subject: &str) -> Option<Fault> {
        let mut state = self.state();
        let number = state.requests;
        state.requests += 1;
        let fault = state.plan.strikes(number, operation, subject)?;
        state.struck.push(Struck { operation, subject: subject.to_owned(), fault });
        Some(fault)
    }

    fn error(&self, kind: ObjectErrorKind, operation: Operation, subject: &str) -> ObjectError {
        ObjectError::about(kind, operation.name(), subject, self.location(), "a fault on purpose")
    }

    /// The end of a request that took effect.
    fn finish<T>(
        &self,
        fault: Option<Fault>,
        operation: Operation,
        subject: &str,
        done: T,
    ) -> Result<T, ObjectError> {
        match fault {
            Some(Fault::ErrorAfter(kind)) => Err(self.error(kind, operation, subject)),
            _ => Ok(done),
        }
    }

    fn read(
        &self,
        operation: Operation,
        key: &Key,
        request: impl FnOnce() -> Result<Vec<u8>, ObjectError>,
    ) -> Result<Vec<u8>, ObjectError> {
        let (fault, _under_way) = self.strike(operation, key.as_str())?;
        let mut bytes = request()?;
        match fault {
            Some(Fault::Torn { keep_bytes, then }) => {
                bytes.truncate(keep_bytes);
                if let Some(kind) = then {
                    return Err(self.error(kind, operation, key.as_str()));
                }
            }
            Some(Fault::Flip { bit }) => flip(&mut bytes, bit),
            _ => {}
        }
        self.finish(fault, operation, key.as_str(), bytes)
    }
}

fn flip(bytes: &mut [u8], bit: u64) {
    let bits = bytes.len() as u64 * 8;
    if bits > 0 {
        let bit = bit % bits;
        bytes[usize::try_from(bit / 8).unwrap_or(0)] ^= 1 << (bit % 8);
    }
}

struct UnderWay<'a>(&'a Faulty);

impl<'a> UnderWay<'a> {
    fn new(store: &'a Faulty) -> Self {
        let mut state = store.state();
        state.in_flight += 1;
        state.most_at_once = state.most_at_once.max(state.in_flight);
        Self(store)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.state().in_flight -= 1;
    }
}

impl ObjectStore for Faulty {
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Creation, ObjectError> {
        let (fault, _under_way) = self.strike(Operation::Create, key.as_str())?;
        let creation = match fault {
            Some(Fault::Lie) => Creation::Created,
            Some(Fault::Torn { keep_bytes, then }) => {
                let creation = self.inner.create(key, &bytes[..keep_bytes.min(bytes.len())])?;
                if let Some(kind) = then {
                    return Err(self.error(kind, Operation::Create, key.as_str()));
                }
                creation
            }
            _ => self.inner.create(key, bytes)?,
        };
        self.finish(fault, Operation::Create, key.as_str(), creation)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, ObjectError> {
        self.read(Operation::Get, key, || self.inner.get(key))
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, ObjectError> {
        self.read(Operation::GetRange, key, || self.inner.get_range(key, offset, length))
    }

    fn head(&self, key: &Key) -> Result<Listed, ObjectError> {
        let (fault, _under_way) = self.strike(Operation::Head, key.as_str())?;
        let listed = self.inner.head(key)?;
        self.finish(fault, Operation::Head, key.as_str(), listed)
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), ObjectError> {
        let (fault, _under_way) = self.strike(Operation::List, prefix)?;
        match fault {
            Some(Fault::Lie) => return Ok(()),
            Some(Fault::ErrorAfter(_)) => self.inner.list(prefix, after, &mut |listed| {
                let _ = visit(listed);
                ControlFlow::Break(())
            })?,
            _ => self.inner.list(prefix, after, visit)?,
        }
        self.finish(fault, Operation::List, prefix, ())
    }

    fn delete(&self, key: &Key) -> Result<(), ObjectError> {
        let (fault, _under_way) = self.strike(Operation::Delete, key.as_str())?;
        if fault != Some(Fault::Lie) {
            self.inner.delete(key)?;
        }
        self.finish(fault, Operation::Delete, key.as_str(), ())
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
    use crate::list_all;
    use crate::memory::MemoryStore;
    use std::sync::Arc;

    fn key(name: &str) -> Key {
        Key::new(name).unwrap()
    }

    fn store(rules: impl IntoIterator<Item = Rule>) -> Faulty {
        Faulty::new(Arc::new(MemoryStore::new()), Plan::scripted(rules))
    }

    fn on(operation: Operation, fault: Fault) -> Faulty {
        store([Rule::new(operation, fault).times(1)])
    }

    #[test]
    fn errors_come_before_or_after_the_effect() {
        let store = on(Operation::Create, Fault::ErrorBefore(ObjectErrorKind::Full));
        assert_eq!(store.create(&key("a"), b"1").unwrap_err().kind, ObjectErrorKind::Full);
        assert!(store.get(&key("a")).unwrap_err().is_not_found());
        let store = on(Operation::Create, Fault::ErrorAfter(ObjectErrorKind::Transient));
        assert!(store.create(&key("a"), b"1").unwrap_err().is_transient());
        assert_eq!(store.get(&key("a")).unwrap(), b"1");
    }

    #[test]
    fn torn_writes_leave_a_prefix_with_or_without_an_error() {
        let torn = |then| Fault::Torn { keep_bytes: 3, then };
        let store = on(Operation::Create, torn(None));
        assert_eq!(store.create(&key("a"), b"12345").unwrap(), Creation::Created);
        assert_eq!(store.get(&key("a")).unwrap(), b"123");
        let store = on(Operation::Create, torn(Some(ObjectErrorKind::Transient)));
        assert!(store.create(&key("a"), b"12345").is_err());
        assert_eq!(store.get(&key("a")).unwrap(), b"123");
    }

    #[test]
    fn lies_claim_success() {
        let store = on(Operation::Create, Fault::Lie);
        assert_eq!(store.create(&key("a"), b"1").unwrap(), Creation::Created);
        assert!(store.get(&key("a")).unwrap_err().is_not_found());
        let store = store_with_one(Operation::Delete, Fault::Lie);
        store.delete(&key("a")).unwrap();
        assert_eq!(store.get(&key("a")).unwrap(), [0; 4]);
        let store = store_with_one(Operation::List, Fault::Lie);
        assert!(list_all(&store, "").unwrap().is_empty());
        assert_eq!(list_all(&store, "").unwrap().len(), 1);
    }

    fn store_with_one(operation: Operation, fault: Fault) -> Faulty {
        let store = on(operation, fault);
        store.create(&key("a"), &[0; 4]).unwrap();
        store
    }

    #[test]
    fn reads_rot_and_tear() {
        let store = store_with_one(Operation::Get, Fault::Flip { bit: 32 + 9 });
        assert_eq!(store.get(&key("a")).unwrap(), [0, 2, 0, 0]);
        assert_eq!(store.get(&key("a")).unwrap(), [0; 4]);
        let store = store_with_one(Operation::GetRange, Fault::Torn { keep_bytes: 1, then: None });
        assert_eq!(store.get_range(&key("a"), 0, 3).unwrap(), [0]);
    }

    #[test]
    fn rules_choose_by_name_and_number() {
        let rule = Rule::new(Operation::Head, Fault::ErrorBefore(ObjectErrorKind::Denied));
        let store = store([rule.under("packs/").after(1).times(1)]);
        let kinds: Vec<ObjectErrorKind> = ["index/a", "packs/a", "packs/b", "packs/c"]
            .into_iter()
            .map(|name| store.head(&key(name)).unwrap_err().kind)
            .collect();
        let missing = ObjectErrorKind::NotFound;
        assert_eq!(kinds, [missing, missing, ObjectErrorKind::Denied, missing]);
        assert_eq!(store.struck().len(), 1);
        assert_eq!(store.struck()[0].subject, "packs/b");
    }

    #[test]
    fn a_seed_gives_the_same_faults_again() {
        let struck = |seed| {
            let fault = Fault::ErrorBefore(ObjectErrorKind::Transient);
            let store =
                Faulty::new(Arc::new(MemoryStore::new()), Plan::seeded(seed, 100, [fault, Fault::Lie]));
            (0..1000).map(|n| store.create(&key(&format!("k{n}")), b"").is_err()).collect::<Vec<bool>>()
        };
        assert_eq!(struck(7), struck(7));
        assert_ne!(struck(7), struck(8));
        let failed = struck(7).into_iter().filter(|failed| *failed).count();
        assert!((20..=90).contains(&failed), "half of the hundred are lies: {failed}");
    }
}
