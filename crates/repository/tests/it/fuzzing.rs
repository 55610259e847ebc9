//! The fuzz targets of this crate as properties. The test vectors of the format are their seeds.

#[path = "../../../../fuzz/src/replay.rs"]
#[expect(unreachable_pub, reason = "several test programs and the fuzzers share it")]
mod replay;
#[path = "../../../../fuzz/src/repository.rs"]
#[expect(unreachable_pub, reason = "the fuzzers share it")]
mod targets;

use lifeboat_base::hex;
use lifeboat_repository::RecoveryKey;
use std::path::Path;
use targets::TARGETS;

/// The vectors, by name.
fn vectors() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let paths = std::fs::read_dir(directory).unwrap().map(|item| item.unwrap().path());
    let mut vectors: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, unhex(&std::fs::read_to_string(path).unwrap()))
        })
        .collect();
    vectors.sort();
    vectors
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.split_whitespace().flat_map(str::chars).collect();
    digits.chunks(2).map(|pair| hex::decode::<1>(&pair.iter().collect::<String>()).unwrap()[0]).collect()
}

/// A table of one block that fills a pack as long as the table itself, which is what the target asks for.
fn table() -> Vec<u8> {
    const HEADER_BYTES: usize = 92;
    let chunk = |id: u8, length: u8| [&[0x82, 0x58, 32][..], &[id; 32], &[0x18, length]].concat();
    let with = |stored_bytes: u8| {
        // [[[kind, compressed, offset, stored bytes, raw bytes, [[id, length], …]]]]
        let head = [0x81, 0x81, 0x86, 0x00, 0xf5, 0x18, HEADER_BYTES as u8, 0x18, stored_bytes];
        [&head[..], &[0x18, 120, 0x83], &chunk(1, 30), &chunk(2, 40), &chunk(3, 50)].concat()
    };
    with((with(0).len() - HEADER_BYTES) as u8)
}

/// The body of a log of bytes, as docs/format.md has it.
fn log_body(end: u64) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    let body = encoder.map(11).unwrap();
    body.u8(0).unwrap().bytes(&[0x10; 16]).unwrap();
    body.u8(1).unwrap().str("users").unwrap();
    body.u8(2).unwrap().str("7-1").unwrap();
    body.u8(3).unwrap().u64(0).unwrap();
    body.u8(4).unwrap().u64(end).unwrap();
    body.u8(5).unwrap().i64(1_800_000_000_000_000_000).unwrap();
    body.u8(6).unwrap().i64(1_800_000_001_000_000_000).unwrap();
    body.u8(7).unwrap().bytes(&[0x11; 32]).unwrap();
    body.u8(8).unwrap().str("wal").unwrap();
    body.u8(9).unwrap().bool(false).unwrap();
    body.u8(11).unwrap().bytes(&[0x12; 32]).unwrap();
    encoder.into_writer()
}

/// A log object whose parts lie open, which none does in a store: the target reads without keys.
fn log_object() -> Vec<u8> {
    let part = |body: &[u8]| {
        let mut encoder = minicbor::Encoder::new(b"LBO\x01\x0f\0\0\0\0\0\0\0".to_vec());
        encoder.array(2).unwrap().bytes(body).unwrap().array(0).unwrap();
        encoder.into_writer()
    };
    let (head, payload) = (part(&log_body(5)), part(b"bytes"));
    let length = |part: &[u8]| u32::try_from(part.len()).unwrap().to_le_bytes();
    let front = [&b"LBG\x01"[..], &length(&head), &[0; 4], &length(&payload)].concat();
    [front, head, payload].concat()
}

#[test]
fn real_structures_are_seeds() {
    for (target, takes) in TARGETS {
        for (name, bytes) in vectors().into_iter().filter(|(_, bytes)| takes(bytes)) {
            replay::seed(TARGETS, target, &name, &bytes);
        }
    }
    replay::seed(TARGETS, "log", "body", &log_body(5));
    replay::seed(TARGETS, "log", "object", &log_object());
    replay::seed(TARGETS, "table", "one-block", &table());
    let recovery_key = RecoveryKey::generate().to_text();
    replay::seed(TARGETS, "recovery_key", "as-printed", recovery_key.as_bytes());
    replay::seed(
        TARGETS,
        "recovery_key",
        "as-typed",
        recovery_key.replace('-', " ").to_lowercase().as_bytes(),
    );
    let (writer, bulk) = ("5af98ba6df5e5f3c1e804fc2f476934c", "ab".repeat(32));
    for (kind, name) in [
        ("snapshot", format!("snapshots/users.db/{writer}/000000000042")),
        ("lease", format!("leases/users.db/{writer}/000000000042/000000000003")),
        ("pack", format!("packs/ab/{bulk}")),
        ("hold", format!("holds/{writer}")),
        ("verdict", "verdicts/000000000007".to_owned()),
    ] {
        replay::seed(TARGETS, "names", kind, name.as_bytes());
    }
}

#[test]
fn every_target_holds_on_its_corpus_and_on_mutations_of_it() {
    replay::run(TARGETS);
}
