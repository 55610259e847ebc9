//! Test vectors of the format: each structure built from fixed inputs, compared with the files that lie in
//! `tests/vectors` (their inputs are in `vectors.json` there), so that a change of the format shows and a
//! second implementation has something to measure itself against.
//!
//! Two directions. *Exact*: the bytes that we write are those of the file, and we read them back. *Decode*:
//! where a structure holds random bytes, the file must decode to the given values.
//!
//! `LIFEBOAT_UPDATE_VECTORS=1` writes the files. A file of the decode direction is written only where there
//! is none: what an earlier release wrote must go on being read.

mod logs;
mod names;

use crate::bodies::*;
use crate::chunker::Chunker;
use crate::crypto::{EpochPrivateKey, IdKey, Signer};
use crate::envelope::{self, ObjectType, Seal, Signed};
use crate::ids::*;
use crate::index::{self, IndexedPack};
use crate::keys::{self, EpochKeys, Keys, Lock, RecoveryKey, Unlock};
use crate::pack::{self, BlockKind, BlockRecord, ChunkRecord, PackBuilder, PackableBlock};
use crate::pages::{self, Leaf, LeafDelta, PageBlock, PageSlot};
use crate::tree::*;
use crate::walk::encode_list;
use lifeboat_base::clock::Timestamp;
use lifeboat_base::{Secret, crashsafe, hex};
use minicbor::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

const REPOSITORY: RepositoryId = RepositoryId([0x10; 16]);
const ORIGIN: RepositoryId = RepositoryId([0x11; 16]);
const TICKET: TicketId = TicketId([0x30; 16]);
const AT: Timestamp = Timestamp::from_nanos(1_800_000_000_123_456_789);
const PASSPHRASE: &[u8] = b"correct horse battery staple";
const EPOCH: u32 = 1;

fn id_key() -> IdKey {
    IdKey::from_bytes([0x07; 32])
}

fn root() -> Signer {
    Signer::from_seed(&[0x01; 32])
}

fn writer() -> Signer {
    Signer::from_seed(&[0x02; 32])
}

fn epoch_private() -> EpochPrivateKey {
    EpochPrivateKey::from_bytes(&[0x03; 32])
}

fn epoch_keys() -> EpochKeys {
    EpochKeys::new(EPOCH, epoch_private())
}

fn recovery_text() -> String {
    // The key is the bytes 0 to 31; `recovery_key_text` shows that this is its text.
    "LIFEBOAT-000G-40R4-0M30-E209-185G-R38E-1W81-24GK-2GAH-C5RR-34D1-P70X-3RFG-CC6W".to_owned()
}

fn position(number: u64) -> Position {
    Position { dataset: DatasetName::new("users").unwrap(), writer: writer().id(), number }
}

fn chunk(n: u8) -> ChunkId {
    ChunkId([n; 32])
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn path(name: &str) -> PathBuf {
    directory().join(format!("{name}.hex"))
}

fn updating() -> bool {
    std::env::var_os("LIFEBOAT_UPDATE_VECTORS").is_some_and(|value| value == "1")
}

/// Hexadecimal in lines of 32 bytes, so that a difference can be seen.
fn to_text(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| hex::encode(line) + "\n").collect()
}

fn stored(name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("vector {name}: {e}"));
    let digits: String = text.split_whitespace().collect();
    assert!(digits.len().is_multiple_of(2), "vector {name} has half a byte");
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| hex::decode::<1>(str::from_utf8(pair).unwrap()).unwrap()[0])
        .collect()
}

/// The bytes must be those of the file.
fn exact(name: &str, bytes: &[u8]) {
    if updating() {
        crashsafe::replace(&path(name), to_text(bytes).as_bytes()).unwrap();
    }
    assert!(stored(name) == bytes, "the bytes of {name} are not those of the vector:\n{}", to_text(bytes));
}

/// The file, which `make` makes only where it is missing and an update is wanted.
fn decoded(name: &str, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    if updating() && !path(name).exists() {
        crashsafe::replace(&path(name), to_text(&make()).as_bytes()).unwrap();
    }
    stored(name)
}

/// A body is written as the vector says and read back as it was.
fn body<T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + Debug>(name: &str, value: &T) {
    exact(name, &encode(value));
    assert_eq!(decode::<T>(&stored(name)).unwrap(), *value, "{name}");
}

