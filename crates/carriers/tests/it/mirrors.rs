//! A mirror in a repository passes the suite of mirrors.

use lifeboat_base::Secret;
use lifeboat_base::clock::Clock;
use lifeboat_carriers::RepositoryMirror;
use lifeboat_objects::SharedStore;
use lifeboat_objects::directory::DirectoryStore;
use lifeboat_objects::memory::MemoryStore;
use lifeboat_repository::{Environment, InitOptions, Lock, Repository};
use lifeboat_run::mirror::{Mirror, conformance};
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
