//! The bodies of control objects: what each says, as CBOR maps with integer keys (docs/format.md, Bodies).
//!
//! A body that is bound to a position names it, so that an object that was moved to another name shows.
//! Unknown keys are ignored, so that later releases may add some that an older reader can do without.

use crate::crypto::{Argon2Cost, PublicKey};
use crate::ids::{
    BodyHash, BulkName, ChunkId, DatasetName, Position, RepositoryId, RequestId, RunName, TicketId, WriterId,
};
use crate::tree::Metadata;
use lifeboat_base::clock::Timestamp;
use minicbor::{Decode, Decoder, Encode, Encoder};
use std::collections::BTreeMap;

/// Wall time in bodies: nanoseconds since the epoch.
pub(crate) mod time {
    use super::*;

    pub(crate) fn encode<C, W: minicbor::encode::Write>(
        time: &Timestamp,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.i64(time.as_nanos())?;
        Ok(())
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Timestamp, minicbor::decode::Error> {
        Ok(Timestamp::from_nanos(d.i64()?))
    }

    pub(crate) mod option {
        use super::*;

        pub(crate) fn encode<C, W: minicbor::encode::Write>(
            time: &Option<Timestamp>,
            e: &mut Encoder<W>,
            ctx: &mut C,
        ) -> Result<(), minicbor::encode::Error<W::Error>> {
            time.map(Timestamp::as_nanos).encode(e, ctx)
        }

        pub(crate) fn decode<C>(
            d: &mut Decoder<'_>,
            ctx: &mut C,
        ) -> Result<Option<Timestamp>, minicbor::decode::Error> {
            Ok(Option::<i64>::decode(d, ctx)?.map(Timestamp::from_nanos))
        }
    }
}

/// What the repository is and how it is to be used. Created once, signed by the root.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Config {
    /// The repository.
    #[n(0)]
    pub repository: RepositoryId,
    /// The format of the objects in it.
    #[n(1)]
    pub format: u32,
    /// The root's public key: trusted only once a key slot or a person confirms it.
    #[n(2)]
    pub root: PublicKey,
    /// When it was made.
    #[cbor(n(3), with = "time")]
    pub created: Timestamp,
    /// How long a lease lasts without renewal, in seconds.
    #[n(4)]
    pub lease_secs: u64,
    /// How old an object that nothing refers to must be before prune condemns it, in seconds.
    #[n(5)]
    pub grace_secs: u64,
    /// How streams are cut into chunks.
    #[n(6)]
    pub chunker: ChunkerParameters,
    /// How much raw content is compressed together, in bytes.
    #[n(7)]
    pub block_bytes: u32,
    /// How large packs become, in bytes.
    #[n(8)]
    pub pack_bytes: u32,
    /// The level of zstd.
    #[n(9)]
    pub compression_level: i32,
    /// For a copy: the repository that it was made for.
    #[n(10)]
    pub copy_of: Option<RepositoryId>,
}

/// The parameters of FastCDC, frozen when the repository is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ChunkerParameters {
    /// The shortest chunk but the last, in bytes.
    #[n(0)]
    pub min_bytes: u32,
    /// What normalisation aims at, in bytes; a power of two.
    #[n(1)]
    pub average_bytes: u32,
    /// The longest chunk, in bytes.
    #[n(2)]
    pub max_bytes: u32,
}

/// How a key slot is opened.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum SlotLock {
    /// A passphrase, through Argon2id.
    #[n(0)]
    Passphrase {
        #[n(0)]
        cost: Argon2Cost,
        #[cbor(n(1), with = "minicbor::bytes")]
        salt: [u8; 16],
    },
    /// The recovery key: 32 random bytes, through HKDF.
    #[n(1)]
    Recovery {
        #[cbor(n(0), with = "minicbor::bytes")]
        salt: [u8; 16],
    },
    /// The X25519 public key of somebody, through HPKE.
    #[n(2)]
    PublicKey {
        #[cbor(n(0), with = "minicbor::bytes")]
        public: [u8; 32],
        #[cbor(n(1), with = "minicbor::bytes")]
        encapsulated: [u8; 32],
    },
    /// What an external command prints: at least 16 random bytes, through HKDF.
    #[n(3)]
    Command {
        #[cbor(n(0), with = "minicbor::bytes")]
        salt: [u8; 16],
    },
}

