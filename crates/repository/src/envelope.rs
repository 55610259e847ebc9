//! The envelope: how every object but packs lies in the store (docs/format.md, Envelope).
//!
//! An envelope holds a body and the signatures over it. The body is what the repository means; it refers by
//! identity and never by pack name, so that a copy under other keys can carry body and signatures verbatim.
//! A sealed envelope is encrypted to the epoch that it names, an open one can be read without any key.

use crate::crypto::{
    ContentKey, ENCAPSULATED_BYTES, EpochPublicKey, SEALED_KEY_BYTES, SealedKey, Signature, Signer, sha256,
};
use crate::error::{RepositoryError, Result};
use crate::ids::{RepositoryId, WriterId};
use crate::keys::EpochKeys;
use lifeboat_objects::MAX_OBJECT_BYTES;
use minicbor::{Decode, Encode};
use std::cell::RefCell;

/// The format that this release writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

const MAGIC: &[u8; 3] = b"LBO";
const HEADER_BYTES: usize = 12;
const FLAG_SEALED: u8 = 1;
const FLAG_COMPRESSED: u8 = 2;
/// The largest body, so that a forged length cannot exhaust memory.
const MAX_BODY_BYTES: usize = 256 << 20;
/// Bodies from this size on are compressed.
const COMPRESS_FROM_BYTES: usize = 512;

/// What an object is. The numbers are format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ObjectType {
    /// What the repository is: `config`.
    Config = 1,
    /// A key slot.
    Slot = 2,
    /// The writers, epochs and slots.
    Roster = 3,
    /// Where chunks are.
    Index = 4,
    /// A snapshot.
    Snapshot = 5,
    /// A slot given up by its own writer.
    Release = 6,
    /// A slot taken from a writer whose lease lapsed.
    Void = 7,
    /// A forgotten snapshot.
    Tombstone = 8,
    /// A writer's claim of a slot, or its renewal.
    Lease = 9,
    /// A reader's claim, or its renewal.
    ReaderLease = 10,
    /// The end of a reader's claim or of a hold.
    End = 11,
    /// A hold on a snapshot.
    Hold = 12,
    /// What prune means to delete.
    CondemnList = 13,
    /// What prune may delete.
    Verdict = 14,
    /// A stretch of log.
    Log = 15,
    /// A generation of leadership.
    Leader = 16,
    /// A sign of life of a leader.
    Heartbeat = 17,
    /// The trust that a copy carries from its origin.
    Origin = 18,
    /// A pack; never in an envelope, but it names the keys of packs.
    Pack = 19,
    /// A snapshot that was copied from another repository, verbatim.
    CopiedSnapshot = 20,
    /// A receipt of something that was done.
    Receipt = 21,
    /// A record of a run.
    RunRecord = 22,
    /// A request to a run.
    RunRequest = 23,
}

impl ObjectType {
    fn from_number(number: u8) -> Option<Self> {
        use ObjectType::*;
        [
            Config,
            Slot,
            Roster,
            Index,
            Snapshot,
            Release,
            Void,
            Tombstone,
            Lease,
            ReaderLease,
            End,
            Hold,
            CondemnList,
            Verdict,
            Log,
            Leader,
            Heartbeat,
            Origin,
            CopiedSnapshot,
            Receipt,
            RunRecord,
            RunRequest,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }
}

/// A body with the signatures over it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Signed {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) body: Vec<u8>,
    #[n(1)]
    pub(crate) signatures: Vec<BodySignature>,
}

/// One signature over a body.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct BodySignature {
    #[n(0)]
    pub(crate) signer: WriterId,
    #[n(1)]
    pub(crate) signature: Signature,
}

impl Signed {
    /// Signs a body.
    pub(crate) fn new(kind: ObjectType, body: Vec<u8>, signer: &Signer) -> Self {
        let mut signed = Self { body, signatures: Vec::new() };
        signed.countersign(kind, signer);
        signed
    }

    /// Adds a signature; nobody signs twice.
    pub(crate) fn countersign(&mut self, kind: ObjectType, signer: &Signer) {
        let signature = signer.sign(&signed_message(kind, &self.body));
        if self.signatures.iter().all(|known| known.signer != signer.id()) {
            self.signatures.push(BodySignature { signer: signer.id(), signature });
        }
    }
}

