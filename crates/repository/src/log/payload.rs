//! What a log object carries, and how it is cut, joined and compared by position.
//!
//! A position is a byte (WAL, a replication stream) or a unit of any size (a transaction, a WAL frame). Which
//! one it is stands in the head, so that two objects can be compared where they overlap however they were
//! cut.

use crate::ids::BodyHash;

const LENGTH_BYTES: usize = 4;

/// A stretch of log as its driver knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPayload {
    /// Each position is one byte.
    Bytes(Vec<u8>),
    /// Each position is one of these.
    Units(Vec<Vec<u8>>),
}

impl LogPayload {
    /// How many positions it fills.
    pub fn positions(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Units(units) => units.len() as u64,
        }
    }

    /// Its bytes, with their framing.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Units(units) => units.iter().map(|unit| LENGTH_BYTES + unit.len()).sum(),
        }
    }

    /// Positions `from` to `to`, counted from its own start; what lies outside is left away.
    pub(crate) fn cut(&self, from: u64, to: u64) -> Self {
        let clamp = |n: u64, most: usize| usize::try_from(n).map_or(most, |n| n.min(most));
        match self {
            Self::Bytes(bytes) => {
                let to = clamp(to, bytes.len());
                Self::Bytes(bytes[clamp(from, to)..to].to_vec())
            }
            Self::Units(units) => {
                let to = clamp(to, units.len());
                Self::Units(units[clamp(from, to)..to].to_vec())
            }
        }
    }

    /// Joins what follows; false where it is of the other shape.
    pub(crate) fn join(&mut self, next: Self) -> bool {
        match (self, next) {
            (Self::Bytes(bytes), Self::Bytes(next)) => bytes.extend_from_slice(&next),
            (Self::Units(units), Self::Units(next)) => units.extend(next),
            _ => return false,
        }
        true
    }

    /// The first position at which two payloads of the same extent differ.
    pub(crate) fn differs_at(&self, other: &Self) -> Option<u64> {
        fn first<T: PartialEq>(one: &[T], other: &[T]) -> Option<u64> {
            let differing = one.iter().zip(other).position(|(a, b)| a != b);
            let shorter = one.len().min(other.len());
            differing.or((one.len() != other.len()).then_some(shorter)).map(|n| n as u64)
        }
        match (self, other) {
            (Self::Bytes(one), Self::Bytes(other)) => first(one, other),
            (Self::Units(one), Self::Units(other)) => first(one, other),
            _ => Some(0),
        }
    }

    pub(crate) fn is_units(&self) -> bool {
        matches!(self, Self::Units(_))
    }

    /// The bytes that are stored: units each with their length before them.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Units(units) => {
                let mut framed = Vec::with_capacity(self.size_bytes());
                for unit in units {
                    framed.extend_from_slice(&(unit.len() as u32).to_le_bytes());
                    framed.extend_from_slice(unit);
                }
                framed
            }
        }
    }

    /// Reads stored bytes: exactly `positions` of them or of the units in them.
    pub(crate) fn decode(bytes: Vec<u8>, units: bool, positions: u64) -> Option<Self> {
        let payload = if units { Self::Units(unframe(&bytes)?) } else { Self::Bytes(bytes) };
        (payload.positions() == positions).then_some(payload)
    }

    pub(crate) fn hash(encoded: &[u8]) -> BodyHash {
        BodyHash::of(encoded)
    }
}

fn unframe(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut units = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
        let (unit, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        units.push(unit.to_vec());
        bytes = rest;
    }
    Some(units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn units_survive_encoding_cutting_and_joining(
            units in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..30),
            at in 0u64..40,
        ) {
            let payload = LogPayload::Units(units);
            let count = payload.positions();
            prop_assert_eq!(payload.encode().len(), payload.size_bytes());
            prop_assert_eq!(LogPayload::decode(payload.encode(), true, count), Some(payload.clone()));
            prop_assert_eq!(LogPayload::decode(payload.encode(), true, count + 1), None);
            let mut joined = payload.cut(0, at);
            prop_assert!(joined.join(payload.cut(at, u64::MAX)));
            prop_assert_eq!(joined, payload);
        }

        #[test]
        fn arbitrary_bytes_are_units_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(units) = unframe(&bytes) {
                prop_assert_eq!(LogPayload::Units(units).encode(), bytes);
            }
        }
    }

    #[test]
    fn the_first_difference_is_named() {
        let bytes = |text: &str| LogPayload::Bytes(text.as_bytes().to_vec());
        assert_eq!(bytes("abc").differs_at(&bytes("abc")), None);
        assert_eq!(bytes("abc").differs_at(&bytes("abd")), Some(2));
        assert_eq!(bytes("abc").differs_at(&bytes("ab")), Some(2));
        assert_eq!(bytes("a").differs_at(&LogPayload::Units(vec![b"a".to_vec()])), Some(0));
    }
}
