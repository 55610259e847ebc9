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
/// The hash forgets a byte after this many more.
const WINDOW_BYTES: usize = u64::BITS as usize;
/// How many bytes each of four lanes looks through before the lanes move on together.
const LANE_BYTES: usize = 1024;

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
    fn find(&self, data: &[u8], hash: &mut u64, mask: u64) -> Option<usize> {
        let (groups, rest) = data.as_chunks::<{ 4 * LANE_BYTES }>();
        for (n, group) in groups.iter().enumerate() {
            let before = *hash;
            if self.passes(group, hash, mask) {
                *hash = before;
                return self.find_in_one(group, hash, mask).map(|at| n * group.len() + at);
            }
        }
        self.find_in_one(rest, hash, mask).map(|at| data.len() - rest.len() + at)
    }

    fn find_in_one(&self, data: &[u8], hash: &mut u64, mask: u64) -> Option<usize> {
        let mut h = *hash;
        for (at, byte) in data.iter().enumerate() {
            h = self.rolled(h, *byte);
            if h & mask == 0 {
                return Some(at + 1);
            }
        }
        *hash = h;
        None
    }

    /// Whether the masked hash is zero somewhere; if not, `hash` then is that of the end. One hash waits for
    /// the one before it, so that four of them, each begun a window early, take little longer than one.
    fn passes(&self, data: &[u8; 4 * LANE_BYTES], hash: &mut u64, mask: u64) -> bool {
        let (lanes, _) = data.as_chunks::<LANE_BYTES>();
        let [first, second, third, fourth] = lanes else { return true };
        let mut h = [*hash, self.window(first), self.window(second), self.window(third)];
        // The mask's bits are the highest, so that one comparison tells.
        let most = !mask;
        for at in 0..LANE_BYTES {
            h[0] = self.rolled(h[0], first[at]);
            h[1] = self.rolled(h[1], second[at]);
            h[2] = self.rolled(h[2], third[at]);
            h[3] = self.rolled(h[3], fourth[at]);
            if h[0] <= most || h[1] <= most || h[2] <= most || h[3] <= most {
                return true;
            }
        }
        *hash = h[3];
        false
    }

    /// The hash at the end of a lane, whatever came before it.
    fn window(&self, lane: &[u8; LANE_BYTES]) -> u64 {
        lane[LANE_BYTES - WINDOW_BYTES..].iter().fold(0, |h, byte| self.rolled(h, *byte))
    }

    #[inline(always)]
    fn rolled(&self, hash: u64, byte: u8) -> u64 {
        (hash << 1).wrapping_add(self.gear[usize::from(byte)])
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

    /// Where a stream is cut by the definition, one byte after the other.
    fn defined_cut(chunker: &Chunker, data: &[u8]) -> usize {
        let ChunkerParameters { min_bytes, average_bytes, max_bytes } = chunker.parameters;
        let end = data.len().min(max_bytes as usize);
        let mut hash = 0u64;
        for (at, byte) in data[..end].iter().enumerate().skip(min_bytes as usize) {
            hash = (hash << 1).wrapping_add(chunker.gear[usize::from(*byte)]);
            let before = at < (average_bytes.max(min_bytes)) as usize;
            if hash & (if before { chunker.mask_before } else { chunker.mask_after }) == 0 {
                return at + 1;
            }
        }
        end
    }

    #[test]
    fn lanes_cut_where_the_definition_does() {
        let varied: Vec<u8> = noise(1 << 20).iter().map(|b| b & 3).collect();
        for (n, bits) in [(0u32, 8), (1, 11), (2, 13), (3, 15), (4, 17), (5, 19)] {
            let average_bytes = 1 << bits;
            let parameters = ChunkerParameters {
                min_bytes: average_bytes / 4 + n,
                average_bytes,
                max_bytes: average_bytes * 4 + 77,
            };
            let chunker = Chunker::new(&IdKey::from_bytes([9; 32]), parameters);
            for data in [&noise(1 << 20), &varied, &vec![0; 1 << 20]] {
                let mut rest = data.as_slice();
                while !rest.is_empty() {
                    let cut = chunker.cut(rest);
                    assert_eq!(cut, defined_cut(&chunker, rest), "with {parameters:?}");
                    rest = &rest[cut..];
                }
            }
        }
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