/// A key slot. Signed by the root.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Slot {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) id: TicketId,
    #[n(2)]
    pub(crate) lock: SlotLock,
    #[n(3)]
    pub(crate) admin: bool,
    #[cbor(n(4), with = "minicbor::bytes")]
    pub(crate) sealed: Vec<u8>,
}

/// What a slot seals.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct SlotSecrets {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) root: PublicKey,
    #[n(2)]
    pub(crate) epoch: u32,
    #[cbor(n(3), with = "minicbor::bytes")]
    pub(crate) epoch_private: [u8; 32],
    #[cbor(n(4), with = "minicbor::bytes")]
    pub(crate) id_key: [u8; 32],
    #[cbor(n(5), with = "minicbor::bytes")]
    pub(crate) root_seed: Option<Vec<u8>>,
}

impl Drop for SlotSecrets {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.epoch_private.zeroize();
        self.id_key.zeroize();
        self.root_seed.zeroize();
    }
}

/// What a writer may do. The numbers are format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Role {
    /// Publish snapshots and logs, read everything.
    #[n(0)]
    Write,
    /// Publish snapshots and logs, read nothing.
    #[n(1)]
    WriteOnly,
    /// Also forget, prune, void and compact.
    #[n(2)]
    Maintain,
}

/// A writer that the root trusts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EnrolledWriter {
    /// Its public key.
    #[n(0)]
    pub public: PublicKey,
    /// A name for people: the host, as a rule.
    #[n(1)]
    pub name: String,
    /// What it may do.
    #[n(2)]
    pub role: Role,
    /// The datasets that it may publish; none named: any.
    #[n(3)]
    pub datasets: Vec<DatasetName>,
    /// When it was enrolled.
    #[cbor(n(4), with = "time")]
    pub enrolled: Timestamp,
    /// When it was revoked: what the store received before then still counts, nothing after.
    #[cbor(n(5), with = "time::option")]
    pub revoked: Option<Timestamp>,
}

/// An epoch: a key pair that objects are sealed to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct EpochInfo {
    #[n(0)]
    pub(crate) number: u32,
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) public: [u8; 32],
    /// The private half of the epoch before, sealed to this one: encapsulated key, then ciphertext.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(crate) sealed_previous: Option<Vec<u8>>,
}

/// A key slot as the roster lists it, so that a missing one shows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SlotInfo {
    /// The slot.
    #[n(0)]
    pub id: TicketId,
    /// `passphrase`, `recovery`, `public-key` or `command`.
    #[n(1)]
    pub kind: String,
    /// Whether it holds the root key.
    #[n(2)]
    pub admin: bool,
    /// A name for people.
    #[n(3)]
    pub label: String,
    /// When it was made.
    #[cbor(n(4), with = "time")]
    pub created: Timestamp,
}

/// Who may write, what objects are sealed to, which slots there are. Numbered, signed by the root.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Roster {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) number: u64,
    #[n(2)]
    pub(crate) previous: Option<BodyHash>,
    #[n(3)]
    pub(crate) writers: Vec<EnrolledWriter>,
    #[n(4)]
    pub(crate) epochs: Vec<EpochInfo>,
    #[n(5)]
    pub(crate) slots: Vec<SlotInfo>,
}

/// The trust that a copy carries from its origin: signed by the copy's root.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Origin {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) origin: RepositoryId,
    #[n(2)]
    pub(crate) root: PublicKey,
    /// The origin's roster: body and signature, verbatim.
    #[n(3)]
    pub(crate) roster: crate::envelope::Signed,
    #[n(4)]
    pub(crate) number: u64,
}

/// How much a snapshot holds and what it cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SnapshotStats {
    /// Entries that are not directories.
    #[n(0)]
    pub files: u64,
    /// Directories.
    #[n(1)]
    pub directories: u64,
    /// Bytes of content, as restored.
    #[n(2)]
    pub content_bytes: u64,
    /// Bytes of content that the repository did not hold yet, before compression.
    #[n(3)]
    pub new_bytes: u64,
    /// Bytes that the new content takes in the repository.
    #[n(4)]
    pub stored_bytes: u64,
    /// Entries that could not be read and are missing.
    #[n(5)]
    pub left_out: u64,
    /// Entries that changed while they were read.
    #[n(6)]
    pub torn: u64,
    /// Entries that were taken from the snapshot before without being read.
    #[n(7)]
    pub unchanged: u64,
}

