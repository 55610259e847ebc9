//! What tests of several modules and crates need: a key from a seed, a receipt, a clock that stands still.

use crate::event::{Action, Event, Outcome, Who};
use crate::ids::{ChainId, Digest, EventId, PublicKey, RepositoryId, Signature};
use crate::keys::{Key, Sign};
use crate::receipt::{Draft, Receipt, VERSION};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use lifeboat_base::clock::Timestamp;
use std::time::Duration;

/// The repository of the tests.
pub const REPOSITORY: RepositoryId = RepositoryId([0x10; 16]);
/// When the first receipt of the tests is of.
pub const BEGINNING: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A key that signs.
#[derive(Debug)]
pub struct TestSigner(Ed25519KeyPair);

impl TestSigner {
    /// The key of a seed.
    pub fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("32 bytes are an Ed25519 seed"))
    }

    /// Its chain in the repository of the tests.
    pub fn chain(&self) -> ChainId {
        ChainId { repository: REPOSITORY, writer: self.public_key().writer() }
    }
}

impl Sign for TestSigner {
    fn public_key(&self) -> PublicKey {
        let mut public = [0; 32];
        public.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(public)
    }

    fn sign(&self, message: &[u8]) -> Signature {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        Signature(signature)
    }
}

/// What a roster says of a test's key.
pub fn key_of(signer: &TestSigner) -> Key {
    let public_key = signer.public_key();
    Key {
        repository: Some(REPOSITORY),
        public_key,
        name: format!("host-{}", &public_key.writer().to_string()[..4]),
        role: "maintain".to_owned(),
        revoked: None,
    }
}

/// A draft of the `n`th hour.
pub fn draft(n: u64) -> Draft {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    Draft {
        id: EventId(id),
        at: BEGINNING.plus(Duration::from_hours(n)),
        host: "host-1".to_owned(),
        who: Who::Operator,
        release: "0.1.0".to_owned(),
        event: Event::new(Action::Backup, Outcome::Done).dataset("users").fact("bytes", n),
    }
}

/// A receipt of the `number`th hour.
pub fn receipt(signer: &TestSigner, number: u64, previous: Option<Digest>) -> Receipt {
    Receipt {
        version: VERSION,
        chain: signer.chain(),
        number,
        previous,
        written: None,
        repeats: None,
        draft: draft(number),
    }
}
