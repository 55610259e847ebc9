//! A receipt: an event with its place in a writer's chain, signed.
//!
//! The body is a JSON object; what is hashed and signed is its canonical form. A reader keeps the body as it was
//! read, so that what a later release adds to it stays under the signature.

use crate::canonical::{self, CanonicalError};
use crate::event::{Event, Who};
use crate::ids::{ChainId, Digest, EventId, Signature};
use crate::keys::Sign;
use lifeboat_base::Hint;
use lifeboat_base::clock::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The version that this release writes, and the newest that it reads.
pub const VERSION: u32 = 1;
/// The largest receipt in bytes: a forged length cannot exhaust memory.
pub const MAX_RECEIPT_BYTES: usize = 1 << 20;
/// What a signature covers begins so, and the SHA-256 of the canonical body follows.
const DOMAIN: &[u8] = b"lifeboat receipt 1\0";

/// What could not be written or read as a receipt.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// It is no JSON, or has no canonical form.
    #[error("read a receipt")]
    Json(#[source] CanonicalError),
    /// It is JSON of another form.
    #[error("read a receipt")]
    Form(#[source] serde_json::Error),
    /// A newer release wrote it.
    #[error("the receipt is of version {0}, and this release reads up to {VERSION}")]
    Newer(u64),
    /// It is too large.
    #[error("a receipt of {0} bytes is larger than {MAX_RECEIPT_BYTES}")]
    TooLarge(usize),
}

impl Hint for ReceiptError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Newer(_) => {
                Some("Use a release of Lifeboat at least as new as the one that wrote it.".to_owned())
            }
            _ => None,
        }
    }
}

/// An event with what does not depend on its place in a chain: what waits until a chain can be had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Draft {
    /// The event's identity.
    pub id: EventId,
    /// When it ended.
    #[serde(with = "crate::time")]
    pub at: Timestamp,
    /// The host that it was done on.
    pub host: String,
    /// Who did it.
    pub who: Who,
    /// The release of Lifeboat.
    pub release: String,
    /// What was done.
    #[serde(flatten)]
    pub event: Event,
}

/// An event at its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Receipt {
    /// The version of its form.
    pub version: u32,
    /// The chain.
    #[serde(flatten)]
    pub chain: ChainId,
    /// Its number there, from 1.
    pub number: u64,
    /// The hash of the receipt before it; none for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// When it was signed, where it had to wait for that.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::option")]
    pub written: Option<Timestamp>,
    /// The number at which the same may stand already: its writer could not see whether it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<u64>,
    /// What was done, when, where and by whom.
    #[serde(flatten)]
    pub draft: Draft,
}

/// What a signature covers.
fn message(hash: &Digest) -> Vec<u8> {
    [DOMAIN, &hash.0].concat()
}

/// A receipt with its signature.
#[derive(Clone, Debug, PartialEq)]
pub struct SignedReceipt {
    receipt: Receipt,
    /// As it was signed or read, with what this release does not know.
    body: Value,
    hash: Digest,
    signature: Signature,
}

impl SignedReceipt {
    /// Signs.
    ///
    /// # Errors
    /// Where it has no canonical form, or is too large.
    pub fn sign(receipt: &Receipt, signer: &dyn Sign) -> Result<Self, ReceiptError> {
        let body = serde_json::to_value(receipt).map_err(ReceiptError::Form)?;
        let canonical = canonical::to_bytes(&body).map_err(ReceiptError::Json)?;
        let hash = Digest::of(&canonical);
        let signature = signer.sign(&message(&hash));
        // Read back: what is kept is what a reader will see.
        let signed = Self::new(body, signature)?;
        let length = signed.to_bytes()?.len();
        if length > MAX_RECEIPT_BYTES {
            return Err(ReceiptError::TooLarge(length));
        }
        Ok(signed)
    }

