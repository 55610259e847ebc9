//! Small sets as bit masks: objects, packs, chunks, slots. It knows nothing of what the numbers mean.

use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};

/// A set of the numbers 0 to 31.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Set(u32);

impl Set {
    /// The set with nothing in it.
    pub const EMPTY: Set = Set(0);

    /// The set whose bit mask is `bits`.
    pub const fn of(bits: u32) -> Set {
        Set(bits)
    }

    /// The bit mask of the set.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The set of `item` alone.
    pub const fn one(item: u8) -> Set {
        Set(1 << item)
    }

    /// Whether `item` belongs to the set.
    pub const fn has(self, item: u8) -> bool {
        self.0 & (1 << item) != 0
    }

    /// Whether nothing belongs to the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many items belong to the set.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether everything in `other` belongs to this set as well.
    pub const fn covers(self, other: Set) -> bool {
        other.0 & !self.0 == 0
    }

    /// The items, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let item = (left != 0).then(|| left.trailing_zeros() as u8)?;
            left &= left - 1;
            Some(item)
        })
    }

    /// The items, descending.
    pub fn iter_down(self) -> impl Iterator<Item = u8> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let item = (left != 0).then(|| 31 - left.leading_zeros() as u8)?;
            left &= !(1 << item);
            Some(item)
        })
    }

    /// The non-empty subsets with at most `most` items, and the whole set.
    pub fn subsets(self, most: u32) -> impl Iterator<Item = Set> {
        let mut next = self.0;
        std::iter::from_fn(move || {
            let subset = Set(next);
            next = next.wrapping_sub(1) & self.0;
            (!subset.is_empty()).then_some(subset)
        })
        .filter(move |subset| *subset == self || subset.len() <= most)
    }
}

impl BitOr for Set {
    type Output = Set;
    fn bitor(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }
}

impl BitOrAssign for Set {
    fn bitor_assign(&mut self, other: Set) {
        self.0 |= other.0;
    }
}

impl BitAnd for Set {
    type Output = Set;
    fn bitand(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }
}

impl Sub for Set {
    type Output = Set;
    fn sub(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }
}

impl FromIterator<u8> for Set {
    fn from_iter<I: IntoIterator<Item = u8>>(items: I) -> Set {
        items.into_iter().fold(Set::EMPTY, |set, item| set | Set::one(item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_either_order() {
        let set = Set::of(0b1000_0101);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 2, 7]);
        assert_eq!(set.iter_down().collect::<Vec<_>>(), [7, 2, 0]);
    }

    #[test]
    fn subsets_are_those_asked_for_and_the_whole() {
        let whole = Set::from_iter([0, 3, 5]);
        let found: Vec<u32> = whole.subsets(1).map(Set::bits).collect();
        assert_eq!(found, [0b10_1001, 0b10_0000, 0b1000, 1]);
        assert_eq!(whole.subsets(3).count(), 7);
        assert_eq!(Set::EMPTY.subsets(3).count(), 0);
    }
}
