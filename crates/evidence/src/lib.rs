//! Evidence: receipts of what was done and what was seen, signed, chained per writer, and verified offline by
//! whoever holds the public keys.
//!
//! # How it holds together
//! - A [`Receipt`] is canonical JSON (RFC 8785, [`canonical`]) signed by its writer; it names its number in the
//!   writer's chain and the SHA-256 of the receipt before it.
//! - Chains lie wherever [`Chains`] is implemented; [`append`] adds to them, created once.
//! - The leader's hourly `heads` name the tips of the other chains, so that a tail that is cut off shows.
//! - A beginning may be removed once a signed `expired` receipt says so ([`expiry`]).
//! - [`verify()`] judges a [`Bundle`] of chains by a [`KeyRing`] and nothing else.
//! - [`audit`] and [`html`] are the export for auditors.
//!
//! Nothing secret is in a receipt: [`Fact`] cannot be made from a `Secret`.
//!
//! This crate deliberately knows no repository and no store, who does what, and when: it does no I/O of its own.

pub mod append;
pub mod audit;
pub mod bundle;
pub mod canonical;
pub mod chains;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod event;
pub mod expiry;
pub mod html;
pub mod ids;
pub mod keys;
pub mod memory;
mod number;
pub mod receipt;
mod report;
#[cfg(any(test, feature = "conformance"))]
pub mod testing;
pub mod time;
pub mod verify;

pub use append::{AppendError, Appended, append};
pub use bundle::{Bundle, BundleError, Chain, Content, Excerpt, Placed};
pub use canonical::CanonicalError;
pub use chains::{Chains, ChainsError, Creation, Stored};
pub use event::{Action, Event, Expired, Fact, Head, Loss, Outcome, PlanVersion, Subject, Who};
pub use expiry::DEFAULT_RETENTION_DAYS;
pub use ids::{ChainId, Digest, EventId, PublicKey, RepositoryId, Signature, WriterId};
pub use keys::{Key, KeyRing, KeyRingError, Sign};
pub use receipt::{Draft, Receipt, ReceiptError, SignedReceipt};
pub use report::{ChainReport, Doubt, DoubtKind, Finding, Flaw, Report, Verdict, Witness};
pub use verify::verify;
