//! FastCDC: where a stream is cut into chunks, so that a change moves only the cuts near it.
//!
//! Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems"
//! (IEEE TPDS 2020), with normalised chunking at level 2. The boundaries are format: the gear table comes
//! from the repository's id key, so that they tell nothing of the content to who does not hold it, and
//! `tests/vectors` pins them.

use crate::bodies::ChunkerParameters;
use crate::crypto::IdKey;

/// How many bits the two masks of normalised chunking lie apart from the average's.
const NORMALISATION: u32 = 2;

/// Cuts streams into chunks, the same way for the life of a repository.
#[derive(Clone, Debug)]
pub(crate) struct Chunker {
    gear: Box<[u64; 256]>,
    parameters: ChunkerParameters,
    mask_before: u64,
    mask_after: u64,
}

impl Chunker {
    /// The chunker of a repository.
    pub(crate) fn new(id_key: &IdKey, parameters: ChunkerParameters) -> Self {
        let mut table = [0; 256 * 8];
        blake3::Hasher::new_keyed(&id_key.expose())
            .update(b"lifeboat gear 1")
            .finalize_xof()
            .fill(&mut table);
        let mut gear = Box::new([0; 256]);
        for (value, bytes) in gear.iter_mut().zip(table.chunks_exact(8)) {
            *value = u64::from_le_bytes(bytes.try_into().expect("chunks_exact gives eight bytes"));
        }
        let bits = parameters.average_bytes.max(1).ilog2();
        Self {
            gear,
            parameters,
            mask_before: top_bits(bits + NORMALISATION),
            mask_after: top_bits(bits.saturating_sub(NORMALISATION)),
        }
    }

    /// The longest chunk: [`Chunker::cut`] wants at least this much data, or all there is.
    pub(crate) fn max_bytes(&self) -> usize {
        self.parameters.max_bytes as usize
    }

    /// The length of the first chunk of `data`, which holds at least [`Chunker::max_bytes`] or ends where
    /// the stream ends.
    pub(crate) fn cut(&self, data: &[u8]) -> usize {
        let min = self.parameters.min_bytes as usize;
        let end = data.len().min(self.max_bytes());
        if end <= min {
            return end;
        }
        let centre = end.min(self.parameters.average_bytes as usize).max(min);
        let mut hash = 0u64;
        self.find(&data[min..centre], &mut hash, self.mask_before)
            .map(|at| min + at)
            .or_else(|| self.find(&data[centre..end], &mut hash, self.mask_after).map(|at| centre + at))
            .unwrap_or(end)
    }

    /// The length up to the first byte after which the masked hash is zero.
    #[inline]
    fn find(&self, data: &[u8], hash: &mut u64, mask: u64) -> Option<usize> {
        let mut h = *hash;
        for (at, byte) in data.iter().enumerate() {
            h = (h << 1).wrapping_add(self.gear[usize::from(*byte)]);
            if h & mask == 0 {
                return Some(at + 1);
            }
        }
        *hash = h;
        None
    }
}

/// A mask of the `bits` highest bits, which depend on the most bytes of the window.
fn top_bits(bits: u32) -> u64 {
    u64::MAX.checked_shl(64 - bits.clamp(1, 63)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARAMETERS: ChunkerParameters =
        ChunkerParameters { min_bytes: 256, average_bytes: 1024, max_bytes: 4096 };

    fn chunker() -> Chunker {
        Chunker::new(&IdKey::from_bytes([7; 32]), PARAMETERS)
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut data);
        data
    }

    fn lengths(mut data: &[u8]) -> Vec<usize> {
        let chunker = chunker();
        let mut lengths = Vec::new();
        while !data.is_empty() {
            let cut = chunker.cut(data);
            lengths.push(cut);
            data = &data[cut..];
        }
        lengths
    }

    #[test]
    fn boundaries_are_format() {
        assert_eq!(lengths(&noise(10_000)), BOUNDARIES);
    }

    /// Pinned: a change here makes every repository forget what it holds.
    const BOUNDARIES: [usize; 8] = [1112, 1276, 1156, 1025, 1212, 2103, 1146, 970];

    #[test]
    fn a_change_moves_only_the_cuts_near_it() {
        let data = noise(200_000);
        let mut changed = data.clone();
        changed.splice(100_000..100_000, *b"insert");
        let cuts = |data: &[u8]| -> std::collections::HashSet<Vec<u8>> {
            let mut rest = data;
            lengths(data)
                .into_iter()
                .map(|n| {
                    let (a, b) = rest.split_at(n);
                    rest = b;
                    a.to_vec()
                })
                .collect()
        };
        let (before, after) = (cuts(&data), cuts(&changed));
        assert!(after.difference(&before).count() <= 3);
        let mean = data.len() / before.len();
        assert!((700..1700).contains(&mean), "mean chunk of {mean} bytes");
    }

    proptest! {
        #[test]
        fn chunks_are_within_bounds_and_add_up(data in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            let lengths = lengths(&data);
            prop_assert_eq!(lengths.iter().sum::<usize>(), data.len());
            for (n, length) in lengths.iter().enumerate() {
                prop_assert!(*length <= 4096 && *length > 0);
                prop_assert!(*length >= 256 || n + 1 == lengths.len());
            }
        }
    }
}