/// What a signature covers: the kind of object and the hash of the body.
pub(crate) fn signed_message(kind: ObjectType, body: &[u8]) -> Vec<u8> {
    let mut message = b"lifeboat object 1\0".to_vec();
    message.push(kind as u8);
    message.extend_from_slice(&sha256(body));
    message
}

/// To whom envelopes are sealed, or nobody.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seal<'a> {
    /// Readable without a key: what a write-only host must read, and what opens before any key.
    Open,
    /// Encrypted to an epoch.
    To { epoch: u32, public: &'a EpochPublicKey },
}

/// The `info` of HPKE: binds a sealed key to the repository, the kind of object and the epoch.
pub(crate) fn seal_info(repository: &RepositoryId, kind: ObjectType, epoch: u32) -> Vec<u8> {
    let mut info = b"lifeboat seal 1\0".to_vec();
    info.extend_from_slice(&repository.0);
    info.push(kind as u8);
    info.extend_from_slice(&epoch.to_le_bytes());
    info
}

/// Writes an envelope.
pub(crate) fn wrap(
    kind: ObjectType,
    signed: &Signed,
    repository: &RepositoryId,
    seal: Seal<'_>,
) -> Result<Vec<u8>> {
    let mut payload = Vec::with_capacity(signed.body.len() + 128);
    minicbor::encode(signed, &mut payload).map_err(|e| RepositoryError::damaged("new object", e))?;
    let mut flags = 0;
    // An open object is never compressed: nothing but its signature protects it, and a compressed form
    // could be changed without changing what it says.
    if matches!(seal, Seal::To { .. })
        && payload.len() >= COMPRESS_FROM_BYTES
        && let Some(compressed) = compress(&payload)
    {
        payload = compressed;
        flags |= FLAG_COMPRESSED;
    }
    let mut bytes = Vec::with_capacity(payload.len() + 128);
    bytes.extend_from_slice(MAGIC);
    bytes.push(FORMAT as u8);
    bytes.push(kind as u8);
    match seal {
        Seal::Open => {
            bytes.extend_from_slice(&[flags, 0, 0]);
            bytes.extend_from_slice(&0u32.to_le_bytes());
            bytes.extend_from_slice(&payload);
        }
        Seal::To { epoch, public } => {
            bytes.extend_from_slice(&[flags | FLAG_SEALED, 0, 0]);
            bytes.extend_from_slice(&epoch.to_le_bytes());
            let key = ContentKey::random();
            let sealed = SealedKey::seal(key.expose(), public, &seal_info(repository, kind, epoch))
                .map_err(|e| RepositoryError::damaged("the epoch's public key", e))?;
            bytes.extend_from_slice(&sealed.encapsulated);
            bytes.extend_from_slice(&sealed.sealed);
            key.seal(0, &bytes, &mut payload);
            bytes.extend_from_slice(&payload);
        }
    }
    if bytes.len() > MAX_OBJECT_BYTES {
        return Err(RepositoryError::damaged(
            "new object",
            format!("{} bytes are too many for one object", bytes.len()),
        ));
    }
    Ok(bytes)
}

thread_local! {
    /// Kept, since making one costs as much as a small object's compression.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> =
        RefCell::new(zstd::bulk::Compressor::new(3).ok());
}

fn compress(payload: &[u8]) -> Option<Vec<u8>> {
    let compressed = COMPRESSOR.with_borrow_mut(|compressor| compressor.as_mut()?.compress(payload).ok())?;
    let length = u32::try_from(payload.len()).ok()?;
    let mut framed = length.to_le_bytes().to_vec();
    framed.extend_from_slice(&compressed);
    (framed.len() < payload.len()).then_some(framed)
}

/// What an envelope says before any key is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: ObjectType,
    pub(crate) flags: u8,
    pub(crate) epoch: u32,
}

/// Why an envelope could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It does not start as an object of a repository.
    #[error("not an object of a repository")]
    Magic,
    /// It was written by a newer release.
    #[error("format {0} is newer than this release")]
    Newer(u32),
    /// It ends too early or holds something else than it says.
    #[error("{0}")]
    Malformed(&'static str),
    /// It does not decrypt: damaged, swapped, or sealed to another repository.
    #[error("it does not decrypt")]
    Undecryptable,
}

