//! Whose signatures count: the public keys of writers, also of those that were revoked since, so that what
//! they signed can be verified for as long as it is kept.

use crate::canonical::{self, CanonicalError};
use crate::ids::{ChainId, PublicKey, RepositoryId, Signature, WriterId};
use lifeboat_base::Hint;
use lifeboat_base::clock::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Whoever can sign receipts.
pub trait Sign {
    /// The public half of the key.
    fn public_key(&self) -> PublicKey;

    /// Signs a message (Ed25519).
    fn sign(&self, message: &[u8]) -> Signature;
}

/// What a roster says of a maintainer.
const MAINTAINS: &str = "maintain";

/// A writer's public key and how long it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The repository whose roster lists it; where none is named, it is for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryId>,
    /// The key.
    pub public_key: PublicKey,
    /// What people call the writer.
    pub name: String,
    /// What it may do: `write`, `write-only`, `maintain`.
    pub role: String,
    /// From when on it signs nothing new. When it was enrolled is not asked: enrolling again moves that.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::option")]
    pub revoked: Option<Timestamp>,
}

impl Key {
    /// Whether it may say that the beginning of a chain may be removed.
    pub fn maintains(&self) -> bool {
        self.role == MAINTAINS
    }
}

/// Public keys that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// It is no JSON.
    #[error("read the public keys")]
    Json(#[source] CanonicalError),
    /// It is JSON of another form.
    #[error("read the public keys")]
    Form(#[source] serde_json::Error),
    /// It holds no list of keys.
    #[error("there is no list `keys` or `writers` in it")]
    NoList,
}

impl Hint for KeyRingError {
    fn hint(&self) -> Option<String> {
        let hint = "Give what `lifeboat repo writers list --json` printed on a machine that you trust, or an export of `lifeboat evidence export --format json`.";
        Some(hint.to_owned())
    }
}

/// The public keys by which receipts are judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRing(BTreeMap<(Option<RepositoryId>, WriterId), Key>);

impl KeyRing {
    /// No key at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key.
    pub fn add(&mut self, key: Key) {
        self.0.insert((key.repository, key.public_key.writer()), key);
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.values()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key of a chain's writer.
    pub fn of(&self, chain: &ChainId) -> Option<&Key> {
        let in_roster = self.0.get(&(Some(chain.repository), chain.writer));
        in_roster.or_else(|| self.0.get(&(None, chain.writer)))
    }

    /// Whose key made a signature, if it is one of these.
    pub(crate) fn signer_of(&self, message: &[u8], signature: &Signature) -> Option<WriterId> {
        let signed = self.keys().find(|key| key.public_key.signed(message, signature));
        signed.map(|key| key.public_key.writer())
    }

    /// Reads the list `keys` of an export, or the list `writers` that `repo writers list --json` prints.
    ///
    /// # Errors
    /// [`KeyRingError`].
    pub fn parse(text: &[u8]) -> Result<Self, KeyRingError> {
        let value = canonical::parse(text).map_err(KeyRingError::Json)?;
        Self::from_value(&value)
    }

    pub(crate) fn from_value(value: &Value) -> Result<Self, KeyRingError> {
        let list = value.get("keys").or_else(|| value.get("writers")).ok_or(KeyRingError::NoList)?;
        let keys = Vec::<Key>::deserialize(list).map_err(KeyRingError::Form)?;
        Ok(keys.into_iter().collect())
    }
}

impl FromIterator<Key> for KeyRing {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        let mut ring = Self::new();
        keys.into_iter().for_each(|key| ring.add(key));
        ring
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{REPOSITORY, TestSigner, key_of};

    #[test]
    fn keys_are_read_as_both_commands_print_them() {
        let signer = TestSigner::new(1);
        let public = signer.public_key();
        let listed = format!(
            r#"{{"writers":[{{"writer":"{}","public_key":"{public}","name":"db-1","role":"maintain","datasets":[],"enrolled":"2026-01-01T00:00:00Z","revoked":null}}]}}"#,
            public.writer()
        );
        let ring = KeyRing::parse(listed.as_bytes()).unwrap();
        let chain = ChainId { repository: REPOSITORY, writer: public.writer() };
        assert!(ring.of(&chain).is_some_and(|key| key.maintains() && key.revoked.is_none()));
        let exported = serde_json::json!({ "keys": [key_of(&signer)] }).to_string();
        let ring = KeyRing::parse(exported.as_bytes()).unwrap();
        assert!(ring.of(&chain).is_some());
        let elsewhere = ChainId { repository: RepositoryId([9; 16]), ..chain };
        assert!(ring.of(&elsewhere).is_none(), "a roster counts in its own repository");
    }

    #[test]
    fn what_is_no_list_of_keys_is_refused_with_a_hint() {
        for text in ["", "[]", "{}", r#"{"keys":[{"public_key":"00"}]}"#] {
            let error = KeyRing::parse(text.as_bytes()).unwrap_err();
            assert!(error.hint().is_some_and(|hint| hint.contains("repo writers list")), "{text}");
        }
    }
}