#[test]
fn every_vector_is_described_and_every_description_has_its_vector() {
    let description = std::fs::read_to_string(directory().join("vectors.json")).unwrap();
    let described: BTreeSet<String> = description
        .lines()
        .filter_map(|line| line.trim().strip_prefix("\"name\": \"")?.strip_suffix("\","))
        .map(str::to_owned)
        .collect();
    let files: BTreeSet<String> = std::fs::read_dir(directory())
        .unwrap()
        .filter_map(|file| file.unwrap().file_name().to_str()?.strip_suffix(".hex").map(str::to_owned))
        .collect();
    assert_eq!(described, files);
}

/// The chapters of the format that say what bytes mean. Copies and lists stand under Bodies; the other
/// chapters are rules.
const CHAPTERS: [&str; 18] = [
    "Layout",
    "Envelope",
    "Signatures",
    "Key slots",
    "Recovery key",
    "Epochs",
    "Bodies",
    "Identities of chunks and pages",
    "Chunker",
    "Packs",
    "Index",
    "Trees",
    "Lists of chunks",
    "Page maps",
    "Logs",
    "Leaders",
    "Receipts",
    "Runs",
];

#[test]
fn every_chapter_with_structures_has_vectors_and_every_vector_a_chapter() {
    let description = std::fs::read_to_string(directory().join("vectors.json")).unwrap();
    let named: BTreeSet<&str> = description
        .lines()
        .filter_map(|line| line.trim().strip_prefix("\"section\": \"")?.strip_suffix("\","))
        .collect();
    for chapter in CHAPTERS {
        assert!(named.contains(chapter), "no vector shows what {chapter} says");
    }
    let format = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format.md");
    let text = std::fs::read_to_string(format).unwrap();
    let headings: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")))
        .collect();
    for chapter in named {
        assert!(headings.contains(chapter), "the format has no chapter {chapter}");
    }
}

#[test]
fn identities() {
    exact("chunk-id", &[id_key().chunk(b"lifeboat").0, id_key().chunk(b"").0].concat());
    exact("page-hash", &id_key().page(&[0x5a; 4096]).0);
    exact("writer-id", &[writer().public().0.as_slice(), &writer().id().0].concat());
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut data);
    data
}

fn boundaries(parameters: ChunkerParameters, bytes: usize) -> Vec<u8> {
    let chunker = Chunker::new(&id_key(), parameters);
    let data = noise(bytes);
    let (mut rest, mut lengths) = (data.as_slice(), Vec::new());
    while !rest.is_empty() {
        let cut = chunker.cut(rest);
        lengths.extend_from_slice(&(cut as u32).to_le_bytes());
        rest = &rest[cut..];
    }
    lengths
}

#[test]
fn chunks_end_where_they_always_ended() {
    let small = ChunkerParameters { min_bytes: 256, average_bytes: 1024, max_bytes: 4096 };
    exact("boundaries-small", &boundaries(small, 200_000));
    let usual = crate::repository::InitOptions::default().chunker;
    assert_eq!((usual.min_bytes, usual.average_bytes, usual.max_bytes), (131_072, 524_288, 2_097_152));
    exact("boundaries-default", &boundaries(usual, 16 << 20));
}

#[test]
fn recovery_key_text() {
    exact("recovery-key", recovery_text().as_bytes());
    let read = RecoveryKey::from_text(&recovery_text()).unwrap();
    assert_eq!(*read.to_text(), recovery_text());
    let slot = slot("slot-recovery", &Lock::Recovery(read), true);
    let unlock = Unlock::Passphrase(Secret::new(recovery_text().into_bytes()));
    opens(&slot, &unlock, true);
}

fn slot(name: &str, lock: &Lock, admin: bool) -> Slot {
    let keys = Keys {
        root: root().public(),
        epochs: epoch_keys(),
        id_key: id_key(),
        root_signer: Some(root()),
        slot: None,
    };
    let bytes = decoded(name, || encode(&keys::lock_slot(REPOSITORY, &keys, lock, admin).unwrap()));
    decode(&bytes).unwrap()
}

