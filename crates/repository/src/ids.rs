//! Identities and positions. Each is a type of its own, so that none is taken for another.

use lifeboat_base::hex;
use minicbor::{Decode, Encode};
use std::fmt;

macro_rules! byte_identity {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; $bytes]);

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
    };
}

byte_identity!(
    /// A repository, from `repo init` on: 16 random bytes.
    RepositoryId, 16);
byte_identity!(
    /// A chunk or node: keyed BLAKE3 of its content (docs/format.md, Chunk identities).
    ChunkId, 32);
byte_identity!(
    /// A bulk object: SHA-256 of its bytes, as `sha256sum` prints it.
    BulkName, 32);
byte_identity!(
    /// Who signs: the first 16 bytes of the SHA-256 of an Ed25519 public key.
    WriterId, 16);
byte_identity!(
    /// A snapshot, or any other signed body: SHA-256 of the plaintext body.
    BodyHash, 32);
byte_identity!(
    /// The keyed hash of one database page: the first 16 bytes of keyed BLAKE3.
    PageHash, 16);
byte_identity!(
    /// A lease or hold of a reader: 16 random bytes.
    TicketId, 16);
byte_identity!(
    /// A request to a run: when it was asked (nanoseconds since 1970, big-endian), then 8 random bytes.
    RequestId, 16);

impl BodyHash {
    /// The identity of a signed body.
    pub fn of(body: &[u8]) -> Self {
        Self(crate::crypto::sha256(body))
    }

    /// The eight digits that people see and type.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl BulkName {
    /// The name of a bulk object with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(crate::crypto::sha256(bytes))
    }
}

/// The name of a run: 1 to 64 of `a-z 0-9 -`, starting with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(transparent)]
pub struct RunName(#[n(0)] String);

impl<'b, C> Decode<'b, C> for RunName {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        Self::new(d.str()?).map_err(|_| minicbor::decode::Error::message("it cannot name a run").at(at))
    }
}

/// A text that cannot name a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name a run: 1 to 64 of a-z, 0-9 and '-', starting with a letter or digit")]
pub struct InvalidRunName(pub String);

impl RunName {
    /// Checks a name.
    ///
    /// # Errors
    /// Where it is not of the form that [`RunName`] describes.
    pub fn new(text: &str) -> Result<Self, InvalidRunName> {
        const LONGEST: usize = 64;
        let is_sound = (1..=LONGEST).contains(&text.len())
            && !text.starts_with('-')
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if is_sound { Ok(Self(text.to_owned())) } else { Err(InvalidRunName(text.to_owned())) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a dataset: 1 to 100 of `a-z 0-9 . _ -`, starting with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(transparent)]
pub struct DatasetName(#[n(0)] String);

/// What a body calls a dataset becomes part of the names of objects, so that it is checked as it is read.
impl<'b, C> Decode<'b, C> for DatasetName {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        Self::new(d.str()?).map_err(|_| minicbor::decode::Error::message("it cannot name a dataset").at(at))
    }
}

/// A text that cannot name a dataset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name a dataset: 1 to 100 of a-z, 0-9, '.', '_' and '-', starting with a letter or digit"
)]
pub struct InvalidDatasetName(pub String);

impl DatasetName {
    /// Checks a name.
    ///
    /// # Errors
    /// Where it is not of the form that [`DatasetName`] describes.
    pub fn new(text: &str) -> Result<Self, InvalidDatasetName> {
        let good_start = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let good = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
        if good_start && good && text.len() <= 100 {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidDatasetName(text.to_owned()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a snapshot stands: the chain of one writer for one dataset, and its number there, from 1.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Position {
    /// The dataset.
    #[n(0)]
    pub dataset: DatasetName,
    /// The writer whose chain this is.
    #[n(1)]
    pub writer: WriterId,
    /// The number in that chain.
    #[n(2)]
    pub number: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.dataset, self.writer, self.number)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dataset_names_are_checked() {
        for good in ["users", "0", "a.b-c_d", &"x".repeat(100)] {
            assert!(DatasetName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".x", "-x", "Users", "a/b", "a b", "é", &"x".repeat(101)] {
            assert_eq!(DatasetName::new(bad), Err(InvalidDatasetName(bad.to_owned())));
        }
    }

    #[test]
    fn a_name_in_a_body_that_no_dataset_has_ended_whoever_looked_for_its_object() {
        let position = |name: &str| Position {
            dataset: DatasetName(name.to_owned()),
            writer: WriterId([7; 16]),
            number: 1,
        };
        let good = crate::bodies::encode(&position("users"));
        assert_eq!(crate::bodies::decode::<Position>(&good).unwrap(), position("users"));
        for bad in ["", "a/b", "..", "Users", "a\0", "é", &"x".repeat(101)] {
            let body = crate::bodies::encode(&position(bad));
            assert!(crate::bodies::decode::<Position>(&body).is_err(), "{bad}");
        }
    }
}
