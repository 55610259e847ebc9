//! A mirror in a repository passes the suite of mirrors.

use lifeboat_base::Secret;
use lifeboat_base::clock::Clock;
use lifeboat_carriers::RepositoryMirror;
use lifeboat_objects::directory::DirectoryStore;
use lifeboat_objects::memory::MemoryStore;
use lifeboat_objects::{Key, SharedStore};
use lifeboat_repository::{Environment, InitOptions, Lock, Repository};
use lifeboat_run::mirror::{Created, Left, Mirror, Slot, conformance};
use lifeboat_run::{RequestId, RunId};
use std::path::Path;
use std::sync::Arc;

fn repository(store: SharedStore, state: &Path) -> Arc<Repository> {
    let locks = [(Lock::Command(Secret::new(vec![7; 32])), "test".to_owned())];
    let environment = Environment {
        state: Some(state.to_owned()),
        writer_key: None,
        host: "here".to_owned(),
        clock: Clock::System,
    };
    Arc::new(Repository::init(store, &locks, &InitOptions::default(), environment).unwrap())
}

#[test]
fn in_memory_and_in_a_folder() {
    let place = tempfile::tempdir().unwrap();
    let folder = DirectoryStore::create(place.path().join("repository")).unwrap();
    let stores: [(&str, SharedStore); 2] =
        [("memory", Arc::new(MemoryStore::default())), ("folder", Arc::new(folder))];
    for (name, store) in stores {
        let state = place.path().join(name);
        std::fs::create_dir(&state).unwrap();
        let mirror = RepositoryMirror::new(&repository(store, &state)).unwrap();
        conformance::check(&mirror);
        assert_eq!(mirror.runs().unwrap().len(), 2);
    }
}

#[test]
fn who_only_reads_creates_nothing_and_what_is_no_request_is_named() {
    let place = tempfile::tempdir().unwrap();
    let store: SharedStore = Arc::new(MemoryStore::default());
    let repository = repository(store.clone(), place.path());
    let (mirror, reader) =
        (RepositoryMirror::new(&repository).unwrap(), RepositoryMirror::for_reading(&repository));
    let run: RunId = "20270115t080000z-00000001".parse().unwrap();
    let (slot, id) = (Slot { run: run.clone(), number: 0 }, RequestId([7; 16]));
    assert!(reader.create(&slot, b"x").is_err() && reader.leave(&run, &id, b"x").is_err());
    assert_eq!(mirror.create(&slot, b"x").unwrap(), Created::Created);
    mirror.leave(&run, &id, b"x").unwrap();
    assert_eq!(reader.read(&slot).unwrap(), Some(b"x".to_vec()));
    let from = Some(repository.writer().unwrap().id().to_string());
    assert_eq!(reader.request(&run, &id).unwrap(), Some(Left::Bytes { bytes: b"x".to_vec(), from }));
    // What somebody puts there who has no key of the repository.
    let noise = RequestId([8; 16]);
    store.create(&Key::new(format!("requests/{run}/{noise}")).unwrap(), b"noise").unwrap();
    assert_eq!(reader.requests(&run, 10).unwrap(), [id, noise]);
    assert!(matches!(reader.request(&run, &noise).unwrap(), Some(Left::Nonsense(_))));
    assert!(mirror.leave(&run, &noise, b"x").is_err());
}
