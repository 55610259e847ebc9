//! What every store must do, as one suite that is run on each.
//!
//! A store's own test makes fresh stores and calls [`run`]; it panics, as tests do, at the first thing that
//! is not as [`ObjectStore`] says.

use crate::{
    Creation, Key, Listed, MAX_OBJECT_BYTES, ObjectError, ObjectErrorKind, ObjectStore, SharedStore,
    list_all, suitability,
};
use std::ops::ControlFlow;
use std::sync::Barrier;
use std::thread;

/// Writers that race for one name.
const RACERS: u8 = 8;
/// How many races.
const RACES: u8 = 5;
/// The size of a full pack.
const LARGE_BYTES: usize = 32 << 20;

/// Runs the whole suite. `make` gives an empty store each time it is called.
///
/// # Panics
/// Where the store does otherwise than [`ObjectStore`] says.
pub fn run(make: &dyn Fn() -> SharedStore) {
    run_where_answers_are_lost(make);
    names_the_first_of_equals(&*make());
}

/// The same for a store whose answers may be lost on their way. Whoever asks it again and finds the very bytes that
/// it was to create cannot know whether they were there before; all else must be as everywhere.
///
/// # Panics
/// As [`run`].
pub fn run_where_answers_are_lost(make: &dyn Fn() -> SharedStore) {
    let checks: [fn(&dyn ObjectStore); 12] = [
        creates_once,
        a_race_has_one_winner,
        lists_strongly,
        lists_in_byte_order,
        lists_after_a_name,
        lists_under_a_prefix,
        a_visitor_may_break,
        reads_ranges,
        empty_objects,
        large_objects,
        not_found,
        deletes_again_and_again,
    ];
    for check in checks {
        check(&*make());
    }
    good(suitability(&*make()));
}

fn key(name: &str) -> Key {
    good(Key::new(name))
}

/// The value of something that must have worked.
#[track_caller]
fn good<T, E: std::error::Error>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|error| panic!("{}", lifeboat_base::report(&error)))
}

#[track_caller]
fn kind<T: std::fmt::Debug>(outcome: Result<T, ObjectError>) -> ObjectErrorKind {
    match outcome {
        Ok(value) => panic!("an error was expected, not {value:?}"),
        Err(error) => error.kind,
    }
}

fn put(store: &dyn ObjectStore, name: &str, bytes: &[u8]) {
    assert_eq!(good(store.create(&key(name), bytes)), Creation::Created, "{name}");
}

fn names(store: &dyn ObjectStore, prefix: &str) -> Vec<String> {
    good(list_all(store, prefix)).into_iter().map(|listed| listed.key.to_string()).collect()
}

fn names_after(store: &dyn ObjectStore, prefix: &str, after: &str) -> Vec<String> {
    let mut names = Vec::new();
    good(store.list(prefix, Some(&key(after)), &mut |listed| {
        names.push(listed.key.to_string());
        ControlFlow::Continue(())
    }));
    names
}

fn creates_once(store: &dyn ObjectStore) {
    put(store, "packs/aa/one", b"first");
    assert_eq!(good(store.create(&key("packs/aa/one"), b"second!")), Creation::Existed);
    assert_eq!(good(store.get(&key("packs/aa/one"))), b"first");
    let listed: Listed = good(store.head(&key("packs/aa/one")));
    assert_eq!((listed.key.as_str(), listed.size_bytes), ("packs/aa/one", 5));
    assert_eq!(good(list_all(store, "")), [listed]);
}

fn names_the_first_of_equals(store: &dyn ObjectStore) {
    put(store, "packs/aa/one", b"first");
    assert_eq!(good(store.create(&key("packs/aa/one"), b"first")), Creation::Existed, "equal bytes, too");
}

fn a_race_has_one_winner(store: &dyn ObjectStore) {
    for race in 0..RACES {
        let name = key(&format!("races/{race}"));
        let start = Barrier::new(RACERS.into());
        let bytes = |racer: u8| vec![racer; 1000 + usize::from(racer)];
        let run = |racer| {
            start.wait();
            good(store.create(&name, &bytes(racer)))
        };
        let outcomes: Vec<Creation> = thread::scope(|scope| {
            let run = &run;
            let racers: Vec<_> = (0..RACERS).map(|racer| scope.spawn(move || run(racer))).collect();
            racers.into_iter().flat_map(|racer| racer.join()).collect()
        });
        assert_eq!(outcomes.len(), usize::from(RACERS));
        let won = |racer: &u8| outcomes[usize::from(*racer)] == Creation::Created;
        let winners: Vec<u8> = (0..RACERS).filter(won).collect();
        assert_eq!(winners.len(), 1, "race {race}: {outcomes:?}");
        assert_eq!(good(store.get(&name)), bytes(winners[0]), "race {race}");
    }
}

fn lists_strongly(store: &dyn ObjectStore) {
    for number in 0..20 {
        let name = format!("strong/{number:02}");
        put(store, &name, b"x");
        assert_eq!(names(store, "strong/").last(), Some(&name));
        assert_eq!(names(store, "strong/").len(), number + 1);
    }
    for number in 0..20 {
        good(store.delete(&key(&format!("strong/{number:02}"))));
        assert_eq!(names(store, "strong/").len(), 19 - number);
    }
}

/// `-` and `.` sort before `/`, so that a directory's place among its siblings is that of its name with `/`.
const TRICKY: [&str; 8] = ["a-b/1", "a-b/c/1", "a.b", "a/1", "a/1-2", "a/b/1", "a0/1", "b"];

fn fill(store: &dyn ObjectStore) {
    for name in ["a0/1", "a/b/1", "b", "a-b/c/1", "a/1", "a.b", "a/1-2", "a-b/1"] {
        put(store, name, name.as_bytes());
    }
}