/// Reads the header of an envelope.
pub(crate) fn header(bytes: &[u8]) -> std::result::Result<Header, EnvelopeError> {
    let header = bytes.get(..HEADER_BYTES).ok_or(EnvelopeError::Magic)?;
    if &header[..3] != MAGIC {
        return Err(EnvelopeError::Magic);
    }
    if u32::from(header[3]) > FORMAT {
        return Err(EnvelopeError::Newer(u32::from(header[3])));
    }
    let kind =
        ObjectType::from_number(header[4]).ok_or(EnvelopeError::Malformed("an unknown type of object"))?;
    let flags = header[5];
    if header[3] == 0 || flags & !(FLAG_SEALED | FLAG_COMPRESSED) != 0 || header[6..8] != [0, 0] {
        return Err(EnvelopeError::Malformed("unknown flags"));
    }
    let epoch = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if flags & FLAG_SEALED == 0 && (epoch != 0 || flags != 0) {
        return Err(EnvelopeError::Malformed("an open object names an epoch or is compressed"));
    }
    Ok(Header { kind, flags, epoch })
}

/// Reads an envelope. `keys` may be missing where it must be open. The signatures are not checked here:
/// who may sign what is for [`crate::trust`] to say.
pub(crate) fn unwrap(
    bytes: &[u8],
    repository: Option<&RepositoryId>,
    keys: Option<&EpochKeys>,
) -> std::result::Result<(ObjectType, Signed), EnvelopeError> {
    let header = header(bytes)?;
    let payload = if header.flags & FLAG_SEALED == 0 {
        bytes[HEADER_BYTES..].to_vec()
    } else {
        unseal(bytes, header, repository, keys)?
    };
    let payload = if header.flags & FLAG_COMPRESSED == 0 { payload } else { decompress(&payload)? };
    let mut decoder = minicbor::Decoder::new(&payload);
    let signed: Signed =
        decoder.decode().map_err(|_| EnvelopeError::Malformed("the payload is not a signed body"))?;
    if decoder.position() != payload.len() {
        return Err(EnvelopeError::Malformed("there are bytes behind the signed body"));
    }
    Ok((header.kind, signed))
}

fn unseal(
    bytes: &[u8],
    header: Header,
    repository: Option<&RepositoryId>,
    keys: Option<&EpochKeys>,
) -> std::result::Result<Vec<u8>, EnvelopeError> {
    const KEY_END: usize = HEADER_BYTES + ENCAPSULATED_BYTES + SEALED_KEY_BYTES;
    let (Some(repository), Some(keys)) = (repository, keys) else {
        return Err(EnvelopeError::Malformed("it is sealed, and should be open"));
    };
    let short = EnvelopeError::Malformed("it ends within its key");
    let associated = bytes.get(..KEY_END).ok_or(short.clone())?;
    let sealed = SealedKey {
        encapsulated: associated[HEADER_BYTES..HEADER_BYTES + ENCAPSULATED_BYTES]
            .try_into()
            .map_err(|_| short.clone())?,
        sealed: associated[HEADER_BYTES + ENCAPSULATED_BYTES..].try_into().map_err(|_| short)?,
    };
    let key = keys
        .open(header.epoch, &sealed, &seal_info(repository, header.kind, header.epoch))
        .map_err(|_| EnvelopeError::Undecryptable)?;
    let mut payload = bytes[KEY_END..].to_vec();
    ContentKey::from_bytes(key)
        .open(0, associated, &mut payload)
        .map_err(|_| EnvelopeError::Undecryptable)?;
    Ok(payload)
}

fn decompress(framed: &[u8]) -> std::result::Result<Vec<u8>, EnvelopeError> {
    let malformed = EnvelopeError::Malformed("it does not decompress");
    let (length, compressed) = framed.split_first_chunk::<4>().ok_or(malformed.clone())?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_BODY_BYTES {
        return Err(malformed);
    }
    let payload = zstd::bulk::decompress(compressed, length).map_err(|_| malformed.clone())?;
    if payload.len() == length { Ok(payload) } else { Err(malformed) }
}

/// For fuzzing: reads anything as an open envelope.
#[doc(hidden)]
pub fn fuzz_unwrap(bytes: &[u8]) -> bool {
    unwrap(bytes, None, None).is_ok()
}
