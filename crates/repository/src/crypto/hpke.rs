//! HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM: how the key of an
//! object is sealed to the repository, so that who only writes cannot read.

use super::CryptoError;
use aws_lc_rs::agreement::{self, X25519};
use lifeboat_base::{Secret, random};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use std::fmt;

/// TLS uses it for encrypted client hellos; it is RFC 9180 whole, and as fast as a key for each object asks for.
const SUITE: &dyn Hpke = DH_KEM_X25519_HKDF_SHA256_AES_256;

/// The encapsulated key, an X25519 public key.
pub(crate) const ENCAPSULATED_BYTES: usize = 32;
/// A sealed 32-byte key with its tag.
pub(crate) const SEALED_KEY_BYTES: usize = 32 + 16;

/// The public half of an epoch: what objects are sealed to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EpochPublicKey(pub [u8; 32]);

impl fmt::Debug for EpochPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpochPublicKey({})", lifeboat_base::hex::encode(&self.0[..6]))
    }
}

/// The private half of an epoch.
#[derive(Clone, Debug)]
pub struct EpochPrivateKey(Secret);

impl EpochPrivateKey {
    /// A new pair.
    pub fn generate() -> (Self, EpochPublicKey) {
        let private = Self(Secret::new(random::bytes::<32>().to_vec()));
        let public = private.public().expect("any 32 bytes are an X25519 private key");
        (private, public)
    }

    /// A private half from its 32 bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Secret::new(bytes.to_vec()))
    }

    /// The 32 bytes. The caller takes care that no copy outlives its use.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// The public half that belongs to it.
    ///
    /// # Errors
    /// Where the bytes are no private key.
    pub fn public(&self) -> Result<EpochPublicKey, CryptoError> {
        let private =
            agreement::PrivateKey::from_private_key(&X25519, self.expose()).map_err(|_| CryptoError)?;
        let public = private.compute_public_key().map_err(|_| CryptoError)?;
        Ok(EpochPublicKey(public.as_ref().try_into().map_err(|_| CryptoError)?))
    }
}

/// The key of one object, sealed to an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedKey {
    pub(crate) encapsulated: [u8; ENCAPSULATED_BYTES],
    pub(crate) sealed: [u8; SEALED_KEY_BYTES],
}

impl SealedKey {
    pub(crate) fn seal(key: &[u8; 32], to: &EpochPublicKey, info: &[u8]) -> Result<Self, CryptoError> {
        let (encapsulated, sealed) = seal_to_public(key, to, info)?;
        Ok(Self { encapsulated, sealed: sealed.try_into().map_err(|_| CryptoError)? })
    }

    pub(crate) fn open(&self, with: &EpochPrivateKey, info: &[u8]) -> Result<[u8; 32], CryptoError> {
        let key = open_with_private(&self.encapsulated, &self.sealed, with, info)?;
        key.expose().try_into().map_err(|_| CryptoError)
    }
}

/// Seals a message of any length to a public key: the encapsulated key and the ciphertext.
pub(crate) fn seal_to_public(
    message: &[u8],
    to: &EpochPublicKey,
    info: &[u8],
) -> Result<([u8; ENCAPSULATED_BYTES], Vec<u8>), CryptoError> {
    let public = HpkePublicKey(to.0.to_vec());
    let (encapsulated, sealed) = SUITE.seal(info, b"", message, &public).map_err(|_| CryptoError)?;
    Ok((encapsulated.0.try_into().map_err(|_| CryptoError)?, sealed))
}

/// The reverse of [`seal_to_public`].
pub(crate) fn open_with_private(
    encapsulated: &[u8; ENCAPSULATED_BYTES],
    sealed: &[u8],
    with: &EpochPrivateKey,
    info: &[u8],
) -> Result<Secret, CryptoError> {
    let private = HpkePrivateKey::from(with.expose().to_vec());
    let opened = SUITE.open(&EncapsulatedSecret(encapsulated.to_vec()), info, b"", sealed, &private);
    opened.map(Secret::new).map_err(|_| CryptoError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_private_half_and_the_same_info_open() {
        let (private, public) = EpochPrivateKey::generate();
        assert_eq!(private.public(), Ok(public));
        let sealed = SealedKey::seal(&[7; 32], &public, b"pack 1").unwrap();
        assert_eq!(sealed.open(&private, b"pack 1"), Ok([7; 32]));
        assert_eq!(sealed.open(&private, b"pack 2"), Err(CryptoError));
        assert_eq!(sealed.open(&EpochPrivateKey::generate().0, b"pack 1"), Err(CryptoError));
        let mut damaged = sealed;
        damaged.sealed[0] ^= 1;
        assert_eq!(damaged.open(&private, b"pack 1"), Err(CryptoError));
    }
}
