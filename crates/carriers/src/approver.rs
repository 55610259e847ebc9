//! The key that somebody agrees with: Ed25519 (RFC 8032), in a file that only they can read.

use lifeboat_base::{Secret, hex, random};
use lifeboat_evidence::{PublicKey, Sign, Signature};
use lifeboat_repository::Signer;

/// How the private half is written in a file.
const PREFIX: &str = "LIFEBOAT-APPROVER-";

/// An approver's key.
pub struct ApproverKey(Signer);

/// A file that holds none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no approver's key: one line, {PREFIX} and 64 hexadecimal digits")]
pub struct NoApproverKey;

impl ApproverKey {
    /// A new key, and how it is written.
    pub fn generate() -> (Self, Secret) {
        let seed = random::bytes::<32>();
        let text = format!("{PREFIX}{}\n", hex::encode(&seed));
        (Self(Signer::from_seed(&seed)), Secret::new(text.into_bytes()))
    }

    /// Reads what was written.
    ///
    /// # Errors
    /// Where it is none. What it is instead is not repeated.
    pub fn read(text: &Secret) -> Result<Self, NoApproverKey> {
        let text = std::str::from_utf8(text.expose()).map_err(|_| NoApproverKey)?;
        let digits = text.trim_end().strip_prefix(PREFIX).ok_or(NoApproverKey)?;
        hex::decode::<32>(digits).map(|seed| Self(Signer::from_seed(&seed))).ok_or(NoApproverKey)
    }
}

impl Sign for ApproverKey {
    fn public_key(&self) -> PublicKey {
        PublicKey(self.0.public().0)
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let (key, text) = ApproverKey::generate();
        let again = ApproverKey::read(&text).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert!(again.public_key().signed(b"statement", &key.sign(b"statement")));
        for wrong in ["", "hunter2", "LIFEBOAT-APPROVER-00"] {
            let read = ApproverKey::read(&Secret::new(wrong.as_bytes().to_vec()));
            assert!(!read.err().unwrap().to_string().contains("hunter2"));
        }
    }
}
