//! Keys from what people remember (Argon2id, RFC 9106) and from secrets that are random already (HKDF,
//! RFC 5869).

use super::CryptoError;
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::hkdf;
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

/// The cost of Argon2id, stored beside what it protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Argon2Cost {
    /// Memory in KiB.
    #[n(0)]
    pub(crate) memory_kib: u32,
    /// Passes over it.
    #[n(1)]
    pub(crate) passes: u32,
    /// Lanes.
    #[n(2)]
    pub(crate) lanes: u32,
}

impl Argon2Cost {
    /// RFC 9106's second recommended choice: 64 MiB, three passes, four lanes. Fits the memory that every
    /// command may use.
    pub(crate) const DEFAULT: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

    /// What a slot may ask for, so that a forged one cannot exhaust the machine that tries to open it.
    pub(crate) fn is_bearable(self) -> bool {
        (8..=1024 * 1024).contains(&self.memory_kib)
            && (1..=64).contains(&self.passes)
            && (1..=16).contains(&self.lanes)
    }
}

/// A key from a passphrase.
pub(crate) fn from_passphrase(
    passphrase: &[u8],
    salt: &[u8; 16],
    cost: Argon2Cost,
) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
    if !cost.is_bearable() {
        return Err(CryptoError);
    }
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(|_| CryptoError)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, key.as_mut())
        .map_err(|_| CryptoError)?;
    Ok(key)
}

/// A key from a secret of at least 128 bits of entropy.
pub(crate) fn from_high_entropy(secret: &[u8], salt: &[u8; 16]) -> Zeroizing<[u8; 32]> {
    struct KeyBytes;
    impl hkdf::KeyType for KeyBytes {
        fn len(&self) -> usize {
            32
        }
    }
    let mut key = Zeroizing::new([0; 32]);
    let pseudo_random = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    pseudo_random
        .expand(&[b"lifeboat slot"], KeyBytes)
        .and_then(|output| output.fill(key.as_mut()))
        .expect("32 bytes are within what HKDF-SHA256 can give");
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_base::hex;

    #[test]
    fn known_answers() {
        // Both computed with independent libraries (argon2-cffi's low-level hash, Python's hmac): see
        // tests/second_reader.
        let cost = Argon2Cost { memory_kib: 64, passes: 2, lanes: 1 };
        let key = from_passphrase(b"correct horse", b"0123456789abcdef", cost).unwrap();
        assert_eq!(
            hex::encode(key.as_ref()),
            "74fb6b1d311ac0bb4c891f7efd79680245d9f84b72ad8f9bbe61c86e2b9f864d"
        );
        assert_eq!(
            hex::encode(from_high_entropy(&[1; 32], &[2; 16]).as_ref()),
            "08babf7611cf12c40fe97c707510b3cf297b5d7bba7bc664418485637aa1652c"
        );
    }

    #[test]
    fn unbearable_costs_are_refused() {
        let cost = Argon2Cost { memory_kib: u32::MAX, passes: 3, lanes: 4 };
        assert_eq!(from_passphrase(b"x", &[0; 16], cost), Err(CryptoError));
    }
}
