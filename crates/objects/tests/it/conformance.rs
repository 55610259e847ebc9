//! The conformance suite on every store and on every decorator around one.

use lifeboat_base::backoff::Backoff;
use lifeboat_objects::count::Counted;
use lifeboat_objects::directory::DirectoryStore;
use lifeboat_objects::fault::{Fault, Faulty, Plan};
use lifeboat_objects::limit::{Limited, Limits};
use lifeboat_objects::memory::MemoryStore;
use lifeboat_objects::retry::Retrying;
use lifeboat_objects::s3::S3Store;
use lifeboat_objects::{ObjectErrorKind, SharedStore, conformance, testing};
use std::cell::RefCell;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

fn memory() -> SharedStore {
    Arc::new(MemoryStore::new())
}

#[test]
fn memory_store() {
    conformance::run(&memory);
}

#[test]
fn directory_store() {
    let directories = RefCell::new(Vec::new());
    conformance::run(&|| {
        let directory = tempfile::tempdir().unwrap();
        let store = DirectoryStore::create(directory.path().join("store")).unwrap();
        directories.borrow_mut().push(directory);
        Arc::new(store)
    });
}

#[test]
fn s3_store() {
    let Some(server) = testing::seaweedfs() else { return };
    conformance::run(&|| Arc::new(S3Store::connect(server.config()).unwrap()));
}

#[test]
fn retrying() {
    conformance::run(&|| Arc::new(Retrying::new(memory(), Backoff::SHORT)));
}

/// The suite holds over a store that often fails before or after the effect, since all of it is retried.
#[test]
#[expect(clippy::print_stdout, reason = "a randomised test prints its seed")]
fn retrying_over_a_bad_network() {
    let pinned = std::env::var("LIFEBOAT_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = pinned.unwrap_or_else(|| u64::from_le_bytes(lifeboat_base::random::bytes()));
    println!("LIFEBOAT_TEST_SEED={seed}");
    let patient = Backoff { first: Duration::ZERO, cap: Duration::ZERO, attempts: 60 };
    let faults =
        [Fault::ErrorBefore(ObjectErrorKind::Transient), Fault::ErrorAfter(ObjectErrorKind::Transient)];
    conformance::run_where_answers_are_lost(&|| {
        let faulty = Faulty::new(memory(), Plan::seeded(seed, 250, faults));
        Arc::new(Retrying::new(Arc::new(faulty), patient))
    });
}

#[test]
fn limited() {
    let limits =
        Limits { bytes_per_second: NonZeroU64::new(4 << 30), requests_in_flight: NonZeroUsize::new(2) };
    conformance::run(&|| Arc::new(Limited::new(memory(), limits)));
}

#[test]
fn faulty_without_faults() {
    conformance::run(&|| Arc::new(Faulty::new(memory(), Plan::none())));
}

#[test]
fn counted() {
    conformance::run(&|| Arc::new(Counted::new(memory())));
}

/// The suite itself must fail where a store does not do what it should.
#[test]
fn a_store_that_lies_does_not_pass() {
    for fault in [Fault::Lie, Fault::Torn { keep_bytes: 1, then: None }, Fault::Flip { bit: 3 }] {
        let lying = || conformance::run(&|| Arc::new(Faulty::new(memory(), Plan::seeded(1, 1000, [fault]))));
        assert!(std::panic::catch_unwind(lying).is_err(), "{fault:?}");
    }
}
