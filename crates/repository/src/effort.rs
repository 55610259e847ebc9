//! How hard a block is compressed: as the repository says, quickly, or not at all.
//!
//! Where the bytes of a block are noise but for short runs (rows of encrypted or hashed values in a database),
//! the repository's level searches each of them for what is not there, and ends within a thousandth of what a
//! quick level finds in a quarter of the time. So of pages a few samples are compressed both ways first. In blocks of
//! files what looks like noise often repeats further off than samples show: there it cost size and saved nothing.
//!
//! The choice depends on the block alone. It is no part of the format: either way the block is one zstd frame, or its
//! raw bytes.

use crate::pack::BlockKind;
use std::io;

/// The level of what hardly compresses.
const QUICK_LEVEL: i32 = 1;

/// What is looked at of a block to tell whether it is compressed or encrypted already: this many pieces
/// spread over it, and as many bytes in its middle.
const SPREAD_PIECES: usize = 16;
const SPREAD_PIECE_BYTES: usize = 1024;
const SPREAD_BYTES: usize = SPREAD_PIECES * SPREAD_PIECE_BYTES;

/// What is compressed both ways to tell how: this many pieces spread over the block. A piece holds a page or two
/// of a database, so that what repeats from row to row and the room between them show.
const TRIAL_PIECES: usize = 4;
const TRIAL_PIECE_BYTES: usize = 8 << 10;
const TRIAL_BYTES: usize = TRIAL_PIECES * TRIAL_PIECE_BYTES;

/// Compresses blocks, one after the other.
pub(crate) struct Compressor {
    level: i32,
    thorough: zstd::bulk::Compressor<'static>,
    quick: zstd::bulk::Compressor<'static>,
    trial: Vec<u8>,
    scratch: Vec<u8>,
}

/// How a block is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    /// It is stored as it is.
    None,
    Quick,
    Thorough,
}

impl Compressor {
    /// One for a level of zstd.
    pub(crate) fn new(level: i32) -> io::Result<Self> {
        Ok(Self {
            level,
            thorough: zstd::bulk::Compressor::new(level)?,
            quick: zstd::bulk::Compressor::new(QUICK_LEVEL)?,
            trial: Vec::with_capacity(TRIAL_BYTES),
            scratch: Vec::with_capacity(zstd::zstd_safe::compress_bound(TRIAL_BYTES)),
        })
    }

    /// Compresses `raw` into `compressed`, which then holds one frame and nothing else. False where that is not
    /// worth its while; then `compressed` may hold anything.
    pub(crate) fn compress(
        &mut self,
        kind: BlockKind,
        raw: &[u8],
        compressed: &mut Vec<u8>,
    ) -> io::Result<bool> {
        compressed.clear();
        compressed.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        match self.effort(kind, raw)? {
            Effort::None => return Ok(false),
            Effort::Quick => self.quick.compress_to_buffer(raw, compressed)?,
            Effort::Thorough => self.thorough.compress_to_buffer(raw, compressed)?,
        };
        Ok(is_worth(compressed.len(), raw.len()))
    }

    fn effort(&mut self, kind: BlockKind, raw: &[u8]) -> io::Result<Effort> {
        if raw.len() >= 4 * SPREAD_BYTES && is_evenly_spread(raw) {
            let middle = raw.len() / 2;
            let bytes =
                compressed_bytes(&mut self.thorough, &raw[middle..middle + SPREAD_BYTES], &mut self.scratch)?;
            if !is_worth(bytes, SPREAD_BYTES) {
                return Ok(Effort::None);
            }
        }
        let may_be_quick = kind.holds_pages() && self.level > QUICK_LEVEL && raw.len() >= 4 * TRIAL_BYTES;
        Ok(if may_be_quick && self.quick_is_as_good(raw)? { Effort::Quick } else { Effort::Thorough })
    }

    /// Whether samples hardly shrink, and by the repository's level hardly more than by the quick one.
    fn quick_is_as_good(&mut self, raw: &[u8]) -> io::Result<bool> {
        self.trial.clear();
        let stride = (raw.len() - TRIAL_PIECE_BYTES) / (TRIAL_PIECES - 1);
        for piece in 0..TRIAL_PIECES {
            self.trial.extend_from_slice(&raw[piece * stride..][..TRIAL_PIECE_BYTES]);
        }
        let quick = compressed_bytes(&mut self.quick, &self.trial, &mut self.scratch)?;
        if quick < TRIAL_BYTES / 4 * 3 {
            return Ok(false);
        }
        let thorough = compressed_bytes(&mut self.thorough, &self.trial, &mut self.scratch)?;
        Ok(quick <= thorough + TRIAL_BYTES / 128)
    }
}

/// How many bytes a sample becomes.
fn compressed_bytes(
    compressor: &mut zstd::bulk::Compressor<'static>,
    sample: &[u8],
    scratch: &mut Vec<u8>,
) -> io::Result<usize> {
    scratch.clear();
    compressor.compress_to_buffer(sample, scratch)
}

