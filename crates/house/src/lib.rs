//! The rules of the house, as tests: what is drawn in ARCHITECTURE.md is checked here, not hoped for.
//!
//! [`floors`] says who may depend on whom, [`workspace`] reads who does, [`sources`] walks the files,
//! [`failpoints`] and [`markdown`] read two things out of them, and [`supply`] holds the dependencies to
//! `deny.toml`. Each is pure and has its own small tests; `tests/house.rs` applies them to this workspace.
//!
//! It deliberately knows nothing of what any crate does: it reads manifests, names and text, and links
//! none of the crates that it judges, so that a broken house can still be inspected.

pub mod failpoints;
pub mod floors;
pub mod markdown;
pub mod sources;
pub mod supply;
pub mod workspace;
