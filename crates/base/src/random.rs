//! Randomness from the operating system, for keys, nonces and temporary names.

/// Fills an array from the operating system's generator.
///
/// Panics only where the operating system has no randomness at all, since nothing that this crate could
/// do without it would be safe.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

/// A number between zero and `bound` (not included); zero for a bound of zero.
pub fn below(bound: u64) -> u64 {
    if bound == 0 { 0 } else { u64::from_le_bytes(bytes()) % bound }
}
