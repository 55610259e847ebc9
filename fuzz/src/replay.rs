//! The fuzz targets of a crate as properties: every input of their corpora, and mutations of those.
//!
//! Included by path into the tests of the crates that have targets. Pin a run with `PROPTEST_RNG_SEED`.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use std::path::{Path, PathBuf};

/// How many mutations of each corpus are tried.
const MUTATIONS: u32 = 2000;

/// A target: its corpus, and the function that says whether it takes an input.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// What happens to an input.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Repeat(Index, Index),
    Insert(Index, Vec<u8>),
    Splice(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        (at(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (at(), prop_oneof![Just(0), Just(0x7f), Just(0xff), any::<u8>()])
            .prop_map(|(at, value)| Mutation::Set(at, value)),
        at().prop_map(Mutation::Cut),
        (at(), at()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
        (at(), proptest::collection::vec(any::<u8>(), 1..12))
            .prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at(), at()).prop_map(|(other, at)| Mutation::Splice(other, at)),
    ]
}

/// Applies a mutation; an empty input only grows.
fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation, corpus: &[Vec<u8>]) {
    let length = bytes.len();
    match mutation {
        Mutation::Insert(at, new) => {
            let at = at.index(length + 1);
            bytes.splice(at..at, new.iter().copied());
        }
        _ if length == 0 => {}
        Mutation::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
        Mutation::Set(at, value) => bytes[at.index(length)] = *value,
        Mutation::Cut(at) => bytes.truncate(at.index(length)),
        Mutation::Repeat(from, to) => {
            let (from, to) = (from.index(length), to.index(length));
            bytes.extend_from_within(from.min(to)..from.max(to));
        }
        Mutation::Splice(other, at) => {
            let other = other.get(corpus);
            let at = at.index(length);
            bytes.truncate(at);
            bytes.extend_from_slice(other.get(at..).unwrap_or_default());
        }
    }
}

fn corpus_directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name)
}

/// The inputs of a corpus, in the order of their names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = corpus_directory(name);
    let listing = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut inputs: Vec<_> = listing
        .map(|item| item.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

/// A structure that is made now, for the corpus of a target: the target takes it, and the corpus has one
/// like it. `LIFEBOAT_UPDATE_SEEDS=1` puts it there where there is none of that name.
pub fn seed(targets: &[Target], name: &str, kind: &str, bytes: &[u8]) {
    let (_, target) = targets.iter().find(|(own, _)| *own == name).unwrap();
    assert!(target(bytes), "target {name} does not take the {kind}");
    let path = corpus_directory(name).join(format!("seed-{kind}"));
    if std::env::var_os("LIFEBOAT_UPDATE_SEEDS").is_some() && !path.exists() {
        std::fs::create_dir_all(corpus_directory(name)).unwrap();
        put(&path, bytes);
    }
    assert!(path.exists(), "{} is missing: LIFEBOAT_UPDATE_SEEDS=1 makes it", path.display());
}

#[expect(clippy::disallowed_methods, reason = "a file of the sources, written by hand on demand")]
fn put(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

/// Runs every target over its corpus, which must hold inputs that it takes, and over mutations of it.
pub fn run(targets: &[Target]) {
    for (name, target) in targets {
        let inputs = corpus(name);
        let taken = inputs.iter().filter(|(path, bytes)| {
            let taken = target(bytes);
            let is_seed = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("seed-"));
            assert!(taken || !is_seed, "{} is a seed, and is not taken any more", path.display());
            taken
        });
        assert!(taken.count() > 0, "no input of the corpus {name} is taken");
        let inputs: Vec<Vec<u8>> = inputs.into_iter().map(|(_, bytes)| bytes).collect();
        mutations(name, *target, &inputs);
    }
}

fn mutations(name: &str, target: fn(&[u8]) -> bool, inputs: &[Vec<u8>]) {
    let mut runner =
        TestRunner::new(Config { cases: MUTATIONS, failure_persistence: None, ..Config::default() });
    let strategy = (any::<Index>(), proptest::collection::vec(mutation(), 0..6));
    let result = runner.run(&strategy, |(input, mutations)| {
        let mut bytes = input.get(inputs).clone();
        mutations.iter().for_each(|mutation| mutate(&mut bytes, mutation, inputs));
        target(&bytes);
        Ok(())
    });
    if let Err(error) = result {
        panic!("target {name}: {error}");
    }
}