fn opens(slot: &Slot, unlock: &Unlock, admin: bool) {
    let keys = keys::open_slot(slot, unlock).unwrap();
    assert_eq!((keys.root, keys.slot), (root().public(), Some(slot.id)));
    assert_eq!(keys.id_key.expose(), [0x07; 32]);
    assert_eq!((keys.epochs.newest().0, keys.epochs.newest().1.expose()), (EPOCH, [0x03; 32].as_slice()));
    assert_eq!(keys.root_signer.map(|signer| signer.public()), admin.then(|| root().public()));
}

#[test]
fn slots_open() {
    let passphrase = Secret::new(PASSPHRASE.to_vec());
    let opened = slot("slot-passphrase", &Lock::Passphrase(passphrase.clone()), true);
    opens(&opened, &Unlock::Passphrase(passphrase), true);
    let command = Secret::new(vec![0x09; 16]);
    let opened = slot("slot-command-plain", &Lock::Command(command.clone()), false);
    opens(&opened, &Unlock::Command(command), false);
    let private = EpochPrivateKey::from_bytes(&[0x04; 32]);
    let opened = slot("slot-public-key", &Lock::PublicKey(private.public().unwrap()), true);
    opens(&opened, &Unlock::PrivateKey(private), true);
}

#[test]
fn slot_secrets() {
    let secrets = SlotSecrets {
        repository: REPOSITORY,
        root: root().public(),
        epoch: EPOCH,
        epoch_private: [0x03; 32],
        id_key: [0x07; 32],
        root_seed: Some(vec![0x01; 32]),
    };
    exact("slot-secrets", &encode(&secrets));
}

#[test]
fn an_older_epoch_opens_with_the_newer() {
    let newer = EpochPrivateKey::from_bytes(&[0x05; 32]);
    let sealed = decoded("epoch-previous", || {
        let mut info = b"lifeboat epoch 1\0".to_vec();
        info.extend_from_slice(&REPOSITORY.0);
        info.extend_from_slice(&2u32.to_le_bytes());
        let (encapsulated, sealed) =
            crate::crypto::seal_to_public(&[0x03; 32], &newer.public().unwrap(), &info).unwrap();
        [encapsulated.as_slice(), &sealed].concat()
    });
    let public = newer.public().unwrap().0;
    let mut keys = EpochKeys::new(2, newer);
    let epochs = [EpochInfo { number: 2, public, sealed_previous: Some(sealed) }];
    keys.unlock_older(&REPOSITORY, &epochs).unwrap();
    let pack = decoded("pack", build_pack);
    assert!(pack::open_key(&pack, &REPOSITORY, &keys).is_ok(), "a pack of the older epoch opens");
}

#[test]
fn signatures_and_open_envelopes() {
    let signed = Signed::new(ObjectType::Release, encode(&release()), &writer());
    let message = envelope::signed_message(ObjectType::Release, &signed.body);
    exact("signature", &[message.as_slice(), &signed.signatures[0].signature.0].concat());
    let bytes = envelope::wrap(ObjectType::Release, &signed, &REPOSITORY, Seal::Open).unwrap();
    exact("envelope-open", &bytes);
    assert_eq!(envelope::unwrap(&bytes, None, None).unwrap(), (ObjectType::Release, signed));
}

#[test]
fn sealed_envelopes() {
    let short = Signed::new(ObjectType::Hold, encode(&hold()), &writer());
    let long = Signed::new(ObjectType::Snapshot, encode(&snapshot()), &writer());
    for (name, kind, signed, flags) in [
        ("envelope-sealed", ObjectType::Hold, short, 1),
        ("envelope-sealed-compressed", ObjectType::Snapshot, long, 3),
    ] {
        let bytes = decoded(name, || {
            let public = epoch_private().public().unwrap();
            envelope::wrap(kind, &signed, &REPOSITORY, Seal::To { epoch: EPOCH, public: &public }).unwrap()
        });
        assert_eq!(envelope::header(&bytes).unwrap().flags, flags, "{name}");
        let opened = envelope::unwrap(&bytes, Some(&REPOSITORY), Some(&epoch_keys())).unwrap();
        assert_eq!(opened, (kind, signed), "{name}");
    }
}

fn release() -> Release {
    Release { repository: REPOSITORY, position: position(4) }
}