/// What saves less than a thirty-second is not worth decompressing.
fn is_worth(compressed_bytes: usize, raw_bytes: usize) -> bool {
    compressed_bytes + raw_bytes / 32 < raw_bytes
}

/// Whether two sampled bytes are equal hardly more often than those of noise. A thirty-second of text among
/// noise is told by this, and so is any table of numbers.
fn is_evenly_spread(raw: &[u8]) -> bool {
    let mut counts = [0u64; 256];
    let stride = (raw.len() - SPREAD_PIECE_BYTES) / (SPREAD_PIECES - 1);
    for piece in 0..SPREAD_PIECES {
        let start = piece * stride;
        raw[start..start + SPREAD_PIECE_BYTES].iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    }
    let equal_pairs: u64 = counts.iter().map(|count| count * count.saturating_sub(1)).sum();
    let of_noise = (SPREAD_BYTES * (SPREAD_BYTES - 1)) as u64 / 256;
    equal_pairs < of_noise + of_noise / 20
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        blake3::Hasher::new().update(b"pipeline").finalize_xof().fill(&mut data);
        data
    }

    fn effort(raw: &[u8]) -> Effort {
        Compressor::new(3).unwrap().effort(BlockKind::Pages, raw).unwrap()
    }

    #[test]
    fn only_what_cannot_shrink_is_not_compressed() {
        let random = noise(1 << 20);
        assert_eq!(effort(&random), Effort::None);
        let twice_compressed =
            zstd::bulk::compress(&random.iter().map(|b| b & 31).collect::<Vec<_>>(), 3).unwrap();
        assert_eq!(effort(&twice_compressed), Effort::None);
        let is_tried = |raw: &[u8]| effort(raw) != Effort::None;
        assert!(is_tried(&random[..1000]), "too little to tell");
        assert!(is_tried(&vec![7; 1 << 20]));
        assert!(is_tried(&(0..1 << 20).map(|n: u32| n as u8).collect::<Vec<_>>()), "even, and repeats");
        assert!(
            is_tried(&random.iter().map(|b| b & 0x7f).collect::<Vec<_>>()),
            "a bit of each byte is known"
        );
        let floats: Vec<u8> = random.chunks_exact(4).flat_map(|b| [b[0], b[1], b[2], 0x3f]).collect();
        assert!(is_tried(&floats));
        let mut mixed = random;
        mixed[100_000..300_000].fill(b' ');
        assert!(is_tried(&mixed));
    }

    /// Pages as of a table whose rows are noise: a head, then room, then rows with heads of their own.
    fn pages_of_noise() -> Vec<u8> {
        let mut bytes = noise(1 << 20);
        for (number, page) in bytes.chunks_exact_mut(8192).enumerate() {
            page[..1000].fill(0);
            page[..4].copy_from_slice(&(number as u32).to_le_bytes());
            for row in page[1000..].chunks_exact_mut(1027) {
                row[..24].copy_from_slice(b"\x01\0\0\0\0\0\0\0\x02\0\0\0\x03\0\x02\x09\x18\0\0\0\0\0\0\0");
            }
        }
        bytes
    }

    #[test]
    fn noise_in_pages_is_compressed_quickly_and_loses_next_to_nothing() {
        let raw = pages_of_noise();
        assert_eq!(effort(&raw), Effort::Quick);
        let mut compressed = Vec::new();
        assert!(Compressor::new(3).unwrap().compress(BlockKind::Pages, &raw, &mut compressed).unwrap());
        let thorough = zstd::bulk::compress(&raw, 3).unwrap().len();
        assert!(compressed.len() < thorough + thorough / 100, "{} and {thorough}", compressed.len());
        assert_eq!(zstd::bulk::decompress(&compressed, raw.len()).unwrap(), raw);
    }

    #[test]
    fn what_compresses_is_compressed_as_the_repository_says() {
        let text: Vec<u8> =
            (0..60_000).flat_map(|n: u32| format!("row {n} of {}\n", n * 7).into_bytes()).collect();
        assert_eq!(effort(&text[..1 << 20]), Effort::Thorough);
        assert_eq!(effort(&vec![7; 1 << 20]), Effort::Thorough);
        assert_eq!(effort(&pages_of_noise()[..100_000]), Effort::Thorough, "too little to tell");
        let level_one = Compressor::new(1).unwrap().effort(BlockKind::Pages, &pages_of_noise()).unwrap();
        assert_eq!(level_one, Effort::Thorough, "nothing is quicker");
        let of_files = Compressor::new(3).unwrap().effort(BlockKind::Data, &pages_of_noise()).unwrap();
        assert_eq!(of_files, Effort::Thorough, "what samples of files do not show may repeat further off");
    }
}
