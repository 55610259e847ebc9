//! What of the bulk data a check reads, bit by bit: nothing, everything, or some of it.
//!
//! Bulk objects stand on a line from 0 to 2⁶⁴ - 1 by the first eight bytes of a SHA-256, most significant first: of a
//! pack that of its bytes, which is its name; of a log object that of its key, since its name says what it holds. A
//! [`Share`] is a run of that line, so that shares which cover the line cover everything, whatever comes and goes.
//!
//! This module deliberately knows no time: which share is due is for others to say.

use crate::crypto::sha256;
use crate::ids::BulkName;
use lifeboat_objects::Key;
use std::collections::BTreeSet;

/// A run of the line that bulk objects stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Where it begins.
    pub first: u64,
    /// Where it ends; that belongs to it.
    pub last: u64,
}

impl Share {
    /// All there is.
    pub const WHOLE: Self = Self { first: 0, last: u64::MAX };

    /// One of so many parts as equal as can be, counted from 1; `None` where there is no such part.
    pub fn part(number: u32, of: u32) -> Option<Self> {
        if number == 0 || number > of {
            return None;
        }
        let begins = |part: u32| ((u128::from(part) << 64).div_ceil(u128::from(of))) as u64;
        let last = if number == of { u64::MAX } else { begins(number) - 1 };
        Some(Self { first: begins(number - 1), last })
    }

    fn holds(&self, place: u64) -> bool {
        (self.first..=self.last).contains(&place)
    }
}

/// What of the bulk data is read. What is not is only listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// Nothing.
    #[default]
    Nothing,
    /// Everything.
    Everything,
    /// Some of it.
    Some {
        /// What stands there.
        shares: Vec<Share>,
        /// And these objects, by their keys; those that are not there any more are passed over.
        objects: BTreeSet<String>,
    },
}

impl Reading {
    /// Everything, or nothing.
    pub fn everything(is_wanted: bool) -> Self {
        if is_wanted { Self::Everything } else { Self::Nothing }
    }

    /// What stands in one share.
    pub fn share(share: Share) -> Self {
        Self::Some { shares: vec![share], objects: BTreeSet::new() }
    }

    pub(super) fn takes_pack(&self, key: &Key, name: &BulkName) -> bool {
        self.takes(key, || place(&name.0))
    }

    pub(super) fn takes_log(&self, key: &Key) -> bool {
        self.takes(key, || place(&sha256(key.as_str().as_bytes())))
    }

    fn takes(&self, key: &Key, place: impl FnOnce() -> u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Some { shares, objects } => {
                let place = place();
                shares.iter().any(|share| share.holds(place)) || objects.contains(key.as_str())
            }
        }
    }
}

fn place(hash: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(first: u64) -> BulkName {
        let mut bytes = [0xa5; 32];
        bytes[..8].copy_from_slice(&first.to_be_bytes());
        BulkName(bytes)
    }

    #[test]
    fn parts_lie_side_by_side_and_leave_nothing_out() {
        for of in [1, 2, 3, 7, 720, 8760] {
            let parts: Vec<Share> = (1..=of).map(|number| Share::part(number, of).unwrap()).collect();
            assert_eq!((parts[0].first, parts[parts.len() - 1].last), (0, u64::MAX));
            assert!(parts.windows(2).all(|pair| pair[0].last + 1 == pair[1].first), "{of}");
            let lengths = || parts.iter().map(|part| part.last - part.first);
            assert!(lengths().max().unwrap() - lengths().min().unwrap() <= 1, "{of}");
        }
        assert_eq!((Share::part(0, 3), Share::part(4, 3), Share::part(1, 0)), (None, None, None));
        assert_eq!(Share::part(1, 1), Some(Share::WHOLE));
        let all = u32::MAX;
        assert_eq!(Share::part(all, all).unwrap().last, u64::MAX);
    }

    proptest! {
        #[test]
        fn each_pack_is_in_exactly_one_part(first: u64, of in 1_u32..2000) {
            let name = name(first);
            let key = crate::layout::pack(&name);
            let takes = |number: &u32| Reading::share(Share::part(*number, of).unwrap()).takes_pack(&key, &name);
            let taking: Vec<u32> = (1..=of).filter(takes).collect();
            let scaled = ((u128::from(first) * u128::from(of)) >> 64) as u32 + 1;
            prop_assert_eq!(taking, [scaled]);
        }
    }

    #[test]
    fn an_object_that_is_named_is_read_wherever_it_stands() {
        let (one, other) = (name(1), name(u64::MAX));
        let (key, other_key) = (crate::layout::pack(&one), crate::layout::pack(&other));
        let named = Reading::Some { shares: Vec::new(), objects: BTreeSet::from([key.to_string()]) };
        assert!(named.takes_pack(&key, &one) && !named.takes_pack(&other_key, &other));
        assert!(!Reading::Nothing.takes_pack(&key, &one) && Reading::Everything.takes_pack(&key, &one));
    }
}
