//! What runs are given by the rest of the house: who carries out `sql` and `lifeboat` blocks, and a mirror in a
//! repository.
//!
//! Runs own the traits ([`lifeboat_run::Carry`], [`lifeboat_run::mirror::Mirror`]) and know no store; drivers
//! and repositories know no run. They meet here. This crate deliberately keeps no journal and decides nothing: when
//! something is carried out, and what its end means for the run, the run says.

mod lifeboat;
mod mirror;
mod sql;

pub use lifeboat::Lifeboat;
pub use mirror::RepositoryMirror;
pub use sql::Sql;
