//! The fuzz targets of this crate as properties.

#[path = "../../../../fuzz/src/replay.rs"]
#[expect(unreachable_pub, reason = "several test programs and the fuzzers share it")]
mod replay;
#[path = "../../../../fuzz/src/objects.rs"]
#[expect(unreachable_pub, reason = "the fuzzers share it")]
mod targets;

use targets::TARGETS;

#[test]
fn real_texts_are_seeds() {
    replay::seed(TARGETS, "key", "config", b"config");
    replay::seed(TARGETS, "key", "pack", format!("packs/ab/{}", "ab".repeat(32)).as_bytes());
    replay::seed(TARGETS, "key", "snapshot", b"snapshots/users-1/a.b_c/000000000001");
    for (kind, text) in [
        ("path", "./lifeboat-repo"),
        ("file", "file:/var/backups/a b"),
        ("memory", "memory:"),
        ("s3", "s3://bucket/some/prefix?region=eu-central-1"),
        ("server", "s3://bucket?endpoint=http://127.0.0.1:8333&allow_http=true&listing=ordered&timeout=30"),
        ("gcs", "gs://bucket/prefix"),
    ] {
        replay::seed(TARGETS, "location", kind, text.as_bytes());
    }
}

#[test]
fn every_target_holds_on_its_corpus_and_on_mutations_of_it() {
    replay::run(TARGETS);
}