/// A snapshot: one dataset, whole, as of one instant.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Snapshot {
    /// The repository that it was made for.
    #[n(0)]
    pub repository: RepositoryId,
    /// Where it stands.
    #[n(1)]
    pub position: Position,
    /// The snapshot before it in its chain: its number and the hash of its body.
    #[n(2)]
    pub predecessor: Option<(u64, BodyHash)>,
    /// The instant that it shows: no acknowledged write before it is missing.
    #[cbor(n(3), with = "time")]
    pub taken: Timestamp,
    /// When it was complete.
    #[cbor(n(4), with = "time")]
    pub finished: Timestamp,
    /// The kind of store: `files`, `sqlite`, `stream`, …
    #[n(5)]
    pub store: String,
    /// What it was read from, for people: a path or a URL without secrets.
    #[n(6)]
    pub source: String,
    /// The host that read it.
    #[n(7)]
    pub host: String,
    /// The nodes of the root's listing.
    #[n(8)]
    pub root: Vec<ChunkId>,
    /// What the file system said of the root.
    #[n(9)]
    pub root_metadata: Metadata,
    /// How much it holds.
    #[n(10)]
    pub stats: SnapshotStats,
    /// What the driver wants to remember, under names of its own.
    #[n(11)]
    pub facts: BTreeMap<String, String>,
    /// The lineage of the store, where it has one.
    #[n(12)]
    pub lineage: Option<String>,
    /// The generation of leadership under which it was published, where there is one.
    #[n(13)]
    pub generation: Option<u64>,
    /// The release that made it.
    #[n(14)]
    pub program: String,
}

/// A snapshot of another repository: what its writer signed, verbatim, at a slot of the copier's chain.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct CopiedSnapshot {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) position: Position,
    /// Body and signature of the snapshot as the origin has it.
    #[n(2)]
    pub(crate) snapshot: crate::envelope::Signed,
    /// Snapshots of the same dataset that the origin had and that were not copied.
    #[n(3)]
    pub(crate) left_out: Vec<Position>,
    #[cbor(n(4), with = "time")]
    pub(crate) at: Timestamp,
}

/// A slot given up by its own writer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Release {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) position: Position,
}

/// A slot taken from a writer whose lease lapsed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Void {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) position: Position,
    #[cbor(n(2), with = "time")]
    pub(crate) at: Timestamp,
}

/// A forgotten snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Tombstone {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) position: Position,
    #[n(2)]
    pub(crate) snapshot: BodyHash,
    #[cbor(n(3), with = "time")]
    pub(crate) at: Timestamp,
    #[n(4)]
    pub(crate) reason: String,
}

/// A writer's claim of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Lease {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) position: Position,
    #[n(2)]
    pub(crate) renewal: u64,
    #[n(3)]
    pub(crate) base: Option<Position>,
    #[cbor(n(4), with = "time")]
    pub(crate) at: Timestamp,
    /// Makes the bytes of each claim its own, so that a retry recognises its own object.
    #[n(5)]
    pub(crate) nonce: TicketId,
}

/// A reader's claim: what it pins.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct ReaderLease {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) ticket: TicketId,
    #[n(2)]
    pub(crate) renewal: u64,
    #[n(3)]
    pub(crate) pins: Vec<Position>,
    #[cbor(n(4), with = "time")]
    pub(crate) at: Timestamp,
    #[n(5)]
    pub(crate) purpose: String,
}

/// The end of a reader's claim or of a hold.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct End {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) ticket: TicketId,
    #[cbor(n(2), with = "time")]
    pub(crate) at: Timestamp,
}

/// A hold: a snapshot that nothing may forget until the hold ends.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hold {
    /// The repository.
    #[n(0)]
    pub repository: RepositoryId,
    /// The hold.
    #[n(1)]
    pub ticket: TicketId,
    /// The snapshot.
    #[n(2)]
    pub position: Position,
    /// Since when.
    #[cbor(n(3), with = "time")]
    pub at: Timestamp,
    /// Why, for people.
    #[n(4)]
    pub reason: String,
}

/// A receipt as it lies in a repository: its own signature is within its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct ReceiptObject {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    /// The repository that it is of: another one in a copy.
    #[n(1)]
    pub(crate) origin: RepositoryId,
    #[n(2)]
    pub(crate) writer: WriterId,
    #[n(3)]
    pub(crate) number: u64,
    #[cbor(n(4), with = "minicbor::bytes")]
    pub(crate) receipt: Vec<u8>,
}

