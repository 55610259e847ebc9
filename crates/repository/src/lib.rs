//! The repository: where recovery points are kept, encrypted, compressed and deduplicated, in one object
//! store that many machines write to at once without an exclusive lock.
//!
//! # Vocabulary
//! - **Bulk objects** are named by the SHA-256 of their bytes: *packs* and *index objects*.
//! - **Control objects** are named by their position and created once: snapshots, leases, lists, verdicts, …
//! - A **chunk** is a run of bytes with an identity (keyed BLAKE3). Chunks lie together in compressed
//!   **blocks**, blocks in **packs**, and the **index** says which chunk is where.
//! - A **tree** of entries is what a snapshot holds; a database file in it is a **page map**.
//! - A **lease** claims the slot of a snapshot that is being written; **prune** waits for it.
//! - A **condemn list** names what prune means to delete, a **verdict** what it may.
//!
//! The format is normative in `docs/format.md`; the modules say the same in code.
//!
//! This crate deliberately knows no store, no driver and no plan: what a snapshot was read from is text to it.

mod block_cache;
mod bodies;
mod check;
mod chunker;
mod copy;
mod crypto;
mod effort;
mod envelope;
mod error;
#[cfg(feature = "bench")]
pub mod floor;
mod fuzzing;
pub mod ids;
mod index;
mod index_cache;
mod keys;
mod layout;
mod leader;
mod lease;
mod lists;
mod load;
mod log;
mod mark;
mod opening;
mod pack;
mod pages;
mod pipeline;
mod prune;
mod reader;
mod receipts;
mod repository;
mod rewrite;
mod run_requests;
mod runs;
mod snapshots;
mod state;
mod survey;
#[cfg(test)]
mod testing;
mod tips;
pub mod tree;
mod trust;
#[cfg(test)]
mod vectors;
mod walk;
mod writer;

pub use bodies::{ChunkerParameters, Config, EnrolledWriter, Hold, Role, SlotInfo, Snapshot, SnapshotStats};
pub use check::{
    CheckOptions, CheckProgress, CheckReport, LostFile, LostLog, Problem, Reading, Share, check,
};
pub use copy::{CopyReport, Held, copy, copy_beside};
pub use crypto::{EpochPrivateKey, EpochPublicKey, IdKey, PublicKey, Signature, Signer};
pub use envelope::{EnvelopeError, FORMAT, ObjectType, fuzz_unwrap};
pub use error::{RepositoryError, Result};
pub use fuzzing::{fuzz_bodies, fuzz_list, fuzz_names};
pub use index::fuzz_index;
pub use keys::{Lock, RecoveryKey, Unlock};
pub use leader::{
    Candidate, ChainFix, ChainFixer, Effective, Leaders, Leadership, Monotonic, Outcome, Standing, effective,
    effective_snapshots,
};
pub use lease::ReaderPin;
pub use log::{
    CompactOptions, CompactReport, LOG_END_FACT, LOG_POSITION_FACT, Lineage, LineageLog, LogCatalogue,
    LogCutOff, LogError, LogExtent, LogFork, LogMark, LogPayload, LogPiece, LogReader, LogSpan, LogStanding,
    LogWriter, MAX_LOG_BYTES, compact_logs, fuzz_log, stretches,
};
pub use pack::{BlockKind, fuzz_table};
pub use pages::fuzz_pages;
pub use prune::{PruneOptions, PruneReport, prune, prune_with};
pub use reader::{Deliver, DeliverRun, Lost, Piece, PieceSource, Reader, Request};
pub use receipts::{ReceiptChain, ReceiptCreation};
pub use repository::{Environment, InitOptions, Repository, new_recovery_lock};
pub use run_requests::{MAX_RUN_REQUEST_BYTES, RunRequest};
pub use runs::{RunRecord, RunRecordCreation};
pub use snapshots::{Published, Unreadable};
pub use state::LocalState;
pub use tips::Tips;
pub use walk::{Descend, LostListing, VisitEntry};
pub use writer::{SnapshotSource, SnapshotWriter, StoredContent};
