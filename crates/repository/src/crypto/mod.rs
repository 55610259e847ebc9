//! The cryptography of the repository, each primitive behind one small type.
//!
//! AES-256-GCM, SHA-256, HKDF, Ed25519 from one library (aws-lc-rs), HPKE (RFC 9180) from another, since the
//! first does not offer it, Argon2id (RFC 9106) and keyed BLAKE3. Which key protects what is in
//! docs/format.md; this module only knows how.

mod aead;
mod hpke;
mod kdf;
mod sign;

pub(crate) use aead::{ContentKey, TAG_BYTES};
pub(crate) use hpke::{ENCAPSULATED_BYTES, SEALED_KEY_BYTES, SealedKey, open_with_private, seal_to_public};
pub use hpke::{EpochPrivateKey, EpochPublicKey};
pub(crate) use kdf::{Argon2Cost, from_high_entropy, from_passphrase};
pub use sign::{PublicKey, Signature, Signer};

use crate::ids::{ChunkId, PageHash};
use lifeboat_base::Secret;

/// SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// A cryptographic operation that failed. Says nothing of the reason, since none must be learnt from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cryptographic verification failed")]
pub struct CryptoError;

/// The key under which content is hashed, so that identities tell nothing to who does not hold it.
#[derive(Clone, Debug)]
pub struct IdKey(Secret);

impl IdKey {
    /// A new random key.
    pub fn random() -> Self {
        Self(Secret::new(lifeboat_base::random::bytes::<32>().to_vec()))
    }

    /// A key from its 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes.to_vec()))
    }

    pub(crate) fn expose(&self) -> [u8; 32] {
        self.0.as_array().copied().unwrap_or([0; 32])
    }

    /// The identity of a chunk or node.
    pub fn chunk(&self, content: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.expose(), content).as_bytes())
    }

    /// The identity of a chunk that lies in several pieces.
    pub(crate) fn chunk_of(&self, parts: &[&[u8]]) -> ChunkId {
        let mut hasher = blake3::Hasher::new_keyed(&self.expose());
        parts.iter().for_each(|part| {
            hasher.update(part);
        });
        ChunkId(*hasher.finalize().as_bytes())
    }

    /// The keyed hash of a database page: the first 16 bytes of what would be its chunk identity.
    pub fn page(&self, content: &[u8]) -> PageHash {
        let full = self.chunk(content);
        let mut hash = [0; 16];
        hash.copy_from_slice(&full.0[..16]);
        PageHash(hash)
    }
}