fn hold() -> Hold {
    Hold { repository: REPOSITORY, ticket: TICKET, position: position(3), at: AT, reason: "legal".to_owned() }
}

fn receipt_object() -> ReceiptObject {
    let receipt = br#"{"receipt":{"number":7,"version":1},"signature":"00"}"#.to_vec();
    ReceiptObject { repository: REPOSITORY, origin: ORIGIN, writer: writer().id(), number: 7, receipt }
}

fn run_record() -> RunRecordObject {
    let run = RunName::new("20261122t190000z-0a1b2c3d").unwrap();
    RunRecordObject { repository: REPOSITORY, run, number: 3, record: b"intent".to_vec() }
}

fn run_request() -> RunRequestObject {
    let run = RunName::new("20261122t190000z-0a1b2c3d").unwrap();
    RunRequestObject { repository: REPOSITORY, run, id: RequestId([0x32; 16]), request: b"pause".to_vec() }
}

fn metadata() -> Metadata {
    Metadata {
        mode: 0o750,
        uid: 1000,
        gid: 100,
        modified: FileTime { secs: -1, nanos: 999_999_999 },
        changed: FileTime { secs: 1_800_000_000, nanos: 1 },
        inode: 1 << 40,
        device: 2,
        links: 3,
        device_number: 0,
        xattrs: vec![Xattr { name: b"user.a".to_vec(), value: vec![0, 0xff] }],
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        repository: REPOSITORY,
        position: position(3),
        predecessor: Some((1, BodyHash([0x61; 32]))),
        taken: AT,
        finished: Timestamp::from_nanos(1_800_000_001_000_000_000),
        store: "files".to_owned(),
        source: "/srv/users".to_owned(),
        host: "db-1".to_owned(),
        root: vec![chunk(0x71), chunk(0x72)],
        root_metadata: metadata(),
        stats: SnapshotStats {
            files: 1,
            directories: 2,
            content_bytes: 3,
            new_bytes: 4,
            stored_bytes: 5,
            left_out: 6,
            torn: 7,
            unchanged: 8,
        },
        facts: BTreeMap::from([
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "é".to_owned()),
            // Long enough to be worth compressing.
            ("c".to_owned(), "facts ".repeat(100)),
        ]),
        lineage: Some("7-1".to_owned()),
        generation: None,
        program: "lifeboat 0.1.0".to_owned(),
    }
}

/// Under a leadership, and with what its logs need: every optional field there or away that is not in the
/// other one.
fn snapshot_of_leader() -> Snapshot {
    let tips = format!("{}:3 {}:12", writer().id(), root().id());
    let facts = [("leader-tips", tips.as_str()), ("log-position", "18446744073709551615")];
    Snapshot {
        predecessor: None,
        facts: facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        generation: Some(2),
        ..snapshot()
    }
}

fn roster() -> Roster {
    let enrolled = |seed: u8, role, datasets: &[&str], revoked| EnrolledWriter {
        public: Signer::from_seed(&[seed; 32]).public(),
        name: "db-1".to_owned(),
        role,
        datasets: datasets.iter().map(|name| DatasetName::new(name).unwrap()).collect(),
        enrolled: AT,
        revoked,
    };
    Roster {
        repository: REPOSITORY,
        number: 2,
        previous: Some(BodyHash([0x62; 32])),
        writers: vec![
            enrolled(2, Role::Maintain, &[], None),
            enrolled(8, Role::Write, &["users", "debates"], Some(AT)),
            enrolled(9, Role::WriteOnly, &["users"], None),
        ],
        epochs: vec![
            EpochInfo { number: 1, public: epoch_private().public().unwrap().0, sealed_previous: None },
            EpochInfo { number: 2, public: [0x63; 32], sealed_previous: Some(vec![0x64; 80]) },
        ],
        slots: vec![SlotInfo {
            id: TICKET,
            kind: "passphrase".to_owned(),
            admin: true,
            label: "me".to_owned(),
            created: AT,
        }],
    }
}

fn signed_roster() -> Signed {
    let body = encode(&Roster { repository: ORIGIN, ..roster() });
    Signed::new(ObjectType::Roster, body, &root())
}

