//! A copy carries receipts verbatim.

use crate::support::{House, datasets, environment, event, secret, verify_in};
use lifeboat_evidence::{Verdict, Who};
use lifeboat_objects::memory::MemoryStore;
use lifeboat_objects::{Key, ObjectStore};
use lifeboat_repository::{InitOptions, Lock, Repository, copy};
use std::sync::Arc;

fn copy_of(house: &House, state: &std::path::Path) -> Arc<Repository> {
    let locks = [(Lock::Command(secret()), "copy".to_owned())];
    let environment = environment(state, &house.clock);
    let store = Arc::new(MemoryStore::new());
    Arc::new(
        Repository::init_copy(store, &house.repository, &locks, &InitOptions::default(), environment)
            .unwrap(),
    )
}

#[test]
fn receipts_go_along_once_and_verify_in_the_copy_by_the_origin_s_keys() {
    let house = House::new();
    let recorder = house.recorder();
    let state = tempfile::tempdir().unwrap();
    let target = copy_of(&house, state.path());
    recorder.record(event("first"), &house.repository);
    recorder.record(event("second"), &house.repository);
    assert_eq!(copy(&house.repository, &target, &[]).unwrap().receipts, 2);
    recorder.record(event("third"), &house.repository);
    assert_eq!(copy(&house.repository, &target, &[]).unwrap().receipts, 1);
    // The copy has receipts of its own beside them.
    let own = lifeboat_receipts::Recorder::new(
        state.path(),
        "copy",
        "host-2",
        Who::Operator,
        lifeboat_base::clock::Clock::Manual(house.clock.clone()),
    );
    own.record(event("of the copy"), &target);
    assert_eq!(copy(&house.repository, &target, &[]).unwrap().receipts, 0);
    let (bundle, report) = verify_in(&target);
    assert_eq!((report.verdict(), report.chains.len()), (Verdict::Sound, 2));
    let (origin, _) = house.verify();
    let carried = bundle.chains.iter().find(|chain| chain.id == origin.chains[0].id).unwrap();
    assert_eq!(*carried, origin.chains[0], "verbatim");
    assert_eq!(datasets(&bundle).len(), 4);
}

#[test]
fn what_cannot_be_read_in_the_origin_is_left_out_and_said() {
    let house = House::new();
    let recorder = house.recorder();
    let state = tempfile::tempdir().unwrap();
    let target = copy_of(&house, state.path());
    recorder.record(event("first"), &house.repository);
    let chain = house.verify().0.chains[0].id;
    let name = format!("receipts/{}/{}/000000000002", chain.repository, chain.writer);
    house.store.create(&Key::new(&name).unwrap(), b"junk").unwrap();
    let report = copy(&house.repository, &target, &[]).unwrap();
    assert_eq!(report.receipts, 1);
    assert!(matches!(&report.receipts_left_out[..], [left] if left.starts_with(&name)), "{report:?}");
}
