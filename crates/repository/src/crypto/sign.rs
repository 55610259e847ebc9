//! Ed25519 (RFC 8032): who wrote an object.

use super::{CryptoError, sha256};
use crate::ids::WriterId;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use lifeboat_base::{Secret, random};
use minicbor::{Decode, Encode};
use std::fmt;

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct PublicKey(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl PublicKey {
    /// The identity of whoever holds the private half.
    pub fn id(&self) -> WriterId {
        let digest = sha256(&self.0);
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        WriterId(id)
    }

    /// Checks a signature over `message`.
    ///
    /// # Errors
    /// Where it is not this key's.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), CryptoError> {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, &signature.0).map_err(|_| CryptoError)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Signature(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature")
    }
}

/// A private key that signs: the root's or a writer's.
pub struct Signer {
    seed: Secret,
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl Signer {
    /// A new random key.
    pub fn generate() -> Self {
        Self::from_seed(&random::bytes())
    }

    /// The key that RFC 8032 derives from a 32-byte seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("32 bytes are an Ed25519 seed");
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Self { seed: Secret::new(seed.to_vec()), pair, public: PublicKey(public) }
    }

    /// The seed. The caller takes care that no copy outlives its use.
    pub fn expose_seed(&self) -> &[u8] {
        self.seed.expose()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The identity of this key.
    pub fn id(&self) -> WriterId {
        self.public.id()
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Signature {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        Signature(signature)
    }
}

impl Clone for Signer {
    fn clone(&self) -> Self {
        Self::from_seed(self.seed.as_array().expect("the seed was made from 32 bytes"))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_one_key_s_over_one_message() {
        let signer = Signer::generate();
        let signature = signer.sign(b"snapshot");
        signer.public().verify(b"snapshot", &signature).unwrap();
        assert_eq!(signer.public().verify(b"snapshos", &signature), Err(CryptoError));
        assert_eq!(Signer::generate().public().verify(b"snapshot", &signature), Err(CryptoError));
        assert_eq!(signer.clone().id(), signer.id());
    }
}