#[test]
fn bodies_of_trust() {
    body("roster", &roster());
    body(
        "origin",
        &Origin {
            repository: REPOSITORY,
            origin: ORIGIN,
            root: root().public(),
            roster: signed_roster(),
            number: 2,
        },
    );
    body(
        "config",
        &Config {
            repository: REPOSITORY,
            format: 1,
            root: root().public(),
            created: AT,
            lease_secs: 900,
            grace_secs: 86_400,
            chunker: ChunkerParameters { min_bytes: 131_072, average_bytes: 524_288, max_bytes: 2_097_152 },
            block_bytes: 4 << 20,
            pack_bytes: 16 << 20,
            compression_level: -1,
            copy_of: Some(ORIGIN),
        },
    );
}

#[test]
fn bodies_at_slots() {
    body("snapshot", &snapshot());
    body("snapshot-of-leader", &snapshot_of_leader());
    body("release", &release());
    body("void", &Void { repository: REPOSITORY, position: position(5), at: AT });
    let copied = CopiedSnapshot {
        repository: REPOSITORY,
        position: position(6),
        snapshot: Signed::new(ObjectType::Snapshot, b"body".to_vec(), &writer()),
        left_out: vec![position(1), position(2)],
        at: AT,
    };
    body("copied-snapshot", &copied);
    let (snapshot, reason) = (BodyHash([0x65; 32]), "retention".to_owned());
    body("tombstone", &Tombstone { repository: REPOSITORY, position: position(3), snapshot, at: AT, reason });
}

#[test]
fn bodies_of_claims() {
    let (base, nonce) = (Some(position(3)), TicketId([0x31; 16]));
    let lease = Lease { repository: REPOSITORY, position: position(4), renewal: 2, base, at: AT, nonce };
    body("lease", &lease);
    body("lease-without-base", &Lease { base: None, renewal: 0, ..lease });
    let (pins, purpose) = (vec![position(3)], "restore".to_owned());
    body(
        "reader-lease",
        &ReaderLease { repository: REPOSITORY, ticket: TICKET, renewal: 0, pins, at: AT, purpose },
    );
    body("end", &End { repository: REPOSITORY, ticket: TICKET, at: AT });
    body("hold", &hold());
    body("receipt", &receipt_object());
    body("run-record", &run_record());
    body("run-request", &run_request());
}

#[test]
fn bodies_of_prune() {
    let set = BulkSet {
        repository: REPOSITORY,
        number: 1,
        packs: vec![BulkName([0x41; 32]), BulkName([0x42; 32])],
        indexes: vec![BulkName([0x43; 32])],
        logs: vec!["logs/users/7-1/0000000000000000-0000000000000010".to_owned()],
        writer: writer().id(),
        expired_logs: None,
    };
    body("condemn-list", &set);
    let replaced = logs::name(0x10, 0x20, 1);
    let expired = Some(vec![logs::name(0, 0x10, 2)]);
    let list = BulkSet { logs: vec![replaced], expired_logs: expired, ..set.clone() };
    body("condemn-list-with-logs", &list);
    let logs = [list.logs, list.expired_logs.unwrap_or_default()].concat();
    body("verdict-with-logs", &BulkSet { logs, ..set.clone() });
    body("verdict", &BulkSet { packs: vec![BulkName([0x41; 32])], logs: Vec::new(), ..set });
}

/// Two blocks: one of data with two chunks, compressed; one with a difference, as it is.
fn blocks() -> Vec<(BlockKind, bool, Vec<u8>, Vec<ChunkRecord>)> {
    let data = b"lifeboat ".repeat(100);
    let whole =
        |bytes: &[u8]| ChunkRecord { id: id_key().chunk(bytes), length: bytes.len() as u32, base: None };
    let chunks = vec![whole(&data[..500]), whole(&data[500..])];
    let delta = delta().1;
    let record = ChunkRecord { id: chunk(0x51), length: delta.len() as u32, base: Some(chunk(0x52)) };
    vec![(BlockKind::Data, true, data, chunks), (BlockKind::Delta, false, delta, vec![record])]
}