/// A record of a run as it lies in a repository. What it says is the run's business.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct RunRecordObject {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) run: RunName,
    #[n(2)]
    pub(crate) number: u64,
    #[cbor(n(3), with = "minicbor::bytes")]
    pub(crate) record: Vec<u8>,
}

/// A request to a run as it lies in a repository. What it asks for is the run's business.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct RunRequestObject {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) run: RunName,
    #[n(2)]
    pub(crate) id: RequestId,
    #[cbor(n(3), with = "minicbor::bytes")]
    pub(crate) request: Vec<u8>,
}

/// What prune means to delete (list), or may delete (verdict): bulk objects, never chunks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct BulkSet {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) number: u64,
    #[n(2)]
    pub(crate) packs: Vec<BulkName>,
    #[n(3)]
    pub(crate) indexes: Vec<BulkName>,
    #[n(4)]
    pub(crate) logs: Vec<String>,
    #[n(5)]
    pub(crate) writer: WriterId,
    /// In a list: logs that have expired, while `logs` are those that a compacted one replaces, since the
    /// verdict asks something else of each. A verdict names both in `logs`.
    #[n(6)]
    pub(crate) expired_logs: Option<Vec<String>>,
}

/// A generation of leadership.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Leader {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) generation: u64,
    #[n(2)]
    pub(crate) writer: WriterId,
    #[cbor(n(3), with = "time")]
    pub(crate) at: Timestamp,
    /// Makes the bytes of each candidacy its own, so that a retry recognises its own object and no other.
    #[n(4)]
    pub(crate) nonce: TicketId,
}

/// A sign of life of a leader.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Heartbeat {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) generation: u64,
    #[n(2)]
    pub(crate) number: u64,
    #[cbor(n(3), with = "time")]
    pub(crate) at: Timestamp,
    /// Whether it is the last one: the leader has stepped down, and nobody need wait until it is stale.
    #[n(4)]
    pub(crate) resigned: bool,
}

/// What a stretch of log is: the head of its object. The payload lies behind it and is bound by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct LogBody {
    #[n(0)]
    pub(crate) repository: RepositoryId,
    #[n(1)]
    pub(crate) dataset: DatasetName,
    #[n(2)]
    pub(crate) lineage: String,
    #[n(3)]
    pub(crate) start: u64,
    #[n(4)]
    pub(crate) end: u64,
    #[cbor(n(5), with = "time")]
    pub(crate) first: Timestamp,
    #[cbor(n(6), with = "time")]
    pub(crate) last: Timestamp,
    /// The hash of the body before it, as its writer saw it.
    #[n(7)]
    pub(crate) predecessor: Option<BodyHash>,
    #[n(8)]
    pub(crate) kind: String,
    /// Whether a position is a unit (true) or a byte of the payload.
    #[n(9)]
    pub(crate) units: bool,
    #[n(10)]
    pub(crate) generation: Option<u64>,
    /// SHA-256 of the payload.
    #[n(11)]
    pub(crate) payload: BodyHash,
    /// SHA-256 of the table, where this is a compacted log.
    #[n(12)]
    pub(crate) table: Option<BodyHash>,
}

/// What a compacted log remembers of the objects that it stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct LogTable {
    /// Until which position everything had arrived when, ascending by position.
    #[n(0)]
    pub(crate) marks: Vec<LogMark>,
    /// The objects whose content is in this one.
    #[n(1)]
    pub(crate) replaced: Vec<LogReplaced>,
}

/// An instant by which a log had reached a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogMark {
    /// Everything before this position had arrived.
    #[n(0)]
    pub end: u64,
    /// When.
    #[cbor(n(1), with = "time")]
    pub at: Timestamp,
}

/// An object that a compacted log replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct LogReplaced {
    #[n(0)]
    pub(crate) end: u64,
    #[n(1)]
    pub(crate) body: BodyHash,
}

/// Encodes a body.
pub(crate) fn encode<T: Encode<()>>(body: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    // Encoding into memory cannot fail.
    let _ = minicbor::encode(body, &mut bytes);
    bytes
}

/// Reads a body: all of it, nothing behind it.
pub(crate) fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, minicbor::decode::Error> {
    let mut decoder = Decoder::new(bytes);
    let body = decoder.decode()?;
    if decoder.position() == bytes.len() {
        Ok(body)
    } else {
        Err(minicbor::decode::Error::message("there are bytes behind the body"))
    }
}
