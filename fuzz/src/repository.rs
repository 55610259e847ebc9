//! Targets for what a repository reads from its store: envelopes, tables, nodes, bodies, names, recovery keys.

use lifeboat_repository::tree::{ListingBuilder, decode_node, is_safe_name};
use lifeboat_repository::{
    RecoveryKey, fuzz_bodies, fuzz_index, fuzz_list, fuzz_log, fuzz_names, fuzz_pages, fuzz_table,
    fuzz_unwrap,
};

/// A target: its corpus, and the function that says whether it takes an input.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target of this module.
pub const TARGETS: &[Target] = &[
    ("envelope", fuzz_unwrap),
    ("table", fuzz_table),
    ("index", fuzz_index),
    ("pages", fuzz_pages),
    ("list", fuzz_list),
    ("bodies", fuzz_bodies),
    ("log", fuzz_log),
    ("listing", listing),
    ("names", names),
    ("recovery_key", recovery_key),
];

/// A node of a listing: names are safe, and what was read can be written again, in one node or several.
pub fn listing(bytes: &[u8]) -> bool {
    let Ok(entries) = decode_node(bytes) else { return false };
    let mut builder = ListingBuilder::default();
    let mut nodes = Vec::new();
    for entry in &entries {
        assert!(is_safe_name(&entry.name), "{}", entry.display_name());
        nodes.extend(builder.push(entry).expect("entries of a node ascend"));
    }
    nodes.extend(builder.finish());
    let again: Vec<_> = nodes.iter().flat_map(|node| decode_node(node).expect("our own node")).collect();
    assert_eq!(again, entries);
    true
}

/// The name of a listed object.
pub fn names(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(fuzz_names)
}

/// A recovery key as somebody typed it: one that is taken is printed as one that is taken.
pub fn recovery_key(bytes: &[u8]) -> bool {
    let Some(key) = std::str::from_utf8(bytes).ok().and_then(RecoveryKey::from_text) else { return false };
    let printed = key.to_text();
    let again = RecoveryKey::from_text(&printed).expect("a printed key is one");
    assert_eq!(again.to_text(), printed);
    true
}
