//! The set of states already met, each kept as a fingerprint of 64 bits.
//!
//! It knows nothing of what is hashed. Two different states with one fingerprint would hide the second;
//! with *n* states the probability of that happening anywhere is about n² / 2⁶⁵.

use std::hash::{Hash, Hasher};

/// Each shard grows alone, so that growing never needs all of the memory twice.
const SHARDS: usize = 256;
/// Entries of a shard at first.
const FIRST_SHARD: usize = 64;

/// A set of fingerprints.
pub(crate) struct Seen {
    shards: Vec<Shard>,
}

struct Shard {
    slots: Vec<u64>,
    used: usize,
}

impl Seen {
    /// The empty set.
    pub(crate) fn new() -> Seen {
        Seen { shards: (0..SHARDS).map(|_| Shard::sized(FIRST_SHARD)).collect() }
    }

    /// Adds `state`, and says whether it is new.
    pub(crate) fn insert(&mut self, state: &impl Hash) -> bool {
        let fingerprint = fingerprint(state).max(1);
        let shard = (fingerprint >> 56) as usize;
        self.shards[shard].insert(fingerprint)
    }

    /// Memory taken, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.slots.len() * size_of::<u64>()).sum()
    }
}

impl Shard {
    fn sized(slots: usize) -> Shard {
        Shard { slots: vec![0; slots], used: 0 }
    }

    fn insert(&mut self, fingerprint: u64) -> bool {
        if self.used * 5 > self.slots.len() * 4 {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = fingerprint as usize & mask;
        while self.slots[at] != 0 {
            if self.slots[at] == fingerprint {
                return false;
            }
            at = (at + 1) & mask;
        }
        self.slots[at] = fingerprint;
        self.used += 1;
        true
    }

    fn grow(&mut self) {
        let mut larger = Shard::sized(self.slots.len() * 2);
        for &fingerprint in self.slots.iter().filter(|fingerprint| **fingerprint != 0) {
            larger.insert(fingerprint);
        }
        *self = larger;
    }
}

fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = Folder(0x243F_6A88_85A3_08D3);
    state.hash(&mut hasher);
    hasher.finish()
}

/// Odd, and without a pattern in its bits.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// A hash by folded 128-bit products: quick, and well mixed, which is all that is asked for.
struct Folder(u64);

impl Folder {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(MULTIPLIER);
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for Folder {
    fn finish(&self) -> u64 {
        let mut last = Folder(self.0);
        last.fold(0xA409_3822_299F_31D0);
        last.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        let tail = rest.iter().fold(1, |tail: u64, byte| tail << 8 | u64::from(*byte));
        self.fold(tail);
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // Small numbers are most of what comes: they are spread over the word before they are mixed.
        self.fold(number.rotate_left(17) ^ 0x1319_8A2E_0370_7344);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_after_growth() {
        let mut seen = Seen::new();
        let fresh = (0..200_000_u64).filter(|number| seen.insert(number)).count();
        let again = (0..200_000_u64).filter(|number| seen.insert(number)).count();
        assert_eq!((fresh, again), (200_000, 0));
    }

    #[test]
    fn small_words_in_any_place_differ() {
        let mut seen = Seen::new();
        for first in 0..64_u8 {
            for second in 0..64_u16 {
                assert!((0..64_u32).all(|third| seen.insert(&(first, second, [third; 2]))));
            }
        }
    }
}
