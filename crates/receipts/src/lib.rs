//! Receipts kept in a repository: the one way in which the command line and `serve` leave evidence.
//!
//! A [`Recorder`] notes on this host that something begins, and at its end appends what came of it to this
//! writer's chain. Where the repository cannot take it, the receipt waits on this host ([`waiting`]) and goes with
//! the next one; what was done is not undone for it.
//!
//! It deliberately knows no store, no plan and no schedule, and judges nothing: `lifeboat-evidence` does.

mod chains;
mod head;
mod recorder;
pub mod waiting;

pub use chains::{RepositoryChains, key_ring};
pub use recorder::{Begun, Ended, RecordError, Recorder};
