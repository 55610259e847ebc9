//! The fuzz targets of this crate as properties.

#[path = "../../../fuzz/src/replay.rs"]
#[expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#[expect(unreachable_pub, reason = "several test programs and the fuzzers share it")]
mod replay;
#[path = "../../../fuzz/src/store.rs"]
#[expect(unreachable_pub, reason = "the fuzzers share it")]
mod targets;

use targets::TARGETS;

#[test]
fn real_patterns_are_seeds() {
    for (kind, text) in [
        ("name", "*.log\n\nvar/log/messages.log"),
        ("path", "/home/*/.cache/**\n!/home/*/.cache/keep\n\nhome/me/.cache/a/b"),
        ("directory", "target/\n**/node_modules/\n\nsrc/node_modules/x"),
        ("class", "[a-z0-9!_]?.[!o]\n\\*\n\na/b1.c"),
        ("many-stars", "**/a*b*c*d/**/e?[f-h]**\n\na/b/abcd/x/efg"),
    ] {
        replay::seed(TARGETS, "patterns", kind, text.as_bytes());
    }
}

#[test]
fn every_target_holds_on_its_corpus_and_on_mutations_of_it() {
    replay::run(TARGETS);
}
