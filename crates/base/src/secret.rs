//! A secret in memory: wiped when dropped, compared in constant time, never printed.

use std::fmt;
use zeroize::Zeroizing;

/// Secret bytes. `Debug` shows only the length, and there is no `Display`.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes ownership of secret bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves. The caller takes care that no copy outlives its use.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The secret as a fixed-size key, or `None` where it has another length.
    pub fn as_array<const N: usize>(&self) -> Option<&[u8; N]> {
        self.0.as_slice().try_into().ok()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "Secret(7 bytes)");
        assert_eq!(secret, Secret::new(b"hunter2".to_vec()));
        assert_ne!(secret, Secret::new(b"hunter3".to_vec()));
        assert!(secret.as_array::<8>().is_none());
    }
}
