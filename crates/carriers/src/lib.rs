//! What runs are given by the rest of the house: who carries out `sql` and `lifeboat` blocks, a mirror in a
//! repository, and the keys that people agree with.
//!
//! Runs own the traits ([`lifeboat_run::Carry`], [`lifeboat_run::mirror::Mirror`]) and know no store; drivers
//! and repositories know no run. They meet here. This crate deliberately knows no journal and no plan: when something
//! is carried out, and what its end means for the run, the run says.

mod approver;
mod lifeboat;
mod mirror;
mod reopening;
mod sql;

pub use approver::{ApproverKey, NoApproverKey};
pub use lifeboat::Lifeboat;
pub use mirror::RepositoryMirror;
pub use reopening::{Open, ReopeningMirror};
pub use sql::Sql;
