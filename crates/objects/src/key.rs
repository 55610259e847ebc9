//! The names of objects.

use std::fmt;

/// The longest name in bytes: S3 allows 1,024, a directory 255 a component and 4,096 in all.
pub(crate) const MAX_KEY_BYTES: usize = 900;
const MAX_COMPONENT_BYTES: usize = 200;

/// The name of an object: `/`-separated components of lower-case letters, digits, `.`, `_` and `-`, none of
/// them empty or starting with a dot. No name can leave the root that it is put under, and none needs
/// escaping in a URL or a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// A text that is no [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an object name: {0:?}")]
pub struct InvalidKey(pub String);

impl Key {
    /// Checks a name.
    ///
    /// # Errors
    /// Where it is not of the form that [`Key`] describes.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidKey> {
        let text = text.into();
        if text.len() <= MAX_KEY_BYTES && text.split('/').all(is_component) {
            Ok(Self(text))
        } else {
            Err(InvalidKey(text))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the last `/`.
    pub fn last_component(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

pub(crate) fn is_component(component: &str) -> bool {
    !component.is_empty()
        && component.len() <= MAX_COMPONENT_BYTES
        && !component.starts_with('.')
        && component.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<&str> for Key {
    type Error = InvalidKey;
    fn try_from(text: &str) -> Result<Self, InvalidKey> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_root() {
        for good in ["config", "packs/ab/abcdef", "snapshots/users-1/a.b_c/0000000001"] {
            assert!(Key::new(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "a/.hidden", "A", "a b", "a\0", "é"] {
            assert_eq!(Key::new(bad), Err(InvalidKey(bad.to_owned())));
        }
        assert!(Key::new("a".repeat(201)).is_err());
    }
}
