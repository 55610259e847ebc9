//! Choices that look random and are always the same for a seed, so that what they led to can be run again.

/// A stream of choices.
pub(crate) struct Draw(blake3::OutputReader);

impl Draw {
    /// The stream of a seed for one purpose; two purposes never see the same choices.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"lifeboat-bench draw").update(&seed.to_le_bytes()).update(purpose.as_bytes());
        Self(hasher.finalize_xof())
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number below `bound`; zero for a bound of zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % (bound.max(1) as u64)).unwrap_or(0)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// From 0 up to 1, not included.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of several.
    pub(crate) fn of<'t, T>(&mut self, all: &'t [T]) -> Option<&'t T> {
        all.get(self.below(all.len()))
    }

    /// Fills a buffer.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_purpose_pin_the_choices() {
        let first = |seed, purpose| Draw::new(seed, purpose).number();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(2, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
        let mut draw = Draw::new(3, "range");
        for _ in 0..1000 {
            assert!(draw.below(7) < 7 && (0.0..1.0).contains(&draw.fraction()));
        }
        assert_eq!(draw.below(0), 0);
        assert_eq!(draw.of::<u8>(&[]), None);
    }
}
