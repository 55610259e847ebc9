//! The directory store gives the answers of the reference in memory, whatever is done to both.

use lifeboat_objects::directory::DirectoryStore;
use lifeboat_objects::memory::MemoryStore;
use lifeboat_objects::{Key, ObjectError, ObjectStore};
use proptest::prelude::*;
use std::ops::ControlFlow;

#[derive(Clone, Debug)]
enum Action {
    Create(Key, Vec<u8>),
    Get(Key),
    GetRange(Key, u64, usize),
    Head(Key),
    Delete(Key),
    List { prefix: String, after: Option<Key>, most: usize },
    Reopen,
}

/// Objects have an `x` before their last component's name and directories do not, so that no name is the
/// directory of another.
fn directory() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "a-", "a-b", "a.b", "ab", "b_", "0"]), 0..3)
        .prop_map(|parts| parts.into_iter().map(|part| format!("{part}/")).collect())
}

fn key() -> impl Strategy<Value = Key> {
    (directory(), prop::sample::select(vec!["x", "x-", "x-1", "x.", "x0", "xa"]))
        .prop_map(|(directory, name)| Key::new(format!("{directory}{name}")).unwrap())
}

fn prefix() -> impl Strategy<Value = String> {
    prop_oneof![9 => directory(), 1 => prop::sample::select(vec!["../".to_owned(), "x/".to_owned(), "/".to_owned()])]
}

fn action() -> impl Strategy<Value = Action> {
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        6 => (key(), bytes).prop_map(|(key, bytes)| Action::Create(key, bytes)),
        2 => key().prop_map(Action::Get),
        2 => (key(), 0..25u64, 0..25usize).prop_map(|(key, offset, length)| Action::GetRange(key, offset, length)),
        1 => key().prop_map(Action::Head),
        2 => key().prop_map(Action::Delete),
        4 => (prefix(), prop::option::of(key()), 1..20usize)
            .prop_map(|(prefix, after, most)| Action::List { prefix, after, most }),
        1 => Just(Action::Reopen),
    ]
}

/// What a store answers, without the arrival time, in which the two differ.
fn answer(store: &dyn ObjectStore, action: &Action) -> String {
    fn shown<T: std::fmt::Debug>(outcome: Result<T, ObjectError>) -> String {
        format!("{:?}", outcome.map_err(|error| error.kind))
    }
    match action {
        Action::Create(key, bytes) => shown(store.create(key, bytes)),
        Action::Get(key) => shown(store.get(key)),
        Action::GetRange(key, offset, length) => shown(store.get_range(key, *offset, *length)),
        Action::Head(key) => shown(store.head(key).map(|listed| (listed.key, listed.size_bytes))),
        Action::Delete(key) => shown(store.delete(key)),
        Action::Reopen => String::new(),
        Action::List { prefix, after, most } => {
            let mut seen = Vec::new();
            let listed = store.list(prefix, after.as_ref(), &mut |listed| {
                seen.push((listed.key, listed.size_bytes));
                if seen.len() == *most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            shown(listed.map(|()| seen))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_directory_answers_as_memory_does(actions in prop::collection::vec(action(), 1..60)) {
        let temporary = tempfile::tempdir().unwrap();
        let memory = MemoryStore::new();
        let mut directory = DirectoryStore::create(temporary.path()).unwrap();
        for action in &actions {
            if matches!(action, Action::Reopen) {
                directory = DirectoryStore::open(temporary.path()).unwrap();
            }
            prop_assert_eq!(answer(&directory, action), answer(&memory, action), "{:?}", action);
        }
    }

    #[test]
    fn any_text_is_a_key_or_refused(text in "\\PC*") {
        if let Ok(key) = Key::new(text.clone()) {
            prop_assert_eq!(key.as_str(), text);
        }
    }

    #[test]
    fn no_key_leaves_its_root(text in "[a-z./_-]{0,30}") {
        if let Ok(key) = Key::new(text) {
            prop_assert!(key.as_str().split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
        }
    }
}