fn build_pack() -> Vec<u8> {
    let public = epoch_private().public().unwrap();
    let mut builder = PackBuilder::new(&REPOSITORY, EPOCH, &public, Vec::new()).unwrap();
    for (kind, compressed, raw, chunks) in blocks() {
        let raw_bytes = raw.len() as u32;
        let bytes = if compressed { zstd::bulk::compress(&raw, 3).unwrap() } else { raw };
        builder.push(PackableBlock { kind, compressed, raw_bytes, bytes, chunks });
    }
    builder.finish().bytes
}

#[test]
fn packs() {
    let bytes = decoded("pack", build_pack);
    exact("pack-name", &BulkName::of(&bytes).0);
    let key = pack::open_key(&bytes, &REPOSITORY, &epoch_keys()).unwrap();
    let table = pack::read_table(&bytes, &key).unwrap();
    assert_eq!(table.len(), 2);
    for (number, (record, (kind, compressed, raw, chunks))) in table.iter().zip(blocks()).enumerate() {
        assert_eq!((record.kind, record.compressed, &record.chunks), (kind, compressed, &chunks));
        let mut block = bytes[record.offset as usize..][..record.stored_bytes as usize].to_vec();
        pack::decrypt_block(&key, number as u64, kind, compressed, &mut block).unwrap();
        if compressed {
            let mut inflated = Vec::new();
            pack::Inflater::default().inflate(&block, record.raw_bytes as usize, &mut inflated).unwrap();
            block = inflated;
        }
        assert!(block == raw, "block {number}");
    }
}

#[test]
fn a_pack_with_a_feature_of_a_later_release_is_refused() {
    let mut bytes = decoded("pack", build_pack);
    bytes[4] = 1;
    let refused = pack::open_key(&bytes, &REPOSITORY, &epoch_keys()).unwrap_err();
    assert_eq!(refused, pack::PackError::Unsupported);
}

#[test]
fn index_tables() {
    let block = |kind, compressed, offset, chunks: Vec<ChunkRecord>| BlockRecord {
        kind,
        compressed,
        offset,
        stored_bytes: 60,
        raw_bytes: chunks.iter().map(|chunk| chunk.length).sum(),
        chunks,
    };
    let plain = |n, length| ChunkRecord { id: chunk(n), length, base: None };
    let delta = ChunkRecord { base: Some(chunk(0x52)), ..plain(0x51, 70) };
    let first = vec![
        block(BlockKind::Data, true, 92, vec![plain(0x54, 10), plain(0x53, 20)]),
        block(BlockKind::Delta, false, 152, vec![delta]),
    ];
    let second = vec![block(BlockKind::Node, true, 92, vec![plain(0x52, 200)])];
    let packs = vec![
        IndexedPack { name: BulkName([0x41; 32]), size_bytes: 1000, blocks: first },
        IndexedPack { name: BulkName([0x42; 32]), size_bytes: 900, blocks: second },
    ];
    let mut bytes = index::encode(&REPOSITORY, &packs);
    // The random part, which makes no two index objects alike.
    bytes[20..36].fill(0x77);
    exact("index-table", &bytes);
    assert_eq!(index::decode(&bytes).unwrap(), (REPOSITORY, packs));
}

fn entries() -> Vec<Entry> {
    let entry = |name: &str, kind, content| Entry {
        kind,
        content,
        metadata: Metadata { xattrs: Vec::new(), ..metadata() },
        ..Entry::new(name, kind)
    };
    let extents = vec![Extent { offset: 10, length: 20 }, Extent { offset: 4096, length: 1 }];
    let device = Metadata { device_number: 0x0801, ..Metadata::default() };
    vec![
        Entry { metadata: device.clone(), ..entry("a-block", EntryKind::BlockDevice, Content::Nothing) },
        Entry { metadata: device, ..entry("b-char", EntryKind::CharDevice, Content::Nothing) },
        entry("c-dir", EntryKind::Directory, Content::Listing { nodes: vec![chunk(0x81), chunk(0x82)] }),
        entry("d-empty", EntryKind::File, Content::Nothing),
        entry("e-fifo", EntryKind::Fifo, Content::Nothing),
        Entry {
            size: 30,
            torn: true,
            ..entry(
                "f-file",
                EntryKind::File,
                Content::Chunks { chunks: vec![chunk(0x83)], depth: 0, extents: Vec::new() },
            )
        },
        Entry {
            size: 30,
            ..entry("g-hard", EntryKind::File, Content::HardLink { path: b"c-dir/x\xff".to_vec() })
        },
        Entry {
            size: 8192,
            ..entry(
                "h-pages",
                EntryKind::File,
                Content::Pages { page_bytes: 4096, root: chunk(0x84), depth: 1 },
            )
        },
        entry("i-socket", EntryKind::Socket, Content::Nothing),
        Entry {
            size: 10_000,
            ..entry(
                "j-sparse",
                EntryKind::File,
                Content::Chunks { chunks: vec![chunk(0x85)], depth: 2, extents },
            )
        },
        entry("k-link", EntryKind::Symlink, Content::Target { path: b"../else".to_vec() }),
        Entry { metadata: metadata(), ..entry("l-xattr", EntryKind::File, Content::Nothing) },
    ]
}

