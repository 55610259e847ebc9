//! Whether a store does what a repository needs, tried on the store itself before anything is entrusted to it.

use crate::{Creation, Key, ObjectError, ObjectErrorKind, ObjectStore, list_all};
use lifeboat_base::{hex, random};
use std::thread;

/// How many writers race for one name. One at a time may look right on a store that checks, then writes.
const RACERS: u8 = 4;
/// How many such races.
const ROUNDS: u8 = 3;

/// Tries whether a store creates once, reads back, lists strongly and in order, and deletes. What it puts
/// under `suitability/` it removes; a crash leaves a few small objects there that nobody reads.
///
/// # Errors
/// [`ObjectErrorKind::Unsuitable`], with what the store did, where it does otherwise; any other error as the
/// store gave it.
pub fn suitability(store: &dyn ObjectStore) -> Result<(), ObjectError> {
    let probe = Probe { store, prefix: format!("suitability/{}/", hex::encode(&random::bytes::<8>())) };
    let found = probe.run();
    let cleaned = probe.clean();
    found.and(cleaned)
}

struct Probe<'a> {
    store: &'a dyn ObjectStore,
    prefix: String,
}

impl Probe<'_> {
    fn run(&self) -> Result<(), ObjectError> {
        self.creates_once()?;
        for round in 0..ROUNDS {
            self.has_one_winner(round)?;
        }
        self.lists_in_order()?;
        self.deletes()
    }

    fn creates_once(&self) -> Result<(), ObjectError> {
        let key = self.key("once")?;
        let first = self.store.create(&key, b"first")?;
        self.require(first == Creation::Created, "it says that a new object existed")?;
        let second = self.store.create(&key, b"second")?;
        self.require(second == Creation::Existed, "it creates an object that exists a second time")?;
        self.require(self.store.get(&key)? == b"first", "it overwrites objects")?;
        self.require(self.store.get_range(&key, 1, 3)? == b"irs", "it reads other bytes than were asked for")
    }

    fn has_one_winner(&self, round: u8) -> Result<(), ObjectError> {
        let key = self.key(&format!("race-{round}"))?;
        let outcomes: Vec<_> = thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS)
                .map(|racer| {
                    scope.spawn({
                        let key = &key;
                        move || self.store.create(key, &[racer])
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join()).collect()
        });
        let mut winners = Vec::new();
        for (racer, outcome) in (0..RACERS).zip(outcomes) {
            let creation = outcome.map_err(|_| self.unsuitable("a request to it panicked"))??;
            if creation == Creation::Created {
                winners.push(racer);
            }
        }
        self.require(winners.len() == 1, "several writers at once do not have exactly one winner")?;
        self.require(self.store.get(&key)? == winners, "it holds another object than the one it accepted")
    }

    fn lists_in_order(&self) -> Result<(), ObjectError> {
        let names = ["order-a/1", "order/1", "order0"];
        for name in names.iter().rev() {
            self.store.create(&self.key(name)?, b"")?;
        }
        let listed = list_all(self.store, &self.prefix)?;
        let listed: Vec<&str> =
            listed.iter().filter_map(|l| l.key.as_str().strip_prefix(&self.prefix)).collect();
        for name in names {
            self.require(listed.contains(&name), "it does not list an object that was just created")?;
        }
        self.require(listed.is_sorted(), "it lists in another order than that of the names' bytes")?;
        let mut rest = Vec::new();
        self.store.list(&self.prefix, Some(&self.key(names[0])?), &mut |listed| {
            rest.push(listed.key);
            std::ops::ControlFlow::Continue(())
        })?;
        let expected = [self.key(names[1])?, self.key(names[2])?];
        self.require(rest.starts_with(&expected), "a listing that starts in the middle leaves objects out")
    }

    fn deletes(&self) -> Result<(), ObjectError> {
        let key = self.key("once")?;
        self.store.delete(&key)?;
        let gone = matches!(self.store.get(&key), Err(error) if error.is_not_found());
        self.require(gone, "it still reads an object that was just deleted")?;
        let listed = list_all(self.store, &self.prefix)?;
        let gone = listed.iter().all(|listed| listed.key != key);
        self.require(gone, "it still lists an object that was just deleted")
    }

    fn clean(&self) -> Result<(), ObjectError> {
        list_all(self.store, &self.prefix)?.iter().try_for_each(|listed| self.store.delete(&listed.key))
    }

    fn key(&self, name: &str) -> Result<Key, ObjectError> {
        Key::new(format!("{}{name}", self.prefix)).map_err(|error| {
            let location = self.store.location();
            ObjectError::about(ObjectErrorKind::Other, "probe", &self.prefix, location, error)
        })
    }

    fn require(&self, holds: bool, else_what: &'static str) -> Result<(), ObjectError> {
        if holds { Ok(()) } else { Err(self.unsuitable(else_what)) }
    }

    fn unsuitable(&self, what: &'static str) -> ObjectError {
        ObjectError::about(ObjectErrorKind::Unsuitable, "probe", "store", self.store.location(), what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, Faulty, Operation, Plan, Rule};
    use crate::memory::MemoryStore;
    use std::sync::Arc;

    #[test]
    fn a_good_store_passes_and_is_left_empty() {
        let store = MemoryStore::new();
        suitability(&store).unwrap();
        assert!(list_all(&store, "").unwrap().is_empty());
    }

    #[test]
    fn a_store_that_lies_is_refused() {
        for (operation, after) in
            [(Operation::Create, 1), (Operation::List, 0), (Operation::Delete, 0), (Operation::Create, 2)]
        {
            let lie = Rule::new(operation, Fault::Lie).after(after);
            let store = Faulty::new(Arc::new(MemoryStore::new()), Plan::scripted([lie]));
            let error = suitability(&store).unwrap_err();
            assert_eq!(error.kind, ObjectErrorKind::Unsuitable, "{operation:?} {after}: {error}");
        }
    }

    #[test]
    fn another_error_stays_what_it_is() {
        let denied = Rule::new(Operation::Create, Fault::ErrorBefore(ObjectErrorKind::Denied));
        let store = Faulty::new(Arc::new(MemoryStore::new()), Plan::scripted([denied]));
        assert_eq!(suitability(&store).unwrap_err().kind, ObjectErrorKind::Denied);
    }
}
