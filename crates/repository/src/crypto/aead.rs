//! AES-256-GCM under keys that encrypt one object each, so that a counter is a safe nonce.

use super::CryptoError;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use lifeboat_base::random;
use std::fmt;
use zeroize::Zeroizing;

/// What AES-256-GCM adds to each message, in bytes.
pub(crate) const TAG_BYTES: usize = 16;

/// A random key for one object: a pack, a control object, a key slot.
pub(crate) struct ContentKey {
    bytes: Zeroizing<[u8; 32]>,
    key: LessSafeKey,
}

impl ContentKey {
    pub(crate) fn random() -> Self {
        Self::from_bytes(random::bytes())
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &bytes).expect("32 bytes are an AES-256 key");
        Self { bytes: Zeroizing::new(bytes), key: LessSafeKey::new(key) }
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Encrypts in place and appends the tag. `number` must not repeat under this key.
    pub(crate) fn seal(&self, number: u64, associated: &[u8], message: &mut Vec<u8>) {
        self.key
            .seal_in_place_append_tag(nonce(number), Aad::from(associated), message)
            .expect("AES-256-GCM seals messages below 64 GiB");
    }

    /// Decrypts in place; `message` then is the plaintext.
    pub(crate) fn open(
        &self,
        number: u64,
        associated: &[u8],
        message: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let length = self
            .key
            .open_in_place(nonce(number), Aad::from(associated), message)
            .map_err(|_| CryptoError)?
            .len();
        message.truncate(length);
        Ok(())
    }

    /// Decrypts a message that stays where it is; `opened` then is the plaintext. After an error it holds
    /// nothing that was authenticated.
    pub(crate) fn open_into(
        &self,
        number: u64,
        associated: &[u8],
        sealed: &[u8],
        opened: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let length = sealed.len().checked_sub(TAG_BYTES).ok_or(CryptoError)?;
        let (message, tag) = sealed.split_at(length);
        opened.resize(length, 0);
        self.key
            .open_separate_gather(nonce(number), Aad::from(associated), message, tag, opened)
            .map_err(|_| CryptoError)
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentKey")
    }
}

/// 96 bits: the number in little-endian order, then four zero bytes.
fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_unchanged() {
        let key = ContentKey::random();
        let mut message = b"page".to_vec();
        key.seal(7, b"block", &mut message);
        assert_eq!(message.len(), 4 + TAG_BYTES);
        for damage in 0..message.len() {
            let mut damaged = message.clone();
            damaged[damage] ^= 1;
            assert_eq!(key.open_into(7, b"block", &damaged, &mut Vec::new()), Err(CryptoError));
            assert_eq!(key.open(7, b"block", &mut damaged), Err(CryptoError));
        }
        for length in 0..TAG_BYTES {
            assert_eq!(key.open_into(7, b"block", &message[..length], &mut Vec::new()), Err(CryptoError));
        }
        let mut opened = b"what was there before".to_vec();
        key.open_into(7, b"block", &message, &mut opened).unwrap();
        assert_eq!(opened, b"page");
        assert_eq!(key.open(8, b"block", &mut message.clone()), Err(CryptoError));
        assert_eq!(key.open(7, b"other", &mut message.clone()), Err(CryptoError));
        assert_eq!(key.open(7, b"block", &mut Vec::new()), Err(CryptoError));
        key.open(7, b"block", &mut message).unwrap();
        assert_eq!(message, b"page");
    }
}
