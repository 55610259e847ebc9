//! The PostgreSQL driver.
//!
//! A base backup is streamed from the server straight into a snapshot, and the write-ahead log into the log of
//! the repository, over PostgreSQL's own replication protocol. The way back resolves whatever target a person
//! names to one position of the log before anything is written, and a restored cluster is questioned by a server
//! of its own version.
//!
//! This crate knows servers, snapshots and logs. It deliberately does not know plans, schedules and the command
//! line, nor how the repository keeps bytes.

mod archive;
mod archive_push;
mod backup;
mod cluster;
mod error;
mod facts;
mod follow;
mod host;
pub mod lineage;
mod pending;
pub mod points;
mod proof;
mod protect;
mod resolve;
mod segments;
mod settings;
mod sink;
mod spool;
pub mod synchronous;
mod tree;

pub use archive_push::{PushError, Pushed, push};
pub use backup::{Asked, BackupOptions, TakenBackup, stream_backup};
pub use cluster::Cluster;
pub use error::{PostgresStoreError, Result};
pub use facts::{FactError, SnapshotFacts, Tablespace};
pub use follow::{
    FollowEvent, FollowOptions, FollowStatus, Follower, Following, SlotChoice, Spooling, TakeOver,
};
pub use host::{Elsewhere, SameHost, check_elsewhere};
pub use pending::WalStretch;
pub use proof::{AnswerError, Answers, TableRows, answer, question, verify_checksums};
pub use protect::{ClusterSource, MARKER_PREFIX, Protected, protect, slot_name};
pub use resolve::{RecoveryPath, RecoveryTarget, resolve, target_time};
pub use segments::{Leg, WalSource, legs};
pub use settings::{AtTarget, Inclusive, Neutralised, RecoverySettings, with_recovery};
pub use sink::{KeptHistory, RepositoryLog, WalSink, histories};
pub use spool::{
    DEFAULT_SPOOL_LIMIT_BYTES, Drained, Spool, SpoolError, SpoolOwner, SpoolStatus, drain, fuzz_spool,
};

/// What the store is called in a snapshot.
pub const STORE: &str = "postgres";
