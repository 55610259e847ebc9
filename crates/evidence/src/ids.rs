//! Identities in receipts, each a type of its own; in JSON lower-case hexadecimal.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use lifeboat_base::hex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

macro_rules! hex_identity {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// Reads the lower-case hexadecimal form.
            pub fn from_hex(text: &str) -> Option<Self> {
                hex::decode(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), hex::encode(&self.0[..$bytes.min(6)]))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let wrong = || de::Error::custom(concat!("not ", $bytes, " bytes in lower-case hexadecimal"));
                Self::from_hex(&text).ok_or_else(wrong)
            }
        }
    };
}

hex_identity!(
    /// A repository.
    RepositoryId, 16);
hex_identity!(
    /// Who signs: the first 16 bytes of the SHA-256 of an Ed25519 public key.
    WriterId, 16);
hex_identity!(
    /// One thing that was done, made when it began: tells two receipts of one thing from receipts of two.
    EventId, 16);
hex_identity!(
    /// SHA-256: of a receipt, that of its canonical body.
    Digest, 32);
hex_identity!(
    /// An Ed25519 public key (RFC 8032).
    PublicKey, 32);
hex_identity!(
    /// An Ed25519 signature (RFC 8032).
    Signature, 64);

impl Digest {
    /// SHA-256 of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut value = [0; 32];
        value.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(value)
    }
}

impl PublicKey {
    /// Whose key it is.
    pub fn writer(&self) -> WriterId {
        let mut id = [0; 16];
        id.copy_from_slice(&Digest::of(&self.0).0[..16]);
        WriterId(id)
    }

    /// Whether a signature over a message is this key's.
    pub fn signed(&self, message: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, &signature.0).is_ok()
    }
}

/// A chain: the receipts of one writer in one repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChainId {
    /// The repository that the receipts are of, also where they lie in a copy.
    pub repository: RepositoryId,
    /// Who signs them.
    pub writer: WriterId,
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.repository, self.writer)
    }
}