fn lists_in_byte_order(store: &dyn ObjectStore) {
    fill(store);
    assert_eq!(names(store, ""), TRICKY);
    for listed in good(list_all(store, "")) {
        assert_eq!(listed, good(store.head(&listed.key)));
        assert_eq!(listed.size_bytes, listed.key.as_str().len() as u64);
    }
}

fn lists_after_a_name(store: &dyn ObjectStore) {
    fill(store);
    for (number, after) in TRICKY.iter().enumerate() {
        assert_eq!(names_after(store, "", after), TRICKY[number + 1..], "after {after}");
    }
    assert_eq!(names_after(store, "", "a/0"), TRICKY[3..], "after a name that is not there");
    assert_eq!(names_after(store, "", "a-b"), TRICKY);
    assert_eq!(
        names_after(store, "a/", "a-b/1"),
        ["a/1", "a/1-2", "a/b/1"],
        "after a name before the prefix"
    );
    assert_eq!(names_after(store, "a/", "a/1-2"), ["a/b/1"]);
    assert_eq!(names_after(store, "a/", "b"), [""; 0]);
}

fn lists_under_a_prefix(store: &dyn ObjectStore) {
    fill(store);
    assert_eq!(names(store, "a/"), ["a/1", "a/1-2", "a/b/1"]);
    assert_eq!(names(store, "a-b/"), ["a-b/1", "a-b/c/1"]);
    assert_eq!(names(store, "a/b/"), ["a/b/1"]);
    for nothing in ["c/", "a/1/", "b/", "../", "a/../", "//"] {
        assert_eq!(names(store, nothing), [""; 0], "{nothing}");
    }
}

fn a_visitor_may_break(store: &dyn ObjectStore) {
    fill(store);
    for stop_at in 1..=TRICKY.len() {
        let mut seen = Vec::new();
        good(store.list("", None, &mut |listed| {
            seen.push(listed.key.to_string());
            if seen.len() == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }));
        assert_eq!(seen, TRICKY[..stop_at]);
    }
}

fn reads_ranges(store: &dyn ObjectStore) {
    put(store, "ranges", b"0123456789");
    let name = key("ranges");
    assert_eq!(good(store.get_range(&name, 0, 10)), b"0123456789");
    assert_eq!(good(store.get_range(&name, 3, 4)), b"3456");
    assert_eq!(good(store.get_range(&name, 9, 1)), b"9");
    assert_eq!(good(store.get_range(&name, 10, 0)), b"");
    assert_eq!(good(store.get_range(&name, 5, 0)), b"");
    for (offset, length) in
        [(9, 2), (10, 1), (11, 0), (11, 1), (0, 11), (u64::MAX, 1), (u64::MAX, usize::MAX), (1, usize::MAX)]
    {
        let found = kind(store.get_range(&name, offset, length));
        assert_eq!(found, ObjectErrorKind::Truncated, "{length} bytes from {offset}");
    }
}

fn empty_objects(store: &dyn ObjectStore) {
    put(store, "empty", b"");
    let name = key("empty");
    assert_eq!(good(store.create(&name, b"full")), Creation::Existed);
    assert_eq!(good(store.get(&name)), b"");
    assert_eq!(good(store.head(&name)).size_bytes, 0);
    assert_eq!(good(store.get_range(&name, 0, 0)), b"");
    assert_eq!(kind(store.get_range(&name, 0, 1)), ObjectErrorKind::Truncated);
    assert_eq!(names(store, ""), ["empty"]);
}

fn large_objects(store: &dyn ObjectStore) {
    let bytes = patterned(LARGE_BYTES);
    put(store, "packs/large", &bytes);
    let name = key("packs/large");
    assert!(good(store.get(&name)) == bytes, "a large object is read back as it was written");
    let middle = LARGE_BYTES / 2 - 7;
    assert!(good(store.get_range(&name, middle as u64, 1 << 20)) == bytes[middle..middle + (1 << 20)]);
    assert_eq!(good(store.head(&name)).size_bytes, LARGE_BYTES as u64);
    let too_large = vec![0; MAX_OBJECT_BYTES + 1];
    assert_eq!(kind(store.create(&key("packs/too-large"), &too_large)), ObjectErrorKind::Other);
    assert_eq!(names(store, ""), ["packs/large"]);
}

/// Bytes that differ at every offset that a confused server might use instead.
fn patterned(length: usize) -> Vec<u8> {
    (0..length / 4)
        .flat_map(|word| u32::try_from(word).unwrap_or(0).wrapping_mul(0x9e37_79b1).to_le_bytes())
        .collect()
}

fn not_found(store: &dyn ObjectStore) {
    put(store, "there/is/one", b"x");
    for name in
        ["nothing", "there/is/another", "there/nothing/here", "there/is/one/below", "there/is", "there"]
    {
        let name = key(name);
        assert_eq!(kind(store.get(&name)), ObjectErrorKind::NotFound, "{name}");
        assert_eq!(kind(store.get_range(&name, 0, 1)), ObjectErrorKind::NotFound, "{name}");
        assert_eq!(kind(store.get_range(&name, 0, 0)), ObjectErrorKind::NotFound, "{name}");
        assert_eq!(kind(store.head(&name)), ObjectErrorKind::NotFound, "{name}");
        good(store.delete(&name));
    }
    assert_eq!(names(store, ""), ["there/is/one"]);
}

fn deletes_again_and_again(store: &dyn ObjectStore) {
    put(store, "gone", b"first");
    good(store.delete(&key("gone")));
    good(store.delete(&key("gone")));
    assert_eq!(kind(store.get(&key("gone"))), ObjectErrorKind::NotFound);
    put(store, "gone", b"second");
    assert_eq!(good(store.get(&key("gone"))), b"second");
}
