//! The real program, run as people and machines run it: whole outputs, bad input, bad days.
//!
//! Each test has a folder of its own with a repository, a state directory and a clean environment. Nothing
//! here knows how the program works inside.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod asks;
mod damage;
mod deaths;
mod deploy;
mod disks;
mod evidence;
mod exchange;
mod failpoints;
mod init;
mod input;
mod kills;
mod lint;
mod machines;
mod notify;
mod objectives;
mod outputs;
mod place;
mod postgres;
mod practice;
mod races;
mod recoveries;
mod rehearsal;
mod remote;
mod runbook;
mod secrets;
mod serve;
mod silent;
mod spool;
mod status;
mod telling;
mod terminal;
mod together;
mod transcript;
mod tree;