    fn new(body: Value, signature: Signature) -> Result<Self, ReceiptError> {
        let version = body.get("version").and_then(Value::as_u64);
        if let Some(newer) = version.filter(|version| *version > u64::from(VERSION)) {
            return Err(ReceiptError::Newer(newer));
        }
        let receipt = Receipt::deserialize(&body).map_err(ReceiptError::Form)?;
        let hash = Digest::of(&canonical::to_bytes(&body).map_err(ReceiptError::Json)?);
        Ok(Self { receipt, body, hash, signature })
    }

    /// Reads what [`SignedReceipt::to_bytes`] wrote, in any spelling of the same JSON.
    ///
    /// # Errors
    /// [`ReceiptError`]. Nothing is said of the signature.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        if bytes.len() > MAX_RECEIPT_BYTES {
            return Err(ReceiptError::TooLarge(bytes.len()));
        }
        Self::from_value(canonical::parse(bytes).map_err(ReceiptError::Json)?)
    }

    /// As [`SignedReceipt::parse`], from JSON that was read already.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn from_value(value: Value) -> Result<Self, ReceiptError> {
        #[derive(Deserialize)]
        struct Form {
            receipt: Value,
            signature: Signature,
        }
        let form = Form::deserialize(value).map_err(ReceiptError::Form)?;
        Self::new(form.receipt, form.signature)
    }

    /// The body and the signature.
    pub fn to_value(&self) -> Value {
        json!({ "receipt": self.body, "signature": self.signature })
    }

    /// The canonical form of [`SignedReceipt::to_value`]: what lies in a chain.
    ///
    /// # Errors
    /// Never for what was signed or read; where the body has no canonical form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ReceiptError> {
        canonical::to_bytes(&self.to_value()).map_err(ReceiptError::Json)
    }

    /// What it says.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// The SHA-256 of its canonical body, which the next one names.
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// The signature.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// What the signature covers.
    pub(crate) fn message(&self) -> Vec<u8> {
        message(&self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestSigner, receipt};

    #[test]
    fn a_receipt_reads_back_and_its_signature_covers_all_of_it() {
        let signer = TestSigner::new(1);
        let signed = SignedReceipt::sign(&receipt(&signer, 1, None), &signer).unwrap();
        assert_eq!(SignedReceipt::parse(&signed.to_bytes().unwrap()).unwrap(), signed);
        assert!(signer.public_key().signed(&signed.message(), signed.signature()));
        let pretty = serde_json::to_string_pretty(&signed.to_value()).unwrap();
        assert_eq!(SignedReceipt::parse(pretty.as_bytes()).unwrap().hash(), signed.hash());
    }

    #[test]
    fn what_a_later_release_adds_stays_under_the_signature() {
        let signer = TestSigner::new(1);
        let signed = SignedReceipt::sign(&receipt(&signer, 1, None), &signer).unwrap();
        let mut value = signed.to_value();
        value["receipt"]["weather"] = json!("fine");
        let with = SignedReceipt::from_value(value).unwrap();
        assert_eq!(with.receipt(), signed.receipt());
        assert_ne!(with.hash(), signed.hash());
        assert_eq!(SignedReceipt::parse(&with.to_bytes().unwrap()).unwrap(), with);
    }

    #[test]
    fn what_is_newer_or_too_large_is_said_to_be_so() {
        let signer = TestSigner::new(1);
        let signed = SignedReceipt::sign(&receipt(&signer, 1, None), &signer).unwrap();
        let mut value = signed.to_value();
        value["receipt"]["version"] = json!(7);
        assert!(matches!(SignedReceipt::from_value(value), Err(ReceiptError::Newer(7))));
        let mut large = receipt(&signer, 1, None);
        for n in 0..300 {
            large.draft.event = large.draft.event.fact(&format!("f{n}"), "x".repeat(4096));
        }
        assert!(matches!(SignedReceipt::sign(&large, &signer), Err(ReceiptError::TooLarge(_))));
        assert!(matches!(
            SignedReceipt::parse(&vec![b' '; MAX_RECEIPT_BYTES + 1]),
            Err(ReceiptError::TooLarge(_))
        ));
    }
}