#[test]
fn listings() {
    let mut builder = ListingBuilder::default();
    for entry in entries() {
        assert_eq!(builder.push(&entry).unwrap(), None);
    }
    let node = builder.finish().unwrap();
    exact("listing-node", &node);
    assert_eq!(decode_node(&node).unwrap(), entries());
}

#[test]
fn nodes_end_where_they_always_ended() {
    let mut builder = ListingBuilder::default();
    let mut counts = Vec::new();
    let mut count = |node: Vec<u8>| counts.extend((decode_node(&node).unwrap().len() as u32).to_le_bytes());
    for n in 0..5000 {
        builder
            .push(&Entry::new(format!("{n:06}"), EntryKind::File))
            .unwrap()
            .into_iter()
            .for_each(&mut count);
    }
    builder.finish().into_iter().for_each(&mut count);
    exact("listing-cuts", &counts);
}

#[test]
fn lists_of_chunks() {
    exact("list-of-chunks", &encode_list(&[chunk(0x91), chunk(0x92), chunk(0x91)]));
}

/// A leaf, and a difference to it.
fn leaf() -> Leaf {
    let stored = |block, slot: u16| PageSlot::Stored {
        block: chunk(block),
        slot,
        hash: id_key().page(&[slot as u8; 512]),
    };
    Leaf { slots: vec![stored(0xb2, 0), PageSlot::Zero, stored(0xb1, 1023), stored(0xb2, 2), PageSlot::Zero] }
}

fn delta() -> (Leaf, Vec<u8>) {
    let base = leaf();
    let mut changed = base.clone();
    changed.slots[1] = PageSlot::Stored { block: chunk(0xb3), slot: 0, hash: id_key().page(&[7; 512]) };
    changed.slots[3] = PageSlot::Zero;
    let bytes = changed.encode_delta(&base, &id_key().chunk(&base.encode()), 2).unwrap();
    (changed, bytes)
}

#[test]
fn nodes_of_page_maps() {
    exact("leaf", &leaf().encode());
    assert_eq!(Leaf::decode(&stored("leaf")).unwrap(), leaf());
    let (changed, bytes) = delta();
    exact("delta", &bytes);
    let read = LeafDelta::decode(&bytes).unwrap();
    assert_eq!((read.base, read.depth), (id_key().chunk(&leaf().encode()), 3));
    assert_eq!(read.apply(leaf()).unwrap(), changed);
    exact("delta-applied", &changed.encode());
    let children = [chunk(0xa1), chunk(0xa2)];
    exact("inner-node", &pages::encode_inner(&children));
    assert_eq!(pages::decode_inner(&stored("inner-node")).unwrap(), children);
}

#[test]
fn page_blocks() {
    let pages: Vec<[u8; 512]> = (1..=10).map(|n| [n; 512]).collect();
    let slots: Vec<Option<&[u8]>> = pages.iter().map(|page| Some(page.as_slice())).collect();
    let whole = pages::encode_page_block(512, &slots);
    exact("page-block", &whole);
    exact("page-block-id", &id_key().chunk(&whole).0);
    let sparse = PageBlock::decode(&whole).unwrap().without(|slot| slot == 2 || slot == 9);
    exact("page-block-sparse", &sparse);
    let read = PageBlock::decode(&sparse).unwrap();
    assert!(!read.is_whole() && read.slots() == 10);
    assert_eq!((read.page(2), read.page(9)), (slots[2], slots[9]));
    assert_eq!((read.page(3), read.page(10)), (None, None));
}
