//! What the drivers of all stores share: the file system as a snapshot sees it.
//!
//! A tree is read and written through handles of directories, one name at a time, so that no name of a
//! snapshot and no symbolic link can lead out of the root ([`directory`], [`chain`]). Around that: listings
//! in byte order ([`listing`]), metadata taken and given back ([`attributes`]), holes ([`sparse`]) and
//! patterns ([`exclude`], [`glob`]). [`materialise`] writes a whole tree of a snapshot, or a [`part`] of it.
//!
//! This crate knows the entries of a snapshot's tree. It knows no engine, and it deliberately does not know
//! how or where a repository keeps bytes.

pub mod attributes;
pub mod chain;
pub mod directory;
pub mod error;
pub mod exclude;
pub mod glob;
pub mod listing;
pub mod materialise;
#[cfg(test)]
mod memory;
pub mod part;
pub mod progress;
pub mod sparse;
#[cfg(test)]
mod testing;
pub mod tree;
mod writeback;

pub use directory::{Directory, Name, UnsafeName};
pub use error::{PathError, Problems};
